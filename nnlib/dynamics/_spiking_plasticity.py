r"""Spike-timing-dependent plasticity: by pairs, by traces, and at work in one neuron.

Axes: b batch, t steps, i neurons before the synapses, j neurons behind them.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.dynamics._spiking_continuous import decay
from nnlib.dynamics._spiking_membrane import leaky_sum

PAIRS = ("all", "nearest")


def stdp_window(
    delta: Float[Tensor, "*s"],
    *,
    a_plus: float = 0.01,
    a_minus: float = 0.0105,
    tau_plus: float = 20.0,
    tau_minus: float = 20.0,
) -> Float[Tensor, "*s"]:
    r"""Return the change of a weight by one pair of spikes (equation `spiking-stdp`).

    Args:
        delta: time of the spike behind the synapse, less that of the spike before it. Positive: the
            input came first, and the weight grows. Zero: no change.
        a_plus: $A_+$ ≥ 0.
        a_minus: $A_-$ ≥ 0, taken away.
        tau_plus: width of the window of growth, > 0, in the unit of `delta`.
        tau_minus: width of the other one, > 0.

    Example:
        >>> stdp_window(torch.tensor([-20.0, 0.0, 20.0]), a_plus=1.0, a_minus=0.5)
        tensor([-0.1839,  0.0000,  0.3679])
    """
    checks.tensor("delta", delta, floating=True)
    a_plus, a_minus = _sizes(a_plus, a_minus)
    tau_plus = checks.number("tau_plus", tau_plus, above=0)
    tau_minus = checks.number("tau_minus", tau_minus, above=0)
    apart = delta.abs()
    grows, shrinks = (
        a_plus * torch.exp(-apart / tau_plus),
        a_minus * torch.exp(-apart / tau_minus),
    )
    return torch.where(delta > 0, grows, torch.where(delta < 0, -shrinks, 0.0))


def traces(
    spikes: Float[Tensor, "b t h"],
    tau: float = 20.0,
    *,
    dt: float = 1.0,
    pairs: str = "all",
) -> Float[Tensor, "b t h"]:
    r"""Return what each neuron remembers of its spikes, $x_t = x_{t-1} e^{-\Delta t/\tau} + S_t$.

    Equation `spiking-trace`, for all steps by a few matrix products.

    Args:
        spikes: of 0 and 1.
        tau: how long a trace lasts, > 0.
        dt: length of a step, > 0, in the same unit.
        pairs: `all`: spikes add up; `nearest`: a spike sets the trace to 1.
    """
    checks.tensor("spikes", spikes, shape=("b", "t", "h"), floating=True, empty=False)
    fade = decay(tau, dt)
    checks.one_of("pairs", pairs, PAIRS)
    first = spikes.transpose(0, 1)
    if pairs == "all":
        return leaky_sum(first, fade).transpose(0, 1)
    at = torch.arange(len(first), device=spikes.device)[:, None, None]
    last = torch.where(first > 0, at, -1).cummax(0).values
    age = (at - last).to(spikes.dtype)
    return torch.where(last >= 0, fade**age, 0.0).transpose(0, 1)


def stdp(
    pre: Float[Tensor, "b t i"],
    post: Float[Tensor, "b t j"],
    *,
    a_plus: float = 0.01,
    a_minus: float = 0.0105,
    tau_plus: float = 20.0,
    tau_minus: float = 20.0,
    dt: float = 1.0,
    pairs: str = "all",
) -> Float[Tensor, "j i"]:
    r"""Return the change of every weight by all pairs of spikes (equation `spiking-traces`).

    Each neuron keeps a trace. A spike behind a synapse adds what is left of the trace before it,
    a spike before it takes away what is left of the trace behind it: two matrix products for all
    pairs of all neurons. `stdp_reference` adds up the window {eq}`spiking-stdp` pair by pair.

    Args:
        pre: spikes of 0 and 1 that arrive.
        post: spikes of 0 and 1 that are sent, at the same steps.
        a_plus: $A_+$ ≥ 0, growth if the input comes first.
        a_minus: $A_-$ ≥ 0, loss if it comes after.
        tau_plus: width of the window of growth, > 0.
        tau_minus: width of the other one, > 0.
        dt: length of a step, > 0, in the unit of the two.
        pairs: `all`, or `nearest`: each spike is paired with the last one of the other side alone.

    Returns:
        Changes, summed over the batch; spikes of one step do not change anything.

    Example:
        >>> pre, post = torch.zeros(1, 30, 2), torch.zeros(1, 30, 1)
        >>> pre[0, 5, 0] = pre[0, 15, 1] = post[0, 10, 0] = 1  # before, after, between
        >>> stdp(pre, post, a_plus=1.0, a_minus=1.0)
        tensor([[ 0.7788, -0.7788]])

    Source: Bi and Poo 1998; Song, Miller and Abbott 2000; traces: Morrison et al. 2008.
    """
    _both(pre, post)
    a_plus, a_minus = _sizes(a_plus, a_minus)
    before = _faded(pre, checks.number("tau_plus", tau_plus, above=0), dt, pairs)
    behind = _faded(post, checks.number("tau_minus", tau_minus, above=0), dt, pairs)
    grows = torch.einsum("btj,bti->ji", post, before)  # eq. spiking-traces
    return a_plus * grows - a_minus * torch.einsum("btj,bti->ji", behind, pre)


def stdp_reference(
    pre: Float[Tensor, "b t i"],
    post: Float[Tensor, "b t j"],
    *,
    dt: float = 1.0,
    **window: float,
) -> Float[Tensor, "j i"]:
    """Return the same for all pairs, from a table of the time between every two steps.

    Args:
        pre: as in `stdp`.
        post: likewise.
        dt: likewise.
        **window: what `stdp_window` takes.
    """
    _both(pre, post)
    time = torch.arange(pre.shape[1], dtype=pre.dtype, device=pre.device)
    apart = checks.number("dt", dt, above=0) * (time[:, None] - time)
    change = stdp_window(apart, **window)
    return torch.einsum("bpj,pq,bqi->ji", post, change, pre)


class STDPRun(NamedTuple):
    """What a neuron that learns has done: its spikes, its weights at the end and on the way."""

    spikes: Tensor
    weight: Tensor
    history: Tensor


@torch.no_grad()
def stdp_neuron(
    spikes: Float[Tensor, "b t i"],
    weight: Float[Tensor, "b i"],
    *,
    threshold: float,
    tau: float = 10.0,
    refractory: int = 0,
    a_plus: float = 0.03125,
    a_minus: float = 0.0265625,
    tau_plus: float = 16.8,
    tau_minus: float = 33.7,
    dt: float = 1.0,
    pairs: str = "nearest",
    every: int = 0,
) -> STDPRun:
    r"""Let a leaky neuron listen to many inputs and change its weights by STDP as it goes.

    What arrives at one step moves the membrane at the next; a spike sets it to zero, and weights
    stay within 0 … 1. The rows of the batch are neurons of their own, each with its inputs.

    Args:
        spikes: of the inputs, 0 or 1.
        weight: of the synapses at the beginning, 0 … 1.
        threshold: of the membrane, > 0, in units of one spike over a weight of 1.
        tau: of the membrane, > 0.
        refractory: as in `LIF`.
        a_plus: as in `stdp`, as are the next four; the defaults are those of Masquelier et al.
        a_minus: likewise.
        tau_plus: likewise.
        tau_minus: likewise.
        dt: likewise.
        pairs: likewise.
        every: steps after which the weights are recorded, ≥ 0; 0: never.

    Returns:
        Spikes (b, t), the last weights (b, i), recorded ones (b, r, i).

    Source: Masquelier, Guyonneau and Thorpe 2008, simplified: one exponential, not two.
    """
    checks.tensor("spikes", spikes, shape=("b", "t", "i"), floating=True, empty=False)
    rows, _, inputs = spikes.shape
    checks.tensor("weight", weight, shape=(rows, inputs), floating=True)
    if checks.readable(weight) and not (weight.min() >= 0 and weight.max() <= 1):
        low, high = (float(w) for w in weight.aminmax())
        raise ValueError(f"weight must be within 0 … 1, got {low:g} … {high:g}")
    threshold = checks.number("threshold", threshold, above=0)
    a_plus, a_minus = _sizes(a_plus, a_minus)
    beta, fade = (
        decay(tau, dt),
        decay(checks.number("tau_minus", tau_minus, above=0), dt),
    )
    refractory = checks.count("refractory", refractory, least=0)
    every = checks.count("every", every, least=0)
    checks.number("tau_plus", tau_plus, above=0)
    before = _faded(spikes, tau_plus, dt, pairs).transpose(0, 1)
    weight, arrived = weight.clone(), spikes.transpose(0, 1).contiguous()
    v = weight.new_zeros(rows, 1)
    trace, wait, fired = v.clone(), torch.zeros_like(v), torch.zeros_like(v)
    out, history = [], []
    for t, now in enumerate(arrived):
        drive = (weight * arrived[t - 1]).sum(1, keepdim=True) if t else 0.0
        v = beta * v * (1 - fired) + (wait == 0) * drive
        fired = ((v >= threshold) & (wait == 0)).to(v.dtype)
        wait = torch.where(fired > 0, refractory, (wait - 1).clamp(min=0))
        trace = fade * trace
        weight += a_plus * fired * before[t] - a_minus * trace * now
        weight.clamp_(0, 1)
        trace = (
            torch.where(fired > 0, 1.0, trace) if pairs == "nearest" else trace + fired
        )
        out.append(fired[:, 0])
        if every and (t + 1) % every == 0:
            history.append(weight.clone())
    kept = torch.stack(history, 1) if history else weight.new_zeros(rows, 0, inputs)
    return STDPRun(torch.stack(out, 1), weight, kept)


def _faded(spikes: Tensor, tau: float, dt: float, pairs: str) -> Tensor:
    """Return the traces as a step finds them: of all earlier spikes, without its own."""
    kept = traces(spikes, tau, dt=dt, pairs=pairs) * decay(tau, dt)
    return torch.cat([torch.zeros_like(kept[:, :1]), kept[:, :-1]], 1)


def _both(pre: Tensor, post: Tensor) -> None:
    checks.tensor("pre", pre, shape=("b", "t", "i"), floating=True, empty=False)
    shape = (*pre.shape[:2], "j")
    checks.tensor("post", post, shape=shape, floating=True, empty=False)
    if pre.dtype != post.dtype:
        raise TypeError(f"post must be {pre.dtype}, as pre is, got {post.dtype}")


def _sizes(a_plus: float, a_minus: float) -> tuple[float, float]:
    a_plus = checks.number("a_plus", a_plus, least=0)
    return a_plus, checks.number("a_minus", a_minus, least=0)
