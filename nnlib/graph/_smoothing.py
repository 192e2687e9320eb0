r"""Averaging over edges without learning, or beside it: SGC, label propagation, correct and smooth.

Axes: n nodes, e edges, d features, c classes, m labelled nodes.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.graph._adjacency import NormalizedAdjacency
from nnlib.graph._edges import check_edges


class SGC(nn.Module):
    r"""Simplified graph convolution: $\hat{\mathbf S}^k\mathbf X\mathbf W^\top + \mathbf b$.

    Equation `gcn-sgc`: a GCN without its nonlinearities, which is a linear classifier of features
    that were averaged k times. Loads the `state_dict` of PyTorch Geometric's `SGConv`.

    Args:
        in_features: of a node, ≥ 1.
        num_classes: ≥ 1.
        k: times that features are averaged, ≥ 0.
        bias: whether a bias is added.

    Example:
        >>> model = SGC(5, num_classes=3, k=2)
        >>> model(torch.randn(4, 5), torch.tensor([[0, 1], [1, 0]])).shape
        torch.Size([4, 3])

    Source: Wu et al. 2019, Simplifying graph convolutional networks.
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        k: int = 2,
        bias: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.k = checks.count("k", k, least=0)
        checks.count("in_features", in_features)
        checks.count("num_classes", num_classes)
        self.lin = nn.Linear(
            in_features,
            num_classes,
            checks.flag("bias", bias),
            device=device,
            dtype=dtype,
        )

    def forward(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"] | NormalizedAdjacency,
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n c"]:
        """Return logits, a row for each node."""
        return self.lin(self.features(x, edge_index, edge_weight))

    def features(
        self,
        x: Float[Tensor, "n d"],
        edge_index: Int[Tensor, "2 e"] | NormalizedAdjacency,
        edge_weight: Float[Tensor, " e"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Return the averaged features, which no training changes."""
        checks.tensor("x", x, shape=("n", self.lin.in_features), floating=True)
        S = as_adjacency(edge_index, x, edge_weight)
        for _ in range(self.k):
            x = S.propagate(x)
        return x


def label_propagation(
    classes: Int[Tensor, " n"],
    labelled: Int[Tensor, " m"],
    edge_index: Int[Tensor, "2 e"],
    num_classes: int,
    *,
    alpha: float = 0.9,
    steps: int = 50,
) -> Float[Tensor, "n c"]:
    r"""Spread labels over edges.

    $\mathbf Y \leftarrow \alpha\mathbf S\mathbf Y + (1 - \alpha)\mathbf Y_0$, again and again
    (equation `gcn-label-propagation`), with the normalised matrix without loops. No features are
    used, and nothing is learned.

    Args:
        classes: of all nodes; only those of `labelled` are looked at.
        labelled: numbers of the nodes whose class is known, at least one.
        edge_index: sources above targets.
        num_classes: ≥ 1.
        alpha: how much comes from neighbours, in 0 … 1.
        steps: ≥ 0; as many edges far a label gets.

    Returns:
        A score for each node and class, 0 where no label has come.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> label_propagation(torch.tensor([1, 0, 0]), torch.tensor([0]), path, 2).argmax(1)
        tensor([1, 1, 1])

    Source: Zhou et al. 2004, Learning with local and global consistency.
    """
    start = one_hot(classes, labelled, num_classes)
    S = NormalizedAdjacency(edge_index, len(start), self_loops=False)
    return _spread(start, S, alpha, steps, lambda y: y.clamp(0, 1))


def correct_and_smooth(
    probabilities: Float[Tensor, "n c"],
    classes: Int[Tensor, " n"],
    labelled: Int[Tensor, " m"],
    edge_index: Int[Tensor, "2 e"],
    *,
    correct_alpha: float = 0.8,
    smooth_alpha: float = 0.8,
    steps: int = 50,
) -> Float[Tensor, "n c"]:
    r"""Spread first the errors of a classifier over edges, and then its corrected answers.

    Equations `gcn-correct` and `gcn-smooth`: errors, which are known where labels are, spread as
    labels do, are scaled to the size that they have there on average, and added; then labels take
    the answers' place where they are known, and all spread once more.

    Args:
        probabilities: of any classifier, a row for each node.
        classes: of all nodes; only those of `labelled` are looked at.
        labelled: numbers of the nodes whose class is known, at least one.
        edge_index: sources above targets.
        correct_alpha: of the errors, in 0 … 1.
        smooth_alpha: of the answers, in 0 … 1.
        steps: of either, ≥ 0.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> unsure = torch.full((3, 2), 0.5)
        >>> better = correct_and_smooth(
        ...     unsure, torch.tensor([1, 0, 0]), torch.tensor([0]), path
        ... )
        >>> better.argmax(1)
        tensor([1, 1, 1])

    Source: Huang et al. 2020, Combining label propagation and simple models out-performs graph
    neural networks.
    """
    checks.tensor("probabilities", probabilities, shape=("n", "c"), floating=True)
    truth = one_hot(classes, labelled, probabilities.shape[1]).to(probabilities.dtype)
    if len(truth) != len(probabilities):
        raise ValueError(
            f"classes must be one for each row of probabilities, {len(probabilities)}, "
            f"got {len(truth)}"
        )
    S = NormalizedAdjacency(
        edge_index, len(truth), self_loops=False, dtype=probabilities.dtype
    )
    known = torch.zeros(len(truth), 1, dtype=torch.bool, device=truth.device)
    known = known.index_fill(0, labelled, True)
    error = torch.where(known, truth - probabilities, 0)
    spread = _spread(error, S, correct_alpha, steps, lambda y: y.clamp(-1, 1))
    size = error.abs().sum() / len(labelled)
    scale = size / spread.abs().sum(1, keepdim=True)
    scale = torch.where(
        scale > 1000, 1, scale
    )  # where nothing has come, nothing is added
    corrected = probabilities + scale * spread  # eq. gcn-correct
    start = torch.where(known, truth, corrected)
    return _spread(start, S, smooth_alpha, steps, lambda y: y.clamp(0, 1))


def homophily(edge_index: Int[Tensor, "2 e"], classes: Int[Tensor, " n"]) -> float:
    """Return the share of edges that join two nodes of one class (`gcn-homophily`); loops left out.

    Example:
        >>> homophily(torch.tensor([[0, 1], [1, 2]]), torch.tensor([0, 0, 1]))
        0.5
    """
    checks.tensor("classes", classes, shape=("n",), floating=False)
    check_edges(edge_index, len(classes))
    source, target = edge_index[:, edge_index[0] != edge_index[1]]
    if not len(source):
        raise ValueError("edge_index must hold an edge between two nodes, got none")
    return (classes[source] == classes[target]).double().mean().item()


def as_adjacency(
    edge_index: Tensor | NormalizedAdjacency,
    x: Tensor,
    edge_weight: Tensor | None = None,
) -> NormalizedAdjacency:
    """Return the normalised matrix with loops, made unless it was given."""
    if isinstance(edge_index, NormalizedAdjacency):
        if edge_weight is not None:
            raise ValueError(
                "edge_weight must be None: edge_index holds weights already"
            )
        return edge_index
    return NormalizedAdjacency(edge_index, len(x), edge_weight, dtype=x.dtype)


def one_hot(
    classes: Int[Tensor, " n"], labelled: Int[Tensor, " m"], num_classes: int
) -> Float[Tensor, "n c"]:
    """Return a row for each node: 1 at its class if that is known, and 0 elsewhere."""
    checks.count("num_classes", num_classes)
    checks.tensor("classes", classes, shape=("n",), floating=False)
    checks.tokens("labelled", labelled, len(classes), shape=("m",), of="nodes")
    known = classes.index_select(0, labelled)
    checks.labels("classes", known, num_classes)
    rows = torch.zeros(len(classes), num_classes, device=classes.device)
    return rows.index_copy(
        0, labelled, F.one_hot(known.long(), num_classes).to(rows.dtype)
    )


def _spread(
    start: Tensor,
    S: NormalizedAdjacency,
    alpha: float,
    steps: int,
    bounded: Callable[[Tensor], Tensor],
) -> Tensor:
    alpha = checks.number("alpha", alpha, least=0, most=1)
    y = start
    for _ in range(checks.count("steps", steps, least=0)):
        y = bounded(
            alpha * S.propagate(y) + (1 - alpha) * start
        )  # eq. gcn-label-propagation
    return y
