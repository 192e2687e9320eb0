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
