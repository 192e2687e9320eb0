r"""The kernels of both norms over the last axis, with and without a residual added on the way.

$s = x + r$, or x alone; $y_i = w_i \rho (s_i - \mu) + b_i$ with
$\rho = 1/\sqrt{\tfrac1c \sum_j (s_j - \mu)^2 + \epsilon}$. Layer norm takes the row's mean for μ,
RMSNorm takes 0 (`CENTER`) and has no b.

The variance is the mean of $(s - \mu)^2$, taken after the mean, while the row is in registers. The
shorter $\overline{s^2} - \mu^2$ subtracts two large numbers: at a mean of 10000 and a spread of 1,
float32 leaves nothing of it. A row wider than a block is read twice: each block gives its own mean
and squares, and these are merged exactly (Chan, Golub and LeVeque 1979).

With μ and ρ of each row saved, the gradient is one more walk over it:
$\partial s = \rho\,(g - \bar g - \hat s\,\overline{g \hat s})$ with $g = w\,\partial y$ and
$\hat s = \rho (s - \mu)$, where $\bar g$ falls away with μ. The gradients of w and b are sums over
all rows; each program adds up its own rows, and the few sums are added in the end, always in the
same order.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.kernels import _dispatch, _rows
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost

HALVES = (torch.float16, torch.bfloat16)


class Added(NamedTuple):
    """What a norm with a residual returns: the norm of the sum, and the sum."""

    normalized: Float[Tensor, "*n c"]
    total: Float[Tensor, "*n c"]


@jit
def _forward_kernel(
    x_ptr, residual_ptr, weight_ptr, bias_ptr, y_ptr, total_ptr, mean_ptr, scale_ptr, columns, eps,
    CENTER: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # one program a row
    start = row * columns
    cols = tl.arange(0, BLOCK)
    s = tl.zeros([BLOCK], tl.float32)
    mean, squares = (
        0.0,
        0.0,
    )  # of the blocks so far: their mean, and the sum of (s - mean)²
    for block in range(BLOCKS):
        at = block * BLOCK + cols
        live = at < columns
        s = tl.load(x_ptr + start + at, mask=live, other=0.0).to(tl.float32)
        if residual_ptr is not None:
            s += tl.load(residual_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            s = s.to(total_ptr.dtype.element_ty)  # what is kept is what is normalized
            tl.store(total_ptr + start + at, s, mask=live)
            s = s.to(tl.float32)
        if CENTER:
            before = block * BLOCK
            here = tl.minimum(columns - before, BLOCK)
            middle = tl.sum(s, 0) / here
            away = tl.where(live, s - middle, 0.0)
            # what rounding left of the mean, about 0
            middle_off = tl.sum(away, 0) / here
            shift = middle + middle_off - mean
            squares += tl.sum(away * away, 0) - here * middle_off * middle_off
            squares += shift * shift * here * (before / (before + here))
            mean += shift * (here / (before + here))
        else:
            squares += tl.sum(s * s, 0)
    scale = 1 / tl.sqrt(squares / columns + eps)
    if CENTER:
        tl.store(mean_ptr + row, mean)
    tl.store(scale_ptr + row, scale)
    for block in range(BLOCKS):
        at = block * BLOCK + cols
        live = at < columns
        if BLOCKS > 1:  # else the row is still in registers
            if residual_ptr is not None:
                s = tl.load(total_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            else:
                s = tl.load(x_ptr + start + at, mask=live, other=0.0).to(tl.float32)
        y = (s - mean) * scale
        if weight_ptr is not None:
            y = y * tl.load(weight_ptr + at, mask=live, other=0.0).to(tl.float32)
        if bias_ptr is not None:
            y = y + tl.load(bias_ptr + at, mask=live, other=0.0).to(tl.float32)
        tl.store(y_ptr + start + at, y, mask=live)


@jit
def _backward_kernel(
    s_ptr, weight_ptr, mean_ptr, scale_ptr, dy_ptr, dtotal_ptr, ds_ptr, dweight_ptr, dbias_ptr,
    rows, columns, CENTER: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    # where this program's shares of the learned gradients stand
    own = program * columns
    cols = tl.arange(0, BLOCK)
    hat, dy = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    dweight, dbias = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    weight = tl.full([BLOCK], 1.0, tl.float32)
    mean, level = 0.0, 0.0
    if weight_ptr is not None and BLOCKS == 1:
        weight = tl.load(weight_ptr + cols, mask=cols < columns, other=0.0).to(
            tl.float32
        )
    for row in range(program, rows, tl.num_programs(0)):
        start = row * columns
        scale = tl.load(scale_ptr + row)
        if CENTER:
            mean = tl.load(mean_ptr + row)
        gradients, products = (
            tl.zeros([BLOCK], tl.float32),
            tl.zeros([BLOCK], tl.float32),
        )
        for block in range(BLOCKS):
            at = block * BLOCK + cols
            live = at < columns
            s = tl.load(s_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            hat = scale * (s - mean)
            dy = tl.load(dy_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            if weight_ptr is not None and BLOCKS > 1:
                weight = tl.load(weight_ptr + at, mask=live, other=0.0).to(tl.float32)
            gradients += weight * dy
            products += weight * dy * hat
        if CENTER:
            level = tl.sum(gradients, 0) / columns  # how much only shifts the row
        along = tl.sum(products, 0) / columns  # how much only lengthens it
        for block in range(BLOCKS):
            at = block * BLOCK + cols
            live = at < columns
            if BLOCKS > 1:
                s = tl.load(s_ptr + start + at, mask=live, other=0.0).to(tl.float32)
                hat = scale * (s - mean)
                dy = tl.load(dy_ptr + start + at, mask=live, other=0.0).to(tl.float32)
                if weight_ptr is not None:
                    weight = tl.load(weight_ptr + at, mask=live, other=0.0).to(
                        tl.float32
                    )
            ds = scale * (weight * dy - level - hat * along)
            if dtotal_ptr is not None:
                ds += tl.load(dtotal_ptr + start + at, mask=live, other=0.0).to(
                    tl.float32
                )
            tl.store(ds_ptr + start + at, ds, mask=live)
            if BLOCKS == 1:
                dweight += dy * hat
                dbias += dy
            else:  # no other program touches these sums, and the sums above were a barrier
                if dweight_ptr is not None:
                    so_far = tl.load(dweight_ptr + own + at, mask=live, other=0.0)
                    tl.store(dweight_ptr + own + at, so_far + dy * hat, mask=live)
                if dbias_ptr is not None:
                    so_far = tl.load(dbias_ptr + own + at, mask=live, other=0.0)
                    tl.store(dbias_ptr + own + at, so_far + dy, mask=live)
    if BLOCKS == 1:
        if dweight_ptr is not None:
            tl.store(dweight_ptr + own + cols, dweight, mask=cols < columns)
        if dbias_ptr is not None:
            tl.store(dbias_ptr + own + cols, dbias, mask=cols < columns)


@operation("nnlib::norm")
def _norm(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float,
    center: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return y, the sum (empty without a residual), each row's μ (empty without one) and ρ.

    A kernel writes everything; on a device without kernels the equations do.
    """
    kind = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    if _dispatch.runs_kernel(x):
        rows, columns = _rows.rows_of(x), x.shape[-1]
        x = x.contiguous()
        y = torch.empty_like(x, dtype=kind)
        scale = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
        mean = torch.empty_like(scale) if center else scale.new_empty(0)
        total = y.new_empty(0) if residual is None else torch.empty_like(y)
        if rows:
            block, blocks, warps = _rows.tiling(columns)
            _forward_kernel[(rows,)](
                x, _rows.packed(residual), _rows.packed(weight), _rows.packed(bias), y,
                None if residual is None else total, mean if center else None, scale, columns, eps,
                CENTER=center, BLOCK=block, BLOCKS=blocks, num_warps=warps,
            )  # fmt: skip
        return y, total, mean, scale
    total = (
        x.new_empty(0, dtype=kind) if residual is None else (x + residual).contiguous()
    )
    s = (x if residual is None else total).float()
    mean = s.mean(-1) if center else s.new_empty(0)
    away = s - mean[..., None] if center else s
    scale = (away.square().mean(-1) + eps).rsqrt()
    y = away * scale[..., None]
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y.to(kind).contiguous(), total, mean, scale


@operation("nnlib::norm_backward")
def _norm_backward(
    s: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, scale: Tensor, dy: Tensor,
    dtotal: Tensor | None, center: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of the normalized numbers, the weight and the bias (empty without)."""
    columns = s.shape[-1]
    if _dispatch.runs_kernel(s):
        rows = _rows.rows_of(s)
        block, blocks, warps = _rows.tiling(columns)
        shares = _rows.programs(s, rows, warps)
        s, dy = s.contiguous(), dy.contiguous()
        ds = torch.empty_like(s)
        dweight, dbias = (
            _shares_of(t, shares, columns, blocks) for t in (weight, bias)
        )
        if rows:
            _backward_kernel[(shares,)](
                s, _rows.packed(weight), mean if center else None, scale, dy, _rows.packed(dtotal),
                ds, dweight, dbias, rows, columns,
                CENTER=center, BLOCK=block, BLOCKS=blocks, num_warps=warps,
            )  # fmt: skip
        return ds, _sum_of_shares(dweight, weight, s), _sum_of_shares(dbias, bias, s)
    hat, g = s.float() - mean[..., None] if center else s.float(), dy.float()
    hat = scale[..., None] * hat
    dweight = None if weight is None else (g * hat).reshape(-1, columns)
    dbias = None if bias is None else g.reshape(-1, columns)
    g = g if weight is None else g * weight
    ds = g - g.mean(-1, keepdim=True) if center else g
    ds = scale[..., None] * (ds - hat * (g * hat).mean(-1, keepdim=True))
    ds = (ds if dtotal is None else ds + dtotal).to(s.dtype).contiguous()
    return ds, _sum_of_shares(dweight, weight, s), _sum_of_shares(dbias, bias, s)


def _shares_of(
    learned: Tensor | None, shares: int, columns: int, blocks: int
) -> Tensor | None:
    """Return room for each program's share of a vector's gradient, or None without the vector.

    A row of one block has its share stored when all is done; wider rows add to it as they go.
    """
    if learned is None:
        return None
    make = torch.empty if blocks == 1 else torch.zeros
    return make((shares, columns), dtype=torch.float32, device=learned.device)


def _sum_of_shares(
    shares: Tensor | None, learned: Tensor | None, like: Tensor
) -> Tensor:
    """Return the gradient of a learned vector, or an empty tensor where there is none."""
    if shares is None or learned is None:
        return like.new_empty(0)
    return shares.sum(0).to(learned.dtype)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, residual, weight, bias, _, ctx.center = inputs
    _, total, mean, scale = output
    ctx.set_materialize_grads(
        False
    )  # no zeros are made and read for an output that is not used
    ctx.kinds = x.dtype, None if residual is None else residual.dtype
    ctx.save_for_backward(x if residual is None else total, weight, bias, mean, scale)


def _differentiate(
    ctx: Any, dy: Tensor | None, dtotal: Tensor | None, *_: Tensor | None
) -> tuple[Tensor | None, ...]:
    s, weight, bias, mean, scale = ctx.saved_tensors
    kind, residual_kind = ctx.kinds
    ds, dweight, dbias = None if residual_kind is None else dtotal, None, None
    if dy is not None:  # else only the sum was used
        ds, dweight, dbias = torch.ops.nnlib.norm_backward(
            s, weight, bias, mean, scale, dy, ds, ctx.center
        )
    return (
        None if ds is None else ds.to(kind),
        None if ds is None or residual_kind is None else ds.to(residual_kind),
        None if weight is None else dweight,
        None if bias is None else dbias,
        None,
        None,
    )


_norm.register_autograd(_differentiate, setup_context=_save)


def norm(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, *, center: bool
) -> Tensor:
    """Return the norm by the registered operation."""
    return torch.ops.nnlib.norm(x, None, weight, bias, eps, center)[0]


def add_norm(
    x: Tensor,
    residual: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
    *,
    center: bool,
) -> Added:
    """Return the norm of the sum, and the sum, by the registered operation."""
    return Added(*torch.ops.nnlib.norm(x, residual, weight, bias, eps, center)[:2])


def beside(learned: Tensor | None, x: Tensor) -> Tensor | None:
    """Return a learned vector in a dtype that torch takes beside `x`: the same, or float32."""
    return learned if learned is None or learned.dtype == x.dtype else learned.float()


def check(
    x: Tensor, eps: float, residual: Tensor | None = None, **learned: Tensor | None
) -> None:
    """Refuse what no norm over the last axis can work on; `learned` are its weight and bias."""
    checks.tensor("x", x, floating=True)
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(
            f"x must end in an axis of one feature or more, got {tuple(x.shape)}"
        )
    if type(eps) is not float or not 0 <= eps < math.inf:
        checks.number("eps", eps, least=0)
    for name, t in learned.items():
        if t is not None:
            _check_beside(x, name, t, x.shape[-1:])
    if residual is not None:
        _check_beside(x, "residual", residual, x.shape)


def _check_beside(x: Tensor, name: str, t: Tensor, shape: torch.Size) -> None:
    alike = isinstance(t, Tensor) and t.shape == shape
    # the usual case, without delay
    if alike and t.dtype == x.dtype and t.device == x.device:
        return
    checks.tensor(name, t, shape=tuple(shape), floating=True)
    if t.dtype != x.dtype and not (t.dtype == torch.float32 and x.dtype in HALVES):
        raise TypeError(
            f"{name} must have the dtype of x, {x.dtype}, or float32 beside a half, got {t.dtype}"
        )
    if t.device != x.device:
        raise ValueError(f"{name} must be on {x.device} like x, got {t.device}")


def cost(
    shape: tuple[int, ...],
    element_size: int,
    backward: bool,
    residual: bool,
    *,
    vectors: int,
    scales: int,
    flops: tuple[int, int],
) -> Cost:
    """Return the cost of a norm with `vectors` learned vectors and `scales` saved numbers a row.

    Args:
        shape: of the input.
        element_size: bytes a number; saved numbers have four.
        backward: whether to count the gradient instead.
        residual: whether a residual is added.
        vectors: learned vectors, read forwards; read and written backwards, but for a shift, which
            backwards is written alone.
        scales: numbers saved for each row.
        flops: operations a number, forwards and backwards.
    """
    numbers, columns = math.prod(shape), shape[-1]
    passes = 3 + residual if backward else 2 + 2 * residual
    learned = vectors + 1 if backward else vectors
    size = element_size * (passes * numbers + learned * columns) + 4 * scales * (
        numbers // columns
    )
    return Cost((flops[backward] + residual) * numbers, size)
