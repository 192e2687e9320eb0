"""Keys and values of many sequences in blocks of one store, as an operating system keeps memory.

Chapter: chapters/language/inference.md     Source: Kwon et al. 2023
Axes: l layers, n blocks, g heads of keys and values, c positions of a block, d head width; b
sequences, t new positions, s positions so far, m blocks of the longest sequence.

A sequence holds a list of blocks, its block table, and takes a new one when the last is full. So
nothing is set aside for what may never be written, at most c − 1 places a sequence are empty, and a
block may stand in two tables: forks share what they have in common, until one writes into a block
that another holds, and gets a copy of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from nnlib import checks
from nnlib.blocks._paged_layers import NO_GRADIENT, PagedLayer, Steps


class OutOfBlocks(RuntimeError):
    """A cache has fewer free blocks than were asked for; nothing in it was changed.

    Args:
        needed: blocks that were asked for.
        free: blocks that nobody holds.

    Example:
        >>> str(OutOfBlocks(needed=3, free=1))
        '3 more blocks are needed, 1 is free: free a sequence, or take a larger num_blocks'
    """

    def __init__(self, needed: int, free: int):
        self.needed, self.free = needed, free
        super().__init__(
            f"{needed} more block{'s are' if needed > 1 else ' is'} needed, "
            f"{free} {'is' if free == 1 else 'are'} free: free a sequence, or take a larger "
            "num_blocks"
        )


class Places(NamedTuple):
    """Where new positions are written, in the order of the sequences, one after the other."""

    block: Int[Tensor, " n"]
    offset: Int[Tensor, " n"]


class PagedKVCache:
    """Keys and values of many sequences, in blocks that are given out and counted.

    For use without gradients. Sequences are named by numbers that are never given twice.

    Args:
        num_blocks: blocks n, ≥ 1; all are set aside at once.
        block_size: positions of a block c, ≥ 1; 16 is common.
        num_kv_heads: heads of keys and values g, ≥ 1.
        head_dim: their width d, ≥ 1.
        num_layers: layers l, ≥ 1, which share the block tables; each has n blocks of its own.
        dtype: of the store; None is torch's default.
        device: of the store.

    Example:
        >>> cache = PagedKVCache(num_blocks=8, block_size=4, num_kv_heads=2, head_dim=16)
        >>> first, second = cache.allocate(2)
        >>> k = v = torch.randn(2, 2, 5, 16)  # five positions for each of the two
        >>> cache.append([first, second], k, v)
        >>> fork = cache.fork(first)
        >>> cache.append([first, second], k[:, :, :1], v[:, :, :1])
        >>> cache.block_table([first, second, fork])  # the fork keeps block 1
        tensor([[0, 4],
                [2, 3],
                [0, 1]], dtype=torch.int32)
        >>> cache.lengths([first, second, fork]).tolist(), cache.free_blocks
        ([6, 6, 5], 3)

    Source: Kwon et al. 2023.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        num_layers: int = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ):
        self.num_blocks = n = checks.count("num_blocks", num_blocks)
        self.block_size = c = checks.count("block_size", block_size)
        self.num_kv_heads = g = checks.count("num_kv_heads", num_kv_heads)
        self.head_dim = d = checks.count("head_dim", head_dim)
        self.num_layers = layers = checks.count("num_layers", num_layers)
        self.store = torch.zeros((layers, 2, n, g, c, d), dtype=dtype, device=device)
        if not self.store.is_floating_point():
            raise TypeError(f"dtype must be floating point, got {self.store.dtype}")
        self._free = np.arange(n - 1, -1, -1)  # given out from the end
        self._holders = np.zeros(n, dtype=np.int64)  # how many tables a block stands in
        self._rows: dict[int, int] = {}  # of the sequences, in what follows
        self._next = 0  # sequence
        self._lengths = np.zeros(0, dtype=np.int64)
        self._tables = np.full((0, 0), -1, dtype=np.int32)

    # ------------------------------------------------------------------------- sequences
    def allocate(self, count: int = 1) -> list[int]:
        """Return the numbers of so many new sequences, which hold nothing yet."""
        names = range(self._next, self._next + checks.count("count", count, least=0))
        self._grow(len(self._rows) + count, 0)
        unused = np.setdiff1d(np.arange(len(self._lengths)), list(self._rows.values()))
        self._rows |= dict(zip(names, unused.tolist(), strict=False))
        self._next += count
        return list(names)

    def fork(self, sequence: int) -> int:
        """Return a new sequence that holds the same positions, in the same blocks: no copy."""
        (row,) = self._rows_of([sequence])
        (name,) = self.allocate()
        new = self._rows[name]
        self._tables[new], self._lengths[new] = self._tables[row], self._lengths[row]
        held = self._tables[row]
        self._holders[held[held >= 0]] += 1
        return name

    def free(self, sequences: Sequence[int]) -> None:
        """Forget sequences; blocks that no other one holds are free again."""
        rows = self._rows_of(sequences)
        held = self._tables[rows]
        blocks, times = np.unique(held[held >= 0], return_counts=True)
        self._holders[blocks] -= times
        self._free = np.concatenate(
            [self._free, blocks[self._holders[blocks] == 0][::-1]]
        )
        self._tables[rows], self._lengths[rows] = -1, 0
        for name in sequences:
            del self._rows[name]

    @property
    def sequences(self) -> list[int]:
        """The numbers of all sequences, oldest first."""
        return sorted(self._rows)

    def block_table(self, sequences: Sequence[int]) -> Int[Tensor, "b m"]:
        """Return the blocks of each sequence in order, and −1 behind the last of a shorter one."""
        rows = self._rows_of(sequences)
        longest = -(-int(self._lengths[rows].max(initial=0)) // self.block_size)
        table = torch.from_numpy(self._tables[rows, :longest])
        return table.to(self.store.device)

    def lengths(self, sequences: Sequence[int]) -> Int[Tensor, " b"]:
        """Return how many positions each sequence holds."""
        held = self._lengths_of(sequences).astype(np.int32)
        return torch.from_numpy(held).to(self.store.device)

    def holders(self, block: int) -> int:
        """Return in how many block tables a block stands: 0 is free, 2 or more is shared."""
        if checks.count("block", block, least=0) >= self.num_blocks:
            raise ValueError(
                f"block={block} must be below num_blocks={self.num_blocks}"
            )
        return int(self._holders[block])

    # ----------------------------------------------------------------------------- memory
    @property
    def free_blocks(self) -> int:
        """How many blocks nobody holds."""
        return len(self._free)

    @property
    def bytes_per_block(self) -> int:
        """Memory that a block takes, over all layers."""
        return self.bytes // self.num_blocks

    @property
    def bytes(self) -> int:
        """Memory that is held: the whole store."""
        return self.store.numel() * self.store.element_size()

    @property
    def bytes_used(self) -> int:
        """Memory of the blocks that some sequence holds; a shared one counts once."""
        return (self.num_blocks - self.free_blocks) * self.bytes_per_block

    # ---------------------------------------------------------------------------- writing
    def append(
        self,
        sequences: Sequence[int],
        k: Float[Tensor, "*l b g t d"],
        v: Float[Tensor, "*l b g t d"],
    ) -> None:
        """Add t positions at the end of each sequence, all or none of them.

        Args:
            sequences: whose positions they are; each once.
            k: keys: b g t d, or l b g t d when there are several layers.
            v: values, of the same shape.
        """
        rows, layers = self._rows_of(sequences), self.num_layers
        shape: tuple[int | str, ...] = (
            len(rows),
            self.num_kv_heads,
            "t",
            self.head_dim,
        )
        shape = shape if layers == 1 else (layers, *shape)
        t = self._fitting("k", k, shape).shape[-2]
        self._fitting("v", v, tuple(k.shape))
        places = self.reserve(sequences, t)
        for number in range(layers):
            new = ((x if layers == 1 else x[number]) for x in (k, v))
            self.write(number, places, *(x.transpose(1, 2).flatten(0, 1) for x in new))

    def reserve(self, sequences: Sequence[int], new: int | Sequence[int]) -> Places:
        """Make sequences longer, and return where the new positions are to be written.

        Where the first new position falls into a block that another sequence holds too, that block
        is copied before. The numbers in the new places are left over from whoever had them before.

        Args:
            sequences: whose positions they are; each once.
            new: how many, ≥ 0: for all, or one a sequence.

        Raises:
            OutOfBlocks: too few are free; nothing has changed then.
        """
        rows = self._rows_of(sequences)
        counts = self._counts(new, len(rows))
        size, before = self.block_size, self._lengths[rows]
        after = before + counts
        had, wanted = -(-before // size), -(-after // size)
        # whoever writes into a block that others hold takes a copy; the last holder needs none
        copying = np.flatnonzero((before % size > 0) & (counts > 0))
        last = self._tables[rows[copying], had[copying] - 1]
        blocks, firsts, writers = np.unique(last, return_index=True, return_counts=True)
        alone = firsts[self._holders[blocks] == writers]
        copying, last = np.delete(copying, alone), np.delete(last, alone)

        needed = len(last) + int((wanted - had).sum())
        if needed > self.free_blocks:
            raise OutOfBlocks(needed, self.free_blocks)
        self._grow(0, int(wanted.max(initial=0)))
        taken = self._free[self.free_blocks - needed :][::-1]
        self._free = self._free[: self.free_blocks - needed]
        self._holders[taken] = 1
        copies, fresh = taken[: len(last)], taken[len(last) :]
        if len(last):
            np.subtract.at(self._holders, last, 1)
            self._tables[rows[copying], had[copying] - 1] = copies
            source, goal = (self._moved(x) for x in (last, copies))
            self.store[:, :, goal] = self.store[:, :, source]
        nth, column = _spread(had, wanted - had)
        self._tables[rows[nth], column] = fresh
        self._lengths[rows] = after
        nth, position = _spread(before, counts)
        block = self._tables[rows[nth], position // size]
        return Places(self._moved(block), self._moved(position % size))

    def write(
        self,
        layer: int,
        places: Places,
        k: Float[Tensor, "n g d"],
        v: Float[Tensor, "n g d"],
    ) -> None:
        """Write keys and values of one layer into places that `reserve` gave."""
        layer = self._layer(layer)
        wanted = (len(places.block), self.num_kv_heads, self.head_dim)
        for side, (name, x) in enumerate((("k", k), ("v", v))):
            self._fitting(name, x, wanted)
            self.store[layer, side][places.block, :, places.offset] = x

    def gather(
        self, sequences: Sequence[int], layer: int = 0
    ) -> tuple[Float[Tensor, "b g s d"], Float[Tensor, "b g s d"], Bool[Tensor, "b s"]]:
        """Return a copy of the keys and values in one piece each, and where they are real.

        Padding is on the left and 0: the last position of each sequence stands in the last column.
        """
        layer, rows = self._layer(layer), self._rows_of(sequences)
        lengths = self._lengths[rows][:, None]
        longest = int(lengths.max(initial=0))
        position = np.arange(longest) - (longest - lengths)
        real = self._moved(position >= 0)
        position = position.clip(0)
        block = (
            self._tables[rows[:, None], position // self.block_size]
            if longest
            else position
        )
        block, offset = (
            self._moved(block.clip(0)),
            self._moved(position % self.block_size),
        )
        heads = torch.arange(self.num_kv_heads, device=self.store.device)[:, None]
        k, v = (
            side[block[:, None], heads, offset[:, None]].masked_fill(
                ~real[:, None, :, None], 0
            )
            for side in self.store[layer]
        )
        return k, v, real

    def caches(self, sequences: Sequence[int]) -> list[PagedLayer]:
        """Return a cache for each layer, as `LLM` takes them: row i continues `sequences[i]`.

        Sequences may have different lengths, and prompts padding on the left, which is not kept.
        Take new ones when other sequences come to the batch, or some leave it.
        """
        self._rows_of(sequences)
        steps = Steps(self, list(sequences))
        return [PagedLayer(steps, number) for number in range(self.num_layers)]

    # ------------------------------------------------------------------------------- parts
    def _rows_of(self, sequences: Sequence[int]) -> np.ndarray:
        """Return the rows of sequences, each of which must be there, and once."""
        if isinstance(sequences, int | str) or not isinstance(sequences, Sequence):
            raise TypeError(
                f"sequences must be a list of numbers, got {type(sequences).__name__}"
            )
        strange = [name for name in sequences if name not in self._rows]
        if strange:
            raise ValueError(
                f"sequence {strange[0]!r} is not in this cache, or was freed"
            )
        if len(set(sequences)) < len(sequences):
            twice = next(name for name in sequences if list(sequences).count(name) > 1)
            raise ValueError(f"sequence {twice} stands more than once in sequences")
        return np.array([self._rows[name] for name in sequences], dtype=np.int64)

    def _lengths_of(self, sequences: Sequence[int]) -> np.ndarray:
        return self._lengths[self._rows_of(sequences)]

    def _counts(self, new: int | Sequence[int], sequences: int) -> np.ndarray:
        if isinstance(new, Sequence) and not isinstance(new, str):
            counts = [checks.count("new", each, least=0) for each in new]
            if len(counts) != sequences:
                raise ValueError(
                    f"new must be one number or one for each of {sequences} sequences, "
                    f"got {len(counts)}"
                )
            return np.array(counts, dtype=np.int64)
        return np.full(sequences, checks.count("new", new, least=0), dtype=np.int64)

    def _layer(self, layer: int) -> int:
        if checks.count("layer", layer, least=0) >= self.num_layers:
            raise ValueError(
                f"layer={layer} must be below num_layers={self.num_layers}"
            )
        return layer

    def _fitting(self, name: str, x: Tensor, shape: tuple[int | str, ...]) -> Tensor:
        checks.tensor(name, x, shape=shape, floating=True)
        if x.dtype != self.store.dtype:
            raise TypeError(
                f"{name} must be {self.store.dtype} like the store, got {x.dtype}"
            )
        if x.device != self.store.device:
            raise ValueError(
                f"{name} must be on {self.store.device} like the store, got {x.device}"
            )
        if x.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(NO_GRADIENT)
        return x

    def _grow(self, rows: int, columns: int) -> None:
        """See that the tables have so many rows and columns; what is too small doubles at least."""
        room = [
            (0, max(wanted - now, now) if wanted > now else 0)
            for now, wanted in zip(self._tables.shape, (rows, columns), strict=True)
        ]
        self._tables = np.pad(self._tables, room, constant_values=-1)
        self._lengths = np.pad(self._lengths, room[0])

    def _moved(self, x: np.ndarray) -> Tensor:
        x = x if x.dtype == bool else x.astype(np.int64)
        return torch.from_numpy(x).to(self.store.device)


def _spread(starts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each i, i as often as `counts[i]` says, and the numbers from `starts[i]` on."""
    nth = np.repeat(np.arange(len(counts)), counts)
    return nth, starts[nth] + np.arange(len(nth)) - (counts.cumsum() - counts)[nth]
