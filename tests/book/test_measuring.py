"""`make pages` counts right: on a page whose bytes, pixels and colours are known."""

import gzip
import json
import urllib.request

import pytest

from pipeline.checks import page_tables, pages
from pipeline.checks.measuring import measure
from pipeline.site.browser import browsing, served, why_not

STYLE = """\
body { margin: 0; background: #fff; font: 16px sans-serif }
nav a { display: block }
pre { width: 400px; padding: 0; overflow-x: auto; font: 10px/1.5 monospace }
figure { margin: 0 }
.late { height: 0 }
"""
SCRIPT = "document.documentElement.dataset.ran = 'yes';\n" + "// filling\n" * 500
PAGE = """\
<!doctype html><html><head><meta name="viewport" content="width=device-width">
<title>Known</title><link rel="icon" href="data:,">
<link rel="stylesheet" href="_static/look.css">
<script src="_static/known.js"></script></head><body>
<nav><a href="#one">one</a><a href="#two">two</a><a href="#out" tabindex="-1">out</a></nav>
<article><section id="known"><h1>Known</h1>
<section id="one"><h2>One</h2><a href="#two">on</a>
<div style="height: 1600px"></div>
<div class="highlight"><pre>SHORT
LONG
</pre></div>
<details><summary>more</summary><div class="highlight"><pre>LONG</pre></div></details></section>
<section id="two"><h2>Two</h2><button>b</button><button disabled>no</button>
<figure class="nn-figure" id="figure-known">
<svg viewBox="0 0 200 100" width="100" role="img" aria-label="known">
<rect width="100" height="100" fill="#000"/>
<clipPath id="left"><path d="M0 0H100V100H0z"/></clipPath>
<g clip-path="url(#left)"><rect x="102" y="30" width="98" height="60" fill="#111"/></g>
<text x="110" y="50" font-size="20" fill="#000">black</text>
<text x="110" y="80" font-size="16" fill="#ee6677">red</text>
<text x="10" y="50" font-size="24" fill="#222">dark</text>
<path d="M0 90H190" fill="none" stroke="#000" stroke-width="4"/>
<path d="M10 80H200" fill="none" stroke="#000" stroke-width="4"/>
<path d="M100 10V80" fill="none" stroke="#000" stroke-width="4"/>
<g class="nn-casing"><path d="M5 15H95" fill="none" stroke="#fff" stroke-width="8"/></g>
<path d="M5 15H95" fill="none" stroke="#222" stroke-width="4"/>
<g class="nn-axis"><path d="M110 95H190" fill="none" stroke="#ccc" stroke-width="4"/></g>
<path d="M110 20H190" fill="none" stroke="#ccbb44" stroke-width="4"/>
<path d="M110 10H190" fill="none" stroke="#ccc" stroke-opacity="0.2" stroke-width="4"/>
<path id="i1-DVS-41" d="M0 0H9V9" transform="scale(.02)"/>
<g transform="translate(120 60) scale(.1 -.1)" fill="#888"><use href="#i1-DVS-41"/></g>
</svg><figcaption>known</figcaption></figure></section></section></article>
<script>setTimeout(() => { for (const end = performance.now() + 300; performance.now() < end;); })
</script></body></html>
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    (folder / "_static").mkdir()
    (folder / "_static" / "look.css").write_text(STYLE)
    (folder / "_static" / "known.js").write_text(SCRIPT)
    text = PAGE.replace("LONG", "x" * 100).replace("SHORT", "x" * 40)
    (folder / "index.html").write_text(text)
    if reason := why_not(folder):
        pytest.skip(reason)
    return folder


@pytest.fixture(scope="module")
def seen(site):
    with served(site) as address, browsing() as browser:
        return measure(browser, address, "index.html", chapter=True)


def test_bytes_are_those_of_the_files(site, seen):
    files = [site / "index.html", site / "_static/look.css", site / "_static/known.js"]
    sizes = [len(file.read_bytes()) for file in files]
    packed = [len(gzip.compress(file.read_bytes(), 6, mtime=0)) for file in files]
    assert seen["requests"] == 3
    assert seen["kB"] == pytest.approx(sum(sizes) / 1000, abs=0.06)
    assert seen["kBgz"] == pytest.approx(sum(packed) / 1000, abs=0.06)
    assert seen["jsgz"] == pytest.approx(packed[2] / 1000, abs=0.06)
    assert seen["blockinggz"] == pytest.approx(sum(packed[1:]) / 1000, abs=0.06)
    assert seen["holding"] == ["/_static/known.js"]


def test_who_takes_no_gzip_gets_the_file(site):
    with served(site) as address, urllib.request.urlopen(address + "_static/known.js") as answer:
        assert answer.headers["Content-Encoding"] is None
        assert answer.read().decode() == SCRIPT


def test_stops_of_the_keyboard_are_counted(seen):
    # two links; then link, the block that scrolls, the fold; then the button
    assert seen["stops"] == {"all": 6, "before": 2, "first": 5, "section": 2}


def test_code_is_held_to_its_box(seen):
    for width in (1280, 1440, 390):
        code = seen[f"code_{width}"]
        assert (code["blocks"], code["cut"]) == (2, 2)
        assert (code["lines"], code["linesCut"]) == (3, 2)


def test_type_is_measured_as_shown(seen):
    for width, small in ((1280, 4), (390, 3)):  # 8, 10, 12 and, outlined, 5 px
        kind = seen[f"type_{width}"]
        assert (kind["labels"], kind["least"], kind["median"]) == (4, 5, 10)
        assert kind["small"] == small - 1


def test_pale_words_and_lines_are_found_on_their_own_ground(seen):
    pale = seen["pale"]["light"]
    found = [word.split(": ")[1] for word in pale["words"]]
    assert sorted(found) == [
        "1.32 #222222 on #000000 “dark”",
        "3.09 #ee6677 on #ffffff “red”",
        "3.54 #888888 on #ffffff “”",
    ]
    # The black line for most of its length on black; not those that leave it, that run along its
    # edge, that are cased; no axis, and nothing that is faint.
    found = [line.split(": ")[1] for line in pale["lines"]]
    assert found == ["1.00 #000000 on #000000", "1.95 #ccbb44 on #ffffff"]


def test_the_page_was_busy_and_painted(seen):
    assert seen["blocked_ms"] >= 200
    assert seen["paint"] is not None and seen["slow_paint"] is not None
    assert seen["screens"] >= 2 and 2 < seen["figure"] < 3 and seen["slider"] is None


def test_tables_show_before_and_after(seen):
    old = json.loads(json.dumps(seen)) | {"requests": 58}
    text = page_tables.tables({"index.html": seen}, {"index.html": old})
    first, second = text.split("## Chapters")
    assert "| index | 58 → 3 | " in first and text.count("→") == 1
    assert "| index | 2/2 | 2/3 | 2/2 | 2/3 |" in second
    assert "→" not in page_tables.tables({"index.html": seen})


def test_every_page_is_found_those_of_the_book_first(tmp_path):
    for name in ("search.html", "chapters/intro.html", "_static/x.html", "vendor/y.html"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.touch()
    forward = '<meta http-equiv="Refresh" content="0; url=chapters/intro.html" />\n'
    (tmp_path / "index.html").write_text(forward)
    assert pages.every_page(tmp_path) == ["chapters/intro.html", "search.html"]
