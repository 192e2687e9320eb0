"""What is particular to diffusion; what all promise is in tests/test_contract.py."""

import math

import pytest
import torch
from torch import distributions as D
from torch import nn

from nnlib.generative.diffusion import (
    Denoiser,
    DiT,
    DiTBlock,
    FlowMatching,
    GaussianDiffusion,
    GaussianMixture,
    beta_schedule,
    drop_classes,
    guide,
    guided,
    zero_terminal_snr,
)
from tests.support import Example, Peer, refuses

diffusers = Peer("diffusers")

DOUBLE = torch.float64
PEERS = {"linear": "linear", "scaled_linear": "scaled_linear", "cosine": "squaredcos_cap_v2"}
ENDS = {"linear": (1e-4, 0.02), "scaled_linear": (0.00085, 0.012), "cosine": (1e-4, 0.02)}


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {
        "image_size": 4, "patch_size": 2, "in_channels": 1, "embed_dim": 8, "num_layers": 2,
        "num_heads": 2, "num_classes": 3,
    }  # fmt: skip
    inputs = (torch.randn(5, 1, 4, 4), torch.arange(5), torch.arange(5) % 4)
    return Example(arguments, inputs, prepare=awake)


def awake(model):
    """Draw what begins at zero, so that everything matters."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.3)
    return model


def peer(kind, schedule, prediction="epsilon", **how):
    """Diffusers' scheduler with our schedule, in double precision."""
    low, high = ENDS[schedule]
    made = kind(
        1000, beta_start=low, beta_end=high, beta_schedule=PEERS[schedule],
        prediction_type=prediction, **how,
    )  # fmt: skip
    return made


def exactly(made, ours):
    """Give a scheduler our table in double precision: single loses digits near ᾱ = 0."""
    made.betas, made.alphas = ours.betas, 1 - ours.betas
    made.alphas_cumprod = ours.alphas_bar
    made.one = torch.ones((), dtype=DOUBLE)
    if hasattr(made, "final_alpha_cumprod"):
        made.final_alpha_cumprod = torch.ones((), dtype=DOUBLE)
    return made


def triple(n=6, d=5):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(n, d, dtype=DOUBLE, generator=generator) for _ in range(3)]


# -------------------------------------------------------------------------------- noise schedules
@pytest.mark.equation("diffusion-cosine")
@pytest.mark.parametrize("schedule", PEERS)
def test_the_schedules_are_those_of_diffusers(schedule):
    wanted = peer(diffusers.DDPMScheduler, schedule)
    ours = GaussianDiffusion(schedule, 1000)
    torch.testing.assert_close(ours.betas.float(), wanted.betas, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(ours.alphas_bar.float(), wanted.alphas_cumprod, rtol=0, atol=1e-6)


@pytest.mark.equation("diffusion-cosine")
def test_the_cosine_schedule_is_a_cosine_squared():
    ours = GaussianDiffusion("cosine", 1000).alphas_bar
    t = torch.arange(1, 1000, dtype=DOUBLE)  # the last step is the one whose β is capped
    wanted = ((t / 1000 + 0.008) / 1.008 * math.pi / 2).cos() ** 2
    begin = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(ours[:-1], wanted / begin, rtol=1e-9, atol=0)


@pytest.mark.equation("diffusion-zero-snr")
@pytest.mark.parametrize("schedule", PEERS)
def test_nothing_is_left_at_the_end_of_a_rescaled_schedule(schedule):
    ours = GaussianDiffusion(schedule, 1000, prediction="sample", zero_snr=True)
    assert ours.alphas_bar[-1] == 0
    before = GaussianDiffusion(schedule, 1000).alphas_bar
    assert float(ours.alphas_bar[0]) == pytest.approx(float(before[0]), rel=1e-12)
    wanted = peer(diffusers.DDPMScheduler, schedule, rescale_betas_zero_snr=True).betas
    torch.testing.assert_close(ours.betas.float(), wanted, rtol=2e-3, atol=1e-6)


def test_another_number_of_steps_adds_as_much_noise():
    """To first order ᾱ_T = exp(−Σβ), and the sum is the same."""
    for name in ("linear", "scaled_linear"):
        sums = [beta_schedule(name, steps).sum() for steps in (1000, 250)]
        assert float(sums[1] / sums[0]) == pytest.approx(1, abs=0.02)


# -------------------------------------------------------------------------------------- forwards
@pytest.mark.equation("diffusion-forward")
@pytest.mark.equation("diffusion-chain")
def test_one_jump_has_the_distribution_of_all_steps():
    """Mean and variance, step by step, by x_t = √(1 − β) x_{t−1} + √β ε."""
    ours = GaussianDiffusion("linear", 50)
    mean, variance = 1.0, 0.0
    for t, beta in enumerate(ours.betas.tolist()):
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
        x0, zero = torch.ones(1, 1, dtype=DOUBLE), torch.zeros(1, 1, dtype=DOUBLE)
        assert float(ours.q_sample(x0, t, zero)) == pytest.approx(mean, rel=1e-12)
        assert float(ours.q_sample(zero, t, x0)) ** 2 == pytest.approx(variance, rel=1e-12)


def test_noise_is_added_as_in_diffusers():
    x0, noise, _ = triple()
    t = torch.tensor([0, 1, 10, 500, 998, 999])
    for schedule in PEERS:
        ours = GaussianDiffusion(schedule, 1000)
        wanted = exactly(peer(diffusers.DDPMScheduler, schedule), ours).add_noise(x0, noise, t)
        torch.testing.assert_close(ours.q_sample(x0, t, noise), wanted)


@pytest.mark.equation("diffusion-posterior-mean")
@pytest.mark.equation("diffusion-posterior-variance")
@pytest.mark.parametrize("jump", [1, 7])
def test_the_posterior_is_that_of_bayes(jump):
    """Of the joint normal of (x_s, x_t) given x_0, conditioned by the textbook's formula."""
    ours = GaussianDiffusion("linear", 60)
    x0, x, _ = triple()
    for t in (7, 20, 59):
        s = t - jump
        before, kept = float(ours.alphas_bar[s]), float(ours.alphas_bar[t])
        alpha = kept / before
        # variances of x_s and x_t, and their covariance, all given x_0
        v_s, v_t, cov = 1 - before, 1 - kept, math.sqrt(alpha) * (1 - before)
        mean = math.sqrt(before) * x0 + cov / v_t * (x - math.sqrt(kept) * x0)
        got, variance = ours.posterior(x0, x, t, s)
        torch.testing.assert_close(got, mean)
        assert float(variance) == pytest.approx(v_s - cov**2 / v_t, rel=1e-10)


# ------------------------------------------------------------------- four ways to say the same
@pytest.mark.equation("diffusion-x0")
@pytest.mark.equation("diffusion-v")
def test_every_quantity_becomes_every_other_one():
    x0, noise, _ = triple()
    t = torch.tensor([0, 3, 200, 500, 800, 990])
    ours = GaussianDiffusion("cosine", 1000)
    kept = ours.alphas_bar[t][:, None]
    x = kept.sqrt() * x0 + (1 - kept).sqrt() * noise
    known = {
        "sample": x0, "epsilon": noise,
        "v_prediction": kept.sqrt() * noise - (1 - kept).sqrt() * x0,
        "score": (kept.sqrt() * x0 - x) / (1 - kept),
    }  # fmt: skip
    for of, given in known.items():
        for to, wanted in known.items():
            got = ours.convert(given, x, t, to, of)
            torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.equation("diffusion-v")
def test_v_is_the_velocity_along_a_circle():
    """With √ᾱ = cos φ, v is the derivative of x in φ."""
    x0, noise, _ = triple()
    ours = GaussianDiffusion("cosine", 1000)
    phi = float(ours.alphas_bar[400].sqrt().acos())
    step = 1e-5

    def at(angle):
        return math.cos(angle) * x0 + math.sin(angle) * noise

    slope = (at(phi + step) - at(phi - step)) / (2 * step)
    got = ours.convert(noise, at(phi), 400, "v_prediction", "epsilon")
    torch.testing.assert_close(got, slope, rtol=1e-8, atol=1e-8)


MIXTURE = {
    "means": torch.tensor([[-1.0, 0.5], [1.2, 0.3], [0.0, -1.0]], dtype=DOUBLE),
    "std": torch.tensor([0.3, 0.5, 0.2], dtype=DOUBLE),
    "weights": torch.tensor([1.0, 2.0, 3.0], dtype=DOUBLE),
}


def of_torch(alpha_bar):
    means = alpha_bar**0.5 * MIXTURE["means"]
    std = (alpha_bar * MIXTURE["std"] ** 2 + 1 - alpha_bar).sqrt()
    parts = D.Independent(D.Normal(means, std[:, None].expand(3, 2)), 1)
    return D.MixtureSameFamily(D.Categorical(MIXTURE["weights"]), parts)


@pytest.mark.equation("diffusion-mixture")
@pytest.mark.parametrize("alpha_bar", [1.0, 0.7, 0.1, 0.0])
def test_density_and_score_of_a_noisy_mixture_are_those_of_torch(alpha_bar):
    x = triple(7, 2)[0].requires_grad_()
    wanted = of_torch(alpha_bar).log_prob(x)
    (slope,) = torch.autograd.grad(wanted.sum(), x)
    mixture = GaussianMixture(**MIXTURE)
    torch.testing.assert_close(mixture.log_prob(x, alpha_bar), wanted)
    torch.testing.assert_close(mixture.score(x.detach(), alpha_bar), slope)


def grid(reach=6.0, points=301):
    side = torch.linspace(-reach, reach, points, dtype=DOUBLE)
    return torch.cartesian_prod(side, side), float(side[1] - side[0]) ** 2


@pytest.mark.equation("diffusion-tweedie")
@pytest.mark.equation("diffusion-score")
def test_the_mean_clean_example_and_the_mean_noise_follow_from_the_score():
    """E[x_0 | x_t] by Bayes' rule on a grid of clean examples, and E[ε | x_t] from it."""
    kept = 0.6
    ours = GaussianDiffusion([1 - kept], None)
    mixture = GaussianMixture(**MIXTURE)
    clean, area = grid()
    x = triple(5, 2)[0]
    noisy = D.Normal(kept**0.5 * clean[:, None], (1 - kept) ** 0.5).log_prob(x).sum(-1)
    share = (noisy + mixture.log_prob(clean)[:, None]).softmax(0)
    wanted = share.T @ clean
    score = mixture.score(x, kept)
    tweedie = (x + (1 - kept) * score) / kept**0.5
    torch.testing.assert_close(tweedie, wanted, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(ours.convert(score, x, 0, "sample", "score"), wanted)
    noise = (x - kept**0.5 * wanted) / (1 - kept) ** 0.5
    torch.testing.assert_close(ours.convert(score, x, 0, "epsilon", "score"), noise)
    assert area > 0


# ----------------------------------------------------------- densities on a line, by brute force
LINE = torch.linspace(-9, 9, 6001, dtype=DOUBLE)[:, None]
ON_LINE = GaussianMixture(
    torch.tensor([[-1.0], [1.2]], dtype=DOUBLE),
    torch.tensor([0.4, 0.3], dtype=DOUBLE),
    torch.tensor([1.0, 2.0], dtype=DOUBLE),
)


@pytest.mark.equation("diffusion-score-matching")
def test_both_losses_of_a_score_differ_by_a_constant():
    """Of three clean points, so that both means are sums over a grid; for three guesses."""
    kept, step = 0.6, float(LINE[1, 0] - LINE[0, 0])
    points = torch.tensor([-1.0, 0.2, 1.5], dtype=DOUBLE)
    given = (D.Normal(kept**0.5 * points, (1 - kept) ** 0.5)).log_prob(LINE).exp()  # x, point
    marginal = given.mean(1)
    of_noise = -(LINE - kept**0.5 * points) / (1 - kept)
    score = (given * of_noise).mean(1) / marginal
    gaps = []
    for guess in (torch.zeros(6001, dtype=DOUBLE), -LINE[:, 0], LINE[:, 0].sin() - 1):
        denoising = (given * (guess[:, None] - of_noise) ** 2).mean(1).sum() * step
        explicit = (marginal * (guess - score) ** 2).sum() * step
        gaps.append(float(denoising - explicit))
    assert gaps == pytest.approx([gaps[0]] * 3, rel=1e-9)


def along_time(s):
    """β, and the log-density and the score on the line, at a time of the process."""
    kept = math.exp(-(0.1 * s + 5 * s * s))
    return 0.1 + 10 * s, ON_LINE.log_prob(LINE, kept), ON_LINE.score(LINE, kept)[:, 0]


def slopes(values):
    (slope,) = torch.gradient(values, spacing=(LINE[:, 0],), edge_order=2)
    return slope


@pytest.mark.equation("diffusion-sde")
@pytest.mark.equation("diffusion-reverse-sde")
@pytest.mark.equation("diffusion-ode")
def test_all_three_processes_have_the_same_densities():
    """The Fokker-Planck equation of each: ∂q/∂t = −∂(drift · q) ± ½β ∂²q."""
    s, h = 0.35, 1e-4
    beta, log_q, score = along_time(s)
    q = log_q.exp()
    change = (along_time(s + h)[1].exp() - along_time(s - h)[1].exp()) / (2 * h)
    x = LINE[:, 0]
    second = slopes(slopes(q))
    forward = -slopes(-0.5 * beta * x * q) + 0.5 * beta * second
    # with time running down, the noise of the reverse process works the other way
    reverse = -slopes((-0.5 * beta * x - beta * score) * q) - 0.5 * beta * second
    flow = -slopes(-0.5 * beta * (x + score) * q)
    for found in (forward, reverse, flow):
        torch.testing.assert_close(found, change, rtol=0, atol=2e-4)
    assert float(change.abs().max()) > 0.1


# --------------------------------------------------------------------------------------- training
def told(answer):
    return lambda x, t, *_: answer


@pytest.mark.equation("diffusion-simple")
def test_the_simple_loss_is_the_squared_error_of_the_noise():
    x0, noise, answer = triple()
    ours = GaussianDiffusion("linear", 100)
    t = torch.tensor([0, 10, 30, 50, 70, 99])
    got = ours.loss(told(answer), x0, t=t, noise=noise)
    assert float(got) == pytest.approx(float((answer - noise).pow(2).mean()), rel=1e-12)

    def sees(x, t, y):
        wanted = ours.alphas_bar[t][:, None]
        torch.testing.assert_close(x, wanted.sqrt() * x0 + (1 - wanted).sqrt() * noise)
        assert y == "a cat"
        return noise

    assert float(ours.loss(sees, x0, "a cat", t=t, noise=noise)) == 0


@pytest.mark.equation("diffusion-min-snr")
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_the_weight_is_the_smaller_of_snr_and_gamma_whatever_is_predicted(prediction):
    """The same clean example, told in three ways, has the same weighted loss."""
    x0, noise, guess = triple()
    ours = GaussianDiffusion("cosine", 1000, prediction=prediction)
    t = torch.tensor([5, 100, 300, 500, 700, 900])
    x = ours.q_sample(x0, t, noise)
    answer = ours.convert(guess, x, t, prediction, "sample")
    snr = (ours.alphas_bar / (1 - ours.alphas_bar))[t]
    wanted = (snr.clamp(max=5) * (guess - x0).pow(2).mean(1)).mean()
    got = ours.loss(told(answer), x0, t=t, noise=noise, min_snr=5)
    assert float(got) == pytest.approx(float(wanted), rel=1e-9)


def test_steps_and_noise_are_drawn_evenly():
    torch.manual_seed(0)
    seen = []

    def model(x, t):
        seen.append(t)
        return x

    ours = GaussianDiffusion("linear", 25)
    for _ in range(40):
        ours.loss(model, torch.zeros(100, 3))
    counts = torch.cat(seen).bincount(minlength=25)
    assert len(counts) == 25
    assert (counts - 160).abs().max() < 5 * math.sqrt(160)


# -------------------------------------------------------------------------------------- backwards
PREDICTIONS = ("epsilon", "sample", "v_prediction")


@pytest.mark.equation("diffusion-ddpm-step")
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_agrees_with_diffusers_at_every_step(schedule, prediction, clip, variance):
    ours = GaussianDiffusion(schedule, 1000, prediction=prediction)
    how = {"clip_sample": clip is not None, "variance_type": f"fixed_{variance}"}
    theirs = exactly(peer(diffusers.DDPMScheduler, schedule, prediction, **how), ours)
    output, x, _ = triple()
    for t in [*range(0, 1000, 111), 1, 998, 999]:
        theirs_next = theirs.step(output, t, x, generator=torch.Generator().manual_seed(t))
        noise = torch.randn(x.shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(t))
        got = ours.ddpm_step(output, t, x, noise=noise, variance=variance, clip=clip)
        torch.testing.assert_close(got, theirs_next.prev_sample, rtol=1e-5, atol=1e-5)


@pytest.mark.equation("diffusion-ddim-step")
@pytest.mark.equation("diffusion-ddim-sigma")
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
@pytest.mark.parametrize(("clip", "again"), [(None, False), (1.0, False), (1.0, True)])
def test_ddim_agrees_with_diffusers_at_every_step(schedule, prediction, eta, clip, again):
    ours = GaussianDiffusion(schedule, 1000, prediction=prediction)
    theirs = exactly(
        peer(diffusers.DDIMScheduler, schedule, prediction, clip_sample=clip is not None), ours
    )
    output, x, noise = triple()
    for count, spacing in ((20, "leading"), (8, "trailing"), (1000, "leading")):
        theirs.config.timestep_spacing = spacing
        theirs.register_to_config(timestep_spacing=spacing)
        theirs.set_timesteps(count)
        visited = ours.timesteps(count, spacing)
        assert visited == theirs.timesteps.tolist()
        pairs = list(zip(visited, [*visited[1:], -1], strict=True))
        for t, previous in pairs if count < 1000 else pairs[::97] + pairs[-1:]:
            wanted = theirs.step(
                output, t, x, eta=eta, use_clipped_model_output=again, variance_noise=noise
            )
            got = ours.ddim_step(
                output, t, x, previous=previous, eta=eta, noise=noise, clip=clip,
                use_clipped_output=again,
            )  # fmt: skip
            torch.testing.assert_close(got, wanted.prev_sample, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("kind", ["DDPMScheduler", "DDIMScheduler"])
def test_a_whole_run_agrees_with_diffusers_as_it_is_shipped(schedule, kind):
    """In single precision, with its own table and its default clipping, noise for noise."""
    theirs = peer(getattr(diffusers, kind), schedule)
    theirs.set_timesteps(50)
    ours = GaussianDiffusion(schedule, 1000)
    torch.manual_seed(1)
    weight = torch.randn(5, 5) / 5

    def model(x, t):
        return (x @ weight).tanh() + 0.5 * x

    x = y = torch.randn(6, 5)
    visited = ours.timesteps(50, "leading")
    for t, previous in zip(visited, [*visited[1:], -1], strict=True):
        dice = torch.Generator().manual_seed(t)
        y = theirs.step(model(y, t), t, y, generator=dice).prev_sample
        if kind == "DDPMScheduler":
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(t))
            x = ours.ddpm_step(model(x, t), t, x, previous=previous, noise=noise, clip=1.0)
        else:
            x = ours.ddim_step(
                model(x, t), t, x, previous=previous, clip=1.0, use_clipped_output=False
            )
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


@pytest.mark.equation("diffusion-mean-epsilon")
def test_the_mean_in_the_noise_is_the_posteriors():
    ours = GaussianDiffusion("linear", 1000)
    noise, x, zero = triple()
    for t in (1, 50, 999):
        beta, kept = float(ours.betas[t]), float(ours.alphas_bar[t])
        wanted = (x - beta / math.sqrt(1 - kept) * noise) / math.sqrt(1 - beta)
        got = ours.ddpm_step(noise, t, x, noise=torch.zeros_like(zero))
        torch.testing.assert_close(got, wanted)


def perfect(ours, mixture):
    """The best possible answer: from the score that the mixture knows."""

    def predict(x, t):
        score = mixture.score(x, float(ours.alphas_bar[int(t[0])]))
        return ours.convert(score, x, t, ours.prediction, "score")

    return predict


@pytest.mark.parametrize(
    "how", [{"method": "ddpm"}, {"method": "ddpm", "variance": "large"}, {}, {"eta": 1.0}]
)
def test_with_the_exact_score_a_sampler_draws_the_data(how):
    torch.manual_seed(0)
    mixture = GaussianMixture(torch.tensor([[-1.5], [1.0]]), 0.3, torch.tensor([1.0, 3.0]))
    ours = GaussianDiffusion("cosine", 300)
    x = ours.sample(perfect(ours, mixture), torch.randn(4000, 1), **how)
    left = (x < -0.25).float().mean()
    assert float(left) == pytest.approx(0.25, abs=0.04)
    assert float(x[x > 0].std()) == pytest.approx(0.3, abs=0.03)


@pytest.mark.equation("diffusion-ode")
def test_the_probability_flow_carries_the_density():
    """Along the ODE, log-densities change by minus the divergence of the velocity."""
    mixture = GaussianMixture(**MIXTURE)
    x0 = triple(6, 2)[0]

    def beta(s):
        return 0.1 + 19.9 * s

    def kept(s):
        return math.exp(-(0.1 * s + 19.9 * s * s / 2))

    def velocity(x, s):
        return -0.5 * beta(s) * (x + mixture.score(x, kept(s)))

    def slope(x, s):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            v = velocity(x, s)
            parts = [torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
        return v.detach(), parts[0][:, 0] + parts[1][:, 1]

    x, change, steps = x0, torch.zeros(6, dtype=DOUBLE), 4000
    for at in range(steps):  # the midpoint rule
        h, s = 1 / steps, at / steps
        v, _ = slope(x, s)
        v, divergence = slope(x + 0.5 * h * v, s + 0.5 * h)
        x, change = x + h * v, change + h * divergence
    ends = mixture.log_prob(x, kept(1.0))
    torch.testing.assert_close(ends + change, mixture.log_prob(x0), rtol=1e-3, atol=1e-3)


@pytest.mark.equation("diffusion-ddim-ode")
def test_ddim_is_an_euler_step_of_the_flow_in_its_own_clock():
    """x/√ᾱ moves by ε times the change of √((1 − ᾱ)/ᾱ)."""
    ours = GaussianDiffusion("cosine", 1000)
    noise, x, _ = triple()
    for t, previous in ((900, 700), (500, 499), (40, 0)):
        now, then = ours.alphas_bar[t], ours.alphas_bar[previous]
        clock = ((1 - then) / then).sqrt() - ((1 - now) / now).sqrt()
        wanted = then.sqrt() * (x / now.sqrt() + clock * noise)
        torch.testing.assert_close(ours.ddim_step(noise, t, x, previous=previous), wanted)


def test_a_sampler_stops_where_it_is_told_and_shows_its_path():
    ours = GaussianDiffusion("cosine", 40)
    seen = []

    def predict(x, t):
        seen.append(int(t[0]))
        return torch.zeros_like(x)

    path = ours.sample(predict, torch.ones(2, 3), 4, path=True)
    assert seen == [39, 29, 19, 9]
    assert path.shape == (5, 2, 3)
    torch.testing.assert_close(path[0], torch.ones(2, 3))
    torch.testing.assert_close(path[-1], ours.sample(predict, torch.ones(2, 3), 4))


# -------------------------------------------------------------------------------------- the bound
@pytest.mark.equation("diffusion-bound")
@pytest.mark.equation("diffusion-bound-term")
@pytest.mark.equation("diffusion-prior")
@pytest.mark.parametrize("variance", ["small", "large"])
def test_every_term_is_a_divergence_of_torch(variance):
    ours = GaussianDiffusion("linear", 30)
    x0, noise, answer = triple()
    for t in range(30):
        at = torch.full((6,), t)
        x = ours.q_sample(x0, at, noise)
        got = ours.bound_terms(answer, x0, x, at, variance=variance)
        clean = ours.convert(answer, x, at, "sample")
        if t:
            mean, tilde = ours.posterior(x0, x, t)
            guess, _ = ours.posterior(clean, x, t)
            spread = tilde if variance == "small" else ours.betas[t]
            wanted = D.kl_divergence(D.Normal(mean, tilde**0.5), D.Normal(guess, spread**0.5))
        else:
            wanted = -D.Normal(clean, ours.betas[0] ** 0.5).log_prob(x0)
        torch.testing.assert_close(got, wanted.sum(1), rtol=1e-8, atol=1e-8)
    kept = ours.alphas_bar[-1]
    last = D.Normal(kept.sqrt() * x0, (1 - kept).sqrt())
    wanted = D.kl_divergence(last, D.Normal(torch.zeros_like(x0), 1.0)).sum(1)
    torch.testing.assert_close(ours.prior_term(x0), wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.equation("diffusion-bound-snr")
def test_a_term_is_half_the_fall_of_the_snr_times_the_error_of_the_clean_example():
    ours = GaussianDiffusion("cosine", 100)
    x0, noise, answer = triple()
    snr = ours.snr()
    for t in (1, 40, 98):
        at = torch.full((6,), t)
        x = ours.q_sample(x0, at, noise)
        clean = ours.convert(answer, x, at, "sample")
        wanted = 0.5 * (snr[t - 1] - snr[t]) * (x0 - clean).square().sum(1)
        got = ours.bound_terms(answer, x0, x, at, variance="small")
        torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)


def test_the_bound_of_a_perfect_model_is_nearly_the_entropy():
    """Of one normal number, whose log-likelihood is known: within the gap of 1000 steps."""
    torch.manual_seed(0)
    mixture = GaussianMixture(torch.zeros(1, 1, dtype=DOUBLE), torch.tensor([0.5], dtype=DOUBLE))
    ours = GaussianDiffusion("linear", 400)
    x0 = mixture.sample(400)

    def predict(x, t):
        kept = ours.alphas_bar[t][:, None]
        score = -x / (kept * 0.25 + 1 - kept)
        return ours.convert(score, x, t, "epsilon", "score")

    bound = ours.bound(predict, x0)
    exact = -mixture.log_prob(x0)
    assert float((bound - exact).mean()) == pytest.approx(0, abs=0.05)
    assert float((bound - exact).mean()) > -0.02


def test_some_terms_estimate_all_of_them_without_bias():
    torch.manual_seed(0)
    ours = GaussianDiffusion("cosine", 50)
    x0 = torch.rand(40, 3, dtype=DOUBLE) * 2 - 1

    def predict(x, t):
        return 0.9 * x

    exact = torch.stack([ours.bound(predict, x0) for _ in range(20)]).mean()
    some = torch.stack([ours.bound(predict, x0, 5).mean() for _ in range(400)])
    assert abs(float(some.mean() - exact)) < 5 * float(some.std()) / 20


def test_the_likelihood_of_grey_values_sums_to_one():
    ours = GaussianDiffusion([0.05, 0.2], None)
    levels = torch.linspace(-1, 1, 17, dtype=DOUBLE)[:, None]
    for place in (-3.0, -0.97, 0.2, 4.0):
        x = torch.full((17, 1), place, dtype=DOUBLE)
        at = torch.zeros(17, dtype=torch.int64)
        terms = ours.bound_terms(torch.zeros_like(x), levels, x, at, levels=17)
        assert float((-terms).exp().sum()) == pytest.approx(1, rel=1e-9)
        assert torch.isfinite(terms).all()


# --------------------------------------------------------------------------------------- guidance
@pytest.mark.equation("diffusion-guidance")
@pytest.mark.equation("diffusion-guidance-scale")
def test_both_conventions_are_one_number_apart():
    """And it is the score of p(x) p(y|x)^{1+w}: that of the condition, and of a classifier w times.

    Two normal classes at ±1, so that everything is known.
    """
    x = torch.linspace(-3, 3, 9, dtype=DOUBLE).requires_grad_()
    inside, outside = (D.Normal(m, 1.0).log_prob(x) for m in (1.0, -1.0))
    both = torch.stack([inside, outside]).logsumexp(0) + math.log(0.5)
    w = 0.7
    cond, uncond = (
        torch.autograd.grad(part.sum(), x, retain_graph=True)[0] for part in (inside, both)
    )
    sharpened = both + (1 + w) * (inside + math.log(0.5) - both)
    (wanted,) = torch.autograd.grad(sharpened.sum(), x)
    torch.testing.assert_close(guided(cond, uncond, w), wanted)
    torch.testing.assert_close(guided(cond, uncond, scale=1 + w), wanted)
    torch.testing.assert_close(uncond + 1.7 * (cond - uncond), wanted)
    torch.testing.assert_close(guided(cond, uncond, 0.0), cond)
    torch.testing.assert_close(guided(cond, uncond, -1.0), uncond)


def test_guidance_asks_the_network_twice_in_one_pass():
    model = awake(Denoiser(4, 8, num_classes=3))
    x, t, y = torch.randn(5, 4), torch.arange(5), torch.tensor([0, 1, 2, 0, 1])
    wanted = 1.5 * model(x, t, y) - 0.5 * model(x, t)
    torch.testing.assert_close(guide(model, y, 3, 0.5)(x, t), wanted)
    torch.testing.assert_close(guide(model, y, None)(x, t), model(x, t, y))


def test_classes_are_dropped_at_their_rate():
    y = torch.arange(10).repeat(1000)
    dropped = drop_classes(y, 10, 0.2, torch.Generator().manual_seed(0))
    share = (dropped == 10).double().mean()
    assert abs(float(share) - 0.2) < 5 * math.sqrt(0.16 / len(y))
    assert bool((dropped[dropped != 10] == y[dropped != 10]).all())


# ---------------------------------------------------------------------------------- flow matching
@pytest.mark.equation("diffusion-flow-path")
@pytest.mark.equation("diffusion-flow-loss")
def test_the_velocity_is_the_derivative_of_the_path():
    x0, noise, answer = triple()
    flow = FlowMatching()
    t = torch.linspace(0.1, 0.9, 6, dtype=DOUBLE)
    step = 1e-6
    slope = (flow.interpolate(x0, noise, t + step) - flow.interpolate(x0, noise, t - step)) / (
        2 * step
    )
    assert float(flow.loss(told(slope), x0, t=t, noise=noise)) == pytest.approx(0, abs=1e-15)
    got = flow.loss(told(answer), x0, t=t, noise=noise)
    assert float(got) == pytest.approx(float((answer - slope).square().mean()), rel=1e-8)
    for end, wanted in ((0.0, x0), (1.0, noise)):
        at = torch.full((6,), end, dtype=DOUBLE)
        torch.testing.assert_close(flow.interpolate(x0, noise, at), wanted)


@pytest.mark.equation("diffusion-flow-epsilon")
def test_velocity_noise_and_clean_example_say_the_same():
    x0, noise, _ = triple()
    t = torch.linspace(0.1, 0.9, 6, dtype=DOUBLE)[:, None]
    x = (1 - t) * x0 + t * noise
    velocity = noise - x0
    torch.testing.assert_close(x - t * velocity, x0)
    torch.testing.assert_close(x + (1 - t) * velocity, noise)


@pytest.mark.equation("diffusion-flow-ode")
@pytest.mark.parametrize(("method", "order"), [("euler", 1), ("heun", 2)])
def test_the_samplers_have_their_orders(method, order):
    """dx/dt = x has the solution x e^{−1} at t = 0."""
    flow, one = FlowMatching(), torch.ones(1, 1, dtype=DOUBLE)
    errors = [
        abs(float(flow.sample(lambda x, t: x, one, n, method=method)) - math.exp(-1))
        for n in (40, 80)
    ]
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_agrees_with_diffusers(shift):
    theirs = diffusers.FlowMatchEulerDiscreteScheduler(1000, shift=shift)
    flow = FlowMatching(shift=shift)
    theirs.set_timesteps(sigmas=[1 - at / 8 for at in range(8)])
    torch.testing.assert_close(torch.tensor(flow.times(8)), theirs.sigmas)
    x = y = torch.randn(4, 3)
    for at, t in enumerate(theirs.timesteps):
        y = theirs.step(torch.sin(y), t, y).prev_sample
        got = flow.sample(lambda x, _: torch.sin(x), x, 8, path=True)[at + 1]
        torch.testing.assert_close(got, y, rtol=1e-5, atol=1e-5)


def test_with_the_exact_velocity_flow_matching_draws_the_data():
    torch.manual_seed(0)
    mixture = GaussianMixture(torch.tensor([[-1.5], [1.0]]), 0.3, torch.tensor([1.0, 3.0]))

    def predict(x, t):
        """At time t the path is a diffusion's, with ᾱ = (1 − t)²/((1 − t)² + t²), scaled."""
        t = float(t[0])
        size = math.hypot(1 - t, t)
        kept = (1 - t) ** 2 / size**2
        score = mixture.score(x / size, kept) / size
        noise = -t * score
        clean = (x - t * noise) / (1 - t) if t < 1 else torch.zeros_like(x) + 0.375
        return noise - clean

    x = FlowMatching().sample(predict, torch.randn(4000, 1), 200)
    assert float((x < -0.25).float().mean()) == pytest.approx(0.25, abs=0.04)
    assert float(x[x > 0].std()) == pytest.approx(0.3, abs=0.03)


def test_training_times_lie_in_the_middle_when_asked():
    torch.manual_seed(0)
    seen = []

    def model(x, t):
        seen.append(t)
        return x

    for option in (False, True):
        FlowMatching(logit_normal=option).loss(model, torch.zeros(4000, 1))
    share = [((t > 0.25) & (t < 0.75)).float().mean() for t in seen]
    assert float(share[0]) == pytest.approx(0.5, abs=0.04)
    assert float(share[1]) == pytest.approx(0.728, abs=0.04)  # Φ(ln 3) − Φ(−ln 3)


# --------------------------------------------------------------------------------------- networks
@pytest.mark.equation("diffusion-adaln")
def test_a_dit_answers_as_that_of_diffusers():
    """Its weights laid into ours; its time's waves are one off in number, and set to ours."""
    torch.manual_seed(0)
    theirs = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=3, out_channels=6, num_layers=2,
        sample_size=8, patch_size=2, num_embeds_ada_norm=5, norm_elementwise_affine=False,
        norm_eps=1e-6,
    ).eval()  # fmt: skip
    ours = DiT(8, 2, 3, 16, 2, 2, 5, out_channels=6).eval()
    awake(theirs)
    told = theirs.transformer_blocks[0].norm1.emb
    for block in theirs.transformer_blocks:
        block.norm1.emb = told
    told.time_proj.downscale_freq_shift = 0
    place = {
        "told.time.0": told.timestep_embedder.linear_1,
        "told.time.2": told.timestep_embedder.linear_2,
        "told.classes": told.class_embedder.embedding_table,
        "patches": theirs.pos_embed.proj,
        "modulation": theirs.proj_out_1,
        "last": theirs.proj_out_2,
    }
    for at, block in enumerate(theirs.transformer_blocks):
        place |= {
            f"layers.{at}.attention.out_proj": block.attn1.to_out[0],
            f"layers.{at}.linear1": block.ff.net[0].proj,
            f"layers.{at}.linear2": block.ff.net[2],
            f"layers.{at}.modulation": block.norm1.linear,
        }
    state = {
        f"{name}.{part}": value
        for name, module in place.items()
        for part, value in module.state_dict().items()
    }
    for at, block in enumerate(theirs.transformer_blocks):
        heads = (block.attn1.to_q, block.attn1.to_k, block.attn1.to_v)
        for part in ("weight", "bias"):
            state[f"layers.{at}.attention.in_proj_{part}"] = torch.cat(
                [getattr(head, part) for head in heads]
            )
    ours.load_state_dict(state)
    x, t, y = torch.randn(4, 3, 8, 8), torch.tensor([0, 10, 500, 999]), torch.tensor([0, 4, 5, 2])
    with torch.no_grad():
        wanted = theirs(x, t, y).sample
        torch.testing.assert_close(ours(x, t, y), wanted, rtol=1e-4, atol=1e-5)


def test_the_largest_published_dit_has_675_million_parameters():
    model = DiT(32, 2, 4, 1152, 28, 16, 1000, out_channels=8, device="meta")
    count = sum(p.numel() for p in model.parameters())
    assert count + 256 * 1152 == 675_129_632  # which counts the fixed positions as well


def test_a_new_network_answers_zero_and_a_new_block_is_the_identity():
    x = torch.randn(3, 1, 4, 4)
    assert not DiT(4, 2, 1, 8, 2, 2)(x, 7).any()
    assert not Denoiser(4)(torch.randn(3, 4), 7).any()
    h = torch.randn(2, 9, 16)
    torch.testing.assert_close(DiTBlock(16, 4)(h, torch.randn(2, 16)), h, rtol=0, atol=0)


def test_patches_go_back_to_where_they_came_from():
    """A network whose answer for a patch depends on that patch alone."""
    model = DiT(4, 2, 1, 8, 1, 2)
    nn.init.normal_(model.last.weight)
    x = torch.zeros(1, 1, 4, 4)
    y = x.clone()
    y[0, 0, 0, 3] = 1.0  # the upper right patch
    changed = (model(x, 0) != model(y, 0))[0, 0]
    assert bool(changed[:2, 2:].all())
    assert not bool(changed[2:].any() or changed[:2, :2].any())


def test_time_and_class_change_the_answer():
    for model, x in (
        (Denoiser(4, 8, num_classes=3), torch.randn(2, 4)),
        (DiT(4, 2, 1, 8, 2, 2, 3), torch.randn(2, 1, 4, 4)),
    ):
        awake(model)
        y = torch.tensor([1, 1])
        answer = model(x, 5, y)
        assert not torch.allclose(answer, model(x, 6, y))
        assert not torch.allclose(answer, model(x, 5, y + 1))
        torch.testing.assert_close(model(x, 5), model(x, 5, torch.full((2,), 3)))
        torch.testing.assert_close(answer, model(x, torch.tensor([5, 5]), y))


# -------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize("betas", [[0.1, 0.0], [0.1, 1.5], [-0.1, 0.2], [1.0, 0.5], []])
def test_variances_outside_of_0_to_1_are_refused(betas):
    with refuses(ValueError, "betas"):
        GaussianDiffusion(betas, None)


def test_bad_schedules_are_refused():
    with refuses(ValueError, "schedule"):
        GaussianDiffusion("quadratic", 10)
    with refuses(ValueError, "steps=0"):
        GaussianDiffusion("cosine", 0)
    with refuses(ValueError, "steps=10"):
        GaussianDiffusion("linear", 10)
    with refuses(ValueError, "steps=7"):
        GaussianDiffusion([0.1, 0.2], 7)
    with refuses(ValueError, "prediction"):
        GaussianDiffusion(prediction="noise")
    with refuses(ValueError, "no signal is left"):
        GaussianDiffusion(zero_snr=True)
    with refuses(ValueError, "betas"):
        zero_terminal_snr(torch.tensor([0.5]))


@pytest.mark.parametrize("t", [-1, 100, 10**6])
def test_steps_that_are_none_are_refused(t):
    ours, x = GaussianDiffusion("cosine", 100), torch.zeros(3, 2)
    with refuses(ValueError, "t"):
        ours.q_sample(x, torch.full((3,), t))
    with refuses(ValueError, "t"):
        ours.q_sample(x, t)
    with refuses(ValueError, "t"):
        ours.ddim_step(x, t, x)


def test_what_does_not_fit_is_refused():
    ours, x = GaussianDiffusion("cosine", 100), torch.zeros(3, 2)
    with refuses(TypeError, "t"):
        ours.q_sample(x, torch.zeros(3))
    with refuses(ValueError, "t"):
        ours.q_sample(x, torch.zeros(4, dtype=torch.int64))
    with refuses(ValueError, "previous"):
        ours.ddim_step(x, 5, x, previous=-2)
    with refuses(ValueError, "clip"):
        ours.ddpm_step(x, 5, x, clip=0.0)
    with refuses(ValueError, "eta"):
        ours.ddim_step(x, 5, x, eta=-0.1)
    with refuses(ValueError, "num_steps"):
        ours.timesteps(101)
    with refuses(ValueError, "model's answer"):
        ours.loss(lambda x, t: x[:, :1], x)
    with refuses(ValueError, "min_snr"):
        ours.loss(lambda x, t: x, x, min_snr=0.0)


def test_guidance_without_a_null_class_is_refused():
    x, y = torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64)
    with refuses(ValueError, "null class"):
        guided(x, None, 1.0)
    with refuses(ValueError, "null class"):
        guide(Denoiser(4), y, None, 1.0)
    with refuses(ValueError, "w or scale"):
        guided(x, x)
    with refuses(ValueError, "w or scale"):
        guided(x, x, 1.0, scale=2.0)
    with refuses(ValueError, "num_classes"):
        Denoiser(4)(x, 0, y)
    with refuses(ValueError, "y"):
        Denoiser(4, num_classes=3)(x, 0, y + 4)


def test_flows_and_networks_refuse_what_they_cannot_take():
    flow, x = FlowMatching(), torch.zeros(2, 3)
    with refuses(ValueError, "t must lie in 0 … 1"):
        flow.interpolate(x, x, torch.tensor([0.5, 1.5]))
    with refuses(ValueError, "shift"):
        FlowMatching(shift=0)
    with refuses(ValueError, "method"):
        flow.sample(lambda x, t: x, x, 3, method="midpoint")
    with refuses(ValueError, "patch_size=3"):
        DiT(8, 3)
    with refuses(ValueError, "embed_dim=10"):
        DiT(8, 2, 1, 10, 1, 2)
    with refuses(ValueError, "rows and columns"):
        DiT(8, 2, 1, 8, 1, 2)(torch.zeros(1, 1, 6, 6), 0)
    with refuses(ValueError, "std"):
        GaussianMixture(torch.zeros(2, 2), 0.0)
    with refuses(ValueError, "weights"):
        GaussianMixture(torch.zeros(2, 2), 1.0, torch.zeros(2))
    with refuses(ValueError, "alpha_bar"):
        GaussianMixture(torch.zeros(2, 2), 1.0).score(torch.zeros(1, 2), 1.5)


@pytest.mark.parametrize("prediction", ["sample", "v_prediction"])
def test_a_schedule_that_ends_in_pure_noise_gives_finite_numbers(prediction):
    ours = GaussianDiffusion("linear", 100, prediction=prediction, zero_snr=True)
    torch.manual_seed(0)
    x = torch.randn(5, 3)
    for method in ("ddim", "ddpm"):
        assert torch.isfinite(ours.sample(lambda x, t: 0.1 * x, x, 10, method=method)).all()
    last = torch.full((5,), 99)
    value = ours.loss(lambda x, t: 0.1 * x, x, t=last, min_snr=5.0)
    assert torch.isfinite(value)
