"""RMSNorm against torch, sums by hand and layer normalization."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.rms_norm import RMSNorm, rms_norm
from tests.blocks.norms import (
    EXACT,
    forgets_scale,
    hold_to_torch,
    hold_to_twin,
    keeps_zero,
    normal,
)
from tests.support import refuses


@pytest.mark.equation("regularization-rms", "regularization-rmsnorm")
def test_rms_norm_divides_by_the_root_mean_square_of_the_example():
    x, gamma = 5 * normal(4, 6) + 2, normal(6)
    y = RMSNorm(6, eps=0.0).double()
    y.load_state_dict({"weight": gamma})
    for row, out in zip(x, y(x), strict=True):
        torch.testing.assert_close(
            out, gamma * row / math.sqrt(sum(float(v) ** 2 for v in row) / 6)
        )


@pytest.mark.equation(
    "regularization-rms",
    "regularization-rmsnorm",
)
@pytest.mark.parametrize(("size", "shape"), [(5, (8, 5)), ((3, 5), (2, 4, 3, 5))])
def test_it_loads_torchs_state_and_gives_its_outputs_and_gradients(size, shape):
    hold_to_torch(RMSNorm(size), nn.RMSNorm(size), shape)


@pytest.mark.equation(
    "regularization-rms",
    "regularization-rmsnorm",
)
@pytest.mark.parametrize(("size", "eps"), [((3, 5), None), (5, 1e-3)])
def test_the_fast_form_is_the_readable_twin_with_its_gradient(size, eps):
    hold_to_twin(RMSNorm(size, eps=eps), lambda x: rms_norm(x, size, eps=eps), (2, 3, 5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_in_half_precision_is_torchs(dtype):
    x = torch.randn(4, 8).to(dtype)
    torch.testing.assert_close(RMSNorm(8, dtype=dtype)(x), nn.RMSNorm(8, dtype=dtype)(x), **EXACT)


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=0, max_size=2),
    last=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_it_takes_any_leading_axes_and_forgets_scale(shape, last, scale):
    forgets_scale(RMSNorm(last, eps=0.0), (*shape, last), scale)


def test_of_centred_features_is_layer_norm():
    x = normal(6, 9)
    centred = x - x.mean(-1, keepdim=True)
    ours = RMSNorm(9, eps=1e-5).double()(centred)
    torch.testing.assert_close(ours, LayerNorm(9).double()(x))


@pytest.mark.parametrize("eps", [None, 1e-6])
def test_a_zero_vector_stays_zero_with_a_finite_gradient(eps):
    keeps_zero(RMSNorm(4, eps=eps))


def test_without_epsilon_a_zero_vector_would_not():
    assert (torch.zeros(4) / torch.zeros(4).square().mean().sqrt()).isnan().all()


@pytest.mark.parametrize("size", [1e-30, 1e-10, 1e10, 1e18])
def test_at_extremes_is_torchs(size):
    x = size * torch.randn(3, 16)
    ours, theirs = RMSNorm(16)(x), nn.RMSNorm(16)(x)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-30)


X = torch.randn(4, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: RMSNorm(-8), ValueError, "normalized_shape=-8"),
        (lambda: RMSNorm(3, eps=-1.0), ValueError, "eps=-1.0"),
        (lambda: RMSNorm(4)(X), ValueError, "normalized_shape=(4,), got (4, 3)"),
        (lambda: rms_norm(X, 2), ValueError, "normalized_shape=(2,)"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
