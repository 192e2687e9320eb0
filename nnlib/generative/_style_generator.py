"""StyleGAN's parts: a mapping network, convolutions whose weights a style modulates.

Axes: n examples, h latent numbers, s numbers of a style, c channels, y x rows and columns.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.generative._gan_convolutions import _smallest
from nnlib.generative._gan_parts import SLOPE, _widths

EPS = 1e-8


class MappingNetwork(nn.Module):
    r"""From noise to a style: $\mathbf w = f(\mathbf z / \operatorname{rms}(\mathbf z))$.

    A perceptron of equal widths (equation `gan-mapping`). Styles need not be normally distributed,
    so that it can undo what warps the noise has to make.

    Args:
        latent_size: numbers h of the noise.
        style_size: numbers s of a style.
        num_layers: of the perceptron; 8 as published.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> MappingNetwork(8, 16, num_layers=2)(torch.randn(5, 8)).shape
        torch.Size([5, 16])

    Source: Karras, Laine and Aila 2019.
    """

    def __init__(
        self,
        latent_size: int,
        style_size: int,
        num_layers: int = 8,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.latent_size = checks.count("latent_size", latent_size)
        s, depth = (
            checks.count("style_size", style_size),
            checks.count("num_layers", num_layers),
        )
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        for a, b in pairwise((latent_size, *[s] * depth)):
            layer = nn.Linear(a, b, **like)
            nn.init.kaiming_normal_(layer.weight, SLOPE)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.LeakyReLU(SLOPE)]
        self.body = nn.Sequential(*layers)

    def forward(self, z: Float[Tensor, "n h"]) -> Float[Tensor, "n s"]:
        """Return styles."""
        checks.tensor("z", z, shape=("n", self.latent_size), floating=True)
        size = (z.square().mean(1, keepdim=True) + EPS).sqrt()
        return self.body(z / size)  # eq. gan-mapping


def truncate(
    style: Float[Tensor, "*n s"], mean: Float[Tensor, " s"], psi: float
) -> Float[Tensor, "*n s"]:
    r"""Return $\bar{\mathbf w} + \psi\,(\mathbf w - \bar{\mathbf w})$ (equation `gan-truncation`).

    Args:
        style: styles.
        mean: of many of them.
        psi: 1 leaves them, 0 makes all of them the mean.

    Source: Karras, Laine and Aila 2019.
    """
    psi = checks.number("psi", psi)
    checks.tensor("style", style, floating=True)
    checks.tensor("mean", mean, shape=(style.shape[-1],), floating=True)
    return mean + psi * (style - mean)  # eq. gan-truncation


class ModulatedConv2d(nn.Module):
    r"""A convolution whose kernel each example scales for itself, by its style.

    $w'_{oikl} = s_i\,w_{oikl}$, then $w''_{oikl} = w'_{oikl} / (\sum_{ikl} w'^2_{oikl} +
    \epsilon)^{1/2}$ (equations `gan-modulate`, `gan-demodulate`), where $\mathbf s$ is an affine
    function of the style.
    The same is computed by scaling the input before one convolution for all, and the output after.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: rows and columns of the kernel, odd, so that pictures keep their size.
        style_size: numbers s of a style.
        demodulate: whether each output channel is brought back to unit scale; not where colours
            are made.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = ModulatedConv2d(4, 6, 3, style_size=8)
        >>> layer(torch.randn(2, 4, 5, 5), torch.randn(2, 8)).shape
        torch.Size([2, 6, 5, 5])

    Source: Karras et al. 2020.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        style_size: int,
        demodulate: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, o = (
            checks.count("in_channels", in_channels),
            checks.count("out_channels", out_channels),
        )
        self.kernel_size = checks.count("kernel_size", kernel_size)
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size} must be odd")
        self.style_size = checks.count("style_size", style_size)
        self.demodulate = checks.flag("demodulate", demodulate)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(o, c, kernel_size, kernel_size, **like))
        self.style = nn.Linear(style_size, c, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the kernel from a standard normal distribution; begin with scales of about 1."""
        inputs = self.weight[0].numel()
        nn.init.normal_(self.weight, std=1 if self.demodulate else inputs**-0.5)
        nn.init.normal_(self.style.weight, std=self.style_size**-0.5)
        nn.init.ones_(self.style.bias)

    def forward(
        self, x: Float[Tensor, "n c y x"], style: Float[Tensor, "n s"]
    ) -> Float[Tensor, "n o y x"]:
        """Return maps of the same size.

        Args:
            x: maps.
            style: one for each example.
        """
        checks.images("x", x, self.weight.shape[1])
        checks.tensor("style", style, shape=(len(x), self.style_size), floating=True)
        scale = self.style(style)
        out = F.conv2d(
            x * scale[:, :, None, None], self.weight, padding=self.kernel_size // 2
        )  # eq. gan-modulate
        if self.demodulate:  # Σ (sᵢ w)² = Σᵢ sᵢ² Σₖₗ w²
            power = scale.square() @ self.weight.square().sum((2, 3)).T
            out = out * (power + EPS).rsqrt()[:, :, None, None]  # eq. gan-demodulate
        return out


class StyleGenerator(nn.Module):
    r"""A small StyleGAN2: a constant, modulated convolutions, noise in each, and a sum of pictures.

    At each level the maps are doubled (but at the first), convolved with the style's kernel, and
    given noise of a learned strength (equation `gan-noise`); each level's picture is added to the
    doubled one of the level below.

    Args:
        latent_size: numbers h of the noise that styles are made of.
        image_size: rows and columns of a picture, a multiple of 2^(levels − 1).
        channels: of the maps at each level, from the smallest on.
        style_size: numbers s of a style.
        num_mapping_layers: of the mapping network.
        out_channels: 1 for grey, 3 for colour.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        num_styles: one for each level.

    Example:
        >>> generator = StyleGenerator(8, 16, (16, 16, 8), style_size=8)
        >>> generator(torch.randn(2, 8)).shape
        torch.Size([2, 1, 16, 16])

    Source: Karras, Laine and Aila 2019; Karras et al. 2020.
    """

    def __init__(
        self,
        latent_size: int,
        image_size: int,
        channels: Sequence[int] = (32, 16),
        style_size: int = 32,
        num_mapping_layers: int = 2,
        out_channels: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        widths = _widths("channels", channels)
        side = _smallest(image_size, len(widths) - 1)
        out = checks.count("out_channels", out_channels)
        self.style_size, self.num_styles = style_size, len(widths)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.mapping = MappingNetwork(
            latent_size, style_size, num_mapping_layers, **like
        )
        self.constant = nn.Parameter(torch.randn(widths[0], side, side, **like))
        self.convs = nn.ModuleList(
            ModulatedConv2d(a, b, 3, style_size, **like)
            for a, b in pairwise((widths[0], *widths))
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(b, 1, 1, **like)) for b in widths
        )
        self.noise_strengths = nn.Parameter(torch.zeros(len(widths), **like))
        self.pictures = nn.ModuleList(
            ModulatedConv2d(b, out, 1, style_size, demodulate=False, **like)
            for b in widths
        )

    def forward(self, z: Float[Tensor, "n h"]) -> Float[Tensor, "n c y x"]:
        """Return generated pictures, 0 … 1, each with one style at all levels."""
        style = self.mapping(z)
        return self.synthesize(style[:, None].expand(-1, self.num_styles, -1))

    def synthesize(
        self, styles: Float[Tensor, "n l s"], noises: Sequence[Tensor] | None = None
    ) -> Float[Tensor, "n c y x"]:
        """Return pictures of these styles, one a level, from the smallest maps on.

        Args:
            styles: `num_styles` for each picture; different ones mix.
            noises: one map, n 1 y x, for each level; drawn if None.
        """
        shape = ("n", self.num_styles, self.style_size)
        checks.tensor("styles", styles, shape=shape, floating=True)
        if noises is not None and len(noises) != self.num_styles:
            raise ValueError(
                f"noises must be {self.num_styles} maps, got {len(noises)} of them"
            )
        x, picture = self.constant.expand(len(styles), -1, -1, -1), None
        for level, (conv, paint) in enumerate(
            zip(self.convs, self.pictures, strict=True)
        ):
            x = F.interpolate(x, scale_factor=2) if level else x
            x = conv(x, styles[:, level])
            noise = torch.randn_like(x[:, :1]) if noises is None else noises[level]
            x = x + self.noise_strengths[level] * noise  # eq. gan-noise
            x = F.leaky_relu(x + self.biases[level], SLOPE)
            painted = paint(x, styles[:, level])
            if picture is not None:
                painted = painted + F.interpolate(
                    picture, scale_factor=2, mode="bilinear", align_corners=False
                )
            picture = painted
        assert picture is not None
        return picture.sigmoid()


def path_lengths(
    synthesize: Callable[[Tensor], Tensor],
    style: Float[Tensor, "n *s"],
    noise: Float[Tensor, "n *d"] | None = None,
) -> Float[Tensor, " n"]:
    r"""Return $\lVert\mathbf J_{\mathbf w}^\top\mathbf y\rVert$ for a random picture (`gan-path`).

    How far the picture moves for a step of the style, in random directions. StyleGAN2 penalises its
    distance from its own running mean, so that steps of equal length change pictures equally.

    Args:
        synthesize: from styles to pictures.
        style: where; any shape after the first axis.
        noise: y, standard normal; drawn if None.

    Source: Karras et al. 2020.
    """
    with torch.enable_grad():
        style = style if style.requires_grad else style.detach().requires_grad_()
        pictures = synthesize(style)
        noise = torch.randn_like(pictures) if noise is None else noise
        pixels = math.prod(pictures.shape[2:])  # rows times columns
        (slope,) = torch.autograd.grad(
            (pictures * noise).sum() / math.sqrt(pixels), style, create_graph=True
        )
    return torch.linalg.vector_norm(slope.flatten(1), dim=1)  # eq. gan-path
