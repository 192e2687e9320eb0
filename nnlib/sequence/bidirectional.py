r"""Bidirectional network: one walk from the start, one from the end, and both known everywhere.

Chapter: chapters/sequence/bidirectional.md     Paper: Schuster and Paliwal 1997
Axes: b batch, t time, d input features, h hidden features, v vocabulary.
"""

from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.padding import mask_of
from nnlib.blocks.recurrent import Carried
from nnlib.sequence.lstm import LSTM

MERGES = {
    "concat": lambda ahead, back: torch.cat([ahead, back], -1),
    "sum": lambda ahead, back: ahead + back,
    "mean": lambda ahead, back: (ahead + back) / 2,
    "product": lambda ahead, back: ahead * back,
}


def reverse(
    x: Shaped[Tensor, "b t *d"], lengths: Int[Tensor, " b"] | None = None
) -> Shaped[Tensor, "b t *d"]:
    r"""Return each sequence from its last real step to its first; padding stays where it is.

    Step t of n takes the place n + 1 − t (equation `bidirectional-reverse`); twice is not at all.

    Args:
        x: sequences, batch first, of vectors or of tokens.
        lengths: real steps of each, 1 … t; None is all of them.

    Example:
        >>> x = torch.tensor([[[1.0], [2.0], [0.0]]])
        >>> reverse(x, torch.tensor([2])).flatten().tolist()
        [2.0, 1.0, 0.0]
    """
    checks.tensor(
        "x", x, shape=("b", "t") if getattr(x, "ndim", 0) == 2 else ("b", "t", "d")
    )
    if lengths is None:
        return x.flip(1)
    checks.lengths("lengths", lengths, *x.shape[:2])
    lengths = lengths.to(x.device)
    at = torch.arange(x.shape[1], device=x.device)
    real = mask_of(lengths, x.shape[1])
    rows = torch.where(real, lengths[:, None] - 1 - at, at)  # eq. bidirectional-reverse
    return x.gather(1, rows if x.ndim == 2 else rows[..., None].expand_as(x))


class Bidirectional(nn.Module):
    r"""$[\overrightarrow h_t; \overleftarrow h_t]$: two recurrent layers, one read backwards.

    Equations `bidirectional-forward`, `bidirectional-backward`, `bidirectional-output`.

    Args:
        forward_layer: a recurrent layer called as `layer(x, lengths=lengths) -> (outputs, state)`,
            batch first, such as `LSTM(8, 16)`.
        backward_layer: another; it may be of another kind and, if joined by "concat", size.
        merge: how the two states of a step are joined: "concat", "sum", "mean" or "product".

    Example:
        >>> from nnlib.sequence.rnn import RNN
        >>> Bidirectional(RNN(3, 4), RNN(3, 4))(torch.zeros(2, 5, 3))[0].shape
        torch.Size([2, 5, 8])

    Source: Schuster and Paliwal 1997.
    """

    bidirectional = True

    def __init__(
        self, forward_layer: nn.Module, backward_layer: nn.Module, merge: str = "concat"
    ):
        super().__init__()
        for name, layer in (
            ("forward_layer", forward_layer),
            ("backward_layer", backward_layer),
        ):
            if not isinstance(layer, nn.Module):
                raise TypeError(
                    f"{name} must be a recurrent layer, got {type(layer).__name__}"
                )
            if getattr(layer, "bidirectional", False):
                raise ValueError(f"{name} must read one way, got bidirectional=True")
            if not getattr(layer, "batch_first", True):
                raise ValueError(
                    f"{name} must have the batch first, got batch_first=False"
                )
        self.merge = checks.one_of("merge", merge, MERGES)
        sizes = ["input_size"] if merge == "concat" else ["input_size", "hidden_size"]
        for size in sizes:
            wanted, got = getattr(forward_layer, size), getattr(backward_layer, size)
            if got != wanted:
                raise ValueError(
                    f"backward_layer must have {size}={wanted} like forward_layer, got {got}"
                )
        self.input_size = forward_layer.input_size
        self.forward_layer, self.backward_layer = forward_layer, backward_layer

    def forward(
        self, x: Float[Tensor, "b t d"], lengths: Int[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b t h2"], tuple[Carried, Carried]]:
        """Return the outputs b t 2h (b t h unless joined by "concat"), and both final states.

        Args:
            x: sequences, batch first.
            lengths: real steps of each, in any order; outputs after them are 0.
        """
        ahead, last = self.forward_layer(
            x, lengths=lengths
        )  # eq. bidirectional-forward
        back, first = self.backward_layer(reverse(x, lengths), lengths=lengths)
        back = reverse(back, lengths)  # eq. bidirectional-backward
        return MERGES[self.merge](ahead, back), (
            last,
            first,
        )  # eq. bidirectional-output


class GapFiller(nn.Module):
    r"""$p(x_t \mid \text{others}) = \mathrm{softmax}(U[\vec h_{t-1}; \overleftarrow h_{t+1}] + c)$.

    The walk from the left is read before it has met the token, and so is the walk from the right:
    one pass asks for every token of a sequence (equation `bidirectional-gap`).

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: numbers that stand for a token, ≥ 1.
        hidden_size: features h of each walk, ≥ 1.
        sides: "both", or only the "left" or the "right" of the gap.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> GapFiller(28, 8, 16)(torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 28])

    Source: Schuster and Paliwal 1997; one layer a side, LSTMs.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        hidden_size: int,
        sides: str = "both",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.vocab_size = checks.count("vocab_size", vocab_size)
        checks.count("embed_dim", embed_dim)
        checks.count("hidden_size", hidden_size)
        self.sides = checks.one_of("sides", sides, ("both", "left", "right"))
        where: Any = {"device": device, "dtype": dtype}
        self.token_embedding = nn.Embedding(vocab_size, embed_dim, **where)
        self.left = LSTM(embed_dim, hidden_size, **where) if sides != "right" else None
        self.right = LSTM(embed_dim, hidden_size, **where) if sides != "left" else None
        self.readout = nn.Linear(
            hidden_size * (2 if sides == "both" else 1), vocab_size, **where
        )

    def forward(
        self, tokens: Int[Tensor, "b t"], lengths: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of every token, given all the others of its sequence.

        Args:
            tokens: numbers 0 … v − 1, padding included.
            lengths: real tokens of each sequence; the logits after them mean nothing.
        """
        checks.tokens("tokens", tokens, self.vocab_size)
        x, known = self.token_embedding(tokens), []
        if self.left is not None:
            known.append(_before(self.left(x)[0]))
        # padding comes last in both walks, so none of them needs it
        if self.right is not None:
            known.append(reverse(_before(self.right(reverse(x, lengths))[0]), lengths))
        return self.readout(torch.cat(known, -1))  # eq. bidirectional-gap


def _before(states: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h"]:
    """Return what was known just before each step: the state one step earlier, at first zero."""
    return F.pad(states[:, :-1], (0, 0, 1, 0))
