"""Skip-gram beside gensim's, whose inner loop is Cython: reading a text once, and neighbours.

Both draw their own windows and negatives, so that trained vectors cannot be equal; that they are
equally good on the same text is measured in the chapter's own questions. Neighbours are equal.
"""

from collections.abc import Callable

import torch

from benchmarks.models._contest import Case, Contest, sized
from nnlib.representation.word2vec import Word2Vec, corpus, neighbours, train


def word2vec(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """One pass over t words of a vocabulary of v, in sentences of twenty; and ten neighbours."""
    from gensim.models import Word2Vec as PeerWord2Vec
    from gensim.models.keyedvectors import KeyedVectors

    draw = torch.Generator().manual_seed(0)
    share = 1 / torch.arange(1, size["v"] + 1).double()  # as words of a text are: Zipf's law
    drawn = torch.multinomial(share, size["t"], True, generator=draw).view(-1, 20).tolist()
    sentences = [[f"w{word}" for word in row] for row in drawn]
    text = corpus(sentences, min_count=1)
    names, d = text.vocabulary.tokens, size["e"]
    mine = Word2Vec(len(names), d, device=device, dtype=dtype)
    peer = PeerWord2Vec(
        vector_size=d, sg=1, negative=5, window=5, sample=1e-3, min_count=1, workers=1
    )
    peer.build_vocab(sentences)
    runs: dict[str, Callable] = {
        "nnlib": lambda: train(mine, text, epochs=1, lr=1e-3),
        "gensim": lambda: peer.train(
            sentences, total_examples=len(sentences), epochs=1, start_alpha=1e-3, end_alpha=1e-4
        ),
    }
    table = torch.randn(len(names), d, generator=draw)
    vectors, keyed = table.to(device, dtype), KeyedVectors(d)
    keyed.add_vectors(names, table.numpy())
    keyed.fill_norms()
    query = torch.arange(10, device=device)
    number = text.vocabulary.numbers

    def near() -> torch.Tensor:
        return neighbours(vectors, query, 10).numbers

    def theirs() -> torch.Tensor:
        found = [keyed.most_similar(names[at], topn=10) for at in range(10)]
        return torch.tensor([[number[word] for word, _ in row] for row in found])

    results = {
        "nnlib": lambda: {"numbers": near().cpu().double()},
        "gensim": lambda: {"numbers": theirs().double()},
    }
    return [
        Contest("word2vec, one pass", size, runs),
        Contest("word2vec, neighbours", size, {"nnlib": near, "gensim": theirs}, results),
    ]


SIZES = sized("tve", (2_000, 100, 16), (200_000, 5_000, 64), (1_000_000, 20_000, 100))
CASES = {"word2vec": Case(word2vec, SIZES[:2], SIZES[1:])}
