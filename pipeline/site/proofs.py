"""From the number of an equation to the tests that verify it: a quiet mark beside the number."""

from typing import Any

from docutils import nodes


def mark(translator: Any, node: nodes.math_block) -> str:
    """Return a link to where the truth pages have the equation; nothing where they do not."""
    builder = translator.builder
    page = builder.current_docname
    label = node.get("label")
    _, _, chapter = page.partition("chapters/")
    family = "truth/" + (chapter.rpartition("/")[0] or "others")
    if not label or not chapter or family not in builder.env.found_docs:
        return ""
    href = f"{builder.get_relative_uri(page, family)}#{label}"
    return (
        f'<a class="nn-tested" href="{href}" title="Tests of this equation" '
        'aria-label="Tests of this equation"><span aria-hidden="true">✓</span></a>'
    )
