"""Backpropagation by hand: one pass forwards, one pass back, every derivative of the loss.

The network is a list of weights and a list of biases: ReLU between the layers, softmax and
cross-entropy at the end. Nothing here uses autograd; the tests compare with it.

Chapter: chapters/foundations/backpropagation.md     Paper: Rumelhart, Hinton and Williams 1986
Axes: n examples, d inputs, c classes. A weight is (out, in), as in `torch.nn.Linear`.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks

Weights = Sequence[Float[Tensor, "_ _"]]
Biases = Sequence[Float[Tensor, " _"]]
Grads = list[Tensor]


@torch.no_grad()
def network_loss(
    weights: Weights,
    biases: Biases,
    x: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"],
) -> Float[Tensor, ""]:
    r"""Return the mean cross-entropy of the network: one forward pass, nothing kept.

    Args:
        weights: a matrix (out, in) for each layer.
        biases: a vector (out,) for each layer.
        x: one row an example, finite.
        targets: classes 0 … c − 1.
    """
    _check_network(weights, biases, x)
    checks.labels("targets", targets, len(biases[-1]), length=len(x))
    return _loss_and_delta(_forward(weights, biases, x)[-1], targets)[0]


@torch.no_grad()
def backpropagate(
    weights: Weights,
    biases: Biases,
    x: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"],
) -> tuple[Float[Tensor, ""], Grads, Grads]:
    r"""Return the mean cross-entropy of a ReLU network and its gradient in every weight and bias.

    $\boldsymbol\delta^{(L)} = \mathbf{p} - \mathbf{e}_y$, then
    $\boldsymbol\delta^{(l)} = (\mathbf{W}^{(l+1)\top}\boldsymbol\delta^{(l+1)}) \odot
    f'(\mathbf{z}^{(l)})$ (equations `backpropagation-output-delta` and `backpropagation-delta`);
    the gradient of a weight is an error times an input (`backpropagation-weight-gradient`),
    averaged over the batch (`backpropagation-batch`).

    Args:
        weights: a matrix (out, in) for each layer; the last has one row a class.
        biases: a vector (out,) for each layer.
        x: one row an example, finite, of the weights' dtype.
        targets: classes 0 … c − 1.

    Returns:
        The loss, the gradients of the weights, the gradients of the biases. At a kink of ReLU
        the slope is taken as 0, as torch does.

    Example:
        >>> w = [torch.tensor([[1.0, 1.0], [1.0, -1.0]]), torch.tensor([[2.0, 1.0], [1.0, -1.0]])]
        >>> b = [torch.zeros(2), torch.tensor([0.0, 3.0])]
        >>> loss, dw, db = backpropagate(w, b, torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
        >>> db[1].tolist(), dw[0][0].tolist()
        ([-0.5, 0.5], [-0.5, -1.0])

    Source: Rumelhart, Hinton and Williams 1986, who used sigmoids and squared error.
    """
    _check_network(weights, biases, x)
    checks.labels("targets", targets, len(biases[-1]), length=len(x))
    *a, logits = _forward(weights, biases, x)  # a[l] is what layer l reads
    loss, delta = _loss_and_delta(logits, targets)
    weight_grads, bias_grads = [], []
    for layer in reversed(range(len(weights))):
        weight_grads.append(delta.T @ a[layer])  # eq. backpropagation-weight-gradient
        bias_grads.append(delta.sum(0))  # eq. backpropagation-bias-gradient
        if layer:  # nobody asks for the error of the input
            # eq. backpropagation-delta
            delta = (delta @ weights[layer]) * (a[layer] > 0)
    return loss, weight_grads[::-1], bias_grads[::-1]


class Checkpointed(NamedTuple):
    """The gradients, and what it cost to remember what they need; see `checkpointed`."""

    loss: Tensor
    weight_grads: Grads
    bias_grads: Grads
    kept: int
    recomputed: int


@torch.no_grad()
def checkpointed(
    weights: Weights,
    biases: Biases,
    x: Float[Tensor, "n d"],
    targets: Int[Tensor, " n"],
    every: int,
) -> Checkpointed:
    r"""Return the gradients of `backpropagate`, keeping only every k-th activation.

    What lies between is computed again on the way back, segment by segment. Of $L$ equal layers
    that keeps $L/k + k - 1$ (equation `backpropagation-checkpoint`), fewest at $k = \sqrt L$.

    Args:
        weights: a matrix (out, in) for each layer.
        biases: a vector (out,) for each layer.
        x: one row an example, finite.
        targets: classes 0 … c − 1.
        every: the distance $k$ ≥ 1 between kept activations; 1 keeps them all.

    Returns:
        Loss and gradients as `backpropagate` has them; `kept`, the most numbers held at one time;
        `recomputed`, how many layers were computed a second time.

    Source: Griewank and Walther 2000; for networks Chen et al. 2016.
    """
    _check_network(weights, biases, x)
    checks.labels("targets", targets, len(biases[-1]), length=len(x))
    every, depth = checks.count("every", every), len(weights)
    marks, a = {0: x}, x
    for layer in range(depth):
        a = _layer(weights, biases, layer, a)
        if (layer + 1) % every == 0 and layer + 1 < depth:
            marks[layer + 1] = a
    loss, delta = _loss_and_delta(a, targets)
    weight_grads, bias_grads, most, recomputed = [], [], 0, 0
    for start in reversed(range(0, depth, every)):
        segment = [marks.pop(start)]
        for layer in range(start, min(start + every, depth) - 1):
            segment.append(_layer(weights, biases, layer, segment[-1]))
        recomputed += len(segment) - 1
        most = max(most, sum(a.numel() for a in [*marks.values(), *segment]))
        for layer in reversed(range(start, start + len(segment))):
            a = segment.pop()
            weight_grads.append(delta.T @ a)
            bias_grads.append(delta.sum(0))
            if layer:
                delta = (delta @ weights[layer]) * (a > 0)
    return Checkpointed(loss, weight_grads[::-1], bias_grads[::-1], most, recomputed)


@torch.no_grad()
def finite_differences(
    loss: Callable[[], Tensor | float],
    parameters: Sequence[Tensor],
    step: float = 1e-5,
    *,
    central: bool = True,
) -> Grads:
    r"""Estimate a gradient by nudging one number at a time: two evaluations for each number.

    $(\mathcal{L}(\theta + h) - \mathcal{L}(\theta - h)) / 2h$
    (equation `backpropagation-finite-difference`).

    Args:
        loss: gives the loss of the parameters as they stand.
        parameters: floating-point tensors that `loss` reads; nudged in place and put back.
        step: the nudge $h$ > 0; near $\sqrt[3]{\varepsilon}$, 1e-5 in float64, is best.
        central: whether to nudge both ways; if not, once up, with an error of order $h$.

    Returns:
        An estimate for each parameter, of its shape.

    Example:
        >>> t = torch.tensor([3.0], dtype=torch.float64)
        >>> [round(g.item(), 6) for g in finite_differences(lambda: (t**2).sum(), [t])]
        [6.0]
    """
    step = checks.number("step", step, above=0)
    if isinstance(parameters, Tensor) or not parameters:
        raise ValueError("parameters must be a sequence of one tensor or more")
    for at, parameter in enumerate(parameters):
        checks.tensor(f"parameters[{at}]", parameter, floating=True)
    if not callable(loss):
        raise TypeError(
            f"loss must be a function of no arguments, got {type(loss).__name__}"
        )
    here = 0.0 if central else float(loss())
    grads = []
    for parameter in parameters:
        grad = torch.zeros_like(parameter)
        for place in product(*map(range, parameter.shape)):
            value = parameter[place].clone()
            try:
                parameter[place] = value + step
                up = float(loss())
                if central:
                    parameter[place] = value - step
                    grad[place] = (up - float(loss())) / (2 * step)
                else:
                    grad[place] = (up - here) / step
            finally:
                parameter[place] = value
        grads.append(grad)
    return grads


def vector_jacobian(
    weights: Weights, biases: Biases, x: Float[Tensor, " d"], v: Float[Tensor, " c"]
) -> Float[Tensor, " d"]:
    r"""Return $\mathbf{v}^\top\mathbf{J}$, from the output backwards; $\mathbf{J}$ is not built.

    This is reverse mode (equation `backpropagation-vjp`): one pass for each *output*.

    Args:
        weights: a matrix (out, in) for each layer.
        biases: a vector (out,) for each layer.
        x: one example, finite.
        v: a weight for each score.
    """
    _check_network(weights, biases, x, one=True)
    checks.tensor("v", v, shape=(len(biases[-1]),), floating=True)
    a = _forward(weights, biases, x)
    for layer in reversed(range(1, len(weights))):
        v = (v @ weights[layer]) * (a[layer] > 0)  # eq. backpropagation-vjp
    return v @ weights[0]


def jacobian_vector(
    weights: Weights, biases: Biases, x: Float[Tensor, " d"], u: Float[Tensor, " d"]
) -> Float[Tensor, " c"]:
    r"""Return $\mathbf{J}\mathbf{u}$, multiplied along with the forward pass; nothing is kept.

    This is forward mode (equation `backpropagation-jvp`): one pass for each *input*.

    Args:
        weights: a matrix (out, in) for each layer.
        biases: a vector (out,) for each layer.
        x: one example, finite.
        u: a direction in the space of inputs.
    """
    _check_network(weights, biases, x, one=True)
    checks.tensor("u", u, shape=(len(x),), floating=True)
    for layer, (w, b) in enumerate(zip(weights, biases, strict=True)):
        if layer:
            u, x = u * (x > 0), x.relu()
        u, x = w @ u, w @ x + b  # eq. backpropagation-jvp
    return u


def softmax_vjp(
    p: Float[Tensor, "*n c"], v: Float[Tensor, "*n c"]
) -> Float[Tensor, "*n c"]:
    r"""Return $\mathbf{v}^\top \partial\mathbf{p}/\partial\mathbf{z}$ of a softmax $\mathbf{p}$.

    $\mathbf{p} \odot (\mathbf{v} - \mathbf{p}^\top\mathbf{v})$ (equation
    `backpropagation-softmax-vjp`): every score moves every probability.

    Args:
        p: softmax's output, the last axis sums to 1.
        v: the derivative of the loss in `p`.
    """
    checks.tensor("p", p, floating=True)
    checks.tensor("v", v, shape=tuple(p.shape), floating=True)
    return p * (v - (p * v).sum(-1, keepdim=True))  # eq. backpropagation-softmax-vjp


def matmul_flops(sizes: Sequence[int], n: int = 1) -> tuple[int, int]:
    r"""Return the FLOPs of the matrix products in a forward pass and in a backward pass.

    Backwards every weight counts twice, for its own gradient and to carry the error on, which the
    first layer need not do (equation `backpropagation-cost`).

    Args:
        sizes: the widths $n_0, \dots, n_L$, each ≥ 1.
        n: examples, ≥ 1.

    Example:
        >>> matmul_flops([4] * 9)
        (256, 480)
    """
    n, sizes = (
        checks.count("n", n),
        [checks.count(f"sizes[{i}]", s) for i, s in enumerate(sizes)],
    )
    if len(sizes) < 2:
        raise ValueError(f"sizes={sizes!r} must name two widths or more")
    products = [a * b for a, b in pairwise(sizes)]
    return 2 * n * sum(products), 2 * n * (2 * sum(products) - products[0])


def _layer(weights: Weights, biases: Biases, layer: int, a: Tensor) -> Tensor:
    """Return what `layer` hands on: ReLU of its scores, or the scores themselves at the end."""
    z = a @ weights[layer].T + biases[layer]
    return z.relu() if layer + 1 < len(weights) else z  # eq. backpropagation-forward


def _forward(weights: Weights, biases: Biases, x: Tensor) -> list[Tensor]:
    """Return the input, every hidden activation, and the scores of the last layer."""
    a = [x]
    for layer in range(len(weights)):
        a.append(_layer(weights, biases, layer, a[-1]))
    return a


def _loss_and_delta(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy and its derivative in the scores, both without overflow."""
    rows = torch.arange(len(targets), device=targets.device)
    shifted = logits - logits.amax(
        1, keepdim=True
    )  # the largest score is 0: exp cannot overflow
    log_p = shifted - shifted.exp().sum(1, keepdim=True).log()
    delta = log_p.exp()
    delta[rows, targets] -= 1  # eq. backpropagation-output-delta
    return -log_p[rows, targets].mean(), delta / len(
        targets
    )  # eq. backpropagation-batch


def _check_network(
    weights: Weights, biases: Biases, x: Tensor, *, one: bool = False
) -> None:
    for name, value in (("weights", weights), ("biases", biases)):
        if not isinstance(value, (list, tuple)) or not value:
            raise TypeError(
                f"{name} must be a list of one tensor or more, one for each layer"
            )
    if len(weights) != len(biases):
        raise ValueError(
            f"biases must be as many as weights, {len(weights)}, got {len(biases)}"
        )
    checks.tensor("x", x, floating=True, finite=True, empty=False)
    width: int | str = "in"
    for at, (w, b) in enumerate(zip(weights, biases, strict=True)):
        checks.tensor(
            f"weights[{at}]", w, shape=("out", width), floating=True, empty=False
        )
        width = len(w)
        checks.tensor(f"biases[{at}]", b, shape=(width,), floating=True)
        if not w.dtype == b.dtype == x.dtype:
            got = f"weights[{at}] {w.dtype} and biases[{at}] {b.dtype}"
            raise TypeError(f"weights and biases must be {x.dtype} as x is, got {got}")
    checks.tensor("x", x, shape=(*(() if one else ("n",)), weights[0].shape[1]))
