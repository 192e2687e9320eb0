"""Long context against transformers, plain attention, complex numbers, and several processes."""

import itertools
import math

import pytest
import torch
from torch import distributed as dist
from torch import multiprocessing

from nnlib.kernels.attention import attention, attention_reference
from nnlib.kernels.rope import rope, rope_reference
from nnlib.language._ring import _merged, _part
from nnlib.language._rotary import Rotary
from nnlib.language.llm import LLM, GroupedAttention
from nnlib.language.long_context import (
    SinkCache,
    attention_factor,
    ring_attention,
    ring_attention_reference,
    ring_memory,
    ring_pairs,
    ring_positions,
    rope_frequencies,
    streamed_logits,
    stretched,
)
from tests.support import Example, Peer, refuses

transformers = Peer("transformers")
rules_of_theirs = Peer("transformers.modeling_rope_utils")

SHAPES = [(128, 1e4, 4096), (64, 5e5, 8192), (24, 1e4, 64), (8, 100.0, 4096)]
RULES = ["linear", "dynamic", "yarn", "llama3"]
LAYOUTS = ["contiguous", "striped", "zigzag"]


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({}, (torch.randn(3, 4, 6, 8), *torch.randn(2, 3, 2, 6, 8)))


def theirs(rule, dim, base, trained, factor, length=None, **options):
    """Return what transformers makes of such a rule: frequencies, and what it scales scores by."""
    told = {"rope_type": rule, "rope_theta": base, "factor": factor, **options}
    if rule in ("yarn", "llama3"):
        told["original_max_position_embeddings"] = trained
    if rule == "llama3":
        told = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, **told}
    config = transformers.LlamaConfig(
        hidden_size=2 * dim, num_attention_heads=2, max_position_embeddings=trained,
        rope_parameters=told,
    )  # fmt: skip
    return rules_of_theirs.ROPE_INIT_FUNCTIONS[rule](config, seq_len=length)


# ---------------------------------------------------------------- frequencies


@pytest.mark.equation("long-context-frequencies", "long-context-wavelength", "long-context-turns")
@pytest.mark.parametrize(("dim", "base", "trained"), SHAPES)
def test_a_pair_comes_round_after_its_wavelength(dim, base, trained):
    theta = rope_frequencies(dim, base, dtype=torch.float64)
    for i, one in enumerate(theta.tolist()):
        assert math.isclose(one, base ** (-2 * i / dim))
        wavelength = 2 * math.pi / one
        assert math.isclose(wavelength, 2 * math.pi * base ** (2 * i / dim))
        whole = complex(math.cos(wavelength * one), math.sin(wavelength * one))
        assert abs(whole - 1) < 1e-9
        turns = trained * one / (2 * math.pi)
        assert math.isclose(turns, trained / wavelength)
    assert theta.shape == (dim // 2,) and theta.dtype == torch.float64


@pytest.mark.equation(
    "long-context-linear", "long-context-dynamic", "long-context-yarn", "long-context-llama3",
    "long-context-factor",
)  # fmt: skip
@pytest.mark.parametrize("factor", [1.0, 2.0, 8.0, 40.0])
@pytest.mark.parametrize(("dim", "base", "trained"), SHAPES)
@pytest.mark.parametrize("rule", RULES)
def test_frequencies_are_those_of_transformers(rule, dim, base, trained, factor):
    length = 3 * trained + 7 if rule == "dynamic" else None
    wanted, scale = theirs(rule, dim, base, trained, factor, length)
    got = rope_frequencies(dim, base, rule, factor=factor, trained_length=trained, length=length)
    torch.testing.assert_close(got, wanted, rtol=3e-6, atol=0)
    made = {"scaling": rule, "factor": factor, "trained_length": trained}
    assert math.isclose(Rotary(dim, base, made).factor, scale)


@pytest.mark.parametrize(
    ("rule", "ours", "told"),
    [
        ("yarn", {"slow": 2.0, "fast": 16.0}, {"beta_slow": 2.0, "beta_fast": 16.0}),
        ("yarn", {"truncate": False}, {"truncate": False}),
        ("llama3", {"slow": 0.5, "fast": 9.0}, {"low_freq_factor": 0.5, "high_freq_factor": 9.0}),
    ],
    ids=["ends", "not rounded", "llama3's ends"],
)
def test_the_ends_of_the_ramps_are_those_of_transformers(rule, ours, told):
    wanted, _ = theirs(rule, 128, 1e4, 4096, 8.0, **told)
    got = rope_frequencies(128, 1e4, rule, factor=8, trained_length=4096, **ours)
    torch.testing.assert_close(got, wanted, rtol=3e-6, atol=0)
    plain = rope_frequencies(128, 1e4, rule, factor=8, trained_length=4096)
    assert ((got - plain).abs() / plain).max() > 1e-3  # the option decides something


@pytest.mark.equation("long-context-ntk")
def test_the_ntk_base_slows_the_last_pair_by_the_factor_and_leaves_the_first():
    """Solve for the base that does so, by bisection, and compare."""
    for dim, base, _ in SHAPES:
        for s in (2.0, 7.5):
            low, high = base, base * 1e4
            for _ in range(200):
                middle = math.sqrt(low * high)
                last = middle ** (-(dim - 2) / dim)
                slower = last < base ** (-(dim - 2) / dim) / s
                low, high = (low, middle) if slower else (middle, high)
            got = rope_frequencies(dim, base, "ntk", factor=s, dtype=torch.float64)
            wanted = rope_frequencies(dim, low, dtype=torch.float64)
            torch.testing.assert_close(got, wanted)
            plain = rope_frequencies(dim, base, dtype=torch.float64)
            assert got[0] == plain[0] and math.isclose(got[-1], plain[-1] / s)


@pytest.mark.equation("long-context-ramp")
def test_yarns_two_readings_agree_at_the_ends_and_differ_between():
    """By hand, pair by pair: 21 pairs are kept, 25 lie on the ramp, 18 are slowed by all of s."""
    dim, base, trained, s = 128, 10000.0, 4096, 8.0
    plain = rope_frequencies(dim, base, dtype=torch.float64)
    options = {"factor": s, "trained_length": trained, "dtype": torch.float64}
    index = rope_frequencies(dim, base, "yarn", **options)
    paper = rope_frequencies(dim, base, "yarn", ramp="turns", **options)
    first = math.floor(dim * math.log(trained / (32 * 2 * math.pi)) / (2 * math.log(base)))
    last = math.ceil(dim * math.log(trained / (2 * math.pi)) / (2 * math.log(base)))
    assert (first, last) == (20, 46)
    for i, theta in enumerate(plain.tolist()):
        turns = trained * theta / (2 * math.pi)
        gamma = min(1.0, max(0.0, (turns - 1) / (32 - 1)))
        wanted = (1 - gamma) * theta / s + gamma * theta
        assert math.isclose(paper[i], wanted, rel_tol=1e-12)
        gamma = 1 - min(1.0, max(0.0, (i - first) / (last - first)))
        wanted = (1 - gamma) * theta / s + gamma * theta
        assert math.isclose(index[i], wanted, rel_tol=1e-12)
    kept, slowed = (paper == plain).sum(), torch.isclose(paper, plain / s).sum()
    assert (int(kept), 64 - int(kept) - int(slowed), int(slowed)) == (21, 25, 18)
    off = (index / paper - 1).abs()
    assert int(off.argmax()) == 36 and 1.25 < off.max() < 1.35


def test_llama3_is_the_papers_yarn_with_another_ramp():
    options = {"factor": 8.0, "trained_length": 8192, "dtype": torch.float64}
    llama = rope_frequencies(128, 5e5, "llama3", **options)
    yarn = rope_frequencies(128, 5e5, "yarn", ramp="turns", fast=4.0, **options)
    torch.testing.assert_close(llama, yarn, rtol=1e-14, atol=0)


def test_a_factor_of_one_and_a_short_text_change_nothing():
    plain = rope_frequencies(16)
    for rule in (*RULES, "ntk"):
        torch.testing.assert_close(rope_frequencies(16, scaling=rule, trained_length=64), plain)
    for length in (None, 3, 64):
        got = rope_frequencies(16, scaling="dynamic", factor=4, trained_length=64, length=length)
        torch.testing.assert_close(got, plain)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rope_turns_by_the_frequencies_that_it_is_given(interleaved):
    x, at = torch.randn(2, 3, 5, 8, dtype=torch.float64), torch.tensor([0, 1, 5, 7, 900])
    theta = torch.tensor([0.9, 0.05, 0.3, 0.0], dtype=torch.float64)
    pairs = x.unflatten(-1, (4, 2)) if interleaved else torch.stack(x.chunk(2, -1), -1)
    turned = torch.view_as_complex(pairs.contiguous()) * torch.polar(
        torch.ones(5, 4, dtype=torch.float64), at[:, None] * theta
    )
    wanted = torch.view_as_real(turned)
    wanted = wanted.flatten(-2) if interleaved else torch.cat(wanted.unbind(-1), -1)
    for form in (rope, rope_reference):
        got = form(x, at, interleaved=interleaved, frequencies=theta)
        torch.testing.assert_close(got, wanted)
    theta = rope_frequencies(8, 77.0, dtype=torch.float64)
    again = rope(x, at, interleaved=interleaved, frequencies=theta)
    torch.testing.assert_close(again, rope(x, at, base=77.0, interleaved=interleaved))


# ---------------------------------------------------------------- checkpoints that are stretched

STRETCHES = {
    "linear": {"rope_type": "linear", "factor": 4.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "yarn": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8,
             "beta_fast": 3.0, "beta_slow": 0.5},
    "yarn by lengths": {"rope_type": "yarn", "factor": None,
                        "original_max_position_embeddings": 4, "truncate": False},
    "yarn told": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8,
                  "attention_factor": 1.7},
    "yarn of DeepSeek": {"rope_type": "yarn", "factor": 4.0, "mscale": 1.0,
                         "original_max_position_embeddings": 8, "mscale_all_dim": 0.7},
    "llama3": {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0,
               "high_freq_factor": 4.0, "original_max_position_embeddings": 8},
}  # fmt: skip


def their_llama(told, kind="Llama"):
    torch.manual_seed(1)
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=40, hidden_size=32, num_attention_heads=2, num_hidden_layers=2,
        num_key_value_heads=1, intermediate_size=24, max_position_embeddings=16,
        pad_token_id=0, bos_token_id=None, eos_token_id=None, head_dim=16,
        rope_parameters={"rope_theta": 100.0, **told},
    )  # fmt: skip
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("kind", ["Llama", "Qwen3"])
@pytest.mark.parametrize("name", STRETCHES)
def test_logits_of_a_stretched_checkpoint_are_those_of_transformers(name, kind, tmp_path):
    other = their_llama(STRETCHES[name], kind)
    plain = their_llama({"rope_type": "default"}, kind)
    other.save_pretrained(tmp_path)
    model = LLM.from_hugging_face(tmp_path)
    for length in (9, 16) if name in ("llama3", "yarn by lengths") else (9, 30):
        ids = torch.randint(1, 40, (3, length))
        with torch.no_grad():
            wanted, unstretched = other(ids).logits, plain(ids).logits
            torch.testing.assert_close(model(ids), wanted, rtol=0, atol=2e-5)
        if name != "dynamic" or length > 16:  # the rule decides something
            assert (wanted - unstretched).abs().max() > 1e-2


def test_old_names_of_a_stretch_are_read():
    other = their_llama(STRETCHES["linear"])
    config = other.config.to_dict()
    config.pop("rope_parameters")
    config |= {"rope_theta": 100.0, "rope_scaling": {"type": "linear", "factor": 4.0}}
    model = LLM.from_hugging_face((other.state_dict(), config))
    assert model.max_length == 64
    ids = torch.randint(1, 40, (2, 30))
    torch.testing.assert_close(model(ids), other(ids).logits, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["linear", "yarn", "llama3"])
def test_greedy_text_of_a_stretched_checkpoint_is_that_of_transformers(name):
    other = their_llama(STRETCHES[name])
    ids = torch.randint(1, 40, (4, 5), generator=torch.Generator().manual_seed(3))
    wanted = other.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=10, min_new_tokens=10,
        do_sample=False, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    model = LLM.from_hugging_face(other)
    for use_cache in (True, False):
        assert torch.equal(model.generate(ids, 10, temperature=0, use_cache=use_cache), wanted)


def test_what_is_unlike_in_a_checkpoint_is_refused_by_name():
    config = their_llama({"rope_type": "default"}).config.to_dict()
    config.pop("rope_parameters")
    for told, message in (
        ({"type": "longrope", "factor": 2.0}, "rope_scaling of type 'longrope', it must be one"),
        ({"type": "linear"}, "rope_scaling of type 'linear' without ['factor']"),
        ({"type": "llama3", "factor": 8.0}, "without ['high_freq_factor', 'low_freq_factor']"),
        ({"type": "yarn", "factor": 2.0, "llama_4_scaling_beta": 0.1},
         "type 'yarn' with llama_4_scaling_beta=0.1, which ours lacks"),
        ({"type": "yarn", "factor": 0.5}, "factor=0.5 must be a finite number ≥ 1"),
    ):  # fmt: skip
        with refuses(ValueError, message):
            LLM.from_hugging_face(({}, config | {"rope_scaling": told}))


# ---------------------------------------------------------------- a model, stretched


def tiny(max_length=16, **options):
    torch.manual_seed(0)
    model = LLM(7, 16, 2, 2, max_length, num_kv_heads=1, **options).double()
    for parameter in model.parameters():  # weights that make a difference
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def test_a_stretched_copy_reads_on_and_the_model_stays_as_it_was():
    model = tiny()
    ids = torch.randint(7, (2, 40))
    before = model(ids[:, :16])
    longer = stretched(model, 40, "linear", factor=2.0)
    assert torch.equal(model(ids[:, :16]), before) and model.max_length == 16
    assert not torch.allclose(longer(ids[:, :16]), before)
    direct = tiny(40, rotary_scaling={"scaling": "linear", "factor": 2.0})
    torch.testing.assert_close(longer(ids), direct(ids))
    torch.testing.assert_close(stretched(longer, 16)(ids[:, :16]), before)


@pytest.mark.equation("long-context-relative")
@pytest.mark.parametrize("rule", [None, "ntk", *RULES])
def test_scores_see_distances_whatever_the_rule(rule):
    torch.manual_seed(2)
    turn = Rotary(8, 50.0, {"scaling": rule, "factor": 4.0, "trained_length": 8} if rule else None)
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)

    def score(m, n):
        at, far = torch.tensor([m, n, 31]), (1, 1, 3, 8)  # of one text of 32
        return (turn(q.expand(far), at)[..., 0, :] * turn(k.expand(far), at)[..., 1, :]).sum()

    torch.testing.assert_close(score(20, 13), score(8, 1))
    assert not torch.isclose(score(20, 13), score(20, 12))


@pytest.mark.equation("long-context-factor")
def test_the_attention_factor_divides_the_temperature_of_the_scores():
    """The factor on queries and on keys is 1/√t on each, as the paper writes it."""
    s = 8.0
    assert math.isclose(attention_factor(s), 1.2079, abs_tol=1e-4)
    told = {"scaling": "yarn", "factor": s, "trained_length": 8, "fast": 1e9, "slow": 1e-9}
    hot, cold = (Rotary(8, 100.0, told | {"attention_factor": f}) for f in (None, 1.0))
    q, k = torch.randn(2, 1, 2, 5, 8, dtype=torch.float64)
    at = torch.arange(5)
    scores = cold(q, at) @ cold(k, at).mT
    temperature = 1 / (0.1 * math.log(s) + 1) ** 2
    torch.testing.assert_close(hot(q, at) @ hot(k, at).mT, scores / temperature)


def test_the_dynamic_rule_grows_with_the_text():
    model = tiny(64, rotary_scaling={"scaling": "dynamic", "factor": 2.0, "trained_length": 16})
    ids = torch.randint(7, (1, 40))
    plain = tiny(64)
    torch.testing.assert_close(model(ids[:, :16]), plain(ids[:, :16]))
    base = 10000.0 * (2 * 40 / 16 - 1) ** (8 / 6)
    torch.testing.assert_close(model(ids), tiny(64, rotary_base=base)(ids))


# ---------------------------------------------------------------- sinks


@pytest.mark.equation("long-context-sinks", "long-context-cache")
@pytest.mark.parametrize(("sinks", "window"), [(0, 5), (1, 4), (3, 6)])
def test_a_stream_is_that_of_the_kept_positions_read_anew(sinks, window):
    """One layer: at each step what is kept is a short text of its own, from position 0 on."""
    torch.manual_seed(3)
    part = GroupedAttention(8, 2, 1).double()
    x = torch.randn(2, 20, 8, dtype=torch.float64)
    cache = SinkCache(sinks, window)
    for t in range(20):
        got = part(x[:, t : t + 1], cache=cache)
        kept = [at for at in range(t + 1) if at < sinks or at > t - window]
        wanted = part(x[:, kept])[:, -1:]
        torch.testing.assert_close(got, wanted)
        assert (cache.length, cache.seen) == (len(kept), t + 1)
    assert cache.bytes == 2 * 2 * (sinks + window) * 4 * 8  # keys, values; batch; width 4; float64


def test_a_stream_begins_as_the_model_reads_and_never_ends():
    model = tiny()
    ids = torch.randint(7, (2, 50))
    got = streamed_logits(model, ids, sinks=3, window=13)
    torch.testing.assert_close(got[:, :16], model(ids[:, :16]))
    assert got.shape == (2, 50, 7) and bool(got.isfinite().all())
    one = streamed_logits(tiny(), ids[:, :33], sinks=3, window=13)
    torch.testing.assert_close(got[:, :33], one)  # what comes later changes nothing
    changed = ids.clone()
    changed[:, 0] = (ids[:, 0] + 1) % 7
    other = streamed_logits(model, changed, sinks=3, window=13)
    assert not torch.allclose(other[:, -1], got[:, -1])  # the first token is still there
    for other in (ids[:, :1], ids[:, :4]):
        assert streamed_logits(model, other, sinks=3, window=13).shape[1] == other.shape[1]


# ---------------------------------------------------------------- a ring


def qkv(t=24, h=4, g=2, d=8, seed=4):
    torch.manual_seed(seed)
    q = torch.randn(2, h, t, d, dtype=torch.float64)
    return q, *torch.randn(2, 2, g, t, d, dtype=torch.float64)


@pytest.mark.equation("long-context-ring", "long-context-merge")
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_a_ring_in_one_process_is_plain_attention(processes, layout, is_causal):
    q, k, v = (x.requires_grad_() for x in qkv())
    dout = torch.randn_like(q)
    got = ring_attention_reference(q, k, v, processes, layout=layout, is_causal=is_causal)
    wanted = attention_reference(q, k, v, is_causal=is_causal)
    torch.testing.assert_close(got, wanted)
    for one, other in zip(
        torch.autograd.grad(got, (q, k, v), dout), torch.autograd.grad(wanted, (q, k, v), dout),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(one, other)


def _one_of_a_ring(rank, processes, port_file, queue_file):
    """One process: its part of the forward and backward pass, in all layouts, written to a file."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{port_file}", rank=rank, world_size=processes
    )
    answers = {}
    for layout, is_causal in itertools.product(LAYOUTS, (True, False)):
        mine = ring_positions(24, processes, layout)[rank]
        parts = [x[:, :, mine].clone().requires_grad_() for x in qkv()]
        out = ring_attention(*parts, layout=layout, is_causal=is_causal)
        dout = torch.randn(2, 4, 24, 8, dtype=torch.float64,
                           generator=torch.Generator().manual_seed(5))  # fmt: skip
        grads = torch.autograd.grad(out, parts, dout[:, :, mine])
        answers[layout, is_causal] = [out.detach(), *grads]
    torch.save(answers, f"{queue_file}.{rank}")
    dist.destroy_process_group()


@pytest.mark.equation("long-context-backward")
@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_in_a_ring_give_plain_attention_and_its_gradients(processes, tmp_path):
    multiprocessing.spawn(
        _one_of_a_ring, (processes, tmp_path / "meet", tmp_path / "got"), nprocs=processes
    )
    got = [torch.load(tmp_path / f"got.{rank}", weights_only=True) for rank in range(processes)]
    for layout, is_causal in itertools.product(LAYOUTS, (True, False)):
        q, k, v = (x.requires_grad_() for x in qkv())
        dout = torch.randn(2, 4, 24, 8, dtype=torch.float64,
                           generator=torch.Generator().manual_seed(5))  # fmt: skip
        wanted = attention(q, k, v, is_causal=is_causal)
        wanted = [wanted, *torch.autograd.grad(wanted, (q, k, v), dout)]
        places = ring_positions(24, processes, layout)
        for which, whole in enumerate(wanted):
            parts = [one[layout, is_causal][which] for one in got]
            for mine, part in zip(places, parts, strict=True):
                torch.testing.assert_close(part, whole[:, :, mine])


def test_alone_it_is_a_ring_of_one_with_the_right_gradient():
    q, k, v = (x.requires_grad_() for x in qkv(t=5))
    assert torch.autograd.gradcheck(lambda *x: ring_attention(*x), (q, k, v))
    half = ring_attention(*(x.detach().bfloat16() for x in (q, k, v)))
    assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_position_has_one_place_in_the_ring(processes, layout):
    places = ring_positions(16, processes, layout)
    assert places.shape == (processes, 16 // processes)
    assert places.flatten().sort().values.tolist() == list(range(16))
    assert (places.diff(dim=1) > 0).all()  # in order, so that a mask within a process is causal


@pytest.mark.equation("long-context-steps")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_pairs_are_those_of_a_loop_over_queries_and_keys(layout):
    places = ring_positions(24, 4, layout)
    got = ring_pairs(24, 4, layout)
    for j, me in itertools.product(range(4), range(4)):
        count = sum(
            int(key <= query)
            for query in places[me].tolist() for key in places[(me - j) % 4].tolist()
        )  # fmt: skip
        assert got[j, me] == count
    assert got.sum() == 24 * 25 // 2


@pytest.mark.equation("long-context-steps", "long-context-imbalance")
def test_contiguous_parts_take_nearly_twice_as_long_as_balanced_ones():
    """Exactly 2 - 1/P times as long, but for what the diagonal costs in a short text."""
    for processes in (2, 4, 8):
        n = 1024
        took = {layout: int(ring_pairs(n, processes, layout).amax(1).sum()) for layout in LAYOUTS}
        ideal = n * n / 2 / processes
        assert math.isclose(took["contiguous"] / ideal, 2 - 1 / processes, rel_tol=0.005)
        for layout in ("striped", "zigzag"):
            assert 1 <= took[layout] / ideal < 1.02


@pytest.mark.equation("long-context-memory")
def test_memory_is_that_of_the_tensors_that_a_process_holds():
    part = [torch.zeros(1, h, 24 // 4, 8) for h in (4, 4, 2, 2, 2, 2)]  # q, out, k, v, next k, v
    held = sum(x.numel() * x.element_size() for x in part)
    assert ring_memory(24, 4, 4 * 8, 2 * 8, element_size=4) == held
    assert ring_memory(2**20, 8, 4096, 1024) == 8 * ring_memory(2**20, 64, 4096, 1024)


def test_keys_that_a_query_may_not_see_weigh_nothing():
    q, k, v = qkv(t=3, h=1, g=1)
    nothing = torch.zeros(3, 3, dtype=torch.bool)
    out, lse = _part(q, k, v, nothing, 1.0)
    assert (lse == -math.inf).all() and not out.any()
    one = _part(q, k, v, ~nothing, 1.0)
    for got, wanted in zip(_merged(*one, out, lse), one, strict=True):
        torch.testing.assert_close(got, wanted)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rope_frequencies(7), "dim=7 must be even"),
        (lambda: rope_frequencies(0), "dim=0 must be an integer ≥ 2"),
        (lambda: rope_frequencies(8, 0.0), "base=0.0 must be a finite number > 0"),
        (lambda: rope_frequencies(8, scaling="cubic"), "scaling='cubic' must be one of"),
        (lambda: rope_frequencies(8, factor=0.5), "factor=0.5 must be a finite number ≥ 1"),
        (lambda: rope_frequencies(8, factor=math.nan), "factor=nan must be a finite number ≥ 1"),
        (lambda: rope_frequencies(8, scaling="yarn"), "trained_length=None: scaling='yarn'"),
        (lambda: rope_frequencies(8, 1.0, "yarn", trained_length=4), "base=1 must be > 1"),
        (lambda: rope_frequencies(2, scaling="ntk", factor=2), "dim=2 must be ≥ 4"),
        (lambda: rope_frequencies(8, slow=4, fast=4), "fast=4 must be a finite number > 4"),
        (lambda: rope_frequencies(8, ramp="steep"), "ramp='steep' must be one of"),
        (lambda: rope_frequencies(8, scaling="dynamic", trained_length=4, length=0), "length=0"),
        (lambda: attention_factor(0.9), "factor=0.9 must be a finite number ≥ 1"),
        (lambda: Rotary(8, 100.0, {"scaling": "ntk", "speed": 2}), "rotary_scaling has ['speed']"),
        (lambda: tiny(rotary_scaling={"scaling": "yarn"}), "trained_length=None"),
        (lambda: stretched(tiny(), 0), "max_length=0"),
        (lambda: stretched(tiny(), 32, "linear", factor=0), "factor=0"),
        (lambda: SinkCache(-1, 3), "sinks=-1"),
        (lambda: SinkCache(4, 0), "window=0"),
        (lambda: SinkCache(1, 2).append(*torch.zeros(2, 1, 1, 4, 2)), "takes one at a time beyond"),
        (lambda: streamed_logits(tiny(), torch.zeros(1, 5).long(), sinks=9, window=9),
         "sinks + window = 18 must be at most the model's max_length=16"),
        (lambda: streamed_logits(tiny(), torch.tensor([[7]])), "ids must be 0 … 6"),
        (lambda: ring_positions(10, 4), "length=10 must be a multiple of 4 for layout"),
        (lambda: ring_positions(12, 4, "zigzag"), "length=12 must be a multiple of 8"),
        (lambda: ring_positions(8, 2, "spiral"), "layout='spiral' must be one of"),
        (lambda: ring_positions(8, 0), "processes=0"),
        (lambda: ring_memory(10, 4, 8, 8), "length=10 must be a multiple of processes=4"),
        (lambda: ring_attention(*qkv()[:2], qkv(d=4)[2]), "v must have shape (2, 2, 24, 8)"),
        (lambda: ring_attention(*qkv(h=3)), "k has 2 heads, which do not divide the 3 of q"),
        (lambda: ring_attention_reference(*qkv(), 5), "length=24 must be a multiple of 5"),
        (lambda: ring_attention(*qkv(), scale=math.inf), "scale=inf must be a finite number"),
        (lambda: rope(torch.zeros(1, 1, 2, 8), torch.arange(2), frequencies=torch.ones(3)),
         "frequencies must have shape (4), got (3,)"),
    ],
    ids=lambda x: x[:40] if isinstance(x, str) else "",
)  # fmt: skip
def test_refuses_by_name(call, message):
    with refuses(ValueError, message):
        call()


def test_refuses_other_types_by_name():
    for call, message in (
        (lambda: stretched(torch.nn.Linear(2, 2), 8), "model must be an LLM, got Linear"),
        (lambda: streamed_logits(None, torch.zeros(1, 2).long()), "model must be an LLM, got None"),
        (lambda: Rotary(8, 100.0, ["linear"]), "rotary_scaling must be a dictionary, got list"),
        (lambda: ring_attention(*(x.long() for x in qkv())), "q must be floating point"),
        (lambda: ring_attention(*qkv(), is_causal=1), "is_causal=1 must be True or False"),
        (lambda: rope_frequencies(8.0), "dim=8.0 must be an integer"),
    ):
        with refuses(TypeError, message):
            call()
