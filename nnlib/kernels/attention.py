r"""Attention: every query's mean of the values, weighted by $\mathrm{softmax}(q k^\top/\sqrt d)$.

Chapter: chapters/kernels/flash_attention.md     Source: Dao et al. 2022; Dao 2023
Axes: b batch, h heads, g heads of keys and values (g divides h), t queries, s keys, d head width.

Written out, attention makes a table of t·s scores and carries it to memory and back. The kernels
walk over tiles of that table, and no tile leaves the chip: the forward pass carries a maximum, a
sum and a weighted mean along each row, and leaves one number a row (the logarithm of its sum) from
which the backward pass computes any tile again.
"""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.kernels import _dispatch, _triton
from nnlib.kernels._attention_backward import launch_backward
from nnlib.kernels._attention_forward import launch_forward
from nnlib.kernels._attention_tiles import Options
from nnlib.kernels._attention_torch import attention_torch
from nnlib.kernels._dropout import kept, new_seed, rescale
from nnlib.kernels._triton import operation
from nnlib.kernels.cost import Cost

WIDEST = 128  # of a head that the kernels take


def visible(
    t: int,
    s: int,
    *,
    is_causal: bool = False,
    window: int | None = None,
    device: Device = None,
) -> Bool[Tensor, "t s"]:
    """Return which keys each query sees. The last query stands at the last key, whatever t and s.

    Args:
        t: number of queries.
        s: number of keys; query i stands at position p = i + s - t.
        is_causal: whether position p sees no key after it.
        window: the number of keys up to p that it sees, p among them; without `is_causal` as many
            after it.
        device: of the result.
    """
    ahead = (
        torch.arange(s, device=device) - torch.arange(s - t, s, device=device)[:, None]
    )
    seen = ahead <= 0 if is_causal else torch.ones_like(ahead, dtype=torch.bool)
    return seen if window is None else seen & (ahead.abs() < window)


def attention_reference(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
    dropout: float = 0.0,
    seed: Int[Tensor, ""] | None = None,
) -> Float[Tensor, "b h t d"]:
    """`attention` as its equation reads; holds all b·h·t·s scores at once."""
    _check(q, k, v, is_causal, window, scale, mask, key_mask, dropout, seed)
    (b, h, t), s, group = q.shape[:3], k.shape[2], q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
    scores = _scale(q, scale) * q @ k.mT
    seen = visible(t, s, is_causal=is_causal, window=window, device=q.device)
    if mask is not None and mask.dtype == torch.bool:
        seen = seen & mask
    elif mask is not None:
        scores = scores + mask
    if key_mask is not None:
        seen = seen & key_mask[:, None, None]
    scores = scores.masked_fill(~seen, -math.inf)
    top = scores.amax(-1, keepdim=True) if s else scores.new_zeros(())
    weights = (scores - torch.where(top == -math.inf, 0.0, top)).exp()
    total = weights.sum(-1, keepdim=True)
    weights = weights / torch.where(
        total == 0, 1.0, total
    )  # a query that sees nothing gets 0
    if dropout:
        seed = new_seed(q.device) if seed is None else seed
        weights = weights * kept(seed, b, h, t, s, dropout) * rescale(dropout)
    return weights @ v


# -------------------------------------------------------------------------------- registration
def _weights(
    q: Tensor, k: Tensor, real: Tensor | None, lse: Tensor | None, options: Options
) -> Tensor:
    """Return softmax's table in float32, b g (h/g) t s; its logarithms of sums where `lse` is None.

    The form of the operation that `torch.compile` traces without a GPU.
    """
    (b, h, t, d), s = q.shape, k.shape[2]
    q = q.float().reshape(b, k.shape[1], -1, t, d)
    scores = options.scale * q @ k.float().unsqueeze(2).mT
    seen = visible(
        t, s, is_causal=options.is_causal, window=options.window, device=q.device
    )
    seen = seen if real is None else seen & real[:, None, None, None]
    scores = scores.masked_fill(~seen, -math.inf)
    if lse is None:
        return scores.logsumexp(-1).reshape(b, h, t)
    lse = lse.reshape(scores.shape[:-1])
    return (scores - torch.where(lse == -math.inf, math.inf, lse)[..., None]).exp()


def _factors(weights: Tensor, seed: Tensor | None, dropout: float) -> Tensor | float:
    """Return what dropout multiplies each weight of such a table by."""
    if seed is None:
        return 1.0
    b, g, group, t, s = weights.shape
    return kept(seed, b, g * group, t, s, dropout).reshape(weights.shape) * rescale(
        dropout
    )


@operation("nnlib::attention")
def _attention(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, seed: Tensor | None,
    is_causal: bool, window: int | None, scale: float, dropout: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    options = Options(is_causal, window, scale, dropout)
    if _dispatch.runs_kernel(q):
        return launch_forward(q, k, v, _bytes(key_mask), seed, options)
    lse = _weights(q, k, key_mask, None, options)
    weights = _weights(q, k, key_mask, lse, options)
    out = (weights * _factors(weights, seed, dropout)) @ v.float().unsqueeze(2)
    return torch.empty_like(q).copy_(out.reshape(q.shape)), lse


@operation("nnlib::attention_backward")
def _attention_backward(
    q: Tensor, k: Tensor, v: Tensor, key_mask: Tensor | None, seed: Tensor | None, out: Tensor,
    lse: Tensor, dout: Tensor, is_causal: bool, window: int | None, scale: float, dropout: float,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    options = Options(is_causal, window, scale, dropout)
    if _dispatch.runs_kernel(q):
        return launch_backward(q, k, v, _bytes(key_mask), seed, out, lse, dout, options)
    weights = _weights(q, k, key_mask, lse, options)
    factors = _factors(weights, seed, dropout)
    dout5 = dout.float().reshape(*weights.shape[:-1], -1)
    delta = (dout5 * out.float().reshape(dout5.shape)).sum(-1, keepdim=True)
    dscores = weights * (dout5 @ v.float().unsqueeze(2).mT * factors - delta) * scale
    dq = torch.empty_like(q).copy_((dscores @ k.float().unsqueeze(2)).reshape(q.shape))
    dk = torch.empty_like(k).copy_((dscores.mT @ q.float().reshape(dout5.shape)).sum(2))
    dv = torch.empty_like(v).copy_(((weights * factors).mT @ dout5).sum(2))
    return dq, dk, dv


def _bytes(key_mask: Tensor | None) -> Tensor | None:
    return None if key_mask is None else key_mask.contiguous().view(torch.uint8)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, is_causal, window, scale, dropout = inputs
    ctx.options = (is_causal, window, scale, dropout)
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    grads = torch.ops.nnlib.attention_backward(*ctx.saved_tensors, dout, *ctx.options)
    return *grads, None, None, None, None, None, None


_attention.register_autograd(_differentiate, setup_context=_save)


# -------------------------------------------------------------------------------------- public
def attention_triton(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
    dropout: float = 0.0,
    seed: Int[Tensor, ""] | None = None,
) -> Float[Tensor, "b h t d"]:
    """`attention` by the Triton kernels, on a GPU or in the interpreter; heads of at most 128.

    A `mask` is refused: only plain torch takes one.
    """
    _check(q, k, v, is_causal, window, scale, mask, key_mask, dropout, seed)
    if mask is not None:
        raise ValueError(
            "attention_triton takes no mask: attention() hands one to plain torch"
        )
    if q.shape[-1] > WIDEST:
        raise ValueError(
            f"attention_triton takes heads of width ≤ {WIDEST}, got {q.shape[-1]}"
        )
    _dispatch.require("attention_triton", q)
    seed = new_seed(q.device) if dropout and seed is None else seed
    return _with_lse(q, k, v, is_causal, window, scale, key_mask, dropout, seed)[0]


def _with_lse(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, window: int | None, scale: float | None,
    key_mask: Tensor | None = None, dropout: float = 0.0, seed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return what the kernels leave: the output, and log Σ e^score of each query in float32."""
    d, scale = q.shape[-1], _scale(q, scale)
    more = (key_mask, dropout, seed)
    if scale < 0:  # the kernels multiply a maximum by it
        return _with_lse(-q, k, v, is_causal, window, -scale, *more)
    if d % 16:  # else rows begin anywhere, and every number is fetched by itself
        q, k, v = (F.pad(x, (0, -d % 16)) for x in (q, k, v))
        out, lse = _with_lse(q, k, v, is_causal, window, scale, *more)
        return out[..., :d], lse
    # its bfloat16 is silently wrong
    if _triton.interpreting() and q.dtype == torch.bfloat16:
        out, lse = _with_lse(
            q.float(), k.float(), v.float(), is_causal, window, scale, *more
        )
        return out.bfloat16(), lse
    seed = seed if dropout else None
    return torch.ops.nnlib.attention(
        q, k, v, key_mask, seed, is_causal, window, scale, dropout
    )


def attention(
    q: Float[Tensor, "b h t d"],
    k: Float[Tensor, "b g s d"],
    v: Float[Tensor, "b g s d"],
    *,
    is_causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    mask: Tensor | None = None,
    key_mask: Bool[Tensor, "b s"] | None = None,
    dropout: float = 0.0,
    seed: Int[Tensor, ""] | None = None,
) -> Float[Tensor, "b h t d"]:
    r"""Scaled dot product attention, $\mathrm{softmax}(q k^\top / \sqrt d)\, v$ over visible keys.

    On a GPU the Triton kernels run, in tiles, with no t × s table in memory, when there is no
    `mask` and heads are at most 128 wide; else the fastest form that plain torch has.

    Args:
        q: queries.
        k: keys; with fewer heads than `q`, each serves h/g queries in a row.
        v: values, of the shape of `k`.
        is_causal: whether a query sees no later key. Query i stands at position i + s - t: the
            last query at the last key, as in decoding. (torch aligns the first with the first.)
        window: how many keys up to its own a query sees, its own among them; ≥ 1, or None.
        scale: what scores are multiplied by; None is 1/√d.
        mask: True where a query may look, or numbers added to the scores; broadcast to b h t s.
        key_mask: True at real keys, False at padding.
        dropout: probability of dropping a weight, 0 … 1; those that stay are divided by 1 − it.
        seed: an integer on the device of `q` that says which weights are dropped, the same in
            every form; None draws one from torch's generator.

    Returns:
        One mixture of values a query; 0 where a query sees nothing.

    Example:
        >>> q, k = torch.tensor([[[[2.0]]]]), torch.tensor([[[[0.0], [1.0], [2.0]]]])
        >>> v = torch.tensor([[[[1.0], [2.0], [3.0]]]])
        >>> attention(q, k, v).item(), attention(q, k, v, window=1).item()
        (2.8509..., 3.0)

    Source: Vaswani et al. 2017; computed in tiles: Dao et al. 2022.
    """
    _check(q, k, v, is_causal, window, scale, mask, key_mask, dropout, seed)
    if mask is None and q.shape[-1] <= WIDEST and _dispatch.use_triton(q):
        seed = new_seed(q.device) if dropout and seed is None else seed
        return _with_lse(q, k, v, is_causal, window, scale, key_mask, dropout, seed)[0]
    # torch's own generator knows nothing of a place
    drawn = bool(dropout) and seed is not None
    if drawn or not (q.shape[2] and k.shape[2]):
        return attention_reference(
            q, k, v, is_causal=is_causal, window=window, scale=scale, mask=mask,
            key_mask=key_mask, dropout=dropout, seed=seed,
        )  # fmt: skip
    return attention_torch(q, k, v, is_causal, window, scale, mask, key_mask, dropout)


def attention_cost(
    q_shape: tuple[int, int, int, int],
    k_shape: tuple[int, int, int, int],
    element_size: int = 4,
    *,
    is_causal: bool = False,
    window: int | None = None,
    backward: bool = False,
) -> Cost:
    """Return the cost of attention in tiles: only pairs that are seen, no table in memory.

    Args:
        q_shape: b, h, t, d of the queries.
        k_shape: b, g, s, d of the keys and of the values.
        element_size: bytes a number.
        is_causal: as `attention` takes it.
        window: as `attention` takes it.
        backward: whether to count the gradient instead.

    Example:
        >>> attention_cost((1, 1, 4, 8), (1, 1, 4, 8), is_causal=True).flops  # 10 of 16 pairs
        320
    """
    b, h, t, d = q_shape
    pairs = visible_pairs(t, k_shape[2], is_causal=is_causal, window=window)
    # a multiplication and an addition, for q·k and for weight·v
    flops = 4 * b * h * pairs * d
    queries, keys = math.prod(q_shape), math.prod(k_shape)
    if backward:  # five products instead of two; reads q k v o do, writes dq dk dv
        return Cost(flops * 5 // 2, (4 * queries + 4 * keys) * element_size)
    return Cost(flops, (2 * queries + 2 * keys) * element_size)


def visible_pairs(
    t: int, s: int, *, is_causal: bool = False, window: int | None = None
) -> int:
    """Return how many pairs of a query and a key `visible` allows, without building its table."""
    position = torch.arange(s - t, s)
    reach = s if window is None else window
    low = (
        (position - reach + 1).clamp(0, s)
        if window is not None
        else torch.zeros_like(position)
    )
    high = (position + (1 if is_causal else reach)).clamp(0, s)
    high = high if is_causal or window is not None else torch.full_like(position, s)
    return int((high - low).clamp(0).sum())


def _scale(q: Tensor, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)


def _check(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, window: int | None, scale: float | None,
    mask: Tensor | None, key_mask: Tensor | None, dropout: float, seed: Tensor | None,
) -> None:  # fmt: skip
    b, h, t, d = checks.tensor("q", q, shape=("b", "h", "t", "d"), floating=True).shape
    checks.tensor("k", k, shape=(b, "g", "s", d), floating=True)
    checks.tensor("v", v, shape=tuple(k.shape), floating=True)
    _dispatch.alike(q=q, k=k, v=v)
    if d == 0:
        raise ValueError("the heads of q must be 1 wide or more, got d = 0")
    if k.shape[1] == 0 or h % k.shape[1]:
        raise ValueError(
            f"the {k.shape[1]} heads of k do not divide the {h} heads of q"
        )
    checks.flag("is_causal", is_causal)
    if window is not None:
        checks.count("window", window)
    if scale is not None:
        checks.number("scale", scale)
    if mask is not None:
        checks.mask("mask", mask, (b, h, t, k.shape[2]))
    if key_mask is not None:
        checks.key_mask("key_mask", key_mask, (b, k.shape[2]))
    checks.number("dropout", dropout, least=0, most=1)
    if seed is not None:
        checks.tensor("seed", seed, shape=(), floating=False)
