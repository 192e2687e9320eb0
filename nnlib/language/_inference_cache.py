"""A cache of keys and values in few bits.

Part of `nnlib.language.inference`, with its axes.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache


class Quantized(NamedTuple):
    """Numbers in few bits: codes, and for each group of them a step and a lowest value.

    Args:
        codes: eight bits hold one code, two or four.
        scale: the step of each group.
        low: the lowest value of each group.
        bits: of a code: 2, 4 or 8.
        per: "token" or "channel": what a group of numbers belongs to.
    """

    codes: UInt8[Tensor, "..."]
    scale: Float[Tensor, "..."]
    low: Float[Tensor, "..."]
    bits: int
    per: str

    def dequantize(self) -> Float[Tensor, "b g s d"]:
        """Return the numbers that the codes stand for: equation `inference-dequantize`."""
        shifts = torch.arange(0, 8, self.bits, device=self.codes.device)
        codes = self.codes[..., None] >> shifts & (1 << self.bits) - 1
        return codes.flatten(-2).to(self.scale.dtype) * self.scale + self.low

    @property
    def bytes(self) -> int:
        """Memory of codes, steps and lowest values together."""
        parts = (self.codes, self.scale, self.low)
        return sum(part.numel() * part.element_size() for part in parts)


def quantize_cache(
    x: Float[Tensor, "b g s d"], bits: int = 8, per: str = "token"
) -> Quantized:
    r"""Return keys or values in few bits: equation `inference-quantize`.

    The range of each group is cut into $2^{\text{bits}} - 1$ steps. A group is what one token has
    in one head, or what one channel has over all tokens that are given.

    Args:
        x: keys or values; finite, and so many channels that their codes fill bytes.
        bits: 2, 4 or 8.
        per: "token" or "channel".

    Example:
        >>> kept = quantize_cache(torch.randn(1, 2, 16, 32), bits=4)
        >>> kept.codes.shape, kept.bytes, kept.dequantize().shape
        (torch.Size([1, 2, 16, 16]), 768, torch.Size([1, 2, 16, 32]))

    Source: Liu et al. 2024 (KIVI); Hooper et al. 2024 (KVQuant).
    """
    checks.tensor(
        "x", x, shape=("b", "g", "s", "d"), floating=True, finite=True, empty=False
    )
    checks.one_of("bits", bits, (2, 4, 8))
    checks.one_of("per", per, ("token", "channel"))
    a_byte = 8 // bits
    if x.shape[-1] % a_byte:
        raise ValueError(
            f"bits={bits} needs a multiple of {a_byte} channels, got {x.shape[-1]}"
        )
    dim = -1 if per == "token" else -2
    low, high = x.amin(dim, keepdim=True), x.amax(dim, keepdim=True)
    scale = (high - low) / ((1 << bits) - 1)
    steps = (x - low) / torch.where(scale > 0, scale, 1)
    codes = (
        steps.round().to(torch.uint8).unflatten(-1, (-1, a_byte))
    )  # eq. inference-quantize
    shifts = torch.arange(0, 8, bits, device=x.device)
    packed = (codes << shifts).sum(-1).to(torch.uint8)
    return Quantized(packed, scale, low, bits, per)


class QuantizedKVCache(KVCache):
    """A `KVCache` in few bits, taken by any model that takes that one.

    Tokens wait in full precision until `group` of them have come, and are then rounded together:
    keys by channel, since a few channels are large in every token, and values by token.

    For use without gradients.

    Args:
        max_length: the number of positions there is room for, ≥ 1.
        bits: of a number: 2, 4 or 8.
        group: tokens that are rounded together, ≥ 1.
        keys: what a group of keys belongs to, "channel" or "token".
        values: likewise of values.

    Example:
        >>> cache = QuantizedKVCache(max_length=64, bits=4, group=8)
        >>> k, v = cache.append(torch.randn(1, 2, 20, 16), torch.randn(1, 2, 20, 16))
        >>> cache.length, k.shape, cache.waiting
        (20, torch.Size([1, 2, 20, 16]), 4)

    Source: Liu et al. 2024 (KIVI), whose G is our group.
    """

    def __init__(
        self,
        max_length: int,
        bits: int = 8,
        group: int = 32,
        *,
        keys: str = "channel",
        values: str = "token",
    ):
        super().__init__(max_length)
        self.bits = checks.one_of("bits", bits, (2, 4, 8))
        self.group = checks.count("group", group)
        self.per = tuple(
            checks.one_of(name, per, ("token", "channel"))
            for name, per in (("keys", keys), ("values", values))
        )
        self._kept: tuple[list[Quantized], list[Quantized]] = ([], [])
        self._rest: tuple[Tensor, Tensor] | None = None

    @property
    def waiting(self) -> int:
        """Tokens that are still in full precision."""
        return 0 if self._rest is None else self._rest[0].shape[2]

    def append(
        self, k: Float[Tensor, "b g t d"], v: Float[Tensor, "b g t d"]
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s d"]]:
        """Add new positions at the end, and return all so far as the codes have them."""
        checks.tensor("k", k, shape=("b", "g", "t", "d"), floating=True)
        checks.tensor("v", v, shape=tuple(k.shape), floating=True)
        if self.length + k.shape[2] > self.max_length:
            raise ValueError(
                f"max_length={self.max_length} has room for {self.max_length - self.length} more "
                f"positions, got {k.shape[2]}"
            )
        if self._rest is not None:
            b, g, _, d = self._rest[0].shape
            checks.tensor("k", k, shape=(b, g, "t", d))
        rest = (k, v) if self._rest is None else tuple(
            torch.cat(pair, 2) for pair in zip(self._rest, (k, v), strict=True)
        )  # fmt: skip
        full = rest[0].shape[2] // self.group * self.group
        for at in range(0, full, self.group):
            for kept, store, per in zip(self._kept, rest, self.per, strict=True):
                part = store[:, :, at : at + self.group]
                kept.append(quantize_cache(part, self.bits, per))
        self._rest = (rest[0][:, :, full:], rest[1][:, :, full:])
        self.length += k.shape[2]
        every = [
            torch.cat([*(part.dequantize() for part in kept), store], 2)
            for kept, store in zip(self._kept, self._rest, strict=True)
        ]
        return every[0], every[1]

    @property
    def bytes(self) -> int:
        """Memory of the codes, of their steps and lowest values, and of what waits."""
        waits = [] if self._rest is None else list(self._rest)
        kept = sum(part.bytes for parts in self._kept for part in parts)
        return kept + sum(part.numel() * part.element_size() for part in waits)
