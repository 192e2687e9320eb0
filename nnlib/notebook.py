"""What only a notebook needs: promises that are checked, figures with words, sliders, cards.

A chapter calls `setup` once, then `check` (two things are equal), `band` (a result lies where the
text says), `figure`, `scrub` (a slider) and, last, `verdict`.
"""

import base64
import html
import inspect
import json
import os
import random
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nnlib import catalog, checks, distribution, markup
from nnlib.device import pick_device
from nnlib.markup import prose, without_docstrings
from nnlib.timing import measured as measured
from nnlib.timing import seconds as seconds

with distribution.extra("notebook"):
    from IPython.core.formatters import DisplayFormatter
    from IPython.display import HTML, Markdown, display
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    from nnlib.plot import preview, style
    from nnlib.plot.picture import picture
    from nnlib.plot.svg import share_glyphs

REPOSITORY = distribution.repository()
SLIDER_BYTES = 600_000


class BrokenPromise(AssertionError):
    """A check or a band of a chapter did not hold."""


@dataclass
class _Run:
    """One run of one chapter: how strict it is, where figures go, what was promised."""

    strict: bool = True
    figures_dir: Path | None = None
    held: dict[str, int] = field(default_factory=lambda: {"check": 0, "band": 0})
    broken: list[str] = field(default_factory=list)
    names: set[str] = field(default_factory=set)


_run = _Run()


def setup(
    seed: int = 0,
    device: str = "cpu",
    figures_dir: str | None = None,
    strict: bool = True,
) -> torch.device:
    """Begin a chapter: seed everything, apply the style, forget the run before.

    Args:
        seed: for `random`, numpy and torch, ≥ 0.
        device: `"auto"` or a torch device.
        figures_dir: a folder that receives every figure as SVG and PNG, or None.
        strict: whether a broken check or band raises; otherwise it is printed and counted.

    Returns:
        The device to use.
    """
    global _run
    seed = checks.count("seed", seed, least=0)
    _run = _Run(
        checks.flag("strict", strict), Path(figures_dir) if figures_dir else None
    )
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    style.apply()
    return pick_device(device)


def check(
    claim: str, got: Any, wanted: Any = True, *, atol: float = 0.0, rtol: float = 0.0
) -> None:
    """Print `✓ claim` when `got` equals `wanted` within the tolerance.

    Args:
        claim: what is promised, as the reader sees it.
        got: a tensor, array, number, sequence or bool.
        wanted: what it must equal.
        atol: absolute tolerance.
        rtol: tolerance relative to `wanted`.

    Raises:
        BrokenPromise: they differ, and the chapter is strict.
    """
    a, b = _array(got), _array(wanted)
    if a.shape != b.shape:
        return _keep("check", False, claim, f"shapes {a.shape} and {b.shape}")
    if not (np.issubdtype(a.dtype, np.number) and np.issubdtype(b.dtype, np.number)):
        return _keep("check", bool(np.array_equal(a, b)), claim, "they differ")
    error = np.abs(a - b)
    tolerance = " ".join(
        f"{n} {v:.0e}" for n, v in (("atol", atol), ("rtol", rtol)) if v
    )
    holds = bool((error <= atol + rtol * np.abs(b)).all())  # NaN compares false
    worst = f"largest difference {np.max(error, initial=0.0):.3g}"
    return _keep(
        "check", holds, f"{claim} ({tolerance})" if tolerance else claim, worst
    )


def band(
    name: str,
    value: Any,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    baseline: Any = None,
) -> None:
    """Print `✓ name at least …` when a measured value lies where the text says.

    Args:
        name: what was measured.
        value: the measurement, a number or a tensor of one; NaN never holds.
        at_least: lower end of the band.
        at_most: upper end of the band.
        baseline: the same measure of the model to beat, for the reader.

    Raises:
        ValueError: no end of the band was given.
        BrokenPromise: the value lies outside, and the chapter is strict.
    """
    if at_least is None and at_most is None:
        raise ValueError(f"band {name!r} needs at_least=…, at_most=… or both")
    value = float(value)
    ends = [
        f"{word} {end:g}" for word, end in (("at least", at_least), ("at most", at_most))
        if end is not None
    ]  # fmt: skip
    low = -np.inf if at_least is None else at_least
    high = np.inf if at_most is None else at_most
    told = f" (baseline {float(baseline):.2g})" if baseline is not None else ""
    _tell_runner(name, value)
    _keep(
        "band",
        low <= value <= high,
        f"{name} {' and '.join(ends)}{told}",
        f"got {value:.4g}",
    )


def _tell_runner(name: str, value: float) -> None:
    """Hand a measurement to what runs the chapter, for its record and for sweeps."""
    if file := os.environ.get("NNLIB_SCALARS"):
        with open(file, "a", encoding="utf8") as lines:
            lines.write(json.dumps([name, value]) + "\n")


def _keep(kind: str, holds: bool, claim: str, otherwise: str) -> None:
    if holds:
        _run.held[kind] += 1
        print(f"✓ {claim}")
        return
    _run.broken.append(f"{claim}: {otherwise}")
    if _run.strict:
        raise BrokenPromise(f"✗ {claim}: {otherwise}")
    print(f"✗ {claim}: {otherwise}")


def _array(value: Any) -> np.ndarray:
    if isinstance(value, torch.Tensor):
        value = (
            value.detach()
            .cpu()
            .to(torch.float64 if value.is_floating_point() else value.dtype)
        )
    array = np.asarray(value)
    return array.astype(np.int64) if array.dtype == bool else array


def verdict() -> None:
    """Print how many promises of the run held, and name those that did not."""
    for claim in _run.broken:
        print(f"✗ did not hold: {claim}")
    checks, bands = _run.held["check"], _run.held["band"]
    mark = "✗" if _run.broken else "✓"
    print(f"{mark} {checks} checks and {bands} bands held, {len(_run.broken)} did not")


def say(text: str) -> None:
    """Show Markdown made from variables, so that no number in prose is typed by hand."""
    display(Markdown(textwrap.dedent(text).strip()))


def table(
    head: Sequence[Any],
    rows: Iterable[Sequence[Any]] | Mapping[Any, Sequence[Any]],
    form: str | Sequence[str] = "",
) -> None:
    """Show a table made from variables; the arguments are those of `nnlib.markup.table`.

    Args:
        head: what stands over each column.
        rows: the cells of each row, text or numbers; or, for each name, those that follow it.
        form: how numbers are written, as in `".2f"`: all that are not whole, or column by column.

    Example:
        >>> table(["model", "held out"], {"counting": [0.4142], "network": [0.9]}, ".1%")
        <IPython.core.display.Markdown object>
    """
    say(markup.table(head, rows, form))


def show_source(*objects: Any, docstrings: bool = False) -> None:
    """Show the real source of functions, classes or methods, highlighted.

    Args:
        *objects: what to show, in order.
        docstrings: whether to keep docstrings (they stand in the API reference anyway).
    """
    parts = [textwrap.dedent(inspect.getsource(thing)) for thing in objects]
    if not docstrings:
        parts = [without_docstrings(part) for part in parts]
    file = Path(inspect.getsourcefile(inspect.unwrap(objects[0])) or "")
    path = file.as_posix()[file.as_posix().rfind("nnlib/") :]
    say(f"[`{path}`]({REPOSITORY}/blob/main/{path})" if REPOSITORY else f"`{path}`")
    say("```python\n" + "\n\n".join(part.strip() for part in parts) + "\n```")


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
    card = preview.png(fig) if hero else None
    shown = picture(fig, name, alt, narrow)
    for drawn in filter(None, (fig, narrow)):
        plt.close(drawn)
    _show(HTML(_figure_markup(shown, name, caption)), card)


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
    pictures, card = [], None
    for at, fig in enumerate(frames):
        value = str(at + 1) if options is None else "".join(options[at : at + 1])
        if at == 0:
            _write(fig, name)
            card = preview.png(fig) if hero else None
        words = f"{alt} ({label}: {value})"
        pictures.append(picture(fig, f"{name}-{at}", words, frame=True))
        plt.close(fig)
    if options is None:
        options = [str(number) for number in range(1, len(pictures) + 1)]
    if len(pictures) < 2 or len(options) != len(pictures):
        raise ValueError(
            f"scrub {name!r} needs two frames or more and one value for each, "
            f"got {len(pictures)} frames and {len(options)} values"
        )
    letters, pictures = share_glyphs(pictures, name)
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
    if name in _run.names:
        raise ValueError(f"name={name!r} already names a figure of this chapter")
    _run.names.add(name)


def _write(fig: Figure, name: str) -> None:
    if _run.figures_dir is None:
        return
    _run.figures_dir.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.hashsalt": name}):
        fig.savefig(
            _run.figures_dir / f"{name}.svg", facecolor="white", metadata={"Date": None}
        )
    fig.savefig(_run.figures_dir / f"{name}.png", facecolor="white", dpi=200)


def _figure_markup(picture: str, name: str, caption: str) -> str:
    return (
        f'<figure class="nn-figure" id="figure-{name}" style="margin:0">{picture}'
        f"<figcaption>{prose(caption)}</figcaption></figure>"
    )


def card(name: str) -> None:
    """Show the card of an architecture: year, people, costs, relatives, where its code stands.

    Args:
        name: as the catalogue has it.

    Raises:
        ValueError: the catalogue has no such name.
    """
    entry = catalog.get(name)
    file = entry.module.replace(".", "/") + ".py"
    test = f"tests/{entry.family}/test_{name}.py"
    code = [f"<code>{p}</code>" for p in (file, test)]
    if REPOSITORY:
        code = [
            f'<a href="{REPOSITORY}/blob/main/{p}"><code>{p}</code></a>'
            for p in (file, test)
        ]
    api = f'<a href="../../api/{entry.family}.html#module-{entry.module}">API reference</a>'
    rows = {
        "Year": str(entry.year),
        "People": html.escape(entry.people),
        "Parameters": prose(entry.parameters),
        "Training": prose(entry.train_cost),
        "Use": prose(entry.use_cost),
        "Grew from": _relatives(entry.ancestors, entry.family),
        "Led to": _relatives([heir.name for heir in catalog.heirs(name)], entry.family),
        "Code": " · ".join([*code, api]),
    }
    cells = "".join(
        f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows.items() if value
    )
    idea = f'<p class="nn-card-idea">{prose(entry.idea)}</p>'
    display(HTML(f'<div class="nn-card">{idea}<dl>{cells}</dl></div>'))


def _relatives(names: Iterable[str], family: str) -> str:
    links = []
    for name in names:
        entry = catalog.get(name)
        title = html.escape(entry.title)
        page = (
            f"{name}.html"
            if entry.family == family
            else f"../{entry.family}/{name}.html"
        )
        links.append(f'<a href="{page}">{title}</a>' if entry.module else title)
    return ", ".join(links)
