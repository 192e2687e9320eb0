r"""S4: a linear system in continuous time, sampled, then stepped or applied as one convolution.

Chapter: chapters/sequence/s4.md     Papers: Gu et al. 2020 (HiPPO), Gu, Goel and Ré 2021 (S4),
Gu et al. 2022 (S4D)
Forms: a dense system (`discretize`, `ssm_kernel`), a diagonal one plus a low rank (`dplr_kernel`),
a diagonal one (`S4D`), each with its kernel equal to its powers.
Axes: b batch, t time, d features, n state; in S4D n counts conjugate pairs, half of state_size.
"""

import math
from typing import Any

import torch
from jaxtyping import Complex, Float, Inexact
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks

METHODS = {"euler": 0.0, "bilinear": 0.5, "backward": 1.0}
"""Shares α of the new state in the slope of a step; see `discretize`."""
INITS = ("legs", "lin", "inv", "real", "random")


def _entries(name: str, value: Tensor, shape: tuple[int | str, ...]) -> Tensor:
    """Return `value` when it is a real or complex tensor of this shape."""
    checks.tensor(name, value, shape=shape)
    if not (value.is_floating_point() or value.is_complex()):
        raise TypeError(f"{name} must be floating point or complex, got {value.dtype}")
    return value


def _square(A: Tensor) -> Tensor:
    _entries("A", A, ("n", "n"))
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be square, got shape {tuple(A.shape)}")
    return A


def _step(delta: float | Tensor) -> float | Tensor:
    """Return Δ when it is positive: a number, or a tensor of one."""
    if isinstance(delta, Tensor):
        checks.tensor("delta", delta, shape=(), floating=True)
        if checks.readable(delta):
            checks.number("delta", delta.item(), above=0)
        return delta
    return checks.number("delta", delta, above=0)


def discretize(
    A: Inexact[Tensor, "n n"],
    B: Inexact[Tensor, "n ..."],
    delta: float | Tensor,
    method: str | float = "zoh",
) -> tuple[Inexact[Tensor, "n n"], Inexact[Tensor, "n ..."]]:
    r"""Sample $h'(t) = A h(t) + B x(t)$: $\bar A, \bar B$ of $h_k = \bar A h_{k-1} + \bar B x_k$.

    Zero-order hold, which is exact while the input stands still for a step (equation `s4-zoh`):
    $\bar A = e^{\Delta A}$ and $\bar B = \int_0^\Delta e^{sA} B\,ds$, both from one exponential, so
    that A may be singular. The generalised bilinear transform (equation `s4-gbt`) takes the slope
    of a step as a share α of the new state and 1 − α of the old one:
    $\bar A = (I - \alpha\Delta A)^{-1}(I + (1-\alpha)\Delta A)$,
    $\bar B = (I - \alpha\Delta A)^{-1}\Delta B$. A need not be stable; with Euler's method even a
    stable A gives an unstable recurrence where Δ is large.

    Args:
        A: of the continuous system.
        B: `n`, for one input, or `n m` for m of them.
        delta: length of a step, > 0, in the unit of time that A has.
        method: "zoh", "bilinear" (α = ½), "euler" (α = 0), "backward" (α = 1), or α itself, 0 … 1.

    Returns:
        Both matrices of the recurrence, in the dtype of A.

    Example:
        >>> A_bar, B_bar = discretize(torch.tensor([[-1.0]]), torch.tensor([1.0]), 0.5, "bilinear")
        >>> round(A_bar.item(), 4), round(B_bar.item(), 4)
        (0.6, 0.4)

    Source: Zhang, Chen and Chen 2009 for the family with α, as scipy.signal.cont2discrete has it;
    scipy transforms C and D as well, because its output is taken before the step.
    """
    n = len(_square(A))
    _entries("B", B, (n,) if B.ndim == 1 else (n, "m"))
    if B.dtype != A.dtype:
        raise TypeError(f"B must have the dtype of A, {A.dtype}, got {B.dtype}")
    delta = _step(delta)
    columns = B.reshape(n, -1)
    if method == "zoh":
        top = torch.cat([A, columns], 1) * delta
        whole = torch.cat([top, top.new_zeros(columns.shape[1], top.shape[1])])
        fine = torch.promote_types(whole.dtype, torch.float64)
        # in single precision torch's exponential is off by 2e-5
        both = torch.linalg.matrix_exp(whole.to(fine))[:n].to(A.dtype)  # eq. s4-zoh
        return both[:, :n], both[:, n:].reshape(B.shape)
    if isinstance(method, str):
        alpha = METHODS[checks.one_of("method", method, ["zoh", *METHODS])]
    else:
        alpha = checks.number("method", method, least=0, most=1)
    eye = torch.eye(n, dtype=A.dtype, device=A.device)
    right = torch.cat([eye + (1 - alpha) * delta * A, delta * columns], 1)
    both = torch.linalg.solve(eye - alpha * delta * A, right)  # eq. s4-gbt
    return both[:, :n], both[:, n:].reshape(B.shape)


def ssm_kernel(
    A: Inexact[Tensor, "n n"],
    B: Inexact[Tensor, "n"],
    C: Inexact[Tensor, "n"],
    length: int,
) -> Inexact[Tensor, "t"]:
    r"""Return $K_k = C A^k B$ for k = 0 … length − 1: what the recurrence answers to one impulse.

    A and B are those of the recurrence (see `discretize`). The columns $A^k B$ are doubled in
    number at a time (equation `s4-doubling`), so that nothing walks through time; still they take
    O(n² t) operations and n t numbers, which is what S4 and S4D avoid.

    Args:
        A: of the recurrence.
        B: of the recurrence, one input.
        C: reads one output from the state.
        length: how many entries, ≥ 0.

    Raises:
        ValueError: shapes that do not fit; A is unstable and its powers overflow within `length`.

    Example:
        >>> half = torch.tensor([[0.5]])
        >>> ssm_kernel(half, torch.ones(1), torch.ones(1), 4).tolist()
        [1.0, 0.5, 0.25, 0.125]

    Source: Gu et al. 2021, equation 5.
    """
    n, length = len(_square(A)), checks.count("length", length, least=0)
    _entries("B", B, (n,))
    _entries("C", C, (n,))
    columns, power = B[:, None], A
    while columns.shape[1] < length:
        columns = torch.cat([columns, power @ columns], 1)  # eq. s4-doubling
        power = power @ power
    kernel = C @ columns[:, :length]  # eq. s4-kernel
    if checks.readable(kernel) and not bool(torch.isfinite(kernel).all()):
        raise ValueError(
            f"A must be stable: C A^k B is no finite number for some k below length={length}"
        )
    return kernel


def ssm_kernel_reference(A: Tensor, B: Tensor, C: Tensor, length: int) -> Tensor:
    """`ssm_kernel` as its equation reads: one power after the other."""
    kernel, state = [], B
    for _ in range(length):
        kernel.append(C @ state)
        state = A @ state
    return torch.stack(kernel) if kernel else B[:0]


def causal_convolution(
    x: Float[Tensor, "b t d"], kernel: Float[Tensor, "d k"]
) -> Float[Tensor, "b t d"]:
    r"""Return $y_t = \sum_{j \le t} K_j x_{t-j}$, feature by feature, in O(t log t).

    Both are padded with zeros to twice the length before the Fourier transform (equation `s4-fft`):
    without that, the end of the sequence would come round to its beginning.

    Args:
        x: the sequences.
        kernel: one for each feature; entries beyond the length of x have no effect.

    Example:
        >>> x = torch.tensor([1.0, 0.0, 2.0]).view(1, 3, 1)
        >>> y = causal_convolution(x, torch.tensor([[1.0, 0.5, 0.25]]))
        >>> [round(v, 4) for v in y.flatten().tolist()]
        [1.0, 0.5, 2.25]
    """
    checks.tensor("x", x, shape=("b", "t", "d"), floating=True)
    steps = x.shape[1]
    checks.tensor("kernel", kernel, shape=(x.shape[2], "k"), floating=True)
    if kernel.dtype != x.dtype:
        raise TypeError(
            f"kernel must have the dtype of x, {x.dtype}, got {kernel.dtype}"
        )
    if x.numel() == 0 or kernel.shape[1] == 0:
        return torch.zeros_like(x)
    y: Tensor = _Convolution.apply(x, kernel[:, :steps])
    return y


class _Convolution(torch.autograd.Function):
    """The convolution with its gradient, which is two correlations of real sequences.

    Derived by torch, the gradient of a real transform is a complex one, of twice the work.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, kernel: Tensor) -> Tensor:
        """Return y, laid out as x is."""
        steps = x.shape[1]
        size = _fast_length(steps + kernel.shape[1] - 1)
        spectrum = torch.fft.rfft(x.mT, size) * torch.fft.rfft(kernel, size)
        return torch.fft.irfft(spectrum, size)[
            ..., :steps
        ].mT.contiguous()  # eq. s4-fft

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep what both correlations need."""
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients of x and of the kernel."""
        x, kernel = ctx.saved_tensors
        steps, own = x.shape[1], kernel.shape[1]
        size = _fast_length(steps + own - 1)
        spectrum = torch.fft.rfft(grad.mT, size)
        of_x = spectrum * torch.fft.rfft(kernel, size).conj()
        of_kernel = (spectrum * torch.fft.rfft(x.mT, size).conj()).sum(0)
        return (  # eq. s4-kernel-gradient
            torch.fft.irfft(of_x, size)[..., :steps].mT.contiguous(),
            torch.fft.irfft(of_kernel, size)[..., :own],
        )


def _fast_length(least: int) -> int:
    """Return the smallest 2^k or 3 · 2^k that holds as many: lengths that transform fast."""
    power = 1 << (least - 1).bit_length()
    return 3 * power // 4 if power >= 4 and 3 * power // 4 >= least else power


# ------------------------------------------------------------------------------------------- HiPPO
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
    n = len(_entries("eigenvalues", eigenvalues, ("n",)))
    for name, value in (("P", P), ("Q", Q), ("B", B), ("C", C)):
        _entries(name, value, (n,))
    delta, length = _step(delta), checks.count("length", length, least=0)
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


# --------------------------------------------------------------------------------------- diagonal
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
    n = _pairs(state_size)
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


def _pairs(state_size: int) -> int:
    if checks.count("state_size", state_size, least=2) % 2:
        raise ValueError(
            f"state_size={state_size} must be even: eigenvalues come in pairs"
        )
    return state_size // 2


class S4D(nn.Module):
    r"""A diagonal linear system for every feature: $K_k = 2\Re\sum_i C_i \bar A_i^k \bar B_i$.

    The output is $K * x + D x$ (equation `s4-convolution`). Training applies the whole kernel at
    once by FFT (`forward`); generation keeps n numbers a feature and steps them (`step`); `loop`
    and `read` are the same function. The real parts are $-e^{a}$, so a system cannot become
    unstable, and $\Delta = e^{\delta}$ is learned for each feature (equations `s4-stable`,
    `s4-vandermonde`). B is 1: only its product with C matters.

    Args:
        hidden_size: features d, ≥ 1.
        state_size: N, even: N / 2 conjugate pairs for each feature.
        init: eigenvalues to begin with: see `diagonal_start`.
        method: "zoh" or "bilinear".
        delta_min: of the step sizes, which begin evenly in their logarithm, > 0.
        delta_max: of the step sizes, ≥ `delta_min`.
        device: of the parameters.
        dtype: of the parameters, real.

    Example:
        >>> layer = S4D(5, state_size=16)
        >>> y, state = layer.step(torch.zeros(2, 5))
        >>> layer(torch.zeros(2, 100, 5)).shape, state.shape
        (torch.Size([2, 100, 5]), torch.Size([2, 5, 8]))

    Source: Gu et al. 2022, whose C is this one's; their layer mixes features afterwards, as
    `S4Block` does.
    """

    def __init__(
        self,
        hidden_size: int,
        state_size: int = 64,
        *,
        init: str = "legs",
        method: str = "zoh",
        delta_min: float = 1e-3,
        delta_max: float = 1e-1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        d = self.hidden_size = checks.count("hidden_size", hidden_size)
        n = _pairs(state_size)
        self.state_size = state_size
        self.method = checks.one_of("method", method, ["zoh", "bilinear"])
        least = checks.number("delta_min", delta_min, above=0)
        most = checks.number("delta_max", delta_max, above=0)
        if most < least:
            raise ValueError(f"delta_max={most} must be at least delta_min={least}")
        like: dict[str, Any] = {
            "device": device,
            "dtype": dtype or torch.get_default_dtype(),
        }
        starts = torch.stack([diagonal_start(state_size, init) for _ in range(d)])
        spread = torch.rand(d).double() * math.log(most / least) + math.log(least)
        self.log_delta = nn.Parameter(spread.to(**like))
        self.log_decay = nn.Parameter((-starts.real).log().to(**like))
        self.frequency = nn.Parameter(starts.imag.to(**like))
        self.C = nn.Parameter((torch.randn(d, n, 2) * math.sqrt(0.5)).to(**like))
        self.D = nn.Parameter(torch.randn(d).to(**like))

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        return (
            f"{self.hidden_size}, state_size={self.state_size}, method={self.method!r}"
        )

    @property
    def eigenvalues(self) -> Complex[Tensor, "d n"]:
        """A, in continuous time."""
        return torch.complex(
            -_wide(self.log_decay).exp(), _wide(self.frequency)
        )  # eq. s4-stable

    @property
    def read_out(self) -> Complex[Tensor, "d n"]:
        """C, which reads one of each pair."""
        return torch.view_as_complex(_wide(self.C))

    def discrete(self) -> tuple[Tensor, Tensor]:
        r"""Return $\ln \bar A$ and $\bar B$, each d n and complex."""
        delta, A = _wide(self.log_delta).exp()[:, None], self.eigenvalues
        z = delta * A
        if self.method == "zoh":
            return z, _expm1(z) / A  # eq. s4-diagonal-zoh
        return torch.log((1 + z / 2) / (1 - z / 2)), delta / (1 - z / 2)

    def kernel(self, length: int) -> Float[Tensor, "d t"]:
        """Return the impulse response of every feature, without D: a Vandermonde product.

        Args:
            length: entries, ≥ 0.
        """
        length = checks.count("length", length, least=0)
        rate, B = self.discrete()
        return vandermonde(self.read_out * B, rate, length)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return the outputs, all of time at once: what training uses."""
        self._check(x, ("b", "t"))
        kernel = self.kernel(x.shape[1])  # half precision has no Fourier transform
        y = causal_convolution(x.to(kernel.dtype), kernel).to(x.dtype)
        return y + self.D * x  # eq. s4-convolution

    def step(
        self, x: Float[Tensor, "b d"], state: Complex[Tensor, "b d n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Complex[Tensor, "b d n"]]:
        """Return the output for one more input, and the state after it: what generation uses.

        Args:
            x: one input for each sequence.
            state: what the step before returned; None is zero.
        """
        self._check(x, ("b",))
        rate, B = self.discrete()
        state = self._state(x, state)
        state = rate.exp() * state + B * x[..., None]
        y = 2 * (self.read_out * state).real.sum(-1)
        return y.to(x.dtype) + self.D * x, state  # eq. s4-step

    def loop(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what `forward` returns, one step after the other: to be read."""
        self._check(x, ("b", "t"))
        outputs, state = [], None
        for x_t in x.unbind(1):
            y_t, state = self.step(x_t, state)
            outputs.append(y_t)
        return torch.stack(outputs, 1) if outputs else torch.zeros_like(x)

    def read(
        self, x: Float[Tensor, "b t d"], state: Complex[Tensor, "b d n"] | None = None
    ) -> tuple[Float[Tensor, "b t d"], Complex[Tensor, "b d n"]]:
        """Return the outputs and the last state, all of time at once, going on from `state`.

        Args:
            x: a prompt, or the next piece of a stream.
            state: after what came before; None is zero.
        """
        y, steps = self(x), x.shape[1]
        state = self._state(
            x[:, 0] if steps else x.new_zeros(len(x), self.hidden_size), state
        )
        rate, B = self.discrete()
        back = torch.arange(steps - 1, -1, -1, device=x.device)
        powers = torch.exp(
            _wrapped(rate[..., None] * back)
        )  # d n t: how each input has faded
        reading = powers.flip(-1) * (self.read_out * rate.exp())[..., None]
        older = 2 * torch.einsum("dnt,bdn->btd", reading, state).real
        newer = torch.einsum("dnt,btd->bdn", powers, x.to(powers)) * B
        return y + older.to(y.dtype), torch.exp(_wrapped(rate * steps)) * state + newer

    def _check(self, x: Tensor, axes: tuple[str, ...]) -> None:
        checks.tensor("x", x, shape=(*axes, self.hidden_size), floating=True)
        if x.dtype != self.D.dtype:
            raise TypeError(
                f"x must have the dtype of the layer, {self.D.dtype}, got {x.dtype}"
            )

    def _state(self, x: Tensor, state: Tensor | None) -> Tensor:
        shape = (len(x), self.hidden_size, self.state_size // 2)
        dtype = torch.promote_types(_wide(self.D).dtype, torch.complex64)
        if state is None:
            return torch.zeros(shape, dtype=dtype, device=x.device)
        checks.tensor("state", state, shape=shape)
        if state.dtype != dtype:
            raise TypeError(f"state must be {dtype}, got {state.dtype}")
        return state


def vandermonde(
    weights: Complex[Tensor, "d n"], rate: Complex[Tensor, "d n"], length: int
) -> Float[Tensor, "d t"]:
    r"""Return $2\Re\sum_i w_i e^{k r_i}$ for k = 0 … length − 1 (equation `s4-vandermonde`).

    With $k = a m + b$ the power factors into $e^{a m r} e^{b r}$, so about $2\sqrt t$ exponentials
    a state are enough, and a matrix product does the rest.

    Args:
        weights: w, such as $C \bar B$.
        rate: r, the logarithm of $\bar A$, with real parts ≤ 0.
        length: entries, ≥ 0.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.complex64)
        >>> vandermonde(one, -math.log(2) * one, 3)
        tensor([[2.0000, 1.0000, 0.5000]])
    """
    _entries("weights", weights, ("d", "n"))
    _entries("rate", rate, tuple(weights.shape))
    length = checks.count("length", length, least=0)
    chunk = max(1, math.isqrt(length))
    within = torch.arange(chunk, device=rate.device)
    begins = torch.arange(-(-length // chunk), device=rate.device) * chunk
    fine = torch.exp(_wrapped(rate[..., None]) * within)
    coarse = weights[..., None] * torch.exp(_wrapped(rate[..., None] * begins))
    left = torch.cat([coarse.real, -coarse.imag], 1)
    right = torch.cat([fine.real, fine.imag], 1)
    return 2 * (left.mT @ right).flatten(1)[:, :length]


def _wide(values: Tensor) -> Tensor:
    """Return half precision as single: it has no complex numbers, and powers need the digits."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def _wrapped(exponent: Tensor) -> Tensor:
    """Return an exponent with its phase in 0 … 2π, where single precision is fine."""
    return torch.complex(exponent.real, exponent.imag.remainder(2 * math.pi))


def _expm1(z: Tensor) -> Tensor:
    """Return e^z − 1 without cancellation: torch has it for real numbers only."""
    real = torch.expm1(z.real) * z.imag.cos() - 2 * (z.imag / 2).sin().square()
    return torch.complex(real, z.real.exp() * z.imag.sin())


# ------------------------------------------------------------------------------------ the network
class S4Block(nn.Module):
    r"""$x + \mathrm{GLU}(W\,\mathrm{GELU}(\mathrm{S4D}(\mathrm{norm}(x))))$, as it is stacked.

    S4D is linear and keeps features apart; the nonlinearity and the map W mix them (equation
    `s4-block`).

    Args:
        hidden_size: features d, ≥ 1.
        state_size: of `S4D`.
        dropout: rate before the residual, 0 … 1.
        device: of the parameters.
        dtype: of the parameters.
        **ssm: further arguments of `S4D`.

    Example:
        >>> S4Block(8, 16)(torch.zeros(2, 10, 8)).shape
        torch.Size([2, 10, 8])

    Source: Gu et al. 2022.
    """

    def __init__(
        self,
        hidden_size: int,
        state_size: int = 64,
        *,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **ssm: Any,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        d = checks.count("hidden_size", hidden_size)
        checks.number("dropout", dropout, least=0, most=1)
        self.norm = nn.LayerNorm(d, **like)
        self.ssm = S4D(d, state_size, **ssm, **like)
        self.mix = nn.Linear(d, 2 * d, **like)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return the outputs, all of time at once."""
        return x + self._mixed(self.ssm(self.norm(x)))  # eq. s4-block

    def step(
        self, x: Float[Tensor, "b d"], state: Tensor | None = None
    ) -> tuple[Float[Tensor, "b d"], Tensor]:
        """Return the output for one more input, and the state after it."""
        y, state = self.ssm.step(self.norm(x), state)
        return x + self._mixed(y), state

    def _mixed(self, y: Tensor) -> Tensor:
        return self.dropout(F.glu(self.mix(F.gelu(y)), -1))


class S4Network(nn.Module):
    """Blocks between a linear map in and one out: an output at every step.

    Args:
        input_size: features of an input, ≥ 1.
        hidden_size: features d of the blocks, ≥ 1.
        output_size: features of an output, ≥ 1.
        num_layers: blocks, ≥ 1.
        state_size: of `S4D`.
        **block: further arguments of `S4Block`.

    Example:
        >>> S4Network(1, 8, 10, num_layers=2, state_size=16)(torch.zeros(2, 50, 1)).shape
        torch.Size([2, 50, 10])

    Source: Gu et al. 2021, whose classifiers average the last features over time; as the map out
    is linear, that is the average of these outputs.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        num_layers: int = 2,
        state_size: int = 64,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **block: Any,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "output_size": output_size,
        }
        for name, size in (sizes | {"num_layers": num_layers}).items():
            checks.count(name, size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.encoder = nn.Linear(input_size, hidden_size, **like)
        self.blocks = nn.ModuleList(
            S4Block(hidden_size, state_size, **block, **like) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, **like)
        self.decoder = nn.Linear(hidden_size, output_size, **like)

    def forward(self, x: Float[Tensor, "b t i"]) -> Float[Tensor, "b t o"]:
        """Return the outputs, all of time at once."""
        checks.tensor("x", x, shape=("b", "t", self.input_size), floating=True)
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return self.decoder(self.norm(x))

    def step(
        self, x: Float[Tensor, "b i"], states: list[Tensor] | None = None
    ) -> tuple[Float[Tensor, "b o"], list[Tensor]]:
        """Return the output for one more input, and the states after it, one for each block."""
        checks.tensor("x", x, shape=("b", self.input_size), floating=True)
        given = [None] * len(self.blocks) if states is None else list(states)
        if len(given) != len(self.blocks):
            raise ValueError(
                f"states must hold {len(self.blocks)} tensors, got {len(given)}"
            )
        x, after = self.encoder(x), []
        for block, state in zip(self.blocks, given, strict=True):
            assert isinstance(block, S4Block)
            x, state = block.step(x, state)
            after.append(state)
        return self.decoder(self.norm(x)), after


def parameter_groups(
    model: nn.Module, lr: float, *, ssm_lr: float = 1e-3, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Return groups for an optimizer: A and Δ of every S4D get a small rate and no weight decay.

    Args:
        model: anything that holds S4D layers.
        lr: rate of all else, > 0.
        ssm_lr: rate of A and Δ, > 0; they never get more than `lr`.
        weight_decay: of all else, ≥ 0.

    Example:
        >>> [len(group["params"]) for group in parameter_groups(S4Block(4, 8), 0.01)]
        [6, 3]

    Source: the optimizer settings that Gu et al. publish with their code.
    """
    lr, ssm_lr = (
        checks.number("lr", lr, above=0),
        checks.number("ssm_lr", ssm_lr, above=0),
    )
    weight_decay = checks.number("weight_decay", weight_decay, least=0)
    careful = [
        p
        for module in model.modules()
        if isinstance(module, S4D)
        for p in (module.log_delta, module.log_decay, module.frequency)
    ]
    known = {id(p) for p in careful}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        {"params": rest, "lr": lr, "weight_decay": weight_decay},
        {"params": careful, "lr": min(lr, ssm_lr), "weight_decay": 0.0},
    ]
