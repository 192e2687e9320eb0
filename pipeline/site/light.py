"""Pictures of a page made light: what a figure draws more than once, it holds once.

The wide and the narrow variant of a picture, and the frames of a slider, are drawn one by one, so
each brings its own copy of every image and of every line that does not change. Staging puts such a
copy into an unseen `<svg>` of the figure, and a `<use>` in the place of each. It also writes images
as WebP, which loses nothing and is smaller than PNG, and outlines by steps from point to point.
"""

import base64
import io
import re
import zlib
from collections import Counter
from functools import cache
from typing import Any

from PIL import Image

LONG = 80  # characters of an outline that are worth a reference
_FIGURE = re.compile(
    r'(?P<opening><figure\b[^>]*\bid="figure-(?P<name>[\w-]+)"[^>]*>)(?P<body>.*?)(?=</figure>)',
    re.DOTALL,
)
_SHAPE = re.compile(r"<clipPath\b.*?</clipPath>|<(path|image)\b([^>]*?)/?>(?:</\1>)?", re.DOTALL)
_ATTRIBUTE = re.compile(r"([\w:-]+)=(?:\"([^\"]*)\"|'([^']*)')")
_OUTLINE = re.compile(r"(?<=\sd=)([\"'])([^\"']*)\1")
_NOTHING = re.compile(r"<path(?![^>]*\s(?:id|d)=)[^>]*/>")
_EMPTY = re.compile(r"<g\b(?![^>]*\sid=)[^>]*(?:/>|></g>)")
_PNG = re.compile(r"data:image/png;base64,\s*([\w+/=\s]+)")
_COMMAND = re.compile(r"([MLQCZz])((?:\s*-?\d+(?:\.\d{1,2})?(?=[\s-]|$))*)\s*")
_PLAIN = re.compile(rf"\s*(?:{_COMMAND.pattern})+")
_POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3, "Z": 0}
_KEPT = {"image": ("href", "width", "height", "preserveAspectRatio"), "path": ("d",)}


def lighten(notebook: dict[str, Any], page: str) -> None:
    """Make the figures of an executed notebook light, in place; they look the same.

    Args:
        notebook: the notebook, whose sliders are HTML already.
        page: its name, of which the ids of shared shapes are made.
    """
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            markup = "".join(output.get("data", {}).get("text/html", ""))
            if "<figure" in markup and "<svg" in markup:
                output["data"]["text/html"] = light(markup, page)


def light(markup: str, page: str) -> str:
    """Return the markup of figures with each repeated image and outline only once."""
    return _FIGURE.sub(lambda found: _figure(found, page), markup)


def _figure(found: re.Match[str], page: str) -> str:
    body = _OUTLINE.sub(lambda it: f"{it[1]}{by_steps(it[2])}{it[1]}", found["body"])
    body = _PNG.sub(lambda it: _small(it[1]), _NOTHING.sub("", body))
    before = ""
    while before != body:
        before, body = body, _EMPTY.sub("", body)
    prefix = f"s{zlib.crc32(f'{page}/{found[2]}'.encode()):x}"
    shared, body = _share(body, prefix)
    body, caption, words = body.rpartition("<figcaption")
    return f"{found['opening']}{body}{shared}{caption}{words}"


def _share(body: str, prefix: str) -> tuple[str, str]:
    """Return an unseen `<svg>` with all that is repeated, and the figure that refers to it."""
    counts = Counter(filter(None, (_core(shape) for shape in _SHAPE.finditer(body))))
    ids: dict[str, str] = {}

    def referred(shape: re.Match[str]) -> str:
        core = _core(shape)
        if core is None or counts[core] < 2:
            return shape[0]
        name = ids.setdefault(core, f"{prefix}-{len(ids)}")
        rest = " ".join(
            found[0] for found in _ATTRIBUTE.finditer(shape[2]) if found[1] not in _KEPT[shape[1]]
        )
        return f'<use href="#{name}" {rest}/>'

    body = _SHAPE.sub(referred, body)
    if not ids:
        return "", body
    shapes = "".join(core.replace(" ", f' id="{name}" ', 1) for core, name in ids.items())
    hidden = '<svg aria-hidden="true" style="position:absolute;width:0;height:0">'
    return f"{hidden}<defs>{shapes}</defs></svg>", body


def _core(shape: re.Match[str]) -> str | None:
    """Return what of a shape can stand elsewhere; None where that gains nothing."""
    if shape[1] is None:
        return None
    given = {
        found[1]: found[2] if found[2] is not None else found[3]
        for found in _ATTRIBUTE.finditer(shape[2])
    }
    if "id" in given or len(given.get("d", given.get("href", ""))) < LONG:
        return None
    kept = " ".join(f'{key}="{given[key]}"' for key in _KEPT[shape[1]] if key in given)
    return f"<{shape[1]} {kept}/>"


@cache
def by_steps(outline: str) -> str:
    """Return an outline whose lines and curves are told by steps, exact to a hundredth.

    Example:
        >>> by_steps("M 10.50 20.00 L 11.00 19.75 L 12.00 20.25 z ")
        'M10.5 20l.5-.25 1 .5z'
    """
    if not _PLAIN.fullmatch(outline):
        return outline
    out, before, here, start = "", "", [0, 0], [0, 0]
    for command, told in _COMMAND.findall(outline):
        values = [round(float(number) * 100) for number in told.split()]
        size = 2 * _POINTS[command.upper()]
        if len(values) % size if size else values:
            return outline
        if not size:
            out, before, here = f"{out}z", "z", start
        for at in range(0, len(values), size or 1):
            points, first = values[at : at + size], command == "M" and at == 0
            name = "M" if first else "l" if command == "M" else command.lower()
            base = [0, 0] if first else here
            out += name if name != before or first else ""
            for side, value in enumerate(points):
                number = _number(value - base[side % 2])
                tight = number[0] == "-" or out[-1].isalpha()
                out += number if tight else f" {number}"
            before, here = name, points[-2:]
            start = here if first else start
    return out


@cache
def _number(hundredths: int) -> str:
    number = f"{abs(hundredths) / 100:.2f}".rstrip("0").rstrip(".")
    number = number.removeprefix("0") or "0"
    return f"-{number}" if hundredths < 0 else number


@cache
def _small(coded: str) -> str:
    """Return the address of an image with the pixels of a PNG, as PNG or WebP without loss."""
    given = base64.b64decode(coded)
    image = Image.open(io.BytesIO(given)).convert("RGBA")
    if image.getextrema()[3] == (255, 255):
        image = image.convert("RGB")
    out = io.BytesIO()
    image.save(out, "webp", lossless=True, exact=True, quality=90, method=4)
    form, data = min(("png", given), ("webp", out.getvalue()), key=lambda made: len(made[1]))
    return f"data:image/{form};base64,{base64.b64encode(data).decode()}"
