"""Padding, said in two ways that are one: lengths of sequences, and a mask of real tokens.

Attention reads a mask (True at real tokens, wherever they stand); a recurrent network reads
lengths, since its last state is that of the last real step. Axes: b batch, t steps.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nnlib import checks


def mask_of(lengths: Int[Tensor, " b"], steps: int) -> Bool[Tensor, "b t"]:
    """Return the mask that is True at the first `lengths` steps of each sequence.

    Args:
        lengths: real steps of each sequence, 1 … `steps`.
        steps: steps t of the padded batch, ≥ 1.

    Example:
        >>> mask_of(torch.tensor([1, 3]), 3).int().tolist()
        [[1, 0, 0], [1, 1, 1]]
    """
    steps = checks.count("steps", steps)
    checks.tensor("lengths", lengths, shape=("b",), floating=False)
    checks.lengths("lengths", lengths, len(lengths), steps)
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def lengths_of(key_mask: Bool[Tensor, "b t"]) -> Int[Tensor, " b"]:
    """Return the real steps of each sequence, all of which must stand before its padding.

    Example:
        >>> lengths_of(torch.tensor([[True, False, False], [True, True, True]])).tolist()
        [1, 3]
    """
    checks.key_mask("key_mask", key_mask, ("b", "t"))
    if checks.readable(key_mask) and bool((key_mask[:, 1:] & ~key_mask[:, :-1]).any()):
        raise ValueError(
            "key_mask must have its padding at the end of each sequence, got a gap"
        )
    return key_mask.sum(1)
