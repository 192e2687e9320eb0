"""Convolutions against torch, scipy, loops and autograd; the classics against torchvision."""

from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnlib.train.metrics import parameter_count
from nnlib.vision import cnn
from nnlib.vision.cnn import (
    VGG,
    AlexNet,
    DepthwiseSeparableConv2d,
    LeNet5,
    SimpleCNN,
    avg_pool2d,
    conv2d,
    conv2d_backward,
    conv2d_loop,
    conv2d_matmul,
    conv_transpose2d,
    conv_transpose2d_loop,
    cost,
    max_pool2d,
    output_size,
    receptive_field,
    transposed_output_size,
)
from tests.support import Example, Peer, refuses

peers = Peer("torchvision.models")


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"in_channels": 2, "num_classes": 3, "channels": [4, 5]}, (torch.randn(7, 2, 6, 9),)
    )


def whole(*shape):
    """Whole numbers: sums of their products are exact, whatever the order."""
    return torch.randint(-4, 5, shape).double()


EXACT = {"rtol": 0, "atol": 0}
FORMS = [conv2d, conv2d_loop, conv2d_matmul]
SHAPES = {
    "size": st.tuples(st.integers(1, 7), st.integers(1, 7)),
    "kernel": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
    "dilation": st.tuples(st.integers(1, 3), st.integers(1, 3)),
    "groups": st.sampled_from([1, 2, 4]),
}


# ------------------------------------------------------------------ sizes


@pytest.mark.equation("cnn-output-size", "cnn-span")
def test_output_size_is_the_number_of_places_where_the_kernel_fits():
    for size, k, s, p, d in product(range(1, 9), range(1, 4), (1, 2, 3), (0, 1, 2), (1, 2, 3)):
        span = 1 + d * (k - 1)
        places = [at for at in range(-p, size + p, s) if at + span <= size + p]
        if places:
            assert output_size(size, k, s, p, d) == len(places)
            out = F.conv2d(torch.zeros(1, 1, size, 5), torch.zeros(1, 1, k, 1), None, (s, 1),
                           (p, 0), (d, 1))  # fmt: skip
            assert out.shape[2] == len(places)
        else:
            with refuses(ValueError, f"kernel_size={k} with dilation={d} spans {span}"):
                output_size(size, k, s, p, d)


@pytest.mark.equation("cnn-span")
@pytest.mark.parametrize(("k", "d"), [(1, 5), (2, 3), (3, 1), (3, 2), (5, 4)])
def test_a_dilated_kernel_spans_what_the_gradient_reaches(k, d):
    x = torch.randn(1, 1, 40, 1, requires_grad=True)
    conv2d(x, torch.ones(1, 1, k, 1), dilation=(d, 1))[0, 0, 10, 0].backward()
    reached = x.grad[0, 0, :, 0].nonzero()[:, 0]
    assert reached.max() - reached.min() + 1 == d * (k - 1) + 1 == k + (k - 1) * (d - 1)
    assert reached.diff().unique().tolist() == ([d] if k > 1 else [])


@pytest.mark.equation("cnn-transposed-size")
def test_transposed_output_size_is_torchs_and_undoes_output_size():
    for size, k, s, p, d in product(range(1, 6), range(1, 5), (1, 2, 3), (0, 1, 2), (1, 2)):
        for extra in range(max(s, d)):
            if (size - 1) * s + d * (k - 1) + 1 + extra <= 2 * p:
                with refuses(ValueError, f"padding={p} cuts off all"):
                    transposed_output_size(size, k, s, p, extra, d)
                continue
            out = transposed_output_size(size, k, s, p, extra, d)
            theirs = F.conv_transpose2d(torch.zeros(1, 1, size, 3), torch.zeros(1, 1, k, 1), None,
                                        (s, 1), (p, 0), (extra, 0), 1, (d, 1))  # fmt: skip
            assert theirs.shape[2] == out
            if extra < s:
                assert output_size(out, k, s, p, d) == size


@pytest.mark.equation("cnn-receptive-field")
@given(
    layers=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4
    )
)
@settings(deadline=None)
def test_receptive_field_is_what_the_gradient_of_one_output_reaches(layers):
    field = receptive_field(layers)
    x = torch.ones(1, 1, field, 1, dtype=torch.float64, requires_grad=True)
    z = x
    for k, s, d in layers:
        z = F.conv2d(z, torch.ones(1, 1, k, 1).double(), stride=(s, 1), dilation=(d, 1))
    assert z.shape[2] == 1  # one row fewer, and there would be none
    z.sum().backward()
    assert x.grad[0, 0, 0, 0] > 0 and x.grad[0, 0, -1, 0] > 0


# ------------------------------------------------------------------ convolution


@pytest.mark.equation("cnn-convolution")
@pytest.mark.parametrize("form", FORMS)
def test_convolution_is_the_triple_sum(form):
    x, kernels, bias = whole(1, 3, 5, 4), whole(2, 3, 3, 2), whole(2)
    got = form(x, kernels, bias)
    assert got.shape == (1, 2, 3, 3)
    for o, i, j in product(range(2), range(3), range(3)):
        total = float(bias[o])
        for c, m, n in product(range(3), range(3), range(2)):
            total += float(kernels[o, c, m, n]) * float(x[0, c, i + m, j + n])
        assert got[0, o, i, j] == total


@pytest.mark.equation("cnn-strided", "cnn-im2col", "cnn-grouped")
@given(**SHAPES)
@settings(max_examples=80, deadline=None)
def test_all_forms_are_torchs_whatever_stride_padding_dilation_and_groups(
    size, kernel, stride, padding, dilation, groups
):
    steps = (stride, padding, dilation)
    fits = all(
        d * (k - 1) + 1 <= n + 2 * p
        for n, k, p, d in zip(size, kernel, padding, dilation, strict=True)
    )
    x, weight, bias = whole(2, 4, *size), whole(8, 4 // groups, *kernel), whole(8)
    for form in FORMS:
        if not fits:
            with refuses(ValueError, "spans"):
                form(x, weight, bias, *steps, groups)
            continue
        wanted = F.conv2d(x, weight, bias, *steps, groups)
        torch.testing.assert_close(form(x, weight, bias, *steps, groups), wanted, **EXACT)
        without = form(x, weight, None, *steps, groups)
        torch.testing.assert_close(without, wanted - bias[:, None, None], **EXACT)


@pytest.mark.equation("cnn-strided")
def test_what_lies_outside_the_image_counts_as_zero():
    x, kernels = whole(1, 1, 4, 4), whole(1, 1, 3, 3)
    s, p, d = 2, 2, 2
    got = conv2d(x, kernels, stride=s, padding=p, dilation=d)
    for i, j in product(*map(range, got.shape[2:])):
        total = 0.0
        for m, n in product(range(3), range(3)):
            y, across = s * i + d * m - p, s * j + d * n - p
            if 0 <= y < 4 and 0 <= across < 4:
                total += float(kernels[0, 0, m, n] * x[0, 0, y, across])
        assert got[0, 0, i, j] == total


@pytest.mark.equation("cnn-flipped")
def test_it_is_scipys_correlation_and_its_convolution_with_the_kernel_flipped():
    x, kernel = np.random.default_rng(0).normal(size=(9, 8)), np.arange(6.0).reshape(2, 3)
    got = conv2d(torch.tensor(x)[None, None], torch.tensor(kernel)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(got, signal.correlate2d(x, kernel, "valid"), atol=1e-12)
    flipped = np.ascontiguousarray(kernel[::-1, ::-1])
    got = conv2d(torch.tensor(x)[None, None], torch.tensor(flipped)[None, None])[0, 0].numpy()
    np.testing.assert_allclose(got, signal.convolve2d(x, kernel, "valid"), atol=1e-12)
    assert np.abs(signal.correlate2d(x, kernel, "valid") - got).max() > 1  # they are two things


@pytest.mark.equation("cnn-equivariance")
@pytest.mark.parametrize(("s", "u"), [(1, 1), (1, 3), (2, 2), (2, 4), (3, 3)])
def test_a_shift_by_a_multiple_of_the_stride_shifts_the_maps(s, u):
    x, kernels = torch.zeros(1, 2, 24, 24).double(), whole(3, 2, 3, 3)
    x[:, :, 8:14, 8:14] = whole(1, 2, 6, 6)
    before = conv2d(x, kernels, stride=s, padding=1)
    after = conv2d(torch.roll(x, (u, -u), (2, 3)), kernels, stride=s, padding=1)
    torch.testing.assert_close(after, torch.roll(before, (u // s, -(u // s)), (2, 3)), **EXACT)


def test_a_shift_by_less_than_the_stride_gives_maps_of_other_values():
    x, kernels = whole(1, 1, 12, 12), whole(1, 1, 3, 3)
    before = conv2d(x, kernels, stride=2).unique()
    after = conv2d(x[:, :, :, 1:], kernels, stride=2).unique()
    assert not set(after.tolist()) <= set(before.tolist())


@pytest.mark.equation("cnn-im2col")
def test_patches_in_columns_times_kernels_in_rows():
    x, kernels = whole(1, 2, 4, 5), whole(3, 2, 2, 3)
    places = list(product(range(3), range(3)))
    columns = torch.stack([x[0, :, i : i + 2, j : j + 3].flatten() for i, j in places], 1)
    assert columns.shape == (2 * 2 * 3, 9)
    torch.testing.assert_close(F.unfold(x, (2, 3))[0], columns, **EXACT)
    wanted = (kernels.flatten(1) @ columns).view(1, 3, 3, 3)
    torch.testing.assert_close(conv2d_matmul(x, kernels), wanted, **EXACT)


@pytest.mark.equation("cnn-weight-sharing")
def test_as_a_matrix_a_convolution_is_mostly_zeros_and_repeats_its_weights():
    kernel = torch.arange(1.0, 5.0).view(1, 1, 2, 2)
    matrix = torch.func.jacrev(lambda x: conv2d(x.view(1, 1, 4, 4), kernel).flatten())(
        torch.zeros(16)
    )
    assert matrix.shape == (9, 16) and matrix.count_nonzero() == 9 * 4
    for row, (i, j) in zip(matrix, product(range(3), range(3)), strict=True):
        at = [4 * (i + m) + j + n for m in range(2) for n in range(2)]
        assert row[at].tolist() == [1, 2, 3, 4] and row.count_nonzero() == 4


# ------------------------------------------------------------------ pooling


@pytest.mark.equation("cnn-max-pool", "cnn-average-pool")
@pytest.mark.parametrize(("k", "s"), [(2, None), (3, 2), (2, 1), (3, 3), (1, 2)])
def test_pooling_is_torchs_and_the_formula(k, s):
    x = whole(2, 3, 7, 8)
    for ours, theirs, of in (
        (max_pool2d, F.max_pool2d, max),
        (avg_pool2d, F.avg_pool2d, lambda v: sum(v) / len(v)),
    ):
        got = ours(x, k, s)
        torch.testing.assert_close(got, theirs(x, k, s))
        step = s or k
        for i, j in product(*map(range, got.shape[2:])):
            window = x[1, 2, step * i : step * i + k, step * j : step * j + k]
            assert abs(got[1, 2, i, j] - of(window.flatten().tolist())) < 1e-12


@pytest.mark.equation("cnn-max-pool-gradient")
def test_the_gradient_of_max_pooling_goes_to_the_largest_and_nowhere_else():
    x = torch.randperm(64).double().view(1, 1, 8, 8).requires_grad_()
    delta = whole(1, 1, 4, 4)
    for pool in (max_pool2d, F.max_pool2d):
        (grad,) = torch.autograd.grad(pool(x, 2), x, delta)
        for i, j in product(range(4), range(4)):
            window = x[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].detach()
            wanted = torch.where(window == window.max(), delta[0, 0, i, j], 0.0)
            assert (grad[0, 0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] == wanted).all()


# ------------------------------------------------------------------ transposed convolution


@pytest.mark.equation("cnn-transposed")
@given(**SHAPES, more=st.tuples(st.integers(0, 2), st.integers(0, 2)))
@settings(max_examples=80, deadline=None)
def test_transposed_convolution_is_torchs_and_its_twins(
    size, kernel, stride, padding, dilation, groups, more
):
    x, weight, bias = whole(2, 4, *size), whole(4, 3, *kernel), whole(3 * groups)
    steps = (stride, padding, more, groups, dilation)
    sizes = zip(size, kernel, stride, padding, more, dilation, strict=True)
    if any(
        extra >= max(s, d) or (n - 1) * s + d * (k - 1) + 1 + extra <= 2 * p
        for n, k, s, p, extra, d in sizes
    ):
        for form in (conv_transpose2d, conv_transpose2d_loop):
            with refuses(ValueError, "padding"):
                form(x, weight, bias, *steps)
        return
    wanted = F.conv_transpose2d(x, weight, bias, *steps)
    for form in (conv_transpose2d, conv_transpose2d_loop):
        torch.testing.assert_close(form(x, weight, bias, *steps), wanted, **EXACT)


@pytest.mark.equation("cnn-adjoint")
@pytest.mark.parametrize(("s", "p", "d"), [(1, 0, 1), (2, 1, 1), (1, 1, 2), (3, 0, 2)])
def test_the_transposed_convolution_is_the_transpose_and_no_inverse(s, p, d):
    kernels = whole(3, 2, 3, 3)
    y = whole(1, 3, 4, 4)
    size = transposed_output_size(4, 3, s, p, 0, d)
    x = whole(1, 2, size, size)
    left = (conv2d(x, kernels, None, s, p, d) * y).sum()
    right = (x * conv_transpose2d(y, kernels, None, s, p, dilation=d)).sum()
    assert left == right

    def matrix(function, shape):
        return torch.func.jacrev(lambda v: function(v.view(shape)).flatten())(
            torch.zeros(shape).double().flatten()
        )

    forward = matrix(lambda v: conv2d(v, kernels, None, s, p, d), x.shape)
    back = matrix(lambda v: conv_transpose2d(v, kernels, None, s, p, dilation=d), y.shape)
    torch.testing.assert_close(back, forward.T, **EXACT)
    assert not torch.allclose(back @ forward, torch.eye(x.numel()).double())


# ------------------------------------------------------------------ gradients


@pytest.mark.equation("cnn-gradient-kernel", "cnn-gradient-input", "cnn-gradient-bias")
@given(
    size=st.tuples(st.integers(3, 8), st.integers(3, 8)),
    k=st.integers(1, 3),
    s=st.integers(1, 3),
    p=st.integers(0, 2),
    d=st.integers(1, 2),
)
@settings(max_examples=80, deadline=None)
def test_what_it_sends_back_is_what_autograd_finds(size, k, s, p, d):
    if d * (k - 1) + 1 > min(size) + 2 * p:
        return
    x, weight, bias = (
        t.requires_grad_() for t in (whole(2, 3, *size), whole(4, 3, k, k), whole(4))
    )
    z = F.conv2d(x, weight, bias, s, p, d)
    delta = whole(*z.shape)
    wanted = torch.autograd.grad(z, (x, weight, bias), delta)
    got = conv2d_backward(x.detach(), weight.detach(), delta, s, p, d)
    torch.testing.assert_close(tuple(got), wanted, **EXACT)


@pytest.mark.equation("cnn-gradient-kernel")
def test_a_weights_gradient_is_the_sum_over_all_places_where_it_is_used():
    x, kernels, delta = whole(2, 1, 4, 4), whole(1, 1, 2, 2), whole(2, 1, 3, 3)
    got = conv2d_backward(x, kernels, delta).weight
    for m, n in product(range(2), range(2)):
        places = product(range(2), range(3), range(3))
        total = sum(delta[b, 0, i, j] * x[b, 0, i + m, j + n] for b, i, j in places)
        assert got[0, 0, m, n] == total


# ------------------------------------------------------------------ cost, separable


@pytest.mark.equation("cnn-parameters", "cnn-flops")
@pytest.mark.parametrize(
    ("c", "o", "k", "g"), [(3, 64, 3, 1), (4, 6, 5, 2), (8, 8, 3, 8), (2, 7, 1, 1)]
)
def test_cost_is_what_torch_counts(c, o, k, g):
    layer = nn.Conv2d(c, o, k, groups=g)
    with FlopCounterMode(display=False) as counter:
        out = layer(torch.zeros(1, c, 9, 11))
    counts = cost(c, o, k, *out.shape[2:], groups=g)
    assert counts == (parameter_count(layer), counter.get_total_flops())


@pytest.mark.equation("cnn-linear-parameters")
def test_a_linear_layer_between_the_same_maps_has_a_weight_for_each_pair_of_pixels():
    layer = nn.Linear(3 * 6 * 5, 2 * 4 * 3)
    assert parameter_count(layer) == (3 * 6 * 5 + 1) * (2 * 4 * 3)
    assert parameter_count(nn.Conv2d(3, 2, 3)) == cost(3, 2, 3, 4, 3).parameters == 56


@pytest.mark.equation("cnn-separable")
@pytest.mark.parametrize(("s", "p", "d"), [(1, 1, 1), (2, 0, 1), (1, 2, 2)])
def test_a_separable_convolution_is_a_full_one_with_product_kernels(s, p, d):
    layer = DepthwiseSeparableConv2d(3, 5, 3, s, p, d).double()
    x = torch.randn(2, 3, 8, 9).double()
    dense = torch.einsum(
        "oc,cmn->ocmn", layer.pointwise.weight[:, :, 0, 0], layer.depthwise.weight[:, 0]
    )
    torch.testing.assert_close(layer.dense_weight(), dense, **EXACT)
    torch.testing.assert_close(layer(x), F.conv2d(x, dense, layer.pointwise.bias, s, p, d))


@pytest.mark.equation("cnn-separable-cost", "cnn-separable-ratio")
@pytest.mark.parametrize(("c", "o", "k"), [(32, 64, 3), (3, 10, 5), (16, 16, 7)])
def test_the_separable_form_takes_the_share_of_operations_that_is_promised(c, o, k):
    x, p = torch.zeros(1, c, 12, 10), k // 2
    flops = []
    for layer in (DepthwiseSeparableConv2d(c, o, k, padding=p), nn.Conv2d(c, o, k, padding=p)):
        with FlopCounterMode(display=False) as counter:
            layer(x)
        flops.append(counter.get_total_flops())
    assert flops[0] == 2 * 120 * (c * k * k + c * o)
    assert flops[0] / flops[1] == pytest.approx(1 / o + 1 / k**2, rel=1e-12)


@pytest.mark.equation("cnn-small-kernels")
def test_three_small_kernels_see_as_much_as_a_large_one_for_fewer_weights():
    assert receptive_field([(3, 1, 1)] * 3) == receptive_field([(7, 1, 1)]) == 7
    c = 10
    three = sum(cost(c, c, 3, 1, 1).parameters - c for _ in range(3))
    assert (three, cost(c, c, 7, 1, 1).parameters - c) == (27 * c**2, 49 * c**2)


@pytest.mark.equation("cnn-he")
def test_he_s_spread_keeps_the_size_of_the_signal():
    torch.manual_seed(0)
    x = torch.randn(4, 64, 32, 32).relu() * 2**0.5  # as a layer before would leave it
    weight = torch.randn(64, 64, 3, 3) * (2 / (9 * 64)) ** 0.5
    z = F.conv2d(x, weight)
    assert z.square().mean().item() / 2 == pytest.approx(x.square().mean().item(), rel=0.1)


# ------------------------------------------------------------------ the plain recipe


def test_simple_cnn_is_the_sequence_of_torchs_layers():
    model = SimpleCNN(2, 3, [4, 5]).double()
    first, second = model.convolutions
    x = torch.randn(3, 2, 9, 10).double()
    z = F.relu(F.conv2d(x, first.weight, first.bias, padding=1))
    torch.testing.assert_close(model.maps(x)[0], z)
    z = F.relu(F.conv2d(F.max_pool2d(z, 2), second.weight, second.bias, padding=1))
    torch.testing.assert_close(model(x), model.classifier(z.mean((2, 3))))
    model.pool = "max"
    torch.testing.assert_close(model(x), model.classifier(z.amax((2, 3))))


def test_simple_cnn_has_as_many_numbers_for_any_image():
    assert parameter_count(SimpleCNN(3, 10, (32, 64))) == 896 + 18_496 + 650


@pytest.mark.equation("cnn-global-pool")
def test_a_mean_over_all_places_does_not_see_a_circular_shift():
    model = SimpleCNN(1, 4, [6, 8]).double()
    for part in model.convolutions:
        part.padding_mode = "circular"
        part._reversed_padding_repeated_twice = [1, 1, 1, 1]
    x = torch.randn(2, 1, 16, 16).double()
    for shift in (2, 8):  # multiples of the pooling's stride
        torch.testing.assert_close(model(torch.roll(x, shift, 3)), model(x))
    assert (model(torch.roll(x, 1, 3)) - model(x)).abs().max() > 1e-4


# ------------------------------------------------------------------ LeNet-5


def test_lenet_has_the_numbers_of_the_paper():
    model = LeNet5()
    counts = {name: parameter_count(part) for name, part in model.named_children()}
    paper = {"c1": 156, "s2": 12, "c3": 1516, "s4": 32, "c5": 48_120, "f6": 10_164}
    assert {name: counts[name] for name in paper} == paper
    assert sum(paper.values()) == 60_000 and counts["output"] == 850


def test_lenets_second_convolution_reads_what_its_table_says():
    layer = LeNet5().c3
    jacobian = torch.func.jacrev(lambda x: layer(x[None])[0, :, 0, 0])(torch.randn(6, 5, 5))
    reads = [tuple(map(int, row.nonzero()[:, 0])) for row in jacobian.abs().sum((2, 3))]
    assert reads == [tuple(sorted(inputs)) for inputs in cnn.LENET_TABLE]
    assert [len(r) for r in reads] == [3] * 6 + [4] * 9 + [6]
    assert len(set(reads)) == 16


def test_lenets_table_is_the_first_of_the_paper():
    """Row by row: by which of the sixteen maps each of the six below is read."""
    paper = (
        (0, 4, 5, 6, 9, 10, 11, 12, 14, 15),
        (0, 1, 5, 6, 7, 10, 11, 12, 13, 15),
        (0, 1, 2, 6, 7, 8, 11, 13, 14, 15),
        (1, 2, 3, 6, 7, 8, 9, 12, 14, 15),
        (2, 3, 4, 7, 8, 9, 10, 12, 13, 15),
        (3, 4, 5, 8, 9, 10, 11, 13, 14, 15),
    )
    for below, readers in enumerate(paper):
        assert readers == tuple(o for o, reads in enumerate(cnn.LENET_TABLE) if below in reads)


def test_lenet_is_what_the_paper_describes_layer_by_layer():
    model, x = LeNet5().double(), torch.randn(2, 1, 32, 32).double()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn_like(value))

    def bend(a):
        return 1.7159 * (2 * torch.sigmoid(4 / 3 * a) - 1)  # a tanh of another make

    def subsample(a, part):
        four = sum(a[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1))
        return bend(four * part.weight[:, None, None] + part.bias[:, None, None])

    z = subsample(bend(F.conv2d(x, model.c1.weight, model.c1.bias)), model.s2)
    maps = []
    at = 0
    for o, inputs in enumerate(cnn.LENET_TABLE):
        kernels = model.c3.weight[at : at + len(inputs)]
        at += len(inputs)
        maps.append(F.conv2d(z[:, list(inputs)], kernels[None])[:, 0] + model.c3.bias[o])
    z = subsample(bend(torch.stack(maps, 1)), model.s4)
    z = bend(z.flatten(1) @ model.c5.weight.flatten(1).T + model.c5.bias)
    wanted = model.output(bend(model.f6(z)))
    torch.testing.assert_close(model(x), wanted)


@pytest.mark.equation("cnn-adversarial")
def test_no_other_signs_raise_a_linear_models_loss_as_much_as_those_of_the_gradient():
    w, x = torch.randn(8).double(), torch.randn(8).double().requires_grad_()
    signs = torch.tensor(list(product((-1.0, 1.0), repeat=8))).double()
    losses = F.softplus(-(x.detach() + 0.1 * signs) @ w)  # of the class 1, every pattern tried
    gradient = torch.autograd.grad(F.softplus(-x @ w), x)[0]
    attacked = x.detach() + 0.1 * gradient.sign()
    torch.testing.assert_close(F.softplus(-attacked @ w), losses.max())
    torch.testing.assert_close((x.detach() - attacked) @ w, 0.1 * w.abs().sum())


@pytest.mark.equation("cnn-scaled-tanh")
def test_the_scaled_tanh_is_one_at_one():
    one = torch.tensor([-1.0, 0.0, 1.0, 100.0]).double()
    got = cnn.scaled_tanh(one)
    torch.testing.assert_close(got[:3], one[:3], rtol=0, atol=1e-4)
    assert got[3] == 1.7159


# ------------------------------------------------------------------ AlexNet and VGG


COUNTS = {
    (AlexNet, ()): 61_100_840,
    (VGG, (11,)): 132_863_336,
    (VGG, (13,)): 133_047_848,
    (VGG, (16,)): 138_357_544,
    (VGG, (19,)): 143_667_240,
    (VGG, (16, True)): 138_365_992,
}


@pytest.mark.parametrize(("network", "wanted"), COUNTS.items(), ids=str)
def test_counts_are_those_of_the_papers_and_of_torchvision(network, wanted):
    cls, arguments = network
    assert parameter_count(cls(*arguments, device="meta")) == wanted


def like_trained(model):
    """Fill a model on the meta device with numbers of a sensible size, faster than drawing all."""
    drawn = torch.randn(1_000_003)
    model = model.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point():
                value.zero_()
                continue
            numbers = drawn.repeat(1 + value.numel() // len(drawn))[: value.numel()]
            scale = (2 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
            value.copy_(scale * numbers.view(value.shape))
            if "running_var" in name:
                value.abs_().add_(0.5)
    return model.eval()


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("alexnet", lambda **how: AlexNet(**how)),
        ("vgg11", lambda **how: VGG(11, **how)),
        ("vgg13_bn", lambda **how: VGG(13, True, **how)),
        ("vgg16", lambda **how: VGG(16, **how)),
    ],
)
def test_torchvisions_weights_fit_and_give_its_answer(name, ours):
    with torch.device("meta"):
        theirs = getattr(peers, name)(num_classes=11)
    theirs = like_trained(theirs)
    model = ours(num_classes=11, device="meta")
    model.load_state_dict(theirs.state_dict(), assign=True)
    model.eval()
    for size in ((70, 67), (96, 64)):
        x = torch.randn(2, 3, *size)
        with torch.no_grad():
            wanted = theirs(x)
            torch.testing.assert_close(model(x), wanted, rtol=1e-5, atol=1e-5)
            assert wanted.abs().max() > 0.1


@pytest.mark.parametrize(("name", "cls"), [("alexnet", AlexNet), ("vgg11", VGG)])
def test_dropout_stands_where_torchvision_has_it(name, cls):
    kinds = [type(part).__name__ for part in cls(**{"device": "meta"}).classifier]
    with torch.device("meta"):
        theirs = getattr(peers, name)().classifier
    assert kinds == [type(part).__name__ for part in theirs]
    assert cls(dropout=0.25, device="meta").classifier[kinds.index("Dropout")].p == 0.25


def test_vgg_begins_with_kernels_of_hes_spread():
    torch.manual_seed(0)
    model = VGG(11, device="meta")
    model.classifier = nn.Sequential(nn.Linear(300, 200))  # in place of half a gigabyte
    model.to_empty(device="cpu").reset_parameters()
    for at in (3, 8, 11):  # by its outputs, as torchvision has it
        weight = model.features[at].weight
        assert weight.std().item() == pytest.approx((2 / (9 * len(weight))) ** 0.5, rel=0.02)
        assert not model.features[at].bias.any()
    assert model.classifier[0].weight.std().item() == pytest.approx(0.01, rel=0.05)


# ------------------------------------------------------------------ bad input


IMAGES, KERNELS = torch.zeros(2, 4, 6, 6), torch.zeros(8, 4, 3, 3)


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"x": IMAGES.long()}, TypeError, "x must be floating point, got torch.int64"),
        ({"x": IMAGES[0]}, ValueError, "x must have shape (b, c, y, x), got (4, 6, 6)"),
        ({"x": IMAGES[:, :3]}, ValueError, "weight must have shape (8, 3, 3, 3)"),
        ({"weight": KERNELS[0]}, ValueError, "weight must have shape (o, c, m, n)"),
        ({"bias": torch.zeros(4)}, ValueError, "bias must have shape (8), got (4,)"),
        ({"stride": 0}, ValueError, "stride=0 must be an integer ≥ 1"),
        ({"stride": (1, 2, 3)}, ValueError, "stride=(1, 2, 3) must be a number, or one for each"),
        ({"padding": -1}, ValueError, "padding=-1 must be an integer ≥ 0"),
        ({"padding": "same"}, TypeError, "padding='same' must be an integer ≥ 0"),
        ({"dilation": 1.5}, TypeError, "dilation=1.5 must be an integer ≥ 1"),
        ({"dilation": 3}, ValueError, "kernel_size=3 with dilation=3 spans 7, more than size=6"),
        ({"groups": 3}, ValueError, "groups=3 does not divide 4 input channels"),
        ({"weight": KERNELS[:7, :2], "groups": 2}, ValueError, "does not divide 7 output channels"),
        ({"groups": 2}, ValueError, "weight must have shape (8, 2, 3, 3), got (8, 4, 3, 3)"),
    ],
)
@pytest.mark.parametrize("form", FORMS)
def test_a_convolution_that_does_not_fit_is_refused_by_name(form, arguments, error, told):
    with refuses(error, told):
        form(**{"x": IMAGES, "weight": KERNELS, **arguments})


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"weight": KERNELS}, ValueError, "weight must have shape (4, o / groups, m, n)"),
        ({"groups": 3}, ValueError, "groups=3 does not divide 4 input channels"),
        ({"output_padding": 1}, ValueError, "output_padding=1 must be less than stride=1"),
        ({"padding": 9}, ValueError, "padding=9 cuts off all 8 of the output"),
        ({"bias": torch.zeros(4)}, ValueError, "bias must have shape (8), got (4,)"),
    ],
)
@pytest.mark.parametrize("form", [conv_transpose2d, conv_transpose2d_loop])
def test_a_transposed_convolution_that_does_not_fit_is_refused_by_name(
    form, arguments, error, told
):
    with refuses(error, told):
        form(**{"x": IMAGES, "weight": KERNELS.transpose(0, 1), **arguments})


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: AlexNet(device="meta")(torch.zeros(1, 3, 62, 63)), ValueError, "at least 63 rows"),
        (lambda: AlexNet(device="meta")(torch.zeros(1, 1, 70, 70)), ValueError, "(b, 3, y, x)"),
        (lambda: VGG(11, device="meta")(torch.zeros(1, 3, 31, 40)), ValueError, "at least 32 rows"),
        (lambda: VGG(12), ValueError, "depth=12 must be one of [11, 13, 16, 19]"),
        (lambda: VGG(11, batch_norm=1), TypeError, "batch_norm=1 must be True or False"),
        (lambda: AlexNet(dropout=1.5), ValueError, "dropout=1.5"),
        (lambda: LeNet5()(torch.zeros(1, 1, 28, 28)), ValueError, "x must have shape (b, 1, 32"),
        (lambda: SimpleCNN(3)(torch.zeros(1, 3, 1, 8)), ValueError, "at least 2 rows"),
        (lambda: SimpleCNN(3)(torch.zeros(1, 3, 8, 8).int()), TypeError, "x must be floating"),
        (lambda: SimpleCNN(channels=[]), ValueError, "channels must hold one number or more"),
        (lambda: SimpleCNN(pool="sum"), ValueError, "pool='sum' must be one of"),
        (lambda: DepthwiseSeparableConv2d(2, 3, 5)(torch.zeros(1, 2, 4, 9)), ValueError, "spans 5"),
        (lambda: DepthwiseSeparableConv2d(2, 0, 5), ValueError, "out_channels=0"),
        (lambda: receptive_field([(3, 1)]), TypeError, "layers[0]=(3, 1) must be a kernel size"),
        (lambda: receptive_field([(3, 0, 1)]), ValueError, "stride of layers[0]=0"),
        (lambda: max_pool2d(IMAGES, 7), ValueError, "kernel_size=7"),
        (lambda: cost(4, 6, 3, 1, 1, groups=3), ValueError, "groups=3 does not divide 4 input"),
        (
            lambda: conv2d_backward(IMAGES, KERNELS, torch.zeros(2, 8, 4, 3)),
            ValueError,
            "delta must have shape (2, 8, 4, 4)",
        ),
    ],
)
def test_bad_input_is_refused_by_name(call, error, told):
    with refuses(error, told):
        call()
