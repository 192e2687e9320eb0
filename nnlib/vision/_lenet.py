"""LeNet-5 as it was published: subsampling with weights, and a table of connections.

Axes: b batch, c channels, y x rows and columns.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks

# Which maps of S2 each map of C3 reads: table I of LeCun et al. 1998.
_THREES = [tuple((first + k) % 6 for k in range(3)) for first in range(6)]
_FOURS = [tuple((first + k) % 6 for k in range(4)) for first in range(6)]
_SPREAD = [(0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)]
LENET_TABLE = [*_THREES, *_FOURS, *_SPREAD, tuple(range(6))]
"""Which of the six maps below each of the sixteen maps of LeNet-5's second convolution reads."""


def scaled_tanh(a: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""Return $1.7159 \tanh(2a/3)$, which is ±1 at ±1 (equation `cnn-scaled-tanh`)."""
    return 1.7159 * torch.tanh(2 / 3 * a)  # eq. cnn-scaled-tanh


class _Subsampling(nn.Module):
    """LeNet's pooling: the sum of four, times a learned number, plus a learned number."""

    def __init__(self, channels: int, **like: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, **like))
        self.bias = nn.Parameter(torch.empty(channels, **like))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as the mean of four."""
        nn.init.constant_(self.weight, 0.25)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        total = 4 * F.avg_pool2d(x, 2)
        return total * self.weight[:, None, None] + self.bias[:, None, None]


class _TableConv2d(nn.Module):
    """A convolution in which each output reads some of the inputs only, and learns no more."""

    def __init__(self, table: list[tuple[int, ...]], kernel_size: int, **like: Any):
        super().__init__()
        self.outputs = [o for o, inputs in enumerate(table) for _ in inputs]
        self.inputs = [c for inputs in table for c in inputs]
        self.shape = (len(table), 1 + max(self.inputs), kernel_size, kernel_size)
        kernels = (len(self.inputs), kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(kernels, **like))
        self.bias = nn.Parameter(torch.empty(len(table), **like))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw uniformly within ±2.4 over the number of inputs of a unit."""
        nn.init.uniform_(
            self.weight, -2.4 / self.shape[2] ** 2, 2.4 / self.shape[2] ** 2
        )
        maps = torch.bincount(torch.tensor(self.outputs))[self.outputs]
        with torch.no_grad():
            self.weight.div_(maps.to(self.weight)[:, None, None])
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        dense = self.weight.new_zeros(self.shape)
        dense[self.outputs, self.inputs] = self.weight
        return F.conv2d(x, dense, self.bias)


class LeNet5(nn.Module):
    r"""LeNet-5, the network that read cheques: three convolutions, two of them subsampled.

    As published, down to the table of which maps read which, and to the two learned numbers of
    each subsampled map: 60 000 parameters up to the layer F6. The last layer is linear here, where
    the paper has distances to fixed pictures of the characters.

    Args:
        num_classes: scores in the answer, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> LeNet5()(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        classes = checks.count("num_classes", num_classes)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.c1 = nn.Conv2d(1, 6, 5, **like)
        self.s2 = _Subsampling(6, **like)
        self.c3 = _TableConv2d(LENET_TABLE, 5, **like)
        self.s4 = _Subsampling(16, **like)
        self.c5 = nn.Conv2d(16, 120, 5, **like)
        self.f6 = nn.Linear(120, 84, **like)
        self.output = nn.Linear(84, classes, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly within ±2.4 over the number of inputs of a unit, as published."""
        fans: list[tuple[nn.Conv2d | nn.Linear, int]] = [
            (self.c1, 25), (self.c5, 400), (self.f6, 120), (self.output, 84)
        ]  # fmt: skip
        for layer, inputs in fans:
            nn.init.uniform_(layer.weight, -2.4 / inputs, 2.4 / inputs)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for part in (self.s2, self.c3, self.s4):
            part.reset_parameters()

    def forward(self, x: Float[Tensor, "b 1 32 32"]) -> Float[Tensor, "b k"]:
        """Return a score for each class."""
        checks.tensor("x", x, shape=("b", 1, 32, 32), floating=True)
        x = scaled_tanh(self.s2(scaled_tanh(self.c1(x))))  # 6 maps of 14 × 14
        x = scaled_tanh(self.s4(scaled_tanh(self.c3(x))))  # 16 maps of 5 × 5
        x = scaled_tanh(self.c5(x)).flatten(1)  # 120 maps of 1 × 1
        return self.output(scaled_tanh(self.f6(x)))
