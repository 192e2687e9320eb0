"""Ten kills, a full disk, a package gone, files damaged: the book ends well or says what to do.

Each test works in a small copy of the project (tests/book/scratch.py), and after each fault asks
two things: is the last good site still whole, and does the next `make book` end well?
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.book.scratch import Scratch, kernels, wait_for

KILLS = 10


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A copy with a good site."""
    scratch = Scratch(tmp_path_factory.mktemp("book"))
    status, said = scratch.run("make", "book")
    assert status == 0, said
    return scratch


def whole(book: Scratch) -> dict[str, bytes]:
    """Return the site's pages, after asking that every file that they name is there."""
    html = (book.root / "_build" / "html").resolve()
    files = [file for file in html.rglob("*.html") if "_static" not in file.parts]  # fragments
    pages = {str(file.relative_to(html)): file.read_bytes() for file in files}
    assert {"index.html", "chapters/tiny/one.html", "chapters/tiny/two.html"} <= set(pages)
    for name, content in pages.items():
        text = content.decode("utf8")
        assert text.rstrip().endswith(("</html>", "/>")), f"{name} is cut off"  # or a redirection
        for link in re.findall(r'(?:src|href)="([^"#?:]+)["#?]', text):
            file = (html / name).parent / link
            assert file.exists(), f"{name} names {link}, which is not there"
    return pages


def everything_is_to_be_done(book: Scratch, mark: str) -> None:
    """Change both chapters and forget every step."""
    for chapter in ("tiny/one", "tiny/two"):
        book.write(chapter, f"import nnlib.catalog\nprint({mark!r})")
    for made in ("_build/stamps", "_build/truth.json", "_extra/vendor"):
        path = book.root / made
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def ends_well(book: Scratch, mark: str) -> None:
    status, said = book.run("make", "book")
    assert status == 0, said
    assert mark in book.page("tiny/one") and mark in book.page("tiny/two")
    whole(book)


def test_ten_kills_spread_over_a_run(book):
    everything_is_to_be_done(book, "timed")
    begin = time.monotonic()
    ends_well(book, "timed")
    seconds = time.monotonic() - begin
    where = []
    for at in range(KILLS):
        before = whole(book)
        everything_is_to_be_done(book, f"kill {at}")
        process = book.start("make", "book")
        try:
            said = process.communicate(timeout=seconds * (at + 0.5) / KILLS)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            said = process.communicate()[0]
        where.append((said.strip().splitlines() or ["before a word"])[-1])
        wait_for(lambda: not kernels(book), "the end of the kernels")
        after = whole(book)
        assert after == before or f"kill {at}" in book.page("tiny/two"), "neither old nor new"
        ends_well(book, f"kill {at}")
    print(f"a run takes {seconds:.1f} s; killed after", *where, sep="\n  ")
    assert len(set(where)) >= 4, f"the kills all fell on the same steps: {where}"


@pytest.mark.parametrize("left", [0, 100_000, 1_000_000, 6_000_000])
def test_a_full_disk(tmp_path, left):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    try:
        book = Scratch(disk)
        (disk / "tmp").mkdir()
        status, said = book.run("make", "book")
        assert status == 0, said
        before = whole(book)
        everything_is_to_be_done(book, f"{left} left")
        fill(disk / "filler", left)
        status, said = book.run("env", f"TMPDIR={disk}/tmp", "make", "book")
        print(f"--- {left} bytes left:\n{said}")
        assert status != 0
        assert re.search(r"the disk has \d\.\d MB left: make room", said), said
        assert whole(book) == before
        (disk / "filler").unlink()
        ends_well(book, f"{left} left")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(file: Path, left: int) -> None:
    """Take all of a disk but `left` bytes."""
    with file.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(bytes(1 << 20))
        except OSError:
            pass
    free = os.statvfs(file.parent)
    have = free.f_bavail * free.f_frsize
    with file.open("r+b") as filler:
        filler.truncate(max(0, file.stat().st_size + have - left))


def test_a_broken_chapter(book):
    before = whole(book)
    book.write("tiny/two", "raise RuntimeError('on purpose')")
    status, said = book.run("make", "book")
    assert status != 0 and "RuntimeError: on purpose" in said and "last good site" in said, said
    assert whole(book) == before
    everything_is_to_be_done(book, "mended")
    ends_well(book, "mended")


def test_a_removed_package_is_named_and_put_back(tmp_path):
    book = Scratch(tmp_path)
    own_packages(book, "papermill")
    ends_well_at_first = book.run("make", "book")
    assert ends_well_at_first[0] == 0, ends_well_at_first[1]
    before = whole(book)
    pip = (".venv/bin/python", "-m", "pip")
    status, said = book.run(*pip, "uninstall", "--quiet", "--yes", "papermill")
    assert status == 0, said
    everything_is_to_be_done(book, "without papermill")
    status, said = book.run("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=", "make", "book")
    print(f"--- without a network:\n{said}")
    assert status != 0 and "papermill 2" in said and "is missing" in said, said
    assert whole(book) == before
    status, said = book.run("make", "book")
    print(f"--- with one:\n{said}")
    assert status == 0 and "installing requirements.txt" in said, said
    ends_well(book, "without papermill")


def own_packages(book: Scratch, *names: str) -> None:
    """Give the copy an environment that may be changed: its packages are links, but for these."""
    venv, real = book.root / ".venv", Path(sys.prefix)
    site = Path(f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages")
    for name in ("bin", "lib", "pyvenv.cfg"):
        (venv / name).unlink()
    shutil.copy(real / "pyvenv.cfg", venv)
    shutil.copytree(real / "bin", venv / "bin", symlinks=True)
    (venv / site).mkdir(parents=True)
    for item in (real / site).iterdir():
        if re.match(rf"(__editable__|{'|'.join(names)}|nnlib)", item.name):
            copy = shutil.copytree if item.is_dir() else shutil.copy
            copy(item, venv / site / item.name)
        else:
            (venv / site / item.name).symlink_to(item)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("_build/executed/chapters/tiny/two.ipynb", b"{ not a notebook"),
        ("_build/executed/chapters/tiny/two.ipynb", b""),
        ("_build/executed/chapters/tiny/two.json", b"[]"),
        ("_extra/vendor/fonts/source-serif-4-latin-wght-normal.woff2", None),
    ],
)
def test_a_damaged_file_is_made_again(book, file, content):
    everything_is_to_be_done(book, "before the damage")
    ends_well(book, "before the damage")
    path = book.root / file
    good = path.read_bytes()
    # Of the same length, where no content is given: a flipped bit changes no size.
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]) if content is None else content)
    ends_well(book, "before the damage")
    if "vendor" in path.parts:
        assert path.read_bytes() == good
    else:
        assert path.read_bytes() != content
    status, said = book.run("make", "book")
    assert status == 0 and "✓" not in said, said


def test_a_damaged_download_is_fetched_again(book):
    link = book.root / ".cache"
    real = link.resolve()
    link.unlink()
    shutil.copytree(real / "vendor", link / "vendor")
    try:
        tarball = next((link / "vendor").glob("*.tgz"))
        tarball.write_bytes(b"damaged")
        everything_is_to_be_done(book, "after the download")
        ends_well(book, "after the download")
        assert tarball.stat().st_size > 1000
    finally:
        shutil.rmtree(link)
        link.symlink_to(real)
