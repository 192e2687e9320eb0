"""Keys and values of what was read already, kept so that the next token needs only itself.

Axes: b batch, g heads of keys and values, s positions, d head width.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.types import Device

from nnlib import checks
from nnlib.kernels.attention import attention


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

    def positions(
        self, t: int, key_mask: Bool[Tensor, "b s"] | None = None, device: Device = None
    ) -> Int[Tensor, "..."]:
        """Return at which positions the next t tokens stand, padding counted like the rest.

        Args:
            t: how many tokens there are.
            key_mask: not looked at; a cache that keeps no padding needs it.
            device: of the result.
        """
        return torch.arange(self.length, self.length + t, device=device)

    def attend(
        self,
        q: Float[Tensor, "b h t d"],
        k: Float[Tensor, "b g t d"],
        v: Float[Tensor, "b g t d"],
        *,
        is_causal: bool = True,
        window: int | None = None,
        scale: float | None = None,
        key_mask: Bool[Tensor, "b s"] | None = None,
        dropout: float = 0.0,
    ) -> Float[Tensor, "b h t d"]:
        """Add new positions at the end, and return what queries there gather from all so far.

        Args:
            q: queries of the new positions.
            k: their keys.
            v: their values.
            is_causal: as `attention` takes it, and so the rest.
            window: how many keys up to its own a query sees, or None for all.
            scale: what scores are multiplied by; None is 1/√d.
            key_mask: True at real tokens, False at padding, all so far included.
            dropout: probability of dropping a weight.
        """
        k, v = self.append(k, v)
        return attention(
            q, k, v, is_causal=is_causal, window=window, scale=scale, key_mask=key_mask,
            dropout=dropout,
        )  # fmt: skip

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
