"""What goes wrong in a book leaves the last good site readable, and says what and where.

Every test really runs `make` in a small copy of the project (see scratch.py), one after the other:
each leaves the copy as it found it, with a good site.
"""

import os
import shutil
import signal
import subprocess

import pytest

from tests.book.scratch import Scratch, kernels, wait_for

GOOD = "from nnlib.data import split\nprint('two', steps)"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The copy, built once."""
    if not shutil.which("make"):
        pytest.skip("there is no make here")
    scratch = Scratch(tmp_path_factory.mktemp("book"))
    status, said = scratch.run("make", "book")
    if status and "npm could not fetch" in said:
        pytest.skip("the browser files are not cached, and there is no network")
    assert status == 0, said
    assert "[2/2]" in said and "total" in said and "book: _build/html/index.html" in said
    return scratch


@pytest.fixture
def book(built):
    """The copy with a good site; afterwards whole again."""
    yield built
    built.write("tiny/two", GOOD)


def site(book):
    """Return where the site is and what its page of chapter two says."""
    return os.readlink(book.root / "_build" / "html"), book.page("tiny/two")


def test_nothing_to_do_runs_no_step_and_still_shows_the_times(book):
    before = site(book)
    status, said = book.run("make", "book")
    assert status == 0 and "…" not in said
    assert "tiny/one" in said and "tiny/two" in said
    assert site(book) == before


def test_what_has_a_new_time_and_the_old_content_runs_nothing(book):
    for file in ("nnlib/data/split.py", "chapters/tiny/two.ipynb", "chapters/tiny/two.md"):
        (book.root / file).touch()
    status, said = book.run("make", "book")
    assert status == 0 and "… tiny" not in said, said


def test_an_edit_reruns_the_chapters_that_import_it_and_no_other(book):
    with (book.root / "nnlib" / "data" / "split.py").open("a") as module:
        module.write("\n# edited\n")
    status, said = book.run("make", "book")
    assert status == 0, said
    assert "[1/1] tiny/two" in said and "… tiny/one" not in said


def test_a_chapter_that_raises_is_named_and_stops_no_other(book):
    before = site(book)
    book.write("tiny/two", "wanted = 7\nraise RuntimeError('on purpose')")
    book.write("tiny/one", "print('again')")
    status, said = book.run("make", "book")
    assert status != 0
    for words in (
        "✗ tiny/two failed in cell 3 (In [2]), chapters/tiny/two.md:21",
        "RuntimeError: on purpose",
        "    | wanted = 7\n",
        "_build/failed/chapters/tiny/two.ipynb",
        "failed: tiny/two",
        "still shows the last good site",
    ):
        assert words in said, said
    assert (book.root / "_build/failed/chapters/tiny/two.ipynb").exists()
    assert "again" in book.executed("tiny/one").read_text("utf8")
    assert site(book) == before


def test_a_missing_pair_is_named_and_the_site_stays(book):
    before = site(book)
    page = book.root / "chapters" / "tiny" / "two.md"
    page.unlink()
    status, said = book.run("make", "book")
    assert status != 0
    assert "chapters/tiny/two.md is missing beside two.ipynb" in said, said
    assert site(book) == before


def test_a_text_changed_without_its_notebook_is_named(book):
    before = site(book)
    page = book.root / "chapters" / "tiny" / "two.md"
    page.write_text(page.read_text("utf8").replace("steps = 3", "steps = 4"), "utf8")
    status, said = book.run("make", "book")
    assert status != 0
    assert "chapters/tiny/two" in said and "differ in the source of cell 2" in said, said
    assert site(book) == before


@pytest.mark.parametrize(
    ("chapter", "params", "told"),
    [
        ("tiny/two", "stepps=5", "tiny/two has no parameter 'stepps'; it has steps"),
        ("tiny/two", "steps=five", "parameter steps='five' must be a whole number"),
        ("tiny/two", "steps", "PARAMS has 'steps'; it takes name=value pairs"),
        (
            "tiny/too",
            "steps=5",
            "there is no chapter 'tiny/too' (family/name); did you mean tiny/two",
        ),
    ],
)
def test_a_bad_parameter_is_named_before_anything_runs(book, chapter, params, told):
    status, said = book.run("make", "figures", f"CHAPTER={chapter}", f"PARAMS={params}")
    assert status != 0
    assert told in said, said


def test_a_killed_book_leaves_the_old_site_and_the_next_one_succeeds(book):
    before = site(book)
    book.write("tiny/two", "import time\nprint('slow')\ntime.sleep(60)")
    process = book.start("make", "book")
    try:
        wait_for(lambda: kernels(book), "a kernel")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert site(book) == before
    wait_for(lambda: not kernels(book), "the end of the kernel")
    book.write("tiny/two", "print('after the kill')")
    status, said = book.run("make", "book")
    assert status == 0, said
    assert "after the kill" in book.page("tiny/two")


def test_the_whole_book_is_built_without_a_network(book):
    if subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode:
        pytest.skip("this machine does not let us take the network away (unshare -rn)")
    before = os.readlink(book.root / "_build" / "html")
    book.write("tiny/two", f"{OFFLINE}\nprint('no network')")
    for made in ("_build/executed", "_build/stamps", "_build/jb", "_extra/vendor", ".snakemake"):
        shutil.rmtree(book.root / made)
    status, said = book.run("unshare", "-rn", "make", "book")
    assert status == 0, said
    assert "no network" in book.page("tiny/two")
    assert os.readlink(book.root / "_build" / "html") != before


OFFLINE = """\
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    assert "unreachable" in str(error), error"""
