r"""One liquid neuron: its equation, its time constant, and three ways to take a step.

The state of a neuron obeys $\dot v = -[1/\tau + f]\,v + f A$ (equation `liquid-ode`). All functions
take numbers or tensors that broadcast, entry by entry;
numbers count as double precision.
"""

import torch
from torch import Tensor

from nnlib import checks

Value = Tensor | float


def time_constant(tau: Value, f: Value) -> Tensor:
    r"""Return $\tau_{\mathrm{sys}} = \tau/(1 + \tau f)$, how fast a neuron forgets (`liquid-tau`).

    Args:
        tau: time constant $\tau$ of the leak alone, > 0, in the unit of time.
        f: conductance of the synapses at this moment, ≥ 0, per unit of time.

    Example:
        >>> time_constant(2.0, torch.tensor([0.0, 0.5, 4.5]))
        tensor([2.0000, 1.0000, 0.2000])

    Source: Hasani et al. 2021.
    """
    leak, gate = _positive("tau", tau), _at_least_zero("f", f)
    return leak / (1 + leak * gate)  # eq. liquid-tau


def steady_state(f: Value, A: Value, tau: Value) -> Tensor:
    r"""Return $v_\infty = A f/(1/\tau + f)$, where a neuron rests while f holds (`liquid-steady`).

    Args:
        f: as `time_constant` takes it.
        A: value that the synapses pull towards, the reversal potential.
        tau: as `time_constant` takes it.

    Example:
        >>> steady_state(torch.tensor([0.6]), 1.5, 0.5)
        tensor([0.3462])

    Source: from the equation of Hasani et al. 2021, with f held still.
    """
    leak, gate = _positive("tau", tau), _at_least_zero("f", f)
    return _finite("A", A) * gate / (1 / leak + gate)  # eq. liquid-steady


def exact_step(v: Value, f: Value, A: Value, tau: Value, dt: Value) -> Tensor:
    r"""Return the state after `dt` while f holds: the exact solution (`liquid-frozen`).

    Args:
        v: state at the beginning.
        f: as `time_constant` takes it.
        A: as `steady_state` takes it.
        tau: as `time_constant` takes it.
        dt: time that passes, ≥ 0.

    Example:
        >>> exact_step(torch.tensor([-0.4]), 0.6, 1.5, 2.0, 1e6)  # long enough to rest
        tensor([0.8182])

    Source: from the equation of Hasani et al. 2021, with f held still.
    """
    rest = steady_state(f, A, tau)
    passed = _at_least_zero("dt", dt) / time_constant(tau, f)
    return rest + (_finite("v", v) - rest) * torch.exp(-passed)  # eq. liquid-frozen


def fused_step(v: Value, f: Value, A: Value, tau: Value, dt: Value) -> Tensor:
    r"""Return one step of the fused solver, which is stable for any `dt` (`liquid-fused`).

    $v' = (v + \Delta t\, f A) / (1 + \Delta t\,(1/\tau + f))$: Euler's step, with the new state in
    the linear terms and the old one inside f.

    Args:
        v: as `exact_step` takes it.
        f: likewise.
        A: likewise.
        tau: likewise.
        dt: likewise.

    Example:
        >>> fused_step(0.0, 1.0, 1.0, 1.0, torch.tensor([0.1, 10.0]))
        tensor([0.0833, 0.4762])

    Source: Hasani et al. 2021, algorithm 1.
    """
    leak, gate = _positive("tau", tau), _at_least_zero("f", f)
    step = _at_least_zero("dt", dt)
    drive = _finite("v", v) + step * gate * _finite("A", A)
    return drive / (1 + step * (1 / leak + gate))  # eq. liquid-fused


def euler_step(v: Value, f: Value, A: Value, tau: Value, dt: Value) -> Tensor:
    r"""Return one step of the explicit Euler method, stable for dt < 2 τ_sys (`liquid-euler`).

    Args:
        v: as `exact_step` takes it.
        f: likewise.
        A: likewise.
        tau: likewise.
        dt: likewise.

    Example:
        >>> euler_step(0.0, 1.0, 1.0, 1.0, torch.tensor([0.1, 10.0]))
        tensor([ 0.1000, 10.0000])

    Source: Euler 1768.
    """
    leak, gate = _positive("tau", tau), _at_least_zero("f", f)
    state, step = _finite("v", v), _at_least_zero("dt", dt)
    rate = -(1 / leak + gate) * state + gate * _finite("A", A)  # eq. liquid-ode
    return state + step * rate  # eq. liquid-euler


def _finite(name: str, value: Value) -> Tensor:
    """Return a value as a tensor of finite numbers."""
    if not isinstance(value, Tensor):
        return torch.tensor(checks.number(name, value), dtype=torch.float64)
    return checks.tensor(name, value, floating=True, finite=True)


def _positive(name: str, value: Value) -> Tensor:
    taken = _finite(name, value)
    if checks.readable(taken) and bool((taken <= 0).any()):
        raise ValueError(f"{name} must be > 0, got {float(taken.min()):g}")
    return taken


def _at_least_zero(name: str, value: Value) -> Tensor:
    taken = _finite(name, value)
    if checks.readable(taken) and bool((taken < 0).any()):
        raise ValueError(f"{name} must be ≥ 0, got {float(taken.min()):g}")
    return taken
