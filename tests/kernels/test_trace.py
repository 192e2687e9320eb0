"""The counts of a function as it runs, against hand counts."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nnlib.kernels.cost import Cost
from nnlib.kernels.softmax import softmax_cost, softmax_reference
from nnlib.kernels.trace import count, trace
from tests.support import refuses


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


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "sizes=(1, 1) must add up to the 3 steps"):
        trace(lambda x: ((x + 1) * 2).exp(), torch.zeros(3)).fused(1, 1)
    with refuses(TypeError, "function=3 must be callable"):
        trace(3)
