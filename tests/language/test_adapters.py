"""Adapters against peft, bitsandbytes, autograd, and sums that are written out."""

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.attention.gpt import GPT
from nnlib.kernels.attention import attention_reference
from nnlib.language.adapters import (
    IA3,
    Adapted,
    Adapter,
    DoRALinear,
    LearnedPast,
    LoRALinear,
    NF4Linear,
    PrefixTuning,
    PromptTuning,
    adapter_state,
    adapters_,
    bitfit_,
    finetuning_memory,
    ia3_,
    load_adapter_,
    lora_,
    lora_parameters,
    merge,
    nf4_,
    nf4_bits,
    nf4_dequantize,
    nf4_quantize,
    switched_off,
    with_adapters,
)
from nnlib.language.llm import LLM, next_token_loss
from nnlib.train.metrics import parameter_count
from tests.support import Example, Peer, refuses

peft = Peer("peft")
transformers = Peer("transformers")
bitsandbytes = Peer("bitsandbytes.functional")
scipy = Peer("scipy.stats")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""

    def used(layer):  # B is zero at first, and then no gradient reaches A
        nn.init.normal_(layer.lora_B.weight, generator=dice())
        return layer

    arguments = {"in_features": 6, "out_features": 5, "rank": 2, "alpha": 4.0, "bias": True}
    return Example(arguments, (torch.randn(3, 7, 6),), prepare=used)


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    model = LLM(
        11, 8, 2, 2, 24, qkv_bias=True, out_bias=True, mlp_bias=True, init_std=0.4, **options
    )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # which begin with zeros
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def stirred(model, seed=1):
    """Give what is trained other values, as after some training."""
    g = dice(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=g, dtype=torch.float64)
                parameter.add_((0.3 * noise).to(parameter.dtype))
    return model


def trained(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def tokens(rows=3, length=7, seed=2):
    return torch.randint(11, (rows, length), generator=dice(seed))


KINDS = {
    "LoRA": lambda m: lora_(m, "all", 2, 3.0),
    "LoRA by its root": lambda m: lora_(m, ["in_proj"], 3, 3.0, rslora=True),
    "DoRA": lambda m: lora_(m, "all", 2, 3.0, layer=DoRALinear),
    "IA3": lambda m: ia3_(m, ["attention.in_proj"], ["network.out_proj"], skip=8),
}
"""What can be merged."""

MORE = {
    **KINDS,
    "bottleneck": lambda m: adapters_(m, ["out_proj"], 3),
    "LoRA on four bits": lambda m: lora_(nf4_(m, "all", 16), "all", 2, 3.0),
    "DoRA on four bits": lambda m: lora_(nf4_(m, "all", 16), "all", 2, 3.0, layer=DoRALinear),
}
kinds = pytest.mark.parametrize("kind", KINDS)
more = pytest.mark.parametrize("kind", MORE)


# ------------------------------------------------------------------------------- LoRA and merging
@pytest.mark.equation("adapters-lora", "adapters-rslora")
@pytest.mark.parametrize("rslora", [False, True])
def test_lora_is_the_sum_written_out(rslora):
    layer = stirred(LoRALinear(5, 4, rank=3, alpha=6.0, rslora=rslora).double())
    x, s = torch.randn(2, 5, dtype=torch.float64), 6 / (math.sqrt(3) if rslora else 3)
    weight, a, b = layer.base.weight, layer.lora_A.weight, layer.lora_B.weight
    for row, got in zip(x, layer(x), strict=True):
        for o in range(4):
            want = layer.base.bias[o] + sum(
                (weight[o, i] + s * sum(b[o, j] * a[j, i] for j in range(3))) * row[i]
                for i in range(5)
            )
            torch.testing.assert_close(got[o], want)


@pytest.mark.equation("adapters-merge")
@kinds
def test_merged_is_the_adapter_to_a_millionth(kind):
    ids = tokens()
    model = stirred(KINDS[kind](tiny()))
    wanted, before = model(ids), tiny()(ids)
    plain = merge(copy.deepcopy(model))
    assert (wanted - before).abs().max() > 0.05  # it does something
    assert (plain(ids) - wanted).norm() < 1e-6 * wanted.norm()
    assert {type(m) for m in plain.modules()} == {type(m) for m in tiny().modules()}
    with refuses(ValueError, "model holds no adapter to merge: it was merged before"):
        merge(plain)


@kinds
def test_merged_in_double_precision_only_rounding_is_left(kind):
    model = stirred(KINDS[kind](tiny()).double())
    torch.testing.assert_close(
        merge(copy.deepcopy(model))(tokens()), model(tokens()), rtol=0, atol=1e-13
    )


def test_merging_into_four_bits_gives_a_layer_in_full_precision():
    model = stirred(lora_(nf4_(tiny(), "all", 16), "all", 2, 3.0))
    wanted = model(tokens())
    torch.testing.assert_close(merge(model)(tokens()), wanted, rtol=1e-5, atol=1e-5)
    assert not any(isinstance(m, NF4Linear) for m in model.modules())


@more
def test_a_new_one_changes_nothing_and_only_it_learns(kind):
    reference = tiny()
    if "four bits" in kind:
        nf4_(reference, "all", 16)
    model = MORE[kind](tiny())
    torch.testing.assert_close(model(tokens()), reference(tokens()), rtol=1e-5, atol=1e-6)
    before = {n: p.clone() for n, p in model.named_parameters()}
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learned and not any(".base." in n for n in learned)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    costs = []
    for _ in range(3):
        optimizer.zero_grad()
        cost = next_token_loss(model, tokens())
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert costs[-1] < costs[0]
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    assert moved == learned


@more
def test_switched_off_it_is_the_model_of_before(kind):
    ids, reference = tokens(), tiny()
    if "four bits" in kind:
        nf4_(reference, "all", 16)
    model = stirred(MORE[kind](tiny()))
    assert not torch.equal(model(ids), reference(ids))
    with switched_off(model):
        assert torch.equal(model(ids), reference(ids))  # bit for bit
    assert not torch.equal(model(ids), reference(ids))


@pytest.mark.equation("adapters-gradients")
def test_gradients_of_both_matrices_come_from_that_of_the_weight():
    layer = stirred(LoRALinear(6, 5, rank=2, alpha=5.0).double())
    x, target = torch.randn(7, 6, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    ((layer(x) - target) ** 2).mean().backward()
    whole = layer.merged().requires_grad_()
    ((whole(x) - target) ** 2).mean().backward()
    g, s = whole.weight.grad, 2.5
    torch.testing.assert_close(layer.lora_A.weight.grad, s * layer.lora_B.weight.T @ g)
    torch.testing.assert_close(layer.lora_B.weight.grad, s * g @ layer.lora_A.weight.T)


@pytest.mark.equation("adapters-first-step")
def test_the_first_step_is_full_fine_tuning_seen_through_a_projection():
    torch.manual_seed(0)
    layer = LoRALinear(6, 5, rank=2, alpha=5.0).double()
    full, rate = copy.deepcopy(layer.base).requires_grad_(), 0.1
    x, target = torch.randn(7, 6, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    a = layer.lora_A.weight.detach().clone()
    for model in (layer, full):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate)
        F.mse_loss(model(x), target).backward()
        optimizer.step()
    moved = full.weight - layer.base.weight  # −η G
    torch.testing.assert_close(layer.delta(), 2.5**2 * moved @ a.T @ a)


def test_the_first_step_shrinks_with_the_rank_unless_alpha_is_divided_by_its_root():
    def share(rank, rslora):
        """How much of a full step along x is taken, on average over the draws of A."""
        x, told = torch.ones(1, 64, dtype=torch.float64), []
        for seed in range(64):
            torch.manual_seed(seed)
            layer = LoRALinear(64, 64, rank, 16.0, rslora=rslora).double()
            layer(x).sum().backward()
            with torch.no_grad():
                layer.lora_B.weight.sub_(layer.lora_B.weight.grad)
                told.append((layer.delta() @ x[0]).mean() / -64)
        return torch.stack(told).mean().item()

    # A chi-square of 4 degrees over 64 draws: its mean is known to 9 %
    assert share(64, True) / share(4, True) == pytest.approx(1, rel=0.35)
    assert share(64, False) / share(4, False) == pytest.approx(1 / 16, rel=0.35)


@pytest.mark.equation("adapters-truncated")
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_no_matrix_of_a_rank_is_nearer_than_the_cut_one(rank):
    torch.manual_seed(0)
    change = torch.randn(6, 8, dtype=torch.float64)
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    best = (u[:, :rank] * s[:rank]) @ v[:rank]
    assert (change - best).pow(2).sum().item() == pytest.approx(s[rank:].pow(2).sum().item())
    a = torch.randn(rank, 8, dtype=torch.float64)
    for _ in range(300):  # alternating least squares finds nothing nearer
        b = change @ torch.linalg.pinv(a)
        a = torch.linalg.pinv(b) @ change
    assert (change - b @ a).norm() == pytest.approx((change - best).norm().item(), rel=1e-6)


@pytest.mark.equation("adapters-count")
def test_counts_are_exact():
    model = lora_(tiny(), "all", 3, 3.0)
    shapes = [(m.in_features, m.out_features) for m in model.modules() if hasattr(m, "rank")]
    assert lora_parameters(shapes, 3) == trained(model)
    e, kv, f, blocks = 8192, 1024, 28672, 80  # LLaMA 2 70B
    q, k, o, up = (e, e), (e, kv), (e, e), (e, f)
    every = [q, k, k, o, up, up, up]
    assert lora_parameters([q, k] * blocks, 8) == 16_384_000
    assert lora_parameters([q, k] * blocks, 64) == 131_072_000
    assert lora_parameters([q, k, k, o] * blocks, 16) == 65_536_000
    assert lora_parameters(every * blocks, 8) == 103_546_880
    assert lora_parameters(every * blocks, 16) == 207_093_760
    assert lora_parameters(every * blocks, 64) == 828_375_040
    assert lora_parameters([(12288, 12288)] * 2 * 96, 4) == 18_874_368  # GPT-3


def test_dropout_falls_on_what_the_adapter_reads_alone():
    layer = stirred(LoRALinear(6, 5, 2, 4.0, dropout=1.0))
    x = torch.randn(3, 6)
    torch.testing.assert_close(layer.train()(x), layer.base(x))
    assert not torch.allclose(layer.eval()(x), layer.base(x))


# ------------------------------------------------------------------------------------------- DoRA
@pytest.mark.equation("adapters-dora")
def test_dora_has_rows_of_its_own_length_and_a_changed_direction():
    layer = stirred(DoRALinear(6, 5, rank=2, alpha=4.0).double())
    weight = layer.base.weight + 2 * layer.lora_B.weight @ layer.lora_A.weight
    rows = [
        m * row / row.norm() for m, row in zip(layer.lora_magnitude_vector, weight, strict=True)
    ]
    x = torch.randn(4, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ torch.stack(rows).T + layer.base.bias)
    torch.testing.assert_close(
        layer.merged().weight.norm(dim=1), layer.lora_magnitude_vector.detach().abs()
    )


def test_doras_norm_is_a_constant_for_the_gradient():
    layer = stirred(DoRALinear(6, 5, rank=2, alpha=4.0).double())
    x = torch.randn(4, 6, dtype=torch.float64)
    a, b = (p.weight.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
    weight = layer.base.weight + 2 * b @ a
    y = x @ weight.T * (layer.lora_magnitude_vector / weight.norm(dim=1).detach())
    (y + layer.base.bias).pow(2).sum().backward()
    layer(x).pow(2).sum().backward()
    torch.testing.assert_close(layer.lora_A.weight.grad, a.grad)
    torch.testing.assert_close(layer.lora_B.weight.grad, b.grad)


# ------------------------------------------------------------------- bottleneck, IA³, BitFit
@pytest.mark.equation("adapters-bottleneck")
def test_a_bottleneck_is_a_network_with_a_way_around():
    adapter = stirred(Adapter(6, 2, "relu").double())
    x = torch.randn(3, 6, dtype=torch.float64)
    narrow = (x @ adapter.down.weight.T + adapter.down.bias).clamp(min=0)
    torch.testing.assert_close(adapter(x), x + narrow @ adapter.up.weight.T + adapter.up.bias)
    assert parameter_count(adapter) == 2 * 6 * 2 + 2 + 6
    layer = nn.Linear(4, 6).double()
    y = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(Adapted(layer, adapter)(y), adapter(layer(y)))


@pytest.mark.equation("adapters-ia3")
def test_ia3_stretches_keys_values_and_the_hidden_layer():
    model = stirred(ia3_(tiny(), ["attention.in_proj"], ["network.out_proj"], skip=8))
    block, plain = model.layers[0], tiny().layers[0]
    x = torch.randn(2, 5, 8)
    stretch = torch.cat([torch.ones(8), block.attention.in_proj.stretch])
    torch.testing.assert_close(
        block.attention.in_proj(x),
        torch.stack([stretch * row for row in plain.attention.in_proj(x)]),
    )
    f = plain.network.out_proj.in_features
    h = torch.randn(3, f)
    hidden = block.network.out_proj.stretch
    torch.testing.assert_close(block.network.out_proj(h), plain.network.out_proj(hidden * h))
    assert trained(model) == 2 * (16 + f)  # keys and values, and the hidden layer


def test_bitfit_trains_all_biases_and_nothing_else():
    model = bitfit_(tiny())
    learned = {n for n, p in model.named_parameters() if p.requires_grad}
    assert learned == {n for n, _ in model.named_parameters() if n.endswith("bias")}
    gpt = bitfit_(GPT(11, 8, 2, 2, 16))  # whose attention has biases of another name
    assert "layers.0.self_attn.in_proj_bias" in adapter_state(gpt)
    with refuses(ValueError, "model has no biases to train"):
        bitfit_(LLM(11, 8, 2, 1, 16))


# -------------------------------------------------------------------------------- prefix, prompt
@pytest.mark.equation("adapters-prefix", "adapters-prefix-gate")
def test_a_prefix_is_a_gate_between_the_text_and_a_learned_table():
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 5, 4, dtype=torch.float64)
    pk, pv = torch.randn(2, 3, 4, dtype=torch.float64)
    cache = LearnedPast(8)
    cache.append(pk[None, None], pv[None, None])
    got = cache.attend(q[None, None], k[None, None], v[None, None])[0, 0]
    for t in range(5):
        keys, values = torch.cat([pk, k[: t + 1]]), torch.cat([pv, v[: t + 1]])
        torch.testing.assert_close(got[t], (keys @ q[t] / 2).softmax(0) @ values)
        to_prefix, to_text = (pk @ q[t] / 2).exp(), (k[: t + 1] @ q[t] / 2).exp()
        gate = to_prefix.sum() / (to_prefix.sum() + to_text.sum())
        own = attention_reference(q[None, None], k[None, None], v[None, None], is_causal=True)
        table = (pk @ q[t] / 2).softmax(0) @ pv
        torch.testing.assert_close(got[t], (1 - gate) * own[0, 0, t] + gate * table)


@pytest.mark.equation("adapters-prompt")
@pytest.mark.parametrize("kind", [LLM, GPT], ids=["LLM", "GPT"])
def test_a_prompt_of_real_tokens_is_that_text_before_it(kind):
    torch.manual_seed(0)
    model = kind(11, 8, 2, 2, 24, init_std=0.4).eval()
    start, ids = tokens(1, 4, seed=5)[0], tokens()
    whole = model(torch.cat([start.expand(3, -1), ids], 1))[:, 4:]
    torch.testing.assert_close(PromptTuning(model, 4, start)(ids), whole)
    torch.testing.assert_close(PrefixTuning(model, 4, start)(ids), whole)


@pytest.mark.parametrize("kind", [PrefixTuning, PromptTuning])
def test_a_past_learns_and_the_model_does_not(kind):
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    tuned = kind(model, 4)
    assert trained(tuned) == (2 * 2 * 4 * 8 if kind is PrefixTuning else 4 * 8)
    optimizer = torch.optim.Adam(tuned.parameters(), 0.05)
    costs = []
    for _ in range(5):
        optimizer.zero_grad()
        cost = next_token_loss(tuned, tokens())
        cost.backward()
        optimizer.step()
        costs.append(cost.item())
    assert costs[-1] < costs[0]
    assert all(torch.equal(x, before[n]) for n, x in model.state_dict().items())


@pytest.mark.parametrize("kind", [PrefixTuning, PromptTuning])
def test_writing_after_a_past_is_reading_it_anew_for_each_token(kind):
    tuned = stirred(kind(tiny(), 3))
    ids = tokens(2, 4)
    written = tuned.generate(ids, 5, temperature=0.0)
    for _ in range(5):
        ids = torch.cat([ids, tuned(ids)[:, -1:].argmax(-1)], 1)
    assert torch.equal(written, ids)


@pytest.mark.parametrize("kind", [PrefixTuning, PromptTuning])
def test_padding_after_a_past_changes_nothing(kind):
    tuned, ids = stirred(kind(tiny(), 3)), tokens(2, 4)
    padded = torch.cat([ids, torch.zeros(2, 3, dtype=torch.long)], 1)
    mask = torch.arange(7).expand(2, -1) < 4
    torch.testing.assert_close(tuned(padded, mask)[:, :4], tuned(ids))


def test_the_network_behind_a_prefix_can_be_folded_away():
    tuned = stirred(PrefixTuning(tiny(), 3, hidden=6))
    assert trained(tuned) == 3 * 8 + (8 + 1) * 6 + (6 + 1) * 2 * 2 * 8
    torch.testing.assert_close(tuned.folded()(tokens()), tuned(tokens()))
    with refuses(ValueError, "start: a network's output cannot be begun with"):
        PrefixTuning(tiny(), 3, start=torch.tensor([1, 2, 3]), hidden=6)


# ------------------------------------------------------------------------------- NF4 and QLoRA
@pytest.mark.equation("adapters-nf4-levels")
def test_levels_are_normal_quantiles_and_bitsandbytes_own():
    one = torch.tensor([1.0] + [0.0] * 15)
    every = nf4_dequantize(nf4_quantize(one, 16)._replace(
        codes=torch.tensor([16 * k + k + 1 for k in range(0, 16, 2)], dtype=torch.uint8)
    ))  # fmt: skip
    delta = 1 - (1 / 32 + 1 / 30) / 2
    up = [scipy.norm.ppf(0.5 + k * (delta - 0.5) / 8) for k in range(1, 9)]
    down = [-scipy.norm.ppf(0.5 + k * (delta - 0.5) / 7) for k in range(7, 0, -1)]
    levels = torch.tensor([*down, 0.0, *up], dtype=torch.float64) / scipy.norm.ppf(delta)
    torch.testing.assert_close(every.double(), levels, rtol=0, atol=3e-7)  # float32
    assert torch.equal(every, bitsandbytes.get_4bit_type("nf4", device="cpu"))


@pytest.mark.equation("adapters-nf4")
def test_each_weight_takes_the_nearest_level_times_its_blocks_largest():
    torch.manual_seed(0)
    weight = torch.randn(6, 64)
    levels = bitsandbytes.get_4bit_type("nf4", device="cpu")
    for block, got in zip(weight, nf4_dequantize(nf4_quantize(weight)), strict=True):
        largest = block.abs().max()
        wanted = [min(levels, key=lambda level: abs(level - w / largest)) for w in block]
        torch.testing.assert_close(got, largest * torch.stack(wanted))


@pytest.mark.equation("adapters-double")
@pytest.mark.parametrize("block_size", [32, 64, 256])
def test_bits_are_the_bytes_that_are_stored(block_size):
    weight = torch.randn(2048, 1024)
    for double in (False, True):
        stored = 8 * nf4_quantize(weight, block_size, double).bytes / weight.numel()
        assert stored == pytest.approx(nf4_bits(block_size, double), abs=1e-4)
    assert nf4_bits(64, False) == 4.5
    assert nf4_bits() == pytest.approx(4.127, abs=5e-4)


@pytest.mark.equation("adapters-qlora", "adapters-qlora-gradient")
def test_gradients_pass_through_the_unpacked_weight():
    torch.manual_seed(0)
    base = nn.Linear(32, 24)
    packed = nf4_quantize(base.weight, 64, double=True)
    layer = stirred(LoRALinear.of(NF4Linear.of(base), rank=3, alpha=6.0))
    twin = LoRALinear(32, 24, rank=3, alpha=6.0)
    twin.load_state_dict(
        {"base.weight": nf4_dequantize(packed), "base.bias": base.bias, **adapter_state(layer)}
    )
    x, y = torch.randn(2, 5, 32, requires_grad=True), torch.randn(2, 5, 32, requires_grad=True)
    y.data.copy_(x)
    one, other = layer(x), twin(y)
    torch.testing.assert_close(one, other)
    one.pow(2).sum().backward()
    other.pow(2).sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for name in ("lora_A", "lora_B"):
        torch.testing.assert_close(
            getattr(layer, name).weight.grad, getattr(twin, name).weight.grad
        )
    whole = nf4_dequantize(packed) + 2 * layer.lora_B.weight @ layer.lora_A.weight
    torch.testing.assert_close(x.grad, 2 * one.detach() @ whole)
    assert layer.base.bias.grad is None and not packed.codes.requires_grad


def test_nothing_unpacked_is_kept_for_the_way_back():
    def kept(layer, x):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t: sizes.append(t.numel() * t.element_size()) or t, lambda t: t
        ):
            layer(x)
        return sum(sizes)

    base, x = nn.Linear(512, 512), torch.randn(1, 512, requires_grad=True)
    layer = NF4Linear.of(base)
    plain = layer.unpacked()
    assert kept(plain, x) >= 4 * 512 * 512
    assert kept(layer, x) < 4 * 512 * 512 / 100


def test_four_bits_are_saved_and_loaded_and_moved_with_their_layer():
    layer = NF4Linear(32, 24)
    fresh = NF4Linear(32, 24)
    fresh.load_state_dict(layer.state_dict())
    x = torch.randn(3, 32)
    assert torch.equal(fresh(x), layer(x))
    assert {"codes", "absmax", "absmax_scale", "absmax_offset"} <= dict(
        layer.named_buffers()
    ).keys()
    half = NF4Linear.of(nn.Linear(32, 24, dtype=torch.bfloat16))
    assert half(x.bfloat16()).dtype == half.weight.dtype == torch.bfloat16


@pytest.mark.equation("adapters-memory")
def test_memory_is_sixteen_bytes_a_trained_weight_and_the_bits_of_a_frozen_one():
    model = lora_(nn.Sequential(nn.Linear(40, 30, bias=False)), "all", 2, 4.0).bfloat16()
    optimizer = torch.optim.AdamW(
        [p.float().detach().requires_grad_() for p in model.parameters() if p.requires_grad]
    )
    model(torch.randn(3, 40, dtype=torch.bfloat16)).sum().backward()
    masters = optimizer.param_groups[0]["params"]
    for master in masters:
        master.grad = torch.ones_like(master)
    optimizer.step()
    learned = [p for p in model.parameters() if p.requires_grad]

    def size(parts):
        return sum(part.numel() * part.element_size() for part in parts)

    state = [s[n] for s in optimizer.state.values() for n in ("exp_avg", "exp_avg_sq")]
    told = finetuning_memory(frozen=1200, trained=trained(model))
    assert told.frozen == size([model[0].base.weight])
    assert told.weights == size(learned) + size(masters)
    assert told.gradients == size([p.grad for p in learned])
    assert told.optimizer == size(state)
    assert told.total == 2 * 1200 + 16 * 2 * 70
    assert finetuning_memory(0, 65 * 10**9).total == 1040e9
    assert finetuning_memory(70 * 10**9, 0, nf4_bits()).total / 1e9 == pytest.approx(36.1, abs=0.05)
    assert finetuning_memory(70 * 10**9, 0, 4.5).total / 1e9 == pytest.approx(39.4, abs=0.05)


# ----------------------------------------------------------------------------------- many adapters
@pytest.mark.equation("adapters-serving")
def test_a_batch_with_many_adapters_is_each_row_with_its_own():
    torch.manual_seed(0)
    base = nn.Linear(6, 5)
    layers = [stirred(LoRALinear.of(copy.deepcopy(base), 2, 4.0), seed) for seed in range(3)]
    stacks = [
        torch.stack([getattr(m, name).weight for m in layers]) for name in ("lora_A", "lora_B")
    ]
    x, which = torch.randn(5, 4, 6), torch.tensor([2, 0, -1, 2, 1])
    got = with_adapters(x, base, *stacks, which, scale=2.0)
    for row, k, y in zip(x, which.tolist(), got, strict=True):
        torch.testing.assert_close(y, base(row) if k < 0 else layers[k](row))
    with refuses(ValueError, "which must be -1 … 2, got 0 … 3"):
        with_adapters(x, base, *stacks, which + 1, scale=2.0)


def test_an_adapter_is_a_small_file_that_fits_another_copy():
    one, other = (lora_(tiny(), "all", 2, 4.0) for _ in range(2))
    stirred(one)
    assert load_adapter_(other, adapter_state(one)) is other
    assert torch.equal(one(tokens()), other(tokens()))
    tensors = adapter_state(one)
    first = next(iter(tensors))
    with refuses(ValueError, f"tensors lacks ['{first}']"):
        load_adapter_(other, {n: x for n, x in tensors.items() if n != first})
    with refuses(ValueError, "tensors has no place for ['more']"):
        load_adapter_(other, {**tensors, "more": torch.zeros(1)})
    with refuses(ValueError, f"tensors['{first}'] must have shape"):
        load_adapter_(other, {**tensors, first: torch.zeros(1, 1)})


# ------------------------------------------------------------------------------------ peft's own
@pytest.fixture(scope="module")
def gpt2():
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=11, n_embd=8, n_head=2, n_layer=2, n_positions=24, bos_token_id=0,
        eos_token_id=0, initializer_range=0.4, attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config).eval()


LOW = {
    "LoRA": {},
    "LoRA by its root": {"use_rslora": True},
    "DoRA": {"use_dora": True},
}


@pytest.mark.parametrize("kind", LOW)
def test_low_rank_is_pefts_on_gpt_2(gpt2, kind):
    names = ["c_attn", "attn.c_proj", "c_fc", "mlp.c_proj"]
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=3, lora_alpha=5, target_modules=names, fan_in_fan_out=True,
        **LOW[kind],
    )  # fmt: skip
    theirs = stirred(peft.get_peft_model(copy.deepcopy(gpt2), config))
    ours = lora_(copy.deepcopy(gpt2), names, 3, 5.0, rslora="root" in kind,
                 layer=DoRALinear if kind == "DoRA" else LoRALinear)  # fmt: skip
    load_adapter_(ours, peft.get_peft_model_state_dict(theirs))
    ids = tokens()
    got, wanted = (m(input_ids=ids, labels=ids) for m in (ours, theirs))
    torch.testing.assert_close(got.logits, wanted.logits, rtol=1e-5, atol=1e-5)
    got.loss.backward()
    wanted.loss.backward()
    grads = {n: p.grad for n, p in ours.named_parameters() if p.requires_grad}
    own = [p.grad for p in theirs.parameters() if p.requires_grad]
    assert len(grads) == len(own)
    assert sorted(g.norm().item() for g in grads.values()) == pytest.approx(
        sorted(g.norm().item() for g in own), rel=1e-4
    )
    torch.testing.assert_close(
        merge(ours)(ids).logits, theirs.merge_and_unload()(ids).logits, rtol=1e-5, atol=1e-5
    )


def test_ia3_is_pefts_on_gpt_2(gpt2):
    config = peft.IA3Config(
        task_type="CAUSAL_LM", target_modules=["c_attn", "mlp.c_proj"],
        feedforward_modules=["mlp.c_proj"], fan_in_fan_out=True,
    )  # fmt: skip
    theirs = stirred(peft.get_peft_model(copy.deepcopy(gpt2), config))
    ours = ia3_(copy.deepcopy(gpt2), ["c_attn"], ["mlp.c_proj"])
    vectors = {
        n.removeprefix("base_model.model.").split(".ia3_l")[0]: x.flatten()
        for n, x in peft.get_peft_model_state_dict(theirs).items()
    }
    load_adapter_(ours, {f"{n}.stretch": x for n, x in vectors.items()})
    torch.testing.assert_close(ours(tokens()).logits, theirs(tokens()).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("hidden", [None, 6], ids=["plain", "by a network"])
def test_a_prefix_is_pefts_on_gpt_2(gpt2, hidden):
    config = peft.PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=4, prefix_projection=hidden is not None,
        encoder_hidden_size=hidden,
    )  # fmt: skip
    theirs = stirred(peft.get_peft_model(copy.deepcopy(gpt2), config))
    encoder = theirs.prompt_encoder["default"]
    ours = PrefixTuning(GPT.from_hugging_face(gpt2), 4, hidden=hidden)
    if hidden is None:
        table = encoder.embedding.weight.detach()  # m, then l, k and v, g, d
        ours.prefix.data.copy_(table.view(4, 2, 2, 2, 4).permute(1, 2, 3, 0, 4))
    else:
        load_adapter_(ours, adapter_state(encoder))
    torch.testing.assert_close(ours(tokens()), theirs(tokens()).logits, rtol=1e-5, atol=1e-5)


def test_a_prompt_is_pefts_on_gpt_2(gpt2):
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    theirs = stirred(peft.get_peft_model(copy.deepcopy(gpt2), config))
    ours = PromptTuning(GPT.from_hugging_face(gpt2), 4)
    ours.prompt.data.copy_(theirs.prompt_encoder["default"].embedding.weight)
    wanted = theirs(tokens()).logits[:, 4:]  # theirs gives logits at the prompt as well
    torch.testing.assert_close(ours(tokens()), wanted, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------- bad input
def test_what_does_not_fit_is_refused_by_name_and_changes_nothing():
    model = tiny()
    before = {
        n: (type(m), [p.requires_grad for p in m.parameters()]) for n, m in model.named_modules()
    }
    with refuses(ValueError, "rank=0 must be an integer ≥ 1"):
        lora_(model, "all", 0, 4.0)
    with refuses(ValueError, "rank=9 must be at most 8, the smaller width of a layer from 8 to 24"):
        lora_(model, "all", 9, 4.0)
    with refuses(ValueError, "rank=12 must be at most 8"):
        lora_(model, ["network.out_proj"], 12, 4.0)
    with refuses(ValueError, "alpha=0.0 must be a finite number > 0"):
        lora_(model, "all", 2, 0.0)
    with refuses(
        ValueError, "targets: no linear layer is called 'q_proj'; there are head, in_proj"
    ):
        lora_(model, ["in_proj", "q_proj"], 2, 4.0)
    with refuses(ValueError, "targets must name one layer or more"):
        lora_(model, [], 2, 4.0)
    with refuses(TypeError, "targets=3 must be a name or a list of names"):
        lora_(model, 3, 2, 4.0)
    with refuses(TypeError, "layer=<class 'torch.nn.modules.linear.Linear'> must be LoRALinear"):
        lora_(model, "all", 2, 4.0, layer=nn.Linear)
    with refuses(ValueError, "bottleneck=9 must be at most embed_dim=8"):
        adapters_(model, ["out_proj"], 9)
    with refuses(ValueError, "skip=24 must leave some of the 24 numbers of the output"):
        ia3_(model, ["attention.in_proj"], skip=24)
    with refuses(ValueError, "outputs and inputs name no layer"):
        ia3_(model)
    with refuses(ValueError, "block_size=63 must be one of"):
        nf4_(model, "all", 63)
    with refuses(TypeError, "model must be a torch.nn.Module, got int"):
        lora_(3, "all", 2, 4.0)
    after = {
        n: (type(m), [p.requires_grad for p in m.parameters()]) for n, m in model.named_modules()
    }
    assert after == before


def test_a_layer_takes_one_adapter_and_a_nonlinear_one_cannot_be_merged():
    model = lora_(tiny(), ["in_proj"], 2, 4.0)
    with refuses(
        ValueError, "attention.in_proj has an adapter already (LoRALinear); merge it first"
    ):
        lora_(model, ["in_proj"], 2, 4.0)
    with refuses(ValueError, "has an adapter already (LoRALinear)"):
        ia3_(model, "all")
    adapters_(model, ["out_proj"], 2)
    with refuses(ValueError, "model: layers.0.attention.out_proj has a nonlinearity and cannot be"):
        merge(model)
    with refuses(ValueError, "model holds no adapter to switch off"), switched_off(tiny()):
        pass
    with refuses(ValueError, "model has nothing that is trained"):
        adapter_state(tiny().requires_grad_(False))


def test_the_layer_that_gives_logits_is_left_out_of_all():
    assert isinstance(lora_(tiny(), "all", 2, 4.0).head, nn.Linear)
    assert isinstance(lora_(tiny(), ["head"], 2, 4.0).head, LoRALinear)


def test_layers_that_are_none_and_inputs_that_do_not_fit_are_refused():
    layer = nn.Linear(6, 4)
    for wrong in (
        lambda: LoRALinear.of(nn.ReLU(), 2, 4.0),
        lambda: LoRALinear.of(LoRALinear(6, 4, 2, 4.0), 2, 4.0),
        lambda: NF4Linear.of(nn.ReLU()),
        lambda: NF4Linear.of(NF4Linear(6, 4)),
        lambda: IA3(nn.ReLU()),
        lambda: Adapted(nn.ReLU(), Adapter(4, 2)),
    ):
        with refuses(TypeError, "base must be a linear layer, got"):
            wrong()
    with refuses(ValueError, "adapter must be 4 wide like base, got 6"):
        Adapted(layer, Adapter(6, 2))
    with refuses(TypeError, "adapter must be an Adapter, got Linear"):
        Adapted(layer, layer)
    with refuses(ValueError, "side='left' must be one of ['output', 'input']"):
        IA3(layer, side="left")
    for made in (
        LoRALinear(6, 4, 2, 4.0),
        DoRALinear(6, 4, 2, 4.0),
        NF4Linear(6, 4),
        Adapter(6, 2),
    ):
        with refuses(ValueError, "x must have 6 numbers on its last axis, got (3, 5)"):
            made(torch.zeros(3, 5))


def test_pasts_that_do_not_fit_are_refused():
    model = tiny()
    with refuses(TypeError, "model must be a GPT or an LLM, got Linear"):
        PrefixTuning(nn.Linear(2, 2), 3)
    with refuses(ValueError, "length=24 must leave room for text within max_length=24"):
        PromptTuning(model, 24)
    with refuses(ValueError, "start must have shape (3), got (2,)"):
        PrefixTuning(model, 3, start=torch.tensor([1, 2]))
    with refuses(ValueError, "start must be 0 … 10 (vocab_size), got 1 … 99"):
        PromptTuning(model, 2, start=torch.tensor([1, 99]))
    with refuses(ValueError, "ids must end within max_length=24, got 27"):
        PromptTuning(model, 20)(tokens())
    with refuses(ValueError, "max_length=4 has room for 1 more positions, got 2"):
        past = LearnedPast(4)
        past.append(*torch.zeros(2, 1, 1, 3, 4))
        past.append(*torch.zeros(2, 1, 1, 2, 4))


def test_counts_of_nothing_are_refused():
    with refuses(ValueError, "shapes must name one matrix or more"):
        lora_parameters([], 2)
    with refuses(TypeError, "shapes[1] must be a pair of widths, got 3"):
        lora_parameters([(4, 4), 3], 2)
    with refuses(ValueError, "rank=5 must be at most 4"):
        lora_parameters([(4, 8)], 5)
    with refuses(ValueError, "frozen=-1 must be an integer ≥ 0"):
        finetuning_memory(-1, 0)
    with refuses(ValueError, "block_size=0 must be an integer ≥ 1"):
        nf4_bits(0)
