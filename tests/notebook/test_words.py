"""Source and cards, as a chapter shows them."""

from nnlib import notebook
from tests.support import refuses


def sample(x):
    """Double it.

    More words.
    """
    return 2 * x


def test_source_is_shown_without_its_docstring_unless_asked(shown):
    notebook.show_source(sample)
    assert shown[1].data == "```python\ndef sample(x):\n    return 2 * x\n```"
    notebook.show_source(sample, docstrings=True)
    assert "More words." in shown[3].data


def test_card_links_module_test_and_relatives(shown):
    notebook.card("perceptron")
    markup = shown[0].data
    assert "nnlib/foundations/perceptron.py" in markup
    assert "tests/foundations/test_perceptron.py" in markup
    assert 'href="mlp.html"' in markup and "1958" in markup
    with refuses(ValueError, "perceptrn"):
        notebook.card("perceptrn")
