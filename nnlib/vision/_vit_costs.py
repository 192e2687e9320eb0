"""Parameters and operations of a vision transformer, counted by formulas."""

from nnlib import checks
from nnlib.vision._vit_sizes import _check_divides


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


def _counted(image_size: int, patch_size: int, embed_dim: int) -> tuple[int, int, int]:
    """Return the number of patches, the width and the side of a patch."""
    side, p = (
        checks.count("image_size", image_size),
        checks.count("patch_size", patch_size),
    )
    _check_divides("patch_size", p, "image_size", (side, side))
    return (side // p) ** 2, checks.count("embed_dim", embed_dim), p
