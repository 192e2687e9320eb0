r"""The two layers: attention over neighbours whose score is GAT's, or GATv2's.

Papers: Veličković et al. 2017; Brody, Alon and Yahav 2021
Axes: n nodes, e edges, f features that go in, h heads, o features of a head, d of an edge.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.graph._aggregate import aggregate, scatter_softmax
from nnlib.graph._edge_passes import pair_scores, weighted_sum
from nnlib.graph._edges import add_self_loops, check_edges


class _NeighbourAttention(nn.Module):
    """Heads, loops, softmax over neighbours and the weighted sum; a subclass says what a score is.

    Subclasses make their projections first, so that ours come in the order of the peer's.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_heads: int,
        concat: bool,
        negative_slope: float,
        dropout: float,
        self_loops: bool,
        edge_dim: int | None,
        bias: bool,
        residual: bool,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.num_heads = checks.count("num_heads", num_heads)
        self.concat = checks.flag("concat", concat)
        self.negative_slope = checks.number("negative_slope", negative_slope, least=0)
        self.dropout = checks.number("dropout", dropout, least=0, most=1)
        self.self_loops = checks.flag("self_loops", self_loops)
        self.edge_dim = None if edge_dim is None else checks.count("edge_dim", edge_dim)
        checks.flag("bias", bias)
        checks.flag("residual", residual)

    @property
    def wide(self) -> int:
        """Features of all heads together."""
        return self.num_heads * self.out_features

    def _ends(self, bias: bool, residual: bool, like: dict[str, Any]) -> None:
        """Make what both layers end with, and draw all weights."""
        total = self.wide if self.concat else self.out_features
        self.res = (
            nn.Linear(self.in_features, total, bias=False, **like) if residual else None
        )
        self.bias = nn.Parameter(torch.empty(total, **like)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights after Glorot, and biases, as PyTorch Geometric does: the last is zero."""
        for name, value in self.named_parameters():
            if name == "bias":
                nn.init.zeros_(value)
                continue
            if name.endswith("bias"):
                bound = self.in_features**-0.5
            else:  # from the last two axes, for vectors of heads as well
                bound = (6 / (value.shape[-2] + value.shape[-1])) ** 0.5
            nn.init.uniform_(value, -bound, bound)

    def forward(
        self,
        x: Float[Tensor, "n f"],
        edge_index: Int[Tensor, "2 e"],
        edge_features: Float[Tensor, "e d"] | None = None,
    ) -> Float[Tensor, "n _"]:
        """Return new features, one row a node.

        Args:
            x: features of the nodes.
            edge_index: sources, which are looked at, and targets, which look.
            edge_features: of each edge, if the layer was made with `edge_dim`.
        """
        return self.with_weights(x, edge_index, edge_features)[0]

    def with_weights(
        self,
        x: Float[Tensor, "n f"],
        edge_index: Int[Tensor, "2 e"],
        edge_features: Float[Tensor, "e d"] | None = None,
    ) -> tuple[Float[Tensor, "n _"], tuple[Int[Tensor, "2 m"], Float[Tensor, "m h"]]]:
        """Return new features, and the edges (loops among them) with their weights.

        Arguments as in `forward`. Weights are returned as they were used: in training, after
        dropout.
        """
        n = checks.tensor("x", x, shape=("n", self.in_features), floating=True).shape[0]
        edges, features = self._edges(edge_index, edge_features, n)
        source, target = edges
        values, scores = self._values_and_scores(x, source, target, features)
        weights = scatter_softmax(scores, target, n)  # eq. graph-attention-weights
        weights = F.dropout(weights, self.dropout, self.training)
        out = weighted_sum(
            values, weights, source, target
        )  # eq. graph-attention-output
        out = out.flatten(1) if self.concat else out.mean(1)
        if self.res is not None:
            out = out + self.res(x)
        return out if self.bias is None else out + self.bias, (edges, weights)

    def _edges(
        self, edge_index: Tensor, features: Tensor | None, num_nodes: int
    ) -> tuple[Tensor, Tensor | None]:
        """Return the edges that are attended over, with loops where these are wanted."""
        if (features is None) != (self.edge_dim is None):
            given = "none were" if features is None else "they were"
            raise ValueError(
                f"edge_features with edge_dim={self.edge_dim}: {given} given"
            )
        if features is not None:
            check_edges(edge_index, num_nodes)
            shape = (edge_index.shape[1], self.edge_dim)
            checks.tensor("edge_features", features, shape=shape, floating=True)
        if not self.self_loops:
            check_edges(edge_index, num_nodes)
            return edge_index, features
        looped = add_self_loops(edge_index, num_nodes)
        if features is not None:  # a loop's features are the mean of what comes in
            others = edge_index[0] != edge_index[1]
            features = features[others]
            loops = aggregate(features, edge_index[1, others], num_nodes, "mean")
            features = torch.cat([features, loops])
        return looped, features

    def _heads(self, rows: Tensor) -> Tensor:
        return rows.unflatten(1, (self.num_heads, self.out_features))

    def _values_and_scores(
        self, x: Tensor, source: Tensor, target: Tensor, features: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return what nodes hand out, n h o, and the score of each edge, e h."""
        raise NotImplementedError


class GATLayer(_NeighbourAttention):
    r"""Each node takes a weighted mean of its neighbours, with weights that it learns to give.

    $e_{ij} = \mathrm{LeakyReLU}(\mathbf a_t^\top \mathbf W\mathbf h_i + \mathbf a_s^\top
    \mathbf W\mathbf h_j)$, $\alpha_{ij} = \operatorname{softmax}_j(e_{ij})$ over the neighbours and
    $i$ itself, and $\mathbf h'_i = \sum_j \alpha_{ij}\mathbf W\mathbf h_j + \mathbf b$ (equations
    `graph-attention-score`, `graph-attention-weights`, `graph-attention-output`). No nonlinearity
    follows: that is the network's affair.

    Loads the `state_dict` of PyTorch Geometric's `GATConv` unchanged.

    Args:
        in_features: of a node, ≥ 1.
        out_features: of a node and head, ≥ 1.
        num_heads: heads h, ≥ 1.
        concat: whether heads are written one beside the other or averaged.
        negative_slope: of LeakyReLU, ≥ 0.
        dropout: probability of dropping an attention weight in training, 0 … 1.
        self_loops: whether each node looks at itself, too; without, a node with no neighbours
            gets the bias alone.
        edge_dim: features of an edge, or None for none; a loop's are the mean of what comes in.
        bias: whether a bias is added at the end.
        residual: whether a linear map of the input is added.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = GATLayer(in_features=5, out_features=4, num_heads=3)
        >>> layer(torch.zeros(6, 5), torch.tensor([[0, 1, 2], [1, 2, 0]])).shape
        torch.Size([6, 12])

    Source: Veličković et al. 2017, whose single $\mathbf a$ is our $\mathbf a_t$ and
    $\mathbf a_s$, one above the other.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_heads: int = 1,
        *,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        self_loops: bool = True,
        edge_dim: int | None = None,
        bias: bool = True,
        residual: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            in_features, out_features, num_heads, concat, negative_slope, dropout, self_loops,
            edge_dim, bias, residual,
        )  # fmt: skip
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.lin = nn.Linear(in_features, self.wide, bias=False, **like)
        per_head = (1, num_heads, out_features)
        self.att_src = nn.Parameter(torch.empty(per_head, **like))
        self.att_dst = nn.Parameter(torch.empty(per_head, **like))
        self.lin_edge = self.att_edge = None
        if edge_dim is not None:
            self.lin_edge = nn.Linear(edge_dim, self.wide, bias=False, **like)
            self.att_edge = nn.Parameter(torch.empty(per_head, **like))
        self._ends(bias, residual, like)

    def _values_and_scores(
        self, x: Tensor, source: Tensor, target: Tensor, features: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        values = self._heads(self.lin(x))
        as_source = (values * self.att_src).sum(-1)  # eq. graph-attention-split
        as_target = (values * self.att_dst).sum(-1)
        scores = as_source.index_select(0, source) + as_target.index_select(0, target)
        if (
            features is not None
            and self.lin_edge is not None
            and self.att_edge is not None
        ):
            # The vector first, then the edges: e × h numbers instead of e × h × o.
            by_head = (self._heads(self.lin_edge.weight.T) * self.att_edge).sum(-1)
            scores = scores + features @ by_head  # eq. graph-attention-edges
        return values, F.leaky_relu(
            scores, self.negative_slope
        )  # eq. graph-attention-score


class GATv2Layer(_NeighbourAttention):
    r"""GAT with the nonlinearity between its two maps, so that the ranking depends on who asks.

    $e_{ij} = \mathbf a^\top \mathrm{LeakyReLU}(\mathbf W_t\mathbf h_i + \mathbf W_s\mathbf h_j)$
    (equation `graph-attention-dynamic`); the rest is as in `GATLayer`, with values
    $\mathbf W_s\mathbf h_j$.

    Loads the `state_dict` of PyTorch Geometric's `GATv2Conv` unchanged.

    Args:
        in_features: as in `GATLayer`, like all that is not told here.
        out_features: of a node and head, ≥ 1.
        num_heads: heads h, ≥ 1.
        concat: whether heads are written one beside the other or averaged.
        negative_slope: of LeakyReLU, ≥ 0.
        dropout: probability of dropping an attention weight in training, 0 … 1.
        self_loops: whether each node looks at itself, too.
        edge_dim: features of an edge, or None; their map is added within the LeakyReLU.
        bias: whether both maps have biases, and one is added at the end.
        residual: whether a linear map of the input is added.
        share_weights: whether $\mathbf W_t$ is $\mathbf W_s$.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = GATv2Layer(in_features=5, out_features=4, num_heads=3, concat=False)
        >>> layer(torch.zeros(6, 5), torch.tensor([[0, 1, 2], [1, 2, 0]])).shape
        torch.Size([6, 4])

    Source: Brody, Alon and Yahav 2021, whose $\mathbf W$ is our $\mathbf W_t$ and $\mathbf W_s$,
    side by side.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_heads: int = 1,
        *,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        self_loops: bool = True,
        edge_dim: int | None = None,
        bias: bool = True,
        residual: bool = False,
        share_weights: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            in_features, out_features, num_heads, concat, negative_slope, dropout, self_loops,
            edge_dim, bias, residual,
        )  # fmt: skip
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.share_weights = checks.flag("share_weights", share_weights)
        self.lin_l = nn.Linear(in_features, self.wide, bias=bias, **like)
        self.lin_r = (
            self.lin_l
            if share_weights
            else nn.Linear(in_features, self.wide, bias=bias, **like)
        )
        self.att = nn.Parameter(torch.empty(1, num_heads, out_features, **like))
        self.lin_edge = None
        if edge_dim is not None:
            self.lin_edge = nn.Linear(edge_dim, self.wide, bias=False, **like)
        self._ends(bias, residual, like)

    def _values_and_scores(
        self, x: Tensor, source: Tensor, target: Tensor, features: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        keys = self._heads(self.lin_l(x))
        queries = keys if self.share_weights else self._heads(self.lin_r(x))
        slope = self.negative_slope
        if features is None or self.lin_edge is None:
            return keys, pair_scores(keys, queries, self.att[0], source, target, slope)
        pairs = keys.index_select(0, source) + queries.index_select(0, target)
        pairs = pairs + self._heads(self.lin_edge(features))
        return keys, (F.leaky_relu(pairs, slope) * self.att).sum(
            -1
        )  # eq. graph-attention-dynamic
