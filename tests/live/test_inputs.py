import pytest
import torch

from nnlib.live import inputs


@pytest.fixture
def field():
    return inputs.TextField(label="Word", letters=["", "a", "b", "_"], length=4, pad=0)


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
    with pytest.raises(inputs.NotGiven, match="type a letter"):
        field.read(text)


def test_the_last_letters_count_where_it_is_so(field):
    last = inputs.TextField(label="w", letters=["", "a", "b"], length=2, keep="last", case="lower")
    assert read(last, "AAB")[0] == [1, 2]
    assert "forgotten" in read(last, "AAB")[1]["note"]


def test_what_a_keyboard_has_becomes_what_the_model_knows():
    field = inputs.TextField(
        label="w", letters=["", "a", "–", " "], length=5, replaced={" - ": "–", "-": "–"}
    )
    assert read(field, "a - a-a")[0] == [1, 2, 1, 2, 1]


def test_a_blank_has_a_place_behind_what_stands_before():
    field = inputs.TextField(
        label="w", letters=["[", "a", "_"], length=5, pad=0, before=(0,), blank="_"
    )
    ids, context = read(field, "a_a_")
    assert ids == [0, 1, 2, 1, 2] and context["place"] == 2
    with pytest.raises(inputs.NotGiven, match="Nothing is blank yet"):
        field.read("aa")


def test_a_choice_stands_before_the_text():
    field = inputs.TextField(
        label="w", letters=["", "", "a"], length=3, begins={"Deutsch": 0, "suomi": 1}, least=0
    )
    assert read(field, ("suomi", "a"))[0] == [1, 2]
    assert read(field, "a")[0] == [0, 2]
    with pytest.raises(ValueError, match="begin="):
        field.read(("Klingon", "a"))


def test_a_picture_is_read_in_the_shape_of_the_model():
    pad = inputs.DrawingPad(label="p", size=2, shape=(1, 1, 2, 2))
    (given,), _ = pad.read(torch.eye(2))
    assert torch.equal(given, torch.eye(2)[None, None])
    with pytest.raises(inputs.NotGiven, match="draw something"):
        pad.read(torch.zeros(2, 2))
    damage = inputs.Damage(label="d", shape=(1, 3), feed=(3,))
    assert damage.read(torch.ones(1, 3))[0][0].shape == (3,)


def test_sliders_hold_to_their_ends():
    sliders = inputs.Sliders(label="s", ranges={"wind": (0, 1, 0.1), "rain": (-2, 2, 1)})
    assert sliders.read([0.5, -2])[0][0].tolist() == [[0.5, -2.0]]
    with pytest.raises(ValueError, match=r"value\[1\], rain"):
        sliders.read([0.5, 3])


def test_the_line_of_a_plane_lies_where_the_score_is_zero():
    path = inputs._line([0.0, 2.0, -1.0])  # y = 1/2
    ends = [float(n) for n in path.replace("M", "").replace("L", " ").split()]
    assert ends[1] == ends[3] == -50
    assert inputs._line([0.0, 0.0, 1.0]) == ""


@pytest.mark.parametrize(
    ("given", "value", "other"),
    [
        (inputs.TextField(label="w", letters=["a", "b"], length=4), "ab", "b"),
        (
            inputs.TextField(label="w", letters=["a", "b"], length=4, begins={"x": 0, "y": 1}),
            ("x", "ab"),
            ("y", "b"),
        ),
        (inputs.Sliders(label="s", ranges={"wind": (0, 1, 0.1)}), [0.5], [0.7]),
        (inputs.Plane(label="p", classes=("o", "x")), [(0.5, 0.25, 0)], [(-0.5, 0.5, 1)]),
    ],
)
def test_a_widget_gives_back_what_was_put_into_it(given, value, other):
    _, read, put = given.widget(value)
    assert read() == value
    put(other)
    assert read() == other


def test_cells_switch_and_take_pictures():
    pad = inputs.DrawingPad(label="p", size=2)
    box, read, put = pad.widget(torch.zeros(2, 2))
    box.children[1].children[0].value = True
    assert read().tolist() == [[0, 0], [1, 0]]
    put(torch.full((2, 2), 0.7))
    assert read().tolist() == torch.full((2, 2), 0.7).tolist()
    rows, wiped, _ = inputs.Damage(label="d", shape=(3, 2)).widget(torch.ones(3, 2))
    rows.value = 2
    assert wiped().sum() == 2
