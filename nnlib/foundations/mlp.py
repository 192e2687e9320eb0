"""The multi-layer perceptron: affine maps with a nonlinearity between them.

Chapter: chapters/foundations/mlp.md     Papers: Rumelhart, Hinton and Williams 1986; Leshno 1993
Axes: n examples, d input features, c outputs or classes, h hidden units; l counts the layers.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks import activations
from nnlib.blocks.activations import Activation

ACTIVATIONS: dict[str, Activation] = {
    **activations.ACTIVATIONS,
    "square": torch.square,
    "cube": lambda z: z * z * z,
}
"""Hidden activations by name. The last two are polynomials: see equation `mlp-polynomial`."""


class MLP(nn.Module):
    r"""A feed-forward network: affine maps with an activation between each two of them.

    $\mathbf{h}^{(0)} = \mathbf{x}$;
    $\mathbf{z}^{(l)} = \mathbf{W}^{(l)}\mathbf{h}^{(l-1)} + \mathbf{b}^{(l)}$;
    $\mathbf{h}^{(l)} = f(\mathbf{z}^{(l)})$ for the hidden layers; the last $\mathbf{z}^{(L)}$ is
    returned as it is: values, or logits that `probabilities` turns into a softmax (equations
    `mlp-input`, `mlp-affine`, `mlp-hidden`, `mlp-output`).

    Its `state_dict` is that of `torch.nn.Sequential(Linear, activation, Linear, …)`: the affine map
    of layer $l$ is `{2(l-1)}.weight` and `{2(l-1)}.bias`, so each loads the other's weights. It is
    drawn from the same distribution in the same order, so equal seeds give equal weights.

    Args:
        sizes: width of every layer, input first: `[64, 128, 10]` has one hidden layer of 128.
            Two sizes give an affine map.
        activation: the hidden $f$: a name in `ACTIVATIONS`, or any elementwise callable. A module
            with weights of its own, such as `torch.nn.PReLU()`, is trained along.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        sizes: as given, a tuple.

    Example:
        >>> MLP([64, 128, 10])(torch.zeros(5, 64)).shape
        torch.Size([5, 10])

    Source: Rumelhart, Hinton and Williams 1986, whose hidden units were sigmoids.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str | Activation = "relu",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.sizes = _check_sizes(sizes)
        if isinstance(activation, str):
            activation = ACTIVATIONS[
                checks.one_of("activation", activation, ACTIVATIONS)
            ]
        elif not callable(activation):
            raise TypeError(f"activation={activation!r} must be a name or a callable")
        for at, (inputs, outputs) in enumerate(pairwise(self.sizes)):
            affine = nn.Linear(inputs, outputs, device=device, dtype=dtype)
            self.add_module(str(2 * at), affine)
        self.activation = activation

    @property
    def layers(self) -> list[nn.Linear]:
        """The affine maps, first to last."""
        names = (str(2 * at) for at in range(len(self.sizes) - 1))
        return [cast("nn.Linear", self.get_submodule(name)) for name in names]

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n c"]:
        """Return the outputs of each row, before any output activation."""
        *hidden, last = self.layers
        h = self._check_inputs(x)  # eq. mlp-input
        for affine in hidden:
            h = self.activation(affine(h))  # eq. mlp-affine, mlp-hidden
        return last(h)  # eq. mlp-output, with the identity for g

    def forward_unit_by_unit(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n c"]:
        """Return what `forward` returns, one example and one unit at a time: the slow twin."""
        outputs = []
        for h in self._check_inputs(x):
            for at, affine in enumerate(self.layers):
                weights = zip(affine.weight, affine.bias, strict=True)
                z = torch.stack(
                    [w @ h + b for w, b in weights]
                )  # eq. mlp-affine, row by row
                h = self.activation(z) if at < len(self.layers) - 1 else z
            outputs.append(h)
        return torch.stack(outputs) if outputs else x.new_empty(0, self.sizes[-1])

    def hidden(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n h"]:
        """Return the last hidden layer, or `x` itself where there is none."""
        h = self._check_inputs(x)
        for affine in self.layers[:-1]:
            h = self.activation(affine(h))
        return h

    def probabilities(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n c"]:
        """Return the softmax of the outputs: positive, and 1 in sum."""
        return self(x).softmax(dim=-1)  # eq. mlp-output, with the softmax for g

    def _check_inputs(self, x: Tensor) -> Tensor:
        checks.tensor("x", x, floating=True)
        if x.ndim == 0 or x.shape[-1] != self.sizes[0]:
            raise ValueError(
                f"x must have sizes[0]={self.sizes[0]} columns, got shape {tuple(x.shape)}"
            )
        return x


def mse_loss(
    prediction: Float[Tensor, "n c"], target: Float[Tensor, "n c"]
) -> Float[Tensor, ""]:
    r"""Return $\frac1N\sum_i\lVert\mathbf{y}_i-\hat{\mathbf{y}}_i\rVert^2$ (`mlp-mse`).

    The squares are summed over the outputs and averaged over the examples: $c$ times what
    `torch.nn.MSELoss` returns, which averages over both.

    Args:
        prediction: one row an example.
        target: as shaped as `prediction`.

    Example:
        >>> mse_loss(torch.zeros(2, 3), torch.ones(2, 3))
        tensor(3.)
    """
    checks.tensor(
        "prediction", prediction, shape=("n", "c"), floating=True, empty=False
    )
    checks.tensor("target", target, shape=tuple(prediction.shape), floating=True)
    return (target - prediction).square().sum(dim=1).mean()  # eq. mlp-mse


def cross_entropy_loss(
    logits: Float[Tensor, "n c"], target: Int[Tensor, " n"] | Float[Tensor, "n c"]
) -> Float[Tensor, ""]:
    r"""Return $-\frac1N\sum_i\sum_c y_{i,c}\log\hat y_{i,c}$, with $\hat{\mathbf y}$ the softmax.

    It takes logits, not probabilities: with them the logarithm of the softmax is
    $z_c - \log\sum_k e^{z_k}$, which neither overflows nor takes the logarithm of 0
    (equations `mlp-cross-entropy` and `mlp-cross-entropy-logits`).

    Args:
        logits: any real scores, one row an example, one column a class.
        target: the class of each row, or a distribution over the classes in each.

    Example:
        >>> cross_entropy_loss(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]))
        tensor(1000.)
    """
    checks.tensor("logits", logits, shape=("n", "c"), floating=True, empty=False)
    log_p = logits - logits.logsumexp(
        dim=1, keepdim=True
    )  # eq. mlp-cross-entropy-logits
    if isinstance(target, Tensor) and target.is_floating_point():
        seen = checks.readable(target)
        checks.tensor("target", target, shape=tuple(logits.shape), finite=seen)
        if seen and ((target < 0).any() or (target.sum(dim=1) - 1).abs().max() > 1e-3):
            raise ValueError(
                "target must hold a distribution in each row: ≥ 0 and 1 in sum"
            )
        terms = (target * log_p).masked_fill(target == 0, 0.0)  # 0 · log 0 = 0
        return -terms.sum(dim=1).mean()  # eq. mlp-cross-entropy
    checks.labels("target", target, logits.shape[1], length=len(logits))
    return -log_p.gather(
        1, target.long()[:, None]
    ).mean()  # y is 1 at one class, 0 elsewhere


class Counts(NamedTuple):
    """What a network of given sizes takes."""

    parameters: int
    flops: int


def cost(sizes: Sequence[int]) -> Counts:
    r"""Return the parameters $\sum_l (n_{l-1} + 1) n_l$ and the FLOPs of one example forward.

    A multiplication and an addition count as two; biases and activations, of lower order, are left
    out: $2\sum_l n_{l-1} n_l$ (equations `mlp-parameters` and `mlp-flops`).

    Example:
        >>> cost([64, 128, 10])
        Counts(parameters=9610, flops=18944)
    """
    sizes = _check_sizes(sizes)
    pairs = list(pairwise(sizes))
    return Counts(
        parameters=sum(
            (inputs + 1) * outputs for inputs, outputs in pairs
        ),  # eq. mlp-parameters
        flops=2 * sum(inputs * outputs for inputs, outputs in pairs),  # eq. mlp-flops
    )


@torch.no_grad()
def spread_units(
    model: MLP,
    points: Float[Tensor, "n d"],
    sharpness: tuple[float, float] = (1.0, 1.0),
    generator: torch.Generator | None = None,
) -> MLP:
    r"""Place the first hidden layer: each unit's line $z = 0$ through one of `points`, at random.

    Directions are uniform. The length of each weight vector, how sharp the unit's edge is, is drawn
    between the two of `sharpness`, uniformly in its logarithm.

    Args:
        model: changed in place.
        points: where the data lie, one row a point.
        sharpness: the least and the largest length of a weight vector, > 0.
        generator: source of the randomness.

    Returns:
        `model`.
    """
    checks.tensor(
        "points", points, shape=("n", model.sizes[0]), finite=True, empty=False
    )
    low, high = (checks.number("sharpness", value, above=0) for value in sharpness)
    first, units = model.layers[0], model.sizes[1]
    centres = points[torch.randint(len(points), (units,), generator=generator)].to(
        first.weight
    )
    direction = torch.randn(units, model.sizes[0], generator=generator).to(first.weight)
    length = low * (high / low) ** torch.rand(units, 1, generator=generator).to(
        first.weight
    )
    first.weight.copy_(length * direction / direction.norm(dim=1, keepdim=True))
    first.bias.copy_(-(first.weight * centres).sum(dim=1))
    return model


@torch.no_grad()
def solve_output_layer(
    model: MLP, x: Float[Tensor, "n d"], y: Float[Tensor, "n c"], ridge: float = 0.0
) -> MLP:
    r"""Set the last layer to the least of `mse_loss`, in closed form, for the hidden layers given.

    For fixed hidden layers the loss is a quadratic of the last one, so a linear solve finds its
    minimum (equation `mlp-readout`), in float64 and also where hidden units are dependent.

    Args:
        model: its last layer is changed in place.
        x: one row an example, finite.
        y: targets.
        ridge: $\lambda$ ≥ 0 of a penalty $\lambda\lVert\mathbf{V}\rVert^2$ that keeps the weights
            small where many would do as well.

    Returns:
        `model`.
    """
    ridge = checks.number("ridge", ridge, least=0)
    checks.tensor(
        "x", x, shape=("n", model.sizes[0]), floating=True, finite=True, empty=False
    )
    checks.tensor("y", y, shape=(len(x), model.sizes[-1]), floating=True, finite=True)
    last = model.layers[-1]
    h = model.hidden(x).double().cpu()
    system = torch.cat(
        [h, torch.ones_like(h[:, :1])], dim=1
    )  # the bias is one more weight
    wanted = y.double().cpu()
    if ridge:  # the penalty is one more row for each weight, whose target is 0
        weights = system.shape[1]
        system = torch.cat(
            [system, (ridge * len(x)) ** 0.5 * torch.eye(weights).double()]
        )
        wanted = torch.cat([wanted, torch.zeros(weights, y.shape[1]).double()])
    # gelsd, because gelsy, torch's default on a CPU, errs where columns depend (torch 2.13).
    solution = torch.linalg.lstsq(system, wanted, rcond=1e-12, driver="gelsd").solution
    last.weight.copy_(solution[:-1].T)  # eq. mlp-readout
    last.bias.copy_(solution[-1])
    return model


def _check_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str) or not isinstance(sizes, Sequence):
        raise TypeError(
            f"sizes={sizes!r} must be a sequence of integers, such as [64, 128, 10]"
        )
    if len(sizes) < 2:
        raise ValueError(
            f"sizes={sizes!r} must hold the input's and the output's width or more"
        )
    return tuple(checks.count(f"sizes[{at}]", size) for at, size in enumerate(sizes))
