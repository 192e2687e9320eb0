"""Blocks with a way round them: basic, bottleneck, and both with normalisation first.

Axes: b batch, c channels, y x rows and columns of a picture.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.vision._picture_networks import _conv


class _Block(nn.Module):
    """A residual block of 2015: what its two forms share."""

    expansion: int
    in_channels: int
    downsample: nn.Module | None

    def branch(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the correction F(x) alone."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the input plus its correction, rectified."""
        checks.images("x", x, self.in_channels)
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.branch(x).add_(shortcut).relu_()  # eq. resnet-block


class BasicBlock(_Block):
    r"""$y = \mathrm{ReLU}(x + F(x))$, where F is two 3 × 3 convolutions, each with batch norm.

    $F(x) = \mathrm{BN}_2(W_2 * \mathrm{ReLU}(\mathrm{BN}_1(W_1 * x)))$ (equations `resnet-block`
    and `resnet-basic`). Where shapes change, x passes a 1 × 1 convolution with batch norm first
    (`resnet-projection`).

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of the first convolution and of the shortcut.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> BasicBlock(8, 16, stride=2)(torch.zeros(2, 8, 6, 6)).shape
        torch.Size([2, 16, 3, 3])

    Source: He, Zhang, Ren and Sun 2015.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, d, stride = _sizes(in_channels, channels, stride)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_channels = c
        self.conv1 = _conv(c, d, 3, stride, **like)
        self.bn1 = BatchNorm2d(d, **like)
        self.conv2 = _conv(d, d, 3, **like)
        self.bn2 = BatchNorm2d(d, **like)
        self.downsample = _projection(c, d, stride, **like)

    def branch(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the correction F(x) alone."""
        h = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(h))  # eq. resnet-basic


class Bottleneck(_Block):
    r"""$y = \mathrm{ReLU}(x + F(x))$, where F narrows, convolves 3 × 3, and widens fourfold.

    Three convolutions, 1 × 1, 3 × 3 and 1 × 1, each with batch norm; ReLU after the first two
    (equations `resnet-block` and `resnet-bottleneck`). The stride is that of the 3 × 3
    convolution, as in torchvision; in 2015 it was that of the first one.

    Args:
        in_channels: of the input.
        channels: in the middle of a block with one group; the output has four times as many.
        stride: of the 3 × 3 convolution and of the shortcut.
        groups: of the 3 × 3 convolution; 32 of them make a ResNeXt.
        width_per_group: channels of a group, for 64 `channels`; 128 make a wide ResNet.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> Bottleneck(64, 16)(torch.zeros(2, 64, 6, 6)).shape
        torch.Size([2, 64, 6, 6])

    Source: He, Zhang, Ren and Sun 2015; groups: Xie et al. 2016.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        groups: int = 1,
        width_per_group: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, d, stride = _sizes(in_channels, channels, stride)
        inner = _inner(d, groups, width_per_group)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_channels = c
        self.conv1 = _conv(c, inner, 1, **like)
        self.bn1 = BatchNorm2d(inner, **like)
        self.conv2 = _conv(inner, inner, 3, stride, groups=groups, **like)
        self.bn2 = BatchNorm2d(inner, **like)
        self.conv3 = _conv(inner, 4 * d, 1, **like)
        self.bn3 = BatchNorm2d(4 * d, **like)
        self.downsample = _projection(c, 4 * d, stride, **like)

    def branch(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the correction F(x) alone."""
        h = self.bn1(self.conv1(x)).relu_()
        h = self.bn2(self.conv2(h)).relu_()
        return self.bn3(self.conv3(h))  # eq. resnet-bottleneck


class _PreActivation(nn.Module):
    """A residual block of 2016: nothing stands after the sum, so the shortcut is the identity."""

    expansion: int
    in_channels: int
    bn1: BatchNorm2d
    downsample: nn.Module | None

    def branch(self, active: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the correction, from an input that is normalized and rectified already."""
        raise NotImplementedError

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the input plus its correction; where shapes change, its projection plus that."""
        checks.images("x", x, self.in_channels)
        active = self.bn1(x).relu_()
        shortcut = x if self.downsample is None else self.downsample(active)
        return self.branch(active).add_(shortcut)  # eq. resnet-preactivation


class PreActivationBlock(_PreActivation):
    r"""$y = x + W_2 * \mathrm{ReLU}(\mathrm{BN}_2(W_1 * \mathrm{ReLU}(\mathrm{BN}_1(x))))$.

    Equation `resnet-preactivation`. Arguments as for `BasicBlock`.

    Example:
        >>> PreActivationBlock(8, 8)(torch.zeros(2, 8, 6, 6)).shape
        torch.Size([2, 8, 6, 6])

    Source: He, Zhang, Ren and Sun 2016.
    """

    expansion = 1

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, d, stride = _sizes(in_channels, channels, stride)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_channels = c
        self.bn1 = BatchNorm2d(c, **like)
        self.conv1 = _conv(c, d, 3, stride, **like)
        self.bn2 = BatchNorm2d(d, **like)
        self.conv2 = _conv(d, d, 3, **like)
        self.downsample = _projection(c, d, stride, norm=False, **like)

    def branch(self, active: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the correction, from an input that is normalized and rectified already."""
        return self.conv2(self.bn2(self.conv1(active)).relu_())


class PreActivationBottleneck(_PreActivation):
    r"""A bottleneck with batch norm and ReLU before each convolution, and nothing after the sum.

    Arguments as for `Bottleneck`.

    Example:
        >>> PreActivationBottleneck(64, 16)(torch.zeros(2, 64, 6, 6)).shape
        torch.Size([2, 64, 6, 6])

    Source: He, Zhang, Ren and Sun 2016.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        *,
        groups: int = 1,
        width_per_group: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, d, stride = _sizes(in_channels, channels, stride)
        inner = _inner(d, groups, width_per_group)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_channels = c
        self.bn1 = BatchNorm2d(c, **like)
        self.conv1 = _conv(c, inner, 1, **like)
        self.bn2 = BatchNorm2d(inner, **like)
        self.conv2 = _conv(inner, inner, 3, stride, groups=groups, **like)
        self.bn3 = BatchNorm2d(inner, **like)
        self.conv3 = _conv(inner, 4 * d, 1, **like)
        self.downsample = _projection(c, 4 * d, stride, norm=False, **like)

    def branch(self, active: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the correction, from an input that is normalized and rectified already."""
        h = self.bn2(self.conv1(active)).relu_()
        return self.conv3(self.bn3(self.conv2(h)).relu_())


def _projection(
    c: int, d: int, stride: int, norm: bool = True, **like: Any
) -> nn.Module | None:
    """Return what brings x to the branch's shape; None where it has it already."""
    if stride == 1 and c == d:
        return None
    conv = nn.Conv2d(c, d, 1, stride, bias=False, **like)  # eq. resnet-projection
    return nn.Sequential(conv, BatchNorm2d(d, **like)) if norm else conv


def _sizes(in_channels: int, channels: int, stride: int) -> tuple[int, int, int]:
    return (
        checks.count("in_channels", in_channels),
        checks.count("channels", channels),
        checks.count("stride", stride),
    )


def _inner(channels: int, groups: int, width_per_group: int) -> int:
    """Return how many channels the 3 × 3 convolution of a bottleneck has."""
    groups = checks.count("groups", groups)
    inner = int(channels * checks.count("width_per_group", width_per_group) / 64)
    if inner < 1:
        raise ValueError(
            f"width_per_group={width_per_group} leaves no channel of channels={channels}: "
            f"it takes {math.ceil(64 / channels)} or more"
        )
    return inner * groups
