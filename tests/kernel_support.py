"""What the tests of kernels share: gradients by name, a scale-free bound, a compiler without a GPU.

A kernel's result is held to float64 plain torch, and may err twice as much as plain torch does in
the kernel's own dtype: the rule needs no tolerance that somebody chose.
"""

import ast
import fcntl
import hashlib
import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jupytext
import torch
from torch import Tensor

from nnlib import markup
from nnlib.kernels.placed import placed
from pipeline import ROOT

FLOOR = 1e-6  # a few roundings of float32, relative to the largest true value or to 1


def value_and_grads(
    operation: Callable, *inputs: Tensor, weigh: int = 0, grads: bool = True
) -> dict[str, Tensor]:
    """Return outputs `out0`, … and gradients `grad0`, … of a fixed random weighing of them.

    Without `grads` the outputs alone: for what is only used where nothing is learned.
    """
    if not grads:
        with torch.no_grad():
            outputs = operation(*inputs)
        outputs = [outputs] if isinstance(outputs, Tensor) else outputs
        return {f"out{i}": out for i, out in enumerate(outputs)}
    inputs = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    outputs = operation(*inputs)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    generator = torch.Generator().manual_seed(weigh)
    total = torch.zeros((), dtype=torch.float64, device=inputs[0].device)
    for out in outputs:
        weights = torch.randn(out.shape, generator=generator, dtype=torch.float64)
        total = total + (out.double() * weights.to(out.device).to(out.dtype).double()).sum()
    learned = [x for x in inputs if x.requires_grad]
    made = torch.autograd.grad(total, learned)
    named = {f"out{i}": out.detach() for i, out in enumerate(outputs)}
    return named | {f"grad{i}": grad for i, grad in enumerate(made)}


def hold_to_double(
    kernel: Callable, reference: Callable, *inputs: Tensor, factor: float = 2, grads: bool = True
):
    """Fail unless each output and gradient errs at most `factor` times as plain torch does.

    Args:
        kernel: the Triton form.
        reference: the readable form, run in float64 for the truth and in the inputs' own dtype
            for the error that the dtype itself causes.
        inputs: of both; integers go to both as they are.
        factor: how many times plain torch's own error is allowed.
        grads: whether gradients are held as well.
    """
    double = [x.double() if x.is_floating_point() else x for x in inputs]
    truth = value_and_grads(reference, *double, grads=grads)
    plain = value_and_grads(reference, *inputs, grads=grads)
    got = value_and_grads(kernel, *inputs, grads=grads)
    assert got.keys() == truth.keys()
    for name, wanted in truth.items():
        assert got[name].dtype == plain[name].dtype, name
        scale = wanted.abs().max().item() if wanted.numel() else 0.0
        own = (plain[name].double() - wanted).abs().max().item() if wanted.numel() else 0.0
        error = (got[name].double() - wanted).abs().max().item() if wanted.numel() else 0.0
        allowed = factor * own + FLOOR * max(scale, 1.0)
        assert error <= allowed, f"{name}: error {error:.3g}, allowed {allowed:.3g}"  # NaN fails


def in_own_process(program: str, *, interpret: bool = False) -> str:
    """Run a program without the checker of shapes, and with or without the interpreter."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environment.pop("TRITON_INTERPRET", None)
    environment.pop("NNLIB_KERNELS", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:] or done.stdout[-4000:]
    return done.stdout


def compiled(calls: str) -> list[dict]:
    """Compile every kernel that `calls` would launch, for sm_80 and sm_90, with no GPU.

    Args:
        calls: statements that call operations on CPU tensors, backward passes included; `torch`
            is imported. Their results are uninitialised memory.

    Returns:
        One record a distinct launch and target: kernel, target, types, constants, options, shared
        (bytes), registers, stack (bytes, where a thread keeps what found no register), tensor_core
        (instructions).
    """
    folder = ROOT / "_build" / "kernels"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _record_of(calls, folder)
    with (folder / ".lock").open("w") as lock:  # the workers of a run share one compilation
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not wanted.exists():
            program = "from tests.kernel_support import compile_all\ncompile_all({})"
            every = {*programs("CALLS").values(), calls}
            failed = json.loads(in_own_process(program.format(sorted(every))).splitlines()[-1])
            assert calls not in failed, failed[calls]
    return json.loads(wanted.read_text(encoding="utf-8"))


def programs(name: str) -> dict[str, str]:
    """Return the programs that the tests of kernels hold under a name, by what is tested."""
    found = {}
    for file in sorted((ROOT / "tests" / "kernels").glob("test_*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
                found[file.stem.removeprefix("test_")] = ast.literal_eval(node.value)
    return found


def _record_of(calls: str, folder: Path) -> Path:
    """Return the file for what a compiler made of `calls`, named by all that it depends on."""
    files = [*sorted((ROOT / "nnlib" / "kernels").glob("*.py")), Path(__file__)]
    state = [calls, torch.__version__, metadata.version("triton")]
    state += [file.read_text(encoding="utf-8") for file in files]
    return folder / f"{hashlib.sha256(json.dumps(state).encode()).hexdigest()[:32]}.json"


# What a block may use of an SM's shared memory (CUDA programming guide, technical specifications).
SHARED_BYTES = {80: 163 * 1024, 90: 227 * 1024}


def hold_to_hardware(records: list[dict], *, dots: set[str] = frozenset()) -> None:
    """Fail when a compiled kernel spills, needs too much shared memory, or lacks tensor cores.

    Args:
        records: what `compiled` returned.
        dots: names of the kernels that multiply matrices.
    """
    assert {record["target"] for record in records} == {80, 90}
    for record in records:
        told = str(record)
        assert record["stack"] == 0, told
        assert record["shared"] <= SHARED_BYTES[record["target"]], told
        if record["kernel"] in dots:
            assert record["tensor_core"] > 0, told


def compile_all(every: list[str]) -> None:
    """Keep what the compiler makes of each program's launches, and print, as JSON, what failed.

    Runs in a process of its own, so that torch and the compiler start once for all.
    """
    failed = {}
    folder = ROOT / "_build" / "kernels"
    for calls in every:
        try:
            records = _compile_calls(calls)
        except Exception:
            failed[calls] = traceback.format_exc()[-4000:]
        else:
            _record_of(calls, folder).write_text(json.dumps(records), encoding="utf-8")
    print(json.dumps(failed))


def _compile_calls(calls: str) -> list[dict]:
    from nnlib.kernels import _triton

    with _triton.record_launches() as launches:
        exec(calls, {"torch": torch})  # a test's own statements
    distinct = {}
    for launch in launches:
        signature, constants, divisible = _signature(launch)
        key = (launch.kernel.__name__, str(signature), str(constants))
        distinct[key] = (launch, signature, constants, divisible)
    return [_compile(*entry, target) for entry in distinct.values() for target in SHARED_BYTES]


_NAMES = {
    torch.float16: "*fp16", torch.bfloat16: "*bf16", torch.float32: "*fp32", torch.int64: "*i64",
    torch.int32: "*i32", torch.int8: "*i8", torch.uint8: "*u8", torch.bool: "*i1",
}  # fmt: skip


def _signature(launch):
    """Return types, constants and 16-divisible arguments as a real launch would find them."""
    kernel = launch.kernel.build()
    given = dict(zip(kernel.arg_names, launch.args, strict=False))
    given |= {name: v for name, v in launch.constants.items() if name in kernel.arg_names}
    signature, constants, divisible = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        name, value = parameter.name, given[parameter.name]
        if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1):
            signature[name], constants[(index,)] = "constexpr", value
        elif isinstance(value, Tensor):
            signature[name], divisible[(index,)] = _NAMES[value.dtype], True
        elif isinstance(value, int):
            signature[name] = "i32" if abs(value) < 2**31 else "i64"
            if value % 16 == 0:
                divisible[(index,)] = True
        else:
            signature[name] = "fp32"
    return signature, constants, {at: [["tt.divisibility", 16]] for at in divisible}


def _compile(launch, signature, constants, attributes, target: int) -> dict:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = launch.kernel.build()
    options = {k: v for k, v in launch.constants.items() if k not in kernel.arg_names}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=attributes)
    made = triton.compile(source, target=GPUTarget("cuda", target, 32), options=options)
    return {
        "kernel": launch.kernel.__name__, "target": target, "types": list(signature.values()),
        "constants": {kernel.arg_names[at[0]]: v for at, v in constants.items()},
        "options": options, "shared": made.metadata.shared,
        "tensor_core": len(re.findall(r"\bw?g?mma(?:\.mma_async)?\.sync\b", made.asm["ptx"])),
        **_resources(made.asm["cubin"]),
    }  # fmt: skip


def _resources(cubin: bytes) -> dict[str, int]:
    """Return what a thread takes, as the compiler noted it; disassembling is far slower."""
    import tempfile

    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run(
            [tool, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    registers, stack, local = (
        int(re.search(rf"\b{name}:(\d+)", told)[1]) for name in ("REG", "STACK", "LOCAL")
    )
    return {"registers": registers, "stack": stack + local}


_PLANTED = itertools.count()


def plant(module, old: str, new: str, folder: Path, *, parts=()):
    """Return a copy of a module of kernels in which `old`, which must stand once, is `new`.

    Its operations are registered under another name, so that the healthy ones stay.

    Args:
        module: what is copied.
        old: what is looked for.
        new: what stands there instead.
        folder: where the copies are written.
        parts: modules of kernels that it, or a later one of them, imports by
            `from nnlib.kernels._x import …`; searched and copied as well.
    """
    stem = f"planted_{next(_PLANTED)}"
    names = {part.__name__: f"{stem}_{part.__name__.rpartition('.')[2]}" for part in parts}
    names[module.__name__] = stem
    texts = {name: Path(sys.modules[name].__file__).read_text(encoding="utf-8") for name in names}
    found = sum(text.count(old) for text in texts.values())
    assert found == 1, f"{old!r} stands {found} times in {', '.join(names)}"
    for name, text in texts.items():
        text = text.replace(old, new).replace('"nnlib::', f'"{stem}::')
        text = text.replace("torch.ops.nnlib.", f"torch.ops.{stem}.")
        for part in parts:
            text = text.replace(
                f"from {part.__name__} import", f"from {names[part.__name__]} import"
            )
        path = folder / f"{names[name]}.py"
        path.write_text(text, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(names[name], path)
        bugged = sys.modules[names[name]] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(bugged)
    return bugged


# ------------------------------------------------------------------- what the chapters tell of GPUs
def gpu_cell(chapter: Path) -> str:
    """Return the cell of a chapter that reads the records of GPUs."""
    cells = [cell.source for cell in jupytext.read(chapter).cells if cell.cell_type == "code"]
    (cell,) = [source for source in cells if 'measured("kernels")' in source]
    return cell


def told_of_gpu_records(chapter: Path, rows: list[dict]) -> str:
    """Return the words and tables that the cell shows where one made-up GPU has these rows.

    Without records it must say that there are none.
    """
    record = {"device": "Made-up GPU", "date": "2030-01-02", "copy_bandwidth": 4e12,
              "matmul_rate": {"bfloat16": 8e14}, "rows": rows}  # fmt: skip
    pages = []
    for records in ([record], []):
        told: list[str] = []
        names = {"placed": placed, "say": told.append, "measured": lambda _, r=records: r,
                 "table": lambda *parts, told=told: told.append(markup.table(*parts))}  # fmt: skip
        exec(compile(ast.parse(gpu_cell(chapter)), "the chapter", "exec"), names)
        pages.append("\n".join(told))
    assert "No GPU has been measured yet" in pages[1]
    return pages[0]
