r"""Activation functions and their derivatives: the nonlinearity between two affine maps.

Chapter: chapters/foundations/activations.md
Papers: ReLU: Fukushima 1969, Nair and Hinton 2010; leaky ReLU: Maas et al. 2013; ELU: Clevert et
al. 2015; GELU, SiLU: Hendrycks and Gimpel 2016; Mish: Misra 2019; SwiGLU: Shazeer 2020
Axes: any shape; only softmax joins values, along one axis of d classes.

Each function is its own equation in plain torch, written so that it survives |z| = 1000 in
float32, forwards and backwards. Torch's fused operators, the same and faster, are the tests' twin.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

Elementwise = Float[Tensor, "*shape"]
Activation = Callable[..., Tensor]


def sigmoid(z: Elementwise) -> Elementwise:
    r"""Return $\sigma(z) = 1 / (1 + e^{-z})$ (equation `activations-sigmoid`).

    Args:
        z: floating point, any shape.

    Returns:
        Values in 0 … 1; half-way at 0. Not the step of the perceptron, which also goes by σ.

    Example:
        >>> sigmoid(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
        [0.0, 0.5, 1.0]
    """
    _check(z)
    return torch.exp(-_softplus(-z))  # eq. activations-sigmoid, as e^-ln(1 + e^-z)


def tanh(z: Elementwise) -> Elementwise:
    r"""Return $\tanh z = (e^z - e^{-z}) / (e^z + e^{-z})$ (equation `activations-tanh`).

    Args:
        z: floating point, any shape.

    Example:
        >>> tanh(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
        [-1.0, 0.0, 1.0]
    """
    _check(z)
    rounds_to_one = math.log(16 / torch.finfo(z.dtype).eps)  # 2z beyond which tanh is 1
    u = torch.expm1((2 * z).clamp(max=rounds_to_one))
    return u / (u + 2)  # eq. activations-tanh, both sides times e^z: u = e^2z - 1


def relu(z: Elementwise) -> Elementwise:
    r"""Return $\max(0, z)$ (equation `activations-relu`); its slope at 0 is taken to be 0.

    Args:
        z: floating point, any shape.

    Example:
        >>> relu(torch.tensor([-2.0, 3.0])).tolist()
        [0.0, 3.0]
    """
    _check(z)
    return F.threshold(z, 0.0, 0.0)  # eq. activations-relu: z above 0, else 0


def _below(z: Tensor) -> Tensor:
    r"""Return $\min(z, 0)$, with slope 1 at 0; that of `clamp` depends on torch's version."""
    return z.masked_fill(z > 0, 0)


def leaky_relu(z: Elementwise, negative_slope: float = 0.01) -> Elementwise:
    r"""Return $z$ above 0 and $\alpha z$ below (equation `activations-leaky-relu`).

    That is $\max(\alpha z, z)$ only for $\alpha \le 1$, so it is not written as a maximum.

    Args:
        z: floating point, any shape.
        negative_slope: the slope α below zero, any finite number.

    Example:
        >>> leaky_relu(torch.tensor([-2.0, 3.0]), negative_slope=0.5).tolist()
        [-1.0, 3.0]
    """
    alpha = checks.number("negative_slope", negative_slope)
    return relu(z) + alpha * _below(z)  # eq. activations-leaky-relu, with no branch


def elu(z: Elementwise, alpha: float = 1.0) -> Elementwise:
    r"""Return $z$ above 0 and $\alpha(e^z - 1)$ below (equation `activations-elu`).

    Args:
        z: floating point, any shape.
        alpha: minus the value far below zero; the slope is continuous at 0 only for 1.

    Example:
        >>> elu(torch.tensor([-1000.0, 3.0]), alpha=2.0).tolist()
        [-2.0, 3.0]
    """
    alpha = checks.number("alpha", alpha)
    # Cut off for autograd too: were e^z to overflow unseen, its slope 0 · ∞ would be NaN.
    return relu(z) + alpha * torch.expm1(
        _below(z)
    )  # eq. activations-elu, with no branch


def gelu(z: Elementwise, approximate: str = "none") -> Elementwise:
    r"""Return $z\,\Phi(z)$, Φ the distribution function of the standard normal.

    Equations `activations-gelu` and `activations-gelu-erf`; the older, cheaper form is
    `activations-gelu-tanh`, off by at most 4.73e-4, at |z| ≈ 2.70.

    Args:
        z: floating point, any shape.
        approximate: `"none"` or `"tanh"`.

    Example:
        >>> gelu(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
        [-0.0, 0.0, 1000.0]

    Source: Hendrycks and Gimpel 2016, whose letter for $z$ is $x$.
    """
    _check(z)
    checks.one_of("approximate", approximate, ("none", "tanh"))
    if approximate == "tanh":
        return 0.5 * z * (1 + tanh(_gelu_inner(z)))  # eq. activations-gelu-tanh
    return z * _normal_cdf(z)  # eq. activations-gelu


def silu(z: Elementwise) -> Elementwise:
    r"""Return $z\,\sigma(z)$, also called Swish (equation `activations-silu`).

    Args:
        z: floating point, any shape.

    Example:
        >>> silu(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
        [-0.0, 0.0, 1000.0]
    """
    return z * sigmoid(z)  # eq. activations-silu


def softmax(z: Float[Tensor, "*n d"], dim: int = -1) -> Float[Tensor, "*n d"]:
    r"""Return $e^{z_i} / \sum_j e^{z_j}$ along an axis (equation `activations-softmax`).

    The largest score is subtracted first; that changes nothing but the overflow.

    Args:
        z: scores, floating point, one axis or more; $-\infty$ is a score of probability 0.
        dim: the axis whose values will sum to 1.

    Example:
        >>> softmax(torch.tensor([1000.0, 1000.0, 0.0])).tolist()
        [0.5, 0.5, 0.0]
    """
    _check(z)
    dim = checks.count("dim", dim, least=-z.ndim)
    if dim >= z.ndim or z.shape[dim] == 0:
        raise ValueError(
            f"dim={dim} must be a non-empty axis of z, got shape {tuple(z.shape)}"
        )
    e = torch.exp(z - z.amax(dim, keepdim=True).detach())
    return e / e.sum(dim, keepdim=True)  # eq. activations-softmax


def mish(z: Elementwise) -> Elementwise:
    r"""Return $z\tanh(\ln(1 + e^z))$ (equation `activations-mish`).

    Args:
        z: floating point, any shape.

    Example:
        >>> mish(torch.tensor([-1000.0, 0.0, 1000.0])).tolist()
        [-0.0, 0.0, 1000.0]
    """
    _check(z)
    return z * tanh(_softplus(z))  # eq. activations-mish


def identity(z: Elementwise) -> Elementwise:
    """Return `z` itself: no activation, the baseline of this chapter."""
    return z


def swiglu(a: Elementwise, b: Elementwise) -> Elementwise:
    r"""Return $\mathrm{SiLU}(a) \odot b$: a gate and what it lets through (`activations-swiglu`).

    `nnlib.kernels.swiglu` has it as one kernel, which keeps only a and b for the gradient.

    Args:
        a: the gate before its activation, floating point.
        b: the values, of the same shape.

    Example:
        >>> swiglu(torch.tensor([-1000.0, 1000.0]), torch.tensor([5.0, 5.0])).tolist()
        [-0.0, 5000.0]
    """
    checks.tensor("b", b, floating=True)
    checks.tensor("a", a, shape=tuple(b.shape), floating=True)
    return silu(a) * b  # eq. activations-swiglu


def activation(name: str) -> Activation:
    """Return the function of that name.

    Args:
        name: one of the nine of the chapter, or `"identity"`.

    Example:
        >>> activation("relu")(torch.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """
    return _FUNCTIONS[checks.one_of("name", name, _FUNCTIONS)]


def derivative(name: str) -> Activation:
    r"""Return the function of $z$ that gives $f'(z)$, with the options of $f$ itself.

    At a kink it is autograd's choice: the slope from below. For softmax it is the Jacobian along
    the last axis, so a `z` of shape (…, d) gives (…, d, d).

    Args:
        name: as `activation` takes it.

    Example:
        >>> derivative("relu")(torch.tensor([-1.0, 0.0, 2.0])).tolist()
        [0.0, 0.0, 1.0]
    """
    return partial(_checked, _DERIVATIVES[checks.one_of("name", name, _DERIVATIVES)])


def _checked(slope: Activation, z: Tensor, *options: Any, **named: Any) -> Tensor:
    _check(z)
    return slope(z, *options, **named)


def _sigmoid_slope(z: Tensor) -> Tensor:
    s = sigmoid(z)
    return s * (1 - s)  # eq. activations-sigmoid-derivative


def _tanh_slope(z: Tensor) -> Tensor:
    return 1 - tanh(z) ** 2  # eq. activations-tanh-derivative


def _relu_slope(z: Tensor) -> Tensor:
    return (z > 0).to(z.dtype)  # eq. activations-relu-derivative


def _leaky_relu_slope(z: Tensor, negative_slope: float = 0.01) -> Tensor:
    alpha = checks.number("negative_slope", negative_slope)
    return torch.where(
        z > 0, torch.ones_like(z), alpha
    )  # eq. activations-leaky-relu-derivative


def _elu_slope(z: Tensor, alpha: float = 1.0) -> Tensor:
    below = checks.number("alpha", alpha) * torch.exp(z.clamp(max=0))
    return torch.where(
        z > 0, torch.ones_like(z), below
    )  # eq. activations-elu-derivative


def _gelu_slope(z: Tensor, approximate: str = "none") -> Tensor:
    if checks.one_of("approximate", approximate, ("none", "tanh")) == "none":
        density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
        return _normal_cdf(z) + z * density  # eq. activations-gelu-derivative
    t, inner_slope = tanh(_gelu_inner(z)), _ROOT * (1 + 3 * _CUBIC * z**2)
    # eq. activations-gelu-tanh-derivative
    return 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * inner_slope


def _silu_slope(z: Tensor) -> Tensor:
    s = sigmoid(z)
    return s * (1 + z * (1 - s))  # eq. activations-silu-derivative


def _softmax_jacobian(z: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d d"]:
    s = softmax(z)
    # eq. activations-softmax-jacobian
    return torch.diag_embed(s) - s[..., :, None] * s[..., None, :]


def _mish_slope(z: Tensor) -> Tensor:
    t = tanh(_softplus(z))
    return t + z * sigmoid(z) * (1 - t**2)  # eq. activations-mish-derivative


_FUNCTIONS: dict[str, Activation] = {
    f.__name__: f
    for f in (sigmoid, tanh, relu, leaky_relu, elu, gelu, silu, softmax, mish, identity)
}
_DERIVATIVES: dict[str, Activation] = {
    "sigmoid": _sigmoid_slope, "tanh": _tanh_slope, "relu": _relu_slope,
    "leaky_relu": _leaky_relu_slope, "elu": _elu_slope, "gelu": _gelu_slope, "silu": _silu_slope,
    "softmax": _softmax_jacobian, "mish": _mish_slope, "identity": torch.ones_like,
}  # fmt: skip
_ROOT, _CUBIC = math.sqrt(2 / math.pi), 0.044715


def _normal_cdf(z: Elementwise) -> Elementwise:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))  # eq. activations-gelu-erf


def _gelu_inner(z: Elementwise) -> Elementwise:
    return _ROOT * (z + _CUBIC * z**3)


def _softplus(z: Elementwise) -> Elementwise:
    """Return ln(1 + e^z) as the log of a sum of exponentials, which never overflows."""
    return torch.logaddexp(z, torch.zeros_like(z))  # eq. activations-softplus


def _check(z: Tensor) -> None:
    checks.tensor("z", z, floating=True)
