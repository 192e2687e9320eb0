"""A graph whose edges a reader draws and takes away."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnlib import checks
from nnlib.live.inputs.given import Context, Feed, Given, Widget

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True, kw_only=True)
class Links(Given):
    """Nodes on a circle; who picks one and then another joins them, or parts them if they are.

    The model reads the adjacency matrix, n × n, of an undirected graph without loops.

    Attributes:
        names: of the nodes, a letter each.

    Example:
        >>> Links(label="A graph", names="ABC").read([(0, 1)])[0][0]
        tensor([[0., 1., 0.],
                [1., 0., 0.],
                [0., 0., 0.]])
    """

    names: Sequence[str]
    kind = "links"

    def __post_init__(self) -> None:
        if not 2 <= len(self.names) <= 12:
            raise ValueError(
                f"names must be 2 … 12 nodes' letters, got {len(self.names)}"
            )

    def config(self) -> dict[str, Any]:
        """Return what the page's script needs to know."""
        return super().config() | {"names": list(self.names)}

    def plain(self, value: Pairs) -> list[list[int]]:
        """Return each pair once, the smaller number first, in order."""
        last = len(self.names) - 1
        pairs = set()
        for at, pair in enumerate(value):
            one, other = (
                checks.count(f"value[{at}][{k}]", node, least=0)
                for k, node in enumerate(pair)
            )
            if one == other or max(one, other) > last:
                raise ValueError(
                    f"value[{at}]={(one, other)} must be two nodes of 0 … {last}"
                )
            pairs.add((min(one, other), max(one, other)))
        return [list(pair) for pair in sorted(pairs)]

    def read(self, value: Pairs) -> tuple[Feed, Context]:
        """Return the adjacency matrix; maps of weights have a row and a column a node."""
        matrix = torch.zeros(len(self.names), len(self.names))
        for one, other in self.plain(value):
            matrix[one, other] = matrix[other, one] = 1
        letters = "".join(self.names)
        return (matrix,), {"given": letters, "made": letters}

    def body(self, value: Pairs) -> str:
        """Return the graph and a button for each node."""
        places = [_place(at, len(self.names)) for at in range(len(self.names))]
        lines = "".join(
            f'<line x1="{places[a][0]:.3f}" y1="{places[a][1]:.3f}" '
            f'x2="{places[b][0]:.3f}" y2="{places[b][1]:.3f}"/>'
            for a, b in self.plain(value)
        )
        dots = "".join(
            f'<circle cx="{x:.3f}" cy="{y:.3f}" r=".17"/>'
            f'<text x="{x:.3f}" y="{y:.3f}">{html.escape(name)}</text>'
            for (x, y), name in zip(places, self.names, strict=True)
        )
        label = html.escape(self.label)
        buttons = "".join(
            f'<button type="button" data-node="{at}" aria-pressed="false">'
            f"{html.escape(name)}</button>"
            for at, name in enumerate(self.names)
        )
        return (
            '<div class="nn-links"><svg viewBox="-1.3 -1.3 2.6 2.6" aria-hidden="true">'
            f"{lines}{dots}</svg></div>"
            f'<div class="nn-row" role="group" aria-label="{label}: press two nodes to '
            f'join them, or to part them">{buttons}</div>'
        )

    def widget(self, value: Pairs) -> Widget:
        """Return a list of all pairs, to choose several from."""
        import ipywidgets

        count = len(self.names)
        pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
        options = [(f"{self.names[a]} – {self.names[b]}", (a, b)) for a, b in pairs]
        listed = ipywidgets.SelectMultiple(options=options, description="edges")

        def put(other: Pairs) -> None:
            listed.value = tuple(tuple(pair) for pair in self.plain(other))

        put(value)
        return listed, lambda: list(listed.value), put


def _place(at: int, count: int) -> tuple[float, float]:
    """Return a place on a circle, the first at the top and the others clockwise."""
    turn = 2 * math.pi * at / count
    return math.sin(turn), -math.cos(turn)
