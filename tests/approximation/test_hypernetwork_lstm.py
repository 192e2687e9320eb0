"""The HyperLSTM and its layer-normed LSTM against loops, whole matrices and torch.nn."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.approximation.hypernetwork import HyperLSTM, HyperState, LayerNormLSTM
from tests.support import refuses

DOUBLE = torch.float64


def shaken(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter a value that no fresh module has."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=DOUBLE)
    return module


def hyper(**change) -> HyperLSTM:
    sizes = {"input_size": 3, "hidden_size": 5, "hyper_hidden_size": 4, "embed_dim": 2} | change
    return shaken(HyperLSTM(**sizes, dtype=DOUBLE))


def norm(values: torch.Tensor, gain: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Layer norm by its formula."""
    centred = values - values.mean()
    return centred / (values.var(correction=0) + 1e-5).sqrt() * gain + bias


def shown(module: nn.Module, mixed: torch.Tensor, c: torch.Tensor):
    """One sequence's gates, one after the other, by the formula; `mixed` is 4 h."""
    rows = mixed.view(4, -1)
    i, f, g, o = (norm(rows[k], module.norm_weight[k], module.norm_bias[k]) for k in range(4))
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    cell = norm(c, module.cell_norm_weight, module.cell_norm_bias)
    return torch.sigmoid(o) * torch.tanh(cell), c


@pytest.mark.equation("hypernetwork-small")
def test_the_small_lstm_is_its_formula():
    layer = shaken(LayerNormLSTM(3, 5, dtype=DOUBLE))
    x = torch.randn(2, 7, 3, dtype=DOUBLE)
    out, (last, cell) = layer(x)
    for row in range(2):
        h = c = torch.zeros(5, dtype=DOUBLE)
        for t in range(7):
            mixed = layer.weight_ih @ x[row, t] + layer.weight_hh @ h + layer.bias
            h, c = shown(layer, mixed, c)
            torch.testing.assert_close(out[row, t], h)
        torch.testing.assert_close((last[row], cell[row]), (h, c))


def test_without_its_norms_it_would_be_torchs_lstm(monkeypatch):
    """The same order of gates and the same cell: only the norms are taken out."""
    layer = LayerNormLSTM(3, 5, dtype=DOUBLE)
    peer = nn.LSTM(3, 5, batch_first=True, dtype=DOUBLE)
    with torch.no_grad():
        layer.norm_bias.zero_()
        for mine, theirs in (
            (layer.weight_ih, peer.weight_ih_l0),
            (layer.weight_hh, peer.weight_hh_l0),
        ):
            mine.copy_(theirs)
        layer.bias.copy_(peer.bias_ih_l0 + peer.bias_hh_l0)
    plain = lambda x, size, weight=None, bias=None: x  # noqa: E731
    monkeypatch.setattr(F, "layer_norm", plain)
    x = torch.randn(2, 7, 3, dtype=DOUBLE)
    torch.testing.assert_close(layer(x)[0], peer(x)[0])


@pytest.mark.equation("hypernetwork-codes")
@pytest.mark.equation("hypernetwork-factors")
def test_codes_and_factors_are_small_matrices_one_for_each_gate():
    layer = hyper()
    small = torch.randn(6, 4, dtype=DOUBLE)
    made = layer.factors(small)
    for row, state in enumerate(small):
        for gate in range(4):
            cut = slice(5 * gate, 5 * gate + 5)
            for kind in range(3):  # from h, from x, bias
                code = layer.weight_code[kind, gate] @ state
                code = code + (layer.bias_code[kind, gate, :, 0] if kind < 2 else 0)
                wanted = layer.weight_factor[kind, gate] @ code
                wanted = wanted + (layer.bias[cut] if kind == 2 else 0)
                torch.testing.assert_close(made[kind][row, cut], wanted)


@pytest.mark.equation("hypernetwork-gates")
@pytest.mark.equation("hypernetwork-rows")
def test_a_step_is_a_layer_normed_lstm_with_whole_generated_matrices():
    """Factors of rows and `diag(d) @ W` are the same thing; only the memory differs."""
    layer = hyper()
    x = torch.randn(3, 6, 3, dtype=DOUBLE)
    out, last = layer(x)
    for row in range(3):
        h = c = torch.zeros(5, dtype=DOUBLE)
        small = [torch.zeros(1, 4, dtype=DOUBLE)] * 2
        for t in range(6):
            seen = torch.cat([x[row, t], h])[None, None]
            _, small = layer.hyper(seen, tuple(small))
            d_h, d_x, bias = (part[0] for part in layer.factors(small[0]))
            recurrent, from_input = (
                torch.diag(d_h) @ layer.weight_hh,
                torch.diag(d_x) @ layer.weight_ih,
            )
            h, c = shown(layer, recurrent @ h + from_input @ x[row, t] + bias, c)
            torch.testing.assert_close(out[row, t], h)
        wanted = (h, c, small[0][0], small[1][0])
        torch.testing.assert_close(tuple(part[row] for part in last), wanted)


def test_the_walk_is_the_steps_one_after_the_other():
    layer = hyper()
    x = torch.randn(3, 6, 3, dtype=DOUBLE)
    out, last = layer(x)
    state = None
    for t in range(6):
        state = layer.step(x[:, t], state)
        torch.testing.assert_close(out[:, t], state.h)
    torch.testing.assert_close(tuple(last), tuple(state))


@pytest.mark.parametrize("kind", [hyper, lambda: shaken(LayerNormLSTM(3, 5, dtype=DOUBLE))])
def test_a_sequence_may_be_read_in_two_parts(kind):
    layer = kind()
    x = torch.randn(3, 6, 3, dtype=DOUBLE)
    whole, last = layer(x)
    first, state = layer(x[:, :2])
    second, again = layer(x[:, 2:], state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    torch.testing.assert_close(tuple(again), tuple(last))


def test_it_begins_as_a_layer_normed_lstm_with_a_tenth_of_the_weights():
    """Up to the ε of the norm, which is not so small beside a hundredth of the variance."""
    torch.manual_seed(0)
    layer = HyperLSTM(3, 5, 4, 2, dtype=DOUBLE)
    plain = LayerNormLSTM(3, 5, dtype=DOUBLE)
    with torch.no_grad():
        plain.weight_ih.copy_(0.1 * layer.weight_ih)
        plain.weight_hh.copy_(0.1 * layer.weight_hh)
    x = torch.randn(2, 7, 3, dtype=DOUBLE)
    torch.testing.assert_close(layer(x)[0], plain(x)[0])


def test_forget_gates_lean_open_and_gains_are_one():
    layer = HyperLSTM(3, 5)
    assert layer.norm_bias.tolist() == [[0.0] * 5, [1.0] * 5, [0.0] * 5, [0.0] * 5]
    assert layer.hyper.norm_bias[1].unique().tolist() == [1.0]
    assert layer.norm_weight.unique().tolist() == [1.0]
    assert not layer.cell_norm_bias.any()


def test_the_gradient_through_both_networks_is_that_of_finite_differences():
    layer = hyper(hidden_size=2, hyper_hidden_size=2, embed_dim=1)
    x = torch.randn(2, 3, 3, dtype=DOUBLE)
    weights = [p.detach().requires_grad_() for p in layer.parameters()]
    names = [name for name, _ in layer.named_parameters()]

    def run(*values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))[0]

    assert torch.autograd.gradcheck(run, weights)


@pytest.mark.equation("hypernetwork-memory")
def test_factors_of_rows_need_far_fewer_numbers_than_whole_matrices():
    d, h, m = 3, 50, 4
    layer = HyperLSTM(d, h, 4, m)
    assert layer.weight_factor[:2].numel() == 8 * h * m
    whole = torch.empty(4 * h, h, m).numel() + torch.empty(4 * h, d, m).numel()
    assert whole == 4 * h * (h + d) * m


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input_size": 0}, "input_size=0 must be an integer ≥ 1"),
        ({"hidden_size": 1}, "hidden_size=1 must be an integer ≥ 2"),
        ({"hyper_hidden_size": 1}, "hyper_hidden_size=1 must be an integer ≥ 2"),
        ({"embed_dim": 0}, "embed_dim=0 must be an integer ≥ 1"),
    ],
)
def test_bad_sizes_are_refused_by_name(change, message):
    with refuses(ValueError, message):
        HyperLSTM(**{"input_size": 3, "hidden_size": 5, **change})


def test_bad_inputs_and_states_are_refused_by_name():
    layer = HyperLSTM(3, 5, 4)
    with refuses(ValueError, "x must have shape (b, t, 3), got (2, 7, 4)"):
        layer(torch.zeros(2, 7, 4))
    with refuses(ValueError, "x must have shape (b, 3), got (2, 4)"):
        layer.step(torch.zeros(2, 4))
    with refuses(ValueError, "x must not be empty"):
        layer(torch.zeros(2, 0, 3))
    with refuses(ValueError, "hyper_h must have shape (b, 4), got (2, 5)"):
        layer.factors(torch.zeros(2, 5))
    with refuses(ValueError, "state must hold 4 tensors, got 2"):
        layer(torch.zeros(2, 1, 3), (torch.zeros(2, 5),) * 2)
    with refuses(TypeError, "state must be a tuple of tensors, got Tensor"):
        layer(torch.zeros(2, 1, 3), torch.zeros(2, 5))
    with refuses(ValueError, "state[2] must have shape (2, 4), got (2, 5)"):
        layer(torch.zeros(2, 1, 3), HyperState(*[torch.zeros(2, 5)] * 4))
