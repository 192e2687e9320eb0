"""Weights set to zero, and kept there while the others are trained.

Part of `nnlib.language.compression`, with its axes.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nnlib import checks


def keep_mask(
    scores: Float[Tensor, "*o d"], share: float = 0.5, pattern: str = "all"
) -> Bool[Tensor, "*o d"]:
    r"""Return True for the weights that stay: those with the largest scores.

    Args:
        scores: of each weight, finite, such as its magnitude.
        share: of the weights that go, in [0, 1); their number is rounded.
        pattern: "all": the smallest of the whole tensor go; "row": the smallest of each row; or
            "n:m", such as "2:4": of every m neighbours in a row the n largest stay, whatever
            `share` is.

    Example:
        >>> keep_mask(torch.tensor([[1.0, 4.0, 3.0, 2.0]]), pattern="2:4")
        tensor([[False,  True,  True, False]])

    Source: magnitude: Han et al. 2015; 2:4: Mishra et al. 2021.
    """
    checks.tensor("scores", scores, floating=True, finite=True, empty=False)
    share = checks.number("share", share, least=0, below=1)
    if pattern == "all":
        groups, gone = scores.reshape(1, -1), round(share * scores.numel())
    elif pattern == "row":
        groups, gone = (
            scores.reshape(-1, scores.shape[-1]),
            round(share * scores.shape[-1]),
        )
    else:
        stay, size = _pattern(pattern)
        if scores.shape[-1] % size:
            raise ValueError(
                f"pattern={pattern!r} does not divide {scores.shape[-1]} columns"
            )
        groups, gone = scores.reshape(-1, size), size - stay
    smallest = groups.argsort(dim=-1, stable=True)[:, :gone]
    return (
        torch.ones_like(groups, dtype=torch.bool)
        .scatter(1, smallest, False)
        .view(scores.shape)
    )


def _pattern(pattern: str) -> tuple[int, int]:
    stay, _, size = pattern.partition(":") if isinstance(pattern, str) else ("", "", "")
    if not (stay.isdigit() and size.isdigit() and 0 < int(stay) < int(size)):
        raise ValueError(
            f"pattern={pattern!r} must be 'all', 'row' or 'n:m' with n < m"
        )
    return int(stay), int(size)


def wanda_scores(
    weight: Float[Tensor, "o d"], x: Float[Tensor, "*n d"]
) -> Float[Tensor, "o d"]:
    r"""Return $|w_{ij}| \cdot \lVert \mathbf{x}_j \rVert$: equation `compression-wanda`.

    Args:
        weight: of a layer.
        x: what it reads, a row for each example.

    Example:
        >>> wanda_scores(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 3.0], [1.0, 4.0]]))
        tensor([[2., 5.]])

    Source: Sun et al. 2023.
    """
    checks.tensor("weight", weight, shape=("o", "d"), floating=True, finite=True)
    checks.tensor("x", x, floating=True, finite=True, empty=False)
    if x.ndim < 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x must have rows of {weight.shape[1]}, got {tuple(x.shape)}")
    return weight.detach().abs() * x.detach().flatten(0, -2).norm(dim=0)


def prune_(
    model: nn.Module,
    share: float = 0.5,
    pattern: str = "model",
    *,
    scores: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    r"""Set weights to zero in place, and keep them there: equation `compression-prune`.

    It is about the weights of linear and convolutional layers; biases, norms and tables stay.

    Args:
        model: pruned in place; see `hold_` for what training then does.
        share: of the weights that go, in [0, 1).
        pattern: "model": the smallest of all layers go together; "all", "row" or "n:m": layer by
            layer, as in `keep_mask`.
        scores: of each weight, by the parameter's name; None takes magnitudes.

    Returns:
        By the parameter's name, True for the weights that stay.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        >>> kept = prune_(net, 0.75)
        >>> sorted(kept), sum(int(mask.sum()) for mask in kept.values())
        (['0.weight', '2.weight'], 15)

    Source: Han et al. 2015.
    """
    weights = _weights(model)
    found = {name: weight.detach().abs() for name, weight in weights.items()}
    if scores is not None:
        if set(scores) != set(weights):
            raise ValueError(
                f"scores must name {sorted(weights)}, got {sorted(scores)}"
            )
        for name, score in scores.items():
            checks.tensor(f"scores[{name!r}]", score, shape=tuple(weights[name].shape))
        found = dict(scores)
    if pattern == "model":
        flat = keep_mask(
            torch.cat([score.flatten() for score in found.values()]), share
        )
        parts = flat.split([score.numel() for score in found.values()])
        kept = {
            name: part.view(score.shape)
            for part, (name, score) in zip(parts, found.items(), strict=True)
        }
    else:
        kept = {
            name: keep_mask(score.flatten(1), share, pattern).view(score.shape)
            for name, score in found.items()
        }
    hold_(model, kept)
    return kept


def hold_(model: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Set what is not kept to zero, and give it no gradient from now on.

    An optimizer that begins afterwards leaves these weights at zero. A copy of the model is free.

    Args:
        model: changed in place.
        kept: by a parameter's name, True for the weights that stay, as `prune_` returns it.
    """
    parameters = dict(model.named_parameters())
    for name, mask in kept.items():
        if name not in parameters:
            raise ValueError(f"kept names {name!r}, which model has not")
        checks.tensor(f"kept[{name!r}]", mask, shape=tuple(parameters[name].shape))
        if mask.dtype != torch.bool:
            raise TypeError(f"kept[{name!r}] must be of bools, got {mask.dtype}")
    for name, mask in kept.items():
        with torch.no_grad():
            parameters[name].mul_(mask)  # eq. compression-prune
        if parameters[name].requires_grad:
            parameters[name].register_hook(lambda grad, mask=mask: grad * mask)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    found = {
        f"{name}.weight".lstrip("."): part.weight
        for name, part in model.named_modules()
        if isinstance(part, layers)
    }
    if not found:
        raise ValueError("model has no linear or convolutional layer to prune")
    return found
