"""The blocks of Mamba and Mamba-2, and the short convolution in both.

Part of `nnlib.sequence.mamba`, with its axes.
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.rms_norm import RMSNorm
from nnlib.sequence._mamba_scan import scan_at_once
from nnlib.sequence._mamba_ssd import ssd_at_once
from nnlib.sequence._mamba_state import MambaState, checked_state, first_state

SHORTEST_STEP, LONGEST_STEP = 1e-3, 0.1  # of Δ at the start


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
        t, wide = x.shape[1], torch.cat([past, x], 1)
        if t == 1:  # a step: one product with all taps
            y = (wide * self.weight.T).sum(1, keepdim=True)
            return y if self.bias is None else y + self.bias, wide[:, 1:]
        taps = self.weight.unbind(1)
        y = taps[-1] * x if self.bias is None else torch.addcmul(self.bias, taps[-1], x)
        for j, tap in enumerate(taps[:-1]):
            y = torch.addcmul(y, tap, wide[:, j : j + t])  # eq. mamba-convolution
        return y, wide[:, t:]


class _Mixer(nn.Module):
    """What both blocks share: a map at each end, a convolution, rates, a state."""

    in_proj: nn.Linear
    conv: ShortConv
    A_log: nn.Parameter
    D: nn.Parameter
    state_shape: tuple[int, ...]
    """Of h, without the batch."""

    def _begin(self) -> None:
        """Set what the layers inside have not drawn."""
        raise NotImplementedError

    def reset_parameters(self) -> None:
        """Draw all weights anew, as the authors do."""
        for layer in self.children():
            if isinstance(layer, nn.Linear | ShortConv):
                layer.reset_parameters()
        self._begin()

    @property
    def A(self) -> Float[Tensor, "*d"]:
        """The rates, negative whatever is learned."""
        return -self.A_log.exp()  # eq. mamba-rates

    def new_state(self, batch: int) -> MambaState:
        """Return the state of sequences of which nothing was read.

        Args:
            batch: how many sequences, ≥ 1.
        """
        past = self.conv.new_past(batch)
        return MambaState(past, first_state(None, (batch, *self.state_shape), past))

    def _checked(self, x: Tensor, state: MambaState | None) -> MambaState:
        """Return the state to begin with; refuse an input or a state that does not fit."""
        e = self.in_proj.in_features
        checks.tensor("x", x, shape=("b", "t", e), floating=True)
        return checked_state(state, self.new_state(len(x)))


class MambaMixer(_Mixer):
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
        e, d = _widths(embed_dim, expand)
        n = checks.count("state_size", state_size)
        r = math.ceil(e / 16) if dt_rank is None else checks.count("dt_rank", dt_rank)
        k = checks.count("conv_kernel", conv_kernel)
        self.widths, self.state_shape = (r, n, n), (d, n)
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

    def select(
        self, u: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b t d"], Float[Tensor, "b t n"], Float[Tensor, "b t n"]]:
        """Return Δ, B and C of each step (equation `mamba-select`).

        Args:
            u: the channels after the convolution.
        """
        low, B, C = self.x_proj(u).split(self.widths, -1)
        return F.softplus(self.dt_proj(low)), B, C  # eq. mamba-select

    def forward(
        self, x: Float[Tensor, "b t e"], state: MambaState | None = None
    ) -> tuple[Float[Tensor, "b t e"], MambaState]:
        """Return the outputs, and the state after the last step.

        Args:
            x: inputs.
            state: after what was read before; None: nothing was.
        """
        past, h = self._checked(x, state)
        u, gate = self.in_proj(x).chunk(2, -1)  # eq. mamba-expand
        u, past = self.conv(u, past)
        u = F.silu(u)
        delta, B, C = self.select(u)
        y, h = scan_at_once(u, delta, self.A, B, C, self.D, h)
        return self.out_proj(y * F.silu(gate)), MambaState(past, h)  # eq. mamba-gate


class Mamba2Mixer(_Mixer):
    r"""The block of Mamba-2: all of x, B, C, Δ and the gate from one map; heads; a norm at the end.

    Equations `mamba-two` and `mamba-gated-norm`; the recurrence is `ssd`.

    Arguments that are not named here are those of `MambaMixer`.

    Args:
        embed_dim: width e of what goes in and comes out, ≥ 1.
        state_size: numbers n for each of a head's p channels, ≥ 1.
        head_dim: channels p of a head, which divide expand · e.
        num_groups: groups g, each with a B and a C of its own, which divide the heads.
        norm_eps: ε of the norm, > 0.

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
        e, d = _widths(embed_dim, expand)
        n = checks.count("state_size", state_size)
        p = checks.count("head_dim", head_dim)
        g = checks.count("num_groups", num_groups)
        if d % p:
            raise ValueError(f"head_dim={p} does not divide expand * embed_dim = {d}")
        if (d // p) % g:
            raise ValueError(f"num_groups={g} does not divide the {d // p} heads")
        self.num_heads, self.head_dim = d // p, p
        self.num_groups, self.state_size = g, n
        self.state_shape = (d // p, n, p)
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
        past, h = self._checked(x, state)
        gate, u, delta, B, C, past = self.select(x, past)
        y, h = ssd_at_once(delta[..., None] * u, delta * self.A, B, C, h)
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


def _widths(embed_dim: int, expand: float) -> tuple[int, int]:
    """Return e and d."""
    e = checks.count("embed_dim", embed_dim)
    d = int(checks.number("expand", expand, above=0) * e)
    return e, checks.count("expand * embed_dim", d)


@torch.no_grad()
def _begin_steps(bias: Tensor) -> None:
    """Set a bias so that softplus gives steps spread evenly in the logarithm."""
    low, high = math.log(SHORTEST_STEP), math.log(LONGEST_STEP)
    step = nn.init.uniform_(bias, low, high).exp()
    bias.copy_(step + torch.log(-torch.expm1(-step)))  # eq. mamba-start
