"""CLIP's two towers as published, and what `transformers` calls their weights.

Axes: b batch, c channels, y x rows and columns, t tokens, d width of a tower, p width of the space.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import ACTIVATIONS
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.hugging_face import Part, Rule

CLIP_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    **ACTIVATIONS,
    "quick_gelu": lambda z: z * torch.sigmoid(1.702 * z),
}
"""Those of all models, and the approximation of GELU that CLIP was trained with."""


def fresh(norm: LayerNorm) -> None:
    """Set a norm back to what it begins as."""
    for value, start in ((norm.weight, 1.0), (norm.bias, 0.0)):
        if value is not None:
            nn.init.constant_(value, start)


class CLIPLayer(TransformerEncoderLayer):
    """A pre-norm layer of four times the width inside, with CLIP's activation and first weights."""

    def __init__(
        self,
        width: int,
        num_heads: int,
        num_layers: int,
        activation: str,
        dim_feedforward: int | None = None,
        **like: Any,
    ):
        hidden = 4 * width if dim_feedforward is None else dim_feedforward
        super().__init__(width, num_heads, hidden, dropout=0.0, norm_first=True, **like)
        checks.one_of("activation", activation, CLIP_ACTIVATIONS)
        self.act, self.depth = activation, num_layers

    def reset_parameters(self) -> None:
        """Draw the weights as CLIP's authors do: residual branches begin small in deep towers."""
        width = self.linear1.in_features
        inner = (width * 2 * self.depth) ** -0.5
        nn.init.normal_(self.self_attn.in_proj_weight, std=width**-0.5)
        nn.init.normal_(self.self_attn.out_proj.weight, std=inner)
        nn.init.normal_(self.linear1.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.linear2.weight, std=inner)
        for part in (self.self_attn.out_proj, self.linear1, self.linear2):
            nn.init.zeros_(part.bias)
        if self.self_attn.in_proj_bias is not None:
            nn.init.zeros_(self.self_attn.in_proj_bias)
        for norm in (self.norm1, self.norm2):
            fresh(norm)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(CLIP_ACTIVATIONS[self.act](self.linear1(x)))


def _layers(
    width: int,
    heads: int,
    layers: int,
    activation: str,
    hidden: int | None,
    **like: Any,
) -> nn.ModuleList:
    made = [
        CLIPLayer(width, heads, layers, activation, hidden, **like)
        for _ in range(layers)
    ]
    return nn.ModuleList(made)


class VisionTower(nn.Module):
    """A vision transformer with a norm before its layers, read at its class token."""

    def __init__(
        self, image_size: int, patch_size: int, channels: int, width: int, heads: int,
        layers: int, embed_dim: int, activation: str, hidden: int | None = None, eps: float = 1e-5,
        *, device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        like: Any = {"device": device, "dtype": dtype}
        self.image_size, self.channels = image_size, channels
        self.patch_embedding = nn.Conv2d(
            channels, width, patch_size, patch_size, bias=False, **like
        )
        tokens = (image_size // patch_size) ** 2 + 1
        self.class_token = nn.Parameter(torch.empty(width, **like))
        self.position_embedding = nn.Parameter(torch.empty(tokens, width, **like))
        self.norm_before = LayerNorm(width, eps=eps, **like)
        self.layers = _layers(
            width, heads, layers, activation, hidden, layer_norm_eps=eps, **like
        )
        self.norm_after = LayerNorm(width, eps=eps, **like)
        self.projection = nn.Linear(width, embed_dim, bias=False, **like)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        width = len(self.class_token)
        for weight in (
            self.class_token,
            self.position_embedding,
            self.projection.weight,
        ):
            nn.init.normal_(weight, std=width**-0.5)
        nn.init.normal_(self.patch_embedding.weight, std=0.02)
        for norm in (self.norm_before, self.norm_after):
            fresh(norm)
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator] # a CLIPLayer

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b p"]:
        """Return the embedding of each image, not normalised."""
        shape = ("b", self.channels, self.image_size, self.image_size)
        checks.tensor("x", x, shape=shape, floating=True, empty=False)
        seen = self.patch_embedding(x).flatten(2).transpose(1, 2)
        front = self.class_token.expand(len(x), 1, -1)
        h = self.norm_before(torch.cat([front, seen], 1) + self.position_embedding)
        for layer in self.layers:
            h = layer(h)
        return self.projection(self.norm_after(h[:, 0]))


class TextTower(nn.Module):
    """A transformer that reads from the left, read where the text ends."""

    def __init__(
        self, vocab_size: int, max_length: int, width: int, heads: int, layers: int,
        embed_dim: int, activation: str, end_token: int | None = None, hidden: int | None = None,
        eps: float = 1e-5, *, device: Device = None, dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        like: Any = {"device": device, "dtype": dtype}
        self.end_token, self.vocab_size = end_token, vocab_size
        self.token_embedding = nn.Parameter(torch.empty(vocab_size, width, **like))
        self.position_embedding = nn.Parameter(torch.empty(max_length, width, **like))
        self.layers = _layers(
            width, heads, layers, activation, hidden, layer_norm_eps=eps, **like
        )
        self.norm_after = LayerNorm(width, eps=eps, **like)
        self.projection = nn.Linear(width, embed_dim, bias=False, **like)

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        nn.init.normal_(self.token_embedding, std=0.02)
        nn.init.normal_(self.position_embedding, std=0.01)
        nn.init.normal_(self.projection.weight, std=self.projection.in_features**-0.5)
        fresh(self.norm_after)
        for layer in self.layers:
            layer.reset_parameters()  # type: ignore[operator] # a CLIPLayer

    def forward(self, texts: Int[Tensor, "b t"]) -> Float[Tensor, "b p"]:
        """Return the embedding of each text, not normalised."""
        checks.tokens("texts", texts, self.vocab_size)
        length = texts.shape[1]
        if length > len(self.position_embedding):
            raise ValueError(
                f"texts must have at most max_length={len(self.position_embedding)} "
                f"tokens, got {length}"
            )
        h = self.token_embedding[texts] + self.position_embedding[:length]
        for layer in self.layers:
            h = layer(h, is_causal=True)
        end = texts if self.end_token is None else (texts == self.end_token).int()
        if end is not texts and checks.readable(end) and not bool(end.any(1).all()):
            raise ValueError(f"texts must each hold end_token={self.end_token}")
        last = h[torch.arange(len(h), device=h.device), end.argmax(1)]
        return self.projection(self.norm_after(last))


NEEDED = ("text_config", "vision_config", "projection_dim")


def sizes(config: dict[str, Any]) -> dict[str, Any]:
    """Return our arguments for a configuration of `transformers`, or refuse it by name."""
    text, vision = config["text_config"], config["vision_config"]
    for name in ("hidden_act", "layer_norm_eps"):
        if text[name] != vision[name]:
            raise ValueError(
                f"model_or_path has two values of {name}, {text[name]!r} and {vision[name]!r}; "
                "ours has one for both towers"
            )
    end = text.get("eos_token_id", 2)
    known = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh"}
    return {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "vocab_size": text["vocab_size"],
        "embed_dim": config["projection_dim"],
        "in_channels": vision.get("num_channels", 3),
        "vision_width": vision["hidden_size"],
        "vision_layers": vision["num_hidden_layers"],
        "vision_heads": vision["num_attention_heads"],
        "vision_feedforward": vision["intermediate_size"],
        "text_width": text["hidden_size"],
        "text_layers": text["num_hidden_layers"],
        "text_heads": text["num_attention_heads"],
        "text_feedforward": text["intermediate_size"],
        "max_length": text["max_position_embeddings"],
        # in old files it is 2, which no text ends with: the largest number does
        "end_token": None if end == 2 else end,
        "activation": known.get(text["hidden_act"], text["hidden_act"]),
        "layer_norm_eps": text["layer_norm_eps"],
    }


def rules() -> list[Rule]:
    """Return where each tensor of `CLIPModel` belongs."""
    found: list[Rule] = [
        (r"logit_scale", "logit_scale", None),
        (r"(?:text|vision)_model\.embeddings\.position_ids", None, None),
        (r"visual_projection\.weight", "image_encoder.projection.weight", None),
        (r"text_projection\.weight", "text_encoder.projection.weight", None),
        (
            r"vision_model\.embeddings\.class_embedding",
            "image_encoder.class_token",
            None,
        ),
        (
            r"vision_model\.embeddings\.patch_embedding\.weight",
            "image_encoder.patch_embedding.weight",
            None,
        ),
        (
            r"vision_model\.pre_layrnorm\.(weight|bias)",
            r"image_encoder.norm_before.\1",
            None,
        ),
        (
            r"vision_model\.post_layernorm\.(weight|bias)",
            r"image_encoder.norm_after.\1",
            None,
        ),
        (
            r"text_model\.embeddings\.token_embedding\.weight",
            "text_encoder.token_embedding",
            None,
        ),
        (
            r"text_model\.final_layer_norm\.(weight|bias)",
            r"text_encoder.norm_after.\1",
            None,
        ),
    ]
    for theirs, ours in (("vision", "image"), ("text", "text")):
        layer = rf"{theirs}_model\.encoder\.layers\.(\d+)\."
        place = rf"{ours}_encoder.layers.\1."
        found.append(
            (
                rf"{theirs}_model\.embeddings\.position_embedding\.weight",
                f"{ours}_encoder.position_embedding",
                None,
            )
        )
        found += [
            (rf"{layer}self_attn\.{name}_proj\.(weight|bias)",
             rf"{place}self_attn.in_proj_\2", Part(number))
            for number, name in enumerate("qkv")
        ]  # fmt: skip
        found += [
            (rf"{layer}{name}\.(weight|bias)", rf"{place}{mine}.\2", None)
            for name, mine in (
                (r"self_attn\.out_proj", "self_attn.out_proj"),
                ("layer_norm1", "norm1"),
                ("layer_norm2", "norm2"),
                (r"mlp\.fc1", "linear1"),
                (r"mlp\.fc2", "linear2"),
            )
        ]
    return found
