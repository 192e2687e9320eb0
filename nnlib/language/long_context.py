r"""Longer texts than those of training: stretched positions, a cache with sinks, a ring.

Chapter: chapters/language/long_context.md     Papers: Su et al. 2021; Chen et al. 2023; Peng et
al. 2023 (YaRN); Xiao et al. 2023 (sinks); Liu, Zaharia and Abbeel 2023 (ring attention)
Axes: b batch, t positions, v vocabulary, h heads, g heads of keys and values, d head width.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.language._ring import (
    Ring,
    checked_scale,
    place_in,
    ring_attention_reference,
    ring_memory,
    ring_pairs,
    ring_positions,
)
from nnlib.language._rotary import Rotary, attention_factor, rope_frequencies
from nnlib.language._sinks import SinkCache
from nnlib.language.llm import LLM, GroupedAttention

__all__ = [
    "SinkCache",
    "attention_factor",
    "ring_attention",
    "ring_attention_reference",
    "ring_memory",
    "ring_pairs",
    "ring_positions",
    "rope_frequencies",
    "streamed_logits",
    "stretched",
]


def stretched(
    model: LLM, max_length: int, scaling: str | None = None, **options: Any
) -> LLM:
    """Return a copy of a model that reads longer texts, its frequencies stretched by a rule.

    Args:
        model: an LLM.
        max_length: the longest sequence that the copy takes, ≥ 1.
        scaling: a rule of `rope_frequencies`, or None for the frequencies as they were.
        options: of that rule, such as `factor` and `trained_length`; and `attention_factor`.

    Example:
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=1, max_length=16)
        >>> longer = stretched(model, 64, "yarn", factor=4, trained_length=16)
        >>> longer(torch.zeros(1, 64, dtype=torch.int64)).shape
        torch.Size([1, 64, 11])
    """
    if not isinstance(model, LLM):
        raise TypeError(f"model must be an LLM, got {type(model).__name__}")
    end = checks.count("max_length", max_length)
    told = {"scaling": scaling, **options}
    parts = [m for m in model.modules() if isinstance(m, GroupedAttention)]
    made = [Rotary(part.head_dim, part.rotary.base, told) for part in parts]
    other = copy.deepcopy(model)
    other.max_length = end
    copies = [m for m in other.modules() if isinstance(m, GroupedAttention)]
    for part, rotary in zip(copies, made, strict=True):
        part.rotary = rotary
    return other


@torch.no_grad()
def streamed_logits(
    model: LLM, ids: Int[Tensor, "b t"], *, sinks: int = 4, window: int = 1020
) -> Float[Tensor, "b t v"]:
    """Return the logits after each token of a text of any length, read through a cache with sinks.

    Memory and the time of a token stay constant. Equation `long-context-sinks`.

    Args:
        model: an LLM whose `max_length` is at least sinks + window.
        ids: token numbers; more than the model's `max_length` if you like.
        sinks: first positions that stay, ≥ 0.
        window: latest positions that stay, ≥ 1.

    Example:
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=1, max_length=16)
        >>> streamed_logits(model, torch.zeros(1, 40, dtype=torch.int64), sinks=4, window=12).shape
        torch.Size([1, 40, 11])

    Source: Xiao et al. 2023.
    """
    if not isinstance(model, LLM):
        raise TypeError(f"model must be an LLM, got {type(model).__name__}")
    checks.tokens("ids", ids, model.vocab_size)
    caches = [SinkCache(sinks, window) for _ in model.layers]
    room = caches[0].max_length
    if room > model.max_length:
        raise ValueError(
            f"sinks + window = {room} must be at most the model's max_length={model.max_length}"
        )
    # what fits is read at once, the rest token by token
    steps = [ids[:, :room], *(ids[:, at : at + 1] for at in range(room, ids.shape[1]))]
    return torch.cat([model(part, caches=caches) for part in steps], 1)


def ring_attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g t d"],
    v: Float[Tensor, "b g t d"],
    *,
    layout: str = "contiguous",
    is_causal: bool = True,
    scale: float | None = None,
    group: Any = None,
) -> Float[Tensor, "b h t d"]:
    r"""Attention over a sequence of which each process of a ring holds one part.

    Every process calls it with its own part and gets the answers to its own queries, equal to
    those of attention over the whole (equations `long-context-ring`, `long-context-merge`); no
    process ever holds more than two parts of keys and values. Gradients flow back the same way.

    Args:
        q: queries of this process, rotated by their true positions (`ring_positions`).
        k: keys; with fewer heads than `q`, each serves h/g queries in a row.
        v: values, of the shape of `k`.
        layout: which positions a process holds, as `ring_positions` takes it; "striped" and
            "zigzag" give all processes equal work under a causal mask.
        is_causal: whether a query sees no later key.
        scale: what scores are multiplied by; None is 1/√d.
        group: of `torch.distributed`; None is all processes, or this one if there are no others.

    Returns:
        One mixture of values a query of this process.

    Example:
        >>> q = torch.randn(1, 4, 8, 16)  # alone, a ring of one
        >>> ring_attention(q, q[:, :2], q[:, :2]).shape
        torch.Size([1, 4, 8, 16])

    Source: Liu, Zaharia and Abbeel 2023; balanced: Brandon et al. 2023.
    """
    scale = checked_scale(q, k, v, is_causal, scale)
    processes = place_in(group)[1]
    places = ring_positions(q.shape[2] * processes, processes, layout).to(q.device)
    return Ring.apply(q, k, v, places, is_causal, scale, group)[0]
