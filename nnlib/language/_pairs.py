"""Pairs of neighbours in pieces of text, counted and merged: what BPE and WordPiece learn from.

Part of `nnlib.language.tokenization`.
"""

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

Pair = tuple[int, int]


class Pairs:
    """Distinct pieces, and how often each symbol and each pair stands in them, kept up to date.

    Args:
        pieces: symbols of a piece → how often it stands in the text.
    """

    def __init__(self, pieces: Mapping[Any, int]):
        self.pieces = [list(piece) for piece in pieces]
        self.weights = list(pieces.values())
        self.total = 0
        self.singles: dict[int, int] = defaultdict(int)
        self.counts: dict[Pair, int] = defaultdict(int)
        self.places: dict[Pair, set[int]] = defaultdict(set)
        for at, (piece, n) in enumerate(zip(self.pieces, self.weights, strict=True)):
            for symbol in piece:
                self.singles[symbol] += n
                self.total += n
            for pair in itertools.pairwise(piece):
                self.counts[pair] += n
                self.places[pair].add(at)

    def gain(self, pair: Pair) -> float:
        r"""Return what a merge adds to the log-likelihood of all symbols, each drawn by itself.

        With $f(k) = k \log k$ the likelihood is $\sum_s f(N(s)) - f(N)$ for N symbols in all.
        """
        (x, y), n = pair, self.counts[pair]
        total = self.total
        if x == y:
            n = min(n, self.singles[x] // 2)  # overlapping pairs were counted twice
            parts = _k_log_k(self.singles[x] - 2 * n) - _k_log_k(self.singles[x])
        else:
            parts = (
                _k_log_k(self.singles[x] - n)
                + _k_log_k(self.singles[y] - n)
                - _k_log_k(self.singles[x])
                - _k_log_k(self.singles[y])
            )
        return _k_log_k(n) + parts + _k_log_k(total) - _k_log_k(total - n)

    def merge(self, pair: Pair, new: int) -> list[Pair]:
        """Write `new` for a pair in every piece, left to right; return the pairs that rose."""
        change: dict[Pair, int] = defaultdict(int)
        for at in self.places.pop(pair):
            piece, n = self.pieces[at], self.weights[at]
            merged = _replaced(piece, pair, new)
            times = len(piece) - len(
                merged
            )  # 0 where an earlier merge took one of them
            for symbol, by in ((pair[0], -times), (pair[1], -times), (new, times)):
                self.singles[symbol] += n * by
            self.total -= n * times
            for old in itertools.pairwise(piece):
                change[old] -= n
            for made in itertools.pairwise(merged):
                change[made] += n
                self.places[made].add(at)
            self.pieces[at] = merged
        for each, by in change.items():
            self.counts[each] += by
        self.places.pop(pair, None)
        return [each for each, by in change.items() if by > 0]


@functools.cache
def _k_log_k(k: int) -> float:
    return k * math.log(k) if k else 0.0


def _replaced(symbols: list[int], pair: Pair, new: int) -> list[int]:
    left, right = pair
    found, at, last = [], 0, len(symbols) - 1
    while at <= last:
        if symbols[at] == left and at < last and symbols[at + 1] == right:
            found.append(new)
            at += 2
        else:
            found.append(symbols[at])
            at += 1
    return found
