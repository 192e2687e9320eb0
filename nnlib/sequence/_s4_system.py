"""A linear system at steps: discretised, as a convolution, and the convolution by transforms.

Part of `nnlib.sequence.s4`, with its axes.
"""

from typing import Any

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from nnlib import checks

METHODS = {"euler": 0.0, "bilinear": 0.5, "backward": 1.0}
"""Shares α of the new state in the slope of a step; see `discretize`."""


def entries(name: str, value: Tensor, shape: tuple[int | str, ...]) -> Tensor:
    """Return `value` when it is a real or complex tensor of this shape."""
    checks.tensor(name, value, shape=shape)
    if not (value.is_floating_point() or value.is_complex()):
        raise TypeError(f"{name} must be floating point or complex, got {value.dtype}")
    return value


def _square(A: Tensor) -> Tensor:
    entries("A", A, ("n", "n"))
    if A.shape[0] != A.shape[1]:
        raise ValueError(f"A must be square, got shape {tuple(A.shape)}")
    return A


def checked_step(delta: float | Tensor) -> float | Tensor:
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
    entries("B", B, (n,) if B.ndim == 1 else (n, "m"))
    if B.dtype != A.dtype:
        raise TypeError(f"B must have the dtype of A, {A.dtype}, got {B.dtype}")
    delta = checked_step(delta)
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
    entries("B", B, (n,))
    entries("C", C, (n,))
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
