r"""Rotary positions: each pair of features turned by an angle that grows with the position.

Chapter: chapters/attention/transformer.md     Source: Su et al. 2021
Axes: b batch, h heads, t positions, d head width (even).

Pair i at position p turns by $p\,\theta_i$, $\theta_i = \text{base}^{-2i/d}$. The angles are made
in float32: at position 2049 a half would already miss a whole radian. Turning back by the same
angles is the gradient, so the backward pass is the same kernel with the sine's sign changed.
Plain torch reads and writes several tensors of the size of x. The kernel reads x once and writes y
once, wherever the heads stand in memory; the table of cosines and sines is small, and read once for
several heads.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.kernels import _dispatch
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost


def angles(
    positions: Int[Tensor, "*b t"],
    d: int,
    base: float = 10000.0,
    dtype: torch.dtype = torch.float32,
    frequencies: Float[Tensor, "half"] | None = None,
) -> Float[Tensor, "*b t half"]:
    r"""Return $p\,\theta_i$, $\theta_i = \text{base}^{-2i/d}$, $i < d/2$ from 0.

    Args:
        positions: integers, one a position.
        d: head width, even.
        base: what θ is a power of.
        dtype: float32 or float64; halves cannot tell large angles apart.
        frequencies: θ itself, where it is no such power.
    """
    if frequencies is not None:
        return positions[..., None].to(dtype) * frequencies.to(dtype)
    i = torch.arange(d // 2, device=positions.device, dtype=dtype)
    return positions[..., None].to(dtype) * base ** (-2 * i / d)


def rope_reference(
    x: Float[Tensor, "b h t d"],
    positions: Int[Tensor, "..."],
    *,
    base: float = 10000.0,
    interleaved: bool = False,
    frequencies: Float[Tensor, "half"] | None = None,
) -> Float[Tensor, "b h t d"]:
    """`rope` as its equation reads."""
    _check(x, positions, base, interleaved, frequencies)
    wide = x if x.dtype == torch.float64 else x.float()
    turn = angles(positions, x.shape[-1], base, wide.dtype, frequencies)
    turn = turn[:, None] if positions.ndim == 2 else turn
    cos, sin = turn.cos(), turn.sin()
    if interleaved:  # pairs (0, 1), (2, 3), …
        a, b = wide[..., 0::2], wide[..., 1::2]
        y = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:  # pairs (0, d/2), (1, d/2 + 1), …
        a, b = wide.chunk(2, -1)
        y = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return y.to(x.dtype)


@jit
def _turn_kernel(
    x_ptr, cos_ptr, sin_ptr, y_ptr, heads, steps, half, table_batch,
    x_batch, x_head, x_step, y_batch, y_head, y_step, step_blocks, head_blocks,
    BACK: tl.constexpr, INTERLEAVED: tl.constexpr,
    HEADS: tl.constexpr, STEPS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0)  # one program a few heads of a few steps
    group = program % head_blocks
    step = (program // head_blocks % step_blocks).to(tl.int64) * STEPS + tl.arange(
        0, STEPS
    )[:, None]
    batch = (program // head_blocks // step_blocks).to(tl.int64)
    pair = tl.arange(0, HALF)[None, :]
    live = (step < steps) & (pair < half)
    table = batch * table_batch + step * half + pair
    cos = tl.load(cos_ptr + table, mask=live, other=0.0)
    sin = tl.load(sin_ptr + table, mask=live, other=0.0)
    if BACK:
        sin = -sin
    for nth in range(HEADS):
        head = group * HEADS + nth
        x_at = x_ptr + batch * x_batch + head.to(tl.int64) * x_head + step * x_step
        y_at = y_ptr + batch * y_batch + head.to(tl.int64) * y_head + step * y_step
        if INTERLEAVED:
            feature = tl.arange(0, 2 * HALF)[None, :]
            whole = (step < steps) & (feature < 2 * half) & (head + 0 * feature < heads)
            x = tl.load(x_at + feature, mask=whole, other=0.0).to(tl.float32)
            a, b = tl.split(tl.reshape(x, [STEPS, HALF, 2]))
            y = tl.interleave(a * cos - b * sin, b * cos + a * sin)
            tl.store(y_at + feature, y, mask=whole)
        else:
            here = live & (head + 0 * pair < heads)
            a = tl.load(x_at + pair, mask=here, other=0.0).to(tl.float32)
            b = tl.load(x_at + half + pair, mask=here, other=0.0).to(tl.float32)
            tl.store(y_at + pair, a * cos - b * sin, mask=here)
            tl.store(y_at + half + pair, b * cos + a * sin, mask=here)


def _launch(
    x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, back: bool
) -> Tensor:
    """Turn the pairs of `x`, read where it stands, into a new tensor of the same layout."""
    x = x if x.stride(-1) == 1 else x.contiguous()
    y = torch.empty_like(x)
    (b, h, t, _), half = x.shape, x.shape[-1] // 2
    if y.numel():
        width = 1 << (half - 1).bit_length()  # the least power of two that holds it
        steps = min(max(1, 1024 // width), 1 << (t - 1).bit_length())
        heads = min(4, h)
        step_blocks, head_blocks = -(-t // steps), -(-h // heads)
        _turn_kernel[(b * step_blocks * head_blocks,)](
            x, cos, sin, y, h, t, half, 0 if cos.ndim == 2 or len(cos) == 1 else cos.stride(0),
            *x.stride()[:3], *y.stride()[:3], step_blocks, head_blocks,
            BACK=back, INTERLEAVED=interleaved, HEADS=heads, STEPS=steps, HALF=width,
            num_warps=max(1, min(4, steps * width // 256)),
        )  # fmt: skip
    return y


@operation("nnlib::rope")
def _rope(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool, back: bool) -> Tensor:
    """Turn by the angles of a table `t half` or `b t half`, or back by them."""
    if _dispatch.runs_kernel(x):
        return _launch(x, cos.contiguous(), sin.contiguous(), interleaved, back)
    return _turned(x, cos, -sin if back else sin, interleaved).contiguous()


def _turned(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool) -> Tensor:
    """Turn in plain torch, as is fastest on a CPU: as complex numbers, or with a rolled copy."""
    wide = x.to(cos.dtype)
    if cos.ndim == 3:
        cos, sin = cos[:, None], sin[:, None]
    if not interleaved:
        cos, sin = torch.cat([cos, cos], -1), torch.cat([-sin, sin], -1)
        y = torch.addcmul(wide * cos, wide.roll(x.shape[-1] // 2, -1), sin)
    elif torch.compiler.is_compiling():  # which has no fast complex numbers
        a, b = wide[..., 0::2], wide[..., 1::2]
        y = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        pairs = wide.contiguous() if _uneven(wide) else wide
        pairs = torch.view_as_complex(pairs.unflatten(-1, (-1, 2)))
        y = torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)
    return y.to(x.dtype)


def _uneven(x: Tensor) -> bool:
    """Return whether pairs of `x` cannot be read as complex numbers where they stand."""
    *outer, last = x.stride()
    return last != 1 or any(step % 2 for step in outer) or x.storage_offset() % 2 != 0


def _save(ctx, inputs, output):
    _, cos, sin, ctx.interleaved, ctx.back = inputs
    ctx.save_for_backward(cos, sin)


def _differentiate(ctx, dy):
    dx = torch.ops.nnlib.rope(dy, *ctx.saved_tensors, ctx.interleaved, not ctx.back)
    return dx, None, None, None, None


_rope.register_autograd(_differentiate, setup_context=_save)


def rope_triton(
    x: Float[Tensor, "b h t d"],
    positions: Int[Tensor, "..."],
    *,
    base: float = 10000.0,
    interleaved: bool = False,
    frequencies: Float[Tensor, "half"] | None = None,
) -> Float[Tensor, "b h t d"]:
    """`rope` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    _check(x, positions, base, interleaved, frequencies)
    _dispatch.require("rope_triton", x)
    table = _table(x, positions, base, frequencies)
    return torch.ops.nnlib.rope(x, *table, interleaved, False)


def rope(
    x: Float[Tensor, "b h t d"],
    positions: Int[Tensor, "..."],
    *,
    base: float = 10000.0,
    interleaved: bool = False,
    frequencies: Float[Tensor, "half"] | None = None,
) -> Float[Tensor, "b h t d"]:
    r"""Rotate queries or keys by their positions, so that scores see only differences of them.

    With $\phi = p\,\text{base}^{-2i/d}$, pair i at position p becomes
    $(a\cos\phi - b\sin\phi,\; b\cos\phi + a\sin\phi)$.

    Args:
        x: queries or keys; d even. Angles and sums are float32 for halves, float64 for doubles.
        positions: integers of shape t, or b t.
        base: the slowest pair turns about once in 2π·base positions; > 0.
        interleaved: whether pairs are neighbours (0, 1), … (Su et al. 2021, GPT-J) or halves apart
            (0, d/2), … (GPT-NeoX, LLaMA).
        frequencies: the angle a step of each of the d/2 pairs, in place of base^(-2i/d); such as
            `rope_frequencies` of `nnlib.language.long_context` stretches them.

    Returns:
        A tensor like `x`, with vectors of the same lengths.

    Raises:
        TypeError: `x` is no floating-point tensor, `positions` no integers.
        ValueError: d is odd, or shapes or devices do not fit.

    Example:
        >>> x = torch.tensor([[[[1.0, 0.0]] * 3]], dtype=torch.float64)
        >>> rope(x, torch.tensor([0, 1, 2])).round(decimals=2).tolist()  # so many radians
        [[[[1.0, 0.0], [0.54, 0.84], [-0.42, 0.91]]]]

    Source: Su et al. 2021.
    """
    _check(x, positions, base, interleaved, frequencies)
    cos, sin = _table(x, positions, base, frequencies)
    if _dispatch.use_triton(x):
        return torch.ops.nnlib.rope(x, cos, sin, interleaved, False)
    return _turned(x, cos, sin, interleaved)


def _table(
    x: Tensor, positions: Tensor, base: float, frequencies: Tensor | None
) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    turn = angles(positions, x.shape[-1], base, dtype, frequencies)
    return turn.cos(), turn.sin()


def rope_cost(
    shape: tuple[int, ...], element_size: int = 4, backward: bool = False
) -> Cost:
    """Return the cost of a rotation, the same backwards: one read, one write, and the table.

    Args:
        shape: of `x`, b h t d.
        element_size: bytes a number; the table's have four.
        backward: whether to count the gradient instead.
    """
    _, _, t, d = shape
    numbers = math.prod(shape)
    # four products and two sums a pair
    return Cost(3 * numbers, 2 * numbers * element_size + 4 * t * d)


def _check(x, positions, base, interleaved, frequencies) -> None:
    b, _, t, d = checks.tensor("x", x, shape=("b", "h", "t", "d"), floating=True).shape
    if d % 2:
        raise ValueError(
            f"x must have an even head width d to turn pairs of features, got d={d}"
        )
    checks.tensor("positions", positions, floating=False)
    if tuple(positions.shape) not in ((t,), (b, t), (1, t)):
        raise ValueError(
            f"positions must have shape ({t},) or ({b}, {t}), got {tuple(positions.shape)}"
        )
    if positions.device != x.device:
        raise ValueError(
            f"positions must be on {x.device} like x, got {positions.device}"
        )
    checks.number("base", base, above=0)
    checks.flag("interleaved", interleaved)
    if frequencies is not None:
        checks.tensor("frequencies", frequencies, shape=(d // 2,), floating=True)
        if frequencies.device != x.device:
            raise ValueError(
                f"frequencies must be on {x.device} like x, got {frequencies.device}"
            )
