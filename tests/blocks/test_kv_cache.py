"""The cache of keys and values: its room, its bytes, what does not fit."""

import pytest
import torch

from nnlib.blocks.kv_cache import KVCache, one_each
from tests.support import refuses


def test_a_cache_counts_its_bytes():
    cache = KVCache(4)
    assert cache.bytes == 0
    cache.append(torch.randn(2, 3, 2, 5), torch.randn(2, 3, 2, 5))
    assert cache.bytes == 2 * 2 * 3 * 4 * 5 * 4  # keys and values, room for 4, float32


@pytest.mark.parametrize(("change", "error", "message"), [
    ({"k": torch.zeros(1, 2, 3, 4)}, ValueError, "max_length=4 has room for 2 more positions"),
    ({"k": torch.zeros(2, 2, 1, 4)}, ValueError, "k must have shape (1, 2, t, 4), got (2,"),
    ({"k": torch.zeros(1, 3, 1, 4)}, ValueError, "k must have shape (1, 2, t, 4)"),
    ({"v": torch.zeros(1, 2, 1, 3)}, ValueError, "v must have shape (1, 2, 1, 4)"),
    ({"k": torch.zeros(1, 2, 4)}, ValueError, "k must have shape (b, g, t, d), got (1, 2, 4)"),
    ({"k": [1.0]}, TypeError, "k must be a torch.Tensor, got list"),
    ({"v": torch.zeros(1, 2, 1, 4).double()}, TypeError, "v must be torch.float32"),
])  # fmt: skip
def test_a_cache_refuses_what_does_not_fit(change, error, message):
    cache = KVCache(4)
    cache.append(torch.zeros(1, 2, 2, 4), torch.zeros(1, 2, 2, 4))
    with refuses(error, message):
        cache.append(**{"k": torch.zeros(1, 2, 1, 4), "v": torch.zeros(1, 2, 1, 4), **change})
    assert cache.length == 2  # and is as it was


def test_what_is_appended_is_returned_with_all_before_it_in_the_same_memory():
    cache, parts = KVCache(5), torch.randn(5, 1, 2, 1, 4)
    for number, part in enumerate(parts):
        keys, values = cache.append(part, -part)
        wanted = torch.cat([*parts[: number + 1]], 2)
        assert torch.equal(keys, wanted) and torch.equal(values, -wanted)
        assert cache.keys is not None and keys.data_ptr() == cache.keys.data_ptr()
        assert cache.length == number + 1


def test_layers_get_a_cache_each_or_none():
    assert one_each(None, 2) == [None, None]
    caches = [KVCache(1), KVCache(2)]
    assert one_each(caches, 2) == caches
    with refuses(ValueError, "caches must hold one for each of 3 layers, got 2"):
        one_each(caches, 3)
    with refuses(TypeError, "caches must be a list, one a layer, got KVCache"):
        one_each(caches[0], 1)
