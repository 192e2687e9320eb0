r"""What pushes an energy down at the data and up elsewhere: by samples, by noise, by a margin.

Part of `nnlib.energy.energy_based`.
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.energy._langevin import Energy, energies


def contrastive_divergence_loss(
    model: Energy,
    data: Float[Tensor, "n *d"],
    samples: Float[Tensor, "m *d"],
    penalty: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Return the mean energy of the data less that of the model's own samples.

    Its gradient is that of the mean negative log-likelihood if the samples are the model's
    (equations `energy-based-gradient` and `energy-based-cd`), and a biased estimate if they come
    from short chains. Its *value* says nothing of how well the model fits: at the best model it is
    zero, as at one that knows nothing.

    Args:
        model: gives one number an example; the two sets are asked about in one pass.
        data: examples.
        samples: what chains have drawn; no gradient goes through them.
        penalty: weight ≥ 0 of the mean squared energies, which keeps them near zero: only their
            differences matter to the rest of the loss, so that without it they drift.

    Example:
        >>> x, y = torch.tensor([[1.0]]), torch.tensor([[3.0]])
        >>> contrastive_divergence_loss(lambda x: x.sum(1), x, y)
        tensor(-2.)

    Source: Hinton 2002; the penalty, Du and Mordatch 2019.
    """
    weight = checks.number("penalty", penalty, least=0)
    _two_sets(data=data, samples=samples)
    told = energies(model, torch.cat([data, samples.detach()]))
    at_data, at_samples = told[: len(data)], told[len(data) :]
    loss = at_data.mean() - at_samples.mean()  # eq. energy-based-cd
    if weight:
        loss = loss + weight * (at_data.square().mean() + at_samples.square().mean())
    return loss


def noise_contrastive_loss(
    model: Energy,
    data: Float[Tensor, "n *d"],
    noise: Float[Tensor, "m *d"],
    log_noise: Float[Tensor, " all"],
) -> Float[Tensor, ""]:
    r"""Return the loss of telling data from noise whose density is known.

    The logit of "data" is $-E(\mathbf x) - \log p_n(\mathbf x) - \log\nu$ with ν noises for each
    example (equation `energy-based-nce`). At the best classifier $-E$ is the log-density of the
    data, with its constant: log Z is learned along, by the energy's own bias.

    Args:
        model: gives one number an example.
        data: examples.
        noise: drawn from $p_n$; ν is their number over that of the data.
        log_noise: $\log p_n$ of the data, then of the noise.

    Source: Gutmann and Hyvärinen 2010.
    """
    _two_sets(data=data, noise=noise)
    both = torch.cat([data, noise])
    checks.tensor("log_noise", log_noise, shape=(len(both),), floating=True)
    ratio = len(noise) / len(data)
    logit = -energies(model, both) - log_noise - math.log(ratio)  # eq. energy-based-nce
    real, made = logit[: len(data)], logit[len(data) :]
    return F.softplus(-real).mean() + ratio * F.softplus(made).mean()


def margin_loss(
    right: Float[Tensor, "*n"], wrong: Float[Tensor, "*n"], margin: float = 1.0
) -> Float[Tensor, ""]:
    r"""Return the mean of $\max(0, m + E_{\text{right}} - E_{\text{wrong}})$: a hinge.

    Energies without probabilities (equation `energy-based-margin`): nothing is asked but that the
    right answer lies lower than the most offending wrong one, by the margin.

    Args:
        right: energies of the right answers.
        wrong: energies of wrong ones, of the same shape.
        margin: m > 0; at 0 a flat energy would be perfect.

    Source: LeCun et al. 2006.
    """
    checks.tensor("right", right, floating=True, empty=False)
    checks.tensor("wrong", wrong, shape=tuple(right.shape), floating=True)
    margin = checks.number("margin", margin, above=0)
    return F.relu(margin + right - wrong).mean()  # eq. energy-based-margin


def joint_energy(
    logits: Float[Tensor, "n k"],
    y: Int[Tensor, " n"] | None = None,
    temperature: float = 1.0,
) -> Float[Tensor, " n"]:
    r"""Return the energy that a classifier's logits imply: $-T\log\sum_k e^{f_k(\mathbf x)/T}$.

    Of an example and its class it is $-f_y(\mathbf x)$, of the example alone the sum over all
    classes (equation `energy-based-joint`), and the softmax is what is left as
    $p(y\mid\mathbf x)$.

    Args:
        logits: a classifier's outputs.
        y: classes; None asks for the examples alone.
        temperature: T > 0.

    Example:
        >>> joint_energy(torch.zeros(1, 4))  # −log 4
        tensor([-1.3863])

    Source: Grathwohl et al. 2019; for detecting strange inputs, Liu et al. 2020.
    """
    checks.tensor("logits", logits, shape=("n", "k"), floating=True)
    heat = checks.number("temperature", temperature, above=0)
    if y is None:
        return -heat * (logits / heat).logsumexp(1)  # eq. energy-based-joint
    checks.labels("y", y, logits.shape[1], length=len(logits))
    return -logits.gather(1, y[:, None].long())[:, 0]


def detection_auc(inside: Float[Tensor, " n"], outside: Float[Tensor, " m"]) -> float:
    r"""Return how often a strange example has the higher energy than a known one.

    $P(E_{\text{out}} > E_{\text{in}}) + \tfrac12 P(E_{\text{out}} = E_{\text{in}})$ over all pairs
    (equation `energy-based-auc`), which is the area under the ROC curve: ½ is a coin.

    Args:
        inside: energies of known examples.
        outside: energies of strange ones.

    Example:
        >>> detection_auc(torch.tensor([1.0, 2.0]), torch.tensor([2.0, 3.0]))
        0.875
    """
    checks.tensor(
        "inside", inside, shape=("n",), floating=True, empty=False, finite=True
    )
    checks.tensor(
        "outside", outside, shape=("m",), floating=True, empty=False, finite=True
    )
    inside, outside = inside.double(), outside.double()
    ordered = inside.sort().values
    below = torch.searchsorted(ordered, outside)
    not_above = torch.searchsorted(ordered, outside, right=True)
    return (below + not_above).double().mean().item() / (2 * len(inside))


def _two_sets(**sets: Tensor) -> None:
    first, *_ = sets.values()
    for name, part in sets.items():
        checks.tensor(name, part, floating=True, empty=False)
        if part.ndim < 2 or part.shape[1:] != first.shape[1:]:
            known = next(iter(sets))
            raise ValueError(
                f"{name} must have shape (n, d) with the same d as {known}, "
                f"got {tuple(part.shape)}"
            )
