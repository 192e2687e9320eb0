"""Layers of graphs beside PyTorch Geometric's, with the same weights."""

import torch
from torch import nn

from benchmarks.models._contest import Case, Contest, Pair, sized
from nnlib.graph.message_passing import GINLayer, SAGELayer


def message_passing(
    size: dict[str, int], device: torch.device, dtype: torch.dtype
) -> list[Contest]:
    """GraphSAGE with mean and maximum, and GIN, forwards and back, on edges drawn at random.

    The peer runs as pip installs it: its compiled extensions are packages of their own.
    """
    from torch_geometric.nn import GINConv, SAGEConv

    n, e, d = size["n"], size["e"], size["d"]
    x = torch.randn(n, d).to(device, dtype).requires_grad_()
    edges = torch.randint(n, (2, e)).to(device)
    mlp = [nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d)) for _ in range(2)]
    sides = {
        "GraphSAGE, mean": (SAGELayer(d, d), SAGEConv(d, d)),
        "GraphSAGE, max": (SAGELayer(d, d, "max"), SAGEConv(d, d, "max")),
        "GIN": (GINLayer(mlp[0]), GINConv(mlp[1])),
    }
    contests = []
    for what, (mine, peer) in sides.items():
        mine.load_state_dict(peer.state_dict())
        mine, peer = mine.to(device, dtype), peer.to(device, dtype)
        calls = [lambda layer=layer: layer(x, edges) for layer in (mine, peer)]
        contests.append(Pair(x, *calls, mine, peer, "torch_geometric").contest(what, size))
    return contests


SIZES = sized("end", (156, 34, 32), (10_500, 2_700, 64), (200_000, 20_000, 64))
CASES = {"message_passing": Case(message_passing, SIZES, SIZES)}
