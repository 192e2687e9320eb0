r"""Roofline: how long an operation must take, from its arithmetic and from the bytes it moves.

Chapter: chapters/kernels/roofline.md     Paper: Williams, Waterman and Patterson 2009
Letters: π FLOP/s of a machine, β bytes/s of its memory, λ seconds of a launch; W FLOPs and Q bytes
of an operation, I = W / Q.

FLOPs and bytes need not be asserted: `nnlib.kernels.trace` counts those of a function of torch,
`nnlib.kernels.traffic` those of a Triton kernel, and `nnlib.kernels.placed` reads what a GPU did.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnlib import checks
from nnlib.kernels.cost import Cost


@dataclass(frozen=True)
class Machine:
    """A processor as the roofline sees it: three numbers.

    Args:
        name: for messages and pictures.
        flops: floating-point operations a second that it can do, π > 0.
        bandwidth: bytes a second between it and its main memory, β > 0.
        launch_seconds: seconds that starting one kernel costs, λ ≥ 0.

    Example:
        >>> Machine("a desk calculator", flops=100, bandwidth=50).ridge
        2.0
    """

    name: str
    flops: float
    bandwidth: float
    launch_seconds: float = 0.0

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"name={self.name!r} must be a string")
        for field, bound in (
            ("flops", "above"),
            ("bandwidth", "above"),
            ("launch_seconds", "least"),
        ):
            value = checks.number(field, getattr(self, field), **{bound: 0})
            object.__setattr__(self, field, value)

    @property
    def ridge(self) -> float:
        r"""Intensity at which both limits meet, π / β (equation `roofline-ridge`)."""
        return self.flops / self.bandwidth


# Dense FLOP/s by precision, and bytes/s, as NVIDIA's data sheets have them. Nobody reaches them.
_PUBLISHED = {
    "T4": ({"float32": 8.1e12, "float16": 65e12}, 320e9),
    "A100": (
        {"float32": 19.5e12, "tf32": 156e12, "float16": 312e12, "bfloat16": 312e12},
        2039e9,
    ),
    "H100": (
        {"float32": 67e12, "tf32": 494e12, "float16": 989e12, "bfloat16": 989e12},
        3350e9,
    ),
    "H200": (
        {"float32": 67e12, "tf32": 494e12, "float16": 989e12, "bfloat16": 989e12},
        4800e9,
    ),
}


def published(name: str, precision: str = "bfloat16") -> Machine:
    """Return a GPU as its data sheet describes it: upper bounds, not measurements.

    Args:
        name: "T4", "A100" (SXM, 80 GB), "H100" (SXM) or "H200" (SXM).
        precision: "float32", "tf32", "float16" or "bfloat16", without sparsity; the T4 has the
            first and the third.

    Example:
        >>> round(published("H100").ridge)
        295

    Source: NVIDIA's data sheets of 2018, 2021, 2022 and 2023.
    """
    rates, bandwidth = _PUBLISHED[checks.one_of("name", name, _PUBLISHED)]
    rate = rates[checks.one_of("precision", precision, rates)]
    return Machine(f"{name}, {precision}", rate, bandwidth)


def attainable(machine: Machine, intensity: float) -> float:
    r"""Return the FLOP/s that an operation can reach: $\min(\pi, \beta I)$.

    That is equation `roofline-attainable`: arithmetic is the flat roof, memory the slanting one.

    Args:
        machine: with π and β.
        intensity: FLOPs for each byte moved, ≥ 0.

    Example:
        >>> calculator = Machine("a desk calculator", flops=100, bandwidth=50)
        >>> attainable(calculator, 0.5), attainable(calculator, 8)
        (25.0, 100.0)

    Source: Williams, Waterman and Patterson 2009, who call it attainable performance.
    """
    _check_machine(machine)
    intensity = checks.number("intensity", intensity, least=0)
    return min(machine.flops, machine.bandwidth * intensity)


def bound(machine: Machine, cost: Cost) -> str:
    """Return what holds an operation up: "memory" left of the ridge, else "compute".

    Args:
        machine: with π and β.
        cost: FLOPs and bytes of the operation.

    Example:
        >>> calculator = Machine("a desk calculator", flops=100, bandwidth=50)
        >>> bound(calculator, Cost(flops=10, bytes=40)), bound(calculator, Cost(400, 40))
        ('memory', 'compute')
    """
    _check_machine(machine)
    _check_cost("cost", cost)
    slow = cost.bytes / machine.bandwidth > cost.flops / machine.flops
    return "memory" if slow else "compute"


def seconds(
    machine: Machine, costs: Cost | Sequence[Cost], launches: int | None = None
) -> float:
    r"""Return the least time of kernels that run one after the other.

    $T = n\lambda + \sum_i \max(W_i/\pi,\; Q_i/\beta)$ (equation `roofline-sequence`): each kernel
    waits for the slower of its two supplies, and every launch costs the same.

    Args:
        machine: with π, β and λ.
        costs: of one kernel, or of each.
        launches: n ≥ 0; None is one for each cost.

    Example:
        >>> calculator = Machine("a desk calculator", 100, 50, launch_seconds=1)
        >>> seconds(calculator, [Cost(flops=10, bytes=100), Cost(flops=400, bytes=100)])
        8.0
    """
    _check_machine(machine)
    costs = [costs] if isinstance(costs, Cost) else costs
    if not isinstance(costs, (list, tuple)):
        raise TypeError(
            f"costs must be a Cost or a list of them, got {type(costs).__name__}"
        )
    for at, cost in enumerate(costs):
        _check_cost(f"costs[{at}]", cost)
    n = len(costs) if launches is None else checks.count("launches", launches, least=0)
    waits = (max(c.flops / machine.flops, c.bytes / machine.bandwidth) for c in costs)
    return n * machine.launch_seconds + math.fsum(waits)


def matmul_cost(
    m: int, k: int, n: int, element_size: int = 4, tile: int | None = None
) -> Cost:
    r"""Return the cost of an (m, k) matrix times a (k, n) one.

    $W = 2mkn$ FLOPs. With both read once, $Q = b(mk + kn + mn)$ bytes (equation
    `roofline-matmul`); cut into square tiles of the result that share nothing, every tile reads
    its own strips, and $Q \approx b(2mkn/B + mn)$ (`roofline-tile`).

    Args:
        m: rows of the result, ≥ 1.
        k: length of the sums, ≥ 1.
        n: columns of the result, ≥ 1.
        element_size: bytes a number, b ≥ 1.
        tile: side of a tile, B ≥ 1; None: every number is read once.

    Example:
        >>> matmul_cost(1024, 1024, 1024, 2).intensity, matmul_cost(1024, 1024, 1024, 2, tile=1)
        (341.3333333333333, Cost(flops=2147483648, bytes=4297064448))
    """
    m, k, n = checks.count("m", m), checks.count("k", k), checks.count("n", n)
    size = checks.count("element_size", element_size)
    read = m * k + k * n
    if tile is not None:
        tile = checks.count("tile", tile)
        read = m * k * -(-n // tile) + k * n * -(-m // tile)  # each strip, once a tile
    return Cost(2 * m * k * n, size * (read + m * n))


def _check_machine(machine: Any) -> None:
    if not isinstance(machine, Machine):
        raise TypeError(f"machine must be a Machine, got {type(machine).__name__}")


def _check_cost(name: str, cost: Any) -> None:
    if not isinstance(cost, Cost):
        raise TypeError(f"{name} must be a Cost, got {type(cost).__name__}")
