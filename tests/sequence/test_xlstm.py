"""xLSTM against loops in numpy, unstabilised gates, the authors' package and transformers."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from benchmarks.peers import declare_torchvision
from nnlib.kernels.linear_attention import linear_attention_reference
from nnlib.sequence import mamba
from nnlib.sequence.xlstm import (
    MLSTM,
    SLSTM,
    BlockDiagonal,
    HeadNorm,
    MLSTMBlock,
    MLSTMState,
    SLSTMBlock,
    mlstm_chunkwise,
    mlstm_parallel,
    mlstm_recurrent,
    mlstm_weights,
    slstm,
    soft_cap,
    xLSTM,
    xLSTMLarge,
    xLSTMLargeBlock,
)
from tests import writing_support
from tests.support import Example, Peer, refuses

package = Peer("xlstm")
backends = Peer("xlstm.blocks.mlstm.backends")
vanilla = Peer("xlstm.blocks.slstm.src.vanilla")
transformers = Peer("transformers")
declare_torchvision()
DOUBLE = torch.float64
FORMS = {
    "recurrent": mlstm_recurrent,
    "parallel": mlstm_parallel,
    "chunkwise": mlstm_chunkwise,
    "chunks of 7": lambda *given, **how: mlstm_chunkwise(*given, chunk_size=7, **how),
}


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    sizes = {"vocab_size": 11, "embed_dim": 8, "num_layers": 2, "num_heads": 2, "slstm_at": (1,)}
    return Example(sizes, (torch.randint(11, (4, 7)),))


def same(got, wanted, atol=1e-12, rtol=0.0):
    torch.testing.assert_close(got, torch.as_tensor(wanted), rtol=rtol, atol=atol)


def drawn(b=2, n=2, t=11, d=4, v=3, seed=0, scale=2.0, dtype=DOUBLE):
    """Return queries, keys, values, and gates before their functions."""
    g = torch.Generator().manual_seed(seed)
    shapes = (d, d, v)
    parts = [torch.randn(b, n, t, w, generator=g, dtype=DOUBLE) for w in shapes]
    gates = [scale * torch.randn(b, n, t, generator=g, dtype=DOUBLE) for _ in "if"]
    return tuple(part.to(dtype) for part in (*parts, *gates))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def spread(module, size=0.4):
    """Give every weight of a module in float64 a value that makes a difference."""
    module = module.double()
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=g, dtype=DOUBLE))
    return module


def weights_of(module):
    return {name: part.detach().numpy() for name, part in module.state_dict().items()}


# ------------------------------------------------------------------------------------------ mLSTM
def plain_mlstm(q, k, v, i, f, forget=sigmoid):
    """The mLSTM without a stabiliser, one sequence and head, in numpy."""
    C, z, outputs = np.zeros((q.shape[1], v.shape[1])), np.zeros(q.shape[1]), []
    for t in range(len(q)):
        keep, write, key = forget(f[t]), np.exp(i[t]), k[t] / math.sqrt(q.shape[1])
        C = keep * C + write * np.outer(key, v[t])
        z = keep * z + write * key
        outputs.append(C.T @ q[t] / max(abs(z @ q[t]), 1.0))
    return np.stack(outputs), C, z


@pytest.mark.equation("xlstm-memory", "xlstm-normaliser", "xlstm-read")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("gate", "function"), [("sigmoid", sigmoid), ("exp", np.exp)])
def test_it_is_the_printed_recurrence_in_numpy_without_a_stabiliser(form, gate, function):
    given = drawn()
    h, state = FORMS[form](*given, forget_gate=gate, eps=0)
    for b in range(2):
        for n in range(2):
            q, k, v, i, f = (part[b, n].numpy() for part in given)
            wanted, C, z = plain_mlstm(q, k, v, i, f, function)
            scale = np.exp(state.m[b, n].item())
            same(h[b, n], wanted, atol=1e-11, rtol=1e-11)
            same(scale * state.C[b, n], C, atol=1e-11, rtol=1e-11)
            same(scale * state.z[b, n], z, atol=1e-11, rtol=1e-11)


@settings(deadline=None, max_examples=40)
@given(
    t=st.integers(0, 90), b=st.integers(1, 2), n=st.integers(1, 3), d=st.integers(1, 4),
    v=st.integers(1, 4), chunk=st.integers(1, 50), begun=st.booleans(),
    gate=st.sampled_from(["sigmoid", "exp"]), scale=st.sampled_from([0.0, 1.0, 10.0]),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_recurrent_parallel_and_chunkwise_are_one(t, b, n, d, v, chunk, begun, gate, scale, seed):
    given = drawn(b, n, t, d, v, seed, scale)
    state = mlstm_recurrent(*drawn(b, n, 5, d, v, seed + 1))[1] if begun else None
    h, wanted = mlstm_recurrent(*given, state, forget_gate=gate)
    size = max(1.0, float(h.abs().max())) if t else 1.0
    for got, after in (
        mlstm_parallel(*given, state, forget_gate=gate),
        mlstm_chunkwise(*given, state, forget_gate=gate),
        mlstm_chunkwise(*given, state, forget_gate=gate, chunk_size=chunk),
    ):
        same(got / size, h / size, atol=1e-10)
        for ours, its in zip(after, wanted, strict=True):
            same(ours, its, atol=1e-10, rtol=1e-10)


def test_their_gradients_are_one_as_well():
    def gradients(form):
        given = [part.clone().requires_grad_() for part in drawn(t=23)]
        h, state = form(*given)
        memory = state.m.exp()[..., None, None] * state.C  # whatever the stabiliser
        (h.sin().sum() + memory.tanh().sum() + state.z.sin().sum()).backward()
        return [part.grad for part in given]

    wanted = gradients(mlstm_recurrent)
    assert all(grad.abs().max() > 1e-3 for grad in wanted)
    for form in FORMS.values():
        for got, its in zip(gradients(form), wanted, strict=True):
            same(got, its, atol=1e-10, rtol=1e-9)


def test_the_gradient_is_that_of_finite_differences():
    """m is held constant on the way back, which is right because outputs do not depend on it."""
    given = [part[:1, :1, :5].clone().requires_grad_() for part in drawn(scale=1.0)]

    def outputs(*parts):
        return mlstm_chunkwise(*parts, eps=0)[0]

    assert torch.autograd.gradcheck(outputs, given)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("t", [1, 11, 70, 130])  # a step, a table, chunks
def test_in_bfloat16_it_is_itself_within_the_rounding(form, t):
    parts = drawn(t=t, scale=1.0, dtype=torch.bfloat16)
    wanted, end = FORMS[form](*(part.double() for part in parts))
    h, state = FORMS[form](*parts)
    assert h.dtype == torch.bfloat16 and state.C.dtype == torch.float32
    assert (h.double() - wanted).norm() < 0.02 * wanted.norm()
    memory, its = (s.m.double().exp()[..., None, None] * s.C for s in (state, end))
    assert (memory - its).norm() < 0.02 * its.norm()
    again, _ = FORMS[form](*parts, state)  # what it keeps, it also takes
    assert again.dtype == torch.bfloat16


def test_two_thousand_steps_in_float32():
    given = drawn(1, 2, 2000, 16, 16, scale=1.0, dtype=torch.float32)
    given = (*given[:4], given[4] + 3)
    wanted = mlstm_recurrent(*(part.double() for part in given))[0]
    for form in FORMS.values():
        assert (form(*given)[0] - wanted).abs().max() / wanted.abs().max() < 1e-4


@pytest.mark.equation("xlstm-stabiliser", "xlstm-stable-gates", "xlstm-unrolled")
def test_the_stabiliser_is_a_running_maximum_and_changes_no_output():
    q, k, v, i, f = drawn(t=30, scale=4.0)
    log_f = F.logsigmoid(f)
    m = torch.full((2, 2), -math.inf, dtype=DOUBLE)
    for t in range(30):
        before, m = m, torch.maximum(log_f[..., t] + m, i[..., t])
        keep, write = (log_f[..., t] + before - m).exp(), (i[..., t] - m).exp()
        assert torch.maximum(keep, write).sub(1).abs().max() < 1e-12  # one of them is 1
        same(mlstm_chunkwise(q, k, v, i, f)[1].m if t == 29 else m, m)
        total = log_f.cumsum(-1)
        unrolled = total[..., t] + (i - total)[..., : t + 1].amax(-1)
        same(unrolled, m)
    # any other stabiliser gives the same: start from a state that is scaled by hand
    state = mlstm_recurrent(q, k, v, i, f, eps=0)[1]
    for shift in (-3.0, 5.0):
        moved = MLSTMState(state.C * math.exp(-shift), state.z * math.exp(-shift), state.m + shift)
        for form in FORMS.values():
            same(form(q, k, v, i, f, moved, eps=0)[0], form(q, k, v, i, f, state, eps=0)[0], 1e-9)


@pytest.mark.equation("xlstm-table", "xlstm-parallel")
def test_the_parallel_form_is_a_product_with_a_table_written_out():
    q, k, v, i, f = drawn(b=1, n=1, t=6)
    table = mlstm_weights(i, f)[0, 0]
    D = np.full((6, 6), -np.inf)
    for t in range(6):
        for s in range(t + 1):
            D[t, s] = np.log(sigmoid(f[0, 0, s + 1 : t + 1].numpy())).sum() + i[0, 0, s].item()
    m = D.max(1, keepdims=True)
    same(table, np.exp(D - m))
    keys = k[0, 0] / 2  # √d, in the keys of xlstm-keys; S divides no more
    S = (q[0, 0] @ keys.T).numpy() * np.exp(D - m)
    divisor = np.maximum(np.abs(S.sum(1, keepdims=True)), np.exp(-m))
    same(mlstm_parallel(q, k, v, i, f, eps=0)[0][0, 0], S @ v[0, 0].numpy() / divisor)


def test_without_gates_and_divisor_it_is_linear_attention():
    """All gates open, keys that make the divisor known: the kernel's own loop, divided."""
    q, k, v, i, f = drawn()
    i, f = torch.zeros_like(i), torch.full_like(f, 50.0)
    read, _ = linear_attention_reference(q, k, v, torch.zeros_like(f), scale=0.5)
    total = torch.einsum("bntd,bntd->bnt", q, k.cumsum(2)) / 2
    same(mlstm_chunkwise(q, k, v, i, f, eps=0)[0], read / total.abs().clamp(min=1)[..., None])


def test_its_step_is_the_line_of_the_table_of_state_updates():
    q, k, v, i, f = drawn(t=4)
    S, z = torch.zeros(2, 2, 4, 3, dtype=DOUBLE), torch.zeros(2, 2, 4, dtype=DOUBLE)
    for t in range(4):
        gates = f[:, :, t].sigmoid(), i[:, :, t].exp()
        S, z = mamba.mlstm_update(S, z, k[:, :, t] / 2, v[:, :, t], *gates)
    state = mlstm_chunkwise(q, k, v, i, f)[1]
    same(state.m.exp()[..., None, None] * state.C, S)
    same(state.m.exp()[..., None] * state.z, z)


@pytest.mark.parametrize("length", [1, 2, 64, 65, 130])
def test_the_kernels_own_path_is_the_recurrence_on_both_sides_of_one_chunk(length):
    given = drawn(t=length)
    wanted = mlstm_recurrent(*given)
    for how in ({}, {"chunk_size": 64}, {"chunk_size": 1000}):
        h, state = mlstm_chunkwise(*given, **how)
        same(h, wanted[0], atol=1e-9)
        for ours, its in zip(state, wanted[1], strict=True):
            same(ours, its, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS)
def test_gates_of_any_size_give_finite_outputs_and_gradients(form):
    for bias in (-1e4, -100.0, 100.0, 1e4):
        for gate in ("sigmoid", "exp"):
            given = drawn(t=40, scale=5.0, dtype=torch.float32)
            given = [*given[:3], given[3] + bias, given[4] * 100]
            given = [part.requires_grad_() for part in given]
            h, state = FORMS[form](*given, forget_gate=gate)
            h.sum().backward()
            assert h.isfinite().all() and all(part.isfinite().all() for part in state)
            assert all(part.grad.isfinite().all() for part in given)


@pytest.mark.equation("xlstm-path")
def test_the_way_from_one_memory_to_a_later_one_is_the_forget_gates_alone():
    q, k, v, i, f = drawn(b=1, n=1, t=9)
    state = mlstm_recurrent(q, k, v, i, f)[1]

    def later(memory):
        moved = MLSTMState(memory * (-state.m).exp()[..., None, None], *state[1:])
        end = mlstm_chunkwise(q, k, v, i, f, moved)[1]
        return end.m.exp()[..., None, None] * end.C

    memory = state.m.exp()[..., None, None] * state.C
    jacobian = torch.autograd.functional.jacobian(later, memory).view(12, 12)
    same(jacobian, f.sigmoid().prod() * torch.eye(12, dtype=DOUBLE))


@pytest.mark.equation("xlstm-overflow")
def test_plain_exponential_gates_overflow_when_the_formula_says():
    """The step at which float32 ends, for a forget gate e^a throughout."""
    largest = math.log(torch.finfo(torch.float32).max)
    for a in (1.0, 2.0, 3.0):
        c, steps = torch.tensor(0.0), 0
        while c.isfinite():
            c, steps = c * math.exp(a) + 1, steps + 1
        # c_t = (e^{at} − 1) / (e^a − 1)
        assert steps == math.ceil((largest + math.log(math.exp(a) - 1)) / a)
        assert steps == {1.0: 90, 2.0: 46, 3.0: 31}[a]
    x = torch.zeros(1, 1000, 4)
    x[..., 0], x[..., 1], x[..., 2] = 1.0, 3.0, 1.0
    h, _ = slstm(x, torch.zeros(1, 4, 1), forget_gate="exp")
    assert h.isfinite().all()
    same(h, torch.full_like(h, 0.5 * math.tanh(1.0)), atol=1e-6)  # a mean of what is the same


def test_what_does_not_fit_an_mlstm_is_refused_by_name():
    q, k, v, i, f = drawn()
    for form in (mlstm_chunkwise, mlstm_parallel, mlstm_recurrent):
        with refuses(ValueError, "k must have shape (2, 2, 11, 4), got (2, 2, 11, 5)"):
            form(q, F.pad(k, (0, 1)), v, i, f)
        with refuses(ValueError, "forget_gate='tanh' must be one of ['sigmoid', 'exp']"):
            form(q, k, v, i, f, forget_gate="tanh")
        with refuses(ValueError, "eps=-1 must be a finite number ≥ 0"):
            form(q, k, v, i, f, eps=-1)
        with refuses(TypeError, "state must be an MLSTMState, got list"):
            form(q, k, v, i, f, [1, 2, 3])
        with refuses(ValueError, "state.C must have shape (2, 2, 4, 3), got (2, 2, 3, 4)"):
            state = mlstm_recurrent(q, k, v, i, f)[1]
            form(q, k, v, i, f, MLSTMState(state.C.mT, *state[1:]))
        h, state = form(*(part[:, :, :0] for part in (q, k, v, i, f)))
        assert h.shape == (2, 2, 0, 3) and state.C.eq(0).all()
    with refuses(ValueError, "chunk_size=0 must be an integer ≥ 1"):
        mlstm_chunkwise(q, k, v, i, f, chunk_size=0)
    with refuses(TypeError, "q must be floating point"):
        mlstm_chunkwise(q.long(), k, v, i, f)


@pytest.mark.equation("xlstm-keys", "xlstm-output", "xlstm-start")
def test_a_layer_is_its_printed_equations_in_numpy():
    torch.manual_seed(0)
    begun = MLSTM(3, 8, 4)
    same(begun.forget.bias, torch.tensor([3.0, 4.0, 5.0, 6.0]))
    assert begun.forget.weight.eq(0).all() and begun.input_gate.bias.abs().max() < 0.5
    layer, x = spread(MLSTM(3, 8, 2)), torch.randn(1, 9, 3, dtype=DOUBLE)
    W = weights_of(layer)

    def of(name):
        return x[0].numpy() @ W[f"{name}.weight"].T + W[f"{name}.bias"]

    i, f, o = of("input_gate"), of("forget"), sigmoid(of("o_proj"))
    h = np.concatenate(
        [
            plain_mlstm(*(of(f"{part}_proj")[:, at] for part in "qkv"), i[:, n], f[:, n])[0]
            for n, at in enumerate((slice(4), slice(4, 8)))
        ],
        1,
    )
    for form in (layer, layer.chunkwise, layer.parallel, layer.recurrent):
        same(form(x)[0][0], o * h, atol=1e-5)  # ε
    same(layer.chunkwise(x, chunk_size=4)[0], layer.recurrent(x)[0], atol=1e-10)


# ------------------------------------------------------------------------------------------ sLSTM
def plain_slstm(x, R, forget=sigmoid):
    """The sLSTM without a stabiliser, one sequence, in numpy; R one matrix of 4h rows."""
    size = R.shape[1]
    h, c, n, outputs = np.zeros(size), np.zeros(size), np.zeros(size), []
    for now in x:
        i, f, z, o = np.split(now + R @ h, 4)
        c = forget(f) * c + np.exp(i) * np.tanh(z)
        n = forget(f) * n + np.exp(i)
        h = sigmoid(o) * c / n
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.equation("xlstm-gates", "xlstm-cell", "xlstm-sum", "xlstm-hidden")
@pytest.mark.parametrize(("gate", "function"), [("sigmoid", sigmoid), ("exp", np.exp)])
@pytest.mark.parametrize("heads", [1, 2])
def test_an_slstm_is_its_printed_equations_in_numpy(heads, gate, function):
    layer = spread(SLSTM(3, 6, heads, forget_gate=gate))
    x = torch.randn(2, 13, 3, dtype=DOUBLE)
    W, d = weights_of(layer), 6 // heads
    R = np.zeros((4, 6, 6))  # one matrix a gate, of blocks
    for n in range(heads):
        at = slice(n * d, (n + 1) * d)
        R[:, at, at] = W["weight_hh"][n].reshape(4, d, d)
    h, state = layer(x)
    for b in range(2):
        projected = x[b].numpy() @ W["weight_ih"].T + W["bias"]
        same(h[b], plain_slstm(projected, R.reshape(24, 6), function), atol=1e-11)
    same(state.h, h[:, -1])


@pytest.mark.equation("xlstm-exponential")
@pytest.mark.parametrize(("gate", "log"), [("exp", lambda f: f), ("sigmoid", F.logsigmoid)])
def test_what_is_kept_against_what_is_new_is_a_sum_of_the_gates_logarithms(gate, log):
    """Candidates 1 and 0, outputs open: h after two steps is the share of the first step."""
    i, f = 2 * torch.randn(2, 9, 2, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    candidate = torch.tensor([50.0, 0.0], dtype=DOUBLE).expand(9, 2)
    x = torch.stack([i, f, candidate, torch.full((9, 2), 50.0, dtype=DOUBLE)], -1)
    h, _ = slstm(x, torch.zeros(1, 4, 1, dtype=DOUBLE), forget_gate=gate)
    same(h[:, 1, 0].logit(), i[:, 0] + log(f[:, 1]) - i[:, 1])


@pytest.mark.equation("xlstm-mean")
def test_a_cell_is_a_weighted_mean_of_all_candidates():
    g = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(1, 20, 4 * 3, generator=g, dtype=DOUBLE)
    _, state = slstm(x, torch.zeros(1, 12, 3, dtype=DOUBLE))
    i, f, z, _ = x[0].chunk(4, -1)
    log_weight = i + F.logsigmoid(f).flip(0).cumsum(0).flip(0) - F.logsigmoid(f)
    weight = log_weight.softmax(0)
    mean = (weight * z.tanh()).sum(0)
    same(state.c[0] / state.n[0], mean)
    assert mean.abs().max() < 1


def test_the_normaliser_never_falls_below_one():
    """What is divided by is at least 1: one of both gates is 1 at each step."""
    g = torch.Generator().manual_seed(0)
    for scale in (0.1, 3.0, 100.0):
        x, state = scale * torch.randn(2, 50, 4 * 4, generator=g, dtype=DOUBLE), None
        for now in x.split(1, 1):
            mixing = torch.randn(1, 16, 4, generator=g, dtype=DOUBLE)
            _, state = slstm(now, mixing, state)
            assert state.n.min() >= 1 - 1e-12


def test_an_slstm_step_by_step_and_from_a_state():
    layer, x = spread(SLSTM(3, 6, 3)), torch.randn(2, 9, 3, dtype=DOUBLE)
    whole, end = layer(x)
    state, told = layer.new_state(2), []
    for now in x.unbind(1):
        h, state = layer.step(now, state)
        told.append(h)
    same(torch.stack(told, 1), whole)
    for got, wanted in zip(state, end, strict=True):
        same(got, wanted)
    assert layer(x[:, :0])[0].shape == (2, 0, 6)


def test_the_gradient_of_an_slstm_is_that_of_finite_differences():
    layer = spread(SLSTM(2, 4, 2))
    x = torch.randn(1, 4, 2, dtype=DOUBLE, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: layer(x)[0], (x, *layer.parameters()))


@pytest.mark.equation("xlstm-parity")
def test_two_units_that_mix_keep_parity_at_any_length():
    """Weights set by hand: u = [x and odd], w = [not x and even]; even where either is on."""
    layer = SLSTM(1, 2).double()
    i, f, z, o = slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 8)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias[f], layer.bias[o] = -50, 50  # nothing is kept but by the output
        # e = u + w + 1 is 1 where even, −1 where odd; X = 2x − 1
        layer.weight_ih[z, 0] = torch.tensor([40.0, -40.0], dtype=DOUBLE)
        layer.weight_hh[0, z] = torch.tensor([[-20.0, -20.0], [20.0, 20.0]], dtype=DOUBLE)
        layer.bias[z] = torch.tensor([-60.0, 20.0], dtype=DOUBLE)
        assert layer.bias[i].eq(0).all()
    bits = torch.randint(2, (3, 1000), generator=torch.Generator().manual_seed(0))
    even = layer(bits[..., None].double())[0].sum(-1) + 1
    same(even, (1 - 2 * (bits.cumsum(1) % 2)).double(), atol=1e-6)


def test_what_does_not_fit_an_slstm_is_refused_by_name():
    x, R = torch.zeros(2, 5, 8), torch.zeros(1, 8, 2)
    with refuses(ValueError, "recurrent must have 4 · 2 rows a head, got 6"):
        slstm(x, torch.zeros(1, 6, 2))
    with refuses(ValueError, "x must have shape (b, t, 8), got (2, 5, 7)"):
        slstm(x[..., :7], R)
    with refuses(ValueError, "state.h must have shape (2, 2), got (3, 2)"):
        slstm(x, R, SLSTM(1, 2).new_state(3))
    with refuses(TypeError, "state must be an SLSTMState, got int"):
        slstm(x, R, 3)
    with refuses(ValueError, "num_heads=3 does not divide hidden_size=8"):
        SLSTM(2, 8, 3)
    with refuses(ValueError, "num_heads=3 does not divide hidden_size=8"):
        MLSTM(2, 8, 3)


# ----------------------------------------------------------------------------------------- blocks
def test_a_block_diagonal_map_is_a_matrix_of_blocks():
    layer, x = spread(BlockDiagonal(6, 3)), torch.randn(2, 5, 6, dtype=DOUBLE)
    same(layer(x), x @ torch.block_diag(*layer.weight).T)
    with refuses(ValueError, "blocks=4 does not divide features=6"):
        BlockDiagonal(6, 4)


@pytest.mark.equation("xlstm-head-norm")
def test_a_head_norm_is_torchs_group_norm():
    layer, h = spread(HeadNorm(6, 3, 1e-3)), torch.randn(2, 5, 6, dtype=DOUBLE)
    wanted = F.group_norm(h.flatten(0, 1), 3, layer.weight, None, 1e-3)
    same(layer(h), wanted.view(2, 5, 6))


def numpy_norm(x, eps=1e-5):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps)


def convolved(u, W):
    """Return the short convolution and SiLU, in numpy."""
    taps, (t, width) = W["conv.weight"], u.shape
    k = taps.shape[1]
    padded = np.concatenate([np.zeros((k - 1, width)), u])
    near = W["conv.bias"] + sum(taps[:, j] * padded[j : j + t] for j in range(k))
    return near * sigmoid(near)


def blocks(weight):
    return torch.block_diag(*torch.from_numpy(weight)).numpy()


@pytest.mark.equation("xlstm-up", "xlstm-block-keys", "xlstm-down")
def test_an_mlstm_block_is_its_printed_equations_in_numpy():
    block = spread(MLSTMBlock(4, 2, 2, 3, 2, bias=True))
    x = torch.randn(1, 7, 4, dtype=DOUBLE)
    W = weights_of(block)
    both = (numpy_norm(x[0].numpy()) * W["norm.weight"]) @ W["up.weight"].T + W["up.bias"]
    u, gate = both[:, :8], both[:, 8:]
    near = convolved(u, W)
    q, k = (near @ blocks(W[f"{name}_proj.weight"]).T for name in "qk")
    v = u @ blocks(W["v_proj.weight"]).T
    seen = np.concatenate([q, k, v], 1)
    i, f = (seen @ W[f"{g}.weight"].T + W[f"{g}.bias"] for g in ("input_gate", "forget"))
    heads = [slice(0, 4), slice(4, 8)]
    h = [plain_mlstm(q[:, at], k[:, at], v[:, at], i[:, n], f[:, n])[0]
         for n, at in enumerate(heads)]  # fmt: skip
    h = np.concatenate([numpy_norm(part) for part in h], 1) * W["head_norm.weight"]
    y = (h + W["skip"] * near) * (gate * sigmoid(gate)) @ W["down.weight"].T + W["down.bias"]
    same(block(x)[0][0], x[0].numpy() + y, atol=1e-4)  # ε of the divisor


@pytest.mark.equation("xlstm-slstm-block", "xlstm-network")
def test_an_slstm_block_is_its_printed_equations_in_numpy():
    block = spread(SLSTMBlock(4, 2, 3, 5, bias=True))
    x = torch.randn(1, 7, 4, dtype=DOUBLE)
    W = weights_of(block)
    u = numpy_norm(x[0].numpy()) * W["norm.weight"]
    near = convolved(u, W)
    gates = [
        seen @ blocks(W[f"{name}_proj.weight"]).T
        for name, seen in zip("ifzo", (near, near, u, u), strict=True)
    ]
    R = np.zeros((4, 4, 4))
    for n, at in enumerate((slice(0, 2), slice(2, 4))):
        R[:, at, at] = W["weight_hh"][n].reshape(4, 2, 2)
    h = plain_slstm(np.concatenate(gates, 1) + W["bias"], R.reshape(16, 4))
    h = np.concatenate([numpy_norm(h[:, :2]), numpy_norm(h[:, 2:])], 1)
    y = x[0].numpy() + h * W["head_norm.weight"]
    both = (numpy_norm(y) * W["norm2.weight"]) @ W["up.weight"].T + W["up.bias"]
    gate, inner = torch.from_numpy(both[:, :5]), both[:, 5:]
    wanted = y + (F.gelu(gate).numpy() * inner) @ W["down.weight"].T + W["down.bias"]
    same(block(x)[0][0], wanted, atol=1e-10)


@pytest.mark.equation("xlstm-slstm-start")
def test_forget_gates_of_an_slstm_begin_where_the_authors_let_them():
    for at, power in ((0, 0.3), (1, 0.95), (2, 1.6)):
        bias = SLSTMBlock(12, 2, layer=at, num_layers=3).bias.view(4, 2, 6)
        assert bias[[0, 2, 3]].eq(0).all()
        for place in range(6):
            wanted = 5 - 12 * (place / 5) ** power
            assert bias[1, :, place].tolist() == pytest.approx([wanted] * 2, abs=1e-5)


@pytest.mark.equation("xlstm-cap", "xlstm-large", "xlstm-large-start")
def test_a_block_of_the_large_model_is_its_printed_equations_in_numpy():
    begun = xLSTMLargeBlock(8, 4, 4, 8, 24)
    assert (begun.input_gate.bias + 10).abs().max() < 0.5
    block = spread(xLSTMLargeBlock(4, 2, 2, 4, 5, gate_cap=1.5))
    with torch.no_grad():
        block.input_gate.bias.add_(9)
    x = torch.randn(1, 7, 4, dtype=DOUBLE)
    W = weights_of(block)

    def rms(x):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)

    def of(name, u):
        return u @ W[f"{name}.weight"].T + W.get(f"{name}.bias", 0)

    u = rms(x[0].numpy()) * W["norm.weight"]
    q, k, v, o = (of(f"{name}_proj", u) for name in "qkvo")
    i, f = (1.5 * np.tanh(of(name, u) / 1.5) for name in ("input_gate", "forget"))
    h = [plain_mlstm(q[:, n : n + 1], k[:, n : n + 1], v[:, 2 * n : 2 * n + 2], i[:, n], f[:, n])[0]
         for n in range(2)]  # fmt: skip
    h = np.concatenate([numpy_norm(part, 1e-6) for part in h], 1) * W["head_norm.weight"]
    y = x[0].numpy() + of("out_proj", sigmoid(o) * h)
    u = rms(y) * W["norm2.weight"]
    gate = of("gate", u)
    wanted = y + of("down", gate * sigmoid(gate) * of("up", u))
    same(block(x)[0][0], wanted, atol=1e-4)
    same(soft_cap(torch.tensor([-1e9, 0.0, 1e9]), 15), torch.tensor([-15.0, 0.0, 15.0]))


@pytest.mark.equation("xlstm-sigmoid")
def test_with_a_sigmoid_for_an_input_gate_nothing_has_to_be_stabilised():
    """mLSTMsig: all weights at most 1, so that linear attention is all there is to it."""
    q, k, v, i, f = drawn(t=9)
    read, _ = linear_attention_reference(
        q, k * i.sigmoid()[..., None], v, F.logsigmoid(f), scale=0.5
    )
    C = torch.zeros(2, 2, 4, 3, dtype=DOUBLE)
    for t in range(9):
        keep, write = f[..., t].sigmoid(), i[..., t].sigmoid()
        pair = k[:, :, t, :, None] * v[:, :, t, None, :]
        C = keep[..., None, None] * C + write[..., None, None] * pair
        same(read[:, :, t], (q[:, :, t, None] @ C)[:, :, 0] / 2)


# ----------------------------------------------------------------- the authors' package, and theirs
def test_the_mlstm_is_that_of_the_package():
    for seed in range(3):
        q, k, v, i, f = drawn(t=32, d=4, v=4, seed=seed)
        for eps in (0.0, 1e-6):
            given = q, k, v, i[..., None], f[..., None]
            wanted = backends.parallel_stabilized_simple(*given, eps=eps)
            for form in FORMS.values():
                same(form(q, k, v, i, f, eps=eps)[0], wanted, atol=1e-10, rtol=1e-10)
            chunked = backends.chunkwise_simple(q, k, v, i, f, chunk_size=8, eps=eps)
            same(mlstm_chunkwise(q, k, v, i, f, eps=eps)[0], chunked, atol=1e-5, rtol=1e-5)


def test_a_step_of_the_mlstm_is_that_of_the_package():
    q, k, v, i, f = drawn(t=12, v=4)
    C, z = torch.zeros(2, 2, 4, 4, dtype=DOUBLE), torch.zeros(2, 2, 4, 1, dtype=DOUBLE)
    m = torch.zeros(2, 2, 1, 1, dtype=DOUBLE)  # theirs begins at 0, which changes no output
    h, state = mlstm_chunkwise(q, k, v, i, f, eps=0)
    for t in range(12):
        now = [part[:, :, t : t + 1].clone() for part in (q, k, v)]
        gates = [part[:, :, t, None, None] for part in (i, f)]
        told, (C, z, m) = backends.recurrent_step_stabilized_simple(C, z, m, *now, *gates, eps=0)
        same(told[:, :, 0], h[:, :, t], atol=1e-10)
    same(m.exp() * C, state.m.exp()[..., None, None] * state.C, atol=1e-10)
    same((m.exp() * z)[..., 0], state.m.exp()[..., None] * state.z, atol=1e-10)


@pytest.mark.parametrize("heads", [1, 2])
def test_the_slstm_is_that_of_the_package(heads):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(14, 3, 4 * 6, generator=g, dtype=DOUBLE)
    R = torch.randn(heads, 4 * (6 // heads), 6 // heads, generator=g, dtype=DOUBLE)
    bias = torch.randn(24, generator=g, dtype=DOUBLE)
    start = torch.zeros(4, 3, 6, dtype=DOUBLE)
    point = vanilla.slstm_pointwise_function_registry["slstm"]
    # their loop takes gates in the middle of what a head reads: i, f, z, o of all heads
    states, _, _ = vanilla.slstm_forward(x, start, R, bias, point)
    h, end = slstm(x.transpose(0, 1) + bias, R)
    same(h.transpose(0, 1), states[0, 1:])
    for got, wanted in zip(end, states[:, -1], strict=True):
        same(got, wanted)


def theirs(**options):
    """Return a language model of the package with random weights, in float64."""
    torch.manual_seed(1)
    options = {"slstm_at": [1, 3], "num_heads": 2, "tie_weights": False} | options
    heads = options.pop("num_heads")
    scalar = package.sLSTMLayerConfig(
        backend="vanilla", num_heads=heads, dtype="float32", enable_automatic_mixed_precision=False
    )
    network = package.FeedForwardConfig(embedding_dim=32, act_fn=options.pop("act_fn", "gelu"))
    config = package.xLSTMLMModelConfig(
        vocab_size=23, embedding_dim=32, num_blocks=4, context_length=24,
        mlstm_block=package.mLSTMBlockConfig(mlstm=package.mLSTMLayerConfig(num_heads=heads)),
        slstm_block=package.sLSTMBlockConfig(slstm=scalar, feedforward=network), **options,
    )  # fmt: skip
    model = package.xLSTMLMModel(config)
    model.reset_parameters()
    with torch.no_grad():
        for parameter in model.parameters():  # each once, in one order
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.double().eval()


@pytest.mark.parametrize(
    "options",
    [{}, {"slstm_at": []}, {"slstm_at": "all"}, {"num_heads": 4}, {"tie_weights": True}],
    ids=str,
)
def test_logits_are_those_of_the_package(options):
    other, ids = theirs(**options), torch.randint(23, (2, 24))
    ours = xLSTM.from_xlstm(other)
    assert not ours.training
    same(ours(ids), other(ids).detach(), atol=1e-10)
    state = their_state = None
    for now in ids[:, :6].unbind(1):
        told, state = ours.step(now, state)
        wanted, their_state = other.step(now[:, None], their_state)
        same(told, wanted[:, 0].detach(), atol=1e-5)  # ε, beside another stabiliser


def test_gradients_are_those_of_the_package():
    other, ids = theirs(), torch.randint(23, (2, 24))
    ours = xLSTM.from_xlstm(other)
    other(ids).square().sum().backward()
    ours(ids).square().sum().backward()
    wanted = other.token_embedding.weight.grad
    same(ours.token_embedding.weight.grad / wanted.abs().max(), wanted / wanted.abs().max(), 1e-6)
    for at, name, its in (
        (0, "forget.weight", "mlstm_cell.fgate.weight"),
        (1, "weight_hh", "slstm_cell._recurrent_kernel_"),
        (1, "i_proj.weight", "fgate.weight"),
        (2, "input_gate.bias", "mlstm_cell.igate.bias"),
    ):
        block = other.xlstm_block_stack.blocks[at].xlstm
        wanted = block.get_parameter(its).grad
        got = ours.layers[at].get_parameter(name).grad
        same(got / wanted.abs().max(), wanted / wanted.abs().max(), atol=1e-5)


def test_what_the_package_can_and_we_cannot_is_refused():
    with refuses(ValueError, "act_fn='relu', it must be 'gelu'"):
        xLSTM.from_xlstm(theirs(act_fn="relu"))
    with refuses(ValueError, "add_post_blocks_norm=False, it must be True"):
        xLSTM.from_xlstm(theirs(add_post_blocks_norm=False))
    with refuses(TypeError, "model must be an xLSTMLMModel, got Linear"):
        xLSTM.from_xlstm(nn.Linear(2, 2))


def hugging(**options):
    torch.manual_seed(1)
    config = transformers.xLSTMConfig(
        vocab_size=23, hidden_size=32, num_hidden_layers=2, num_heads=4, chunk_size=16,
        chunkwise_kernel="chunkwise--native_autograd", mode="inference",
        sequence_kernel="native_sequence__native", step_kernel="native",
        autocast_kernel_dtype="float32", **options,
    )  # fmt: skip
    model = transformers.xLSTMForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) + 9 * ("igate_preact.b" in name))
    return model


@pytest.mark.parametrize("how", ["instance", "folder"])
@pytest.mark.parametrize(
    "options",
    [{}, {"qk_dim_factor": 1.0, "gate_soft_cap": 2.0, "output_logit_soft_cap": 3.0}],
    ids=str,
)
def test_logits_of_the_large_model_are_those_of_transformers(how, options, tmp_path):
    other, ids = hugging(**options), torch.randint(23, (2, 37))
    if how == "folder":
        other.save_pretrained(tmp_path)
    ours = xLSTMLarge.from_hugging_face(other if how == "instance" else tmp_path)
    with torch.no_grad():
        same(ours(ids), other(ids, use_cache=False).logits, atol=5e-5)


def test_options_of_transformers_that_we_lack_are_refused():
    with refuses(ValueError, "weight_mode='fused', it must be 'single'"):
        other = hugging()
        other.config.weight_mode = "fused"
        xLSTMLarge.from_hugging_face(other)


def test_the_published_model_has_its_size():
    """NX-AI/xLSTM-7b: 32 blocks of width 4096, 8 heads; counted by transformers, without memory."""
    ours = xLSTMLarge(50304, 4096, 32, device="meta")
    with torch.device("meta"):
        other = transformers.xLSTMForCausalLM(transformers.xLSTMConfig(vocab_size=50304))
    count = sum(part.numel() for part in ours.parameters())
    assert count == sum(part.numel() for part in other.parameters())
    assert 6.8e9 < count < 6.9e9


# ----------------------------------------------------------------------------------------- models
MODELS = {
    "mixed": lambda: xLSTM(7, 8, 3, num_heads=2, slstm_at=[1]),
    "matrices": lambda: xLSTM(7, 8, 2, num_heads=2, tie_embeddings=True),
    "large": lambda: xLSTMLarge(7, 8, 2, num_heads=2),
}


def tiny(kind):
    return spread(MODELS[kind](), 0.3).eval()


@pytest.mark.equation("xlstm-residual")
def test_a_model_is_blocks_on_a_stream_between_tokens_and_logits():
    model, ids = tiny("mixed"), torch.tensor([[1, 5, 2]])
    assert [type(layer) for layer in model.layers] == [MLSTMBlock, SLSTMBlock, MLSTMBlock]
    x = model.token_embedding.weight[ids]
    for layer in model.layers:
        x = layer(x)[0]
    x = F.layer_norm(x, (8,), model.norm.weight, None, 1e-5)
    same(model(ids), x @ model.head.weight.T)


@pytest.mark.parametrize("kind", MODELS)
def test_steps_are_the_whole_and_the_state_does_not_grow(kind):
    writing_support.reads_step_by_step(tiny(kind), torch.randint(7, (2, 15)), atol=1e-10)


@pytest.mark.parametrize("kind", MODELS)
def test_nothing_of_the_future_is_seen(kind):
    ids = torch.randint(7, (1, 12))
    writing_support.sees_nothing_of_the_future(tiny(kind), ids, atol=1e-13)


@pytest.mark.parametrize("kind", MODELS)
def test_writing_token_by_token_is_writing_from_all_that_was_read(kind):
    writing_support.writes_what_it_would_read(tiny(kind), torch.randint(7, (2, 3)))


def test_states_and_sizes_that_do_not_fit_are_refused():
    model, ids = tiny("mixed"), torch.randint(7, (2, 3))
    with refuses(ValueError, "state.past must have shape (2, 3, 16), got (3, 3, 16)"):
        model(ids, model.new_state(3))
    with refuses(TypeError, "state must be a tuple of one state a layer, 3 in all, got list"):
        model(ids, [1, 2])
    with refuses(TypeError, "state must be an MLSTMBlockState, got int"):
        model.layers[0](torch.zeros(2, 3, 8, dtype=DOUBLE), 3)
    with refuses(ValueError, "slstm_at=[2] must be below num_layers=2"):
        xLSTM(7, 8, 2, slstm_at=[2])
    with refuses(TypeError, "slstm_at must be a list of numbers of blocks, got str"):
        xLSTM(7, 8, 2, slstm_at="all")
    with refuses(ValueError, "num_heads=3 does not divide expand * embed_dim=16"):
        xLSTM(7, 8, 2, num_heads=3)
    with refuses(ValueError, "qkv_block_size=5 does not divide expand * embed_dim=16"):
        xLSTM(7, 8, 2, qkv_block_size=5)
    with refuses(ValueError, "num_heads=3 does not divide qk_dim=4"):
        xLSTMLarge(7, 8, 1, num_heads=3)
