"""Maps: a matrix with its colour bar, who looks at what, a picture, a decision over the plane."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from nnlib.plot.style import MAGNITUDE, SIGNED, bare

LOOKS = "RdPu"  # attention is purple, and white where nobody looks


def matrix(
    ax: Axes,
    values: Any,
    *,
    signed: bool = False,
    limit: float | None = None,
    bar: str | None = "",
    rows: Sequence[Any] | None = None,
    columns: Sequence[Any] | None = None,
    cmap: Any = None,
    **options: Any,
) -> AxesImage:
    """Draw a matrix; signed values get a map that is symmetric about zero.

    Args:
        ax: where to draw.
        values: rows × columns.
        signed: whether zero is the middle of the colours.
        limit: the largest magnitude of the colours; the data's own when None.
        bar: the colour bar's label; None draws no bar.
        rows: what stands at each row; numbers when None, nothing when empty.
        columns: what stands under each column, likewise.
        cmap: other colours.
        **options: handed on to `ax.imshow`: `aspect`, `extent`, `vmin`, …

    Returns:
        The image.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> image = matrix(ax, [[0.9, 0.1], [0.2, 0.8]], rows=("cat", "dog"), columns="ab")
        >>> [tick.get_text() for tick in ax.get_yticklabels()]
        ['cat', 'dog']
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"values must be a matrix, got shape {values.shape}")
    top = float(np.nanmax(np.abs(values))) if limit is None else limit
    limits = {
        "vmin": -top if signed else None,
        "vmax": top if signed or limit is not None else None,
    }
    colors = cmap if cmap is not None else SIGNED if signed else MAGNITUDE
    image = ax.imshow(values, cmap=colors, **limits | options)
    for spine in ax.spines.values():
        spine.set_visible(False)
    for name, labels, length, put in (
        ("rows", rows, values.shape[0], ax.set_yticks),
        ("columns", columns, values.shape[1], ax.set_xticks),
    ):
        if labels is None:
            continue
        if len(labels) not in (0, length):
            raise ValueError(f"{name} must name {length} or nothing, got {len(labels)}")
        put(range(len(labels)), [str(label) for label in labels])
        ax.tick_params(axis="y" if name == "rows" else "x", length=0)
    if bar is not None:
        colorbar = ax.figure.colorbar(image, ax=ax, shrink=0.85, pad=0.02)
        colorbar.outline.set_visible(False)
        colorbar.set_label(bar)
    return image


def token_map(
    ax: Axes,
    weights: Any,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    size: float = 9,
    bar: str | None = None,
    **options: Any,
) -> AxesImage:
    """Draw who looks at whom: attention weights from 0 (white) to 1, with the tokens beside them.

    Args:
        ax: where to draw.
        weights: who looks × what is looked at, each in [0, 1].
        rows: the tokens that look; none when empty.
        columns: the tokens that are looked at.
        size: points of the tokens' letters.
        bar: the colour bar's label; None draws no bar.
        **options: handed on to `ax.imshow`, such as `aspect="auto"`.

    Returns:
        The image.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> token_map(ax, [[0.9, 0.1], [0.3, 0.7]], "ab", "xy").get_clim()
        (0.0, 1.0)
    """
    options = {"vmin": 0.0, "vmax": 1.0} | options
    image = matrix(
        ax, weights, rows=rows, columns=columns, cmap=LOOKS, bar=bar, **options
    )
    ax.tick_params(labelsize=size)
    return image


def token_row(
    ax: Axes,
    tokens: Sequence[str],
    y: float,
    color: str,
    strength: Any = None,
    *,
    left: float = 0.0,
    size: float = 9.5,
) -> None:
    """Draw tokens as a row of boxes of width 1, each as full of colour as its strength says.

    Args:
        ax: where to draw.
        tokens: what stands in the boxes.
        y: the bottom of the boxes, which are 1 high.
        color: of the boxes.
        strength: a number in [0, 1] for each; a faint tint of all when None.
        left: where the first box begins.
        size: points of the letters.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> token_row(bare(ax), "abc", 0, "gate", [0.1, 0.9, 0.0])
        >>> len(ax.patches), ax.texts[1].get_color()
        (3, 'white')
    """
    shares = (
        [0.09] * len(tokens)
        if strength is None
        else [min(1.0, float(s)) for s in strength]
    )
    for at, (token, share) in enumerate(zip(tokens, shares, strict=True)):
        alpha = 0.04 + 0.9 * share
        box = Rectangle(
            (left + at + 0.04, y), 0.92, 1, facecolor=color, alpha=alpha, linewidth=0
        )
        ax.add_patch(box)
        if token.strip():
            ink = "white" if alpha > 0.5 else "ink"  # light on dark
            where = left + at + 0.5, y + 0.46
            ax.text(*where, token, ha="center", va="center", fontsize=size, color=ink)


def picture(ax: Axes, pixels: Any, title: str = "", **options: Any) -> AxesImage:
    """Show an image without axes, pixel by pixel, with a title of normal size over it.

    Args:
        ax: where to draw.
        pixels: rows × columns, or rows × columns × 3 for colours; one channel is ink on paper.
        title: what it is.
        **options: handed on to `ax.imshow`: `cmap`, `vmax`, `extent`, …
    """
    options = {"cmap": "gray_r", "interpolation": "none"} | options
    if title:
        ax.set_title(title, fontsize=11)
    return bare(ax).imshow(pixels, **options)


def decision(
    ax: Axes,
    score: Callable[[np.ndarray], np.ndarray],
    xlim: tuple[float, float],
    ylim: tuple[float, float] | None = None,
    *,
    resolution: int = 160,
    limit: float | None = None,
) -> AxesImage:
    """Colour the plane by a signed score and draw its zero line: the boundary.

    Args:
        ax: where to draw.
        score: from points `(n, 2)` to `n` scores; above zero is the positive class.
        xlim: left and right.
        ylim: bottom and top; those of `xlim` when None.
        resolution: points along each side.
        limit: the score of full colour; the largest magnitude when None.

    Returns:
        The image behind the boundary.
    """
    ylim = xlim if ylim is None else ylim
    x, y = np.linspace(*xlim, resolution), np.linspace(*ylim, resolution)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    z = np.asarray(score(grid), dtype=float).reshape(resolution, resolution)
    top = float(np.abs(z).max()) or 1.0 if limit is None else limit
    image = ax.imshow(
        z,
        origin="lower",
        extent=(*xlim, *ylim),
        cmap=SIGNED,
        vmin=-top,
        vmax=top,
        alpha=0.45,
        aspect="auto",
        interpolation="bilinear",
    )
    ink = ax.xaxis.label.get_color()
    zero = ax.contour(x, y, z, levels=[0.0], colors=[ink], linewidths=1.6)
    zero.set_gid("boundary")  # ink, and no colour that says a number
    return image
