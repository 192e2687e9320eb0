"""The wiring of a circuit: whom it joins, that ncps draws the same, and what is refused."""

import numpy as np
import pytest
import torch

from nnlib.dynamics.liquid import LTC, Wiring, wiring
from tests.support import Peer, refuses

wirings = Peer("ncps.wirings")


@pytest.mark.parametrize("seed", [22222, 0, 7])
@pytest.mark.parametrize(
    "size", [(4, 19, 1, 0.5), (2, 9, 2, 0.3), (32, 28, 4, 0.8), (1, 6, 1, 0.9)]
)
def test_with_the_same_seed_ncps_draws_the_same_wiring(size, seed):
    inputs, neurons, outputs, sparsity = size
    peer = wirings.AutoNCP(neurons, outputs, sparsity_level=sparsity, seed=seed)
    peer.build(inputs)
    ours = wiring(inputs, neurons, outputs, sparsity, seed=seed)
    np.testing.assert_array_equal(ours.inner.numpy(), peer.adjacency_matrix)
    np.testing.assert_array_equal(ours.sensory.numpy(), peer.sensory_adjacency_matrix)


def test_with_its_numbers_given_it_is_ncps_circuit():
    peer = wirings.NCP(12, 8, 2, 4, 5, 6, 3, seed=5)
    peer.build(10)
    ours = wiring(
        10, 22, 2, command=8, sensory_fanout=4, inter_fanout=5, recurrent=6, motor_fanin=3, seed=5
    )
    np.testing.assert_array_equal(ours.inner.numpy(), peer.adjacency_matrix)
    np.testing.assert_array_equal(ours.sensory.numpy(), peer.sensory_adjacency_matrix)
    assert ours.synapses == peer.synapse_count + peer.sensory_synapse_count


def test_signals_go_from_layer_to_layer_and_only_command_neurons_feed_back():
    circuit = wiring(8, 28, 3)
    kinds = circuit.groups
    assert [len(kinds[name]) for name in ("motor", "command", "inter")] == [3, 10, 15]
    assert list(kinds["motor"]) == [0, 1, 2]
    joined = circuit.inner != 0
    allowed = torch.zeros_like(joined)
    for source, target in (("inter", "command"), ("command", "command"), ("command", "motor")):
        rows, columns = kinds[source], kinds[target]
        allowed[rows.start : rows.stop, columns.start : columns.stop] = True
    assert not (joined & ~allowed).any()
    sensory = circuit.sensory != 0
    assert not sensory[:, : kinds["inter"].start].any(), "inputs reach inter neurons only"
    assert joined[kinds["command"].start : kinds["command"].stop].any()


@pytest.mark.parametrize("seed", range(5))
def test_nobody_is_left_out(seed):
    circuit = wiring(3, 30, 2, sparsity=0.9, seed=seed)
    kinds, inner = circuit.groups, circuit.inner.abs()
    assert circuit.sensory.abs().sum(0)[list(kinds["inter"])].min() >= 1
    assert inner[list(kinds["inter"])].sum(0)[list(kinds["command"])].min() >= 1
    assert inner[list(kinds["command"])][:, list(kinds["motor"])].sum(1).min() >= 1
    assert inner[:, list(kinds["motor"])].sum(0).min() >= 1


def test_what_is_not_wired_has_no_influence():
    circuit = wiring(3, 9, 2)
    ltc = LTC(3, circuit, dtype=torch.float64)
    x = torch.randn(1, 4, 3, dtype=torch.float64)
    before = ltc(x)[0]
    with torch.no_grad():
        for name, mask in (("w", circuit.inner), ("sensory_w", circuit.sensory)):
            ltc.rnn_cell.get_parameter(name)[mask == 0] = 5.0
    assert torch.equal(ltc(x)[0], before)


def test_it_tells_its_numbers():
    circuit = wiring(4, 19, 1)
    assert repr(circuit) == "Wiring(4 inputs, 1 motor, 7 command, 11 inter, 68 synapses)"
    assert circuit.synapses == int((circuit.inner != 0).sum() + (circuit.sensory != 0).sum())
    assert circuit.density == pytest.approx(68 / (4 * 19 + 19 * 19))
    assert (circuit.input_size, circuit.hidden_size, circuit.outputs) == (4, 19, 1)


def test_a_wiring_can_be_written_by_hand():
    loop = Wiring([[1, 0, 0]], [[0, 1, 0], [0, 0, -1], [1, 0, 0]], outputs=1)
    assert list(loop.groups["motor"]) == [0]
    assert list(loop.groups["inter"]) == [1, 2]
    assert LTC(1, loop)(torch.zeros(2, 3, 1))[0].shape == (2, 3, 1)


def test_an_empty_wiring_is_refused():
    with refuses(ValueError, "sensory must hold at least one synapse, got an empty wiring"):
        Wiring([[0, 0]], [[0, 1], [1, 0]], outputs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 3}, "hidden_size=3 must be ≥ 4, three more than outputs=1"),
        ({"sparsity": 0.95}, "sparsity=0.95 must be a finite number ≥ 0.1 and ≤ 0.9"),
        ({"sparsity": 0.05}, "sparsity=0.05 must be a finite number ≥ 0.1 and ≤ 0.9"),
        ({"command": 9}, "command=9 must be < 9, the neurons that are not motor"),
        ({"sensory_fanout": 7}, "sensory_fanout=7 must be ≤ 6, the neurons to choose from"),
        ({"inter_fanout": 4}, "inter_fanout=4 must be ≤ 3, the neurons to choose from"),
        ({"motor_fanin": 4}, "motor_fanin=4 must be ≤ 3, the neurons to choose from"),
        ({"recurrent": 0}, "recurrent=0 must be an integer ≥ 1"),
        ({"input_size": 0}, "input_size=0 must be an integer ≥ 1"),
        ({"seed": -1}, "seed=-1 must be an integer ≥ 0"),
        ({"seed": 2**32}, "seed=4294967296 must be below 2**32"),
    ],
)
def test_a_wiring_that_cannot_be_drawn_is_refused_by_name(change, message):
    with refuses(ValueError, message):
        wiring(**{"input_size": 3, "hidden_size": 10, "outputs": 1, **change})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[2]], [[0]], 1), "sensory must hold -1, 0 and 1, got 2"),
        (([[1, 1]], [[0]], 1), "inner must have shape (2, 2), got (1, 1)"),
        (([[1]], [[0]], 2), "outputs=2 must be ≤ 1, the neurons"),
        (([[1]], [[0]], 1, {"motor": 2}), "groups={'motor': 2} must add up to 1, the neurons"),
        (([[1]], [[0]], 1, {"a": 2, "b": -1}), "groups['b']=-1 must be an integer ≥ 0"),
        (
            ([[1, 0]], [[0, 1], [1, 0]], 1, {"motor": 2}),
            "groups={'motor': 2} must begin with outputs=1, the motor neurons",
        ),
        ((torch.tensor([[-128]], dtype=torch.int8), [[0]], 1), "must hold -1, 0 and 1, got 128"),
    ],
)
def test_a_wiring_by_hand_that_does_not_fit_is_refused(arguments, message):
    with refuses(ValueError, message):
        Wiring(*arguments)


def test_more_recurrent_synapses_may_be_drawn_than_there_are_places():
    assert wiring(3, 10, 1, recurrent=50).inner[1:4, 1:4].any()


def test_what_is_no_matrix_or_no_dictionary_is_refused_by_name():
    with refuses(TypeError, "sensory must be a matrix of -1, 0 and 1, got [[1, 0], [1]]"):
        Wiring([[1, 0], [1]], [[0, 0], [0, 0]], 1)
    with refuses(TypeError, "inner must be a matrix of -1, 0 and 1, got None"):
        Wiring([[1, 0]], None, 1)
    with refuses(TypeError, "groups=[1] must be a dictionary of numbers by name"):
        Wiring([[1]], [[0]], 1, [1])


def test_a_wiring_keeps_its_synapses_when_the_matrix_it_was_given_changes():
    given = torch.tensor([[1, -1]])
    made = Wiring(given, [[0, 0], [0, 0]], 1)
    given.zero_()
    assert made.sensory.tolist() == [[1, -1]]
