"""Tokenizers against Hugging Face's, tiktoken's rule, brute force and counting anew."""

import itertools
import json
import math
import random
import re
import unicodedata
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nnlib.data.text import python_reference
from nnlib.language import _patterns, _tokenizer_file, _unigram
from nnlib.language.tokenization import (
    GPT2_PATTERN,
    BPETokenizer,
    UnigramTokenizer,
    WordPieceTokenizer,
    embedding_parameters,
)
from tests.support import Example, Peer, refuses

tokenizers = Peer("tokenizers")

# What newer models cut by: letters with one sign before them, up to three digits, line ends apart.
LLAMA3_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
END = "<|end|>"


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example({"merges": [(b"t", b"h"), (b"th", b"e")]}, ("the other thé",))


@pytest.fixture(scope="module")
def text():
    return python_reference()[:150_000]


@pytest.fixture(scope="module")
def trained(text):
    return BPETokenizer.train(text, 1500, [END])


def of_hugging_face(tokenizer, tmp_path_factory):
    file = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.save(file)
    return tokenizers.Tokenizer.from_file(str(file))


@pytest.fixture(scope="module")
def theirs(trained, tmp_path_factory):
    return of_hugging_face(trained, tmp_path_factory)


# ---------------------------------------------------------------------------- strings of all kinds
BLOCKS = [
    (0x20, 0x7F), (0x0, 0x20), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x400), (0x400, 0x500),
    (0x590, 0x600), (0x600, 0x700), (0x900, 0x980), (0xE00, 0xE80), (0x1000, 0x10A0),
    (0x2000, 0x2070), (0x3040, 0x3100), (0x4E00, 0x9FFF), (0xAC00, 0xD7A4), (0x1D400, 0x1D800),
    (0x1F300, 0x1F650),
]  # fmt: skip
BETWEEN = ["", " ", "  ", "\n", " \n\n ", "\t", "'s", "'LL", "12", " 123456 ", "½²", END, "\u3000"]


def strings(count, seed=0, blocks=BLOCKS):
    """Words of the manual, letters of many scripts, white space, digits and special tokens."""
    dice = random.Random(seed)
    known = [chr(at) for at in range(0x110000) if unicodedata.category(chr(at)) not in
             ("Cn", "Cs", "Co")]  # fmt: skip
    script = [[c for c in known if low <= ord(c) < high] for low, high in blocks]
    words = python_reference()[:50_000].split()
    made = []
    for _ in range(count):
        parts = []
        for _ in range(dice.randint(1, 6)):
            drawn = dice.random()
            if drawn < 0.4:
                parts.append(dice.choice(words))
            elif drawn < 0.85 or blocks is not BLOCKS:
                letters = dice.choice(script)
                parts.append("".join(dice.choices(letters, k=dice.randint(1, 8))))
            else:
                parts.append("".join(dice.choices(known, k=3)))
            parts.append(dice.choice(BETWEEN))
        made.append("".join(parts))
    return made


anything = st.text(st.characters(exclude_categories=("Cs", "Cn", "Co")), max_size=40)


# --------------------------------------------------------------------- BPE against Hugging Face's
def test_ten_thousand_strings_of_many_scripts_are_encoded_as_by_hugging_face(trained, theirs):
    every = strings(10_000)
    theirs.encode_special_tokens = True  # their text can write no special token either
    wanted = theirs.encode_batch(every)
    theirs.encode_special_tokens = False
    wrong = [s for s, w in zip(every, wanted, strict=True) if trained.encode(s) != w.ids]
    assert not wrong, f"{len(wrong)}, such as {wrong[0]!r}"
    assert sum(END in s for s in every) > 1000 and max(map(len, every)) > 60


@settings(max_examples=60, deadline=None)
@given(anything)
def test_any_string_is_encoded_as_by_hugging_face(trained, theirs, string):
    assert trained.encode(string, "all") == theirs.encode(string).ids


@pytest.mark.parametrize("normalization", [None, "NFC", "NFKD"])
def test_the_pattern_of_newer_models_cuts_as_theirs(text, normalization, tmp_path_factory):
    ours = BPETokenizer.train(text[:40_000], 700, [END], pattern=LLAMA3_PATTERN)
    ours = BPETokenizer(ours.merges, [END], pattern=LLAMA3_PATTERN, normalization=normalization)
    other = of_hugging_face(ours, tmp_path_factory)
    for string in strings(1500, seed=1, blocks=BLOCKS[:-2]):  # which both Unicodes know
        assert ours.encode(string, "all") == other.encode(string).ids, repr(string)


def test_a_space_before_the_text_is_put_as_theirs(trained, tmp_path_factory):
    ours = BPETokenizer(trained.merges, prefix_space=True)
    other = of_hugging_face(ours, tmp_path_factory)
    for string in ["word", " word", "\nword", "", "é"]:
        assert ours.encode(string) == other.encode(string).ids


def test_whole_pieces_are_taken_as_theirs(tmp_path_factory):
    vocabulary = {bytes([b]): b for b in range(256)} | {b"abc": 256, b"ab": 257, b" abc": 258}
    ours = BPETokenizer([(b"a", b"b")], vocabulary=vocabulary, whole_pieces=True)
    other = of_hugging_face(ours, tmp_path_factory)
    for string in ["abc", " abc", "abcd abc", "xabc"]:
        assert ours.encode(string) == other.encode(string).ids
    assert ours.encode("abc") == [256]


@pytest.mark.parametrize("string", ["a" * 700, "ab" * 900, " " * 900, "é" * 300, "the" * 300,
                                    "=-" * 300])  # fmt: skip
def test_a_long_piece_is_merged_as_the_readable_loop_and_as_theirs(trained, theirs, string):
    letters = list(string.encode())
    assert trained._merged_long(letters[:]) == trained._merged(letters[:])
    assert trained.encode(string) == theirs.encode(string).ids


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 20)] * 2), max_size=20), st.text("abcd", max_size=70))
def test_the_heap_merges_as_the_loop_whatever_the_merges(pairs, string):
    """Also in an order that no training gives: later merges that make earlier ones possible."""
    tokens = [b"a", b"b", b"c", b"d"]
    merges = []
    for left, right in pairs:
        merge = tokens[left % len(tokens)], tokens[right % len(tokens)]
        if merge not in merges and len(b"".join(merge)) < 12:
            merges.append(merge)
            tokens.append(b"".join(merge))
    vocabulary = {bytes([b]): b for b in range(256)}
    for token in tokens:
        vocabulary.setdefault(token, len(vocabulary))
    random.Random(len(string)).shuffle(merges)
    ours = BPETokenizer(merges, vocabulary=vocabulary)
    letters = list(string.encode())
    assert ours._merged_long(letters[:]) == ours._merged(letters[:])


def test_gpt2s_pattern_cuts_every_kind_of_character_as_theirs():
    """The ends of every run of characters of one category: after letter, digit, sign and space."""
    cut = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    ours = _patterns.compiled(GPT2_PATTERN)
    ends = []
    for kind, run in itertools.groupby(map(chr, range(0x110000)), unicodedata.category):
        known = list(run) if kind not in ("Cn", "Cs", "Co") else []
        ends += {*known[:8], *known[-8:]}
    assert len(ends) > 8000
    for c in ends:
        string = f"a{c}1{c}!{c} {c}  {c}{c}\n"
        spans = [span for _, span in cut.pre_tokenize_str(string)]
        assert [string[a:b] for a, b in spans] == ours.findall(string), ascii(c)


# ---------------------------------------------------------------------- round trip, special tokens
@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_come_back(trained, data):
    assert trained.decode_bytes(trained.encode(data)) == data


@settings(max_examples=100, deadline=None)
@given(anything)
def test_any_text_comes_back(trained, string):
    assert trained.decode(trained.encode(string)) == string
    assert trained.encode(string) == trained.encode(string.encode())


@settings(max_examples=60, deadline=None)
@given(anything, anything)
def test_text_writes_no_special_token(trained, before, after):
    special = trained.special_tokens[END]
    assert special not in trained.encode(before + END + after)
    assert trained.encode(before + END, [END])[-1] == special
    assert trained.decode(trained.encode(before + END + after)) == before + END + after


def test_the_longest_special_token_is_read_as_theirs(tmp_path_factory):
    ours = BPETokenizer([], ["<a", "<a>", "<a><b>", "<b"])
    other = of_hugging_face(ours, tmp_path_factory)
    for string in ["<a><b>", "x<a>b<ab", "<<a>", "<b<a><", ""]:
        assert ours.encode(string, "all") == other.encode(string).ids


def test_training_cuts_at_special_tokens():
    ours = BPETokenizer.train("ab<|>ab<|>ab", 260, ["<|>"])
    assert ours.merges == [(b"a", b"b")] and len(ours) == 258
    assert ours.special_tokens == {"<|>": 257}


# --------------------------------------------------------------------------------------- training
def recounted(text, merges, pattern=GPT2_PATTERN):
    """Yield every pair's count before each merge, counted anew over the whole text."""
    pieces = Counter(_patterns.compiled(pattern).findall(text))
    words = [([bytes([b]) for b in piece.encode()], n) for piece, n in pieces.items()]
    for left, right in [*merges, (None, None)]:
        counts = Counter()
        for word, n in words:
            for pair in itertools.pairwise(word):
                counts[pair] += n
        yield counts
        for word, _ in words:
            at = 0
            while at + 1 < len(word):
                if word[at] == left and word[at + 1] == right:
                    word[at : at + 2] = [left + right]
                at += 1


@pytest.mark.equation("tokenization-argmax")
def test_each_merge_is_the_most_frequent_pair_counted_anew(text):
    ours = BPETokenizer.train(text[:30_000], 456)
    assert len(ours.merges) == 200
    counted = list(recounted(text[:30_000], ours.merges))
    for merge, counts in zip(ours.merges, counted[:-1], strict=True):
        most = max(counts.values())
        first = min(
            (pair for pair, n in counts.items() if n == most),
            key=lambda pair: [ours.vocabulary[part] for part in pair],
        )
        assert merge == first


@settings(max_examples=60, deadline=None)
@given(st.text("aab ", max_size=60), st.integers(0, 12))
def test_training_on_repeated_letters_counts_as_anew(string, size):
    ours = BPETokenizer.train(string, 256 + size)
    counted = list(recounted(string, ours.merges))
    for merge, counts in zip(ours.merges, counted[:-1], strict=True):
        assert counts[merge] == max(counts.values())
    if len(ours) < 256 + size:
        assert not counted[-1], "it stopped although there was something to merge"


def test_hugging_faces_trainer_takes_pairs_of_the_same_counts(text):
    """It breaks ties otherwise, so that the counts are compared."""
    part = text[:60_000]
    other = tokenizers.Tokenizer(tokenizers.models.BPE())
    level = tokenizers.pre_tokenizers.ByteLevel
    other.pre_tokenizer = level(add_prefix_space=False)
    other.train_from_iterator([part], tokenizers.trainers.BpeTrainer(
        vocab_size=356, initial_alphabet=level.alphabet(), show_progress=False))  # fmt: skip
    wanted = BPETokenizer.from_hugging_face(other).merges
    ours = BPETokenizer.train(part, 356).merges
    for merges in (wanted, ours):
        assert len(merges) == 100

    def counts_of(merges):
        counted = list(recounted(part, merges))[:-1]
        return [counts[merge] for counts, merge in zip(counted, merges, strict=True)]

    assert counts_of(wanted) == counts_of(ours)
    assert len(set(wanted) & set(ours)) > 90


def test_training_ends_where_pairs_are_too_rare():
    ours = BPETokenizer.train("ab ab cd", 300, min_count=2)
    assert ours.merges == [(b"a", b"b")]
    assert len(BPETokenizer.train("", 300)) == 256


def test_several_texts_are_counted_together():
    assert BPETokenizer.train(["ab", "ab", "cd"], 257).merges == [(b"a", b"b")]


# --------------------------------------------------------------------------------------- encoding
def by_lowest_number(ids, token, string):
    """tiktoken's rule, written anew: join the neighbours whose joint token has the least number."""
    parts = [bytes([byte]) for byte in string.encode()]
    while len(parts) > 1:
        joint = [ids.get(a + b, math.inf) for a, b in itertools.pairwise(parts)]
        if min(joint) == math.inf:
            break
        at = joint.index(min(joint))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return [ids[part] for part in parts]


@pytest.mark.equation("tokenization-rank")
def test_encoding_is_tiktokens_rule_on_the_same_tokens(trained, text):
    pieces = sorted(set(_patterns.compiled(GPT2_PATTERN).findall(text[:100_000])))
    assert len(pieces) > 2000
    for piece in pieces:
        assert trained.encode(piece) == by_lowest_number(trained.vocabulary, None, piece)


@pytest.mark.equation("tokenization-rank")
def test_encoding_replays_the_merges_one_after_the_other(trained):
    for word in [" representation", "undefined", "aaaa", " interpreter's"]:
        parts = [bytes([byte]) for byte in word.encode()]
        if "'" in word:
            parts = parts[:-2]
        for left, right in trained.merges:
            at = 0
            while at + 1 < len(parts):
                if (parts[at], parts[at + 1]) == (left, right):
                    parts[at : at + 2] = [left + right]
                at += 1
        assert trained.tokens(word)[: len(parts)] == parts


def test_dropout_overlooks_merges_and_keeps_the_text(trained):
    string = "The representation of an interpreter"
    dice = torch.Generator().manual_seed(0)
    drawn = {tuple(trained.encode(string, dropout=0.3, generator=dice)) for _ in range(20)}
    assert len(drawn) > 10
    assert {trained.decode(ids) for ids in drawn} == {string}
    assert trained.encode(string, dropout=1.0) == list(string.encode())
    lengths = [
        sum(len(trained.encode(string, dropout=p, generator=dice)) for _ in range(10))
        for p in (0.1, 0.5, 0.9)
    ]
    assert 10 * len(trained.encode(string)) < lengths[0] < lengths[1] < lengths[2]


def test_decoding_half_a_character_says_so(trained):
    assert trained.decode("é".encode()[:1]) == "\ufffd"
    assert trained.decode(torch.tensor([104, 105])) == "hi"


# --------------------------------------------------------------------------------------- files
def test_a_saved_tokenizer_is_read_back_as_it_was(trained, tmp_path):
    trained.save(tmp_path)
    for source in (tmp_path, tmp_path / "tokenizer.json", str(tmp_path)):
        again = BPETokenizer.from_hugging_face(source)
        assert (again.merges, again.vocabulary) == (trained.merges, trained.vocabulary)
        assert again.special_tokens == trained.special_tokens
        assert (again.pattern, len(again)) == (trained.pattern, len(trained))


def test_tokenizers_and_transformers_instances_are_read(trained, theirs):
    fast = Peer("transformers").PreTrainedTokenizerFast(tokenizer_object=theirs)
    for instance in (theirs, fast):
        again = BPETokenizer.from_hugging_face(instance)
        for string in strings(50, seed=3):
            assert again.encode(string) == trained.encode(string)


def test_added_tokens_that_are_not_special_are_always_cut_out(trained, tmp_path):
    ours = BPETokenizer(trained.merges, [END], added_tokens={"<tool>": len(trained)})
    ours.save(tmp_path)
    again = BPETokenizer.from_hugging_face(tmp_path)
    other = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    string = f"a<tool>b{END}"
    assert again.encode(string, "all") == ours.encode(string, "all")
    other.encode_special_tokens = True
    assert again.encode(string) == ours.encode(string) == other.encode(string).ids
    assert len(trained) in ours.encode(string)


def broken(**changes):
    """A small file with changes, as text; a key with a dot goes into the model."""
    content = json.loads(_tokenizer_file.written(
        _tokenizer_file.Contents(
            BPETokenizer([(b"a", b"b")]).vocabulary, [(b"a", b"b")], {END: 257}, {},
            GPT2_PATTERN, None, False, False)))  # fmt: skip
    for name, value in changes.items():
        part = content["model"] if name.startswith("model_") else content
        part[name.removeprefix("model_")] = value
    return json.dumps(content)


BYTES = {letter: at for at, letter in enumerate(_tokenizer_file.byte_letters())}
DAMAGED = {
    "cut off": (broken()[:-40], "model_or_path is damaged: it is no JSON"),
    "a list": ("[]", "model_or_path is damaged: it must hold an object"),
    "no model": (broken(model=None), "model_or_path is damaged: model must be a dict"),
    "wordpiece": (broken(model_type="WordPiece"), "model.type='WordPiece', which is not supported"),
    "no merges": (broken(model_merges=None), "model.merges must be a list, got None"),
    "one half": (broken(model_merges=["a"]), "model.merges[0]='a' must hold two tokens"),
    "no byte": (broken(model_merges=["a \u4e00"]), "'\u4e00' stands for no byte"),
    "few bytes": (broken(model_vocab={"a": 0, "b": 1, "ab": 2}), "lacks 254 of the 256 bytes"),
    "no number": (broken(model_vocab={"a": "0"}), "model.vocab['a']='0' must be a number"),
    "no result": (broken(model_vocab=BYTES), "contradicts: b'ab' is no token"),
    "no part": (broken(model_merges=["ab c"]), "contradicts: b'abc' is no token"),
    "fallback": (broken(model_byte_fallback=True), "model.byte_fallback=True"),
    "end of word": (broken(model_end_of_word_suffix="</w>"), "end_of_word_suffix='</w>'"),
    "lower case": (broken(normalizer={"type": "Lowercase"}), "normalizer='Lowercase'"),
    "words": (broken(pre_tokenizer={"type": "Whitespace"}), "bytes (ByteLevel) are wanted"),
    "no cutting": (broken(pre_tokenizer=None), "bytes (ByteLevel) are wanted"),
    "tokens": (broken(added_tokens=[{"content": "x"}]), "added_tokens[0]={'content': 'x'} must"),
    "stripped": (broken(added_tokens=[{"content": "x", "id": 300, "lstrip": True}]),
                 "added_tokens[0].lstrip=True"),
    "twice": (broken(added_tokens=[{"content": "xyz", "id": 3}]), "two tokens one number"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_refused_by_name(name, tmp_path):
    content, message = DAMAGED[name]
    file = tmp_path / "tokenizer.json"
    file.write_text(content, encoding="utf-8")
    with refuses(ValueError, message):
        BPETokenizer.from_hugging_face(file)


def test_a_file_that_is_none_is_refused(tmp_path):
    with refuses(ValueError, "must be a tokenizer.json that exists"):
        BPETokenizer.from_hugging_face(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe\x00")
    with refuses(ValueError, "tokenizer.json is no text"):
        BPETokenizer.from_hugging_face(tmp_path)
    with refuses(TypeError, "a tokenizer of Hugging Face, got int"):
        BPETokenizer.from_hugging_face(3)


# --------------------------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BPETokenizer.train("ab", 255), "vocab_size=255 must be an integer ≥ 256"),
        (lambda: BPETokenizer.train("ab", 256, [END]), "vocab_size=256 must be an integer ≥ 257"),
        (lambda: BPETokenizer.train("ab", 300, min_count=0), "min_count=0"),
        (lambda: BPETokenizer([(b"th", b"e")]), "merges[0]=(b'th', b'e') contradicts: b'th' is"),
        (lambda: BPETokenizer([(b"a", b"b")] * 2), "merges[1]=(b'a', b'b') contradicts merges[0]"),
        (lambda: BPETokenizer([(b"a", b"")]), "merges[0]=(b'a', b'') must hold no empty token"),
        (lambda: BPETokenizer([], vocabulary={b"a": 0}), "vocabulary lacks 255 of the 256 bytes"),
        (lambda: BPETokenizer([], ["x", "x"]), "special_tokens=['x', 'x'] must each stand once"),
        (lambda: BPETokenizer([], {"x": 7}), "two tokens one number"),
        (lambda: BPETokenizer([], normalization="nfc"), "normalization='nfc' must be one of"),
        (lambda: BPETokenizer([], pattern="("), "is no pattern"),
        (lambda: BPETokenizer([], pattern=r"(a)|b"), "has a group that captures"),
        (lambda: BPETokenizer([], pattern=r"\w+"), "has \\w, which is not supported"),
        (lambda: BPETokenizer([], pattern=r"\p{Greek}"), "has \\p{Greek}, which"),
        (lambda: BPETokenizer([], pattern=r"^a"), "has ^, which is not supported"),
        (lambda: BPETokenizer([]).decode([1, 256]), "ids[1]=256 is no token"),
        (lambda: BPETokenizer([]).decode([-1]), "ids[0]=-1 is no token"),
        (lambda: BPETokenizer([]).encode("a\ud800"), "text[1]='\\ud800' is half of a surrogate"),
        (lambda: BPETokenizer([]).encode("a", "some"), "special='some' must be 'all'"),
        (lambda: BPETokenizer([], [END]).encode("a", ["x"]), "special=['x'] must be among"),
        (lambda: BPETokenizer([]).encode("a", dropout=1.5), "dropout=1.5"),
        (lambda: WordPieceTokenizer(["a"]), "unknown='[UNK]' must be a piece"),
        (lambda: WordPieceTokenizer(["[UNK]", "a", "a"]), "vocabulary must hold each piece once"),
        (lambda: WordPieceTokenizer(["[UNK]"]).decode([1]), "ids[0]=1 is none of 1 pieces"),
        (lambda: WordPieceTokenizer.train("abc", 3), "vocab_size=3 must be an integer ≥ 4"),
        (lambda: UnigramTokenizer({}), "vocabulary must hold a piece or more"),
        (lambda: UnigramTokenizer({"a": 0.5}), "vocabulary['a']=0.5"),
        (lambda: UnigramTokenizer.train("abc", 4), "vocab_size=4 must be an integer ≥ 5"),
        (lambda: UnigramTokenizer({"▁": -1, "a": -1}).sample("b"), "text holds '▁b'"),
        (lambda: embedding_parameters(0, 4, tied=True), "vocab_size=0"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_by_name(call, message):
    with refuses(ValueError, message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BPETokenizer.train(b"ab", 300), "text must be a string or several, got bytes"),
        (lambda: BPETokenizer.train([b"ab"], 300), "text holds bytes, it must hold strings"),
        (lambda: BPETokenizer.train("ab", 300.0), "vocab_size=300.0 must be an integer"),
        (lambda: BPETokenizer([("a", "b")]), "merges[0]=('a', 'b') must be two tokens, as bytes"),
        (lambda: BPETokenizer([], "x"), "special_tokens='x' must be names"),
        (lambda: BPETokenizer([]).encode(3), "text must be a string or bytes, got int"),
        (lambda: BPETokenizer([], pattern=3), "pattern=3 must be a string"),
        (lambda: embedding_parameters(3, 4, tied=1), "tied=1 must be True or False"),
    ],
)  # fmt: skip
def test_bad_kinds_are_refused_by_name(call, message):
    with refuses(TypeError, message):
        call()


# --------------------------------------------------------------------------------------- WordPiece
@pytest.fixture(scope="module")
def wordpiece(text):
    return WordPieceTokenizer.train(text[:40_000], 400)


def log_likelihood(words):
    """Of symbols, each drawn by itself with the share that it has."""
    counts = Counter()
    for word, n in words:
        for symbol in word:
            counts[symbol] += n
    total = sum(counts.values())
    return sum(n * math.log(n / total) for n in counts.values())


@pytest.mark.equation("tokenization-wordpiece")
def test_each_piece_raises_the_likelihood_most():
    """Every possible merge is tried, and the likelihood of the whole text computed anew."""
    string = "hug hugs hugging pug pugs pun puns bun bug bugs bunny " * 3 + "hug pun " * 4
    ours = WordPieceTokenizer.train(string, 20, min_count=1)
    words = [([w[0], *("##" + c for c in w[1:])], n) for w, n in Counter(string.split()).items()]
    letters = {symbol for word, _ in words for symbol in word}
    learned = list(ours.vocabulary)[1 + len(letters) :]
    assert len(learned) > 5

    def merged(pair):
        joint = pair[0] + pair[1].removeprefix("##")
        made = []
        for word, n in words:
            word, at = word[:], 0
            while at + 1 < len(word):
                if (word[at], word[at + 1]) == pair:
                    word[at : at + 2] = [joint]
                at += 1
            made.append((word, n))
        return made

    for piece in learned:
        pairs = {pair for word, _ in words for pair in itertools.pairwise(word)}
        gains = {pair: log_likelihood(merged(pair)) for pair in pairs}
        best = max(gains.values())
        equal = {p for p, gain in gains.items() if gain == pytest.approx(best, abs=1e-9)}
        chosen = [p for p in equal if p[0] + p[1].removeprefix("##") == piece]
        assert chosen, f"{piece} is none of {equal}"
        words = merged(chosen[0])


@pytest.mark.equation("tokenization-longest")
def test_each_piece_is_the_longest_that_fits(wordpiece):
    """Against regular expressions, which try alternatives in the order in which they stand."""
    inside = sorted((p[2:] for p in wordpiece.vocabulary if p.startswith("##")), key=len)
    begin = sorted((p for p in wordpiece.vocabulary if not p.startswith("##")), key=len)
    first, then = (re.compile("|".join(map(re.escape, p[::-1]))) for p in (begin, inside))
    for word in ["representation", "statements", "interpreter", "a", "exceptional", "Zyx"]:
        found = [first.match(word)[0]]
        while len("".join(found)) < len(word):
            found.append(then.match(word, len("".join(found)))[0])
        wanted = [found[0], *("##" + piece for piece in found[1:])]
        assert wordpiece.tokens(word) == wanted


def test_wordpiece_encodes_as_hugging_face(wordpiece):
    other = tokenizers.Tokenizer(tokenizers.models.WordPiece(
        wordpiece.vocabulary, unk_token="[UNK]", max_input_chars_per_word=100))  # fmt: skip
    other.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    # their table of punctuation is that of an older Unicode: scripts that it knows, less one mark
    every = [*strings(3000, blocks=[b for b in BLOCKS if b[1] < 0x2000 or b[0] == 0x4E00]),
             "a" * 100, "a" * 101, ""]  # fmt: skip
    for string in (s.replace("\u061d", "") for s in every):
        assert wordpiece.encode(string) == other.encode(string).ids, repr(string)


def test_wordpiece_gives_words_back(wordpiece):
    said = "The statement raises an exception"
    assert wordpiece.decode(wordpiece.encode(said)) == said
    assert wordpiece.decode(wordpiece.encode("a  b")) == "a b", "spaces are lost"


# --------------------------------------------------------------------------------------- unigram
@pytest.fixture(scope="module")
def unigram(text):
    return UnigramTokenizer.train(text[:20_000], 300)


SMALL = UnigramTokenizer(
    {
        "▁": -2.0,
        "a": -1.53,
        "b": -1.71,
        "ab": -2.57,
        "▁a": -2.2,
        "ba": -2.9,
        "▁ab": -3.1,
        "bab": -4.21,
    }
)


def every_cut(word, model=SMALL):
    """All ways to write a word in pieces, with their log-probabilities, by recursion."""
    if not word:
        return [((), 0.0)]
    return [
        ((word[:end], *rest), model.vocabulary[word[:end]] + score)
        for end in range(1, len(word) + 1)
        if word[:end] in model.vocabulary
        for rest, score in every_cut(word[end:], model)
    ]


WORDS = ["▁abab", "▁babba", "▁bbabaab", "▁a"]


@pytest.mark.equation("tokenization-unigram")
@pytest.mark.parametrize("word", WORDS)
def test_the_probability_of_a_text_is_the_sum_over_all_cuts(word):
    wanted = math.log(sum(math.exp(score) for _, score in every_cut(word)))
    assert SMALL.log_probability(word) == pytest.approx(wanted, abs=1e-12)


@pytest.mark.equation("tokenization-viterbi")
@pytest.mark.parametrize("word", WORDS)
def test_the_best_cut_is_the_best_of_all(word):
    cut, best = max(every_cut(word), key=lambda each: each[1])
    assert len(every_cut(word)) > 1
    assert tuple(SMALL.tokens(word)) == cut
    assert sum(SMALL.vocabulary[piece] for piece in SMALL.tokens(word)) == pytest.approx(best)


@pytest.mark.equation("tokenization-em")
def test_expected_counts_are_those_of_all_cuts_weighed():
    words = {"▁abab": 3, "▁babba": 1, "▁a": 5}
    wanted = Counter()
    for word, n in words.items():
        cuts = every_cut(word)
        total = sum(math.exp(score) for _, score in cuts)
        for cut, score in cuts:
            for piece in cut:
                wanted[piece] += n * math.exp(score) / total
    assert SMALL._expected(words) == pytest.approx(dict(wanted), abs=1e-12)


@pytest.mark.equation("tokenization-em")
def test_a_round_of_em_never_lowers_the_likelihood():
    words = {"▁abab": 3, "▁babba": 1, "▁a": 5, "▁bbab": 2}
    model, before = SMALL, -math.inf
    for _ in range(8):
        now = sum(n * model.log_probability(word) for word, n in words.items())
        assert now >= before - 1e-9
        before = now
        model = UnigramTokenizer(_unigram.normalized(model._expected(words)))
    start = sum(n * SMALL.log_probability(word) for word, n in words.items())
    assert before > start + 1


@pytest.mark.equation("tokenization-sampling")
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 2.0])
def test_cuts_are_drawn_as_often_as_they_should_be(alpha):
    word, count = "▁abab", 4000
    cuts = {cut: math.exp(alpha * score) for cut, score in every_cut(word)}
    total = sum(cuts.values())
    dice = torch.Generator().manual_seed(0)
    drawn = Counter(tuple(SMALL.sample(word, alpha, dice)) for _ in range(count))
    assert set(drawn) <= set(cuts)
    for cut, weight in cuts.items():
        share = weight / total
        spread = math.sqrt(share * (1 - share) / count)
        assert drawn[cut] / count == pytest.approx(share, abs=5 * spread)


def test_unigram_encodes_as_hugging_face(unigram):
    other = tokenizers.Tokenizer(
        tokenizers.models.Unigram(list(unigram.vocabulary.items()), unk_id=0)
    )
    other.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="always")
    for string in [*strings(3000), "", " ", "  ", "▁", "\U0001f600 x\U0001f600\U0001f601"]:
        assert unigram.encode(string) == other.encode(string).ids, repr(string)


def test_unigram_training_gives_what_was_asked_for(unigram, text):
    assert len(unigram) == 300
    total = sum(math.exp(value) for piece, value in unigram.vocabulary.items() if piece != "<unk>")
    assert total == pytest.approx(1, abs=1e-9)
    part = text[:3000]
    assert unigram.decode(unigram.encode(part)) == part.removeprefix(" ")
    letters = UnigramTokenizer(dict.fromkeys(["▁", *part.replace(" ", "▁")], -5.0))
    assert len(unigram.encode(part)) < 0.7 * len(letters.encode(part))


def test_text_writes_no_unknown_token():
    model = UnigramTokenizer({"<unk>": 0.0, "▁": -1, **dict.fromkeys("<unk>", -3.0)})
    assert model.tokens("<unk>") == ["▁", *"<unk>"]


# ----------------------------------------------------------------------------- both ends of a model
@pytest.mark.equation("tokenization-embedding")
def test_a_row_of_the_table_is_a_product_with_a_one_hot_vector():
    table = torch.randn(7, 4, dtype=torch.float64)
    ids = torch.tensor([3, 0, 6])
    torch.testing.assert_close(F.embedding(ids, table), F.one_hot(ids, 7).double() @ table)


@pytest.mark.equation("tokenization-tied")
def test_a_tied_tables_gradient_is_the_sum_of_both_uses():
    table = torch.randn(7, 4, dtype=torch.float64)
    ids, wanted = torch.tensor([3, 0, 6]), torch.tensor([0, 6, 1])

    def loss(source, target):
        return F.cross_entropy(F.embedding(ids, source).tanh() @ target.T, wanted)

    tied = table.clone().requires_grad_()
    loss(tied, tied).backward()
    ends = [table.clone().requires_grad_() for _ in range(2)]
    loss(*ends).backward()
    torch.testing.assert_close(tied.grad, ends[0].grad + ends[1].grad)
    assert (ends[0].grad[1] == 0).all(), "a token that was not read moves its input row not at all"
    assert ends[1].grad.abs().sum(1).min() > 0, "but every row of the output moves"


@pytest.mark.equation("tokenization-parameters")
@pytest.mark.parametrize("tied", [True, False])
def test_the_numbers_of_both_ends_are_those_of_the_modules(tied):
    inside = torch.nn.Embedding(11, 6)
    outside = torch.nn.Linear(6, 11, bias=False)
    if tied:
        outside.weight = inside.weight
    count = sum(p.numel() for p in torch.nn.ModuleList([inside, outside]).parameters())
    assert embedding_parameters(11, 6, tied=tied) == count


@pytest.mark.equation("tokenization-bits")
def test_bits_a_byte_do_not_depend_on_how_a_text_is_cut():
    """A model over bytes, and the same model over tokens: the product of its bytes' chances."""
    ours = BPETokenizer.train("the other mother " * 4, 266)
    text = "the mother"
    dice = torch.Generator().manual_seed(0)
    chance = torch.rand(256, generator=dice, dtype=torch.float64)
    chance = chance / chance.sum()
    by_bytes = -sum(math.log2(chance[byte]) for byte in text.encode()) / len(text)
    losses = [-sum(math.log(chance[b]) for b in token) for token in ours.tokens(text)]
    mean = sum(losses) / len(losses)
    assert len(losses) < len(text)
    assert mean * len(losses) / (len(text.encode()) * math.log(2)) == pytest.approx(by_bytes)


@pytest.mark.equation("tokenization-cost")
def test_the_work_of_a_byte_is_that_of_the_products_that_torch_counts():
    """Blocks of square layers, then the scores of all rows; a token has ρ bytes."""
    vocab_size, width, layers, tokens, rate = 50, 16, 3, 8, 2.5
    blocks = torch.nn.Sequential(*(torch.nn.Linear(width, width) for _ in range(layers)))
    weights = layers * width * width
    with FlopCounterMode(display=False) as counter:
        blocks(torch.randn(tokens, width)) @ torch.randn(vocab_size, width).T
    per_byte = counter.get_total_flops() / (tokens * rate)
    assert per_byte == pytest.approx((2 * weights + 2 * vocab_size * width) / rate)
