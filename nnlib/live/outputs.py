"""What a live model shows: how its tensors become bars, letters, pictures, maps and lines."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nnlib.blocks.sampling import sampling_probabilities
from nnlib.live import drawing
from nnlib.live.inputs.given import Context

Outputs = Sequence[Tensor]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An output of a live model: what all of them have.

    Attributes:
        label: its heading.
        of: which of the module's outputs it shows.
    """

    label: str = ""
    of: int = 0
    kind = ""

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return {"kind": self.kind, "label": self.label, "of": self.of}

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return what is shown of one answer."""
        raise NotImplementedError

    def markup(self, outputs: Outputs, context: Context) -> str:
        """Return the output as the page shows it."""
        head = f"<span>{html.escape(self.label)}</span>" if self.label else ""
        return (
            f'<div class="nn-shown nn-{self.kind}{self.look()}">{head}{self.frame()[0]}'
            f"{self.body(outputs, context)}{self.frame()[1]}</div>"
        )

    def look(self) -> str:
        """Return further classes of style."""
        return ""

    def frame(self) -> tuple[str, str]:
        """Return what stands around the body, whatever is shown."""
        return '<div class="nn-now">', "</div>"


@dataclass(frozen=True, kw_only=True)
class Bars(Shown):
    """A bar for each class, as long as its share.

    Attributes:
        names: of the classes, in the order of the outputs.
        top: how many of the largest to show, the largest first; all in their own order if None.
        softmax: whether the module's outputs are logits.

    Example:
        >>> bars = Bars(names=["no", "yes"])
        >>> "73 %" in bars.markup([torch.tensor([[0.0, 1.0]])], {})
        True
    """

    names: Sequence[str]
    top: int | None = None
    softmax: bool = True
    kind = "bars"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        own = {"names": list(self.names), "top": self.top, "softmax": self.softmax}
        return super().config() | own

    def frame(self) -> tuple[str, str]:
        """Return a list around the bars."""
        return '<ol class="nn-now">', "</ol>"

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return the bars; of an answer for each place, those of the place that is asked for."""
        row = shares(outputs[self.of], context, self.softmax)
        if "drawn_from" in context:
            row = drawn_from(outputs[self.of], context, *context["drawn_from"])
        order = list(range(len(row)))
        if self.top is not None:
            order = row.argsort(descending=True, stable=True)[: self.top].tolist()
        best = int(row.argmax())
        rows = [(self.names[at], float(row[at])) for at in order]
        return drawing.bar_rows(rows, order.index(best))


def shares(values: Tensor, context: Context, softmax: bool) -> Tensor:
    """Return the row that is asked for, as shares."""
    rows = values.reshape(-1, values.shape[-1])
    at = context.get("row", context.get("place"))
    row = rows[(at if at is not None else 0) if len(rows) > 1 else 0]
    return row.softmax(0) if softmax else row


@dataclass(frozen=True, kw_only=True)
class Text(Shown):
    """What was given, and what the model made of it or added to it.

    Attributes:
        joined: whether the model's letters continue the given ones; else they stand alone.
        fill: the letter of each number, where the model fills the gaps of what was given.

    Example:
        >>> Text().body([], {"given": "ab", "made": "c"})
        'ab<mark>c</mark>'
    """

    joined: bool = True
    fill: Sequence[str] | None = None
    kind = "text"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        fill = None if self.fill is None else list(self.fill)
        return super().config() | {"joined": self.joined, "fill": fill}

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return the letters, the model's own marked."""
        given, made = context.get("given", ""), context.get("made", "")
        if self.fill is not None:
            best = outputs[self.of].reshape(-1, outputs[self.of].shape[-1]).argmax(-1)
            blank, front = context["blank"], context.get("front", 0)
            return "".join(
                f"<mark>{html.escape(self.fill[int(best[front + at])])}</mark>"
                if letter == blank
                else html.escape(letter)
                for at, letter in enumerate(given)
            )
        before = html.escape(given) if self.joined else ""
        return f"{before}<mark>{html.escape(made)}</mark>".replace("\n", "<br>")


@dataclass(frozen=True, kw_only=True)
class Picture(Shown):
    """A grey picture.

    Attributes:
        shape: height and width.
        low: the value that is shown as paper.
        high: the value that is shown as ink.
        photograph: whether ink is light and paper black, in a dark page and in a light one.

    Example:
        >>> Picture(shape=(1, 2)).body([torch.tensor([0.0, 1.0])], {}).count("M1 0")
        1
    """

    shape: tuple[int, int]
    low: float = 0.0
    high: float = 1.0
    photograph: bool = False
    kind = "picture"

    def look(self) -> str:
        """Return what keeps a photograph from being its own negative."""
        return drawing.PHOTOGRAPH * self.photograph

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {
            "shape": self.shape,
            "low": self.low,
            "high": self.high,
        }

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return the picture."""
        picture = outputs[self.of].reshape(self.shape)
        scaled = (picture - self.low) / (self.high - self.low)
        return drawing.pixels(scaled, self.label or "The model's picture")


@dataclass(frozen=True, kw_only=True)
class HeatMap(Shown):
    """Weights between 0 and 1: a row for each letter that was written, a column for each read.

    Example:
        >>> map_ = HeatMap(of=0).body([torch.ones(1, 1, 1)], {"given": "a", "made": "b"})
        >>> map_.count("<rect")
        1
    """

    of: int = 1
    kind = "heat"

    def frame(self) -> tuple[str, str]:
        """Return a box that scrolls sideways."""
        label = html.escape(self.label or "Map of weights")
        return (
            f'<div class="nn-now" tabindex="0" role="group" aria-label="{label}">',
            "</div>",
        )

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return the map."""
        weights = outputs[self.of]
        weights = weights.reshape(-1, weights.shape[-1])
        return drawing.heat(weights, list(context["made"]), list(context["given"]))


@dataclass(frozen=True, kw_only=True)
class Curve(Shown):
    """A line through the numbers of an output, or through what they were in the last answers.

    Attributes:
        trail: how many answers the line goes back, where the output is a single number and the
            module `Repeats`; 0 draws the numbers of one answer.

    Example:
        >>> "0 to 2" in Curve(label="y").body([torch.tensor([0.0, 2.0])], {})
        True
    """

    trail: int = 0
    kind = "curve"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"trail": self.trail}

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return the line, with its least and its largest number."""
        answers = (
            context.get("past", [outputs])[-self.trail :] if self.trail else [outputs]
        )
        numbers = [x for each in answers for x in each[self.of].flatten().tolist()]
        return drawing.curve(numbers, self.label or "output")


@dataclass(frozen=True, kw_only=True)
class Numbers(Shown):
    """The numbers of an output, each with its name.

    Attributes:
        names: as many as are shown, from the first on.
        digits: behind the point, ≥ 0.

    Example:
        >>> "2.0" in Numbers(names=["steps"]).body([torch.tensor([2.0])], {})
        True
    """

    names: Sequence[str]
    digits: int = 1
    kind = "numbers"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"names": list(self.names), "digits": self.digits}

    def frame(self) -> tuple[str, str]:
        """Return a list around the numbers."""
        return '<ol class="nn-now">', "</ol>"

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return the names and the numbers."""
        told = outputs[self.of].flatten().tolist()[: len(self.names)]
        return "".join(
            f"<li><b>{html.escape(name)}</b><span>{value:.{self.digits}f}</span></li>"
            for name, value in zip(self.names, told, strict=True)
        )


@dataclass(frozen=True, kw_only=True)
class Pieces(Shown):
    """The tokens of a text, one beside the other, and how many they are; see `Cuts`.

    `of` is the number of the vocabulary.

    Example:
        >>> "2 tokens, 2.5 bytes each" in Pieces().body([], {"cuts": [[b"go", b" on"]]})
        True
    """

    kind = "pieces"

    def body(self, outputs: Outputs, context: Context) -> str:
        """Return the tokens; one that is no whole letter shows its bytes."""
        tokens = context["cuts"][self.of]
        size = sum(map(len, tokens)) / len(tokens)
        shown = "".join(f"<b>{html.escape(_shown(token))}</b>" for token in tokens)
        return (
            f"<p>{shown}</p><small>{len(tokens)} tokens, {size:.1f} bytes each</small>"
        )


def _shown(token: bytes) -> str:
    try:
        return "".join(drawing.visible(letter) for letter in token.decode())
    except UnicodeDecodeError:
        return "‹" + token.hex(" ") + "›"


def drawn_from(
    values: Tensor, context: Context, temperature: float, top_p: float | None
) -> Tensor:
    """Return the shares that are drawn from, of the row of logits that is asked for."""
    row = shares(values, context, softmax=False)
    return sampling_probabilities(row, temperature, top_p=top_p)


def best(
    values: Tensor,
    context: Context,
    temperature: float,
    generator: Any,
    top_p: float | None = None,
) -> int:
    """Return a number drawn from the row of logits that is asked for; the largest at 0."""
    row = drawn_from(values, context, temperature, top_p)
    return int(torch.multinomial(row, 1, generator=generator))
