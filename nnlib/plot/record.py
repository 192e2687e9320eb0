"""What a drawn figure consists of: words, lines and areas, each with its place on the picture.

`nnlib.plot.renderer.Pen` fills it while it draws; from it follow what lies behind words, what
collides, and how large the picture is. All places are points from the left and from the top.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.path import Path

from nnlib.plot import inks

EPS = 0.01  # points: what runs along the edge of its window is half hidden
PLACES = (np.arange(9) + 0.5) / 9  # along a line: where one looks what lies beside it


@dataclass
class Words:
    """A line of words as drawn: its corners, its size and what it stood on."""

    text: str
    size: float
    corners: np.ndarray
    order: int
    place: tuple[str, ...]


@dataclass
class Stroke:
    """A line as drawn, as points of the picture."""

    points: np.ndarray
    order: int
    place: tuple[str, ...]
    clip: np.ndarray | None


@dataclass
class Area:
    """A filled shape or an image as drawn, and its colour in light mode and in dark."""

    shape: Path | None
    box: np.ndarray  # left, top, right, bottom
    modes: inks.Mode
    alpha: float
    order: int
    image: tuple[np.ndarray, Any] | None = None

    def covers(self, x: float, y: float) -> bool:
        """Tell whether a point within its box lies on it."""
        return self.shape is None or self.shape.contains_point((x, y))

    def at(self, x: float, y: float) -> tuple[inks.Mode, float]:
        """Return its colour and opacity at a point."""
        if self.image is None:
            return self.modes, self.alpha
        pixels, place = self.image
        column, row = np.floor(place.transform((x, y))).astype(int)
        height, width = pixels.shape[:2]
        pixel = pixels[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)] / 255
        color = to_hex(pixel[:3])
        return (color, color), self.alpha * float(pixel[3]) if len(pixel) == 4 else 1.0


@dataclass
class Record:
    """All that a picture consists of, in the order of drawing."""

    words: list[Words] = field(default_factory=list)
    strokes: list[Stroke] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
    count: int = 0
    _known: np.ndarray = field(default_factory=lambda: np.empty((0, 4)), repr=False)

    def next(self) -> int:
        """Return the place of the next thing in the order of drawing."""
        self.count += 1
        return self.count

    def grounds(self, x: float, y: float) -> inks.Mode:
        """Return the colour behind a point, in light mode and in dark."""
        return _seen(self.areas, self._boxes(), x, y)

    def beside(
        self, parts: Sequence[np.ndarray], away: float, clip: np.ndarray | None
    ) -> list[tuple[inks.Mode, inks.Mode]]:
        """Return what lies on either side of a line, at places along it that are seen.

        Args:
            parts: the line's pieces, as points of the picture.
            away: points from its middle to where one looks.
            clip: left, top, right and bottom of what is shown of it; None: all.
        """
        near = self._near(parts, away)
        if not near:
            return []
        boxes = np.array([area.box for area in near])
        starts = np.concatenate([part[:-1] for part in parts])
        steps = np.concatenate([np.diff(part, axis=0) for part in parts])
        lengths = np.hypot(*steps.T)
        ends = lengths.cumsum()
        found = []
        for share in PLACES if ends[-1:].sum() else ():
            at = int(np.searchsorted(ends, share * ends[-1]))
            step = steps[at] / lengths[at]
            x, y = starts[at] + step * (share * ends[-1] - ends[at] + lengths[at])
            if clip is not None and not (
                clip[0] < x - EPS
                and x + EPS < clip[2]
                and clip[1] < y - EPS
                and y + EPS < clip[3]
            ):
                continue
            over, up = away * step
            found.append(
                (
                    _seen(near, boxes, x - up, y + over),
                    _seen(near, boxes, x + up, y - over),
                )
            )
        return found

    def _boxes(self) -> np.ndarray:
        """Return the boxes of all areas, a row each."""
        if len(self._known) != len(self.areas):
            self._known = np.array([area.box for area in self.areas])
        return self._known

    def _near(self, parts: Sequence[np.ndarray], away: float) -> list[Area]:
        """Return the areas that a line may lie on."""
        if not self.areas or not parts:
            return []
        points = np.concatenate(parts)
        low, high = points.min(axis=0) - away, points.max(axis=0) + away
        boxes = self._boxes()
        meets = ((boxes[:, :2] <= high) & (boxes[:, 2:] >= low)).all(axis=1)
        return [self.areas[at] for at in np.flatnonzero(meets)]


def _seen(areas: Sequence[Area], boxes: np.ndarray, x: float, y: float) -> inks.Mode:
    """Return the colour at a point of areas with these boxes, in light mode and in dark."""
    light, dark = inks.GROUND
    place = np.array([x, y])
    around = ((boxes[:, :2] <= place) & (boxes[:, 2:] >= place)).all(axis=1)
    for number in np.flatnonzero(around).tolist():
        area = areas[number]
        if area.covers(x, y):
            (a, b), alpha = area.at(x, y)
            light, dark = inks.over(a, alpha, light), inks.over(b, alpha, dark)
    return light, dark
