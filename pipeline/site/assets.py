"""One style sheet and one script for all pages, made of the theme's parts and the book's own.

The theme's style sheets are made for every book: what this one does not use is left out
(`UNUSED`, which a test holds to the built pages). Its scripts are not loaded at all;
`_static/frame.js` does what they did. Every `_static/*.css` and `_static/*.js` of the book is
part of the two files, so that a feature is a file put there.
"""

import re
import shutil
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.builders.html import StandaloneHTMLBuilder
from sphinx.builders.html._assets import _CascadingStyleSheet, _JavaScript

from pipeline.site import stylesheet

STYLE, SCRIPT = "nn.css", "nn.js"
THEME = (
    "basic.css",
    "styles/pydata-sphinx-theme.css",
    "styles/sphinx-book-theme.css",
    "mystnb.*.css",
    "sphinx-design.min.css",
)
FIRST, LAST = ("fonts", "book", "page"), ("print",)  # the others by their names
# How the classes begin of those parts of the theme that no page has; such names are not to be used.
_UNUSED = """
    fa Font bi- icon-link tb-icon
    accordion alert badge breadcrumb bs- btn- card carousel collapse collapsing dropdown dropup
    dropend dropstart fade form- input-group invalid- is-invalid is-valid list-group list-unstyled
    list-inline modal nav-fill nav-justified nav-pills nav-tabs nav-underline navbar- offcanvas
    page-item page-link pagination placeholder popover progress ratio spinner toast tooltip valid-
    was-validated
    align-baseline align-content align-items align-self align-text bg- border- clearfix col-
    container- d- display- figure- fixed- flex- float- focus-ring fs- fst- fw- g- gap- gx- gy- h-
    hstack initialism justify- lead lh- link- m- mb- me- mh- ms- mt- mw- mx- my- object- offset-
    opacity- order- overflow- p- pb- pe- position- ps- pt- px- py- rounded row-cols- shadow sticky-
    text- user-select- vh- vr vstack vw- w- z-
    ablog bd-header bd-navbar bd-breadcrumbs bd-footer-article ethical jupyter leaflet nboutput
    nbinput pst- sphinx-tabs thebe toggle toctree-toggle utterances
    version-switcher -Color sd-
"""
UNUSED = tuple(_UNUSED.split())
# Of these, what pages do have: sphinx-design's grids, cards and folds.
USED = re.compile(
    r"fade-in|bd-header-article|navbar-brand|toctree-l|text_|text-(left|center|right)$|py-[a-z]"
    r"|pst-(js|scrollable|show_toc)"
    r"|sd-(container-fluid|row|col|g-|gx-|gy-|card(-body|-title|-text|-header|-footer)?$|summary"
    r"|dropdown|sphinx-override|w-100|d-flex-row|shadow-sm|m-auto|mb-[34]|font-weight-bold"
    r"|octicon|tabs-storage|cards-carousel-x)"
)
# What pages have and the book dresses by itself (`_static/page.css`).
_REPLACED = """
    bd-container bd-content bd-docs bd-footer bd-header-article bd-links bd-main bd-page-width
    bd-search bd-sidebar bd-toc btn copybtn header-article nav navbar onthispage page-toc
    prev-next search-button searchbox section-nav sidebar-header sidebar-primary sidebar-secondary
    sidebar-toggle skip-link sphinxsidebar theme-switch toc-entry toc-item
"""
REPLACED = tuple(_REPLACED.split())


# Folders of scripts, fonts and translations that the theme brings and no page asks for.
IDLE = ("scripts", "vendor", "locales")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", _bundle_with_assets)
    app.connect("html-page-context", _only_bundles, priority=900)


def _bundle_with_assets(app: Sphinx) -> None:
    builder = app.builder
    if not isinstance(builder, StandaloneHTMLBuilder):
        return
    copy = builder.copy_assets

    def copied() -> None:
        copy()
        bundle(app)

    builder.copy_assets = copied


def bundle(app: Sphinx) -> None:
    """Write the style sheet and the script into the site, and take away what is idle there."""
    static = Path(app.outdir) / "_static"
    # Extensions add folders of theirs, by their absolute paths.
    given = [Path(folder) for folder in app.config.html_static_path]
    own = [Path(app.confdir) / folder for folder in given if not folder.is_absolute()]
    sheets = [theme_style(static), *map(read, ordered(own, "css"))]
    _write(static / STYLE, stylesheet.by_system("\n".join(sheets)) + "\n")
    _write(static / SCRIPT, script([(file.name, read(file)) for file in ordered(own, "js")]))
    for folder in IDLE:
        shutil.rmtree(static / folder, ignore_errors=True)


def _write(file: Path, text: str) -> None:
    if not file.is_file() or read(file) != text:
        file.write_text(text, "utf8")


def read(file: Path) -> str:
    return file.read_text("utf8")


def ordered(folders: list[Path], kind: str) -> list[Path]:
    """Return the book's own files of a kind, the foundations first and print last."""
    names = [*FIRST, *LAST]

    def rank(file: Path) -> tuple[int, int, str]:
        name = file.stem
        place = 2 if name in LAST else 0 if name in FIRST else 1
        return place, names.index(name) if name in names else 0, name

    files = (file for folder in folders for file in folder.glob(f"*.{kind}"))
    return sorted(files, key=rank)


def theme_style(static: Path) -> str:
    """Return what the theme's style sheets hold for the pages of this book."""
    files = [file for name in THEME for file in sorted(static.glob(name))]
    return "\n".join(stylesheet.trimmed(read(file), dropped) for file in files)


def unused(name: str) -> bool:
    """Tell whether a class of the theme is one that no page has."""
    return name.startswith(UNUSED) and not USED.match(name)


def dropped(name: str) -> bool:
    """Tell whether the theme's rules for a class are left out."""
    return name.startswith(REPLACED) or unused(name)


def script(parts: list[tuple[str, str]]) -> str:
    """Join scripts so that none sees the names of another, nor stops when another one throws."""
    piece = "// {}\n(() => {{\n{}\n}})();\n"
    guarded = "try {{\n{}}} catch (error) {{\n  reportError(error);\n}}\n"
    return "".join(guarded.format(piece.format(name, code.rstrip())) for name, code in parts)


def _only_bundles(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Let a page load the two files, whatever the theme and the extensions add to pages."""
    if not isinstance(app.builder, StandaloneHTMLBuilder):
        return
    context["css_files"] = [_CascadingStyleSheet(f"_static/{STYLE}")]
    context["script_files"] = [_JavaScript(f"_static/{SCRIPT}", defer="defer")]
