r"""Amdahl's law: what the whole gains when a part of it gets faster.

Chapter: chapters/kernels/roofline.md     Paper: Amdahl 1967
Letters: p the part's share of the time, s how much faster the part gets, S the whole.
"""

from nnlib import checks


def amdahl(share: float, speedup: float) -> float:
    r"""Return how much faster the whole gets when a share of its time gets faster.

    $S = 1 / (1 - p + p/s)$ (equation `roofline-amdahl`).

    Args:
        share: of the time, p in 0 … 1.
        speedup: of that part, s > 0.

    Example:
        >>> amdahl(0.5, 2), round(amdahl(0.02, 1000), 2)
        (1.3333333333333333, 1.02)

    Source: Amdahl 1967.
    """
    p = checks.number("share", share, least=0, most=1)
    return 1 / (1 - p + p / checks.number("speedup", speedup, above=0))
