"""How good a ranking is: recall, reciprocal rank, discounted gain; and how two are joined.

Part of `nnlib.language.retrieval`.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.language._retrieval_lexical import Found, best_first


def _ranked(ranked: Tensor, relevant: Tensor) -> Float[Tensor, "q r"]:
    """Return what each place of each ranking is worth; −1 is no passage, and worth nothing."""
    checks.tensor("relevant", relevant, shape=("q", "n"))
    if relevant.is_complex():
        raise TypeError(f"relevant must hold booleans or gains, got {relevant.dtype}")
    checks.tensor("ranked", ranked, shape=(len(relevant), "r"), floating=False)
    n = relevant.shape[1]
    if ranked.numel() and not (int(ranked.min()) >= -1 and int(ranked.max()) < n):
        raise ValueError(
            f"ranked must be −1 … {n - 1}, got {int(ranked.min())} … {int(ranked.max())}"
        )
    gains = relevant.double()
    if bool((gains < 0).any()) or not bool(gains.isfinite().all()):
        raise ValueError("relevant must hold finite gains ≥ 0")
    ids = ranked.long()
    if not n:
        return torch.zeros(ranked.shape, dtype=torch.float64)
    return torch.where(ids >= 0, gains.gather(1, ids.clamp(min=0)), 0)


def recall_at_k(
    ranked: Int[Tensor, "q r"], relevant: Bool[Tensor, "q n"], k: int
) -> Float[Tensor, " q"]:
    """Return the share of each query's relevant passages among the first k: `retrieval-recall`.

    Args:
        ranked: passages of each query, the best first; −1 for none.
        relevant: True where a passage answers a query; a query without any has NaN.
        k: ≥ 1; more than were ranked is all that were.

    Example:
        >>> relevant = torch.tensor([[True, False, True, False]])
        >>> recall_at_k(torch.tensor([[1, 2, 0]]), relevant, 2)
        tensor([0.5000], dtype=torch.float64)
    """
    found = _ranked(ranked, relevant)[:, : checks.count("k", k)]
    return (found > 0).sum(1).double() / (relevant > 0).sum(1)


def success_at_k(
    ranked: Int[Tensor, "q r"], relevant: Bool[Tensor, "q n"], k: int
) -> Float[Tensor, " q"]:
    """Return 1 where a relevant passage is among the first k, else 0: `retrieval-success`.

    Args:
        ranked: as for `recall_at_k`.
        relevant: likewise.
        k: likewise.

    Example:
        >>> relevant = torch.tensor([[True, False, True, False]])
        >>> success_at_k(torch.tensor([[1, 2, 0]]), relevant, 1)
        tensor([0.], dtype=torch.float64)
    """
    found = _ranked(ranked, relevant)[:, : checks.count("k", k)]
    return (found > 0).any(1).double()


def reciprocal_rank(
    ranked: Int[Tensor, "q r"], relevant: Bool[Tensor, "q n"]
) -> Float[Tensor, " q"]:
    """Return one over the place of the first relevant passage, 0 without any: `retrieval-mrr`.

    Args:
        ranked: as for `recall_at_k`.
        relevant: likewise.

    Example:
        >>> relevant = torch.tensor([[True, False, True, False]])
        >>> reciprocal_rank(torch.tensor([[1, 2, 0]]), relevant)
        tensor([0.5000], dtype=torch.float64)
    """
    found = _ranked(ranked, relevant) > 0
    place = torch.arange(1, found.shape[1] + 1, dtype=torch.float64)
    return (
        (found / place).amax(1) if found.shape[1] else torch.zeros(len(found)).double()
    )


def ndcg_at_k(
    ranked: Int[Tensor, "q r"], gains: Float[Tensor, "q n"], k: int
) -> Float[Tensor, " q"]:
    r"""Return the discounted gain of a ranking over that of the best one: `retrieval-ndcg`.

    $\sum_{i \le k} g_i / \log_2(i + 1)$, divided by the same sum for the gains in falling order.

    Args:
        ranked: as for `recall_at_k`.
        gains: how relevant each passage is to each query, ≥ 0; a query with none has NaN.
        k: ≥ 1.

    Example:
        >>> gains = torch.tensor([[3.0, 0.0, 1.0]])
        >>> ndcg_at_k(torch.tensor([[0, 2, 1]]), gains, 3)
        tensor([1.], dtype=torch.float64)

    Source: Järvelin and Kekäläinen 2002, with linear gains.
    """
    got = _ranked(ranked, gains)[:, : checks.count("k", k)]
    best = gains.double().sort(dim=1, descending=True).values[:, :k]
    return _discounted(got) / _discounted(best)


def _discounted(gains: Float[Tensor, "q k"]) -> Float[Tensor, " q"]:
    place = torch.arange(2, gains.shape[1] + 2, dtype=gains.dtype)
    return (gains / place.log2()).sum(1)


def reciprocal_rank_fusion(
    rankings: Sequence[Int[Tensor, " _"]], k: int, constant: float = 60.0
) -> Found:
    r"""Join rankings by their places alone: equation `retrieval-fusion`.

    A passage gets $\sum_r 1 / (c + \operatorname{place}_r)$, places from 1, and nothing from a
    ranking that lacks it. Scores of different searches need not be comparable.

    Args:
        rankings: passages, the best first, one or more rankings of one query.
        k: how many to return, ≥ 1; fewer if fewer were ranked.
        constant: c ≥ 0: the larger, the less the first places stand out.

    Example:
        >>> reciprocal_rank_fusion([torch.tensor([3, 1]), torch.tensor([1, 2])], k=2).ids
        tensor([1, 3])

    Source: Cormack, Clarke and Büttcher 2009.
    """
    k = checks.count("k", k)
    c = checks.number("constant", constant, least=0)
    if (
        isinstance(rankings, Tensor | str)
        or not isinstance(rankings, Sequence)
        or not rankings
    ):
        raise TypeError("rankings must be a list of one ranking or more, each a tensor")
    total: dict[int, float] = {}
    for at, ranking in enumerate(rankings):
        checks.tensor(f"rankings[{at}]", ranking, shape=("r",), floating=False)
        for place, number in enumerate(ranking.tolist(), 1):
            if number >= 0:
                total[number] = total.get(number, 0.0) + 1 / (c + place)
    ids = torch.tensor(list(total), dtype=torch.int64)
    scores = torch.tensor(list(total.values()), dtype=torch.float64)
    best = best_first(scores, k)
    return Found(ids[best], scores[best])
