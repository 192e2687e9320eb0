"""What one step of a server costs, counted: FLOPs, bytes, and the cache of keys and values.

Part of `nnlib.language.inference`, with its letters.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import NamedTuple

from nnlib import checks
from nnlib.kernels.cost import Cost
from nnlib.kernels.roofline import Machine, seconds


class Work(NamedTuple):
    """What one request does in one step of a server.

    Args:
        request: its number.
        new: tokens that are read in this step: many of a prompt, or the one written last.
        cached: tokens read before, whose keys and values are kept.
        answers: whether a token is written after this step.
    """

    request: int
    new: int
    cached: int
    answers: bool = True


@dataclass(frozen=True)
class DecoderShape:
    r"""The sizes of a decoder that decide what serving it costs.

    Args:
        vocab_size: tokens v, ≥ 1.
        embed_dim: width d, ≥ 1.
        num_layers: blocks L, ≥ 1.
        num_heads: heads h, ≥ 1.
        num_kv_heads: heads of keys and values g, which divide h.
        head_dim: head width, ≥ 1.
        dim_feedforward: width f of the gated networks, ≥ 1.
        weight_bits: bits of a weight, > 0.
        cache_bits: bits of a cached number, > 0.

    Example:
        >>> llama = DecoderShape(128256, 4096, 32, 32, 8, 128, 14336)  # Llama 3 8B
        >>> llama.cache_bytes(8192) / 2**30, round(llama.weight_bytes / 1e9, 1)
        (1.0, 15.0)

    Source: Pope et al. 2023; Kwon et al. 2023.
    """

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    dim_feedforward: int
    weight_bits: float = 16
    cache_bits: float = 16

    def __post_init__(self):
        for field in fields(self):
            take = checks.count if field.type is int else checks.number
            bound = {} if field.type is int else {"above": 0}
            value = take(field.name, getattr(self, field.name), **bound)
            object.__setattr__(self, field.name, value)
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_kv_heads={self.num_kv_heads} does not divide num_heads={self.num_heads}"
            )

    @cached_property
    def layer_weights(self) -> int:
        """Weights that each token is multiplied with in all blocks: L (2d d_h (h + g) + 3df)."""
        heads = 2 * self.head_dim * (self.num_heads + self.num_kv_heads)
        each = self.embed_dim * (heads + 3 * self.dim_feedforward)
        return self.num_layers * each

    @cached_property
    def weight_bytes(self) -> float:
        """Bytes of weights that a step reads: blocks and output, without norms and the table."""
        read = self.layer_weights + self.vocab_size * self.embed_dim
        return read * self.weight_bits / 8

    @cached_property
    def _token_bytes(self) -> float:
        """Bytes of one token in the cache; looked up once, since steps are many."""
        return kv_cache_bytes(
            self.num_layers, self.num_kv_heads, self.head_dim, bits=self.cache_bits
        )

    def cache_bytes(self, length: int = 1) -> float:
        """Return the bytes of keys and values of a text: equation `inference-cache`.

        Args:
            length: its tokens, ≥ 0.
        """
        return checks.count("length", length, least=0) * self._token_bytes

    def cost(self, works: Sequence[Work]) -> Cost:
        """Return FLOPs and bytes of one step: equations `inference-flops` and `inference-bytes`.

        Products alone are counted, and only weights and cached numbers travel: what is left out,
        norms and the vectors between the parts, is small wherever serving is slow.

        Args:
            works: what each request of the batch does; none at all cost nothing.

        Example:
            >>> llama = DecoderShape(128256, 4096, 32, 32, 8, 128, 14336)
            >>> round(llama.cost([Work(0, new=1, cached=1000)]).intensity, 2)  # decoding alone
            1.03
        """
        checked_works(works)
        if not works:
            return Cost(0, 0)
        new = sum(work.new for work in works)
        pairs = sum(w.new * w.cached + w.new * (w.new + 1) // 2 for w in works)
        output = self.vocab_size * self.embed_dim * len(works)
        looks = 2 * self.num_layers * self.num_heads * self.head_dim * pairs
        flops = 2 * (self.layer_weights * new + output + looks)  # eq. inference-flops
        kept = sum(work.new + work.cached for work in works)
        travels = self.weight_bytes + kept * self._token_bytes  # eq. inference-bytes
        return Cost(flops, round(travels))

    def seconds(self, machine: Machine, works: Sequence[Work]) -> float:
        r"""Return the least time of a step: equation `inference-step`, and λ for its launch.

        Args:
            machine: as the roofline sees it.
            works: as `cost` takes them.
        """
        return seconds(machine, self.cost(works))

    def largest_batch(self, memory: float, length: int) -> int:
        """Return how many texts fit beside the weights: equation `inference-batch`.

        Args:
            memory: bytes in all, > 0.
            length: tokens of each text, ≥ 1.

        Example:
            >>> llama = DecoderShape(128256, 4096, 32, 32, 8, 128, 14336)
            >>> llama.largest_batch(80e9, length=8192)
            60
        """
        memory = checks.number("memory", memory, above=0)
        free = memory - self.weight_bytes
        return max(0, int(free // self.cache_bytes(checks.count("length", length))))


def kv_cache_bytes(
    num_layers: int, num_kv_heads: int, head_dim: int, length: int = 1, bits: float = 16
) -> float:
    """Return the bytes of keys and values of one text: equation `inference-cache`.

    Args:
        num_layers: blocks L, ≥ 1.
        num_kv_heads: heads of keys and values g: all heads (MHA), some (GQA) or one (MQA).
        head_dim: head width, ≥ 1.
        length: tokens, ≥ 0.
        bits: bits a number, > 0.

    Example:
        >>> kv_cache_bytes(80, 8, 128, 8192) / 2**30, kv_cache_bytes(80, 64, 128, 8192) / 2**30
        (2.5, 20.0)
    """
    names = ("num_layers", "num_kv_heads", "head_dim")
    layers, groups, width = map(
        checks.count, names, (num_layers, num_kv_heads, head_dim)
    )
    length = checks.count("length", length, least=0)
    bits = checks.number("bits", bits, above=0)
    return 2 * layers * groups * width * length * bits / 8


def latent_cache_bytes(
    num_layers: int, latent_dim: int, rotary_dim: int, length: int = 1, bits: float = 16
) -> float:
    """Return the bytes of the latents of one text: equation `inference-latent-cache`.

    Args:
        num_layers: blocks L, ≥ 1.
        latent_dim: width of the vector that all keys and values of a token are computed from.
        rotary_dim: width of the turned key that all heads share.
        length: tokens, ≥ 0.
        bits: bits a number, > 0.

    Example:
        >>> latent_cache_bytes(60, 512, 64) / 1024  # DeepSeek-V2: KiB a token
        67.5

    Source: DeepSeek-AI 2024, whose d_c and d_h^R are our two widths.
    """
    names = ("num_layers", "latent_dim", "rotary_dim")
    layers, latent, rotary = map(
        checks.count, names, (num_layers, latent_dim, rotary_dim)
    )
    length = checks.count("length", length, least=0)
    bits = checks.number("bits", bits, above=0)
    return layers * (latent + rotary) * length * bits / 8


def checked_works(works: Sequence[Work]) -> None:
    """Refuse what is no list of works, by name."""
    if not isinstance(works, list | tuple):
        raise TypeError(f"works must be a list of Work, got {type(works).__name__}")
    if set(map(type, works)) - {Work}:
        at, work = next(pair for pair in enumerate(works) if type(pair[1]) is not Work)
        raise TypeError(f"works[{at}] must be a Work, got {type(work).__name__}")
