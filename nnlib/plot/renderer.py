"""The pen that draws a figure as SVG, writes words as words, and remembers what it drew."""

import io
from functools import cache
from itertools import islice
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Affine2D

from nnlib.plot import inks
from nnlib.plot.record import Area, Record, Stroke, Words

KEEP = "nn-keep"  # the group of what is coloured by a map, whose colours say a number
AXIS = "nn-axis"  # the group of an axis: its line, its ticks, its grid
CASING = "nn-casing"  # the group of a broader line that sets off the one upon it
EDGE = 1.0  # points of a casing on either side of its line
MANY = 400  # shapes of one collection beyond which only their extent is remembered


class Pen(RendererSVG):
    """Matplotlib's renderer of SVG; words stay words, colours become those of the page."""

    def __init__(self, figure: Figure):
        width, height = figure.get_size_inches() * 72
        self.buffer = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        super().__init__(width, height, self.buffer, image_dpi=100, metadata=nothing)
        self.record = Record()
        self.place: tuple[str, ...] = ()
        self._asleep = False
        self._casing = ""

    def open_group(self, s: str, gid: str | None = None) -> None:
        """Begin an artist's group and remember where we are."""
        if s.startswith("matplotlib.axis"):
            gid = AXIS
        self.place += (gid or s,)
        if gid == AXIS:
            self.writer.start("g", attrib={"class": AXIS})
        else:
            super().open_group(s, gid)

    def close_group(self, s: str) -> None:
        """End an artist's group."""
        self.place = self.place[:-1]
        super().close_group(s)

    def _get_style_dict(self, gc: Any, rgbFace: Any) -> dict[str, str]:
        style = super()._get_style_dict(gc, rgbFace)
        if rgbFace is not None:
            style.setdefault("fill", "#000000")  # which matplotlib leaves out
        for name in ("fill", "stroke"):
            color = style.get(name, "")
            if color.startswith("#") and KEEP not in self.place:
                style[name] = _paint(color, name)
        if self._casing:
            style["stroke"] = self._casing
        return style

    def draw_path(
        self, gc: Any, path: Path, transform: Any, rgbFace: Any = None
    ) -> None:
        """Draw a line, set off from what it lies on where it must be, or a filled shape."""
        if rgbFace is None:
            self._set_off(gc, path, transform)
        super().draw_path(gc, path, transform, rgbFace)
        self._remember(gc, path, transform, rgbFace)

    def draw_markers(
        self, gc: Any, marker_path: Path, marker_trans: Any, path: Path, trans: Any,
        rgbFace: Any = None,
    ) -> None:  # fmt: skip
        """Draw markers at the vertices of a path."""
        super().draw_markers(gc, marker_path, marker_trans, path, trans, rgbFace)
        if "tick" in "".join(self.place) or not np.size(path.vertices):
            return
        mark = marker_path.transformed(marker_trans)
        at = trans.transform(path.vertices)
        for x, y in at[np.isfinite(at).all(1)][:MANY]:
            self._remember(gc, mark, Affine2D().translate(x, y), rgbFace)

    def draw_path_collection(
        self, gc: Any, master_transform: Any, paths: Any, all_transforms: Any,
        offsets: Any, offset_trans: Any, facecolors: Any, edgecolors: Any,
        linewidths: Any, linestyles: Any, antialiaseds: Any, urls: Any,
        offset_position: Any, *, hatchcolors: Any = None,
    ) -> None:  # fmt: skip
        """Draw many shapes that are alike."""
        looks = (
            offsets, offset_trans, facecolors, edgecolors, linewidths, linestyles,
            antialiaseds, urls, offset_position,
        )  # fmt: skip
        colors = {"hatchcolors": [] if hatchcolors is None else hatchcolors}
        self._asleep = True  # matplotlib may draw them as single shapes
        super().draw_path_collection(
            gc, master_transform, paths, all_transforms, *looks, **colors
        )
        self._asleep = False
        parts: Any = self  # matplotlib's types leave these two out
        raw = parts._iter_collection_raw_paths(master_transform, paths, all_transforms)
        shapes = [path.transformed(place) for path, place in raw]
        each = parts._iter_collection(gc, shapes, *looks, **colors)
        for x, y, shape, own, face in islice(each, MANY):
            self._remember(own, shape, Affine2D().translate(x, y), face)

    def draw_image(
        self, gc: Any, x: float, y: float, im: Any, transform: Any = None
    ) -> None:
        """Draw an image."""
        super().draw_image(gc, x, y, im, transform)
        height, width = im.shape[:2]
        if not (height and width):
            return
        alpha = 1.0  # which its pixels have already
        if transform is None:
            size = Affine2D().scale(72 / self.image_dpi)
        else:
            alpha = gc.get_alpha()
            size = Affine2D().scale(1 / width, 1 / height) + transform
        place: Any = (size + Affine2D().translate(x, y) + self._flip()).frozen()
        corners = place.transform([(0, 0), (width, 0), (width, height), (0, height)])
        box = self._clipped(gc, _box(corners))
        area = Area(
            None, box, ("", ""), alpha, self.record.next(),
            (np.asarray(im), place.inverted()),
        )  # fmt: skip
        self.record.areas.append(area)

    def get_text_width_height_descent(
        self, s: str, prop: Any, ismath: Any
    ) -> tuple[float, float, float]:
        """Return the size of a line of words; each is measured once in a process."""
        key = tuple(prop.get_family()), prop.get_style(), prop.get_weight()
        return _measured(s, bool(ismath), prop.get_size_in_points(), *key)

    def draw_text(
        self, gc: Any, x: float, y: float, s: str, prop: Any, angle: float,
        ismath: Any = False, mtext: Any = None,
    ) -> None:  # fmt: skip
        """Write a line of words, in a colour that can be read on what lies behind them."""
        turn = Affine2D().rotate_deg(-angle)
        lead = 0 if ismath else len(s) - len(s.lstrip())
        if lead:  # SVG takes no space at the beginning, and nothing stands there
            shift, *_ = self.get_text_width_height_descent(s[:lead], prop, False)
            x, y = np.array([x, y]) + turn.transform((shift, 0))
        s = s if ismath else s.strip()
        width, height, descent = self.get_text_width_height_descent(s, prop, ismath)
        top = descent - height
        corners = np.array([(0, top), (width, top), (width, descent), (0, descent)])
        corners = turn.transform(corners) + np.array([x, y])
        size = prop.get_size_in_points()
        known = Words(s, size, corners, self.record.next(), self.place)
        self.record.words.append(known)
        rgb = gc.get_rgb()
        left, right = corners[[0, 3]].mean(axis=0), corners[[1, 2]].mean(axis=0)
        across = (left + (right - left) * share for share in (1 / 6, 1 / 2, 5 / 6))
        grounds = [self.record.grounds(*place) for place in across]
        tone = inks.word_on(to_hex(rgb[:3]), grounds)
        alpha = gc.get_alpha() if gc.get_forced_alpha() else rgb[3]
        look = {"fill": tone.css, "font-size": f"{size:g}"}
        if alpha != 1:
            look["opacity"] = f"{alpha:.2g}"
        if ismath:
            black = self.new_gc()
            black.copy_properties(gc)
            black.set_foreground((0, 0, 0, 1), isRGBA=True)
            black.set_alpha(1)
            self.writer.start("g", attrib={"class": "nn-maths", **_styled(look)})
            super()._draw_text_as_path(black, x, y, s, prop, angle, ismath, mtext)
            self.writer.end("g")
            return
        if "mono" in prop.get_family()[0].lower():
            look["font-family"] = "var(--nn-mono,monospace)"
        if prop.get_style() != "normal":
            look["font-style"] = prop.get_style()
        if _weight(prop) > 500:
            look["font-weight"] = "600"
        if not angle:
            place = {"x": f"{x:.2f}", "y": f"{y:.2f}"}
        else:
            place = {"transform": f"translate({x:.2f} {y:.2f}) rotate({-angle:g})"}
        fit = {"textLength": f"{width:.2f}", "lengthAdjust": "spacingAndGlyphs"}
        if s:
            words = s.replace("  ", "\u00a0 ")
            url = gc.get_url()
            if url is not None:
                self.writer.start("a", attrib={"href": url})
            self.writer.element("text", words, attrib=place | fit | _styled(look))
            if url is not None:
                self.writer.end("a")

    def _set_off(self, gc: Any, path: Path, transform: Any) -> None:
        """Draw what a line needs beneath it, if it does not stand out from its ground."""
        alpha = gc.get_alpha() if gc.get_forced_alpha() else gc.get_rgb()[3]
        width = gc.get_linewidth()
        if not width or alpha < inks.FAINT or {AXIS, KEEP} & set(self.place):
            return
        parts = _parts(path.transformed(transform + self._flip()))
        grounds = self.record.beside(parts, width / 2 + 0.4, self._clip_box(gc))
        casing = inks.casing(to_hex(gc.get_rgb()[:3]), grounds)
        if not casing:
            return
        broad = self.new_gc()
        broad.copy_properties(gc)
        broad.set_linewidth(width + 2 * EDGE)
        broad.set_dashes(0, None)
        self._casing = casing
        self.writer.start("g", attrib={"class": CASING})
        super().draw_path(broad, path, transform)
        self.writer.end("g")
        self._casing = ""

    def _flip(self) -> Affine2D:
        return Affine2D().scale(1, -1).translate(0, self.height)

    def _remember(self, gc: Any, path: Path, transform: Any, face: Any) -> None:
        """Keep a shape in mind, as far as it can be seen."""
        if self._asleep:
            return
        drawn = bool(gc.get_linewidth()) and gc.get_rgb()[3] * gc.get_alpha() > 0.05
        filled = face is not None and (len(face) < 4 or face[3] > 0)
        if not (drawn or filled):
            return
        path = path.transformed(transform + self._flip())
        parts = _parts(path)
        if not parts:
            return
        if drawn:
            for part in parts:
                self.record.strokes.append(
                    Stroke(part, self.record.next(), self.place, self._clip_box(gc))
                )
        if filled:
            color = to_hex(face[:3])
            modes = (color,) * 2 if KEEP in self.place else _tone(color).modes
            alpha = gc.get_alpha() if gc.get_forced_alpha() else (
                face[3] if len(face) == 4 else 1.0
            )  # fmt: skip
            box = self._clipped(gc, _box(np.concatenate(parts)))
            self.record.areas.append(
                Area(path, box, modes, float(alpha), self.record.next())
            )

    def _clip_box(self, gc: Any) -> np.ndarray | None:
        clip = gc.get_clip_rectangle()
        if clip is None:
            shape, transform = gc.get_clip_path()
            if shape is None:
                return None
            return _box((transform + self._flip()).transform(shape.vertices))
        left, bottom, width, height = clip.bounds
        top = self.height - bottom - height
        return np.array([left, top, left + width, top + height])

    def _clipped(self, gc: Any, box: np.ndarray) -> np.ndarray:
        clip = self._clip_box(gc)
        if clip is None:
            return box
        return np.concatenate(
            [np.maximum(box[:2], clip[:2]), np.minimum(box[2:], clip[2:])]
        )


@cache
def _measured(
    words: str,
    maths: bool,
    size: float,
    family: tuple[str, ...],
    style: Any,
    weight: Any,
) -> tuple[float, float, float]:
    font = FontProperties(family=family, style=style, weight=weight, size=size)
    return text_to_path.get_text_width_height_descent(words, font, maths)


def _parts(path: Path) -> list[np.ndarray]:
    """Return the pieces of an outline, as points."""
    parts = [np.asarray(part) for part in path.to_polygons(closed_only=False)]
    return [part for part in parts if len(part) and np.isfinite(part).all()]


def _box(points: Any) -> np.ndarray:
    points = np.asarray(points)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _paint(color: str, name: str) -> str:
    return (_tone(color) if name == "fill" else inks.line(color)).css


def _tone(fill: str) -> inks.Tone:
    """Return how an area is filled: white is the page's own ground."""
    return inks.PAPER if fill == "#ffffff" else inks.line(fill)


def _styled(look: dict[str, str]) -> dict[str, str]:
    """Return attributes; a colour that is no plain one can only stand in a style."""
    styles = {
        name: value
        for name, value in look.items()
        if value.startswith(("var", "light-dark"))
    }
    rest = {name: value for name, value in look.items() if name not in styles}
    told = [f"{name}:{value}" for name, value in styles.items()]
    if look["fill"].startswith("light-dark"):  # what old browsers take
        told.insert(0, f"fill:{look['fill'][11:18]}")
    return rest | ({"style": ";".join(told)} if told else {})


def _weight(prop: Any) -> int:
    weight = prop.get_weight()
    return int(mpl.font_manager.weight_dict.get(weight, weight))
