"""Grids against torch's own, GPTQ against least squares and brute force, students by hand."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.ao.pruning import WeightNormSparsifier
from torch.ao.quantization.observer import MinMaxObserver, PerChannelMinMaxObserver
from torch.nn import functional as F
from torch.nn.utils import prune

from nnlib.language.compression import (
    awq_scales,
    clip_limit,
    dequantize,
    distillation_loss,
    fake_quantize,
    gptq_quantize,
    hold_,
    input_hessian,
    keep_mask,
    layer_error,
    low_rank,
    prune_,
    quantize,
    quantize_linears_,
    smoothing_scales,
    sparse_update,
    wanda_scores,
)
from nnlib.language.llm import LLM
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({}, (torch.randn(3, 5), 0.1 + torch.rand(3, 1), 4))


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=dice(seed), dtype=torch.float64)


def correlated(n, d, seed=0):
    """Inputs of which each is partly a mixture of the others."""
    return normal(n, d, seed=seed) @ (torch.eye(d).double() + normal(d, d, seed=seed + 1) / 2)


# ---------------------------------------------------------------------------------------- the grid
@pytest.mark.equation("compression-quantize", "compression-scale")
@pytest.mark.parametrize("bits", [8, 4, 3, 2])
def test_symmetric_grids_are_torchs_own(bits):
    """Its op is given the step by hand; the largest magnitude is found by its observer."""
    weight, top = normal(6, 40).float(), 2 ** (bits - 1) - 1
    scale = weight.abs().amax(1) / top
    wanted = torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros(6, dtype=torch.int32), 0, -top, top
    )
    torch.testing.assert_close(dequantize(quantize(weight, bits)), wanted)
    observer = PerChannelMinMaxObserver(
        ch_axis=0, dtype=torch.qint8, qscheme=torch.per_channel_symmetric,
        quant_min=-top, quant_max=top,
    )  # fmt: skip
    observer(weight)  # whose 2ᵇ − 1 levels are those from −top to top
    torch.testing.assert_close(observer.calculate_qparams()[0], scale)


@pytest.mark.equation("compression-asymmetric")
@pytest.mark.parametrize("bits", [8, 4, 2])
def test_asymmetric_grids_are_torchs_own(bits):
    x = normal(200).float() + 1.5
    observer = MinMaxObserver(
        dtype=torch.quint8, qscheme=torch.per_tensor_affine, quant_min=0, quant_max=2**bits - 1
    )
    observer(x)
    scale, zero = observer.calculate_qparams()
    wanted = torch.fake_quantize_per_tensor_affine(x, scale.item(), int(zero), 0, 2**bits - 1)
    got = dequantize(quantize(x[None], bits, granularity="tensor", symmetric=False))[0]
    torch.testing.assert_close(got, wanted)


@pytest.mark.equation("compression-noise")
@given(st.integers(0, 10**6), st.sampled_from([2, 3, 4, 6, 8]))
@settings(max_examples=40, deadline=None)
def test_an_error_is_half_a_step_at_most_and_a_twelfth_of_its_square_on_average(seed, bits):
    x = torch.rand(1, 20_000, generator=dice(seed), dtype=torch.float64) * 2 - 1
    q = quantize(x, bits)
    error, step = dequantize(q) - x, float(q.scale.max())
    assert error.abs().max() <= step / 2 * (1 + 1e-9)
    assert math.isclose(error.square().mean(), step**2 / 12, rel_tol=0.1)


@pytest.mark.equation("compression-noise")
def test_each_bit_is_worth_six_decibels():
    x = torch.rand(1, 100_000, generator=dice(), dtype=torch.float64) * 2 - 1

    def decibels(bits):
        error = dequantize(quantize(x, bits)) - x
        return 10 * math.log10(x.square().mean() / error.square().mean())

    assert abs(decibels(8) - decibels(5) - 20 * math.log10((2**8 - 2) / (2**5 - 2))) < 0.1


def test_a_group_is_a_row_of_its_own():
    weight = normal(4, 24)
    grouped = dequantize(quantize(weight, 4, granularity="group", group_size=8))
    apart = dequantize(quantize(weight.reshape(12, 8), 4)).reshape(4, 24)
    torch.testing.assert_close(grouped, apart)


@pytest.mark.equation("compression-bits")
@pytest.mark.parametrize("group_size", [8, 24, 48])
def test_bits_a_weight_are_those_that_are_stored(group_size):
    q = quantize(normal(6, 48).float(), 4, granularity="group", group_size=group_size)
    scale_bits = 8 * q.scale.element_size()
    assert q.bytes * 8 / q.values.numel() == 4 + scale_bits / group_size


@pytest.mark.equation("compression-int-product")
def test_a_product_of_integers_is_that_of_the_rounded_numbers():
    x, weight = normal(5, 16), normal(7, 16)
    qx, qw = quantize(x), quantize(weight)
    whole = qx.values.long() @ qw.values.long().T
    torch.testing.assert_close(whole * qx.scale * qw.scale.T, dequantize(qx) @ dequantize(qw).T)


# --------------------------------------------------------------------------- ranges, and training
@pytest.mark.equation("compression-mse")
@pytest.mark.parametrize("bits", [8, 4, 3])
def test_the_best_limit_is_no_worse_than_any_other(bits):
    x = torch.distributions.StudentT(3.0).sample((5000,)).double()

    def error(limit):
        return (dequantize(quantize(x.clamp(-limit, limit)[None], bits))[0] - x).square().mean()

    best, top = clip_limit(x, bits), float(x.abs().max())
    others = [error(top * share) for share in np.linspace(0.0125, 1, 80)]
    assert error(best) <= min(others) * (1 + 1e-9)
    assert bits == 8 or error(best) < 0.9 * error(top)
    assert clip_limit(x, bits, "absmax") == top


def test_a_percentile_is_numpys():
    x = normal(1001)
    got = clip_limit(x, method="percentile", percentile=99)
    assert abs(got - np.percentile(x.abs().numpy(), 99)) < 0.05
    assert clip_limit(torch.zeros(4)) == 0


@pytest.mark.equation("compression-fake", "compression-straight-through")
@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("affine", [False, True])
def test_faked_numbers_and_their_gradients_are_torchs_own(bits, affine):
    x = (3 * normal(6, 30)).float()
    scale = 0.1 + torch.rand(6, 1, generator=dice()) / bits
    top = 2 ** (bits - 1) - 1
    ends = (0, 2**bits - 1) if affine else (-top, top)
    zero = torch.full((6, 1), float(2 ** (bits - 1) if affine else 0))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    slope = normal(6, 30, seed=5).float()
    got = fake_quantize(ours, scale, bits, zero if affine else None)
    wanted = torch.fake_quantize_per_channel_affine(theirs, scale[:, 0], zero[:, 0].int(), 0, *ends)
    torch.testing.assert_close(got, wanted)
    (got * slope).sum().backward()
    (wanted * slope).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert 0 < (ours.grad != 0).float().mean() <= 1


@pytest.mark.equation("compression-learned-step")
def test_the_gradient_of_a_learned_step_is_torchs_own():
    x, scale = normal(50).float(), torch.tensor([0.3])
    ours, theirs = (scale.clone().requires_grad_() for _ in range(2))
    fake_quantize(x, ours, 3).square().sum().backward()
    torch._fake_quantize_learnable_per_tensor_affine(
        x, theirs, torch.zeros(1), -3, 3, 1.0
    ).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


# ------------------------------------------------------------------------------- outliers
@pytest.mark.equation("compression-smooth")
def test_smoothing_leaves_the_layer_and_evens_out_the_largest():
    x = correlated(60, 8) * torch.tensor([40.0, 1, 1, 1, 1, 1, 1, 1])
    weight = normal(5, 8)
    for strength in (0.0, 0.5, 1.0):
        scales = smoothing_scales(x.abs().amax(0), weight, strength)
        torch.testing.assert_close((x / scales) @ (weight * scales).T, x @ weight.T)
    largest, columns = x.abs().amax(0), weight.abs().amax(0)
    torch.testing.assert_close(smoothing_scales(largest, weight, 0.8), largest**0.8 * columns**-0.2)
    half = smoothing_scales(largest, weight)
    torch.testing.assert_close((x / half).abs().amax(0), (weight * half).abs().amax(0))


@pytest.mark.equation("compression-awq")
def test_awq_is_the_best_power_of_the_mean_magnitudes():
    x = correlated(80, 16) * torch.logspace(0, 2, 16)
    weight = normal(12, 16)

    def error(scales):
        held = dequantize(quantize(weight * scales, 3)) / scales
        return layer_error(weight, held, input_hessian(x))

    mean = x.abs().mean(0)
    found = error(awq_scales(weight, x, 3))
    assert found < error(torch.ones(16))
    every = [error(mean ** (k / 20)) for k in range(20)]
    assert math.isclose(found, min(every), rel_tol=1e-9)


@pytest.mark.equation("compression-mixed")
def test_wide_inputs_apart_are_exact_in_the_sum():
    x, weight = correlated(30, 8), normal(4, 8)
    wide = torch.tensor([True, False, False, True, False, False, False, False])
    apart = x[:, wide] @ weight[:, wide].T + x[:, ~wide] @ weight[:, ~wide].T
    torch.testing.assert_close(apart, x @ weight.T)


# --------------------------------------------------------------------- GPTQ, by the surgeon's rule
@pytest.mark.equation("compression-layer")
def test_the_error_of_a_layer_is_that_of_its_outputs():
    x, weight, other = correlated(30, 6), normal(4, 6), normal(4, 6, seed=9)
    wanted = (x @ weight.T - x @ other.T).square().sum()
    assert math.isclose(layer_error(weight, other, input_hessian(x)), wanted, rel_tol=1e-9)


@pytest.mark.equation("compression-obs", "compression-saliency")
@given(st.integers(0, 10**6), st.integers(2, 7))
@settings(max_examples=40, deadline=None)
def test_the_surgeons_step_is_the_least_squares_of_the_weights_that_are_free(seed, d):
    x, w, goal = correlated(3 * d, d, seed), normal(d, seed=seed), 0.37
    inverse = torch.linalg.inv(input_hessian(x))
    step = -(w[0] - goal) / inverse[0, 0] * inverse[:, 0]
    # By torch's solver: hold weight 0 at its goal, and fit the outputs with the others.
    fitted = torch.linalg.lstsq(x[:, 1:], (x @ w - x[:, 0] * goal)[:, None]).solution[:, 0]
    torch.testing.assert_close((w + step)[1:], fitted, rtol=1e-6, atol=1e-8)
    assert math.isclose(w[0] + step[0], goal, rel_tol=1e-9)
    wanted = (x @ step).square().sum()
    assert math.isclose((w[0] - goal) ** 2 / inverse[0, 0], wanted, rel_tol=1e-7)


def one_by_one(weight, hessian, step, top, order):
    """GPTQ as it is derived: the inverse for the weights left is found anew for each column."""
    w, held = weight.clone(), torch.zeros_like(weight)
    for number, at in enumerate(order):
        left = order[number:]
        inverse = torch.linalg.inv(hessian[left][:, left])
        held[:, at] = (w[:, at] / step).round().clamp(-top, top) * step
        change = -(w[:, at] - held[:, at])[:, None] / inverse[0, 0] * inverse[0]
        w[:, left] += change
    return held


@pytest.mark.equation("compression-cholesky")
@pytest.mark.parametrize("order", ["given", "largest"])
def test_the_cholesky_form_is_the_derivation_one_column_after_another(order):
    x, weight = correlated(60, 9), normal(5, 9)
    hessian, damping = input_hessian(x), 0.02
    got = gptq_quantize(weight, hessian, 3, granularity="tensor", damping=damping, order=order)
    damped = hessian + damping * hessian.diagonal().mean() * torch.eye(9).double()
    columns = list(range(9))
    if order == "largest":
        columns.sort(key=lambda at: -float(hessian[at, at]))
    wanted = one_by_one(weight, damped, weight.abs().max() / 3, 3, columns)
    torch.testing.assert_close(dequantize(got), wanted)


@pytest.mark.equation("compression-cholesky")
@given(st.integers(0, 10**6), st.integers(2, 8))
@settings(max_examples=30, deadline=None)
def test_rows_of_the_factor_are_the_inverses_of_what_is_left(seed, d):
    hessian = input_hessian(correlated(4 * d, d, seed))
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    for j in range(d):
        left = torch.linalg.inv(hessian[j:, j:])
        torch.testing.assert_close(upper[j, j:] * upper[j, j], left[0], rtol=1e-6, atol=1e-9)


@pytest.mark.equation("compression-sum")
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_what_the_steps_lose_adds_up_to_what_the_layer_loses(bits):
    x, weight = correlated(60, 9), normal(5, 9)
    hessian = input_hessian(x) + 0.01 * torch.eye(9).double()
    got = dequantize(gptq_quantize(weight, hessian, bits, damping=1e-12, order="given"))
    upper = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    lost, free = 0.0, weight.clone()
    for j in range(9):
        error = (free[:, j] - got[:, j]) / upper[j, j]
        free -= error[:, None] * upper[j] * (torch.arange(9) >= j)
        lost += float(error.square().sum())
    assert math.isclose(lost, layer_error(weight, got, hessian), rel_tol=1e-6)


def test_gptq_lies_between_the_best_rounding_there_is_and_the_nearest():
    """Brute force over all 3⁶ ways to round a row, for twenty layers."""
    levels = torch.tensor(list(itertools.product([-1.0, 0.0, 1.0], repeat=6)), dtype=torch.float64)
    sums = torch.zeros(3, dtype=torch.float64)
    for seed in range(20):
        hessian = input_hessian(correlated(40, 6, 2 * seed))
        weight = normal(1, 6, seed=seed)
        step = weight.abs().max()
        gptq = layer_error(weight, dequantize(gptq_quantize(weight, hessian, 2)), hessian)
        plain = layer_error(weight, dequantize(quantize(weight, 2)), hessian)
        off = weight - levels * step
        best = float(((off @ hessian) * off).sum(1).min())
        assert best <= gptq * (1 + 1e-9) and best <= plain * (1 + 1e-9)
        sums += torch.tensor([best, gptq, plain], dtype=torch.float64)
    best, gptq, plain = sums.tolist()
    assert best < gptq < 0.75 * plain


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group_size", [None, 4])
def test_gptq_keeps_the_grid_of_rounding(symmetric, group_size):
    grid = {"granularity": "group" if group_size else "row", "group_size": group_size}
    x, weight = correlated(50, 12).float(), normal(5, 12).float()
    plain = quantize(weight, 3, symmetric=symmetric, **grid)
    got = gptq_quantize(weight, input_hessian(x), 3, symmetric=symmetric, **grid)
    assert torch.equal(got.scale, plain.scale) and got.bytes == plain.bytes
    assert got.values.dtype == plain.values.dtype and got.bits == 3
    errors = [layer_error(weight, dequantize(q), input_hessian(x)) for q in (got, plain)]
    assert errors[0] < errors[1]


def test_independent_inputs_leave_nothing_to_make_up_for():
    weight = normal(5, 8)
    hessian = torch.diag(torch.rand(8, generator=dice(), dtype=torch.float64) + 0.1)
    assert torch.equal(gptq_quantize(weight, hessian, 3).values, quantize(weight, 3).values)
    assert torch.equal(  # no input at all
        gptq_quantize(weight, torch.zeros(8, 8).double(), 3).values, quantize(weight, 3).values
    )


# ---------------------------------------------------------------------------------------- pruning
def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))


@pytest.mark.equation("compression-prune")
@pytest.mark.parametrize("share", [0.0, 0.3, 0.75])
def test_pruning_by_magnitude_is_torchs_own(share):
    for pattern in ("model", "all"):
        ours, theirs = net(), net()
        prune_(ours, share, pattern)
        parts = [(layer, "weight") for layer in theirs if isinstance(layer, nn.Linear)]
        if pattern == "model":
            prune.global_unstructured(parts, prune.L1Unstructured, amount=share)
        else:
            for layer, name in parts:
                prune.l1_unstructured(layer, name, amount=share)
        for layer, _ in parts:
            prune.remove(layer, "weight")
        torch.testing.assert_close(ours.state_dict(), dict(theirs.state_dict()))


@pytest.mark.equation("compression-two-of-four")
def test_two_of_four_is_torchs_own():
    ours, theirs = net(), net()
    prune_(ours, pattern="2:4")
    sparsifier = WeightNormSparsifier(1.0, (1, 4), 2)
    sparsifier.prepare(theirs, [{"tensor_fqn": "0.weight"}, {"tensor_fqn": "2.weight"}])
    sparsifier.step()
    sparsifier.squash_mask()
    for at in (0, 2):
        torch.testing.assert_close(ours[at].weight, theirs[at].weight)
        assert (ours[at].weight.unflatten(1, (-1, 4)) != 0).sum(-1).eq(2).all()


@given(st.integers(0, 10**6), st.floats(0, 0.99))
@settings(max_examples=40, deadline=None)
def test_what_stays_is_larger_than_what_goes_by_brute_force(seed, share):
    scores = normal(4, 6, seed=seed).abs()
    for pattern, rows in (("all", [scores.flatten()]), ("row", list(scores))):
        kept = keep_mask(scores, share, pattern)
        masks = [kept.flatten()] if pattern == "all" else list(kept)
        for row, mask in zip(rows, masks, strict=True):
            assert int((~mask).sum()) == round(share * len(row))
            if mask.any() and not mask.all():
                assert row[mask].min() >= row[~mask].max()


def test_one_of_four_and_three_of_four_are_no_two_of_four():
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0, 1.0, 2.0, 3.0, 4.0]])
    assert keep_mask(scores, pattern="1:4").long().tolist() == [[1, 0, 0, 0, 0, 0, 0, 1]]
    assert keep_mask(scores, pattern="3:4").long().tolist() == [[1, 1, 1, 0, 0, 1, 1, 1]]


def test_pruned_weights_stay_zero_in_training_and_a_copy_is_free():
    model, copied = net(), None
    kept = prune_(model, 0.6)
    copied = copy.deepcopy(model)
    for trained in (model, copied):
        optimizer = torch.optim.AdamW(trained.parameters(), lr=0.1)
        for step in range(5):
            optimizer.zero_grad()
            trained(normal(20, 12, seed=step).float()).square().mean().backward()
            optimizer.step()
    for name, mask in kept.items():
        assert (model.get_parameter(name)[~mask] == 0).all()
        assert (model.get_parameter(name)[mask] != 0).all()
        assert (copied.get_parameter(name)[~mask] != 0).any()
    fresh = net(1)
    hold_(fresh, kept)  # as a lottery ticket is: the mask on other weights
    assert all((fresh.get_parameter(name) == 0).eq(~mask).all() for name, mask in kept.items())


@pytest.mark.equation("compression-wanda")
def test_wandas_score_is_what_the_output_loses_without_one_weight():
    x, weight = correlated(40, 6), normal(3, 6)
    got = wanda_scores(weight, x)
    for i, j in itertools.product(range(3), range(6)):
        without = weight.clone()
        without[i, j] = 0
        lost = (x @ weight.T - x @ without.T).norm()
        assert math.isclose(got[i, j], lost, rel_tol=1e-9)


def test_scores_of_ones_own_decide():
    model = net()
    scores = {f"{at}.weight": torch.rand_like(model[at].weight) for at in (0, 2)}
    kept = prune_(model, 0.5, "row", scores=scores)
    for name, mask in kept.items():
        assert torch.equal(mask, keep_mask(scores[name], 0.5, "row"))


@pytest.mark.equation("compression-obs")
def test_weights_that_stay_come_near_the_least_squares_of_their_row():
    """SparseGPT never moves what was passed already; the exact fit of each row bounds it."""
    x, weight = correlated(200, 10), normal(6, 10)
    hessian, kept = input_hessian(x), keep_mask(weight.abs(), 0.5, "row")
    got = sparse_update(weight, kept, hessian, damping=1e-9)
    assert ((got == 0) | kept).all() and (got[~kept] == 0).all()
    exact = torch.zeros_like(weight)
    for row in range(6):
        exact[row, kept[row]] = torch.linalg.lstsq(
            x[:, kept[row]], (x @ weight[row])[:, None]
        ).solution[:, 0]
    fitted, moved, cut = (layer_error(weight, w, hessian) for w in (exact, got, weight * kept))
    assert fitted <= moved < 0.8 * cut
    same = kept[:1].expand(6, -1)  # one mask for all rows: what goes comes first, and it is exact
    got = sparse_update(weight, same, hessian, damping=1e-12)
    columns = kept[0]
    exact = torch.linalg.lstsq(x[:, columns], x @ weight.T).solution.T
    torch.testing.assert_close(got[:, columns], exact, rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------------------------- distillation
@pytest.mark.equation("compression-soft", "compression-distillation")
@pytest.mark.parametrize("tau", [1.0, 4.0])
def test_the_loss_of_a_student_is_torchs_two(tau):
    student, teacher = normal(7, 5), normal(7, 5, seed=1)
    labels = torch.randint(5, (7,), generator=dice())
    soft = tau**2 * F.kl_div(
        (student / tau).log_softmax(-1), (teacher / tau).softmax(-1), reduction="batchmean"
    )
    hard = F.cross_entropy(student, labels)
    got = distillation_loss(student, teacher, labels, temperature=tau, soft_share=0.7)
    torch.testing.assert_close(got, 0.7 * soft + 0.3 * hard)
    torch.testing.assert_close(distillation_loss(student, teacher, temperature=tau), soft)
    apart = distillation_loss(student.view(7, 1, 5), teacher.view(7, 1, 5), labels.view(7, 1))
    torch.testing.assert_close(apart, distillation_loss(student, teacher, labels))
    single = distillation_loss(student[0], teacher[0], labels[0])
    torch.testing.assert_close(single, distillation_loss(student[:1], teacher[:1], labels[:1]))


@pytest.mark.equation("compression-soft-gradient")
@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_the_gradient_is_the_difference_of_the_softened_probabilities(tau):
    student, teacher = normal(1, 6).requires_grad_(), normal(1, 6, seed=1).requires_grad_()
    distillation_loss(student, teacher, temperature=tau).backward()
    wanted = tau * ((student / tau).softmax(-1) - (teacher / tau).softmax(-1))
    torch.testing.assert_close(student.grad, wanted.detach())
    assert teacher.grad is None


@pytest.mark.equation("compression-hot")
def test_a_hot_student_fits_the_logits_themselves():
    student, teacher = normal(1, 6).requires_grad_(), normal(1, 6, seed=1)
    distillation_loss(student, teacher, temperature=1e4).backward()
    apart = student.detach() - teacher
    torch.testing.assert_close(student.grad, (apart - apart.mean()) / 6, rtol=1e-3, atol=1e-4)
    half = distillation_loss(student, teacher, temperature=1e4).detach()
    wanted = (apart - apart.mean()).square().mean() / 2
    torch.testing.assert_close(half, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.equation("compression-reverse")
def test_reversed_it_is_the_other_divergence():
    student, teacher = normal(7, 5), normal(7, 5, seed=1)
    got = distillation_loss(student, teacher, temperature=1.0, reverse=True)
    p, q = (torch.distributions.Categorical(logits=z) for z in (teacher, student))
    torch.testing.assert_close(got, torch.distributions.kl_divergence(q, p).mean())
    got = distillation_loss(student, teacher, temperature=1.0)
    torch.testing.assert_close(got, torch.distributions.kl_divergence(p, q).mean())


def test_a_loss_at_the_extremes_is_finite():
    far = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    loss = distillation_loss(far, -far.detach(), torch.tensor([1]), temperature=1.0)
    loss.backward()
    assert loss.isfinite() and far.grad.isfinite().all()


# --------------------------------------------------------------------------------------- low rank
@pytest.mark.equation("compression-svd")
@pytest.mark.parametrize("rank", [1, 3, 5])
def test_a_low_rank_is_the_nearest_there_is(rank):
    weight = normal(7, 5)
    left, right = low_rank(weight, rank)
    assert left.shape == (7, rank) and right.shape == (rank, 5)
    rest = np.linalg.svd(weight.numpy(), compute_uv=False)[rank:]
    lost = (weight - left @ right).square().sum()
    assert math.isclose(lost, (rest**2).sum(), rel_tol=1e-9, abs_tol=1e-12)


@pytest.mark.equation("compression-svd")
def test_with_inputs_it_is_the_nearest_output_by_the_svd_of_the_output():
    """X Wᵀ has its own best approximation; one of this rank through X reaches it."""
    x, weight = correlated(40, 6), normal(9, 6)
    hessian = input_hessian(x)
    left, right = low_rank(weight, 2, hessian)
    rest = torch.linalg.svdvals(x @ weight.T)[2:]
    assert math.isclose(
        layer_error(weight, left @ right, hessian), rest.square().sum(), rel_tol=1e-8
    )
    plain = torch.matmul(*low_rank(weight, 2))
    assert layer_error(weight, left @ right, hessian) < layer_error(weight, plain, hessian)


# ---------------------------------------------------------------------------------- a whole model
def test_a_model_in_eight_bits_hardly_changes_and_gptq_is_nearer_in_three():
    torch.manual_seed(0)
    model = LLM(20, 24, 2, 2, 16, tied=True, init_std=0.2).eval()
    ids = torch.randint(20, (30, 16))
    with torch.no_grad():
        wanted = model(ids)
        off = {}
        for bits, x in ((8, None), (3, None), (3, ids[:20])):
            copied = copy.deepcopy(model)
            kept = quantize_linears_(copied, bits, x)
            assert len(kept) == 8 and all(q.bits == bits for q in kept.values())
            for name, q in kept.items():
                assert torch.equal(copied.get_submodule(name).weight, dequantize(q))
            off[bits, x is None] = float((copied(ids[20:]) - wanted[20:]).square().mean())
    assert off[8, True] < 1e-3 * off[3, True] and off[3, False] < off[3, True]


def test_layers_are_treated_in_the_order_of_their_calls_from_what_came_before():
    torch.manual_seed(0)

    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.second, self.first = nn.Linear(6, 4), nn.Linear(5, 6)

        def forward(self, x):
            return self.second(self.first(x))

    model, x = Backwards().double(), correlated(40, 5)
    by_hand = copy.deepcopy(model)
    assert list(quantize_linears_(model, 3, x)) == ["first", "second"]
    with torch.no_grad():
        for layer, read in ((by_hand.first, lambda: x), (by_hand.second, lambda: by_hand.first(x))):
            layer.weight.copy_(dequantize(gptq_quantize(layer.weight, input_hessian(read()), 3)))
    torch.testing.assert_close(model.second.weight, by_hand.second.weight)
    assert model.training and not model.first._forward_pre_hooks


# --------------------------------------------------------------------------------------- bad input
W, EYE, LEFT = torch.ones(2, 3), torch.eye(3), torch.ones(3, 3).tril()
BOOLS = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("call", "error", "told"),
    [
        (lambda: fake_quantize(W, torch.zeros(1, 1)), ValueError, "scale must be > 0"),
        (lambda: fake_quantize(W, torch.ones(3, 1)), ValueError, "scale must broadcast to x"),
        (lambda: fake_quantize(W, torch.ones(1, 1), 9), ValueError, "bits=9"),
        (lambda: fake_quantize(W * math.nan, torch.ones(1, 1)), ValueError, "x must be finite"),
        (lambda: quantize(W, 1), ValueError, "bits=1"),
        (lambda: quantize(W, granularity="group", group_size=2), ValueError, "group_size=2"),
        (lambda: input_hessian(torch.ones(3)), ValueError, "x must have rows"),
        (lambda: input_hessian(torch.ones(0, 3)), ValueError, "x must not be empty"),
        (lambda: gptq_quantize(W, torch.eye(2)), ValueError, "hessian must have shape (3, 3)"),
        (lambda: gptq_quantize(W, EYE, damping=0.0), ValueError, "damping=0.0"),
        (lambda: gptq_quantize(W, EYE, order="best"), ValueError, "order='best'"),
        (lambda: gptq_quantize(W, LEFT), ValueError, "hessian must be symmetric"),
        (lambda: gptq_quantize(W * math.inf, EYE), ValueError, "weight must be finite"),
        (lambda: gptq_quantize(W, EYE, 12), ValueError, "bits=12"),
        (lambda: sparse_update(W, W, EYE), TypeError, "kept must hold True"),
        (lambda: layer_error(W, W[:1], EYE), ValueError, "changed must have shape"),
        (lambda: keep_mask(W, 1.0), ValueError, "share=1.0"),
        (lambda: keep_mask(W, pattern="2:4"), ValueError, "does not divide 3"),
        (lambda: keep_mask(W, pattern="4:2"), ValueError, "pattern='4:2'"),
        (lambda: keep_mask(W, pattern="some"), ValueError, "pattern='some'"),
        (lambda: wanda_scores(W, torch.ones(4, 2)), ValueError, "x must have rows of 3"),
        (lambda: prune_(nn.ReLU()), ValueError, "no linear"),
        (lambda: prune_(3), TypeError, "model must be"),
        (lambda: prune_(net(), scores={}), ValueError, "scores must name"),
        (lambda: hold_(net(), {"9.weight": BOOLS}), ValueError, "'9.weight'"),
        (lambda: hold_(nn.Linear(3, 2), {"weight": W}), TypeError, "must be of bools"),
        (lambda: distillation_loss(W, W, temperature=0.0), ValueError, "temperature=0.0"),
        (lambda: distillation_loss(W, W[:1]), ValueError, "teacher_logits must have shape"),
        (lambda: distillation_loss(W, W, soft_share=1.5), ValueError, "soft_share=1.5"),
        (
            lambda: distillation_loss(W, W, torch.tensor([0, 3])),
            ValueError,
            "labels must hold classes 0 … 2",
        ),
        (lambda: distillation_loss(W * math.nan, W), ValueError, "student_logits must be finite"),
        (lambda: low_rank(W, 0), ValueError, "rank=0"),
        (lambda: low_rank(W, 3), ValueError, "rank=3"),
        (lambda: low_rank(W, 1, torch.zeros(3, 3)), ValueError, "positive definite"),
        (lambda: clip_limit(W, method="best"), ValueError, "method='best'"),
        (lambda: clip_limit(W, method="percentile", percentile=0.0), ValueError, "percentile=0.0"),
        (lambda: clip_limit(W[:0]), ValueError, "x must not be empty"),
        (lambda: smoothing_scales(torch.zeros(3), W), ValueError, "largest must be > 0"),
        (lambda: smoothing_scales(torch.ones(3), W, 2.0), ValueError, "strength=2.0"),
        (lambda: awq_scales(W, torch.ones(4, 2)), ValueError, "x must have rows of 3"),
        (lambda: quantize_linears_(nn.ReLU()), ValueError, "no nn.Linear"),
        (lambda: quantize_linears_(W), TypeError, "model must be"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_named(call, error, told):
    with refuses(error, told):
        call()


def test_a_layer_that_the_batch_does_not_reach_is_named():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.spare = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.used(x)

    with refuses(ValueError, "does not reach ['spare']"):
        quantize_linears_(Half(), 4, torch.randn(5, 3))
