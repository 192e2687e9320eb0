r"""Attention over a sequence that is spread over several processes, which stand in a ring.

Chapter: chapters/language/long_context.md     Papers: Liu, Zaharia and Abbeel 2023 (ring
attention); Brandon et al. 2023 (striped); Llama 3 2024 (two chunks a process, here "zigzag")
Axes: b batch, h heads, g heads of keys and values, t positions of one process, d head width.

Each process keeps its queries. Keys and values go round: at step j process p holds those of
process p − j, adds what they contribute, by maximum, sum and mean as FlashAttention does with
tiles, and hands them on. The backward pass goes round once more, and the gradients of keys and
values travel with them, home at last.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch import distributed as dist

from nnlib import checks

LAYOUTS = ("contiguous", "striped", "zigzag")


def ring_positions(
    length: int, processes: int, layout: str = "contiguous"
) -> Int[Tensor, "p t"]:
    """Return which positions of a sequence each process of a ring holds, a row a process.

    Args:
        length: positions in all, ≥ 1; a multiple of `processes`, and twice that for "zigzag".
        processes: how many, ≥ 1.
        layout: "contiguous", one stretch each; "striped", every so manieth position; "zigzag", one
            chunk from the front and one from the back.

    Example:
        >>> for layout in ("contiguous", "striped", "zigzag"):
        ...     print(ring_positions(8, 2, layout).tolist())
        [[0, 1, 2, 3], [4, 5, 6, 7]]
        [[0, 2, 4, 6], [1, 3, 5, 7]]
        [[0, 1, 6, 7], [2, 3, 4, 5]]
    """
    n, p = checks.count("length", length), checks.count("processes", processes)
    checks.one_of("layout", layout, LAYOUTS)
    parts = 2 * p if layout == "zigzag" else p
    if n % parts:
        raise ValueError(
            f"length={n} must be a multiple of {parts} for layout={layout!r}"
        )
    every = torch.arange(n, device="cpu")
    if layout == "striped":
        return every.view(-1, p).T.contiguous()
    chunks = every.view(parts, -1)
    return (
        chunks
        if layout == "contiguous"
        else torch.cat([chunks[:p], chunks.flip(0)[:p]], 1)
    )


def ring_pairs(
    length: int, processes: int, layout: str = "contiguous", is_causal: bool = True
) -> Int[Tensor, "j p"]:
    """Return how many pairs of a query and a key each process has to score at each step.

    A step is over when the busiest process is: equation `long-context-steps`.

    Args:
        length: positions in all.
        processes: in the ring.
        layout: as `ring_positions` takes it.
        is_causal: whether a query sees no later key.

    Example:
        >>> ring_pairs(8, 2).tolist()  # process 0 has nothing to do at the second step
        [[10, 10], [0, 16]]
        >>> ring_pairs(8, 2, "striped").tolist()
        [[10, 10], [6, 10]]
    """
    places = ring_positions(length, processes, layout)
    checks.flag("is_causal", is_causal)
    p = len(places)
    return torch.tensor(
        [
            [
                _seen(places[me], places[me - j], is_causal).sum().item()
                for me in range(p)
            ]
            for j in range(p)
        ],
        device="cpu",
    )


def ring_memory(
    length: int, processes: int, width: int, kv_width: int, element_size: int = 2
) -> int:
    r"""Return the bytes of one process's part of one layer's attention: `long-context-memory`.

    Queries and the answer, and keys and values twice, because the next ones arrive while these are
    used.

    Args:
        length: positions in all, ≥ 1.
        processes: in the ring, which divide them.
        width: of all heads together, h·d.
        kv_width: of all heads of keys and values together, g·d.
        element_size: bytes a number.

    Example:
        >>> ring_memory(131072, 8, 4096, 1024) / 2**20  # Llama 3 8B, MiB
        384.0
    """
    n, p = checks.count("length", length), checks.count("processes", processes)
    if n % p:
        raise ValueError(f"length={n} must be a multiple of processes={p}")
    numbers = 2 * checks.count("width", width) + 4 * checks.count("kv_width", kv_width)
    return n // p * numbers * checks.count("element_size", element_size)


def _seen(mine: Tensor, held: Tensor, is_causal: bool) -> Bool[Tensor, "t s"]:
    """Return which of the keys that are held each of my queries may look at."""
    ahead = held - mine[:, None]
    return ahead <= 0 if is_causal else torch.ones_like(ahead, dtype=torch.bool)


def _part(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """Return the mean of these values alone, and the logarithm of the sum of its weights."""
    group = q.shape[1] // k.shape[1]
    scores = scale * q @ k.repeat_interleave(group, 1).mT
    scores = scores.masked_fill(~seen, -torch.inf)
    lse = scores.logsumexp(-1)
    # a query that sees none of these keys weighs nothing
    floor = lse.masked_fill(lse == -torch.inf, 0.0)[..., None]
    return (scores - floor).exp() @ v.repeat_interleave(group, 1), lse


def _merged(
    out: Tensor, lse: Tensor, more: Tensor, more_lse: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the mean over both sets of keys, and its logarithm: eq. long-context-merge."""
    total = torch.logaddexp(lse, more_lse)
    weigh = (lse - total).exp()[..., None], (more_lse - total).exp()[..., None]
    return weigh[0] * out + weigh[1] * more, total


def ring_attention_reference(
    q: Float[Tensor, "b h n d"],
    k: Float[Tensor, "b g n d"],
    v: Float[Tensor, "b g n d"],
    processes: int,
    *,
    layout: str = "contiguous",
    is_causal: bool = True,
    scale: float | None = None,
) -> Float[Tensor, "b h n d"]:
    """Return what a ring of so many processes would, computed by one, step by step.

    Args:
        q: queries of the whole sequence.
        k: keys.
        v: values.
        processes: in the ring; they divide the sequence.
        layout: as `ring_positions` takes it.
        is_causal: whether a query sees no later key.
        scale: what scores are multiplied by; None is 1/√d.

    Example:
        >>> x = torch.randn(1, 2, 8, 4)
        >>> ring_attention_reference(x, x, x, processes=4).shape
        torch.Size([1, 2, 8, 4])

    Source: Liu, Zaharia and Abbeel 2023.
    """
    scale = checked_scale(q, k, v, is_causal, scale)
    places = ring_positions(q.shape[2], processes, layout).to(q.device)
    q, k, v = (x if x.dtype == torch.float64 else x.float() for x in (q, k, v))

    def part(mine: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
        seen = _seen(mine, held, is_causal)
        return _part(q[:, :, mine], k[:, :, held], v[:, :, held], seen, scale)

    parts = []
    for me, mine in enumerate(places):
        done = part(mine, mine)
        for j in range(1, len(places)):  # eq. long-context-ring
            done = _merged(*done, *part(mine, places[me - j]))
        parts.append(done[0])
    return torch.cat(parts, 2)[:, :, places.flatten().argsort()]


class Ring(torch.autograd.Function):
    """Ring attention and its gradient; what goes round is keys, values and their gradients."""

    @staticmethod
    def forward(q, k, v, places, is_causal, scale, group):
        me, p = place_in(group)
        wide, held = _wide(q), torch.stack([_wide(k), _wide(v)])
        for j in range(p):
            handed = _hand_on(held, group) if j < p - 1 else None
            seen = _seen(places[me], places[me - j], is_causal)
            if j == 0:
                out, lse = _part(wide, held[0], held[1], seen, scale)
            elif bool(seen.any()):  # else there is nothing to do but to hand on
                out, lse = _merged(
                    out, lse, *_part(wide, held[0], held[1], seen, scale)
                )
            held = held if handed is None else _received(handed)
        return out.to(q.dtype), lse

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        q, k, v, places, ctx.is_causal, ctx.scale, ctx.group = inputs
        ctx.save_for_backward(q, k, v, places, *output)
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    def backward(ctx: Any, *grads_of_outputs: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, places, out, lse = ctx.saved_tensors
        me, p = place_in(ctx.group)
        wide, dout = _wide(q), _wide(grads_of_outputs[0])
        sizes = (q.shape[1] // k.shape[1], k.shape[1])  # queries a group, groups
        delta = (dout * _wide(out)).sum(-1, keepdim=True)
        dq = torch.zeros_like(wide)
        held = torch.stack([_wide(k), _wide(v)])
        grads = torch.zeros_like(held)
        for j in range(p):
            seen = _seen(places[me], places[me - j], ctx.is_causal)
            if bool(seen.any()):
                keys, values = (x.repeat_interleave(sizes[0], 1) for x in held)
                scores = (ctx.scale * wide @ keys.mT).masked_fill(~seen, -torch.inf)
                weights = (scores - lse[..., None]).exp()
                dscores = weights * (dout @ values.mT - delta) * ctx.scale
                dq = dq + dscores @ keys
                new = torch.stack([dscores.mT @ wide, weights.mT @ dout])
                grads = grads + new.unflatten(2, sizes[::-1]).sum(3)
            if p > 1:  # the last step brings the gradients home
                held, grads = _received(
                    _hand_on(torch.stack([held, grads]), ctx.group)
                ).unbind()
        return (
            dq.to(q.dtype), grads[0].to(k.dtype), grads[1].to(v.dtype), None, None, None, None,
        )  # fmt: skip


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def place_in(group: Any) -> tuple[int, int]:
    """Return my place in the ring and how many stand in it; a ring of one without processes."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def _hand_on(x: Tensor, group: Any) -> tuple[Tensor, list]:
    """Begin to send `x` to the next and to receive from the one before."""
    me, p = place_in(group)
    x, arriving = x.contiguous(), torch.empty_like(x)
    ends = [(me + 1) % p, (me - 1) % p]
    if group is not None:
        ends = [dist.get_global_rank(group, end) for end in ends]
    both = [
        dist.P2POp(dist.isend, x, ends[0], group),
        dist.P2POp(dist.irecv, arriving, ends[1], group),
    ]
    return arriving, dist.batch_isend_irecv(both)


def _received(handed: tuple[Tensor, list]) -> Tensor:
    for request in handed[1]:
        request.wait()
    return handed[0]


def checked_scale(
    q: Tensor, k: Tensor, v: Tensor, is_causal: bool, scale: float | None
) -> float:
    b, h, t, d = checks.tensor(
        "q", q, shape=("b", "h", "t", "d"), floating=True, empty=False
    ).shape
    checks.tensor("k", k, shape=(b, "g", t, d), floating=True, empty=False)
    checks.tensor("v", v, shape=tuple(k.shape), floating=True)
    if h % k.shape[1]:
        raise ValueError(f"k has {k.shape[1]} heads, which do not divide the {h} of q")
    checks.flag("is_causal", is_causal)
    return d**-0.5 if scale is None else checks.number("scale", scale)
