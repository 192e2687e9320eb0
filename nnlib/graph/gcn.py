r"""Graph convolutional network: average the neighbours, then apply one affine map.

Chapter: chapters/graph/gcn.md
Paper: Kipf and Welling 2016, Semi-supervised classification with graph convolutional networks. The
matrix that averages stands in `_adjacency`, what it does to frequencies in `_spectral`, deep ones
in `_gcn_deep`, and what averages without learning in `_smoothing`.
Axes: n nodes, e edges, d features, o features that come out, c classes.
"""

from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.graph._adjacency import Averaging, NormalizedAdjacency
from nnlib.graph._gcn_deep import APPNP, GCNII, GCNIILayer, drop_edges
from nnlib.graph._smoothing import (
    SGC,
    correct_and_smooth,
    homophily,
    label_propagation,
)
from nnlib.graph._spectral import (
    ChebLayer,
    chebyshev_filter,
    dirichlet_energy,
    graph_fourier,
    laplacian,
)

__all__ = [
    "APPNP",
    "GCN",
    "GCNII",
    "SGC",
    "ChebLayer",
    "GCNIILayer",
    "GCNLayer",
    "NormalizedAdjacency",
    "chebyshev_filter",
    "correct_and_smooth",
    "dirichlet_energy",
    "drop_edges",
    "graph_fourier",
    "homophily",
    "label_propagation",
    "laplacian",
]


class GCNLayer(Averaging):
    r"""One graph convolution: $\hat{\mathbf S}\mathbf H\mathbf W^\top + \mathbf b$.

    Equation `gcn-layer`, with $\hat{\mathbf S}$ as in `NormalizedAdjacency`. Loads the
    `state_dict` of PyTorch Geometric's `GCNConv`, and gives it. The smaller of the two sides is
    averaged: before the map if it makes features more, after it otherwise.

    Args:
        in_features: of a node, ≥ 1.
        out_features: of a node, ≥ 1.
        bias: whether a bias is added.
        improved: whether a node's loop weighs 2 instead of 1.
        self_loops: whether nodes get a loop.
        normalize: False where `edge_weight` is normalised already; then no loops are added.
        cached: whether the normalised matrix is kept for the next call. It is made anew when
            another graph comes, or the tensors of this one were changed.

    Example:
        >>> layer = GCNLayer(16, 32)
        >>> layer(torch.randn(5, 16), torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([5, 32])

    Source: Kipf and Welling 2016, Semi-supervised classification with graph convolutional networks.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        improved: bool = False,
        self_loops: bool = True,
        normalize: bool = True,
        cached: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            improved=improved, self_loops=self_loops, normalize=normalize, cached=cached
        )
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.lin = nn.Linear(in_features, out_features, bias=False, **like)
        if checks.flag("bias", bias):
            self.bias = nn.Parameter(torch.empty(out_features, **like))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights after Glorot and set the bias to zero, as the paper does."""
        nn.init.xavier_uniform_(self.lin.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"] | NormalizedAdjacency,
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n o"]:
        """Return the nodes' new features.

        Args:
            x: features of the nodes.
            edge_index: sources above targets, of int64; or what `adjacency` made of them.
            edge_weight: ≥ 0, one an edge; 1 if None.
        """
        checks.tensor("x", x, shape=("n", self.in_features), floating=True)
        S = self.adjacency(x, edge_index, edge_weight)
        if self.in_features < self.out_features:  # eq. gcn-layer
            return F.linear(S.propagate(x), self.lin.weight, self.bias)
        out = S.propagate(self.lin(x))
        return out if self.bias is None else out + self.bias

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        return f"{self.in_features}, {self.out_features}"


class GCN(Averaging):
    r"""The paper's network: graph convolutions with a ReLU between, and logits at the end.

    With two layers, $\hat{\mathbf S}\,\mathrm{ReLU}(\hat{\mathbf S}\mathbf X\mathbf W_0^\top)
    \mathbf W_1^\top$ (equation `gcn-two-layers`), and a bias in each. In training, the inputs of
    all layers are dropped alike. Loads the `state_dict` of PyTorch Geometric's model of the same
    name.

    Args:
        in_features: of a node, ≥ 1.
        hidden_size: features between layers, ≥ 1.
        num_classes: ≥ 1.
        num_layers: ≥ 1; a node sees that many edges far.
        dropout: probability of dropping in training, 0 … 1.
        bias, improved, cached: as for `GCNLayer`; all layers share one matrix.

    Example:
        >>> model = GCN(in_features=5, hidden_size=16, num_classes=3)
        >>> model(torch.randn(4, 5), torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([4, 3])

    Source: Kipf and Welling 2016: two layers, 16 hidden units, dropout 0.5.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_classes: int,
        num_layers: int = 2,
        dropout: float = 0.5,
        bias: bool = True,
        *,
        improved: bool = False,
        cached: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            improved=improved, self_loops=True, normalize=True, cached=cached
        )
        self.in_features = checks.count("in_features", in_features)
        checks.count("hidden_size", hidden_size)
        checks.count("num_classes", num_classes)
        hidden = [hidden_size] * (checks.count("num_layers", num_layers) - 1)
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        sizes = [in_features, *hidden, num_classes]
        self.convs = nn.ModuleList(
            GCNLayer(d, o, bias, device=device, dtype=dtype) for d, o in pairwise(sizes)
        )

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"] | NormalizedAdjacency,
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n c"]:
        """Return logits, a row for each node; arguments as for `GCNLayer`."""
        *hidden, last = self.convs
        checks.tensor("x", x, shape=("n", self.in_features), floating=True)
        S = self.adjacency(x, edge_index, edge_weight)
        for layer in hidden:
            x = F.relu(layer(self.dropout(x), S))
        return last(self.dropout(x), S)
