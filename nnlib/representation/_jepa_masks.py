r"""Which patches are seen and which are predicted: blocks of a picture, tubes of a video.

Chapter: chapters/representation/jepa.md     Papers: Assran et al. 2023 (blocks); Bardes et al.
2024 (tubes); He et al. 2021 (random patches)
Axes: b batch, m target blocks, k patches of a block, c patches of the context, y x rows and columns
of the grid of patches, t frames (tubelets), n all patches, numbered row by row.

Lengths are equal within a batch, so that it fits into one tensor: blocks have one size for all
pictures of a batch and a place of their own, and the context is cut, at random, to the smallest.
"""

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from nnlib import checks

TRIES = 100  # of a batch, before its blocks count as too large


class Masks(NamedTuple):
    """Numbers of patches: `context` (b c) is encoded, each block of `targets` (b m k) predicted."""

    context: Tensor
    targets: Tensor


def block_masks(
    grid: tuple[int, int],
    batch: int,
    num_targets: int = 4,
    target_scale: tuple[float, float] = (0.15, 0.2),
    aspect_ratio: tuple[float, float] = (0.75, 1.5),
    context_scale: tuple[float, float] = (0.85, 1.0),
    *,
    min_keep: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Masks:
    r"""Draw the multi-block masks of I-JEPA: a few target blocks, and a large context without them.

    A block covers a share s of the grid and is a times as high as wide: $h = \sqrt{s a n}$ rows and
    $w = \sqrt{s n / a}$ columns, rounded (equation `jepa-block`). The context is one square-ish
    block less every target (`jepa-context`), so that nothing predicted is seen.

    Args:
        grid: rows and columns of patches.
        batch: pictures, ≥ 1.
        num_targets: blocks m to predict in each picture, ≥ 1; they may overlap.
        target_scale: bounds of a target's share of the grid, within 0 … 1.
        aspect_ratio: bounds of its height by its width, > 0.
        context_scale: bounds of the share of the context's block before targets are taken away.
        min_keep: patches that the context must keep, ≥ 1.
        generator: source of the randomness, on the CPU.
        device: of the result.

    Returns:
        `Masks`, sorted within a picture and a block.

    Raises:
        ValueError: targets that leave fewer than `min_keep` patches, however they are placed.

    Example:
        >>> masks = block_masks((8, 8), batch=2, generator=torch.Generator().manual_seed(0))
        >>> masks.targets.shape, masks.targets[0, 0].tolist()
        (torch.Size([2, 4, 12]), [16, 17, 18, 24, 25, 26, 32, 33, 34, 40, 41, 42])
        >>> bool(torch.isin(masks.context[0], masks.targets[0]).any())
        False

    Source: Assran et al. 2023, section 4 and appendix A.
    """
    grid = sides("grid", grid, 2)
    batch = checks.count("batch", batch)
    m = checks.count("num_targets", num_targets)
    low, high = bounds("target_scale", target_scale, most=1)
    height, width = _block_size(
        grid, (low, high), bounds("aspect_ratio", aspect_ratio), generator
    )
    broad = bounds("context_scale", context_scale, most=1)
    around = _block_size(grid, broad, (1.0, 1.0), generator)

    def place(pictures: int) -> tuple[Tensor, Tensor]:
        targets = _blocks(pictures, m, (height, width), grid, generator)
        seen = torch.zeros(pictures, math.prod(grid), dtype=torch.bool)
        seen.scatter_(1, _blocks(pictures, 1, around, grid, generator)[:, 0], True)
        return targets, seen.scatter_(1, targets.flatten(1), False)  # eq. jepa-context

    told = f"num_targets={m} blocks of {height} × {width} patches of a grid of {grid}"
    targets, seen = _placed(place, batch, checks.count("min_keep", min_keep), told)
    context = _some(seen, int(seen.sum(1).min()), generator)
    return Masks(context.to(device), targets.to(device))


def tube_masks(
    grid: tuple[int, int, int],
    batch: int,
    num_blocks: int = 8,
    scale: tuple[float, float] = (0.15, 0.15),
    aspect_ratio: tuple[float, float] = (0.75, 1.5),
    *,
    min_keep: int = 1,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Masks:
    r"""Draw the masks of V-JEPA: a few blocks of the frame are hidden, for the whole of the time.

    The union of the blocks is one target, a bundle of tubes (equation `jepa-tube`); all else is
    the context. V-JEPA adds up two losses: 8 blocks of 15 % of the frame, and 2 blocks of 70 %.

    Args:
        grid: frames (tubelets), rows and columns of patches.
        batch: videos, ≥ 1.
        num_blocks: blocks whose union is hidden, ≥ 1.
        scale: bounds of a block's share of the frame, within 0 … 1.
        aspect_ratio: bounds of its height by its width, > 0.
        min_keep: patches of a frame that must stay visible, ≥ 1.
        generator: source of the randomness, on the CPU.
        device: of the result.

    Returns:
        `Masks` with one target, m = 1, of whole tubes.

    Raises:
        ValueError: blocks that leave fewer than `min_keep` patches visible, wherever they lie.

    Example:
        >>> masks = tube_masks((4, 6, 6), batch=2, num_blocks=2)
        >>> masks.context.shape[1] % 4, masks.targets.shape[2] % 4  # whole tubes of 4 frames
        (0, 0)

    Source: Bardes et al. 2024, section 3.2.
    """
    grid = sides("grid", grid, 3)
    batch, m = checks.count("batch", batch), checks.count("num_blocks", num_blocks)
    frame, area = grid[1:], math.prod(grid[1:])
    size = _block_size(
        frame,
        bounds("scale", scale, most=1),
        bounds("aspect_ratio", aspect_ratio),
        generator,
    )

    def place(videos: int) -> tuple[Tensor, Tensor]:
        hidden = _blocks(videos, m, size, frame, generator)
        seen = torch.ones(videos, area, dtype=torch.bool)
        return hidden, seen.scatter_(1, hidden.flatten(1), False)

    told = (
        f"num_blocks={m} blocks of {size[0]} × {size[1]} patches of a frame of {frame}"
    )
    _, seen = _placed(place, batch, checks.count("min_keep", min_keep), told)
    context = _some(seen, int(seen.sum(1).min()), generator)
    targets = _some(~seen, int((~seen).sum(1).min()), generator)

    def through_time(places: Tensor) -> Tensor:  # eq. jepa-tube
        return (places[:, None] + area * torch.arange(grid[0])[:, None]).flatten(1)

    return Masks(
        through_time(context).to(device), through_time(targets)[:, None].to(device)
    )


def random_masks(
    grid: tuple[int, ...],
    batch: int,
    hidden: float = 0.75,
    *,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
) -> Masks:
    """Hide a share of all patches, each by itself, as MAE does.

    Args:
        grid: sides of the grid of patches, two or more.
        batch: pictures, ≥ 1.
        hidden: share that is hidden, between 0 and 1; at least one patch is and one is not.
        generator: source of the randomness, on the CPU.
        device: of the result.

    Returns:
        `Masks` with one target, m = 1: all that is hidden.

    Example:
        >>> random_masks((4, 4), batch=2).targets.shape
        torch.Size([2, 1, 12])

    Source: He et al. 2021.
    """
    if not isinstance(grid, tuple):
        raise TypeError(f"grid={grid!r} must be a tuple of sides")
    n = math.prod(sides("grid", grid, len(grid)))
    if n < 2:
        raise ValueError(f"grid={grid!r} must hold two patches or more")
    batch = checks.count("batch", batch)
    share = checks.number("hidden", hidden, above=0, below=1)
    k = min(max(round(share * n), 1), n - 1)
    order = torch.rand(batch, n, generator=generator).argsort(1)
    context, targets = order[:, k:].sort(1).values, order[:, :k].sort(1).values
    return Masks(context.to(device), targets[:, None].to(device))


def sides(name: str, value: Any, axes: int) -> tuple[Any, ...]:
    """Return sides of a grid, each ≥ 1; one number stands for a square."""
    if isinstance(value, tuple):
        if len(value) != axes or axes < 1:
            raise ValueError(f"{name}={value!r} must hold {axes} numbers")
        return tuple(checks.count(name, side) for side in value)
    if axes == 2:
        return (checks.count(name, value),) * 2
    raise TypeError(f"{name}={value!r} must be a tuple of {axes} numbers")


def bounds(name: str, value: Any, *, most: float | None = None) -> tuple[float, float]:
    """Return a pair of numbers > 0, the smaller one first."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise TypeError(f"{name}={value!r} must be a pair, smallest and largest")
    low, high = (checks.number(name, end, above=0, most=most) for end in value)
    if low > high:
        raise ValueError(f"{name}={value!r} must have its smaller number first")
    return low, high


def _block_size(
    grid: tuple[int, int],
    scale: tuple[float, float],
    aspect_ratio: tuple[float, float],
    generator: torch.Generator | None,
) -> tuple[int, int]:
    """Draw rows and columns of a block, within the grid (equation `jepa-block`)."""
    u, v = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
    area = (scale[0] + u * (scale[1] - scale[0])) * math.prod(grid)
    aspect = aspect_ratio[0] + v * (aspect_ratio[1] - aspect_ratio[0])
    wanted = math.sqrt(area * aspect), math.sqrt(area / aspect)
    height, width = (
        min(max(round(x), 1), side) for x, side in zip(wanted, grid, strict=True)
    )
    return height, width


def _blocks(
    batch: int,
    m: int,
    size: tuple[int, int],
    grid: tuple[int, int],
    generator: torch.Generator | None,
) -> Int[Tensor, "b m k"]:
    """Put m blocks of one size anywhere in each picture; return the numbers of their patches."""
    (rows, columns), (height, width) = grid, size
    top = torch.randint(rows - height + 1, (batch, m, 1, 1), generator=generator)
    left = torch.randint(columns - width + 1, (batch, m, 1, 1), generator=generator)
    row = top + torch.arange(height)[:, None]
    return (row * columns + left + torch.arange(width)).flatten(2)


def _placed(
    place: Any, batch: int, min_keep: int, told: str
) -> tuple[Int[Tensor, "b m k"], Bool[Tensor, "b n"]]:
    """Place blocks, and once more in every picture whose context would be too small."""
    targets, seen = place(batch)
    for _ in range(TRIES):
        small = seen.sum(1) < min_keep
        again = int(small.sum())
        if not again:
            return targets, seen
        targets[small], seen[small] = place(again)
    raise ValueError(f"min_keep={min_keep}: too few patches are left by {told}")


def _some(
    among: Bool[Tensor, "b n"], many: int, generator: torch.Generator | None
) -> Int[Tensor, "b many"]:
    """Return `many` of the numbers that are True, drawn at random, in order."""
    lots = torch.rand(among.shape, generator=generator).masked_fill(~among, -1.0)
    return lots.topk(many).indices.sort(1).values
