r"""What a Boltzmann machine may be given: symmetric couplings, probabilities, temperatures, clamps.

Axes: n units.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def symmetric(name: str, value: Tensor) -> Float[Tensor, "n n"]:
    """Return `value` when it is a symmetric matrix whose diagonal is zero.

    Raises:
        ValueError: it is not; says where.
    """
    checks.tensor(
        name, value, shape=("n", "n"), floating=True, finite=True, empty=False
    )
    n = len(value)
    checks.tensor(name, value, shape=(n, n))
    if not torch.allclose(value, value.T):
        i, j = divmod(int((value - value.T).abs().argmax()), n)
        raise ValueError(
            f"{name} must be symmetric, got {name}[{i}, {j}]={value[i, j]:g} "
            f"and {name}[{j}, {i}]={value[j, i]:g}"
        )
    if bool(value.diagonal().any()):
        i = int(value.diagonal().abs().argmax())
        raise ValueError(
            f"{name} must have a zero diagonal, got {name}[{i}, {i}]={value[i, i]:g}"
        )
    return value


def connections(value: Tensor, n: int) -> Tensor:
    """Return which units are coupled, once that is symmetric and nobody with itself."""
    checks.tensor("connections", value, shape=(n, n))
    if value.dtype != torch.bool:
        raise TypeError(
            f"connections must hold True at coupled units, got {value.dtype}"
        )
    if not torch.equal(value, value.T):
        raise ValueError("connections must be symmetric")
    if bool(value.diagonal().any()):
        raise ValueError("connections must couple no unit with itself")
    return value.cpu()


def shares(name: str, value: Tensor | None, rows: int) -> Tensor:
    """Return probabilities of rows; all alike if None."""
    if value is None:
        return torch.full((rows,), 1 / rows)
    checks.tensor(name, value, shape=(rows,), floating=True, finite=True)
    if bool((value < 0).any()) or abs(float(value.sum()) - 1) > 1e-3:
        raise ValueError(f"{name} must be ≥ 0 and sum to 1, got {float(value.sum()):g}")
    return value


def schedule(temperature: float | Sequence[float], sweeps: int) -> list[float]:
    """Return the temperature of each sweep."""
    if isinstance(temperature, Tensor):
        temperature = temperature.tolist()
    if isinstance(temperature, Sequence) and not isinstance(temperature, str):
        if len(temperature) != sweeps:
            raise ValueError(
                f"temperature must hold one number for each of sweeps={sweeps}, "
                f"got {len(temperature)}"
            )
        return [checks.number("temperature", heat, least=0) for heat in temperature]
    return [checks.number("temperature", temperature, least=0)] * sweeps


def free_units(clamped: Tensor | None, units: int) -> list[int]:
    """Return the numbers of the units that are not held."""
    if clamped is None:
        return list(range(units))
    checks.tensor("clamped", clamped, shape=(units,))
    if clamped.dtype != torch.bool:
        raise TypeError(
            f"clamped must hold True at units that are held, got {clamped.dtype}"
        )
    return (~clamped).nonzero()[:, 0].tolist()
