"""Triton, imported when a kernel first runs: it does not exist on macOS and Windows.

`jit` marks a kernel as `triton.jit` does, and `tl` stands for `triton.language` in its text, which
Triton reads rather than runs; only the annotation `tl.constexpr` is met before that. `operation`
registers what launches kernels.
"""

import functools
import importlib.util
import inspect
import os
import types
from collections.abc import Callable
from typing import Any

import torch
import torch._library.triton as _registry

# Stands in for triton.language; each kernel's own copy of its globals receives the real one.
tl: Any = types.SimpleNamespace(constexpr="constexpr")


def interpreting() -> bool:
    """Return whether kernels run in Triton's interpreter, on tensors of the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") in ("1", "true", "on")


@functools.cache
def present() -> bool:
    """Return whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def operation(name: str) -> Callable[[Callable[..., Any]], Any]:
    """Register the function that follows as an operation of torch, by `torch.library.triton_op`.

    Newer ones read the function's text in search of kernels, and import Triton and torch's compiler
    for that, which takes longer than importing torch. They would find none: ours stand behind
    `Kernel`. So the search is left out.
    """

    def register(function: Callable[..., Any]) -> Any:
        search = vars(_registry).get("get_inner_triton_kernels")
        vars(_registry)["get_inner_triton_kernels"] = lambda fn: []
        try:
            return torch.library.triton_op(name, function, mutates_args=())
        finally:
            vars(_registry)["get_inner_triton_kernels"] = search

    return register


class Kernel:
    """A Triton kernel that is built at its first launch: `kernel[grid](*args, **constants)`."""

    __wrapped__: Callable[
        ..., Any
    ]  # the function, as `functools.update_wrapper` calls it

    def __init__(self, function: Callable[..., Any]):
        function = inspect.unwrap(function)  # from the shape checker of the tests
        functools.update_wrapper(self, function)
        self.built: Any = None

    def build(self) -> Any:
        """Return the kernel as `triton.jit` makes it."""
        if self.built is None:
            import triton
            import triton.language

            fn = self.__wrapped__
            names = {**fn.__globals__, "tl": triton.language}
            for name in fn.__code__.co_names:  # functions that the kernel calls
                if isinstance(names.get(name), Kernel):
                    names[name] = names[name].build()
            copy = types.FunctionType(fn.__code__, names, fn.__name__, fn.__defaults__)
            functools.update_wrapper(copy, fn)
            self.built = triton.jit(copy)
        return self.built

    def __call__(self, *args: Any) -> Any:
        """Refuse: a kernel is launched over a grid, and only another kernel may call it."""
        raise TypeError(
            f"{self.__wrapped__.__name__} is a kernel: launch it as kernel[grid](…)"
        )

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        """Return a launcher over `grid` programs."""

        def launch(*args: Any, **constants: Any) -> None:
            if _recording is not None:
                _recording.append(Launch(self, grid, args, constants))
                return
            kernel = self.build()
            # lets torch.compile see the kernel inside the operation
            if not interpreting():
                kernel = torch.library.wrap_triton(kernel)
            kernel[grid](*args, **constants)

        return launch


def jit(function: Callable[..., Any]) -> Kernel:
    """Mark a function as a Triton kernel; see `Kernel`."""
    return Kernel(function)


class Launch:
    """One launch that was recorded instead of made: what a compiler needs to know of it."""

    def __init__(
        self, kernel: Kernel, grid: tuple[int, ...], args: tuple, constants: dict
    ):
        self.kernel, self.grid, self.args, self.constants = (
            kernel,
            grid,
            args,
            constants,
        )


_recording: list[Launch] | None = None


class record_launches:
    """Collect launches without making them; operations then return uninitialised memory."""

    def __enter__(self) -> list[Launch]:
        global _recording
        _recording = []
        return _recording

    def __exit__(self, *_: object) -> None:
        global _recording
        _recording = None


def recording() -> bool:
    """Return whether launches are collected rather than made."""
    return _recording is not None
