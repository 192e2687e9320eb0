"""What drives the heads: a layer of tanh units, or an LSTM; both see the input and what was read.

Axes: b batch, t time, d input features, k hidden units, r numbers that were read.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

Hidden = tuple[Tensor, ...]
"""The controller's own state: nothing, or the LSTM's h and c, each b k."""


class Controller(Protocol):
    """A network whose share of the input is computed for all steps at once."""

    def project(self, x: Tensor) -> Tensor:
        """Return what the input contributes, b t and as many units or gates."""

    def step(self, projected: Tensor, reads: Tensor, hidden: Hidden) -> Hidden:
        """Return the state after a step; its first tensor is the output, b k."""

    def initial(self, batch_size: int) -> Hidden:
        """Return the state before the first step."""


class FeedForward(nn.Linear):
    r"""$\tanh(\mathbf W [\mathbf x; \mathbf r] + \mathbf b)$: it remembers what it writes."""

    def __init__(
        self,
        input_size: int,
        read_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            input_size + read_size, hidden_size, device=device, dtype=dtype
        )
        self.input_size = input_size

    def project(self, x: Tensor) -> Tensor:
        """Return the input's share, with the bias."""
        return F.linear(x, self.weight[:, : self.input_size], self.bias)

    def step(self, projected: Tensor, reads: Tensor, hidden: Hidden) -> Hidden:
        """Return the units; no state is kept."""
        return ((projected + reads @ self.weight[:, self.input_size :].mT).tanh(),)

    def initial(self, batch_size: int) -> Hidden:
        """Return a state that is not looked at."""
        return (self.weight.new_zeros(batch_size, self.out_features),)


class LongShortTerm(nn.LSTMCell):
    """An LSTM cell, with the weights of torch.nn.LSTMCell for the input and what was read."""

    def __init__(
        self,
        input_size: int,
        read_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            input_size + read_size, hidden_size, device=device, dtype=dtype
        )
        self.seen = input_size

    def project(self, x: Tensor) -> Tensor:
        """Return the input's share of all gates, with the biases."""
        bias = self.bias_ih + self.bias_hh
        return F.linear(x, self.weight_ih[:, : self.seen], bias)

    def step(self, projected: Tensor, reads: Tensor, hidden: Hidden) -> Hidden:
        """Return h and c after a step."""
        h, c = hidden
        mixed = projected + reads @ self.weight_ih[:, self.seen :].mT
        i, f, g, o = (mixed + h @ self.weight_hh.mT).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c

    def initial(self, batch_size: int) -> Hidden:
        """Return zeros."""
        zeros = self.weight_ih.new_zeros(batch_size, self.hidden_size)
        return zeros, zeros


CONTROLLERS = {"feedforward": FeedForward, "lstm": LongShortTerm}
