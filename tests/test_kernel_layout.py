"""What every file of nnlib/kernels that holds an operation looks like."""

import ast
import importlib
import inspect
import re

import pytest

from pipeline import ROOT

NOT_OPERATIONS = {
    "amdahl", "cost", "placed", "quantization", "roofline", "scans", "trace", "traffic",
}  # fmt: skip
FILES = sorted(file.stem for file in (ROOT / "nnlib" / "kernels").glob("*.py"))
OPERATIONS = [name for name in FILES if name[0] != "_" and name not in NOT_OPERATIONS]
operations = pytest.mark.parametrize("name", OPERATIONS)


def source(name):
    return (ROOT / "nnlib" / "kernels" / f"{name}.py").read_text(encoding="utf-8")


@operations
def test_an_operation_has_a_reference_a_kernel_and_a_cost(name):
    module = importlib.import_module(f"nnlib.kernels.{name}")
    public = inspect.signature(getattr(module, name)).parameters
    for twin in (f"{name}_reference", f"{name}_triton"):
        parameters = inspect.signature(getattr(module, twin)).parameters
        assert list(parameters) == list(public), twin
        defaults = [p.default for p in parameters.values()]
        assert defaults == [p.default for p in public.values()], twin
    assert callable(getattr(module, f"{name}_cost"))
    told = inspect.getdoc(getattr(module, name))
    assert "Source:" in told
    assert ">>>" in told


@operations
def test_a_file_reads_in_order(name):
    """Reference, kernels, registration, public names: meaning before machinery."""
    text = source(name)
    at = [
        text.index(part) for part in (f"def {name}_reference", f"def {name}_triton", f"def {name}(")
    ]
    assert at == sorted(at)


@pytest.mark.parametrize("name", FILES)
def test_a_kernel_uses_nothing_that_a_supported_triton_lacks(name):
    """Block pointers are gone from newer ones; the interpreter has no autotune and no libdevice."""
    lost = re.findall(
        r"make_block_ptr|tl\.advance|autotune|libdevice|inline_asm|tl\.atomic\w+", source(name)
    )
    assert not lost, lost


def proof(name):
    """Return the text of an operation's tests: its own, and those of kernels that it shares."""
    shared = re.findall(r"^from nnlib\.kernels import .*?\b_(norm)\b", source(name), re.M)
    files = (ROOT / "tests" / "kernels" / f"test_{stem}.py" for stem in [name, *shared])
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


@operations
def test_every_kernel_is_proved_against_its_reference_and_three_bugs(name):
    text = proof(name)
    bugs = [
        len(node.value.keys)
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and "BUGS" in ast.unparse(node.targets[0])
    ]
    assert sum(bugs) >= 3, "BUGS = {name: (old, new), …} with three planted bugs or more"
    for used in (name, "_triton", "_reference", "hold_to_double", "plant(", "compiled(", "OPCHECK"):
        assert used in text, used
