"""What several test files share."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
