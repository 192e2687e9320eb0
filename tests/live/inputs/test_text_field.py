import pytest

from nnlib.live.inputs.given import NotGiven
from nnlib.live.inputs.text_field import TextField


@pytest.fixture
def field():
    return TextField(label="Word", letters=["", "a", "b", "_"], length=4, pad=0)


def read(field, value):
    (ids,), context = field.read(value)
    return ids[0].tolist(), context


def test_letters_become_their_numbers_filled_up(field):
    ids, context = read(field, "ab")
    assert ids == [1, 2, 0, 0]
    assert (context["given"], context["count"], context["note"]) == ("ab", 2, "")


@pytest.mark.parametrize(
    ("text", "ids", "told"),
    [
        ("azb!z", [1, 2, 0, 0], "never seen “!”, “z”"),
        ("ababab", [1, 2, 1, 2], "at most; the rest was left out"),
    ],
)
def test_what_it_leaves_out_is_told(field, text, ids, told):
    got, context = read(field, text)
    assert got == ids and told in context["note"]


@pytest.mark.parametrize("text", ["", "zzz", "🙂"])
def test_nothing_to_read_is_told_in_plain_words(field, text):
    with pytest.raises(NotGiven, match="type a letter"):
        field.read(text)


def test_the_last_letters_count_where_it_is_so(field):
    last = TextField(label="w", letters=["", "a", "b"], length=2, keep="last", case="lower")
    assert read(last, "AAB")[0] == [1, 2]
    assert "forgotten" in read(last, "AAB")[1]["note"]


def test_what_a_keyboard_has_becomes_what_the_model_knows():
    field = TextField(
        label="w", letters=["", "a", "–", " "], length=5, replaced={" - ": "–", "-": "–"}
    )
    assert read(field, "a - a-a")[0] == [1, 2, 1, 2, 1]


def test_a_blank_has_a_place_behind_what_stands_before():
    field = TextField(label="w", letters=["[", "a", "_"], length=5, pad=0, before=(0,), blank="_")
    ids, context = read(field, "a_a_")
    assert ids == [0, 1, 2, 1, 2] and context["place"] == 2
    with pytest.raises(NotGiven, match="Nothing is blank yet"):
        field.read("aa")


def test_a_choice_stands_before_the_text():
    field = TextField(
        label="w", letters=["", "", "a"], length=3, begins={"Deutsch": 0, "suomi": 1}, least=0
    )
    assert read(field, ("suomi", "a"))[0] == [1, 2]
    assert read(field, "a")[0] == [0, 2]
    with pytest.raises(ValueError, match="begin="):
        field.read(("Klingon", "a"))


def test_any_text_is_taken_where_no_letters_are_named():
    free = TextField(label="w", letters=None, length=4, keep="last")
    assert free.read("日本 é")[1] == {"given": "日本 é", "note": ""}
    assert free.read("12345")[1]["given"] == "2345"
    assert free.config()["letters"] is None
    with pytest.raises(NotGiven, match="type a letter"):
        free.read("")
