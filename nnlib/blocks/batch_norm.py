"""Batch norm: each feature in units of its own spread over the batch.

Chapter: chapters/foundations/regularization.md     Paper: Ioffe and Szegedy 2015
Axes: b batch, c channels or features, t time, y x rows and columns of an image.

`batch_norm` is the equation, readable. The modules take torch.nn's arguments and state, and run its
fused operation, which the tests hold to the equation.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks


def batch_norm(
    x: Float[Tensor, "b c *space"],
    weight: Float[Tensor, " c"] | None = None,
    bias: Float[Tensor, " c"] | None = None,
    eps: float = 1e-5,
) -> Float[Tensor, "b c *space"]:
    """Return batch norm with the batch's own statistics: the readable twin of training mode.

    Args:
        x: floating point, the features on axis 1, two values a feature or more to make sense.
        weight: γ, one a feature, or None for 1.
        bias: β, one a feature, or None for 0.
        eps: ε, added to the variance.
    """
    checks.tensor("x", x, floating=True)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (b, c, …), got {tuple(x.shape)}")
    axes = [axis for axis in range(x.ndim) if axis != 1]  # all but the features
    mean = x.mean(axes, keepdim=True)  # eq. regularization-batchnorm-statistics
    variance = (x - mean).square().mean(axes, keepdim=True)
    y = (x - mean) / (variance + eps).sqrt()  # eq. regularization-batchnorm-normalize
    along = (-1,) + (1,) * (x.ndim - 2)  # one number a feature, whatever follows it
    # eq. regularization-batchnorm-affine
    y = y if weight is None else y * weight.view(along)
    return y if bias is None else y + bias.view(along)


class _BatchNorm(nn.Module):
    """What `BatchNorm1d` and `BatchNorm2d` share: all but the shape of the input."""

    shapes: tuple[tuple[str, ...], ...]
    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_features = c = checks.count("num_features", num_features)
        self.eps = checks.number("eps", eps, above=0)
        if momentum is not None:
            momentum = checks.number("momentum", momentum, least=0, most=1)
        self.momentum = momentum
        self.affine = checks.flag("affine", affine)
        track = checks.flag("track_running_stats", track_running_stats)
        self.track_running_stats = track
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.ones(c, **like)) if affine else None
        self.bias = nn.Parameter(torch.zeros(c, **like)) if affine else None
        self.register_buffer("running_mean", torch.zeros(c, **like) if track else None)
        self.register_buffer("running_var", torch.ones(c, **like) if track else None)
        self.register_buffer(
            "num_batches_tracked", torch.tensor(0, device=device) if track else None
        )

    def reset_parameters(self) -> None:
        """Begin again: γ = 1, β = 0, and the running statistics of no batch."""
        for tensor, start in (
            (self.weight, 1),
            (self.bias, 0),
            (self.running_mean, 0),
            (self.running_var, 1),
            (self.num_batches_tracked, 0),
        ):
            if tensor is not None:
                nn.init.constant_(tensor, start)

    def forward(self, x: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """Normalize with the batch's statistics in training, with the running ones in use."""
        checks.tensor("x", x, floating=True)
        if x.ndim not in map(len, self.shapes) or x.shape[1] != self.num_features:
            fits = " or ".join(f"({', '.join(s)})" for s in self.shapes)
            raise ValueError(
                f"x must have shape {fits} with c = num_features={self.num_features}, "
                f"got {tuple(x.shape)}"
            )
        # whose statistics: the batch's own?
        own = self.training or self.running_mean is None
        if own and x.numel() <= self.num_features:
            raise ValueError(
                f"x must hold two values a feature or more in training, got {tuple(x.shape)}: "
                "one value has no variance"
            )
        rate, keep = self.momentum or 0.0, self.track_running_stats
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked += 1
            if self.momentum is None:  # the plain mean of all batches so far
                rate = 1 / float(self.num_batches_tracked)
        mean, var = (self.running_mean, self.running_var) if keep else (None, None)
        # eq. regularization-batchnorm-running and -eval: this updates both buffers in training
        return F.batch_norm(x, mean, var, self.weight, self.bias, own, rate, self.eps)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.num_features}, eps={self.eps:g}, momentum={self.momentum}"


class BatchNorm1d(_BatchNorm):
    r"""Batch norm of features: $\hat z = (z - \mu_B)/\sqrt{\sigma_B^2 + \epsilon}$, then γ and β.

    In training $\mu_B, \sigma_B^2$ are the batch's, and running means of them are kept, the
    variance unbiased; in evaluation the running ones are used (equations
    `regularization-batchnorm-running`, `regularization-batchnorm-eval`).

    Args:
        num_features: features or channels c, ≥ 1.
        eps: ε > 0, added to the variance.
        momentum: weight of the newest batch in the running statistics, 0 … 1, or None for the
            plain mean of all batches.
        affine: whether γ (`weight`) and β (`bias`) are learned.
        track_running_stats: whether running statistics are kept; without them evaluation too uses
            the batch's.
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    Example:
        >>> norm = BatchNorm1d(2, affine=False)
        >>> norm(torch.tensor([[1.0, 10.0], [3.0, 30.0]])).round().tolist()
        [[-1.0, -1.0], [1.0, 1.0]]

    Source: Ioffe and Szegedy 2015.
    """

    shapes = (("b", "c"), ("b", "c", "t"))


class BatchNorm2d(_BatchNorm):
    """Batch norm of images: one mean and variance a channel, over batch, rows and columns.

    Arguments, errors and state as for `BatchNorm1d`.

    Example:
        >>> BatchNorm2d(3)(torch.randn(4, 3, 8, 8)).shape
        torch.Size([4, 3, 8, 8])

    Source: Ioffe and Szegedy 2015, section 3.2.
    """

    shapes = (("b", "c", "y", "x"),)


@torch.no_grad()
def fold_batch_norm(
    layer: nn.Linear | nn.Conv2d, norm: _BatchNorm | nn.modules.batchnorm._BatchNorm
) -> nn.Linear | nn.Conv2d:
    r"""Return one layer that does what `layer` and then `norm`, in evaluation mode, do.

    Equation `regularization-batchnorm-fold`.

    Args:
        layer: linear, or a 2-D convolution; it is left as it is.
        norm: batch norm of the layer's outputs, ours or torch's, with running statistics.
    """
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise TypeError(f"layer must be Linear or Conv2d, got {type(layer).__name__}")
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            "norm must keep running statistics, got track_running_stats=False"
        )
    if norm.num_features != len(layer.weight):
        raise ValueError(
            f"norm must have {len(layer.weight)} features, got {norm.num_features}"
        )
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    start = 0 if layer.bias is None else layer.bias
    shift = 0 if norm.bias is None else norm.bias
    folded = copy.deepcopy(layer)
    folded.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
    folded.bias = nn.Parameter((start - norm.running_mean) * scale + shift)
    return folded
