"""What the package knows of its distribution: its name, its address, its extras."""

from email.message import Message
from importlib import metadata

import pytest

from nnlib import distribution
from pipeline import address, project


def test_the_address_is_read_in_a_clone_and_as_it_was_installed(tmp_path, monkeypatch):
    assert project()["name"] == distribution.NAME
    assert distribution.repository() == address()
    monkeypatch.setattr(distribution, "__file__", str(tmp_path / "nnlib" / "distribution.py"))
    told = Message()
    told["Project-URL"] = f"repository, {address()}"
    monkeypatch.setattr(distribution.metadata, "metadata", lambda name: told)
    assert distribution.repository() == address()


def test_where_nothing_tells_the_address_there_is_none(tmp_path, monkeypatch):
    def unknown(name):
        raise metadata.PackageNotFoundError(name)

    (tmp_path / "pyproject.toml").write_text('[project]\nname = "of somebody else"\n')
    monkeypatch.setattr(distribution, "__file__", str(tmp_path / "nnlib" / "distribution.py"))
    monkeypatch.setattr(distribution.metadata, "metadata", unknown)
    assert distribution.repository() == ""


def test_what_only_an_extra_brings_is_asked_for_by_its_name():
    with distribution.extra("data"):
        import json  # noqa: F401 - only whether it is there
    told = r'no_such_module is not installed.*pip install "executable-encyclopedia\[data\]"'
    with pytest.raises(ModuleNotFoundError, match=told) as caught, distribution.extra("data"):
        import no_such_module  # noqa: F401 - it is not
    assert caught.value.name == "no_such_module"


def test_another_error_within_is_not_taken_for_a_missing_package():
    with pytest.raises(ZeroDivisionError), distribution.extra("data"):
        raise ZeroDivisionError
