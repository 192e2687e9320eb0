"""What language models share, on two that can be followed by hand; each model tests the rest."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.language_model import DecoderLanguageModel, RecurrentLanguageModel
from tests.support import refuses


class Sums(RecurrentLanguageModel[torch.Tensor]):
    """It is sure that the sum of all tokens so far comes next, modulo 7; the state is the sum."""

    vocab_size = 7

    def new_state(self, batch):
        return torch.zeros(batch, dtype=torch.long)

    def _checked(self, batch, state):
        if state is not None and len(state) != batch:
            raise ValueError(f"state must be of {batch} sequences, got {len(state)}")
        return self.new_state(batch) if state is None else state

    def _read(self, ids, state):
        sums = state[:, None] + ids.cumsum(1)
        return 50 * F.one_hot(sums % 7, 7).float(), sums[:, -1]


def test_a_state_carries_a_text_over_any_cut():
    ids = torch.randint(7, (3, 8), generator=torch.Generator().manual_seed(0))
    model = Sums()
    whole, last = model.with_state(ids)
    assert torch.equal(model(ids), whole) and torch.equal(last, ids.sum(1))
    for cut in range(1, 8):
        first, state = model.with_state(ids[:, :cut])
        assert torch.equal(torch.cat([first, model(ids[:, cut:], state)], 1), whole)
    state = None
    for at in range(8):
        logits, state = model.step(ids[:, at], state)
        assert torch.equal(logits, whole[:, at])
    assert torch.equal(state, last)


def test_a_recurrent_model_writes_what_it_would_read():
    prompts = torch.tensor([[1, 2], [3, 3]])
    # 3 = 1 + 2, 6 = 1 + 2 + 3, 12 = 5, 17 = 3; 6 = 3 + 3, 12 = 5, 17 = 3, 20 = 6
    wanted = [[1, 2, 3, 6, 5, 3], [3, 3, 6, 5, 3, 6]]
    assert Sums().generate(prompts, 4, temperature=0).tolist() == wanted


def test_a_recurrent_model_refuses_by_name():
    for ids in (torch.tensor([[7]]), torch.tensor([1]), torch.tensor([[0.5]])):
        with refuses((TypeError, ValueError), "ids"):
            Sums()(ids)
    with refuses(ValueError, "ids"):
        Sums().step(torch.tensor([[1]]))
    with refuses(ValueError, "state must be of 1 sequences, got 2"):
        Sums()(torch.tensor([[1]]), torch.tensor([1, 2]))


class Window(DecoderLanguageModel):
    """Scores of the mean of all vectors so far, which are kept in a cache: one layer, no weights.

    Tokens are their own vectors, so that the most frequent token so far comes next.
    """

    def __init__(self, layers: int = 1):
        super().__init__()
        self.vocab_size, self.max_length, self.init_std = 5, 12, 0.02
        self.token_embedding = nn.Embedding.from_pretrained(torch.eye(5))
        self.layers = nn.ModuleList(nn.Identity() for _ in range(layers))
        self.asked = []  # how many tokens each call reads, and after how many

    def hidden(self, ids, key_mask=None, caches=None):
        start = self._check(ids, key_mask, caches)
        self.asked.append((ids.shape[1], start))
        x = self.token_embedding(ids)[:, None]
        if caches is not None:
            x, _ = caches[0].append(x, x)
        x = x if key_mask is None else x * key_mask[:, None, :, None]
        return x.cumsum(2)[:, 0, start:]


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_decoder_writes_alike_with_caches_and_without(use_cache):
    model = Window()
    prompts = torch.tensor([[1, 2, 2], [4, 4, 3]])
    written = model.generate(prompts, 3, temperature=0, use_cache=use_cache)
    assert written.tolist() == [[1, 2, 2, 2, 2, 2], [4, 4, 3, 4, 4, 4]]
    once = [(3, 0), (1, 3), (1, 4)]
    assert model.asked == (once if use_cache else [(3, 0), (4, 0), (5, 0)])


def test_padding_is_not_read():
    real = torch.tensor([[False, False, True]])
    for use_cache in (True, False):
        written = Window().generate(
            torch.tensor([[2, 2, 1]]), 2, 0.0, use_cache=use_cache, key_mask=real
        )
        assert written.tolist() == [[2, 2, 1, 1, 1]]


def test_caches_have_the_models_room_or_what_is_asked_for():
    model = Window(layers=3)
    assert [cache.max_length for cache in model.new_caches()] == [12] * 3
    assert [cache.max_length for cache in model.new_caches(5)] == [5] * 3


def test_writing_takes_no_more_room_than_the_text(monkeypatch):
    rooms, model = [], Window()
    monkeypatch.setattr(model, "new_caches", lambda room: rooms.append(room) or [KVCache(room)])
    model.generate(torch.tensor([[1, 2]]), 3)
    assert rooms == [5]


def test_what_does_not_fit_a_decoder_is_refused_by_name():
    model, full = Window(), [KVCache(12)]
    full[0].append(*[torch.zeros(1, 1, 11, 5)] * 2)
    with refuses(ValueError, "ids must end within max_length=12, got 13"):
        model.hidden(torch.tensor([[1, 2]]), None, full)
    with refuses(ValueError, "caches must hold one for each of 1 layers, got 2"):
        model.hidden(torch.tensor([[1]]), None, [KVCache(3), KVCache(3)])
    with refuses(ValueError, "key_mask"):
        model.hidden(torch.tensor([[1, 2]]), torch.ones(1, 3, dtype=torch.bool))
    with refuses(TypeError, "use_cache"):
        model.generate(torch.tensor([[1]]), 1, use_cache=1)


class Deep(DecoderLanguageModel):
    """Of each kind of weight that `reset_parameters` tells apart, one a layer."""

    def __init__(self, depth: int, init_std: float):
        super().__init__()
        self.init_std = init_std
        self.token_embedding = nn.Embedding(300, 100)
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "in_proj": nn.Linear(100, 300), "out_proj": nn.Linear(100, 300),
                "linear2": nn.Linear(100, 300), "norm1": nn.LayerNorm(100),
            })
            for _ in range(depth)
        )  # fmt: skip


def test_what_adds_to_the_stream_begins_smaller_with_depth():
    """The spread of 30,000 numbers is known to a hundredth."""
    model = Deep(depth=8, init_std=0.3)
    torch.manual_seed(0)
    model.reset_parameters()
    for layer in model.layers:
        for name, spread in (("in_proj", 0.3), ("out_proj", 0.075), ("linear2", 0.075)):
            assert layer[name].weight.std().item() == pytest.approx(spread, rel=0.02)
            assert not layer[name].bias.any()
        assert (layer["norm1"].weight == 1).all() and not layer["norm1"].bias.any()
    assert model.token_embedding.weight.std().item() == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize("model", [Sums, Window])
def test_a_model_writes_in_evaluation_mode_and_keeps_its_own(model):
    made, seen = model().train(), []
    read = "_read" if model is Sums else "hidden"
    inner = getattr(made, read)

    def watched(*given):
        seen.append((made.training, torch.is_grad_enabled()))
        if len(seen) == 2:
            raise ArithmeticError("in the middle")
        return inner(*given)

    setattr(made, read, watched)
    with pytest.raises(ArithmeticError, match="in the middle"):
        made.generate(torch.tensor([[1, 2]]), 3)
    assert seen == [(False, False)] * 2 and made.training
