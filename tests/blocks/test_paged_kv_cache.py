"""The cache in blocks: against plain lists, whatever is asked of it, and in the models' hands."""

import itertools
import math

import pytest
import torch
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from nnlib.attention.gpt import GPT
from nnlib.blocks import paged_kv_cache as module
from nnlib.blocks.paged_kv_cache import OutOfBlocks, PagedKVCache
from nnlib.kernels.attention import attention
from nnlib.kernels.paged_attention import paged_attention
from nnlib.language.llm import LLM
from tests.kernel_support import plant
from tests.support import refuses


def cache_of(num_blocks=12, block_size=3, num_kv_heads=1, head_dim=2, **more):
    return PagedKVCache(num_blocks, block_size, num_kv_heads, head_dim, **more)


def held(cache, sequence, layer=0):
    """Return what a sequence holds, read place by place: keys and values, s g d each."""
    (table,), (length,) = cache.block_table([sequence]), cache.lengths([sequence]).tolist()
    at = [(int(table[j // cache.block_size]), j % cache.block_size) for j in range(length)]
    shape = (0, cache.num_kv_heads, cache.head_dim)
    return [
        torch.stack([side[block, :, offset] for block, offset in at]) if at else torch.zeros(shape)
        for side in cache.store[layer]
    ]


# ------------------------------------------------------------------------------- plain lists
class Lists:
    """What the cache must be like: a list of numbers a sequence, and blocks counted by hand.

    A block is a list of the sequences that hold it.
    """

    def __init__(self, num_blocks, block_size):
        self.num_blocks, self.block_size = num_blocks, block_size
        self.numbers: dict[int, list[float]] = {}
        self.blocks: dict[int, list[set[int]]] = {}

    def used(self):
        return len({id(block) for blocks in self.blocks.values() for block in blocks})

    def append(self, each):
        """Append numbers to sequences, or raise and change nothing."""
        before = {name: list(blocks) for name, blocks in self.blocks.items()}
        copies = {id(b): set(b) for blocks in before.values() for b in blocks}
        made = 0
        for name, numbers in each.items():
            blocks, length = self.blocks[name], len(self.numbers[name])
            for at in range(length, length + len(numbers)):
                if at % self.block_size == 0:
                    blocks.append({name})
                    made += 1
                elif len(blocks[-1]) > 1:
                    blocks[-1].discard(name)
                    blocks[-1] = {name}
                    made += 1
        if self.used() > self.num_blocks:
            for block in itertools.chain(*before.values()):
                block.clear()
                block |= copies[id(block)]
            self.blocks = before
            raise OutOfBlocks(made, self.num_blocks - self.used())
        for name, numbers in each.items():
            self.numbers[name] += numbers

    def fork(self, name, new):
        self.numbers[new], self.blocks[new] = list(self.numbers[name]), list(self.blocks[name])
        for block in self.blocks[new]:
            block.add(new)

    def free(self, names):
        for name in names:
            for block in self.blocks.pop(name):
                block.discard(name)
            del self.numbers[name]


def numbered(numbers, heads=1, width=2):
    """Return keys, g t d, that hold these numbers; negated, they are the values."""
    return torch.tensor(numbers, dtype=torch.float32)[None, :, None].expand(heads, -1, width)


class AgainstLists(RuleBasedStateMachine):
    """Asks a cache and plain lists for the same, in any order, and compares all they hold."""

    names = Bundle("names")

    def __init__(self, blocks=7, size=3):
        super().__init__()
        self.cache, self.lists = self.module.PagedKVCache(blocks, size, 1, 2), Lists(blocks, size)
        self.count = itertools.count(1)

    module = module

    @rule(target=names, count=st.integers(0, 3))
    def allocate(self, count):
        new = self.cache.allocate(count)
        for name in new:
            assert name not in self.lists.numbers
            self.lists.numbers[name], self.lists.blocks[name] = [], []
        return multiple(*new)

    def living(self, chosen):
        return [name for name in dict.fromkeys(chosen) if name in self.lists.numbers]

    @rule(chosen=st.lists(names, max_size=4), t=st.integers(0, 7))
    def append(self, chosen, t):
        chosen = self.living(chosen)
        each = {name: [float(next(self.count)) for _ in range(t)] for name in chosen}
        k = (
            torch.stack([numbered(each[name]) for name in chosen])
            if chosen
            else torch.zeros(0, 1, t, 2)
        )
        self.both(each, lambda: self.cache.append(chosen, k, -k))

    @rule(chosen=st.lists(names, max_size=4), data=st.data())
    def reserve_and_write(self, chosen, data):
        chosen = self.living(chosen)
        counts = [data.draw(st.integers(0, 5)) for _ in chosen]
        each = {
            name: [float(next(self.count)) for _ in range(n)]
            for name, n in zip(chosen, counts, strict=True)
        }

        def both():
            places = self.cache.reserve(chosen, counts)
            k = numbered([n for new in each.values() for n in new]).transpose(0, 1)
            self.cache.write(0, places, k, -k)

        self.both(each, both)

    def both(self, each, act):
        """Expect of the cache what the lists do, an error with its numbers included."""
        try:
            self.lists.append(each)
        except OutOfBlocks as wanted:
            before = self.cache.store.clone()
            with pytest.raises(self.module.OutOfBlocks) as got:
                act()
            assert (got.value.needed, got.value.free) == (wanted.needed, wanted.free)
            assert torch.equal(self.cache.store, before)
        else:
            act()

    @rule(target=names, name=names)
    def fork(self, name):
        if name not in self.lists.numbers:
            return multiple()
        new = self.cache.fork(name)
        self.lists.fork(name, new)
        return new

    @rule(chosen=st.lists(names, max_size=3))
    def free(self, chosen):
        chosen = self.living(chosen)
        self.cache.free(chosen)
        self.lists.free(chosen)

    @invariant()
    def nothing_is_lost(self):
        cache, lists = self.cache, self.lists
        assert cache.sequences == sorted(lists.numbers)
        for name, numbers in lists.numbers.items():
            k, v = held(cache, name)
            assert k[:, 0, 0].tolist() == numbers and torch.equal(v, -k)
        assert cache.lengths(cache.sequences).tolist() == [
            len(lists.numbers[name]) for name in cache.sequences
        ]

    @invariant()
    def blocks_are_counted(self):
        cache, lists = self.cache, self.lists
        assert cache.free_blocks == lists.num_blocks - lists.used()
        assert cache.bytes_used == lists.used() * cache.bytes_per_block
        table = cache.block_table(cache.sequences).tolist()
        holders = dict.fromkeys(range(cache.num_blocks), 0)
        for name, row in zip(cache.sequences, table, strict=True):
            wanted = lists.blocks[name]
            assert all(block == -1 for block in row[len(wanted) :])
            for block, by in zip(row, wanted, strict=False):
                holders[block] += 1
                assert cache.holders(block) == len(by)
        assert [cache.holders(block) for block in holders] == list(holders.values())
        free = cache._free.tolist()
        assert sorted(free) == [block for block, count in holders.items() if count == 0]


AgainstLists.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestAgainstLists = AgainstLists.TestCase


# -------------------------------------------------------------------------------------- bugs
BUGS = {
    "a shared block written into": ("last = np.delete(copying, alone), np.delete(last, alone)",
                                    "last = copying[:0], last[:0]"),
    "a copy for the last holder, too": ("alone = firsts[self._holders[blocks] == writers]",
                                        "alone = firsts[:0]"),
    "a copy of nothing": ("self.store[:, :, goal] = self.store[:, :, source]", "pass"),
    "holders not counted when forked": ("self._holders[held[held >= 0]] += 1", "pass"),
    "holders not counted when copied": ("np.subtract.at(self._holders, last, 1)", "pass"),
    "a shared block freed": ("blocks[self._holders[blocks] == 0][::-1]", "blocks[::-1]"),
    "changed before it is sure": ("        needed = len(last)",
                                  "        self._lengths[rows] = 1\n        needed = len(last)"),
    "copies not counted": ("needed = len(last) + int", "needed = int"),
    "a number given twice": ("self._next += count", "self._next = len(self._rows)"),
    "a table that keeps old blocks": ("self._tables[rows], self._lengths[rows] = -1, 0",
                                      "self._lengths[rows] = 0"),
}  # fmt: skip


CATCHING = settings(
    max_examples=400, stateful_step_count=25, deadline=None, database=None, derandomize=True,
    phases=[Phase.generate],
)  # fmt: skip
# what is wrong, or what numpy, torch and the cache itself say of tables that are
CAUGHT = (AssertionError, IndexError, ValueError, BaseExceptionGroup)


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_caught(bug, tmp_path):
    bugged = plant(module, *BUGS[bug], tmp_path)
    machine = type("Bugged", (AgainstLists,), {"module": bugged})
    with pytest.raises(CAUGHT):
        run_state_machine_as_test(machine, settings=CATCHING)


# ----------------------------------------------------------------------------------- by hand
def test_a_table_grows_block_by_block():
    cache = cache_of()
    (name,) = cache.allocate()
    for length in range(1, 10):
        cache.append([name], numbered([length])[None], numbered([-length])[None])
        assert cache.lengths([name]).tolist() == [length]
        assert cache.block_table([name]).shape == (1, math.ceil(length / 3))
    k, v = held(cache, name)
    assert k[:, 0, 0].tolist() == list(range(1, 10)) and torch.equal(v, -k)


def test_forks_share_until_one_writes():
    cache = cache_of()
    (first,) = cache.allocate()
    cache.append([first], numbered(range(5))[None], numbered(range(5))[None])
    forks = [cache.fork(first) for _ in range(3)]
    every = [first, *forks]
    table = cache.block_table(every)
    assert cache.free_blocks == 10 and torch.equal(table, table[:1].expand(4, -1))
    assert [cache.holders(block) for block in table[0].tolist()] == [4, 4]
    k = torch.stack([numbered([10 * n]) for n in range(4)])
    cache.append(every, k, k)  # all of them at once: three copies, for the last holder needs none
    table = cache.block_table(every)
    assert len(set(table[:, 0].tolist())) == 1 and len(set(table[:, 1].tolist())) == 4
    assert cache.free_blocks == 7
    for n, name in enumerate(every):
        assert held(cache, name)[0][:, 0, 0].tolist() == [0, 1, 2, 3, 4, 10 * n]
    cache.append([first], k[:1], k[:1])  # a block is full: the next is one's own, with no copy
    assert cache.free_blocks == 6
    cache.free(forks)
    assert cache.free_blocks == 9
    cache.free([first])
    assert cache.free_blocks == 12 and cache.bytes_used == 0


def test_out_of_blocks_changes_nothing():
    cache = cache_of(num_blocks=4, num_layers=2)
    first, second = cache.allocate(2)
    k = torch.randn(2, 2, 1, 4, 2)
    cache.append([first, second], k, k)
    forked = cache.fork(first)
    store, table = cache.store.clone(), cache.block_table([first, second, forked])
    for act in (
        lambda: cache.append([first], k[:, :1, :, :1], k[:, :1, :, :1]),
        lambda: cache.append([second, first], k[:, :, :, :1], k[:, :, :, :1]),
        lambda: cache.reserve([second, first], [2, 1]),
    ):
        with refuses(OutOfBlocks, "is needed, 0 are free: free a sequence"):
            act()
        assert torch.equal(cache.store, store)
        assert torch.equal(cache.block_table([first, second, forked]), table)
        assert cache.lengths([first, second, forked]).tolist() == [4, 4, 4]
    with refuses(OutOfBlocks, "2 more blocks are needed, 0 are free"):
        cache.reserve([second], 8)
    cache.append([second], k[:, :1, :, :2], k[:, :1, :, :2])  # what has room goes on
    assert cache.lengths([second]).tolist() == [6]
    cache.free([forked])
    cache.append([first], k[:, :1, :, :2], k[:, :1, :, :2])  # and nobody shares any more


def test_memory_is_counted_in_blocks():
    cache = cache_of(10, 4, 2, 8, num_layers=3, dtype=torch.float16)
    assert cache.bytes_per_block == 3 * 2 * 4 * 2 * 8 * 2
    assert cache.bytes == 10 * cache.bytes_per_block == cache.store.numel() * 2
    assert cache.bytes_used == 0
    first, second = cache.allocate(2)
    cache.reserve([first, second], [5, 4])
    assert cache.bytes_used == 3 * cache.bytes_per_block
    cache.fork(first)  # costs nothing
    assert cache.bytes_used == 3 * cache.bytes_per_block
    assert sum(each.bytes for each in cache.caches([first])) == cache.bytes


def test_several_layers_are_written_where_they_belong():
    cache = cache_of(num_layers=3, num_kv_heads=2)
    names = cache.allocate(2)
    k, v = torch.randn(2, 3, 2, 2, 7, 2)
    cache.append(names, k[..., :4, :], v[..., :4, :])
    cache.append(names, k[..., 4:, :], v[..., 4:, :])
    for layer, (nth, name) in itertools.product(range(3), enumerate(names)):
        got = held(cache, name, layer)
        torch.testing.assert_close(got[0].transpose(0, 1), k[layer, nth])
        torch.testing.assert_close(got[1].transpose(0, 1), v[layer, nth])


def test_gathered_keys_stand_on_the_right(device):
    cache = cache_of(num_kv_heads=2, device=device)
    names = cache.allocate(3)
    for name, length in zip(names, (7, 0, 3), strict=True):
        new = [torch.randn(1, 2, length, 2, device=device) for _ in range(2)]
        cache.append([name], *new)
    cache.store[cache.store == 0] = math.nan  # places that nobody wrote
    *sides, real = cache.gather(names)
    assert real.sum(1).tolist() == [7, 0, 3] and bool(real[[0, 2], -1].all())
    for nth, name in enumerate(names):
        for side, wanted in zip(sides, held(cache, name), strict=True):
            assert torch.equal(side[nth][:, real[nth]].transpose(0, 1), wanted.to(device))
            assert not side[nth][:, ~real[nth]].any()
    k, v, real = cache.gather([names[1]])
    assert k.shape == v.shape == (1, 2, 0, 2) and real.shape == (1, 0)
    assert cache.gather([])[0].shape == (0, 2, 0, 2)


def test_what_is_written_is_what_paged_attention_reads(device):
    cache = cache_of(30, 4, 2, 16, device=device)
    names = cache.allocate(3)
    for name, length in zip(names, (9, 1, 17), strict=True):
        cache.append([name], *torch.randn(2, 1, 2, length, 16, device=device))
    q = torch.randn(3, 6, 16, device=device)
    got = paged_attention(q, cache.store[0], cache.block_table(names), cache.lengths(names))
    k, v, real = cache.gather(names)
    wanted = attention(q[:, :, None], k, v, key_mask=real)[:, :, 0]
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def test_numbers_are_never_given_twice():
    cache = cache_of()
    first = cache.allocate(2)
    cache.free(first)
    assert cache.allocate(3) == [2, 3, 4]
    assert cache.sequences == [2, 3, 4]
    with refuses(ValueError, "sequence 0 is not in this cache, or was freed"):
        cache.lengths([0])


def test_nothing_asked_is_nothing_done():
    cache = cache_of()
    (name,) = cache.allocate()
    assert cache.allocate(0) == []
    cache.free([])
    places = cache.reserve([name], 0)
    cache.write(0, places, torch.zeros(0, 1, 2), torch.zeros(0, 1, 2))
    assert cache.block_table([name]).shape == (1, 0) and cache.block_table([]).shape == (0, 0)
    assert cache.lengths([]).shape == (0,)
    assert cache.free_blocks == 12


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"num_blocks": 0}, ValueError, "num_blocks=0 must be an integer ≥ 1"),
    ({"block_size": 2.0}, TypeError, "block_size=2.0 must be an integer ≥ 1"),
    ({"num_kv_heads": -1}, ValueError, "num_kv_heads=-1 must be an integer ≥ 1"),
    ({"head_dim": True}, TypeError, "head_dim=True must be an integer ≥ 1"),
    ({"num_layers": 0}, ValueError, "num_layers=0 must be an integer ≥ 1"),
    ({"dtype": torch.int64}, TypeError, "dtype must be floating point, got torch.int64"),
])  # fmt: skip
def test_a_cache_is_not_made_of_anything(change, error, message):
    with refuses(error, message):
        cache_of(**change)


def test_what_does_not_fit_is_refused_and_changes_nothing():
    cache = cache_of(num_layers=2)
    first, second = cache.allocate(2)
    k = torch.zeros(2, 1, 1, 3, 2)
    cache.append([first], k, k)
    places = cache.reserve([second], 2)
    new = torch.zeros(2, 1, 2)
    for act, error, message in [
        (lambda: cache.append([first], k[0], k[0]), ValueError,
         "k must have shape (2, 1, 1, t, 2), got (1, 1, 3, 2)"),
        (lambda: cache.append([first, second], k, k), ValueError,
         "k must have shape (2, 2, 1, t, 2), got (2, 1, 1, 3, 2)"),
        (lambda: cache.append([first], k, k[..., :1]), ValueError, "v must have shape (2, 1, 1, 3"),
        (lambda: cache.append([first], k.double(), k), TypeError, "k must be torch.float32"),
        (lambda: cache.append([first], k, k.to("meta")), ValueError, "v must be on cpu"),
        (lambda: cache.append([first], [1.0], k), TypeError, "k must be a torch.Tensor, got list"),
        (lambda: cache.append([first], k.clone().requires_grad_(), k), RuntimeError,
         "a paged cache keeps no gradients: call what writes to it under torch.no_grad()"),
        (lambda: cache.append(first, k, k), TypeError, "sequences must be a list of"),
        (lambda: cache.append([first, first], k, k), ValueError, "sequence 0 stands more"),
        (lambda: cache.append([7], k, k), ValueError, "sequence 7 is not in this cache"),
        (lambda: cache.free([first, 7]), ValueError, "sequence 7 is not in this cache"),
        (lambda: cache.free([first, first]), ValueError, "sequence 0 stands more than once"),
        (lambda: cache.fork(7), ValueError, "sequence 7 is not in this cache"),
        (lambda: cache.caches([7]), ValueError, "sequence 7 is not in this cache"),
        (lambda: cache.reserve([first], -1), ValueError, "new=-1 must be an integer ≥ 0"),
        (lambda: cache.reserve([first], 1.0), TypeError, "new=1.0 must be an integer ≥ 0"),
        (lambda: cache.reserve([first], [1, 2]), ValueError,
         "new must be one number or one for each of 1 sequences, got 2"),
        (lambda: cache.write(2, places, new, new), ValueError, "layer=2 must be below num_"),
        (lambda: cache.write(0, places, new[:1], new), ValueError, "k must have shape (2, 1, 2)"),
        (lambda: cache.gather([first], -1), ValueError, "layer=-1 must be an integer ≥ 0"),
        (lambda: cache.allocate(-1), ValueError, "count=-1 must be an integer ≥ 0"),
        (lambda: cache.holders(12), ValueError, "block=12 must be below num_blocks=12"),
    ]:  # fmt: skip
        with refuses(error, message):
            act()
        assert cache.sequences == [first, second] and cache.free_blocks == 10
        assert cache.lengths([first, second]).tolist() == [3, 2]


# --------------------------------------------------------------------------- in a model's hands
def language_model(**more):
    options = {"num_kv_heads": 2, "window": [None, 4, None], **more}
    return LLM(31, 32, num_heads=4, num_layers=3, max_length=60, **options).eval()


def paged(model, num_blocks=60, block_size=3, **more):
    part = model.layers[0].attention
    sizes = (num_blocks, block_size, part.num_kv_heads, part.head_dim)
    return PagedKVCache(*sizes, num_layers=len(model.layers), **more)


@pytest.mark.parametrize("block_size", [1, 3, 16])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_a_model_writes_the_same_through_it(padded, block_size):
    model, ids = language_model(), torch.randint(31, (3, 8))
    key_mask = None
    if padded:
        key_mask = torch.arange(8) >= torch.tensor([[0], [5], [2]])
    wanted = model.generate(ids, 20, temperature=0, key_mask=key_mask)
    cache = paged(model, num_blocks=90, block_size=block_size)
    names = cache.allocate(3)
    got = model.generate(ids, 20, temperature=0, key_mask=key_mask, caches=cache.caches(names))
    assert torch.equal(got, wanted)
    kept = [27, 22, 25] if padded else [27] * 3  # no padding, and the last token was never read
    assert cache.lengths(names).tolist() == kept
    assert cache.num_blocks - cache.free_blocks == sum(-(-n // block_size) for n in kept)


def alone(model, ids):
    """Return the logits of each position of one text, all read at once."""
    with torch.no_grad():
        return model(ids[None])[0]


@pytest.mark.parametrize("t", [1, 4], ids=["a token at a time", "four at a time"])
def test_sequences_of_many_lengths_go_on_together(t):
    """As a server has them: each came with a prompt of its own, and all step together."""
    model = language_model()
    cache, texts = paged(model), [torch.randint(31, (n + 8,)) for n in (3, 11, 1)]
    names = cache.allocate(3)
    with torch.no_grad():
        for name, text in zip(names, texts, strict=True):
            got = model(text[None, :-8], caches=cache.caches([name]))
            torch.testing.assert_close(got[0], alone(model, text)[:-8], rtol=1e-4, atol=1e-5)
        steps = cache.caches(names)
        for at in range(0, 8, t):
            new = torch.stack([text[-8:][at : at + t] for text in texts])
            got = model(new, caches=steps)
            for nth, text in enumerate(texts):
                wanted = alone(model, text)[-8:][at : at + t]
                torch.testing.assert_close(got[nth], wanted, rtol=1e-4, atol=1e-5)
        # one leaves, the others change places
        steps = cache.caches([names[2], names[0]])
        got = model(torch.tensor([[7], [9]]), caches=steps)
    for row, text, token in ((got[0], texts[2], 7), (got[1], texts[0], 9)):
        wanted = alone(model, torch.cat([text, torch.tensor([token])]))[-1:]
        torch.testing.assert_close(row, wanted, rtol=1e-4, atol=1e-5)


def test_prompts_in_pieces_with_padding_of_their_own():
    """Rows take 3, 0 and 2 tokens of their own, and then 1, 4 and 2."""
    model, texts = language_model(), torch.randint(31, (3, 4))
    counts, seen = [[3, 0, 2], [1, 4, 2]], [0, 0, 0]
    cache = paged(model)
    steps = cache.caches(cache.allocate(3))
    mask = torch.zeros(3, 0, dtype=torch.bool)
    with torch.no_grad():
        for new in counts:
            t = max(new)
            real = torch.arange(t) >= t - torch.tensor(new)[:, None]
            ids = torch.zeros(3, t, dtype=torch.int64)
            for nth, n in enumerate(new):
                ids[nth, t - n :] = texts[nth, seen[nth] : seen[nth] + n]
            mask = torch.cat([mask, real], 1)
            got = model(ids, mask, steps)
            for nth, n in enumerate(new):
                wanted = alone(model, texts[nth])[seen[nth] : seen[nth] + n]
                torch.testing.assert_close(got[nth, t - n :], wanted, rtol=1e-4, atol=1e-5)
                seen[nth] += n


def test_a_prompt_is_read_once_for_all_its_forks():
    model, prompt = language_model(), torch.randint(31, (1, 10))
    cache = paged(model, num_blocks=20)
    (first,) = cache.allocate()
    with torch.no_grad():
        model(prompt[:, :-1], caches=cache.caches([first]))
        names = [first, *(cache.fork(first) for _ in range(3))]
        assert cache.num_blocks - cache.free_blocks == 3
        got = model.generate(
            prompt[:, -1:].expand(4, 1), 12, generator=torch.Generator().manual_seed(3),
            caches=cache.caches(names),
        )  # fmt: skip
    wanted = model.generate(prompt.expand(4, 10), 12, generator=torch.Generator().manual_seed(3))
    assert torch.equal(got, wanted[:, 9:])
    shared = cache.block_table(names)
    assert (shared[:, :3] == shared[:1, :3]).all() and cache.free_blocks == 20 - 3 - 4 * 4


def test_a_model_that_finds_no_room_loses_nothing():
    model = language_model()
    cache = paged(model, num_blocks=3)
    steps = cache.caches(cache.allocate(2))
    with torch.no_grad():
        model(torch.randint(31, (2, 3)), caches=steps)
        store = cache.store.clone()
        with pytest.raises(OutOfBlocks):
            model(torch.randint(31, (2, 1)), caches=steps)
        assert torch.equal(cache.store, store)
        assert [each.length for each in steps] == [3, 3, 3]
        assert cache.lengths(cache.sequences).tolist() == [3, 3]
        cache.free([1])
        (left,) = cache.sequences
        ids = torch.randint(31, (1, 5))
        model(ids, caches=cache.caches([left]))
        assert cache.lengths([left]).tolist() == [8]


def test_other_models_get_their_keys_in_one_piece():
    """GPT's blocks look at a cache themselves, as `MultiHeadAttention` has it."""
    model = GPT(31, 16, num_heads=2, num_layers=2, max_length=20).eval()
    ids = torch.randint(31, (2, 9))
    cache = PagedKVCache(20, 4, 2, 8, num_layers=2)
    steps = cache.caches(cache.allocate(2))
    with torch.no_grad():
        got = [model(ids[:, a:b], caches=steps) for a, b in ((0, 5), (5, 6), (6, 9))]
        torch.testing.assert_close(torch.cat(got, 1), model(ids), rtol=1e-4, atol=1e-5)


def test_layers_refuse_what_they_cannot_do():
    model, ids = language_model(), torch.randint(31, (2, 3))
    cache = paged(model)
    names = cache.allocate(2)
    with refuses(RuntimeError, "a paged cache keeps no gradients"):
        model(ids, caches=cache.caches(names))
    with torch.no_grad():
        with refuses(ValueError, "key_mask must have its padding on the left"):
            model(ids, torch.tensor([[1, 1, 0], [1, 1, 1]]).bool(), cache.caches(names))
        with refuses(ValueError, "k must have shape (1, 2, t, 8), got (2, 2, 3, 8)"):
            cache.caches(names[:1])[0].attend(*torch.zeros(3, 2, 2, 3, 8))
        q, k = torch.zeros(2, 4, 3, 8), torch.zeros(2, 2, 3, 8)
        layer = cache.caches(names)[0]
        with refuses(ValueError, "q must have shape (2, h, 3, 8), got (2, 4, 2, 8)"):
            layer.attend(q[:, :, 1:], k, k)
        with refuses(ValueError, "is_causal=False must be one of [True]"):
            layer.attend(q, k, k, is_causal=False)
        with refuses(ValueError, "dropout=0.1 must be one of [0]"):
            layer.attend(q, k, k, dropout=0.1)
        assert cache.lengths(names).tolist() == [0, 0]
        cache.reserve(names, [1, 2])
        with refuses(ValueError, "sequences must have one length, got [4, 5]"):
            cache.caches(names)[0].append(k, k)
    with refuses(ValueError, "use_cache=False, got caches as well"):
        model.generate(ids, 2, use_cache=False, caches=cache.caches(names))


def test_a_layer_that_fell_behind_is_refused():
    cache = cache_of(num_layers=2)
    one, two = cache.caches(cache.allocate())
    k = torch.zeros(1, 1, 1, 2)
    with torch.no_grad():
        one.attend(k, k, k)
        one.attend(k, k, k)
        with refuses(RuntimeError, "take new caches after a step that failed"):
            two.attend(k, k, k)
