"""Which triplets of a batch are worth learning from.

Axes: n examples, d width of an embedding, m triplets.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks

MINERS = ("all", "violating", "hard", "semihard", "hardest")


class Triplets(NamedTuple):
    """Rows of a batch: an anchor, a positive of its class and a negative of another, each m."""

    anchor: Tensor
    positive: Tensor
    negative: Tensor

    def of(self, z: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the embeddings of anchors, positives and negatives, for `triplet_loss`."""
        return z[self.anchor], z[self.positive], z[self.negative]


def squared_distances(z: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """Return the squared distance of every two rows, never below 0.

    Args:
        z: embeddings.

    Example:
        >>> squared_distances(torch.tensor([[0.0], [3.0]]))
        tensor([[0., 9.],
                [9., 0.]])
    """
    checks.tensor("z", z, shape=("n", "d"), floating=True)
    wide = z if z.dtype in (torch.float32, torch.float64) else z.float()
    away = wide - wide.mean(0)  # far from zero, the products would lose digits
    products = away @ away.T
    lengths = products.diagonal()
    return (lengths[:, None] + lengths - 2 * products).clamp(min=0).to(z)


@torch.no_grad()
def mine_triplets(
    z: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    kind: str = "semihard",
    margin: float = 0.2,
) -> Triplets:
    r"""Return triplets of a batch, by squared distances (equation `contrastive-mining`).

    Args:
        z: embeddings of a batch.
        labels: the class of each; some class must occur twice, and another one beside it.
        kind: "all"; "violating", those with a loss above 0; "hard", whose negative is no farther
            than the positive; "semihard", whose negative is farther, but by less than the
            margin; "hardest", for each anchor its farthest positive with its nearest negative.
        margin: α > 0.

    Returns:
        Triplets in the order of their anchors; none where none is as wanted.

    Raises:
        ValueError: labels that make no triplet at all.

    Example:
        >>> z = torch.tensor([[0.0], [1.0], [1.05], [3.0]])
        >>> mine_triplets(z, torch.tensor([0, 0, 1, 1]), "hardest").negative.tolist()
        [2, 2, 1, 1]

    Source: Schroff et al. 2015 (semihard); Hermans, Beyer and Leibe 2017 (hardest, "batch hard").
    """
    checks.tensor("z", z, shape=("n", "d"), floating=True)
    checks.tensor("labels", labels, shape=(len(z),), floating=False)
    checks.one_of("kind", kind, MINERS)
    margin = checks.number("margin", margin, above=0)
    same = labels[:, None] == labels
    positive = same & ~torch.eye(len(z), dtype=torch.bool, device=z.device)
    whole = positive.any(1) & ~same.all(1)
    if not bool(whole.any()):
        raise ValueError(
            "labels must make a triplet: some class twice, and another class beside it; "
            f"got {len(z)} examples of {len(labels.unique())} classes"
        )
    far = squared_distances(z)
    if kind == "hardest":
        (anchor,) = whole.nonzero(as_tuple=True)
        farthest = far.masked_fill(~positive, -torch.inf).argmax(1)
        nearest = far.masked_fill(same, torch.inf).argmin(1)
        return Triplets(anchor, farthest[anchor], nearest[anchor])
    chosen = positive[:, :, None] & ~same[:, None, :]
    gap = far[:, None, :] - far[:, :, None]  # by how much the negative is farther
    if kind != "all":
        chosen &= gap < margin
    if kind == "hard":
        chosen &= gap <= 0
    elif kind == "semihard":
        chosen &= gap > 0
    return Triplets(*chosen.nonzero(as_tuple=True))
