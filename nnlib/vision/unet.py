r"""U-Net: down to see what, up to say where, with the fine detail handed across.

Chapter: chapters/vision/unet.md     Papers: Ronneberger, Fischer and Brox 2015; Ho et al. 2020;
Rombach et al. 2021
Axes: b batch, c channels, k classes, y x rows and columns, s tokens of the context, e width.
"""

import math
from itertools import pairwise, product
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.timesteps import timestep_embedding

Device = torch.device | str | None

UPSAMPLINGS = ("transposed", "nearest", "bilinear")
"""How maps grow: by a learned transposed convolution, or by resizing."""


# ------------------------------------------------------------------------------- segmentation
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


def join(
    kept: Float[Tensor, "b c y x"], x: Float[Tensor, "b d v u"]
) -> Float[Tensor, "b e v u"]:
    """Return both side by side as channels, of `kept` only the middle that `x` covers.

    Args:
        kept: what was handed across.
        x: what came up from below, of at most the size of `kept`.

    Example:
        >>> join(torch.zeros(1, 2, 8, 8), torch.ones(1, 3, 4, 4)).shape
        torch.Size([1, 5, 4, 4])
    """
    (rows, columns), (v, u) = kept.shape[2:], x.shape[2:]
    if v > rows or u > columns:
        raise ValueError(
            f"kept must be at least as large as x, ({v}, {u}), got ({rows}, {columns})"
        )
    top, left = (rows - v) // 2, (columns - u) // 2
    return torch.cat([kept[:, :, top : top + v, left : left + u], x], 1)


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


# ------------------------------------------------------------------------- losses and measures
def border_weights(
    labels: Int[Tensor, "y x"], strength: float = 10.0, width: float = 5.0
) -> Float[Tensor, "y x"]:
    r"""Return how much each pixel of the background counts because it parts two objects.

    $w_0 \exp(-(d_1 + d_2)^2 / 2\sigma^2)$, with the distances to the nearest and to the second
    nearest object (equation `unet-border`); 0 on objects, and 0 where there are fewer than two.

    Args:
        labels: 0 for background, and a number for each object.
        strength: $w_0$, ≥ 0.
        width: $\sigma$ in pixels, > 0.

    Example:
        >>> border_weights(torch.tensor([[1, 0, 2]]), width=1.0)
        tensor([[0.0000, 1.3534, 0.0000]])

    Source: Ronneberger, Fischer and Brox 2015, equation 2; the weight of the classes is apart.
    """
    from scipy.ndimage import distance_transform_edt

    checks.tensor("labels", labels, shape=("y", "x"), floating=False, empty=False)
    strength = checks.number("strength", strength, least=0)
    width = checks.number("width", width, above=0)
    objects = [int(n) for n in labels.unique() if n]
    weights = torch.zeros(labels.shape)
    if len(objects) < 2:
        return weights
    far = torch.stack(
        [
            torch.tensor(distance_transform_edt((labels != n).numpy(force=True)))
            for n in objects
        ]
    )
    near = far.topk(2, 0, largest=False).values.sum(0)
    weights = strength * torch.exp(-near.square() / (2 * width**2))
    return weights.where(labels.cpu() == 0, 0.0).float().to(labels.device)


def iou(predicted: Tensor, target: Tensor) -> float:
    """Return the intersection of two masks over their union (equation `unet-iou`).

    Also called the Jaccard index. Two empty masks agree: 1.

    Args:
        predicted: True, or not 0, where the object is predicted.
        target: likewise, where it is.

    Example:
        >>> iou(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 1]))
        0.3333333333333333
    """
    both, either = _overlap(predicted, target)
    return both / either if either else 1.0


def dice(predicted: Tensor, target: Tensor) -> float:
    """Return twice the intersection of two masks over the sum of their sizes (`unet-dice`).

    The same as the F1 score of the pixels. Two empty masks agree: 1.

    Args:
        predicted: True, or not 0, where the object is predicted.
        target: likewise, where it is.

    Example:
        >>> dice(torch.tensor([1, 1, 0]), torch.tensor([0, 1, 1]))
        0.5
    """
    both, either = _overlap(predicted, target)
    return 2 * both / (both + either) if either else 1.0


def soft_dice(
    probabilities: Float[Tensor, "..."], target: Tensor, smooth: float = 1.0
) -> Tensor:
    r"""Return $(2 \sum p g + \epsilon) / (\sum p + \sum g + \epsilon)$, a Dice with a gradient.

    Equation `unet-soft-dice`; 1 minus it is a loss.

    Args:
        probabilities: p of the object at each pixel, 0 … 1.
        target: g, 1 on the object and 0 elsewhere, of the same shape.
        smooth: ε, ≥ 0, which makes two empty masks agree.

    Source: Milletari, Navab and Ahmadi 2016, who square p and g in the denominator.
    """
    checks.tensor("probabilities", probabilities, floating=True)
    checks.tensor("target", target, shape=tuple(probabilities.shape))
    smooth = checks.number("smooth", smooth, least=0)
    total = probabilities.sum() + target.sum()
    return (2 * (probabilities * target).sum() + smooth) / (total + smooth)


def otsu_threshold(x: Float[Tensor, "..."], bins: int = 256) -> float:
    r"""Return the threshold that parts values into two groups of the largest variance between.

    $\omega_0 \omega_1 (\mu_1 - \mu_0)^2$ (equation `unet-otsu`): the classic of segmentation.

    Args:
        x: a picture.
        bins: of the histogram, ≥ 2.

    Example:
        >>> 0.2 < otsu_threshold(torch.tensor([0.1, 0.2, 0.8, 0.9])) < 0.8
        True

    Source: Otsu 1979.
    """
    checks.tensor("x", x, floating=True, finite=True, empty=False)
    bins = checks.count("bins", bins, least=2)
    low, high = float(x.min()), float(x.max())
    if low == high:
        return low
    counts = torch.histc(x.detach().float().cpu(), bins, low, high).double()
    edges = torch.linspace(low, high, bins + 1, dtype=torch.float64)
    middle = (edges[1:] + edges[:-1]) / 2
    size, mass = counts.cumsum(0)[:-1], (counts * middle).cumsum(0)[:-1]
    rest, all_mass = counts.sum() - size, (counts * middle).sum()
    between = size * rest * (mass / size - (all_mass - mass) / rest).square()
    return float(middle[between.argmax()])  # eq. unet-otsu


def _overlap(predicted: Tensor, target: Tensor) -> tuple[int, int]:
    checks.tensor("predicted", predicted)
    checks.tensor("target", target, shape=tuple(predicted.shape))
    a, b = predicted != 0, target != 0
    return int((a & b).sum()), int((a | b).sum())


def _levels(channels: Any) -> tuple[int, ...]:
    if not isinstance(channels, tuple | list) or not channels:
        raise ValueError(f"channels={channels!r} must hold a number for each level")
    return tuple(checks.count(f"channels[{at}]", c) for at, c in enumerate(channels))


# ----------------------------------------------------------------------------- with conditions
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
