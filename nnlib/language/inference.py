r"""Inference: many texts served by one language model, their keys and values kept in pages.

Chapter: chapters/language/inference.md     Papers: Kwon et al. 2023 (vLLM); Yu et al. 2022 (Orca);
Pope et al. 2023; Agrawal et al. 2024 (Sarathi-Serve); Liu et al. 2024 (KIVI)
What a step costs stands in `_inference_costs`, who takes part in it in `_inference_schedule`, and
the cache in few bits in `_inference_cache`.
Axes: b batch, t new positions, s positions so far, h heads, g heads of keys and values, d head
width, v vocabulary.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.blocks.paged_kv_cache import PagedKVCache
from nnlib.language._inference_cache import (
    Quantized,
    QuantizedKVCache,
    quantize_cache,
)
from nnlib.language._inference_costs import (
    DecoderShape,
    Work,
    kv_cache_bytes,
    latent_cache_bytes,
)
from nnlib.language._inference_schedule import Request, Scheduler, Served, Step
from nnlib.language.llm import LLM
from nnlib.train.evaluating import evaluating

__all__ = [
    "DecoderShape",
    "Quantized",
    "QuantizedKVCache",
    "Request",
    "Scheduler",
    "Served",
    "Step",
    "Work",
    "kv_cache_bytes",
    "latent_cache_bytes",
    "quantize_cache",
    "serve",
    "split_attention",
]


def split_attention(
    q: Float[Tensor, "b h d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    parts: int = 2,
) -> Float[Tensor, "b h d"]:
    r"""Return what one new token of each text gathers, from parts of its past that are merged.

    Each part gives its largest score m, its sum l and its mean o; merged, they are the attention
    to the whole: equation `inference-merge`. So many processors can share one long text.

    Args:
        q: the query of the newest token, h heads.
        k: keys of all tokens, g heads, which divide h.
        v: their values.
        parts: number of parts, ≥ 1; the last may be short or empty.

    Example:
        >>> q, k, v = torch.randn(2, 4, 8), torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
        >>> torch.allclose(split_attention(q, k, v, 3), split_attention(q, k, v, 1), atol=1e-5)
        True

    Source: Dao et al. 2023 (Flash-Decoding); Milakov and Gimelshein 2018.
    """
    b, h, d = checks.tensor("q", q, shape=("b", "h", "d"), floating=True).shape
    checks.tensor("k", k, shape=(b, "g", "s", d), floating=True)
    checks.tensor("v", v, shape=tuple(k.shape), floating=True)
    for name, given in (("k", k), ("v", v)):
        if given.dtype != q.dtype:
            raise TypeError(f"{name} must be {q.dtype} like q, got {given.dtype}")
    groups, tokens = k.shape[1], k.shape[2]
    if not groups or h % groups:
        raise ValueError(f"the {groups} heads of k do not divide the {h} heads of q")
    if not tokens or not d:
        raise ValueError(f"k must hold a token or more, got {tuple(k.shape)}")
    size = -(-tokens // checks.count("parts", parts))
    heads = rearrange(q, "b (g n) d -> b g n d", g=groups)
    means, sums, largest = [], [], []
    for keys, values in zip(k.split(size, 2), v.split(size, 2), strict=True):
        scores = heads @ keys.mT / math.sqrt(d)
        top = scores.amax(-1, keepdim=True)
        weights = (scores - top).exp()
        total = weights.sum(-1, keepdim=True)
        means.append(weights @ values / total)
        sums.append(total)
        largest.append(top)
    m = torch.stack(largest)
    share = torch.stack(sums) * (m - m.amax(0)).exp()
    merged = (share * torch.stack(means)).sum(0) / share.sum(0)  # eq. inference-merge
    return rearrange(merged, "b g n d -> b (g n) d")


@torch.no_grad()
def serve(
    model: LLM,
    prompts: Sequence[Int[Tensor, " _"]],
    max_new_tokens: int | Sequence[int],
    scheduler: Scheduler,
) -> tuple[list[Int[Tensor, " _"]], Served]:
    """Answer many prompts with the most probable tokens, in steps that a scheduler decides.

    Keys and values lie in blocks; all requests that write their next token go through the model
    together, however long their texts are. What comes out is what `LLM.generate` writes for each
    prompt alone at temperature 0, equation `inference-pages`.

    Args:
        model: reads and writes.
        prompts: token numbers, one text each.
        max_new_tokens: tokens of every answer, ≥ 1, or one number for each.
        scheduler: a continuous one; its blocks are those of the cache.

    Returns:
        Prompts with their answers, and what became of the requests, with a step for a second.

    Example:
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=1, max_length=32)
        >>> prompts = [torch.tensor([1, 2, 3]), torch.tensor([4, 5])]
        >>> texts, served = serve(model, prompts, 4, Scheduler(blocks=8, block_size=4))
        >>> [len(text) for text in texts], len(served.steps)
        ([7, 6], 4)

    Source: Kwon et al. 2023.
    """
    requests = _asked(model, prompts, max_new_tokens, scheduler)
    attention: Any = model.layers[0].attention
    weight = model.token_embedding.weight
    cache = PagedKVCache(
        scheduler.blocks, scheduler.block_size, attention.num_kv_heads, attention.head_dim,
        num_layers=len(model.layers), dtype=weight.dtype, device=weight.device,
    )  # fmt: skip
    texts = [prompt.to(weight.device) for prompt in prompts]
    held: dict[int, int] = {}  # the sequence of each request that has one

    def read(works: list[Work]) -> None:
        """Read the next tokens of requests, as many of each, and write those that follow."""
        rows = [texts[w.request][w.cached : w.cached + w.new] for w in works]
        caches = cache.caches([held[w.request] for w in works])
        logits = model(torch.stack(rows), caches=caches)[:, -1]
        for work, token in zip(works, logits.argmax(-1), strict=True):
            if work.answers:
                texts[work.request] = torch.cat([texts[work.request], token[None]])

    def step(works: list[Work]) -> float:
        for number in set(held) - {state.number for state in scheduler.running}:
            cache.free([held.pop(number)])
        for work in works:
            if work.request not in held:
                (held[work.request],) = cache.allocate()
        if together := [work for work in works if work.new == 1]:
            read(together)
        for work in works:
            if work.new > 1:  # prompts differ in length, so each goes by itself
                read([work])
        return 1.0

    with evaluating(model):
        return texts, scheduler.run(requests, step)


def _asked(
    model: LLM,
    prompts: Sequence[Tensor],
    max_new_tokens: int | Sequence[int],
    scheduler: Scheduler,
) -> list[Request]:
    """Return the requests, all of whose arguments are checked."""
    if not isinstance(model, LLM):
        raise TypeError(f"model must be an LLM, got {type(model).__name__}")
    if not isinstance(scheduler, Scheduler):
        raise TypeError(
            f"scheduler must be a Scheduler, got {type(scheduler).__name__}"
        )
    if scheduler.batching == "static":
        raise ValueError(
            "scheduler must be one with batching='continuous', got 'static'"
        )
    if not isinstance(prompts, list | tuple) or not prompts:
        raise TypeError(
            f"prompts must be a list of one tensor or more, got {prompts!r}"
        )
    for at, prompt in enumerate(prompts):
        checks.tokens(f"prompts[{at}]", prompt, model.vocab_size, shape=("t",))
    if isinstance(max_new_tokens, list | tuple):
        news = [checks.count("max_new_tokens", each) for each in max_new_tokens]
    else:
        news = [checks.count("max_new_tokens", max_new_tokens)] * len(prompts)
    if len(news) != len(prompts):
        raise ValueError(
            f"max_new_tokens must be one number or one for each of {len(prompts)} prompts, "
            f"got {len(news)}"
        )
    for at, (prompt, new) in enumerate(zip(prompts, news, strict=True)):
        if len(prompt) + new > model.max_length:
            raise ValueError(
                f"prompts[{at}] with its answer needs {len(prompt) + new} positions, "
                f"max_length={model.max_length}"
            )
    return [Request(0.0, len(p), n) for p, n in zip(prompts, news, strict=True)]
