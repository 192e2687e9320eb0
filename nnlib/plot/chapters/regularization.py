"""A tensor with three axes as a cube of coloured tiles, seen from the front, above and the right.

Every tile is one real entry of the tensor. Rows and columns make the front face; the first axis
goes back into the picture.

Example:
    >>> import numpy as np
    >>> from nnlib.plot.style import subplots
    >>> fig, ax = subplots()
    >>> tensor_cube(ax, np.random.rand(3, 4, 5), limit=1).get_array().shape
    (47,)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.patches import Polygon

from nnlib.plot.style import SIGNED, bare

DEPTH = np.array([0.52, 0.46])  # how far one step of the first axis moves right and up
RIGHT, DOWN = np.array([1.0, 0.0]), np.array([0.0, -1.0])


def tensor_cube(
    ax: Axes,
    values: np.ndarray,
    *,
    limit: float,
    box: tuple[int, int, int] | None = None,
    fade: float = 0.25,
    labels: Sequence[str] = ("", "", ""),
    gap: float = 0.1,
) -> PolyCollection:
    """Draw the three visible faces of a tensor.

    Args:
        ax: where to draw; its axes are taken away.
        values: depth × rows × columns, signed.
        limit: the magnitude of full colour, > 0.
        box: entries (depth, rows, columns) of the corner box at front, top and right to stand out;
            the rest is faded. None: all stand out.
        fade: opacity of the rest.
        labels: what depth, rows and columns count.
        gap: share of a tile's side that is left free.

    Returns:
        The tiles: front, top, right.

    Raises:
        ValueError: `values` has not three axes, or `limit` is not above 0.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 3:
        raise ValueError(f"values must have three axes, got shape {values.shape}")
    if not limit > 0:
        raise ValueError(f"limit={limit!r} must be greater than 0")
    depth, rows, columns = values.shape
    inner = values.shape if box is None else box
    tiles, numbers, strong = [], [], []

    def tile(
        d: int, r: int, c: int, corner: np.ndarray, u: np.ndarray, v: np.ndarray
    ) -> None:
        near, far = gap / 2, 1 - gap / 2
        sides = (near, near), (far, near), (far, far), (near, far)
        tiles.append([corner + i * u + j * v for i, j in sides])
        numbers.append(values[d, r, c])
        strong.append(d < inner[0] and r < inner[1] and c >= columns - inner[2])

    for r, c in np.ndindex(rows, columns):
        tile(0, r, c, c * RIGHT + r * DOWN, RIGHT, DOWN)
    for d, c in np.ndindex(depth, columns):
        tile(d, 0, c, c * RIGHT + d * DEPTH, RIGHT, DEPTH)
    for d, r in np.ndindex(depth, rows):
        tile(d, r, columns - 1, columns * RIGHT + r * DOWN + d * DEPTH, DEPTH, DOWN)
    picture = PolyCollection(tiles, array=np.array(numbers), cmap=SIGNED, linewidths=0)
    picture.set_clim(-limit, limit)
    picture.set_alpha([1.0 if one else fade for one in strong])
    ax.add_collection(picture)
    if box is not None:
        _outline(ax, box, columns)
    _name_axes(ax, values.shape, labels)
    bare(ax).set(aspect="equal")
    ax.set_xlim(-1.3, columns + depth * DEPTH[0] + 0.4)
    ax.set_ylim(-rows - 1.2, depth * DEPTH[1] + 0.4)
    return picture


def _outline(ax: Axes, box: tuple[int, int, int], columns: int) -> None:
    back, low = box[0] * DEPTH, box[1] * DOWN
    left, right = (columns - box[2]) * RIGHT, columns * RIGHT
    faces = (
        [left, right, right + low, left + low],
        [left, left + back, right + back, right],
        [right, right + back, right + back + low, right + low],
    )
    for face in faces:
        ax.add_patch(
            Polygon(
                face,
                fill=False,
                edgecolor="highlight",
                linewidth=2.2,
                joinstyle="round",
            )
        )


def _name_axes(ax: Axes, shape: tuple[int, ...], labels: Sequence[str]) -> None:
    depth, rows, columns = shape
    angle = np.degrees(np.arctan2(DEPTH[1], DEPTH[0]))
    place = (columns + 0.15 + depth / 2 * DEPTH[0], -rows - 0.1 + depth / 2 * DEPTH[1])
    words: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
    ax.text(place[0] + 0.35, place[1] - 0.35, labels[0], rotation=angle, **words)
    ax.text(-0.7, -rows / 2, labels[1], rotation=90, **words)
    ax.text(columns / 2, -rows - 0.65, labels[2], **words)
