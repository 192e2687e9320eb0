"""Text that ships with Python, and the count models that a language model has to beat.

Python's own reference manual and the names of Unicode's characters grow a little from one release
to the next, so nothing may depend on their exact content.

Axes: n tokens of a stream, b rows, t positions, v vocabulary.
"""

import functools
import unicodedata
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from nnlib import checks


@functools.cache
def python_reference() -> str:
    """Return the Python language reference as `help()` shows it, about 460 000 characters.

    Source: `pydoc_data.topics` of the running Python, PSF licence.
    """
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


@functools.cache
def unicode_names() -> tuple[str, ...]:
    """Return the distinct names of Unicode's characters, in the order of their code points.

    Left out are the scripts whose names are a numbering ("CJK UNIFIED IDEOGRAPH-4E00").

    Source: `unicodedata` of the running Python, Unicode licence.
    """
    names = (unicodedata.name(chr(point), "") for point in range(0x110000))
    numbered = (
        "CJK ",
        "HANGUL SYLLABLE",
        "TANGUT",
        "NUSHU",
        "KHITAN",
        "EGYPTIAN",
        "ANATOLIAN",
    )
    kept = [
        n for n in names if n and not n.startswith(numbered) and not n[-4:].isdigit()
    ]
    return tuple(dict.fromkeys(kept))


class Vocabulary:
    """Distinct tokens and their numbers.

    Args:
        tokens: in the order of their numbers, each once.
        unknown: the token that stands for all others, one of `tokens`; None refuses others.

    Example:
        >>> letters = Vocabulary("abc")
        >>> letters.encode("cab").tolist(), letters.decode([2, 0])
        ([2, 0, 1], ['c', 'a'])
    """

    def __init__(self, tokens: Iterable[str], unknown: str | None = None):
        self.tokens = list(tokens)
        self.numbers = {token: number for number, token in enumerate(self.tokens)}
        if len(self.numbers) != len(self.tokens):
            raise ValueError("tokens must each stand once")
        if unknown is not None and unknown not in self.numbers:
            raise ValueError(f"unknown={unknown!r} must be one of the tokens")
        self.unknown = unknown

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: Iterable[str]) -> Tensor:
        """Return the numbers of a sequence of tokens (a string is one of characters)."""
        other = None if self.unknown is None else self.numbers[self.unknown]
        numbers = [self.numbers.get(token, other) for token in text]
        if None in numbers:
            lost = sorted({token for token in text if token not in self.numbers})
            raise ValueError(f"text holds tokens outside the vocabulary: {lost[:5]}")
        return torch.tensor(numbers, dtype=torch.int64)

    def decode(self, numbers: Sequence[int] | Int[Tensor, " n"]) -> list[str]:
        """Return the tokens of numbers."""
        return [self.tokens[int(number)] for number in numbers]


def split_blocks(
    tokens: Tensor, block: int, test_share: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Split a stream into training and held-out blocks that alternate through the whole of it.

    The tail of a manual is unlike its beginning, so that a cut in two would measure a change of
    subject. Every n-th block is held out instead.

    Args:
        tokens: one axis.
        block: tokens a block, ≥ 1; what is left at the end goes to training.
        test_share: share of blocks that is held out, between 0 and ½.

    Returns:
        Training and held-out tokens, blocks joined in order.
    """
    checks.tensor("tokens", tokens, shape=("n",))
    block = checks.count("block", block)
    every = round(1 / checks.number("test_share", test_share, above=0, most=0.5))
    number = torch.arange(len(tokens)) // block
    whole = number < len(tokens) // block
    held_out = (number % every == every - 1) & whole
    return tokens[~held_out], tokens[held_out]


def windows(
    tokens: Shaped[Tensor, " n"], length: int, stride: int | None = None
) -> Tensor:
    """Cut a stream, of tokens or of one value for each, into rows of `length`, every `stride`.

    Args:
        tokens: one axis, `length` tokens or more.
        length: tokens a row, ≥ 1.
        stride: from one row's beginning to the next, ≥ 1; None is `length`: no overlap.

    Returns:
        Rows in order; what is left at the end makes no row.

    Example:
        >>> windows(torch.arange(7), 4, 2).tolist()
        [[0, 1, 2, 3], [2, 3, 4, 5]]
    """
    checks.tensor("tokens", tokens, shape=("n",))
    length = checks.count("length", length)
    stride = length if stride is None else checks.count("stride", stride)
    if len(tokens) < length:
        raise ValueError(
            f"length={length} is more than the {len(tokens)} tokens there are"
        )
    return tokens.unfold(0, length, stride)


def with_context(values: Tensor, length: int) -> Tensor:
    """Cut a stream into windows that overlap by half, and return the second half of each.

    A model that reads a window has seen half a window or more before each of these.

    Args:
        values: one for each token of a stream, such as what it cost a counting model.
        length: of a window, even, ≥ 2.

    Example:
        >>> with_context(torch.arange(8), 4).tolist()
        [[2, 3], [4, 5], [6, 7]]
    """
    if checks.count("length", length, least=2) % 2:
        raise ValueError(f"length={length} must be even, half of it is context")
    return windows(values, length, length // 2)[:, length // 2 :]


class NGram:
    r"""The next token from the n - 1 before it, by counting: interpolated Kneser–Ney.

    $p_n(x \mid c) = \frac{\max(N(cx) - \delta, 0)}{N(c)} + \frac{\delta\,T(c)}{N(c)}\,
    p_{n-1}(x \mid c')$, where T(c) counts the distinct tokens that followed c, and c' is c without
    its first token. The longest contexts count occurrences; shorter ones count in how many
    different contexts a token was seen. Below them all stands 1/v.

    Args:
        order: n, the tokens of a count, ≥ 1.
        vocab_size: tokens v, ≥ 1, such that $v^n$ < 2⁶³.
        discount: δ, taken off every count, in [0, 1].

    Example:
        >>> bigrams = NGram(order=2, vocab_size=2).fit(torch.tensor([0, 1, 0, 1, 0, 1, 1]))
        >>> bigrams.probabilities(torch.tensor([0])).round(decimals=3).tolist()
        [0.083, 0.917]

    Source: Kneser and Ney 1995; interpolated: Chen and Goodman 1999.
    """

    def __init__(self, order: int, vocab_size: int, discount: float = 0.75):
        self.order = checks.count("order", order)
        self.vocab_size = checks.count("vocab_size", vocab_size)
        if self.vocab_size**self.order >= 2**63:
            raise ValueError(f"order={order} is too long for vocab_size={vocab_size}")
        self.discount = checks.number("discount", discount, least=0, most=1)
        self._tables: list[tuple[Tensor, ...]] = []

    @classmethod
    def tuned(
        cls,
        order: int,
        vocab_size: int,
        tokens: Int[Tensor, " n"],
        *,
        discounts: Sequence[float] = (0.7, 0.9),
        block: int = 2048,
    ) -> "NGram":
        """Count a stream with the discount that serves best on a tenth of it.

        Args:
            order: as for the class.
            vocab_size: as for the class.
            tokens: training text, of ten blocks or more.
            discounts: what is tried, each in [0, 1].
            block: as for `split_blocks`, which makes the tenth; then all of it is counted.
        """
        part, tune = split_blocks(tokens, block, test_share=0.1)
        trial = cls(order, vocab_size).fit(part)
        cost = {}
        for trial.discount in discounts:
            cost[trial.discount] = float(trial.bits(tune).mean())
        return cls(order, vocab_size, min(cost, key=cost.__getitem__)).fit(tokens)

    def fit(self, tokens: Int[Tensor, " n"]) -> "NGram":
        """Count a stream of n tokens or more; return the model."""
        checks.labels("tokens", tokens, self.vocab_size)
        if len(tokens) < self.order:
            raise ValueError(f"tokens must be {self.order} or more, got {len(tokens)}")
        rows = windows(tokens, self.order, 1)
        keys, counts = torch.unique(self._number(rows), return_counts=True)
        self._tables = []
        for length in range(self.order, 0, -1):
            contexts, at = torch.unique_consecutive(
                keys // self.vocab_size, return_inverse=True
            )
            totals = torch.zeros(len(contexts), dtype=torch.float64).index_add_(
                0, at, counts.double()
            )
            kinds = torch.bincount(at, minlength=len(contexts))
            self._tables.insert(0, (keys, counts, contexts, totals, kinds))
            # For the shorter contexts: how many different tokens stood before each.
            keys, counts = torch.unique(
                keys % self.vocab_size ** (length - 1), return_counts=True
            )
        return self

    def probabilities(self, context: Int[Tensor, " n"]) -> Float[Tensor, " v"]:
        """Return the probability of each next token; only the last `order` - 1 tokens matter.

        Raises:
            RuntimeError: the model was not fitted.
        """
        checks.labels("context", context, self.vocab_size)
        rows = torch.cat([context.new_full((self.order,), -1), context])[
            -self.order + 1 :
        ]
        rows = rows[: self.order - 1].expand(self.vocab_size, -1)
        return self._score(rows, torch.arange(self.vocab_size))

    def bits(self, tokens: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return what each token of a stream costs, in bits: minus log₂ of its probability.

        Raises:
            RuntimeError: the model was not fitted.
        """
        checks.labels("tokens", tokens, self.vocab_size)
        past = torch.cat([tokens.new_full((self.order - 1,), -1), tokens])
        rows = (
            windows(past, self.order, 1)
            if len(tokens)
            else past[:0].view(0, self.order)
        )
        return -self._score(rows[:, :-1], tokens).log2()

    def _number(self, rows: Tensor) -> Tensor:
        """Return one number for each row of tokens, or -1 where a row begins before the stream."""
        number = torch.zeros(len(rows), dtype=torch.int64)
        for column in rows.unbind(1):
            number = number * self.vocab_size + column
        return torch.where((rows < 0).any(1), -1, number)

    def _score(self, contexts: Tensor, following: Tensor) -> Tensor:
        """Return the probability of each token after its context, a row; -1 is no token."""
        if not self._tables:
            raise RuntimeError(
                "the model has counted nothing yet: call fit(tokens) first"
            )
        p = torch.full((len(following),), 1 / self.vocab_size, dtype=torch.float64)
        for length, (keys, counts, places, totals, kinds) in enumerate(self._tables):
            context = self._number(contexts[:, self.order - 1 - length :])
            total, kind = _find(places, context, totals, kinds)
            whole = torch.where(context < 0, -1, context * self.vocab_size + following)
            (count,) = _find(keys, whole, counts)
            share = (count - self.discount).clamp(min=0) + self.discount * kind * p
            p = torch.where(total > 0, share / total.clamp(min=1), p)
        return p


def _find(keys: Tensor, wanted: Tensor, *values: Tensor) -> list[Tensor]:
    """Look numbers up in a sorted table; what it lacks has value 0."""
    at = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    found = keys[at] == wanted
    return [torch.where(found, value[at], 0).double() for value in values]
