"""Autoencoders against principal components, autograd, scipy, and densities in closed form."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import linalg, stats
from sklearn.decomposition import PCA
from torch import nn
from torch.nn import functional as F

from nnlib.generative import autoencoder as ae
from nnlib.generative.autoencoder import (
    Autoencoder,
    TopKAutoencoder,
    contractive_penalty,
    corrupt,
    denoising_loss,
    optimal_denoiser,
    principal_components,
    reconstruction_loss,
    revival_loss,
    score_from_denoiser,
    sparse_loss,
    sparsity_kl,
    squared_error,
    subspace_angle,
    top_k,
)
from nnlib.train.metrics import parameter_count
from nnlib.train.sample_quality import frechet_gaussian
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"sizes": [6, 5, 3], "activation": "tanh"}, (torch.randn(7, 6),))


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(40, 6).double() @ torch.randn(6, 6).double() + 1


# ------------------------------------------------------------------------------- the two halves
@pytest.mark.equation("autoencoder-encoder", "autoencoder-decoder")
@pytest.mark.parametrize("sizes", [[6, 3], [6, 5, 3], [6, 5, 4, 2]])
def test_it_is_the_same_as_layers_in_a_row(sizes, x):
    model = Autoencoder(sizes, "tanh", code_activation="sigmoid", output_activation="relu").double()
    layers = []
    for at, (a, b) in enumerate(
        zip([*sizes[:-1], *sizes[:0:-1]], [*sizes[1:], *sizes[-2::-1]], strict=True)
    ):
        last_of = {len(sizes) - 2: nn.Sigmoid(), 2 * len(sizes) - 3: nn.ReLU()}
        layers += [nn.Linear(a, b), last_of.get(at, nn.Tanh())]
    rows = nn.Sequential(*layers).double()
    values = [*model.encoder.state_dict().values(), *model.decoder.state_dict().values()]
    rows.load_state_dict(dict(zip(rows.state_dict(), values, strict=True)))
    half = len(layers) // 2
    torch.testing.assert_close(model.encode(x), rows[:half](x))
    torch.testing.assert_close(model(x), rows(x))


@pytest.mark.equation("autoencoder-tied")
def test_tied_weights_are_the_encoders_transposed(x):
    tied = Autoencoder([6, 5, 3], "tanh", tied=True).double()
    free = Autoencoder([6, 5, 3], "tanh").double()
    free.load_state_dict(tied.state_dict(), strict=False)
    with torch.no_grad():
        for back, layer in zip(free.decoder, reversed(tied.encoder), strict=True):
            back.weight.copy_(layer.weight.T)
    torch.testing.assert_close(tied(x), free(x))
    assert parameter_count(free) - parameter_count(tied) == 6 * 5 + 5 * 3


@pytest.mark.equation("autoencoder-parameters")
@pytest.mark.parametrize("sizes", [[6, 3], [64, 256, 64, 2]])
def test_parameters_are_counted(sizes):
    by_hand = sum(2 * a * b + a + b for a, b in pairwise(sizes))
    assert parameter_count(Autoencoder(sizes)) == by_hand


@pytest.mark.equation("autoencoder-loss")
def test_the_loss_sums_over_features_and_averages_over_rows(x):
    model = Autoencoder([6, 2]).double()
    back = model(x).detach().numpy()
    by_hand = np.mean([np.linalg.norm(a - b) ** 2 for a, b in zip(x.numpy(), back, strict=True)])
    assert reconstruction_loss(model, x).item() == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.equation("autoencoder-bernoulli")
def test_the_cross_entropy_is_smallest_where_the_error_is():
    """For pixels in 0 … 1: its gradient in the logit is the same difference, without a factor."""
    pixel, logit = torch.tensor([0.3]), torch.tensor([1.2], requires_grad=True)
    by_hand = -(pixel * logit.sigmoid().log() + (1 - pixel) * (1 - logit.sigmoid()).log()).sum()
    builtin = F.binary_cross_entropy(logit.sigmoid(), pixel, reduction="sum")
    torch.testing.assert_close(by_hand, builtin)
    by_hand.backward()
    torch.testing.assert_close(logit.grad, logit.detach().sigmoid() - pixel)


@pytest.mark.equation("autoencoder-gradient-decoder", "autoencoder-gradient-encoder")
def test_the_gradient_of_a_linear_one_is_an_outer_product(x):
    model = Autoencoder([6, 2]).double()
    reconstruction_loss(model, x).backward()
    encoder, decoder = model.encoder[0], model.decoder[0]
    z, e = model.encode(x).detach(), (x - model(x)).detach()
    torch.testing.assert_close(decoder.weight.grad, -2 * e.T @ z / len(x))
    torch.testing.assert_close(
        encoder.weight.grad, -2 * (e @ decoder.weight.detach()).T @ x / len(x)
    )


# --------------------------------------------------------------------------------------- linear
def test_principal_components_are_scikit_learns(x):
    ours, theirs = principal_components(x, 3), PCA(3).fit(x.numpy())
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_, rtol=1e-10)
    signs = torch.tensor(np.sign((ours.components.numpy() * theirs.components_).sum(1)))
    np.testing.assert_allclose(ours.components * signs[:, None], theirs.components_, atol=1e-10)
    back = theirs.inverse_transform(theirs.transform(x.numpy()))
    np.testing.assert_allclose(ours.decode(ours.encode(x)), back, atol=1e-10)


@pytest.mark.equation("autoencoder-pca")
@pytest.mark.parametrize("k", [1, 2, 4])
def test_the_best_linear_autoencoder_leaves_the_variances_that_it_has_no_room_for(k, x):
    model = Autoencoder([6, k]).double()
    optimizer = torch.optim.LBFGS(
        model.parameters(), max_iter=2000, max_eval=4000, tolerance_grad=1e-10,
        tolerance_change=1e-14, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        optimizer.zero_grad()
        loss = reconstruction_loss(model, x)
        loss.backward()
        return loss

    optimizer.step(closure)
    apart = (x - x.mean(0)).numpy()
    variances = np.linalg.eigvalsh(apart.T @ apart / len(x))[::-1]
    assert reconstruction_loss(model, x).item() == pytest.approx(variances[k:].sum(), rel=1e-6)
    axes = principal_components(x, k).components
    assert subspace_angle(model.decoder[0].weight.detach(), axes.T) < 0.1


@pytest.mark.equation("autoencoder-rotated")
def test_any_invertible_map_of_the_code_can_be_undone(x):
    model = Autoencoder([6, 2]).double()
    before = model(x).detach()
    mix = torch.tensor([[2.0, 1.0], [-1.0, 3.0]]).double()
    with torch.no_grad():
        model.encoder[0].weight.copy_(mix @ model.encoder[0].weight)
        model.encoder[0].bias.copy_(mix @ model.encoder[0].bias)
        model.decoder[0].weight.copy_(model.decoder[0].weight @ mix.inverse())
    torch.testing.assert_close(model(x), before)


@pytest.mark.equation("autoencoder-angle")
@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_angle_is_scipys(k):
    torch.manual_seed(k)
    a, b = torch.randn(2, 7, k).double()
    wanted = np.rad2deg(linalg.subspace_angles(a.numpy(), b.numpy())[0])
    assert subspace_angle(a, b).item() == pytest.approx(wanted, rel=1e-8)
    assert subspace_angle(a, a @ torch.randn(k, k).double()).item() < 1e-6


@pytest.mark.equation("autoencoder-faded")
def test_a_faded_example_looks_more_normal_to_principal_components(x):
    pca = principal_components(x, 2)
    for share in (0.0, 0.3, 0.7):
        faded = pca.mean + share * (x - pca.mean)
        error = squared_error(faded, pca.decode(pca.encode(faded)))
        whole = squared_error(x, pca.decode(pca.encode(x)))
        torch.testing.assert_close(error, share**2 * whole)


# ------------------------------------------------------------------------------------ denoising
@pytest.mark.equation("autoencoder-corrupt")
def test_gaussian_noise_has_the_spread_that_is_asked_for():
    g = torch.Generator().manual_seed(0)
    noise = corrupt(torch.full((100_000,), 2.0), 0.5, generator=g) - 2
    assert stats.kstest(noise.numpy() / 0.5, "norm").pvalue > 0.01
    assert corrupt(torch.ones(3), 0.0).tolist() == [1, 1, 1]


def test_masking_and_salt_and_pepper_hit_the_share_that_is_asked_for():
    g = torch.Generator().manual_seed(0)
    grey = torch.full((100_000,), 0.5)
    masked = corrupt(grey, 0.3, "masking", g)
    assert sorted(masked.unique().tolist()) == [0.0, 0.5]
    assert (masked == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    peppered = corrupt(grey, 0.3, "salt_and_pepper", g)
    assert (peppered == 0).double().mean().item() == pytest.approx(0.15, abs=0.01)
    assert (peppered == 1).double().mean().item() == pytest.approx(0.15, abs=0.01)


@pytest.mark.equation("autoencoder-denoising")
def test_the_target_is_the_clean_input(x):
    model = nn.Identity()
    g = torch.Generator().manual_seed(0)
    loss = denoising_loss(model, x, 0.5, generator=g)
    g = torch.Generator().manual_seed(0)
    by_hand = (corrupt(x, 0.5, generator=g) - x).square().sum(1).mean()
    torch.testing.assert_close(loss, by_hand)
    assert loss.item() == pytest.approx(6 * 0.25, rel=0.2)  # d σ², for a model that does nothing


@pytest.mark.equation("autoencoder-optimal")
def test_the_best_denoiser_is_the_mean_over_where_a_point_came_from():
    """By Bayes' rule with scipy's densities; and nothing near it has a smaller error."""
    data = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]]).double()
    point, std = torch.tensor([[0.4, 0.5]]).double(), 0.6
    weights = np.array([stats.multivariate_normal(m, std**2).pdf(point[0]) for m in data.numpy()])
    wanted = weights @ data.numpy() / weights.sum()
    got = optimal_denoiser(point, data, std)
    np.testing.assert_allclose(got[0], wanted, rtol=1e-10)

    def risk(answer):
        return (weights * ((data.numpy() - answer) ** 2).sum(1)).sum()

    for step in np.eye(2) * 1e-3:
        assert risk(wanted) < min(risk(wanted + step), risk(wanted - step))


@pytest.mark.equation("autoencoder-score")
@pytest.mark.parametrize("std", [0.2, 1.0])
def test_the_best_denoiser_is_the_score_of_the_noisy_data(std):
    torch.manual_seed(0)
    data = torch.randn(30, 2).double()
    points = torch.randn(20, 2).double().requires_grad_()
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(30).double()),
        torch.distributions.Independent(torch.distributions.Normal(data, std), 1),
    )
    (score,) = torch.autograd.grad(mixture.log_prob(points).sum(), points)
    points = points.detach()
    got = score_from_denoiser(points, optimal_denoiser(points, data, std), std)
    torch.testing.assert_close(got, score)


# ------------------------------------------------------------------------ contractive and sparse
@pytest.mark.equation("autoencoder-contractive", "autoencoder-contractive-sigmoid")
def test_the_contractive_penalty_of_a_sigmoid_layer_has_a_closed_form(x):
    model = Autoencoder([6, 4], code_activation="sigmoid").double()
    z = model.encode(x)
    closed = ((z * (1 - z)).square() @ model.encoder[0].weight.square().sum(1)).mean()
    torch.testing.assert_close(contractive_penalty(model, x), closed)
    by_autograd = [
        torch.autograd.functional.jacobian(model.encode, row).square().sum() for row in x
    ]
    torch.testing.assert_close(contractive_penalty(model, x), torch.stack(by_autograd).mean())


@pytest.mark.equation("autoencoder-kl")
@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9])
def test_the_penalty_is_the_divergence_of_two_coins(rho):
    means = torch.tensor([0.01, 0.05, 0.4, 0.9]).double()
    coin = torch.distributions.Bernoulli(torch.tensor(rho, dtype=torch.float64))
    wanted = torch.distributions.kl_divergence(coin, torch.distributions.Bernoulli(means))
    torch.testing.assert_close(sparsity_kl(rho, means), wanted)
    entropies = [stats.entropy([rho, 1 - rho], [m, 1 - m]) for m in means.tolist()]
    np.testing.assert_allclose(sparsity_kl(rho, means), entropies, rtol=1e-10, atol=1e-15)
    assert abs(sparsity_kl(rho, torch.tensor([rho], dtype=torch.float64)).item()) < 1e-15


def test_the_penalty_is_finite_where_a_unit_is_always_off_or_on():
    for dtype in (torch.float32, torch.float64):
        means = torch.tensor([0.0, 1.0], dtype=dtype, requires_grad=True)
        penalty = sparsity_kl(0.05, means)
        penalty.sum().backward()
        assert penalty.isfinite().all() and means.grad.isfinite().all()
        assert (penalty > 0.5).all()


@pytest.mark.equation("autoencoder-rho-hat", "autoencoder-sparse")
def test_the_sparse_loss_takes_each_units_mean_over_the_batch(x):
    model = Autoencoder([6, 4], code_activation="sigmoid").double()
    z = model.encode(x).detach().numpy()
    by_hand = sum(stats.entropy([0.1, 0.9], [m, 1 - m]) for m in z.mean(0))
    error = reconstruction_loss(model, x).item()
    got = sparse_loss(model, x, rho=0.1, weight=3.0)
    assert got.item() == pytest.approx(error + 3 * by_hand, rel=1e-10)


@pytest.mark.equation("autoencoder-kl-gradient")
def test_the_penaltys_gradient_is_the_same_for_every_example_of_a_batch():
    torch.manual_seed(0)
    z = torch.rand(7, 4).double().requires_grad_()
    (3 * sparsity_kl(0.1, z.mean(0)).sum()).backward()
    mean = z.detach().mean(0)
    torch.testing.assert_close(z.grad, (3 / 7 * (-0.1 / mean + 0.9 / (1 - mean))).expand(7, 4))


@pytest.mark.equation("autoencoder-l1")
def test_soft_thresholding_is_what_a_penalty_on_activity_asks_for():
    """The minimum of (z − a)² + λ|z|, by brute force, is a shrunk by λ/2."""
    grid = np.linspace(-3, 3, 600_001)
    for a in (-1.3, 0.2, 0.8):
        best = grid[((grid - a) ** 2 + 0.6 * np.abs(grid)).argmin()]
        shrunk = F.softshrink(torch.tensor(a).double(), 0.3).item()
        assert best == pytest.approx(shrunk, abs=2e-5)


# ---------------------------------------------------------------------------------------- top k
@pytest.mark.equation("autoencoder-top-k")
@pytest.mark.parametrize("k", [1, 3, 7])
def test_top_k_keeps_the_largest_of_each_row(k):
    torch.manual_seed(0)
    z = torch.randn(5, 7)
    for row, kept in zip(z.numpy(), top_k(z, k).numpy(), strict=True):
        wanted = np.where(row >= np.sort(row)[-k], row, 0)
        np.testing.assert_array_equal(kept, wanted)


@pytest.mark.equation("autoencoder-top-k-code", "autoencoder-top-k-decode")
def test_a_top_k_autoencoder_adds_up_a_few_directions(x):
    torch.manual_seed(0)
    model = TopKAutoencoder(6, 10, 3).double()
    with torch.no_grad():
        model.bias.normal_(), model.encoder.bias.normal_(), model.encoder.weight.normal_()
    got = model(x).detach().numpy()
    W_e, b_e, W_d, b = (
        p.detach().numpy()
        for p in (model.encoder.weight, model.encoder.bias, model.decoder.weight, model.bias)
    )
    for row, back in zip(x.numpy(), got, strict=True):
        z = np.maximum(W_e @ (row - b) + b_e, 0)
        wanted = b.copy()
        for j in np.argsort(z)[-3:]:
            wanted += z[j] * W_d[:, j]
        np.testing.assert_allclose(back, wanted, atol=1e-10)


def test_reading_k_columns_is_the_whole_product():
    torch.manual_seed(0)
    model = TopKAutoencoder(6, 10, 3).double()
    with torch.no_grad():
        model.bias.normal_()
    x = torch.randn(5, 6).double()
    few = model.activations(x).topk(3)
    torch.testing.assert_close(model.decode_few(few.values, few.indices), model(x))
    with refuses(ValueError, "indices must be 0 … 9 (hidden_size), got 10 … 10"):
        model.decode_few(torch.ones(1, 1).double(), torch.tensor([[10]]))


def test_directions_begin_and_stay_at_length_one():
    model = TopKAutoencoder(6, 10, 3)
    torch.testing.assert_close(model.decoder.weight.norm(dim=0), torch.ones(10))
    torch.testing.assert_close(model.encoder.weight, model.decoder.weight.T)
    with torch.no_grad():
        model.decoder.weight.mul_(5)
    assert model.normalize_() is model
    torch.testing.assert_close(model.decoder.weight.norm(dim=0), torch.ones(10))


@pytest.mark.equation("autoencoder-revival")
def test_dead_features_learn_from_what_the_living_left_over(x):
    torch.manual_seed(0)
    model = TopKAutoencoder(6, 10, 3).double()
    dead = torch.zeros(10, dtype=torch.bool)
    assert revival_loss(model, x, dead, 2) == 0
    dead[7:] = True
    quiet = torch.where(dead, model.activations(x), 0.0)
    left = x - model(x)
    wanted = (left - top_k(quiet, 2) @ model.decoder.weight.T).square().sum(1).mean()
    loss = revival_loss(model, x, dead, 2)
    torch.testing.assert_close(loss, wanted)
    loss.backward()
    grad = model.decoder.weight.grad
    assert grad[:, dead].any() and not grad[:, ~dead].any()


def test_it_finds_the_features_that_the_data_were_made_of():
    """More features than dimensions, few at a time: the directions are known here."""
    g = torch.Generator().manual_seed(0)
    true = F.normalize(torch.randn(12, 8, generator=g), dim=1)
    on = torch.rand(4000, 12, generator=g) < 0.08
    data = (on * (0.5 + torch.rand(4000, 12, generator=g))) @ true
    torch.manual_seed(0)
    model = TopKAutoencoder(8, 24, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        batch = data[torch.randint(len(data), (256,), generator=g)]
        optimizer.zero_grad()
        reconstruction_loss(model, batch).backward()
        optimizer.step()
        model.normalize_()
    found = (true @ model.decoder.weight.detach()).amax(1)
    axes = (true @ principal_components(data, 8).components.T).abs().amax(1)
    assert found.mean() > 0.9 > axes.mean()


# ------------------------------------------------------------------------------------- the ruler
@pytest.mark.equation("autoencoder-frechet")
def test_the_distance_of_gaussians_is_that_of_independent_coordinates():
    """Where both covariances are diagonal, it is a sum over the coordinates, in closed form."""
    means = torch.tensor([[0.0, 1.0], [2.0, -1.0]])
    spreads = torch.tensor([[1.0, 0.5], [3.0, 2.0]])
    wanted = ((means[0] - means[1]) ** 2 + (spreads[0] - spreads[1]) ** 2).sum().item()
    got = frechet_gaussian(
        means[0], spreads[0].square().diag(), means[1], spreads[1].square().diag()
    )
    assert got == pytest.approx(wanted, rel=1e-9)


# ------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sizes": [4]}, ValueError, "sizes=[4] must have an input and a code"),
        ({"sizes": 4}, TypeError, "sizes=4 must be a sequence of integers"),
        ({"sizes": [4, 0]}, ValueError, "sizes[1]=0 must be an integer ≥ 1"),
        ({"sizes": [4, -2, 1]}, ValueError, "sizes[1]=-2"),
        ({"sizes": [4, 2.0]}, TypeError, "sizes[1]=2.0"),
        ({"sizes": [4, 2], "activation": "bend"}, ValueError, "activation='bend'"),
        ({"sizes": [4, 2], "code_activation": "x"}, ValueError, "code_activation='x'"),
        ({"sizes": [4, 2], "tied": 1}, TypeError, "tied=1 must be True or False"),
    ],
)
def test_a_bad_autoencoder_is_refused(arguments, error, message):
    with refuses(error, message):
        Autoencoder(**arguments)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Autoencoder([4, 2])(torch.ones(3, 5)), ValueError, "sizes[0]=4 columns"),
        (lambda: Autoencoder([4, 2]).decode(torch.ones(3)), ValueError, "sizes[-1]=2 columns"),
        (lambda: Autoencoder([4, 2])(torch.ones(3, 4).long()), TypeError, "floating point"),
        (lambda: TopKAutoencoder(4, 8, 9), ValueError, "k=9 must be at most hidden_size=8"),
        (lambda: TopKAutoencoder(4, 8, 0), ValueError, "k=0 must be an integer ≥ 1"),
        (
            lambda: sparsity_kl(0.0, torch.ones(1)),
            ValueError,
            "rho=0.0 must be a finite number > 0",
        ),
        (lambda: sparsity_kl(0.1, -torch.ones(1)), ValueError, "its code needs a sigmoid"),
        (lambda: corrupt(torch.ones(2), -1.0), ValueError, "level=-1.0"),
        (lambda: corrupt(torch.ones(2), 1.5, "masking"), ValueError, "level=1.5"),
        (lambda: corrupt(torch.ones(2), 0.5, "rain"), ValueError, "kind='rain' must be one of"),
        (lambda: score_from_denoiser(torch.ones(1, 2), torch.ones(1, 2), 0.0), ValueError, "std="),
        (lambda: top_k(torch.ones(1, 3), 4), ValueError, "k=4"),
        (lambda: principal_components(torch.ones(5, 3), 4), ValueError, "k=4"),
        (lambda: squared_error(torch.ones(2, 3), torch.ones(2, 4)), ValueError, "x_hat must have"),
        (lambda: subspace_angle(torch.ones(3, 1), torch.ones(3, 2)), ValueError, "b must have"),
    ],
)
def test_bad_input_is_refused(call, error, message):
    with refuses(error, message):
        call()


def test_every_kind_of_damage_is_tried():
    assert set(ae.KINDS) == {"gaussian", "masking", "salt_and_pepper"}
    assert math.isfinite(sum(corrupt(torch.rand(9), 0.5, kind).sum() for kind in ae.KINDS))
