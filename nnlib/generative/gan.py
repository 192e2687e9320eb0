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

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import activation as named
from nnlib.blocks.batch_norm import BatchNorm1d, BatchNorm2d
from nnlib.train.evaluating import evaluating

SLOPE = 0.2
"""Of the leaky ReLUs, below zero, as DCGAN has it."""
EPS = 1e-8

Scored = Callable[[Tensor], Tensor]
"""A discriminator as its penalties see it: examples in, a score for each, or one for each patch."""


# ------------------------------------------------------------------------------- losses of the game
class Losses(NamedTuple):
    """What each of the two players minimises; each player's optimizer sees its own alone."""

    discriminator: Tensor
    generator: Tensor


def minimax_loss(real: Float[Tensor, "*n"], fake: Float[Tensor, "*m"]) -> Losses:
    r"""Return minus the value of the game, and the part of the value that the generator moves.

    $-V = \overline{\operatorname{softplus}(-s)} + \overline{\operatorname{softplus}(\tilde s)}$ for
    scores s of real and s̃ of generated examples (equation `gan-minimax`), where $D = \sigma(s)$;
    the generator minimises $\overline{\log(1 - \sigma(\tilde s))}$, whose slope vanishes where the
    discriminator wins (`gan-saturation`). Softplus keeps both finite at any score.

    Args:
        real: scores of real examples.
        fake: scores of generated ones.

    Example:
        >>> minimax_loss(torch.zeros(3), torch.zeros(3)).discriminator  # log 4: it only guesses
        tensor(1.3863)

    Source: Goodfellow et al. 2014.
    """
    _scores(real, fake)
    saturated = F.softplus(fake).mean()
    return Losses(F.softplus(-real).mean() + saturated, -saturated)  # eq. gan-minimax


def non_saturating_loss(real: Float[Tensor, "*n"], fake: Float[Tensor, "*m"]) -> Losses:
    r"""Return the discriminator's cross-entropy, and the generator's with the labels swapped.

    The generator minimises $-\overline{\log\sigma(\tilde s)}$ (equation `gan-non-saturating`),
    whose slope is largest where the discriminator wins.

    Args:
        real: scores of real examples.
        fake: scores of generated ones.

    Example:
        >>> non_saturating_loss(torch.zeros(3), torch.full((3,), -100.0)).generator
        tensor(100.)

    Source: Goodfellow et al. 2014.
    """
    _scores(real, fake)
    judge = F.softplus(-real).mean() + F.softplus(fake).mean()
    return Losses(judge, F.softplus(-fake).mean())  # eq. gan-non-saturating


def least_squares_loss(real: Float[Tensor, "*n"], fake: Float[Tensor, "*m"]) -> Losses:
    """Return squared distances of the scores to 1 for real, 0 for generated (`gan-least-squares`).

    Args:
        real: scores of real examples.
        fake: scores of generated ones.

    Source: Mao et al. 2017.
    """
    _scores(real, fake)
    judge = 0.5 * ((real - 1).square().mean() + fake.square().mean())
    return Losses(judge, 0.5 * (fake - 1).square().mean())  # eq. gan-least-squares


def hinge_loss(real: Float[Tensor, "*n"], fake: Float[Tensor, "*m"]) -> Losses:
    """Return the hinge loss: scores beyond ±1 on the right side cost nothing (`gan-hinge`).

    Args:
        real: scores of real examples.
        fake: scores of generated ones.

    Source: Lim and Ye 2017; Miyato et al. 2018.
    """
    _scores(real, fake)
    judge = F.relu(1 - real).mean() + F.relu(1 + fake).mean()
    return Losses(judge, -fake.mean())  # eq. gan-hinge


def wasserstein_loss(real: Float[Tensor, "*n"], fake: Float[Tensor, "*m"]) -> Losses:
    r"""Return minus the critic's estimate of the Wasserstein distance, and its second half.

    $-(\bar s - \bar{\tilde s})$ and $-\bar{\tilde s}$ (equation `gan-wasserstein`): an estimate
    from below where the critic is 1-Lipschitz, which `gradient_penalty` asks of it.

    Args:
        real: scores of real examples.
        fake: scores of generated ones.

    Example:
        >>> wasserstein_loss(torch.ones(2), torch.zeros(2)).discriminator
        tensor(-1.)

    Source: Arjovsky, Chintala and Bottou 2017.
    """
    _scores(real, fake)
    return Losses(fake.mean() - real.mean(), -fake.mean())  # eq. gan-wasserstein


def relativistic_loss(real: Float[Tensor, "*n"], fake: Float[Tensor, "*n"]) -> Losses:
    """Return the loss of pairs: is the real one the more real of the two (`gan-relativistic`)?

    Args:
        real: scores of real examples.
        fake: scores of as many generated ones; each is paired with the real one at its place.

    Source: Jolicoeur-Martineau 2018; with R1 and R2, Huang et al. 2025.
    """
    _scores(real, fake)
    if real.shape != fake.shape:
        raise ValueError(
            f"fake must have the shape of real, {tuple(real.shape)}, got {tuple(fake.shape)}"
        )
    apart = real - fake
    return Losses(
        F.softplus(-apart).mean(), F.softplus(apart).mean()
    )  # eq. gan-relativistic


def _scores(real: Tensor, fake: Tensor) -> None:
    for name, value in (("real", real), ("fake", fake)):
        checks.tensor(name, value, floating=True, empty=False)


# ------------------------------------------------------------------------- penalties on the slope
def r1_penalty(
    discriminator: Scored, x: Float[Tensor, "n *d"], weight: float = 10.0
) -> Float[Tensor, ""]:
    r"""Return $\tfrac{\gamma}{2}\,\overline{\lVert\nabla_x D(x)\rVert^2}$ (equation `gan-r1`).

    Of real examples it is R1, of generated ones R2. The score's own slope is meant, before any
    sigmoid.

    Args:
        discriminator: gives scores; those of an example must depend on that example alone.
        x: examples.
        weight: γ, ≥ 0.

    Example:
        >>> r1_penalty(lambda x: x @ torch.tensor([3.0, 4.0]), torch.zeros(5, 2), weight=1.0)
        tensor(12.5000)

    Source: Mescheder, Geiger and Nowozin 2018.
    """
    checks.tensor("x", x, floating=True, empty=False)
    weight = checks.number("weight", weight, least=0)
    slope = _slope(discriminator, x)
    return 0.5 * weight * slope.square().sum(1).mean()  # eq. gan-r1


def gradient_penalty(
    discriminator: Scored,
    real: Float[Tensor, "n *d"],
    fake: Float[Tensor, "n *d"],
    weight: float = 10.0,
    share: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    r"""Return $\lambda\,\overline{(\lVert\nabla f(\hat x)\rVert - 1)^2}$ (`gan-gradient-penalty`).

    $\hat x$ lies between a real and a generated example, at a random place. The penalty encourages
    a slope of 1 there and guarantees none anywhere.

    Args:
        discriminator: gives scores; those of an example must depend on that example alone, so that
            it must have no batch norm.
        real: real examples.
        fake: as many generated ones.
        weight: λ, ≥ 0.
        share: of the real example in each mixture, 0 … 1; uniformly random if None.

    Example:
        >>> steep = lambda x: 3 * x[:, 0]
        >>> gradient_penalty(steep, torch.ones(4, 2), torch.zeros(4, 2), weight=1.0)
        tensor(4.)

    Source: Gulrajani et al. 2017.
    """
    checks.tensor("real", real, floating=True, empty=False)
    checks.tensor("fake", fake, shape=tuple(real.shape), floating=True)
    weight = checks.number("weight", weight, least=0)
    if share is None:
        share = torch.rand(len(real), device=real.device, dtype=real.dtype)
    checks.tensor("share", share, shape=(len(real),), floating=True)
    share = share.view(-1, *[1] * (real.ndim - 1))
    between = share * real.detach() + (1 - share) * fake.detach()  # eq. gan-interpolate
    slope = _slope(discriminator, between)
    norm = torch.linalg.vector_norm(slope, dim=1)  # its own slope at 0 is taken as 0
    return weight * (norm - 1).square().mean()  # eq. gan-gradient-penalty


def _slope(discriminator: Scored, x: Tensor) -> Tensor:
    """Return the gradient of each example's score, as a row that can be differentiated again."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        scores = discriminator(x)
        (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope.flatten(1)


@torch.no_grad()
def clip_weights_(model: nn.Module, limit: float = 0.01) -> None:
    """Force every parameter into −limit … limit: the first WGAN's bound on the critic's slope.

    Args:
        model: the critic, changed in place.
        limit: largest absolute value, > 0.

    Source: Arjovsky, Chintala and Bottou 2017.
    """
    limit = checks.number("limit", limit, above=0)
    for parameter in model.parameters():
        parameter.clamp_(-limit, limit)


class SpectralNorm(nn.Module):
    r"""A weight divided by its largest singular value (equation `gan-spectral`).

    $\hat\sigma = u^\top W v$, where $v \leftarrow W^\top u / \lVert\cdot\rVert$ and
    $u \leftarrow W v / \lVert\cdot\rVert$ are carried from step to step, so that one step of power
    iteration in each call, in training mode, is enough. `spectral_norm_` puts one on each layer.

    Args:
        num_rows: of the weight as a matrix, outputs first.
        num_columns: all its other axes together.
        num_iterations: of the power iteration in each call, ≥ 1.
        device: of the two vectors.
        dtype: of the two vectors.

    Attributes:
        u: estimate of the first left singular vector.
        v: estimate of the first right one.

    Example:
        >>> norm = SpectralNorm(2, 2, num_iterations=50)
        >>> norm(torch.diag(torch.tensor([4.0, 1.0])))
        tensor([[1.0000, 0.0000],
                [0.0000, 0.2500]])

    Source: Miyato et al. 2018.
    """

    u: Tensor
    v: Tensor

    def __init__(
        self,
        num_rows: int,
        num_columns: int,
        num_iterations: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        rows = checks.count("num_rows", num_rows)
        columns = checks.count("num_columns", num_columns)
        self.num_iterations = checks.count("num_iterations", num_iterations)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_buffer("u", F.normalize(torch.randn(rows, **like), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(columns, **like), dim=0))

    def forward(self, weight: Float[Tensor, "o *i"]) -> Float[Tensor, "o *i"]:
        """Return the weight, divided by the estimate of its largest singular value."""
        matrix = weight.flatten(1)
        if self.training:
            with torch.no_grad():
                for _ in range(self.num_iterations):
                    self.u.copy_(F.normalize(matrix @ self.v, dim=0, eps=EPS))
                    self.v.copy_(F.normalize(matrix.T @ self.u, dim=0, eps=EPS))
        # copies, since the next call moves the vectors that this one's gradient needs
        sigma = self.u.clone() @ matrix @ self.v.clone()
        return weight / sigma  # eq. gan-spectral


def spectral_norm_(model: nn.Module, num_iterations: int = 1) -> nn.Module:
    """Put a `SpectralNorm` on each linear layer, convolution and embedding; return the model.

    Args:
        model: changed in place.
        num_iterations: of the power iteration in each call, ≥ 1.
    """
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    for layer in [part for part in model.modules() if isinstance(part, layers)]:
        rows, columns = layer.weight.flatten(1).shape
        where: dict[str, Any] = {
            "device": layer.weight.device,
            "dtype": layer.weight.dtype,
        }
        norm = SpectralNorm(rows, columns, num_iterations, **where)
        parametrize.register_parametrization(layer, "weight", norm)
    return model


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


# -------------------------------------------------------------------------- networks: perceptrons
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


def _widths(name: str, value: Sequence[int]) -> tuple[int, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not value:
        raise TypeError(
            f"{name}={value!r} must be a sequence of one integer ≥ 1 or more"
        )
    return tuple(checks.count(f"{name}[{at}]", size) for at, size in enumerate(value))


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


# ------------------------------------------------------------------------- networks: convolutions
class ConvGenerator(nn.Module):
    """DCGAN's generator: noise to a small map, doubled by transposed convolutions to a picture.

    Args:
        latent_size: numbers h of the noise.
        image_size: rows and columns of a picture, a multiple of 2^levels.
        channels: of each map, from the smallest on; each is followed by a doubling.
        out_channels: 1 for grey, 3 for colour.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> ConvGenerator(8, 28, (16, 8))(torch.randn(2, 8)).shape
        torch.Size([2, 1, 28, 28])

    Source: Radford, Metz and Chintala 2015.
    """

    def __init__(
        self,
        latent_size: int,
        image_size: int,
        channels: Sequence[int] = (128, 64),
        out_channels: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.latent_size = checks.count("latent_size", latent_size)
        widths = _widths("channels", channels)
        out = checks.count("out_channels", out_channels)
        side = _smallest(image_size, len(widths))
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.start = nn.Sequential(
            nn.Linear(latent_size, widths[0] * side**2, bias=False, **like),
            nn.Unflatten(1, (widths[0], side, side)),
            BatchNorm2d(widths[0], **like), nn.ReLU(),
        )  # fmt: skip
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False, **like),
                BatchNorm2d(b, **like), nn.ReLU(),
            ]  # fmt: skip
        self.body = nn.Sequential(*layers)
        self.head = nn.ConvTranspose2d(widths[-1], out, 4, stride=2, padding=1, **like)

    def forward(self, z: Float[Tensor, "n h"]) -> Float[Tensor, "n c y x"]:
        """Return generated pictures, 0 … 1."""
        checks.tensor("z", z, shape=("n", self.latent_size), floating=True)
        return self.head(self.body(self.start(z))).sigmoid()


class ConvDiscriminator(nn.Module):
    """DCGAN's discriminator, without its batch norm, so that penalties on the slope fit.

    Args:
        image_size: rows and columns of a picture, a multiple of 2^levels.
        channels: of each map, each half as large as the one before.
        in_channels: 1 for grey, 3 for colour.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> ConvDiscriminator(28, (8, 16))(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2])

    Source: Radford, Metz and Chintala 2015.
    """

    def __init__(
        self,
        image_size: int,
        channels: Sequence[int] = (64, 128),
        in_channels: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        widths = _widths("channels", channels)
        self.in_channels = checks.count("in_channels", in_channels)
        side = _smallest(image_size, len(widths))
        self.image_size = image_size
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        for a, b in pairwise((in_channels, *widths)):
            layers.append(nn.Conv2d(a, b, 4, stride=2, padding=1, **like))
            layers.append(nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[-1] * side**2, 1, **like)

    def forward(self, x: Float[Tensor, "n c y x"]) -> Float[Tensor, " n"]:
        """Return a score for each picture."""
        size = (self.in_channels, self.image_size, self.image_size)
        checks.tensor("x", x, shape=("n", *size), floating=True)
        return self.head(self.body(x)).squeeze(1)


def _smallest(image_size: int, levels: int) -> int:
    """Return rows and columns of the smallest map."""
    side, left = divmod(checks.count("image_size", image_size), 2**levels)
    if left or not side:
        raise ValueError(
            f"image_size={image_size} must be a multiple of {2**levels}, "
            f"for {levels} levels of channels"
        )
    return side


class PatchGAN(nn.Module):
    r"""A score for each patch of a picture: a discriminator that is a small convolutional network.

    Convolutions of 4 × 4, all of stride 2 but the last of `channels` and the one that scores; with
    the default, each score sees 70 × 70 pixels (equation `gan-patch`).

    Args:
        in_channels: of the picture, or of condition and picture together.
        channels: of each convolution.
        batch_norm: whether all but the first have it; must be False under a gradient penalty.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        receptive_field: rows and columns that one score sees.

    Example:
        >>> judge = PatchGAN(6)
        >>> judge.receptive_field, judge(torch.zeros(1, 6, 256, 256)).shape
        (70, torch.Size([1, 30, 30]))

    Source: Isola et al. 2017.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (64, 128, 256, 512),
        *,
        batch_norm: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        widths = _widths("channels", channels)
        norm = checks.flag("batch_norm", batch_norm)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        strides = [2] * (len(widths) - 1) + [1]
        for at, (a, b) in enumerate(pairwise((in_channels, *widths))):
            normed = norm and at > 0
            bias = not normed
            layers.append(nn.Conv2d(a, b, 4, strides[at], padding=1, bias=bias, **like))
            layers += [BatchNorm2d(b, **like)] if normed else []
            layers.append(nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=1, **like)
        self.receptive_field = 1
        for stride in [1, *reversed(strides)]:  # eq. gan-patch
            self.receptive_field = stride * (self.receptive_field - 1) + 4

    def forward(self, x: Float[Tensor, "n c y x"]) -> Float[Tensor, "n v u"]:
        """Return a score for each patch."""
        checks.images("x", x, self.in_channels, least=4)
        return self.head(self.body(x)).squeeze(1)


# ---------------------------------------------------------------------------------------- StyleGAN
class MappingNetwork(nn.Module):
    r"""From noise to a style: $\mathbf w = f(\mathbf z / \operatorname{rms}(\mathbf z))$.

    A perceptron of equal widths (equation `gan-mapping`). Styles need not be normally distributed,
    so that it can undo what warps the noise has to make.

    Args:
        latent_size: numbers h of the noise.
        style_size: numbers s of a style.
        num_layers: of the perceptron; 8 as published.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> MappingNetwork(8, 16, num_layers=2)(torch.randn(5, 8)).shape
        torch.Size([5, 16])

    Source: Karras, Laine and Aila 2019.
    """

    def __init__(
        self,
        latent_size: int,
        style_size: int,
        num_layers: int = 8,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.latent_size = checks.count("latent_size", latent_size)
        s, depth = (
            checks.count("style_size", style_size),
            checks.count("num_layers", num_layers),
        )
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        for a, b in pairwise((latent_size, *[s] * depth)):
            layer = nn.Linear(a, b, **like)
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "n h"]) -> Float[Tensor, "n s"]:
        """Return styles."""
        checks.tensor("z", z, shape=("n", self.latent_size), floating=True)
        size = (z.square().mean(1, keepdim=True) + EPS).sqrt()
        return self.body(z / size)  # eq. gan-mapping


def truncate(
    style: Float[Tensor, "*n s"], mean: Float[Tensor, " s"], psi: float
) -> Float[Tensor, "*n s"]:
    r"""Return $\bar{\mathbf w} + \psi\,(\mathbf w - \bar{\mathbf w})$ (equation `gan-truncation`).

    Args:
        style: styles.
        mean: of many of them.
        psi: 1 leaves them, 0 makes all of them the mean.

    Source: Karras, Laine and Aila 2019.
    """
    psi = checks.number("psi", psi)
    checks.tensor("style", style, floating=True)
    checks.tensor("mean", mean, shape=(style.shape[-1],), floating=True)
    return mean + psi * (style - mean)  # eq. gan-truncation


class ModulatedConv2d(nn.Module):
    r"""A convolution whose kernel each example scales for itself, by its style.

    $w'_{oikl} = s_i\,w_{oikl}$, then $w''_{oikl} = w'_{oikl} / (\sum_{ikl} w'^2_{oikl} +
    \epsilon)^{1/2}$ (equations `gan-modulate`, `gan-demodulate`), where $\mathbf s$ is an affine
    function of the style.
    The same is computed by scaling the input before one convolution for all, and the output after.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: rows and columns of the kernel, odd, so that pictures keep their size.
        style_size: numbers s of a style.
        demodulate: whether each output channel is brought back to unit scale; not where colours
            are made.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = ModulatedConv2d(4, 6, 3, style_size=8)
        >>> layer(torch.randn(2, 4, 5, 5), torch.randn(2, 8)).shape
        torch.Size([2, 6, 5, 5])

    Source: Karras et al. 2020.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_size: int,
        demodulate: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, o = (
            checks.count("in_channels", in_channels),
            checks.count("out_channels", out_channels),
        )
        self.kernel_size = checks.count("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd")
        self.style_size = checks.count("style_size", style_size)
        self.demodulate = checks.flag("demodulate", demodulate)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(o, c, kernel_size, kernel_size, **like))
        self.style = nn.Linear(style_size, c, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernel from a standard normal distribution; begin with scales of about 1."""
        inputs = self.weight[0].numel()
        nn.init.normal_(self.weight, std=1 if self.demodulate else inputs**-0.5)
        nn.init.normal_(self.style.weight, std=self.style_size**-0.5)
        nn.init.ones_(self.style.bias)

    def forward(
        self, x: Float[Tensor, "n c y x"], style: Float[Tensor, "n s"]
    ) -> Float[Tensor, "n o y x"]:
        """Return maps of the same size.

        Args:
            x: maps.
            style: one for each example.
        """
        checks.images("x", x, self.weight.shape[1])
        checks.tensor("style", style, shape=(len(x), self.style_size), floating=True)
        scale = self.style(style)
        out = F.conv2d(
            x * scale[:, :, None, None], self.weight, padding=self.kernel_size // 2
        )  # eq. gan-modulate
        if self.demodulate:  # Σ (sᵢ w)² = Σᵢ sᵢ² Σₖₗ w²
            power = scale.square() @ self.weight.square().sum((2, 3)).T
            out = out * (power + EPS).rsqrt()[:, :, None, None]  # eq. gan-demodulate
        return out


class StyleGenerator(nn.Module):
    r"""A small StyleGAN2: a constant, modulated convolutions, noise in each, and a sum of pictures.

    At each level the maps are doubled (but at the first), convolved with the style's kernel, and
    given noise of a learned strength (equation `gan-noise`); each level's picture is added to the
    doubled one of the level below.

    Args:
        latent_size: numbers h of the noise that styles are made of.
        image_size: rows and columns of a picture, a multiple of 2^(levels − 1).
        channels: of the maps at each level, from the smallest on.
        style_size: numbers s of a style.
        num_mapping_layers: of the mapping network.
        out_channels: 1 for grey, 3 for colour.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        num_styles: one for each level.

    Example:
        >>> generator = StyleGenerator(8, 16, (16, 16, 8), style_size=8)
        >>> generator(torch.randn(2, 8)).shape
        torch.Size([2, 1, 16, 16])

    Source: Karras, Laine and Aila 2019; Karras et al. 2020.
    """

    def __init__(
        self,
        latent_size: int,
        image_size: int,
        channels: Sequence[int] = (32, 16),
        style_size: int = 32,
        num_mapping_layers: int = 2,
        out_channels: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        widths = _widths("channels", channels)
        side = _smallest(image_size, len(widths) - 1)
        out = checks.count("out_channels", out_channels)
        self.style_size, self.num_styles = style_size, len(widths)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.mapping = MappingNetwork(
            latent_size, style_size, num_mapping_layers, **like
        )
        self.constant = nn.Parameter(torch.randn(widths[0], side, side, **like))
        self.convs = nn.ModuleList(
            ModulatedConv2d(a, b, 3, style_size, **like)
            for a, b in pairwise((widths[0], *widths))
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(b, 1, 1, **like)) for b in widths
        )
        self.noise_strengths = nn.Parameter(torch.zeros(len(widths), **like))
        self.pictures = nn.ModuleList(
            ModulatedConv2d(b, out, 1, style_size, demodulate=False, **like)
            for b in widths
        )

    def forward(self, z: Float[Tensor, "n h"]) -> Float[Tensor, "n c y x"]:
        """Return generated pictures, 0 … 1, each with one style at all levels."""
        style = self.mapping(z)
        return self.synthesize(style[:, None].expand(-1, self.num_styles, -1))

    def synthesize(
        self, styles: Float[Tensor, "n l s"], noises: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "n c y x"]:
        """Return pictures of these styles, one a level, from the smallest maps on.

        Args:
            styles: `num_styles` for each picture; different ones mix.
            noises: one map, n 1 y x, for each level; drawn if None.
        """
        shape = ("n", self.num_styles, self.style_size)
        checks.tensor("styles", styles, shape=shape, floating=True)
        if noises is not None and len(noises) != self.num_styles:
            raise ValueError(
                f"noises must be {self.num_styles} maps, got {len(noises)} of them"
            )
        x, picture = self.constant.expand(len(styles), -1, -1, -1), None
        for level, (conv, paint) in enumerate(
            zip(self.convs, self.pictures, strict=True)
        ):
            x = F.interpolate(x, scale_factor=2) if level else x
            x = conv(x, styles[:, level])
            noise = torch.randn_like(x[:, :1]) if noises is None else noises[level]
            x = x + self.noise_strengths[level] * noise  # eq. gan-noise
            x = F.leaky_relu(x + self.biases[level], SLOPE)
            painted = paint(x, styles[:, level])
            if picture is not None:
                painted = painted + F.interpolate(
                    picture, scale_factor=2, mode="bilinear", align_corners=False
                )
            picture = painted
        assert picture is not None
        return picture.sigmoid()


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


def path_lengths(
    synthesize: Callable[[Tensor], Tensor],
    style: Float[Tensor, "n *s"],
    noise: Float[Tensor, "n *d"] | None = None,
) -> Float[Tensor, " n"]:
    r"""Return $\lVert\mathbf J_{\mathbf w}^\top\mathbf y\rVert$ for a random picture (`gan-path`).

    How far the picture moves for a step of the style, in random directions. StyleGAN2 penalises its
    distance from its own running mean, so that steps of equal length change pictures equally.

    Args:
        synthesize: from styles to pictures.
        style: where; any shape after the first axis.
        noise: y, standard normal; drawn if None.

    Source: Karras et al. 2020.
    """
    with torch.enable_grad():
        style = style if style.requires_grad else style.detach().requires_grad_()
        pictures = synthesize(style)
        noise = torch.randn_like(pictures) if noise is None else noise
        pixels = math.prod(pictures.shape[2:])  # rows times columns
        (slope,) = torch.autograd.grad(
            (pictures * noise).sum() / math.sqrt(pixels), style, create_graph=True
        )
    return torch.linalg.vector_norm(slope.flatten(1), dim=1)  # eq. gan-path
