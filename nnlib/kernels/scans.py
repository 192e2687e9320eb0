r"""Prefix scans over any operator, round by round: what a round does could be done at once.

Chapter: chapters/kernels/parallel_scan.md     Source: Hillis and Steele 1986; Blelloch 1990

Each function takes a list of anything and an operator, and returns rounds: lists as long as the
input. The entries that a round replaces do not depend on each other, so that a machine with enough
processors replaces them together. `counted` says what that costs.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from nnlib import checks

Combine = Callable[[Any, Any], Any]
Rounds = list[list[Any]]


def sequential(combine: Combine, x: Sequence[Any]) -> Rounds:
    """Return the input, then a round for each step of the loop."""
    sums = list(accumulate(x, combine))
    return [[*sums[: t + 1], *x[t + 1 :]] for t in range(len(x))] or [[]]


def hillis_steele(combine: Combine, x: Sequence[Any]) -> Rounds:
    """Return the rounds of recursive doubling; the last one is the inclusive scan.

    Example:
        >>> hillis_steele(lambda a, b: a + b, ["a", "b", "c"])
        [['a', 'b', 'c'], ['a', 'ab', 'bc'], ['a', 'ab', 'abc']]
    """
    rounds, reach = [list(x)], 1
    while reach < len(x):
        last = rounds[-1]
        joined = map(combine, last, last[reach:])
        rounds.append([*last[:reach], *joined])
        reach *= 2
    return rounds


def blelloch(combine: Combine, x: Sequence[Any], identity: Any) -> Rounds:
    """Return the rounds up and down a balanced tree; the last one is the exclusive scan.

    Args:
        combine: an associative operator.
        x: 2^r entries.
        identity: what changes nothing; it enters at the root.

    Example:
        >>> blelloch(lambda a, b: a + b, ["a", "b", "c", "d"], "")[-1]
        ['', 'a', 'ab', 'abc']
    """
    n = len(x)
    if n < 1 or n & (n - 1):
        raise ValueError(
            f"x must have 1, 2, 4, 8, … entries, got {n}: pad with the identity"
        )
    rounds, half = [list(x)], 1
    while half < n:  # up: each parent is what its two children make
        row = rounds[-1][:]
        for i in range(2 * half - 1, n, 2 * half):
            row[i] = combine(row[i - half], row[i])
        rounds.append(row)
        half *= 2
    rounds.append([*rounds[-1][:-1], identity])  # nothing stands before the root
    while (
        half > 1
    ):  # down: left takes what stood before the parent, right adds the left's sum
        half //= 2
        row = rounds[-1][:]
        for i in range(2 * half - 1, n, 2 * half):
            row[i - half], row[i] = row[i], combine(row[i], row[i - half])
        rounds.append(row)
    return rounds


def sklansky(combine: Combine, x: Sequence[Any]) -> Rounds:
    """Return the rounds of halves: both are scanned, then the left sum goes to all of the right."""
    rounds, half = [list(x)], 1
    while half < len(x):
        row = rounds[-1]
        rounds.append([
            combine(row[i // half * half - 1], row[i]) if i // half % 2 else row[i]
            for i in range(len(x))
        ])  # fmt: skip
        half *= 2
    return rounds


def chunked(combine: Combine, x: Sequence[Any], length: int) -> list[Any]:
    """Return the inclusive scan by chunks: their sums, a scan of those, then each chunk's own.

    Args:
        combine: an associative operator.
        x: the entries, any number.
        length: of a chunk; the last may be shorter.
    """
    checks.count("length", length)
    chunks = [x[at : at + length] for at in range(0, len(x), length)]
    own = [list(accumulate(chunk, combine)) for chunk in chunks]  # all at once
    carried = list(accumulate((sums[-1] for sums in own), combine))  # few
    rest = zip(own[1:], carried, strict=False)
    late = [[combine(carry, y) for y in sums] for sums, carry in rest]  # all at once
    return [y for sums in [*own[:1], *late] for y in sums]


class Counted(NamedTuple):
    """A value, and how many operators stand one after the other behind it."""

    value: Any
    depth: int


def counted(
    scan: Callable[..., Any], combine: Combine, x: Sequence[Any], *rest: Any
) -> tuple[list[Any], int, int]:
    """Run a scan and count its operators: results, work (all of them), depth (the longest chain).

    Args:
        scan: one of this file; it gets the operator, the entries and what follows.
        combine: the operator.
        x: the entries.
        *rest: further arguments of `scan`; an identity goes in as it is.

    Example:
        >>> counted(hillis_steele, lambda a, b: a + b, [1, 1, 1, 1])
        ([1, 2, 3, 4], 5, 2)
    """
    work = 0

    def one(left: Any, right: Any) -> Counted:
        nonlocal work
        work += 1
        left, right = (
            y if isinstance(y, Counted) else Counted(y, 0) for y in (left, right)
        )
        value = combine(left.value, right.value)
        return Counted(value, max(left.depth, right.depth) + 1)

    told = scan(one, [Counted(y, 0) for y in x], *rest)
    last = told[-1] if told and isinstance(told[-1], list) else told
    last = [y if isinstance(y, Counted) else Counted(y, 0) for y in last]
    return [y.value for y in last], work, max((y.depth for y in last), default=0)


class Tick(NamedTuple):
    """What all programs have published at one moment, and which of them looks where."""

    flags: tuple[
        str, ...
    ]  # a program's: "" nothing, "sum" its chunk's own, "prefix" all before too
    looks: dict[int, int]  # program: the neighbour that it waits for or reads


def decoupled_look_back(
    combine: Combine, sums: Sequence[Any], ready: Sequence[int]
) -> Iterator[tuple[Tick, list[Any]]]:
    """Yield, tick by tick, what programs publish that look back for what stands before them.

    Args:
        combine: an associative operator.
        sums: each program's own chunk, summed up.
        ready: the tick at which each program has its own sum.

    Yields:
        The tick, and the inclusive prefixes that are known; None where there is none yet.
    """
    n = len(sums)
    flags, prefixes = [""] * n, [None] * n
    at, so_far = [i - 1 for i in range(n)], [None] * n
    tick = 0
    while "" in flags or "sum" in flags:
        seen, looks = tuple(flags), {}
        for i in range(n):
            if not seen[i] and tick >= ready[i]:
                flags[i] = "sum" if i else "prefix"
                prefixes[i] = None if i else sums[0]
            elif seen[i] == "sum":
                looks[i] = at[i]
                if seen[at[i]]:
                    whole = seen[at[i]] == "prefix"
                    found = prefixes[at[i]] if whole else sums[at[i]]
                    so_far[i] = (
                        found if so_far[i] is None else combine(found, so_far[i])
                    )
                    at[i] -= 1
                    if whole:
                        flags[i], prefixes[i] = "prefix", combine(so_far[i], sums[i])
        yield Tick(tuple(flags), looks), list(prefixes)
        tick += 1
