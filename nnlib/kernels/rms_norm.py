r"""RMSNorm over the last axis: $y_i = w_i s_i / \sqrt{\tfrac1c \sum_j s_j^2 + \epsilon}$.

Chapter: chapters/foundations/regularization.md     Source: Zhang and Sennrich 2019
Axes: n rows, c columns; the norm is over the last axis, whatever stands before it.

With a residual r, $s = x + r$ is formed on the way and returned too: a block of a transformer then
reads two tensors and writes two, where the sum and the norm apart read three and write two.
With $\rho = 1/\sqrt{\cdot}$ of each row saved, the gradient is one more walk over the row:
$\partial s = \rho\,(g - \hat s\,\tfrac1c \sum_j g_j \hat s_j)$ with $g = w\,\partial y$ and
$\hat s = \rho s$. The weight's gradient is a sum over all rows; each program adds up its own rows,
and the few sums are added in the end, always in the same order.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib.kernels import _dispatch, _rows
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost


def rms_norm_reference(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float = 1e-6,
    residual: Float[Tensor, "*n c"] | None = None,
) -> Float[Tensor, "*n c"] | tuple[Float[Tensor, "*n c"], Float[Tensor, "*n c"]]:
    """`rms_norm` as its equation reads; halves are computed in float32 and rounded at the end."""
    total = x if residual is None else x + residual
    s = total.float() if total.dtype in _rows.HALVES else total
    y = s / (s.square().mean(-1, keepdim=True) + eps).sqrt()
    y = (y if weight is None else y * weight).to(total.dtype)
    return y if residual is None else (y, total)


@jit
def _forward_kernel(
    x_ptr, residual_ptr, weight_ptr, y_ptr, total_ptr, scale_ptr, columns, eps,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # one program a row
    start = row * columns
    cols = tl.arange(0, BLOCK)
    s, squares = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    for block in range(BLOCKS):
        at = block * BLOCK + cols
        live = at < columns
        s = tl.load(x_ptr + start + at, mask=live, other=0.0).to(tl.float32)
        if residual_ptr is not None:
            s += tl.load(residual_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            s = s.to(total_ptr.dtype.element_ty)  # what is kept is what is normalized
            tl.store(total_ptr + start + at, s, mask=live)
            s = s.to(tl.float32)
        squares += s * s
    scale = 1 / tl.sqrt(tl.sum(squares, 0) / columns + eps)
    tl.store(scale_ptr + row, scale)
    for block in range(BLOCKS):
        at = block * BLOCK + cols
        live = at < columns
        if BLOCKS > 1:  # else the row is still in registers
            if residual_ptr is not None:
                s = tl.load(total_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            else:
                s = tl.load(x_ptr + start + at, mask=live, other=0.0).to(tl.float32)
        y = s * scale
        if weight_ptr is not None:
            y = y * tl.load(weight_ptr + at, mask=live, other=0.0).to(tl.float32)
        tl.store(y_ptr + start + at, y, mask=live)


@jit
def _backward_kernel(
    s_ptr, weight_ptr, scale_ptr, dy_ptr, dtotal_ptr, ds_ptr, dweight_ptr, rows, columns,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    own = program * columns  # where this program's share of the weight's gradient stands
    cols = tl.arange(0, BLOCK)
    hat, dy = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    dweight, weight = tl.zeros([BLOCK], tl.float32), tl.full([BLOCK], 1.0, tl.float32)
    if weight_ptr is not None and BLOCKS == 1:
        weight = tl.load(weight_ptr + cols, mask=cols < columns, other=0.0).to(tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        start = row * columns
        scale = tl.load(scale_ptr + row)
        products = tl.zeros([BLOCK], tl.float32)
        for block in range(BLOCKS):
            at = block * BLOCK + cols
            live = at < columns
            hat = scale * tl.load(s_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            dy = tl.load(dy_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            if weight_ptr is not None and BLOCKS > 1:
                weight = tl.load(weight_ptr + at, mask=live, other=0.0).to(tl.float32)
            products += weight * dy * hat
        along = tl.sum(products, 0) / columns  # how much of the gradient only lengthens the row
        for block in range(BLOCKS):
            at = block * BLOCK + cols
            live = at < columns
            if BLOCKS > 1:
                hat = scale * tl.load(s_ptr + start + at, mask=live, other=0.0).to(tl.float32)
                dy = tl.load(dy_ptr + start + at, mask=live, other=0.0).to(tl.float32)
                if weight_ptr is not None:
                    weight = tl.load(weight_ptr + at, mask=live, other=0.0).to(tl.float32)
            ds = scale * (weight * dy - hat * along)
            if dtotal_ptr is not None:
                ds += tl.load(dtotal_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            tl.store(ds_ptr + start + at, ds, mask=live)
            if weight_ptr is not None:
                if BLOCKS == 1:
                    dweight += dy * hat
                else:  # no other program touches these sums, and the sum above was a barrier
                    so_far = tl.load(dweight_ptr + own + at, mask=live, other=0.0)
                    tl.store(dweight_ptr + own + at, so_far + dy * hat, mask=live)
    if weight_ptr is not None and BLOCKS == 1:
        tl.store(dweight_ptr + own + cols, dweight, mask=cols < columns)


@operation("nnlib::rms_norm")
def _rms_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return y, the sum with the residual (empty without one), and each row's 1/√(mean square)."""
    kind = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    if _dispatch.runs_kernel(x):
        rows, columns = _rows.rows_of(x), x.shape[-1]
        x = x.contiguous()
        y = torch.empty_like(x, dtype=kind)
        scale = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
        total = y.new_empty(0)
        if residual is not None:
            residual, total = residual.contiguous(), torch.empty_like(y)
        if rows:
            block, blocks, warps = _rows.tiling(columns)
            _forward_kernel[(rows,)](
                x, residual, _rows.packed(weight), y,
                None if residual is None else total, scale, columns, eps,
                BLOCK=block, BLOCKS=blocks, num_warps=warps,
            )  # fmt: skip
        return y, total, scale
    total = x.new_empty(0, dtype=kind) if residual is None else (x + residual).contiguous()
    s = (x if residual is None else total).float()
    scale = (s.square().mean(-1) + eps).rsqrt()
    y = s * scale[..., None]
    return (y if weight is None else y * weight).to(kind).contiguous(), total, scale


@operation("nnlib::rms_norm_backward")
def _rms_norm_backward(
    s: Tensor, weight: Tensor | None, scale: Tensor, dy: Tensor, dtotal: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the gradients of the normalized numbers and of the weight (empty without one)."""
    columns = s.shape[-1]
    if _dispatch.runs_kernel(s):
        rows = _rows.rows_of(s)
        block, blocks, warps = _rows.tiling(columns)
        shares = _rows.programs(s, rows, warps)
        s, dy = s.contiguous(), dy.contiguous()
        ds, dweight = torch.empty_like(s), _rows.shares_of(weight, shares, columns, blocks)
        if rows:
            _backward_kernel[(shares,)](
                s, _rows.packed(weight), scale, dy, _rows.packed(dtotal), ds, dweight,
                rows, columns, BLOCK=block, BLOCKS=blocks, num_warps=warps,
            )  # fmt: skip
        return ds, _rows.added(dweight, weight, s)
    hat, g = s.float() * scale[..., None], dy.float()
    dweight = None if weight is None else (g * hat).reshape(-1, columns)
    g = g if weight is None else g * weight
    ds = scale[..., None] * (g - hat * (g * hat).mean(-1, keepdim=True))
    ds = (ds if dtotal is None else ds + dtotal).to(s.dtype).contiguous()
    return ds, _rows.added(dweight, weight, s)


def _save(ctx, inputs, output):
    x, residual, weight, _ = inputs
    _, total, scale = output
    ctx.set_materialize_grads(False)  # no zeros are made and read for an output that is not used
    ctx.kinds = x.dtype, None if residual is None else residual.dtype
    ctx.save_for_backward(x if residual is None else total, weight, scale)


def _differentiate(ctx, dy, dtotal, _):
    s, weight, scale = ctx.saved_tensors
    kind, residual_kind = ctx.kinds
    ds, dweight = None if residual_kind is None else dtotal, None
    if dy is not None:  # else only the sum was used
        ds, dweight = torch.ops.nnlib.rms_norm_backward(s, weight, scale, dy, ds)
    return (
        None if ds is None else ds.to(kind),
        None if ds is None or residual_kind is None else ds.to(residual_kind),
        None if weight is None else dweight,
        None,
    )


_rms_norm.register_autograd(_differentiate, setup_context=_save)


def _run(x, weight, eps, residual):
    y, total, _ = torch.ops.nnlib.rms_norm(x, residual, weight, eps)
    return y if residual is None else (y, total)


_WORTH = 1 << 15  # numbers from which on the class below saves more than it costs


class _Explicit(torch.autograd.Function):
    """RMSNorm on the CPU with its gradient written out: the output of `F.rms_norm`, bit for bit.

    Autograd walks back through each of its steps and makes a tensor of the input's size at each,
    which takes two to three times as long.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x, weight, eps):
        scale = (x.square().mean(-1, keepdim=True) + eps).rsqrt()
        return (x * scale).mul_(weight), scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs[:2], output[1])

    @staticmethod
    def backward(ctx, dy, dscale):
        x, weight, scale = ctx.saved_tensors
        c, along = x.shape[-1], 0 if dscale is None else dscale  # of a second derivative
        if dy is None:
            return -x * scale**3 / c * along, None, None
        products = dy * x
        dweight = (products.reshape(-1, c).mT @ scale.reshape(-1, 1))[:, 0]
        along = along + (products @ weight)[..., None]
        dx = x * (scale.square() * along / -c)  # in place from here: memory is what takes the time
        return dx.addcmul_(dy, weight).mul_(scale), dweight, None


def rms_norm_triton(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float = 1e-6,
    residual: Float[Tensor, "*n c"] | None = None,
) -> Float[Tensor, "*n c"] | tuple[Float[Tensor, "*n c"], Float[Tensor, "*n c"]]:
    """`rms_norm` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    _rows.check_norm(x, eps, residual, weight=weight)
    _dispatch.require("rms_norm_triton", x)
    return _run(x, weight, eps, residual)


def rms_norm(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    eps: float = 1e-6,
    residual: Float[Tensor, "*n c"] | None = None,
) -> Float[Tensor, "*n c"] | tuple[Float[Tensor, "*n c"], Float[Tensor, "*n c"]]:
    r"""RMSNorm over the last axis, $y_i = w_i s_i / \sqrt{\tfrac1c \sum_j s_j^2 + \epsilon}$.

    Args:
        x: floating point, one axis or more, the last of one feature or more.
        weight: $w$, one a feature, or None for 1; float32 beside a half `x` is taken too.
        eps: ε ≥ 0, added to the mean square.
        residual: added to `x` first, $s = x + r$; of the shape of `x`. Kernels compute in float32
            and round at the end.

    Returns:
        y; with a residual, y and the sum s.

    Raises:
        TypeError: no floating-point tensors of dtypes that fit.
        ValueError: a shape that does not fit, or a negative `eps`.

    Example:
        >>> rms_norm(torch.tensor([3.0, -3.0]), torch.ones(2)).round(decimals=3).tolist()
        [1.0, -1.0]
        >>> y, s = rms_norm(torch.zeros(1), None, residual=torch.tensor([-2.0]))
        >>> y.round(decimals=3).tolist(), s.tolist()
        ([-1.0], [-2.0])

    Source: Zhang and Sennrich 2019, with the ε that every implementation adds.
    """
    _rows.check_norm(x, eps, residual, weight=weight)
    if _dispatch.use_triton(x):
        return _run(x, weight, eps, residual)
    total = x if residual is None else x + residual
    weight = _rows.beside(weight, total)
    learns = torch.is_grad_enabled() and weight is not None and total.requires_grad
    large = x.is_cpu and x.numel() >= _WORTH and total.dtype not in _rows.HALVES
    if learns and large and not torch.compiler.is_compiling():
        y, _ = _Explicit.apply(total, weight, eps)
    else:
        y = F.rms_norm(total, (x.shape[-1],), weight, eps)
    return y if residual is None else (y, total)


def rms_norm_cost(
    shape: tuple[int, ...], element_size: int = 4, backward: bool = False, residual: bool = False
) -> Cost:
    """Return the cost of RMSNorm: one read and one write of the rows, the weight, and the scales.

    Backwards: the rows and the gradient of y are read and one gradient is written. With a residual
    each way reads one tensor more, and the way forward writes one more.

    Args:
        shape: of the input.
        element_size: bytes a number, of the weight too; scales have four.
        backward: whether to count the gradient instead.
        residual: whether a residual is added.
    """
    # square, add, multiply, multiply; backwards twice that
    return _rows.norm_cost(
        shape, element_size, backward, residual, vectors=1, scales=1, flops=(4, 8)
    )
