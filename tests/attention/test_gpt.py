"""GPT against transformers' GPT-2, brute force, counted FLOPs, and itself without a cache."""

import itertools
import math

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nnlib.attention.gpt import (
    GPT,
    gpt_parameters,
    next_token_loss,
    next_token_loss_of_logits,
    token_flops,
)
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.sampling import sampling_probabilities
from nnlib.train.metrics import parameter_count
from tests import writing_support
from tests.support import Example, Peer, refuses

transformers = Peer("transformers")
sampling = Peer("transformers.generation.logits_process")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"vocab_size": 11, "embed_dim": 8, "num_heads": 2, "num_layers": 2, "max_length": 8},
        (torch.randint(11, (3, 8)),),
        {"key_mask": torch.arange(8) >= torch.tensor([[0], [2], [5]])},
    )


SIZES = {  # vocabulary, width, heads, layers, positions: GPT-2 and its brothers
    "small": ((50257, 768, 12, 12, 1024), 124_439_808),
    "medium": ((50257, 1024, 16, 24, 1024), 354_823_168),
    "large": ((50257, 1280, 20, 36, 1024), 774_030_080),
    "XL": ((50257, 1600, 25, 48, 1024), 1_557_611_200),
}
SHAPES = [(40, 16, 2, 2, 12), (65, 24, 3, 3, 20)]


def tiny(vocab_size=7, embed_dim=8, num_heads=2, num_layers=2, max_length=12, **options):
    torch.manual_seed(0)
    model = GPT(vocab_size, embed_dim, num_heads, num_layers, max_length, **options).double()
    for parameter in model.parameters():  # weights that make a difference
        parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def theirs(shape, *, head=True, **options):
    """Return a GPT-2 of transformers with random weights, its norms and biases included."""
    vocab_size, e, h, depth, length = shape
    torch.manual_seed(1)
    config = transformers.GPT2Config(
        vocab_size=vocab_size, n_embd=e, n_head=h, n_layer=depth, n_positions=length,
        bos_token_id=0, eos_token_id=0, **options,
    )  # fmt: skip
    model = (transformers.GPT2LMHeadModel if head else transformers.GPT2Model)(config).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


def numbers(shape, length, rows=3, seed=2):
    return torch.randint(shape[0], (rows, length), generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------- the model is GPT-2


@pytest.mark.equation("gpt-embedding", "gpt-block", "gpt-logits")
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("how", ["instance", "folder"])
def test_logits_are_those_of_transformers(shape, how, tmp_path):
    other = theirs(shape)
    ids = numbers(shape, shape[4])
    if how == "folder":
        other.save_pretrained(tmp_path)
    model = GPT.from_hugging_face(other if how == "instance" else tmp_path)
    torch.testing.assert_close(model(ids), other(ids).logits, rtol=0, atol=1e-5)
    assert not model.training


@pytest.mark.parametrize("head", [True, False], ids=["with head", "without"])
def test_a_model_without_its_head_is_read_too(head, tmp_path):
    shape = SHAPES[0]
    other = theirs(shape, head=head)
    other.save_pretrained(tmp_path)
    ids = numbers(shape, 9)
    stack = other.transformer if head else other
    hidden = GPT.from_hugging_face(str(tmp_path)).hidden(ids)
    torch.testing.assert_close(hidden, stack(ids).last_hidden_state, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"activation_function": "relu", "n_inner": 40},
        {"activation_function": "gelu", "layer_norm_epsilon": 1e-3},
        {"activation_function": "gelu_pytorch_tanh"},
    ],
    ids=str,
)
def test_options_of_transformers_are_kept(options):
    shape = SHAPES[0]
    other, ids = theirs(shape, **options), numbers(SHAPES[0], 8)
    model = GPT.from_hugging_face(other)
    torch.testing.assert_close(model(ids), other(ids).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_not_seen_as_in_transformers(shape, side):
    other, ids = theirs(shape), numbers(shape, 10)
    model = GPT.from_hugging_face(other)
    real = torch.ones_like(ids, dtype=torch.bool)
    for row, pads in enumerate((0, 3, 6)):
        real[row, : pads if side == "left" else 0] = False
        real[row, 10 - pads if side == "right" else 10 :] = False
    positions = (real.cumsum(1) - 1).clamp(min=0)
    wanted = other(ids, attention_mask=real.long(), position_ids=positions).logits
    got = model(ids, key_mask=real)
    torch.testing.assert_close(got[real], wanted[real], rtol=0, atol=1e-5)
    assert torch.isfinite(got).all()
    # Without position numbers transformers counts padding too; so do we when told.
    wanted = other(ids, attention_mask=real.long()).logits
    got = model(ids, key_mask=real, positions=torch.arange(10))
    torch.testing.assert_close(got[real], wanted[real], rtol=0, atol=1e-5)


def test_a_padded_row_gives_what_it_gives_alone():
    model = tiny()
    ids = numbers((7,), 6, rows=1)
    for left, right in ((4, 0), (0, 4), (3, 1)):
        padded = F.pad(ids, (left, right))
        real = F.pad(torch.ones_like(ids, dtype=torch.bool), (left, right))
        got = model(padded, key_mask=real)[real]
        torch.testing.assert_close(got, model(ids)[0])


def test_gradients_are_those_of_transformers():
    shape = SHAPES[0]
    other, ids = theirs(shape, resid_pdrop=0.0), numbers(shape, 9)
    model = GPT.from_hugging_face(other)
    next_token_loss(model, ids).backward()
    other(ids, labels=ids).loss.backward()
    pairs = (
        (model.token_embedding.weight.grad, other.transformer.wte.weight.grad),
        (model.position_embedding.weight.grad, other.transformer.wpe.weight.grad),
        (model.layers[1].linear1.weight.grad.T, other.transformer.h[1].mlp.c_fc.weight.grad),
        (model.norm.weight.grad, other.transformer.ln_f.weight.grad),
    )
    for got, wanted in pairs:
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_what_we_lack_is_refused_rather_than_answered_wrongly():
    for option, value in (
        ("scale_attn_by_inverse_layer_idx", True),
        ("scale_attn_weights", False),
    ):
        with refuses(ValueError, f"model_or_path has {option}={value}, it must be"):
            GPT.from_hugging_face(theirs(SHAPES[0], **{option: value}))
    with refuses(ValueError, "model_or_path has tie_word_embeddings=False, it must be True"):
        GPT.from_hugging_face(theirs(SHAPES[0], tie_word_embeddings=False))
    with refuses(ValueError, "activation='quick_gelu' must be one of"):
        GPT.from_hugging_face(theirs(SHAPES[0], activation_function="quick_gelu"))
    with refuses(TypeError, "model_or_path must be a transformers model"):
        GPT.from_hugging_face(nn.Linear(2, 2))


def test_a_missing_or_an_extra_tensor_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    theirs(SHAPES[0]).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    whole = load_file(file)
    lost = "transformer.h.1.mlp.c_fc.weight"
    save_file({name: value for name, value in whole.items() if name != lost}, file)
    with refuses(ValueError, "missing: layers.1.linear1.weight"):
        GPT.from_hugging_face(tmp_path)
    save_file({**whole, "transformer.h.2.ln_1.weight": torch.ones(16)}, file)
    with refuses(ValueError, "extra: layers.2.norm1.weight"):
        GPT.from_hugging_face(tmp_path)
    save_file({**whole, "lm_head.weight": torch.zeros(40, 16)}, file)
    with refuses(ValueError, "lm_head.weight must equal wte.weight"):
        GPT.from_hugging_face(tmp_path)


# ---------------------------------------------------------------- a causal language model


@given(st.integers(1, 11), st.integers(0, 6))
@settings(max_examples=15, deadline=None)
def test_no_position_sees_a_later_token(at, token):
    model = tiny()
    ids = numbers((7,), 12, rows=1)
    changed = ids.clone()
    changed[:, at:] = (changed[:, at:] + 1 + token) % 7
    torch.testing.assert_close(model(ids)[:, :at], model(changed)[:, :at], rtol=0, atol=0)


def test_every_earlier_token_is_seen():
    model = tiny()
    ids = numbers((7,), 12, rows=1)
    for at in range(11):
        changed = ids.clone()
        changed[:, at] = (changed[:, at] + 1) % 7
        assert (model(ids)[:, -1] - model(changed)[:, -1]).abs().max() > 1e-6


@pytest.mark.equation("gpt-chain", "gpt-next")
def test_the_probabilities_of_all_continuations_sum_to_one():
    model = tiny(vocab_size=3, max_length=5)
    rows = torch.tensor([[1, *tail] for tail in itertools.product(range(3), repeat=4)])
    p = model(rows).softmax(-1)[:, :-1].gather(2, rows[:, 1:, None])[..., 0]
    whole = p.prod(1)
    assert math.isclose(whole.sum().item(), 1, abs_tol=1e-12)
    loss = torch.stack([next_token_loss(model, row[None]) for row in rows])
    torch.testing.assert_close((-4 * loss).exp(), whole)


@pytest.mark.equation("gpt-loss")
def test_the_loss_is_that_of_transformers_and_of_loops():
    shape = SHAPES[1]
    other, ids = theirs(shape), numbers(shape, 15)
    model = GPT.from_hugging_face(other)
    wanted = other(ids, labels=ids).loss
    torch.testing.assert_close(next_token_loss(model, ids), wanted)
    torch.testing.assert_close(next_token_loss_of_logits(model(ids), ids), wanted)
    p = model(ids).softmax(-1)
    by_hand = [-p[b, t, ids[b, t + 1]].log() for b in range(3) for t in range(14)]
    torch.testing.assert_close(torch.stack(by_hand).mean(), wanted)


def test_new_weights_are_new_throughout():
    model = tiny()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model.reset_parameters()
    assert not [name for name, p in model.named_parameters() if (p == 7).any()]
    assert (model.norm.weight == 1).all() and not model.norm.bias.any()


def test_generation_leaves_every_mode_as_it_was_whatever_is_raised(monkeypatch):
    model = tiny(dropout=0.5).train()
    model.layers[0].eval()
    modes = [part.training for part in model.modules()]
    model.generate(torch.tensor([[1]]), 2)
    assert [part.training for part in model.modules()] == modes
    monkeypatch.setattr(torch, "multinomial", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.generate(torch.tensor([[1]]), 2)
    assert [part.training for part in model.modules()] == modes


class Reads(TorchDispatchMode):
    """Count how often a number is fetched from a tensor, for which an accelerator's queue waits."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("stop", [None, 5])
def test_generation_on_an_accelerator_reads_no_number_at_a_token(stop, monkeypatch):
    """As there, nothing is `readable`; 40 tokens take a look at every 16th, and one in the end."""
    model, ids = tiny(max_length=60), torch.tensor([[1, 2], [3, 4]])
    monkeypatch.setattr("nnlib.checks.readable", lambda _: False)
    with Reads() as reads:
        model.generate(ids, 40, temperature=0, stop=stop)
    assert reads.count <= (0 if stop is None else 3)


@pytest.mark.parametrize("accelerator", [False, True])
def test_generation_ends_with_the_last_sequence_wherever_it_looks(accelerator, monkeypatch):
    model, ids = tiny(max_length=60), torch.tensor([[1, 2], [3, 4]])
    dice = torch.Generator().manual_seed(3)
    whole = model.generate(ids, 40, generator=dice)
    stop = int(whole[0, 9])
    ends = [2 + row[2:].tolist().index(stop) for row in whole]
    if accelerator:
        monkeypatch.setattr("nnlib.checks.readable", lambda _: False)
    got = model.generate(ids, 40, generator=dice.manual_seed(3), stop=stop)
    assert got.shape[1] == max(ends) + 1
    for row, wanted, end in zip(got, whole, ends, strict=True):
        torch.testing.assert_close(row[: end + 1], wanted[: end + 1])
        assert (row[end:] == stop).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_neither_read_nor_guessed(side):
    model = tiny()
    short, long = numbers((7,), 5, rows=1), numbers((7,), 9, rows=1)
    pad = (4, 0) if side == "left" else (0, 4)
    ids = torch.cat([F.pad(short, pad), long])
    real = torch.ones_like(ids, dtype=torch.bool)
    real[0] = F.pad(torch.ones(5, dtype=torch.bool), pad)
    wanted = (4 * next_token_loss(model, short) + 8 * next_token_loss(model, long)) / 12
    torch.testing.assert_close(next_token_loss(model, ids, real), wanted)
    torch.testing.assert_close(next_token_loss_of_logits(model(ids, real), ids, real), wanted)
    first = torch.where(real, ids, 6)
    torch.testing.assert_close(next_token_loss(model, first, real), wanted)


def test_scored_on_the_token_it_has_read_a_copier_seems_perfect():
    """Random tokens cost log 50 nats each, yet with the index shifted an untrained copier is free.

    Its residual stream carries the token's own vector to the output, which holds it against itself.
    """
    torch.manual_seed(0)
    model = GPT(50, 64, 4, 2, 32)
    nn.init.normal_(model.token_embedding.weight, std=1.0)
    ids = torch.randint(50, (64, 32))
    logits = model(ids)
    wrong = F.cross_entropy(logits.flatten(0, 1), ids.flatten())
    right = next_token_loss_of_logits(logits, ids)
    assert wrong < 0.01
    assert right > math.log(50) + 5


@pytest.mark.equation("gpt-init")
def test_new_weights_are_as_spread_as_those_of_transformers():
    torch.manual_seed(0)
    shape = (300, 64, 4, 6, 64)
    vocab_size, e, h, depth, length = shape
    made = GPT(*shape)
    config = transformers.GPT2Config(
        vocab_size=vocab_size, n_embd=e, n_head=h, n_layer=depth, n_positions=length,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    like = GPT.from_hugging_face(transformers.GPT2LMHeadModel(config))
    for (name, ours), other in zip(made.named_parameters(), like.parameters(), strict=True):
        std, mean = (f(ours.detach()).item() for f in (torch.std, torch.mean))
        assert math.isclose(std, other.detach().std().item(), rel_tol=0.06, abs_tol=1e-12), name
        assert math.isclose(mean, other.detach().mean().item(), abs_tol=1e-3), name
    adds = made.layers[3].linear2.weight.std().item()
    assert math.isclose(adds, 0.02 / math.sqrt(12), rel_tol=0.05)


# ---------------------------------------------------------------- counts


@pytest.mark.equation("gpt-parameters")
@pytest.mark.parametrize("name", SIZES)
def test_counts_are_those_of_the_published_weights(name):
    (vocab_size, e, h, depth, length), wanted = SIZES[name]
    with torch.device("meta"):
        assert parameter_count(GPT(vocab_size, e, h, depth, length)) == wanted
    assert gpt_parameters(vocab_size, e, depth, length) == wanted


@pytest.mark.equation("gpt-rule")
@pytest.mark.parametrize(
    ("name", "ratio"), [("small", 0.683), ("medium", 0.851), ("large", 0.914), ("XL", 0.947)]
)
def test_the_rule_of_twelve_leaves_out_what_a_small_model_is_made_of(name, ratio):
    (_, e, h, depth, _), total = SIZES[name]
    with torch.device("meta"):
        model = GPT(2, e, h, depth, 2)
    matrices = sum(
        p.numel() for n, p in model.named_parameters() if p.ndim == 2 and "embedding" not in n
    )
    assert matrices == 12 * depth * e**2
    assert math.isclose(matrices / total, ratio, abs_tol=5e-4)


@pytest.mark.equation("gpt-flops")
@pytest.mark.parametrize("shape", [(40, 64, 4, 2, 16), (300, 96, 4, 3, 32)], ids=str)
def test_a_training_step_takes_six_flops_a_weight_and_token(shape):
    model, ids = GPT(*shape), numbers(shape, shape[4], rows=4)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        next_token_loss_of_logits(model(ids), ids).backward()
    weights = parameter_count(model) - model.position_embedding.weight.numel()
    assert math.isclose(counter.get_total_flops(), 6 * weights * ids.numel(), rel_tol=0.12)


@pytest.mark.equation("gpt-cached-cost", "gpt-uncached-cost")
@pytest.mark.parametrize("use_cache", [True, False], ids=["with cache", "without"])
def test_costs_of_a_token_are_the_counted_flops(use_cache):
    """One more token costs the difference of two generations."""
    shape = 40, 32, 2, 3, 40
    model, ids = GPT(*shape), numbers(shape, 6, rows=1)
    counted = []
    for new in (8, 9):
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model.generate(ids, new, use_cache=use_cache)
        counted.append(counter.get_total_flops())
    assert counted[1] - counted[0] == token_flops(40, 32, 3, 14, use_cache)


@pytest.mark.equation("gpt-cache-memory")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_cache_takes_two_numbers_a_width_layer_and_position(dtype):
    model = GPT(40, 32, 2, 3, 20).to(dtype)
    caches = model.new_caches()
    model(numbers((40,), 5, rows=4), caches=caches)
    held = sum(cache.keys.nbytes + cache.values.nbytes for cache in caches)
    assert held == sum(cache.bytes for cache in caches)
    assert held == 2 * 3 * 2 * 16 * 20 * dtype.itemsize * 4


# ---------------------------------------------------------------- generation


@pytest.mark.equation("gpt-cache")
def test_with_a_cache_the_logits_are_those_of_the_whole():
    model, ids = tiny(), numbers((7,), 12)
    whole, caches = model(ids), model.new_caches()
    parts = [model(part, caches=caches) for part in ids.split([5, 1, 1, 3, 2], 1)]
    torch.testing.assert_close(torch.cat(parts, 1), whole)
    assert [cache.length for cache in caches] == [12, 12]


@pytest.mark.equation("gpt-cache")
def test_a_cached_step_is_the_last_row_of_attention_by_hand():
    model, ids = tiny(num_layers=1), numbers((7,), 6, rows=1)
    layer, caches = model.layers[0], model.new_caches()
    model(ids[:, :5], caches=caches)
    got = model.hidden(ids[:, 5:], caches=caches)
    x = model.token_embedding(ids) + model.position_embedding.weight[:6]
    q, k, v = F.linear(
        layer.norm1(x), layer.self_attn.in_proj_weight, layer.self_attn.in_proj_bias
    ).chunk(3, -1)
    heads = [
        (q[0, 5, at] @ k[0, :, at].T / 2).softmax(-1) @ v[0, :, at]
        for at in (slice(0, 4), slice(4, 8))
    ]
    x = x[:, 5:] + layer.self_attn.out_proj(torch.cat(heads))
    hidden = F.gelu(layer.linear1(layer.norm2(x)), approximate="tanh")
    torch.testing.assert_close(got, model.norm(x + layer.linear2(hidden)))


@writing_support.RULES
@writing_support.PADDED
def test_generation_is_the_same_with_and_without_a_cache(rule, padded):
    model, ids = tiny(max_length=30), numbers((7,), 4)
    writing_support.writes_alike_with_and_without_caches(model, ids, rule, padded)


def test_greedy_generation_is_that_of_transformers():
    shape = SHAPES[1]
    other, ids = theirs(shape), numbers(shape, 5)
    wanted = other.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=12, min_new_tokens=12,
        do_sample=False, pad_token_id=0, eos_token_id=None,
    )  # fmt: skip
    got = GPT.from_hugging_face(other).generate(ids, 12, temperature=0)
    assert torch.equal(got, wanted)


def test_a_prompt_padded_on_the_left_is_continued_as_it_is_alone():
    model, ids = tiny(max_length=20), numbers((7,), 5, rows=1)
    padded = F.pad(ids, (3, 0))
    real = F.pad(torch.ones_like(ids, dtype=torch.bool), (3, 0))
    alone = model.generate(ids, 8, temperature=0)
    assert torch.equal(model.generate(padded, 8, temperature=0, key_mask=real)[:, 3:], alone)


def test_draws_follow_the_probabilities():
    model, prompt = tiny(vocab_size=4), torch.tensor([[2, 0]])
    drawn = model.generate(
        prompt.expand(20_000, -1), 1, top_k=3, generator=torch.Generator().manual_seed(0)
    )[:, -1]
    got = drawn.bincount(minlength=4) / 20_000
    wanted = sampling_probabilities(model(prompt)[0, -1], top_k=3)
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=0.015)  # 4 standard errors


def test_a_stop_ends_each_row_and_all_together_end_the_work():
    model, ids = tiny(vocab_size=3, max_length=200), numbers((3,), 2, rows=4)
    writing_support.stops_row_by_row(model, ids)


def test_generation_leaves_the_model_as_it_was():
    model, ids = tiny(dropout=0.5).train(), numbers((7,), 3)
    runs = [model.generate(ids, 5, temperature=0) for _ in range(2)]
    assert torch.equal(*runs)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert not runs[0].requires_grad


# ---------------------------------------------------------------- what is refused


@writing_support.REQUESTS
def test_generation_refuses_by_name_before_it_computes(options, error, message, monkeypatch):
    writing_support.refuses_before_it_computes(tiny(), options, error, message, monkeypatch)


def test_the_model_refuses_by_name():
    model = tiny()
    with refuses(ValueError, "num_heads=3 does not divide embed_dim=8"):
        GPT(7, 8, 3, 2, 12)
    with refuses(ValueError, "dropout=1.5"):
        GPT(7, 8, 2, 2, 12, 1.5)
    with refuses(ValueError, "activation='swish'"):
        GPT(7, 8, 2, 2, 12, activation="swish")
    with refuses(ValueError, "ids must be 0 … 6 (vocab_size), got 3 … 9"):
        model(torch.tensor([[3, 9]]))
    with refuses(ValueError, "ids must end within max_length=12, got 13"):
        model(torch.zeros(1, 13, dtype=torch.int64))
    with refuses(ValueError, "caches must hold one for each of 2 layers, got 1"):
        model(torch.zeros(1, 3, dtype=torch.int64), caches=[KVCache(12)])
    with refuses(ValueError, "ids must hold two tokens or more a sequence"):
        next_token_loss(model, torch.zeros(2, 1, dtype=torch.int64))
    caches = model.new_caches()
    model(torch.zeros(1, 10, dtype=torch.int64), caches=caches)
    with refuses(ValueError, "ids must end within max_length=12, got 13"):
        model(torch.zeros(1, 3, dtype=torch.int64), caches=caches)


def test_functions_refuse_by_name():
    with refuses(ValueError, "ids must have shape (2, 3)"):
        next_token_loss_of_logits(torch.zeros(2, 3, 5), torch.zeros(2, 4, dtype=torch.int64))
    with refuses(ValueError, "num_layers=-1"):
        gpt_parameters(10, 8, -1, 4)
    with refuses(ValueError, "length=0"):
        token_flops(10, 8, 1, 0, True)


def test_it_compiles_as_one_graph_and_gives_the_same():
    model, ids = tiny().float(), numbers((7,), 9)
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        compiled = torch.compile(model, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(ids), model(ids))
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
        torch.compiler.reset()


def test_the_loss_has_a_shape_and_no_numbers_on_the_meta_device():
    model = GPT(7, 8, 2, 1, 6, device="meta")
    loss = next_token_loss(model, torch.zeros(2, 5, dtype=torch.long, device="meta"))
    assert loss.is_meta and loss.shape == ()
    loss.backward()
    assert model.token_embedding.weight.grad.is_meta
