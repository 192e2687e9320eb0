"""Serving: the scheduler by brute force, costs by a tracer, pages by the plain cache."""

import math
from dataclasses import astuple
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.kernels.roofline import Machine
from nnlib.kernels.trace import trace
from nnlib.language.inference import (
    DecoderShape,
    QuantizedKVCache,
    Request,
    Scheduler,
    Served,
    Work,
    kv_cache_bytes,
    latent_cache_bytes,
    quantize_cache,
    serve,
    split_attention,
)
from nnlib.language.llm import LLM, token_flops
from tests.support import Example, refuses

LLAMA_8B = DecoderShape(128256, 4096, 32, 32, 8, 128, 14336)
BAD = (TypeError, ValueError)
DESK = Machine("a desk calculator", flops=1e6, bandwidth=1e5)


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    q, k, v = torch.randn(2, 4, 8), torch.randn(2, 2, 7, 8), torch.randn(2, 2, 7, 8)
    return Example(inputs=(q, k, v), named={"parts": 3})


def one_second(works):
    return 1.0


# ------------------------------------------------------------------------------------------- costs
@pytest.mark.equation("inference-cache")
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_cache_takes_what_the_formula_says(groups):
    model = LLM(11, 16, 4, 3, 20, num_kv_heads=groups)
    caches = model.new_caches()
    with torch.no_grad():
        model(torch.randint(11, (1, 20)), caches=caches)
    kept = sum(cache.bytes for cache in caches)
    assert kept == kv_cache_bytes(3, groups, 4, 20, bits=32)


def test_caches_of_published_models():
    seventy = {g: kv_cache_bytes(80, g, 128, 8192) for g in (1, 8, 64)}
    assert seventy[8] / 1e9 == pytest.approx(2.684, abs=1e-3)  # 2.50 GiB
    assert seventy[8] == 2.5 * 2**30
    assert seventy[64] / 1e9 == pytest.approx(21.5, abs=0.05)
    assert kv_cache_bytes(80, 8, 128) == 320 * 1024  # a token
    assert kv_cache_bytes(40, 40, 128) == 800 * 1024  # OPT-13B, as Kwon et al. have it


@pytest.mark.equation("inference-latent-cache")
def test_latents_of_deepseek_and_its_93_percent():
    """The paper says 93.3 %: it compares 6-bit latents with its predecessor's 16-bit groups."""
    v2, older = latent_cache_bytes(60, 512, 64), kv_cache_bytes(95, 8, 128)
    assert (v2, older) == (60 * 576 * 2, 2 * 95 * 8 * 128 * 2)
    assert 1 - v2 / older == pytest.approx(0.8224, abs=1e-4)
    assert 1 - latent_cache_bytes(60, 512, 64, bits=6) / older == pytest.approx(0.933, abs=5e-4)


@pytest.mark.equation("inference-flops")
@pytest.mark.parametrize(("new", "cached"), [(1, 0), (7, 0), (1, 9), (4, 5)], ids=str)
def test_flops_are_those_of_a_real_pass(new, cached):
    """Products of weights as a tracer counts them; those of attention by a loop over pairs."""
    model = LLM(13, 16, 4, 2, 32, num_kv_heads=2, dim_feedforward=24)
    shape = DecoderShape(13, 16, 2, 4, 2, 4, 24)
    caches = model.new_caches()
    with torch.no_grad():
        if cached:
            model(torch.randint(13, (1, cached)), caches=caches)
        hidden = trace(lambda ids: model.hidden(ids, caches=caches), torch.randint(13, (1, new)))
    linear = sum(s.flops for s in hidden.steps if s.name in ("mm", "addmm"))
    pairs = sum(1 for t in range(new) for s in range(cached + new) if s <= cached + t)
    looks = 2 * 4 * 4 * 2 * 2 * pairs  # layers, heads, width; scores and sums; times and plus
    output = 2 * 13 * 16
    assert linear == 2 * shape.layer_weights * new
    assert shape.cost([Work(0, new, cached)]).flops == linear + looks + output


def test_one_token_costs_what_the_llm_chapter_says():
    sizes = (128256, 4096, 32, 32, 8, 128, 14336)
    step = LLAMA_8B.cost([Work(0, new=1, cached=8191)])
    assert step.flops == token_flops(*sizes, length=8192)


@pytest.mark.equation("inference-bytes")
def test_bytes_are_the_weights_once_and_each_cache():
    model = LLM(13, 16, 4, 2, 32, num_kv_heads=2, dim_feedforward=24, dtype=torch.float16)
    shape = DecoderShape(13, 16, 2, 4, 2, 4, 24)
    read = [p for name, p in model.named_parameters() if "norm" not in name and "embed" not in name]
    weights = sum(p.numel() * p.element_size() for p in read)
    assert shape.weight_bytes == weights
    kept = kv_cache_bytes(2, 2, 4, 10) + kv_cache_bytes(2, 2, 4, 6)
    assert shape.cost([Work(0, 1, 9), Work(1, 2, 4)]).bytes == weights + kept
    assert shape.cost([]).bytes == 0


@pytest.mark.equation("inference-intensity")
def test_intensity_grows_with_the_batch_up_to_that_of_the_cache():
    """Without a past it is one FLOP a token of the batch; with a long one, h / g whatever it is."""
    for batch in (1, 8, 64):
        short = LLAMA_8B.cost([Work(n, 1, 0) for n in range(batch)]).intensity
        assert short == pytest.approx(batch, rel=0.01)
        long = LLAMA_8B.cost([Work(n, 1, 10**9) for n in range(batch)]).intensity
        assert long == pytest.approx(32 / 8, rel=0.01)


@pytest.mark.equation("inference-step")
def test_a_step_waits_for_the_slower_supply():
    shape = DecoderShape(13, 16, 2, 4, 2, 4, 24)
    for works in ([Work(0, 1, 30)], [Work(0, 30, 0)]):
        cost = shape.cost(works)
        by_memory, by_arithmetic = cost.bytes / 1e5, cost.flops / 1e6
        assert shape.seconds(DESK, works) == pytest.approx(max(by_memory, by_arithmetic))
    assert by_arithmetic > by_memory  # the second, a prompt, waits for arithmetic


@pytest.mark.equation("inference-batch")
@pytest.mark.parametrize("length", [100, 1000, 8192])
def test_the_largest_batch_is_the_last_that_fits(length):
    most, memory = LLAMA_8B.largest_batch(80e9, length), 80e9
    taken = [LLAMA_8B.weight_bytes + n * LLAMA_8B.cache_bytes(length) for n in (most, most + 1)]
    assert taken[0] <= memory < taken[1]
    assert LLAMA_8B.largest_batch(1e9, length) == 0


def test_bits_of_weights_and_cache_count_apart():
    few = DecoderShape(*astuple(LLAMA_8B)[:7], weight_bits=4, cache_bits=8)
    assert few.weight_bytes == LLAMA_8B.weight_bytes / 4
    assert few.cache_bytes(100) == LLAMA_8B.cache_bytes(100) / 2


# --------------------------------------------------------------------------------------- attention
@pytest.mark.equation("inference-merge")
@pytest.mark.parametrize("parts", [1, 2, 3, 7, 50])
def test_attention_in_parts_is_attention(parts):
    q = torch.randn(3, 6, 8, dtype=torch.float64)
    k, v = torch.randn(2, 3, 2, 17, 8, dtype=torch.float64)
    whole = F.scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=True)[:, :, 0]
    torch.testing.assert_close(split_attention(q, k, v, parts), whole)


@pytest.mark.parametrize("size", [1e-30, 1e4])
def test_attention_in_parts_lasts_at_the_extremes(size):
    q, k, v = torch.randn(2, 4, 8), size * torch.randn(2, 2, 9, 8), torch.randn(2, 2, 9, 8)
    assert split_attention(q, k, v, 4).isfinite().all()


@pytest.mark.equation("inference-absorb")
def test_attention_to_latents_is_attention_to_the_keys_made_of_them():
    """Keys and values of every head are made of one vector a token; no key need ever be made."""
    latents = torch.randn(9, 6, dtype=torch.float64)  # 9 tokens, d_c = 6
    up_k, up_v = torch.randn(2, 3, 4, 6, dtype=torch.float64)  # 3 heads of 4
    q = torch.randn(3, 4, dtype=torch.float64)
    for head in range(3):
        keys = torch.stack([up_k[head] @ latent for latent in latents])
        values = torch.stack([up_v[head] @ latent for latent in latents])
        plain = F.scaled_dot_product_attention(q[head, None], keys, values)[0]
        weights = ((up_k[head].T @ q[head]) @ latents.T / 4**0.5).softmax(-1)
        torch.testing.assert_close(up_v[head] @ (weights @ latents), plain)


# ------------------------------------------------------------------------------------ in few bits
@pytest.mark.equation("inference-quantize", "inference-dequantize")
@pytest.mark.parametrize("per", ["token", "channel"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_rounding_is_that_of_a_loop(bits, per):
    x = torch.randn(2, 1, 5, 8)
    got = quantize_cache(x, bits, per).dequantize()
    groups, back = (x, got) if per == "token" else (x.mT, got.mT)
    for group, told in zip(groups.reshape(-1, groups.shape[-1]), back.reshape(-1, groups.shape[-1]),
                           strict=True):  # fmt: skip
        levels = torch.linspace(group.min(), group.max(), 2**bits)
        nearest = levels[(group[:, None] - levels).abs().argmin(-1)]
        torch.testing.assert_close(told, nearest, atol=1e-5, rtol=0)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_take_their_bits_and_a_constant_comes_back_exactly(bits):
    x = torch.full((1, 2, 6, 16), 0.7)
    kept = quantize_cache(x, bits)
    assert kept.codes.numel() * 8 == x.numel() * bits
    assert kept.bytes == x.numel() * bits // 8 + 2 * 12 * 4
    torch.testing.assert_close(kept.dequantize(), x, rtol=0, atol=0)


def test_a_few_large_channels_call_for_ranges_of_their_own():
    x = torch.randn(1, 2, 64, 16)
    x[..., 3] *= 50
    loss = {per: (quantize_cache(x, 4, per).dequantize() - x)[..., :3].square().mean().item()
            for per in ("token", "channel")}  # fmt: skip
    assert loss["token"] > 20 * loss["channel"]


@pytest.mark.parametrize("pieces", [(20,), (1,) * 20, (7, 1, 12)], ids=str)
def test_a_cache_in_few_bits_keeps_the_newest_tokens_whole(pieces):
    k, v = torch.randn(2, 1, 2, 20, 8)
    cache = QuantizedKVCache(20, bits=8, group=8)
    for start, size in zip(np.cumsum((0, *pieces)), pieces, strict=False):
        got = cache.append(k[:, :, start : start + size], v[:, :, start : start + size])
    assert (cache.length, cache.waiting) == (20, 4)
    for out, given_ in zip(got, (k, v), strict=True):
        assert torch.equal(out[:, :, 16:], given_[:, :, 16:])
        assert 0 < (out - given_)[:, :, :16].abs().max() < 0.05
    codes, steps = 2 * 16 * 2 * 8, 2 * 4 * (2 * 2 * 8 + 2 * 16)  # a byte each; float32, twice
    assert cache.bytes == codes + steps + 2 * 4 * 2 * 8 * 4


def test_the_model_takes_a_cache_in_few_bits():
    model = LLM(11, 32, 4, 2, 40, num_kv_heads=2, init_std=0.2)
    ids = torch.randint(11, (2, 30))
    caches = [QuantizedKVCache(40, bits=8, group=8) for _ in model.layers]
    with torch.no_grad():
        first = model(ids[:, :20], caches=caches)
        last = model(ids[:, 20:], caches=caches)
        exact = model(ids)
    got = torch.cat([first, last], 1)
    assert 0 < (got - exact).abs().max() < 0.05 * exact.abs().max()


# --------------------------------------------------------------------------------------- scheduler
def brute_static(requests, rows):
    """Serve by hand: batches of so many, each as long as its longest answer, a step a second."""
    now, finished = 0, {}
    for start in range(0, len(requests), rows):
        batch = requests[start : start + rows]
        for at, request in enumerate(batch, start):
            finished[at] = now + request.output
        now += max(request.output for request in batch)
    return [float(finished[at]) for at in range(len(requests))]


def brute_continuous(requests, rows):
    """Likewise, where a row that is free takes in the next request."""
    free, finished = [0] * rows, []
    for request in requests:
        row = min(range(rows), key=free.__getitem__)
        free[row] += request.output
        finished.append(float(free[row]))
    return finished


@pytest.mark.parametrize("seed", range(5))
def test_both_batchings_are_those_by_hand(seed):
    rng = np.random.default_rng(seed)
    requests = [Request(0, 3, int(n)) for n in rng.integers(1, 20, 17)]
    for batching, brute in (("static", brute_static), ("continuous", brute_continuous)):
        scheduler = Scheduler(100, 4, batching=batching, reserve=24, max_running=4)
        assert scheduler.run(requests, one_second).finished == brute(requests, 4)


traces = st.lists(
    st.builds(Request, st.floats(0, 30), st.integers(1, 40), st.integers(1, 30)),
    min_size=1, max_size=12,
)  # fmt: skip
kinds = st.sampled_from([
    {}, {"token_budget": 7}, {"reserve": "known"}, {"reserve": 70}, {"max_running": 2},
    {"batching": "static", "reserve": 70}, {"batching": "static", "reserve": "known"},
])  # fmt: skip


@given(traces, kinds, st.integers(18, 40))
@settings(max_examples=150, deadline=None)
def test_whatever_comes_each_request_gets_all_its_tokens_and_no_block_is_lost(
    requests, kind, blocks
):
    scheduler = Scheduler(blocks, 4, **kind)
    read = [0] * len(requests)

    def step(works):
        assert works and len({w.request for w in works}) == len(works)
        assert len(works) <= scheduler.max_running
        assert sum(state.blocks for state in scheduler.running) + scheduler.free == blocks
        if scheduler.batching == "continuous":
            assert sum(w.new for w in works) <= scheduler.token_budget
            for state in scheduler.running:
                assert state.blocks * 4 >= state.read
            for work in works:  # a text is read in order, from its beginning after a preemption
                assert work.cached in (0, read[work.request])
                read[work.request] = work.cached + work.new
        return 1.0

    served = scheduler.run(requests, step)
    assert [len(t) for t in served.times] == [r.output for r in requests]
    assert all(a < b for t in served.times for a, b in pairwise(t))
    assert all(t[0] > r.arrival for t, r in zip(served.times, requests, strict=True))
    assert scheduler.free == blocks
    assert not scheduler.running
    assert not scheduler.waiting
    assert all(0 <= s.stored <= 4 * s.held <= 4 * blocks for s in served.steps)


def test_out_of_blocks_the_last_gives_way_and_is_read_anew():
    requests = [Request(0, 6, 10), Request(0, 6, 10)]
    scheduler = Scheduler(blocks=5, block_size=4)
    seen = []
    served = scheduler.run(requests, lambda works: seen.append(works) or 1.0)
    assert served.preempted > 0
    again = [w for works in seen for w in works if w.request == 1 and w.cached == 0]
    assert len(again) == 2
    assert again[1].new > 6  # its prompt, and what it had written
    assert served.finished[0] == 10  # the first has not noticed


def test_whoever_was_thrown_out_goes_before_those_who_have_waited():
    requests = [Request(0, 6, 10), Request(0, 6, 10), Request(1, 12, 2)]
    served = Scheduler(blocks=5, block_size=4).run(requests, one_second)
    assert served.preempted > 0
    assert served.finished[1] < served.times[2][0]


def test_a_static_batch_computes_its_padding_to_the_end():
    requests, seen = [Request(0, 3, 1), Request(0, 5, 3)], []
    scheduler = Scheduler(20, 4, batching="static", reserve=8)
    scheduler.run(requests, lambda works: seen.append(works) or 1.0)
    assert seen == [
        [Work(0, 5, 0), Work(1, 5, 0)],
        [Work(0, 1, 5, False), Work(1, 1, 5)],
        [Work(0, 1, 6, False), Work(1, 1, 6)],
    ]


def test_first_come_first_served():
    requests = [Request(0.1 * at, 5, 4) for at in range(9)]
    served = Scheduler(blocks=6, block_size=4).run(requests, one_second)
    firsts = [times[0] for times in served.times]
    assert firsts == sorted(firsts)


def test_a_budget_splits_a_prompt_and_lets_others_go_on():
    requests = [Request(0, 2, 30), Request(5, 40, 3)]
    for budget, chunks in ((None, 1), (11, 4)):
        seen = []

        def noted(works, seen=seen):
            seen.append(works)
            return one_second(works)

        served = Scheduler(40, 4, token_budget=budget).run(requests, noted)
        long = [w for works in seen for w in works if w.request == 1 and w.cached < 40]
        assert len(long) == chunks
        assert sum(w.new for w in long) == 40
        assert [w.answers for w in long] == [False] * (chunks - 1) + [True]
        assert served.gaps.count(1.0) == 31  # nobody was ever made to wait


@pytest.mark.equation("inference-waste")
def test_pages_waste_at_most_a_block_and_half_of_one_on_average():
    """Over all lengths: (c − 1) / 2 places a text; a reservation wastes what is not written."""
    for size in (1, 4, 16):
        empty = [-(-n // size) * size - n for n in range(1, 16 * size + 1)]
        assert max(empty) == size - 1
        assert np.mean(empty) == (size - 1) / 2
        served = Scheduler(999, size).run([Request(0, 1, 64)], one_second)
        assert np.mean([s.held * size - s.stored for s in served.steps]) == (size - 1) / 2
    served = Scheduler(999, 4, reserve=80).run([Request(0, 1, 64)], one_second)
    assert [s.held * 4 - s.stored for s in served.steps] == [80 - n for n in range(1, 65)]


# ----------------------------------------------------------------------------------------- latency
SERVED = Served([Request(1.0, 5, 3), Request(2.0, 5, 1)], [[2.0, 2.5, 3.5], [6.0]], [], 0)


@pytest.mark.equation("inference-ttft", "inference-tpot")
def test_latency_by_hand():
    assert SERVED.first_token == [1.0, 4.0]
    assert SERVED.per_token == [0.75]
    assert SERVED.gaps == [0.5, 1.0]
    assert SERVED.latency == [2.5, 4.0]
    assert (SERVED.seconds, SERVED.throughput) == (5.0, 4 / 5)
    for times, first, whole in zip(SERVED.times, SERVED.first_token, SERVED.latency, strict=True):
        pace = 0.75 if len(times) > 1 else 0.0
        assert whole == first + pace * (len(times) - 1)  # TTFT + (n − 1) TPOT


@pytest.mark.equation("inference-goodput")
def test_goodput_counts_who_kept_both_limits():
    assert SERVED.goodput(4.0, 1.0) == 1.0
    assert SERVED.goodput(3.9, 1.0) == 0.5
    assert SERVED.goodput(4.0, 0.7) == 0.5
    assert SERVED.goodput(0.5, 0.7) == 0.0


@pytest.mark.equation("inference-little")
def test_littles_law_holds_exactly_for_a_trace_that_ends():
    rng = np.random.default_rng(0)
    arrivals = rng.exponential(3.0, 40).cumsum()
    requests = [Request(float(a), 5, int(n)) for a, n in zip(arrivals, rng.integers(1, 20, 40),
                                                            strict=True)]  # fmt: skip
    served = Scheduler(30, 4).run(requests, one_second)
    events = sorted([(r.arrival, 1) for r in requests] + [(t, -1) for t in served.finished])
    area, inside, before = 0.0, 0, events[0][0]
    for now, change in events:
        area, inside, before = area + inside * (now - before), inside + change, now
    rate = len(requests) / served.seconds
    assert area / served.seconds == pytest.approx(rate * np.mean(served.latency))


# ----------------------------------------------------------------------------- a model, in pages
def small(**options):
    torch.manual_seed(4)
    return LLM(17, 16, 4, 2, 64, num_kv_heads=2, init_std=0.3, **options).eval()


def alone(model, prompts, news):
    return [model.generate(p[None], n, temperature=0)[0] for p, n in zip(prompts, news,
                                                                        strict=True)]  # fmt: skip


@pytest.mark.equation("inference-pages")
@pytest.mark.parametrize("options", [{}, {"qk_norm": "head"}, {"post_norm": True}, {"window": 5}],
                         ids=str)  # fmt: skip
def test_served_together_each_text_is_what_it_would_be_alone(options):
    model = small(**options)
    prompts = [torch.randint(17, (n,)) for n in (3, 9, 1, 14, 5, 8)]
    news = [9, 4, 12, 6, 1, 7]
    texts, served = serve(model, prompts, news, Scheduler(blocks=30, block_size=4))
    for got, wanted in zip(texts, alone(model, prompts, news), strict=True):
        assert torch.equal(got, wanted)
    assert served.preempted == 0


@pytest.mark.parametrize("kind", [{}, {"token_budget": 5}, {"max_running": 2}], ids=str)
def test_whoever_is_thrown_out_writes_the_same(kind):
    model = small()
    prompts = [torch.randint(17, (n,)) for n in (6, 7, 8)]
    texts, served = serve(model, prompts, 12, Scheduler(blocks=7, block_size=4, **kind))
    assert (served.preempted > 0) == ("max_running" not in kind or served.preempted > 0)
    for got, wanted in zip(texts, alone(model, prompts, [12] * 3), strict=True):
        assert torch.equal(got, wanted)


# --------------------------------------------------------------------------------------- bad input
def test_a_request_that_can_never_fit_is_named_before_any_step():
    def never(works):
        raise AssertionError("a step was made")

    requests = [Request(0, 5, 5), Request(0, 100, 30)]
    with refuses(BAD, "requests[1] needs 33 blocks of 4 tokens, blocks=20"):
        Scheduler(20, 4).run(requests, never)
    with refuses(BAD, "requests[1] needs 130 tokens, reserve=64"):
        Scheduler(200, 4, reserve=64).run(requests, never)


def test_bad_arguments_are_named():
    with refuses(BAD, "blocks=0"):
        Scheduler(0)
    with refuses(BAD, "batching='dynamic'"):
        Scheduler(4, batching="dynamic")
    with refuses(BAD, "reserve='all'"):
        Scheduler(4, reserve="all")
    with refuses(BAD, "batching='static' needs reserve="):
        Scheduler(4, batching="static")
    with refuses(BAD, "token_budget=0"):
        Scheduler(4, token_budget=0)
    with refuses(BAD, "requests must be a list"):
        Scheduler(4).run([], one_second)
    with refuses(BAD, "requests[0] must be a Request"):
        Scheduler(4).run([(0, 1, 2)], one_second)
    with refuses(BAD, "step=3 must be callable"):
        Scheduler(4).run([Request(0, 1, 2)], 3)
    with refuses(BAD, "step(works)=0.0"):
        Scheduler(4).run([Request(0, 1, 2)], lambda works: 0.0)
    with refuses(BAD, "request 7 of works is not running"):
        Scheduler(4).commit([Work(7, 1, 0)])
    with refuses(BAD, "prompt=0"):
        Request(0, 0, 1)
    with refuses(BAD, "arrival=nan"):
        Request(math.nan, 1, 1)
    with refuses(BAD, "num_kv_heads=3 does not divide num_heads=4"):
        DecoderShape(10, 8, 1, 4, 3, 2, 16)
    with refuses(BAD, "weight_bits=0"):
        DecoderShape(10, 8, 1, 4, 2, 2, 16, weight_bits=0)
    with refuses(BAD, "works[0] must be a Work"):
        LLAMA_8B.cost([(0, 1, 2)])
    with refuses(BAD, "bits=3"):
        quantize_cache(torch.zeros(1, 1, 2, 8), bits=3)
    with refuses(BAD, "bits=2 needs a multiple of 4 channels, got 6"):
        quantize_cache(torch.zeros(1, 1, 2, 6), bits=2)
    with refuses(BAD, "x must be finite"):
        quantize_cache(torch.full((1, 1, 2, 8), math.nan))
    with refuses(BAD, "max_length=4 has room for 4 more positions, got 5"):
        QuantizedKVCache(4).append(*torch.zeros(2, 1, 1, 5, 8))
    with refuses(BAD, "the 2 heads of k do not divide the 3 heads of q"):
        split_attention(torch.zeros(1, 3, 8), *torch.zeros(2, 1, 2, 5, 8))


def test_bad_requests_to_a_model_are_named():
    model, prompts = small(), [torch.tensor([1, 2])]
    with refuses(BAD, "prompts[0] must be 0 … 16 (vocab_size), got 1 … 17"):
        serve(model, [torch.tensor([1, 17])], 3, Scheduler(9, 4))
    with refuses(BAD, "prompts[0] must not be empty"):
        serve(model, [torch.zeros(0, dtype=torch.long)], 3, Scheduler(9, 4))
    with refuses(BAD, "prompts[0] with its answer needs 65 positions, max_length=64"):
        serve(model, prompts, 63, Scheduler(99, 4))
    with refuses(BAD, "max_new_tokens must be one number or one for each of 1 prompts, got 2"):
        serve(model, prompts, [1, 2], Scheduler(9, 4))
    with refuses(BAD, "scheduler must be one with batching='continuous'"):
        serve(model, prompts, 3, Scheduler(9, 4, batching="static", reserve="known"))
    with refuses(BAD, "model must be an LLM"):
        serve(torch.nn.Linear(2, 2), prompts, 3, Scheduler(9, 4))
