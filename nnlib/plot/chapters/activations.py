"""A deep network's values, layer after layer: one mirrored histogram for each layer, in a row.

Example:
    >>> from nnlib.plot.style import subplots
    >>> figure, ax = subplots()
    >>> generator = np.random.default_rng(0)
    >>> layer_histograms(ax, [generator.normal(size=99) for _ in range(5)], (0, 0, 3, 1), (-2, 2))
    >>> len(ax.collections[0].get_paths())
    5
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection

import nnlib.plot.colors  # noqa: F401  (names the colours)


def layer_histograms(
    ax: Axes,
    layers: Sequence[np.ndarray],
    box: tuple[float, float, float, float],
    limits: tuple[float, float],
    *,
    color: str = "state",
    bins: int = 28,
) -> None:
    """Draw the layers' histograms side by side inside a box, with the line of zero.

    Each is as wide as its own fullest bin allows, by the square root of the counts, so that a
    spike (the zeros of ReLU) does not hide the rest. Values beyond the limits pile up there.

    Args:
        ax: where to draw.
        layers: the values of each layer, of any shape, finite.
        box: left, bottom, right, top, in the units of `ax`.
        limits: the values at the bottom and at the top of the box.
        color: a colour, mostly a meaning.
        bins: of each histogram, ≥ 2.

    Raises:
        ValueError: no layers, an empty one, limits out of order, or fewer than two bins.
    """
    left, bottom, right, top = box
    low, high = limits
    if not layers or min(np.size(values) for values in layers) == 0:
        raise ValueError("layers must hold one array or more, none of them empty")
    if not low < high or bins < 2:
        raise ValueError(f"limits={limits} must rise, and bins={bins} be 2 or more")
    edges = np.linspace(low, high, bins + 1)
    heights = bottom + (edges - low) / (high - low) * (top - bottom)
    pitch = (right - left) / len(layers)
    shapes = []
    for at, values in enumerate(layers):
        counts, _ = np.histogram(np.clip(values, low, high), edges)
        widths = 0.46 * pitch * np.sqrt(counts / counts.max())
        first, last = np.flatnonzero(counts)[[0, -1]]
        half, middle = widths[first : last + 1], left + pitch * (at + 0.5)
        y = (heights[first : last + 1] + heights[first + 1 : last + 2]) / 2
        if len(y) == 1:  # all values in one bin: as tall as the bin
            y, half = heights[first : first + 2], np.repeat(half, 2)
        outline = [
            np.stack([middle - half, y], 1),
            np.stack([middle + half, y], 1)[::-1],
        ]
        shapes.append(np.concatenate(outline))
    zero = bottom + (np.clip(0.0, low, high) - low) / (high - low) * (top - bottom)
    ax.plot([left, right], [zero, zero], color="muted", linewidth=0.7)
    ax.add_collection(
        PolyCollection(shapes, facecolors=color, linewidths=0, alpha=0.85)
    )
