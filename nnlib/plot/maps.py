"""Maps: a matrix with its colour bar, a classifier's decision over the plane."""

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from nnlib.plot.style import MAGNITUDE, SIGNED


def matrix(
    ax: Axes,
    values: np.ndarray,
    *,
    signed: bool = False,
    limit: float | None = None,
    bar: str | None = "",
) -> AxesImage:
    """Draw a matrix; signed values get a map that is symmetric about zero.

    Args:
        ax: where to draw.
        values: rows × columns.
        signed: whether zero is the middle of the colours.
        limit: the largest magnitude of the colours; the data's own when None.
        bar: the colour bar's label; None draws no bar.

    Returns:
        The image.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2:
        raise ValueError(f"values must be a matrix, got shape {values.shape}")
    top = float(np.nanmax(np.abs(values))) if limit is None else limit
    image = ax.imshow(
        values,
        cmap=SIGNED if signed else MAGNITUDE,
        vmin=-top if signed else None,
        vmax=top if signed or limit is not None else None,
    )
    for spine in ax.spines.values():
        spine.set_visible(False)
    if bar is not None:
        colorbar = ax.figure.colorbar(image, ax=ax, shrink=0.85, pad=0.02)
        colorbar.outline.set_visible(False)
        colorbar.set_label(bar)
    return image


def decision(
    ax: Axes,
    score: Callable[[np.ndarray], np.ndarray],
    xlim: tuple[float, float],
    ylim: tuple[float, float],
    *,
    resolution: int = 160,
    limit: float | None = None,
) -> AxesImage:
    """Colour the plane by a signed score and draw its zero line: the boundary.

    Args:
        ax: where to draw.
        score: from points `(n, 2)` to `n` scores; above zero is the positive class.
        xlim: left and right.
        ylim: bottom and top.
        resolution: points along each side.
        limit: the score of full colour; the largest magnitude when None.

    Returns:
        The image behind the boundary.
    """
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
    ax.contour(x, y, z, levels=[0.0], colors=[ax.xaxis.label.get_color()], linewidths=1.6)
    return image
