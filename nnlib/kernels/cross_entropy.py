r"""Cross-entropy of logits: $\ell_i = \log\sum_k e^{x_{ik}} - x_{i y_i}$, averaged over the rows.

Chapter: chapters/kernels/roofline.md     Source: Milakov and Gimelshein 2018 (online softmax)
Axes: n rows (tokens), v classes (the vocabulary).

Plain torch writes all n·v log-probabilities, and reads them again. The kernel reads a row once, in
blocks, and keeps three numbers of it: the loss, the largest logit m and log Σ e^(x - m). From the
last two the gradient is one more read and one write.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch
from nnlib.kernels._triton import jit, operation, tl
from nnlib.kernels.cost import Cost


def cross_entropy_reference(
    logits: Float[Tensor, "n v"],
    target: Int[Tensor, "n"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """`cross_entropy` as its equation reads."""
    _check(logits, target, ignore_index, label_smoothing)
    shifted = logits - logits.amax(-1, keepdim=True)
    log_p = shifted - shifted.exp().sum(-1, keepdim=True).log()
    kept = target != ignore_index
    y = torch.where(kept, target, 0).long()
    losses = -(1 - label_smoothing) * log_p.gather(1, y[:, None])[:, 0]
    if label_smoothing:
        losses = losses - label_smoothing * log_p.mean(-1)
    return torch.where(kept, losses, 0.0).sum() / kept.sum()


@jit
def _forward_kernel(
    x_ptr, target_ptr, loss_ptr, m_ptr, log_total_ptr, columns, ignore, smoothing,
    SMOOTH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)  # one program a row
    start = row * columns
    y = tl.load(target_ptr + row).to(tl.int64)
    if y == ignore:
        tl.store(loss_ptr + row, 0.0)
        tl.store(m_ptr + row, 0.0)
        tl.store(log_total_ptr + row, 0.0)
    else:
        known = (y >= 0) & (y < columns)
        x_y = tl.load(x_ptr + start + y, mask=known, other=float("nan")).to(tl.float32)
        near = tl.where(
            tl.abs(x_y) < float("inf"), x_y, 0.0
        )  # differences from it are exact
        cols = tl.arange(0, BLOCK)
        m, total, mean = -float("inf"), 0.0, 0.0
        for at in range(0, columns, BLOCK):
            live = at + cols < columns
            x = tl.load(x_ptr + start + at + cols, mask=live, other=-float("inf")).to(
                tl.float32
            )
            larger = tl.maximum(m, tl.max(x, 0))
            base = tl.where(larger == -float("inf"), 0.0, larger)  # else -inf - -inf
            total = total * tl.exp(m - base) + tl.sum(tl.exp(x - base), 0)
            m = larger
            if SMOOTH:
                mean += tl.sum(tl.where(live, x - near, 0.0), 0) / columns
        log_total = tl.log(total)
        # not (m + log_total) - near, which rounds at large m
        loss = log_total + (m - near)
        if SMOOTH:
            loss -= (1 - smoothing) * (x_y - near) + smoothing * mean
        else:
            loss -= x_y - near
        tl.store(loss_ptr + row, loss)
        tl.store(m_ptr + row, m)
        tl.store(log_total_ptr + row, log_total)


@jit
def _backward_kernel(
    x_ptr, target_ptr, m_ptr, log_total_ptr, dloss_ptr, dx_ptr, columns, ignore, smoothing,
    BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    cols = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    live = cols < columns
    at = row * columns + cols
    y = tl.load(target_ptr + row).to(tl.int64)
    if y == ignore:
        tl.store(dx_ptr + at, tl.zeros([BLOCK], tl.float32), mask=live)
    else:
        x = tl.load(x_ptr + at, mask=live, other=0.0).to(tl.float32)
        dloss = tl.load(dloss_ptr + row)
        dloss = tl.where((y >= 0) & (y < columns), dloss, float("nan"))
        p = tl.exp((x - tl.load(m_ptr + row)) - tl.load(log_total_ptr + row))
        wanted = tl.where(cols == y, 1 - smoothing, 0.0) + smoothing / columns
        tl.store(dx_ptr + at, dloss * (p - wanted), mask=live)


def statistics(
    x: Tensor, target: Tensor, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the forward kernel: each row's loss, largest logit m and log Σ e^(x - m), float32."""
    rows, columns = x.shape
    loss, m, log_total = (x.new_empty(rows, dtype=torch.float32) for _ in range(3))
    if rows:
        block = min(8192, 1 << (columns - 1).bit_length())
        warps = 4 if block <= 2048 else 8
        _forward_kernel[(rows,)](
            x.contiguous(), target.contiguous(), loss, m, log_total, columns, ignore_index,
            label_smoothing, SMOOTH=label_smoothing > 0, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return loss, m, log_total


def gradient(
    x: Tensor, target: Tensor, m: Tensor, log_total: Tensor, dloss: Tensor,
    ignore_index: int, label_smoothing: float, *, in_place: bool = False,
) -> Tensor:  # fmt: skip
    """Launch the backward kernel: dloss_i · (softmax - wanted), into `x` itself if asked to."""
    rows, columns = x.shape
    x = x.contiguous()
    dx = x if in_place else torch.empty_like(x)
    if rows:
        block = min(4096, 1 << (columns - 1).bit_length())
        warps = 4 if block <= 2048 else 8
        _backward_kernel[(rows, -(-columns // block))](
            x, target.contiguous(), m, log_total, dloss.contiguous(), dx, columns, ignore_index,
            label_smoothing, BLOCK=block, num_warps=warps,
        )  # fmt: skip
    return dx


@operation("nnlib::cross_entropy")
def _losses(
    x: Tensor, target: Tensor, ignore_index: int, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    if _dispatch.runs_kernel(x):
        return statistics(x, target, ignore_index, label_smoothing)
    m = x.float().amax(-1)
    shifted = x.float() - m[:, None]
    log_total = shifted.exp().sum(-1).log()
    kept = target != ignore_index
    y = torch.where(kept, target, 0).long()
    loss = log_total - (1 - label_smoothing) * shifted.gather(1, y[:, None])[:, 0]
    if label_smoothing:
        loss = loss - label_smoothing * shifted.mean(-1)
    return torch.where(kept, loss, 0.0), m, log_total


@operation("nnlib::cross_entropy_backward")
def _losses_backward(
    x: Tensor, target: Tensor, m: Tensor, log_total: Tensor, dloss: Tensor,
    ignore_index: int, label_smoothing: float,
) -> Tensor:  # fmt: skip
    if _dispatch.runs_kernel(x):
        return gradient(x, target, m, log_total, dloss, ignore_index, label_smoothing)
    kept = (target != ignore_index)[:, None]
    p = ((x.float() - m[:, None]) - log_total[:, None]).exp()
    y = torch.where(kept[:, 0], target, 0).long()
    wanted = torch.zeros_like(p).scatter(1, y[:, None], 1 - label_smoothing)
    dx = dloss[:, None] * (p - wanted - label_smoothing / x.shape[1])
    return torch.where(kept, dx, 0.0).to(x.dtype).contiguous()


def _save(ctx, inputs, output):
    x, target, ctx.ignore_index, ctx.label_smoothing = inputs
    ctx.save_for_backward(x, target, output[1], output[2])


def _differentiate(ctx, dloss, _m, _log_total):
    settings = ctx.ignore_index, ctx.label_smoothing
    dx = torch.ops.nnlib.cross_entropy_backward(*ctx.saved_tensors, dloss, *settings)
    return dx, None, None, None


_losses.register_autograd(_differentiate, setup_context=_save)


def _by_kernel(
    logits: Tensor, target: Tensor, ignore_index: int, label_smoothing: float
) -> Tensor:
    losses, _, _ = torch.ops.nnlib.cross_entropy(
        logits, target, ignore_index, label_smoothing
    )
    mean = losses.sum() / (target != ignore_index).sum()
    # under autocast torch's own loss is float32
    return mean if _dispatch.mixed_precision(logits) else mean.to(logits.dtype)


def cross_entropy_triton(
    logits: Float[Tensor, "n v"],
    target: Int[Tensor, "n"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """`cross_entropy` by the Triton kernel, on a GPU or in the interpreter; nothing else."""
    _check(logits, target, ignore_index, label_smoothing)
    _dispatch.require("cross_entropy_triton", logits)
    return _by_kernel(logits, target, ignore_index, float(label_smoothing))


def cross_entropy(
    logits: Float[Tensor, "n v"],
    target: Int[Tensor, "n"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Mean of $-\sum_j q_{ij} \log \mathrm{softmax}(x_i)_j$ over the rows that count.

    $q_i = (1 - \varepsilon)\, e_{y_i} + \varepsilon / v$ is the target, smoothed by
    $\varepsilon$; the gradient is $(\mathrm{softmax}(x_i) - q_i) / \#\text{rows that count}$.

    Args:
        logits: floating point; statistics are float32, the result has their dtype, as in torch.
        target: integers, 0 … v - 1, or `ignore_index`.
        ignore_index: rows with this target count for nothing. When no row counts, the loss is
            0/0 = NaN, as in torch, and the gradient 0.
        label_smoothing: ε, 0 … 1.

    Returns:
        One number.

    Raises:
        TypeError: `logits` are not floating point, or `target` not integers.
        ValueError: the shapes do not fit, ε is outside 0 … 1, or, on the CPU, a target is outside
            0 … v - 1. On a GPU the look at the targets would make the program wait for it, and is
            left out: there a target outside gives the kernel's loss, and that row's gradient, NaN.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0], [5.0, 5.0], [1.0, 7.0]])
        >>> cross_entropy(logits, torch.tensor([0, 1, -100])).item()  # log 2
        0.6931471824645996

    Source: label smoothing: Szegedy et al. 2016; one pass over a row: Milakov and Gimelshein 2018.
    """
    _check(logits, target, ignore_index, label_smoothing)
    if _dispatch.use_triton(logits):
        return _by_kernel(logits, target, ignore_index, float(label_smoothing))
    return F.cross_entropy(
        logits,
        target.long(),
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )


def cross_entropy_cost(
    shape: tuple[int, int], element_size: int = 4, backward: bool = False
) -> Cost:
    """Return the cost of cross-entropy: one read of the logits; backwards one more, and a write.

    Args:
        shape: (n, v), of the logits.
        element_size: bytes a logit; targets count 8, and a row's statistics 4 each.
        backward: whether to count the gradient instead.
    """
    rows, numbers = shape[0], math.prod(shape)
    if backward:  # subtract m and log Σ, exp, subtract the target, scale
        return Cost(5 * numbers, 2 * numbers * element_size + rows * (8 + 3 * 4))
    return Cost(
        4 * numbers, numbers * element_size + rows * (8 + 3 * 4)
    )  # max, subtract, exp, add


def check_targets(
    target: Tensor, v: int, ignore_index: int, label_smoothing: float
) -> None:
    """Refuse options out of range, and targets outside 0 … v - 1.

    At targets it looks where that costs nothing: on the CPU, not compiled.
    """
    checks.count("ignore_index", ignore_index, least=-(2**31))
    # else compilable
    if not (isinstance(label_smoothing, float) and 0 <= label_smoothing <= 1):
        checks.number("label_smoothing", label_smoothing, least=0, most=1)
    if (
        target.device.type != "cpu"
        or torch.compiler.is_compiling()
        or not target.numel()
    ):
        return
    least, most = target.aminmax()
    if int(least) >= 0 and int(most) < v:  # nothing is ignored: one look is enough
        return
    outside = ((target < 0) | (target >= v)) & (target != ignore_index)
    if bool(outside.any()):
        raise ValueError(
            f"target must hold 0 … {v - 1} or ignore_index={ignore_index}, "
            f"got {int(target[outside][0])}"
        )


def _check(
    logits: Tensor, target: Tensor, ignore_index: int, label_smoothing: float
) -> None:
    checks.tensor("logits", logits, shape=("n", "v"), floating=True)
    n, v = logits.shape
    if v == 0:
        raise ValueError(
            f"logits must have one class or more, got shape {tuple(logits.shape)}"
        )
    checks.tensor("target", target, shape=(n,), floating=False)
    if target.device != logits.device:
        raise ValueError(
            f"target must be on {logits.device} like logits, got {target.device}"
        )
    check_targets(target, v, ignore_index, label_smoothing)
