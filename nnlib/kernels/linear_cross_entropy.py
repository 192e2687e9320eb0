r"""Last layer and loss in one: the cross-entropy of $x_i W^\top$, never all logits at once.

Chapter: chapters/kernels/roofline.md     Source: Wijmans et al. 2024; Hsu et al. 2024
Axes: n rows (tokens), v classes (the vocabulary), d features.

With 32,768 tokens and 128,256 words the logits alone are 8.4 GB in bfloat16, and their gradient as
much again. Yet of a row only its loss and gradient are wanted. So tokens come in chunks: multiply,
turn the chunk's logits into their own gradient in place, multiply that into dx and dW, and reuse
the room for the next chunk. The gradient is there once the loss is; backwards only scales it.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.kernels import _dispatch
from nnlib.kernels.cost import Cost
from nnlib.kernels.cross_entropy import (
    check_targets,
    cross_entropy_reference,
    gradient,
    statistics,
)

LEAST = 2**18  # logits of a chunk: fewer would only make more calls


def linear_cross_entropy_reference(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    target: Int[Tensor, "n"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """`linear_cross_entropy` as its equation reads; holds all n·v logits at once."""
    _check(x, weight, target, ignore_index, label_smoothing)
    return cross_entropy_reference(x @ weight.T, target, ignore_index, label_smoothing)


def chunk_length(n: int, v: int, d: int) -> int:
    """Return how many tokens have their logits at once: d of them, so that the room is W's own.

    Then the peak grows with v·d, whatever n is, and each product is large enough for the
    arithmetic, not the memory, to be what it waits for. A chunk has 2¹⁸ logits at least.
    """
    return max(1, min(n, max(d, LEAST // max(v, 1))))


def _softmax_gradient(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    label_smoothing: float,
    learns: bool,
) -> tuple[Tensor, Tensor]:
    """Return each row's loss and, if wanted, softmax minus the wanted distribution; plain torch."""
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    kept = target != ignore_index
    y = torch.where(kept, target, 0).long()[:, None]
    log_p = logits.log_softmax(-1, dtype=wide)
    loss = -(1 - label_smoothing) * log_p.gather(1, y)[:, 0]
    if label_smoothing:
        loss -= label_smoothing * log_p.mean(-1)
    loss = torch.where(kept, loss, 0.0)
    if not learns:
        return loss, logits
    p = log_p.exp_()
    if label_smoothing:
        p.sub_(label_smoothing / p.shape[1])
    p.scatter_add_(1, y, p.new_full(y.shape, label_smoothing - 1))
    if p.is_cuda or not bool(
        kept.all()
    ):  # a look costs nothing on the CPU, a pass over p does
        p.masked_fill_(~kept[:, None], 0.0)
    return loss, p.to(logits.dtype)


def _by_chunks(
    x: Tensor, weight: Tensor, target: Tensor, ignore_index: int, label_smoothing: float,
    wants_dx: bool, wants_dweight: bool, kernel: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the summed loss, the number of rows that count, and the sum's gradients dx and dW.

    Opaque to `torch.compile`, which would write out every chunk. The gradients are those of the
    sum, not of the mean: divided by n, they could fall below the smallest float16.
    """
    (n, d), v = x.shape, weight.shape[0]
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    kernel = kernel and _dispatch.runs_kernel(x)
    learns = wants_dx or wants_dweight
    total = x.new_zeros((), dtype=wide)
    dx = x.new_empty((n, d) if wants_dx else (0, d))
    dweight = x.new_zeros((v, d) if wants_dweight else (0, d), dtype=wide)
    step = chunk_length(n, v, d)
    for at in range(0, n, step):
        part, y = x[at : at + step], target[at : at + step]
        logits = part @ weight.T
        if kernel:
            losses, m, log_total = statistics(logits, y, ignore_index, label_smoothing)
            if learns:
                gradient(
                    logits, y, m, log_total, torch.ones_like(losses), ignore_index,
                    label_smoothing, in_place=True,
                )  # fmt: skip
        else:
            losses, logits = _softmax_gradient(
                logits, y, ignore_index, label_smoothing, learns
            )
        total += losses.sum()
        if wants_dx:
            torch.mm(logits, weight, out=dx[at : at + step])
        # half precision in, float32 out
        if wants_dweight and x.is_cuda and x.dtype != wide:
            dweight += torch.mm(logits.T, part, out_dtype=wide)
        elif wants_dweight:
            dweight.addmm_(logits.T.to(wide), part.to(wide))
    return total, (target != ignore_index).sum(), dx, dweight


_loss_and_gradients = torch.library.custom_op(
    "nnlib::linear_cross_entropy", _by_chunks, mutates_args=()
)


@_loss_and_gradients.register_fake
def _(
    x, weight, target, ignore_index, label_smoothing, wants_dx, wants_dweight, kernel
):
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    d = x.shape[1]
    return (
        x.new_empty((), dtype=wide),
        target.new_empty((), dtype=torch.int64),
        x.new_empty((x.shape[0] if wants_dx else 0, d)),
        x.new_empty((weight.shape[0] if wants_dweight else 0, d), dtype=wide),
    )


def _save(ctx, inputs, output):
    ctx.weight_dtype, ctx.wants = inputs[1].dtype, inputs[5:7]
    ctx.save_for_backward(*output[2:])


def _differentiate(ctx, dtotal, _count, _dx, _dweight):
    dx, dweight = ctx.saved_tensors
    wants_dx, wants_dweight = ctx.wants
    # dtotal, 1/count times the gradient of the mean, is float32, and so is the product with it
    dx = (dx.to(dtotal.dtype) * dtotal).to(dx.dtype) if wants_dx else None
    dweight = (dweight * dtotal).to(ctx.weight_dtype) if wants_dweight else None
    return dx, dweight, None, None, None, None, None, None


_loss_and_gradients.register_autograd(_differentiate, setup_context=_save)


def _mean(
    x: Tensor, weight: Tensor, target: Tensor, ignore_index: int, label_smoothing: float,
    kernel: bool,
) -> Tensor:  # fmt: skip
    mixed = _dispatch.mixed_precision(x)
    if mixed:  # as the linear layer would
        narrow = torch.get_autocast_dtype(x.device.type)
        x, weight = x.to(narrow), weight.to(narrow)
    learns = torch.is_grad_enabled()
    total, count, _, _ = torch.ops.nnlib.linear_cross_entropy(
        x, weight, target, ignore_index, label_smoothing, learns and x.requires_grad,
        learns and weight.requires_grad, kernel,
    )  # fmt: skip
    # no row that counts: 0/0 is NaN, as in torch, and the gradient 0
    mean = torch.where(count == 0, torch.nan, total / count.clamp(min=1))
    return mean if mixed else mean.to(x.dtype)


def linear_cross_entropy_triton(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    target: Int[Tensor, "n"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """`linear_cross_entropy` with the Triton kernels of `cross_entropy` on each chunk."""
    _check(x, weight, target, ignore_index, label_smoothing)
    _dispatch.require("linear_cross_entropy_triton", x)
    return _mean(x, weight, target, ignore_index, float(label_smoothing), True)


def linear_cross_entropy(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "v d"],
    target: Int[Tensor, "n"],
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    r"""`cross_entropy(x @ weight.T, target)` in the memory of a chunk of tokens.

    The gradients $dx_i = W^\top (p_i - q_i) / c$ and $dW = \sum_i (p_i - q_i) x_i^\top / c$, with
    p the softmax, q the wanted distribution and c the number of rows that count, are computed
    with the loss, so a loss that is not differentiated should be asked for under `no_grad`.

    Args:
        x: what the model says of each token, before the last layer.
        weight: of the last layer, one row a class.
        target: integers, 0 … v - 1, or `ignore_index`; on a GPU as in `cross_entropy`.
        ignore_index: rows with this target count for nothing; when none counts, the loss is NaN
            and the gradients 0.
        label_smoothing: ε, 0 … 1, as in `cross_entropy`.

    Returns:
        One number, of the dtype of `x`; under autocast float32. dW is summed in float32.

    Raises:
        TypeError: no floating-point tensors, of different dtypes, or `target` not integers.
        ValueError: the shapes do not fit, ε is outside 0 … 1, or, on the CPU, a target is outside.

    Example:
        >>> x, weight = torch.zeros(4, 2), torch.ones(8, 2)
        >>> linear_cross_entropy(x, weight, torch.arange(4)).item()  # log 8
        2.079441547393799

    Source: gradients in the forward pass, chunk by chunk: Hsu et al. 2024 (Liger Kernel); a loss
    without stored logits also: Wijmans et al. 2024.
    """
    _check(x, weight, target, ignore_index, label_smoothing)
    kernel = _dispatch.use_triton(x)
    return _mean(x, weight, target, ignore_index, float(label_smoothing), kernel)


def linear_cross_entropy_cost(
    n: int, v: int, d: int, element_size: int = 4, backward: bool = False
) -> Cost:
    """Return the cost: one matrix product, or, backwards, two; logits never reach main memory.

    It is the least that any form could get by with. Ours writes a chunk's logits and reads them
    back, and makes all three products forwards when gradients are wanted.

    Args:
        n: rows.
        v: classes.
        d: features.
        element_size: bytes a number.
        backward: whether to count the gradients instead.
    """
    products = 2 if backward else 1
    # backwards: x, W and their gradients
    moved = (n * d + v * d) * element_size * products + 8 * n
    return Cost(2 * n * v * d * products, moved)


def _check(
    x: Tensor, weight: Tensor, target: Tensor, ignore_index: int, label_smoothing: float
) -> None:
    checks.tensor("x", x, shape=("n", "d"), floating=True)
    n, d = x.shape
    checks.tensor("weight", weight, shape=("v", d), floating=True)
    v = weight.shape[0]
    if v == 0:
        raise ValueError(
            f"weight must have one class or more, got shape {tuple(weight.shape)}"
        )
    if not _dispatch.mixed_precision(x):  # which casts both
        _dispatch.alike(x=x, weight=weight)
    checks.tensor("target", target, shape=(n,), floating=False)
    for name, tensor in (("weight", weight), ("target", target)):
        if tensor.device != x.device:
            raise ValueError(
                f"{name} must be on {x.device} like x, got {tensor.device}"
            )
    check_targets(target, v, ignore_index, label_smoothing)
