"""What is layer norm's own; `test_norm.py` has what it shares with RMSNorm."""

import pytest
import torch

from nnlib.kernels.layer_norm import (
    layer_norm,
    layer_norm_cost,
    layer_norm_reference,
    layer_norm_triton,
)
from tests.kernel_support import hold_to_double
from tests.support import refuses


@pytest.mark.parametrize("columns", [100, 9001])
def test_a_large_mean_does_not_swallow_the_variance(columns, kernel_device):
    x = 1e4 + torch.randn(3, columns, device=kernel_device)
    weight, bias = 1 + torch.randn_like(x[0]), torch.randn_like(x[0])
    hold_to_double(layer_norm_triton, layer_norm_reference, x, weight, bias)
    y = layer_norm_triton(x, None, None)
    truth = layer_norm_reference(x.double(), None, None)
    short = x.square().mean(-1) - x.mean(-1).square()  # the form in one pass
    assert (y - truth).abs().max() < 1e-3
    assert (short - x.double().var(-1, correction=0)).abs().min() > 0.1


def test_blocks_with_different_means_are_merged_exactly(kernel_device):
    x = torch.linspace(-50, 50, 2 * 9001, device=kernel_device).view(2, 9001)
    hold_to_double(layer_norm_triton, layer_norm_reference, x, torch.rand_like(x[0]), x[1])


def test_equal_numbers_leave_only_the_bias(kernel_device):
    x = torch.full((2, 9001), 7.0, device=kernel_device)
    bias = torch.randn(9001, device=kernel_device)
    torch.testing.assert_close(layer_norm_triton(x, None, bias), bias.expand(2, -1))


def test_a_bad_bias_is_refused_by_name():
    x = torch.zeros(2, 4)
    with refuses(ValueError, "bias must have shape (4), got (2, 4)"):
        layer_norm(x, None, x)
    with refuses(TypeError, "bias must have the dtype of x"):
        layer_norm(x, None, x[0].double())


def test_cost_counts_every_tensor_once():
    n, c, size = 64, 1000, 2
    rows, vectors, saved = n * c * size, 2 * c * size, 2 * n * 4
    assert layer_norm_cost((n, c), size).bytes == 2 * rows + vectors + saved
    assert layer_norm_cost((8, 8, c), size, residual=True).bytes == 4 * rows + vectors + saved
    backward = layer_norm_cost((n, c), size, backward=True)  # weight in, both gradients out
    assert backward.bytes == 3 * rows + 3 * c * size + saved
    both = layer_norm_cost((n, c), size, backward=True, residual=True)
    assert both.bytes == 4 * rows + 3 * c * size + saved
    assert 1 < layer_norm_cost((n, c), size).intensity < 2
