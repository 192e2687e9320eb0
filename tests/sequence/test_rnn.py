"""The recurrent network and its backpropagation against torch, autograd and brute force."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlib.sequence.rnn import RNN, backpropagate_through_time, gradient_by_lag, jacobians
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"input_size": 3, "hidden_size": 5, "num_layers": 2},
        (torch.randn(4, 7, 3),),
        {"lengths": torch.tensor([7, 2, 5, 7])},
    )


NONLINEARITIES = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}
each_nonlinearity = pytest.mark.parametrize("nonlinearity", NONLINEARITIES)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def build(d=3, h=5, seed=0, **kwargs):
    torch.manual_seed(seed)
    return RNN(d, h, dtype=torch.float64, **kwargs)


def same(got, wanted, atol=1e-12, rtol=0):
    torch.testing.assert_close(torch.as_tensor(got), torch.as_tensor(wanted), rtol=rtol, atol=atol)


def numbers(layer):
    return {name: value.detach().numpy() for name, value in layer.named_parameters()}


def by_numpy(layer, x):
    """The states of one sequence, entry by entry."""
    w, h, states = numbers(layer), np.zeros(layer.hidden_size), []
    for now in x:
        z = [
            sum(w["weight_ih_l0"][i, j] * now[j] for j in range(len(now)))
            + sum(w["weight_hh_l0"][i, j] * h[j] for j in range(len(h)))
            + w["bias_ih_l0"][i]
            + w["bias_hh_l0"][i]
            for i in range(len(h))
        ]
        h = NONLINEARITIES[layer.nonlinearity](np.array(z))
        states.append(h)
    return np.array(states)


@pytest.mark.equation("rnn-state")
@each_nonlinearity
def test_each_state_mixes_input_and_state_and_applies_its_nonlinearity(nonlinearity):
    layer, x = build(nonlinearity=nonlinearity), noise(2, 6, 3)
    theirs = nn.RNN(3, 5, nonlinearity=nonlinearity, batch_first=True).double()
    theirs.load_state_dict(layer.state_dict())
    same(layer(x)[0], theirs(x)[0])
    for form in (layer.forward, layer.loop):
        same(form(x)[0].detach()[1], by_numpy(layer, x[1].numpy()))


@pytest.mark.equation("rnn-recurrence")
def test_the_two_biases_act_as_their_sum():
    layer, x = build(), noise(1, 6, 3)
    w, h = numbers(layer), np.zeros(5)
    b = w["bias_ih_l0"] + w["bias_hh_l0"]
    for now, state in zip(x[0].numpy(), layer(x)[0][0].detach(), strict=True):
        h = np.tanh(w["weight_ih_l0"] @ now + w["weight_hh_l0"] @ h + b)
        same(h, state)


@pytest.mark.equation("rnn-output")
def test_outputs_are_an_affine_map_of_the_states():
    layer, read, x = build(), nn.Linear(5, 2).double(), noise(1, 4, 3)
    wanted = by_numpy(layer, x[0].numpy()) @ read.weight.detach().numpy().T
    same(read(layer(x)[0])[0].detach(), wanted + read.bias.detach().numpy())


@pytest.mark.equation("rnn-latch")
def test_one_unit_holds_the_last_bracket_for_ever():
    layer = build(1, 1, bias=False)
    with torch.no_grad():
        layer.weight_hh_l0.fill_(3.0), layer.weight_ih_l0.fill_(6.0)
    for signs in itertools.product((-1.0, 1.0), repeat=3):
        x = torch.zeros(1, 3000, 1).double()
        x[0, [0, 7, 1500], 0] = torch.tensor(signs).double()
        out = layer(x)[0][0, :, 0]
        for start, end, sign in zip((0, 7, 1500), (7, 1500, 3000), signs, strict=True):
            assert (out[start:end] * sign > 0.99).all()


@given(seed=st.integers(0, 99), nonlinearity=st.sampled_from([*NONLINEARITIES]))
@settings(max_examples=15, deadline=None)
@pytest.mark.equation("rnn-jacobian")
def test_jacobians_are_those_of_automatic_differentiation(seed, nonlinearity):
    layer, x = build(nonlinearity=nonlinearity, seed=seed), noise(2, 4, 3, seed=seed)
    states = layer(x)[0].detach()
    got = jacobians(layer, states)
    for row, t in itertools.product(range(2), range(1, 4)):
        wanted = torch.autograd.functional.jacobian(
            lambda h, row=row, t=t: layer.step(x[row : row + 1, t], h[None, None])[0][0],
            states[row, t - 1],
        )
        same(got[row, t], wanted)


@given(
    d=st.integers(1, 4), h=st.integers(1, 5), b=st.integers(1, 3), t=st.integers(1, 6),
    bias=st.booleans(), nonlinearity=st.sampled_from([*NONLINEARITIES]), seed=st.integers(0, 999),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
@pytest.mark.equation("rnn-walk", "rnn-share", "rnn-loss")
def test_the_walk_back_is_automatic_differentiation(d, h, b, t, bias, nonlinearity, seed):
    layer = build(d, h, seed, bias=bias, nonlinearity=nonlinearity)
    x, read = noise(b, t, d, seed=seed), noise(h, seed=seed + 1)
    out = layer(x)[0]
    # A loss at every step: its slope in each state, were that the only use of the state.
    alone = out.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(((alone @ read) ** 2).sum(), alone)
    total = sum(((out[:, k] @ read) ** 2).sum() for k in range(t))  # rnn-loss
    wanted = torch.autograd.grad(total, [*layer.parameters()])
    got = backpropagate_through_time(layer, x, slopes)
    assert [*got] == [name for name, _ in layer.named_parameters()]
    for value, truth in zip(got.values(), wanted, strict=True):
        same(value, truth, atol=1e-11, rtol=1e-9)
    same(gradient_by_lag(layer, x, slopes).sum(0), wanted[1], atol=1e-11, rtol=1e-9)


def derivative(layer, x, k, *, total):
    """∂h_k/∂W_hh of one sequence by central differences: the total one, or the immediate one.

    For the immediate one the weight is moved at step k only, and h_{k-1} stays.
    """
    w, size = numbers(layer), layer.hidden_size
    before = by_numpy(layer, x[:k])[-1] if k else np.zeros(size)
    out = np.zeros((size, size, size))
    step = 1e-6
    for i, j in itertools.product(range(size), repeat=2):
        ends = []
        for sign in (1, -1):
            moved = w["weight_hh_l0"].copy()
            moved[i, j] += sign * step
            h = np.zeros(size) if total else before
            for now in x[: k + 1] if total else x[k : k + 1]:
                z = w["weight_ih_l0"] @ now + moved @ h + w["bias_ih_l0"] + w["bias_hh_l0"]
                h = np.tanh(z)
            ends.append(h)
        out[:, i, j] = (ends[0] - ends[1]) / (2 * step)
    return out


@pytest.mark.equation("rnn-bptt", "rnn-overcount")
def test_the_double_sum_needs_the_immediate_derivative():
    layer, x, slopes = build(2, 3, seed=4), noise(1, 5, 2), noise(1, 5, 3, seed=1)
    with torch.no_grad():
        layer.weight_hh_l0.mul_(2)
    J = jacobians(layer, layer(x)[0].detach())[0].detach().numpy()
    sums = {}
    for total in (False, True):
        parts = [derivative(layer, x[0].numpy(), k, total=total) for k in range(5)]
        sums[total] = np.zeros((3, 3))
        for t in range(5):
            for k in range(t + 1):
                row = slopes[0, t].numpy()
                for j in range(t, k, -1):  # the latest Jacobian stands on the left
                    row = row @ J[j]
                sums[total] += np.tensordot(row, parts[k], 1)
    loss = (layer(x)[0] * slopes).sum()
    (wanted,) = torch.autograd.grad(loss, layer.weight_hh_l0)
    same(sums[False], wanted.numpy(), atol=1e-8)
    by_lag = gradient_by_lag(layer, x, slopes).numpy()
    same(sums[True], np.tensordot(np.arange(1, 6), by_lag, 1), atol=1e-8)
    assert np.linalg.norm(sums[True] - wanted.numpy()) > 0.2 * wanted.norm()


def cut(layer, x, slopes, reach):
    """The gradient by autograd where each loss sees only the last `reach` uses of the weight."""
    total = torch.zeros_like(layer.weight_hh_l0)
    states = layer(x)[0].detach()
    for t in range(x.shape[1]):
        first = max(0, t + 1 - reach)
        start = states[:, first - 1][None] if first else None
        out = layer(x[:, first : t + 1], start)[0][:, -1]
        (part,) = torch.autograd.grad((out * slopes[:, t]).sum(), layer.weight_hh_l0)
        total += part
    return total


@pytest.mark.equation("rnn-lag", "rnn-truncated")
@each_nonlinearity
def test_the_first_lags_are_the_gradient_truncated_there(nonlinearity):
    layer, x, slopes = build(nonlinearity=nonlinearity), noise(2, 7, 3), noise(2, 7, 5, seed=1)
    parts = gradient_by_lag(layer, x, slopes)
    for reach in range(1, 8):
        same(parts[:reach].sum(0), cut(layer, x, slopes, reach))
        same(gradient_by_lag(layer, x, slopes, reach), parts[:reach])


@pytest.mark.equation("rnn-pencil", "rnn-pencil-forward")
def test_the_pencil_example():
    h1 = math.tanh(1)
    h2 = math.tanh(0.5 * h1 + 1)
    h3 = math.tanh(0.5 * h2)
    near, far = (1 - h3**2) * h2, (1 - h3**2) * 0.5 * (1 - h2**2) * h1
    assert [round(v, 4) for v in (h1, h2, h3)] == [0.7616, 0.8811, 0.4141]
    assert [round(v, 3) for v in (near, far, near + far)] == [0.73, 0.071, 0.801]
    layer = build(1, 1, bias=False)
    with torch.no_grad():
        layer.weight_hh_l0.fill_(0.5), layer.weight_ih_l0.fill_(1.0)
    x, slopes = torch.tensor([[1.0, 1, 0], [0, 0, 1]]).double()[:, None, :, None]
    same(
        gradient_by_lag(layer, x, slopes).flatten(),
        torch.tensor([near, far, 0], dtype=torch.float64),
    )
    assert backpropagate_through_time(layer, x, slopes)["weight_hh_l0"].item() == pytest.approx(
        near + far
    )


@given(gain=st.floats(0.1, 4), loud=st.floats(0, 4), seed=st.integers(0, 999))
@settings(max_examples=20, deadline=None)
@pytest.mark.equation("rnn-bound")
def test_no_product_of_jacobians_passes_its_bound(gain, loud, seed):
    layer = build(4, 4, seed)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(gain * noise(4, 4, seed=seed))
    J = jacobians(layer, layer(loud * noise(1, 8, 4, seed=seed))[0].detach())[0]
    J = J.detach().numpy()
    largest = np.linalg.svd(layer.weight_hh_l0.detach().numpy(), compute_uv=False)[0]
    product = np.eye(4)
    for lag, one in enumerate(J[::-1], 1):
        product = product @ one
        assert np.linalg.norm(product, 2) <= largest**lag * (1 + 1e-9)


def test_a_driven_network_vanishes_though_its_bound_explodes():
    layer = build(16, 16, bias=False)
    with torch.no_grad():
        w = noise(16, 16)
        layer.weight_hh_l0.copy_(3 * w / torch.linalg.matrix_norm(w, 2))
        layer.weight_ih_l0.copy_(3 * torch.eye(16))
    J = jacobians(layer, layer(noise(1, 90, 16, seed=1))[0].detach())[0, -60:]
    product = torch.linalg.multi_dot([*J.flip(0)])
    assert 3.0**60 > 1e28
    assert torch.linalg.matrix_norm(product, 2) < 1e-8


@pytest.mark.equation("rnn-nilpotent")
def test_a_hand_over_is_gone_after_two_steps_whatever_comes_in():
    w = np.array([[0.0, 4.0], [0.0, 0.0]])
    assert not (w @ w).any()
    assert np.linalg.svd(w, compute_uv=False)[0] == 4
    layer = build(2, 2)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(torch.tensor(w))
    J = jacobians(layer, layer(noise(5, 9, 2))[0].detach())
    assert (J[:, 1:] @ J[:, :-1] == 0).all()
    assert J.any()


@pytest.mark.equation("rnn-clip")
@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clipping_shortens_all_gradients_together(limit):
    weights = [nn.Parameter(torch.zeros(n)) for n in (3, 4)]
    grads = [noise(n, seed=n).float() * 3 for n in (3, 4)]
    for weight, grad in zip(weights, grads, strict=True):
        weight.grad = grad.clone()
    nn.utils.clip_grad_norm_(weights, limit)
    whole = torch.cat(grads)
    wanted = whole * min(1.0, limit / whole.norm().item())
    same(torch.cat([w.grad for w in weights]), wanted, atol=1e-5)


@pytest.mark.equation("rnn-jordan")
def test_feeding_back_the_answer_is_a_recurrent_matrix_of_low_rank():
    layer, x = build(), noise(2, 6, 3)
    feed, read, bias = noise(5, 2), noise(2, 5, seed=1), noise(2, seed=2)
    y, states = torch.zeros(2, 2).double(), []
    with torch.no_grad():
        for t in range(6):
            inside = layer.bias_ih_l0 + layer.bias_hh_l0
            states.append(torch.tanh(x[:, t] @ layer.weight_ih_l0.T + y @ feed.T + inside))
            y = states[-1] @ read.T + bias
        layer.weight_hh_l0.copy_(feed @ read)
        # y_0 = 0 has no b_y in it, so the first step lacks what the others get by the bias.
        first = layer(x[:, :1])[1]
        layer.bias_hh_l0.add_(feed @ bias)
        rest = layer(x[:, 1:], first)[0]
    same(torch.cat([first.transpose(0, 1), rest], 1), torch.stack(states, 1))
    assert torch.linalg.matrix_rank(feed @ read) == 2


@pytest.mark.equation("rnn-chain")
def test_the_probabilities_of_all_texts_sum_to_one():
    """Two letters and an end sign, number 0, which also starts; all texts of up to 5 letters."""
    layer, read, vectors = build(2, 4), nn.Linear(4, 3).double(), noise(3, 2)

    @torch.no_grad()
    def logs(text):
        out = layer(vectors[torch.tensor([[0, *text]])])[0]
        return torch.log_softmax(read(out)[0], -1)

    def step_by_step(text):
        total, state = 0.0, None
        for now, then in itertools.pairwise((0, *text, 0)):
            out, state = layer.step(vectors[[now]], state)
            total += torch.log_softmax(read(out)[0], -1)[then].item()
        return total

    ended = unfinished = 0.0
    for length in range(6):
        for text in itertools.product((1, 2), repeat=length):
            rows = logs(text)
            inside = sum(rows[t, letter].item() for t, letter in enumerate(text))
            assert step_by_step(text) == pytest.approx(inside + rows[length, 0].item())
            ended += math.exp(inside + rows[length, 0].item())
            if length == 5:
                unfinished += math.exp(inside) * (1 - rows[length, 0].exp().item())
    assert ended + unfinished == pytest.approx(1)


def test_identity_and_relu_let_the_past_pass_unchanged():
    layer, x = build(nonlinearity="relu"), noise(1, 40, 3)
    with torch.no_grad():
        layer.weight_hh_l0.copy_(torch.eye(5))
        layer.weight_ih_l0.abs_(), layer.bias_ih_l0.zero_(), layer.bias_hh_l0.zero_()
    J = jacobians(layer, layer(x.abs())[0].detach())[0]
    same(torch.linalg.multi_dot([*J]), torch.eye(5).double(), atol=0)


def test_bad_input_is_refused_by_name():
    layer, x = build(), noise(2, 4, 3)
    with refuses(ValueError, "nonlinearity='sigmoid' must be one of ['tanh', 'relu']"):
        RNN(3, 5, nonlinearity="sigmoid")
    for bad in (build(num_layers=2), build(bidirectional=True)):
        with refuses(ValueError, "layer must have one layer and one direction, got num_layers="):
            jacobians(bad, noise(2, 4, 5))
    with refuses(ValueError, "states must have shape (b, t, 5), got (2, 4, 3)"):
        jacobians(layer, x)
    for function in (backpropagate_through_time, gradient_by_lag):
        with refuses(ValueError, "layer must have one layer and one direction"):
            function(build(num_layers=2), x, noise(2, 4, 5))
        with refuses(ValueError, "layer must have batch_first=True"):
            function(build(batch_first=False), x, noise(2, 4, 5))
        with refuses(ValueError, "slopes must have shape (2, 4, 5), got (2, 4, 3)"):
            function(layer, x, x)
    with refuses(ValueError, "lags=0 must be an integer ≥ 1"):
        gradient_by_lag(layer, x, noise(2, 4, 5), 0)
    with refuses(ValueError, "lags=5 must be a finite number ≤ 4"):
        gradient_by_lag(layer, x, noise(2, 4, 5), 5)
