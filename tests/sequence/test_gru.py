"""GRU, its reset-before twin and minGRU against torch.nn, numpy loops and automatic derivatives."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.kernels.linear_scan import linear_scan_reference
from nnlib.sequence.gru import GRU, MinGRU, ResetBeforeGRU
from nnlib.sequence.lstm import LSTM
from nnlib.train.metrics import parameter_count
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"input_size": 3, "hidden_size": 5},
        (torch.randn(4, 7, 3),),
        {"lengths": torch.tensor([7, 2, 5, 7])},
    )


DOUBLE = torch.float64


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def drawn(form, *sizes, seed=0, **kwargs):
    """A layer in float64 with weights wide enough to move the gates far from one half."""
    layer = form(*sizes, dtype=DOUBLE, **kwargs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for rows in layer.parameters():
            rows.normal_(generator=generator)
    return layer


def same(got, wanted, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted), rtol=0, atol=atol)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def blocks(layer):
    """W, R, b and c of the gates r, z and n, as numpy arrays."""
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    return [np.split(getattr(layer, name).detach().numpy(), 3) for name in names]


def in_numpy(layer, x, h, *, reset_before=False, z_renews=False):
    """One sequence by the printed equations; returns every r, z, n and h."""
    W, R, b, c = blocks(layer)
    walk = []
    for now in np.asarray(x):
        r = sigmoid(W[0] @ now + b[0] + R[0] @ h + c[0])
        z = sigmoid(W[1] @ now + b[1] + R[1] @ h + c[1])
        past = R[2] @ (r * h) + c[2] if reset_before else r * (R[2] @ h + c[2])
        n = np.tanh(W[2] @ now + b[2] + past)
        h = (1 - z) * h + z * n if z_renews else (1 - z) * n + z * h
        walk.append((r, z, n, h))
    return [np.stack(parts) for parts in zip(*walk, strict=True)]


def negated(layer, form):
    """The same weights in another layer, with the rows of z negated."""
    other = form(layer.input_size, layer.hidden_size, dtype=DOUBLE)
    h = layer.hidden_size
    its = {name: rows.clone() for name, rows in layer.state_dict().items()}
    for rows in its.values():
        rows[h : 2 * h] *= -1
    other.load_state_dict(its)
    return other


@pytest.mark.equation("gru-reset", "gru-update", "gru-candidate", "gru-state", "gru-mixture")
@settings(max_examples=15, deadline=None)
@given(d=st.integers(1, 5), h=st.integers(1, 6), t=st.integers(1, 8), seed=st.integers(0, 999))
def test_the_four_equations_are_torchs_gru(d, h, t, seed):
    theirs = nn.GRU(d, h, batch_first=True, dtype=DOUBLE)
    x, start = normal(1, t, d, seed=seed), normal(1, 1, h, seed=seed + 1)
    layer = drawn(GRU, d, h, seed=seed)
    theirs.load_state_dict(layer.state_dict())
    wanted = theirs(x, start)[0]
    same(layer.loop(x, start)[0], wanted)
    same(layer(x, start)[0], wanted)
    same(wanted[0].detach(), in_numpy(layer, x[0], start[0, 0].numpy())[3])


def test_a_gate_fully_open_to_the_past_keeps_the_state_and_closed_it_is_elmans_network():
    layer, x, start = drawn(GRU, 3, 4), normal(2, 9, 3), normal(1, 2, 4, seed=1)
    with torch.no_grad():
        layer.bias_ih_l0[4:8] = 1e3
        same(layer(x, start)[1], start)
        layer.bias_ih_l0[:4], layer.bias_ih_l0[4:8] = 1e3, -1e3  # r = 1, z = 0
        elman = nn.RNN(3, 4, batch_first=True, dtype=DOUBLE)
        elman.load_state_dict({name: rows[8:] for name, rows in layer.state_dict().items()})
        same(layer(x, start)[0], elman(x, start)[0])


@pytest.mark.equation("gru-unrolled")
@settings(max_examples=15, deadline=None)
@given(h=st.integers(1, 5), t=st.integers(1, 12), seed=st.integers(0, 999))
def test_the_state_is_a_weighted_mean_of_all_candidates_and_the_start(h, t, seed):
    layer, x = drawn(GRU, 2, h, seed=seed), normal(t, 2, seed=seed)
    start = np.random.default_rng(seed).uniform(-1, 1, h)
    _, z, n, states = in_numpy(layer, x, start)
    weights = [np.prod(z, 0)]
    weights += [np.prod(z[j + 1 :], 0) * (1 - z[j]) for j in range(t)]
    total = sum(w * v for w, v in zip(weights, [start, *n], strict=True))
    out, _ = layer(x[None], torch.tensor(start)[None, None])
    same(out[0, -1].detach(), total)
    same(torch.tensor(sum(weights)), np.ones(h))
    assert (np.array(weights) >= 0).all()
    assert (np.abs(states) <= 1).all()


@pytest.mark.equation("gru-span")
@pytest.mark.parametrize("z", [Fraction(1, 2), Fraction(9, 10), Fraction(99, 100)])
def test_the_span_is_the_sum_of_what_is_left_of_a_unit_knock(z):
    terms = 40
    partial = sum(z**k for k in range(terms))
    assert partial == (1 - z**terms) / (1 - z)  # exactly; z**terms vanishes as terms grow
    layer = GRU(1, 1, dtype=DOUBLE)
    with torch.no_grad():
        for rows in layer.parameters():
            rows.zero_()
        layer.bias_ih_l0[1] = math.log(z / (1 - z))
        faded = layer(torch.zeros(1, 9000, 1).double(), torch.ones(1, 1, 1).double())[0]
    assert 1 + faded.sum().item() == pytest.approx(float(1 / (1 - z)), rel=1e-9)


@pytest.mark.equation("gru-jacobian")
@settings(max_examples=15, deadline=None)
@given(h=st.integers(1, 6), seed=st.integers(0, 999))
def test_the_jacobian_of_a_step_is_that_of_autograd(h, seed):
    layer, x, before = (
        drawn(GRU, 3, h, seed=seed),
        normal(1, 3, seed=seed),
        normal(h, seed=seed + 1),
    )
    (r,), (z,), (n,), _ = in_numpy(layer, x, before.numpy())
    _, R, _, c = blocks(layer)
    old = before.numpy()
    inner = np.diag(r) @ R[2] + np.diag((R[2] @ old + c[2]) * r * (1 - r)) @ R[0]
    wanted = (
        np.diag(z)
        + np.diag((old - n) * z * (1 - z)) @ R[1]
        + np.diag((1 - z) * (1 - n * n)) @ inner
    )
    got = torch.autograd.functional.jacobian(lambda v: layer.step(x, v[None, None])[0][0], before)
    same(got, wanted)


@pytest.mark.equation("gru-predict", "gru-loss")
def test_the_loss_is_the_mean_surprise_of_a_softmax():
    layer, score = drawn(GRU, 3, 4), nn.Linear(4, 5).double()
    embedding, ids = normal(5, 3), torch.tensor([3, 1, 4, 1, 0, 2])
    scores = score(layer(embedding[ids][None])[0][0, :-1])
    got = F.cross_entropy(scores, ids[1:]).item()
    states = in_numpy(layer, embedding[ids], np.zeros(4))[3]
    total = 0.0
    for t in range(5):
        s = score.weight.detach().numpy() @ states[t] + score.bias.detach().numpy()
        total -= math.log(math.exp(s[ids[t + 1]]) / sum(math.exp(v) for v in s))
    assert got == pytest.approx(total / 5, abs=1e-12)


@pytest.mark.equation("gru-temperature")
def test_temperature_raises_odds_to_a_power():
    """p_τ(a) / p_τ(b) = (p(a) / p(b))^(1/τ): cold favours, hot flattens, one leaves as it is."""
    s = normal(6)
    p = s.softmax(0)
    for tau in (0.3, 1.0, 2.5):
        q = (s / tau).softmax(0)
        same(q[0] / q[3], (p[0] / p[3]) ** (1 / tau))
        assert q.sum().item() == pytest.approx(1)
    assert (s / 1e-3).softmax(0).argmax() == s.argmax()
    assert (s / 1e-3).softmax(0).max() > 1 - 1e-9
    same((s / 1e9).softmax(0), torch.full((6,), 1 / 6, dtype=DOUBLE), atol=1e-8)


@pytest.mark.equation("gru-candidate-before")
@settings(max_examples=15, deadline=None)
@given(d=st.integers(1, 4), h=st.integers(1, 6), t=st.integers(1, 8), seed=st.integers(0, 999))
def test_reset_before_is_the_published_equation(d, h, t, seed):
    layer, x = drawn(ResetBeforeGRU, d, h, seed=seed), normal(1, t, d, seed=seed)
    wanted = in_numpy(layer, x[0], np.zeros(h), reset_before=True)[3]
    same(layer(x)[0][0].detach(), wanted)
    state = None
    for now in x.unbind(1):
        out, state = layer.step(now, state)
    same(out[0].detach(), wanted[-1])


@pytest.mark.equation("gru-state-swapped", "gru-sign")
@pytest.mark.parametrize("form", [GRU, ResetBeforeGRU])
def test_z_for_one_minus_z_is_a_change_of_sign(form):
    layer, x = drawn(form, 3, 5), normal(1, 12, 3)
    wanted = in_numpy(layer, x[0], np.zeros(5), reset_before=form is not GRU, z_renews=True)[3]
    same(negated(layer, form)(x)[0][0].detach(), wanted)
    assert (layer(x)[0][0].detach() - torch.tensor(wanted)).abs().max() > 0.05
    a = normal(50)
    same(1 - torch.sigmoid(a), torch.sigmoid(-a))


@pytest.mark.parametrize(
    ("units", "c_n", "agree"),
    [(1, 0.0, True), (1, 0.7, False), (2, 0.0, False), (6, 0.0, False)],
)
def test_before_and_after_agree_for_one_unit_without_a_second_bias_only(units, c_n, agree):
    after, before = drawn(GRU, 3, units), ResetBeforeGRU(3, units, dtype=DOUBLE)
    with torch.no_grad():
        after.bias_hh_l0[2 * units :] = c_n
    before.load_state_dict(after.state_dict())
    x = normal(1, 20, 3)
    assert ((after(x)[0] - before(x)[0]).abs().max() < 1e-12) == agree


def test_one_unit_with_a_second_bias_by_hand():
    """r = 0.3, R = 2, h = 0.5, c = 0.7 and an input's part of 0.1; the gate z is closed."""
    after, before = (form(1, 1, dtype=DOUBLE) for form in (GRU, ResetBeforeGRU))
    with torch.no_grad():
        for rows in after.parameters():
            rows.zero_()
        after.bias_ih_l0.copy_(torch.tensor([math.log(0.3 / 0.7), -40, 0.1], dtype=DOUBLE))
        after.weight_hh_l0[2], after.bias_hh_l0[2] = 2.0, 0.7
    before.load_state_dict(after.state_dict())
    x, h = torch.zeros(1, 1, dtype=DOUBLE), torch.full((1, 1, 1), 0.5, dtype=DOUBLE)
    with torch.no_grad():
        same(
            after.step(x, h)[0][0, 0],
            torch.tensor(math.tanh(0.1 + 0.3 * (2 * 0.5 + 0.7)), dtype=DOUBLE),
        )
        same(
            before.step(x, h)[0][0, 0],
            torch.tensor(math.tanh(0.1 + 2 * (0.3 * 0.5) + 0.7), dtype=DOUBLE),
        )


@pytest.mark.equation("gru-four")
@pytest.mark.parametrize("units", [6, 11])
def test_after_the_product_gradients_lie_in_the_span_of_four_vectors(units):
    x, states = normal(1, 3), normal(60, units)

    def gradients(layer, i):
        rows = []
        for h in states:
            h = h[None, None].clone().requires_grad_()
            rows.append(torch.autograd.grad(layer.step(x, h)[0][0, i], h)[0][0, 0])
        return torch.stack(rows).numpy()

    layer, twin = drawn(GRU, 3, units), drawn(ResetBeforeGRU, 3, units)
    R = blocks(layer)[1]
    for i in (0, units - 1):
        seen = gradients(layer, i)
        basis = np.stack([np.eye(units)[i], R[0][i], R[1][i], R[2][i]])
        within = np.linalg.lstsq(basis.T, seen.T, rcond=None)[0].T @ basis
        assert np.abs(seen - within).max() < 1e-10
        assert np.linalg.matrix_rank(seen, tol=1e-9) == 4
        assert np.linalg.matrix_rank(gradients(twin, i), tol=1e-9) == units


@pytest.mark.equation("gru-parameters")
@pytest.mark.parametrize(("d", "h"), [(128, 256), (300, 512), (768, 768), (1, 1)])
def test_parameters_are_three_quarters_of_an_lstms_in_both_countings(d, h):
    with torch.device("meta"):
        counts = [parameter_count(form(d, h)) for form in (GRU, ResetBeforeGRU, nn.GRU)]
        plain = [parameter_count(form(d, h, bias=False)) for form in (GRU, nn.LSTM)]
        lstms = [parameter_count(form(d, h)) for form in (LSTM, nn.LSTM)]
    assert counts == [3 * ((d + h) * h + 2 * h)] * 3
    assert lstms == [4 * ((d + h) * h + 2 * h)] * 2
    assert plain == [3 * (d + h) * h, 4 * (d + h) * h]
    one_bias = [blocks * ((d + h) * h + h) for blocks in (3, 4)]
    assert one_bias == [counts[0] - 3 * h, lstms[0] - 4 * h]
    assert 4 * counts[0] == 3 * lstms[0]
    assert 4 * one_bias[0] == 3 * one_bias[1]


def test_only_the_candidates_second_bias_is_not_redundant():
    layer, x = drawn(GRU, 3, 4), normal(1, 15, 3)
    wanted = layer(x)[0]
    for rows, harmless in ((slice(0, 8), True), (slice(8, 12), False)):
        other = GRU(3, 4, dtype=DOUBLE)
        other.load_state_dict(layer.state_dict())
        with torch.no_grad():
            other.bias_ih_l0[rows] += other.bias_hh_l0[rows]
            other.bias_hh_l0[rows] = 0
        assert ((other(x)[0] - wanted).abs().max() < 1e-12) == harmless
    twin = drawn(ResetBeforeGRU, 3, 4)
    wanted = twin(x)[0].detach()
    with torch.no_grad():
        twin.bias_ih_l0 += twin.bias_hh_l0
        twin.bias_hh_l0.zero_()
    same(twin(x)[0].detach(), wanted)


def test_reset_before_knows_layers_directions_lengths_and_no_bias():
    """Against its own rows, one by one: the shared base has its tests; this cell splits weights."""
    layer = drawn(ResetBeforeGRU, 3, 4, num_layers=2, bidirectional=True, bias=False)
    x, lengths = normal(3, 6, 3), torch.tensor([6, 2, 4])
    out, final = layer(x, lengths=lengths)
    for row, length in enumerate(lengths.tolist()):
        alone, last = layer(x[row : row + 1, :length])
        same(out[row, :length].detach(), alone[0].detach())
        same(final[:, row].detach(), last[:, 0].detach())
        assert not out[row, length:].any()


@pytest.mark.equation("gru-min-gate", "gru-min-candidate", "gru-min-state")
@settings(max_examples=15, deadline=None)
@given(d=st.integers(1, 5), h=st.integers(1, 6), t=st.integers(1, 40), seed=st.integers(0, 999))
def test_min_grus_scan_is_its_loop(d, h, t, seed):
    torch.manual_seed(seed)
    layer, x = MinGRU(d, h).double(), normal(2, t, d, seed=seed)
    gate, candidate = ([p.detach().numpy() for p in part.parameters()]
                       for part in (layer.to_gate, layer.to_candidate))  # fmt: skip
    state, wanted, stepped, at = np.zeros((2, h)), [], [], None
    for now in x.unbind(1):
        z = sigmoid(now.numpy() @ gate[0].T + gate[1])
        state = (1 - z) * state + z * (now.numpy() @ candidate[0].T + candidate[1])
        wanted.append(state)
        at = layer.step(now, at)
        stepped.append(at)
    same(layer(x).detach(), np.stack(wanted, 1))
    same(torch.stack(stepped, 1).detach(), np.stack(wanted, 1))


def test_min_grus_gradients_are_those_of_the_loop():
    torch.manual_seed(1)
    layer, x, weight = MinGRU(3, 4).double(), normal(2, 30, 3), normal(2, 30, 4, seed=2)
    wanted, state = [], None
    for now in x.unbind(1):
        state = layer.step(now, state)
        wanted.append(state)
    wanted = torch.autograd.grad((torch.stack(wanted, 1) * weight).sum(), layer.parameters())
    got = torch.autograd.grad((layer(x) * weight).sum(), layer.parameters())
    for a, b in zip(got, wanted, strict=True):
        same(a, b)


@pytest.mark.equation("gru-min-combine")
@given(cut=st.integers(1, 19), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_steps_combine_in_any_grouping(cut, seed):
    a, b = torch.rand(20, 3, dtype=DOUBLE), normal(20, 3, seed=seed)

    def after(one, two):  # one first
        return two[0] * one[0], two[0] * one[1] + two[1]

    def fold(parts):
        total = parts[0]
        for part in parts[1:]:
            total = after(total, part)
        return total

    steps = list(zip(a, b, strict=True))
    whole = fold(steps)
    for x, y in zip(after(fold(steps[:cut]), fold(steps[cut:])), whole, strict=True):
        same(x, y)
    start = normal(1, 3, seed=seed + 1)
    wanted = linear_scan_reference(a[None], b[None], start)[0, -1]
    same(whole[0] * start[0] + whole[1], wanted)


@pytest.mark.equation("gru-min-slope")
def test_a_min_gru_step_rises_with_its_own_old_state_and_no_other():
    torch.manual_seed(0)
    layer, x = MinGRU(3, 5).double(), 3 * normal(1, 3)
    jacobian = torch.autograd.functional.jacobian(lambda h: layer.step(x, h[None])[0], normal(5))
    with torch.no_grad():
        same(jacobian, torch.diag(1 - layer.to_gate(x)[0].sigmoid()))
    assert (jacobian.diagonal() > 0).all()
    assert (jacobian.diagonal() < 1).all()


def test_a_min_gru_needs_its_gate_to_renew():
    """z is the share of the new: shut, it keeps the state; wide open, it takes the candidate."""
    layer, x, h = MinGRU(3, 4), torch.randn(2, 3), torch.randn(2, 4)
    nn.init.zeros_(layer.to_gate.weight)
    nn.init.constant_(layer.to_gate.bias, -100.0)
    torch.testing.assert_close(layer.step(x, h), h)
    nn.init.constant_(layer.to_gate.bias, 100.0)
    torch.testing.assert_close(layer.step(x, h), layer.to_candidate(x))


def test_min_gru_names_bad_input():
    with refuses(ValueError, "hidden_size=0 must be an integer ≥ 1"):
        MinGRU(3, 0)
    layer = MinGRU(3, 4)
    with refuses(ValueError, "x must have shape (b, t, 3), got (2, 5, 4)"):
        layer(torch.zeros(2, 5, 4))
    with refuses(ValueError, "x must not be empty, got shape (2, 0, 3)"):
        layer(torch.zeros(2, 0, 3))
    with refuses(TypeError, "x must be floating point"):
        layer(torch.zeros(2, 5, 3, dtype=torch.int64))
    with refuses(ValueError, "x must have shape (b, 3), got (2, 4)"):
        layer.step(torch.zeros(2, 4))
    with refuses(ValueError, "state must have shape (2, 4), got (2, 5)"):
        layer.step(torch.zeros(2, 3), torch.zeros(2, 5))
