r"""Where a head looks: content, then place; and what reading and writing do there.

Axes: b batch, h heads, n slots of the memory, w numbers of a slot, s shifts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks

COSINE_EPS = 1e-6
r"""ε of the cosine: what is much shorter than √ε is like nothing, and gradients stay below 1/√ε."""


class Addressing(NamedTuple):
    """The four stages of an address, each of them weights of the slots that sum to 1."""

    content: Float[Tensor, "b h n"]
    """By likeness to the key."""
    gated: Float[Tensor, "b h n"]
    """Between that and the weights of the step before."""
    shifted: Float[Tensor, "b h n"]
    """Moved along the memory, which is a ring."""
    weights: Float[Tensor, "b h n"]
    """Sharpened again: what the head uses."""


def address(
    memory: Float[Tensor, "b n w"],
    previous: Float[Tensor, "b h n"],
    key: Float[Tensor, "b h w"],
    strength: Float[Tensor, "b h"],
    gate: Float[Tensor, "b h"],
    shift: Float[Tensor, "b h s"],
    sharpness: Float[Tensor, "b h"],
) -> Addressing:
    r"""Return the weights of every head: find by content, or stay; move along; sharpen.

    Equations `neural-turing-machine-content`, `-gate`, `-shift` and `-sharpen` of the chapter.

    Args:
        memory: its rows.
        previous: each head's weights of the step before; ≥ 0, with a sum of 1.
        key: what to look for. Where a key or a row is zero, their cosine is 0.
        strength: β > 0, how sharply likeness decides.
        gate: g in [0, 1]: 1 takes the content's weights, 0 the previous ones.
        shift: how much of the weight moves by each of −(s−1)/2 … (s−1)/2 slots, of odd length s;
            ≥ 0, with a sum of 1. A positive shift goes to higher numbers, from the last to 0.
        sharpness: γ ≥ 1.

    Example:
        >>> memory, one = torch.eye(4)[None], torch.ones(1, 1)
        >>> at = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]])
        >>> ahead = torch.tensor([[[0.0, 0.0, 1.0]]])  # all of it by +1: round to slot 0
        >>> address(memory, at, torch.zeros(1, 1, 4), one, 0 * one, ahead, one).weights
        tensor([[[1., 0., 0., 0.]]])

    Source: Graves, Wayne and Danihelka 2014.
    """
    checks.tensor("memory", memory, shape=("b", "n", "w"), floating=True, empty=False)
    b, n, w = memory.shape
    checks.tensor("previous", previous, shape=(b, "h", n), floating=True, empty=False)
    h = previous.shape[1]
    checks.tensor("key", key, shape=(b, h, w), floating=True)
    checks.tensor("shift", shift, shape=(b, h, "s"), floating=True)
    if shift.shape[-1] % 2 == 0:
        raise ValueError(
            f"shift must have an odd length, so that a middle one stays, "
            f"got {shift.shape[-1]}"
        )
    bounds: list[tuple[str, Tensor, float, float]] = [
        ("strength", strength, 0.0, torch.inf),
        ("gate", gate, 0.0, 1.0),
        ("sharpness", sharpness, 1.0, torch.inf),
    ]
    for name, value, least, most in bounds:
        checks.tensor(name, value, shape=(b, h), floating=True)
        if checks.readable(value):
            low, high = (bound.item() for bound in value.detach().aminmax())
            if not (least <= low and high <= most) or (name == "strength" and low == 0):
                wanted = {"strength": "> 0", "gate": "in 0 … 1", "sharpness": "≥ 1"}
                raise ValueError(
                    f"{name} must be {wanted[name]}, got {low:g} … {high:g}"
                )
    for name, value in (("previous", previous), ("shift", shift)):
        check_weights(name, value)
    places = ring(n, shift.shape[-1], memory.device)
    return addressed(memory, previous, key, strength, gate, shift, sharpness, places)


def check_weights(name: str, value: Tensor) -> None:
    """Refuse weights that are negative or do not sum to 1, where looking costs nothing."""
    if checks.readable(value):
        low, total = value.detach().min().item(), value.detach().sum(-1)
        if not (low >= 0 and bool(((total - 1).abs() <= 1e-3).all())):
            worst = total.flatten()[(total - 1).abs().argmax()].item()
            raise ValueError(
                f"{name} must be ≥ 0 and sum to 1, got a least of {low:g} and a sum "
                f"of {worst:g}"
            )


def ring(num_slots: int, num_shifts: int, device: torch.device) -> Int[Tensor, "ns"]:
    """Return, for each slot and shift, the slot whose weight comes here, mod `num_slots`."""
    slots = torch.arange(num_slots, device=device)[:, None]
    moves = torch.arange(num_shifts, device=device) - num_shifts // 2
    return ((slots - moves) % num_slots).flatten()


def cosine(
    key: Float[Tensor, "b h w"], memory: Float[Tensor, "b n w"]
) -> Float[Tensor, "b h n"]:
    r"""Return the cosine of each key with each row; 0 where either is zero.

    $\mathbf k \cdot \mathbf m / \sqrt{(\lVert\mathbf k\rVert^2 + \epsilon)
    (\lVert\mathbf m\rVert^2 + \epsilon)}$ with $\epsilon = 10^{-6}$.
    """
    checks.tensor("memory", memory, shape=("b", "n", "w"), floating=True)
    b, _, w = memory.shape
    checks.tensor("key", key, shape=(b, "h", w), floating=True)
    inverse = (key.square().sum(-1) + COSINE_EPS).rsqrt()
    lengths = (memory.square().sum(-1) + COSINE_EPS).rsqrt()
    return (
        (key * inverse[..., None]) @ memory.mT * lengths[:, None]
    )  # eq. neural-turing-machine-cosine


def content_weights(
    key: Float[Tensor, "b h w"],
    strength: Float[Tensor, "b h"],
    memory: Float[Tensor, "b n w"],
) -> Float[Tensor, "b h n"]:
    r"""Return the softmax of β times the cosine of key and rows."""
    likeness = strength[..., None] * cosine(key, memory)
    return likeness.softmax(-1)  # eq. neural-turing-machine-content


def addressed(
    memory: Tensor,
    previous: Tensor,
    key: Tensor,
    strength: Tensor,
    gate: Tensor,
    shift: Tensor,
    sharpness: Tensor,
    places: Tensor,
) -> Addressing:
    """Compute what `address` does, with the slots of `ring`; nothing is checked."""
    content = content_weights(key, strength, memory)
    gated = torch.lerp(previous, content, gate[..., None])  # …-gate
    around = gated.index_select(-1, places).unflatten(-1, (-1, shift.shape[-1]))
    shifted = (around @ shift[..., None])[..., 0]  # eq. neural-turing-machine-shift
    # The largest is made 1 first, so that no power vanishes; the result is the same.
    powers = (shifted / shifted.detach().amax(-1, keepdim=True)) ** sharpness[..., None]
    weights = powers / powers.sum(-1, keepdim=True)  # eq. neural-turing-machine-sharpen
    return Addressing(content, gated, shifted, weights)


def read(
    memory: Float[Tensor, "b n w"], weights: Float[Tensor, "b h n"]
) -> Float[Tensor, "b h w"]:
    r"""Return each head's weighted sum of the rows, $\mathbf r = \sum_i w(i)\,\mathbf M(i)$.

    Example:
        >>> read(torch.tensor([[[0.0, 2.0], [4.0, 6.0]]]), torch.tensor([[[0.5, 0.5]]]))
        tensor([[[2., 4.]]])
    """
    checks.tensor("memory", memory, shape=("b", "n", "w"), floating=True)
    b, n, _ = memory.shape
    checks.tensor("weights", weights, shape=(b, "h", n), floating=True)
    return weights @ memory  # eq. neural-turing-machine-read


def write(
    memory: Float[Tensor, "b n w"],
    weights: Float[Tensor, "b h n"],
    erase: Float[Tensor, "b h w"],
    add: Float[Tensor, "b h w"],
) -> Float[Tensor, "b n w"]:
    r"""Return the memory after all heads erased, then added.

    $\mathbf M(i) \odot \prod_h (1 - w_h(i)\,\mathbf e_h) + \sum_h w_h(i)\,\mathbf a_h$: the order
    of the heads is of no account.

    Args:
        memory: before.
        weights: of the writing heads.
        erase: how much of each number of a row goes, in [0, 1].
        add: what comes instead.

    Example:
        >>> memory, at = torch.ones(1, 2, 2), torch.tensor([[[1.0, 0.0]]])
        >>> write(memory, at, torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 0.5]]]))
        tensor([[[0.5000, 1.5000],
                 [1.0000, 1.0000]]])
    """
    checks.tensor("memory", memory, shape=("b", "n", "w"), floating=True)
    b, n, w = memory.shape
    checks.tensor("weights", weights, shape=(b, "h", n), floating=True)
    h = weights.shape[1]
    checks.tensor("erase", erase, shape=(b, h, w), floating=True)
    checks.tensor("add", add, shape=(b, h, w), floating=True)
    if h == 1:  # eq. neural-turing-machine-write, in three passes
        return torch.addcmul(memory, weights.mT, add - erase * memory)
    kept = (1 - weights[..., None] * erase[:, :, None]).prod(1)
    return memory * kept + weights.mT @ add
