"""The LSTM against torch.nn, autograd, finite differences, closed forms and loops over numbers.

What RNN, LSTM and GRU share stands in tests/blocks/test_recurrent.py.
"""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, jacrev

from nnlib.sequence.lstm import LSTM, PeepholeLSTM, cell_jacobian, chrono_, forget_bias_
from nnlib.train.update import take_step
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"input_size": 3, "hidden_size": 5},
        (torch.randn(4, 7, 3),),
        {"lengths": torch.tensor([7, 2, 5, 7])},
    )


EXACT = {"rtol": 0, "atol": 0}
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def by_hand(layer, x, h, c):
    """Walk one sequence with plain numbers, unit by unit; return lists i, f, g, o, c, h."""
    W, R = (p.detach().numpy() for p in (layer.weight_ih_l0, layer.weight_hh_l0))
    b = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().numpy()
    peek = getattr(layer, "weight_ch_l0", torch.zeros(3, layer.hidden_size)).detach().numpy()
    size, out = layer.hidden_size, []
    for now in x.numpy():
        row = []
        for unit in range(size):
            z = [
                sum(W[k * size + unit, j] * now[j] for j in range(len(now)))
                + sum(R[k * size + unit, j] * h[j] for j in range(size))
                + b[k * size + unit]
                for k in range(4)
            ]
            i = sigmoid(z[0] + peek[0, unit] * c[unit])
            f = sigmoid(z[1] + peek[1, unit] * c[unit])
            g = math.tanh(z[2])
            new = f * c[unit] + i * g
            o = sigmoid(z[3] + peek[2, unit] * new)
            row.append((i, f, g, o, new, o * math.tanh(new)))
        columns = list(zip(*row, strict=True))
        c, h = columns[4], columns[5]
        out.append(columns)
    return torch.tensor(out, dtype=torch.float64).unbind(1)


sizes = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 6), st.integers(0, 2**31))


def drawn(make, size):
    """A layer in float64, a sequence t d, and its first states h and c."""
    d, h, t, seed = size
    torch.manual_seed(seed)
    layer = make(d, h, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.mul_(2)
    return layer, torch.randn(t, d).double(), torch.randn(2, h).double()


@pytest.mark.equation("lstm-input", "lstm-forget", "lstm-candidate", "lstm-output", "lstm-cell",
                      "lstm-hidden", "lstm-update")  # fmt: skip
@settings(max_examples=25, deadline=None)
@given(size=sizes)
def test_every_gate_and_state_is_that_of_a_loop_over_numbers(size):
    layer, x, (h, c) = drawn(LSTM, size)
    got = layer.trace(x[None], (h[None, None], c[None, None]))
    for name, a, b in zip(got._fields, got, by_hand(layer, x, h.tolist(), c.tolist()), strict=True):
        torch.testing.assert_close(a[0], b, **CLOSE, msg=f"{name} differs")


@pytest.mark.equation("lstm-plain")
@settings(max_examples=15, deadline=None)
@given(size=sizes)
def test_a_candidate_is_what_a_plain_network_would_have_made_its_state(size):
    """Its block of weights in torch's plain cell gives the candidate; so do plain numbers."""
    layer, x, (h, c) = drawn(LSTM, size)
    hidden = layer.hidden_size
    got = layer.trace(x[None], (h[None, None], c[None, None]))
    plain = nn.RNNCell(layer.input_size, hidden).double()
    block = slice(2 * hidden, 3 * hidden)
    for ours, theirs in zip(layer.parameters(), plain.parameters(), strict=True):
        theirs.data = ours.data[block]
    W, R, *biases = (parameter.detach() for parameter in plain.parameters())
    b = sum(biases)
    shown = torch.cat([h[None], got.h[0, :-1]])
    for now, last, proposed in zip(x, shown.detach(), got.g[0], strict=True):
        by_numbers = [
            math.tanh(sum(w * v for w, v in zip(W[k], now, strict=True))
                      + sum(r * v for r, v in zip(R[k], last, strict=True)) + b[k])
            for k in range(hidden)
        ]  # fmt: skip
        wanted = torch.tensor(by_numbers, dtype=torch.float64)
        torch.testing.assert_close(plain(now, last), wanted, **CLOSE)
        torch.testing.assert_close(proposed, plain(now, last), **CLOSE)


@pytest.mark.equation("lstm-peephole")
@settings(max_examples=25, deadline=None)
@given(size=sizes)
def test_peepholes_are_those_of_a_loop_over_numbers(size):
    layer, x, (h, c) = drawn(PeepholeLSTM, size)
    got = layer.trace(x[None], (h[None, None], c[None, None]))
    for name, a, b in zip(got._fields, got, by_hand(layer, x, h.tolist(), c.tolist()), strict=True):
        torch.testing.assert_close(a[0], b, **CLOSE, msg=f"{name} differs")
    out, (last_h, last_c) = layer(x[None], (h[None, None], c[None, None]))
    torch.testing.assert_close(out, got.h, **EXACT)
    torch.testing.assert_close((last_h[0], last_c[0]), (got.h[:, -1], got.c[:, -1]), **EXACT)


def test_the_gates_stand_in_torchs_order():
    theirs, ours = nn.LSTMCell(3, 4).double(), LSTM(3, 4, dtype=torch.float64)
    ours.load_state_dict({name + "_l0": value for name, value in theirs.state_dict().items()})
    x, h, c = torch.randn(2, 3).double(), torch.randn(2, 4).double(), torch.randn(2, 4).double()
    tick = ours.tick(x @ ours.weight_ih_l0.T + ours.bias_ih_l0, (h, c), ours.weights_of("_l0"))
    torch.testing.assert_close((tick.h, tick.c), theirs(x, (h, c)), **CLOSE)


@pytest.mark.parametrize("kwargs", [{}, {"bias": False}, {"batch_first": False},
                                    {"num_layers": 2, "bidirectional": True}])  # fmt: skip
def test_without_peeking_a_peephole_lstm_is_torchs(kwargs):
    torch.manual_seed(0)
    ours = PeepholeLSTM(3, 4, **kwargs, dtype=torch.float64)
    theirs = nn.LSTM(3, 4, **({"batch_first": True} | kwargs)).double()
    weights = ours.state_dict()
    theirs.load_state_dict({k: v for k, v in weights.items() if "_ch_" not in k})
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if "_ch_" in name:
                parameter.zero_()
    x, lengths = torch.randn(5, 5, 3).double(), torch.tensor([5, 2, 4, 1, 3])
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)
    first = kwargs.get("batch_first", True)
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, first, enforce_sorted=False)
    wanted, _ = nn.utils.rnn.pad_packed_sequence(theirs(packed)[0], first, total_length=5)
    torch.testing.assert_close(ours(x, lengths=lengths)[0], wanted, **CLOSE)
    again, _ = nn.utils.rnn.pad_packed_sequence(ours(packed)[0], first, total_length=5)
    torch.testing.assert_close(again, wanted, **CLOSE)


def test_a_peephole_lstm_steps_as_it_walks_and_has_exact_gradients():
    torch.manual_seed(1)
    layer, state = PeepholeLSTM(2, 3, 2, dtype=torch.float64), None
    x = torch.randn(2, 4, 2).double().requires_grad_()
    wanted, _ = layer(x)
    for t, now in enumerate(x.unbind(1)):
        out, state = layer.step(now, state)
        torch.testing.assert_close(out, wanted[:, t], **CLOSE)
    peek = layer.weight_ch_l1.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, p: functional_call(layer, {"weight_ch_l1": p}, (x,))[0], (x, peek)
    )
    drawn_once = layer.weight_ch_l0
    assert drawn_once.abs().max() <= 3**-0.5
    assert drawn_once.std() > 0


def test_behind_a_closed_output_gate_only_peepholes_see_the_cell():
    for make, sees in ((LSTM, False), (PeepholeLSTM, True)):
        torch.manual_seed(2)
        layer = make(2, 3, dtype=torch.float64)
        with torch.no_grad():
            layer.bias_ih_l0[9:] = -1000  # o = 0

        def next_gates(c, layer=layer):
            h = layer.step(torch.ones(1, 2).double(), (torch.zeros_like(c), c))[1][0]
            first = layer.trace(torch.ones(1, 2, 2).double(), (h, c))
            return first.f[:, 0] + first.i[:, 0]

        slope = jacrev(next_gates)(torch.ones(1, 1, 3).double())
        assert bool(slope.abs().max() > 1e-3) is sees


@pytest.mark.equation("lstm-unrolled")
def test_the_cell_is_the_sum_of_what_was_written_as_far_as_it_was_kept():
    torch.manual_seed(3)
    layer, x = LSTM(2, 4, dtype=torch.float64), torch.randn(3, 9, 2).double()
    theirs = nn.LSTM(2, 4, batch_first=True).double()
    theirs.load_state_dict(layer.state_dict())
    i, f, g = layer.trace(x)[:3]
    kept = [i[:, k] * g[:, k] * f[:, k + 1 :].prod(1) for k in range(9)]
    torch.testing.assert_close(sum(kept), theirs(x)[1][1][0], **CLOSE)


def jacobian(layer, x, k, cut=False):
    """∂c_T/∂c_k by automatic differentiation, h_k = o_k tanh(c_k) following; `cut`: h fixed."""
    ticks, weights = layer.trace(x[None]), layer.weights_of("_l0")

    def last(c):
        h = ticks.o[0, k] * c.tanh()
        for now in x[k + 1 :] @ weights["weight_ih"].T + weights["bias_ih"]:
            h, c = layer.cell(now[None], (h.detach()[None] if cut else h[None], c[None]), weights)
            h, c = h[0], c[0]
        return c

    return torch.autograd.functional.jacobian(last, ticks.c[0, k].detach())


@pytest.mark.equation("lstm-jacobian", "lstm-detour")
@settings(max_examples=15, deadline=None)
@given(size=sizes, share=st.floats(0, 1))
def test_the_true_jacobian_is_that_of_autograd(size, share):
    layer, x, _ = drawn(LSTM, size)
    start = int(share * (len(x) - 1))
    true, _ = cell_jacobian(layer, x, start)
    assert len(true) == len(x) - start
    for end in range(start, len(x)):
        wanted = jacobian(layer, x[: end + 1], start)
        torch.testing.assert_close(true[end - start], wanted, rtol=1e-8, atol=1e-11)


@pytest.mark.equation("lstm-jacobian-step")
def test_one_step_has_the_direct_term_and_the_detour():
    torch.manual_seed(4)
    layer, x = LSTM(2, 3, dtype=torch.float64), torch.randn(5, 2).double()
    t = layer.trace(x[None])
    before, after = ([part[0, k] for part in t] for k in (3, 4))
    shown = before[3] * (1 - before[4].tanh() ** 2)

    def cell_of(h):  # A_t, by autograd instead of by its formula
        projected = x[4:5] @ layer.weight_ih_l0.T + layer.bias_ih_l0
        return layer.cell(projected, (h[None], before[4][None]), layer.weights_of("_l0"))[1][0]

    step = torch.diag(after[1]) + jacrev(cell_of)(before[5]) @ torch.diag(shown)
    eps, columns = 1e-6, []
    for e in torch.eye(3).double():
        ends = []
        for c in (before[4] + eps * e, before[4] - eps * e):
            h = before[3] * c.tanh()
            ends.append(layer(x[None, 4:], (h[None, None], c[None, None]))[1][1][0, 0])
        columns.append((ends[0] - ends[1]) / (2 * eps))
    torch.testing.assert_close(step, torch.stack(columns, 1), rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(step, cell_jacobian(layer, x, 3)[0][1], **CLOSE)


@pytest.mark.equation("lstm-path-step", "lstm-path")
@settings(max_examples=15, deadline=None)
@given(size=sizes)
def test_with_the_hidden_state_cut_out_only_the_forget_gates_are_left(size):
    layer, x, _ = drawn(LSTM, size)
    _, path = cell_jacobian(layer, x)
    for end in range(len(x)):
        wanted = jacobian(layer, x[: end + 1], 0, cut=True)
        torch.testing.assert_close(path[end], wanted, **CLOSE)
    f = layer.trace(x[None]).f[0]
    if len(x) > 1:
        torch.testing.assert_close(path[1], torch.diag(f[1]), **CLOSE)


def test_without_recurrent_weights_there_is_no_detour():
    layer = LSTM(2, 3, dtype=torch.float64)
    layer.weight_hh_l0.data.zero_()
    true, path = cell_jacobian(layer, torch.randn(7, 2).double(), 2)
    torch.testing.assert_close(true, path, **CLOSE)


def test_after_some_steps_the_path_is_a_small_part_of_the_jacobian():
    off = torch.zeros(51)
    for seed in range(4):
        torch.manual_seed(seed)
        layer, x = LSTM(16, 16, dtype=torch.float64), torch.randn(71, 16).double()
        true, path = cell_jacobian(layer, x, 20)
        off += (true - path).flatten(1).norm(dim=1) / true.flatten(1).norm(dim=1) / 4
    assert 0.1 < off[1] < 0.4
    assert 0.45 < off[5] < 0.85
    assert off[20] > 0.85


@pytest.mark.equation("lstm-backward-cell", "lstm-backward-blocks", "lstm-backward-weights")
@settings(max_examples=15, deadline=None)
@given(size=sizes)
def test_one_step_backwards_is_what_autograd_does(size):
    """Every gradient on the way back, from plain numbers, against torch.nn.LSTM's."""
    layer, x, (h_0, c_0) = drawn(LSTM, size)
    theirs, hidden = nn.LSTM(layer.input_size, layer.hidden_size).double(), layer.hidden_size
    theirs.load_state_dict(layer.state_dict())
    torch.manual_seed(size[-1])
    share = torch.randn(len(x), hidden).double()  # of each h_t in the loss
    first = [state[None].clone().requires_grad_() for state in (h_0, c_0)]
    loss = (theirs(x, tuple(first))[0] * share).sum()
    learned = (theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0)
    wanted = torch.autograd.grad(loss, (*learned, *first))

    i, f, g, o, c, h = (p.tolist() for p in by_hand(layer, x, h_0.tolist(), c_0.tolist()))
    R = layer.weight_hh_l0.tolist()
    h_before, c_before = [h_0.tolist(), *h[:-1]], [c_0.tolist(), *c[:-1]]
    later_c, deltas, units = None, {}, range(hidden)
    for t in reversed(range(len(x))):
        grad_h = [share[t, j].item() for j in units]
        grad_c = [0.0] * hidden
        if later_c is not None:
            for j in units:
                grad_h[j] += sum(R[row][j] * deltas[t + 1][row] for row in range(4 * hidden))
                grad_c[j] = f[t + 1][j] * later_c[j]
        for j in units:
            grad_c[j] += grad_h[j] * o[t][j] * (1 - math.tanh(c[t][j]) ** 2)
        later_c = grad_c
        deltas[t] = [
            *(grad_c[j] * g[t][j] * i[t][j] * (1 - i[t][j]) for j in units),
            *(grad_c[j] * c_before[t][j] * f[t][j] * (1 - f[t][j]) for j in units),
            *(grad_c[j] * i[t][j] * (1 - g[t][j] ** 2) for j in units),
            *(grad_h[j] * math.tanh(c[t][j]) * o[t][j] * (1 - o[t][j]) for j in units),
        ]
    delta = torch.tensor([deltas[t] for t in range(len(x))], dtype=torch.float64)
    back = [sum(R[row][j] * deltas[0][row] for row in range(4 * hidden)) for j in units]
    found = (
        delta.T @ x,
        delta.T @ torch.tensor(h_before, dtype=torch.float64),
        delta.sum(0),
        torch.tensor([back], dtype=torch.float64),
        torch.tensor([[f[0][j] * later_c[j] for j in units]], dtype=torch.float64),
    )
    for name, ours, of_torch in zip("WRbhc", found, wanted, strict=True):
        torch.testing.assert_close(ours, of_torch, **CLOSE, msg=f"gradient of {name} differs")


@pytest.mark.equation("lstm-timescale")
@pytest.mark.parametrize("bias", [-2.0, 0.0, 1.0, 3.0, 6.0])
def test_a_gate_keeps_one_eth_for_as_long_as_its_bias_says(bias):
    layer = forget_bias_(LSTM(1, 1, dtype=torch.float64), bias)
    with torch.no_grad():
        layer.weight_ih_l0.zero_()
        layer.weight_hh_l0.zero_()
        layer.bias_ih_l0[2] = layer.bias_hh_l0[2] = 0  # nothing is written
    one = torch.ones(1, 1, 1).double()
    steps = 3000
    cells = layer.trace(torch.zeros(1, steps, 1).double(), (0 * one, one)).c.flatten()
    tau = 1 / math.log1p(math.exp(-bias))
    logs = cells[cells > 1e-250].log()
    torch.testing.assert_close(
        -logs, torch.arange(1, len(logs) + 1).double() / tau, rtol=1e-9, atol=1e-9
    )
    if bias >= 3:
        assert tau == pytest.approx(math.exp(bias) + 0.5, abs=0.01)
    assert tau == pytest.approx(-1 / math.log(scipy.stats.logistic.cdf(bias)), rel=1e-12)


@pytest.mark.parametrize("make", [LSTM, PeepholeLSTM, nn.LSTM])
def test_the_forget_bias_is_the_whole_bias_of_every_forget_gate(make):
    torch.manual_seed(0)
    layer = make(3, 4, 2, bidirectional=True)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert forget_bias_(layer, 1.5) is layer
    for suffix in ("_l0", "_l0_reverse", "_l1", "_l1_reverse"):
        total = getattr(layer, "bias_ih" + suffix) + getattr(layer, "bias_hh" + suffix)
        torch.testing.assert_close(total[4:8], torch.full((4,), 1.5), **EXACT)
    for name, value in layer.state_dict().items():
        rest = [0, 1, 2, 3, *range(8, 16)] if "bias" in name else slice(None)
        torch.testing.assert_close(value[rest], before[name][rest], **EXACT)


@pytest.mark.equation("lstm-chrono")
def test_chrono_draws_times_evenly_up_to_the_longest():
    layer = LSTM(1, 4000, 1)
    generator = torch.Generator().manual_seed(1)
    assert chrono_(layer, 100, generator) is layer
    total = (layer.bias_ih_l0 + layer.bias_hh_l0).detach().double()
    b_i, b_f = total[:4000], total[4000:8000]
    torch.testing.assert_close(b_i, -b_f, **EXACT)
    even = scipy.stats.kstest(b_f.exp().numpy(), scipy.stats.uniform(1, 98).cdf)
    assert even.pvalue > 0.01
    assert b_f.min() >= 0
    assert b_f.max() <= math.log(99) + 1e-6
    again = chrono_(nn.LSTM(1, 4000), 100, torch.Generator().manual_seed(1))
    torch.testing.assert_close(again.bias_ih_l0[:8000], layer.bias_ih_l0[:8000], **EXACT)


@pytest.mark.equation("lstm-parameters", "lstm-parameters-torch")
@settings(max_examples=20, deadline=None)
@given(d=st.integers(1, 9), h=st.integers(1, 9))
def test_parameters_are_counted_in_both_conventions(d, h):
    ours = sum(p.numel() for p in LSTM(d, h).parameters())
    assert ours == sum(p.numel() for p in nn.LSTM(d, h).parameters())
    assert ours == 4 * ((h + d) * h + h) + 4 * h
    one_bias = sum(p.numel() for n, p in LSTM(d, h).named_parameters() if n != "bias_hh_l0")
    assert one_bias == 4 * ((h + d) * h + h)
    assert sum(p.numel() for p in PeepholeLSTM(d, h).parameters()) == ours + 3 * h


@pytest.mark.equation("lstm-runaway")
@pytest.mark.parametrize("bias", [0.0, 2.0, 100.0])
def test_cells_are_bounded_by_their_forget_gates(bias):
    torch.manual_seed(5)
    layer = forget_bias_(LSTM(2, 8), bias)
    with torch.no_grad():
        ticks = layer.trace(3 + 5 * torch.randn(1, 300, 2))
    steps = torch.arange(1, 301)[:, None]
    most = ticks.f[0].max(0).values
    assert (ticks.c[0].abs() <= steps).all()
    if bias == 100:
        assert (ticks.f == 1).all()  # the cell of 1997
        assert ticks.c.abs().max() > 50
    else:
        # The bound as a sum: F is the largest gate of the whole run.
        bound = torch.stack([sum(most.double() ** k for k in range(t)) for t in range(1, 301)])
        closed = (1 - most.double() ** steps) / (1 - most.double())
        torch.testing.assert_close(bound, closed, rtol=1e-6, atol=1e-9)
        assert (ticks.c[0].abs() <= closed + 1e-4).all()


@pytest.mark.equation("lstm-pencil")
def test_the_worked_example_holds():
    layer = nn.LSTM(1, 1, batch_first=True).double()
    with torch.no_grad():
        for parameter, value in zip(
            layer.parameters(), ([0, 0, 1, 0], [0] * 4, [0, 2, 0, 1], [0] * 4), strict=True
        ):
            parameter.copy_(torch.tensor(value).view(parameter.shape))
    out, (_, c) = layer(torch.tensor([[[1.0], [0.0]]]).double())
    assert out.flatten().tolist() == pytest.approx([0.2657, 0.2364], abs=5e-5)
    assert c.item() == pytest.approx(0.3354, abs=5e-5)
    assert 0.5 * math.tanh(1) == pytest.approx(0.3808, abs=5e-5)
    assert sigmoid(2) * 0.3808 == pytest.approx(0.3354, abs=5e-5)


@pytest.mark.equation("lstm-adding-variance")
def test_always_answering_one_is_off_by_a_sixth():
    exact, _ = scipy.integrate.dblquad(lambda a, b: (a + b - 1) ** 2, 0, 1, 0, 1)
    assert exact == pytest.approx(1 / 6, abs=1e-9)
    assert 2 * scipy.stats.uniform.var() == pytest.approx(1 / 6, abs=1e-12)


@pytest.mark.equation("lstm-clip")
@pytest.mark.parametrize("longest", [0.01, 1.0, 1e6])
def test_clipping_is_the_nearest_gradient_that_is_short_enough(longest):
    """Scaling down to the ball is the projection onto it, and what torch's function does."""
    torch.manual_seed(8)
    layer = LSTM(2, 3, dtype=torch.float64)
    layer(torch.randn(4, 6, 2).double())[0].square().sum().backward()
    parameters = list(layer.parameters())
    q = torch.cat([p.grad.flatten() for p in parameters])
    wanted = min(1.0, longest / math.sqrt(sum(v * v for v in q.tolist()))) * q
    take_step(torch.optim.SGD(parameters, lr=0.0), clip=longest)
    got = torch.cat([p.grad.flatten() for p in parameters])
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=0)  # torch adds 1e-6 to the norm
    assert got.norm() <= longest
    others = torch.randn(200, len(q)).double()
    others *= (longest / others.norm(dim=1, keepdim=True)).clamp(max=1)
    assert ((others - q).norm(dim=1) >= (got - q).norm() * (1 - 1e-5)).all()


@pytest.mark.equation("lstm-readout", "lstm-objective")
def test_the_answer_is_read_off_the_last_state_and_scored_by_its_square():
    torch.manual_seed(6)
    layer, theirs = LSTM(2, 5, dtype=torch.float64), nn.LSTM(2, 5, batch_first=True).double()
    theirs.load_state_dict(layer.state_dict())
    answer, x = nn.Linear(5, 1).double(), torch.randn(7, 4, 2).double()
    got = answer(layer(x)[0][:, -1])[:, 0]  # as the chapter reads it
    u, a = answer.weight.detach().numpy()[0], answer.bias.item()
    h = theirs(x)[1][0][0].detach().numpy()
    wanted = [sum(u[j] * h[m, j] for j in range(5)) + a for m in range(7)]
    np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=1e-10)
    y = torch.randn(7).double()
    loss = nn.functional.mse_loss(got, y)
    assert (got - y).square().mean().item() == pytest.approx(loss.item(), rel=1e-12)
    slope = torch.autograd.grad((got - y).square().mean(), answer.bias)[0].item()
    assert slope == pytest.approx(2 * np.mean(np.array(wanted) - y.numpy()), rel=1e-9)


def test_the_running_cell_of_a_trace_is_that_of_the_fused_operator():
    torch.manual_seed(7)
    for first in (True, False):
        layer = LSTM(3, 4, batch_first=first, dtype=torch.float64)
        x, state = torch.randn(5, 5, 3).double(), tuple(torch.randn(2, 1, 5, 4).double())
        ticks = layer.trace(x, state)
        out, (_, c) = layer(x, state)
        torch.testing.assert_close(ticks.h, out, **CLOSE)
        last = ticks.c[:, -1] if first else ticks.c[-1]
        torch.testing.assert_close(last, c[0], **CLOSE)


def test_bad_arguments_are_refused_by_name():
    with refuses(ValueError, "trace needs num_layers=1 and bidirectional=False, got 2 and False"):
        LSTM(3, 4, 2).trace(torch.zeros(1, 2, 3))
    with refuses(ValueError, "x must have shape (b, t, 3), got (1, 2, 4)"):
        LSTM(3, 4).trace(torch.zeros(1, 2, 4))
    with refuses(ValueError, "state must hold 2 tensors, got 1"):
        LSTM(3, 4).trace(torch.zeros(1, 2, 3), torch.zeros(1, 1, 4))
    with refuses(ValueError, "layer must have biases, got bias=False"):
        forget_bias_(LSTM(3, 4, bias=False), 1.0)
    with refuses(ValueError, "layer must have biases, got bias=False"):
        chrono_(LSTM(3, 4, bias=False), 10)
    with refuses(TypeError, "layer must be an LSTM, got GRU"):
        forget_bias_(nn.GRU(3, 4), 1.0)
    with refuses(ValueError, "value=inf must be a finite number"):
        forget_bias_(LSTM(3, 4), math.inf)
    with refuses(ValueError, "longest=1 must be an integer ≥ 2"):
        chrono_(LSTM(3, 4), 1)
    with refuses(ValueError, "start=5 must be below 5, the steps of x"):
        cell_jacobian(LSTM(3, 4), torch.zeros(5, 3), 5)
    with refuses(ValueError, "x must have shape (t, 3), got (2, 5, 3)"):
        cell_jacobian(LSTM(3, 4), torch.zeros(2, 5, 3))
    with refuses(TypeError, "layer must be an LSTM without peepholes, got PeepholeLSTM"):
        cell_jacobian(PeepholeLSTM(3, 4), torch.zeros(5, 3))
    with refuses(ValueError, "hidden_size=0 must be an integer ≥ 1"):
        PeepholeLSTM(3, 0)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_saturated_gates_give_finite_values_and_gradients(scale):
    for make in (LSTM, PeepholeLSTM):
        layer = make(2, 3)
        x = scale * torch.randn(2, 6, 2)
        for form in (layer.forward, layer.loop):
            out, _ = form(x)
            grads = torch.autograd.grad(out.sum(), list(layer.parameters()))
            assert all(torch.isfinite(t).all() for t in (out, *grads))
