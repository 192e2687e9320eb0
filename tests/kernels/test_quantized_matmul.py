"""The chapter's equations, each against something independent; what the contract runs."""

import math
from fractions import Fraction

import pytest
import torch

from nnlib.kernels.int8_matmul import int8_matmul, int8_matmul_cost, int8_matmul_triton
from nnlib.kernels.nf4_matmul import nf4_matmul, nf4_matmul_cost, nf4_matmul_triton
from nnlib.kernels.quantization import (
    dequantize,
    nf4_absmax,
    nf4_dequantize,
    nf4_levels,
    nf4_quantize,
    quantize,
)
from nnlib.kernels.roofline import bound, published
from tests.support import Example


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    weight = quantize(torch.randn(5, 8))
    return Example({}, (torch.randn(3, 8), weight), {"bias": torch.randn(5)})


@pytest.mark.equation("quantized-matmul-definition")
def test_scales_leave_the_sum():
    """In exact fractions: what the kernel computes, and the product of what the codes stand for."""
    x, w = quantize(torch.randn(2, 40)), quantize(torch.randn(3, 40))
    got = int8_matmul_triton(dequantize(x), w, threshold=None)
    for i in range(2):
        for j in range(3):
            s, t = Fraction(x.scale[i, 0].item()), Fraction(w.scale[j, 0].item())
            pairs = list(zip(x.values[i].tolist(), w.values[j].tolist(), strict=True))
            apart = sum((s * q) * (t * p) for q, p in pairs)
            assert apart == s * t * sum(q * p for q, p in pairs)
            assert got[i, j].item() == pytest.approx(float(apart), rel=1e-5, abs=1e-6)


@pytest.mark.equation("quantized-matmul-grid")
@pytest.mark.parametrize("bits", range(2, 9))
def test_no_other_symmetric_code_is_nearer(bits):
    """By brute force over all codes, with the smallest step that reaches the largest number."""
    x = torch.randn(50, dtype=torch.float64)
    q, top = quantize(x, bits), 2 ** (bits - 1) - 1
    codes = torch.arange(-top, top + 1, dtype=torch.float64)
    assert float(q.scale) * top == pytest.approx(float(x.abs().max()), rel=1e-12)
    nearest = (x[:, None] - codes * q.scale).abs().argmin(1)
    assert torch.equal(codes[nearest].to(torch.int8), q.values)


@pytest.mark.equation("quantized-matmul-error")
@pytest.mark.parametrize("bits", [4, 6, 8])
def test_errors_stay_within_half_a_step_and_have_a_twelfth_of_its_square(bits):
    x = 2 * torch.rand(200_000, dtype=torch.float64) - 1
    q = quantize(x, bits)
    error = x - dequantize(q)
    assert error.abs().max() <= q.scale.item() / 2 * (1 + 1e-9)
    # 200 000 draws of a square whose standard deviation is about its mean: 3 % is ten deviations
    assert error.square().mean().item() == pytest.approx(q.scale.item() ** 2 / 12, rel=0.03)


@pytest.mark.equation("quantized-matmul-room")
def test_the_longest_sum_fits_into_32_bits_and_one_more_does_not():
    ones = torch.full((133_144,), 127, dtype=torch.int64)
    assert (ones * 127).sum() <= torch.iinfo(torch.int32).max
    assert (ones * 127).sum() + 127**2 > torch.iinfo(torch.int32).max


@pytest.mark.equation("quantized-matmul-outliers")
def test_outlier_columns_are_added_in_their_own_precision():
    """By loops over single numbers, in Python's float64."""
    x, w = torch.randn(3, 12), quantize(torch.randn(4, 12))
    x[:, 5] += 40
    apart = [c for c in range(12) if max(abs(v) for v in x[:, c].tolist()) >= 6]
    assert 5 in apart
    for form in (int8_matmul, int8_matmul_triton):
        got = form(x, w)
        for i in range(3):
            rest = [0.0 if c in apart else v for c, v in enumerate(x[i].tolist())]
            s = max(abs(v) for v in rest) / 127
            for j in range(4):
                p, t = w.values[j].tolist(), w.scale[j, 0].item()
                y = s * t * sum(round(v / s) * p[c] for c, v in enumerate(rest))
                y += t * sum(x[i, c].item() * p[c] for c in apart)
                assert got[i, j].item() == pytest.approx(y, rel=1e-5, abs=1e-5)


@pytest.mark.equation("quantized-matmul-levels")
def test_levels_cut_the_bell_curve_into_equal_parts():
    """By numerical integration of the density, with no inverse function at all."""
    delta = (31 / 32 + 29 / 30) / 2
    grid = torch.linspace(0, 4, 400_001, dtype=torch.float64)
    area = torch.cumulative_trapezoid((-grid.square() / 2).exp(), grid) / math.sqrt(2 * math.pi)
    top = grid[1:][int((area - (delta - 0.5)).abs().argmin())]  # Q(δ)
    for levels, parts in ((nf4_levels()[8:], 8), (-nf4_levels()[:7], 7)):
        for level in levels.tolist():
            mass = area[int((grid[1:] - level * top).abs().argmin())].item()
            step = mass / (delta - 0.5) * parts
            assert step == pytest.approx(round(step), abs=1e-3)
            assert 1 <= round(step) <= parts


@pytest.mark.equation("quantized-matmul-nf4")
@pytest.mark.parametrize("double", [False, True])
def test_a_weight_is_a_level_times_the_scale_of_its_block(double):
    """By a loop over codes, halves of bytes and blocks."""
    q = nf4_quantize(torch.randn(3, 20), 16, double)
    x, absmax, levels = torch.randn(2, 20), nf4_absmax(q).tolist(), nf4_levels().tolist()
    for form in (nf4_matmul, nf4_matmul_triton):
        got = form(x, q)
        for i in range(2):
            for j in range(3):
                y = 0.0
                for c in range(20):
                    at = 20 * j + c
                    byte = q.codes[at // 2].item()
                    code = byte % 16 if at % 2 else byte // 16
                    y += x[i, c].item() * absmax[at // 16] * levels[code]
                assert got[i, j].item() == pytest.approx(y, rel=1e-5, abs=1e-5)


@pytest.mark.equation("quantized-matmul-bits")
@pytest.mark.parametrize("block_size", [32, 64, 128])
def test_bits_a_weight_are_those_that_the_tensors_take(block_size):
    weight = torch.randn(512, 1024)
    for double, bits in ((False, 4 + 32 / block_size),
                         (True, 4 + 8 / block_size + 32 / (256 * block_size))):  # fmt: skip
        q = nf4_quantize(weight, block_size, double)
        parts = [q.codes, q.absmax, q.absmax_scale]
        taken = 8 * sum(p.numel() * p.element_size() for p in parts if p is not None)
        assert taken / weight.numel() == bits


@pytest.mark.equation("quantized-matmul-gradient")
@pytest.mark.parametrize("form", [nf4_matmul, nf4_matmul_triton], ids=["public", "kernel"])
def test_the_gradient_of_the_input_is_that_of_finite_differences(form):
    """The product is linear in x, so that a difference quotient is exact up to rounding."""
    q, x, dy = nf4_quantize(torch.randn(9, 33), 16), torch.randn(4, 33), torch.randn(4, 9)
    leaf = x.clone().requires_grad_()
    (dx,) = torch.autograd.grad(form(leaf, q), leaf, dy)
    for c in range(0, 33, 4):
        moved = x.clone()
        moved[:, c] += 1
        slope = ((form(moved, q) - form(x, q)) * dy).sum(1)
        torch.testing.assert_close(dx[:, c], slope, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(dx, dy @ nf4_dequantize(q), rtol=1e-4, atol=1e-4)


@pytest.mark.equation("quantized-matmul-smooth")
def test_a_scale_that_moves_into_the_weight_changes_nothing_and_balances_both():
    x, w = torch.randn(30, 20).double(), torch.randn(10, 20).double()
    x[:, 3] *= 50
    top = x.abs().amax(0), w.abs().amax(0)
    for alpha in (0.25, 0.5, 0.75):
        d = top[0] ** alpha / top[1] ** (1 - alpha)
        torch.testing.assert_close((x / d) @ (w * d).T, x @ w.T)
    d = (top[0] / top[1]).sqrt()
    torch.testing.assert_close((x / d).abs().amax(0), (w * d).abs().amax(0))


@pytest.mark.equation("quantized-matmul-zero")
def test_the_zero_point_is_a_sum_of_the_weight():
    x, w = quantize(torch.rand(1, 30), 4, symmetric=False), quantize(torch.randn(5, 30), 4)
    z, p = x.zero_point.int().item(), w.values.int()
    q = x.values.int()[0]
    for row in p:
        direct = sum((a - z) * b for a, b in zip(q.tolist(), row.tolist(), strict=True))
        assert direct == int((q * row).sum() - z * row.sum())
    near = dequantize(x) @ dequantize(w).T
    wanted = x.scale * w.scale.T * (q @ p.T - z * p.sum(1))
    torch.testing.assert_close(near, wanted)


@pytest.mark.equation("quantized-matmul-crossing")
@pytest.mark.parametrize(("cost", "beta"), [(int8_matmul_cost, 1.0), (nf4_matmul_cost, 4.5 / 8)],
                         ids=["int8", "nf4"])  # fmt: skip
def test_from_the_crossing_on_arithmetic_is_the_limit(cost, beta):
    """For a weight so large that x and y do not count."""
    machine, k = published("H100"), 2**20
    crossing = beta / 2 * machine.ridge
    assert bound(machine, cost(int(0.98 * crossing), k, k)) == "memory"
    assert bound(machine, cost(int(1.03 * crossing) + 1, k, k)) == "compute"
