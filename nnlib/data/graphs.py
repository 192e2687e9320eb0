"""Graphs: a club that split, functions that refer to each other, all small graphs, drawn ones.

`edge_index` is 2 × e, sources above targets, as PyTorch Geometric has it; an undirected edge stands
in it twice. Several graphs make one batch: one large graph whose parts are not connected, and a
vector that says which node belongs to which.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnlib import checks
from nnlib.data._docstrings import SUBJECTS, described, resolved
from nnlib.data.split import DataSet, Strings
from nnlib.distribution import extra

if TYPE_CHECKING:
    import networkx

_NETWORKX = "networkx: BSD-3-Clause"
_OURS = "drawn by this package: MIT"


@dataclass(frozen=True, kw_only=True)
class Graph(DataSet):
    """Nodes with features, the edges between them, and what is to be told.

    Attributes:
        x: features, n × d.
        edge_index: sources and targets, 2 × e, of int64.
        y: a class for each node, or a target of the graph; None where there is none.
        names: of the nodes, or empty.
        classes: names of the classes, or empty.
        source, licence: as for `DataSet`.
    """

    x: Tensor
    edge_index: Tensor
    y: Tensor | None = None
    names: Strings = ()
    classes: Strings = ()

    @property
    def num_nodes(self) -> int:
        """How many nodes there are."""
        return len(self.x)


@dataclass(frozen=True)
class GraphBatch:
    """Several graphs side by side, as one graph that falls into parts.

    Attributes:
        x: features of all nodes.
        edge_index: edges, in the numbers that nodes have here.
        batch: for each node, the graph that it belongs to.
        y: the graphs' targets, or their nodes' classes, one after the other; None without.
        num_graphs: how many there are, those without nodes among them.
    """

    x: Tensor
    edge_index: Tensor
    batch: Tensor
    y: Tensor | None
    num_graphs: int


def batched(graphs: Sequence[Graph]) -> GraphBatch:
    """Put graphs side by side.

    Args:
        graphs: one or more, with equally many features; all with a target, or none.

    Example:
        >>> pair = batched([barbell(2), barbell(3)])
        >>> pair.batch.tolist(), pair.edge_index.shape[1]
        ([0, 0, 0, 0, 1, 1, 1, 1, 1, 1], 20)
    """
    graphs = list(graphs) if isinstance(graphs, Sequence) else []
    if not graphs or not all(isinstance(graph, Graph) for graph in graphs):
        raise TypeError("graphs must be one Graph or more")
    sizes = torch.tensor([graph.num_nodes for graph in graphs])
    starts = sizes.cumsum(0) - sizes
    targets = [graph.y for graph in graphs if graph.y is not None]
    if len(targets) not in (0, len(graphs)):
        raise ValueError("graphs must all have a target y, or none of them")
    wide = {graph.x.shape[1] for graph in graphs}
    if len(wide) > 1:
        raise ValueError(f"graphs must have equally many features, got {sorted(wide)}")
    edges = [g.edge_index + at for g, at in zip(graphs, starts.tolist(), strict=True)]
    return GraphBatch(
        x=torch.cat([graph.x for graph in graphs]),
        edge_index=torch.cat(edges, 1),
        batch=torch.arange(len(graphs)).repeat_interleave(sizes),
        y=torch.cat([y[None] if y.ndim == 0 else y for y in targets])
        if targets
        else None,
        num_graphs=len(graphs),
    )


def edges_of(graph: "networkx.Graph") -> Tensor:
    """Return the `edge_index` of a graph of networkx, whose nodes are counted in its own order.

    Args:
        graph: directed or not; an undirected edge gives two columns, a loop one.

    Example:
        >>> import networkx
        >>> edges_of(networkx.path_graph(3))
        tensor([[0, 1, 1, 2],
                [1, 0, 2, 1]])
    """
    if not hasattr(graph, "is_directed"):
        raise TypeError(f"graph must be one of networkx, got {type(graph).__name__}")
    at = {node: number for number, node in enumerate(graph)}
    pairs = {(at[one], at[other]) for one, other, *_ in graph.edges}
    if not graph.is_directed():
        pairs |= {(other, one) for one, other in pairs}
    return torch.tensor(sorted(pairs), dtype=torch.int64).reshape(-1, 2).T.contiguous()


def karate() -> Graph:
    """Load the karate club: 34 members, 78 friendships, and the two clubs that it split into.

    `x` is the identity: members have no features but who they are. `y` is 0 for those who stayed
    with the teacher, Mr. Hi (node 0), and 1 for those who went with the officer, John A. (node 33).

    Example:
        >>> club = karate()
        >>> club.x.shape, club.edge_index.shape, club.y.bincount().tolist()
        (torch.Size([34, 34]), torch.Size([2, 156]), [17, 17])

    Source: Zachary 1977, An information flow model for conflict and fission in small groups.
    """
    with extra("data"):
        import networkx

    graph = networkx.karate_club_graph()
    sides = [graph.nodes[node]["club"] == "Officer" for node in graph]
    return Graph(
        x=torch.eye(len(graph)),
        edge_index=edges_of(graph),
        y=torch.tensor(sides, dtype=torch.int64),
        names=tuple(
            {0: "Mr. Hi", 33: "John A."}.get(n, str(n + 1)) for n in range(len(graph))
        ),
        classes=("Mr. Hi", "Officer"),
        source="Zachary 1977, through networkx",
        licence=_NETWORKX,
    )


def library_functions(min_documents: int = 20) -> Graph:
    """Read the functions of numpy and scipy, and what each one's docstring says to see also.

    A node is a function or a class, a link joins two of which one names the other under "See Also",
    and a class is a subject, which is where the function stands: scipy.signal, say. `x` is 1 for
    each word that the docstring holds and 0 for all others. The text is that of the parameters,
    the returned values and the notes; examples, references and "See Also" are left out. Functions
    without any link are left out, too. With numpy 2.4 and scipy 1.17 about 1500 nodes are left.

    Nothing is downloaded; another version of either library gives a slightly different graph.

    Args:
        min_documents: docstrings that a word must occur in to count, ≥ 1; words that occur in more
            than three of ten are left out.

    Example:
        >>> read = library_functions()
        >>> read.num_nodes > 1000, len(read.classes)
        (True, 11)

    Source: the docstrings of numpy and scipy, as installed.
    """
    checks.count("min_documents", min_documents)
    subject = {
        module: number
        for number, modules in enumerate(SUBJECTS.values())
        for module in modules.split()
    }
    found = list(described(reversed(list(subject))))
    numbers = {each.name: number for number, each in enumerate(found)}
    pairs = set()
    for number, each in enumerate(found):
        others = (resolved(link, each.module, numbers) for link in each.links)
        pairs |= {(number, other) for other in others if other is not None}
    edges = undirected_pairs(pairs)
    linked, again = edges.unique(return_inverse=True)
    found = [found[number] for number in linked.tolist()]
    bags = [set(each.words) for each in found]
    counts = Counter(word for bag in bags for word in bag)
    most = 0.3 * len(bags)
    words = sorted(w for w, count in counts.items() if min_documents <= count <= most)
    at = {word: column for column, word in enumerate(words)}
    x = torch.zeros(len(bags), len(words))
    for row, bag in enumerate(bags):
        x[row, [at[word] for word in bag if word in at]] = 1
    return Graph(
        x=x,
        edge_index=again,
        y=torch.tensor([subject[each.module] for each in found]),
        names=tuple(each.name for each in found),
        classes=tuple(SUBJECTS),
        source="the docstrings of numpy and scipy, as installed",
        licence="numpy, scipy: BSD-3-Clause",
    )


def undirected_pairs(pairs: Iterable[tuple[int, int]]) -> Tensor:
    """Return an `edge_index` of pairs of nodes, each in both directions and once, without loops.

    Example:
        >>> undirected_pairs([(2, 0), (0, 2), (1, 1)])
        tensor([[0, 2],
                [2, 0]])
    """
    both = {
        pair
        for one, other in pairs
        if one != other
        for pair in ((one, other), (other, one))
    }
    return torch.tensor(sorted(both), dtype=torch.int64).reshape(-1, 2).T.contiguous()


def graph_atlas(num_nodes: int = 7) -> tuple[Graph, ...]:
    """Load every connected graph of `num_nodes` nodes, each once: 853 of them for seven nodes.

    Nodes have a single feature, which is 1, so that only the edges tell graphs apart. `y` is a row
    of two: the number of triangles, and the diameter (the longest of all shortest paths).

    Args:
        num_nodes: 1 … 7.

    Example:
        >>> [len(graph_atlas(n)) for n in range(1, 8)]
        [1, 1, 2, 6, 21, 112, 853]
        >>> graph_atlas(3)[-1].y  # the triangle
        tensor([[1., 1.]])

    Source: Read and Wilson 1998, An atlas of graphs.
    """
    checks.one_of("num_nodes", num_nodes, range(1, 8))
    with extra("data"):
        import networkx

    found = []
    for graph in networkx.graph_atlas_g():
        if len(graph) != num_nodes or not networkx.is_connected(graph):
            continue
        adjacency = torch.zeros(num_nodes, num_nodes)
        edges = edges_of(graph)
        adjacency[edges[0], edges[1]] = 1
        triangles = adjacency.matrix_power(3).trace() / 6
        diameter = networkx.diameter(graph)
        found.append(
            Graph(
                x=torch.ones(num_nodes, 1),
                edge_index=edges,
                y=torch.tensor([[float(triangles), float(diameter)]]),
                source="Read and Wilson 1998, An Atlas of Graphs, through networkx",
                licence=_NETWORKX,
            )
        )
    return tuple(found)


def block_model(
    num_nodes: int = 400,
    num_classes: int = 4,
    p_in: float = 0.04,
    p_out: float = 0.005,
    *,
    num_features: int = 16,
    noise: float = 2.0,
    seed: int = 0,
) -> Graph:
    """Draw communities: nodes of one class are joined more often than those of two.

    Args:
        num_nodes: in classes of equal size, or nearly, ≥ 1.
        num_classes: ≥ 1.
        p_in: chance of an edge between two nodes of one class, in [0, 1].
        p_out: chance of an edge between two of different classes, in [0, 1].
        num_features: of a node: a mean of its class, drawn from a standard normal, and noise; ≥ 1.
        noise: standard deviation of the noise, ≥ 0.
        seed: of the draw, ≥ 0.

    Example:
        >>> drawn = block_model(seed=1)
        >>> drawn.x.shape, drawn.y.bincount().tolist()
        (torch.Size([400, 16]), [100, 100, 100, 100])

    Source: Holland, Laskey and Leinhardt 1983, Stochastic blockmodels: first steps.
    """
    num_nodes = checks.count("num_nodes", num_nodes)
    num_classes = checks.count("num_classes", num_classes)
    num_features = checks.count("num_features", num_features)
    p_in = checks.number("p_in", p_in, least=0, most=1)
    p_out = checks.number("p_out", p_out, least=0, most=1)
    noise = checks.number("noise", noise, least=0)
    draw = torch.Generator().manual_seed(checks.count("seed", seed, least=0))
    y = torch.arange(num_nodes) * num_classes // num_nodes
    chance = torch.where(y[:, None] == y, p_in, p_out)
    upper = (torch.rand(num_nodes, num_nodes, generator=draw) < chance).triu(1)
    means = torch.randn(num_classes, num_features, generator=draw)
    x = means[y] + noise * torch.randn(num_nodes, num_features, generator=draw)
    return Graph(
        x=x,
        edge_index=(upper | upper.T).nonzero().T.contiguous(),
        y=y,
        source="a stochastic block model (Holland, Laskey and Leinhardt 1983)",
        licence=_OURS,
    )


def barbell(size: int, *, shortcut: bool = False) -> Graph:
    """Return two cliques joined by a bridge, from the last node of one to the first of the other.

    The features say only which clique a node belongs to. Nodes 0 and 2 · `size` − 1 are three edges
    apart, whatever the size is.

    Args:
        size: nodes of a clique, ≥ 2.
        shortcut: whether another edge joins the first node and the last.

    Example:
        >>> barbell(3).edge_index.shape  # two triangles and a bridge, both ways
        torch.Size([2, 14])
    """
    size = checks.count("size", size, least=2)
    checks.flag("shortcut", shortcut)
    joined = torch.block_diag(*[1 - torch.eye(size)] * 2)
    joined[size - 1, size] = joined[size, size - 1] = 1
    if shortcut:
        joined[0, -1] = joined[-1, 0] = 1
    y = torch.arange(2).repeat_interleave(size)
    return Graph(
        x=torch.eye(2)[y],
        edge_index=joined.nonzero().T.contiguous(),
        y=y,
        source="two cliques joined by an edge",
        licence=_OURS,
    )
