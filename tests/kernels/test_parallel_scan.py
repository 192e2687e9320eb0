"""The equations of the chapter on scans, against loops, autograd and brute force."""

import heapq
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nnlib.kernels import linear_attention as attention
from nnlib.kernels import linear_scan as module
from nnlib.kernels._linear_attention_torch import chunked as chunked_products
from nnlib.kernels.linear_scan import linear_scan, linear_scan_reference, linear_scan_triton
from nnlib.kernels.scans import blelloch, chunked, counted, hillis_steele, sequential, sklansky
from nnlib.kernels.traffic import moved
from tests.kernel_support import told_of_gpu_records
from tests.support import Example


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        inputs=(torch.rand(3, 6, 4), torch.randn(3, 6, 4)), named={"h0": torch.randn(3, 4)}
    )


CHAPTER = Path(module.__file__).parents[2] / "chapters/kernels/parallel_scan.md"
LETTERS = list("abcdefghijklmnop")


def join(a, b):
    return a + b


@pytest.mark.equation("parallel-scan-definition")
@pytest.mark.parametrize("scan", [sequential, hillis_steele, sklansky])
def test_a_scan_holds_the_join_of_all_entries_up_to_each(scan):
    assert scan(join, LETTERS)[-1] == ["".join(LETTERS[: t + 1]) for t in range(16)]


def every_bracketing(combine, x):
    """Return the results of all ways to set brackets."""
    if len(x) == 1:
        return [x[0]]
    return [
        combine(left, right)
        for at in range(1, len(x))
        for left in every_bracketing(combine, x[:at])
        for right in every_bracketing(combine, x[at:])
    ]


@pytest.mark.equation("parallel-scan-associativity")
def test_where_triples_may_be_bracketed_anew_so_may_everything():
    """By brute force, over all operators on two elements."""
    for values in itertools.product((0, 1), repeat=4):
        operator = dict(zip(itertools.product((0, 1), repeat=2), values, strict=True))

        def combine(a, b, operator=operator):
            return operator[a, b]

        triples = itertools.product((0, 1), repeat=3)
        associative = all(len(set(every_bracketing(combine, x))) == 1 for x in triples)
        fives = itertools.product((0, 1), repeat=5)
        free = all(len(set(every_bracketing(combine, x))) == 1 for x in fives)
        assert associative == free
        if associative:
            for x in itertools.product((0, 1), repeat=8):
                wanted = sequential(combine, x)[-1]
                assert hillis_steele(combine, x)[-1] == sklansky(combine, x)[-1] == wanted
                assert chunked(combine, x, 3) == wanted


def greedy(parents, processors):
    """Return the time of a schedule that never leaves a processor idle without need."""
    waiting = {node: len(of) for node, of in parents.items()}
    children = {node: [n for n, of in parents.items() if node in of] for node in parents}
    ready = [node for node, left in waiting.items() if not left]
    heapq.heapify(ready)
    time = 0
    while ready:
        now = [heapq.heappop(ready) for _ in range(min(processors, len(ready)))]
        for child in itertools.chain.from_iterable(children[node] for node in now):
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, child)
        time += 1
    return time


@pytest.mark.equation("parallel-scan-brent")
@pytest.mark.parametrize("scan", [sequential, hillis_steele, sklansky])
@pytest.mark.parametrize("processors", [1, 2, 3, 5, 100])
def test_a_schedule_keeps_within_brents_bounds(scan, processors):
    parents = {}

    def operator(a, b):  # an operator's name is its number; entries are named -1
        parents[len(parents)] = {y for y in (a, b) if y >= 0}
        return len(parents) - 1

    scan(operator, [-1] * 16)
    _, work, depth = counted(scan, join, LETTERS)
    assert work == len(parents)
    time = greedy(parents, processors)
    assert max(work / processors, depth) <= time <= (work - depth) / processors + depth


@pytest.mark.equation("parallel-scan-doubling")
def test_after_r_rounds_each_holds_the_last_2_to_the_r_entries():
    for r, row in enumerate(hillis_steele(join, LETTERS)):
        assert row == ["".join(LETTERS[max(0, t + 1 - 2**r) : t + 1]) for t in range(16)]


@pytest.mark.equation("parallel-scan-doubling-cost")
@pytest.mark.parametrize("r", [1, 3, 6])
def test_doubling_costs_what_the_counters_say(r):
    n = 2**r
    assert counted(hillis_steele, max, range(n))[1:] == (n * r - n + 1, r)


@pytest.mark.equation("parallel-scan-tree")
def test_a_node_holds_its_total_on_the_way_up_and_what_stands_before_it_on_the_way_down():
    rounds = blelloch(join, LETTERS, "")
    for level in range(5):
        width = 2**level
        up, down = rounds[level], rounds[-1 - level]
        for first in range(0, 16, width):
            place = first + width - 1
            assert up[place] == "".join(LETTERS[first : first + width])
            assert down[place] == "".join(LETTERS[:first])


@pytest.mark.equation("parallel-scan-tree-cost")
@pytest.mark.parametrize("r", [1, 3, 6])
def test_a_tree_costs_what_the_counters_say(r):
    n = 2**r
    assert counted(blelloch, max, range(n), -1)[1:] == (2 * (n - 1), 2 * r - 1)
    assert len(blelloch(max, range(n), -1)) == 1 + r + 1 + r  # entries, up, the root, down


def affine(first, then):
    return first[0] * then[0], then[0] * first[1] + then[1]


def recurrence(t=20, d=3):
    return torch.randn(2, t, d).double(), torch.randn(2, t, d).double()


@pytest.mark.equation("parallel-scan-recurrence")
def test_the_recurrence_is_the_sum_over_all_paths():
    a, b = recurrence()
    wanted = sum(  # what was added at s, times every factor after s
        torch.cat([torch.zeros_like(b[:, :s]), torch.stack([
            b[:, s] * a[:, s + 1 : t + 1].prod(1) for t in range(s, 20)
        ], 1)], 1) for s in range(20)
    )  # fmt: skip
    torch.testing.assert_close(linear_scan(a, b), wanted)
    torch.testing.assert_close(linear_scan_reference(a, b), wanted)


@pytest.mark.equation("parallel-scan-pairs")
def test_two_pairs_joined_do_what_both_do_one_after_the_other():
    (a1, b1), (a2, b2), h = torch.randn(2, 50).double(), torch.randn(2, 50).double(), 0.7
    a, b = affine((a1, b1), (a2, b2))
    torch.testing.assert_close(a * h + b, a2 * (a1 * h + b1) + b2)
    a, b = (x[0, :, 0].tolist() for x in recurrence())
    states = [pair[1] for pair in hillis_steele(affine, list(zip(a, b, strict=True)))[-1]]
    wanted = linear_scan(*(torch.tensor(x).view(1, -1, 1) for x in (a, b))).flatten()
    torch.testing.assert_close(torch.tensor(states), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.equation("parallel-scan-chunks")
@pytest.mark.parametrize("length", [1, 3, 4, 16])
def test_a_carry_joined_with_a_chunks_own_scan_is_the_scan(length):
    carry, found = "", []
    for at in range(0, 16, length):
        own = sequential(join, LETTERS[at : at + length])[-1]
        found += [carry + z for z in own]
        carry += own[-1]
    assert found == chunked(join, LETTERS, length) == sequential(join, LETTERS)[-1]


@pytest.mark.equation("parallel-scan-gradient")
@pytest.mark.parametrize("form", [linear_scan_reference, linear_scan])
def test_the_gradient_is_a_scan_from_the_end(form):
    a, b = (x.requires_grad_() for x in recurrence())
    h, arriving = form(a, b), torch.randn(2, 20, 3).double()
    da, db = torch.autograd.grad(h, (a, b), arriving)
    delta, wanted = torch.zeros(2, 3).double(), []
    for t in reversed(range(20)):
        delta = arriving[:, t] + (a[:, t + 1] * delta if t < 19 else 0)
        wanted.insert(0, delta)
    delta = torch.stack(wanted, 1)
    torch.testing.assert_close(db, delta)
    before = torch.cat([torch.zeros(2, 1, 3).double(), h[:, :-1]], 1)
    torch.testing.assert_close(da, delta * before)


@pytest.mark.equation("parallel-scan-rounding")
@pytest.mark.parametrize("n", [64, 1000])
@pytest.mark.parametrize("signed", [False, True])
def test_rounding_stays_below_depth_times_a_unit(n, signed):
    """The bound holds for any numbers; and a loop over equal ones shows that n matters."""
    x = np.random.default_rng(0).random(n, dtype=np.float32) - np.float32(0.5 * signed)
    exact, unit = math.fsum(x.tolist()), 2.0**-24
    for scan, depth in ((sequential, n - 1), (hillis_steele, math.ceil(math.log2(n)))):
        got = scan(lambda a, b: np.float32(a + b), list(x))[-1][-1] if n < 100 else None
        if got is None:
            got = pairwise_last(x) if scan is hillis_steele else np.add.accumulate(x)[-1]
        assert abs(float(got) - exact) <= depth * unit * np.abs(x).sum(dtype=np.float64) * 1.001


def pairwise_last(x):
    x, reach = x.copy(), 1
    while reach < len(x):
        x[reach:] = x[reach:] + x[:-reach]
        reach *= 2
    return x[-1]


def test_a_loop_loses_what_a_tree_keeps():
    x = np.full(2**20, 0.1, dtype=np.float32)
    exact = float(x[0]) * len(x)
    assert abs(np.add.accumulate(x)[-1] / exact - 1) > 100 * abs(pairwise_last(x) / exact - 1)
    assert abs(np.add.accumulate(x)[-1] / exact - 1) > 1e-4


@pytest.mark.equation("parallel-scan-traffic")
@pytest.mark.interpreter
@pytest.mark.parametrize(("steps", "passes"), [(64, 3), (512, 5)])
def test_bytes_moved_are_those_that_programs_touch(steps, passes):
    a, b = torch.rand(1, steps, 64), torch.randn(1, steps, 64)
    chunks = -(-steps // module.chunk_length(1, steps, 64))
    told = moved(linear_scan_triton, a, b)
    carries = 0 if chunks == 1 else 64 * (2 * chunks + 3 * (chunks - 1) + 1 + chunks)
    assert told.asked + told.written == 4 * (passes * a.numel() + carries)


def heads(t=40):
    q, k, v = (torch.randn(1, 1, t, width).double() for width in (5, 5, 4))
    return q, k, v, -torch.rand(1, 1, t).double()


@pytest.mark.equation("parallel-scan-linear-attention")
def test_linear_attention_is_a_linear_scan_of_matrices():
    q, k, v, g = heads()
    written = (k[..., :, None] * v[..., None, :]).view(1, 40, 20)
    states = linear_scan(g[0].exp()[..., None].expand(1, 40, 20), written).view(40, 5, 4)
    y, end = attention.linear_attention(q, k, v, g)
    torch.testing.assert_close(y[0, 0], torch.einsum("tdv,td->tv", states, q[0, 0]))
    torch.testing.assert_close(end[0, 0], states[-1])


@pytest.mark.equation("parallel-scan-attention-table")
def test_written_out_it_is_attention_without_a_softmax():
    q, k, v, g = (x[0, 0] for x in heads())
    wanted = torch.stack([
        sum(g[s + 1 : t + 1].sum().exp() * (q[t] @ k[s]) * v[s] for s in range(t + 1))
        for t in range(40)
    ])  # fmt: skip
    for form in (attention.linear_attention_parallel, attention.linear_attention_chunked):
        y, _ = form(*(x[None, None] for x in (q, k, v, g)))
        torch.testing.assert_close(y[0, 0], wanted)


@pytest.mark.equation("parallel-scan-attention-chunk", "parallel-scan-attention-state")
@pytest.mark.parametrize("length", [1, 7, 40])
def test_chunks_and_the_states_between_them_give_the_loop(length):
    q, k, v, g = heads()
    wanted, end = attention.linear_attention_reference(q, k, v, g)
    state, found = torch.zeros(5, 4).double(), []
    parts = (x[0, 0].split(length) for x in (q, k, v, g))
    for q_c, k_c, v_c, g_c in zip(*parts, strict=True):
        total = g_c.cumsum(0)
        for i in range(len(g_c)):
            y = total[i].exp() * state.T @ q_c[i]
            for j in range(i + 1):
                y = y + (total[i] - total[j]).exp() * (q_c[i] @ k_c[j]) * v_c[j]
            found.append(y)
        state = total[-1].exp() * state + sum(
            (total[-1] - total[j]).exp() * k_c[j][:, None] * v_c[j] for j in range(len(g_c))
        )
    torch.testing.assert_close(torch.stack(found), wanted[0, 0])
    torch.testing.assert_close(state, end[0, 0])


@pytest.mark.equation("parallel-scan-attention-cost")
@pytest.mark.parametrize("length", [8, 16, 32])
def test_multiplications_are_those_that_torch_counts(length):
    n, d, v = 64, 12, 20
    given = [torch.randn(1, 1, n, width) for width in (d, d, v)] + [-torch.rand(1, 1, n)]
    assert products(chunked_products, *given, None, 1.0, length) == n * (
        length * (d + v) + 2 * d * v
    )


def products(form, *given):
    """Return the multiplications of all matrix products that a call asks for."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        form(*given)
    return counter.get_total_flops() // 2


def test_the_page_shows_gpu_records_when_there_are_some():
    """With made-up records: the cell must run, and name device, date and share."""
    rows = [
        {"operation": operation, "direction": "forward", "shape": {"b": 4, "t": 4096},
         "dtype": "bfloat16", "flops": 10**9, "bytes": 2 * 10**9, "limit": "copy",
         "seconds": {"nnlib": 1e-3}}
        for operation in ("linear_scan", "linear_attention", "softmax")
    ]  # fmt: skip
    page = told_of_gpu_records(CHAPTER, rows)
    assert "Made-up GPU, 2030-01-02" in page
    assert "| linear_scan | b 4, t 4096 | bfloat16 | forward | 1.000 | 50% |" in page
    assert "linear_attention" in page
    assert "softmax" not in page
