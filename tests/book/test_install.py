"""The environment is installed when it must be; an installation that broke off is done again."""

import os
import shutil
import subprocess

import pytest

from pipeline import ROOT

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


@pytest.fixture
def install(tmp_path):
    """Run install.sh with the stand-in; return its status, its words and what it asked for."""
    for name in ("requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    log, python = tmp_path / "log", tmp_path / "python"

    def run(old=0):
        python.write_text(PYTHON.format(log=log, root=tmp_path, old=old))
        python.chmod(0o755)
        log.write_text("")
        done = subprocess.run(
            ["sh", str(ROOT / "pipeline" / "install.sh"), str(python), "venv"],
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
    assert install() == (0, "", [])


@pytest.mark.parametrize("changed", ["requirements.txt", "pyproject.toml"])
def test_a_change_of_the_pins_installs_again(install, tmp_path, changed):
    install()
    with (tmp_path / changed).open("a") as file:
        file.write("# changed\n")
    assert len(install()[2]) == 2
    assert install()[2] == []


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
