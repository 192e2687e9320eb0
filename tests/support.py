"""What several test files share."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jaxtyping
import pytest


@dataclass(frozen=True)
class Example:
    """A tiny one of an architecture and what it is called with; `tests/test_contract.py` runs it.

    Each test file of a chapter's model has a function `example()` that returns one, drawn with
    torch's random numbers, which the contract seeds. The first axis of every input is a batch of
    two or more, whose size no other axis has.

    Args:
        arguments: of the constructor, by name; a function has none.
        inputs: what it is called with, by position.
        named: what it is called with, by name.
        prepare: what a fresh one needs before it answers, such as a fit; returns it.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    inputs: tuple[Any, ...] = ()
    named: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Any], Any] | None = None


class Peer:
    """Another library, which ours is held to, imported when a test first uses it.

    Without it the test is skipped: `make book` does without peers, `make test` installs them.
    """

    def __init__(self, name: str):
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        """Return what the library has of that name; what pytest asks of any object, it has not."""
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        told = f"there is no {self._name.partition('.')[0]}; `make test` installs it"
        return getattr(pytest.importorskip(self._name, reason=told), attribute)


@contextmanager
def unhooked() -> Iterator[None]:
    """Run with no shape checker in between, as users do.

    Under pytest every call is checked against its shape annotations, and that check would answer
    before our own does.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@contextmanager
def refuses(error: type[Exception], message: str) -> Iterator[None]:
    """Expect `error` with `message` (plain text) in it, as users would see it."""
    with unhooked(), pytest.raises(error, match=re.escape(message)):
        yield


def configure(folder: Path, change: dict[str, Any]) -> None:
    """Change the configuration of a model that `transformers` saved; None takes an entry away."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | change
    file.write_text(json.dumps({name: x for name, x in config.items() if x is not None}))


def write(file: Path, text: str) -> None:
    """Write a text, and make the folders that it lies in."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, "utf8")
