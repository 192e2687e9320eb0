"""What all inputs have in common."""

import json

import pytest

from nnlib.live import Plane, Sliders, TextField


@pytest.mark.parametrize(
    ("given", "value", "other"),
    [
        (TextField(label="w", letters=["a", "b"], length=4), "ab", "b"),
        (
            TextField(label="w", letters=["a", "b"], length=4, begins={"x": 0, "y": 1}),
            ("x", "ab"),
            ("y", "b"),
        ),
        (Sliders(label="s", ranges={"wind": (0, 1, 0.1)}), [0.5], [0.7]),
        (Plane(label="p", classes=("o", "x")), [(0.5, 0.25, 0)], [(-0.5, 0.5, 1)]),
    ],
)
def test_a_widget_gives_back_what_was_put_into_it(given, value, other):
    _, read, put = given.widget(value)
    assert read() == value
    put(other)
    assert read() == other


def test_examples_keep_their_order_in_a_notebook_whose_names_are_sorted():
    field = TextField(label="w", letters=["a", "b"], length=4, examples={"z": "a", "y": "b"})
    kept = json.loads(json.dumps(field.config(), sort_keys=True))
    assert kept["examples"] == [{"begin": "", "text": "a"}, {"begin": "", "text": "b"}]
    assert field.markup("a").index(">z<") < field.markup("a").index(">y<")
