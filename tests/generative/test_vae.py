"""What is particular to vae; what all promise is in tests/test_contract.py."""

import math

import pytest
import torch
from torch import distributions as D
from torch import nn

from nnlib.generative.vae import (
    VAE,
    Bound,
    VectorQuantizer,
    gaussian_kl,
    gaussian_log_prob,
    linear_gaussian_log_evidence,
    linear_gaussian_posterior,
    reparametrize,
    vae_loss,
)
from tests.support import Example, refuses

DOUBLE = torch.float64


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"input_size": 4, "latent_size": 3, "hidden_sizes": (6,)}
    return Example(arguments, (torch.rand(5, 4),), {"noise": torch.randn(5, 3)})


def seeded(*arguments, **named):
    torch.manual_seed(0)
    return VAE(*arguments, **named, dtype=DOUBLE).requires_grad_(False)


@pytest.fixture
def linear():
    """A linear Gaussian model of five numbers and two latent ones, with an inexact encoder."""
    model = seeded(5, 2, [], "gaussian")
    model.output_logvar.fill_(-0.7)
    return model, torch.randn(6, 5, dtype=DOUBLE)


def decoder_of(model):
    return model.decoder[0].weight, model.decoder[0].bias, model.output_logvar


def grid(points=2001, reach=9.0):
    z = torch.linspace(-reach, reach, points, dtype=DOUBLE)[:, None]
    return z, float(z[1, 0] - z[0, 0])


# ------------------------------------------------------------------------------- the two Gaussians
@pytest.mark.equation("vae-gaussian-kl")
def test_the_divergence_is_that_of_torch():
    mu, logvar = torch.randn(2, 50, dtype=DOUBLE) * 3
    q = D.Normal(mu, (0.5 * logvar).exp())
    wanted = D.kl_divergence(q, D.Normal(torch.zeros_like(mu), 1))
    torch.testing.assert_close(gaussian_kl(mu, logvar), wanted, rtol=1e-12, atol=1e-12)


def test_the_divergence_keeps_its_digits_near_the_prior():
    """For logvar = ε it is ε²/4 + ε³/12 + …; single precision would otherwise answer 0."""
    small = torch.tensor([1e-3, -1e-3, 1e-2, -1e-2])
    wanted = (small.double() ** 2 / 4 + small.double() ** 3 / 12).float()
    torch.testing.assert_close(gaussian_kl(torch.zeros(4), small), wanted, rtol=2e-3, atol=0)


@pytest.mark.parametrize("logvar", [-1e30, -200.0, -1e-8, 0.0, 1e-8, 80.0, 200.0, 1e30])
def test_the_divergence_is_never_nan_and_never_negative(logvar):
    kl = gaussian_kl(torch.zeros(3), torch.full((3,), logvar))
    assert not kl.isnan().any()
    assert (kl >= 0).all()


@pytest.mark.equation("vae-posterior")
def test_the_density_of_a_code_is_the_product_of_normal_ones():
    model = seeded(5, 2, [7])
    x = torch.rand(4, 5, dtype=DOUBLE)
    first, last = model.encoder
    mu, logvar = last(first(x).relu()).split(2, -1)
    torch.testing.assert_close(model.encode(x), (mu, logvar), rtol=0, atol=0)
    z = torch.randn(4, 2, dtype=DOUBLE)
    whole = D.MultivariateNormal(mu, torch.diag_embed(logvar.exp()))
    torch.testing.assert_close(gaussian_log_prob(z, mu, logvar).sum(-1), whole.log_prob(z))


@pytest.mark.equation("vae-reparametrization")
def test_the_sample_has_mean_and_variance_and_their_gradients():
    torch.manual_seed(0)
    many = 40_000
    mu = torch.tensor([1.5, -0.5], dtype=DOUBLE).requires_grad_()
    logvar = torch.tensor([0.8, -2.0], dtype=DOUBLE).requires_grad_()
    noise = torch.randn(many, 2, dtype=DOUBLE)
    z = reparametrize(mu.expand(many, 2), logvar.expand(many, 2), noise)
    sigma = logvar.exp().sqrt()
    assert ((z.mean(0) - mu).abs() < 5 * sigma / many**0.5).all()
    assert ((z.var(0) / sigma**2 - 1).abs() < 5 * (2 / many) ** 0.5).all()
    to_mu, to_logvar = torch.autograd.grad(z.sum(), (mu, logvar))
    torch.testing.assert_close(to_mu, torch.full_like(mu, many))
    torch.testing.assert_close(to_logvar, (0.5 * sigma * noise.sum(0)).detach())


def quadrature(mu, sigma):
    z, step = grid(8001, 12.0)
    z = z[:, 0]
    density = D.Normal(torch.tensor(mu, dtype=DOUBLE), sigma)
    return z, density.log_prob(z).exp() * step


@pytest.mark.equation("vae-score-function")
def test_the_score_function_gradient_is_the_derivative_of_the_mean():
    """E z² = μ² + σ², so its derivatives are 2μ and, in log σ², σ²."""
    mu, sigma = 0.7, 0.6
    z, weight = quadrature(mu, sigma)
    score_mu = (z - mu) / sigma**2
    score_logvar = 0.5 * ((z - mu) ** 2 / sigma**2 - 1)
    mean = [float((weight * z**2 * score).sum()) for score in (score_mu, score_logvar)]
    assert mean == pytest.approx([2 * mu, sigma**2], rel=1e-9)


@pytest.mark.equation("vae-pathwise")
def test_the_pathwise_gradient_is_the_derivative_of_the_mean():
    mu, sigma = 0.7, 0.6
    noise, weight = quadrature(0.0, 1.0)
    m = torch.tensor(mu, dtype=DOUBLE).requires_grad_()
    logvar = torch.tensor(2 * math.log(sigma), dtype=DOUBLE).requires_grad_()
    z = reparametrize(m.expand_as(noise), logvar.expand_as(noise), noise)
    found = torch.autograd.grad((weight * z**2).sum(), (m, logvar))
    assert [float(g) for g in found] == pytest.approx([2 * mu, sigma**2], rel=1e-9)


# ------------------------------------------------------------------------------ the likelihoods
@pytest.mark.equation("vae-bernoulli")
def test_bernoulli_is_torchs():
    model = seeded(4, 2)
    x, out = torch.rand(6, 4, dtype=DOUBLE).round(), torch.randn(6, 4, dtype=DOUBLE)
    wanted = D.Bernoulli(logits=out).log_prob(x).sum(-1)
    torch.testing.assert_close(model.log_likelihood(x, out), wanted)


@pytest.mark.equation("vae-gaussian")
def test_gaussian_is_torchs_with_the_learned_variance():
    model = seeded(4, 2, likelihood="gaussian")
    model.output_logvar.fill_(-1.3)
    x, out = torch.randn(2, 6, 4, dtype=DOUBLE)
    wanted = D.Normal(out, math.exp(-0.65)).log_prob(x).sum(-1)
    torch.testing.assert_close(model.log_likelihood(x, out), wanted)


@pytest.mark.equation("vae-categorical")
def test_categorical_is_torchs_and_sums_to_one_over_the_levels():
    model = seeded(4, 2, likelihood="categorical", num_levels=5)
    level, out = torch.randint(5, (6, 4)), torch.randn(6, 4, 5, dtype=DOUBLE)
    wanted = D.Categorical(logits=out).log_prob(level).sum(-1)
    torch.testing.assert_close(model.log_likelihood(level.double() / 4, out), wanted)
    one = seeded(1, 2, likelihood="categorical", num_levels=5)
    every = torch.arange(5, dtype=DOUBLE)[:, None] / 4
    total = one.log_likelihood(every, out[:1, :1].expand(5, 1, 5)).exp().sum()
    assert float(total) == pytest.approx(1)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_what_is_drawn_has_the_mean_that_is_shown(likelihood):
    model = seeded(3, 2, likelihood=likelihood, num_levels=5)
    decoded = model.decode(torch.randn(1, 2, dtype=DOUBLE))
    many = 20_000
    drawn = model.draw(decoded.expand(many, *decoded.shape[1:]))
    assert ((drawn.mean(0) - model.mean(decoded)[0]).abs() < 5 / many**0.5).all()
    if likelihood != "gaussian":
        assert torch.isin(drawn, torch.linspace(0, 1, 5, dtype=DOUBLE)).all()


def test_samples_have_shape_range_and_variety():
    model = seeded(6, 2, likelihood="categorical", num_levels=3)
    drawn = model.sample(40)
    assert drawn.shape == (40, 6)
    assert set(drawn.unique().tolist()) == {0.0, 0.5, 1.0}


# ------------------------------------------------------------------------------------ the evidence
@pytest.mark.equation("vae-marginal")
def test_the_evidence_is_the_integral_over_all_codes():
    model = seeded(5, 1, [], "gaussian")
    x = torch.randn(3, 5, dtype=DOUBLE)
    z, step = grid()
    likelihood = model.log_likelihood(x[:, None].expand(-1, len(z), -1).flatten(0, 1),
                                      model.decode(z).repeat(3, 1)).view(3, -1)  # fmt: skip
    prior = D.Normal(0, 1).log_prob(z[:, 0])
    integral = (likelihood + prior).logsumexp(1) + math.log(step)
    weight, bias, logvar = decoder_of(model)
    wanted = linear_gaussian_log_evidence(x, weight, bias, logvar)
    torch.testing.assert_close(integral, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.equation("vae-linear-evidence")
def test_the_linear_evidence_is_a_normal_density(linear):
    model, x = linear
    weight, bias, logvar = decoder_of(model)
    covariance = weight @ weight.T + logvar.exp() * torch.eye(5, dtype=DOUBLE)
    wanted = D.MultivariateNormal(bias, covariance).log_prob(x)
    found = linear_gaussian_log_evidence(x, weight, bias, logvar)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.equation("vae-linear-posterior")
def test_the_linear_posterior_is_the_joint_one_conditioned(linear):
    model, x = linear
    weight, bias, logvar = decoder_of(model)
    covariance = weight @ weight.T + logvar.exp() * torch.eye(5, dtype=DOUBLE)
    gain = weight.T @ torch.linalg.inv(covariance)  # of z given x, where the cov. of z, x is Wᵀ
    mean, spread = linear_gaussian_posterior(x, weight, bias, logvar)
    torch.testing.assert_close(mean, (x - bias) @ gain.T, rtol=1e-10, atol=1e-10)
    wanted = torch.eye(2, dtype=DOUBLE) - gain @ weight
    torch.testing.assert_close(spread, wanted, rtol=1e-10, atol=1e-10)


def exact_elbo(model, x):
    """The bound of a linear model with no sampling: a Gaussian mean of a square."""
    mu, logvar = model.encode(x)
    weight, bias, noise = decoder_of(model)
    extra = (logvar.exp() * weight.square().sum(0)).sum(-1) / noise.exp()
    q = D.Independent(D.Normal(mu, (0.5 * logvar).exp()), 1)
    p = D.Independent(D.Normal(torch.zeros_like(mu), 1), 1)
    fit = D.Normal(mu @ weight.T + bias, (0.5 * noise).exp()).log_prob(x).sum(-1)
    return fit - 0.5 * extra - D.kl_divergence(q, p)


@pytest.mark.equation("vae-elbo")
def test_the_bound_has_the_mean_that_the_integral_has(linear):
    model, x = linear
    torch.manual_seed(1)
    many = torch.stack([model.elbo(x) for _ in range(2000)])
    error = 5 * many.std(0) / len(many) ** 0.5
    assert ((many.mean(0) - exact_elbo(model, x)).abs() < error).all()


@pytest.mark.equation("vae-gap")
def test_what_the_bound_lacks_is_the_divergence_from_the_posterior(linear):
    model, x = linear
    mu, logvar = model.encode(x)
    mean, spread = linear_gaussian_posterior(x, *decoder_of(model))
    q = D.MultivariateNormal(mu, torch.diag_embed(logvar.exp()))
    gap = D.kl_divergence(q, D.MultivariateNormal(mean, spread.expand(6, 2, 2)))
    evidence = linear_gaussian_log_evidence(x, *decoder_of(model))
    torch.testing.assert_close(evidence - exact_elbo(model, x), gap, rtol=1e-9, atol=1e-9)
    assert (gap > 0).all()


@pytest.mark.equation("vae-jensen")
def test_the_logarithm_of_a_mean_is_above_the_mean_of_logarithms():
    """By enumeration, for a code of seven values and any q of full support."""
    torch.manual_seed(0)
    joint = torch.rand(7, dtype=DOUBLE)
    for _ in range(20):
        q = torch.rand(7, dtype=DOUBLE)
        q /= q.sum()
        assert (q * (joint / q).log()).sum() < joint.sum().log()
    exact = joint / joint.sum()
    torch.testing.assert_close((exact * (joint / exact).log()).sum(), joint.sum().log())


@pytest.mark.equation("vae-gaps")
def test_the_gap_is_what_the_encoder_and_what_its_family_miss(linear):
    """The best diagonal Gaussian of a Gaussian posterior has the inverse precisions' diagonal."""
    model, x = linear
    weight, *_ = parts = decoder_of(model)
    mean, spread = linear_gaussian_posterior(x, *parts)
    precision = torch.linalg.inv(spread)
    post = D.MultivariateNormal(mean, spread.expand(6, 2, 2))
    best = D.MultivariateNormal(mean, torch.diag(1 / precision.diagonal()).expand(6, 2, 2))
    approximation = D.kl_divergence(best, post)
    with_best = linear_gaussian_log_evidence(x, *parts) - approximation
    amortisation = with_best - exact_elbo(model, x)
    assert (amortisation > 0).all()
    assert (approximation > 0).all()  # the columns of W are not orthogonal
    # no other diagonal Gaussian is better
    for factor in (0.9, 1.1):
        other = D.MultivariateNormal(
            mean, torch.diag(factor / precision.diagonal()).expand(6, 2, 2)
        )
        assert (D.kl_divergence(other, post) > approximation).all()
    # orthogonal columns: the family holds the posterior
    orthogonal = torch.linalg.qr(weight)[0]
    _, round_ = linear_gaussian_posterior(x, orthogonal, *parts[1:])
    torch.testing.assert_close(round_, torch.diag(round_.diagonal()), rtol=0, atol=1e-12)


@pytest.mark.equation("vae-ppca")
def test_the_best_linear_decoder_is_that_of_principal_components():
    torch.manual_seed(0)
    x = torch.randn(200, 5, dtype=DOUBLE) @ torch.randn(5, 5, dtype=DOUBLE)
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    noise = values[:3].mean()
    weight = (vectors[:, 3:] * (values[3:] - noise).sqrt()).requires_grad_()
    logvar = noise.log().requires_grad_()
    value = linear_gaussian_log_evidence(x, weight, torch.zeros(5, dtype=DOUBLE), logvar).mean()
    for slope in torch.autograd.grad(value, (weight, logvar)):
        assert slope.abs().max() < 1e-9
    with torch.no_grad():
        for _ in range(20):
            other = weight + 0.1 * torch.randn_like(weight)
            zero = torch.zeros(5, dtype=DOUBLE)
            assert linear_gaussian_log_evidence(x, other, zero, logvar).mean() < value


@pytest.mark.equation("vae-surgery")
def test_the_mean_divergence_is_information_and_a_distance_of_the_aggregate():
    mu = torch.tensor([[-1.0], [0.4], [2.0]], dtype=DOUBLE)
    logvar = torch.tensor([[-1.0], [0.0], [-2.0]], dtype=DOUBLE)
    z, step = grid(8001, 12.0)
    each = D.Normal(mu, (0.5 * logvar).exp()).log_prob(z[:, 0])  # three densities
    total = each.logsumexp(0) - math.log(3)
    prior = D.Normal(0, 1).log_prob(z[:, 0])
    information = (each.exp() * (each - total)).sum(1).mean() * step
    aggregate = (total.exp() * (total - prior)).sum() * step
    torch.testing.assert_close(gaussian_kl(mu, logvar).mean(), information + aggregate)


# ---------------------------------------------------------------------------------- the objectives
@pytest.mark.equation("vae-loss")
def test_the_loss_is_minus_the_mean_bound():
    model, x = seeded(4, 2), torch.rand(7, 4, dtype=DOUBLE)
    torch.manual_seed(3)
    loss = vae_loss(model, x)
    torch.manual_seed(3)
    mu, logvar = model.encode(x)
    z = mu + (0.5 * logvar).exp() * torch.randn_like(mu)
    decoded = model.decode(z)
    cross = -(x * decoded - nn.functional.softplus(decoded)).sum(-1)
    kl = -0.5 * (1 + logvar - mu.square() - logvar.exp()).sum(-1)
    torch.testing.assert_close(loss, (cross + kl).mean())


@pytest.mark.equation("vae-beta")
def test_beta_weighs_the_divergence_alone():
    model, x = seeded(4, 2), torch.rand(7, 4, dtype=DOUBLE)
    losses = []
    for beta in (0.0, 1.0, 3.0):
        torch.manual_seed(3)
        losses.append(float(vae_loss(model, x, beta=beta)))
    kl = float(gaussian_kl(*model.encode(x)).sum(-1).mean())
    assert losses[1] - losses[0] == pytest.approx(kl)
    assert losses[2] - losses[0] == pytest.approx(3 * kl)


@pytest.mark.equation("vae-free-bits")
def test_free_bits_are_not_paid_for_and_have_no_gradient():
    model, x = seeded(4, 3), torch.rand(7, 4, dtype=DOUBLE)
    each = [float(kl) for kl in gaussian_kl(*model.encode(x)).mean(0)]
    free = sorted(each)[1]  # the second smallest of three
    torch.manual_seed(3)
    paid = float(vae_loss(model, x, free_bits=free) - sum(max(kl, free) for kl in each))
    torch.manual_seed(3)
    assert paid == pytest.approx(float(vae_loss(model, x, beta=0)))
    model.requires_grad_(True)
    model.decoder.requires_grad_(False)
    torch.manual_seed(3)
    with_all_free = vae_loss(model, x, free_bits=max(each) + 1)
    torch.manual_seed(3)
    without = vae_loss(model, x, beta=0)
    slopes = [torch.autograd.grad(loss, model.encoder[-1].weight)[0]
              for loss in (with_all_free, without)]  # fmt: skip
    torch.testing.assert_close(*slopes)


@pytest.mark.equation("vae-iwae")
def test_the_weighted_bound_is_the_logarithm_of_a_mean_of_weights():
    model, x = seeded(4, 2), torch.rand(3, 4, dtype=DOUBLE).round()
    torch.manual_seed(5)
    found = model.importance_weighted_bound(x, 6)
    torch.manual_seed(5)
    noise = torch.randn(18, 2, dtype=DOUBLE).view(6, 3, 2)
    mu, logvar = model.encode(x)
    q, p = D.Normal(mu, (0.5 * logvar).exp()), D.Normal(torch.zeros(2, dtype=DOUBLE), 1)
    weights = []
    for eps in noise:
        z = mu + (0.5 * logvar).exp() * eps
        seen = D.Bernoulli(logits=model.decode(z)).log_prob(x).sum(-1)
        weights.append((seen + p.log_prob(z).sum(-1) - q.log_prob(z).sum(-1)).exp())
    torch.testing.assert_close(found, torch.stack(weights).mean(0).log())


def test_the_weighted_bound_rises_from_the_bound_to_the_evidence(linear):
    model, x = linear
    torch.manual_seed(0)
    means = [torch.stack([model.importance_weighted_bound(x, k) for _ in range(400)]).mean()
             for k in (1, 4, 32, 1000)]  # fmt: skip
    evidence = linear_gaussian_log_evidence(x, *decoder_of(model)).mean()
    assert float(means[0]) == pytest.approx(float(exact_elbo(model, x).mean()), abs=0.1)
    assert means[0] < means[1] < means[2] < means[3]
    assert float(means[3]) == pytest.approx(float(evidence), abs=0.02)


def test_an_exact_encoder_makes_every_weight_the_evidence():
    """With q = p(z | x) there is no gap, and no noise either."""
    model = seeded(3, 1, [], "gaussian")
    weight, *_ = parts = decoder_of(model)
    _, spread = linear_gaussian_posterior(torch.zeros(1, 3, dtype=DOUBLE), *parts)
    x = torch.randn(4, 3, dtype=DOUBLE)
    gain = spread @ weight.T / model.output_logvar.exp()
    model.encoder[0].weight.copy_(torch.cat([gain, torch.zeros_like(gain)]))
    model.encoder[0].bias.copy_(torch.cat([-gain @ parts[1], spread.log()[0]]))
    evidence = linear_gaussian_log_evidence(x, *parts)
    torch.testing.assert_close(model.importance_weighted_bound(x, 1), evidence)


def test_a_condition_reaches_both_networks():
    model, x = seeded(4, 2, condition_size=3), torch.rand(2, 4, dtype=DOUBLE)
    one, two = torch.eye(3, dtype=DOUBLE)[[0, 0]], torch.eye(3, dtype=DOUBLE)[[1, 2]]
    assert not torch.equal(model.encode(x, one)[0], model.encode(x, two)[0])
    z = torch.zeros(2, 2, dtype=DOUBLE)
    assert not torch.equal(model.decode(z, one), model.decode(z, two))
    assert model.sample(2, one).shape == model.reconstruct(x, two).shape == (2, 4)
    assert model.importance_weighted_bound(x, 3, one).shape == (2,)


# ---------------------------------------------------------------------------------------- discrete
@pytest.fixture
def quantizer():
    torch.manual_seed(0)
    return VectorQuantizer(6, 3, commitment=0.4, dtype=DOUBLE)


@pytest.mark.equation("vae-quantize")
def test_the_nearest_codeword_is_the_nearest(quantizer):
    z = torch.randn(50, 2, 3, dtype=DOUBLE)
    wanted = torch.cdist(z.view(-1, 3), quantizer.weight).argmin(-1).view(50, 2)
    made = quantizer(z)
    assert torch.equal(made.indices, wanted)
    torch.testing.assert_close(made.z, quantizer.weight[wanted])


@pytest.mark.equation("vae-straight-through")
def test_the_gradient_passes_as_if_nothing_were_rounded(quantizer):
    z = torch.randn(5, 3, dtype=DOUBLE).requires_grad_()
    slope = torch.randn(5, 3, dtype=DOUBLE)
    (quantizer(z).z * slope).sum().backward()
    assert torch.equal(z.grad, slope)
    assert quantizer.weight.grad is None  # the decoder's error does not move codewords


@pytest.mark.equation("vae-vq-loss")
def test_codewords_and_codes_are_drawn_to_each_other(quantizer):
    z = torch.randn(5, 3, dtype=DOUBLE).requires_grad_()
    made = quantizer(z)
    chosen = quantizer.weight.detach()[made.indices]
    apart = (z.detach() - chosen).square().sum(-1)
    torch.testing.assert_close(made.loss.detach(), 1.4 * apart)
    made.loss.sum().backward()
    torch.testing.assert_close(z.grad, 0.4 * 2 * (z.detach() - chosen))
    wanted = torch.zeros(6, 3, dtype=DOUBLE)
    wanted.index_add_(0, made.indices, 2 * (chosen - z.detach()))
    torch.testing.assert_close(quantizer.weight.grad, wanted)


@pytest.mark.equation("vae-vq-bound")
def test_one_code_gives_a_bound_of_the_sum_over_all():
    """Every code has its share of the evidence; the encoder's is one of them."""
    torch.manual_seed(0)
    prior = torch.randn(6, dtype=DOUBLE).log_softmax(0)
    likelihood = torch.randn(10, 6, dtype=DOUBLE).log_softmax(0)  # ten pictures, six codes
    evidence = (likelihood + prior).logsumexp(1)
    assert float(evidence.exp().sum()) == pytest.approx(1)
    assert ((likelihood + prior).amax(1) < evidence).all()


def test_a_codeword_that_nobody_uses_is_revived():
    torch.manual_seed(0)
    quantizer = VectorQuantizer(4, 2)
    z = torch.randn(100, 2)
    with torch.no_grad():
        quantizer.weight[:2] += 100
    assert quantizer.revive(z) >= 2
    assert (torch.bincount(quantizer.nearest(z), minlength=4) > 0).all()
    kept = quantizer.weight.clone()
    assert quantizer.revive(z) == 0
    assert torch.equal(quantizer.weight, kept)


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"input_size": 0}, ValueError, "input_size=0"),
        ({"latent_size": 0}, ValueError, "latent_size=0"),
        ({"latent_size": -2}, ValueError, "latent_size=-2"),
        ({"hidden_sizes": [8, 0]}, ValueError, "hidden_sizes[1]=0"),
        ({"hidden_sizes": 8}, TypeError, "hidden_sizes=8 must be a sequence"),
        ({"likelihood": "poisson"}, ValueError, "likelihood='poisson'"),
        ({"num_levels": 1}, ValueError, "num_levels=1"),
        ({"condition_size": -1}, ValueError, "condition_size=-1"),
    ],
)
def test_sizes_that_make_no_model_are_refused(change, error, message):
    with refuses(error, message):
        VAE(**{"input_size": 4, "latent_size": 2} | change)


def test_what_does_not_fit_is_refused_by_name():
    model = VAE(4, 2)
    with refuses(ValueError, "x must have shape (n, 4), got (2, 5)"):
        model(torch.rand(2, 5))
    with refuses(ValueError, "z must have shape (n, 2), got (3, 3)"):
        model.decode(torch.rand(3, 3))
    with refuses(ValueError, "x must lie in 0 … 1 for a bernoulli likelihood, got"):
        model(torch.full((2, 4), 1.5))
    with refuses(ValueError, "condition must be None with condition_size=0"):
        model(torch.rand(2, 4), torch.rand(2, 3))
    with refuses(ValueError, "condition must be a tensor with condition_size=3"):
        VAE(4, 2, condition_size=3)(torch.rand(2, 4))
    with refuses(ValueError, "condition must have shape (2, 3), got (2, 4)"):
        VAE(4, 2, condition_size=3)(torch.rand(2, 4), torch.rand(2, 4))
    with refuses(ValueError, "noise must have shape (2, 2), got (2, 3)"):
        model(torch.rand(2, 4), noise=torch.rand(2, 3))
    with refuses(ValueError, "logvar must have shape (2, 3), got (2, 4)"):
        gaussian_kl(torch.zeros(2, 3), torch.zeros(2, 4))
    with refuses(ValueError, "num_samples=0"):
        model.importance_weighted_bound(torch.rand(2, 4), 0)
    with refuses(ValueError, "beta=-1"):
        vae_loss(model, torch.rand(2, 4), beta=-1)
    with refuses(ValueError, "free_bits=-0.5"):
        vae_loss(model, torch.rand(2, 4), free_bits=-0.5)
    with refuses(ValueError, "num_embeddings=1"):
        VectorQuantizer(1, 3)
    with refuses(ValueError, "commitment=-1"):
        VectorQuantizer(4, 3, commitment=-1)
    with refuses(ValueError, "z must have 3 numbers a code (embedding_dim), got shape (5, 2)"):
        VectorQuantizer(4, 3)(torch.rand(5, 2))


def test_an_encoder_that_overflows_gives_infinity_and_no_nan():
    """A variance that is too large for a float costs infinitely much, which the loss can show."""
    model = VAE(3, 1, [], "gaussian")
    with torch.no_grad():
        model.encoder[0].weight.zero_()
        model.encoder[0].bias.copy_(torch.tensor([0.0, 1e4]))
    made = model(torch.rand(2, 3), noise=torch.zeros(2, 1) + 1e-3)
    assert isinstance(made, Bound)
    assert torch.isposinf(made.kl).all()
    tiny = gaussian_kl(torch.zeros(1), torch.tensor([-1e4])).requires_grad_()
    assert torch.isfinite(tiny).all()
