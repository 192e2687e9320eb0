"""The benchmarks: fair times, a file that holds them, and no measurement on a red test."""

import json
import math
import time
from collections import Counter
from functools import partial
from itertools import pairwise

import pytest
import torch

from benchmarks import measure
from benchmarks.kernels import OPERATIONS, load
from benchmarks.kernels import __main__ as kernels
from nnlib.kernels.placed import placed
from pipeline import ROOT
from tests.support import refuses


def run(capsys, *arguments):
    """Run the benchmark of kernels; return its exit status, and what it wrote."""
    try:
        status = kernels.main(list(arguments))
    except SystemExit as error:  # argparse
        status = error.code
    told = capsys.readouterr()
    return status, told.out, told.err


@pytest.fixture
def quick(tmp_path, capsys):
    """The quick run of two operations, in a folder of its own: what it printed, what it wrote."""
    status, out, _ = run(
        capsys, "--quick", "--tested", "--device=cpu", "--budget=0.01",
        "--only=softmax,cross_entropy", f"--results={tmp_path}",
    )  # fmt: skip
    assert status == 0, out
    (file,) = tmp_path.iterdir()
    return out, json.loads(file.read_text())


def test_a_run_writes_what_chapters_read(quick):
    _, told = quick
    assert told["kind"] == "cpu"
    assert told["device"] == measure.device_name("cpu")
    found = told["kernels"]
    assert found["date"].count("-") == 2
    assert set(found["versions"]) == {"python", "torch", "triton"}
    assert found["copy_bandwidth"] > 1e8
    assert found["matmul_rate"]["float32"] > 1e8
    rows = found["rows"]
    assert len(rows) == 2 * 2 * 2  # operations, sizes, directions
    for row in rows:
        assert {"operation", "direction", "shape", "dtype", "flops", "bytes", "limit"} <= set(row)
        assert set(row["seconds"]) == {"nnlib", "reference", "torch"}
        assert all(taken > 0 for taken in row["seconds"].values())
        assert row["dtype"] == "float32"
    assert [row["direction"] for row in rows] == ["forward", "backward"] * 4
    assert placed({"device": told["device"], **found})  # what the book draws them with


def test_the_gradient_of_a_loss_is_timed_with_its_value(quick):
    _, told = quick
    rows = [row for row in told["kernels"]["rows"] if row["direction"] == "backward"]
    assert [row.get("includes_forward", False) for row in rows] == [False] * 2 + [True] * 2
    like = {"device": torch.device("cpu"), "dtype": torch.float32}
    ours = load("cross_entropy").build(like, n=256, v=64)
    assert rows[2]["bytes"] == ours.forward.bytes + ours.backward.bytes


def test_the_table_shows_ratios_and_shares(quick):
    out, told = quick
    row = told["kernels"]["rows"][0]
    ratio = row["seconds"]["torch"] / row["seconds"]["nnlib"]
    share = row["bytes"] / told["kernels"]["copy_bandwidth"] / row["seconds"]["nnlib"]
    line = next(line for line in out.splitlines() if line.startswith("softmax"))
    assert f"torch {ratio:.2f}×" in line
    assert f"{share:.0%} copy" in line


def test_a_part_of_the_operations_is_not_kept(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "results")
    arguments = ("--quick", "--tested", "--device=cpu", "--budget=0.001", "--only=softmax")
    status, out, _ = run(capsys, *arguments)
    assert status == 0
    assert "written nowhere" in out
    assert not (tmp_path / "results").exists()


def test_nothing_is_measured_on_a_red_test(capsys, tmp_path):
    red, green = tmp_path / "test_red.py", tmp_path / "test_green.py"
    red.write_text("def test_it():\n    assert 1 == 2\n")
    green.write_text("def test_it():\n    pass\n")
    common = ("--quick", "--device=cpu", "--budget=0.001", "--only=softmax")
    results = tmp_path / "results"
    status, out, err = run(capsys, *common, f"--results={results}", "--tests", str(red))
    assert status == 1
    assert "nothing is measured: a test is red" in err
    assert "assert 1 == 2" in err or "1 failed" in err
    assert "softmax  " not in out
    assert not results.exists()
    status, _, err = run(capsys, *common, "--tests", str(tmp_path / "test_none.py"))
    assert status == 1
    assert "nothing is measured" in err
    status, out, _ = run(capsys, *common, f"--results={results}", "--tests", str(green))
    assert status == 0
    assert "1 passed" in out
    assert results.exists()


def test_each_operation_is_held_to_its_own_tests():
    told = kernels._options(["--only=softmax,rope", "--device=cpu"])
    assert told.tests == ["tests/kernels/test_softmax.py", "tests/kernels/test_rope.py"]
    assert kernels._options(["--device=cpu"]).tests == ["tests/kernels"]


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--only=sofmax", "--only='sofmax' must be among attention, cross_entropy, "),
        ("--only=sofmax", "did you mean softmax?"),
        ("--only=softmax,", "--only='' must be among"),
        ("--budget=0", "--budget=0 must be above 0"),
        ("--budget=much", "invalid float value: 'much'"),
        ("--device=gpu", "device='gpu' must be 'auto', 'cpu'"),
        ("--fast", "unrecognized arguments: --fast"),
    ],
)
def test_bad_options_are_refused_by_name(argument, told, capsys):
    status, _, err = run(capsys, "--tested", argument)
    assert status == 2
    assert told in err


def test_a_form_with_another_result_is_left_out_and_a_wrong_kernel_stops_it(capsys, monkeypatch):
    file = load("softmax")
    build = file.build

    def with_liars(like, **sizes):
        case = build(like, **sizes)
        case.forms |= {"liar": lambda x: x, "broken": lambda x: x.nothing}
        return case

    monkeypatch.setattr(file, "build", with_liars)
    common = ("--quick", "--tested", "--device=cpu", "--budget=0.001", "--only=softmax")
    status, out, _ = run(capsys, *common)
    assert status == 0
    assert "softmax: liar left out, it differs by" in out
    assert "softmax: broken left out, AttributeError" in out

    def wrong(like, **sizes):
        case = build(like, **sizes)
        case.forms["nnlib"] = lambda x: x.softmax(0)
        return case

    monkeypatch.setattr(file, "build", wrong)
    status, out, _ = run(capsys, *common)
    assert status == 1
    assert "was not measured: RuntimeError: softmax differs from its reference" in out


def test_every_operation_has_sizes_that_grow():
    for name in OPERATIONS:
        for sizes in (load(name).CPU, load(name).GPU):
            assert len(sizes) >= 3, name
            first = [list(size.values()) for size in sizes[:2]]
            assert first[0] != first[1], name


def test_compared_functions_take_turns_and_the_median_counts(monkeypatch):
    order, clock = [], iter(range(10**9))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock) * 1e-3)
    functions = {name: partial(order.append, name) for name in "abc"}
    found = measure.compare(functions, "cpu", budget=0.1)
    assert found == {name: pytest.approx(1e-3) for name in "abc"}
    timed = order[6:]  # after the warm-up
    rounds = ["".join(timed[at : at + 3]) for at in range(0, len(timed), 3)]
    assert len(rounds) >= measure.ROUNDS
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    # who came before leaves its mark on caches, so nobody comes after the same one most times
    before = Counter((x, y) for x, y in pairwise(timed) if x != y)
    assert len(before) == 6 and max(before.values()) < 0.6 * len(rounds)


def test_a_slower_function_takes_longer(monkeypatch):
    now = [0.0]

    def wait(seconds):
        return lambda: now.__setitem__(0, now[0] + seconds)

    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    found = measure.compare({"short": wait(1e-5), "long": wait(4e-3)}, "cpu", budget=0.02)
    assert found == {"short": pytest.approx(1e-5), "long": pytest.approx(4e-3)}


def test_what_cannot_be_timed_is_refused_by_name():
    with refuses(ValueError, "functions={} must name one function or more"):
        measure.compare({}, "cpu")
    with refuses(TypeError, "functions['a']=3 must be callable"):
        measure.compare({"a": 3}, "cpu")
    with refuses(ValueError, "budget=0 must be above 0, in seconds"):
        measure.seconds(list, "cpu", budget=0)
    with refuses(TypeError, "dtype=torch.int64 must be a floating-point torch.dtype"):
        measure.matmul_rate("cpu", torch.int64)

    def fail():
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel") as caught:
        measure.compare({"peer": fail}, "cpu")
    assert caught.value.__notes__ == ["while 'peer' was being timed on cpu"]


def test_subjects_share_a_file_and_a_run_that_fails_leaves_it_whole(tmp_path):
    path = measure.save("models", {"rows": [1]}, "cpu", tmp_path)
    assert path.name == measure.slug(measure.device_name("cpu")) + ".json"
    measure.save("kernels", {"rows": [2]}, "cpu", tmp_path)
    told = json.loads(path.read_text())
    assert told["models"]["rows"] == [1]
    assert told["kernels"]["rows"] == [2]
    before = path.read_text()
    with refuses(ValueError, "content must hold finite numbers only"):
        measure.save("kernels", {"rows": [math.nan]}, "cpu", tmp_path)
    with pytest.raises(TypeError):
        measure.save("kernels", {"rows": [torch.zeros(1)]}, "cpu", tmp_path)
    assert path.read_text() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_holds_something_else_is_not_overwritten(tmp_path):
    path = measure.save("models", {"rows": []}, "cpu", tmp_path)
    path.write_text("not json")
    with refuses(ValueError, "is no results file"):
        measure.save("models", {"rows": []}, "cpu", tmp_path)
    path.write_text('{"kind": "gpu", "device": "another"}')
    with refuses(ValueError, "is about ('gpu', 'another')"):
        measure.save("models", {"rows": []}, "cpu", tmp_path)
    with refuses(ValueError, "subject='model' must be one of ['kernels', 'models', 'run']"):
        measure.save("model", {}, "cpu", tmp_path)


def test_a_name_becomes_a_file_name():
    assert measure.slug("NVIDIA H200") == "nvidia-h200"
    assert measure.slug("AMD EPYC 7763 (64-Core)") == "amd-epyc-7763-64-core"


def test_every_operation_of_the_library_has_a_benchmark():
    library = {file.stem for file in (ROOT / "nnlib" / "kernels").glob("[a-z]*.py")}
    # no operations, or, as the scans over any operator, to be read and not to be fast
    others = {"amdahl", "cost", "placed", "quantization", "roofline", "scans", "trace", "traffic"}
    assert set(OPERATIONS) == library - others


def test_with_little_time_each_name_has_its_largest_size_first():
    turns = [("a", 1), ("a", 2), ("a", 3), ("b", 10), ("c", 5), ("c", 6)]
    assert measure.fairly(turns) == [
        ("a", 3), ("b", 10), ("c", 6), ("a", 2), ("c", 5), ("a", 1),
    ]  # fmt: skip
    assert measure.fairly([]) == []


def test_what_no_time_was_left_for_is_owed_by_name(capsys, tmp_path):
    status, out, _ = run(
        capsys, "--tested", "--device=cpu", "--budget=0.001", "--within=1e-9",
        "--only=softmax,rope", f"--results={tmp_path}",
    )  # fmt: skip
    assert status == 0
    assert "softmax {'n': 512, 'c': 4096}: no time was left" in out
    assert "rope " in out
    assert not list(tmp_path.iterdir())  # no row, no file


def test_a_form_may_be_left_out(capsys, tmp_path):
    status, _, _ = run(
        capsys, "--quick", "--tested", "--device=cpu", "--budget=0.001", "--only=softmax",
        "--without=reference,inductor", f"--results={tmp_path}",
    )  # fmt: skip
    assert status == 0
    (file,) = tmp_path.iterdir()
    told = json.loads(file.read_text())["kernels"]
    assert {form for row in told["rows"] for form in row["seconds"]} == {"nnlib", "torch"}
