"""Colour refinement: what any network that passes messages can tell apart, and nothing more.

Axes: n nodes, e edges, r rounds.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks
from nnlib.graph._edges import check_edges


def wl_colors(
    edge_index: Int[Tensor, "2 e"],
    num_nodes: int,
    rounds: int | None = None,
    colors: Int[Tensor, " n"] | None = None,
) -> Int[Tensor, "r n"]:
    r"""Return the colours of one-dimensional Weisfeiler–Leman refinement, round by round.

    $c_i \leftarrow \mathrm{hash}(c_i, \{\!\{c_j : j \in N(i)\}\!\})$, equation
    `message-passing-wl`. Two nodes have one colour after a round exactly if they had one before and
    their neighbours' colours were the same, counted with multiplicity.

    Args:
        edge_index: sources and targets.
        num_nodes: nodes in all, ≥ 0.
        rounds: how many, ≥ 0; None: until a round splits no colour, whose colours are the last.
        colors: to begin with, such as kinds of atoms; all equal if None.

    Returns:
        A row a round, beginning with the colours before the first. Colours count from 0, in an
        order that does not depend on how nodes are numbered.

    Example:
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> wl_colors(path, 3)[-1]  # the ends are alike, the middle is not
        tensor([0, 1, 0])

    Source: Weisfeiler and Leman 1968.
    """
    num_nodes = checks.count("num_nodes", num_nodes, least=0)
    check_edges(edge_index, num_nodes)
    limit = num_nodes if rounds is None else checks.count("rounds", rounds, least=0)
    if colors is None:
        colors = torch.zeros(num_nodes, dtype=torch.int64)
    checks.tensor("colors", colors, shape=(num_nodes,), floating=False)
    now = _named([(c,) for c in colors.tolist()])
    told = [now]
    sources: list[list[int]] = [[] for _ in range(num_nodes)]
    for source, target in edge_index.T.tolist():
        sources[target].append(source)
    for _ in range(limit):
        seen = [(now[i], *sorted(now[j] for j in sources[i])) for i in range(num_nodes)]
        after = _named(seen)
        if rounds is None and len(set(after)) == len(set(now)):
            break
        told.append(now := after)
    return torch.tensor(told, dtype=torch.int64).reshape(len(told), num_nodes)


def _named(signatures: list[tuple[int, ...]]) -> list[int]:
    """Return the rank of each signature among those that there are."""
    rank = {signature: at for at, signature in enumerate(sorted(set(signatures)))}
    return [rank[signature] for signature in signatures]


class Comparison(NamedTuple):
    """What `wl_test` found.

    Attributes:
        differ: whether colours tell the graphs apart; if not, they may be the same graph or not.
        rounds: after how many rounds they do; how many were needed to be sure, if they do not.
    """

    differ: bool
    rounds: int


def wl_test(
    one: Int[Tensor, "2 e"], other: Int[Tensor, "2 f"], num_nodes: tuple[int, int]
) -> Comparison:
    """Refine the colours of two graphs side by side until their counts differ, or nothing moves.

    Args:
        one: edges of the first graph.
        other: edges of the second one.
        num_nodes: of each of them.

    Example:
        >>> triangle = torch.tensor([[0, 1, 1, 2, 2, 0], [1, 0, 2, 1, 0, 2]])
        >>> path = triangle[:, :4]
        >>> wl_test(triangle, path, (3, 3))
        Comparison(differ=True, rounds=1)
    """
    first, second = (checks.count("num_nodes", n, least=0) for n in num_nodes)
    check_edges(one, first)
    check_edges(other, second)
    rows = wl_colors(torch.cat([one, other + first], 1), first + second)
    for at, row in enumerate(rows):
        size = int(row.max()) + 1 if len(row) else 0
        counts = [part.bincount(minlength=size) for part in row.split([first, second])]
        if not torch.equal(*counts):
            return Comparison(True, at)
    return Comparison(False, len(rows) - 1)
