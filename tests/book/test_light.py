"""A figure holds once what it draws more than once, and looks the same."""

import base64
import io
import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.path import Path
from PIL import Image

from nnlib.plot.svg import inline_svg
from pipeline.site import heroes, light
from pipeline.site.browser import browsing, served, why_not

CIRCLE = Path.unit_circle().vertices


def drawing(pixels: np.ndarray) -> str:
    figure = Figure(figsize=(4, 2))
    left, right = figure.subplots(1, 2)
    left.imshow(pixels, interpolation="none")
    x = np.linspace(0, 6, 90)
    right.plot(x, np.sin(x), lw=3)
    right.fill(3 + CIRCLE[:, 0], CIRCLE[:, 1] / 2, color="#4477aa", alpha=0.5)
    return inline_svg(figure, "eye", "a photo and a wave").replace(
        "<svg", '<svg class="nn-wide"', 1
    )


@pytest.fixture(scope="module")
def figures() -> dict[str, str]:
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    first = drawing(noise)
    frames = [re.sub(r"\bi([0-9a-f]+-\d)", rf"i{at}\1", first) for at in range(3)]
    frames[2] = frames[2].replace('"', "'")  # as the widgets' serialiser writes it
    plain = (
        '<figure class="nn-figure" id="figure-eye"><div class="nn-picture">'
        f"{''.join(frames)}</div><figcaption>c</figcaption></figure>"
    )
    return {"plain": plain, "light": light.light(plain, "chapters/vision/cnn")}


def test_what_is_drawn_three_times_is_held_once(figures):
    line, photo = r"<path [^>]*\bd=.[^>\"']{150,}", "data:image/"
    assert len(re.findall(line, figures["plain"])) == 6
    assert len(re.findall(line, figures["light"])) == 2
    assert (figures["plain"].count(photo), figures["light"].count(photo)) == (3, 1)
    assert len(figures["light"]) < 0.75 * len(figures["plain"])


def test_each_reference_has_its_target_within_the_figure(figures):
    ids = re.findall(r"\bid=[\"']([^\"']+)", figures["light"])
    used = set(re.findall(r"(?:href=[\"']|url\()#([^\"')]+)", figures["light"]))
    assert len(ids) == len(set(ids))
    assert used <= set(ids)
    other = light.light(figures["plain"], "chapters/vision/vit")
    assert not set(re.findall(r'id="(s[^"]+)', other)) & set(ids)


def test_it_is_the_same_each_time_and_light_already(figures):
    assert light.light(figures["plain"], "chapters/vision/cnn") == figures["light"]
    assert light.light("<p>no figure</p>", "p") == "<p>no figure</p>"


@pytest.mark.parametrize("colors", [2, 256, 257])
def test_an_image_keeps_its_pixels(colors):
    channels = np.arange(colors)[:, None] * np.array([1, 3, 7]) % 251
    pixels = np.resize(channels, (30, 30, 3)).astype(np.uint8)
    pixels[0, :, 0] = 255 - pixels[0, :, 0]
    for image in (Image.fromarray(pixels), Image.fromarray(pixels).convert("RGBA")):
        if image.mode == "RGBA" and colors == 257:
            image.putalpha(99)
        raw = io.BytesIO()
        image.save(raw, "png")
        address = light._small(base64.b64encode(raw.getvalue()).decode())
        small = base64.b64decode(address.split(",")[1])
        assert len(small) <= len(raw.getvalue())
        got = np.asarray(Image.open(io.BytesIO(small)).convert("RGBA"))
        assert np.array_equal(got, np.asarray(image.convert("RGBA")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("M 1 2 L 3 2 Q 4 5 6 7 C 1 1 2 2 -3 0.5 z ", "M1 2l2 0q1 3 3 5c-5-6-4-5-9-6.5z"),
        ("M 1 2 L 3 4 z M 5 5 L 6 5", "M1 2l2 2zM5 5l1 0"),
        ("M 1 2 z L 4 4", "M1 2zl3 2"),
        ("M 1 2 3 4 L 0 0", "M1 2l2 2-3-4"),
        ("M 0.05 -0.05 L 0 0", "M.05-.05l-.05 .05"),
        *[(kept, kept) for kept in ("M 1e-3 2", "M 1 2 A 1 1 0 0 1 2 2", "M 1.234 2", "M 1", "")],
    ],
)
def test_an_outline_by_steps_is_the_same_outline(given, told):
    assert light.by_steps(given) == told


def test_a_photo_that_is_lent_is_a_photo(figures):
    slider = figures["light"].replace("<figcaption", "<template></template><figcaption")
    hidden = re.search(r'<svg aria-hidden="true".*?</svg>', slider)[0]
    late = slider.replace(hidden, "").replace("<figcaption", f"{hidden}<figcaption")
    assert heroes.is_photo(heroes.Hero({"data": {"text/html": late}}, b""))
    bare = re.sub(r"<use href=\"#s[^>]*>", "", late)
    assert not heroes.is_photo(heroes.Hero({"data": {"text/html": bare}}, b""))


def test_it_looks_the_same(figures, tmp_path):
    places = {"plain": "index.html", "light": "light.html"}
    for name, place in places.items():
        (tmp_path / place).write_text(f"<!doctype html><body>{figures[name]}</body>", "utf8")
    if reason := why_not(tmp_path):
        pytest.skip(reason)
    shots = {}
    with served(tmp_path) as address, browsing() as browser:
        page = browser.new_page(viewport={"width": 700, "height": 900})
        for name, place in places.items():
            page.goto(f"{address}{place}")
            shots[name] = np.asarray(Image.open(io.BytesIO(page.screenshot())), dtype=int)
    assert np.ptp(shots["plain"]) > 200
    assert np.abs(shots["plain"] - shots["light"]).max() <= 8
