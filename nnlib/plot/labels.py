"""Words in a picture: a line named at its end, a level to compare with, an arrow.

A line is named where it ends, in its own colour, and not in a legend. Names that would lie on one
another move apart.
"""

from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Annotation

import nnlib.plot.colors  # noqa: F401  (names the colours)

SIZE = 10.0  # points of a name's letters
LINE = 1.25  # lines of text are so many letters apart


class _EndLabel(Annotation):
    """A name that looks, whenever it is drawn, how far it must move to clear its neighbours."""

    def __init__(
        self, text: str, xy: tuple[float, float], dx: float, dy: float, **options: Any
    ):
        super().__init__(
            text, xy, xytext=(dx, dy), textcoords="offset points", va="center",
            fontsize=SIZE, annotation_clip=False, **options,
        )  # fmt: skip
        self.wish = dx, dy

    def anchor(self) -> tuple[float, float]:
        """Return where the name would like to be, in points from the figure's corner."""
        ax = self.axes
        assert ax is not None and ax.figure is not None
        place = ax.transData if self.xycoords == "data" else self.xycoords
        x, y = place.transform(self.xy) * 72 / ax.figure.dpi  # type: ignore[union-attr] # a transform
        return float(x) + self.wish[0], float(y) + self.wish[1]

    def get_tightbbox(self, renderer: Any = None) -> Any:
        """Ask for room on logarithmic axes, too.

        Matplotlib takes the offset in points for a place in the data, and 0 has none there.
        """
        return self.get_window_extent(renderer)

    def update_positions(self, renderer: Any) -> None:
        """Move apart, then do what an annotation does."""
        self.xyann = self.wish[0], self.wish[1] + self._lift()
        super().update_positions(renderer)

    def _lift(self) -> float:
        assert self.axes is not None
        x, own = self.anchor()
        labels = [text for text in self.axes.texts if isinstance(text, _EndLabel)]
        places = [(label, *label.anchor()) for label in labels]
        near = [(y, label) for label, other, y in places if abs(other - x) < 3 * SIZE]
        if not np.isfinite([y for y, _ in near]).all():
            return 0.0
        near.sort(key=lambda pair: pair[0])
        heights = np.array(
            [SIZE * LINE * (1 + label.get_text().count("\n")) for _, label in near]
        )
        moved = spread(np.array([y for y, _ in near]), (heights[1:] + heights[:-1]) / 2)
        return float(moved[[label for _, label in near].index(self)]) - own


def spread(wishes: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Return places with at least `gaps` between neighbours, as near to `wishes` as can be.

    Args:
        wishes: n numbers that do not fall.
        gaps: n - 1 distances ≥ 0.

    Returns:
        n places in the same order, with the least sum of squared moves.

    Example:
        >>> spread(np.array([0.0, 1.0, 9.0]), np.array([3.0, 3.0]))
        array([-1.,  2.,  9.])
    """
    offsets = np.concatenate([[0.0], np.cumsum(gaps)])
    # Without the gaps it is a regression on numbers that must not fall: pool those that do.
    pools: list[list[float]] = []
    for wish in wishes - offsets:
        pools.append([float(wish), 1.0])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            mean, many = pools.pop()
            low, few = pools.pop()
            pools.append([(mean * many + low * few) / (many + few), many + few])
    return np.concatenate([[mean] * int(many) for mean, many in pools]) + offsets


def end_label(
    ax: Axes, x: float, y: float, text: str, color: str, *, dx: float = 5, dy: float = 0
) -> None:
    """Name a line at its end `(x, y)`, instead of in a legend.

    Names at the same end move apart where they would overlap; `dx` and `dy` are points, for what
    must move besides.
    """
    _put(ax, _EndLabel(text, (float(x), float(y)), dx, dy, color=_ink(color)))


def _put(ax: Axes, label: _EndLabel) -> None:
    ax.add_artist(label)
    label.set_clip_path(None)  # it stands outside, and the figure makes room for it
    label.set_clip_on(False)


def _ink(color: str) -> str:
    """Return the colour of words on a line of this colour; yellow ones cannot be read."""
    return "ink" if color == "highlight" else color


def reference(
    ax: Axes,
    level: float,
    name: str = "",
    *,
    axis: Literal["x", "y"] = "y",
    side: Literal["left", "right", "end"] = "right",
    below: bool = False,
    color: str = "baseline",
    linestyle: str = "--",
) -> None:
    """Draw a level to compare with, as a dashed grey line across the axes, with its name.

    Args:
        ax: where to draw.
        level: the `y` of a horizontal line, or the `x` of a vertical one.
        name: written along a horizontal line, at the top of a vertical one.
        axis: whether `level` is a `y` or an `x`.
        side: of a horizontal line, at which end the name stands: inside at the left or right, or
            outside as a line's name; of a vertical line, to which side of it.
        below: whether the name stands under a horizontal line, at the foot of a vertical one.
        color: of the line and its name.
        linestyle: as matplotlib names it.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> reference(ax, 0.25, "always one half")
        >>> ax.texts[0].get_text()
        'always one half'
    """
    draw = ax.axhline if axis == "y" else ax.axvline
    draw(level, color=color, linestyle=linestyle, linewidth=1.2)
    if not name:
        return
    along = ax.get_yaxis_transform() if axis == "y" else ax.get_xaxis_transform()
    if axis == "y" and side == "end":
        _put(ax, _EndLabel(name, (1.0, level), 5, 0, color=_ink(color), xycoords=along))
        return
    if axis == "y":
        place, inward = (float(side != "left"), level), 4.0 if side == "left" else 0.0
        shift = (inward, -5.0 if below else 3.0)
        lean, stand = side, "top" if below else "bottom"
    else:
        place, shift = (level, float(not below)), (-4.0 if side == "left" else 4.0, 0.0)
        lean, stand = (
            "right" if side == "left" else "left",
            "bottom" if below else "top",
        )
    ax.annotate(
        name, place, xycoords=along, xytext=shift, textcoords="offset points", color=_ink(color),
        fontsize=SIZE, ha=lean, va=stand, annotation_clip=False,
    )  # fmt: skip


def arrow(
    ax: Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    *,
    color: str = "muted",
    width: float = 1.4,
    bend: float = 0.0,
    gap: float = 0.0,
    alpha: float = 1.0,
) -> None:
    """Draw an arrow from one point of the axes to another.

    Args:
        ax: where to draw.
        start: where it begins.
        end: where its head is.
        color: of line and head.
        width: of the line, in points.
        bend: how far it curves, as a share of its length.
        gap: points that are left free at either end.
        alpha: opacity.
    """
    style = {
        "arrowstyle": "-|>", "color": color, "linewidth": width, "alpha": alpha,
        "shrinkA": gap, "shrinkB": gap, "connectionstyle": f"arc3,rad={bend}",
    }  # fmt: skip
    ax.annotate("", end, start, arrowprops=style)
