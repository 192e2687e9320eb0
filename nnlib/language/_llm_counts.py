"""An LLM counted: the width of its gated networks, its weights, and the FLOPs of a token.

Part of `nnlib.language.llm`, with its axes.
"""

from nnlib import checks


def swiglu_width(embed_dim: int, multiple_of: int = 256) -> int:
    """Return LLaMA's width of a gated network: 8e/3, rounded up to a multiple.

    Three matrices of that width hold as much as two of width 4e: equation `llm-swiglu-width`.

    Args:
        embed_dim: model width e, ≥ 1.
        multiple_of: what the result is a multiple of, ≥ 1.

    Example:
        >>> swiglu_width(4096), swiglu_width(5120)  # LLaMA 7B and 13B
        (11008, 13824)
    """
    e = checks.count("embed_dim", embed_dim)
    multiple = checks.count("multiple_of", multiple_of)
    return -(-(8 * e // 3) // multiple) * multiple


def llm_parameters(
    vocab_size: int,
    embed_dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dim_feedforward: int,
    tied: bool = False,
) -> int:
    """Return how many numbers a model without biases or norms of queries learns: `llm-parameters`.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width e, ≥ 1.
        num_layers: blocks L, ≥ 0.
        num_heads: heads h, ≥ 1.
        num_kv_heads: heads of keys and values g, ≥ 1.
        head_dim: head width d, ≥ 1.
        dim_feedforward: width f of the gated networks, ≥ 1.
        tied: whether one table of token vectors serves at both ends.

    Example:
        >>> llm_parameters(128256, 4096, 32, 32, 8, 128, 14336)  # Llama 3 8B
        8030261248
    """
    sizes = (vocab_size, embed_dim, num_heads, num_kv_heads, head_dim, dim_feedforward)
    names = "vocab_size embed_dim num_heads num_kv_heads head_dim dim_feedforward"
    v, e, h, g, d, f = map(checks.count, names.split(), sizes)
    depth = checks.count("num_layers", num_layers, least=0)
    tables = 1 if checks.flag("tied", tied) else 2
    return tables * v * e + depth * (2 * e * d * (h + g) + 3 * e * f + 2 * e) + e


def token_flops(
    vocab_size: int,
    embed_dim: int,
    num_layers: int,
    num_heads: int,
    num_kv_heads: int,
    head_dim: int,
    dim_feedforward: int,
    length: int,
) -> int:
    """Return the FLOPs of the matrix products that give one token, with a cache: `llm-token-flops`.

    The sizes are those of `llm_parameters`; `length` counts the positions that are looked at, the
    token's own among them, ≥ 1.

    Example:
        >>> round(token_flops(128256, 4096, 32, 32, 8, 128, 14336, 8192) / 1e9, 1)  # Llama 3 8B
        19.3
    """
    shape = (
        vocab_size,
        embed_dim,
        num_layers,
        num_heads,
        num_kv_heads,
        head_dim,
        dim_feedforward,
    )
    norms = (2 * num_layers + 1) * embed_dim
    products = (
        llm_parameters(*shape, tied=True) - norms
    )  # the table of token vectors, once
    t = checks.count("length", length)
    return 2 * products + 4 * num_layers * num_heads * head_dim * t
