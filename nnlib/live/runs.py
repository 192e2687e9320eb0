"""How a live model is run between its input and its outputs.

Each of these runs a torch module for a notebook and for the recorded example; `_static/live` does
the same in the page with the module's file. `Corrects` has no module: its rule stands in the page.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from nnlib import checks
from nnlib.live.export import Feed, answers
from nnlib.live.inputs.given import Context, Given
from nnlib.live.outputs import best


@dataclass
class Answer:
    """What the outputs show, and what was fed to the module on the way, the first time."""

    outputs: Sequence[Tensor]
    context: Context
    feed: Feed = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class Once:
    """The module answers each input by itself."""

    kind = "once"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return {"kind": self.kind}

    def answer(self, model: nn.Module, given: Given, value: Any, **_: Any) -> Answer:
        """Return what the module makes of a value."""
        feed, context = given.read(value)
        context["blank"] = getattr(given, "blank", None)
        return Answer(answers(model, feed), context, feed)

    def buttons(self) -> str:
        """Return the markup of its own controls."""
        return ""


@dataclass(frozen=True, kw_only=True)
class Writes:
    """The module's answer is a guess at the next letter; one is drawn, and so on.

    With a `state`, the module takes the number of one letter and the state, `(1,)` and the state's
    shape, and returns logits and the next state. Without, it takes the last letters, filled up on
    the right to the field's length, and returns logits for each place.

    Attributes:
        letters: the letter of each number that is written.
        stop: the number that ends a text, or None.
        most: how many letters it writes at most.
        temperature: what a slider from 0 to 2 begins with.
        top_p: what a second slider, up to 1, begins with: the share of probability that stays.
            `Bars` then show what is drawn from. None for no such slider.
        state: the first state, or None.
        seed: of the recorded example.
    """

    letters: Sequence[str]
    stop: int | None = None
    most: int = 40
    temperature: float = 0.8
    top_p: float | None = None
    state: Tensor | None = None
    seed: int = 0
    kind = "writes"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        state = None if self.state is None else list(self.state.shape)
        return {
            "kind": self.kind,
            "letters": list(self.letters),
            "stop": self.stop,
            "most": self.most,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "state": state,
        }

    def answer(
        self,
        model: nn.Module,
        given: Given,
        value: Any,
        *,
        temperature: float | None = None,
        top_p: float | None = None,
        **_: Any,
    ) -> Answer:
        """Write until the end, from a seed; the outputs are those for the first new letter."""
        temperature = self.temperature if temperature is None else temperature
        top_p = self.top_p if top_p is None else top_p
        dice = torch.Generator().manual_seed(self.seed)
        (ids,), context = given.read(value)
        if top_p is not None:
            context["drawn_from"] = (temperature, top_p)
        row, made = ids[0, : context["count"]].tolist(), []
        state, first = self.state, None
        feed: Feed = ()
        outputs: Sequence[Tensor] = ()
        unread = list(row)
        for _step in range(self.most):
            if state is None:
                # without a state the model reads a window, so `given` is a text field
                kept = row[-given.length :]  # type: ignore[attr-defined]
                filler = [0] * (given.length - len(kept))  # type: ignore[attr-defined]
                feed = (torch.tensor([kept + filler]),)
                outputs = answers(model, feed)
                context["row"] = len(kept) - 1
            else:
                for number in unread:
                    feed = (torch.tensor([number]), state)
                    *outputs, state = answers(model, feed)
            if first is None:
                first = (outputs, dict(context), feed)
            letter = best(outputs[0], context, temperature, dice, top_p)
            if letter == self.stop:
                break
            row.append(letter)
            made.append(self.letters[letter])
            unread = [letter]
        assert first is not None
        outputs, context, feed = first
        return Answer(outputs, context | {"made": "".join(made)}, feed)

    def buttons(self) -> str:
        """Return the markup of its own controls."""
        sliders = _slide("Temperature", "temperature", (0, 2, 0.1), self.temperature)
        if self.top_p is not None:
            sliders += _slide("Top-p", "top-p", (0.05, 1, 0.05), self.top_p)
        return (
            '<div class="nn-row"><button type="button" data-do="write">Write</button>'
            '<button type="button" data-do="letter">One letter</button>'
            f"{sliders}</div>"
        )


def _slide(
    title: str, name: str, scale: tuple[float, float, float], value: float
) -> str:
    """Return the markup of a slider: least, most and step of its scale, and where it begins."""
    least, most, step = scale
    return (
        f'<label class="nn-slide"><span>{title} <output aria-live="off">'
        f"{value:g}</output></span>"
        f'<input type="range" data-do="{name}" min="{least:g}" max="{most:g}" step="{step:g}" '
        f'value="{value:g}" autocomplete="off"></label>'
    )


@dataclass(frozen=True, kw_only=True)
class Translates:
    """The module reads a text and writes another one, symbol by symbol, the likeliest each time.

    It takes the text and what was written before each step, 0 at the start, and returns logits and
    weights, each with a row for every step.

    Attributes:
        symbols: the symbol of each number that is written.
        steps: how many are written.
    """

    symbols: Sequence[str]
    steps: int
    kind = "translates"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return {"kind": self.kind, "symbols": list(self.symbols), "steps": self.steps}

    def answer(self, model: nn.Module, given: Given, value: Any, **_: Any) -> Answer:
        """Return what the module writes when each symbol is fed back to it."""
        (ids,), context = given.read(value)
        before = torch.zeros(1, self.steps, dtype=torch.long)
        made = []
        for step in range(self.steps):
            feed = (ids, before)
            logits, weights = answers(model, feed)
            letter = int(logits[0, step].argmax())
            made.append(self.symbols[letter])
            if step + 1 < self.steps:
                before = before.clone()
                before[0, step + 1] = letter
        seen = weights[..., : context["count"]]
        return Answer((logits, seen), context | {"made": "".join(made)}, feed)

    def buttons(self) -> str:
        """Return the markup of its own controls."""
        return (
            '<div class="nn-row"><button type="button" data-do="translate">Translate'
            "</button></div>"
        )


@dataclass(frozen=True, kw_only=True)
class Repeats:
    """The module's first output is its next input: an automaton, or a memory that settles.

    Other inputs, such as a choice, stay as they are. While it runs on a page, the reader may go on
    to change the input; out of sight, it waits.

    Attributes:
        per_second: steps of a second while it runs, at most 60.
        steps: of the recorded example.
        still: whether it stops by itself where a step changes nothing.
        alive: whether it begins to run at the first touch, and again with another example, until
            the reader stops it; for a reader who has asked for less motion it waits for Run.
    """

    per_second: int = 25
    steps: int = 20
    still: bool = False
    alive: bool = False
    kind = "repeats"

    def __post_init__(self) -> None:
        checks.number("per_second", self.per_second, least=1, most=60)
        checks.flag("alive", self.alive)

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return {
            "kind": self.kind,
            "perSecond": self.per_second,
            "still": self.still,
            "alive": self.alive,
        }

    def answer(self, model: nn.Module, given: Given, value: Any, **_: Any) -> Answer:
        """Return what it comes to after so many steps."""
        feed, context = given.read(value)
        first, past = feed, []
        for _step in range(self.steps):
            outputs = answers(model, feed)
            past.append(outputs)
            feed = (outputs[0], *feed[1:])
        return Answer(outputs, context | {"past": past}, first)

    def buttons(self) -> str:
        """Return the markup of its own controls."""
        return (
            '<div class="nn-row"><button type="button" data-do="run">Run</button>'
            '<button type="button" data-do="step">One step</button></div>'
        )


@dataclass(frozen=True, kw_only=True)
class Corrects:
    """A rule that moves a line until no point of a plane lies on the wrong side.

    Attributes:
        rule: what does so in a notebook: points and classes → (w₁, w₂, b) and corrections.
        name: of the rule in the page.
        most: corrections after which it gives up.
    """

    rule: Callable[[Tensor, Tensor], tuple[Sequence[float], int]]
    name: str = "perceptron"
    most: int = 300
    kind = "corrects"

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return {"kind": self.kind, "rule": self.name, "most": self.most}

    def answer(self, model: None, given: Given, value: Any, **_: Any) -> Answer:
        """Return the line, and how many corrections led to it."""
        (points, classes), context = given.read(value)
        line, corrections = self.rule(points, classes)
        w = torch.tensor([float(number) for number in line])
        side = (points @ w[:2] + w[2]) * (2 * classes - 1)
        wrong = int((side <= 0).sum())
        told = f"{corrections} corrections, {wrong} points on the wrong side"
        return Answer(
            (w,), context | {"made": told, "line": w.tolist()}, (points, classes)
        )

    def buttons(self) -> str:
        """Return the markup of its own controls."""
        return (
            '<div class="nn-row"><button type="button" data-do="run">Run</button>'
            '<button type="button" data-do="step">One correction</button>'
            '<button type="button" data-do="again">From the start</button></div>'
        )


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """A text cut into tokens by the merges of several vocabularies; no module is run.

    Attributes:
        tokenizers: name → what has `merges` (pairs of tokens as bytes, in order), the `pattern`
            that cuts text into pieces, and `tokens(text)`.
    """

    tokenizers: Mapping[str, Any]
    kind = "cuts"

    def config(self) -> dict[str, Any]:
        """Return the merges as numbers of tokens: bytes first, then what each merge made."""
        return {
            "kind": self.kind,
            "vocabularies": [
                {
                    "pattern": _for_a_browser(each.pattern),
                    "merges": _as_numbers(each.merges),
                }
                for each in self.tokenizers.values()
            ],
        }

    def answer(self, model: None, given: Given, value: Any, **_: Any) -> Answer:
        """Return the tokens of a text in each vocabulary."""
        context = given.read(value)[1]
        cuts = [each.tokens(context["given"]) for each in self.tokenizers.values()]
        return Answer((), context | {"cuts": cuts})

    def buttons(self) -> str:
        """Return the markup of its own controls."""
        return ""


_WHITE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"


def _for_a_browser(pattern: str) -> str:
    """Return a pattern in which white space is Unicode's, as other engines have it."""
    for name, meant in (("[^\\s", f"[^{_WHITE}"), ("\\s", f"[{_WHITE}]"),
                        ("\\S", f"[^{_WHITE}]")):  # fmt: skip
        pattern = pattern.replace(name, meant)
    return pattern


def _as_numbers(merges: Sequence[tuple[bytes, bytes]]) -> list[int]:
    """Return two numbers for each merge."""
    number = {bytes([byte]): byte for byte in range(256)}
    found = []
    for left, right in merges:
        found += [number[left], number[right]]
        number.setdefault(left + right, len(number))
    return found
