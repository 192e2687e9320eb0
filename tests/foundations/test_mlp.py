"""The multi-layer perceptron against torch, scikit-learn, autograd and closed forms."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import polynomial
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from nnlib.foundations import activations
from nnlib.foundations.mlp import (
    ACTIVATIONS,
    MLP,
    cost,
    cross_entropy_loss,
    mse_loss,
    solve_output_layer,
    spread_units,
)
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"sizes": [4, 8, 3]}, (torch.randn(5, 4),))


TORCH = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "leaky_relu": nn.LeakyReLU}


def sequential(sizes, activation):
    parts = []
    for inputs, outputs in pairwise(sizes):
        parts += [nn.Linear(inputs, outputs), TORCH[activation]()]
    return nn.Sequential(*parts[:-1])


def grid(points):
    return torch.linspace(-1, 1, points, dtype=torch.float64)[:, None]


# ------------------------------------------------------------------ the network


@pytest.mark.equation("mlp-input", "mlp-affine", "mlp-hidden", "mlp-output")
@pytest.mark.parametrize("sizes", [[3, 2], [3, 5, 2], [4, 7, 6, 5], [1, 1, 1]])
@pytest.mark.parametrize("activation", TORCH)
def test_equals_torchs_sequential_with_the_same_weights(sizes, activation):
    reference = sequential(sizes, activation)
    model = MLP(sizes, activation)
    model.load_state_dict(reference.state_dict())
    x = torch.randn(9, sizes[0])
    torch.testing.assert_close(model(x), reference(x), rtol=0, atol=0)
    reference.load_state_dict(MLP(sizes, activation).state_dict())


def test_equal_seeds_give_the_weights_of_torchs_sequential():
    torch.manual_seed(3)
    reference = sequential([3, 5, 2], "relu")
    torch.manual_seed(3)
    mine = MLP([3, 5, 2]).state_dict()
    assert all((mine[name] == value).all() for name, value in reference.state_dict().items())


@pytest.mark.equation("mlp-input", "mlp-affine", "mlp-hidden", "mlp-output")
@pytest.mark.parametrize(
    ("name", "theirs"), [("relu", "relu"), ("tanh", "tanh"), ("sigmoid", "logistic")]
)
def test_equals_scikit_learns_classifier_with_the_same_weights(name, theirs):
    from sklearn.neural_network import MLPClassifier

    x, y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    reference = MLPClassifier((6, 5), activation=theirs, solver="lbfgs", max_iter=20, tol=1e9)
    reference.fit(x, y)
    model = MLP([4, 6, 5, 3], name).double()
    with torch.no_grad():
        parts = zip(model.layers, reference.coefs_, reference.intercepts_, strict=True)
        for layer, weight, bias in parts:
            layer.weight.copy_(torch.tensor(weight.T))
            layer.bias.copy_(torch.tensor(bias))
    wanted = torch.tensor(reference.predict_proba(x))
    torch.testing.assert_close(model.probabilities(torch.tensor(x)), wanted)


@pytest.mark.equation("mlp-one-hidden-layer")
def test_one_hidden_layer_is_the_equation_in_numpy():
    model, x = MLP([3, 5, 2], "tanh").double(), torch.randn(7, 3, dtype=torch.float64)
    (w1, b1), (w2, b2) = [
        (p.weight.detach().numpy(), p.bias.detach().numpy()) for p in model.layers
    ]
    for row, z, p in zip(x.numpy(), model(x), model.probabilities(x), strict=True):
        scores = w2 @ np.tanh(w1 @ row + b1) + b2
        np.testing.assert_allclose(z.detach(), scores, rtol=1e-12)
        np.testing.assert_allclose(p.detach(), np.exp(scores) / np.exp(scores).sum(), rtol=1e-12)


@pytest.mark.equation("mlp-output")
def test_probabilities_are_the_softmax_of_the_logits_at_any_scale():
    model = MLP([2, 4, 3])
    x = 1e6 * torch.randn(20, 2)
    p, z = model.probabilities(x), model(x)
    torch.testing.assert_close(p.sum(1), torch.ones(20))
    assert (p.argmax(1) == z.argmax(1)).all() and torch.isfinite(p).all()


@pytest.mark.equation("mlp-affine", "mlp-hidden")
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    n=st.integers(0, 5),
    name=st.sampled_from(sorted(ACTIVATIONS)),
)
@settings(max_examples=40, deadline=None)
def test_fused_layers_equal_the_loop_over_units(sizes, n, name):
    model = MLP(sizes, name).double()
    x = torch.randn(n, sizes[0], dtype=torch.float64)
    assert model(x).shape == (n, sizes[-1])
    torch.testing.assert_close(model(x), model.forward_unit_by_unit(x))
    torch.testing.assert_close(model.layers[-1](model.hidden(x)), model(x))


def test_takes_any_number_of_leading_axes():
    model, x = MLP([3, 4, 2]), torch.randn(2, 5, 3)
    torch.testing.assert_close(model(x), model(x.flatten(0, 1)).unflatten(0, (2, 5)))
    assert model(x[0, 0]).shape == (2,)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"square", "cube", "gelu_tanh"}))
def test_activations_by_name_are_those_of_the_activations_chapter(name):
    z = torch.tensor([-1000.0, -3.0, -0.5, 0.0, 0.5, 3.0, 1000.0, *torch.randn(50)])
    torch.testing.assert_close(ACTIVATIONS[name](z), activations.activation(name)(z))


def test_the_cheaper_gelu_is_that_of_the_activations_chapter():
    z = torch.tensor([-1000.0, 0.0, 1000.0, *torch.randn(50)])
    torch.testing.assert_close(ACTIVATIONS["gelu_tanh"](z), activations.gelu(z, "tanh"))


def test_polynomial_activations_are_powers():
    z = torch.randn(50, dtype=torch.float64)
    torch.testing.assert_close(ACTIVATIONS["square"](z), z**2)
    torch.testing.assert_close(ACTIVATIONS["cube"](z), z**3)


def test_a_callable_is_an_activation_and_a_module_is_trained_along():
    x = torch.randn(6, 3)
    model = MLP([3, 4, 2], torch.sin)
    torch.testing.assert_close(model(x), model.layers[1](model.layers[0](x).sin()))
    assert "activation.weight" in dict(MLP([3, 4, 2], nn.PReLU()).named_parameters())


# ------------------------------------------------------------------ XOR, collapse, folding


def xor_by_hand():
    model = MLP([2, 2, 1]).double()
    with torch.no_grad():
        model.layers[0].weight.copy_(torch.ones(2, 2))
        model.layers[0].bias.copy_(torch.tensor([0.0, -1.0]))
        model.layers[1].weight.copy_(torch.tensor([[1.0, -2.0]]))
        model.layers[1].bias.zero_()
    return model


@pytest.mark.equation("mlp-xor")
def test_two_hidden_units_compute_exclusive_or():
    bits = torch.cartesian_prod(torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert xor_by_hand()(bits.double())[:, 0].tolist() == [a ^ b for a, b in bits.tolist()]


@pytest.mark.equation("mlp-collapse")
def test_without_a_nonlinearity_all_layers_are_one():
    model = MLP([3, 8, 5, 2], "identity").double()
    x = torch.randn(20, 3, dtype=torch.float64)
    weight, bias = torch.eye(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for layer in model.layers:
        weight, bias = layer.weight @ weight, layer.weight @ bias + layer.bias
    torch.testing.assert_close(model(x), x @ weight.T + bias)
    jacobians = torch.func.vmap(torch.func.jacrev(model))(x)
    torch.testing.assert_close(jacobians, weight.expand(20, 2, 3))


@pytest.mark.equation("mlp-sawtooth")
@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_folding_k_times_gives_two_to_the_k_pieces(k):
    sizes = [1, *[2] * k, 1]
    model = MLP(sizes).double()
    with torch.no_grad():
        for at, layer in enumerate(model.layers):
            row = torch.tensor([[2.0, -4.0]])
            layer.weight.copy_(torch.ones(2, 1) if at == 0 else row.expand(layer.weight.shape))
            layer.bias.zero_()
            if at < k:
                layer.bias[1] = -0.5
    x = torch.arange(0, 2 ** (k + 3) + 1, dtype=torch.float64)[:, None] / 2 ** (k + 3)
    wanted = x.clone()
    for _ in range(k):
        wanted = 1 - (2 * wanted - 1).abs()
    torch.testing.assert_close(model(x), wanted, rtol=0, atol=0)
    slopes = torch.diff(model(x)[:, 0]) * 2 ** (k + 3)
    assert (slopes.abs() == 2**k).all()
    assert 1 + int((torch.diff(slopes) != 0).sum()) == 2**k


# ------------------------------------------------------------------ losses


@pytest.mark.equation("mlp-mse")
@given(n=st.integers(1, 6), c=st.integers(1, 5))
@settings(deadline=None)
def test_mse_is_the_outputs_times_torchs_mean(n, c):
    a, b = torch.randn(n, c).double(), torch.randn(n, c).double()
    torch.testing.assert_close(mse_loss(a, b), c * nn.MSELoss()(a, b))
    pairs = zip(a.flatten(), b.flatten(), strict=True)
    by_hand = sum((u - v) ** 2 for u, v in pairs) / n
    torch.testing.assert_close(mse_loss(a, b), by_hand)


@pytest.mark.equation("mlp-cross-entropy", "mlp-cross-entropy-logits")
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_and_its_gradient_are_torchs(soft):
    z = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(7, 4).double().softmax(1) if soft else torch.arange(7) % 4
    mine, theirs = cross_entropy_loss(z, target), functional.cross_entropy(z, target)
    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, z)[0] for loss in (mine, theirs)))


@pytest.mark.equation("mlp-output-gradient")
def test_both_losses_send_back_answer_minus_target():
    z = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    y = torch.arange(6) % 4
    truth = functional.one_hot(y, 4).double()
    (of_classes,) = torch.autograd.grad(cross_entropy_loss(z, y), z)
    torch.testing.assert_close(of_classes, (z.softmax(1) - truth) / 6)
    (of_numbers,) = torch.autograd.grad(mse_loss(z, truth), z)
    torch.testing.assert_close(of_numbers, 2 * (z - truth) / 6)


@pytest.mark.equation("mlp-cross-entropy")
def test_cross_entropy_is_the_formula_and_a_distribution_may_hold_zeros():
    z, y = torch.randn(5, 3).double(), torch.eye(3).double()[[0, 2, 1, 1, 0]]
    by_hand = -(y * z.softmax(1).log()).sum() / 5
    torch.testing.assert_close(cross_entropy_loss(z, y), by_hand)
    torch.testing.assert_close(cross_entropy_loss(z, y.argmax(1)), by_hand)
    minus = z.masked_fill(y == 0, -math.inf).requires_grad_()
    loss = cross_entropy_loss(minus, y)
    loss.backward()
    assert loss == 0 and (minus.grad == 0).all()


@given(scale=st.sampled_from([1e-30, 1.0, 1e3, 1e30]), seed=st.integers(0, 20))
@settings(deadline=None)
def test_cross_entropy_is_finite_at_the_extremes(scale, seed):
    z = scale * torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
    z.requires_grad_()
    loss = cross_entropy_loss(z, torch.tensor([0, 1, 2, 0]))
    loss.backward()
    assert loss >= 0 and torch.isfinite(loss) and torch.isfinite(z.grad).all()


@pytest.mark.equation("mlp-double-softmax")
@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_probabilities_as_logits_never_reach_zero(classes):
    certain = torch.eye(classes, dtype=torch.float64)
    floor = cross_entropy_loss(certain, torch.arange(classes))
    assert floor.item() == pytest.approx(math.log(math.e + classes - 1) - 1, rel=1e-12)
    others = torch.randn(500, classes).double().mul(5).softmax(1)
    target = torch.zeros(500, dtype=torch.long)
    assert all(
        cross_entropy_loss(p[None], t[None]) >= floor for p, t in zip(others, target, strict=True)
    )


# ------------------------------------------------------------------ what it can represent


@pytest.mark.equation("mlp-readout")
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_solved_output_layer_is_where_the_gradient_is_zero(ridge):
    x, y = torch.randn(40, 2).double(), torch.randn(40, 3).double()
    model = solve_output_layer(MLP([2, 6, 5, 3], "tanh").double(), x, y, ridge)
    last = model.layers[-1]
    penalty = ridge * (last.weight.square().sum() + last.bias.square().sum())
    (mse_loss(model(x), y) + penalty).backward()
    assert last.weight.grad.abs().max() < 1e-10 and last.bias.grad.abs().max() < 1e-10


@pytest.mark.equation("mlp-readout")
def test_solved_output_layer_is_numpys_least_squares_also_where_units_repeat():
    x, y = torch.randn(30, 2).double(), torch.randn(30, 1).double()
    model = MLP([2, 4, 1], "tanh").double()
    with torch.no_grad():
        model.layers[0].weight[1:3] = model.layers[0].weight[0]
        model.layers[0].bias[1:3] = model.layers[0].bias[0]
    solve_output_layer(model, x, y)
    system = torch.cat([model.hidden(x), torch.ones(30, 1)], 1).detach().numpy()
    wanted = system @ np.linalg.lstsq(system, y.numpy(), rcond=None)[0]
    np.testing.assert_allclose(model(x).detach().numpy(), wanted, atol=1e-9)


@pytest.mark.equation("mlp-universal")
@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "gelu"])
@pytest.mark.parametrize("name", ["abs", "wave", "cliff"])
def test_more_units_come_nearer_to_a_continuous_function(activation, name):
    target = {
        "abs": torch.abs,
        "wave": lambda x: (5 * x).sin() + x,
        "cliff": lambda x: (8 * x - 2).tanh(),
    }[name]
    fit, between = grid(801), grid(3203)
    errors = []
    for units in (4, 40, 400):
        model = spread_units(
            MLP([1, units, 1], activation).double(), fit, (2.0, 40.0), torch.Generator()
        )
        solve_output_layer(model, fit, target(fit))
        errors.append((model(between) - target(between)).abs().max().item())
    assert errors[2] < 0.03 and errors[2] < 0.35 * errors[0]


@pytest.mark.equation("mlp-universal")
def test_a_relu_network_with_a_kink_at_every_knot_is_linear_interpolation():
    """A constructive case of the theorem: the error is at most that of interpolation."""
    knots = torch.linspace(-1, 1, 33, dtype=torch.float64)
    model = MLP([1, 32, 1]).double()

    def target(x):
        return (4 * x).sin() * x.exp()

    slopes = torch.diff(target(knots)) / torch.diff(knots)
    with torch.no_grad():
        model.layers[0].weight.fill_(1.0)
        model.layers[0].bias.copy_(-knots[:-1])
        model.layers[1].weight.copy_(torch.diff(slopes, prepend=torch.zeros(1))[None])
        model.layers[1].bias.copy_(target(knots[:1]))
    x = grid(1000)
    wanted = np.interp(x.numpy(), knots.numpy(), target(knots).numpy())
    np.testing.assert_allclose(model(x).detach().numpy(), wanted, atol=1e-12)
    assert (model(x) - target(x)).abs().max() < 0.5 * (1 / 16) ** 2 * 25  # h² / 8 · max |φ″|


@pytest.mark.equation("mlp-polynomial", "mlp-polynomial-floor")
@pytest.mark.parametrize("activation", ["square", "cube"])
@pytest.mark.parametrize("units", [10, 100, 1000])
def test_polynomial_units_are_stuck_at_three_sixteenths_however_many(activation, units):
    x = grid(2001)
    model = spread_units(MLP([1, units, 1], activation).double(), x, (1.0, 4.0))
    solve_output_layer(model, x, x.abs())
    # The best quadratic (and cubic) in the mean square is (15 x² + 3) / 16: off by 3/16 at zero.
    closed = (15 * x**2 + 3) / 16
    assert (model(x) - closed).abs().max() < 1e-3
    assert (model(x) - x.abs()).abs().max().item() == pytest.approx(3 / 16, abs=1e-3)


@pytest.mark.equation("mlp-polynomial-floor")
def test_no_quadratic_or_cubic_comes_nearer_to_the_absolute_value_than_an_eighth():
    """Linear programming over all cubics: the least sup error is 1/8, at x² + 1/8."""
    from scipy.optimize import linprog

    x = np.linspace(-1, 1, 401)
    powers = np.stack([x**k for k in range(4)], axis=1)
    ones = np.ones((len(x), 1))
    best = linprog(
        [0, 0, 0, 0, 1],
        A_ub=np.block([[powers, -ones], [-powers, -ones]]),
        b_ub=np.r_[np.abs(x), -np.abs(x)],
        bounds=[(None, None)] * 5,
    )
    assert best.fun == pytest.approx(1 / 8, abs=1e-6)
    np.testing.assert_allclose(best.x[:4], [1 / 8, 0, 1, 0], atol=1e-4)


@pytest.mark.equation("mlp-polynomial")
@pytest.mark.parametrize(("activation", "degree"), [("square", 2), ("cube", 3)])
def test_the_span_of_polynomial_units_is_no_larger_than_the_space_of_polynomials(
    activation, degree
):
    for d in (1, 2, 3):
        x = torch.randn(400, d, dtype=torch.float64)
        h = MLP([d, 200, 1], activation).double().hidden(x)
        system = torch.cat([h, torch.ones(400, 1)], 1)
        assert torch.linalg.matrix_rank(system, rtol=1e-10) == math.comb(d + degree, degree)
        assert torch.linalg.matrix_rank(MLP([d, 200, 1], "tanh").double().hidden(x)) > 20


@pytest.mark.equation("mlp-polynomial")
def test_a_network_of_cubes_is_a_polynomial_of_degree_three():
    model = MLP([1, 50, 1], "cube").double()
    x = grid(60)
    y = model(x).detach()
    fitted = polynomial.polyfit(x[:, 0].numpy(), y[:, 0].numpy(), 3)
    np.testing.assert_allclose(polynomial.polyval(x[:, 0].numpy(), fitted), y[:, 0], atol=1e-12)


def test_spread_units_puts_each_line_through_a_point():
    points = torch.randn(7, 2)
    model = spread_units(MLP([2, 50, 1]), points, (3.0, 30.0))
    length = model.layers[0].weight.norm(dim=1)
    assert (length > 2.99).all() and (length < 30.1).all() and length.std() > 1
    distance = model.layers[0](points).abs() / length
    assert distance.min(dim=0).values.max() < 1e-5


# ------------------------------------------------------------------ cost


@pytest.mark.equation("mlp-parameters", "mlp-flops")
@pytest.mark.parametrize("sizes", [[64, 128, 10], [3, 1], [5, 7, 7, 2]])
def test_cost_is_what_torch_counts(sizes):
    model, x = MLP(sizes), torch.randn(6, sizes[0])
    assert cost(sizes).parameters == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter:
        loss = model(x).sum()
    assert counter.get_total_flops() == 6 * cost(sizes).flops
    with FlopCounterMode(display=False) as counter:
        loss.backward()
    first = 2 * sizes[0] * sizes[1]  # nobody asks for the gradient of the data
    assert counter.get_total_flops() == 6 * (2 * cost(sizes).flops - first)


# ------------------------------------------------------------------ bad input

X, Y = torch.randn(4, 2), torch.tensor([0, 1, 2, 0])
Z = torch.randn(4, 3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MLP([]), ValueError, "sizes=[]"),
        (lambda: MLP([3]), ValueError, "sizes=[3]"),
        (lambda: MLP(3), TypeError, "sizes=3"),
        (lambda: MLP("32"), TypeError, "sizes='32'"),
        (lambda: MLP([3, 0, 2]), ValueError, "sizes[1]=0"),
        (lambda: MLP([3, -4, 2]), ValueError, "sizes[1]=-4"),
        (lambda: MLP([3, 2.5]), TypeError, "sizes[1]=2.5"),
        (lambda: MLP([3, True]), TypeError, "sizes[1]=True"),
        (lambda: MLP([3, 2], "rulu"), ValueError, "activation='rulu'"),
        (lambda: MLP([3, 2], 7), TypeError, "activation=7"),
        (lambda: MLP([3, 2])(X), ValueError, "x must have sizes[0]=3 columns, got shape (4, 2)"),
        (lambda: MLP([2, 2])(X.long()), TypeError, "x must be floating point"),
        (lambda: MLP([2, 2])(torch.tensor(1.0)), ValueError, "got shape ()"),
        (lambda: MLP([2, 2])([1.0, 2.0]), TypeError, "x must be a torch.Tensor"),
        (lambda: mse_loss(X, Z), ValueError, "target must have shape (4, 2), got (4, 3)"),
        (lambda: mse_loss(X, X.long()), TypeError, "target must be floating point"),
        (lambda: mse_loss(X[:0], X[:0]), ValueError, "prediction must not be empty"),
        (lambda: mse_loss(X[:, 0], X[:, 0]), ValueError, "prediction must have shape (n, c)"),
        (lambda: cross_entropy_loss(Z, Y + 1), ValueError, "target must hold classes 0 … 2"),
        (lambda: cross_entropy_loss(Z, Y - 1), ValueError, "target must hold classes 0 … 2"),
        (lambda: cross_entropy_loss(Z, Y[:2]), ValueError, "target must have shape (4)"),
        (lambda: cross_entropy_loss(Z, Z), ValueError, "target must hold a distribution"),
        (lambda: cross_entropy_loss(Z, Z * math.nan), ValueError, "target must be finite"),
        (lambda: cross_entropy_loss(Z[:0], Y[:0]), ValueError, "logits must not be empty"),
        (lambda: cross_entropy_loss(Z, [0, 1, 2, 0]), TypeError, "target must be a torch.Tensor"),
        (lambda: cost([2, 0]), ValueError, "sizes[1]=0"),
        (lambda: spread_units(MLP([2, 3, 1]), Z), ValueError, "points must have shape (n, 2)"),
        (lambda: spread_units(MLP([2, 3, 1]), X[:0]), ValueError, "points must not be empty"),
        (lambda: spread_units(MLP([2, 3, 1]), X, (0, 1)), ValueError, "sharpness=0"),
        (lambda: solve_output_layer(MLP([2, 3]), X, X), ValueError, "y must have shape (4, 3)"),
        (lambda: solve_output_layer(MLP([2, 3]), X * math.inf, Z), ValueError, "x must be finite"),
        (lambda: solve_output_layer(MLP([2, 3]), X, Z, -1.0), ValueError, "ridge=-1.0"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
