r"""Message passing: nodes send along their edges, and each makes one vector of what arrives.

A layer is a class with a `message`, an aggregation and an `update`; none of them knows how nodes
are numbered, so a renumbered graph gives the same answer, renumbered. GraphSAGE and GIN load the
weights of PyTorch Geometric's layers as they are.

Chapter: chapters/graph/message_passing.md
Papers: Scarselli et al. 2009, Gilmer et al. 2017 (the framework), Hamilton, Ying and Leskovec 2017
(GraphSAGE), Xu et al. 2019 (GIN), Hu et al. 2020 (edges for GIN)
Axes: n nodes, e edges, d features, k features of an edge, g graphs.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.graph._aggregate import (
    AGGREGATIONS,
    aggregate,
    pna,
    softmax_over_neighbours,
)
from nnlib.graph._edges import (
    add_self_loops,
    add_weighted_self_loops,
    check_edges,
    coalesce,
    degrees,
    undirected,
)
from nnlib.graph._framework import MessagePassing, readout, two_layers
from nnlib.graph._layers import GINELayer, GINLayer, MPNNLayer, SAGELayer
from nnlib.graph._sampling import Sample, sample_neighbours
from nnlib.graph._wl import Comparison, wl_colors, wl_test

__all__ = [
    "GIN",
    "Comparison",
    "GINELayer",
    "GINLayer",
    "GraphSAGE",
    "MPNNLayer",
    "MessagePassing",
    "SAGELayer",
    "Sample",
    "add_self_loops",
    "add_weighted_self_loops",
    "aggregate",
    "check_edges",
    "coalesce",
    "degrees",
    "pna",
    "readout",
    "sample_neighbours",
    "softmax_over_neighbours",
    "undirected",
    "wl_colors",
    "wl_test",
]


class GraphSAGE(nn.Module):
    """A stack of `SAGELayer` with ReLU between them: an output for every node.

    Loads the `state_dict` of PyTorch Geometric's model of that name.

    Args:
        in_features: of a node, ≥ 1.
        hidden_size: of a node between layers, ≥ 1.
        out_features: of a node, ≥ 1.
        num_layers: how many edges away a node sees, ≥ 1.
        aggr: as for `SAGELayer`.
        dropout: chance that a feature is dropped before a layer that is not the first, in [0, 1).

    Example:
        >>> model = GraphSAGE(16, 32, 4, num_layers=2)
        >>> model(torch.randn(5, 16), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([5, 4])

    Source: Hamilton, Ying and Leskovec 2017, Inductive representation learning on large graphs.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        out_features: int,
        num_layers: int = 2,
        aggr: str = "mean",
        dropout: float = 0.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        inner = checks.count("num_layers", num_layers) - 1
        checks.count("hidden_size", hidden_size)
        checks.count("out_features", out_features)
        self.dropout = checks.number("dropout", dropout, least=0, below=1)
        sizes = [checks.count("in_features", in_features), *[hidden_size] * inner]
        outs = [*sizes[1:], out_features]
        self.convs = nn.ModuleList(
            SAGELayer(one, other, aggr, device=device, dtype=dtype)
            for one, other in zip(sizes, outs, strict=True)
        )

    def forward(
        self, x: Float[Tensor, "n d"], edge_index: Int[Tensor, "2 e"]
    ) -> Float[Tensor, "n out"]:
        """Return an output for each node."""
        for at, conv in enumerate(self.convs):
            if at:
                x = F.dropout(F.relu(x), self.dropout, self.training)
            x = conv(x, edge_index)
        return x


class GIN(nn.Module):
    r"""A stack of `GINLayer`, read out after every layer: an output for every graph.

    $\mathbf o = \sum_l \mathbf W_l\,\mathrm{READOUT}\{\mathbf h_i^{(l)}\} + \mathbf b$, with the
    input as layer 0 (equation `message-passing-jumping`).

    Args:
        in_features: of a node, ≥ 1.
        hidden_size: of a node after each layer, and inside its network, ≥ 1.
        out_features: of a graph, ≥ 1.
        num_layers: how many edges away a node sees, ≥ 1.
        aggr: what becomes of messages; "sum" in the paper.
        how: the read-out: "sum", "mean" or "max".
        train_eps: whether each layer learns its ε.

    Example:
        >>> model = GIN(1, 32, 2, num_layers=3)
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> model(torch.ones(3, 1), path).shape
        torch.Size([1, 2])

    Source: Xu et al. 2019, How powerful are graph neural networks?
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        out_features: int,
        num_layers: int = 3,
        aggr: str = "sum",
        how: str = "sum",
        train_eps: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        checks.count("out_features", out_features)
        checks.count("hidden_size", hidden_size)
        checks.count("num_layers", num_layers)
        self.how = checks.one_of("how", how, AGGREGATIONS)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = [in_features, *[hidden_size] * num_layers]
        self.convs = nn.ModuleList(
            GINLayer(
                two_layers(size, hidden_size, hidden_size, **like),
                train_eps=train_eps, aggr=aggr, **like,
            )
            for size in sizes[:-1]
        )  # fmt: skip
        self.head = nn.Linear(sum(sizes), out_features, **like)

    def embed(
        self, x: Float[Tensor, "n d"], edge_index: Int[Tensor, "2 e"]
    ) -> Float[Tensor, "n all"]:
        """Return the features of each node after every layer, side by side."""
        shape = ("n", self.in_features)
        seen = [checks.tensor("x", x, shape=shape, floating=True)]
        for conv in self.convs:
            seen.append(F.relu(conv(seen[-1], edge_index)))
        return torch.cat(seen, -1)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"],
        batch: Int[Tensor, " n"] | None = None,
        num_graphs: int | None = None,
    ) -> Float[Tensor, "g out"]:
        """Return an output for each graph.

        Args:
            x: features of all nodes.
            edge_index: edges within the graphs.
            batch: as for `readout`.
            num_graphs: as for `readout`.
        """
        seen = readout(self.embed(x, edge_index), batch, num_graphs, self.how)
        return self.head(seen)  # eq. message-passing-jumping
