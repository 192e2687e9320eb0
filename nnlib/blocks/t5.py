r"""T5's layers: RMSNorm before each part, no biases, and positions as numbers added to scores.

Chapter: chapters/sequence/seq2seq.md     Paper: Raffel et al. 2020
Axes: b batch, t positions of the target, s positions looked at, e model width, h heads.
"""

import math
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.rms_norm import RMSNorm


def relative_bucket(
    offset: Int[Tensor, "..."],
    *,
    bidirectional: bool = True,
    num_buckets: int = 32,
    max_distance: int = 128,
) -> Int[Tensor, "..."]:
    r"""Return which of T5's buckets a distance falls into: near ones have one each, far ones share.

    Half of the buckets (of each direction) are for the distances 0, 1, 2, …; the others grow by a
    constant factor up to `max_distance`, and the last takes all beyond (equation
    `seq2seq-t5-bucket`).

    Args:
        offset: place looked at less place that looks.
        bidirectional: whether later places have buckets of their own; else they share that of 0.
        num_buckets: how many there are, ≥ 4, even.
        max_distance: where the last bucket begins or before, larger than half of one direction.

    Example:
        >>> relative_bucket(torch.tensor([0, -1, -7, -8, -20, -200, 1])).tolist()
        [0, 1, 7, 8, 10, 15, 17]

    Source: Raffel et al. 2020, section 2.1, with the numbers of its code.
    """
    checks.tensor("offset", offset, floating=False)
    checks.flag("bidirectional", bidirectional)
    if checks.count("num_buckets", num_buckets, least=4) % 2:
        raise ValueError(f"num_buckets={num_buckets} must be even")
    each = num_buckets // 2 if bidirectional else num_buckets  # of one direction
    exact = each // 2
    if checks.count("max_distance", max_distance) <= exact:
        raise ValueError(f"max_distance={max_distance} must be larger than {exact}")
    distance = offset.abs() if bidirectional else (-offset).clamp(min=0)
    growth = (distance.clamp(min=1).float() / exact).log() / math.log(
        max_distance / exact
    )
    far = (exact + (growth * (each - exact)).long()).clamp(max=each - 1)
    bucket = torch.where(
        distance < exact, distance.long(), far
    )  # eq. seq2seq-t5-bucket
    return bucket + (offset > 0) * each if bidirectional else bucket


class RelativePositionBias(nn.Module):
    """A learned number for each head and bucket of distance, to be added to attention scores.

    T5 has one for all layers of its encoder, and one for all of its decoder.

    Args:
        num_heads: heads h, ≥ 1.
        bidirectional: True in an encoder; False in a decoder, which sees no later place.
        num_buckets: as in `relative_bucket`.
        max_distance: as in `relative_bucket`.
        device: of the numbers.
        dtype: of the numbers.

    Example:
        >>> RelativePositionBias(num_heads=4)(3, 5).shape
        torch.Size([1, 4, 3, 5])

    Source: Raffel et al. 2020, section 2.1.
    """

    def __init__(
        self,
        num_heads: int,
        bidirectional: bool = True,
        num_buckets: int = 32,
        max_distance: int = 128,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.bucket = partial(
            relative_bucket,
            bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance,
        )  # fmt: skip
        self.bucket(torch.zeros(1, dtype=torch.int64))  # refuses what does not fit
        h = checks.count("num_heads", num_heads)
        self.weight = nn.Parameter(
            torch.zeros(num_buckets, h, device=device, dtype=dtype)
        )

    def reset_parameters(self) -> None:
        """Begin anew with 0 for every distance."""
        nn.init.zeros_(self.weight)

    def forward(self, t: int, s: int) -> Float[Tensor, "1 h t s"]:
        """Return what is added for t places, the last of the s that are looked at."""
        t = checks.count("t", t)
        if checks.count("s", s) < t:
            raise ValueError(
                f"s={s} must be t={t} or more: the t places are the last of the s"
            )
        places = torch.arange(s, device=self.weight.device)
        offset = places[None] - places[s - t :, None]
        return self.weight[self.bucket(offset)].permute(2, 0, 1)[None]


class T5Layer(nn.Module):
    r"""A layer of T5: self-attention, attention to a memory if it is a decoder's, a network.

    RMSNorm stands before each part, nothing has a bias, and positions enter as numbers added to the
    scores (equations `seq2seq-t5-self`, `seq2seq-t5-cross`, `seq2seq-t5-network`).

    Args:
        embed_dim: model width e, ≥ 1.
        num_heads: heads, which divide e.
        dim_feedforward: width of the hidden layer, ≥ 1.
        reads_memory: whether it looks at an encoder's output, and is causal: a decoder's layer.
        dropout: probability of dropping, 0 … 1.
        layer_norm_eps: ε of the norms, ≥ 0.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = T5Layer(16, 4, 32, reads_memory=True)
        >>> layer(torch.zeros(2, 3, 16), torch.zeros(2, 7, 16)).shape
        torch.Size([2, 3, 16])

    Source: Raffel et al. 2020. Its scores are not divided by the root of a head's width, for which
    its first query weights are smaller by it; ours are, so a query weight of ours is theirs times
    the root, and the function is the same.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dim_feedforward: int = 2048,
        reads_memory: bool = False,
        dropout: float = 0.1,
        layer_norm_eps: float = 1e-6,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        e, f = embed_dim, checks.count("dim_feedforward", dim_feedforward)
        self.reads_memory = checks.flag("reads_memory", reads_memory)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        attend = partial(
            MultiHeadAttention, e, num_heads, bias=False, dropout=dropout, **like
        )
        norm = partial(RMSNorm, e, eps=layer_norm_eps, **like)
        self.self_attn, self.norm1 = attend(), norm()
        if reads_memory:
            self.cross_attn, self.norm2 = attend(), norm()
        self.linear1 = nn.Linear(e, f, bias=False, **like)
        self.linear2 = nn.Linear(f, e, bias=False, **like)
        self.norm3 = norm()
        self.dropout = nn.Dropout(dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights as T5 does: outputs as large as inputs; norms begin with 1."""
        for weight in self.parameters():
            if weight.ndim == 2:
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
            else:
                nn.init.ones_(weight)

    def forward(
        self,
        x: Float[Tensor, "b t e"],
        memory: Float[Tensor, "b s e"] | None = None,
        *,
        bias: Float[Tensor, "_ h t t"] | None = None,
        key_mask: Bool[Tensor, "b t"] | None = None,
        memory_key_mask: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Return new vectors, one a position.

        Args:
            x: an encoder's or decoder's vectors.
            memory: the encoder's output, for a decoder's layer.
            bias: what `RelativePositionBias` returned.
            key_mask: True at real tokens of `x`.
            memory_key_mask: True at real tokens of the memory.

        Raises:
            ValueError: a memory for a layer that reads none, or none for one that does.
        """
        if (memory is not None) != self.reads_memory:
            wanted = "a tensor" if self.reads_memory else "None"
            given = "None" if memory is None else "a tensor"
            raise ValueError(f"memory must be {wanted} with this layer, got {given}")
        found = self.self_attn(
            self.norm1(x), mask=bias, key_mask=key_mask, is_causal=self.reads_memory
        )
        x = x + self.dropout(found)  # eq. seq2seq-t5-self
        if memory is not None:
            found = self.cross_attn(self.norm2(x), memory, key_mask=memory_key_mask)
            x = x + self.dropout(found)  # eq. seq2seq-t5-cross
        hidden = self.dropout(self.linear1(self.norm3(x)).relu())
        return x + self.dropout(self.linear2(hidden))  # eq. seq2seq-t5-network
