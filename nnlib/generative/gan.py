r"""Generative adversarial networks: a generator that forges, a discriminator that judges.

A loss of the game, such as `non_saturating_loss(real, fake)`, takes the discriminator's scores (no
sigmoid) of real and of generated examples, and has a part for each player. `r1_penalty` and
`gradient_penalty` keep the discriminator's slope in bounds, `spectral_norm_` its weights.
`Generator` and `Discriminator` are multi-layer perceptrons, `ConvGenerator` and `ConvDiscriminator`
those of DCGAN; `PatchGAN` judges patches; `ModulatedConv2d`, `MappingNetwork` and `StyleGenerator`
are the parts of StyleGAN2 and a small whole.

Chapter: chapters/generative/gan.md     Papers: Goodfellow et al. 2014; Arjovsky et al. 2017;
Gulrajani et al. 2017; Mescheder et al. 2018; Miyato et al. 2018; Isola et al. 2017;
Karras et al. 2018, 2019, 2020; Huang et al. 2025
Axes: n examples, d numbers of an example, h latent numbers, s numbers of a style, c channels, y x
rows and columns of a picture, k classes.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import activation as named
from nnlib.blocks.batch_norm import BatchNorm1d
from nnlib.generative._gan_convolutions import (
    ConvDiscriminator,
    ConvGenerator,
    PatchGAN,
)
from nnlib.generative._gan_losses import (
    Losses,
    hinge_loss,
    least_squares_loss,
    minimax_loss,
    non_saturating_loss,
    relativistic_loss,
    wasserstein_loss,
)
from nnlib.generative._gan_parts import SLOPE, _widths
from nnlib.generative._gan_penalties import (
    Scored,
    SpectralNorm,
    clip_weights_,
    gradient_penalty,
    r1_penalty,
    spectral_norm_,
)
from nnlib.generative._style_generator import (
    EPS,
    MappingNetwork,
    ModulatedConv2d,
    StyleGenerator,
    path_lengths,
    truncate,
)
from nnlib.train.evaluating import evaluating

__all__ = [
    "EPS",
    "SLOPE",
    "ConvDiscriminator",
    "ConvGenerator",
    "Discriminator",
    "Generator",
    "Losses",
    "MappingNetwork",
    "ModulatedConv2d",
    "PatchGAN",
    "Scored",
    "SpectralNorm",
    "StyleGenerator",
    "clip_weights_",
    "cycle_consistency",
    "gradient_penalty",
    "hinge_loss",
    "least_squares_loss",
    "minibatch_std",
    "minimax_loss",
    "non_saturating_loss",
    "path_lengths",
    "r1_penalty",
    "relativistic_loss",
    "spectral_norm_",
    "truncate",
    "wasserstein_loss",
]


def minibatch_std(x: Float[Tensor, "n *d"]) -> Float[Tensor, ""]:
    r"""Return the standard deviation of each number over the batch, averaged over all numbers.

    Handed to the discriminator as one more feature, it shows that the samples of a batch are too
    much alike, which no single one of them does (equation `gan-minibatch-std`).

    Args:
        x: features of a batch of two examples or more.

    Source: Karras et al. 2018.
    """
    checks.tensor("x", x, floating=True)
    if len(x) < 2:
        raise ValueError(f"x must hold 2 examples or more, got {len(x)}")
    variance = x.var(0, correction=0)
    return (variance + EPS).sqrt().mean()  # eq. gan-minibatch-std


class Generator(nn.Module):
    r"""From noise to an example: $\tilde{\mathbf x} = G(\mathbf z)$ (equation `gan-generator`).

    A multi-layer perceptron with batch norm. With `num_classes`, the class is told by an embedding
    beside the noise.

    Args:
        latent_size: numbers h of the noise.
        output_size: numbers d of an example.
        hidden_sizes: widths of the hidden layers.
        output_activation: `sigmoid` for examples in 0 … 1, `tanh` for −1 … 1, `identity` else.
        num_classes: 0 for none.
        batch_norm: whether hidden layers have it.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> generator = Generator(latent_size=16, output_size=64)
        >>> generator(torch.randn(5, 16)).shape, generator.sample(3).shape
        (torch.Size([5, 64]), torch.Size([3, 64]))

    Source: Goodfellow et al. 2014; batch norm in it: Radford, Metz and Chintala 2015.
    """

    def __init__(
        self,
        latent_size: int,
        output_size: int,
        hidden_sizes: Sequence[int] = (128, 128),
        output_activation: str = "sigmoid",
        *,
        num_classes: int = 0,
        batch_norm: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.latent_size = checks.count("latent_size", latent_size)
        self.output_size = checks.count("output_size", output_size)
        self.num_classes = checks.count("num_classes", num_classes, least=0)
        widths = _widths("hidden_sizes", hidden_sizes)
        self.batch_norm = norm = checks.flag("batch_norm", batch_norm)
        choices = ("sigmoid", "tanh", "identity")
        self.output_activation = named(
            output_activation, choices, argument="output_activation"
        )
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.class_embedding = (
            nn.Embedding(num_classes, latent_size, **like) if num_classes else None
        )
        told = latent_size * (2 if num_classes else 1)
        layers: list[nn.Module] = []
        for a, b in pairwise((told, *widths)):
            layers.append(nn.Linear(a, b, bias=not norm, **like))
            layers += [BatchNorm1d(b, **like)] if norm else []
            layers.append(nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear((told, *widths)[-1], output_size, **like)

    def forward(
        self, z: Float[Tensor, "n h"], y: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Return generated examples.

        Args:
            z: noise, standard normal.
            y: their classes, with `num_classes` only.
        """
        checks.tensor("z", z, shape=("n", self.latent_size), floating=True)
        if self.batch_norm and self.training and len(z) < 2:
            raise ValueError(
                f"z must have 2 rows or more, in training with batch norm, got {len(z)}"
            )
        embedded = _embedded(self.class_embedding, self.num_classes, y, len(z))
        told = z if embedded is None else torch.cat([z, embedded], 1)
        return self.output_activation(self.head(self.body(told)))  # eq. gan-generator

    @torch.no_grad()
    def sample(
        self, num_samples: int, y: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw examples, in evaluation mode: batch norm with what it saw in training.

        Args:
            num_samples: how many, ≥ 1.
            y: a class for each, with `num_classes` only.
        """
        like = self.head.weight
        shape = (checks.count("num_samples", num_samples), self.latent_size)
        with evaluating(self):
            return self(torch.randn(shape, device=like.device, dtype=like.dtype), y)


class Discriminator(nn.Module):
    r"""A score for each example, high for real ones: $D = \sigma(s)$ (equation `gan-scores`).

    A multi-layer perceptron without batch norm. With `num_classes` it is a projection
    discriminator: $s = \boldsymbol\psi^\top\boldsymbol\phi + b + \mathbf e_y^\top\boldsymbol\phi$
    of the last features $\boldsymbol\phi(\mathbf x)$ (equation `gan-projection`).

    Args:
        input_size: numbers d of an example.
        hidden_sizes: widths of the hidden layers, one or more.
        num_classes: 0 for none.
        batch_std: whether the last layer also sees `minibatch_std` of its features.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> Discriminator(input_size=64)(torch.rand(5, 64)).shape
        torch.Size([5])

    Source: Goodfellow et al. 2014; projection: Miyato and Koyama 2018.
    """

    def __init__(
        self,
        input_size: int,
        hidden_sizes: Sequence[int] = (128, 128),
        *,
        num_classes: int = 0,
        batch_std: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = checks.count("input_size", input_size)
        self.num_classes = checks.count("num_classes", num_classes, least=0)
        self.batch_std = checks.flag("batch_std", batch_std)
        widths = _widths("hidden_sizes", hidden_sizes)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        for a, b in pairwise((input_size, *widths)):
            layers += [nn.Linear(a, b, **like), nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] + batch_std, 1, **like)
        self.class_embedding = (
            nn.Embedding(num_classes, widths[-1], **like) if num_classes else None
        )

    def forward(
        self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"] | None = None
    ) -> Float[Tensor, " n"]:
        """Return a score for each example; the probability of "real" is its sigmoid.

        Args:
            x: examples.
            y: their classes, with `num_classes` only.
        """
        checks.tensor("x", x, shape=("n", self.input_size), floating=True)
        embedded = _embedded(self.class_embedding, self.num_classes, y, len(x))
        features = self.body(x)
        told = features
        if self.batch_std:
            told = torch.cat([told, minibatch_std(told).expand(len(x), 1)], 1)
        score = self.head(told).squeeze(1)
        if embedded is not None:
            score = score + (embedded * features).sum(1)  # eq. gan-projection
        return score


def _embedded(
    embedding: nn.Embedding | None, num_classes: int, y: Tensor | None, length: int
) -> Tensor | None:
    if (y is None) != (embedding is None):
        raise ValueError(
            f"y must be {'None' if embedding is None else 'classes'} "
            f"with num_classes={num_classes}"
        )
    if embedding is None or y is None:
        return None
    return embedding(checks.labels("y", y, num_classes, length=length))


def cycle_consistency(
    there: Callable[[Tensor], Tensor],
    back: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n *d"],
) -> Float[Tensor, ""]:
    r"""Return $\overline{\lvert F(G(x)) - x\rvert}$: how far x is from itself, there and back.

    CycleGAN asks it in both directions (equation `gan-cycle`).

    Args:
        there: from this kind of picture to the other.
        back: from the other to this.
        x: pictures of this kind.

    Example:
        >>> cycle_consistency(lambda x: 2 * x, lambda y: y / 2, torch.rand(3, 4))
        tensor(0.)

    Source: Zhu et al. 2017.
    """
    checks.tensor("x", x, floating=True, empty=False)
    return F.l1_loss(back(there(x)), x)  # eq. gan-cycle
