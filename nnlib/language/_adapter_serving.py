"""One batch, many adapters.

Part of `nnlib.language.adapters`, with its axes.
"""

from jaxtyping import Float, Int
from torch import Tensor, nn

from nnlib import checks
from nnlib.language._beside import features


def with_adapters(
    x: Float[Tensor, "b t i"],
    layer: nn.Module,
    lora_A: Float[Tensor, "n r i"],
    lora_B: Float[Tensor, "n o r"],
    which: Int[Tensor, " b"],
    scale: float,
) -> Float[Tensor, "b t o"]:
    r"""Return what a layer and one of many adapters make of each row of a batch.

    $y_j = x_j W^\top + s\,x_j A_{k(j)}^\top B_{k(j)}^\top$ (equation `adapters-serving`).
    The large product is one for all rows.

    Args:
        x: rows of a batch, texts of different people.
        layer: what they share.
        lora_A: the first matrices of n adapters.
        lora_B: the second ones.
        which: for each row the number of its adapter, 0 … n − 1, or −1 for none.
        scale: s.

    Example:
        >>> import torch
        >>> x, layer = torch.randn(3, 5, 8), nn.Linear(8, 6)
        >>> A, B = torch.randn(2, 4, 8), torch.randn(2, 6, 4)
        >>> with_adapters(x, layer, A, B, torch.tensor([1, -1, 0]), scale=2.0).shape
        torch.Size([3, 5, 6])

    Source: Chen et al. 2023 (Punica); Sheng et al. 2023 (S-LoRA).
    """
    checks.tensor("lora_A", lora_A, shape=("n", "r", "i"), floating=True)
    n, r, i = lora_A.shape
    checks.tensor("x", x, shape=("b", "t", i), floating=True)
    checks.tensor("lora_B", lora_B, shape=(n, "o", r), floating=True)
    checks.tensor("which", which, shape=(len(x),), floating=False)
    if (
        checks.readable(which)
        and len(which)
        and not -1 <= int(which.min()) <= int(which.max()) < n
    ):
        low, high = int(which.min()), int(which.max())
        raise ValueError(f"which must be -1 … {n - 1}, got {low} … {high}")
    scale = checks.number("scale", scale)
    if features(layer) != (i, lora_B.shape[1]):
        raise ValueError(
            f"layer must be linear from {i} to {lora_B.shape[1]}, got {layer}"
        )
    none = (which < 0)[:, None, None]
    of_each = which.clamp(min=0)
    added = x @ lora_A[of_each].mT @ lora_B[of_each].mT  # eq. adapters-serving
    return layer(x) + scale * added.masked_fill(none, 0.0)
