r"""More layers, or more averaging, without everything becoming alike: GCNII, APPNP, dropped edges.

Axes: n nodes, e edges, d features, c classes.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.graph._adjacency import NormalizedAdjacency
from nnlib.graph._edges import check_edges
from nnlib.graph._smoothing import as_adjacency


class APPNP(nn.Module):
    r"""Predict first, then propagate.

    $\mathbf Z \leftarrow (1-\alpha)\hat{\mathbf S}\mathbf Z + \alpha\mathbf H$, again and
    again (equation `gcn-appnp`): $\mathbf H$ is the answer of a network with one hidden layer that
    sees no edge, and what spreads is drawn back to it at every step, as in personalised PageRank.

    Args:
        in_features: of a node, ≥ 1.
        hidden_size: ≥ 1.
        num_classes: ≥ 1.
        k: steps of propagation, ≥ 0.
        alpha: how much is drawn back, in 0 … 1.
        dropout: probability of dropping in training, 0 … 1.

    Example:
        >>> model = APPNP(5, hidden_size=16, num_classes=3)
        >>> model(torch.randn(4, 5), torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([4, 3])

    Source: Gasteiger, Bojchevski and Günnemann 2019, Predict then propagate.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_classes: int,
        k: int = 10,
        alpha: float = 0.1,
        dropout: float = 0.5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        checks.count("hidden_size", hidden_size)
        checks.count("num_classes", num_classes)
        self.k = checks.count("k", k, least=0)
        self.alpha = checks.number("alpha", alpha, least=0, most=1)
        drop = checks.number("dropout", dropout, least=0, most=1)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.mlp = nn.Sequential(
            nn.Dropout(drop), nn.Linear(in_features, hidden_size, **like), nn.ReLU(),
            nn.Dropout(drop), nn.Linear(hidden_size, num_classes, **like),
        )  # fmt: skip

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"] | NormalizedAdjacency,
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n c"]:
        """Return logits, a row for each node."""
        checks.tensor("x", x, shape=("n", self.in_features), floating=True)
        S = as_adjacency(edge_index, x, edge_weight)
        z = own = self.mlp(x)
        for _ in range(self.k):
            z = (1 - self.alpha) * S.propagate(z) + self.alpha * own  # eq. gcn-appnp
        return z


class GCNIILayer(nn.Module):
    r"""A layer that draws its input back to the first one, and maps it to what is near itself.

    $((1-\alpha)\hat{\mathbf S}\mathbf H + \alpha\mathbf H_0)((1-\beta)\mathbf I +
    \beta\mathbf W)$: equation `gcn-gcnii`, without the nonlinearity that follows. Part of the first
    layer's features comes back in every layer, and the map is near the identity. Loads the
    `state_dict` of PyTorch Geometric's `GCN2Conv`, and gives it; as there, the weight is not
    transposed.

    Args:
        features: of a node, in and out, ≥ 1.
        alpha: how much of the first layer comes back, in 0 … 1.
        beta: how much the map may differ from the identity, in 0 … 1.

    Example:
        >>> layer, x = GCNIILayer(16, alpha=0.1, beta=0.2), torch.randn(5, 16)
        >>> layer(x, x, torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([5, 16])

    Source: Chen et al. 2020, Simple and deep graph convolutional networks.
    """

    def __init__(
        self,
        features: int,
        alpha: float = 0.1,
        beta: float = 1.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.features = checks.count("features", features)
        self.alpha = checks.number("alpha", alpha, least=0, most=1)
        self.beta = checks.number("beta", beta, least=0, most=1)
        self.weight1 = nn.Parameter(
            torch.empty(features, features, device=device, dtype=dtype)
        )
        nn.init.xavier_uniform_(self.weight1)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        first: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"] | NormalizedAdjacency,
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Return the nodes' new features.

        Args:
            x: features of the nodes.
            first: those that the first of these layers was given.
            edge_index: sources above targets; or the matrix made of them.
            edge_weight: ≥ 0, one an edge; 1 if None.
        """
        checks.tensor("x", x, shape=("n", self.features), floating=True)
        checks.tensor("first", first, shape=tuple(x.shape), floating=True)
        S = as_adjacency(edge_index, x, edge_weight)
        mixed = (1 - self.alpha) * S.propagate(x) + self.alpha * first
        return (1 - self.beta) * mixed + self.beta * (
            mixed @ self.weight1
        )  # eq. gcn-gcnii


class GCNII(nn.Module):
    r"""A deep network: one `GCNIILayer` after the other, between two affine maps, with ReLUs.

    Layer $\ell$ has $\beta_\ell = \ln(\theta/\ell + 1)$, so that later layers change less.

    Args:
        in_features: of a node, ≥ 1.
        hidden_size: ≥ 1.
        num_classes: ≥ 1.
        num_layers: ≥ 1.
        alpha: as for `GCNIILayer`.
        theta: > 0, at most 1.7, for β must not pass 1.
        dropout: probability of dropping in training, 0 … 1.

    Example:
        >>> model = GCNII(5, hidden_size=16, num_classes=3, num_layers=8)
        >>> model(torch.randn(4, 5), torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([4, 3])

    Source: Chen et al. 2020, Simple and deep graph convolutional networks.
    """

    def __init__(
        self,
        in_features: int,
        hidden_size: int,
        num_classes: int,
        num_layers: int = 8,
        alpha: float = 0.1,
        theta: float = 0.5,
        dropout: float = 0.5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        checks.count("hidden_size", hidden_size)
        checks.count("num_classes", num_classes)
        checks.number("theta", theta, above=0, most=1.7)
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.first = nn.Linear(in_features, hidden_size, **like)
        self.last = nn.Linear(hidden_size, num_classes, **like)
        self.convs = nn.ModuleList(
            GCNIILayer(hidden_size, alpha, math.log(theta / layer + 1), **like)
            for layer in range(1, checks.count("num_layers", num_layers) + 1)
        )

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"] | NormalizedAdjacency,
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n c"]:
        """Return logits, a row for each node."""
        checks.tensor("x", x, shape=("n", self.in_features), floating=True)
        S = as_adjacency(edge_index, x, edge_weight)
        x = first = F.relu(self.first(self.dropout(x)))
        for layer in self.convs:
            x = F.relu(layer(self.dropout(x), first, S))
        return self.last(self.dropout(x))


def drop_edges(
    edge_index: Int[Tensor, "2 e"],
    p: float = 0.5,
    *,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "2 kept"]:
    """Return the edges without a random part of them; both directions of an edge go together.

    Args:
        edge_index: sources above targets.
        p: probability that an edge is dropped, in 0 … 1.
        generator: of the random numbers.

    Example:
        >>> edges = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> drop_edges(edges, p=0.0).shape, drop_edges(edges, p=1.0).shape
        (torch.Size([2, 4]), torch.Size([2, 0]))

    Source: Rong et al. 2020, DropEdge.
    """
    p = checks.number("p", p, least=0, most=1)
    nodes = (
        int(edge_index.max()) + 1
        if torch.is_tensor(edge_index) and edge_index.numel()
        else 0
    )
    check_edges(edge_index, nodes)
    ends = edge_index.sort(0).values
    _, pair = torch.unique(ends, dim=1, return_inverse=True)
    drawn = torch.rand(pair.shape, generator=generator, device=edge_index.device)
    return edge_index[:, drawn[pair] >= p]
