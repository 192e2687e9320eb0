r"""Linear attention with decay: a matrix as state, which keys write to and queries read.

Chapter: chapters/kernels/parallel_scan.md     Source: Katharopoulos et al. 2020; Yang et al. 2024
Axes: b batch, h heads, t steps, d width of queries and keys, v width of values; the state is
`b h d v`, the decay one number a head and step, `b h t`.

$$S_t = e^{g_t} S_{t-1} + k_t v_t^\top, \qquad y_t = c\, S_t^\top q_t$$

Written out, $y_t$ is a sum over $s \le t$ of $c\, e^{g_{s+1} + \dots + g_t} (q_t \cdot k_s) v_s$:
attention without a softmax, whose weights fade. So it has three forms. The *recurrent* one carries
d v numbers from step to step. The *parallel* one multiplies with a table of t² weights. The
*chunked* one, which runs, has a table for each chunk of l steps and scans one state a chunk: with
some t (l (d + v) + 2 d v) multiplications a head it needs no table of t², and few steps one after
the other. All its factors are products of decays between two steps, so nothing overflows where
decays are at most 1, and nothing is divided by a product that may have shrunk to 0.

The gradient of the state obeys $D_{t-1} = e^{g_t} (D_t + c\, q_t\, dy_t^\top)$, the same recurrence
from the end. So the gradient is computed in chunks too, from the inputs; nothing else is kept.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels import _dispatch, _triton
from nnlib.kernels._linear_attention_kernels import launch_backward, launch_forward
from nnlib.kernels._linear_attention_torch import (
    chunked,
    chunked_backward,
    decays,
    state_dtype,
)
from nnlib.kernels._triton import operation
from nnlib.kernels.cost import Cost

ABOVE = 0.01  # by which rounding may lift a log decay above 0
Keys = Float[Tensor, "b h t d"]
Values = Float[Tensor, "b h t v"]
Decay = Float[Tensor, "b h t"]
State = Float[Tensor, "b h d v"]


def linear_attention_reference(
    q: Keys, k: Keys, v: Values, log_decay: Decay, initial_state: State | None = None, *,
    scale: float = 1.0,
) -> tuple[Values, State]:  # fmt: skip
    """`linear_attention` as its equation reads: the recurrent form, a loop."""
    _check(q, k, v, log_decay, initial_state, scale)
    state, outputs = _start(k, v, initial_state), []
    each = (x.unbind(2) for x in (q, k, v, log_decay))
    for q_t, k_t, v_t, g_t in zip(*each, strict=True):
        written = k_t[..., :, None] * v_t[..., None, :]
        state = g_t.exp()[..., None, None] * state + written
        outputs.append(scale * (q_t[..., None, :] @ state.to(q.dtype)).squeeze(-2))
    return torch.stack(outputs, 2) if outputs else torch.zeros_like(v), state


def linear_attention_parallel(
    q: Keys, k: Keys, v: Values, log_decay: Decay, initial_state: State | None = None, *,
    scale: float = 1.0,
) -> tuple[Values, State]:  # fmt: skip
    """`linear_attention` with the table of all b·h·t·t weights: the parallel form."""
    _check(q, k, v, log_decay, initial_state, scale)
    start = _start(k, v, initial_state)
    if not q.shape[2]:
        return torch.zeros_like(v), start
    wide = [x.to(start.dtype) for x in (q, k, v)]
    pair, rise, rest, whole = decays(log_decay, start.dtype)
    q_wide, k_wide, v_wide = scale * wide[0], wide[1], wide[2]
    y = (q_wide @ k_wide.mT * pair) @ v_wide + rise[..., None] * (q_wide @ start)
    end = whole[..., None, None] * start + (rest[..., None] * k_wide).mT @ v_wide
    return y.to(v.dtype), end


def linear_attention_chunked(
    q: Keys, k: Keys, v: Values, log_decay: Decay, initial_state: State | None = None, *,
    scale: float = 1.0, chunk_size: int = 64,
) -> tuple[Values, State]:  # fmt: skip
    """`linear_attention` in plain torch and in chunks of as many steps; the last may be shorter."""
    _check(q, k, v, log_decay, initial_state, scale)
    length = min(checks.count("chunk_size", chunk_size), q.shape[2])
    return _run(q, k, v, log_decay, initial_state, scale, length, kernel=False)


# -------------------------------------------------------------------------------- registration
@operation("nnlib::linear_attention")
def _linear_attention(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, start: Tensor | None, scale: float,
    length: int, kernel: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    if not q.numel():  # no step, or no sequence
        return torch.zeros_like(v), _start(k, v, start).clone()
    if kernel and _dispatch.runs_kernel(q):
        return launch_forward(q, k, v, log_decay, start, scale)
    return chunked(q, k, v, log_decay, start, scale, length)


@operation("nnlib::linear_attention_backward")
def _linear_attention_backward(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, start: Tensor | None, dy: Tensor,
    dend: Tensor, scale: float, length: int, kernel: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    if not q.numel():
        dq, dk, dv, dg = (torch.zeros_like(x) for x in (q, k, v, log_decay))
        return dq, dk, dv, dg, dend.clone()
    if kernel and _dispatch.runs_kernel(q):
        return launch_backward(q, k, v, log_decay, start, dy, dend, scale)
    return chunked_backward(q, k, v, log_decay, start, dy, dend, scale, length)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, scale, length, kernel = inputs
    ctx.options = (scale, length, kernel)
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dy: Tensor, dend: Tensor) -> tuple[Tensor | None, ...]:
    given = ctx.saved_tensors
    *grads, dstart = torch.ops.nnlib.linear_attention_backward(
        *given, dy, dend, *ctx.options
    )
    return *grads, None if given[4] is None else dstart, None, None, None


_linear_attention.register_autograd(_differentiate, setup_context=_save)


def _run(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, start: Tensor | None, scale: float,
    length: int, *, kernel: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    return torch.ops.nnlib.linear_attention(
        q, k, v, log_decay, start, float(scale), max(length, 1), kernel
    )


# -------------------------------------------------------------------------------------- public
def linear_attention_triton(
    q: Keys, k: Keys, v: Values, log_decay: Decay, initial_state: State | None = None, *,
    scale: float = 1.0,
) -> tuple[Values, State]:  # fmt: skip
    """`linear_attention` by the Triton kernels, on a GPU or in the interpreter; nothing else."""
    _check(q, k, v, log_decay, initial_state, scale)
    _dispatch.require("linear_attention_triton", q)
    # its bfloat16 is silently wrong
    if _triton.interpreting() and q.dtype == torch.bfloat16:
        q, k, v, g = (x.float() for x in (q, k, v, log_decay))
        y, end = linear_attention_triton(q, k, v, g, initial_state, scale=scale)
        return y.bfloat16(), end
    d, width = q.shape[3], v.shape[3]
    # else rows begin anywhere, and every number is fetched by itself
    if d % 16 or width % 16:
        q, k, v = (F.pad(x, (0, -x.shape[3] % 16)) for x in (q, k, v))
        if initial_state is not None:
            initial_state = F.pad(initial_state, (0, -width % 16, 0, -d % 16))
        y, end = linear_attention_triton(q, k, v, log_decay, initial_state, scale=scale)
        return y[..., :width], end[..., :d, :width]
    length = chunk_length(q.shape[2], d)
    return _run(q, k, v, log_decay, initial_state, scale, length, kernel=True)


def linear_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b h t d"],
    v: Float[Tensor, "b h t v"],
    log_decay: Float[Tensor, "b h t"],
    initial_state: Float[Tensor, "b h d v"] | None = None,
    *,
    scale: float = 1.0,
) -> tuple[Float[Tensor, "b h t v"], Float[Tensor, "b h d v"]]:
    r"""Linear attention, $S_t = e^{g_t} S_{t-1} + k_t v_t^\top$ and $y_t = c\, S_t^\top q_t$.

    On a GPU the Triton kernels run, elsewhere the chunked form in plain torch; one step alone, as
    in generation, is the recurrence itself. Queries and keys that heads share need no copies:
    hand in what `expand` returns.

    Args:
        q: queries.
        k: keys; an input gate, or a step size, is multiplied into them or into `v`.
        v: values; a column of ones more gives the sum of weights, for a normaliser.
        log_decay: g, the logarithm of what stays of the last state: ≤ 0, −inf forgets all. In the
            dtype of `q`, or in that of the state.
        initial_state: the state before the first step, in the dtype of the state; None: 0. It
            carries on from an earlier stretch: `linear_attention(…, initial_state=state)`.
        scale: c, what outputs are multiplied by, such as 1/√d.

    Returns:
        The outputs y, and the state after the last step. The state is float32, or float64 where
        `q` is. With no steps, no outputs and the initial state.

    Raises:
        TypeError: no floating-point tensors, or dtypes that do not fit.
        ValueError: shapes or devices that do not fit, or, on a CPU, a log decay above 0. (A GPU
            does not look; there such a state grows.)

    Example:
        >>> q = k = torch.ones(1, 1, 3, 1)
        >>> v = torch.tensor([8.0, 0.0, 1.0]).view(1, 1, 3, 1)
        >>> y, state = linear_attention(q, k, v, torch.full((1, 1, 3), 0.5).log())
        >>> y.flatten().tolist(), state.item()
        ([8.0, 4.0, 3.0], 3.0)

    Source: Katharopoulos et al. 2020; decay by step, in chunks: Yang et al. 2024, Dao and Gu 2024.
    """
    _check(q, k, v, log_decay, initial_state, scale)
    if q.shape[2] == 1:
        state = log_decay.exp()[..., None] * _start(k, v, initial_state)
        state = torch.addcmul(state, k.mT.to(state.dtype), v.to(state.dtype))
        return (scale * (q.to(state.dtype) @ state)).to(v.dtype), state
    if _dispatch.use_triton(q):
        return linear_attention_triton(q, k, v, log_decay, initial_state, scale=scale)
    length = chunk_length(q.shape[2], q.shape[3])
    return _run(q, k, v, log_decay, initial_state, scale, length, kernel=False)


def chunk_length(steps: int, width: int) -> int:
    """Return the steps of a chunk in plain torch, so that tables cost no more than states."""
    return min(max(steps, 1), 32 if width <= 64 else 64)


def linear_attention_cost(
    shape: tuple[int, int, int, int],
    values: int,
    element_size: int = 4,
    backward: bool = False,
) -> Cost:
    """Return the cost of the recurrence: each input read once, no state written but the last.

    Args:
        shape: b, h, t, d of the queries.
        values: v, the width of the values.
        element_size: bytes a number of q, k, v and y; decays and states have four.
        backward: whether to count the gradient instead.

    Example:
        >>> linear_attention_cost((1, 1, 100, 4), 8).flops  # 5 for each entry of the state and step
        16000
    """
    b, h, t, d = shape
    # decay, write and read a state; backwards twice the first two, and four products with it
    flops, passes = (14, 2) if backward else (5, 1)
    # q k v y; backwards q k v dy, dq dk dv
    numbers = t * (4 * d + 3 * values if backward else 2 * d + 2 * values)
    small = 4 * passes * (t + d * values)
    return Cost(
        flops * b * h * t * d * values, b * h * (numbers * element_size + small)
    )


def _start(k: Tensor, v: Tensor, initial_state: Tensor | None) -> Tensor:
    """Return the state before the first step."""
    if initial_state is not None:
        return initial_state
    return k.new_zeros((*k.shape[:2], k.shape[3], v.shape[3]), dtype=state_dtype(k))


def _check(
    q: Tensor, k: Tensor, v: Tensor, log_decay: Tensor, initial_state: Tensor | None, scale: float,
) -> None:  # fmt: skip
    b, h, t, d = checks.tensor("q", q, shape=("b", "h", "t", "d"), floating=True).shape
    checks.tensor("k", k, shape=(b, h, t, d), floating=True)
    width = checks.tensor("v", v, shape=(b, h, t, "v"), floating=True).shape[3]
    if not d or not width:
        raise ValueError(f"q and v must be 1 wide or more, got d = {d} and v = {width}")
    _dispatch.alike(q=q, k=k, v=v)
    _check_fading("log_decay", log_decay, (b, h, t), q, (q.dtype, state_dtype(q)))
    if initial_state is not None:
        shape = b, h, d, width
        _check_fading("initial_state", initial_state, shape, q, (state_dtype(q),))
    checks.number("scale", scale)
    if checks.readable(log_decay) and log_decay.numel():
        largest = log_decay.detach().max().item()
        if largest > ABOVE:
            raise ValueError(
                f"log_decay must be ≤ 0, the logarithm of what stays, got {largest:.3g}"
            )


def _check_fading(
    name: str, x: Tensor, shape: tuple[int, ...], q: Tensor, dtypes: tuple[torch.dtype, ...],
) -> None:  # fmt: skip
    """Refuse a tensor that may be in another dtype than `q`, but not in any."""
    checks.tensor(name, x, shape=shape, floating=True)
    if x.dtype not in dtypes:
        wanted = " or ".join(str(dtype) for dtype in dict.fromkeys(dtypes))
        raise TypeError(f"{name} must be {wanted}, got {x.dtype}")
    if x.device != q.device:
        raise ValueError(f"{name} must be on {q.device} like q, got {x.device}")
