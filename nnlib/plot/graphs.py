"""Graphs drawn: edges as lines, nodes as dots coloured by what they are or by a number."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection

import nnlib.plot.colors  # noqa: F401  (names the colours)
from nnlib.distribution import extra
from nnlib.plot.style import MAGNITUDE, bare


def layout(edge_index: Any, num_nodes: int, *, seed: int = 0) -> np.ndarray:
    """Return a place for each node, n × 2 within −1 … 1, where neighbours stand near each other.

    Fruchterman and Reingold's springs, by networkx, turned so that the drawing is as wide as can
    be; the same seed gives the same places. Drawings of one graph share them, so that nothing
    moves from one to the next.

    Args:
        edge_index: 2 × e, sources above targets.
        num_nodes: nodes in all.
        seed: of the start.

    Example:
        >>> layout([[0, 1], [1, 2]], 3).shape
        (3, 2)
    """
    with extra("data"):
        import networkx

    graph = networkx.Graph()
    graph.add_nodes_from(range(num_nodes))
    graph.add_edges_from(np.asarray(edge_index).T.tolist())
    places = networkx.spring_layout(graph, seed=seed, iterations=200)
    found = np.array([places[node] for node in range(num_nodes)]).reshape(-1, 2)
    if num_nodes < 3:
        return found
    found -= found.mean(0)
    found = found @ np.linalg.svd(found, full_matrices=False)[2].T
    return found / np.abs(found).max()


def circle(num_nodes: int) -> np.ndarray:
    """Return places on a circle, n × 2, the first at the top and the others clockwise.

    Example:
        >>> circle(4).round(2)[1].tolist()
        [1.0, 0.0]
    """
    turn = 2 * np.pi * np.arange(num_nodes) / max(num_nodes, 1)
    return np.stack([np.sin(turn), np.cos(turn)], 1)


def draw_graph(
    ax: Axes,
    edge_index: Any,
    places: Any,
    *,
    colors: str | Sequence[str] = "input",
    values: Any = None,
    limits: tuple[float, float] | None = None,
    cmap: Any = MAGNITUDE,
    names: Sequence[str] | Mapping[int, str] = (),
    size: float = 140,
    widths: Any = 1.0,
    lines: str = "muted",
) -> PathCollection:
    """Draw a graph: each pair of joined nodes by one line, whatever its direction.

    Args:
        ax: where to draw; its ticks and frame go.
        edge_index: 2 × e, sources above targets; loops are not drawn.
        places: n × 2, as from `layout` or `circle`.
        colors: of all nodes, or one for each: meanings, such as "learned".
        values: numbers for the nodes, which take the place of `colors`.
        limits: the numbers at the ends of the colours; the smallest and largest if None.
        cmap: the colours of the numbers.
        names: written on the nodes: one for each, or by number for some.
        size: of a node, in points².
        widths: of the lines, in points: one for all, or one for each column of `edge_index`, of
            which the wider one of the two directions is drawn.
        lines: colour of the edges.

    Returns:
        The nodes, for a colour bar.

    Example:
        >>> from nnlib.plot.style import subplots
        >>> figure, ax = subplots()
        >>> dots = draw_graph(ax, [[0, 1, 1], [1, 0, 2]], circle(3), names="abc")
        >>> len(dots.get_offsets()), len(ax.collections[0].get_segments())
        (3, 2)
    """
    places = np.asarray(places, dtype=float)
    edges = np.asarray(edge_index, dtype=int).reshape(2, -1)
    wide = np.broadcast_to(np.asarray(widths, dtype=float), edges.shape[1])
    drawn: dict[tuple[int, int], float] = {}
    for one, other, width in zip(*edges.tolist(), wide.tolist(), strict=True):
        if one != other:
            pair = (min(one, other), max(one, other))
            drawn[pair] = max(width, drawn.get(pair, 0.0))
    segments = [places[list(pair)] for pair in drawn]
    ax.add_collection(
        LineCollection(
            segments, colors=lines, linewidths=list(drawn.values()), alpha=0.7, zorder=1
        )
    )
    shown: dict[str, Any] = {"color": colors}
    if values is not None:
        numbers = np.asarray(values, dtype=float)
        low, high = limits or (float(numbers.min()), float(numbers.max()))
        shown = {"c": numbers, "cmap": cmap, "vmin": low, "vmax": high}
    dots = ax.scatter(
        places[:, 0], places[:, 1], s=size, zorder=2, linewidths=0, **shown
    )
    told = names.items() if isinstance(names, Mapping) else enumerate(names)
    for node, name in told:
        at = (float(places[node, 0]), float(places[node, 1]))
        ax.annotate(name, at, ha="center", va="center", fontsize=9, color="white")
    bare(ax)
    ax.margins(0.12)
    ax.set_aspect("equal", adjustable="datalim")
    return dots
