"""Words: prose and tables made from variables, real source, the card of an architecture."""

import html
import inspect
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnlib import catalog, distribution, markup
from nnlib.markup import prose, without_docstrings

with distribution.extra("notebook"):
    from IPython.display import HTML, Markdown, display

REPOSITORY = distribution.repository()


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
