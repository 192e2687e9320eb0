r"""The Boltzmann machine: binary units that settle at random, and learn by comparing two averages.

Chapter: chapters/energy/boltzmann.md
Papers: Hinton and Sejnowski 1983; Ackley, Hinton and Sejnowski 1985. How it learns stands in
`_boltzmann_learning`, sampling as a matrix in `_gibbs_chain`, simulated annealing in `_annealing`,
mean-field theory in `_mean_field`.
Axes: b states side by side, v visible and h hidden units, n = v + h units, the visible ones first.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.data.binary import all_states
from nnlib.energy import _boltzmann_arguments as arguments
from nnlib.energy._annealing import Annealed, anneal, cut_size
from nnlib.energy._binary import MAX_UNITS, binary, drawn
from nnlib.energy._boltzmann_learning import (
    Learned,
    Statistics,
    learn,
    statistics_of,
)
from nnlib.energy._gibbs_chain import relaxation, update_matrix
from nnlib.energy._mean_field import MeanField, mean_field

__all__ = [
    "Annealed",
    "BoltzmannMachine",
    "Learned",
    "MeanField",
    "Statistics",
    "anneal",
    "cut_size",
    "max_cut",
    "mean_field",
    "relaxation",
    "statistics_of",
    "update_matrix",
]


class BoltzmannMachine(nn.Module):
    r"""Binary units with symmetric couplings; a state's probability falls with its energy.

    $E(\mathbf s) = -\tfrac12 \sum_{ij} W_{ij} s_i s_j - \sum_i b_i s_i$ (`boltzmann-energy`) and
    $p(\mathbf s) = e^{-E(\mathbf s)/T} / Z$ (`boltzmann-distribution`). There is one parameter for
    each pair, so $\mathbf W$ is symmetric with a zero diagonal by construction; otherwise the
    units' random updates would not lead to $p$. All that is exact here lists states: at most 2²⁰.

    Args:
        visible: units that data are put on, ≥ 1.
        hidden: further units, ≥ 0.
        connections: n n, True where two units are coupled, symmetric; all pairs if None.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: `connections` of another shape, not symmetric, or with a unit coupled to itself.

    Example:
        >>> machine = BoltzmannMachine(visible=2, hidden=1)
        >>> p = machine.probabilities()  # of 00, 01, 10, 11
        >>> p.shape, round(p.sum().item(), 4)
        (torch.Size([4]), 1.0)

    Source: Ackley, Hinton and Sejnowski 1985. Their thresholds θ are our −b.
    """

    pairs: Tensor

    def __init__(
        self,
        visible: int,
        hidden: int = 0,
        *,
        connections: Bool[Tensor, "n n"] | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.visible = checks.count("visible", visible)
        self.hidden = checks.count("hidden", hidden, least=0)
        self.units = n = self.visible + self.hidden
        pairs = torch.triu_indices(n, n, 1)
        if connections is not None:
            pairs = pairs[:, arguments.connections(connections, n)[pairs[0], pairs[1]]]
        self.register_buffer("pairs", pairs.to(device), persistent=False)
        self.couplings = nn.Parameter(
            torch.empty(pairs.shape[1], device=device, dtype=dtype)
        )
        self.bias = nn.Parameter(torch.empty(n, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw couplings from N(0, 0.1²), since equal hidden units stay equal; biases are 0."""
        nn.init.normal_(self.couplings, std=0.1)
        nn.init.zeros_(self.bias)

    @classmethod
    def from_weights(
        cls,
        weight: Float[Tensor, "n n"],
        bias: Float[Tensor, " n"] | None = None,
        hidden: int = 0,
    ) -> "BoltzmannMachine":
        """Return a machine with these couplings; pairs at 0 are learned like all others.

        Args:
            weight: symmetric, with a zero diagonal.
            bias: of the units; zeros if None.
            hidden: how many of the units, the last ones, are hidden.

        Raises:
            ValueError: `weight` is not symmetric, or its diagonal is not zero.

        Example:
            >>> pair = BoltzmannMachine.from_weights(torch.tensor([[0.0, 2.0], [2.0, 0.0]]))
            >>> pair.energy(torch.ones(1, 2)).item()
            -2.0
        """
        n = len(arguments.symmetric("weight", weight))
        if bias is not None:
            checks.tensor("bias", bias, shape=(n,), floating=True, finite=True)
        hidden = checks.count("hidden", hidden, least=0)
        if hidden >= n:
            raise ValueError(
                f"hidden={hidden} must leave a visible unit of weight's {n}"
            )
        made = cls(n - hidden, hidden, device=weight.device, dtype=weight.dtype)
        with torch.no_grad():
            made.couplings.copy_(weight[made.pairs[0], made.pairs[1]])
            if bias is not None:
                made.bias.copy_(bias)
        return made

    @property
    def weight(self) -> Float[Tensor, "n n"]:
        r"""The couplings $\mathbf W$ as a symmetric matrix with a zero diagonal."""
        empty = self.couplings.new_zeros(self.units, self.units)
        upper = empty.index_put((self.pairs[0], self.pairs[1]), self.couplings)
        return upper + upper.T

    def energy(self, states: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
        r"""Return $-\tfrac12 \mathbf s^\top \mathbf W \mathbf s - \mathbf b^\top \mathbf s$.

        Args:
            states: of all units, each 0 or 1, the visible ones first.
        """
        return self.energy_of(binary("states", states, self.units).to(self.bias.dtype))

    def energy_of(self, states: Float[Tensor, "*b n"]) -> Float[Tensor, "*b"]:
        """Return the same for any numbers in the parameters' dtype; nothing is looked at first."""
        rows = states.reshape(-1, self.units)
        pulls = 0.5 * rows @ self.weight + self.bias
        return (
            -(rows * pulls).sum(-1).reshape(states.shape[:-1])
        )  # eq. boltzmann-energy

    def forward(self, visible: Float[Tensor, "*b v"]) -> Float[Tensor, "*b"]:
        """Return the free energies of visible states at temperature 1."""
        return self.free_energy(visible)

    def free_energy(
        self, visible: Float[Tensor, "*b v"], temperature: float = 1.0
    ) -> Float[Tensor, "*b"]:
        r"""Return $F(\mathbf v) = -T \log \sum_{\mathbf h} e^{-E(\mathbf v, \mathbf h)/T}$.

        Equation `boltzmann-free-energy`, over all 2ʰ states of the hidden units.
        """
        temperature = checks.number("temperature", temperature, above=0)
        binary("visible", visible, self.visible)
        energies = self.energy_of(self.completions(visible))
        return -temperature * (-energies / temperature).logsumexp(-1)

    def completions(self, known: Float[Tensor, "*b k"]) -> Float[Tensor, "*b r n"]:
        """Return, for values of the first k units, all states of the machine that have them.

        Raises:
            ValueError: more than 20 units are left; says how many states they have.
        """
        checks.tensor("known", known, floating=True)
        left = self.units - (known.shape[-1] if known.ndim else self.units + 1)
        if left < 0:
            raise ValueError(
                f"known must have at most {self.units} units on its last axis, "
                f"got shape {tuple(known.shape)}"
            )
        if left > MAX_UNITS:
            raise ValueError(
                f"visible={self.visible} and hidden={self.hidden} leave 2^{left} = "
                f"{2**left:,} states to list, at most 2^{MAX_UNITS}"
            )
        rest = all_states(left).to(self.bias)
        lead = known.shape[:-1]
        given = known.to(rest.dtype)[..., None, :].expand(*lead, len(rest), -1)
        return torch.cat([given, rest.expand(*lead, -1, -1)], -1)

    def _log_joint(self, known: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        """Return completions, b r n, and the logarithm of p(rest | known), b r."""
        states = self.completions(known)
        temperature = checks.number("temperature", temperature, above=0)
        return states, (-self.energy_of(states) / temperature).log_softmax(-1)

    def log_partition(self, temperature: float = 1.0) -> Float[Tensor, ""]:
        r"""Return $\log Z = \log \sum_{\mathbf s} e^{-E(\mathbf s)/T}$ (`boltzmann-partition`)."""
        temperature = checks.number("temperature", temperature, above=0)
        states = self.completions(self.bias.new_zeros(0))
        return (-self.energy_of(states) / temperature).logsumexp(-1)

    def joint_probabilities(self, temperature: float = 1.0) -> Float[Tensor, " states"]:
        """Return the probability of each state of all units, in the order of `all_states`."""
        return self._log_joint(self.bias.new_zeros(0), temperature)[1].exp()

    def probabilities(self, temperature: float = 1.0) -> Float[Tensor, " states"]:
        """Return the probability of each visible state, in the order of `all_states(visible)`."""
        return self.log_probabilities(temperature).exp()

    def log_probabilities(self, temperature: float = 1.0) -> Float[Tensor, " states"]:
        """Return the logarithms of `probabilities`, which do not underflow."""
        _, log_p = self._log_joint(self.bias.new_zeros(0), temperature)
        return log_p.reshape(-1, 2**self.hidden).logsumexp(1)

    def statistics(
        self,
        known: Float[Tensor, "b k"] | None = None,
        weights: Float[Tensor, " b"] | None = None,
        temperature: float = 1.0,
    ) -> Statistics:
        r"""Return exact averages $\langle s_i s_j \rangle$ and $\langle s_i \rangle$.

        With data on the visible units these are those of the wake phase, with nothing those of
        the sleep phase; with the first k units, those of a conditional machine.

        Args:
            known: values of the first k units, which are held; nothing is held if None.
            weights: how probable each row of `known` is; all alike if None.
            temperature: T > 0.
        """
        if known is None:
            known = self.bias.new_zeros(1, 0)
        checks.tensor("known", known, shape=("b", "k"), floating=True)
        if len(known) == 0:
            raise ValueError("known must have a row or more")
        binary("known", known, known.shape[1])
        with torch.no_grad():
            states, log_p = self._log_joint(known, temperature)
            shares = arguments.shares("weights", weights, len(known)).to(log_p)
            joint = (shares[:, None] * log_p.exp()).flatten()
            return statistics_of(states.flatten(0, 1), joint)

    def conditional(
        self, states: Float[Tensor, "*b n"], temperature: float = 1.0
    ) -> Float[Tensor, "*b n"]:
        r"""Return $p(s_i = 1 \mid \mathbf s_{-i})$ of every unit (`boltzmann-conditional`).

        Args:
            states: of all units; a unit's own value does not matter for it.
            temperature: T > 0.
        """
        temperature = checks.number("temperature", temperature, above=0)
        states = binary("states", states, self.units).to(self.bias.dtype)
        field = states @ self.weight + self.bias
        return (field / temperature).sigmoid()  # eq. boltzmann-conditional

    @torch.no_grad()
    def gibbs(
        self,
        states: Float[Tensor, "b n"],
        sweeps: int = 1,
        temperature: float | Sequence[float] = 1.0,
        clamped: Bool[Tensor, " n"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "b n"]:
        """Return the states after sweeps in which every unit is drawn anew, one after the other.

        Args:
            states: to begin with, of all units; they are not changed.
            sweeps: how often each unit is drawn, ≥ 0.
            temperature: T ≥ 0, or one for each sweep. At 0 a unit takes the value of lower energy,
                and keeps its own where both are alike: Hopfield's rule.
            clamped: True at units that are held.
            generator: of the random numbers.

        Example:
            >>> machine = BoltzmannMachine(3)
            >>> held = torch.tensor([True, False, False])
            >>> machine.gibbs(torch.ones(2, 3), 5, clamped=held)[:, 0].tolist()
            [1.0, 1.0]
        """
        checks.tensor("states", states, shape=("b", "n"), floating=True)
        states = binary("states", states, self.units).to(self.bias.dtype, copy=True)
        temperatures = arguments.schedule(
            temperature, checks.count("sweeps", sweeps, least=0)
        )
        free = arguments.free_units(clamped, self.units)
        weight, bias = self.weight, self.bias
        for heat in temperatures:
            for i in free:
                field = states @ weight[:, i] + bias[i]
                if heat:
                    states[:, i] = drawn((field / heat).sigmoid(), generator)
                else:
                    states[:, i] = torch.where(field == 0, states[:, i], field > 0)
        return states

    def divergence(
        self,
        states: Float[Tensor, "m v"],
        probabilities: Float[Tensor, " m"] | None = None,
    ) -> Float[Tensor, ""]:
        r"""Return $\mathrm{KL}(p_{\text{data}} \Vert p)$ in nats (`boltzmann-kl`).

        Args:
            states: of the visible units, each once.
            probabilities: of the states; all alike if None.
        """
        checks.tensor("states", states, shape=("m", "v"), floating=True, empty=False)
        p = arguments.shares("probabilities", probabilities, len(states)).to(self.bias)
        log_q = -self.free_energy(states) - self.log_partition()
        return (torch.special.xlogy(p, p) - p * log_q).sum()

    def fit(
        self,
        states: Float[Tensor, "m v"],
        probabilities: Float[Tensor, " m"] | None = None,
        *,
        steps: int = 500,
        lr: float = 0.1,
        inputs: int = 0,
        method: str = "exact",
        chains: int = 500,
        sweeps: int = 5,
        generator: torch.Generator | None = None,
    ) -> Learned:
        r"""Learn a distribution: raise what units do together with the data, lower what without.

        $\Delta W_{ij} \propto \langle s_i s_j \rangle_{\text{clamped}} -
        \langle s_i s_j \rangle_{\text{free}}$ (`boltzmann-update`), as the gradient of Adam, whose
        rate is constant in the first half and then falls to 0 in a line.

        Args:
            states: of the visible units, each once.
            probabilities: of the states; all alike if None.
            steps: ≥ 1.
            lr: the rate, > 0.
            inputs: visible units, the first ones, that are held in both phases: a conditional
                machine, which learns the other units' distribution given these.
            method: "exact" averages by listing all states, or "gibbs" by chains.
            chains: of each phase, for "gibbs"; those of the sleep phase are never restarted.
            sweeps: of each chain between two steps, for "gibbs".
            generator: of the random numbers.

        Returns:
            The divergence from the data before each step and after the last, and how far the two
            phases' averages were apart.

        Example:
            >>> from nnlib.data.binary import parity
            >>> _ = torch.manual_seed(0)
            >>> data, machine = parity(3), BoltzmannMachine(3, hidden=1)
            >>> bool(machine.fit(data.states, data.probabilities).divergence[-1] < 0.05)
            True
        """
        checks.tensor("states", states, shape=("m", "v"), floating=True, empty=False)
        states = binary("states", states, self.visible).to(self.bias)
        inputs = checks.count("inputs", inputs, least=0)
        if inputs >= self.visible:
            raise ValueError(f"inputs={inputs} must be fewer than {self.visible}")
        return learn(
            self,
            states,
            arguments.shares("probabilities", probabilities, len(states)).to(self.bias),
            steps=checks.count("steps", steps),
            lr=checks.number("lr", lr, above=0),
            inputs=inputs,
            method=checks.one_of("method", method, ("exact", "gibbs")),
            chains=checks.count("chains", chains),
            sweeps=checks.count("sweeps", sweeps),
            generator=generator,
        )


def max_cut(adjacency: Float[Tensor, "n n"]) -> BoltzmannMachine:
    r"""Return the machine whose energy is minus the size of a cut (`boltzmann-max-cut`).

    The nodes that are on are one side, and those that are off are the other:
    $W_{ij} = -2 A_{ij}$ and $b_i = \sum_j A_{ij}$.

    Args:
        adjacency: the weight of each edge, symmetric, with a zero diagonal.

    Example:
        >>> edge = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> max_cut(edge).energy(torch.tensor([[0.0, 1.0], [1.0, 1.0]])).tolist()
        [-1.0, -0.0]
    """
    arguments.symmetric("adjacency", adjacency)
    return BoltzmannMachine.from_weights(-2 * adjacency, adjacency.sum(1))
