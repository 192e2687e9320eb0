"""The roofline against hand counts, brute force and the addresses that kernels really touch."""

import ast
import math
from fractions import Fraction
from pathlib import Path

import jupytext
import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from torch.nn import functional as F

from nnlib.kernels import roofline as module
from nnlib.kernels.cost import Cost
from nnlib.kernels.roofline import (
    Machine,
    amdahl,
    attainable,
    bound,
    count,
    matmul_cost,
    moved,
    placed,
    published,
    seconds,
    trace,
)
from nnlib.kernels.softmax import softmax_cost, softmax_reference, softmax_triton
from nnlib.plot.roofline import places, rate, roof
from nnlib.plot.style import COLORS, subplots
from tests.support import refuses

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


@pytest.mark.equation("roofline-softmax-bytes")
@pytest.mark.parametrize("shape", [(4, 100), (1, 7), (30, 33)])
def test_softmax_step_by_step_moves_eight_numbers_for_each_of_its_input(shape):
    n, c = shape
    x = torch.randn(shape)
    told = trace(softmax_reference, x)
    assert [step.name for step in told.steps] == ["amax", "sub", "exp", "sum", "div"]
    assert told.cost == Cost(5 * n * c, 4 * (8 * n * c + 4 * n))
    plans = {(1, 2, 1, 1): 6, (1, 3, 1): 5, (4, 1): 4, (): 2}
    for sizes, passes in plans.items():
        small = told.fused(*sizes).cost.bytes - 4 * passes * n * c
        assert 0 <= small <= 4 * 4 * n  # a maximum and a sum for each row
    assert told.fused().cost == softmax_cost(shape) == count(torch.softmax, x, -1)


@pytest.mark.interpreter
@pytest.mark.parametrize(("shape", "passes"), [((4, 100), 1), ((3, 8192), 1), ((2, 9001), 2)])
def test_the_kernel_touches_each_number_once(shape, passes):
    x = torch.randn(shape)
    size = 4 * x.numel()
    assert moved(softmax_triton, x) == (size, size, passes * size)


def rms_norm_in_steps(x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6):
    h = x + residual
    return h * (h.square().mean(-1, keepdim=True) + eps).rsqrt() * weight, h


@pytest.mark.equation("roofline-rmsnorm")
def test_rms_norm_with_its_residual_is_torch_s_own_of_the_sum():
    x, r, w = torch.randn(5, 64).double(), torch.randn(5, 64).double(), torch.randn(64).double()
    y, h = rms_norm_in_steps(x, r, w)
    torch.testing.assert_close(y, F.rms_norm(x + r, (64,), w, eps=1e-6))
    torch.testing.assert_close(h, x + r)


def test_fused_rms_norm_moves_two_numbers_in_and_two_out():
    n, d = 50, 64
    told = trace(rms_norm_in_steps, torch.randn(n, d), torch.randn(n, d), torch.randn(d))
    assert told.fused().cost.bytes == 4 * (4 * n * d + d)
    assert told.cost.bytes > 2.5 * told.fused().cost.bytes


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


@pytest.mark.equation("roofline-amdahl")
@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_amdahl_is_the_ratio_of_two_stopwatches(share):
    before = 60.0
    after = before * (1 - share) + before * share / 4
    assert amdahl(share, 4) == pytest.approx(before / after)


def scan_by_index(a: Tensor) -> Tensor:
    h, out = torch.zeros_like(a[:, 0]), []
    for t in range(a.shape[1]):
        h = 0.9 * h + a[:, t]
        out.append(h)
    return torch.stack(out, 1)


def scan_by_unbind(a: Tensor) -> Tensor:
    h, out = torch.zeros_like(a[:, 0]), []
    for at in a.unbind(1):
        h = 0.9 * h + at
        out.append(h)
    return torch.stack(out, 1)


def differentiate(scan, a: Tensor):
    a = a.clone().requires_grad_()
    return torch.autograd.grad(scan(a).sum(), a)


@pytest.mark.equation("roofline-index-loop")
def test_a_loop_that_indexes_moves_bytes_with_the_square_of_its_steps():
    n, d, t = 2, 8, 128
    a = torch.randn(n, t, d)
    torch.testing.assert_close(differentiate(scan_by_index, a), differentiate(scan_by_unbind, a))
    by_index, by_unbind = (
        count(differentiate, f, a).bytes for f in (scan_by_index, scan_by_unbind)
    )
    extra = by_index - by_unbind
    assert extra == pytest.approx(16 * n * d * t**2, rel=0.03)
    longer = torch.randn(n, 2 * t, d)
    assert count(differentiate, scan_by_unbind, longer).bytes < 2.1 * by_unbind


def test_views_are_free_and_expanded_tensors_lie_in_memory_once():
    x = torch.randn(6, 8)
    assert trace(lambda x: x.t().reshape(8, 6)[2:].unbind(1), x).steps == ()
    row = torch.randn(1, 8)
    told = trace(lambda x, row: x + row.expand(6, 8), x, row).steps[0]
    assert told.bytes_read == 4 * (48 + 8)
    row = torch.randn(100, 8)[7:8]  # of a larger tensor
    assert trace(lambda x, row: x + row.expand(6, 8), x, row).steps[0].bytes_read == 4 * (48 + 8)


def test_in_place_and_overwriting_operations():
    def steps(f):
        return [(s.name, s.bytes_read, s.bytes_written) for s in trace(f, torch.zeros(10)).steps]

    assert steps(lambda x: x.add_(1)) == [("add_", 40, 40)]
    assert steps(lambda x: x.zero_()) == [("zero_", 0, 40)]
    assert steps(lambda x: x[:3].fill_(2.0)) == [("fill_", 0, 12)]
    assert steps(lambda x: torch.exp(x, out=torch.empty(10))) == [("exp", 40, 40)]
    assert steps(lambda x: torch.empty_like(x)) == []


def test_a_tensor_that_was_freed_is_no_other_tensor():
    def chain(x):
        for _ in range(5):
            x = x + 1  # each frees the one before, whose memory the next one gets
        return x

    told = trace(chain, torch.zeros(100))
    assert told.cost.bytes == 5 * 800
    assert told.fused().cost.bytes == 800
    assert told.fused(2, 3).cost.bytes == 1600


def test_a_lookup_reads_the_rows_it_gives():
    table, at = torch.randn(1000, 16), torch.tensor([3, 5])
    step = trace(F.embedding, at, table).steps[0]
    assert step.bytes_read <= 4 * 32 + 8 * 2 + 4 * 32
    assert step.bytes_written == 4 * 32


def test_a_value_that_is_needed_later_is_written():
    told = trace(lambda x: (y := x + 1, y * 2), torch.zeros(10))
    assert told.fused().cost.bytes == 4 * 30  # x in, both results out


def test_attention_is_counted_by_its_products():
    q = torch.randn(2, 3, 16, 8)
    cost = count(F.scaled_dot_product_attention, q, q, q)
    assert cost.flops == 4 * 2 * 3 * 16 * 16 * 8


def test_tensors_without_numbers_are_counted_too():
    def like(device):
        x, w = torch.empty(8, 16, device=device), torch.empty(16, 4, device=device)
        return trace(lambda x, w: (x @ w).softmax(-1), x, w)

    assert like("meta").costs == like("cpu").costs


RECORD = {  # made up
    "device": "Imaginary GPU",
    "date": "2000-01-01",
    "copy_bandwidth": 100.0,
    "matmul_rate": {"bfloat16": 1000.0, "float32": 200.0},
    "rows": [
        {"operation": "softmax", "direction": "forward", "shape": {"n": 1}, "dtype": "float32",
         "flops": 50, "bytes": 100, "seconds": {"nnlib": 1.25, "torch": 2.0}},
        {"operation": "softmax", "direction": "backward", "shape": {"n": 1}, "dtype": "float32",
         "flops": 50, "bytes": 100, "seconds": {"nnlib": 2.0}},
        {"operation": "attention", "direction": "forward", "shape": {"n": 1}, "dtype": "bfloat16",
         "flops": 4000, "bytes": 100, "seconds": {"nnlib": 5.0, "torch": 4.0}},
    ],
}  # fmt: skip


def test_measured_kernels_are_placed_by_the_roof_of_their_own_run():
    points = placed(RECORD)
    assert [p.share for p in points] == pytest.approx([0.8, 0.5, 0.8])
    assert [p.rate for p in points] == pytest.approx([40, 25, 800])
    assert [p.seconds for p in placed(RECORD, "torch")] == [2.0, 4.0]


def gpu_cell() -> str:
    chapter = Path(module.__file__).parents[2] / "chapters" / "kernels" / "roofline.md"
    cells = [cell.source for cell in jupytext.read(chapter).cells if cell.cell_type == "code"]
    (cell,) = [source for source in cells if 'measured("kernels")' in source]
    return cell


@pytest.mark.parametrize("records", [[], [RECORD]], ids=["none measured", "one measured"])
def test_the_chapter_shows_measured_gpus_and_says_when_there_are_none(records):
    told, shown = [], []
    names = {
        "measured": lambda subject: records, "say": told.append, "placed": placed, "roof": roof,
        "places": places, "subplots": subplots, "COLORS": COLORS, "np": np,
        "figure": lambda fig, name, *, caption, alt: shown.append((fig, caption)),
    }  # fmt: skip
    exec(compile(ast.parse(gpu_cell()), "the chapter", "exec"), names)
    if not records:
        assert told[0].startswith("**No GPU has been measured yet.**")
        assert not shown
        return
    (fig, caption), (words,) = shown[0], told
    assert "Imaginary GPU, 2000-01-01" in caption
    assert words == "The median kernel reaches **80%** of its roof."
    written = [text.get_text() for text in fig.axes[0].texts]
    assert "softmax 80%" in written and "attention 80%" in written
    fig.canvas.draw()
    plt.close(fig)


def test_the_roof_is_drawn_where_it_is():
    fig, ax = subplots()
    ax.set_ylim(1, 1e5)
    roof(ax, 1000, 50, span=(0.1, 400), label="flat", fill=True)
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [0.1, 20, 400]
    assert line.get_ydata().tolist() == [5, 1000, 1000]
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["1 FLOP/s", "10 FLOP/s"]
    plt.close(fig)
    assert rate(3.351e12) == "3.35 TFLOP/s"
    assert rate(0.5) == "0.5 FLOP/s"


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
    with refuses(ValueError, "share=1.5 must be a finite number ≥ 0 and ≤ 1"):
        amdahl(1.5, 2)
    with refuses(ValueError, "sizes=(1, 1) must add up to the 3 steps"):
        trace(lambda x: ((x + 1) * 2).exp(), torch.zeros(3)).fused(1, 1)
    with refuses(TypeError, "function=3 must be callable"):
        trace(3)
    with refuses(TypeError, "function=3 must be callable"):
        moved(3)


def test_addresses_are_refused_where_no_kernel_is_interpreted(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with refuses(RuntimeError, "moved needs Triton, and TRITON_INTERPRET=1"):
        moved(softmax_triton, torch.zeros(2, 2))


@pytest.mark.interpreter
def test_watching_leaves_the_interpreter_as_it_was():
    from triton.runtime.interpreter import interpreter_builder

    moved(softmax_triton, torch.zeros(2, 2))
    assert "create_masked_load" not in vars(interpreter_builder)
    with pytest.raises(ZeroDivisionError):
        moved(lambda: 1 / 0)
    assert "create_masked_store" not in vars(interpreter_builder)
    assert module.moved(lambda: None) == (0, 0, 0)
