"""Measure one operation at one size, and show what was found."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from benchmarks import measure
from benchmarks.kernels import load
from benchmarks.kernels._case import Case


def rows_of(
    name: str,
    sizes: dict[str, int],
    like: dict[str, Any],
    budget: float,
    tell: Callable[[str], None],
    *,
    without: Sequence[str] = (),
) -> Iterator[dict[str, Any]]:
    """Yield the rows of one operation at one size: forward, then backward if it has a gradient."""
    case = load(name).build(like, **sizes)
    for form in without:
        case.forms.pop(form, None)
    given = {form: _inputs(case, form) for form in case.forms}
    _agree(name, case, given, like, tell)
    for direction, cost in (("forward", case.forward), ("backward", case.backward)):
        if cost is None:
            continue
        calls = {}
        for form, function in list(case.forms.items()):
            try:
                call = _call(function, given[form], direction, case.together)
                call()  # what does not fit in memory, or is not implemented, shows here
                calls[form] = call
            except Exception as error:
                if form == "nnlib":
                    raise
                tell(f"{name} {sizes}: {form} left out {direction}, {told(error)}")
        both = direction == "backward" and case.together
        cost = cost + case.forward if both else cost
        row = {
            "operation": name,
            "direction": direction,
            "shape": sizes,
            "dtype": str(like["dtype"]).removeprefix("torch."),
            "flops": cost.flops,
            "bytes": cost.bytes,
            "limit": "matmul" if case.arithmetic else "copy",
            "seconds": measure.compare(calls, like["device"], budget=budget),
        }
        yield row | {"includes_forward": True} if both else row


def told(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]


def _inputs(case: Case, form: str) -> list[Tensor]:
    """Return inputs that belong to one form alone: some of the peers write into theirs."""
    made = case.own[form](*case.inputs) if form in case.own else case.inputs
    return [x.clone() if x.is_contiguous() else x for x in made]


def _call(function, inputs: list[Tensor], direction: str, together: bool) -> Callable[[], Any]:
    """Return what is timed: the operation, its gradient, or both in one step."""
    plain = [x.detach() for x in inputs]
    if direction == "forward":

        def forward():
            with torch.no_grad():
                return function(*plain)

        return forward
    ready = [x.requires_grad_() if x.is_floating_point() else x for x in plain]
    learned = [x for x in ready if x.requires_grad]
    if together:
        return lambda: torch.autograd.grad(function(*ready), learned, allow_unused=True)
    out = function(*ready)
    from_above = torch.ones_like(out)
    return lambda: torch.autograd.grad(
        out, learned, from_above, retain_graph=True, allow_unused=True
    )


def _agree(name: str, case: Case, given: dict, like: dict, tell: Callable) -> None:
    """Compare results before times: nnlib with its reference, then every other form with nnlib."""
    close = 2e-2 if like["dtype"].itemsize < 4 else 1e-3
    with torch.no_grad():
        ours = case.forms["nnlib"](*given["nnlib"]).float()
        scale = ours.abs().max().clamp(min=1e-9)
        for form in [form for form in case.forms if form != "nnlib"]:
            try:
                theirs = case.forms[form](*_inputs(case, form)).float()
            except Exception as error:  # of a peer; or the reference needs too much memory
                if form == "reference" and not isinstance(error, torch.OutOfMemoryError):
                    raise
                tell(f"{name}: {form} left out, {told(error)}")
                del case.forms[form]
                continue
            apart = ((theirs - ours).abs().max() / scale).item()
            if apart <= close:
                continue
            if form == "reference":
                raise RuntimeError(f"{name} differs from its reference by {apart:.2g} of its range")
            tell(f"{name}: {form} left out, it differs by {apart:.2g} of the range")
            del case.forms[form]


def roof(row: dict[str, Any], content: dict[str, Any]) -> float:
    """Return the least seconds that the row's work could take on this device."""
    if row["limit"] == "matmul":
        return row["flops"] / content["matmul_rate"][row["dtype"]]
    return row["bytes"] / content["copy_bandwidth"]


def table(content: dict[str, Any], device: str) -> str:
    """Return the results as text: times of nnlib, its share of the roof, others' time over its."""
    lines = [
        f"{device}: copy {content['copy_bandwidth'] / 1e9:.4g} GB/s, matmul "
        + ", ".join(f"{k} {v / 1e12:.4g} TFLOP/s" for k, v in content["matmul_rate"].items()),
        f"{'operation':21}{'direction':10}{'shape':38}{'nnlib':>12}{'of roof':>15}  others ÷ nnlib",
    ]
    for row in content["rows"]:
        ours = row["seconds"]["nnlib"]
        shape = " ".join(f"{k}={v}" for k, v in row["shape"].items())
        share = f"{roof(row, content) / ours:.0%} {row['limit']}"
        others = "  ".join(
            f"{form} {s / ours:.2f}×" for form, s in row["seconds"].items() if form != "nnlib"
        )
        direction = "both" if row.get("includes_forward") else row["direction"]
        lines.append(
            f"{row['operation']:21}{direction:10}{shape:38}{_time(ours):>12}{share:>15}  {others}"
        )
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.2f} µs"
