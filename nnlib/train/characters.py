"""A language model on characters: what a character costs it, in bits.

The text, its split and the counting models that are to be beaten stand in `nnlib.data.text`.

Axes: b rows, t characters of a row, v vocabulary.
"""

import math

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nnlib import checks
from nnlib.train.evaluating import evaluating


@torch.no_grad()
def bits_per_character(model: nn.Module, rows: Int[Tensor, "b t"]) -> float:
    """Return the mean cost in bits of the second half of each row; the first half is its context.

    Over the rows of `windows(held_out, length, length // 2)` it is the mean over the same
    characters as that of `with_context(counts.bits(held_out), length)`.

    Args:
        model: gives scores `b t v` for the character after each, in evaluation mode here; `rows`
            are taken to where its parameters are.
        rows: windows of a stream, of an even length ≥ 2.

    Example:
        >>> class Uniform(nn.Module):
        ...     def forward(self, ids):
        ...         return torch.zeros(*ids.shape, 8)
        >>> round(bits_per_character(Uniform(), torch.zeros(3, 4, dtype=torch.int64)), 3)
        3.0
    """
    checks.tensor("rows", rows, shape=("b", "t"), floating=False, empty=False)
    half, rest = divmod(rows.shape[1], 2)
    if rest or not half:
        raise ValueError(
            f"rows must be of an even length, half is context, got {rows.shape[1]}"
        )
    first = next(model.parameters(), None)
    rows = rows if first is None else rows.to(first.device)
    with evaluating(model):
        scores = model(rows[:, :-1])[:, half - 1 :]
    return cross_entropy(
        scores.flatten(0, 1), rows[:, half:].flatten()
    ).item() / math.log(2)
