"""Passages of Python's manual, and questions that hide the name they ask for."""

import re

import pytest

from nnlib.data.manual import (
    docstring_questions,
    manual_passages,
    mentions,
    sentences,
)
from tests.support import refuses


def size(text):
    return len(re.findall(r"[^\W_]+", text))


def test_the_manual_comes_in_passages_of_many_topics():
    passages = manual_passages()
    assert len(passages) > 300 and len({p.topic for p in passages}) > 50
    assert sum(size(p.text) for p in passages) > 40_000


@pytest.mark.parametrize("least", [1, 40, 80])
def test_no_paragraph_stands_twice(least):
    paragraphs = [
        " ".join(part.split())
        for passage in manual_passages(least)
        for part in re.split(r"\n[ \t]*\n", passage.text)
    ]
    assert len(paragraphs) == len(set(paragraphs))


def test_every_cut_holds_the_same_words():
    """Only where one passage ends and the next begins depends on the length."""
    long, short = ("\n\n".join(p.text for p in manual_passages(least)) for least in (80, 1))
    assert long == short


def test_passages_are_long_where_their_section_is():
    sections = {}
    for passage in manual_passages(60):
        sections.setdefault((passage.topic, passage.section), []).append(size(passage.text))
    several = [sizes for sizes in sections.values() if len(sizes) > 1]
    assert several and all(min(sizes) >= 60 for sizes in several)


def test_titles_are_no_part_of_the_text():
    assert any(p.section == 'The "assert" statement' for p in manual_passages())
    assert not [p for p in manual_passages() if re.search(r"^[*=\-~]{4,}$", p.text, re.M)]


def test_sentences_end_where_the_next_begins():
    text = "The first of them is here. A second one, which\ngoes on, is next!\n\nno sentence"
    assert sentences(text, least=4) == [
        "The first of them is here.",
        "A second one, which goes on, is next!",
    ]
    assert sentences("") == []


def test_a_question_does_not_hold_its_answer():
    questions = docstring_questions()
    assert len(questions) > 90
    assert len({q.answer for q in questions}) == len(questions)
    for question in questions:
        assert not re.search(rf"(?<!\w){re.escape(question.answer)}(?!\w)", question.text)
        assert size(question.text) >= 4
    (absolute,) = [q.text for q in questions if q.answer == "abs"]
    assert absolute == "Return the absolute value of the argument."  # and not "the olute value"


def test_a_common_word_is_a_name_only_in_quotes_or_called():
    names = ["all", "len", "__len__", "ValueError"]
    assert mentions("all values", names) == []
    assert mentions('"all(x)" and len(y)', names) == ["all", "len"]
    assert mentions("object.__len__() or ValueErrors", names) == ["__len__"]


def test_what_is_no_text_is_refused_by_name():
    with refuses(ValueError, "least=0 must be an integer ≥ 1"):
        manual_passages(0)
    with refuses(TypeError, "text must be a string, got int"):
        sentences(3)
    with refuses(TypeError, "text must be a string, got NoneType"):
        mentions(None, ["len"])
    with refuses(TypeError, "names must hold strings, got 'len'"):
        mentions("len", "len")
