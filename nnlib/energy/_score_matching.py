r"""Score matching in four forms: learn an energy by its slope, which Z does not enter.

Part of `nnlib.energy.energy_based`. The score is $\mathbf s(\mathbf x) = -\nabla E(\mathbf x)$. All
four losses have the same best model, up to the blur of the denoising one, and all keep the factor
½ of Hyvärinen, so that their values can be compared.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.energy._langevin import Energy, energy_and_slope


def score(
    energy: Energy, x: Float[Tensor, "n *d"], *, create_graph: bool = False
) -> Float[Tensor, "n *d"]:
    r"""Return $\mathbf s(\mathbf x) = \nabla\log p(\mathbf x) = -\nabla E(\mathbf x)$.

    Equation `energy-based-score`: the direction in which examples become more probable. The
    partition function is a constant, and so has no part in it.

    Args:
        energy: gives one number an example.
        x: examples.
        create_graph: whether a loss of it can be differentiated by the model's weights.

    Example:
        >>> score(lambda x: 0.5 * x.square().sum(1), torch.tensor([[1.0, -2.0]]))
        tensor([[-1.,  2.]])
    """
    return -energy_and_slope(
        energy, x, graph=checks.flag("create_graph", create_graph)
    )[1]


def explicit_score_matching_loss(
    model: Energy, x: Float[Tensor, "n *d"], data_score: Float[Tensor, "n *d"]
) -> Float[Tensor, ""]:
    r"""Return $\tfrac12\,\mathbb E\lVert\mathbf s_\theta - \mathbf s_{\text{data}}\rVert^2$.

    Half of the Fisher divergence (equation `energy-based-fisher`): 0 where both scores agree. It
    needs the score of the data, which is known for made-up data only.

    Args:
        model: gives one number an example.
        x: examples.
        data_score: the true score at each of them.
    """
    checks.tensor("data_score", data_score, shape=tuple(x.shape), floating=True)
    apart = score(model, x, create_graph=True) - data_score
    return 0.5 * apart.flatten(1).square().sum(1).mean()  # eq. energy-based-fisher


def score_matching_loss(model: Energy, x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    r"""Return the implicit form: half the score's square and the trace of its Jacobian.

    $\mathbb E\bigl[\tfrac12\lVert\mathbf s\rVert^2 + \operatorname{tr}\nabla\mathbf s\bigr]$
    (equation `energy-based-score-matching`). Up to a number that the model cannot change it is
    `explicit_score_matching_loss`, and it needs no score of the data. The trace takes one pass back
    for each of the d entries, so this is for small d. The energy must be twice differentiable: with
    ReLU the trace is zero almost everywhere, and the loss means nothing.

    Args:
        model: gives one number an example.
        x: examples, in rows.

    Example:
        >>> x = torch.tensor([[1.0], [-1.0]])
        >>> score_matching_loss(lambda x: 0.5 * x.square().sum(1), x).item()  # ½ − 1
        -0.5

    Source: Hyvärinen 2005.
    """
    learning = torch.is_grad_enabled()
    with torch.enable_grad():
        x, s = _scores(model, x)
        trace = sum(_slope_along(s[:, i], x)[:, i] for i in range(x.shape[1]))
        half_norm = 0.5 * s.square().sum(1)
        loss = (half_norm + trace).mean()  # eq. energy-based-score-matching
    return loss if learning else loss.detach()


def sliced_score_matching_loss(
    model: Energy,
    x: Float[Tensor, "n d"],
    num_slices: int = 1,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""Return score matching with the trace estimated along random directions.

    $\mathbb E\bigl[\tfrac12\lVert\mathbf s\rVert^2 + \mathbf v^\top\nabla(\mathbf v^\top\mathbf
    s)\bigr]$ with signs $v_i = \pm1$ drawn at random (equation `energy-based-sliced`). Its mean is
    `score_matching_loss`, at one pass back for each slice, whatever d is.

    Args:
        model: gives one number an example, twice differentiable.
        x: examples, in rows.
        num_slices: directions for each example, ≥ 1.
        generator: source of the randomness.

    Source: Song, Garg, Shi and Ermon 2019, in their form of reduced variance.
    """
    count = checks.count("num_slices", num_slices)
    learning = torch.is_grad_enabled()
    with torch.enable_grad():
        x, s = _scores(model, x)
        where = x.device if generator is None else generator.device
        along = x.new_zeros(len(x))
        for _ in range(count):
            signs = torch.randint(2, x.shape, generator=generator, device=where)
            v = (2 * signs - 1).to(x)
            along = along + (v * _slope_along((v * s).sum(1), x)).sum(1) / count
        half_norm = 0.5 * s.square().sum(1)
        loss = (half_norm + along).mean()  # eq. energy-based-sliced
    return loss if learning else loss.detach()


def denoising_score_matching_loss(
    model: Energy,
    x: Float[Tensor, "n *d"],
    std: float | Float[Tensor, " n"],
    *,
    noise: Float[Tensor, "n *d"] | None = None,
    weighted: bool = False,
) -> Float[Tensor, ""]:
    r"""Return the error of the score at noisy examples, against the way back to the clean ones.

    $\tfrac12\,\mathbb E\lVert\mathbf s(\mathbf x + \sigma\mathbf z) + \mathbf z/\sigma\rVert^2$
    (equation `energy-based-denoising`). One derivative less than the other forms, at any d; what is
    learned is the score of the *noisy* data.

    Args:
        model: gives one number an example.
        x: clean examples.
        std: σ > 0 of the noise; one number, or one for each example.
        noise: standard normal z; drawn if None.
        weighted: whether each example's error is multiplied by σ², so that all levels of noise
            count alike.

    Source: Vincent 2011; the weight, Song and Ermon 2019.
    """
    checks.tensor("x", x, floating=True, empty=False)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (n, d), got {tuple(x.shape)}")
    sigma = _levels(std, x)
    noise = torch.randn_like(x) if noise is None else noise
    checks.tensor("noise", noise, shape=tuple(x.shape), floating=True)
    checks.flag("weighted", weighted)
    s = score(model, (x + sigma * noise).detach(), create_graph=True)
    apart = s + noise / sigma  # eq. energy-based-denoising
    if weighted:
        apart = sigma * apart
    return 0.5 * apart.flatten(1).square().sum(1).mean()


def _levels(std: float | Tensor, x: Tensor) -> Tensor:
    """Return σ so that it broadcasts to `x`."""
    if not isinstance(std, Tensor):
        return torch.full((1,) * x.ndim, checks.number("std", std, above=0)).to(x)
    checks.tensor("std", std, shape=(len(x),), floating=True)
    if checks.readable(std) and not bool((std > 0).all()):
        raise ValueError(f"std must be above 0, got {float(std.min()):g}")
    return std.to(x).view(-1, *[1] * (x.ndim - 1))


def _scores(energy: Energy, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return rows that can be differentiated by, and their scores."""
    checks.tensor("x", x, shape=("n", "d"), floating=True, empty=False)
    x = x.detach().requires_grad_()
    return x, score(energy, x, create_graph=True)


def _slope_along(values: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of a row of numbers by x; zero where it does not depend on it."""
    if not values.requires_grad:
        return torch.zeros_like(x)
    (slope,) = torch.autograd.grad(
        values.sum(), x, create_graph=True, allow_unused=True
    )
    return torch.zeros_like(x) if slope is None else slope
