r"""Contrastive learning: vectors in which what belongs together lies together, without labels.

Losses: `contrastive_loss` and `triplet_loss` of siamese networks, with `mine_triplets`; `nt_xent`
of SimCLR, `info_nce`, `clip_loss` and relatives; `byol_loss` and `dino_loss`, which need no
negatives. Models: `DualEncoder` around any two encoders, `CLIP` as published,
`MaskedAutoencoder` for comparison.

Chapter: chapters/representation/contrastive.md     Papers: Hadsell et al. 2006; Schroff et al.
2015; Chen et al. 2020 (SimCLR); Grill et al. 2020 (BYOL); Radford et al. 2021 (CLIP); He et al.
2021 (MAE)
Axes: b batch, d p width of an embedding, c y x channels, rows and columns, t tokens, s texts.
"""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks, hugging_face
from nnlib.representation import _contrastive_towers as theirs
from nnlib.representation._contrastive_losses import (
    clip_loss,
    contrastive_loss,
    cosine_logits,
    info_nce,
    nt_xent,
    sigmoid_loss,
    supervised_contrastive_loss,
    triplet_loss,
)
from nnlib.representation._contrastive_masked import (
    MaskedAutoencoder,
    masked_loss,
    random_mask,
)
from nnlib.representation._contrastive_mining import (
    Triplets,
    mine_triplets,
    squared_distances,
)
from nnlib.representation._contrastive_towers import TextTower, VisionTower
from nnlib.representation._contrastive_views import (
    alignment,
    barlow_twins_loss,
    byol_loss,
    dino_loss,
    uniformity,
    vicreg_loss,
)

__all__ = [
    "CLIP",
    "DualEncoder",
    "MaskedAutoencoder",
    "Triplets",
    "alignment",
    "barlow_twins_loss",
    "byol_loss",
    "clip_loss",
    "contrastive_loss",
    "cosine_logits",
    "dino_loss",
    "dual_encoder_loss",
    "info_nce",
    "masked_loss",
    "mine_triplets",
    "nt_xent",
    "random_mask",
    "sigmoid_loss",
    "squared_distances",
    "supervised_contrastive_loss",
    "triplet_loss",
    "uniformity",
    "vicreg_loss",
]

LARGEST_SCALE = 100.0  # the paper keeps κ below it


class DualEncoder(nn.Module):
    r"""Two encoders into one space, and how sharply their cosines are compared.

    Logits are $\kappa\, \hat{\mathbf z}^I \cdot \hat{\mathbf z}^T$, with $\kappa = e^t$ learned
    (equation `contrastive-clip-logits`).

    Args:
        image_encoder: any module that gives embeddings, b × p.
        text_encoder: any other that gives embeddings of the same width.
        temperature: 1/κ to begin with, > 0.
        device: of the scale; that of the image encoder if None.
        dtype: of the scale; likewise.

    Example:
        >>> both = DualEncoder(nn.Linear(5, 4), nn.Embedding(7, 4))
        >>> both(torch.zeros(3, 5), torch.tensor([0, 6])).shape
        torch.Size([3, 2])

    Source: Radford et al. 2021.
    """

    def __init__(
        self,
        image_encoder: nn.Module,
        text_encoder: nn.Module,
        temperature: float = 0.07,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        for name, part in (
            ("image_encoder", image_encoder), ("text_encoder", text_encoder)
        ):  # fmt: skip
            if not isinstance(part, nn.Module):
                raise TypeError(f"{name} must be a module, got {type(part).__name__}")
        self.temperature = checks.number("temperature", temperature, above=0)
        self.image_encoder, self.text_encoder = image_encoder, text_encoder
        like = next(iter(image_encoder.parameters()), torch.empty(()))
        start = torch.full(
            (), -math.log(self.temperature), dtype=dtype or like.dtype,
            device=like.device if device is None else device,
        )  # fmt: skip
        self.logit_scale = nn.Parameter(start)

    def forward(self, x: Tensor, texts: Tensor) -> Float[Tensor, "b s"]:
        """Return the logits of every image with every text: a row an image, a column a text."""
        images, words = self.image_encoder(x), self.text_encoder(texts)
        return cosine_logits(images, words, self.logit_scale.exp())

    @torch.no_grad()
    def limit_scale_(self, largest: float = LARGEST_SCALE) -> None:
        """Keep κ from growing beyond `largest`, after each step of the optimizer."""
        largest = checks.number("largest", largest, above=0)
        self.logit_scale.clamp_(max=math.log(largest))


def dual_encoder_loss(
    model: DualEncoder, x: Tensor, texts: Tensor
) -> Float[Tensor, ""]:
    """Return `clip_loss` of a batch whose images and texts stand in the same order.

    Args:
        model: the encoders and the scale.
        x: what its image encoder reads, b examples.
        texts: what its text encoder reads, b examples, b ≥ 2.

    Example:
        >>> model = DualEncoder(nn.Linear(5, 4), nn.Embedding(7, 4))
        >>> dual_encoder_loss(model, torch.randn(3, 5), torch.arange(3)).shape
        torch.Size([])
    """
    images, words = model.image_encoder(x), model.text_encoder(texts)
    return clip_loss(images, words, model.logit_scale.exp())


class CLIP(DualEncoder):
    r"""CLIP: a vision transformer and a text transformer that meet in one space.

    $\kappa\, \hat{\mathbf z}^I \cdot \hat{\mathbf z}^T$ for every image and text of a batch
    (equation `contrastive-clip-logits`). The defaults are those of ViT-B/32.

    Args:
        image_size: rows and columns of an image.
        patch_size: side of a patch, which divides them.
        vocab_size: tokens that texts are made of, ≥ 1.
        embed_dim: width p of the common space.
        in_channels: channels of an image.
        vision_width: width of the vision transformer.
        vision_layers: its layers.
        vision_heads: its heads, which divide its width.
        vision_feedforward: hidden width of its networks; None is four times its width.
        text_width: width of the text transformer.
        text_layers: its layers.
        text_heads: its heads, which divide its width.
        text_feedforward: hidden width of its networks; None is four times its width.
        max_length: the longest text, in tokens.
        end_token: the token that ends a text, where it is read; None: the largest number in it.
        activation: "quick_gelu" as published, or a name of `nnlib.blocks.activations`.
        layer_norm_eps: ε of the norms.
        temperature: 1/κ to begin with, > 0.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> clip = CLIP(32, 8, vocab_size=50, embed_dim=16, vision_width=32, vision_layers=1,
        ...             vision_heads=2, text_width=32, text_layers=1, text_heads=2)
        >>> texts = torch.tensor([[1, 2, 49], [3, 49, 0]])
        >>> clip(torch.zeros(4, 3, 32, 32), texts).shape
        torch.Size([4, 2])

    Source: Radford et al. 2021, who write t for $\ln \kappa$.
    """

    image_encoder: VisionTower
    text_encoder: TextTower

    def __init__(
        self,
        image_size: int = 224,
        patch_size: int = 32,
        vocab_size: int = 49_408,
        embed_dim: int = 512,
        *,
        in_channels: int = 3,
        vision_width: int = 768,
        vision_layers: int = 12,
        vision_heads: int = 12,
        vision_feedforward: int | None = None,
        text_width: int = 512,
        text_layers: int = 12,
        text_heads: int = 8,
        text_feedforward: int | None = None,
        max_length: int = 77,
        end_token: int | None = None,
        activation: str = "quick_gelu",
        layer_norm_eps: float = 1e-5,
        temperature: float = 0.07,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        given = {
            "image_size": image_size, "patch_size": patch_size, "vocab_size": vocab_size,
            "embed_dim": embed_dim, "in_channels": in_channels, "vision_width": vision_width,
            "vision_layers": vision_layers, "vision_heads": vision_heads,
            "text_width": text_width, "text_layers": text_layers, "text_heads": text_heads,
            "max_length": max_length,
        }  # fmt: skip
        for name, value in given.items():
            checks.count(name, value)
        hidden = {
            "vision_feedforward": vision_feedforward,
            "text_feedforward": text_feedforward,
        }
        for name, wide in hidden.items():
            if wide is not None:
                checks.count(name, wide)
        for part, whole in (
            ("patch_size", "image_size"), ("vision_heads", "vision_width"),
            ("text_heads", "text_width"),
        ):  # fmt: skip
            if given[whole] % given[part]:
                raise ValueError(
                    f"{part}={given[part]} does not divide {whole}={given[whole]}"
                )
        if (
            end_token is not None
            and checks.count("end_token", end_token, least=0) >= vocab_size
        ):
            raise ValueError(
                f"end_token={end_token} must be below vocab_size={vocab_size}"
            )
        checks.one_of("activation", activation, theirs.CLIP_ACTIVATIONS)
        eps = checks.number("layer_norm_eps", layer_norm_eps, least=0)
        checks.number("temperature", temperature, above=0)
        like: Any = {"device": device, "dtype": dtype}
        super().__init__(
            VisionTower(
                image_size, patch_size, in_channels, vision_width, vision_heads, vision_layers,
                embed_dim, activation, vision_feedforward, eps, **like,
            ),
            TextTower(
                vocab_size, max_length, text_width, text_heads, text_layers, embed_dim,
                activation, end_token, text_feedforward, eps, **like,
            ),
            temperature,
        )  # fmt: skip
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do, and set the temperature back."""
        self.image_encoder.reset_parameters()
        self.text_encoder.reset_parameters()
        nn.init.constant_(self.logit_scale, -math.log(self.temperature))

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "CLIP":
        """Return the `CLIPModel` of `transformers` with its weights, in evaluation mode.

        Its logits are the `logits_per_image` of theirs.

        Args:
            model_or_path: an instance, the folder of a saved one, or its name on the hub, such as
                "openai/clip-vit-base-patch32".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        config, tensors = hugging_face.read_model(model_or_path, "clip", theirs.NEEDED)
        made = cls(**theirs.sizes(config))
        hugging_face.load_renamed(made, tensors, theirs.rules())
        return made.eval()
