r"""ResNet: every block adds a correction to its input. EfficientNet and ConvNeXt, its heirs.

Chapter: chapters/vision/resnet.md     Papers: He et al. 2015 and 2016; Tan and Le 2019; Liu et
al. 2022
Axes: b batch, c channels, y x rows and columns of a picture.

Parameters have torchvision's names, so that its `state_dict` fits and gives its answers.
"""

import copy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.vision._conv_next import ConvNeXtBlock
from nnlib.vision._efficient_net import (
    EFFICIENTNETS,
    EfficientNet,
    MBConv,
    Scaling,
    SqueezeExcitation,
    StochasticDepth,
    _start,
)
from nnlib.vision._picture_networks import _check_batch, _conv
from nnlib.vision._residual_blocks import (
    BasicBlock,
    Bottleneck,
    PreActivationBlock,
    PreActivationBottleneck,
)

__all__ = [
    "EFFICIENTNETS",
    "STAGES",
    "BasicBlock",
    "Bottleneck",
    "ConvNeXtBlock",
    "EfficientNet",
    "MBConv",
    "PreActivationBlock",
    "PreActivationBottleneck",
    "ResNet",
    "Scaling",
    "SqueezeExcitation",
    "StochasticDepth",
    "fold_batch_norms",
    "zero_residuals_",
]


STAGES = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
"""Blocks in each stage, by the number of layers that learn; from 50 on, bottlenecks."""


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
