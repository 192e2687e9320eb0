"""Sliders of executed notebooks as native range inputs.

In a notebook `nnlib.notebook.scrub` shows ipywidgets, which a page could only run with a widget
manager of several megabytes. Here each becomes a figure of plain HTML: a range input, its frames,
of which all but the first wait in a `<template>`, and the caption. `_static/slider.js` moves it;
without that, and in print, the first frame stands with the value that it shows.
"""

import html
import re
from collections.abc import Mapping
from typing import Any

VIEW = "application/vnd.jupyter.widget-view+json"
STATE = "application/vnd.jupyter.widget-state+json"
_WORDS = re.compile(
    r'<div class="nn-caption" id="figure-(?P<name>[\w-]+)">(?P<caption>.*?)</div>(?P<letters>.*)',
    re.DOTALL,
)
_SVG = re.compile(r"<svg\b[^>]*\brole=[\"']img[\"'][^>]*>")
_BOX = re.compile(r"(viewBox=[\"'])([^\"']+)([\"'])")
_WIDTH = re.compile(r"\bwidth:[\d.]+px")
_ICONS = (
    '<svg class="nn-to-play" viewBox="0 0 16 16" aria-hidden="true"><path d="M4 2.5v11l9-5.5z"/>'
    '</svg><svg class="nn-to-pause" viewBox="0 0 16 16" aria-hidden="true">'
    '<path d="M3.5 2.5h3v11h-3zm6 0h3v11h-3z"/></svg>'
)


class WidgetError(ValueError):
    """A notebook shows a widget that a page cannot hold."""


def convert(notebook: dict[str, Any], page: str) -> None:
    """Replace the sliders among a notebook's outputs by HTML, and drop the widgets' state.

    Args:
        notebook: an executed notebook, changed in place.
        page: its name, for the message of an error.

    Raises:
        WidgetError: a cell shows another widget than `scrub` makes.
    """
    states = notebook["metadata"].pop("widgets", {}).get(STATE, {}).get("state", {})
    for number, cell in enumerate(notebook["cells"], start=1):
        for output in cell.get("outputs", []):
            view = output.get("data", {}).get(VIEW)
            if view is None:
                continue
            try:
                markup = _figure(states, view["model_id"])
            except (LookupError, TypeError, ValueError):
                raise WidgetError(
                    f"{page}, cell {number}: a widget that is no slider of scrub(); the page has "
                    "no kernel and no widget manager; use nnlib.notebook.scrub"
                ) from None
            for form in (VIEW, "text/plain"):
                output["data"].pop(form, None)
            output["data"]["text/html"] = markup


def _figure(states: Mapping[str, Any], model: str) -> str:
    """Return the markup of the slider whose box is `model`."""
    box = states[model]["state"]
    if "nn-slider" not in box["_dom_classes"]:
        raise LookupError("no slider")
    controls, stack, words = _children(states, box)
    play, slider = _children(states, controls)
    told = _WORDS.fullmatch(words["value"])
    if not told:
        raise ValueError("no caption")
    pictures = _one_canvas([frame["value"] for frame in _children(states, stack)])
    values = [html.escape(value) for value in slider["_options_labels"]]
    frames = "".join(
        f'<{tag} class="nn-frame" data-value="{value}">{picture}</{tag}>'
        for tag, value, picture in zip(
            ["div", *["template"] * (len(pictures) - 1)], values, pictures, strict=True
        )
    )
    head = _controls(told["name"], html.escape(slider["description"]), values)
    return (
        f'<figure class="nn-figure nn-slider" id="figure-{told["name"]}" '
        f'data-interval="{int(play["interval"])}">{head}'
        f'<div class="nn-frames">{frames}{told["letters"]}</div>'
        f"<figcaption>{told['caption']}</figcaption></figure>"
    )


def _children(states: Mapping[str, Any], state: Mapping[str, Any]) -> list[Any]:
    return [states[name.removeprefix("IPY_MODEL_")]["state"] for name in state["children"]]


def _controls(name: str, label: str, values: list[str]) -> str:
    """Return the button, the label with the value that is shown, and the range.

    The longest value is there once more, unseen and unspoken, so that the line never grows.
    """
    own, last = f"figure-{name}-at", len(values) - 1
    return (
        '<div class="nn-controls">'
        f'<button type="button" class="nn-play" aria-label="Play: {label}">{_ICONS}</button>'
        f'<div class="nn-told"><label for="{own}">{label}</label> '
        f'<span class="nn-value" data-longest="{max(values, key=len)}">'
        f'<output for="{own}" aria-live="off">{values[0]}</output></span></div>'
        f'<div class="nn-track" style="--nn-last:{last}">'
        f'<input type="range" id="{own}" min="0" max="{last}" step="1" value="0" '
        f'autocomplete="off" aria-valuetext="{values[0]}"></div></div>'
    )


def _one_canvas(pictures: list[str]) -> list[str]:
    """Give the pictures that stand at the same place of each frame the size of the largest.

    Frames that are all as large do not move the page when they change, and keep one scale.
    """
    found = [_SVG.findall(picture) for picture in pictures]
    if len({len(openings) for openings in found}) != 1:
        return pictures
    sizes = [
        tuple(max(sides) for sides in zip(*map(_size, openings), strict=True))
        for openings in zip(*found, strict=True)
    ]
    return [_resized(picture, sizes) for picture in pictures]


def _size(opening: str) -> tuple[float, float]:
    *_, width, height = map(float, _BOX.search(opening)[2].split())
    return width, height


def _resized(picture: str, sizes: list[tuple[float, float]]) -> str:
    wanted = iter(sizes)

    def enlarge(found: re.Match[str]) -> str:
        opening, (width, height) = found[0], next(wanted)
        if _size(opening) == (width, height):
            return opening
        x, y, *_ = _BOX.search(opening)[2].split()
        opening = _BOX.sub(rf"\g<1>{x} {y} {width:g} {height:g}\g<3>", opening)
        return _WIDTH.sub(f"width:{width * 4 / 3:.0f}px", opening)

    return _SVG.sub(enlarge, picture)
