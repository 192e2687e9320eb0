"""What the site's extension makes of pages: works and who cites them, markup, the tree of pages."""

import inspect
import re

import pydata_sphinx_theme as theme
import pytest
from docutils import nodes
from docutils.frontend import get_default_settings
from docutils.utils import new_document
from sphinx import addnodes

from pipeline.site import cited, frame, markup, navigation


def section(title, *children):
    return nodes.section("", nodes.title("", title), *children, ids=[title.lower()])


def work(name, *back):
    label = nodes.label("", name)
    entry = nodes.citation("", label, nodes.paragraph("", f"Work of {name}."), ids=[name])
    entry["backrefs"] = list(back)
    return entry


@pytest.fixture
def page():
    def anchor(name):
        return nodes.paragraph("", "", nodes.inline("", "cited", ids=[name]))

    page = new_document("page", get_default_settings())
    inner = section("Inner", anchor("id2"), anchor("id3"))
    page += section(
        "Page",
        section("First", anchor("id1"), inner),
        work("able", "id1", "id2", "id3"),
        work("none"),
    )
    cited.name_sections(page)
    return page


def test_a_work_names_each_section_that_cites_it_once(page):
    able, none = page.findall(nodes.citation)
    assert able.astext() == "Work of able. Cited in First, Inner."
    links = [(link["refid"], link.astext()) for link in able.findall(nodes.reference)]
    assert links == [("id1", "First"), ("id2", "Inner")]
    assert none.astext() == "Work of none."


def test_a_work_has_no_second_name(page):
    assert not list(page.findall(nodes.label))
    assert all(entry["backrefs"] == [] for entry in page.findall(nodes.citation))


def test_lines_of_a_signature_are_no_list_of_definitions():
    paren = '<span class="sig-paren">'
    listed = "\n\n<dl>\n<dd>a,</dd>\n<dd>b,</dd>\n</dl>\n\n"
    lines = '<span class="nn-parameter">a,</span><span class="nn-parameter">b,</span>'
    page = f"{paren}(</span>{{}}{paren})</span><dl><dd>x</dd></dl>"
    assert markup.mended(page.format(listed)) == page.format(lines)


@pytest.mark.parametrize(
    ("written", "mended"),
    [
        ('<th class="head"></th>', '<td class="head"></td>'),
        ("<th>\n<p></p>\n</th>", "<td></td>"),
        ("<th><p>size</p></th>", "<th><p>size</p></th>"),
        ('<div role="doc-biblioentry">', '<div role="listitem">'),
    ],
)
def test_markup_is_mended(written, mended):
    assert markup.mended(written) == mended


class Environment:
    """The titles and the contents of three pages."""

    def __init__(self):
        self.titles = {name: nodes.title("", name) for name in ("home", "family", "Chapter")}
        below = addnodes.toctree("", entries=[(None, "Chapter")])
        top = addnodes.toctree("", entries=[("Kin", "family"), ("Other", "https://x.org")])
        top["caption"] = "Part"
        self.tocs = {"home": nodes.list_item("", top), "family": nodes.list_item("", below)}


def test_the_tree_of_pages_is_that_of_the_contents():
    (part,) = navigation.parts(Environment(), "home")
    (family,) = part.items
    assert (part.caption, family.title, family.children[0].title) == ("Part", "Kin", "Chapter")
    assert family.holds("Chapter") and family.holds("family") and not family.holds("home")


def test_a_menu_of_one_entry_is_a_button():
    colab = {"type": "link", "url": "there", "text": "Colab", "tooltip": "Launch on Colab"}
    menu = {"type": "group", "label": "launch-buttons", "tooltip": "Launch", "buttons": [colab]}
    (button,) = frame.header_buttons([menu])
    assert (button["type"], button["url"], button["nn_icon"]) == ("link", "there", "launch")
    assert button["tooltip"] == "Launch on Colab"


def test_the_entries_of_a_menu_say_what_they_do():
    entries = [{"type": "link", "text": ".ipynb"}, {"type": "javascript", "text": ".pdf"}]
    menu = {"type": "group", "label": "download-buttons", "buttons": entries}
    (button,) = frame.header_buttons([menu])
    assert [one["nn_text"] for one in button["buttons"]] == ["Notebook (.ipynb)", "Print"]


def test_nothing_of_the_theme_is_rendered_only_to_be_dropped():
    of_the_theme = (
        theme.update_and_remove_templates,
        theme.utils.set_secondary_sidebar_items,
    )
    source = "".join(inspect.getsource(each) for each in of_the_theme)
    names = r'"(theme_\w+_(?:start|center|end|persistent|items)|sidebars)"'
    sections = set(re.findall(names, source))
    assert len(sections) > 10 and sections <= set(frame.OF_THE_THEME)
    context = {"sidebars": ["sbt-sidebar-nav.html"], "title": "A page"}
    frame._without_the_themes_own(None, "page", "page.html", context, None)
    assert context.pop("title") == "A page" and not any(context.values())
