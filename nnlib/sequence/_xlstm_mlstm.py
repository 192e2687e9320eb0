"""The mLSTM over all of time: as a loop, as a table of all pairs of steps, and in chunks.

Axes: b batch, n heads, t time, s time looked back at, d width of queries and keys, v of values.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels.linear_attention import linear_attention, linear_attention_chunked
from nnlib.sequence._xlstm_state import FORGET, NOTHING, checked_state, wide

SHORT, SHORT_WIDE = 64, 128  # steps that a CPU reads by a table; where heads are wide
FARTHEST = -1e6  # a log forget gate below it forgets all, and sums of it stay exact


class MLSTMState(NamedTuple):
    r"""What an mLSTM keeps of the past, all of it divided by $e^m$.

    Attributes:
        C: the memory: values written at keys, b n d v.
        z: the normaliser: the sum of the keys, b n d. The paper calls it n.
        m: the stabiliser, b n; −∞ where nothing was read.
    """

    C: Tensor
    z: Tensor
    m: Tensor


def mlstm_chunkwise(
    q: Float[Tensor, "b n t d"],
    k: Float[Tensor, "b n t d"],
    v: Float[Tensor, "b n t v"],
    i: Float[Tensor, "b n t"],
    f: Float[Tensor, "b n t"],
    state: MLSTMState | None = None,
    *,
    forget_gate: str = "sigmoid",
    chunk_size: int | None = None,
    eps: float = 1e-6,
) -> tuple[Float[Tensor, "b n t v"], MLSTMState]:
    r"""The mLSTM over all of time, in chunks: what models run.

    $C_t = f_t C_{t-1} + i_t k_t v_t^\top$, read by $q_t$ and divided by the weights that were
    read (equations `xlstm-memory`, `xlstm-normaliser`, `xlstm-read`), with $i = e^{\tilde i}$.
    Once the stabiliser is known, which costs a cumulative maximum, what is left is linear
    attention with a decay of at most 1: the kernel `linear_attention`, with a column of ones
    beside the values for the normaliser.

    Args:
        q: queries.
        k: keys; they are divided by √d here.
        v: values.
        i: input gates before the exponential, any finite numbers.
        f: forget gates before their function.
        state: after what was read before; None: nothing was.
        forget_gate: "sigmoid", or "exp".
        chunk_size: steps of a chunk, ≥ 1; None leaves it to the kernel. The result is the same.
        eps: ε ≥ 0, added to the divisor.

    Returns:
        What was read at each step, and the state after the last one.

    Raises:
        TypeError: no floating-point tensors.
        ValueError: shapes that do not fit.

    Example:
        >>> one = torch.ones(1, 1, 3, 1)
        >>> v, open_ = torch.tensor([8.0, 4.0, 0.0]).view(1, 1, 3, 1), torch.full((1, 1, 3), 9.0)
        >>> gate = torch.tensor([0.0, 0.0, -9.0]).view(1, 1, 3)  # the third is hardly written
        >>> mlstm_chunkwise(one, one, v, gate, open_)[0].flatten().round(decimals=2).tolist()
        [8.0, 6.0, 6.0]

    Source: Beck et al. 2024, section 2.3 and appendix A.3.
    """
    fresh, state = state is None, _check_mlstm(q, k, v, i, f, state, forget_gate, eps)
    return chunkwise(q, k, v, i, f, state, fresh, forget_gate, chunk_size, eps)


def chunkwise(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: MLSTMState, fresh: bool,
    forget_gate: str = "sigmoid", chunk_size: int | None = None, eps: float = 1e-6,
) -> tuple[Tensor, MLSTMState]:  # fmt: skip
    """`mlstm_chunkwise` of what fits; `fresh` where nothing stands in the state."""
    short = SHORT if q.shape[-1] < SHORT else SHORT_WIDE
    if chunk_size is None and q.shape[2] <= short and q.device.type == "cpu":
        # one step is the recurrence, one chunk the table: no detour by the kernel
        log_f = _log_forget(f, forget_gate, state.m.dtype)
        if q.shape[2] < 2:
            return _recurrent(q, k, v, i, log_f, state, eps)
        return _parallel(q, k, v, i, log_f, state, eps, fresh)
    if not q.shape[2]:
        return torch.zeros_like(v), state
    log_f = _log_forget(f, forget_gate, state.m.dtype)
    i = i.to(log_f.dtype)
    m, before = _stabiliser(i, log_f, state.m)
    keep = log_f + (before - m).to(log_f.dtype)  # eq. xlstm-stable-gates
    write = (i - m.to(i.dtype)).exp() / math.sqrt(q.shape[-1])
    keys = k * write[..., None].to(k.dtype)
    values = torch.cat([v, torch.ones_like(v[..., :1])], -1)
    start = torch.cat([state.C, state.z[..., None]], -1)
    given = q, keys, values, keep, start
    if chunk_size is None:
        read, end = linear_attention(*given)
    else:
        read, end = linear_attention_chunked(*given, chunk_size=chunk_size)
    h = _normalised(read[..., :-1], read[..., -1], m, eps)
    return h, MLSTMState(end[..., :-1], end[..., -1], m[..., -1].to(state.m.dtype))


def mlstm_parallel(
    q: Float[Tensor, "b n t d"],
    k: Float[Tensor, "b n t d"],
    v: Float[Tensor, "b n t v"],
    i: Float[Tensor, "b n t"],
    f: Float[Tensor, "b n t"],
    state: MLSTMState | None = None,
    *,
    forget_gate: str = "sigmoid",
    eps: float = 1e-6,
) -> tuple[Float[Tensor, "b n t v"], MLSTMState]:
    """`mlstm_chunkwise` as one product with a table of t · t weights, as attention has one.

    Equations `xlstm-table` and `xlstm-parallel`. For short sequences, and to be looked at.
    Arguments as for `mlstm_chunkwise`.
    """
    fresh, state = state is None, _check_mlstm(q, k, v, i, f, state, forget_gate, eps)
    log_f = _log_forget(f, forget_gate, state.m.dtype)
    return _parallel(q, k, v, i, log_f, state, eps, fresh)


def mlstm_recurrent(
    q: Float[Tensor, "b n t d"],
    k: Float[Tensor, "b n t d"],
    v: Float[Tensor, "b n t v"],
    i: Float[Tensor, "b n t"],
    f: Float[Tensor, "b n t"],
    state: MLSTMState | None = None,
    *,
    forget_gate: str = "sigmoid",
    eps: float = 1e-6,
) -> tuple[Float[Tensor, "b n t v"], MLSTMState]:
    """`mlstm_chunkwise` as its equations read: a loop; arguments as for it."""
    state = _check_mlstm(q, k, v, i, f, state, forget_gate, eps)
    return _recurrent(
        q, k, v, i, _log_forget(f, forget_gate, state.m.dtype), state, eps
    )


def mlstm_weights(
    i: Float[Tensor, "b n t"], f: Float[Tensor, "b n t"], forget_gate: str = "sigmoid"
) -> Float[Tensor, "b n t s"]:
    r"""Return the stabilised table of gates $e^{D_{ts} - \max_s D_{ts}}$, 0 above the diagonal.

    How much of what was written at step s is left at step t, beside the strongest (equation
    `xlstm-table`).

    Args:
        i: input gates before the exponential.
        f: forget gates before their function.
        forget_gate: "sigmoid", or "exp".

    Example:
        >>> gates = torch.zeros(1, 1, 3)
        >>> mlstm_weights(gates, gates)[0, 0].tolist()  # σ(0) = ½
        [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]]
    """
    b, n, t = checks.tensor("i", i, shape=("b", "n", "t"), floating=True).shape
    checks.tensor("f", f, shape=(b, n, t), floating=True)
    checks.one_of("forget_gate", forget_gate, FORGET)
    if not t:
        return i.new_zeros(b, n, 0, 0)
    log_f = _log_forget(f, forget_gate, wide(i))
    nothing = torch.full_like(log_f[..., 0], NOTHING)
    log_weight, _ = _log_table(i.to(log_f.dtype), log_f, nothing)
    return (log_weight - log_weight.amax(-1, keepdim=True)).exp()


def _parallel(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, log_f: Tensor, state: MLSTMState, eps: float,
    fresh: bool,
) -> tuple[Tensor, MLSTMState]:  # fmt: skip
    if not q.shape[2]:
        return torch.zeros_like(v), state
    dtype, (q, k, v, i) = v.dtype, (part.to(state.m.dtype) for part in (q, k, v, i))
    log_weight, log_old = _log_table(i, log_f, state.m)
    with torch.no_grad():
        m = torch.maximum(log_weight.amax(-1), log_old)
    weight = (log_weight - m[..., None]).exp()  # eq. xlstm-table
    keys = k / math.sqrt(q.shape[-1])
    scores = weight * (q @ keys.transpose(-1, -2))
    read, total = scores @ v, scores.sum(-1)
    last = weight[..., -1, :, None] * keys
    C, z = last.transpose(-1, -2) @ v, last.sum(-2)
    if not fresh:  # something may stand in the state
        old = (log_old - m).exp()[..., None]
        read = read + old * (q @ state.C)
        total = total + (old * (q @ state.z[..., None])).squeeze(-1)
        C, z = C + old[..., -1, :, None] * state.C, z + old[..., -1, :] * state.z
    h = _normalised(read, total, m, eps).to(dtype)
    return h, MLSTMState(C, z, m[..., -1])


def _recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    i: Tensor,
    log_f: Tensor,
    state: MLSTMState,
    eps: float,
) -> tuple[Tensor, MLSTMState]:
    C, z, m = state
    dtype, outputs = v.dtype, []
    given = (part.to(m.dtype).unbind(2) for part in (q, k, v, i, log_f))
    for now in zip(*given, strict=True):
        q_t, k_t, v_t, i_t, log_keep = now
        with torch.no_grad():
            before, m = m, torch.maximum(log_keep + m, i_t)  # eq. xlstm-stabiliser
        keep = (log_keep + (before - m)).exp()  # eq. xlstm-stable-gates
        k_t = k_t * ((i_t - m).exp() / math.sqrt(q.shape[-1]))[..., None]
        C = (keep[..., None, None] * C).addcmul_(
            k_t[..., :, None], v_t[..., None, :]
        )  # eq. xlstm-memory
        z = torch.addcmul(k_t, keep[..., None], z)  # eq. xlstm-normaliser
        read, total = (q_t[..., None, :] @ C).squeeze(-2), (q_t * z).sum(-1)
        outputs.append(_normalised(read, total, m, eps))
    h = torch.stack(outputs, 2).to(dtype) if outputs else torch.zeros_like(v)
    return h, MLSTMState(C, z, m)


def _log_forget(f: Tensor, forget_gate: str, dtype: torch.dtype) -> Tensor:
    f = f.to(dtype)
    log_f = F.logsigmoid(f) if forget_gate == "sigmoid" else f
    return log_f.clamp(min=FARTHEST)


@torch.no_grad()
def _stabiliser(i: Tensor, log_f: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return m after and before each step, in float64: outputs do not depend on it.

    Unrolled, the recurrence of m is a cumulative maximum: with F the sum of log_f up to t,
    m_t = F_t + max(m_0, max over s ≤ t of i_s − F_s).
    """
    total = log_f.double().cumsum(-1)
    highest = (i.double() - total).cummax(-1).values
    start = start[..., None].double()
    m = total + torch.maximum(highest, start)  # eq. xlstm-stabiliser
    return m, torch.cat([start, m[..., :-1]], -1)


class _Fade(torch.autograd.Function):
    """The logarithm of what is left at step t of step s; its gradient is two sums of the table."""

    @staticmethod
    def forward(i: Tensor, total: Tensor) -> Tensor:
        t = i.shape[-1]
        past = torch.ones(t, t, dtype=torch.bool, device=i.device).tril()
        fade = (total[..., :, None] - total[..., None, :]).to(i.dtype)
        return fade.add_(i[..., None, :]).masked_fill_(~past, -math.inf)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.wide = inputs[1].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        columns = grad.sum(-2)
        return columns, (grad.sum(-1) - columns).to(ctx.wide)


def _log_table(i: Tensor, log_f: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
    """Return the logarithms of what is left at step t of step s, and of the state before."""
    total = log_f.double().cumsum(-1)
    return _Fade.apply(i, total), (total + start[..., None].double()).to(i.dtype)


def _normalised(read: Tensor, total: Tensor, m: Tensor, eps: float) -> Tensor:
    """Divide by the weights that were read, or by what was 1 before it was stabilised."""
    floor = torch.maximum(total.abs(), (-m).exp().to(total.dtype))
    return read / (floor[..., None] + eps)  # eq. xlstm-read


def _check_mlstm(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, state: MLSTMState | None,
    forget_gate: str, eps: float,
) -> MLSTMState:  # fmt: skip
    """Refuse what does not fit; return the state to begin with."""
    b, n, t, d = checks.tensor("q", q, shape=("b", "n", "t", "d"), floating=True).shape
    checks.tensor("k", k, shape=(b, n, t, d), floating=True)
    width = checks.tensor("v", v, shape=(b, n, t, "v"), floating=True).shape[-1]
    checks.tensor("i", i, shape=(b, n, t), floating=True)
    checks.tensor("f", f, shape=(b, n, t), floating=True)
    if not d or not width:
        raise ValueError(f"q and v must be 1 wide or more, got d = {d} and v = {width}")
    checks.one_of("forget_gate", forget_gate, FORGET)
    checks.number("eps", eps, least=0)
    if state is None:
        return empty_mlstm(q, (b, n, d, width))
    return checked_state(
        state, MLSTMState, ((b, n, d, width), (b, n, d), (b, n)), wide(q)
    )


def empty_mlstm(like: Tensor, shape: tuple[int, ...]) -> MLSTMState:
    """Return the state, b n d v, of sequences of which nothing was read."""
    zeros = like.new_zeros(shape, dtype=wide(like))
    nothing = like.new_full(shape[:2], NOTHING, dtype=wide(like))
    return MLSTMState(zeros, zeros[..., 0], nothing)
