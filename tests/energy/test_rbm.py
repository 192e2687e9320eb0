"""What is particular to rbm, held to lists of all states, grids, autograd and scikit-learn."""

import copy
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nnlib.data.binary import all_states, bars_and_stripes
from nnlib.energy._binary import drawn, frequencies, total_variation
from nnlib.energy._rbm_learning import Recipe, fit, fit_by_steps
from nnlib.energy.rbm import RBM, DeepBeliefNetwork, GaussianRBM
from tests.support import Example, refuses

DOUBLE = torch.float64
TIGHT = {"rtol": 1e-11, "atol": 1e-11}


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"visible": 4, "hidden": 3}, (drawn(torch.full((5, 4), 0.5)),))


def machine(visible=5, hidden=4, scale=0.8, kind=RBM, **named):
    torch.manual_seed(0)
    made = kind(visible, hidden, dtype=DOUBLE, **named)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, scale)
    return made


def states(n):
    return all_states(n).to(DOUBLE)


def joint(rbm):
    """The exact probabilities of all pairs, visible states down, hidden ones across; and log Z."""
    with torch.no_grad():
        v, h = states(rbm.visible), states(rbm.hidden)
        energies = [[_energy(rbm, a, b) for b in h] for a in v]
    minus = -torch.tensor(energies, dtype=DOUBLE)
    log_z = minus.logsumexp((0, 1))
    return (minus - log_z).exp(), log_z.item()


def _energy(rbm, v, h):
    """The energy as three nested sums, with no product of matrices."""
    w, b, c = (parameter.detach() for parameter in rbm.parameters())
    total = sum(v[i] * w[i, j] * h[j] for i in range(len(v)) for j in range(len(h)))
    return -float(total + sum(b[i] * v[i] for i in range(len(v))) + sum(c * h))


# ------------------------------------------------------------------------------- exact, by listing
@pytest.mark.equation("rbm-energy")
def test_the_energy_is_three_sums():
    rbm = machine()
    v, h = states(5)[::3], states(4)[:11]
    wanted = [_energy(rbm, a, b) for a, b in zip(v, h, strict=True)]
    torch.testing.assert_close(rbm.energy(v, h), torch.tensor(wanted, dtype=DOUBLE), **TIGHT)


@pytest.mark.equation("rbm-probability")
@pytest.mark.parametrize(("visible", "hidden"), [(5, 4), (3, 6)])
def test_the_exact_partition_function_is_the_sum_over_all_pairs(visible, hidden):
    rbm = machine(visible, hidden)
    _, log_z = joint(rbm)
    found = rbm.log_partition("exact")
    assert found.value == pytest.approx(log_z, abs=1e-10)
    assert found.low == found.high == found.value


@pytest.mark.equation("rbm-free-energy")
@pytest.mark.equation("rbm-likelihood")
def test_the_free_energy_sums_the_hidden_units_out():
    rbm = machine()
    p, log_z = joint(rbm)
    torch.testing.assert_close(rbm.log_prob(states(5), log_z).exp(), p.sum(1), **TIGHT)
    torch.testing.assert_close(rbm(states(5)), -(p.sum(1).log() + log_z), **TIGHT)


@pytest.mark.equation("rbm-product")
def test_the_probability_is_a_product_of_experts():
    rbm = machine()
    p, log_z = joint(rbm)
    product = (states(5) @ rbm.visible_bias).exp()
    for j in range(4):
        product = product * (1 + (states(5) @ rbm.weight[:, j] + rbm.hidden_bias[j]).exp())
    torch.testing.assert_close(product / math.exp(log_z), p.sum(1), **TIGHT)


@pytest.mark.equation("rbm-hidden")
@pytest.mark.equation("rbm-visible")
def test_each_layer_given_the_other_is_what_the_list_says():
    rbm = machine()
    p, _ = joint(rbm)
    by_list = (p / p.sum(1, keepdim=True)) @ states(4)
    torch.testing.assert_close(rbm.hidden_probs(states(5)), by_list, **TIGHT)
    by_list = (p / p.sum(0)).T @ states(5)
    torch.testing.assert_close(rbm.visible_probs(states(4)), by_list, **TIGHT)


def test_units_of_a_layer_are_independent_given_the_other():
    rbm = machine()
    p, _ = joint(rbm)
    given = p / p.sum(1, keepdim=True)  # of whole hidden states
    q = rbm.hidden_probs(states(5))[:, None]
    product = torch.where(states(4) > 0, q, 1 - q).prod(2)
    torch.testing.assert_close(product, given, **TIGHT)


def test_a_thousand_does_not_overflow():
    rbm = RBM(2, 1)
    with torch.no_grad():
        rbm.weight.fill_(1000.0)
    v = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(rbm(v), torch.tensor([-1000.0, -math.log(2)]))


@pytest.mark.equation("rbm-pseudo")
def test_the_pseudo_likelihood_is_each_pixel_given_the_others():
    rbm = machine()
    p = joint(rbm)[0].sum(1).reshape([2] * 5)
    for v in states(5)[::7]:
        at = tuple(int(bit) for bit in v)
        wanted = 0.0
        for i in range(5):
            flipped = (*at[:i], 1 - at[i], *at[i + 1 :])
            wanted += math.log(p[at] / (p[at] + p[flipped]))
        assert rbm.pseudo_log_likelihood(v[None]).item() == pytest.approx(wanted, abs=1e-10)


@pytest.mark.equation("rbm-classify")
def test_a_label_among_the_visible_units_is_read_off_free_energies():
    """The last two units are a label of two classes; the list of all states says how likely."""
    rbm = machine(5, 4)
    p = joint(rbm)[0].sum(1).reshape(8, 4)  # pixels, then the label's two bits
    one_hot = p[:, [2, 1]]  # labels 10 and 01
    wanted = one_hot / one_hot.sum(1, keepdim=True)
    labels = torch.eye(2, dtype=DOUBLE)
    candidates = torch.stack([torch.cat([states(3), y.expand(8, 2)], 1) for y in labels], 1)
    free = rbm(candidates.flatten(0, 1)).reshape(8, 2)
    torch.testing.assert_close((-free).softmax(1), wanted, **TIGHT)


# ------------------------------------------------------------------------------------- the gradient
@pytest.mark.equation("rbm-gradient")
def test_the_gradient_is_a_difference_of_statistics():
    rbm = machine()
    data = states(5)[[3, 9, 9, 21, 30]]
    log_likelihood = -rbm(data).mean() - (-rbm(states(5))).logsumexp(0)
    log_likelihood.backward()
    p, _ = joint(rbm)
    q = rbm.hidden_probs(data)
    weight = data.T @ q / len(data) - states(5).T @ p @ states(4)
    torch.testing.assert_close(rbm.weight.grad, weight, **TIGHT)
    bias = data.mean(0) - p.sum(1) @ states(5)
    torch.testing.assert_close(rbm.visible_bias.grad, bias, **TIGHT)
    torch.testing.assert_close(rbm.hidden_bias.grad, q.mean(0) - p.sum(0) @ states(4), **TIGHT)


@pytest.mark.equation("rbm-cd")
@pytest.mark.parametrize("kind", [RBM, GaussianRBM])
@pytest.mark.parametrize("k", [1, 3])
def test_a_step_of_contrastive_divergence_is_the_gradient_of_two_free_energies(kind, k):
    """Autograd differentiates F(data) − F(particles), the particles held still."""
    named = {"scale": 1.3} if kind is GaussianRBM else {}
    rbm = machine(kind=kind, **{})
    if named:
        rbm.scale = named["scale"]
    data = drawn(torch.full((6, 5), 0.5, dtype=DOUBLE))
    rbm.cd_step(data, k=k, generator=torch.Generator().manual_seed(3))
    found = [parameter.grad for parameter in rbm.parameters()]
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        h = drawn(rbm.hidden_probs(data), generator)
        for _ in range(k):
            particles = rbm.draw_visible(rbm.visible_drive(h), generator)
            h = drawn(rbm.hidden_probs(particles), generator)
    wanted = torch.autograd.grad(rbm(data).mean() - rbm(particles).mean(), list(rbm.parameters()))
    for mine, by_autograd in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, by_autograd, **TIGHT)


def test_chains_of_the_model_itself_give_the_gradient_on_average():
    rbm = machine(4, 3)
    p, _ = joint(rbm)
    generator = torch.Generator().manual_seed(0)
    pairs = torch.multinomial(p.flatten(), 200_000, replacement=True, generator=generator)
    chains = states(3)[pairs % 8]
    data = states(4)[[1, 5, 12]]
    rbm.cd_step(data, chains=chains, generator=generator)
    wanted = states(4).T @ p @ states(3) - data.T @ rbm.hidden_probs(data) / 3
    torch.testing.assert_close(rbm.weight.grad, wanted, rtol=0, atol=5 * 0.5 / 200_000**0.5)


def test_an_optimizer_takes_the_step():
    rbm = machine()
    before = rbm.weight.detach().clone()
    optimizer = torch.optim.SGD(rbm.parameters(), lr=0.5)
    rbm.cd_step(states(5), optimizer)
    torch.testing.assert_close(rbm.weight, before - 0.5 * rbm.weight.grad, **TIGHT)


RECIPES = {
    "persistent": {},
    "plain": {"persistent": False},
    "three steps, momentum, decay": {"k": 3, "momentum": 0.5, "weight_decay": 0.01},
    "plain, two steps, constant rate": {"persistent": False, "k": 2, "anneal": False},
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
def test_the_fast_fit_is_the_readable_one(recipe):
    data = drawn(torch.full((50, 7), 0.4, dtype=DOUBLE), torch.Generator().manual_seed(1))
    recipe = Recipe(steps=40, batch_size=16, lr=0.2, **recipe)
    fast, slow = machine(7, 5), machine(7, 5)
    chains = fit(fast, data, recipe)
    assert torch.equal(chains, fit_by_steps(slow, data, recipe))
    if recipe.persistent:  # and again, from where the chains stand
        assert torch.equal(
            fit(fast, data, recipe, chains), fit_by_steps(slow, data, recipe, chains)
        )
    for mine, twin in zip(fast.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(mine, twin, rtol=1e-12, atol=1e-12)


def test_bars_and_stripes_are_learned():
    """Independent pixels give −9 log 2 = −6.24; the truth is −log 14 = −2.64."""
    bars = bars_and_stripes(3).states
    torch.manual_seed(0)
    rbm = RBM(9, 12)
    rbm.fit(bars.repeat(6, 1), steps=3000, batch_size=84, lr=0.3)
    assert rbm.log_prob(bars, rbm.log_partition("exact")).mean() > -3.6


# ----------------------------------------------------------------------------------------- sampling
def test_one_step_of_gibbs_sampling_has_the_exact_kernel():
    rbm = machine(3, 2)
    p, _ = joint(rbm)
    kernel = (p / p.sum(1, keepdim=True)) @ (p / p.sum(0)).T
    start = states(3)[5].expand(40_000, 3)
    found = frequencies(rbm.gibbs(start, 1, torch.Generator().manual_seed(0)))
    assert total_variation(found, kernel[5]) < 0.015  # 0.5 · Σ √(p / n) is about 0.005
    p_v = p.sum(1)
    torch.testing.assert_close(p_v @ kernel, p_v, **TIGHT)


def test_no_steps_leave_the_chains_where_they_are():
    v = states(5)
    assert torch.equal(machine().gibbs(v, steps=0), v)


def test_completion_is_the_conditional_mean():
    rbm = machine(5, 4)
    p = joint(rbm)[0].sum(1).reshape(4, 8)  # two known bits, three unknown ones
    known = torch.tensor([True, True, False, False, False])
    v = torch.tensor([[1.0, 0.0, 9.0, 9.0, 9.0]], dtype=DOUBLE)
    given = p[2] / p[2].sum()
    found = rbm.complete(v.expand(200, 5), known, steps=400, generator=torch.Generator())
    assert torch.equal(found[:, :2], v[:, :2].expand(200, 2))
    torch.testing.assert_close(found[:, 2:].mean(0), given @ states(3), rtol=0, atol=0.01)


# ----------------------------------------------- the partition function by annealing
@pytest.mark.equation("rbm-ais")
@pytest.mark.parametrize("kind", [RBM, GaussianRBM])
@pytest.mark.parametrize("method", ["ais", "reverse"])
def test_annealing_agrees_with_the_list_within_its_error_bar(kind, method):
    rbm = machine(8, 6, kind=kind)
    exact = rbm.log_partition("exact").value
    generator = torch.Generator().manual_seed(0)
    named = {"steps": 200, "generator": generator, "base": torch.full((8,), 0.3, dtype=DOUBLE)}
    if method == "reverse":
        hidden = states(6)
        weights = (rbm.log_sum_over_visible(hidden) - exact).exp()
        h = hidden[torch.multinomial(weights, 1000, replacement=True, generator=generator)]
        named["samples"] = rbm.draw_visible(rbm.visible_drive(h), generator).detach()
    else:
        named["chains"] = 1000
    found = rbm.log_partition(method, **named)
    assert found.low < exact < found.high
    assert found.high - found.low < 0.2
    assert 700 < found.effective <= 1000


def test_few_steps_give_bounds_from_both_sides():
    """By Jensen's inequality single walks are too low forwards and too high backwards."""
    rbm = machine(8, 6, scale=1.5)
    exact = rbm.log_partition("exact").value
    generator = torch.Generator().manual_seed(0)
    p = rbm.log_prob(states(8), exact).exp()
    samples = states(8)[torch.multinomial(p, 400, replacement=True, generator=generator)]
    forth, back = [], []
    for at in range(0, 400, 2):  # two walks each
        named = {"steps": 10, "generator": generator}
        forth.append(rbm.log_partition("ais", chains=2, **named).value - exact)
        back.append(
            rbm.log_partition("reverse", samples=samples[at : at + 2], **named).value - exact
        )
    for side, sign in ((forth, -1), (back, 1)):
        side = torch.tensor(side) * sign
        assert side.mean() > 4 * side.std() / len(side) ** 0.5
    weights = torch.tensor(forth).exp()  # but Z itself is not biased
    assert abs(weights.mean() - 1) < 4 * weights.std() / len(weights) ** 0.5


def test_independent_units_need_no_walk():
    rbm = machine()
    with torch.no_grad():
        rbm.weight.zero_()
    exact = F.softplus(rbm.visible_bias).sum() + F.softplus(rbm.hidden_bias).sum()
    assert rbm.log_partition("exact").value == pytest.approx(exact.item())
    found = rbm.log_partition("ais", chains=4, steps=2, base=rbm.visible_bias.detach().sigmoid())
    assert found.value == pytest.approx(exact.item(), abs=0.02)  # the base stays within .01 … .99


# ------------------------------------------------------------------- real-numbered units
def mixture(rbm):
    """The weights and the means of the 2ʰ Gaussians."""
    h = states(rbm.hidden)
    means = rbm.visible_bias + h @ rbm.weight.T
    logs = h @ rbm.hidden_bias + means.square().sum(1) / (2 * rbm.scale**2)
    return logs.softmax(0), means


@pytest.mark.equation("rbm-gaussian")
def test_the_gaussian_machine_is_a_mixture_of_gaussians():
    rbm = machine(2, 3, kind=GaussianRBM)
    rbm.scale = 0.7
    weights, means = mixture(rbm)
    v = torch.randn(20, 2, dtype=DOUBLE) * 2
    parts = torch.distributions.Normal(means, 0.7).log_prob(v[:, None]).sum(2)
    wanted = (parts + weights.log()).logsumexp(1)
    found = rbm.log_prob(v, rbm.log_partition("exact"))
    torch.testing.assert_close(found, wanted, **TIGHT)


def test_the_gaussian_density_integrates_to_one():
    rbm = machine(1, 3, kind=GaussianRBM)
    v = torch.linspace(-15, 15, 20_001, dtype=DOUBLE)[:, None]
    density = rbm.log_prob(v, rbm.log_partition("exact")).exp()
    assert torch.trapezoid(density, v[:, 0]).item() == pytest.approx(1, abs=1e-9)


def test_the_gaussian_energy_leaves_its_free_energy():
    rbm = machine(2, 3, kind=GaussianRBM)
    v = torch.randn(6, 2, dtype=DOUBLE)
    energies = torch.stack([rbm.energy(v, h.expand(6, 3)) for h in states(3)])
    torch.testing.assert_close(rbm(v), -(-energies).logsumexp(0), **TIGHT)


def test_gaussian_units_given_the_hidden_ones():
    rbm = machine(2, 3, kind=GaussianRBM)
    rbm.scale = 0.7
    h = states(3)[5].expand(50_000, 3)
    v = rbm.draw_visible(rbm.visible_drive(h), torch.Generator().manual_seed(0))
    torch.testing.assert_close(v.mean(0), rbm.visible_probs(h)[0], rtol=0, atol=0.02)
    torch.testing.assert_close(v.std(0), torch.full((2,), 0.7, dtype=DOUBLE), rtol=0, atol=0.02)
    normal = torch.distributions.Normal(rbm.visible_probs(h[:9]), 0.7)
    torch.testing.assert_close(rbm.visible_log_prob(v[:9], h[:9]), normal.log_prob(v[:9]).sum(1))


def test_a_gaussian_machine_learns_a_mean():
    torch.manual_seed(0)
    rbm = GaussianRBM(2, 2)
    data = torch.randn(400, 2) + torch.tensor([2.0, -1.0])
    before = rbm.log_prob(data, rbm.log_partition("exact")).mean()
    rbm.fit(data, steps=400, lr=0.05)
    after = rbm.log_prob(data, rbm.log_partition("exact")).mean()
    assert before < -4.5
    assert after > -3.0  # −2.84 is the entropy of the truth


# --------------------------------------------------------------------------------------- the stack
def stack():
    lower, upper = machine(4, 3), machine(3, 5, scale=0.6)
    return DeepBeliefNetwork([lower, upper])


def exact_stack(network):
    """The exact log-probability of each visible state, by listing the layer between."""
    lower, upper = network.stacked
    h = states(3)
    prior = upper.log_prob(h, upper.log_partition("exact"))
    p = lower.visible_probs(h)[None]
    v = states(4)[:, None]
    given = torch.where(v > 0, p, 1 - p).log().sum(2)
    return (given + prior).logsumexp(1)


@pytest.mark.equation("rbm-stack-bound")
def test_the_bound_lies_below_the_likelihood_by_the_divergence():
    network = stack()
    lower, upper = network.stacked
    exact, log_z = exact_stack(network), upper.log_partition("exact")
    generator = torch.Generator().manual_seed(0)
    bounds = torch.stack([network.bound(states(4), log_z, generator) for _ in range(800)])
    q = lower.hidden_probs(states(4))[:, None]
    each = torch.where(states(3) > 0, q, 1 - q).log().sum(2)
    p = lower.visible_probs(states(3))[None]
    given = torch.where(states(4)[:, None] > 0, p, 1 - p).log().sum(2)
    posterior = (given + upper.log_prob(states(3), log_z)).log_softmax(1)
    divergence = (each.exp() * (each - posterior)).sum(1)
    error = bounds.std(0) / 800**0.5
    assert ((bounds.mean(0) - (exact - divergence)).abs() < 4.5 * error).all()
    assert (divergence > 0).all()


def test_a_mirrored_machine_on_top_leaves_the_likelihood_as_it_is():
    lower = machine(4, 3)
    upper = machine(3, 4)
    with torch.no_grad():
        upper.weight.copy_(lower.weight.T)
        upper.visible_bias.copy_(lower.hidden_bias)
        upper.hidden_bias.copy_(lower.visible_bias)
    network = DeepBeliefNetwork([lower, upper])
    wanted = lower.log_prob(states(4), lower.log_partition("exact"))
    torch.testing.assert_close(exact_stack(network), wanted, **TIGHT)
    generator = torch.Generator().manual_seed(0)
    log_z = upper.log_partition("exact")
    bounds = torch.stack([network.bound(states(4), log_z, generator) for _ in range(800)])
    assert ((bounds.mean(0) - wanted).abs() < 4.5 * bounds.std(0) / 800**0.5).all()


def test_what_the_stack_draws_has_its_probabilities():
    network = stack()
    p = network.sample(40_000, steps=30, generator=torch.Generator().manual_seed(0))
    found = frequencies(drawn(p, torch.Generator().manual_seed(1)))
    assert total_variation(found, exact_stack(network).exp()) < 0.02


def test_a_stack_is_fitted_from_below():
    torch.manual_seed(0)
    data = drawn(torch.full((60, 6), 0.3))
    network = DeepBeliefNetwork([RBM(6, 4), RBM(4, 3)])
    before = [rbm.weight.detach().clone() for rbm in network.stacked]
    network.fit(data, steps=50)
    alone = RBM(6, 4)
    with torch.no_grad():
        alone.weight.copy_(before[0])
    alone.fit(data, steps=50)
    assert torch.equal(network.stacked[0].weight, alone.weight)
    assert not torch.equal(network.stacked[1].weight, before[1])
    assert network(data).shape == (60, 3)


# ------------------------------------------------------------------------------------ scikit-learn
@pytest.fixture(scope="module")
def theirs():
    from sklearn.neural_network import BernoulliRBM

    data = drawn(torch.full((40, 6), 0.4), torch.Generator().manual_seed(0)).numpy()
    return BernoulliRBM(n_components=4, n_iter=3, random_state=0).fit(data), data


def test_weights_come_from_scikit_learn_and_go_back(theirs):
    model, data = theirs
    rbm = RBM.from_scikit_learn(model)
    x = torch.from_numpy(data)
    features = torch.from_numpy(model.transform(data))
    torch.testing.assert_close(rbm.hidden_probs(x), features, rtol=1e-5, atol=1e-6)
    free = torch.from_numpy(model._free_energy(data))
    torch.testing.assert_close(rbm(x), free, rtol=1e-5, atol=1e-5)
    back = rbm.to_scikit_learn()
    assert (back.transform(data) == model.transform(data)).all()
    assert back.gibbs(data).shape == data.shape


def test_scikit_learns_score_is_our_pseudo_likelihood_on_average(theirs):
    """Theirs flips one pixel, drawn at random, and multiplies by their number."""
    model, data = theirs
    mine = RBM.from_scikit_learn(model).pseudo_log_likelihood(torch.from_numpy(data))
    model = copy.copy(model).set_params(random_state=np.random.RandomState(0))
    scores = torch.stack([torch.from_numpy(model.score_samples(data)) for _ in range(500)])
    error = scores.double().std(0) / len(scores) ** 0.5
    assert ((scores.double().mean(0) - mine.detach()).abs() < 4.5 * error).all()


def test_it_learns_as_much_as_scikit_learns_in_as_many_updates():
    """The same rule, rate, batches and updates; in exact log-likelihood, over five seeds."""
    from sklearn.neural_network import BernoulliRBM

    bars = bars_and_stripes(3).states.repeat(10, 1)
    mine, peers = [], []
    for seed in range(5):
        bars = bars[torch.randperm(140, generator=torch.Generator().manual_seed(seed))]
        named = {"learning_rate": 0.1, "batch_size": 20, "n_iter": 250, "random_state": seed}
        peer = RBM.from_scikit_learn(BernoulliRBM(12, **named).fit(bars.numpy()))
        torch.manual_seed(seed)
        rbm = RBM(9, 12)
        rbm.fit(bars, steps=250 * 7, batch_size=20, lr=0.1, anneal=False, seed=seed)
        for learned, into in ((rbm, mine), (peer, peers)):
            exact = learned.log_partition("exact")
            into.append(learned.log_prob(bars.to(learned.weight.dtype), exact).mean().item())
    mine, peers = torch.tensor(mine), torch.tensor(peers)
    spread = (mine.var() / 5 + peers.var() / 5).sqrt()
    assert mine.mean() > peers.mean() - 3 * spread
    assert mine.mean() > -5.7  # independent pixels have −6.24


# ----------------------------------------------------------------------------------------- refusals
def test_bad_arguments_are_named():
    rbm = RBM(4, 3)
    v = torch.zeros(2, 4)
    with refuses(ValueError, "visible=0 must be an integer ≥ 1"):
        RBM(0, 3)
    with refuses(ValueError, "v must have shape (n, 4), got (2, 5)"):
        rbm.free_energy(torch.zeros(2, 5))
    with refuses(ValueError, "h must have shape (2, 3)"):
        rbm.energy(v, torch.zeros(2, 4))
    with refuses(ValueError, "steps=-1"):
        rbm.gibbs(v, steps=-1)
    with refuses(ValueError, "chains must have shape (n, 3), got (2, 4)"):
        rbm.cd_step(v, chains=v)
    with refuses(ValueError, "k=0"):
        rbm.cd_step(v, k=0)
    with refuses(ValueError, "method='guess' must be one of"):
        rbm.log_partition("guess")
    with refuses(ValueError, "samples=None"):
        rbm.log_partition("reverse")
    with refuses(ValueError, "base must have shape (4), got (3,)"):
        rbm.log_partition(base=torch.zeros(3))
    with refuses(TypeError, "known must hold True at known units"):
        rbm.complete(v, v)
    with refuses(ValueError, "known must have shape (2, 4) or (4,)"):
        rbm.complete(v, torch.ones(3, dtype=torch.bool))
    with refuses(ValueError, "momentum=1"):
        rbm.fit(v, momentum=1)
    with refuses(ValueError, "chains must have shape (2, 3)"):
        rbm.fit(v, chains=v)
    with refuses(ValueError, "persistent=False they begin at the batch"):
        rbm.fit(v, chains=torch.zeros(2, 3), persistent=False)
    with refuses(ValueError, "scale=0"):
        GaussianRBM(4, 3, scale=0)
    with refuses(NotImplementedError, "pseudo_log_likelihood is of bits"):
        GaussianRBM(4, 3).pseudo_log_likelihood(v)


def test_too_many_states_are_counted_and_refused():
    with refuses(ValueError, f"2^21 = {2**21} states"):
        RBM(30, 21).log_partition("exact")
    assert RBM(30, 2).log_partition("exact").value > 0  # the smaller layer decides
    with refuses(ValueError, "2^30"):
        GaussianRBM(2, 30).log_partition("exact")  # real numbers cannot be listed


def test_machines_that_do_not_fit_are_not_stacked():
    with refuses(ValueError, "machines[1] must be an RBM of visible=3"):
        DeepBeliefNetwork([RBM(4, 3), RBM(4, 3)])
    with refuses(ValueError, "machines[1]"):
        DeepBeliefNetwork([RBM(4, 3), GaussianRBM(3, 2)])
    with refuses(TypeError, "machines must be one RBM or more"):
        DeepBeliefNetwork([])


def test_an_unfitted_model_is_refused():
    from sklearn.neural_network import BernoulliRBM

    with refuses(ValueError, "must be a fitted BernoulliRBM"):
        RBM.from_scikit_learn(BernoulliRBM())


def test_a_gaussian_machine_can_stand_below():
    network = DeepBeliefNetwork([GaussianRBM(4, 3), RBM(3, 2)])
    assert network.sample(3, steps=2).shape == (3, 4)
    log_z = network.stacked[1].log_partition("exact")
    assert torch.isfinite(network.bound(torch.randn(5, 4), log_z)).all()


def test_contrastive_divergence_is_no_gradient():
    """A gradient's Jacobian is symmetric; that of the expected CD-1 step is not."""
    rbm = machine(3, 2, scale=1.0)
    v, h = states(3), states(2)
    data = torch.tensor([0.5, 0, 0, 0.1, 0, 0.3, 0.1, 0], dtype=DOUBLE)
    flat = torch.cat([p.detach().flatten() for p in rbm.parameters()])

    def step(theta, exact):
        w, b, c = theta[:6].reshape(3, 2), theta[6:9], theta[9:]
        q = (v @ w + c).sigmoid()
        if exact:
            p = (v @ b + F.softplus(v @ w + c).sum(1)).softmax(0)
        else:
            hidden = torch.where(h > 0, q[:, None], 1 - q[:, None]).prod(2)
            r = (h @ w.T + b).sigmoid()
            visible = torch.where(v[None] > 0, r[:, None], 1 - r[:, None]).prod(2)
            p = data @ hidden @ visible
        change = data - p
        return torch.cat([(v.T @ (change[:, None] * q)).flatten(), v.T @ change, q.T @ change])

    for exact, symmetric in ((True, True), (False, False)):
        jacobian = torch.autograd.functional.jacobian(lambda t, e=exact: step(t, e), flat)
        skew = (jacobian - jacobian.T).norm() / jacobian.norm()
        assert (skew < 1e-12) == symmetric
        assert symmetric or skew > 1e-3
