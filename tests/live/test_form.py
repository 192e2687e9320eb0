import pytest
import torch
from torch import nn

from nnlib.live import Bars, DrawingPad, Once, Plane, Sliders, Text, TextField, Writes, form
from nnlib.live.runs import Corrects


def button(box):
    return box.children[2].children[0]


def place(box):
    return box.children[3]


def test_it_answers_when_it_is_asked():
    model = nn.Linear(1, 2)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[5.0], [-5.0]])), model.bias.zero_()
    given = Sliders(label="s", ranges={"x": (-1, 1, 0.1)}, examples={"low": [-1.0]})
    box = form.form(model, given, [Bars(names="+-")], Once(), "A <title>", "c", [1.0])
    assert "A &lt;title&gt;" in box.children[0].value
    assert place(box).value.index("data-best") < place(box).value.index("<b>-</b>")
    box.children[1].children[0].value = -1.0
    button(box).click()
    assert place(box).value.index("data-best") > place(box).value.index("<b>+</b>")
    box.children[1].children[0].value = 1.0
    box.children[2].children[1].value = "low"
    assert place(box).value.index("data-best") > place(box).value.index("<b>+</b>")


def test_what_cannot_be_read_is_told_in_words():
    field = TextField(label="w", letters="ab", length=3)
    told = form.answered(nn.Identity(), field, [Text()], Once(), "zz")
    assert "It has never seen “z”" in told and told.startswith("<p>")
    pad = DrawingPad(label="p", size=2)
    assert "empty" in form.answered(nn.Identity(), pad, [], Once(), torch.zeros(2, 2))


def test_a_text_has_a_temperature_and_a_rule_a_line():
    field = TextField(label="w", letters="ab", length=3)
    writes = Writes(letters="ab", most=3)

    class Flips(nn.Module):
        def forward(self, ids):
            return 30 * nn.functional.one_hot(1 - ids, 2).float()

    box = form.form(Flips(), field, [Text()], writes, "t", "c", "a")
    assert "a<mark>bab</mark>" in place(box).value
    assert box.children[2].children[1].description == "temperature"
    corrects = Corrects(rule=lambda points, classes: ((0.0, 1.0, 0.0), 1))
    plane = Plane(label="p", classes=("o", "x"))
    box = form.form(None, plane, [Text(joined=False)], corrects, "t", "c", [(0, 0.5, 1)])
    assert 'class="nn-line" d="M' in place(box).value
    assert "0 points on the wrong side" in place(box).value


@pytest.mark.parametrize("note", ["never seen", "left out"])
def test_a_note_stands_under_the_answer(note):
    field = TextField(label="w", letters="ab", length=3)
    assert note in form.answered(nn.Identity(), field, [], Once(), "abzabab")
