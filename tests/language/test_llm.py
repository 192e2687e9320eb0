"""LLM against transformers' decoders, brute force, counted FLOPs, and itself without a cache."""

import itertools
import json
import math

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nnlib.blocks.kv_cache import KVCache
from nnlib.kernels.rope import rope
from nnlib.language.llm import (
    LLM,
    GroupedAttention,
    LLMBlock,
    SwiGLU,
    llm_parameters,
    logit_lens,
    next_token_loss,
    swiglu_width,
    token_flops,
)
from nnlib.train.metrics import parameter_count
from tests import writing_support
from tests.support import Example, Peer, refuses

transformers = Peer("transformers")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {
            "vocab_size": 11, "embed_dim": 8, "num_heads": 4, "num_layers": 2, "max_length": 8,
            "num_kv_heads": 2,
        },
        (torch.randint(11, (3, 8)),),
        {"key_mask": torch.arange(8) >= torch.tensor([[0], [2], [5]])},
    )  # fmt: skip


# What two models of each kind have in common with no other; sizes in the order of `theirs`.
SHAPES = {
    "llama": [
        ((40, 16, 2, 2, 2, 8, 24), {}),
        ((65, 24, 4, 3, 1, 6, 40), {"tie_word_embeddings": True, "attention_bias": True,
                                    "mlp_bias": True, "rms_norm_eps": 1e-3}),
    ],
    "mistral": [
        ((40, 16, 2, 2, 1, 8, 24), {"sliding_window": 3}),
        ((65, 24, 6, 3, 2, 8, 40), {"sliding_window": 5, "rope_theta": 1e6}),
    ],
    "qwen2": [
        ((40, 16, 2, 2, 1, 8, 24), {"tie_word_embeddings": True}),
        ((65, 24, 6, 4, 2, 4, 40), {"use_sliding_window": True, "sliding_window": 4,
                                    "max_window_layers": 2, "rope_theta": 5e5}),
    ],
    "qwen3": [
        ((40, 16, 2, 2, 1, 16, 24), {"tie_word_embeddings": True}),
        ((65, 24, 6, 3, 3, 10, 40), {"attention_bias": True, "use_sliding_window": True,
                                     "sliding_window": 3, "max_window_layers": 1}),
    ],
    "olmo2": [
        ((40, 16, 2, 2, 2, 8, 24), {}),
        ((65, 24, 6, 3, 2, 4, 40), {"tie_word_embeddings": True, "rope_theta": 5e5}),
    ],
}  # fmt: skip
CASES = [(kind, at) for kind in SHAPES for at in range(2)]
NAMES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3",
         "olmo2": "Olmo2"}  # fmt: skip

COUNTS = {  # v, e, L, h, g, d, f, tied, and what the published weights hold
    "LLaMA 2 7B": ((32000, 4096, 32, 32, 32, 128, 11008, False), 6_738_415_616),
    "LLaMA 2 13B": ((32000, 5120, 40, 40, 40, 128, 13824, False), 13_015_864_320),
    "LLaMA 2 70B": ((32000, 8192, 80, 64, 8, 128, 28672, False), 68_976_648_192),
    "Llama 3 8B": ((128256, 4096, 32, 32, 8, 128, 14336, False), 8_030_261_248),
    "Llama 3 70B": ((128256, 8192, 80, 64, 8, 128, 28672, False), 70_553_706_496),
    "Llama 3.2 1B": ((128256, 2048, 16, 32, 8, 64, 8192, True), 1_235_814_400),
    "Mistral 7B": ((32000, 4096, 32, 32, 8, 128, 14336, False), 7_241_732_096),
}


def theirs(kind, at=0, **options):
    """Return a decoder of transformers with random weights, its norms and biases included."""
    (v, e, h, depth, g, d, f), more = SHAPES[kind][at]
    torch.manual_seed(1)
    made = getattr(transformers, f"{NAMES[kind]}Config")(
        **{
            "vocab_size": v, "hidden_size": e, "num_attention_heads": h,
            "num_hidden_layers": depth, "num_key_value_heads": g, "intermediate_size": f,
            "max_position_embeddings": 32, "pad_token_id": 0, "bos_token_id": None,
            "eos_token_id": None, **({} if kind in ("qwen2", "olmo2") else {"head_dim": d}),
            **more, **options,
        }
    )  # fmt: skip
    model = getattr(transformers, f"{NAMES[kind]}ForCausalLM")(made).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return model


def of_tensors(tensors, config):
    return LLM.from_hugging_face((tensors, config))


def numbers(v, length, rows=3, seed=2):
    return torch.randint(1, v, (rows, length), generator=torch.Generator().manual_seed(seed))


def tiny(vocab_size=7, embed_dim=8, num_heads=4, num_layers=2, max_length=12, **options):
    torch.manual_seed(0)
    options = {"num_kv_heads": 2, **options}
    model = LLM(vocab_size, embed_dim, num_heads, num_layers, max_length, **options).double()
    for parameter in model.parameters():  # weights that make a difference
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


KINDS_OF_OURS = {
    "plain": {},
    "window": {"window": [3, None]},
    "head norms": {"qk_norm": "head", "qkv_bias": True, "head_dim": 6},
    "after": {"qk_norm": "all", "post_norm": True, "tied": True, "num_kv_heads": 1},
}


# ---------------------------------------------------------------- the model is theirs


@pytest.mark.equation(
    "llm-embedding", "llm-attention-half", "llm-network-half", "llm-logits", "llm-post-norm"
)
@pytest.mark.parametrize(("kind", "at"), CASES)
@pytest.mark.parametrize("how", ["instance", "tensors", "folder", "shards"])
def test_logits_are_those_of_transformers(kind, at, how, tmp_path):
    other = theirs(kind, at)
    ids = numbers(other.config.vocab_size, 20)
    if how in ("folder", "shards"):
        other.save_pretrained(tmp_path, max_shard_size="8KB" if how == "shards" else "1GB")
        assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (how == "shards")
    model = {
        "instance": lambda: LLM.from_hugging_face(other),
        "tensors": lambda: of_tensors(other.state_dict(), other.config),
        "folder": lambda: LLM.from_hugging_face(tmp_path),
        "shards": lambda: LLM.from_hugging_face(str(tmp_path)),
    }[how]()
    wanted = other(ids).logits
    assert wanted.std() > 0.1
    torch.testing.assert_close(model(ids), wanted, rtol=0, atol=1e-5)
    assert not model.training
    assert model.tied == other.config.tie_word_embeddings
    assert parameter_count(model) == other.num_parameters()


@pytest.mark.parametrize(("kind", "at"), CASES)
def test_greedy_generation_is_that_of_transformers(kind, at):
    other = theirs(kind, at)
    ids = numbers(other.config.vocab_size, 5, rows=8)
    wanted = other.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=14, min_new_tokens=14,
        do_sample=False, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    model = LLM.from_hugging_face(other)
    assert len(wanted[:, 5:].unique()) > 5  # not one token over and over
    for use_cache in (True, False):
        assert torch.equal(model.generate(ids, 14, temperature=0, use_cache=use_cache), wanted)


@pytest.mark.parametrize("kind", SHAPES)
def test_prompts_padded_on_the_left_are_continued_as_in_transformers(kind):
    other = theirs(kind, 1)
    ids = numbers(other.config.vocab_size, 9)
    real = torch.arange(9) >= torch.tensor([[0], [3], [5]])
    ids = torch.where(real, ids, 0)
    model = LLM.from_hugging_face(other)
    positions = (real.cumsum(1) - 1).clamp(min=0)
    wanted = other(ids, attention_mask=real.long(), position_ids=positions).logits
    got = model(ids, key_mask=real)
    torch.testing.assert_close(got[real], wanted[real], rtol=0, atol=1e-5)
    written = other.generate(
        ids, attention_mask=real.long(), max_new_tokens=8, min_new_tokens=8, do_sample=False,
        pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    assert torch.equal(model.generate(ids, 8, temperature=0, key_mask=real), written)


@pytest.mark.parametrize("kind", SHAPES)
def test_gradients_are_those_of_transformers(kind):
    other = theirs(kind)
    ids = numbers(other.config.vocab_size, 9)
    model = LLM.from_hugging_face(other)
    next_token_loss(model, ids).backward()
    other(ids, labels=ids).loss.backward()
    block, like = model.layers[1], other.model.layers[1]
    pairs = [
        (model.token_embedding.weight.grad, other.model.embed_tokens.weight.grad),
        (block.network.out_proj.weight.grad, like.mlp.down_proj.weight.grad),
        (block.attention.in_proj.weight.grad[:16], like.self_attn.q_proj.weight.grad[:16]),
        (block.norm1.weight.grad, (like.post_attention_layernorm if kind == "olmo2"
                                   else like.input_layernorm).weight.grad),
        (model.norm.weight.grad, other.model.norm.weight.grad),
    ]  # fmt: skip
    for got, wanted in pairs:
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_what_older_versions_saved_is_read(tmp_path):
    """Before version 5, `rope_theta` stood by itself, and Qwen's layer types were not written."""
    other = theirs("qwen2", 1)
    other.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    base = config.pop("rope_parameters")["rope_theta"]
    config.pop("layer_types")
    file.write_text(json.dumps({**config, "rope_theta": base, "rope_scaling": None}))
    ids = numbers(65, 20)
    got = LLM.from_hugging_face(tmp_path)(ids)
    torch.testing.assert_close(got, other(ids).logits, rtol=0, atol=1e-5)
    buffers = {f"model.layers.{at}.self_attn.rotary_emb.inv_freq": torch.ones(2) for at in (0, 1)}
    got = of_tensors({**other.state_dict(), **buffers}, config | {"rope_theta": base})
    torch.testing.assert_close(got(ids), other(ids).logits, rtol=0, atol=1e-5)


def test_the_number_type_is_kept():
    other = theirs("llama").bfloat16()
    model = LLM.from_hugging_face(other)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    ids = numbers(40, 9)
    exact = LLM.from_hugging_face(theirs("llama"))(ids)
    error = (model(ids).float() - exact).abs().max()
    assert error <= 2 * (other(ids).logits.float() - exact).abs().max()


# ---------------------------------------------------------------- what is refused on the way


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("llama", {"hidden_act": "gelu"}, "has hidden_act='gelu', it must be 'silu'"),
        (
            "llama",
            {"rope_scaling": {"rope_type": "longrope", "factor": 2.0, "rope_theta": 1e4,
                              "original_max_position_embeddings": 16,
                              "long_factor": [2.0] * 4, "short_factor": [1.0] * 4}},
            "has rope_parameters of type 'longrope', it must be one of ['default', 'linear'",
        ),
        (
            "qwen3",
            {"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4,
                                 "original_max_position_embeddings": 16, "beta": 2.0}},
            "has rope_parameters of type 'yarn' with beta=2.0, which ours lacks",
        ),
        (
            "llama",
            {"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5,
                                 "low_freq_factor": 4.0, "high_freq_factor": 1.0,
                                 "original_max_position_embeddings": 16}},
            "fast=1.0 must be a finite number > 4",
        ),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5, it must be"),
        ("mistral", {"layer_types": ["full_attention", "sliding_attention"]},
         "layer_types=['full_attention', 'sliding_attention'], a Mistral's must be all alike"),
    ],
    ids=lambda x: x if isinstance(x, str) and len(x) < 9 else "",
)  # fmt: skip
def test_an_option_that_ours_lacks_is_refused_before_any_tensor_is_read(
    kind, options, message, tmp_path, monkeypatch
):
    config = theirs(kind).config.__class__(**theirs(kind).config.to_dict() | options)
    config.save_pretrained(tmp_path)  # with no weights at all
    with refuses(ValueError, message):
        LLM.from_hugging_face(tmp_path)
    with refuses(ValueError, message):
        of_tensors({}, config)


def test_old_names_of_what_ours_lacks_are_refused_too():
    config = theirs("qwen2").config.to_dict()
    config.pop("rope_parameters")
    for changes, message in (
        ({"rope_scaling": {"type": "su", "factor": 2.0}}, "rope_scaling of type 'su'"),
        ({"quantization_config": {"bits": 4}}, "has quantization_config={'bits': 4}, it must be"),
        ({"layer_types": ["chunked_attention"] * 2}, "has layer_types ['chunked_attention']"),
        ({"layer_types": ["full_attention"]}, "has 1 layer_types, it must have 2"),
        (
            {"layer_types": ["sliding_attention"] * 2, "sliding_window": None},
            "has sliding layers, but sliding_window=None",
        ),
        ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "one entry for each"),
        ({"model_type": "gemma2"}, "a model of type ['llama', 'mistral', 'qwen2', 'qwen3'"),
    ):
        with refuses(ValueError, message):
            of_tensors({}, config | changes)
    with refuses(ValueError, "has a configuration without ['hidden_size']"):
        of_tensors({}, {k: v for k, v in config.items() if k != "hidden_size"})
    with refuses(TypeError, "model_or_path must be a transformers model"):
        LLM.from_hugging_face(nn.Linear(2, 2))
    with refuses(TypeError, "model_or_path must be a transformers model"):
        LLM.from_hugging_face({})


def test_a_missing_or_an_extra_tensor_is_named():
    other = theirs("llama")
    whole, config = other.state_dict(), other.config
    lost = "model.layers.1.mlp.up_proj.weight"
    with refuses(ValueError, "layers.1.network.in_proj.weight must have shape (48, 16), got (24"):
        of_tensors({k: v for k, v in whole.items() if k != lost}, config)
    lost = "model.layers.1.self_attn.q_proj.weight"
    with refuses(ValueError, "missing: layers.1.attention.in_proj.weight[0]"):
        of_tensors({k: v for k, v in whole.items() if k != lost}, config)
    with refuses(ValueError, "missing: head.weight"):
        of_tensors({k: v for k, v in whole.items() if k != "lm_head.weight"}, config)
    with refuses(ValueError, "extra: layers.2.norm1.weight"):
        of_tensors({**whole, "model.layers.2.input_layernorm.weight": torch.ones(16)}, config)
    tied = theirs("qwen2")
    with refuses(ValueError, "lm_head.weight must equal embed_tokens.weight"):
        of_tensors({**tied.state_dict(), "lm_head.weight": torch.zeros(40, 16)},
                              tied.config)  # fmt: skip


# ---------------------------------------------------------------- the block, part by part


@pytest.mark.equation("llm-rmsnorm")
def test_the_norm_is_the_vector_over_its_root_mean_square():
    layer = tiny().norm
    x = torch.randn(5, 8, dtype=torch.double)
    for row, got in zip(x, layer(x), strict=True):
        rms = math.sqrt(sum(float(value) ** 2 for value in row) / 8 + 1e-5)
        wanted = [
            w * value / rms for w, value in zip(layer.weight.tolist(), row.tolist(), strict=True)
        ]
        torch.testing.assert_close(got, torch.tensor(wanted, dtype=torch.double))
    torch.testing.assert_close(layer(1000 * x), layer(x), rtol=0, atol=1e-4)  # of any length


@pytest.mark.equation("llm-projections", "llm-attention", "llm-rope", "llm-qk-norm")
@pytest.mark.parametrize("options", KINDS_OF_OURS.values(), ids=KINDS_OF_OURS)
def test_attention_is_that_of_loops_over_heads_and_positions(options):
    """Pairs of features are complex numbers here, turned by multiplication with e^{ipθ}."""
    model = tiny(**{"qkv_bias": True, "out_bias": True, **options})
    part = model.layers[0].attention
    h, g, d = part.num_heads, part.num_kv_heads, part.head_dim
    x = torch.randn(1, 6, 8, dtype=torch.double)
    rows = F.linear(x[0], part.in_proj.weight, part.in_proj.bias)
    q, k, v = rows[:, : h * d], rows[:, h * d : (h + g) * d], rows[:, (h + g) * d :]

    def normed(y, weight):
        return weight * y / (y.square().mean() + 1e-5).sqrt()

    def turned(y, position):
        theta = 10000.0 ** (-2 * torch.arange(d // 2, dtype=torch.double) / d)
        pairs = torch.complex(y[: d // 2], y[d // 2 :])
        pairs = pairs * torch.polar(torch.ones_like(theta), position * theta)
        return torch.cat([pairs.real, pairs.imag])

    if part.qk_norm == "all":
        q = torch.stack([normed(y, part.q_norm.weight) for y in q])
        k = torch.stack([normed(y, part.k_norm.weight) for y in k])
    out = torch.zeros(6, h * d, dtype=torch.double)
    for head, t in itertools.product(range(h), range(6)):
        mine = slice(head * d, (head + 1) * d)
        shared = head // (h // g)
        group = slice(shared * d, (shared + 1) * d)
        first = 0 if part.window is None else max(0, t - part.window + 1)
        seen = range(first, t + 1)
        query, keys = q[t, mine], [k[s, group] for s in seen]
        if part.qk_norm == "head":
            query = normed(query, part.q_norm.weight)
            keys = [normed(key, part.k_norm.weight) for key in keys]
        scores = [turned(query, t) @ turned(key, s) / math.sqrt(d)
                  for s, key in zip(seen, keys, strict=True)]  # fmt: skip
        weights = torch.stack(scores).softmax(0)
        out[t, mine] = weights @ v[seen.start : seen.stop, group]
        got = part.weights(x)[0, head, t]
        torch.testing.assert_close(got[seen.start : seen.stop], weights)
        assert got.sum().isclose(got.new_tensor(1.0))
    torch.testing.assert_close(part(x)[0], part.out_proj(out))


@pytest.mark.equation("llm-rope-relative")
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 500))
@settings(max_examples=25, deadline=None)
def test_scores_after_turning_see_only_how_far_apart_two_positions_are(m, n, shift):
    g = torch.Generator().manual_seed(m)
    q, k = torch.randn(2, 1, 1, 1, 16, generator=g, dtype=torch.double)

    def score(at, other):
        turn = (rope(q, torch.tensor([at])), rope(k, torch.tensor([other])))
        return (turn[0] * turn[1]).sum()

    torch.testing.assert_close(score(m, n), score(m + shift, n + shift))
    half = 10000.0 ** (-2 * torch.arange(8, dtype=torch.double) / 16)
    a, b = (torch.complex(*y.flatten().chunk(2)) for y in (q, k))
    wanted = (a * b.conj() * torch.polar(torch.ones_like(half), (m - n) * half)).real.sum()
    torch.testing.assert_close(score(m, n), wanted)


@pytest.mark.equation("llm-swiglu")
def test_the_gated_network_is_that_of_loops():
    torch.manual_seed(0)
    part = SwiGLU(4, 5).double()
    x = torch.randn(4, dtype=torch.double)
    gate, value = part.in_proj.weight.detach().chunk(2)
    hidden = []
    for w, u in zip(gate, value, strict=True):
        a = float(w @ x)
        hidden.append(a / (1 + math.exp(-a)) * float(u @ x))
    wanted = part.out_proj.weight @ torch.tensor(hidden, dtype=torch.double)
    torch.testing.assert_close(part(x), wanted)


@pytest.mark.equation("llm-attention-half", "llm-network-half", "llm-post-norm")
@pytest.mark.parametrize("post_norm", [False, True])
def test_a_block_adds_each_part_to_its_input(post_norm):
    block = tiny(post_norm=post_norm).layers[0]
    x = torch.randn(2, 5, 8, dtype=torch.double)
    rms = [lambda y, w=norm.weight: w * y / (y.square().mean(-1, keepdim=True) + 1e-5).sqrt()
           for norm in (block.norm1, block.norm2)]  # fmt: skip
    if post_norm:
        middle = x + rms[0](block.attention(x))
        wanted = middle + rms[1](block.network(middle))
    else:
        middle = x + block.attention(rms[0](x))
        wanted = middle + block.network(rms[1](middle))
    torch.testing.assert_close(block(x), wanted)


# ---------------------------------------------------------------- a causal language model


@given(st.integers(1, 11), st.integers(0, 5), st.sampled_from(list(KINDS_OF_OURS)))
@settings(max_examples=20, deadline=None)
def test_no_position_sees_a_later_token(at, token, kind):
    model = tiny(**KINDS_OF_OURS[kind])
    ids = numbers(7, 12, rows=1)
    changed = ids.clone()
    changed[:, at:] = (changed[:, at:] + 1 + token) % 7
    torch.testing.assert_close(model(ids)[:, :at], model(changed)[:, :at], rtol=0, atol=0)


def test_every_earlier_token_within_reach_is_seen_and_none_beyond():
    """Two windows of 3 reach 2 · (3 − 1) tokens back."""
    for window, reach in ((None, 11), (3, 4)):
        model = tiny(window=window)
        ids = numbers(7, 12, rows=1)
        for at in range(11):
            changed = ids.clone()
            changed[:, at] = (changed[:, at] + 1) % 7
            moved = (model(ids)[:, -1] - model(changed)[:, -1]).abs().max()
            assert (moved > 1e-6) == (11 - at <= reach)


@pytest.mark.equation("llm-next", "llm-loss")
def test_the_probabilities_of_all_continuations_sum_to_one():
    model = tiny(vocab_size=3, max_length=5)
    rows = torch.tensor([[1, *tail] for tail in itertools.product(range(3), repeat=4)])
    p = model(rows).softmax(-1)[:, :-1].gather(2, rows[:, 1:, None])[..., 0]
    whole = p.prod(1)
    assert math.isclose(whole.sum().item(), 1, abs_tol=1e-12)
    loss = torch.stack([next_token_loss(model, row[None]) for row in rows])
    torch.testing.assert_close((-4 * loss).exp(), whole)


@pytest.mark.equation("llm-loss")
@pytest.mark.parametrize("kind", ["llama", "qwen2"], ids=["untied", "tied"])
def test_the_loss_is_that_of_transformers(kind):
    other = theirs(kind)
    ids = numbers(40, 15)
    wanted = other(ids, labels=ids).loss
    torch.testing.assert_close(next_token_loss(LLM.from_hugging_face(other), ids), wanted)


def test_scored_on_the_token_it_has_read_an_untrained_model_seems_perfect():
    torch.manual_seed(0)
    model = LLM(50, 64, 4, 2, 32, tied=True)
    nn.init.normal_(model.token_embedding.weight, std=1.0)
    ids = torch.randint(50, (64, 32))
    wrong = F.cross_entropy(model(ids).flatten(0, 1), ids.flatten())
    assert wrong < 0.01
    assert next_token_loss(model, ids) > math.log(50) + 5


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_neither_read_nor_guessed(side):
    model = tiny()
    short, long = numbers(7, 5, rows=1), numbers(7, 9, rows=1)
    pad = (4, 0) if side == "left" else (0, 4)
    ids = torch.cat([F.pad(short, pad), long])
    real = torch.ones_like(ids, dtype=torch.bool)
    real[0] = F.pad(torch.ones(5, dtype=torch.bool), pad)
    wanted = (4 * next_token_loss(model, short) + 8 * next_token_loss(model, long)) / 12
    torch.testing.assert_close(next_token_loss(model, ids, real), wanted)


@pytest.mark.equation("llm-lens")
@pytest.mark.parametrize("options", KINDS_OF_OURS.values(), ids=KINDS_OF_OURS)
def test_the_lens_reads_each_state_as_a_model_cut_off_there_would(options):
    model, ids = tiny(num_layers=2, **options), numbers(7, 9)
    read = logit_lens(model, ids)
    assert read.shape == (3, 3, 9, 7)
    torch.testing.assert_close(read[-1], model(ids))
    model.layers = model.layers[:1]
    torch.testing.assert_close(read[1], model(ids))
    bare = model.token_embedding(ids)
    bare = bare / (bare.square().mean(-1, keepdim=True) + 1e-5).sqrt() * model.norm.weight
    torch.testing.assert_close(read[0], bare @ model.output_weight.T)


def test_new_weights_are_new_throughout_and_as_spread_as_said():
    model = LLM(300, 64, 4, 6, 64, qkv_bias=True, qk_norm="head", init_std=0.05)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    torch.manual_seed(0)
    model.reset_parameters()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
        elif "norm" in name:
            assert (parameter == 1).all()
        else:
            wanted = 0.05 / (math.sqrt(12) if name.endswith("out_proj.weight") else 1)
            assert math.isclose(parameter.std().item(), wanted, rel_tol=0.05), name


# ---------------------------------------------------------------- counts


@pytest.mark.equation("llm-parameters")
@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_those_of_the_published_weights(name):
    (v, e, depth, h, g, d, f, tied), wanted = COUNTS[name]
    assert llm_parameters(v, e, depth, h, g, d, f, tied) == wanted
    model = LLM(v, e, h, depth, 8, num_kv_heads=g, head_dim=d, dim_feedforward=f, tied=tied,
                device="meta")  # fmt: skip
    assert parameter_count(model) == wanted


@pytest.mark.equation("llm-rule", "llm-swiglu-width")
def test_three_matrices_of_two_thirds_hold_as_much_as_two():
    e = 12 * 96
    layer = LLMBlock(e, 8, 8 * e // 3, device="meta")
    assert parameter_count(layer.network) == 8 * e * e
    assert parameter_count(layer.attention) == 4 * e * e
    assert parameter_count(layer) == 12 * e * e + 2 * e
    assert swiglu_width(4096) == 11008 and swiglu_width(5120) == 13824  # LLaMA's 7B and 13B
    assert swiglu_width(e, 1) == 8 * e // 3
    for width in range(1, 300):
        assert 0 <= swiglu_width(width, 8) - 8 * width // 3 < 8 and swiglu_width(width, 8) % 8 == 0


def counted(run):
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


@pytest.mark.equation("llm-token-flops")
@pytest.mark.parametrize("g", [1, 2, 4])
def test_flops_of_a_token_are_those_that_torch_counts(g):
    v, e, depth, h, d, f, t = 50, 24, 3, 4, 6, 40, 17
    model = LLM(v, e, h, depth, 32, num_kv_heads=g, head_dim=d, dim_feedforward=f)
    caches, ids = model.new_caches(), torch.randint(v, (1, t))
    with torch.no_grad():
        model.hidden(ids[:, :-1], caches=caches)
        got = counted(lambda: model(ids[:, -1:], caches=caches))
    assert got == token_flops(v, e, depth, h, g, d, f, t)


@pytest.mark.equation("llm-flops")
def test_training_takes_six_flops_a_weight_and_token():
    """All that products do, forwards and back, apart from attention's own t² part."""
    model = LLM(50, 24, 4, 3, 8, dim_feedforward=64)
    ids = torch.randint(50, (4, 2))
    flops = counted(lambda: F.cross_entropy(model(ids).flatten(0, 1), ids.flatten()).backward())
    products = sum(p.numel() for n, p in model.named_parameters() if "norm" not in n)
    products -= model.token_embedding.weight.numel()  # looked up, not multiplied
    own = 3 * 4 * 3 * 2 * 24 * 8  # layers, positions seen, width, tokens: forwards and twice back
    assert math.isclose(flops, 6 * products * 8 + own, rel_tol=0.01)


@pytest.mark.equation("llm-cache-memory")
@pytest.mark.parametrize(("dtype", "size"), [(torch.float32, 4), (torch.bfloat16, 2)])
def test_the_cache_takes_what_the_formula_says(dtype, size):
    for g, d in ((1, 8), (4, 6)):
        model = LLM(11, 16, 4, 3, 20, num_kv_heads=g, head_dim=d, dtype=dtype)
        caches = model.new_caches()
        with torch.no_grad():
            model(torch.randint(11, (1, 5)), caches=caches)
        assert sum(cache.bytes for cache in caches) == 2 * 3 * g * d * 20 * size


@pytest.mark.equation("llm-cache")
def test_a_cached_step_is_a_mean_over_keys_as_turned():
    model = tiny(num_layers=1)
    part, ids = model.layers[0].attention, numbers(7, 6, rows=1)
    cache = KVCache(6)
    x = model.layers[0].norm1(model.token_embedding(ids))
    with torch.no_grad():
        part(x[:, :5], cache=cache)
        got = part(x[:, 5:], cache=cache)
    keys, values = cache.keys, cache.values
    q = part.in_proj(x)[0, 5, :8].view(4, 1, 1, 2)
    turned = [rope(one[None], torch.tensor([5]))[0, 0, 0] for one in q]
    plain = part.in_proj(x)[0, :, 8:12].view(6, 2, 2)
    for at in range(6):  # each key stands there as its own position turned it
        wanted = rope(plain[None, at, :, None], torch.tensor([at]))[0, :, 0]
        torch.testing.assert_close(keys[0, :, at], wanted)
    out = [
        (keys[0, head // 2] @ one / math.sqrt(2)).softmax(0) @ values[0, head // 2]
        for head, one in enumerate(turned)
    ]
    torch.testing.assert_close(got[0, 0], part.out_proj(torch.cat(out)))


@pytest.mark.equation("llm-training-memory")
def test_training_keeps_sixteen_bytes_a_weight():
    """Weights, gradients and AdamW's two averages in float32, as torch holds them."""
    model = LLM(50, 24, 4, 2, 8)
    optimizer = torch.optim.AdamW(model.parameters())
    next_token_loss(model, torch.randint(50, (2, 8))).backward()
    optimizer.step()
    kept = [*model.parameters(), *(p.grad for p in model.parameters())]
    kept += [
        state[name] for state in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")
    ]
    assert sum(x.numel() * x.element_size() for x in kept) == 16 * parameter_count(model)


# ---------------------------------------------------------------- writing


@pytest.mark.parametrize("options", KINDS_OF_OURS.values(), ids=KINDS_OF_OURS)
def test_reading_in_pieces_is_reading_at_once(options):
    model, ids = tiny(**options), numbers(7, 11)
    caches = model.new_caches()
    pieces = [model(ids[:, a:b], caches=caches) for a, b in ((0, 4), (4, 5), (5, 11))]
    torch.testing.assert_close(torch.cat(pieces, 1), model(ids))
    assert [cache.length for cache in caches] == [11, 11]


@writing_support.RULES
@writing_support.PADDED
def test_generation_is_the_same_with_and_without_a_cache(rule, padded):
    model, ids = tiny(max_length=30, window=[5, None]), numbers(7, 4)
    writing_support.writes_alike_with_and_without_caches(model, ids, rule, padded)


def test_a_stop_ends_a_row_and_modes_are_left_as_they_were():
    model, ids = tiny(vocab_size=3, max_length=200, dropout=0.5).train(), numbers(3, 2, rows=4)
    model.layers[0].eval()
    modes = [part.training for part in model.modules()]
    writing_support.stops_row_by_row(model, ids)
    assert [part.training for part in model.modules()] == modes


def test_dropout_falls_on_attention_in_training_only():
    model, ids = tiny(dropout=0.5), numbers(7, 9)
    assert torch.equal(model(ids), model(ids))
    model.train()
    assert not torch.equal(model(ids), model(ids))


# ---------------------------------------------------------------- what is refused


@writing_support.REQUESTS
def test_generation_refuses_by_name_before_it_computes(options, error, message, monkeypatch):
    writing_support.refuses_before_it_computes(tiny(), options, error, message, monkeypatch)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_heads": 3}, "num_kv_heads=2 does not divide num_heads=3"),
        ({"num_heads": 3, "num_kv_heads": 3}, "num_heads=3 does not divide embed_dim=8"),
        ({"head_dim": 3}, "head_dim=3 must be even"),
        ({"num_heads": 8}, "head_dim=1 must be even"),
        ({"window": 0}, "window=0"),
        ({"window": [3]}, "window must be one number or one for each of 2 layers, got 1"),
        ({"qk_norm": "row"}, "qk_norm='row' must be one of"),
        ({"rotary_base": 0.0}, "rotary_base=0"),
        ({"norm_eps": -1.0}, "norm_eps=-1"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"dim_feedforward": 0}, "dim_feedforward=0"),
        ({"init_std": 0.0}, "init_std=0"),
    ],
    ids=str,
)
def test_the_model_refuses_by_name(options, message):
    with refuses(ValueError, message):
        tiny(**options)


def test_calls_and_functions_refuse_by_name():
    model = tiny()
    with refuses(ValueError, "ids must be 0 … 6 (vocab_size), got 3 … 9"):
        model(torch.tensor([[3, 9]]))
    with refuses(ValueError, "ids must end within max_length=12, got 13"):
        logit_lens(model, torch.zeros(1, 13, dtype=torch.int64))
    with refuses(ValueError, "caches must hold one for each of 2 layers, got 1"):
        model(torch.zeros(1, 3, dtype=torch.int64), caches=[KVCache(12)])
    with refuses(ValueError, "ids must hold two tokens or more a sequence"):
        next_token_loss(model, torch.zeros(2, 1, dtype=torch.int64))
    with refuses(ValueError, "multiple_of=0"):
        swiglu_width(8, 0)
    with refuses(ValueError, "num_kv_heads=0"):
        llm_parameters(10, 8, 1, 2, 0, 4, 16)
    with refuses(ValueError, "length=0"):
        token_flops(10, 8, 1, 2, 2, 4, 16, 0)


def test_it_compiles_as_one_graph_and_gives_the_same():
    model, ids = tiny().float(), numbers(7, 9)
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(ids), model(ids))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
        torch.compiler.reset()


def test_attention_alone_takes_a_width_of_its_own():
    part = GroupedAttention(10, 3, 1, head_dim=4)
    assert part(torch.zeros(2, 5, 10)).shape == (2, 5, 10)
    assert parameter_count(part) == 10 * 4 * (3 + 2) + 12 * 10
