"""Capsules against loops, closed forms, autograd, scipy and scikit-learn's Gaussian mixtures."""

import math
from itertools import product

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.mixture._gaussian_mixture import _estimate_gaussian_parameters
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnlib.train.metrics import parameter_count
from nnlib.vision.capsule import (
    CapsuleNetwork,
    dynamic_routing,
    dynamic_routing_loop,
    em_routing,
    margin_loss,
    routing_entropy,
    squash,
)
from tests.support import Example, refuses

SMALL = {
    "in_channels": 2, "num_classes": 3, "image_size": 8, "channels": 6, "primary_channels": 2,
    "primary_dim": 4, "class_dim": 5, "kernel_size": 3, "iterations": 3, "decoder": [13, 17],
}  # fmt: skip


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(SMALL, (torch.rand(11, 2, 8, 8),))


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ------------------------------------------------------------------ squash


@pytest.mark.equation("capsule-squash")
@pytest.mark.parametrize("scale", [1e-6, 0.1, 1.0, 30.0, 1e6])
def test_squash_is_the_papers_formula(scale):
    s = scale * drawn(7, 4)
    length = s.norm(dim=1, keepdim=True)
    wanted = length**2 / (1 + length**2) * s / length
    torch.testing.assert_close(squash(s), wanted, rtol=1e-13, atol=0)
    torch.testing.assert_close(squash(s.T, dim=0).T, wanted, rtol=1e-13, atol=0)


@pytest.mark.equation("capsule-squash")
def test_squash_of_three_four_is_done_by_hand():
    """Its length is 5, so it becomes 25 / 26."""
    v = squash(torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(v, torch.tensor([15 / 26, 20 / 26]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_squash_holds_at_the_extremes_of_the_format(dtype):
    most, least = torch.finfo(dtype).max, torch.finfo(dtype).tiny
    s = torch.tensor([[most, -most, 0], [least, 0, 0], [0, 0, 0]], dtype=dtype, requires_grad=True)
    v = squash(s)
    v.sum().backward()
    assert torch.isfinite(v).all() and torch.isfinite(s.grad).all()
    torch.testing.assert_close(v[0].norm(), torch.ones((), dtype=dtype), rtol=1e-2, atol=0)
    assert v[0, 0] > 0 > v[0, 1] and not v[2].any()
    assert not torch.isnan(squash(torch.full((2, 3), -0.0))).any()


@pytest.mark.equation("capsule-squash-slope")
@pytest.mark.parametrize("length", [1e-3, 0.3, 1 / math.sqrt(3), 1.0, 8.0])
def test_slope_of_squash_along_and_across_the_vector(length):
    s = F.normalize(drawn(4), dim=0) * length
    slope = torch.autograd.functional.jacobian(squash, s)
    along, across = 2 * length / (1 + length**2) ** 2, length / (1 + length**2)
    torch.testing.assert_close(slope @ s, along * s)
    side = torch.linalg.qr(torch.stack([s, *drawn(3, 4)]).T)[0][:, 1:]
    torch.testing.assert_close(slope @ side, across * side)
    assert not torch.autograd.functional.jacobian(squash, torch.zeros(4)).any()


def test_squash_takes_a_gradient_check():
    torch.autograd.gradcheck(squash, drawn(3, 4).requires_grad_())
    torch.autograd.gradcheck(squash, (5 * drawn(3, 4)).requires_grad_())


# ------------------------------------------------------------------ routing by agreement


@pytest.mark.equation("capsule-coupling", "capsule-sum", "capsule-agreement")
@pytest.mark.parametrize("iterations", [1, 2, 3, 6])
def test_routing_is_the_procedure_step_by_step(iterations):
    """In numpy, with sums over indices, after procedure 1 of the paper."""
    votes = 2 * drawn(3, 5, 4, 6)
    got = dynamic_routing(votes, iterations)
    for at, u in enumerate(votes.numpy()):
        b = np.zeros((5, 4))
        for step in range(iterations):
            c = np.exp(b) / np.exp(b).sum(1, keepdims=True)
            v = np.zeros((4, 6))
            for j in range(4):
                s = sum(c[i, j] * u[i, j] for i in range(5))
                v[j] = (s @ s) / (1 + s @ s) * s / np.sqrt(s @ s)
            if step < iterations - 1:
                for i, j in product(range(5), range(4)):
                    b[i, j] += u[i, j] @ v[j]
        np.testing.assert_allclose(got.capsules[at], v, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(got.couplings[at], c, rtol=1e-12)


@pytest.mark.parametrize("iterations", [1, 3])
def test_routing_is_its_slow_twin_with_its_gradient(iterations):
    votes = drawn(2, 4, 3, 5).requires_grad_()
    weight = drawn(2, 3, 5, seed=1)
    grads = []
    for route in (dynamic_routing, dynamic_routing_loop):
        found = route(votes, iterations)
        grads.append(torch.autograd.grad((found.capsules * weight).sum(), votes)[0])
    torch.testing.assert_close(
        dynamic_routing(votes, iterations), dynamic_routing_loop(votes, iterations)
    )
    torch.testing.assert_close(grads[0], grads[1])
    torch.autograd.gradcheck(lambda u: dynamic_routing(u, iterations).capsules, votes)


@pytest.mark.equation("capsule-coupling", "capsule-agreement")
def test_the_pencil_example_of_the_chapter():
    """Two lower capsules agree on the first upper one, and contradict on the second."""
    votes = torch.tensor([[[[2.0, 0], [0, 2.0]], [[2.0, 0], [0, -2.0]]]])
    logit, lengths = 0.0, []
    for _ in range(3):
        c = 1 / (1 + math.exp(-logit))
        s = 2 * c * 2
        lengths.append(s**2 / (1 + s**2))
        logit += 2 * lengths[-1]
    for r, wanted in enumerate(lengths, 1):
        capsules, couplings = dynamic_routing(votes, r)
        torch.testing.assert_close(capsules[0, 0], torch.tensor([wanted, 0.0]))
        assert not capsules[0, 1].any()
    torch.testing.assert_close(couplings[0, :, 0], torch.tensor([c, c]))
    assert lengths == pytest.approx([0.8, 0.917, 0.938], abs=1e-3)


@pytest.mark.equation("capsule-uniform")
def test_without_routing_votes_are_one_linear_layer():
    u, weight = drawn(6, 5, 4), drawn(5, 3, 4, 2)
    votes = torch.einsum("bip,ijpd->bijd", u, weight)
    s = F.linear(u.flatten(1), weight.permute(1, 3, 0, 2).reshape(3 * 2, 5 * 4)) / 3
    got = dynamic_routing(votes, 1)
    torch.testing.assert_close(got.capsules, squash(s.unflatten(1, (3, 2))))
    torch.testing.assert_close(got.couplings, torch.full_like(got.couplings, 1 / 3))


def test_routing_asks_for_no_order_and_shares_each_capsule_out():
    votes = drawn(2, 6, 3, 4)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    capsules, couplings = dynamic_routing(votes)
    mixed = dynamic_routing(votes[:, order])
    torch.testing.assert_close(mixed.capsules, capsules)
    torch.testing.assert_close(mixed.couplings, couplings[:, order])
    torch.testing.assert_close(couplings.sum(2), torch.ones_like(couplings[:, :, 0]))
    assert (capsules.norm(dim=2) < 1).all()


def test_routing_holds_at_the_extremes():
    capsules, couplings = dynamic_routing(1e30 * torch.ones(1, 3, 2, 4), 2)
    assert torch.isfinite(capsules).all() and torch.isfinite(couplings).all()
    votes = torch.zeros(1, 3, 2, 4, requires_grad=True)
    dynamic_routing(votes).capsules.sum().backward()
    assert torch.isfinite(votes.grad).all()


@pytest.mark.equation("capsule-gradient")
def test_gradient_to_a_vote_with_the_couplings_held():
    votes, weight = drawn(2, 4, 3, 5).requires_grad_(), drawn(2, 3, 5, seed=1)
    couplings = dynamic_routing(votes).couplings.detach()
    s = torch.einsum("bij,bijd->bjd", couplings, votes)
    loss = (squash(s) * weight).sum()
    to_votes, to_s = torch.autograd.grad(loss, (votes, s))
    torch.testing.assert_close(to_votes, couplings.unsqueeze(3) * to_s.unsqueeze(1))


@pytest.mark.equation("capsule-viewpoint")
def test_a_move_of_the_viewer_moves_part_vote_and_whole_alike():
    """With the part's place in the whole fixed, its vote for the whole moves with the whole."""
    turn = math.radians(30)
    move = np.array([[math.cos(turn), -math.sin(turn), 2], [math.sin(turn), math.cos(turn), -1],
                     [0, 0, 1]])  # fmt: skip
    whole, place = drawn(2, 3, 3).numpy()
    whole[2], place[2] = (0, 0, 1), (0, 0, 1)
    part = whole @ place  # the part, as the viewer sees it
    vote = np.linalg.inv(place)  # what is learned: from the part back to the whole
    np.testing.assert_allclose(part @ vote, whole, atol=1e-12)
    np.testing.assert_allclose((move @ part) @ vote, move @ whole, atol=1e-12)


# ------------------------------------------------------------------ entropy


@pytest.mark.equation("capsule-entropy")
def test_entropy_is_scipys():
    c = (3 * drawn(4, 5, 7)).softmax(2)
    wanted = scipy.stats.entropy(c.numpy(), axis=2) / math.log(7)
    np.testing.assert_allclose(routing_entropy(c), wanted, rtol=1e-12)
    one = torch.eye(3).expand(2, 3, 3)
    torch.testing.assert_close(routing_entropy(one), torch.zeros(2, 3))
    torch.testing.assert_close(routing_entropy(torch.full((1, 1, 4), 0.25)), torch.ones(1, 1))


@pytest.mark.equation("capsule-nearly-uniform")
def test_small_logits_take_little_entropy():
    """The error of the second-order form falls with the third power of the logits."""
    b = drawn(1, 1, 10)
    errors = []
    for size in (0.1, 0.05):
        about = 1 - (size * b).var(2, unbiased=False) / (2 * math.log(10))
        errors.append((routing_entropy((size * b).softmax(2)) - about).abs().item())
    assert errors[0] < 1e-4
    assert errors[1] < errors[0] / 6  # 8, and terms of higher order


# ------------------------------------------------------------------ EM routing


@pytest.mark.equation("capsule-em-mean", "capsule-em-variance", "capsule-em-assign")
def test_em_routing_fits_gaussians_as_scikit_learn_does():
    votes, active = drawn(2, 9, 3, 4), drawn(2, 9).sigmoid()
    zero = torch.zeros(3, dtype=torch.float64)
    got = em_routing(votes, active, zero, zero, iterations=2)
    first = em_routing(votes, active, zero, zero, iterations=1)
    for b in range(2):
        r = np.full((9, 3), 1 / 3)
        log = np.zeros((9, 3))
        for j in range(3):
            weight = (r[:, j] * active[b].numpy())[:, None]
            x = votes[b, :, j].numpy()
            _, mean, variance = _estimate_gaussian_parameters(x, weight, 0.0, "diag")
            np.testing.assert_allclose(first.poses[b, j], mean[0], rtol=1e-10)
            log[:, j] = scipy.stats.multivariate_normal.logpdf(x, mean[0], np.diag(variance[0]))
        likely = np.exp(log) * first.activations[b].numpy()
        r = likely / likely.sum(1, keepdims=True)
        np.testing.assert_allclose(got.assignments[b], r, rtol=1e-8)
        for j in range(3):
            weight = (r[:, j] * active[b].numpy())[:, None]
            x = votes[b, :, j].numpy()
            _, mean, _ = _estimate_gaussian_parameters(x, weight, 0.0, "diag")
            np.testing.assert_allclose(got.poses[b, j], mean[0], rtol=1e-8)


@pytest.mark.equation("capsule-em-cost", "capsule-em-activation")
def test_em_routing_activates_by_the_cost_of_a_description():
    votes, active = drawn(2, 6, 3, 4), drawn(2, 6).sigmoid()
    beta_u, beta_a = drawn(3, seed=1), 5 * drawn(3, seed=2)
    got = em_routing(votes, active, beta_u, beta_a, 1, temperature=2.0)
    for b, j in product(range(2), range(3)):
        weight = active[b] / 3
        mean = (weight[:, None] * votes[b, :, j]).sum(0) / weight.sum()
        variance = (weight[:, None] * (votes[b, :, j] - mean) ** 2).sum(0) / weight.sum()
        cost = sum((beta_u[j] + math.log(math.sqrt(v))) * weight.sum() for v in variance)
        wanted = 1 / (1 + math.exp(-(beta_a[j] - cost) / 2.0))
        assert got.activations[b, j].item() == pytest.approx(wanted, rel=1e-9)


def test_em_routing_finds_the_capsule_whose_votes_cluster():
    tight = torch.tensor([1.0, -2.0]) + 0.01 * drawn(1, 8, 1, 2).float()
    loose = 3 * drawn(1, 8, 1, 2, seed=1).float()
    zero = torch.zeros(2)
    got = em_routing(torch.cat([tight, loose], 2), torch.ones(1, 8), zero, zero)
    assert got.activations[0, 0] > 0.99 > 0.5 > got.activations[0, 1]
    assert (got.assignments[0, :, 0] > 0.9).all()
    torch.testing.assert_close(got.poses[0, 0], torch.tensor([1.0, -2.0]), atol=0.03, rtol=0)


def test_em_routing_holds_at_the_extremes():
    votes = torch.ones(1, 4, 2, 3, requires_grad=True)  # no spread at all
    zero = torch.zeros(2)
    for active in (torch.ones(1, 4), torch.zeros(1, 4)):
        got = em_routing(votes, active, zero, zero)
        assert all(torch.isfinite(part).all() for part in got)
        (grad,) = torch.autograd.grad(sum(part.sum() for part in got), votes)
        assert torch.isfinite(grad).all()


# ------------------------------------------------------------------ the loss


@pytest.mark.equation("capsule-margin-loss")
def test_margin_loss_is_the_sum_over_classes():
    lengths = drawn(40, 5).sigmoid()
    y = torch.arange(40) % 5
    total = 0.0
    for row, right in zip(lengths.tolist(), y.tolist(), strict=True):
        for k, length in enumerate(row):
            if k == right:
                total += max(0.0, 0.9 - length) ** 2
            else:
                total += 0.5 * max(0.0, length - 0.1) ** 2
    assert margin_loss(lengths, y).item() == pytest.approx(total / 40, rel=1e-12)


@pytest.mark.equation("capsule-margin-loss")
def test_margin_loss_by_hand_and_with_two_classes_present():
    lengths = torch.tensor([[0.7, 0.3, 0.05]])
    assert margin_loss(lengths, torch.tensor([0])).item() == pytest.approx(0.2**2 + 0.5 * 0.2**2)
    both = torch.tensor([[True, True, False]])
    assert margin_loss(lengths, both).item() == pytest.approx(0.2**2 + 0.6**2)
    one = F.one_hot(torch.tensor([2]), 3).bool()
    assert margin_loss(lengths, one) == margin_loss(lengths, torch.tensor([2]))
    done = torch.tensor([[0.95, 0.1, 0.0]])
    assert margin_loss(done, torch.tensor([0])) == 0
    other = margin_loss(lengths, torch.tensor([0]), upper=0.8, lower=0.2, down_weight=1.0)
    assert other.item() == pytest.approx(0.1**2 + 0.1**2)


@pytest.mark.equation("capsule-length")
def test_the_length_has_a_gradient_even_where_it_is_zero():
    model = CapsuleNetwork(**SMALL)
    with torch.no_grad():
        model.weight.zero_()
    lengths = model(torch.rand(2, 2, 8, 8)).lengths
    margin_loss(lengths, torch.tensor([0, 1])).backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
    capsules = squash(drawn(3, 4))
    torch.testing.assert_close(capsules.square().sum(1).sqrt(), capsules.norm(dim=1))


# ------------------------------------------------------------------ the network


def test_parameters_of_the_paper():
    model = CapsuleNetwork(device="meta")
    assert parameter_count(model) == 8_215_568
    assert parameter_count(model) - parameter_count(model.decoder) == 6_804_224
    assert model.weight.shape == (6 * 6 * 32, 10, 8, 16)
    # 11.36 million for MultiMNIST's 36 × 36, where 10 × 10 places are left
    assert CapsuleNetwork(image_size=36, device="meta").weight.shape[0] == 3200


@pytest.mark.equation("capsule-parameters")
def test_parameters_by_the_formula():
    n, k, c, a, m, p, classes, d = 8, 3, 2, 6, 2, 4, 3, 5
    places = ((n - 2 * k + 1) // 2 + 1) ** 2
    wanted = (k * k * c + 1) * a + (k * k * a + 1) * m * p + places * m * classes * p * d
    model = CapsuleNetwork(**SMALL)
    assert parameter_count(model) - parameter_count(model.decoder) == wanted


@pytest.mark.equation("capsule-primary")
def test_primary_capsules_are_the_maps_cut_into_vectors():
    model = CapsuleNetwork(**SMALL).double()
    x = drawn(3, 2, 8, 8)
    maps = F.conv2d(
        F.conv2d(x, model.convolution.weight, model.convolution.bias).relu(),
        model.primary.weight, model.primary.bias, stride=2,
    )  # fmt: skip
    assert maps.shape == (3, 8, 2, 2)
    wanted = [
        torch.stack([maps[:, 4 * m + p, row, column] for p in range(4)], 1)
        for m, row, column in product(range(2), range(2), range(2))
    ]
    torch.testing.assert_close(model.primaries(x), squash(torch.stack(wanted, 1)))


@pytest.mark.equation("capsule-vote")
def test_each_capsule_votes_with_a_matrix_of_its_own():
    model = CapsuleNetwork(**SMALL).double()
    x = drawn(3, 2, 8, 8)
    u, votes = model.primaries(x), model.votes(x)
    for b, i, j in product(range(3), range(u.shape[1]), range(3)):
        torch.testing.assert_close(votes[b, i, j], model.weight[i, j].T @ u[b, i])


@pytest.mark.equation("capsule-definition")
def test_a_capsule_is_the_squashed_sum_of_its_votes():
    model = CapsuleNetwork(**SMALL).double()
    x = drawn(3, 2, 8, 8)
    u, (capsules, c) = model.primaries(x), model.route(x)
    s = torch.einsum("bij,ijpd,bip->bjd", c, model.weight, u)
    length = s.norm(dim=2, keepdim=True)
    torch.testing.assert_close(capsules, length * s / (1 + length**2))


@pytest.mark.equation("capsule-length")
def test_the_answer_is_the_length_of_each_class_capsule():
    model = CapsuleNetwork(**SMALL).double()
    x = drawn(4, 2, 8, 8)
    capsules = model.route(x).capsules
    lengths = model(x).lengths
    for b, k in product(range(4), range(3)):
        assert lengths[b, k].item() == pytest.approx(math.hypot(*capsules[b, k].tolist()))


@pytest.mark.equation("capsule-decoder")
def test_the_decoder_sees_one_capsule_only():
    model = CapsuleNetwork(**SMALL)
    capsules = model.route(torch.rand(4, 2, 8, 8)).capsules.detach().requires_grad_()
    y = torch.tensor([2, 0, 1, 2])
    drawn_from = model.reconstruct(capsules, y)
    (grad,) = torch.autograd.grad(drawn_from.sum(), capsules)
    assert grad.abs().sum(2).bool().tolist() == F.one_hot(y, 3).bool().tolist()
    mask = torch.zeros(4, 3, 5)
    mask[range(4), y] = 1
    torch.testing.assert_close(model.decoder((capsules * mask).flatten(1)), drawn_from.flatten(1))
    longest = capsules.norm(dim=2).argmax(1)
    torch.testing.assert_close(model.reconstruct(capsules), model.reconstruct(capsules, longest))
    assert (drawn_from >= 0).all() and (drawn_from <= 1).all()


@pytest.mark.equation("capsule-loss", "capsule-reconstruction-loss")
def test_the_whole_loss_of_one_image_by_hand():
    model = CapsuleNetwork(**SMALL).double()
    x, y = drawn(1, 2, 8, 8).sigmoid(), torch.tensor([1])
    lengths, image = model(x, y)
    apart = sum((a - b) ** 2 for a, b in zip(image.flatten(), x.flatten(), strict=True))
    wanted = margin_loss(lengths, y) + 0.0005 * apart
    got = margin_loss(lengths, y) + 0.0005 * F.mse_loss(image, x, reduction="sum")
    torch.testing.assert_close(got, wanted)


@pytest.mark.equation("capsule-flops")
def test_votes_and_routing_take_as_many_operations_as_the_formula_says():
    b, i, j, p, d, r = 2, 6, 3, 4, 5, 3
    u, weight = torch.randn(b, i, p), torch.randn(i, j, p, d)
    with FlopCounterMode(display=False) as counter:
        dynamic_routing(torch.einsum("bip,ijpd->bijd", u, weight), r)
    assert counter.get_total_flops() == b * 2 * i * j * d * (p + 2 * r - 1)


@pytest.mark.parametrize("size", [(8, 3, 32, 8), (16, 5, 32, 8), (28, 9, 64, 32)])
@pytest.mark.parametrize("iterations", [1, 3])
def test_a_network_begins_with_capsules_that_are_neither_dead_nor_full(size, iterations):
    torch.manual_seed(0)
    pixels, kernel, channels, capsules = size
    model = CapsuleNetwork(
        image_size=pixels, kernel_size=kernel, channels=channels, primary_channels=capsules,
        iterations=iterations, decoder=[4],
    )  # fmt: skip
    x = torch.rand(20, 1, pixels, pixels)
    assert 0.2 < model.primaries(x).norm(dim=2).mean() < 0.8
    assert 0.1 < model(x).lengths.mean() < 0.8


def test_a_capsule_network_learns_two_bars():
    """Upright or lying, anywhere but in the last row or column, which stride 2 leaves unread."""
    torch.manual_seed(0)
    x = torch.zeros(14, 1, 8, 8)
    for at in range(7):
        x[at, 0, at], x[7 + at, 0, :, at] = 1, 1
    y = torch.arange(14) // 7
    model = CapsuleNetwork(**(SMALL | {"in_channels": 1, "num_classes": 2}))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        lengths, image = model(x, y)
        loss = margin_loss(lengths, y) + 0.01 * (image - x).square().sum((1, 2, 3)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x).lengths.argmax(1) == y).all()


# ------------------------------------------------------------------ bad input


def test_bad_arguments_are_named():
    votes = torch.zeros(2, 3, 4, 5)
    with refuses(ValueError, "iterations=0 must be an integer ≥ 1"):
        dynamic_routing(votes, 0)
    with refuses(ValueError, "iterations=0 must be an integer ≥ 1"):
        dynamic_routing_loop(votes, 0)
    with refuses(ValueError, "iterations=0 must be an integer ≥ 1"):
        em_routing(votes, torch.ones(2, 3), torch.zeros(4), torch.zeros(4), 0)
    with refuses(ValueError, "iterations=0 must be an integer ≥ 1"):
        CapsuleNetwork(iterations=0)
    with refuses(TypeError, "iterations=2.0 must be an integer"):
        dynamic_routing(votes, 2.0)
    with refuses(ValueError, "votes must have shape (b, i, j, d), got (2, 3, 4)"):
        dynamic_routing(votes[..., 0])
    with refuses(TypeError, "votes must be floating point"):
        dynamic_routing(votes.long())
    with refuses(ValueError, "votes must not be empty but in b, got (2, 0, 4, 5)"):
        dynamic_routing(votes[:, :0])
    with refuses(ValueError, "dim=4 must be an axis of s"):
        squash(votes, 4)
    with refuses(ValueError, "dim=-1 must be an axis of s that is not empty"):
        squash(votes[..., :0])
    with refuses(TypeError, "dim=True must be an integer"):
        squash(votes, True)
    with refuses(TypeError, "s must be floating point"):
        squash(votes.long())
    with refuses(ValueError, "couplings must choose among 2 capsules or more"):
        routing_entropy(torch.ones(1, 3, 1))
    with refuses(ValueError, "beta_u must have shape (4)"):
        em_routing(votes, torch.ones(2, 3), torch.zeros(3), torch.zeros(4))
    with refuses(ValueError, "activations must have shape (2, 3)"):
        em_routing(votes, torch.ones(2, 4), torch.zeros(4), torch.zeros(4))
    with refuses(ValueError, "temperature=0 must be a finite number > 0"):
        em_routing(votes, torch.ones(2, 3), torch.zeros(4), torch.zeros(4), temperature=0)
    lengths = torch.zeros(2, 3)
    with refuses(ValueError, "y must hold classes 0 … 2"):
        margin_loss(lengths, torch.tensor([0, 3]))
    with refuses(ValueError, "y must have shape (2, 3)"):
        margin_loss(lengths, torch.ones(2, 4, dtype=torch.bool))
    with refuses(ValueError, "lower=0.95 must be a finite number ≥ 0 and ≤ 0.9"):
        margin_loss(lengths, torch.tensor([0, 1]), lower=0.95)
    with refuses(ValueError, "down_weight=-1 must be a finite number ≥ 0"):
        margin_loss(lengths, torch.tensor([0, 1]), down_weight=-1)


def test_a_network_refuses_what_does_not_fit():
    with refuses(ValueError, "image_size=16 must be ≥ 17 for two convolutions of kernel_size=9"):
        CapsuleNetwork(image_size=16)
    with refuses(ValueError, "num_classes=1 must be an integer ≥ 2"):
        CapsuleNetwork(num_classes=1)
    with refuses(ValueError, "decoder must hold one number or more"):
        CapsuleNetwork(decoder=[])
    with refuses(TypeError, "decoder='512' must be a sequence of integers"):
        CapsuleNetwork(decoder="512")
    with refuses(ValueError, "decoder[1]=0 must be an integer ≥ 1"):
        CapsuleNetwork(decoder=[4, 0])
    model = CapsuleNetwork(**SMALL)
    with refuses(ValueError, "x must have shape (b, c, 8, 8), got (1, 2, 9, 8)"):
        model(torch.zeros(1, 2, 9, 8))
    with refuses(ValueError, "x must have shape (b, 2, y, x)"):
        model(torch.zeros(1, 1, 8, 8))
    with refuses(TypeError, "x must be floating point"):
        model(torch.zeros(1, 2, 8, 8, dtype=torch.int64))
    with refuses(ValueError, "y must hold classes 0 … 2"):
        model(torch.zeros(1, 2, 8, 8), torch.tensor([3]))
    with refuses(ValueError, "capsules must have shape (b, 3, 5), got (1, 3, 4)"):
        model.reconstruct(torch.zeros(1, 3, 4))
