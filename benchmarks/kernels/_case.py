"""What a benchmark of an operation consists of, and what the files beside this one share."""

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nnlib.kernels.cost import Cost


@dataclass
class Case:
    """One operation at one size.

    Args:
        inputs: tensors; those of floating point are differentiated.
        forms: name and function of the inputs; `nnlib` and `reference` are among them.
        forward: its least cost.
        backward: that of its gradient; None where it has none.
        arithmetic: whether matrix products, not memory, are what limits it.
        together: whether forward and backward are timed as one step, because some of the forms
            compute the gradient in the forward pass.
        own: functions that make the inputs of a form which wants them laid out differently.
    """

    inputs: list[Tensor]
    forms: dict[str, Callable[..., Tensor]]
    forward: Cost
    backward: Cost | None
    arithmetic: bool = False
    together: bool = False
    own: dict[str, Callable[..., list[Tensor]]] = field(default_factory=dict)


def numbers(shape: tuple[int, ...], like: dict[str, Any], scale: float = 1.0) -> Tensor:
    generator = torch.Generator(like["device"]).manual_seed(0)
    return torch.randn(shape, generator=generator, **like) * scale


def liger_kernel() -> Any:
    """Return liger-kernel's functions on a GPU where it is installed, else None."""
    if not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None:
        return None
    return importlib.import_module("liger_kernel.transformers.functional")


def peers(
    like: dict[str, Any], reference: Callable | None = None, *, liger: Callable | None = None
) -> dict[str, Callable]:
    """Return what a GPU offers besides: liger-kernel, and the reference compiled by inductor."""
    found: dict[str, Callable] = {}
    if like["device"].type != "cuda":
        return found
    if liger is not None and liger_kernel() is not None:
        found["liger"] = liger
    if reference is not None:
        found["inductor"] = torch.compile(reference, dynamic=False)
    return found


def sizes(name: str, values: list[int], **fixed: int) -> list[dict[str, int]]:
    """Return sizes that differ in one letter."""
    return [{**fixed, name: value} for value in values]
