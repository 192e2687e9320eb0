r"""U-Net: down to see what, up to say where, with the fine detail handed across.

Chapter: chapters/vision/unet.md     Papers: Ronneberger, Fischer and Brox 2015; Ho et al. 2020;
Rombach et al. 2021
Axes: b batch, c channels, k classes, y x rows and columns, s tokens of the context, e width.
"""

import math
from itertools import pairwise, product
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.blocks.timesteps import timestep_embedding
from nnlib.vision._conditional_unet import (
    ConditionalUNet,
    ConditionedBlock,
    SpatialAttention,
)
from nnlib.vision._segmentation import (
    border_weights,
    dice,
    iou,
    otsu_threshold,
    soft_dice,
)
from nnlib.vision._unet_parts import Device, _levels, join

__all__ = [
    "UPSAMPLINGS",
    "ConditionalUNet",
    "ConditionedBlock",
    "ConvBlock",
    "Device",
    "SpatialAttention",
    "UNet",
    "border_weights",
    "dice",
    "iou",
    "join",
    "otsu_threshold",
    "output_side",
    "overlap_tile",
    "soft_dice",
    "timestep_embedding",
]


UPSAMPLINGS = ("transposed", "nearest", "bilinear")
"""How maps grow: by a learned transposed convolution, or by resizing."""


class ConvBlock(nn.Sequential):
    r"""Two 3 × 3 convolutions, each followed by a ReLU (equation `unet-block`).

    Args:
        in_channels: of the input.
        out_channels: of both convolutions.
        padding: 1 keeps rows and columns, 0 loses four of each.
        batch_norm: whether each convolution is followed by batch norm, and has no bias then.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> ConvBlock(1, 4, padding=0)(torch.zeros(2, 1, 9, 8)).shape
        torch.Size([2, 4, 5, 4])

    Source: Ronneberger, Fischer and Brox 2015; batch norm: Çiçek et al. 2016.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        padding: int = 1,
        batch_norm: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        norm = checks.flag("batch_norm", batch_norm)
        padding = checks.one_of("padding", padding, (0, 1))
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        c, d = (
            checks.count("in_channels", in_channels),
            checks.count("out_channels", out_channels),
        )
        for inputs in (c, d):
            layers.append(
                nn.Conv2d(inputs, d, 3, padding=padding, bias=not norm, **like)
            )
            layers += [BatchNorm2d(d, **like)] if norm else []
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    r"""A score for each class at each pixel: an encoder, a decoder, and shortcuts between them.

    Going down, $s^{(l)} = \mathrm{ConvBlock}(e^{(l-1)})$ is kept and
    $e^{(l)} = \mathrm{MaxPool}(s^{(l)})$ goes on (equation `unet-encoder`); going up,
    $d^{(l)} = \mathrm{ConvBlock}([s^{(l)}; \mathrm{Up}(d^{(l+1)})])$ (`unet-decoder`). What is
    kept is taken *before* the pooling, and its middle is cut out where it is larger.

    Args:
        in_channels: of the picture.
        out_channels: classes; scores of each come out, before a softmax.
        channels: of each level, from the picture's size down; one pooling between two levels.
        padding: 0 as published, where the answer is smaller than the picture (`output_side`), or
            1, where it has its size.
        batch_norm: whether convolutions are followed by batch norm; the paper has none.
        upsampling: `transposed` as published, or `nearest` or `bilinear`, each followed by a 1 × 1
            convolution.
        dropout: probability of dropping a value at the lowest level, in training, 0 … 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> UNet(1, 2, (4, 8, 16), padding=1)(torch.zeros(2, 1, 32, 24)).shape
        torch.Size([2, 2, 32, 24])

    Source: Ronneberger, Fischer and Brox 2015, whose figure 1 has channels 64 to 1024 and makes
    388 × 388 scores of 572 × 572 pixels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: tuple[int, ...] = (64, 128, 256, 512, 1024),
        padding: int = 0,
        *,
        batch_norm: bool = False,
        upsampling: str = "transposed",
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        self.out_channels = checks.count("out_channels", out_channels)
        self.channels = channels = _levels(channels)
        self.padding = checks.one_of(
            "padding", checks.count("padding", padding, least=0), (0, 1)
        )
        self.upsampling = checks.one_of("upsampling", upsampling, UPSAMPLINGS)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        norm = checks.flag("batch_norm", batch_norm)
        given: dict[str, Any] = {"padding": padding, "batch_norm": norm, **like}
        self.encoder = nn.ModuleList(
            ConvBlock(c, d, **given) for c, d in pairwise((in_channels, *channels))
        )
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        size = 2 if upsampling == "transposed" else 1
        up: Any = nn.ConvTranspose2d if upsampling == "transposed" else nn.Conv2d
        self.up = nn.ModuleList(
            up(d, c, size, stride=size, **like) for c, d in pairwise(channels)
        )
        self.decoder = nn.ModuleList(
            ConvBlock(2 * c, c, **given) for c in channels[:-1]
        )
        self.head = nn.Conv2d(channels[0], self.out_channels, 1, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw kernels from a normal distribution of variance 2 / inputs, as published."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                # an output of a transposed convolution of stride 2 and size 2 has c inputs
                inputs = module.in_channels * (
                    1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
                )  # fmt: skip
                nn.init.normal_(module.weight, std=math.sqrt(2 / inputs))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k v u"]:
        """Return a score for each class at each pixel of the answer.

        Args:
            x: pictures, floating point. With `padding=1`, rows and columns are multiples of
                2^(levels - 1); with `padding=0` they fit `output_side`.

        Raises:
            ValueError: a side that does not fit; the message names sides near it that do.
        """
        checks.images("x", x, self.in_channels)
        try:
            for side in x.shape[2:]:
                output_side(side, len(self.channels), self.padding)
        except ValueError as error:
            raise ValueError(f"x of shape {tuple(x.shape)}: {error}") from None
        return self.head(self.decode(self.encode(x)))

    def encode(self, x: Float[Tensor, "b c y x"]) -> list[Tensor]:
        """Return the maps of each level on the way down, before they are pooled."""
        kept: list[Tensor] = []
        for block in self.encoder:
            kept.append(block(F.max_pool2d(kept[-1], 2) if kept else x))  # unet-encoder
        kept[-1] = self.dropout(kept[-1])
        return kept

    def decode(self, kept: list[Tensor]) -> Float[Tensor, "b c v u"]:
        """Return the last maps, from those of each level before pooling."""
        x = kept[-1]
        for level in reversed(range(len(self.decoder))):
            x = self.grow(x, level)
            x = self.decoder[level](join(kept[level], x))  # eq. unet-decoder
        return x

    def grow(self, x: Float[Tensor, "b d y x"], level: int) -> Float[Tensor, "b c v u"]:
        """Return maps of twice the size, with the channels of `level`."""
        x = self.up[level](x)
        if self.upsampling == "transposed":
            return x
        # a 1 × 1 convolution and a resize may change places, and before it there is less to do
        align = None if self.upsampling == "nearest" else False
        return F.interpolate(
            x, scale_factor=2, mode=self.upsampling, align_corners=align
        )


def output_side(side: int, num_levels: int = 5, padding: int = 0) -> int:
    r"""Return the rows (or columns) of a U-Net's answer (equations `unet-side`, `unet-fits`).

    Without padding, $n' = n - 4\,(3 \cdot 2^{L-1} - 2)$ for L levels, and n + 4 must be a multiple
    of $2^{L-1}$; with it, n' = n, a multiple of the same.

    Args:
        side: rows or columns of the picture.
        num_levels: levels L, ≥ 1.
        padding: 0 or 1.

    Raises:
        ValueError: `side` does not fit; the message names those near it that do.

    Example:
        >>> output_side(572)
        388
    """
    side = checks.count("side", side)
    levels = checks.count("num_levels", num_levels)
    unpadded = (
        checks.one_of("padding", checks.count("padding", padding, least=0), (0, 1)) == 0
    )
    step, offset = 2 ** (levels - 1), 4 if unpadded else 0
    lost = 4 * (3 * step - 2) if unpadded else 0
    first = -(-(lost + 1 + offset) // step) * step - offset  # the smallest that fits
    if side < first or (side + offset) % step:
        below = (side + offset) // step * step - offset
        near = [n for n in (below, below + step) if n >= first] or [first]
        raise ValueError(
            f"side={side} does not fit a U-Net of {levels} levels with padding={padding}: "
            f"near it, {' and '.join(map(str, near))} {'do' if len(near) > 1 else 'does'}"
        )
    return side - lost


@torch.no_grad()
def overlap_tile(
    model: UNet, x: Float[Tensor, "b c y x"], tile: int = 572
) -> Float[Tensor, "b k y x"]:
    """Return scores for every pixel of a picture of any size, tile by tile.

    The picture is continued by mirroring, so that the border has a surrounding, too. Tiles of
    answers lie side by side, at a distance that is a multiple of 2^(levels - 1), so that each
    pooling meets the same four pixels in every tile: then the tiles together are exactly what one
    pass over the whole mirrored picture would give.

    Args:
        model: a U-Net with `padding=0`, in evaluation mode.
        x: pictures, each side larger than the margin that is mirrored.
        tile: side of the squares that go through the network at a time.

    Example:
        >>> model = UNet(1, 2, (2, 4)).eval()
        >>> overlap_tile(model, torch.zeros(1, 1, 45, 37), tile=32).shape
        torch.Size([1, 2, 45, 37])

    Source: Ronneberger, Fischer and Brox 2015, figure 2.
    """
    if not isinstance(model, UNet) or model.padding:
        raise ValueError("model must be a UNet with padding=0")
    checks.images("x", x, model.in_channels)
    levels = len(model.channels)
    answer = output_side(checks.count("tile", tile), levels)
    margin = (tile - answer) // 2
    if min(x.shape[2:]) <= margin:
        raise ValueError(
            f"x must have more than {margin} rows and columns to mirror, got {tuple(x.shape)}"
        )
    step = answer // 2 ** (levels - 1) * 2 ** (levels - 1)
    if not step:
        raise ValueError(
            f"tile={tile} makes {answer} rows, fewer than 2^(levels - 1) = {2 ** (levels - 1)}"
        )
    rows, columns = x.shape[2:]
    padded = x
    for axis, side in ((3, columns), (2, rows)):
        # mirrored as far as there is something to mirror; beyond that, answers are cut off
        after = margin + -(-side // step) * step - side + answer - step
        pad = [0, 0, 0, 0]
        pad[6 - 2 * axis : 8 - 2 * axis] = margin, min(after, side - 1)
        padded = F.pad(padded, pad, "reflect")
        pad[6 - 2 * axis : 8 - 2 * axis] = 0, max(0, after - side + 1)
        padded = F.pad(padded, pad)
    scores = x.new_empty(len(x), model.out_channels, rows + answer, columns + answer)
    for top, left in product(range(0, rows, step), range(0, columns, step)):
        piece = padded[:, :, top : top + tile, left : left + tile]
        scores[:, :, top : top + answer, left : left + answer] = model(piece)
    return scores[:, :, :rows, :columns]
