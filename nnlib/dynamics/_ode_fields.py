"""A field that is learned, and what a density along it needs: the trace of its Jacobian.

Axes: b examples, d features, p probes.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "silu": F.silu,
    "relu": torch.relu,
}
"""Relu's slopes jump, so that a solver must cut its steps there."""


class VectorField(nn.Module):
    r"""A network $f(t, \mathbf y)$ of a few layers that gives a slope for each state.

    The time enters as one more input of the first layer.

    Args:
        features: numbers of a state, ≥ 1.
        hidden_size: width of the layers between, ≥ 1.
        num_layers: how many there are, ≥ 1.
        activation: `tanh`, `softplus`, `silu` or `relu`.
        autonomous: whether the time is left out.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> VectorField(2, 16)(torch.tensor(0.0), torch.zeros(5, 2)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        features: int,
        hidden_size: int = 64,
        *,
        num_layers: int = 2,
        activation: str = "tanh",
        autonomous: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.features = checks.count("features", features)
        checks.count("hidden_size", hidden_size)
        checks.count("num_layers", num_layers)
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.autonomous = checks.flag("autonomous", autonomous)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = [features + (not autonomous), *[hidden_size] * num_layers, features]
        pairs = pairwise(sizes)
        self.layers = nn.ModuleList(nn.Linear(a, b, **like) for a, b in pairs)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as `torch.nn.Linear` does."""
        for layer in self.layers:
            cast(nn.Linear, layer).reset_parameters()

    def forward(
        self, t: Float[Tensor, ""] | float, y: Float[Tensor, "*b d"]
    ) -> Float[Tensor, "*b d"]:
        """Return the slope of each state at a time."""
        checks.tensor("y", y, floating=True)
        if y.ndim == 0 or y.shape[-1] != self.features:
            raise ValueError(
                f"y must have shape (*, {self.features}), got {tuple(y.shape)}"
            )
        act = ACTIVATIONS[self.activation]
        first, *others = (cast(nn.Linear, layer) for layer in self.layers)
        if self.autonomous:
            z = first(y)
        else:
            z = F.linear(y, first.weight[:, :-1], first.bias + t * first.weight[:, -1])
        for layer in others:
            z = layer(act(z))
        return z


def divergence(
    slope: Float[Tensor, "b d"], y: Float[Tensor, "b d"], *, create_graph: bool = True
) -> Float[Tensor, " b"]:
    r"""Return $\operatorname{tr} \partial f/\partial\mathbf y$ of each row, exactly.

    It takes a backward pass for each of the d features.

    Args:
        slope: $f(t, \mathbf y)$, where `y` was on the graph, and each row answers to its own.
        y: the states, requiring a gradient.
        create_graph: whether the result is to have a gradient.

    Example:
        >>> y = torch.ones(1, 2, requires_grad=True)
        >>> divergence(y * torch.tensor([2.0, 3.0]), y)
        tensor([5.])
    """
    _on_graph(slope, y)
    total = slope.new_zeros(len(y))
    if not slope.requires_grad:
        return total
    for at in range(y.shape[1]):
        (row,) = torch.autograd.grad(
            slope[:, at].sum(), y, create_graph=create_graph, retain_graph=True,
            materialize_grads=True,
        )  # fmt: skip
        total = total + row[:, at]
    return total


def hutchinson(
    slope: Float[Tensor, "b d"],
    y: Float[Tensor, "b d"],
    probe: Float[Tensor, "b d"],
    *,
    create_graph: bool = True,
) -> Float[Tensor, " b"]:
    r"""Return $\mathbf v^\top (\partial f/\partial\mathbf y)\, \mathbf v$, whose mean is the trace.

    One backward pass, whatever d is, if entries of $\mathbf v$ are independent with mean 0 and
    variance 1 (equation `neural-ode-hutchinson`).

    Args:
        slope: as `divergence` takes it.
        y: likewise.
        probe: $\mathbf v$, a row for each state; signs have the least variance.
        create_graph: as `divergence` takes it.

    Example:
        >>> y = torch.ones(1, 2, requires_grad=True)
        >>> hutchinson(y * torch.tensor([2.0, 3.0]), y, torch.tensor([[1.0, -1.0]]))
        tensor([5.])

    Source: Hutchinson 1989.
    """
    _on_graph(slope, y)
    checks.tensor("probe", probe, shape=tuple(y.shape), floating=True)
    if not slope.requires_grad:
        return slope.new_zeros(len(y))
    (pulled,) = torch.autograd.grad(
        slope,
        y,
        probe,
        create_graph=create_graph,
        retain_graph=True,
        materialize_grads=True,
    )
    return (pulled * probe).sum(1)


def _on_graph(slope: Tensor, y: Tensor) -> None:
    """Refuse a slope whose derivative by the state cannot be asked for."""
    checks.tensor("y", y, shape=("b", "d"), floating=True)
    checks.tensor("slope", slope, shape=tuple(y.shape), floating=True)
    if slope.requires_grad and not y.requires_grad:
        raise ValueError("y must require a gradient, as its slope does")
