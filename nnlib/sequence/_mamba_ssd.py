"""State space duality, the recurrence of Mamba-2: in chunks, and as a matrix.

Part of `nnlib.sequence.mamba`, with its axes.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.kernels.linear_attention import linear_attention, linear_attention_chunked
from nnlib.sequence._mamba_state import first_state

SHORT = 32  # steps up to which the matrix of SSD costs a CPU less than chunks


def ssd(
    x: Float[Tensor, "b t h p"],
    a: Float[Tensor, "b t h"],
    B: Float[Tensor, "b t g n"],
    C: Float[Tensor, "b t g n"],
    chunk: int | None = None,
) -> Float[Tensor, "b t h p"]:
    r"""The recurrence of Mamba-2: a state of n × p numbers a head, faded by one number a step.

    $H_t = e^{a_t} H_{t-1} + B_t x_t^\top$ and $y_t = H_t^\top C_t$ (equation `mamba-ssd`). Written
    out over time it is a product with the masked matrix $L \odot C B^\top$ (`mamba-matrix`): it is
    linear attention with decay, queries C, keys B and values x, and runs as that kernel does, in
    chunks of matrix products.

    Args:
        x: values, into which Δ is multiplied already.
        a: logarithm of what stays at each step, Δ A ≤ 0.
        B: keys; g divides h, and as many heads share them.
        C: queries.
        chunk: steps of a chunk, ≥ 1; None leaves it to the kernel. The result is the same.

    Returns:
        The outputs y; none where there are no steps.

    Raises:
        TypeError: no floating-point tensors, or of different dtypes.
        ValueError: shapes that do not fit, groups that do not divide the heads, or a > 0.

    Example:
        >>> x = torch.tensor([8.0, 0.0, 1.0]).view(1, 3, 1, 1)
        >>> one = torch.ones(1, 3, 1, 1)
        >>> ssd(x, torch.full((1, 3, 1), 0.5).log(), one, one, chunk=2).flatten().tolist()
        [8.0, 4.0, 3.0]

    Source: Dao and Gu 2024, section 6 and listing 1, whose A is our a.
    """
    return ssd_with_state(x, a, B, C, chunk=chunk)[0]


def ssd_with_state(
    x: Float[Tensor, "b t h p"],
    a: Float[Tensor, "b t h"],
    B: Float[Tensor, "b t g n"],
    C: Float[Tensor, "b t g n"],
    state: Float[Tensor, "b h n p"] | None = None,
    *,
    chunk: int | None = None,
) -> tuple[Float[Tensor, "b t h p"], Float[Tensor, "b h n p"]]:
    """Return `ssd` continued from a state, and the state after the last step.

    `state` is that after what was read before; None: nothing was.
    """
    b, t, h, p = checks.tensor("x", x, shape=("b", "t", "h", "p"), floating=True).shape
    checks.tensor("a", a, shape=(b, t, h), floating=True)
    n = _check_groups("x", (b, t, h), B, C)
    if chunk is not None:
        chunk = checks.count("chunk", chunk)
    if checks.readable(a) and bool((a > 0).any()):
        raise ValueError(
            f"a must be ≤ 0, the logarithm of what stays, got {float(a.max()):g}"
        )
    return ssd_at_once(x, a, B, C, first_state(state, (b, h, n, p), x), chunk)


def ssd_matrix(
    a: Float[Tensor, "b t h"], B: Float[Tensor, "b t g n"], C: Float[Tensor, "b t g n"]
) -> Float[Tensor, "b h t s"]:
    r"""Return the matrix $M_{ts} = e^{a_{s+1} + \dots + a_t}\, C_t^\top B_s$, 0 above the diagonal.

    `ssd` is its product with x (equation `mamba-matrix`). It has t² entries a head, so it is there
    to be looked at, and for short sequences.

    Args:
        a: logarithm of what stays, ≤ 0.
        B: keys.
        C: queries.

    Example:
        >>> one = torch.ones(1, 3, 1, 1)
        >>> ssd_matrix(torch.full((1, 3, 1), 0.5).log(), one, one)[0, 0].tolist()
        [[1.0, 0.0, 0.0], [0.5, 1.0, 0.0], [0.25, 0.5, 1.0]]
    """
    b, t, h = checks.tensor("a", a, shape=("b", "t", "h"), floating=True).shape
    _check_groups("a", (b, t, h), B, C)
    total = a.transpose(1, 2).cumsum(-1)  # not mT, which ONNX lacks
    fade = total[..., :, None] - total[..., None, :]
    past = torch.ones(t, t, dtype=torch.bool, device=a.device).tril()
    fade = fade.masked_fill(~past, -math.inf).exp()
    scores = _by_head(C, h) @ _by_head(B, h).transpose(2, 3)
    return fade * scores  # eq. mamba-matrix


def ssd_at_once(
    x: Tensor, a: Tensor, B: Tensor, C: Tensor, state: Tensor, chunk: int | None = None
) -> tuple[Tensor, Tensor]:  # fmt: skip
    h = x.shape[2]
    if chunk is None and 1 < x.shape[1] <= SHORT and x.device.type == "cpu":
        return _ssd_as_matrix(x, a, B, C, state)
    q, k, v, g = _by_head(C, h), _by_head(B, h), x.transpose(1, 2), a.mT
    if chunk is None:
        y, state = linear_attention(q, k, v, g, state)
    else:
        y, state = linear_attention_chunked(q, k, v, g, state, chunk_size=chunk)
    return y.transpose(1, 2), state  # eq. mamba-ssd


def _ssd_as_matrix(
    x: Tensor, a: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A short sequence is one chunk: the matrix itself costs less than the kernel's detour."""
    dtype, h = x.dtype, x.shape[2]
    x, a, B, C = (part.to(state.dtype) for part in (x, a, B, C))
    v, total = x.transpose(1, 2), a.mT.cumsum(-1)
    y = ssd_matrix(a, B, C) @ v + total.exp()[..., None] * (_by_head(C, h) @ state)
    rest = (total[..., -1:] - total).exp()[..., None]
    end = total[..., -1:, None].exp() * state + (rest * _by_head(B, h)).mT @ v
    return y.transpose(1, 2).to(dtype), end


def _by_head(x: Tensor, heads: int) -> Tensor:
    """Return `b t g n` as `b h t n`: a group's vectors stand for all of its heads."""
    b, t, g, n = x.shape
    shared = x.transpose(1, 2)[:, :, None].expand(b, g, heads // g, t, n)
    return shared.reshape(b, heads, t, n) if g > 1 else shared[:, 0]


def _check_groups(name: str, shape: tuple[int, int, int], B: Tensor, C: Tensor) -> int:
    """Refuse keys and queries that do not go with b, t and h of `name`; return their width."""
    b, t, h = shape
    _, _, g, n = checks.tensor("B", B, shape=(b, t, "g", "n"), floating=True).shape
    checks.tensor("C", C, shape=(b, t, g, n), floating=True)
    if not g or h % g:
        raise ValueError(f"B has {g} groups, which must divide the {h} heads of {name}")
    return n
