"""Two layers without edges inside them: energies, conditionals, chains, statistics.

What real-numbered visible units do otherwise stands in the last block of `Bipartite`.

Axes: n examples, m chains, v visible units, h hidden units.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.types import Device

from nnlib import checks
from nnlib.energy._binary import drawn

Generator = torch.Generator


class Bipartite(nn.Module):
    """What binary and Gaussian machines share: parameters, energies, conditionals, chains."""

    def __init__(
        self,
        visible: int,
        hidden: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.visible = checks.count("visible", visible)
        self.hidden = checks.count("hidden", hidden)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(visible, hidden, **place))
        self.visible_bias = nn.Parameter(torch.empty(visible, **place))
        self.hidden_bias = nn.Parameter(torch.empty(hidden, **place))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw small weights; set both biases to zero."""
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.visible_bias)
        nn.init.zeros_(self.hidden_bias)

    def extra_repr(self) -> str:
        """Return the two sizes."""
        return f"visible={self.visible}, hidden={self.hidden}"

    # ------------------------------------------------------------------------- energies
    def energy(
        self, v: Float[Tensor, "n v"], h: Float[Tensor, "n h"]
    ) -> Float[Tensor, " n"]:
        """Return the energy of each pair of rows (equation `rbm-energy`)."""
        self._rows("v", v, self.visible)
        checks.tensor("h", h, shape=(len(v), self.hidden), floating=True)
        coupled = (self.hidden_inputs(v) * h).sum(1)  # with the hidden biases
        return -coupled - self.visible_term(v, self.visible_bias)  # eq. rbm-energy

    def free_energy(self, v: Float[Tensor, "n v"]) -> Float[Tensor, " n"]:
        r"""Return $-\mathbf b^\top\mathbf v - \sum_j\operatorname{softplus}(\cdot)$ of each row.

        Equation `rbm-free-energy`: $e^{-F}$ is the sum of $e^{-E}$ over all hidden states.
        """
        self._rows("v", v, self.visible)
        summed = F.softplus(self.hidden_inputs(v)).sum(1)
        return -self.visible_term(v, self.visible_bias) - summed  # eq. rbm-free-energy

    def forward(self, v: Float[Tensor, "n v"]) -> Float[Tensor, " n"]:
        """Return the free energy of each row."""
        return self.free_energy(v)

    # --------------------------------------------------------------- one layer given the other
    def hidden_probs(self, v: Float[Tensor, "n v"]) -> Float[Tensor, "n h"]:
        """Return how probable each hidden unit is, given a row (equation `rbm-hidden`)."""
        self._rows("v", v, self.visible)
        return self.hidden_inputs(v).sigmoid()  # eq. rbm-hidden

    def visible_probs(self, h: Float[Tensor, "n h"]) -> Float[Tensor, "n v"]:
        """Return how probable each visible unit is, given hidden ones (eq. `rbm-visible`)."""
        self._rows("h", h, self.hidden)
        return self.visible_mean(self.visible_drive(h))  # eq. rbm-visible

    def gibbs(
        self,
        v: Float[Tensor, "n v"],
        steps: int = 1,
        generator: Generator | None = None,
    ) -> Float[Tensor, "n v"]:
        """Walk `steps` times from visible to hidden units and back, drawing both.

        Args:
            v: where the chains begin, a row each.
            steps: pairs of half-steps, ≥ 0.
            generator: source of the randomness; torch's own if None.
        """
        self._rows("v", v, self.visible)
        with torch.no_grad():
            for _ in range(checks.count("steps", steps, least=0)):
                h = drawn(self.hidden_inputs(v).sigmoid(), generator)
                v = self.draw_visible(self.visible_drive(h), generator)
        return v

    # ----------------------------------------------------------------------------- learning
    def cd_step(
        self,
        v: Float[Tensor, "n v"],
        optimizer: Optimizer | None = None,
        *,
        k: int = 1,
        chains: Float[Tensor, "m h"] | None = None,
        generator: Generator | None = None,
    ) -> Float[Tensor, "m h"]:
        r"""Take one step of contrastive divergence, or of its persistent form.

        Writes the difference of statistics, as the gradient of a loss, into `.grad` of the
        three parameters (equation `rbm-cd`), and lets the optimizer take its step.

        Args:
            v: a batch of data, bits or probabilities.
            optimizer: of these parameters; if None, only `.grad` is written.
            k: steps of Gibbs sampling, ≥ 1.
            chains: hidden bits where the chains begin: what the last call returned, for
                persistent contrastive divergence; drawn given the batch if None.
            generator: source of the randomness; torch's own if None.

        Returns:
            The hidden bits of the chains after `k` steps.
        """
        self._rows("v", v, self.visible)
        checks.count("k", k)
        with torch.no_grad():
            positive = self.hidden_inputs(v).sigmoid()
            if chains is None:
                h = drawn(positive, generator)
            else:
                h = self._rows("chains", chains, self.hidden)
            for _ in range(k):
                particles = self.draw_visible(self.visible_drive(h), generator)
                negative = self.hidden_inputs(particles).sigmoid()
                h = drawn(negative, generator)
            self._write_gradient(v, positive, particles, negative)
        if optimizer is not None:
            optimizer.step()
        return h

    # ------------------------------------------- what a machine of real numbers does otherwise
    sums_over_visible = True
    """Whether the visible states can be listed."""

    @property
    def precision(self) -> float:
        """What divides the products of weights and visible units in the energy."""
        return 1.0

    def hidden_inputs(self, v: Tensor) -> Tensor:
        """Return what each hidden unit gets: its bias and its weighted sum."""
        return torch.addmm(self.hidden_bias, v, self.weight)

    def visible_term(self, v: Tensor, bias: Tensor) -> Tensor:
        """Return what visible units with this bias add to minus the energy."""
        return v @ bias

    def visible_mean(self, drive: Tensor) -> Tensor:
        """Return the mean of visible units, given bias and weighted sum."""
        return drive.sigmoid()

    def draw_visible(self, drive: Tensor, generator: Generator | None) -> Tensor:
        """Draw visible units, given bias and weighted sum."""
        return drawn(drive.sigmoid(), generator)

    def visible_log_prob(
        self, v: Float[Tensor, "n v"], h: Float[Tensor, "n h"]
    ) -> Float[Tensor, " n"]:
        """Return the log-probability of visible rows given hidden ones, in nats."""
        drive = self.visible_drive(h)
        return -F.binary_cross_entropy_with_logits(drive, v, reduction="none").sum(1)

    def log_sum_over_visible(self, h: Tensor) -> Tensor:
        """Return the logarithm of the sum of exp(−E) over all visible states."""
        return h @ self.hidden_bias + self.base_log_sum(self.visible_drive(h))

    def base_bias(self, mean: Tensor | None) -> Tensor:
        """Return the biases of independent units of this mean; one half if None."""
        if mean is None:
            return torch.zeros_like(self.visible_bias)
        return mean.to(self.visible_bias).clamp(0.01, 0.99).logit()

    def base_log_sum(self, bias: Tensor) -> Tensor:
        """Return log Z of independent visible units with these biases."""
        return F.softplus(bias).sum(-1)

    def visible_drive(self, h: Tensor) -> Tensor:
        """Return what each visible unit gets: its bias and its weighted sum."""
        return torch.addmm(self.visible_bias, h, self.weight.T)

    def _write_gradient(
        self, v: Tensor, positive: Tensor, w: Tensor, negative: Tensor
    ) -> None:
        """Write the difference of statistics, particles `w` less data `v`."""
        scale = self.precision
        weight = (w.T @ negative).mul_(scale / len(w))
        self.weight.grad = weight.addmm_(v.T, positive, alpha=-scale / len(v))
        self.visible_bias.grad = w.mean(0).sub_(v.mean(0)).mul_(scale)
        self.hidden_bias.grad = negative.mean(0).sub_(positive.mean(0))  # eq. rbm-cd

    def _rows(self, name: str, value: Any, size: int) -> Tensor:
        return checks.tensor(name, value, shape=("n", size), floating=True)
