r"""Bayesian neural networks: a distribution over the weights, in place of one set of them.

Chapter: chapters/probabilistic/bayesian.md     Papers: MacKay 1992; Neal 1996; Blundell et al. 2015
(Bayes by backprop); Gal and Ghahramani 2016 (dropout); Lakshminarayanan et al. 2017 (ensembles).
Forms: BayesianLinear (variational), mc_dropout_predict, Ensemble, laplace_, hmc (the yardstick),
linear_posterior (in closed form).
Axes: n or b examples, d inputs, k outputs, m members, s samples, c chains, p parameters.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vmap
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.probabilistic._bayes_ensemble import Ensemble
from nnlib.probabilistic._bayes_laplace import (
    laplace_,
    laplace_predict,
    probit_probabilities,
)
from nnlib.probabilistic._bayes_priors import (
    ScaleMixture,
    gaussian_kl,
    log_softplus,
    softplus_inverse,
)
from nnlib.probabilistic._bayes_regression import (
    LinearPosterior,
    linear_posterior,
    maximize_evidence,
)
from nnlib.probabilistic._bayes_scores import (
    Predictive,
    conformal_quantile,
    coverage,
    expected_calibration_error,
    fit_temperature,
    mixture_interval,
    mixture_log_prob,
    split_entropy,
)
from nnlib.probabilistic._hmc import Chains, effective_samples, hmc, r_hat

__all__ = [
    "BayesianLinear",
    "Chains",
    "Ensemble",
    "LinearPosterior",
    "Predictive",
    "ScaleMixture",
    "conformal_quantile",
    "coverage",
    "effective_samples",
    "expected_calibration_error",
    "fit_temperature",
    "gaussian_kl",
    "hmc",
    "kl_divergence",
    "laplace_",
    "laplace_predict",
    "linear_posterior",
    "maximize_evidence",
    "mc_dropout_predict",
    "mixture_interval",
    "mixture_log_prob",
    "probit_probabilities",
    "r_hat",
    "sample_functions",
    "split_entropy",
]

SAMPLINGS = ("local", "weights", "flipout")


class BayesianLinear(nn.Module):
    r"""A linear layer of Gaussian weights, $w = \mu + \sigma\,\epsilon$ (`bayesian-weight`).

    In training mode each call draws; in evaluation mode it answers with the means, so that a
    network of these layers has a plain network to be compared with. `sample_functions` draws in
    either mode. With `"local"` the *outputs* are drawn, one by one
    (`bayesian-local`); with `"weights"` one matrix serves the whole batch, as Blundell et al. did
    it; with `"flipout"` that matrix gets other signs for every example.

    The standard deviation is $\ln(1 + e^\rho)$ and its logarithm is taken without forming it, so
    that the divergence stays finite however small it becomes. The variance of an output has a floor
    at the smallest normal number of its type, so that its root has a gradient.

    Args:
        in_features: inputs d, ≥ 1.
        out_features: outputs k, ≥ 1.
        bias: whether to add a bias, a Gaussian as well.
        prior_std: standard deviation of the prior, > 0; or a `ScaleMixture`.
        bias_prior_std: that of the bias; None: the same prior.
        sampling: "local", "weights" or "flipout".
        initial_std: standard deviation that all weights begin with, > 0.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> layer = BayesianLinear(3, 2, prior_std=0.5)
        >>> layer(torch.zeros(4, 3)).shape, layer.kl().item() > 0
        (torch.Size([4, 2]), True)

    Source: Blundell et al. 2015; Kingma et al. 2015 (local); Wen et al. 2018 (flipout).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        prior_std: float | ScaleMixture = 1.0,
        bias_prior_std: float | ScaleMixture | None = None,
        sampling: str = "local",
        initial_std: float = 0.05,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.prior_std = _prior("prior_std", prior_std)
        self.bias_prior_std = (
            self.prior_std
            if bias_prior_std is None
            else _prior("bias_prior_std", bias_prior_std)
        )
        self.sampling = checks.one_of("sampling", sampling, SAMPLINGS)
        self.initial_std = checks.number("initial_std", initial_std, above=0)

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype))

        self.weight_mean = empty(out_features, in_features)
        self.weight_rho = empty(out_features, in_features)
        self.bias_mean = empty(out_features) if checks.flag("bias", bias) else None
        self.bias_rho = empty(out_features) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the means as `torch.nn.Linear` draws its weights; all deviations begin equal."""
        bound = 1 / math.sqrt(self.in_features)
        rho = softplus_inverse(self.initial_std)
        nn.init.uniform_(self.weight_mean, -bound, bound)
        nn.init.constant_(self.weight_rho, rho)
        if self.bias_mean is not None and self.bias_rho is not None:
            nn.init.uniform_(self.bias_mean, -bound, bound)
            nn.init.constant_(self.bias_rho, rho)

    @property
    def weight_std(self) -> Float[Tensor, "k d"]:
        """Return the standard deviations of the weights, eq. bayesian-softplus."""
        return F.softplus(self.weight_rho)

    @property
    def bias_std(self) -> Float[Tensor, " k"] | None:
        """Return the standard deviations of the biases."""
        return None if self.bias_rho is None else F.softplus(self.bias_rho)

    def draw(self) -> dict[str, Tensor]:
        """Draw `weight` and, where there is one, `bias`, eq. bayesian-weight."""
        drawn = {"weight": _drawn(self.weight_mean, self.weight_std)}
        if self.bias_mean is not None and self.bias_std is not None:
            drawn["bias"] = _drawn(self.bias_mean, self.bias_std)
        return drawn

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b k"]:
        """Return outputs for one draw in training mode, for the means in evaluation mode."""
        checks.tensor("x", x, floating=True)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x must have in_features={self.in_features} as its last axis, "
                f"got {tuple(x.shape)}"
            )
        mean = F.linear(x, self.weight_mean, self.bias_mean)
        if not self.training:
            return mean
        if self.sampling == "weights":
            return F.linear(x, **self.draw())
        if self.sampling == "flipout":
            return mean + self._flipout(x)
        # squares leave the range of half precision
        wide = torch.promote_types(mean.dtype, torch.float32)
        bias = None if self.bias_std is None else self.bias_std.to(wide).square()
        weight = self.weight_std.to(wide).square()
        variance = F.linear(x.to(wide).square(), weight, bias)
        floor = torch.finfo(variance.dtype).tiny
        std = variance.clamp_min(floor).sqrt().to(mean.dtype)
        return mean + std * torch.randn_like(mean)

    def _flipout(self, x: Tensor) -> Tensor:
        """Return what one draw of deviations adds, with other signs for every example."""
        drawn = self.weight_std * torch.randn_like(self.weight_std)
        noise = F.linear(x * _signs(x), drawn)
        noise = noise * _signs(noise)
        if self.bias_std is None:
            return noise
        return noise + self.bias_std * torch.randn_like(noise)

    def kl(self) -> Float[Tensor, ""]:
        """Return how far the weights are from their prior, in nats, eq. bayesian-kl.

        Exact for a Gaussian prior. For a `ScaleMixture` it is an estimate from one draw.
        """
        total = _divergence(self.weight_mean, self.weight_rho, self.prior_std)
        if self.bias_mean is not None and self.bias_rho is not None:
            total = total + _divergence(
                self.bias_mean, self.bias_rho, self.bias_prior_std
            )
        return total

    def extra_repr(self) -> str:
        """Return what `print` shows."""
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias_mean is not None}, "
            f"prior_std={self.prior_std}, sampling={self.sampling!r}"
        )


def _prior(name: str, value: float | ScaleMixture) -> float | ScaleMixture:
    if isinstance(value, ScaleMixture):
        return value
    return checks.number(name, value, above=0)


def _drawn(mean: Tensor, std: Tensor) -> Tensor:
    return mean + std * torch.randn_like(mean)


def _signs(x: Tensor) -> Tensor:
    return torch.randint_like(x, 2) * 2 - 1


def _divergence(mean: Tensor, rho: Tensor, prior: float | ScaleMixture) -> Tensor:
    log_std = log_softplus(rho)
    if not isinstance(prior, ScaleMixture):
        return gaussian_kl(mean, log_std, prior).sum()
    noise = torch.randn_like(mean)
    log_q = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    return (log_q - prior.log_prob(mean + F.softplus(rho) * noise)).sum()


def kl_divergence(model: nn.Module) -> Float[Tensor, ""]:
    """Return the divergence of all `BayesianLinear` layers of a model from their priors, in nats.

    With the mean negative log-likelihood of a batch, `loss = nll + kl_divergence(model) / n` is the
    objective of Bayes by backprop for one of `n` examples, eq. bayesian-minibatch.

    Args:
        model: holds at least one `BayesianLinear`.

    Example:
        >>> model = nn.Sequential(BayesianLinear(1, 8), nn.Tanh(), BayesianLinear(8, 1))
        >>> kl_divergence(model).ndim
        0

    Raises:
        ValueError: there is none.
    """
    layers = [part for part in model.modules() if isinstance(part, BayesianLinear)]
    if not layers:
        raise ValueError("model holds no BayesianLinear")
    return torch.stack([layer.kl() for layer in layers]).sum()


@torch.no_grad()
def sample_functions(
    model: nn.Module, x: Float[Tensor, "b d"], samples: int = 100
) -> Float[Tensor, "s b *k"]:
    """Draw functions: each is a set of weights of the `BayesianLinear` layers, used for all of `x`.

    Args:
        model: holds at least one `BayesianLinear`; everything else answers in evaluation mode.
        x: where to look.
        samples: how many s, ≥ 1.

    Example:
        >>> model = nn.Sequential(BayesianLinear(1, 8), nn.Tanh(), BayesianLinear(8, 1))
        >>> sample_functions(model, torch.zeros(5, 1), samples=3).shape
        torch.Size([3, 5, 1])
    """
    checks.tensor("x", x, floating=True)
    samples = checks.count("samples", samples)
    layers = [part for part in model.modules() if isinstance(part, BayesianLinear)]
    if not layers:
        raise ValueError("model holds no BayesianLinear")
    before = [layer.sampling for layer in layers]
    try:
        for layer in layers:
            layer.sampling = "weights"
        with _drawing(model, lambda part: isinstance(part, BayesianLinear)):
            draws = torch.zeros(samples, device=x.device)
            return vmap(lambda _: model(x), randomness="different")(draws)
    finally:
        for layer, sampling in zip(layers, before, strict=True):
            layer.sampling = sampling


@torch.no_grad()
def mc_dropout_predict(
    model: nn.Module,
    x: Float[Tensor, "b *d"],
    samples: int = 100,
    *,
    noise_std: float,
) -> Predictive:
    r"""Return what a network says with its dropout left on, eq. bayesian-dropout.

    Only dropout is switched on: batch normalisation keeps the statistics of its training. The
    variance of the answers is that of the *function*; a new measurement has the noise as well.

    Args:
        model: holds dropout.
        x: inputs.
        samples: passes s, ≥ 1; all at once, as a batch that is s times as large.
        noise_std: standard deviation of the noise of a measurement, ≥ 0; 0 for scores of classes.

    Raises:
        ValueError: the model holds no dropout, or none that is above 0.

    Example:
        >>> model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 1))
        >>> told = mc_dropout_predict(model, torch.zeros(5, 3), samples=20, noise_std=0.1)
        >>> told.mean.shape, bool((told.variance >= 0.01).all())
        (torch.Size([5, 1]), True)

    Source: Gal and Ghahramani 2016, whose precision τ is 1/noise_std².
    """
    checks.tensor("x", x, floating=True)
    if x.ndim < 1:
        raise ValueError("x must hold a batch of inputs, got a single number")
    samples = checks.count("samples", samples)
    noise_std = checks.number("noise_std", noise_std, least=0)
    if not any(map(_drops, model.modules())):
        raise ValueError("model holds no dropout with a probability above 0")
    with _drawing(model, _drops):
        repeated = x.expand(samples, *x.shape).flatten(0, 1)
        draws = model(repeated).unflatten(0, (samples, len(x)))
    return Predictive(
        draws.mean(0),
        draws.var(0, correction=0),
        torch.full_like(draws[0], noise_std**2),
    )


def _drops(part: nn.Module) -> bool:
    """Return whether a module is dropout that is on: torch's, or another one of that name."""
    named = "dropout" in type(part).__name__.lower()
    share = getattr(part, "p", None)
    return named and isinstance(share, int | float) and share > 0


@contextmanager
def _drawing(model: nn.Module, which: Callable[[nn.Module], bool]) -> Iterator[None]:
    """Set a model to evaluation mode, but for the parts that are to draw; put all back."""
    before = [(part, part.training) for part in model.modules()]
    try:
        model.eval()
        for part, _ in before:
            if which(part):
                part.training = True
        yield
    finally:
        for part, training in before:
            part.training = training
