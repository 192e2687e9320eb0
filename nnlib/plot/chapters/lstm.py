"""One step of an LSTM, with some of its parts in colour and the others in grey.

Example:
    >>> figure = cell("input")
    >>> len(figure.axes[0].texts) == len(cell(*PARTS).axes[0].texts)
    True
"""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from nnlib import checks
from nnlib.plot.diagram import Diagram, Kind

PARTS = ("candidate", "input", "forget", "output", "cell")
INCHES = 4.9  # of the width, which a phone shows as it is

_WIDTH, _HEIGHT, _STRIP = 10.0, 6.6, 1.0  # in units; the strip holds a sentence
_TOP, _GATES, _AFFINE = 5.9, 3.3, 1.75  # heights of the line, the boxes, the map
_BOXES: dict[
    str, tuple[float, str, str, Kind]
] = {  # place, letter, squashed by, colour
    "forget": (2.2, "f", r"$\sigma$", "gate"),
    "input": (3.7, "i", r"$\sigma$", "gate"),
    "candidate": (5.3, "g", "tanh", "state"),
    "output": (6.8, "o", r"$\sigma$", "gate"),
}


def cell(
    *lit: str,
    told: Mapping[str, float] | None = None,
    sentence: Sequence[str] = (),
    at: int = 0,
) -> Figure:
    """Draw a step; the named parts are in colour.

    Args:
        *lit: of `PARTS`; the affine map and what goes into it are always in colour.
        told: numbers to write: in the box of a gate or the candidate, and as `"before"`, `"after"`
            and `"shown"` beside the two cells and the hidden state.
        sentence: words above the drawing.
        at: which of them is being read, from 0.

    Raises:
        ValueError: a part that is none of `PARTS`.
    """
    for part in lit:
        checks.one_of("lit", part, PARTS)
    told = told or {}

    def kind(part: str, colored: Kind) -> Kind:
        return colored if part in lit else "baseline"

    canvas = Diagram(_WIDTH, _HEIGHT + _STRIP * bool(sentence), inches=INCHES)
    line, shown = kind("cell", "state"), kind("output", "state")
    before = canvas.circle(0.7, _TOP, r"$\mathbf{c}_{t-1}$", kind=line, radius=0.55)
    after = canvas.circle(9.3, _TOP, r"$\mathbf{c}_t$", kind=line, radius=0.55)
    hidden = canvas.circle(9.3, _GATES, r"$\mathbf{h}_t$", kind=shown, radius=0.55)
    _map(canvas)
    boxes = {}
    for part, (x, letter, squash, color) in _BOXES.items():
        bottom = (
            rf"$\mathbf{{{letter}}}_t$" if part not in told else _number(told[part])
        )
        top = squash if part not in told else rf"$\mathbf{{{letter}}}_t$"
        boxes[part] = canvas.box(
            x, _GATES, f"{top}\n{bottom}", kind=kind(part, color), width=1.1, height=1.1
        )
        canvas.route((x, _AFFINE + 0.4), (x, _GATES - 0.55), kind=kind(part, "learned"))

    keep = canvas.circle(2.2, _TOP, r"$\odot$", kind=kind("forget", "gate"), radius=0.3)
    add = canvas.circle(4.5, _TOP, "$+$", kind=line, radius=0.3)
    write = canvas.circle(4.5, 4.65, r"$\odot$", kind=kind("input", "gate"), radius=0.3)
    show = canvas.circle(
        8.05, _GATES, r"$\odot$", kind=kind("output", "gate"), radius=0.3
    )
    squashed = canvas.box(8.05, 4.65, "tanh", kind=shown, width=1.1, height=0.7)
    canvas.chain(before, keep, add, after, kind=line, width=2.6)
    canvas.arrow(boxes["forget"], keep, kind=kind("forget", "gate"))
    canvas.arrow(boxes["input"], write, kind=kind("input", "gate"))
    canvas.arrow(boxes["candidate"], write, kind=kind("candidate", "state"))
    canvas.arrow(write, add, kind=kind("input", "state"))
    canvas.arrow(boxes["output"], show, kind=kind("output", "gate"))
    canvas.route((8.05, _TOP), (8.05, 5.0), kind=shown)
    canvas.chain(squashed, show, hidden, kind=shown)
    for name, node in (("before", before), ("after", after), ("shown", hidden)):
        if name in told:
            color = line if name != "shown" else shown
            canvas.note(node.x, node.y - 0.85, _number(told[name]), kind=color, size=11)
    for part, x, y, word in (("forget", 1.5, 4.65, "forget"), ("input", 3.7, 4.65, "write"),
                             ("output", 7.05, 4.25, "show")):  # fmt: skip
        canvas.note(x, y, word, kind=kind(part, "gate"))
    _words(canvas, sentence, at)
    return canvas.figure


def _map(canvas: Diagram) -> None:
    """Draw the affine map and what goes into it."""
    affine = canvas.box(
        4.5, _AFFINE, r"$\mathbf{W}\mathbf{x}_t + \mathbf{R}\mathbf{h}_{t-1} + \mathbf{b}$",
        kind="learned", width=5.7, height=0.8,
    )  # fmt: skip
    hidden = canvas.circle(
        0.7, _AFFINE, r"$\mathbf{h}_{t-1}$", kind="state", radius=0.55
    )
    x = canvas.circle(4.5, 0.5, r"$\mathbf{x}_t$", kind="input", radius=0.45)
    canvas.arrow(hidden, affine, kind="state")
    canvas.arrow(x, affine, kind="input")


def _words(canvas: Diagram, sentence: Sequence[str], at: int) -> None:
    room = _WIDTH / max(1, len(sentence))
    for step, word in enumerate(sentence):
        x, y = (step + 0.5) * room, _HEIGHT + 0.45
        if step == at:
            canvas.box(x, y, word, kind="input", width=room - 0.06, height=0.75)
        else:
            canvas.note(x, y, word, kind="baseline", size=11)


def _number(value: float) -> str:
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")
