"""A block of ConvNeXt: what a residual block becomes with the habits of transformers.

Axes: b batch, c channels, y x rows and columns of a picture.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.vision._efficient_net import StochasticDepth, _share


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
