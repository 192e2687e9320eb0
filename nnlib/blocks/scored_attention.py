r"""Attention by any score: softmax over the keys, then the weighted mean of the values.

Chapter: chapters/attention/attention.md     Papers: Bahdanau, Cho and Bengio 2014; Luong, Pham and
Manning 2015
Axes: b batch, q queries, k keys, dq dk dv their widths.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nnlib import checks

Context = Float[Tensor, "b q dv"]
Weights = Float[Tensor, "b q k"]


def masked_softmax(
    scores: Float[Tensor, "b q k"],
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b k"] | None = None,
) -> Weights:
    r"""Turn scores into weights ≥ 0 that sum to 1 over the keys a query may see.

    $\alpha_{ij} = \exp(e_{ij}) / \sum_{i'} \exp(e_{i'j})$ over visible keys (equations
    `attention-weights`, `attention-mask`).

    Args:
        scores: one row a query; a key's score may be $-\infty$, which hides it.
        mask: True where a query may look, or numbers added to the scores; broadcast to b q k.
        key_mask: True at real keys, False at padding.

    Returns:
        The weights; all 0 for a query that sees nothing.

    Example:
        >>> masked_softmax(torch.tensor([[[0.0, 0.0, 9.0]]]), torch.tensor([[[True, True, False]]]))
        tensor([[[0.5000, 0.5000, 0.0000]]])

    Source: Bahdanau, Cho and Bengio 2014, section 3.1.
    """
    b, q, k = checks.tensor(
        "scores", scores, shape=("b", "q", "k"), floating=True
    ).shape
    if mask is not None:
        checks.mask("mask", mask, (b, q, k))
        scores = (
            scores.masked_fill(~mask, -math.inf)
            if mask.dtype == torch.bool
            else scores + mask
        )
    if key_mask is not None:
        checks.key_mask("key_mask", key_mask, (b, k))
        scores = scores.masked_fill(~key_mask[:, None], -math.inf)
    if k == 0:
        return scores
    # softmax would divide 0 by 0 there
    blind = scores.amax(-1, keepdim=True) == -math.inf
    return scores.masked_fill(blind, 0.0).softmax(-1).masked_fill(blind, 0.0)


class ScoredAttention(nn.Module):
    """Weights from `scores`, then the weighted mean; a subclass says what a score is.

    Args:
        query_dim: width of a query, ≥ 1.
        key_dim: width of a key, ≥ 1.
    """

    def __init__(self, query_dim: int, key_dim: int):
        super().__init__()
        self.query_dim = checks.count("query_dim", query_dim)
        self.key_dim = checks.count("key_dim", key_dim)

    def scores(
        self, query: Float[Tensor, "b q dq"], keys: Float[Tensor, "b k dk"]
    ) -> Weights:
        """Return how well each key fits each query, before any softmax."""
        raise NotImplementedError

    def forward(
        self,
        query: Float[Tensor, "b q dq"],
        keys: Float[Tensor, "b k dk"],
        values: Float[Tensor, "b k dv"],
        mask: Tensor | None = None,
        key_mask: Bool[Tensor, "b k"] | None = None,
    ) -> tuple[Context, Weights]:
        """Return the context of each query, and the weights that made it.

        Args:
            query: what asks: for a decoder, its state.
            keys: what is asked: for an encoder, its states.
            values: what is handed out, one a key; often the keys themselves.
            mask: as in `masked_softmax`.
            key_mask: True at real keys, False at padding.

        Returns:
            `context`, the weighted means, and `weights`; both 0 where a query sees nothing.
        """
        b = checks.tensor(
            "query", query, shape=("b", "q", self.query_dim), floating=True
        ).shape[0]
        k = checks.tensor(
            "keys", keys, shape=(b, "k", self.key_dim), floating=True
        ).shape[1]
        checks.tensor("values", values, shape=(b, k, "dv"), floating=True)
        weights = masked_softmax(
            self.scores(query, keys), mask, key_mask
        )  # eq. attention-weights
        return weights @ values, weights  # eq. attention-context


class MultiplicativeAttention(ScoredAttention):
    r"""Attention whose score is a learned product of a query and a key: the *general* form.

    $e = \mathbf{s}^\top\mathbf{W}\mathbf{h}$, all pairs in one matrix product (equation
    `attention-general`). With $\mathbf{W}$ the identity it is `dot_product_attention`.

    Args:
        query_dim: width of a query, ≥ 1.
        key_dim: width of a key, ≥ 1.
        device: of the weight.
        dtype: of the weight.

    Returns:
        Called with `(query, keys, values, mask=None, key_mask=None)`: the contexts and the weights.

    Example:
        >>> attend = MultiplicativeAttention(query_dim=4, key_dim=6)
        >>> keys, values = torch.zeros(2, 5, 6), torch.ones(2, 5, 7)
        >>> context, weights = attend(torch.zeros(2, 3, 4), keys, values)
        >>> context.shape, attend.weight.shape
        (torch.Size([2, 3, 7]), torch.Size([4, 6]))

    Source: Luong, Pham and Manning 2015, section 3.1.
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(query_dim, key_dim)
        self.weight = nn.Parameter(
            torch.empty(query_dim, key_dim, device=device, dtype=dtype)
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights after Glorot."""
        nn.init.xavier_uniform_(self.weight)

    def scores(
        self, query: Float[Tensor, "b q dq"], keys: Float[Tensor, "b k dk"]
    ) -> Weights:
        """Return $e$: the queries are carried into the space of the keys, then multiplied."""
        return (query @ self.weight) @ keys.mT  # eq. attention-general
