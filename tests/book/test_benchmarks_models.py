"""The comparison of models: the same work on both sides, honest ratios, files chapters can read."""

import json

import pytest
import torch
from torch import nn

from benchmarks import measure
from benchmarks.models import CASES, _contest, _run, recurrent
from benchmarks.models import __main__ as command
from tests.support import refuses

QUICK = {"device": "cpu", "quick": True, "budget": 0.01}
PICTURES = ("resnet", "efficientnet", "vgg", "vit", "swin")
# here h counts hidden units, or those of a side
FLOWS = ("couplings", "rbm", "neural_ode", "kan", "rbf_network", "self_organizing_map")
FLOWS += ("mixture_density",)
FLOWS += ("ensemble",)
GRAPHS = ("message_passing", "gcn", "graph_attention")  # here e counts edges
WALKS = ("recurrent", "lengths", "bidirectional", "min_gru", "seq2seq", "echo_state", "s4")
WALKS += ("rwkv", "rwkv_writing", "wkv", "wavenet", "tokenizer", "bm25", "nearest", "liquid")
WALKS += ("spiking", "neural_cellular_automata")


@pytest.mark.parametrize("name", CASES)
def test_both_sides_do_the_same_work_and_are_timed(name):
    lines = []
    rows = _run.run([name], **QUICK, tell=lines.append)
    assert len(lines) == 1 + len(rows) >= 2
    for row in rows:
        assert set(row) == {"what", "shape", "seconds"}
        assert all(seconds > 0 for seconds in row["seconds"].values())
        assert next(iter(row["seconds"])) == "nnlib"
        # nobody else has it, or has it in Python
        if name in ("min_gru", "s4", "selective_scan", "wkv", "tokenizer"):
            assert _run.ratio(row) is None
        else:
            assert _run.ratio(row) > 0
        json.dumps(row)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("recurrent", recurrent.LOOP),
        ("lengths", recurrent.LOOP),
        ("bidirectional", "nnlib in one layer"),
        ("min_gru", "step by step"),
        ("wkv", "nnlib's loop"),
    ],
)
def test_the_readable_forms_are_held_to_the_fast_ones(name, other):
    (size,) = _run.sizes(name, quick=True, gpu=False)
    for contest in CASES[name].build(size, torch.device("cpu"), torch.float32):
        assert other in contest.runs
        told = contest.results[other]
        contest.results[other] = lambda told=told: {k: v + 1 for k, v in told().items()}
        with pytest.raises(AssertionError, match=f"of {other} is not that of nnlib"):
            _contest.hold_equal(contest, torch.float32)


def test_a_gru_beside_a_mingru_is_timed_and_not_held_to_it():
    (size,) = _run.sizes("min_gru", quick=True, gpu=False)
    (contest,) = CASES["min_gru"].build(size, torch.device("cpu"), torch.float32)
    assert set(contest.runs) - set(contest.results) == {"GRU of torch.nn"}


def test_reservoirpy_knows_no_gpu():
    (size,) = _run.sizes("echo_state", quick=True, gpu=True)
    assert CASES["echo_state"].build(size, torch.device("cuda"), torch.bfloat16) == []


def test_a_side_that_computes_something_else_is_refused():
    mine, peer = nn.Linear(3, 3), nn.Linear(3, 3)
    x = torch.randn(2, 3).requires_grad_()
    pair = _contest.Pair(x, lambda: mine(x), lambda: peer(x), mine, peer)
    with pytest.raises(AssertionError, match=r"linear: y of torch\.nn is not that of nnlib"):
        _contest.hold_equal(pair.contest("linear", {}), torch.float32)


def test_a_training_step_trains_and_its_twin_stays():
    sides = [(nn.Linear(3, 1), lambda m: m(torch.ones(2, 3)).square().mean()) for _ in range(2)]
    contest = _contest.training("linear", {}, "torch.nn", *sides)
    before = contest.results["nnlib"]()["loss"]
    for _ in range(3):
        contest.runs["nnlib"]()
    assert contest.results["nnlib"]()["loss"] == before
    assert sides[0][1](sides[0][0]) < before


def test_the_ratio_is_to_the_faster_peer_and_slow_rows_are_named():
    row = {
        "what": "w",
        "shape": {"b": 1},
        "seconds": {"nnlib": 3.0, "torch.nn": 2.0, "transformers": 4.0, "nnlib without": 0.1},
    }
    assert _run.ratio(row) == 1.5
    assert _run.line(row).endswith("SLOWER than 1.2 times the peer")
    del row["seconds"]["torch.nn"], row["seconds"]["transformers"]
    assert _run.ratio(row) is None
    assert not _run.is_late(row)
    assert "SLOWER" not in _run.line(row)


def test_an_unknown_name_is_refused_with_those_there_are(capsys):
    with refuses(ValueError, "names=['gtp'] must be among ['encoder_layer', 'gpt'"):
        _run.run(["gtp"])
    assert command.main(["gtp"]) == 2
    assert "'gpt'" in capsys.readouterr().err


def test_only_a_whole_run_is_saved(tmp_path, monkeypatch, capsys):
    norm = {"layer_norm": CASES["layer_norm"]}
    monkeypatch.setattr(_run, "CASES", norm)
    monkeypatch.setattr(_run, "sizes", lambda name, *, quick, gpu: [{"b": 1, "t": 2, "e": 8}])
    assert command.main(["--quick", "--budget=0.01", "--folder", str(tmp_path)]) == 0
    assert command.main(["layer_norm", "--budget=0.01", "--folder", str(tmp_path)]) == 0
    assert not list(tmp_path.iterdir())
    assert command.main(["--budget=0.01", "--folder", str(tmp_path)]) == 0
    assert "rows within 1.2 times the peer" in capsys.readouterr().out
    (file,) = tmp_path.iterdir()
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told["kind"] == "cpu"
    assert told["device"] == measure.device_name("cpu")
    assert set(told["models"]) == {"date", "versions", "threads", "rows", "owed"}
    assert told["models"]["rows"][0]["what"] == "layer norm"


def test_every_case_has_growing_sizes():
    for name in CASES:
        for gpu in (False, True):
            told = _run.sizes(name, quick=False, gpu=gpu)
            assert len(told) >= 2
            if name not in WALKS + PICTURES + FLOWS + GRAPHS:
                assert all(size["e"] % size.get("h", 1) == 0 for size in told)  # heads, if any
            assert _run.sizes(name, quick=True, gpu=gpu) == told[:1]


def test_a_case_without_its_peer_is_left_out_by_name(monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'transformers'")

    monkeypatch.setitem(CASES, "gpt", CASES["gpt"]._replace(build=missing))
    lines, owed = [], []
    rows = _run.run(["gpt", "layer_norm"], **QUICK, owed=owed, tell=lines.append)
    assert [row["what"] for row in rows] == ["layer norm"]
    assert owed == ["gpt: No module named 'transformers'"]
    assert lines[-1] == "left out: gpt: No module named 'transformers'"


def test_what_no_time_was_left_for_is_owed():
    owed = []
    assert _run.run(["layer_norm"], **QUICK, within=-1, owed=owed, tell=str) == []
    assert owed == ["layer_norm {'b': 8, 't': 64, 'e': 128, 'h': 4}: no time was left"]
