"""The arena of readers of sequences: equal terms, numbers that can be had again, honest words."""

import copy
import json
import math
import statistics

import pytest
import torch

from benchmarks import measure
from benchmarks.readers import models, run
from benchmarks.readers.models import BLOCKS, PARAMETERS, Reader, held
from benchmarks.readers.tasks import tasks
from nnlib.train.metrics import parameter_count
from pipeline import ROOT
from pipeline.execute import compare

PLAN = compare.plan("sequence")
KEPT = json.loads((ROOT / compare.FOLDER / "sequence.json").read_text("utf8"))
ROWS = {row["name"]: row for row in KEPT["rows"]}
READERS = [name for name in ROWS if name in BLOCKS]


def mean(name, column):
    return statistics.fmean(ROWS[name]["values"][column])


@pytest.mark.parametrize("task", ["recall", "adding"])  # of tokens, of vectors
@pytest.mark.parametrize("kind", BLOCKS)
def test_step_by_step_a_reader_says_what_it_says_at_once(kind, task):
    task = tasks()[task]
    torch.manual_seed(0)
    model = Reader(kind, 8, task.inputs, task.outputs, task.tokens).eval()
    x, states, said = task.part("learn", 2, 0)[0], None, []
    with torch.no_grad():
        for now in x.unbind(1):
            y, states = model.step(now, states)
            said.append(y)
        torch.testing.assert_close(torch.stack(said, 1), model(x), atol=1e-5, rtol=1e-5)
    assert held(states) > 0


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_reader_sees_no_later_step(kind):
    torch.manual_seed(0)
    model = Reader(kind, 8, 5, 3, True).eval()
    ids = torch.randint(5, (1, 40))
    other = ids.clone()
    other[:, 20:] = (other[:, 20:] + 1) % 5
    with torch.no_grad():
        one, two = model(ids), model(other)
    torch.testing.assert_close(one[:, :20], two[:, :20])
    assert not torch.allclose(one[:, 20:], two[:, 20:])


def test_all_have_equal_parameters_and_the_file_tells_them():
    assert set(READERS) == set(BLOCKS) and set(PLAN["rows"]) == set(ROWS)
    for name in READERS:
        for column in PLAN["columns"]:
            task, how = tasks()[column.split()[0]], ROWS[name]["how"][column]
            model = Reader(name, how["size"], task.inputs, task.outputs, task.tokens)
            assert parameter_count(model) == how["parameters"], (name, column)
            assert abs(how["parameters"] / PARAMETERS - 1) <= 0.05, (name, column)
    every = [how["parameters"] for name in READERS for how in ROWS[name]["how"].values()]
    assert f"{min(every):,} to {max(every):,}" in compare.table("sequence")


def test_all_have_equal_time_the_same_rates_and_the_seeds_of_the_plan():
    assert KEPT["seeds"] == PLAN["seeds"] and len(PLAN["seeds"]) >= 3
    for name in READERS:
        for column in PLAN["columns"]:
            how = ROWS[name]["how"][column]
            assert how["steps"] == max(1, int(PLAN["seconds"] / how["seconds a step"]))
            assert list(how["tuned"]) == list(map(str, PLAN["rates"]))
            pick = max if column.endswith("↑") else min
            assert how["tuned"][str(how["rate"])] == pick(how["tuned"].values())
            assert len(ROWS[name]["values"][column]) == len(PLAN["seeds"])


def test_a_training_repeated_gives_the_kept_number():
    """Elsewhere its rounding is another, and it has to learn the sums at least."""
    how, wanted = (ROWS["transformer"][part]["adding ↓"] for part in ("how", "values"))
    score, _ = run.scored(tasks()["adding"], "transformer", how, PLAN["seeds"][0])
    if KEPT["device"] != measure.device_name("cpu") or KEPT["versions"] != measure.versions():
        assert score < mean("chance", "adding ↓") / 2
    else:
        assert score == pytest.approx(wanted[0], rel=1e-6)


def test_an_echo_state_network_repeated_gives_the_kept_number():
    how, wanted = ROWS["echo_state"]["how"]["digits ↑"], ROWS["echo_state"]["values"]["digits ↑"]
    score, _ = run.scored(tasks()["digits"], "echo_state", how, PLAN["seeds"][0])
    assert score == pytest.approx(wanted[0], abs=0.01)


def test_what_is_interrupted_goes_on_and_gives_the_same(tmp_path):
    plan = {
        "seeds": [0, 1], "seconds": 0.02, "rates": [0.003, 0.01],
        "columns": {"recall ↑": ".2f"}, "rows": {"chance": "*chance*", "lstm": "LSTM"},
    }  # fmt: skip
    kept, told = {}, []
    run.make(plan, kept, lambda found: told.append(copy.deepcopy(found)))
    assert [len(row["values"]["recall ↑"]) for row in kept["rows"]] == [1, 2]
    for before in told[1], told[4]:  # while rates are tried, and between the seeds
        again = copy.deepcopy(before)
        run.make(plan, again, lambda found: None)
        for one, two in zip(kept["rows"], again["rows"], strict=True):
            assert one["values"]["recall ↑"] == two["values"]["recall ↑"]
    done = copy.deepcopy(kept)
    run.make(plan, done, lambda found: None)
    assert done == kept


def test_the_tasks_are_what_their_names_say():
    drawn = tasks()
    tokens, answers = drawn["copying"].part("exam", 0, 0)
    letters = [row[(row > 0) & (row < 9)] - 1 for row in tokens]
    assert torch.equal(torch.stack(letters), answers)
    x, answer = drawn["adding"].part("exam", 0, 0)
    assert torch.equal(x[..., 1].sum(1), torch.full((len(x),), 2.0))
    assert (answer**2).mean().item() == pytest.approx(1 / 6, rel=0.1)  # of saying the mean
    tokens, answers = drawn["recall"].part("exam", 0, 0)
    shown = tokens[:, 1:12:2] - 16
    most = shown.mode(1).values[:, None]
    rule = (answers == most).double().mean().item()
    assert rule == pytest.approx(ROWS["simple"]["values"]["recall ↑"][0], abs=0.02)


def test_nothing_that_is_asked_was_learned_from():
    for name in ("digits", "names"):
        task = tasks()[name]
        rows = {part: task.part(part, 0, 0)[0].flatten(1) for part in ("learn", "exam")}
        rest, tune = task.part("learn", 0, -1)[0].flatten(1), task.part("tune", 0, 0)[0].flatten(1)
        assert len(rest) < len(rows["learn"])
        for learned, asked in ((rows["learn"], rows["exam"]), (rest, tune)):
            seen = {tuple(row) for row in learned.tolist()}
            assert not seen & {tuple(row) for row in asked.tolist()}, name


def test_only_a_transformer_holds_more_the_more_it_reads():
    for name in READERS:
        few, many = (ROWS[name]["values"][f"bytes at {t}"][0] for t in (64, 4096))
        assert many == (64 * few if name == "transformer" else few), name
    width, layers, both, four = models.WIDTH, models.LAYERS, 2, 4
    assert ROWS["transformer"]["values"]["bytes at 64"][0] == 64 * width * layers * both * four
    size = ROWS["lstm"]["how"]["names ↓"]["size"]
    assert ROWS["lstm"]["values"]["bytes at 64"][0] == size * layers * both * four


def test_the_words_below_the_table_are_true():
    """What chapters/sequence/index.md says of the table; it names no numbers of it."""
    runs = {
        column: {name: ROWS[name]["values"].get(column) for name in (*READERS, "echo_state")}
        for column in PLAN["columns"]
    }
    chance, rule = (mean(row, "recall ↑") for row in ("chance", "simple"))
    assert chance < rule
    # recall
    recall = {name: statistics.fmean(values) for name, values in runs["recall ↑"].items()}
    assert all(recall[name] > 0.995 for name in ("transformer", "mlstm", "mamba2"))
    assert 0.9 < recall["rwkv"] < 0.98 and 0.65 < recall["mamba"] < 0.9
    few = {name: ROWS[name]["how"]["recall ↑"]["steps"] for name in READERS}
    assert min(few, key=few.__getitem__) == "mamba"
    assert rule + 0.1 < recall["lstm"] < 0.6
    known = {"transformer", "mlstm", "mamba2", "rwkv", "mamba", "lstm"}
    assert all(recall[name] < rule + 0.03 for name in recall.keys() - known)
    # copying
    copying = {name: statistics.fmean(values) for name, values in runs["copying ↑"].items()}
    sure = {"lstm", "gru", "rwkv", "mlstm", "transformer"}
    assert all(min(runs["copying ↑"][name]) > 0.998 for name in sure)
    assert 0.94 < copying["s4d"] < 0.98
    assert all(copying[name] < copying["s4d"] for name in copying.keys() - sure - {"s4d"})
    cost = {name: ROWS[name]["how"]["copying ↑"]["seconds a step"] for name in READERS}
    assert all(3.5 < cost[name] / cost["lstm"] < 9.5 for name in ("mamba", "mamba2"))
    # pixels
    digits = {name: statistics.fmean(values) for name, values in runs["digits ↑"].items()}
    order = sorted(digits, key=digits.__getitem__)
    assert order[-1] == "s4d" and abs(digits["s4d"] - mean("simple", "digits ↑")) < 0.02
    assert set(order[-3:-1]) == {"lstm", "echo_state"}
    assert abs(digits["lstm"] - digits["echo_state"]) < 0.03
    # the sum
    wrong = mean("chance", "adding ↓")
    solved = {
        name: sum(value < 0.1 * wrong for value in values)
        for name, values in runs["adding ↓"].items()
    }
    assert {name: count for name, count in solved.items() if count} == {
        "transformer": 3, "rwkv": 3, "gru": 2, "lstm": 1,
    }  # fmt: skip
    assert all(
        value < 0.1 * wrong or value > 0.9 * wrong
        for values in runs["adding ↓"].values()
        for value in values
    )
    # names
    names = {name: mean(name, "names ↓") for name in READERS}
    assert sorted(names, key=names.__getitem__)[:3] == ["rwkv", "lstm", "rnn"]
    assert mean("simple", "names ↓") < names["rwkv"] - 0.1
    rates = [ROWS[name]["how"]["names ↓"]["rate"] for name in READERS]
    assert sum(rate == max(PLAN["rates"]) for rate in rates) > len(READERS) / 2
    # what one more token costs
    held = {name: mean(name, "bytes at 64") for name in READERS}
    assert 0.95 < held["transformer"] / held["mamba2"] < 1.05
    assert all(90 < held[name] / held["gru"] < 110 for name in ("mamba2", "mlstm"))


def test_every_number_is_one():
    for row in KEPT["rows"]:
        for values in row["values"].values():
            assert all(math.isfinite(value) for value in values)
