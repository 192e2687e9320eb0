r"""The masked autoencoder: hide most of a picture, look at the rest, paint what is missing.

Paper: He et al. 2021. It compares nothing; the chapter has it as the other way without labels.
Axes: b batch, c channels, y x rows and columns, n patches, p numbers of a patch, d width.
"""

from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.transformer_layer import TransformerEncoderLayer
from nnlib.representation._contrastive_towers import fresh


class Masking(NamedTuple):
    """Which patches stay, in what order they are put back, and which are hidden."""

    kept: Tensor
    back: Tensor
    hidden: Tensor


def random_mask(noise: Float[Tensor, "b n"], mask_ratio: float = 0.75) -> Masking:
    """Return for each picture which patches stay: those with the least noise.

    Args:
        noise: a random number for each patch; no two of a row are equal.
        mask_ratio: share of patches that is hidden, in [0, 1); at least one stays.

    Returns:
        `kept`, b × m numbers of patches; `back`, b × n, the place of each patch among the kept
        ones and the hidden ones after them; `hidden`, b × n, True where a patch is hidden.

    Example:
        >>> mask = random_mask(torch.tensor([[0.4, 0.1, 0.3, 0.2]]), 0.5)
        >>> mask.kept.tolist(), mask.hidden.tolist()
        ([[1, 3]], [[True, False, True, False]])

    Source: He et al. 2021, section 3.
    """
    checks.tensor("noise", noise, shape=("b", "n"), floating=True, empty=False)
    mask_ratio = checks.number("mask_ratio", mask_ratio, least=0, below=1)
    many = noise.shape[1]
    left = max(1, int(many * (1 - mask_ratio) + 1e-6))
    order = noise.argsort(1)
    back = order.argsort(1)
    return Masking(order[:, :left], back, back >= left)


class MaskedAutoencoder(nn.Module):
    r"""A transformer on the visible patches, and a small one that paints the hidden ones.

    The loss is the mean squared error over hidden patches alone (equation `contrastive-mae`).

    Args:
        image_size: rows and columns of a picture.
        patch_size: side of a patch, which divides them.
        embed_dim: width of the encoder.
        num_layers: layers of the encoder.
        num_heads: heads, which divide both widths.
        decoder_dim: width of the decoder.
        decoder_layers: its layers.
        mask_ratio: share of patches that is hidden, in [0, 1).
        in_channels: channels of a picture.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> painter = MaskedAutoencoder(8, 2, 16, 1, 2, 8)
        >>> painted, hidden = painter(torch.rand(3, 1, 8, 8))
        >>> painted.shape, hidden.sum(1).tolist()
        (torch.Size([3, 16, 4]), [12, 12, 12])

    Source: He et al. 2021; positions are learned here, theirs are fixed sines.
    """

    def __init__(
        self,
        image_size: int,
        patch_size: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        decoder_dim: int,
        decoder_layers: int = 1,
        mask_ratio: float = 0.75,
        in_channels: int = 1,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        side = checks.count("image_size", image_size)
        self.patch_size = p = checks.count("patch_size", patch_size)
        if side % p:
            raise ValueError(f"patch_size={p} does not divide image_size={side}")
        for name, value in (
            ("embed_dim", embed_dim), ("num_layers", num_layers), ("num_heads", num_heads),
            ("decoder_dim", decoder_dim), ("decoder_layers", decoder_layers),
            ("in_channels", in_channels),
        ):  # fmt: skip
            checks.count(name, value)
        for name, width in (("embed_dim", embed_dim), ("decoder_dim", decoder_dim)):
            if width % num_heads:
                raise ValueError(
                    f"num_heads={num_heads} does not divide {name}={width}"
                )
        self.mask_ratio = checks.number("mask_ratio", mask_ratio, least=0, below=1)
        self.shape = (in_channels, side, side)
        many, inside = (side // p) ** 2, in_channels * p * p
        like: Any = {"device": device, "dtype": dtype}

        def stack(width: int, layers: int) -> nn.Sequential:
            made = [
                TransformerEncoderLayer(
                    width, num_heads, 4 * width, 0.0, "gelu", norm_first=True, **like
                )
                for _ in range(layers)
            ]
            return nn.Sequential(*made, LayerNorm(width, **like))

        self.patch_embedding = nn.Linear(inside, embed_dim, **like)
        self.position_embedding = nn.Parameter(torch.empty(many, embed_dim, **like))
        self.encoder = stack(embed_dim, num_layers)
        self.to_decoder = nn.Linear(embed_dim, decoder_dim, **like)
        self.mask_token = nn.Parameter(torch.empty(decoder_dim, **like))
        self.decoder_position = nn.Parameter(torch.empty(many, decoder_dim, **like))
        self.decoder = stack(decoder_dim, decoder_layers)
        self.head = nn.Linear(decoder_dim, inside, **like)
        self._place()

    def _place(self) -> None:
        nn.init.normal_(self.mask_token, std=0.02)
        for place in (self.position_embedding, self.decoder_position):
            nn.init.normal_(place, std=0.5**0.5)  # the spread of sines

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        for part in reversed(list(self.modules())):  # a layer after its own parts
            if isinstance(part, LayerNorm):
                fresh(part)
            elif isinstance(part, nn.Linear | MultiHeadAttention):
                part.reset_parameters()
        self._place()

    def patches(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b n p"]:
        """Return the patches of each picture, row by row."""
        checks.tensor("x", x, shape=("b", *self.shape), floating=True, empty=False)
        p = self.patch_size
        return rearrange(x, "b c (i u) (j v) -> b (i j) (c u v)", u=p, v=p)

    def pictures(self, patches: Float[Tensor, "b n p"]) -> Float[Tensor, "b c y x"]:
        """Put patches together again."""
        c, side, _ = self.shape
        p = self.patch_size
        return rearrange(
            patches, "b (i j) (c u v) -> b c (i u) (j v)", i=side // p, c=c, u=p
        )

    def encode(
        self, x: Float[Tensor, "b c y x"], mask: Masking | None = None
    ) -> Float[Tensor, "b m d"]:
        """Return the vectors of the patches that are visible: of all, without a mask."""
        h = self.patch_embedding(self.patches(x)) + self.position_embedding
        if mask is not None:
            h = h.gather(1, mask.kept[..., None].expand(-1, -1, h.shape[2]))
        return self.encoder(h)

    def forward(
        self, x: Float[Tensor, "b c y x"], noise: Float[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b n p"], Bool[Tensor, "b n"]]:
        """Return all patches as they are painted, and which of them were hidden.

        Args:
            x: pictures.
            noise: decides what is hidden (`random_mask`); None draws it.
        """
        many = len(self.position_embedding)
        if noise is None:
            noise = torch.rand(len(x), many, device=x.device)
        checks.tensor("noise", noise, shape=(len(x), many), floating=True)
        mask = random_mask(noise, self.mask_ratio)
        seen = self.to_decoder(self.encode(x, mask))
        blank = self.mask_token.expand(len(x), many - seen.shape[1], -1)
        both = torch.cat([seen, blank], 1)
        placed = both.gather(1, mask.back[..., None].expand(-1, -1, both.shape[2]))
        return self.head(self.decoder(placed + self.decoder_position)), mask.hidden


def masked_loss(
    model: MaskedAutoencoder,
    x: Float[Tensor, "b c y x"],
    noise: Float[Tensor, "b n"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean squared error over hidden patches (equation `contrastive-mae`).

    Args:
        model: what paints.
        x: pictures.
        noise: decides what is hidden (`random_mask`); None draws it.

    Example:
        >>> masked_loss(MaskedAutoencoder(8, 2, 16, 1, 2, 8), torch.zeros(3, 1, 8, 8)).shape
        torch.Size([])
    """
    painted, hidden = model(x, noise)
    off = (painted - model.patches(x)).square().mean(2)
    return (off * hidden).sum() / hidden.sum().clamp(min=1)
