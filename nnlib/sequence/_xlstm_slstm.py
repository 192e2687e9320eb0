"""The sLSTM over all of time: a loop, since each step reads the output of the last.

Axes: b batch, t time, h hidden features, n heads, d features of a head, g all gates, r those of a
head.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.sequence._xlstm_state import FORGET, NOTHING, checked_state, wide


class SLSTMState(NamedTuple):
    r"""What an sLSTM keeps, each b h; c and n are divided by $e^m$.

    Attributes:
        h: the last output, which the next step reads.
        c: the cell.
        n: the normaliser: the sum of the weights with which the cell was written.
        m: the stabiliser; −∞ where nothing was read.
    """

    h: Tensor
    c: Tensor
    n: Tensor
    m: Tensor


def slstm(
    x: Float[Tensor, "b t g"],
    recurrent: Float[Tensor, "n r d"],
    state: SLSTMState | None = None,
    *,
    forget_gate: str = "sigmoid",
) -> tuple[Float[Tensor, "b t h"], SLSTMState]:
    r"""The sLSTM over all of time, step after step: each reads the output of the last.

    $c_t = f_t c_{t-1} + i_t \tanh \tilde z_t$, $n_t = f_t n_{t-1} + i_t$ and
    $h_t = \sigma(\tilde o_t)\, c_t / n_t$ (equations `xlstm-cell`, `xlstm-sum`, `xlstm-hidden`),
    with $i = e^{\tilde i}$. Because h goes into the next step's gates through `recurrent`
    (memory mixing), there is no form that takes all steps at once.

    Args:
        x: what the input says to the gates, biases included: i, f, z and o, each h wide.
        recurrent: what the last output says to them, head by head: rows of i, f, z and o.
        state: after what was read before; None: nothing was.
        forget_gate: "sigmoid", or "exp".

    Returns:
        The outputs, and the state after the last step.

    Raises:
        TypeError: no floating-point tensors.
        ValueError: shapes that do not fit.

    Example:
        >>> x = torch.zeros(1, 2, 4)  # i, f, z, o at two steps
        >>> x[0, :, 2] = torch.tensor([9.0, -9.0])  # write 1, then −1, with equal weight
        >>> x[0, :, 1] = x[0, :, 3] = 9.0  # forget nothing, show all
        >>> slstm(x, torch.zeros(1, 4, 1))[0].flatten().round(decimals=2).tolist()
        [1.0, -0.0]

    Source: Beck et al. 2024, section 2.2 and appendix A.2.
    """
    state = _check_slstm(x, recurrent, state, forget_gate)
    b, t, _ = x.shape
    n, d = recurrent.shape[0], recurrent.shape[2]
    if not t:
        return x.new_zeros(b, 0, n * d), state
    dtype = state.c.dtype
    # everything head by head, so that a step's mixing is one batch of products
    steps = x.to(dtype).view(b, t, 4, n, d).permute(1, 3, 0, 2, 4).flatten(3)
    mixing = recurrent.to(dtype).transpose(1, 2)
    h, c, n_t, m = (part.view(b, n, d).transpose(0, 1) for part in state)
    outputs = []
    for now in steps.unbind(0):
        i, f, z, o = torch.baddbmm(now, h, mixing).chunk(4, -1)  # eq. xlstm-gates
        log_f = F.logsigmoid(f) if forget_gate == "sigmoid" else f
        with torch.no_grad():
            before, m = m, torch.maximum(log_f + m, i)  # eq. xlstm-stabiliser
        keep, write = (log_f + (before - m)).exp(), (i - m).exp()
        c = torch.addcmul(keep * c, write, z.tanh())  # eq. xlstm-cell
        n_t = torch.addcmul(write, keep, n_t)  # eq. xlstm-sum
        h = o.sigmoid() * c / n_t  # eq. xlstm-hidden
        outputs.append(h)
    end = SLSTMState(*(part.transpose(0, 1).flatten(1) for part in (h, c, n_t, m)))
    return torch.stack(outputs).permute(2, 0, 1, 3).flatten(2).to(x.dtype), end


def _check_slstm(
    x: Tensor, recurrent: Tensor, state: SLSTMState | None, forget_gate: str
) -> SLSTMState:
    n, rows, d = checks.tensor(
        "recurrent", recurrent, shape=("n", "4d", "d"), floating=True, empty=False
    ).shape
    if rows != 4 * d:
        raise ValueError(f"recurrent must have 4 · {d} rows a head, got {rows}")
    b = checks.tensor("x", x, shape=("b", "t", 4 * n * d), floating=True).shape[0]
    checks.one_of("forget_gate", forget_gate, FORGET)
    if state is None:
        return empty_slstm(x, (b, n * d))
    return checked_state(state, SLSTMState, ((b, n * d),) * 4, wide(x))


def empty_slstm(like: Tensor, shape: tuple[int, int]) -> SLSTMState:
    """Return the state, b h, of sequences of which nothing was read."""
    zeros = like.new_zeros(shape, dtype=wide(like))
    return SLSTMState(zeros, zeros, zeros, torch.full_like(zeros, NOTHING))
