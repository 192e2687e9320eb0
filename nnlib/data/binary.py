r"""Distributions over binary units that are small enough for every state to be listed.

Bars and stripes, parity, and Ising's magnets: what Boltzmann machines are tried on, since what they
learn can be held to the truth.

Axes: m states, n units.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nnlib import checks
from nnlib.data.split import DataSet

MAX_UNITS = 20
"""More than a million states are not listed."""


def all_states(
    n: int, values: Sequence[float] = (0.0, 1.0)
) -> Float[Tensor, "states n"]:
    """Return every state of n binary units, counting upwards; the last unit changes fastest.

    Args:
        n: units, 0 … 20.
        values: what a unit may be, the lower bit first, such as (−1, 1).

    Raises:
        ValueError: more units, with the number of states that there would be.

    Example:
        >>> all_states(2).tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    n = checks.count("n", n, least=0)
    if n > MAX_UNITS:
        raise ValueError(
            f"n={n} units have 2^{n} = {2**n:,} states, at most n={MAX_UNITS} can be listed"
        )
    if len(values) != 2:
        raise ValueError(f"values={values!r} must be two numbers")
    low, high = (checks.number("values", value) for value in values)
    places = torch.arange(n - 1, -1, -1)
    bits = (torch.arange(2**n)[:, None] >> places) & 1
    return low + (high - low) * bits.to(torch.get_default_dtype())


@dataclass(frozen=True, kw_only=True)
class BinaryData(DataSet):
    """States of binary units and how probable each is.

    Attributes:
        states: m n, each 0 or 1.
        probabilities: of the states; they sum to one.
        shape: rows and columns, where the units are pixels.
        source, licence: as for `DataSet`.
    """

    states: Float[Tensor, "m n"]
    probabilities: Float[Tensor, " m"]
    shape: tuple[int, int]

    def __len__(self) -> int:
        return len(self.states)

    def sample(self, count: int, seed: int = 0) -> Float[Tensor, "count n"]:
        """Draw states independently.

        Args:
            count: how many, ≥ 1.
            seed: of the draw, ≥ 0.

        Example:
            >>> parity(3).sample(100).sum(1).remainder(2).any().item()
            False
        """
        count, seed = checks.count("count", count), checks.count("seed", seed, least=0)
        dice = torch.Generator().manual_seed(seed)
        drawn = torch.multinomial(
            self.probabilities, count, replacement=True, generator=dice
        )
        return self.states[drawn]


@dataclass(frozen=True, kw_only=True)
class Ising(BinaryData):
    """A lattice of magnets, as units that are 0 or 1, with the couplings that made it.

    Attributes:
        weight: n n, 4β between neighbours and 0 elsewhere.
        bias: n, −2β times the number of neighbours.
        beta: β, one over the temperature.
        states, probabilities, shape, source, licence: as for `BinaryData`.
    """

    weight: Float[Tensor, "n n"]
    bias: Float[Tensor, " n"]
    beta: float


def _equally_likely(
    states: Tensor, shape: tuple[int, int], licence: str = "no rights: a rule"
) -> BinaryData:
    return BinaryData(
        states=states,
        probabilities=torch.full((len(states),), 1 / len(states)),
        shape=shape,
        source="generated",
        licence=licence,
    )


def bars_and_stripes(n: int = 3) -> BinaryData:
    """Return the pictures whose rows, or whose columns, are each wholly on or off.

    There are $2^{n+1} - 2$ of them, equally likely: full and empty pictures are both kinds at once
    and count only once.

    Args:
        n: pixels of a side, 2 … 10.

    Example:
        >>> len(bars_and_stripes(3)), len(bars_and_stripes(4))
        (14, 30)

    Source: generated; MacKay 2003, chapter 43, where both kinds are drawn equally often.
    """
    n = checks.count("n", n, least=2)
    checks.number("n", n, most=10)
    lines = all_states(n)
    stripes = lines[:, :, None].expand(-1, n, n)  # each row on or off
    bars = lines[1:-1, None, :].expand(-1, n, n)
    return _equally_likely(torch.cat([stripes, bars]).reshape(-1, n * n), (n, n))


def parity(n: int = 3, *, odd: bool = False) -> BinaryData:
    """Return the states with an even number of ones, or an odd one; all equally likely.

    Any n − 1 of the units are independent fair coins, and together they fix the last one; so
    nothing can be learned from pairs if n ≥ 3.

    Args:
        n: units, 1 … 20.
        odd: whether the number of ones is odd.

    Example:
        >>> parity(3).states.int().tolist()
        [[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]
    """
    states = all_states(checks.count("n", n))
    wanted = float(checks.flag("odd", odd))
    return _equally_likely(states[states.sum(1) % 2 == wanted], (1, n))


def lattice(rows: int, columns: int, *, periodic: bool = False) -> Bool[Tensor, "n n"]:
    """Return which places of a lattice are neighbours; the places are counted row by row.

    Args:
        rows: ≥ 1.
        columns: ≥ 1.
        periodic: whether the last row and column touch the first, as on a torus.

    Example:
        >>> lattice(2, 2).int().tolist()
        [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 1], [0, 1, 1, 0]]
    """
    rows, columns = checks.count("rows", rows), checks.count("columns", columns)
    checks.flag("periodic", periodic)
    at = torch.arange(rows * columns).reshape(rows, columns)
    pairs = [(at[:, :-1], at[:, 1:]), (at[:-1], at[1:])]
    if periodic:
        pairs += [(at[:, -1], at[:, 0]), (at[-1], at[0])]
    touching = torch.zeros(rows * columns, rows * columns, dtype=torch.bool)
    for one, other in pairs:
        touching[one.flatten(), other.flatten()] = True
    return (touching | touching.T).fill_diagonal_(False)


def ising(
    rows: int = 3,
    columns: int = 3,
    *,
    beta: float = 0.4407,
    periodic: bool = False,
) -> Ising:
    r"""Return the distribution of magnets that like to point where their neighbours do.

    $p(\mathbf x) \propto \exp(\beta \sum_{i \sim j} x_i x_j)$ with $x_i = 2 s_i - 1 = \pm 1$; all
    states are listed. In the units $s$, which are 0 or 1, the couplings are 4β and the biases −2β
    for each neighbour.

    Args:
        rows: ≥ 1; at most 20 magnets in all.
        columns: ≥ 1.
        beta: β, one over the temperature; 0.4407 is critical on a lattice without end. Negative:
            neighbours like to differ.
        periodic: whether the last row and column touch the first.

    Example:
        >>> magnets = ising(2, 2, beta=1.0)
        >>> magnets.probabilities[[0, -1]]  # all down, all up
        tensor([0.4504, 0.4504])

    Source: generated; Ising 1925. The critical β of the square lattice: Onsager 1944.
    """
    touching = lattice(rows, columns, periodic=periodic)
    if len(touching) > MAX_UNITS:
        raise ValueError(
            f"rows={rows} and columns={columns} make {len(touching)} magnets, "
            f"with 2^{len(touching)} = {2 ** len(touching):,} states, at most {MAX_UNITS}"
        )
    beta = checks.number("beta", beta)
    spins = all_states(len(touching), (-1.0, 1.0)).double()
    pull = touching.double()
    agreement = 0.5 * (spins @ pull * spins).sum(1)
    dtype = torch.get_default_dtype()
    return Ising(
        states=(spins / 2 + 0.5).to(dtype),
        probabilities=(beta * agreement).softmax(0).to(dtype),
        shape=(rows, columns),
        weight=(4 * beta * pull).to(dtype),
        bias=(-2 * beta * pull.sum(1)).to(dtype),
        beta=beta,
        source="generated",
        licence="no rights: a rule",
    )
