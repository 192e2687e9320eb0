r"""Training at the speed of matrix products: stretches of text, bands of pairs, shared negatives.

A pair of a centre and a context costs four rows of memory and one product of two vectors, which
leaves a processor waiting for memory. Here a *stretch* of neighbouring words is taken at once. The
scores of its centres with its contexts are one matrix product, of which the pairs of the windows
are a band along the diagonal, and all its centres share one draw of negatives, whose weight makes
up for that. Each row is then fetched once a stretch instead of once a pair.

Axes: b stretches, c centres of one, x contexts of one (c and a window to either side), s shared
negatives, d numbers of a vector, g rows that a centre is the mean of.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.representation._word2vec_subwords import FastText
from nnlib.representation._word2vec_text import (
    Corpus,
    a_corpus,
    keep_probability,
    noise_distribution,
)

MODES = ("skip-gram", "cbow")
STRETCH = 32
"""Centres of a stretch: with more, a larger part of each product lies outside the band."""


class Slopes(NamedTuple):
    """Gradients of the summed loss, and that sum where it was asked for."""

    centres: Float[Tensor, "b c d"]
    contexts: Float[Tensor, "b x d"]
    noise: Float[Tensor, "b s d"]
    loss: Float[Tensor, ""] | None


def band_slopes(
    centres: Float[Tensor, "b c d"],
    contexts: Float[Tensor, "b x d"],
    noise: Float[Tensor, "b s d"],
    band: Bool[Tensor, "b c x"],
    negatives: int,
    *,
    mode: str = "skip-gram",
    loss: bool = False,
) -> Slopes:
    r"""Return the gradients of negative sampling for stretches of text, in closed form.

    A pair's score has the gradient $\sigma(s) - 1$, a negative's $\sigma(s)$ times `negatives` over
    the number of shared ones (equation `word2vec-gradient`). With "skip-gram" `centres` are input
    vectors and the others output vectors; with "cbow" `contexts` are input vectors, whose mean
    over the band predicts the centre's output vector.

    Args:
        centres: rows of the vectors of each stretch's words.
        contexts: rows of those and of the words around them.
        noise: rows of what was drawn.
        band: which contexts each centre is paired with.
        negatives: K, ≥ 1, that the shared ones stand for.
        mode: "skip-gram" or "cbow".
        loss: whether the loss is computed as well.
    """
    checks.one_of("mode", mode, MODES)
    negatives = checks.count("negatives", negatives)
    checks.tensor("centres", centres, shape=("b", "c", "d"), floating=True)
    b, c, d = centres.shape
    checks.tensor("contexts", contexts, shape=(b, "x", d), floating=True)
    checks.tensor("noise", noise, shape=(b, "s", d), floating=True)
    checks.tensor("band", band, shape=(b, c, contexts.shape[1]))
    if noise.shape[1] < 1:
        raise ValueError("noise must hold one row or more a stretch, got none")
    pairs = band.to(centres.dtype)
    weight = negatives / noise.shape[1]
    if mode == "skip-gram":
        scores, against = centres @ contexts.mT, centres @ noise.mT
        drawn = weight * pairs.sum(2, keepdim=True)
        told = None
        if loss:
            told = (F.softplus(-scores) * pairs).sum() + (
                F.softplus(against) * drawn
            ).sum()
        pull = scores.sigmoid_().sub_(1).mul_(pairs)  # eq. word2vec-gradient
        push = against.sigmoid_().mul_(drawn)
        return Slopes(
            pull @ contexts + push @ noise, pull.mT @ centres, push.mT @ centres, told
        )
    some = pairs.any(2).to(pairs.dtype)
    mean = pairs / pairs.sum(2, keepdim=True).clamp(min=1)
    hidden = mean @ contexts  # eq. word2vec-cbow
    scores, against = (hidden * centres).sum(2), hidden @ noise.mT
    told = None
    if loss:
        one = F.softplus(-scores) + weight * F.softplus(against).sum(2)
        told = (one * some).sum()
    pull = ((scores.sigmoid() - 1) * some)[..., None]
    push = against.sigmoid() * (weight * some)[..., None]
    back = pull * centres + push @ noise
    return Slopes(pull * hidden, mean.mT @ back, push.mT @ hidden, told)


def train(
    model: nn.Module,
    text: Corpus,
    *,
    mode: str = "skip-gram",
    window: int = 5,
    negatives: int = 5,
    epochs: int = 5,
    lr: float = 0.025,
    subsample: float | None = 1e-3,
    power: float = 0.75,
    batch_size: int = 256,
    shared: int = 32,
    seed: int = 0,
) -> list[float]:
    r"""Train vectors by stochastic gradient descent, and return the loss as it fell.

    Every epoch reads the text anew, with other words left out and other windows. Gradients of a
    batch are added up, as if each pair had taken its own step from the same place, so a batch must
    stay small against the vocabulary: where a word stands in it many times, its steps add up.

    Args:
        model: a `Word2Vec`, or a `FastText`, whose words are those of the text.
        text: as `corpus` makes it.
        mode: "skip-gram" or "cbow".
        window: words to either side at most, ≥ 1; each centre draws 1 … `window`.
        negatives: K, ≥ 1, for each pair; for each word with "cbow".
        epochs: ≥ 1.
        lr: at the beginning, > 0; it falls along a line to a ten-thousandth of that.
        subsample: the threshold of `keep_probability`; None keeps all words.
        power: of the noise distribution, ≥ 0.
        batch_size: words of a batch, ≥ 1, in stretches of up to 32.
        shared: negatives that a stretch shares, ≥ 1.
        seed: of all that is drawn.

    Returns:
        The loss per pair (per word with "cbow") of every hundredth batch, in nats.

    Raises:
        FloatingPointError: the vectors ran away; a smaller `lr` or `batch_size` is needed.
    """
    checks.one_of("mode", mode, MODES)
    window, epochs = checks.count("window", window), checks.count("epochs", epochs)
    negatives, shared = (
        checks.count("negatives", negatives),
        checks.count("shared", shared),
    )
    lr = checks.number("lr", lr, above=0)
    batch_size = checks.count("batch_size", batch_size)
    seed = checks.count("seed", seed, least=0)
    a_corpus(text)
    parts = _Parts(model, text, mode)
    device = parts.inner.device
    draw = torch.Generator(device=device).manual_seed(seed)
    keep = torch.ones(len(text.counts), device=device)
    if subsample is not None:
        keep = keep_probability(text.counts, subsample).float().to(device)
    noise = noise_distribution(text.counts, power).cumsum(0).float().to(device)
    ids, sentence = text.ids.to(device), text.sentence.to(device)
    length = min(STRETCH, batch_size)
    words_an_epoch = float(keep[ids].sum())
    steps = epochs * max(
        1, math.ceil(words_an_epoch / (length * (batch_size // length)))
    )
    told: list[Tensor] = []
    step = 0
    for _ in range(epochs):
        stays = torch.rand(len(ids), generator=draw, device=device) < keep[ids]
        cut = stretches(ids[stays], sentence[stays], length, window)
        order = torch.randperm(len(cut[0]), generator=draw, device=device)
        for rows in order.split(batch_size // length):
            around, where = cut[0][rows], cut[1][rows]
            band = bands(where, window, draw)
            place = torch.rand(len(rows), shared, generator=draw, device=device)
            drawn = torch.searchsorted(noise, place).clamp(max=len(noise) - 1)
            rate = lr * max(1 - step / steps, 1e-4)
            loss = parts.step(
                around, window, drawn, band, negatives, rate, loss=step % 100 == 0
            )
            if loss is not None:
                told.append(loss)
            step += 1
    losses = torch.stack(told).tolist()
    if not (math.isfinite(losses[-1]) and bool(torch.isfinite(parts.inner).all())):
        raise FloatingPointError(
            f"the vectors ran away with lr={lr} and batch_size={batch_size}: make one smaller"
        )
    return losses


def stretches(
    ids: Int[Tensor, " n"], sentence: Int[Tensor, " n"], length: int, window: int
) -> tuple[Int[Tensor, "b x"], Int[Tensor, "b x"]]:
    """Cut a text into stretches of `length` words, with a window to either side of each.

    Returns:
        The words, and their sentences; what fills up the ends stands in sentence -1.
    """
    count = max(1, math.ceil(len(ids) / length))
    behind = window + count * length - len(ids)
    ids = F.pad(ids, (window, behind))
    sentence = F.pad(sentence, (window, behind), value=-1)
    wide = length + 2 * window
    return ids.unfold(0, wide, length), sentence.unfold(0, wide, length)


def bands(
    sentence: Int[Tensor, "b x"], window: int, draw: torch.Generator | None = None
) -> Bool[Tensor, "b c x"]:
    """Return which contexts each centre is paired with: those within its reach and its sentence.

    Args:
        sentence: as `stretches` returns it.
        window: as there.
        draw: for a reach of 1 … `window` of each centre; the whole window if None.
    """
    wide = sentence.shape[1]
    at = torch.arange(wide, device=sentence.device)
    apart = (at[window : wide - window, None] - at).abs()
    centre = sentence[:, window : wide - window, None]
    reach: Tensor | int = window
    if draw is not None:
        shape = centre.shape
        reach = torch.randint(
            1, window + 1, shape, generator=draw, device=sentence.device
        )
    near = (apart <= reach) & (apart > 0)
    return near & (centre == sentence[:, None]) & (centre >= 0)


class _Bags(NamedTuple):
    """Words of a batch that are means of rows: each word once, its rows one after the other."""

    at: Tensor  # for each centre, the word it is
    sizes: Tensor  # rows of each word
    rows: Tensor  # all of them
    share: Tensor  # one over the size


class _Parts:
    """The tables of a model, and how one batch changes them."""

    rows: Tensor | None = None
    share: Tensor

    def __init__(self, model: nn.Module, text: Corpus, mode: str):
        inner, outer = (
            getattr(model, name, None) for name in ("in_vectors", "out_vectors")
        )
        if not (isinstance(inner, Tensor) and isinstance(outer, Tensor)):
            raise TypeError(
                f"model must be a Word2Vec or a FastText, got {type(model).__name__}"
            )
        if len(outer) != len(text.counts):
            raise ValueError(
                f"model has {len(outer)} words, the text has {len(text.counts)}"
            )
        self.mode, self.inner, self.outer = mode, inner.data, outer.data
        if isinstance(model, FastText):
            if mode != "skip-gram":
                raise ValueError(
                    f"mode={mode!r} must be 'skip-gram' where model is a FastText"
                )
            if model.words != text.vocabulary.tokens:
                raise ValueError(
                    "model must have the words of the text in their order: "
                    "FastText(text.vocabulary.tokens)"
                )
            self.rows, self.share = model.rows, model.share

    def step(
        self,
        around: Int[Tensor, "b x"],
        window: int,
        drawn: Int[Tensor, "b s"],
        band: Bool[Tensor, "b c x"],
        negatives: int,
        rate: float,
        *,
        loss: bool,
    ) -> Float[Tensor, ""] | None:
        """Take one step; return the loss of a pair before it, where it is asked for."""
        middle = around[:, window : around.shape[1] - window]
        skip = self.mode == "skip-gram"
        tables = (self.inner, self.outer) if skip else (self.outer, self.inner)
        bags = None if self.rows is None else self.bags(middle, self.rows)
        first = tables[0][middle] if bags is None else self.means(bags)
        slopes = band_slopes(
            first,
            tables[1][around],
            self.outer[drawn],
            band,
            negatives,
            mode=self.mode,
            loss=loss,
        )
        if bags is not None:
            self.scatter(bags, slopes.centres, rate)
        else:
            _descend(tables[0], middle, slopes.centres, rate)
        _descend(tables[1], around, slopes.contexts, rate)
        _descend(self.outer, drawn, slopes.noise, rate)
        if slopes.loss is None:
            return None
        many = band.sum() if skip else band.any(2).sum()
        return slopes.loss / many.clamp(min=1)

    def bags(self, middle: Int[Tensor, "b c"], rows: Int[Tensor, "v g"]) -> _Bags:
        """Return what the words of a batch are means of."""
        words, at = middle.unique(return_inverse=True)
        real = self.share[words] > 0
        return _Bags(at, real.sum(1), rows[words][real], self.share[words, 0])

    def means(self, bags: _Bags) -> Float[Tensor, "b c d"]:
        """Return the means of the rows that words are made of."""
        starts = bags.sizes.cumsum(0) - bags.sizes
        return F.embedding_bag(bags.rows, self.inner, starts, mode="mean")[bags.at]

    def scatter(self, bags: _Bags, slope: Float[Tensor, "b c d"], rate: float) -> None:
        """Share a gradient among the rows of each word, equal words' gradients added up first."""
        total = torch.zeros(
            len(bags.sizes), slope.shape[-1], dtype=slope.dtype, device=slope.device
        )
        total.index_add_(0, bags.at.flatten(), slope.flatten(0, 1))
        parts = (bags.share[:, None] * total).repeat_interleave(bags.sizes, 0)
        _descend(self.inner, bags.rows, parts, rate)


def _descend(table: Tensor, rows: Tensor, slopes: Tensor, rate: float) -> None:
    """Subtract gradients from rows of a table; those of a row that comes again add up."""
    table.index_add_(0, rows.flatten(), slopes.flatten(0, -2), alpha=-rate)
