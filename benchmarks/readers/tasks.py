"""Five tasks for readers of sequences: what is read, what is asked, what a right answer scores."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib.data import recall as recalls
from nnlib.data import tables, text
from nnlib.train.characters import bits_per_character
from nnlib.train.evaluating import evaluating

PAIRS, KEYS, VALUES = 6, 16, 16  # recall
LETTERS, LINE, ASKED = 8, 24, 4  # selective copying
LONG = 100  # numbers of an adding problem
WINDOW, ORDER = 64, 5  # characters of names, and those that are counted together
EXAM = 1000  # sequences of those that are drawn
AT_ONCE = 200  # of them, lest memory run out

Part = Callable[[str, int, int], tuple[Tensor, ...]]


class Task(NamedTuple):
    """What a task is made of.

    Attributes:
        inputs: tokens, or features of a vector.
        outputs: numbers that a reader has to say at each step.
        tokens: whether sequences are of tokens.
        part: (its name, rows, seed) → inputs and answers; "learn", "tune" or "exam".
        read: outputs at all steps → those that count.
        baselines: of no network: chance, and the best simple rule, where there is one.
        higher: whether a high score is good.
    """

    inputs: int
    outputs: int
    tokens: bool
    part: Part
    read: Callable[[Tensor], Tensor]
    baselines: Callable[[], tuple[float, float | None]]
    higher: bool = True

    def loss(self, model: nn.Module, x: Tensor, *answer: Tensor) -> Tensor:
        """Return the mean over what is asked: cross-entropy, or the squared error of a number."""
        if not answer:  # each character is asked for at the one before
            x, answer = x[:, :-1], (x[:, 1:],)
        said = self.read(model(x))
        if self.outputs == 1:
            return F.mse_loss(said.squeeze(-1), answer[0])
        return F.cross_entropy(said.flatten(0, -2), answer[0].flatten())

    @torch.no_grad()
    def score(self, model: nn.Module, x: Tensor, *answer: Tensor) -> float:
        """Return the share of right answers, the squared error, or bits a character."""
        if not answer:
            return bits_per_character(model, x)
        with evaluating(model):
            said = torch.cat([self.read(model(rows)) for rows in x.split(AT_ONCE)])
        return self.scored(said, *answer)

    def scored(self, said: Tensor, answer: Tensor) -> float:
        """Return the score of what was said."""
        if self.outputs == 1:
            return F.mse_loss(said.squeeze(-1), answer).item()
        return (said.argmax(-1) == answer).double().mean().item()


def _drawn(draw: Callable[[int, int], tuple[Tensor, ...]]) -> Part:
    """A task without end: everything that is learned from is seen once."""

    def part(name: str, rows: int, seed: int) -> tuple[Tensor, ...]:
        if name == "learn":
            return draw(rows, 100 + seed)
        return draw(EXAM, {"tune": 1, "exam": 2}[name])

    return part


def _recall(count: int, seed: int) -> tuple[Tensor, ...]:
    drawn = recalls.recall(count, pairs=PAIRS, keys=KEYS, values=VALUES, seed=seed)
    return drawn.tokens, drawn.answers


def _copying(count: int, seed: int) -> tuple[Tensor, ...]:
    """Draw lines of pauses (0) with four letters (1 … 8), then four signs 9 that ask for them."""
    draw = torch.Generator().manual_seed(seed)
    at = torch.rand(count, LINE, generator=draw).topk(ASKED, 1).indices
    letters = torch.randint(1, LETTERS + 1, (count, ASKED), generator=draw)
    line = torch.zeros(count, LINE, dtype=torch.long).scatter_(1, at.sort(1).values, letters)
    return torch.cat([line, torch.full((count, ASKED), LETTERS + 1)], 1), letters - 1


def _adding(count: int, seed: int) -> tuple[Tensor, ...]:
    """Draw values and marks, one in each half; asked for is the marked values' sum, less 1."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(count, LONG, 2, generator=draw)
    x[..., 1] = 0
    rows, half = torch.arange(count), LONG // 2
    x[rows, torch.randint(half, (count,), generator=draw), 1] = 1
    x[rows, torch.randint(half, LONG, (count,), generator=draw), 1] = 1
    return x, x.prod(-1).sum(-1) - 1


def _digits(name: str, rows: int, seed: int) -> tuple[Tensor, ...]:
    """Pixels one after the other; a quarter of the training digits is what is tuned on."""
    part = tables.digits("test" if name == "exam" else "train")
    x, y = part.x[:, :, None], part.y
    quarter = len(x) // 4
    if name == "tune":
        return x[:quarter], y[:quarter]
    return (x[quarter:], y[quarter:]) if name == "learn" and seed < 0 else (x, y)


def _nearest() -> tuple[float, float]:
    """The commonest digit; and the answer of the nearest training digit, seen as a whole."""
    (x, y), (there, wanted) = _digits("learn", 0, 0), _digits("exam", 0, 0)
    near = y[torch.cdist(there[..., 0], x[..., 0]).argmin(1)]
    return (
        (wanted == y.mode().values).double().mean().item(),
        (near == wanted).double().mean().item(),
    )


@functools.cache
def _letters() -> tuple[text.Vocabulary, Tensor, Tensor]:
    names = text.unicode_names()
    letters = text.Vocabulary(sorted({"\n", *"".join(names)}))
    stream = letters.encode("\n".join(names) + "\n")
    return letters, *text.split_blocks(stream, 2048)


def _names(name: str, rows: int, seed: int) -> tuple[Tensor, ...]:
    _, learn, held = _letters()
    rest, tune = text.split_blocks(learn, 2048)
    if name == "learn":
        return (text.windows(rest if seed < 0 else learn, WINDOW, WINDOW // 2),)
    return (text.windows(held if name == "exam" else tune, WINDOW, WINDOW // 2)[::4],)


def _counted() -> tuple[float, float]:
    """Bits by counting characters alone, and five together."""
    letters, learn, held = _letters()
    costs = (text.NGram.tuned(n, len(letters), learn).bits(held) for n in (1, ORDER))
    alone, together = (text.with_context(c, WINDOW)[::4].mean().item() for c in costs)
    return alone, together


@functools.cache
def tasks() -> dict[str, Task]:
    """Return the tasks by name, as the columns of the table are called."""
    most = recalls.most_repeated_share(PAIRS, VALUES)
    letters = len(_letters()[0])
    return {
        "recall": Task(
            KEYS + VALUES, VALUES, True, _drawn(_recall), lambda said: said[:, -PAIRS:],
            lambda: (1 / VALUES, most),
        ),
        "copying": Task(
            LETTERS + 2, LETTERS, True, _drawn(_copying), lambda said: said[:, -ASKED:],
            lambda: (1 / LETTERS, None),
        ),
        "digits": Task(1, 10, False, _digits, lambda said: said.mean(1), _nearest),
        "adding": Task(
            2, 1, False, _drawn(_adding), lambda said: said[:, -1],
            lambda: (_adding(EXAM, 2)[1].square().mean().item(), None), higher=False,
        ),
        "names": Task(
            letters, letters, True, _names, lambda said: said, _counted, higher=False
        ),
    }  # fmt: skip
