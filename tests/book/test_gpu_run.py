"""A GPU's few minutes: nothing overruns, and what was not done is owed by name."""

import json
import os
import subprocess
import sys
import time

import nbformat
import pytest
import torch

from benchmarks import cells, goals, gpu, measure
from tests.support import refuses

PYTHON = [sys.executable, "-c"]


def part(name, program, share=1.0, **options):
    return gpu.Part(name, share, [*PYTHON, program], **options)


def outcomes(todo, seconds, folder):
    return {o.name: o for o in gpu.run(todo, seconds, folder)}


def test_a_part_that_overruns_is_ended_with_its_children_and_owed(tmp_path, monkeypatch):
    pipe = tmp_path / "pipe"  # which the part's child holds open until it is no more
    os.mkfifo(pipe)
    child = f"import time; f = open({str(pipe)!r}, 'w'); print('x', file=f, flush=True)\n"
    child += "time.sleep(600)"
    program = (
        "import subprocess, sys, time\n"
        "print('....  [ 40%]', flush=True)\n"
        f"subprocess.run([sys.executable, '-c', {child!r}])\n"
    )
    heard = []

    class Impatient(subprocess.Popen):
        def wait(self, timeout=None):
            if not heard:  # time is over as soon as the child is there
                heard.append(open(pipe))  # noqa: SIM115  # read to its end below
                heard[0].readline()
                raise subprocess.TimeoutExpired(self.args, timeout)
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Impatient)
    found = outcomes([part("slow", program)], 600, tmp_path)["slow"]
    assert found.state == "owed"
    assert found.why == "not finished in 600 s, 40% done"
    assert heard[0].read() == ""  # returns when nobody holds the other end
    heard[0].close()


def test_time_that_is_left_over_goes_to_the_parts_after(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(gpu, "do", lambda part, seconds, log: (
        given.append(seconds), gpu.Outcome(part.name, "done", "", 0.0))[1])  # fmt: skip
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)  # each takes no time at all
    outcomes([part(name, "", share) for name, share in (("a", 0.5), ("b", 0.25), ("c", 0.25))],
             100, tmp_path)  # fmt: skip
    assert given == [50, 50, 100]


def test_a_part_is_done_fails_or_lacks_something(tmp_path):
    found = outcomes([
        part("fine", "print('all is well')"),
        part("red", "print('1 failed'); raise SystemExit(1)"),
        part("poor", "", needs=("torch", "no_such_package")),
    ], 60, tmp_path)  # fmt: skip
    assert found["fine"][1:3] == ("done", "all is well")
    assert found["red"].state == "failed"
    assert found["red"].why.startswith("1 failed (all of it: ")
    assert found["poor"][1:3] == ("owed", "no_such_package is not installed")


def test_without_time_nothing_begins(tmp_path):
    found = outcomes([part("late", "print('never')")], 0.5, tmp_path)
    assert found["late"][1:3] == ("owed", "no time was left")


def test_a_part_that_ends_by_itself_is_told_when(tmp_path):
    found = outcomes([part("rows", "import sys; print(sys.argv[-1])", within=True)], 100, tmp_path)
    assert found["rows"].why == "--within=75"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_whole_is_tests_kernels_models_and_two_chapters(device, tmp_path):
    todo = gpu.parts(device, tmp_path, list(gpu.CHAPTERS))
    assert sum(p.share for p in todo) == pytest.approx(1)
    names = [p.name for p in todo]
    assert names[:3] == ["tests of the kernels", "kernels", "models"]
    assert sum(name.startswith("chapter ") for name in names) == 2
    for chapter in todo[3:5]:
        assert ("gpu" if device == "cuda" else "quick") in chapter.command
    assert ("--quick" in todo[1].command) == (device == "cpu")


def test_a_machine_without_jupyter_beartype_or_xdist_is_made_do_with(tmp_path, monkeypatch):
    here = gpu.present
    monkeypatch.setattr(
        gpu, "present", lambda name: name not in ("papermill", "beartype", "xdist") and here(name)
    )
    tests, _, _, chapter, *_ = gpu.parts("cuda", tmp_path, ["kernels/roofline"])
    assert "addopts=--import-mode=importlib" in tests.command
    assert "-n" not in tests.command
    assert chapter.command[-3:] == ["benchmarks.cells", "kernels/roofline", "gpu"]


@pytest.fixture
def pretended(monkeypatch, tmp_path):
    """A GPU that has a name and no more, and parts that write what it would have measured."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(measure, "device_name", lambda device: "Imaginary GPU")
    row = {"operation": "softmax", "direction": "forward", "shape": {}, "dtype": "bfloat16",
           "flops": 1, "bytes": 90, "limit": "copy", "seconds": {"nnlib": 1.0}}  # fmt: skip
    content = {
        "copy_bandwidth": 100.0,
        "matmul_rate": {"bfloat16": 1.0},
        "rows": [row],
        "owed": ["rope {'t': 1}: no time was left"],
    }

    def parts(device, results, chapters):
        measure.save("kernels", content, device, results)
        return [part("kernels", "print('measured')"), part("chapters", "raise SystemExit(3)")]

    monkeypatch.setattr(gpu, "parts", parts)
    return tmp_path


def test_a_run_writes_the_devices_file_and_ends_with_what_is_owed(pretended, capsys):
    assert gpu.main([f"--results={pretended}", "--minutes=1"]) == 1  # a part failed
    out = capsys.readouterr().out
    told = json.loads((pretended / "imaginary-gpu.json").read_text())
    assert told["kind"] == "gpu"
    assert [p["state"] for p in told["run"]["parts"]] == ["done", "failed"]
    end = out[out.index("still owed:") :].splitlines()[1:]
    assert [line.strip() for line in end] == told["run"]["owed"]
    assert told["run"]["owed"][1] == "kernels: rope {'t': 1}: no time was left"
    assert any("attention was not measured" in line for line in end)
    assert not any("copy bandwidth" in line for line in end)  # 90 % is met


def test_missing_packages_are_named_with_their_cost(pretended, monkeypatch, capsys):
    here = gpu.present
    monkeypatch.setattr(gpu, "present", lambda name: name != "transformers" and here(name))
    gpu.main([f"--results={pretended}", "--minutes=1"])
    assert "transformers is not installed: GPT and BERT have no peer" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "present", lambda name: name != "jaxtyping" and here(name))
    assert gpu.main([f"--results={pretended}"]) == 2
    assert "lacks jaxtyping: without them nothing runs" in capsys.readouterr().err


def test_without_a_gpu_it_says_how_far_it_can_go(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 2
    assert "sees no CUDA device; `python -m benchmarks.gpu --device cpu`" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gpu.main(["--minutes=0"])
    assert "--minutes=0 must be above 0" in capsys.readouterr().err


def record(kernels=(), models=(), kind="gpu"):
    rate = {"copy_bandwidth": 100.0, "matmul_rate": {"bfloat16": 1000.0}}
    return {"kind": kind, "kernels": {**rate, "rows": list(kernels)}, "models": {"rows": models}}


def kernel(operation, limit, seconds, size=100, **shape):
    return {"operation": operation, "direction": "forward", "shape": shape, "dtype": "bfloat16",
            "flops": 10 * size, "bytes": size, "limit": limit, "seconds": seconds}  # fmt: skip


def verdicts(*given, **options):
    return [(v.met, v.told) for v in goals.judge(record(*given, **options))]


def test_what_was_not_measured_is_owed_and_a_cpu_decides_nothing():
    nothing = [met for met, _ in verdicts()]
    assert nothing == [None] * 4
    rows = [kernel("softmax", "copy", {"nnlib": 1.0})]
    models = [{"what": "GPT", "seconds": {"nnlib": 1.0, "transformers": 2.0}}]
    assert [met for met, _ in verdicts(rows, models, kind="cpu")] == nothing


def test_kernels_are_judged_by_their_largest_size():
    small = kernel("softmax", "copy", {"nnlib": 1.0}, size=10)  # 10 % of the bandwidth
    large = kernel("softmax", "copy", {"nnlib": 1.0}, size=86)
    slow = kernel("rope", "copy", {"nnlib": 1.0}, size=84)
    assert verdicts([small, large])[0] == (True, "1 of 1")
    assert verdicts([large, slow])[0] == (False, "1 of 2; below: rope forward 84%")


def test_attention_is_judged_by_its_best_rate_and_its_worst_ratio():
    rows = [
        kernel("attention", "matmul", {"nnlib": 1.0, "torch": 1.1}, t=64),
        kernel("attention", "matmul", {"nnlib": 2.0, "torch": 1.0}, t=32),
        kernel("attention", "matmul", {"nnlib": 9.0, "torch": 1.0}, t=64, window=8),
    ]
    assert verdicts(rows)[1:3] == [
        (True, "100% at its best size"), (False, "2.00 times at the worst size"),
    ]  # fmt: skip


def test_models_are_judged_beside_their_peers():
    rows = [
        {"what": "GPT", "seconds": {"nnlib": 1.0, "transformers": 2.0}},
        {"what": "LSTM", "seconds": {"nnlib": 1.3, "torch.nn": 1.0, "nnlib's loop": 9.0}},
        {"what": "minGRU", "seconds": {"nnlib": 1.0, "step by step": 2.0}},
    ]
    assert verdicts((), rows)[3] == (False, "1 of 2 rows; beyond: LSTM 1.30")


@pytest.fixture
def chapter(tmp_path, monkeypatch):
    """A chapter whose cells define, read their own source, and break a promise."""
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.chdir(tmp_path)
    notebook = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell("# A chapter"),
            nbformat.v4.new_code_cell("steps = 1", metadata={"tags": ["parameters"]}),
            nbformat.v4.new_code_cell("import inspect\ndef double(x):\n    return 2 * x"),
            nbformat.v4.new_code_cell("assert 'return 2 * x' in inspect.getsource(double)"),
            nbformat.v4.new_code_cell("print('✗ did not hold: steps is', double(steps))"),
        ]
    )  # fmt: skip
    path = tmp_path / "chapters" / "family" / "name.ipynb"
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)
    return tmp_path


def test_a_chapter_runs_without_jupyter(chapter):
    assert cells.run("family/name", {"steps": 5}, chapter) == ["steps is 10"]


def test_a_chapter_refuses_parameters_that_it_lacks(chapter):
    from pipeline.execute.parameters import BadParameter

    with refuses(BadParameter, "step"):
        cells.run("family/name", {"step": 5}, chapter)
