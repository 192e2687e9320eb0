"""What several test files share."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import pytest


@contextmanager
def refuses(error: type[Exception], message: str) -> Iterator[None]:
    """Expect `error` with `message` (plain text) in it, with no shape checker in between.

    Under pytest every call is checked against its shape annotations, and that check would answer
    before our own does. Users run without it; so does this block.
    """
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with pytest.raises(error, match=re.escape(message)):
            yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
