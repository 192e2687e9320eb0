"""Boltzmann machines, held to loops over all states, automatic differentiation and scikit-learn."""

import itertools
import math

import networkx
import pytest
import torch
from sklearn.neural_network import BernoulliRBM

from nnlib.data.binary import all_states, bars_and_stripes, ising, lattice, parity
from nnlib.energy import _binary
from nnlib.energy.boltzmann import (
    BoltzmannMachine,
    anneal,
    cut_size,
    max_cut,
    mean_field,
    relaxation,
    statistics_of,
    update_matrix,
)
from tests.support import Example, refuses


def example():
    visible = torch.ones(2, 5)
    visible[1, 3] = 0
    return Example({"visible": 5}, (visible,))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def drawn_machine(visible=3, hidden=2, seed=0, scale=1.0):
    g = dice(seed)
    n = visible + hidden
    weight = scale * torch.randn(n, n, generator=g, dtype=torch.float64).triu(1)
    bias = scale * torch.randn(n, generator=g, dtype=torch.float64)
    return BoltzmannMachine.from_weights(weight + weight.T, bias, hidden)


@pytest.fixture(scope="module")
def machine():
    return drawn_machine()


def by_loops(machine, temperature=1.0):
    """Every state as a tuple, with its probability."""
    weight, bias = machine.weight.tolist(), machine.bias.tolist()
    n = machine.units
    powers = {}
    for s in itertools.product((0, 1), repeat=n):
        pulled = sum(weight[i][j] * s[i] * s[j] for i in range(n) for j in range(i))
        pulled += sum(bias[i] * s[i] for i in range(n))
        powers[s] = math.exp(pulled / temperature)
    total = sum(powers.values())
    return {s: power / total for s, power in powers.items()}, total


# ------------------------------------------------------------------------------ energies and laws
@pytest.mark.equation("boltzmann-energy")
def test_energy_is_the_sum_over_pairs_and_units(machine):
    for state in all_states(5).double():
        s, weight = state.tolist(), machine.weight
        wanted = -sum(weight[i, j].item() * s[i] * s[j] for i in range(5) for j in range(i))
        wanted -= sum(machine.bias[i].item() * s[i] for i in range(5))
        assert machine.energy(state[None]).item() == pytest.approx(wanted, abs=1e-12)


@pytest.mark.equation("boltzmann-blocks")
def test_energy_in_blocks_of_visible_and_hidden_units(machine):
    states = all_states(5).double()
    v, h = states[:, :3], states[:, 3:]
    whole, b, c = machine.weight, machine.bias[:3], machine.bias[3:]
    inside, between, among = whole[:3, :3], whole[:3, 3:], whole[3:, 3:]
    wanted = -torch.einsum("sv,vh,sh->s", v, between, h) - v @ b - h @ c
    wanted -= 0.5 * torch.einsum("sv,vw,sw->s", v, inside, v)
    wanted -= 0.5 * torch.einsum("sh,hg,sg->s", h, among, h)
    torch.testing.assert_close(machine.energy(states), wanted)


@pytest.mark.equation("boltzmann-distribution", "boltzmann-partition")
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_probabilities_are_normalised_powers(machine, temperature):
    wanted, total = by_loops(machine, temperature)
    got = machine.joint_probabilities(temperature)
    torch.testing.assert_close(got, torch.tensor(list(wanted.values()), dtype=torch.float64))
    assert machine.log_partition(temperature).item() == pytest.approx(math.log(total))
    seen = torch.zeros(8, dtype=torch.float64)
    for s, p in wanted.items():
        seen[4 * s[0] + 2 * s[1] + s[2]] += p
    torch.testing.assert_close(machine.probabilities(temperature), seen)


@pytest.mark.equation("boltzmann-ratio")
def test_the_ratio_of_two_probabilities_needs_no_sum(machine):
    p, states = machine.joint_probabilities(0.7), all_states(5).double()
    energies = machine.energy(states)
    torch.testing.assert_close(p[3] / p[20], ((energies[20] - energies[3]) / 0.7).exp())


@pytest.mark.equation("boltzmann-gap", "boltzmann-conditional")
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_unit_is_on_as_the_two_energies_say(machine, temperature):
    p, _ = by_loops(machine, temperature)
    for s in itertools.product((0, 1), repeat=5):
        state = torch.tensor([s], dtype=torch.float64)
        got = machine.conditional(state, temperature)[0]
        for i in range(5):
            on, off = ((*s[:i], value, *s[i + 1 :]) for value in (1, 0))
            assert got[i].item() == pytest.approx(p[on] / (p[on] + p[off]))
            low, high = (machine.energy(torch.tensor([x], dtype=torch.float64)) for x in (on, off))
            field = machine.weight[i] @ state[0] + machine.bias[i]
            torch.testing.assert_close(high[0] - low[0], field)


def test_without_symmetry_or_with_a_diagonal_the_conditional_is_another():
    """What `from_weights` refuses: a formula of couplings that no energy belongs to."""
    for weight in ([[0.0, 2.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]):
        weight = torch.tensor(weight)
        on, off = torch.tensor([1.0, 1.0]), torch.tensor([0.0, 1.0])
        gap = 0.5 * (on @ weight @ on - off @ weight @ off)
        assert abs(gap.sigmoid() - (weight[0] @ on).sigmoid()) > 0.1
        with refuses(ValueError, "weight must"):
            BoltzmannMachine.from_weights(weight)


@pytest.mark.equation("boltzmann-free-energy")
@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_free_energy_is_that_of_all_hidden_states_together(machine, temperature):
    for v in all_states(3).double():
        powers = 0.0
        for h in all_states(2).double():
            powers += (-machine.energy(torch.cat([v, h])[None]) / temperature).exp().item()
        got = machine.free_energy(v[None], temperature).item()
        assert got == pytest.approx(-temperature * math.log(powers))
    every = -machine.free_energy(all_states(3).double(), temperature) / temperature
    p = (every - machine.log_partition(temperature)).exp()
    torch.testing.assert_close(p, machine.probabilities(temperature))


def test_with_two_layers_it_is_scikit_learns_restricted_machine():
    two = torch.zeros(5, 5, dtype=torch.bool)
    two[:3, 3:] = two[3:, :3] = True
    torch.manual_seed(0)
    machine = BoltzmannMachine(3, 2, connections=two, dtype=torch.float64)
    with torch.no_grad():
        machine.couplings.normal_()
        machine.bias.normal_()
    peer = BernoulliRBM(2)
    peer.components_ = machine.weight[3:, :3].detach().numpy()
    peer.intercept_visible_ = machine.bias[:3].detach().numpy()
    peer.intercept_hidden_ = machine.bias[3:].detach().numpy()
    v = all_states(3).double()
    wanted = torch.as_tensor(peer._free_energy(v.numpy()))
    torch.testing.assert_close(machine(v), wanted)
    assert machine.weight[:3, :3].abs().max() == 0


@pytest.mark.equation("boltzmann-thermodynamics")
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_minus_log_z_is_mean_energy_less_entropy(machine, temperature):
    p, _ = by_loops(machine, temperature)
    energies = [machine.energy(torch.tensor([s]).double()).item() for s in p]
    mean = sum(q * e for q, e in zip(p.values(), energies, strict=True))
    entropy = -sum(q * math.log(q) for q in p.values())
    wanted = mean - temperature * entropy
    assert -temperature * machine.log_partition(temperature).item() == pytest.approx(wanted)


def test_all_stays_finite_at_large_couplings():
    strong = drawn_machine(scale=1000.0)
    assert torch.isfinite(strong.free_energy(all_states(3).double())).all()
    assert torch.isfinite(strong.log_probabilities()).all()
    assert strong.probabilities(1e6).sub(1 / 8).abs().max() < 0.01


@pytest.mark.equation("boltzmann-spins")
def test_spins_are_the_same_machine_with_other_couplings():
    """Units of ±1 with couplings J and fields g, as units of 0 and 1."""
    coupled = torch.randn(4, 4, generator=dice(), dtype=torch.float64).triu(1)
    coupled = coupled + coupled.T
    field = torch.randn(4, generator=dice(1), dtype=torch.float64)
    x = all_states(4, (-1, 1)).double()
    spins = -0.5 * (x @ coupled * x).sum(1) - x @ field
    units = BoltzmannMachine.from_weights(4 * coupled, 2 * field - 2 * coupled.sum(1))
    apart = spins - units.energy(all_states(4).double())
    torch.testing.assert_close(apart, apart[:1].expand(16))


# ------------------------------------------------------------------------------------------ chains
@pytest.mark.equation("boltzmann-balance")
@pytest.mark.parametrize("temperature", [0.7, 2.0])
def test_updates_balance_and_leave_the_distribution_as_it_is(machine, temperature):
    moves = update_matrix(machine, temperature)
    p, _ = by_loops(machine, temperature)
    for a, s in enumerate(p):
        for b, t in enumerate(p):
            different = [i for i in range(5) if s[i] != t[i]]
            if len(different) == 1:
                wanted = p[t] / (p[s] + p[t]) / 5
                assert moves[a, b].item() == pytest.approx(wanted)
                assert p[s] * moves[a, b].item() == pytest.approx(p[t] * moves[b, a].item())
            elif different:
                assert moves[a, b] == 0
    torch.testing.assert_close(moves.sum(1), torch.ones(32, dtype=torch.float64))
    law = torch.tensor(list(p.values()), dtype=torch.float64)
    torch.testing.assert_close(law @ moves, law)


@pytest.mark.equation("boltzmann-relaxation")
def test_relaxation_is_how_fast_the_last_memory_fades(machine):
    moves = update_matrix(machine)
    law = machine.joint_probabilities()
    away = []
    for updates in (120, 125):
        there = torch.linalg.matrix_power(moves, updates)[0]
        away.append((there - law).norm().item())
    sweeps = 5 / 5  # five updates of five units
    assert relaxation(machine) == pytest.approx(sweeps / math.log(away[0] / away[1]), rel=1e-3)
    magnets = ising(2, 2, beta=1.0)
    cold = BoltzmannMachine.from_weights(magnets.weight, magnets.bias)
    assert relaxation(cold, 0.5) > 2 * relaxation(cold)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_chains_come_to_the_exact_distribution(machine, temperature):
    count = 4000
    states = machine.gibbs(torch.zeros(count, 5).double(), 60, temperature, generator=dice())
    p = machine.joint_probabilities(temperature)
    error = (p * (1 - p) / count).sqrt()
    assert ((_binary.frequencies(states) - p).abs() < 5 * error + 1e-9).all()


def test_a_sweep_draws_the_units_in_order():
    """The exact law after one sweep from zeros, of two coupled units."""
    pair = BoltzmannMachine.from_weights(torch.tensor([[0.0, 3.0], [3.0, 0.0]]))
    states = pair.gibbs(torch.zeros(8000, 2), generator=dice())
    one = 1 / (1 + math.exp(-3))
    wanted = torch.tensor([0.25, 0.25, 0.5 * (1 - one), 0.5 * one])
    assert (_binary.frequencies(states) - wanted).abs().max() < 0.025


def test_held_units_stay_and_the_others_follow_the_conditional(machine):
    held = torch.tensor([True, True, False, False, False])
    start = torch.tensor([[1.0, 0, 0, 0, 0]]).double().expand(4000, 5)
    before = start.clone()
    states = machine.gibbs(start, 60, clamped=held, generator=dice())
    assert torch.equal(start, before)
    assert torch.equal(states[:, :2], start[:, :2])
    p = machine.joint_probabilities().reshape(2, 2, 8)[1, 0]
    p = p / p.sum()
    seen = _binary.frequencies(states[:, 2:])
    assert ((seen - p).abs() < 5 * (p * (1 - p) / 4000).sqrt() + 1e-9).all()


def test_at_temperature_0_it_is_hopfields_descent(machine):
    states = all_states(5).double()
    energies = machine.energy(states)
    for _ in range(6):
        states = machine.gibbs(states, 1, 0.0)
        after = machine.energy(states)
        assert (after <= energies + 1e-12).all()
        energies = after
    assert torch.equal(machine.gibbs(states, 1, 0), states)  # they have settled
    field = states @ machine.weight + machine.bias
    assert torch.equal((field > 0).double(), states)
    level = BoltzmannMachine.from_weights(torch.zeros(2, 2))
    kept = torch.tensor([[0.0, 1.0]])
    assert torch.equal(level.gibbs(kept, 3, 0), kept)


def test_a_seed_gives_the_same_chain_and_temperatures_may_differ_by_sweep(machine):
    start = torch.zeros(6, 5).double()
    one, again = (machine.gibbs(start, 3, [3.0, 1.0, 0.1], generator=dice(4)) for _ in range(2))
    assert torch.equal(one, again)
    step, g = start, dice(4)
    for heat in (3.0, 1.0, 0.1):
        step = machine.gibbs(step, 1, heat, generator=g)
    assert torch.equal(one, step)


# ---------------------------------------------------------------------------------------- learning
def target(v=3, seed=5):
    return torch.rand(2**v, generator=dice(seed), dtype=torch.float64).softmax(0)


def loss_by_autograd(machine, p):
    """KL from its definition; the gradient flows through the sum over all states."""
    q = machine.probabilities()
    return (p * (p / q).log()).sum()


@pytest.mark.equation("boltzmann-kl")
def test_divergence_is_its_sum_over_visible_states(machine):
    p, q = target(), machine.probabilities().detach()
    wanted = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    assert machine.divergence(all_states(3).double(), p).item() == pytest.approx(wanted)
    some = all_states(3)[[1, 6]].double()
    wanted = sum(0.5 * math.log(0.5 / q[at].item()) for at in (1, 6))
    assert machine.divergence(some).item() == pytest.approx(wanted)


@pytest.mark.equation("boltzmann-gradient")
def test_the_gradient_is_what_units_do_without_data_less_what_they_do_with(machine):
    p, states = target(), all_states(3).double()
    of_pairs, of_units = torch.autograd.grad(
        loss_by_autograd(machine, p), (machine.couplings, machine.bias)
    )
    wake, sleep = machine.statistics(states, p), machine.statistics()
    i, j = machine.pairs
    torch.testing.assert_close(of_pairs, (sleep.pairs - wake.pairs)[i, j])
    torch.testing.assert_close(of_units, sleep.units - wake.units)


def test_statistics_are_averages_over_all_states(machine):
    p, _ = by_loops(machine)
    for i, j in itertools.product(range(5), repeat=2):
        wanted = sum(q for s, q in p.items() if s[i] and s[j])
        assert machine.statistics().pairs[i, j].item() == pytest.approx(wanted)
    held = torch.tensor([[1.0, 0.0, 1.0]]).double()
    some = {s: q for s, q in p.items() if s[:3] == (1, 0, 1)}
    wanted = sum(q for s, q in some.items() if s[4]) / sum(some.values())
    assert machine.statistics(held).units[4].item() == pytest.approx(wanted)
    chains = torch.tensor([[1.0, 1, 0], [1, 0, 0]])
    assert statistics_of(chains).pairs[0].tolist() == [1.0, 0.5, 0.0]


@pytest.mark.equation("boltzmann-update")
def test_a_step_follows_the_difference_of_the_two_phases():
    machine, p, states = drawn_machine(seed=3), target(), all_states(3).double()
    wake, sleep = machine.statistics(states, p), machine.statistics()
    before, biased = machine.weight.detach().clone(), machine.bias.detach().clone()
    seen = machine.fit(states, p, steps=1, lr=1e-4)
    moved, shifted = machine.weight - before, machine.bias - biased
    off = ~torch.eye(5, dtype=torch.bool)
    assert torch.equal(moved[off].sign(), (wake.pairs - sleep.pairs)[off].sign())
    assert torch.equal(shifted.sign(), (wake.units - sleep.units).sign())
    torch.testing.assert_close(moved, moved.T)
    assert moved.diagonal().abs().max() == 0
    assert seen.gap[0].item() == pytest.approx((wake.pairs - sleep.pairs).abs().max().item())


def test_fit_is_gradient_descent_on_the_divergence():
    """Step by step, Adam on the divergence by automatic differentiation."""
    one, twin = drawn_machine(seed=2), drawn_machine(seed=2)
    p, states, lr, steps = target(), all_states(3).double(), 0.05, 20
    seen = one.fit(states, p, steps=steps, lr=lr).divergence
    optimizer = torch.optim.Adam(twin.parameters(), lr=lr)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, 2 * (steps - step) / steps)
        optimizer.zero_grad()
        loss = loss_by_autograd(twin, p)
        assert seen[step].item() == pytest.approx(loss.item())
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(one.couplings, twin.couplings)
    assert seen[-1].item() == pytest.approx(loss_by_autograd(twin, p).item())
    assert seen[-1] < seen[0]


@pytest.mark.equation("boltzmann-conditional-gradient")
def test_a_conditional_machine_holds_its_inputs_in_both_phases():
    machine, p, states = drawn_machine(4, 1, seed=8), target(4), all_states(4).double()
    q, p_ = machine.probabilities().reshape(4, 4), p.reshape(4, 4)
    q, given = q / q.sum(1, keepdim=True), p_ / p_.sum(1, keepdim=True)
    loss = (p_ * (given / q).log()).sum()
    of_pairs, of_units = torch.autograd.grad(loss, (machine.couplings, machine.bias))
    wake = machine.statistics(states, p)
    sleep = machine.statistics(all_states(2).double(), p_.sum(1))
    i, j = machine.pairs
    torch.testing.assert_close(of_pairs, (sleep.pairs - wake.pairs)[i, j])
    torch.testing.assert_close(of_units, sleep.units - wake.units)
    assert of_pairs[0].abs() < 1e-12  # between two inputs there is nothing to learn
    seen = machine.fit(states, p, steps=60, inputs=2).divergence
    assert seen[0].item() == pytest.approx(loss.item())
    assert seen[-1] < 0.5 * seen[0]


@pytest.mark.equation("boltzmann-curvature")
def test_without_hidden_units_the_curvature_is_a_covariance():
    weight = torch.randn(3, 3, generator=dice(), dtype=torch.float64).triu(1)
    machine = BoltzmannMachine.from_weights(weight + weight.T)
    p, states = target(), all_states(3).double()
    features = torch.cat([states[:, [0, 0, 1]] * states[:, [1, 2, 2]], states], 1)

    def loss(theta):
        return (p * (p.log() - (features @ theta).log_softmax(0))).sum()

    theta = torch.cat([machine.couplings, machine.bias]).detach()
    curvature = torch.autograd.functional.hessian(loss, theta)
    q = machine.probabilities().detach()
    centred = features - q @ features
    torch.testing.assert_close(curvature, centred.T @ (q[:, None] * centred))
    assert torch.linalg.eigvalsh(curvature)[0] > 0


@pytest.mark.equation("boltzmann-max-entropy")
def test_without_hidden_units_it_is_the_most_random_law_of_its_averages():
    p, states = target(4), all_states(4).double()
    machine = BoltzmannMachine(4, dtype=torch.float64)
    machine.fit(states, p, steps=800, lr=0.05)
    q = machine.probabilities().detach()
    pairs = list(itertools.combinations(range(4), 2))
    told = torch.stack(
        [torch.ones(16).double(), *states.T, *(states[:, i] * states[:, j] for i, j in pairs)]
    )
    torch.testing.assert_close(told @ q, told @ p, atol=1e-6, rtol=0)
    free = torch.linalg.svd(told)[2][len(told) :]  # changes that no average tells
    assert len(free) == 5
    for change in free:
        for sign in (-1, 1):
            other = q + sign * 0.5 * q.min() / change.abs().max() * change
            assert _binary.entropy(other) < _binary.entropy(q)
    assert _binary.entropy(p) < _binary.entropy(q)


@pytest.mark.parametrize("seed", range(3))
def test_parity_needs_a_hidden_unit(seed):
    data = parity(3)
    torch.manual_seed(seed)
    pairwise, hidden = BoltzmannMachine(3), BoltzmannMachine(3, 1)
    assert pairwise.fit(data.states, steps=600).divergence[-1].item() == pytest.approx(math.log(2))
    assert hidden.fit(data.states, steps=600).divergence[-1] < 0.05


def test_couplings_of_a_magnet_are_recovered():
    magnets = ising(2, 3, beta=0.3)
    machine = BoltzmannMachine(6, dtype=torch.float64)
    seen = machine.fit(magnets.states, magnets.probabilities, steps=600, lr=0.05)
    assert seen.divergence[-1].abs() < 1e-6
    torch.testing.assert_close(machine.weight, magnets.weight.double(), atol=1e-3, rtol=0)
    torch.testing.assert_close(machine.bias, magnets.bias.double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("hidden", [0, 2])
def test_learning_from_chains_finds_the_way_too(hidden):
    data = bars_and_stripes(2)
    torch.manual_seed(1)
    machine = BoltzmannMachine(4, hidden)
    seen = machine.fit(data.states, steps=150, method="gibbs", chains=300, sweeps=3,
                       generator=dice())  # fmt: skip
    assert seen.divergence[-1] < 0.3 * seen.divergence[0]
    assert len(seen.divergence) == 151


def test_learning_from_chains_with_inputs_holds_them():
    data = parity(3)
    torch.manual_seed(1)
    machine = BoltzmannMachine(3, 1)
    before = machine.weight[0, 1].item()
    seen = machine.fit(data.states, steps=60, inputs=2, method="gibbs", chains=200,
                       generator=dice())  # fmt: skip
    assert seen.divergence[0].item() == pytest.approx(math.log(2), abs=0.1)
    assert machine.weight[0, 1].item() == before  # both phases hold the same inputs


def test_a_machine_too_large_to_list_learns_from_chains_unwatched():
    machine = BoltzmannMachine(24)
    seen = machine.fit(torch.ones(1, 24), steps=2, method="gibbs", chains=8, sweeps=1)
    assert seen.divergence.shape == (0,)
    assert seen.gap.shape == (2,)


# --------------------------------------------------------------------------- annealing, mean field
@pytest.mark.equation("boltzmann-max-cut")
def test_the_energy_is_minus_the_cut():
    graph = networkx.gnp_random_graph(6, 0.5, seed=1)
    adjacency = torch.tensor(networkx.to_numpy_array(graph))
    machine, states = max_cut(adjacency), all_states(6).double()
    for state, energy, size in zip(
        states, machine.energy(states), cut_size(adjacency, states), strict=True
    ):
        side = [node for node in range(6) if state[node]]
        assert size.item() == networkx.cut_size(graph, side)
        assert energy.item() == pytest.approx(-size.item())


def test_annealing_keeps_the_best_and_finds_the_ground_state():
    magnets = lattice(4, 4).double()
    machine = max_cut(magnets)  # neighbours that differ: a chessboard
    start = torch.randint(2, (20, 16), generator=dice()).double()
    found = anneal(machine, start, torch.linspace(3, 0.1, 30).tolist(), dice(1))
    assert found.path.shape == (30, 20)
    torch.testing.assert_close(machine.energy(found.states), found.energies)
    least = torch.minimum(found.path.min(0).values, machine.energy(start))
    torch.testing.assert_close(found.energies, least)
    assert (found.energies == -24).double().mean() > 0.5
    stuck = anneal(machine, start, [0.0] * 30)
    assert stuck.energies.mean() > found.energies.mean()


@pytest.mark.equation("boltzmann-mean-field", "boltzmann-mean-field-bound")
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_mean_field_solves_its_equation_and_bounds_the_free_energy(machine, temperature):
    found = mean_field(machine, temperature=temperature, rounds=500)
    field = machine.weight @ found.means + machine.bias
    torch.testing.assert_close(found.means, (field / temperature).sigmoid().detach())
    # The free energy of independent units, over all their states.
    states, bound = all_states(5).double(), 0.0
    for state, energy in zip(states, machine.energy(states), strict=True):
        q = torch.where(state == 1, found.means, 1 - found.means).prod()
        bound += (q * (energy + temperature * q.log())).item()
    assert found.free_energy.item() == pytest.approx(bound)
    assert found.free_energy >= -temperature * machine.log_partition(temperature)
    falling = [mean_field(machine, None, temperature, r).free_energy for r in range(6)]
    assert all(a >= b - 1e-12 for a, b in itertools.pairwise(falling))


def test_mean_field_is_exact_where_nothing_is_coupled():
    bias = torch.tensor([0.3, -2.0]).double()
    alone = BoltzmannMachine.from_weights(torch.zeros(2, 2).double(), bias)
    found = mean_field(alone, temperature=0.5)
    torch.testing.assert_close(found.means, alone.statistics(temperature=0.5).units)
    torch.testing.assert_close(found.free_energy, -0.5 * alone.log_partition(0.5))


# ---------------------------------------------------------------------------------------- bad input
SYMMETRIC = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
SMALL = BoltzmannMachine(2, 1)
LARGE = BoltzmannMachine(30, 5)
REFUSED = {
    "too-many-states": (lambda: LARGE.probabilities(),
                        "visible=30 and hidden=5 leave 2^35 = 34,359,738,368 states"),
    "too-many-hidden": (lambda: BoltzmannMachine(1, 21).free_energy(torch.ones(1, 1)),
                        "leave 2^21 = 2,097,152 states"),
    "negative-temperature": (lambda: SMALL.probabilities(-1.0), "temperature=-1.0 must be"),
    "temperature-0": (lambda: SMALL.free_energy(torch.ones(1, 2), 0.0), "temperature=0.0 must be"),
    "negative-sampling": (lambda: SMALL.gibbs(torch.ones(1, 3), 1, -0.5), "temperature=-0.5"),
    "schedule": (lambda: SMALL.gibbs(torch.ones(1, 3), 3, [1.0, 2.0]),
                 "one number for each of sweeps=3"),
    "spins": (lambda: SMALL.energy(torch.tensor([[1.0, -1.0, 1.0]])),
              "states must hold only 0 and 1"),
    "units": (lambda: SMALL.energy(torch.ones(1, 2)), "states must have 3 units"),
    "asymmetric": (lambda: BoltzmannMachine.from_weights(SYMMETRIC.triu()),
                   "weight must be symmetric, got weight[0, 1]=1 and weight[1, 0]=0"),
    "diagonal": (lambda: BoltzmannMachine.from_weights(torch.eye(2)),
                 "weight must have a zero diagonal, got weight[0, 0]=1"),
    "all-hidden": (lambda: BoltzmannMachine.from_weights(SYMMETRIC, hidden=2), "hidden=2 must"),
    "one-way": (lambda: BoltzmannMachine(2, connections=SYMMETRIC.triu() > 0),
                "connections must be symmetric"),
    "itself": (lambda: BoltzmannMachine(2, connections=torch.ones(2, 2) > 0),
               "connections must couple no unit with itself"),
    "shares": (lambda: SMALL.fit(torch.eye(2), torch.tensor([0.5, 0.9])),
               "probabilities must be ≥ 0 and sum to 1"),
    "inputs": (lambda: SMALL.fit(torch.eye(2), inputs=2), "inputs=2 must be fewer than 2"),
    "method": (lambda: SMALL.fit(torch.eye(2), method="cd"), "method='cd' must be one of"),
    "no-rows": (lambda: SMALL.statistics(torch.ones(0, 2)), "known must have a row"),
    "graph": (lambda: max_cut(torch.eye(2)), "adjacency must have a zero diagonal"),
    "no-temperatures": (lambda: anneal(SMALL, torch.ones(1, 3), []), "temperatures must hold"),
    "means": (lambda: mean_field(SMALL, torch.full((3,), 2.0)), "start must hold means in [0, 1]"),
    "matrix": (lambda: update_matrix(BoltzmannMachine(13)), "4^13 = 67,108,864 entries"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_refused_by_name(name):
    call, message = REFUSED[name]
    with refuses(ValueError, message):
        call()


def test_a_clamp_must_be_true_or_false():
    with refuses(TypeError, "clamped must hold True at units that are held"):
        SMALL.gibbs(torch.ones(1, 3), clamped=torch.ones(3))
    with refuses(TypeError, "connections must hold True at coupled units"):
        BoltzmannMachine(2, connections=SYMMETRIC)
