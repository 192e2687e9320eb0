r"""Numbers in few bits: a grid with a scale for all, for each row or for each group; and NF4.

Chapter: chapters/kernels/quantized_matmul.md     Source: Dettmers et al. 2022; Dettmers et al. 2023
Axes: any; groups lie along the last one, and the blocks of NF4 along all entries in a row.

Rounding to a grid of step s errs by at most s/2, so what matters is how many numbers must share one
s: the largest of them decides it. A symmetric grid has 2^b - 1 levels with zero in the middle; an
asymmetric one has 2^b between the smallest and the largest, and a zero point that keeps zero exact.
NF4's sixteen levels are not evenly spaced: they lie close where normally distributed weights do.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Integer, UInt8
from torch import Tensor

from nnlib import checks

BLOCK_SIZES = tuple(2**k for k in range(4, 13))  # of NF4: 16 … 4096
ABSMAX_GROUP = (
    256  # blocks whose scales share one of their own when they are quantised as well
)
OFFSET = 0.9677083  # the outermost quantile of NF4, ½(31/32 + 29/30) as their program rounds it


class Quantized(NamedTuple):
    """Numbers on a grid: x ≈ scale · values, or scale · (values − zero_point).

    Args:
        values: int8 on a symmetric grid, uint8 on an asymmetric one; of the shape of x.
        scale: the step. No axes for one scale in all, else one entry in place of each group
            along the last axis.
        zero_point: what stands for zero, uint8 and shaped as `scale`; None if symmetric.
        bits: of a number, 2 … 8.
        group_size: entries along the last axis that share a scale; None for a whole row or all.
    """

    values: Integer[Tensor, "..."]
    scale: Float[Tensor, "..."]
    zero_point: UInt8[Tensor, "..."] | None
    bits: int
    group_size: int | None

    @property
    def bytes(self) -> int:
        """Memory when stored: values and zero points packed, scales as they are."""
        zeros = 0 if self.zero_point is None else self.zero_point.numel()
        packed = sum(
            -(-count * self.bits // 8) for count in (self.values.numel(), zeros)
        )
        return packed + self.scale.numel() * self.scale.element_size()


class NF4(NamedTuple):
    """A weight of four bits a number: places in a table of levels, and a largest value a block.

    Args:
        codes: two a byte, the first in the high half, over all entries of the weight in a row.
        absmax: the largest magnitude of each block, float32; or, if doubled, its int8 codes.
        absmax_scale: if doubled, the step of each 256 of those codes; else None.
        absmax_offset: if doubled, the mean that was taken off before; else None.
        shape: of the weight.
        dtype: of the weight.
        block_size: entries that share an absmax; the last block may be shorter.
    """

    codes: UInt8[Tensor, "c"]
    absmax: Tensor
    absmax_scale: Float[Tensor, "g"] | None
    absmax_offset: Float[Tensor, ""] | None
    shape: tuple[int, ...]
    dtype: torch.dtype
    block_size: int

    @property
    def bytes(self) -> int:
        """Memory of codes and scales together."""
        parts = (self.codes, self.absmax, self.absmax_scale, self.absmax_offset)
        return sum(
            part.numel() * part.element_size() for part in parts if part is not None
        )


# ------------------------------------------------------------------------------------------- grids
def quantize(
    x: Float[Tensor, "..."],
    bits: int = 8,
    granularity: str = "row",
    group_size: int | None = None,
    symmetric: bool = True,
) -> Quantized:
    r"""Round numbers to a grid of few bits, half to even.

    Symmetric: $s = \max|x| / (2^{b-1} - 1)$ and $q = \mathrm{round}(x / s)$, within
    $\pm(2^{b-1} - 1)$. Asymmetric: $s = (\max x - \min x) / (2^b - 1)$, both taken with 0 among
    them, and $q = \mathrm{round}(x / s) + z$ with $z = \mathrm{round}(-\min x / s)$.

    Numbers that are all zero get the scale 1. Nothing here has a gradient.

    Args:
        x: floating point and finite.
        bits: of a number, 2 … 8.
        granularity: which numbers share a scale: "tensor" (all), "row" (those along the last
            axis) or "group" (each `group_size` along the last axis).
        group_size: of "group", which must divide the last axis; None otherwise.
        symmetric: whether the grid is symmetric about zero.

    Returns:
        Codes and scales; scales are float32, or float64 where x is.

    Example:
        >>> q = quantize(torch.tensor([[0.6, -1.0, 0.2], [30.0, 10.0, 0.0]]), bits=3)
        >>> q.values.tolist(), q.bytes
        ([[2, -3, 1], [3, 1, 0]], 11)
        >>> dequantize(q)
        tensor([[ 0.6667, -1.0000,  0.3333],
                [30.0000, 10.0000,  0.0000]])

    Source: Jacob et al. 2018; row by row: Dettmers et al. 2022.
    """
    checks.tensor("x", x, floating=True, finite=True)
    bits = _bits(bits)
    checks.one_of("granularity", granularity, ("tensor", "row", "group"))
    checks.flag("symmetric", symmetric)
    grouped = _grouped(_wide(x.detach()), granularity, group_size)
    top = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
    if symmetric:
        scale = _step(_extreme(grouped.abs(), torch.amax) / top)
        codes = (grouped / scale).round().clamp(-top, top).to(torch.int8)
        zero = None
    else:
        low = _extreme(grouped, torch.amin).clamp(max=0)
        high = _extreme(grouped, torch.amax).clamp(min=0)
        scale = _step(high / top - low / top)
        zero = (-low / scale).round()
        codes = ((grouped / scale).round() + zero).clamp(0, top).to(torch.uint8)
    shape = () if granularity == "tensor" else grouped.shape[:-1]
    if granularity == "row":
        shape = (*shape, 1)
    return Quantized(
        codes.reshape(x.shape),
        scale.reshape(shape),
        None if zero is None else zero.reshape(shape).to(torch.uint8),
        bits,
        group_size,
    )


def dequantize(q: Quantized) -> Float[Tensor, "..."]:
    """Return the numbers that the codes stand for, in the dtype of their scales.

    Args:
        q: what `quantize` returned.

    Example:
        >>> x = torch.tensor([-0.3, 0.0, 0.9])
        >>> dequantize(quantize(x, bits=2, symmetric=False))
        tensor([-0.4000,  0.0000,  0.8000])
    """
    if not isinstance(q, Quantized):
        raise TypeError(f"q must be a Quantized, got {type(q).__name__}")
    codes, scale, zero = q.values.to(q.scale.dtype), q.scale, q.zero_point
    if q.group_size is not None:
        codes, scale = codes.unflatten(-1, (-1, q.group_size)), scale[..., None]
        zero = None if zero is None else zero[..., None]
    if zero is not None:
        codes = codes - zero
    return (codes * scale).reshape(q.values.shape)


def pack(codes: Integer[Tensor, "..."], bits: int) -> UInt8[Tensor, "c"]:
    """Return codes side by side in bytes, the first in the lowest bits.

    Args:
        codes: integers of `bits` bits; negative ones as two's complement.
        bits: of a code, 2 … 8. Codes of 3, 5, 6 or 7 bits may lie across two bytes.

    Example:
        >>> pack(torch.tensor([1, 2, 3, 0, -1]), bits=2)
        tensor([57,  3], dtype=torch.uint8)
    """
    checks.tensor("codes", codes, floating=False)
    bits = _bits(bits)
    places = torch.arange(bits, device=codes.device)
    row = (codes.flatten()[:, None].int() >> places & 1).flatten()
    row = torch.nn.functional.pad(row, (0, -len(row) % 8)).view(-1, 8)
    return (row << torch.arange(8, device=codes.device)).sum(-1).to(torch.uint8)


def unpack(packed: UInt8[Tensor, "c"], bits: int, count: int) -> UInt8[Tensor, "n"]:
    """Return the first `count` codes of what `pack` made, as numbers from 0 on.

    Args:
        packed: bytes.
        bits: of a code, 2 … 8.
        count: how many codes to read, ≥ 0.

    Example:
        >>> unpack(pack(torch.tensor([1, 2, 3, 0, 3]), bits=2), bits=2, count=5)
        tensor([1, 2, 3, 0, 3], dtype=torch.uint8)
    """
    checks.tensor("packed", packed, shape=("c",))
    if packed.dtype != torch.uint8:
        raise TypeError(f"packed must hold uint8, got {packed.dtype}")
    bits, count = _bits(bits), checks.count("count", count, least=0)
    if count * bits > 8 * len(packed):
        raise ValueError(
            f"count={count} codes of {bits} bits are more than {len(packed)} bytes"
        )
    row = (packed[:, None] >> torch.arange(8, device=packed.device) & 1).flatten()
    row = row[: count * bits].view(count, bits).int()
    return (row << torch.arange(bits, device=packed.device)).sum(-1).to(torch.uint8)


# --------------------------------------------------------------------------------------------- NF4
def _quantiles() -> list[float]:
    """Return the levels, rounded wherever bitsandbytes' program rounds to float32."""
    places = (torch.linspace(OFFSET, 0.5, n + 1)[:-1] for n in (8, 7))
    above, below = (torch.special.ndtri(p.double()) for p in places)
    levels = torch.cat([-below, torch.zeros(1), above.flip(0)]).float()
    return (levels / levels[-1]).tolist()


_LEVELS = _quantiles()


def nf4_levels() -> Float[Tensor, "16"]:
    r"""Return the sixteen levels of NF4, from −1 to 1: quantiles of the normal distribution.

    With Q its inverse distribution function and δ = ½(31/32 + 29/30), eight levels above zero are
    $Q(p)/Q(\delta)$ for p from δ down to ½ in eight equal steps (½ itself left out), seven below
    are $-Q(p)/Q(\delta)$ in seven steps, and one is zero.

    Example:
        >>> nf4_levels()[[0, 7, 8, 15]]
        tensor([-1.0000,  0.0000,  0.0796,  1.0000])

    Source: Dettmers et al. 2023, with the offset of their program.
    """
    return torch.tensor(_LEVELS, dtype=torch.float32)


def nf4_quantize(
    weight: Float[Tensor, "..."], block_size: int = 64, double: bool = False
) -> NF4:
    r"""Round a weight to NF4: each block by its largest magnitude, then to the nearest level.

    $w \approx c_b\, \ell_k$ with $c_b = \max_b |w|$ and the level $\ell_k$ that is nearest to
    $w / c_b$. Takes 4 + 32/64 = 4.5 bits a number. Doubled, the mean is taken off the $c_b$, and
    they are rounded to 8 bits, each 256 of them on a grid of their own: 4.127 bits.

    Args:
        weight: floating point and finite, of any shape.
        block_size: numbers that share a scale: 16, 32, … 4096.
        double: whether the scales are quantised as well.

    Example:
        >>> q = nf4_quantize(torch.tensor([[1.0, -0.5], [0.1, 0.0]]), block_size=16)
        >>> q.codes.tolist(), q.bytes
        ([242, 135], 6)
        >>> nf4_dequantize(q)
        tensor([[ 1.0000, -0.5251],
                [ 0.0796,  0.0000]])

    Source: Dettmers et al. 2023 (QLoRA). Codes lie in bytes as in their program. Theirs rounds the
        scales to a table of 8-bit floats, ours to an even grid.
    """
    checks.tensor("weight", weight, floating=True)
    row = checks.tensor("weight", weight.detach().float().flatten(), finite=True)
    checks.count("block_size", block_size)
    checks.one_of("block_size", block_size, BLOCK_SIZES)
    checks.flag("double", double)
    blocks = torch.nn.functional.pad(row, (0, -len(row) % block_size)).view(
        -1, block_size
    )
    absmax = _extreme(blocks.abs(), torch.amax)
    levels = nf4_levels().to(row.device)
    # where one level is nearer than the next
    bounds = (levels[1:] + levels[:-1]) / 2
    codes = torch.bucketize(blocks / _step(absmax), bounds, out_int32=True).flatten()[
        : len(row)
    ]
    codes = torch.nn.functional.pad(codes, (0, len(row) % 2), value=7)  # the code of 0
    packed = (codes[::2] << 4 | codes[1::2]).to(torch.uint8)
    shape, absmax = tuple(weight.shape), absmax[:, 0]
    if not double:
        return NF4(packed, absmax, None, None, shape, weight.dtype, block_size)
    offset = absmax.mean() if len(absmax) else absmax.new_zeros(())
    rest = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % ABSMAX_GROUP))
    small = quantize(rest.view(-1, ABSMAX_GROUP))
    codes = small.values.flatten()[: len(absmax)]
    return NF4(
        packed, codes, small.scale[:, 0], offset, shape, weight.dtype, block_size
    )


def nf4_dequantize(q: NF4) -> Float[Tensor, "..."]:
    """Return the weight that the codes stand for, in its shape and dtype.

    Args:
        q: what `nf4_quantize` returned.

    Example:
        >>> weight = torch.randn(8, 32)
        >>> kept = nf4_dequantize(nf4_quantize(weight, double=True))
        >>> kept.shape, bool((kept - weight).abs().max() < 0.5)
        (torch.Size([8, 32]), True)
    """
    if not isinstance(q, NF4):
        raise TypeError(f"q must be an NF4, got {type(q).__name__}")
    return nf4_values(q).to(q.dtype)


def nf4_values(q: NF4, levels: Tensor | None = None) -> Float[Tensor, "..."]:
    """Return what `nf4_dequantize` does, in float32, before it is rounded to the weight's dtype."""
    count = math.prod(q.shape)
    codes = torch.stack([q.codes >> 4, q.codes & 15], -1).flatten()[:count].int()
    levels = nf4_levels().to(codes.device) if levels is None else levels
    row = torch.nn.functional.pad(levels[codes], (0, -count % q.block_size))
    blocks = row.view(-1, q.block_size) * nf4_absmax(q)[:, None]
    return blocks.flatten()[:count].view(q.shape)


def nf4_absmax(q: NF4) -> Float[Tensor, "b"]:
    """Return the largest magnitude of each block, as float32, whether kept so or doubled."""
    if q.absmax_scale is None or q.absmax_offset is None:
        return q.absmax
    nth = torch.arange(len(q.absmax), device=q.absmax.device) // ABSMAX_GROUP
    return q.absmax * q.absmax_scale[nth] + q.absmax_offset


# ------------------------------------------------------------------------------------------- parts
def _bits(bits: int) -> int:
    checks.count("bits", bits)
    return checks.one_of("bits", bits, range(2, 9))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _grouped(x: Tensor, granularity: str, group_size: int | None) -> Tensor:
    """Return x with those numbers along the last axis that share a scale."""
    if granularity != "group" and group_size is not None:
        raise ValueError(f"group_size={group_size!r} needs granularity='group'")
    if granularity == "tensor":
        return x.flatten()
    if x.ndim == 0:
        raise ValueError(
            f"x must have an axis for granularity={granularity!r}, got shape ()"
        )
    if granularity == "row":
        return x
    if group_size is None:
        raise ValueError("granularity='group' needs group_size, an integer ≥ 1")
    size = checks.count("group_size", group_size)
    if x.shape[-1] % size:
        raise ValueError(
            f"group_size={size} does not divide the last axis of x, {x.shape[-1]}"
        )
    return x.unflatten(-1, (x.shape[-1] // size, size))


def _extreme(x: Tensor, of) -> Tensor:
    """Return the largest (or smallest) along the last axis, kept; 0 where there is none."""
    return of(x, -1, keepdim=True) if x.shape[-1] else x.new_zeros((*x.shape[:-1], 1))


def _step(scale: Tensor) -> Tensor:
    return torch.where(scale > 0, scale, 1)
