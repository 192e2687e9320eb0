"""The drawing of a cell: what is in colour, what is told, which word is read."""

from matplotlib.colors import to_hex

from nnlib.plot.chapters.lstm import PARTS, cell
from nnlib.plot.style import COLORS
from tests.support import refuses


def colored(figure):
    """The names of the colours that shapes and lines have."""
    ax = figure.axes[0]
    found = {to_hex(patch.get_edgecolor()).lower() for patch in ax.patches}
    return {name for name, tone in COLORS.items() if tone.lower() in found}


def words(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_only_what_is_named_is_in_colour():
    assert "gate" not in colored(cell()) and "gate" not in colored(cell("candidate"))
    for part in ("input", "forget", "output"):
        assert {"gate", "baseline"} <= colored(cell(part))
    assert "baseline" not in colored(cell(*PARTS))


def test_every_picture_has_the_same_parts_in_the_same_places():
    def places(figure):
        return [(t.get_text(), t.get_position()) for t in figure.axes[0].texts]

    assert places(cell("input")) == places(cell("output")) == places(cell(*PARTS))


def test_numbers_stand_in_the_boxes_and_beside_the_states():
    told = {"input": 0.0, "forget": 1.0, "candidate": -1.0, "before": 1.0, "after": 1.0,
            "shown": -0.001}  # fmt: skip
    found = words(cell("cell", told=told))
    assert "$\\mathbf{i}_t$\n0.00" in found and "$\\mathbf{g}_t$\n−1.00" in found
    assert found.count("1.00") == 2 and found.count("0.00") == 1
    assert "$\\sigma$\n$\\mathbf{o}_t$" in found


def test_the_word_that_is_read_has_a_box_and_all_words_are_there():
    plain, read = cell(), cell(sentence=["the", "keys", "are"], at=1)
    assert [word for word in words(read) if word in ("the", "keys", "are")] == [
        "the",
        "keys",
        "are",
    ]
    assert len(read.axes[0].patches) == len(plain.axes[0].patches) + 1


def test_a_part_that_does_not_exist_is_refused():
    with refuses(ValueError, "lit='memory' must be one of"):
        cell("memory")
