"""Which form of an operation runs: the Triton kernel on a GPU, else the fastest plain torch.

`NNLIB_KERNELS` forces the choice: `torch` everywhere, or `triton` (an error where it cannot run).
"""

import os
from functools import cache

import torch
from torch import Tensor

from nnlib import checks
from nnlib.kernels import _triton

DTYPES = (torch.float16, torch.bfloat16, torch.float32)


def use_triton(x: Tensor) -> bool:
    """Return whether the public operation runs its kernel for tensors like `x`.

    Raises:
        RuntimeError: `NNLIB_KERNELS=triton`, and no kernel can run here for `x`.
        ValueError: `NNLIB_KERNELS` has an unknown value.
    """
    wish = os.environ.get("NNLIB_KERNELS", "auto")
    if wish == "auto":
        return x.is_cuda and x.dtype in DTYPES and _triton.present()
    checks.one_of("NNLIB_KERNELS", wish, ("auto", "torch", "triton"))
    if wish == "triton":
        require("NNLIB_KERNELS=triton", x)
    return wish == "triton"


def runs_kernel(x: Tensor) -> bool:
    """Return whether a registered operation launches its kernel, or falls back on torch.

    A fallback is what `torch.compile` traces on a machine without a GPU.
    """
    return x.is_cuda or _triton.interpreting() or _triton.recording()


def require(who: str, x: Tensor) -> None:
    """Refuse to go on where no kernel can run for tensors like `x`.

    Raises:
        TypeError: kernels do not compute in the dtype of `x`.
        RuntimeError: Triton is absent, or `x` is on a device that kernels do not run on.
    """
    if x.dtype not in DTYPES:
        took = ", ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES)
        raise TypeError(f"{who} takes {took}, got {x.dtype}")
    if not _triton.present():
        raise RuntimeError(f"{who} needs triton, which is not installed here")
    if not runs_kernel(x):
        raise RuntimeError(
            f"{who} needs CUDA tensors, got {x.device}; to run kernels slowly on the CPU, set "
            "TRITON_INTERPRET=1 before the first one runs"
        )


def mixed_precision(x: Tensor) -> bool:
    """Return whether autocast is on where `x` is; devices such as meta know none."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def alike(**tensors: Tensor | None) -> None:
    """Refuse tensors that differ in dtype or device from the first one.

    Raises:
        TypeError: the dtypes differ.
        ValueError: the devices differ.
    """
    (first, x), *rest = ((name, t) for name, t in tensors.items() if t is not None)
    for name, t in rest:
        if t.dtype != x.dtype:
            raise TypeError(
                f"{name} must have the dtype of {first}, {x.dtype}, got {t.dtype}"
            )
        if t.device != x.device:
            raise ValueError(
                f"{name} must be on {x.device} like {first}, got {t.device}"
            )


@cache
def processors(device: torch.device) -> int:
    """Return how many multiprocessors a GPU has, which as many programs keep busy."""
    if device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.get_device_properties(device).multi_processor_count
    return 132  # of an H100; asked for where kernels are traced or compiled without one
