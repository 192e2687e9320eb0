"""Mend in a finished page what Sphinx and its extensions write against the rules of HTML and ARIA.

Each rule is a form of words that they always write, and what stands there instead. axe-core, which
the tests run over every page, names what is wrong with the first.
"""

import re
from typing import Any

from sphinx.application import Sphinx

# A list in the head of a signature has `dd` and no `dt`; and a `dl` may not stand within a span.
_PARAMETERS = re.compile(
    r'(<span class="sig-paren">[(\[]</span>)\s*<dl>\s*(.*?)</dl>\s*(?=<span class="sig-paren">)',
    re.S,
)
_PARAMETER = re.compile(r"<dd>(.*?)</dd>\s*", re.S)
_EMPTY_HEAD = re.compile(r"<th\b([^>]*)>\s*(?:<p>\s*</p>\s*)?</th>")


def setup(app: Sphinx) -> None:
    # Late: what others add to a page is mended as well.
    app.connect("html-page-context", _mend, priority=950)


def _mend(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    if "body" in context:
        context["body"] = mended(context["body"])


def mended(body: str) -> str:
    """Return the text of a page with its markup mended."""
    body = _PARAMETERS.sub(lambda found: found[1] + _lines(found[2]), body)
    body = _EMPTY_HEAD.sub(r"<td\1></td>", body)
    # The items of a list are that; the role that docutils gives them is withdrawn in DPUB-ARIA 1.1.
    return body.replace(' role="doc-biblioentry"', ' role="listitem"')


def _lines(parameters: str) -> str:
    return _PARAMETER.sub(r'<span class="nn-parameter">\1</span>', parameters)
