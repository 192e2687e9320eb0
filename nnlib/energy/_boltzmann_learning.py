r"""How a Boltzmann machine learns: averages with the data, averages without, and their difference.

Axes: m states of the data, v visible units, n units, k inputs, r completions.
"""

from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib.energy._binary import all_states, state_numbers

if TYPE_CHECKING:
    from nnlib.energy.boltzmann import BoltzmannMachine


class Statistics(NamedTuple):
    """How often units are on: pairs of them together, and each by itself."""

    pairs: Float[Tensor, "n n"]
    """⟨sᵢ sⱼ⟩; on the diagonal ⟨sᵢ⟩, since sᵢ² = sᵢ."""
    units: Float[Tensor, " n"]
    """⟨sᵢ⟩."""


class Learned(NamedTuple):
    """What `fit` saw."""

    divergence: Float[Tensor, " steps+1"]
    """KL(data ‖ model) in nats before each step and after the last one; empty where the machine
    has too many states for it."""
    gap: Float[Tensor, " steps"]
    """The largest difference between an average with the data and the same without."""


WATCHED = 16
"""With chains, the divergence is computed for machines of at most so many units."""


def statistics_of(
    states: Float[Tensor, "b n"], weights: Float[Tensor, " b"] | None = None
) -> Statistics:
    """Return the averages over states of all units, such as chains; weighted, if weights are given.

    Example:
        >>> seen = statistics_of(torch.tensor([[1.0, 1.0], [1.0, 0.0]]))
        >>> seen.pairs.tolist(), seen.units.tolist()
        ([[1.0, 0.5], [0.5, 0.5]], [1.0, 0.5])
    """
    if weights is None:
        weights = states.new_full((len(states),), 1 / len(states))
    weighted = weights[:, None] * states
    return Statistics(states.T @ weighted, weighted.sum(0))


@torch.no_grad()
def learn(
    machine: "BoltzmannMachine",
    states: Float[Tensor, "m v"],
    p: Float[Tensor, " m"],
    *,
    steps: int,
    lr: float,
    inputs: int,
    method: str,
    chains: int,
    sweeps: int,
    generator: torch.Generator | None,
) -> Learned:
    """See `BoltzmannMachine.fit`, which has checked its arguments."""
    optimizer = torch.optim.Adam(machine.parameters(), lr=lr)
    listed = method == "exact" or machine.units <= WATCHED
    exact = Listed(machine, states, p, inputs) if listed else None
    chained = (
        None
        if method == "exact"
        else _Chains(machine, states, p, inputs, chains, sweeps, generator)
    )
    divergences, gaps = [], []
    i, j = machine.pairs
    for step in range(steps):
        if exact:
            wake, sleep, divergence = exact()
            divergences.append(divergence)
        if chained:
            wake, sleep = chained()
        # eq. boltzmann-update: Adam goes down, so the sign is turned round
        machine.couplings.grad = sleep.pairs[i, j] - wake.pairs[i, j]
        machine.bias.grad = sleep.units - wake.units
        gaps.append((wake.pairs - sleep.pairs).abs().max())
        optimizer.param_groups[0]["lr"] = lr * min(1.0, 2 * (steps - step) / steps)
        optimizer.step()
    machine.couplings.grad = machine.bias.grad = None
    if exact:
        divergences.append(exact()[2])
    seen = torch.stack(divergences) if divergences else machine.bias.new_zeros(0)
    return Learned(seen, torch.stack(gaps))


class Listed:
    r"""Both phases' averages and the divergence, by listing states; they are listed once.

    With inputs the divergence is $\mathrm{KL}(p_{\text{data}}(y \mid x) \Vert p(y \mid x))$ on
    average over the inputs x.
    """

    def __init__(
        self, machine: "BoltzmannMachine", states: Tensor, p: Tensor, inputs: int
    ):
        self.machine, self.p = machine, p
        groups = state_numbers(states[:, :inputs])
        numbers, self.group = groups.unique(return_inverse=True)
        self.shares = p.new_zeros(len(numbers)).index_add_(0, self.group, p)
        held = all_states(inputs).to(p)[numbers]
        self.wake = machine.completions(states).flatten(0, 1)
        self.sleep = machine.completions(held).flatten(0, 1)
        self.known = torch.special.xlogy(p, p / self.shares[self.group]).sum()

    def __call__(self) -> tuple[Statistics, Statistics, Float[Tensor, ""]]:
        log_v, wake = self._phase(self.wake, self.p)
        log_z, sleep = self._phase(self.sleep, self.shares)
        return wake, sleep, self.known - self.p @ (log_v - log_z[self.group])

    def _phase(self, states: Tensor, shares: Tensor) -> tuple[Tensor, Statistics]:
        """Return log Σ exp(−E) over each row's completions, and the averages over all."""
        low = -self.machine.energy_of(states).reshape(len(shares), -1)
        log_z = low.logsumexp(1, keepdim=True)
        joint = shares[:, None] * (low - log_z).exp()
        return log_z[:, 0], statistics_of(states, joint.flatten())


class _Chains:
    """Both phases' averages, by Gibbs sampling."""

    def __init__(
        self,
        machine: "BoltzmannMachine",
        states: Tensor,
        p: Tensor,
        inputs: int,
        chains: int,
        sweeps: int,
        generator: torch.Generator | None,
    ):
        self.machine, self.states, self.p = machine, states, p
        self.sweeps, self.generator = sweeps, generator
        numbers = torch.arange(machine.units, device=states.device)
        self.seen, self.held = numbers < machine.visible, numbers < inputs
        self.inputs = inputs
        self.dreams = self._anew(chains)

    def _anew(self, chains: int) -> Tensor:
        """Return chains with data on the visible units and coins on the hidden ones."""
        rows = torch.multinomial(
            self.p, chains, replacement=True, generator=self.generator
        )
        coins = torch.rand(
            chains,
            self.machine.hidden,
            generator=self.generator,
            device=self.p.device,
            dtype=self.p.dtype,
        )
        return torch.cat([self.states[rows], (coins < 0.5).to(self.p.dtype)], 1)

    def __call__(self) -> tuple[Statistics, Statistics]:
        gibbs, generator = self.machine.gibbs, self.generator
        awake = self._anew(len(self.dreams))
        self.dreams[:, : self.inputs] = awake[:, : self.inputs]
        if self.machine.hidden:
            awake = gibbs(awake, self.sweeps, clamped=self.seen, generator=generator)
        self.dreams = gibbs(
            self.dreams, self.sweeps, clamped=self.held, generator=generator
        )
        return statistics_of(awake), statistics_of(self.dreams)
