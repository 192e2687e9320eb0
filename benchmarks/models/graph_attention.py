"""Layers of graph attention beside PyTorch Geometric's, with the same weights."""

import torch

from benchmarks.models._contest import Case, Contest, Pair, sized
from nnlib.graph.graph_attention import GATLayer, GATv2Layer


def graph_attention(
    size: dict[str, int], device: torch.device, dtype: torch.dtype
) -> list[Contest]:
    """GAT and GATv2, forwards and back, on edges drawn at random.

    The peer runs as pip installs it: its compiled extensions are packages of their own.
    """
    from torch_geometric.nn import GATConv, GATv2Conv

    n, e, d, h = size["n"], size["e"], size["d"], size["h"]
    x = torch.randn(n, d).to(device, dtype).requires_grad_()
    edges = torch.randint(n, (2, e)).to(device)
    contests = []
    for what, ours, theirs in (("GAT", GATLayer, GATConv), ("GATv2", GATv2Layer, GATv2Conv)):
        mine, peer = ours(d, d // h, h), theirs(d, d // h, h)
        mine.load_state_dict(peer.state_dict())
        mine, peer = mine.to(device, dtype), peer.to(device, dtype)
        calls = [lambda layer=layer: layer(x, edges) for layer in (mine, peer)]
        contests.append(Pair(x, *calls, mine, peer, "torch_geometric").contest(what, size))
    return contests


SIZES = sized("nedh", (34, 156, 32, 4), (2_700, 10_500, 64, 8), (20_000, 200_000, 64, 4))
CASES = {"graph_attention": Case(graph_attention, SIZES, SIZES)}
