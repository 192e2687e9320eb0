"""What the contract's checks stand on: a row with its example, how it is built, called and bent."""

import copy
import importlib
import inspect
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnlib import catalog
from tests.support import Example


@dataclass(frozen=True)
class Subject:
    """A written row of the catalogue, with what it names and the example from its test file."""

    row: catalog.Architecture
    thing: Any
    example: Example

    def build(self, *, fresh: bool = False, seed: int = 0, **factory: Any) -> Callable:
        """Return the function, or a module that is ready to answer (as constructed, if `fresh`)."""
        if not inspect.isclass(self.thing):
            return self.thing
        torch.manual_seed(seed)
        made = self.thing(**copy.deepcopy(self.example.arguments), **factory)
        prepare = self.example.prepare
        return made if fresh or prepare is None else prepare(made)

    def call(self, made: Callable, example: Example | None = None) -> list[Tensor]:
        """Return the tensors that it answers with; equal calls draw equal random numbers."""
        torch.manual_seed(2)
        given = example or self.example
        return tensors(made(*given.inputs, **given.named))


def subject(row: catalog.Architecture) -> Subject:
    """Return a row with its example, drawn anew; an error names the file that should have it."""
    stem = f"tests.{row.family}.test_{row.name}"
    module = importlib.import_module(stem)
    if not hasattr(module, "example"):
        raise LookupError(f"{stem.replace('.', '/')}.py needs `def example() -> Example`")
    torch.manual_seed(1)
    return Subject(row, catalog.load(row.name), module.example())


def kind(row: catalog.Architecture) -> str:
    """Tell a module, an optimizer, a function and any other class apart."""
    try:
        thing = catalog.load(row.name)
    except (ImportError, AttributeError):
        return "missing"
    if not inspect.isclass(thing):
        return "function"
    if issubclass(thing, nn.Module):
        return "module"
    return "optimizer" if issubclass(thing, torch.optim.Optimizer) else "class"


def mapped(change: Callable[[Tensor], Tensor], value: Any) -> Any:
    """Return a structure with each of its tensors changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: mapped(change, part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        parts = [mapped(change, part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def changed(example: Example, change: Callable[[Tensor], Tensor]) -> Example:
    """Return the same example with each tensor of its inputs changed."""
    return Example(
        example.arguments, mapped(change, example.inputs), mapped(change, example.named),
        example.prepare,
    )  # fmt: skip


def tensors(output: Any) -> list[Tensor]:
    """Return the tensors and numbers of an output, whatever its structure."""
    if isinstance(output, Tensor):
        return [output]
    if output is None or isinstance(output, str | bool):
        return []
    if isinstance(output, int | float):
        return [torch.tensor(output, dtype=torch.float64)]
    if isinstance(output, dict):
        output = output.values()
    elif not isinstance(output, list | tuple):
        output = vars(output).values()
    return [found for part in output for found in tensors(part)]


def first_of_batch(whole: list[Tensor], single: list[Tensor]) -> list[Tensor]:
    """Cut the answers to a batch to those of its first row, wherever the batch's axis stands."""
    cut = []
    for many, one in zip(whole, single, strict=True):
        axes = [at for at, (m, o) in enumerate(zip(many.shape, one.shape, strict=True)) if m != o]
        assert len(axes) == 1, f"no batch axis: {tuple(many.shape)} of many, {tuple(one.shape)}"
        cut.append(many.narrow(axes[0], 0, 1))
    return cut


def must_refuse(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield an argument of a constructor and a value out of its range, whatever that is."""
    for name, value in arguments.items():
        if isinstance(value, bool):
            yield name, 0.0
        elif isinstance(value, int):
            yield from itertools.product([name], (0, -1, 1.5, True))
        elif isinstance(value, float):
            yield from itertools.product([name], (-1.0, math.nan, "1"))
        elif isinstance(value, str):
            yield name, "no such name"
        elif isinstance(value, list) and value and isinstance(value[0], int):
            yield from itertools.product([name], ([], [0, *value[1:]], [*value[:-1], -1]))
