"""Encoder and decoder layers against torch.nn and transformers' BART, by weights."""

import itertools

import pytest
import torch
from torch import nn

from nnlib.blocks.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer
from tests.blocks.against_torch import AHEAD, PADDING, SMALL, TIGHT, normal, same, shaken
from tests.support import Peer, refuses

transformers = Peer("transformers")
bart = Peer("transformers.models.bart.modeling_bart")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.mark.equation(
    "transformer-attention-half", "transformer-network-half", "transformer-pre-norm"
)
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "more",
    [{}, {"activation": "gelu", "bias": False, "layer_norm_eps": 1e-3}],
    ids=["relu", "gelu"],
)
def test_encoder_layer_equals_torch(norm_first, training, more):
    theirs = nn.TransformerEncoderLayer(dropout=0.0, norm_first=norm_first, **SMALL, **more)
    theirs = shaken(theirs).train(training)
    ours = TransformerEncoderLayer.from_torch(theirs)
    assert ours.training == training
    x = normal(2, 5, 12).requires_grad_()
    ahead = torch.ones(5, 5, dtype=torch.bool).triu(1)
    real = ~PADDING[..., None]
    for mask, padding in itertools.product((None, ahead), (None, PADDING)):
        wanted = theirs(x, src_mask=mask, src_key_padding_mask=padding)
        key_mask = None if padding is None else ~padding
        got = ours(x, mask=None if mask is None else ~mask, key_mask=key_mask)
        if padding is not None:  # what stands at padding is nobody's business
            got, wanted = got * real, wanted * real
        same(ours, theirs, got, wanted, x)
    torch.testing.assert_close(ours(x, is_causal=True), ours(x, mask=~ahead), **TIGHT)


@pytest.mark.equation("transformer-cross")
@pytest.mark.parametrize("norm_first", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_decoder_layer_equals_torch(norm_first, training, padded):
    theirs = nn.TransformerDecoderLayer(dropout=0.0, norm_first=norm_first, **SMALL)
    theirs = shaken(theirs).train(training)
    ours = TransformerDecoderLayer.from_torch(theirs)
    x, memory = normal(2, 4, 12).requires_grad_(), normal(2, 5, 12).requires_grad_()
    own = torch.tensor([[False] * 4, [False] * 3 + [True]]) if padded else None
    seen = PADDING if padded else None
    wanted = theirs(
        x, memory, tgt_mask=AHEAD, tgt_key_padding_mask=own, memory_key_padding_mask=seen
    )
    key_masks = {"key_mask": ~own, "memory_key_mask": ~seen} if padded else {}
    same(ours, theirs, ours(x, memory, **key_masks), wanted, x, memory)
    narrow = torch.rand(4, 5) < 0.5
    narrow[:, 0] = False
    wanted = theirs(x, memory, memory_mask=narrow)
    got = ours(x, memory, memory_mask=~narrow, is_causal=False)
    torch.testing.assert_close(got, wanted, **TIGHT)


@pytest.mark.parametrize("norm_first", [True, False])
def test_dropout_scales_what_is_added_and_rests_in_evaluation(norm_first):
    layer = TransformerEncoderLayer(8, 2, 16, dropout=0.5, norm_first=norm_first)
    x = torch.randn(4, 3, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    torch.testing.assert_close(layer(x), layer(x), rtol=0, atol=0)
    gone = TransformerEncoderLayer(8, 2, 16, dropout=1.0, norm_first=True)
    torch.testing.assert_close(gone(x), x)  # nothing is added


@pytest.mark.parametrize("cls", [TransformerEncoderLayer, TransformerDecoderLayer])
@pytest.mark.parametrize(("options", "error", "message"), [
    ({"num_heads": 5}, ValueError, "num_heads=5 does not divide embed_dim=12"),
    ({"dim_feedforward": 0}, ValueError, "dim_feedforward=0 must be an integer ≥ 1"),
    ({"dim_feedforward": 2.5}, TypeError, "dim_feedforward=2.5 must be an integer"),
    ({"dropout": -0.1}, ValueError, "dropout=-0.1"),
    ({"activation": "swish"}, ValueError, "activation='swish' must be one of ['identity', 'sig"),
    ({"norm_first": None}, TypeError, "norm_first=None must be True or False"),
    ({"layer_norm_eps": -1.0}, ValueError, "eps=-1.0"),
])  # fmt: skip
def test_bad_layers_are_refused(cls, options, error, message):
    with refuses(error, message):
        cls(**{"embed_dim": 12, "num_heads": 3, **options})


@pytest.mark.equation("seq2seq-bart")
def test_a_layer_of_bart_is_that_of_transformers():
    torch.manual_seed(0)
    config = transformers.BartConfig(
        d_model=12, decoder_attention_heads=3, decoder_ffn_dim=20, dropout=0.0,
        attention_dropout=0.0, activation_dropout=0.0, attn_implementation="eager",
    )  # fmt: skip
    theirs = bart.BartDecoderLayer(config, layer_idx=0).double().eval()
    ours = TransformerDecoderLayer(12, 3, 20, dropout=0.0, activation="gelu").double()
    with torch.no_grad():
        for p in theirs.parameters():
            p.copy_(torch.randn(p.shape) * 0.5)
        for mine, other in ((ours.self_attn, theirs.self_attn),
                            (ours.multihead_attn, theirs.encoder_attn)):  # fmt: skip
            parts = other.q_proj, other.k_proj, other.v_proj
            mine.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
            mine.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
            mine.out_proj.load_state_dict(other.out_proj.state_dict())
    for mine, other in (
        (ours.norm1, theirs.self_attn_layer_norm), (ours.norm2, theirs.encoder_attn_layer_norm),
        (ours.norm3, theirs.final_layer_norm), (ours.linear1, theirs.fc1),
        (ours.linear2, theirs.fc2),
    ):  # fmt: skip
        mine.load_state_dict(other.state_dict())
    x, memory = normal(2, 6, 12), normal(2, 9, 12)
    wanted = theirs(
        x,
        attention_mask=torch.full((6, 6), -torch.inf).double().triu(1)[None, None],
        encoder_hidden_states=memory,
    )
    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
    torch.testing.assert_close(ours(x, memory), wanted, rtol=1e-9, atol=1e-12)
