"""Link the first use of a glossary's term in a chapter to its definition.

A term is found in running text in its usual forms, the longest first; not in headings, links, code,
formulas, tables and folds, not in what cells print, and not where the author has linked it already.
The links are made when a page is written, from what the glossary holds by then. Each page keeps the
words of its text, so that a change of the glossary writes those pages again that use the term.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform

from pipeline.site.reading_time import is_aside, is_fold

PAGES = re.compile(r"chapters/[^/]+/[^/]+")
# Words that are also everyday English, and would be linked where they mean nothing special.
NEVER = {"head", "key", "value", "values"}
# Forms that no rule makes.
ALSO = {
    "affine map": ("affine",),
    "augmentation": ("augment", "augmented"),
    "backpropagation": ("backpropagate", "backpropagated"),
    "batch": ("mini-batch", "mini-batches"),
    "exploding gradient": ("gradients explode", "gradient explodes"),
    "feed-forward network": ("feed-forward layer", "feed-forward layers", "feed-forward part"),
    "fine-tuning": ("fine-tune", "fine-tuned"),
    "fusing": ("fuse", "fused", "fuses"),
    "generalization": ("generalize", "generalizes", "generalise", "generalises"),
    "gradient clipping": ("clipping the gradient", "clipped gradient", "clipped gradients"),
    "gradient descent": ("stochastic gradient descent", "sgd"),
    "head": ("attention head", "attention heads"),
    "held-out data": ("held-out", "held out", "test set", "validation set"),
    "linearly separable": ("linear separability",),
    "logits": ("logit",),
    "loss function": ("loss", "losses"),
    "masked language model": ("masked language modelling",),
    "memory-bound": ("bound by memory", "memory bound"),
    "optimizer": ("optimiser", "optimisers"),
    "overfitting": ("overfit", "overfits"),
    "pre-training": ("pre-trained", "pretraining", "pretrained"),
    "regularization": ("regularize", "regularized", "regularizes"),
    "residual connection": ("skip connection", "skip connections", "residual path"),
    "saturation": ("saturate", "saturated", "saturates"),
    "supervised": ("unsupervised",),
    "unit": ("neuron", "neurons"),
    "unrolling": ("unroll", "unrolled", "unrolls"),
    "vanishing gradient": ("gradients vanish", "gradient vanishes"),
}
_WORD = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"[\w–-]+")
_SKIPPED = (
    nodes.title, nodes.reference, nodes.literal, nodes.literal_block, nodes.math, nodes.math_block,
    nodes.table, nodes.caption, nodes.citation, nodes.raw, nodes.topic, nodes.footnote,
)  # fmt: skip


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", _note_words)
    app.connect("env-purge-doc", lambda app, env, doc: _words(env).pop(doc, None))
    app.connect("env-merge-info", _merge)
    app.connect("env-updated", _to_write, priority=930)
    app.add_post_transform(LinkTerms)


# ---------------------------------------------------------------- the forms of a term


def forms(term: str) -> set[str]:
    """Return how a term is written in running text, in small letters.

    `Encoder, decoder` are two terms, `Multi-layer perceptron (MLP)` has two names.
    """
    found: set[str] = set()
    for name in re.split(r",\s+|\s*[()]\s*", term.lower()):
        if name:
            found |= {name, *plurals(name), *ALSO.get(name, ())} - NEVER
    return found | {other for form in found for other in _spellings(form)}


def plurals(name: str) -> set[str]:
    """Return the plural of a noun, by the rules that hold for most."""
    if name.endswith(("s", "x", "ch", "sh")):
        return {f"{name}es"}
    if re.search(r"[^aeiou]y$", name):
        return {f"{name[:-1]}ies"}
    return {f"{name}s"}


def _spellings(form: str) -> Iterator[str]:
    yield form.replace("ization", "isation")
    yield form.replace("-", " ")


class Finder:
    """Finds terms in text, word by word: as whole words, over any line break, the longest first."""

    def __init__(self, names: dict[str, str]):
        self.by_first: dict[str, dict[tuple[str, ...], str]] = {}
        for form, term in names.items():
            words = tuple(form.split())
            self.by_first.setdefault(words[0], {})[words] = term

    def __call__(self, text: str) -> Iterator[tuple[int, int, str]]:
        """Yield where each term begins and ends, and the term; each term only once."""
        found = list(_TOKEN.finditer(text))
        words = [token[0].lower() for token in found]
        at = 0
        while at < len(found):
            length, term = self._longest(text, found, words, at)
            if length:
                yield found[at].start(), found[at + length - 1].end(), term
                self._forget(term)
            at += length or 1

    def _longest(
        self, text: str, found: list[re.Match[str]], words: list[str], at: int
    ) -> tuple[int, str]:
        known = self.by_first.get(words[at], {})
        for form in sorted(known, key=len, reverse=True):
            end = at + len(form)
            between = (text[one.end() : other.start()] for one, other in pairwise(found[at:end]))
            if tuple(words[at:end]) == form and not any(gap.strip() for gap in between):
                return len(form), known[form]
        return 0, ""

    def _forget(self, term: str) -> None:
        for known in self.by_first.values():
            for form in [form for form, of in known.items() if of == term]:
                del known[form]


# ---------------------------------------------------------------- the links


def terms(env: BuildEnvironment) -> dict[str, tuple[str, str]]:
    """Return the glossary: each term, its page and its place there."""
    objects = env.get_domain("std").objects
    return {name: place for (kind, name), place in objects.items() if kind == "term"}


class LinkTerms(SphinxPostTransform):
    """Make the links of one page; after references are resolved, before folds become details."""

    default_priority = 150
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        if not PAGES.fullmatch(self.env.docname) or "/index" in self.env.docname:
            return
        places = self._places()
        find = Finder({form: term for term in places for form in forms(term)})
        _join_lines(self.document)
        for text in running_text(self.document):
            _link(text, find, places)

    def _places(self) -> dict[str, str]:
        """Return the address of each term that is neither linked already nor the page's subject."""
        here = self.env.docname
        linked = {node.get("refuri", "") for node in self.document.findall(nodes.reference)}
        title = _WORD.findall(self.env.titles[here].astext().lower())
        found = {}
        for term, (doc, anchor) in sorted(terms(self.env).items()):
            target = f"{self.app.builder.get_relative_uri(here, doc)}#{anchor}"
            subject = set(_WORD.findall(term.lower())) <= set(title)
            if target not in linked and not subject:
                found[term] = target
        return found


def _link(text: nodes.Text, find: Finder, places: dict[str, str]) -> None:
    """Link the terms of one piece of text."""
    whole, pieces, at = text.astext(), [], 0
    for start, end, term in find(whole):
        pieces.append(nodes.Text(whole[at:start]))
        link = nodes.reference("", "", internal=True, refuri=places[term], classes=["nn-term"])
        link += nodes.Text(whole[start:end])
        pieces.append(link)
        at = end
    if pieces:
        text.parent.replace(text, [*pieces, nodes.Text(whole[at:])])


def _join_lines(document: nodes.document) -> None:
    """Make one piece of text of lines that follow one another, which the parser keeps apart."""
    for element in document.findall(nodes.TextElement):
        if isinstance(element, nodes.FixedTextElement):
            continue
        joined: list[nodes.Node] = []
        for kind, run in groupby(element.children, key=type):
            if kind is nodes.Text:
                joined.append(nodes.Text("".join(text.astext() for text in run)))
            else:
                joined += run
        if len(joined) < len(element.children):
            element.children = []
            element.extend(joined)


def running_text(document: nodes.document) -> list[nodes.Text]:
    """Return the pieces of text in which terms are linked, in order."""
    found = list(_open_text(document))
    idea = next(iter(document.findall(nodes.paragraph)), None)
    return [text for text in found if idea is None or idea not in _ancestors(text)]


def _open_text(node: nodes.Element) -> Iterator[nodes.Text]:
    for child in node.children:
        if isinstance(child, nodes.Text):
            yield child
        elif not (isinstance(child, _SKIPPED) or _is_closed(child)):
            yield from _open_text(child)


def _is_closed(node: nodes.Node) -> bool:
    cell = isinstance(node, nodes.container) and "cell" in node["classes"]
    return cell or is_fold(node) or is_aside(node)


def _ancestors(node: nodes.Node) -> Iterator[nodes.Node]:
    while node.parent is not None:
        node = node.parent
        yield node


# ---------------------------------------------------------------- what to write again


def _words(env: BuildEnvironment) -> dict[str, set[str]]:
    """Return the words that each chapter's text is made of."""
    if not hasattr(env, "nn_words"):
        env.nn_words = {}
    return env.nn_words


def _note_words(app: Sphinx, doctree: nodes.document) -> None:
    if PAGES.fullmatch(app.env.docname):
        text = " ".join(paragraph.astext() for paragraph in doctree.findall(nodes.paragraph))
        _words(app.env)[app.env.docname] = set(_WORD.findall(text.lower()))


def _merge(app: Sphinx, env: BuildEnvironment, docs: Iterable[str], other: Any) -> None:
    _words(env).update({doc: words for doc, words in _words(other).items() if doc in set(docs)})


def _to_write(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Return the pages that hold all words of a term that has changed."""
    now = terms(env)
    before = getattr(env, "nn_terms", {})
    env.nn_terms = now
    changed = {term for term in before.keys() | now if before.get(term) != now.get(term)}
    spoken = [set(_WORD.findall(form)) for term in changed for form in forms(term)]
    return sorted(
        doc for doc, words in _words(env).items() if any(form <= words for form in spoken)
    )
