"""What a WaveNet is made of: a dilated causal convolution, gates, a way round and a way out.

Part of `nnlib.sequence.wavenet`, with its axes.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks

DILATIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
"""One stack of the paper: 1024 samples in ten layers."""


def receptive_field(kernel_size: int, dilations: Iterable[int]) -> int:
    r"""Return $1 + (K-1)\sum_l d_l$: how many samples, the present one included, a stack hears.

    Equation `wavenet-receptive-field`.

    Args:
        kernel_size: taps K of each layer, ≥ 1.
        dilations: of each layer, ≥ 1; a first convolution that is not dilated counts with 1.

    Example:
        >>> receptive_field(2, [1, 2, 4, 8]), receptive_field(2, DILATIONS)
        (16, 1024)
    """
    kernel_size = checks.count("kernel_size", kernel_size)
    return 1 + (kernel_size - 1) * sum(
        checked_dilations(dilations)
    )  # eq. wavenet-receptive-field


def checked_dilations(dilations: Any) -> list[int]:
    if isinstance(dilations, str | Tensor) or not isinstance(dilations, Iterable):
        raise TypeError(f"dilations={dilations!r} must be a sequence of integers ≥ 1")
    return [
        checks.count(f"dilations[{at}]", value) for at, value in enumerate(dilations)
    ]


def causal_conv1d(
    x: Float[Tensor, "b t c"],
    weight: Float[Tensor, "o c k"],
    bias: Float[Tensor, " o"] | None = None,
    dilation: int = 1,
) -> Float[Tensor, "b t o"]:
    r"""Return $y_t = b + \sum_{j=0}^{K-1} W_j\,x_{t-dj}$, with zeros before the beginning.

    Equation `wavenet-causal`. $W_j$ is `weight[:, :, K - 1 - j]`: as in torch, the last tap lies on
    the present. One matrix product of the taps side by side does it; `causal_conv1d_loop` is the
    readable twin.

    Args:
        x: sequences; b or t may be 0.
        weight: of `torch.nn.Conv1d`'s shape.
        bias: one number a channel that leaves.
        dilation: samples d from one tap to the next, ≥ 1.
    """
    dilation = _check_conv(x, weight, bias, dilation)
    taps = weight.shape[2]
    if taps == 1:
        return F.linear(x, weight[:, :, 0], bias)
    # a tap that reaches back past the beginning sees zeros only: no more of them than samples
    seen = [delayed(x, dilation * back) for back in range(taps - 1, -1, -1)]
    rows = weight.transpose(1, 2).flatten(1)  # o (k c)
    return F.linear(torch.cat(seen, -1), rows, bias)  # eq. wavenet-causal


def delayed(x: Tensor, steps: int) -> Tensor:
    """Return x later by so many samples, with zeros before it, and as long as it was."""
    steps = min(steps, x.shape[1])
    return F.pad(x[:, : x.shape[1] - steps], (0, 0, steps, 0)) if steps else x


def causal_conv1d_loop(
    x: Float[Tensor, "b t c"],
    weight: Float[Tensor, "o c k"],
    bias: Float[Tensor, " o"] | None = None,
    dilation: int = 1,
) -> Float[Tensor, "b t o"]:
    """Return what `causal_conv1d` returns, one sample and one tap after the other."""
    dilation = _check_conv(x, weight, bias, dilation)
    outputs, _, taps = weight.shape
    y = x.new_zeros(*x.shape[:2], outputs) + (0 if bias is None else bias)
    for t in range(x.shape[1]):
        for back in range(taps):
            if (at := t - dilation * back) >= 0:  # eq. wavenet-causal
                y[:, t] = y[:, t] + x[:, at] @ weight[:, :, taps - 1 - back].T
    return y


def _check_conv(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> int:
    checks.tensor("weight", weight, shape=("o", "c", "k"), floating=True, empty=False)
    checks.tensor("x", x, shape=("b", "t", weight.shape[1]), floating=True)
    if bias is not None:
        checks.tensor("bias", bias, shape=(weight.shape[0],), floating=True)
    return checks.count("dilation", dilation)


class CausalConv1d(nn.Module):
    r"""A convolution over time that sees the present and the past, never the future.

    $y_t = b + \sum_{j=0}^{K-1} W_j\,x_{t-dj}$ (equation `wavenet-causal`). It is as long as its
    input, and takes the weights of `torch.nn.Conv1d` as they are; but its input is `b t c`, as all
    sequences are here, where `torch.nn.Conv1d` takes `b c t`.

    Args:
        in_channels: c, ≥ 1.
        out_channels: o, ≥ 1.
        kernel_size: taps K, ≥ 1.
        dilation: samples d from one tap to the next, ≥ 1.
        bias: whether b is there.

    Example:
        >>> conv = CausalConv1d(1, 1, kernel_size=2, dilation=3, bias=False)
        >>> _ = nn.init.ones_(conv.weight)
        >>> conv(torch.tensor([1.0, 0, 0, 0, 0]).view(1, 5, 1)).flatten().tolist()
        [1.0, 0.0, 0.0, 1.0, 0.0]

    Source: van den Oord et al. 2016; the doubling dilations, Yu and Koltun 2015.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        dilation: int = 1,
        bias: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        self.out_channels = checks.count("out_channels", out_channels)
        self.kernel_size = checks.count("kernel_size", kernel_size)
        self.dilation = checks.count("dilation", dilation)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        shape = self.out_channels, self.in_channels, self.kernel_size
        self.weight = nn.Parameter(torch.empty(shape, **factory))
        has_bias = checks.flag("bias", bias)
        self.bias = (
            nn.Parameter(torch.empty(self.out_channels, **factory))
            if has_bias
            else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights as `torch.nn.Conv1d` does."""
        bound = 1 / math.sqrt(self.in_channels * self.kernel_size)
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Float[Tensor, "b t c"]) -> Float[Tensor, "b t o"]:
        """Return the convolved sequences, as long as they were."""
        return causal_conv1d(x, self.weight, self.bias, self.dilation)

    def extra_repr(self) -> str:
        """Tell what it was built with."""
        sizes = (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}"
        )
        return f"{sizes}, dilation={self.dilation}, bias={self.bias is not None}"


def gated(a: Float[Tensor, "*any c2"]) -> Float[Tensor, "*any c"]:
    """Return the tanh of the first half of the channels times the sigmoid of the second."""
    # copied, since a nonlinearity over halves of rows is several times slower on a CPU
    filtered, gate = (half.contiguous() for half in a.chunk(2, -1))
    return filtered.tanh() * gate.sigmoid()


class GatedLayer(nn.Module):
    r"""One layer: a gated causal convolution, with a way round it and a way out.

    $\mathbf z = \tanh(W_f * \mathbf x + V_f \mathbf c) \odot \sigma(W_g * \mathbf x +
    V_g \mathbf c)$ (equations `wavenet-gate`, `wavenet-global` and `wavenet-local`); then
    $\mathbf x + W_r \mathbf z + \mathbf b_r$ goes on to the next layer and
    $W_s \mathbf z + \mathbf b_s$ to the output (`wavenet-residual`, `wavenet-skip`).

    Args:
        channels: c, of input and output, ≥ 1.
        skip_channels: of what goes to the output, ≥ 1.
        kernel_size: taps, ≥ 1.
        dilation: ≥ 1.
        condition_size: features that the gates hear besides, ≥ 0.
        last: whether no layer follows, so that nothing is passed on.
    """

    def __init__(
        self,
        channels: int,
        skip_channels: int,
        kernel_size: int = 2,
        dilation: int = 1,
        condition_size: int = 0,
        last: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.channels = checks.count("channels", channels)
        checks.count("skip_channels", skip_channels)
        self.condition_size = checks.count("condition_size", condition_size, least=0)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv = CausalConv1d(
            channels, 2 * channels, kernel_size, dilation, **factory
        )
        self.condition = (
            nn.Linear(condition_size, 2 * channels, bias=False, **factory)
            if condition_size
            else None
        )
        self.residual = (
            None
            if checks.flag("last", last)
            else nn.Linear(channels, channels, **factory)
        )
        self.skip = nn.Linear(channels, skip_channels, **factory)

    def forward(
        self,
        x: Float[Tensor, "b t c"],
        condition: Float[Tensor, "b #t l"] | None = None,
    ) -> tuple[Float[Tensor, "b t c"], Float[Tensor, "b t s"]]:
        """Return what goes on to the next layer, and what goes to the output."""
        checks.tensor("x", x, shape=("b", "t", self.channels), floating=True)
        a = self.conv(x)
        if self.condition is not None:
            wanted = (len(x), "t or 1", self.condition_size)
            condition = checks.tensor(
                "condition", condition, shape=wanted, floating=True
            )
            a = a + self.condition(condition)  # eq. wavenet-global, wavenet-local
        elif condition is not None:
            raise ValueError("condition must be None in a layer with condition_size=0")
        z = gated(a)  # eq. wavenet-gate
        onward = (
            x if self.residual is None else x + self.residual(z)
        )  # eq. wavenet-residual
        return onward, self.skip(z)
