r"""ResNet: every block adds a correction to its input. EfficientNet and ConvNeXt, its heirs.

Chapter: chapters/vision/resnet.md     Papers: He et al. 2015 and 2016; Tan and Le 2019; Liu et
al. 2022
Axes: b batch, c channels, y x rows and columns of a picture.

Parameters have torchvision's names, so that its `state_dict` fits and gives its answers.
"""

import copy
import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.blocks.layer_norm import LayerNorm

STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks in each stage, by the number of layers that learn; from 50 on, bottlenecks."""


# ------------------------------------------------------------------------ residual blocks
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


class ResNet(nn.Module):
    r"""Convolution, four stages of residual blocks, the mean over the picture, an affine map.

    $x_{l+1} = \mathrm{ReLU}(x_l + F_l(x_l))$ (equation `resnet-block`), where `depth` counts the
    layers with weights; each stage halves the picture and doubles the channels. With
    `pre_activation`, $x_{l+1} = x_l + F_l(x_l)$ (`resnet-preactivation`) and one more batch norm
    and ReLU after the last stage.

    Args:
        depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
        num_classes: scores that come out.
        pre_activation: whether the blocks are those of 2016, with nothing after the sum.
        in_channels: of the picture; 3 are red, green, blue.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        groups: as for `Bottleneck`; 1 with basic blocks.
        width_per_group: as for `Bottleneck`; 64 with basic blocks.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> model = ResNet(18, num_classes=10).eval()
        >>> model(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 10])

    Source: He, Zhang, Ren and Sun 2015 and 2016. Before the pre-activation form's first block
    there is no batch norm and no ReLU besides the block's own.
    """

    def __init__(
        self,
        depth: int = 18,
        num_classes: int = 1000,
        pre_activation: bool = False,
        *,
        in_channels: int = 3,
        width: int = 64,
        groups: int = 1,
        width_per_group: int = 64,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.depth = checks.one_of("depth", checks.count("depth", depth), STAGES)
        num_classes = checks.count("num_classes", num_classes)
        self.in_channels = checks.count("in_channels", in_channels)
        pre = self.pre_activation = checks.flag("pre_activation", pre_activation)
        width = checks.count("width", width)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        given: dict[str, Any] = dict(like)
        kind: Any = PreActivationBlock if pre else BasicBlock
        if depth >= 50:
            kind = PreActivationBottleneck if pre else Bottleneck
            given |= {"groups": groups, "width_per_group": width_per_group}
        else:
            for name, value, usual in (
                ("groups", groups, 1),
                ("width_per_group", width_per_group, 64),
            ):
                if checks.count(name, value) != usual:
                    raise ValueError(f"{name}={value} needs depth ≥ 50, got {depth}")
        self.conv1 = _conv(self.in_channels, width, 7, 2, **like)
        self.bn1 = nn.Identity() if pre else BatchNorm2d(width, **like)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels, stages = width, []
        for at, blocks in enumerate(STAGES[depth]):
            stage = nn.Sequential()
            for number in range(blocks):
                stride = 2 if at > 0 and number == 0 else 1
                stage.append(kind(channels, width * 2**at, stride, **given))
                channels = width * 2**at * kind.expansion
            stages.append(stage)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.norm = BatchNorm2d(channels, **like) if pre else nn.Identity()
        self.fc = nn.Linear(channels, num_classes, **like)
        _start(self)

    def features(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b d"]:
        """Return what the last, affine map reads: the mean of each channel over the picture."""
        checks.images("x", x, self.in_channels)
        _check_batch(x, self.training)
        h = self.bn1(self.conv1(x))
        h = self.maxpool(h if self.pre_activation else h.relu_())
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            h = stage(h)
        if self.pre_activation:
            h = self.norm(h).relu_()
        return h.mean((2, 3))  # eq. resnet-pool

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class.

        Args:
            x: pictures, floating point, in the units that the network was trained with.
        """
        return self.fc(self.features(x))


@torch.no_grad()
def zero_residuals_(model: nn.Module) -> nn.Module:
    """Make every residual block of `model` begin without a correction, and return the model.

    The last batch norm's scale γ of each branch becomes 0, or, where a convolution is the last,
    its weights. A network of a hundred blocks then begins as one of none.

    Args:
        model: holds blocks of this module.

    Example:
        >>> block = zero_residuals_(BasicBlock(4, 4)).eval()
        >>> x = torch.rand(1, 4, 5, 5)
        >>> bool((block(x) == x).all())
        True

    Source: Goyal et al. 2017.
    """
    last = {
        BasicBlock: "bn2",
        Bottleneck: "bn3",
        PreActivationBlock: "conv2",
        PreActivationBottleneck: "conv3",
    }
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch module, got {type(model).__name__}")
    found = [part for part in model.modules() if type(part) in last]
    if not found:
        raise ValueError("model holds no residual block of nnlib.vision.resnet")
    for block in found:
        nn.init.zeros_(getattr(block, last[type(block)]).weight)
    return model


@torch.no_grad()
def fold_batch_norms(model: ResNet) -> ResNet:
    r"""Return a copy for use alone, whose convolutions do the work of their batch norms.

    $W' = \gamma W / \sqrt{\sigma^2 + \epsilon}$ and
    $b' = \beta - \gamma \mu / \sqrt{\sigma^2 + \epsilon}$ (equation `resnet-fold`), with the
    running statistics. A pre-activation network cannot be folded so: a ReLU stands between.

    Args:
        model: its blocks are those of 2015.

    Example:
        >>> model = ResNet(18, num_classes=10, width=8).eval()
        >>> x = torch.rand(1, 3, 64, 64)
        >>> torch.allclose(fold_batch_norms(model)(x), model(x), atol=1e-4)
        True
    """
    if not isinstance(model, ResNet):
        raise TypeError(f"model must be a ResNet, got {type(model).__name__}")
    if model.pre_activation:
        raise ValueError("model has pre_activation=True: its batch norms come first")
    model = copy.deepcopy(model).eval()
    for part in list(model.modules()):
        for first, second in (
            ("conv1", "bn1"),
            ("conv2", "bn2"),
            ("conv3", "bn3"),
            ("0", "1"),
        ):
            conv, norm = getattr(part, first, None), getattr(part, second, None)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, BatchNorm2d):
                assert norm.weight is not None and norm.bias is not None
                assert norm.running_var is not None and norm.running_mean is not None
                scale = norm.weight / (norm.running_var + norm.eps).sqrt()
                conv.weight.mul_(scale[:, None, None, None])  # eq. resnet-fold
                conv.bias = nn.Parameter(norm.bias - scale * norm.running_mean)
                setattr(part, second, nn.Identity())
    return model


# --------------------------------------------------------------------------- EfficientNet
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


# ------------------------------------------------------------------------------- ConvNeXt
class ConvNeXtBlock(nn.Module):
    r"""A residual block of 2022: depthwise 7 × 7, layer norm, widen, GELU, narrow.

    $y = x + \gamma \odot W_2\,\mathrm{GELU}(W_1\,\mathrm{LN}(D * x) + b_1) + \gamma \odot b_2$,
    with D depthwise and $\gamma$ learned, small at first (equation `resnet-convnext`).

    Args:
        channels: of input and output.
        kernel_size: of the depthwise convolution, odd.
        expansion: how many times wider the middle is.
        layer_scale: $\gamma$ before training.
        dropout: probability of dropping the whole branch of an example, `StochasticDepth`.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> ConvNeXtBlock(16)(torch.zeros(2, 16, 9, 9)).shape
        torch.Size([2, 16, 9, 9])

    Source: Liu et al. 2022.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int = 7,
        expansion: int = 4,
        layer_scale: float = 1e-6,
        dropout: float = 0.0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = c = checks.count("channels", channels)
        size = checks.count("kernel_size", kernel_size)
        if size % 2 == 0:
            raise ValueError(f"kernel_size={size} must be odd")
        wide = c * checks.count("expansion", expansion)
        start = checks.number("layer_scale", layer_scale)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.layer_scale = nn.Parameter(torch.full((c, 1, 1), start, **like))
        self.block = (
            nn.Sequential(  # a part without weights stands for each change of axes
                nn.Conv2d(c, c, size, padding=size // 2, groups=c, **like),
                nn.Identity(),
                LayerNorm(c, eps=1e-6, **like),
                nn.Linear(c, wide, **like),
                nn.GELU(),
                nn.Linear(wide, c, **like),
            )
        )
        self.stochastic_depth = StochasticDepth(_share(dropout))
        for name, weight in self.block.named_parameters():
            if name.startswith("2."):
                continue  # the norm has its own start
            if weight.ndim > 1:
                nn.init.trunc_normal_(weight, std=0.02)
            else:
                nn.init.zeros_(weight)

    def branch(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Return the correction alone."""
        h = self.block[0](x).permute(
            0, 2, 3, 1
        )  # channels last, where norm and maps act
        return self.layer_scale * self.block[1:](h).permute(0, 3, 1, 2)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c y x"]:
        """Return the input plus its correction."""
        checks.images("x", x, self.channels)
        return x + self.stochastic_depth(self.branch(x))  # eq. resnet-convnext


# -------------------------------------------------------------------------- what all share
def _conv(
    c: int, d: int, size: int, stride: int = 1, groups: int = 1, **like: Any
) -> nn.Conv2d:
    """Return a convolution without bias, padded so that stride 1 keeps the picture's size."""
    return nn.Conv2d(c, d, size, stride, size // 2, groups=groups, bias=False, **like)


def _projection(
    c: int, d: int, stride: int, norm: bool = True, **like: Any
) -> nn.Module | None:
    """Return what brings x to the branch's shape; None where it has it already."""
    if stride == 1 and c == d:
        return None
    conv = nn.Conv2d(c, d, 1, stride, bias=False, **like)  # eq. resnet-projection
    return nn.Sequential(conv, BatchNorm2d(d, **like)) if norm else conv


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


def _sizes(in_channels: int, channels: int, stride: int) -> tuple[int, int, int]:
    return (
        checks.count("in_channels", in_channels),
        checks.count("channels", channels),
        checks.count("stride", stride),
    )


def _share(dropout: float) -> float:
    return checks.number("dropout", dropout, least=0, most=1)


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


def _check_batch(x: Tensor, training: bool) -> None:
    """Refuse what the last batch norm could not normalize: one value a channel."""
    b, _, height, width = x.shape
    if training and b == 1 and height <= 32 and width <= 32:
        raise ValueError(
            "x must hold two pictures or more, or one larger than 32 × 32, in training: "
            f"at the last stage {tuple(x.shape)} leaves one value a channel, which has no "
            "variance; model.eval() uses the running ones"
        )
