"""HiPPO: matrices that keep a signal as polynomials, their normal form, their diagonal heirs.

Part of `nnlib.sequence.s4`, with its axes.
"""

import math

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from nnlib import checks
from nnlib.sequence._s4_system import checked_step, discretize, entries

INITS = ("legs", "lin", "inv", "real", "random")


def hippo(
    n: int, measure: str = "legs", *, dtype: torch.dtype | None = None
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n"]]:
    r"""Return A and B of the memory whose state are Legendre coefficients of what was read.

    "legs" (scaled Legendre, equation `s4-legs`): all of the past, stretched over 0 … 1, obeys
    $c'(t) = \frac1t (A c(t) + B x(t))$. "legt" (translated Legendre, equation `s4-legt`): the last
    unit of time, $c'(t) = A c(t) + B x(t)$. The basis is $p_i(s) = \sqrt{2i+1}\,P_i(2s-1)$ on
    0 … 1, i from 0, with the newest at s = 1. As S4 begins with it, "legs" is used without 1/t.

    Args:
        n: coefficients, ≥ 1.
        measure: "legs" or "legt".
        dtype: of the result; torch's default when None.

    Example:
        >>> A, B = hippo(3)
        >>> A.diagonal().tolist(), round(B[1].item(), 4)
        ([-1.0, -2.0, -3.0], 1.7321)

    Source: Gu et al. 2020; the signs as in Gu et al. 2021. Voelker et al. 2019 have "legt" with
    rows scaled otherwise.
    """
    n = checks.count("n", n)
    checks.one_of("measure", measure, ["legs", "legt"])
    at = torch.arange(n, dtype=torch.float64)
    B = (2 * at + 1).sqrt()
    outer, below = B[:, None] * B, at[:, None] - at
    if measure == "legs":
        A = -outer.tril(-1) - torch.diag(at + 1)  # eq. s4-legs
    else:
        signs = torch.where(below >= 0, 1.0, 1 - 2 * (below.abs() % 2))
        A = -outer * signs  # eq. s4-legt
    dtype = dtype or torch.get_default_dtype()
    return A.to(dtype), B.to(dtype)


def legendre(n: int, at: Float[Tensor, "s"]) -> Float[Tensor, "s n"]:
    r"""Return $p_i(s) = \sqrt{2i+1}\,P_i(2s-1)$ for i = 0 … n − 1: orthonormal on 0 … 1.

    Args:
        n: how many, ≥ 1.
        at: places s.

    Example:
        >>> legendre(2, torch.tensor([0.0, 0.5, 1.0]))
        tensor([[ 1.0000, -1.7321],
                [ 1.0000,  0.0000],
                [ 1.0000,  1.7321]])
    """
    n = checks.count("n", n)
    checks.tensor("at", at, shape=("s",), floating=True)
    x = 2 * at - 1
    rows = [torch.ones_like(x), x]
    for i in range(1, n - 1):
        rows.append(((2 * i + 1) * x * rows[i] - i * rows[i - 1]) / (i + 1))
    scale = (2 * torch.arange(n, dtype=at.dtype, device=at.device) + 1).sqrt()
    return torch.stack(rows[:n], 1) * scale


def legs_memory(x: Float[Tensor, "t"], n: int) -> Float[Tensor, "t n"]:
    r"""Return the LegS coefficients of all that was read, after each of the samples.

    With $u = \ln t$ the equation $c'(t) = \frac1t(A c + B x)$ has constant coefficients, so a step
    from t to t + 1 is a zero-order hold of length $\ln\frac{t+1}{t}$: exact for a signal that
    stands still between samples (equation `s4-legs-step`).

    Args:
        x: samples of a signal.
        n: coefficients, ≥ 1.

    Example:
        >>> legs_memory(torch.ones(5, dtype=torch.float64), 3)[-1].round(decimals=6).abs().tolist()
        [1.0, 0.0, 0.0]

    Source: Gu et al. 2020, who take a bilinear step instead.
    """
    checks.tensor("x", x, shape=("t",), floating=True)
    n = checks.count("n", n)
    A, B = hippo(n, dtype=torch.float64)
    first = torch.zeros(n, dtype=torch.float64)
    first[0] = 1.0
    states: list[Tensor] = []
    for t, value in enumerate(x.detach().cpu().double()):
        if t == 0:
            states.append(value * first)  # a constant is its own projection
            continue
        A_bar, B_bar = discretize(A, B, math.log((t + 1) / t))
        states.append(A_bar @ states[-1] + B_bar * value)  # eq. s4-legs-step
    return (torch.stack(states) if states else first.new_zeros(0, n)).to(x)


# -------------------------------------------------------------- diagonal plus low rank: S4's kernel
def nplr(
    n: int,
) -> tuple[
    Complex[Tensor, "n"],
    Complex[Tensor, "n"],
    Complex[Tensor, "n"],
    Complex[Tensor, "n n"],
]:
    r"""Return Λ, P, B and V with $A = V(\Lambda - PP^*)V^*$ for HiPPO-LegS: normal plus low rank.

    $A + pp^\top$ with $p_i = \sqrt{i + \frac12}$ is −½ plus a skew-symmetric matrix, hence normal,
    hence diagonal in a unitary basis V (equation `s4-nplr`). P and B are p and HiPPO's B there.

    Args:
        n: size of the state, ≥ 1.

    Returns:
        Λ (its real parts are −½), P = V*p, V*B, and V, in complex128.

    Example:
        >>> eigenvalues, P, B, V = nplr(4)
        >>> eigenvalues.real.tolist()
        [-0.5, -0.5, -0.5, -0.5]

    Source: Gu et al. 2021, theorem 1.
    """
    A, B = hippo(n, dtype=torch.float64)
    p = (torch.arange(n, dtype=torch.float64) + 0.5).sqrt()
    skew = A + p[:, None] * p + 0.5 * torch.eye(n, dtype=torch.float64)
    # −i times a skew-symmetric matrix is Hermitian: its eigenvectors are found well
    frequencies, V = torch.linalg.eigh(-1j * skew.to(torch.complex128))
    eigenvalues = torch.complex(torch.full_like(frequencies, -0.5), frequencies)
    back = V.mH
    return eigenvalues, back @ p.to(V), back @ B.to(V), V  # eq. s4-nplr


def dplr_kernel(
    eigenvalues: Complex[Tensor, "n"],
    P: Complex[Tensor, "n"],
    Q: Complex[Tensor, "n"],
    B: Complex[Tensor, "n"],
    C: Complex[Tensor, "n"],
    delta: float | Tensor,
    length: int,
) -> Complex[Tensor, "t"]:
    r"""Return the kernel of $A = \Lambda - PQ^*$, sampled bilinearly, without powers of A: S4's.

    The kernel's generating function $\sum_k K_k z^k = \tilde C (I - \bar A z)^{-1} \bar B$, with
    $\tilde C = C (I - \bar A^t)$, is evaluated at the t-th roots of unity (equation
    `s4-generating`). There the inverse is that of a diagonal plus rank one, so the Woodbury
    identity leaves four Cauchy sums $\sum_i u_i / (w - \Lambda_i v)$ (equation `s4-woodbury`), and
    one inverse Fourier transform gives the kernel. O((n + t) n) here, sums written out.

    Args:
        eigenvalues: Λ, with negative real parts.
        P: of the low rank.
        Q: of the low rank; P for a HiPPO matrix.
        B: of the continuous system, in the same basis.
        C: reads the output, in the same basis.
        delta: length of a step, > 0.
        length: entries t, ≥ 0.

    Example:
        >>> eigenvalues, P, B, V = nplr(4)
        >>> dplr_kernel(eigenvalues, P, P, B, B.conj(), 0.1, 8).shape
        torch.Size([8])

    Source: Gu et al. 2021, algorithm 1. They learn $\tilde C$ itself, and need no power of A.
    """
    n = len(entries("eigenvalues", eigenvalues, ("n",)))
    for name, value in (("P", P), ("Q", Q), ("B", B), ("C", C)):
        entries(name, value, (n,))
    delta, length = checked_step(delta), checks.count("length", length, least=0)
    if checks.readable(eigenvalues) and bool((eigenvalues.real >= 0).any()):
        raise ValueError(
            "eigenvalues must have negative real parts, else A is unstable"
        )
    if length == 0:
        return B[:0]
    A_bar, _ = discretize(
        torch.diag(eigenvalues) - P[:, None] * Q.conj(), B, delta, "bilinear"
    )
    cut = C - C @ torch.linalg.matrix_power(A_bar, length)
    turn = torch.arange(length, device=B.device, dtype=B.real.dtype) * (
        -2 * math.pi / length
    )
    z = torch.polar(torch.ones_like(turn), turn)
    # both sides of the fraction are multiplied by 1 + z, which is 0 at z = −1
    resolvent = 1 / ((2 / delta) * (1 - z)[:, None] - (1 + z)[:, None] * eigenvalues)

    def cauchy(left: Tensor, right: Tensor) -> Tensor:
        return resolvent @ (left * right)

    low = (1 + z) / (1 + (1 + z) * cauchy(Q.conj(), P))
    at_roots = 2 * (
        cauchy(cut, B) - cauchy(cut, P) * low * cauchy(Q.conj(), B)
    )  # eq. s4-woodbury
    return torch.fft.ifft(at_roots)  # eq. s4-generating


def diagonal_start(state_size: int, init: str) -> Complex[Tensor, "n"]:
    r"""Return the eigenvalues with which a diagonal state space model begins: one of each pair.

    "legs" takes those of the normal part of HiPPO-LegS, "lin" $-\frac12 + i\pi k$, "inv"
    $-\frac12 + i\frac{N}{\pi}(\frac{N}{2k+1} - 1)$ (equation `s4-diagonal-starts`), k from 0;
    "real" is −(k + 1), LegS's own eigenvalues; "random" draws decays $\frac12 e^{g}$ and
    frequencies g' from normal g and g'.

    Args:
        state_size: N, even, ≥ 2.
        init: one of those names.

    Example:
        >>> diagonal_start(4, "lin").imag.tolist() == [0.0, math.pi]
        True

    Source: Gu et al. 2022. "random" is the one of this book.
    """
    n = pairs(state_size)
    checks.one_of("init", init, INITS)
    k = torch.arange(n, dtype=torch.float64)
    decay, frequency = torch.full_like(k, 0.5), torch.zeros_like(k)
    if init == "legs":
        frequency = nplr(state_size)[0].imag[n:]  # sorted: the upper half is positive
    elif init == "lin":
        frequency = math.pi * k
    elif init == "inv":
        frequency = state_size / math.pi * (state_size / (2 * k + 1) - 1)
    elif init == "real":
        decay = k + 1
    else:
        decay, frequency = 0.5 * torch.randn(n).double().exp(), torch.randn(n).double()
    return torch.complex(-decay, frequency)  # eq. s4-diagonal-starts


def pairs(state_size: int) -> int:
    if checks.count("state_size", state_size, least=2) % 2:
        raise ValueError(
            f"state_size={state_size} must be even: eigenvalues come in pairs"
        )
    return state_size // 2
