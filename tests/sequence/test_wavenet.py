"""WaveNet against torch.nn, masked convolutions, autograd, closed forms, scipy and brute force."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from nnlib.sequence import _wavenet_numpy as in_numpy
from nnlib.sequence.wavenet import (
    CausalConv1d,
    GatedLayer,
    Upsampling,
    WaveNet,
    causal_conv1d,
    causal_conv1d_loop,
    logistic_mixture_log_prob,
    mu_law_compress,
    mu_law_decode,
    mu_law_encode,
    mu_law_expand,
    next_level_loss,
    receptive_field,
)
from tests.support import Example, refuses

TINY = {"num_levels": 9, "channels": 4, "skip_channels": 5, "dilations": (1, 2, 3)}


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(dict(TINY), (torch.randint(9, (6, 12)),))


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def net(**changed):
    torch.manual_seed(3)
    model = WaveNet(**{**TINY, **changed}, dtype=torch.float64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)  # so that answers differ
    return model


def same(got, wanted, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=got.dtype), rtol=0, atol=atol)


# --------------------------------------------------------------------------------------- the μ-law
@pytest.mark.equation("wavenet-mu-law")
@pytest.mark.parametrize("mu", [1, 15, 255])
def test_the_mu_law_is_a_scaled_integral_of_its_density_of_levels(mu):
    """Its slope is proportional to 1 / (1 + μ|x|), and it reaches 1 at 1."""
    from scipy.integrate import quad

    whole = quad(lambda x: 1 / (1 + mu * x), 0, 1)[0]
    for x in (-1.0, -0.3, -1e-3, 0.0, 1e-4, 0.05, 0.7, 1.0):
        part = math.copysign(quad(lambda v: 1 / (1 + mu * v), 0, abs(x))[0] / whole, x)
        same(mu_law_compress(torch.tensor(x, dtype=torch.float64), mu), part)


@pytest.mark.equation("wavenet-mu-law-inverse")
@pytest.mark.parametrize("mu", [1, 15, 255])
def test_expanding_undoes_compressing_at_every_size(mu):
    x = torch.cat([-torch.logspace(-12, 0, 99), torch.logspace(-12, 0, 99)]).double()
    x = x.clamp(-1, 1)
    torch.testing.assert_close(mu_law_expand(mu_law_compress(x, mu), mu), x, rtol=1e-9, atol=0)
    y = torch.linspace(-1, 1, 99).double()
    by_hand = [math.copysign(((1 + mu) ** abs(v) - 1) / mu, v) for v in y.tolist()]
    same(mu_law_expand(y, mu), by_hand)


def torchaudios(x, channels):
    """The formula that torchaudio.functional.mu_law_encoding states, in NumPy."""
    mu = channels - 1.0
    y = np.sign(x) * np.log1p(mu * np.abs(x)) / np.log1p(mu)
    return ((y + 1) / 2 * mu + 0.5).astype(np.int64)


@pytest.mark.equation("wavenet-encode")
@pytest.mark.parametrize("mu", [1, 63, 255])
def test_a_level_is_the_nearest_on_the_compressed_scale(mu):
    even = torch.linspace(-1, 1, 5001, dtype=torch.float64)
    x = torch.cat([even, mu_law_expand(even, mu)]).sort().values  # loud and quiet ones
    levels = mu_law_encode(x, mu)
    grid = torch.linspace(-1, 1, mu + 1, dtype=torch.float64)
    away = (mu_law_compress(x, mu)[:, None] - grid).abs()
    assert (away.gather(1, levels[:, None])[:, 0] <= away.amin(1) + 1e-12).all()
    assert levels.tolist() == torchaudios(x.numpy(), mu + 1).tolist()
    assert (levels.diff() >= 0).all() and set(levels.tolist()) == set(range(mu + 1))


@pytest.mark.equation("wavenet-decode")
@pytest.mark.parametrize("mu", [1, 63, 255])
def test_every_level_comes_back_as_itself(mu):
    levels = torch.arange(mu + 1)
    x = mu_law_decode(levels, mu)
    assert x.dtype == torch.float32 and x.abs().max() <= 1
    assert mu_law_encode(x, mu).tolist() == levels.tolist()
    wanted = [math.copysign(((1 + mu) ** abs(v) - 1) / mu, v) for v in np.linspace(-1, 1, mu + 1)]
    same(x, torch.tensor(wanted), atol=1e-6)


@pytest.mark.equation("wavenet-snr")
def test_a_quiet_sound_survives_eight_bits_of_the_law_better_than_eight_plain_ones():
    """Errors evenly spread in a step: closed forms for quiet sines, held to the measured ones.

    Over many amplitudes, since a single sine dwells at its peak, wherever in a step that lies.
    """
    amplitude, mu = torch.linspace(0.04, 0.06, 401, dtype=torch.float64)[:, None], 255
    x = amplitude * torch.sin(torch.arange(2000, dtype=torch.float64) * 0.7390851)
    plain = ((x + 1) / 2 * mu).round() / mu * 2 - 1
    by_law = mu_law_expand(2 * mu_law_encode(x, mu).double() / mu - 1, mu)
    noise = (2 / mu) ** 2 / 12
    grown = (1 + 4 * mu * amplitude / math.pi + (mu * amplitude) ** 2 / 2).mean().item()
    foretold = {"plain": noise, "law": noise * (math.log1p(mu) / mu) ** 2 * grown}
    told = {"plain": (x - plain).square().mean(), "law": (x - by_law).square().mean()}
    for name, wanted in foretold.items():
        assert told[name].item() == pytest.approx(wanted, rel=0.02)
    assert foretold["plain"] > 15 * foretold["law"]


def test_the_law_takes_no_sample_at_all():
    none = torch.zeros(0)
    assert mu_law_encode(none).shape == mu_law_decode(mu_law_encode(none)).shape == (0,)


@pytest.mark.parametrize("function", [mu_law_compress, mu_law_encode, mu_law_expand])
def test_the_law_refuses_what_it_cannot_code(function):
    with refuses(ValueError, "must lie in -1 … 1, got -0.5 … 1.5"):
        function(torch.tensor([-0.5, 1.5]))
    with refuses(ValueError, "must lie in -1 … 1"):
        function(torch.tensor([0.0, math.nan]))
    for mu in (0, -255):
        with refuses(ValueError, f"mu={mu} must be an integer ≥ 1"):
            function(torch.zeros(3), mu)
    with refuses(TypeError, "mu=1.5 must be an integer"):
        function(torch.zeros(3), 1.5)
    with refuses(TypeError, "must be floating point"):
        function(torch.zeros(3, dtype=torch.int64))


def test_levels_outside_the_law_are_refused():
    with refuses(ValueError, "levels must be 0 … 255 (mu + 1), got 0 … 256"):
        mu_law_decode(torch.tensor([0, 256]))
    with refuses(ValueError, "mu=0 must be an integer ≥ 1"):
        mu_law_decode(torch.tensor([0]), 0)


# --------------------------------------------------------------------------- a causal convolution
shapes = st.tuples(
    st.integers(1, 3), st.integers(0, 9), st.integers(1, 3), st.integers(1, 3),
    st.integers(1, 4), st.integers(1, 5), st.integers(0, 99),
)  # fmt: skip


@pytest.mark.equation("wavenet-causal")
@settings(max_examples=40, deadline=None)
@given(shapes)
def test_it_is_torchs_convolution_shifted_and_the_loop(shape):
    b, t, c, o, k, d, seed = shape
    x, weight, bias = drawn(b, t, c, seed=seed), drawn(o, c, k, seed=seed + 1), drawn(o)
    y = causal_conv1d(x, weight, bias, d)
    padded = F.pad(x.mT, ((k - 1) * d, 0))
    wanted = F.conv1d(padded, weight, bias, dilation=d) if t else x.new_zeros(b, o, 0)
    same(y, wanted.mT)
    same(y, causal_conv1d_loop(x, weight, bias, d))


@pytest.mark.equation("wavenet-masked")
@pytest.mark.parametrize(("k", "d"), [(1, 1), (2, 1), (2, 4), (3, 2)])
def test_it_is_a_centred_convolution_whose_future_is_masked(k, d):
    """A kernel of 2K − 1 taps, centred and padded at both ends; the K − 1 of the future are 0."""
    x, weight = drawn(2, 11, 3), drawn(4, 3, k, seed=1)
    wide = torch.cat([weight, drawn(4, 3, k - 1, seed=2)], -1)
    mask = (torch.arange(2 * k - 1) < k).double()
    centred = F.conv1d(x.mT, wide * mask, dilation=d, padding=(k - 1) * d)
    same(causal_conv1d(x, weight, None, d), centred.mT)


def test_it_loads_the_weights_of_torchs_convolution():
    theirs = nn.Conv1d(3, 5, 2, dilation=4).double()
    ours = CausalConv1d(3, 5, 2, 4, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = drawn(2, 20, 3)
    same(ours(x), theirs(F.pad(x.mT, (4, 0))).mT)


def test_gradients_are_those_of_torchs_convolution():
    x, weight, bias = (drawn(*s).requires_grad_() for s in ((2, 7, 3), (4, 3, 2), (4,)))
    send = drawn(2, 7, 4, seed=5)
    mine = torch.autograd.grad((causal_conv1d(x, weight, bias, 3) * send).sum(), [x, weight, bias])
    theirs = F.conv1d(F.pad(x.mT, (3, 0)), weight, bias, dilation=3).mT
    for a, b in zip(mine, torch.autograd.grad((theirs * send).sum(), [x, weight, bias]),
                    strict=True):  # fmt: skip
        same(a, b)


def test_without_a_bias_there_is_none():
    conv = CausalConv1d(2, 3, 2, bias=False, dtype=torch.float64)
    assert conv.bias is None and not conv(torch.zeros(1, 4, 2).double()).any()
    assert "bias=False" in repr(conv)


def test_lengths_of_nought_and_one_are_answered():
    conv = CausalConv1d(2, 3, 2, 8)
    assert conv(torch.zeros(4, 0, 2)).shape == (4, 0, 3)
    x = torch.randn(4, 1, 2)
    same(conv(x)[:, 0], x[:, 0] @ conv.weight[:, :, 1].T + conv.bias, atol=1e-6)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("dilation", 0), ("dilation", -2), ("kernel_size", 0), ("in_channels", 0)],
)
def test_a_convolution_refuses_what_it_cannot_be(argument, value):
    good = {"in_channels": 2, "out_channels": 3, "kernel_size": 2, "dilation": 1}
    with refuses(ValueError, f"{argument}={value} must be an integer ≥ 1"):
        CausalConv1d(**{**good, argument: value})


def test_a_convolution_refuses_other_channels():
    with refuses(ValueError, "x must have shape (b, t, 2), got (4, 2, 9)"):
        CausalConv1d(2, 3, 2)(torch.zeros(4, 2, 9))


# ------------------------------------------------------------------------------ the receptive field
@pytest.mark.equation("wavenet-receptive-field")
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("dilations", [[1], [1, 2, 4], [4, 1, 1], [1, 2, 1, 2]])
def test_the_field_is_as_far_as_a_gradient_reaches(kernel_size, dilations):
    field = receptive_field(kernel_size, dilations)
    x = torch.ones(1, 40, 1, dtype=torch.float64, requires_grad=True)
    y = x
    for d in dilations:
        y = causal_conv1d(y, torch.ones(1, 1, kernel_size, dtype=torch.float64), None, d)
    y[0, 39, 0].backward()
    reached = x.grad.flatten().nonzero().flatten()
    assert 40 - int(reached.min()) == field
    by_brute_force = {0}  # which delays can be made by choosing a tap in every layer
    for d in dilations:
        by_brute_force = {s + j * d for s in by_brute_force for j in range(kernel_size)}
    assert max(by_brute_force) + 1 == field
    assert sorted(39 - int(at) for at in reached) == sorted(by_brute_force)


@pytest.mark.equation("wavenet-doubling")
@pytest.mark.parametrize("layers", [1, 3, 10])
def test_doubling_dilations_hear_every_sample_once_by_one_path(layers):
    """With two taps, L layers hear 2^L samples; the paths are the binary numbers."""
    dilations = [2**layer for layer in range(layers)]
    assert receptive_field(2, dilations) == 2**layers
    x = torch.zeros(1, 2**layers, 1, requires_grad=True)
    y = x
    for d in dilations:
        y = causal_conv1d(y, torch.ones(1, 1, 2), None, d)
    y[0, -1, 0].backward()
    assert x.grad.flatten().tolist() == [1.0] * 2**layers


@pytest.mark.parametrize("kernel_size", [2, 3])
def test_an_answer_changes_with_every_sample_of_its_field_and_no_other(kernel_size):
    model = net(kernel_size=kernel_size)
    field, t = model.receptive_field, model.receptive_field + 6
    levels = torch.randint(9, (1, t), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        plain = model(levels)[0]
        for at in range(t):
            other = levels.clone()
            other[0, at] = (other[0, at] + 1) % 9
            moved = (model(other)[0] != plain).any(-1)
            assert not moved[:at].any(), "the past does not hear the future"
            assert moved[at : at + field].all()
            assert not moved[at + field :].any()


@pytest.mark.parametrize("bad", [[0], [1, -2], [1, 0, 4]])
def test_dilations_below_one_are_refused(bad):
    at = next(i for i, d in enumerate(bad) if d < 1)
    for use in (lambda: receptive_field(2, bad), lambda: WaveNet(9, dilations=bad)):
        with refuses(ValueError, f"dilations[{at}]={bad[at]} must be an integer ≥ 1"):
            use()


def test_dilations_that_are_no_list_are_refused():
    with refuses(TypeError, "dilations=4 must be a sequence of integers ≥ 1"):
        receptive_field(2, 4)
    with refuses(TypeError, "dilations=tensor(4) must be a sequence of integers ≥ 1"):
        receptive_field(2, torch.tensor(4))
    with refuses(ValueError, "dilations must name one layer or more"):
        WaveNet(9, dilations=())
    with refuses(ValueError, "kernel_size=0 must be an integer ≥ 1"):
        receptive_field(0, [1])
    assert receptive_field(2, []) == 1


# ------------------------------------------------------------------------------------- the network
def by_hand(model, levels, condition=None):
    """The whole network with torch's own convolutions, in their layout."""
    x = F.one_hot(levels, model.num_levels).mT.to(model.front.weight)
    k = model.kernel_size
    x = F.conv1d(F.pad(x, (k - 1, 0)), model.front.weight, model.front.bias)
    total = 0
    for layer, d in zip(model.layers, model.dilations, strict=True):
        a = F.conv1d(F.pad(x, ((k - 1) * d, 0)), layer.conv.weight, layer.conv.bias, dilation=d)
        if condition is not None:
            a = a + F.conv1d(condition.mT, layer.condition.weight[..., None])
        f, g = a[:, : model.channels], a[:, model.channels :]
        z = torch.tanh(f) * (1 / (1 + torch.exp(-g)))
        total = total + F.conv1d(z, layer.skip.weight[..., None], layer.skip.bias)
        if layer.residual is not None:
            x = x + F.conv1d(z, layer.residual.weight[..., None], layer.residual.bias)
    h = F.conv1d(F.relu(total), model.hidden.weight[..., None], model.hidden.bias)
    return F.conv1d(F.relu(h), model.out.weight[..., None], model.out.bias).mT


@pytest.mark.equation("wavenet-gate", "wavenet-residual", "wavenet-skip", "wavenet-head")
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("t", [1, 2, 20])
def test_the_network_is_what_torchs_convolutions_make(kernel_size, t):
    model = net(kernel_size=kernel_size)
    levels = torch.randint(9, (3, t))
    same(model(levels), by_hand(model, levels))


@pytest.mark.equation("wavenet-global", "wavenet-local")
def test_conditions_are_added_within_the_gates():
    model = net(global_size=2, local_size=3)
    levels, whole, each = torch.randint(9, (4, 15)), drawn(4, 2), drawn(4, 15, 3, seed=1)
    joined = torch.cat([whole[:, None].expand(4, 15, 2), each], -1)
    same(model(levels, whole, each), by_hand(model, levels, joined))
    only = net(global_size=2)
    same(only(levels, whole), by_hand(only, levels, whole[:, None].expand(4, 15, 2)))
    only = net(local_size=3)
    same(only(levels, local_features=each), by_hand(only, levels, each))


def test_a_local_condition_is_heard_at_its_own_sample_and_later_only():
    model = net(local_size=3)
    levels, each = torch.randint(9, (1, 15)), drawn(1, 15, 3)
    other = each.clone()
    other[:, 7] += 1
    moved = (model(levels, local_features=other) != model(levels, local_features=each)).any(-1)[0]
    # through the first gate at once, then over the taps of the others, 2 and 3 back
    assert moved.nonzero().flatten().tolist() == [7, 7 + 2, 7 + 3, 7 + 2 + 3]


def test_the_last_layer_passes_nothing_on():
    assert net().layers[-1].residual is None
    layer = GatedLayer(3, 4, last=True)
    x = torch.randn(2, 5, 3)
    assert layer(x)[0] is x


@pytest.mark.equation("wavenet-product", "wavenet-softmax")
def test_the_probabilities_of_all_sounds_add_up_to_one():
    """Brute force over all sounds of four samples, given their first."""
    model = net(num_levels=3, dilations=(1, 2))
    sounds = torch.cartesian_prod(*[torch.arange(3)] * 3)
    for first in range(3):
        levels = F.pad(sounds, (1, 0), value=first)
        with torch.no_grad():
            steps = model(levels)[:, :-1].log_softmax(-1)
        chosen = steps.gather(-1, levels[:, 1:, None])[..., 0].sum(1)
        assert chosen.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.equation("wavenet-objective")
def test_the_loss_is_the_mean_surprise_taken_sample_by_sample():
    model = net(global_size=2, local_size=3)
    levels, whole, each = torch.randint(9, (2, 8)), drawn(2, 2), drawn(2, 8, 3)
    total = 0.0
    for row in range(2):
        for t in range(7):  # each from its own past alone
            logits = model(levels[row : row + 1, : t + 1], whole[row : row + 1],
                           each[row : row + 1, : t + 1])[0, -1]  # fmt: skip
            p = logits.exp() / logits.exp().sum()
            total -= math.log(p[levels[row, t + 1]].item())
    same(next_level_loss(model, levels, whole, each), total / 14)
    alone = net()
    wanted = F.cross_entropy(by_hand(alone, levels)[:, :-1].flatten(0, 1), levels[:, 1:].flatten())
    same(next_level_loss(alone, levels), wanted)
    local = net(local_size=3)
    same(next_level_loss(local, levels, local_features=each),
         F.cross_entropy(by_hand(local, levels, each)[:, :-1].flatten(0, 1),
                         levels[:, 1:].flatten()))  # fmt: skip
    with refuses(ValueError, "levels must be of two samples or more, got 1"):
        next_level_loss(alone, levels[:, :1])


@pytest.mark.equation("wavenet-parameters")
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_the_count_of_parameters_is_the_formula(kernel_size):
    v, c, s, layers, k = 9, 4, 5, 3, kernel_size
    model = net(kernel_size=k)
    wanted = v * c * k + c  # the first convolution
    wanted += layers * (2 * c * c * k + 2 * c + c * s + s) + (layers - 1) * (c * c + c)
    wanted += s * s + s + s * v + v
    assert sum(p.numel() for p in model.parameters()) == wanted


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(2, 0, dtype=torch.int64),), "levels must not be empty"),
        ((torch.full((2, 3), 9),), "levels must be 0 … 8 (num_levels), got 9 … 9"),
        ((torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 2)), "global_size=0"),
        ((torch.zeros(2, 3, dtype=torch.int64), None, torch.zeros(2, 3, 2)), "local_size=0"),
    ],
)
def test_the_network_refuses_what_it_cannot_read(arguments, message):
    with refuses(ValueError, message):
        net()(*arguments)


def test_conditions_that_are_missing_or_of_another_shape_are_named():
    model, levels = net(global_size=2, local_size=3), torch.zeros(2, 4, dtype=torch.int64)
    with refuses(ValueError, "global_features must have shape (2, 2), got None"):
        model(levels, None, drawn(2, 4, 3))
    with refuses(ValueError, "local_features must have shape (2, 4, 3), got (2, 5, 3)"):
        model(levels, drawn(2, 2), drawn(2, 5, 3))


# -------------------------------------------------------------------------------------- generation
CONDITIONS = [{}, {"global_size": 2}, {"local_size": 3}, {"global_size": 2, "local_size": 3}]


def given_features(model, b, t):
    whole = drawn(b, model.global_size, seed=7) if model.global_size else None
    each = drawn(b, t, model.local_size, seed=8) if model.local_size else None
    return {"global_features": whole, "local_features": each}


@pytest.mark.equation("wavenet-cache")
@pytest.mark.parametrize("conditions", CONDITIONS)
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_steps_with_a_cache_say_what_one_pass_says(conditions, kernel_size):
    model = net(kernel_size=kernel_size, **conditions)
    levels = torch.randint(9, (3, 30))
    features = given_features(model, 3, 30)
    cache, said = model.new_cache(3), []
    for t in range(30):
        each = features["local_features"]
        now = None if each is None else each[:, t]
        said.append(model.step(levels[:, t], cache, features["global_features"], now))
    same(torch.stack(said, 1), model(levels, **features))
    spans = (kernel_size - 1) * 3 * (1 + 4 * (1 + 2 + 3))
    assert cache.numbers == spans and cache.time == 30


@pytest.mark.parametrize("conditions", CONDITIONS)
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
@pytest.mark.parametrize("t", [1, 2, 5, 30])
def test_a_beginning_is_read_in_one_pass_as_step_by_step(conditions, kernel_size, t):
    """Shorter than the rings, and longer."""
    model = net(kernel_size=kernel_size, **conditions)
    levels = torch.randint(9, (3, t + 1))
    features = given_features(model, 3, t + 1)
    whole, each = features["global_features"], features["local_features"]
    walked = model.new_cache(3)
    for at in range(t):
        now = None if each is None else each[:, at]
        model.step(levels[:, at], walked, whole, now)
    read = model.read(levels[:, :t], whole, None if each is None else each[:, :t])
    assert read.time == walked.time == t and torch.equal(read.levels, walked.levels)
    for a, b in zip(read.rings, walked.rings, strict=True):
        same(a, b)


@pytest.mark.parametrize("conditions", CONDITIONS)
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_the_walk_in_numpy_says_what_one_pass_says(conditions, kernel_size):
    model = net(kernel_size=kernel_size, **conditions).requires_grad_(False)
    levels = torch.randint(9, (3, 30))
    features = given_features(model, 3, 30)
    condition = model._condition(levels, *features.values())
    stream = in_numpy.Stream(model, model.new_cache(3), condition)
    said = [torch.from_numpy(stream.step(now.numpy())) for now in levels.unbind(1)]
    same(torch.stack(said, 1), model(levels, **features))


@pytest.mark.parametrize("conditions", CONDITIONS)
@pytest.mark.parametrize("rule", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.8}])
@pytest.mark.parametrize("begun", [1, 3, 20])
def test_cached_generation_is_naive_generation(conditions, rule, begun, monkeypatch):
    """Past the receptive field as well; by three ways, from equal random numbers."""
    model = net(**conditions)
    levels = torch.randint(9, (2, begun))
    features = given_features(model, 2, begun + 40)

    def sound(use_cache):
        torch.manual_seed(5)
        return model.generate(levels, 40, **rule, use_cache=use_cache, **features)

    naive, cached = sound(False), sound(True)
    assert naive.shape == (2, begun + 40) and (naive[:, :begun] == levels).all()
    assert cached.tolist() == naive.tolist()
    monkeypatch.setattr(in_numpy, "KINDS", ())  # as on a GPU
    assert sound(True).tolist() == naive.tolist()
    assert len(set(naive[:, begun:].flatten().tolist())) > 2


@pytest.mark.parametrize("use_cache", [True, False])
def test_at_temperature_nought_the_most_probable_level_is_taken(use_cache):
    model = net()
    sound = model.generate(torch.tensor([[1], [5]]), 12, temperature=0, use_cache=use_cache)
    assert (model(sound)[:, :-1].argmax(-1) == sound[:, 1:]).all()


@pytest.mark.parametrize("use_cache", [True, False])
def test_levels_are_drawn_as_often_as_they_are_probable(use_cache):
    """A χ² test of 4000 first draws, at a level of one in a thousand."""
    from scipy.stats import chisquare

    model = net(num_levels=5)
    levels = torch.tensor([[2, 4]]).expand(4000, 2)
    p = model(levels[:1])[0, -1].softmax(-1).detach().numpy()
    generator = torch.Generator().manual_seed(0)
    sound = model.generate(levels, 1, generator=generator, use_cache=use_cache)
    seen = np.bincount(sound[:, -1].numpy(), minlength=5)
    assert chisquare(seen, 4000 * p).pvalue > 1e-3


def test_a_generator_decides_and_the_model_stays_in_its_mode():
    model = net().train()
    one, two, other = (
        model.generate(torch.tensor([[1]]), 20, generator=torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    )
    assert one.tolist() == two.tolist() != other.tolist()
    assert model.training


def test_single_precision_generates_by_both_ways():
    model = net().float()
    for use_cache in (True, False):
        assert model.generate(torch.tensor([[1]]), 5, use_cache=use_cache).shape == (1, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples=0 must be an integer ≥ 1"),
        ({"levels": torch.zeros(1, 0, dtype=torch.int64)}, "levels must not be empty"),
        ({"temperature": -1}, "temperature=-1 must be a finite number ≥ 0"),
        ({"top_k": 0}, "top_k=0 must be an integer ≥ 1"),
        ({"local_features": torch.zeros(1, 3, 2)}, "local_size=0"),
    ],
)
def test_generation_refuses_by_name(arguments, message):
    good = {"levels": torch.zeros(1, 2, dtype=torch.int64), "num_samples": 3}
    with refuses(ValueError, message):
        net().generate(**{**good, **arguments})


def test_generation_refuses_outputs_that_are_no_logits():
    with refuses(ValueError, "num_outputs=6 are no logits of num_levels=9"):
        net(num_outputs=6).generate(torch.zeros(1, 1, dtype=torch.int64), 3)
    with refuses(ValueError, "batch_size=0 must be an integer ≥ 1"):
        net().new_cache(0)


# -------------------------------------------------------------------------- upsampling, logistics
@pytest.mark.equation("wavenet-upsampling")
def test_upsampling_is_torchs_transposed_convolution_and_begins_as_repetition():
    up = Upsampling(3, 4, dtype=torch.float64)
    frames = drawn(2, 5, 3)
    same(up(frames), frames.repeat_interleave(4, 1))
    with torch.no_grad():
        up.weight.copy_(drawn(4, 3, 3)), up.bias.copy_(drawn(3, seed=1))
    theirs = F.conv_transpose1d(frames.mT, up.weight.permute(2, 1, 0), up.bias, stride=4)
    same(up(frames), theirs.mT)
    with refuses(ValueError, "factor=0 must be an integer ≥ 1"):
        Upsampling(3, 0)


def logistic_cdf(x, mean, scale):
    from scipy.stats import logistic

    return logistic.cdf(x, mean, scale)


@pytest.mark.equation("wavenet-logistics")
@pytest.mark.parametrize("n", [2, 5, 256])
def test_a_mixture_of_logistics_is_scipys_distribution_between_the_edges(n):
    weights, means, log_scales = drawn(3, seed=4), drawn(3, seed=5) / 2, drawn(3, seed=6) - 2
    parameters = torch.cat([weights, means, log_scales])
    levels = torch.arange(n)
    got = logistic_mixture_log_prob(parameters.expand(n, 9), levels, n).exp()
    share = weights.softmax(0).numpy()
    edges = np.concatenate([[-np.inf], (2 * np.arange(n - 1) + 1) / (n - 1) - 1, [np.inf]])
    cdf = sum(
        w * logistic_cdf(edges, m, s)
        for w, m, s in zip(share, means.numpy(), log_scales.exp().numpy(), strict=True)
    )
    same(got, np.diff(cdf))
    assert got.sum().item() == pytest.approx(1, abs=1e-12)


def test_logistics_stay_finite_where_differences_of_sigmoids_vanish():
    far = torch.tensor([0.0, 0.9, -12.0], dtype=torch.float32)
    log_p = logistic_mixture_log_prob(far.expand(3, 3), torch.tensor([0, 100, 65535]))
    assert torch.isfinite(log_p).all()
    x = far.clone().requires_grad_()
    logistic_mixture_log_prob(x, torch.tensor(100)).backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize("shape", [(4, 7), (4, 0)])
def test_logistics_refuse_parameters_that_are_not_of_three_kinds(shape):
    with refuses(ValueError, "parameters must end in 3 m numbers"):
        logistic_mixture_log_prob(torch.zeros(shape), torch.zeros(4, dtype=torch.int64))
    with refuses(ValueError, "num_levels=1 must be an integer ≥ 2"):
        logistic_mixture_log_prob(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64), 1)


# ------------------------------------------------------------------------------------------- cost
@pytest.mark.equation("wavenet-cost")
def test_a_cached_sample_costs_one_tick_a_layer_and_a_naive_one_its_whole_field():
    """Multiplications and additions as torch counts them, held to the formulas."""
    from torch.utils.flop_counter import FlopCounterMode

    model = net().eval()
    v, c, s, layers, k, field = 9, 4, 5, 3, 2, model.receptive_field
    tick = layers * (4 * k * c * c + 2 * c * s) + (layers - 1) * 2 * c * c + 2 * s * s + 2 * s * v
    levels = torch.randint(9, (1, field))
    with FlopCounterMode(display=False) as naive, torch.no_grad():
        model(levels)
    with FlopCounterMode(display=False) as cached:
        model.step(levels[:, 0], model.new_cache(1))
    assert naive.get_total_flops() == field * tick
    assert cached.get_total_flops() == tick
