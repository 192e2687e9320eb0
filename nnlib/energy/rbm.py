r"""Restricted Boltzmann machines: two layers, no edges within a layer, so sampling is a product.

Given one layer, the units of the other are independent; hidden units can be summed out in closed
form, which leaves the free energy of the visible ones. `GaussianRBM` takes real numbers in place of
bits, and `DeepBeliefNetwork` is a stack of machines.

Chapter: chapters/energy/rbm.md
Papers: Smolensky 1986 (harmonium), Hinton 2002 (contrastive divergence), Tieleman 2008 (persistent
chains), Salakhutdinov and Murray 2008 (log Z by annealed importance sampling), Hinton et al. 2006
(stacks)
Axes: n examples, m chains, v visible units, h hidden units.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.distribution import extra
from nnlib.energy._binary import drawn
from nnlib.energy._bipartite import Bipartite
from nnlib.energy._deep_belief import DeepBeliefNetwork
from nnlib.energy._rbm_learning import Recipe, fit
from nnlib.energy._rbm_partition import LogPartition, log_partition, value_of

__all__ = ["RBM", "DeepBeliefNetwork", "GaussianRBM", "LogPartition"]

Generator = torch.Generator


class RBM(Bipartite):
    r"""A Boltzmann machine of bits whose edges all run between a visible and a hidden layer.

    $E(\mathbf v, \mathbf h) = -\mathbf v^\top\mathbf W\mathbf h - \mathbf b^\top\mathbf v -
    \mathbf c^\top\mathbf h$ (equation `rbm-energy`). Called with visible vectors it returns their
    free energy, so it fits wherever an energy function is asked for.

    The weight is visible × hidden, as the papers have it, since neither layer is the input of the
    other; torch's `Linear` would hold its transpose. Weights begin as normal numbers of standard
    deviation 0.01 and biases at zero.

    Args:
        visible: units that data are put on, ≥ 1.
        hidden: units that are never seen, ≥ 1.
        device: where the parameters lie.
        dtype: of the parameters.

    Example:
        >>> rbm = RBM(visible=6, hidden=3)
        >>> v = torch.bernoulli(torch.full((5, 6), 0.5))
        >>> rbm.free_energy(v).shape, rbm.gibbs(v, steps=10).shape
        (torch.Size([5]), torch.Size([5, 6]))
        >>> round(RBM(2, 2).log_partition(method="exact").value, 1)  # almost 4 log 2
        2.8

    Source:
        Smolensky 1986; Hinton 2002, 2012.
    """

    def fit(
        self,
        data: Float[Tensor, "n v"],
        chains: Float[Tensor, "m h"] | None = None,
        **how: Any,
    ) -> Float[Tensor, "m h"]:
        """Learn from rows of `data`; return the hidden bits of the chains at the end.

        Args:
            data: bits, or probabilities, a row an example.
            chains: where persistent chains begin: what an earlier call returned; drawn given
                the first batch if None.
            **how: `steps` (1000), `batch_size` (64), `lr` (0.1), `k` (1), `persistent` (True),
                `momentum` (0), `weight_decay` (0), `anneal` (True) and `seed` (0).
        """
        self._rows("data", data, self.visible)
        return fit(self, data, Recipe(**how), chains)

    # ---------------------------------------------------------------------------- likelihood
    def log_partition(self, method: str = "ais", **how: Any) -> LogPartition:
        r"""Return $\log Z$ with its error bar (equation `rbm-ais`).

        Args:
            method: `"exact"` sums over all states of the smaller layer, of at most 20 units;
                `"ais"` anneals from independent pixels to this machine; `"reverse"` anneals back.
            **how: for the last two, `chains`, `steps`, `base` (mean of the data, or None) and
                `generator`; `"reverse"` needs `samples` of the model, too.
        """
        return log_partition(self, method, **how)

    def log_prob(
        self, v: Float[Tensor, "n v"], log_partition: float | LogPartition
    ) -> Float[Tensor, " n"]:
        """Return the log-probability of each row, in nats (equation `rbm-likelihood`).

        Args:
            v: a row each.
            log_partition: what `log_partition` returned, or its value.
        """
        return -self.free_energy(v) - value_of(log_partition)

    def pseudo_log_likelihood(self, v: Float[Tensor, "n v"]) -> Float[Tensor, " n"]:
        """Return the sum over pixels of the log-probability of each given all others.

        Needs no partition function (equation `rbm-pseudo`), so it can be watched in training.
        """
        self._rows("v", v, self.visible)
        total = torch.zeros(len(v), dtype=v.dtype, device=v.device)
        here = self.free_energy(v)
        for at in range(self.visible):
            other = v.clone()
            other[:, at] = 1 - other[:, at]
            total = total + F.logsigmoid(self.free_energy(other) - here)
        return total

    def complete(
        self,
        v: Float[Tensor, "n v"],
        known: Bool[Tensor, "..."],
        steps: int = 100,
        burn_in: int = 20,
        generator: Generator | None = None,
    ) -> Float[Tensor, "n v"]:
        """Fill in what is unknown: Gibbs sampling with the known units held.

        Args:
            v: rows whose known entries are taken, and the others ignored.
            known: True where a unit is known: for each row, or one mask for all.
            steps: of Gibbs sampling whose probabilities are averaged, ≥ 1.
            burn_in: steps before them, ≥ 0.
            generator: source of the randomness; torch's own if None.

        Returns:
            The known entries as given, and the mean probability of the others.
        """
        self._rows("v", v, self.visible)
        known = _mask(known, v)
        checks.count("steps", steps)
        checks.count("burn_in", burn_in, least=0)
        total = torch.zeros_like(v)
        with torch.no_grad():
            now = torch.where(known, v, 0.5)
            for step in range(burn_in + steps):
                drive = self.visible_drive(
                    drawn(self.hidden_inputs(now).sigmoid(), generator)
                )
                now = torch.where(known, v, self.draw_visible(drive, generator))
                if step >= burn_in:
                    total += self.visible_mean(drive)
        return torch.where(known, v, total / steps)

    # -------------------------------------------------------------------------- scikit-learn
    @classmethod
    def from_scikit_learn(cls, model: Any) -> "RBM":
        """Return a machine with the weights of a fitted `BernoulliRBM`."""
        if not hasattr(model, "components_"):
            raise ValueError(f"model={model!r} must be a fitted BernoulliRBM")
        weight = torch.as_tensor(model.components_).T
        rbm = cls(*weight.shape, dtype=weight.dtype)
        with torch.no_grad():
            rbm.weight.copy_(weight)
            rbm.visible_bias.copy_(torch.as_tensor(model.intercept_visible_))
            rbm.hidden_bias.copy_(torch.as_tensor(model.intercept_hidden_))
        return rbm

    def to_scikit_learn(self) -> Any:
        """Return a `BernoulliRBM` with these weights, ready for `transform` and `gibbs`."""
        with extra("data"):
            from sklearn.neural_network import BernoulliRBM

        model = BernoulliRBM(n_components=self.hidden)
        model.components_ = self.weight.detach().cpu().numpy().T.copy()
        model.intercept_visible_ = self.visible_bias.detach().cpu().numpy().copy()
        model.intercept_hidden_ = self.hidden_bias.detach().cpu().numpy().copy()
        model.n_features_in_ = self.visible
        return model


class GaussianRBM(RBM):
    r"""A machine whose visible units are real numbers: a mixture of $2^h$ Gaussians.

    $E(\mathbf v, \mathbf h) = \lVert\mathbf v - \mathbf b\rVert^2 / 2s^2 -
    \mathbf v^\top\mathbf W\mathbf h / s^2 - \mathbf c^\top\mathbf h$
    (equation `rbm-gaussian`). Given the hidden bits, $\mathbf v$ is normal around
    $\mathbf b + \mathbf W\mathbf h$ with standard deviation $s$. Standardise the data, and train at
    a tenth of the rate or less.

    Args:
        visible: units that data are put on, ≥ 1.
        hidden: units that are never seen, ≥ 1.
        scale: standard deviation s of a visible unit given the hidden ones, > 0; not learned.
        device: where the parameters lie.
        dtype: of the parameters.

    Example:
        >>> rbm = GaussianRBM(visible=3, hidden=2)
        >>> rbm.gibbs(torch.zeros(4, 3)).shape
        torch.Size([4, 3])

    Source:
        Welling, Rosen-Zvi and Hinton 2004; in this form Cho, Ilin and Raiko 2011.
    """

    sums_over_visible = False

    def __init__(
        self,
        visible: int,
        hidden: int,
        scale: float = 1.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(visible, hidden, device=device, dtype=dtype)
        self.scale = checks.number("scale", scale, above=0)

    @property
    def precision(self) -> float:
        """What divides the products of weights and visible units in the energy."""
        return 1 / self.scale**2

    def hidden_inputs(self, v: Tensor) -> Tensor:
        """Return what each hidden unit gets: its bias and its weighted sum."""
        return torch.addmm(self.hidden_bias, v, self.weight, alpha=self.precision)

    def visible_term(self, v: Tensor, bias: Tensor) -> Tensor:
        """Return what visible units with this bias add to minus the energy."""
        return -(v - bias).square().sum(-1) / (2 * self.scale**2)

    def visible_mean(self, drive: Tensor) -> Tensor:
        """Return the mean of visible units, given bias and weighted sum."""
        return drive

    def draw_visible(self, drive: Tensor, generator: Generator | None) -> Tensor:
        """Draw visible units, given bias and weighted sum."""
        noise = torch.randn(
            drive.shape, generator=generator, dtype=drive.dtype, device=drive.device
        )
        return drive + self.scale * noise

    def visible_log_prob(
        self, v: Float[Tensor, "n v"], h: Float[Tensor, "n h"]
    ) -> Float[Tensor, " n"]:
        """Return the log-density of visible rows given hidden ones, in nats."""
        return self.visible_term(v, self.visible_drive(h)) - self.base_log_sum(v)

    def log_sum_over_visible(self, h: Tensor) -> Tensor:
        """Return the logarithm of the integral of exp(−E) over the visible units."""
        grown = (
            self.visible_drive(h).square().sum(-1) - self.visible_bias.square().sum()
        )
        grown = grown / (2 * self.scale**2)
        return h @ self.hidden_bias + self.base_log_sum(self.visible_bias) + grown

    def base_bias(self, mean: Tensor | None) -> Tensor:
        """Return the biases of independent units of this mean; zero if None."""
        return torch.zeros_like(self.visible_bias) if mean is None else mean

    def base_log_sum(self, bias: Tensor) -> Tensor:
        """Return log Z of independent visible units, which no bias changes."""
        half = 0.5 * self.visible * math.log(2 * math.pi * self.scale**2)
        return torch.tensor(half, dtype=torch.float64)

    def pseudo_log_likelihood(self, v: Float[Tensor, "n v"]) -> Float[Tensor, " n"]:
        """Refuse: a real number has no other value to be compared with."""
        raise NotImplementedError(
            "pseudo_log_likelihood is of bits, not of real numbers"
        )


def _mask(known: Any, v: Tensor) -> Tensor:
    checks.tensor("known", known)
    if known.dtype != torch.bool:
        raise TypeError(f"known must hold True at known units, got {known.dtype}")
    if known.shape not in (v.shape, v.shape[1:]):
        raise ValueError(
            f"known must have shape {tuple(v.shape)} or {tuple(v.shape[1:])}, "
            f"got {tuple(known.shape)}"
        )
    return known
