"""Words as bags of letter groups, so that one that was never seen has a vector too (fastText).

Axes: v words, g letter groups of the longest word, d numbers of a vector.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks

_START, _PRIME = 2166136261, 16777619  # of the hash FNV-1a with 32 bits


def letter_groups(word: str, shortest: int = 3, longest: int = 6) -> list[str]:
    """Return the groups of letters of a word, with < and > at its ends.

    Args:
        word: of one letter or more.
        shortest: letters of a group, ≥ 1.
        longest: letters of a group, ≥ `shortest`.

    Example:
        >>> letter_groups("where", 3, 3)
        ['<wh', 'whe', 'her', 'ere', 're>']

    Source: Bojanowski et al. 2017. Single marks < and > are no groups, as in the authors' code.
    """
    if not isinstance(word, str) or not word:
        raise ValueError(f"word={word!r} must be a string of one letter or more")
    shortest = checks.count("shortest", shortest)
    longest = checks.count("longest", longest, least=shortest)
    marked = f"<{word}>"
    return [
        marked[at : at + size]
        for at in range(len(marked))
        for size in range(shortest, longest + 1)
        if at + size <= len(marked) and not (size == 1 and at in (0, len(marked) - 1))
    ]


def bucket(group: str, num_buckets: int) -> int:
    """Return the row of a group of letters: its hash FNV-1a, modulo the number of rows.

    Bytes beyond 127 count as negative numbers, as they do in fastText, so that its files can be
    read.

    Example:
        >>> bucket("<wh", 2_000_000)
        167652
    """
    if not isinstance(group, str):
        raise TypeError(f"group={group!r} must be a string")
    found = _START
    for byte in group.encode():
        signed = byte if byte < 128 else byte - 256
        found = ((found ^ (signed & 0xFFFFFFFF)) * _PRIME) & 0xFFFFFFFF
    return found % checks.count("num_buckets", num_buckets)


class FastText(nn.Module):
    r"""Input vectors made of letter groups: the mean of a word's own vector and its groups'.

    $\mathbf v_w = \frac{1}{1 + |G_w|} \bigl(\mathbf z_w + \sum_{g \in G_w} \mathbf z_g\bigr)$
    (equation `word2vec-subwords`). The paper adds; the mean, which its code and gensim take, has
    the same direction. `train` learns it with skip-gram, as it does a `Word2Vec`.

    Args:
        words: of the vocabulary, two or more.
        embed_dim: numbers of a vector, ≥ 1.
        num_buckets: rows that groups share by their hash, ≥ 1.
        shortest: letters of a group, ≥ 1.
        longest: letters of a group, ≥ `shortest`.

    Example:
        >>> model = FastText(["matrix", "matrices"], embed_dim=8, num_buckets=100)
        >>> model.of("matricks").shape
        torch.Size([8])

    Source: Bojanowski, Grave, Joulin and Mikolov 2017, Enriching word vectors with subword
    information.
    """

    rows: Tensor
    share: Tensor

    def __init__(
        self,
        words: Sequence[str],
        embed_dim: int = 100,
        *,
        num_buckets: int = 2_000_000,
        shortest: int = 3,
        longest: int = 6,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if isinstance(words, str) or not isinstance(words, Sequence):
            raise TypeError(f"words={words!r} must be a list of words")
        if len(words) < 2 or len(set(words)) < len(words):
            raise ValueError("words must hold two different words or more, each once")
        self.words = list(words)
        self.embed_dim = checks.count("embed_dim", embed_dim)
        self.num_buckets = checks.count("num_buckets", num_buckets)
        self.shortest, self.longest = shortest, longest
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        lists = [[at, *self.groups(word)] for at, word in enumerate(self.words)]
        widest = max(map(len, lists))
        rows = torch.tensor([row + [0] * (widest - len(row)) for row in lists])
        lengths = torch.tensor([[len(row)] for row in lists])
        share = (torch.arange(widest) < lengths).double() / lengths
        self.register_buffer("rows", rows.to(device))
        self.register_buffer(
            "share", share.to(device, dtype or torch.get_default_dtype())
        )
        self.in_vectors = nn.Parameter(
            torch.empty(len(words) + num_buckets, embed_dim, **like)
        )
        self.out_vectors = nn.Parameter(torch.empty(len(words), embed_dim, **like))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw input vectors between ±1/(2d), and set the output vectors to zero."""
        nn.init.uniform_(self.in_vectors, -0.5 / self.embed_dim, 0.5 / self.embed_dim)
        nn.init.zeros_(self.out_vectors)

    def groups(self, word: str) -> list[int]:
        """Return the rows of a word's letter groups, which lie behind those of the words."""
        found = letter_groups(word, self.shortest, self.longest)
        return [len(self.words) + bucket(group, self.num_buckets) for group in found]

    def forward(self, words: Int[Tensor, " b"]) -> Float[Tensor, "b d"]:
        """Return the input vectors of words of the vocabulary."""
        checks.tokens(
            "words", words, len(self.words), shape=("b",), empty=True, of="words"
        )
        parts = self.in_vectors[self.rows[words]]
        return torch.einsum(
            "bg,bgd->bd", self.share[words], parts
        )  # eq. word2vec-subwords

    @property
    def vectors(self) -> Float[Tensor, "v d"]:
        """The vectors of all words of the vocabulary."""
        return self(torch.arange(len(self.words), device=self.rows.device)).detach()

    @torch.no_grad()
    def of(self, word: str) -> Float[Tensor, " d"]:
        """Return the vector of any word: of one never seen, the mean of its letter groups."""
        if word in self.words:
            at = torch.tensor([self.words.index(word)], device=self.rows.device)
            return self(at)[0]
        rows = self.groups(word)
        if not rows:
            raise ValueError(
                f"word={word!r} was never seen, and has no group of letters"
            )
        return self.in_vectors[rows].mean(0)
