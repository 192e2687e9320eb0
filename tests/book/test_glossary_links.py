"""Terms of the glossary are linked where a chapter uses them first, and only in running text."""

import re

import pytest

from pipeline import ROOT
from pipeline.site import build as site
from pipeline.site import glossary_links
from tests.support import write

CONFIG = """\
title: A small book
only_build_toc_files: true
execute: {execute_notebooks: "off"}
parse: {myst_enable_extensions: [dollarmath, colon_fence]}
sphinx:
  recursive_update: true
  extra_extensions: [sphinx.ext.autodoc, sphinx.ext.napoleon, pipeline.site.sphinx_nnlib]
  config: {bibtex_reference_style: author_year, suppress_warnings: [bibtex.duplicate_citation]}
"""
TOC = """\
format: jb-book
root: intro
chapters:
  - {file: chapters/glossary}
  - {file: chapters/part/one}
  - {file: chapters/part/other}
"""
GLOSSARY = """\
# Glossary

:::{glossary}
Batch
  Examples of one step.

Cache
  What is kept.

Encoder, decoder
  Two parts.

KV cache
  Keys and values.

Logits
  Scores.

Neural network (NN)
  What this is about.

Query, key, value
  Three parts.

Saturation
  A slope near zero.
:::
"""
ONE = """\
# One on logits

**A batch goes in, and logits come out.**

Each `batch`, $batch$ and [batch of links](other.md) is none; Mini-batches are, and another batch
is not. The KV
cache is longer than a cache, which comes second. A value, logits, an NN and two encoders.

## A decoder in a heading

It is saturated; the {term}`decoder's own word <Encoder, decoder>` was linked by hand. Batched, no.

| a query |
|---|
| queries |

:::{dropdown} More
The query in a fold.
:::

## Check yourself

A query here.
"""
OTHER = "# Other\n\nIdea.\n\nNothing but a word: momentum.\n"


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """A small book with a glossary, built once."""
    root = tmp_path_factory.mktemp("book")
    for name, text in {
        "_config.yml": CONFIG,
        "_toc.yml": TOC,
        "pyproject.toml": '[project]\nurls = {repository = "https://github.com/who/book"}\n',
        "references.bib": "",
        "intro.md": "# Intro\n\nBegin with a batch.\n",
        "chapters/glossary.md": GLOSSARY,
        "chapters/part/one.md": ONE,
        "chapters/part/other.md": OTHER,
    }.items():
        write(root / name, text)
    site.render(root, root / "_build")
    return root


def page(root, doc):
    return (root / "_build/jb/_build/html" / f"{doc}.html").read_text("utf8")


def links(text):
    """Return the linked words and where they lead, in order."""
    found = re.findall(r'<a class="[^"]*\bnn-term\b[^"]*" href="([^"]+)">([^<]+)</a>', text)
    return [(re.sub(r"\s+", " ", words), href) for href, words in found]


def test_the_first_use_of_each_term_in_running_text_is_linked(book):
    assert links(page(book, "chapters/part/one")) == [
        ("Mini-batches", "../glossary.html#term-Batch"),
        ("KV cache", "../glossary.html#term-KV-cache"),
        ("cache", "../glossary.html#term-Cache"),
        ("NN", "../glossary.html#term-Neural-network-NN"),
        ("saturated", "../glossary.html#term-Saturation"),
    ]
    assert links(page(book, "intro")) == [] and links(page(book, "chapters/glossary")) == []


def test_a_new_term_writes_the_pages_that_use_it_and_no_other(book):
    before = {doc: stamp(book, doc) for doc in ("chapters/part/one", "chapters/part/other")}
    file = book / "chapters/glossary.md"
    text = file.read_text("utf8").replace("KV cache\n", "Momentum\n  Going on.\n\nKV cache\n")
    file.write_text(text, "utf8")
    site.render(book, book / "_build")
    assert links(page(book, "chapters/part/other")) == [
        ("momentum", "../glossary.html#term-Momentum")
    ]
    assert stamp(book, "chapters/part/other") != before["chapters/part/other"]
    assert stamp(book, "chapters/part/one") == before["chapters/part/one"]
    file.write_text(GLOSSARY, "utf8")
    site.render(book, book / "_build")
    assert links(page(book, "chapters/part/other")) == []


def stamp(root, doc):
    return (root / "_build/jb/_build/html" / f"{doc}.html").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("term", "some", "none"),
    [
        ("Gradient descent", {"gradient descent", "sgd"}, {"gradient"}),
        ("Query, key, value", {"query", "queries", "keys"}, {"key", "value", "values"}),
        ("Recurrent neural network (RNN)", {"rnn", "rnns", "recurrent neural networks"}, set()),
        ("Batch normalization", {"batch normalisation"}, {"batch"}),
        ("Multi-layer perceptron (MLP)", {"multi layer perceptron", "mlps"}, {"perceptron"}),
    ],
)
def test_a_term_is_found_in_its_usual_forms(term, some, none):
    assert some <= glossary_links.forms(term) and not none & glossary_links.forms(term)


def test_whole_words_and_the_longest_are_found():
    find = glossary_links.Finder({name: name for name in ("cache", "kv cache", "head")})
    text = "caches ahead, head-on, cached: the KV\n  Cache, KV, cache; a head. The KV cache."
    assert [text[start:end] for start, end, _ in find(text)] == ["KV\n  Cache", "cache", "head"]


def glossary():
    text = (ROOT / "chapters/glossary.md").read_text("utf8")
    return re.findall(r"^([^\s:#`\[].*)\n  \S", text.split(":::{glossary}")[1], re.M)


def test_the_glossary_is_in_order_and_no_two_terms_share_a_form():
    terms = glossary()
    assert len(terms) >= 140
    plain = [re.sub(r"[^a-z0-9 ]", "", re.sub("[–-]", " ", term.lower())) for term in terms]
    assert plain == sorted(plain)
    owners = {}
    for term in terms:
        for form in glossary_links.forms(term):
            owners.setdefault(form, []).append(term)
    assert {form: of for form, of in owners.items() if len(of) > 1} == {}


def test_every_form_that_no_rule_makes_belongs_to_a_term():
    names = {name for term in glossary() for name in re.split(r",\s+|\s*[()]\s*", term.lower())}
    assert set(glossary_links.ALSO) <= names


COMMON = (
    "epoch", "batch", "gradient", "loss", "logit", "softmax", "embedding", "perplexity", "token",
    "overfitting", "receptive field", "hidden state", "learning rate", "one-hot", "cross-entropy",
    "dropout", "vocabulary", "initialization",
)  # fmt: skip


@pytest.mark.parametrize("word", COMMON)
def test_words_that_every_course_explains_are_in_the_glossary(word):
    known = {form for term in glossary() for form in glossary_links.forms(term)}
    assert word in known
