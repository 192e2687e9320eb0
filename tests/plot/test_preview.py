"""A figure as a card of one size, for previews of links."""

import io

import pytest
import torch
from PIL import Image, ImageChops

from nnlib.plot import preview
from nnlib.plot.style import subplots


def card(width: float, height: float) -> bytes:
    fig, ax = subplots(width=width, height=height)
    ax.plot([0, 1], [1, 0], color="learned")
    return preview.png(fig)


@pytest.mark.parametrize(("width", "height"), [(7, 3.6), (9, 1.5), (3, 6)])
def test_a_figure_of_any_shape_fills_a_card_and_stands_in_its_middle(width, height):
    picture = Image.open(io.BytesIO(card(width, height))).convert("RGB")
    assert picture.size == preview.SIZE
    left, top, right, bottom = ImageChops.invert(picture).getbbox()
    margins = left, top, preview.SIZE[0] - right, preview.SIZE[1] - bottom
    assert min(margins) >= preview.MARGIN - 2
    assert min(margins) <= preview.MARGIN + 20, "it could be larger"
    assert abs(margins[0] - margins[2]) < 25 and abs(margins[1] - margins[3]) < 25


def test_a_card_is_light_and_equal_from_run_to_run():
    first = card(7, 3.6)
    assert first == card(7, 3.6) and len(first) < 60_000


def test_soft_greys_take_fewer_colours_until_they_fit():
    grey = torch.linspace(0, 255, 400 * 300).view(300, 400)
    noisy = (grey + 40 * torch.rand(300, 400, generator=torch.Generator().manual_seed(0))) % 256
    picture = Image.fromarray(noisy.byte().numpy()).convert("RGB")
    free = preview.packed(picture, 10**6)
    most = len(free) * 3 // 4
    fitted = preview.packed(picture, most)
    assert len(fitted) <= most < len(free)
    assert len(Image.open(io.BytesIO(preview.packed(picture, 1))).getcolors()) == preview.FEWEST


def test_few_small_points_keep_their_colour_among_many_greys():
    grey = torch.linspace(0, 255, 400 * 300).view(300, 400).byte()
    picture = grey[..., None].expand(-1, -1, 3).clone()
    blue = (20, 90, 200)
    for row, column in ((30, 50), (150, 200), (270, 350)):
        picture[row : row + 4, column : column + 4] = torch.tensor(blue, dtype=torch.uint8)
    packed = preview.packed(Image.fromarray(picture.numpy()), 10**6)
    got = Image.open(io.BytesIO(packed)).convert("RGB").getpixel((202, 152))
    assert max(abs(a - b) for a, b in zip(got, blue, strict=True)) < 12, got
