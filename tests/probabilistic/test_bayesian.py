"""Bayesian networks against closed forms, quadrature, torch.distributions, Hessians and sklearn."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from sklearn.linear_model import BayesianRidge
from torch import nn
from torch.distributions import MixtureSameFamily, MultivariateNormal, Normal, kl_divergence
from torch.func import functional_call, hessian
from torch.nn import functional as F

from nnlib.probabilistic import bayesian as bayes
from nnlib.probabilistic.bayesian import (
    BayesianLinear,
    Ensemble,
    ScaleMixture,
    hmc,
    laplace_,
    laplace_predict,
    linear_posterior,
    mc_dropout_predict,
)
from tests.support import Example, refuses

CLOSE = {"rtol": 1e-9, "atol": 1e-11}  # float64, a few hundred operations


@pytest.fixture(autouse=True)
def double_precision():
    """Numbers written out here are exact to float64, unless a test says otherwise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"in_features": 3, "out_features": 5}, (torch.randn(4, 3),))


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def number(value: float) -> torch.Tensor:
    return torch.tensor(value)


def layer(**how) -> BayesianLinear:
    """Three inputs, two outputs; every weight with a mean and a deviation of its own."""
    torch.manual_seed(1)
    made = BayesianLinear(3, 2, **how)
    with torch.no_grad():
        for part in (made.weight_rho, made.bias_rho):
            if part is not None:
                part.add_(0.7 * drawn(*part.shape, seed=part.ndim))
    return made


def network(*sizes: int, seed: int = 2, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        parts += [nn.Linear(inputs, outputs, bias=bias), nn.Tanh()]
    return nn.Sequential(*parts[:-1])


# --------------------------------------------------------------------- one weight, by quadrature
@pytest.mark.equation("bayesian-rule", "bayesian-predictive", "bayesian-evidence")
def test_the_closed_form_is_bayes_rule_integrated_on_a_grid():
    """One weight: prior times likelihood, divided by its integral, sums of 40 001 points."""
    x, y, prior, noise = drawn(4), drawn(4, seed=1), 1.3, 0.4
    w = torch.linspace(-12, 12, 40_001)
    joint = Normal(0.0, prior).log_prob(w)
    joint = joint + Normal(w[:, None] * x, noise).log_prob(y).sum(1)
    width = w[1] - w[0]
    evidence = (joint.logsumexp(0) + width.log()).item()
    density = (joint - evidence).exp()
    found = linear_posterior(x[:, None], y, prior, noise)
    assert found.log_evidence.item() == pytest.approx(evidence, abs=1e-9)
    mean = (density * w).sum() * width
    assert found.mean.item() == pytest.approx(mean.item(), abs=1e-9)
    spread = (density * (w - mean).square()).sum() * width
    assert found.covariance.item() == pytest.approx(spread.item(), rel=1e-8)
    predictive = (density * Normal(w * 0.7, noise).log_prob(number(0.5)).exp()).sum() * width
    told = found.predict(number(0.7).view(1, 1))
    wanted = Normal(told.mean, told.std).log_prob(number(0.5)).exp()
    assert predictive.item() == pytest.approx(wanted.item(), rel=1e-8)


# -------------------------------------------------------------------------------- linear, exactly
@pytest.mark.equation("bayesian-linear", "bayesian-linear-predictive")
def test_the_linear_posterior_is_a_gaussian_conditioned_on_the_targets():
    """Weights, targets and a new target are jointly normal; condition by hand."""
    features, new, prior, noise = drawn(6, 3), drawn(2, 3, seed=5), 0.8, 0.3
    y = drawn(6, seed=1)
    gram = prior**2 * features @ features.T + noise**2 * torch.eye(6)
    gain = prior**2 * features.T @ gram.inverse()
    found = linear_posterior(features, y, prior, noise)
    torch.testing.assert_close(found.mean, gain @ y, **CLOSE)
    wanted = prior**2 * torch.eye(3) - prior**2 * gain @ features
    torch.testing.assert_close(found.covariance, wanted, **CLOSE)
    told = found.predict(new)
    torch.testing.assert_close(told.mean, new @ gain @ y, **CLOSE)
    torch.testing.assert_close(told.epistemic, (new @ wanted @ new.T).diagonal(), **CLOSE)
    torch.testing.assert_close(told.aleatoric, torch.full((2,), noise**2).double(), **CLOSE)
    whole = MultivariateNormal(torch.zeros(6).double(), gram).log_prob(y)
    torch.testing.assert_close(found.log_evidence, whole, **CLOSE)


def test_without_data_the_posterior_is_the_prior():
    found = linear_posterior(torch.zeros(0, 3).double(), torch.zeros(0).double(), 0.7, 0.1)
    torch.testing.assert_close(found.mean, torch.zeros(3).double(), **CLOSE)
    torch.testing.assert_close(found.covariance, 0.49 * torch.eye(3), **CLOSE)
    assert found.log_evidence.item() == 0


@pytest.mark.equation("bayesian-mackay")
def test_the_most_probable_prior_and_noise_are_scikit_learns():
    x = drawn(60, 5)
    y = x @ number(1.0).new_tensor([1.0, -0.5, 0.0, 0.3, 2.0]) + 0.4 * drawn(60, seed=1)
    found = bayes.maximize_evidence(x, y, iterations=300)
    peer = BayesianRidge(
        fit_intercept=False, max_iter=2000, tol=1e-12,
        alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0,
    ).fit(x.numpy(), y.numpy())  # fmt: skip
    assert found.noise_std == pytest.approx(peer.alpha_**-0.5, rel=1e-5)
    assert found.prior_std == pytest.approx(peer.lambda_**-0.5, rel=1e-5)
    torch.testing.assert_close(found.mean, torch.from_numpy(peer.coef_), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(found.covariance, torch.from_numpy(peer.sigma_), rtol=1e-4, atol=0)
    for prior, noise in ((1.1, 1.0), (0.9, 1.0), (1.0, 1.1), (1.0, 0.9)):
        other = linear_posterior(x, y, prior * found.prior_std, noise * found.noise_std)
        assert other.log_evidence < found.log_evidence


# ------------------------------------------------------------------------------- a Bayesian layer
@pytest.mark.equation("bayesian-weight", "bayesian-softplus")
def test_weights_are_drawn_with_their_means_and_deviations():
    made = layer()
    draws = torch.stack([made.draw()["weight"] for _ in range(8000)])
    std = torch.log(1 + made.weight_rho.exp())
    torch.testing.assert_close(made.weight_std, std, **CLOSE)
    error = (draws.mean(0) - made.weight_mean).abs() / std
    assert error.max() < 5 / math.sqrt(8000)
    assert (draws.std(0) / std - 1).abs().max() < 0.04  # five times its standard error
    biases = torch.stack([made.draw()["bias"] for _ in range(8000)])
    assert (biases.std(0) / made.bias_std - 1).abs().max() < 0.04


@pytest.mark.equation("bayesian-local")
@pytest.mark.parametrize("sampling", ["local", "weights", "flipout"])
@pytest.mark.parametrize("bias", [True, False])
def test_each_way_of_sampling_gives_outputs_of_the_same_mean_and_variance(sampling, bias):
    made, x = layer(sampling=sampling, bias=bias), drawn(1, 3)
    with torch.no_grad():
        draws = torch.cat([made(x) for _ in range(8000)])
        mean = x @ made.weight_mean.T + (made.bias_mean if bias else 0)
        variance = x**2 @ (made.weight_std**2).T + (made.bias_std**2 if bias else 0)
    assert ((draws.mean(0) - mean).abs() / variance.sqrt()).max() < 5 / math.sqrt(8000)
    assert (draws.var(0) / variance - 1).abs().max() < 0.08


@pytest.mark.parametrize(
    ("sampling", "shared"), [("weights", True), ("local", False), ("flipout", False)]
)
def test_only_one_matrix_for_the_whole_batch_ties_its_examples(sampling, shared):
    """Correlation of the outputs of two equal inputs: 1, or 0 within four standard errors."""
    made, x = layer(sampling=sampling), drawn(1, 3).expand(2, 3)
    with torch.no_grad():
        draws = torch.stack([made(x)[:, 0] for _ in range(4000)])
    tie = torch.corrcoef(draws.T)[0, 1]
    assert tie == pytest.approx(1 if shared else 0, abs=4 / math.sqrt(4000))


def test_flipout_shares_its_draw_but_not_its_signs():
    """With one weight, all outputs of a batch have the same size and two signs."""
    made = BayesianLinear(1, 1, bias=False, sampling="flipout")
    with torch.no_grad():
        noise = made(torch.ones(200, 1).double()) - made.weight_mean
    torch.testing.assert_close(noise.abs(), noise.abs()[:1].expand(200, 1), **CLOSE)
    assert 0.3 < (noise > 0).double().mean() < 0.7
    made = BayesianLinear(1, 2, bias=False, sampling="flipout")
    with torch.no_grad():
        noise = made(torch.ones(200, 1).double()) - made.weight_mean[:, 0]
    tied = (noise[:, 0] * noise[:, 1] > 0).double().mean()
    assert 0.3 < tied < 0.7, "each output has signs of its own"


def test_in_evaluation_mode_it_is_the_linear_layer_of_its_means():
    made, x = layer().eval(), drawn(7, 3)
    torch.testing.assert_close(made(x), F.linear(x, made.weight_mean, made.bias_mean), **CLOSE)


@pytest.mark.equation("bayesian-kl")
def test_the_divergence_is_that_of_torch_distributions():
    made = layer(prior_std=0.6, bias_prior_std=2.0)
    weights = kl_divergence(Normal(made.weight_mean, made.weight_std), Normal(0.0, 0.6)).sum()
    biases = kl_divergence(Normal(made.bias_mean, made.bias_std), Normal(0.0, 2.0)).sum()
    torch.testing.assert_close(made.kl(), weights + biases, **CLOSE)
    whole = bayes.kl_divergence(nn.Sequential(made, nn.Tanh(), layer(bias=False)))
    torch.testing.assert_close(whole, made.kl() + layer(bias=False).kl(), **CLOSE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_deviation_that_vanishes_leaves_the_divergence_and_gradients_finite(dtype):
    """softplus(−200) is 0 in float32; its logarithm is −200 all the same."""
    made = BayesianLinear(3, 2, dtype=dtype)
    with torch.no_grad():
        made.weight_rho.fill_(-200.0)
        made.bias_rho.fill_(-200.0)
    loss = made(torch.zeros(4, 3, dtype=dtype)).float().square().sum() + made.kl()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in made.parameters())
    assert made.kl().item() == pytest.approx(8 * 199.5, rel=0.01)
    assert made.weight_rho.grad.float().mean() == pytest.approx(-1, rel=0.01), "it still comes back"


def test_the_logarithm_of_softplus_has_no_seam():
    rho = torch.linspace(-14, -10, 4001).double().requires_grad_()
    value = bayes.log_softplus(rho)
    torch.testing.assert_close(value, torch.log(torch.log1p(rho.exp())), rtol=0, atol=1e-10)
    (slope,) = torch.autograd.grad(value.sum(), rho)
    torch.testing.assert_close(slope, torch.ones_like(slope), rtol=0, atol=5e-5)


@pytest.mark.parametrize("value", [1e-8, 0.05, 3.0, 50.0])
def test_a_deviation_begins_where_it_is_told(value):
    made = BayesianLinear(2, 2, initial_std=value)
    torch.testing.assert_close(
        made.weight_std, torch.full((2, 2), value).double(), rtol=1e-6, atol=0
    )
    torch.testing.assert_close(made.bias_std, torch.full((2,), value).double(), rtol=1e-6, atol=0)


@pytest.mark.equation("bayesian-mixture")
def test_the_scale_mixture_is_torchs_mixture():
    prior, w = ScaleMixture(0.25, 1.5, 0.01), drawn(50)
    parts = Normal(torch.zeros(2), torch.tensor([1.5, 0.01]).double())
    shares = torch.distributions.Categorical(torch.tensor([0.25, 0.75]).double())
    wanted = MixtureSameFamily(shares, parts).log_prob(w)
    torch.testing.assert_close(prior.log_prob(w), wanted, **CLOSE)
    assert torch.isfinite(prior.log_prob(number(1e4)))


def test_the_divergence_from_a_mixture_is_right_on_average():
    """A mixture of two nearly equal Gaussians is a Gaussian, whose divergence is known."""
    made = layer(prior_std=ScaleMixture(0.3, 0.6000001, 0.6))
    wanted = layer(prior_std=0.6).kl()
    with torch.no_grad():
        draws = torch.stack([made.kl() for _ in range(4000)])
    assert (draws.mean() - wanted).abs() < 5 * draws.std() / math.sqrt(4000)


@pytest.mark.equation("bayesian-elbo")
def test_the_bound_is_the_evidence_less_the_divergence_from_the_posterior():
    """A Gaussian q for one weight: expected log-likelihood − KL(q ‖ prior), in closed form."""
    x, y, prior, noise = drawn(5), drawn(5, seed=1), 0.9, 0.5
    exact = linear_posterior(x[:, None], y, prior, noise)
    mean, std = number(0.3), number(0.2)
    misfit = (y - mean * x).square() + (std * x).square()
    expected = (-0.5 * misfit / noise**2 - math.log(noise * math.sqrt(2 * math.pi))).sum()
    bound = expected - bayes.gaussian_kl(mean, std.log(), prior)
    away = kl_divergence(Normal(mean, std), Normal(exact.mean[0], exact.covariance[0, 0].sqrt()))
    torch.testing.assert_close(bound, exact.log_evidence - away, **CLOSE)


@pytest.mark.equation("bayesian-minibatch")
def test_shares_of_the_divergence_add_up_over_minibatches():
    """The mean over batches of loss = NLL of a batch + KL/n is the bound of all data, over n."""
    made, x, y = layer(prior_std=0.6).eval(), drawn(12, 3), drawn(12, 2, seed=1)

    def loss(at):
        nll = -Normal(made(x[at]), 0.3).log_prob(y[at]).sum(1).mean()
        return nll + made.kl() / 12

    parts = torch.stack([loss(slice(4 * i, 4 * i + 4)) for i in range(3)]).mean()
    whole = (-Normal(made(x), 0.3).log_prob(y).sum() + made.kl()) / 12
    torch.testing.assert_close(parts, whole, **CLOSE)


def test_bayes_by_backprop_finds_the_exact_posterior_of_one_weight():
    """With one weight the family holds the posterior, so the bound's maximum is the posterior."""
    x, y = drawn(20, 1), 0.7 * drawn(20, 1) + 0.3 * drawn(20, 1, seed=1)
    exact = linear_posterior(x, y[:, 0], 1.0, 0.3)
    torch.manual_seed(0)
    made = BayesianLinear(1, 1, bias=False)
    optimizer = torch.optim.Adam(made.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 1500)
    for _ in range(1500):
        optimizer.zero_grad()
        fit = -Normal(made(x.repeat(8, 1)), 0.3).log_prob(y.repeat(8, 1)).sum() / 8
        (fit + made.kl()).backward()
        optimizer.step()
        schedule.step()
    assert made.weight_mean.item() == pytest.approx(exact.mean.item(), abs=0.01)
    assert made.weight_std.item() == pytest.approx(exact.covariance.sqrt().item(), rel=0.1)


@pytest.mark.equation("bayesian-mean-field")
def test_the_best_factored_gaussian_has_the_precisions_of_the_posterior():
    """Minimise KL(q ‖ p) for a correlated p by hand: variances 1/Λ_ii, below the marginal ones."""
    covariance = torch.tensor([[1.0, 0.9], [0.9, 1.0]]).double()
    target = MultivariateNormal(torch.zeros(2), covariance)
    wanted = covariance.inverse().diagonal().rsqrt()

    def divergence(std):
        return kl_divergence(MultivariateNormal(torch.zeros(2), std.square().diag()), target)

    slope = torch.func.grad(divergence)(wanted)
    torch.testing.assert_close(slope, torch.zeros(2), rtol=0, atol=1e-9)
    assert divergence(wanted) < divergence(1.05 * wanted)
    assert (wanted.square() - (1 - 0.9**2)).abs().max() < 1e-9


# ------------------------------------------------------------------------------- functions, dropout
def test_a_function_keeps_its_weights_wherever_it_is_asked():
    """Linear layers alone: each drawn function must be a straight line."""
    torch.manual_seed(0)
    model = nn.Sequential(BayesianLinear(1, 4), BayesianLinear(4, 1)).double()
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0]]).double()
    lines = bayes.sample_functions(model, x, 6)
    bends = lines[:, 2:] - 2 * lines[:, 1:-1] + lines[:, :-2]
    assert bends.abs().max() < 1e-12
    assert lines.std(0).min() > 0
    assert model[0].sampling == "local" and model.training


def test_dropout_alone_is_switched_on_and_all_is_put_back():
    model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    model.eval()
    before = copy.deepcopy(model.state_dict())
    told = mc_dropout_predict(model, torch.randn(5, 3), 30, noise_std=0.2)
    assert told.mean.shape == (5, 2) and (told.epistemic > 0).all()
    assert not any(part.training for part in model.modules())
    mc_dropout_predict(model.train(), torch.randn(5, 3), 30, noise_std=0.2)
    assert all(part.training for part in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), "batch normalisation has not learned from it"


@pytest.mark.equation("bayesian-dropout")
def test_the_variance_of_dropout_has_the_noise_in_it():
    """One weight behind one unit: outputs are 0 or w x / (1 − p), so all is known."""
    model = nn.Sequential(nn.Dropout(0.25), nn.Linear(1, 1, bias=False)).double()
    x = torch.tensor([[2.0]]).double()
    torch.manual_seed(0)
    told = mc_dropout_predict(model, x, 40_000, noise_std=0.3)
    w = model[1].weight.item()
    assert told.mean.item() == pytest.approx(2 * w, rel=0.03)
    assert told.epistemic.item() == pytest.approx((2 * w) ** 2 * 0.25 / 0.75, rel=0.03)
    assert told.aleatoric.item() == pytest.approx(0.09)
    torch.testing.assert_close(told.variance, told.epistemic + 0.09, **CLOSE)


def test_the_variance_is_taken_about_the_mean_and_not_as_a_difference_of_squares():
    """Mean 1000, deviation 1e-3: in float32 E[y²] − E[y]² is a multiple of 1/16."""
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(1, 1)).float()
    with torch.no_grad():
        model[1].weight.fill_(1e-3)
        model[1].bias.fill_(1000.0)
    told = mc_dropout_predict(model, torch.ones(1, 1).float(), 4000, noise_std=0.0)
    assert told.epistemic.item() == pytest.approx(1e-6, rel=0.1)
    draws = (1000 + 1e-3 * torch.randn(4000)).float()
    difference = ((draws**2).mean() - draws.mean() ** 2).item()
    assert (16 * difference).is_integer()  # so it is off by the whole variance, at the least


# --------------------------------------------------------------------------------------- ensembles
@pytest.mark.parametrize("own", [False, True])
def test_members_side_by_side_are_the_members_one_by_one(own):
    ensemble = Ensemble(lambda: network(2, 7, 3, seed=torch.seed() % 1000), 4)
    x = drawn(4, 5, 2) if own else drawn(5, 2)
    torch.testing.assert_close(ensemble(x), ensemble.loop(x), **CLOSE)
    assert (ensemble(x)[0] - ensemble(x)[1]).abs().max() > 1e-3


def test_members_learn_as_they_would_alone():
    torch.manual_seed(3)
    ensemble = Ensemble(lambda: nn.Linear(2, 1), 3)
    alone, x, y = ensemble.member(1), drawn(8, 2), drawn(8, 1, seed=1)
    for model, loss in (
        (ensemble, lambda: (ensemble(x) - y).square().mean((1, 2)).sum()),
        (alone, lambda: (alone(x) - y).square().mean()),
    ):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        for _ in range(20):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
    torch.testing.assert_close(ensemble.member(1).weight, alone.weight, **CLOSE)


def test_an_ensemble_saves_all_of_its_weights_anchors_and_statistics():
    torch.manual_seed(0)

    def make():
        return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))

    first, second = (Ensemble(make, 2, prior_std=1.0) for _ in range(2))
    second.load_state_dict(first.state_dict())
    x = torch.randn(6, 2)
    torch.testing.assert_close(first.eval()(x), second.eval()(x))
    torch.testing.assert_close(first.penalty(), second.penalty())


@pytest.mark.equation("bayesian-anchor")
def test_anchored_members_of_a_linear_model_are_draws_from_its_posterior():
    """Randomise, then optimise: exact for a linear model with noisy targets (Pearce et al.)."""
    x, y, prior, noise = drawn(5, 2), drawn(5, seed=1), 0.8, 0.5
    exact = linear_posterior(x, y, prior, noise)
    anchors = prior * drawn(20_000, 2, seed=2)
    noisy = y + noise * drawn(20_000, 5, seed=3)
    precision = x.T @ x / noise**2 + torch.eye(2) / prior**2
    members = (noisy @ x / noise**2 + anchors / prior**2) @ precision.inverse()
    torch.testing.assert_close(members.mean(0), exact.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(members.T.cov(), exact.covariance, rtol=0, atol=0.01)

    ensemble = Ensemble(lambda: nn.Linear(2, 1, bias=False), 3, prior)
    anchor = ensemble.get_buffer("anchor__weight")
    with torch.no_grad():
        ensemble.get_parameter("weight").copy_(
            ((noisy[:3] @ x / noise**2 + anchor[:, 0] / prior**2) @ precision.inverse())[:, None]
        )
    misfit = (ensemble(x)[..., 0] - noisy[:3]).square().sum() / (2 * noise**2)
    (slope,) = torch.autograd.grad(
        misfit + ensemble.penalty().sum(), ensemble.get_parameter("weight")
    )
    torch.testing.assert_close(slope, torch.zeros_like(slope), rtol=0, atol=1e-9)


def test_a_penalty_is_the_negative_log_prior_of_each_member():
    std = {"weight": 0.5, "bias": 2.0}
    torch.manual_seed(0)
    ensemble = Ensemble(lambda: nn.Linear(3, 1), 4, std)
    for i in range(4):
        one = ensemble.member(i)
        wanted = sum(
            -(Normal(0.0, std[k]).log_prob(v) - Normal(0.0, std[k]).log_prob(number(0.0))).sum()
            for k, v in one.named_parameters()
        )
        torch.testing.assert_close(ensemble.penalty(anchored=False)[i], wanted, **CLOSE)
    spread = torch.cat([ensemble.get_buffer("anchor__weight").flatten() / 0.5])
    assert 0.4 < spread.std() < 1.8
    assert ensemble.weights().shape == (4, 4)


# ----------------------------------------------------------------------------------------- Laplace
@pytest.mark.equation("bayesian-ggn", "bayesian-laplace-evidence")
@pytest.mark.parametrize("structure", ["full", "kfac"])
def test_laplace_of_a_linear_network_is_exact(structure):
    """Its loss is quadratic: mean, variance and evidence are those of the closed form."""
    x, y, prior, noise = drawn(12, 3), drawn(12, seed=1), 0.8, 0.3
    exact = linear_posterior(torch.cat([x, torch.ones(12, 1).double()], 1), y, prior, noise)
    line = nn.Linear(3, 1)
    with torch.no_grad():
        line.weight.copy_(exact.mean[None, :3])
        line.bias.copy_(exact.mean[3:])
    told = laplace_(line, x, y[:, None], prior_std=prior, noise_std=noise, structure=structure)
    assert told is line
    new = drawn(6, 3, seed=4)
    wanted = exact.predict(torch.cat([new, torch.ones(6, 1).double()], 1))
    got = laplace_predict(line, new)
    for ours, theirs in zip(got, wanted, strict=True):
        torch.testing.assert_close(ours[:, 0], theirs, **CLOSE)
    assert line.posterior.log_evidence == pytest.approx(exact.log_evidence.item(), abs=1e-8)


def precision_by_autograd(model, x, prior, curvature):
    """J' H J + 1/prior² from jacobians of the whole batch, in the order of the parameters."""
    weights = {k: v.detach() for k, v in model.named_parameters()}
    rows = torch.func.jacrev(lambda w: functional_call(model, w, (x,)))(weights)
    J = torch.cat([part.flatten(2) for part in rows.values()], -1)
    ggn = torch.einsum("nkp,nkl,nlq->pq", J, curvature, J)
    return J, ggn + torch.eye(J.shape[-1]).double() / prior**2


@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_the_full_precision_is_jacobians_about_the_hessian_of_the_likelihood(likelihood):
    model, x, prior, noise = network(2, 4, 3), drawn(6, 2), 0.7, 0.4
    y = drawn(6, 3, seed=1) if likelihood == "gaussian" else torch.tensor([0, 1, 2, 0, 1, 2])

    def nll(f, y):
        return (f - y).square().sum() / (2 * noise**2) if y.ndim else F.cross_entropy(f, y)

    curvature = torch.stack(
        [hessian(lambda f, y=y: nll(f, y))(f) for f, y in zip(model(x).detach(), y, strict=True)]
    )
    J, precision = precision_by_autograd(model, x, prior, curvature)
    laplace_(model, x, y, prior_std=prior, noise_std=noise, likelihood=likelihood)
    wanted = torch.einsum("nkp,pq,nkq->nk", J, precision.inverse(), J)
    told = laplace_predict(model, x)
    torch.testing.assert_close(told.epistemic, wanted, **CLOSE)
    torch.testing.assert_close(told.mean, model(x), **CLOSE)
    assert told.aleatoric[0, 0].item() == pytest.approx(0.16 if likelihood == "gaussian" else 0)
    log_prior = sum(Normal(0.0, prior).log_prob(v).sum() for v in model.parameters())
    log_likelihood = (
        Normal(model(x), noise).log_prob(y).sum()
        if likelihood == "gaussian" else -F.cross_entropy(model(x), y, reduction="sum")
    )  # fmt: skip
    p = J.shape[-1]
    evidence = log_likelihood + log_prior + 0.5 * p * math.log(2 * math.pi)
    evidence = evidence - 0.5 * precision.logdet()
    assert model.posterior.log_evidence == pytest.approx(evidence.item(), abs=1e-8)


def test_where_the_fit_is_perfect_gauss_newton_is_the_hessian():
    """The part that is left out is weighted by the residuals, which are zero here."""
    model, x = network(2, 4, 1), drawn(6, 2)
    y, prior, noise = model(x).detach(), 0.7, 0.4

    def loss(flat):
        parts, at = {}, 0
        for name, value in model.named_parameters():
            parts[name] = flat[at : at + value.numel()].view_as(value)
            at += value.numel()
        misfit = (functional_call(model, parts, (x,)) - y).square().sum() / (2 * noise**2)
        return misfit + flat.square().sum() / (2 * prior**2)

    flat = torch.cat([v.detach().flatten() for v in model.parameters()])
    curvature = torch.full((6, 1, 1), 1 / noise**2).double()
    J, precision = precision_by_autograd(model, x, prior, curvature)
    torch.testing.assert_close(precision, hessian(loss)(flat), **CLOSE)
    laplace_(model, x, y, prior_std=prior, noise_std=noise)
    wanted = torch.einsum("nkp,pq,nkq->nk", J, hessian(loss)(flat).inverse(), J)
    torch.testing.assert_close(laplace_predict(model, x).epistemic, wanted, **CLOSE)


def test_the_diagonal_keeps_the_diagonal_alone():
    model, x, y = network(2, 4, 3), drawn(6, 2), drawn(6, 3, seed=1)
    J, precision = precision_by_autograd(model, x, 0.7, torch.eye(3).expand(6, 3, 3) / 0.16)
    laplace_(model, x, y, prior_std=0.7, noise_std=0.4, structure="diagonal")
    wanted = torch.einsum("nkp,p->nk", J.square(), 1 / precision.diagonal())
    torch.testing.assert_close(laplace_predict(model, x).epistemic, wanted, **CLOSE)
    model.posterior.log_evidence = math.nan  # made anew by the next call
    laplace_(model, x, y, structure="diagonal")
    assert math.isfinite(model.posterior.log_evidence)


@pytest.mark.equation("bayesian-kfac")
def test_kfac_is_a_kronecker_product_in_each_layer():
    model, x, y, noise = network(2, 4, 3), drawn(6, 2), drawn(6, 3, seed=1), 0.4
    std = {"0.weight": 0.7, "0.bias": 1.3, "2.weight": 0.5, "2.bias": 2.0}
    laplace_(model, x, y, prior_std=std, noise_std=noise, structure="kfac")
    weights = {k: v.detach() for k, v in model.named_parameters()}
    J = torch.func.jacrev(lambda w: functional_call(model, w, (x,)))(weights)
    inputs = {"0": x, "2": model[:2](x).detach()}
    wanted = torch.zeros(6, 3).double()
    for name, entered in inputs.items():
        a = torch.cat([entered, torch.ones(6, 1).double()], 1)
        g = J[f"{name}.bias"]
        A = a.T @ a
        G = torch.einsum("nko,nkq->oq", g, g) / (6 * noise**2)
        outputs = g.shape[-1]
        rows = torch.cat([J[f"{name}.weight"], J[f"{name}.bias"][..., None]], -1).flatten(2)
        scale = torch.full((outputs, a.shape[1]), std[f"{name}.weight"]).double()
        scale[:, -1] = std[f"{name}.bias"]
        # the prior is added in its own units, where it is the identity
        whitened = scale.flatten()[:, None] * torch.kron(G, A) * scale.flatten()
        precision = whitened + torch.eye(len(whitened)).double()
        rows = rows * scale.flatten()
        wanted += torch.einsum("nkp,pq,nkq->nk", rows, precision.inverse(), rows)
    torch.testing.assert_close(laplace_predict(model, x).epistemic, wanted, **CLOSE)


@pytest.mark.equation("bayesian-linearised")
@pytest.mark.parametrize("structure", ["full", "kfac", "diagonal"])
def test_of_the_last_layer_it_is_regression_on_the_last_features(structure):
    model, x, y = network(2, 5, 1), drawn(9, 2), drawn(9, 1, seed=1)
    laplace_(model, x, y, prior_std=0.7, noise_std=0.4, structure=structure, last_layer=True)
    new = drawn(4, 2, seed=3)
    lifted = [
        torch.cat([model[:2](at).detach(), torch.ones(len(at), 1).double()], 1) for at in (x, new)
    ]
    exact = linear_posterior(lifted[0], y[:, 0], 0.7, 0.4)
    wanted = exact.predict(lifted[1]).epistemic
    if structure == "diagonal":
        wanted = lifted[1].square() @ (1 / exact.covariance.inverse().diagonal())
    torch.testing.assert_close(laplace_predict(model, new).epistemic[:, 0], wanted, **CLOSE)


def test_a_network_keeps_its_answers_its_mode_and_its_posterior():
    model, x, y = network(2, 4, 1), drawn(6, 2), drawn(6, 1, seed=1)
    before = model(x)
    laplace_(model, x, y)
    assert torch.equal(model(x), before) and model.training
    first = laplace_predict(model, x).epistemic
    other = laplace_(network(2, 4, 1, seed=9), x, y)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(laplace_predict(other, x).epistemic, first, **CLOSE)
    laplace_(model, x, y)  # again, upon itself
    torch.testing.assert_close(laplace_predict(model, x).epistemic, first, **CLOSE)


@pytest.mark.equation("bayesian-probit")
def test_uncertain_logits_are_tempered_as_the_mean_sigmoid_is():
    """Two classes: against the mean of a sigmoid over a Gaussian, by 200 000 draws."""
    for mean, variance in ((1.0, 0.5), (2.0, 4.0), (-1.0, 9.0)):
        wanted = torch.sigmoid(mean + math.sqrt(variance) * drawn(200_000)).mean()
        logit = torch.tensor([[mean, 0.0]]).double()
        got = torch.sigmoid(logit[0, 0] / math.sqrt(1 + math.pi / 8 * variance))
        assert got.item() == pytest.approx(wanted.item(), abs=0.02)
        told = bayes.probit_probabilities(logit, torch.full((1, 2), variance).double())
        torch.testing.assert_close(told[0, 0], got, **CLOSE)


# --------------------------------------------------------------------------------------------- HMC
@pytest.mark.equation("bayesian-leapfrog", "bayesian-metropolis")
def test_hmc_draws_from_the_closed_form():
    """A linear model with correlated weights: means and covariance within 5 standard errors."""
    x, y, noise = drawn(8, 2), drawn(8, seed=1), 0.5
    x[:, 1] = x[:, 0] + 0.5 * x[:, 1]
    exact = linear_posterior(x, y, 1.0, noise)

    def log_density(w):
        return -0.5 * w.square().sum(1) - 0.5 * ((w @ x.T - y) / noise).square().sum(1)

    draw = torch.Generator().manual_seed(0)
    chains = hmc(log_density, torch.zeros(16, 2).double(), 500, burn_in=200, leapfrog_steps=12,
                 generator=draw)  # fmt: skip
    assert 0.7 < chains.acceptance.mean() < 0.95
    assert (bayes.r_hat(chains.samples) < 1.02).all()
    effective = bayes.effective_samples(chains.samples).min()
    assert effective > 1000
    flat = chains.samples.flatten(0, 1)
    error = (flat.mean(0) - exact.mean).abs() / exact.covariance.diagonal().sqrt()
    assert error.max() < 5 / math.sqrt(effective)
    torch.testing.assert_close(flat.T.cov(), exact.covariance, rtol=0.15, atol=0.002)
    torch.testing.assert_close(chains.log_densities[-1], log_density(chains.samples[-1]), **CLOSE)


def test_a_step_far_too_long_is_corrected_by_rejection():
    """Without a burn-in the step stays; what is accepted is still distributed as it should be."""

    def log_density(w):
        return -0.5 * w.square().sum(1)

    draw = torch.Generator().manual_seed(1)
    chains = hmc(log_density, torch.randn(64, 1).double(), 1500, burn_in=0, leapfrog_steps=3,
                 step_size=1.7, generator=draw)  # fmt: skip
    assert chains.step_size == 1.7
    assert 0.3 < chains.acceptance.mean() < 0.9, "many are refused"
    assert chains.samples.var().item() == pytest.approx(1, abs=0.05)


def test_hmc_is_a_loop_over_chains_and_steps():
    """The same draws of chance, one chain after the other, with every slope computed anew."""

    def slope(w):
        return -w.pow(3)

    def log_density(w):
        return -0.25 * w.pow(4).sum(-1)

    start, length, count = drawn(3, 2), 0.9, 4
    draw = torch.Generator().manual_seed(5)
    chains = hmc(log_density, start, 30, burn_in=0, leapfrog_steps=count, step_size=length,
                 jitter=0.0, generator=draw)  # fmt: skip
    draw, q = torch.Generator().manual_seed(5), start.clone()
    for told in chains.samples:
        torch.rand((), generator=draw, dtype=q.dtype)  # the jitter's
        momentum = torch.randn(3, 2, generator=draw, dtype=q.dtype)
        chance = torch.rand(3, generator=draw, dtype=q.dtype)
        for c in range(3):
            w, p = q[c], momentum[c]
            for _ in range(count):
                p = p + length / 2 * slope(w)
                w = w + length * p
                p = p + length / 2 * slope(w)
            before = -log_density(q[c]) + momentum[c].square().sum() / 2
            after = -log_density(w) + p.square().sum() / 2
            if chance[c] < (before - after).exp():
                q[c] = w
        torch.testing.assert_close(told, q, **CLOSE)
    assert 0.2 < chains.acceptance.mean() < 0.95, "some are refused, some are not"


def test_a_leapfrog_step_is_reversible_and_of_second_order():
    """Half the step, a quarter of the energy's error: seen in the rate of acceptance."""

    def log_density(w):
        return -0.25 * w.pow(4).sum(1)

    loss = []
    for size, count in ((0.2, 5), (0.1, 10)):
        draw = torch.Generator().manual_seed(0)
        start = torch.full((4000, 1), 1.0).double()
        chains = hmc(log_density, start, 1, burn_in=0, leapfrog_steps=count, step_size=size,
                     jitter=0.0, generator=draw)  # fmt: skip
        loss.append(1 - chains.acceptance.mean().item())
    assert 3 < loss[0] / loss[1] < 5


def test_a_proposal_that_is_not_a_number_is_refused():
    def log_density(w):
        return torch.where(w[:, 0] > 0, -0.5 * w[:, 0].square(), torch.full_like(w[:, 0], math.nan))

    draw = torch.Generator().manual_seed(0)
    chains = hmc(log_density, torch.ones(32, 1).double(), 300, burn_in=20, leapfrog_steps=4,
                 step_size=0.3, generator=draw)  # fmt: skip
    assert (chains.samples > 0).all()
    assert chains.samples.mean().item() == pytest.approx(math.sqrt(2 / math.pi), abs=0.05)


@pytest.mark.equation("bayesian-r-hat", "bayesian-ess")
def test_chains_are_judged_by_their_spread_and_their_memory():
    draws = drawn(1000, 4)
    apart = draws + torch.arange(4.0).double()
    assert bayes.r_hat(draws) == pytest.approx(1, abs=0.01)
    halves = torch.cat([apart[:500], apart[500:]], 1)
    W, B = halves.var(0).mean(), halves.mean(0).var()
    assert bayes.r_hat(apart).item() == pytest.approx((499 / 500 + B / W).sqrt().item())
    slow = torch.zeros(4000, 4).double()
    for t in range(1, 4000):
        slow[t] = 0.8 * slow[t - 1] + drawn(4, seed=t)
    wanted = 16_000 * (1 - 0.8) / (1 + 0.8)  # of an autoregressive chain
    assert bayes.effective_samples(slow).item() == pytest.approx(wanted, rel=0.25)
    assert bayes.effective_samples(draws).item() == pytest.approx(4000, rel=0.2), "all are new"
    drifting = torch.linspace(0, 1, 100).double()[:, None].expand(100, 2)
    assert bayes.r_hat(drifting) > 1.5, "halves of a chain that drifts disagree"


# ------------------------------------------------------------------------------------------ scores
@pytest.mark.equation("bayesian-average")
def test_a_mixture_is_torchs_mixture():
    means, stds, y = drawn(5, 7), drawn(5, 7, seed=1).abs() + 0.1, drawn(7, seed=2)
    even = torch.distributions.Categorical(torch.ones(7, 5).double())
    wanted = MixtureSameFamily(even, Normal(means.T, stds.T))
    torch.testing.assert_close(bayes.mixture_log_prob(y, means, stds), wanted.log_prob(y), **CLOSE)
    low, high = bayes.mixture_interval(means, stds, 0.8)
    torch.testing.assert_close(wanted.cdf(low), torch.full((7,), 0.1).double(), rtol=0, atol=1e-9)
    torch.testing.assert_close(wanted.cdf(high), torch.full((7,), 0.9).double(), rtol=0, atol=1e-9)
    inside = bayes.coverage(y, low, high)
    assert inside == ((low <= y) & (y <= high)).double().mean().item()


@pytest.mark.equation("bayesian-total-variance")
def test_the_variance_of_a_mixture_is_that_of_the_means_and_the_mean_of_the_variances():
    means, stds = drawn(2000, 1), drawn(2000, 1, seed=1).abs() + 0.1
    even = torch.distributions.Categorical(torch.ones(1, 2000).double())
    wanted = MixtureSameFamily(even, Normal(means.T, stds.T)).variance
    told = bayes.Predictive(means.mean(0), means.var(0, correction=0), stds.square().mean(0))
    torch.testing.assert_close(told.variance, wanted, **CLOSE)


@pytest.mark.equation("bayesian-mutual")
def test_entropy_falls_into_noise_and_disagreement():
    p = drawn(6, 4, 3).softmax(-1)
    parts = bayes.split_entropy(p)
    Categorical = torch.distributions.Categorical
    torch.testing.assert_close(parts.total, Categorical(p.mean(0)).entropy(), **CLOSE)
    torch.testing.assert_close(parts.aleatoric, Categorical(p).entropy().mean(0), **CLOSE)
    disagreement = kl_divergence(Categorical(p), Categorical(p.mean(0).expand_as(p))).mean(0)
    torch.testing.assert_close(parts.epistemic, disagreement, **CLOSE)


@pytest.mark.equation("bayesian-ece")
def test_the_calibration_error_is_a_loop_over_bins():
    p = (3 * drawn(500, 4)).softmax(-1)
    y = torch.randint(4, (500,), generator=torch.Generator().manual_seed(0))
    sure, answer = p.max(-1)
    wanted = 0.0
    for i in range(10):
        inside = (sure > i / 10) & (sure <= (i + 1) / 10)
        if inside.any():
            gap = (answer == y)[inside].double().mean() - sure[inside].mean()
            wanted += inside.double().mean() * gap.abs()
    assert bayes.expected_calibration_error(p, y, 10) == pytest.approx(float(wanted))
    certain = torch.eye(2)[[0, 0, 0, 0]]
    assert bayes.expected_calibration_error(certain, torch.tensor([0, 0, 0, 1])) == 0.25
    shared = torch.tensor([[1.0, 0.0], [0.95, 0.05]]).double()  # both in the bin from 0.9 to 1
    found = bayes.expected_calibration_error(shared, torch.tensor([1, 0]), 10)
    assert found == pytest.approx((1 - 0.05) / 2)


@pytest.mark.equation("bayesian-temperature")
def test_the_temperature_is_the_most_likely_one():
    logits = 3 * drawn(400, 3)
    y = torch.distributions.Categorical(logits=logits / 2.5).sample()
    T = bayes.fit_temperature(logits, y)

    def nll(T):
        return F.cross_entropy(logits / T, y).item()

    assert nll(T) < min(nll(1.01 * T), nll(0.99 * T))
    assert 1.5 < T < 4


@pytest.mark.equation("bayesian-conformal")
def test_conformal_intervals_cover_as_promised_whatever_the_distribution():
    """Cauchy errors, 19 held out: the tenth new one lies inside with probability exactly 0.9."""
    torch.manual_seed(0)
    scores = torch.distributions.Cauchy(0.0, 1.0).sample((20_000, 20)).abs()
    hits = [row[19] <= bayes.conformal_quantile(row[:19], 0.9) for row in scores[:4000]]
    assert torch.stack(hits).double().mean().item() == pytest.approx(0.9, abs=0.02)
    assert bayes.conformal_quantile(torch.ones(8), 0.9) == math.inf
    assert bayes.conformal_quantile(torch.arange(1.0, 20.0), 0.9) == 18


# --------------------------------------------------------------------------------------- bad input
LINE, ZERO = nn.Linear(2, 2), torch.zeros(1, 2)


def members(*how) -> Ensemble:
    return Ensemble(lambda: nn.Linear(2, 2), *how)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: BayesianLinear(3, 2, prior_std=0.0), "prior_std=0.0 must be a finite number > 0"),
        (lambda: BayesianLinear(3, 2, bias_prior_std=-1.0), "bias_prior_std=-1.0 must be"),
        (lambda: BayesianLinear(3, 2, initial_std=0), "initial_std=0 must be a finite number > 0"),
        (lambda: BayesianLinear(3, 2, sampling="no"), "sampling='no' must be one of"),
        (lambda: BayesianLinear(0, 2), "in_features=0 must be an integer ≥ 1"),
        (lambda: BayesianLinear(3, 2)(torch.zeros(4, 5)), "x must have in_features=3 as its last"),
        (lambda: ScaleMixture(1.0), "share=1.0 must be"),
        (lambda: ScaleMixture(0.5, 1.0, 2.0), "narrow=2.0 must be a finite number > 0 and < 1"),
        (lambda: bayes.kl_divergence(LINE), "model holds no BayesianLinear"),
        (lambda: bayes.sample_functions(LINE, ZERO), "no BayesianLinear"),
        (lambda: bayes.sample_functions(BayesianLinear(2, 2), ZERO, 0), "samples=0"),
        (lambda: mc_dropout_predict(LINE, ZERO, noise_std=1.0), "no dropout"),
        (lambda: mc_dropout_predict(nn.Dropout(0.0), ZERO, noise_std=1.0), "no dropout"),
        (lambda: mc_dropout_predict(nn.Dropout(), ZERO, 0, noise_std=1.0), "samples=0"),
        (lambda: mc_dropout_predict(nn.Dropout(), ZERO, noise_std=-1.0), "noise_std=-1"),
        (lambda: members(0), "members=0 must be an integer ≥ 1"),
        (lambda: members(2, 0.0), "prior_std=0.0 must be"),
        (lambda: members(2, {"w": 1.0}), "prior_std names ['w']"),
        (lambda: members(2).penalty(), "penalty needs prior_std"),
        (lambda: members(2)(torch.zeros(3, 4, 2)), "for 3 members"),
        (lambda: members(2).member(2), "index=2 must be below"),
        (lambda: linear_posterior(torch.zeros(3, 2), torch.zeros(4)), "targets must have shape"),
        (lambda: linear_posterior(torch.zeros(3, 2), torch.zeros(3), 0.0), "prior_std=0.0 must"),
        (lambda: bayes.maximize_evidence(torch.zeros(2, 2), torch.zeros(2)), "features has 2 rows"),
        (lambda: laplace_predict(LINE, ZERO), "network has no posterior"),
        (lambda: bayes.conformal_quantile(torch.ones(3), 1.0), "level=1.0 must be"),
        (lambda: bayes.mixture_interval(torch.zeros(0, 2), 1.0), "at least one sample"),
        (lambda: bayes.mixture_log_prob(torch.zeros(2), torch.zeros(3, 2), 0.0), "noise_std=0.0"),
        (lambda: bayes.r_hat(torch.zeros(3, 2)), "samples must be four or more a chain"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_by_name(call, told):
    with refuses(ValueError, told):
        call()


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"prior_std": 0.0}, "prior_std=0.0 must be a finite number > 0"),
        ({"noise_std": 0.0}, "noise_std=0.0 must be"),
        ({"structure": "low"}, "structure='low' must be one of"),
        ({"likelihood": "poisson"}, "likelihood='poisson' must be one of"),
        ({"likelihood": "categorical"}, "y must hold integers, got torch.float"),
    ],
)
def test_laplace_refuses_by_name(how, told):
    with refuses((ValueError, TypeError), told):
        laplace_(nn.Linear(2, 1), torch.zeros(3, 2), torch.zeros(3, 1), **how)
    with refuses(ValueError, "structure='kfac' takes linear layers with a bias"):
        laplace_(
            nn.Linear(2, 1, bias=False), torch.zeros(3, 2), torch.zeros(3, 1), structure="kfac"
        )


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"samples": 0}, "samples=0 must be an integer ≥ 1"),
        ({"leapfrog_steps": 0}, "leapfrog_steps=0 must be an integer ≥ 1"),
        ({"step_size": 0.0}, "step_size=0.0 must be"),
        ({"target_acceptance": 1.0}, "target_acceptance=1.0 must be"),
        ({"log_density": lambda w: w.sum() / 0.0}, "log_density must return one number a chain"),
        ({"log_density": lambda w: w.sum(1) / 0.0}, "log_density is not finite where a chain"),
    ],
)
def test_hmc_refuses_by_name(how, told):
    given = {"log_density": lambda w: -w.square().sum(1), "start": torch.ones(2, 3)} | how
    with refuses(ValueError, told):
        hmc(**given)


# ------------------------------------------------------------------------------------- the corners
def test_the_evidence_finds_noise_that_is_small_beside_the_signal_in_single_precision():
    """A misfit by difference of squares would be rounding alone."""
    x = torch.linspace(-1, 1, 50)[:, None]
    y = 2 * x[:, 0] + 1e-4 * drawn(50)
    single, double = (bayes.maximize_evidence(x.to(kind), y.to(kind)) for kind in
                      (torch.float32, torch.float64))  # fmt: skip
    assert double.noise_std == pytest.approx(1e-4, rel=0.3)
    assert single.noise_std == pytest.approx(double.noise_std, rel=0.01)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_the_most_probable_prior_and_noise_are_in_the_units_of_the_data(scale):
    x, y = drawn(40, 3), drawn(40, seed=1) + drawn(40, 3)[:, 0]
    one, other = bayes.maximize_evidence(x, y), bayes.maximize_evidence(x, scale * y)
    assert other.noise_std == pytest.approx(scale * one.noise_std, rel=1e-6)
    assert other.prior_std == pytest.approx(scale * one.prior_std, rel=1e-6)
    longer = bayes.maximize_evidence(x / scale, y)
    assert longer.prior_std == pytest.approx(scale * one.prior_std, rel=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_equal_columns_share_their_weight_whatever_the_prior(kind):
    """I + x'x has the condition 1e17 here, which leaves nothing of I in any precision."""
    x = drawn(20, 1).repeat(1, 2).to(kind)
    found = linear_posterior(x, x[:, 0], 1e5, 1e-4)
    torch.testing.assert_close(found.mean, torch.full((2,), 0.5, dtype=kind), rtol=1e-4, atol=0)
    told = found.predict(torch.tensor([[1.0, -1.0], [1.0, 1.0]], dtype=kind)).epistemic
    assert told[0].item() == pytest.approx(2e10, rel=1e-3), "that nothing has been seen of"
    assert told[1] >= 0
    assert torch.isfinite(linear_posterior(x.half(), x[:, 0].half()).mean).all()


def test_a_proposal_of_infinite_density_is_refused():
    def log_density(w):
        return torch.where(w[:, 0] < 1, -0.5 * w[:, 0].square(), torch.full_like(w[:, 0], math.inf))

    draw = torch.Generator().manual_seed(0)
    chains = hmc(log_density, torch.zeros(8, 1), 100, burn_in=20, step_size=0.3, generator=draw)
    assert torch.isfinite(chains.log_densities).all() and (chains.samples < 1).all()


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_a_temperature_is_in_the_units_of_the_logits(scale):
    logits = 3 * drawn(400, 3)
    y = (logits + 2 * drawn(400, 3, seed=1)).argmax(1)
    wanted = bayes.fit_temperature(logits, y)
    assert bayes.fit_temperature(scale * logits, y) == pytest.approx(scale * wanted, rel=1e-6)
    assert bayes.fit_temperature(torch.ones(4, 3), torch.tensor([0, 1, 2, 0])) == 1


def test_mutual_information_is_not_below_zero_and_the_ends_of_an_interval_are_symmetric():
    same = drawn(1, 1000, 7).softmax(-1).float().expand(3, -1, -1)
    assert bayes.split_entropy(same).epistemic.min() >= 0
    low, high = bayes.mixture_interval(torch.zeros(1, 1).float(), 1.0, level=1 - 2e-9)
    assert high.item() == pytest.approx(-low.item(), rel=1e-5)
    assert high.item() == pytest.approx(Normal(0.0, 1.0).icdf(number(1 - 1e-9)).item(), rel=1e-4)


def test_a_posterior_outlives_a_change_of_precision():
    for structure in ("full", "kfac", "diagonal"):
        model, x = network(2, 4, 1), drawn(6, 2)
        laplace_(model, x, drawn(6, 1, seed=1), structure=structure)
        wanted = laplace_predict(model, x).epistemic
        told = laplace_predict(model.float(), x.float()).epistemic
        torch.testing.assert_close(told, wanted.float(), rtol=1e-4, atol=1e-6)


def test_kfac_refuses_a_layer_that_is_used_twice_or_on_more_axes():
    class Twice(nn.Module):
        def __init__(self, axes):
            super().__init__()
            self.layer, self.axes = nn.Linear(2, 2), axes

        def forward(self, x):
            if self.axes == 3:
                return self.layer(x[:, None])[:, 0]
            return self.layer(self.layer(x))

    for axes, told in ((2, "reads [(3, 2), (3, 2)]"), (3, "reads [(3, 1, 2)]")):
        with refuses(ValueError, told):
            laplace_(Twice(axes), torch.ones(3, 2), torch.ones(3, 2), structure="kfac")


def test_dropout_of_this_package_is_dropout_as_well():
    from nnlib.foundations.regularization import Dropout

    told = mc_dropout_predict(nn.Sequential(Dropout(0.5)), torch.ones(3, 2), 50, noise_std=0.0)
    assert (told.epistemic > 0).all()


def test_a_member_has_the_buffers_the_device_and_the_precision_of_its_ensemble():
    class Shifted(nn.Linear):
        def __init__(self):
            super().__init__(2, 1)
            self.register_buffer("shift", torch.rand(1), persistent=False)

        def forward(self, x):
            return super().forward(x) + self.shift

    ensemble, x = Ensemble(Shifted, 2), drawn(5, 2)
    torch.testing.assert_close(ensemble.member(1)(x), ensemble(x)[1], **CLOSE)
    wide = Ensemble(lambda: nn.Linear(2, 1).float(), 2).double()
    torch.testing.assert_close(wide.loop(drawn(5, 2)), wide(drawn(5, 2)), **CLOSE)


def test_a_layer_of_half_precision_has_no_noise_beyond_its_own():
    """The smallest normal number of float16 is 6e-5: as a variance, a deviation of 0.008."""
    made = BayesianLinear(3, 2, dtype=torch.float16)
    with torch.no_grad():
        made.weight_rho.fill_(-20.0)
        made.bias_rho.fill_(-20.0)
        draws = torch.stack([made(torch.ones(4, 3).half()) for _ in range(50)])
        assert draws.float().std(0).max() < 1e-3
        assert torch.isfinite(layer(dtype=torch.float16)(torch.full((1, 3), 300.0).half())).all()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Ensemble(3), "make must build a member when called, got 3"),
        (
            lambda: Ensemble(iter([nn.Linear(1, 1), nn.Linear(1, 2)]).__next__, 2),
            "make must return networks of one shape",
        ),
        (
            lambda: mc_dropout_predict(nn.Dropout(), torch.tensor(1.0), noise_std=0.0),
            "x must hold a batch of inputs",
        ),
        (
            lambda: bayes.coverage(torch.zeros(5), torch.zeros(5, 1), torch.ones(5)),
            "low must broadcast to targets, (5,), got (5, 1)",
        ),
        (
            lambda: bayes.mixture_log_prob(torch.zeros(5), torch.zeros(3, 5), torch.ones(3)),
            "noise_std must broadcast to means, (3, 5), got (3,)",
        ),
        (lambda: bayes.split_entropy(torch.ones(3)), "probabilities must hold samples first"),
        (
            lambda: bayes.expected_calibration_error(torch.zeros(0, 2), torch.zeros(0).long()),
            "probabilities must not be empty",
        ),
        (
            lambda: bayes.expected_calibration_error(torch.eye(2) * 3, torch.arange(2)),
            "probabilities must lie in 0 … 1, got 0 … 3",
        ),
        (lambda: bayes.maximize_evidence(torch.ones(3, 1), torch.zeros(3)), "targets must not all"),
        (lambda: bayes.maximize_evidence(torch.zeros(3, 1), torch.ones(3)), "features must not"),
    ],
)
def test_what_used_to_pass_or_to_break_without_a_name_is_refused(call, told):
    with refuses((TypeError, ValueError), told):
        call()
