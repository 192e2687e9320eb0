"""Sentences of docstrings: what is read, what is left out, and what is refused."""

import types

import pytest

from nnlib.data import library_text
from nnlib.data.library_text import library_sentences
from tests.support import refuses


@pytest.fixture
def made_up(monkeypatch):
    """A module with a function, a class and its method, whose docstrings are known."""

    def one():
        r"""Return the largest value, always. Short one.

        It holds :math:`x^2 + y` when :attr:`axis` is given to it.

        Examples
        --------
        this example is never read by anybody
        """

    class Two:
        """Keep the smallest value of all.

        >>> this line is an example too
        """

        def three(self):
            """Return the largest value, always. A sentence that is new here."""

    module = types.SimpleNamespace(one=one, again=one, Two=Two, _hidden=one, number=3)
    monkeypatch.setattr(library_text.importlib, "import_module", lambda name: module)
    library_sentences.cache_clear()
    yield
    library_sentences.cache_clear()


def test_functions_classes_and_methods_are_read_once(made_up):
    told = [" ".join(words) for words in library_sentences(("made_up",))]
    assert told == [
        "keep the smallest value of all",
        "return the largest value always",
        "sentence that is new here",
        "return the largest value always",
        "it holds when axis is given to it",
    ]


def test_a_paragraph_that_stood_before_is_left_out(monkeypatch):
    texts = ["The same paragraph in both of them.", "The same paragraph in both of them."]
    monkeypatch.setattr(library_text, "_docstrings", lambda modules: iter(texts))
    library_sentences.cache_clear()
    assert len(library_sentences(("any",))) == 1
    library_sentences.cache_clear()


def test_shorter_sentences_can_be_kept(made_up):
    assert ["short", "one"] in library_sentences(("made_up",), 2)


def test_no_modules_are_refused():
    with refuses(ValueError, "modules=() must name one module or more"):
        library_sentences(())
    with refuses(ValueError, "modules='numpy'"):
        library_sentences("numpy")
