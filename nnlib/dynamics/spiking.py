r"""Spiking networks: neurons that add up, leak, and fire when they reach a threshold.

Chapter: chapters/dynamics/spiking.md     Paper: Maass 1997; integrate and fire: Lapicque 1907
Axes: b batch, t time steps, d input features, h hidden neurons, k classes, i and j neurons before
and behind a synapse.

Sequences are batch first, b t h. Time is counted in steps where nothing else is said; functions
that take `dt` or `tau` measure both in the same unit.
"""

import math
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.dynamics._spiking_codes import delta_code, latency_code, poisson_code
from nnlib.dynamics._spiking_continuous import decay, firing_rate, membrane, spike_times
from nnlib.dynamics._spiking_membrane import (
    RESETS,
    Membrane,
    Rule,
    leaky_sum,
    membrane_loop,
)
from nnlib.dynamics._spiking_neurons import adaptive_lif, hodgkin_huxley, izhikevich
from nnlib.dynamics._spiking_plasticity import (
    stdp,
    stdp_neuron,
    stdp_reference,
    stdp_window,
    traces,
)
from nnlib.dynamics._spiking_surrogates import Surrogate, surrogate, taken

__all__ = [
    "LIF",
    "SpikingNetwork",
    "Surrogate",
    "adaptive_lif",
    "convert",
    "decay",
    "delta_code",
    "firing_rate",
    "hodgkin_huxley",
    "izhikevich",
    "latency_code",
    "membrane",
    "poisson_code",
    "spike_times",
    "stdp",
    "stdp_neuron",
    "stdp_reference",
    "stdp_window",
    "surrogate",
    "synapse",
    "synaptic_operations",
    "traces",
]


class LIF(nn.Module):
    r"""A layer of leaky integrate-and-fire neurons, in discrete time.

    The membrane leaks and adds its input, and a spike of the step before takes the threshold away
    (equation `spiking-update`) or sets it to zero (`spiking-zero`):

    $$V_t = \beta V_{t-1} + I_t - \vartheta S_{t-1} \quad\text{or}\quad
    V_t = \beta V_{t-1} (1 - S_{t-1}) + I_t, \qquad S_t = \Theta(V_t - \vartheta)$$

    On the way back the step $\Theta$ gets the slope of a surrogate (`spiking-surrogate`).

    Args:
        beta: $\beta$, the share of the membrane that is left after a step, 0 … 1; `decay` computes
            it from a time constant. 1: no leak. 0: no memory.
        threshold: $\vartheta$ > 0.
        reset: `subtract` or `zero`. Both take effect one step after the spike.
        refractory: steps after a spike in which input is ignored and no spike can follow, ≥ 0.
        surrogate: the slope on the way back, by name or as `surrogate` makes it.
        initial: the membrane before the first step.
        detach_reset: whether the reset is a constant on the way back. False: a spike also learns
            from what its reset does.
        learn_beta: whether $\beta$ is learned, one for the layer, as $\sigma$ of a parameter; it
            must then begin inside 0 … 1.
        device: of that parameter.
        dtype: of that parameter.

    Example:
        >>> neuron = LIF(beta=0.5, threshold=1.0)
        >>> spikes, voltages = neuron(torch.full((1, 5, 1), 0.8))
        >>> spikes.flatten().tolist(), voltages.flatten()
        ([0.0, 1.0, 0.0, 1.0, 0.0], tensor([0.8000, 1.2000, 0.4000, 1.0000, 0.3000]))

    Source: Lapicque 1907, Knight 1972, Stein 1965; the discrete form is that of Eshraghian et al.
    2023 and their snnTorch, whose step is 0 at the threshold itself, and ours 1.
    """

    def __init__(
        self,
        beta: float = 0.9,
        threshold: float = 1.0,
        reset: str = "subtract",
        *,
        refractory: int = 0,
        surrogate: str | Surrogate = "fast_sigmoid",
        initial: float = 0.0,
        detach_reset: bool = True,
        learn_beta: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self._start = checks.number("beta", beta, least=0, most=1)
        self.rule = Rule(
            checks.number("threshold", threshold, above=0),
            checks.one_of("reset", reset, RESETS),
            checks.count("refractory", refractory, least=0),
            checks.number("initial", initial),
            checks.flag("detach_reset", detach_reset),
            taken(surrogate),
        )
        self.raw_beta: nn.Parameter | None = None
        if checks.flag("learn_beta", learn_beta):
            checks.number("beta", beta, above=0, below=1)
            self.raw_beta = nn.Parameter(torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set a learned leak to what it began with."""
        if self.raw_beta is not None:
            nn.init.constant_(self.raw_beta, math.log(self._start / (1 - self._start)))

    @property
    def beta(self) -> float | Tensor:
        r"""The leak $\beta$: a number, or a tensor if it is learned."""
        return self._start if self.raw_beta is None else self.raw_beta.sigmoid()

    def forward(
        self, current: Float[Tensor, "b t h"]
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b t h"]]:
        """Return the spikes, 0 or 1, and the membranes before their resets."""
        checks.tensor(
            "current", current, shape=("b", "t", "h"), floating=True, empty=False
        )
        spikes, voltages = self.through(current.transpose(0, 1))
        return spikes.transpose(0, 1), voltages.transpose(0, 1)

    def through(self, current: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same with time first, t b h, where nothing has to be turned."""
        return Membrane.apply(current, self._beta(current), self.rule)

    def loop(
        self, current: Float[Tensor, "b t h"]
    ) -> tuple[Float[Tensor, "b t h"], Float[Tensor, "b t h"]]:
        """Do the same step by step, with gradients by autograd: the readable twin of `forward`."""
        checks.tensor(
            "current", current, shape=("b", "t", "h"), floating=True, empty=False
        )
        found = membrane_loop(current.transpose(0, 1), self._beta(current), self.rule)
        return found[0].transpose(0, 1), found[1].transpose(0, 1)

    def _beta(self, current: Tensor) -> float | Tensor:
        return (
            self.beta
            if self.raw_beta is None
            else self.raw_beta.sigmoid().to(current.dtype)
        )

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        rule = self.rule
        told = (
            f"beta={self._start:g}, threshold={rule.threshold:g}, reset={rule.reset!r}"
        )
        return told + (f", refractory={rule.refractory}" if rule.refractory else "")


class SpikingNetwork(nn.Module):
    r"""Layers of spiking neurons, and an output that adds up what it is sent.

    Each hidden layer is an affine map and a `LIF`. The last map has no neurons behind it: the score
    of a class after $t$ steps is the mean of its input so far (equation `spiking-readout`), so one
    network can be asked after any number of steps.

    Args:
        input_size: d, ≥ 1.
        hidden_size: h, neurons of a hidden layer, ≥ 1.
        output_size: k, ≥ 1.
        num_layers: hidden layers, ≥ 1.
        beta: as in `LIF`, as are the next ones.
        threshold: likewise.
        reset: likewise.
        refractory: likewise.
        surrogate: likewise.
        detach_reset: likewise.
        learn_beta: likewise; one for each layer.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        maps: the affine maps, the last one that of the output.
        neurons: a `LIF` behind each of them but the last.

    Example:
        >>> network = SpikingNetwork(64, 128, 10)
        >>> scores, spikes = network(torch.rand(2, 20, 64).round())
        >>> scores.shape, [layer.shape for layer in spikes]
        (torch.Size([2, 20, 10]), [torch.Size([2, 20, 128])])

    Source: Maass 1997; training by surrogate gradients: Neftci, Mostafa and Zenke 2019.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        num_layers: int = 1,
        *,
        beta: float = 0.9,
        threshold: float = 1.0,
        reset: str = "subtract",
        refractory: int = 0,
        surrogate: str | Surrogate = "fast_sigmoid",
        detach_reset: bool = True,
        learn_beta: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        sizes = [checks.count("input_size", input_size)]
        num_layers = checks.count("num_layers", num_layers)
        sizes += [checks.count("hidden_size", hidden_size)] * num_layers
        sizes += [checks.count("output_size", output_size)]
        self.input_size = sizes[0]
        self.maps = nn.ModuleList(
            nn.Linear(a, b, device=device, dtype=dtype) for a, b in pairwise(sizes)
        )
        self.neurons = nn.ModuleList(
            LIF(beta, threshold, reset, refractory=refractory, surrogate=surrogate,
                detach_reset=detach_reset, learn_beta=learn_beta, device=device, dtype=dtype)
            for _ in range(num_layers)
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw the weights again, as `torch.nn.Linear` does."""
        for part in cast("list[nn.Linear | LIF]", [*self.maps, *self.neurons]):
            part.reset_parameters()

    def forward(
        self, x: Float[Tensor, "b t d"]
    ) -> tuple[Float[Tensor, "b t k"], list[Float[Tensor, "b t h"]]]:
        """Return the scores after each step, and the spikes of each hidden layer.

        Args:
            x: spikes, or any currents; one step after the other.
        """
        checks.tensor(
            "x", x, shape=("b", "t", self.input_size), floating=True, empty=False
        )
        values, spikes = x.transpose(0, 1), []
        neurons = cast("list[LIF]", self.neurons)
        for affine, neuron in zip(self.maps, neurons, strict=False):
            values, _ = neuron.through(affine(values))  # one product for all steps
            spikes.append(values.transpose(0, 1))
        sums = leaky_sum(self.maps[-1](values), 1.0)
        steps = torch.arange(1, len(sums) + 1, device=x.device, dtype=sums.dtype)
        scores = sums / steps[:, None, None]  # eq. spiking-readout
        return scores.transpose(0, 1), spikes


def synapse(spikes: Float[Tensor, "b t h"], alpha: float) -> Float[Tensor, "b t h"]:
    r"""Return the current behind a synapse, $i_t = \alpha\, i_{t-1} + S_t$ (`spiking-synapse`).

    Args:
        spikes: what arrives.
        alpha: the share of the current that is left after a step, 0 … 1.
    """
    checks.tensor("spikes", spikes, shape=("b", "t", "h"), floating=True)
    alpha = checks.number("alpha", alpha, least=0, most=1)
    return leaky_sum(spikes.transpose(0, 1), alpha).transpose(0, 1)


@torch.no_grad()
def synaptic_operations(
    network: SpikingNetwork, x: Float[Tensor, "b t d"]
) -> Float[Tensor, "b t"]:
    r"""Return how many additions each step costs, $\sum_l n^{(l)}_t h_{l+1}$ (`spiking-energy`).

    A spike is sent to every neuron of the next layer, and each adds one weight. Where nothing
    arrives, nothing is done.

    Args:
        network: whose spikes are counted.
        x: its input; a value that is not zero counts as a spike.
    """
    if not isinstance(network, SpikingNetwork):
        raise TypeError(
            f"network must be a SpikingNetwork, got {type(network).__name__}"
        )
    _, spikes = network(x)
    maps = cast("list[nn.Linear]", network.maps)
    sent = [(x != 0).to(x.dtype), *spikes]
    return sum(
        (
            layer.sum(-1) * affine.out_features
            for layer, affine in zip(sent, maps, strict=True)
        ),
        start=x.new_zeros(x.shape[:2]),
    )  # eq. spiking-energy


@torch.no_grad()
def convert(
    network: nn.Sequential,
    x: Float[Tensor, "n d"],
    *,
    percentile: float = 99.9,
    initial: float = 0.0,
) -> SpikingNetwork:
    r"""Return a spiking network that computes what a trained network with ReLUs computes.

    Each unit becomes a neuron without leak, whose rate stands for the unit's activation. The rate
    is at most one spike a step, so the activations of each layer are first scaled below 1
    (equation `spiking-conversion`).

    Args:
        network: affine maps with a `torch.nn.ReLU` between each two.
        x: examples on which the activations are measured.
        percentile: of the activations of a layer, in percent, that becomes a rate of 1; larger
            ones saturate. 100: the largest.
        initial: membranes before the first step; half of the threshold, 0.5, rounds instead of
            cutting off.

    Returns:
        A network of β = 1 with reset by subtraction, to be given `x` itself at each step.

    Raises:
        ValueError: a layer has activations, but that percentile of them is 0, among others.

    Source: Diehl et al. 2015; the percentile and the reset: Rueckauer et al. 2017.
    """
    maps = _affine_maps(network)
    checks.tensor(
        "x",
        x,
        shape=("n", maps[0].in_features),
        floating=True,
        finite=True,
        empty=False,
    )
    percentile = checks.number("percentile", percentile, above=0, most=100)
    initial = checks.number("initial", initial)
    widths = {affine.out_features for affine in maps[:-1]}
    if len(widths) != 1:
        raise ValueError(
            f"network has hidden layers of {sorted(widths)} units, it needs one size"
        )
    weight = maps[0].weight
    made = SpikingNetwork(
        maps[0].in_features, widths.pop(), maps[-1].out_features, len(maps) - 1, beta=1.0,
        device=weight.device, dtype=weight.dtype,
    )  # fmt: skip
    values, before = (
        x.to(weight),
        torch.ones((), device=weight.device, dtype=weight.dtype),
    )
    for affine, mine in zip(maps, cast("list[nn.Linear]", made.maps), strict=True):
        now = torch.ones_like(before)
        if affine is not maps[-1]:
            values = affine(values).relu()
            now = _scale(values, percentile)
        mine.weight.copy_(affine.weight * before / now)  # eq. spiking-conversion
        mine.bias.copy_(0 if affine.bias is None else affine.bias / now)
        before = now
    for neuron in cast("list[LIF]", made.neurons):
        neuron.rule = neuron.rule._replace(initial=initial)
    return made


def _scale(activations: Tensor, percentile: float) -> Tensor:
    """Return which activation becomes a rate of 1; 1 where a layer never has any."""
    kind = torch.promote_types(activations.dtype, torch.float32)
    ranked = (
        activations.flatten().to(kind).sort().values
    )  # torch.quantile refuses many, and halves
    last = len(ranked) - 1
    at = min(percentile / 100 * last, last)
    low, high = math.floor(at), math.ceil(at)
    scale = ranked[low].lerp(ranked[high], at - low).to(activations.dtype)
    if not checks.readable(scale) or scale > 0:
        return scale
    if ranked[-1] > 0:
        raise ValueError(
            f"percentile={percentile:g} of the activations of a layer is 0: take a larger one"
        )
    return torch.ones_like(scale)


def _affine_maps(network: Any) -> list[nn.Linear]:
    if not isinstance(network, nn.Sequential):
        raise TypeError(
            f"network must be a torch.nn.Sequential, got {type(network).__name__}"
        )
    parts = list(network)
    fits = len(parts) >= 3 and len(parts) % 2 == 1
    fits = fits and all(isinstance(part, nn.Linear) for part in parts[::2])
    if not (fits and all(isinstance(part, nn.ReLU) for part in parts[1::2])):
        names = [type(part).__name__ for part in parts]
        raise ValueError(
            f"network must be Linear, ReLU, Linear, …, Linear, got {names}"
        )
    return cast("list[nn.Linear]", parts[::2])
