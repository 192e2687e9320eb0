r"""Layer norm over the last axis: $y_i = w_i (s_i - \mu)/\sqrt{\sigma^2 + \epsilon} + b_i$.

Chapter: chapters/foundations/regularization.md     Source: Ba, Kiros and Hinton 2016; merging
blocks: Chan, Golub and LeVeque 1979
Axes: n rows, c columns; the norm is over the last axis, whatever stands before it.

The variance is the mean of $(s - \mu)^2$, taken after the mean, while the row is in registers. The
shorter $\overline{s^2} - \mu^2$ subtracts two large numbers: at a mean of 10000 and a spread of 1,
float32 leaves nothing of it. A row wider than a block is read twice: each block gives its own mean
and squares, and these are merged exactly.

With a residual r, $s = x + r$ is formed on the way and returned too. With $\mu$ and
$\rho = 1/\sqrt{\cdot}$ of each row saved, the gradient is one more walk over it:
$\partial s = \rho\,(g - \bar g - \hat s\,\overline{g \hat s})$ with $g = w\,\partial y$ and
$\hat s = \rho (s - \mu)$. The gradients of w and b are sums over all rows; each program adds up its
own rows, and the few sums are added in the end, always in the same order.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib.kernels import _dispatch, _rows
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost


def layer_norm_reference(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
    residual: Float[Tensor, "*n c"] | None = None,
) -> Float[Tensor, "*n c"] | tuple[Float[Tensor, "*n c"], Float[Tensor, "*n c"]]:
    """`layer_norm` as its equation reads; halves are computed in float32 and rounded at the end."""
    total = x if residual is None else x + residual
    s = total.float() if total.dtype in _rows.HALVES else total
    s = s - s.mean(-1, keepdim=True)
    y = s / (s.square().mean(-1, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight
    y = (y if bias is None else y + bias).to(total.dtype)
    return y if residual is None else (y, total)


@jit
def _forward_kernel(
    x_ptr, residual_ptr, weight_ptr, bias_ptr, y_ptr, total_ptr, mean_ptr, scale_ptr, columns, eps,
    BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # one program a row
    start = row * columns
    cols = tl.arange(0, BLOCK)
    s = tl.zeros([BLOCK], tl.float32)
    mean, squares = 0.0, 0.0  # of the blocks so far: their mean, and the sum of (s - mean)²
    for block in range(BLOCKS):
        at = block * BLOCK + cols
        live = at < columns
        s = tl.load(x_ptr + start + at, mask=live, other=0.0).to(tl.float32)
        if residual_ptr is not None:
            s += tl.load(residual_ptr + start + at, mask=live, other=0.0).to(tl.float32)
            s = s.to(total_ptr.dtype.element_ty)  # what is kept is what is normalized
            tl.store(total_ptr + start + at, s, mask=live)
            s = s.to(tl.float32)
        before = block * BLOCK
        here = tl.minimum(columns - before, BLOCK)
        middle = tl.sum(s, 0) / here
        away = tl.where(live, s - middle, 0.0)
        middle_off = tl.sum(away, 0) / here  # what rounding left of the mean, about 0
        shift = middle + middle_off - mean
        squares += tl.sum(away * away, 0) - here * middle_off * middle_off
        squares += shift * shift * here * (before / (before + here))
        mean += shift * (here / (before + here))
    scale = 1 / tl.sqrt(squares / columns + eps)
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
    rows, columns, BLOCK: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    program = tl.program_id(0).to(tl.int64)
    own = program * columns  # where this program's shares of the learned gradients stand
    cols = tl.arange(0, BLOCK)
    hat, dy = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    dweight, dbias = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
    weight = tl.full([BLOCK], 1.0, tl.float32)
    if weight_ptr is not None and BLOCKS == 1:
        weight = tl.load(weight_ptr + cols, mask=cols < columns, other=0.0).to(tl.float32)
    for row in range(program, rows, tl.num_programs(0)):
        start = row * columns
        mean, scale = tl.load(mean_ptr + row), tl.load(scale_ptr + row)
        gradients, products = tl.zeros([BLOCK], tl.float32), tl.zeros([BLOCK], tl.float32)
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
                    weight = tl.load(weight_ptr + at, mask=live, other=0.0).to(tl.float32)
            ds = scale * (weight * dy - level - hat * along)
            if dtotal_ptr is not None:
                ds += tl.load(dtotal_ptr + start + at, mask=live, other=0.0).to(tl.float32)
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


@operation("nnlib::layer_norm")
def _layer_norm(
    x: Tensor, residual: Tensor | None, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return y, the sum with the residual (empty without one), each row's mean and 1/√(variance).

    A kernel writes everything; on a device without kernels the equations do.
    """
    kind = x.dtype if residual is None else torch.promote_types(x.dtype, residual.dtype)
    if _dispatch.runs_kernel(x):
        rows, columns = _rows.rows_of(x), x.shape[-1]
        x = x.contiguous()
        y = torch.empty_like(x, dtype=kind)
        mean = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
        scale, total = torch.empty_like(mean), y.new_empty(0)
        if residual is not None:
            residual, total = residual.contiguous(), torch.empty_like(y)
        if rows:
            block, blocks, warps = _rows.tiling(columns)
            _forward_kernel[(rows,)](
                x, residual, _rows.packed(weight), _rows.packed(bias), y,
                None if residual is None else total, mean, scale, columns, eps,
                BLOCK=block, BLOCKS=blocks, num_warps=warps,
            )  # fmt: skip
        return y, total, mean, scale
    total = x.new_empty(0, dtype=kind) if residual is None else (x + residual).contiguous()
    s = (x if residual is None else total).float()
    mean = s.mean(-1)
    away = s - mean[..., None]
    scale = (away.square().mean(-1) + eps).rsqrt()
    y = away * scale[..., None]
    y = y if weight is None else y * weight
    y = y if bias is None else y + bias
    return y.to(kind).contiguous(), total, mean, scale


@operation("nnlib::layer_norm_backward")
def _layer_norm_backward(
    s: Tensor, weight: Tensor | None, bias: Tensor | None, mean: Tensor, scale: Tensor, dy: Tensor,
    dtotal: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of the normalized numbers, the weight and the bias (empty without)."""
    columns = s.shape[-1]
    if _dispatch.runs_kernel(s):
        rows = _rows.rows_of(s)
        block, blocks, warps = _rows.tiling(columns)
        shares = _rows.programs(s, rows, warps)
        s, dy = s.contiguous(), dy.contiguous()
        ds = torch.empty_like(s)
        dweight, dbias = (_rows.shares_of(t, shares, columns, blocks) for t in (weight, bias))
        if rows:
            _backward_kernel[(shares,)](
                s, _rows.packed(weight), mean, scale, dy, _rows.packed(dtotal), ds, dweight, dbias,
                rows, columns, BLOCK=block, BLOCKS=blocks, num_warps=warps,
            )  # fmt: skip
        return ds, _rows.added(dweight, weight, s), _rows.added(dbias, bias, s)
    hat, g = scale[..., None] * (s.float() - mean[..., None]), dy.float()
    dweight = None if weight is None else (g * hat).reshape(-1, columns)
    dbias = None if bias is None else g.reshape(-1, columns)
    g = g if weight is None else g * weight
    ds = g - g.mean(-1, keepdim=True) - hat * (g * hat).mean(-1, keepdim=True)
    ds = scale[..., None] * ds if dtotal is None else scale[..., None] * ds + dtotal
    ds = ds.to(s.dtype).contiguous()
    return ds, _rows.added(dweight, weight, s), _rows.added(dbias, bias, s)


def _save(ctx, inputs, output):
    x, residual, weight, bias, _ = inputs
    _, total, mean, scale = output
    ctx.set_materialize_grads(False)  # no zeros are made and read for an output that is not used
    ctx.kinds = x.dtype, None if residual is None else residual.dtype
    ctx.save_for_backward(x if residual is None else total, weight, bias, mean, scale)


def _differentiate(ctx, dy, dtotal, *_):
    s, weight, bias, mean, scale = ctx.saved_tensors
    kind, residual_kind = ctx.kinds
    ds, dweight, dbias = None if residual_kind is None else dtotal, None, None
    if dy is not None:  # else only the sum was used
        ds, dweight, dbias = torch.ops.nnlib.layer_norm_backward(
            s, weight, bias, mean, scale, dy, ds
        )
    return (
        None if ds is None else ds.to(kind),
        None if ds is None or residual_kind is None else ds.to(residual_kind),
        None if weight is None else dweight,
        None if bias is None else dbias,
        None,
    )


_layer_norm.register_autograd(_differentiate, setup_context=_save)


def _run(x, weight, bias, eps, residual):
    y, total, _, _ = torch.ops.nnlib.layer_norm(x, residual, weight, bias, eps)
    return y if residual is None else (y, total)


def layer_norm_triton(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
    residual: Float[Tensor, "*n c"] | None = None,
) -> Float[Tensor, "*n c"] | tuple[Float[Tensor, "*n c"], Float[Tensor, "*n c"]]:
    """`layer_norm` by the Triton kernel, on a GPU or in the interpreter; nothing else runs it."""
    _rows.check_norm(x, eps, residual, weight=weight, bias=bias)
    _dispatch.require("layer_norm_triton", x)
    return _run(x, weight, bias, eps, residual)


def layer_norm(
    x: Float[Tensor, "*n c"],
    weight: Float[Tensor, " c"] | None,
    bias: Float[Tensor, " c"] | None,
    eps: float = 1e-5,
    residual: Float[Tensor, "*n c"] | None = None,
) -> Float[Tensor, "*n c"] | tuple[Float[Tensor, "*n c"], Float[Tensor, "*n c"]]:
    r"""Layer norm over the last axis, $y_i = w_i (s_i - \mu)/\sqrt{\sigma^2 + \epsilon} + b_i$.

    Args:
        x: floating point, one axis or more, the last of one feature or more.
        weight: $w$, one a feature, or None for 1; float32 beside a half `x` is taken too.
        bias: $b$, one a feature, or None for 0; likewise.
        eps: ε ≥ 0, added to the variance.
        residual: added to `x` first, $s = x + r$; of the shape of `x`. Kernels compute in float32
            and round at the end.

    Returns:
        y; with a residual, y and the sum s.

    Raises:
        TypeError: no floating-point tensors of dtypes that fit.
        ValueError: a shape that does not fit, or a negative `eps`.

    Example:
        >>> layer_norm(torch.tensor([10001.0, 10003.0]), None, None).round(decimals=3).tolist()
        [-1.0, 1.0]
        >>> y, s = layer_norm(torch.ones(2), None, None, residual=torch.tensor([1.0, 3.0]))
        >>> y.round(decimals=3).tolist(), s.tolist()
        ([-1.0, 1.0], [2.0, 4.0])

    Source: Ba, Kiros and Hinton 2016.
    """
    _rows.check_norm(x, eps, residual, weight=weight, bias=bias)
    if _dispatch.use_triton(x):
        return _run(x, weight, bias, eps, residual)
    total = x if residual is None else x + residual
    weight, bias = _rows.beside(weight, total), _rows.beside(bias, total)
    y = F.layer_norm(total, (x.shape[-1],), weight, bias, eps)
    return y if residual is None else (y, total)


def layer_norm_cost(
    shape: tuple[int, ...], element_size: int = 4, backward: bool = False, residual: bool = False
) -> Cost:
    """Return the cost of layer norm: the rows once in, once out, two vectors, two numbers a row.

    Backwards: the rows and the gradient of y are read and one gradient is written. With a residual
    each way reads one tensor more, and the way forward writes one more.

    Args:
        shape: of the input.
        element_size: bytes a number, of weight and bias too; means and scales have four.
        backward: whether to count the gradient instead.
        residual: whether a residual is added.
    """
    # add, subtract, square, add, multiply, multiply, add; backwards twice that
    return _rows.norm_cost(
        shape, element_size, backward, residual, vectors=2, scales=2, flops=(7, 14)
    )
