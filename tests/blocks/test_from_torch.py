"""Copies of torch's modules: options, weights, mode; what cannot be copied is named."""

import pytest
import torch
from torch import nn

from nnlib.attention.transformer import (
    Transformer,
    TransformerDecoder,
    TransformerEncoder,
)
from nnlib.blocks.transformer_layer import TransformerDecoderLayer, TransformerEncoderLayer
from tests.support import refuses


def test_from_torch_copies_options_dtype_and_mode():
    theirs = nn.TransformerEncoderLayer(
        8, 2, 16, dropout=0.25, activation=nn.GELU("tanh"), norm_first=True, dtype=torch.float64
    ).eval()
    ours = TransformerEncoderLayer.from_torch(theirs)
    assert (ours.dropout.p, ours.self_attn.dropout, ours.activation) == (0.25, 0.25, "gelu_tanh")
    assert not ours.training
    assert ours.linear1.weight.dtype == torch.float64
    with torch.no_grad():
        theirs.linear1.weight.zero_()
    assert ours.linear1.weight.abs().sum() > 0  # a copy, not a view


@pytest.mark.parametrize("cls", [
    TransformerEncoderLayer, TransformerDecoderLayer, TransformerEncoder, TransformerDecoder,
    Transformer,
])  # fmt: skip
def test_from_torch_takes_only_its_namesake(cls):
    with refuses(TypeError, f"module must be a torch.nn.{cls.__name__}, got Linear"):
        cls.from_torch(nn.Linear(2, 2))


def test_from_torch_refuses_what_it_cannot_copy():
    theirs = nn.TransformerEncoderLayer(8, 2, 16, activation=torch.tanh)
    with refuses(ValueError, "must be ReLU or GELU"):
        TransformerEncoderLayer.from_torch(theirs)
    theirs = nn.TransformerEncoderLayer(8, 2, 16)
    theirs.norm1 = nn.RMSNorm(8)
    with refuses(ValueError, "norm1 must be a torch.nn.LayerNorm, got RMSNorm"):
        TransformerEncoderLayer.from_torch(theirs)
