"""`tokenizer.json`, the file of Hugging Face tokenizers: byte-level BPE read and written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nnlib.language import _patterns

LETTERS = [*range(33, 127), *range(161, 173), *range(174, 256)]
"""Bytes that the file shows as the Latin-1 character of the same number."""


def byte_letters() -> list[str]:
    """Return the character that stands for each byte in GPT-2's files.

    Bytes that would print as nothing, such as the space, get the characters from number 256 on.
    """
    others = iter(range(256, 512))
    return [chr(byte if byte in LETTERS else next(others)) for byte in range(256)]


class Contents(NamedTuple):
    """What a byte-level BPE is made of."""

    vocabulary: dict[bytes, int]
    merges: list[tuple[bytes, bytes]]
    special_tokens: dict[str, int]
    added_tokens: dict[str, int]
    pattern: str
    normalization: str | None
    prefix_space: bool
    whole_pieces: bool


def read(source: Any) -> Contents:
    """Return what a file, a folder or an instance holds.

    Args:
        source: a `tokenizer.json`, a folder that holds one, or a tokenizer of `tokenizers` or
            `transformers`.

    Raises:
        ValueError: no such file, it is damaged, or it asks for what is not supported.
    """
    content = _content(source)
    model = _part(content, "model", dict)
    _only(model, "model", "type", ("BPE",))
    for name in ("byte_fallback", "fuse_unk", "continuing_subword_prefix",
                 "end_of_word_suffix", "dropout", "unk_token"):  # fmt: skip
        _only(model, "model", name, (None, False, "", 0))
    bytes_of = {letter: byte for byte, letter in enumerate(byte_letters())}
    special, added = _added(content)
    vocabulary: dict[bytes, int] = {}
    for token, number in _part(model, "vocab", dict, "model.").items():
        if isinstance(number, bool) or not isinstance(number, int) or number < 0:
            raise _damaged(f"model.vocab[{token!r}]={number!r} must be a number ≥ 0")
        if token not in special and token not in added:
            vocabulary[_bytes(token, bytes_of, "model.vocab")] = number
    merges = []
    for at, pair in enumerate(_part(model, "merges", list, "model.")):
        parts = pair.split(" ") if isinstance(pair, str) else pair
        if not (isinstance(parts, list) and len(parts) == 2
                and all(isinstance(part, str) and part for part in parts)):  # fmt: skip
            raise _damaged(f"model.merges[{at}]={pair!r} must hold two tokens")
        left, right = (_bytes(part, bytes_of, f"model.merges[{at}]") for part in parts)
        merges.append((left, right))
    pattern, prefix = _cutting(content.get("pre_tokenizer"))
    normalization = _normalization(content.get("normalizer"))
    if normalization and any(
        token.get("normalized") for token in content["added_tokens"]
    ):
        raise _unsupported("an added token with normalized=true beside a normalizer")
    whole = bool(model.get("ignore_merges"))
    return Contents(
        vocabulary, merges, special, added, pattern, normalization, prefix, whole
    )


def written(contents: Contents) -> str:
    """Return the text of a file that `tokenizers` reads."""
    letters = byte_letters()

    def shown(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [
        {"id": number, "content": token, **flags, "special": special}
        for tokens, special in ((contents.special_tokens, True),
                                (contents.added_tokens, False))
        for token, number in tokens.items()
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": contents.prefix_space,
             "trim_offsets": True, "use_regex": contents.pattern == _patterns.GPT2}  # fmt: skip
    cut: dict[str, Any] = level
    if not level["use_regex"]:
        split = {"type": "Split", "pattern": {"Regex": contents.pattern},
                 "behavior": "Isolated", "invert": False}  # fmt: skip
        cut = {"type": "Sequence", "pretokenizers": [split, level]}
    normalizer = contents.normalization and {"type": contents.normalization}
    model = {
        "type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False,
        "continuing_subword_prefix": None, "end_of_word_suffix": None,
        "byte_fallback": False, "ignore_merges": contents.whole_pieces,
        "vocab": {shown(token): at for token, at in contents.vocabulary.items()},
        "merges": [[shown(left), shown(right)] for left, right in contents.merges],
    }  # fmt: skip
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": sorted(added, key=lambda token: token["id"]),
        "normalizer": normalizer, "pre_tokenizer": cut, "post_processor": None,
        "decoder": level, "model": model,
    }, ensure_ascii=False, indent=1)  # fmt: skip


def _content(source: Any) -> dict[str, Any]:
    if isinstance(source, str | Path):
        path = Path(source)
        path = path / "tokenizer.json" if path.is_dir() else path
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ValueError(
                f"model_or_path={str(source)!r} must be a tokenizer.json that exists, or "
                "a folder that holds one"
            ) from None
        except UnicodeDecodeError:
            raise _damaged(f"{path.name} is no text") from None
    else:
        instance = getattr(source, "backend_tokenizer", source)
        if not callable(getattr(instance, "to_str", None)):
            raise TypeError(
                "model_or_path must be a tokenizer.json, a folder that holds one or a "
                f"tokenizer of Hugging Face, got {type(source).__name__}"
            )
        text = instance.to_str()
    try:
        content = json.loads(text)
    except ValueError as error:
        raise _damaged(f"it is no JSON ({error})") from None
    if not isinstance(content, dict):
        raise _damaged("it must hold an object")
    content.setdefault("added_tokens", [])
    return content


def _damaged(what: str) -> ValueError:
    return ValueError(f"model_or_path is damaged: {what}")


def _unsupported(what: str) -> ValueError:
    return ValueError(f"model_or_path has {what}, which is not supported")


def _part(content: dict[str, Any], name: str, kind: type, of: str = "") -> Any:
    value = content.get(name)
    if not isinstance(value, kind):
        raise _damaged(f"{of}{name} must be a {kind.__name__}, got {value!r:.60}")
    return value


def _only(
    content: Mapping[str, Any], of: str, name: str, wanted: tuple[Any, ...]
) -> None:
    if content.get(name) not in wanted:
        raise _unsupported(f"{of}.{name}={content.get(name)!r}")


def _bytes(token: str, bytes_of: dict[str, int], where: str) -> bytes:
    try:
        return bytes(bytes_of[letter] for letter in token)
    except KeyError as lost:
        raise _damaged(
            f"{where} holds {token!r}, in which {lost} stands for no byte"
        ) from None


def _added(content: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Return special tokens, and those that are cut out of every text."""
    special: dict[str, int] = {}
    added: dict[str, int] = {}
    for at, token in enumerate(_part(content, "added_tokens", list)):
        fits = (isinstance(token, dict) and isinstance(token.get("content"), str)
                and type(token.get("id")) is int and token["content"])  # fmt: skip
        if not fits:
            raise _damaged(f"added_tokens[{at}]={token!r:.60} must have content and id")
        for flag in ("single_word", "lstrip", "rstrip"):
            _only(token, f"added_tokens[{at}]", flag, (None, False))
        (special if token.get("special") else added)[token["content"]] = token["id"]
    return special, added


def _cutting(part: Any) -> tuple[str, bool]:
    """Return the pattern that cuts text into pieces, and whether a space is put before it."""
    parts = [part]
    if isinstance(part, dict) and part.get("type") == "Sequence":
        parts = _part(part, "pretokenizers", list, "pre_tokenizer.")
    *before, level = parts or [None]
    if not isinstance(level, dict) or level.get("type") != "ByteLevel":
        raise _unsupported(f"pre_tokenizer={part!r:.80}; bytes (ByteLevel) are wanted")
    prefix = bool(level.get("add_prefix_space"))
    if level.get("use_regex", True):
        if before:
            raise _unsupported("two rules that cut the text")
        return _patterns.GPT2, prefix
    if len(before) != 1 or not isinstance(before[0], dict) or prefix:
        raise _unsupported(f"pre_tokenizer={part!r:.80}")
    (split,) = before
    _only(split, "pre_tokenizer", "type", ("Split",))
    _only(split, "pre_tokenizer", "behavior", ("Isolated",))
    _only(split, "pre_tokenizer", "invert", (None, False))
    pattern = split.get("pattern")
    if not isinstance(pattern, dict) or not isinstance(pattern.get("Regex"), str):
        raise _unsupported(f"pre_tokenizer.pattern={pattern!r:.60}")
    return pattern["Regex"], prefix


def _normalization(part: Any) -> str | None:
    if part is None:
        return None
    name = part.get("type") if isinstance(part, dict) else part
    if name not in ("NFC", "NFD", "NFKC", "NFKD"):
        raise _unsupported(f"normalizer={name!r}")
    return name
