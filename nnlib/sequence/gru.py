r"""GRU: one gate that blends the old state with a new one, and one that decides what to compare.

Chapter: chapters/sequence/gru.md     Papers: Cho et al. 2014; minGRU: Feng et al. 2024
Forms: GRU (torch's), ResetBeforeGRU (as published), MinGRU (parallel over time).
Axes: b batch, t time, d input features, h hidden features, l layers times directions.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.recurrent import Recurrent, State
from nnlib.kernels.linear_scan import linear_scan


class GRU(Recurrent):
    r"""$h_t = (1 - z_t) \odot n_t + z_t \odot h_{t-1}$: torch's convention, z keeps the old state.

    $r, z$ are sigmoids of $W x_t + R h_{t-1} + b$, and $n_t = \tanh(W_n x_t + b_n + r_t \odot (R_n
    h_{t-1} + c_n))$: the reset gate acts after the product (equations `gru-reset`, `gru-update`,
    `gru-candidate`, `gru-state`). Takes the arguments of `Recurrent`, which are torch.nn.GRU's,
    batch first, and loads its `state_dict`.

    Example:
        >>> out, state = GRU(3, 5)(torch.zeros(2, 7, 3))
        >>> out.shape, state.shape
        (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))

    Source: Cho et al. 2014, who have the same z, but reset before the product (`ResetBeforeGRU`).
    """

    gates = 3
    fused: Callable[..., Any] | None = staticmethod(torch.gru)

    def cell(
        self, projected: Tensor, state: State, weights: dict[str, Tensor]
    ) -> State:
        """One tick: what to compare with, what is new, how much to keep."""
        (h,) = state
        from_x = projected.chunk(3, -1)
        from_h = F.linear(h, weights["weight_hh"], weights.get("bias_hh")).chunk(3, -1)
        r = (from_x[0] + from_h[0]).sigmoid()  # eq. gru-reset
        z = (from_x[1] + from_h[1]).sigmoid()  # eq. gru-update
        n = (from_x[2] + r * from_h[2]).tanh()  # eq. gru-candidate
        return ((1 - z) * n + z * h,)  # eq. gru-state


class ResetBeforeGRU(Recurrent):
    r"""$n_t = \tanh(W_n x_t + b_n + R_n (r_t \odot h_{t-1}) + c_n)$; the rest as in `GRU`.

    The reset gate acts before the product (equation `gru-candidate-before`): another class of
    functions from two units on, with the same parameters. It has no fused operator, so that
    `forward` is the loop. Weights of Chung et al., who write $1 - z$ for our z, fit after the
    z rows of both weights and both biases have changed their sign. Arguments as for `GRU`.

    Example:
        >>> out, state = ResetBeforeGRU(3, 5)(torch.zeros(2, 7, 3))
        >>> out.shape, state.shape
        (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))

    Source: Cho et al. 2014, with the same z; Chung et al. 2014.
    """

    gates = 3

    def cell(
        self, projected: Tensor, state: State, weights: dict[str, Tensor]
    ) -> State:
        """One tick: the old state is reset first, then multiplied."""
        (h,) = state
        x_r, x_z, x_n = projected.chunk(3, -1)
        to_gates, to_n = weights["weight_hh"].tensor_split([2 * self.hidden_size])
        c_gates, c_n = None, None
        if "bias_hh" in weights:
            c_gates, c_n = weights["bias_hh"].tensor_split([2 * self.hidden_size])
        h_r, h_z = F.linear(h, to_gates, c_gates).chunk(2, -1)
        r = (x_r + h_r).sigmoid()  # eq. gru-reset
        z = (x_z + h_z).sigmoid()  # eq. gru-update
        n = (x_n + F.linear(r * h, to_n, c_n)).tanh()  # eq. gru-candidate-before
        return ((1 - z) * n + z * h,)  # eq. gru-state


class MinGRU(nn.Module):
    r"""$h_t = (1 - z_t) \odot h_{t-1} + z_t \odot \tilde h_t$; $z_t, \tilde h_t$ see only $x_t$.

    The gate ignores the past, so all of time is one linear scan (equations `gru-min-gate`,
    `gru-min-candidate`, `gru-min-state`). Mind the z: here it lets the new in, in `GRU` it keeps
    the old.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: features h of the state, ≥ 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> MinGRU(3, 5)(torch.zeros(2, 7, 3)).shape
        torch.Size([2, 7, 5])

    Source: Feng et al. 2024, whose first form this is, without their logarithms.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = checks.count("input_size", input_size)
        self.hidden_size = checks.count("hidden_size", hidden_size)
        self.to_gate = nn.Linear(input_size, hidden_size, device=device, dtype=dtype)
        self.to_candidate = nn.Linear(
            input_size, hidden_size, device=device, dtype=dtype
        )

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t h"]:
        """Return the states at every step, all of time at once: what training uses."""
        checks.tensor(
            "x", x, shape=("b", "t", self.input_size), floating=True, empty=False
        )
        z = self.to_gate(x).sigmoid()  # eq. gru-min-gate
        return linear_scan(
            1 - z, z * self.to_candidate(x)
        )  # eq. gru-min-candidate, gru-min-state

    def step(
        self, x: Float[Tensor, "b d"], state: Float[Tensor, "b h"] | None = None
    ) -> Float[Tensor, "b h"]:
        """Return the state after one more input, from `state` or from 0: what generation uses."""
        checks.tensor("x", x, shape=("b", self.input_size), floating=True, empty=False)
        if state is None:
            state = x.new_zeros(len(x), self.hidden_size)
        checks.tensor("state", state, shape=(len(x), self.hidden_size), floating=True)
        z = self.to_gate(x).sigmoid()
        return (1 - z) * state + z * self.to_candidate(x)
