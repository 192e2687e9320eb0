"""The general score and the masked softmax against loops and torch's bilinear form."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlib.blocks.scored_attention import MultiplicativeAttention, masked_softmax
from tests.blocks.by_loops import DOUBLE, by_loops, general, normal, parts, same
from tests.support import refuses


@pytest.mark.equation("attention-general")
def test_general_attention_scores_by_a_bilinear_form():
    look, (s, h, v) = general(), parts()
    same(look(s, h, v), by_loops(lambda query, key: query @ look.weight.detach() @ key, s, h, v))
    form = nn.Bilinear(4, 6, 1, bias=False).double()
    form.weight.data[0] = look.weight
    torch.testing.assert_close(look.scores(s, h)[:, 1, 2], form(s[:, 1], h[:, 2])[:, 0])


def test_no_keys_at_all_give_zero():
    context, weights = general()(*parts(k=0))
    assert weights.shape == (2, 3, 0) and context.shape == (2, 3, 7) and (context == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_huge_scores_neither_overflow_nor_blur(dtype):
    e = torch.tensor([[[1e30, -1e30, 1e30], [-1e30, -1e30, -1e30]]], dtype=dtype)
    wanted = torch.tensor([[[0.5, 0.0, 0.5], [1 / 3] * 3]], dtype=dtype)
    torch.testing.assert_close(masked_softmax(e), wanted)


@settings(max_examples=25, deadline=None)
@given(shape=st.tuples(*[st.integers(1, 4)] * 6), seed=st.integers(0, 999), hide=st.booleans())
def test_any_shape_agrees_with_loops(shape, seed, hide):
    b, q, k, dq, dk, dv = shape
    s, h, v = normal(b, q, dq, seed=seed), normal(b, k, dk, seed=seed + 1), normal(b, k, dv)
    mask = normal(b, q, k, seed=seed + 2) > 0 if hide else None
    look = general(dq, dk)
    wanted = by_loops(lambda query, key: query @ look.weight.detach() @ key, s, h, v, mask)
    same(look(s, h, v, mask), wanted)


S, H, V = parts()


FORM = general()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: MultiplicativeAttention(4, 0), ValueError, "key_dim=0"),
        (
            lambda: FORM(S, H, V, torch.ones(2, 5).bool()),
            ValueError,
            "mask must broadcast to (2, 3, 5), got (2, 5)",
        ),
        (
            lambda: FORM(S, H, V, torch.ones(2, 3, 4).bool()),
            ValueError,
            "mask must broadcast to (2, 3, 5)",
        ),
        (
            lambda: FORM(S, H, V, torch.ones(2, 3, 5).long()),
            TypeError,
            "mask must be True where one may look",
        ),
        (lambda: FORM(S, H, V, [True]), TypeError, "mask must be a torch.Tensor"),
        (lambda: masked_softmax(S[0]), ValueError, "scores must have shape (b, q, k)"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
