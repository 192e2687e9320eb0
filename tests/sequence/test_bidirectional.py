"""Both walks against torch.nn, autograd, brute force over all words, and the flag of the layers."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from nnlib.sequence.bidirectional import Bidirectional, GapFiller, reverse
from nnlib.sequence.gru import GRU
from nnlib.sequence.lstm import LSTM
from nnlib.sequence.rnn import RNN
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"vocab_size": 11, "embed_dim": 4, "hidden_size": 6},
        (torch.randint(11, (3, 8)),),
        {"lengths": torch.tensor([8, 5, 2])},
    )


KINDS = {"rnn": (RNN, nn.RNN), "lstm": (LSTM, nn.LSTM), "gru": (GRU, nn.GRU)}
kinds = pytest.mark.parametrize("kind", KINDS)


def noise(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def same(got, wanted, atol=1e-12):
    torch.testing.assert_close(got, torch.as_tensor(wanted), rtol=0, atol=atol)


def pair(kind, d, h, num_layers=1, **kwargs):
    """A `Bidirectional`, and torch's layer that reads both ways with the same weights."""
    ours, theirs = KINDS[kind]
    torch.manual_seed(7)
    wanted = theirs(d, h, num_layers, batch_first=True, bidirectional=True).double()
    ways = []
    for end in ("", "_reverse"):
        layer = ours(d, h, dtype=torch.float64)
        layer.load_state_dict({k: wanted.state_dict()[k + end] for k in layer.state_dict()})
        ways.append(layer)
    return Bidirectional(*ways, **kwargs), wanted


def filled(theirs, x, lengths):
    """What torch says for packed sequences: padded outputs and the final states."""
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    out, final = theirs(packed)
    return pad_packed_sequence(out, batch_first=True, total_length=x.shape[1])[0], final


@pytest.mark.equation("bidirectional-forward", "bidirectional-backward", "bidirectional-output")
@kinds
@settings(max_examples=20, deadline=None)
@given(
    d=st.integers(1, 4),
    h=st.integers(1, 5),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    spare=st.integers(0, 2),
)
def test_two_layers_are_torchs_bidirectional_layer_with_lengths(kind, d, h, lengths, spare):
    ours, theirs = pair(kind, d, h)
    x = noise(len(lengths), max(lengths) + spare, d)
    wanted, final = filled(theirs, x, lengths)
    out, (last, first) = ours(x, torch.tensor(lengths))
    same(out, wanted)
    for part in range(2 if kind == "lstm" else 1):
        theirs_part = final[part] if kind == "lstm" else final
        for row, mine in enumerate((last, first)):
            same(mine[part] if kind == "lstm" else mine, theirs_part[row : row + 1])


@kinds
def test_gradients_are_those_of_torch(kind):
    ours, theirs = pair(kind, 3, 4)
    x, lengths, weight = noise(3, 6, 3).requires_grad_(), [6, 2, 4], noise(3, 6, 8, seed=1)
    (wanted,) = torch.autograd.grad((filled(theirs, x, lengths)[0] * weight).sum(), x)
    (got,) = torch.autograd.grad((ours(x, torch.tensor(lengths))[0] * weight).sum(), x)
    same(got, wanted)


@pytest.mark.equation("bidirectional-forward", "bidirectional-backward")
def test_the_walks_are_the_recurrence_written_out():
    ours, _ = pair("rnn", 2, 3)
    x = noise(1, 5, 2)
    rows = {}
    for name, order in (("forward_layer", range(5)), ("backward_layer", reversed(range(5)))):
        layer, h = getattr(ours, name), torch.zeros(3).double()
        for t in order:
            h = torch.tanh(
                layer.weight_hh_l0 @ h
                + layer.weight_ih_l0 @ x[0, t]
                + layer.bias_hh_l0
                + layer.bias_ih_l0
            )
            rows[name, t] = h
    wanted = [torch.cat([rows["forward_layer", t], rows["backward_layer", t]]) for t in range(5)]
    same(ours(x)[0][0], torch.stack(wanted))


@pytest.mark.equation("bidirectional-readout")
def test_the_readout_is_a_linear_layer_on_both_states_around_the_gap():
    net = GapFiller(7, 3, 4).double()
    tokens = torch.tensor([[1, 5, 0, 3, 6]])
    out = Bidirectional(net.left, net.right)(net.token_embedding(tokens))[0][0]
    h = torch.cat([out[1, :4], out[3, 4:]])  # either side of the third place
    U, c = net.readout.weight, net.readout.bias
    same(net(tokens)[0, 2], torch.stack([U[k] @ h + c[k] for k in range(7)]))


@pytest.mark.equation("bidirectional-reverse")
@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(0, 3))
def test_each_row_is_reversed_within_its_length(lengths, spare):
    t = max(lengths) + spare
    x = noise(len(lengths), t, 2)
    got = reverse(x, torch.tensor(lengths))
    for row, n in enumerate(lengths):
        for step in range(1, t + 1):  # counted from 1, as the equation does
            same(got[row, step - 1], x[row, (n + 1 - step if step <= n else step) - 1], 0)
    same(reverse(got, torch.tensor(lengths)), x, 0)
    same(reverse(x), x.flip(1), 0)


@kinds
def test_a_plain_flip_of_padded_rows_is_wrong_and_reverse_is_right(kind):
    ours, theirs = pair(kind, 3, 4)
    x, lengths = noise(2, 6, 3), [6, 3]
    wanted = filled(theirs, x, lengths)[0]
    flipped = ours.backward_layer(x.flip(1))[0].flip(1)
    assert (flipped[1, :3] - wanted[1, :3, 4:]).abs().max() > 1e-3
    real = reverse(ours.backward_layer(reverse(x, torch.tensor(lengths)))[0], torch.tensor(lengths))
    same(real[1, :3], wanted[1, :3, 4:])


def changes(states, x):
    """Size of the derivative of each step's state by each step's input."""
    jacobian = torch.autograd.functional.jacobian(lambda p: states(p[None])[0], x)
    return jacobian.abs().sum((1, 3))


@pytest.mark.equation("bidirectional-sees")
@kinds
def test_each_half_has_read_its_own_side_only(kind):
    ours, _ = pair(kind, 2, 3)
    x = noise(6, 2)
    ahead = changes(lambda p: ours(p)[0][..., :3], x)
    back = changes(lambda p: ours(p)[0][..., 3:], x)
    assert ahead.triu(1).abs().max() == 0
    assert back.tril(-1).abs().max() == 0
    assert (ahead + back > 0).all()
    assert (ahead.tril() + torch.ones(6, 6).triu(1) > 0).all()


@kinds
def test_a_changed_future_changes_the_present_and_step_refuses(kind):
    layer = KINDS[kind][0](3, 4, bidirectional=True, dtype=torch.float64)
    x = noise(1, 6, 3)
    other = x.clone()
    other[0, -1] += 1
    moved = (layer(x)[0] - layer(other)[0]).abs()
    assert moved[0, 0, 4:].max() > 1e-8
    assert moved[0, :-1, :4].max() == 0
    with refuses(ValueError, "step needs bidirectional=False, got True"):
        layer.step(x[:, 0])


@pytest.mark.equation("bidirectional-gap")
@pytest.mark.parametrize("sides", ["both", "left", "right"])
def test_a_gap_is_filled_from_what_stands_around_it(sides):
    """Against packed sequences of only the letters before, and only those behind, each gap."""
    torch.manual_seed(3)
    net = GapFiller(6, 3, 4, sides).double()
    tokens, n = torch.randint(6, (1, 7)), 5
    got = net(tokens, torch.tensor([n]))[0, :n].softmax(-1)
    x = net.token_embedding(tokens)
    for t in range(n):
        known = []
        if net.left is not None:
            known.append(net.left(x[:, :t])[1][0][0, 0] if t else torch.zeros(4).double())
        if net.right is not None:
            rest = x[:, t + 1 : n].flip(1)
            known.append(net.right(rest)[1][0][0, 0] if t < n - 1 else torch.zeros(4).double())
        score = torch.cat(known) @ net.readout.weight.T + net.readout.bias
        same(got[t], score.exp() / score.exp().sum())


@pytest.mark.parametrize("sides", ["both", "left", "right"])
def test_the_answer_does_not_depend_on_the_asked_letter_nor_on_the_filling(sides):
    net = GapFiller(6, 3, 4, sides).double()
    tokens, lengths = torch.randint(6, (2, 8)), torch.tensor([8, 5])
    wanted = net(tokens, lengths)
    for t in range(8):
        other = tokens.clone()
        other[:, t] = (tokens[:, t] + 1) % 6
        same(net(other, lengths)[0, t], wanted[0, t], 0)
    other = tokens.clone()
    other[1, 5:] = (tokens[1, 5:] + 3) % 6
    same(net(other, lengths)[1, :5], wanted[1, :5], 0)
    same(net(tokens[1:, :5])[0], wanted[1, :5])


@pytest.mark.equation("bidirectional-objective")
def test_one_pass_gives_the_mean_surprise_of_every_gap():
    net = GapFiller(6, 3, 4).double()
    tokens = torch.randint(6, (1, 5))
    one_pass = F.cross_entropy(net(tokens)[0], tokens[0])
    total = 0.0
    for t in range(5):  # five passes, each with its letter replaced, so that nothing can leak
        hidden = tokens.clone()
        hidden[0, t] = 0
        total -= net(hidden)[0, t].log_softmax(-1)[tokens[0, t]].item()
    assert one_pass.item() == pytest.approx(total / 5, abs=1e-12)


@pytest.mark.equation("bidirectional-count")
@pytest.mark.parametrize(("kind", "gates"), [("rnn", 1), ("gru", 3), ("lstm", 4)])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_number_of_weights(kind, gates, layers):
    d, h = 3, 4
    torchs = KINDS[kind][1](d, h, layers, bidirectional=True)
    got = sum(p.numel() for p in torchs.parameters())
    assert got == 2 * gates * h * (d + h + 2) + (layers - 1) * 2 * gates * h * (3 * h + 2)
    if kind == "rnn" and layers == 1:
        assert got == 72


@pytest.mark.equation("bidirectional-merges")
def test_states_may_be_added_averaged_or_multiplied():
    x, lengths = noise(2, 6, 3), torch.tensor([4, 6])
    _, theirs = pair("gru", 3, 4)
    ahead, back = filled(theirs, x, lengths.tolist())[0].chunk(2, -1)
    wanted = {"sum": ahead + back, "mean": 0.5 * (ahead + back), "product": ahead * back}
    for merge, value in wanted.items():
        same(pair("gru", 3, 4, merge=merge)[0](x, lengths)[0], value)


@pytest.mark.equation("bidirectional-deep")
@kinds
def test_a_second_layer_reads_both_halves_of_the_first(kind):
    ours, theirs = KINDS[kind]
    deep = theirs(2, 3, 2, batch_first=True, bidirectional=True).double()
    x, weights = noise(2, 5, 2), deep.state_dict()
    for number, width in enumerate((2, 6)):
        ways = []
        for end in ("", "_reverse"):
            layer = ours(width, 3, dtype=torch.float64)
            layer.load_state_dict(
                {k: weights[k.replace("l0", f"l{number}") + end] for k in layer.state_dict()}
            )
            ways.append(layer)
        x = Bidirectional(*ways)(x)[0]
    same(x, deep(noise(2, 5, 2))[0])


@pytest.mark.equation("bidirectional-deep")
def test_mixed_layers_leak_the_asked_letter_and_two_towers_do_not():
    def around(states):
        ahead, back = states.chunk(2, -1)
        return torch.cat([F.pad(ahead[:, :-1], (0, 0, 1, 0)), F.pad(back[:, 1:], (0, 0, 0, 1))], -1)

    x = noise(6, 2)
    mixed = RNN(2, 4, num_layers=2, bidirectional=True).double()
    towers = Bidirectional(*(RNN(2, 4, num_layers=2).double() for _ in range(2)))
    assert (changes(lambda p: around(mixed(p)[0]), x).diagonal() > 0).all()
    apart = changes(lambda p: around(towers(p)[0]), x)
    assert apart.diagonal().abs().max() == 0
    assert (apart + torch.eye(6) > 0).all()


@pytest.fixture(scope="module")
def language():
    """Probabilities of all words of three letters from an alphabet of two."""
    p = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return p / p.sum()


@pytest.mark.equation("bidirectional-both-ways")
def test_a_word_can_be_taken_apart_from_either_end(language):
    for a, b, c in itertools.product(range(2), repeat=3):
        left = language[a].sum() * (language[a, b].sum() / language[a].sum())
        left = left * language[a, b, c] / language[a, b].sum()
        right = language[:, :, c].sum() * (language[:, b, c].sum() / language[:, :, c].sum())
        right = right * language[a, b, c] / language[:, b, c].sum()
        same(left, language[a, b, c])
        same(right, language[a, b, c])


@pytest.mark.equation("bidirectional-pseudo")
def test_the_product_of_gap_fillings_is_no_probability(language):
    product = torch.ones_like(language)
    for axis in range(3):
        product = product * language / language.sum(axis, keepdim=True)
    assert (product - language).abs().max() > 0.01
    two_words = torch.tensor([[0.5, 0.0], [0.0, 0.5]])  # AA and BB
    total = (two_words / two_words.sum(0)) * (two_words / two_words.sum(1, keepdim=True))
    assert total.sum() == 2


@pytest.mark.equation("bidirectional-experts")
def test_two_opinions_make_one_if_the_sides_are_independent_given_the_letter():
    generator = torch.Generator().manual_seed(2)
    sizes = (4,), (4, 3), (4, 5)
    letter, left, right = (torch.rand(n, generator=generator, dtype=torch.float64) for n in sizes)
    letter, left = letter / letter.sum(), left / left.sum(1, keepdim=True)
    right = right / right.sum(1, keepdim=True)
    joint = letter[:, None, None] * left[:, :, None] * right[:, None, :]  # letter, left, right
    for a, b in itertools.product(range(3), range(5)):
        truth = joint[:, a, b] / joint[:, a, b].sum()
        from_left = joint[:, a].sum(1) / joint[:, a].sum()
        from_right = joint[:, :, b].sum(1) / joint[:, :, b].sum()
        product = from_left * from_right / letter
        same(product / product.sum(), truth)


def fit(net, tokens, steps=150):
    """Train on the middle place of three; return the share of it guessed right, and the loss."""
    optimizer = torch.optim.Adam(net.parameters(), 0.03)
    for _ in range(steps):
        loss = F.cross_entropy(net(tokens)[:, 1], tokens[:, 1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (net(tokens)[:, 1].argmax(1) == tokens[:, 1]).double().mean(), loss.item()


def test_both_sides_learn_what_neither_side_can():
    """The left neighbour says which half of four tokens, the right one says odd or even."""
    a, b = torch.cartesian_prod(torch.arange(2), torch.arange(2)).T
    tokens = torch.stack([a, 2 * a + b, b], 1)
    torch.manual_seed(0)
    right = {side: fit(GapFiller(4, 8, 16, side), tokens)[0] for side in ("left", "right", "both")}
    assert right == {"left": 0.5, "right": 0.5, "both": 1.0}


@pytest.mark.equation("bidirectional-separate")
def test_a_linear_readout_adds_the_sides_so_xor_needs_a_hidden_layer():
    a, b = torch.cartesian_prod(torch.arange(2), torch.arange(2)).T
    tokens = torch.stack([a, a ^ b, b], 1)
    torch.manual_seed(0)
    net = GapFiller(2, 4, 8)
    _, loss = fit(net, tokens)
    assert loss == pytest.approx(math.log(2), abs=1e-3)
    logits = net(tokens)[:, 1]
    same(logits[0] - logits[1] - logits[2] + logits[3], torch.zeros(2), 1e-5)  # no interaction
    left, right = net.readout.weight.chunk(2, 1)
    states = Bidirectional(net.left, net.right)(net.token_embedding(tokens))[0]
    parts = states[:, 0, :8] @ left.T, states[:, 2, 8:] @ right.T
    product = parts[0].exp() * parts[1].exp() * net.readout.bias.exp()
    same(product / product.sum(1, keepdim=True), logits.softmax(-1), 1e-6)
    net.readout = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 2))
    assert fit(net, tokens)[0] == 1


def test_layers_of_other_kinds_and_sizes_stand_side_by_side():
    out, (last, first) = Bidirectional(LSTM(3, 5), GRU(3, 2))(torch.randn(2, 6, 3))
    assert out.shape == (2, 6, 7)
    assert [tuple(part.shape) for part in (*last, first)] == [(1, 2, 5), (1, 2, 5), (1, 2, 2)]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Bidirectional(RNN(3, 4), 5), TypeError, "backward_layer must be a recurrent"),
        (
            lambda: Bidirectional(RNN(3, 4, bidirectional=True), RNN(3, 4)),
            ValueError,
            "forward_layer must read one way",
        ),
        (
            lambda: Bidirectional(Bidirectional(RNN(3, 4), RNN(3, 4)), RNN(3, 4)),
            ValueError,
            "forward_layer must read one way",
        ),
        (
            lambda: Bidirectional(RNN(3, 4), RNN(3, 4, batch_first=False)),
            ValueError,
            "backward_layer must have the batch first",
        ),
        (
            lambda: Bidirectional(RNN(3, 4), RNN(2, 4)),
            ValueError,
            "backward_layer must have input_size=3 like forward_layer, got 2",
        ),
        (
            lambda: Bidirectional(RNN(3, 4), RNN(3, 5), merge="sum"),
            ValueError,
            "backward_layer must have hidden_size=4 like forward_layer, got 5",
        ),
        (lambda: Bidirectional(RNN(3, 4), RNN(3, 4), merge="max"), ValueError, "merge='max'"),
        (lambda: GapFiller(5, 4, 3, "middle"), ValueError, "sides='middle'"),
        (lambda: GapFiller(5, 4, 0), ValueError, "hidden_size=0"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with refuses(error, message):
        make()


def test_bad_input_is_named():
    both, x = Bidirectional(RNN(3, 4), RNN(3, 4)), torch.zeros(2, 5, 3)
    for call in (lambda n: both(x, n), lambda n: reverse(x, n)):
        with refuses(ValueError, "lengths must lie in 1 … 5, the steps of x, got 1 … 6"):
            call(torch.tensor([1, 6]))
        with refuses(ValueError, "lengths must have shape (2), got (3,)"):
            call(torch.tensor([1, 2, 3]))
    net = GapFiller(5, 4, 3)
    with refuses(ValueError, "tokens must be 0 … 4 (vocab_size), got 0 … 5"):
        net(torch.tensor([[0, 5]]))
    with refuses(TypeError, "tokens must hold integers"):
        net(torch.zeros(2, 3))
