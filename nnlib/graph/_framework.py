"""The framework: gather, message, aggregate, update; and one vector for a whole graph.

Axes: n nodes, e edges, d features, k features of an edge, g graphs.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.graph._aggregate import AGGREGATIONS, neighbour_max, neighbour_sum, scatter
from nnlib.graph._edges import check_edges, degrees


class MessagePassing(nn.Module):
    r"""What all these layers share: gather, `message`, aggregate, `update`.

    $\mathbf m_i = \bigoplus_{j \in N(i)} M(\mathbf h_i, \mathbf h_j, \mathbf e_{ji})$ and
    $\mathbf h_i' = U(\mathbf h_i, \mathbf m_i)$ (equations `message-passing-message` and
    `message-passing-update`). A subclass overrides $M$, which is `message`, and $U$, `update`. As
    it stands, a message is the sender's features and nothing is done to their sum, so the layer is
    a product with the adjacency matrix.

    Args:
        aggr: what becomes of the messages at a node: "sum", "mean" or "max".

    Example:
        >>> arrow = torch.tensor([[0, 1], [2, 2]])  # 0 → 2 and 1 → 2
        >>> MessagePassing("sum")(torch.tensor([[1.0], [2.0], [5.0]]), arrow).flatten()
        tensor([0., 0., 3.])

    Source: Gilmer et al. 2017, Neural message passing for quantum chemistry.
    """

    def __init__(self, aggr: str = "sum"):
        super().__init__()
        self.aggr = checks.one_of("aggr", aggr, AGGREGATIONS)

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor | None) -> Tensor:
        """Return what is sent along each edge from j to i; here, the sender's features."""
        return x_j

    def update(self, x: Tensor, received: Tensor) -> Tensor:
        """Return a node's new features; here, what it received."""
        return received

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"],
        edge_attr: Float[Tensor, "e k"] | None = None,
    ) -> Float[Tensor, "n out"]:
        """Return the nodes' new features.

        Args:
            x: features of the nodes.
            edge_index: sources j above targets i, of int64. An edge that stands in it twice sends
                twice; nodes where nothing arrives receive 0.
            edge_attr: features of the edges, for layers whose messages read them.
        """
        self._check(x, edge_index, edge_attr)
        return self.update(x, self.propagate(x, edge_index, edge_attr))

    def propagate(
        self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None = None
    ) -> Tensor:
        """Return what each node receives, of arguments that were looked at before."""
        if (
            type(self).message is MessagePassing.message
        ):  # messages are features: none is written
            if self.aggr == "max":
                return neighbour_max(x, edge_index)
            total = neighbour_sum(x, edge_index)
            if self.aggr == "sum":
                return total
            return total / degrees(edge_index[1], len(x)).clamp(min=1)[:, None]
        source, target = edge_index[0], edge_index[1]
        senders, receivers = x.index_select(0, source), x.index_select(0, target)
        messages = self.message(receivers, senders, edge_attr)
        return scatter(messages, target, len(x), self.aggr)

    def _check(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor | None) -> None:
        wide = getattr(self, "in_features", None)
        checks.tensor("x", x, shape=("n", wide or "d"), floating=True)
        check_edges(edge_index, len(x))
        if edge_attr is not None:
            shape = (edge_index.shape[1], getattr(self, "edge_features", None) or "k")
            checks.tensor("edge_attr", edge_attr, shape=shape, floating=True)
        elif getattr(self, "edge_features", 0):
            raise ValueError("edge_attr must be given: messages read it")


def readout(
    x: Float[Tensor, "n d"],
    batch: Int[Tensor, " n"] | None = None,
    num_graphs: int | None = None,
    how: str = "mean",
) -> Float[Tensor, "g d"]:
    r"""Return one vector a graph, of all its nodes (equation `message-passing-readout`).

    Args:
        x: features of all nodes of a batch.
        batch: the graph of each node; all belong to one if None.
        num_graphs: how many there are; the largest number in `batch` and one, if None. It is
            needed where that cannot be looked at: while compiling, or if the last graph is empty.
        how: "mean", "sum" or "max". A graph without nodes gets 0.

    Example:
        >>> readout(torch.tensor([[1.0], [3.0], [5.0]]), torch.tensor([0, 0, 1])).flatten()
        tensor([2., 5.])
    """
    checks.one_of("how", how, AGGREGATIONS)
    checks.tensor("x", x, shape=("n", "d"), floating=True)
    if num_graphs is not None:
        checks.count("num_graphs", num_graphs)
    if batch is None:
        batch = torch.zeros(len(x), dtype=torch.int64, device=x.device)
        num_graphs = num_graphs or 1
    checks.tensor("batch", batch, shape=(len(x),), floating=False)
    if num_graphs is None:
        num_graphs = int(batch.max()) + 1 if len(batch) else 1
    checks.tokens(
        "batch", batch, num_graphs, shape=(len(x),), empty=True, of="num_graphs"
    )
    return scatter(x, batch, num_graphs, how)


def two_layers(
    size: int, hidden: int, out: int, *, device: Device, dtype: torch.dtype | None
) -> nn.Sequential:
    """Return an affine map, a ReLU and another affine map."""
    return nn.Sequential(
        nn.Linear(size, hidden, device=device, dtype=dtype),
        nn.ReLU(),
        nn.Linear(hidden, out, device=device, dtype=dtype),
    )
