r"""The partition function of a restricted Boltzmann machine: exact, and by annealing.

Annealed importance sampling (Neal 2001; for these machines Salakhutdinov and Murray 2008) walks
from independent pixels, whose $Z$ is known, to the machine through intermediate ones. The mean of
its weights is unbiased for $Z$, so their logarithm is too small on average: a lower bound. The same
walk backwards, from samples of the machine, gives an upper one (Burda, Grosse and Salakhutdinov
2015).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.energy._binary import MAX_UNITS, all_states, drawn
from nnlib.energy._bipartite import Bipartite

ROWS = 4096  # at a time


class LogPartition(NamedTuple):
    """What `RBM.log_partition` returns, in nats.

    Attributes:
        value: the estimate of log Z.
        low: log Z with the mean weight less three standard errors; −inf if that is not positive.
        high: log Z with three standard errors more.
        effective: how many equal weights would be as certain; infinite if exact.
    """

    value: float
    low: float
    high: float
    effective: float


def value_of(log_partition: float | LogPartition) -> float:
    """Return log Z itself, whether it came with its error bar or not."""
    if isinstance(log_partition, LogPartition):
        return log_partition.value
    return checks.number("log_partition", log_partition)


def log_partition(
    rbm: Bipartite,
    method: str = "ais",
    *,
    chains: int = 500,
    steps: int = 1000,
    base: Float[Tensor, " v"] | None = None,
    samples: Float[Tensor, "m v"] | None = None,
    generator: torch.Generator | None = None,
) -> LogPartition:
    r"""Return $\log Z$ of a machine with its error bar.

    Args:
        rbm: the machine.
        method: `"exact"`, `"ais"` or `"reverse"`.
        chains: independent walks of `"ais"`, ≥ 2.
        steps: intermediate machines, ≥ 1.
        base: mean of the data, in [0, 1]: where the walk begins; one half everywhere if None.
        samples: of the model, where `"reverse"` begins: as good as they are, so is its bound.
        generator: source of the randomness; torch's own if None.

    Raises:
        ValueError: `"exact"` with more than 20 units in both layers; the message says how many
            states that would be.
    """
    checks.one_of("method", method, ("exact", "ais", "reverse"))
    checks.count("chains", chains, least=2)
    checks.count("steps", steps)
    with torch.no_grad():
        if method == "exact":
            value = _exact(rbm)
            return LogPartition(value, value, value, math.inf)
        path = _Path(rbm, base, generator)
        if method == "ais":
            return _mean(path.forwards(chains, steps), path.first)
        if samples is None:
            raise ValueError(
                "samples=None: method='reverse' begins at samples of the model"
            )
        checks.tensor(
            "samples", samples, shape=("m", rbm.visible), floating=True, empty=False
        )
        found = _mean(path.backwards(samples, steps), -path.first)
    return LogPartition(-found.value, -found.high, -found.low, found.effective)


def _exact(rbm: Bipartite) -> float:
    """Sum over all states of the smaller layer, thousands at a time."""
    transposed = rbm.sums_over_visible and rbm.visible < rbm.hidden
    units = rbm.visible if transposed else rbm.hidden
    if units > MAX_UNITS:
        raise ValueError(
            f"method='exact' would sum over 2^{units} = {2**units} states; it takes at most "
            f"{MAX_UNITS} units in the smaller layer, so use method='ais'"
        )
    states = all_states(units).to(rbm.weight)
    logs = [
        -rbm.free_energy(rows) if transposed else rbm.log_sum_over_visible(rows)
        for rows in states.split(ROWS)
    ]
    return torch.cat(logs).double().logsumexp(0).item()


class _Path:
    """The machines between independent units (β = 0) and `rbm` (β = 1).

    At β the weights and the hidden biases are β times those of `rbm`, and the visible biases lie
    that far on the way from the base's.
    """

    def __init__(
        self, rbm: Bipartite, base: Tensor | None, generator: torch.Generator | None
    ):
        self.rbm, self.generator = rbm, generator
        if base is not None:
            checks.tensor(
                "base", base, shape=(rbm.visible,), floating=True, finite=True
            )
        self.bias = rbm.base_bias(base)
        self.first = float(rbm.base_log_sum(self.bias)) + rbm.hidden * math.log(2)

    def _between(self, beta: float) -> Tensor:
        return torch.lerp(self.bias, self.rbm.visible_bias, beta)

    def _log_weight(self, v: Tensor, inputs: Tensor, beta: float) -> Tensor:
        """Return log f at β: minus the free energy of `v` there."""
        visible = self.rbm.visible_term(v, self._between(beta)).double()
        return visible + F.softplus(beta * inputs).sum(1).double()

    def _step(self, inputs: Tensor, beta: float) -> Tensor:
        """Draw hidden and then visible units at β."""
        h = drawn((beta * inputs).sigmoid(), self.generator)
        drive = torch.addmm(self._between(beta), h, self.rbm.weight.T, alpha=beta)
        return self.rbm.draw_visible(drive, self.generator)

    def forwards(self, chains: int, steps: int) -> Tensor:
        """Walk from the base to the machine; return the logarithms of the weights."""
        v = self.rbm.draw_visible(self.bias.expand(chains, -1), self.generator)
        total = torch.zeros(chains, dtype=torch.float64, device=v.device)
        for at in range(1, steps + 1):
            inputs = self.rbm.hidden_inputs(v)
            total += self._log_weight(v, inputs, at / steps)  # eq. rbm-ais
            total -= self._log_weight(v, inputs, (at - 1) / steps)
            v = self._step(inputs, at / steps)
        return total

    def backwards(self, samples: Tensor, steps: int) -> Tensor:
        """Walk from the machine's samples to the base; their weights estimate 1 / Z."""
        v = samples
        total = torch.zeros(len(v), dtype=torch.float64, device=v.device)
        for at in range(steps, 0, -1):
            v = self._step(self.rbm.hidden_inputs(v), at / steps)
            inputs = self.rbm.hidden_inputs(v)
            total += self._log_weight(v, inputs, (at - 1) / steps)
            total -= self._log_weight(v, inputs, at / steps)
        return total


def _mean(logs: Tensor, first: float) -> LogPartition:
    """Return the logarithm of the mean weight, with three standard errors, plus `first`."""
    top = logs.max()
    weights = (logs - top).exp()
    mean, error = weights.mean(), weights.std() / len(weights) ** 0.5
    low, value, high = (mean + at * error for at in (-3, 0, 3))
    effective = weights.sum().square() / weights.square().sum()
    shift = top.item() + first
    return LogPartition(
        shift + math.log(value),
        shift + math.log(low) if low > 0 else -math.inf,
        shift + math.log(high),
        effective.item(),
    )
