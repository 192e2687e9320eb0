"""The roofline against hand counts and brute force."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from nnlib.kernels.cost import Cost
from nnlib.kernels.roofline import Machine, attainable, bound, matmul_cost, published, seconds
from nnlib.kernels.softmax import softmax_reference
from nnlib.kernels.trace import count, trace
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(inputs=(Machine("a desk calculator", flops=100, bandwidth=50), 0.5))


ABACUS = Machine("abacus", flops=100, bandwidth=50, launch_seconds=0.5)


def simulate(machine: Machine, cost: Cost, ticks: int = 20_000) -> float:
    """Run both supplies on a clock, side by side, until all is done; return the seconds."""
    span = 2 * max(cost.flops / machine.flops, cost.bytes / machine.bandwidth)
    for tick in range(ticks + 1):
        now = span * tick / ticks
        if now * machine.flops >= cost.flops and now * machine.bandwidth >= cost.bytes:
            return now
    raise AssertionError("never done")


@pytest.mark.equation("roofline-intensity")
def test_intensity_is_flops_for_each_byte():
    x = torch.zeros(1000)
    assert count(torch.add, x, x + 1).intensity == 1 / 12  # 1 FLOP; two numbers in, one out
    assert matmul_cost(30, 40, 50, 2).intensity == 2 * 30 * 40 * 50 / (2 * (1200 + 2000 + 1500))


@pytest.mark.equation("roofline-attainable")
@pytest.mark.parametrize("flops", [1, 10, 199, 200, 201, 5000])
def test_attainable_rate_is_that_of_two_clocks_side_by_side(flops):
    cost = Cost(flops, 100)
    rate = flops / simulate(ABACUS, cost)
    assert attainable(ABACUS, cost.intensity) == pytest.approx(rate, rel=1e-3)


@pytest.mark.equation("roofline-ridge")
def test_at_the_ridge_both_limits_meet():
    assert attainable(ABACUS, ABACUS.ridge) == ABACUS.flops
    assert ABACUS.bandwidth * ABACUS.ridge == ABACUS.flops
    assert attainable(ABACUS, ABACUS.ridge * 0.99) < ABACUS.flops
    assert bound(ABACUS, Cost(199, 100)) == "memory"
    assert bound(ABACUS, Cost(201, 100)) == "compute"


@pytest.mark.equation("roofline-time", "roofline-sequence")
def test_time_is_launches_and_the_slower_supply_of_each_kernel():
    costs = [Cost(10, 100), Cost(400, 100), Cost(0, 50), Cost(7, 0)]
    alone = sum(simulate(ABACUS, cost) for cost in costs)
    assert seconds(ABACUS, costs) == pytest.approx(4 * 0.5 + alone, rel=1e-3)
    assert seconds(ABACUS, costs, launches=0) == pytest.approx(alone, rel=1e-3)
    assert seconds(ABACUS, costs[1]) == 0.5 + 4
    assert seconds(ABACUS, []) == 0
    merged = sum(costs, Cost(0, 0))
    assert seconds(ABACUS, merged) < seconds(ABACUS, costs)  # supplies overlap, launches are saved


@pytest.mark.equation("roofline-half")
def test_at_half_speed_the_launch_costs_as_much_as_the_bytes():
    half = ABACUS.launch_seconds * ABACUS.bandwidth
    cost = Cost(0, int(half))
    assert seconds(ABACUS, cost) == pytest.approx(2 * half / ABACUS.bandwidth)


@pytest.mark.equation("roofline-softmax")
def test_softmax_with_its_maximum_taken_out_is_softmax():
    z = torch.randn(6, 50, dtype=torch.float64) * 20
    shifted = (z - z.amax(1, keepdim=True)).exp()
    torch.testing.assert_close(shifted / shifted.sum(1, keepdim=True), z.softmax(1))
    small = [Fraction(1, 3), Fraction(-2), Fraction(5, 2)]  # the plain form, where it is safe
    plain = [math.exp(v) / sum(math.exp(u) for u in small) for v in small]
    got = softmax_reference(torch.tensor([float(v) for v in small], dtype=torch.float64))
    assert got.tolist() == pytest.approx(plain, rel=1e-14)


@pytest.mark.equation("roofline-matmul", "roofline-batch")
@pytest.mark.parametrize("sizes", [(3, 4, 5), (1, 64, 64), (128, 64, 64)])
def test_matrix_product_counts_as_it_runs(sizes):
    m, k, n = sizes
    cost = count(torch.matmul, torch.zeros(m, k), torch.zeros(k, n))
    assert cost == matmul_cost(m, k, n, element_size=4)
    products = sum(1 for _ in range(m) for _ in range(n) for _ in range(k))
    assert cost.flops == 2 * products
    if k == n:  # a batch of m rows through d × d weights
        assert cost.intensity == pytest.approx(2 * m * k / (4 * (k + 2 * m)))


def tiled(a: Tensor, b: Tensor, tile: int) -> Tensor:
    out = torch.empty(a.shape[0], b.shape[1])
    for i in range(0, a.shape[0], tile):
        for j in range(0, b.shape[1], tile):
            torch.mm(a[i : i + tile], b[:, j : j + tile], out=out[i : i + tile, j : j + tile])
    return out


@pytest.mark.equation("roofline-tile")
@pytest.mark.parametrize(("sizes", "tile"), [((8, 6, 8), 2), ((8, 6, 8), 8), ((7, 5, 9), 4)])
def test_a_tile_reads_its_own_strips(sizes, tile):
    m, k, n = sizes
    a, b = torch.randn(m, k), torch.randn(k, n)
    torch.testing.assert_close(tiled(a, b, tile), a @ b)
    cost = count(tiled, a, b, tile)
    assert cost == matmul_cost(m, k, n, 4, tile=tile)
    assert trace(tiled, a, b, tile).fused().cost == matmul_cost(m, k, n, 4)
    if m % tile == n % tile == 0:
        assert cost.bytes == 4 * (2 * m * k * n // tile + m * n)


def test_published_machines_are_those_of_the_data_sheets():
    assert published("H100").flops == 989e12
    assert published("H100", "float32").flops == 67e12
    assert published("A100").bandwidth == 2.039e12
    assert published("T4", "float16").ridge == pytest.approx(203.1, abs=0.1)
    with refuses(ValueError, "name='H10' must be one of ['T4', 'A100', 'H100', 'H200']"):
        published("H10")
    with refuses(ValueError, "precision='bfloat16' must be one of ['float32', 'float16']"):
        published("T4")


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "flops=0 must be a finite number > 0"):
        Machine("m", 0, 1)
    with refuses(ValueError, "bandwidth=inf must be a finite number > 0"):
        Machine("m", 1, math.inf)
    with refuses(ValueError, "launch_seconds=-1 must be a finite number ≥ 0"):
        Machine("m", 1, 1, -1)
    with refuses(TypeError, "name=3 must be a string"):
        Machine(3, 1, 1)
    with refuses(TypeError, "machine must be a Machine, got NoneType"):
        attainable(None, 1)
    with refuses(ValueError, "intensity=-1 must be a finite number ≥ 0"):
        attainable(ABACUS, -1)
    with refuses(TypeError, "cost must be a Cost, got int"):
        bound(ABACUS, 3)
    with refuses(TypeError, "costs must be a Cost or a list of them, got int"):
        seconds(ABACUS, 3)
    with refuses(TypeError, "costs[1] must be a Cost, got int"):
        seconds(ABACUS, [Cost(1, 1), 3])
    with refuses(ValueError, "launches=-1 must be an integer ≥ 0"):
        seconds(ABACUS, Cost(1, 1), -1)
    with refuses(ValueError, "m=0 must be an integer ≥ 1"):
        matmul_cost(0, 1, 1)
    with refuses(ValueError, "tile=0 must be an integer ≥ 1"):
        matmul_cost(1, 1, 1, tile=0)
