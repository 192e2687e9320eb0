r"""The propagation matrix of a graph, made once and multiplied with as often as wanted.

Paper: Kipf and Welling 2016
Axes: n nodes, e edges, d features.
"""

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnlib import checks
from nnlib.graph._aggregate import neighbour_sum, scatter
from nnlib.graph._edges import check_edges

MANY = 1 << 14  # edges from which sorting them pays within a single step


class NormalizedAdjacency:
    r"""$\hat{\mathbf S} = \tilde{\mathbf D}^{-1/2}\tilde{\mathbf A}\tilde{\mathbf D}^{-1/2}$.

    Equation `gcn-normalized`. $\tilde{\mathbf A}$ has a row for each target and a loop at each
    node, $\tilde{\mathbf D}$ the sums of its rows. `S @ x` takes for each node the weighted sum of
    its neighbours and itself; no n × n matrix is made. Layers of this module accept one in place of
    `edge_index`, and then normalise nothing.

    Args:
        edge_index: sources above targets. A loop that is there keeps its weight (the last one, if
            there are several); other edges that stand in the list twice count twice.
        num_nodes: nodes in all, ≥ 0.
        edge_weight: ≥ 0, one an edge; 1 if None.
        self_loops: whether nodes without a loop get one.
        improved: whether that loop weighs 2 instead of 1.
        normalize: whether weights are divided by roots of degrees; otherwise no loops are added,
            either, and weights are taken as they are.
        dtype: of the weights, where none are given.

    Attributes:
        weight: of each edge after normalising; 0 for loops, which `own` holds.
        own: of each node's loop, after normalising.

    Example:
        >>> S = NormalizedAdjacency(torch.tensor([[0, 1], [1, 0]]), num_nodes=3)
        >>> (S @ torch.tensor([2.0, 4.0, 7.0])).round()
        tensor([3., 3., 7.])

    Source: Kipf and Welling 2016, Semi-supervised classification with graph convolutional networks.
    """

    def __init__(
        self,
        edge_index: Int[Tensor, "2 e"],
        num_nodes: int,
        edge_weight: Float[Tensor, " e"] | None = None,
        *,
        self_loops: bool = True,
        improved: bool = False,
        normalize: bool = True,
        dtype: torch.dtype | None = None,
    ):
        checks.count("num_nodes", num_nodes, least=0)
        check_edges(edge_index, num_nodes)
        check_weights(edge_weight, edge_index)
        checks.flag("self_loops", self_loops)
        checks.flag("improved", improved)
        checks.flag("normalize", normalize)
        if edge_weight is None:
            dtype = dtype or torch.get_default_dtype()
            edge_weight = torch.ones(
                edge_index.shape[1], device=edge_index.device, dtype=dtype
            )
        source, target = self.edge_index = edge_index
        self.num_nodes = num_nodes
        self._matrices: tuple[Tensor, Tensor] | None = None
        loop = source == target
        fill = 2.0 if improved else 1.0
        self.weight = edge_weight.masked_fill(loop, 0)
        if not normalize or not self_loops:
            kept = edge_weight.masked_fill(~loop, 0)
            self.own = scatter(kept, target, num_nodes, "sum")
        else:  # the last place is for edges that are no loops
            own = edge_weight.new_full((num_nodes + 1,), fill)
            at = torch.where(loop, source, num_nodes)
            self.own = own.scatter(0, at, edge_weight)[:num_nodes]
        if not normalize:
            return
        degree = self.own + scatter(self.weight, target, num_nodes, "sum")
        some = degree > 0  # a node without edges divides by nothing
        root = torch.where(some, torch.where(some, degree, 1).rsqrt(), 0)
        ends = root.index_select(0, source) * root.index_select(0, target)
        self.weight = self.weight * ends  # eq. gcn-normalized
        self.own = self.own * root.square()

    def __matmul__(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
        """Return for each node the weighted sum of its neighbours' rows and its own."""
        return self.propagate(x)

    def propagate(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
        """Return `self @ x`; compilers know a method, but no such operator of ours."""
        checks.tensor("x", x, floating=True)
        if x.ndim < 1 or len(x) != self.num_nodes:
            raise ValueError(
                f"x must have a row for each of {self.num_nodes} nodes, got {tuple(x.shape)}"
            )
        if self._matrices is not None and x.ndim == 2 and x.dtype == self.own.dtype:
            return _Product.apply(x, *self._matrices)
        rows = x.flatten(1) if x.ndim > 1 else x[:, None]
        received = neighbour_sum(rows, self.edge_index, self.weight)
        return (received + self.own[:, None] * rows).view_as(x)

    def prepared(self) -> "NormalizedAdjacency":
        """Sort the edges by their targets and by their sources, so that later products are fast.

        It pays from the third product on. Weights that are learned, numbers of half precision and
        compiled code go the plain way, whose result is the same.
        """
        fits = self.own.dtype in (torch.float32, torch.float64)
        if fits and not self.weight.requires_grad and checks.readable(self.own):
            there = self._sorted(self.edge_index.flip(0))
            back = self._sorted(self.edge_index)
            parts = (
                torch.Tensor.crow_indices,
                torch.Tensor.col_indices,
                torch.Tensor.values,
            )
            alike = all(torch.equal(part(there), part(back)) for part in parts)
            self._matrices = there, there if alike else back
        return self

    def dense(self) -> Float[Tensor, "n n"]:
        """Return the matrix, a row for each target."""
        matrix = torch.diag(self.own)
        source, target = self.edge_index
        return matrix.index_put((target, source), self.weight, accumulate=True)

    def _sorted(self, places: Tensor) -> Tensor:
        nodes = torch.arange(self.num_nodes, device=places.device).expand(2, -1)
        size = (self.num_nodes, self.num_nodes)
        listed = torch.sparse_coo_tensor(
            torch.cat([places, nodes], 1),
            torch.cat([self.weight, self.own]),
            size,
            check_invariants=False,
        )
        with warnings.catch_warnings():  # torch calls these matrices young
            warnings.simplefilter("ignore")
            return listed.coalesce().to_sparse_csr()


class _Product(torch.autograd.Function):
    """A sparse matrix times features; its transpose stands by for the way back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.way_back = transposed, matrix
        return matrix @ x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Product.apply(grads[0].contiguous(), *ctx.way_back), None, None


class Kept:
    """The last matrix that was made, kept while it is asked for with the same tensors, unchanged.

    A copy of a model, or one that is loaded, begins without.
    """

    def __init__(self) -> None:
        self._made: NormalizedAdjacency | None = None
        self._given: tuple[Any, ...] = ()

    def find(
        self, tensors: tuple[Tensor | None, ...], *rest: Any
    ) -> NormalizedAdjacency | None:
        """Return it if it was made of these."""
        told = tuple(None if t is None else (t, t._version) for t in tensors), rest
        return self._made if self._made is not None and self._same(told) else None

    def keep(
        self, made: NormalizedAdjacency, tensors: tuple[Tensor | None, ...], *rest: Any
    ) -> None:
        """Keep one, and remember what it was made of."""
        self._made = made
        self._given = (
            tuple(None if t is None else (t, t._version) for t in tensors),
            rest,
        )

    def _same(self, told: tuple[Any, ...]) -> bool:
        pairs, rest = told
        known, others = self._given
        if rest != others:
            return False
        for pair, had in zip(pairs, known, strict=True):
            if (pair is None) != (had is None):
                return False
            if pair is not None and (pair[0] is not had[0] or pair[1] != had[1]):
                return False
        return True

    def __deepcopy__(self, memo: Any) -> "Kept":
        return Kept()

    def __getstate__(self) -> dict[str, Any]:
        return {"_made": None, "_given": ()}


class Averaging(nn.Module):
    """What has a matrix that averages: options, and the last one that was made, if kept."""

    def __init__(
        self, *, improved: bool, self_loops: bool, normalize: bool, cached: bool
    ):
        super().__init__()
        self.improved = checks.flag("improved", improved)
        self.self_loops = checks.flag("self_loops", self_loops)
        self.normalize = checks.flag("normalize", normalize)
        self.cached = checks.flag("cached", cached)
        self._kept = Kept()

    def adjacency(
        self,
        x: Tensor,
        edge_index: Tensor | NormalizedAdjacency,
        edge_weight: Tensor | None = None,
    ) -> NormalizedAdjacency:
        """Return the matrix that averages, made or, if `cached`, kept from the last call."""
        if isinstance(edge_index, NormalizedAdjacency):
            if edge_weight is not None:
                raise ValueError(
                    "edge_weight must be None: edge_index holds weights already"
                )
            return edge_index
        check_edges(edge_index, len(x))
        keep = self.cached and checks.readable(x)
        given = (edge_index, edge_weight), len(x), x.dtype
        S = self._kept.find(*given) if keep else None
        if S is None:
            S = NormalizedAdjacency(
                edge_index, len(x), edge_weight, self_loops=self.self_loops,
                improved=self.improved, normalize=self.normalize, dtype=x.dtype,
            )  # fmt: skip
            if keep or edge_index.shape[1] >= MANY:
                S.prepared()
            if keep and not S.weight.requires_grad:
                self._kept.keep(S, *given)
        return S


def check_weights(edge_weight: Any, edge_index: Tensor) -> None:
    """Refuse weights that are not one for each edge, finite and 0 or more."""
    if edge_weight is None:
        return
    shape = (edge_index.shape[1],)
    checks.tensor("edge_weight", edge_weight, shape=shape, floating=True, finite=True)
    if checks.readable(edge_weight) and edge_weight.numel():
        least = float(edge_weight.detach().min())
        if least < 0:
            raise ValueError(f"edge_weight must be 0 or more, got {least:g}")
