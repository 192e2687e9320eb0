"""The hero of a chapter: the one picture that stands for it.

`figure(…, hero=True)` puts a PNG into the output beside the picture. Staging takes it out: it
becomes `_images/heroes/<family>-<name>.png`, for previews of links, and a smaller one for the
gallery. On the chapter's page the picture is shown at the top as well, not as a second copy but by
a reference to the one further down, so that it has that one's colours in light and dark.
"""

import base64
import io
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.application import Sphinx

from nnlib.plot import preview

FOLDER = "_images/heroes"
SMALL = (600, 315)
COLORS = 64
LARGEST = 40_000  # bytes of a smaller one
SHOWN = ("text/html", "application/vnd.jupyter.widget-view+json")  # figures, sliders
_MARK = 'data-hero="'
_FIGURE = re.compile(r'<figure\b[^>]*\bid="figure-([\w-]+)"')
_PICTURE = re.compile(r"<svg\b[^>]*\brole=[\"']img[\"'][^>]*>")
_ATTRIBUTE = re.compile(r"\b([\w:-]+)=(?:\"([^\"]*)\"|'([^']*)')")
_SIZE = re.compile(r"\s*(max-|min-)?(width|height)\s*:")
_WIDTH = re.compile(r"\bwidth:\s*([\d.]+)px")


@dataclass(frozen=True)
class Hero:
    """The output of a cell that shows the hero, and its card."""

    output: dict[str, Any]
    card: bytes


def place(doc: str, *, small: bool = False) -> str:
    """Return the path of a chapter's card on the site.

    Example:
        >>> place("chapters/vision/cnn")
        '_images/heroes/vision-cnn.png'
    """
    name = "-".join(doc.split("/")[-2:])
    return f"{FOLDER}/{name}{'-small' if small else ''}.png"


def take(notebook: dict[str, Any]) -> Hero | None:
    """Take the card out of an executed notebook, and return it; None where there is no hero."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data and not data.keys().isdisjoint(SHOWN):
                return Hero(output, base64.b64decode("".join(data.pop("image/png"))))
    return None


def cards(hero: Hero, doc: str) -> dict[str, bytes]:
    """Return the files of a card: path → content."""
    return {place(doc): hero.card, place(doc, small=True): _smaller(hero.card)}


def together(cards: Sequence[bytes]) -> bytes:
    """Return one card of four small ones, for a page that shows several chapters."""
    width, height = SMALL
    card = Image.new("RGB", (2 * width, 2 * height), "white")
    for at, small in enumerate(cards):
        card.paste(Image.open(io.BytesIO(small)).convert("RGB"), (at % 2 * width, at // 2 * height))
    return preview.packed(card, preview.LARGEST, 3 * COLORS)


def is_photo(hero: Hero) -> bool:
    """Whether the hero holds an image, whose colours must not be inverted on a dark page."""
    markup = "".join(hero.output["data"].get("text/html", ""))
    head = markup.split("<template")[0]
    lent = (f'<image id="{name}"' for name in re.findall(r'<use href="#([\w-]+)"', head))
    return "<image" in head or any(image in markup for image in lent)


def _smaller(card: bytes) -> bytes:
    picture = Image.open(io.BytesIO(card)).convert("RGB").resize(SMALL, Image.Resampling.LANCZOS)
    return preview.packed(picture, LARGEST, COLORS)


def mark(hero: Hero, doc: str) -> None:
    """Give the pictures of the hero's figure names by which the top of the page refers to them."""
    data = hero.output["data"]
    markup = "".join(data.get("text/html", ""))
    figure = _FIGURE.search(markup)
    if not figure:
        return
    name = "hero-" + "-".join(doc.split("/")[-2:])
    shown, waiting = markup[figure.end() :], ""
    if "<template" in shown:  # the other frames of a slider
        at = shown.index("<template")
        shown, waiting = shown[:at], shown[at:]
    parts, end = [], 0
    for number, found in enumerate(_PICTURE.finditer(shown)):
        close = shown.index("</svg>", found.end())
        group = f'<g id="{name}-{number}">'
        parts += [shown[end : found.end()], group, shown[found.end() : close], "</g>"]
        end = close
    head = f'{markup[: figure.end()]} {_MARK}{name}"'
    data["text/html"] = "".join([head, *parts, shown[end:], waiting])


# ---------------------------------------------------------------- the page


def setup(app: Sphinx) -> None:
    app.connect("doctree-resolved", _lift)
    app.connect("build-finished", _copy)


def _lift(app: Sphinx, doctree: nodes.document, doc: str) -> None:
    """Show the hero at the top of its page, behind the first paragraph, which is the idea."""
    raw = next((node for node in doctree.findall(nodes.raw) if _MARK in node.astext()), None)
    title = next(iter(doctree.findall(nodes.title)), None)
    if raw is None or title is None or raw.get("format") != "html":
        return
    section = title.parent
    first = next((at for at, node in enumerate(section) if isinstance(node, nodes.paragraph)), None)
    if first is not None:
        section.insert(first + 1, nodes.raw("", top(raw.astext()), format="html"))


def top(markup: str) -> str:
    """Return a link to a figure that is marked as the hero, which shows its pictures."""
    name = _FIGURE.search(markup)[1]
    head = markup.split("<template")[0]
    own = head.split(_MARK)[1].split('"')[0]
    pictures = [
        _reference(opening, f"{own}-{number}")
        for number, opening in enumerate(_PICTURE.findall(head[head.index(_MARK) :]))
    ]
    slider = "nn-slider" in head.split(_MARK)[0]
    told = "Move it" if slider else "Where this is made"
    return (
        f'<a class="nn-hero" href="#figure-{name}"><span class="nn-picture">{"".join(pictures)}'
        f'</span><span class="nn-hero-where">{told}</span></a>'
    )


def _reference(opening: str, target: str) -> str:
    """Return an `<svg>` of the same size as the one that opens so, which shows a part of it."""
    given = {key: double or single for key, double, single in _ATTRIBUTE.findall(opening)}
    *_, width, height = map(float, given["viewBox"].split())
    style = given.get("style", "")
    found = _WIDTH.search(style)
    shown = float(found[1]) if found else width * 4 / 3
    kept = [part for part in style.split(";") if part and not _SIZE.match(part)]
    style = ";".join([f"--w:{shown:.0f}px;--ratio:{width / height:.3f}", *kept])
    label = given.get("aria-label", "").replace('"', "&quot;")
    classes = f' class="{given["class"]}"' if "class" in given else ""
    return (
        f'<svg{classes} viewBox="{given["viewBox"]}" role="img" '
        f'aria-label="{label}" style="{style}">'
        f'<use href="#{target}"/></svg>'
    )


def _copy(app: Sphinx, error: Exception | None) -> None:
    """Publish the cards, and none of chapters that have left the book."""
    source, target = Path(app.srcdir) / FOLDER, Path(app.outdir) / FOLDER
    if error:
        return
    wanted = {file.name: file for file in source.glob("*.png")} if source.is_dir() else {}
    if target.is_dir():
        for file in target.iterdir():
            if file.name not in wanted:
                file.unlink()
    for name, file in wanted.items():
        target.mkdir(parents=True, exist_ok=True)
        if not (target / name).is_file() or (target / name).read_bytes() != file.read_bytes():
            shutil.copy2(file, target / name)
