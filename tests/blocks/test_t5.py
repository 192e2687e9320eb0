"""T5's layer, its buckets and its bias against transformers."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.blocks.t5 import RelativePositionBias, T5Layer, relative_bucket
from tests.support import Peer, refuses

transformers = Peer("transformers")
t5 = Peer("transformers.models.t5.modeling_t5")
EXACT = {"rtol": 0, "atol": 0}
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
SINGLE = {"rtol": 1e-4, "atol": 1e-5}  # the norm of transformers' T5 computes in single precision


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def t5_config(decoder, **options):
    """A tiny T5 of transformers, without dropout."""
    return transformers.T5Config(
        d_model=12, d_kv=4, num_heads=3, d_ff=20, dropout_rate=0.0, is_decoder=decoder,
        use_cache=False, attn_implementation="eager", **options,
    )  # fmt: skip


def copied(theirs, decoder):
    """Our layer with the weights of theirs; their scores lack the root of a head's width, 4."""
    ours = T5Layer(12, 3, 20, reads_memory=decoder, dropout=0.0).double()
    first, last = theirs.layer[0], theirs.layer[-1]
    pairs = [(ours.self_attn, first.SelfAttention)]
    norms = [(ours.norm1, first.layer_norm), (ours.norm3, last.layer_norm)]
    if decoder:
        pairs.append((ours.cross_attn, theirs.layer[1].EncDecAttention))
        norms.append((ours.norm2, theirs.layer[1].layer_norm))
    with torch.no_grad():
        for mine, other in pairs:
            weights = [other.q.weight * math.sqrt(4), other.k.weight, other.v.weight]
            mine.in_proj_weight.copy_(torch.cat(weights))
            mine.out_proj.weight.copy_(other.o.weight)
        for mine, other in norms:
            other.weight.copy_(torch.rand(12) + 0.5)
            mine.weight.copy_(other.weight)
        ours.linear1.weight.copy_(last.DenseReluDense.wi.weight)
        ours.linear2.weight.copy_(last.DenseReluDense.wo.weight)
    return ours


def hidden_later(t):
    return torch.full((t, t), -torch.inf, dtype=torch.float64).triu(1)[None, None]


@pytest.mark.equation(
    "seq2seq-t5-self", "seq2seq-t5-cross", "seq2seq-t5-network", "seq2seq-t5-score"
)
@pytest.mark.parametrize("decoder", [True, False])
def test_a_layer_of_t5_is_that_of_transformers(decoder):
    torch.manual_seed(0)
    theirs = t5.T5Block(t5_config(decoder), has_relative_attention_bias=True, layer_idx=0).double()
    ours = copied(theirs, decoder)
    attention = theirs.layer[0].SelfAttention
    nn.init.normal_(attention.relative_attention_bias.weight)
    bias = RelativePositionBias(3, bidirectional=not decoder).double()
    bias.weight.data = attention.relative_attention_bias.weight.data
    x = normal(2, 40, 12).requires_grad_()
    memory = normal(2, 7, 12, seed=1) if decoder else None
    real = torch.arange(7) < torch.tensor([[7], [4]])
    added = torch.zeros(2, 1, 1, 7).double().masked_fill(~real[:, None, None], -torch.inf)
    mask = hidden_later(40) if decoder else None
    wanted = theirs(
        x, attention_mask=mask, encoder_hidden_states=memory,
        encoder_attention_mask=added if decoder else None,
    )[0]  # fmt: skip
    got = ours(x, memory, bias=bias(40, 40), memory_key_mask=real if decoder else None)
    torch.testing.assert_close(got, wanted, **SINGLE)
    weight = normal(*got.shape, seed=2)
    slopes = [torch.autograd.grad((out * weight).sum(), x, retain_graph=True)[0]
              for out in (got, wanted)]  # fmt: skip
    torch.testing.assert_close(*slopes, **SINGLE)
    table = attention.relative_attention_bias.weight
    slopes = [torch.autograd.grad((out * weight).sum(), p)[0]
              for out, p in ((got, bias.weight), (wanted, table))]  # fmt: skip
    torch.testing.assert_close(*slopes, **SINGLE)


@pytest.mark.equation("seq2seq-memory", "seq2seq-t5-self", "seq2seq-t5-network")
def test_a_stack_of_layers_is_the_encoder_of_transformers_and_padding_is_not_seen():
    torch.manual_seed(0)
    theirs = t5.T5Stack(t5_config(False, num_layers=3)).double().eval()
    layers = [copied(block, False) for block in theirs.block]
    bias = RelativePositionBias(3).double()
    table = theirs.block[0].layer[0].SelfAttention.relative_attention_bias.weight
    bias.weight.data = nn.init.normal_(table).data
    x = normal(2, 30, 12)
    real = torch.arange(30) < torch.tensor([[30], [17]])
    got = x
    for layer in layers:
        got = layer(got, bias=bias(30, 30), key_mask=real)
    got = F.rms_norm(got, (12,), theirs.final_layer_norm.weight, 1e-6)
    wanted = theirs(inputs_embeds=x, attention_mask=real.long()).last_hidden_state
    torch.testing.assert_close(got[real], wanted[real], **SINGLE)
    alone = x[1:, :17]
    for layer in layers:
        alone = layer(alone, bias=bias(17, 17))
    alone = F.rms_norm(alone, (12,), theirs.final_layer_norm.weight, 1e-6)
    torch.testing.assert_close(alone[0], got[1, :17], **CLOSE)


@pytest.mark.equation("seq2seq-t5-bucket")
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "most"), [(32, 128), (32, 40), (8, 20), (4, 100)])
def test_buckets_are_those_of_transformers_and_of_the_formula(bidirectional, buckets, most):
    offset = torch.arange(-300, 300)
    got = relative_bucket(
        offset, bidirectional=bidirectional, num_buckets=buckets, max_distance=most
    )
    wanted = t5.T5Attention._relative_position_bucket(offset, bidirectional, buckets, most)
    assert torch.equal(got, wanted)
    one = buckets // 2 if bidirectional else buckets
    exact = one // 2
    for o, b in zip(offset.tolist(), got.tolist(), strict=True):
        d = abs(o) if bidirectional else max(-o, 0)
        want = d
        if d >= exact:
            growth = math.log(d / exact) / math.log(most / exact) * (one - exact)
            if abs(growth - round(growth)) < 1e-5:
                continue  # a border, where single precision decides
            want = min(one - 1, exact + math.floor(growth))
        assert b == want + (one if bidirectional and o > 0 else 0)


def test_the_bias_of_the_last_places_is_the_end_of_the_whole():
    bias = RelativePositionBias(2, bidirectional=False)
    nn.init.normal_(bias.weight)
    torch.testing.assert_close(bias(3, 10), bias(10, 10)[:, :, 7:], **EXACT)


def test_fresh_weights_of_t5_keep_the_size_of_what_they_read():
    torch.manual_seed(0)
    config = transformers.T5Config(d_model=64, d_kv=16, num_heads=4, d_ff=256, num_layers=1)
    theirs = transformers.T5Model(config).decoder.block[0]
    ours = T5Layer(64, 4, 256, reads_memory=True)
    attention, network = theirs.layer[0].SelfAttention, theirs.layer[2].DenseReluDense
    q, k, v = ours.self_attn.in_proj_weight.split(64)
    for mine, wanted in (
        (q, attention.q.weight * 4), (k, attention.k.weight), (v, attention.v.weight),
        (ours.self_attn.out_proj.weight, attention.o.weight),
        (ours.linear1.weight, network.wi.weight), (ours.linear2.weight, network.wo.weight),
    ):  # fmt: skip
        torch.testing.assert_close(mine.std(), wanted.std(), rtol=0.08, atol=0)


def test_a_decoder_of_t5_sees_nothing_later_and_needs_its_norms():
    torch.manual_seed(0)
    layer = T5Layer(12, 3, 20, reads_memory=True).double().eval()
    x, memory = normal(1, 6, 12), normal(1, 4, 12, seed=1)
    later = x.clone()
    later[:, 4] += 1
    apart = (layer(later, memory) - layer(x, memory)).abs().amax((0, 2))
    assert (apart[:4] == 0).all() and (apart[4:] > 0).all()
    torch.testing.assert_close(layer(1e4 * x, memory) / 1e4, x, rtol=0, atol=1e-2)
    layer.norm1, layer.norm2, layer.norm3 = (nn.Identity() for _ in range(3))
    assert (layer(1e4 * x, memory) / 1e4 - x).abs().max() > 0.1


def test_t5s_parts_refuse_bad_input_by_name():
    with refuses(ValueError, "num_buckets=7 must be even"):
        relative_bucket(torch.zeros(1).long(), num_buckets=7)
    with refuses(ValueError, "max_distance=8 must be larger than 8"):
        relative_bucket(torch.zeros(1).long(), max_distance=8)
    with refuses(TypeError, "offset must hold integers, got torch.float32"):
        relative_bucket(torch.zeros(1))
    with refuses(ValueError, "s=3 must be t=4 or more"):
        RelativePositionBias(2)(4, 3)
    x = torch.zeros(1, 2, 12)
    with refuses(ValueError, "memory must be None with this layer, got a tensor"):
        T5Layer(12, 3)(x, x)
    with refuses(ValueError, "memory must be a tensor with this layer, got None"):
        T5Layer(12, 3, reads_memory=True)(x)
    with refuses(ValueError, "dim_feedforward=0 must be an integer ≥ 1"):
        T5Layer(12, 3, 0)
