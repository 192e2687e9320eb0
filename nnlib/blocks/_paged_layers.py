"""The layers of a `PagedKVCache` as models take them: what is read and written at each step.

Part of `nnlib.blocks.paged_kv_cache`, with its axes.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.types import Device

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache
from nnlib.kernels.attention import attention
from nnlib.kernels.paged_attention import paged_attention

if TYPE_CHECKING:
    from nnlib.blocks.paged_kv_cache import PagedKVCache, Places

NO_GRADIENT = (
    "a paged cache keeps no gradients: call what writes to it under torch.no_grad()"
)


class Step(NamedTuple):
    """What is the same for all layers when a model reads its next tokens."""

    end: int  # columns read after it
    positions: Tensor  # of the tokens, b t
    real: Tensor | None  # which of them are no padding, b t; None: all
    begins: bool  # whether nothing was read before
    places: "Places"
    table: Tensor
    lengths: Tensor


class Steps:
    """The steps of a model through its layers: the first to ask makes a step for all."""

    def __init__(self, cache: "PagedKVCache", sequences: list[int]):
        self.cache, self.sequences = cache, sequences
        self.last: Step | None = None
        self.columns = int(cache._lengths_of(sequences).max(initial=0))

    def step(self, start: int, t: int, key_mask: Tensor | None) -> Step:
        """Return the step that reads t columns from `start` on."""
        if self.last is not None and self.last.end == start + t:
            return self.last
        if start != self.columns:
            raise RuntimeError(
                f"a layer that has read {start} positions is asked for the next, while others "
                f"have read {self.columns}: take new caches after a step that failed"
            )
        if torch.is_grad_enabled():
            raise RuntimeError(NO_GRADIENT)
        cache, sequences = self.cache, self.sequences
        begins = not cache._lengths_of(sequences).any()
        real, counts = None, [t] * len(sequences)
        if key_mask is not None:
            real = key_mask[:, -t:]
            if not bool((real[:, :-1] <= real[:, 1:]).all()):
                raise ValueError("key_mask must have its padding on the left")
            counts = real.sum(1).tolist()
            real = None if bool(real.all()) else real
        places = cache.reserve(sequences, counts)
        lengths = cache.lengths(sequences)
        ahead = torch.arange(1 - t, 1, device=lengths.device)
        self.columns = start + t
        self.last = Step(
            self.columns, (lengths[:, None] - 1 + ahead).clamp(min=0), real, begins, places,
            cache.block_table(sequences), lengths,
        )  # fmt: skip
        return self.last


class PagedLayer(KVCache):
    """One layer of a `PagedKVCache`, as models take it; `PagedKVCache.caches` makes them.

    Args:
        steps: what its layers share.
        layer: its number.
    """

    def __init__(self, steps: Steps, layer: int):
        self._steps, self._layer = steps, layer
        cache = steps.cache
        self.max_length = cache.num_blocks * cache.block_size
        self.length = steps.columns

    @property
    def bytes(self) -> int:
        """Memory that the store takes for this layer."""
        return self._steps.cache.bytes // self._steps.cache.num_layers

    def positions(
        self, t: int, key_mask: Bool[Tensor, "b s"] | None = None, device: Device = None
    ) -> Int[Tensor, "b t"]:
        """Return at which position of its own sequence each of the next t tokens stands."""
        return self._steps.step(self.length, t, key_mask).positions.to(device)

    def append(
        self, k: Float[Tensor, "b g t d"], v: Float[Tensor, "b g t d"]
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s d"]]:
        """Add new positions at the end and return all so far, gathered into one piece.

        For models that look at a cache themselves; sequences must then be of one length.
        """
        self._write(k, v, None)
        cache, sequences = self._steps.cache, self._steps.sequences
        k, v, real = cache.gather(sequences, self._layer)
        if not bool(real.all()):
            raise ValueError(
                f"sequences must have one length, got {cache.lengths(sequences).tolist()}"
            )
        return k, v

    def attend(
        self,
        q: Float[Tensor, "b h t d"],
        k: Float[Tensor, "b g t d"],
        v: Float[Tensor, "b g t d"],
        *,
        is_causal: bool = True,
        window: int | None = None,
        scale: float | None = None,
        key_mask: Bool[Tensor, "b s"] | None = None,
        dropout: float = 0.0,
    ) -> Float[Tensor, "b h t d"]:
        """Add new positions and return what queries there gather from all so far.

        One query a sequence goes to `paged_attention`, more of them to `attention` over keys in one
        piece.

        Args:
            q: queries of the new positions.
            k: their keys.
            v: their values.
            is_causal: True, since what is kept cannot see what comes later.
            window: how many keys up to its own a query sees, or None for all.
            scale: what scores are multiplied by; None is 1/√d.
            key_mask: True at real tokens, False at padding, which is on the left and not kept. What
                it says of earlier positions was said when they were read.
            dropout: 0, since nothing is learned here.
        """
        checks.one_of("is_causal", is_causal, (True,))
        checks.one_of("dropout", dropout, (0,))
        checks.tensor("q", q, shape=(k.shape[0], "h", k.shape[2], k.shape[3]))
        step = self._write(k, v, key_mask)
        cache, sequences = self._steps.cache, self._steps.sequences
        if q.shape[2] == 1:
            store = cache.store[self._layer]
            out = paged_attention(
                q[:, :, 0], store, step.table, step.lengths, window=window, scale=scale
            )
            return out[:, :, None]
        real = step.real
        if not step.begins:
            k, v, real = cache.gather(sequences, self._layer)
        return attention(
            q, k, v, is_causal=True, window=window, scale=scale, key_mask=real
        )

    def _write(self, k: Tensor, v: Tensor, key_mask: Tensor | None) -> Step:
        steps, cache = self._steps, self._steps.cache
        wanted = (len(steps.sequences), cache.num_kv_heads, "t", cache.head_dim)
        t = cache._fitting("k", k, wanted).shape[2]
        cache._fitting("v", v, tuple(k.shape))
        step = steps.step(self.length, t, key_mask)
        k, v = k.transpose(1, 2), v.transpose(1, 2)
        new = (x.flatten(0, 1) if step.real is None else x[step.real] for x in (k, v))
        cache.write(self._layer, step.places, *new)
        self.length = step.end
        return step
