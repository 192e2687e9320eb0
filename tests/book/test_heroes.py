"""The picture that stands for a chapter: its card, and its place at the top of the page."""

import base64
import io
import re

import pytest
from PIL import Image

from nnlib import catalog
from pipeline.site import heroes, landing
from tests.book.looking import CHAPTERS, REASON, SITE

built = pytest.mark.skipif(bool(REASON), reason=f"the site is not looked at: {REASON}")

DOC = "chapters/vision/cnn"
WIDE = (
    '<svg class="nn-wide" viewBox="0 0 300 150" role="img" aria-label="A &lt; B" '
    'style="width:400px">'
)
NARROW = (
    "<svg class='nn-narrow' viewBox='0 0 200 300' role='img' aria-label='A' style='display:none'>"
)
LETTERS = '<svg aria-hidden="true"><defs><path id="x"/></defs></svg>'
FIGURE = (
    f'<figure class="nn-figure" id="figure-eye"><div class="nn-picture">{WIDE}<path/></svg>'
    f"{NARROW}<path/></svg></div>{LETTERS}<figcaption>c</figcaption></figure>"
)
SLIDER = (
    '<figure class="nn-figure nn-slider" id="figure-eye"><div class="nn-frames">'
    f'<div class="nn-frame">{WIDE}<path/></svg></div>'
    f'<template class="nn-frame">{WIDE}<path/></svg></template></div></figure>'
)


def card() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (1200, 630), "white").save(out, "png")
    return out.getvalue()


def notebook(markup):
    shown = {"text/html": [markup], "image/png": base64.b64encode(card()).decode()}
    plain = {"data": {"image/png": "AAAA", "text/plain": ["<Figure>"]}}
    return {"cells": [{"outputs": [plain]}, {"source": []}, {"outputs": [{"data": shown}]}]}


def marked(markup):
    content = notebook(markup)
    hero = heroes.take(content)
    heroes.mark(hero, DOC)
    return hero.output["data"]["text/html"]


def test_the_card_leaves_the_notebook_and_becomes_two_files():
    content = notebook(FIGURE)
    hero = heroes.take(content)
    assert "image/png" not in content["cells"][2]["outputs"][0]["data"]
    assert "image/png" in content["cells"][0]["outputs"][0]["data"], "that one is no hero's"
    files = heroes.cards(hero, DOC)
    assert files["_images/heroes/vision-cnn.png"] == card()
    small = Image.open(io.BytesIO(files["_images/heroes/vision-cnn-small.png"]))
    assert small.size == heroes.SMALL
    assert heroes.take(content) is None


def test_a_page_of_many_chapters_has_a_card_of_four():
    smalls = []
    for color in ("red", "green", "blue", "black"):
        out = io.BytesIO()
        Image.new("RGB", heroes.SMALL, color).save(out, "png")
        smalls.append(out.getvalue())
    names = [row.name for row in catalog.written()][:9]
    text = "".join(f"<!-- book: tiles {name} -->\n\n" for name in names)
    places = [heroes.place(f"chapters/{catalog.get(n).family}/{n}", small=True) for n in names]
    together = landing.card(text, dict(zip(places[:4], smalls, strict=True)))
    picture = Image.open(io.BytesIO(together)).convert("RGB")
    assert picture.size == (1200, 630)
    corners = [picture.getpixel(at) for at in ((9, 9), (1190, 9), (9, 620), (1190, 620))]
    assert corners == [(255, 0, 0), (0, 128, 0), (0, 0, 255), (0, 0, 0)]
    assert landing.card(text, dict(zip(places[:3], smalls, strict=False))) is None
    spread = landing.card(text, dict.fromkeys(places, smalls[0]) | {places[6]: smalls[2]})
    assert Image.open(io.BytesIO(spread)).convert("RGB").getpixel((1190, 620)) == (0, 0, 255)


def test_each_picture_of_the_figure_gets_a_name_and_nothing_else_does():
    text = marked(FIGURE)
    assert re.findall(r'<g id="([^"]+)">', text) == ["hero-vision-cnn-0", "hero-vision-cnn-1"]
    plain = re.sub(r'<g id="[^"]+">|</g>| data-hero="[^"]+"', "", text)
    assert plain == FIGURE


def test_a_photograph_is_known_by_its_image():
    photo = FIGURE.replace("<path/>", '<image href="data:,"/>', 1)
    heroes_found = [heroes.take(notebook(markup)) for markup in (FIGURE, photo)]
    assert [heroes.is_photo(hero) for hero in heroes_found] == [False, True]
    later = SLIDER.replace(f"{WIDE}<path/></svg></template>", '<image href="data:,"/></template>')
    assert later != SLIDER and not heroes.is_photo(heroes.take(notebook(later)))


def test_the_top_refers_to_the_pictures_in_both_widths():
    top = heroes.top(marked(FIGURE))
    assert top.startswith('<a class="nn-hero" href="#figure-eye">')
    assert re.findall(r'<use href="#([^"]+)"/>', top) == ["hero-vision-cnn-0", "hero-vision-cnn-1"]
    wide, narrow = re.findall(r"<svg[^>]+>", top)
    assert 'class="nn-wide"' in wide and "--w:400px;--ratio:2.000" in wide
    assert 'aria-label="A &lt; B"' in wide
    assert 'class="nn-narrow"' in narrow and "display:none" in narrow


def test_of_a_slider_the_first_frame_is_shown_and_one_is_told_to_move_it():
    text = marked(SLIDER)
    assert text.count("<g id=") == 1 and text.index("<g id=") < text.index("<template")
    top = heroes.top(text)
    assert top.count("<use") == 1 and "Move it" in top
    assert "Move it" not in heroes.top(marked(FIGURE))


# ---------------------------------------------------------------- the built site


@built
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_shows_its_hero_before_its_card(chapter):
    text = (SITE / chapter).read_text("utf8")
    tops = re.findall(r'<a class="nn-hero" href="#([^"]+)">.*?</a>', text, re.S)
    assert len(tops) == 1 and text.count(f'id="{tops[0]}"') == 1
    used = re.findall(r'<use href="#(hero-[^"]+)"', text)
    assert used and all(text.count(f'<g id="{name}">') == 1 for name in used)
    assert text.index('class="nn-hero"') < text.index('class="nn-card"')


@built
@pytest.mark.parametrize("chapter", CHAPTERS)
def test_its_card_is_published_in_two_sizes(chapter):
    for small, size, most in ((False, (1200, 630), 100_000), (True, heroes.SMALL, 40_000)):
        file = SITE / heroes.place(chapter.removesuffix(".html"), small=small)
        assert Image.open(file).size == size
        assert file.stat().st_size <= most


@built
@pytest.mark.parametrize("width", [390, 1280])
def test_the_hero_is_painted_once_as_large_as_there_is_room(width, browser, address):
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.goto(address + CHAPTERS[0], wait_until="domcontentloaded")
    shown = page.locator(".nn-hero svg:visible")
    assert shown.count() == 1
    box = shown.bounding_box()
    drawn = page.evaluate(
        "() => { const b = [...document.querySelectorAll('.nn-hero use')]"
        ".map(use => use.getBoundingClientRect()).find(b => b.width);"
        "return [b.width, b.height] }"
    )
    assert drawn[0] > box["width"] / 2 and 80 < box["height"] <= 360
    assert box["y"] + box["height"] < 900, "it is seen without scrolling"
    page.close()
