r"""Mamba: a linear recurrence whose step size, write and read directions the input sets.

Chapter: chapters/sequence/mamba.md     Papers: Gu and Dao 2023 (Mamba); Dao and Gu 2024 (Mamba-2);
Lieber et al. 2024 (Jamba, the hybrid)
Forms: `selective_scan` is the recurrence of Mamba, `ssd` that of Mamba-2, each as one pass over all
of time, in chunks, and step by step, all equal.
Axes: b batch, t time, s time looked back at, e model width, d channels, n state, h heads, p head
width, g groups of heads that share B and C, k taps of the convolution, r rank of Δ, l layers.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device
from torch.utils.checkpoint import checkpoint

from nnlib import checks, hugging_face
from nnlib.blocks import sampling
from nnlib.blocks.kv_cache import KVCache
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.hugging_face import Rule
from nnlib.kernels.linear_attention import linear_attention, linear_attention_chunked
from nnlib.kernels.linear_scan import linear_scan
from nnlib.train.evaluating import evaluating

SHORTEST_STEP, LONGEST_STEP = 1e-3, 0.1  # of Δ at the start
SHORT = 32  # steps up to which the matrix of SSD costs a CPU less than chunks


# ------------------------------------------------------------------------------ the selective scan
def selective_scan(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
) -> Float[Tensor, "b t d"]:
    r"""S6, Mamba's recurrence: $h_t = e^{\Delta_t A} h_{t-1} + \Delta_t B_t x_t$, read by $C_t$.

    Every channel has a state of n numbers (equations `mamba-state`, `mamba-output`):
    $y_t = C_t^\top h_t + D x_t$. All of time at once, by `linear_scan`. The state's factor is that
    of a zero-order hold; the input's is Euler's, as in the authors' code (`zoh_factor` has the
    exact one).

    Args:
        x: inputs.
        delta: step sizes Δ ≥ 0. At 0 the state stays as it is and nothing is written.
        A: rates ≤ 0 at which each entry of the state fades; at 0 it never does.
        B: directions in which is written; all channels share them.
        C: directions in which is read.
        D: what goes past the state; None: nothing.

    Returns:
        The outputs y, of the dtype of x; none where there are no steps.

    Raises:
        TypeError: no floating-point tensors.
        ValueError: shapes that do not fit, Δ < 0, or A > 0, with which the state would grow.

    Example:
        >>> x = torch.tensor([8.0, 5.0, 3.0]).view(1, 3, 1)
        >>> delta = torch.tensor([1.0, 0.0, 1.0]).view(1, 3, 1)  # the second is passed over
        >>> half, one = torch.full((1, 1), -math.log(2)), torch.ones(1, 3, 1)
        >>> selective_scan(x, delta, half, one, one).flatten().tolist()
        [8.0, 8.0, 7.0]

    Source: Gu and Dao 2023, algorithm 2.
    """
    return selective_scan_with_state(x, delta, A, B, C, D)[0]


def selective_scan_with_state(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """Return `selective_scan` continued from a state, and the state after the last step.

    Args:
        x: inputs.
        delta: step sizes, ≥ 0.
        A: rates, ≤ 0.
        B: directions of writing.
        C: directions of reading.
        D: what goes past the state.
        state: after what was read before; None: nothing was.
    """
    state = _check_scan(x, delta, A, B, C, D, state)
    return _scan(x, delta, A, B, C, D, state)


def selective_scan_chunked(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
    *,
    chunk: int = 256,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """`selective_scan_with_state` in as many steps at once, whose states are not kept.

    One state a chunk is carried on; the others are computed again for the gradient, so that memory
    holds the states of one chunk instead of all, b t d n of them. It is the authors' way as well.

    Args:
        x: inputs.
        delta: step sizes, ≥ 0.
        A: rates, ≤ 0.
        B: directions of writing.
        C: directions of reading.
        D: what goes past the state.
        state: after what was read before; None: nothing was.
        chunk: steps of a chunk, ≥ 1; the last may be shorter.
    """
    state = _check_scan(x, delta, A, B, C, D, state)
    chunk = checks.count("chunk", chunk)
    outputs = []
    for each in zip(*(part.split(chunk, 1) for part in (x, delta, B, C)), strict=True):
        x_c, delta_c, B_c, C_c = each
        given = (x_c, delta_c, A, B_c, C_c, D, state)
        y, state = checkpoint(_scan, *given, use_reentrant=False)
        outputs.append(y)
    return torch.cat(outputs, 1), state


def selective_scan_reference(
    x: Float[Tensor, "b t d"],
    delta: Float[Tensor, "b t d"],
    A: Float[Tensor, "d n"],
    B: Float[Tensor, "b t n"],
    C: Float[Tensor, "b t n"],
    D: Float[Tensor, " d"] | None = None,
    state: Float[Tensor, "b d n"] | None = None,
) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b d n"]]:
    """`selective_scan_with_state` as its equations read: a loop."""
    h = _check_scan(x, delta, A, B, C, D, state)
    outputs = []
    for t in range(x.shape[1]):
        keep = torch.exp(delta[:, t, :, None] * A)  # eq. mamba-zoh
        write = delta[:, t, :, None] * B[:, t, None, :]  # eq. mamba-euler
        h = keep * h + write * x[:, t, :, None]  # eq. mamba-state
        outputs.append((h * C[:, t, None, :]).sum(-1))  # eq. mamba-output
    y = torch.stack(outputs, 1) if outputs else torch.zeros_like(x)
    return (y if D is None else y + D * x), h


def zoh_factor(
    delta: Float[Tensor, "..."], A: Float[Tensor, "..."]
) -> Float[Tensor, "..."]:
    r"""Return $(e^{\Delta A} - 1) / A$: what multiplies B in the exact zero-order hold.

    The authors' code has Δ instead, its limit for small Δ A (equation `mamba-euler`).

    Args:
        delta: step sizes.
        A: rates, of a shape that goes with it; where one is 0, the factor is Δ.

    Example:
        >>> zoh_factor(torch.tensor([0.1, 1.0, 5.0]), torch.tensor(-1.0)).tolist()
        [0.09516258537769318, 0.6321205496788025, 0.9932620525360107]
    """
    checks.tensor("delta", delta, floating=True)
    checks.tensor("A", A, floating=True)
    safe = torch.where(A == 0, torch.ones_like(A), A)
    return torch.where(A == 0, delta, torch.expm1(delta * safe) / safe)


def _scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The scan without its checks: step sizes and rates of the models are right by their making."""
    b, t, d = x.shape
    if not t:
        return torch.zeros_like(x), state
    wide = state.dtype
    u, step, A, B, C = (part.to(wide) for part in (x, delta, A, B, C))
    keep = (step[..., None] * A).exp()  # eq. mamba-zoh
    written = (step * u)[..., None] * B[:, :, None, :]  # eq. mamba-euler
    h = linear_scan(keep.flatten(2), written.flatten(2), state.flatten(1))
    h = h.view(b, t, d, -1)
    y = (h @ C[..., None])[..., 0]  # eq. mamba-output
    if D is not None:
        y = torch.addcmul(y, u, D.to(wide))
    return y.to(x.dtype), h[:, -1]


def _check_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    state: Tensor | None,
) -> Tensor:  # fmt: skip
    """Refuse what does not fit; return the state to begin with."""
    b, t, d = checks.tensor("x", x, shape=("b", "t", "d"), floating=True).shape
    checks.tensor("delta", delta, shape=(b, t, d), floating=True)
    n = checks.tensor("A", A, shape=(d, "n"), floating=True).shape[1]
    checks.tensor("B", B, shape=(b, t, n), floating=True)
    checks.tensor("C", C, shape=(b, t, n), floating=True)
    if D is not None:
        checks.tensor("D", D, shape=(d,), floating=True)
    if checks.readable(delta) and bool((delta < 0).any()):
        raise ValueError(
            f"delta must be ≥ 0, a length of time, got {float(delta.min()):g}"
        )
    if checks.readable(A) and bool((A > 0).any()):
        raise ValueError(f"A must be ≤ 0, or the state grows, got {float(A.max()):g}")
    return _begin(state, (b, d, n), x)


def _begin(state: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return the state to begin with, in float32 at least; refuse one that does not fit."""
    wide = torch.promote_types(like.dtype, torch.float32)
    if state is None:
        return like.new_zeros(shape, dtype=wide)
    checks.tensor("state", state, shape=shape, floating=True)
    if state.device != like.device:
        raise ValueError(
            f"state must be on {like.device} like the inputs, got {state.device}"
        )
    return state.to(wide)


# ---------------------------------------------------------------------- state space duality (SSD)
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

    Args:
        x: values.
        a: logarithm of what stays, ≤ 0.
        B: keys.
        C: queries.
        state: after what was read before; None: nothing was.
        chunk: steps of a chunk, or None.
    """
    b, t, h, p = checks.tensor("x", x, shape=("b", "t", "h", "p"), floating=True).shape
    checks.tensor("a", a, shape=(b, t, h), floating=True)
    _, _, g, n = checks.tensor("B", B, shape=(b, t, "g", "n"), floating=True).shape
    checks.tensor("C", C, shape=(b, t, g, n), floating=True)
    if not g or h % g:
        raise ValueError(f"B has {g} groups, which must divide the {h} heads of x")
    if chunk is not None:
        chunk = checks.count("chunk", chunk)
    if checks.readable(a) and bool((a > 0).any()):
        raise ValueError(
            f"a must be ≤ 0, the logarithm of what stays, got {float(a.max()):g}"
        )
    return _ssd(x, a, B, C, _begin(state, (b, h, n, p), x), chunk)


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
    _, _, g, n = checks.tensor("B", B, shape=(b, t, "g", "n"), floating=True).shape
    checks.tensor("C", C, shape=(b, t, g, n), floating=True)
    if not g or h % g:
        raise ValueError(f"B has {g} groups, which must divide the {h} heads of a")
    total = a.transpose(1, 2).cumsum(-1)  # not mT, which ONNX lacks
    fade = total[..., :, None] - total[..., None, :]
    past = torch.ones(t, t, dtype=torch.bool, device=a.device).tril()
    fade = fade.masked_fill(~past, -math.inf).exp()
    scores = _by_head(C, h) @ _by_head(B, h).transpose(2, 3)
    return fade * scores  # eq. mamba-matrix


def _ssd(
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


# ------------------------------------------------------------- one step of each linear recurrence
def linear_attention_update(S: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Add what is to be found at a key: Katharopoulos et al. 2020."""
    return S + k[..., None] * v[..., None, :]  # eq. mamba-family


def retnet_update(S: Tensor, k: Tensor, v: Tensor, decay: float | Tensor) -> Tensor:
    """Fade all by a constant of the head: Sun et al. 2023."""
    return decay * S + k[..., None] * v[..., None, :]  # eq. mamba-family


def gla_update(S: Tensor, k: Tensor, v: Tensor, keep: Tensor) -> Tensor:
    """Fade each row as the token says (`keep` as wide as a key): Yang et al. 2023."""
    return keep[..., None] * S + k[..., None] * v[..., None, :]  # eq. mamba-family


def mlstm_update(
    S: Tensor, z: Tensor, k: Tensor, v: Tensor, forget: Tensor, write: Tensor
) -> tuple[Tensor, Tensor]:
    """Fade and write behind gates, and sum the keys for a normaliser: Beck et al. 2024."""
    written = (write[..., None] * k)[..., None] * v[..., None, :]
    S = forget[..., None, None] * S + written  # eq. mamba-family
    z = forget[..., None] * z + write[..., None] * k
    return S, z


def ssd_update(S: Tensor, B: Tensor, x: Tensor, a: Tensor) -> Tensor:
    """Fade all by one number that the token sets: Dao and Gu 2024."""
    written = B[..., None] * x[..., None, :]
    return a.exp()[..., None, None] * S + written  # eq. mamba-family


def delta_update(S: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
    """Move what is found at a key (of length 1) towards v by a share β: Schlag et al. 2021."""
    found = (k[..., None, :] @ S)[..., 0, :]
    written = (beta[..., None] * k)[..., None] * (v - found)[..., None, :]
    return S + written  # eq. mamba-family


def rwkv7_update(
    S: Tensor, k: Tensor, v: Tensor, keep: Tensor, removal: Tensor, rate: Tensor
) -> Tensor:
    """Fade each row, and take away what stands at a key of its own: Peng et al. 2025."""
    removed = (removal[..., None, :] @ S)[..., 0, :]  # at a key of length 1
    S = keep[..., None] * S - (rate * removal)[..., None] * removed[..., None, :]
    return S + k[..., None] * v[..., None, :]  # eq. mamba-family


# -------------------------------------------------------------------------------------- the mixers
class MambaState(NamedTuple):
    """What a model keeps between two tokens; of one mixer without l.

    Attributes:
        past: last inputs of the convolutions, l b k−1 c.
        h: states, l b d n in Mamba and l b h n p in Mamba-2.
    """

    past: Tensor
    h: Tensor


class ShortConv(nn.Module):
    r"""Causal convolution of each channel by itself: $\sum_j w_j x_{t-j}$ over k taps, plus a bias.

    Args:
        channels: c, ≥ 1.
        kernel_size: taps k, ≥ 1; the last of the weight is that of the current step.
        bias: whether one is added.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> conv = ShortConv(channels=3, kernel_size=4)
        >>> y, past = conv(torch.zeros(2, 5, 3), conv.new_past(2))
        >>> y.shape, past.shape
        (torch.Size([2, 5, 3]), torch.Size([2, 3, 3]))
    """

    def __init__(
        self, channels: int, kernel_size: int, bias: bool = True, *, device: Device = None,
        dtype: torch.dtype | None = None,
    ):  # fmt: skip
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        c = checks.count("channels", channels)
        k = checks.count("kernel_size", kernel_size)
        self.weight = nn.Parameter(torch.empty(c, k, **like))
        self.bias = (
            nn.Parameter(torch.empty(c, **like)) if checks.flag("bias", bias) else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as `torch.nn.Conv1d` does, and begin with a bias of 0."""
        bound = self.weight.shape[1] ** -0.5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def new_past(self, batch: int) -> Float[Tensor, "b j c"]:
        """Return what stands before the first step: zeros.

        Args:
            batch: how many sequences, ≥ 1.
        """
        c, k = self.weight.shape
        return self.weight.new_zeros(checks.count("batch", batch), k - 1, c)

    def forward(
        self, x: Float[Tensor, "b t c"], past: Float[Tensor, "b j c"]
    ) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b j c"]]:
        """Return the outputs, and the inputs that the next step needs.

        Args:
            x: inputs.
            past: the k − 1 inputs before them.
        """
        t, taps = x.shape[1], self.weight.unbind(1)
        wide = torch.cat([past, x], 1)
        y = taps[-1] * x if self.bias is None else torch.addcmul(self.bias, taps[-1], x)
        for j, tap in enumerate(taps[:-1]):
            y = torch.addcmul(y, tap, wide[:, j : j + t])  # eq. mamba-convolution
        return y, wide[:, t:]


class MambaMixer(nn.Module):
    r"""The block of Mamba: expand, convolve, choose Δ, B and C, scan, gate, contract.

    Equations `mamba-expand`, `mamba-select`, `mamba-state`, `mamba-output` and `mamba-gate`.

    Args:
        embed_dim: width e of what goes in and comes out, ≥ 1.
        state_size: numbers n a channel keeps, ≥ 1.
        expand: channels d over e, > 0.
        conv_kernel: taps of the convolution, ≥ 1.
        dt_rank: rank r of the map to Δ; None is e / 16, rounded up.
        bias: whether the maps at both ends have one.
        conv_bias: whether the convolution has one.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> mixer = MambaMixer(embed_dim=16)
        >>> y, state = mixer(torch.zeros(2, 5, 16))
        >>> y.shape, state.h.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 32, 16]))

    Source: Gu and Dao 2023, figure 3.
    """

    def __init__(
        self,
        embed_dim: int,
        state_size: int = 16,
        expand: float = 2,
        conv_kernel: int = 4,
        dt_rank: int | None = None,
        *,
        bias: bool = False,
        conv_bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        e = checks.count("embed_dim", embed_dim)
        n = checks.count("state_size", state_size)
        d = int(checks.number("expand", expand, above=0) * e)
        checks.count("expand * embed_dim", d)
        r = math.ceil(e / 16) if dt_rank is None else checks.count("dt_rank", dt_rank)
        k = checks.count("conv_kernel", conv_kernel)
        self.widths = (r, n, n)
        self.in_proj = nn.Linear(e, 2 * d, bias=checks.flag("bias", bias), **like)
        self.conv = ShortConv(d, k, checks.flag("conv_bias", conv_bias), **like)
        self.x_proj = nn.Linear(d, r + 2 * n, bias=False, **like)
        self.dt_proj = nn.Linear(r, d, **like)
        self.A_log = nn.Parameter(torch.empty(d, n, **like))
        self.D = nn.Parameter(torch.empty(d, **like))
        self.out_proj = nn.Linear(d, e, bias=bias, **like)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Set what the layers inside have not drawn: rates 1 … n, and steps of many lengths."""
        r, n = self.widths[:2]
        self.A_log.copy_(
            torch.arange(1, n + 1).log().expand_as(self.A_log)
        )  # eq. mamba-start
        nn.init.ones_(self.D)
        nn.init.uniform_(self.dt_proj.weight, -(r**-0.5), r**-0.5)
        _begin_steps(self.dt_proj.bias)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for layer in (
            self.in_proj,
            self.conv,
            self.x_proj,
            self.dt_proj,
            self.out_proj,
        ):
            layer.reset_parameters()
        self._begin()

    @property
    def A(self) -> Float[Tensor, "d n"]:
        """The rates, negative whatever is learned."""
        return -self.A_log.exp()  # eq. mamba-rates

    def select(
        self, u: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t n"], Float[Tensor, "b t n"]]:
        """Return Δ, B and C of each step (equation `mamba-select`).

        Args:
            u: the channels after the convolution.
        """
        low, B, C = self.x_proj(u).split(self.widths, -1)
        return F.softplus(self.dt_proj(low)), B, C  # eq. mamba-select

    def new_state(self, batch: int) -> MambaState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        past = self.conv.new_past(batch)
        return MambaState(past, _begin(None, (batch, *self.A_log.shape), past))

    def forward(
        self, x: Float[Tensor, "b t e"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b t e"], MambaState]:
        """Return the outputs, and the state after the last step.

        Args:
            x: inputs.
            state: after what was read before; None: nothing was.
        """
        past, h = _checked_state(self, x, state)
        u, gate = self.in_proj(x).chunk(2, -1)  # eq. mamba-expand
        u, past = self.conv(u, past)
        u = F.silu(u)
        y, h = _scan(u, *self._ordered(u), self.D, h)
        return self.out_proj(y * F.silu(gate)), MambaState(past, h)  # eq. mamba-gate

    def _ordered(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        delta, B, C = self.select(u)
        return delta, self.A, B, C


class Mamba2Mixer(nn.Module):
    r"""The block of Mamba-2: all of x, B, C, Δ and the gate from one map; heads; a norm at the end.

    Equations `mamba-two` and `mamba-gated-norm`; the recurrence is `ssd`.

    Args:
        embed_dim: width e of what goes in and comes out, ≥ 1.
        state_size: numbers n for each of a head's p channels, ≥ 1.
        head_dim: channels p of a head, which divide expand · e.
        expand: channels over e, > 0.
        conv_kernel: taps of the convolution, ≥ 1.
        num_groups: groups g, each with a B and a C of its own, which divide the heads.
        norm_eps: ε of the norm, > 0.
        bias: whether the maps at both ends have one.
        conv_bias: whether the convolution has one.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> mixer = Mamba2Mixer(embed_dim=16, state_size=8, head_dim=4)
        >>> y, state = mixer(torch.zeros(2, 5, 16))
        >>> y.shape, state.h.shape
        (torch.Size([2, 5, 16]), torch.Size([2, 8, 8, 4]))

    Source: Dao and Gu 2024, figure 6.
    """

    def __init__(
        self,
        embed_dim: int,
        state_size: int = 128,
        head_dim: int = 64,
        expand: float = 2,
        conv_kernel: int = 4,
        num_groups: int = 1,
        *,
        norm_eps: float = 1e-5,
        bias: bool = False,
        conv_bias: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        e = checks.count("embed_dim", embed_dim)
        n = checks.count("state_size", state_size)
        d = int(checks.number("expand", expand, above=0) * e)
        checks.count("expand * embed_dim", d)
        p = checks.count("head_dim", head_dim)
        g = checks.count("num_groups", num_groups)
        if d % p:
            raise ValueError(f"head_dim={p} does not divide expand * embed_dim = {d}")
        if (d // p) % g:
            raise ValueError(f"num_groups={g} does not divide the {d // p} heads")
        self.num_heads, self.head_dim = d // p, p
        self.num_groups, self.state_size = g, n
        mixed = d + 2 * g * n
        self.widths, self.mixed = (d, mixed, d // p), (d, g * n, g * n)
        self.in_proj = nn.Linear(
            e, sum(self.widths), bias=checks.flag("bias", bias), **like
        )
        k = checks.count("conv_kernel", conv_kernel)
        self.conv = ShortConv(mixed, k, checks.flag("conv_bias", conv_bias), **like)
        self.dt_bias = nn.Parameter(torch.empty(d // p, **like))
        self.A_log = nn.Parameter(torch.empty(d // p, **like))
        self.D = nn.Parameter(torch.empty(d // p, **like))
        # one mean square a group: eq. mamba-gated-norm
        eps = checks.number("norm_eps", norm_eps, above=0)
        self.norm_weight = nn.Parameter(torch.empty(d, **like))
        self.norm = RMSNorm(d // g, eps=eps, elementwise_affine=False)
        self.out_proj = nn.Linear(d, e, bias=bias, **like)
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Set what the layers inside have not drawn: rates 1 … 16, and steps of many lengths."""
        nn.init.uniform_(self.A_log, 1, 16).log_()
        nn.init.ones_(self.D)
        nn.init.ones_(self.norm_weight)
        _begin_steps(self.dt_bias)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for layer in (self.in_proj, self.conv, self.out_proj):
            layer.reset_parameters()
        self._begin()

    @property
    def A(self) -> Float[Tensor, " h"]:
        """The rate of each head, negative whatever is learned."""
        return -self.A_log.exp()  # eq. mamba-rates

    def new_state(self, batch: int) -> MambaState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        past = self.conv.new_past(batch)
        shape = (batch, self.num_heads, self.state_size, self.head_dim)
        return MambaState(past, _begin(None, shape, past))

    def select(
        self, x: Float[Tensor, "b t e"], past: Float[Tensor, "b j c"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Return gate, x, Δ, B and C of each step, and the inputs that the next step needs.

        Args:
            x: inputs.
            past: the inputs of the convolution before them.
        """
        gate, mixed, low = self.in_proj(x).split(self.widths, -1)
        mixed, past = self.conv(mixed, past)
        u, B, C = F.silu(mixed).split(self.mixed, -1)
        delta = F.softplus(low + self.dt_bias)  # eq. mamba-two
        u = u.unflatten(-1, (self.num_heads, self.head_dim))
        B, C = (
            part.unflatten(-1, (self.num_groups, self.state_size)) for part in (B, C)
        )
        return gate, u, delta, B, C, past

    def forward(
        self, x: Float[Tensor, "b t e"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b t e"], MambaState]:
        """Return the outputs, and the state after the last step.

        Args:
            x: inputs.
            state: after what was read before; None: nothing was.
        """
        past, h = _checked_state(self, x, state)
        gate, u, delta, B, C, past = self.select(x, past)
        y, h = _ssd(delta[..., None] * u, delta * self.A, B, C, h)
        y = torch.addcmul(y, self.D[:, None], u).flatten(2)
        return self.out_proj(self.gated_norm(y, gate)), MambaState(past, h)

    def gated_norm(
        self, y: Float[Tensor, "b t d"], gate: Float[Tensor, "b t d"]
    ) -> Float[Tensor, "b t d"]:
        """Return RMSNorm(y · SiLU(gate)), each group by itself (equation `mamba-gated-norm`).

        Args:
            y: what was read from the state.
            gate: as wide.
        """
        grouped = (y * F.silu(gate)).unflatten(-1, (self.num_groups, -1))
        return self.norm(grouped).flatten(-2) * self.norm_weight  # eq. mamba-gated-norm


@torch.no_grad()
def _begin_steps(bias: Tensor) -> None:
    """Set a bias so that softplus gives steps spread evenly in the logarithm."""
    low, high = math.log(SHORTEST_STEP), math.log(LONGEST_STEP)
    step = nn.init.uniform_(bias, low, high).exp()
    bias.copy_(step + torch.log(-torch.expm1(-step)))  # eq. mamba-start


def _checked_state(mixer: Any, x: Tensor, state: MambaState | None) -> MambaState:
    """Return the state to begin with; refuse one of another mixer or batch."""
    checks.tensor("x", x, shape=("b", "t", mixer.in_proj.in_features), floating=True)
    new = mixer.new_state(len(x))
    if state is None:
        return new
    if not isinstance(state, tuple) or len(state) != 2:
        raise TypeError(f"state must be a MambaState, got {type(state).__name__}")
    for name, part, wanted in zip(MambaState._fields, state, new, strict=True):
        checks.tensor(f"state.{name}", part, shape=tuple(wanted.shape), floating=True)
    return MambaState(*state)


# -------------------------------------------------------------------------------------- the models
class MambaLayer(nn.Module):
    r"""A mixer behind a norm, added to the stream: $x + \mathrm{mixer}(\mathrm{norm}(x))$.

    Args:
        mixer: a `MambaMixer` or a `Mamba2Mixer`.
        norm: what comes before it.
    """

    def __init__(self, mixer: MambaMixer | Mamba2Mixer, norm: RMSNorm):
        super().__init__()
        self.norm, self.mixer = norm, mixer

    def forward(
        self, x: Float[Tensor, "b t e"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b t e"], MambaState]:
        """Return the stream after the layer, and the mixer's state.

        Args:
            x: the stream.
            state: of the mixer.
        """
        y, state = self.mixer(self.norm(x), state)
        return x + y, state  # eq. mamba-layer


class _Reader(nn.Module):
    """What both models share: tokens, layers, a norm, logits; reading, stepping, writing."""

    vocab_size: int
    layers: Any  # of MambaLayer
    norm: Any

    def _build(
        self, vocab_size: int, embed_dim: int, mixers: list[Any], eps: float, tied: bool,
        like: dict[str, Any],
    ) -> None:  # fmt: skip
        self.vocab_size = checks.count("vocab_size", vocab_size)
        eps = checks.number("norm_eps", eps, above=0)
        self.token_embedding = nn.Embedding(vocab_size, embed_dim, **like)
        self.layers = nn.ModuleList(
            MambaLayer(mixer, RMSNorm(embed_dim, eps=eps, **like)) for mixer in mixers
        )
        self.norm = RMSNorm(embed_dim, eps=eps, **like)
        free = not checks.flag("tie_embeddings", tied)
        self.head = (
            nn.Linear(embed_dim, vocab_size, bias=False, **like) if free else None
        )
        self._begin()

    @torch.no_grad()
    def _begin(self) -> None:
        """Draw token vectors; scale what is added to the stream by 1/√l, as in GPT-2."""
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        for layer in self.layers:
            layer.mixer.out_proj.weight.div_(len(self.layers) ** 0.5)

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for layer in self.layers:
            nn.init.ones_(layer.norm.weight)
            layer.mixer.reset_parameters()
        nn.init.ones_(self.norm.weight)
        if self.head is not None:
            self.head.reset_parameters()
        self._begin()

    def forward(
        self, ids: Int[Tensor, "b t"], state: MambaState | None = None
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers.
            state: of what was read before, from `with_state` or `step`; None: nothing.
        """
        return self.with_state(ids, state)[0]

    def with_state(
        self, ids: Int[Tensor, "b t"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b t v"], MambaState]:
        """Return the logits, and the state after the last token.

        Args:
            ids: token numbers.
            state: of what was read before; None: nothing.
        """
        checks.tokens("ids", ids, self.vocab_size)
        state = self._checked(len(ids), state)
        x, after = self.token_embedding(ids), []
        for layer, *parts in zip(self.layers, *state, strict=True):
            x, one = layer(x, MambaState(*parts))
            after.append(one)
        x = self.norm(x)
        weight = self.token_embedding.weight if self.head is None else self.head.weight
        return F.linear(x, weight), _stacked(after)

    def step(
        self, ids: Int[Tensor, " b"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b v"], MambaState]:
        """Read one token of each sequence: return the logits of the next, and the new state.

        Args:
            ids: one token number a sequence.
            state: of what was read before; None: nothing.
        """
        checks.tokens("ids", ids, self.vocab_size, shape=("b",))
        logits, state = self.with_state(ids[:, None], state)
        return logits[:, 0], state

    def new_state(self, batch: int) -> MambaState:
        """Return the state of sequences of which nothing was read; its size never changes.

        Args:
            batch: how many sequences, ≥ 1.
        """
        return _stacked([layer.mixer.new_state(batch) for layer in self.layers])

    @torch.no_grad()
    def generate(
        self,
        ids: Int[Tensor, "b t"],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "b s"]:
        """Return the prompts and what follows them: one pass over the prompt, then `step` by step.

        Args:
            ids: prompts of one token or more.
            max_new_tokens: tokens to add, ≥ 1; there is no longest text.
            temperature: ≥ 0; 0 takes the most probable token.
            top_k: draw among the k most probable; ≥ 1, or None for all.
            top_p: draw among the fewest most probable that reach p; in (0, 1], or None.
            generator: of the random numbers; None is torch's own.
        """
        new = checks.count("max_new_tokens", max_new_tokens)
        rule = sampling.checked_rule(temperature, top_k, top_p, None, self.vocab_size)
        with evaluating(self):
            logits, state = self.with_state(ids)
            logits, written = logits[:, -1], [ids]
            for left in range(new, 0, -1):
                if temperature == 0:
                    token = logits.argmax(-1)
                else:
                    p = sampling.filtered(logits, *rule)
                    token = torch.multinomial(p, 1, generator=generator)[:, 0]
                written.append(token[:, None])
                if left > 1:
                    logits, state = self.step(token, state)
        return torch.cat(written, 1)

    def _checked(self, batch: int, state: MambaState | None) -> MambaState:
        new = self.new_state(batch)
        if state is None:
            return new
        if not isinstance(state, tuple) or len(state) != 2:
            raise TypeError(f"state must be a MambaState, got {type(state).__name__}")
        for name, part, wanted in zip(MambaState._fields, state, new, strict=True):
            checks.tensor(
                f"state.{name}", part, shape=tuple(wanted.shape), floating=True
            )
        return MambaState(*state)

    @classmethod
    def _read(cls, model_or_path: Any, kind: str, sizes: dict[str, str]) -> Any:
        """Return the model of `transformers` with its weights."""
        config, tensors = hugging_face.read_model(model_or_path, kind, sizes)
        # a saved configuration spells infinity as {"__float__": "Infinity"}
        limit = tuple(
            float(bound["__float__"] if isinstance(bound, dict) else bound)
            for bound in config.get("time_step_limit", (0.0, math.inf))
        )
        hugging_face.refuse_options(
            config | {"time_step_limit": limit},
            {"hidden_act": "silu", "time_step_limit": (0.0, math.inf)},
        )
        tied = config.get("tie_word_embeddings", kind == "mamba")
        made = cls(
            **{ours: config[name] for name, ours in sizes.items()},
            norm_eps=config.get("layer_norm_epsilon", 1e-5),
            bias=config.get("use_bias", False),
            conv_bias=config.get("use_conv_bias", True),
            tie_embeddings=tied,
        )
        head = tensors.pop("lm_head.weight", None) if tied else None
        hugging_face.load_renamed(made, tensors, _RULES)
        own = made.token_embedding.weight
        if head is not None and not torch.equal(head, own.to(head.dtype)):
            raise ValueError(
                "lm_head.weight must equal embeddings.weight where they are tied"
            )
        return made.eval()


class Mamba(_Reader):
    r"""A language model of selective scans: no attention, and a state of constant size.

    `forward` reads all tokens at once; `step` takes one, with d (n + k − 1) numbers a layer,
    however many came before.

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: layers l, ≥ 1.
        state_size: numbers n a channel keeps, ≥ 1.
        expand: channels d over e, > 0.
        conv_kernel: taps k of the convolutions, ≥ 1.
        dt_rank: rank r of the map to Δ; None is e / 16, rounded up.
        norm_eps: ε of the norms, > 0.
        bias: whether the maps at both ends of a mixer have one.
        conv_bias: whether the convolutions have one.
        tie_embeddings: whether the token vectors are the last layer's weights, too.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = Mamba(vocab_size=11, embed_dim=8, num_layers=2)
        >>> logits, state = model.with_state(torch.tensor([[1, 2, 3]]))
        >>> logits.shape, model.step(torch.tensor([4]), state)[0].shape
        (torch.Size([1, 3, 11]), torch.Size([1, 11]))

    Source: Gu and Dao 2023.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        *,
        state_size: int = 16,
        expand: float = 2,
        conv_kernel: int = 4,
        dt_rank: int | None = None,
        norm_eps: float = 1e-5,
        bias: bool = False,
        conv_bias: bool = True,
        tie_embeddings: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        mixers = [
            MambaMixer(
                embed_dim, state_size, expand, conv_kernel, dt_rank, bias=bias,
                conv_bias=conv_bias, **like,
            )
            for _ in range(checks.count("num_layers", num_layers))
        ]  # fmt: skip
        self._build(vocab_size, embed_dim, mixers, norm_eps, tie_embeddings, like)

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "Mamba":
        """Return the Mamba of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `MambaForCausalLM`, the folder of a saved one, or its
                name on the hub, such as "state-spaces/mamba-130m-hf".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        made: Mamba = cls._read(model_or_path, "mamba", _SIZES)
        return made


class Mamba2(_Reader):
    r"""Mamba with heads: one decay a head and step, so that it computes by matrix products.

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: layers l, ≥ 1.
        state_size: numbers n for each channel, ≥ 1.
        head_dim: channels p of a head, which divide expand · e.
        expand: channels over e, > 0.
        conv_kernel: taps k of the convolutions, ≥ 1.
        num_groups: groups of heads with a B and a C of their own; they divide the heads.
        norm_eps: ε of the norms, > 0.
        bias: whether the maps at both ends of a mixer have one.
        conv_bias: whether the convolutions have one.
        tie_embeddings: whether the token vectors are the last layer's weights, too.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = Mamba2(vocab_size=11, embed_dim=8, num_layers=2, state_size=4, head_dim=4)
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 11])

    Source: Dao and Gu 2024.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        *,
        state_size: int = 128,
        head_dim: int = 64,
        expand: float = 2,
        conv_kernel: int = 4,
        num_groups: int = 1,
        norm_eps: float = 1e-5,
        bias: bool = False,
        conv_bias: bool = True,
        tie_embeddings: bool = True,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        mixers = [
            Mamba2Mixer(
                embed_dim, state_size, head_dim, expand, conv_kernel, num_groups,
                norm_eps=norm_eps, bias=bias, conv_bias=conv_bias, **like,
            )
            for _ in range(checks.count("num_layers", num_layers))
        ]  # fmt: skip
        self._build(vocab_size, embed_dim, mixers, norm_eps, tie_embeddings, like)

    @classmethod
    def from_hugging_face(cls, model_or_path: nn.Module | str | Path) -> "Mamba2":
        """Return the Mamba-2 of `transformers` with its weights, in evaluation mode.

        Args:
            model_or_path: an instance of `Mamba2ForCausalLM`, the folder of a saved one, or its
                name on the hub, such as "AntonV/mamba2-130m-hf".

        Raises:
            ConnectionError: a name on the hub, which cannot be reached.
        """
        made: Mamba2 = cls._read(model_or_path, "mamba2", _SIZES2)
        return made


class HybridMamba(nn.Module):
    r"""Jamba's mixture: of every so many layers one attends, the others scan.

    Each layer is a mixer and then a SwiGLU network, each behind a norm and added to the stream
    (equation `mamba-hybrid`). The attention has no positions: the scans below it know the order.
    (Jamba also gives every second network several experts.)

    Args:
        vocab_size: number of tokens v, ≥ 1.
        embed_dim: width e of the stream, ≥ 1.
        num_layers: layers l, ≥ 1.
        num_heads: heads of the attention, which divide e.
        attention_every: one of as many layers attends, the middle one; ≥ 1.
        state_size: numbers n a channel of the scans keeps, ≥ 1.
        dim_feedforward: hidden width of the networks; None is 2e.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = HybridMamba(vocab_size=11, embed_dim=8, num_layers=8, num_heads=2)
        >>> [type(layer).__name__ for layer in model.mixers][3:6]
        ['MambaMixer', 'MultiHeadAttention', 'MambaMixer']
        >>> model(torch.tensor([[1, 2, 3]])).shape
        torch.Size([1, 3, 11])

    Source: Lieber et al. 2024, figure 2.
    """

    mixers: Any  # of MambaMixer and MultiHeadAttention

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        attention_every: int = 8,
        *,
        state_size: int = 16,
        dim_feedforward: int | None = None,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.vocab_size = checks.count("vocab_size", vocab_size)
        e = checks.count("embed_dim", embed_dim)
        every = checks.count("attention_every", attention_every)
        wide = 2 * e
        if dim_feedforward is not None:
            wide = checks.count("dim_feedforward", dim_feedforward)
        depth = range(checks.count("num_layers", num_layers))
        self.token_embedding = nn.Embedding(vocab_size, e, **like)
        self.mixers = nn.ModuleList(
            MultiHeadAttention(e, num_heads, bias=False, **like)
            if number % every == every // 2
            else MambaMixer(e, state_size, **like)
            for number in depth
        )
        self.mixer_norms = nn.ModuleList(RMSNorm(e, eps=1e-6, **like) for _ in depth)
        self.network_norms = nn.ModuleList(RMSNorm(e, eps=1e-6, **like) for _ in depth)
        self.up = nn.ModuleList(
            nn.Linear(e, 2 * wide, bias=False, **like) for _ in depth
        )
        self.down = nn.ModuleList(nn.Linear(wide, e, bias=False, **like) for _ in depth)
        self.norm = RMSNorm(e, eps=1e-6, **like)
        self.head = nn.Linear(e, vocab_size, bias=False, **like)

    def forward(
        self, ids: Int[Tensor, "b t"], state: list[Any] | None = None
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers.
            state: from `new_state`, to read on from what was read before; it is updated. (Without
                gradients.)
        """
        checks.tokens("ids", ids, self.vocab_size)
        if state is not None and len(state) != len(self.mixers):
            raise ValueError(
                f"state must have {len(self.mixers)} entries, got {len(state)}"
            )
        x = self.token_embedding(ids)
        for number, mixer in enumerate(self.mixers):
            before = self.mixer_norms[number](x)
            kept = None if state is None else state[number]
            if isinstance(mixer, MultiHeadAttention):
                y = mixer(before, is_causal=True, cache=kept)
            else:
                y, kept = mixer(before, kept)
                if state is not None:
                    state[number] = kept
            x = x + y  # eq. mamba-hybrid
            gate, up = self.up[number](self.network_norms[number](x)).chunk(2, -1)
            x = x + self.down[number](F.silu(gate) * up)
        return self.head(self.norm(x))

    def new_state(self, batch: int, max_length: int) -> list[Any]:
        """Return an empty state: a `MambaState` for each scan, a cache for each attention.

        Args:
            batch: how many sequences, ≥ 1.
            max_length: positions that the caches have room for, ≥ 1.
        """
        return [
            KVCache(max_length)
            if isinstance(mixer, MultiHeadAttention)
            else mixer.new_state(batch)
            for mixer in self.mixers
        ]


def _stacked(states: list[MambaState]) -> MambaState:
    return MambaState(*map(torch.stack, zip(*states, strict=True)))


_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "embed_dim",
    "num_hidden_layers": "num_layers",
    "state_size": "state_size",
    "expand": "expand",
    "conv_kernel": "conv_kernel",
    "time_step_rank": "dt_rank",
}
_SIZES2 = {name: ours for name, ours in _SIZES.items() if name != "time_step_rank"} | {
    "head_dim": "head_dim",
    "n_groups": "num_groups",
}
_LAYER = r"(?:backbone\.)?layers\.(\d+)\."
_RULES: list[Rule] = [
    (r"(?:backbone\.)?embeddings\.weight", "token_embedding.weight", None),
    (r"(?:backbone\.)?norm_f\.weight", "norm.weight", None),
    (r"lm_head\.weight", "head.weight", None),
    (_LAYER + r"norm\.weight", r"layers.\1.norm.weight", None),
    (_LAYER + r"mixer\.norm\.weight", r"layers.\1.mixer.norm_weight", None),
    (
        _LAYER + r"mixer\.conv1d\.weight",
        r"layers.\1.mixer.conv.weight",
        lambda w: w.squeeze(1),
    ),
    (_LAYER + r"mixer\.conv1d\.bias", r"layers.\1.mixer.conv.bias", None),
    (_LAYER + r"mixer\.(.+)", r"layers.\1.mixer.\2", None),
]
