"""Sequence to sequence against torch.nn and brute force over tiny vocabularies."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F

from nnlib.sequence.bidirectional import reverse
from nnlib.sequence.seq2seq import Memory, Seq2Seq
from tests.support import Example, refuses


def example() -> Example:
    """What the contract runs: see `tests/test_contract.py`."""
    return Example(
        {"source_vocab_size": 7, "target_vocab_size": 6, "embed_dim": 4, "hidden_size": 8},
        (torch.randint(7, (3, 5)), torch.randint(6, (3, 4))),
        {"lengths": torch.tensor([5, 1, 4])},
    )


CONTEXTS = ("start", "every", "attention")
contexts = pytest.mark.parametrize("context", CONTEXTS)
BEGIN, END = 0, 1
EXACT = {"rtol": 0, "atol": 0}
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def build(context="every", source_size=5, target_size=4, embed=3, hidden=6, seed=0, spread=1.0):
    """A model in double precision; `spread` above 1 makes its choices sharper."""
    torch.manual_seed(seed)
    model = Seq2Seq(source_size, target_size, embed, hidden, context).double().eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(spread)
    return model


def tokens(*shape, most=5, seed=0):
    return torch.randint(most, shape, generator=torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def cell_of(gru):
    """torch's cell with the weights of one of our GRUs."""
    cell = nn.GRUCell(gru.input_size, gru.hidden_size).double()
    cell.load_state_dict(
        {name.removesuffix("_l0"): value for name, value in gru.state_dict().items()}
    )
    return cell


def by_hand(model, source, target):
    """One string, tick by tick, from torch's cells and the equations: states and probabilities."""
    read, write = cell_of(model.encoder), cell_of(model.decoder)
    h = torch.zeros(1, model.encoder.hidden_size, dtype=torch.float64)
    heard = []
    for token in source:
        h = read(model.source_embedding.weight[token][None], h)
        heard.append(h[0])
    c = s = h
    out = []
    for token in target:
        fed = model.target_embedding.weight[token][None]
        s = write(torch.cat([fed, c], 1) if model.context == "every" else fed, s)
        chooses = s
        if model.context == "every":
            chooses = torch.tanh(model.mix(torch.cat([c, s], 1)))
        if model.context == "attention":
            scores = [math.exp((s[0] @ model.attention.weight @ h_i).item()) for h_i in heard]
            found = sum(a / sum(scores) * h_i for a, h_i in zip(scores, heard, strict=True))
            chooses = torch.tanh(model.mix(torch.cat([found[None], s], 1)))
        out.append((chooses @ model.to_logits.weight.T + model.to_logits.bias).softmax(1)[0])
    return torch.stack(heard), torch.stack(out)


def all_sequences(size, longest):
    """Every sequence of up to `longest` tokens that ends, and every one cut there, filled up."""
    others = [token for token in range(size) if token != END]
    ended = [
        [*body, *[END] * (longest - length)]
        for length in range(longest)
        for body in itertools.product(others, repeat=length)
    ]
    return torch.tensor(ended + [list(body) for body in itertools.product(others, repeat=longest)])


def counted(sequences):
    """Tokens of each, its end among them."""
    return ((sequences == END).cumsum(1) - (sequences == END).int() == 0).sum(1)


# ---------------------------------------------------------------- reading and writing


@pytest.mark.equation("seq2seq-encoder", "seq2seq-context")
@contexts
def test_the_encoder_is_torchs_cell_and_the_context_its_last_state(context):
    model, source = build(context), tokens(1, 6)
    memory = model.encode(source)
    heard, _ = by_hand(model, source[0], [BEGIN])
    torch.testing.assert_close(memory.outputs[0], heard, **CLOSE)
    torch.testing.assert_close(memory.state[0, 0], heard[-1], **CLOSE)


@pytest.mark.equation(
    "seq2seq-decoder", "seq2seq-output", "seq2seq-mix", "seq2seq-start", "seq2seq-forced",
    "seq2seq-weights", "seq2seq-attended",
)  # fmt: skip
@contexts
def test_teacher_forced_probabilities_are_those_of_the_equations(context):
    model, source, target = build(context, spread=2.0), tokens(3, 6), tokens(3, 5, most=4, seed=1)
    got = model(source, target).softmax(-1)
    for row in range(3):
        torch.testing.assert_close(got[row], by_hand(model, source[row], target[row])[1], **CLOSE)


@pytest.mark.equation("seq2seq-weights", "seq2seq-attended")
def test_the_alignment_is_where_the_answer_comes_from():
    model, source, target = build("attention", spread=2.0), tokens(2, 6), tokens(2, 4, most=4)
    weights = model.align(source, target)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4).double())
    memory = model.encode(source)
    s, _ = model.decoder(model.target_embedding(target), memory.state)
    mixed = torch.tanh(model.mix(torch.cat([weights @ memory.outputs, s], -1)))
    torch.testing.assert_close(model(source, target), model.to_logits(mixed), **CLOSE)


def test_only_the_context_at_every_step_is_fed_again():
    for context in CONTEXTS:
        model = build(context)
        memory, target = model.encode(tokens(1, 4)), tokens(1, 3, most=4)
        start = memory.state
        plain = model.decode(memory, target, start)[0]
        other = model.decode(Memory(memory.outputs, memory.key_mask, start + 1), target, start)[0]
        assert torch.equal(plain, other) == (context != "every")


@pytest.mark.equation("seq2seq-free", "seq2seq-greedy")
@contexts
def test_greedy_feeds_its_own_likeliest_token_and_stays_ended(context):
    for seed in range(4):
        model, source = build(context, seed=seed, spread=3.0), tokens(5, 4, seed=seed)
        wrote = model.greedy(source, 7)
        for row in range(5):
            past = [BEGIN]
            while len(past) <= wrote.shape[1] and (len(past) == 1 or past[-1] != END):
                past.append(int(by_hand(model, source[row], past)[1][-1].argmax()))
            wanted = past[1:] + [END] * (wrote.shape[1] - len(past) + 1)
            assert wrote[row].tolist() == wanted


@contexts
def test_alone_a_string_is_right_exactly_when_it_is_right_under_the_teacher(context):
    model, source = build(context, spread=3.0), tokens(60, 3)
    wanted = model.greedy(source, 5)
    wanted = F.pad(wanted, (0, 5 - wanted.shape[1]), value=END)
    wanted[::2, 2] = tokens(30, most=4)  # spoil some
    forced = model(source, F.pad(wanted[:, :-1], (1, 0), value=BEGIN)).argmax(-1)
    alone = model.greedy(source, 5)
    alone = F.pad(alone, (0, 5 - alone.shape[1]), value=END)
    until = (wanted == END).cumsum(1) - (wanted == END).int() == 0
    same = [((guess == wanted) | ~until).all(1) for guess in (forced, alone)]
    assert torch.equal(*same) and same[0].any() and not same[0].all()


@contexts
def test_steps_one_by_one_are_all_steps_at_once(context):
    model, source, target = build(context), tokens(3, 6), tokens(3, 5, most=4)
    memory = model.encode(source)
    state, rows = memory.state, []
    for token in target.split(1, 1):
        logits, state = model.decode(memory, token, state)
        rows.append(logits)
    torch.testing.assert_close(torch.cat(rows, 1), model(source, target), **CLOSE)


@pytest.mark.equation("seq2seq-factorization")
@contexts
def test_the_probabilities_of_all_sequences_sum_to_one(context):
    model = build(context, spread=2.0)
    every = all_sequences(4, 4)
    log_p = model.score(tokens(1, 5).expand(len(every), -1), every)
    torch.testing.assert_close(log_p.exp().sum().item(), 1.0)
    for row in (0, 3, 20, 100):
        past, p = [BEGIN], 1.0
        for token in every[row].tolist():
            p *= by_hand(model, tokens(1, 5)[0], past)[1][-1, token].item()
            past.append(token)
            if token == END:
                break
        torch.testing.assert_close(log_p[row].exp().item(), p)


class Ends(Seq2Seq):
    """Ends at step j with the probability `ends(j)`, and writes token 2 otherwise."""

    def __init__(self, ends):
        super().__init__(2, 3)
        self.ends = ends

    def decode(self, memory, target, state):
        p = self.ends(torch.arange(1, target.shape[1] + 1, dtype=torch.float64))
        logs = torch.stack([torch.full_like(p, -torch.inf), p.log(), (1 - p).log()], -1)
        return logs.expand(len(target), -1, -1), state


@pytest.mark.parametrize(
    ("ends", "total"), [(lambda j: 1 / (j + 1) ** 2, 0.5), (lambda j: 0.1 + 0.0 * j, 1.0)]
)
def test_an_end_token_does_not_suffice_for_the_probabilities_to_sum_to_one(ends, total):
    """It does where its probability stays away from zero; else half may go to endless sequences."""
    longest = 300
    every = torch.full((longest, longest), END)
    every[torch.ones_like(every).tril(-1).bool()] = 2
    p = Ends(ends).score(torch.zeros(longest, 1, dtype=torch.int64), every).exp()
    torch.testing.assert_close(p.sum().item(), total, rtol=0, atol=1 / longest)


@contexts
def test_the_end_keeps_a_probability_because_what_chooses_is_bounded(context):
    model, target = build(context, spread=4.0), tokens(3, 200, most=4)
    weight, bias = model.to_logits.weight, model.to_logits.bias
    largest = (weight.abs().sum(1) + bias.abs()).max()
    least = (-2 * largest).exp() / len(bias)
    p = model(tokens(3, 5), target).softmax(-1)[..., END]
    assert p.min() > least > 0


@pytest.mark.equation("seq2seq-loss")
@contexts
def test_the_loss_is_the_mean_surprise_and_its_slope_is_that_of_finite_differences(context):
    model, source = build(context), tokens(1, 5)
    wanted = torch.tensor([[2, 3, 2, END]])
    before = F.pad(wanted[:, :-1], (1, 0))

    def loss():
        return F.cross_entropy(model(source, before)[0], wanted[0])

    torch.testing.assert_close(loss(), -model.score(source, wanted)[0] / 4)
    grads = torch.autograd.grad(loss(), list(model.parameters()), allow_unused=True)
    for (name, weight), grad in zip(model.named_parameters(), grads, strict=True):
        place = int(grad.abs().argmax())
        flat = weight.data.view(-1)
        ends = []
        for step in (1e-5, -2e-5):
            flat[place] += step
            ends.append(loss().item())
        flat[place] += 1e-5
        got = grad.view(-1)[place].item()
        assert got == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-5, abs=1e-9), name
        assert got != 0, name


# ---------------------------------------------------------------- padding


@contexts
@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_padding_changes_nothing_anywhere(context, lengths, seed):
    model, n = build(context, seed=seed, spread=2.0), torch.tensor(lengths)
    source, target = tokens(len(n), 9, seed=seed), tokens(len(n), 4, most=4, seed=seed + 1)
    logits = model(source, target, n)
    other = torch.where(torch.arange(9) < n[:, None], source, 4 - source)
    torch.testing.assert_close(model(other, target, n), logits, **CLOSE)
    wrote, (_, scores) = model.greedy(source, 5, n), model.beam(source, 3, 5, n, 0.7)
    told = model.score(source, target, n)
    for row, length in enumerate(lengths):
        own, real = source[row : row + 1, :length], target[row : row + 1]
        torch.testing.assert_close(logits[row], model(own, real)[0], **CLOSE)
        torch.testing.assert_close(told[row], model.score(own, real)[0], **CLOSE)
        alone = model.greedy(own, 5)[0]
        assert alone.tolist() == wrote[row, : len(alone)].tolist()
        assert (wrote[row, len(alone) :] == END).all()
        torch.testing.assert_close(model.beam(own, 3, 5, None, 0.7)[1][0], scores[row], **CLOSE)
    if context == "attention":
        weights = model.align(source, target, n)
        hidden = torch.arange(9) >= n[:, None, None]
        assert (weights.masked_select(hidden.expand_as(weights)) == 0).all()


def test_without_lengths_padding_does_change_the_answer():
    source, n = tokens(2, 6), torch.tensor([3, 6])
    model, target = build(), tokens(2, 4, most=4)
    apart = (model(source, target) - model(source, target, n)).abs().amax((1, 2))
    assert apart[0] > 1e-3 and apart[1] < 1e-12


def test_reversed_sources_are_turned_up_to_their_padding():
    source = tokens(5, 7)
    lengths = torch.tensor([1, 7, 3, 4, 6])
    got = reverse(source, lengths)
    for row, n in enumerate(lengths.tolist()):
        assert got[row, :n].tolist() == source[row, :n].tolist()[::-1]
        assert torch.equal(got[row, n:], source[row, n:])
    torch.testing.assert_close(reverse(source), reverse(source, torch.full((5,), 7)))
    torch.testing.assert_close(reverse(got, lengths), source)
    with refuses(ValueError, "lengths must lie in 1 … 7, the steps of x, got 8 … 8"):
        reverse(source, torch.full((5,), 8))


# ---------------------------------------------------------------- beam search


def penalty(sequences, alpha):
    factors = [((5 + n) / 6) ** alpha for n in counted(sequences).tolist()]
    return torch.tensor(factors, dtype=torch.float64)


@pytest.mark.equation("seq2seq-beam", "seq2seq-length-penalty")
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@contexts
def test_a_beam_as_wide_as_everything_finds_everything_in_order(context, alpha):
    every = all_sequences(4, 4)
    for seed in range(3):
        model, source = build(context, seed=seed, spread=2.0), tokens(2, 5, seed=seed)
        found, scores = model.beam(source, len(every), 4, length_penalty=alpha)
        for row in range(2):
            log_p = model.score(source[row : row + 1].expand(len(every), -1), every)
            wanted = (log_p / penalty(every, alpha)).sort(descending=True)
            torch.testing.assert_close(scores[row], wanted.values, **CLOSE)
            assert torch.equal(found[row], every[wanted.indices])


def by_loops(model, source, width, longest, alpha):
    """Beam search on lists, nothing batched, every past read again from its beginning."""
    beams = [([], 0.0)]
    for _ in range(longest):
        grown = []
        for past, score in beams:
            if past and past[-1] == END:
                grown.append((past, score))
                continue
            p = by_hand(model, source, [BEGIN, *past])[1][-1].log().tolist()
            grown += [([*past, token], score + p[token]) for token in range(len(p))]
        grown.sort(key=lambda beam: -beam[1] / ((5 + len(beam[0])) / 6) ** alpha)
        beams = grown[:width]
    return beams


@pytest.mark.equation("seq2seq-beam", "seq2seq-length-penalty")
@pytest.mark.parametrize(("width", "alpha"), [(1, 0.0), (2, 0.0), (3, 1.0), (7, 0.0), (5, 0.6)])
@contexts
def test_beams_are_those_of_loops_over_lists(context, width, alpha):
    for seed in range(3):
        model, source = build(context, seed=seed, spread=3.0), tokens(3, 4, seed=seed)
        found, scores = model.beam(source, width, 5, length_penalty=alpha)
        for row in range(3):
            wanted = by_loops(model, source[row], width, 5, alpha)
            for place, (past, score) in enumerate(wanted):
                got = found[row, place].tolist()
                assert got == (past + [END] * 5)[: len(got)]
                want = score / ((5 + len(past)) / 6) ** alpha
                assert scores[row, place].item() == pytest.approx(want)


@contexts
def test_one_beam_is_greedy_at_any_penalty(context):
    for seed in range(4):
        model, source = build(context, seed=seed, spread=3.0), tokens(6, 4, seed=seed)
        greedy = model.greedy(source, 6)
        for alpha in (0.0, 0.6, 1.0):
            only, _ = model.beam(source, 1, 6, length_penalty=alpha)
            if alpha == 0:
                assert torch.equal(only[:, 0], greedy)
            likely = model.score(source, only[:, 0])
            assert torch.isfinite(likely).all()


@contexts
def test_wider_beams_of_a_batch_are_sorted_ended_and_never_worse_when_exhaustive(context):
    model, source = build(context, spread=3.0), tokens(8, 4)
    for width in (2, 5, 40, 121):
        found, scores = model.beam(source, width, 4)
        assert found.shape == (8, width, found.shape[2]) and found.shape[2] <= 4
        assert (scores[:, :-1] >= scores[:, 1:]).all()
        after = (found == END).cumsum(-1) - (found == END).int() > 0
        assert (found[after] == END).all()
        for row in range(8):
            real = scores[row].isfinite()
            assert len({tuple(beam) for beam in found[row, real].tolist()}) == int(real.sum())
            told = model.score(source[row : row + 1].expand(width, -1), found[row])
            torch.testing.assert_close(told[real], scores[row, real], **CLOSE)
            alone = model.beam(source[row : row + 1], width, 4)
            torch.testing.assert_close(alone[1][0], scores[row], **CLOSE)
    greedy = model.score(source, model.greedy(source, 4))
    assert (scores[:, 0] >= greedy - 1e-12).all()


@pytest.mark.equation("seq2seq-length-penalty")
def test_the_penalty_lets_a_longer_sequence_win():
    def scored(p, n, alpha):
        return math.log(p) / ((5 + n) / 6) ** alpha

    assert scored(0.3, 1, 0) > scored(0.252, 3, 0)
    assert scored(0.3, 1, 1) == pytest.approx(-1.204, abs=1e-3)
    assert scored(0.252, 3, 1) == pytest.approx(-1.034, abs=1e-3)
    model, source = build(spread=3.0), tokens(40, 4)
    lengths = [
        counted(model.beam(source, 121, 4, length_penalty=alpha)[0][:, 0]).float().mean()
        for alpha in (0.0, 1.0, 3.0)
    ]
    assert lengths[0] <= lengths[1] <= lengths[2] and lengths[0] < lengths[2]


# ---------------------------------------------------------------- what every model keeps


@contexts
def test_it_saves_loads_learns_and_keeps_its_precision(context, tmp_path):
    model, source, target = build(context), tokens(3, 5), tokens(3, 4, most=4)
    save_file(model.state_dict(), tmp_path / "it")
    fresh = build(context, seed=9)
    fresh.load_state_dict(load_file(tmp_path / "it"))
    torch.testing.assert_close(fresh(source, target), model(source, target), **EXACT)
    single = fresh.float()(source, target)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), model(source, target), rtol=1e-4, atol=1e-5)
    model(source, target).square().sum().backward()
    dry = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not dry


def test_attention_has_fewer_parameters_than_the_context_at_every_step():
    h, e = 6, 3
    count = {c: sum(p.numel() for p in build(c).parameters()) for c in CONTEXTS}
    assert count["every"] - count["start"] == 3 * h * h + 2 * h * h + h
    assert count["attention"] - count["start"] == h * h + 2 * h * h + h
    both = 3 * h * (e + h + 2) + 3 * h * (e + 2 * h + 2)
    assert count["every"] == (5 + 4) * e + both + 2 * h * h + h + 4 * (h + 1)


def test_bad_input_is_refused_by_name():
    with refuses(ValueError, "context='both' must be one of ['start', 'every', 'attention']"):
        Seq2Seq(5, 4, context="both")
    with refuses(ValueError, "end=4 must be a target token, 0 … 3"):
        Seq2Seq(5, 4, end=4)
    with refuses(ValueError, "source_vocab_size=0 must be an integer ≥ 1"):
        Seq2Seq(0, 4)
    model, source = build(), tokens(2, 4)
    with refuses(ValueError, "source must be 0 … 4 (vocab_size), got 0 … 5"):
        model(torch.tensor([[0, 5]]), tokens(1, 2, most=4))
    with refuses(ValueError, "target must have shape (2, t), got (3, 2)"):
        model(source, tokens(3, 2, most=4))
    with refuses(TypeError, "source must hold integers, got torch.float32"):
        model(torch.zeros(2, 3), tokens(2, 2, most=4))
    with refuses(ValueError, "source must not be empty"):
        model.encode(torch.zeros(0, 3, dtype=torch.int64))
    with refuses(ValueError, "lengths must lie in 1 … 4"):
        model.greedy(source, 3, torch.tensor([0, 4]))
    with refuses(ValueError, "width=0 must be an integer ≥ 1"):
        model.beam(source, 0, 3)
    with refuses(ValueError, "length_penalty=-1 must be a finite number ≥ 0"):
        model.beam(source, 2, 3, length_penalty=-1)
    with refuses(ValueError, "max_length=0 must be an integer ≥ 1"):
        model.greedy(source, 0)
    with refuses(ValueError, "align needs context='attention', got 'every'"):
        model.align(source, tokens(2, 2, most=4))


@pytest.mark.parametrize("use", [Seq2Seq.forward, Seq2Seq.align, Seq2Seq.score])
def test_a_target_outside_its_vocabulary_is_refused_wherever_it_stands(use):
    model, source = build("attention"), tokens(1, 4)
    for wrong in (4, -1):
        with refuses(ValueError, f"target must be 0 … 3 (vocab_size), got {min(wrong, 0)}"):
            use(model, source, torch.tensor([[0, wrong]]))
    with refuses(TypeError, "target must hold int64 or int32, got torch.int16"):
        use(model, source, torch.tensor([[0, 1]], dtype=torch.int16))


@pytest.mark.parametrize("search", ["greedy", "beam"])
def test_where_an_answer_must_be_waited_for_the_end_is_asked_for_seldom(search, monkeypatch):
    """Off the CPU more steps are taken than are needed, which must not show."""
    model, source = build(seed=3), tokens(5, 4)
    model.to_logits.bias.data[model.end] += 3  # so that all rows end soon
    options = {"max_length": 30} | ({"width": 3} if search == "beam" else {})
    wanted = getattr(model, search)(source, **options)
    monkeypatch.setattr("nnlib.sequence.seq2seq._over", lambda finished: False)
    got = getattr(model, search)(source, **options)
    assert (wanted if search == "greedy" else wanted[0]).shape[-1] < 30
    torch.testing.assert_close(got, wanted)
