"""Laws by brute force, fits by known constants and by scipy, costs by a counter of FLOPs."""

import itertools
import math
import random
from dataclasses import astuple

import numpy as np
import pytest
import torch
from scipy import optimize
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nnlib.attention.gpt import GPT, gpt_parameters, next_token_loss_of_logits
from nnlib.language.scaling_laws import (
    BESIROGLU,
    HOFFMANN,
    HOFFMANN_UNROUNDED,
    KAPLAN,
    KAPLAN_SIZE,
    PF_DAY,
    ParametricLaw,
    PowerLaw,
    broken_power_law,
    compute_optimal,
    effective_tokens,
    fit_parametric,
    fit_power_law,
    frontier,
    huber_objective,
    isoflop_minimum,
    kaplan,
    mup,
    pass_at_k,
    resample_parametric,
    serving_optimum,
    tokens_to_reach,
    training_flops,
)
from tests.support import Example, refuses

LAWS = {"hoffmann": HOFFMANN, "besiroglu": BESIROGLU, "steep": ParametricLaw(1, 90, 50, 0.7, 0.4)}
CHINCHILLA = 5.76e23  # FLOPs


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(inputs=(torch.tensor([1e18, 1e21, 5.76e23]),))


@pytest.fixture(scope="module")
def grid():
    """A grid of runs with the noise of training, as Hoffmann et al. had."""
    draw = np.random.default_rng(0)
    n = torch.logspace(7.7, 10.2, 12, dtype=torch.float64).repeat_interleave(16)
    d = torch.logspace(9.5, 11.7, 16, dtype=torch.float64).repeat(12)
    noise = torch.from_numpy(draw.normal(0, 0.002, len(n)))
    return n, d, BESIROGLU(n, d) * noise.exp()


# ------------------------------------------------------------------------------------------ budgets
@pytest.mark.equation("scaling-laws-parametric", "scaling-laws-optimal", "scaling-laws-exponents")
@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("budget", [1e15, 1e20, CHINCHILLA])
def test_the_allocation_is_the_lowest_point_of_an_isoflop_curve(name, budget):
    law = LAWS[name]

    def loss(log_n):
        n = math.exp(log_n)
        return law.floor + law.size * n**-law.alpha + law.data * (budget / 6 / n) ** -law.beta

    found = optimize.minimize_scalar(
        loss, bounds=(1, 40), method="bounded", options={"xatol": 1e-9}
    )
    best = compute_optimal(budget, law)
    assert best.parameters.item() == pytest.approx(math.exp(found.x), rel=1e-4)
    assert best.loss.item() == pytest.approx(found.fun, rel=1e-9)
    assert (6 * best.parameters * best.tokens).item() == pytest.approx(budget)
    tenfold = compute_optimal(10 * budget, law)
    grown = (tenfold.parameters / best.parameters).log10().item()
    assert grown == pytest.approx(law.size_exponent)


def test_tokens_a_parameter_at_chinchillas_budget():
    """The rounded constants ask for 93 tokens a parameter, the refit for 18."""

    def ratio(law):
        best = compute_optimal(CHINCHILLA, law)
        return (best.tokens / best.parameters).item()

    assert ratio(HOFFMANN) == pytest.approx(93, abs=1)
    assert ratio(BESIROGLU) == pytest.approx(18.4, abs=0.1)
    assert 20 < ratio(HOFFMANN_UNROUNDED) < 93
    exponents = [law.size_exponent for law in (HOFFMANN, HOFFMANN_UNROUNDED, BESIROGLU)]
    assert exponents == pytest.approx([0.452, 0.456, 0.513], abs=1e-3)


@pytest.mark.equation("scaling-laws-twenty")
def test_twenty_tokens_a_parameter_is_chinchilla_and_near_the_lowest_loss_of_the_refit():
    size, tokens = 70e9, 1.4e12  # what Hoffmann et al. trained
    budget = 6 * size * tokens
    assert tokens == 20 * size
    assert math.sqrt(budget / 120) == pytest.approx(size)
    n = torch.logspace(9, 13, 100_001, dtype=torch.float64)
    best = n[BESIROGLU(n, budget / 6 / n).argmin()].item()
    assert best == pytest.approx(math.sqrt(budget / 120), rel=0.06)
    assert budget / 6 / best == pytest.approx(20 * best, rel=0.1)


@pytest.mark.equation("scaling-laws-kaplan")
def test_kaplans_laws_reach_one_at_their_scales():
    scales = {"parameters": 8.8e13, "tokens": 5.4e13, "compute": 3.1e8 * 8.64e19}
    exponents = {"parameters": 0.076, "tokens": 0.095, "compute": 0.050}
    for name, law in KAPLAN.items():
        assert law.scale == pytest.approx(scales[name])
        assert law(scales[name]).item() == pytest.approx(1)
        halved = law(scales[name] / 1000).item()
        assert halved == pytest.approx(1000 ** exponents[name])


@pytest.mark.equation("scaling-laws-kaplan-both")
def test_kaplans_joint_law_tends_to_each_single_one():
    assert kaplan(1e9, 1e30).item() == pytest.approx((6.4e13 / 1e9) ** 0.076, rel=1e-6)
    assert kaplan(1e30, 1e9).item() == pytest.approx((1.8e13 / 1e9) ** 0.103, rel=1e-6)
    inner = (6.4e13 / 1e8) ** (0.076 / 0.103) + 1.8e13 / 1e9
    assert kaplan(1e8, 1e9).item() == pytest.approx(inner**0.103)


def test_kaplans_sizes_and_chinchillas_part_ways():
    """A thousand times the compute: 155 times the parameters, or 32."""
    grown = KAPLAN_SIZE(1000 * PF_DAY) / KAPLAN_SIZE(PF_DAY)
    assert KAPLAN_SIZE(PF_DAY).item() == pytest.approx(1.3e9)
    assert grown.item() == pytest.approx(155, abs=1)
    assert grown.item() / 1000**0.5 == pytest.approx(4.9, abs=0.1)


# -------------------------------------------------------------------------------------------- FLOPs
@pytest.mark.equation("scaling-laws-flops")
@pytest.mark.parametrize(("width", "depth", "length"), [(8, 1, 5), (16, 3, 12)], ids=str)
def test_training_flops_are_those_that_torch_counts(width, depth, length):
    model = GPT(13, width, 2, depth, length)
    ids = torch.randint(13, (3, length))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next_token_loss_of_logits(model(ids), ids).backward()
    assert counter.get_total_flops() == training_flops(13, width, depth, length, ids.numel())


@pytest.mark.equation("scaling-laws-compute")
def test_six_flops_a_weight_and_token_where_width_is_large():
    sizes = (1000, 8192, 80, 128)
    weights = gpt_parameters(1000, 8192, 80, 128)
    assert training_flops(*sizes) == pytest.approx(6 * weights, rel=0.01)
    small = training_flops(1000, 64, 4, 1024) / gpt_parameters(1000, 64, 4, 1024)
    assert small > 12, "attention counts where width is small"


# -------------------------------------------------------------------------------------------- fits
@pytest.mark.equation("scaling-laws-regression")
@pytest.mark.parametrize("exponent", [-0.076, -0.5, 0.73])
def test_a_line_is_that_of_numpy(exponent):
    x = torch.logspace(3, 9, 7, dtype=torch.float64)
    noise = torch.linspace(-1, 1, 7, dtype=torch.float64).cos() / 50
    y = 3 * x**exponent * noise.exp()
    law = fit_power_law(x, y)
    slope, intercept = np.polyfit(x.log(), y.log(), 1)
    assert (law.exponent, math.log(law.coefficient)) == pytest.approx((slope, intercept))


@pytest.mark.parametrize("floor", [0.3, 1.7])
def test_a_floor_is_found_where_there_is_one(floor):
    x = torch.logspace(0, 4, 9, dtype=torch.float64)
    law = fit_power_law(x, floor + 5 * x**-0.3, floor=True)
    assert astuple(law) == pytest.approx((5, -0.3, floor), rel=1e-4)


def test_without_a_floor_the_exponent_is_too_small():
    x = torch.logspace(0, 4, 9, dtype=torch.float64)
    assert -0.15 < fit_power_law(x, 1.7 + 5 * x**-0.3).exponent < -0.05


def test_a_floor_that_is_not_there_is_near_zero():
    x = torch.logspace(0, 3, 8, dtype=torch.float64)
    law = fit_power_law(x, 2 * x**-0.5, floor=True)
    assert law.floor < 1e-3 and law.exponent == pytest.approx(-0.5, abs=1e-3)


@pytest.mark.parametrize("name", LAWS)
def test_known_constants_come_back_from_clean_curves(name):
    law = LAWS[name]
    n = torch.logspace(6, 10, 6, dtype=torch.float64).repeat_interleave(6)
    d = torch.logspace(7, 11, 6, dtype=torch.float64).repeat(6)
    fitted = fit_parametric(n, d, law(n, d))
    assert astuple(fitted) == pytest.approx(astuple(law), rel=1e-3)


@pytest.mark.equation("scaling-laws-huber")
def test_the_fit_is_as_good_as_that_of_scipy(grid):
    """Scipy's trust region on the same robust sum, from the true constants."""
    n, d, losses = (column.numpy() for column in grid)

    def difference(theta):
        a, alpha, b, beta, e = theta
        terms = np.stack([a - alpha * np.log(n), b - beta * np.log(d), np.full(len(n), e)])
        return np.logaddexp.reduce(terms) - np.log(losses)

    t = BESIROGLU
    truth = [math.log(t.size), t.alpha, math.log(t.data), t.beta, math.log(t.floor)]
    theirs = optimize.least_squares(
        difference, truth, loss="huber", f_scale=1e-3, xtol=1e-14, ftol=1e-14, gtol=1e-14
    )
    ours = fit_parametric(*grid)
    assert huber_objective(ours, *grid).item() <= theirs.cost * (1 + 1e-6)
    assert ours.alpha == pytest.approx(theirs.x[1], abs=2e-3)
    assert ours.beta == pytest.approx(theirs.x[3], abs=2e-3)
    r = difference([math.log(ours.size), ours.alpha, math.log(ours.data), ours.beta,
                    math.log(ours.floor)])  # fmt: skip
    size = np.abs(r)
    by_hand = np.where(size <= 1e-3, r**2 / 2, 1e-3 * (size - 5e-4)).sum()
    assert huber_objective(ours, *grid).item() == pytest.approx(by_hand)


def test_one_wild_run_hardly_moves_a_robust_fit(grid):
    n, d, losses = grid
    wild = losses.clone()
    wild[5] *= 1.5
    robust, squares = fit_parametric(n, d, wild), fit_parametric(n, d, wild, delta=10.0)
    clean = fit_parametric(n, d, losses)
    assert abs(robust.beta - clean.beta) < 0.3 * abs(squares.beta - clean.beta)


def test_resampled_constants_scatter_about_the_truth(grid):
    fits = resample_parametric(*grid, resamples=60)
    exponents = torch.tensor([law.size_exponent for law in fits])
    low, high = exponents.quantile(torch.tensor([0.01, 0.99])).tolist()
    assert low < BESIROGLU.size_exponent < high
    assert 0.001 < exponents.std() < 0.03
    again = resample_parametric(*grid, resamples=60)
    assert again == fits, "the same seed, the same draws"


def test_a_mean_that_is_too_small_stops_an_optimizer_early(grid):
    """What Besiroglu et al. found: the same sum, divided by its length, is not descended."""
    n, d, losses = grid
    start = np.array([5.0, 0.5, 5.0, 0.5, 0.5])

    def objective(theta, scale):
        a, alpha, b, beta, e = theta
        law = ParametricLaw(math.exp(e), math.exp(a), math.exp(b), alpha, beta)
        return huber_objective(law, n, d, losses).item() * scale

    box = [(-1, 25), (0.01, 2.5), (-1, 25), (0.01, 2.5), (-2, 2)]
    ends = {
        scale: optimize.minimize(objective, start, (scale,), "L-BFGS-B", bounds=box)
        for scale in (1.0, 1 / len(n))
    }
    summed, averaged = (objective(end.x, 1.0) for end in ends.values())
    assert averaged > 1.05 * summed
    assert ends[1 / len(n)].nit < ends[1.0].nit


def test_the_frontier_is_that_of_a_loop():
    draw = random.Random(1)
    c = torch.tensor([draw.uniform(1, 9) for _ in range(40)])
    losses = torch.tensor([draw.uniform(1, 9) for _ in range(40)])
    slow = [all(not (c[j] <= c[i] and losses[j] < losses[i]) for j in range(40)) for i in range(40)]
    assert frontier(c, losses).tolist() == slow
    assert 1 <= sum(slow) < 40


@pytest.mark.equation("scaling-laws-parabola")
def test_the_vertex_of_a_parabola():
    n = torch.logspace(5, 8, 5, dtype=torch.float64)
    found = isoflop_minimum(n, 2 + 0.3 * (n.log() - math.log(3e6)) ** 2)
    assert found.parameters == pytest.approx(3e6, rel=1e-6)
    assert found.loss == pytest.approx(2) and found.inside
    beyond = isoflop_minimum(n, 2 + 0.3 * (n.log() - math.log(3e9)) ** 2)
    assert beyond.parameters == pytest.approx(3e9, rel=1e-5) and not beyond.inside


@pytest.mark.parametrize("name", LAWS)
def test_three_ways_to_the_same_exponent_on_a_clean_law(name):
    law = LAWS[name]
    budgets = torch.logspace(18, 22, 5, dtype=torch.float64)
    found = []
    for budget in budgets:
        best = compute_optimal(budget, law)
        n = best.parameters * torch.logspace(-0.4, 0.4, 7, dtype=torch.float64)
        found.append(isoflop_minimum(n, law(n, budget / 6 / n)).parameters)
    by_parabolas = fit_power_law(budgets, torch.tensor(found, dtype=torch.float64))
    assert by_parabolas.exponent == pytest.approx(law.size_exponent, abs=0.01)
    sizes = torch.logspace(6, 12, 120, dtype=torch.float64)
    c = torch.logspace(17, 23, 61, dtype=torch.float64)
    n, cc = (grid.flatten() for grid in torch.meshgrid(sizes, c, indexing="ij"))
    losses = law(n, cc / 6 / n)
    on = frontier(cc, losses)
    by_envelope = fit_power_law(cc[on], n[on])
    assert by_envelope.exponent == pytest.approx(law.size_exponent, abs=0.02)


# ------------------------------------------------------------------------------- costs and variants
@pytest.mark.equation("scaling-laws-reach")
def test_tokens_to_reach_is_the_inverse_of_the_law():
    n = torch.tensor([1e9, 1e10, 1e11], dtype=torch.float64)
    d = torch.tensor([3e10, 2e11, 5e12], dtype=torch.float64)
    for size, tokens in zip(n, d, strict=True):
        loss = BESIROGLU(size, tokens).item()
        assert tokens_to_reach(loss, size).item() == pytest.approx(tokens.item(), rel=1e-6)
    assert tokens_to_reach(1.9, n).tolist()[0] == math.inf


@pytest.mark.equation("scaling-laws-served")
@pytest.mark.parametrize("served", [0.0, 1e11, 1e14], ids=str)
def test_the_cheapest_life_is_that_of_a_search(served):
    loss = 2.1

    def life(log_n):
        n = math.exp(log_n)
        d = tokens_to_reach(loss, n).item()
        return 6 * n * d + 2 * n * served if d < math.inf else 1e300

    found = optimize.minimize_scalar(life, bounds=(math.log(1e9), math.log(1e13)), method="bounded",
                                     options={"xatol": 1e-10})  # fmt: skip
    best = serving_optimum(loss, served)
    assert best.flops == pytest.approx(found.fun, rel=1e-6)
    assert best.parameters == pytest.approx(math.exp(found.x), rel=1e-3)
    assert BESIROGLU(best.parameters, best.tokens).item() == pytest.approx(loss)


def test_with_nothing_served_it_is_the_compute_optimum():
    best = compute_optimal(1e22)
    alone = serving_optimum(best.loss.item(), 0.0)
    assert alone.parameters == pytest.approx(best.parameters.item(), rel=1e-4)
    assert alone.flops == pytest.approx(1e22, rel=1e-6)


@pytest.mark.equation("scaling-laws-repeated")
def test_effective_tokens_are_a_sum_of_passes_that_fade():
    """Each small part of a pass is worth e^(−R/R*) of a new one: an integral, by a sum."""
    worth, unique = 15.387756, 2.0
    for passes in (1.5, 4.0, 40.0):
        repeats = np.linspace(0, passes - 1, 200_001)
        middle = (repeats[1:] + repeats[:-1]) / 2
        faded = np.exp(-middle / worth).sum() * (repeats[1] - repeats[0])
        got = effective_tokens(unique, unique * passes).item()
        assert got == pytest.approx(unique * (1 + faded), rel=1e-6)
    assert effective_tokens(2.0, 1.0).item() == 1.0, "part of the text, once"
    assert effective_tokens(1.0, 4.0).item() == pytest.approx(3.73, abs=0.01)
    assert effective_tokens(1.0, 1e9).item() == pytest.approx(16.39, abs=0.01)


@pytest.mark.equation("scaling-laws-broken")
def test_a_broken_law_has_a_slope_on_either_side():
    law = PowerLaw(2.0, -0.1, floor=0.5)
    breaks = [(1e3, -0.3, 0.2), (1e6, 0.25, 0.2)]
    for at, slope in ((1e-2, -0.1), (3e4, -0.4), (1e9, -0.15)):
        x = torch.tensor([at, at * 1.01], dtype=torch.float64)
        y = (broken_power_law(x, law, breaks) - 0.5).log()
        assert ((y[1] - y[0]) / math.log(1.01)).item() == pytest.approx(slope, abs=2e-3)
    x = 700.0
    by_hand = 0.5 + 2 * x**-0.1 * (1 + (x / 1e3) ** 5) ** (-0.3 * 0.2) * (1 + (x / 1e6) ** 5) ** (
        0.25 * 0.2
    )
    assert broken_power_law(x, law, breaks).item() == pytest.approx(by_hand)
    assert broken_power_law(x, law, []).item() == pytest.approx(law(x).item())


@pytest.mark.equation("scaling-laws-emergence")
def test_n_right_in_a_row_is_a_power_of_one_right():
    draw = np.random.default_rng(2)
    right = draw.random((40_000, 4)) < 0.6
    share = right.all(1).mean()
    assert share == pytest.approx(0.6**4, abs=4 * math.sqrt(0.13 * 0.87 / 40_000))


@pytest.mark.equation("scaling-laws-coverage")
@pytest.mark.parametrize(("samples", "correct"), [(6, 0), (6, 1), (6, 3), (6, 6)])
def test_pass_at_k_counts_all_choices(samples, correct):
    answers = [True] * correct + [False] * (samples - correct)
    for k in range(1, samples + 1):
        choices = list(itertools.combinations(answers, k))
        assert pass_at_k(samples, correct, k) == pytest.approx(
            sum(map(any, choices)) / len(choices)
        )


def change_of_output(width, scaled, steps=1):
    """How far one step of Adam moves the output of a network of this width."""
    torch.manual_seed(0)
    factors = mup(width, 32) if scaled else mup(32, 32)
    first, hidden = torch.nn.Linear(8, width), torch.nn.Linear(width, width, bias=False)
    out = torch.nn.Linear(width, 4, bias=False)
    for layer, spread in ((first, 8**-0.5), (hidden, width**-0.5)):
        torch.nn.init.normal_(layer.weight, std=spread)
    torch.nn.init.normal_(out.weight, std=32**-0.5 if scaled else width**-0.5)

    def forward(x):
        return out(hidden(first(x).relu()).relu()) * factors.output

    x, y = torch.randn(64, 8), torch.randint(4, (64,))
    adam = torch.optim.Adam(
        [{"params": [*first.parameters(), *out.parameters()]},
         {"params": hidden.parameters(), "lr": 1e-3 * factors.hidden_rate}],
        lr=1e-3,
    )  # fmt: skip
    before = forward(x).detach()
    for _ in range(steps):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(forward(x), y).backward()
        adam.step()
    return (forward(x).detach() - before).abs().mean().item()


@pytest.mark.equation("scaling-laws-mup")
def test_a_step_moves_the_output_equally_at_every_width():
    """The coordinate check: in the standard form the change grows with the width."""
    standard = [change_of_output(width, scaled=False) for width in (32, 256, 2048)]
    scaled = [change_of_output(width, scaled=True) for width in (32, 256, 2048)]
    assert standard[2] > 8 * standard[0]
    assert 0.3 < scaled[2] / scaled[0] < 2


@pytest.mark.equation("scaling-laws-embedding")
def test_embeddings_as_a_power_of_the_other_weights():
    """With d = ρ L the table of tokens grows with the cube root of the rest."""
    vocab, ratio = 32_000, 64
    for width in (512, 2048, 8192):
        depth = width // ratio
        rest = 12 * depth * width**2
        assert vocab * (ratio / 12) ** (1 / 3) * rest ** (1 / 3) == pytest.approx(vocab * width)
        whole = gpt_parameters(vocab, width, depth, 1)
        assert whole == pytest.approx(rest + vocab * width, rel=0.01)


# ---------------------------------------------------------------------------------------- bad input
X = torch.tensor([1.0, 2.0, 4.0, 8.0])
N3 = torch.tensor([1e6, 1e7, 1e8]).repeat(2)
BAD = {
    "one point": (lambda: fit_power_law(X[:1], X[:1]), "fewer than 2"),
    "two points and a floor": (lambda: fit_power_law(X[:2], X[:2], floor=True), "fewer than 3"),
    "one size": (lambda: fit_power_law(torch.ones(4), X), "2 different"),
    "zero": (lambda: fit_power_law(torch.zeros(4), X), "x must be > 0"),
    "negative loss": (lambda: fit_power_law(X, -X), "y must be > 0"),
    "NaN": (lambda: fit_power_law(X, X * math.nan), "y must be finite"),
    "lengths": (lambda: fit_power_law(X, X[:3]), "y must have shape"),
    "whole numbers": (lambda: fit_power_law(X.long(), X), "x must be floating"),
    "four runs": (lambda: fit_parametric(X, X, X), "fewer than 5"),
    "two datasets": (
        lambda: fit_parametric(N3, torch.tensor([1e8] * 3 + [1e9] * 3), torch.rand(6) + 1),
        "tokens must take 3",
    ),
    "delta": (lambda: fit_parametric(N3, N3, N3, delta=0), "delta=0"),
    "resamples": (lambda: resample_parametric(N3, N3.flip(0), N3, resamples=0), "resamples=0"),
    "two models": (lambda: isoflop_minimum(X[:2], X[:2]), "fewer than 3"),
    "no valley": (lambda: isoflop_minimum(X, 9 - X.log() ** 2), "curve upwards"),
    "no compute": (lambda: compute_optimal(0.0), "compute=0.0"),
    "negative compute": (lambda: compute_optimal(torch.tensor([-1.0])), "compute must be > 0"),
    "law": (lambda: compute_optimal(1e20, "chinchilla"), "law must be a ParametricLaw"),
    "exponent": (lambda: ParametricLaw(1, 1, 1, 0, 1), "alpha=0"),
    "coefficient": (lambda: PowerLaw(0, 1), "coefficient=0"),
    "below the floor": (lambda: serving_optimum(1.0, 0), "loss=1.0"),
    "unique": (lambda: effective_tokens(0.0, 1.0), "unique=0.0"),
    "worth": (lambda: effective_tokens(1.0, 1.0, worth=0), "worth=0"),
    "break": (lambda: broken_power_law(1.0, PowerLaw(1, 1), [(0, 1, 1)]), "breaks"),
    "k": (lambda: pass_at_k(3, 1, 4), "k=4"),
    "correct": (lambda: pass_at_k(3, 4, 1), "correct=4"),
    "width": (lambda: mup(0, 32), "width=0"),
    "vocabulary": (lambda: training_flops(0, 8, 1, 8), "vocab_size=0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_by_name(name):
    call, message = BAD[name]
    with refuses((TypeError, ValueError), message):
        call()


def test_losses_that_rise_with_data_are_no_scaling_law():
    n, d = N3.double(), torch.tensor([1e8, 2e8, 4e8, 3e8, 5e8, 9e8], dtype=torch.float64)
    with refuses(ValueError, "must fall"):
        fit_parametric(n, d, (d / 1e8) ** 0.5 * (n / 1e6) ** 0.1)
