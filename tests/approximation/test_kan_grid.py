"""The B-splines of a KAN, the grids that follow its data, its pruning and its reading."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import BSpline, make_lsq_spline
from scipy.stats import entropy as scipy_entropy
from torch.nn import functional as F

from nnlib.approximation import _kan_splines
from nnlib.approximation.kan import (
    KAN,
    KANLayer,
    bspline_basis,
    bspline_derivative,
    bspline_recursion,
    edge_size,
    entropy,
    finer_grid,
    fit_spline,
    sample_grid,
    symbolic_fit,
    uniform_knots,
)
from tests.approximation.test_kan import drawn, uneven
from tests.support import refuses

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
