"""The RBF network and its relatives against loops, closed forms, scikit-learn and scipy."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from nnlib.approximation import _rbf_centers, _rbf_functions
from nnlib.approximation._rbf_functions import ORDER, RADIAL
from nnlib.approximation._rbf_interpolation import _monomials, _signed
from nnlib.approximation.rbf_network import (
    RBFNetwork,
    gaussian_kernel,
    gaussian_process,
    interpolate,
    kernel_ridge,
    kmeans,
    least_squares,
    orthogonal_least_squares,
    radial,
    random_features,
    squared_distances,
    squared_distances_by_products,
    widths,
)
from tests.support import Example, Peer, refuses

cluster = Peer("sklearn.cluster")
scipy = Peer("scipy.interpolate")
ridge_peer = Peer("sklearn.kernel_ridge")
process_peer = Peer("sklearn.gaussian_process")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    points = torch.rand(7, 2, dtype=torch.float64)

    def prepare(network):
        x = torch.rand(20, 2).to(network.centers)
        y = torch.stack([x.sum(1), x.prod(1), x[:, 0]], 1)
        return network.fit(x, y, generator=torch.Generator().manual_seed(0))

    arguments = {"num_centers": 4, "ridge": 0.01, "in_features": 2, "out_features": 3}
    return Example(arguments, (points.float(),), {}, prepare)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    """Normal numbers, in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_of(k=5, d=2, o=1, seed=0, **options) -> RBFNetwork:
    """A network with any centres, widths of their own and any weights."""
    made = RBFNetwork(k, in_features=d, out_features=o, dtype=torch.float64, **options)
    with torch.no_grad():
        made.centers.copy_(drawn(k, d, seed=seed))
        made.log_sigma.copy_(drawn(k, seed=seed + 1) / 3)
        made.weight.copy_(drawn(o, k, seed=seed + 2))
        if made.bias is not None:
            made.bias.copy_(drawn(o, seed=seed + 3))
    return made


# ------------------------------------------------------------------------------------ hidden layer
@pytest.mark.equation("rbf-network-forward", "rbf-network-gaussian")
def test_the_answer_is_the_sum_of_bumps_written_as_loops():
    network, x = network_of(o=2), drawn(6, 2, seed=9)
    got = network(x)
    for i, out in itertools.product(range(6), range(2)):
        total = network.bias[out].item()
        for j in range(5):
            far = sum((x[i, a] - network.centers[j, a]).item() ** 2 for a in range(2))
            bump = math.exp(-far / (2 * network.sigma[j].item() ** 2))
            total += network.weight[out, j].item() * bump
        assert got[i, out].item() == pytest.approx(total, rel=1e-12)


FORMULAS = {
    "gaussian": lambda u: math.exp(-u * u / 2),
    "inverse_multiquadric": lambda u: 1 / math.sqrt(1 + u * u),
    "wendland": lambda u: max(0.0, 1 - u) ** 4 * (4 * u + 1),
    "multiquadric": lambda u: math.sqrt(1 + u * u),
    "thin_plate": lambda u: u * u * math.log(u) if u else 0.0,
}


@pytest.mark.equation("rbf-network-radial")
@pytest.mark.parametrize("kernel", FORMULAS)
def test_each_radial_function_is_its_formula_also_at_its_centre(kernel):
    at = [0.0, 0.3, 0.999, 1.0, 1.7, 4.0]
    got = radial(kernel, torch.tensor(at, dtype=torch.float64).square()[None])
    assert got[0].tolist() == pytest.approx([FORMULAS[kernel](u) for u in at], abs=1e-14)


@pytest.mark.parametrize("kernel", FORMULAS)
def test_gradients_are_those_of_finite_differences_and_finite_at_a_centre(kernel):
    network, x = network_of(kernel=kernel), drawn(4, 2, seed=5)
    given = [x.requires_grad_(), *network.parameters()]

    def answer(x, centers, log_sigma, weight, bias):
        named = dict(zip(("centers", "log_sigma", "weight", "bias"),
                         (centers, log_sigma, weight, bias), strict=True))  # fmt: skip
        return torch.func.functional_call(network, named, (x,))

    assert gradcheck(answer, given)
    on_top = network.centers.detach().clone().requires_grad_()
    grads = torch.autograd.grad(network(on_top).sum(), [on_top, *network.parameters()])
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_second_derivatives_are_right_for_those_who_solve_differential_equations():
    network = network_of()
    assert gradgradcheck(network, (drawn(3, 2, seed=5).requires_grad_(),))


@pytest.mark.equation("rbf-network-gradient")
def test_a_centre_is_pulled_along_the_line_to_the_point_and_a_width_by_the_distance():
    network, x = network_of(), drawn(1, 2, seed=4)
    network(x).backward()
    phi = network.features(x)[0].detach()
    away = x - network.centers.detach()
    sigma, w = network.sigma.detach(), network.weight[0].detach()
    pull = (w * phi / sigma**2)[:, None] * away
    torch.testing.assert_close(network.centers.grad, pull)
    by_width = w * phi * away.square().sum(1) / sigma**3
    torch.testing.assert_close(network.log_sigma.grad, by_width * sigma)


def test_a_gaussian_of_a_point_far_away_is_zero_and_the_answer_is_the_bias():
    network = network_of()
    far = torch.full((1, 2), 1e3, dtype=torch.float64)
    assert torch.equal(network(far), network.bias[None])


@pytest.mark.equation("rbf-network-normalized")
@pytest.mark.parametrize("kernel", ["gaussian", "inverse_multiquadric"])
def test_normalised_bumps_are_shares_of_their_sum_even_where_all_underflow(kernel):
    network, x = network_of(kernel=kernel, normalized=True), drawn(6, 2, seed=9)
    u = (squared_distances(x, network.centers) / network.sigma**2).sqrt()
    plain = torch.tensor([[FORMULAS[kernel](v) for v in row] for row in u.tolist()]).double()
    torch.testing.assert_close(network.features(x), plain / plain.sum(1, keepdim=True))
    far = network.features(torch.full((1, 2), 1e4, dtype=torch.float64))
    assert far.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("shape", [(7, 3), (2, 5, 3)])
def test_both_ways_to_a_distance_agree_and_large_tables_take_the_products(shape, monkeypatch):
    x, centers = drawn(*shape) + 50, drawn(4, 3, seed=1) + 50
    pairs = [(a - b).square().sum() for a in x.reshape(-1, 3) for b in centers]
    wanted = torch.stack(pairs).reshape(*shape[:-1], 4)
    torch.testing.assert_close(squared_distances(x, centers), wanted)
    torch.testing.assert_close(squared_distances_by_products(x, centers), wanted)
    near = squared_distances_by_products(centers.float(), centers.float())
    assert near.min() >= 0 and near.diagonal().max() < 1e-5  # about their middle, so not far off 0
    crowd = 1000 + torch.randn(200, 8)  # without the middle and the floor: ±4, and below 0
    near = squared_distances_by_products(crowd, crowd)
    assert near.min() >= 0 and near.diagonal().max() < 1e-4
    monkeypatch.setattr(_rbf_functions, "DIRECT", x.numel() * 4 - 1)
    assert torch.equal(squared_distances(x, centers), squared_distances_by_products(x, centers))


# --------------------------------------------------------------------------------- centres, widths
def scatter(x, centers):
    return torch.cdist(x, centers).square().min(1).values.sum()


@pytest.mark.equation("rbf-network-kmeans")
def test_each_centre_of_k_means_is_the_mean_of_the_points_nearest_to_it():
    x = drawn(200, 2)
    centers = kmeans(x, 7, generator=dice())
    owner = torch.cdist(x, centers).argmin(1)
    means = torch.stack([x[owner == j].mean(0) for j in range(7)])
    torch.testing.assert_close(centers, means)


@pytest.mark.equation("rbf-network-kmeans")
def test_each_round_of_k_means_lowers_the_scatter():
    x = drawn(300, 2)
    rounds = [scatter(x, kmeans(x, 9, iterations=i, generator=dice(3))) for i in range(8)]
    assert all(after <= before for before, after in itertools.pairwise(rounds))
    assert rounds[-1] < 0.9 * rounds[0]


def test_k_means_ends_about_where_scikit_learns_ends():
    x = torch.cat([drawn(60, 2, seed=s) * 0.2 + c for s, c in enumerate((-3.0, 0.0, 2.0, 5.0))])
    peer = cluster.KMeans(4, n_init=5, random_state=0).fit(x.numpy())
    ours = min(scatter(x, kmeans(x, 4, generator=dice(s))).item() for s in range(5))
    assert ours == pytest.approx(peer.inertia_, rel=1e-9)


def test_starts_are_different_points_drawn_by_their_squared_distance():
    x = torch.tensor([[0.0], [0.0], [0.0], [1.0], [3.0]], dtype=torch.float64)
    firsts = [kmeans(x, 2, iterations=0, generator=dice(s)).flatten().tolist() for s in range(1500)]
    assert all(a != b for a, b in firsts)
    after_zero = [b for a, b in firsts if a == 0]
    assert after_zero.count(3.0) / len(after_zero) == pytest.approx(0.9, abs=0.04)
    assert [a for a, _ in firsts].count(0.0) / 1500 == pytest.approx(0.6, abs=0.05)


def test_a_cluster_that_runs_empty_keeps_its_centre(monkeypatch):
    """Two starts on one point: the second of them is nobody's nearest, in any round."""
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0]], dtype=torch.float64)
    monkeypatch.setattr(_rbf_centers, "_starts", lambda *_: torch.tensor([0, 0, 3]))
    assert kmeans(x, 3, iterations=1).flatten().tolist() == [0.5, 0.0, 10.5]
    assert torch.isfinite(kmeans(x, 3)).all()


@pytest.mark.equation("rbf-network-nearest", "rbf-network-local", "rbf-network-spread")
def test_widths_are_those_of_the_pencil():
    centers = torch.tensor([[0.0, 0.0], [3.0, 4.0], [3.0, 0.0]], dtype=torch.float64)
    nearest = (3 + 4 + 3) / 3
    assert widths(centers).tolist() == pytest.approx([nearest] * 3)
    assert widths(centers, "spread").tolist() == pytest.approx([5 / math.sqrt(6)] * 3)
    local = [math.sqrt((9 + 25) / 2), math.sqrt((16 + 25) / 2), math.sqrt((9 + 16) / 2)]
    assert widths(centers, "local").tolist() == pytest.approx(local)
    assert widths(centers, "local", neighbors=1).tolist() == pytest.approx([3, 4, 3])
    assert widths(centers, "local", neighbors=9).tolist() == pytest.approx(local)


# ----------------------------------------------------------------------------------------- weights
@pytest.mark.equation("rbf-network-ridge")
@pytest.mark.parametrize("ridge", [0.0, 0.7])
def test_at_the_fitted_weights_and_bias_the_gradient_of_the_objective_is_zero(ridge):
    x, y = drawn(40, 2), drawn(40, 2, seed=1)
    network = RBFNetwork(6, ridge=ridge, dtype=torch.float64).fit(x, y, generator=dice())
    loss = (network(x) - y).square().sum() + ridge * network.weight.square().sum()
    grads = torch.autograd.grad(loss, [network.weight, network.bias])
    assert all(grad.abs().max() < 1e-10 for grad in grads)
    assert ridge == 0 or network.weight.abs().max() > 0.01


def test_without_a_bias_there_is_none_and_the_objective_is_least_all_the_same():
    x, y = drawn(40, 1), drawn(40, 1, seed=1) + 3
    network = RBFNetwork(6, bias=False, dtype=torch.float64).fit(x, y, generator=dice())
    assert network.bias is None and "bias" not in network.state_dict()
    (grad,) = torch.autograd.grad((network(x) - y).square().sum(), [network.weight])
    assert grad.abs().max() < 1e-10


@pytest.mark.equation("rbf-network-normal", "rbf-network-svd")
@pytest.mark.parametrize("method", ["svd", "qr", "normal", "inverse"])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("n", [30, 8])
def test_where_the_columns_are_independent_all_methods_are_the_formula(method, ridge, n):
    phi, y = drawn(n, 8), drawn(n, 3, seed=2)
    gram = phi.mT @ phi + ridge * torch.eye(8).double()
    wanted = torch.linalg.inv(gram) @ phi.mT @ y
    torch.testing.assert_close(least_squares(phi, y, ridge=ridge, method=method), wanted)


def test_of_many_solutions_the_svd_takes_the_shortest_as_the_pseudo_inverse_does():
    phi, y = drawn(20, 6), drawn(20, 2, seed=1)
    phi = torch.cat([phi, phi[:, :2]], 1)  # two columns twice
    torch.testing.assert_close(least_squares(phi, y), torch.linalg.pinv(phi) @ y)
    wide = phi[:5]
    torch.testing.assert_close(least_squares(wide, y[:5]), torch.linalg.pinv(wide) @ y[:5])


def test_a_cutoff_leaves_out_small_singular_values():
    phi = torch.diag(torch.tensor([1.0, 0.1, 0.01])).double()
    y = torch.ones(3, 1).double()
    assert least_squares(phi, y, cutoff=0.05).flatten().tolist() == pytest.approx([1, 10, 0])
    assert least_squares(phi, y).flatten().tolist() == pytest.approx([1, 10, 100])


@pytest.mark.equation("rbf-network-condition")
def test_the_normal_equations_square_the_condition_number():
    phi = drawn(30, 5) * torch.logspace(0, -3, 5).double()
    ratio = torch.linalg.cond(phi.mT @ phi) / torch.linalg.cond(phi) ** 2
    assert ratio.item() == pytest.approx(1, rel=1e-6)


def wide_bumps(k=25, sigma=0.1, n=100, dtype=torch.float64):
    """The case of our notes: so many bumps of this width on the unit interval, and a sine."""
    x = torch.linspace(0, 1, n, dtype=torch.float64)[:, None]
    centers = torch.linspace(0, 1, k, dtype=torch.float64)[:, None]
    phi = radial("gaussian", squared_distances(x, centers) / sigma**2)
    return phi.to(dtype), (2 * math.pi * x).sin().to(dtype)


def residual(phi, y, **how):
    return (phi.double() @ least_squares(phi, y, **how).double() - y.double()).norm().item()


def test_normal_equations_lose_what_the_stable_methods_keep():
    phi, y = wide_bumps()
    assert torch.linalg.cond(phi) > 1e9
    found = {how: residual(phi, y, method=how) for how in ("svd", "qr", "normal", "inverse")}
    assert found["svd"] == pytest.approx(found["qr"], rel=1e-3) and found["svd"] < 1e-4
    assert found["normal"] > 2 * found["svd"]
    assert found["inverse"] > 1  # the norm of the sine itself is 7
    wider, y = wide_bumps(sigma=0.3)
    assert residual(wider, y) < 1e-5 < residual(wider, y, method="normal")


def test_a_singular_normal_matrix_is_named():
    phi = torch.ones(4, 2, dtype=torch.float64)
    for how in ("normal", "inverse"):
        with refuses(ValueError, "features have a singular normal matrix in torch.float64"):
            least_squares(phi, phi[:, :1], method=how)


def test_a_single_precision_network_is_solved_so_that_its_answers_survive_rounding():
    """Weights of 1e7 would be exact and useless: float32 has seven digits."""
    x = torch.linspace(0, 1, 100)[:, None]
    centers = torch.linspace(0, 1, 25)[:, None]
    network = RBFNetwork(25, sigma=0.2).fit(x, (2 * math.pi * x).sin(), centers=centers)
    assert network.weight.dtype == torch.float32 and network.weight.abs().max() < 1e4
    assert (network(x) - (2 * math.pi * x).sin()).abs().max() < 2e-3


# --------------------------------------------------------------------------------------- the fit
def test_a_fit_takes_centres_from_k_means_and_widths_from_the_rule():
    x, y = drawn(50, 3), drawn(50, seed=1)
    network = RBFNetwork(4, "local", dtype=torch.float64).fit(x, y, generator=dice(2))
    torch.testing.assert_close(network.centers.data, kmeans(x, 4, generator=dice(2)))
    torch.testing.assert_close(network.sigma.data, widths(network.centers.data, "local"))
    default = RBFNetwork(4, dtype=torch.float64).fit(x, y, generator=dice(2))
    torch.testing.assert_close(default.sigma.data, widths(network.centers.data, "nearest"))
    fixed = RBFNetwork(4, 0.25, dtype=torch.float64).fit(x, y, generator=dice(2))
    torch.testing.assert_close(fixed.sigma.data, torch.full((4,), 0.25).double())


def test_a_single_centre_is_as_wide_as_the_points_are_spread():
    x = torch.tensor([[-1.0], [1.0], [3.0]], dtype=torch.float64)
    network = RBFNetwork(1, dtype=torch.float64).fit(x, x)
    assert network.centers.item() == pytest.approx(1)
    assert network.sigma.item() == pytest.approx(math.sqrt(8 / 3))


@pytest.mark.equation("rbf-network-interpolation")
def test_with_a_centre_on_every_point_it_passes_through_all_values():
    x, y = drawn(12, 2), drawn(12, seed=1)
    network = RBFNetwork(12, bias=False, dtype=torch.float64).fit(x, y)
    assert torch.equal(network.centers.data, x)
    torch.testing.assert_close(network.predict(x), y)
    phi = network.features(x).detach()
    torch.testing.assert_close(network.weight[0].detach(), torch.linalg.solve(phi, y))


def test_solving_again_moves_weights_and_nothing_else():
    x, y = drawn(60, 2), drawn(60, seed=1)
    network = network_of(6)
    before = copy.deepcopy(network.state_dict())
    network.solve(x, y)
    after = network.state_dict()
    assert torch.equal(before["centers"], after["centers"])
    assert torch.equal(before["log_sigma"], after["log_sigma"])
    with_one = torch.cat([network.features(x).detach(), torch.ones(60, 1).double()], 1)
    wanted = torch.linalg.lstsq(with_one, y[:, None]).solution[:, 0]
    torch.testing.assert_close(torch.cat([network.weight[0], network.bias]).detach(), wanted)


def test_the_data_decide_how_many_numbers_go_in_and_come_out():
    x, y = drawn(30, 3), drawn(30, 2, seed=1)
    network = RBFNetwork(5).fit(x, y)
    assert (network.in_features, network.out_features) == (3, 2)
    assert network(x.float()).shape == network.predict(x.float()).shape == (30, 2)
    assert RBFNetwork(5).fit(x, y[:, 0]).predict(x.float()).shape == (30,)
    fresh = RBFNetwork(5)
    fresh.load_state_dict(network.state_dict())
    assert torch.equal(fresh(x.float()), network(x.float()))
    assert len(fresh.state_dict()) == 4


def test_centres_of_ones_own_are_kept():
    x, y = drawn(30, 2), drawn(30, seed=1)
    own = drawn(4, 2, seed=7)
    network = RBFNetwork(4, dtype=torch.float64).fit(x, y, centers=own)
    assert torch.equal(network.centers.data, own)


def test_it_learns_by_gradient_as_well():
    x = torch.linspace(-2, 2, 60, dtype=torch.float64)[:, None]
    y = (3 * x).sin()
    network = RBFNetwork(5, dtype=torch.float64).fit(x, y, generator=dice())
    start = (network(x) - y).square().mean().item()
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(150):
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        optimizer.step()
    assert (network(x) - y).square().mean().item() < 0.3 * start


def test_a_fresh_network_is_drawn_within_its_bounds():
    torch.manual_seed(0)
    network = RBFNetwork(400, 2.5, in_features=3, out_features=2)
    assert network.centers.abs().max() <= 1 and network.centers.std().item() == pytest.approx(
        0.577, abs=0.03
    )
    assert network.weight.abs().max() <= 0.05 < 1.1 * network.weight.abs().max()
    assert not network.bias.any()
    torch.testing.assert_close(network.sigma, torch.full((400,), 2.5))
    told = "3, 400, 2, sigma=2.5, ridge=0, kernel='gaussian'"
    assert network.extra_repr() == told
    assert "sigma='local'" in repr(RBFNetwork(2, "local", normalized=True))


# ----------------------------------------------------------------------------------- interpolation
@pytest.mark.equation("rbf-network-interpolation", "rbf-network-saddle")
@pytest.mark.parametrize("kernel", RADIAL)
@pytest.mark.parametrize("d", [1, 2, 3])
def test_an_interpolant_passes_through_every_value(kernel, d):
    x, y = drawn(20, d), drawn(20, 2, seed=1)
    made = interpolate(x, y, kernel=kernel, sigma=0.1 if d == 1 else 0.8)
    torch.testing.assert_close(made(x), y, rtol=1e-6, atol=1e-6)


@pytest.mark.equation("rbf-network-saddle")
@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("degree", [None, 2])
@pytest.mark.parametrize(
    ("kernel", "theirs", "epsilon"),
    [
        ("gaussian", "gaussian", 1 / math.sqrt(2)),
        ("inverse_multiquadric", "inverse_multiquadric", 1.0),
        ("multiquadric", "multiquadric", 1.0),
        ("thin_plate", "thin_plate_spline", 1.0),
    ],
)
def test_it_is_scipys_interpolant(kernel, theirs, epsilon, degree, smoothing):
    x, y, at = drawn(30, 2), drawn(30, 2, seed=1), drawn(50, 2, seed=2)
    sigma = 1.0 if kernel == "thin_plate" else 0.7
    ours = interpolate(x, y, kernel=kernel, sigma=sigma, degree=degree, smoothing=smoothing)
    peer = scipy.RBFInterpolator(
        x.numpy(), y.numpy(), kernel=theirs, epsilon=epsilon / sigma, smoothing=smoothing,
        degree=ours.degree,
    )  # fmt: skip
    np.testing.assert_allclose(ours(at), peer(at.numpy()), rtol=1e-6, atol=1e-7)


def test_each_kernel_asks_for_its_least_polynomial():
    x, y = drawn(12, 2), drawn(12, 1, seed=1)
    wanted = dict.fromkeys(RADIAL, -1) | {"multiquadric": 0, "thin_plate": 1}
    assert {k: interpolate(x, y, kernel=k).degree for k in RADIAL} == wanted
    assert interpolate(x, y, kernel="thin_plate").tail.shape == (3, 1)


@pytest.mark.parametrize("kernel", ["multiquadric", "thin_plate"])
def test_with_its_polynomial_it_reproduces_a_plane_with_no_bump(kernel):
    x = drawn(15, 2)
    plane = (
        (2 * x[:, :1] - 3 * x[:, 1:] + 1) if kernel == "thin_plate" else torch.full((15, 1), 4.0)
    )
    made = interpolate(x, plane.double(), kernel=kernel)
    assert made.weight.abs().max() < 1e-9
    assert made.weight.sum().abs() < 1e-9


@pytest.mark.equation("rbf-network-micchelli")
@pytest.mark.parametrize("kernel", RADIAL)
def test_the_matrix_of_different_points_is_positive_beside_its_polynomial(kernel):
    """Micchelli: on vectors that no polynomial of lower degree sees."""
    for seed in range(5):
        x = drawn(12, 2, seed=seed)
        table, tail = _signed(kernel, x, x, 0.9), _monomials(x, x, ORDER.get(kernel, 0) - 1)
        blind = torch.linalg.svd(tail, full_matrices=True)[0][:, tail.shape[1] :]
        assert torch.linalg.eigvalsh(blind.mT @ table @ blind).min() > 0


def test_a_thin_plate_without_its_plane_can_be_singular():
    """Five points, of which four lie at a distance of 1 from the last: their row is zero."""
    x = torch.tensor([[0.0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], dtype=torch.float64)
    squared = (x[:, None] - x).square().sum(-1)
    assert torch.linalg.matrix_rank(radial("thin_plate", squared)) < 5
    assert torch.isfinite(interpolate(x, x[:, :1].square(), kernel="thin_plate").weight).all()


def test_a_thin_plate_bends_least_of_all_interpolants():
    """One dimension is the cubic spline's; here: a plate of two, against other interpolants."""
    x, y = drawn(9, 2, seed=3), drawn(9, 1, seed=4)
    steps = torch.linspace(-6, 6, 241, dtype=torch.float64)
    grid = torch.cartesian_prod(steps, steps)

    def bending(f):
        z = f(grid).reshape(241, 241)
        h = (steps[1] - steps[0]).item()
        xx = (z[2:, 1:-1] - 2 * z[1:-1, 1:-1] + z[:-2, 1:-1]) / h**2
        yy = (z[1:-1, 2:] - 2 * z[1:-1, 1:-1] + z[1:-1, :-2]) / h**2
        xy = (z[2:, 2:] - z[2:, :-2] - z[:-2, 2:] + z[:-2, :-2]) / (4 * h**2)
        return ((xx**2 + 2 * xy**2 + yy**2).sum() * h**2).item()

    plate = bending(interpolate(x, y, kernel="thin_plate"))
    for kernel, sigma in itertools.product(("gaussian", "multiquadric"), (0.7, 1.5)):
        assert plate < bending(interpolate(x, y, kernel=kernel, sigma=sigma))


# --------------------------------------------------------------- kernel ridge and Gaussian process
@pytest.mark.equation("rbf-network-kernel-ridge")
def test_kernel_ridge_is_scikit_learns():
    x, y, at = drawn(40, 2), drawn(40, 2, seed=1), drawn(20, 2, seed=2)
    weight = kernel_ridge(x, y, sigma=0.8, ridge=0.1)
    peer = ridge_peer.KernelRidge(alpha=0.1, kernel="rbf", gamma=1 / (2 * 0.8**2))
    peer.fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(weight, peer.dual_coef_, rtol=1e-9)
    np.testing.assert_allclose(gaussian_kernel(at, x, 0.8) @ weight, peer.predict(at.numpy()))


@pytest.mark.equation("rbf-network-kernel-ridge")
def test_kernel_ridge_penalises_the_function_and_a_network_its_weights():
    x, y = drawn(15, 2), drawn(15, 1, seed=1)
    table, weight = gaussian_kernel(x, x, 0.8), kernel_ridge(x, y, sigma=0.8, ridge=0.1)
    weight = weight.requires_grad_()
    error = (table @ weight - y).square().sum()
    function = error + 0.1 * (weight * (table @ weight)).sum()
    assert torch.autograd.grad(function, weight, retain_graph=True)[0].abs().max() < 1e-9
    network = RBFNetwork(15, 0.8, ridge=0.1, bias=False, dtype=torch.float64).fit(x, y)
    gap = (network(x) - table @ weight).abs().max()
    assert gap > 0.01


@pytest.mark.equation("rbf-network-gp-mean", "rbf-network-gp-variance", "rbf-network-evidence")
def test_a_gaussian_process_is_scikit_learns():
    x, y, at = drawn(30, 2), drawn(30, 1, seed=1), drawn(20, 2, seed=2)
    got = gaussian_process(x, y, at, sigma=0.8, noise=0.1)
    kernel = process_peer.kernels.RBF(0.8)
    peer = process_peer.GaussianProcessRegressor(kernel, alpha=0.1, optimizer=None)
    peer.fit(x.numpy(), y.numpy())
    mean, std = peer.predict(at.numpy(), return_std=True)
    np.testing.assert_allclose(got.mean.flatten(), mean.flatten(), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(got.variance.sqrt(), std, rtol=1e-7)
    assert got.evidence.item() == pytest.approx(peer.log_marginal_likelihood_value_, rel=1e-9)


@pytest.mark.equation("rbf-network-gp-mean")
def test_its_mean_is_kernel_ridges_answer_and_without_noise_the_interpolant():
    x, y, at = drawn(20, 2), drawn(20, 1, seed=1), drawn(10, 2, seed=2)
    ridge = gaussian_kernel(at, x, 0.8) @ kernel_ridge(x, y, sigma=0.8, ridge=0.1)
    torch.testing.assert_close(gaussian_process(x, y, at, sigma=0.8, noise=0.1).mean, ridge)
    nearly = gaussian_process(x, y, at, sigma=0.4, noise=1e-12).mean
    torch.testing.assert_close(nearly, interpolate(x, y, sigma=0.4)(at), rtol=1e-5, atol=1e-5)


@pytest.mark.equation("rbf-network-evidence")
def test_the_evidence_is_the_density_of_a_normal_distribution():
    x, y = drawn(9, 2), drawn(9, 2, seed=1)
    table = gaussian_kernel(x, x, 0.8) + 0.1 * torch.eye(9).double()
    normal = torch.distributions.MultivariateNormal(torch.zeros(9).double(), table)
    wanted = normal.log_prob(y.mT).sum()
    torch.testing.assert_close(gaussian_process(x, y, x, sigma=0.8, noise=0.1).evidence, wanted)


@pytest.mark.equation("rbf-network-gp-variance")
def test_the_variance_is_that_of_the_conditional_normal_distribution():
    x, at = drawn(9, 2), drawn(4, 2, seed=1)
    whole = gaussian_kernel(torch.cat([x, at]), torch.cat([x, at]), 0.8)
    known = whole[:9, :9] + 0.1 * torch.eye(9).double()
    wanted = whole[9:, 9:] - whole[9:, :9] @ torch.linalg.inv(known) @ whole[:9, 9:]
    got = gaussian_process(x, drawn(9, 1), at, sigma=0.8, noise=0.1).variance
    torch.testing.assert_close(got, wanted.diagonal())
    far = torch.full((1, 2), 1e3).double()
    assert gaussian_process(x, drawn(9, 1), far, sigma=0.8, noise=0.1).variance.item() == 1


# ------------------------------------------------------------- random features, forward selection
@pytest.mark.equation("rbf-network-fourier")
def test_random_cosines_multiply_to_the_kernel_with_an_error_that_falls_as_the_root():
    x = drawn(20, 3)
    wanted, errors = gaussian_kernel(x, x, 1.3), []
    for count in (1_000, 100_000):
        z = random_features(x, count, sigma=1.3, generator=torch.Generator().manual_seed(0))
        errors.append((z @ z.mT - wanted).square().mean().sqrt().item())
    assert errors[0] < 0.04 and errors[1] < 0.004
    assert errors[0] / errors[1] == pytest.approx(10, rel=0.4)


@pytest.mark.equation("rbf-network-ols")
def test_each_chosen_centre_is_the_one_that_leaves_the_least_error():
    phi, y = drawn(30, 8), drawn(30, 2, seed=1)
    chosen = orthogonal_least_squares(phi, y, 4)
    taken, before = [], 1.0
    for index, share in zip(chosen.indices.tolist(), chosen.shares.tolist(), strict=True):
        left = {}
        for candidate in set(range(8)) - set(taken):
            some = phi[:, [*taken, candidate]]
            error = (some @ least_squares(some, y) - y).square().sum() / y.square().sum()
            left[candidate] = error.item()
        assert min(left, key=left.__getitem__) == index
        assert before - left[index] == pytest.approx(share, rel=1e-9)
        taken, before = [*taken, index], left[index]


def test_selection_stops_at_its_tolerance_and_where_nothing_is_left():
    phi, y = drawn(20, 6), drawn(20, 1, seed=1)
    shares = orthogonal_least_squares(phi, y, 6).shares
    enough = 1 - shares[:3].sum().item() + 1e-9
    assert len(orthogonal_least_squares(phi, y, 6, tolerance=enough).indices) == 3
    doubled = torch.cat([phi, phi[:, :3]], 1)
    found = orthogonal_least_squares(doubled, y, 9).indices.tolist()
    assert len(found) == 6 and len({at % 6 for at in found}) == 6
    assert len(orthogonal_least_squares(phi, torch.zeros(20, 1).double(), 3).indices) == 0


# --------------------------------------------------------------------------------------- bad input
def test_bad_input_is_refused_by_name():
    x, y = drawn(5, 2), drawn(5, seed=1)
    with refuses(ValueError, "num_centers=6 is more than the points in x, of which there are 5"):
        RBFNetwork(6).fit(x, y)
    twice = torch.cat([x, x])
    with refuses(ValueError, "num_centers=6 is more than the 5 different points in x"):
        RBFNetwork(6).fit(twice, torch.cat([y, y]))
    with refuses(ValueError, "x, with as many points as num_centers, must be different points"):
        RBFNetwork(10).fit(twice, torch.cat([y, y]))
    with refuses(ValueError, "centers must be different points, got 1 duplicates among 3"):
        RBFNetwork(3).fit(x, y, centers=x[[0, 1, 1]])
    with refuses(ValueError, "centers must have shape (3, 2)"):
        RBFNetwork(3).fit(x, y, centers=x[:4])
    with refuses(ValueError, "y must have shape (5, o), got (4, 1)"):
        RBFNetwork(3).fit(x, y[:4])
    with refuses(ValueError, "y must be finite"):
        RBFNetwork(3).fit(x, y / 0)
    with refuses(ValueError, "x must have shape (*, 2), got (5, 3)"):
        RBFNetwork(3).fit(x, y)(torch.zeros(5, 3))
    with refuses(ValueError, "sigma='nearest' finds no width"):
        RBFNetwork(1).fit(x[:1].expand(4, 2), y[:4])
    with refuses(ValueError, "y must have shape (5, o)"):
        network_of(3).solve(x, y[:3])


def test_bad_settings_are_refused_by_name():
    for sigma in (0.0, -1.0, math.inf):
        with refuses(ValueError, "sigma="):
            RBFNetwork(3, sigma)
    with refuses(ValueError, "sigma='widest' must be one of"):
        RBFNetwork(3, "widest")
    with refuses(ValueError, "ridge=-1"):
        RBFNetwork(3, ridge=-1)
    with refuses(ValueError, "kernel='cone' must be one of"):
        RBFNetwork(3, kernel="cone")
    with refuses(ValueError, "kernel, when normalized,='wendland' must be one of"):
        RBFNetwork(3, kernel="wendland", normalized=True)
    with refuses(ValueError, "features must have 4 rows or more for method='qr', got 3"):
        least_squares(drawn(3, 4), drawn(3, 1), method="qr")
    with refuses(ValueError, "centers must be two or more, got 1"):
        widths(drawn(1, 2))
    with refuses(ValueError, "rule='wide' must be one of"):
        widths(drawn(3, 2), "wide")


def test_bad_input_of_the_relatives_is_refused_by_name():
    x, y = drawn(6, 2), drawn(6, 1, seed=1)
    with refuses(ValueError, "x must be different points, got 1 duplicates among 7"):
        interpolate(torch.cat([x, x[:1]]), torch.cat([y, y[:1]]))
    line = torch.arange(6.0)[:, None].expand(6, 2).double()
    with refuses(ValueError, "degree=1 has 3 coefficients, which these 6 points in x do not"):
        interpolate(line, y, kernel="thin_plate")
    with refuses(ValueError, "degree=0 must be an integer ≥ 1"):
        interpolate(x, y, kernel="thin_plate", degree=0)
    with refuses(ValueError, "sigma=0 must be a finite number > 0"):
        interpolate(x, y, sigma=0)
    with refuses(ValueError, "kernel='wendland' is for 1 to 3 dimensions, x has 4"):
        interpolate(drawn(6, 4), y, kernel="wendland")
    with refuses(ValueError, "x must have shape (b, 2)"):
        interpolate(x, y)(drawn(3, 3))
    with refuses(ValueError, "ridge=0.0 must be a finite number > 0"):
        kernel_ridge(x, y, sigma=1.0, ridge=0.0)
    with refuses(ValueError, "noise=0 must be"):
        gaussian_process(x, y, x, sigma=1.0, noise=0)
    with refuses(ValueError, "sigma=1e+09 with a ridge or noise of 1e-30 is too flat"):
        kernel_ridge(x, y, sigma=1e9, ridge=1e-30)
    with refuses(ValueError, "num_centers=9 is more than the columns of features, 6"):
        orthogonal_least_squares(x @ x.mT, y, 9)
    with refuses(ValueError, "num_features=0"):
        random_features(x, 0, sigma=1.0)


# ------------------------------------------------------------------------------- at the extremes
def test_k_means_finds_the_same_clusters_far_from_the_origin():
    """Distances by products would lose what is small beside the distance from zero."""
    draw = torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(50, 4, generator=draw, dtype=torch.float64)
    points = (noise + torch.arange(4)).flatten()[:, None]
    for shift, dtype in ((1e4, torch.float32), (1e9, torch.float64)):
        moved = (points + shift).to(dtype)
        found = kmeans(moved, 4, generator=torch.Generator().manual_seed(1)) - shift
        middles = found.flatten().sort().values.double()
        torch.testing.assert_close(middles, torch.arange(4.0).double(), rtol=0, atol=0.01)


def test_a_wendland_bump_is_zero_also_where_the_distance_overflows():
    far = torch.tensor([1.0, 1e30, math.inf], requires_grad=True)
    value = radial("wendland", far)
    value.sum().backward()
    assert value.tolist() == [0, 0, 0] == far.grad.tolist()


def test_a_ridge_below_the_smallest_number_leaves_a_column_of_zeros_alone():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    weight = least_squares(features, torch.tensor([[2.0], [4.0]]), ridge=1e-50)
    torch.testing.assert_close(weight, torch.tensor([[3.0], [0.0]]))


def test_what_rounding_makes_singular_is_named():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    with refuses(ValueError, "features have columns that depend on others in torch.float32"):
        least_squares(features, torch.rand(3, 1), method="qr")
    x = torch.rand(6, 2)
    with refuses(ValueError, "sigma=1e+09 makes a system that is singular in torch.float32"):
        interpolate(x, torch.rand(6, 1), sigma=1e9)


def test_numbers_that_do_not_fit_one_another_are_refused_by_name():
    x, y = torch.rand(6, 2), torch.rand(6, 1)
    with refuses(ValueError, "x must have shape (*, 3), got (6, 1)"):
        squared_distances(torch.rand(6, 1), torch.rand(2, 3))
    with refuses(TypeError, "squared must be floating point, got torch.int64"):
        radial("wendland", torch.tensor([1]))
    with refuses(ValueError, "at must have shape (m, 2), got (4, 3)"):
        gaussian_process(x, y, torch.rand(4, 3), sigma=1.0, noise=0.1)
    calls = {
        "targets must be torch.float32, as features is": lambda: least_squares(x, y.double()),
        "targets must be torch.float32, as features": lambda: orthogonal_least_squares(
            x, y.double(), 1
        ),
        "y must be torch.float32, as x is, got torch.float64": lambda: interpolate(x, y.double()),
        "y must be torch.float32, as x": lambda: kernel_ridge(x, y.double(), sigma=1.0, ridge=1.0),
        "at must be torch.float32": lambda: gaussian_process(
            x, y, x.double(), sigma=1.0, noise=0.1
        ),
        "x must be torch.float32, as the points": lambda: interpolate(x, y)(x.double()),
        "other must be torch.float32, as x is": lambda: gaussian_kernel(x, x.double(), 1.0),
    }
    for message, call in calls.items():
        with refuses(TypeError, message):
            call()
