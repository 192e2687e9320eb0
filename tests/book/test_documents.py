"""The documents around the book tell the truth: commands, files and links in them exist."""

import re
from pathlib import Path

import pytest

from pipeline import ROOT, project

DECISIONS = sorted((ROOT / "decisions").glob("[0-9]*.md"))
DOCUMENTS = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "profiles/README.md")
    ),
    *sorted((ROOT / "decisions").glob("*.md")),
    *sorted((ROOT / "chapters").glob("*.md")),
]
# Made by a command, or an example of a name that does not exist yet.
MADE = ("_build", ".venv", ".cache", "_extra", "chapters/vision", "nnlib/vision", "tests/vision")


def every_document(check):
    names = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
    return pytest.mark.parametrize("document", DOCUMENTS, ids=names)(check)


@every_document
def test_every_make_command_exists(document):
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    text = document.read_text(encoding="utf-8")
    used = {m[1] for m in re.finditer(r"(?:`|^|&& )make ([a-z]+)", text, re.M)}
    assert used <= set(targets), f"{document.name} names {used - set(targets)}"


@every_document
def test_every_named_file_exists(document):
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:md|toml|txt|bib|yml))`", text))
    paths = {path for path in named if not path.startswith((*MADE, "torch.", "text/", "image/"))}
    lost = {path for path in paths if not _stands(path)}
    assert not lost, f"{document.name} names files that do not exist: {sorted(lost)}"


def _stands(path):
    tops = {item.name for item in ROOT.iterdir()}
    if "/" in path and path.split("/")[0] not in tops:
        return True  # no path of the repository
    return (ROOT / path).exists() or path in ("name.md",)


@every_document
def test_every_relative_link_leads_somewhere(document):
    text = document.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    generated = {"architectures.md", "gallery.md", "index.md", "truth.md", "ways.md"}
    lost = [
        link
        for link in links
        if not (document.parent / link).resolve().exists() and Path(link).name not in generated
    ]
    assert not lost, f"{document.name} links to {lost}"


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_a_decision_has_its_three_parts_and_is_listed(page):
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", text, re.M) == ["Context", "Decision", "Consequence"]
    assert re.match(rf"# {page.stem[:4]} ", text)
    assert f"({page.name})" in (ROOT / "decisions" / "README.md").read_text(encoding="utf-8")


def test_every_direct_dependency_is_explained():
    lines = [*project()["dependencies"]]
    for extra in project()["optional-dependencies"].values():
        lines += extra
    direct = {re.match(r"[\w-]+", line)[0] for line in lines} - {project()["name"]}
    told = (ROOT / "decisions" / "0005-dependencies.md").read_text(encoding="utf-8")
    silent = {name for name in direct if not re.search(rf"\b{re.escape(name)}\b", told)}
    plumbing = {"ipykernel", "setuptools"}  # what the others need to run at all
    assert silent <= plumbing, f"decisions/0005-dependencies.md says nothing of {silent - plumbing}"


def test_all_six_foundations_train_on_real_data_as_their_page_says():
    family = ROOT / "chapters" / "foundations"
    assert "All six train on real data" in (family / "index.md").read_text(encoding="utf-8")
    chapters = {page.stem: page.read_text(encoding="utf-8") for page in family.glob("*.md")}
    del chapters["index"]
    assert len(chapters) == 6
    real = re.compile(r"^from nnlib\.data\.(tables|pictures) import", re.M)
    assert [name for name, text in chapters.items() if not real.search(text)] == []
