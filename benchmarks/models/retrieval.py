"""Search by words beside bm25s, by vectors beside faiss, on the same lists and codes."""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from benchmarks.models._contest import SEED, Case, Contest, sized
from nnlib.data.text import unicode_names
from nnlib.language.retrieval import BM25, DenseIndex, Found, IVFIndex, ProductQuantizer


def bm25(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Building an index of n names of characters, and searching with every 50th; no GPU."""
    if device.type != "cpu":
        return []
    import bm25s

    texts = list(unicode_names())[: size["n"]]
    asked = texts[:: len(texts) // 50][:50]
    tokens, wanted = [text.split() for text in texts], [text.split() for text in asked]

    def build_theirs() -> bm25s.BM25:
        made = bm25s.BM25(method="lucene", k1=1.2, b=0.75)
        made.index(tokens, show_progress=False)
        return made

    mine, theirs = BM25(texts, tokenize=str.split), build_theirs()

    def their_scores() -> torch.Tensor:
        return torch.stack([torch.from_numpy(theirs.get_scores(each)) for each in wanted])

    def search_theirs() -> list:
        return [theirs.retrieve([each], k=10, show_progress=False) for each in wanted]

    told = {
        "nnlib": lambda: {"scores": torch.stack([mine.scores(text) for text in asked])},
        "bm25s": lambda: {"scores": their_scores()},
    }
    return [
        Contest("bm25, building", size, {
            "nnlib": lambda: BM25(texts, tokenize=str.split), "bm25s": build_theirs,
        }),
        Contest("bm25, searching", size, {
            "nnlib": lambda: [mine.search(text, 10) for text in asked], "bm25s": search_theirs,
        }, told),
    ]  # fmt: skip


def nearest(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Ten nearest of n vectors for q questions: exactly, in eight lists, by codes; no GPU."""
    if device.type != "cpu":
        return []
    import faiss

    faiss.omp_set_num_threads(1)
    n, q, d = size["n"], size["q"], size["d"]
    dice = torch.Generator().manual_seed(SEED)
    hubs = torch.randn(200, d, generator=dice)
    x, asked = (
        F.normalize(hubs[torch.randint(200, (m,), generator=dice)]
                    + 0.7 * torch.randn(m, d, generator=dice), dim=1) for m in (n, q)
    )  # fmt: skip
    rows, questions = x.numpy(), asked.numpy()
    exact, flat = DenseIndex(x, "inner"), faiss.IndexFlatIP(d)
    flat.add(rows)
    lists = IVFIndex(x, metric="inner", iterations=4)
    coarse = faiss.IndexFlatIP(d)
    coarse.add(lists.centroids.numpy())
    theirs = faiss.IndexIVFFlat(coarse, d, len(lists.centroids), faiss.METRIC_INNER_PRODUCT)
    theirs.is_trained, theirs.nprobe = True, 8
    theirs.add(rows)
    quantizer = ProductQuantizer(x[:4096], d // 8, iterations=4)
    codes, coded = quantizer.encode(x), faiss.IndexPQ(d, d // 8, 8)
    faiss.copy_array_to_vector(quantizer.centroids.flatten().numpy(), coded.pq.centroids)
    coded.is_trained = True
    coded.add(rows)

    def by_codes() -> Found:
        scores, ids = quantizer.scores(asked, codes).topk(10, dim=1)
        return Found(ids, scores)

    def contest(what: str, ours: Callable[[], Found], peer: Any, sign: float = 1.0) -> Contest:
        runs = {"nnlib": ours, "faiss": lambda: peer.search(questions, 10)}
        told = {
            "nnlib": lambda: {"scores": ours().scores},
            "faiss": lambda: {"scores": sign * torch.from_numpy(peer.search(questions, 10)[0])},
        }
        return Contest(what, size, runs, told)

    return [
        contest("nearest, exact", lambda: exact.search(asked, 10), flat),
        contest("nearest, eight lists", lambda: lists.search(asked, 10, 8), theirs),
        contest("nearest, codes", by_codes, coded, -1.0),
    ]


TEXTS = sized("n", (2000,), (20000,))
VECTORS = sized("nqd", (5000, 1, 64), (50000, 1, 64), (50000, 100, 64), (50000, 100, 256))
CASES = {
    "bm25": Case(bm25, TEXTS, TEXTS),
    "nearest": Case(nearest, VECTORS, VECTORS),
}
