r"""One neuron in continuous time, by closed forms: its membrane, its spikes, its rate."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def decay(tau: float, dt: float = 1.0) -> float:
    r"""Return $\beta = e^{-\Delta t/\tau}$, the share that is left after a step (`spiking-decay`).

    Args:
        tau: time constant, > 0.
        dt: length of a step, > 0, in the same unit.

    Example:
        >>> round(decay(tau=20.0), 4)
        0.9512
    """
    tau, dt = checks.number("tau", tau, above=0), checks.number("dt", dt, above=0)
    return math.exp(-dt / tau)


def membrane(
    time: Float[Tensor, "*t"],
    current: float,
    *,
    tau: float = 20.0,
    resistance: float = 10.0,
    rest: float = -65.0,
    start: float | None = None,
) -> Float[Tensor, "*t"]:
    r"""Return the membrane of a neuron that a constant current charges and that does not fire.

    $V(t) = V_\infty + (V_0 - V_\infty)\, e^{-t/\tau}$ with $V_\infty = V_{\text{rest}} + RI$
    (equation `spiking-membrane`).

    Args:
        time: times ≥ 0 that do not fall, in ms.
        current: $I$, in nA.
        tau: membrane time constant $\tau = RC$ > 0, in ms.
        resistance: $R$ > 0, in MΩ, so that $RI$ is in mV.
        rest: $V_{\text{rest}}$ in mV.
        start: $V_0$ in mV; None: at rest.
    """
    checks.tensor("time", time, floating=True)
    if checks.readable(time) and time.numel():
        falls = bool((time.flatten().diff() < 0).any())
        if falls or not float(time.min()) >= 0:
            raise ValueError("time must be ≥ 0 and must not fall")
    tau = checks.number("tau", tau, above=0)
    level = _level(current, resistance, rest)
    first = rest if start is None else checks.number("start", start)
    return level + (first - level) * torch.exp(-time / tau)  # eq. spiking-membrane


def spike_times(
    current: float,
    duration: float,
    *,
    tau: float = 20.0,
    resistance: float = 10.0,
    rest: float = -65.0,
    threshold: float = -50.0,
    reset: float = -65.0,
    refractory: float = 2.0,
) -> Float[Tensor, " n"]:
    """Return when a neuron fires that starts at rest under a constant current, exactly.

    Args:
        current: in nA.
        duration: of the observation, > 0, in ms.
        tau: as in `membrane`, as are the next two.
        resistance: likewise.
        rest: likewise.
        threshold: in mV, above `rest` and `reset`.
        reset: where the membrane stands after a spike, in mV.
        refractory: how long it is held there, ≥ 0, in ms.
    """
    duration = checks.number("duration", duration, above=0)
    tau = checks.number("tau", tau, above=0)
    level = _level(current, resistance, rest)
    _levels(threshold, rest, reset)
    refractory = checks.number("refractory", refractory, least=0)
    if level <= threshold:
        return torch.zeros(0, dtype=torch.float64)
    over = (
        level - threshold
    )  # 1 + … in the logarithms, so that no period is rounded to zero
    first = tau * math.log1p((threshold - rest) / over)
    period = refractory + tau * math.log1p((threshold - reset) / over)
    if first > duration:
        return torch.zeros(0, dtype=torch.float64)
    return first + period * torch.arange(
        int((duration - first) / period) + 1, dtype=torch.float64
    )


def firing_rate(
    current: Float[Tensor, "*s"],
    *,
    tau: float = 20.0,
    resistance: float = 10.0,
    rest: float = -65.0,
    threshold: float = -50.0,
    reset: float = -65.0,
    refractory: float = 2.0,
) -> Float[Tensor, "*s"]:
    r"""Return the rate at which constant currents make a neuron fire (equation `spiking-rate`).

    Args:
        current: in nA.
        tau: as in `spike_times`, as are all others.
        resistance: likewise.
        rest: likewise.
        threshold: likewise.
        reset: likewise.
        refractory: likewise.

    Returns:
        Spikes a ms: zero up to the current that just reaches the threshold, and below
        1 / `refractory` for any.

    Example:
        >>> 1000 * firing_rate(torch.tensor([1.0, 2.0, 4.0]))
        tensor([ 0.0000, 33.6407, 87.7187])
    """
    checks.tensor("current", current, floating=True)
    tau = checks.number("tau", tau, above=0)
    resistance = checks.number("resistance", resistance, above=0)
    rest = checks.number("rest", rest)
    _levels(threshold, rest, reset)
    refractory = checks.number("refractory", refractory, least=0)
    level = rest + resistance * current
    over = (level - threshold).clamp(min=torch.finfo(current.dtype).tiny)
    period = refractory + tau * torch.log1p((threshold - reset) / over)
    return torch.where(level > threshold, 1 / period, 0.0)  # eq. spiking-rate


def _level(current: float, resistance: float, rest: float) -> float:
    """Return where a membrane would come to rest."""
    resistance = checks.number("resistance", resistance, above=0)
    return checks.number("rest", rest) + resistance * checks.number("current", current)


def _levels(threshold: float, rest: float, reset: float) -> None:
    checks.number("threshold", threshold)
    for name, value in (("rest", rest), ("reset", reset)):
        if checks.number(name, value) >= threshold:
            raise ValueError(f"{name}={value!r} must lie below threshold={threshold!r}")
