r"""The two networks of a JEPA: a transformer that encodes patches, and a narrow one that predicts.

Chapter: chapters/representation/jepa.md     Papers: Dosovitskiy et al. 2020; Assran et al. 2023
Axes: b batch, n all patches, c patches of the context, m target blocks, k patches of a block, e
width of the encoder, p width of the predictor, o numbers predicted for a patch.
"""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnlib import checks, hugging_face
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.positions import sinusoidal
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.representation._jepa_masks import sides

EPS = 1e-6  # of every norm, as in the published models


def grid_positions(
    grid: tuple[int, ...],
    embed_dim: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Float[Tensor, "n e"]:
    """Return a fixed vector for each place of a grid: sines and cosines of each coordinate in turn.

    Every axis gets an equal share of the features, an even number of them; what is too much is cut
    off at the end.

    Args:
        grid: sides of the grid, (y, x) or (t, y, x).
        embed_dim: width e of the vectors, ≥ 1.
        device: of the result.
        dtype: of the result, floating point.

    Example:
        >>> grid_positions((2, 2), 4)[2]  # row 1, column 0: sin 1, cos 1, sin 0, cos 0
        tensor([0.8415, 0.5403, 0.0000, 1.0000])
    """
    if not isinstance(grid, tuple):
        raise TypeError(f"grid={grid!r} must be a tuple of sides")
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype={dtype} must be floating point")
    grid = sides("grid", grid, len(grid))
    e, axes = checks.count("embed_dim", embed_dim), len(grid)
    share = 2 * math.ceil(e / (2 * axes))
    parts = []
    for axis, length in enumerate(grid):
        wave = sinusoidal(length, share, dtype=dtype or torch.get_default_dtype())
        shape = [1] * axes + [share]
        shape[axis] = length
        parts.append(wave.view(shape).expand(*grid, share))
    return torch.cat(parts, -1).flatten(0, -2)[:, :e].contiguous().to(device)


def take_patches(
    z: Float[Tensor, "b n e"], numbers: Int[Tensor, "b *any"]
) -> Float[Tensor, "b *any e"]:
    """Return the vectors of the patches with these numbers, for each picture its own.

    Args:
        z: a vector for each patch.
        numbers: of patches, 0 … n − 1.

    Example:
        >>> z = torch.arange(6.0).view(1, 3, 2)
        >>> take_patches(z, torch.tensor([[2, 0]]))
        tensor([[[4., 5.],
                 [0., 1.]]])
    """
    checks.tensor("z", z, shape=("b", "n", "e"))
    checks.tensor("numbers", numbers, floating=False)
    if numbers.ndim < 2 or len(numbers) != len(z):
        raise ValueError(
            f"numbers must have a row for each of {len(z)} pictures, "
            f"got shape {tuple(numbers.shape)}"
        )
    if checks.readable(numbers) and numbers.numel():
        low, high = map(int, numbers.aminmax())
        if low < 0 or high >= z.shape[1]:
            raise ValueError(
                f"numbers must be 0 … {z.shape[1] - 1} (patches), got {low} … {high}"
            )
    flat = numbers.long().flatten(1)[..., None].expand(-1, -1, z.shape[-1])
    return z.gather(1, flat).view(*numbers.shape, z.shape[-1])


def _layers(
    count: int, width: int, heads: int, hidden: int, like: Any
) -> nn.ModuleList:
    return nn.ModuleList(
        TransformerEncoderLayer(
            width, heads, hidden, 0.0, "gelu", EPS, norm_first=True, **like
        )
        for _ in range(count)
    )


def _draw(module: nn.Module) -> None:
    """Draw Xavier's weights; those whose map is added to a sum in layer l are divided by √(2l)."""
    for name, parameter in module.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif "norm" in name:
            nn.init.ones_(parameter)
        elif name == "mask_token":
            nn.init.trunc_normal_(parameter, std=0.02)
        elif name == "patch_embedding.weight":  # its sums then have variance 1
            nn.init.trunc_normal_(parameter, std=parameter[0].numel() ** -0.5)
        else:
            nn.init.xavier_uniform_(parameter)
            if name.endswith(("out_proj.weight", "linear2.weight")):
                with torch.no_grad():
                    parameter.div_(math.sqrt(2 * (int(name.split(".")[1]) + 1)))


class JEPAEncoder(nn.Module):
    r"""A transformer on patches of a picture or of a video, which may leave patches out.

    Patches pass one affine map, get fixed positions, and only those that are kept pass the pre-norm
    layers: $\mathbf s = f_\theta(\mathbf x)$ (equation `jepa-encoder`). No class token.

    Args:
        size: rows and columns of the pictures; frames, rows and columns of videos.
        patch_size: sides of a patch, likewise; they divide those of the input.
        embed_dim: width e, ≥ 1.
        num_layers: layers, ≥ 1.
        num_heads: heads, which divide e.
        dim_feedforward: hidden width of each layer's network; None is 4e.
        in_channels: of the input.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> encoder = JEPAEncoder((32, 32), (8, 8), embed_dim=64, num_layers=2, num_heads=4)
        >>> encoder(torch.zeros(2, 3, 32, 32), keep=torch.tensor([[0, 5], [3, 9]])).shape
        torch.Size([2, 2, 64])

    Source: Assran et al. 2023, whose weights `from_hugging_face` reads.
    """

    position_embedding: Tensor

    def __init__(
        self,
        size: tuple[int, ...],
        patch_size: tuple[int, ...],
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        dim_feedforward: int | None = None,
        in_channels: int = 3,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        axes = len(size) if isinstance(size, tuple) else 2
        if axes not in (2, 3):
            raise ValueError(f"size={size!r} must hold 2 numbers, or 3 for a video")
        self.size, self.patch_size = (
            sides("size", size, axes),
            sides("patch_size", patch_size, axes),
        )
        for whole, part in zip(self.size, self.patch_size, strict=True):
            if whole % part:
                raise ValueError(
                    f"patch_size={self.patch_size} does not divide size, {self.size}"
                )
        self.embed_dim = e = checks.count("embed_dim", embed_dim)
        self.in_channels = checks.count("in_channels", in_channels)
        depth = checks.count("num_layers", num_layers)
        hidden = 4 * e if dim_feedforward is None else dim_feedforward
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        cut: Any = nn.Conv2d if axes == 2 else nn.Conv3d
        self.patch_embedding = cut(
            self.in_channels, e, self.patch_size, stride=self.patch_size, **like
        )
        self.register_buffer("position_embedding", grid_positions(self.grid, e, **like))
        self.layers = _layers(depth, e, num_heads, hidden, like)
        self.norm = LayerNorm(e, eps=EPS, **like)
        self.reset_parameters()

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each side."""
        return tuple(
            whole // part
            for whole, part in zip(self.size, self.patch_size, strict=True)
        )

    def reset_parameters(self) -> None:
        """Draw all weights anew; positions are fixed."""
        _draw(self)

    def forward(
        self, x: Float[Tensor, "b c *size"], keep: Int[Tensor, "b k"] | None = None
    ) -> Float[Tensor, "b k e"]:
        """Return a vector for each patch, or for those that are kept, which see no other.

        Args:
            x: pictures b c y x, or videos b c t y x, of the size that was given.
            keep: numbers of the patches to encode; None: all.
        """
        shape = ("b", self.in_channels, *self.size)
        checks.tensor("x", x, shape=shape, floating=True)
        z = self.patch_embedding(x).flatten(2).mT + self.position_embedding
        if keep is not None:
            n = len(self.position_embedding)
            checks.tokens("keep", keep, n, shape=(len(x), "k"), of="patches")
            z = take_patches(z, keep.long())
        for layer in self.layers:
            z = layer(z)
        return self.norm(z)  # eq. jepa-encoder

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "JEPAEncoder":
        """Return the I-JEPA encoder of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an `IJepaModel`, the folder of a saved one, or its name on the hub, such
                as "facebook/ijepa_vith14_1k".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        config, tensors = hugging_face.read_model(model_or_path, "ijepa", THEIR_SIZES)
        hugging_face.refuse_options(config, THEIR_ONLY)
        sizes = {ours: config[name] for name, ours in THEIR_SIZES.items()}
        for name in ("size", "patch_size"):
            value = sizes[name]
            sizes[name] = tuple(value) if isinstance(value, list) else (value, value)
        made = cls(**sizes)
        hugging_face.load_renamed(made, tensors, RULES)
        return made.eval()


THEIR_SIZES = {
    "image_size": "size",
    "patch_size": "patch_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "dim_feedforward",
    "num_channels": "in_channels",
}
THEIR_ONLY = {"qkv_bias": True, "hidden_act": "gelu", "layer_norm_eps": EPS}


def _row(value: Tensor) -> Tensor:
    """Return what they keep as a batch of one."""
    return value[0]


_LAYER = r"(?:ijepa\.)?(?:encoder\.)?layers?\.(\d+)\."
RULES: list[hugging_face.Rule] = [
    (r"(?:ijepa\.)?embeddings\.position_embeddings", "position_embedding", _row),
    (
        r"(?:ijepa\.)?embeddings\.mask_token",
        None,
        None,
    ),  # of a use that is not I-JEPA's
    (
        r"(?:ijepa\.)?embeddings\.patch_embeddings\.projection\.(weight|bias)",
        r"patch_embedding.\1",
        None,
    ),
    *(
        (
            rf"{_LAYER}attention\.(?:attention\.)?(?:{old}|{new})\.(weight|bias)",
            r"layers.\1.self_attn.in_proj_\2",
            hugging_face.Part(number),
        )
        for number, (old, new) in enumerate(
            (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"))
        )
    ),
    *(
        (_LAYER + theirs + r"\.(weight|bias)", rf"layers.\1.{ours}.\2", None)
        for theirs, ours in (
            (r"attention\.(?:output\.dense|o_proj)", "self_attn.out_proj"),
            ("layernorm_before", "norm1"),
            ("layernorm_after", "norm2"),
            (r"(?:intermediate\.dense|mlp\.fc1)", "linear1"),
            (r"(?:output\.dense|mlp\.fc2)", "linear2"),
        )
    ),
    (r"(?:ijepa\.)?layernorm\.(weight|bias)", r"norm.\1", None),
    (r"(?:ijepa\.)?pooler\..*", None, None),
    (r"classifier\..*", None, None),  # trained with labels, on top of the features
]


class JEPAPredictor(nn.Module):
    r"""A narrow transformer that says what stands at other places, from what was encoded.

    What is seen is mapped to a smaller width and put at its place; for each patch of a target block
    a learned mask token is put at that patch's place. All of them look at one another, block by
    block, and what became of the mask tokens is mapped back:
    $\hat{\mathbf s} = g_\phi(\mathbf s_x, \text{places})$ (equation `jepa-predictor`).

    Args:
        grid: sides of the grid of patches.
        embed_dim: width e of what is encoded, ≥ 1.
        predictor_dim: width p, ≥ 1.
        num_layers: layers, ≥ 1.
        num_heads: heads, which divide p.
        out_features: numbers o that are predicted for a patch; None is e.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> predictor = JEPAPredictor((4, 4), embed_dim=64, predictor_dim=32, num_layers=1,
        ...                           num_heads=4)
        >>> seen, keep = torch.zeros(2, 5, 64), torch.arange(5).expand(2, -1)
        >>> predictor(seen, keep, torch.tensor([[[8, 9], [14, 15]]]).expand(2, -1, -1)).shape
        torch.Size([2, 2, 2, 64])

    Source: Assran et al. 2023, section 3.
    """

    position_embedding: Tensor

    def __init__(
        self,
        grid: tuple[int, ...],
        embed_dim: int,
        predictor_dim: int = 384,
        num_layers: int = 12,
        num_heads: int = 12,
        out_features: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        grid = sides("grid", grid, len(grid) if isinstance(grid, tuple) else 2)
        self.embed_dim = e = checks.count("embed_dim", embed_dim)
        p = checks.count("predictor_dim", predictor_dim)
        o = e if out_features is None else checks.count("out_features", out_features)
        depth = checks.count("num_layers", num_layers)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.embed = nn.Linear(e, p, **like)
        self.mask_token = nn.Parameter(torch.empty(p, **like))
        self.register_buffer("position_embedding", grid_positions(grid, p, **like))
        self.layers = _layers(depth, p, num_heads, 4 * p, like)
        self.norm = LayerNorm(p, eps=EPS, **like)
        self.project = nn.Linear(p, o, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew; positions are fixed."""
        _draw(self)

    def forward(
        self,
        seen: Float[Tensor, "b c e"],
        context: Int[Tensor, "b c"],
        targets: Int[Tensor, "b m k"],
    ) -> Float[Tensor, "b m k o"]:
        """Return what each patch of each target block is expected to be.

        Args:
            seen: the encoded patches.
            context: their numbers.
            targets: numbers of the patches to predict, block by block; blocks do not see others.
        """
        checks.tensor("seen", seen, shape=("b", "c", self.embed_dim), floating=True)
        b, c, n = len(seen), seen.shape[1], len(self.position_embedding)
        checks.tokens("context", context, n, shape=(b, c), of="patches")
        checks.tokens("targets", targets, n, shape=(b, "m", "k"), of="patches")
        m = targets.shape[1]
        known = self.embed(seen) + self.position_embedding[context]
        asked = self.mask_token + self.position_embedding[targets]
        z = torch.cat([known[:, None].expand(-1, m, -1, -1), asked], 2).flatten(0, 1)
        for layer in self.layers:
            z = layer(z)
        told = self.norm(z[:, c:])  # eq. jepa-predictor
        return self.project(told).unflatten(0, (b, m))
