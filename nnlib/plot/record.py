"""What a drawn figure consists of: words, lines and areas, each with its place on the picture.

`nnlib.plot.renderer.Pen` fills it while it draws; from it follow what lies behind words, what
collides, and how large the picture is. All places are points from the left and from the top.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.path import Path

from nnlib.plot import inks


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
        """Tell whether a point lies on it."""
        left, top, right, bottom = self.box
        if not (left <= x <= right and top <= y <= bottom):
            return False
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

    def next(self) -> int:
        """Return the place of the next thing in the order of drawing."""
        self.count += 1
        return self.count

    def grounds(self, x: float, y: float) -> inks.Mode:
        """Return the colour behind a point, in light mode and in dark."""
        light, dark = inks.GROUND
        for area in self.areas:
            if area.covers(x, y):
                (a, b), alpha = area.at(x, y)
                light, dark = inks.over(a, alpha, light), inks.over(b, alpha, dark)
        return light, dark
