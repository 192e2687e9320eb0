"""Tours as valleys: the energy of the network against that of the paper, term by term."""

import math
from itertools import permutations

import pytest
import torch

from nnlib.memory.hopfield import continuous_hopfield_energy, travelling_salesman
from tests.support import refuses

CITIES = torch.rand(4, 2, generator=torch.Generator().manual_seed(0)).double()
D = torch.cdist(CITIES, CITIES)


def of_the_paper(v, a=500.0, c=200.0, d=500.0, n=15.0):
    """Loops over cities x, y and times i, j, for outputs of 0 and 1 (or between)."""
    size = range(len(v))
    rows = sum(v[x, i] * v[x, j] for x in size for i in size for j in size if i != j)
    columns = sum(v[x, i] * v[y, i] for i in size for x in size for y in size if x != y)
    total = (v.sum() - n) ** 2
    way = sum(
        D[x, y] * v[x, i] * (v[y, (i + 1) % 4] + v[y, (i - 1) % 4])
        for x in size for y in size for i in size
    )  # fmt: skip
    return a / 2 * (rows + columns) + c / 2 * total + d / 2 * way


@pytest.mark.equation("hopfield-salesman")
@pytest.mark.parametrize(
    "constants", [{}, {"once": 3.0, "visits": 2.0, "length": 7.0, "target": 5}]
)
def test_the_networks_energy_is_the_papers_but_for_a_constant(constants):
    weight, bias = travelling_salesman(D, **constants)
    names = {"once": "a", "visits": "c", "length": "d", "target": "n"}
    own = {names[name]: value for name, value in constants.items()}
    generator = torch.Generator().manual_seed(1)
    states = torch.rand(6, 4, 4, generator=generator).double()
    wanted = torch.stack([of_the_paper(v, **own) for v in states])
    # with v from −1 to 1 the energy is twice as large, and the gain is infinite: no integral
    flat = 2 * states.flatten(1) - 1
    got = 0.5 * (-((flat @ weight) * flat).sum(1) / 2 - flat @ bias)
    torch.testing.assert_close(got - got[0], wanted - wanted[0])
    graded = continuous_hopfield_energy(weight, bias, flat, gain=1e12)
    torch.testing.assert_close(graded, 2 * got, rtol=1e-6, atol=1e-3)


def test_of_all_tours_the_shortest_has_the_lowest_energy():
    weight, bias = travelling_salesman(D)
    energies, lengths = [], []
    for tour in permutations(range(4)):
        v = -torch.ones(4, 4).double()
        v[list(tour), range(4)] = 1
        energies.append(continuous_hopfield_energy(weight, bias, v.flatten(), 1e9).item())
        lengths.append(sum(D[tour[i], tour[i - 1]].item() for i in range(4)))
    assert min(energies) == pytest.approx(energies[lengths.index(min(lengths))])


def test_bad_arguments_are_refused_by_name():
    with refuses(ValueError, "distances must be square, of 3 cities or more, got (2, 2)"):
        travelling_salesman(torch.zeros(2, 2))
    with refuses(ValueError, "distances must be symmetric"):
        travelling_salesman(torch.rand(4, 4))
    with refuses(ValueError, "once=-1 must be a finite number ≥ 0"):
        travelling_salesman(D, once=-1)
    with refuses(ValueError, "target=nan"):
        travelling_salesman(D, target=math.nan)
