"""What the site makes of a live model: markup, files beside it, the engine."""

import copy

import pytest

from pipeline.site import live, live_engine
from tests.book.live.toys import FORMS, RULES


def test_the_notebook_keeps_the_markup_and_the_files_stand_beside_it(made):
    content = copy.deepcopy(made)
    files = live.convert(content, "chapters/toys/toy")
    assert set(files) == {
        *(f"_extra/live/toys-toy-{name}.js" for name in FORMS),
        *(f"_extra/live/toys-toy-{name}.json" for name in FORMS if name not in RULES),
    }
    for name, cell in zip(FORMS, content["cells"], strict=True):
        assert list(cell["outputs"][0]["data"]) == ["text/html"]
        assert f'data-live="toys-toy-{name}"' in cell["outputs"][0]["data"]["text/html"]
    assert all(len(data) < 20_000 for name, data in files.items() if name.endswith(".js"))


def test_two_of_one_name_stop_the_build(made):
    content = copy.deepcopy(made)
    content["cells"] += copy.deepcopy(content["cells"][:1])
    with pytest.raises(live.LiveError, match=r"chapters/toys/toy: two live models .*'pad'"):
        live.convert(content, "chapters/toys/toy")


def test_an_engine_of_another_make_is_refused():
    good = b"const a=1,b=2,c=import.meta.url;export{a as InferenceSession,b as Tensor,c as env};"
    script = live_engine.script(good).decode()
    assert "self.ort={InferenceSession:a,Tensor:b,env:c}" in script
    assert "import.meta" not in script and "export{" not in script
    for bad in (b"export{a as Tensor};", b"module.exports = {}"):
        with pytest.raises(live_engine.EngineError):
            live_engine.script(bad)
    with pytest.raises(live_engine.EngineError):
        live_engine.machine(b"<html>")
