r"""Variational autoencoders: the evidence lower bound, its gap, and a discrete heir.

`VAE` has an encoder that answers with a Gaussian and a decoder that answers with a likelihood;
`.elbo(x)` is the bound of each example. `gaussian_kl` is its second term in closed form,
`importance_weighted_bound` the tighter bound, `linear_gaussian_log_evidence` what the bound is
below where both networks are linear, and `VectorQuantizer` the heir whose code is a number.

Chapter: chapters/generative/vae.md     Papers: Kingma and Welling 2013; Rezende et al. 2014;
Burda et al. 2015; Kingma et al. 2016; van den Oord et al. 2017
Axes: n examples, d input features, h latent numbers, s samples, k conditions, m codewords.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import activation as named

LIKELIHOODS = ("bernoulli", "gaussian", "categorical")
LOG_2PI = math.log(2 * math.pi)


# ------------------------------------------------------------------------------- the two Gaussians
def gaussian_kl(
    mu: Float[Tensor, "*n h"], logvar: Float[Tensor, "*n h"]
) -> Float[Tensor, "*n h"]:
    r"""Return the divergence of $\mathcal N(\mu, \sigma^2)$ from $\mathcal N(0, 1)$, in nats.

    $\mathrm{KL} = \tfrac12(\mu^2 + \sigma^2 - 1 - \log\sigma^2)$ of each latent number (equation
    `vae-gaussian-kl`); summed over the last axis it is that of the vectors. With
    $\sigma^2 - 1 - \log\sigma^2$ as `expm1(logvar) - logvar`, small values keep their digits, and
    none is ever below zero; where $\sigma^2$ overflows, the divergence is infinite, and not NaN.

    Args:
        mu: means.
        logvar: logarithms of the variances.

    Example:
        >>> gaussian_kl(torch.tensor([0.0, 1.0]), torch.zeros(2))
        tensor([0.0000, 0.5000])

    Source: Kingma and Welling 2013, appendix B.
    """
    checks.tensor("mu", mu, floating=True)
    checks.tensor("logvar", logvar, shape=tuple(mu.shape), floating=True)
    # eq. vae-gaussian-kl; rounding alone may make the bracket negative
    return 0.5 * (mu.square() + (torch.expm1(logvar) - logvar).clamp(min=0))


def reparametrize(
    mu: Float[Tensor, "*n h"],
    logvar: Float[Tensor, "*n h"],
    noise: Float[Tensor, "*n h"] | None = None,
) -> Float[Tensor, "*n h"]:
    r"""Draw $\mathbf z = \boldsymbol\mu + \boldsymbol\sigma\odot\boldsymbol\epsilon$.

    The noise comes from outside, so the sample has a gradient in both (`vae-reparametrization`).

    Args:
        mu: means.
        logvar: logarithms of the variances.
        noise: standard normal; drawn if None.

    Example:
        >>> reparametrize(torch.ones(2), torch.full((2,), -200.0))
        tensor([1., 1.])

    Source: Kingma and Welling 2013; Rezende et al. 2014.
    """
    checks.tensor("mu", mu, floating=True)
    checks.tensor("logvar", logvar, shape=tuple(mu.shape), floating=True)
    if noise is None:
        noise = torch.randn_like(mu)
    checks.tensor("noise", noise, shape=tuple(mu.shape), floating=True)
    return mu + (0.5 * logvar).exp() * noise  # eq. vae-reparametrization


def gaussian_log_prob(
    z: Float[Tensor, "*n h"],
    mu: Float[Tensor, "*n h"] | Float[Tensor, ""],
    logvar: Float[Tensor, "*n h"] | Float[Tensor, ""],
) -> Float[Tensor, "*n h"]:
    r"""Return $\log\mathcal N(z;\,\mu,\,\sigma^2)$ of each number (equation `vae-gaussian`)."""
    checks.tensor("z", z, floating=True)
    deviation = (z - mu) * (-0.5 * logvar).exp()
    return -0.5 * (LOG_2PI + logvar + deviation.square())


# --------------------------------------------------------------------------------------- the model
class Bound(NamedTuple):
    """The two terms of a bound, for each example, in nats."""

    reconstruction: Tensor
    """Mean log-likelihood of the example under its own codes."""
    kl: Tensor
    """Divergence of q from the prior in each latent number: n h."""

    @property
    def elbo(self) -> Tensor:
        """Reconstruction less divergence (equation `vae-elbo`)."""
        return self.reconstruction - self.kl.sum(-1)


class VAE(nn.Module):
    r"""A latent-variable model with a network for each direction.

    The decoder turns $\mathbf z\sim\mathcal N(\mathbf 0,\mathbf I)$ into a distribution of
    $\mathbf x$, the encoder $\mathbf x$ into a Gaussian $q(\mathbf z\mid\mathbf x)$ with a diagonal
    covariance (equation `vae-posterior`), and `elbo` is what both are trained on. With no hidden
    layer and a Gaussian likelihood, the model is probabilistic principal component analysis.

    Args:
        input_size: numbers d in an input.
        latent_size: numbers h in a code.
        hidden_sizes: widths of the encoder's hidden layers; the decoder's are the same, backwards.
        likelihood: `bernoulli`: each number is the probability of a one (`vae-bernoulli`);
            `gaussian`: a mean, and one variance that is learned (`vae-gaussian`);
            `categorical`: one of `num_levels` grey values, each with its own probability
            (`vae-categorical`).
        activation: of the hidden layers: a name in `nnlib.blocks.activations`.
        num_levels: grey values 0, 1/(L−1), …, 1 of a categorical number.
        condition_size: numbers k of a condition, such as a class, that both networks see.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        output_logvar: logarithm of the Gaussian likelihood's variance; None for the others.

    Example:
        >>> model = VAE(64, 2, [128])
        >>> x = torch.rand(5, 64).round()
        >>> model.elbo(x).shape, model.sample(3).shape
        (torch.Size([5]), torch.Size([3, 64]))

    Source: Kingma and Welling 2013; Rezende, Mohamed and Wierstra 2014.
    """

    output_logvar: nn.Parameter | None

    def __init__(
        self,
        input_size: int,
        latent_size: int,
        hidden_sizes: Sequence[int] = (256,),
        likelihood: str = "bernoulli",
        activation: str = "relu",
        *,
        num_levels: int = 17,
        condition_size: int = 0,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = checks.count("input_size", input_size)
        self.latent_size = checks.count("latent_size", latent_size)
        if isinstance(hidden_sizes, str) or not isinstance(hidden_sizes, Sequence):
            raise TypeError(
                f"hidden_sizes={hidden_sizes!r} must be a sequence of integers ≥ 1"
            )
        self.hidden_sizes = tuple(
            checks.count(f"hidden_sizes[{at}]", size)
            for at, size in enumerate(hidden_sizes)
        )
        self.likelihood = checks.one_of("likelihood", likelihood, LIKELIHOODS)
        self.num_levels = checks.count("num_levels", num_levels, least=2)
        self.condition_size = checks.count("condition_size", condition_size, least=0)
        where: dict[str, Any] = {"device": device, "dtype": dtype}

        def network(sizes: Sequence[int]) -> nn.ModuleList:
            return nn.ModuleList(nn.Linear(a, b, **where) for a, b in pairwise(sizes))

        self.activation = named(activation)
        k, back = self.condition_size, self.hidden_sizes[::-1]
        each = self.num_levels if likelihood == "categorical" else 1
        self.encoder = network([input_size + k, *self.hidden_sizes, 2 * latent_size])
        self.decoder = network([latent_size + k, *back, input_size * each])
        self.output_logvar = None
        if likelihood == "gaussian":
            self.output_logvar = nn.Parameter(
                torch.zeros((), device=device, dtype=dtype)
            )

    # --------------------------------------------------------------------------- the two networks
    def encode(
        self, x: Float[Tensor, "n d"], condition: Float[Tensor, "n k"] | None = None
    ) -> tuple[Float[Tensor, "n h"], Float[Tensor, "n h"]]:
        r"""Return $\boldsymbol\mu$ and $\log\boldsymbol\sigma^2$ of q (`vae-posterior`)."""
        checks.tensor("x", x, shape=("n", self.input_size), floating=True)
        mu, logvar = self._through(self.encoder, x, condition).chunk(2, -1)
        return mu, logvar

    def decode(
        self, z: Float[Tensor, "n h"], condition: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n d *levels"]:
        """Return the parameters of the likelihood: logits, or means if it is Gaussian."""
        checks.tensor("z", z, shape=("n", self.latent_size), floating=True)
        out = self._through(self.decoder, z, condition)
        if self.likelihood == "categorical":
            out = out.unflatten(-1, (self.input_size, self.num_levels))
        return out

    def _through(
        self, layers: nn.ModuleList, x: Tensor, condition: Tensor | None
    ) -> Tensor:
        if (condition is None) != (self.condition_size == 0):
            raise ValueError(
                f"condition must be {'a tensor' if condition is None else 'None'} "
                f"with condition_size={self.condition_size}"
            )
        if condition is not None:
            checks.tensor("condition", condition, shape=(len(x), self.condition_size))
            x = torch.cat([x, condition.to(x.dtype)], -1)
        *hidden, last = layers
        for layer in hidden:
            x = self.activation(layer(x))
        return last(x)

    # ------------------------------------------------------------------------------ the likelihood
    def log_likelihood(
        self, x: Float[Tensor, "n d"], decoded: Float[Tensor, "n d *levels"]
    ) -> Float[Tensor, " n"]:
        r"""Return $\log p(\mathbf x\mid\mathbf z)$ in nats, from what `decode` returned.

        Args:
            x: inputs; in 0 … 1 for Bernoulli, multiples of 1/(L−1) in 0 … 1 for categorical.
            decoded: parameters of the likelihood.
        """
        if self.output_logvar is not None:
            return gaussian_log_prob(x, decoded, self.output_logvar).sum(-1)
        if checks.readable(x) and x.numel() and not (x.min() >= 0 and x.max() <= 1):
            raise ValueError(
                f"x must lie in 0 … 1 for a {self.likelihood} likelihood, "
                f"got {x.min():g} … {x.max():g}"
            )
        if self.likelihood == "bernoulli":  # eq. vae-bernoulli
            return -F.binary_cross_entropy_with_logits(
                decoded, x.to(decoded.dtype), reduction="none"
            ).sum(-1)
        level = self.levels(x)  # eq. vae-categorical
        each = F.cross_entropy(
            decoded.flatten(0, -2), level.flatten(), reduction="none"
        )
        return -each.view_as(level).sum(-1)

    def levels(self, x: Float[Tensor, "*n d"]) -> Int[Tensor, "*n d"]:
        """Return which grey value each number is, 0 … `num_levels` − 1."""
        return (x * (self.num_levels - 1)).round().long()

    def mean(self, decoded: Float[Tensor, "n d *levels"]) -> Float[Tensor, "n d"]:
        r"""Return $\mathbb E[\mathbf x\mid\mathbf z]$, the picture that is usually shown."""
        if self.likelihood == "bernoulli":
            return decoded.sigmoid()
        if self.likelihood == "gaussian":
            return decoded
        grey = torch.linspace(
            0, 1, self.num_levels, device=decoded.device, dtype=decoded.dtype
        )
        return decoded.softmax(-1) @ grey

    # ----------------------------------------------------------------------------------- the bound
    def forward(
        self,
        x: Float[Tensor, "n d"],
        condition: Float[Tensor, "n k"] | None = None,
        noise: Float[Tensor, "n h"] | None = None,
    ) -> Bound:
        """Return the two terms of the evidence lower bound, with one sample of each code.

        The divergence is exact, the reconstruction an unbiased estimate (equation `vae-loss`).

        Args:
            x: inputs.
            condition: what both networks see besides, if `condition_size` is above 0.
            noise: standard normal, one row a code; drawn if None.
        """
        mu, logvar = self.encode(x, condition)
        z = reparametrize(mu, logvar, noise)
        likelihood = self.log_likelihood(x, self.decode(z, condition))
        return Bound(likelihood, gaussian_kl(mu, logvar))

    def elbo(
        self,
        x: Float[Tensor, "n d"],
        condition: Float[Tensor, "n k"] | None = None,
        noise: Float[Tensor, "n h"] | None = None,
    ) -> Float[Tensor, " n"]:
        """Return the evidence lower bound of each example, in nats (equation `vae-elbo`).

        Args: as `forward` has them.
        """
        return self(x, condition, noise).elbo

    def importance_weighted_bound(
        self,
        x: Float[Tensor, "n d"],
        num_samples: int,
        condition: Float[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, " n"]:
        r"""Return the importance-weighted bound of each example, in nats (`vae-iwae`).

        The logarithm of the mean of $p(\mathbf x,\mathbf z)/q(\mathbf z\mid\mathbf x)$ over
        `num_samples` codes. With one it is an estimate of the ELBO, with many it tends to the
        log-evidence.

        Args:
            x: inputs.
            num_samples: codes for each input, ≥ 1.
            condition: what both networks see besides.

        Source: Burda, Grosse and Salakhutdinov 2015.
        """
        s = checks.count("num_samples", num_samples)
        mu, logvar = (part.repeat(s, 1) for part in self.encode(x, condition))
        many = None if condition is None else condition.repeat(s, 1)
        z = reparametrize(mu, logvar)
        zero = z.new_zeros(())
        prior = gaussian_log_prob(z, zero, zero).sum(-1)
        posterior = gaussian_log_prob(z, mu, logvar).sum(-1)
        likelihood = self.log_likelihood(x.repeat(s, 1), self.decode(z, many))
        weights = (likelihood + prior - posterior).unflatten(0, (s, -1))
        return weights.logsumexp(0) - math.log(s)  # eq. vae-iwae

    # ------------------------------------------------------------------------------ what it is for
    def reconstruct(
        self, x: Float[Tensor, "n d"], condition: Float[Tensor, "n k"] | None = None
    ) -> Float[Tensor, "n d"]:
        """Return the mean picture of the mean code of each input."""
        return self.mean(self.decode(self.encode(x, condition)[0], condition))

    def draw(self, decoded: Float[Tensor, "n d *levels"]) -> Float[Tensor, "n d"]:
        r"""Draw $\mathbf x\sim p(\mathbf x\mid\mathbf z)$, from what `decode` returned."""
        if self.likelihood == "bernoulli":
            return torch.bernoulli(decoded.sigmoid())
        if self.output_logvar is not None:
            return reparametrize(decoded, self.output_logvar.expand_as(decoded))
        level = torch.multinomial(decoded.softmax(-1).flatten(0, -2), 1)
        return level.view(decoded.shape[:-1]).to(decoded.dtype) / (self.num_levels - 1)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        condition: Float[Tensor, "n k"] | None = None,
    ) -> Float[Tensor, "n d"]:
        """Draw new examples: a code from the prior, then numbers from the likelihood.

        Args:
            num_samples: how many.
            condition: a row for each of them, if `condition_size` is above 0.
        """
        like = next(self.parameters())
        shape = (checks.count("num_samples", num_samples), self.latent_size)
        z = torch.randn(shape, device=like.device, dtype=like.dtype)
        return self.draw(self.decode(z, condition))


def vae_loss(
    model: nn.Module,
    x: Float[Tensor, "n d"],
    condition: Float[Tensor, "n k"] | None = None,
    *,
    beta: float = 1.0,
    free_bits: float = 0.0,
) -> Float[Tensor, ""]:
    r"""Return the mean over the batch of $-$reconstruction $+\;\beta\,$divergence (`vae-beta`).

    Args:
        model: a `VAE`.
        x: inputs.
        condition: what both networks see besides.
        beta: weight of the divergence, ≥ 0; at 1 the loss is minus the bound (`vae-loss`).
        free_bits: nats of divergence that each latent number may have for nothing, on average
            over the batch, ≥ 0 (equation `vae-free-bits`).

    Example:
        >>> model = VAE(4, 2, [8])
        >>> vae_loss(model, torch.ones(3, 4)).backward()

    Source: Higgins et al. 2017; free bits: Kingma et al. 2016.
    """
    checks.number("beta", beta, least=0)
    checks.number("free_bits", free_bits, least=0)
    reconstruction, kl = model(x, condition)
    paid = kl.mean(0).clamp(min=free_bits).sum()  # eq. vae-free-bits
    return beta * paid - reconstruction.mean()  # eq. vae-beta


# ------------------------------------------------------------------------------------- linear case
def linear_gaussian_log_evidence(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "d h"],
    bias: Float[Tensor, " d"],
    logvar: Float[Tensor, ""],
) -> Float[Tensor, " n"]:
    r"""Return $\log\mathcal N(\mathbf x;\,\mathbf b,\,\mathbf W\mathbf W^\top+\sigma^2\mathbf I)$.

    The exact log-evidence of a decoder $\mathbf W\mathbf z+\mathbf b$ with Gaussian noise (equation
    `vae-linear-evidence`): what the bound of a linear VAE is below.

    Args:
        x: inputs.
        weight: W of the decoder.
        bias: b of the decoder.
        logvar: logarithm of the noise's variance.

    Example:
        >>> zero = torch.zeros(1, 1)
        >>> linear_gaussian_log_evidence(zero, zero, zero[0], torch.tensor(0.0))
        tensor([-0.9189])

    Source: Tipping and Bishop 1999.
    """
    d, h = checks.tensor("weight", weight, shape=("d", "h"), floating=True).shape
    checks.tensor("x", x, shape=("n", d), floating=True)
    checks.tensor("bias", bias, shape=(d,), floating=True)
    # Woodbury: everything is of the size of the code
    precision = (-logvar).exp()
    inner = torch.eye(h, dtype=x.dtype, device=x.device) + precision * weight.T @ weight
    factor = torch.linalg.cholesky(inner)
    centred = x - bias
    along = torch.linalg.solve_triangular(factor, weight.T @ centred.T, upper=False)
    square = precision * centred.square().sum(-1)
    square = square - precision**2 * along.square().sum(0)
    log_det = 2 * factor.diagonal().log().sum() + d * logvar
    return -0.5 * (d * LOG_2PI + log_det + square)  # eq. vae-linear-evidence


def linear_gaussian_posterior(
    x: Float[Tensor, "n d"],
    weight: Float[Tensor, "d h"],
    bias: Float[Tensor, " d"],
    logvar: Float[Tensor, ""],
) -> tuple[Float[Tensor, "n h"], Float[Tensor, "h h"]]:
    r"""Return mean and covariance of $p(\mathbf z\mid\mathbf x)$ of the same decoder.

    The covariance is the same for all inputs (equation `vae-linear-posterior`), and diagonal where
    the columns of W are orthogonal.
    """
    d, h = checks.tensor("weight", weight, shape=("d", "h"), floating=True).shape
    checks.tensor("x", x, shape=("n", d), floating=True)
    checks.tensor("bias", bias, shape=(d,), floating=True)
    precision = (-logvar).exp()
    inner = torch.eye(h, dtype=x.dtype, device=x.device) + precision * weight.T @ weight
    covariance = torch.linalg.inv(inner)  # eq. vae-linear-posterior
    return precision * (x - bias) @ weight @ covariance, covariance


# ---------------------------------------------------------------------------------------- discrete
class Quantized(NamedTuple):
    """What a quantizer makes of codes."""

    z: Tensor
    """The nearest codewords, with the gradient of what was given (straight through)."""
    indices: Tensor
    """Their numbers, 0 … m − 1."""
    loss: Tensor
    """Of each code, codebook and commitment together."""


class VectorQuantizer(nn.Module):
    r"""Replace every code by the nearest of m learned codewords.

    The gradient passes straight through (`vae-straight-through`); the codewords are drawn to the
    codes and the codes, with the weight `commitment`, to the codewords (`vae-vq-loss`).

    Args:
        num_embeddings: codewords m.
        embedding_dim: numbers h in each.
        commitment: weight of the second of the two losses, ≥ 0.
        device: of the codewords.
        dtype: of the codewords.

    Example:
        >>> quantizer = VectorQuantizer(2, 1)
        >>> _ = quantizer.weight.data.copy_(torch.tensor([[0.0], [1.0]]))
        >>> quantizer(torch.tensor([[0.2], [0.9]])).indices
        tensor([0, 1])

    Source: van den Oord, Vinyals and Kavukcuoglu 2017.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        commitment: float = 0.25,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.num_embeddings = checks.count("num_embeddings", num_embeddings, least=2)
        self.embedding_dim = checks.count("embedding_dim", embedding_dim)
        self.commitment = checks.number("commitment", commitment, least=0)
        shape = (num_embeddings, embedding_dim)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the codewords anew, from a narrow normal distribution."""
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)

    def nearest(self, z: Float[Tensor, "*n h"]) -> Int[Tensor, "*n"]:
        """Return the number of the nearest codeword (equation `vae-quantize`)."""
        checks.tensor("z", z, floating=True)
        if z.ndim == 0 or z.shape[-1] != self.embedding_dim:
            raise ValueError(
                f"z must have {self.embedding_dim} numbers a code (embedding_dim), "
                f"got shape {tuple(z.shape)}"
            )
        # ‖z − e‖² without ‖z‖², which is the same for all codewords
        distance = self.weight.square().sum(-1) - 2 * z @ self.weight.T
        return distance.argmin(-1)  # eq. vae-quantize

    def forward(self, z: Float[Tensor, "*n h"]) -> Quantized:
        """Return codewords, their numbers, and the loss of each code."""
        index = self.nearest(z)
        chosen = self.weight[index]
        codebook = (z.detach() - chosen).square().sum(-1)
        commitment = (z - chosen.detach()).square().sum(-1)
        loss = codebook + self.commitment * commitment  # eq. vae-vq-loss
        return Quantized(z + (chosen - z).detach(), index, loss)  # straight through

    @torch.no_grad()
    def revive(
        self,
        z: Float[Tensor, "n h"],
    ) -> int:
        """Move codewords that none of these codes use onto codes drawn from them.

        Returns:
            How many were moved.
        """
        checks.tensor("z", z, shape=("n", self.embedding_dim), floating=True)
        used = torch.bincount(self.nearest(z), minlength=self.num_embeddings) > 0
        dead = (~used).nonzero()[:, 0][: len(z)]
        at = torch.randperm(len(z), device=z.device)[: len(dead)]
        self.weight[dead] = z[at]
        return len(dead)
