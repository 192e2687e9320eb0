"""What is RMSNorm's own; `test_norm.py` has what it shares with layer norm."""

import pytest
import torch
from torch.nn import functional as F

from nnlib.kernels import rms_norm as module
from nnlib.kernels.rms_norm import rms_norm, rms_norm_cost, rms_norm_reference, rms_norm_triton
from tests.kernel_support import value_and_grads


def inputs(shape, dtype=torch.float32):
    """Return x and weight."""
    return 3 * torch.randn(shape, dtype=dtype), 1 + torch.randn(shape[-1], dtype=dtype)


def test_squares_of_large_halves_do_not_overflow(kernel_device):
    x = torch.full((2, 64), 1000.0, device=kernel_device, dtype=torch.float16)  # 1000² > 65504
    assert (rms_norm_triton(x, None) == 1).all()


def test_a_row_of_zeros_stays_zero_with_a_finite_gradient(kernel_device):
    x = torch.zeros(2, 9001, device=kernel_device)
    weight = torch.ones_like(x[0])
    ours = value_and_grads(rms_norm_triton, x, weight)
    assert not ours["out0"].any()
    assert ours["grad0"].isfinite().all()


@pytest.mark.parametrize("form", [rms_norm, rms_norm_reference, rms_norm_triton])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32], ids=str)
def test_without_an_eps_it_is_torchs_own(form, dtype, kernel_device):
    x = torch.full((2, 8), 1e-4, dtype=dtype, device=kernel_device)  # where ε is most of the root
    torch.testing.assert_close(form(x, None), torch.nn.RMSNorm(8)(x.float()).to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_large_input_is_torchs_own_bit_for_bit_too(dtype):
    """Such an input takes the gradient written out."""
    x, weight = inputs((4, 20000), dtype)
    x.requires_grad_()
    weight.requires_grad_()
    y = rms_norm(x, weight, 1e-6)
    assert "Explicit" in y.grad_fn.name()
    assert torch.equal(y, F.rms_norm(x, (20000,), weight, 1e-6))


def test_the_gradient_written_out_is_the_derivative(monkeypatch):
    monkeypatch.setattr(module, "_WORTH", 1)
    x, weight = inputs((2, 3, 5), torch.float64)
    plain = value_and_grads(lambda x, w: F.rms_norm(x, (5,), w, 1e-6), x, weight)
    for name, got in value_and_grads(lambda x, w: rms_norm(x, w, 1e-6), x, weight).items():
        torch.testing.assert_close(got, plain[name])
    given = (x.requires_grad_(), weight.requires_grad_())
    assert "Explicit" in rms_norm(*given).grad_fn.name()
    assert torch.autograd.gradcheck(rms_norm, given)
    assert torch.autograd.gradgradcheck(rms_norm, given)


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of vmap over addcmul_
def test_the_gradient_written_out_can_be_batched(monkeypatch):
    monkeypatch.setattr(module, "_WORTH", 1)
    x, weight = inputs((3, 5), torch.float64)
    whole = torch.func.jacrev(lambda x: rms_norm(x, weight))(x)
    one = torch.autograd.functional.jacobian(lambda x: F.rms_norm(x, (5,), weight), x)
    torch.testing.assert_close(whole, one)


def test_cost_counts_every_tensor_once():
    n, c, size = 64, 1000, 2
    rows, vector, saved = n * c * size, c * size, n * 4
    assert rms_norm_cost((n, c), size).bytes == 2 * rows + vector + saved
    assert rms_norm_cost((8, 8, c), size, residual=True).bytes == 4 * rows + vector + saved
    backward = rms_norm_cost((n, c), size, backward=True)
    assert backward.bytes == 3 * rows + 2 * vector + saved
    both = rms_norm_cost((n, c), size, backward=True, residual=True)
    assert both.bytes == 4 * rows + 2 * vector + saved
    assert 0.5 < rms_norm_cost((n, c), size).intensity < 1.1
