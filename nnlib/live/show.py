"""`live`: a trained module between an input and an output, on the page and in a notebook."""

import base64
import copy
import html
import os
import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from nnlib.distribution import extra
from nnlib.live import form
from nnlib.live.export import answers, exported
from nnlib.live.inputs.given import Given
from nnlib.live.outputs import Shown
from nnlib.live.runs import Answer, Corrects, Cuts, Once
from nnlib.markup import prose

with extra("notebook"):
    from IPython.core.formatters import DisplayFormatter
    from IPython.display import display

MIME = "application/vnd.nnlib.live+json"
"""What the site makes a page's live model of (pipeline/site/live.py)."""
FOR_THE_PAGE = "NNLIB_LIVE"
"""Set while the book is built: only then is a module exported, which takes seconds."""

TOLD = "You see an answer that was recorded when this page was built."
TOUCH = "Touch anything, and the model itself answers, in your browser; it loads once."
"""What stands under the answer; the second where something can be touched."""


def live(
    model: nn.Module | None,
    given: Given,
    *shown: Shown,
    name: str,
    title: str,
    example: Any,
    caption: str,
    run: Any = None,
    records: Sequence[Any] = (),
) -> None:
    """Put a trained module between an input and its outputs, for readers to touch.

    On the page the module is an ONNX file that the browser loads at the first touch; until then,
    on paper, and without scripts, the recorded `example` stands there. In a notebook it is a form
    around the module itself.

    Args:
        model: the module; None where the rule stands in the page (`Corrects`, `Cuts`).
        given: the input, such as `DrawingPad` or `TextField`.
        *shown: the outputs, such as `Bars` or `Text`.
        name: its stable name, unique in the chapter: letters, digits and hyphens.
        title: what to do with it, as a heading.
        example: the value of the input that is shown with its answer.
        caption: what to notice; may hold `$maths$`.
        run: how the module is run; `Once()` if None.
        records: values whose answers the page's must equal, ten or more.

    Raises:
        ValueError: the name is malformed, or records are missing.
        ExportError: the file is too large, or does not answer as the module does.
    """
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name):
        raise ValueError(
            f"name={name!r} must be of lower-case letters, digits, hyphens"
        )
    run = run or Once()
    ruled = isinstance(run, Corrects | Cuts)
    if ruled != (model is None):
        raise ValueError("model must be None with Corrects or Cuts, a module otherwise")
    if not ruled and len(records) < 10:
        raise ValueError(f"records holds {len(records)} inputs, it takes 10 or more")
    model = None if model is None else copy.deepcopy(model).cpu().eval()
    answer = run.answer(model, given, example)
    bundle, told = DisplayFormatter().format(
        form.form(model, given, shown, run, title, caption, example)
    )
    if os.environ.get(FOR_THE_PAGE):
        bundle[MIME] = for_the_page(
            model, given, shown, name, title, example, caption, run, records, answer
        )
    display(bundle, raw=True, metadata=told)


def for_the_page(
    model: nn.Module | None,
    given: Given,
    shown: Sequence[Shown],
    name: str,
    title: str,
    example: Any,
    caption: str,
    run: Any,
    records: Sequence[Any],
    answer: Answer,
) -> dict[str, Any]:
    """Return what a page needs: markup, settings, the file, and what it must answer."""
    config = {
        "run": run.config(),
        "given": given.config(),
        "shown": [part.config() for part in shown],
        "example": given.plain(example),
    }
    made: dict[str, Any] = {
        "name": name,
        "markup": markup(given, shown, name, title, example, caption, run, answer),
        "config": config,
        "onnx": None,
        "records": [],
    }
    if model is None:
        return made
    feeds = [run.answer(model, given, value).feed for value in records]
    made["onnx"] = base64.b64encode(exported(model, feeds)).decode()
    made["records"] = [
        {
            "feed": [_plain(x) for x in feed],
            "wanted": [_plain(y) for y in answers(model, feed)],
        }
        for feed in feeds
    ]
    return made


def _plain(value: Tensor) -> dict[str, Any]:
    kind = "float32" if value.is_floating_point() else "int64"
    return {"type": kind, "dims": list(value.shape), "data": value.flatten().tolist()}


def markup(
    given: Given,
    shown: Sequence[Shown],
    name: str,
    title: str,
    example: Any,
    caption: str,
    run: Any,
    answer: Answer,
) -> str:
    """Return the figure as it stands before anything is touched."""
    if "line" in answer.context:
        # only a plane's answer holds a line, and a plane has a picture
        plane = given.picture(example, answer.context["line"])  # type: ignore[attr-defined]
        body = f'<div class="nn-plane">{plane}</div>'
        left = given.markup(example).replace(given.body(example), body)
    else:
        left = given.markup(example)
    right = "".join(part.markup(answer.outputs, answer.context) for part in shown)
    return (
        f'<figure class="nn-live" id="live-{name}" data-live="{name}">'
        f'<p class="nn-live-title" id="live-{name}-title">{html.escape(title)}</p>'
        f'<div class="nn-live-form" role="group" aria-labelledby="live-{name}-title">'
        f'<div class="nn-given nn-given-{given.kind}">{left}{run.buttons()}</div>'
        f'<div class="nn-answers">{right}</div></div>'
        f'<p class="nn-live-told" role="status">{TOLD} <span class="nn-touch">{TOUCH}</span></p>'
        f"<figcaption>{prose(caption)}</figcaption></figure>"
    )
