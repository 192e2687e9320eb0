"""No test asserts on a clock: a busy machine turns nothing red."""

import ast

import pytest

from pipeline import ROOT

CLOCKS = {"monotonic", "perf_counter", "process_time", "thread_time", "time", "time_ns"}
# Who looks at a clock only so as not to wait for ever, or to choose when to strike.
WAITS = {
    "tests/book/scratch.py",
    "tests/slow/slurm_host.py",
    "tests/slow/test_elsewhere.py",
    "tests/slow/test_many_faults.py",
}
FILES = sorted(
    file.relative_to(ROOT).as_posix()
    for file in (ROOT / "tests").rglob("*.py")
    if file.relative_to(ROOT).as_posix() not in WAITS
)


def clocks(text):
    """Yield the line of each look at a clock, and of each limit in milliseconds."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr=name)):
                if name.removesuffix("_ns") in CLOCKS or name in CLOCKS:
                    yield node.lineno
            case ast.keyword(arg="deadline", value=ast.Constant(value=int() | float())):
                yield node.value.lineno


@pytest.mark.parametrize("file", FILES)
def test_no_clock_is_asked(file):
    assert not list(clocks((ROOT / file).read_text("utf8"))), f"{file} asks a clock"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("begin = time.monotonic()", [1]),
        ("x = 1\nassert time.perf_counter() - x < 5", [2]),
        ("@settings(deadline=200)\ndef test(): pass", [1]),
        ("@settings(deadline=None)\ndef test(): time.sleep(1)", []),
    ],
)
def test_a_clock_is_found(text, lines):
    assert list(clocks(text)) == lines
