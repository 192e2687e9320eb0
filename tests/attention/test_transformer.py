"""Encoder and decoder against torch.nn by weights, and the chapter's equations."""

import functools
import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.attention.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
)
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.positions import sinusoidal
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.blocks.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer
from nnlib.kernels.attention import attention
from nnlib.kernels.rope import rope
from tests.blocks.against_torch import AHEAD, PADDING, SMALL, TIGHT, normal, same, shaken
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"embed_dim": 8, "num_heads": 2, "num_layers": 3, "dim_feedforward": 16},
        (torch.randn(2, 5, 8),),
        {"key_mask": torch.tensor([[True] * 5, [True] * 3 + [False] * 2])},
    )


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


# ---------------------------------------------------------------- against torch.nn


@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("final", [True, False])
def test_stacks_equal_torch(norm_first, final):
    layer = nn.TransformerEncoderLayer(dropout=0.0, norm_first=norm_first, **SMALL)
    norm = nn.LayerNorm(12, eps=1e-3, dtype=torch.float64) if final else None
    theirs = shaken(nn.TransformerEncoder(layer, 3, norm, enable_nested_tensor=False))
    ours = TransformerEncoder.from_torch(theirs)
    x, memory = normal(2, 5, 12).requires_grad_(), normal(2, 7, 12)
    same(ours, theirs, ours(x), theirs(x), x)

    layer = nn.TransformerDecoderLayer(dropout=0.0, norm_first=norm_first, **SMALL)
    theirs = shaken(nn.TransformerDecoder(layer, 2, norm))
    ours = TransformerDecoder.from_torch(theirs)
    ahead = torch.ones(5, 5, dtype=torch.bool).triu(1)
    same(ours, theirs, ours(x, memory), theirs(x, memory, tgt_mask=ahead), x)


@pytest.mark.parametrize("norm_first", [True, False])
def test_encoder_decoder_equals_torch_with_padding(norm_first):
    sizes = {"num_encoder_layers": 2, "num_decoder_layers": 3}
    theirs = shaken(nn.Transformer(dropout=0.0, norm_first=norm_first, **sizes, **SMALL))
    theirs.encoder.enable_nested_tensor = False
    ours = Transformer.from_torch(theirs)
    source, target = normal(2, 5, 12).requires_grad_(), normal(2, 4, 12).requires_grad_()
    wanted = theirs(
        source, target, tgt_mask=AHEAD, src_key_padding_mask=PADDING,
        memory_key_padding_mask=PADDING,
    )  # fmt: skip
    got = ours(source, target, source_key_mask=~PADDING)
    same(ours, theirs, got, wanted, source, target)
    own = torch.tensor([[False] * 4, [True] + [False] * 3])  # padded in front
    wanted = theirs(source, target, tgt_mask=AHEAD, tgt_key_padding_mask=own)
    got = ours(source, target, target_key_mask=~own)
    torch.testing.assert_close(got[1, 1:], wanted[1, 1:], **TIGHT)
    assert not torch.allclose(got[1, 1:], ours(source, target)[1, 1:])


def test_a_fresh_model_has_the_parameters_of_torch_and_loads_its_state():
    theirs = nn.Transformer(16, 4, 2, 2, 24, batch_first=True)
    ours = Transformer(16, 4, 2, 2, 24)
    shapes = {name: p.shape for name, p in ours.state_dict().items()}
    assert shapes == {name: p.shape for name, p in theirs.state_dict().items()}
    ours.load_state_dict(theirs.state_dict())


# ---------------------------------------------------------------- cache


@pytest.mark.parametrize("more", [{}, {"norm_first": True, "num_kv_heads": 1, "rotary_base": 50.0}])
@pytest.mark.parametrize("cuts", [[1] * 6, [3, 1, 2]])
@torch.no_grad()
def test_encoder_with_a_cache_writes_what_it_writes_without(more, cuts):
    stack = TransformerEncoder(16, 2, 3, 20, final_norm=True, **more).double().eval()
    x = normal(2, 6, 16)
    caches = [KVCache(8) for _ in stack.layers]
    pieces = [stack(part, is_causal=True, caches=caches) for part in x.split(cuts, 1)]
    torch.testing.assert_close(torch.cat(pieces, 1), stack(x, is_causal=True), **TIGHT)


@pytest.mark.parametrize("more", [{}, {"norm_first": True, "num_kv_heads": 1, "rotary_base": 50.0}])
@torch.no_grad()
def test_decoder_with_a_cache_writes_what_it_writes_without_and_reads_the_source_once(more):
    model = Transformer(16, 2, 2, 3, 20, **more).double().eval()
    source, target = normal(2, 5, 16), normal(2, 6, 16)
    memory = model.encoder(source, key_mask=~PADDING)
    wanted = model.decoder(target, memory, memory_key_mask=~PADDING)
    caches = model.decoder.start(memory, max_length=6)
    first = [cache.memory.keys.clone() for cache in caches]
    pieces = []
    for part in target.split([2, 1, 1, 2], 1):
        pieces.append(model.decoder(part, caches=caches, memory_key_mask=~PADDING))
    torch.testing.assert_close(torch.cat(pieces, 1), wanted, **TIGHT)
    for cache, keys in zip(caches, first, strict=True):
        assert torch.equal(cache.memory.keys, keys)
        assert cache.own.length == 6


# ---------------------------------------------------------------- order


def test_encoder_without_positions_does_not_see_order():
    stack = shaken(TransformerEncoder(16, 2, 3, 20).double()).eval()
    x, order = normal(2, 7, 16), torch.randperm(7)
    torch.testing.assert_close(stack(x[:, order]), stack(x)[:, order], **TIGHT)


def test_causal_decoder_without_positions_sees_order_from_its_second_layer_on():
    x = normal(1, 7, 16)
    shuffled = torch.cat([x[:, torch.randperm(6)], x[:, 6:]], 1)  # the last token stays
    for layers, sees in ((1, False), (2, True), (3, True)):
        stack = shaken(TransformerEncoder(16, 2, layers, 20).double()).eval()
        a, b = (stack(y, is_causal=True)[:, -1] for y in (x, shuffled))
        assert bool((a - b).abs().max() > 1e-3) == sees


@torch.no_grad()
def test_causal_stacks_without_positions_see_proportions_and_cannot_count():
    a, b = normal(2, 16)
    short, long = torch.stack([a, b])[None], torch.stack([a, a, b, b])[None]
    for layers in (1, 3):
        stack = shaken(TransformerEncoder(16, 2, layers, 20).double()).eval()
        same = stack(a.expand(1, 9, 16), is_causal=True)  # one token, nine times
        torch.testing.assert_close(same, same[:, :1].expand_as(same), **TIGHT)
        ends = [stack(x, is_causal=True)[0, -1] for x in (short, long)]
        # With several layers aabb has a prefix, aab, whose proportions ab does not know.
        assert torch.allclose(*ends, **TIGHT) == (layers == 1)
    places = sinusoidal(9, 16, dtype=torch.float64)
    told = stack(a + places[None], is_causal=True)
    assert (told[:, 1:] - told[:, :1]).abs().amax(-1).min() > 1e-3


@pytest.mark.equation("transformer-mask", "transformer-causal")
def test_the_future_is_masked_with_minus_infinity():
    q, k, v = normal(1, 1, 5, 4), normal(1, 1, 5, 4), normal(1, 1, 5, 4)
    mask = torch.zeros(5, 5).double()
    for i, j in itertools.product(range(5), range(5)):
        if i < j:
            mask[i, j] = -math.inf
    wanted = (q @ k.mT / math.sqrt(4) + mask).softmax(-1) @ v
    torch.testing.assert_close(attention(q, k, v, is_causal=True), wanted, **TIGHT)
    layer = TransformerEncoderLayer(8, 2, 16).double().eval()
    x = normal(1, 6, 8).requires_grad_()
    for t in range(6):
        (slope,) = torch.autograd.grad(layer(x, is_causal=True)[0, t, 0], x)
        assert (slope[0, t + 1 :] == 0).all()
        assert (slope[0, : t + 1] != 0).any(-1).all()


@pytest.mark.equation("transformer-cross")
def test_a_cross_head_asks_from_the_target_and_reads_the_source():
    attn = MultiHeadAttention(6, 2, bias=False).double()
    x, memory = normal(4, 6), normal(5, 6)
    w_q, w_k, w_v = (w.view(2, 3, 6) for w in attn.in_proj_weight.detach().split(attn.widths))
    heads = []
    for i in range(2):
        scores = (x @ w_q[i].T) @ (memory @ w_k[i].T).T / math.sqrt(3)
        weights = scores.exp() / scores.exp().sum(1, keepdim=True)
        heads.append(weights @ (memory @ w_v[i].T))
    wanted = torch.cat(heads, 1) @ attn.out_proj.weight.T
    torch.testing.assert_close(attn(x[None], memory[None])[0], wanted, **TIGHT)


# ---------------------------------------------------------------- equations


@pytest.mark.equation("transformer-ffn")
def test_the_network_works_on_each_position_alone():
    layer = shaken(TransformerEncoderLayer(4, 2, 6, dropout=0.0).double())
    x = normal(1, 3, 4)
    w1, b1, w2, b2 = (
        p.detach() for p in (*layer.linear1.parameters(), *layer.linear2.parameters())
    )
    for t in range(3):
        hidden = [max(0.0, float(w1[i] @ x[0, t] + b1[i])) for i in range(6)]
        wanted = [
            sum(float(w2[o, i]) * hidden[i] for i in range(6)) + float(b2[o]) for o in range(4)
        ]
        got = layer._feed_forward(x)[0, t]
        torch.testing.assert_close(got, torch.tensor(wanted).double(), rtol=0, atol=1e-6)


@pytest.mark.equation("transformer-rotation")
def test_rope_is_multiplication_by_the_printed_matrix():
    d, m = 6, 7
    theta = [10000 ** (-2 * r / d) for r in range(d // 2)]  # eq. transformer-theta
    blocks = [
        torch.tensor([[math.cos(m * t), -math.sin(m * t)], [math.sin(m * t), math.cos(m * t)]])
        for t in theta
    ]
    x = normal(1, 1, 1, d)
    got = rope(x, torch.tensor([m]), interleaved=True)
    wanted = torch.block_diag(*blocks).double() @ x[0, 0, 0]
    torch.testing.assert_close(got[0, 0, 0], wanted, rtol=0, atol=1e-6)


@pytest.mark.equation("transformer-theta")
def test_the_first_pair_turns_by_one_radian_and_d_is_the_width_of_a_head():
    for d in (4, 8, 128):
        e1 = torch.zeros(1, 1, 1, d, dtype=torch.float64)
        e1[..., 0] = 1
        turned = rope(e1, torch.tensor([1]), interleaved=True)[0, 0, 0]
        assert float(torch.atan2(turned[1], turned[0])) == pytest.approx(1.0, abs=1e-6)
        last = torch.zeros(1, 1, 1, d, dtype=torch.float64)
        last[..., d - 2] = 1
        turned = rope(last, torch.tensor([1]), interleaved=True)[0, 0, 0]
        angle = float(torch.atan2(turned[d - 1], turned[d - 2]))
        assert angle == pytest.approx(10000 ** (-(d - 2) / d), rel=1e-5)


def test_both_layouts_of_rope_agree_after_permuting_channels():
    q, k, at = normal(1, 1, 5, 8), normal(1, 1, 5, 8), torch.arange(5)
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])  # neighbours to halves
    inter = rope(q, at, interleaved=True) @ rope(k, at, interleaved=True).mT
    halves = rope(q, at) @ rope(k, at).mT
    assert (inter - halves).abs().max() > 0.1
    permuted = rope(q[..., order], at) @ rope(k[..., order], at).mT
    torch.testing.assert_close(inter, permuted, **TIGHT)


@pytest.mark.equation("transformer-embedding")
def test_embeddings_times_root_d_have_the_size_of_the_positions():
    e = 256
    table = nn.Embedding(50, e)
    nn.init.normal_(table.weight, std=e**-0.5)
    x = (table.weight.detach() * math.sqrt(e)).square().mean().sqrt()
    p = sinusoidal(50, e).square().mean().sqrt()
    assert float(p) == pytest.approx(0.5**0.5, abs=1e-6)
    assert float(x) == pytest.approx(1.0, abs=0.03)


@pytest.mark.equation("transformer-parameters-attention", "transformer-parameters-layer")
def test_parameters_are_counted_exactly():
    def count(module):
        return sum(p.numel() for p in module.parameters())

    for d, h in ((768, 12), (12, 3), (20, 4)):
        assert count(MultiHeadAttention(d, h)) == 4 * d * d + 4 * d
        assert count(TransformerEncoderLayer(d, h, 4 * d)) == 12 * d * d + 13 * d
        assert count(TransformerDecoderLayer(d, h, 4 * d)) == 16 * d * d + 19 * d
    assert count(MultiHeadAttention(768, 12)) == 2_362_368
    assert count(TransformerEncoderLayer(768, 12, 3072)) == 7_087_872


@pytest.mark.equation("transformer-cost-attention", "transformer-cost-network", "transformer-cost")
def test_flops_are_counted_by_torch_itself():
    from torch.utils.flop_counter import FlopCounterMode

    def count(run):
        with FlopCounterMode(display=False) as counter:
            run()
        return counter.get_total_flops()

    for n, d in ((7, 12), (96, 16), (97, 16)):
        layer, x = TransformerEncoderLayer(d, 4, 4 * d, dropout=0.0).train(), torch.randn(1, n, d)
        looked = count(lambda layer=layer, x=x: layer.self_attn.with_weights(x))
        assert looked == 8 * n * d * d + 4 * n * n * d
        assert count(lambda layer=layer, x=x: layer._feed_forward(x)) == 16 * n * d * d
        products, pairs = 24 * n * d * d, 4 * n * n * d
        assert (pairs > products) == (n > 6 * d)
    for n, d in ((31, 16), (32, 16), (33, 16)):  # within attention alone
        assert (4 * n * n * d > 8 * n * d * d) == (n > 2 * d)


@pytest.mark.equation("transformer-cache-bytes")
def test_cache_bytes_of_llama_2_70b():
    layers, heads, width, length = 80, 8, 128, 8192
    one = KVCache(16)
    one.append(*torch.zeros(2, 1, heads, 1, width, dtype=torch.float16))
    assert one.bytes * length // 16 * layers == 2 * layers * heads * width * length * 2
    assert 2 * layers * heads * width * length * 2 == 2_684_354_560


@pytest.mark.equation("transformer-block-queries", "transformer-block-attention")
def test_the_modern_blocks_attention_is_our_attention_with_rotation():
    d, heads, groups, n = 16, 4, 2, 5
    attn = MultiHeadAttention(d, heads, groups, bias=False, rotary_base=10000.0).double()
    norm = RMSNorm(d, eps=1e-6).double()
    h, at = normal(1, n, d), torch.arange(n)
    x = h / (h.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    w_q, w_k, w_v = attn.in_proj_weight.split(attn.widths)
    q = rope((x @ w_q.T).view(1, n, heads, 4).transpose(1, 2), at)
    k = rope((x @ w_k.T).view(1, n, groups, 4).transpose(1, 2), at)
    v = (x @ w_v.T).view(1, n, groups, 4).transpose(1, 2)
    ahead = torch.ones(n, n).triu(1) * -1e30
    parts = [((q[:, i] @ k[:, i // 2].mT) / 2 + ahead).softmax(-1) @ v[:, i // 2]
             for i in range(heads)]  # fmt: skip
    wanted = h + torch.cat(parts, -1) @ attn.out_proj.weight.T
    torch.testing.assert_close(h + attn(norm(h), is_causal=True), wanted, **TIGHT)


@pytest.mark.equation("transformer-swiglu", "transformer-block-network")
def test_swiglu_is_a_gate_times_a_line():
    from nnlib.kernels.swiglu import swiglu

    d, f = 4, 6
    w1, gate, w2, x = normal(f, d), normal(f, d), normal(d, f), normal(3, d)
    wanted = torch.zeros(3, d).double()
    for t in range(3):
        for i in range(f):
            g = float(x[t] @ gate[i])
            wanted[t] += float(x[t] @ w1[i]) * g / (1 + math.exp(-g)) * w2[:, i]
    got = swiglu(x @ gate.T, x @ w1.T) @ w2.T
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-9)


@pytest.mark.equation("transformer-silu")
def test_silu_is_a_number_times_its_sigmoid():
    z = torch.linspace(-20, 20, 81, dtype=torch.float64)
    wanted = [v / (1 + math.exp(-v)) for v in z.tolist()]
    torch.testing.assert_close(F.silu(z), torch.tensor(wanted).double(), rtol=0, atol=1e-6)


@pytest.mark.equation("transformer-layer-norm", "transformer-rms-norm")
def test_norms_are_what_is_printed():
    x, gain, shift = normal(5, 6), normal(6), normal(6)
    layer, rms = LayerNorm(6, eps=1e-3).double(), RMSNorm(6, eps=1e-3).double()
    with torch.no_grad():
        layer.weight.copy_(gain)
        layer.bias.copy_(shift)
        rms.weight.copy_(gain)
    for row in x:
        numbers = row.tolist()
        mean = sum(numbers) / 6
        variance = sum((v - mean) ** 2 for v in numbers) / 6  # over d, not d − 1
        wanted = gain * (row - mean) / math.sqrt(variance + 1e-3) + shift
        torch.testing.assert_close(layer(row[None])[0], wanted, **TIGHT)
        wanted = gain * row / math.sqrt(sum(v * v for v in numbers) / 6 + 1e-3)
        torch.testing.assert_close(rms(row[None])[0], wanted, **TIGHT)


@pytest.mark.equation("transformer-score-variance")
@pytest.mark.parametrize("width", [1, 3, 6])
def test_the_variance_of_a_score_is_the_width_of_a_head(width):
    # Fair signs have mean 0 and variance 1, and all draws of them can be counted.
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=width)))
    scores = signs @ signs.T
    assert float(scores.mean()) == 0
    assert float(scores.square().mean()) == width
    assert float((scores / math.sqrt(width)).square().mean()) == pytest.approx(1)


# ---------------------------------------------------------------- the objective


class Writer(nn.Module):
    """A small transformer with one table for what comes in and what goes out."""

    def __init__(self, vocabulary=3):
        super().__init__()
        self.table = nn.Parameter(normal(vocabulary + 1, 8))  # the last one begins a text
        self.model = Transformer(8, 2, 1, 1, 16, dropout=0.0).double().eval()

    def log_probabilities(self, source, target):
        before = F.pad(target[:, :-1], (1, 0), value=len(self.table) - 1)
        x = self.model(source.expand(len(target), -1, -1), self.table[before])
        return (x @ self.table[:-1].T).log_softmax(-1)  # eq. transformer-output


@pytest.mark.equation("transformer-output", "transformer-loss")
@torch.no_grad()
def test_the_chances_of_all_texts_of_one_length_add_up_to_one():
    writer, n = Writer(), 4
    texts = torch.tensor(list(itertools.product(range(3), repeat=n)))
    logs = writer.log_probabilities(normal(1, 5, 8), texts)
    losses = torch.stack([F.nll_loss(log, text) for log, text in zip(logs, texts, strict=True)])
    torch.testing.assert_close((-n * losses).exp().sum(), torch.ones(()).double(), **TIGHT)
    chances = logs.exp().gather(2, texts[..., None]).squeeze(-1)
    by_hand = -sum(math.log(chance) for chance in chances[17].tolist()) / n
    assert float(losses[17]) == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.equation("transformer-smoothing")
def test_smoothed_labels_are_what_is_printed():
    logits, right, share = normal(5, 7), torch.randint(7, (5,)), 0.1
    logs = logits.log_softmax(-1)
    plain = -sum(float(logs[t, right[t]]) for t in range(5)) / 5
    wanted = (1 - share) * plain - share / (5 * 7) * float(logs.sum())
    got = F.cross_entropy(logits, right, label_smoothing=share)
    assert float(got) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.equation("transformer-stream")
@torch.no_grad()
def test_with_the_norm_first_the_last_vector_is_the_first_plus_all_that_was_added():
    stack = shaken(TransformerEncoder(16, 2, 3, 20, dropout=0.0, norm_first=True).double())
    x, said = normal(2, 5, 16), []
    for layer in stack.layers:
        layer.self_attn.register_forward_hook(lambda *call: said.append(call[-1]))
        layer.linear2.register_forward_hook(lambda *call: said.append(call[-1]))
    out = stack(x)
    assert len(said) == 6
    torch.testing.assert_close(out, x + torch.stack(said).sum(0), **TIGHT)
    after = shaken(TransformerEncoder(16, 2, 3, 20, dropout=0.0).double())
    assert not torch.allclose(after(x), x + torch.stack(said).sum(0))


@pytest.mark.equation("transformer-scores-bytes")
def test_attention_written_out_keeps_one_table_a_head_for_its_gradient():
    b, h, n, c = 2, 3, 40, 4
    q, k, v = torch.randn(3, b, h, n, 8).requires_grad_()

    def tables(run):
        """Count the bytes of what is kept and has an entry for each pair and head."""
        held = {}

        def note(tensor):
            if tensor.numel() == b * h * n * n:
                held[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            result = run()
        assert result.requires_grad
        return sum(held.values())

    assert tables(lambda: (q @ k.mT / 8**0.5).softmax(-1) @ v) == b * h * n * n * c
    assert tables(lambda: F.scaled_dot_product_attention(q, k, v)) == 0


# ---------------------------------------------------------------- norms and depth


def test_pre_norm_keeps_the_gradient_and_post_norm_lets_it_fade():
    reach = {True: [], False: []}
    for first, start in itertools.product(reach, range(3)):
        torch.manual_seed(start)
        stack = TransformerEncoder(32, 2, 48, 128, 0.0, norm_first=first, final_norm=first)
        for parameter in stack.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)
        below = x = torch.randn(16, 18, 32, requires_grad=True)
        for layer in stack.layers:
            x = layer(x)
        out = x if stack.norm is None else stack.norm(x)
        near, far = torch.autograd.grad((out * torch.randn_like(out)).sum(), (x, below))
        reach[first].append(float(far.norm() / near.norm()))
    assert min(reach[True]) > 3
    assert math.prod(reach[False]) ** (1 / 3) < 1
    assert max(reach[True]) / min(reach[True]) < 1.5  # post-norm depends on the start


# ---------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(("build", "error", "message"), [
    (lambda: TransformerEncoder(12, 3, 0), ValueError, "num_layers=0"),
    (lambda: TransformerDecoder(12, 3, num_layers=-1), ValueError, "num_layers=-1"),
    (lambda: TransformerEncoder(12, 3, final_norm=0.0), TypeError, "final_norm=0.0 must be True"),
    (lambda: Transformer(12, 3, 0, 1), ValueError, "num_encoder_layers=0"),
    (lambda: Transformer(12, 3, 1, 0), ValueError, "num_decoder_layers=0"),
    (lambda: Transformer(12, 5), ValueError, "num_heads=5 does not divide embed_dim=12"),
])  # fmt: skip
def test_bad_stacks_are_refused(build, error, message):
    with refuses(error, message):
        build()


@pytest.mark.parametrize("build", [
    functools.partial(TransformerEncoder, 12, 3, 2, 20, final_norm=True),
    functools.partial(TransformerDecoder, 12, 3, 2, 20, final_norm=True),
    functools.partial(Transformer, 12, 3, 1, 1, 20),
    functools.partial(TransformerDecoderLayer, 12, 3, 20),
    functools.partial(MultiHeadAttention, 12, 3, 1),
])  # fmt: skip
def test_every_number_is_made_where_and_as_it_is_asked_for(build):
    for number in build(device="meta", dtype=torch.bfloat16).state_dict().values():
        assert (number.device.type, number.dtype) == ("meta", torch.bfloat16)


def test_bad_inputs_are_refused_by_name():
    layer, x = TransformerDecoderLayer(12, 3, 16), torch.zeros(2, 4, 12)
    with refuses(ValueError, "memory or cache: one of them must be given, got neither"):
        layer(x)
    with refuses(ValueError, "memory or cache: one of them must be given, got both"):
        layer(x, x, cache=layer.start(x, 4))
    with refuses(ValueError, "source must have shape (2, s, 12), got (1, 4, 12)"):
        layer(x, x[:1])
    with refuses(ValueError, "key_mask must have shape (2, 4), got (2, 3)"):
        layer(x, x, key_mask=torch.ones(2, 3, dtype=torch.bool))
    stack = TransformerEncoder(12, 3, 2, 16)
    with refuses(ValueError, "caches must hold one for each of 2 layers, got 1"):
        stack(x, caches=[KVCache(4)])
    with refuses(ValueError, "x must have shape (b, t, 12), got (2, 4, 8)"):
        TransformerEncoderLayer(12, 3, 16, norm_first=False)(torch.zeros(2, 4, 8))
