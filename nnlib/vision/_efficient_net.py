"""EfficientNet: inverted bottlenecks that squeeze and excite, scaled in three ways at once.

Axes: b batch, c channels, y x rows and columns of a picture.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.vision._picture_networks import _check_batch, _conv


class StochasticDepth(nn.Module):
    r"""In training, drop the whole correction of an example with probability p; scale the rest up.

    $\tilde F = m F / (1 - p)$ with one $m \sim \text{Bernoulli}(1 - p)$ an example (equation
    `resnet-stochastic-depth`). In use it does nothing.

    Args:
        p: probability of dropping, 0 … 1; at 1 every correction is dropped.

    Example:
        >>> sorted(set(StochasticDepth(0.75)(torch.ones(1000, 1)).flatten().tolist()))
        [0.0, 4.0]

    Source: Huang et al. 2016, who scale at test time instead.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = checks.number("p", p, least=0, most=1)

    def forward(self, x: Float[Tensor, "b *any"]) -> Float[Tensor, "b *any"]:
        """Return x with some examples set to 0 in training, and x itself in use."""
        checks.tensor("x", x, floating=True)
        if not self.training or self.p == 0:
            return x
        if x.ndim == 0:
            raise ValueError("x must have a first axis, the batch, got a scalar")
        keep = x.new_empty((len(x),) + (1,) * (x.ndim - 1)).bernoulli_(1 - self.p)
        if self.p < 1:
            keep.div_(1 - self.p)  # eq. resnet-stochastic-depth
        return x * keep

    def extra_repr(self) -> str:
        """Return the argument, for printing."""
        return f"p={self.p:g}"


class SqueezeExcitation(nn.Module):
    r"""Scale each channel by a number in 0 … 1 that all channels' means decide.

    $s = \sigma(W_2\,\mathrm{SiLU}(W_1 \bar x + b_1) + b_2)$ and $y = s \odot x$, with $\bar x$ the
    mean over the picture (equations `resnet-squeeze` and `resnet-excite`).

    Args:
        channels: of input and output.
        squeezed: of the hidden layer between.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> SqueezeExcitation(8, 2)(torch.zeros(3, 8, 5, 5)).shape
        torch.Size([3, 8, 5, 5])

    Source: Hu, Shen and Sun 2017, with a ReLU where EfficientNet has SiLU.
    """

    def __init__(
        self,
        channels: int,
        squeezed: int,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, s = checks.count("channels", channels), checks.count("squeezed", squeezed)
        self.fc1 = nn.Conv2d(c, s, 1, device=device, dtype=dtype)
        self.fc2 = nn.Conv2d(s, c, 1, device=device, dtype=dtype)

    def scale(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c 1 1"]:
        """Return the share of each channel that is let through."""
        checks.images("x", x, self.fc1.in_channels)
        mean = x.mean((2, 3), keepdim=True)  # eq. resnet-squeeze
        return self.fc2(F.silu(self.fc1(mean))).sigmoid()  # eq. resnet-excite

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Return x with each channel scaled."""
        return x * self.scale(x)


class MBConv(nn.Module):
    r"""The block of EfficientNet: widen, convolve each channel by itself, squeeze, excite, narrow.

    The reverse of a `Bottleneck`: the shortcut joins the narrow ends, and there is no
    nonlinearity after the last convolution (equation `resnet-mbconv`). It has a shortcut where
    the shapes agree.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: of the depthwise convolution, odd.
        stride: of the depthwise convolution.
        expansion: how many times wider the middle is; 1 leaves the first convolution out.
        dropout: probability of dropping the whole branch of an example, `StochasticDepth`.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> MBConv(16, 24, kernel_size=5, stride=2)(torch.zeros(2, 16, 8, 8)).shape
        torch.Size([2, 24, 4, 4])

    Source: Sandler et al. 2018; with squeeze and excitation Tan et al. 2018.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        expansion: int = 6,
        dropout: float = 0.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = c = checks.count("in_channels", in_channels)
        d = checks.count("out_channels", out_channels)
        size = checks.count("kernel_size", kernel_size)
        if size % 2 == 0:
            raise ValueError(f"kernel_size={size} must be odd")
        stride = checks.count("stride", stride)
        wide = c * checks.count("expansion", expansion)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        parts: list[nn.Module] = [_conv_norm(c, wide, 1, **like)] if wide > c else []
        parts += [
            _conv_norm(wide, wide, size, stride, groups=wide, **like),
            SqueezeExcitation(wide, max(1, c // 4), **like),
            _conv_norm(wide, d, 1, active=False, **like),
        ]
        self.block = nn.Sequential(*parts)
        self.stochastic_depth = StochasticDepth(_share(dropout))
        self.has_shortcut = stride == 1 and c == d

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d v u"]:
        """Return the block's answer, plus its input where the shapes agree."""
        checks.images("x", x, self.in_channels)
        if not self.has_shortcut:
            return self.block(x)
        return self.stochastic_depth(self.block(x)) + x  # eq. resnet-mbconv


class Scaling(NamedTuple):
    """How a variant of EfficientNet is made from B0.

    Attributes:
        width: factor of the channels.
        depth: factor of the blocks in a stage.
        resolution: pixels of a side that it is meant for.
        dropout: before the last, affine map.
    """

    width: float
    depth: float
    resolution: int
    dropout: float


EFFICIENTNETS = {
    "b0": Scaling(1.0, 1.0, 224, 0.2),
    "b1": Scaling(1.0, 1.1, 240, 0.2),
    "b2": Scaling(1.1, 1.2, 260, 0.3),
    "b3": Scaling(1.2, 1.4, 300, 0.3),
    "b4": Scaling(1.4, 1.8, 380, 0.4),
    "b5": Scaling(1.6, 2.2, 456, 0.4),
    "b6": Scaling(1.8, 2.6, 528, 0.5),
    "b7": Scaling(2.0, 3.1, 600, 0.5),
}
"""The variants as they were published; their factors are rounded."""

_B0 = (  # expansion, kernel size, stride, channels, blocks
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class EfficientNet(nn.Module):
    r"""Seven stages of `MBConv`; larger variants scale depth, width and resolution together.

    $d = \alpha^\phi$, $w = \beta^\phi$, $r = \gamma^\phi$ with
    $\alpha\beta^2\gamma^2 \approx 2$ (equations `resnet-compound`, `resnet-compound-cost`).

    Args:
        variant: "b0" … "b7".
        num_classes: scores that come out.
        in_channels: of the picture.
        dropout: before the last, affine map; the variant's own when None.
        stochastic_depth: probability of dropping the last block's branch; it grows linearly from
            0 at the first.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> model = EfficientNet("b0", num_classes=10).eval()
        >>> model(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 10])

    Source: Tan and Le 2019; ε and momentum of batch norm as torchvision has them.
    """

    def __init__(
        self,
        variant: str = "b0",
        num_classes: int = 1000,
        *,
        in_channels: int = 3,
        dropout: float | None = None,
        stochastic_depth: float = 0.2,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        scaling = EFFICIENTNETS[checks.one_of("variant", variant, EFFICIENTNETS)]
        num_classes = checks.count("num_classes", num_classes)
        self.in_channels = checks.count("in_channels", in_channels)
        dropout = scaling.dropout if dropout is None else dropout
        dropout = checks.number("dropout", dropout, least=0, most=1)
        most = checks.number("stochastic_depth", stochastic_depth, least=0, most=1)
        eps, momentum = (1e-3, 0.01) if variant >= "b5" else (1e-5, 0.1)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        counts = [math.ceil(blocks * scaling.depth) for *_, blocks in _B0]
        channels = _rounded(32 * scaling.width)
        stages: list[nn.Module] = [_conv_norm(self.in_channels, channels, 3, 2, **like)]
        made = 0
        for (expansion, size, stride, d, _), blocks in zip(_B0, counts, strict=True):
            d, stage = _rounded(d * scaling.width), nn.Sequential()
            for number in range(blocks):
                step, p = stride if number == 0 else 1, most * made / sum(counts)
                stage.append(MBConv(channels, d, size, step, expansion, p, **like))
                channels, made = d, made + 1
            stages.append(stage)
        stages.append(_conv_norm(channels, 4 * channels, 1, **like))
        self.features = nn.Sequential(*stages)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(4 * channels, num_classes, **like)
        )
        for part in self.modules():
            if isinstance(part, BatchNorm2d):
                part.eps, part.momentum = eps, momentum
        _start(self)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class.

        Args:
            x: pictures, floating point, in the units that the network was trained with.
        """
        checks.images("x", x, self.in_channels)
        _check_batch(x, self.training)
        return self.classifier(self.features(x).mean((2, 3)))


def _conv_norm(
    c: int,
    d: int,
    size: int,
    stride: int = 1,
    groups: int = 1,
    active: bool = True,
    **like: Any,
) -> nn.Sequential:
    parts = [_conv(c, d, size, stride, groups, **like), BatchNorm2d(d, **like)]
    return nn.Sequential(*parts, *([nn.SiLU(inplace=True)] if active else []))


def _rounded(channels: float) -> int:
    """Return the multiple of 8 next to `channels`, and never less than nine tenths of it."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near


def _share(dropout: float) -> float:
    return checks.number("dropout", dropout, least=0, most=1)


def _start(model: nn.Module) -> None:
    """Draw the weights as torchvision does: He's for convolutions, and batch norms at 1 and 0."""
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear) and isinstance(model, EfficientNet):
            bound = 1 / math.sqrt(part.out_features)
            nn.init.uniform_(part.weight, -bound, bound)
            nn.init.zeros_(part.bias)
