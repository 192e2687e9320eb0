"""Batch normalization against torch, sums by hand, and the closed form of its gradient."""

import pytest
import torch
from torch import nn

from nnlib.blocks.batch_norm import BatchNorm1d, BatchNorm2d, batch_norm, fold_batch_norm
from tests.blocks.norms import EXACT, hold_to_torch, hold_to_twin, normal
from tests.support import refuses


@pytest.mark.equation(
    "regularization-batchnorm-statistics",
    "regularization-batchnorm-normalize",
    "regularization-batchnorm-affine",
)
@pytest.mark.parametrize("shape", [(7, 3), (4, 3, 5), (4, 3, 5, 2), (1, 3, 2, 2)], ids=str)
def test_batch_norm_normalizes_each_feature_over_all_else(shape):
    x, gamma, beta = 5 * normal(*shape) + 2, normal(3), normal(3)
    y = batch_norm(x, gamma, beta, eps=1e-5)
    for c in range(3):
        values = x[:, c].flatten()
        mean = values.sum() / len(values)
        variance = ((values - mean) ** 2).sum() / len(values)
        by_hand = gamma[c] * (x[:, c] - mean) / (variance + 1e-5) ** 0.5 + beta[c]
        torch.testing.assert_close(y[:, c], by_hand)


@pytest.mark.equation(
    "regularization-batchnorm-statistics",
    "regularization-batchnorm-normalize",
    "regularization-batchnorm-affine",
    "regularization-batchnorm-running",
    "regularization-batchnorm-eval",
)
@pytest.mark.parametrize(
    ("norm", "reference", "shape"),
    [
        (BatchNorm1d, nn.BatchNorm1d, (8, 5)),
        (BatchNorm1d, nn.BatchNorm1d, (8, 5, 3)),
        (BatchNorm2d, nn.BatchNorm2d, (2, 5, 3, 4)),
    ],
)
def test_it_loads_torchs_state_and_gives_its_outputs_gradients_and_buffers(norm, reference, shape):
    hold_to_torch(norm(5), reference(5), shape)


@pytest.mark.equation(
    "regularization-batchnorm-statistics",
    "regularization-batchnorm-normalize",
)
@pytest.mark.parametrize(("norm", "shape"), [(BatchNorm1d, (8, 5)), (BatchNorm2d, (2, 5, 3, 4))])
def test_the_fast_form_is_the_readable_twin_with_its_gradient(norm, shape):
    hold_to_twin(norm(5, affine=False), batch_norm, shape)


@pytest.mark.equation("regularization-batchnorm-gradient")
def test_the_gradient_through_a_batch_leaves_out_its_mean_and_its_part_along_the_output():
    z = normal(9, 4).requires_grad_()
    g = normal(9, 4)
    norm = BatchNorm1d(4, eps=0.5).double()  # the formula is exact for any ε
    nn.init.normal_(norm.weight)
    (got,) = torch.autograd.grad((norm(z) * g).sum(), z)
    sigma = (z.detach().var(0, correction=0) + 0.5).sqrt()
    hat = (z.detach() - z.detach().mean(0)) / sigma
    by_hand = norm.weight / sigma * (g - g.mean(0) - hat * (g * hat).mean(0))
    torch.testing.assert_close(got, by_hand.detach())
    tiny = BatchNorm1d(4, eps=1e-14).double()
    (got,) = torch.autograd.grad((tiny(z) * g).sum(), z)
    torch.testing.assert_close(got.sum(0), torch.zeros(4).double())
    torch.testing.assert_close((got * hat).sum(0), torch.zeros(4).double())


@pytest.mark.equation("regularization-batchnorm-running", "regularization-batchnorm-eval")
def test_running_statistics_are_moving_means_with_the_unbiased_variance():
    norm, mean, variance = BatchNorm1d(3, momentum=0.25).double(), 0.0, 1.0
    for _ in range(4):
        x = 2 * normal(6, 3) + 1
        norm(x)
        mean = 0.75 * mean + 0.25 * x.mean(0)
        variance = 0.75 * variance + 0.25 * ((x - x.mean(0)) ** 2).sum(0) / 5
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    x = normal(1, 3)
    torch.testing.assert_close(norm.eval()(x), ((x - mean) / (variance + 1e-5).sqrt()))
    assert int(norm.num_batches_tracked) == 4


def test_momentum_none_is_the_plain_mean_of_all_batches():
    norm, reference = BatchNorm1d(3, momentum=None), nn.BatchNorm1d(3, momentum=None)
    batches = torch.randn(5, 8, 3)
    for x in batches:
        norm(x), reference(x)
    torch.testing.assert_close(norm.running_mean, batches.mean((0, 1)))
    torch.testing.assert_close(norm.running_var, reference.running_var, **EXACT)


@pytest.mark.parametrize("affine", [True, False])
def test_without_running_statistics_evaluation_uses_the_batch(affine):
    norm = BatchNorm2d(3, affine=affine, track_running_stats=False)
    reference = nn.BatchNorm2d(3, affine=affine, track_running_stats=False)
    assert norm.state_dict().keys() == reference.state_dict().keys()
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(norm.eval()(x), reference.eval()(x), **EXACT)
    torch.testing.assert_close(norm(x), norm.train()(x), **EXACT)


@pytest.mark.equation("regularization-batchnorm-fold")
@pytest.mark.parametrize("bias", [True, False])
def test_a_folded_layer_answers_as_the_pair_in_evaluation(bias):
    for layer, norm, x in (
        (nn.Linear(4, 3, bias=bias), BatchNorm1d(3), normal(5, 4)),
        (nn.Conv2d(4, 3, 2, bias=bias), BatchNorm2d(3), normal(2, 4, 5, 5)),
        (nn.Linear(4, 3, bias=bias), nn.BatchNorm1d(3, affine=False), normal(5, 4)),
    ):
        layer, norm = layer.double(), norm.double()
        for value in (norm.running_mean, *norm.parameters()):
            nn.init.normal_(value)
        norm.running_var.uniform_(0.1, 3.0)
        before = layer.weight.clone()
        folded = fold_batch_norm(layer, norm)
        torch.testing.assert_close(folded(x), norm.eval()(layer(x)))
        torch.testing.assert_close(layer.weight, before, **EXACT)


def test_a_constant_feature_becomes_its_shift():
    x = torch.full((6, 2), 4096.0)
    y = BatchNorm1d(2)(x)
    torch.testing.assert_close(y, torch.zeros(6, 2))


X = torch.randn(4, 3)
ONE = torch.zeros(4).long()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: BatchNorm1d(0), ValueError, "num_features=0"),
        (lambda: BatchNorm1d(-2), ValueError, "num_features=-2"),
        (lambda: BatchNorm1d(3.0), TypeError, "num_features=3.0"),
        (lambda: BatchNorm1d(3, eps=-1e-5), ValueError, "eps=-1e-05"),
        (lambda: BatchNorm1d(3, eps=0.0), ValueError, "eps=0.0"),
        (lambda: BatchNorm1d(3, momentum=2), ValueError, "momentum=2"),
        (lambda: BatchNorm1d(3, affine=0.0), TypeError, "affine=0.0"),
        (lambda: BatchNorm1d(3)(X[:1]), ValueError, "one value has no variance"),
        (lambda: BatchNorm2d(3)(torch.randn(1, 3, 1, 1)), ValueError, "no variance"),
        (lambda: BatchNorm1d(3)(X[:0]), ValueError, "no variance"),
        (lambda: BatchNorm1d(4)(X), ValueError, "num_features=4, got (4, 3)"),
        (lambda: BatchNorm2d(3)(X), ValueError, "(b, c, y, x)"),
        (lambda: BatchNorm1d(3)(ONE[:, None]), TypeError, "x must be floating point"),
        (lambda: batch_norm(X[0]), ValueError, "x must have shape (b, c, …)"),
        (lambda: fold_batch_norm(nn.ReLU(), BatchNorm1d(3)), TypeError, "layer must be Linear"),
        (lambda: fold_batch_norm(nn.Linear(2, 4), BatchNorm1d(3)), ValueError, "norm must have 4"),
        (
            lambda: fold_batch_norm(nn.Linear(2, 3), BatchNorm1d(3, track_running_stats=False)),
            ValueError,
            "norm must keep running statistics",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
