r"""The mixture density network: an answer that is a whole distribution, with several peaks.

Chapter: chapters/probabilistic/mixture_density.md     Papers: Bishop 1994; Nix and Weigend 1994
Axes: b batch, i input features, k components, d numbers of a target, s samples.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import activation as activation_named
from nnlib.probabilistic._mixture_arm import TwoLinkArm
from nnlib.probabilistic._mixture_gaussian import Mixture, Spread, naive_log_prob
from nnlib.probabilistic._mixture_losses import (
    nll_loss,
    winner_takes_all_loss,
)

__all__ = [
    "COVARIANCES",
    "POSITIVE",
    "Mixture",
    "MixtureDensityNetwork",
    "Spread",
    "TwoLinkArm",
    "naive_log_prob",
    "nll_loss",
    "output_count",
    "winner_takes_all_loss",
]

COVARIANCES = ("spherical", "diagonal", "full")
"""One standard deviation a component; one for each axis; a Cholesky factor."""

POSITIVE: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.exp,
    "softplus": F.softplus,
    "elu": lambda z: torch.where(z > 0, z + 1, z.clamp(max=0).exp()),
}
"""What makes a standard deviation of any number (`mixture-density-scales`)."""

_INVERSE: dict[str, Callable[[Tensor], Tensor]] = {
    "exp": torch.log,
    "softplus": lambda std: std + torch.log(-torch.expm1(-std)),
    "elu": lambda std: torch.where(std < 1, std.log(), std - 1),
}


def output_count(
    num_components: int, out_features: int, covariance: str = "diagonal"
) -> int:
    """Return how many numbers the last layer gives (`mixture-density-outputs`).

    Example:
        >>> [output_count(5, 2, covariance) for covariance in COVARIANCES]
        [20, 25, 30]
    """
    k = checks.count("num_components", num_components)
    d = checks.count("out_features", out_features)
    checks.one_of("covariance", covariance, COVARIANCES)
    return k * (
        1 + d + {"spherical": 1, "diagonal": d, "full": d * (d + 1) // 2}[covariance]
    )


class MixtureDensityNetwork(nn.Module):
    r"""A network whose output is $p(\mathbf y\mid\mathbf x)$, a mixture of Gaussians.

    $p(\mathbf y\mid\mathbf x) = \sum_k \pi_k(\mathbf x)\,\mathcal N(\mathbf y;
    \boldsymbol\mu_k(\mathbf x), \boldsymbol\Sigma_k(\mathbf x))$ (`mixture-density-mixture`). A
    multi-layer perceptron gives all parameters: weights by a softmax, means as they are, and
    standard deviations made positive, with a floor. With one component it is the network of Nix and
    Weigend, a Gaussian whose variance depends on the input.

    Args:
        in_features: features of an input, ≥ 1.
        out_features: numbers d of a target, ≥ 1.
        num_components: K ≥ 1.
        hidden_sizes: width of each hidden layer; none makes every parameter affine in the input.
        activation: of the hidden layers, a name in `nnlib.blocks.activations.ACTIVATIONS`.
        covariance: `spherical`, $\sigma_k^2\mathbf I$; `diagonal`; or `full`, by a Cholesky factor.
        positive: how a standard deviation is kept positive, a name in `POSITIVE`.
        min_std: floor $\epsilon$ ≥ 0 of every standard deviation, in the unit of the targets; at 0
            the likelihood has no upper bound (`mixture-density-spike`) but that of arithmetic:
            1e-9, or the smallest normal number, is what a deviation never falls below.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> network = MixtureDensityNetwork(1, 2, num_components=3)
        >>> x = torch.zeros(5, 1)
        >>> network.log_prob(x, torch.zeros(5, 2)).shape, network.sample(x, 7).shape
        (torch.Size([5]), torch.Size([7, 5, 2]))

    Source: Bishop 1994, whose covariances are spherical and whose $\sigma_k$ are exponentials;
    Cholesky factors after Williams 1996, who takes those of the inverse covariance.
    """

    below: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        num_components: int = 5,
        hidden_sizes: Sequence[int] = (64,),
        activation: str = "tanh",
        *,
        covariance: str = "diagonal",
        positive: str = "softplus",
        min_std: float = 1e-3,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        outputs = output_count(num_components, out_features, covariance)
        self.num_components, self.out_features = int(num_components), int(out_features)
        if isinstance(hidden_sizes, str) or not isinstance(hidden_sizes, Sequence):
            raise TypeError(
                f"hidden_sizes={hidden_sizes!r} must be a sequence of integers"
            )
        self.hidden_sizes = tuple(
            checks.count(f"hidden_sizes[{at}]", size)
            for at, size in enumerate(hidden_sizes)
        )
        self.activation = activation_named(activation)
        self.covariance = covariance
        self.positive = checks.one_of("positive", positive, POSITIVE)
        self.min_std = checks.number("min_std", min_std, least=0)
        widths = [self.in_features, *self.hidden_sizes]
        self.hidden = nn.ModuleList(
            nn.Linear(a, b, device=device, dtype=dtype) for a, b in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], outputs, device=device, dtype=dtype)
        d = self.out_features
        rows, columns = torch.tril_indices(d, d, -1, device=device)
        self.register_buffer("below", rows * d + columns, persistent=False)

    def reset_parameters(self) -> None:
        """Draw all parameters anew, as `torch.nn.Linear` does."""
        for layer in (*self.hidden, self.head):
            layer.reset_parameters()

    def forward(self, x: Float[Tensor, "b i"]) -> Mixture:
        """Return the mixture of each row: logits, means, and standard deviations or factors."""
        checks.tensor("x", x, shape=("b", self.in_features), floating=True)
        for layer in self.hidden:
            x = self.activation(layer(x))
        k, d = self.num_components, self.out_features
        logits, means, spread = self.head(x).split(
            [k, k * d, self.head.out_features - k * (1 + d)], -1
        )
        means, spread = means.unflatten(-1, (k, d)), spread.unflatten(-1, (k, -1))
        scales = self.min_std + POSITIVE[self.positive](spread[..., :d])  # eq. …-scales
        scales = scales.clamp(min=max(1e-9, torch.finfo(scales.dtype).tiny))
        if self.covariance == "full":
            square = torch.diag_embed(scales).flatten(-2)
            square = square.index_add(-1, self.below, spread[..., d:])
            return Mixture(logits, means, square.unflatten(-1, (d, d)))
        return Mixture(logits, means, scales.expand(means.shape))

    def log_prob(
        self, x: Float[Tensor, "b i"], y: Float[Tensor, "b d"]
    ) -> Float[Tensor, " b"]:
        r"""Return $\log p(\mathbf y\mid\mathbf x)$ in nats; minus its mean is the loss."""
        return self(x).log_prob(y)

    def sample(
        self,
        x: Float[Tensor, "b i"],
        num_samples: int = 1,
        *,
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "s b d"]:
        """Draw answers, as `Mixture.sample` does."""
        return self(x).sample(num_samples, temperature=temperature, generator=generator)

    def mean(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b d"]:
        """Return the conditional mean: what squared error would have asked for."""
        return self(x).mean

    def mode(self, x: Float[Tensor, "b i"], steps: int = 50) -> Float[Tensor, "b d"]:
        """Return the most probable answer, as `Mixture.mode` does."""
        return self(x).mode(steps)

    @torch.no_grad()
    def start_from(
        self,
        y: Float[Tensor, "n d"],
        *,
        steps: int = 10,
        generator: torch.Generator | None = None,
    ) -> "MixtureDensityNetwork":
        r"""Spread the components over the targets: set the last layer by k-means.

        Means begin at the clusters' centres, weights at their shares, standard deviations at
        theirs: these are its biases. Its weights shrink to a tenth, so that every input begins
        near there; at full size they would move the means by more than a narrow cluster is wide.

        Args:
            y: targets, at least as many as components.
            steps: of k-means, ≥ 0.
            generator: source of the randomness that picks the first centres.

        Returns:
            The network.
        """
        checks.tensor(
            "y", y, shape=("n", self.out_features), floating=True, finite=True
        )
        steps, k, d = (
            checks.count("steps", steps, least=0),
            self.num_components,
            self.out_features,
        )
        if len(y) < k:
            raise ValueError(
                f"y has {len(y)} rows, num_components={k} takes as many or more"
            )
        weight = self.head.weight
        y = y.to(weight.device, torch.promote_types(weight.dtype, torch.float32))
        centres = y[torch.randperm(len(y), generator=generator)[:k].to(y.device)]
        for _ in range(steps):
            centres, _, _ = _clusters(y, centres)
        centres, shares, stds = _clusters(y, centres)
        self.head.weight.mul_(0.1)
        bias = self.head.bias
        bias[:k] = shares.log()
        bias[k : k * (1 + d)] = centres.flatten()
        spread = bias[k * (1 + d) :].unflatten(-1, (k, -1))
        if self.covariance == "spherical":
            stds = stds.square().mean(-1, keepdim=True).sqrt()
        spread.zero_()
        whole = float(y.std(0, correction=0).max())
        least = 1e-3 * whole if whole > 0 else 1e-3  # in the unit of the targets
        spread[:, : stds.shape[1]] = _INVERSE[self.positive](
            (stds - self.min_std).clamp(min=least)
        )
        return self


def _clusters(y: Tensor, centres: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the centres, shares and standard deviations of the points nearest to each centre.

    An empty cluster keeps its centre, and has the share of one point and the spread of all.
    """
    nearest = torch.cdist(y, centres).argmin(1)
    member = F.one_hot(nearest, len(centres)).to(y)
    count = member.sum(0)[:, None]
    mean = torch.where(count > 0, member.T @ y / count.clamp(min=1), centres)
    apart = member[..., None] * (y[:, None] - mean).square()
    variance = apart.sum(0) / count.clamp(min=1)
    whole = y.var(0, correction=0)
    stds = torch.where(count > 1, variance, whole).sqrt()
    return mean, count.clamp(min=1)[:, 0] / len(y), stds
