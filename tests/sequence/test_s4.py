"""State space models against scipy's systems, quadrature, numpy's loops and torch's own parts."""

import math

import numpy as np
import pytest
import scipy.integrate
import scipy.linalg
import scipy.signal
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nnlib.sequence.s4 import (
    INITS,
    METHODS,
    S4D,
    S4Block,
    S4Network,
    causal_convolution,
    diagonal_start,
    discretize,
    dplr_kernel,
    hippo,
    legendre,
    legs_memory,
    nplr,
    parameter_groups,
    ssm_kernel,
    ssm_kernel_reference,
    vandermonde,
)
from nnlib.train.metrics import parameter_count
from tests.support import Example, refuses

DOUBLE = torch.float64
EXACT = {"rtol": 0, "atol": 0}


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"hidden_size": 3, "state_size": 8, "init": "lin", "delta_min": 0.01, "delta_max": 0.2},
        (torch.randn(4, 7, 3),),
    )


def same(got, wanted, atol=1e-12, rtol=0.0):
    got, wanted = (v if isinstance(v, torch.Tensor) else torch.as_tensor(np.asarray(v))
                   for v in (got, wanted))  # fmt: skip
    torch.testing.assert_close(got, wanted, rtol=rtol, atol=atol)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def system(n, seed=0):
    """A stable system with one input and one output, in numpy."""
    A = normal(n, n, seed=seed).numpy()
    A = A - (np.linalg.eigvals(A).real.max() + 0.3) * np.eye(n)
    B, C = normal(n, seed=seed + 1).numpy(), normal(n, seed=seed + 2).numpy()
    return A, B, C, 0.7


def drawn(*sizes, seed=0, **kwargs):
    torch.manual_seed(seed)
    return S4D(*sizes, dtype=DOUBLE, **kwargs)


# ------------------------------------------------------------------------------ continuous time
@pytest.mark.equation("s4-continuous", "s4-solution")
def test_zero_order_hold_is_the_solution_of_the_differential_equation():
    """Integrated by scipy with an input that stands still between samples."""
    A, B, C, D = system(3)
    x, delta, state, outputs = normal(6, seed=5).numpy(), 0.4, np.zeros(3), []
    for value in x:
        solved = scipy.integrate.solve_ivp(
            lambda _, h, value=value: A @ h + B * value, (0, delta), state, rtol=1e-10, atol=1e-12
        )
        closed = (
            scipy.linalg.expm(A * delta) @ state
            + scipy.integrate.quad_vec(
                lambda s, value=value: scipy.linalg.expm(A * (delta - s)) @ B * value, 0, delta
            )[0]
        )
        np.testing.assert_allclose(solved.y[:, -1], closed, atol=1e-8)
        state = solved.y[:, -1]
        outputs.append(C @ state + D * value)
    A_bar, B_bar = discretize(torch.tensor(A), torch.tensor(B), delta)
    K = ssm_kernel(A_bar, B_bar, torch.tensor(C), 6)
    y = causal_convolution(torch.tensor(x).view(1, 6, 1), K[None]).flatten() + D * torch.tensor(x)
    same(y, outputs, atol=1e-8)


@pytest.mark.equation("s4-zoh")
@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 6), delta=st.floats(1e-3, 3), seed=st.integers(0, 99))
def test_zero_order_hold_is_scipys(n, delta, seed):
    A, B, C, D = system(n, seed)
    wanted = scipy.signal.cont2discrete((A, B[:, None], C[None], D), delta, "zoh")
    got = discretize(torch.tensor(A), torch.tensor(B), delta)
    same(got[0], wanted[0], atol=1e-10)
    same(got[1], wanted[1][:, 0], atol=1e-10)
    same(got[0], scipy.linalg.expm(delta * A), atol=1e-10)
    inverse = np.linalg.solve(A, (scipy.linalg.expm(delta * A) - np.eye(n)) @ B)
    same(got[1], inverse, atol=1e-8)


def test_zero_order_hold_in_single_precision_is_rounded_only_once():
    """torch's own exponential would be off by 2e-5 here."""
    A, B = hippo(8, dtype=torch.float32)
    for delta in (0.01, 0.5):
        got = discretize(A, B, delta)
        for mine, wanted in zip(got, discretize(A.double(), B.double(), delta), strict=True):
            assert mine.dtype == torch.float32
            same(mine.double(), wanted, atol=1e-6)


def test_zero_order_hold_takes_a_singular_matrix():
    """An integrator: position and speed of a free mass, Δ and Δ²/2 by hand."""
    A = torch.tensor([[0.0, 1.0], [0.0, 0.0]], dtype=DOUBLE)
    A_bar, B_bar = discretize(A, torch.tensor([0.0, 1.0], dtype=DOUBLE), 0.5)
    same(A_bar, [[1.0, 0.5], [0.0, 1.0]])
    same(B_bar, [0.125, 0.5])


@pytest.mark.equation("s4-gbt")
@settings(max_examples=20, deadline=None)
@given(
    n=st.integers(1, 6), delta=st.floats(1e-3, 1), alpha=st.floats(0, 1), seed=st.integers(0, 99)
)
def test_the_generalised_bilinear_transform_is_scipys(n, delta, alpha, seed):
    A, B, C, D = system(n, seed)
    wanted = scipy.signal.cont2discrete((A, B[:, None], C[None], D), delta, "gbt", alpha)
    got = discretize(torch.tensor(A), torch.tensor(B), delta, alpha)
    same(got[0], wanted[0], atol=1e-9, rtol=1e-9)
    same(got[1], wanted[1][:, 0], atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("euler", "euler"), ("bilinear", "bilinear"), ("backward", "backward_diff")],
)
def test_the_named_methods_are_scipys(ours, theirs):
    A, B, C, D = system(4)
    wanted = scipy.signal.cont2discrete((A, B[:, None], C[None], D), 0.3, theirs)
    got = discretize(torch.tensor(A), torch.tensor(B), 0.3, ours)
    same(got[0], wanted[0])
    same(got[1], wanted[1][:, 0])
    same(torch.stack([*discretize(torch.tensor(A), torch.eye(4).double(), 0.3, ours)]),
         torch.stack([*discretize(torch.tensor(A), torch.eye(4).double(), 0.3, METHODS[ours])]),
         **EXACT)  # fmt: skip


def test_one_formula_for_the_input_holds_for_zero_order_hold_and_bilinear():
    """(ΔA)⁻¹ (Ā − I) ΔB, whichever of the two made Ā."""
    A, B, _, _ = system(4)
    for method, delta in (("zoh", 0.5), ("bilinear", 0.01), ("bilinear", 1.0)):
        A_bar, B_bar = discretize(torch.tensor(A), torch.tensor(B), delta, method)
        wanted = np.linalg.solve(delta * A, (A_bar.numpy() - np.eye(4)) @ (delta * B))
        same(B_bar, wanted, atol=1e-10)


@pytest.mark.equation("s4-scalar-methods", "s4-stability")
@pytest.mark.parametrize("z", [-0.1, -1.0, -3.0, -5.0, 2j, -0.5 + 3j, 0.3 + 1j])
def test_where_each_method_is_stable(z):
    """The region of a method is where |Ā| < 1, with Ā a function of z = ΔA only."""
    A, B = torch.tensor([[z]], dtype=torch.complex128), torch.ones(1, dtype=torch.complex128)
    got = {m: discretize(A, B, 1.0, m)[0].item() for m in ("zoh", *METHODS)}
    wanted = {
        "zoh": np.exp(z), "euler": 1 + z, "bilinear": (1 + z / 2) / (1 - z / 2),
        "backward": 1 / (1 - z),
    }  # fmt: skip
    for method, value in wanted.items():
        assert got[method] == pytest.approx(value, abs=1e-12)
    left = complex(z).real < 0
    assert (abs(got["zoh"]) < 1) == left
    assert (abs(got["euler"]) < 1) == (abs(z + 1) < 1)
    assert (abs(got["backward"]) < 1) == (abs(z - 1) > 1)
    if complex(z).real:
        assert (abs(got["bilinear"]) < 1) == left
    else:
        assert abs(got["bilinear"]) == pytest.approx(1, abs=1e-12)


@pytest.mark.equation("s4-pencil")
def test_the_worked_example_holds():
    A, B = torch.tensor([[-1.0]], dtype=DOUBLE), torch.ones(1, dtype=DOUBLE)
    A_bar, B_bar = discretize(A, B, 0.5)
    assert A_bar.item() == pytest.approx(0.6065, abs=5e-5)
    assert B_bar.item() == pytest.approx(0.3935, abs=5e-5)
    K = ssm_kernel(A_bar, B_bar, B, 3)
    same(K, [0.3935, 0.2387, 0.1447], atol=5e-5)
    _, y, _ = scipy.signal.dlsim(
        scipy.signal.dlti(0.6065, 0.3935, 0.6065, 0.3935, dt=0.5), np.array([1.0, 1.0, 0.0])
    )
    same(y[:, 0], [0.3935, 0.6322, 0.3834], atol=2e-4)
    same(causal_convolution(torch.tensor([1.0, 1, 0]).double().view(1, 3, 1), K[None]).flatten(),
         [0.3935, 0.6321, 0.3834], atol=5e-5)  # fmt: skip
    same([discretize(A, B, 0.5, m)[0].item() for m in ("bilinear", "euler")], [0.6, 0.5])


# ------------------------------------------------------------------ recurrence and convolution
@pytest.mark.equation("s4-recurrence", "s4-unrolled", "s4-kernel", "s4-convolution")
@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 5), steps=st.integers(1, 40), seed=st.integers(0, 99))
def test_the_convolution_with_d_is_scipys_simulation(n, steps, seed):
    """scipy reads its output before a step; fed one step early, it is the same system."""
    A, B, C, D = system(n, seed)
    x, delta = normal(steps, seed=seed + 3), 0.3
    A_bar, B_bar = discretize(torch.tensor(A), torch.tensor(B), delta, "bilinear")
    K = ssm_kernel(A_bar, B_bar, torch.tensor(C), steps)
    y = causal_convolution(x.view(1, -1, 1), K[None]).flatten() + D * x
    # y_k = C (Ā h + B̄ x) + D x: the same system with its output after the step
    after = scipy.signal.dlti(
        A_bar.numpy(), B_bar.numpy()[:, None], (C @ A_bar.numpy())[None],
        C @ B_bar.numpy() + D, dt=delta,
    )  # fmt: skip
    _, wanted, _ = scipy.signal.dlsim(after, x.numpy())
    same(y, wanted[:, 0], atol=1e-9)
    state, by_hand = np.zeros(n), []
    for value in x.numpy():
        state = A_bar.numpy() @ state + B_bar.numpy() * value
        by_hand.append(C @ state + D * value)
    same(y, by_hand, atol=1e-9)


@pytest.mark.equation("s4-doubling")
@pytest.mark.parametrize("length", [0, 1, 2, 3, 7, 64, 100])
def test_the_doubled_kernel_is_that_of_the_powers(length):
    A, B, C, _ = system(4)
    A_bar, B_bar = discretize(torch.tensor(A), torch.tensor(B), 0.2)
    got = ssm_kernel(A_bar, B_bar, torch.tensor(C), length)
    wanted = [C @ np.linalg.matrix_power(A_bar.numpy(), k) @ B_bar.numpy() for k in range(length)]
    same(got, torch.tensor(wanted, dtype=DOUBLE), atol=1e-12)
    same(got, ssm_kernel_reference(A_bar, B_bar, torch.tensor(C), length), atol=1e-12)


@pytest.mark.equation("s4-fft")
@settings(max_examples=25, deadline=None)
@given(steps=st.integers(0, 70), own=st.integers(0, 80), seed=st.integers(0, 99))
def test_the_padded_convolution_is_numpys(steps, own, seed):
    x, kernel = normal(2, steps, 3, seed=seed), normal(3, own, seed=seed + 1)
    got = causal_convolution(x, kernel)
    assert got.shape == x.shape
    for b in range(2 if steps and own else 0):
        for d in range(3):
            wanted = np.convolve(x[b, :, d].numpy(), kernel[d].numpy())[:steps]
            same(got[b, :, d], np.pad(wanted, (0, max(0, steps - len(wanted)))), atol=1e-10)


@pytest.mark.equation("s4-circular")
def test_without_padding_the_end_comes_round_to_the_beginning():
    x, K = normal(32), normal(32, seed=1)
    circular = torch.fft.irfft(torch.fft.rfft(x) * torch.fft.rfft(K), 32)
    wanted = [sum(K[j] * x[(t - j) % 32] for j in range(32)) for t in range(32)]
    same(circular, torch.stack(wanted), atol=1e-10)
    causal = causal_convolution(x.view(1, -1, 1), K[None]).flatten()
    same(circular[-1], causal[-1], atol=1e-10)  # the last step has nothing to come round
    assert (circular - causal).abs().max() > 1


# ------------------------------------------------------------------------------------- HiPPO
def coefficients(signal, n):
    """Of a signal that stands still between samples, over all of its time, by quadrature."""
    t = len(signal)
    nodes, weights = np.polynomial.legendre.leggauss(n + 1)
    total = np.zeros(n)
    for k, value in enumerate(signal):
        s = (k + (nodes + 1) / 2) / t
        for i in range(n):
            p = math.sqrt(2 * i + 1) * scipy.special.eval_legendre(i, 2 * s - 1)
            total[i] += value * (weights * p).sum() / 2 / t
    return total


@pytest.mark.equation("s4-legs", "s4-legs-step", "s4-projection")
def test_the_memory_holds_the_best_polynomial_of_all_that_was_read():
    x, n = normal(23), 9
    states = legs_memory(x, n)
    for t in (1, 2, 5, 23):
        same(states[t - 1], coefficients(x[:t].numpy(), n), atol=1e-9)


@pytest.mark.equation("s4-legt")
def test_the_translated_memory_obeys_its_equation_on_a_polynomial():
    """A signal that the basis holds: coefficients of the last unit of time, by quadrature."""
    n = 6
    A, B = hippo(n, "legt", dtype=DOUBLE)

    def signal(t):
        return 1 - 2 * t + 0.5 * t**3 - 0.2 * t**5

    def held(t):
        nodes, weights = np.polynomial.legendre.leggauss(20)  # exact for these degrees
        s = (nodes + 1) / 2
        basis = [math.sqrt(2 * i + 1) * scipy.special.eval_legendre(i, nodes) for i in range(n)]
        return np.array([(weights / 2 * signal(t - 1 + s) * p).sum() for p in basis])

    for t in (0.3, 1.0, 2.0):
        slope = (held(t + 1e-4) - held(t - 1e-4)) / 2e-4
        same(A.numpy() @ held(t) + B.numpy() * signal(t), slope, atol=1e-5)
    assert (np.linalg.eigvals(A.numpy()).real < 0).all()


@pytest.mark.equation("s4-basis", "s4-reconstruction")
def test_the_basis_is_orthonormal_and_gives_polynomials_back():
    nodes, weights = np.polynomial.legendre.leggauss(20)
    at = torch.tensor((nodes + 1) / 2)
    p = legendre(8, at)
    same(p.T @ (p * torch.tensor(weights / 2)[:, None]), torch.eye(8).double(), atol=1e-12)
    for i in range(8):
        wanted = math.sqrt(2 * i + 1) * scipy.special.eval_legendre(i, 2 * at.numpy() - 1)
        same(p[:, i], wanted)
    assert legendre(1, at).shape == (20, 1)
    f = 1 - 3 * at + 2 * at**4
    c = p.T @ (f * torch.tensor(weights / 2))
    same(p @ c, f, atol=1e-12)


def test_legs_remembers_whatever_the_speed():
    """Twice as slow a signal gives the same coefficients: nothing here knows a time scale."""
    x = normal(11)
    same(legs_memory(x, 7)[-1], legs_memory(x.repeat_interleave(3), 7)[-1], atol=1e-9)


def test_legs_is_lower_triangular_with_minus_one_to_minus_n():
    A, B = hippo(5, dtype=DOUBLE)
    same(A.triu(1), torch.zeros(5, 5).double())
    same(A.diagonal(), [-1.0, -2, -3, -4, -5])
    assert A[2, 1].item() == pytest.approx(-math.sqrt(15))
    assert B[3].item() == pytest.approx(math.sqrt(7))


# ------------------------------------------------------------------- diagonal plus low rank
@pytest.mark.equation("s4-nplr", "s4-skew")
@pytest.mark.parametrize("n", [1, 2, 5, 16, 64])
def test_hippo_is_normal_plus_low_rank(n):
    A, B = hippo(n, dtype=DOUBLE)
    eigenvalues, P, B_there, V = nplr(n)
    same(V @ V.mH, torch.eye(n).to(V), atol=1e-12)
    rebuilt = V @ (torch.diag(eigenvalues) - P[:, None] * P.conj()) @ V.mH
    same(rebuilt, A.to(V), atol=1e-9)
    same(V @ B_there, B.to(V), atol=1e-10)
    p = (torch.arange(n).double() + 0.5).sqrt()
    rest = A + p[:, None] * p + torch.eye(n) / 2
    same(rest, -rest.T)


@pytest.mark.equation("s4-generating", "s4-roots", "s4-woodbury", "s4-resolvent")
@pytest.mark.parametrize("length", [1, 2, 7, 16, 33, 128])
@pytest.mark.parametrize("n", [1, 4, 16])
def test_the_cauchy_kernel_is_the_kernel_of_the_powers(n, length):
    eigenvalues, P, B, V = nplr(n)
    C = normal(n, seed=3).to(V)
    got = dplr_kernel(eigenvalues, P, P, B, C @ V, 0.05, length)
    A_bar, B_bar = discretize(*hippo(n, dtype=DOUBLE), 0.05, "bilinear")
    wanted = ssm_kernel_reference(A_bar, B_bar, C.real, length)
    same(got.real, wanted, atol=1e-9)
    same(got.imag, torch.zeros(length).double(), atol=1e-9)


def test_the_low_rank_need_not_be_symmetric():
    eigenvalues = torch.tensor([-0.5 + 1j, -0.7 - 2j, -0.2 + 0j], dtype=torch.complex128)
    P, Q, B, C = (torch.complex(normal(3, seed=s), normal(3, seed=s + 9)) / 4 for s in range(4))
    A = torch.diag(eigenvalues) - P[:, None] * Q.conj()
    wanted = ssm_kernel_reference(*discretize(A, B, 0.3, "bilinear"), C, 24)
    same(dplr_kernel(eigenvalues, P, Q, B, C, 0.3, 24), wanted, atol=1e-10)
    assert dplr_kernel(eigenvalues, P, Q, B, C, 0.3, 0).shape == (0,)


@pytest.mark.equation("s4-identity")
def test_the_woodbury_identity_inverts_a_diagonal_plus_rank_one():
    d, p, q = (torch.complex(normal(5, seed=s), normal(5, seed=s + 20)) for s in (1, 2, 3))
    whole = torch.linalg.inv(torch.diag(d) + p[:, None] * q.conj())
    inverse = torch.diag(1 / d)
    low = inverse @ p[:, None] * q.conj() @ inverse / (1 + q.conj() @ inverse @ p)
    same(whole, inverse - low, atol=1e-10)


# --------------------------------------------------------------------------------- diagonal
@pytest.mark.equation("s4-diagonal-starts")
def test_the_starts_are_those_of_the_paper():
    legs = diagonal_start(64, "legs")
    wanted = np.linalg.eigvals(hippo(64, dtype=DOUBLE)[0].numpy()
                               + np.outer(*2 * [np.sqrt(np.arange(64) + 0.5)]))  # fmt: skip
    same(legs.imag, np.sort(wanted.imag)[32:], atol=1e-8)
    same(legs.real, torch.full((32,), -0.5).double())
    lin, inv = diagonal_start(64, "lin"), diagonal_start(64, "inv")
    same(lin, [-0.5 + 1j * math.pi * k for k in range(32)])
    same(inv, [-0.5 + 1j * 64 / math.pi * (64 / (2 * k + 1) - 1) for k in range(32)], atol=1e-10)
    # "inv" is a fit to the largest of "legs", which grow like N²/π
    off = [
        abs(1 - (diagonal_start(n, "inv").imag.max() / diagonal_start(n, "legs").imag.max()).item())
        for n in (16, 64, 256)
    ]
    assert off[0] > off[1] > off[2] and off[2] < 0.01
    same(diagonal_start(8, "real"), [-1.0 + 0j, -2, -3, -4])
    assert (diagonal_start(64, "random").real < 0).all()


@pytest.mark.equation("s4-diagonal-zoh", "s4-vandermonde", "s4-stable", "s4-convolution")
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
def test_the_diagonal_kernel_is_that_of_dense_matrices(init, method):
    """Each feature as a real system of twice as many entries: pairs written as 2 × 2 rotations."""
    layer = drawn(3, 8, init=init, method=method)
    length = 37
    with torch.no_grad():
        got = layer.kernel(length)
        A, C = layer.eigenvalues, torch.view_as_complex(layer.C)
        delta = layer.log_delta.exp()
    assert (A.real < 0).all()
    for d in range(3):
        both = torch.diag(torch.cat([A[d], A[d].conj()]))
        B = torch.ones(8, dtype=torch.complex128)
        A_bar, B_bar = discretize(both, B, delta[d], method)
        wanted = ssm_kernel_reference(A_bar, B_bar, torch.cat([C[d], C[d].conj()]), length)
        same(got[d], wanted.real, atol=1e-9)
        same(wanted.imag, torch.zeros(length).double(), atol=1e-9)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 5, 16, 17, 1000])
def test_the_split_powers_are_the_powers(length):
    rate = torch.complex(-normal(2, 3).abs(), 40 * normal(2, 3, seed=1))
    weights = torch.complex(normal(2, 3, seed=2), normal(2, 3, seed=3))
    got = vandermonde(weights, rate, length)
    k = np.arange(length)
    wanted = 2 * np.einsum("dn,dnk->dk", weights.numpy(), np.exp(rate.numpy()[..., None] * k)).real
    same(got, wanted, atol=1e-9)


@pytest.mark.equation("s4-step")
@pytest.mark.parametrize("method", ["zoh", "bilinear"])
@pytest.mark.parametrize("steps", [0, 1, 2, 50])
def test_all_at_once_step_by_step_and_in_pieces_are_equal(method, steps):
    layer, x = drawn(4, 16, method=method, delta_max=0.5), normal(2, steps, 4)
    wanted = layer.loop(x)
    same(layer(x), wanted, atol=1e-10)
    y, state = layer.read(x)
    same(y, wanted, atol=1e-10)
    head, middle = layer.read(x[:, : steps // 3])
    tail, last = layer.read(x[:, steps // 3 :], middle)
    same(torch.cat([head, tail], 1), wanted, atol=1e-10)
    same(last, state, atol=1e-10)
    following = normal(2, 4, seed=7)
    same(layer.step(following, state)[0],
         layer(torch.cat([x, following[:, None]], 1))[:, -1], atol=1e-10)  # fmt: skip


def test_single_precision_holds_over_two_thousand_steps():
    torch.manual_seed(0)
    layer = S4D(4, 64)
    x = torch.randn(1, 2000, 4)
    double = S4D(4, 64, dtype=DOUBLE)
    double.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    with torch.no_grad():
        wanted = double(x.double())
        scale = wanted.abs().max()
        same(layer(x).double() / scale, wanted / scale, atol=1e-4)
        same(layer.loop(x).double() / scale, wanted / scale, atol=1e-4)
        same(double.loop(x.double()), wanted, atol=1e-10)


def test_gradients_are_those_of_the_loop():
    layer, x = drawn(2, 6), normal(1, 20, 2)
    pairs = [
        torch.autograd.grad(form(x).square().sum(), list(layer.parameters()))
        for form in (layer, layer.loop)
    ]
    for got, wanted in zip(*pairs, strict=True):
        same(got, wanted, atol=1e-8, rtol=1e-8)


def test_small_steps_lose_no_digits():
    """e^z − 1 by hand would keep four digits of seven where Δ is 1e-4."""
    torch.manual_seed(0)
    layer = S4D(3, 8, delta_min=1e-4, delta_max=1e-4)
    _, B = layer.discrete()
    delta, A = layer.log_delta.double().exp()[:, None], layer.eigenvalues.to(torch.complex128)
    z = (delta * A).detach()
    assert z.abs().max() < 1e-2
    series = 1 + z / 2 + z**2 / 6 + z**3 / 24 + z**4 / 120  # (e^z − 1) / z
    same(B.detach().to(z), series * delta.detach(), rtol=1e-6)


@settings(max_examples=10, deadline=None)
@given(d=st.integers(1, 6), pairs=st.integers(1, 6))
def test_parameters_are_counted(d, pairs):
    n = 2 * pairs
    assert parameter_count(S4D(d, n)) == 2 * d * n + 2 * d
    block = 2 * d * n + 2 * d + 2 * d * (d + 1) + 2 * d
    assert parameter_count(S4Block(d, n)) == block


@pytest.mark.equation("s4-block")
def test_a_block_is_its_equation():
    torch.manual_seed(0)
    block, x = S4Block(4, 8, dtype=DOUBLE), normal(2, 9, 4)
    z = nn.functional.layer_norm(x, (4,), block.norm.weight, block.norm.bias)
    u = block.ssm.loop(z)
    u = 0.5 * u * (1 + torch.erf(u / math.sqrt(2)))
    a, b = (u @ block.mix.weight.T + block.mix.bias).chunk(2, -1)
    same(block(x), x + a / (1 + (-b).exp()), atol=1e-10)


@pytest.mark.equation("s4-objective")
def test_the_mean_of_the_outputs_is_the_map_of_the_mean():
    torch.manual_seed(0)
    net, x = S4Network(1, 6, 10, state_size=8, dtype=DOUBLE), normal(5, 12, 1)
    features = net.encoder(x)
    for block in net.blocks:
        features = block(features)
    logits = net.decoder(net.norm(features).mean(1))
    same(net(x).mean(1), logits, atol=1e-12)
    y = torch.tensor([0, 3, 9, 3, 1])
    shares = np.exp(logits.detach().numpy())
    shares /= shares.sum(1, keepdims=True)
    wanted = -np.log(shares[range(5), y.numpy()]).mean()
    assert nn.functional.cross_entropy(net(x).mean(1), y).item() == pytest.approx(wanted, rel=1e-9)


def test_a_network_steps_as_it_reads():
    torch.manual_seed(0)
    net, x = S4Network(2, 6, 3, state_size=8, dtype=DOUBLE), normal(2, 30, 2)
    states, outputs = None, []
    for now in x.unbind(1):
        y, states = net.step(now, states)
        outputs.append(y)
    same(torch.stack(outputs, 1), net(x), atol=1e-10)
    assert [tuple(s.shape) for s in states] == [(2, 6, 4)] * 2  # however long it was


@pytest.mark.equation("s4-s5")
def test_one_system_with_a_block_for_each_feature_is_s4d():
    layer, x = drawn(2, 8), normal(25, 2)
    with torch.no_grad():
        rate, B = (part.numpy() for part in layer.discrete())
        C, D = layer.read_out.numpy(), layer.D.numpy()
        wanted = layer(x[None])[0]
    enters = scipy.linalg.block_diag(B[0][:, None], B[1][:, None])
    leaves = scipy.linalg.block_diag(C[:1], C[1:])
    h, outputs = np.zeros(8, complex), []
    for value in x.numpy():
        h = np.exp(rate).ravel() * h + enters @ value
        outputs.append(2 * (leaves @ h).real + D * value)
    same(outputs, wanted, atol=1e-10)


@pytest.mark.equation("s4-lru")
def test_a_linear_recurrent_unit_keeps_the_size_of_its_state():
    """|λ|² h² + γ² = h² at h = 1: white noise of variance 1 in, a state of variance 1."""
    generator = torch.Generator().manual_seed(0)
    magnitude = torch.tensor([0.5, 0.9, 0.99], dtype=DOUBLE)
    gamma = (1 - magnitude**2).sqrt()
    h, squares = torch.zeros(20000, 3, dtype=torch.complex128), None
    turn = torch.polar(magnitude, torch.tensor([0.1, 1.0, 3.0], dtype=DOUBLE))
    for _ in range(600):
        h = turn * h + gamma * torch.randn(20000, 3, generator=generator, dtype=DOUBLE)
        squares = h.abs().square().mean(0)
    assert squares.tolist() == pytest.approx([1, 1, 1], abs=0.05)


def test_no_parameter_can_make_it_unstable():
    layer = S4D(3, 8)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(3 * torch.randn_like(parameter))
        y = layer.kernel(5000)
        rate, _ = layer.discrete()
    assert (rate.real <= 0).all() and torch.isfinite(y).all()


def test_groups_keep_the_system_slow():
    net = S4Network(1, 4, 2, state_size=8)
    free, careful = parameter_groups(net, 0.01, weight_decay=0.1)
    assert (free["lr"], free["weight_decay"]) == (0.01, 0.1)
    assert (careful["lr"], careful["weight_decay"]) == (1e-3, 0.0)
    assert len(careful["params"]) == 6
    both = [*free["params"], *careful["params"]]
    assert {id(p) for p in both} == {id(p) for p in net.parameters()}
    assert len(both) == len(list(net.parameters()))
    assert parameter_groups(net, 1e-4)[1]["lr"] == 1e-4


def test_bad_arguments_are_refused_by_name():
    A, B = hippo(3)
    for delta in (0, -0.1, math.nan, math.inf):
        with refuses(ValueError, f"delta={delta!r} must be a finite number > 0"):
            discretize(A, B, delta)
    with refuses(ValueError, "delta=0.0 must be a finite number > 0"):
        discretize(A, B, torch.tensor(0.0))
    with refuses(ValueError, "A must be square, got shape (2, 3)"):
        discretize(A[:2], B, 0.1)
    with refuses(ValueError, "B must have shape (3), got (2,)"):
        discretize(A, B[:2], 0.1)
    with refuses(TypeError, "B must have the dtype of A, torch.float32, got torch.float64"):
        discretize(A, B.double(), 0.1)
    with refuses(TypeError, "A must be floating point or complex, got torch.int64"):
        discretize(A.long(), B, 0.1)
    with refuses(ValueError, "method='tustin' must be one of ['zoh', 'euler', 'bilinear',"):
        discretize(A, B, 0.1, "tustin")
    with refuses(ValueError, "method=1.5 must be a finite number ≥ 0 and ≤ 1"):
        discretize(A, B, 0.1, 1.5)
    with refuses(ValueError, "length=-1 must be an integer ≥ 0"):
        ssm_kernel(A, B, B, -1)
    with refuses(ValueError, "A must be stable: C A^k B is no finite number"):
        ssm_kernel(-2 * A, B, B, 2000)
    with refuses(ValueError, "C must have shape (3), got (4,)"):
        ssm_kernel(A, B, torch.ones(4), 5)
    with refuses(ValueError, "measure='lag' must be one of ['legs', 'legt']"):
        hippo(3, "lag")
    with refuses(ValueError, "eigenvalues must have negative real parts, else A is unstable"):
        one = torch.ones(2, dtype=torch.complex128)
        dplr_kernel(one, one, one, one, one, 0.1, 8)
    with refuses(ValueError, "kernel must have shape (3, k), got (2, 5)"):
        causal_convolution(torch.zeros(1, 5, 3), torch.zeros(2, 5))
    with refuses(ValueError, "state_size=7 must be even: eigenvalues come in pairs"):
        S4D(4, 7)
    with refuses(ValueError, "delta_min=0 must be a finite number > 0"):
        S4D(4, 8, delta_min=0)
    with refuses(ValueError, "delta_max=0.001 must be at least delta_min=0.01"):
        S4D(4, 8, delta_min=0.01, delta_max=0.001)
    layer = S4D(4, 8)
    with refuses(ValueError, "state must have shape (2, 4, 4), got (3, 4, 4)"):
        layer.step(torch.zeros(2, 4), torch.zeros(3, 4, 4, dtype=torch.complex64))
    with refuses(TypeError, "state must be torch.complex64, got torch.float32"):
        layer.step(torch.zeros(2, 4), torch.zeros(2, 4, 4))
    with refuses(TypeError, "x must have the dtype of the layer, torch.float32, got torch.float64"):
        layer(torch.zeros(2, 5, 4).double())
    net = S4Network(1, 4, 2, state_size=8)
    with refuses(ValueError, "states must hold 2 tensors, got 1"):
        net.step(torch.zeros(1, 1), [torch.zeros(1, 4, 4, dtype=torch.complex64)])
    with refuses(ValueError, "num_layers=0 must be an integer ≥ 1"):
        S4Network(1, 4, 2, num_layers=0)
    with refuses(ValueError, "dropout=1.5 must be a finite number ≥ 0 and ≤ 1"):
        S4Block(4, 8, dropout=1.5)


@pytest.mark.parametrize("shape", [(0, 5, 4), (2, 0, 4), (2, 1, 4)])
def test_empty_and_single_steps_give_as_many_outputs(shape):
    layer = S4D(4, 8)
    assert layer(torch.randn(shape)).shape == shape
    assert layer.loop(torch.randn(shape)).shape == shape
    assert layer.read(torch.randn(shape))[0].shape == shape
    one = torch.randn(2, 1, 4)
    C, (_, B) = layer.read_out, layer.discrete()
    wanted = (2 * (C * B).real.sum(-1) + layer.D) * one
    torch.testing.assert_close(layer(one), wanted)


@pytest.mark.equation("s4-legs-derivative", "s4-legs-recursion")
def test_the_derivation_of_legs_holds_step_by_step():
    def signal(s):
        return np.sin(3 * s) + 0.3 * s**2

    def p(i, u):
        return math.sqrt(2 * i + 1) * scipy.special.eval_legendre(i, 2 * u - 1)

    def slope(i, u):  # P' by the rule (x² − 1) P'_i = i (x P_i − P_{i−1}), twice as steep in u
        x = 2 * u - 1
        lower = scipy.special.eval_legendre(i - 1, x) if i else 0.0
        inner = i * (x * scipy.special.eval_legendre(i, x) - lower) / (x**2 - 1)
        return 2 * math.sqrt(2 * i + 1) * inner

    u = np.linspace(0.05, 0.95, 7)
    for i in range(6):
        below = sum(math.sqrt(2 * j + 1) * p(j, u) for j in range(i))
        np.testing.assert_allclose(
            u * slope(i, u), i * p(i, u) + math.sqrt(2 * i + 1) * below, atol=1e-9
        )

    def held(i, t):
        return scipy.integrate.quad(lambda s: signal(s) * p(i, s / t), 0, t, epsabs=1e-12)[0] / t

    t = 1.7
    for i in range(5):
        stretched = scipy.integrate.quad(
            lambda s, i=i: signal(s) * s / t * slope(i, s / t), 0, t, epsabs=1e-11
        )[0]
        wanted = (-held(i, t) + signal(t) * p(i, 1.0) - stretched / t) / t
        numeric = (held(i, t + 1e-4) - held(i, t - 1e-4)) / 2e-4
        assert wanted == pytest.approx(numeric, abs=1e-6)


@pytest.mark.equation("s4-kernel-gradient")
def test_the_gradient_of_the_kernel_is_a_correlation():
    x, K, share = normal(1, 20, 1), normal(1, 20, seed=1), normal(20, seed=2)
    K.requires_grad_()
    x.requires_grad_()
    D = 0.7
    loss = ((causal_convolution(x, K) + D * x).flatten() * share).sum()
    of_K, of_x = torch.autograd.grad(loss, (K, x))
    value, kernel = x.detach().flatten(), K.detach().flatten()
    wanted = [sum(share[k] * value[k - j] for k in range(j, 20)) for j in range(20)]
    same(of_K[0], torch.stack(wanted), atol=1e-10)
    later = [sum(share[k] * kernel[k - m] for k in range(m, 20)) for m in range(20)]
    wanted = [value + D * share[m] for m, value in enumerate(later)]
    same(of_x.flatten(), torch.stack(wanted), atol=1e-10)
