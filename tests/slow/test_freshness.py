"""`make freshness` in a small copy: a chapter that a newer package breaks, and its name."""

import json
from importlib.metadata import version

import pytest

from tests.book.scratch import Scratch

# Stands for a chapter that uses what a package has dropped.
PICKY = """\
from importlib.metadata import version
if version("{package}") != "{pinned}":
    raise AttributeError("module {package} has changed")
"""


def test_the_package_that_breaks_a_chapter_is_named(tmp_path):
    # torch's CPU build takes any triton, so triton is newer than the pin before long.
    book, pinned = Scratch(tmp_path), version("triton")
    book.write("tiny/two", PICKY.format(package="triton", pinned=pinned))
    torch = version("torch").partition("+")[0]
    process = book.start("make", "freshness", f"KEEP=torch=={torch}")
    said = process.communicate(timeout=1500)[0]
    print(said)
    told = json.loads((book.root / "_build" / "freshness" / "status.json").read_text())
    if "triton" not in told["packages"]:
        pytest.skip(f"triton {pinned} is the newest")
    newest = told["packages"]["triton"][1]
    found = {status["name"]: status for status in told["statuses"]}
    assert process.returncode != 0
    assert found["tiny/one"]["works"] and not found["tiny/two"]["works"]
    assert found["tiny/two"]["culprit"] == f"triton {pinned} → {newest}"
    assert found["tiny/two"]["error"] == "AttributeError: module triton has changed"
    page = (book.root / "_build" / "freshness" / "index.html").read_text("utf8")
    assert f"triton {pinned} → {newest}" in page
    assert not (book.root / "_build" / "html").exists(), "the book itself is not touched"
