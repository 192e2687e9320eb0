"""Layer normalization against torch and sums by hand."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlib.blocks.layer_norm import LayerNorm, layer_norm
from tests.blocks.norms import forgets_scale, hold_to_torch, hold_to_twin, keeps_zero, normal
from tests.support import refuses


@pytest.mark.equation("regularization-layernorm-statistics", "regularization-layernorm")
def test_layer_norm_normalizes_each_example_and_scales_each_feature():
    x, gamma, beta = 5 * normal(4, 6) + 2, normal(6), normal(6)
    y = LayerNorm(6).double()
    y.load_state_dict({"weight": gamma, "bias": beta})
    for row, out in zip(x, y(x), strict=True):
        mean = row.sum() / 6
        variance = ((row - mean) ** 2).sum() / 6
        for i in range(6):
            by_hand = gamma[i] * (row[i] - mean) / (variance + 1e-5) ** 0.5 + beta[i]
            torch.testing.assert_close(out[i], by_hand)


@pytest.mark.equation(
    "regularization-layernorm-statistics",
    "regularization-layernorm",
)
@pytest.mark.parametrize(("size", "shape"), [(5, (8, 5)), ((3, 5), (2, 4, 3, 5))])
def test_it_loads_torchs_state_and_gives_its_outputs_and_gradients(size, shape):
    hold_to_torch(LayerNorm(size), nn.LayerNorm(size), shape)


@pytest.mark.equation(
    "regularization-layernorm-statistics",
    "regularization-layernorm",
)
def test_the_fast_form_is_the_readable_twin_with_its_gradient():
    hold_to_twin(LayerNorm((3, 5)), lambda x: layer_norm(x, (3, 5)), (2, 3, 5))


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=0, max_size=2),
    last=st.integers(1, 6),
    scale=st.sampled_from([1e-3, 1.0, 1e6]),
)
def test_it_takes_any_leading_axes_and_forgets_scale(shape, last, scale):
    forgets_scale(LayerNorm(last, eps=0.0), (*shape, last), scale)


def test_a_zero_vector_stays_zero_with_a_finite_gradient():
    keeps_zero(LayerNorm(4))


X = torch.randn(4, 3)
ONE = torch.zeros(4).long()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LayerNorm(0), ValueError, "normalized_shape=0"),
        (lambda: LayerNorm(()), ValueError, "normalized_shape must hold one size"),
        (lambda: LayerNorm((3, -1)), ValueError, "normalized_shape=-1"),
        (lambda: LayerNorm(2.5), TypeError, "normalized_shape=2.5"),
        (lambda: LayerNorm(4)(X), ValueError, "normalized_shape=(4,), got (4, 3)"),
        (lambda: LayerNorm((2, 3))(X[0]), ValueError, "normalized_shape=(2, 3)"),
        (lambda: layer_norm(ONE, 4), TypeError, "x must be floating point"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
