r"""The network whose weights are generated: its numbers in a row, and many of them at once.

Axes: b networks, n points, d inputs, o outputs, p numbers of a network.

The numbers stand as `torch.nn.utils.parameters_to_vector` lists those of
`torch.nn.Sequential(Linear, activation, Linear, …)`: the weight of a layer row by row, then its
bias.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

Layer = tuple[Float[Tensor, "b o d"], Float[Tensor, "b o"]]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "tanh": torch.tanh,
    "sin": torch.sin,
}
"""Hidden activations of the generated network, by name."""


def sizes(name: str, value: Any, least: int) -> tuple[int, ...]:
    """Return `value` as a tuple of `least` or more widths, each ≥ 1."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"{name}={value!r} must be a sequence of integers ≥ 1")
    if len(value) < least:
        raise ValueError(f"{name}={value!r} must hold {least} sizes or more")
    return tuple(checks.count(f"{name}[{at}]", size) for at, size in enumerate(value))


def weight_count(layer_sizes: Sequence[int]) -> int:
    r"""Return how many numbers a network of these widths has, biases included.

    $P = \sum_l n_l (n_{l-1} + 1)$ (equation `hypernetwork-count`).

    Args:
        layer_sizes: width of every layer, input first; two or more.

    Example:
        >>> weight_count([18, 16, 1])
        321
    """
    widths = sizes("layer_sizes", layer_sizes, 2)
    return sum(outputs * (inputs + 1) for inputs, outputs in pairwise(widths))


def split_weights(
    theta: Float[Tensor, "b p"], layer_sizes: Sequence[int]
) -> list[Layer]:
    """Cut rows of numbers into the weight, b o d, and the bias, b o, of each layer.

    Args:
        theta: one network a row.
        layer_sizes: width of every layer, input first.

    Example:
        >>> [(w.shape[1:], b.shape[1:]) for w, b in split_weights(torch.zeros(5, 321), [18, 16, 1])]
        [(torch.Size([16, 18]), torch.Size([16])), (torch.Size([1, 16]), torch.Size([1]))]
    """
    widths = sizes("layer_sizes", layer_sizes, 2)
    checks.tensor("theta", theta, shape=("b", weight_count(widths)), floating=True)
    layers, at = [], 0
    for inputs, outputs in pairwise(widths):
        weight = theta[:, at : at + outputs * inputs].unflatten(1, (outputs, inputs))
        at += outputs * (inputs + 1)
        layers.append((weight, theta[:, at - outputs : at]))
    return layers


def generated_mlp(
    theta: Float[Tensor, "b p"],
    x: Float[Tensor, "... n d"],
    layer_sizes: Sequence[int],
    activation: str = "relu",
) -> Float[Tensor, "b n o"]:
    r"""Return $f_{\boldsymbol\theta}(\mathbf{x})$ for many networks at once.

    Equation `hypernetwork-target`. `generated_mlp_loop` is the readable twin.

    Args:
        theta: one network a row.
        x: the points of each network, b n d; or n d, the same points for all.
        layer_sizes: width of every layer, input first.
        activation: between two layers: `relu`, `tanh` or `sin`.

    Example:
        >>> generated_mlp(torch.zeros(5, 321), torch.zeros(256, 18), [18, 16, 1]).shape
        torch.Size([5, 256, 1])
    """
    layers = split_weights(theta, layer_sizes)
    bend = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    h = points(
        x, theta, layers[0][0].shape[2]
    ).mT  # d n, or b d n: no transpose between layers
    for at, (weight, bias) in enumerate(layers):
        h = weight @ h + bias[..., None]  # eq. hypernetwork-target
        h = bend(h) if at < len(layers) - 1 else h
    return h.mT


def generated_mlp_loop(
    theta: Float[Tensor, "b p"],
    x: Float[Tensor, "... n d"],
    layer_sizes: Sequence[int],
    activation: str = "relu",
) -> Float[Tensor, "b n o"]:
    """Return what `generated_mlp` returns, one network after the other; the arguments are its."""
    layers = split_weights(theta, layer_sizes)
    bend = ACTIVATIONS[checks.one_of("activation", activation, ACTIVATIONS)]
    points(x, theta, layers[0][0].shape[2])
    answers = []
    for one in range(len(theta)):
        h = x if x.ndim == 2 else x[one]
        for at, (weight, bias) in enumerate(layers):
            h = F.linear(h, weight[one], bias[one])
            h = bend(h) if at < len(layers) - 1 else h
        answers.append(h)
    none = theta.new_zeros(0, x.shape[-2], layers[-1][1].shape[1])
    return torch.stack(answers) if answers else none


def points(x: Tensor, theta: Tensor, inputs: int) -> Tensor:
    """Return `x` when it holds points for these networks."""
    checks.tensor("x", x, floating=True)
    fits = x.ndim in (2, 3) and x.shape[-1] == inputs
    if not fits or (x.ndim == 3 and len(x) != len(theta)):
        raise ValueError(
            f"x must have shape (n, {inputs}) or ({len(theta)}, n, {inputs}), "
            f"got {tuple(x.shape)}"
        )
    return x


def ordinary_scales(layer_sizes: Sequence[int], activation: str) -> Tensor:
    r"""Return the standard deviation at which each number of a network should begin.

    $\sqrt{g / n_{l-1}}$ for a weight, where $g$ is 2 behind a ReLU and 1 elsewhere
    (`hypernetwork-hyperfan`); $1/\sqrt{3 n_{l-1}}$ for a bias, as torch draws it.
    """
    parts = []
    for at, (inputs, outputs) in enumerate(pairwise(layer_sizes)):
        gain = 2 if at and activation == "relu" else 1
        parts.append(torch.full((outputs * inputs,), math.sqrt(gain / inputs)))
        parts.append(torch.full((outputs,), 1 / math.sqrt(3 * inputs)))
    return torch.cat(parts)


def grid(size: int, low: float = -1.0, high: float = 1.0) -> Float[Tensor, "n 2"]:
    """Return the centres of `size` × `size` pixels between `low` and `high`, row by row, as (x, y).

    Args:
        size: pixels a side, ≥ 1.
        low: the left and the upper edge.
        high: the right and the lower edge.

    Example:
        >>> grid(2).tolist()
        [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]
    """
    size = checks.count("size", size)
    high = checks.number("high", high, above=checks.number("low", low))
    at = low + (high - low) * (torch.arange(size) + 0.5) / size
    y, x = torch.meshgrid(at, at, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], 1)


def fourier_features(
    x: Float[Tensor, "*n d"], num_frequencies: int
) -> Float[Tensor, "*n f"]:
    r"""Return the coordinates, and sines and cosines of them (`hypernetwork-fourier`).

    $(\mathbf{x}, \sin \tfrac{\pi k}{2} \mathbf{x}, \cos \tfrac{\pi k}{2} \mathbf{x})$ for
    $k = 1 \dots K$: with them a small network can draw what is finer than its own straight pieces.

    Args:
        x: coordinates, within −1 … 1.
        num_frequencies: K, ≥ 1.

    Example:
        >>> fourier_features(torch.zeros(5, 2), 4).shape
        torch.Size([5, 18])

    Source: Tancik et al. 2020, who draw the frequencies at random.
    """
    checks.tensor("x", x, floating=True)
    if x.ndim == 0:
        raise ValueError("x must have shape (..., d), got ()")
    k = torch.arange(1, checks.count("num_frequencies", num_frequencies) + 1).to(x)
    angles = (x[..., None, :] * (math.pi / 2 * k)[:, None]).flatten(-2)
    return torch.cat([x, angles.sin(), angles.cos()], -1)  # eq. hypernetwork-fourier
