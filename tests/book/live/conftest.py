"""A site of one page with all the toys, and tabs that look at it."""

import copy
import json
import shutil

import pytest

# Imports stand inside, as in tests/book/conftest.py.


@pytest.fixture(scope="session")
def made():
    """What `live` leaves in a notebook, for each form."""
    pytest.importorskip("onnxruntime")
    import torch

    from nnlib.live import show
    from pipeline.site import live
    from tests.book.live.toys import FORMS, values

    torch.manual_seed(0)
    cells = []
    for name, (model, given, shown, run, example) in FORMS.items():
        answer = run.answer(model, given, example)
        held = show.for_the_page(
            model, given, shown, name, f"Try {name}", example, "Look.", run, values(name), answer
        )
        data = {live.VIEW: {}, "text/plain": "VBox()", live.MIME: held}
        cells.append({"outputs": [{"data": data}, {"name": "stdout"}]})
    return json.loads(json.dumps({"cells": cells}, sort_keys=True))  # as a notebook is written


@pytest.fixture(scope="session")
def folder(made, tmp_path_factory):
    """A site of one page with all forms."""
    from pipeline import ROOT
    from pipeline.site import live
    from pipeline.site.browser import chromium
    from tests.book.live.toys import PAGE

    if chromium() is None:
        pytest.skip("no Chromium on this machine")
    pytest.importorskip("playwright")
    engine = ROOT / "_extra" / "vendor" / "live"
    if not engine.is_dir():
        pytest.skip("the engine is not vendored: run `make book` first")
    folder = tmp_path_factory.mktemp("live")
    content = copy.deepcopy(made)
    files = live.convert(content, "chapters/toys/toy")
    for name, data in files.items():
        file = folder / name.removeprefix("_extra/")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    figures = [cell["outputs"][0]["data"]["text/html"] for cell in content["cells"]]
    (folder / "index.html").write_text(PAGE.format("".join(figures)), "utf8")
    for name in ("book.css", "figures.css", "live.css", "live.js"):
        shutil.copy(ROOT / "_static" / name, folder / name)
    shutil.copytree(ROOT / "_static" / "live", folder / "_static" / "live")
    shutil.copytree(engine, folder / "vendor" / "live")
    return folder


@pytest.fixture(scope="session")
def address(folder):
    from pipeline.site.browser import served

    with served(folder) as address:
        yield address


@pytest.fixture
def opened(browser, address):
    """Open the page of the toys in a new tab."""
    from tests.book.live.tab import Tab

    tabs = []

    def open_it(where=address, **options):
        tabs.append(Tab(browser, where, **options))
        return tabs[-1].open()

    yield open_it
    for tab in tabs:
        assert tab.visit.complaints == [] and tab.visit.foreign == []
        tab.visit.close()
