import re

import pytest
import torch

from nnlib.live import Damage, outputs

LOGITS = torch.tensor([[[0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [0.0, 9.0, 0.0]]])


def bar_names(markup):
    return re.findall(r"<b>(.)</b>", markup)


def test_bars_show_the_place_that_is_asked_for():
    bars = outputs.Bars(names="abc", top=1)
    assert [bar_names(bars.body([LOGITS], {"place": at})) for at in range(3)] == [
        ["c"],
        ["a"],
        ["b"],
    ]
    assert bar_names(bars.body([LOGITS], {"place": 0, "row": 2})) == ["b"]
    assert bar_names(outputs.Bars(names="abc").body([LOGITS[0, :1]], {})) == ["a", "b", "c"]


def test_shares_are_taken_as_they_are_without_softmax():
    bars = outputs.Bars(names="ab", softmax=False)
    assert re.findall(r"\d+ %", bars.body([torch.tensor([0.25, 0.75])], {})) == ["25 %", "75 %"]


def test_gaps_are_filled_with_the_best_letters():
    text = outputs.Text(fill="abc")
    context = {"given": "x__", "blank": "_", "front": 0}
    assert text.body([LOGITS], context) == "x<mark>a</mark><mark>b</mark>"


def test_what_was_made_continues_or_stands_alone():
    context = {"given": "<a", "made": "b\n"}
    assert outputs.Text().body([], context) == "&lt;a<mark>b<br></mark>"
    assert outputs.Text(joined=False).body([], context) == "<mark>b<br></mark>"


@pytest.mark.parametrize("photograph", [False, True])
def test_a_photograph_is_marked_outside_of_what_the_script_draws(photograph):
    picture = outputs.Picture(shape=(1, 2), photograph=photograph)
    head, _, drawn = picture.markup([torch.zeros(1, 2)], {}).partition('<div class="nn-now">')
    assert ("nn-photograph" in head, "nn-photograph" in drawn) == (photograph, False)
    damage = Damage(label="A crop", shape=(1, 2), photograph=photograph)
    assert ("nn-photograph" in damage.markup(torch.zeros(1, 2))) == photograph


def test_a_picture_is_brought_to_paper_and_ink():
    body = outputs.Picture(shape=(1, 2), low=-1).body([torch.tensor([[-1.0, 1.0]])], {})
    assert re.findall(r'd="([^"]+)"', body) == ["M1 0h1v1h-1z"]


def test_the_coldest_letter_is_the_likeliest():
    assert outputs.best(LOGITS[0, 0], {}, 0.0, None) == 2
    dice = torch.Generator().manual_seed(0)
    drawn = {outputs.best(torch.zeros(3), {}, 1.0, dice) for _ in range(50)}
    assert drawn == {0, 1, 2}
