r"""Hopfield's graded units of 1984: a circuit whose voltages follow a differential equation.

Axes: b states, n units.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def continuous_hopfield(
    weight: Float[Tensor, "n n"],
    bias: Float[Tensor, " n"],
    u: Float[Tensor, "*b n"],
    gain: float = 1.0,
    *,
    dt: float = 0.01,
    num_steps: int = 1000,
) -> Float[Tensor, "*b n"]:
    r"""Follow $\dot{\mathbf{u}} = -\mathbf{u} + \mathbf{W}\mathbf{v} + \boldsymbol{\theta}$.

    The outputs are $\mathbf{v} = \tanh(g\,\mathbf{u})$ (equation `hopfield-graded`); Euler's
    method, time in units of the circuit's time constant. With symmetric weights
    `continuous_hopfield_energy` falls along the way, diagonal or not.

    Args:
        weight: symmetric.
        bias: input of each unit.
        u: voltages to begin with.
        gain: g > 0, the slope of tanh at zero; large ones make the units of 1982.
        dt: length of a step > 0, well below 1.
        num_steps: how many, ≥ 1.

    Returns:
        The voltages at the end; `(gain * u).tanh()` are the outputs.

    Example:
        >>> pair = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> u = continuous_hopfield(pair, torch.zeros(2), torch.tensor([0.3, -0.1]), gain=4.0)
        >>> (4.0 * u).tanh().round(decimals=2)
        tensor([1., 1.])

    Source: Hopfield 1984, whose unit has a resistance and a capacity of its own.
    """
    _check(weight, bias, gain)
    n = len(weight)
    checks.tensor("u", u, floating=True, finite=True)
    if u.ndim == 0 or u.shape[-1] != n:
        raise ValueError(f"u must have rows of {n} units, got {tuple(u.shape)}")
    dt = checks.number("dt", dt, above=0)
    for _ in range(checks.count("num_steps", num_steps)):
        v = (gain * u).tanh()
        u = u + dt * (-u + v @ weight + bias)  # eq. hopfield-graded
    return u


def continuous_hopfield_energy(
    weight: Float[Tensor, "n n"],
    bias: Float[Tensor, " n"],
    v: Float[Tensor, "*b n"],
    gain: float = 1.0,
) -> Float[Tensor, "*b"]:
    r"""Return the energy of outputs between -1 and 1.

    $-\tfrac12\mathbf{v}^\top\mathbf{W}\mathbf{v} - \boldsymbol{\theta}^\top\mathbf{v} +
    \frac1g \sum_i \int_0^{v_i} \tanh^{-1}(x)\,dx$ (equation `hopfield-graded-energy`).

    Args:
        weight: as `continuous_hopfield` takes it.
        bias: likewise.
        v: outputs, between -1 and 1.
        gain: likewise.

    Example:
        >>> continuous_hopfield_energy(torch.zeros(1, 1), torch.zeros(1), torch.ones(1)).item()
        0.693147...
    """
    _check(weight, bias, gain)
    n = len(weight)
    checks.tensor("v", v, floating=True, finite=True)
    if v.ndim == 0 or v.shape[-1] != n:
        raise ValueError(f"v must have rows of {n} units, got {tuple(v.shape)}")
    if checks.readable(v) and v.numel() and v.abs().max() > 1:
        raise ValueError(f"v must lie in -1 … 1, got {v.abs().max():g}")
    # the integral of artanh: ((1 + v) log(1 + v) + (1 - v) log(1 - v)) / 2
    area = (torch.xlogy(1 + v, 1 + v) + torch.xlogy(1 - v, 1 - v)) / 2
    quadratic = ((v @ weight) * v).sum(-1)
    return -quadratic / 2 - v @ bias + area.sum(-1) / gain  # eq. hopfield-graded-energy


def _check(weight: Tensor, bias: Tensor, gain: float) -> None:
    checks.tensor("weight", weight, shape=("n", "n"), floating=True, finite=True)
    n = len(weight)
    if weight.shape != (n, n):
        raise ValueError(f"weight must be square, got {tuple(weight.shape)}")
    if checks.readable(weight) and not torch.allclose(weight, weight.mT):
        raise ValueError("weight must be symmetric")
    checks.tensor("bias", bias, shape=(n,), floating=True, finite=True)
    checks.number("gain", gain, above=0)
