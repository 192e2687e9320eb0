"""The form of a live model in a notebook: ipywidgets around the module itself."""

import html
from collections.abc import Sequence
from typing import Any

from torch import nn

from nnlib.distribution import extra
from nnlib.live.inputs.given import Given, NotGiven
from nnlib.live.outputs import Shown
from nnlib.live.runs import Writes
from nnlib.markup import prose

STYLE = """<style>
.nn-form ol{list-style:none;margin:0;padding:0}
.nn-form li{display:grid;grid-template-columns:5em 12em 5em;gap:.5em;align-items:center}
.nn-form li i{background:#b3446c;height:.8em;width:calc(100% * var(--v))}
.nn-form svg{height:auto;max-width:24em;width:100%}
.nn-form .nn-heat svg{max-width:none;width:auto}
.nn-form mark{background:#f4d9e3}
.nn-form .nn-pieces b{border:1px solid #999;margin:1px}
.nn-form .nn-plane svg circle,.nn-form .nn-plane svg rect{fill:#4477aa}
.nn-form .nn-plane svg .nn-reach{fill:none}
.nn-form path,.nn-form polyline{stroke:currentColor}
.nn-form polyline{fill:none}.nn-form .nn-pixels path{stroke:none}
.nn-form text{font:11px sans-serif;text-anchor:middle}
</style>"""


def form(
    model: nn.Module | None,
    given: Given,
    shown: Sequence[Shown],
    run: Any,
    title: str,
    caption: str,
    example: Any,
) -> Any:
    """Return a box of widgets: the input, a button, and what the module makes of the input.

    Args:
        model: the module, or None where `run` has a rule of its own.
        given: the input.
        shown: the outputs.
        run: how the module is run.
        title: the heading.
        caption: what to notice.
        example: the value to begin with.
    """
    with extra("notebook"):
        import ipywidgets

    field, read, put = given.widget(example)
    place = ipywidgets.HTML()
    button = ipywidgets.Button(description="Answer", button_style="primary")
    controls = [button]
    heat = share = None
    if isinstance(run, Writes):
        heat = ipywidgets.FloatSlider(
            run.temperature, min=0, max=2, step=0.1, description="temperature"
        )
        controls.append(heat)
        if run.top_p is not None:
            share = ipywidgets.FloatSlider(
                run.top_p, min=0.05, max=1, step=0.05, description="top-p"
            )
            controls.append(share)
    if given.examples:
        choice = ipywidgets.Dropdown(options=["examples …", *given.examples])

        def chosen(change: Any) -> None:
            if change["new"] in given.examples:
                put(given.examples[change["new"]])
                show()

        choice.observe(chosen, "value")
        controls.append(choice)

    def show(_: Any = None) -> None:
        sliders = {"temperature": heat, "top_p": share}
        settings = {name: one.value for name, one in sliders.items() if one is not None}
        place.value = STYLE + answered(model, given, shown, run, read(), **settings)

    button.on_click(show)
    show()
    head = ipywidgets.HTML(f"<strong>{html.escape(title)}</strong>")
    words = ipywidgets.HTMLMath(prose(caption))
    box = ipywidgets.VBox([head, field, ipywidgets.HBox(controls), place, words])
    box.add_class("nn-form")
    return box


def answered(
    model: nn.Module | None,
    given: Given,
    shown: Sequence[Shown],
    run: Any,
    value: Any,
    **settings: Any,
) -> str:
    """Return the markup of what the module makes of a value, or a plain word why not."""
    try:
        answer = run.answer(model, given, value, **settings)
    except NotGiven as reason:
        return f"<p>{html.escape(str(reason))}</p>"
    parts = [part.markup(answer.outputs, answer.context) for part in shown]
    if "line" in answer.context:
        # only a plane's answer holds a line, and a plane has a picture
        plane = given.picture(value, answer.context["line"])  # type: ignore[attr-defined]
        parts.insert(0, plane)
    note = answer.context.get("note", "")
    return "".join(parts) + (f"<p>{html.escape(note)}</p>" if note else "")
