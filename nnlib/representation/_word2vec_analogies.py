"""What vectors of words are asked: who is near, and what is to c as b is to a.

Axes: v words, d numbers of a vector, q questions, k answers.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

AT_ONCE = 2**24  # scores that are held at one time
METHODS = ("3CosAdd", "3CosMul", "only b", "only c")


class Neighbours(NamedTuple):
    """The words nearest to each query, nearest first: their cosines and their numbers."""

    cosines: Float[Tensor, "q k"]
    numbers: Int[Tensor, "q k"]


class Answers(NamedTuple):
    """What was answered to each question.

    Attributes:
        numbers: the word that was answered.
        correct: whether it is the fourth word of the question.
        rank: place of that fourth word among all words that may be answered, 1 for the first.
    """

    numbers: Int[Tensor, " q"]
    correct: Bool[Tensor, " q"]
    rank: Int[Tensor, " q"]


def unit(vectors: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """Return vectors of length 1, however long they were; a vector of zeros stays one."""
    largest = vectors.abs().amax(-1, keepdim=True)  # then no square over- or underflows
    scaled = vectors / torch.where(largest > 0, largest, 1.0)
    return F.normalize(scaled, dim=-1, eps=torch.finfo(vectors.dtype).tiny)


def neighbours(
    vectors: Float[Tensor, "v d"],
    query: Int[Tensor, " q"] | Float[Tensor, "q d"],
    k: int = 10,
) -> Neighbours:
    r"""Return the k words whose vectors have the largest cosine with each query.

    Equation `word2vec-cosine`.

    Args:
        vectors: of the words.
        query: numbers of words, which are not among their own neighbours, or vectors.
        k: neighbours of each, 1 … v, or v - 1 where words are asked for.

    Example:
        >>> east_north = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0]])
        >>> neighbours(east_north, torch.tensor([0]), k=2).numbers
        tensor([[1, 2]])
    """
    checks.tensor("vectors", vectors, shape=("v", "d"), floating=True, empty=False)
    size, units = len(vectors), unit(vectors)
    if isinstance(query, Tensor) and query.is_floating_point():
        checks.tensor("query", query, shape=("q", vectors.shape[1]))
        asked, most = unit(query.to(vectors.dtype)), size
    else:
        checks.tokens(
            "query", query, size, shape=("q",), empty=True, of="rows of vectors"
        )
        asked, most = units[query], size - 1
    if checks.count("k", k) > most:
        raise ValueError(f"k={k} must be at most {most}, of {size} words")
    cosines = asked @ units.T  # eq. word2vec-cosine
    if most < size:
        cosines = cosines.scatter(1, query[:, None].long(), -torch.inf)
    return Neighbours(*cosines.topk(k))


def analogies(
    vectors: Float[Tensor, "v d"],
    questions: Int[Tensor, "q 4"],
    *,
    method: str = "3CosAdd",
    exclude: bool = True,
) -> Answers:
    r"""Answer "a is to b as c is to ?", and compare with the fourth word of each question.

    `3CosAdd` (equation `word2vec-analogy`) takes the word nearest to $b - a + c$, with all vectors
    of length 1; `3CosMul` (`word2vec-analogy-mul`) multiplies shifted cosines. `only b` and
    `only c` ask for the nearest word to b or to c and know of no relation: what they get right, no
    analogy was needed for.

    Args:
        vectors: of the words.
        questions: numbers of a, b, c and the word that is expected, a row each.
        method: "3CosAdd", "3CosMul", "only b" or "only c".
        exclude: whether a, b and c are forbidden as answers, which published scores take for
            granted. Without it, "only c" always answers c.

    Example:
        >>> man, woman, king = [1.0, 0.0], [1.0, 1.0], [4.0, 0.5]
        >>> words = torch.tensor([man, woman, king, [3.0, 2.0]])
        >>> analogies(words, torch.tensor([[0, 1, 2, 3]])).correct
        tensor([True])

    Source: Mikolov, Yih and Zweig 2013; 3CosMul: Levy and Goldberg 2014, Linguistic regularities.
    """
    checks.tensor("vectors", vectors, shape=("v", "d"), floating=True, empty=False)
    checks.tokens(
        "questions",
        questions,
        len(vectors),
        shape=("q", 4),
        empty=True,
        of="rows of vectors",
    )
    checks.one_of("method", method, METHODS)
    checks.flag("exclude", exclude)
    if exclude:
        left = len(vectors) - _different(questions[:, :3])
        if checks.readable(left) and not bool((left > 0).all()):
            raise ValueError(
                f"vectors holds {len(vectors)} words, which leaves none to answer with; "
                "exclude=False takes the question's own"
            )
    normed = unit(vectors)
    parts = questions.split(max(1, AT_ONCE // len(vectors)))
    told = [_answers(normed, part, method, exclude) for part in parts]
    return Answers(*(torch.cat(each) for each in zip(*told, strict=True)))


def _answers(
    normed: Float[Tensor, "v d"],
    questions: Int[Tensor, "q 4"],
    method: str,
    exclude: bool,
) -> Answers:
    """Answer as many questions as are held at one time."""
    a, b, c = (normed[questions[:, at]] for at in range(3))
    if method == "3CosAdd":
        score = (b - a + c) @ normed.T  # eq. word2vec-analogy
    elif method == "3CosMul":
        to_a, to_b, to_c = ((1 + part @ normed.T) / 2 for part in (a, b, c))
        score = to_b * to_c / (to_a + 0.001)  # eq. word2vec-analogy-mul
    else:
        score = (b if method == "only b" else c) @ normed.T
    if exclude:
        score = score.scatter(1, questions[:, :3].long(), -torch.inf)
    wanted = questions[:, 3].long()
    better = score > score.gather(1, wanted[:, None])
    numbers = score.argmax(1)
    return Answers(numbers, numbers == wanted, 1 + better.sum(1))


def _different(questions: Int[Tensor, "q 3"]) -> Int[Tensor, " q"]:
    """Return how many different words each question names."""
    return 1 + (questions.sort(1).values.diff(dim=1) != 0).sum(1)
