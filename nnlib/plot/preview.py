"""A figure as a picture of one size, for a gallery and for previews of links."""

import io

from matplotlib.figure import Figure
from PIL import Image

SIZE = (1200, 630)  # what previews of links are cropped to
MARGIN = 36
GROUND = "#ffffff"
COLORS = 48
FEWEST = 8
LARGEST = 100_000  # bytes


def png(figure: Figure) -> bytes:
    """Return `figure` as a PNG of `SIZE`, in the middle of a light card.

    Args:
        figure: the figure; it is not closed.

    Returns:
        The file, equal from run to run for an equal figure.
    """
    width, height = (side - 2 * MARGIN for side in SIZE)
    wide, high = figure.get_size_inches()
    buffer = io.BytesIO()
    figure.savefig(
        buffer, format="png", dpi=min(width / wide, height / high), facecolor=GROUND
    )
    buffer.seek(0)
    picture = Image.open(buffer).convert("RGB")
    # A tight box may be larger than the figure's own size.
    picture.thumbnail((width, height), Image.Resampling.LANCZOS)
    card = Image.new("RGB", SIZE, GROUND)
    place = [
        (whole - part) // 2 for whole, part in zip(SIZE, picture.size, strict=True)
    ]
    card.paste(picture, (place[0], place[1]))
    return packed(card, LARGEST)


def packed(picture: Image.Image, largest: int, colors: int = COLORS) -> bytes:
    """Return a picture as a PNG of at most `largest` bytes: of `colors` colours, or of fewer.

    Grey pictures with soft edges need that; eight colours are the fewest.
    """
    while True:
        out = io.BytesIO()
        # Coverage, then k-means: cuts at the median forget the colour of few, small points.
        palette = picture.quantize(
            colors, Image.Quantize.MAXCOVERAGE, kmeans=1, dither=Image.Dither.NONE
        )
        palette.save(out, "png", optimize=True)
        if out.tell() <= largest or colors <= FEWEST:
            return out.getvalue()
        colors = max(FEWEST, colors * 3 // 4)
