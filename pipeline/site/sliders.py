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
PHONE = 540  # CSS pixels, up to which a column shows narrow pictures; as in figures.css
_WORDS = re.compile(
    r'<div class="nn-caption" id="figure-(?P<name>[\w-]+)">(?P<caption>.*?)</div>(?P<letters>.*)',
    re.DOTALL,
)
_SVG = re.compile(r"<svg\b[^>]*\brole=[\"']img[\"'][^>]*>")
_VIEW_BOX = re.compile(r"(viewBox=[\"'])([^\"']+)([\"'])")
_WIDTH = re.compile(r"(?<!-)\bwidth:([\d.]+)px")
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
        f'<div class="nn-frames"{_least(pictures)}>{frames}{told["letters"]}</div>'
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
    """Let all frames show the same part of the plane: what any of them shows.

    Pictures are cut to what is drawn, so they differ in size and in place; shown one after the
    other, they would move the page, and what they have in common would jump.
    """
    boxes: dict[str, list[list[float]]] = {}
    scales: dict[str, float] = {}
    for opening in (opening for picture in pictures for opening in _SVG.findall(picture)):
        left, _, right, _ = box = _box(opening)
        boxes.setdefault(_variant(opening), []).append(box)
        width = float(_WIDTH.search(opening)[1])
        scales.setdefault(_variant(opening), width / (right - left))
    shared = {name: (_around(them), scales[name]) for name, them in boxes.items()}
    return [
        _SVG.sub(lambda found: _shown(found[0], *shared[_variant(found[0])]), picture)
        for picture in pictures
    ]


def _least(pictures: list[str]) -> str:
    """Return the least height of a frame on a phone, where only some have a picture made for it."""
    openings = [opening for picture in pictures for opening in _SVG.findall(picture)]
    narrow = [opening for opening in openings if _variant(opening) == "narrow"]
    if not 0 < len(narrow) < len(pictures):
        return ""
    heights = []
    for opening in openings:
        left, top, right, bottom = _box(opening)
        width = float(_WIDTH.search(opening)[1])
        heights.append(min(width, PHONE) * (bottom - top) / (right - left))
    return f' style="--nn-least:{max(heights):.0f}px"'


def _variant(opening: str) -> str:
    return "narrow" if "nn-narrow" in opening else "wide"


def _box(opening: str) -> list[float]:
    """Return left, top, right and bottom of what a picture shows."""
    left, top, width, height = map(float, _VIEW_BOX.search(opening)[2].split())
    return [left, top, left + width, top + height]


def _around(boxes: list[list[float]]) -> tuple[float, ...]:
    left, top, right, bottom = zip(*boxes, strict=True)
    return min(left), min(top), max(right), max(bottom)


def _shown(opening: str, box: tuple[float, ...], scale: float) -> str:
    """Return the opening of a picture that shows a box at a scale, in CSS pixels to a unit."""
    left, top, right, bottom = box
    view = f"{left:g} {top:g} {right - left:g} {bottom - top:g}"
    opening = _VIEW_BOX.sub(rf"\g<1>{view}\g<3>", opening)
    return _WIDTH.sub(f"width:{(right - left) * scale:.0f}px", opening)
