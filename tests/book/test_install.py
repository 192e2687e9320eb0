"""The environment is installed when it must be; an installation that broke off is done again."""

import os
import re
import shutil
import subprocess

import pytest

from pipeline import ROOT, project
from pipeline.checks import environment

# Stands for Python and for its copy in the environment: it notes what it is asked to do.
PYTHON = """\
#!/bin/sh
echo "$*" >>{log}
case "$*" in
"-c "*) exit {old} ;;
-V) echo "Python 3.9.2" ;;
"-m venv"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
"-m pip install"*) test ! -e {root}/broken ;;
esac
"""
FILES = ("requirements.txt", "requirements-test.txt", "pyproject.toml")


@pytest.fixture
def install(tmp_path):
    """Run install.sh with the stand-in; return its status, its words and what it asked for."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    log, python = tmp_path / "log", tmp_path / "python"

    def run(*what, old=0):
        python.write_text(PYTHON.format(log=log, root=tmp_path, old=old))
        python.chmod(0o755)
        log.write_text("")
        done = subprocess.run(
            ["sh", str(ROOT / "pipeline" / "install.sh"), str(python), "venv", *what],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
        )
        asked = [line for line in log.read_text().splitlines() if "pip install" in line]
        return done.returncode, done.stdout, asked

    return run


def test_the_first_time_installs_pins_and_package_and_the_second_nothing(install):
    status, _, asked = install()
    assert status == 0
    assert "-r requirements.txt" in asked[0] and "--no-deps" in asked[1]
    assert "requirements-test.txt" not in asked[0]
    assert install() == (0, "", [])


def test_what_tests_need_comes_on_top_and_the_book_then_asks_for_nothing(install):
    install()
    status, _, asked = install("test")
    assert status == 0 and "-r requirements.txt -r requirements-test.txt" in asked[0]
    assert install("test") == install() == (0, "", [])


@pytest.mark.parametrize("what", [(), ("test",)], ids=["book", "test"])
@pytest.mark.parametrize("changed", FILES)
def test_a_change_of_the_pins_installs_again_where_they_are_needed(
    install, tmp_path, changed, what
):
    install("test")
    with (tmp_path / changed).open("a") as file:
        file.write("# changed\n")
    needed = changed != "requirements-test.txt" or what
    assert len(install(*what)[2]) == (2 if needed else 0)
    assert install(*what)[2] == []


def test_an_installation_that_broke_off_is_done_again(install, tmp_path):
    (tmp_path / "broken").touch()
    assert install()[0] != 0
    assert not (tmp_path / "venv" / ".installed").exists()
    (tmp_path / "broken").unlink()
    status, _, asked = install()
    assert status == 0 and len(asked) == 2


def test_an_old_python_is_refused_by_its_version(install, tmp_path):
    status, said, _ = install(old=1)
    assert status != 0 and "Python 3.9.2; Python 3.11 or newer is needed" in said
    assert not (tmp_path / "venv").exists()


def test_what_is_missing_or_another_version_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("# pins\npytest==0.1\n")
    (tmp_path / "b.txt").write_text("no-such==1.0\nnor-this==1 ; platform_system == 'No'\n")
    told = environment.lacking(tmp_path / "a.txt", tmp_path / "b.txt")
    assert told[0].startswith("pytest is ") and told[0].endswith(", 0.1 is wanted")
    assert told[1:] == ["no-such 1.0 is missing"]


def pins(file):
    lines = (ROOT / file).read_text("utf8").splitlines()
    return dict(re.match(r"([\w.-]+)==(\S+)", line).groups() for line in lines if "==" in line)


def asked(*extras):
    """Return the packages that extras name, as the lists of pins spell them."""
    listed = project()["optional-dependencies"]
    lines = [line for extra in extras for line in listed[extra]]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in lines}
    return names - {project()["name"]}


def test_the_pins_are_what_the_extras_ask_for_and_no_set_repeats_another():
    book, test = pins("requirements.txt"), pins("requirements-test.txt")
    assert asked("train", "data", "plot", "notebook", "book") <= book.keys()
    assert asked("test") <= test.keys()
    assert not book.keys() & test.keys()
    peers = {"transformers", "reservoirpy"}
    assert peers <= test.keys(), "the book does without what it is compared with"


@pytest.mark.parametrize("file", sorted(f.name for f in ROOT.glob("requirements*.txt")))
def test_a_list_of_pins_names_no_index_no_path_and_no_local_build(file):
    for line in (ROOT / file).read_text("utf8").splitlines()[1:]:
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; platform_system == .Linux.)?", line), line
