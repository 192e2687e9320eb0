"""What RNN, LSTM and GRU share, held to torch.nn on drawn sizes, layers, directions and lengths."""

import contextlib

import jaxtyping
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from nnlib.blocks import recurrent
from nnlib.blocks._between_ends import between_ends
from nnlib.sequence.gru import GRU, ResetBeforeGRU
from nnlib.sequence.lstm import LSTM, PeepholeLSTM
from nnlib.sequence.rnn import RNN
from tests.support import refuses

KINDS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
kinds = pytest.mark.parametrize("kind", KINDS)
CLOSE = {"rtol": 1e-6, "atol": 1e-12}


def tensors(result):
    """Return the tensors of nested tuples, packed sequences opened."""
    if isinstance(result, PackedSequence):
        return [result.data]
    if isinstance(result, Tensor):
        return [result]
    return [found for part in result for found in tensors(part)]


@st.composite
def cases(draw):
    size = st.integers(1, 6)
    case = {
        "input_size": draw(size), "hidden_size": draw(size), "num_layers": draw(st.integers(1, 3)),
        "bidirectional": draw(st.booleans()), "bias": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
    }  # fmt: skip
    batch, time = draw(st.integers(1, 4)), draw(st.integers(1, 7))
    lengths = draw(st.lists(st.integers(1, time), min_size=batch, max_size=batch))
    return case, batch, time, lengths, draw(st.booleans()), draw(st.integers(0, 2**31))


def build(kind, case, batch, time, started, seed):
    """Return our layer, torch's with the same weights, an input and initial states."""
    torch.manual_seed(seed)
    ours_class, torch_class = KINDS[kind]
    wanted = torch_class(**case).double()
    ours = ours_class(**case, dtype=torch.float64)
    ours.load_state_dict(wanted.state_dict())
    shape = (batch, time) if case["batch_first"] else (time, batch)
    x = torch.randn(*shape, case["input_size"], dtype=torch.float64)
    rows = case["num_layers"] * (1 + case["bidirectional"])
    state = torch.randn(2, rows, batch, case["hidden_size"], dtype=torch.float64)
    state = (state[0], state[1]) if kind == "lstm" else state[0]
    return ours, wanted, x, state if started else None


def gradients(results, x, layer):
    torch.manual_seed(5)
    total = sum((out * torch.randn(out.shape).to(out)).sum() for out in tensors(results))
    grads = torch.autograd.grad(total, [x, *layer.parameters()])
    return dict(zip(["x", *dict(layer.named_parameters())], grads, strict=True))


def same(got, wanted):
    for a, b in zip(tensors(got), tensors(wanted), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@kinds
@settings(max_examples=25, deadline=None)
@given(drawn=cases())
def test_outputs_states_and_gradients_are_those_of_torch(kind, drawn):
    case, batch, time, _, started, seed = drawn
    ours, theirs, x, state = build(kind, case, batch, time, started, seed)
    x.requires_grad_()
    wanted = theirs(x, state)
    wanted_grads = gradients(wanted, x, theirs)
    for form in (ours.forward, ours.loop):
        got = form(x, state)
        same(got, wanted)
        grads = gradients(got, x, ours)
        for name, grad in wanted_grads.items():
            torch.testing.assert_close(grads[name], grad, **CLOSE, msg=name)


@kinds
@settings(max_examples=20, deadline=None)
@given(drawn=cases())
def test_lengths_give_what_torch_gives_for_packed_sequences(kind, drawn):
    case, batch, time, lengths, started, seed = drawn
    ours, theirs, x, state = build(kind, case, batch, time, started, seed)
    first = case["batch_first"]
    packed = pack_padded_sequence(x, torch.tensor(lengths), first, enforce_sorted=False)
    out, final = theirs(packed, state)
    wanted = (pad_packed_sequence(out, first, total_length=time)[0], final)
    same(ours(x, state, torch.tensor(lengths)), wanted)
    same(ours.loop(x, state, torch.tensor(lengths)), wanted)
    same(ours(packed, state), (out, final))


@kinds
@settings(max_examples=20, deadline=None)
@given(drawn=cases())
def test_the_operator_between_ends_gives_the_gradients_of_packed_sequences(kind, drawn):
    case, batch, time, lengths, started, seed = drawn
    ours, theirs, x, state = build(kind, case, batch, time, started, seed)
    x.requires_grad_()
    first, lengths = case["batch_first"], torch.tensor(lengths)
    out, final = theirs(pack_padded_sequence(x, lengths, first, enforce_sorted=False), state)
    wanted = (pad_packed_sequence(out, first, total_length=time)[0], final)
    got = between_ends(ours, x, ours._initial(state, batch, x), lengths)
    same(got, wanted)
    grads = gradients(got, x, ours)
    for name, grad in gradients(wanted, x, theirs).items():
        torch.testing.assert_close(grads[name], grad, **CLOSE, msg=name)


@kinds
def test_long_sequences_of_many_lengths_train_from_end_to_end(kind, monkeypatch):
    """Torch's packed operator takes the square of the time; without gradients it is the faster."""
    ours, theirs = KINDS[kind][0](6, 5), KINDS[kind][1](6, 5, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    x, lengths = torch.randn(4, 90, 6), torch.tensor([90, 3, 77, 77])
    taken = []
    spied = lambda *given: taken.append(given) or between_ends(*given)  # noqa: E731  one line
    monkeypatch.setattr(recurrent, "between_ends", spied)
    out = ours(x, lengths=lengths)[0]
    assert len(taken) == 1
    with torch.no_grad():
        torch.testing.assert_close(ours(x, lengths=lengths)[0], out)
    ours(x[:, :60], lengths=lengths.clamp(max=60))
    assert len(taken) == 1
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    torch.testing.assert_close(out, pad_packed_sequence(theirs(packed)[0], batch_first=True)[0])


@kinds
@pytest.mark.parametrize("directions", [1, 2])
def test_lengths_under_the_compiler_are_read_by_the_loop(kind, directions, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    layer = KINDS[kind][0](3, 4, bidirectional=directions == 2, dtype=torch.float64)
    x, lengths = torch.randn(2, 5, 3).double(), torch.tensor([2, 5])
    torch.compiler.reset()  # it compiles a method a few times only
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    for named in ({}, {"lengths": lengths}):
        same(compiled(x, **named), layer(x, **named))


@kinds
def test_the_meta_device_gives_shapes(kind):
    layer = KINDS[kind][0](3, 4, num_layers=2, device="meta", dtype=torch.float64)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.float64)}
    x = torch.empty(2, 5, 3, device="meta", dtype=torch.float64)
    for lengths in (None, torch.ones(2, device="meta", dtype=torch.int64)):
        assert layer(x, lengths=lengths)[0].shape == (2, 5, 4)


@pytest.fixture
def cudnn(monkeypatch):
    """Pretend that every tensor is on a GPU; return the list of what cuDNN is asked to pack."""
    from torch.backends.cudnn import rnn

    asked = []
    monkeypatch.setattr(torch.Tensor, "is_cuda", property(lambda tensor: True))
    monkeypatch.setattr(torch.backends.cudnn, "is_acceptable", lambda tensor: True)
    monkeypatch.setattr(torch.cuda, "device_of", lambda tensor: contextlib.nullcontext())
    monkeypatch.setattr(torch, "_use_cudnn_rnn_flatten_weight", lambda: True)
    monkeypatch.setattr(rnn.m, "get_cudnn_mode", lambda mode: mode)
    monkeypatch.setattr(torch, "_cudnn_rnn_flatten_weight", lambda *given: asked.append(given))
    return asked


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("bias", [True, False])
@kinds
def test_cudnn_packs_what_torch_lets_it_pack(kind, bias, nonlinearity, cudnn):
    """When the layer has been made, and when it has moved or changed its type."""
    options = {"num_layers": 2, "bias": bias, "bidirectional": True, "batch_first": True}
    if kind == "rnn":
        options["nonlinearity"] = nonlinearity
    ours, theirs = (make(3, 4, **options) for make in KINDS[kind])
    (mine, *got), (_, *wanted) = cudnn
    assert got == wanted
    assert all(a is b for a, b in zip(mine, ours.parameters(), strict=True))
    ours.double()
    assert len(cudnn) == 3
    assert list(ours.state_dict()) == list(theirs.state_dict())


@pytest.mark.parametrize("make", [ResetBeforeGRU, PeepholeLSTM])
def test_cudnn_packs_nothing_of_a_layer_that_it_cannot_run(make, cudnn):
    make(3, 4).double()
    assert cudnn == []


@kinds
@settings(max_examples=15, deadline=None)
@given(drawn=cases())
def test_step_by_step_is_the_whole_walk(kind, drawn):
    case, batch, time, _, started, seed = drawn
    case["bidirectional"] = False
    ours, _, x, state = build(kind, case, batch, time, started, seed)
    wanted, final = ours(x, state)
    for t, now in enumerate(x.unbind(1 if case["batch_first"] else 0)):
        out, state = ours.step(now, state)
        same(out, wanted.select(1 if case["batch_first"] else 0, t))
    same(state, final)


@kinds
def test_dropout_stands_between_layers_only(kind):
    layer = KINDS[kind][0](3, 4, num_layers=2, dropout=1.0)
    one = KINDS[kind][0](3, 4, dropout=1.0)
    x = torch.randn(2, 5, 3)
    for form in ("forward", "loop"):
        a, b = (getattr(layer, form)(inputs)[0] for inputs in (x, x + 1))
        torch.testing.assert_close(a, b)  # nothing of the input passes
        a, b = (getattr(one, form)(inputs)[0] for inputs in (x, x + 1))
        assert not torch.allclose(a, b)
        layer.eval()
        torch.testing.assert_close(getattr(layer, form)(x)[0], layer.loop(x)[0])
        layer.train()


@kinds
def test_fresh_weights_are_drawn_as_torch_draws_them(kind):
    ours_class, torch_class = KINDS[kind]
    torch.manual_seed(3)
    wanted = torch_class(4, 9, 2, bidirectional=True).state_dict()
    torch.manual_seed(3)
    ours = ours_class(4, 9, 2, bidirectional=True).state_dict()
    assert list(ours) == list(wanted)
    same(list(ours.values()), list(wanted.values()))


@kinds
def test_bad_input_is_refused_by_name(kind):
    layer, make = KINDS[kind][0](3, 4), KINDS[kind][0]
    x = torch.zeros(2, 5, 3)
    with refuses(ValueError, "hidden_size=0 must be an integer ≥ 1"):
        make(3, 0)
    with refuses(ValueError, "dropout=1.5"):
        make(3, 4, dropout=1.5)
    with refuses(ValueError, "x must have shape (b, t, 3), got (2, 5, 4)"):
        layer(torch.zeros(2, 5, 4))
    for empty in ((0, 5, 3), (2, 0, 3)):
        with refuses(ValueError, f"x must not be empty, got shape {empty}"):
            layer(torch.zeros(empty))
    with refuses(TypeError, "x must be floating point, got torch.int64"):
        layer(torch.zeros(2, 5, 3, dtype=torch.int64))
    for lengths, told in (([6, 1], "1 … 6"), ([0, 5], "0 … 5")):
        with refuses(ValueError, f"lengths must lie in 1 … 5, the steps of x, got {told}"):
            layer(x, lengths=torch.tensor(lengths))
    with refuses(ValueError, "lengths must have shape (2), got (3,)"):
        layer(x, lengths=torch.tensor([1, 2, 3]))
    wrong = torch.zeros(1, 3, 4)
    with refuses(ValueError, "state must have shape (1, 2, 4), got (1, 3, 4)"):
        layer(x, (wrong, wrong) if kind == "lstm" else wrong)
    with refuses(ValueError, "step needs bidirectional=False, got True"):
        make(3, 4, bidirectional=True).step(x[:, 0])
    with refuses(ValueError, "x must have shape (b, 3), got (2, 5, 3)"):
        layer.step(x)


def test_an_lstm_needs_both_states():
    with refuses(ValueError, "state must hold 2 tensors, got 1"):
        LSTM(3, 4)(torch.zeros(2, 5, 3), torch.zeros(1, 2, 4))
