"""The generated pages: complete, stable, and true to the catalogue and the tests."""

import importlib
import itertools
import json
import re
from fnmatch import fnmatch
from xml.etree import ElementTree

import pytest

from nnlib import catalog
from pipeline import ROOT
from pipeline.site import family_tree as tree
from pipeline.site import generated_pages as pages
from pipeline.site import truth_pages
from pipeline.site.sphinx_nnlib import home


@pytest.fixture(scope="module")
def made():
    return pages.pages()


@pytest.fixture(scope="module")
def drawing():
    html = tree.draw(catalog.ARCHITECTURES, lambda row: f"{row.name}.html")
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", html, re.S)[0])


def test_every_generated_page_is_in_the_table_of_contents(made):
    toc = (ROOT / "_toc.yml").read_text(encoding="utf-8")
    listed = re.findall(r"(?:file|glob): (\S+)", toc)
    names = [page.removesuffix(".md") for page in made]
    lost = [name for name in names if not any(fnmatch(name, pattern) for pattern in listed)]
    assert not lost, f"_toc.yml lacks {lost}"


def test_every_architecture_stands_on_the_page_and_in_the_tree(made, drawing):
    drawn = {node.get("id") for node in drawing.iter()}
    for row in catalog.ARCHITECTURES:
        assert f"{row.title}" in made["architectures.md"]
        assert f"tree-{row.name}" in drawn


def test_only_written_architectures_are_linked(drawing):
    linked = {node.get("href") for node in drawing.iter() if node.get("href")}
    assert linked == {f"{row.name}.html" for row in catalog.written()}


def test_every_ancestor_has_its_curve(drawing):
    curves = sum("edge" in (node.get("class") or "") for node in drawing.iter())
    assert curves == sum(len(row.ancestors) for row in catalog.ARCHITECTURES)


def test_labels_stay_inside_and_apart():
    for family in catalog.FAMILIES:
        rows = catalog.members(family)
        placed, _ = tree.pack((row.label, row.year) for row in rows)
        spans = []
        for label, (x, track, leftward) in placed.items():
            end = x - 8 - tree.LETTER * len(label) if leftward else x + 8 + tree.LETTER * len(label)
            assert 0 <= end <= tree.WIDTH, label
            spans.append((track, min(x, end), max(x, end), label))
        spans.sort()
        for (track, _, end, one), (next_track, begin, _, other) in itertools.pairwise(spans):
            assert track != next_track or end <= begin, (one, other)


def test_later_years_stand_further_right():
    places = [tree.across(year) for year in range(1948, 2026)]
    assert places == sorted(places)


def test_every_public_module_is_in_the_reference(made):
    text = "".join(made.values())
    for file in (ROOT / "nnlib").rglob("*.py"):
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if not file.stem.startswith("_"):
            assert f".. automodule:: {module}\n   :members:\n   :inherited-members:" in text


def test_source_pages_link_to_the_one_place_where_a_thing_is_documented():
    app = None  # it is not asked
    gpt, xlstm = "nnlib.attention.gpt", "nnlib.sequence.xlstm"
    for name in ("GPT", "GPT.hidden", "GPT.generate"):  # the last is inherited
        assert home(app, gpt, name) == gpt
    assert home(app, xlstm, "MLSTMBlock.select").endswith("._xlstm_blocks")
    original = "nnlib.blocks.language_model"
    assert home(app, original, "next_token_loss") == original
    assert home(app, gpt, "next_token_loss") == gpt  # it is imported there: no source
    assert home(app, gpt, "nothing") is None


def test_the_reference_ends_a_class_where_the_libraries_of_others_begin():
    """What autodoc adds to a class, up to a base of `FOREIGN`, is documented in nnlib."""
    ends, strange = set(pages.FOREIGN.split(", ")), []
    for name, cls in _public_classes():
        bases = itertools.takewhile(lambda base: base.__name__ not in ends, cls.__mro__[1:])
        strange += [
            f"{name} would show {member} of {base.__module__}.{base.__name__}"
            for base in bases
            if not base.__module__.startswith("nnlib.")
            for member, value in vars(base).items()
            if not member.startswith("_") and value.__doc__
        ]
    assert not strange, "\n".join(strange)


def _public_classes():
    for file in (ROOT / "nnlib").rglob("*.py"):
        if not file.stem.startswith("_"):
            module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
            for name in getattr(module, "__all__", vars(module)):
                cls = getattr(module, name)
                public = isinstance(cls, type) and not name.startswith("_")
                if public and cls.__module__.startswith(module.__package__):
                    yield f"{module.__name__}.{name}", cls


def _table(tmp_path, outcomes):
    (tmp_path / "chapters" / "foundations").mkdir(parents=True)
    (tmp_path / "tests").mkdir()
    (tmp_path / "_build").mkdir()
    (tmp_path / "pyproject.toml").write_text('[project]\nurls = {repository = "https://host/book"}')
    page = tmp_path / "chapters" / "foundations" / "mlp.md"
    page.write_text("# MLP\n\n$$\n|a| = b\n$$ (mlp-a)\n\n$$c$$ (mlp-c)\n")
    (tmp_path / "tests" / "test_mlp.py").write_text("\n\ndef test_it_is_so():\n    pass\n")
    tests = [{"id": f"tests/test_mlp.py::test_it_is_so[{n}]", "outcome": o} for n, o in outcomes]
    report = {"mlp-a": {"chapter": "foundations/mlp", "tests": tests}}
    (tmp_path / "_build" / "truth.json").write_text(json.dumps(report))
    return truth_pages.pages(tmp_path)


def test_the_truth_table_links_equations_and_tests(tmp_path):
    made = _table(tmp_path, [(1, "passed"), (2, "passed")])
    text = made["truth/foundations.md"]
    link = "[it is so](https://host/book/blob/main/tests/test_mlp.py#L3)"
    first, second = re.findall(r'<div class="nn-proof".*?</div>', text, re.S)
    assert 'id="mlp-a" data-state="verified">\n\n$$\n|a| = b\n$$' in first
    assert "{eq}`mlp-a`" in first and f"- ✓ {link} × 2\n" in first
    assert 'id="mlp-c" data-state="unrun"' in second and "not run" in second
    assert "- ✓" not in second
    assert "**1 of 2 equations are verified, by 2 tests.**" in made["truth.md"]
    assert "## [Foundations](truth/foundations.md)" in made["truth.md"]
    assert "](chapters/foundations/mlp.md) | 1 of 2 | 2 |" in made["truth.md"]


def test_the_truth_table_shows_failures(tmp_path):
    text = _table(tmp_path, [(1, "passed"), (2, "failed")])["truth/foundations.md"]
    assert 'id="mlp-a" data-state="failed"' in text
    assert "- ✗ [it is so]" in text and "× 2 (1 failed)" in text
    assert '<option value="failed">' in text and '<option value="verified">' not in text


def test_the_truth_table_keeps_the_order_of_the_book():
    made = truth_pages.pages(ROOT)
    order = [row.title for row in catalog.ARCHITECTURES]
    for family in {row.family for row in catalog.written()}:
        heads = re.findall(r"^## \[(.+?)\]", made[f"truth/{family}.md"], re.M)
        assert heads == sorted(heads, key=order.index)
        listed = made["truth.md"].partition(f"(truth/{family}.md)")[2].partition("\n## ")[0]
        assert re.findall(r"^\| \[(.+?)\]", listed, re.M) == heads


def test_pages_that_did_not_change_are_not_written_again(tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "pages", lambda root: {"a.md": "one\n"})
    assert [path.name for path in pages.write(tmp_path)] == ["a.md"]
    assert pages.write(tmp_path) == []
    monkeypatch.setattr(pages, "pages", lambda root: {"b.md": "two\n"})
    pages.write(tmp_path)
    assert [p.name for p in (tmp_path / "_build" / "pages").iterdir()] == ["b.md"]
