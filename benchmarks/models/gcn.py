"""A GCN beside PyTorch Geometric's, with the same weights: normalised at every step, or once."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.graph.gcn import GCN


def gcn(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of two layers on a random graph whose edges run both ways."""
    from torch_geometric.nn.models import GCN as PeerGCN

    nodes, hidden, classes = size["n"], size["h"], 7
    draw = torch.Generator().manual_seed(0)
    ends = torch.randint(nodes, (2, size["e"] // 2), generator=draw)
    edges = torch.cat([ends, ends.flip(0)], 1).to(device)
    x = torch.randn(nodes, size["d"], generator=draw).to(device, dtype)
    y = torch.randint(classes, (nodes,), generator=draw).to(device)
    contests = []
    for cached in (False, True):
        peer = PeerGCN(size["d"], hidden, 2, classes, cached=cached).to(device, dtype)
        mine = GCN(size["d"], hidden, classes, dropout=0.0, cached=cached)
        mine.load_state_dict(peer.state_dict())

        def loss(module: nn.Module) -> torch.Tensor:
            return F.cross_entropy(module(x, edges), y)

        what = "GCN training step" + ", cached" * cached
        sides = (mine.to(device, dtype), loss), (peer, loss)
        contests.append(training(what, size, "torch_geometric", *sides))
    return contests


SIZES = sized("nedh", (34, 160, 34, 16), (2_708, 10_560, 256, 16), (10_000, 102_400, 64, 64))
CASES = {"gcn": Case(gcn, SIZES, SIZES)}
