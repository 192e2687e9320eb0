"""The activations against torch's fused operators, autograd, closed forms and quadrature."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats
from torch.nn import functional as F

from nnlib.foundations import activations
from nnlib.foundations.activations import (
    activation,
    derivative,
    elu,
    gelu,
    leaky_relu,
    relu,
    sigmoid,
    silu,
    softmax,
    swiglu,
    tanh,
)
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(inputs=(torch.randn(5, 4),))


FUSED = {
    "sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": F.relu, "leaky_relu": F.leaky_relu,
    "elu": F.elu, "gelu": F.gelu, "silu": F.silu, "mish": F.mish, "identity": lambda z: 1 * z,
}  # fmt: skip
EXTREMES = [-1000.0, -500.0, -104.0, -88.0, -1e-30, -0.0, 0.0, 1e-30, 88.0, 104.0, 500.0, 1000.0]


def slope_of(f, z):
    """What autograd says the slope of `f` is at each value."""
    z = z.clone().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


def equals_torch(name, **options):
    """Value, hand-written slope and autograd's slope all equal those of torch's operator."""
    z = torch.cat([torch.linspace(-12, 12, 2001), torch.tensor(EXTREMES)]).double()
    ours, fused = activation(name), FUSED[name]
    wanted = slope_of(lambda v: fused(v, **options), z)
    torch.testing.assert_close(ours(z, **options), fused(z, **options), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(derivative(name)(z, **options), wanted, rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(
        slope_of(lambda v: ours(v, **options), z), wanted, rtol=1e-10, atol=1e-13
    )


@pytest.mark.equation("activations-layer")
@pytest.mark.parametrize("name", ["sigmoid", "tanh", "relu", "elu", "gelu", "silu", "mish"])
def test_a_layer_sends_back_the_slope_times_what_came(name):
    weight, bias = torch.randn(4, 3).double(), torch.randn(4).double()
    x, push = torch.randn(6, 3).double(), torch.randn(6, 4).double()
    z = F.linear(x, weight, bias).requires_grad_()
    by_units = [[sum(weight[i] * row) + bias[i] for i in range(4)] for row in x]
    torch.testing.assert_close(z.detach(), torch.tensor(by_units).double())
    (sent_back,) = torch.autograd.grad(FUSED[name](z), z, push)
    torch.testing.assert_close(derivative(name)(z.detach()) * push, sent_back)


@pytest.mark.equation("activations-sigmoid", "activations-sigmoid-derivative")
def test_sigmoid_and_its_slope_are_torchs():
    equals_torch("sigmoid")
    assert sigmoid(torch.tensor(0.0)) == 0.5
    assert derivative("sigmoid")(torch.tensor(0.0)) == 0.25


@pytest.mark.equation("activations-tanh", "activations-tanh-derivative")
def test_tanh_and_its_slope_are_torchs():
    equals_torch("tanh")
    z = torch.linspace(-5, 5, 101).double()
    printed = (z.exp() - (-z).exp()) / (z.exp() + (-z).exp())
    torch.testing.assert_close(tanh(z), printed)
    torch.testing.assert_close(tanh(z), 2 * sigmoid(2 * z) - 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tanh_keeps_every_digit_near_zero(dtype):
    z = torch.tensor([1e-8, -3e-6, 2e-3], dtype=dtype)
    torch.testing.assert_close(tanh(z), torch.tanh(z), rtol=4 * torch.finfo(dtype).eps, atol=0.0)


@pytest.mark.equation("activations-relu", "activations-relu-derivative")
def test_relu_and_its_slope_are_torchs():
    equals_torch("relu")
    assert derivative("relu")(torch.tensor([-0.0, 0.0])).tolist() == [0.0, 0.0]


@pytest.mark.equation("activations-leaky-relu", "activations-leaky-relu-derivative")
@pytest.mark.parametrize("alpha", [0.01, 0.0, 0.3, 1.0, 1.5, -0.5])
def test_leaky_relu_and_its_slope_are_torchs(alpha):
    z = torch.cat([torch.linspace(-12, 12, 200), torch.tensor(EXTREMES)]).double()
    torch.testing.assert_close(leaky_relu(z, alpha), F.leaky_relu(z, alpha))
    wanted = slope_of(lambda v: F.leaky_relu(v, alpha), z)
    torch.testing.assert_close(derivative("leaky_relu")(z, alpha), wanted)
    torch.testing.assert_close(slope_of(lambda v: leaky_relu(v, alpha), z), wanted)


def test_leaky_relu_is_a_maximum_only_up_to_slope_one():
    z = torch.tensor([-2.0, 1.0])
    for alpha, holds in ((0.0, True), (0.5, True), (1.0, True), (1.5, False)):
        assert torch.equal(leaky_relu(z, alpha), torch.maximum(alpha * z, z)) == holds


@pytest.mark.equation("activations-elu", "activations-elu-derivative")
@pytest.mark.parametrize("alpha", [1.0, 1.7, 0.2])
def test_elu_and_its_slope_are_torchs(alpha):
    equals_torch("elu", alpha=alpha)


def test_elu_has_no_kink_only_for_alpha_one():
    both_sides = torch.tensor([-1e-12, 1e-12]).double()
    for alpha, jump in ((1.0, 0.0), (0.5, 0.5), (2.0, -1.0)):
        below, above = derivative("elu")(both_sides, alpha=alpha).tolist()
        assert above - below == pytest.approx(jump, abs=1e-11)


@pytest.mark.equation("activations-gelu", "activations-gelu-erf", "activations-gelu-derivative")
def test_gelu_is_z_times_the_normal_distribution_function():
    equals_torch("gelu")
    z = torch.linspace(-4, 4, 81).double()
    torch.testing.assert_close(gelu(z), z * torch.tensor(stats.norm.cdf(z.numpy())))
    cdf, density = stats.norm.cdf(z.numpy()), stats.norm.pdf(z.numpy())
    torch.testing.assert_close(derivative("gelu")(z), torch.tensor(cdf + z.numpy() * density))


@pytest.mark.equation("activations-gelu-tanh", "activations-gelu-tanh-derivative")
def test_gelus_tanh_form_is_torchs():
    equals_torch("gelu", approximate="tanh")


def test_gelus_tanh_form_is_off_by_473_millionths_at_most():
    def minus_error(z):
        z = torch.tensor(z).double()
        return -abs(float(gelu(z) - gelu(z, approximate="tanh")))

    worst = optimize.minimize_scalar(minus_error, bounds=(2, 3.5), method="bounded")
    assert -worst.fun == pytest.approx(4.73e-4, abs=1e-6)
    assert worst.x == pytest.approx(2.70, abs=0.01)
    z = torch.linspace(-10, 10, 20_001).double()
    assert (gelu(z) - gelu(z, approximate="tanh")).abs().max() <= -worst.fun * (1 + 1e-6)


@pytest.mark.equation("activations-silu", "activations-silu-derivative")
def test_silu_and_its_slope_are_torchs():
    equals_torch("silu")


@pytest.mark.equation("activations-mish", "activations-mish-derivative", "activations-softplus")
def test_mish_and_its_slope_are_torchs():
    equals_torch("mish")
    z = torch.linspace(-8, 8, 81).double()
    softplus = z.clamp(min=0) + torch.log1p(torch.exp(-z.abs()))
    torch.testing.assert_close(softplus, F.softplus(z), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(activation("mish")(z), z * torch.tanh(softplus))


@pytest.mark.equation("activations-softmax")
@pytest.mark.parametrize("dim", [-1, 0, 1])
def test_softmax_is_torchs_along_any_axis(dim):
    z = 5 * torch.randn(4, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(softmax(z, dim), torch.softmax(z, dim))
    torch.testing.assert_close(softmax(z, dim).sum(dim), z.sum(dim) * 0 + 1)
    torch.testing.assert_close(softmax(z + 1000, dim), softmax(z, dim))


@pytest.mark.equation("activations-softmax-jacobian")
def test_softmaxs_jacobian_is_autograds():
    z = torch.randn(5, 4, dtype=torch.float64)
    jacobian = derivative("softmax")(z)
    for row, found in zip(z, jacobian, strict=True):
        wanted = torch.autograd.functional.jacobian(lambda v: torch.softmax(v, 0), row)
        torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(jacobian.sum(-1), torch.zeros(5, 4).double(), atol=1e-15, rtol=0)


def test_softmax_gives_a_masked_score_no_share():
    z = torch.tensor([0.0, -math.inf, 0.0])
    assert softmax(z).tolist() == [0.5, 0.0, 0.5]


@pytest.mark.equation("activations-swiglu")
def test_swiglu_is_the_gate_times_the_value():
    a, b = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(swiglu(a, b), F.silu(a) * b)
    torch.testing.assert_close(swiglu(a, torch.ones_like(b)), silu(a))


@pytest.mark.equation("activations-collapse")
def test_layers_with_nothing_between_are_one_matrix():
    sizes = [4, 7, 5, 6, 3]
    layers = [torch.nn.Linear(n, m, bias=False).double() for n, m in pairwise(sizes)]
    tower = torch.nn.Sequential(*layers)
    one = torch.linalg.multi_dot([layer.weight for layer in reversed(layers)])
    x = torch.randn(9, 4, dtype=torch.float64)
    torch.testing.assert_close(tower(x), x @ one.T)
    assert torch.linalg.matrix_rank(torch.autograd.functional.jacobian(tower, x[0])) <= 4


@pytest.mark.equation("activations-chain")
@pytest.mark.parametrize("name", sorted(FUSED))
def test_slope_of_a_tower_is_the_product_of_its_slopes(name):
    weights = torch.randn(20, dtype=torch.float64)
    start = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    h, product = start, torch.tensor(1.0).double()
    for w in weights:
        z = w * h
        product = product * w * derivative(name)(z.detach())
        h = FUSED[name](z)
    torch.testing.assert_close(torch.autograd.grad(h, start)[0], product, rtol=1e-9, atol=1e-300)


@pytest.mark.equation("activations-gain")
@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "gelu", "silu", "elu", "mish"])
def test_gain_keeps_the_size_of_the_next_score(name):
    def weighted_square(u):
        return float(FUSED[name](torch.tensor(u).double())) ** 2 * stats.norm.pdf(u)

    gain = integrate.quad(weighted_square, -12, 12, points=[0.0])[0] ** -0.5
    if name in ("relu", "leaky_relu"):
        assert gain == pytest.approx(torch.nn.init.calculate_gain(name), rel=1e-8)
    n = 2000
    h = activation(name)(torch.randn(n, 40, dtype=torch.float64))
    z = torch.randn(n, n, dtype=torch.float64) * gain / n**0.5 @ h
    assert float(z.square().mean()) == pytest.approx(1.0, abs=0.04)


@pytest.mark.parametrize("name", sorted(FUSED))
def test_float32_survives_a_thousand_forwards_and_backwards(name):
    z = torch.tensor(EXTREMES)
    values, slopes = activation(name)(z), slope_of(activation(name), z)
    for found in (values, slopes, derivative(name)(z)):
        assert torch.isfinite(found).all()
    torch.testing.assert_close(values, FUSED[name](z), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(slopes, slope_of(FUSED[name], z), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", sorted(FUSED))
def test_minus_zero_infinity_and_nan_go_where_torch_sends_them(name):
    z = torch.tensor([-0.0, math.nan, math.inf, -math.inf])
    wanted = FUSED[name](z)
    if name == "gelu":  # torch's vector code gives NaN at infinity, ∞ is the limit
        wanted[2] = math.inf
    torch.testing.assert_close(activation(name)(z), wanted, equal_nan=True)


def test_softmax_survives_a_thousand_forwards_and_backwards():
    z = torch.tensor([[1000.0, -1000.0, 0.0], [-1000.0, -1000.0, -1000.0]])
    torch.testing.assert_close(softmax(z), torch.softmax(z, -1))
    for f in (softmax, lambda v: torch.softmax(v, -1)):
        assert torch.isfinite(slope_of(lambda v, f=f: f(v)[..., 0], z)).all()
    assert torch.isfinite(derivative("softmax")(z)).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*sorted(FUSED), "softmax"])
def test_keeps_the_number_type_and_the_shape(name, dtype):
    z = torch.randn(2, 3, 4).to(dtype)
    assert activation(name)(z).dtype == derivative(name)(z).dtype == dtype
    assert activation(name)(z).shape == (2, 3, 4)


@given(
    z=st.lists(st.floats(-1000, 1000, width=32), min_size=0, max_size=20),
    name=st.sampled_from(sorted(FUSED)),
)
def test_any_value_in_a_thousand_is_torchs(z, name):
    z = torch.tensor(z, dtype=torch.float32)
    torch.testing.assert_close(activation(name)(z), FUSED[name](z), rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(derivative(name)(z), slope_of(FUSED[name], z), rtol=1e-5, atol=2e-5)


@given(scores=st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=20))
def test_softmax_is_always_a_distribution(scores):
    p = softmax(torch.tensor(scores, dtype=torch.float32))
    assert (p >= 0).all()
    assert float(p.sum()) == pytest.approx(1.0, abs=1e-5)


@given(shape=st.lists(st.integers(0, 4), max_size=4), name=st.sampled_from(sorted(FUSED)))
def test_any_shape_goes_through(shape, name):
    assert activation(name)(torch.zeros(shape)).shape == torch.Size(shape)


def test_every_public_function_is_found_by_name():
    for name in (*FUSED, "softmax"):
        assert activation(name) is getattr(activations, name)


Z = torch.randn(3, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: activation("swish"), ValueError, "name='swish' must be one of ['sigmoid', 'tanh'"),
        (lambda: derivative("step"), ValueError, "name='step' must be one of"),
        (lambda: derivative("relu")([1.0]), TypeError, "z must be a torch.Tensor, got list"),
        (lambda: derivative("elu")(Z.long()), TypeError, "z must be floating point"),
        (lambda: sigmoid(1.0), TypeError, "z must be a torch.Tensor, got float"),
        (lambda: relu(Z.int()), TypeError, "z must be floating point, got torch.int32"),
        (lambda: leaky_relu(Z, negative_slope=math.nan), ValueError, "negative_slope=nan"),
        (lambda: leaky_relu(Z, negative_slope="0.1"), TypeError, "negative_slope='0.1'"),
        (lambda: elu(Z, alpha=math.inf), ValueError, "alpha=inf"),
        (lambda: gelu(Z, approximate="erf"), ValueError, "approximate='erf' must be one of"),
        (lambda: softmax(Z, dim=2), ValueError, "dim=2 must be a non-empty axis of z"),
        (lambda: softmax(Z, dim=-3), ValueError, "dim=-3"),
        (lambda: softmax(Z, dim=0.5), TypeError, "dim=0.5"),
        (lambda: softmax(torch.zeros(3, 0)), ValueError, "got shape (3, 0)"),
        (lambda: softmax(torch.tensor(1.0)), ValueError, "dim=-1"),
        (lambda: swiglu(Z, Z[:2]), ValueError, "a must have shape (2, 4), got (3, 4)"),
        (lambda: swiglu(Z, Z.long()), TypeError, "b must be floating point"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
