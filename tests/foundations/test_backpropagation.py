"""Backpropagation against autograd, finite differences, counted FLOPs and measured memory."""

import itertools
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from nnlib.foundations.backpropagation import (
    backpropagate,
    checkpointed,
    finite_differences,
    jacobian_vector,
    matmul_flops,
    network_loss,
    softmax_vjp,
    vector_jacobian,
)
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    weights, biases = [torch.randn(6, 4), torch.randn(3, 6)], [torch.randn(6), torch.randn(3)]
    return Example(inputs=(weights, biases, torch.randn(5, 4), torch.tensor([0, 2, 1, 1, 0])))


SIZES = [(4, 3), (5, 7, 3), (6, 9, 8, 2), (3, 5, 5, 5, 5, 4)]


def network(sizes, n=6, seed=0, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o, i, generator=g, dtype=dtype) for i, o in itertools.pairwise(sizes)]
    biases = [torch.randn(o, generator=g, dtype=dtype) for o in sizes[1:]]
    x = torch.randn(n, sizes[0], generator=g, dtype=dtype)
    return weights, biases, x, torch.randint(sizes[-1], (n,), generator=g)


def torch_scores(weights, biases, x, record=None):
    """The same network on torch's own layers; `record` receives every score, with its gradient."""
    for at, (w, b) in enumerate(zip(weights, biases, strict=True)):
        z = F.linear(x, w, b)
        if record is not None:
            z.retain_grad()
            record.append(z)
        x = F.relu(z) if at + 1 < len(weights) else z
    return x


def by_autograd(weights, biases, x, targets):
    weights = [w.clone().requires_grad_() for w in weights]
    biases = [b.clone().requires_grad_() for b in biases]
    record = []
    loss = F.cross_entropy(torch_scores(weights, biases, x, record), targets)
    loss.backward()
    return loss, [w.grad for w in weights], [b.grad for b in biases], [z.grad for z in record]


def assert_same(got, wanted, atol=1e-12):
    for one, other in zip(got, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=atol)


@pytest.mark.equation("backpropagation-forward", "backpropagation-loss")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_loss_is_torchs_cross_entropy_of_torchs_layers(sizes):
    weights, biases, x, y = network(sizes)
    wanted = F.cross_entropy(torch_scores(weights, biases, x), y)
    torch.testing.assert_close(network_loss(weights, biases, x, y), wanted)
    torch.testing.assert_close(backpropagate(weights, biases, x, y)[0], wanted)


@pytest.mark.equation(
    "backpropagation-weight-gradient", "backpropagation-bias-gradient", "backpropagation-batch"
)
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("n", [1, 6])
def test_gradients_are_autograds(sizes, n):
    args = network(sizes, n)
    _, dw, db = backpropagate(*args)
    _, wanted_dw, wanted_db, _ = by_autograd(*args)
    assert_same(dw, wanted_dw)
    assert_same(db, wanted_db)


@pytest.mark.equation("backpropagation-recursion")
def test_two_numbers_a_layer_give_its_gradient_as_autograd_finds_it():
    """The recursion with tanh, which the library does not have, on one example."""
    sizes, x = (3, 5, 4, 2), torch.randn(3, dtype=torch.float64)
    pairs = itertools.pairwise(sizes)
    weights = [torch.randn(o, i).double().requires_grad_() for i, o in pairs]
    z, a = [], [x]
    for w in weights:
        z.append(w @ a[-1])
        a.append(z[-1].tanh())
    loss = a[-1].square().sum()
    wanted = torch.autograd.grad(loss, [*z, *weights])
    delta = 2 * a[-1] * (1 - a[-1] ** 2)
    for at in reversed(range(len(weights))):
        torch.testing.assert_close(delta, wanted[at])
        torch.testing.assert_close(torch.outer(delta, a[at]), wanted[len(z) + at])
        if at:
            delta = (weights[at].T @ delta) * (1 - a[at] ** 2)


@pytest.mark.equation("backpropagation-descent")
def test_a_small_step_against_the_gradient_lowers_the_loss_by_its_square():
    """To first order the loss falls by η times the squared length of the gradient."""
    weights, biases, x, y = network((5, 7, 3))
    loss, dw, db = backpropagate(weights, biases, x, y)
    square = sum(g.square().sum() for g in dw + db)
    eta = 1e-6
    moved = [
        [p - eta * g for p, g in zip(part, slopes, strict=True)]
        for part, slopes in ((weights, dw), (biases, db))
    ]
    after = network_loss(*moved, x, y)
    torch.testing.assert_close((loss - after) / eta, square, rtol=1e-3, atol=0)


@pytest.mark.equation("backpropagation-error", "backpropagation-delta")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_errors_of_one_example_are_the_derivatives_in_the_scores(sizes):
    """For one example the gradient of a bias is the layer's error; the recursion by loops."""
    args = weights, biases, x, _ = network(sizes, n=1)
    _, _, deltas = backpropagate(*args)
    assert_same(deltas, [d[0] for d in by_autograd(*args)[3]])
    scores = []
    for w, b in zip(weights, biases, strict=True):
        a = scores[-1].clamp(min=0) if scores else x[0]
        scores.append(w @ a + b)
    for layer in range(len(weights) - 1):
        by_hand = [
            sum(w * d for w, d in zip(column, deltas[layer + 1], strict=True)) * float(z > 0)
            for column, z in zip(weights[layer + 1].T, scores[layer], strict=True)
        ]
        torch.testing.assert_close(deltas[layer], torch.stack(by_hand))


@pytest.mark.equation("backpropagation-output-delta")
def test_output_error_is_the_softmax_jacobian_times_the_slope_of_the_loss():
    weights, biases, x, y = network((4, 3), n=1)
    _, _, (delta,) = backpropagate(weights, biases, x, y)
    z = (x @ weights[0].T + biases[0])[0]
    p = z.softmax(0)
    torch.testing.assert_close(delta, p - F.one_hot(y[0], 3))
    jacobian = torch.autograd.functional.jacobian(lambda z: z.softmax(0), z)
    slope = -F.one_hot(y[0], 3) / p
    torch.testing.assert_close(delta, jacobian.T @ slope)


@pytest.mark.equation("backpropagation-batch")
def test_batch_averages_what_single_examples_give():
    weights, biases, x, y = network((5, 7, 3))
    _, dw, db = backpropagate(weights, biases, x, y)
    single = [backpropagate(weights, biases, x[i : i + 1], y[i : i + 1])[1:] for i in range(len(x))]
    for layer in range(2):
        mean_w = torch.stack([w[layer] for w, _ in single]).mean(0)
        mean_b = torch.stack([b[layer] for _, b in single]).mean(0)
        assert_same([dw[layer], db[layer]], [mean_w, mean_b])


def test_gradients_agree_with_finite_differences():
    weights, biases, x, y = network((5, 7, 3))
    _, dw, db = backpropagate(weights, biases, x, y)
    before = [p.clone() for p in weights + biases]
    estimate = finite_differences(lambda: network_loss(weights, biases, x, y), weights + biases)
    assert_same(estimate, dw + db, atol=1e-8)
    assert all(torch.equal(a, b) for a, b in zip(before, weights + biases, strict=True))


@pytest.mark.equation("backpropagation-finite-difference")
def test_central_difference_is_exact_for_squares_and_of_second_order_for_others():
    t = torch.tensor([[3.0, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(
        finite_differences(lambda: (t**2).sum(), [t], 0.5)[0], 2 * t, rtol=0, atol=1e-13
    )
    s = torch.zeros((), dtype=torch.float64)
    coarse, fine = (float(finite_differences(s.exp, [s], h)[0]) - 1 for h in (0.1, 0.05))
    assert coarse / fine == pytest.approx(4, abs=0.01)
    one_sided = [
        float(finite_differences(s.exp, [s], h, central=False)[0]) - 1 for h in (0.1, 0.05)
    ]
    assert one_sided[0] / one_sided[1] == pytest.approx(2, abs=0.1)
    assert s.item() == 0


@pytest.mark.equation("backpropagation-difference-error")
def test_error_of_a_difference_is_curvature_plus_rounding():
    """exp at 1: the value and its third derivative are both e."""
    t, e = torch.ones((), dtype=torch.float64), torch.e
    eps = torch.finfo(torch.float64).eps
    steps = [10 ** (-k / 2) for k in range(2, 25)]
    errors = [abs(float(finite_differences(t.exp, [t], h)[0]) - e) for h in steps]
    for h, error in zip(steps, errors, strict=True):
        # 1 ± h is itself rounded, which moves the nudge by up to ε/2 and the estimate by ε e / h
        assert error <= 1.01 * (h**2 / 6 * e + 2 * eps * e / h)
    best = (3 * eps) ** (1 / 3)
    assert best / 30 < steps[errors.index(min(errors))] < best * 30
    assert errors[0] > 1e3 * min(errors) and errors[-1] > 1e3 * min(errors)


def test_a_loss_that_raises_leaves_the_parameters_as_they_were():
    t = torch.tensor([1.0, 2.0])

    def breaks():
        raise RuntimeError("no loss")

    with pytest.raises(RuntimeError, match="no loss"):
        finite_differences(breaks, [t])
    assert t.tolist() == [1.0, 2.0]


@pytest.mark.equation("backpropagation-directional")
def test_two_losses_check_the_whole_gradient_along_one_direction():
    weights, biases, x, y = network((5, 7, 3))
    _, dw, db = backpropagate(weights, biases, x, y)
    u = [torch.randn_like(p) for p in weights + biases]
    slope = sum((g * d).sum() for g, d in zip(dw + db, u, strict=True))

    def moved(h):
        w = [p + h * d for p, d in zip(weights, u, strict=False)]
        b = [p + h * d for p, d in zip(biases, u[len(weights) :], strict=True)]
        return network_loss(w, b, x, y)

    torch.testing.assert_close((moved(1e-5) - moved(-1e-5)) / 2e-5, slope, rtol=1e-7, atol=1e-9)


@pytest.mark.equation("backpropagation-paths")
def test_error_is_the_sum_over_all_paths():
    weights, biases, x, y = network((3, 4, 4, 3), n=1)
    _, _, deltas = backpropagate(weights, biases, x, y)
    a1 = (x[0] @ weights[0].T + biases[0]).relu()
    a2 = (a1 @ weights[1].T + biases[1]).relu()
    total = torch.zeros(4, dtype=torch.float64)
    for i, j, k in itertools.product(range(4), range(4), range(3)):
        slopes = float(a1[i] > 0) * float(a2[j] > 0)
        total[i] += slopes * weights[1][j, i] * weights[2][k, j] * deltas[2][k]
    torch.testing.assert_close(deltas[0], total)


@pytest.mark.equation("backpropagation-jacobian", "backpropagation-vjp", "backpropagation-jvp")
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_both_modes_multiply_by_autograds_jacobian(sizes):
    weights, biases, x, _ = network(sizes, n=1)
    x = x[0]
    wanted = torch.autograd.functional.jacobian(lambda x: torch_scores(weights, biases, x), x)
    v = torch.randn(sizes[-1], dtype=torch.float64)
    u = torch.randn(sizes[0], dtype=torch.float64)
    torch.testing.assert_close(vector_jacobian(weights, biases, x, v), v @ wanted)
    torch.testing.assert_close(jacobian_vector(weights, biases, x, u), wanted @ u)
    product, a = weights[0], x
    for layer in range(1, len(weights)):
        a = (weights[layer - 1] @ a + biases[layer - 1]).relu()
        product = weights[layer] @ torch.diag((a > 0).double()) @ product
    torch.testing.assert_close(product, wanted)


@pytest.mark.equation("backpropagation-softmax-vjp")
def test_softmax_product_is_the_one_with_its_whole_jacobian():
    z, v = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    z.requires_grad_()
    p = z.softmax(1)
    (wanted,) = torch.autograd.grad(p, z, v)
    torch.testing.assert_close(softmax_vjp(p.detach(), v), wanted)
    elementwise = (v * p * (1 - p)).detach()
    assert (elementwise - wanted).abs().max() > 0.05


@pytest.mark.equation("backpropagation-cost")
@pytest.mark.parametrize("sizes", [*SIZES, (16,) * 9], ids=str)
def test_backward_flops_are_the_counted_ones(sizes):
    weights, biases, x, y = network(sizes, n=5)
    counts = []
    for run in (network_loss, backpropagate):
        with FlopCounterMode(display=False) as counter:
            run(weights, biases, x, y)
        counts.append(counter.get_total_flops())
    forward, backward = matmul_flops(sizes, 5)
    assert counts == [forward, forward + backward]


@pytest.mark.equation("backpropagation-cost")
@pytest.mark.parametrize("depth", [1, 2, 8, 100])
def test_equal_layers_cost_two_less_one_over_the_depth(depth):
    forward, backward = matmul_flops([7] * (depth + 1), 3)
    assert backward / forward == pytest.approx(2 - 1 / depth, rel=1e-15)
    assert depth != 8 or backward / forward == 1.875


@pytest.mark.parametrize("every", [1, 2, 3, 4, 7, 20])
def test_checkpointed_gradients_are_the_same(every):
    args = network((5, 6, 6, 6, 6, 6, 6, 3))
    loss, dw, db = backpropagate(*args)
    got = checkpointed(*args, every=every)
    assert_same([got.loss, *got.weight_grads, *got.bias_grads], [loss, *dw, *db], atol=0)


@pytest.mark.equation("backpropagation-checkpoint")
@pytest.mark.parametrize("depth", [1, 12, 16, 36])
def test_checkpoints_keep_as_many_as_the_formula_says(depth):
    args = network([5] * (depth + 1), n=3)
    kept = {k: checkpointed(*args, every=k) for k in range(1, depth + 1) if depth % k == 0}
    for k, run in kept.items():
        assert run.kept == 3 * 5 * (depth // k + k - 1)
        assert run.kept >= 3 * 5 * (2 * depth**0.5 - 1) - 1e-9
        assert run.recomputed == depth - depth // k
    if depth in (16, 36):
        assert min(kept, key=lambda k: kept[k].kept) ** 2 == depth


class LiveBytes(TorchDispatchMode):
    """Count the bytes of all tensors alive that were made inside."""

    def __init__(self):
        super().__init__()
        self.now = self.most = 0
        self.seen = weakref.WeakKeyDictionary()

    def _free(self, size):
        self.now -= size

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            storage = out.untyped_storage()
            if storage not in self.seen:
                self.seen[storage] = True
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self._free, storage.nbytes())
        return out


def test_checkpointing_saves_memory_that_is_really_allocated():
    args = network([24] * 65, n=200, dtype=torch.float32)
    most = {}
    for every in (1, 8, 64):
        with LiveBytes() as live:
            checkpointed(*args, every=every)
        most[every] = live.most
    with LiveBytes() as live:
        backpropagate(*args)
    layer = 200 * 24 * 4
    gradients = 64 * (24 * 24 + 24) * 4
    assert live.most > 63 * layer
    assert most[1] > 63 * layer
    assert most[8] < 20 * layer + gradients
    assert most[64] > 63 * layer


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    n=st.integers(1, 5),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 1e3]),
    seed=st.integers(0, 10_000),
)
def test_any_shape_and_scale_agrees_with_autograd(sizes, n, scale, seed):
    weights, biases, x, y = network(sizes, n, seed)
    x = x * scale
    loss, dw, db = backpropagate(weights, biases, x, y)
    wanted, wanted_dw, wanted_db, _ = by_autograd(weights, biases, x, y)
    torch.testing.assert_close(loss, wanted.detach())
    for got, want in zip(dw + db, wanted_dw + wanted_db, strict=True):
        assert got.shape == want.shape
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9 * max(scale, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_huge_scores_neither_overflow_nor_lose_the_error(dtype):
    weights, biases = [torch.eye(3, dtype=dtype) * 1e4], [torch.zeros(3, dtype=dtype)]
    x = torch.tensor([[1.0, 0.0, 0.0]], dtype=dtype)
    loss, (dw,), (db,) = backpropagate(weights, biases, x, torch.tensor([1]))
    assert loss.item() == 1e4
    assert db.tolist() == [1.0, -1.0, 0.0]
    assert dw[:, 0].tolist() == [1.0, -1.0, 0.0]
    sure = backpropagate(weights, biases, x, torch.tensor([0]))
    assert sure[0].item() == 0 and sure[2][0].abs().max() == 0


def test_kink_has_slope_zero_as_in_torch():
    args = [torch.ones(2, 1), torch.ones(2, 2)], [torch.zeros(2), torch.zeros(2)]
    x, y = torch.zeros(1, 1), torch.tensor([0])
    assert_same(backpropagate(*args, x, y)[2], by_autograd(*args, x, y)[2])


def test_parameters_that_ask_for_gradients_are_taken_and_left_alone():
    weights, biases, x, y = network((4, 5, 3))
    for p in weights + biases:
        p.requires_grad_()
    _, dw, _ = backpropagate(weights, biases, x, y)
    assert not any(g.requires_grad for g in dw)
    assert all(p.grad is None for p in weights + biases)


W, B, X, Y = network((4, 5, 3))
NAN = X * float("nan")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: backpropagate([], [], X, Y), TypeError, "weights must be a list"),
        (lambda: backpropagate(W[0], B, X, Y), TypeError, "weights must be a list"),
        (lambda: backpropagate(W, B[:1], X, Y), ValueError, "biases must be as many"),
        (lambda: backpropagate(W[::-1], B, X, Y), ValueError, "biases[0] must have shape"),
        (lambda: backpropagate([W[0], W[0]], B, X, Y), ValueError, "weights[1] must have shape"),
        (lambda: backpropagate(W, B, X[:, :3], Y), ValueError, "x must have shape (n, 4)"),
        (lambda: backpropagate(W, B, X[0], Y), ValueError, "x must have shape (n, 4)"),
        (lambda: backpropagate(W, B, X[:0], Y[:0]), ValueError, "x must not be empty"),
        (lambda: backpropagate(W, B, NAN, Y), ValueError, "x must be finite"),
        (lambda: backpropagate(W, B, X.float(), Y), TypeError, "must be torch.float32 as x is"),
        (lambda: backpropagate(W, B, X.long(), Y), TypeError, "x must be floating point"),
        (lambda: backpropagate(W, B, X, Y[:3]), ValueError, "targets must have shape (6)"),
        (lambda: backpropagate(W, B, X, Y + 3), ValueError, "targets must hold classes 0 … 2"),
        (lambda: backpropagate(W, B, X, Y.double()), TypeError, "targets must hold integers"),
        (lambda: network_loss(W, B, X, Y - 3), ValueError, "targets must hold classes"),
        (lambda: checkpointed(W, B, X, Y, 0), ValueError, "every=0"),
        (lambda: checkpointed(W, B, X, Y, 1.5), TypeError, "every=1.5"),
        (lambda: finite_differences(lambda: 0.0, [], 1e-5), ValueError, "parameters must be"),
        (lambda: finite_differences(lambda: 0.0, X, 1e-5), ValueError, "parameters must be"),
        (lambda: finite_differences(lambda: 0.0, [Y]), TypeError, "parameters[0] must be floating"),
        (lambda: finite_differences(0.0, [X]), TypeError, "loss must be a function"),
        (lambda: finite_differences(lambda: 0.0, [X], 0.0), ValueError, "step=0.0"),
        (lambda: vector_jacobian(W, B, X, torch.ones(3)), ValueError, "x must have shape (4)"),
        (lambda: vector_jacobian(W, B, X[0], X[0]), ValueError, "v must have shape (3)"),
        (lambda: jacobian_vector(W, B, X[0], X[0, :2]), ValueError, "u must have shape (4)"),
        (lambda: softmax_vjp(X, X[:2]), ValueError, "v must have shape"),
        (lambda: matmul_flops([3]), ValueError, "two widths"),
        (lambda: matmul_flops([3, 0]), ValueError, "sizes[1]=0"),
        (lambda: matmul_flops([3, 4], 0), ValueError, "n=0"),
    ],
)
def test_bad_input_is_named(call, error, message):
    with refuses(error, message):
        call()
