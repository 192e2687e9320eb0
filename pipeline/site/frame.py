"""The frame of every page: its templates, and what they show (`templates/layout.html`)."""

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from pipeline.site import assets, cited, markup, navigation

TEMPLATES = Path(__file__).with_name("templates")
# The fonts of what is seen first, asked for before the style sheet that names them has come.
FONTS = (
    "vendor/fonts/source-serif-4-latin-wght-normal.woff2",
    "vendor/fonts/source-sans-3-latin-wght-normal.woff2",
)
# Before anything is painted, so that no page flashes up in the other theme.
THEME_SCRIPT = (
    "(h=>{let m;try{m=localStorage.getItem('mode')}catch{}h.mode=m||='auto';"
    "h.theme=m!='auto'?m:matchMedia('(prefers-color-scheme:dark)').matches?'dark':'light'})"
    "(document.documentElement.dataset)"
)
# The current page in sight, without a jump: this stands right after the sidebar.
SCROLL_SCRIPT = (
    "(s=>{const c=s.querySelector('[aria-current]')?.getBoundingClientRect();"
    "if(c&&c.bottom>innerHeight*.8)s.scrollTop+=c.top-innerHeight*.4})"
    "(document.currentScript.previousElementSibling)"
)
ICONS = {
    "launch": "launch",
    "download": "download",
    "source-repository": "source",
    "source-edit": "edit",
    "source-issues": "report",
    "source": "source",
}
# What the theme would render on every page, only to see whether it is empty: a quarter of the time.
OF_THE_THEME = (
    "sidebars",
    "theme_article_footer_items",
    "theme_article_header_end",
    "theme_article_header_start",
    "theme_content_footer_items",
    "theme_footer_center",
    "theme_footer_end",
    "theme_footer_start",
    "theme_navbar_center",
    "theme_navbar_end",
    "theme_navbar_persistent",
    "theme_navbar_start",
    "theme_primary_sidebar_end",
    "theme_secondary_sidebar_items",
)
WORDS = {".pdf": "Print", ".ipynb": "Notebook", ".md": "Source", ".txt": "Source"}


def setup(app: Sphinx) -> None:
    app.connect("config-inited", _find_templates)
    app.connect("html-page-context", _without_the_themes_own, priority=100)
    app.connect("html-page-context", _frame, priority=800)
    for part in (assets, cited, markup):
        part.setup(app)


def _find_templates(app: Sphinx, config: Any) -> None:
    config.templates_path = [*config.templates_path, str(TEMPLATES)]


def _without_the_themes_own(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    context.update({section: [] for section in OF_THE_THEME})


def _frame(app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give the templates what they show."""
    builder = app.builder
    if not hasattr(builder, "nn_navigation"):
        builder.nn_navigation = navigation.parts(app.env, app.config.root_doc)
    context["nn_navigation"] = builder.nn_navigation
    context["nn_header_buttons"] = header_buttons(context.get("header_buttons", []))
    context["nn_theme_script"], context["nn_scroll_script"] = THEME_SCRIPT, SCROLL_SCRIPT
    extra = [Path(app.confdir) / folder for folder in app.config.html_extra_path]
    context["nn_fonts"] = [font for font in FONTS if any((to / font).is_file() for to in extra)]


def header_buttons(buttons: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the theme's buttons with icons and words; a menu of one entry is that entry."""
    found = []
    for button in buttons:
        entries = [dict(entry, nn_text=_words(entry)) for entry in button.get("buttons", [])]
        shown = dict(button, buttons=entries, nn_icon=_icon(button))
        if len(entries) == 1:
            shown |= {"type": entries[0]["type"], "url": entries[0].get("url")}
            shown["tooltip"] = entries[0].get("tooltip") or button.get("tooltip")
        found.append(shown)
    return found


def _icon(button: dict[str, Any]) -> str:
    label = button.get("label") or ""
    return next((icon for name, icon in ICONS.items() if label.startswith(name)), "source")


def _words(entry: dict[str, Any]) -> str:
    """Name a file by what it is: "Notebook (.ipynb)"."""
    suffix = str(entry.get("text") or "")
    words = WORDS.get(suffix, suffix)
    return f"{words} ({suffix})" if words not in ("Print", suffix) else words
