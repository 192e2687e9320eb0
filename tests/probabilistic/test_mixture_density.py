"""Mixtures against torch.distributions, autograd, quadrature, brute force and closed forms."""

import math

import pytest
import torch
from scipy import integrate, optimize, stats
from torch import distributions as D
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from nnlib.probabilistic import mixture_density as module
from nnlib.probabilistic.mixture_density import (
    COVARIANCES,
    POSITIVE,
    Mixture,
    MixtureDensityNetwork,
    TwoLinkArm,
    naive_log_prob,
    nll_loss,
    output_count,
    winner_takes_all_loss,
)
from tests.support import Example, refuses

CLOSE = {"rtol": 1e-9, "atol": 1e-11}  # float64, a few hundred operations


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {
            "in_features": 3,
            "out_features": 2,
            "num_components": 5,
            "hidden_sizes": (7,),
            "covariance": "full",
        },
        (torch.randn(4, 3),),
    )


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(b: int = 3, k: int = 4, d: int = 2, *, full: bool = False, seed: int = 0) -> Mixture:
    means, std = 2 * drawn(b, k, d, seed=seed + 1), drawn(b, k, d, seed=seed + 2).exp()
    if full:
        below = drawn(b, k, d, d, seed=seed + 3).tril(-1)
        return Mixture(drawn(b, k, seed=seed), means, torch.diag_embed(std) + below)
    return Mixture(drawn(b, k, seed=seed), means, std)


def peer(mix: Mixture) -> D.MixtureSameFamily:
    if mix.full:
        parts = D.MultivariateNormal(mix.means, scale_tril=mix.scales)
    else:
        parts = D.Independent(D.Normal(mix.means, mix.scales), 1)
    return D.MixtureSameFamily(D.Categorical(logits=mix.logits), parts)


def network(covariance: str = "diagonal", seed: int = 0, **options) -> MixtureDensityNetwork:
    torch.manual_seed(seed)
    return MixtureDensityNetwork(
        3, 2, 4, (8,), covariance=covariance, dtype=torch.float64, **options
    )


def one_dimensional(weights, means, stds) -> Mixture:
    """Return one mixture over numbers, of plain lists."""
    logits = torch.tensor([weights], dtype=torch.float64).log()
    places = torch.tensor([means], dtype=torch.float64)[..., None]
    return Mixture(logits, places, torch.tensor([stds], dtype=torch.float64)[..., None])


HILLS = one_dimensional([0.5, 0.3, 0.2], [-2.0, 0.5, 3.0], [0.4, 1.0, 0.7])


def density(at: float, mix: Mixture = HILLS) -> float:
    return math.exp(mix.log_prob(torch.tensor([[at]], dtype=torch.float64)).item())


# ---------------------------------------------------------------------------------- the density
@pytest.mark.equation(
    "mixture-density-mixture", "mixture-density-component", "mixture-density-cholesky"
)
@pytest.mark.parametrize("full", [False, True])
def test_log_density_is_that_of_torch_distributions(full):
    mix, y = mixture(full=full), drawn(3, 2, seed=9)
    torch.testing.assert_close(mix.log_prob(y), peer(mix).log_prob(y), **CLOSE)


@pytest.mark.parametrize("full", [False, True])
def test_its_gradients_are_those_of_torch_distributions(full):
    y = drawn(3, 2, seed=9)
    sides = []
    for value in (lambda m: m.log_prob(y), lambda m: peer(m).log_prob(y)):
        mix = Mixture(*(part.requires_grad_() for part in mixture(full=full)))
        # of a Cholesky factor only the lower half counts
        grads = torch.autograd.grad(value(mix).sum(), mix)
        sides.append([*grads[:2], grads[2].tril() if full else grads[2]])
    torch.testing.assert_close(*sides, **CLOSE)


def test_the_density_integrates_to_one():
    assert integrate.quad(density, -20, 20, limit=200)[0] == pytest.approx(1, abs=1e-8)


@pytest.mark.equation("mixture-density-logsumexp", "mixture-density-loss")
def test_the_fast_form_is_the_readable_one():
    mix, y = mixture(), drawn(3, 2, seed=9)
    torch.testing.assert_close(mix.log_prob(y), naive_log_prob(mix, y), **CLOSE)
    assert nll_loss(mix, y).item() == pytest.approx(-naive_log_prob(mix, y).mean().item())


def test_far_from_every_component_the_logarithm_is_finite_where_the_naive_one_is_not():
    far = Mixture(torch.zeros(1, 2), torch.tensor([[[0.0], [1.0]]]), torch.ones(1, 2, 1))
    y = torch.tensor([[60.0]])
    assert naive_log_prob(far, y).item() == -math.inf
    exact = 59**2 / 2 + math.log(2) + 0.5 * math.log(2 * math.pi)  # the nearer one alone
    assert -far.log_prob(y).item() == pytest.approx(exact, rel=1e-6)
    assert exact == pytest.approx(1742.1, abs=0.05)


@pytest.mark.parametrize("full", [False, True])
def test_the_log_density_of_bfloat16_is_computed_in_float32(full):
    mix = Mixture(*(part.bfloat16() for part in mixture(full=full)))
    y = drawn(3, 2, seed=9).bfloat16()
    wanted = Mixture(*(part.double() for part in mix)).log_prob(y.double())
    got = mix.log_prob(y)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), wanted, rtol=1e-4, atol=1e-4)
    assert mix.sample(3).dtype == torch.bfloat16 or full


@pytest.mark.equation("mixture-density-heteroscedastic")
def test_one_component_is_the_gaussian_whose_variance_depends_on_the_input():
    mix, y = mixture(k=1, d=1), drawn(3, 1, seed=9)
    variance = mix.scales[:, 0].square()
    wanted = F.gaussian_nll_loss(mix.means[:, 0], y, variance, full=True, eps=1e-12)
    torch.testing.assert_close(nll_loss(mix, y), wanted, **CLOSE)


@pytest.mark.equation("mixture-density-constant")
def test_the_best_constant_gaussian_has_the_entropy_of_its_standard_deviation():
    y = drawn(500, 1, seed=3)
    std = y.std(correction=0)
    mix = Mixture(torch.zeros(500, 1).double(), y.mean().expand(500, 1, 1), std.expand(500, 1, 1))
    wanted = 0.5 * math.log(2 * math.pi * math.e * std.item() ** 2)
    assert nll_loss(mix, y).item() == pytest.approx(wanted, abs=1e-12)
    for factor in (0.9, 1.1):
        assert nll_loss(mix._replace(scales=factor * mix.scales), y) > wanted


@pytest.mark.equation("mixture-density-spike")
def test_a_component_on_a_target_raises_the_likelihood_without_bound():
    losses = []
    for std in (1e-2, 1e-4, 1e-6):
        spiked = one_dimensional([0.1, 0.9], [0.3, 0.0], [std, 1.0])
        value = -spiked.log_prob(torch.tensor([[0.3]], dtype=torch.float64)).item()
        assert value <= -math.log(0.1) + math.log(std) + 0.5 * math.log(2 * math.pi)
        losses.append(value)
    assert losses[0] - losses[1] == pytest.approx(math.log(100), abs=0.1)
    assert losses[2] < -10


# ------------------------------------------------------------------------------------- gradients
@pytest.mark.equation("mixture-density-responsibility")
def test_responsibilities_are_bayes_rule():
    mix, y = mixture(), drawn(3, 2, seed=9)
    joint = (
        mix.weights * D.Independent(D.Normal(mix.means, mix.scales), 1).log_prob(y[:, None]).exp()
    )
    torch.testing.assert_close(mix.responsibilities(y), joint / joint.sum(1, keepdim=True), **CLOSE)


@pytest.mark.equation(
    "mixture-density-gradient-weights",
    "mixture-density-gradient-means",
    "mixture-density-gradient-scales",
)
def test_the_three_gradients_are_those_of_autograd():
    mix, y = mixture(), drawn(3, 2, seed=9)
    logits, means = mix.logits.requires_grad_(), mix.means.requires_grad_()
    log_std = mix.scales.log().requires_grad_()
    loss = -Mixture(logits, means, log_std.exp()).log_prob(y).sum()
    got = torch.autograd.grad(loss, (logits, means, log_std))
    share, std = mix.responsibilities(y), mix.scales
    apart = mix.means - y[:, None]
    torch.testing.assert_close(got[0], mix.weights - share, **CLOSE)
    torch.testing.assert_close(got[1], share[..., None] * apart / std**2, **CLOSE)
    torch.testing.assert_close(got[2], share[..., None] * (1 - apart**2 / std**2), **CLOSE)


# --------------------------------------------------------------------------------------- moments
@pytest.mark.equation("mixture-density-moments", "mixture-density-variance")
@pytest.mark.parametrize("full", [False, True])
def test_mean_and_variance_are_those_of_torch_distributions(full):
    mix = mixture(full=full)
    torch.testing.assert_close(mix.mean, peer(mix).mean, **CLOSE)
    torch.testing.assert_close(mix.variance, peer(mix).variance, **CLOSE)


@pytest.mark.equation("mixture-density-variance")
@pytest.mark.parametrize("full", [False, True])
def test_within_and_between_add_up_to_the_covariance_of_samples(full):
    mix = mixture(b=1, full=full)
    spread = mix.spread()
    samples = peer(mix).sample((200_000,))[:, 0]
    whole = spread.within[0] + spread.between[0]
    torch.testing.assert_close(whole, samples.T.cov(), rtol=0.03, atol=0.05)
    torch.testing.assert_close(whole.diagonal()[None], mix.variance, **CLOSE)
    same = mix._replace(means=mix.means[:, :1].expand_as(mix.means))
    assert same.spread().between.abs().max() < 1e-12, "equal means differ by nothing"


@pytest.mark.equation("mixture-density-mean")
def test_the_mean_has_the_least_expected_squared_error():
    def risk(answer):
        return integrate.quad(lambda y: (y - answer) ** 2 * density(y), -20, 20, limit=200)[0]

    best = optimize.minimize_scalar(risk, bounds=(-5, 5), method="bounded").x
    assert best == pytest.approx(HILLS.mean.item(), abs=1e-4)
    assert risk(best) == pytest.approx(HILLS.variance.item(), rel=1e-6)


def test_standard_deviations_of_a_factor_are_the_roots_of_its_covariances_diagonal():
    mix = mixture(full=True)
    covariance = mix.scales @ mix.scales.mT
    torch.testing.assert_close(mix.stds, covariance.diagonal(dim1=-2, dim2=-1).sqrt(), **CLOSE)


# ----------------------------------------------------------------------------------------- modes
@pytest.mark.equation("mixture-density-modes")
def test_the_mode_is_the_highest_point_of_a_fine_grid():
    grid = torch.linspace(-6, 6, 60_001, dtype=torch.float64)
    height = Mixture(*(p.expand(len(grid), *p.shape[1:]) for p in HILLS)).log_prob(grid[:, None])
    assert HILLS.mode(500).item() == pytest.approx(grid[height.argmax()].item(), abs=2e-4)
    ends, told = HILLS.modes(500)
    peaks = (height[1:-1] > height[:-2]) & (height[1:-1] > height[2:])
    assert sorted(ends.flatten().tolist()) == pytest.approx(grid[1:-1][peaks].tolist(), abs=2e-4)
    assert told.max().item() == pytest.approx(height.max().item(), abs=1e-7)


@pytest.mark.equation("mixture-density-modes")
@pytest.mark.parametrize("full", [False, True])
def test_at_a_mode_the_gradient_vanishes_and_no_step_goes_down(full):
    mix = mixture(full=full)
    heights = torch.stack([mix.modes(steps)[1] for steps in (0, 1, 2, 5, 20, 2000)])
    assert (heights.diff(dim=0) >= -1e-10).all()
    y = mix.mode(2000).requires_grad_()
    (slope,) = torch.autograd.grad(mix.log_prob(y).sum(), y)
    assert slope.abs().max() < 1e-5
    assert (mix.log_prob(y) >= heights[-1].max(1).values - 1e-9).all()


def test_a_climb_takes_as_many_steps_as_it_is_told():
    mix = mixture()
    assert torch.equal(mix.modes(0)[0], mix.means)
    start = drawn(3, 1, 2, seed=9)
    pull = mix.responsibilities(start[:, 0])[..., None] / mix.scales**2
    once = (pull * mix.means).sum(1) / pull.sum(1)
    torch.testing.assert_close(mix.ascend(start, 1)[:, 0], once, **CLOSE)


def test_the_heaviest_component_need_not_hold_the_mode():
    broad = one_dimensional([0.6, 0.4], [0.0, 5.0], [2.0, 0.2])
    assert broad.weights.argmax() == 0
    assert broad.mode().item() == pytest.approx(5, abs=0.01)


# --------------------------------------------------------------------------------------- samples
@pytest.mark.parametrize("full", [False, True])
def test_samples_have_the_moments_of_the_mixture(full):
    mix = mixture(b=2, full=full)
    samples = mix.sample(200_000, generator=torch.Generator().manual_seed(0))
    assert samples.shape == (200_000, 2, 2)
    torch.testing.assert_close(samples.mean(0), mix.mean, rtol=0.02, atol=0.03)
    spread = mix.spread()
    for row in range(2):
        torch.testing.assert_close(
            samples[:, row].T.cov(), (spread.within + spread.between)[row], rtol=0.03, atol=0.06
        )


def test_samples_follow_the_distribution_function():
    draws = HILLS.sample(20_000, generator=torch.Generator().manual_seed(0))[:, 0, 0]
    assert stats.kstest(draws, lambda y: cumulative(torch.as_tensor(y))).pvalue > 0.01


def cumulative(y: torch.Tensor):
    many = Mixture(*(p.expand(len(y), *p.shape[1:]) for p in HILLS))
    return many.cdf(y[:, None])[:, 0].numpy()


@pytest.mark.equation("mixture-density-temperature")
def test_temperature_scales_logits_and_variances():
    warm = mixture(b=1)
    draws = warm.sample(100_000, temperature=0.3, generator=torch.Generator().manual_seed(0))
    cool = Mixture(warm.logits / 0.3, warm.means, warm.scales * 0.3**0.5)
    torch.testing.assert_close(draws.mean(0), cool.mean, rtol=0.02, atol=0.02)
    torch.testing.assert_close(draws.var(0), cool.variance, rtol=0.03, atol=0.01)


def test_the_same_generator_draws_the_same_samples():
    mix = mixture()
    first, again, other = (
        mix.sample(5, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# --------------------------------------------------------------------------- how good a density is
@pytest.mark.equation("mixture-density-pit")
def test_the_distribution_function_is_the_integral_of_the_density():
    for at in (-2.3, 0.0, 2.5):
        wanted = integrate.quad(density, -20, at, limit=200)[0]
        got = HILLS.cdf(torch.tensor([[at]], dtype=torch.float64)).item()
        assert got == pytest.approx(wanted, abs=1e-8)


@pytest.mark.equation("mixture-density-crps")
def test_crps_is_the_integral_of_the_squared_distance_of_distribution_functions():
    grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64)
    held = torch.from_numpy(cumulative(grid))
    for y in (-2.0, 0.1, 4.0):
        wanted = torch.trapezoid((held - (grid >= y).double()).square(), grid).item()
        got = HILLS.crps(torch.tensor([[y]], dtype=torch.float64)).item()
        assert got == pytest.approx(wanted, abs=1e-3)


def test_crps_of_two_numbers_is_that_of_each():
    mix, y = mixture(full=True), drawn(3, 2, seed=9)
    for axis in range(2):
        alone = Mixture(mix.logits, mix.means[..., axis:][..., :1], mix.stds[..., axis:][..., :1])
        torch.testing.assert_close(
            alone.crps(y[:, axis:][:, :1])[:, 0], mix.crps(y)[:, axis], **CLOSE
        )
        torch.testing.assert_close(
            alone.cdf(y[:, axis:][:, :1])[:, 0], mix.cdf(y)[:, axis], **CLOSE
        )


# ------------------------------------------------------------------------------------ the network
@pytest.mark.equation("mixture-density-weights", "mixture-density-scales")
@pytest.mark.parametrize("positive", POSITIVE)
def test_the_head_is_a_softmax_a_linear_map_and_positive_numbers(positive):
    model, x = network(positive=positive, min_std=0.01), drawn(6, 3)
    z = model.head(torch.tanh(model.hidden[0](x)))
    mix = model(x)
    torch.testing.assert_close(mix.weights, z[:, :4].exp() / z[:, :4].exp().sum(1, keepdim=True))
    assert torch.equal(mix.means.flatten(1), z[:, 4:12])
    raw = z[:, 12:]
    wanted = {
        "exp": raw.exp(),
        "softplus": (1 + raw.exp()).log(),
        "elu": torch.where(raw > 0, raw + 1, raw.exp()),
    }[positive]
    torch.testing.assert_close(mix.scales.flatten(1), 0.01 + wanted, **CLOSE)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_the_network_answers_as_its_mixture_does(covariance):
    model, x, y = network(covariance), drawn(6, 3), drawn(6, 2, seed=5)
    mix = model(x)
    torch.testing.assert_close(model.log_prob(x, y), peer(mix).log_prob(y), **CLOSE)
    assert torch.equal(model.mean(x), mix.mean)
    assert torch.equal(model.mode(x, 7), mix.mode(7))
    one, two = (
        made.sample(*given, 3, temperature=0.5, generator=torch.Generator().manual_seed(0))
        for made, given in ((model, (x,)), (mix, ()))
    )
    assert torch.equal(one, two)


def test_spherical_components_are_as_wide_along_every_axis():
    scales = network("spherical")(drawn(6, 3)).scales
    assert torch.equal(scales[..., 0], scales[..., 1])
    assert not torch.equal(scales[:, 0], scales[:, 1])


def test_a_factor_is_lower_triangular_with_a_positive_diagonal_and_every_place_its_own_number():
    model = MixtureDensityNetwork(1, 3, 2, (4,), covariance="full", min_std=0.0)
    factors = model(torch.randn(5, 1)).scales
    assert (factors.triu(1) == 0).all()
    assert (factors.diagonal(dim1=-2, dim2=-1) > 0).all()
    lower = factors[0, 0][torch.tril_indices(3, 3).unbind()]
    assert len(lower.unique()) == 6


@pytest.mark.equation("mixture-density-outputs")
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_last_layer_has_as_many_numbers_as_its_mixture_needs(covariance, d):
    model = MixtureDensityNetwork(3, d, 5, (), covariance=covariance)
    free = {"spherical": 1, "diagonal": d, "full": d * (d + 1) / 2}[covariance]
    assert output_count(5, d, covariance) == 5 * (1 + d + free) == model.head.out_features
    assert model(torch.zeros(2, 3)).means.shape == (2, 5, d)


def test_no_standard_deviation_falls_below_the_floor():
    for positive in POSITIVE:
        model = network(positive=positive, min_std=0.05)
        with torch.no_grad():
            model.head.bias.fill_(-1e4)
        mix = model(drawn(6, 3))
        assert (mix.scales >= 0.05).all()
        assert mix.log_prob(mix.means[:, 0]).isfinite().all()


def test_components_begin_at_the_clusters_of_the_targets():
    lumps = torch.tensor([[-3.0, 0.0], [0.0, 4.0], [5.0, -2.0], [0.0, -5.0]]).double()
    y = (lumps[:, None] + 0.3 * drawn(4, 50, 2)).flatten(0, 1)
    y = torch.cat([y, y[:50]])  # the first one counts twice
    for positive in POSITIVE:
        for covariance in COVARIANCES:
            model = network(covariance, positive=positive)
            with torch.no_grad():
                model.head.weight.zero_()
            model.start_from(y, steps=20, generator=torch.Generator().manual_seed(3))
            mix = model(torch.zeros(1, 3).double())
            order = torch.cdist(lumps, mix.means[0]).argmin(1)
            assert sorted(order.tolist()) == [0, 1, 2, 3], "one for each"
            torch.testing.assert_close(mix.means[0, order], lumps, rtol=0, atol=0.15)
            torch.testing.assert_close(
                mix.weights[0, order],
                torch.tensor([0.4, 0.2, 0.2, 0.2], dtype=torch.float64),
                **CLOSE,
            )
            torch.testing.assert_close(mix.stds, torch.full_like(mix.stds, 0.3), rtol=0.2, atol=0)


@pytest.mark.parametrize("positive", POSITIVE)
@pytest.mark.parametrize("size", [0.3, 3.0])
def test_one_component_begins_as_the_gaussian_of_the_targets(positive, size):
    y = 1 + size * drawn(50, 2)
    model = MixtureDensityNetwork(3, 2, 1, (), positive=positive, dtype=torch.float64)
    with torch.no_grad():
        model.head.weight.zero_()
    mix = model.start_from(y)(torch.zeros(1, 3).double())
    torch.testing.assert_close(mix.means[0], y.mean(0, keepdim=True), **CLOSE)
    torch.testing.assert_close(mix.stds[0], y.std(0, correction=0)[None], **CLOSE)


def test_a_cluster_of_two_is_their_mean_and_one_alone_is_as_wide_as_all_targets():
    y = torch.tensor([[0.0, 0.0], [0.0, 1.0], [30.0, 30.0], [-30.0, 20.0], [25.0, -30.0]]).double()
    model = network()
    with torch.no_grad():
        model.head.weight.zero_()
    # which of the points the first centres are is drawn; in this draw, one of the first two
    mix = model.start_from(y, generator=torch.Generator().manual_seed(1))(
        torch.zeros(1, 3).double()
    )
    pair = (mix.means[0] - torch.tensor([0.0, 0.5]).double()).norm(dim=1) < 1e-9
    assert pair.sum() == 1
    whole = y.std(0, correction=0).expand(3, 2)
    torch.testing.assert_close(mix.stds[0, ~pair], whole, **CLOSE)


def test_a_start_shrinks_the_last_layers_weights_and_no_other():
    model, same = network(), network()
    assert model.start_from(drawn(20, 2)) is model
    torch.testing.assert_close(model.head.weight, 0.1 * same.head.weight, **CLOSE)
    assert torch.equal(model.hidden[0].weight, same.hidden[0].weight)


def test_an_empty_cluster_keeps_its_place_and_is_as_wide_as_all_targets():
    y = torch.tensor([[0.0, 1.0]] * 3 + [[1.0, 0.0]] * 3).double()
    model = network()
    with torch.no_grad():
        model.head.weight.zero_()
    mix = model.start_from(y, generator=torch.Generator().manual_seed(0))(
        torch.zeros(1, 3).double()
    )
    assert all(part.isfinite().all() for part in mix)
    # of four centres, two or more are copies that no target is nearest to
    share = mix.weights[0].sort().values
    torch.testing.assert_close(share[:2], torch.tensor([1 / 8, 1 / 8]).double(), **CLOSE)
    widest = mix.stds[0].sort(0).values[-2:]
    torch.testing.assert_close(widest, torch.full((2, 2), 0.5).double(), **CLOSE)


def test_it_learns_both_branches_where_squared_error_learns_neither():
    torch.manual_seed(0)
    x = torch.rand(400, 1)
    y = torch.where(torch.rand(400, 1) < 0.5, 1.0, -1.0) * (1 + x) + 0.05 * torch.randn(400, 1)
    model = MixtureDensityNetwork(1, 1, 2, (16,)).start_from(y)
    adam = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        adam.zero_grad()
        loss = -model.log_prob(x, y).mean()
        loss.backward()
        adam.step()
    at = torch.tensor([[0.2], [0.8]])
    assert model.mean(at).abs().max() < 0.4
    ends = model(at).modes()[0][..., 0].sort(-1).values
    torch.testing.assert_close(ends, torch.tensor([[-1.2, 1.2], [-1.8, 1.8]]), rtol=0, atol=0.1)
    assert loss < math.log(2) + math.log(0.05) + 1.5 + 0.3, "near the entropy of the data"


def test_networks_of_several_seeds_are_evaluated_as_one():
    models = [network("full", seed=seed) for seed in range(3)]
    stacked = stack_module_state(models)
    x, y = drawn(6, 3), drawn(6, 2, seed=5)

    def log_prob(parameters, buffers):
        return functional_call(models[0], (parameters, buffers), (x,)).log_prob(y)

    got = vmap(log_prob)(*stacked)
    torch.testing.assert_close(got, torch.stack([m.log_prob(x, y) for m in models]), **CLOSE)


def test_the_state_holds_weights_and_nothing_else():
    assert set(network("full").state_dict()) == {
        "hidden.0.weight", "hidden.0.bias", "head.weight", "head.bias",
    }  # fmt: skip


# ----------------------------------------------------------------------------- winner takes all
@pytest.mark.equation("mixture-density-winners")
@pytest.mark.parametrize("winners", [1, 2, 4])
def test_winners_are_the_nearest_means(winners):
    mix, y = mixture(), drawn(3, 2, seed=9)
    wanted = []
    for row in range(3):
        far = sorted(((y[row] - mean) ** 2).sum().item() for mean in mix.means[row])
        wanted.append(sum(far[:winners]) / winners)
    assert winner_takes_all_loss(mix, y, winners).item() == pytest.approx(sum(wanted) / 3)


# --------------------------------------------------------------------------------------- the arm
@pytest.mark.equation("mixture-density-arm")
def test_the_hand_is_at_the_end_of_two_links():
    arm, angles = TwoLinkArm(1.0, 0.8), drawn(20, 2)
    along = torch.polar(torch.ones(20).double(), angles[:, 0])
    hand = along + torch.polar(torch.full((20,), 0.8, dtype=torch.float64), angles.sum(1))
    torch.testing.assert_close(arm.hand(angles), torch.view_as_real(hand), **CLOSE)
    torch.testing.assert_close(
        (arm.hand(angles) - arm.elbow(angles)).norm(dim=1), 0.8 + 0 * angles[:, 0]
    )
    torch.testing.assert_close(arm.elbow(angles), torch.view_as_real(along), **CLOSE)


@pytest.mark.equation("mixture-density-arm-inverse")
def test_both_poses_reach_the_point_and_bend_to_opposite_sides():
    arm = TwoLinkArm(1.0, 0.8)
    hands, angles = arm.babble(200, generator=torch.Generator().manual_seed(0))
    poses = arm.poses(hands.double())
    torch.testing.assert_close(
        arm.hand(poses), hands.double()[:, None].expand(-1, 2, -1), rtol=0, atol=1e-6
    )
    assert (poses[:, 0, 1] >= 0).all() and torch.equal(poses[:, 0, 1], -poses[:, 1, 1])
    turns = (poses - angles[:, None]) / (2 * math.pi)  # a whole turn is the same pose
    nearest = (turns - turns.round()).abs().amax(-1).amin(-1)
    assert nearest.max() < 2e-3, "one of them is the pose that was drawn"


def test_the_mean_of_both_poses_is_a_stretched_arm_that_reaches_too_far():
    arm, point = TwoLinkArm(1.0, 0.8), torch.tensor([[0.6, 0.9]])
    between = arm.poses(point).mean(1)
    assert between[0, 1].abs() < 1e-6
    assert arm.hand(between).norm().item() == pytest.approx(1.8, abs=1e-6)
    assert arm.poses(torch.tensor([[2.0, 0.0]])).isnan().any(), "out of reach"


def test_babbling_turns_over_half_a_circle_and_bends_both_ways():
    _, angles = TwoLinkArm().babble(5000, most=2.0, generator=torch.Generator().manual_seed(0))
    low, high = angles.aminmax(dim=0)
    torch.testing.assert_close(low, torch.tensor([0.0, -2.0]), rtol=0, atol=0.02)
    torch.testing.assert_close(high, torch.tensor([math.pi, 2.0]), rtol=0, atol=0.02)


# ------------------------------------------------------------------------------------- bad input
def test_bad_arguments_are_named():
    with refuses(ValueError, "num_components=0 must be an integer ≥ 1"):
        MixtureDensityNetwork(1, 1, 0)
    with refuses(ValueError, "min_std=-0.1 must be a finite number ≥ 0"):
        MixtureDensityNetwork(1, 1, min_std=-0.1)
    with refuses(ValueError, "covariance='round' must be one of"):
        MixtureDensityNetwork(1, 1, covariance="round")
    with refuses(ValueError, "positive='square' must be one of"):
        MixtureDensityNetwork(1, 1, positive="square")
    with refuses(TypeError, "hidden_sizes=8 must be a sequence of integers"):
        MixtureDensityNetwork(1, 1, hidden_sizes=8)
    with refuses(ValueError, "hidden_sizes[1]=0 must be an integer ≥ 1"):
        MixtureDensityNetwork(1, 1, hidden_sizes=(4, 0))


def test_bad_input_is_named():
    model, x = network(), drawn(6, 3)
    with refuses(ValueError, "x must have shape (b, 3), got (6, 2)"):
        model(x[:, :2])
    for asked in (model(x).log_prob, model(x).cdf, model(x).crps):
        with refuses(ValueError, "y must have shape (6, 2), got (5, 2)"):
            asked(drawn(5, 2))
    with refuses(ValueError, "num_samples=0 must be an integer ≥ 1"):
        model.sample(x, 0)
    with refuses(ValueError, "temperature=0 must be a finite number > 0"):
        model.sample(x, temperature=0)
    with refuses(ValueError, "y has 3 rows, num_components=4 takes as many or more"):
        model.start_from(drawn(3, 2))
    with refuses(ValueError, "y must be finite"):
        model.start_from(torch.full((5, 2), math.nan).double())
    with refuses(ValueError, "winners=5 must be at most 4, the components"):
        winner_takes_all_loss(model(x), drawn(6, 2), 5)
    with refuses(ValueError, "fore=0 must be a finite number > 0"):
        TwoLinkArm(1.0, 0)


def test_what_is_public_is_documented():
    assert set(module.__all__) >= {"MixtureDensityNetwork", "Mixture"}
    assert all(getattr(module, name).__doc__ for name in module.__all__)


# ------------------------------------------------------------------------------------- the corners
@pytest.mark.parametrize("covariance", COVARIANCES)
@pytest.mark.parametrize("positive", POSITIVE)
@pytest.mark.parametrize("bias", [-200.0, -20.0])
def test_without_a_floor_a_deviation_that_vanishes_leaves_loss_and_gradient_finite(
    covariance, positive, bias
):
    torch.manual_seed(0)
    model = MixtureDensityNetwork(3, 3, 4, (8,), covariance=covariance, positive=positive,
                                  min_std=0.0)  # fmt: skip
    with torch.no_grad():
        model.head.bias[16:] = bias
    mix = model(torch.randn(6, 3))
    loss = nll_loss(mix, torch.randn(6, 3))
    loss.backward()
    assert torch.isfinite(loss) and (mix.stds > 0).all()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert mix.log_prob(mix.means[:, 0]).isfinite().all()


def test_a_deviation_by_elu_is_the_exponential_also_where_it_is_small():
    z = torch.tensor([-18.0, -30.0])
    torch.testing.assert_close(POSITIVE["elu"](z), z.exp(), rtol=1e-6, atol=0)


def test_a_target_beyond_all_reach_costs_a_finite_loss_with_a_finite_gradient():
    means = torch.zeros(1, 2, 1, requires_grad=True)
    loss = nll_loss(Mixture(torch.zeros(1, 2), means, torch.full((1, 2, 1), 1e-3)),
                    torch.full((1, 1), 1e20))  # fmt: skip
    loss.backward()
    assert loss.isfinite() and means.grad.isfinite().all() and loss > 1e30


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("full", [False, True])
def test_a_mode_is_found_however_narrow_and_in_half_precision(dtype, full):
    """A precision of 1e6 is beyond float16, one of 1e40 beyond float32."""
    std = 1e-3 if dtype != torch.float32 or full else 1e-20
    scales = torch.full((1, 2, 1, 1) if full else (1, 2, 1), std, dtype=dtype)
    means = torch.tensor([[[1.0], [2.0]]], dtype=dtype)
    mode = Mixture(torch.tensor([[1.0, 0.0]], dtype=dtype), means, scales).mode()
    assert mode.dtype == dtype and mode.item() == 1


def test_crps_of_a_point_is_the_distance_and_small_shifts_do_not_cancel():
    point = Mixture(torch.zeros(1, 2), torch.tensor([[[0.0], [0.0]]]), torch.full((1, 2, 1), 1e-24))
    assert point.crps(torch.tensor([[3.0]])).item() == pytest.approx(3)
    assert point.crps(torch.zeros(1, 1)).item() == pytest.approx(0, abs=1e-20)


def test_a_temperature_next_to_zero_draws_the_likeliest_component():
    mix = Mixture(torch.tensor([[0.0, 1.0]]), torch.tensor([[[0.0], [5.0]]]), torch.ones(1, 2, 1))
    assert (mix.sample(9, temperature=1e-40) == 5).all()


def test_a_network_is_built_on_the_default_device():
    with torch.device("meta"):
        model = MixtureDensityNetwork(3, 2, 4, covariance="full")
        assert model(torch.zeros(5, 3)).scales.shape == (5, 4, 2, 2)
    assert model.below.device.type == "meta"


def test_components_begin_in_the_unit_of_the_targets():
    model = MixtureDensityNetwork(1, 1, 2, (), min_std=0.0, dtype=torch.float64)
    y = 1e-6 * torch.cat([drawn(50, 1) - 9, drawn(50, 1, seed=1) + 9])
    stds = model.start_from(y, generator=torch.Generator().manual_seed(1))(
        torch.zeros(1, 1).double()
    ).stds
    torch.testing.assert_close(stds, torch.full_like(stds, 1e-6), rtol=0.3, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_stretched_and_a_folded_arm_reach_their_own_hands(dtype):
    arm, turn = TwoLinkArm(1.0, 0.8), torch.linspace(0, 3, 200, dtype=dtype)
    for bend in (0.0, math.pi):
        hands = arm.hand(torch.stack([turn, torch.full_like(turn, bend)], 1))
        back = arm.hand(arm.poses(hands))
        torch.testing.assert_close(back, hands[:, None].expand(-1, 2, -1), rtol=0, atol=1e-5)
    beyond = torch.tensor([[1.8001, 0.0], [0.1999, 0.0]], dtype=dtype)
    assert arm.poses(beyond).isnan().all(2).all(1).all()


def test_what_used_to_pass_or_to_break_without_a_name_is_refused():
    mix = mixture()
    with refuses(TypeError, "mixture must be a Mixture, got Tensor"):
        nll_loss(drawn(3, 2), drawn(3, 2))
    with refuses(ValueError, "y must not be empty"):
        nll_loss(Mixture(*(part[:0] for part in mix)), drawn(0, 2))
    with refuses(ValueError, "y must not be empty"):
        winner_takes_all_loss(Mixture(*(part[:0] for part in mix)), drawn(0, 2))
    for asked in (TwoLinkArm().hand, TwoLinkArm().elbow):
        with refuses(ValueError, "angles must have 2 numbers as its last axis, got (4, 3)"):
            asked(drawn(4, 3))
    with refuses(ValueError, "points must have 2 numbers"):
        TwoLinkArm().poses(drawn(4, 3))
