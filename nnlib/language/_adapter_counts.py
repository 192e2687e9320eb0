"""What adapters hold, and what training with them takes: counted.

Part of `nnlib.language.adapters`.
"""

from collections.abc import Iterable
from typing import NamedTuple

from nnlib import checks
from nnlib.language._beside import check_rank


def lora_parameters(shapes: Iterable[tuple[int, int]], rank: int) -> int:
    r"""Return how many numbers LoRA trains: $\sum r\,(d_{\text{in}} + d_{\text{out}})$.

    Equation `adapters-count`.

    Args:
        shapes: the two widths of each adapted matrix, in either order.
        rank: r, 1 … the smallest width.

    Example:
        >>> lora_parameters([(12288, 12288)] * 2 * 96, rank=4)  # queries and values of GPT-3
        18874368

    Source: Hu et al. 2021.
    """
    pairs = list(shapes)
    if not pairs:
        raise ValueError("shapes must name one matrix or more, got none")
    total = 0
    for at, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise TypeError(f"shapes[{at}] must be a pair of widths, got {pair!r}")
        one, other = (checks.count(f"shapes[{at}]", width) for width in pair)
        total += check_rank(rank, one, other) * (one + other)
    return total


def nf4_bits(block_size: int = 64, double: bool = True) -> float:
    r"""Return the bits that a weight takes in NF4, scales included: equation `adapters-double`.

    $4 + 32/b$, or $4 + 8/b + 32/(256\,b)$ where the scales are stored in 8 bits, with one scale
    of their own for every 256.

    Args:
        block_size: weights b that share a scale, ≥ 1.
        double: whether the scales are quantised in turn.

    Example:
        >>> nf4_bits(double=False), round(nf4_bits(), 3)
        (4.5, 4.127)

    Source: Dettmers et al. 2023.
    """
    block = checks.count("block_size", block_size)
    if checks.flag("double", double):
        return 4 + 8 / block + 32 / (256 * block)
    return 4 + 32 / block


class Memory(NamedTuple):
    """Bytes that training holds besides activations.

    Attributes:
        frozen: weights that are only read.
        weights: trained weights, all copies of them.
        gradients: theirs.
        optimizer: Adam's two averages.
    """

    frozen: float
    weights: float
    gradients: float
    optimizer: float

    @property
    def total(self) -> float:
        """All together."""
        return sum(self)


def finetuning_memory(frozen: int, trained: int, frozen_bits: float = 16) -> Memory:
    r"""Return what fine-tuning keeps in memory: $b\,N_{\text{frozen}}/8 + 16\,N_{\text{trained}}$.

    Equation `adapters-memory`. A trained weight takes 16 bytes: 6 in 16 and in 32 bits, 2 for its
    gradient, 8 for the two averages of Adam.

    Args:
        frozen: weights that are only read, ≥ 0.
        trained: weights that are trained, ≥ 0.
        frozen_bits: bits of a frozen weight, > 0.

    Example:
        >>> finetuning_memory(frozen=0, trained=7 * 10**9).total / 1e9  # GB
        112.0

    Source: Rajbhandari et al. 2020, for the 16 bytes.
    """
    n = checks.count("frozen", frozen, least=0)
    k = checks.count("trained", trained, least=0)
    bits = checks.number("frozen_bits", frozen_bits, above=0)
    return Memory(n * bits / 8, 6.0 * k, 2.0 * k, 8.0 * k)
