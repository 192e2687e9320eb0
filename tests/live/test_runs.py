import pytest
import torch
from torch import nn

from nnlib.live import Bars, Curve, Damage, Plane, Sliders, TextField, runs
from tests.support import refuses


class Counts(nn.Module):
    """Guesses the letter after the last one, of "abc"; with a state, it also counts its steps."""

    def forward(self, letter, state=None):
        after = 20 * nn.functional.one_hot((letter + 1) % 3, 3).float()
        return after if state is None else (after, state + 1)


FIELD = TextField(label="w", letters="abc", length=3, keep="last")


def test_letter_by_letter_the_state_goes_along():
    writes = runs.Writes(letters="abc", most=4, state=torch.zeros(1, 1))
    answer = writes.answer(Counts(), FIELD, "ab")
    assert answer.context["made"] == "cabc"
    letter, state = answer.feed
    assert letter.tolist() == [1] and state.tolist() == [[1.0]]  # at the first guess: one was read


def test_without_a_state_it_sees_a_window():
    answer = runs.Writes(letters="abc", most=5).answer(Counts(), FIELD, "ab")
    assert answer.context["made"] == "cabca"
    assert answer.feed[0].tolist() == [[0, 1, 0]] and answer.context["row"] == 1


def test_it_stops_where_the_text_ends():
    answer = runs.Writes(letters="abc", most=9, stop=2).answer(Counts(), FIELD, "a")
    assert answer.context["made"] == "b"


def test_a_translation_feeds_back_what_it_wrote():
    class Copies(nn.Module):
        def forward(self, x, before):
            seen = before.cumsum(1) + x[:, :1]
            return nn.functional.one_hot(seen % 3, 3).float(), torch.rand(1, 4, x.shape[1])

    translates = runs.Translates(symbols="abc", steps=4)
    answer = translates.answer(Copies(), FIELD, "bc")
    assert answer.context["made"] == "bcbc"
    assert answer.feed[1].tolist() == [[0, 1, 2, 1]]
    assert answer.outputs[1].shape == (1, 4, 2)


def test_what_repeats_is_fed_its_own_answer():
    sliders = Sliders(label="s", ranges={"x": (0, 1, 0.1)})
    answer = runs.Repeats(steps=3).answer(nn.Identity(), sliders, [0.5])
    assert answer.outputs[0].tolist() == [[0.5]]

    class Halves(nn.Module):
        def forward(self, x):
            return x / 2

    assert runs.Repeats(steps=3).answer(Halves(), sliders, [1.0]).outputs[0].item() == 1 / 8


def test_other_inputs_of_what_repeats_stay_and_its_answers_are_kept():
    class Adds(nn.Module):
        def forward(self, x, choice):
            return x + choice[:, 1:], x

    damage = Damage(label="d", shape=(1, 1), choices=("none", "one"))
    answer = runs.Repeats(steps=3).answer(Adds(), damage, ("one", torch.zeros(1, 1)))
    assert answer.outputs[0].item() == 3
    assert "0 to 2" in Curve(of=1, label="x", trail=9).body(answer.outputs, answer.context)
    assert "1 to 2" in Curve(of=1, label="x", trail=2).body(answer.outputs, answer.context)
    with pytest.raises(ValueError, match="per_second"):
        runs.Repeats(per_second=0)
    with refuses(TypeError, "alive=1 must be True or False"):
        runs.Repeats(alive=1)
    assert [runs.Repeats(alive=a).config()["alive"] for a in (False, True)] == [False, True]


def test_a_rule_moves_the_line():
    plane = Plane(label="p", classes=("o", "x"))
    corrects = runs.Corrects(rule=lambda points, classes: ((1.0, 0.0, 0.0), 7))
    answer = corrects.answer(None, plane, [(0.5, 0, 1), (-0.5, 0, 0), (0.1, 0, 0)])
    assert answer.context["made"] == "7 corrections, 1 points on the wrong side"


class Doubles:
    merges = ((b"a", b"a"), (b"aa", b"a"), (b"a", b"aa"))
    pattern = r"[^\s\p{L}]+|\s+(?!\S)|."

    def tokens(self, text):
        return [text.encode()]


def test_merges_go_to_the_page_as_numbers_and_equal_tokens_have_one():
    cuts = runs.Cuts(tokenizers={"d": Doubles()})
    [made] = cuts.config()["vocabularies"]
    assert made["merges"] == [97, 97, 256, 97, 97, 256]
    assert "\\s" not in made["pattern"] and "\\S" not in made["pattern"]
    assert "\\x85" in made["pattern"], "white space is Unicode's, as a browser's is not"


def test_a_text_is_cut_by_each_tokenizer():
    field = TextField(label="w", letters=None, length=3)
    answer = runs.Cuts(tokenizers={"d": Doubles(), "e": Doubles()}).answer(None, field, "aaaa")
    assert answer.context["cuts"] == [[b"aaa"], [b"aaa"]]
    assert "at most" in answer.context["note"]


class Leans(nn.Module):
    """Gives the letters of "abc" the shares 0.6, 0.3 and 0.1 at any place."""

    def forward(self, letters):
        return torch.tensor([0.6, 0.3, 0.1]).log().expand(*letters.shape, 3)


def test_top_p_is_drawn_from_and_shown_at_the_temperature():
    writes = runs.Writes(letters="abc", most=60, temperature=1.0, top_p=0.5)
    assert set(writes.answer(Leans(), FIELD, "ab").context["made"]) == {"a"}
    assert set(writes.answer(Leans(), FIELD, "ab", top_p=0.8).context["made"]) == {"a", "b"}
    answer = writes.answer(Leans(), FIELD, "ab", top_p=0.8, temperature=0.5)
    shown = Bars(names="abc").markup(answer.outputs, answer.context)
    assert [f"{share} %" in shown for share in (80, 20, 0)] == [True] * 3  # 36 to 9, and none
    plain = runs.Writes(letters="abc").answer(Leans(), FIELD, "ab")
    assert "60 %" in Bars(names="abc").markup(plain.outputs, plain.context)
    assert "top-p" in writes.buttons() and "top-p" not in runs.Writes(letters="abc").buttons()
