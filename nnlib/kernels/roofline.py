r"""Roofline: how long an operation must take, from its arithmetic and from the bytes it moves.

Chapter: chapters/kernels/roofline.md     Paper: Williams, Waterman and Patterson 2009
Letters: π FLOP/s of a machine, β bytes/s of its memory, λ seconds of a launch; W FLOPs and Q bytes
of an operation, I = W / Q.

`trace` and `count` run a function and count what each of its operations reads and writes; `moved`
does the same for a Triton kernel in the interpreter. Nothing here is asserted that can be counted.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnlib import checks
from nnlib.kernels import _triton
from nnlib.kernels.cost import Cost


@dataclass(frozen=True)
class Machine:
    """A processor as the roofline sees it: three numbers.

    Args:
        name: for messages and pictures.
        flops: floating-point operations a second that it can do, π > 0.
        bandwidth: bytes a second between it and its main memory, β > 0.
        launch_seconds: seconds that starting one kernel costs, λ ≥ 0.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: a rate that is not above 0, or a negative launch time.

    Example:
        >>> Machine("a desk calculator", flops=100, bandwidth=50).ridge
        2.0
    """

    name: str
    flops: float
    bandwidth: float
    launch_seconds: float = 0.0

    def __post_init__(self):
        if not isinstance(self.name, str):
            raise TypeError(f"name={self.name!r} must be a string")
        for field, bound in (
            ("flops", "above"),
            ("bandwidth", "above"),
            ("launch_seconds", "least"),
        ):
            value = checks.number(field, getattr(self, field), **{bound: 0})
            object.__setattr__(self, field, value)

    @property
    def ridge(self) -> float:
        r"""Intensity at which both limits meet, π / β (equation `roofline-ridge`)."""
        return self.flops / self.bandwidth


# Dense FLOP/s by precision, and bytes/s, as NVIDIA's data sheets have them. Nobody reaches them.
_PUBLISHED = {
    "T4": ({"float32": 8.1e12, "float16": 65e12}, 320e9),
    "A100": ({"float32": 19.5e12, "tf32": 156e12, "float16": 312e12, "bfloat16": 312e12}, 2039e9),
    "H100": ({"float32": 67e12, "tf32": 494e12, "float16": 989e12, "bfloat16": 989e12}, 3350e9),
    "H200": ({"float32": 67e12, "tf32": 494e12, "float16": 989e12, "bfloat16": 989e12}, 4800e9),
}


def published(name: str, precision: str = "bfloat16") -> Machine:
    """Return a GPU as its data sheet describes it: upper bounds, not measurements.

    Args:
        name: "T4", "A100" (SXM, 80 GB), "H100" (SXM) or "H200" (SXM).
        precision: "float32", "tf32", "float16" or "bfloat16", without sparsity; the T4 has the
            first and the third.

    Raises:
        ValueError: an unknown name or precision.

    Example:
        >>> round(published("H100").ridge)
        295

    Source: NVIDIA's data sheets of 2018, 2021, 2022 and 2023.
    """
    rates, bandwidth = _PUBLISHED[checks.one_of("name", name, _PUBLISHED)]
    rate = rates[checks.one_of("precision", precision, rates)]
    return Machine(f"{name}, {precision}", rate, bandwidth)


def attainable(machine: Machine, intensity: float) -> float:
    r"""Return the FLOP/s that an operation can reach: $\min(\pi, \beta I)$.

    That is equation `roofline-attainable`: arithmetic is the flat roof, memory the slanting one.

    Args:
        machine: with π and β.
        intensity: FLOPs for each byte moved, ≥ 0.

    Raises:
        TypeError: `machine` is no `Machine`, or `intensity` no number.
        ValueError: `intensity` is negative or not finite.

    Example:
        >>> calculator = Machine("a desk calculator", flops=100, bandwidth=50)
        >>> attainable(calculator, 0.5), attainable(calculator, 8)
        (25.0, 100.0)

    Source: Williams, Waterman and Patterson 2009, who call it attainable performance.
    """
    _check_machine(machine)
    intensity = checks.number("intensity", intensity, least=0)
    return min(machine.flops, machine.bandwidth * intensity)


def bound(machine: Machine, cost: Cost) -> str:
    """Return what holds an operation up: "memory" left of the ridge, else "compute".

    Args:
        machine: with π and β.
        cost: FLOPs and bytes of the operation.

    Raises:
        TypeError: an argument of the wrong kind, named.

    Example:
        >>> calculator = Machine("a desk calculator", flops=100, bandwidth=50)
        >>> bound(calculator, Cost(flops=10, bytes=40)), bound(calculator, Cost(400, 40))
        ('memory', 'compute')
    """
    _check_machine(machine)
    _check_cost("cost", cost)
    slow = cost.bytes / machine.bandwidth > cost.flops / machine.flops
    return "memory" if slow else "compute"


def seconds(machine: Machine, costs: Cost | Sequence[Cost], launches: int | None = None) -> float:
    r"""Return the least time of kernels that run one after the other.

    $T = n\lambda + \sum_i \max(W_i/\pi,\; Q_i/\beta)$ (equation `roofline-sequence`): each kernel
    waits for the slower of its two supplies, and every launch costs the same.

    Args:
        machine: with π, β and λ.
        costs: of one kernel, or of each.
        launches: n ≥ 0; None is one for each cost.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: `launches` is negative.

    Example:
        >>> calculator = Machine("a desk calculator", 100, 50, launch_seconds=1)
        >>> seconds(calculator, [Cost(flops=10, bytes=100), Cost(flops=400, bytes=100)])
        8.0
    """
    _check_machine(machine)
    costs = [costs] if isinstance(costs, Cost) else costs
    if not isinstance(costs, (list, tuple)):
        raise TypeError(f"costs must be a Cost or a list of them, got {type(costs).__name__}")
    for at, cost in enumerate(costs):
        _check_cost(f"costs[{at}]", cost)
    n = len(costs) if launches is None else checks.count("launches", launches, least=0)
    waits = (max(c.flops / machine.flops, c.bytes / machine.bandwidth) for c in costs)
    return n * machine.launch_seconds + math.fsum(waits)


def matmul_cost(m: int, k: int, n: int, element_size: int = 4, tile: int | None = None) -> Cost:
    r"""Return the cost of an (m, k) matrix times a (k, n) one.

    $W = 2mkn$ FLOPs. With both read once, $Q = b(mk + kn + mn)$ bytes (equation
    `roofline-matmul`); cut into square tiles of the result that share nothing, every tile reads
    its own strips, and $Q \approx b(2mkn/B + mn)$ (`roofline-tile`).

    Args:
        m: rows of the result, ≥ 1.
        k: length of the sums, ≥ 1.
        n: columns of the result, ≥ 1.
        element_size: bytes a number, b ≥ 1.
        tile: side of a tile, B ≥ 1; None: every number is read once.

    Raises:
        TypeError: a size is no integer.
        ValueError: a size below 1.

    Example:
        >>> matmul_cost(1024, 1024, 1024, 2).intensity, matmul_cost(1024, 1024, 1024, 2, tile=1)
        (341.3333333333333, Cost(flops=2147483648, bytes=4297064448))
    """
    m, k, n = checks.count("m", m), checks.count("k", k), checks.count("n", n)
    size = checks.count("element_size", element_size)
    read = m * k + k * n
    if tile is not None:
        tile = checks.count("tile", tile)
        read = m * k * -(-n // tile) + k * n * -(-m // tile)  # each strip, once a tile
    return Cost(2 * m * k * n, size * (read + m * n))


def amdahl(share: float, speedup: float) -> float:
    r"""Return how much faster the whole gets when a share of its time gets faster.

    $S = 1 / (1 - p + p/s)$ (equation `roofline-amdahl`).

    Args:
        share: of the time, p in 0 … 1.
        speedup: of that part, s > 0.

    Raises:
        TypeError: an argument is no number.
        ValueError: an argument out of its range.

    Example:
        >>> amdahl(0.5, 2), round(amdahl(0.02, 1000), 2)
        (1.3333333333333333, 1.02)

    Source: Amdahl 1967.
    """
    p = checks.number("share", share, least=0, most=1)
    return 1 / (1 - p + p / checks.number("speedup", speedup, above=0))


class Placed(NamedTuple):
    """A measured kernel, ready for the diagram; see `placed`."""

    operation: str
    direction: str
    dtype: str
    shape: dict[str, int]
    cost: Cost
    seconds: float
    share: float

    @property
    def rate(self) -> float:
        """FLOP/s that it reached."""
        return self.cost.flops / self.seconds


def placed(record: dict[str, Any], who: str = "nnlib") -> list[Placed]:
    """Return the kernels of one benchmark record with the share of the roof that each reached.

    The roof is the copy bandwidth and the rate of matrix products measured in the same run.

    Args:
        record: one of `nnlib.notebook.measured("kernels")`.
        who: whose times: "nnlib", "reference", "torch" or a peer's name.

    Raises:
        KeyError: the record lacks an entry.
    """
    found = []
    for row in record["rows"]:
        if who not in row["seconds"]:
            continue
        rates = record["matmul_rate"]
        flops = rates.get(row["dtype"]) or max(rates.values())
        machine = Machine(record["device"], flops, record["copy_bandwidth"])
        cost, taken = Cost(row["flops"], row["bytes"]), row["seconds"][who]
        share = seconds(machine, cost, launches=0) / taken
        found.append(
            Placed(
                row["operation"], row["direction"], row["dtype"], row["shape"], cost, taken, share
            )
        )
    return found


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

        Raises:
            TypeError: a size is no integer.
            ValueError: a size below 1, or sizes that do not add up to the number of steps.

        Example:
            >>> scale_and_shift = trace(lambda x: x * 2 + 1, torch.zeros(100))
            >>> scale_and_shift.cost.bytes, scale_and_shift.fused().cost.bytes
            (1600, 800)
        """
        sizes = sizes or (len(self.steps),)
        sizes = tuple(checks.count(f"sizes[{i}]", size) for i, size in enumerate(sizes))
        if sum(sizes) != len(self.steps):
            raise ValueError(f"sizes={sizes} must add up to the {len(self.steps)} steps")
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
                    tuple(a for step in group for a in step.reads if a.tensor not in made),
                    tuple(a for step in group for a in step.writes if a.tensor in needed),
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

    Raises:
        TypeError: `function` cannot be called.

    Example:
        >>> [step.name for step in trace(lambda x: (x.exp() + 1).view(4), torch.zeros(2, 2)).steps]
        ['exp', 'add']
    """
    if not callable(function):
        raise TypeError(f"function={function!r} must be callable")
    watcher = _Watcher(inputs)
    with watcher:
        outputs = function(*inputs)
    return Trace(tuple(watcher.steps), frozenset(watcher.name(t) for t in _tensors(outputs)))


def count(function: Callable[..., Any], *inputs: Any) -> Cost:
    """Return FLOPs and bytes of all that a function of torch tensors does; see `trace`.

    Example:
        >>> count(torch.add, torch.zeros(1000), torch.ones(1000))
        Cost(flops=1000, bytes=12000)
    """
    return trace(function, *inputs).cost


_MAKES_NO_BYTES = ("empty", "new_empty", "resize")  # memory is reserved, nothing is written
_OVERWRITES = {"copy_", "fill_", "zero_"}  # what stood there is not read
_PICKS = {"embedding", "index", "index_select", "gather", "take"}  # reads what it gives, no more
_MOVES = {"clone", "copy", "_to_copy", "zeros_like", "ones_like", "full_like", "fill", "zero"}
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
        self.alive: list[Tensor] = []  # a storage that were freed would lend its address to another
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
        outs = [a.name for a, w in zip(takes, written, strict=True) if w and a.kwarg_only]
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
            size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride
        )  # one that is expanded lies in memory once
        whole = tensor.untyped_storage().nbytes()
        region = (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())
        size = min(numbers * tensor.element_size(), whole) if tensor.numel() else 0
        return Access(self.name(tensor, anew=anew), region, size, whole)

    @staticmethod
    def _flops(func, name, args, kwargs, out, given, written) -> int:
        from torch.utils.flop_counter import flop_registry, sdpa_flop_count  # imports Triton

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
        TypeError: `function` cannot be called.
        RuntimeError: kernels are not interpreted here.

    Example:
        >>> from nnlib.kernels.softmax import softmax_triton
        >>> moved(softmax_triton, torch.zeros(4, 100))  # doctest: +SKIP
        Traffic(read=1600, written=1600, asked=1600)
    """
    if not callable(function):
        raise TypeError(f"function={function!r} must be callable")
    if not (_triton.present() and _triton.interpreting()):
        raise RuntimeError("moved needs Triton, and TRITON_INTERPRET=1 before a kernel first runs")
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
        into.append((pointers.data[live].astype(np.int64)[:, None] + np.arange(size)).ravel())

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
        del builder.create_masked_load, builder.create_masked_store  # the class's own show again


def _check_machine(machine: Any) -> None:
    if not isinstance(machine, Machine):
        raise TypeError(f"machine must be a Machine, got {type(machine).__name__}")


def _check_cost(name: str, cost: Any) -> None:
    if not isinstance(cost, Cost):
        raise TypeError(f"{name} must be a Cost, got {type(cost).__name__}")
