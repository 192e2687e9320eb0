"""Mamba and Mamba-2 against transformers', loops in numpy, matrices written out, derivatives."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.kernels.linear_attention import linear_attention_reference
from nnlib.sequence import mamba
from nnlib.sequence.mamba import (
    HybridMamba,
    Mamba,
    Mamba2,
    Mamba2Mixer,
    MambaMixer,
    MambaState,
    ShortConv,
    selective_scan,
    selective_scan_chunked,
    selective_scan_reference,
    selective_scan_with_state,
    ssd,
    ssd_matrix,
    ssd_with_state,
    zoh_factor,
)
from nnlib.sequence.rwkv import delta_step, matrix_step
from tests import writing_support
from tests.support import Example, Peer, refuses

transformers = Peer("transformers")
DOUBLE = torch.float64


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"vocab_size": 11, "embed_dim": 8, "num_layers": 2, "state_size": 3},
        (torch.randint(11, (4, 7)),),
    )


def same(got, wanted, atol=1e-12, rtol=0.0):
    torch.testing.assert_close(got, torch.as_tensor(wanted), rtol=rtol, atol=atol)


def drawn(b=2, t=9, d=5, n=3, seed=0, dtype=DOUBLE):
    """Arguments of a selective scan, with steps from nearly none to long ones."""
    g = torch.Generator().manual_seed(seed)
    x, B, C = (torch.randn(b, t, w, generator=g, dtype=DOUBLE) for w in (d, n, n))
    delta = 2 * torch.rand(b, t, d, generator=g, dtype=DOUBLE) ** 4
    A = -3 * torch.rand(d, n, generator=g, dtype=DOUBLE)
    D = torch.randn(d, generator=g, dtype=DOUBLE)
    return tuple(part.to(dtype) for part in (x, delta, A, B, C, D))


def drawn_heads(b=2, t=9, h=4, p=3, n=5, g=2, seed=0, dtype=DOUBLE):
    """Arguments of `ssd`."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(b, t, h, p, generator=draw, dtype=DOUBLE)
    a = -2 * torch.rand(b, t, h, generator=draw, dtype=DOUBLE) ** 3
    B, C = (torch.randn(b, t, g, n, generator=draw, dtype=DOUBLE) for _ in range(2))
    return tuple(part.to(dtype) for part in (x, a, B, C))


# ------------------------------------------------------------------------------ the selective scan
@pytest.mark.equation("mamba-state", "mamba-output")
def test_the_scan_is_the_printed_recurrence_in_numpy():
    x, delta, A, B, C, D = (part.numpy() for part in drawn())
    wanted = np.zeros_like(x)
    for i in range(x.shape[0]):
        for c in range(x.shape[2]):
            h = np.zeros(A.shape[1])
            for t in range(x.shape[1]):
                h = np.exp(delta[i, t, c] * A[c]) * h + delta[i, t, c] * B[i, t] * x[i, t, c]
                wanted[i, t, c] = C[i, t] @ h + D[c] * x[i, t, c]
    same(selective_scan(*drawn()), wanted)
    same(selective_scan_reference(*drawn())[0], wanted)


@settings(deadline=None, max_examples=25)
@given(
    t=st.integers(0, 40), b=st.integers(1, 3), d=st.integers(1, 4), n=st.integers(1, 4),
    chunk=st.integers(1, 50), begun=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_scan_loop_and_chunks_are_one_function(t, b, d, n, chunk, begun, seed):
    given = drawn(b, t, d, n, seed)
    state = torch.randn(b, d, n, dtype=DOUBLE) if begun else None
    wanted = selective_scan_reference(*given, state)
    for got in (
        selective_scan_with_state(*given, state),
        selective_scan_chunked(*given, state, chunk=chunk),
    ):
        for ours, its in zip(got, wanted, strict=True):
            same(ours, its, atol=1e-10)


def test_their_gradients_are_one_as_well():
    def gradients(form):
        given = [part.clone().requires_grad_() for part in drawn(t=23)]
        form(*given)[0].square().sum().backward()
        return [part.grad for part in given]

    wanted = gradients(selective_scan_reference)
    for form in (selective_scan_with_state, lambda *a: selective_scan_chunked(*a, chunk=7)):
        for got, its in zip(gradients(form), wanted, strict=True):
            same(got, its, atol=1e-10)


def test_two_thousand_steps_in_float32():
    given = drawn(1, 2000, 4, 3, dtype=torch.float32)
    wanted = selective_scan_reference(*(part.double() for part in given))[0]
    scale = wanted.abs().max()
    for got in (
        selective_scan(*given),
        selective_scan_chunked(*given, chunk=300)[0],
        selective_scan_reference(*given)[0],
    ):
        assert (got - wanted).abs().max() / scale < 1e-4


def test_a_scan_continues_from_its_state():
    x, delta, A, B, C, D = drawn(t=12)
    whole, end = selective_scan_with_state(x, delta, A, B, C, D)
    first, state = selective_scan_with_state(x[:, :5], delta[:, :5], A, B[:, :5], C[:, :5], D)
    rest, last = selective_scan_with_state(x[:, 5:], delta[:, 5:], A, B[:, 5:], C[:, 5:], D, state)
    same(torch.cat([first, rest], 1), whole)
    same(last, end)


@pytest.mark.equation("mamba-zoh")
def test_the_exact_hold_is_the_solution_of_the_differential_equation():
    """h' = A h + B x with x constant for a time Δ, by 4,000 steps of Runge–Kutta."""
    for a, delta in ((-0.5, 0.3), (-3.0, 1.0), (-1.0, 5.0), (0.0, 2.0)):
        b, x, h = 0.7, -1.3, 0.4
        held, fine = h, delta / 4000
        for _ in range(4000):
            k1 = a * held + b * x
            k2 = a * (held + fine / 2 * k1) + b * x
            k3 = a * (held + fine / 2 * k2) + b * x
            k4 = a * (held + fine * k3) + b * x
            held += fine / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        rate, step = torch.tensor(a, dtype=DOUBLE), torch.tensor(delta, dtype=DOUBLE)
        got = torch.exp(step * rate) * h + zoh_factor(step, rate) * b * x
        assert got.item() == pytest.approx(held, abs=1e-9)


@pytest.mark.equation("mamba-euler")
def test_eulers_factor_is_the_limit_of_the_exact_one():
    a = torch.tensor([-0.1, -1.0, -5.0], dtype=DOUBLE)
    one = torch.ones(3, dtype=DOUBLE)
    # exact over Euler's, at Δ = 1
    same(zoh_factor(one, a).round(decimals=2), torch.tensor([0.95, 0.63, 0.2], dtype=DOUBLE))
    for small in (1e-2, 1e-3):
        ratio = zoh_factor(small * one, a) / small
        same(ratio, 1 + small * a / 2, atol=5 * small**2)


@pytest.mark.equation("mamba-gate-case")
def test_with_one_state_of_rate_one_it_is_a_gated_recurrent_network():
    """Theorem 1 of the paper: with the exact hold, Δ = softplus(z) is a gate σ(z)."""
    g = torch.Generator().manual_seed(0)
    z, x = (torch.randn(30, generator=g, dtype=DOUBLE) for _ in range(2))
    rate, h, gated = torch.tensor(-1.0, dtype=DOUBLE), 0.0, 0.0
    for z_t, x_t in zip(z, x, strict=True):
        delta = F.softplus(z_t)
        h = torch.exp(delta * rate) * h + zoh_factor(delta, rate) * x_t
        gate = 1 / (1 + math.exp(-z_t))
        gated = (1 - gate) * gated + gate * x_t.item()
        assert h.item() == pytest.approx(gated, abs=1e-12)


@pytest.mark.equation("mamba-associative")
def test_pairs_may_be_composed_in_any_order():
    g = torch.Generator().manual_seed(0)
    pairs = [(torch.rand(4, generator=g, dtype=DOUBLE), torch.randn(4, generator=g, dtype=DOUBLE))
             for _ in range(8)]  # fmt: skip

    def then(first, second):
        return second[0] * first[0], second[0] * first[1] + second[1]

    def tree(of):
        half = len(of) // 2
        return of[0] if len(of) == 1 else then(tree(of[:half]), tree(of[half:]))

    h = torch.zeros(4, dtype=DOUBLE)
    for a, b in pairs:
        h = a * h + b
    same(tree(pairs)[1], h)


@pytest.mark.equation("mamba-gradient")
def test_the_gradient_is_a_scan_from_the_end():
    given = drawn(t=7)
    x, delta, A, B, C, _ = given
    learned = delta.clone().requires_grad_()
    y = selective_scan(x, learned, *given[2:])
    dy = torch.randn(y.shape, dtype=DOUBLE)
    y.backward(dy)
    states = [torch.zeros(2, 5, 3, dtype=DOUBLE)]
    for t in range(7):
        step = delta[:, t, :, None]
        keep, write = (step * A).exp(), step * B[:, t, None] * x[:, t, :, None]
        states.append(keep * states[-1] + write)
    back, wanted = torch.zeros_like(states[0]), torch.zeros_like(delta)
    for t in reversed(range(7)):
        back = C[:, t, None] * dy[:, t, :, None] + back  # back holds the part from t + 1
        keep = (delta[:, t, :, None] * A).exp()
        slope = A * keep * states[t] + B[:, t, None] * x[:, t, :, None]
        wanted[:, t] = (back * slope).sum(-1)
        back = keep * back
    same(learned.grad, wanted)


def test_a_step_of_no_length_leaves_the_state_alone():
    x, delta, A, B, C, D = drawn(t=3)
    state = torch.randn(2, 5, 3, dtype=DOUBLE)
    y, after = selective_scan_with_state(x, torch.zeros_like(delta), A, B, C, D, state)
    same(after, state)
    same(y[:, 1], torch.einsum("bdn,bn->bd", state, C[:, 1]) + D * x[:, 1])


def test_lengths_none_and_one():
    x, delta, A, B, C, D = drawn(t=1)
    y = selective_scan(x, delta, A, B, C, D)
    wanted = delta[:, 0] * x[:, 0] * (B[:, 0] * C[:, 0]).sum(-1, keepdim=True) + D * x[:, 0]
    same(y[:, 0], wanted)
    none = selective_scan(x[:, :0], delta[:, :0], A, B[:, :0], C[:, :0], D)
    assert none.shape == (2, 0, 5)
    x, a, B, C = drawn_heads(t=1)
    assert ssd(x, a, B, C, chunk=4).shape == x.shape
    assert ssd(x[:, :0], a[:, :0], B[:, :0], C[:, :0], chunk=4).shape == (2, 0, 4, 3)


def test_what_does_not_fit_is_refused_by_name():
    x, delta, A, B, C, D = drawn()
    with refuses(ValueError, "delta must be ≥ 0, a length of time, got -0.5"):
        selective_scan(x, torch.full_like(delta, -0.5), A, B, C)
    with refuses(ValueError, "A must be ≤ 0, or the state grows, got 0.25"):
        selective_scan(x, delta, torch.full_like(A, 0.25), B, C)
    with refuses(ValueError, "B must have shape (2, 9, 3), got (2, 9, 4)"):
        selective_scan(x, delta, A, F.pad(B, (0, 1)), C)
    with refuses(ValueError, "state must have shape (2, 5, 3), got (1, 5, 3)"):
        selective_scan_with_state(x, delta, A, B, C, D, torch.zeros(1, 5, 3))
    with refuses(ValueError, "chunk=0 must be an integer ≥ 1"):
        selective_scan_chunked(x, delta, A, B, C, chunk=0)
    with refuses(TypeError, "x must be floating point"):
        selective_scan(x.long(), delta, A, B, C)


# ------------------------------------------------------------------------------------------- SSD
@pytest.mark.equation("mamba-ssd")
def test_ssd_is_the_printed_recurrence_in_numpy():
    x, a, B, C = (part.numpy() for part in drawn_heads())
    wanted = np.zeros_like(x)
    for i in range(x.shape[0]):
        for head in range(x.shape[2]):
            H, group = np.zeros((5, 3)), head // 2
            for t in range(x.shape[1]):
                H = np.exp(a[i, t, head]) * H + np.outer(B[i, t, group], x[i, t, head])
                wanted[i, t, head] = H.T @ C[i, t, group]
    same(ssd(*drawn_heads()), wanted)


@pytest.mark.equation("mamba-matrix")
def test_its_matrix_is_the_mask_of_decays_times_the_scores():
    x, a, B, C = drawn_heads(t=6)
    M = ssd_matrix(a, B, C)
    for t in range(6):
        for s in range(6):
            score = (C[0, t, 1] @ B[0, s, 1]).item()
            fade = math.exp(a[0, s + 1 : t + 1, 3].sum()) if s <= t else 0.0
            assert M[0, 3, t, s].item() == pytest.approx(fade * score, abs=1e-12)
    same((M @ x.transpose(1, 2)).transpose(1, 2), ssd(x, a, B, C))


@settings(deadline=None, max_examples=25)
@given(
    t=st.integers(1, 40), b=st.integers(1, 2), r=st.integers(1, 2), g=st.integers(1, 3),
    chunk=st.integers(1, 50), begun=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_ssd_in_any_chunks_is_the_recurrence(t, b, r, g, chunk, begun, seed):
    x, a, B, C = drawn_heads(b, t, r * g, 3, 4, g, seed)
    state = torch.randn(b, r * g, 4, 3, dtype=DOUBLE) if begun else None
    heads = (part.repeat_interleave(r, 2).transpose(1, 2) for part in (C, B))
    wanted = linear_attention_reference(*heads, x.transpose(1, 2), a.mT, state)
    for how in (chunk, None):
        y, after = ssd_with_state(x, a, B, C, state, chunk=how)
        same(y, wanted[0].transpose(1, 2), atol=1e-10)
        same(after, wanted[1], atol=1e-10)


def test_ssd_is_a_selective_scan_whose_rates_are_one_number_a_head():
    x, a, B, C = drawn_heads(g=1)
    delta, A = -a, -torch.ones(4, dtype=DOUBLE)
    got = ssd(delta[..., None] * x, delta * A, B, C)
    wide = delta.repeat_interleave(3, 2)
    rates = A.repeat_interleave(3)[:, None].expand(12, 5)
    same(got.flatten(2), selective_scan(x.flatten(2), wide, rates, B[:, :, 0], C[:, :, 0]))


def test_two_thousand_steps_of_ssd_in_float32():
    given = drawn_heads(1, 2000, 2, 3, 4, 1, dtype=torch.float32)
    x, a, B, C = (part.double() for part in given)
    heads = (part.expand(1, 2000, 2, 4).transpose(1, 2) for part in (C, B))
    wanted = linear_attention_reference(*heads, x.transpose(1, 2), a.mT)[0].transpose(1, 2)
    for chunk in (None, 300):
        assert (ssd(*given, chunk=chunk) - wanted).abs().max() / wanted.abs().max() < 1e-4


def test_what_does_not_fit_ssd_is_refused_by_name():
    x, a, B, C = drawn_heads()
    with refuses(ValueError, "a must be ≤ 0, the logarithm of what stays, got 0.5"):
        ssd(x, torch.full_like(a, 0.5), B, C)
    with refuses(ValueError, "B has 3 groups, which must divide the 4 heads of x"):
        ssd(x, a, *(torch.zeros(2, 9, 3, 5, dtype=DOUBLE) for _ in range(2)))
    with refuses(ValueError, "state must have shape (2, 4, 5, 3), got (2, 4, 3, 5)"):
        ssd_with_state(x, a, B, C, torch.zeros(2, 4, 3, 5, dtype=DOUBLE))
    with refuses(ValueError, "chunk=0 must be an integer ≥ 1"):
        ssd(x, a, B, C, chunk=0)


# ----------------------------------------------------------------------------- family of updates
@pytest.mark.equation("mamba-family")
def test_every_update_is_a_transition_of_the_state_and_a_written_pair():
    """S ← G S + β k vᵀ, with G as a matrix written out."""
    g = torch.Generator().manual_seed(0)
    k, v, keep, rate = (torch.randn(w, generator=g, dtype=DOUBLE) for w in (4, 3, 4, 4))
    S = torch.randn(4, 3, generator=g, dtype=DOUBLE)
    k, removal = F.normalize(k, dim=0), F.normalize(keep - rate, dim=0)
    keep, rate = keep.sigmoid(), rate.sigmoid()
    eye, pair = torch.eye(4, dtype=DOUBLE), torch.outer(k, v)
    half, third = torch.tensor(0.5, dtype=DOUBLE), torch.tensor(1 / 3, dtype=DOUBLE)
    same(mamba.linear_attention_update(S, k, v), S + pair)
    same(mamba.retnet_update(S, k, v, 0.9), 0.9 * eye @ S + pair)
    same(mamba.gla_update(S, k, v, keep), torch.diag(keep) @ S + pair)
    got, z = mamba.mlstm_update(S, rate, k, v, half, third)
    same(got, half * S + third * pair)
    same(z, half * rate + third * k)
    same(mamba.ssd_update(S, k, v, half.log()), half * S + pair)
    replaced = (eye - half * torch.outer(k, k)) @ S
    same(mamba.delta_update(S, k, v, half), replaced + half * pair)
    same(mamba.gated_delta_update(S, k, v, third, half), third * replaced + half * pair)
    G = torch.diag(keep) - torch.outer(rate * removal, removal)
    same(mamba.rwkv7_update(S, k, v, keep, removal, rate), G @ S + pair)


def test_updates_are_those_of_the_models_that_have_them():
    """RWKV-7's and RWKV-6's steps, in nnlib.sequence.rwkv; the former has its state transposed."""
    g = torch.Generator().manual_seed(1)
    k, v, w, a, kappa = torch.randn(5, 4, generator=g, dtype=DOUBLE)
    kappa, w, a = F.normalize(kappa, dim=0), w.sigmoid(), a.sigmoid()
    S = torch.randn(4, 4, generator=g, dtype=DOUBLE)
    after = delta_step(k, k, v, w, kappa, a, S.T)[1]
    same(mamba.rwkv7_update(S, k, v, w, kappa, a), after.T)
    after = matrix_step(k, k, v, w, torch.zeros(4, dtype=DOUBLE), S)[1]
    same(mamba.gla_update(S, k, v, w), after)


def test_ssds_update_is_ssd():
    x, a, B, C = drawn_heads(h=2, g=2)
    S, outputs = torch.zeros(2, 2, 5, 3, dtype=DOUBLE), []
    for t in range(9):
        S = mamba.ssd_update(S, B[:, t], x[:, t], a[:, t])
        outputs.append((C[:, t][..., None, :] @ S)[..., 0, :])
    same(torch.stack(outputs, 1), ssd(x, a, B, C))


# -------------------------------------------------------------------------------------- the mixers
@pytest.mark.equation("mamba-convolution")
def test_the_short_convolution_is_torchs_shifted_to_the_past():
    conv, x = ShortConv(6, 4).double(), torch.randn(2, 9, 6, dtype=DOUBLE)
    nn.init.normal_(conv.bias)
    wanted = F.conv1d(F.pad(x.mT, (3, 0)), conv.weight[:, None], conv.bias, groups=6).mT
    y, past = conv(x, conv.new_past(2))
    same(y, wanted)
    same(past, x[:, 6:])
    single = ShortConv(6, 1).double()
    same(single(x, single.new_past(2))[0], single.weight[:, 0] * x)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def spread(module):
    """Give every weight of a module in float64 a value that makes a difference."""
    module = module.double()
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=g, dtype=DOUBLE))
    return module


@pytest.mark.equation("mamba-expand", "mamba-select", "mamba-rates", "mamba-gate")
def test_a_mixer_is_its_printed_equations_in_numpy():
    mixer = spread(MambaMixer(4, 3, 2, 3, 2, bias=True))
    x = torch.randn(1, 6, 4, dtype=DOUBLE)
    W = {name: part.detach().numpy() for name, part in mixer.state_dict().items()}
    both = x[0].numpy() @ W["in_proj.weight"].T + W["in_proj.bias"]
    u, z = both[:, :8], both[:, 8:]
    padded = np.concatenate([np.zeros((2, 8)), u])
    u = W["conv.bias"] + sum(W["conv.weight"][:, j] * padded[j : j + 6] for j in range(3))
    u = u * sigmoid(u)
    low, B, C = np.split(u @ W["x_proj.weight"].T, [2, 5], axis=1)
    delta = np.log1p(np.exp(low @ W["dt_proj.weight"].T + W["dt_proj.bias"]))
    A, h, y = -np.exp(W["A_log"]), np.zeros((8, 3)), []
    for t in range(6):
        h = np.exp(delta[t][:, None] * A) * h + delta[t][:, None] * B[t] * u[t][:, None]
        y.append(h @ C[t] + W["D"] * u[t])
    wanted = (np.stack(y) * z * sigmoid(z)) @ W["out_proj.weight"].T + W["out_proj.bias"]
    same(mixer(x)[0][0], wanted)


@pytest.mark.equation("mamba-two", "mamba-gated-norm")
def test_a_mixer_of_the_second_kind_is_its_printed_equations_in_numpy():
    mixer = spread(Mamba2Mixer(4, 3, 2, 2, 3, 2, norm_eps=1e-3))
    x = torch.randn(1, 6, 4, dtype=DOUBLE)
    W = {name: part.detach().numpy() for name, part in mixer.state_dict().items()}
    z, mixed, low = np.split(x[0].numpy() @ W["in_proj.weight"].T, [8, 8 + 8 + 12], axis=1)
    padded = np.concatenate([np.zeros((2, 20)), mixed])
    mixed = W["conv.bias"] + sum(W["conv.weight"][:, j] * padded[j : j + 6] for j in range(3))
    u, B, C = np.split(mixed * sigmoid(mixed), [8, 14], axis=1)
    u, B, C = u.reshape(6, 4, 2), B.reshape(6, 2, 3), C.reshape(6, 2, 3)
    delta = np.log1p(np.exp(low + W["dt_bias"]))
    A, H, y = -np.exp(W["A_log"]), np.zeros((4, 3, 2)), np.zeros((6, 4, 2))
    for t in range(6):
        for head in range(4):
            H[head] = np.exp(delta[t, head] * A[head]) * H[head] + delta[t, head] * np.outer(
                B[t, head // 2], u[t, head]
            )
            y[t, head] = C[t, head // 2] @ H[head] + W["D"][head] * u[t, head]
    gated = (y.reshape(6, 8) * z * sigmoid(z)).reshape(6, 2, 4)
    normed = gated / np.sqrt((gated**2).mean(-1, keepdims=True) + 1e-3)
    wanted = (normed.reshape(6, 8) * W["norm_weight"]) @ W["out_proj.weight"].T
    same(mixer(x)[0][0], wanted)


@pytest.mark.equation("mamba-start")
def test_steps_and_rates_begin_where_the_authors_let_them():
    torch.manual_seed(0)
    mixer = MambaMixer(256, 4)
    same(mixer.A, -torch.arange(1.0, 5).expand(512, 4), atol=1e-5)
    steps = F.softplus(mixer.dt_proj.bias.detach())
    assert 1e-3 <= steps.min() < 1.3e-3 and 0.08 < steps.max() <= 0.1001
    # evenly in the logarithm: the median is the geometric mean of both ends
    assert steps.median().item() == pytest.approx(0.01, rel=0.25)
    second = Mamba2Mixer(256, 4, 1)
    assert second.A.min() >= -16 and second.A.max() <= -1
    assert F.softplus(second.dt_bias).min() >= 1e-3 and F.softplus(second.dt_bias).max() <= 0.1001


@pytest.mark.equation("mamba-layer")
@pytest.mark.parametrize("model", [Mamba, Mamba2])
def test_layers_add_to_the_stream_behind_a_norm(model):
    options = {"head_dim": 4} if model is Mamba2 else {}
    made = spread(model(7, 8, 2, state_size=3, **options))
    ids = torch.tensor([[1, 5, 2]])
    x = made.token_embedding.weight[ids]
    for layer in made.layers:
        normed = F.rms_norm(x, (8,), layer.norm.weight, 1e-5)
        x = x + layer.mixer(normed)[0]
    x = F.rms_norm(x, (8,), made.norm.weight, 1e-5)
    same(made(ids), x @ made.token_embedding.weight.T)


# -------------------------------------------------------------------------------------- the models
def theirs(kind, **options):
    """Return a model of transformers with random weights, its norms and biases included."""
    torch.manual_seed(1)
    sizes = {"vocab_size": 23, "hidden_size": 24, "state_size": 5, "num_hidden_layers": 3}
    if kind == "mamba2":
        sizes |= {"head_dim": 8, "num_heads": 6, "n_groups": 2, "chunk_size": 8}
        config = transformers.Mamba2Config(**(sizes | options))
        model = transformers.Mamba2ForCausalLM(config).eval()
    else:
        config = transformers.MambaConfig(**(sizes | options))
        model = transformers.MambaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


MODELS = {"mamba": Mamba, "mamba2": Mamba2}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("how", ["instance", "folder"])
@pytest.mark.parametrize("length", [1, 19])
def test_logits_are_those_of_transformers(kind, how, length, tmp_path):
    other, ids = theirs(kind), torch.randint(23, (2, length))
    if how == "folder":
        other.save_pretrained(tmp_path)
    model = MODELS[kind].from_hugging_face(other if how == "instance" else tmp_path)
    assert not model.training
    same(model(ids), other(ids).logits.detach(), atol=2e-5)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(
    "options",
    [
        {"tie_word_embeddings": True},
        {"tie_word_embeddings": False},
        {"use_bias": True, "use_conv_bias": False},
        {"conv_kernel": 2, "layer_norm_epsilon": 1e-2},
        {"expand": 1, "num_heads": 3, "n_groups": 1},
        {"time_step_rank": 7},
    ],
    ids=str,
)
def test_options_of_transformers_are_kept(kind, options):
    if kind == "mamba":
        options = {k: v for k, v in options.items() if k not in ("num_heads", "n_groups")}
    other, ids = theirs(kind, **options), torch.randint(23, (2, 12))
    ours = MODELS[kind].from_hugging_face(other)
    same(ours(ids), other(ids).logits.detach(), atol=2e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_gradients_are_those_of_transformers(kind):
    other, ids = theirs(kind), torch.randint(23, (2, 9))
    ours = MODELS[kind].from_hugging_face(other)
    other(ids).logits.square().sum().backward()
    ours(ids).square().sum().backward()
    embedding = other.backbone.embeddings.weight.grad
    scale = float(embedding.abs().max())
    same(ours.token_embedding.weight.grad, embedding, atol=1e-4 * scale)
    wanted = other.backbone.layers[0].mixer.A_log.grad
    same(ours.layers[0].mixer.A_log.grad, wanted, atol=1e-4 * float(wanted.abs().max()))


def test_what_they_can_and_we_cannot_is_refused():
    with refuses(ValueError, "hidden_act='gelu', it must be 'silu'"):
        Mamba.from_hugging_face(theirs("mamba", hidden_act="gelu"))
    with refuses(ValueError, "time_step_limit=(0.0, 0.1), it must be (0.0, inf)"):
        Mamba2.from_hugging_face(theirs("mamba2", time_step_limit=(0.0, 0.1)))
    with refuses(ValueError, "must hold a model of type 'mamba', got 'mamba2'"):
        Mamba.from_hugging_face(theirs("mamba2"))
    with refuses(TypeError, "model_or_path must be a transformers model"):
        Mamba2.from_hugging_face(nn.Linear(2, 2))


def tiny(kind, **options):
    options = {"state_size": 3} | ({"head_dim": 4} if kind == "mamba2" else {}) | options
    return spread(MODELS[kind](7, 8, 2, **options)).eval()


@pytest.mark.parametrize("kind", MODELS)
def test_steps_are_the_whole_and_the_state_does_not_grow(kind):
    writing_support.reads_step_by_step(tiny(kind), torch.randint(7, (2, 15)))


@pytest.mark.parametrize("kind", MODELS)
def test_nothing_of_the_future_is_seen(kind):
    ids = torch.randint(7, (1, 12))
    writing_support.sees_nothing_of_the_future(tiny(kind), ids)


@pytest.mark.parametrize("kind", MODELS)
def test_writing_token_by_token_is_writing_from_all_that_was_read(kind):
    writing_support.writes_what_it_would_read(tiny(kind), torch.randint(7, (2, 3)))


@pytest.mark.parametrize("kind", MODELS)
def test_states_of_another_batch_or_shape_are_refused(kind):
    model, ids = tiny(kind), torch.randint(7, (2, 3))
    past = tuple(model.new_state(2).past.shape)
    with refuses(ValueError, f"state.past must have shape {past}"):
        model(ids, model.new_state(3))
    with refuses(TypeError, "state must be a MambaState, got list"):
        model(ids, [1, 2])
    mixer = model.layers[0].mixer
    with refuses(ValueError, "state.h must have shape"):
        mixer(
            torch.zeros(2, 3, 8, dtype=DOUBLE), MambaState(mixer.new_state(2).past, torch.zeros(2))
        )


def test_sizes_that_do_not_fit_are_refused():
    with refuses(ValueError, "head_dim=5 does not divide expand * embed_dim = 16"):
        Mamba2(7, 8, 1, head_dim=5)
    with refuses(ValueError, "num_groups=3 does not divide the 4 heads"):
        Mamba2(7, 8, 1, head_dim=4, num_groups=3)
    with refuses(ValueError, "expand=0 must be a finite number > 0"):
        Mamba(7, 8, 1, expand=0)
    with refuses(ValueError, "state must have 3 entries, got 2"):
        HybridMamba(7, 8, 3, 2)(torch.zeros(1, 2, dtype=torch.long), [None, None])


def test_the_smallest_published_model_has_its_size():
    """mamba-130m: 24 layers of width 768; counted by transformers on the meta device."""
    ours = Mamba(50280, 768, 24, device="meta")
    with torch.device("meta"):
        other = transformers.MambaForCausalLM(transformers.MambaConfig(num_hidden_layers=24))
    count = sum(part.numel() for part in ours.parameters())
    assert count == sum(part.numel() for part in other.parameters()) == 129_135_360


# -------------------------------------------------------------------------------------- the hybrid
@pytest.mark.equation("mamba-hybrid")
def test_a_hybrid_attends_in_one_layer_of_eight_and_adds_two_things_a_layer():
    model = spread(HybridMamba(7, 8, 8, 2, state_size=3)).eval()
    kinds = [type(mixer).__name__ for mixer in model.mixers]
    assert kinds == ["MambaMixer"] * 4 + ["MultiHeadAttention"] + ["MambaMixer"] * 3
    ids = torch.tensor([[1, 5, 2, 3]])
    x = model.token_embedding.weight[ids]
    for i, mixer in enumerate(model.mixers):
        y = F.rms_norm(x, (8,), model.mixer_norms[i].weight, 1e-6)
        x = x + (mixer(y, is_causal=True) if i == 4 else mixer(y)[0])
        y = F.rms_norm(x, (8,), model.network_norms[i].weight, 1e-6) @ model.up[i].weight.T
        x = x + (F.silu(y[..., :16]) * y[..., 16:]) @ model.down[i].weight.T
    x = F.rms_norm(x, (8,), model.norm.weight, 1e-6)
    same(model(ids), x @ model.head.weight.T)


def test_a_hybrid_reads_on_from_its_state():
    model, ids = spread(HybridMamba(7, 8, 4, 2, 2, state_size=3)).eval(), torch.randint(7, (2, 9))
    with torch.no_grad():
        state = model.new_state(2, 16)
        parts = [model(ids[:, at : at + 3], state) for at in (0, 3, 6)]
        same(torch.cat(parts, 1), model(ids))
