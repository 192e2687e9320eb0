r"""Small tasks for networks with a memory: the rule is simple, and sequences have any length.

Axes: n sequences, t steps, d features, o bits of an answer, q steps that are asked.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks


class Task(NamedTuple):
    """Sequences, and what is to be answered at which of their steps.

    Targets are bits, 0 or 1, so that the loss is the binary cross-entropy of logits.
    """

    inputs: Float[Tensor, "n t d"]
    """What a network sees."""
    asked: Int[Tensor, " q"]
    """The steps at which it must answer, the same for all sequences."""
    targets: Float[Tensor, "n q o"]
    """The bits of the answers."""


def copy_task(
    count: int,
    length: int,
    num_bits: int = 4,
    *,
    recall: bool = True,
    generator: torch.Generator | None = None,
) -> Task:
    """Return random bits that are to be repeated once a mark was seen.

    An input has `num_bits` bits, a channel with the mark, and one that is 1 while answers are due,
    which spares a network the job of remembering that it has begun to answer.

    Args:
        count: n ≥ 1.
        length: vectors to copy, ≥ 1; a sequence has twice as many steps, and the mark.
        num_bits: of a vector, ≥ 1.
        recall: False leaves the last channel at 0, as in the paper.
        generator: of the bits; torch's own if None.

    Example:
        >>> task = copy_task(2, 3)
        >>> task.inputs.shape, task.asked.tolist(), task.targets.shape
        (torch.Size([2, 7, 6]), [4, 5, 6], torch.Size([2, 3, 4]))

    Source: Graves, Wayne and Danihelka 2014.
    """
    count, length = checks.count("count", count), checks.count("length", length)
    num_bits, recall = checks.count("num_bits", num_bits), checks.flag("recall", recall)
    bits = torch.randint(0, 2, (count, length, num_bits), generator=generator).float()
    inputs = torch.zeros(count, 2 * length + 1, num_bits + 2)
    inputs[:, :length, :num_bits] = bits
    inputs[:, length, num_bits] = 1
    inputs[:, length + 1 :, num_bits + 1] = float(recall)
    return Task(inputs, torch.arange(length + 1, 2 * length + 1), bits)


def list_task(
    count: int,
    length: int,
    num_answers: int = 3,
    *,
    key_bits: int = 4,
    value_bits: int = 3,
    generator: torch.Generator | None = None,
) -> Task:
    """Return lists of keys and values: asked for a key, give its value and those after it.

    An input has the bits of a key and of a value, as −1 and 1, a channel that marks the question,
    and one that is 1 while further answers are due. The keys of a list differ. The first answer is
    due at the question itself.

    Args:
        count: n ≥ 1.
        length: pairs of a list, `num_answers` … 2 ** `key_bits`.
        num_answers: values that are asked for, ≥ 1, in the order of the list.
        key_bits: of a key, ≥ 1.
        value_bits: of a value, ≥ 1.
        generator: of keys, values and questions; torch's own if None.

    Example:
        >>> task = list_task(2, 5)
        >>> task.inputs.shape, task.asked.tolist(), task.targets.shape
        (torch.Size([2, 8, 9]), [5, 6, 7], torch.Size([2, 3, 3]))
    """
    count, num_answers = (
        checks.count("count", count),
        checks.count("num_answers", num_answers),
    )
    length = checks.count("length", length, least=num_answers)
    key_bits, value_bits = (
        checks.count("key_bits", key_bits),
        checks.count("value_bits", value_bits),
    )
    if length > 2**key_bits:
        raise ValueError(
            f"length={length} must be at most 2**key_bits={2**key_bits}: keys differ"
        )
    codes = torch.rand(count, 2**key_bits, generator=generator).argsort(1)[:, :length]
    keys = 2.0 * ((codes[..., None] >> torch.arange(key_bits)) & 1) - 1
    values = torch.randint(0, 2, (count, length, value_bits), generator=generator)
    first = torch.randint(0, length - num_answers + 1, (count, 1), generator=generator)
    rows, answers = torch.arange(count)[:, None], torch.arange(num_answers)
    inputs = torch.zeros(count, length + num_answers, key_bits + value_bits + 2)
    inputs[:, :length, :key_bits] = keys
    inputs[:, :length, key_bits:-2] = 2.0 * values - 1
    inputs[:, length, :key_bits] = keys[rows, first][:, 0]
    inputs[:, length, -2] = 1
    inputs[:, length + 1 :, -1] = 1
    return Task(inputs, length + answers, values[rows, first + answers].float())
