r"""Graph attention: neighbours weighed by how much they matter here; and transformers on graphs.

Chapter: chapters/graph/graph_attention.md
Papers: Veličković et al. 2017 (GAT); Brody, Alon and Yahav 2021 (GATv2); Dwivedi and Bresson 2020
(graph transformer). The layers stand in `_gat_layers`, positions in `_positions`, attention between
all nodes in `_graph_transformer`.
Axes: n nodes, e edges, f features that go in, h heads, o features of a head.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.graph._gat_layers import GATLayer, GATv2Layer
from nnlib.graph._graph_transformer import DistanceBias, GPSLayer, GraphTransformer
from nnlib.graph._positions import (
    Packing,
    flip_signs,
    laplacian_positions,
    random_walk_positions,
    shortest_paths,
)

__all__ = [
    "GAT",
    "DistanceBias",
    "GATLayer",
    "GATv2Layer",
    "GPSLayer",
    "GraphTransformer",
    "Packing",
    "flip_signs",
    "laplacian_positions",
    "node_loss",
    "random_walk_positions",
    "shortest_paths",
    "spread_of_nodes",
]


class GAT(nn.Module):
    r"""The paper's network for classes of nodes: attention, ELU, attention, logits.

    Hidden layers write their heads side by side, the last one takes their mean (equations
    `graph-attention-concat`, `graph-attention-mean`). In training, inputs of layers and attention
    weights are dropped alike.

    Args:
        in_features: of a node, ≥ 1.
        hidden_size: features of a head in the hidden layers, ≥ 1.
        num_classes: ≥ 1.
        num_heads: of the hidden layers.
        num_layers: ≥ 1; with 1 there is no hidden layer.
        output_heads: of the last layer.
        dropout: probability of dropping in training, 0 … 1.
        layer: `GATLayer` or `GATv2Layer`.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = GAT(in_features=5, hidden_size=8, num_classes=3)
        >>> model(torch.zeros(4, 5), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([4, 3])

    Source: Veličković et al. 2017, section 3.3: two layers, 8 heads of 8 features, dropout 0.6.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_classes: int,
        *,
        num_heads: int = 8,
        num_layers: int = 2,
        output_heads: int = 1,
        dropout: float = 0.6,
        layer: type[GATLayer] | type[GATv2Layer] = GATLayer,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if layer not in (GATLayer, GATv2Layer):
            raise ValueError(f"layer={layer!r} must be GATLayer or GATv2Layer")
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        self.in_features = checks.count("in_features", in_features)
        checks.count("num_classes", num_classes)
        checks.count("output_heads", output_heads)
        hidden = checks.count("num_layers", num_layers) - 1
        wide = checks.count("num_heads", num_heads) * checks.count(
            "hidden_size", hidden_size
        )
        like: dict[str, Any] = {"dropout": dropout, "device": device, "dtype": dtype}
        widths = [in_features, *[wide] * hidden]
        self.layers = nn.ModuleList(
            layer(width, hidden_size, num_heads, **like) for width in widths[:-1]
        )
        self.layers.append(
            layer(widths[-1], num_classes, output_heads, concat=False, **like)
        )

    def forward(
        self, x: Float[Tensor, "n f"], edge_index: Int[Tensor, "2 e"]
    ) -> Float[Tensor, "n _"]:
        """Return logits, a row for each node."""
        checks.tensor("x", x, shape=("n", self.in_features), floating=True)
        *hidden, last = self.layers
        for layer in hidden:
            x = F.elu(layer(self.dropout(x), edge_index))
        return last(self.dropout(x), edge_index)


def node_loss(
    model: nn.Module,
    x: Float[Tensor, "n f"],
    edge_index: Int[Tensor, "2 e"],
    classes: Int[Tensor, " n"],
    labelled: Int[Tensor, " m"],
) -> Float[Tensor, ""]:
    r"""Return the cross-entropy of the nodes whose class is known (`graph-attention-loss`).

    Args:
        model: gives logits of all nodes when called with `x` and `edge_index`.
        x: features of all nodes, those without a label among them.
        edge_index: sources and targets.
        classes: of all nodes; only those of `labelled` are looked at.
        labelled: numbers of the nodes to learn from, at least one.

    Example:
        >>> edges, classes = torch.tensor([[0, 1], [1, 0]]), torch.tensor([1, 0])
        >>> model = GAT(3, 4, 2, dropout=0.0)
        >>> node_loss(model, torch.zeros(2, 3), edges, classes, torch.tensor([0]))  # ln 2
        tensor(0.6931, grad_fn=<NllLossBackward0>)
    """
    checks.tensor("classes", classes, shape=("n",), floating=False)
    checks.tokens("labelled", labelled, len(classes), shape=("m",), of="nodes")
    return F.cross_entropy(model(x, edge_index)[labelled], classes[labelled])


def spread_of_nodes(x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    r"""Return how far nodes are from all alike, of how large they are: 0 when they are.

    $\lVert \mathbf H - \mathbf 1\bar{\mathbf h}^\top \rVert / \lVert \mathbf H \rVert$ with the
    mean row $\bar{\mathbf h}$; 0 for zeros (equation `graph-attention-spread`).

    Example:
        >>> spread_of_nodes(torch.tensor([[2.0], [2.0]])), spread_of_nodes(torch.eye(2))
        (tensor(0.), tensor(0.7071))
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True)
    size = x.norm()
    return (x - x.mean(0)).norm() / size.where(size > 0, 1.0)
