"""The simplest generative models, against scipy, counting and enumeration."""

from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from nnlib.train.simple_models import FullGaussian, IndependentPixels
from tests.support import refuses


def test_pixels_are_counted_each_on_its_own():
    x = torch.tensor([[0.0, 0.5, 1.0], [0.0, 0.5, 0.0], [1.0, 0.5, 0.0]])
    pixels = IndependentPixels(x, levels=3)
    wanted = torch.tensor([[3, 1, 2], [1, 4, 1], [3, 1, 2]]) / 6
    torch.testing.assert_close(pixels.probabilities, wanted)


def test_the_probabilities_of_all_pictures_add_up_to_one():
    torch.manual_seed(0)
    pixels = IndependentPixels(torch.rand(20, 3).double(), levels=3)
    pictures = torch.tensor(list(product((0.0, 0.5, 1.0), repeat=3))).double()
    assert pixels.log_prob(pictures).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_drawn_pixels_have_the_shares_that_were_counted():
    pixels = IndependentPixels(torch.tensor([[0.0], [0.0], [1.0]]), levels=2)
    drawn = pixels.sample(20_000, torch.Generator().manual_seed(0))
    assert drawn.mean().item() == pytest.approx(2 / 5, abs=0.02)
    assert sorted(drawn.unique().tolist()) == [0, 1]


def test_the_gaussian_is_scipys():
    torch.manual_seed(0)
    x = torch.randn(50, 4).double() @ torch.randn(4, 4).double() + 2
    normal = FullGaussian(x, ridge=0.1)
    np.testing.assert_allclose(normal.mean, x.mean(0))
    covariance = np.cov(x.numpy().T, bias=True) + 0.1 * np.eye(4)
    np.testing.assert_allclose(normal.covariance, covariance)
    wanted = stats.multivariate_normal(x.mean(0).numpy(), covariance).logpdf(x.numpy())
    np.testing.assert_allclose(normal.log_prob(x), wanted, rtol=1e-9)


def test_the_gaussian_draws_what_it_is():
    x = torch.tensor([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0]]).double()  # singular: one direction
    drawn = FullGaussian(x).sample(40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn[:, 0], drawn[:, 1], atol=1e-6, rtol=0)
    assert drawn.mean(0)[0].item() == pytest.approx(1, abs=0.02)
    assert drawn.var(0)[0].item() == pytest.approx(2 / 3, abs=0.02)


def test_the_same_generator_draws_the_same():
    x = torch.rand(30, 4)
    for model in (IndependentPixels(x), FullGaussian(x)):
        first, second = (model.sample(5, torch.Generator().manual_seed(3)) for _ in range(2))
        assert torch.equal(first, second)


def test_bad_input_is_refused():
    with refuses(ValueError, "levels=1 must be an integer ≥ 2"):
        IndependentPixels(torch.rand(4, 2), levels=1)
    with refuses(ValueError, "smoothing=0"):
        IndependentPixels(torch.rand(4, 2), smoothing=0)
    with refuses(ValueError, "x must lie in 0 … 1"):
        IndependentPixels(torch.rand(4, 2) + 1)
    with refuses(ValueError, "x must have 2 features, got 3"):
        IndependentPixels(torch.rand(4, 2)).log_prob(torch.rand(4, 3))
    with refuses(ValueError, "x must be finite"):
        FullGaussian(torch.tensor([[float("nan")]]))
    with refuses(ValueError, "the covariance is singular: FullGaussian(x, ridge=1e-4)"):
        FullGaussian(torch.ones(4, 2)).log_prob(torch.ones(1, 2))
    with refuses(ValueError, "count=0"):
        FullGaussian(torch.rand(4, 2)).sample(0)
