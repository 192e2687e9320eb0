"""What the contract's checks stand on: a row with its example, how it is built, called and bent."""

import copy
import importlib
import inspect
import itertools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnlib import catalog
from tests.support import Example, unhooked


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
    """Tell a module, an optimizer, a tokenizer, a function and any other class apart."""
    try:
        thing = catalog.load(row.name)
    except (ImportError, AttributeError):
        return "missing"
    if not inspect.isclass(thing):
        return "function"
    if issubclass(thing, nn.Module):
        return "module"
    if issubclass(thing, torch.optim.Optimizer):
        return "optimizer"
    return "tokenizer" if hasattr(thing, "encode") and hasattr(thing, "decode") else "class"


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


# ------------------------------------------------------------------- what is tried in their place
PLAIN = (None, "no such name", True, -1, 0, 1.5, math.nan)
DTYPES = (
    torch.complex64, torch.bool, torch.int8, torch.int64, torch.float16, torch.float32,
    torch.float64,
)  # fmt: skip

# Torch's own messages that decisions/0019 calls good enough: they name both dtypes, or devices.
REAL = r"(?:torch\.)?(?:c10::)?([Ff]loat(?:16|32|64)?|[Dd]ouble|[Hh]alf|[Bb][Ff]loat16)"
GOOD_ENOUGH = re.compile(rf"\b{REAL}\b.*\b(?!\1\b){REAL}\b|tensors to be on the same device")


def bent(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is of the wrong kind in place of a good value, and its name."""
    for plain in PLAIN:
        yield repr(plain), plain
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        yield "nothing in it", type(value)()
        for plain in PLAIN:
            yield f"{plain!r} in it", [plain, *value[1:]]
        return
    like = value if isinstance(value, Tensor) else torch.zeros(2, 3)
    for dtype in DTYPES:
        if dtype != like.dtype:
            yield str(dtype), like.to(dtype)
    if like.is_floating_point():
        yield "all NaN", torch.full_like(like, math.nan)
    elif like.dtype != torch.bool:
        yield "negative", -1 - like
        yield "zero", torch.zeros_like(like)
        yield "too large", like + 10**6


def misshapen(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what fits its argument in kind and not in shape: another argument may be named."""
    like = value if isinstance(value, Tensor) else torch.zeros(2, 3)
    yield "an empty tensor", like.new_zeros(0)
    yield "no rows", like[:0]
    yield "a scalar", like.flatten()[0]
    yield "an axis more", like[None]
    yield "an axis less", like[0]
    yield "twice the batch", torch.cat([like, like])
    yield "a longer last axis", torch.cat([like, like], -1)
    yield "a shorter last axis", like[..., :-1]


def raw_errors(
    call: Callable[..., Any], good: dict[str, Any], signature: inspect.Signature
) -> Iterator[str]:
    """Yield, for every bad value of every argument, an outcome that is no result or named error."""
    names = [name for name in signature.parameters if name not in ("device", "dtype")]
    for name in names:
        usual = good.get(name, signature.parameters[name].default)
        kinds = [(told, value, [name]) for told, value in bent(usual)]
        shapes = [(told, value, names) for told, value in misshapen(usual)]
        for told, value, may_be_named in kinds + shapes:
            try:
                with unhooked():
                    call(**{**copy.deepcopy(good), name: value})
            except Exception as error:
                if not _good(error, may_be_named):
                    yield f"{name} = {told}: {type(error).__name__}: {str(error)[:200]}"


def _good(error: Exception, names: list[str]) -> bool:
    """Return whether an error names one of the arguments, or is torch's and says as much."""
    if isinstance(error, RuntimeError | TypeError) and GOOD_ENOUGH.search(str(error)):
        return True
    named = re.search(rf"\b({'|'.join(names)})\b", str(error))
    return isinstance(error, TypeError | ValueError) and named is not None


def bound(call: Callable, example: Example) -> dict[str, Any]:
    """Return the example's inputs by the names of the arguments that they are."""
    return dict(inspect.signature(call).bind(*example.inputs, **example.named).arguments)


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


# ----------------------------------------------------------------------- compiled, in a process
def compile_all(source: str, target: str) -> None:
    """Trace what `source` holds as one graph, and write to `target` what failed, by name.

    The backend "eager" runs the graph as it was traced: a break in it, or a Python value that the
    trace froze wrongly, shows all the same, and nothing waits for a C++ compiler.
    """
    told = {}
    for name, (arguments, state, inputs, named) in torch.load(source, weights_only=False).items():
        torch.manual_seed(0)
        made = catalog.load(name)
        if inspect.isclass(made):
            made = made(**arguments)
            made.load_state_dict(state)
            made.eval()
        try:
            got = tensors(torch.compile(made, fullgraph=True, backend="eager")(*inputs, **named))
            torch.testing.assert_close(got, tensors(made(*inputs, **named)))
        except Exception as error:
            told[name] = f"{type(error).__name__}: {error}"[:2000]
        torch.compiler.reset()
    torch.save(told, target)
