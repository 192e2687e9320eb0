"""What a function of torch tensors reads, writes and computes, counted as it runs.

Chapter: chapters/kernels/roofline.md
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnlib import checks
from nnlib.kernels.cost import Cost


class Access(NamedTuple):
    """Bytes of one tensor that one operation reads or writes.

    Args:
        tensor: its name in the trace, "x0" … for inputs, "t2" … for what is made on the way.
        region: which part of it: offset, shape and strides.
        bytes: how many, each counted once.
        whole: how many the whole tensor has.
    """

    tensor: str
    region: tuple
    bytes: int
    whole: int


@dataclass(frozen=True)
class Step:
    """One kernel of a trace: its arithmetic, what it reads and what it writes."""

    name: str
    flops: int
    reads: tuple[Access, ...]
    writes: tuple[Access, ...]

    @property
    def bytes_read(self) -> int:
        """Bytes read, a region that is read twice counted once."""
        return _distinct(self.reads)

    @property
    def bytes_written(self) -> int:
        """Bytes written."""
        return _distinct(self.writes)

    @property
    def cost(self) -> Cost:
        """FLOPs and bytes of this kernel."""
        return Cost(self.flops, self.bytes_read + self.bytes_written)


@dataclass(frozen=True)
class Trace:
    """The kernels that a function launched, in order, and the names of its results."""

    steps: tuple[Step, ...]
    outputs: frozenset[str]

    @property
    def costs(self) -> list[Cost]:
        """The cost of each kernel."""
        return [step.cost for step in self.steps]

    @property
    def cost(self) -> Cost:
        """The cost of all, one after the other."""
        return sum(self.costs, Cost(0, 0))

    def fused(self, *sizes: int) -> "Trace":
        """Return what remains when steps in a row become one kernel each.

        What only passes between steps of one kernel stays in registers: it is neither written nor
        read back. The arithmetic is the same.

        Args:
            *sizes: how many steps each kernel takes, in order; none: one kernel takes all.

        Example:
            >>> scale_and_shift = trace(lambda x: x * 2 + 1, torch.zeros(100))
            >>> scale_and_shift.cost.bytes, scale_and_shift.fused().cost.bytes
            (1600, 800)
        """
        sizes = sizes or (len(self.steps),)
        sizes = tuple(checks.count(f"sizes[{i}]", size) for i, size in enumerate(sizes))
        if sum(sizes) != len(self.steps):
            raise ValueError(
                f"sizes={sizes} must add up to the {len(self.steps)} steps"
            )
        kernels, at = [], 0
        for size in sizes:
            group, later = self.steps[at : at + size], self.steps[at + size :]
            at += size
            made = {a.tensor for step in group for a in step.writes}
            needed = {a.tensor for step in later for a in step.reads} | self.outputs
            kernels.append(
                Step(
                    " + ".join(step.name for step in group),
                    sum(step.flops for step in group),
                    tuple(
                        a for step in group for a in step.reads if a.tensor not in made
                    ),
                    tuple(
                        a for step in group for a in step.writes if a.tensor in needed
                    ),
                )
            )
        return Trace(tuple(kernels), self.outputs)


def trace(function: Callable[..., Any], *inputs: Any) -> Trace:
    """Run a function of torch tensors, and note what each operation reads and writes.

    Each operation of torch counts as one kernel that reads its arguments once and writes its
    results once; what only looks at memory in another way (`view`, `transpose`, a slice) is free.
    Backward passes that the function runs are counted too. Products count two FLOPs for each
    multiplication with its addition; anything else counts one for each number that it computes or
    adds up, `exp` and the like among them; copies count none.

    Args:
        function: takes `inputs`; what it launches by other ways than torch is not seen.
        *inputs: its arguments.

    Example:
        >>> [step.name for step in trace(lambda x: (x.exp() + 1).view(4), torch.zeros(2, 2)).steps]
        ['exp', 'add']
    """
    if not callable(function):
        raise TypeError(f"function={function!r} must be callable")
    watcher = _Watcher(inputs)
    with watcher:
        outputs = function(*inputs)
    return Trace(
        tuple(watcher.steps), frozenset(watcher.name(t) for t in _tensors(outputs))
    )


def count(function: Callable[..., Any], *inputs: Any) -> Cost:
    """Return FLOPs and bytes of all that a function of torch tensors does; see `trace`.

    Example:
        >>> count(torch.add, torch.zeros(1000), torch.ones(1000))
        Cost(flops=1000, bytes=12000)
    """
    return trace(function, *inputs).cost


_MAKES_NO_BYTES = (
    "empty",
    "new_empty",
    "resize",
)  # memory is reserved, nothing is written
_OVERWRITES = {"copy_", "fill_", "zero_"}  # what stood there is not read
_PICKS = {
    "embedding",
    "index",
    "index_select",
    "gather",
    "take",
}  # reads what it gives, no more
_MOVES = {
    "clone",
    "copy",
    "_to_copy",
    "zeros_like",
    "ones_like",
    "full_like",
    "fill",
    "zero",
}
_FLOPS_A_NUMBER = {  # of what torch does in one kernel, for each number of the first argument
    "_softmax": 5, "_log_softmax": 5, "_softmax_backward_data": 4, "_log_softmax_backward_data": 4,
    "native_layer_norm": 8, "native_layer_norm_backward": 12, "_fused_rms_norm": 5,
}  # fmt: skip


class _Watcher(TorchDispatchMode):
    """Notes every operation that reads or writes memory."""

    def __init__(self, inputs: Sequence[Any]):
        super().__init__()
        self.steps: list[Step] = []
        self.names: dict[int, str] = {}  # of storages
        self.alive: list[
            Tensor
        ] = []  # a storage that were freed would lend its address to another
        for tensor in _tensors(inputs):
            self.name(tensor, "x")

    def name(self, tensor: Tensor, prefix: str = "t", *, anew: bool = False) -> str:
        """Return the name of what a tensor's storage holds; written anew, it gets a new one."""
        at = tensor.untyped_storage()._cdata
        if anew or at not in self.names:
            self.names[at] = f"{prefix}{len(self.alive)}"
            self.alive.append(tensor)
        return self.names[at]

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        takes = func._schema.arguments
        written = [a.alias_info is not None and a.alias_info.is_write for a in takes]
        in_place = _tensors([v for v, w in zip(args, written, strict=False) if w])
        outs = [
            a.name for a, w in zip(takes, written, strict=True) if w and a.kwarg_only
        ]
        given_out = _tensors([kwargs.get(name) for name in outs])
        changed, name = in_place + given_out, func._overloadpacket.__name__
        unread = given_out + (in_place if name in _OVERWRITES else [])
        reads = [self._access(t) for t in given if not any(t is u for u in unread)]
        out = func(*args, **kwargs)
        known = {t.untyped_storage()._cdata for t in given}
        made = [t for t in _tensors(out) if t.untyped_storage()._cdata not in known]
        if (made or changed) and not name.startswith(_MAKES_NO_BYTES):
            writes = [self._access(t, anew=True) for t in made]
            writes += [self._access(t, anew=_is_whole(t)) for t in changed]
            if name in _PICKS:
                most = sum(a.bytes for a in writes)
                reads[0] = reads[0]._replace(bytes=min(reads[0].bytes, most))
            flops = self._flops(func, name, args, kwargs, out, given, [*made, *changed])
            self.steps.append(Step(name, flops, tuple(reads), tuple(writes)))
        return out

    def _access(self, tensor: Tensor, *, anew: bool = False) -> Access:
        numbers = math.prod(
            size
            for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
            if stride
        )  # one that is expanded lies in memory once
        whole = tensor.untyped_storage().nbytes()
        region = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        size = min(numbers * tensor.element_size(), whole) if tensor.numel() else 0
        return Access(self.name(tensor, anew=anew), region, size, whole)

    @staticmethod
    def _flops(
        func: Any,
        name: str,
        args: Any,
        kwargs: Any,
        out: Any,
        given: list[Tensor],
        written: list[Tensor],
    ) -> int:
        from torch.utils.flop_counter import (
            flop_registry,
            sdpa_flop_count,
        )  # imports Triton

        packet = func._overloadpacket
        if packet in flop_registry:
            return int(flop_registry[packet](*args, **kwargs, out_val=out))
        if name == "_scaled_dot_product_flash_attention_for_cpu":
            return int(sdpa_flop_count(*(t.shape for t in args[:3])))
        if name in _FLOPS_A_NUMBER:
            return _FLOPS_A_NUMBER[name] * given[0].numel()
        if name.rstrip("_") in _MOVES or not given:
            return 0
        if torch.Tag.reduction in func.tags:
            return max(t.numel() for t in given)
        if torch.Tag.pointwise in func.tags or name.endswith("_"):
            return max(t.numel() for t in written)
        return 0


def _is_whole(tensor: Tensor) -> bool:
    return tensor.numel() * tensor.element_size() == tensor.untyped_storage().nbytes()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _distinct(accesses: Sequence[Access]) -> int:
    """Return the bytes of all accesses, each region counted once and no tensor beyond its size."""
    regions = {(a.tensor, a.region): a for a in accesses}
    tensors: dict[str, int] = {}
    for a in regions.values():
        tensors[a.tensor] = min(tensors.get(a.tensor, 0) + a.bytes, a.whole)
    return sum(tensors.values())
