"""Contrastive losses beside pytorch-metric-learning's: NT-Xent, and the hardest triplets."""

import torch
from torch import Tensor, nn

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.representation.contrastive import mine_triplets, nt_xent, triplet_loss


class Table(nn.Module):
    """Embeddings that are learned as they are, so that nothing is timed but the loss."""

    def __init__(self, z: Tensor):
        super().__init__()
        self.z = nn.Parameter(z.clone())


def contrastive(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A step on 2b embeddings: of two views by NT-Xent; of classes of four by batch hard."""
    from pytorch_metric_learning import distances, losses, miners, reducers

    b, draw = size["b"], torch.Generator().manual_seed(0)
    z = torch.randn(2 * b, size["e"], generator=draw).to(device, dtype)
    pairs = torch.arange(b, device=device).repeat(2)
    fours = torch.arange(2 * b, device=device) // 4
    theirs = losses.NTXentLoss(temperature=0.2)
    squared = distances.LpDistance(normalize_embeddings=False, power=2)
    miner = miners.BatchHardMiner(distance=squared)
    margin = losses.TripletMarginLoss(margin=0.2, distance=squared, reducer=reducers.MeanReducer())

    def peer_triplets(table: nn.Module) -> Tensor:
        return margin(table.z, fours, miner(table.z, fours))

    def our_triplets(table: nn.Module) -> Tensor:
        return triplet_loss(*mine_triplets(table.z, fours, "hardest").of(table.z))

    peer = "pytorch_metric_learning"
    return [
        training(
            "NT-Xent step", size, peer,
            (Table(z), lambda table: nt_xent(*table.z.chunk(2), temperature=0.2)),
            (Table(z), lambda table: theirs(table.z, pairs)),
        ),
        training(
            "batch-hard step", size, peer,
            (Table(z), our_triplets), (Table(z), peer_triplets),
        ),
    ]  # fmt: skip


SIZES = sized("be", (32, 64), (128, 128))
GPU_SIZES = sized("be", (128, 128), (512, 128))
CASES = {"contrastive": Case(contrastive, SIZES, GPU_SIZES)}
