"""What a page costs its reader: bytes, jumps, type, code, colours, stops for the keyboard."""

from urllib.parse import urlsplit

import pytest

from pipeline.checks.measuring import KILOBYTES, LATENCY, SMALLEST
from tests.book.looking import CHAPTERS, PAGES, REASON, SHIFT

LANDING = PAGES[0]
KB = {LANDING: 400} | dict.fromkeys(CHAPTERS, 700)  # transferred, with gzip
STOPS = 60
# The first paint of a slow line waits for the page's head and its style sheets, while the rest of
# the page takes half of the line: three answers late, what may come in two seconds is this.
KB_BEFORE_PAINT = (2.0 - 3 * LATENCY / 1000) * KILOBYTES / 2
# What every page may run; a chapter's live parts bring theirs when a reader touches them.
SCRIPTS = {"nn.js"}

if REASON:
    pytest.skip(f"the site is not looked at: {REASON}", allow_module_level=True)


@pytest.mark.parametrize("page", KB)
def test_few_bytes_come_over_the_line(page, looks):
    weight = looks(page)["weight"]
    assert weight["kBgz"] <= KB[page], weight["parts"][:5]


@pytest.mark.parametrize("page", PAGES)
def test_text_is_painted_before_any_script(page, looks):
    seen = looks(page)
    assert seen["holding"] == []
    assert seen["weight"]["blockinggz"] <= KB_BEFORE_PAINT


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_for_no_script_that_it_does_not_use(page, looks):
    asked = {urlsplit(path).path.rpartition("/")[2] for path in looks(page)["weight"]["scripts"]}
    assert asked - SCRIPTS == set()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_jumps_while_a_page_comes(page, width, looks):
    seen = looks(page)
    assert seen["shift"][width] <= SHIFT, seen["shifts"][width]


@pytest.mark.parametrize("width", SMALLEST)
@pytest.mark.parametrize("page", CHAPTERS)
def test_type_in_figures_is_large_enough_to_read(page, width, looks):
    found = looks(page)["types"][width]
    assert found, "a chapter's figures have words"
    assert [label for label in found if label[0] < SMALLEST[width] - 0.01] == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("kind", ["words", "lines"])
@pytest.mark.parametrize("page", CHAPTERS)
def test_figures_stand_out_from_their_ground(page, kind, theme, looks):
    """Words have 4.5 : 1 (large ones 3 : 1), lines 3 : 1, against what surrounds them.

    Words are held to the worst of three places under them. A line is held to what lies a pixel
    beside it, on the side from which it is seen best: the page, a patch that it lies on, or its
    casing. It must stand out for most of its length, so it may cross a patch of its own brightness,
    and may not lie on one. Exempt are

    * `nn-axis`: what an axis consists of, its line, ticks and grid, which only help to read off;
    * `nn-casing`: what sets off another line;
    * edges of filled shapes, which differ by their fill;
    * what is drawn faint, with an opacity of 0.8 or less, as context of something that is not:
      single runs behind their mean, a trail, contours of a map.
    """
    assert looks(page)["pale"][theme][kind] == []


@pytest.mark.parametrize("page", PAGES)
def test_code_shows_whole_where_there_is_room(page, looks):
    assert looks(page)["code"]["which"] == []


@pytest.mark.parametrize("page", [LANDING, *CHAPTERS])
def test_the_end_of_a_section_is_few_stops_away(page, looks):
    stops = looks(page)["stops"]
    assert stops["before"] + stops["section"] <= STOPS
