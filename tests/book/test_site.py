"""The built site as a reader's browser shows it, with every other host blocked."""

import html.parser
import json
from pathlib import Path
from urllib.parse import unquote, urldefrag

import pytest

from pipeline import ROOT, project
from pipeline.site.browser import Visit
from tests.book.looking import CHAPTERS, PAGES, REASON, SITE

BYTES = 1_500_000

if REASON:
    pytest.skip(f"the site is not looked at: {REASON}", allow_module_level=True)


@pytest.mark.parametrize("page", PAGES)
def test_page_opens_and_calls_nobody_else(page, looks):
    seen = looks(page)
    assert seen["status"] == 200
    assert seen["foreign"] == []
    assert seen["failed"] == []


@pytest.mark.parametrize("page", PAGES)
def test_console_holds_no_error(page, looks):
    assert looks(page)["complaints"] == []


@pytest.mark.parametrize("page", PAGES)
def test_mathematics_is_rendered(page, looks):
    found = looks(page)["mathematics"]
    assert found["errors"] == []
    assert found["bare"] == [] and found["raw"] == []
    assert found["font"] or not found["written"]


@pytest.mark.parametrize("page", PAGES)
def test_wide_formulas_show_that_they_scroll(page, looks):
    assert looks(page)["scrolled"] == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES)
def test_page_does_not_scroll_sideways(page, width, looks):
    assert looks(page)["wide"][width] == []


@pytest.mark.parametrize("page", PAGES)
def test_equations_fit_where_there_is_room(page, looks):
    assert looks(page)["cut"] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", PAGES)
def test_words_stand_out_from_their_ground(page, theme, looks):
    assert looks(page)[theme] == []


@pytest.mark.parametrize("page", CHAPTERS)
def test_every_slider_moves_its_picture_by_keyboard(page, looks):
    sliders = looks(page)["sliders"]
    assert sliders, "a chapter has at least one slider"
    for slider in sliders:
        assert slider["frames"] >= 2, slider
        assert slider["same"] == [], f"{slider['name']}: these frames show nothing new"
        assert slider["unsaid"] == [], f"{slider['name']}: these values are shown, not spoken"
        assert len(slider["heights"]) == 1, f"{slider['name']} moves the page: {slider['heights']}"


@pytest.mark.parametrize("side", ["primary", "secondary"])
def test_menu_opens_on_a_phone(side, browser, address):
    visit = Visit(browser, address, width=390, height=844)
    visit.open(CHAPTERS[0])
    visit.page.locator(f".bd-header-article .{side}-toggle").click()
    inside = visit.page.locator(f"#pst-{side}-sidebar-modal a:visible")
    inside.first.wait_for(timeout=3000)
    assert inside.count() >= 5
    visit.close()


class Links(html.parser.HTMLParser):
    """The ids of a page, what it links to, and what it loads."""

    def __init__(self, page: Path):
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(page.read_text("utf8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.update(filter(None, (given.get("id"), given.get("name"))))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if given.get("src"):
            self.loads.append(given["src"])
        if tag == "link" and given.get("rel") != "canonical" and given.get("href"):
            self.loads.append(given["href"])


class Parsed(dict):
    """The pages of the site, each read when it is asked for."""

    def __missing__(self, name):
        self[name] = Links(SITE.resolve() / name)
        return self[name]

    def all(self):
        for page in SITE.resolve().rglob("*.html"):
            if not {"vendor", "_static"} & set(page.parts):
                name = page.relative_to(SITE.resolve()).as_posix()
                yield name, self[name]


@pytest.fixture(scope="module")
def parsed():
    return Parsed()


def test_every_link_within_the_site_resolves(parsed):
    lost = []
    site = SITE.resolve()
    for name, page in parsed.all():
        for link in {*page.links, *page.loads}:
            target, anchor = urldefrag(link)
            if ":" in target.split("/")[0]:
                continue
            file = ((site / name).parent / unquote(target.split("?")[0])).resolve()
            file = site / name if not target else file / "index.html" if file.is_dir() else file
            if not file.is_file():
                lost.append(f"{name}: {link}")
            elif anchor and file.suffix == ".html" and target != "#":
                known = parsed[file.relative_to(site).as_posix()].ids
                if unquote(anchor) not in known:
                    lost.append(f"{name}: {link}")
    assert sorted(lost) == []


def test_pages_load_nothing_from_another_host(parsed):
    foreign = [
        f"{name}: {load}"
        for name, page in parsed.all()
        for load in page.loads
        if load.startswith(("http:", "https:", "//"))
    ]
    assert foreign == []


@pytest.mark.parametrize("page", PAGES)
def test_page_is_light(page):
    assert (SITE / page).stat().st_size <= BYTES


@pytest.mark.parametrize("page", CHAPTERS)
def test_chapter_opens_in_colab_and_downloads(page, parsed):
    notebook = page.removesuffix(".html") + ".ipynb"
    owner = project()["urls"]["repository"].removeprefix("https://github.com/")
    colab = f"https://colab.research.google.com/github/{owner}/blob/main/{notebook}"
    assert colab in parsed[page].links
    downloads = [link for link in parsed[page].links if link.endswith(f"_sources/{notebook}")]
    assert downloads
    copy = json.loads((SITE / "_sources" / notebook).read_text("utf8"))
    assert "papermill" not in copy["metadata"]
    assert str(ROOT) not in json.dumps(copy)
