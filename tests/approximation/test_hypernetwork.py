"""The hypernetwork against torch.func, closed forms and autograd; HyperLSTM against loops."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.func import functional_call, jacfwd, vmap
from torch.nn import functional as F
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nnlib.approximation.hypernetwork import (
    HyperLSTM,
    HyperNetwork,
    HyperState,
    KernelHyperNetwork,
    LayerNormLSTM,
    fourier_features,
    generated_mlp,
    generated_mlp_loop,
    grid,
    remembering_loss,
    split_weights,
    weight_count,
)
from tests.support import Example, refuses

DOUBLE = torch.float64


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    arguments = {"embed_dim": 4, "layer_sizes": [2, 6, 1], "hidden_sizes": (7,)}
    return Example(arguments, (torch.randn(3, 4), torch.randn(3, 5, 2)))


def sequential(widths, activation) -> nn.Sequential:
    """The main network as a user of torch would write it."""
    bends = {"relu": nn.ReLU, "tanh": nn.Tanh}
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [nn.Linear(inputs, outputs, dtype=DOUBLE), bends[activation]()]
    return nn.Sequential(*parts[:-1])


def named(module: nn.Module, theta: torch.Tensor) -> dict[str, torch.Tensor]:
    """Cut one row of numbers into the parameters of a module, in their order."""
    cut, at = {}, 0
    for name, parameter in module.named_parameters():
        cut[name] = theta[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    return cut


# ------------------------------------------------------------------------------- the main network
@pytest.mark.equation("hypernetwork-target")
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("widths", [(3, 2), (3, 5, 2), (3, 5, 4, 1)])
def test_many_networks_at_once_are_torch_func_over_a_sequential(widths, activation):
    torch.manual_seed(0)
    main = sequential(widths, activation)
    theta = torch.randn(4, weight_count(widths), dtype=DOUBLE)
    x = torch.randn(4, 6, 3, dtype=DOUBLE)
    wanted = vmap(lambda row, points: functional_call(main, named(main, row), (points,)))(theta, x)
    torch.testing.assert_close(generated_mlp(theta, x, widths, activation), wanted)
    torch.testing.assert_close(generated_mlp_loop(theta, x, widths, activation), wanted)


@pytest.mark.parametrize("activation", ["relu", "tanh", "sin"])
def test_the_fast_form_is_the_loop_with_points_shared_or_not(activation):
    torch.manual_seed(0)
    widths = (2, 5, 3, 2)
    theta = torch.randn(4, weight_count(widths), dtype=DOUBLE)
    for x in (torch.randn(6, 2, dtype=DOUBLE), torch.randn(4, 6, 2, dtype=DOUBLE)):
        fast = generated_mlp(theta, x, widths, activation)
        torch.testing.assert_close(fast, generated_mlp_loop(theta, x, widths, activation))


def test_shared_points_are_the_same_points_for_every_network():
    torch.manual_seed(0)
    theta, x = torch.randn(4, weight_count((2, 3, 1))), torch.randn(6, 2)
    shared = generated_mlp(theta, x, (2, 3, 1))
    torch.testing.assert_close(shared, generated_mlp(theta, x.expand(4, 6, 2), (2, 3, 1)))


@pytest.mark.equation("hypernetwork-count")
@pytest.mark.parametrize("widths", [(3, 2), (18, 16, 1), (4, 5, 6, 7)])
def test_the_count_is_that_of_torchs_parameters(widths):
    wanted = sum(p.numel() for p in sequential(widths, "relu").parameters())
    assert weight_count(widths) == wanted


def test_numbers_stand_in_the_order_of_parameters_to_vector():
    main = sequential((3, 4, 2), "relu")
    row = parameters_to_vector(main.parameters())
    layers = split_weights(row[None], (3, 4, 2))
    for (weight, bias), affine in zip(layers, (main[0], main[2]), strict=True):
        assert torch.equal(weight[0], affine.weight)
        assert torch.equal(bias[0], affine.bias)


def test_sine_is_an_activation_by_its_formula():
    theta = torch.tensor([[2.0, 0.5, 3.0, -1.0]])  # 3 sin(2x + ½) − 1
    x = torch.tensor([[0.3], [-1.2]])
    wanted = 3 * torch.sin(2 * x + 0.5) - 1
    torch.testing.assert_close(generated_mlp(theta, x, (1, 1, 1), "sin")[0], wanted)


# ---------------------------------------------------------------------------------- the generator
@pytest.mark.equation("hypernetwork-generate")
def test_the_generator_is_an_mlp_of_the_code_times_the_scale():
    torch.manual_seed(0)
    model = HyperNetwork(4, [2, 3, 1], [7, 5], dtype=DOUBLE)
    z = torch.randn(6, 4, dtype=DOUBLE)
    a, b = model.layers
    e = (b.weight @ (a.weight @ z.T + a.bias[:, None]).clamp(min=0) + b.bias[:, None]).clamp(min=0)
    written = (model.head.weight @ e + model.head.bias[:, None]).T
    torch.testing.assert_close(model.weights(z), written * model.scale)
    torch.testing.assert_close(model.features(z), e.T)


def test_the_answer_is_that_of_the_written_weights_loaded_into_a_module():
    torch.manual_seed(0)
    model = HyperNetwork(4, [2, 6, 1], activation="tanh", dtype=DOUBLE)
    z, x = torch.randn(3, 4, dtype=DOUBLE), torch.randn(5, 2, dtype=DOUBLE)
    main, answers = sequential((2, 6, 1), "tanh"), model(z, x)
    for theta, answer in zip(model.weights(z), answers, strict=True):
        vector_to_parameters(theta.detach(), main.parameters())
        torch.testing.assert_close(main(x), answer)


@pytest.mark.equation("hypernetwork-gradient")
def test_the_gradient_of_the_head_is_an_outer_product():
    """What reaches the written weights, times the features: no other path leads to the head."""
    torch.manual_seed(0)
    model = HyperNetwork(4, [2, 6, 1], activation="tanh", dtype=DOUBLE)
    z, x = torch.randn(3, 4, dtype=DOUBLE), torch.randn(3, 5, 2, dtype=DOUBLE)
    y = torch.randn(3, 5, 1, dtype=DOUBLE)
    F.mse_loss(model(z, x), y).backward()
    theta = model.weights(z).detach().requires_grad_()
    loss = F.mse_loss(generated_mlp(theta, x, model.layer_sizes, "tanh"), y)
    (delta,) = torch.autograd.grad(loss, theta)
    scaled = delta * model.scale
    outer = torch.einsum("bp,be->pe", scaled, model.features(z).detach())
    torch.testing.assert_close(model.head.weight.grad, outer)
    torch.testing.assert_close(model.head.bias.grad, scaled.sum(0))


@pytest.mark.equation("hypernetwork-chain")
def test_the_gradient_is_the_jacobian_of_what_is_written_times_that_of_the_main_network():
    """The Jacobian by forward mode, delta by the main network that torch.nn would have."""
    torch.manual_seed(0)
    model = HyperNetwork(4, [2, 6, 1], hidden_sizes=(5,), activation="tanh", dtype=DOUBLE)
    z, x = torch.randn(1, 4, dtype=DOUBLE), torch.randn(5, 2, dtype=DOUBLE)
    y = torch.randn(5, 1, dtype=DOUBLE)
    F.mse_loss(model(z, x)[0], y).backward()

    main = sequential([2, 6, 1], "tanh")
    vector_to_parameters(model.weights(z)[0].detach(), main.parameters())
    F.mse_loss(main(x), y).backward()
    delta = parameters_to_vector(p.grad for p in main.parameters())

    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            return self.model.weights(z)[0]

    psi = {f"model.{name}": p.detach() for name, p in model.named_parameters()}
    jacobian = jacfwd(lambda psi: functional_call(Written(), psi))(psi)
    for name, p in model.named_parameters():
        wanted = torch.einsum("p...,p->...", jacobian[f"model.{name}"], delta)
        torch.testing.assert_close(p.grad, wanted)


@pytest.mark.equation("hypernetwork-loss")
def test_the_loss_is_a_mean_over_tasks_and_their_points():
    torch.manual_seed(0)
    model = HyperNetwork(2, [1, 3, 1], dtype=DOUBLE)
    z, x = torch.randn(4, 2, dtype=DOUBLE), torch.randn(4, 5, 1, dtype=DOUBLE)
    y = torch.randn(4, 5, 1, dtype=DOUBLE)
    total = 0.0
    for task in range(4):
        for point in range(5):
            answer = model(z[task : task + 1], x[task, point : point + 1])
            total += (answer.item() - y[task, point].item()) ** 2
    assert F.mse_loss(model(z, x), y).item() == pytest.approx(total / 20)


# ------------------------------------------------------------------------------------------ pieces
@pytest.mark.equation("hypernetwork-chunks")
@pytest.mark.parametrize("size", [1, 4, 13, 14])
def test_pieces_are_written_one_by_one_and_joined(size):
    torch.manual_seed(0)
    model = HyperNetwork(4, [2, 3, 1], chunk_size=size, chunk_embed_dim=3, dtype=DOUBLE)
    z = torch.randn(5, 4, dtype=DOUBLE)
    for row, code in zip(model.weights(z), z, strict=True):
        pieces = [model.head(model.features(torch.cat([code, of]))) for of in model.chunks]
        torch.testing.assert_close(row, torch.cat(pieces)[:13] * model.scale)
    assert len(model.chunks) == math.ceil(13 / size)


def test_a_generator_in_pieces_may_be_smaller_than_what_it_writes():
    whole = HyperNetwork(8, [64, 64, 10], [32])
    pieces = HyperNetwork(8, [64, 64, 10], [32], chunk_size=64)
    count = {m: sum(p.numel() for p in m.parameters()) for m in (whole, pieces)}
    assert count[whole] == 8 * 32 + 32 + 33 * 4810
    assert count[pieces] == 16 * 32 + 32 + 33 * 64 + math.ceil(4810 / 64) * 8
    assert count[pieces] < whole.num_generated < count[whole]


# ------------------------------------------------------------------------------------ how it begins
def second_moments(model: HyperNetwork, draws: int = 400) -> torch.Tensor:
    """The mean square of every written number, over codes and over fresh draws of the generator."""
    total = torch.zeros(model.num_generated)
    for _ in range(draws):
        model.reset_parameters()
        total += model.weights(torch.randn(8, model.embed_dim)).square().mean(0).detach()
    return total / draws


@pytest.mark.equation("hypernetwork-variance")
def test_the_variance_of_a_written_number_is_the_fan_in_times_that_of_the_head():
    torch.manual_seed(0)
    model = HyperNetwork(16, [3, 2], [64])
    e = model.features(torch.randn(4000, 16)).detach()
    rows = 0.3 * torch.randn(4000, 64)  # many heads, one for each code
    written = (rows * e).sum(1).square().mean().item()
    assert written == pytest.approx(64 * 0.3**2 * e.square().mean().item(), rel=0.08)


@pytest.mark.equation("hypernetwork-hyperfan")
@pytest.mark.parametrize("hidden", [(), (64,), (64, 64)])
def test_hyperfan_gives_the_main_network_an_ordinary_spread(hidden):
    torch.manual_seed(0)
    model = HyperNetwork(16, [9, 16, 1], hidden)
    (first, bias), (last, _) = split_weights(second_moments(model)[None], model.layer_sizes)
    assert first.mean().item() == pytest.approx(1 / 9, rel=0.1)
    assert last.mean().item() == pytest.approx(2 / 16, rel=0.1)
    assert bias.mean().item() == pytest.approx(1 / 27, rel=0.15)


def test_behind_a_sine_there_is_no_factor_two():
    torch.manual_seed(0)
    model = HyperNetwork(16, [9, 16, 1], activation="sin")
    _, (last, _) = split_weights(second_moments(model)[None], model.layer_sizes)
    assert last.mean().item() == pytest.approx(1 / 16, rel=0.1)


def test_the_default_does_not_know_the_fan_in():
    torch.manual_seed(0)
    model = HyperNetwork(16, [64, 64, 1], init="default")
    (first, _), (last, _) = split_weights(second_moments(model, 50)[None], model.layer_sizes)
    assert first.mean().item() == pytest.approx(1 / 3, rel=0.15)
    assert last.mean().item() == pytest.approx(1 / 3, rel=0.2)
    assert model.scale.unique().tolist() == [1.0]


def test_hyperfan_keeps_the_activations_through_eight_layers_and_the_default_does_not():
    """In the median of draws: the mean square after eight random layers has long tails."""
    torch.manual_seed(0)
    z, x = torch.randn(20, 16), torch.randn(32, 32)
    middle = {}
    for init in ("hyperfan", "default"):
        draws = [HyperNetwork(16, [32] * 9, init=init)(z, x).square().mean() for _ in range(40)]
        middle[init] = torch.stack(draws).median().item()
    assert 0.1 < middle["hyperfan"] < 10
    assert middle["default"] > 1e3


def test_a_shared_start_is_one_ordinary_network_for_all_codes():
    torch.manual_seed(0)
    model = HyperNetwork(16, [9, 64, 1], init="shared")
    one = model.head.bias.detach()
    from_it = model.weights(torch.randn(200, 16)).detach() / model.scale - one
    assert one.std().item() == pytest.approx(1, rel=0.1)
    assert from_it.square().mean().sqrt().item() == pytest.approx(0.1, rel=0.15)
    torch.testing.assert_close(model.scale, HyperNetwork(16, [9, 64, 1]).scale)


def test_hidden_layers_keep_the_second_moment():
    torch.manual_seed(0)
    model = HyperNetwork(64, [2, 1], [256, 256, 256])
    assert model.features(torch.randn(500, 64)).square().mean().item() == pytest.approx(1, rel=0.3)


# ------------------------------------------------------------------------------------- remembering
@pytest.mark.equation("hypernetwork-remember")
def test_the_price_of_forgetting_is_a_squared_distance_a_task():
    torch.manual_seed(0)
    model = HyperNetwork(2, [3, 1], dtype=DOUBLE)
    z = torch.randn(4, 2, dtype=DOUBLE)
    theta = torch.randn(4, 4, dtype=DOUBLE)
    moved = [(model.weights(z[t : t + 1])[0] - theta[t]).norm().item() ** 2 for t in range(4)]
    assert remembering_loss(model, z, theta).item() == pytest.approx(sum(moved) / 4)


def test_its_gradient_goes_to_the_generator_alone():
    model, z = HyperNetwork(2, [3, 1]), torch.randn(4, 2)
    theta = torch.zeros(4, 4)
    remembering_loss(model, z, theta).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.head.parameters())
    assert theta.grad is None


# ----------------------------------------------------------------------------------------- kernels
@pytest.mark.equation("hypernetwork-kernel")
def test_kernels_are_made_input_channel_by_input_channel():
    torch.manual_seed(0)
    model = KernelHyperNetwork(3, 4, 3, embed_dim=5, hidden_size=6, dtype=DOUBLE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    kernels = model()
    for layer in range(3):
        for channel in range(4):
            a = model.weight_in[channel] @ model.codes[layer] + model.bias_in[channel]
            wanted = (model.weight_out @ a + model.bias_out).view(4, 3, 3)
            torch.testing.assert_close(kernels[layer, :, channel], wanted)
    assert F.conv2d(torch.zeros(1, 4, 8, 8, dtype=DOUBLE), kernels[0]).shape == (1, 4, 6, 6)


@pytest.mark.equation("hypernetwork-kernel-count")
@pytest.mark.parametrize(("layers", "c", "f", "m", "a"), [(12, 16, 3, 64, 64), (2, 3, 1, 4, 5)])
def test_the_numbers_of_the_static_hypernetwork(layers, c, f, m, a):
    model = KernelHyperNetwork(layers, c, f, m, a)
    wanted = m * layers + c * a * (m + 1) + f * f * c * (a + 1)
    assert sum(p.numel() for p in model.parameters()) == wanted


def test_kernels_begin_with_hes_spread():
    torch.manual_seed(0)
    spread = torch.stack([KernelHyperNetwork(4, 16)().square().mean() for _ in range(30)]).mean()
    assert spread.item() == pytest.approx(2 / (9 * 16), rel=0.1)


# ------------------------------------------------------------------------------------------ fields
@pytest.mark.equation("hypernetwork-fourier")
def test_features_are_sines_and_cosines_of_growing_frequency():
    x = torch.tensor([0.3, -0.8], dtype=DOUBLE)
    told = fourier_features(x, 3).tolist()
    angles = [math.pi * k / 2 * v for k in (1, 2, 3) for v in (0.3, -0.8)]
    wanted = [0.3, -0.8, *map(math.sin, angles), *map(math.cos, angles)]
    assert told == pytest.approx(wanted)


def test_a_grid_has_the_centres_of_pixels_row_by_row():
    assert grid(1).tolist() == [[0.0, 0.0]]
    assert grid(2, 0.0, 4.0).tolist() == [[1, 1], [3, 1], [1, 3], [3, 3]]
    finer = grid(6).view(6, 6, 2)[1::3, 1::3].reshape(-1, 2)  # every third is one of the coarser
    torch.testing.assert_close(finer, grid(2))


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"embed_dim": 0}, ValueError, "embed_dim=0 must be an integer ≥ 1"),
        ({"layer_sizes": [2]}, ValueError, "layer_sizes=[2] must hold 2 sizes or more"),
        ({"layer_sizes": [2, 0]}, ValueError, "layer_sizes[1]=0 must be an integer ≥ 1"),
        ({"layer_sizes": "ab"}, TypeError, "layer_sizes='ab' must be a sequence"),
        ({"hidden_sizes": [1.5]}, TypeError, "hidden_sizes[0]=1.5 must be an integer"),
        ({"activation": "gelu"}, ValueError, "activation='gelu' must be one of"),
        ({"chunk_size": 0}, ValueError, "chunk_size=0 must be an integer ≥ 1"),
        ({"chunk_embed_dim": -1}, ValueError, "chunk_embed_dim=-1 must be an integer ≥ 1"),
        ({"init": "glorot"}, ValueError, "init='glorot' must be one of"),
        ({"init": "shared", "chunk_size": 4}, ValueError, "init='shared' needs chunk_size=None"),
    ],
)
def test_bad_arguments_are_refused_by_name(change, error, message):
    with refuses(error, message):
        HyperNetwork(**{"embed_dim": 4, "layer_sizes": [2, 1], **change})


def test_bad_codes_points_and_rows_are_refused_by_name():
    model = HyperNetwork(4, [2, 1])
    with refuses(ValueError, "z must have shape (b, 4), got (3, 5)"):
        model(torch.zeros(3, 5), torch.zeros(6, 2))
    with refuses(ValueError, "z must have 4 columns, got shape (3, 5)"):
        model.features(torch.zeros(3, 5))
    with refuses(ValueError, "x must have shape (n, 2) or (3, n, 2), got (4, 6, 2)"):
        model(torch.zeros(3, 4), torch.zeros(4, 6, 2))
    with refuses(ValueError, "x must have shape (n, 2) or (3, n, 2), got (6, 3)"):
        model(torch.zeros(3, 4), torch.zeros(6, 3))
    with refuses(ValueError, "theta must have shape (b, 3), got (2, 4)"):
        split_weights(torch.zeros(2, 4), [2, 1])
    with refuses(ValueError, "theta must have shape (2, 3), got (3, 3)"):
        remembering_loss(model, torch.zeros(2, 4), torch.zeros(3, 3))
    with refuses(ValueError, "z must not be empty"):
        remembering_loss(model, torch.zeros(0, 4), torch.zeros(0, 3))
    with refuses(ValueError, "activation='no' must be one of"):
        generated_mlp_loop(torch.zeros(1, 3), torch.zeros(1, 2), [2, 1], "no")
    with refuses(ValueError, "num_frequencies=0 must be an integer ≥ 1"):
        fourier_features(torch.zeros(2), 0)
    with refuses(ValueError, "x must have shape (..., d), got ()"):
        fourier_features(torch.tensor(0.0), 1)
    with refuses(ValueError, "high=-1 must be a finite number > 0"):
        grid(2, 0.0, -1)


# --------------------------------------------------------------------------------------- HyperLSTM
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

    def plain(x, size, weight=None, bias=None):
        return x

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


def test_biases_are_written_from_nothing_at_first_and_can_move():
    torch.manual_seed(0)
    layer = HyperLSTM(3, 40, 30, 20)
    assert not layer.weight_factor[2].any()  # no bias is added yet …
    code = layer.weight_code.detach()
    assert code[2].std().item() == pytest.approx(0.01, rel=0.1)  # … and its factor has a gradient
    assert not code[:2].any()


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
def test_bad_sizes_of_a_hyperlstm_are_refused_by_name(change, message):
    with refuses(ValueError, message):
        HyperLSTM(**{"input_size": 3, "hidden_size": 5, **change})


def test_bad_sequences_and_states_are_refused_by_name():
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


def test_the_loop_refuses_what_the_fast_form_refuses_and_takes_no_networks_at_all():
    theta = torch.zeros(2, 32)
    for x in (torch.zeros(3, 7, 3), torch.zeros(7, 4)):
        with refuses(ValueError, "x must have shape (n, 3) or (2, n, 3)"):
            generated_mlp_loop(theta, x, [3, 5, 2])
    none = generated_mlp_loop(theta[:0], torch.zeros(7, 3), [3, 5, 2])
    assert none.shape == generated_mlp(theta[:0], torch.zeros(7, 3), [3, 5, 2]).shape == (0, 7, 2)


def test_a_model_of_another_kind_is_refused_by_name():
    with refuses(TypeError, "model must be a HyperNetwork, got Linear"):
        remembering_loss(nn.Linear(2, 2), torch.zeros(1, 2), torch.zeros(1, 8))
