"""Keys and values of what was read already, kept so that the next token needs only itself.

Axes: b batch, g heads of keys and values, s positions, d head width.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from nnlib import checks


class KVCache:
    """Room for the keys and values of one attention layer; grows by appending, never moves.

    For use without gradients: a later step writes into the store that an earlier one returned.

    Args:
        max_length: the number of positions there is room for, ≥ 1.

    Example:
        >>> import torch
        >>> cache = KVCache(max_length=8)
        >>> k, v = cache.append(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4))
        >>> cache.length, k.shape
        (3, torch.Size([1, 2, 3, 4]))
    """

    def __init__(self, max_length: int):
        self.max_length = checks.count("max_length", max_length)
        self.length = 0
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    def append(
        self, k: Float[Tensor, "b g t d"], v: Float[Tensor, "b g t d"]
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s d"]]:
        """Add new positions at the end and return all so far, as views of the store."""
        checks.tensor("k", k, shape=("b", "g", "t", "d"), floating=True)
        checks.tensor("v", v, shape=("b", "g", "t", "d"), floating=True)
        end = self.length + k.shape[2]
        if end > self.max_length:
            raise ValueError(
                f"max_length={self.max_length} has room for {self.max_length - self.length} more "
                f"positions, got {k.shape[2]}"
            )
        keys, values = self.keys, self.values
        if keys is None or values is None:
            room = (*k.shape[:2], self.max_length, k.shape[3])
            self.keys, self.values = keys, values = k.new_empty(room), v.new_empty(room)
        batch, heads, _, width = keys.shape
        checks.tensor("k", k, shape=(batch, heads, "t", width))
        checks.tensor("v", v, shape=tuple(k.shape))
        for name, new, store in (("k", k, keys), ("v", v, values)):
            if new.dtype != store.dtype:
                raise TypeError(
                    f"{name} must be {store.dtype} like the store, got {new.dtype}"
                )
        keys[:, :, self.length : end] = k
        values[:, :, self.length : end] = v
        self.length = end
        return keys[:, :, :end], values[:, :, :end]

    @property
    def bytes(self) -> int:
        """Memory that the store takes."""
        stores = [store for store in (self.keys, self.values) if store is not None]
        return sum(store.numel() * store.element_size() for store in stores)


def one_each(caches: Any, num_layers: int) -> list[Any]:
    """Return a cache for each of `num_layers` layers, or as many None where there are no caches."""
    if caches is None:
        return [None] * num_layers
    if not isinstance(caches, list | tuple):
        raise TypeError(
            f"caches must be a list, one a layer, got {type(caches).__name__}"
        )
    if len(caches) != num_layers:
        raise ValueError(
            f"caches must hold one for each of {num_layers} layers, got {len(caches)}"
        )
    return list(caches)
