"""The losses of the game, from the scores that a discriminator gives.

Axes: n, m examples.
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks


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
        >>> import torch
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
        >>> import torch
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
        >>> import torch
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
