"""Measure every operation of nnlib/kernels against its reference, torch's own form and its peers.

    python -m benchmarks.kernels                      # everything, on the best device
    python -m benchmarks.kernels --quick              # small sizes; printed, not kept
    python -m benchmarks.kernels --only softmax,rope  # two operations; printed, not kept

All times of a run, the copy bandwidth and the rate of matrix products that they are held against
included, come from that run. What the columns mean, and how to measure on a GPU in a few calls:
benchmarks/README.md.
"""

import argparse
import difflib
import functools
import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import measure
from nnlib.device import pick_device
from nnlib.kernels.cost import Cost
from pipeline import ROOT


@dataclass
class Case:
    """One operation at one size.

    Args:
        inputs: tensors; those of floating point are differentiated.
        forms: name and function of the inputs; `nnlib` and `reference` are among them.
        forward: its least cost.
        backward: that of its gradient.
        arithmetic: whether matrix products, not memory, are what limits it.
        together: whether forward and backward are timed as one step, because some of the forms
            compute the gradient in the forward pass.
        own: functions that make the inputs of a form which wants them laid out differently.
    """

    inputs: list[Tensor]
    forms: dict[str, Callable[..., Tensor]]
    forward: Cost
    backward: Cost
    arithmetic: bool = False
    together: bool = False
    own: dict[str, Callable[..., list[Tensor]]] = field(default_factory=dict)


def _numbers(shape: tuple[int, ...], like: dict[str, Any], scale: float = 1.0) -> Tensor:
    generator = torch.Generator(like["device"]).manual_seed(0)
    return torch.randn(shape, generator=generator, **like) * scale


def _kernels(name: str):
    """Return a module of operations; imported one by one, so that one may fail alone."""
    return importlib.import_module(f"nnlib.kernels.{name}")


def _liger():
    """Return liger-kernel's functions on a GPU where it is installed, else None."""
    if not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None:
        return None
    return importlib.import_module("liger_kernel.transformers.functional")


def _peers(
    like: dict[str, Any], reference: Callable | None = None, *, liger: Callable | None = None
) -> dict[str, Callable]:
    """Return what a GPU offers besides: liger-kernel, and the reference compiled by inductor."""
    peers: dict[str, Callable] = {}
    if like["device"].type != "cuda":
        return peers
    if liger is not None and _liger() is not None:
        peers["liger"] = liger
    if reference is not None:
        peers["inductor"] = torch.compile(reference, dynamic=False)
    return peers


def softmax(like, n, c) -> Case:
    ours = _kernels("softmax")
    size = like["dtype"].itemsize
    forms = {
        "nnlib": ours.softmax,
        "reference": ours.softmax_reference,
        "torch": lambda x: F.softmax(x, -1),
    } | _peers(like, ours.softmax_reference)
    cost = functools.partial(ours.softmax_cost, (n, c), size)
    return Case([_numbers((n, c), like)], forms, cost(), cost(backward=True))


def attention(like, b, h, g, t, d, window=None) -> Case:
    ours = _kernels("attention")
    q, k, v = (_numbers((b, heads, t, d), like) for heads in (h, g, g))
    see = {"is_causal": True, "window": window}
    forms = {
        "nnlib": functools.partial(ours.attention, **see),
        "reference": functools.partial(ours.attention_reference, **see),
    }
    if window is None:
        forms["torch"] = functools.partial(
            F.scaled_dot_product_attention, is_causal=True, enable_gqa=h != g
        )
    else:  # torch's fused form knows no window, so it gets a mask
        seen = ours.visible(t, t, is_causal=True, window=window, device=like["device"])
        forms["torch"] = functools.partial(
            F.scaled_dot_product_attention, attn_mask=seen, enable_gqa=h != g
        )
        if like["device"].type == "cuda":
            forms["flex"] = _flex(t, window, h != g)
    cost = functools.partial(
        ours.attention_cost, (b, h, t, d), (b, g, t, d), like["dtype"].itemsize, **see
    )
    return Case([q, k, v], forms, cost(), cost(backward=True), arithmetic=True)


def _flex(t: int, window: int, grouped: bool) -> Callable:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    def seen(b, h, query, key):
        return (key <= query) & (query - key < window)

    mask = create_block_mask(seen, None, None, t, t, device="cuda")
    whole = torch.compile(flex_attention, dynamic=False)
    return lambda q, k, v: whole(q, k, v, block_mask=mask, enable_gqa=grouped)


def rms_norm(like, n, c) -> Case:
    ours = _kernels("rms_norm")
    forms = {
        "nnlib": functools.partial(ours.rms_norm, eps=1e-6),
        "reference": functools.partial(ours.rms_norm_reference, eps=1e-6),
        "torch": lambda x, weight: F.rms_norm(x, (c,), weight, 1e-6),
    } | _peers(
        like,
        functools.partial(ours.rms_norm_reference, eps=1e-6),
        liger=lambda x, weight: _liger().liger_rms_norm(x, weight, 1e-6, in_place=False),
    )
    cost = functools.partial(ours.rms_norm_cost, (n, c), like["dtype"].itemsize)
    inputs = [_numbers((n, c), like), _numbers((c,), like)]
    return Case(inputs, forms, cost(), cost(backward=True))


def layer_norm(like, n, c) -> Case:
    ours = _kernels("layer_norm")
    forms = {
        "nnlib": ours.layer_norm,
        "reference": ours.layer_norm_reference,
        "torch": lambda x, weight, bias: F.layer_norm(x, (c,), weight, bias),
    } | _peers(
        like,
        ours.layer_norm_reference,
        liger=lambda x, weight, bias: _liger().liger_layer_norm(x, weight, bias, 1e-5),
    )
    cost = functools.partial(ours.layer_norm_cost, (n, c), like["dtype"].itemsize)
    inputs = [_numbers((n, c), like), _numbers((c,), like), _numbers((c,), like)]
    return Case(inputs, forms, cost(), cost(backward=True))


def swiglu(like, n, c) -> Case:
    ours = _kernels("swiglu")
    forms = {
        "nnlib": ours.swiglu,
        "reference": ours.swiglu_reference,
        "torch": lambda a, b: F.silu(a) * b,
    } | _peers(like, ours.swiglu_reference, liger=lambda a, b: _liger().liger_swiglu(a, b))
    cost = functools.partial(ours.swiglu_cost, (n, c), like["dtype"].itemsize)
    inputs = [_numbers((n, c), like), _numbers((n, c), like)]
    return Case(inputs, forms, cost(), cost(backward=True))


def rope(like, b, h, t, d) -> Case:
    ours = _kernels("rope")
    positions = torch.arange(t, device=like["device"])
    turn = ours.angles(positions, d).repeat(1, 2)[None]
    cos, sin = turn.cos().to(like["dtype"]), turn.sin().to(like["dtype"])

    def laid_out(x, positions):  # as liger reads it: b t h d, seen as b h t d; and one more head
        return [x.transpose(1, 2).contiguous().transpose(1, 2), x[:, :1].clone()]

    forms = {"nnlib": ours.rope, "reference": ours.rope_reference} | _peers(
        like,
        ours.rope_reference,
        liger=lambda q, k: _liger().liger_rope(q, k, cos, sin)[0],
    )
    cost = functools.partial(ours.rope_cost, (b, h, t, d), element_size=like["dtype"].itemsize)
    return Case(
        [_numbers((b, h, t, d), like), positions], forms, cost(), cost(backward=True),
        own={"liger": laid_out},
    )  # fmt: skip


def cross_entropy(like, n, v) -> Case:
    ours = _kernels("cross_entropy")
    forms = {
        "nnlib": ours.cross_entropy,
        "reference": ours.cross_entropy_reference,
        "torch": F.cross_entropy,
    } | _peers(
        like,
        ours.cross_entropy_reference,
        liger=lambda logits, target: _liger().liger_cross_entropy(logits, target),
    )
    cost = functools.partial(ours.cross_entropy_cost, (n, v), like["dtype"].itemsize)
    target = torch.arange(n, device=like["device"]) * 7 % v
    inputs = [_numbers((n, v), like), target]
    return Case(inputs, forms, cost(), cost(backward=True), together=True)


def linear_cross_entropy(like, n, v, d) -> Case:
    ours = _kernels("linear_cross_entropy")
    forms = {
        "nnlib": ours.linear_cross_entropy,
        "reference": ours.linear_cross_entropy_reference,
        "torch": lambda x, weight, target: F.cross_entropy(F.linear(x, weight), target),
    } | _peers(
        like,
        liger=lambda x, weight, target: _liger().liger_fused_linear_cross_entropy(
            x, weight, target
        ),
    )
    cost = functools.partial(ours.linear_cross_entropy_cost, n, v, d, like["dtype"].itemsize)
    target = torch.arange(n, device=like["device"]) * 7 % v
    inputs = [_numbers((n, d), like), _numbers((v, d), like, d**-0.5), target]
    return Case(inputs, forms, cost(), cost(backward=True), arithmetic=True, together=True)


def linear_scan(like, b, t, d) -> Case:
    ours = _kernels("linear_scan")
    forms = {"nnlib": ours.linear_scan, "reference": ours.linear_scan_reference}
    cost = functools.partial(ours.linear_scan_cost, (b, t, d), like["dtype"].itemsize)
    inputs = [_numbers((b, t, d), like).sigmoid(), _numbers((b, t, d), like)]
    return Case(inputs, forms, cost(), cost(backward=True))


def _sizes(name: str, values: list, **fixed: int) -> list[dict[str, int]]:
    return [{**fixed, name: value} for value in values]


# By operation: how to build it, its sizes on the CPU, its sizes on a GPU; smallest first.
OPERATIONS: dict[str, tuple[Callable[..., Case], list[dict], list[dict]]] = {
    "softmax": (
        softmax,
        _sizes("c", [64, 512, 4096], n=512),
        _sizes("c", [512, 2048, 8192, 32768], n=8192),
    ),
    "attention": (
        attention,
        [{"b": 1, "h": 4, "g": g, "t": t, "d": 64, **w}
         for g, t, w in ((4, 64, {}), (4, 256, {}), (4, 1024, {}), (1, 1024, {}),
                         (4, 1024, {"window": 128}))],
        [{"b": 16384 // t, "h": 16, "g": 16, "t": t, "d": 128}
         for t in (512, 1024, 2048, 4096, 8192)]
        + [{"b": 4, "h": 32, "g": 32, "t": 4096, "d": 64},
           {"b": 4, "h": 32, "g": 8, "t": 4096, "d": 128},
           {"b": 4, "h": 16, "g": 16, "t": 4096, "d": 128, "window": 512},
           {"b": 2, "h": 16, "g": 16, "t": 8192, "d": 128, "window": 512}],
    ),
    "rms_norm": (
        rms_norm,
        _sizes("c", [64, 512, 4096], n=512),
        _sizes("c", [1024, 4096, 8192, 16384], n=8192),
    ),
    "layer_norm": (
        layer_norm,
        _sizes("c", [64, 512, 4096], n=512),
        _sizes("c", [1024, 4096, 8192, 16384], n=8192),
    ),
    "swiglu": (
        swiglu,
        _sizes("c", [64, 512, 4096], n=512),
        _sizes("c", [1024, 4096, 11008, 32768], n=8192),
    ),
    "rope": (
        rope,
        _sizes("t", [64, 256, 1024], b=1, h=4, d=64),
        _sizes("t", [1024, 4096, 16384], b=4, h=32, d=128),
    ),
    "cross_entropy": (
        cross_entropy,
        _sizes("v", [64, 1024, 16384], n=256),
        _sizes("v", [4096, 32000, 128256], n=4096),
    ),
    "linear_cross_entropy": (
        linear_cross_entropy,
        _sizes("n", [256, 1024, 4096], v=1000, d=64),
        [*_sizes("n", [2048, 8192, 16384], v=32000, d=2048), {"n": 8192, "v": 128256, "d": 4096}],
    ),
    "linear_scan": (
        linear_scan,
        [*_sizes("t", [64, 256, 1024], b=4, d=64), {"b": 16, "t": 1024, "d": 256}],
        [*_sizes("t", [512, 2048, 8192], b=8, d=4096), {"b": 1, "t": 16384, "d": 256}],
    ),
}  # fmt: skip


def rows_of(name: str, sizes: dict[str, int], like: dict, budget: float, tell: Callable):
    """Yield the rows of one operation at one size: forward, then backward."""
    build = OPERATIONS[name][0]
    case = build(like, **sizes)
    given = {form: _inputs(case, form) for form in case.forms}
    _agree(name, case, given, like, tell)
    for direction in ("forward", "backward"):
        calls = {}
        for form, function in list(case.forms.items()):
            try:
                call = _call(function, given[form], direction, case.together)
                call()  # what does not fit in memory, or is not implemented, shows here
                calls[form] = call
            except Exception as error:
                if form == "nnlib":
                    raise
                tell(f"{name} {sizes}: {form} left out {direction}, {_told(error)}")
        cost = case.forward if direction == "forward" else case.backward
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


def _told(error: Exception) -> str:
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
                tell(f"{name}: {form} left out, {_told(error)}")
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


def red(tests: list[str], device: torch.device) -> str | None:
    """Run the tests of the kernels; return why nothing may be measured, or None."""
    command = [sys.executable, "-m", "pytest", "-q", *tests]
    command += ["-m", "gpu"] * (device.type == "cuda")
    print(f"$ {' '.join(command[1:])}", flush=True)
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    end = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
    if done.returncode == 0:
        print(end.splitlines()[-1], flush=True)
        return None
    why = {1: "a test is red", 5: "no test was found"}.get(done.returncode, "pytest failed")
    return f"nothing is measured: {why} in {' '.join(tests)}\n{end}"


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks.kernels", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", metavar="NAME,NAME", help="the operations to measure")
    parser.add_argument("--device", default="auto", help="cpu, cuda or cuda:<n>")
    parser.add_argument("--quick", action="store_true", help="the two smallest sizes, briefly")
    parser.add_argument("--budget", type=float, help="seconds for each form of a row")
    parser.add_argument(
        "--tested", action="store_true", help="the tests have just passed: run none"
    )
    parser.add_argument("--tests", nargs="+", help="run these tests instead of the operations' own")
    parser.add_argument(
        "--results", type=Path, metavar="FOLDER",
        help="where to write; a whole run writes to benchmarks/results, a part nowhere unless told",
    )  # fmt: skip
    told = parser.parse_args(arguments)
    known = list(OPERATIONS)
    told.whole = not (told.only or told.quick)
    told.only = told.only.split(",") if told.only else known
    for name in told.only:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f" (did you mean {near[0]}?)" if near else ""
            parser.error(f"--only={name!r} must be among {', '.join(known)}{meant}")
    told.budget = (0.05 if told.quick else 0.3) if told.budget is None else told.budget
    if not told.budget > 0:
        parser.error(f"--budget={told.budget:g} must be above 0, in seconds")
    try:
        told.device = pick_device(told.device)
    except ValueError as error:
        parser.error(f"--{error}")
    if told.device.type == "mps":
        parser.error("--device='mps' has no kernels of nnlib; take cpu")
    if told.tests is None:
        whole = told.only == known
        told.tests = (
            ["tests/kernels"] if whole else [f"tests/kernels/test_{n}.py" for n in told.only]
        )
    return told


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write what was found; return 1 when an operation could not be."""
    told = _options(arguments)
    if not told.tested:
        why = red(told.tests, told.device)
        if why:
            print(why, file=sys.stderr)
            return 1
    dtype = torch.bfloat16 if told.device.type == "cuda" else torch.float32
    like = {"device": told.device, "dtype": dtype}
    notes: list[str] = []
    content: dict[str, Any] = {
        "copy_bandwidth": measure.copy_bandwidth(told.device, budget=told.budget),
        "matmul_rate": {
            str(kind).removeprefix("torch."): measure.matmul_rate(
                told.device, kind, budget=told.budget
            )
            for kind in dict.fromkeys((dtype, torch.float32))
        },
        "rows": [],
    }
    failed = []
    for name in told.only:
        sizes = OPERATIONS[name][2 if told.device.type == "cuda" else 1]
        for size in sizes[:2] if told.quick else sizes:
            try:
                content["rows"] += rows_of(name, size, like, told.budget, notes.append)
            except Exception as error:  # the others go on, and the exit status tells
                failed.append(f"{name} {size} was not measured: {_told(error)}")
            if told.device.type == "cuda":
                torch.compiler.reset()  # else it gives up on the ninth shape of one function
                torch.cuda.empty_cache()
    print(table(content, measure.device_name(told.device)))
    for line in dict.fromkeys(notes + failed):
        print(line)
    folder = told.results or (measure.RESULTS if told.whole and not failed else None)
    if folder and content["rows"]:
        print(f"written to {measure.save('kernels', content, told.device, folder)}")
    else:
        print("written nowhere: only a whole run without a failure is kept; or name --results")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
