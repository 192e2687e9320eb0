"""The bytes that a Triton kernel loads and stores, counted by address in the interpreter.

Chapter: chapters/kernels/roofline.md
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from nnlib.kernels import _triton


class Traffic(NamedTuple):
    """What Triton kernels asked of main memory.

    Args:
        read: distinct bytes that were loaded: what must come from main memory once.
        written: distinct bytes that were stored.
        asked: bytes that loads asked for, repeats counted; caches may serve the repeats.
    """

    read: int
    written: int
    asked: int


def moved(function: Callable[..., Any], *inputs: Any) -> Traffic:
    """Run Triton kernels in the interpreter, and count the addresses that they load and store.

    Args:
        function: launches kernels on tensors of the CPU.
        *inputs: its arguments.

    Raises:
        RuntimeError: kernels are not interpreted here.

    Example:
        >>> from nnlib.kernels.softmax import softmax_triton
        >>> moved(softmax_triton, torch.zeros(4, 100))  # doctest: +SKIP
        Traffic(read=1600, written=1600, asked=1600)
    """
    if not callable(function):
        raise TypeError(f"function={function!r} must be callable")
    if not (_triton.present() and _triton.interpreting()):
        raise RuntimeError(
            "moved needs Triton, and TRITON_INTERPRET=1 before a kernel first runs"
        )
    loads: list[np.ndarray] = []
    stores: list[np.ndarray] = []
    with _watched(loads, stores):
        function(*inputs)
    asked = sum(a.size for a in loads)
    return Traffic(_unique(loads), _unique(stores), asked)


def _unique(addresses: list[np.ndarray]) -> int:
    return int(np.unique(np.concatenate(addresses)).size) if addresses else 0


@contextmanager
def _watched(loads: list[np.ndarray], stores: list[np.ndarray]) -> Iterator[None]:
    """Collect the address of every byte that interpreted kernels load and store."""
    from triton.runtime.interpreter import interpreter_builder as builder

    load, store = builder.create_masked_load, builder.create_masked_store

    def note(into, pointers, mask):
        size = pointers.get_element_ty().primitive_bitwidth // 8
        live = np.broadcast_to(mask.data, pointers.data.shape)
        into.append(
            (pointers.data[live].astype(np.int64)[:, None] + np.arange(size)).ravel()
        )

    def noted_load(pointers, mask, *rest):
        note(loads, pointers, mask)
        return load(pointers, mask, *rest)

    def noted_store(pointers, value, mask, *rest):
        note(stores, pointers, mask)
        return store(pointers, value, mask, *rest)

    builder.create_masked_load, builder.create_masked_store = noted_load, noted_store
    try:
        yield
    finally:
        del (
            builder.create_masked_load,
            builder.create_masked_store,
        )  # the class's own show again
