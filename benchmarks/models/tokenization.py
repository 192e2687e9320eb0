"""Byte pair encoding in plain Python beside `tokenizers`, which is written in Rust.

There is no goal here: Rust may win, and the row says by how much. `RAYON_NUM_THREADS=1` keeps the
peer's training to one thread, as ours has.
"""

from functools import partial

import torch

from benchmarks.models._contest import Case, Contest, sized
from nnlib.data.text import python_reference, unicode_names
from nnlib.language.tokenization import BPETokenizer


def tokenizer(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Training on the Python manual, and encoding it: again, and as if every word were new.

    Both sides encode with the same merges and give the same numbers; the peer does so in its form
    that leaves out where each token stands. Their trainings break ties
    otherwise, so that they are timed and not compared. No GPU takes part.
    """
    if device.type != "cpu":
        return []
    import tokenizers

    text = python_reference()[: 1000 * size["t"]]
    names = "\n".join(unicode_names()[:: max(1, 2000 // size["t"])])
    level = tokenizers.pre_tokenizers.ByteLevel

    def peer_trained() -> tokenizers.Tokenizer:
        made = tokenizers.Tokenizer(tokenizers.models.BPE())
        made.pre_tokenizer = level(add_prefix_space=False)
        made.train_from_iterator([text], tokenizers.trainers.BpeTrainer(
            vocab_size=size["v"], initial_alphabet=level.alphabet(), show_progress=False,
        ))  # fmt: skip
        return made

    theirs = peer_trained()
    mine = BPETokenizer.from_hugging_face(theirs)

    def as_new(forget, encode):
        def run():
            forget()
            return encode()

        return run

    def peer_encoded(said: str) -> list[int]:
        return theirs.encode_batch_fast([said])[0].ids

    trainings = {"nnlib": lambda: BPETokenizer.train(text, size["v"]), "tokenizers": peer_trained}
    contests = [Contest("tokenizer, training", size, trainings)]
    for what, said in (("encoding", text), ("encoding of names", names)):
        ours, others = partial(mine.encode, said), partial(peer_encoded, said)
        told = {
            side: (lambda run=run: {"ids": torch.tensor(run())})
            for side, run in (("nnlib", ours), ("tokenizers", others))
        }
        again = {"nnlib": ours, "tokenizers": others}
        new = {
            "nnlib": as_new(mine.forget, ours),
            "tokenizers": as_new(theirs.model._clear_cache, others),
        }
        contests.append(Contest(f"tokenizer, {what} again", size, again, told))
        contests.append(Contest(f"tokenizer, {what}", size, new, told))
    return contests


SIZES = sized("tv", (60, 512), (460, 768), (460, 4096))  # t thousand letters of text
CASES = {
    "tokenizer": Case(tokenizer, SIZES, SIZES),
}
