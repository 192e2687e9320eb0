"""The equations of the chapter on FlashAttention, against brute force, autograd and torch."""

import functools
import itertools
import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from nnlib.kernels import attention as module
from nnlib.kernels.attention import (
    attention,
    attention_cost,
    attention_reference,
    attention_triton,
    visible,
)
from nnlib.kernels.trace import trace
from nnlib.kernels.traffic import moved
from tests.kernel_support import told_of_gpu_records
from tests.support import Example


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        inputs=(torch.randn(3, 4, 6, 8), torch.randn(3, 2, 6, 8), torch.randn(3, 2, 6, 8)),
        named={"is_causal": True},
    )


CHAPTER = Path(module.__file__).parents[2] / "chapters/kernels/flash_attention.md"


def row(n=40, d=5, spread=30.0):
    """Return one query's scores, wide enough that e^score would overflow, and the values."""
    return spread * torch.randn(n).double(), torch.randn(n, d).double()


def note(scores, values):
    """Return maximum, sum and mixture, by their definition."""
    m = scores.max()
    return m, (scores - m).exp().sum(), (scores - m).exp() @ values


def merge(one, other):
    """Join two notes, by the chapter's equation."""
    (m1, l1, a1), (m2, l2, a2) = one, other
    m = torch.maximum(m1, m2)
    first, second = (m1 - m).exp(), (m2 - m).exp()
    return m, first * l1 + second * l2, first * a1 + second * a2


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def heads(*shape):
    return [torch.randn(shape).double() for _ in range(3)]


@pytest.mark.equation("flash-attention-standard")
def test_the_table_gives_what_torch_gives():
    q, k, v = heads(2, 3, 20, 8)
    scores = torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(8)
    e = scores.exp()
    out = torch.einsum("bhij,bhjd->bhid", e / e.sum(-1, keepdim=True), v)
    torch.testing.assert_close(out, F.scaled_dot_product_attention(q, k, v))
    torch.testing.assert_close(out, attention_reference(q, k, v))


@pytest.mark.equation("flash-attention-state", "flash-attention-output")
def test_a_note_of_all_keys_holds_the_answer_and_the_logarithm_of_the_sum():
    scores, values = row()
    m, total, mixture = note(scores, values)
    torch.testing.assert_close(mixture / total, scores.softmax(0) @ values)
    torch.testing.assert_close(m + total.log(), scores.logsumexp(0))


@pytest.mark.equation("flash-attention-update")
@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_the_running_note_is_always_that_of_the_keys_met_so_far(size):
    scores, values = row()
    m, total, mixture = torch.tensor(-math.inf).double(), torch.zeros(()).double(), 0.0
    met = 0
    for s, v in zip(scores.split(size), values.split(size), strict=True):
        higher = torch.maximum(m, s.max())
        total = (m - higher).exp() * total + (s - higher).exp().sum()
        mixture = (m - higher).exp() * mixture + (s - higher).exp() @ v
        m, met = higher, met + len(s)
        assert_same((m, total, mixture), note(scores[:met], values[:met]))


@pytest.mark.equation("flash-attention-merge")
def test_notes_merge_in_any_order_and_brackets_into_the_note_of_the_union():
    scores, values = row()
    whole = note(scores, values)
    parts = [note(scores[at], values[at]) for at in torch.randperm(40).split(10)]
    for order in itertools.permutations(parts):
        assert_same(functools.reduce(merge, order), whole)
        assert_same(merge(merge(order[0], order[1]), merge(order[2], order[3])), whole)
    nobody = (torch.tensor(-math.inf).double(), torch.zeros(()).double(), torch.zeros(5).double())
    assert_same(merge(whole, nobody), whole)
    assert_same(merge(nobody, whole), whole)


def test_the_pencil_of_the_chapter_in_fractions():
    weights, values = [1, 2, 8, 4], [8, 2, 1, 6]
    half = Fraction(1, 2)
    total, mixture = half + 1, half * 8 + 2
    total, mixture = total / 4 + 1 + half, mixture / 4 + 1 + half * 6
    assert (total, mixture) == (Fraction(15, 8), Fraction(11, 2))
    wanted = Fraction(sum(w * v for w, v in zip(weights, values, strict=True)), sum(weights))
    assert mixture / total == wanted == Fraction(44, 15)


@pytest.mark.equation("flash-attention-distance")
def test_one_more_number_turns_a_dot_product_into_a_distance():
    x, y = torch.randn(2, 12, 6).double()
    q = torch.cat([x, torch.ones(12, 1)], 1)
    k = torch.cat([y, -y.square().sum(1, keepdim=True) / 2], 1)
    wanted = -torch.cdist(x, y).square() / 2 + x.square().sum(1, keepdim=True) / 2
    torch.testing.assert_close(q @ k.T, wanted)
    by_distance = (-torch.cdist(x, y).square() / 2).softmax(1)
    torch.testing.assert_close((q @ k.T).softmax(1), by_distance)


@pytest.mark.equation("flash-attention-recompute")
def test_one_number_a_query_gives_any_weight_back(kernel_device):
    q, k, v = (torch.randn(1, 2, 70, 16, device=kernel_device) for _ in range(3))
    _, lse = module._with_lse(q, k, v, False, None, None)
    scores = q @ k.mT / 4
    torch.testing.assert_close((scores - lse[..., None]).exp(), scores.softmax(-1))


def backwards():
    """Return a head, its table and a gradient that arrives, with autograd's for each part."""
    q, k, v = (x.requires_grad_() for x in heads(9, 5))
    scores = q @ k.T / math.sqrt(5)
    weights = scores.softmax(1)
    out = weights @ v
    arriving = torch.randn_like(out)
    wanted = torch.autograd.grad(out, (q, k, v, scores, weights), arriving)
    return [x.detach() for x in (q, k, v, weights, out)], arriving, wanted


@pytest.mark.equation("flash-attention-value-gradient")
def test_gradients_of_values_and_weights_are_autograds():
    (_, _, v, weights, _), arriving, (_, _, dv, _, dweights) = backwards()
    torch.testing.assert_close(weights.T @ arriving, dv)
    torch.testing.assert_close(arriving @ v.T, dweights)


@pytest.mark.equation("flash-attention-delta")
def test_the_mean_slope_of_a_row_needs_no_key():
    (_, _, v, weights, out), arriving, _ = backwards()
    over_keys = (weights * (arriving @ v.T)).sum(1)
    torch.testing.assert_close((arriving * out).sum(1), over_keys)


@pytest.mark.equation("flash-attention-score-gradient")
def test_gradients_of_scores_queries_and_keys_are_autograds():
    (q, k, _, weights, out), arriving, (dq, dk, _, dscores, dweights) = backwards()
    by_hand = weights * (dweights - (arriving * out).sum(1, keepdim=True))
    torch.testing.assert_close(by_hand, dscores)
    torch.testing.assert_close(by_hand @ k / math.sqrt(5), dq)
    torch.testing.assert_close(by_hand.T @ q / math.sqrt(5), dk)


@pytest.mark.equation("flash-attention-causal", "flash-attention-window")
@pytest.mark.parametrize(("t", "s"), [(6, 6), (3, 7), (7, 3), (1, 5)])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_who_sees_whom_pair_by_pair(t, s, window):
    table = visible(t, s, is_causal=True, window=window)
    for i, j in itertools.product(range(t), range(s)):
        back = i + s - t - j
        assert table[i, j] == (back >= 0 and (window is None or back < window))
    q, k, v = torch.randn(t, 4), torch.randn(s, 4), torch.randn(s, 4)
    got = attention(q[None, None], k[None, None], v[None, None], is_causal=True, window=window)
    for i in range(t):
        keys = table[i].nonzero().flatten()
        wanted = (q[i] @ k[keys].T / 2).softmax(0) @ v[keys] if len(keys) else torch.zeros(4)
        torch.testing.assert_close(got[0, 0, i], wanted)


@pytest.mark.equation("flash-attention-reach")
@pytest.mark.parametrize(("layers", "w"), [(4, 16), (1, 5), (3, 1), (2, 8)])
def test_reach_is_how_far_a_gradient_comes_from(layers, w):
    x = torch.randn(1, 1, 90, 4).double().requires_grad_()
    y = x
    for _ in range(layers):
        y = y + attention(y, y, y, is_causal=True, window=w)
    (grad,) = torch.autograd.grad(y[0, 0, -1].sum(), x)
    assert int(grad[0, 0].any(1).sum()) == layers * (w - 1) + 1


@pytest.mark.equation("flash-attention-group")
@pytest.mark.parametrize("g", [1, 2, 3, 6])
def test_each_head_reads_the_keys_of_its_group(g, kernel_device):
    q, k, v = (torch.randn(1, h, 20, 16, device=kernel_device) for h in (6, g, g))
    got = attention_triton(q, k, v)
    for i in range(6):
        j = i * g // 6
        one = attention_reference(q[:, i : i + 1], k[:, j : j + 1], v[:, j : j + 1])
        torch.testing.assert_close(got[:, i : i + 1], one)


def standard(q, k, v):
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return scores.softmax(-1) @ v


@pytest.mark.equation("flash-attention-memory")
def test_what_is_held_for_the_backward_pass_is_what_autograd_saves(kernel_device):
    h, n, d = 3, 70, 16
    q, k, v = (torch.randn(1, h, n, d, device=kernel_device) for _ in range(3))

    def held(form):
        """Return the bytes that autograd keeps, beside inputs and output."""
        kept = {}

        def keep(x):
            kept[x.data_ptr()] = x.numel() * x.element_size()
            return x

        leaves = [x.clone().requires_grad_() for x in (q, k, v)]
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            out = form(*leaves)
        known = {x.data_ptr() for x in (*leaves, out)}
        return sum(size for at, size in kept.items() if at not in known)

    scaled = 4 * h * n * d  # the queries times a number, which the table's form keeps as well
    assert held(standard) == 4 * h * n**2 + scaled
    assert held(attention_triton) == 4 * h * n


@pytest.mark.equation("flash-attention-compute")
def test_flops_are_those_that_torch_counts():
    shape = (1, 3, 64, 16)
    counted = trace(F.scaled_dot_product_attention, *(torch.randn(shape) for _ in range(3)))
    assert counted.cost.flops == 4 * 3 * 64**2 * 16
    assert attention_cost(shape, shape).flops == counted.cost.flops


@pytest.mark.equation("flash-attention-traffic")
@pytest.mark.interpreter
@pytest.mark.parametrize("n", [64, 128, 200])
def test_bytes_moved_are_those_that_programs_touch(n):
    d, block = 16, 64
    q, k, v = (torch.randn(1, 1, n, d) for _ in range(3))
    table = trace(standard, q, k, v).cost.bytes - 4 * 2 * n * d  # the scaling, on the way
    assert table == 4 * (4 * n * n + 4 * n * d)
    told = moved(attention_triton, q, k, v)
    assert told.asked + told.written == 4 * (2 * n * d + 2 * n * d * -(-n // block)) + 4 * n
    assert told.read == 4 * 3 * n * d


def test_the_page_shows_gpu_records_when_there_are_some():
    """With made-up records: the cell must run, and name device, date and ratio."""
    rows = [
        {"operation": operation, "direction": direction, "shape": {"b": 4, "h": 32, "t": 4096},
         "dtype": "bfloat16", "flops": 5 * 10**11, "bytes": 10**8,
         "seconds": {"nnlib": 1e-3, "torch": torch_seconds} if torch_seconds else {"nnlib": 1e-3}}
        for operation, direction, torch_seconds in (
            ("attention", "forward", 2e-3), ("attention", "backward", None),
            ("softmax", "forward", 1e-3))
    ]  # fmt: skip
    page = told_of_gpu_records(CHAPTER, rows)
    assert "Made-up GPU, 2030-01-02" in page
    assert "| b 4, h 32, t 4096 | bfloat16 | forward | 500 | 62% | 2.00 |" in page
    assert "| backward | 500 | 62% | – |" in page
    assert "softmax" not in page
