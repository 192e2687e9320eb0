r"""Vision transformers: a picture is read as a sequence of patches. Swin reads it in windows.

`ViT` is the transformer encoder on patches, `attention_rollout` traces what it looked at;
`SwinTransformer` attends within windows that move by half their side from block to block.

Chapter: chapters/vision/vit.md     Papers: Dosovitskiy et al. 2020; Liu et al. 2021 (Swin);
Touvron et al. 2020 (DeiT); Abnar and Zuidema 2020 (rollout)
Axes: b batch, c channels, y x rows and columns of a picture or a grid of patches, n patches,
t s tokens (the patches, and the class token if there is one), e model width, l layers, h heads.

`ViT` takes transformers' weights. Parameters of `SwinTransformer` have torchvision's names, so
that its `state_dict` fits, too.
"""

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks, hugging_face
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.vision import _hugging_face as theirs
from nnlib.vision.resnet import StochasticDepth

Size = int | tuple[int, int]
"""Rows and columns; one number for both."""


# ------------------------------------------------------------------------------------ patches
def patches(x: Float[Tensor, "b c y x"], patch_size: int) -> Float[Tensor, "b n p"]:
    """Cut pictures into squares, row by row, each flattened channel by channel.

    Equation `vit-patches`; there are YX/P² of them, of P²C numbers.

    Args:
        x: pictures.
        patch_size: side P of a patch, which divides rows and columns.

    Example:
        >>> patches(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, 1]
        tensor([2., 3., 6., 7.])
    """
    checks.images("x", x)
    p = checks.count("patch_size", patch_size)
    _check_divides("patch_size", p, "x", tuple(x.shape[2:]))
    return rearrange(x, "b c (i u) (j v) -> b (i j) (c u v)", u=p, v=p)


def interpolate_positions(
    positions: Float[Tensor, "n e"], old: tuple[int, int], new: tuple[int, int]
) -> Float[Tensor, "m e"]:
    """Return position vectors of another grid, read off the old one by bicubic interpolation.

    Args:
        positions: one a patch, row by row; what stands before them (a class token's) is kept.
        old: rows and columns of patches that they belong to.
        new: rows and columns of patches to come.

    Example:
        >>> interpolate_positions(torch.zeros(1 + 4, 8), (2, 2), (3, 4)).shape
        torch.Size([13, 8])

    Source: Dosovitskiy et al. 2020, section 3.2.
    """
    checks.tensor("positions", positions, shape=("n", "e"), floating=True)
    for name, grid in (("old", old), ("new", new)):
        _size(name, grid)
    extra = len(positions) - math.prod(old)
    if extra < 0:
        raise ValueError(
            f"positions must hold one of each of {old[0]} × {old[1]} patches, "
            f"got {len(positions)}"
        )
    known = positions[extra:].T.unflatten(1, old)[None]
    read = F.interpolate(known, new, mode="bicubic", align_corners=False)
    return torch.cat([positions[:extra], read[0].flatten(1).T])


# ---------------------------------------------------------------------------------------- ViT
class _Block(TransformerEncoderLayer):
    """A pre-norm encoder layer whose two corrections may be dropped for a whole picture."""

    def __init__(self, *args: Any, stochastic_depth: float, **options: Any):
        super().__init__(*args, **options)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    def _add(
        self, x: Tensor, norm: nn.Module, part: Callable[[Tensor], Tensor]
    ) -> Tensor:
        # eq. vit-attention-half, vit-network-half
        return x + self.stochastic_depth(self.dropout(part(norm(x))))


class ViT(nn.Module):
    r"""Vision transformer: patches become tokens, and a transformer encoder reads them.

    Each patch passes one affine map, the same for all (equation `vit-embedding`), which is a
    convolution whose stride is its kernel's side (`vit-convolution`). A learned class token is put
    in front, learned positions are added (`vit-input`), and pre-norm layers follow
    (`vit-attention-half`, `vit-network-half`). The scores are an affine map of the class token
    (`vit-head`), or of the mean of all patches (`vit-mean`).

    Args:
        image_size: rows and columns of the pictures, one number if they are equal.
        patch_size: side P of a patch, which divides them.
        num_classes: scores that come out; None for the vector that the scores would be read from.
        embed_dim: model width e, ≥ 1.
        num_layers: encoder layers, ≥ 1.
        num_heads: heads, which divide e.
        dim_feedforward: hidden width of each layer's network; None is 4e.
        dropout: probability of dropping, in the embedding, attention and networks, 0 … 1.
        stochastic_depth: probability of dropping a correction of the last layer, 0 … 1; it rises
            to this from 0 in the first layer.
        pool: "class" for a class token, "mean" for the mean of the patches and no such token.
        activation: a name in `nnlib.blocks.activations.ACTIVATIONS`.
        layer_norm_eps: ε of the norms.
        in_channels: of the pictures; 3 are red, green, blue.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = ViT(32, 8, num_classes=10, embed_dim=64, num_layers=2, num_heads=4).eval()
        >>> model(torch.zeros(5, 3, 32, 32)).shape
        torch.Size([5, 10])

    Source: Dosovitskiy et al. 2020, whose D is our e, and whose pre-training had one hidden layer
    more in the head.
    """

    def __init__(
        self,
        image_size: Size = 224,
        patch_size: int = 16,
        num_classes: int | None = 1000,
        embed_dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        dim_feedforward: int | None = None,
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        *,
        pool: str = "class",
        activation: str = "gelu",
        layer_norm_eps: float = 1e-6,
        in_channels: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.image_size = _size("image_size", image_size)
        self.patch_size = p = checks.count("patch_size", patch_size)
        _check_divides("patch_size", p, "image_size", self.image_size)
        e = checks.count("embed_dim", embed_dim)
        depth = checks.count("num_layers", num_layers)
        width = 4 * e if dim_feedforward is None else dim_feedforward
        dropout = checks.number("dropout", dropout, least=0, most=1)
        drop = checks.number("stochastic_depth", stochastic_depth, least=0, most=1)
        self.pool = checks.one_of("pool", pool, ("class", "mean"))
        self.in_channels = checks.count("in_channels", in_channels)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.patch_embedding = nn.Conv2d(self.in_channels, e, p, stride=p, **like)
        first = pool == "class"
        self.class_token = nn.Parameter(torch.empty(e, **like)) if first else None
        tokens = math.prod(self.grid) + first
        self.position_embedding = nn.Parameter(torch.empty(tokens, e, **like))
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.ModuleList(
            _Block(
                e,
                num_heads,
                width,
                dropout,
                activation,
                layer_norm_eps,
                norm_first=True,
                stochastic_depth=drop * number / max(1, depth - 1),
                **like,
            )
            for number in range(depth)
        )
        self.norm = LayerNorm(e, eps=layer_norm_eps, **like)
        if num_classes is None:
            self.head: nn.Module = nn.Identity()
        else:
            self.head = nn.Linear(e, checks.count("num_classes", num_classes), **like)
        self.reset_parameters()

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        rows, columns = self.image_size
        return rows // self.patch_size, columns // self.patch_size

    def reset_parameters(self) -> None:
        """Draw weights: standard deviation 0.02 for positions and head, Xavier's in the layers."""
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or name == "class_token":
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            elif name in ("position_embedding", "head.weight"):
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name == "patch_embedding.weight":  # its sums then have variance 1
                nn.init.trunc_normal_(parameter, std=parameter[0].numel() ** -0.5)
            else:
                nn.init.xavier_uniform_(parameter)

    def embed(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t e"]:
        """Return the tokens that the first layer gets.

        Args:
            x: pictures of `image_size`, floating point, in the units of the training.
        """
        checks.images("x", x, self.in_channels)
        if x.shape[2:] != self.image_size:
            rows, columns = self.image_size
            raise ValueError(
                f"x must have {rows} rows and {columns} columns (image_size), got "
                f"{tuple(x.shape[2:])}; `resized` makes a ViT for other pictures"
            )
        z = self.patch_embedding(x).flatten(2).mT  # eq. vit-convolution
        if self.class_token is not None:
            z = torch.cat([self.class_token.expand(len(z), 1, -1), z], 1)
        return self.dropout(z + self.position_embedding)  # eq. vit-input

    def hidden(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b t e"]:
        """Return the vector of each token after the last layer and its norm."""
        z = self.embed(x)
        for layer in self.layers:
            z = layer(z)
        return self.norm(z)

    def features(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b e"]:
        """Return the vector that stands for the picture, which the head reads."""
        z = self.hidden(x)
        return z[:, 0] if self.class_token is not None else z.mean(1)  # eq. vit-mean

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class; without classes, the vector of the picture.

        Args:
            x: pictures of `image_size`, floating point, in the units of the training.
        """
        return self.head(self.features(x))  # eq. vit-head

    def attention_weights(
        self, x: Float[Tensor, "b c y x"]
    ) -> Float[Tensor, "b l h t t"]:
        """Return what every token looks at, in each head of each layer; rows add up to 1."""
        z, found = self.embed(x), []
        layers: Any = self.layers
        for layer in layers:
            found.append(layer.self_attn.with_weights(layer.norm1(z))[1])
            z = layer(z)
        return torch.stack(found, 1)

    def resized(self, image_size: Size) -> "ViT":
        """Return a copy for pictures of another size, with interpolated positions.

        Args:
            image_size: rows and columns, which the patch size divides.
        """
        new = _size("image_size", image_size)
        _check_divides("patch_size", self.patch_size, "image_size", new)
        made = copy.deepcopy(self)
        made.image_size = new
        with torch.no_grad():
            positions = interpolate_positions(
                self.position_embedding, self.grid, made.grid
            )
        made.position_embedding = nn.Parameter(positions)
        return made

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "ViT":
        """Return the ViT of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `ViTForImageClassification` or `ViTModel`, the folder of
                a saved one, or its name on the hub, such as "google/vit-base-patch16-224".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        needed = [*theirs.VIT_SIZES, "hidden_act"]
        config, tensors = hugging_face.read_model(model_or_path, "vit", needed)
        hugging_face.refuse_options(config, theirs.VIT_ONLY)
        sizes = {ours: config[name] for name, ours in theirs.VIT_SIZES.items()}
        sizes["image_size"] = _as_size(sizes["image_size"])
        made = cls(
            **sizes,
            num_classes=theirs.num_classes(tensors),
            dropout=config.get("hidden_dropout_prob", 0.0),
            activation=theirs.ACTIVATIONS.get(
                config["hidden_act"], config["hidden_act"]
            ),
            layer_norm_eps=config.get("layer_norm_eps", 1e-12),
        )
        hugging_face.load_renamed(made, tensors, theirs.VIT_RULES)
        return made.eval()


# ------------------------------------------------------------------ looking, learning, counting
def attention_rollout(
    weights: Float[Tensor, "b l h t t"],
) -> Float[Tensor, "b l t t"]:
    r"""Return how much of each input token arrives at each token, after every layer.

    $R_l = \tfrac12 (\bar A_l + I) R_{l-1}$ with $R_0 = I$ and the mean $\bar A_l$ of the heads
    (equation `vit-rollout`): the identity stands for the shortcut. Rows add up to 1. It traces
    attention alone, and knows nothing of what the networks and the values do.

    Args:
        weights: from `ViT.attention_weights`.

    Example:
        >>> attention_rollout(torch.full((1, 2, 3, 4, 4), 0.25))[0, :, 0, 1]
        tensor([0.1250, 0.1875])

    Source: Abnar and Zuidema 2020.
    """
    shape = ("b", "l", "h", "t", "t")
    checks.tensor("weights", weights, shape=shape, floating=True, empty=False)
    if weights.shape[3] != weights.shape[4]:
        raise ValueError(
            f"weights must be square in the last two axes, got {tuple(weights.shape)}"
        )
    rolled = torch.eye(weights.shape[-1]).to(weights)
    steps = (weights.mean(2) + rolled) / 2
    found = []
    for layer in range(weights.shape[1]):
        rolled = steps[:, layer] @ rolled  # eq. vit-rollout
        found.append(rolled)
    return torch.stack(found, 1)


def hard_distillation_loss_of_logits(
    logits: Float[Tensor, "b k"],
    distilled: Float[Tensor, "b k"],
    y: Int[Tensor, " b"],
    teacher: Float[Tensor, "b k"],
) -> Float[Tensor, ""]:
    r"""Return DeiT's loss: one half from the labels, one half from what a teacher would say.

    $\tfrac12 \mathrm{CE}(\text{logits}, y) + \tfrac12 \mathrm{CE}(\text{distilled}, \arg\max
    \text{teacher})$ (equation `vit-distillation`).

    Args:
        logits: of the head that is held to the labels.
        distilled: of the head that is held to the teacher; DeiT reads it from a second token.
        y: the labels.
        teacher: its scores, of which the largest counts.

    Example:
        >>> scores, y = torch.zeros(2, 3), torch.tensor([0, 2])
        >>> hard_distillation_loss_of_logits(scores, scores, y, torch.eye(3)[:2])  # log 3
        tensor(1.0986)

    Source: Touvron et al. 2020.
    """
    checks.tensor("logits", logits, shape=("b", "k"), floating=True, empty=False)
    like = tuple(logits.shape)
    checks.tensor("distilled", distilled, shape=like, floating=True)
    checks.tensor("teacher", teacher, shape=like, floating=True)
    checks.labels("y", y, like[1], length=like[0])
    said = teacher.argmax(1)
    return (F.cross_entropy(logits, y) + F.cross_entropy(distilled, said)) / 2


def vit_parameters(
    image_size: int,
    patch_size: int,
    num_classes: int,
    embed_dim: int,
    num_layers: int,
    in_channels: int = 3,
) -> int:
    """Return how many numbers a ViT with a class token and 4e hidden units learns.

    Equation `vit-parameters`.

    Args:
        image_size: side of the picture, ≥ 1.
        patch_size: side of a patch, which divides it.
        num_classes: scores, ≥ 0; with 0 there is no head.
        embed_dim: width e, ≥ 1.
        num_layers: layers L, ≥ 0.
        in_channels: of the picture, ≥ 1.

    Example:
        >>> vit_parameters(224, 16, 1000, 768, 12)  # ViT-B/16
        86567656
    """
    n, e, p = _counted(image_size, patch_size, embed_dim)
    depth = checks.count("num_layers", num_layers, least=0)
    classes = checks.count("num_classes", num_classes, least=0)
    head = classes * (e + 1)
    embedding = (p * p * checks.count("in_channels", in_channels) + 1) * e
    return embedding + (n + 2) * e + depth * (12 * e * e + 13 * e) + 2 * e + head


def vit_flops(
    image_size: int,
    patch_size: int,
    num_classes: int,
    embed_dim: int,
    num_layers: int,
    in_channels: int = 3,
) -> int:
    """Return the FLOPs of the matrix products for one picture: equation `vit-flops`.

    Args:
        image_size: side of the picture, ≥ 1.
        patch_size: side of a patch, which divides it.
        num_classes: scores, ≥ 0.
        embed_dim: width e, ≥ 1.
        num_layers: layers L, ≥ 0.
        in_channels: of the picture, ≥ 1.

    Example:
        >>> round(vit_flops(224, 16, 1000, 768, 12) / 1e9, 1)  # ViT-B/16
        35.1
    """
    n, e, p = _counted(image_size, patch_size, embed_dim)
    depth = checks.count("num_layers", num_layers, least=0)
    classes = checks.count("num_classes", num_classes, least=0)
    embedding = 2 * n * p * p * checks.count("in_channels", in_channels) * e
    layer = attention_flops(n + 1, e) + 16 * (n + 1) * e * e
    return embedding + depth * layer + 2 * e * classes


def attention_flops(
    num_tokens: int, embed_dim: int, window_size: int | None = None
) -> int:
    r"""Return the FLOPs of one attention, projections included, over all tokens or in windows.

    $8ne^2 + 4n^2e$ over all (equation `vit-global-cost`), $8ne^2 + 4M^2ne$ in windows of M × M
    (`vit-window-cost`).

    Args:
        num_tokens: tokens n, ≥ 1.
        embed_dim: width e, ≥ 1.
        window_size: side M of a window, or None for attention over all tokens.

    Example:
        >>> n = 56 * 56  # tokens of Swin's first stage
        >>> round(attention_flops(n, 96) / attention_flops(n, 96, window_size=7), 1)
        13.8

    Source: Liu et al. 2021, who count a multiplication and an addition as one.
    """
    n, e = checks.count("num_tokens", num_tokens), checks.count("embed_dim", embed_dim)
    seen = n
    if window_size is not None:
        seen = checks.count("window_size", window_size) ** 2
        if n % seen:
            raise ValueError(f"window_size={window_size} does not divide {n} tokens")
    return 8 * n * e * e + 4 * seen * n * e


# --------------------------------------------------------------------------------------- Swin
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


# ----------------------------------------------------------------------------- what is refused
def _size(name: str, value: Any) -> tuple[int, int]:
    """Return rows and columns."""
    if isinstance(value, tuple):
        if len(value) != 2:
            raise ValueError(f"{name}={value!r} must be one number or (rows, columns)")
        return checks.count(name, value[0]), checks.count(name, value[1])
    size = checks.count(name, value)
    return size, size


def _as_size(value: Any) -> Any:
    """Return a size as a configuration has it: JSON knows lists alone."""
    return tuple(value) if isinstance(value, list) else value


def _check_divides(name: str, part: int, of: str, size: tuple[int, ...]) -> None:
    """Refuse squares of side `part` that do not fill rows and columns."""
    if any(length % part for length in size):
        told = " × ".join(str(length) for length in size)
        raise ValueError(f"{name}={part} does not divide {of}, {told}")


def _counted(image_size: int, patch_size: int, embed_dim: int) -> tuple[int, int, int]:
    """Return the number of patches, the width and the side of a patch."""
    side, p = (
        checks.count("image_size", image_size),
        checks.count("patch_size", patch_size),
    )
    _check_divides("patch_size", p, "image_size", (side, side))
    return (side // p) ** 2, checks.count("embed_dim", embed_dim), p
