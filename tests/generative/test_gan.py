"""What is particular to gan; what all promise is in tests/test_contract.py."""

import math

import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import distributions as D
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm

from nnlib.generative.gan import (
    ConvDiscriminator,
    ConvGenerator,
    Discriminator,
    Generator,
    MappingNetwork,
    ModulatedConv2d,
    PatchGAN,
    SpectralNorm,
    StyleGenerator,
    clip_weights_,
    cycle_consistency,
    gradient_penalty,
    hinge_loss,
    least_squares_loss,
    minibatch_std,
    minimax_loss,
    non_saturating_loss,
    path_lengths,
    r1_penalty,
    relativistic_loss,
    spectral_norm_,
    truncate,
    wasserstein_loss,
)
from tests.support import Example, refuses

DOUBLE = torch.float64
LOSSES = [
    minimax_loss,
    non_saturating_loss,
    least_squares_loss,
    hinge_loss,
    wasserstein_loss,
    relativistic_loss,
]


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"latent_size": 3, "output_size": 4, "hidden_sizes": (6,)}
    return Example(arguments, (torch.randn(5, 3),))


@pytest.fixture
def scores():
    torch.manual_seed(0)
    return torch.randn(7, dtype=DOUBLE) * 3, torch.randn(7, dtype=DOUBLE) * 3


# ------------------------------------------------------------------------------- losses of the game
@pytest.mark.equation("gan-minimax")
def test_the_value_of_the_game_is_that_of_bernoulli_log_likelihoods(scores):
    real, fake = scores
    value = D.Bernoulli(logits=real).log_prob(torch.ones(7, dtype=DOUBLE)).mean()
    fooled = D.Bernoulli(logits=fake).log_prob(torch.zeros(7, dtype=DOUBLE)).mean()
    found = minimax_loss(real, fake)
    torch.testing.assert_close(found.discriminator, -(value + fooled))
    torch.testing.assert_close(found.generator, fooled)


@pytest.mark.equation("gan-scores")
def test_a_score_is_the_log_odds_of_real(scores):
    real, fake = scores
    d, g = real.sigmoid(), fake.sigmoid()
    found = minimax_loss(real, fake)
    torch.testing.assert_close(found.discriminator, -(d.log().mean() + (1 - g).log().mean()))
    assert found.generator.item() == pytest.approx((1 - g).log().mean().item())


@pytest.mark.equation("gan-non-saturating")
def test_the_non_saturating_generator_has_the_labels_swapped(scores):
    real, fake = scores
    found = non_saturating_loss(real, fake)
    ones = torch.ones_like(fake)
    torch.testing.assert_close(found.generator, F.binary_cross_entropy_with_logits(fake, ones))
    torch.testing.assert_close(found.discriminator, minimax_loss(real, fake).discriminator)


@pytest.mark.equation("gan-saturation")
def test_where_the_discriminator_wins_one_slope_vanishes_and_the_other_does_not():
    """At D = 0.01 the slopes in the score are 0.01 and 0.99, both downhill."""
    score = torch.tensor([math.log(0.01 / 0.99)], dtype=DOUBLE, requires_grad=True)
    slopes = []
    for loss in (minimax_loss, non_saturating_loss):
        (slope,) = torch.autograd.grad(loss(score.detach(), score).generator, score)
        slopes.append(slope.item())
    assert slopes == pytest.approx([-0.01, -0.99], rel=1e-9)


@pytest.mark.equation("gan-least-squares")
def test_least_squares_is_half_the_mean_squared_error(scores):
    real, fake = scores
    found = least_squares_loss(real, fake)
    one, zero = torch.ones_like(real), torch.zeros_like(real)
    judge = F.mse_loss(torch.cat([real, fake]), torch.cat([one, zero]))  # over 2 n numbers
    torch.testing.assert_close(found.discriminator, judge)
    torch.testing.assert_close(found.generator, F.mse_loss(fake, one) / 2)


@pytest.mark.equation("gan-hinge")
def test_hinge_is_torchs_hinge_embedding(scores):
    real, fake = scores
    wanted = F.multi_margin_loss  # of two scores, ±s/2, with margin 1
    pairs = torch.stack([real / 2, -real / 2], 1), torch.stack([fake / 2, -fake / 2], 1)
    first = torch.zeros(7, dtype=torch.int64)
    judge = 2 * (wanted(pairs[0], first) + wanted(pairs[1], 1 - first))
    found = hinge_loss(real, fake)
    torch.testing.assert_close(found.discriminator, judge)
    torch.testing.assert_close(found.generator, -fake.sum() / 7)


@pytest.mark.equation("gan-relativistic")
def test_relativistic_compares_pairs(scores):
    real, fake = scores
    found = relativistic_loss(real, fake)
    apart = (real - fake).tolist()
    each, back = ([math.log1p(math.exp(sign * d)) for d in apart] for sign in (-1, 1))
    assert found.discriminator.item() == pytest.approx(sum(each) / 7)
    assert found.generator.item() == pytest.approx(sum(back) / 7)
    moved = relativistic_loss(real + 5, fake + 5)  # only differences count
    torch.testing.assert_close(found, moved)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_player_moves_the_scores_its_own_way(loss, scores):
    real, fake = (part.clone().requires_grad_() for part in scores)
    found = loss(real, fake)
    if loss is not least_squares_loss:  # whose slope turns beyond its targets
        to_real, to_fake = torch.autograd.grad(found.discriminator, (real, fake), retain_graph=True)
        assert (to_real <= 0).all() and (to_fake >= 0).all()
        assert (to_real < 0).any() and (to_fake > 0).any()
        (to_fake,) = torch.autograd.grad(found.generator, fake)
        assert (to_fake < 0).all()
    else:
        (to_fake,) = torch.autograd.grad(found.generator, fake)
        torch.testing.assert_close(to_fake, (fake.detach() - 1) / 7)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("extreme", [-1e4, -200.0, -40.0, 40.0, 200.0, 1e4])
def test_critics_that_saturate_give_finite_losses_and_slopes(loss, extreme):
    """log(1 − σ(40)) is −inf in single precision when taken literally."""
    real = torch.full((3,), -extreme, requires_grad=True)
    fake = torch.full((3,), extreme, requires_grad=True)
    found = loss(real, fake)
    assert torch.isfinite(torch.stack(found)).all()
    slopes = torch.autograd.grad(found.discriminator + found.generator, (real, fake))
    assert all(torch.isfinite(slope).all() for slope in slopes)


def test_losses_refuse_what_is_no_score():
    with refuses(TypeError, "fake must be floating point"):
        minimax_loss(torch.zeros(2), torch.zeros(2, dtype=torch.int64))
    with refuses(ValueError, "real must not be empty"):
        wasserstein_loss(torch.zeros(0), torch.zeros(2))
    with refuses(ValueError, "fake must have the shape of real, (2,), got (3,)"):
        relativistic_loss(torch.zeros(2), torch.zeros(3))


# ------------------------------------------------------------------------------ the ideal opponent
def grid_of_two():
    """A mixture and a normal distribution, as probabilities of the cells of a grid."""
    x = torch.linspace(-9, 9, 601, dtype=DOUBLE)
    p = 0.5 * D.Normal(-2.0, 0.7).log_prob(x).exp() + 0.5 * D.Normal(2.0, 0.7).log_prob(x).exp()
    q = D.Normal(0.5, 1.5).log_prob(x).exp()
    return p / p.sum(), q / q.sum()


@pytest.mark.equation("gan-optimal")
def test_the_best_discriminator_is_the_share_of_the_real_density():
    """Found by Newton's method at every place of a grid, from the losses alone."""
    p, q = grid_of_two()
    score = torch.zeros_like(p).requires_grad_()
    for _ in range(40):
        loss = (p * F.softplus(-score) + q * F.softplus(score)).sum()
        (slope,) = torch.autograd.grad(loss, score, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), score)
        step = (slope / bend.clamp(min=1e-300)).clamp(-2, 2)
        score = (score - step).detach().requires_grad_()
    keep = (p + q) > 1e-9
    torch.testing.assert_close(score.sigmoid()[keep], (p / (p + q))[keep], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(score[keep], (p.log() - q.log())[keep], rtol=1e-5, atol=1e-5)


@pytest.mark.equation("gan-jsd")
def test_against_the_best_discriminator_the_value_is_a_jensen_shannon_divergence():
    p, q = grid_of_two()
    best = p / (p + q)
    value = (p * best.log() + q * (1 - best).log()).sum().item()
    divergence = jensenshannon(p.numpy(), q.numpy()) ** 2  # scipy's is a square root, in nats
    assert value == pytest.approx(-math.log(4) + 2 * divergence, abs=1e-10)
    torch.manual_seed(0)
    for _ in range(200):  # and no other discriminator has a higher one
        other = (best.logit() + 0.3 * torch.randn_like(best)).sigmoid()
        assert (p * other.log() + q * (1 - other).log()).sum().item() < value


@pytest.mark.equation("gan-wasserstein")
def test_the_best_critic_of_two_shifted_sets_has_their_distance():
    """On a line W is the mean distance of sorted pairs; of a shift by m, f(x) = −x attains it."""
    torch.manual_seed(0)
    real = torch.randn(50, dtype=DOUBLE)
    fake = real + 3.0
    sorted_pairs = (real.sort().values - fake.sort().values).abs().mean()
    best = wasserstein_loss(-real, -fake).discriminator
    torch.testing.assert_close(-best, sorted_pairs)
    for _ in range(50):  # other 1-Lipschitz functions: mixtures of shifted absolute values
        at, share = torch.randn(8, 1, dtype=DOUBLE) * 3, torch.randn(8, 1, dtype=DOUBLE)
        share = share / share.abs().sum()
        scores = [(share * (x - at).abs()).sum(0) for x in (real, fake)]
        assert -wasserstein_loss(*scores).discriminator <= sorted_pairs + 1e-12


@pytest.mark.equation("gan-overshoot")
def test_a_penalised_critic_is_steeper_than_one_while_the_sets_are_apart():
    """The best slope of a line, found by gradient descent on the losses themselves."""
    weight, shift = 10.0, 4.0
    real = torch.randn(60, 1, dtype=DOUBLE)
    slope = torch.tensor(0.5, dtype=DOUBLE, requires_grad=True)
    for _ in range(200):
        scores = [-slope * x[:, 0] for x in (real, real + shift)]
        penalty = gradient_penalty(
            lambda x, slope=slope: -slope * x[:, 0], real, real + shift, weight
        )
        loss = wasserstein_loss(*scores).discriminator + penalty
        (down,) = torch.autograd.grad(loss, slope)
        slope = (slope - 0.02 * down).detach().requires_grad_()
    assert slope.item() == pytest.approx(1 + shift / (2 * weight), abs=1e-9)


# ------------------------------------------------------------------------------------ the Dirac-GAN
def dirac_field(theta, psi, gamma=0.0):
    """How both players want to move: data at 0, samples at θ, and the score ψ x."""
    real, fake = psi * torch.zeros_like(theta), psi * theta
    found = minimax_loss(real, fake)
    judge = found.discriminator + r1_of_line(psi, gamma)
    (down,) = torch.autograd.grad(found.generator, theta, create_graph=True)
    (turn,) = torch.autograd.grad(judge, psi, create_graph=True)
    return torch.stack([-down, -turn]).flatten()


def r1_of_line(psi, gamma):
    return r1_penalty(lambda x: psi * x[:, 0], torch.zeros(1, 1, dtype=DOUBLE), gamma)


@pytest.mark.equation("gan-dirac")
def test_two_players_on_a_line_go_round_in_circles():
    for theta, psi in ((1.0, 0.5), (-0.3, 2.0), (0.7, 0.0)):
        at = [torch.tensor([v], dtype=DOUBLE, requires_grad=True) for v in (theta, psi)]
        moved = dirac_field(*at)
        turning = 1 / (1 + math.exp(-theta * psi))
        assert moved.tolist() == pytest.approx([turning * psi, -turning * theta])
        inwards = moved.detach() @ torch.tensor([theta, psi], dtype=DOUBLE)
        assert inwards.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.equation("gan-dirac-eigenvalues")
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.5])
def test_r1_gives_the_circle_a_pull_inwards(gamma):
    def field(place):
        theta, psi = place[:1], place[1:]
        return dirac_field(theta, psi, gamma)

    origin = torch.zeros(2, dtype=DOUBLE, requires_grad=True)
    found = torch.linalg.eigvals(torch.autograd.functional.jacobian(field, origin))
    root = complex(gamma**2 - 1) ** 0.5
    wanted = sorted([(-gamma + root) / 2, (-gamma - root) / 2], key=lambda v: (v.real, v.imag))
    got = sorted(found.tolist(), key=lambda v: (round(v.real, 9), v.imag))
    assert [v.real for v in got] == pytest.approx([v.real for v in wanted], abs=1e-9)
    assert [v.imag for v in got] == pytest.approx([v.imag for v in wanted], abs=1e-9)


# ------------------------------------------------------------------------- penalties on the slope
def bowl(x):
    """Score and its slope: x₁² + 3 x₂, and (2 x₁, 3)."""
    return x[:, 0] ** 2 + 3 * x[:, 1]


@pytest.mark.equation("gan-r1")
def test_r1_is_half_the_mean_squared_slope():
    x = torch.tensor([[1.0, 5.0], [-2.0, 0.0]], dtype=DOUBLE)
    by_hand = 0.5 * 0.7 * ((4 + 9) + (16 + 9)) / 2
    assert r1_penalty(bowl, x, weight=0.7).item() == pytest.approx(by_hand)
    torch.manual_seed(0)
    net = Discriminator(3, (5,), dtype=DOUBLE)
    x, h = torch.randn(4, 3, dtype=DOUBLE), 1e-5
    shifts = h * torch.eye(3, dtype=DOUBLE)
    slopes = torch.stack([(net(x + e) - net(x - e)) / (2 * h) for e in shifts], 1)
    wanted = slopes.square().sum(1).mean() / 2
    torch.testing.assert_close(r1_penalty(net, x, 1.0), wanted, rtol=1e-6, atol=1e-9)


@pytest.mark.equation("gan-interpolate")
def test_the_penalty_is_taken_between_the_pairs():
    seen = []

    def spy(x):
        seen.append(x.detach())
        return bowl(x)

    real, fake = torch.ones(3, 2, dtype=DOUBLE), torch.zeros(3, 2, dtype=DOUBLE)
    share = torch.tensor([0.0, 0.25, 1.0], dtype=DOUBLE)
    gradient_penalty(spy, real, fake, share=share)
    assert seen[0][:, 0].tolist() == [0.0, 0.25, 1.0]
    torch.manual_seed(0)
    gradient_penalty(spy, real.expand(3, 2).repeat(400, 1), fake.repeat(400, 1))
    drawn = seen[1][:, 0]
    assert 0 <= drawn.min() < 0.01 and 0.99 < drawn.max() <= 1
    assert drawn.mean().item() == pytest.approx(0.5, abs=5 * (1 / 12 / 1200) ** 0.5)


@pytest.mark.equation("gan-gradient-penalty")
def test_the_gradient_penalty_is_the_mean_squared_distance_of_the_slope_from_one():
    real, fake = (
        torch.tensor([[2.0, 0.0], [1.0, 1.0]], dtype=DOUBLE),
        torch.zeros(2, 2, dtype=DOUBLE),
    )
    share = torch.tensor([1.0, 0.5], dtype=DOUBLE)  # at x₁ = 2 and 0.5: slopes (4, 3), (1, 3)
    by_hand = 10 * ((5 - 1) ** 2 + (10**0.5 - 1) ** 2) / 2
    assert gradient_penalty(bowl, real, fake, share=share).item() == pytest.approx(by_hand)


@pytest.mark.parametrize("penalty", ["r1", "gradient"])
def test_a_flat_critic_has_a_finite_penalty_with_a_finite_slope(penalty):
    net = Discriminator(3, (5,), dtype=DOUBLE)
    nn.init.zeros_(net.head.weight)
    x = torch.randn(4, 3, dtype=DOUBLE)
    value = r1_penalty(net, x) if penalty == "r1" else gradient_penalty(net, x, x + 1)
    assert value.item() == pytest.approx(0.0 if penalty == "r1" else 10.0)
    value.backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())


def test_penalties_send_their_gradient_to_the_critic_and_to_nobody_else():
    net = Discriminator(3, (5,), dtype=DOUBLE)
    real = torch.randn(4, 3, dtype=DOUBLE, requires_grad=True)
    fake = torch.randn(4, 3, dtype=DOUBLE, requires_grad=True)
    (gradient_penalty(net, real, fake) + r1_penalty(net, real)).backward()
    assert real.grad is None and fake.grad is None
    assert net.head.weight.grad.abs().sum() > 0


def test_penalties_work_where_gradients_are_off():
    with torch.no_grad():
        assert r1_penalty(bowl, torch.zeros(1, 2), 2.0).item() == pytest.approx(9.0)


def test_penalties_refuse_by_name():
    x = torch.zeros(2, 3)
    with refuses(ValueError, "weight=-1 must be a finite number ≥ 0"):
        r1_penalty(bowl, x, -1)
    with refuses(ValueError, "fake must have shape (2, 3), got (3, 3)"):
        gradient_penalty(bowl, x, torch.zeros(3, 3))
    with refuses(ValueError, "share must have shape (2)"):
        gradient_penalty(bowl, x, x, share=torch.zeros(3))
    with refuses(ValueError, "limit=0 must be a finite number > 0"):
        clip_weights_(nn.Linear(1, 1), 0)


def test_clipping_bounds_every_weight():
    net = Discriminator(3, (5,))
    before = [p.detach().clone() for p in net.parameters()]
    clip_weights_(net, 0.05)
    for now, then in zip(net.parameters(), before, strict=True):
        assert now.abs().max() <= 0.05
        inside = then.abs() <= 0.05
        assert torch.equal(now[inside], then[inside])


# ----------------------------------------------------------------------------------- spectral norm
@pytest.mark.equation("gan-spectral")
def test_the_largest_singular_value_becomes_one():
    torch.manual_seed(0)
    norm = SpectralNorm(5, 12, num_iterations=300, dtype=DOUBLE)
    weight = torch.randn(5, 3, 2, 2, dtype=DOUBLE)
    values = torch.linalg.svdvals(norm(weight).flatten(1))
    assert values[0].item() == pytest.approx(1.0, abs=1e-9)
    ratio = torch.linalg.svdvals(weight.flatten(1))[0]
    torch.testing.assert_close(norm(weight) * ratio, weight)


def test_spectral_norm_takes_torchs_steps_and_has_its_gradient():
    torch.manual_seed(0)
    theirs = spectral_norm(nn.Linear(4, 3, dtype=DOUBLE), eps=1e-8)
    ours = nn.Linear(4, 3, dtype=DOUBLE)
    ours.load_state_dict({"weight": theirs.parametrizations.weight.original, "bias": theirs.bias})
    spectral_norm_(ours)
    mine, its = (layer.parametrizations.weight[0] for layer in (ours, theirs))
    mine.u.copy_(its._u)
    mine.v.copy_(its._v)
    x = torch.randn(6, 4, dtype=DOUBLE)
    for _ in range(3):
        both = [layer(x) for layer in (ours, theirs)]
        torch.testing.assert_close(*both)
        for out in both:
            out.square().sum().backward()
        torch.testing.assert_close(
            ours.parametrizations.weight.original.grad, theirs.parametrizations.weight.original.grad
        )
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    before = mine.u.clone()
    ours(x)
    assert torch.equal(mine.u, before)  # evaluation leaves the vectors alone


def test_spectral_norm_reaches_every_layer():
    net = spectral_norm_(ConvDiscriminator(8, (4, 8)), num_iterations=50)
    layers = [part for part in net.modules() if isinstance(part, nn.Linear | nn.Conv2d)]
    assert len(layers) == 3 and all(parametrize.is_parametrized(layer) for layer in layers)
    net(torch.rand(2, 1, 8, 8)).sum().backward()
    for layer in layers:
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        assert largest.item() == pytest.approx(1.0, abs=0.05)


# ---------------------------------------------------------------------------------------- networks
@pytest.mark.equation("gan-generator")
def test_a_generator_is_a_perceptron_of_noise():
    torch.manual_seed(0)
    net = Generator(3, 4, (6, 5), dtype=DOUBLE).train()
    z = torch.randn(7, 3, dtype=DOUBLE)
    h = z
    for layer in (net.body[0], net.body[3]):
        h = h @ layer.weight.T
        h = (h - h.mean(0)) / (h.var(0, correction=0) + 1e-5).sqrt()
        h = torch.where(h > 0, h, 0.2 * h)
    wanted = 1 / (1 + torch.exp(-(h @ net.head.weight.T + net.head.bias)))
    torch.testing.assert_close(net(z), wanted)


@pytest.mark.equation("gan-projection")
def test_the_projection_adds_a_product_with_the_classs_vector():
    torch.manual_seed(0)
    net = Discriminator(4, (6,), num_classes=3, dtype=DOUBLE)
    x, y = torch.rand(5, 4, dtype=DOUBLE), torch.tensor([0, 2, 1, 2, 0])
    h = x @ net.body[0].weight.T + net.body[0].bias
    h = torch.where(h > 0, h, 0.2 * h)
    plain = h @ net.head.weight[0] + net.head.bias
    wanted = torch.stack([plain[i] + h[i] @ net.class_embedding.weight[y[i]] for i in range(5)])
    torch.testing.assert_close(net(x, y), wanted)


@pytest.mark.equation("gan-minibatch-std")
def test_the_batch_deviation_is_torchs_and_falls_with_the_variety():
    torch.manual_seed(0)
    x = torch.randn(16, 3, 2, dtype=DOUBLE)
    torch.testing.assert_close(minibatch_std(x), x.std(0, correction=0).mean(), rtol=1e-6, atol=0)
    assert minibatch_std(x[:1].expand(4, 3, 2)).item() == pytest.approx(0, abs=1e-3)
    net = Discriminator(6, (5,), batch_std=True, dtype=DOUBLE)
    alike, varied = net(x[:1].flatten(1).expand(4, 6)), net(x[:4].flatten(1))
    assert not torch.isclose(alike[0], varied[0])  # the same example, another company
    same = x[:1].flatten(1).expand(4, 6).clone().requires_grad_()
    net(same).sum().backward()
    assert torch.isfinite(same.grad).all()  # where nothing differs, too
    with refuses(ValueError, "x must hold 2 examples or more, got 1"):
        minibatch_std(x[:1])


def test_classes_are_told_exactly_where_they_are_wanted():
    with refuses(ValueError, "y must be None with num_classes=0"):
        Generator(2, 3)(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64))
    with refuses(ValueError, "y must be classes with num_classes=4"):
        Discriminator(3, num_classes=4)(torch.zeros(2, 3))
    with refuses(ValueError, "y must hold classes 0 … 3, got 4 … 4"):
        Generator(2, 3, num_classes=4)(torch.zeros(2, 2), torch.tensor([4, 4]))


def test_networks_refuse_by_name():
    for bad in (0, -1):
        with refuses(ValueError, f"latent_size={bad} must be an integer ≥ 1"):
            Generator(bad, 4)
        with refuses(ValueError, f"latent_size={bad} must be an integer ≥ 1"):
            MappingNetwork(bad, 4)
    with refuses(TypeError, "hidden_sizes=() must be a sequence of one integer ≥ 1 or more"):
        Discriminator(3, ())
    with refuses(ValueError, "z must have shape (n, 2), got (4, 3)"):
        Generator(2, 4)(torch.zeros(4, 3))
    with refuses(ValueError, "z must have 2 rows or more, in training with batch norm, got 1"):
        Generator(2, 4)(torch.zeros(1, 2))
    with refuses(ValueError, "output_activation='relu' must be one of"):
        Generator(2, 4, output_activation="relu")
    with refuses(ValueError, "image_size=30 must be a multiple of 4, for 2 levels of channels"):
        ConvGenerator(2, 30)
    with refuses(ValueError, "kernel_size=2 must be odd"):
        ModulatedConv2d(2, 2, 2, 3)
    with refuses(ValueError, "x must have shape (n, 1, 28, 28), got (2, 1, 32, 32)"):
        ConvDiscriminator(28, (2, 2))(torch.zeros(2, 1, 32, 32))
    with refuses(ValueError, "noises must be 2 maps, got 1 of them"):
        StyleGenerator(4, 8).synthesize(torch.zeros(1, 2, 32), [torch.zeros(1)])


def test_samples_are_drawn_in_evaluation_mode_and_modes_are_left_alone():
    torch.manual_seed(0)
    net = Generator(3, 4, (6,), num_classes=2).train()
    before = net.body[1].running_mean.clone()
    y = torch.tensor([0, 1, 1])
    torch.manual_seed(1)
    drawn = net.sample(3, y)
    assert net.training and torch.equal(net.body[1].running_mean, before)
    torch.manual_seed(1)
    torch.testing.assert_close(drawn, net.eval()(torch.randn(3, 3), y))
    assert not drawn.requires_grad


@pytest.mark.parametrize(("size", "levels"), [(16, (8, 4)), (28, (8, 4)), (32, (16, 8, 4))])
def test_convolutions_fit_letters_and_pictures(size, levels):
    drawn = ConvGenerator(5, size, levels, 3)(torch.randn(2, 5))
    assert drawn.shape == (2, 3, size, size)
    assert ConvDiscriminator(size, levels[::-1], 3)(drawn).shape == (2,)


# --------------------------------------------------------------------------------------- patch GAN
@pytest.mark.equation("gan-patch")
@pytest.mark.parametrize("channels", [(4,), (4, 4), (2, 4, 4), (2, 2, 2, 2)])
def test_the_receptive_field_is_where_a_score_has_a_slope(channels):
    torch.manual_seed(0)
    net = PatchGAN(1, channels, batch_norm=False, dtype=DOUBLE)
    x = torch.randn(1, 1, 160, 160, dtype=DOUBLE, requires_grad=True)
    scores = net(x)
    middle = scores.shape[1] // 2
    (slope,) = torch.autograd.grad(scores[0, middle, middle], x)
    rows = slope[0, 0].abs().sum(1).nonzero()[:, 0]
    assert int(rows[-1] - rows[0]) + 1 == net.receptive_field


def test_patch_gan_is_the_published_one():
    """70 × 70 of 256 × 256 pixels; 2.769 million parameters for condition and picture."""
    net = PatchGAN(6)
    assert net.receptive_field == 70
    assert sum(p.numel() for p in net.parameters()) == 2_768_705
    assert sum(p.numel() for p in PatchGAN(3).parameters()) == 2_765_633
    assert net(torch.zeros(2, 6, 256, 256)).shape == (2, 30, 30)


@pytest.mark.equation("gan-pix2pix")
def test_a_translator_minimises_deception_and_distance():
    torch.manual_seed(0)
    scores, made, wanted = torch.randn(2, 5), torch.rand(2, 3), torch.rand(2, 3)
    ours = non_saturating_loss(scores, scores).generator + 100 * F.l1_loss(made, wanted)
    deception = -F.logsigmoid(scores).mean()
    distance = sum(abs(a - b) for a, b in zip(made.flatten(), wanted.flatten(), strict=True)) / 6
    torch.testing.assert_close(ours, deception + 100 * distance)


@pytest.mark.equation("gan-cycle")
def test_a_cycle_costs_what_is_lost_there_and_back():
    """Of x ↦ a x and y ↦ b y it is |ab − 1| times the mean size, in both directions."""
    torch.manual_seed(0)
    a, b, x = 1.7, 0.4, torch.randn(9, 4, dtype=DOUBLE)
    found = cycle_consistency(lambda x: a * x, lambda y: b * y, x)
    assert found.item() == pytest.approx(abs(a * b - 1) * x.abs().mean().item())
    turned = cycle_consistency(lambda x: x.flip(0), lambda y: y.flip(0), x)
    assert turned == 0  # a permutation of the examples costs nothing: a cycle does not say which


@pytest.mark.equation("gan-identity")
def test_the_identity_loss_asks_for_nothing_where_nothing_is_to_be_done():
    torch.manual_seed(0)
    x = torch.rand(5, 3, dtype=DOUBLE)
    assert F.l1_loss(x * 1.0, x) == 0
    inverted = F.l1_loss(1 - x, x)  # undone by its own inverse, so that a cycle would not see it
    assert inverted.item() == pytest.approx((1 - 2 * x).abs().mean().item())
    assert cycle_consistency(lambda x: 1 - x, lambda y: 1 - y, x).item() == pytest.approx(
        0, abs=1e-12
    )


# ---------------------------------------------------------------------------------------- StyleGAN
@pytest.mark.equation("gan-mapping")
def test_the_mapping_sees_the_direction_of_the_noise_alone():
    torch.manual_seed(0)
    net = MappingNetwork(6, 4, num_layers=1, dtype=DOUBLE)
    z = torch.randn(3, 6, dtype=DOUBLE)
    torch.testing.assert_close(net(z), net(5 * z), rtol=1e-6, atol=1e-8)
    h = z / z.norm(dim=1, keepdim=True) * 6**0.5 @ net.body[0].weight.T
    torch.testing.assert_close(net(z), torch.where(h > 0, h, 0.2 * h), rtol=1e-6, atol=1e-8)
    assert torch.isfinite(net(torch.zeros(1, 6, dtype=DOUBLE))).all()


def modulated_by_loop(layer, x, style):
    """Each example with a kernel of its own, as the equations have it."""
    out = []
    for one, w in zip(x, style, strict=True):
        scale = layer.style.weight @ w + layer.style.bias
        kernel = layer.weight.clone()
        for i in range(kernel.shape[1]):
            kernel[:, i] = scale[i] * kernel[:, i]
        if layer.demodulate:
            for o in range(len(kernel)):
                kernel[o] = kernel[o] / (kernel[o] ** 2).sum().add(1e-8).sqrt()
        out.append(F.conv2d(one[None], kernel, padding=layer.kernel_size // 2)[0])
    return torch.stack(out)


@pytest.mark.equation("gan-modulate")
@pytest.mark.parametrize("kernel_size", [1, 3])
def test_modulation_scales_the_kernel_of_each_example(kernel_size):
    torch.manual_seed(0)
    layer = ModulatedConv2d(3, 4, kernel_size, 5, demodulate=False, dtype=DOUBLE)
    x, style = torch.randn(2, 3, 6, 5, dtype=DOUBLE), torch.randn(2, 5, dtype=DOUBLE)
    torch.testing.assert_close(layer(x, style), modulated_by_loop(layer, x, style))


@pytest.mark.equation("gan-demodulate")
def test_demodulation_gives_each_output_channel_unit_scale():
    torch.manual_seed(0)
    layer = ModulatedConv2d(3, 4, 3, 5, dtype=DOUBLE)
    x, style = torch.randn(2, 3, 6, 5, dtype=DOUBLE), torch.randn(2, 5, dtype=DOUBLE)
    torch.testing.assert_close(layer(x, style), modulated_by_loop(layer, x, style))
    with torch.no_grad():  # a style ten times as strong changes nothing: only ratios are left
        stronger = layer(x, style)
        layer.style.weight.mul_(10), layer.style.bias.mul_(10)
        torch.testing.assert_close(layer(x, style), stronger)
    noise = torch.randn(40, 3, 32, 32, dtype=DOUBLE)
    spread = layer(noise, style[:1].expand(40, -1))[:, :, 1:-1, 1:-1].std((0, 2, 3))
    torch.testing.assert_close(spread, torch.ones(4, dtype=DOUBLE), rtol=0.03, atol=0)


@pytest.mark.equation("gan-noise")
def test_noise_enters_with_its_learned_strength():
    torch.manual_seed(0)
    net = StyleGenerator(4, 8, (3, 3), style_size=5, dtype=DOUBLE)
    styles = torch.randn(2, 2, 5, dtype=DOUBLE)
    torch.testing.assert_close(net.synthesize(styles), net.synthesize(styles))  # strength 0
    nn.init.constant_(net.noise_strengths, 0.5)
    noises = [torch.randn(2, 1, side, side, dtype=DOUBLE) for side in (4, 8)]
    first, second = net.synthesize(styles, noises), net.synthesize(styles, noises)
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert not torch.allclose(first, net.synthesize(styles))
    x, picture = net.constant.expand(2, -1, -1, -1), 0.0
    for level in range(2):
        if level:
            x = F.interpolate(x, scale_factor=2)
            picture = F.interpolate(picture, scale_factor=2, mode="bilinear")
        x = modulated_by_loop(net.convs[level], x, styles[:, level])
        x = x + 0.5 * noises[level] + net.biases[level]
        x = torch.where(x > 0, x, 0.2 * x)
        picture = picture + modulated_by_loop(net.pictures[level], x, styles[:, level])
    torch.testing.assert_close(first, picture.sigmoid())


@pytest.mark.equation("gan-truncation")
def test_truncation_goes_from_the_mean_to_the_style():
    torch.manual_seed(0)
    style, mean = torch.randn(4, 3, dtype=DOUBLE), torch.randn(3, dtype=DOUBLE)
    torch.testing.assert_close(truncate(style, mean, 0), mean.expand(4, 3))
    torch.testing.assert_close(truncate(style, mean, 1), style)
    torch.testing.assert_close(truncate(style, mean, 0.5), torch.lerp(mean, style, 0.5))


@pytest.mark.equation("gan-path")
def test_the_path_length_of_a_linear_map_is_that_of_its_transpose():
    torch.manual_seed(0)
    matrix = torch.randn(6, 3, dtype=DOUBLE)  # from 3 numbers to a picture of 1 × 2 × 3
    style, noise = torch.randn(4, 3, dtype=DOUBLE), torch.randn(4, 1, 2, 3, dtype=DOUBLE)
    found = path_lengths(lambda w: (w @ matrix.T).view(-1, 1, 2, 3), style, noise)
    wanted = (noise.flatten(1) @ matrix).norm(dim=1) / 6**0.5
    torch.testing.assert_close(found, wanted)


# ----------------------------------------------------------------------------------- it is learned
def test_a_step_of_each_player_helps_that_player():
    torch.manual_seed(0)
    generator, judge = Generator(2, 3, (8,), dtype=DOUBLE), Discriminator(3, (8,), dtype=DOUBLE)
    x, z = torch.rand(16, 3, dtype=DOUBLE), torch.randn(16, 2, dtype=DOUBLE)

    def play():
        return non_saturating_loss(judge(x), judge(generator(z)))

    for player, name in ((judge, "discriminator"), (generator, "generator")):
        before = getattr(play(), name)
        grads = torch.autograd.grad(before, list(player.parameters()))
        with torch.no_grad():
            for parameter, grad in zip(player.parameters(), grads, strict=True):
                parameter -= 1e-3 * grad
        assert getattr(play(), name) < before
