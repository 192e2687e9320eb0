"""Generators and discriminators of convolutions, and one that judges patches.

Axes: n examples, h latent numbers, c channels, y x rows and columns.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.generative._gan_parts import SLOPE, _widths


class ConvGenerator(nn.Module):
    """DCGAN's generator: noise to a small map, doubled by transposed convolutions to a picture.

    Args:
        latent_size: numbers h of the noise.
        image_size: rows and columns of a picture, a multiple of 2^levels.
        channels: of each map, from the smallest on; each is followed by a doubling.
        out_channels: 1 for grey, 3 for colour.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> ConvGenerator(8, 28, (16, 8))(torch.randn(2, 8)).shape
        torch.Size([2, 1, 28, 28])

    Source: Radford, Metz and Chintala 2015.
    """

    def __init__(
        self,
        latent_size: int,
        image_size: int,
        channels: Sequence[int] = (128, 64),
        out_channels: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.latent_size = checks.count("latent_size", latent_size)
        widths = _widths("channels", channels)
        out = checks.count("out_channels", out_channels)
        side = _smallest(image_size, len(widths))
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.start = nn.Sequential(
            nn.Linear(latent_size, widths[0] * side**2, bias=False, **like),
            nn.Unflatten(1, (widths[0], side, side)),
            BatchNorm2d(widths[0], **like), nn.ReLU(),
        )  # fmt: skip
        layers: list[nn.Module] = []
        for a, b in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(a, b, 4, stride=2, padding=1, bias=False, **like),
                BatchNorm2d(b, **like), nn.ReLU(),
            ]  # fmt: skip
        self.body = nn.Sequential(*layers)
        self.head = nn.ConvTranspose2d(widths[-1], out, 4, stride=2, padding=1, **like)

    def forward(self, z: Float[Tensor, "n h"]) -> Float[Tensor, "n c y x"]:
        """Return generated pictures, 0 … 1."""
        checks.tensor("z", z, shape=("n", self.latent_size), floating=True)
        return self.head(self.body(self.start(z))).sigmoid()


class ConvDiscriminator(nn.Module):
    """DCGAN's discriminator, without its batch norm, so that penalties on the slope fit.

    Args:
        image_size: rows and columns of a picture, a multiple of 2^levels.
        channels: of each map, each half as large as the one before.
        in_channels: 1 for grey, 3 for colour.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> ConvDiscriminator(28, (8, 16))(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2])

    Source: Radford, Metz and Chintala 2015.
    """

    def __init__(
        self,
        image_size: int,
        channels: Sequence[int] = (64, 128),
        in_channels: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        widths = _widths("channels", channels)
        self.in_channels = checks.count("in_channels", in_channels)
        side = _smallest(image_size, len(widths))
        self.image_size = image_size
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        for a, b in pairwise((in_channels, *widths)):
            layers.append(nn.Conv2d(a, b, 4, stride=2, padding=1, **like))
            layers.append(nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(widths[-1] * side**2, 1, **like)

    def forward(self, x: Float[Tensor, "n c y x"]) -> Float[Tensor, " n"]:
        """Return a score for each picture."""
        size = (self.in_channels, self.image_size, self.image_size)
        checks.tensor("x", x, shape=("n", *size), floating=True)
        return self.head(self.body(x)).squeeze(1)


def _smallest(image_size: int, levels: int) -> int:
    """Return rows and columns of the smallest map."""
    side, left = divmod(checks.count("image_size", image_size), 2**levels)
    if left or not side:
        raise ValueError(
            f"image_size={image_size} must be a multiple of {2**levels}, "
            f"for {levels} levels of channels"
        )
    return side


class PatchGAN(nn.Module):
    r"""A score for each patch of a picture: a discriminator that is a small convolutional network.

    Convolutions of 4 × 4, all of stride 2 but the last of `channels` and the one that scores; with
    the default, each score sees 70 × 70 pixels (equation `gan-patch`).

    Args:
        in_channels: of the picture, or of condition and picture together.
        channels: of each convolution.
        batch_norm: whether all but the first have it; must be False under a gradient penalty.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        receptive_field: rows and columns that one score sees.

    Example:
        >>> judge = PatchGAN(6)
        >>> judge.receptive_field, judge(torch.zeros(1, 6, 256, 256)).shape
        (70, torch.Size([1, 30, 30]))

    Source: Isola et al. 2017.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (64, 128, 256, 512),
        *,
        batch_norm: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        widths = _widths("channels", channels)
        norm = checks.flag("batch_norm", batch_norm)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        strides = [2] * (len(widths) - 1) + [1]
        for at, (a, b) in enumerate(pairwise((in_channels, *widths))):
            normed = norm and at > 0
            bias = not normed
            layers.append(nn.Conv2d(a, b, 4, strides[at], padding=1, bias=bias, **like))
            layers += [BatchNorm2d(b, **like)] if normed else []
            layers.append(nn.LeakyReLU(SLOPE))
        self.body = nn.Sequential(*layers)
        self.head = nn.Conv2d(widths[-1], 1, 4, padding=1, **like)
        self.receptive_field = 1
        for stride in [1, *reversed(strides)]:  # eq. gan-patch
            self.receptive_field = stride * (self.receptive_field - 1) + 4

    def forward(self, x: Float[Tensor, "n c y x"]) -> Float[Tensor, "n v u"]:
        """Return a score for each patch."""
        checks.images("x", x, self.in_channels, least=4)
        return self.head(self.body(x)).squeeze(1)
