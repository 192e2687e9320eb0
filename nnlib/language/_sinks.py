"""A cache that keeps the first tokens and the latest, and a model that reads a stream through it.

Chapter: chapters/language/long_context.md     Paper: Xiao et al. 2023 (StreamingLLM)
Axes: b batch, g heads of keys and values, t positions, s positions kept, d head width.
"""

from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.blocks.kv_cache import KVCache


class SinkCache(KVCache):
    """Keys and values of the first few positions and of the latest; what lies between is dropped.

    Keys are kept as they were before they turned: a position here is a place in the cache, so a
    model never meets one beyond `sinks + window` (equation `long-context-sinks`).

    Args:
        sinks: first positions that stay, ≥ 0; their keys draw the attention that has nowhere else
            to go.
        window: latest positions that stay, its own among them, ≥ 1.

    Example:
        >>> import torch
        >>> cache = SinkCache(sinks=1, window=2)
        >>> for at in range(5):
        ...     one = torch.full((1, 1, 1, 1), float(at))
        ...     k, _ = cache.append(one, one)
        >>> k.flatten().tolist(), cache.length, cache.seen
        ([0.0, 3.0, 4.0], 3, 5)

    Source: Xiao et al. 2023.
    """

    def __init__(self, sinks: int = 4, window: int = 1020):
        self.sinks = checks.count("sinks", sinks, least=0)
        self.window = checks.count("window", window)
        super().__init__(self.sinks + self.window)
        self.seen = 0

    def append(
        self, k: Float[Tensor, "b g t d"], v: Float[Tensor, "b g t d"]
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s d"]]:
        """Add new positions, drop what no longer has room, and return all that is kept.

        Args:
            k: keys that have not turned; one position once the cache is full.
            v: values.
        """
        checks.tensor("k", k, shape=("b", "g", "t", "d"), floating=True)
        over = self.length + k.shape[2] - self.max_length
        keys, values = self.keys, self.values
        if over > 0:
            if k.shape[2] > 1 or keys is None or values is None:
                raise ValueError(
                    f"k has {k.shape[2]} positions, a SinkCache takes one at a time beyond "
                    f"its sinks + window = {self.max_length}"
                )
            for store in (keys, values):
                store[:, :, self.sinks : -1] = store[:, :, self.sinks + 1 :].clone()
            self.length -= 1
        kept = super().append(k, v)
        self.seen += k.shape[2]
        return kept
