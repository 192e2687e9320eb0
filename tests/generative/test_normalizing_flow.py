"""Flows against autograd's Jacobian, integrals over grids, torch's distributions and zuko."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import nn

from nnlib.generative import normalizing_flow as flows
from nnlib.generative.normalizing_flow import (
    IAF,
    MAF,
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Flow,
    Inverted,
    InvertibleConv1x1,
    Logit,
    MaskedAutoregressive,
    RealNVP,
    Reverse,
    SplineCoupling,
    SplineFlow,
    made_masks,
    negative_log_likelihood_loss,
    spline,
    spline_inverse,
    standard_normal_log_prob,
)
from nnlib.train.sample_quality import bits_per_dimension, dequantized
from tests.support import Example, Peer, refuses

zuko = Peer("zuko.transforms")
DOUBLE = torch.float64


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"num_features": 3, "num_layers": 4, "hidden_size": 5},
        (torch.randn(4, 3),),
        prepare=shaken,
    )


def shaken(model, scale=0.3):
    """Weights that no fresh flow has: a fresh one is the identity."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model


MASK = [1, 0, 0, 1]
MAKERS = {
    "additive": lambda: AdditiveCoupling(MASK, 8),
    "affine": lambda: AffineCoupling(MASK, 8),
    "spline": lambda: SplineCoupling(MASK, 8),
    "autoregressive": lambda: MaskedAutoregressive(4, 8),
    "inverted": lambda: Inverted(MaskedAutoregressive(4, 8)),
    "RealNVP": lambda: RealNVP(4, 6, 8),
    "SplineFlow": lambda: SplineFlow(4, 4, 8),
    "MAF": lambda: MAF(4, 3, 8),
    "IAF": lambda: IAF(4, 3, 8),
    "actnorm": lambda: ActNorm(4),
    "conv": lambda: InvertibleConv1x1(4),
    "reverse": lambda: Reverse(4),
    "logit": lambda: Logit(4),
    "mixed": lambda: Flow([InvertibleConv1x1(4), ActNorm(4), AffineCoupling(MASK, 8)]),
}
every_map = pytest.mark.parametrize("name", MAKERS)


def made(name, seed=0, dtype=DOUBLE):
    torch.manual_seed(seed)
    return shaken(MAKERS[name]().to(dtype))


def jacobian(function, x):
    """The Jacobian of a map of single rows, at each row, by autograd."""
    return torch.stack([torch.autograd.functional.jacobian(lambda r: function(r[None])[0], row)
                        for row in x])  # fmt: skip


# --------------------------------------------------------------------------- every map, both ways


@every_map
@pytest.mark.parametrize("seed", range(3))
def test_inverse_undoes_forward_and_forward_undoes_inverse(name, seed):
    model = made(name, seed)
    z = torch.randn(50, 4, dtype=DOUBLE)
    x, there = model(z)
    back, home = model.inverse(x)
    torch.testing.assert_close(back, z, rtol=0, atol=1e-7)
    torch.testing.assert_close(home, -there, rtol=0, atol=1e-7)
    torch.testing.assert_close(model(back).x, x, rtol=0, atol=1e-7)


@every_map
def test_in_single_precision_too(name):
    torch.manual_seed(0)
    model = shaken(MAKERS[name](), 0.1)
    z = torch.randn(200, 4)
    assert (model.inverse(model(z).x).z - z).abs().max() <= 1e-5


@pytest.mark.equation("normalizing-flow-inverse-jacobian")
@every_map
def test_log_determinants_are_those_of_autograds_jacobian(name):
    model = made(name)
    z = torch.randn(6, 4, dtype=DOUBLE)
    x, there = model(z)
    _, back = model.inverse(x.detach())
    forth = jacobian(lambda r: model(r).x, z)
    home = jacobian(lambda r: model.inverse(r).z, x.detach())
    torch.testing.assert_close(there, forth.slogdet().logabsdet, rtol=0, atol=1e-6)
    torch.testing.assert_close(back, home.slogdet().logabsdet, rtol=0, atol=1e-6)
    torch.testing.assert_close(home @ forth, torch.eye(4, dtype=DOUBLE).expand(6, 4, 4),
                               rtol=0, atol=1e-6)  # fmt: skip


NETWORKS = ["additive", "affine", "spline", "autoregressive", "inverted", "RealNVP", "SplineFlow"]


@pytest.mark.parametrize("name", [*NETWORKS, "MAF", "IAF"])
def test_a_fresh_map_with_a_network_is_the_identity(name):
    """Where the order is turned round between three layers, that is twice."""
    z = torch.randn(5, 4, dtype=DOUBLE)
    x, logdet = MAKERS[name]().double()(z)
    torch.testing.assert_close(x, z, rtol=0, atol=1e-12)
    torch.testing.assert_close(logdet, torch.zeros(5, dtype=DOUBLE), rtol=0, atol=1e-12)


# -------------------------------------------------------------------------------------- densities


@pytest.mark.equation("normalizing-flow-scalar")
def test_the_exponential_of_noise_is_log_normal():
    x = torch.tensor([0.2, 1.0, 2.0, 7.0], dtype=DOUBLE)
    z, slope = x.log(), 1 / x  # the inverse, and its derivative
    density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi) * slope.abs()
    np.testing.assert_allclose(density, stats.lognorm.pdf(x, s=1.0), rtol=1e-12)
    normal = torch.distributions.TransformedDistribution(
        torch.distributions.Normal(0.0, 1.0), [torch.distributions.ExpTransform()]
    )
    torch.testing.assert_close(density.log(), normal.log_prob(x))


@pytest.mark.equation("normalizing-flow-base")
def test_the_base_is_the_standard_normal():
    z = torch.randn(7, 5, dtype=DOUBLE)
    wanted = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(standard_normal_log_prob(z), wanted)


@pytest.mark.equation("normalizing-flow-change")
def test_a_linear_flow_is_the_gaussian_of_its_covariance():
    torch.manual_seed(0)
    linear = shaken(Flow([InvertibleConv1x1(3), ActNorm(3)]).double())
    x = torch.randn(9, 3, dtype=DOUBLE)
    # x = A z + b, from what the map does to the axes
    b = linear(torch.zeros(1, 3, dtype=DOUBLE)).x
    a = (linear(torch.eye(3, dtype=DOUBLE)).x - b).T
    wanted = torch.distributions.MultivariateNormal(b[0], a @ a.T).log_prob(x)
    torch.testing.assert_close(linear.log_prob(x), wanted)


@pytest.mark.parametrize("make", [
    lambda: RealNVP(2, 4, 8), lambda: MAF(2, 3, 8), lambda: IAF(2, 2, 8),
    lambda: SplineFlow(2, 2, 8), lambda: AffineCoupling([1, 0], 8),
])  # fmt: skip
def test_densities_integrate_to_one_on_a_grid(make):
    torch.manual_seed(1)
    model = shaken(make().double(), 0.2)
    side = torch.linspace(-20, 20, 601, dtype=DOUBLE)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        total = model.log_prob(grid).exp().sum() * (side[1] - side[0]) ** 2
    assert total.item() == pytest.approx(1.0, abs=1e-3)


@pytest.mark.equation("normalizing-flow-composition")
def test_log_determinants_of_a_chain_add_up():
    torch.manual_seed(0)
    flow = made("RealNVP")
    z = torch.randn(5, 4, dtype=DOUBLE)
    h, log_p = z, standard_normal_log_prob(z)
    for layer in flow.layers:
        step = jacobian(lambda r, layer=layer: layer(r).x, h)
        log_p = log_p - step.slogdet().logabsdet
        h = layer(h).x.detach()
    torch.testing.assert_close(flow(z).x, h)
    torch.testing.assert_close(flow.log_prob(h), log_p)


def test_samples_have_the_density():
    """Shares of samples in boxes against the integral of the density over them."""
    torch.manual_seed(0)
    model = shaken(RealNVP(2, 4, 8), 0.3)
    x = model.sample(200_000, torch.Generator().manual_seed(3))
    side = torch.linspace(-6, 6, 601)
    centres = (side[1:] + side[:-1]) / 2
    with torch.no_grad():
        p = model.log_prob(torch.cartesian_prod(centres, centres)).exp() * 0.02**2
    p = p.view(600, 600).unfold(0, 60, 60).unfold(1, 60, 60).sum((-1, -2))
    counted = torch.histogramdd(x, [10, 10], range=[-6.0, 6.0, -6.0, 6.0]).hist / len(x)
    noise = (p / len(x)).sqrt().clamp(min=1e-5)
    assert ((counted - p).abs() / noise).max() < 6  # six standard deviations, and the grid


def test_samples_repeat_with_their_generator_and_leave_the_mode():
    model = shaken(RealNVP(2, 2, 8, dropout=0.5)).train()
    once = model.sample(5, torch.Generator().manual_seed(1))
    assert torch.equal(once, model.sample(5, torch.Generator().manual_seed(1)))
    assert model.training and not once.requires_grad


# -------------------------------------------------------------------------------------- couplings


def by_hand(coupling, z):
    """A coupling from its equations, feature by feature."""
    kept, changed = coupling.kept.tolist(), coupling.changed.tolist()
    raw = coupling.conditioner(z[:, kept])
    x, total = z.clone(), torch.zeros(len(z), dtype=DOUBLE)
    for at, i in enumerate(changed):
        s = 2 * torch.tanh(raw[:, 2 * at] / 2)
        x[:, i] = z[:, i] * torch.exp(s) + raw[:, 2 * at + 1]
        total = total + s
    return x, total


@pytest.mark.equation(
    "normalizing-flow-coupling", "normalizing-flow-coupling-inverse",
    "normalizing-flow-coupling-logdet",
)  # fmt: skip
def test_an_affine_coupling_scales_and_shifts_what_it_changes():
    coupling = made("affine")
    z = torch.randn(20, 4, dtype=DOUBLE)
    with torch.no_grad():
        x, logdet = by_hand(coupling, z)
        torch.testing.assert_close(coupling(z).x, x)
        torch.testing.assert_close(coupling(z).logdet, logdet)
        raw = coupling.conditioner(x[:, [0, 3]]).view(-1, 2, 2)
        s, t = 2 * torch.tanh(raw[..., 0] / 2), raw[..., 1]
        wanted = x.clone()
        wanted[:, [1, 2]] = (x[:, [1, 2]] - t) * torch.exp(-s)
        torch.testing.assert_close(coupling.inverse(x).z, wanted)
        assert torch.equal(coupling(z).x[:, [0, 3]], z[:, [0, 3]])


@pytest.mark.equation("normalizing-flow-triangular")
def test_the_jacobian_of_a_coupling_is_block_triangular():
    coupling = made("affine")
    z = torch.randn(1, 4, dtype=DOUBLE)
    full = jacobian(lambda r: coupling(r).x, z)[0]
    order = [0, 3, 1, 2]  # kept, then changed
    full = full[order][:, order]
    raw = coupling.conditioner(z[:, [0, 3]]).view(2, 2)
    scales = torch.exp(2 * torch.tanh(raw[:, 0] / 2))
    torch.testing.assert_close(full[:2], torch.eye(4, dtype=DOUBLE)[:2])
    torch.testing.assert_close(full[2:, 2:], torch.diag(scales))
    assert full[2:, :2].abs().min() > 0


@pytest.mark.equation("normalizing-flow-additive")
def test_an_additive_coupling_only_shifts():
    coupling = made("additive")
    z = torch.randn(5, 4, dtype=DOUBLE)
    x, logdet = coupling(z)
    shift = coupling.conditioner(z[:, [0, 3]])
    torch.testing.assert_close(x[:, [1, 2]], z[:, [1, 2]] + shift)
    assert not logdet.any()


def test_every_feature_is_changed_by_two_layers_of_realnvp():
    for d in (2, 3, 5, 64):
        first, second, third, fourth = RealNVP(d, 4).layers
        for a, b in ((first, second), (third, fourth)):
            assert sorted([*a.changed.tolist(), *b.changed.tolist()]) == list(range(d))


def test_scales_stay_finite_whatever_the_network_says():
    coupling = AffineCoupling([1, 0], 4)
    with torch.no_grad():
        coupling.conditioner[-1].bias.fill_(1e6)
    x, logdet = coupling(torch.ones(1, 2))
    assert torch.isfinite(x).all()
    assert logdet.item() == pytest.approx(flows.MAX_LOG_SCALE)


# ---------------------------------------------------------------------------------- autoregressive


@pytest.mark.equation("normalizing-flow-made")
@pytest.mark.parametrize(("d", "h", "layers"), [(1, 3, 1), (2, 4, 2), (5, 4, 1), (6, 11, 3)])
def test_masks_let_through_what_comes_before(d, h, layers):
    masks = made_masks(d, h, layers, numbers=2)
    assert [tuple(m.shape) for m in masks] == [(h, d), *[(h, h)] * (layers - 1), (2 * d, h)]
    paths = masks[0].long()
    for mask in masks[1:]:
        paths = mask.long() @ paths
    before = torch.ones(d, d).tril(-1).bool().repeat_interleave(2, 0)
    assert not (paths.bool() & ~before).any()
    if h >= d - 1:
        assert torch.equal(paths.bool(), before)


@pytest.mark.equation("normalizing-flow-autoregressive", "normalizing-flow-autoregressive-logdet")
def test_an_autoregressive_layer_standardizes_each_feature_given_those_before():
    layer = made("autoregressive")
    x = torch.randn(6, 4, dtype=DOUBLE)
    z, logdet = layer.inverse(x)
    wanted, total = [], 0.0
    for i in range(4):  # what stands from i on is hidden from the network
        hidden = x.clone()
        hidden[:, i:] = torch.randn(6, 4 - i, dtype=DOUBLE)
        mean, raw = layer.conditioner(hidden).view(6, 4, 2)[:, i].unbind(1)
        log_scale = 2 * torch.tanh(raw / 2)
        wanted.append((x[:, i] - mean) / log_scale.exp())
        total = total - log_scale
    torch.testing.assert_close(z, torch.stack(wanted, 1))
    torch.testing.assert_close(logdet, total)


def test_drawing_puts_one_more_feature_right_with_each_pass():
    torch.manual_seed(0)
    layer = shaken(MaskedAutoregressive(4, 32).double())
    read = []
    layer.conditioner.register_forward_hook(lambda net, given, out: read.append(given[0]))
    x = torch.randn(3, 4, dtype=DOUBLE)
    z = layer.inverse(x).z
    assert len(read) == 1
    drawn = layer(z).x
    guesses = [*read[2:], drawn]  # what pass 1, 2, 3 and 4 left
    assert len(guesses) == 4
    for at, guess in enumerate(guesses, 1):
        right = (guess - x).abs().amax(0) < 1e-12
        assert right.tolist() == [True] * at + [False] * (4 - at)


def _numbers(layer, h):
    raw = layer.conditioner(h).view(len(h), 4, 2)
    return raw[..., 0], 2 * torch.tanh(raw[..., 1] / 2)


@pytest.mark.equation("normalizing-flow-iaf")
def test_iaf_draws_in_one_pass_with_numbers_read_from_noise():
    iaf = made("IAF")
    layer = iaf.layers[0]
    z = torch.randn(5, 4, dtype=DOUBLE)
    mean, log_scale = _numbers(layer.layer, z)
    torch.testing.assert_close(layer(z).x, (z - mean) * torch.exp(-log_scale))
    passes = []
    layer.layer.conditioner.register_forward_hook(lambda *_: passes.append(1))
    layer.inverse(layer(z).x)
    assert len(passes) == 1 + 4


@pytest.mark.equation("normalizing-flow-rosenblatt")
def test_conditional_distribution_functions_make_noise_of_anything():
    """For a correlated Gaussian they have a closed form, which is the Cholesky factor's inverse."""
    cov = torch.tensor([[1.0, 0.6], [0.6, 2.0]], dtype=DOUBLE)
    x = torch.randn(8, 2, dtype=DOUBLE)
    first = stats.norm.cdf(x[:, 0])
    second = stats.norm.cdf(x[:, 1], loc=0.6 * x[:, 0], scale=math.sqrt(2 - 0.36))
    z = np.stack([stats.norm.ppf(first), stats.norm.ppf(second)], 1)
    wanted = torch.linalg.solve_triangular(torch.linalg.cholesky(cov), x.T, upper=False).T
    np.testing.assert_allclose(z, wanted, atol=1e-9)


# ------------------------------------------------------------------------------------------- Glow


@pytest.mark.equation("normalizing-flow-conv")
def test_the_1x1_convolution_is_one_and_its_logdet_counts_pixels():
    mix = made("conv")
    x = torch.randn(2, 4, 3, 5, dtype=DOUBLE)
    z, logdet = mix.inverse(x)
    w = mix.weight()
    torch.testing.assert_close(z, nn.functional.conv2d(x, w[:, :, None, None]))
    torch.testing.assert_close(logdet, 15 * w.slogdet().logabsdet.expand(2))
    whole = torch.autograd.functional.jacobian(lambda v: mix.inverse(v[None]).z[0], x[0])
    torch.testing.assert_close(whole.view(60, 60).slogdet().logabsdet, logdet[0])
    torch.testing.assert_close(mix(z).x, x)


@pytest.mark.equation("normalizing-flow-lu")
def test_the_factors_of_the_1x1_convolution_make_its_matrix():
    torch.manual_seed(0)
    mix = InvertibleConv1x1(5, dtype=DOUBLE)
    w = mix.weight()
    torch.testing.assert_close(w @ w.T, torch.eye(5, dtype=DOUBLE), rtol=0, atol=1e-12)
    shaken(mix)
    p = torch.eye(5, dtype=DOUBLE)[mix.order]
    lower, upper = mix.triangles()
    torch.testing.assert_close(p @ lower @ upper, mix.weight())
    assert not lower.triu(1).any() and not upper.tril(-1).any()
    assert torch.equal(lower.diagonal(), torch.ones(5, dtype=DOUBLE))


def test_actnorm_standardizes_the_first_data_pixel_by_pixel():
    x = 3 * torch.randn(50, 4, 2, 3, dtype=DOUBLE) + 2
    norm = ActNorm(4).double().initialize(x)
    z, logdet = norm.inverse(x)
    rows = z.movedim(1, 0).flatten(1)
    torch.testing.assert_close(rows.mean(1), torch.zeros(4, dtype=DOUBLE), rtol=0, atol=1e-12)
    torch.testing.assert_close(rows.std(1, correction=0), torch.ones(4, dtype=DOUBLE))
    torch.testing.assert_close(logdet, (-6 * norm.log_scale.sum()).expand(50))
    assert ActNorm(2).initialize(torch.ones(5, 2)).inverse(torch.ones(1, 2)).z.abs().max() == 0


# ----------------------------------------------------------------------------------------- splines


def raw_spline(n=200, k=6, seed=0, scale=1.5):
    g = torch.Generator().manual_seed(seed)
    sizes = [k, k, k - 1]
    return [scale * torch.randn(n, size, generator=g, dtype=DOUBLE) for size in sizes]


@pytest.mark.equation("normalizing-flow-spline", "normalizing-flow-spline-slope")
def test_the_spline_meets_its_knots_with_their_slopes():
    w, h, d = raw_spline(1)
    k, bound = 6, 3.0
    shares = [flows.LEAST + (1 - k * flows.LEAST) * raw.softmax(-1) for raw in (w, h)]
    xs, ys = (2 * bound * part.cumsum(-1)[0, :-1] - bound for part in shares)
    slopes = flows.LEAST + torch.log1p(torch.exp(d[0] + math.log(math.expm1(1 - flows.LEAST))))
    y, log_slope = spline(xs, *(raw.expand(k - 1, -1) for raw in (w, h, d)), bound)
    torch.testing.assert_close(y, ys)
    torch.testing.assert_close(log_slope.exp(), slopes)
    # between two knots: the formula, in scalars
    x0, x1, y0, y1 = xs[1].item(), xs[2].item(), ys[1].item(), ys[2].item()
    d0, d1, sigma = slopes[1].item(), slopes[2].item(), (y1 - y0) / (x1 - x0)
    xi = 0.3
    above = sigma * xi**2 + d0 * xi * (1 - xi)
    below = sigma + (d0 + d1 - 2 * sigma) * xi * (1 - xi)
    at = torch.tensor([x0 + xi * (x1 - x0)], dtype=DOUBLE)
    got, slope = spline(at, w, h, d, bound)
    assert got.item() == pytest.approx(y0 + (y1 - y0) * above / below)
    steep = sigma**2 * (d1 * xi**2 + 2 * sigma * xi * (1 - xi) + d0 * (1 - xi) ** 2) / below**2
    assert slope.exp().item() == pytest.approx(steep)


def test_the_slope_is_the_derivative_and_positive():
    raw = raw_spline()
    x = torch.empty(200, dtype=DOUBLE).uniform_(
        -3.5, 3.5, generator=torch.Generator().manual_seed(2)
    )
    x.requires_grad_()
    y, log_slope = spline(x, *raw)
    (slope,) = torch.autograd.grad(y.sum(), x)
    assert slope.min() > 0
    torch.testing.assert_close(log_slope.exp(), slope)


@pytest.mark.equation("normalizing-flow-spline-root")
def test_the_quadratics_root_inverts_the_spline():
    raw = raw_spline(500, scale=3.0)
    y = torch.linspace(-4, 4, 500, dtype=DOUBLE)
    x, log_slope = spline_inverse(y, *raw)
    again, there = spline(x, *raw)
    torch.testing.assert_close(again, y, rtol=0, atol=1e-9)
    torch.testing.assert_close(log_slope, -there, rtol=0, atol=1e-6)
    brute = [float(bisect(lambda v, i=i: spline(v[None], *(r[i : i + 1] for r in raw))[0] - y[i]))
             for i in range(0, 500, 50)]  # fmt: skip
    np.testing.assert_allclose(x[::50], brute, atol=1e-9)


def bisect(f, low=-5.0, high=5.0):
    for _ in range(80):
        mid = (low + high) / 2
        low, high = (mid, high) if f(torch.tensor(mid, dtype=DOUBLE)) < 0 else (low, mid)
    return low


@pytest.mark.parametrize("value", [3.0, -3.0, 3.0000001, 50.0, -1e30])
@pytest.mark.parametrize("both", [spline, spline_inverse])
def test_outside_its_range_a_spline_is_the_identity_without_nan(value, both):
    raw = [part.requires_grad_() for part in raw_spline(1, scale=20.0)]
    x = torch.tensor([value], dtype=DOUBLE, requires_grad=True)
    y, log_slope = both(x, *raw, 3.0)
    assert y.item() == value and log_slope.item() == 0
    grads = torch.autograd.grad(y.sum() + log_slope.sum(), [x, *raw])
    assert grads[0].item() == 1
    assert all(torch.isfinite(grad).all() for grad in grads)


def test_extreme_weights_and_ends_of_the_range_give_no_nan():
    for scale, seed in itertools.product((50.0, 1e4), range(3)):
        raw = [part.float().requires_grad_() for part in raw_spline(100, seed=seed, scale=scale)]
        x = torch.linspace(-3, 3, 100)
        for both in (spline, spline_inverse):
            y, log_slope = both(x, *raw)
            assert torch.isfinite(y).all() and torch.isfinite(log_slope).all()
            assert y.abs().max() <= 3.0 + 1e-5
            grads = torch.autograd.grad(y.sum() + log_slope.sum(), raw)
            assert all(torch.isfinite(grad).all() for grad in grads)


# ------------------------------------------------------------------------------------------- zuko


def test_the_spline_is_zukos_between_the_same_knots():
    raw = raw_spline()
    k, bound = 6, 3.0
    theirs = zuko.MonotonicRQSTransform(*raw, bound=bound)
    shares = [flows.LEAST + (1 - k * flows.LEAST) * r.softmax(-1) for r in raw[:2]]
    ends = [nn.functional.pad(2 * bound * s.cumsum(-1) - bound, (1, 0), value=-bound)
            for s in shares]  # fmt: skip
    theirs.horizontal, theirs.vertical = ends
    slopes = nn.functional.softplus(raw[2] + math.log(math.expm1(1 - flows.LEAST)))
    theirs.derivatives = nn.functional.pad(flows.LEAST + slopes, (1, 1), value=1.0)
    x = torch.linspace(-3.7, 3.7, 200, dtype=DOUBLE)
    y, log_slope = spline(x, *raw, bound)
    wanted, ladj = theirs.call_and_ladj(x)
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-10)
    torch.testing.assert_close(log_slope, ladj, rtol=0, atol=1e-8)
    torch.testing.assert_close(spline_inverse(y, *raw, bound)[0], theirs.inv(y), rtol=0, atol=1e-8)


def their_affine(mean, log_scale):
    theirs = zuko.MonotonicAffineTransform(mean, log_scale)
    theirs.log_scale, theirs.scale = log_scale, log_scale.exp()  # without zuko's own bound
    return theirs


def test_realnvp_has_the_likelihood_that_zuko_gives_it():
    flow = made("RealNVP")

    def meta(coupling):
        def given(kept):
            raw = coupling.conditioner(kept).unflatten(1, (-1, 2))
            return zuko.DependentTransform(
                their_affine(raw[..., 1], 2 * torch.tanh(raw[..., 0] / 2)), 1
            )

        return given

    layers = []
    for coupling in flow.layers:
        mask = torch.zeros(4, dtype=torch.bool)
        mask[coupling.kept] = True
        layers.append(zuko.CouplingTransform(meta(coupling), mask))
    z = torch.randn(30, 4, dtype=DOUBLE)
    x, total = z, 0.0
    for layer in layers:
        x, ladj = layer.call_and_ladj(x)
        total = total + ladj
    torch.testing.assert_close(flow(z).x, x)
    torch.testing.assert_close(flow(z).logdet, total)
    torch.testing.assert_close(flow.log_prob(x), standard_normal_log_prob(z) - total)


def test_an_autoregressive_layer_is_zukos_with_the_same_network():
    layer = made("autoregressive")

    def meta(x):
        mean, log_scale = _numbers(layer, x)  # theirs is written from data to noise
        return zuko.DependentTransform(their_affine(-mean / log_scale.exp(), -log_scale), 1)

    theirs = zuko.AutoregressiveTransform(meta, passes=4)
    x = torch.randn(9, 4, dtype=DOUBLE)
    z, ladj = theirs.call_and_ladj(x)
    torch.testing.assert_close(layer.inverse(x).z, z)
    torch.testing.assert_close(layer.inverse(x).logdet, ladj)
    torch.testing.assert_close(layer(z).x, theirs.inv(z))


# ------------------------------------------------------------------------ objective, data, limits


@pytest.mark.equation("normalizing-flow-likelihood")
def test_the_loss_is_the_mean_surprise():
    torch.manual_seed(0)
    linear = shaken(ActNorm(2).double())
    x = torch.randn(10, 2, dtype=DOUBLE)
    normal = torch.distributions.Normal(linear.shift, linear.log_scale.exp())
    wanted = -normal.log_prob(x).sum(1).mean()
    torch.testing.assert_close(negative_log_likelihood_loss(linear, x), wanted)


@pytest.mark.equation("normalizing-flow-kl", "normalizing-flow-reverse-kl")
def test_surprise_is_entropy_and_divergence_and_so_in_reverse():
    data, model = stats.norm(1.0, 0.7), stats.norm(0.5, 1.2)

    def expected(under, f):
        return integrate.quad(lambda x: under.pdf(x) * f(x), -15, 15)[0]

    kl = expected(data, lambda x: data.logpdf(x) - model.logpdf(x))
    assert expected(data, lambda x: -model.logpdf(x)) == pytest.approx(kl + data.entropy())
    # unnormalized target p̃ = c p: the expectation over noise is KL(model, p) − log c
    c, noise = 5.0, stats.norm()
    lost = expected(
        noise,
        lambda z: noise.logpdf(z) - math.log(1.2) - (data.logpdf(0.5 + 1.2 * z) + math.log(c)),
    )
    back = expected(model, lambda x: model.logpdf(x) - data.logpdf(x))
    assert lost == pytest.approx(back - math.log(c), abs=1e-8)


@pytest.mark.equation("normalizing-flow-dequantize", "normalizing-flow-bits")
def test_dequantized_likelihood_is_a_lower_bound_on_that_of_levels():
    """One pixel of four levels under a logistic density: both sides by integration."""
    levels, density = 4, stats.logistic(0.4, 0.15)
    g = torch.Generator().manual_seed(0)
    for q in range(levels):
        exact = math.log(density.cdf((q + 1) / levels) - density.cdf(q / levels))
        mean = integrate.quad(lambda u, q=q: density.logpdf((q + u) / levels), 0, 1)[0]
        bound = mean - math.log(levels)
        assert exact - 0.5 < bound <= exact
        y = dequantized(torch.full((20_000,), q / 3, dtype=DOUBLE), levels, g)
        drawn = torch.from_numpy(density.logpdf(y))
        assert drawn.mean().item() == pytest.approx(mean, abs=0.02)
        bits = bits_per_dimension(drawn, 1, bin_width=1 / levels)
        assert bits == pytest.approx(-drawn.mean().item() / math.log(2) + math.log2(levels))
        assert bits == pytest.approx(-bound / math.log(2), abs=0.05)


@pytest.mark.equation("normalizing-flow-logit")
def test_the_logit_undoes_the_sigmoid_between_its_margins():
    x = torch.tensor([[0.0, 0.25, 1.0]], dtype=DOUBLE)
    z, logdet = Logit(3, eps=0.05).inverse(x)
    p = 0.05 + 0.9 * x
    torch.testing.assert_close(z, (p / (1 - p)).log())
    torch.testing.assert_close(logdet, (0.9 / (p * (1 - p))).log().sum(1))


@pytest.mark.equation("normalizing-flow-gap")
@pytest.mark.parametrize("name", ["RealNVP", "SplineFlow", "MAF"])
def test_no_density_is_below_that_of_its_noise_over_the_stretch(name):
    model = made(name)
    z = torch.randn(20, 4, dtype=DOUBLE)
    x = model(z).x.detach()
    stretch = torch.linalg.matrix_norm(jacobian(lambda r: model(r).x, z), 2)
    least = standard_normal_log_prob(z) - 4 * stretch.log()
    assert (model.log_prob(x) >= least - 1e-6).all()


@pytest.mark.equation("normalizing-flow-continuous")
def test_along_a_linear_field_the_log_density_falls_by_the_trace():
    a = torch.tensor([[0.3, -1.0], [0.5, 0.2]], dtype=DOUBLE)
    t, z = 0.7, torch.randn(5, 2, dtype=DOUBLE)
    move = torch.linalg.matrix_exp(a * t)
    x = z @ move.T
    wanted = torch.distributions.MultivariateNormal(
        torch.zeros(2, dtype=DOUBLE), move @ move.T
    ).log_prob(x)
    torch.testing.assert_close(standard_normal_log_prob(z) - a.trace() * t, wanted)


def test_a_flow_learns_what_a_gaussian_cannot():
    """Two moons' worth of bend: a parabola with noise, against the best Gaussian."""
    torch.manual_seed(0)
    u = torch.randn(2000, 2)
    x = torch.stack([u[:, 0], u[:, 0] ** 2 + 0.3 * u[:, 1]], 1)
    gaussian = torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    flow = RealNVP(2, 4, 32)
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for _ in range(150):
        loss = negative_log_likelihood_loss(flow, x[torch.randint(2000, (256,))])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    truth = 0.5 * 2 * (1 + math.log(2 * math.pi)) + math.log(0.3)
    with torch.no_grad():
        learned = negative_log_likelihood_loss(flow, x).item()
    assert -gaussian.log_prob(x).mean() > truth + 1
    assert learned < truth + 0.25


# --------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        ([1, 1, 1], ValueError, "mask keeps all of 3 features"),
        ([0, 0], ValueError, "mask keeps none of 2 features"),
        ([], ValueError, "mask keeps none of 0 features"),
        ([1, 2], ValueError, "mask=[1, 2] must hold True and False"),
        ("10", TypeError, "mask='10' must be a sequence"),
        (3, TypeError, "mask=3 must be a sequence"),
    ],
)
@pytest.mark.parametrize("coupling", [AffineCoupling, AdditiveCoupling, SplineCoupling])
def test_masks_that_keep_all_or_none_are_refused(coupling, mask, error, message):
    with refuses(error, message):
        coupling(mask)


def test_masks_may_be_tensors():
    assert AffineCoupling(torch.tensor([True, False])).changed.tolist() == [1]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: RealNVP(1), ValueError, "num_features=1 must be an integer ≥ 2"),
        (lambda: RealNVP(4, 0), ValueError, "num_layers=0"),
        (lambda: RealNVP(4, hidden_size=0), ValueError, "hidden_size=0"),
        (lambda: RealNVP(4, num_hidden=0), ValueError, "num_hidden=0"),
        (lambda: MAF(4, num_hidden=0), ValueError, "num_hidden=0"),
        (lambda: RealNVP(4, dropout=1.0), ValueError, "dropout=1.0"),
        (lambda: MAF(0), ValueError, "num_features=0"),
        (lambda: SplineFlow(4, num_bins=1), ValueError, "num_bins=1"),
        (lambda: SplineFlow(4, num_bins=101), ValueError, "num_bins=101"),
        (lambda: SplineFlow(4, bound=0), ValueError, "bound=0"),
        (lambda: Logit(4, eps=0.5), ValueError, "eps=0.5"),
        (lambda: Flow([]), TypeError, "layers must be one Bijection or more"),
        (lambda: Flow([nn.Linear(2, 2)]), TypeError, "layers must be one Bijection"),
        (
            lambda: Flow([Reverse(2), Reverse(3)]), ValueError,
            "layers must have equal num_features, got [2, 3]",
        ),
        (lambda: Inverted(nn.Linear(2, 2)), TypeError, "must be a Bijection"),
        (lambda: InvertibleConv1x1(0), ValueError, "num_features=0"),
        (lambda: RealNVP(2).sample(0), ValueError, "count=0"),
        (lambda: Logit(1).inverse(torch.full((1, 1), -0.1)), ValueError, "x must lie between"),
    ],
)  # fmt: skip
def test_bad_arguments_are_refused_by_name(make, error, message):
    with refuses(error, message):
        make()


@every_map
def test_bad_rows_are_refused_by_name(name):
    model = MAKERS[name]()
    for way, letter in ((model.forward, "z"), (model.inverse, "x")):
        with refuses(ValueError, f"{letter} must have shape (n, 4)"):
            way(torch.zeros(2, 3))
        with refuses(TypeError, f"{letter} must be floating point"):
            way(torch.zeros(2, 4, dtype=torch.int64))
        with refuses(TypeError, f"{letter} must be a torch.Tensor"):
            way([[0.0] * 4])


def test_a_spline_wants_as_many_slopes_as_inner_knots():
    w, h, d = raw_spline(3)
    with refuses(ValueError, "slopes must have shape (3, 5), got (3, 6)"):
        spline(torch.zeros(3, dtype=DOUBLE), w, h, w)
    with refuses(ValueError, "heights must have shape (3, 6), got (3, 5)"):
        spline_inverse(torch.zeros(3, dtype=DOUBLE), w, d, d)
