r"""Energy-based models: a network whose one output is low where the data are.

`EnergyModel` is such a network. Its probabilities need an integral that nobody can take, and what
stands around it is about doing without: chains that draw from it (`langevin`), losses that use them
(`contrastive_divergence_loss`), and losses that need neither (`score_matching_loss` and its
relatives, `noise_contrastive_loss`). In two dimensions the integral is a sum over a grid
(`GridDensity`), so that all of them can be held to the truth.

An energy is any callable from examples to one number each; the class is only the usual one.

Chapter: chapters/energy/energy_based.md
Papers: LeCun et al. 2006; Hinton 2002; Hyvärinen 2005; Vincent 2011; Gutmann and Hyvärinen 2010;
Du and Mordatch 2019; Nijkamp et al. 2019; Grathwohl et al. 2019; Song et al. 2019
Axes: n examples or walkers, m others, d numbers of one, k classes.
"""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import ACTIVATIONS
from nnlib.energy._grid import GridDensity
from nnlib.energy._langevin import (
    Energy,
    PersistentChains,
    Walked,
    langevin,
    metropolis_langevin,
)
from nnlib.energy._losses import (
    contrastive_divergence_loss,
    detection_auc,
    joint_energy,
    margin_loss,
    noise_contrastive_loss,
)
from nnlib.energy._score_matching import (
    denoising_score_matching_loss,
    explicit_score_matching_loss,
    score,
    score_matching_loss,
    sliced_score_matching_loss,
)

__all__ = [
    "Energy",
    "EnergyModel",
    "GridDensity",
    "PersistentChains",
    "Walked",
    "contrastive_divergence_loss",
    "denoising_score_matching_loss",
    "detection_auc",
    "explicit_score_matching_loss",
    "joint_energy",
    "langevin",
    "margin_loss",
    "metropolis_langevin",
    "noise_contrastive_loss",
    "score",
    "score_matching_loss",
    "sliced_score_matching_loss",
]


class EnergyModel(nn.Module):
    r"""A multi-layer perceptron that gives every example one number, over a bowl if wanted.

    $E_\theta(\mathbf x) = f_\theta(\mathbf x) + \tfrac{1}{2\tau^2}\lVert\mathbf x\rVert^2$
    (equation `energy-based-network`). The bowl of width τ makes the energy rise in all directions
    where f grows more slowly than a square, as it does with these activations, so that Z is finite.

    Args:
        num_features: d, ≥ 1.
        hidden_size: units of each hidden layer, ≥ 1.
        num_layers: hidden layers, ≥ 1.
        activation: name of a smooth one; those with a kink have no second derivative, which score
            matching needs.
        bowl: τ > 0; None leaves the bowl out.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> EnergyModel(num_features=2)(torch.zeros(5, 2)).shape
        torch.Size([5])

    Source: the energy as a network's output, LeCun et al. 2006; over a Gaussian, Xie et al. 2016.
    """

    def __init__(
        self,
        num_features: int,
        hidden_size: int = 64,
        num_layers: int = 2,
        activation: str = "silu",
        bowl: float | None = None,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_features = checks.count("num_features", num_features)
        hidden = [checks.count("hidden_size", hidden_size)] * checks.count(
            "num_layers", num_layers
        )
        self.activation = ACTIVATIONS[
            checks.one_of("activation", activation, ACTIVATIONS)
        ]
        self.bowl = None if bowl is None else checks.number("bowl", bowl, above=0)
        self.layers = nn.ModuleList(
            nn.Linear(inputs, outputs, device=device, dtype=dtype)
            for inputs, outputs in pairwise([num_features, *hidden, 1])
        )

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the energy of each row, in nats up to a constant."""
        checks.tensor("x", x, shape=("n", self.num_features), floating=True)
        h = x
        for layer in self.layers[:-1]:
            h = self.activation(layer(h))
        energy = self.layers[-1](h)[:, 0]
        if self.bowl is not None:
            energy = energy + x.square().sum(1) / (
                2 * self.bowl**2
            )  # eq. energy-based-network
        return energy
