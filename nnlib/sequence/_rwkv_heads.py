"""The recurrences of RWKV-5, -6 and -7: one head each, whose state is a matrix.

Part of `nnlib.sequence.rwkv`, with its axes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks


def matrix_step(
    r: Float[Tensor, "*b k"],
    k: Float[Tensor, "*b k"],
    v: Float[Tensor, "*b v"],
    w: Float[Tensor, "*b k"],
    u: Float[Tensor, "*b k"],
    state: Float[Tensor, "*b k v"],
) -> tuple[Float[Tensor, "*b v"], Float[Tensor, "*b k v"]]:
    r"""One step of RWKV-5 and RWKV-6: a matrix for a state, from which nothing is divided.

    $y_t = (S_{t-1} + \mathrm{diag}(u)\,k_t v_t^\top)^\top r_t$ and $S_t = \mathrm{diag}(w_t)
    S_{t-1} + k_t v_t^\top$ (equation `rwkv-matrix`). In version 5 the decay w is one for all
    steps, in version 6 the token sets it.

    Args:
        r: receptance, which asks.
        k: key, at which is written.
        v: value, which is written.
        w: how much of each row is kept, 0 … 1.
        u: bonus of the current token.
        state: S before the step.

    Example:
        >>> one, none = torch.tensor([1.0, 0.0]), torch.zeros(2, 2)
        >>> y, state = matrix_step(one, one, torch.tensor([5.0, 7.0]), one, one, none)
        >>> y.tolist(), state.tolist()
        ([5.0, 7.0], [[5.0, 7.0], [0.0, 0.0]])

    Source: Peng et al. 2024 (Eagle and Finch).
    """
    _check_head(r, k, v, w=w, u=u)
    checks.tensor("state", state, shape=(*k.shape, v.shape[-1]), floating=True)
    written = k[..., None] * v[..., None, :]
    y = torch.einsum("...k,...kv->...v", r, state + u[..., None] * written)
    return y, w[..., None] * state + written  # eq. rwkv-matrix


def matrix_wkv(
    r: Float[Tensor, "*b t k"],
    k: Float[Tensor, "*b t k"],
    v: Float[Tensor, "*b t v"],
    w: Float[Tensor, "*b t k"],
    u: Float[Tensor, "*b k"],
) -> Float[Tensor, "*b t v"]:
    r"""All steps of `matrix_step` at once, from an empty state, as an attention without softmax.

    The score of step i at step t > i is $\sum_j r_{tj} k_{ij} \prod_{i<n<t} w_{nj}$ (equation
    `rwkv-matrix-parallel`). Products of decays are taken as differences of sums of logarithms,
    none of which is positive, so that nothing overflows. For lengths of a few hundred: it holds
    t² numbers a key channel.

    Args:
        r: receptances.
        k: keys.
        v: values.
        w: how much of each row is kept at each step, in (0, 1].
        u: bonus of the current token.
    """
    _check_head(r, k, v, w=w)
    checks.tensor("u", u, shape=(*k.shape[:-2], k.shape[-1]), floating=True)
    if checks.readable(w) and not bool(((w > 0) & (w <= 1)).all()):
        raise ValueError(
            f"w must lie in (0, 1], got {float(w.min()):g} … {float(w.max()):g}"
        )
    total = w.log().cumsum(-2)
    before = total - w.log()  # the decays up to the step, without its own
    t = w.shape[-2]
    fade = before[..., :, None, :] - total[..., None, :, :]
    past = torch.ones(t, t, dtype=torch.bool, device=w.device).tril(-1)
    fade = fade.masked_fill(~past[..., None], -math.inf).exp()
    scores = torch.einsum("...tk,...sk,...tsk->...ts", r, k, fade)
    now = (r * u[..., None, :] * k).sum(-1)
    return scores @ v + now[..., None] * v  # eq. rwkv-matrix-parallel


def delta_step(
    r: Float[Tensor, "*b k"],
    k: Float[Tensor, "*b k"],
    v: Float[Tensor, "*b v"],
    w: Float[Tensor, "*b k"],
    removal: Float[Tensor, "*b k"],
    a: Float[Tensor, "*b k"],
    state: Float[Tensor, "*b v k"],
) -> tuple[Float[Tensor, "*b v"], Float[Tensor, "*b v k"]]:
    r"""One step of RWKV-7, the generalised delta rule: what is stored at a key can be replaced.

    $S_t = S_{t-1}(\mathrm{diag}(w_t) - \hat\kappa_t (a_t \odot \hat\kappa_t)^\top) + v_t
    k_t^\top$ and $y_t = S_t r_t$ (equation `rwkv-delta`), with $\hat\kappa$ of length 1.

    Args:
        r: receptance, which asks.
        k: key, at which is written.
        v: value, which is written.
        w: how much of each column is kept, 0 … 1.
        removal: key κ at which is removed; it is scaled to length 1.
        a: in-context learning rate, how much of what stands there goes: 0 … 1 in the paper; 2
            reflects.
        state: S before the step.

    Example:
        >>> key, store = torch.tensor([1.0, 0.0]), torch.tensor([[5.0, 7.0]])
        >>> one = torch.ones(2)
        >>> y, state = delta_step(key, key, torch.tensor([9.0]), one, key, one, store)
        >>> state.tolist()  # at this key 9 stands in place of 5; the other is untouched
        [[9.0, 7.0]]

    Source: Peng et al. 2025 (Goose); the delta rule in fast weights: Schlag et al. 2021.
    """
    _check_head(r, k, v, w=w, removal=removal, a=a)
    checks.tensor(
        "state", state, shape=(*k.shape[:-1], v.shape[-1], k.shape[-1]), floating=True
    )
    state = state @ transition(w, removal, a) + v[..., None] * k[..., None, :]
    return torch.einsum("...vk,...k->...v", state, r), state  # eq. rwkv-delta


def transition(
    w: Float[Tensor, "*b k"], removal: Float[Tensor, "*b k"], a: Float[Tensor, "*b k"]
) -> Float[Tensor, "*b k k"]:
    r"""Return $\mathrm{diag}(w) - \hat\kappa (a \odot \hat\kappa)^\top$, which acts on a state.

    Args:
        w: how much of each column is kept.
        removal: key κ, scaled to length 1 here.
        a: in-context learning rate.

    Example:
        >>> swap = transition(torch.ones(2), torch.tensor([1.0, -1.0]), torch.full((2,), 2.0))
        >>> swap.round().abs().tolist()  # a reflection that exchanges two entries
        [[0.0, 1.0], [1.0, 0.0]]
    """
    for name, value in (("w", w), ("removal", removal), ("a", a)):
        checks.tensor(name, value, shape=tuple(w.shape), floating=True)
    unit = F.normalize(removal, dim=-1)
    return torch.diag_embed(w) - unit[..., None] * (a * unit)[..., None, :]


def delta_wkv(
    r: Float[Tensor, "*b t k"],
    k: Float[Tensor, "*b t k"],
    v: Float[Tensor, "*b t v"],
    w: Float[Tensor, "*b t k"],
    removal: Float[Tensor, "*b t k"],
    a: Float[Tensor, "*b t k"],
) -> Float[Tensor, "*b t v"]:
    r"""All steps of `delta_step` at once, from an empty state.

    A step maps S to $S G + U$; two of them in a row map it to $S G_1 G_2 + (U_1 G_2 + U_2)$,
    which is a step again (equation `rwkv-compose`). So all prefixes are found by doubling, in
    log₂ t rounds of matrix products: clear, and more work than the chunked form of the paper.

    Args:
        r: receptances.
        k: keys.
        v: values.
        w: how much of each column is kept.
        removal: keys κ at which is removed.
        a: in-context learning rates.
    """
    _check_head(r, k, v, w=w, removal=removal, a=a)
    turn, state = transition(w, removal, a), v[..., None] * k[..., None, :]
    shift = 1
    while shift < turn.shape[-3]:
        early, late = turn[..., :-shift, :, :], turn[..., shift:, :, :]
        state = torch.cat(
            [
                state[..., :shift, :, :],
                state[..., :-shift, :, :] @ late + state[..., shift:, :, :],
            ],
            -3,
        )
        turn = torch.cat(
            [turn[..., :shift, :, :], early @ late], -3
        )  # eq. rwkv-compose
        shift *= 2
    return torch.einsum("...vk,...k->...v", state, r)


def _check_head(r: Tensor, k: Tensor, v: Tensor, **others: Tensor) -> None:
    """Refuse vectors of a head that do not fit each other; values may have a width of their own."""
    checks.tensor("r", r, floating=True)
    for name, value in {"k": k, **others}.items():
        checks.tensor(name, value, shape=tuple(r.shape), floating=True)
    checks.tensor("v", v, shape=(*r.shape[:-1], "v"), floating=True)
