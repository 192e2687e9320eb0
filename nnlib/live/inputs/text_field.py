"""A line of text in the letters that a model knows."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from nnlib import checks
from nnlib.live import drawing
from nnlib.live.inputs.given import Context, Feed, Given, NotGiven, Widget

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
        letters: the letter of each number, "" for numbers that nobody types; None takes any text,
            and gives no numbers.
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

    letters: Sequence[str] | None
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
            "letters": None if self.letters is None else list(self.letters),
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
        if self.letters is None:
            return self._any(text)
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

    def _any(self, text: str) -> tuple[Feed, Context]:
        """Return what was typed, as it stands."""
        note = ""
        if len(text) > self.length:
            note = WORDS[self.keep].format(length=self.length)
            text = text[: self.length] if self.keep == "first" else text[-self.length :]
        if len(text) < self.least:
            raise NotGiven(WORDS["nothing"])
        return (), {"given": text, "note": note}

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

    def widget(self, value: Any) -> Widget:
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
