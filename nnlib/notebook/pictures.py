"""Pictures: a figure with its words, a slider over figures; each is written where one asks."""

import base64
import os
from collections.abc import Iterable, Sequence
from typing import Any

from nnlib import distribution
from nnlib.markup import prose
from nnlib.notebook.run import current

with distribution.extra("notebook"):
    from IPython.core.formatters import DisplayFormatter
    from IPython.display import HTML, display
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    from nnlib.plot import preview
    from nnlib.plot.picture import frames as draw_frames
    from nnlib.plot.picture import picture
    from nnlib.plot.svg import share_glyphs

SLIDER_BYTES = 600_000
UNDRAWN = "NNLIB_UNDRAWN"
"""Set where a chapter's figures are for nobody: they are made, but neither drawn nor shown."""


def figure(
    fig: Figure,
    name: str,
    *,
    caption: str,
    alt: str,
    narrow: Figure | None = None,
    hero: bool = False,
) -> None:
    """Show a figure with its caption, in the page's own ink; write it to `figures_dir` if set.

    Args:
        fig: the figure; it is closed.
        name: its stable name, unique in the chapter: letters, digits and hyphens.
        caption: what to see; may hold `$maths$`.
        alt: the picture in words.
        narrow: a drawing of the same for a phone, at most 5 inches wide, where the panels of `fig`
            cannot simply restack, as in a diagram; it is closed, too.
        hero: whether it is the picture that stands for the chapter.

    Raises:
        ValueError: the name was used before in this run, or is malformed, or `alt` is empty.
    """
    _claim(name)
    _write(fig, name)
    if not os.environ.get(UNDRAWN):
        card = preview.png(fig) if hero else None
        shown = picture(fig, name, alt, narrow)
        _show(HTML(_figure_markup(shown, name, caption)), card)
    for each in filter(None, (fig, narrow)):
        plt.close(each)


def scrub(
    frames: Iterable[Figure],
    name: str,
    *,
    label: str,
    caption: str,
    alt: str,
    values: Sequence[Any] | None = None,
    interval: int = 700,
    hero: bool = False,
) -> None:
    """Show a slider with a play button over figures.

    In a notebook it is made of ipywidgets, which move with no kernel; the site makes a native
    range input of it, which moves with no widget manager.

    Args:
        frames: the figures, in order; each is closed. The first one is what print shows.
        name: stable name, unique in the chapter: letters, digits and hyphens.
        label: what the slider changes, as plain text: it also names the slider and its play button.
        caption: what to look for; may hold `$maths$`.
        alt: the picture in words; each frame's own words add the label and the value.
        values: what the slider shows at each frame, as plain text; 1, 2, … when None.
        interval: milliseconds of a frame while playing.
        hero: whether its first frame is the picture that stands for the chapter.

    Raises:
        ValueError: fewer than two frames, a `values` of another length, or more than 600 kB; or a
            name that is malformed or was used before in this run.
    """
    with distribution.extra("notebook"):
        import ipywidgets

    _claim(name)
    options = None if values is None else [str(value) for value in values]
    figures, alts, card = [], [], None
    undrawn = bool(os.environ.get(UNDRAWN))
    for at, fig in enumerate(frames):
        value = str(at + 1) if options is None else "".join(options[at : at + 1])
        if at == 0:
            _write(fig, name)
            card = preview.png(fig) if hero and not undrawn else None
        figures.append(fig)
        alts.append(f"{alt} ({label}: {value})")
        plt.close(fig)
    if options is None:
        options = [str(number) for number in range(1, len(figures) + 1)]
    if len(figures) < 2 or len(options) != len(figures):
        raise ValueError(
            f"scrub {name!r} needs two frames or more and one value for each, "
            f"got {len(figures)} frames and {len(options)} values"
        )
    if undrawn:
        return
    letters, pictures = share_glyphs(draw_frames(figures, name, alts), name)
    # In the page they stand within JSON, which would spell every double quote with two characters.
    pictures = [picture.replace('"', "'") for picture in pictures]
    size = len(letters) + sum(len(p.encode()) for p in pictures)
    variants = 1 + any("nn-narrow" in picture for picture in pictures)
    if size > SLIDER_BYTES * variants:
        raise ValueError(
            f"scrub {name!r} takes {size} bytes, at most {SLIDER_BYTES}: draw less"
        )
    stack = ipywidgets.Stack([ipywidgets.HTML(p) for p in pictures], selected_index=0)
    slider = ipywidgets.SelectionSlider(
        options=[(text, at) for at, text in enumerate(options)],
        description=label,
        style={"description_width": "initial"},
        layout={"width": "100%", "max_width": "460px"},
    )
    play = ipywidgets.Play(
        min=0, max=len(pictures) - 1, interval=interval, show_repeat=False
    )
    ipywidgets.jslink((slider, "index"), (stack, "selected_index"))
    ipywidgets.jslink((play, "value"), (slider, "index"))
    controls = ipywidgets.HBox([play, slider], layout={"flex_flow": "row wrap"})
    words = ipywidgets.HTMLMath(
        f'<div class="nn-caption" id="figure-{name}">{prose(caption)}</div>{letters}'
    )
    box = ipywidgets.VBox([controls, stack, words])
    box.add_class("nn-slider")
    _show(box, card)


def _show(thing: Any, card: bytes | None) -> None:
    """Display what a page shows; the hero's card travels in the same output."""
    if card is None:
        display(thing)
        return
    bundle, told = DisplayFormatter().format(thing)
    bundle["image/png"] = base64.b64encode(card).decode()
    display(bundle, raw=True, metadata=told)


def _claim(name: str) -> None:
    if name in current().names:
        raise ValueError(f"name={name!r} already names a figure of this chapter")
    current().names.add(name)


def _write(fig: Figure, name: str) -> None:
    folder = current().figures_dir
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": name}):
        fig.savefig(folder / f"{name}.svg", facecolor="white", metadata={"Date": None})
    fig.savefig(folder / f"{name}.png", facecolor="white", dpi=200)


def _figure_markup(picture: str, name: str, caption: str) -> str:
    return (
        f'<figure class="nn-figure" id="figure-{name}" style="margin:0">{picture}'
        f"<figcaption>{prose(caption)}</figcaption></figure>"
    )
