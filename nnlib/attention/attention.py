r"""Attention: a mean of what was read, with weights that depend on the question.

A score says how well each key fits a query; softmax makes the scores weights; the answer is the
mean of the values under them. The classes differ in the score alone.

Chapter: chapters/attention/attention.md     Papers: Bahdanau, Cho and Bengio 2014 (additive);
Luong, Pham and Manning 2015 (multiplicative); Vaswani et al. 2017 (scaled dot product)
Axes: b batch, q queries, k keys, dq dk dv their widths; in heads: h heads, t queries, s keys.
Letters: our query is the state of a decoder, our keys the states of an encoder. Bahdanau et al.
score with the state *before* the step, Luong et al. with the one after it; see `attend_before`
and `attend_after`.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.scored_attention import (
    Context,
    ScoredAttention,
    Weights,
    masked_softmax,
)
from nnlib.kernels import attention as kernel


class AdditiveAttention(ScoredAttention):
    r"""Attention whose score is a small network on each pair of a key and a query.

    $e = \mathbf{w}^\top\tanh(\mathbf{W}_1\mathbf{h} + \mathbf{W}_2\mathbf{s})$ for a key
    $\mathbf{h}$ and a query $\mathbf{s}$ of any widths (equation `attention-additive`). Luong et
    al. call it *concat*: $\mathbf{W}_1, \mathbf{W}_2$ side by side are one matrix on
    $[\mathbf{h}; \mathbf{s}]$.

    Args:
        query_dim: width of a query, ≥ 1.
        key_dim: width of a key, ≥ 1.
        hidden_size: units of the small network, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Returns:
        Called with `(query, keys, values, mask=None, key_mask=None)`: the contexts and the weights.

    Example:
        >>> attend = AdditiveAttention(query_dim=4, key_dim=6, hidden_size=8)
        >>> keys, values = torch.zeros(2, 5, 6), torch.ones(2, 5, 7)
        >>> context, weights = attend(torch.zeros(2, 3, 4), keys, values)
        >>> context.shape, weights[0, 0].detach()  # all keys are alike
        (torch.Size([2, 3, 7]), tensor([0.2000, 0.2000, 0.2000, 0.2000, 0.2000]))

    Source: Bahdanau, Cho and Bengio 2014, whose $W_a$ is our $\mathbf{W}_2$ and $U_a$ our
    $\mathbf{W}_1$; they number decoder steps $i$ and encoder steps $j$, we the other way round.
    """

    def __init__(
        self,
        query_dim: int,
        key_dim: int,
        hidden_size: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(query_dim, key_dim)
        self.hidden_size = checks.count("hidden_size", hidden_size)
        like: dict[str, Any] = {"bias": False, "device": device, "dtype": dtype}
        self.query_proj = nn.Linear(query_dim, hidden_size, **like)
        self.key_proj = nn.Linear(key_dim, hidden_size, **like)
        self.score = nn.Linear(hidden_size, 1, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights after Glorot."""
        for layer in (self.query_proj, self.key_proj, self.score):
            nn.init.xavier_uniform_(layer.weight)

    def scores(
        self, query: Float[Tensor, "b q dq"], keys: Float[Tensor, "b k dk"]
    ) -> Weights:
        """Return $e$; holds b · q · k · hidden_size numbers, one network for each pair."""
        pairs = self.query_proj(query)[:, :, None] + self.key_proj(keys)[:, None]
        return self.score(pairs.tanh()).squeeze(-1)  # eq. attention-additive


def dot_product_attention(
    query: Float[Tensor, "b q d"],
    keys: Float[Tensor, "b k d"],
    values: Float[Tensor, "b k dv"],
    mask: Tensor | None = None,
    scale: float = 1.0,
    key_mask: Bool[Tensor, "b k"] | None = None,
) -> tuple[Context, Weights]:
    r"""Attend by $e = \mathbf{s}^\top\mathbf{h}$: nothing learned, one width for both.

    Equation `attention-dot`; with `scale` $1/\sqrt{d}$, `attention-scaled`.

    Args:
        query: what asks.
        keys: what is asked, as wide as `query`.
        values: what is handed out, one a key.
        mask: as in `masked_softmax`.
        scale: what scores are multiplied by; an inverse temperature.
        key_mask: True at real keys, False at padding.

    Returns:
        The contexts and the weights.

    Example:
        >>> keys, values = torch.tensor([[[0.0], [1.0]]]), torch.tensor([[[0.0], [4.0]]])
        >>> context, weights = dot_product_attention(torch.tensor([[[3.0]]]).log(), keys, values)
        >>> weights, context.round(decimals=4)
        (tensor([[[0.2500, 0.7500]]]), tensor([[[3.]]]))

    Source: Luong, Pham and Manning 2015, section 3.1.
    """
    b, _, d = checks.tensor("query", query, shape=("b", "q", "d"), floating=True).shape
    k = checks.tensor("keys", keys, shape=(b, "k", d), floating=True).shape[1]
    checks.tensor("values", values, shape=(b, k, "dv"), floating=True)
    weights = masked_softmax(
        checks.number("scale", scale) * query @ keys.mT, mask, key_mask
    )
    return weights @ values, weights


def scaled_dot_product_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    mask: Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
) -> Float[Tensor, "b h t d"]:
    r"""$\mathrm{softmax}(\mathbf{Q}\mathbf{K}^\top/\sqrt{d})\,\mathbf{V}$, on the kernel layer.

    Equation `attention-scaled`. Queries, keys, values and mask stand where
    `torch.nn.functional.scaled_dot_product_attention` has them; what follows is called by name,
    since torch's next argument is a probability of dropping. The answers are the same but for two:

    * `is_causal` with unequal lengths lines up the *last* query with the last key, as a decoder
      that continues a text needs it; torch lines up the first with the first.
    * A query that sees nothing gets 0, never NaN.

    Args:
        q: queries.
        k: keys; with fewer heads than `q`, each serves several in a row.
        v: values, of the shape of `k`.
        mask: True where a query may look, or numbers added to the scores; broadcast to b h t s.
        is_causal: whether query i sees no key after i + s - t.
        scale: what scores are multiplied by; None is $1/\sqrt{d}$.
        key_mask: True at real keys, False at padding.

    Returns:
        One mixture of values a query.

    Example:
        >>> q, k = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 2, 4)
        >>> scaled_dot_product_attention(q, k, torch.tensor([[[[0.0] * 4, [2.0] * 4]]]))
        tensor([[[[1., 1., 1., 1.]]]])

    Source: Vaswani et al. 2017, section 3.2.1.
    """
    return kernel.attention(
        q, k, v, is_causal=is_causal, scale=scale, mask=mask, key_mask=key_mask
    )


def attend_before(
    cell: nn.GRUCell,
    attention: nn.Module,
    inputs: Float[Tensor, "b q d"],
    state: Float[Tensor, "b dq"],
    keys: Float[Tensor, "b k dk"],
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b k"] | None = None,
) -> tuple[Float[Tensor, "b q dq"], Float[Tensor, "b q dk"], Weights]:
    r"""Decode as Bahdanau et al. do: look with the state before the step, and feed what was seen.

    $\mathbf{c}_j$ from $\mathbf{s}_{j-1}$, then $\mathbf{s}_j = f([\mathbf{y}_{j-1};
    \mathbf{c}_j], \mathbf{s}_{j-1})$ (equation `attention-before`). Each step waits for the last.

    Args:
        cell: $f$, which takes an input of width d + dk.
        attention: any attention of this module.
        inputs: what was written before each step.
        state: $\mathbf{s}_0$.
        keys: states of the encoder, which are the values too.
        mask: as in `masked_softmax`, with one row for all queries: (b, 1, k).
        key_mask: True at real keys, False at padding.

    Returns:
        States, contexts and weights of all steps.

    Example:
        >>> cell, attend = nn.GRUCell(2 + 6, 4), AdditiveAttention(4, 6, 8)
        >>> written, start, keys = torch.zeros(1, 3, 2), torch.zeros(1, 4), torch.ones(1, 5, 6)
        >>> out = attend_before(cell, attend, written, start, keys)
        >>> [tuple(part.shape) for part in out]
        [(1, 3, 4), (1, 3, 6), (1, 3, 5)]

    Source: Bahdanau, Cho and Bengio 2014, section 3.1.
    """
    b, steps, d = checks.tensor(
        "inputs", inputs, shape=("b", "q", "d"), floating=True
    ).shape
    checks.tensor("state", state, shape=(b, cell.hidden_size), floating=True)
    dk = checks.tensor("keys", keys, shape=(b, "k", "dk"), floating=True).shape[2]
    if cell.input_size != d + dk:
        raise ValueError(
            f"cell must take inputs of width {d} + {dk}, it takes {cell.input_size}"
        )
    if mask is not None:
        checks.tensor("mask", mask, shape=("b", 1, "k"))
    found = []
    for step in range(steps):
        context, weights = attention(state[:, None], keys, keys, mask, key_mask)
        state = cell(torch.cat([inputs[:, step], context[:, 0]], -1), state)
        found.append((state, context[:, 0], weights[:, 0]))
    states, contexts, weights = (
        torch.stack(part, 1) for part in zip(*found, strict=True)
    )
    return states, contexts, weights


def attend_after(
    rnn: nn.GRU,
    attention: nn.Module,
    inputs: Float[Tensor, "b q d"],
    state: Float[Tensor, "b dq"],
    keys: Float[Tensor, "b k dk"],
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b k"] | None = None,
) -> tuple[Float[Tensor, "b q dq"], Float[Tensor, "b q dk"], Weights]:
    r"""Decode as Luong et al. do: step first, then look with the new state.

    $\mathbf{s}_j = f(\mathbf{y}_{j-1}, \mathbf{s}_{j-1})$, then $\mathbf{c}_j$ from
    $\mathbf{s}_j$ (equation `attention-after`). What was seen does not enter the next state, so
    that all steps of a known sentence run at once.

    Args:
        rnn: $f$: one layer, one direction, `batch_first=True`.
        attention: any attention of this module.
        inputs: what was written before each step.
        state: $\mathbf{s}_0$.
        keys: states of the encoder, which are the values too.
        mask: as in `masked_softmax`.
        key_mask: True at real keys, False at padding.

    Returns:
        States, contexts and weights of all steps.

    Example:
        >>> rnn, attend = nn.GRU(2, 4, batch_first=True), AdditiveAttention(4, 6, 8)
        >>> written, start, keys = torch.zeros(1, 3, 2), torch.zeros(1, 4), torch.ones(1, 5, 6)
        >>> out = attend_after(rnn, attend, written, start, keys)
        >>> [tuple(part.shape) for part in out]
        [(1, 3, 4), (1, 3, 6), (1, 3, 5)]

    Source: Luong, Pham and Manning 2015, section 3 (without their input feeding).
    """
    if not rnn.batch_first or rnn.num_layers != 1 or rnn.bidirectional:
        raise ValueError(
            "rnn must have one layer and one direction, and batch_first=True"
        )
    b = checks.tensor(
        "inputs", inputs, shape=("b", "q", rnn.input_size), floating=True
    ).shape[0]
    checks.tensor("state", state, shape=(b, rnn.hidden_size), floating=True)
    states, _ = rnn(inputs, state[None].contiguous())
    context, weights = attention(states, keys, keys, mask, key_mask)
    return states, context, weights


def matmul_flops(
    form: str,
    queries: int,
    keys: int,
    *,
    query_dim: int,
    key_dim: int,
    value_dim: int,
    hidden_size: int | None = None,
) -> int:
    r"""Count the multiplications and additions in the matrix products of one attention.

    Equation `attention-cost`; softmax and tanh come on top.

    Args:
        form: `additive`, `general` or `dot`.
        queries: n ≥ 1.
        keys: m ≥ 1.
        query_dim: width of a query.
        key_dim: width of a key.
        value_dim: width of a value.
        hidden_size: units of the additive form's network; None for the others.

    Example:
        >>> matmul_flops("dot", 10, 20, query_dim=4, key_dim=4, value_dim=8)
        4800

    Source: counted; `torch.utils.flop_counter` agrees.
    """
    checks.one_of("form", form, ("additive", "general", "dot"))
    n, m = checks.count("queries", queries), checks.count("keys", keys)
    dq, dk = checks.count("query_dim", query_dim), checks.count("key_dim", key_dim)
    mix = 2 * n * m * checks.count("value_dim", value_dim)
    if (hidden_size is None) == (form == "additive"):
        raise ValueError(
            f"hidden_size={hidden_size!r} does not belong to form={form!r}"
        )
    if form == "additive":
        a = checks.count("hidden_size", hidden_size)
        return 2 * n * dq * a + 2 * m * dk * a + 2 * n * m * a + mix
    if form == "general":
        return 2 * n * dq * dk + 2 * n * m * dk + mix
    if dq != dk:
        raise ValueError(f"key_dim={dk} must be query_dim={dq} for form='dot'")
    return 2 * n * m * dk + mix
