import base64

import pytest
import torch
from torch import nn

from nnlib.live import Bars, Corrects, Plane, Sliders, Text, live, show
from nnlib.live.export import runs
from pipeline.site import live as site

GIVEN = Sliders(label="s", ranges={"x": (-1, 1, 0.1)})
WORDS = {"name": "two-bars", "title": "Move <it>", "caption": "Watch $x$.", "example": [0.5]}
TEN = [[at / 10] for at in range(10)]


@pytest.fixture
def shown(monkeypatch):
    outputs = []
    monkeypatch.setattr(show, "display", lambda bundle, **_: outputs.append(bundle))
    return outputs


def test_a_notebook_gets_a_form_and_nothing_is_exported(shown, monkeypatch):
    monkeypatch.delenv(show.FOR_THE_PAGE, raising=False)
    monkeypatch.setattr(show, "exported", lambda *_: pytest.fail("this takes seconds"))
    live(nn.Linear(1, 2), GIVEN, Bars(names="+-"), records=TEN, **WORDS)
    assert site.VIEW in shown[0] and show.MIME not in shown[0]


def test_a_page_gets_the_file_and_what_it_must_answer(shown, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv(show.FOR_THE_PAGE, "page")
    model = nn.Linear(1, 2)
    live(model, GIVEN, Bars(names="+-"), records=TEN, **WORDS)
    made = shown[0][show.MIME]
    content = base64.b64decode(made["onnx"])
    assert len(made["records"]) == 10
    for record, (value,) in zip(made["records"], TEN, strict=True):
        [got] = runs(content, (torch.tensor([[value]]),))
        assert got.flatten().tolist() == pytest.approx(record["wanted"][0]["data"], abs=1e-6)
    assert "Move &lt;it&gt;" in made["markup"] and 'data-live="two-bars"' in made["markup"]
    assert made["config"]["example"] == [0.5]


def test_a_rule_needs_no_file(shown, monkeypatch):
    monkeypatch.setenv(show.FOR_THE_PAGE, "page")
    plane, rule = Plane(label="p", classes=("o", "x")), lambda *_: ((0.0, 1.0, 0.0), 2)
    live(None, plane, Text(), run=Corrects(rule=rule), **WORDS | {"example": [(0, 1, 1)]})
    made = shown[0][show.MIME]
    assert made["onnx"] is None and made["records"] == []
    assert made["markup"].count('class="nn-line" d="M') == 1


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": "Two bars"}, "name="),
        ({"records": TEN[:9]}, "records holds 9"),
        ({"run": Corrects(rule=lambda *_: ((0, 0, 0), 0))}, "model must be None"),
    ],
)
def test_what_is_missing_is_named(shown, change, told):
    with pytest.raises(ValueError, match=told):
        live(nn.Linear(1, 2), GIVEN, Bars(names="+-"), **{**WORDS, "records": TEN, **change})


def test_the_site_knows_it_by_the_same_name():
    assert site.MIME == show.MIME
