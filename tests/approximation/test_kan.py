"""The Kolmogorov–Arnold network against scipy, loops, pykan and closed forms."""

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline, make_lsq_spline
from scipy.stats import entropy as scipy_entropy
from torch import nn
from torch.nn import functional as F

from nnlib.approximation import _kan_splines
from nnlib.approximation.kan import (
    KAN,
    ChebyshevKANLayer,
    FastKANLayer,
    KANLayer,
    bspline_basis,
    bspline_derivative,
    bspline_recursion,
    chebyshev_basis,
    edge_size,
    entropy,
    finer_grid,
    fit_spline,
    gaussian_basis,
    sample_grid,
    symbolic_fit,
    uniform_knots,
)
from tests.support import Example, Peer, refuses

pykan = Peer("kan")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"widths": [3, 4, 2], "grid": 5, "k": 3}, (torch.rand(5, 3) * 2 - 1,))


def drawn(*shape: int, seed: int = 0, low: float = -1.0, high: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64) * (high - low) + low


def uneven(inputs: int, outputs: int, grid: int = 4, k: int = 3, seed: int = 1) -> KANLayer:
    """A layer in float64 with weights of no pattern and grids that are not even."""
    torch.manual_seed(seed)
    layer = KANLayer(inputs, outputs, grid, k, noise=0.7, dtype=torch.float64)
    points = drawn(inputs, grid + 1, seed=seed).sort(1).values
    layer.knots.copy_(uniform_knots(points, k))
    nn.init.normal_(layer.spline_weight)
    return layer


def curve(layer: KANLayer, o: int, i: int, x: np.ndarray) -> np.ndarray:
    """One edge by numpy and scipy."""
    spline = BSpline(layer.knots[i].numpy(), layer.coef[o, i].detach().numpy(), layer.k)
    inside = (x >= layer.knots[i, 0].item()) & (x < layer.knots[i, -1].item())
    # scipy takes its spline from knot k to the last but k; beyond, the basis fades as ours does
    basis = np.zeros_like(x)
    for m, c in enumerate(layer.coef[o, i].tolist()):
        element = BSpline.basis_element(spline.t[m : m + layer.k + 2], extrapolate=False)
        basis += c * np.nan_to_num(element(x)) * inside
    w_b, w_s = layer.base_weight[o, i].item(), layer.spline_weight[o, i].item()
    return layer.mask[o, i].item() * (w_b * x / (1 + np.exp(-x)) + w_s * basis)


# ------------------------------------------------------------------------------------- the forward
@pytest.mark.equation("kan-edge")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_an_edge_is_the_base_and_scipys_spline(k):
    layer = uneven(3, 2, k=k)
    x = drawn(40, 3, seed=5, low=-3, high=3)
    edges = layer.edges(x).detach().numpy()
    for o in range(2):
        for i in range(3):
            wanted = curve(layer, o, i, x[:, i].numpy())
            np.testing.assert_allclose(edges[:, o, i], wanted, atol=1e-12)


@pytest.mark.equation("kan-layer")
def test_a_layer_sums_its_edges_over_the_inputs():
    layer = uneven(3, 2)
    layer.mask[1, 2] = 0
    x = drawn(30, 3, seed=2, low=-2, high=2)
    wanted = np.zeros((30, 2))
    for o in range(2):
        for i in range(3):
            wanted[:, o] += curve(layer, o, i, x[:, i].numpy())
    np.testing.assert_allclose(layer(x).detach().numpy(), wanted, atol=1e-12)
    torch.testing.assert_close(layer(x), layer.edges(x).sum(-1))


@pytest.mark.equation("kan-theorem", "kan-deep")
def test_two_layers_are_the_theorems_sum_of_sums():
    n = 2
    kan = KAN([n, 2 * n + 1, 1], dtype=torch.float64)
    kan.layers[0], kan.layers[1] = uneven(n, 5), uneven(5, 1, seed=3)
    x = drawn(20, n, seed=4).numpy()
    total = np.zeros(20)
    for q in range(2 * n + 1):
        inner = sum(curve(kan.layers[0], q, p, x[:, p]) for p in range(n))
        total += curve(kan.layers[1], 0, q, inner)
    got = kan(torch.from_numpy(x)).detach().numpy()[:, 0]
    np.testing.assert_allclose(got, total, atol=1e-11)


def test_the_edges_and_nodes_of_a_network_are_those_on_its_way():
    kan = KAN([2, 3, 1])
    x = drawn(9, 2).float()
    nodes, edges = kan.nodes(x), kan.edges(x)
    assert [h.shape[1] for h in nodes] == [2, 3, 1]
    assert [tuple(e.shape) for e in edges] == [(9, 3, 2), (9, 1, 3)]
    torch.testing.assert_close(edges[0].sum(-1), nodes[1])
    torch.testing.assert_close(edges[1].sum(-1), kan(x))


def test_leading_axes_are_kept():
    layer = KANLayer(3, 2)
    x = drawn(4, 5, 3).float()
    assert layer(x).shape == (4, 5, 2) and layer(x[0, 0]).shape == (2,)
    torch.testing.assert_close(layer(x)[1, 2], layer(x[1, 2]))


@pytest.mark.equation("kan-product")
def test_a_product_is_three_squares_and_two_sums():
    """xy = ((x + y)² - x² - y²) / 2, whose curves a KAN of cubic splines holds exactly."""
    kan = KAN([2, 3, 1], grid=2, dtype=torch.float64)
    at = torch.linspace(-2, 1.999, 60, dtype=torch.float64)[:, None]
    knots = uniform_knots(torch.linspace(-2, 2, 3, dtype=torch.float64)[None], 3)
    square = fit_spline(at, at[:, None] ** 2, knots)[0, 0]
    line = fit_spline(at, at[:, None], knots)[0, 0]
    with torch.no_grad():
        for layer in kan.layers:
            layer.base_weight.zero_()
            layer.knots.copy_(knots.expand(layer.in_features, -1))
        for o, row in enumerate(([1, 1], [1, 0], [0, 1])):
            for i, weight in enumerate(row):
                kan.layers[0].coef[o, i] = weight * line
        for i, weight in enumerate((0.5, -0.5, -0.5)):
            kan.layers[1].coef[0, i] = weight * square
    x = drawn(50, 2, low=-0.99, high=0.99)
    torch.testing.assert_close(kan(x)[:, 0], x[:, 0] * x[:, 1])


@pytest.mark.equation("kan-example")
def test_three_edges_hold_the_papers_example():
    kan = KAN([2, 1, 1], grid=40, dtype=torch.float64)
    for layer, low, high in ((kan.layers[0], -1.0, 1.0), (kan.layers[1], -1.1, 2.1)):
        points = torch.linspace(low, high, 41, dtype=torch.float64)
        layer.knots.copy_(uniform_knots(points.expand(layer.in_features, -1), 3))
        nn.init.zeros_(layer.base_weight)
    v = torch.linspace(-1, 0.9999, 400, dtype=torch.float64)[:, None]
    h = torch.linspace(-1.1, 2.0999, 400, dtype=torch.float64)[:, None]
    (inner, outer) = (layer.knots[:1] for layer in kan.layers)
    with torch.no_grad():
        kan.layers[0].coef[0, 0] = fit_spline(v, (math.pi * v).sin()[:, None], inner)[0, 0]
        kan.layers[0].coef[0, 1] = fit_spline(v, v.square()[:, None], inner)[0, 0]
        kan.layers[1].coef[0, 0] = fit_spline(h, h.exp()[:, None], outer)[0, 0]
    x = drawn(60, 2, seed=9)
    wanted = torch.exp(torch.sin(math.pi * x[:, 0]) + x[:, 1] ** 2)
    torch.testing.assert_close(kan(x)[:, 0], wanted, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------ size, starts
@pytest.mark.equation("kan-parameters")
@pytest.mark.parametrize(("widths", "grid", "k"), [([2, 5, 1], 5, 3), ([3, 4, 4, 2], 7, 2)])
def test_each_edge_has_so_many_coefficients_and_two_weights(widths, grid, k):
    kan = KAN(widths, grid, k)
    edges = 0
    for layer in range(len(widths) - 1):
        edges += widths[layer] * widths[layer + 1]
    assert sum(p.numel() for p in kan.parameters()) == edges * (grid + k + 2)


def test_the_start_is_an_even_grid_small_splines_and_xaviers_base():
    torch.manual_seed(0)
    layer = KANLayer(60, 40, grid=4, k=2, grid_range=(-2, 6), noise=0.25)
    want = torch.tensor([-6.0, -4, -2, 0, 2, 4, 6, 8, 10])
    torch.testing.assert_close(layer.knots[7], want)
    torch.testing.assert_close(layer.points[3], want[2:-2])
    assert layer.coef.std().item() == pytest.approx(0.25, rel=0.02)
    assert (layer.spline_weight == 1).all() and (layer.mask == 1).all()
    bound = math.sqrt(6 / 100)
    assert 0.97 * bound < layer.base_weight.abs().max() <= bound
    assert layer.grid == 4


def test_options_of_a_network_reach_its_layers():
    kan = KAN([1, 2, 1], 3, 2, grid_range=(0, 3), grid_eps=0.5, noise=0.0)
    for layer in kan.layers:
        assert (layer.grid, layer.k, layer.grid_eps, layer.noise) == (3, 2, 0.5, 0.0)
        torch.testing.assert_close(layer.points[0], torch.arange(4.0))
        assert (layer.coef == 0).all()
    assert "1, 2, grid=3, k=2" in repr(kan)


def test_weights_of_another_grid_can_be_loaded():
    torch.manual_seed(0)
    fine, coarse = KAN([2, 3, 1], grid=9), KAN([2, 3, 1], grid=4)
    coarse.load_state_dict(copy.deepcopy(fine.state_dict()))
    x = drawn(20, 2).float()
    torch.testing.assert_close(coarse(x), fine(x))
    with pytest.raises(RuntimeError, match="size mismatch"):
        KAN([2, 4, 1]).load_state_dict(fine.state_dict())


# ----------------------------------------------------------------------------------- the gradients
def test_the_gradient_of_a_deep_one_is_that_of_finite_differences():
    kan = KAN([2, 3, 1], grid=4, noise=0.5, dtype=torch.float64)
    x = drawn(6, 2, seed=8, low=-0.9, high=0.9).requires_grad_()
    assert torch.autograd.gradcheck(kan, x)
    assert torch.autograd.gradgradcheck(kan, x)


def test_its_second_derivative_solves_where_a_known_curve_has_one():
    """A cubic spline holds x³, so its second derivative is 6x: what a PINN needs."""
    layer = KANLayer(1, 1, grid=6, dtype=torch.float64)
    at = torch.linspace(-1, 0.999, 40, dtype=torch.float64)[:, None]
    with torch.no_grad():
        layer.base_weight.zero_()
        layer.coef.copy_(fit_spline(at, at[:, None] ** 3, layer.knots))
    x = drawn(30, 1, high=0.99).requires_grad_()
    (slope,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    (bend,) = torch.autograd.grad(slope.sum(), x)
    torch.testing.assert_close(slope, 3 * x**2)
    torch.testing.assert_close(bend, 6 * x)


# ----------------------------------------------------------------------------------- against pykan
def beside(widths, grid=5, k=3, seed=0):
    """Return pykan's network and ours with its weights."""
    peer = pykan.KAN(
        width=list(widths), grid=grid, k=k, seed=seed, symbolic_enabled=False, save_act=False,
        auto_save=False, noise_scale=0.5, grid_eps=0.02,
    )  # fmt: skip
    mine = KAN(widths, grid, k)
    with torch.no_grad():
        for own, other in zip(mine.layers, peer.act_fun, strict=True):
            own.coef.copy_(other.coef.transpose(0, 1))
            own.base_weight.copy_(other.scale_base.mT)
            own.spline_weight.copy_(other.scale_sp.mT)
            own.knots.copy_(other.grid)
    return peer, mine


@pytest.mark.parametrize("k", [2, 3])
def test_pykans_weights_give_pykans_answers_inside_and_outside_the_grid(k):
    peer, mine = beside([3, 4, 2], k=k)
    for reach in (0.9, 4.0):
        x = drawn(60, 3, low=-reach, high=reach).float()
        torch.testing.assert_close(mine(x), peer(x), rtol=1e-4, atol=1e-5)


def test_pykans_gradients_are_ours():
    peer, mine = beside([3, 4, 2])
    x = drawn(60, 3).float()
    for model in (peer, mine):
        model(x).square().sum().backward()
    for own, other in zip(mine.layers, peer.act_fun, strict=True):
        torch.testing.assert_close(own.coef.grad, other.coef.grad.transpose(0, 1), rtol=1e-3,
                                   atol=1e-4)  # fmt: skip
        torch.testing.assert_close(own.base_weight.grad, other.scale_base.grad.mT, rtol=1e-3,
                                   atol=1e-4)  # fmt: skip


def test_a_grid_is_updated_to_pykans_points_and_curves():
    peer, mine = beside([2, 3, 1])
    x = drawn(200, 2, seed=3, low=-0.8, high=0.9).float()
    before = mine.layers[0].edges(x)
    peer.act_fun[0].update_grid_from_samples(x)
    mine.layers[0].update_grid(x)
    torch.testing.assert_close(mine.layers[0].knots, peer.act_fun[0].grid.data)
    after, theirs = mine.layers[0].edges(x), peer.act_fun[0](x)[2]
    torch.testing.assert_close(after, theirs, rtol=0, atol=2e-4)
    assert (after - before).abs().max() < 0.2, "the curves are kept, as far as the new grid can"


# --------------------------------------------------------------------------------------- relatives
@pytest.mark.equation("kan-gaussian")
def test_gaussians_are_as_wide_as_their_centres_are_apart_and_like_cubic_splines():
    centers = torch.linspace(-2, 2, 9, dtype=torch.float64)
    x = torch.linspace(-2, 2, 81, dtype=torch.float64)[:, None]
    got = gaussian_basis(x, centers)[:, 0]
    for m in range(9):
        wanted = np.exp(-(((x[:, 0].numpy() + 2 - 0.5 * m) / 0.5) ** 2))
        np.testing.assert_allclose(got[:, m].numpy(), wanted, atol=1e-14)
    bump = BSpline.basis_element(np.arange(-2, 3) * 0.5)(np.clip(x[:, 0].numpy(), -1, 1))
    correlation = np.corrcoef(bump[20:61], got[20:61, 4].numpy())[0, 1]
    assert correlation > 0.99


@pytest.mark.equation("kan-chebyshev")
def test_chebyshevs_polynomials_are_cosines_of_multiples():
    x = drawn(30, 2)
    got = chebyshev_basis(x, 6)
    for n in range(7):
        torch.testing.assert_close(got[..., n], torch.cos(n * torch.arccos(x)))


def test_layers_of_other_curves_are_sums_over_their_edges():
    torch.manual_seed(0)
    fast, cheb = FastKANLayer(3, 2, 5).double(), ChebyshevKANLayer(3, 2, 4).double()
    x = drawn(7, 3, low=-3, high=3)
    bumps = gaussian_basis(fast.norm(x), fast.centers)
    curves = torch.einsum("bic,oic->bo", bumps, fast.coef.view(2, 3, 5))
    torch.testing.assert_close(fast(x), curves + fast.base(x * x.sigmoid()))
    powers = chebyshev_basis(x.tanh(), 4)
    torch.testing.assert_close(
        cheb(x), torch.einsum("bic,oic->bo", powers, cheb.coef.view(2, 3, 5))
    )
    assert fast.centers.tolist() == [-2, -1, 0, 1, 2]
    torch.manual_seed(0)
    wide = ChebyshevKANLayer(300, 50, 3)
    assert wide.coef.std().item() == pytest.approx(1 / math.sqrt(1200), rel=0.02)
    assert FastKANLayer(300, 50).coef.std().item() == pytest.approx(0.1, rel=0.05)


# --------------------------------------------------------------------------------------- bad input
def test_bad_arguments_are_refused_by_name():
    x = torch.rand(5, 2)
    for bad, message in [
        ({"in_features": 0}, "in_features=0 must be an integer ≥ 1"),
        ({"out_features": 1.5}, "out_features=1.5 must be an integer ≥ 1"),
        ({"grid": 0}, "grid=0 must be an integer ≥ 1"),
        ({"k": 0}, "k=0 must be an integer ≥ 1"),
        ({"grid_range": (1.0, 1.0)}, "grid_range=(1.0, 1.0) must rise"),
        ({"grid_range": (0.0, math.nan)}, "grid_range[1]=nan"),
        ({"grid_range": (0.0,)}, "grid_range=(0.0,) must be two numbers"),
        ({"grid_eps": 1.1}, "grid_eps=1.1 must be a finite number ≥ 0 and ≤ 1"),
        ({"noise": -0.1}, "noise=-0.1 must be a finite number ≥ 0"),
    ]:
        with refuses((TypeError, ValueError), message):
            KANLayer(**({"in_features": 2, "out_features": 2} | bad))
    for widths, message in [([3], "widths=[3] must hold two"), ([3, 0, 1], "widths[1]=0")]:
        with refuses(ValueError, message):
            KAN(widths)
    with refuses(ValueError, "x must have rows of 3 inputs, got (5, 2)"):
        KANLayer(3, 1)(x)
    with refuses(TypeError, "widths=5 must be a list of integers"):
        KAN(5)
    with refuses(TypeError, "x must be torch.float32 as the weights are, got torch.float64"):
        KANLayer(2, 1)(x.double())
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        KANLayer(2, 1)(x.long())
    with refuses(ValueError, "centers has 1 points, it needs 2 or more"):
        gaussian_basis(x, torch.zeros(1))
    with refuses(ValueError, "degree=0 must be an integer ≥ 1"):
        chebyshev_basis(x, 0)
    with refuses(ValueError, "num_centers=1 must be an integer ≥ 2"):
        FastKANLayer(2, 1, 1)
    for layer in (FastKANLayer(3, 1), ChebyshevKANLayer(3, 1)):
        with refuses(ValueError, "x must have rows of 3 inputs, got (5, 2)"):
            layer(x)


def test_an_input_that_is_not_a_number_is_no_number_later():
    kan = KAN([2, 2, 1])
    answer = kan(torch.tensor([[0.1, math.nan], [0.1, 0.2]]))
    assert answer[0].isnan() and answer[1].isfinite()


def test_the_slope_of_the_entropy_is_finite_where_every_edge_is_zero():
    kan = KAN([2, 3, 1], noise=0.0)
    kan.penalty(torch.zeros(4, 2)).backward()
    assert all(p.grad.isfinite().all() for p in kan.parameters() if p.grad is not None)


def test_a_function_that_is_defined_nowhere_within_reach_is_read_last():
    x = torch.linspace(-1000, 1000, 200)
    found = symbolic_fit(x, x**2)  # exp(b x + c) overflows for every b but 0
    assert found[0].name == "x²" and found[-1].r2 == -math.inf
    assert all(not math.isnan(reading.r2) for reading in found)


def test_torchs_transforms_see_the_same_slopes():
    layer, x = KANLayer(2, 3, dtype=torch.float64), torch.rand(4, 2, dtype=torch.float64)
    wanted = torch.autograd.functional.jacobian(layer, x)
    torch.testing.assert_close(torch.func.jacrev(layer)(x), wanted)


def test_grids_that_cannot_be_laid_are_refused_by_name():
    x = torch.zeros(5, 2)
    message = "grid=600 points in grid_range=(-1.0, 1.0) are too near to one another for torch.bf"
    with refuses(ValueError, message):
        KANLayer(2, 1, grid=600, dtype=torch.bfloat16)
    with refuses(ValueError, "centers must rise from each to the next"):
        gaussian_basis(x, torch.ones(3))
    with refuses(ValueError, "grid has 1 points an input, it needs 2 or more"):
        uniform_knots(torch.zeros(2, 1), 3)
    with refuses(ValueError, "k=-1 must be an integer ≥ 0"):
        uniform_knots(torch.zeros(2, 3), -1)
    with refuses(ValueError, "grid=0 must be an integer ≥ 1"):
        finer_grid(torch.rand(2, 3), 0)
    with refuses(ValueError, "x must be finite, got 10 values that are NaN or infinite"):
        fit_spline(x * math.nan, torch.zeros(5, 1, 2), torch.arange(8.0).expand(2, -1))


KNOTS = torch.tensor([[-2.0, -1.5, -0.9, -0.1, 0.3, 0.35, 1.1, 1.9, 2.4]]).double()


def by_scipy(x: torch.Tensor, knots: torch.Tensor, k: int, order: int = 0) -> np.ndarray:
    """Every basis function, or its derivative, one at a time."""
    t = knots.numpy()
    found = []
    for m in range(len(t) - k - 1):
        element = BSpline.basis_element(t[m : m + k + 2], extrapolate=False)
        element = element.derivative(order) if order else element
        found.append(np.nan_to_num(element(x.numpy())))
    return np.stack(found, -1)


# --------------------------------------------------------------------------------------- B-splines
@pytest.mark.equation("kan-recursion", "kan-indicator")
@pytest.mark.parametrize("k", [0, 1, 2, 3, 5])
def test_both_forms_are_scipys_basis_inside_and_outside(k):
    x = drawn(60, 1, low=-3, high=3)
    if k:  # steps of scipy count both of their ends, ours the first
        x = torch.cat([x, KNOTS.mT])
    wanted = by_scipy(x[:, 0], KNOTS[0], k)
    for form in (bspline_basis, bspline_recursion):
        np.testing.assert_allclose(form(x, KNOTS, k)[:, 0].numpy(), wanted, atol=1e-12)


def test_a_step_has_its_first_end_and_not_its_last():
    knots = torch.tensor([[0.0, 1.0, 2.0]])
    for form in (bspline_basis, bspline_recursion):
        got = form(torch.tensor([[0.0], [1.0], [2.0], [-0.1]]), knots, 0)[:, 0]
        assert got.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


@pytest.mark.equation("kan-derivative")
@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_derivatives_are_scipys(k):
    x = drawn(60, 1, seed=1, low=-3, high=3)
    wanted = by_scipy(x[:, 0], KNOTS[0], k, order=1)
    np.testing.assert_allclose(bspline_derivative(x, KNOTS, k)[:, 0].numpy(), wanted, atol=1e-11)
    x.requires_grad_()
    for m in range(wanted.shape[1]):
        (slope,) = torch.autograd.grad(bspline_basis(x, KNOTS, k)[:, 0, m].sum(), x)
        np.testing.assert_allclose(slope[:, 0].numpy(), wanted[:, m], atol=1e-11)


def test_a_step_has_no_slope():
    x = drawn(5, 1).requires_grad_()
    assert not bspline_derivative(x, KNOTS, 0).any()
    (slope,) = torch.autograd.grad(bspline_basis(x, KNOTS, 0).sum(), x)
    assert not slope.any()


@given(seed=st.integers(0, 10**6), k=st.integers(0, 4), inputs=st.integers(1, 3),
       grid=st.integers(1, 6))  # fmt: skip
def test_the_fast_form_is_the_recursion(seed, k, inputs, grid):
    knots = uniform_knots(drawn(inputs, grid + 1, seed=seed).sort(1).values, k)
    x = torch.cat([drawn(20, inputs, seed=seed + 1, low=-2, high=2), knots.mT])
    torch.testing.assert_close(bspline_basis(x, knots, k), bspline_recursion(x, knots, k))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_inside_they_are_not_negative_sum_to_one_and_at_most_so_many_are_there(k):
    knots = uniform_knots(torch.linspace(-1, 1, 6).double()[None], k)
    x = drawn(400, 1)
    basis = bspline_basis(x, knots, k)[:, 0]
    assert (basis >= 0).all() and ((basis > 0).sum(1) <= k + 1).all()
    torch.testing.assert_close(basis.sum(1), torch.ones(400).double())


def test_outside_the_sum_fades_as_the_errata_say():
    knots = uniform_knots(torch.linspace(-1, 1, 6)[None], 3)
    total = bspline_basis(torch.tensor([[0.3], [1.5], [3.0], [-1.5]]), knots, 3).sum(-1)[:, 0]
    assert total.tolist() == pytest.approx([1, 0.68, 0, 0.68], abs=0.003)


def test_a_pencils_values_of_the_even_cubic():
    """1/6, 4/6, 1/6 at the three inner knots, 23/48 half-way."""
    knots = torch.arange(5.0).double()[None]
    got = bspline_basis(torch.tensor([[1.0], [2.0], [3.0], [1.5]]).double(), knots, 3)
    assert got.flatten().tolist() == pytest.approx([1 / 6, 4 / 6, 1 / 6, 23 / 48])


def test_with_no_number_to_look_at_the_recursion_stands_in(monkeypatch):
    x, knots = drawn(4, 1), KNOTS
    wanted = bspline_basis(x, knots, 2)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(_kan_splines, "_local", lambda *_: pytest.fail("the other form ran"))
    torch.testing.assert_close(bspline_basis(x, knots, 2), wanted)


def test_bad_knots_are_refused_by_name():
    x = torch.zeros(3, 1)
    with refuses(ValueError, "knots has 4 points an input, order k=3 needs 5 or more"):
        bspline_basis(x, torch.arange(4.0)[None])
    with refuses(ValueError, "knots must rise"):
        bspline_basis(x, torch.tensor([[0.0, 1, 1, 2, 3]]))
    with refuses(ValueError, "knots must have shape (1, m), got (2, 5)"):
        bspline_recursion(x, torch.arange(5.0).expand(2, 5))
    with refuses(ValueError, "k=-1 must be an integer ≥ 0"):
        bspline_derivative(x, torch.arange(5.0)[None], -1)


# -------------------------------------------------------------------------------------------- fits
def test_a_fit_is_scipys_least_squares():
    x = drawn(80, 1, seed=4, high=0.999).sort(0).values
    y = torch.sin(4 * x) + 0.1 * drawn(80, 1, seed=5)
    knots = uniform_knots(torch.linspace(-1, 1, 5).double()[None], 3)
    # scipy wants the interval to be that of the data, which clamped ends give it
    scipy_knots = np.r_[[-1.0] * 4, knots[0, 4:-4], [1.0] * 4]
    wanted = make_lsq_spline(x[:, 0].numpy(), y[:, 0].numpy(), scipy_knots, 3)(x[:, 0].numpy())
    coef = fit_spline(x, y[:, None], knots)
    got = torch.einsum("bic,oic->boi", bspline_basis(x, knots), coef)[:, 0, 0]
    np.testing.assert_allclose(got.numpy(), wanted, atol=1e-8)


@pytest.mark.equation("kan-scaling")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_error_of_a_smooth_curve_falls_with_the_power_k_plus_one(k):
    x = torch.linspace(-1, 0.9999, 2000).double()[:, None]
    y = torch.sin(3 * x)
    errors = []
    for grid in (8, 16):
        knots = uniform_knots(torch.linspace(-1, 1, grid + 1).double()[None], k)
        coef = fit_spline(x, y[:, None], knots, k)
        left = torch.einsum("bic,oic->boi", bspline_basis(x, knots, k), coef)[:, :, 0] - y
        errors.append(left.square().mean().sqrt().item())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(k + 1, abs=0.25)


@pytest.mark.equation("kan-grid")
@pytest.mark.parametrize("eps", [0.0, 0.3, 1.0])
def test_grid_points_are_quantiles_mixed_with_even_ones(eps):
    x = drawn(41, 2, seed=7) ** 3
    got = sample_grid(x, 4, eps)
    for i in range(2):
        rising = np.sort(x[:, i].numpy())
        places = [0, 10, 20, 30, 40]
        even = np.linspace(rising[0], rising[-1], 5)
        np.testing.assert_allclose(got[i].numpy(), eps * even + (1 - eps) * rising[places])


def test_an_updated_grid_covers_the_activations():
    torch.manual_seed(1)
    kan = KAN([2, 3, 1], grid=5, noise=0.3, dtype=torch.float64)
    with torch.no_grad():
        kan.layers[0].base_weight.mul_(6)
    x = drawn(300, 2)
    assert kan.layers[1].outside(kan.nodes(x)[1]).max() > 0.2
    held = [(layer.coef, layer.knots) for layer in kan.layers]
    kan.update_grid(x)
    assert all(a.coef is c and a.knots is t for a, (c, t) in zip(kan.layers, held, strict=True))
    nodes = kan.nodes(x)
    for layer, h in zip(kan.layers, nodes, strict=False):
        assert (layer.outside(h) == 0).all()
        torch.testing.assert_close(layer.points[:, 0], h.amin(0))
        torch.testing.assert_close(layer.points[:, -1], h.amax(0))
    kan.update_grid(x, 12)
    assert [layer.grid for layer in kan.layers] == [12, 12]


def test_curves_on_an_updated_grid_are_the_nearest_to_the_old_ones():
    torch.manual_seed(1)
    layer = KANLayer(2, 3, noise=0.3, dtype=torch.float64)
    x = 1.5 * drawn(300, 2)  # a third of them lie beyond the old grid
    before = layer.edges(x).detach()
    layer.update_grid(x, 7)
    base = layer.base_weight.detach() * F.silu(x)[:, None]
    basis = bspline_basis(x, layer.knots, layer.k).numpy()
    for i in range(2):
        old = (before - base)[:, :, i].numpy()
        nearest = basis[:, i] @ np.linalg.lstsq(basis[:, i], old)[0]
        got = (layer.edges(x).detach() - base)[:, :, i].numpy()
        np.testing.assert_allclose(got, nearest, atol=1e-6)


def test_shares_outside_the_grid_are_counted_for_each_input():
    layer = KANLayer(2, 1)
    x = torch.tensor([[-1.5, 0.0], [-1.0, 1.01], [1.0, 0.3], [2.0, 0.9]])
    assert layer.outside(x).tolist() == [0.5, 0.25]


@pytest.mark.parametrize("factor", [2, 3])
def test_a_grid_of_a_multiple_keeps_every_curve_exactly(factor):
    layer = uneven(2, 3, grid=4)
    rows = torch.rand(200, 2, generator=torch.Generator().manual_seed(3)).double()
    low, high = layer.points[:, 0], layer.points[:, -1]
    x = low + (high - low) * rows * 0.999
    before = layer.edges(x)
    old = layer.points.clone()
    layer.refine(4 * factor)
    assert layer.grid == 4 * factor and layer.coef.shape[2] == 4 * factor + 3
    torch.testing.assert_close(layer.points[:, ::factor], old)
    torch.testing.assert_close(layer.edges(x), before, rtol=0, atol=1e-9)


def test_a_network_is_refined_in_every_layer():
    kan = KAN([2, 3, 1], grid=3, dtype=torch.float64)
    x = drawn(100, 2)
    kan.update_grid(x)
    before = kan(x)
    kan.refine(6)
    assert [layer.grid for layer in kan.layers] == [6, 6]
    # the last example of each input lies on the last knot, where the base of the next layer
    # and the old one's extension meet: all others stay
    assert ((kan(x) - before).abs() < 1e-8).double().mean() > 0.9


def test_points_of_a_finer_grid_are_interpolated():
    points = torch.tensor([[0.0, 1.0, 5.0]])
    torch.testing.assert_close(finer_grid(points, 4), torch.tensor([[0.0, 0.5, 1, 3, 5]]))
    torch.testing.assert_close(finer_grid(points, 3), torch.tensor([[0.0, 2 / 3, 7 / 3, 5]]))


def test_an_input_that_never_varies_keeps_its_grid_and_its_curve():
    layer = uneven(2, 2, grid=4)
    low, high = layer.points[1, 0], layer.points[1, -1]
    free = drawn(50, 1)[:, 0]
    x = torch.stack([free, torch.full((50,), 0.1).double()], 1)
    at = torch.stack([free, low + (high - low) * drawn(50, 1, low=0, high=0.99)[:, 0]], 1)
    old, before = layer.points.clone(), layer.edges(at)
    layer.update_grid(x)
    torch.testing.assert_close(layer.points[1], old[1])
    torch.testing.assert_close(layer.points[0, [0, -1]], torch.stack([free.min(), free.max()]))
    torch.testing.assert_close(layer.edges(at)[..., 1], before[..., 1], rtol=0, atol=1e-6)


def test_bad_grids_are_refused_by_name():
    x = drawn(5, 2)
    with refuses(ValueError, "x has 5 examples, grid=5 intervals need 6 or more"):
        KANLayer(2, 1, grid=5, dtype=torch.float64).update_grid(x)
    with refuses(ValueError, "x has too many equal values in input 1 for grid=3 at eps=0.02"):
        sample_grid(torch.stack([x[:, 0], torch.ones(5).double()], 1), 3)
    with refuses(ValueError, "eps=2 must be a finite number ≥ 0 and ≤ 1"):
        sample_grid(x, 2, 2)
    with refuses(ValueError, "x must be finite, got 1 values"):
        sample_grid(torch.tensor([[0.0], [1.0], [math.nan]]), 1)
    with refuses(ValueError, "grid=4 must be an integer ≥ 5"):
        KAN([2, 1]).refine(4)
    with refuses(ValueError, "y must have shape (5, o, 2)"):
        fit_spline(x, x[:, None, :1], KNOTS.expand(2, -1))


# ---------------------------------------------------------------------------- sparsity and pruning
@pytest.mark.equation("kan-size", "kan-entropy")
def test_sizes_are_means_and_their_entropy_is_scipys():
    edges = drawn(50, 3, 2, seed=6)
    sizes = edge_size(edges)
    for o in range(3):
        for i in range(2):
            assert sizes[o, i].item() == pytest.approx(np.abs(edges[:, o, i].numpy()).mean())
    assert entropy(sizes).item() == pytest.approx(scipy_entropy(sizes.flatten().numpy()))
    assert entropy(torch.eye(1).expand(3, 4)).item() == pytest.approx(math.log(12))
    alone = torch.zeros(2, 2)
    assert entropy(alone) == 0
    alone[1, 0] = 3.0
    assert entropy(alone) == 0


@pytest.mark.equation("kan-loss")
def test_the_penalty_is_the_sum_over_layers_of_sizes_and_entropy():
    torch.manual_seed(0)
    kan = KAN([2, 3, 1], dtype=torch.float64)
    x = drawn(40, 2)
    wanted = 0.0
    for edges in kan.edges(x):
        sizes = np.abs(edges.detach().numpy()).mean(0)
        wanted += 2 * sizes.sum() + 3 * scipy_entropy(sizes.flatten())
    assert kan.penalty(x, 2.0, 3.0).item() == pytest.approx(wanted)
    both = kan.penalty(x)
    torch.testing.assert_close(both, kan.penalty(x, 1, 0) + kan.penalty(x, 0, 1))
    both.backward()
    assert all(p.grad.isfinite().all() for p in kan.parameters())
    with refuses(ValueError, "size=-1 must be a finite number ≥ 0"):
        kan.penalty(x, -1)


def test_pruning_takes_out_what_adds_nothing_and_leaves_the_answer():
    torch.manual_seed(0)
    kan = KAN([2, 4, 2], dtype=torch.float64)
    with torch.no_grad():
        for layer, nodes in ((kan.layers[0], (1,)), (kan.layers[1], (3,))):
            for n in nodes:  # node 1 hears nothing, node 3 is not heard
                for name in ("coef", "base_weight"):
                    weight = getattr(layer, name)
                    (weight if layer is kan.layers[0] else weight.transpose(0, 1))[n] = 0
        kan.layers[0].coef[0, 1] = 0
        kan.layers[0].base_weight[0, 1] = 0
    x = drawn(60, 2)
    small = kan.prune(x, 1e-9, 1e-9)
    assert small.widths == [2, 2, 2] and kan.widths == [2, 4, 2]
    assert small.layers[0].mask.tolist() == [[1, 0], [1, 1]]
    # node 1 still added the constant that its own edges hold at zero
    silent = kan.edges(x)[1][..., 1]
    torch.testing.assert_close(small(x) + silent, kan(x))
    assert (small.layers[0].in_features, small.layers[1].in_features) == (2, 2)
    assert small(x[:3]).shape == (3, 2)


def test_pruning_everything_is_refused():
    kan = KAN([2, 3, 1])
    with refuses(ValueError, "node=100 leaves no node in layer 1"):
        kan.prune(torch.rand(10, 2), node=100.0)
    with refuses(ValueError, "edge=-1 must be a finite number ≥ 0"):
        kan.prune(torch.rand(10, 2), edge=-1)


# ----------------------------------------------------------------------------------------- reading
@pytest.mark.equation("kan-symbolic")
@pytest.mark.parametrize(
    ("name", "f"),
    [
        ("sin", lambda x: 2 * np.sin(3 * x + 0.4) - 1),
        ("x²", lambda x: -0.5 * (1.3 * x + 2) ** 2),
        ("exp", lambda x: 0.2 * np.exp(2.2 * x) + 7),
        ("tanh", lambda x: 4 * np.tanh(-2.5 * x + 0.5)),
        ("log", lambda x: np.log(x + 1.5)),
    ],
)
def test_a_known_curve_is_read_and_r2_is_the_share_of_variance_explained(name, f):
    x = np.linspace(-1, 1, 80)
    y = f(x)
    readings = symbolic_fit(torch.from_numpy(x), torch.from_numpy(y))
    best = readings[0]
    assert best.name == name and best.r2 > 0.99999
    assert [r.r2 for r in readings] == sorted((r.r2 for r in readings), reverse=True)
    shapes = {"sin": np.sin, "x²": np.square, "exp": np.exp, "tanh": np.tanh, "log": np.log}
    for reading in readings:
        if reading.name in shapes:
            told = reading.a * shapes[reading.name](reading.b * x + reading.c) + reading.d
            wanted = 1 - ((y - told) ** 2).sum() / ((y - y.mean()) ** 2).sum()
            assert reading.r2 == pytest.approx(wanted, abs=1e-8)


def test_own_functions_may_be_given_and_a_line_is_a_line():
    x = torch.linspace(0, 1, 30)
    (only,) = symbolic_fit(x, 3 * x + 1, {"line": lambda v: v})
    assert only.name == "line" and only.r2 == pytest.approx(1)
    assert only.a * only.b == pytest.approx(3, rel=1e-5)


def test_what_cannot_be_read_is_refused_by_name():
    x = torch.linspace(0, 1, 5)
    with refuses(ValueError, "y must not be constant"):
        symbolic_fit(x, torch.ones(5))
    with refuses(ValueError, "x has 2 points, a fit needs 3 or more"):
        symbolic_fit(x[:2], x[:2])
    with refuses(ValueError, "reach=0 must be a finite number > 0"):
        symbolic_fit(x, x, reach=0)
    with refuses(ValueError, "y must have shape (5), got (4,)"):
        symbolic_fit(x, x[:4])
