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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks, hugging_face
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.vision import _hugging_face as theirs
from nnlib.vision._swin import (
    PatchMerging,
    SwinBlock,
    SwinTransformer,
    WindowAttention,
    relative_position_index,
    shift_mask,
    window_partition,
)
from nnlib.vision._vit_costs import attention_flops, vit_flops, vit_parameters
from nnlib.vision._vit_sizes import Size, _as_size, _check_divides, _size
from nnlib.vision.resnet import StochasticDepth

__all__ = [
    "PatchMerging",
    "Size",
    "SwinBlock",
    "SwinTransformer",
    "ViT",
    "WindowAttention",
    "attention_flops",
    "attention_rollout",
    "hard_distillation_loss_of_logits",
    "interpolate_positions",
    "patches",
    "relative_position_index",
    "shift_mask",
    "vit_flops",
    "vit_parameters",
    "window_partition",
]


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
