"""The selective scan of Mamba: by a loop, at once, and in chunks.

Part of `nnlib.sequence.mamba`, with its axes.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from nnlib import checks
from nnlib.kernels.linear_scan import linear_scan
from nnlib.sequence._mamba_state import first_state


def selective_scan(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
) -> Float[Tensor, "b t d"]:
    r"""S6, Mamba's recurrence: $h_t = e^{\Delta_t A} h_{t-1} + \Delta_t B_t x_t$, read by $C_t$.

    Every channel has a state of n numbers (equations `mamba-state`, `mamba-output`):
    $y_t = C_t^\top h_t + D x_t$. All of time at once, by `linear_scan`. The state's factor is that
    of a zero-order hold; the input's is Euler's, as in the authors' code (`zoh_factor` has the
    exact one).

    Args:
        x: inputs.
        delta: step sizes Δ ≥ 0. At 0 the state stays as it is and nothing is written.
        A: rates ≤ 0 at which each entry of the state fades; at 0 it never does.
        B: directions in which is written; all channels share them.
        C: directions in which is read.
        D: what goes past the state; None: nothing.

    Returns:
        The outputs y, of the dtype of x; none where there are no steps.

    Raises:
        TypeError: no floating-point tensors.
        ValueError: shapes that do not fit, Δ < 0, or A > 0, with which the state would grow.

    Example:
        >>> x = torch.tensor([8.0, 5.0, 3.0]).view(1, 3, 1)
        >>> delta = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1)  # the second is passed over
        >>> half, one = torch.full((1, 1), 0.5).log(), torch.ones(1, 3, 1)
        >>> selective_scan(x, delta, half, one, one).flatten().tolist()
        [8.0, 8.0, 7.0]

    Source: Gu and Dao 2023, algorithm 2.
    """
    return selective_scan_with_state(x, delta, A, B, C, D)[0]


def selective_scan_with_state(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """Return `selective_scan` continued from a state, and the state after the last step.

    `state` is that after what was read before; None: nothing was.
    """
    state = _check_scan(x, delta, A, B, C, D, state)
    return scan_at_once(x, delta, A, B, C, D, state)


def selective_scan_chunked(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
    *,
    chunk: int = 256,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """`selective_scan_with_state` in as many steps at once, whose states are not kept.

    One state a chunk is carried on; the others are computed again for the gradient, so that memory
    holds the states of one chunk instead of all, b t d n numbers. It is the authors' way as well.
    A chunk has `chunk` steps, ≥ 1; the last may be shorter.
    """
    state = _check_scan(x, delta, A, B, C, D, state)
    chunk = checks.count("chunk", chunk)
    outputs = []
    for each in zip(*(part.split(chunk, 1) for part in (x, delta, B, C)), strict=True):
        x_c, delta_c, B_c, C_c = each
        given = (x_c, delta_c, A, B_c, C_c, D, state)
        y, state = checkpoint(scan_at_once, *given, use_reentrant=False)
        outputs.append(y)
    return torch.cat(outputs, 1), state


def selective_scan_reference(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """`selective_scan_with_state` as its equations read: a loop."""
    h = _check_scan(x, delta, A, B, C, D, state)
    outputs = []
    for t in range(x.shape[1]):
        keep = torch.exp(delta[:, t, :, None] * A)  # eq. mamba-zoh
        write = delta[:, t, :, None] * B[:, t, None, :]  # eq. mamba-euler
        h = keep * h + write * x[:, t, :, None]  # eq. mamba-state
        outputs.append((h * C[:, t, None, :]).sum(-1))  # eq. mamba-output
    y = torch.stack(outputs, 1) if outputs else torch.zeros_like(x)
    return (y if D is None else y + D * x), h


def zoh_factor(
    delta: Float[Tensor, "..."], A: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    r"""Return $(e^{\Delta A} - 1) / A$: what multiplies B in the exact zero-order hold.

    The authors' code has Δ instead, its limit for small Δ A (equation `mamba-euler`).

    Args:
        delta: step sizes.
        A: rates, of a shape that goes with it; where one is 0, the factor is Δ.

    Example:
        >>> zoh_factor(torch.tensor([0.1, 1.0, 5.0]), torch.tensor(-1.0)).tolist()
        [0.09516258537769318, 0.6321205496788025, 0.9932620525360107]
    """
    checks.tensor("delta", delta, floating=True)
    checks.tensor("A", A, floating=True)
    safe = torch.where(A == 0, torch.ones_like(A), A)
    return torch.where(A == 0, delta, torch.expm1(delta * safe) / safe)


def scan_at_once(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The scan without its checks: step sizes and rates of the models are right by their making."""
    b, t, d = x.shape
    if not t:
        return torch.zeros_like(x), state
    wide = state.dtype
    u, step, A, B, C = (part.to(wide) for part in (x, delta, A, B, C))
    keep = (step[..., None] * A).exp()  # eq. mamba-zoh
    written = (step * u)[..., None] * B[:, :, None, :]  # eq. mamba-euler
    h = linear_scan(keep.flatten(2), written.flatten(2), state.flatten(1))
    h = h.view(b, t, d, -1)
    y = (h @ C[..., None])[..., 0]  # eq. mamba-output
    if D is not None:
        y = torch.addcmul(y, u, D.to(wide))
    return y.to(x.dtype), h[:, -1]


def _check_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    state: Tensor | None,
) -> Tensor:  # fmt: skip
    """Refuse what does not fit; return the state to begin with."""
    b, t, d = checks.tensor("x", x, shape=("b", "t", "d"), floating=True).shape
    checks.tensor("delta", delta, shape=(b, t, d), floating=True)
    n = checks.tensor("A", A, shape=(d, "n"), floating=True).shape[1]
    checks.tensor("B", B, shape=(b, t, n), floating=True)
    checks.tensor("C", C, shape=(b, t, n), floating=True)
    if D is not None:
        checks.tensor("D", D, shape=(d,), floating=True)
    if checks.readable(delta) and bool((delta < 0).any()):
        raise ValueError(
            f"delta must be ≥ 0, a length of time, got {float(delta.min()):g}"
        )
    if checks.readable(A) and bool((A > 0).any()):
        raise ValueError(f"A must be ≤ 0, or the state grows, got {float(A.max()):g}")
    return first_state(state, (b, d, n), x)
