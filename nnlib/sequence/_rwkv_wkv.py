"""WKV: a mean whose weights fade by a factor a step, over all of time and one step at a time.

Part of `nnlib.sequence.rwkv`, with its axes.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.kernels.linear_scan import linear_scan

NOTHING = -1e38  # exponent of a state that has read nothing: finite, since ∞ − ∞ is NaN


class WKVState(NamedTuple):
    r"""What `wkv` keeps of the past: a mean, as its numerator and denominator.

    The sums of the equations are $a e^m$ and $b e^m$; apart from that factor neither overflows.

    Attributes:
        a: numerator, b c.
        b: denominator, b c.
        m: the largest exponent so far, less its decay, b c.
    """

    a: Tensor
    b: Tensor
    m: Tensor


def wkv(
    w: Float[Tensor, " c"],
    u: Float[Tensor, " c"],
    k: Float[Tensor, "b t c"],
    v: Float[Tensor, "b t c"],
) -> Float[Tensor, "b t c"]:
    r"""Mean of the values so far, each weighted by $e^k$ and, for every step since, by $e^{-w}$.

    $$\mathrm{wkv}_t = \frac{\sum_{i<t} e^{-(t-1-i)w + k_i} v_i + e^{u + k_t} v_t}
    {\sum_{i<t} e^{-(t-1-i)w + k_i} + e^{u + k_t}}$$

    Every channel on its own (equation `rwkv-wkv`). All of time at once, by `linear_scan`, with
    exponents taken relative to their running maximum (`rwkv-stable`), so that nothing overflows.

    Args:
        w: decay rate, ≥ 0: a step multiplies a weight by $e^{-w}$.
        u: bonus of the current step, in place of a decay.
        k: keys, in log form: any finite numbers.
        v: values.

    Returns:
        The means, of the dtype of `v`; none where there are no steps.

    Example:
        >>> w, u = torch.zeros(1), torch.zeros(1)  # all of the past counts alike
        >>> v = torch.tensor([4.0, 0.0, 2.0]).view(1, 3, 1)
        >>> wkv(w, u, torch.zeros(1, 3, 1), v).flatten().tolist()
        [4.0, 2.0, 2.0]

    Source: Peng et al. 2023.
    """
    return wkv_with_state(w, u, k, v)[0]


def wkv_with_state(
    w: Float[Tensor, " c"],
    u: Float[Tensor, " c"],
    k: Float[Tensor, "b t c"],
    v: Float[Tensor, "b t c"],
    state: WKVState | None = None,
) -> tuple[Float[Tensor, "b t c"], WKVState]:
    """Return `wkv` continued from a state, and the state after the last step.

    Arguments as for `wkv`; `state` is that of what was read before, None: nothing.

    Example:
        >>> w, u, k, v = torch.ones(2), torch.zeros(2), torch.randn(1, 5, 2), torch.randn(1, 5, 2)
        >>> first, state = wkv_with_state(w, u, k[:, :3], v[:, :3])
        >>> rest, _ = wkv_with_state(w, u, k[:, 3:], v[:, 3:], state)
        >>> torch.allclose(torch.cat([first, rest], 1), wkv(w, u, k, v), atol=1e-6)
        True
    """
    return all_steps(w, u, k, v, _check_wkv(w, u, k, v, ("b", "t", "c"), state))


def all_steps(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKVState
) -> tuple[Tensor, WKVState]:
    if not k.shape[1]:
        return torch.zeros_like(v), state
    dtype, (w, u, k, v) = v.dtype, (wide(x) for x in (w, u, k, v))
    m = _decayed_maximum(w, k, state.m)
    now, past = m[:, 1:], m[:, :-1]
    keep, write = (past - w - now).exp(), (k - now).exp()  # eq. rwkv-stable
    start = torch.cat([state.a, state.b], -1)
    both = linear_scan(
        torch.cat([keep, keep], -1), torch.cat([write * v, write], -1), start
    )
    before = torch.cat([start[:, None], both[:, :-1]], 1)
    a, b = before.chunk(2, -1)
    y = _read(u, k, v, a, b, past)
    a, b = both[:, -1].chunk(2, -1)
    return y.to(dtype), WKVState(a, b, now[:, -1])


def wkv_step(
    w: Float[Tensor, " c"],
    u: Float[Tensor, " c"],
    k: Float[Tensor, "b c"],
    v: Float[Tensor, "b c"],
    state: WKVState | None = None,
) -> tuple[Float[Tensor, "b c"], WKVState]:
    """Return `wkv` for one step more, and the state after it: what generation uses.

    Arguments as for `wkv_with_state`, with the key and the value of the step.

    Example:
        >>> y, state = wkv_step(torch.ones(2), torch.zeros(2), torch.zeros(1, 2), torch.ones(1, 2))
        >>> y.tolist(), state.b.tolist()
        ([[1.0, 1.0]], [[1.0, 1.0]])
    """
    return one_step(w, u, k, v, _check_wkv(w, u, k, v, ("b", "c"), state))


def one_step(
    w: Tensor, u: Tensor, k: Tensor, v: Tensor, state: WKVState
) -> tuple[Tensor, WKVState]:
    dtype, (w, u, k, v) = v.dtype, (wide(x) for x in (w, u, k, v))
    a, b, m = state
    y = _read(u, k, v, a, b, m)
    now = torch.maximum(m - w, k).detach()
    keep, write = (m - w - now).exp(), (k - now).exp()  # eq. rwkv-stable
    return y.to(dtype), WKVState(keep * a + write * v, keep * b + write, now)


def wkv_reference(
    w: Float[Tensor, " c"],
    u: Float[Tensor, " c"],
    k: Float[Tensor, "b t c"],
    v: Float[Tensor, "b t c"],
) -> Float[Tensor, "b t c"]:
    """`wkv` as a walk over time, step by step."""
    state, means = _check_wkv(w, u, k, v, ("b", "t", "c"), None), []
    for k_t, v_t in zip(k.unbind(1), v.unbind(1), strict=True):
        y, state = one_step(w, u, k_t, v_t, state)
        means.append(y)
    return torch.stack(means, 1) if means else torch.zeros_like(v)


def wkv_weights(
    w: Float[Tensor, " c"], u: Float[Tensor, " c"], k: Float[Tensor, "b t c"]
) -> Float[Tensor, "b t s c"]:
    """Return the weight that each step's mean gives to each step before it, and to itself.

    The attention map of every channel: `wkv` is its product with the values (equation
    `rwkv-attention`). It takes t² numbers a channel, so it is there to be looked at.

    Args:
        w: decay rate, ≥ 0.
        u: bonus of the current step.
        k: keys.

    Example:
        >>> weights = wkv_weights(torch.ones(1), torch.zeros(1), torch.zeros(1, 3, 1))
        >>> [round(x, 2) for x in weights[0, 2, :, 0].tolist()]  # e⁻¹, 1 and 1, of their sum
        [0.16, 0.42, 0.42]
    """
    _check_wkv(w, u, k, k, ("b", "t", "c"), None)
    at = torch.arange(k.shape[1], device=k.device)
    back = (at[:, None] - 1 - at)[..., None]  # steps since, 0 for the one before
    logits = k[:, None] - back.clamp(min=0) * w
    logits = torch.where(back == -1, k[:, None] + u, logits)
    return logits.masked_fill(back < -1, -math.inf).softmax(2)  # eq. rwkv-attention


def _read(u: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, m: Tensor) -> Tensor:
    """The mean of what a state holds and of the current value, which counts by its bonus."""
    top = torch.maximum(m, u + k).detach()
    past, now = (m - top).exp(), (u + k - top).exp()
    return (past * a + now * v) / (past * b + now)  # eq. rwkv-recurrence


@torch.no_grad()
def _decayed_maximum(w: Tensor, k: Tensor, first: Tensor) -> Tensor:
    """Return m_t = max(m_{t−1} − w, k_t) for t = 0 … T: any number near it serves as well.

    A scan by doubling: after the pass with shift s every m knows the 2s steps up to its own.
    """
    m = torch.cat([first[:, None], k], 1)
    shift = 1
    while shift < m.shape[1]:
        m = torch.cat(
            [m[:, :shift], torch.maximum(m[:, shift:], m[:, :-shift] - shift * w)], 1
        )
        shift *= 2
    return m


def wide(x: Tensor) -> Tensor:
    """States and exponents are held in float32 at least."""
    return x if x.dtype == torch.float64 else x.float()


def _check_wkv(
    w: Tensor,
    u: Tensor,
    k: Tensor,
    v: Tensor,
    shape: tuple[str, ...],
    state: WKVState | None,
) -> WKVState:
    """Refuse what does not fit; return the state to begin with."""
    checks.tensor("k", k, shape=shape, floating=True)
    checks.tensor("v", v, shape=tuple(k.shape), floating=True)
    batch, channels = len(k), k.shape[-1]
    checks.tensor("w", w, shape=(channels,), floating=True)
    checks.tensor("u", u, shape=(channels,), floating=True)
    if checks.readable(w) and w.numel() and not bool((w >= 0).all()):
        raise ValueError(
            f"w must be ≥ 0, so that a weight fades by e^−w a step, got {float(w.min()):g}"
        )
    if state is None:
        zero = wide(v.new_zeros(batch, channels))
        return WKVState(zero, zero, torch.full_like(zero, NOTHING))
    if not isinstance(state, tuple) or len(state) != 3:
        raise TypeError(f"state must be a WKVState, got {type(state).__name__}")
    for name, part in zip(WKVState._fields, state, strict=True):
        checks.tensor(f"state.{name}", part, shape=(batch, channels), floating=True)
    return WKVState(*map(wide, state))
