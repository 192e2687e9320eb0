"""How many weights a model with experts has, and how many of them a token meets.

Part of `nnlib.language.mixture_of_experts`, with its axes.
"""

from typing import NamedTuple

from nnlib import checks
from nnlib.language._routing import at_most_all
from nnlib.language.llm import llm_parameters


class Weights(NamedTuple):
    """How many numbers a model with experts holds, and how many of them a token meets."""

    total: int
    active: int


def moe_parameters(
    vocab_size: int,
    embed_dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dim_feedforward: int,
    num_experts: int,
    top_k: int,
    num_shared_experts: int = 0,
    tied: bool = False,
) -> Weights:
    """Return the weights of an LLM with experts in every block: `mixture-of-experts-parameters`.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width e, ≥ 1.
        num_layers: blocks L, ≥ 0.
        num_heads: heads h, ≥ 1.
        num_kv_heads: heads of keys and values g, ≥ 1.
        head_dim: head width d, ≥ 1.
        dim_feedforward: width f of an expert, ≥ 1.
        num_experts: experts m, ≥ 1.
        top_k: experts for each token k, 1 … m.
        num_shared_experts: experts that every token visits, ≥ 0.
        tied: whether one table of token vectors serves at both ends.

    Example:
        >>> moe_parameters(32000, 4096, 32, 32, 8, 128, 14336, 8, 2)  # Mixtral 8x7B
        Weights(total=46702792704, active=12879925248)
    """
    m = checks.count("num_experts", num_experts)
    k = at_most_all(top_k, m)
    f = checks.count("dim_feedforward", dim_feedforward)
    shared = checks.count("num_shared_experts", num_shared_experts, least=0)
    shape = (vocab_size, embed_dim, num_layers, num_heads, num_kv_heads, head_dim)
    total, active = (
        llm_parameters(*shape, f * (visited + shared), tied)
        + num_layers * embed_dim * m
        for visited in (m, k)
    )
    return Weights(total, active)
