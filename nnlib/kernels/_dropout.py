"""Random numbers by their place: what is dropped is a function of a seed, and never stored.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") scrambles a counter under
a key. The counter is the place of an attention weight (key, query, head), the key a seed; so the
backward pass finds out again what the forward pass dropped, in any order and on any device. Seven
rounds are what its authors found to pass every test.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

ROUNDS = 7
_WORD = 0xFFFFFFFF


def philox(
    seed: Int[Tensor, ""],
    first: Int[Tensor, "*n"],
    second: Int[Tensor, "*n"],
    third: Int[Tensor, "*n"],
    rounds: int = ROUNDS,
) -> Int[Tensor, "*n"]:
    """Return a random number of 32 bits for each counter: the readable twin of `tl.philox`.

    Args:
        seed: of 64 bits.
        first: the counter's lowest word.
        second: the next one.
        third: the next one; the highest is 0.
        rounds: how often it is scrambled.
    """
    c0, c1, c2 = (word.long() & _WORD for word in (first, second, third))
    c3 = torch.zeros_like(c0)
    k0, k1 = seed & _WORD, (seed >> 32) & _WORD
    for _ in range(rounds):
        high, low = (
            0xCD9E8D57 * c2,
            0xD2511F53 * c0,
        )  # 64 bits, of which both halves are used
        c0 = ((high >> 32) & _WORD) ^ c1 ^ k0
        c2 = ((low >> 32) & _WORD) ^ c3 ^ k1
        c1, c3 = high & _WORD, low & _WORD
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0


def kept(
    seed: Int[Tensor, ""], b: int, h: int, t: int, s: int, dropout: float
) -> Bool[Tensor, "b h t s"]:
    """Return which attention weights stay, each with probability 1 − `dropout`."""
    row = torch.arange(b * h, device=seed.device).view(b, h, 1, 1)
    query = torch.arange(s - t, s, device=seed.device).view(1, 1, t, 1)  # its position
    key = torch.arange(s, device=seed.device)
    counters = torch.broadcast_tensors(key, query, row)
    share = (philox(seed, *counters) >> 8).float() * 2.0**-24  # 0 ≤ share < 1, exactly
    return share >= torch.tensor(dropout, dtype=torch.float32)


def rescale(dropout: float) -> float:
    """Return what the weights that stay are multiplied by, so that their sum stays 1 on average."""
    return 0.0 if dropout == 1 else 1 / (1 - dropout)


def new_seed(device: torch.device) -> Int[Tensor, ""]:
    """Draw a seed from torch's generator of that device, and leave it there."""
    return torch.randint(2**62, (), device=device)
