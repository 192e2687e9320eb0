"""Layers: GraphSAGE and GIN, GIN with edges, and the framework with networks for both functions.

Axes: n nodes, e edges, d features, k features of an edge.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.graph._framework import MessagePassing, two_layers


class SAGELayer(MessagePassing):
    r"""GraphSAGE: $\mathbf W_r\mathbf h_i + \mathbf W_l\,\mathrm{mean}_j\,\mathbf h_j + \mathbf b$.

    Equation `message-passing-sage`. Two matrices, one for the node itself and one for its
    neighbourhood, are the paper's one matrix on both, side by side. Loads the `state_dict` of
    PyTorch Geometric's `SAGEConv`, and gives it.

    Args:
        in_features: of a node, ≥ 1.
        out_features: of a node, ≥ 1.
        aggr: "mean", "max" or "sum".
        normalize: whether outputs get length 1, as in the paper (`message-passing-normalize`); a
            row of zeros stays one.
        root_weight: whether the node itself counts.
        project: whether neighbours go through an affine map and a ReLU first, as they do in the
            paper's "pool" aggregator, which then takes the maximum.
        bias: whether a bias is added.

    Example:
        >>> layer = SAGELayer(16, 32)
        >>> layer(torch.randn(5, 16), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([5, 32])

    Source: Hamilton, Ying and Leskovec 2017, Inductive representation learning on large graphs.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        aggr: str = "mean",
        normalize: bool = False,
        root_weight: bool = True,
        project: bool = False,
        bias: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(aggr)
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.normalize = checks.flag("normalize", normalize)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.lin = None
        if checks.flag("project", project):
            self.lin = nn.Linear(in_features, in_features, **like)
        self.lin_l = nn.Linear(
            in_features, out_features, checks.flag("bias", bias), **like
        )
        self.lin_r = None
        if checks.flag("root_weight", root_weight):
            self.lin_r = nn.Linear(in_features, out_features, bias=False, **like)

    def propagate(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Return the aggregate of the neighbours, projected first where that is asked for."""
        if self.lin is not None:
            x = F.relu(self.lin(x))
        return super().propagate(x, edge_index)

    def update(self, x: Tensor, received: Tensor) -> Tensor:
        """Return the sum of two affine maps, normalised where that is asked for."""
        out = self.lin_l(received)  # eq. message-passing-sage
        if self.lin_r is not None:
            out = torch.addmm(out, x, self.lin_r.weight.T)
        return F.normalize(out, dim=-1) if self.normalize else out


class GINLayer(MessagePassing):
    r"""Graph isomorphism network: $\mathrm{MLP}((1+\epsilon)\,\mathbf h_i + \sum_j\mathbf h_j)$.

    Equation `message-passing-gin`. Loads the `state_dict` of PyTorch Geometric's `GINConv` with
    the same network, and gives it.

    Args:
        mlp: what is applied to the sum at every node, such as two affine maps with a ReLU between.
        eps: $\epsilon$, which tells a node from its neighbours.
        train_eps: whether it is learned.
        aggr: "sum"; others, such as "mean", are for comparison.

    Example:
        >>> mlp = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32))
        >>> GINLayer(mlp)(torch.randn(5, 16), torch.tensor([[0, 1], [1, 2]])).shape
        torch.Size([5, 32])

    Source: Xu et al. 2019, How powerful are graph neural networks?
    """

    eps: Tensor

    def __init__(
        self,
        mlp: Callable[[Tensor], Tensor],
        eps: float = 0.0,
        train_eps: bool = False,
        aggr: str = "sum",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(aggr)
        if not callable(mlp):
            raise TypeError(f"mlp={mlp!r} must be a module or a function")
        self.nn = mlp
        start = torch.full((1,), checks.number("eps", eps), device=device, dtype=dtype)
        if checks.flag("train_eps", train_eps):
            self.eps = nn.Parameter(start)
        else:
            self.register_buffer("eps", start)

    def update(self, x: Tensor, received: Tensor) -> Tensor:
        """Return the network of the weighted sum."""
        return self.nn((1 + self.eps) * x + received)  # eq. message-passing-gin


class GINELayer(GINLayer):
    r"""GIN with edges: the message is $\mathrm{ReLU}(\mathbf h_j + \mathbf W\mathbf e_{ji} + b)$.

    Equation `message-passing-gine`. Loads the `state_dict` of PyTorch Geometric's `GINEConv`.

    Args:
        mlp: as for `GINLayer`.
        in_features: of a node, ≥ 1.
        edge_features: of an edge, ≥ 1.
        eps: as for `GINLayer`.
        train_eps: as for `GINLayer`.

    Example:
        >>> layer = GINELayer(nn.Linear(4, 8), in_features=4, edge_features=3)
        >>> layer(torch.randn(2, 4), torch.tensor([[0], [1]]), torch.randn(1, 3)).shape
        torch.Size([2, 8])

    Source: Hu et al. 2020, Strategies for pre-training graph neural networks.
    """

    def __init__(
        self,
        mlp: Callable[[Tensor], Tensor],
        in_features: int,
        edge_features: int,
        eps: float = 0.0,
        train_eps: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(mlp, eps, train_eps, device=device, dtype=dtype)
        self.in_features = checks.count("in_features", in_features)
        self.edge_features = checks.count("edge_features", edge_features)
        self.lin = nn.Linear(edge_features, in_features, device=device, dtype=dtype)

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor | None) -> Tensor:
        """Return the sender's features, shifted by those of the edge, and cut at 0."""
        return F.relu(x_j + self.lin(edge_attr))  # eq. message-passing-gine


class MPNNLayer(MessagePassing):
    r"""The framework with networks for both functions: $M$ and $U$ are each learned.

    $M = \mathrm{MLP}([\mathbf h_i, \mathbf h_j, \mathbf e_{ji}])$ and
    $U = \mathrm{MLP}([\mathbf h_i, \mathbf m_i])$ (equation `message-passing-mpnn`), each with one
    hidden layer of ReLU units.

    Args:
        in_features: of a node, ≥ 1.
        out_features: of a node, ≥ 1.
        hidden_size: of both networks, and of a message, ≥ 1.
        edge_features: of an edge; 0: edges have none.
        aggr: "sum", "mean" or "max".

    Example:
        >>> layer = MPNNLayer(4, 8, 16, edge_features=3)
        >>> layer(torch.randn(2, 4), torch.tensor([[0], [1]]), torch.randn(1, 3)).shape
        torch.Size([2, 8])

    Source: Gilmer et al. 2017, Neural message passing for quantum chemistry; Battaglia et al. 2018.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_size: int,
        edge_features: int = 0,
        aggr: str = "sum",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(aggr)
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.edge_features = checks.count("edge_features", edge_features, least=0)
        hidden_size = checks.count("hidden_size", hidden_size)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        read = 2 * in_features + edge_features
        self.sender = two_layers(read, hidden_size, hidden_size, **like)
        self.updater = two_layers(
            in_features + hidden_size, hidden_size, out_features, **like
        )

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor | None) -> Tensor:
        """Return a network's answer to receiver, sender and edge."""
        parts = [x_i, x_j] if edge_attr is None else [x_i, x_j, edge_attr]
        return self.sender(torch.cat(parts, -1))  # eq. message-passing-mpnn

    def update(self, x: Tensor, received: Tensor) -> Tensor:
        """Return a network's answer to a node and what it received."""
        return self.updater(torch.cat([x, received], -1))  # eq. message-passing-mpnn
