"""Binary distributions, held to loops over all states."""

import itertools
import math

import pytest
import torch

from nnlib.data.binary import all_states, bars_and_stripes, ising, lattice, parity
from nnlib.energy import _binary
from tests.support import refuses


@pytest.mark.parametrize("values", [(0, 1), (-1, 1)])
def test_all_states_are_those_of_a_product(values):
    wanted = list(itertools.product(values, repeat=4))
    assert [tuple(row) for row in all_states(4, values).int().tolist()] == wanted
    assert all_states(0).shape == (1, 0)


def test_too_many_states_are_refused_with_their_number():
    with refuses(ValueError, "n=21 units have 2^21 = 2,097,152 states"):
        all_states(21)
    with refuses(ValueError, "2^25 = 33,554,432 states"):
        ising(5, 5)
    with refuses(ValueError, "values=(0, 1, 2) must be two numbers"):
        all_states(2, (0, 1, 2))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_bars_and_stripes_are_all_pictures_of_equal_rows_or_columns(n):
    wanted = set()
    for bits in itertools.product((0, 1), repeat=n * n):
        rows = [bits[at * n : at * n + n] for at in range(n)]
        of_columns = list(zip(*rows, strict=True))
        if any(all(len(set(line)) == 1 for line in way) for way in (rows, of_columns)):
            wanted.add(bits)
    got = bars_and_stripes(n)
    assert {tuple(row) for row in got.states.int().tolist()} == wanted
    assert len(got) == len(wanted) == 2 ** (n + 1) - 2
    assert got.probabilities.sum().item() == pytest.approx(1)


@pytest.mark.parametrize("odd", [False, True])
def test_parity_is_seen_in_all_units_and_in_no_pair(odd):
    data = parity(4, odd=odd)
    assert (data.states.sum(1) % 2 == odd).all()
    assert len(data) == 8
    for i, j in itertools.combinations(range(4), 2):
        seen = (2 * data.states[:, i] + data.states[:, j]).long().bincount(minlength=4)
        assert seen.tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("periodic", [False, True])
def test_neighbours_of_a_lattice_are_one_step_apart(periodic):
    rows, columns = 3, 4
    got = lattice(rows, columns, periodic=periodic)
    for one, other in itertools.product(range(12), repeat=2):
        (y, x), (v, u) = divmod(one, columns), divmod(other, columns)
        down, right = abs(y - v), abs(x - u)
        if periodic:
            down, right = min(down, rows - down), min(right, columns - right)
        assert got[one, other] == (down + right == 1)


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("beta", [-0.3, 0.4407])
def test_ising_is_the_exponential_of_agreeing_neighbours(beta, periodic):
    magnets = ising(3, 3, beta=beta, periodic=periodic)
    touching = lattice(3, 3, periodic=periodic)
    weights, by_units = [], []
    for state in magnets.states.double():
        spin = 2 * state - 1
        agreeing = sum(
            float(spin[i] * spin[j])
            for i, j in itertools.combinations(range(9), 2)
            if touching[i, j]
        )
        weights.append(math.exp(beta * agreeing))
        by_units.append(
            0.5 * state @ magnets.weight.double() @ state + magnets.bias.double() @ state
        )
    wanted = torch.tensor(weights) / sum(weights)
    torch.testing.assert_close(magnets.probabilities, wanted)
    torch.testing.assert_close(torch.stack(by_units).softmax(0).float(), wanted)


def test_a_sample_follows_the_probabilities():
    magnets = ising(2, 2, beta=0.3)
    drawn = magnets.sample(4000, seed=1)
    assert torch.equal(drawn, magnets.sample(4000, seed=1))
    error = (magnets.probabilities * (1 - magnets.probabilities) / 4000).sqrt()
    assert ((_binary.frequencies(drawn) - magnets.probabilities).abs() < 5 * error).all()


def test_states_are_counted_where_they_stand_in_the_list():
    assert _binary.state_numbers(all_states(5)).tolist() == list(range(32))
    with refuses(ValueError, "states must hold only 0 and 1"):
        _binary.state_numbers(torch.full((1, 2), 0.5))
    with refuses(ValueError, "at most 2^20"):
        _binary.frequencies(torch.zeros(1, 21))


def test_divergences_are_their_sums():
    p, q = torch.rand(2, 5, dtype=torch.float64).softmax(1)
    pairs = list(zip(p.tolist(), q.tolist(), strict=True))
    assert _binary.kl_divergence(p, q).item() == pytest.approx(
        sum(a * math.log(a / b) for a, b in pairs)
    )
    assert _binary.total_variation(p, q).item() == pytest.approx(
        max(
            sum(a - b for a, b in some)
            for r in range(6)
            for some in itertools.combinations(pairs, r)
        )
    )
    assert _binary.entropy(p).item() == pytest.approx(-sum(a * math.log(a) for a, _ in pairs))
    sure = torch.tensor([1.0, 0.0])
    assert _binary.kl_divergence(torch.tensor([0.5, 0.5]), sure).item() == math.inf
    assert _binary.entropy(sure).item() == 0


def test_draws_follow_their_probabilities():
    dice = torch.Generator().manual_seed(0)
    p = torch.tensor([0.0, 0.2, 0.9, 1.0])
    shares = _binary.drawn(p.expand(4000, 4), dice).mean(0)
    assert ((shares - p).abs() <= 5 * (p * (1 - p) / 4000).sqrt()).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bars_and_stripes(1), "n=1 must be an integer ≥ 2"),
        (lambda: bars_and_stripes(11), "n=11 must be a finite number ≤ 10"),
        (lambda: parity(0), "n=0 must be an integer ≥ 1"),
        (lambda: ising(0, 3), "rows=0 must be an integer ≥ 1"),
        (lambda: ising(2, 2, beta=math.nan), "beta=nan must be a finite number"),
        (lambda: parity(3).sample(0), "count=0 must be an integer ≥ 1"),
    ],
    ids=["one-pixel", "too-many-pixels", "no-units", "no-rows", "beta", "no-samples"],
)
def test_bad_arguments_are_refused_by_name(call, message):
    with refuses(ValueError, message):
        call()
