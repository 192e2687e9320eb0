"""Letters drawn from the fonts that ship inside matplotlib: other fonts to learn from than to test.

Axes: n images, c channel (one), y x rows and columns.
"""

import math
import string
from functools import cache
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.data.split import Split
from nnlib.distribution import extra

FONTS: dict[str, tuple[str, ...]] = {
    "train": (
        "DejaVuSans", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique", "DejaVuSansMono",
        "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique", "DejaVuSerif",
        "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol",
        "STIXGeneralBolIta", "cmr10", "cmb10", "cmti10", "cmmi10",
    ),
    "test": (
        "DejaVuSans-Bold", "DejaVuSansMono-Oblique", "DejaVuSerif-BoldItalic",
        "STIXGeneralItalic", "cmss10", "cmtt10",
    ),
}  # fmt: skip
"""Which fonts each split is drawn from: none of the one is in the other."""

CASES = {
    "upper": string.ascii_uppercase,
    "lower": string.ascii_lowercase,
    "both": string.ascii_uppercase + string.ascii_lowercase,
}
CANVAS, POINTS = 64, 48  # at 50 points, the widest W would not fit
SQUARE, TOP, LEFT = (
    48,
    11,
    8,
)  # of the canvas, which capitals fill, the tail of a Q included


def letters(
    split: str = "train",
    *,
    copies: int = 10,
    size: int = 16,
    case: str = "upper",
    warp: float = 1.0,
    shift: float = 0.08,
    seed: int = 0,
) -> Split[Tensor, Tensor]:
    """Draw the 26 letters in 16 fonts to learn from, or in 6 others to be tested on.

    Each copy is turned by up to 12°, scaled by 0.85 to 1.15, sheared by up to 0.15 and moved, all
    at random. The same arguments give the same letters.

    Args:
        split: `train`, `test`, or `all` for both.
        copies: warped copies of each letter in each font, ≥ 1.
        size: rows and columns of an image, 8 … 64.
        case: `upper`, `lower`, or `both`, where A and a are one class.
        warp: factor of turning, scaling and shearing, 0 … 2; 0 leaves letters upright.
        shift: how far a letter is moved at most, as a share of the side, 0 … 0.5.
        seed: of the warps and of the order, ≥ 0.

    Returns:
        `x` float32 of shape (n, 1, size, size), 0 for paper and 1 for ink, in a random order; `y`
        int64 in 0 … 25.

    Example:
        >>> letters("test", copies=2).x.shape
        torch.Size([312, 1, 16, 16])
    """
    copies = checks.count("copies", copies)
    size = checks.count("size", size, least=8)
    checks.number("size", size, most=CANVAS)
    warp = checks.number("warp", warp, least=0, most=2)
    shift = checks.number("shift", shift, least=0, most=0.5)
    generator = torch.Generator().manual_seed(checks.count("seed", seed, least=0))
    drawn, y = glyphs(split, case)
    drawn, y = drawn.repeat(copies, 1, 1, 1), y.repeat(copies)
    order = torch.randperm(len(y), generator=generator)
    x = warped(drawn, size, warp, shift, generator)
    return Split(
        x=x[order],
        y=y[order],
        split=split,
        classes=tuple(string.ascii_uppercase),
        source="drawn from the fonts DejaVu, STIX and Computer Modern, as shipped with matplotlib",
        licence="free fonts: Bitstream Vera and DejaVu licence, SIL Open Font License, BaKoMa",
    )


def glyphs(
    split: str = "train", case: str = "upper"
) -> tuple[Float[Tensor, "n 1 y x"], Int[Tensor, " n"]]:
    """Return each letter of each font of a split once, upright, and which letter it is.

    Args:
        split: `train`, `test`, or `all` for both.
        case: `upper`, `lower`, or `both`, where A and a are one class.

    Returns:
        Images of 64 × 64 with values in 0 … 1, font by font in the order of `FONTS`; classes.
    """
    checks.one_of("split", split, (*FONTS, "all"))
    checks.one_of("case", case, CASES)
    fonts = [font for part in FONTS if split in (part, "all") for font in FONTS[part]]
    drawn = torch.cat([_drawn(font, CASES[case]) for font in fonts])
    which = torch.arange(len(CASES[case])) % 26
    return drawn[:, None], which.repeat(len(fonts))


def sign_letters(
    size: int = 16, font: str = "DejaVuSans"
) -> Float[Tensor, "26 pixels"]:
    """Return the 26 capitals as rows of -1, paper, and 1, ink.

    Args:
        size: rows and columns of a letter, 8 … 48.
        font: one of those in `FONTS`.

    Example:
        >>> sign_letters().shape, sign_letters().unique()
        (torch.Size([26, 256]), tensor([-1.,  1.]))
    """
    size = checks.count("size", size, least=8)
    checks.number("size", size, most=SQUARE)
    checks.one_of("font", font, [name for fonts in FONTS.values() for name in fonts])
    drawn = _drawn(font, CASES["upper"])
    square = drawn[:, None, TOP : TOP + SQUARE, LEFT : LEFT + SQUARE]
    ink = F.adaptive_avg_pool2d(square, size) > 0.5
    return (2.0 * ink - 1).flatten(1)


@cache
def _drawn(font: str, text: str) -> Tensor:
    with extra("plot"):
        from matplotlib import get_data_path
        from PIL import Image, ImageDraw, ImageFont

    file = Path(get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"
    face = ImageFont.truetype(str(file), POINTS)
    foot = CANVAS / 2 + 0.36 * POINTS  # so that capitals stand in the middle
    images = []
    for letter in text:
        image = Image.new("L", (CANVAS, CANVAS))
        ImageDraw.Draw(image).text((CANVAS / 2, foot), letter, 255, face, anchor="ms")
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        images.append(pixels.float())
    return torch.stack(images).view(-1, CANVAS, CANVAS) / 255


def warped(
    x: Float[Tensor, "n c y x"],
    size: int,
    warp: float = 1.0,
    shift: float = 0.08,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n c size size"]:
    """Return each image turned, scaled, sheared and moved at random, at another size.

    Args:
        x: square images; zeros come in at the edges.
        size: rows and columns of the result, ≥ 1.
        warp: factor of a turn by up to 12°, a scale of 0.85 to 1.15, a shear of up to 0.15.
        shift: the longest move, as a share of the side.
        generator: source of the randomness.
    """
    checks.tensor("x", x, shape=("n", "c", "y", "x"), floating=True)
    size = checks.count("size", size)
    turn, scale, shear, across, down = (
        2 * torch.rand(5, len(x), 1, generator=generator) - 1
    )
    turn = warp * math.radians(12) * turn
    scale, shear = 1 + 0.15 * warp * scale, 0.15 * warp * shear
    cos, sin = turn.cos() / scale, turn.sin() / scale
    # where each point of the result comes from, in coordinates from −1 to 1
    rows = (
        torch.cat([cos, shear * cos - sin, 2 * shift * across], 1),
        torch.cat([sin, shear * sin + cos, 2 * shift * down], 1),
    )
    theta = torch.stack(rows, 1).to(x)
    grid = F.affine_grid(theta, [*x.shape[:2], 2 * size, 2 * size], align_corners=False)
    return F.avg_pool2d(F.grid_sample(x, grid, align_corners=False), 2)
