r"""JEPA: predict what is hidden as a vector, in a space that is learned along with the prediction.

`IJEPA` does so for pictures and `VJEPA` for videos; `MaskedAutoencoder`, its closest relative,
predicts pixels. `ema_update` moves the target encoder, the slow copy whose vectors are predicted.

Chapter: chapters/representation/jepa.md     Papers: LeCun 2022 (JEPA); Assran et al. 2023 (I-JEPA);
Bardes et al. 2024 (V-JEPA); He et al. 2021 (MAE)
Axes: b batch, c channels, t y x frames, rows and columns, n all patches, s those that are seen,
m target blocks, k patches of a block, e width of the encoder, p pixels of a patch.

In the papers' words the context encoder is f with weights θ, the target encoder f̄ with θ̄, the
predictor g with φ.
"""

import copy
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.representation._jepa_collapse import (
    covariance_penalty,
    effective_rank,
    feature_std,
    half_life,
    sigreg,
    variance_penalty,
)
from nnlib.representation._jepa_masks import (
    Masks,
    block_masks,
    random_masks,
    sides,
    tube_masks,
)
from nnlib.representation._jepa_networks import (
    JEPAEncoder,
    JEPAPredictor,
    grid_positions,
    take_patches,
)
from nnlib.train.schedules import Schedule

__all__ = [
    "IJEPA",
    "VJEPA",
    "JEPAEncoder",
    "JEPAPredictor",
    "MaskedAutoencoder",
    "Masks",
    "block_masks",
    "covariance_penalty",
    "effective_rank",
    "ema_update",
    "feature_std",
    "grid_positions",
    "half_life",
    "jepa_loss",
    "latent_distance",
    "mae_loss",
    "momentum_schedule",
    "random_masks",
    "sigreg",
    "take_patches",
    "tube_masks",
    "variance_penalty",
]

LOSSES = ("smooth_l1", "l1", "l2")


@torch.no_grad()
def ema_update(target: nn.Module, source: nn.Module, momentum: float) -> None:
    r"""Move a slow copy towards its source.

    $\bar\theta \leftarrow \alpha\,\bar\theta + (1 - \alpha)\,\theta$ (`jepa-ema`); buffers are
    taken over as they are.

    Args:
        target: the slow copy, changed in place.
        source: what it follows, of the same make.
        momentum: α, 0 … 1; 0 copies, 1 changes nothing.

    Raises:
        ValueError: the two do not have the same parameters.

    Example:
        >>> fast, slow = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(fast.weight, 1.0), nn.init.constant_(slow.weight, 0.0)
        >>> ema_update(slow, fast, 0.75)
        >>> slow.weight.item()
        0.25

    Source: Assran et al. 2023; as a target network, Lillicrap et al. 2015 and Grill et al. 2020.
    """
    alpha = checks.number("momentum", momentum, least=0, most=1)
    for name, module in (("target", target), ("source", source)):
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name} must be a module, got {type(module).__name__}")
    slow, fast = list[Tensor](target.parameters()), list[Tensor](source.parameters())
    if [p.shape for p in slow] != [p.shape for p in fast]:
        raise ValueError("target must have the parameters of source, shape by shape")
    own, theirs = dict(target.named_buffers()), dict(source.named_buffers())
    if own.keys() != theirs.keys():
        raise ValueError(
            f"target must have the buffers of source, {list(theirs)}, got {list(own)}"
        )
    if slow:
        torch._foreach_lerp_(slow, fast, 1 - alpha)  # eq. jepa-ema
    for name, mine in own.items():
        mine.copy_(theirs[name])


def momentum_schedule(steps: int, first: float = 0.996, last: float = 1.0) -> Schedule:
    """Return α of each step: from `first` to `last` in a straight line (`jepa-momentum`).

    Args:
        steps: steps of the training, ≥ 1.
        first: α of step 0, 0 … 1.
        last: α that it reaches after the last step, 0 … 1.

    Example:
        >>> alpha = momentum_schedule(100)
        >>> round(alpha(0), 6), round(alpha(50), 6), round(alpha(100), 6)
        (0.996, 0.998, 1.0)

    Source: Assran et al. 2023.
    """
    steps = checks.count("steps", steps)
    first = checks.number("first", first, least=0, most=1)
    last = checks.number("last", last, least=0, most=1)
    return lambda step: first + (last - first) * min(1.0, step / steps)


def latent_distance(
    predicted: Float[Tensor, "b m k e"],
    wanted: Float[Tensor, "b m k e"],
    kind: str = "smooth_l1",
) -> Float[Tensor, ""]:
    r"""Return how far predictions are from targets, through which no gradient flows.

    `l2` is I-JEPA's formula, $\tfrac1m \sum_i \sum_{j \in B_i} \lVert \hat{\mathbf s}_j -
    \bar{\mathbf s}_j \rVert^2$ (equation `jepa-loss`), averaged over the batch; `smooth_l1` is what
    its published code minimises, and `l1` what V-JEPA does (`jepa-l1`), both averaged over all
    numbers.

    Args:
        predicted: from the predictor.
        wanted: from the target encoder, of the same shape.
        kind: `smooth_l1`, `l1` or `l2`.

    Example:
        >>> zero, three = torch.zeros(1, 1, 2, 1), torch.full((1, 1, 2, 1), 3.0)
        >>> [latent_distance(zero, three, kind).item() for kind in ("smooth_l1", "l1", "l2")]
        [2.5, 3.0, 18.0]

    Source: Assran et al. 2023, section 3; Bardes et al. 2024.
    """
    shape = ("b", "m", "k", "e")
    checks.tensor("predicted", predicted, shape=shape, floating=True, empty=False)
    checks.tensor("wanted", wanted, shape=tuple(predicted.shape), floating=True)
    checks.one_of("kind", kind, LOSSES)
    wanted = wanted.detach()  # the stop-gradient
    if kind == "l2":
        return (predicted - wanted).square().sum((-2, -1)).mean()  # eq. jepa-loss
    if kind == "l1":
        return (predicted - wanted).abs().mean()  # eq. jepa-l1
    return F.smooth_l1_loss(predicted, wanted)


def jepa_loss(
    model: "IJEPA | VJEPA",
    x: Float[Tensor, "b c *size"],
    context: Int[Tensor, "b s"],
    targets: Int[Tensor, "b m k"],
    kind: str = "smooth_l1",
) -> Float[Tensor, ""]:
    """Return `latent_distance` between what a model predicts and what its slow copy says.

    Args:
        model: an `IJEPA` or a `VJEPA`.
        x: the inputs.
        context: numbers of the patches that are seen.
        targets: numbers of the patches to predict, block by block.
        kind: `smooth_l1`, `l1` or `l2`.
    """
    return latent_distance(model(x, context, targets), model.wanted(x, targets), kind)


def mae_loss(
    model: "MaskedAutoencoder",
    x: Float[Tensor, "b c y x"],
    context: Int[Tensor, "b s"],
    targets: Int[Tensor, "b m k"],
) -> Float[Tensor, ""]:
    """Return the mean squared error of the hidden pixels (equation `jepa-mae`).

    Args:
        model: a `MaskedAutoencoder`.
        x: the pictures.
        context: numbers of the patches that are seen.
        targets: numbers of the hidden patches.
    """
    return F.mse_loss(model(x, context, targets), model.wanted(x, targets))


class _JEPA(nn.Module):
    """What both have: an encoder, its slow copy, and a predictor between them."""

    def _build(
        self, encoder: JEPAEncoder, predictor: JEPAPredictor, normalize_targets: bool
    ) -> None:
        self.encoder, self.predictor = encoder, predictor
        self.target_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.normalize_targets = checks.flag("normalize_targets", normalize_targets)

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each side; masks are drawn for it."""
        return self.encoder.grid

    def reset_parameters(self) -> None:
        """Draw all weights anew; the target encoder becomes a copy of the encoder."""
        self.encoder.reset_parameters()
        self.predictor.reset_parameters()
        self.update_target(0.0)

    def forward(
        self,
        x: Float[Tensor, "b c *size"],
        context: Int[Tensor, "b s"],
        targets: Int[Tensor, "b m k"],
    ) -> Float[Tensor, "b m k e"]:
        """Return what is predicted for each patch of each target block, from the context alone.

        Args:
            x: the inputs, of which only the context is read.
            context: numbers of the patches that are seen.
            targets: numbers of the patches to predict, block by block.
        """
        n = len(self.encoder.position_embedding)
        checks.tensor("x", x, floating=True)
        batch = len(x) if x.ndim else 0
        checks.tokens("context", context, n, shape=(batch, "k"), of="patches")
        checks.tokens("targets", targets, n, shape=(batch, "m", "k"), of="patches")
        return self.predictor(self.encoder(x, context), context, targets)

    @torch.no_grad()
    def wanted(
        self, x: Float[Tensor, "b c *size"], targets: Int[Tensor, "b m k"]
    ) -> Float[Tensor, "b m k e"]:
        """Return the vectors to predict: the slow copy's, which has seen the whole input.

        Each is normalised over its features, to mean 0 and variance 1, if `normalize_targets`
        (equation `jepa-target`).

        Args:
            x: the inputs.
            targets: numbers of patches, block by block.
        """
        z = self.target_encoder(x)
        checks.tokens(
            "targets", targets, z.shape[1], shape=(len(z), "m", "k"), of="patches"
        )
        if self.normalize_targets:
            z = F.layer_norm(z, z.shape[-1:])
        return take_patches(z, targets.long())  # eq. jepa-target

    def update_target(self, momentum: float) -> None:
        """Move the slow copy towards the encoder, once after every step of the optimizer."""
        ema_update(self.target_encoder, self.encoder, momentum)

    @torch.no_grad()
    def features(self, x: Float[Tensor, "b c *size"]) -> Float[Tensor, "b e"]:
        """Return the vector that stands for an input: the mean of the target encoder's patches."""
        return self.target_encoder(x).mean(1)


class IJEPA(_JEPA):
    r"""I-JEPA: from part of a picture, predict the vectors of blocks that were cut out of it.

    The context encoder reads the visible patches, the predictor answers for the places of each
    target block, and a slow copy of the encoder, which reads the whole picture, says what would
    have been right (equations `jepa-encoder`, `jepa-predictor`, `jepa-target`, `jepa-loss`). Train
    with `jepa_loss`, then an optimizer's step, then `update_target`. The defaults are the paper's
    ViT-H/14; they take 5 GB.

    Args:
        image_size: rows and columns of the pictures; one number for a square.
        patch_size: side of a patch, which divides them.
        embed_dim: width e, ≥ 1.
        num_layers: layers of the encoder, ≥ 1.
        num_heads: heads of the encoder, which divide e.
        predictor_dim: width of the predictor, ≥ 1; much less than e.
        predictor_layers: its layers, ≥ 1.
        predictor_heads: its heads, which divide its width.
        normalize_targets: whether targets have mean 0 and variance 1 over their features.
        in_channels: of the pictures.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = IJEPA(32, 4, embed_dim=64, num_layers=2, num_heads=4, predictor_dim=32,
        ...               predictor_layers=1, predictor_heads=4)
        >>> x, masks = torch.zeros(5, 3, 32, 32), block_masks(model.grid, batch=5)
        >>> model(x, *masks).shape == masks.targets.shape + (64,)
        True
        >>> jepa_loss(model, x, *masks).backward()
        >>> model.update_target(0.996)

    Source: Assran et al. 2023.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 14,
        embed_dim: int = 1280,
        num_layers: int = 32,
        num_heads: int = 16,
        predictor_dim: int = 384,
        predictor_layers: int = 12,
        predictor_heads: int = 16,
        *,
        normalize_targets: bool = True,
        in_channels: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        size, p = _cut(image_size, patch_size)
        _check_heads(embed_dim, num_heads, predictor_dim, predictor_heads)
        checks.count("predictor_layers", predictor_layers)
        encoder = JEPAEncoder(
            size, (p, p), embed_dim, num_layers, num_heads, None, in_channels, **like
        )
        predictor = JEPAPredictor(
            encoder.grid,
            embed_dim,
            predictor_dim,
            predictor_layers,
            predictor_heads,
            **like,
        )
        self._build(encoder, predictor, normalize_targets)


class VJEPA(_JEPA):
    r"""V-JEPA: the same for videos, whose patches are boxes of a few frames, and whole tubes hide.

    Args:
        frames: frames of a video.
        image_size: rows and columns of a frame; one number for a square.
        tubelet_size: frames of a patch, which divide those of the video.
        patch_size: side of a patch, which divides rows and columns.
        embed_dim: width e, ≥ 1.
        num_layers: layers of the encoder, ≥ 1.
        num_heads: heads of the encoder, which divide e.
        predictor_dim: width of the predictor, ≥ 1.
        predictor_layers: its layers, ≥ 1.
        predictor_heads: its heads, which divide its width.
        normalize_targets: whether targets have mean 0 and variance 1 over their features.
        in_channels: of the videos.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = VJEPA(8, 16, 2, 4, embed_dim=48, num_layers=1, num_heads=4, predictor_dim=24,
        ...               predictor_layers=1, predictor_heads=2, in_channels=1)
        >>> masks = tube_masks(model.grid, batch=3, num_blocks=2)
        >>> jepa_loss(model, torch.zeros(3, 1, 8, 16, 16), *masks, kind="l1").ndim
        0

    Source: Bardes et al. 2024.
    """

    def __init__(
        self,
        frames: int = 16,
        image_size: int | tuple[int, int] = 224,
        tubelet_size: int = 2,
        patch_size: int = 16,
        embed_dim: int = 1280,
        num_layers: int = 32,
        num_heads: int = 16,
        predictor_dim: int = 384,
        predictor_layers: int = 12,
        predictor_heads: int = 12,
        *,
        normalize_targets: bool = True,
        in_channels: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        size = sides("image_size", image_size, 2)
        t = checks.count("frames", frames)
        s = checks.count("tubelet_size", tubelet_size)
        p = checks.count("patch_size", patch_size)
        if t % s:
            raise ValueError(f"tubelet_size={s} does not divide frames={t}")
        if any(side % p for side in size):
            raise ValueError(f"patch_size={p} does not divide image_size, {size}")
        _check_heads(embed_dim, num_heads, predictor_dim, predictor_heads)
        checks.count("predictor_layers", predictor_layers)
        encoder = JEPAEncoder(
            (t, *size),
            (s, p, p),
            embed_dim,
            num_layers,
            num_heads,
            None,
            in_channels,
            **like,
        )
        predictor = JEPAPredictor(
            encoder.grid,
            embed_dim,
            predictor_dim,
            predictor_layers,
            predictor_heads,
            **like,
        )
        self._build(encoder, predictor, normalize_targets)


class MaskedAutoencoder(nn.Module):
    r"""MAE: the same encoder and a decoder that predicts the pixels of the hidden patches.

    $\mathcal L = \lVert \hat{\mathbf x} - \mathbf x \rVert^2$, averaged over hidden pixels
    (equation `jepa-mae`). There is no second encoder, and nothing can collapse: pixels are given.

    Args:
        image_size: rows and columns of the pictures; one number for a square.
        patch_size: side of a patch, which divides them.
        embed_dim: width e, ≥ 1.
        num_layers: layers of the encoder, ≥ 1.
        num_heads: heads of the encoder, which divide e.
        decoder_dim: width of the decoder, ≥ 1.
        decoder_layers: its layers, ≥ 1.
        decoder_heads: its heads, which divide its width.
        normalize_targets: whether each patch's pixels are brought to mean 0 and variance 1.
        in_channels: of the pictures.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> mae = MaskedAutoencoder(32, 4, embed_dim=64, num_layers=2, num_heads=4, decoder_dim=32,
        ...                         decoder_layers=1, decoder_heads=4)
        >>> mae(torch.zeros(5, 3, 32, 32), *random_masks(mae.grid, batch=5)).shape
        torch.Size([5, 1, 48, 48])

    Source: He et al. 2021.
    """

    def __init__(
        self,
        image_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        decoder_dim: int = 512,
        decoder_layers: int = 8,
        decoder_heads: int = 16,
        *,
        normalize_targets: bool = False,
        in_channels: int = 3,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        size, p = _cut(image_size, patch_size)
        self.normalize_targets = checks.flag("normalize_targets", normalize_targets)
        _check_heads(embed_dim, num_heads, decoder_dim, decoder_heads, "decoder")
        checks.count("decoder_layers", decoder_layers)
        self.encoder = JEPAEncoder(
            size, (p, p), embed_dim, num_layers, num_heads, None, in_channels, **like
        )
        pixels = self.encoder.in_channels * p * p
        self.decoder = JEPAPredictor(
            self.encoder.grid,
            embed_dim,
            decoder_dim,
            decoder_layers,
            decoder_heads,
            pixels,
            **like,
        )

    @property
    def grid(self) -> tuple[int, ...]:
        """Rows and columns of patches."""
        return self.encoder.grid

    def reset_parameters(self) -> None:
        """Draw all weights anew."""
        self.encoder.reset_parameters()
        self.decoder.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "b c y x"],
        context: Int[Tensor, "b s"],
        targets: Int[Tensor, "b m k"],
    ) -> Float[Tensor, "b m k p"]:
        """Return the pixels that are predicted for each hidden patch, from the context alone."""
        return self.decoder(self.encoder(x, context), context, targets)

    @torch.no_grad()
    def wanted(
        self, x: Float[Tensor, "b c y x"], targets: Int[Tensor, "b m k"]
    ) -> Float[Tensor, "b m k p"]:
        """Return the true pixels of patches, channel by channel."""
        shape = ("b", self.encoder.in_channels, *self.encoder.size)
        checks.tensor("x", x, shape=shape, floating=True)
        n = len(self.encoder.position_embedding)
        wanted = (len(x), "m", "k")
        checks.tokens("targets", targets, n, shape=wanted, of="patches")
        u, v = self.encoder.patch_size
        cut = rearrange(x, "b c (i u) (j v) -> b (i j) (c u v)", u=u, v=v)
        if self.normalize_targets:
            cut = F.layer_norm(cut, cut.shape[-1:], eps=1e-6)
        return take_patches(cut, targets.long())

    @torch.no_grad()
    def features(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b e"]:
        """Return the vector that stands for a picture: the mean of the encoder's patches."""
        return self.encoder(x).mean(1)


def _cut(
    image_size: int | tuple[int, int], patch_size: int
) -> tuple[tuple[int, ...], int]:
    """Return rows and columns of a picture and the side of its patches, which divides both."""
    size = sides("image_size", image_size, 2)
    p = checks.count("patch_size", patch_size)
    if any(side % p for side in size):
        raise ValueError(f"patch_size={p} does not divide image_size, {size}")
    return size, p


def _check_heads(
    e: Any, heads: Any, p: Any, other_heads: Any, other: str = "predictor"
) -> None:
    """Refuse heads that do not divide their width, by the names that a user gave."""
    for wide, width, name, count in (
        ("embed_dim", e, "num_heads", heads),
        (f"{other}_dim", p, f"{other}_heads", other_heads),
    ):
        if checks.count(wide, width) % checks.count(name, count):
            raise ValueError(f"{name}={count} does not divide {wide}={width}")
