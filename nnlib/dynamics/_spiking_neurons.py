r"""Other neurons: Hodgkin and Huxley's, Izhikevich's, and one whose threshold adapts.

Axes: t steps, b neurons that are simulated side by side; `adaptive_lif` is batch first, b t h.
"""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.dynamics._spiking_surrogates import Surrogate, surrogate, taken

PATTERNS: dict[str, tuple[float, float, float, float]] = {
    "regular spiking": (0.02, 0.2, -65.0, 8.0),
    "intrinsically bursting": (0.02, 0.2, -55.0, 4.0),
    "chattering": (0.02, 0.2, -50.0, 2.0),
    "fast spiking": (0.1, 0.2, -65.0, 2.0),
    "low-threshold spiking": (0.02, 0.25, -65.0, 2.0),
}
"""The four numbers a, b, c and d of Izhikevich 2003 for five kinds of cortical neurons."""

BELLEC = surrogate("triangle", scale=0.3)
"""The slope of the neurons of Bellec et al. 2018."""


def hodgkin_huxley(
    current: Float[Tensor, "t b"], dt: float = 0.05, *, start: float = -65.0
) -> Float[Tensor, "t b"]:
    r"""Return the membrane of a squid's giant axon (equation `spiking-hodgkin-huxley`).

    Sodium and potassium flow through gates m, h and n that open and close with the membrane.
    Runge and Kutta's fourth-order scheme; the current is held during a step.

    Args:
        current: into the membrane, in µA/cm².
        dt: length of a step, in (0, 0.1] ms.
        start: the membrane at the beginning, in mV; the gates are at rest there.

    Returns:
        The membrane in mV after each step.

    Raises:
        ValueError: the membrane leaves what steps of this length can follow, among others.

    Source: Hodgkin and Huxley 1952, with today's sign and a rest at −65 mV.
    """
    checks.tensor("current", current, shape=("t", "b"), floating=True, empty=False)
    dt = checks.number("dt", dt, above=0, most=0.1)
    v = torch.full_like(current[0], checks.number("start", start))
    y, seen = torch.stack([v, *(a / (a + b) for a, b in _gates(v))]), []
    for drive in current:
        y = _runge_kutta(partial(_flow, drive), y, dt)
        seen.append(y[0])
    membranes = torch.stack(seen)
    if checks.readable(membranes) and not bool(membranes.isfinite().all()):
        step = int((~membranes.isfinite()).any(1).nonzero()[0])
        raise ValueError(
            f"current, or start={start!r}, drives the membrane beyond what dt={dt:g} can follow: "
            f"no finite value from step {step} on"
        )
    return membranes


def _gates(v: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the rates, a ms, at which the gates m, h and n open and close."""
    return [
        (_ratio((v + 40) / 10), 4 * torch.exp(-(v + 65) / 18)),
        (0.07 * torch.exp(-(v + 65) / 20), torch.sigmoid((v + 35) / 10)),
        (0.1 * _ratio((v + 55) / 10), 0.125 * torch.exp(-(v + 65) / 80)),
    ]


def _ratio(x: Tensor) -> Tensor:
    """Return x / (1 − e⁻ˣ), which is 1 at 0."""
    safe = torch.where(x.abs() < 1e-6, 1.0, x)
    return torch.where(x.abs() < 1e-6, 1 + x / 2, safe / -torch.expm1(-safe))


def _flow(drive: Tensor, y: Tensor) -> Tensor:
    v, m, h, n = y
    ions = 120 * m**3 * h * (v - 50) + 36 * n**4 * (v + 77) + 0.3 * (v + 54.387)
    moves = [
        a * (1 - x) - b * x for x, (a, b) in zip((m, h, n), _gates(v), strict=True)
    ]
    return torch.stack(
        [drive - ions, *moves]
    )  # eq. spiking-hodgkin-huxley, C = 1 µF/cm²


def _runge_kutta(flow: Callable[[Tensor], Tensor], y: Tensor, dt: float) -> Tensor:
    k1 = flow(y)
    k2 = flow(y + dt / 2 * k1)
    k3 = flow(y + dt / 2 * k2)
    k4 = flow(y + dt * k3)
    return y + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def izhikevich(
    current: Float[Tensor, "t b"],
    dt: float = 0.5,
    *,
    a: float | Tensor = 0.02,
    b: float | Tensor = 0.2,
    c: float | Tensor = -65.0,
    d: float | Tensor = 8.0,
) -> tuple[Float[Tensor, "t b"], Float[Tensor, "t b"]]:
    r"""Return membranes and spikes of Izhikevich's neuron (equation `spiking-izhikevich`).

    Args:
        current: without unit.
        dt: length of an Euler step, in (0, 1] ms.
        a: how fast the recovery follows; a number, or one for each neuron, as are the next ones.
            `PATTERNS` has the published choices.
        b: how strongly it follows the membrane.
        c: the membrane after a spike, in mV.
        d: what a spike adds to the recovery.

    Returns:
        Membranes in mV, cut off at 30 where a spike is, and the spikes.

    Source: Izhikevich 2003.
    """
    checks.tensor("current", current, shape=("t", "b"), floating=True, empty=False)
    dt = checks.number("dt", dt, above=0, most=1)
    given = {"a": a, "b": b, "c": c, "d": d}
    for name, value in given.items():
        if isinstance(value, Tensor):
            checks.tensor(name, value, shape=(current.shape[1],), floating=True)
        else:
            checks.number(name, value)
    v = torch.full_like(current[0], -65.0)
    u, seen, spikes = b * v, [], []
    for drive in current:
        rise = 0.04 * v * v + 5 * v + 140 - u + drive  # eq. spiking-izhikevich
        v, u = v + dt * rise, u + dt * a * (b * v - u)
        fired = v >= 30
        seen.append(v.clamp(max=30.0))
        spikes.append(fired.to(v.dtype))
        v, u = torch.where(fired, c, v), torch.where(fired, u + d, u)
    return torch.stack(seen), torch.stack(spikes)


def adaptive_lif(
    current: Float[Tensor, "b t h"],
    beta: float = 0.9,
    threshold: float = 1.0,
    *,
    adaptation: float = 0.5,
    rho: float = 0.97,
    surrogate: str | Surrogate = BELLEC,
) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b t h"]]:
    r"""Return spikes and thresholds of neurons that tire (equation `spiking-adaptive`).

    Each spike raises the threshold, which comes down slowly: a memory far longer than the
    membrane's. It is a loop with gradients by autograd.

    Args:
        current: of each step.
        beta: as in `LIF`, as is the next one; the reset is by subtraction of the threshold.
        threshold: where it is at rest.
        adaptation: $\kappa$ ≥ 0, by how much a spike raises it.
        rho: $\rho$, the share of it that is left after a step, 0 … 1.
        surrogate: the slope on the way back, by name or as `surrogate` makes it.

    Source: Bellec et al. 2018.
    """
    checks.tensor("current", current, shape=("b", "t", "h"), floating=True, empty=False)
    beta = checks.number("beta", beta, least=0, most=1)
    threshold = checks.number("threshold", threshold, above=0)
    adaptation = checks.number("adaptation", adaptation, least=0)
    rho = checks.number("rho", rho, least=0, most=1)
    spike = taken(surrogate)
    v = tired = s = torch.zeros_like(current[:, 0])
    level, spikes, levels = threshold + v, [], []
    for drive in current.unbind(1):
        v = beta * v + drive - level * s.detach()
        tired = rho * tired + s  # eq. spiking-adaptive
        level = threshold + adaptation * tired
        s = spike(v - level)
        spikes.append(s)
        levels.append(level)
    return torch.stack(spikes, 1), torch.stack(levels, 1)
