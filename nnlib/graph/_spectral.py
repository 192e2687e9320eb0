r"""Signals on a graph: their frequencies, filters as polynomials, and how smooth they are.

Papers: Hammond, Vandergheynst and Gribonval 2011; Defferrard, Bresson and Vandergheynst 2016
Axes: n nodes, e edges, d features, o features that come out, k powers.
"""

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.graph._adjacency import NormalizedAdjacency
from nnlib.graph._edges import check_edges


def laplacian(
    edge_index: Int[Tensor, "2 e"],
    num_nodes: int,
    edge_weight: Float[Tensor, " e"] | None = None,
) -> Float[Tensor, "n n"]:
    r"""Return $\mathbf L = \mathbf I - \mathbf D^{-1/2}\mathbf A\mathbf D^{-1/2}$, without loops.

    Equation `gcn-laplacian`. Of a node without neighbours nothing is taken off, so its row is that
    of $\mathbf I$.

    Args:
        edge_index: every edge in both directions; loops are left out.
        num_nodes: nodes in all, ≥ 1.
        edge_weight: ≥ 0, the same in both directions; 1 if None.

    Example:
        >>> laplacian(torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
        tensor([[ 1., -1.],
                [-1.,  1.]])
    """
    S = _plain(edge_index, checks.count("num_nodes", num_nodes), edge_weight)
    return torch.eye(num_nodes, device=edge_index.device, dtype=S.own.dtype) - S.dense()


def graph_fourier(
    matrix: Float[Tensor, "n n"],
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    r"""Return the frequencies of a graph, rising, and its waves, one a column.

    They are the eigenvalues and eigenvectors of a symmetric matrix, such as `laplacian`'s:
    $\mathbf U^\top\mathbf x$ is the graph Fourier transform of a signal (`gcn-fourier`).

    Example:
        >>> frequencies, waves = graph_fourier(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
        >>> frequencies.round(), waves.abs()
        (tensor([0., 2.]), tensor([[0.7071, 0.7071],
                [0.7071, 0.7071]]))
    """
    checks.tensor("matrix", matrix, shape=("n", "n"), floating=True, finite=True)
    if matrix.shape[0] != matrix.shape[1] or not torch.allclose(
        matrix, matrix.T, atol=1e-5
    ):
        raise ValueError("matrix must be symmetric: give every edge in both directions")
    frequencies, waves = torch.linalg.eigh(matrix)
    return frequencies, waves


def chebyshev_filter(
    x: Float[Tensor, "n d"],
    edge_index: Int[Tensor, "2 e"],
    coefficients: Sequence[float],
    edge_weight: Float[Tensor, " e"] | None = None,
    *,
    largest: float = 2.0,
) -> Float[Tensor, "n d"]:
    r"""Return $\sum_k \theta_k T_k(\tilde{\mathbf L})\,\mathbf x$, with no eigenvector computed.

    Equation `gcn-chebyshev`; $\tilde{\mathbf L} = 2\mathbf L/\lambda_{\max} - \mathbf I$ has its
    eigenvalues in −1 … 1. Each power is one more pass over the edges, so k powers see k edges far.

    Args:
        x: signals, one a column.
        edge_index: every edge in both directions.
        coefficients: $\theta_0, \theta_1, …$, at least one.
        edge_weight: ≥ 0, the same in both directions; 1 if None.
        largest: $\lambda_{\max}$, or a bound of it; that of any graph is 2.

    Example:
        >>> pair = torch.tensor([[0, 1], [1, 0]])
        >>> chebyshev_filter(torch.tensor([[1.0], [0.0]]), pair, [0.5, -0.5]).flatten()
        tensor([0.5000, 0.5000])
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True)
    coefficients = [checks.number("coefficients", value) for value in coefficients]
    if not coefficients:
        raise ValueError("coefficients must hold one number or more, got none")
    terms = _chebyshev(x, edge_index, edge_weight, largest, len(coefficients))
    first, *rest = (
        value * term for value, term in zip(coefficients, terms, strict=True)
    )
    return sum(rest, first)


class ChebLayer(nn.Module):
    r"""ChebNet: $\sum_k T_k(\tilde{\mathbf L})\,\mathbf X\mathbf W_k^\top + \mathbf b$.

    Equation `gcn-chebnet`: a filter of its own for every pair of an input and an output feature.
    Loads the `state_dict` of PyTorch Geometric's `ChebConv`, whose filters of size K have the
    powers 0 … K − 1, and gives it.

    Args:
        in_features: of a node, ≥ 1.
        out_features: of a node, ≥ 1.
        size: powers in a filter, ≥ 1; a node sees `size` − 1 edges far.
        bias: whether a bias is added.
        largest: as for `chebyshev_filter`.

    Example:
        >>> layer = ChebLayer(16, 32, size=3)
        >>> layer(torch.randn(5, 16), torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([5, 32])

    Source: Defferrard, Bresson and Vandergheynst 2016, Convolutional neural networks on graphs.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        size: int,
        bias: bool = True,
        *,
        largest: float = 2.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.largest = checks.number("largest", largest, above=0)
        self.lins = nn.ModuleList(
            nn.Linear(in_features, out_features, bias=False, device=device, dtype=dtype)
            for _ in range(checks.count("size", size))
        )
        if checks.flag("bias", bias):
            self.bias = nn.Parameter(
                torch.zeros(out_features, device=device, dtype=dtype)
            )
        else:
            self.register_parameter("bias", None)
        for _, weight in self.lins.named_parameters():
            nn.init.xavier_uniform_(weight)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"],
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n o"]:
        """Return the nodes' new features; every edge is to be given in both directions."""
        checks.tensor("x", x, shape=("n", self.in_features), floating=True)
        terms = _chebyshev(x, edge_index, edge_weight, self.largest, len(self.lins))
        first, *rest = (lin(term) for lin, term in zip(self.lins, terms, strict=True))
        out = sum(rest, first)  # eq. gcn-chebnet
        return out if self.bias is None else out + self.bias


def dirichlet_energy(
    x: Float[Tensor, "n d"], adjacency: NormalizedAdjacency
) -> Float[Tensor, ""]:
    r"""Return how much a signal changes along edges, of how large it is; 0 for zeros.

    $\operatorname{tr}(\mathbf X^\top(\mathbf I - \hat{\mathbf S})\,\mathbf X) / \lVert\mathbf
    X\rVert^2$ (equation `gcn-energy`), which lies in 0 … 2, and is 0 where nothing but the roots of
    degrees is left.

    Args:
        x: signals, one a column.
        adjacency: of a graph whose edges stand in it in both directions.

    Example:
        >>> S = NormalizedAdjacency(torch.tensor([[0, 1], [1, 0]]), num_nodes=2)
        >>> dirichlet_energy(torch.tensor([[1.0], [-1.0]]), S)
        tensor(1.)
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True)
    if not isinstance(adjacency, NormalizedAdjacency):
        raise TypeError(
            f"adjacency must be a NormalizedAdjacency, got {type(adjacency).__name__}"
        )
    size = x.square().sum()
    return (x * (x - adjacency.propagate(x))).sum() / size.where(size > 0, 1.0)


def _plain(
    edge_index: Tensor, num_nodes: int, weight: Tensor | None
) -> NormalizedAdjacency:
    """Return the normalised matrix without any loop, whether or not some were given."""
    check_edges(edge_index, num_nodes)
    loop = edge_index[0] == edge_index[1]
    if weight is None:
        weight = torch.ones(edge_index.shape[1], device=edge_index.device)
    checks.tensor("edge_weight", weight, shape=(edge_index.shape[1],), floating=True)
    weight = weight.masked_fill(loop, 0)
    return NormalizedAdjacency(edge_index, num_nodes, weight, self_loops=False)


def _chebyshev(
    x: Tensor, edge_index: Tensor, weight: Tensor | None, largest: float, count: int
) -> Iterator[Tensor]:
    """Yield T_0, T_1, … of the scaled Laplacian, times x."""
    largest = checks.number("largest", largest, above=0)
    if weight is None:
        weight = x.new_ones(edge_index.shape[1])
    S = _plain(edge_index, len(x), weight)

    def scaled(x: Tensor) -> Tensor:  # 2 L / largest − I, with L = I − S
        return (2 / largest - 1) * x - 2 / largest * S.propagate(x)

    before, now = x, x
    for power in range(count):
        if power == 1:
            now = scaled(x)
        elif power > 1:
            before, now = now, 2 * scaled(now) - before  # eq. gcn-recurrence
        yield now
