"""What every file of nnlib/kernels that holds an operation looks like."""

import ast
import importlib
import inspect
import re

import pytest

from pipeline import ROOT

NOT_OPERATIONS = {"amdahl", "cost", "placed", "roofline", "trace", "traffic"}
OPERATIONS = sorted(
    file.stem
    for file in (ROOT / "nnlib" / "kernels").glob("*.py")
    if file.stem[0] != "_" and file.stem not in NOT_OPERATIONS
)
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


@operations
def test_a_kernel_uses_nothing_that_a_supported_triton_lacks(name):
    """Block pointers are gone from newer ones; the interpreter has no autotune and no libdevice."""
    lost = re.findall(
        r"make_block_ptr|tl\.advance|autotune|libdevice|inline_asm|tl\.atomic\w+", source(name)
    )
    assert not lost, lost


@operations
def test_triton_is_not_imported_with_the_library(name):
    tree = ast.parse(source(name))
    imported = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {module for module in imported if module.split(".")[0] == "triton"}


@operations
def test_every_kernel_is_proved_against_its_reference_and_three_bugs(name):
    text = (ROOT / "tests" / "kernels" / f"test_{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(text)
    bugs = [
        len(node.value.keys)
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and "BUGS" in ast.unparse(node.targets[0])
    ]
    assert sum(bugs) >= 3, "BUGS = {name: (old, new), …} with three planted bugs or more"
    for used in (
        f"{name}_triton",
        f"{name}_reference",
        "hold_to_double",
        "plant(",
        "compiled(",
        "opcheck",
    ):
        assert used in text, used
