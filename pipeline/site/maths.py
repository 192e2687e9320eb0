r"""Mathematics is set when the book is built: TeX becomes MathML, which browsers can show.

math-core translates, in the same process and in well under a millisecond a formula, so that nothing
is kept from build to build. Three sources meet here: Sphinx's own maths nodes, and what stands as
`<span class="math …">\(…\)</span>` in raw HTML (captions, cards, outputs), once a page is whole.
A formula that cannot be set is a warning with its page, and so the end of a build.
"""

import html
import re
from functools import cache
from typing import Any

import math_core
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

from pipeline.site import proofs

FONT = "vendor/fonts/stix-two-math.woff2"
CLASSES = "math notranslate nohighlight"
# Numbers are Sphinx's, so that references find them.
PLAIN = {"align": "aligned", "split": "aligned", "eqnarray": "aligned", "gather": "gathered"}
ANY = r"(?:(?!</?(?:span|div)\b).)*?"
_RAW = re.compile(
    rf'<(span|div) class="(?:[^"]* )?math(?: [^"]*)?"[^>]*>\s*\\([(\[])({ANY})\\[)\]]\s*</\1>', re.S
)
# Chromium does not stretch what a script hangs on, unless a row holds it.
_BASE = re.compile(r"(<m(?:sub|sup|subsup)>)(<mo [^>]*minsize=[^>]*>[^<]*</mo>)")
# A sum that goes on in the next row: what begins a cell would else be taken for a sign.
_CONTINUED = re.compile(r"(<mtd style=\"text-align: left;[^\"]*padding-left: 0;\">)<mo>([+−])</mo>")
_log = logging.getLogger(__name__)


class MathsError(ValueError):
    """A formula that cannot be set."""


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (_visit_inline, None), (_visit_block, None))
    app.connect("config-inited", lambda app, config: _choose(config))
    # Late: what others put into the body may hold formulas.
    app.connect("html-page-context", _whole_page, priority=850)


def _choose(config: Any) -> None:
    config.html_math_renderer = "mathml"


@cache
def mathml(tex: str, *, display: bool = False) -> str:
    r"""Return TeX as a `<math>` element.

    Args:
        tex: a formula as it stands between dollars; rows may be divided by `\\`.
        display: whether it stands on lines of its own.

    Raises:
        MathsError: a command is unknown, or something is not closed.
    """
    try:
        found = _converter().convert_with_local_state(_rows(tex.strip()), displaystyle=display)
    except math_core.LatexError as error:
        raise MathsError(f"{error} in the formula {tex.strip()}") from None
    found = found.replace("&ApplyFunction;", "\u2061")
    found = _CONTINUED.sub(r'\1<mo form="infix">\2</mo>', found)
    return _BASE.sub(r"\1<mrow>\2</mrow>", found)


@cache
def _converter() -> math_core.LatexToMathML:
    # What it calls unreliable are wide accents, which stretch in our own font.
    return math_core.LatexToMathML(fancy_error=False, allow_unreliable_rendering=True)


def _rows(tex: str) -> str:
    r"""Let rows stand at their `&`, as Sphinx does; an empty line begins a row too."""
    tex = re.sub(r"\\(begin|end)\{(\w+)\*?\}", lambda found: _named(*found.groups()), tex)
    parts = [part.strip() for part in re.split(r"\n[ \t]*\n", tex) if part.strip()]
    outside = re.sub(r"\\begin\{(\w+\*?)\}.*?\\end\{\1\}", "", tex, flags=re.S)
    if len(parts) > 1 or r"\\" in outside:
        return r"\begin{aligned}" + r"\\".join(parts) + r"\end{aligned}"
    return tex


def _named(end: str, name: str) -> str:
    """Environments that number their rows, and those that only stand on a page of their own."""
    if name == "equation":
        return ""
    return f"\\{end}{{{PLAIN.get(name, name)}}}"


def set_maths(text: str, where: str = "") -> str:
    r"""Return HTML with each `<span class="math">\(…\)</span>` set, and each `<div …>\[…\]</div>`.

    Raises:
        MathsError: a formula is malformed; `where` is named.
    """

    def one(found: re.Match[str]) -> str:
        element, bracket, tex = found.groups()
        try:
            return _box(mathml(html.unescape(tex), display=bracket == "["), element)
        except MathsError as error:
            raise MathsError(f"{where}: {error}" if where else str(error)) from None

    return _RAW.sub(one, text)


def _box(maths: str, element: str, attributes: str = f' class="{CLASSES}"') -> str:
    """A displayed formula stands in a box that scrolls where it is too wide."""
    if element == "div":
        maths = f'<div class="nn-formula">{maths}</div>'
    return f"<{element}{attributes}>{maths}</{element}>"


def _set_node(node: nodes.Element, *, display: bool) -> str:
    try:
        return mathml(node.astext(), display=display)
    except MathsError as error:
        _log.warning("%s", error, location=node, type="maths")
        return f"<code>{html.escape(node.astext())}</code>"


def _visit_inline(self: Any, node: nodes.math) -> None:
    self.body.append(self.starttag(node, "span", "", CLASS=CLASSES))
    self.body.append(_set_node(node, display=False) + "</span>")
    raise nodes.SkipNode


def _visit_block(self: Any, node: nodes.math_block) -> None:
    self.body.append(self.starttag(node, "div", CLASS=CLASSES))
    if node["number"]:
        self.body.append(f'<span class="eqno">({get_node_equation_number(self, node)})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append(f"{proofs.mark(self, node)}</span>")
    self.body.append(f'<div class="nn-formula">{_set_node(node, display=True)}</div></div>\n')
    raise nodes.SkipNode


def _whole_page(app: Sphinx, page: str, template: str, context: dict[str, Any], tree: Any) -> None:
    """Set what raw HTML holds; let a page with maths ask for its font at once."""
    body = context.get("body")
    if not body:
        return
    try:
        context["body"] = body = set_maths(body)
    except MathsError as error:
        _log.warning("%s", error, location=(page, None), type="maths")
    if "<math" in body:
        href = context["pathto"](FONT, 1)
        # Low: the style sheet, without which nothing is painted, goes first.
        kind = 'as="font" type="font/woff2" fetchpriority="low" crossorigin'
        preload = f'<link rel="preload" href="{href}" {kind} />'
        context["metatags"] = context.get("metatags", "") + preload
