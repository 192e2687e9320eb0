"""The ruler, against closed forms, constructed sets and real digits."""

import math

import numpy as np
import pytest
import torch
from scipy import linalg

from nnlib.data.tables import digits
from nnlib.train import sample_quality as sq
from nnlib.train.sample_quality import (
    Judge,
    Ruler,
    bits_per_dimension,
    dequantized,
    frechet_distance,
    frechet_gaussian,
    nearest_distance,
    neighbours,
    trained_judge,
)
from nnlib.train.simple_models import FullGaussian, IndependentPixels
from tests.support import refuses


# --------------------------------------------------------------------------------- Fréchet distance
def covariance(size):
    a = torch.randn(size, size).double()
    return a @ a.T


def test_on_a_line_it_is_the_difference_of_means_and_of_spreads():
    one = torch.ones(1, 1)
    got = frechet_gaussian(torch.tensor([1.0]), 4 * one, torch.tensor([4.0]), 25 * one)
    assert got == pytest.approx(3**2 + (5 - 2) ** 2, rel=1e-12)


@pytest.mark.parametrize("size", [2, 5])
def test_of_any_covariances_it_is_the_formula_with_scipys_root(size):
    torch.manual_seed(size)
    first, second = covariance(size), covariance(size)
    a, b = torch.randn(2, size).double()
    root = linalg.sqrtm(first.numpy() @ second.numpy()).real
    wanted = ((a - b) ** 2).sum().item() + np.trace(first.numpy() + second.numpy() - 2 * root)
    assert frechet_gaussian(a, first, b, second) == pytest.approx(wanted, rel=1e-8)
    assert frechet_gaussian(b, second, a, first) == pytest.approx(wanted, rel=1e-8)


def test_it_is_what_the_best_transport_costs():
    """Moving each x to A x, with A as optimal transport has it, makes one from the other."""
    torch.manual_seed(0)
    first, second = covariance(3).numpy(), covariance(3).numpy()
    root = linalg.sqrtm(first)
    back = np.linalg.inv(root)
    move = back @ linalg.sqrtm(root @ second @ root) @ back - np.eye(3)
    cost = np.trace(move @ first @ move.T)
    zero = torch.zeros(3).double()
    got = frechet_gaussian(zero, torch.tensor(first), zero, torch.tensor(second))
    assert got == pytest.approx(cost, rel=1e-8)


def test_singular_covariances_do_no_harm():
    flat = torch.diag(torch.tensor([1.0, 0.0]))
    turned = torch.diag(torch.tensor([0.0, 1.0]))
    zero = torch.zeros(2)
    assert frechet_gaussian(zero, flat, zero, flat) == pytest.approx(0, abs=1e-12)
    assert frechet_gaussian(zero, flat, zero, turned) == pytest.approx(2, rel=1e-12)


def test_of_two_sets_it_is_that_of_their_moments():
    torch.manual_seed(0)
    x, y = torch.randn(50, 3), torch.randn(80, 3) + 1
    moments = [f(v.double()) for v in (x, y) for f in (lambda v: v.mean(0), lambda v: v.T.cov())]
    assert frechet_distance(x, y) == pytest.approx(frechet_gaussian(*moments), rel=1e-12)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x[:, :1], x[:, :1] + 2) == pytest.approx(4, rel=1e-6)


# ------------------------------------------------------------------------------ precision, coverage
def two_clusters(n, apart=10.0):
    torch.manual_seed(0)
    x = torch.randn(2, n, 2)
    x[1] += apart
    return x


def test_a_set_against_itself_is_whole():
    x = two_clusters(30).flatten(0, 1)
    among = neighbours(x, x, k=3)
    assert among.precision == among.recall == among.coverage == 1
    assert among.density == pytest.approx(4 / 3)  # each point lies in k + 1 balls on average


def test_a_lost_mode_costs_recall_and_coverage_and_no_precision():
    left, right = two_clusters(40)
    among = neighbours(torch.cat([left, right]), left + 1e-3, k=3)
    assert among.precision == 1
    assert among.recall == among.coverage == 0.5


def test_samples_far_away_cost_precision_alone():
    left, right = two_clusters(40)
    among = neighbours(left, torch.cat([left, right]), k=3)
    assert among.precision == 0.5
    assert among.recall == among.coverage == 1


def test_a_few_wild_samples_raise_recall_and_not_coverage():
    """Naeem et al. 2020: the ball of an outlier is large, and catches what nothing came near."""
    real = two_clusters(40).flatten(0, 1)
    wild = torch.tensor([[-40.0, -40.0], [60.0, 60.0], [60.0, -40.0], [-40.0, 60.0]])
    among = neighbours(real, wild, k=3)
    assert among.recall == 1
    assert among.coverage == among.precision == among.density == 0


def test_each_number_is_the_loop_over_balls():
    torch.manual_seed(0)
    real, fake, k = torch.randn(30, 3).double(), torch.randn(20, 3).double() * 1.5, 4
    reach = [sorted((a - b).norm().item() for b in real)[k] for a in real]
    own = [sorted((a - b).norm().item() for b in fake)[k] for a in fake]
    inside = [[(a - b).norm().item() <= r for b in fake] for a, r in zip(real, reach, strict=True)]
    caught = [[(a - b).norm().item() <= r for b, r in zip(fake, own, strict=True)] for a in real]
    got = neighbours(real, fake, k)
    assert got.precision == pytest.approx(np.any(inside, axis=0).mean())
    assert got.recall == pytest.approx(np.any(caught, axis=1).mean())
    assert got.density == pytest.approx(np.sum(inside) / (k * 20))
    assert got.coverage == pytest.approx(np.any(inside, axis=1).mean())


def test_coverage_of_real_by_real_is_one_minus_a_power_of_two():
    """Each of the k nearest of the pooled points is one's own or the other's with equal chance."""
    torch.manual_seed(0)
    k = 3
    got = [neighbours(*torch.rand(2, 400, 2), k=k).coverage for _ in range(20)]
    assert np.mean(got) == pytest.approx(1 - 2.0**-k, abs=0.015)


# ---------------------------------------------------------------------------- copies and likelihood
def test_the_nearest_training_example_is_found():
    train = torch.tensor([[0.0, 0.0], [3.0, 4.0]])
    got = nearest_distance(torch.tensor([[3.0, 4.0], [0.0, 1.0], [3.0, 0.0]]), train)
    torch.testing.assert_close(got, torch.tensor([0.0, 1.0, 3.0]))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_guess_among_levels_costs_their_logarithm_either_way(levels):
    n, d = 5, 7
    of_levels = torch.full((n,), -d * math.log(levels), dtype=torch.float64)
    of_density = torch.zeros(n)  # uniform on [0, 1)
    wanted = pytest.approx(math.log2(levels), rel=1e-12)
    assert bits_per_dimension(of_levels, d) == wanted
    assert bits_per_dimension(of_density, d, bin_width=1 / levels) == wanted


def test_dequantized_values_stay_in_the_bin_of_their_level():
    x = torch.arange(5).repeat(1000) / 4
    spread = dequantized(x, 5, torch.Generator().manual_seed(0))
    assert ((spread * 5).floor() / 4).equal(x)
    within = spread * 5 - (x * 4).round()
    assert within.mean().item() == pytest.approx(0.5, abs=0.02)
    assert within.var().item() == pytest.approx(1 / 12, abs=0.01)


def test_a_density_of_spread_values_cannot_beat_the_levels_own_probabilities():
    """The bound of Theis et al. 2016, which only the true histogram would meet."""
    x = torch.tensor([0.0, 0.0, 0.0, 1.0])[:, None]
    levels = IndependentPixels(x, levels=2, smoothing=1e-9)
    bits = bits_per_dimension(levels.log_prob(x), 1)
    assert bits == pytest.approx(2 - 0.75 * math.log2(3), rel=1e-6)
    spread = dequantized(x.repeat(2000, 1), 2, torch.Generator().manual_seed(0))
    normal = bits_per_dimension(FullGaussian(spread).log_prob(spread), 1, bin_width=0.5)
    assert normal > bits


# ---------------------------------------------------------------------------------- judge and ruler
@pytest.fixture(scope="module")
def data():
    return digits("train"), digits("test")


@pytest.fixture(scope="module")
def ruler(data):
    train, test = data
    return Ruler(train.x, train.y, test.x)


def test_the_judge_knows_the_classes(data, ruler):
    right = ruler.judge(data[1].x).argmax(1) == data[1].y
    assert right.double().mean() > 0.95
    assert not any(p.requires_grad for p in ruler.judge.parameters())


def test_the_judge_is_the_same_wherever_it_is_made_and_draws_nobodys_numbers(data):
    train, _ = data
    torch.manual_seed(1)
    first = trained_judge(train.x, train.y, (1, 8, 8), steps=3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    with torch.no_grad():
        second = trained_judge(train.x, train.y, (1, 8, 8), steps=3)
    assert torch.equal(torch.get_rng_state(), before)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    with torch.no_grad():
        assert torch.equal(first.features(train.x[:4]), second.features(train.x[:4]))


def test_a_judge_reads_pictures_of_any_size_and_colour():
    judge = Judge((3, 12, 9), num_classes=4, num_features=7)
    assert judge.features(torch.rand(2, 3, 12, 9)).shape == (2, 7)
    assert judge(torch.rand(2, 3 * 12 * 9)).shape == (2, 4)


def test_real_is_nearest_then_the_gaussian_then_the_pixels(ruler):
    real, normal, pixels = ruler.baselines().values()
    assert 4 * real.frechet < normal.frechet < pixels.frechet
    assert real.coverage > 0.95 > normal.coverage > pixels.coverage
    assert real.precision > normal.precision
    assert real.nearest < normal.nearest < pixels.nearest


def test_copies_are_seen_by_the_nearest_distance_alone(data, ruler):
    train, _ = data
    g = torch.Generator().manual_seed(0)
    copies = ruler(train.x + 0.05 * torch.randn(train.x.shape, generator=g))
    real = ruler.baselines()["real"]
    assert copies.frechet < 1.5 * real.frechet
    assert copies.nearest < 0.6 * real.nearest


def test_missing_classes_are_seen_by_the_distance_and_by_coverage(data, ruler):
    train, _ = data
    few = ruler(train.x[train.y < 5].repeat(2, 1))
    real = ruler.baselines()["real"]
    assert few.frechet > 5 * real.frechet
    assert few.coverage < 0.7 < real.coverage
    assert few.precision > 0.9


def test_one_mean_picture_is_as_far_as_there_are_features(data, ruler):
    """The scale of the distance: the real features' whole variance is their number."""
    mean_feature = ruler._of_real.mean(0)
    got = frechet_distance(mean_feature.repeat(1000, 1), ruler._of_real)
    assert got == pytest.approx(64, rel=1e-4)


def test_the_order_holds_for_other_judges(data):
    train, test = data
    for seed in (1, 2):
        real, normal, pixels = Ruler(train.x, train.y, test.x, seed=seed).baselines().values()
        assert 4 * real.frechet < normal.frechet < pixels.frechet


def test_pictures_and_rows_of_pixels_get_the_same_numbers(data, ruler):
    train, test = data
    square = Ruler(train.x.view(-1, 1, 8, 8), train.y, test.x.view(-1, 1, 8, 8))
    noise = torch.rand(1000, 64)
    assert square(noise.view(-1, 1, 8, 8)) == ruler(noise)


def test_only_the_first_samples_are_measured(data, ruler):
    noise = torch.rand(1200, 64)
    assert ruler(noise) == ruler(noise[:1000])


def test_the_table_has_the_models_between_floor_and_baselines(ruler):
    noise = torch.rand(1000, 64)
    rows = ruler.table({"noise": noise})
    assert ruler.table({"noise": ruler(noise)}) == rows
    assert [row[0] for row in rows] == ["real", "noise", "full Gaussian", "independent pixels"]
    assert all(len(row) == len(sq.HEAD) for row in rows)


def test_bad_input_is_refused(data, ruler):
    train, test = data
    with refuses(ValueError, "samples must be num_samples=1000 or more, got 10"):
        ruler(torch.rand(10, 64))
    with refuses(ValueError, "samples must be finite"):
        ruler(torch.full((1000, 64), float("nan")))
    with refuses(ValueError, "real must have shape (64,) each"):
        Ruler(train.x, train.y, test.x[:, :49])
    with refuses(ValueError, "shape must be given: 63 pixels are no square"):
        Ruler(train.x[:, 1:], train.y, test.x[:, 1:])
    with refuses(ValueError, "y must have shape (1348)"):
        Ruler(train.x, train.y[:5], test.x)
    with refuses(ValueError, "real must have more than k=5 rows, got 5"):
        neighbours(torch.rand(5, 2), torch.rand(9, 2))
    with refuses(ValueError, "samples must have shape (3,) each, as train has, got (2,)"):
        nearest_distance(torch.rand(5, 2), torch.rand(9, 3))
    with refuses(ValueError, "x must have 2 rows or more, got 1"):
        frechet_distance(torch.rand(1, 2), torch.rand(9, 2))
    with refuses(ValueError, "bin_width=0"):
        bits_per_dimension(torch.zeros(3), 2, bin_width=0)
    with refuses(ValueError, "shape=(1, 3, 8) must have 4 rows"):
        Judge((1, 3, 8), 10)
    with refuses(ValueError, "levels=1 must be"):
        dequantized(torch.rand(3), 1)
