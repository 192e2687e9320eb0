"""Energies against grids, Gaussian closed forms, automatic differentiation and scikit-learn."""

import math

import pytest
import torch
from torch import nn

from nnlib.energy.energy_based import (
    EnergyModel,
    GridDensity,
    PersistentChains,
    contrastive_divergence_loss,
    denoising_score_matching_loss,
    detection_auc,
    explicit_score_matching_loss,
    joint_energy,
    langevin,
    margin_loss,
    metropolis_langevin,
    noise_contrastive_loss,
    score,
    score_matching_loss,
    sliced_score_matching_loss,
)
from nnlib.generative.autoencoder import optimal_denoiser, score_from_denoiser
from nnlib.generative.diffusion import GaussianDiffusion, GaussianMixture
from tests.support import Example, Peer, refuses

metrics = Peer("sklearn.metrics")
DOUBLE = torch.float64
BOX = ((-7.0, -7.0), (7.0, 7.0))


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"num_features": 3, "hidden_size": 5, "num_layers": 2, "bowl": 2.0}
    return Example(arguments, (torch.randn(4, 3),))


def tilted(x):
    """An energy of two dimensions with two valleys, that no closed form normalises."""
    return (x[:, 0] ** 2 - 2) ** 2 / 4 + 0.5 * (x[:, 1] - 0.3 * x[:, 0]) ** 2


def normal(variance):
    return lambda x: x.square().sum(1) / (2 * variance)


def network(seed=0, **options):
    torch.manual_seed(seed)
    return EnergyModel(2, 7, 2, bowl=1.5, dtype=DOUBLE, **options)


# -------------------------------------------------------------------------------------- the energy
@pytest.mark.equation("energy-based-network")
def test_the_energy_is_the_networks_output_over_a_bowl():
    model = network()
    x = torch.randn(6, 2, dtype=DOUBLE)
    first, second, last = model.layers
    hidden = nn.functional.silu(second(nn.functional.silu(first(x))))
    by_hand = last(hidden).squeeze(1) + (x**2).sum(1) / (2 * 1.5**2)
    torch.testing.assert_close(model(x), by_hand)
    model.bowl = None
    torch.testing.assert_close(model(x), last(hidden).squeeze(1))


@pytest.mark.equation("energy-based-density", "energy-based-grid")
def test_the_grids_density_is_that_of_a_normal_distribution():
    covariance = torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=DOUBLE)
    exact = torch.distributions.MultivariateNormal(torch.zeros(2, dtype=DOUBLE), covariance)
    precision = covariance.inverse()
    grid = GridDensity(lambda x: 0.5 * (x @ precision * x).sum(1), *BOX, 150, like=precision)
    x = torch.randn(20, 2, dtype=DOUBLE)
    torch.testing.assert_close(grid.log_prob(x), exact.log_prob(x), rtol=0, atol=1e-9)
    z = 2 * math.pi * covariance.det().sqrt()
    torch.testing.assert_close(grid.log_partition.exp(), z)
    torch.testing.assert_close(grid.mean(grid.x[:, :, None] * grid.x[:, None]), covariance)
    assert grid.picture().sum().item() * grid.cell == pytest.approx(1, abs=1e-12)


@pytest.mark.equation("energy-based-temperature")
def test_temperature_widens_a_normal_distribution():
    """A bowl of variance 1 at temperature T is a normal distribution of variance T."""
    for heat in (0.25, 2.0):
        grid = GridDensity(normal(1.0), (-12.0,), (12.0,), 2000, temperature=heat)
        assert grid.mean(grid.x[:, 0] ** 2).item() == pytest.approx(heat, rel=1e-4)
        x = torch.tensor([[0.7]])
        by_formula = torch.distributions.Normal(0.0, math.sqrt(heat)).log_prob(x[:, 0])
        torch.testing.assert_close(grid.log_prob(x), by_formula, rtol=0, atol=1e-4)


def test_a_grid_draws_from_its_density():
    grid = GridDensity(tilted, *BOX, 150)
    drawn = grid.sample(20_000, torch.Generator().manual_seed(0))
    error = grid.mean(grid.x**2) - (drawn**2).mean(0)
    assert (error.abs() < 4 * (drawn**2).std(0) / len(drawn) ** 0.5).all()


@pytest.mark.equation("energy-based-score")
def test_the_score_is_the_slope_of_the_log_density_whatever_z_is():
    model, step = network(), 1e-5
    grid = GridDensity(model, *BOX, 80, like=torch.empty(0, dtype=DOUBLE))
    x = torch.randn(5, 2, dtype=DOUBLE)
    for axis in range(2):
        shift = torch.zeros(2, dtype=DOUBLE)
        shift[axis] = step
        by_differences = (grid.log_prob(x + shift) - grid.log_prob(x - shift)) / (2 * step)
        torch.testing.assert_close(
            score(model, x)[:, axis], by_differences.detach(), rtol=1e-6, atol=1e-7
        )
    raised = score(lambda x: model(x) + 17, x)
    torch.testing.assert_close(raised, score(model, x), rtol=0, atol=0)


# ------------------------------------------------------------------------------------ the gradient
@pytest.mark.equation("energy-based-gradient", "energy-based-nll")
def test_the_likelihoods_gradient_has_two_forces():
    """That of the exact likelihood on a grid, by autograd, is data less model."""
    model = network()
    like = torch.empty(0, dtype=DOUBLE)
    data = torch.randn(30, 2, dtype=DOUBLE)
    weights = list(model.parameters())
    grid = GridDensity(model, *BOX, 80, like=like)
    exact = torch.autograd.grad(-grid.log_prob(data).mean(), weights)
    probability = (grid.log_density.exp() * grid.cell).detach()
    forces = model(data).mean() - (probability * model(grid.x)).sum()
    two = torch.autograd.grad(forces, weights)
    for one, other in zip(exact, two, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.equation("energy-based-cd")
def test_with_the_models_own_samples_contrastive_divergence_has_the_likelihoods_gradient():
    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.precision = nn.Parameter(torch.tensor(2.0, dtype=DOUBLE))

        def forward(self, x):
            return 0.5 * self.precision * x.square().sum(1)

    bowl = Bowl()
    data = torch.tensor([[1.0], [-3.0]], dtype=DOUBLE)
    own = torch.randn(200_000, 1, dtype=DOUBLE) / math.sqrt(2)
    loss = contrastive_divergence_loss(bowl, data, own)
    (slope,) = torch.autograd.grad(loss, bowl.precision)
    # −log p = a x²/2 − ½ log a, so its derivative is mean x²/2 − 1/(2a)
    assert slope.item() == pytest.approx(0.5 * 5 - 1 / (2 * 2), abs=0.005)
    assert loss.item() == pytest.approx(bowl(data).mean().item() - bowl(own).mean().item())


def test_contrastive_divergence_lets_no_gradient_through_its_samples():
    model = network()
    x = torch.randn(4, 2, dtype=DOUBLE)
    samples = torch.randn(4, 2, dtype=DOUBLE, requires_grad=True)
    contrastive_divergence_loss(model, x, samples).backward()
    assert samples.grad is None


def test_the_penalty_is_the_mean_of_squared_energies():
    model = network()
    x, y = torch.randn(2, 5, 2, dtype=DOUBLE)
    apart = contrastive_divergence_loss(model, x, y, 0.3) - contrastive_divergence_loss(model, x, y)
    wanted = 0.3 * (model(x).square().mean() + model(y).square().mean())
    torch.testing.assert_close(apart, wanted)


# ---------------------------------------------------------------------------------- score matching
@pytest.fixture(scope="module")
def known():
    """A mixture with many examples, their true scores, and two models of it."""
    means = torch.tensor([[-1.0, 0.5], [1.2, -0.4]], dtype=DOUBLE)
    truth = GaussianMixture(means, std=0.7)
    x = truth.sample(40_000, torch.Generator().manual_seed(0))
    return x, truth.score(x), [network(seed) for seed in (1, 2)]


@pytest.mark.equation("energy-based-fisher", "energy-based-score-matching")
def test_implicit_score_matching_is_the_explicit_one_up_to_a_constant(known):
    """The constant is half the mean squared score of the data, whatever the model is."""
    x, true, models = known
    apart, errors = [], []
    for model in models:
        apart.append(explicit_score_matching_loss(model, x, true) - score_matching_loss(model, x))
        s = score(model, x)
        cross = (-(s * true).sum(1) - _traces(model, x)).detach()
        errors.append(cross.std().item() / len(x) ** 0.5)
    wanted = 0.5 * true.square().sum(1).mean()
    for gap, error in zip(apart, errors, strict=True):
        assert abs(gap.item() - wanted.item()) < 4 * error


def _traces(model, x):
    def total(row):
        return -model(row[None])[0]

    hessian = torch.func.vmap(torch.func.hessian(total))(x)
    return hessian.diagonal(dim1=1, dim2=2).sum(1)


@pytest.mark.equation("energy-based-score-matching")
def test_the_implicit_form_is_that_of_autograds_hessian():
    model = network(3)
    x = torch.randn(9, 2, dtype=DOUBLE)
    by_hessian = 0.5 * score(model, x).square().sum(1) + _traces(model, x)
    torch.testing.assert_close(score_matching_loss(model, x), by_hessian.mean())


@pytest.mark.equation("energy-based-gaussian")
@pytest.mark.parametrize("variance", [0.5, 1.0, 2.0])
def test_of_a_normal_model_score_matching_has_a_closed_form(variance):
    x = torch.randn(64, 1, dtype=DOUBLE)
    x = (x - x.mean()) / x.std(unbiased=False)
    value = score_matching_loss(normal(variance), x).item()
    assert value == pytest.approx(1 / (2 * variance**2) - 1 / variance)
    assert value >= -0.5


def test_gradients_of_the_implicit_form_reach_the_weights_as_differences_say():
    model = network(4)
    x = torch.randn(5, 2, dtype=DOUBLE)
    weight = model.layers[0].weight
    (slope,) = torch.autograd.grad(score_matching_loss(model, x), weight)
    values = []
    for step in (1e-6, -1e-6):
        with torch.no_grad():
            weight[0, 1] += step
            values.append(score_matching_loss(model, x).item())
            weight[0, 1] -= step
    assert slope[0, 1].item() == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


@pytest.mark.equation("energy-based-sliced")
def test_sliced_score_matching_has_the_implicit_one_as_its_mean():
    model = network(5)
    x = torch.randn(4, 2, dtype=DOUBLE)
    # all four signs of two dimensions, each equally probable
    s_half = 0.5 * score(model, x).square().sum(1)
    total = 0.0
    for v in torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=DOUBLE):
        turned = torch.func.vmap(torch.func.hessian(lambda row: -model(row[None])[0]))(x)
        total = total + (s_half + (turned @ v) @ v).mean() / 4
    torch.testing.assert_close(total, score_matching_loss(model, x))
    drawn = torch.Generator().manual_seed(0)
    many = sliced_score_matching_loss(model, x, 400, generator=drawn)
    assert many.item() == pytest.approx(score_matching_loss(model, x).item(), abs=0.05)


def test_in_one_dimension_a_slice_is_the_whole_trace():
    x = torch.randn(6, 1, dtype=DOUBLE)
    torch.testing.assert_close(
        sliced_score_matching_loss(normal(0.7), x), score_matching_loss(normal(0.7), x)
    )


@pytest.mark.equation("energy-based-denoising")
def test_denoising_differs_from_the_explicit_loss_on_noisy_data_by_a_constant():
    """Two models, the same difference: the noisy score is that of an exact mixture."""
    clean = torch.tensor([[-1.0, 0.0], [0.5, 1.0], [1.0, -1.0]], dtype=DOUBLE)
    std, noisy = 0.6, GaussianMixture(clean, std=0.6)
    torch.manual_seed(0)
    x, z = clean.repeat(20_000, 1), torch.randn(60_000, 2, dtype=DOUBLE)
    there = x + std * z
    true = noisy.score(there)
    gaps, errors = [], []
    for seed in (1, 2):
        model = network(seed)
        denoising = denoising_score_matching_loss(model, x, std, noise=z)
        gaps.append((denoising - explicit_score_matching_loss(model, there, true)).item())
        cross = (score(model, there) * (z / std + true)).sum(1).detach()
        errors.append(cross.std().item() / len(x) ** 0.5)
    constant = 0.5 * ((z / std).square() - true.square()).sum(1).mean().item()
    for gap, error in zip(gaps, errors, strict=True):
        assert abs(gap - constant) < 4 * error


@pytest.mark.equation("energy-based-denoising")
def test_the_best_denoiser_of_the_autoencoders_chapter_has_the_smallest_loss():
    clean = torch.tensor([[-1.0, 0.0], [0.5, 1.0]], dtype=DOUBLE)
    exact = GaussianMixture(clean, std=0.5)

    def best(x):
        return -exact.log_prob(x)

    x = torch.randn(7, 2, dtype=DOUBLE)
    told = score_from_denoiser(x, optimal_denoiser(x, clean, 0.5), 0.5)
    torch.testing.assert_close(score(best, x), told)
    torch.manual_seed(0)
    rows, z = clean.repeat(5000, 1), torch.randn(10_000, 2, dtype=DOUBLE)
    least = denoising_score_matching_loss(best, rows, 0.5, noise=z)
    for other in (normal(1.0), lambda x: 1.1 * best(x), network()):
        assert denoising_score_matching_loss(other, rows, 0.5, noise=z) > least


@pytest.mark.equation("energy-based-noise-levels")
def test_weighted_denoising_is_the_simple_loss_of_diffusion():
    """At one level of noise, a score is a prediction of the noise, and the losses are one."""
    diffusion = GaussianDiffusion([0.3], steps=None)
    a = float(diffusion.alphas_bar[0])
    model, x = network(), torch.randn(50, 2, dtype=DOUBLE)
    z = torch.randn(50, 2, dtype=DOUBLE)
    std = math.sqrt((1 - a) / a)

    def predicted(noisy, t):  # diffusion shrinks what is noisy by √ᾱ
        return -std * score(model, noisy / math.sqrt(a))

    t = torch.zeros(50, dtype=torch.int64)
    simple = diffusion.loss(predicted, x, t=t, noise=z)
    ours = denoising_score_matching_loss(model, x, std, noise=z, weighted=True)
    torch.testing.assert_close(ours, 0.5 * 2 * simple)  # a sum over two entries, not a mean


def test_each_example_may_have_its_own_noise():
    model, x = network(), torch.randn(2, 2, dtype=DOUBLE)
    z = torch.randn(2, 2, dtype=DOUBLE)
    both = denoising_score_matching_loss(model, x, torch.tensor([0.2, 0.9], dtype=DOUBLE), noise=z)
    alone = [
        denoising_score_matching_loss(model, x[i : i + 1], s, noise=z[i : i + 1])
        for i, s in enumerate((0.2, 0.9))
    ]
    torch.testing.assert_close(both, sum(alone) / 2)


def test_with_a_kink_the_trace_is_gone():
    """ReLU has no second derivative to match, so a flat energy would be the best one."""
    torch.manual_seed(0)
    model = EnergyModel(2, 16, activation="relu", dtype=DOUBLE)
    x = torch.randn(20, 2, dtype=DOUBLE)
    half = 0.5 * score(model, x).square().sum(1).mean()
    torch.testing.assert_close(score_matching_loss(model, x), half)


def test_losses_can_be_told_without_a_graph():
    model, x = network(), torch.randn(3, 2, dtype=DOUBLE)
    with torch.no_grad():
        for loss in (score_matching_loss, sliced_score_matching_loss):
            assert not loss(model, x).requires_grad
        assert not denoising_score_matching_loss(model, x, 0.1).requires_grad
    assert score_matching_loss(lambda x: x.new_zeros(len(x)), x).item() == 0


# ----------------------------------------------------------------------------------------- chains
@pytest.mark.equation("energy-based-langevin")
def test_a_step_goes_downhill_and_is_shaken():
    model = network()
    x = torch.randn(6, 2, dtype=DOUBLE)
    drawn = torch.Generator().manual_seed(3)
    z = torch.randn(6, 2, dtype=DOUBLE, generator=torch.Generator().manual_seed(3))
    there = langevin(model, x, 1, 0.02, temperature=0.5, generator=drawn)
    by_hand = x + 0.02 * score(model, x) + math.sqrt(2 * 0.02 * 0.5) * z
    torch.testing.assert_close(there, by_hand)


@pytest.mark.equation("energy-based-langevin")
def test_after_many_small_steps_walkers_are_distributed_as_the_grid_says():
    torch.manual_seed(0)
    x = langevin(tilted, 4 * torch.rand(6000, 2) - 2, 400, 0.02)
    grid = GridDensity(tilted, *BOX, 150)
    for moment in (lambda x: x**2, lambda x: x[:, :1] * x[:, 1:]):
        wanted, got = grid.mean(moment(grid.x)), moment(x)
        error = got.std(0) / len(x) ** 0.5
        # four standard errors, and what the step size may bias: about η of each
        assert ((got.mean(0) - wanted).abs() < 4 * error + 0.02 * wanted.abs()).all()


@pytest.mark.equation("energy-based-langevin-bias")
@pytest.mark.parametrize("eta", [0.1, 0.5, 1.5])
def test_the_bias_of_a_large_step_on_a_bowl_is_as_the_formula_says(eta):
    torch.manual_seed(0)
    variance, heat = 1.3, 0.8
    x = langevin(normal(variance), torch.zeros(200_000, 1), 60, eta, temperature=heat)
    wanted = heat * variance / (1 - eta / (2 * variance))
    assert x.var().item() == pytest.approx(wanted, rel=4 * math.sqrt(2 / 200_000))
    assert wanted > heat * variance


def test_beyond_twice_the_variance_walkers_fly_away():
    x = langevin(normal(1.0), torch.ones(10, 1), 60, 2.5, temperature=0.0)
    assert (x.abs() > 1e6).all()


@pytest.mark.equation("energy-based-mala")
def test_metropolis_takes_the_bias_away():
    torch.manual_seed(0)
    walked = metropolis_langevin(normal(1.0), torch.zeros(100_000, 1), 60, 1.0, temperature=0.7)
    assert walked.x.var().item() == pytest.approx(0.7, rel=4 * math.sqrt(2 / 100_000))
    plain = langevin(normal(1.0), torch.zeros(100_000, 1), 60, 1.0, temperature=0.7)
    assert plain.var().item() > 1.3
    assert 0.5 < walked.accepted < 1


@pytest.mark.equation("energy-based-mala")
def test_metropolis_keeps_the_exact_distribution_of_two_valleys():
    grid = GridDensity(tilted, *BOX, 150)
    x = grid.sample(40_000, torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    after = metropolis_langevin(tilted, x, 5, 0.6)
    wanted = grid.mean(grid.x**2)
    error = (after.x**2).std(0) / len(x) ** 0.5
    assert (((after.x**2).mean(0) - wanted).abs() < 4 * error).all()
    assert 0.3 < after.accepted < 0.98


def test_at_temperature_zero_walkers_find_the_valley():
    x = langevin(tilted, torch.tensor([[0.5, 1.0], [-0.1, 0.0]]), 400, 0.1, temperature=0.0)
    valley = torch.tensor([[2**0.5, 0.3 * 2**0.5]])
    torch.testing.assert_close(x, torch.cat([valley, -valley]), rtol=0, atol=1e-4)


def test_walkers_leave_no_gradient_in_the_model_and_run_where_gradients_are_off():
    model = network()
    with torch.no_grad():
        walked = langevin(model, torch.randn(3, 2, dtype=DOUBLE), 3, 0.01)
    assert not walked.requires_grad
    langevin(model, torch.randn(3, 2, dtype=DOUBLE, requires_grad=True), 3, 0.01)
    assert all(weight.grad is None for weight in model.parameters())


def test_bounds_and_clipping_hold():
    x = langevin(lambda x: 100 * x.sum(1), torch.zeros(4, 1), 3, 0.5, clip=1.0, temperature=0.0)
    torch.testing.assert_close(x, torch.full((4, 1), -1.5))
    kept = langevin(lambda x: 100 * x.sum(1), torch.zeros(4, 1), 3, 0.5, low=-0.2, high=1.0)
    torch.testing.assert_close(kept, torch.full((4, 1), -0.2))


def test_a_path_holds_every_place():
    torch.manual_seed(0)
    path = langevin(tilted, torch.zeros(3, 2), 5, 0.1, path=True)
    torch.manual_seed(0)
    assert path.shape == (6, 3, 2)
    torch.testing.assert_close(path[-1], langevin(tilted, torch.zeros(3, 2), 5, 0.1))
    same = langevin(tilted, torch.ones(3, 2), 0, 0.1)
    torch.testing.assert_close(same, torch.ones(3, 2))


def test_chains_persist_and_some_begin_anew():
    chains = PersistentChains(lambda n: torch.zeros(n, 2), 10, fresh=0.0)
    drawn = torch.Generator().manual_seed(0)
    x, rows = chains.draw(4, drawn)
    chains.keep(rows, x + 1)
    assert chains.x.sum() == 8 and chains.age.sum() == 4
    assert len(set(rows.tolist())) == 4
    always = PersistentChains(lambda n: torch.zeros(n, 2), 10, fresh=1.0)
    always.keep(torch.arange(10), torch.ones(10, 2))
    x, rows = always.draw(10)
    assert (x == 0).all() and (always.age == 0).all()


# ------------------------------------------------------------------- noise, margins, classes, AUC
@pytest.mark.equation("energy-based-nce")
def test_noise_contrastive_estimation_is_the_loss_of_a_classifier():
    model = network()
    x, noise = torch.randn(5, 2, dtype=DOUBLE), 2 * torch.randn(15, 2, dtype=DOUBLE)
    other = torch.distributions.Normal(torch.zeros((), dtype=DOUBLE), 2.0)
    both = torch.cat([x, noise])
    log_noise = other.log_prob(both).sum(1)
    ratio = (-model(both)).exp() / ((-model(both)).exp() + 3 * log_noise.exp())
    wanted = -ratio[:5].log().mean() - 3 * (1 - ratio[5:]).log().mean()
    torch.testing.assert_close(noise_contrastive_loss(model, x, noise, log_noise), wanted)


@pytest.mark.equation("energy-based-nce")
def test_the_data_density_itself_is_the_best_energy_constant_included():
    torch.manual_seed(0)
    x, noise = torch.randn(20_000, 1), 1.5 * torch.randn(20_000, 1)
    wide = torch.distributions.Normal(0.0, 1.5)
    log_noise = wide.log_prob(torch.cat([x, noise])[:, 0])
    log_z = 0.5 * math.log(2 * math.pi)

    def loss(shift, variance):
        return noise_contrastive_loss(
            lambda x: x[:, 0] ** 2 / (2 * variance) + log_z + shift, x, noise, log_noise
        )

    assert loss(0.0, 1.0) < min(loss(0.3, 1.0), loss(-0.3, 1.0), loss(0.0, 1.4), loss(0.0, 0.7))


@pytest.mark.equation("energy-based-margin")
def test_the_margin_loss_is_nothing_once_the_margin_is_kept():
    right, wrong = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([2.0, 1.5, 1.0])
    assert margin_loss(right, wrong, 1.0).item() == pytest.approx((0 + 0.5 + 2) / 3)
    by_torch = nn.functional.margin_ranking_loss(wrong, right, torch.ones(3), margin=1.0)
    torch.testing.assert_close(margin_loss(right, wrong), by_torch)


@pytest.mark.equation("energy-based-joint")
def test_a_classifiers_energies_give_its_softmax():
    logits = torch.randn(6, 4, dtype=DOUBLE)
    y = torch.tensor([0, 1, 2, 3, 0, 2])
    log_p = joint_energy(logits) - joint_energy(logits, y)
    wanted = logits.log_softmax(1)[torch.arange(6), y]
    torch.testing.assert_close(log_p, wanted)
    every = torch.stack([joint_energy(logits, torch.full((6,), k)) for k in range(4)], 1)
    torch.testing.assert_close(joint_energy(logits), -(-every).exp().sum(1).log())
    torch.testing.assert_close(
        joint_energy(logits, temperature=2.0), -2 * (logits / 2).exp().sum(1).log()
    )


@pytest.mark.equation("energy-based-joint-loss")
def test_the_joint_likelihood_is_the_classifiers_and_that_of_the_examples():
    """On a grid: −log p(x, y) = cross-entropy − log p(x), with one Z for all classes."""
    torch.manual_seed(0)
    net = nn.Linear(2, 3, dtype=DOUBLE)

    def logits(x):
        return net(x) - 0.5 * x.square().sum(1, keepdim=True)

    x, y = torch.randn(5, 2, dtype=DOUBLE), torch.tensor([0, 2, 1, 1, 0])
    like = torch.empty(0, dtype=DOUBLE)
    grid = GridDensity(lambda x: joint_energy(logits(x)), (-9, -9), (9, 9), 150, like=like)
    each = [
        GridDensity(
            lambda x, k=k: joint_energy(logits(x), torch.full((len(x),), k)),
            (-9, -9), (9, 9), 150, like=like,
        ).log_partition
        for k in range(3)
    ]  # fmt: skip
    log_z = torch.stack(each).logsumexp(0)
    joint = joint_energy(logits(x), y) + log_z
    wanted = nn.functional.cross_entropy(logits(x), y, reduction="none") - grid.log_prob(x)
    torch.testing.assert_close(joint, wanted)


@pytest.mark.equation("energy-based-auc")
def test_the_auc_is_scikit_learns():
    torch.manual_seed(0)
    inside, outside = torch.randint(6, (40,)).double(), torch.randint(3, 9, (25,)).double()
    y = [0] * 40 + [1] * 25
    wanted = metrics.roc_auc_score(y, torch.cat([inside, outside]).numpy())
    assert detection_auc(inside, outside) == pytest.approx(wanted)
    assert detection_auc(inside, inside) == 0.5


# ---------------------------------------------------------------------------------------- learning
def test_persistent_chains_find_a_normal_distribution():
    torch.manual_seed(0)
    width = nn.Parameter(torch.tensor(0.0))
    centre = nn.Parameter(torch.tensor(0.0))
    data = 1.0 + 0.5 * torch.randn(2000, 1)

    def energy(x):
        return 0.5 * ((x - centre) / width.exp()).square().sum(1)

    chains = PersistentChains(lambda n: 2 * torch.randn(n, 1), 500, fresh=0.02)
    optimizer = torch.optim.Adam([width, centre], lr=0.03)
    for _ in range(200):
        x, rows = chains.draw(200)
        chains.keep(rows, langevin(energy, x, 5, 0.05))
        loss = contrastive_divergence_loss(energy, data, chains.x[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert centre.item() == pytest.approx(1.0, abs=0.1)
    assert width.exp().item() == pytest.approx(0.5, abs=0.1)


# ---------------------------------------------------------------------------------------- refusals
def test_bad_input_is_named():
    x = torch.zeros(4, 2)
    flat = normal(1.0)
    with refuses(ValueError, "temperature=-1 must be a finite number ≥ 0"):
        langevin(flat, x, 1, 0.1, temperature=-1)
    with refuses(ValueError, "temperature=0 must be a finite number > 0"):
        metropolis_langevin(flat, x, 1, 0.1, temperature=0)
    with refuses(ValueError, "low=1 must be below high=0"):
        langevin(flat, x, 1, 0.1, low=1, high=0)
    with refuses(ValueError, "energy(x) must have shape (4), got (4, 2)"):
        langevin(lambda x: x, x, 1, 0.1)
    with refuses(TypeError, "energy=3 must be callable"):
        score(3, x)
    with refuses(ValueError, "x must have shape (n, d), got (4,)"):
        score(flat, x[:, 0])
    with refuses(ValueError, "8,000,000,000 cells; at most 10,000,000 are summed"):
        GridDensity(flat, (-1,) * 3, (1,) * 3, 2000)
    with refuses(ValueError, "high=(0.0, 1.0) must be above low=(0.0, 0.0)"):
        GridDensity(flat, (0, 0), (0, 1))
    with refuses(ValueError, "count=11 must be at most 10"):
        PersistentChains(lambda n: torch.zeros(n, 2), 10).draw(11)
    with refuses(ValueError, "start(5) must give 5 rows, got 3"):
        PersistentChains(lambda n: torch.zeros(3, 2), 5)
    with refuses(ValueError, "samples must have shape (n, d) with the same d as data, got (4, 3)"):
        contrastive_divergence_loss(flat, x, torch.zeros(4, 3))
    with refuses(ValueError, "std must be above 0, got 0"):
        denoising_score_matching_loss(flat, x, torch.zeros(4))
    with refuses(ValueError, "margin=0 must be a finite number > 0"):
        margin_loss(x[:, 0], x[:, 0], 0)
    with refuses(ValueError, "data_score must have shape (4, 2), got (4, 3)"):
        explicit_score_matching_loss(flat, x, torch.zeros(4, 3))
    with refuses(ValueError, "inside must not be empty"):
        detection_auc(torch.zeros(0), torch.zeros(2))
    with refuses(ValueError, "log_noise must have shape (8), got (4,)"):
        noise_contrastive_loss(flat, x, x, torch.zeros(4))
    with refuses(ValueError, "values must have 400 rows"):
        GridDensity(flat, (-1, -1), (1, 1), 20).mean(torch.zeros(3))
