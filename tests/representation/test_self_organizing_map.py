"""The map against minisom, scikit-learn, scipy, loops, closed forms and theorems."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from nnlib.representation import _som_grid as grid_of
from nnlib.representation import _som_learning as learning
from nnlib.representation import _som_measures as measures
from nnlib.representation import _som_nearest
from nnlib.representation.self_organizing_map import (
    SelfOrganizingMap,
    _order,
    decay,
    neighborhood,
    neural_gas,
)
from tests.support import Example, Peer, refuses

minisom = Peer("minisom")
cluster = Peer("sklearn.cluster")
CLOSE = {"rtol": 1e-10, "atol": 1e-12}  # float64, some thousand steps


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""

    def fitted(som):
        x = torch.randn(40, 4, generator=torch.Generator().manual_seed(3))
        return som.fit(x.to(som.weight.dtype), steps=3)

    return Example(
        {"rows": 3, "columns": 5, "in_features": 4, "torus": False},
        (torch.randn(7, 4),),
        prepare=fitted,
    )


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def made(rows: int, columns: int, d: int = 2, seed: int = 1, **how) -> SelfOrganizingMap:
    som = SelfOrganizingMap(rows, columns, d, dtype=torch.float64, **how)
    with torch.no_grad():
        som.weight.copy_(drawn(rows, columns, d, seed=seed))
    return som


def put(som: SelfOrganizingMap, weight) -> SelfOrganizingMap:
    with torch.no_grad():
        som.weight.copy_(torch.as_tensor(weight).view(som.weight.shape))
    return som


def asymptotic(start: float, steps: int) -> torch.Tensor:
    """The decay of minisom: to about a third."""
    t = torch.arange(steps, dtype=torch.float64)
    return start / (1 + t / (steps / 2))


# --------------------------------------------------------------------------------------- the grid
def test_units_stand_row_by_row_and_odd_rows_of_hexagons_are_moved():
    wanted = [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    assert grid_of.positions(2, 3, "rectangular").tolist() == wanted
    hexagons = grid_of.positions(2, 2, "hexagonal")
    height = math.sqrt(3) / 2
    torch.testing.assert_close(
        hexagons, torch.tensor([[0, 0], [0, 1], [height, 0.5], [height, 1.5]]).double()
    )
    assert made(2, 3).grid.tolist() == wanted


@pytest.mark.parametrize(("topology", "many"), [("rectangular", 8), ("hexagonal", 6)])
def test_inner_units_have_eight_or_six_neighbours_and_on_a_torus_all_have(topology, many):
    flat = grid_of.adjacent(6, 7, topology, False)
    assert flat.sum(1).max() == many == flat.sum(1).view(6, 7)[2, 3]
    assert flat.sum(1).min() < many, "at a corner there are fewer"
    assert (grid_of.adjacent(6, 7, topology, True).sum(1) == many).all()
    assert torch.equal(flat, flat.T) and not flat.diagonal().any()


def test_a_grid_that_a_user_changes_is_a_copy():
    made(3, 4).grid_distances.zero_()
    assert made(3, 4).grid_distances[0, 1] == 1


def test_on_a_hexagonal_grid_all_neighbours_are_equally_far():
    away = grid_of.distances(5, 5, "hexagonal", False)
    near = grid_of.adjacent(5, 5, "hexagonal", False)
    torch.testing.assert_close(away[near], torch.ones(int(near.sum())).double())


@pytest.mark.parametrize("topology", ["rectangular", "hexagonal"])
def test_on_a_torus_the_shorter_way_round_counts(topology):
    """Against all nine copies of the grid beside one another."""
    at = grid_of.positions(4, 5, topology)
    height = 4 * (1 if topology == "rectangular" else math.sqrt(3) / 2)
    shifts = [torch.tensor([a * height, b * 5.0]) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    copies = torch.stack([torch.cdist(at, at + shift.double()) for shift in shifts]).amin(0)
    torch.testing.assert_close(grid_of.distances(4, 5, topology, True), copies)


# ------------------------------------------------------------------------ neighbourhood and decay
@pytest.mark.equation("self-organizing-map-gaussian")
@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.0])
def test_the_gaussian_neighbourhood_is_a_ratio_of_normal_densities(sigma):
    normal = torch.distributions.Normal(0.0, sigma)
    away = torch.tensor([0.0, 1.0, 2.5])
    wanted = (normal.log_prob(away) - normal.log_prob(torch.tensor(0.0))).exp()
    torch.testing.assert_close(neighborhood(away, sigma), wanted)


def test_a_bubble_is_one_up_to_its_radius():
    away = torch.tensor([0.0, 1.0, 1.5, 1.6])
    assert neighborhood(away, 1.5, "bubble").tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["gaussian", "bubble"])
@pytest.mark.parametrize("sigma", [1e-3, 1e-200, 5e-324])
def test_a_radius_that_vanishes_leaves_the_winner_alone(sigma, kind, dtype):
    got = neighborhood(torch.tensor([0.0, 1.0, 40.0], dtype=dtype), sigma, kind)
    assert got.tolist() == [1, 0, 0]


@pytest.mark.equation("self-organizing-map-schedule")
def test_an_exponential_decay_multiplies_by_the_same_factor_at_each_step():
    got = decay(5.0, 0.5, 11)
    assert got[0] == 5 and got[-1].item() == pytest.approx(0.5)
    torch.testing.assert_close(got[1:] / got[:-1], torch.full((10,), 0.1**0.1).double())


def test_the_other_decays_have_the_same_ends():
    torch.testing.assert_close(decay(4.0, 1.0, 4, "linear"), torch.tensor([4, 3, 2, 1]).double())
    inverse = decay(4.0, 1.0, 4, "inverse")
    torch.testing.assert_close(1 / inverse, torch.tensor([0.25, 0.5, 0.75, 1]).double())
    assert decay(4.0, 1.0, 1).tolist() == [4]


# ---------------------------------------------------------------------------------- the best unit
@pytest.mark.equation("self-organizing-map-bmu")
def test_the_best_unit_is_scikit_learns_nearest_centre():
    x, som = drawn(200, 3), made(4, 5, 3)
    peer = cluster.KMeans(20, n_init=1, max_iter=1).fit(np.asarray(drawn(30, 3)))
    peer.cluster_centers_ = som.units.numpy().copy()
    np.testing.assert_array_equal(som.bmu(x).numpy(), peer.predict(x.numpy()))
    assert torch.equal(som.bmu(x), _som_nearest.nearest_by_loops(x, som.units))


@pytest.mark.equation("self-organizing-map-products")
def test_products_give_the_distances_that_differences_give_far_from_the_origin_too():
    x, w = drawn(30, 4).float(), drawn(6, 4, seed=1).float()
    wanted = torch.cdist(x, w, compute_mode="donot_use_mm_for_euclid_dist").square()
    for far in (0.0, 1000.0):
        got = _som_nearest.squared_distances(x + far, w + far)
        torch.testing.assert_close(got, wanted, rtol=2e-3, atol=1e-3 if far else 1e-6)


def test_examples_are_taken_in_parts_without_a_seam(monkeypatch):
    x, som = drawn(50, 3), made(4, 5, 3)
    whole = som.bmu(x)
    heskes = copy.deepcopy(som).batch_step(x, 1.0, winner="heskes").units
    monkeypatch.setattr(_som_nearest, "AT_ONCE", 130)
    monkeypatch.setattr(learning, "AT_ONCE", 130)
    assert torch.equal(som.bmu(x), whole)
    torch.testing.assert_close(som.batch_step(x, 1.0, winner="heskes").units, heskes)


def test_of_equal_units_the_first_wins_and_the_second_is_second():
    som = put(made(1, 3, 1), torch.tensor([2.0, 1.0, 1.0]))
    best = _som_nearest.nearest(torch.tensor([[1.1]]).double(), som.units, 3)
    assert best.tolist() == [[1, 2, 0]]


def test_the_map_answers_with_distances_in_the_form_of_its_grid():
    x, som = drawn(2, 6, 3), made(4, 5, 3)
    away = som(x)
    assert away.shape == (2, 6, 4, 5)
    wanted = (x[1, 2] - som.weight[3, 1]).norm()
    torch.testing.assert_close(away[1, 2, 3, 1], wanted)
    assert torch.equal(away.flatten(-2).argmin(-1), som.bmu(x))
    torch.testing.assert_close(som.locate(x), som.grid[som.bmu(x)])


def test_the_gradient_of_a_distance_is_finite_on_a_unit():
    som = made(2, 2)
    som(som.units[:1]).sum().backward()
    assert torch.isfinite(som.weight.grad).all()


# -------------------------------------------------------------------------------- the online rule
@pytest.mark.equation("self-organizing-map-update")
def test_one_step_with_a_pencil():
    """Units at 0, 1 and 4, an example at 2, η = 1/2 and h = 1, 0.6065, 0.1353."""
    som = put(made(1, 3, 1), torch.tensor([0.0, 1.0, 4.0]))
    x = torch.tensor([[2.0]]).double()
    som.fit(x, method="online", steps=1, sigma=1.0, lr=0.5, init="keep")
    wanted = torch.tensor([0 + 0.5 * 0.6065 * 2, 1 + 0.5 * 1, 4 - 0.5 * 0.6065 * 2]).double()
    torch.testing.assert_close(som.units[:, 0], wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("topology", "kind"),
    [("rectangular", "gaussian"), ("hexagonal", "gaussian"), ("rectangular", "bubble")],
)
def test_in_the_same_order_minisom_has_the_same_units(topology, kind):
    """Its bubble is a square with open edges, so a radius of 2 is 1.5 here, up to the diagonal."""
    x, steps = drawn(150, 3), 1000
    peer = minisom.MiniSom(
        7, 5, 3, sigma=2.0, learning_rate=0.5, topology=topology, random_seed=3,
        neighborhood_function=kind,
    )  # fmt: skip
    peer._sigma_decay_function = peer._asymptotic_decay if kind == "gaussian" else lambda s, *_: s
    som = SelfOrganizingMap(5, 7, 3, topology=topology, neighborhood=kind, dtype=torch.float64)
    put(som, peer.get_weights().transpose(1, 0, 2).copy())
    peer.train(x.numpy(), steps)
    som.fit(
        x, method="online", steps=steps, init="keep", order=torch.arange(steps) % 150,
        sigma=asymptotic(2.0, steps) if kind == "gaussian" else 1.5, lr=asymptotic(0.5, steps),
    )  # fmt: skip
    ours = som.weight.detach().numpy().transpose(1, 0, 2)
    np.testing.assert_allclose(ours, peer.get_weights(), rtol=1e-10, atol=1e-12)
    assert som.quantization_error(x).item() == pytest.approx(peer.quantization_error(x.numpy()))
    assert som.topographic_error(x).item() == pytest.approx(peer.topographic_error(x.numpy()))


@pytest.mark.parametrize("kind", ["gaussian", "bubble"])
def test_the_fast_walk_is_the_readable_one(kind):
    x, som = drawn(40, 3), made(3, 4, 3, torus=True)
    order = torch.randint(40, (200,), generator=torch.Generator().manual_seed(2))
    given = som.units, x, order, decay(2.0, 0.4, 200), decay(0.5, 0.02, 200)
    fast = learning.walk(*given, som.grid_distances, kind)
    torch.testing.assert_close(
        fast, learning.walk_by_steps(*given, som.grid_distances, kind), **CLOSE
    )
    assert not torch.equal(fast, som.units)


def test_each_pass_has_an_order_of_its_own():
    shown = _order(20, 50, torch.Generator().manual_seed(0))
    first, second = shown[:20], shown[20:40]
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(20))
    assert not torch.equal(first, second) and len(shown) == 50


def test_once_in_order_a_chain_stays_in_order():
    """In one dimension the ordered states are closed under the rule (Cottrell and Fort)."""
    som = put(made(1, 12, 1), torch.sort(drawn(12))[0])
    for step in range(300):
        x = drawn(1, 1, seed=step)
        som.fit(x, method="online", steps=1, sigma=1.5, lr=0.4, init="keep")
        assert (som.units[1:, 0] > som.units[:-1, 0]).all()


# --------------------------------------------------------------------------------- the batch rule
@pytest.mark.equation("self-organizing-map-batch")
@pytest.mark.parametrize("rule", ["nearest", "heskes"])
def test_a_batch_step_is_a_weighted_mean_of_all_examples(rule):
    x, som = drawn(60, 3), made(3, 4, 3)
    h = neighborhood(som.grid_distances, 0.8)
    cost = torch.cdist(x, som.units).square()
    if rule == "heskes":
        h = h / h.sum(1, keepdim=True)
        cost = torch.stack([(h[c] * cost).sum(1) for c in range(12)], 1)
    weights = h[cost.argmin(1)]  # n u
    wanted = torch.stack(
        [(weights[:, j, None] * x).sum(0) / weights[:, j].sum() for j in range(12)]
    )
    torch.testing.assert_close(som.batch_step(x, 0.8, winner=rule).units, wanted, **CLOSE)


def test_minisom_has_the_same_units_after_its_batches():
    x = drawn(120, 3)
    peer = minisom.MiniSom(
        6, 4, 3, sigma=2.0, learning_rate=1.0, decay_function=lambda rate, *_: rate, random_seed=3
    )
    som = put(made(6, 4, 3), peer.get_weights().copy())
    peer.train_batch_offline(x.numpy(), 10)
    som.fit(x, steps=10, sigma=asymptotic(2.0, 10), init="keep")
    np.testing.assert_allclose(som.weight.detach().numpy(), peer.get_weights(), rtol=1e-10)


def test_a_part_of_a_batch_step_goes_that_part_of_the_way():
    x, som = drawn(60, 2), made(3, 3)
    whole, before = copy.deepcopy(som).batch_step(x, 1.0).units, som.units.clone()
    torch.testing.assert_close(som.batch_step(x, 1.0, 0.25).units, before + 0.25 * (whole - before))


def test_with_a_radius_near_zero_a_batch_step_is_one_of_k_means():
    x, som = drawn(300, 2), made(3, 4)
    won = som.bmu(x)
    means = torch.stack([x[won == j].mean(0) for j in range(12)])
    assert torch.isfinite(means).all(), "each unit wins something here"
    torch.testing.assert_close(som.batch_step(x, 1e-3).units, means, **CLOSE)


def test_dead_units_take_the_mean_of_the_nearest_winner_where_shares_would_round_to_zero():
    """Unit 9 is nine steps from the only winner, where h is e^(−4050): 0 in any precision."""
    for dtype in (torch.float32, torch.float64):
        som = SelfOrganizingMap(1, 10, 1, dtype=dtype)
        put(som, torch.arange(10, dtype=dtype) * 100)
        x = torch.tensor([[1.0], [3.0]], dtype=dtype)
        assert som.batch_step(x, 0.1).units[:, 0].tolist() == [2] * 10


def test_units_beyond_every_bubble_stay_where_they_are():
    som = put(made(1, 4, 1, neighborhood="bubble"), torch.tensor([0.0, 10.0, 20.0, 30.0]))
    assert som.batch_step(torch.tensor([[1.0]]).double(), 1.0).units[:, 0].tolist() == [
        1,
        1,
        20,
        30,
    ]


def test_single_precision_gives_what_double_gives():
    x = drawn(200, 3)
    single = SelfOrganizingMap(5, 6).fit(x.float())
    double = SelfOrganizingMap(5, 6, dtype=torch.float64).fit(x)
    torch.testing.assert_close(single.units.double(), double.units, rtol=1e-3, atol=1e-3)


def test_half_precision_is_fitted_in_single():
    x = drawn(200, 3).to(torch.bfloat16)
    som = SelfOrganizingMap(4, 4, dtype=torch.bfloat16).fit(x)
    wanted = SelfOrganizingMap(4, 4).fit(x.float()).units.to(torch.bfloat16)
    assert som.weight.dtype == torch.bfloat16
    torch.testing.assert_close(som.units, wanted)


@pytest.mark.equation("self-organizing-map-energy", "self-organizing-map-heskes")
@pytest.mark.parametrize("seed", range(4))
def test_with_heskes_winner_the_energy_never_rises_and_with_the_nearest_it_does(seed):
    x, energies = drawn(300, 2, seed=seed), {}
    for rule in ("heskes", "nearest"):
        som, told = made(6, 6, seed=seed), []
        for _ in range(40):
            told.append(som.energy(x, 1.0, rule))
            som.batch_step(x, 1.0, winner=rule)
        energies[rule] = torch.stack(told).diff()
    assert energies["heskes"].max() <= 1e-12
    assert energies["nearest"].max() > 1e-4


@pytest.mark.equation("self-organizing-map-energy", "self-organizing-map-heskes")
def test_heskes_rule_is_a_descent_on_its_energy():
    """Between two changes of winners the rule goes along the negative gradient."""
    x, som = drawn(40, 2), made(3, 3)
    h = neighborhood(som.grid_distances, 1.0)
    h = h / h.sum(1, keepdim=True)
    w = som.units.clone().requires_grad_()
    costs = (x[:, None] - w).square().sum(-1)  # n u
    whole = costs @ h.T
    loss = whole.amin(1).mean()
    assert som.energy(x, 1.0).item() == pytest.approx(loss.item())
    loss.backward()
    mass = h[whole.argmin(1)].sum(0)
    step = som.batch_step(x, 1.0, winner="heskes").units - w.detach()
    torch.testing.assert_close(w.grad, -2 * mass[:, None] * step / 40, **CLOSE)


# ----------------------------------------------------------------------------- where a fit begins
@pytest.mark.equation("self-organizing-map-plane")
@pytest.mark.parametrize("size", [(4, 6), (6, 4), (5, 5)])
def test_the_plane_lies_along_the_principal_components(size):
    scale = torch.tensor([1.0, 5.0, 0.2, 2.0], dtype=torch.float64)
    x = drawn(400, 4) * scale + 7
    som = SelfOrganizingMap(*size, dtype=torch.float64).initialize(x)
    from sklearn.decomposition import PCA

    peer = PCA(2).fit(x.numpy())
    found = torch.from_numpy(peer.transform(som.units.numpy())).view(*size, 2)
    back = torch.from_numpy(peer.inverse_transform(found.reshape(-1, 2).numpy()))
    torch.testing.assert_close(back, som.units), "all of it lies in the plane"
    first = 1 if size[1] >= size[0] else 0  # the longer side
    deviation = torch.from_numpy(peer.transform(x.numpy())).std(0, correction=0)
    for component, axis in ((0, first), (1, 1 - first)):
        line = found[..., component].movedim(axis, 0)
        torch.testing.assert_close(line.std(1, correction=0), torch.zeros(size[axis]).double())
        ends = line[:, 0][[0, -1]].abs()
        torch.testing.assert_close(ends, (3**0.5 * deviation[component]).expand(2))
        steps = line[:, 0].diff()
        torch.testing.assert_close(steps, steps[:1].expand_as(steps))
    assert som.weight.flatten(0, 1).mean(0).sub(x.mean(0)).abs().max() < 1e-9
    axis = som.units[1 if first == 1 else size[1]] - som.units[0]
    assert axis[axis.abs().argmax()] > 0, "whatever sign the decomposition gives"


def test_more_features_than_examples_have_the_same_plane():
    x = drawn(6, 20)
    wide = SelfOrganizingMap(3, 4, dtype=torch.float64).initialize(x).units
    often = SelfOrganizingMap(3, 4, dtype=torch.float64).initialize(torch.cat([x] * 4)).units
    torch.testing.assert_close(wide, often)


def test_a_single_feature_and_a_single_row_have_a_plane_too():
    x = drawn(50, 1)
    assert torch.isfinite(SelfOrganizingMap(3, 3).fit(x.float()).weight).all()
    x = drawn(50, 3)
    chain = SelfOrganizingMap(1, 5, dtype=torch.float64).initialize(x)
    assert torch.linalg.matrix_rank(chain.units - chain.units.mean(0)) == 1
    torch.testing.assert_close(chain.units[2], x.mean(0))
    kept = chain.weight
    assert chain.fit(x).weight is kept, "it keeps its place in an optimizer"


def test_samples_are_examples_and_each_is_drawn_before_one_is_drawn_twice():
    x = drawn(7, 2)
    som = SelfOrganizingMap(2, 4, dtype=torch.float64)
    som.initialize(x, "sample", generator=torch.Generator().manual_seed(0))
    same = (som.units[:, None] == x).all(-1)
    assert (same.sum(1) == 1).all() and sorted(same.sum(0).tolist()) == [1] * 6 + [2]


def test_the_default_radius_falls_from_half_the_side_and_from_a_quarter_on_a_plane():
    x = drawn(60, 2)
    for init, side in (("plane", 2.0), ("keep", 4.0)):
        usual, told = (made(3, 8).fit(x, init=init, steps=4, **how)
                       for how in ({}, {"sigma": (side, 0.5)}))  # fmt: skip
        assert torch.equal(usual.units, told.units)
    usual, told = (made(2, 2).fit(x, method="online", init="keep", order=None, **how,
                                  generator=torch.Generator().manual_seed(0))
                   for how in ({}, {"steps": 2000, "lr": (0.5, 0.02)}))  # fmt: skip
    assert torch.equal(usual.units, told.units)


# --------------------------------------------------------------------------------------- measures
@pytest.mark.equation("self-organizing-map-quantization", "self-organizing-map-topographic")
def test_both_errors_by_loops():
    x, som = drawn(80, 3), made(4, 5, 3)
    away = torch.cdist(x, som.units)
    torch.testing.assert_close(som.quantization_error(x), away.amin(1).mean())
    wrong = 0
    for row in away:
        first, second = row.argsort()[:2].tolist()
        rows, columns = first // 5 - second // 5, first % 5 - second % 5
        wrong += max(abs(rows), abs(columns)) > 1
    assert som.topographic_error(x).item() == pytest.approx(wrong / 80)
    assert 0 < wrong < 80


@pytest.mark.equation("self-organizing-map-order")
def test_the_order_is_scipys_rank_correlation():
    som = made(4, 5, 3)
    pairs = torch.triu_indices(20, 20, 1)
    grid = som.grid_distances[pairs[0], pairs[1]]
    there = torch.cdist(som.units, som.units)[pairs[0], pairs[1]]
    assert som.order_correlation().item() == pytest.approx(spearmanr(grid, there).statistic)
    assert measures.ranks(torch.tensor([3.0, 1.0, 3.0, 3.0])).tolist() == [3, 1, 3, 3]


def test_a_fold_is_seen_by_the_order_and_not_by_the_topographic_error():
    """A chain there and back again: all neighbours are neighbours, and the ends lie together."""
    fold = torch.tensor([0, 1, 2, 3, 4, 4.3, 3.3, 2.3, 1.3, 0.3])
    line = torch.arange(10.0)
    x = torch.linspace(0, 4, 50)[:, None].double()
    folded, flat = (put(made(1, 10, 1), w.double()) for w in (fold, line))
    assert flat.order_correlation() == 1
    assert folded.order_correlation() < 0.2
    straight = put(made(1, 10, 1), torch.linspace(0, 4, 10).double())
    assert straight.topographic_error(x) == 0


def test_the_topographic_product_by_loops_and_its_sign():
    som = made(3, 4, 3)
    far, grid = torch.cdist(som.units, som.units), som.grid_distances
    total, many = 0.0, 12
    for j in range(many):
        by_grid = [k for k in sorted(range(many), key=lambda k: (grid[j, k], k)) if k != j]
        by_data = [k for k in sorted(range(many), key=lambda k: (far[j, k], k)) if k != j]
        product = 1.0
        for k, (a, b) in enumerate(zip(by_grid, by_data, strict=True), 1):
            product *= (far[j, a] / far[j, b] * grid[j, a] / grid[j, b]).item()
            total += math.log(product ** (1 / (2 * k)))
    assert som.topographic_product().item() == pytest.approx(total / (many * (many - 1)))
    plane = put(made(6, 6), grid_of.positions(6, 6, "rectangular"))
    assert abs(plane.topographic_product()) < 1e-12
    square = drawn(2000, 2)
    chain = SelfOrganizingMap(1, 64, dtype=torch.float64).fit(square, sigma=(16, 0.5))
    assert chain.topographic_product() < -0.02, "a chain has too few dimensions for a square"


@pytest.mark.equation("self-organizing-map-u-matrix")
def test_the_u_matrix_is_minisoms_and_on_hexagons_a_mean_over_six():
    peer = minisom.MiniSom(6, 5, 3, random_seed=1)
    som = put(made(6, 5, 3), peer.get_weights().copy())
    ours = (som.u_matrix() / som.u_matrix().max()).numpy()
    np.testing.assert_allclose(ours, peer.distance_map(scaling="mean"), rtol=1e-10)
    som = made(5, 6, 3, topology="hexagonal")
    near, away = grid_of.adjacent(5, 6, "hexagonal", False), torch.cdist(som.units, som.units)
    wanted = torch.stack([away[j][near[j]].mean() for j in range(30)]).view(5, 6)
    torch.testing.assert_close(som.u_matrix(), wanted)


def test_hits_count_and_add_up():
    x, som = drawn(90, 3), made(4, 5, 3)
    hits = som.hits(x)
    assert hits.shape == (4, 5) and hits.sum() == 90
    assert hits[2, 3] == (som.bmu(x) == 13).sum()


def test_the_square_of_the_errata():
    """10 × 10 units on a square: the error falls from about 0.3 to about 0.04, with no fold."""
    x = drawn(2000, 2)
    som = SelfOrganizingMap(10, 10, 2, dtype=torch.float64)
    put(som, 0.5 + 0.01 * drawn(10, 10, 2, seed=5))
    assert som.quantization_error(x) > 0.3
    som.fit(x, init="keep", sigma=(5, 0.5))
    assert som.quantization_error(x) < 0.045
    assert som.topographic_error(x) < 0.02
    assert som.order_correlation() > 0.95


@pytest.mark.equation("self-organizing-map-magnification")
def test_in_one_dimension_units_are_as_dense_as_a_power_of_two_thirds():
    """Ritter and Schulten 1986: density of units ∝ p^(2/3); here p(x) = 2x, by its quantiles."""
    x = ((torch.arange(4000, dtype=torch.float64) + 0.5) / 4000).sqrt()[:, None]
    som = SelfOrganizingMap(1, 100, dtype=torch.float64).fit(x, sigma=(10, 4))
    som.fit(x, sigma=4.0, steps=150, init="keep")
    w = som.units[:, 0].sort()[0][20:-20]  # away from the ends
    middle, dense = (w[1:] + w[:-1]) / 2, 1 / w.diff()
    table = torch.stack([torch.ones_like(middle), middle.log()], 1)
    slope = torch.linalg.lstsq(table, dense.log()[:, None]).solution[1]
    assert slope.item() == pytest.approx(2 / 3, abs=0.03)


# ------------------------------------------------------------------------------------- neural gas
@pytest.mark.equation("self-organizing-map-neural-gas")
def test_a_pass_of_neural_gas_by_loops():
    x = drawn(30, 2)
    start = x[torch.randperm(30, generator=torch.Generator().manual_seed(3))[:4]]
    got = neural_gas(x, 4, steps=1, reach=(1.5, 1.5), generator=torch.Generator().manual_seed(3))
    top, bottom = torch.zeros(4, 2).double(), torch.zeros(4).double()
    for example in x:
        away = (example - start).norm(dim=1)
        for j in range(4):
            share = math.exp(-int((away < away[j]).sum()) / 1.5)
            top[j] += share * example
            bottom[j] += share
    torch.testing.assert_close(got, top / bottom[:, None])


def test_neural_gas_has_an_error_like_that_of_k_means():
    """On average over starts; random examples as prototypes have 1.5 times that."""
    x, errors = drawn(500, 2), []
    for seed in range(3):
        gas = neural_gas(x, 20, generator=torch.Generator().manual_seed(seed))
        errors.append(torch.cdist(x, gas).amin(1).square().mean().item())
    peer = cluster.KMeans(20, n_init=5, random_state=0).fit(x.numpy())
    assert np.mean(errors) < 1.15 * peer.inertia_ / 500


# -------------------------------------------------------------------------------- what is refused
def test_a_map_of_one_unit_is_a_mean_and_has_no_second_unit():
    x = drawn(30, 3)
    som = SelfOrganizingMap(1, 1, dtype=torch.float64).fit(x)
    torch.testing.assert_close(som.units[0], x.mean(0))
    torch.testing.assert_close(som.quantization_error(x), (x - x.mean(0)).norm(dim=1).mean())
    assert som.u_matrix().tolist() == [[0]]
    with refuses(ValueError, "rows=1 and columns=1 leave no a second-best unit"):
        som.topographic_error(x)
    with refuses(ValueError, "it takes 3 units or more"):
        made(1, 2).order_correlation()
    with refuses(ValueError, "it takes 3 units or more"):
        made(1, 2).topographic_product()
    assert made(1, 2).topographic_error(drawn(5, 2)) == 0


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sigma": 0.0}, "sigma=0.0 must be a finite number > 0"),
        ({"sigma": (2.0, -1.0)}, "sigma=-1.0 must be a finite number > 0"),
        ({"sigma": (2.0, 1.0, 0.5)}, "sigma=(2.0, 1.0, 0.5) must be a number, (start, end)"),
        ({"sigma": torch.ones(3)}, "sigma must have shape (30), got (3,)"),
        ({"sigma": torch.zeros(30)}, "sigma=0.0 must be a finite number > 0"),
        ({"steps": 0}, "steps=0 must be an integer ≥ 1"),
        ({"method": "slow"}, "method='slow' must be one of ['batch', 'online']"),
        ({"decay": "no"}, "decay='no' must be one of ['exponential', 'linear', 'inverse']"),
        ({"init": "no"}, "init='no' must be one of ['plane', 'sample', 'keep']"),
        ({"winner": "no"}, "winner='no' must be one of ['nearest', 'heskes']"),
        ({"lr": 0.5}, "lr is of method='online', got it with method='batch'"),
        ({"order": torch.zeros(30).long()}, "order is of method='online'"),
        ({"method": "online", "lr": 1.5}, "lr=1.5 must be a finite number > 0 and ≤ 1"),
        ({"method": "online", "winner": "heskes"}, "winner='heskes' takes method='batch'"),
        ({"method": "online", "steps": 2, "order": torch.tensor([0, 9])}, "order must be 0 … 8"),
        ({"method": "online", "steps": 2, "order": torch.tensor([0])}, "order must have shape (2)"),
    ],
)
def test_a_fit_that_cannot_be_is_refused_by_name(how, message):
    with refuses(ValueError, message):
        SelfOrganizingMap(2, 3).fit(torch.rand(9, 2), **how)


EMPTY, FIVE = torch.zeros(0, 2), torch.zeros(5, 2).double()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: made(3, 4, topology="hexagonal", torus=True),
            "rows=3 must be even on a hexagonal",
        ),
        (lambda: made(3, 4, topology="round"), "topology='round' must be one of ['rectangular'"),
        (lambda: made(3, 4, neighborhood="no"), "neighborhood='no' must be one of ['gaussian'"),
        (lambda: made(2, 2).fit(EMPTY), "x must not be empty"),
        (lambda: made(2, 2).fit(FIVE / 0), "x must be finite, got 10 values"),
        (lambda: made(2, 2, 3).bmu(FIVE), "x must have shape (*, 3), got (5, 2)"),
        (lambda: made(2, 2, 3).fit(FIVE, init="keep"), "x must have shape (n, 3), got (5, 2)"),
        (lambda: made(2, 2).batch_step(FIVE, 0), "sigma=0 must be a finite number > 0"),
        (lambda: made(2, 2).batch_step(FIVE, 1.0, 2), "lr=2 must be a finite number > 0 and ≤ 1"),
        (lambda: made(2, 2).energy(FIVE, 0), "sigma=0 must be a finite number > 0"),
        (lambda: made(2, 2).initialize(FIVE, "keep"), "init='keep' must be one of ['plane'"),
        (lambda: neural_gas(FIVE, 9), "units=9 must be a finite number ≤ 5"),
        (lambda: decay(1.0, 0, 3), "end=0 must be a finite number > 0"),
        (lambda: neighborhood(FIVE, -1), "sigma=-1 must be a finite number > 0"),
    ],
)
def test_other_arguments_are_refused_by_name(call, message):
    with refuses(ValueError, message):
        call()


def test_equal_examples_leave_a_finite_map():
    som = SelfOrganizingMap(3, 3).fit(torch.ones(20, 4))
    torch.testing.assert_close(som.units, torch.ones(9, 4))
    assert som.quantization_error(torch.ones(5, 4)) < 1e-6


def test_a_map_of_another_width_can_be_loaded_and_says_what_it_is():
    som = SelfOrganizingMap(2, 3).fit(torch.rand(9, 4))
    fresh = SelfOrganizingMap(2, 3)
    kept = fresh.weight
    fresh.load_state_dict({"weight": torch.ones(2, 3, 1)})
    assert fresh.weight is kept
    fresh.load_state_dict(som.state_dict())
    assert torch.equal(fresh.weight, som.weight)
    assert repr(som) == (
        "SelfOrganizingMap(2, 3, 4, topology='rectangular', neighborhood='gaussian')"
    )
    assert "torus" in repr(SelfOrganizingMap(2, 3, torus=True))


# ------------------------------------------------------------------------------------- the corners
def test_the_u_matrix_far_from_the_origin_is_that_of_differences():
    som = SelfOrganizingMap(6, 6, 2)
    put(som, 1000 + 0.01 * drawn(6, 6, 2).float())
    near, units = grid_of.adjacent(6, 6, "rectangular", False), som.units.double()
    away = (units[:, None] - units).norm(dim=2)
    wanted = torch.stack([away[j][near[j]].mean() for j in range(36)]).view(6, 6)
    torch.testing.assert_close(som.u_matrix().double(), wanted, rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [(2, 5), (5, 1), (1, 2), (2, 1)])
def test_the_plane_of_a_small_hexagonal_grid_reaches_as_far_to_either_side(size):
    x = drawn(300, 2) * torch.tensor([5.0, 1.0], dtype=torch.float64)
    som = SelfOrganizingMap(*size, topology="hexagonal", dtype=torch.float64).initialize(x)
    place = (som.units - x.mean(0)) @ torch.linalg.eigh(x.T.cov())[1]
    torch.testing.assert_close(place.amin(0), -place.amax(0))
    assert place.amax().item() == pytest.approx(3**0.5 * x[:, 0].std(correction=0).item(), rel=0.01)


@pytest.mark.parametrize("torus", [False, True])
def test_equal_distances_on_a_hexagonal_grid_are_equal_to_the_last_digit(torus):
    """Else a bubble of radius 1 leaves out neighbours at 1 + 4e-16."""
    away = grid_of.distances(20, 20, "hexagonal", torus)
    quarters = (4 * away.square()).round()
    assert len(away.unique()) == len(quarters.unique())
    near = grid_of.adjacent(20, 20, "hexagonal", torus)
    assert torch.equal((away <= 1) & (away > 0), near)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_map_of_half_precision_answers_all_that_it_is_asked(dtype):
    x = drawn(60, 2).to(dtype)
    som = SelfOrganizingMap(4, 4, dtype=dtype).fit(x)
    wide = put(SelfOrganizingMap(4, 4, 2), som.units.float())
    assert som(x).dtype == dtype and torch.equal(som.bmu(x), wide.bmu(x.float()))
    for name in ("order_correlation", "topographic_product", "u_matrix"):
        got, wanted = getattr(som, name)(), getattr(wide, name)()
        torch.testing.assert_close(got.double(), wanted.double(), rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(som.energy(x, 1.0), wide.energy(x.float(), 1.0))


def test_a_grid_that_was_first_made_under_another_default_device_serves_all():
    grid_of.distances.cache_clear()
    with torch.device("meta"):
        assert SelfOrganizingMap(3, 7, 2).grid_distances.device.type == "meta"
    assert SelfOrganizingMap(3, 7).fit(torch.rand(9, 2)).grid_distances.shape == (21, 21)


def test_a_frozen_map_stays_frozen_and_no_graph_is_built():
    som = SelfOrganizingMap(2, 2)
    som.weight.requires_grad_(False)
    assert not som.fit(torch.rand(9, 3)).weight.requires_grad
    fresh = SelfOrganizingMap(2, 2)
    fresh.weight.requires_grad_(False)
    fresh.load_state_dict(som.state_dict())
    assert not fresh.weight.requires_grad
    assert not neural_gas(torch.rand(9, 2, requires_grad=True), 2).requires_grad
    assert neighborhood(torch.tensor([0.0, 1.0]), 1e200).tolist() == [1, 1]


def test_nothing_to_measure_and_numbers_that_are_too_large_are_refused_by_name():
    som, none = made(2, 2), torch.zeros(0, 2)
    for asked in (som.quantization_error, som.topographic_error, lambda x: som.energy(x, 1.0)):
        with refuses(ValueError, "x must not be empty"):
            asked(none)
    assert som.bmu(none).shape == (0,) and som.hits(none).sum() == 0
    with refuses(ValueError, "x must be finite, got 2 values"):
        SelfOrganizingMap(2, 2).fit(torch.full((1, 2), 1e300, dtype=torch.float64))
