"""Guidance without a classifier: a step with the class, and one without, extrapolated.

Axes: n examples, d numbers of one (any shape).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks

Predict = Callable[[Tensor, Tensor], Tensor]


def guided(
    eps_cond: Float[Tensor, "n *d"],
    eps_uncond: Float[Tensor, "n *d"] | None,
    w: float | None = None,
    *,
    scale: float | None = None,
) -> Float[Tensor, "n *d"]:
    r"""Return the answer moved away from the one without a condition.

    $(1+w)\,\boldsymbol\epsilon_c - w\,\boldsymbol\epsilon_\varnothing$ in the convention of the
    paper (equation `diffusion-guidance`), where w = 0 is no guidance; or with a scale $s = 1 + w$,
    as software counts, $\boldsymbol\epsilon_\varnothing + s\,(\boldsymbol\epsilon_c -
    \boldsymbol\epsilon_\varnothing)$ (`diffusion-guidance-scale`), where s = 1 is none.

    Args:
        eps_cond: the answer with the condition: noise, v, score or velocity.
        eps_uncond: the answer with the null condition.
        w: strength in the paper's convention.
        scale: strength in the other one; one of the two is given.

    Example:
        >>> guided(torch.tensor([2.0]), torch.tensor([1.0]), w=0.5)
        tensor([2.5000])

    Source: Ho and Salimans 2021.
    """
    if (w is None) == (scale is None):
        raise ValueError(
            f"w or scale: one of them must be given, got {'neither' if w is None else 'both'}"
        )
    if eps_uncond is None:
        raise ValueError(
            "eps_uncond is None: guidance needs the answer with a null class, on which the network "
            "was trained, too"
        )
    checks.tensor("eps_cond", eps_cond, floating=True)
    checks.tensor("eps_uncond", eps_uncond, shape=tuple(eps_cond.shape), floating=True)
    w = checks.number("w", w) if scale is None else checks.number("scale", scale) - 1
    return (1 + w) * eps_cond - w * eps_uncond  # eq. diffusion-guidance


def guide(
    model: Callable[..., Tensor],
    y: Int[Tensor, " n"],
    null_class: int | None,
    w: float = 0.0,
) -> Predict:
    """Return `predict(x, t)` of a network with classes, guided towards `y`.

    Both answers are computed in one pass over twice the batch; with w = 0 only one is.

    Args:
        model: called as `model(x, t, y)`.
        y: the class of each example.
        null_class: the number that stands for no class.
        w: strength in the paper's convention.
    """
    w = checks.number("w", w)
    if w == 0:
        return lambda x, t: model(x, t, y)
    if null_class is None:
        raise ValueError(
            f"null_class is None: guidance with w={w:g} needs a null class, which the network has "
            "seen in training"
        )
    null = torch.full_like(y, checks.count("null_class", null_class, least=0))

    def predict(x: Tensor, t: Tensor) -> Tensor:
        both = model(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, null]))
        cond, uncond = both.chunk(2)
        return guided(cond, uncond, w)

    return predict


def drop_classes(
    y: Int[Tensor, " n"],
    null_class: int,
    rate: float = 0.1,
    generator: torch.Generator | None = None,
) -> Int[Tensor, " n"]:
    """Return the classes with some of them replaced by the null class, as guidance needs it.

    Args:
        y: classes.
        null_class: the number that stands for no class.
        rate: probability of replacing, 0 … 1; 0.1 or 0.2 are usual.
        generator: source of the randomness.
    """
    checks.tensor("y", y, shape=("n",), floating=False)
    rate = checks.number("rate", rate, least=0, most=1)
    where = y.device if generator is None else generator.device
    hit = torch.rand(len(y), device=where, generator=generator) < rate
    return y.masked_fill(
        hit.to(y.device), checks.count("null_class", null_class, least=0)
    )
