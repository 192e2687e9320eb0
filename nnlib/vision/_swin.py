"""Swin: attention in windows that shift, on a grid that grows coarser.

Axes: b batch, c channels, y x rows and columns of a grid of patches, w windows, t places in one.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from nnlib import checks, hugging_face
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.vision import _hugging_face as theirs
from nnlib.vision._vit_sizes import Size, _check_divides, _size
from nnlib.vision.resnet import StochasticDepth


def window_partition(
    x: Float[Tensor, "b y x e"], window_size: int
) -> Float[Tensor, "b n t e"]:
    """Cut a map into windows, row by row, and return the tokens of each.

    Args:
        x: a map of tokens.
        window_size: side M of a window, which divides rows and columns.

    Example:
        >>> window_partition(torch.arange(16.0).view(1, 4, 4, 1), 2)[0, 1, :, 0]
        tensor([2., 3., 6., 7.])
    """
    checks.tensor("x", x, shape=("b", "y", "x", "e"), floating=True)
    m = checks.count("window_size", window_size)
    _check_divides("window_size", m, "x", tuple(x.shape[1:3]))
    return rearrange(x, "b (i u) (j v) e -> b (i j) (u v) e", u=m, v=m)


def relative_position_index(window_size: int) -> Int[Tensor, "t t"]:
    r"""Return which row of the table of biases belongs to each pair of tokens of a window.

    $(\Delta y + M - 1)(2M - 1) + (\Delta x + M - 1)$, where Δ points from the key to the query
    (equation `vit-relative-index`).

    Args:
        window_size: side M of a window, ≥ 1.

    Example:
        >>> relative_position_index(2)[0]
        tensor([4, 3, 1, 0])
    """
    m = checks.count("window_size", window_size)
    at = torch.arange(m)
    y, x = at.repeat_interleave(m), at.repeat(m)
    down, across = y[:, None] - y, x[:, None] - x
    return (down + m - 1) * (2 * m - 1) + across + m - 1  # eq. vit-relative-index


def shift_mask(
    size: tuple[int, int], window_size: int, shift: Size
) -> Bool[Tensor, "n t t"]:
    """Return who may look at whom in each window, after a map was rolled by `shift`.

    What was rolled around the edge meets, in its window, tokens from the other end of the picture;
    they do not see one another (equation `vit-shift-mask`).

    Args:
        size: rows and columns of the map.
        window_size: side M of a window, which divides them.
        shift: how far the map was rolled, up and to the left, 0 … M − 1.

    Example:
        >>> shift_mask((4, 4), 2, 1).sum((1, 2))
        tensor([16,  8,  8,  4])
    """
    m = checks.count("window_size", window_size)
    rows, columns = _size("size", size)
    _check_divides("window_size", m, "size", (rows, columns))
    shift = (shift, shift) if isinstance(shift, int) else shift
    for each in shift:
        checks.number("shift", each, least=0, below=m)
    wrapped = [
        torch.arange(length) >= length - by
        for length, by in zip((rows, columns), shift, strict=True)
    ]
    region = 2 * wrapped[0].int()[:, None] + wrapped[1].int()
    region = rearrange(region, "(i u) (j v) -> (i j) (u v)", u=m, v=m)
    return region[:, :, None] == region[:, None]  # eq. vit-shift-mask


class WindowAttention(nn.Module):
    r"""Self-attention within windows of M × M tokens, with a bias for each relative position.

    $\mathrm{softmax}(QK^\top/\sqrt d + B) V$ in every window and head (equation
    `vit-window-attention`), where $B$ holds one learned number for each relative position
    (`vit-relative-index`). With a shift s, windows lie s tokens further down and to the right;
    the map is rolled there and back, so that they stay equally many (`vit-shift-mask`). Along an
    axis that one window covers, nothing is shifted. Parameters as in torchvision.

    Args:
        embed_dim: width e, ≥ 1.
        num_heads: heads, which divide e.
        window_size: side M of a window, ≥ 1.
        shift: tokens s, 0 … M − 1; Swin takes M // 2 in every other block.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> WindowAttention(16, num_heads=2, window_size=4, shift=2)(torch.zeros(3, 8, 8, 16)).shape
        torch.Size([3, 8, 8, 16])

    Source: Liu et al. 2021.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window_size: int,
        shift: int = 0,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        e = checks.count("embed_dim", embed_dim)
        self.num_heads = checks.count("num_heads", num_heads)
        if e % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide embed_dim={e}")
        self.window_size = m = checks.count("window_size", window_size)
        self.shift = checks.count("shift", shift, least=0)
        checks.number("shift", shift, below=m)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.qkv = nn.Linear(e, 3 * e, **like)
        self.proj = nn.Linear(e, e, **like)
        self.relative_position_bias_table = nn.Parameter(
            torch.empty((2 * m - 1) ** 2, num_heads, **like)
        )
        index = relative_position_index(m).flatten().to(device)
        self.register_buffer("relative_position_index", index)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights of standard deviation 0.02; biases of the maps begin with 0."""
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)
        for part in (self.qkv, self.proj):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)

    def bias(self) -> Float[Tensor, "h t t"]:
        """Return B: what is added to the scores of each pair of tokens of a window."""
        tokens = self.window_size**2
        index: Any = self.relative_position_index
        rows = self.relative_position_bias_table[index]
        return rows.view(tokens, tokens, -1).permute(2, 0, 1)

    def forward(self, x: Float[Tensor, "b y x e"]) -> Float[Tensor, "b y x e"]:
        """Return what each token gathers from its window."""
        m, h = self.window_size, self.num_heads
        shape = ("b", "y", "x", self.proj.in_features)
        checks.tensor("x", x, shape=shape, floating=True)
        size = (x.shape[1], x.shape[2])
        _check_divides("window_size", m, "x", size)
        by = tuple(self.shift if length > m else 0 for length in size)
        if any(by):
            x = x.roll((-by[0], -by[1]), (1, 2))
        q, k, v = rearrange(
            self.qkv(window_partition(x, m)), "b n t (a h d) -> a b n h t d", a=3, h=h
        )
        added = self.bias()[None]
        if any(by):
            seen = shift_mask(size, m, (by[0], by[1])).to(x.device)
            added = added.masked_fill(~seen[:, None], -torch.inf)
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        out = scores.add_(added).softmax(-1) @ v  # eq. vit-window-attention
        out = rearrange(
            self.proj(rearrange(out, "b n h t d -> b n t (h d)")),
            "b (i j) (u v) e -> b (i u) (j v) e",
            i=size[0] // m,
            u=m,
        )
        return out.roll(by, (1, 2)) if any(by) else out


class SwinBlock(nn.Module):
    """Attention in windows, then a two-layer network, each with its norm before it and a shortcut.

    Equation `vit-swin-block`.

    Args:
        embed_dim: width e, ≥ 1.
        num_heads: heads, which divide e.
        window_size: as for `WindowAttention`.
        shift: as for `WindowAttention`.
        mlp_ratio: hidden width of the network, over e; > 0.
        dropout: probability of dropping in the network, 0 … 1.
        stochastic_depth: probability of dropping a whole correction, 0 … 1.
        layer_norm_eps: ε of the norms.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> SwinBlock(16, num_heads=2, window_size=4)(torch.zeros(3, 8, 8, 16)).shape
        torch.Size([3, 8, 8, 16])

    Source: Liu et al. 2021.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        window_size: int,
        shift: int = 0,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        *,
        layer_norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        e = checks.count("embed_dim", embed_dim)
        hidden = int(e * checks.number("mlp_ratio", mlp_ratio, above=0))
        checks.number("dropout", dropout, least=0, most=1)
        eps = checks.number("layer_norm_eps", layer_norm_eps, least=0)
        self.norm1 = LayerNorm(e, eps=eps, **like)
        self.attn = WindowAttention(e, num_heads, window_size, shift, **like)
        self.stochastic_depth = StochasticDepth(stochastic_depth)
        self.norm2 = LayerNorm(e, eps=eps, **like)
        self.mlp = nn.Sequential(
            nn.Linear(e, hidden, **like),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, e, **like),
            nn.Dropout(dropout),
        )

    def forward(self, x: Float[Tensor, "b y x e"]) -> Float[Tensor, "b y x e"]:
        """Return the map with both corrections added."""
        x = x + self.stochastic_depth(self.attn(self.norm1(x)))
        return x + self.stochastic_depth(self.mlp(self.norm2(x)))  # eq. vit-swin-block


class PatchMerging(nn.Module):
    """Join every 2 × 2 tokens into one of twice the width: norm, then one linear map.

    Equation `vit-merging`.

    Args:
        embed_dim: width e of the tokens that come in, ≥ 1.
        layer_norm_eps: ε of the norm.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> PatchMerging(16)(torch.zeros(3, 8, 8, 16)).shape
        torch.Size([3, 4, 4, 32])

    Source: Liu et al. 2021.
    """

    def __init__(
        self,
        embed_dim: int,
        *,
        layer_norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.embed_dim = e = checks.count("embed_dim", embed_dim)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.reduction = nn.Linear(4 * e, 2 * e, bias=False, **like)
        self.norm = LayerNorm(4 * e, eps=layer_norm_eps, **like)

    def forward(self, x: Float[Tensor, "b y x e"]) -> Float[Tensor, "b v u f"]:
        """Return a map of half the rows and columns and twice the width."""
        checks.tensor("x", x, shape=("b", "y", "x", self.embed_dim), floating=True)
        if x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(
                f"x must have an even number of rows and columns, got {tuple(x.shape)}"
            )
        x = rearrange(x, "b (y u) (x v) e -> b y x (v u e)", u=2, v=2)
        return self.reduction(self.norm(x))  # eq. vit-merging


class SwinTransformer(nn.Module):
    """Swin: a vision transformer of stages, each with half the rows and columns of the last one.

    Small patches, then blocks whose attention stays in windows (`SwinBlock`), shifted by half a
    window in every other block; between the stages, `PatchMerging`. The scores are an affine map of
    the mean over the last map. Pictures may have any size at which windows fit into every stage.
    Loads the `state_dict` of torchvision's `SwinTransformer` unchanged.

    Args:
        patch_size: side P of a patch, ≥ 1.
        embed_dim: width of the first stage; each has twice the width of the last one.
        depths: blocks in each stage.
        num_heads: heads in each stage, which divide its width.
        window_size: side M of a window, in tokens.
        mlp_ratio: hidden width of the networks, over that of the tokens; > 0.
        dropout: probability of dropping after the embedding and in the networks, 0 … 1.
        stochastic_depth: probability of dropping a correction of the last block, 0 … 1; it rises to
            this from 0 in the first.
        num_classes: scores that come out; None for the vector that they would be read from.
        in_channels: of the pictures.
        layer_norm_eps: ε of the norms.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = SwinTransformer(4, 16, depths=(2, 1), num_heads=(2, 4), window_size=4).eval()
        >>> model(torch.zeros(3, 3, 32, 64)).shape
        torch.Size([3, 1000])

    Source: Liu et al. 2021. The defaults are Swin-T. Where windows do not fit, the paper pads; ours
    refuses.
    """

    def __init__(
        self,
        patch_size: int = 4,
        embed_dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (3, 6, 12, 24),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        stochastic_depth: float = 0.1,
        num_classes: int | None = 1000,
        *,
        in_channels: int = 3,
        layer_norm_eps: float = 1e-5,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.patch_size = p = checks.count("patch_size", patch_size)
        e = checks.count("embed_dim", embed_dim)
        depths = [checks.count("depths", depth) for depth in depths]
        heads = [checks.count("num_heads", number) for number in num_heads]
        if not depths or len(depths) != len(heads):
            raise ValueError(
                f"num_heads={tuple(heads)} must have one entry for each of "
                f"depths={tuple(depths)}"
            )
        self.window_size = checks.count("window_size", window_size)
        checks.number("dropout", dropout, least=0, most=1)
        drop = checks.number("stochastic_depth", stochastic_depth, least=0, most=1)
        eps = checks.number("layer_norm_eps", layer_norm_eps, least=0)
        self.in_channels = checks.count("in_channels", in_channels)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        embedding = nn.Conv2d(self.in_channels, e, p, stride=p, **like)
        self.features = nn.Sequential(
            nn.Sequential(embedding, _ChannelsLast(), LayerNorm(e, eps=eps, **like))
        )
        self.pos_drop = nn.Dropout(dropout)
        number, total = 0, sum(depths)
        for stage, (depth, h) in enumerate(zip(depths, heads, strict=True)):
            if stage > 0:
                self.features.append(PatchMerging(e, layer_norm_eps=eps, **like))
                e = 2 * e
            blocks = nn.Sequential()
            for at in range(depth):
                blocks.append(
                    SwinBlock(
                        e,
                        h,
                        window_size,
                        shift=at % 2 * (window_size // 2),
                        mlp_ratio=mlp_ratio,
                        dropout=dropout,
                        stochastic_depth=drop * number / max(1, total - 1),
                        layer_norm_eps=eps,
                        **like,
                    )
                )
                number += 1
            self.features.append(blocks)
        self.norm = LayerNorm(e, eps=eps, **like)
        if num_classes is None:
            self.head: nn.Module = nn.Identity()
        else:
            self.head = nn.Linear(e, checks.count("num_classes", num_classes), **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights of standard deviation 0.02; sums over a patch begin with variance 1."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name or name == "features.0.2.weight":
                nn.init.ones_(parameter)
            elif name != "features.0.0.weight":  # the patches'
                nn.init.trunc_normal_(parameter, std=0.02)
            else:
                nn.init.trunc_normal_(parameter, std=parameter[0].numel() ** -0.5)

    def maps(self, x: Float[Tensor, "b c y x"]) -> list[Float[Tensor, "b v u f"]]:
        """Return the map after each stage, tokens last; what a detector would be built on.

        Args:
            x: pictures, floating point, in the units of the training.
        """
        checks.images("x", x, self.in_channels)
        self._check_windows((x.shape[2], x.shape[3]))
        z, found = self.pos_drop(self.features[0](x)), []
        for number, part in enumerate(list(self.features)[1:], 1):
            z = part(z)
            if number % 2:
                found.append(z)
        return found

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class; without classes, the vector of the picture.

        Args:
            x: pictures, floating point, in the units of the training.
        """
        return self.head(self.norm(self.maps(x)[-1]).mean((1, 2)))

    def _check_windows(self, size: tuple[int, int]) -> None:
        _check_divides("patch_size", self.patch_size, "x", size)
        stages = len(self.features) // 2
        unit = self.patch_size * self.window_size * 2 ** (stages - 1)
        if any(length % unit for length in size):
            raise ValueError(
                f"window_size={self.window_size} must fit into the map of every stage, so rows and "
                f"columns of x must be multiples of {unit} (patch_size × window_size × "
                f"{2 ** (stages - 1)}), got {size}"
            )

    @classmethod
    def from_hugging_face(
        cls, model_or_path: nn.Module | str | Path
    ) -> "SwinTransformer":
        """Return the Swin of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `SwinForImageClassification` or `SwinModel`, the folder
                of a saved one, or its name on the hub, such as
                "microsoft/swin-tiny-patch4-window7-224".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        config, tensors = hugging_face.read_model(
            model_or_path, "swin", list(theirs.SWIN_SIZES)
        )
        hugging_face.refuse_options(config, theirs.SWIN_ONLY)
        made = cls(
            **{ours: config[name] for name, ours in theirs.SWIN_SIZES.items()},
            mlp_ratio=config.get("mlp_ratio", 4.0),
            dropout=config.get("hidden_dropout_prob", 0.0),
            stochastic_depth=config.get("drop_path_rate", 0.1),
            num_classes=theirs.num_classes(tensors),
            layer_norm_eps=config.get("layer_norm_eps", 1e-5),
        )
        constant = {
            name: value
            for name, value in made.state_dict().items()
            if name.endswith("relative_position_index")
        }
        rules = theirs.kept(theirs.swin_rules(config["depths"]), list(constant))
        hugging_face.load_renamed(made, tensors | constant, rules)
        return made.eval()


class _ChannelsLast(nn.Module):
    """b c y x to b y x c: where torchvision has a `Permute`."""

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b y x c"]:
        return x.permute(0, 2, 3, 1)
