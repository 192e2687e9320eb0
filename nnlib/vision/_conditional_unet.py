"""A U-Net that is told a time and a context, as diffusion uses it.

Axes: b batch, c channels, y x rows and columns, s tokens of the context, e width.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.timesteps import timestep_embedding
from nnlib.vision._unet_parts import Device, _levels


class ConditionedBlock(nn.Module):
    r"""A residual block whose second norm is scaled and shifted by the time (FiLM).

    $x + W_2 * \mathrm{SiLU}((1 + \gamma) \odot \mathrm{GN}(h) + \beta)$ with
    $h = W_1 * \mathrm{SiLU}(\mathrm{GN}(x))$ and $(\gamma, \beta) = A\,\mathrm{SiLU}(\tau)$
    (equations `unet-conditioned`, `unet-film`). It begins as the identity.

    Args:
        in_channels: of the input.
        out_channels: of the output; where they differ, x passes a 1 × 1 convolution.
        embed_dim: width of the embedded time τ.
        num_groups: of the group norms, at most; as many as divide the channels are taken.
        dropout: probability of dropping a value before the second convolution, 0 … 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> ConditionedBlock(4, 8, 16)(torch.zeros(2, 4, 7, 7), torch.zeros(2, 16)).shape
        torch.Size([2, 8, 7, 7])

    Source: Ho et al. 2020; scale and shift: Perez et al. 2017, Dhariwal and Nichol 2021.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embed_dim: int,
        num_groups: int = 8,
        dropout: float = 0.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        c, d = (
            checks.count("in_channels", in_channels),
            checks.count("out_channels", out_channels),
        )
        self.in_channels, e = c, checks.count("embed_dim", embed_dim)
        groups = checks.count("num_groups", num_groups)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.norm1 = nn.GroupNorm(math.gcd(groups, c), c, **like)
        self.conv1 = nn.Conv2d(c, d, 3, padding=1, **like)
        self.film = nn.Linear(e, 2 * d, **like)
        self.norm2 = nn.GroupNorm(math.gcd(groups, d), d, **like)
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        self.conv2 = nn.Conv2d(d, d, 3, padding=1, **like)
        self.shortcut = nn.Identity() if c == d else nn.Conv2d(c, d, 1, **like)
        _zero(self.conv2)

    def forward(
        self, x: Float[Tensor, "b c y x"], time: Float[Tensor, "b e"]
    ) -> Float[Tensor, "b d y x"]:
        """Return the input plus a correction that depends on the time.

        Args:
            x: maps.
            time: the embedded time of each picture, τ.
        """
        checks.images("x", x, self.in_channels)
        checks.tensor("time", time, shape=(len(x), self.film.in_features))
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.film(F.silu(time))[:, :, None, None].chunk(2, 1)
        h = torch.addcmul(shift, self.norm2(h), 1 + scale)  # eq. unet-film
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(h)))


class SpatialAttention(nn.Module):
    r"""Pixels look at each other, and then at the context (equation `unet-cross-attention`).

    $u = x + \mathrm{MHA}(\mathrm{GN}(x))$, and with a context
    $u + \mathrm{MHA}(\mathrm{LN}(u), \mathrm{source} = C W^T)$: each pixel of the map is a token.
    It begins as the identity.

    Args:
        channels: of the map, the width of the attention.
        num_heads: which divide `channels`.
        context_dim: width of the context's tokens, or None for self-attention alone.
        num_groups: of the group norm, at most.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> part = SpatialAttention(8, 2, context_dim=5)
        >>> part(torch.zeros(2, 8, 4, 4), torch.zeros(2, 3, 5)).shape
        torch.Size([2, 8, 4, 4])

    Source: Rombach et al. 2021, without the feed-forward network that follows there.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int = 4,
        context_dim: int | None = None,
        num_groups: int = 8,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = c = checks.count("channels", channels)
        groups = math.gcd(checks.count("num_groups", num_groups), c)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        h = checks.count("num_heads", num_heads)
        if c % h:
            raise ValueError(f"num_heads={h} does not divide {c} channels")
        self.norm = nn.GroupNorm(groups, c, **like)
        self.own = MultiHeadAttention(c, h, **like)
        _zero(self.own.out_proj)
        self.context_dim = context_dim
        if context_dim is not None:
            s = checks.count("context_dim", context_dim)
            self.context_norm = nn.LayerNorm(c, **like)
            self.read = nn.Linear(s, c, bias=False, **like)
            self.across = MultiHeadAttention(c, h, **like)
            _zero(self.across.out_proj)

    def forward(
        self,
        x: Float[Tensor, "b c y x"],
        context: Float[Tensor, "b s e"] | None = None,
        context_mask: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b c y x"]:
        """Return the map plus what each pixel gathered.

        Args:
            x: maps.
            context: tokens to look at; required where the part has a `context_dim`.
            context_mask: True at real tokens, False at padding.
        """
        checks.images("x", x, self.channels)
        u = x.flatten(2).transpose(1, 2)  # b (y x) c
        u = u + self.own(self.norm(x).flatten(2).transpose(1, 2))
        if self.context_dim is not None:
            if context is None:
                raise ValueError(
                    f"context is None, but context_dim={self.context_dim} needs tokens"
                )
            asked = self.context_norm(u)  # eq. unet-cross-attention
            u = u + self.across(asked, self.read(context), key_mask=context_mask)
        return u.transpose(1, 2).reshape(x.shape)


class ConditionalUNet(nn.Module):
    r"""The U-Net of diffusion models: a map from a picture and a time to a picture of its size.

    One `ConditionedBlock` a level or more, strided convolutions down, resizing up, skips that are
    joined as channels, and attention over pixels and context at the levels named. It begins by
    answering zero.

    Args:
        in_channels: of the picture.
        out_channels: of the answer, such as the noise in the picture.
        channels: of each level; 28 × 28 and 32 × 32 pictures need three.
        context_dim: width of the context's tokens, or None for a network without context.
        num_blocks: residual blocks a level on the way down, and on the way up, ≥ 1.
        attention: levels with attention, 0 for the picture's size; None for the lowest alone. The
            middle always has it.
        num_heads: of every attention; divides the channels of its level.
        embed_dim: width of the embedded time; None is four times the channels of the first level.
        time_scale: what t is multiplied by: 1 for steps 0 … 999, 1000 for times in 0 … 1.
        num_groups: of the group norms, at most.
        dropout: within the blocks, 0 … 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> model = ConditionalUNet(1, 1, (8, 16), context_dim=6, num_heads=2)
        >>> x, t = torch.zeros(2, 1, 28, 28), torch.tensor([0, 999])
        >>> model(x, t, torch.zeros(2, 3, 6)).shape
        torch.Size([2, 1, 28, 28])

    Source: Ho et al. 2020; FiLM as in Dhariwal and Nichol 2021; cross-attention as in Rombach et
    al. 2021.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: tuple[int, ...] = (32, 64, 128),
        *,
        context_dim: int | None = None,
        num_blocks: int = 1,
        attention: tuple[int, ...] | None = None,
        num_heads: int = 4,
        embed_dim: int | None = None,
        time_scale: float = 1.0,
        num_groups: int = 8,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        out = checks.count("out_channels", out_channels)
        self.channels = channels = _levels(channels)
        lowest = len(channels) - 1
        if context_dim is not None:
            context_dim = checks.count("context_dim", context_dim)
        self.context_dim = context_dim
        blocks = checks.count("num_blocks", num_blocks)
        levels = (lowest,) if attention is None else tuple(attention)
        for level in levels:
            checks.one_of("attention", level, range(len(channels)))
        width = 4 * channels[0] if embed_dim is None else embed_dim
        width = checks.count("embed_dim", width)
        self.time_scale = checks.number("time_scale", time_scale, above=0)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        groups = checks.count("num_groups", num_groups)

        def block(c: int, d: int) -> ConditionedBlock:
            return ConditionedBlock(c, d, width, groups, dropout, **like)

        def look(at: int) -> nn.Module:
            if at not in levels:
                return nn.Identity()
            return SpatialAttention(
                channels[at], num_heads, context_dim, groups, **like
            )

        self.waves = 2 * math.ceil(channels[0] / 2)
        self.time = nn.Sequential(
            nn.Linear(self.waves, width, **like),
            nn.SiLU(),
            nn.Linear(width, width, **like),
        )
        self.null_context = (
            None
            if context_dim is None
            else nn.Parameter(torch.zeros(1, 1, context_dim, **like))
        )
        self.stem = nn.Conv2d(self.in_channels, channels[0], 3, padding=1, **like)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        c = channels[0]
        for at, d in enumerate(channels):
            for _ in range(blocks):
                self.down.append(nn.ModuleList([block(c, d), look(at)]))
                c = d
            self.shrink.append(
                nn.Identity()
                if at == lowest
                else nn.Conv2d(d, d, 3, stride=2, padding=1, **like)
            )
        self.middle = nn.ModuleList(
            [
                block(c, c),
                SpatialAttention(c, num_heads, context_dim, groups, **like),
                block(c, c),
            ]
        )
        self.up, self.widen = nn.ModuleList(), nn.ModuleList()
        for at in reversed(range(len(channels))):
            d = channels[at]
            for _ in range(blocks):
                self.up.append(nn.ModuleList([block(c + d, d), look(at)]))
                c = d
            self.widen.append(
                nn.Identity() if at == 0 else nn.Conv2d(d, d, 3, padding=1, **like)
            )
        self.norm = nn.GroupNorm(math.gcd(groups, c), c, **like)
        self.head = nn.Conv2d(c, out, 3, padding=1, **like)
        _zero(self.head)

    def forward(
        self,
        x: Float[Tensor, "b c y x"],
        t: Tensor | float,
        context: Float[Tensor, "b s e"] | None = None,
        context_mask: Bool[Tensor, "b s"] | None = None,
    ) -> Float[Tensor, "b k y x"]:
        """Return the answer, of the picture's rows and columns.

        Args:
            x: pictures; each side has 2^(levels - 1) pixels or more, and need not be a multiple.
            t: the time of each picture, or one for all.
            context: tokens such as an embedded caption; None is the learned `null_context`, which
                classifier-free guidance needs, in a network with a `context_dim`.
            context_mask: True at real tokens, False at padding.
        """
        checks.images("x", x, self.in_channels, least=2 ** (len(self.channels) - 1))
        tau = self.time(timestep_embedding(self._times(x, t), self.waves).to(x.dtype))
        context = self._context(x, context, context_mask)
        h, kept = self.stem(x), []
        blocks = len(self.down) // len(self.channels)
        for at, part in enumerate(self.down):
            h = self._step(part, h, tau, context, context_mask)
            kept.append(h)
            if at % blocks == blocks - 1:
                h = self.shrink[at // blocks](h)
        first, look, second = self.middle
        h = second(look(first(h, tau), context, context_mask), tau)
        for at, part in enumerate(self.up):
            h = self._step(
                part, torch.cat([h, kept.pop()], 1), tau, context, context_mask
            )
            if kept and at % blocks == blocks - 1:
                h = F.interpolate(h, size=kept[-1].shape[2:], mode="nearest")
                h = self.widen[at // blocks](h)
        return self.head(F.silu(self.norm(h)))

    @staticmethod
    def _step(
        part: Any, h: Tensor, tau: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        block, look = part
        h = block(h, tau)
        return look(h, context, mask) if isinstance(look, SpatialAttention) else h

    def _times(self, x: Tensor, t: Tensor | float) -> Tensor:
        if not isinstance(t, Tensor):
            t = torch.tensor(checks.number("t", t), device=x.device)
        if t.ndim == 0:
            t = t.expand(len(x))
        checks.tensor("t", t, shape=(len(x),))
        kind = x.dtype if x.dtype == torch.float64 else torch.float32
        return self.time_scale * t.to(x.device, kind)

    def _context(
        self, x: Tensor, context: Tensor | None, mask: Tensor | None
    ) -> Tensor | None:
        if self.null_context is None or self.context_dim is None:
            if context is not None:
                raise ValueError(
                    "context needs a network that was made with a context_dim"
                )
            return None
        if context is None:
            if mask is not None:
                raise ValueError("context_mask needs a context")
            return self.null_context.expand(len(x), -1, -1)
        checks.tensor(
            "context",
            context,
            shape=(len(x), "s", self.context_dim),
            floating=True,
            empty=False,
        )
        if mask is not None:
            checks.key_mask("context_mask", mask, (len(x), context.shape[1]))
        return context


def _zero(layer: nn.Conv2d | nn.Linear) -> None:
    """Let a branch begin by adding nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
