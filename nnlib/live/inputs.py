"""What a reader gives to a live model: how it looks, and how it becomes tensors."""

import html
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nnlib import checks
from nnlib.live import drawing

Feed = tuple[Tensor, ...]
Context = dict[str, Any]


class NotGiven(ValueError):
    """Nothing that the model could read; the message is a plain word for the reader."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """An input of a live model: what all of them have.

    Attributes:
        label: names it, also for a screen reader.
        examples: name → value, to choose from.
    """

    label: str
    examples: Mapping[str, Any] = field(default_factory=dict)
    kind = ""

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        shown = {name: self.plain(value) for name, value in self.examples.items()}
        return {"kind": self.kind, "label": self.label, "examples": shown}

    def plain(self, value: Any) -> Any:
        """Return a value as JSON has it."""
        return value

    def read(self, value: Any) -> tuple[Feed, Context]:
        """Return tensors, and what the outputs may want to know of the input.

        Raises:
            NotGiven: there is nothing to read.
        """
        raise NotImplementedError

    def body(self, value: Any) -> str:
        """Return the markup that shows a value and takes others."""
        raise NotImplementedError

    def widget(
        self, value: Any
    ) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
        """Return a widget for a notebook, what reads it, and what sets it."""
        raise NotImplementedError

    def markup(self, value: Any) -> str:
        """Return the input as the page shows it, with its examples."""
        buttons = "".join(
            f'<button type="button" data-example="{at}">{html.escape(name)}</button>'
            for at, name in enumerate(self.examples)
        )
        row = (
            f'<div class="nn-examples" role="group" aria-label="Examples">{buttons}</div>'
            if buttons
            else ""
        )
        return self.body(value) + row


@dataclass(frozen=True, kw_only=True)
class DrawingPad(Given):
    """A square to draw on, brought to `size` × `size` grey values between 0 and 1.

    What is drawn is centred and scaled to fill the square, with a pen of one width, as digits of
    training sets are; only a reader's *shift* moves it away from the middle.

    Attributes:
        size: pixels of a side.
        pen: width of the pen, in pixels of that size.
        shape: of the tensor; a row of size² numbers if None.

    Example:
        >>> pad = DrawingPad(label="Your digit", size=8)
        >>> pad.read(torch.ones(8, 8))[0][0].shape
        torch.Size([1, 64])
    """

    size: int = 8
    pen: float = 1.4
    shape: tuple[int, ...] | None = None
    kind = "pad"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        own = {"size": self.size, "pen": self.pen, "shape": self._shape}
        return super().config() | own

    @property
    def _shape(self) -> tuple[int, ...]:
        return self.shape or (1, self.size**2)

    def plain(self, value: Tensor) -> list[float]:
        """Return the grey values in a row."""
        return [round(grey, 4) for grey in value.flatten().tolist()]

    def read(self, value: Tensor) -> tuple[Feed, Context]:
        """Return the picture as the model takes it."""
        picture = checks.tensor("value", value, shape=(self.size, self.size))
        if not picture.any():
            raise NotGiven("The square is empty: draw something.")
        return (picture.float().reshape(self._shape),), {}

    def body(self, value: Tensor) -> str:
        """Return the square to draw on, and what the model sees of it."""
        seen = drawing.pixels(
            value, f"What the model sees: {self.size} × {self.size} grey values"
        )
        return (
            '<div class="nn-pads"><div class="nn-pad">'
            f'<canvas width="256" height="256" tabindex="0" role="img" aria-label="'
            f"{html.escape(self.label)}: draw with a finger or the mouse; or with the arrow "
            'keys, which move a cursor, and the space bar, which paints"></canvas></div>'
            f'<div class="nn-seen"><span>What it sees</span>{seen}</div></div>'
            '<div class="nn-row"><button type="button" data-do="clear">Clear</button>'
            '<label>Shift it <input type="range" data-do="shift" min="-3" max="3" step="1" '
            'value="0" autocomplete="off"></label></div>'
        )

    def widget(
        self, value: Tensor
    ) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
        """Return a square of cells that switch, or shades where an example has them."""
        return _cells(value, self.size)


@dataclass(frozen=True, kw_only=True)
class Damage(Given):
    """A picture that a reader wipes out with a finger, the mouse, or arrow keys and space.

    Attributes:
        shape: height and width.
        to: the value of what is wiped out.

    Example:
        >>> Damage(label="A face", shape=(4, 4)).read(torch.ones(4, 4))[0][0].shape
        torch.Size([1, 16])
    """

    shape: tuple[int, int]
    to: float = 0.0
    feed: tuple[int, ...] | None = None
    kind = "damage"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {
            "shape": self.shape,
            "to": self.to,
            "feed": self._feed,
        }

    @property
    def _feed(self) -> tuple[int, ...]:
        return self.feed or (1, self.shape[0] * self.shape[1])

    def plain(self, value: Tensor) -> list[float]:
        """Return the values in a row."""
        return [round(grey, 4) for grey in value.flatten().tolist()]

    def read(self, value: Tensor) -> tuple[Feed, Context]:
        """Return the picture as the model takes it."""
        checks.tensor("value", value, shape=self.shape)
        return (value.float().reshape(self._feed),), {}

    def body(self, value: Tensor) -> str:
        """Return the picture."""
        picture = drawing.pixels(value, self.label)
        return (
            f'<div class="nn-damage" tabindex="0" role="group" aria-label="'
            f"{html.escape(self.label)}: wipe with a finger or the mouse; or with the arrow "
            f'keys, which move a cursor, and the space bar, which wipes">{picture}</div>'
            '<div class="nn-row"><button type="button" data-do="whole">Whole again</button></div>'
        )

    def widget(
        self, value: Tensor
    ) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
        """Return the examples' pictures and the share of rows that are wiped out."""
        import ipywidgets

        kept = {"now": value}
        rows = ipywidgets.IntSlider(description="rows wiped", max=self.shape[0])

        def read() -> Tensor:
            wiped = kept["now"].clone()
            wiped[: rows.value] = self.to
            return wiped

        return rows, read, lambda other: kept.update(now=other)


WORDS = {
    "nothing": "There is nothing to read yet: type a letter.",
    "unknown": "It has never seen {letters}, so that was left out.",
    "first": "It reads {length} letters at most; the rest was left out.",
    "last": "It sees the last {length} letters only; what stands before is forgotten.",
    "blank": "Nothing is blank yet: put {blank} in the place of a letter.",
}


@dataclass(frozen=True, kw_only=True)
class TextField(Given):
    """A line of text in the letters that a model knows.

    Attributes:
        letters: the letter of each number; "" for numbers that nobody types.
        length: the longest text that it reads.
        pad: the number that fills a shorter text up to `length`; nothing is filled up if None.
        keep: which letters of a longer text count, the "first" or the "last".
        begins: name → the number that stands before the text, to choose from.
        before: numbers that stand before every text.
        blank: a letter that stands for a gap, of which the model wants one.
        case: "upper" or "lower" to bring all letters to, or None.
        replaced: what a keyboard has → what the model knows, in that order.
        least: how many letters it needs.

    Example:
        >>> field = TextField(label="A word", letters=["", "a", "b"], length=4, pad=0)
        >>> field.read("abba?!")
        ((tensor([[1, 2, 2, 1]]),), {'given': 'abba', ...
    """

    letters: Sequence[str]
    length: int
    pad: int | None = None
    keep: str = "first"
    begins: Mapping[str, int] = field(default_factory=dict)
    before: Sequence[int] = ()
    blank: str | None = None
    case: str | None = None
    replaced: Mapping[str, str] = field(default_factory=dict)
    least: int = 1
    kind = "text"

    def __post_init__(self) -> None:
        checks.one_of("keep", self.keep, ("first", "last"))
        checks.one_of("case", self.case, (None, "upper", "lower"))

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        own = {
            "letters": list(self.letters),
            "length": self.length,
            "pad": self.pad,
            "keep": self.keep,
            "begins": dict(self.begins),
            "before": list(self.before),
            "blank": self.blank,
            "case": self.case,
            "replaced": list(self.replaced.items()),
            "least": self.least,
            "words": WORDS,
        }
        return super().config() | own

    def plain(self, value: Any) -> dict[str, str]:
        """Return the chosen beginning, where there is a choice, and the text."""
        begin, text = self._parts(value)
        return {"begin": begin, "text": text}

    def _parts(self, value: Any) -> tuple[str, str]:
        if isinstance(value, str):
            return next(iter(self.begins), ""), value
        begin, text = value
        return checks.one_of("begin", begin, self.begins), text

    def read(self, value: Any) -> tuple[Feed, Context]:
        """Return the numbers of the letters, in a row; what was left out stands in the note."""
        begin, text = self._parts(value)
        text = getattr(text, self.case)() if self.case else text
        for typed, known_as in self.replaced.items():
            text = text.replace(typed, known_as)
        number = {letter: at for at, letter in enumerate(self.letters) if letter}
        unknown = sorted({letter for letter in text if letter not in number})
        notes = []
        if unknown:
            listed = ", ".join(f"“{drawing.visible(letter)}”" for letter in unknown[:6])
            notes.append(WORDS["unknown"].format(letters=listed))
        known = [letter for letter in text if letter in number]
        front = [self.begins[begin]] if self.begins else []
        front += self.before
        room = self.length - len(front)
        if len(known) > room:
            notes.append(WORDS[self.keep].format(length=room))
            known = known[:room] if self.keep == "first" else known[-room:]
        if sum(not letter.isspace() for letter in known) < self.least:
            raise NotGiven(" ".join([*notes, WORDS["nothing"]]))
        place = None
        if self.blank is not None:
            if self.blank not in known:
                raise NotGiven(WORDS["blank"].format(blank=f"“{self.blank}”"))
            place = len(front) + known.index(self.blank)
        ids = front + [number[letter] for letter in known]
        count = len(ids)
        if self.pad is not None:
            ids += [self.pad] * (self.length - count)
        context = {
            "given": "".join(known),
            "place": place,
            "count": count,
            "front": len(front),
            "note": " ".join(notes),
        }
        return (torch.tensor([ids]),), context

    def body(self, value: Any) -> str:
        """Return the field, with the choice of what stands before the text."""
        begin, text = self._parts(value)
        choice = ""
        if self.begins:
            options = "".join(
                f"<option{' selected' if name == begin else ''}>{html.escape(name)}</option>"
                for name in self.begins
            )
            choice = (
                '<label class="nn-choice"><span>In the manner of</span> '
                f'<select autocomplete="off">{options}</select></label>'
            )
        letters = ""
        if self.blank is not None:
            buttons = "".join(map(self._button, text))
            letters = (
                '<div class="nn-letters" role="group" aria-label="Blank a letter">'
                f"{buttons}</div>"
            )
        return (
            f'{choice}<label class="nn-field"><span>{html.escape(self.label)}</span>'
            f'<input type="text" value="{html.escape(text)}" autocomplete="off" '
            f'autocapitalize="off" spellcheck="false"></label>{letters}'
        )

    def _button(self, letter: str) -> str:
        """Return what blanks a letter, or shows it again."""
        gone, shown = letter == self.blank, html.escape(drawing.visible(letter))
        words = "A blank: show the letter" if gone else f"Blank {shown}"
        return (
            f'<button type="button" aria-pressed="{str(gone).lower()}" '
            f'aria-label="{words}">{shown}</button>'
        )

    def widget(
        self, value: Any
    ) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
        """Return a line of text, with the choice before it."""
        import ipywidgets

        begin, text = self._parts(value)
        line = ipywidgets.Text(text, description=self.label, continuous_update=False)
        parts = [line]
        choice = None
        if self.begins:
            choice = ipywidgets.Dropdown(options=list(self.begins), value=begin)
            parts.insert(0, choice)

        def put(other: Any) -> None:
            first, line.value = self._parts(other)
            if choice is not None:
                choice.value = first

        def read() -> Any:
            return (choice.value, line.value) if choice is not None else line.value

        return ipywidgets.HBox(parts), read, put


@dataclass(frozen=True, kw_only=True)
class Sliders(Given):
    """Numbers, each between its ends.

    Attributes:
        ranges: name → (least, most, step).

    Example:
        >>> Sliders(label="Weather", ranges={"wind": (0, 1, 0.1)}).read([0.5])[0]
        (tensor([[0.5000]]),)
    """

    ranges: Mapping[str, tuple[float, float, float]]
    kind = "sliders"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"count": len(self.ranges)}

    def read(self, value: Sequence[float]) -> tuple[Feed, Context]:
        """Return the numbers in a row."""
        for at, ((name, (low, high, _)), number) in enumerate(
            zip(self.ranges.items(), value, strict=True)
        ):
            checks.number(f"value[{at}], {name},", number, least=low, most=high)
        return (torch.tensor([[float(number) for number in value]]),), {}

    def body(self, value: Sequence[float]) -> str:
        """Return the ranges, each with its name and its number."""
        return "".join(
            f'<label class="nn-slide"><span>{html.escape(name)} <output>{number:g}</output></span>'
            f'<input type="range" min="{low:g}" max="{high:g}" step="{step:g}" '
            f'value="{number:g}" autocomplete="off"></label>'
            for (name, (low, high, step)), number in zip(
                self.ranges.items(), value, strict=True
            )
        )

    def widget(
        self, value: Sequence[float]
    ) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
        """Return as many sliders."""
        import ipywidgets

        sliders = [
            ipywidgets.FloatSlider(
                number, min=low, max=high, step=step, description=name
            )
            for (name, (low, high, step)), number in zip(
                self.ranges.items(), value, strict=True
            )
        ]

        def put(other: Sequence[float]) -> None:
            for slider, number in zip(sliders, other, strict=True):
                slider.value = number

        return ipywidgets.VBox(sliders), lambda: [s.value for s in sliders], put


COLOURS = ("input", "target", "gate", "state")


@dataclass(frozen=True, kw_only=True)
class Plane(Given):
    """Points of the plane between -1 and 1, each of one of two classes, to be dragged.

    A value is a list of (x, y, class).

    Attributes:
        classes: the names of the two.

    Example:
        >>> plane = Plane(label="Points", classes=("no", "yes"))
        >>> plane.read([(0.0, 1.0, 1)])[0]
        (tensor([[0., 1.]]), tensor([1]))
    """

    classes: tuple[str, str]
    kind = "plane"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"classes": list(self.classes)}

    def plain(self, value: Any) -> list[list[float]]:
        """Return the points."""
        return [list(point) for point in value]

    def read(self, value: Any) -> tuple[Feed, Context]:
        """Return the points and their classes."""
        if not value:
            raise NotGiven("There is no point: choose an example.")
        points = torch.tensor([[float(x), float(y)] for x, y, _ in value])
        return (points, torch.tensor([int(kind) for *_, kind in value])), {}

    def body(self, value: Any) -> str:
        """Return the plane with its points."""
        return f'<div class="nn-plane">{self.picture(value)}</div>'

    def picture(self, value: Any, line: Sequence[float] | None = None) -> str:
        """Return the plane, its points, and a line where w₁x + w₂y + b = 0."""
        marks = []
        for number, (x, y, kind) in enumerate(value, 1):
            words = f"Point {number}, {self.classes[kind]}, at {x:.2f}, {y:.2f}"
            at = f'transform="translate({100 * x:.1f} {-100 * y:.1f})"'
            form = (
                '<rect x="-7" y="-7" width="14" height="14"/>'
                if kind
                else '<circle r="8"/>'
            )
            marks.append(
                f'<g class="nn-point" data-kind="{kind}" tabindex="0" role="button" {at} '
                f'aria-label="{html.escape(words)}"><circle class="nn-reach" r="20"/>{form}</g>'
            )
        drawn = _line(line) if line is not None else ""
        return (
            '<svg viewBox="-112 -112 224 224" role="group" aria-label="'
            f'{html.escape(self.label)}"><path class="nn-axes" d="M-110 0h220M0-110v220"/>'
            f'<path class="nn-line" d="{drawn}"/>{"".join(marks)}</svg>'
        )

    def widget(
        self, value: Any
    ) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
        """Return a choice of a point and two sliders that move it."""
        import ipywidgets

        points = [list(point) for point in value]
        which = ipywidgets.Dropdown(
            options=[(f"point {n}", n - 1) for n in range(1, len(points) + 1)], value=0
        )
        across, up = (
            ipywidgets.FloatSlider(
                points[0][k], min=-1, max=1, step=0.05, description=name
            )
            for k, name in enumerate("xy")
        )

        def chosen(_: Any = None) -> None:
            across.value, up.value = points[which.value][:2]

        def moved(_: Any = None) -> None:
            points[which.value][:2] = [across.value, up.value]

        def put(other: Any) -> None:
            points[:] = [list(point) for point in other]
            which.options = [(f"point {n}", n - 1) for n in range(1, len(points) + 1)]
            chosen()

        def taken() -> list[tuple[Any, ...]]:
            moved()
            return [tuple(point) for point in points]

        which.observe(chosen, "value")
        return (
            ipywidgets.VBox([which, across, up]),
            taken,
            put,
        )


def _line(line: Sequence[float]) -> str:
    """Return the path of w₁x + w₂y + b = 0 within a square that is larger than the plane."""
    across, up, bias = (float(number) for number in line)
    length = across * across + up * up
    if length < 1e-12:
        return ""
    x, y = -bias * across / length, -bias * up / length
    along = 3 / length**0.5
    ends = [(x + s * along * -up, y + s * along * across) for s in (-1, 1)]
    (x0, y0), (x1, y1) = [(100 * x, -100 * y) for x, y in ends]
    return f"M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}"


def _cells(
    value: Tensor, size: int
) -> tuple[Any, Callable[[], Any], Callable[[Any], None]]:
    import ipywidgets

    state = {"now": value.clone()}
    cells = [
        ipywidgets.ToggleButton(
            layout={"width": "26px", "height": "26px", "margin": "0"}
        )
        for _ in range(size**2)
    ]
    busy = []

    def put(other: Tensor) -> None:
        state["now"] = other.clone()
        busy.append(True)
        for cell, grey in zip(cells, other.flatten().tolist(), strict=True):
            cell.value = grey > 0.5
        busy.clear()

    def switched(at: int) -> Callable[[Any], None]:
        def act(change: Any) -> None:
            if not busy:
                state["now"].view(-1)[at] = float(change["new"])

        return act

    put(value)
    for at, cell in enumerate(cells):
        cell.observe(switched(at), "value")
    rows = [ipywidgets.HBox(cells[at : at + size]) for at in range(0, size**2, size)]
    return ipywidgets.VBox(rows), lambda: state["now"], put
