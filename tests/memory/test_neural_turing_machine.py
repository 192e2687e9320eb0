"""The machines with a memory, held to loops over plain numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from nnlib.memory.neural_turing_machine import (
    DNC,
    DNCState,
    NeuralTuringMachine,
    NTMState,
    address,
    allocation,
    cosine,
    link_reads,
    read,
    update_links,
    update_precedence,
    update_usage,
    write,
)
from tests.support import Example, refuses


def example():
    sizes = {"input_size": 3, "output_size": 5, "hidden_size": 6, "num_slots": 7, "slot_size": 4}
    return Example(sizes, (torch.randn(2, 8, 3),))


# --------------------------------------------------------------- the same in numbers, one by one
def dot(u, v):
    return sum(a * b for a, b in zip(u, v, strict=True))


def softmax_of(z):
    powers = [math.exp(each - max(z)) for each in z]
    return [each / sum(powers) for each in powers]


def sigmoid_of(z):
    return 1 / (1 + math.exp(-z))


def oneplus_of(z):
    return 1 + math.log(1 + math.exp(z))


def affine(weight, bias, x):
    return [dot(row, x) + b for row, b in zip(weight, bias, strict=True)]


def cosine_of(u, v, eps=1e-6):
    return dot(u, v) / math.sqrt((dot(u, u) + eps) * (dot(v, v) + eps))


def content_of(memory, key, strength):
    return softmax_of([strength * cosine_of(key, row) for row in memory])


def addressed_by_loops(memory, previous, key, strength, gate, shift, sharpness):
    """The four stages for one head."""
    n, half = len(memory), len(shift) // 2
    content = content_of(memory, key, strength)
    gated = [gate * c + (1 - gate) * w for c, w in zip(content, previous, strict=True)]
    shifted = [0.0] * n
    for j in range(n):
        for at, share in enumerate(shift):
            shifted[(j + at - half) % n] += gated[j] * share
    powers = [w**sharpness for w in shifted]
    return content, gated, shifted, [p / sum(powers) for p in powers]


def written_by_loops(memory, heads):
    """All erasures, then all additions; `heads` are triples of weights, erase and add."""
    new = [row[:] for row in memory]
    for weights, erase, _ in heads:
        new = [[m * (1 - w * e) for m, e in zip(row, erase, strict=True)]
               for w, row in zip(weights, new, strict=True)]  # fmt: skip
    for weights, _, add in heads:
        new = [[m + w * a for m, a in zip(row, add, strict=True)]
               for w, row in zip(weights, new, strict=True)]  # fmt: skip
    return new


def read_by_loops(memory, weights):
    return [dot(weights, column) for column in zip(*memory, strict=True)]


def cut(values, *sizes):
    """Take lists of these lengths off the front."""
    values, parts = list(values), []
    for size in sizes:
        parts.append([values.pop(0) for _ in range(size)])
    assert not values
    return parts


def rows(values, width):
    return [values[at : at + width] for at in range(0, len(values), width)]


class ByLoops:
    """A machine's parameters as lists, and its controller."""

    def __init__(self, model):
        self.model = model
        self.given = {name: p.tolist() for name, p in model.named_parameters()}

    def controller(self, x, reads, hidden):
        seen, given = x + [r for read in reads for r in read], self.given
        if "controller.weight" in given:
            z = affine(given["controller.weight"], given["controller.bias"], seen)
            return [[math.tanh(each) for each in z]]
        h, c = hidden
        mixed = affine(given["controller.weight_ih"], given["controller.bias_ih"], seen)
        kept = affine(given["controller.weight_hh"], given["controller.bias_hh"], h)
        z = [a + b for a, b in zip(mixed, kept, strict=True)]
        i, f, g, o = cut(z, *[len(h)] * 4)
        c = [sigmoid_of(ff) * cc + sigmoid_of(ii) * math.tanh(gg)
             for ff, cc, ii, gg in zip(f, c, i, g, strict=True)]  # fmt: skip
        return [[sigmoid_of(oo) * math.tanh(cc) for oo, cc in zip(o, c, strict=True)], c]

    def affine(self, name, x):
        return affine(self.given[f"{name}.weight"], self.given[f"{name}.bias"], x)


def ntm_by_loops(model, inputs):
    """Outputs, memory and weights of a Turing machine for one sequence."""
    loops, w, s = ByLoops(model), model.slot_size, model.num_shifts
    r, h = model.num_read_heads, model.num_read_heads + model.num_write_heads
    memory = [[1e-6] * w for _ in range(model.num_slots)]
    weights = [[1.0] + [0.0] * (model.num_slots - 1) for _ in range(h)]
    reads, outputs = [[0.0] * w for _ in range(r)], []
    hidden = [part[0].tolist() for part in model.controller.initial(1)]
    for x in inputs:
        hidden = loops.controller(x, reads, hidden)
        parts = cut(loops.affine("interface", hidden[0]), *model.sizes)
        keys, positive, gates, shifts, erase, add = parts
        strengths, sharpness = cut([oneplus_of(z) for z in positive], h, h)
        keys, shifts, erase, add = rows(keys, w), rows(shifts, s), rows(erase, w), rows(add, w)
        weights = [
            addressed_by_loops(memory, weights[at], keys[at], strengths[at],
                               sigmoid_of(gates[at]), softmax_of(shifts[at]), sharpness[at])[3]
            for at in range(h)
        ]  # fmt: skip
        reads = [read_by_loops(memory, weights[at]) for at in range(r)]
        heads = [(weights[r + at], [sigmoid_of(z) for z in erase[at]],
                  [math.tanh(z) for z in add[at]]) for at in range(h - r)]  # fmt: skip
        memory = written_by_loops(memory, heads)
        outputs.append(loops.affine("output", hidden[0] + [v for one in reads for v in one]))
    return outputs, memory, weights


def usage_by_loops(usage, written, reading, free):
    used = []
    for i in range(len(usage)):
        kept = math.prod(1 - f * w[i] for f, w in zip(free, reading, strict=True))
        used.append((usage[i] + written[i] - usage[i] * written[i]) * kept)
    return used


def allocated_by_loops(usage):
    weights, left = [0.0] * len(usage), 1.0
    for slot in sorted(range(len(usage)), key=lambda at: usage[at]):
        weights[slot] = (1 - usage[slot]) * left
        left *= usage[slot]
    return weights


def links_by_loops(links, written, precedence):
    n = len(written)
    return [[0.0 if i == j else (1 - written[i] - written[j]) * links[i][j]
             + written[i] * precedence[j] for j in range(n)] for i in range(n)]  # fmt: skip


def precedence_by_loops(precedence, written):
    return [(1 - sum(written)) * p + w for p, w in zip(precedence, written, strict=True)]


def dnc_by_loops(model, inputs):
    """Everything that a differentiable neural computer keeps, for one sequence."""
    loops, w, r, n = ByLoops(model), model.slot_size, model.num_read_heads, model.num_slots
    memory, usage = [[0.0] * w for _ in range(n)], [0.0] * n
    links, precedence = [[0.0] * n for _ in range(n)], [0.0] * n
    written, reading = [0.0] * n, [[0.0] * n for _ in range(r)]
    reads, outputs = [[0.0] * w for _ in range(r)], []
    hidden = [part[0].tolist() for part in model.controller.initial(1)]
    for x in inputs:
        hidden = loops.controller(x, reads, hidden)
        keys, strengths, erase, add, gates, modes = cut(
            loops.affine("interface", hidden[0]), *model.sizes
        )
        keys, strengths = rows(keys, w), [oneplus_of(z) for z in strengths]
        *free, by_allocation, writes = [sigmoid_of(z) for z in gates]
        usage = usage_by_loops(usage, written, reading, free)
        similar, fresh = content_of(memory, keys[r], strengths[r]), allocated_by_loops(usage)
        written = [writes * (by_allocation * a + (1 - by_allocation) * c)
                   for a, c in zip(fresh, similar, strict=True)]  # fmt: skip
        memory = written_by_loops(memory, [(written, [sigmoid_of(z) for z in erase], add)])
        links = links_by_loops(links, written, precedence)
        precedence = precedence_by_loops(precedence, written)
        new = []
        for head in range(r):
            back, content, on = softmax_of(rows(modes, 3)[head])
            similar, before = content_of(memory, keys[head], strengths[head]), reading[head]
            new.append([
                back * sum(links[j][i] * before[j] for j in range(n)) + content * similar[i]
                + on * sum(links[i][j] * before[j] for j in range(n)) for i in range(n)
            ])  # fmt: skip
        reading = new
        reads = [read_by_loops(memory, weights) for weights in reading]
        outputs.append(loops.affine("output", hidden[0] + [v for one in reads for v in one]))
    return outputs, (memory, usage, links, precedence, written, reading, reads)


def double(*values):
    return [torch.tensor(value, dtype=torch.float64) for value in values]


def same(got, wanted, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted, dtype=got.dtype), rtol=0, atol=atol)


def drawn(seed, n=5, w=3, h=2, s=3):
    """Memory and parameters of heads, drawn, in float64, a batch of one."""
    g = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(1, *shape, generator=g, dtype=torch.float64)

    return {
        "memory": normal(n, w), "previous": normal(h, n).softmax(-1), "key": normal(h, w),
        "strength": 1 + normal(h).exp(), "gate": normal(h).sigmoid(),
        "shift": normal(h, s).softmax(-1), "sharpness": 1 + normal(h).exp(),
    }  # fmt: skip


# -------------------------------------------------------------------------------- addressing
@pytest.mark.equation("neural-turing-machine-cosine")
@pytest.mark.equation("neural-turing-machine-content")
@pytest.mark.equation("neural-turing-machine-gate")
@pytest.mark.equation("neural-turing-machine-shift")
@pytest.mark.equation("neural-turing-machine-sharpen")
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 6), half=st.integers(0, 3))
def test_an_address_is_that_of_the_loops(seed, n, half):
    """For memories of one row and kernels longer than the memory, too."""
    given_ = drawn(seed, n=n, s=2 * half + 1)
    got = address(**given_)
    listed = {name: value[0].tolist() for name, value in given_.items()}
    for head in range(2):
        wanted = addressed_by_loops(
            listed["memory"], *(listed[name][head] for name in list(listed)[1:])
        )
        for stage, numbers in zip(got, wanted, strict=True):
            same(stage[0, head], numbers)


@pytest.mark.equation("neural-turing-machine-cosine")
def test_the_cosine_is_torchs_where_rows_are_long_and_zero_where_one_is_zero():
    key, memory = torch.randn(2, 3, 5).double() * 1e3, torch.randn(2, 4, 5).double() * 1e3
    wanted = F.cosine_similarity(key[:, :, None], memory[:, None], dim=-1)
    same(cosine(key, memory), wanted, atol=1e-9)
    memory[:, 1] = 0
    assert (cosine(key, memory)[..., 1] == 0).all()
    assert (cosine(0 * key, memory) == 0).all()


def test_a_zero_row_and_a_zero_key_have_finite_gradients():
    given_ = drawn(0)
    for name in ("memory", "key"):
        bent = given_ | {name: torch.zeros_like(given_[name]).requires_grad_()}
        weights = address(**bent).weights
        (gradient,) = torch.autograd.grad(weights[0, 0, 1], bent[name])
        assert torch.isfinite(weights).all()
        assert torch.isfinite(gradient).all()


@pytest.mark.equation("neural-turing-machine-shift")
def test_the_memory_is_a_ring():
    """Without mod N all weight of slot 0 would be lost at a shift by −1."""
    at_zero = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]]).double()
    given_ = drawn(0, n=4, h=1) | {"previous": at_zero, "gate": torch.zeros(1, 1).double()}
    back = address(**given_ | {"shift": torch.tensor([[[1.0, 0.0, 0.0]]]).double()})
    assert back.shifted[0, 0].tolist() == [0, 0, 0, 1]
    on = address(**given_ | {"shift": torch.tensor([[[0.0, 0.0, 1.0]]]).double()})
    assert on.shifted[0, 0].tolist() == [0, 1, 0, 0]


@pytest.mark.equation("neural-turing-machine-sharpen")
def test_sharpening_by_one_changes_nothing_and_by_much_keeps_the_largest():
    given_ = drawn(3, h=1)
    mild = address(**given_ | {"sharpness": torch.ones(1, 1).double()})
    same(mild.weights, mild.shifted)
    hard = address(**given_ | {"sharpness": torch.full((1, 1), 1e4).double()})
    assert hard.weights[0, 0].round().sum() == 1  # no power has vanished
    assert hard.weights.argmax() == hard.shifted.argmax()
    blurred = (hard.shifted**0.5) / (hard.shifted**0.5).sum()
    assert blurred.max() < hard.shifted.max()  # why γ < 1 is refused


def test_a_sharpness_that_would_underflow_has_finite_gradients():
    given_ = {name: value.float() for name, value in drawn(1, n=64).items()}
    given_["sharpness"] = torch.full((1, 2), 60.0).requires_grad_()
    weights = address(**given_).weights
    (gradient,) = torch.autograd.grad(weights[0, 0, 0], given_["sharpness"])
    assert torch.isfinite(weights).all()
    assert torch.isfinite(gradient).all()


def test_the_gradient_of_an_address_is_that_of_differences():
    given_ = drawn(5)
    inputs = [value.requires_grad_() for value in given_.values()]

    def weights(*values):
        named = dict(zip(given_, values, strict=True))
        for name in ("previous", "shift"):  # kept on the simplex
            named[name] = named[name] / named[name].sum(-1, keepdim=True)
        return address(**named).weights

    assert torch.autograd.gradcheck(weights, inputs)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shift", torch.full((1, 2, 4), 0.25), "shift must have an odd length"),
        ("shift", torch.full((1, 2, 3), 0.5), "shift must be ≥ 0 and sum to 1"),
        ("sharpness", torch.full((1, 2), 0.5), "sharpness must be ≥ 1, got 0.5"),
        ("strength", torch.zeros(1, 2), "strength must be > 0, got 0"),
        ("strength", torch.full((1, 2), -1.0), "strength must be > 0, got -1"),
        ("gate", torch.full((1, 2), 1.5), "gate must be in 0 … 1, got 1.5"),
        ("gate", torch.full((1, 2), torch.nan), "gate must be in 0 … 1, got nan"),
        ("previous", torch.zeros(1, 2, 5), "previous must be ≥ 0 and sum to 1"),
        ("previous", torch.zeros(1, 2, 6), "previous must have shape (1, h, 5)"),
        ("previous", torch.zeros(1, 0, 5), "previous must not be empty"),
        ("key", torch.zeros(1, 2, 4), "key must have shape (1, 2, 3)"),
        ("memory", torch.zeros(1, 0, 3), "memory must not be empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_address_that_makes_no_sense_is_refused(name, value, message):
    given_ = {key: part.float() for key, part in drawn(0).items()}
    with refuses(ValueError, message):
        address(**given_ | {name: value})


# ------------------------------------------------------------------------- reading and writing
@pytest.mark.equation("neural-turing-machine-memory")
@pytest.mark.equation("neural-turing-machine-write")
@pytest.mark.parametrize("heads", [1, 3])
def test_reading_and_writing_are_those_of_the_loops(heads):
    g = torch.Generator().manual_seed(2)
    memory = torch.randn(1, 4, 3, generator=g, dtype=torch.float64)
    weights = torch.randn(1, heads, 4, generator=g, dtype=torch.float64).softmax(-1)
    erase = torch.rand(1, heads, 3, generator=g, dtype=torch.float64)
    add = torch.randn(1, heads, 3, generator=g, dtype=torch.float64)
    of_heads = zip(*(part[0].tolist() for part in (weights, erase, add)), strict=True)
    same(write(memory, weights, erase, add)[0],
         written_by_loops(memory[0].tolist(), list(of_heads)))  # fmt: skip
    for head in range(heads):
        same(read(memory, weights)[0, head],
             read_by_loops(memory[0].tolist(), weights[0, head].tolist()))  # fmt: skip


def test_a_full_erasure_at_one_slot_replaces_it_and_leaves_the_others():
    memory = torch.randn(1, 3, 2)
    at = torch.tensor([[[0.0, 1.0, 0.0]]])
    new = write(memory, at, torch.ones(1, 1, 2), torch.tensor([[[5.0, 6.0]]]))
    assert new[0, 1].tolist() == [5, 6]
    assert torch.equal(new[0, [0, 2]], memory[0, [0, 2]])


def test_several_heads_do_not_depend_on_their_order():
    g = torch.Generator().manual_seed(4)
    memory, weights = torch.randn(1, 4, 3, generator=g), torch.rand(1, 2, 4, generator=g)
    erase, add = torch.rand(1, 2, 3, generator=g), torch.randn(1, 2, 3, generator=g)
    turned = write(memory, weights.flip(1), erase.flip(1), add.flip(1))
    torch.testing.assert_close(write(memory, weights, erase, add), turned)


# --------------------------------------------------------------------------- the Turing machine
MACHINES = [
    {"num_read_heads": 1, "num_write_heads": 1, "controller": "feedforward", "num_shifts": 3},
    {"num_read_heads": 2, "num_write_heads": 3, "controller": "lstm", "num_shifts": 5},
    {"num_read_heads": 1, "num_write_heads": 1, "num_slots": 1, "num_shifts": 1},
]


def machine(cls, **arguments):
    torch.manual_seed(3)
    made = cls(3, 2, 5, dtype=torch.float64, **{"num_slots": 4, "slot_size": 3} | arguments)
    with torch.no_grad():
        made.interface.weight.mul_(4)  # so that heads do move
    return made


@pytest.mark.equation("neural-turing-machine-controller")
@pytest.mark.equation("neural-turing-machine-interface")
@pytest.mark.equation("neural-turing-machine-oneplus")
@pytest.mark.equation("neural-turing-machine-forward")
@pytest.mark.parametrize("arguments", MACHINES, ids=["plain", "many heads", "one row"])
def test_a_machine_is_that_of_the_loops(arguments):
    model = machine(NeuralTuringMachine, **arguments)
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    outputs, state = model(x)
    for at in range(2):
        wanted, memory, weights = ntm_by_loops(model, x[at].tolist())
        same(outputs[at], wanted)
        same(state.memory[at], memory)
        same(state.weights[at], weights)


def test_the_machine_of_the_experiment_has_912_numbers():
    assert sum(p.numel() for p in NeuralTuringMachine(6, 4).parameters()) == 912


@pytest.mark.parametrize("cls", [NeuralTuringMachine, DNC])
def test_a_machine_goes_on_where_it_stopped_and_its_trace_is_its_states(cls):
    model, x = machine(cls), torch.randn(2, 6, 3, dtype=torch.float64)
    whole, last = model(x)
    first, state = model(x[:, :4])
    second, again = model(x[:, 4:], state)
    same(torch.cat((first, second), 1), whole)
    same(again.memory, last.memory)
    trace = model.trace(x)
    assert type(trace) is type(last)
    same(trace.memory[:, -1], last.memory)
    same(trace.memory[:, 3], state.memory)
    same(trace.hidden[0][:, -1], last.hidden[0])


@pytest.mark.parametrize("cls", [NeuralTuringMachine, DNC])
def test_no_parameter_depends_on_the_number_of_slots(cls):
    model, x = machine(cls), torch.randn(2, 3, 3, dtype=torch.float64)
    wide = machine(cls, num_slots=9)
    wide.load_state_dict(model.state_dict())
    same(model(x, model.initial_state(2, 9))[0], wide(x)[0])


def test_heads_begin_at_slot_0_and_lean_ahead():
    model = NeuralTuringMachine(3, 2, slot_size=4, num_shifts=3)
    state = model.initial_state(2)
    assert (state.memory == 1e-6).all()
    assert (state.weights[..., 0] == 1).all()
    _, sharp, gate, shift, *_ = model.interface.bias.split(model.sizes)
    assert gate.tolist() == [-2, -2]
    assert shift.tolist() == [0, 0, 1] * 2
    assert sharp.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("cls", [NeuralTuringMachine, DNC])
@pytest.mark.parametrize("name", ["num_slots", "slot_size", "num_read_heads", "hidden_size"])
def test_none_of_a_thing_is_refused(cls, name):
    with refuses(ValueError, f"{name}=0 must be an integer ≥ 1"):
        cls(3, 2, **{name: 0})


def test_what_does_not_fit_a_machine_is_refused():
    with refuses(ValueError, "num_write_heads=0 must be"):
        NeuralTuringMachine(3, 2, num_write_heads=0)
    with refuses(ValueError, "num_shifts=4 must be odd"):
        NeuralTuringMachine(3, 2, num_shifts=4)
    with refuses(ValueError, "controller='gru' must be one of"):
        NeuralTuringMachine(3, 2, controller="gru")
    model, computer = NeuralTuringMachine(3, 2), DNC(3, 2)
    for each in (model, computer):
        with refuses(ValueError, "x must have shape (b, t, 3), got (2, 4, 5)"):
            each(torch.randn(2, 4, 5))
        with refuses(ValueError, "x must not be empty"):
            each(torch.randn(2, 0, 3))
        with refuses(ValueError, "state.memory must have shape (2, n,"):
            each(torch.randn(2, 4, 3), each.initial_state(3))
    with refuses(TypeError, "state must be an NTMState, got DNCState"):
        model(torch.randn(2, 4, 3), computer.initial_state(2))
    with refuses(TypeError, "state must be a DNCState, got NTMState"):
        computer(torch.randn(2, 4, 3), model.initial_state(2))
    with refuses(ValueError, "state.weights must have shape (2, 2, 32)"):
        bent = model.initial_state(2)._replace(weights=torch.zeros(2, 3, 32))
        model(torch.randn(2, 4, 3), bent)
    with refuses(ValueError, "state.links must have shape (2, 16, 16)"):
        bent = computer.initial_state(2)._replace(links=torch.zeros(2, 9, 9))
        computer(torch.randn(2, 4, 3), bent)
    lstm = NeuralTuringMachine(3, 2, controller="lstm")
    with refuses(ValueError, "state.hidden must hold 2 tensors, got 1"):
        lstm(torch.randn(2, 4, 3), model.initial_state(2))


# --------------------------------------------------------- the differentiable neural computer
@pytest.mark.equation("neural-turing-machine-retention")
@pytest.mark.equation("neural-turing-machine-usage")
@pytest.mark.equation("neural-turing-machine-allocation")
@pytest.mark.equation("neural-turing-machine-precedence")
@pytest.mark.equation("neural-turing-machine-links")
@pytest.mark.equation("neural-turing-machine-backward")
@pytest.mark.equation("neural-turing-machine-forward-link")
@pytest.mark.equation("neural-turing-machine-dnc-write")
@pytest.mark.equation("neural-turing-machine-dnc-read")
@pytest.mark.parametrize("arguments", [
    {"num_read_heads": 1, "controller": "feedforward"},
    {"num_read_heads": 3, "controller": "lstm"},
    {"num_read_heads": 2, "num_slots": 1},
], ids=["plain", "three heads", "one row"])  # fmt: skip
def test_a_computer_is_that_of_the_loops(arguments):
    model = machine(DNC, **arguments)
    x = torch.randn(2, 7, 3, dtype=torch.float64)
    outputs, state = model(x)
    for at in range(2):
        wanted, kept = dnc_by_loops(model, x[at].tolist())
        same(outputs[at], wanted)
        for got, numbers in zip(state[:7], kept, strict=True):
            same(got[at], numbers)


@pytest.mark.equation("neural-turing-machine-allocation")
@settings(max_examples=40, deadline=None)
@given(usage=st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), min_size=1, max_size=7))
def test_allocation_is_that_of_the_loops_and_leaves_what_is_in_use(usage):
    (given_,) = double([usage])
    weights = allocation(given_)
    same(weights[0], allocated_by_loops(usage))
    same(weights.sum(), 1 - math.prod(usage))  # nothing is allocated where all is in use
    assert (weights[given_ == 1] == 0).all()


@pytest.mark.equation("neural-turing-machine-usage")
@pytest.mark.equation("neural-turing-machine-retention")
def test_usage_grows_where_it_was_written_and_falls_where_a_head_lets_go():
    usage, written = double([[0.2, 0.6, 1.0]], [[0.5, 0.5, 0.0]])
    reading, free = double([[[0.0, 0.5, 1.0], [0.0, 0.5, 0.0]]], [[1.0, 1.0]])
    got = update_usage(usage, written, reading, free)
    parts = (part[0].tolist() for part in (usage, written, reading))
    same(got[0], usage_by_loops(*parts, [1, 1]))
    same(got[0], [0.6, 0.8 * 0.25, 0.0])


@pytest.mark.equation("neural-turing-machine-links")
@pytest.mark.equation("neural-turing-machine-precedence")
@pytest.mark.equation("neural-turing-machine-backward")
@pytest.mark.equation("neural-turing-machine-forward-link")
def test_links_lead_from_each_write_to_the_next_and_back():
    order = [2, 0, 3]
    links, precedence = torch.zeros(1, 4, 4), torch.zeros(1, 4)
    for slot in order:
        now = F.one_hot(torch.tensor([slot]), 4).float()
        links = update_links(links, now, precedence)
        precedence = update_precedence(precedence, now)
    assert precedence.argmax() == order[-1]
    assert links.nonzero()[:, 1:].tolist() == [[0, 2], [3, 0]]  # 0 after 2, 3 after 0
    back, on = link_reads(links, F.one_hot(torch.tensor([[0]]), 4).float())
    assert on.argmax() == 3
    assert back.argmax() == 2


@pytest.mark.equation("neural-turing-machine-links")
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_links_stay_shares_whatever_is_written(seed):
    """Rows and columns of the links sum to at most 1, and the diagonal is 0."""
    g = torch.Generator().manual_seed(seed)
    links, precedence = torch.zeros(1, 5, 5).double(), torch.zeros(1, 5).double()
    for _ in range(8):
        gate = torch.rand(1, 1, generator=g).double()
        now = gate * torch.randn(1, 5, generator=g).double().mul(3).softmax(-1)
        before = (links[0].tolist(), now[0].tolist(), precedence[0].tolist())
        links = update_links(links, now, precedence)
        same(links[0], links_by_loops(*before))
        precedence = update_precedence(precedence, now)
    assert links.min() >= 0
    assert max(links.sum(1).max(), links.sum(2).max()) <= 1 + 1e-12
    assert (links.diagonal(dim1=1, dim2=2) == 0).all()


def test_the_gradient_of_allocation_and_links_is_that_of_differences():
    usage = torch.tensor([[0.3, 0.9, 0.1, 0.6]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(allocation, [usage])
    g = torch.Generator().manual_seed(0)
    parts = [torch.rand(1, *shape, generator=g, dtype=torch.float64, requires_grad=True)
             for shape in ((4, 4), (4,), (4,))]  # fmt: skip
    assert torch.autograd.gradcheck(update_links, parts)


def test_a_memory_that_is_full_is_not_written_by_allocation():
    weights = allocation(torch.ones(1, 4))
    assert weights.tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize(("call", "message"), [
    (lambda: allocation(torch.rand(4)), "usage must have shape (b, n)"),
    (lambda: update_links(torch.rand(1, 3, 4), torch.rand(1, 3), torch.rand(1, 3)),
     "links must have shape (1, 3, 3)"),
    (lambda: update_precedence(torch.rand(1, 3), torch.rand(1, 4)),
     "write_weights must have shape (1, 3)"),
    (lambda: update_usage(torch.rand(1, 3), torch.rand(1, 3), torch.rand(1, 2, 3),
                          torch.rand(1, 1)), "free_gates must have shape (1, 2)"),
    (lambda: link_reads(torch.rand(1, 3, 3), torch.rand(1, 2, 4)),
     "read_weights must have shape (1, r, 3)"),
    (lambda: read(torch.rand(1, 3, 2), torch.rand(1, 1, 4)), "weights must have shape (1, h, 3)"),
    (lambda: write(torch.rand(1, 3, 2), torch.rand(1, 1, 3), torch.rand(1, 1, 3),
                   torch.rand(1, 1, 2)), "erase must have shape (1, 1, 2)"),
    (lambda: cosine(torch.rand(1, 1, 2), torch.rand(1, 3, 4)), "key must have shape (1, h, 4)"),
], ids=["usage", "links", "precedence", "free", "link reads", "read", "erase", "key"])  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(call, message):
    with refuses(ValueError, message):
        call()


@pytest.mark.parametrize("cls", [NeuralTuringMachine, DNC])
def test_reset_parameters_gives_what_the_constructor_gives(cls):
    torch.manual_seed(1)
    wanted = cls(3, 2).state_dict()
    model = cls(3, 2)
    torch.manual_seed(1)
    cls(3, 2)  # the constructor draws twice: parts, then the reset
    assert set(model.state_dict()) == set(wanted)
    model.reset_parameters()
    assert all(torch.isfinite(p).all() for p in model.parameters())


@pytest.mark.equation("neural-turing-machine-loss")
def test_the_loss_is_torchs_cross_entropy_of_logits():
    logits, bits = torch.randn(50).double() * 4, torch.randint(0, 2, (50,)).double()
    by_hand = (torch.log1p(logits.exp()) - bits * logits).mean()
    same(by_hand, F.binary_cross_entropy_with_logits(logits, bits))


@pytest.mark.equation("neural-turing-machine-path")
def test_the_direct_path_through_a_row_is_the_product_of_what_was_kept():
    g = torch.Generator().manual_seed(6)
    memory = torch.randn(1, 4, 3, generator=g, dtype=torch.float64, requires_grad=True)
    now, kept = memory, torch.ones(4, 3, dtype=torch.float64)
    for _ in range(5):
        weights = torch.randn(1, 1, 4, generator=g, dtype=torch.float64).softmax(-1)
        erase = torch.rand(1, 1, 3, generator=g, dtype=torch.float64)
        now = write(now, weights, erase, torch.randn(1, 1, 3, generator=g, dtype=torch.float64))
        kept = kept * (1 - weights[0].mT * erase[0])
    for row, number in ((0, 0), (2, 1)):
        (gradient,) = torch.autograd.grad(now[0, row, number], memory, retain_graph=True)
        wanted = torch.zeros(4, 3, dtype=torch.float64)
        wanted[row, number] = kept[row, number]
        same(gradient[0], wanted.detach())


@pytest.mark.parametrize("links", [True, False])
def test_a_computer_driven_by_its_biases_reads_a_list_in_order_only_with_links(links):
    """Weights set by hand: write what comes, go by content at the question, and then on."""
    bits = 6
    model = DNC(bits + 2, bits, hidden_size=bits + 2, num_slots=8, slot_size=bits,
                controller="feedforward", dtype=torch.float64)  # fmt: skip
    with torch.no_grad():
        for part in model.parameters():
            part.zero_()
        model.controller.weight[:, : bits + 2] = 5 * torch.eye(bits + 2)
        key, _, _, add, gates, modes = model.interface.weight.split(model.sizes)
        key[:bits, :bits] = add[:, :bits] = torch.eye(bits)
        gates[2, bits:] = -40  # nothing is written at the question and after it
        modes[1, bits], modes[2, bits + 1] = 40, 40 * links
        _, strengths, _, _, bias, _ = model.interface.bias.split(model.sizes)
        strengths[0], bias[0], bias[1], bias[2] = 60, -40, 40, 20
        model.output.weight[:, bits + 2 :] = torch.eye(bits)
    items = 2 * torch.eye(bits, dtype=torch.float64)[:5] - 1
    x = torch.zeros(1, 8, bits + 2, dtype=torch.float64)
    x[0, :5, :bits], x[0, 5, :bits], x[0, 5, bits], x[0, 6:, bits + 1] = items, items[1], 1, 1
    said = model(x)[0][0, 5:].sign()
    assert torch.equal(said[0], items[1])
    assert torch.equal(said[1:], items[2:4]) == links


def test_states_are_named():
    assert NTMState._fields == ("memory", "weights", "reads", "hidden")
    assert DNCState._fields[1:4] == ("usage", "links", "precedence")
