r"""Recurrent network: a state that is mixed with each input in turn, by the same weights.

`RNN` is the layer. `jacobians`, `backpropagate_through_time` and `gradient_by_lag` open up what
automatic differentiation does to it.

Chapter: chapters/sequence/rnn.md     Papers: Elman 1990; Werbos 1990
Axes: b batch, t time, d input features, h hidden features, l layers times directions.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import activation
from nnlib.blocks.recurrent import Recurrent, State

FUSED = {"tanh": torch.rnn_tanh, "relu": torch.rnn_relu}


class RNN(Recurrent):
    r"""$h_t = \tanh(W_{ih} x_t + b_{ih} + W_{hh} h_{t-1} + b_{hh})$ (equation `rnn-state`).

    Takes torch.nn.RNN's arguments, batch first, and loads its `state_dict`.

    Args:
        input_size, hidden_size, num_layers: as for `Recurrent`, and so are the others.
        nonlinearity: "tanh" or "relu".

    Example:
        >>> out, state = RNN(3, 5)(torch.zeros(2, 7, 3))
        >>> out.shape, state.shape
        (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))

    Source: Elman 1990.
    """

    gates = 1

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = True,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = checks.one_of("nonlinearity", nonlinearity, FUSED)
        self.fused = FUSED[nonlinearity]
        self.flatten_parameters()  # now that the operator is known

    def cell(
        self, projected: Tensor, state: State, weights: dict[str, Tensor]
    ) -> State:
        """One tick: mix the input's part with the state, and apply the nonlinearity."""
        (h,) = state
        mixed = projected + F.linear(h, weights["weight_hh"], weights.get("bias_hh"))
        return (activation(self.nonlinearity)(mixed),)  # eq. rnn-state


def jacobians(layer: RNN, states: Float[Tensor, "b t h"]) -> Float[Tensor, "b t h h"]:
    r"""Return $\partial h_t / \partial h_{t-1} = \mathrm{diag}(f'(z_t))\,W_{hh}$ at every step.

    Equation `rnn-jacobian`. Its slope is read off the state itself: $1 - h_t^2$ for tanh.

    Args:
        layer: of one layer and one direction.
        states: its outputs.

    Returns:
        A matrix for each sequence and step; row i says what moves unit i.

    Example:
        >>> layer = RNN(3, 5)
        >>> jacobians(layer, layer(torch.zeros(2, 7, 3))[0]).shape
        torch.Size([2, 7, 5, 5])

    Source: Werbos 1990.
    """
    _one_walk(layer)
    checks.tensor("states", states, shape=("b", "t", layer.hidden_size), floating=True)
    return _activation_slope(layer, states)[..., None] * _recurrent_weight(
        layer
    )  # eq. rnn-jacobian


@torch.no_grad()
def backpropagate_through_time(
    layer: RNN, x: Float[Tensor, "b t d"], slopes: Float[Tensor, "b t h"]
) -> dict[str, Tensor]:
    r"""Return the gradient of every parameter by one walk back through time.

    $\delta_t = f'(z_t) \odot (\partial\mathcal{L}_t/\partial h_t + W_{hh}^\top \delta_{t+1})$
    carries the error backwards, and each step adds its immediate share, such as
    $\delta_t h_{t-1}^\top$ for $W_{hh}$ (equations `rnn-walk`, `rnn-share`). It is what automatic
    differentiation does, written out. The state before the first step is zero.

    Args:
        layer: of one layer and one direction, batch first.
        x: the inputs.
        slopes: slope of the loss in each output, were it the only use of that output.

    Returns:
        Gradients by the parameters' names.

    Example:
        >>> layer, x = RNN(3, 5), torch.ones(2, 7, 3)
        >>> backpropagate_through_time(layer, x, torch.ones(2, 7, 5))["weight_hh_l0"].shape
        torch.Size([5, 5])

    Source: Werbos 1990.
    """
    before, slope = _recorded(layer, x, slopes)
    delta = torch.zeros_like(slopes)
    pulled = torch.zeros_like(slopes[:, 0])
    for t in reversed(range(x.shape[1])):
        delta[:, t] = slope[:, t] * (slopes[:, t] + pulled)  # eq. rnn-walk
        pulled = delta[:, t] @ _recurrent_weight(layer)
    shares = {  # eq. rnn-share
        "weight_ih_l0": torch.einsum("bth,btd->hd", delta, x),
        "weight_hh_l0": torch.einsum("bth,btk->hk", delta, before),
    }
    if layer.bias:
        shares |= {"bias_ih_l0": delta.sum((0, 1)), "bias_hh_l0": delta.sum((0, 1))}
    return shares


@torch.no_grad()
def gradient_by_lag(
    layer: RNN,
    x: Float[Tensor, "b t d"],
    slopes: Float[Tensor, "b t h"],
    lags: int | None = None,
) -> Float[Tensor, "s h h"]:
    r"""Return $\partial\mathcal{L}/\partial W_{hh}$ split by how far back each part reaches.

    Part $s$ is the sum over all $t$ of $\partial\mathcal{L}_t/\partial h_t$, pulled back over $s$
    Jacobians to step $k = t - s$, times the immediate share of that step (equation `rnn-lag`). All
    parts together are the gradient; the first K are the one truncated after K steps.

    Args:
        layer: of one layer and one direction, batch first.
        x: the inputs.
        slopes: slope of the loss in each output, were it the only use of that output.
        lags: how many parts, from lag 0 on; all when None.

    Example:
        >>> layer, x = RNN(3, 5), torch.ones(2, 7, 3)
        >>> gradient_by_lag(layer, x, torch.ones(2, 7, 5)).shape
        torch.Size([7, 5, 5])

    Source: Werbos 1990; Pascanu, Mikolov and Bengio 2013.
    """
    before, slope = _recorded(layer, x, slopes)
    time = x.shape[1]
    lags = time if lags is None else checks.count("lags", lags)
    checks.number("lags", lags, most=time)
    parts, pulled = [], slopes
    for s in range(lags):
        delta = slope[:, : time - s] * pulled  # row k holds what came from step k + s
        parts.append(
            torch.einsum("bth,btk->hk", delta, before[:, : time - s])
        )  # eq. rnn-lag
        pulled = delta[:, 1:] @ _recurrent_weight(layer)
    return torch.stack(parts)


def _recorded(layer: RNN, x: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the states before each step, and the nonlinearity's slope at it."""
    _one_walk(layer)
    if not layer.batch_first:
        raise ValueError("layer must have batch_first=True")
    states, _ = layer(x)
    checks.tensor("slopes", slopes, shape=tuple(states.shape), floating=True)
    return F.pad(states[:, :-1], (0, 0, 1, 0)), _activation_slope(layer, states)


def _recurrent_weight(layer: RNN) -> Tensor:
    return layer.weights_of("_l0")["weight_hh"]


def _activation_slope(layer: RNN, states: Tensor) -> Tensor:
    return 1 - states**2 if layer.nonlinearity == "tanh" else (states > 0).to(states)


def _one_walk(layer: RNN) -> None:
    if layer.num_layers != 1 or layer.bidirectional:
        raise ValueError(
            f"layer must have one layer and one direction, "
            f"got num_layers={layer.num_layers}, bidirectional={layer.bidirectional}"
        )
