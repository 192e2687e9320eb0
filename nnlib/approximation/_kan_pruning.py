"""How much each edge of a KAN matters, what asks for few of them, and a KAN without the others.

Axes: b examples, i inputs, o outputs.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks


def edge_size(edges: Float[Tensor, "b o i"]) -> Float[Tensor, "o i"]:
    """Return the mean absolute value of what each edge adds (equation `kan-size`)."""
    checks.tensor("edges", edges, shape=("b", "o", "i"), floating=True, empty=False)
    return edges.abs().mean(0)  # eq. kan-size


def entropy(sizes: Float[Tensor, "o i"]) -> Float[Tensor, ""]:
    """Return the entropy of a layer's edges, in nats (equation `kan-entropy`).

    It is 0 if one edge has all the size, and the log of their number if all have the same.

    Args:
        sizes: of each edge, ≥ 0; a layer of zeros has an entropy of 0.
    """
    checks.tensor("sizes", sizes, shape=("o", "i"), floating=True, empty=False)
    tiny = torch.finfo(sizes.dtype).tiny
    total = sizes.sum()
    shares = sizes / torch.where(
        total > 0, total, 1
    )  # with a finite slope at zero, too
    return -(shares * shares.clamp(min=tiny).log()).sum()  # eq. kan-entropy


def kept_nodes(sizes: Sequence[Tensor], least: float) -> list[Tensor]:
    """Return which nodes stay, layer by layer: all inputs, all outputs, hidden ones in use."""
    kept = [torch.arange(sizes[0].shape[1], device=sizes[0].device)]
    for at, (into, out) in enumerate(pairwise(sizes), 1):
        use = torch.minimum(into.amax(1), out.amax(0))
        kept.append((use > least).nonzero().flatten())
        if not len(kept[-1]):
            raise ValueError(
                f"node={least:g} leaves no node in layer {at}: the largest matters {use.max():.2g}"
            )
    return [*kept, torch.arange(sizes[-1].shape[0], device=sizes[-1].device)]


def smaller(
    kan: Any, kept: Sequence[Tensor], sizes: Sequence[Tensor], least: float
) -> Any:
    """Return a copy with the nodes that are kept, and without the edges that are too small."""
    made = copy.deepcopy(kan)
    made.widths = [len(nodes) for nodes in kept]
    for layer, inputs, outputs, size in zip(
        made.layers, kept[:-1], kept[1:], sizes, strict=True
    ):
        stays = (size > least).to(layer.mask)[outputs][:, inputs]
        for name in ("coef", "base_weight", "spline_weight"):
            old = getattr(layer, name)
            part = old.data[outputs][:, inputs].contiguous()
            setattr(layer, name, nn.Parameter(part, old.requires_grad))
        layer.knots = layer.knots[inputs]
        layer.mask = layer.mask[outputs][:, inputs] * stays
        layer.in_features, layer.out_features = len(inputs), len(outputs)
    return made
