"""Networks that take noise away: a small one for rows of numbers, a transformer for pictures.

Axes: n examples, d numbers, c y x channels, rows and columns, s patches, e width.
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.timesteps import timestep_embedding


class _TimeAndClass(nn.Module):
    """A vector for the time, and the class if there is one; the last class is none of them."""

    def __init__(
        self, width: int, waves: int, num_classes: int | None, like: dict[str, Any]
    ):
        super().__init__()
        self.waves, self.num_classes = waves, num_classes
        self.time = nn.Sequential(
            nn.Linear(waves, width, **like), nn.SiLU(), nn.Linear(width, width, **like)
        )
        self.classes = (
            None
            if num_classes is None
            else nn.Embedding(num_classes + 1, width, **like)
        )

    def forward(self, t: Tensor, y: Tensor | None) -> Tensor:
        kind = next(self.time.parameters()).dtype
        told = self.time(timestep_embedding(t.to(kind), self.waves))
        if self.classes is None or self.num_classes is None:
            if y is not None:
                raise ValueError("y needs a network that was made with num_classes")
            return told
        if y is None:
            y = torch.full((len(t),), self.num_classes, device=t.device)
        checks.labels("y", y, self.num_classes + 1, length=len(t))
        return told + self.classes(y)


def _times(t: Tensor | float, x: Tensor, scale: float) -> Tensor:
    if not isinstance(t, Tensor):
        t = torch.tensor(checks.number("t", t), device=x.device)
    t = t.expand(len(x)) if t.ndim == 0 else t
    checks.tensor("t", t, shape=(len(x),))
    return scale * t.to(x.device, x.dtype)


class Denoiser(nn.Module):
    r"""A residual network over rows of numbers that is told the time, and the class.

    Each of its layers adds $\mathrm{SiLU}\bigl(\mathbf W(\mathbf h + \mathbf c) + \mathbf
    b\bigr)$, where $\mathbf c$ stands for time and class. It begins by answering zero.

    Args:
        num_features: d.
        hidden_size: width.
        num_layers: residual layers.
        num_classes: classes, or None; number `num_classes` itself is the null class.
        time_scale: what t is multiplied by: 1 for steps 0 … 999, 1000 for times in 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = Denoiser(64, 128, num_classes=10)
        >>> model(torch.zeros(5, 64), torch.tensor(3), torch.arange(5)).shape
        torch.Size([5, 64])
    """

    def __init__(
        self,
        num_features: int,
        hidden_size: int = 128,
        num_layers: int = 3,
        num_classes: int | None = None,
        *,
        time_scale: float = 1.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_features = checks.count("num_features", num_features)
        h = checks.count("hidden_size", hidden_size)
        layers = checks.count("num_layers", num_layers)
        if num_classes is not None:
            num_classes = checks.count("num_classes", num_classes)
        self.null_class = num_classes
        self.time_scale = checks.number("time_scale", time_scale, above=0)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.told = _TimeAndClass(h, 2 * math.ceil(h / 4), num_classes, like)
        self.first = nn.Linear(self.num_features, h, **like)
        self.layers = nn.ModuleList(nn.Linear(h, h, **like) for _ in range(layers))
        self.last = nn.Linear(h, self.num_features, **like)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(
        self,
        x: Float[Tensor, "n d"],
        t: Tensor | float,
        y: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Return the answer: noise, clean example, v or velocity, as it was trained.

        Args:
            x: noisy rows.
            t: the time of each, or one for all.
            y: the class of each; None is the null class.
        """
        checks.tensor("x", x, shape=("n", self.num_features), floating=True)
        c = F.silu(self.told(_times(t, x, self.time_scale), y))
        h = self.first(x)
        for layer in self.layers:
            h = h + F.silu(layer(h + c))
        return self.last(h)


class DiTBlock(nn.Module):
    r"""A transformer block whose norms are scaled, shifted and gated by a condition: adaLN-Zero.

    $\mathbf h \leftarrow \mathbf h + \boldsymbol\alpha \odot \mathrm{part}\bigl((1 +
    \boldsymbol\gamma) \odot \mathrm{LN}(\mathbf h) + \boldsymbol\beta\bigr)$ for attention and then
    for the network, with all six vectors from $\mathbf W\,\mathrm{SiLU}(\mathbf c) + \mathbf b$
    (equation `diffusion-adaln`). $\mathbf W$ and $\mathbf b$ begin at zero, so that a new block is
    the identity.

    Args:
        embed_dim: width e, which the heads divide.
        num_heads: of the attention.
        mlp_ratio: the hidden layer is this many times as wide.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> DiTBlock(16, 4)(torch.ones(2, 9, 16), torch.zeros(2, 16)).shape
        torch.Size([2, 9, 16])

    Source: Peebles and Xie 2022.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.attention = MultiHeadAttention(embed_dim, num_heads, **like)
        wide = int(embed_dim * checks.number("mlp_ratio", mlp_ratio, above=0))
        self.linear1 = nn.Linear(embed_dim, wide, **like)
        self.linear2 = nn.Linear(wide, embed_dim, **like)
        self.modulation = nn.Linear(embed_dim, 6 * embed_dim, **like)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, h: Float[Tensor, "n s e"], c: Float[Tensor, "n e"]
    ) -> Float[Tensor, "n s e"]:
        """Return the vectors of the patches, changed.

        Args:
            h: vectors of the patches.
            c: time and class.
        """
        told = self.modulation(F.silu(c))[:, None].chunk(6, -1)
        shift, scale, gate, shift2, scale2, gate2 = told
        h = h + gate * self.attention(
            _modulated(h, shift, scale)
        )  # eq. diffusion-adaln
        wide = F.gelu(self.linear1(_modulated(h, shift2, scale2)), approximate="tanh")
        return h + gate2 * self.linear2(wide)


def _modulated(h: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Return the norm, without weights of its own, scaled and shifted."""
    return (1 + scale) * F.layer_norm(h, h.shape[-1:], eps=1e-6) + shift


class DiT(nn.Module):
    r"""A diffusion transformer: patches of a noisy picture in, patches of the answer out.

    Args:
        image_size: side of the picture, or of its latent map, in pixels.
        patch_size: side of a patch, which divides it.
        in_channels: of the picture.
        embed_dim: width e, a multiple of 4 that the heads divide.
        num_layers: blocks.
        num_heads: of each.
        num_classes: classes, or None; number `num_classes` itself is the null class.
        mlp_ratio: as in `DiTBlock`.
        out_channels: of the answer; None is `in_channels`. Published ones have twice as many, since
            they learn a variance as well.
        time_scale: what t is multiplied by: 1 for steps 0 … 999, 1000 for times in 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = DiT(8, 2, 1, embed_dim=32, num_layers=2, num_heads=4, num_classes=10)
        >>> model(torch.zeros(3, 1, 8, 8), torch.tensor([0, 5, 999])).shape
        torch.Size([3, 1, 8, 8])

    Source: Peebles and Xie 2022.
    """

    def __init__(
        self,
        image_size: int = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        embed_dim: int = 1152,
        num_layers: int = 28,
        num_heads: int = 16,
        num_classes: int | None = None,
        *,
        mlp_ratio: float = 4.0,
        out_channels: int | None = None,
        time_scale: float = 1.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.image_size = checks.count("image_size", image_size)
        self.patch_size = p = checks.count("patch_size", patch_size)
        if image_size % p:
            raise ValueError(f"patch_size={p} does not divide image_size={image_size}")
        self.in_channels = checks.count("in_channels", in_channels)
        out = in_channels if out_channels is None else out_channels
        self.out_channels = checks.count("out_channels", out)
        e = checks.count("embed_dim", embed_dim)
        if e % 4:
            raise ValueError(
                f"embed_dim={e} must be a multiple of 4: waves along two axes"
            )
        if num_classes is not None:
            num_classes = checks.count("num_classes", num_classes)
        self.null_class = num_classes
        self.time_scale = checks.number("time_scale", time_scale, above=0)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.told = _TimeAndClass(e, 256, num_classes, like)
        self.patches = nn.Conv2d(in_channels, e, p, stride=p, **like)
        places = _grid_positions(image_size // p, e)
        self.register_buffer("places", places.to(device, dtype), persistent=False)
        self.layers = nn.ModuleList(
            DiTBlock(e, num_heads, mlp_ratio, **like)
            for _ in range(checks.count("num_layers", num_layers))
        )
        self.modulation = nn.Linear(e, 2 * e, **like)
        self.last = nn.Linear(e, p * p * self.out_channels, **like)
        for layer in (self.modulation, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "n c y x"],
        t: Tensor | float,
        y: Int[Tensor, " n"] | None = None,
    ) -> Float[Tensor, "n k y x"]:
        """Return the answer, of the picture's size.

        Args:
            x: noisy pictures.
            t: the time of each, or one for all.
            y: the class of each; None is the null class.
        """
        side = self.image_size
        checks.images("x", x, self.in_channels)
        if tuple(x.shape[2:]) != (side, side):
            raise ValueError(
                f"x must have {side} rows and columns, got {tuple(x.shape)}"
            )
        c = self.told(_times(t, x, self.time_scale), y)
        h = self.patches(x).flatten(2).mT + self.places
        for layer in self.layers:
            h = layer(h, c)
        shift, scale = self.modulation(F.silu(c))[:, None].chunk(2, -1)
        out = self.last(_modulated(h, shift, scale))
        p, n = self.patch_size, side // self.patch_size
        out = out.unflatten(1, (n, n)).unflatten(-1, (p, p, self.out_channels))
        return out.permute(0, 5, 1, 3, 2, 4).reshape(
            len(x), self.out_channels, side, side
        )


def _grid_positions(side: int, e: int) -> Float[Tensor, "s e"]:
    """Return waves along the columns, then along the rows, half of the width each."""
    steps = torch.arange(e // 4, dtype=torch.float64)
    rates = 10000.0 ** (-steps / (e // 4))
    angle = torch.arange(side, dtype=torch.float64)[:, None] * rates
    waves = torch.cat([angle.sin(), angle.cos()], 1)
    along = waves[None].expand(side, -1, -1), waves[:, None].expand(-1, side, -1)
    return torch.cat(along, -1).flatten(0, 1).float()
