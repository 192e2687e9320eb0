"""Letters on photographs of textures, and which pixels are ink: a task whose answer is known.

Axes: n pictures, c channel (one), y x rows and columns.
"""

import string
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.data.letters import glyphs, warped
from nnlib.data.split import Split
from nnlib.distribution import extra

TEXTURES: dict[str, tuple[str, ...]] = {
    "train": ("brick", "grass", "camera", "coffee"),
    "test": ("gravel", "cat", "clock"),
}
"""Which photographs each split is cut from: none of the one is in the other."""

HELD_OUT = "QRSTUVWXYZ"
"""Letters that only the test has, in fonts that only the test has."""


def letters_on_textures(
    split: str = "train",
    *,
    count: int = 256,
    size: int = 32,
    contrast: float = 0.35,
    seed: int = 0,
) -> Split[Tensor, Tensor]:
    """Paint letters on cuts of photographs, and tell which pixels were painted.

    Each picture has one large letter and two small ones, lighter or darker than the photograph is
    on average. The test has other photographs, other letters and other fonts. The same arguments
    give the same pictures.

    Args:
        split: `train` or `test`.
        count: pictures, ≥ 1.
        size: rows and columns of a picture, 16 … 128.
        contrast: how much lighter or darker than the mean the ink is, on average, 0 … 1.
        seed: of everything that is drawn, ≥ 0.

    Returns:
        `x` float32 of shape (n, 1, size, size) in 0 … 1; `y` int64 of shape (n, size, size), 1 on
        ink and 0 on the photograph.

    Example:
        >>> letters_on_textures(count=2).y.shape
        torch.Size([2, 32, 32])
    """
    checks.one_of("split", split, TEXTURES)
    count = checks.count("count", count)
    size = checks.count("size", size, least=16)
    checks.number("size", size, most=128)
    contrast = checks.number("contrast", contrast, least=0, most=1)
    seed = checks.count("seed", seed, least=0)
    generator = torch.Generator().manual_seed(2 * seed + (split == "test"))
    ground = _cuts(TEXTURES[split], count, size, generator)
    drawn, which = glyphs(split)
    late = which >= string.ascii_uppercase.index(HELD_OUT[0])
    drawn = drawn[late if split == "test" else ~late]
    ink = torch.zeros_like(ground)
    for edge, shift in ((0, 0.2), (32, 0.3), (32, 0.3)):  # one large letter, two small
        rows = torch.randint(len(drawn), (count,), generator=generator)
        letter = warped(F.pad(drawn[rows], [edge] * 4), size, 1.0, shift, generator)
        ink = torch.maximum(ink, letter)
    sign = 1 - 2 * torch.randint(2, (count, 1, 1, 1), generator=generator)
    strength = contrast * (0.7 + 0.6 * torch.rand(count, 1, 1, 1, generator=generator))
    tone = (ground.mean((2, 3), keepdim=True) + sign * strength).clamp(0, 1)
    return Split(
        x=ground + ink * (tone - ground),
        y=(ink[:, 0] > 0.5).long(),
        split=split,
        classes=("photograph", "ink"),
        source="letters of the fonts that ship with matplotlib, on the photographs "
        f"{', '.join(TEXTURES[split])} that ship with scikit-image",
        licence="photographs: CC0; fonts: free",
    )


def _cuts(
    names: tuple[str, ...], count: int, size: int, generator: torch.Generator
) -> Float[Tensor, "n 1 y x"]:
    """Return squares from random places of the photographs, half as large as there."""
    found = []
    for name in (names[at % len(names)] for at in range(count)):
        whole = _photograph(name)
        top, left = (
            int(torch.randint(side - size + 1, (), generator=generator))
            for side in whole.shape
        )
        cut = whole[top : top + size, left : left + size]
        if torch.rand((), generator=generator) < 0.5:
            cut = cut.flip(1)
        found.append(cut)
    return torch.stack(found)[:, None]


@cache
def _photograph(name: str) -> Float[Tensor, "y x"]:
    """Return a photograph in grey, 0 … 1, at half its size."""
    with extra("data"):
        from skimage import data

    pixels = torch.tensor(getattr(data, name)(), dtype=torch.float32) / 255
    if pixels.ndim == 3:
        pixels = pixels @ torch.tensor([0.2125, 0.7154, 0.0721])
    return F.avg_pool2d(pixels[None], 2)[0]
