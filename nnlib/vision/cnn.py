r"""Convolution in all its forms, its gradient and its cost; networks that are made of it.

`conv2d` calls torch's operator; `conv2d_loop` is its slow twin, the equation pixel by pixel, and
`conv2d_matmul` the same as one matrix product. `LeNet5`, `AlexNet` and `VGG` are the classics;
the last two take torchvision's weights as they are.

Chapter: chapters/vision/cnn.md     Papers: LeCun et al. 1989 and 1998; Krizhevsky et al. 2012;
Simonyan and Zisserman 2014
Axes: b batch, c input channels, o output channels, y x rows and columns of an image, m n rows and
columns of a kernel.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.vision._convolution import (
    Gradients,
    avg_pool2d,
    conv2d,
    conv2d_backward,
    conv2d_loop,
    conv2d_matmul,
    conv_transpose2d,
    conv_transpose2d_loop,
    max_pool2d,
)
from nnlib.vision._convolution_sizes import (
    Counts,
    Pair,
    cost,
    output_size,
    receptive_field,
    transposed_output_size,
)
from nnlib.vision._lenet import LENET_TABLE, LeNet5, scaled_tanh

__all__ = [
    "LENET_TABLE",
    "VGG",
    "VGG_BLOCKS",
    "AlexNet",
    "Counts",
    "DepthwiseSeparableConv2d",
    "Gradients",
    "LeNet5",
    "Pair",
    "SimpleCNN",
    "avg_pool2d",
    "conv2d",
    "conv2d_backward",
    "conv2d_loop",
    "conv2d_matmul",
    "conv_transpose2d",
    "conv_transpose2d_loop",
    "cost",
    "max_pool2d",
    "output_size",
    "receptive_field",
    "scaled_tanh",
    "transposed_output_size",
]


class DepthwiseSeparableConv2d(nn.Module):
    r"""A convolution in two steps: one small filter for each channel, then a mix of the channels.

    Equal to a full convolution whose kernels are products, $K_{o,c,m,n} = P_{o,c} D_{c,m,n}$
    (equation `cnn-separable`), at a share $1/C_\text{out} + 1/k^2$ of its multiplications
    (`cnn-separable-ratio`).

    Args:
        in_channels: channels in, ≥ 1.
        out_channels: channels out, ≥ 1.
        kernel_size: rows and columns of the depthwise kernels, ≥ 1.
        stride: of the depthwise step, ≥ 1.
        padding: of the depthwise step, ≥ 0.
        dilation: of the depthwise step, ≥ 1.
        bias: whether the pointwise step has one; the depthwise step needs none, because the
            pointwise one would pass on a constant.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        depthwise: `torch.nn.Conv2d` with as many groups as channels.
        pointwise: `torch.nn.Conv2d` with kernels of 1 × 1.

    Example:
        >>> DepthwiseSeparableConv2d(8, 16, 3, padding=1)(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 16, 5, 5])

    Source: Sifre and Mallat 2014; Howard et al. 2017, with a norm and a ReLU after either step.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = c = checks.count("in_channels", in_channels)
        outputs = checks.count("out_channels", out_channels)
        self.sizes = (
            checks.count("kernel_size", kernel_size),
            checks.count("stride", stride),
            checks.count("padding", padding, least=0),
            checks.count("dilation", dilation),
        )
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.depthwise = nn.Conv2d(c, c, *self.sizes, groups=c, bias=False, **like)
        bias = checks.flag("bias", bias)
        self.pointwise = nn.Conv2d(c, outputs, 1, bias=bias, **like)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b o y_out x_out"]:
        """Filter every channel, then mix them."""
        checks.images("x", x, self.in_channels)
        for size in x.shape[2:]:
            output_size(size, *self.sizes)
        return self.pointwise(self.depthwise(x))  # eq. cnn-separable

    def dense_weight(self) -> Float[Tensor, "o c m n"]:
        """Return the kernels of the full convolution that does the same."""
        return self.pointwise.weight * self.depthwise.weight.transpose(0, 1)


class SimpleCNN(nn.Module):
    r"""The plain recipe: convolution, ReLU and pooling in turn, then one number a map.

    Kernels are 3 × 3; between two convolutions, max pooling halves rows and columns. After the
    last one, the mean or the maximum over all places is taken (equation `cnn-global-pool`). So an
    image may have any size, and the last layer has a weight for each channel and class, not for
    each place.

    Args:
        in_channels: channels of an image, ≥ 1.
        num_classes: scores in the answer, ≥ 1.
        channels: of each convolution, one or more.
        pool: what remains of a map in the end: `mean` or `max`.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = SimpleCNN(in_channels=1, num_classes=26, channels=[16, 32])
        >>> model(torch.zeros(5, 1, 28, 28)).shape, model(torch.zeros(5, 1, 20, 36)).shape
        (torch.Size([5, 26]), torch.Size([5, 26]))

    Source: the pattern of LeCun et al. 1989; the mean over places, Lin, Chen and Yan 2013.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        channels: Sequence[int] = (32, 64),
        pool: str = "mean",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        classes = checks.count("num_classes", num_classes)
        if isinstance(channels, str) or not isinstance(channels, Sequence):
            raise TypeError(f"channels={channels!r} must be a sequence of integers")
        if not channels:
            raise ValueError("channels must hold one number or more, got none")
        widths = [
            self.in_channels,
            *(checks.count(f"channels[{at}]", c) for at, c in enumerate(channels)),
        ]
        self.pool = checks.one_of("pool", pool, ("mean", "max"))
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, **like)
            for before, after in pairwise(widths)
        )
        self.classifier = nn.Linear(widths[-1], classes, **like)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class."""
        last = self.maps(x)[-1]  # eq. cnn-global-pool
        return self.classifier(
            last.mean((2, 3)) if self.pool == "mean" else last.amax((2, 3))
        )

    def maps(self, x: Float[Tensor, "b c y x"]) -> list[Tensor]:
        """Return what each convolution makes of the images, each map half as large as before."""
        checks.images("x", x, self.in_channels, least=2 ** (len(self.convolutions) - 1))
        found: list[Tensor] = []
        for convolution in self.convolutions:
            z = convolution(F.max_pool2d(found[-1], 2) if found else x)
            found.append(F.relu(z))
        return found


class AlexNet(nn.Module):
    """AlexNet: the network that won ImageNet's challenge of 2012, in its one-tower form.

    Five convolutions, three of them pooled by overlapping windows of 3 at a stride of 2, and three
    linear layers that hold 96 % of the 61 100 840 parameters. It is the form of 2014, for one GPU
    and without local response normalization; torchvision's `alexnet` is the same, and its
    `state_dict` fits.

    Args:
        num_classes: scores in the answer, ≥ 1.
        dropout: probability of dropping an input of the first two linear layers, 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> AlexNet(num_classes=5, device="meta")(torch.zeros(2, 3, 224, 224, device="meta")).shape
        torch.Size([2, 5])

    Source: Krizhevsky, Sutskever and Hinton 2012; Krizhevsky 2014.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        dropout: float = 0.5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        classes = checks.count("num_classes", num_classes)
        drop = checks.number("dropout", dropout, least=0, most=1)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2, **like),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2, **like),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1, **like),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, **like),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1, **like),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(drop),
            nn.Linear(256 * 6 * 6, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Dropout(drop),
            nn.Linear(4096, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Linear(4096, classes, **like),
        )

    def forward(self, x: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class; images have 63 rows and columns or more."""
        x = self.features(checks.images("x", x, 3, least=63))
        return self.classifier(self.avgpool(x).flatten(1))


VGG_BLOCKS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions in each of five blocks, by depth: columns A, B, D and E of the paper."""


class VGG(nn.Module):
    """VGG: nothing but kernels of 3 × 3, in five blocks between poolings.

    Two kernels of 3 × 3 see as much as one of 5 × 5, three as much as one of 7 × 7, with fewer
    weights and more nonlinearities. The linear layers hold 89 % of the 138 357 544 parameters of
    depth 16. The `state_dict` of torchvision's `vgg16` and its siblings fits.

    Args:
        depth: layers with weights: 11, 13, 16 or 19.
        batch_norm: whether each convolution is followed by batch norm, which is younger than VGG.
        num_classes: scores in the answer, ≥ 1.
        dropout: probability of dropping an output of the first two linear layers, 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = VGG(depth=11, num_classes=5, device="meta")
        >>> model(torch.zeros(2, 3, 224, 224, device="meta")).shape
        torch.Size([2, 5])

    Source: Simonyan and Zisserman 2014.
    """

    def __init__(
        self,
        depth: int = 16,
        batch_norm: bool = False,
        num_classes: int = 1000,
        dropout: float = 0.5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        blocks = VGG_BLOCKS[
            checks.one_of("depth", checks.count("depth", depth), VGG_BLOCKS)
        ]
        norm = checks.flag("batch_norm", batch_norm)
        classes = checks.count("num_classes", num_classes)
        drop = checks.number("dropout", dropout, least=0, most=1)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        before = 3
        for at, convolutions in enumerate(blocks):
            width = min(64 * 2**at, 512)
            for _ in range(convolutions):
                layers.append(nn.Conv2d(before, width, 3, padding=1, **like))
                layers += [BatchNorm2d(width, **like)] if norm else []
                layers.append(nn.ReLU(inplace=True))
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Dropout(drop),
            nn.Linear(4096, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Dropout(drop),
            nn.Linear(4096, classes, **like),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw kernels after He et al. by their outputs, linear layers with a spread of 0.01."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu"
                )
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class; images have 32 rows and columns or more."""
        x = self.features(checks.images("x", x, 3, least=32))
        return self.classifier(self.avgpool(x).flatten(1))
