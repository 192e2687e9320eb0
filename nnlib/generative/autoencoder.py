r"""Autoencoders: a code for the input, and the input again from the code.

`Autoencoder` is the plain one; with other losses it denoises, contracts, or keeps its units quiet
on average. `TopKAutoencoder` has many more units than inputs and lets k of them speak at a time, as
interpretability uses it. `principal_components` is the linear one in closed form.

Chapter: chapters/generative/autoencoder.md     Papers: Bourlard and Kamp 1988; Baldi and Hornik
1989; Vincent et al. 2008; Rifai et al. 2011; Alain and Bengio 2014; Gao et al. 2024
Axes: n examples, d input features, h code units, k of them that are used.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.activations import activation as named

KINDS = ("gaussian", "masking", "salt_and_pepper")


class Autoencoder(nn.Module):
    r"""An encoder and its mirror image: $\mathbf z=f(\mathbf x)$, $\hat{\mathbf x}=g(\mathbf z)$.

    Every hidden layer is an affine map and an activation, in the encoder and, the other way round,
    in the decoder; the code and the output have activations of their own (equations
    `autoencoder-encoder`, `autoencoder-decoder`). With two sizes, both are one layer each; with
    identities besides, it is linear, and its best reconstruction is that of principal components.

    Args:
        sizes: width of every layer of the encoder, input first: `[64, 128, 2]` squeezes 64 numbers
            through 128 into a code of 2. Two sizes or more.
        activation: of the hidden layers: a name in `nnlib.blocks.activations`.
        code_activation: of the code; `sigmoid` where its units are to be probabilities, as the
            penalty `sparsity_kl` takes them.
        output_activation: of the reconstruction; `sigmoid` keeps pixels in 0 … 1.
        tied: whether the decoder's weights are the encoder's, transposed (`autoencoder-tied`).
        device: of the weights.
        dtype: of the weights.

    Attributes:
        sizes: as given, a tuple.

    Example:
        >>> model = Autoencoder([64, 128, 2])
        >>> x = torch.zeros(5, 64)
        >>> model.encode(x).shape, model(x).shape
        (torch.Size([5, 2]), torch.Size([5, 64]))

    Source: Rumelhart, Hinton and Williams 1986; deep ones, Hinton and Salakhutdinov 2006.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activation: str = "relu",
        *,
        code_activation: str = "identity",
        output_activation: str = "identity",
        tied: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.sizes = _checked_sizes(sizes)
        self.activation = named(activation)
        self.code_activation = named(code_activation, argument="code_activation")
        self.output_activation = named(output_activation, argument="output_activation")
        self.tied = checks.flag("tied", tied)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.encoder = nn.ModuleList(
            nn.Linear(a, b, **like) for a, b in pairwise(self.sizes)
        )
        back = self.sizes[::-1]
        self.decoder = nn.ModuleList(nn.Linear(a, b, **like) for a, b in pairwise(back))
        if self.tied:
            for layer in self.decoder:
                layer.register_parameter("weight", None)

    def encode(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n h"]:
        """Return the code of each row."""
        z = _checked("x", x, self.sizes[0], "sizes[0]")
        for at, layer in enumerate(self.encoder):  # eq. autoencoder-encoder
            last = at == len(self.encoder) - 1
            z = (self.code_activation if last else self.activation)(layer(z))
        return z

    def decode(self, z: Float[Tensor, "*n h"]) -> Float[Tensor, "*n d"]:
        """Return the reconstruction of each code."""
        x = _checked("z", z, self.sizes[-1], "sizes[-1]")
        for at, layer in enumerate(self.decoder):  # eq. autoencoder-decoder
            own = cast("nn.Linear", layer)
            weight = own.weight
            if self.tied:
                there = cast("nn.Linear", self.encoder[-1 - at])
                weight = there.weight.T  # eq. autoencoder-tied
            last = at == len(self.decoder) - 1
            x = F.linear(x, weight, own.bias)
            x = (self.output_activation if last else self.activation)(x)
        return x

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return the reconstruction of each row."""
        return self.decode(self.encode(x))


def squared_error(
    x: Float[Tensor, "*n d"], x_hat: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n"]:
    r"""Return $\lVert\mathbf x - \hat{\mathbf x}\rVert^2$ of each row (`autoencoder-loss`).

    Args:
        x: inputs.
        x_hat: their reconstructions.

    Example:
        >>> squared_error(torch.zeros(1, 3), torch.ones(1, 3))
        tensor([3.])
    """
    checks.tensor("x_hat", x_hat, shape=tuple(x.shape), floating=True)
    return (x - x_hat).square().sum(-1)


def reconstruction_loss(model: nn.Module, x: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Return the mean over the rows of `squared_error` (equation `autoencoder-loss`)."""
    return squared_error(x, model(x)).mean()


# ------------------------------------------------------------------------- linear: principal axes
class PrincipalComponents(NamedTuple):
    """The linear autoencoder in closed form.

    Attributes:
        mean: of the data, d.
        components: orthonormal rows, k × d, the direction of largest variance first.
        variances: of the data along each, k.
    """

    mean: Tensor
    components: Tensor
    variances: Tensor

    def encode(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n k"]:
        """Return the coordinates of each row along the components."""
        return (x - self.mean) @ self.components.T

    def decode(self, z: Float[Tensor, "*n k"]) -> Float[Tensor, "*n d"]:
        """Return the point of the plane that has these coordinates."""
        return self.mean + z @ self.components


def principal_components(x: Float[Tensor, "n d"], k: int) -> PrincipalComponents:
    """Return the k orthonormal directions in which the rows vary most.

    No linear map through k numbers, and back, has a smaller squared error on them
    (equation `autoencoder-pca`).

    Args:
        x: data, two rows or more.
        k: how many, 1 … d.

    Source: Pearson 1901; for autoencoders, Bourlard and Kamp 1988.
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True, finite=True)
    checks.number("k", checks.count("k", k), most=min(x.shape))
    mean = x.mean(0)
    _, values, rows = torch.linalg.svd(x - mean, full_matrices=False)
    return PrincipalComponents(mean, rows[:k], values[:k].square() / (len(x) - 1))


def subspace_angle(
    a: Float[Tensor, "d k"], b: Float[Tensor, "d k"]
) -> Float[Tensor, ""]:
    r"""Return the largest principal angle between the spans of two sets of columns, in degrees.

    0 when they span the same subspace, whatever the bases (equation `autoencoder-angle`). Taken
    from the sine, which, unlike the cosine, is exact for small angles.

    Args:
        a: linearly independent columns.
        b: as many columns of the same length.

    Example:
        >>> subspace_angle(torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0], [1.0]]))
        tensor(45.)

    Source: Björck and Golub 1973.
    """
    checks.tensor("a", a, shape=("d", "k"), floating=True, finite=True)
    checks.tensor("b", b, shape=tuple(a.shape), floating=True, finite=True)
    first, second = torch.linalg.qr(a).Q, torch.linalg.qr(b).Q
    outside = second - first @ (first.T @ second)
    sine = torch.linalg.matrix_norm(outside, 2).clamp(max=1)
    return sine.asin().rad2deg()


# ------------------------------------------------------------------------------------- denoising
def corrupt(
    x: Float[Tensor, "*n"],
    level: float,
    kind: str = "gaussian",
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*n"]:
    r"""Return `x` damaged at random, as a denoising autoencoder gets it (`autoencoder-corrupt`).

    Args:
        x: data; for `salt_and_pepper`, in 0 … 1.
        level: of `gaussian` noise, its standard deviation σ, ≥ 0; of the others, the probability
            that an entry is hit, 0 … 1.
        kind: `gaussian` adds noise, `masking` sets entries to 0, `salt_and_pepper` to 0 or 1.
        generator: source of the randomness.

    Source: Vincent et al. 2008 (masking) and 2010 (the others).
    """
    checks.tensor("x", x, floating=True)
    checks.one_of("kind", kind, KINDS)
    most = None if kind == "gaussian" else 1.0
    level = checks.number("level", level, least=0, most=most)
    device = x.device if generator is None else generator.device
    how: dict[str, Any] = {"generator": generator, "dtype": x.dtype, "device": device}
    if kind == "gaussian":
        return x + level * torch.randn(x.shape, **how).to(x)  # eq. autoencoder-corrupt
    hit = torch.rand(x.shape, **how).to(x) < level
    if kind == "masking":
        return x.masked_fill(hit, 0.0)
    coin = torch.rand(x.shape, **how).to(x) < 0.5
    return torch.where(hit, coin.to(x), x)


def denoising_loss(
    model: nn.Module,
    x: Float[Tensor, "n d"],
    level: float,
    kind: str = "gaussian",
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    r"""Return the error against the *clean* input, from the damaged one (`autoencoder-denoising`).

    Args:
        model: sees `corrupt(x, level, kind)`.
        x: clean inputs.
        level: as for `corrupt`.
        kind: as for `corrupt`.
        generator: as for `corrupt`.
    """
    return squared_error(x, model(corrupt(x, level, kind, generator))).mean()


def score_from_denoiser(
    x: Float[Tensor, "*n d"], denoised: Float[Tensor, "*n d"], std: float
) -> Float[Tensor, "*n d"]:
    r"""Return $(r(\mathbf x) - \mathbf x)/\sigma^2$: the score of the noisy data, if r is optimal.

    Equation `autoencoder-score`: $\nabla_{\mathbf x}\log p_\sigma(\mathbf x)$, where
    $p_\sigma$ is the distribution of the corrupted data.

    Args:
        x: points.
        denoised: what the denoiser makes of them.
        std: of the noise that it was trained with, > 0.

    Source: Alain and Bengio 2014; the identity itself, Robbins 1956 and Miyasawa 1961.
    """
    checks.tensor("denoised", denoised, shape=tuple(x.shape), floating=True)
    return (denoised - x) / checks.number("std", std, above=0) ** 2


def optimal_denoiser(
    x: Float[Tensor, "n d"], data: Float[Tensor, "m d"], std: float
) -> Float[Tensor, "n d"]:
    r"""Return the mean of the clean examples that a noisy point may come from.

    $r^*(\mathbf x) = \sum_i w_i \mathbf x_i$ with weights
    $w \propto e^{-\lVert\mathbf x-\mathbf x_i\rVert^2/2\sigma^2}$ (`autoencoder-optimal`): no
    function of a noisy training example has a smaller squared error. It is attention over the data.

    Args:
        x: noisy points.
        data: the clean examples, equally probable.
        std: of the noise, > 0.
    """
    checks.tensor("x", x, shape=("n", data.shape[-1]), floating=True)
    std = checks.number("std", std, above=0)
    apart = torch.cdist(x, data).square()
    return (-apart / (2 * std**2)).softmax(dim=1) @ data


# ----------------------------------------------------------------------- contractive and sparse
def contractive_penalty(
    model: Autoencoder, x: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    r"""Return the mean of $\lVert\partial\mathbf z/\partial\mathbf x\rVert_F^2$ over the rows.

    How far the code moves when the input does (equation `autoencoder-contractive`). The Jacobian is
    taken by automatic differentiation, one backward pass for each unit of the code.

    Args:
        model: its `encode` is differentiated.
        x: inputs.

    Source: Rifai et al. 2011.
    """
    checks.tensor("x", x, shape=("n", "d"), floating=True, empty=False)
    jacobian = torch.func.vmap(torch.func.jacrev(model.encode))(x)
    return jacobian.square().sum((1, 2)).mean()


def sparsity_kl(rho: float, rho_hat: Float[Tensor, "*h"]) -> Float[Tensor, "*h"]:
    r"""Return $\mathrm{KL}(\rho\,\|\,\hat\rho_j)$ of each unit: 0 where its mean is as wanted.

    $\rho\log\frac{\rho}{\hat\rho_j}+(1-\rho)\log\frac{1-\rho}{1-\hat\rho_j}$, in nats: the
    divergence of two coins, of which one shows how often a unit should be active, and the other how
    active it is on average (equations `autoencoder-kl`, `autoencoder-rho-hat`). Finite at 0 and 1,
    too, where it is that of the nearest number inside.

    Args:
        rho: the share of the time that a unit should be on, in (0, 1).
        rho_hat: each unit's mean over a batch, 0 … 1: the code must come from a sigmoid, since the
            logarithm of a negative mean, as tanh has it, is not a number.

    Example:
        >>> sparsity_kl(0.5, torch.tensor([0.5, 0.25]))
        tensor([0.0000, 0.1438])

    Source: Ng 2011, lecture notes; as a penalty on sparse codes, Lee, Ekanadham and Ng 2007.
    """
    rho = checks.number("rho", rho, above=0, below=1)
    checks.tensor("rho_hat", rho_hat, floating=True)
    seen = checks.readable(rho_hat) and rho_hat.numel()
    if seen and not bool(((rho_hat >= 0) & (rho_hat <= 1)).all()):
        low, high = rho_hat.detach().aminmax()
        raise ValueError(
            f"rho_hat must lie in 0 … 1, got {low:g} … {high:g}: its code needs a sigmoid"
        )
    eps = torch.finfo(rho_hat.dtype).eps
    mean = rho_hat.clamp(eps, 1 - eps)
    on = rho * (torch.log(torch.full_like(mean, rho)) - mean.log())
    off = (1 - rho) * (torch.log1p(torch.full_like(mean, -rho)) - torch.log1p(-mean))
    return on + off  # eq. autoencoder-kl


def sparse_loss(
    model: Autoencoder, x: Float[Tensor, "n d"], rho: float, weight: float
) -> Float[Tensor, ""]:
    r"""Return $\mathcal L + \lambda\sum_j\mathrm{KL}(\rho\,\|\,\hat\rho_j)$ (`autoencoder-sparse`).

    Args:
        model: its code lies in 0 … 1.
        x: inputs; the means are over this batch.
        rho: as for `sparsity_kl`.
        weight: of the penalty, λ ≥ 0.
    """
    weight = checks.number("weight", weight, least=0)
    z = model.encode(x)
    error = squared_error(x, model.decode(z)).mean()
    return error + weight * sparsity_kl(rho, z.mean(0)).sum()  # eq. autoencoder-rho-hat


def top_k(z: Float[Tensor, "*n h"], k: int) -> Float[Tensor, "*n h"]:
    """Return `z` with all but the k largest of each row set to zero (`autoencoder-top-k`).

    Args:
        z: activations.
        k: how many are kept, 1 … h.

    Example:
        >>> top_k(torch.tensor([[3.0, 1.0, 2.0]]), 2)
        tensor([[3., 0., 2.]])

    Source: Makhzani and Frey 2013.
    """
    checks.tensor("z", z, floating=True)
    checks.number("k", checks.count("k", k), most=z.shape[-1])
    kept = z.topk(k, dim=-1)
    return torch.zeros_like(z).scatter(-1, kept.indices, kept.values)


class TopKAutoencoder(nn.Module):
    r"""Many features, of which the k largest speak: a sparse autoencoder without a penalty.

    $\mathbf z = \operatorname{TopK}\bigl(\operatorname{ReLU}(\mathbf W_e(\mathbf x -
    \mathbf b_\text{pre}) + \mathbf b_e)\bigr)$,
    $\hat{\mathbf x} = \mathbf W_d\mathbf z + \mathbf b_\text{pre}$ (equations
    `autoencoder-top-k-code`, `autoencoder-top-k-decode`). Each column of $\mathbf W_d$ is a
    feature's direction; `normalize_` keeps them at length 1, or features would grow and codes
    shrink at no cost.

    Args:
        input_size: d, of what is explained, ≥ 1.
        hidden_size: features h, usually many times d, ≥ 1.
        k: features that are used at a time, 1 … h.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        bias: the origin $\mathbf b_\text{pre}$; initialise it with the data's mean or median.

    Example:
        >>> model = TopKAutoencoder(input_size=4, hidden_size=32, k=3)
        >>> int((model.encode(torch.randn(5, 4)) > 0).sum(1).max()) <= 3
        True

    Source: Makhzani and Frey 2013; for language models, Gao et al. 2024, after Bricken et al. 2023
    and Cunningham et al. 2023.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        k: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = checks.count("input_size", input_size)
        self.hidden_size = checks.count("hidden_size", hidden_size)
        self.k = checks.count("k", k)
        if k > hidden_size:
            raise ValueError(f"k={k} must be at most hidden_size={hidden_size}")
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.encoder = nn.Linear(input_size, hidden_size, **like)
        self.decoder = nn.Linear(hidden_size, input_size, bias=False, **like)
        self.bias = nn.Parameter(torch.empty(input_size, **like))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw directions of length 1; the encoder begins as the decoder's transpose."""
        self.decoder.weight.normal_()
        self.normalize_()
        self.encoder.weight.copy_(self.decoder.weight.T)
        self.encoder.bias.zero_()
        self.bias.zero_()

    @torch.no_grad()
    def normalize_(self) -> "TopKAutoencoder":
        """Scale each feature's direction to length 1, after every step; return the model."""
        self.decoder.weight.copy_(F.normalize(self.decoder.weight, dim=0))
        return self

    def activations(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n h"]:
        """Return all features, before all but k are silenced."""
        x = _checked("x", x, self.input_size, "input_size")
        return self.encoder(x - self.bias).relu()

    def encode(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n h"]:
        """Return the code: k features at most are above zero."""
        return top_k(self.activations(x), self.k)  # eq. autoencoder-top-k-code

    def decode(self, z: Float[Tensor, "*n h"]) -> Float[Tensor, "*n d"]:
        """Return the sum of the directions, each times its feature."""
        z = _checked("z", z, self.hidden_size, "hidden_size")
        return self.decoder(z) + self.bias  # eq. autoencoder-top-k-decode

    def decode_few(
        self, values: Float[Tensor, "n k"], indices: Int[Tensor, "n k"]
    ) -> Float[Tensor, "n d"]:
        """Return what `decode` returns, from the k features alone: k columns are read, not h.

        Args:
            values: the features that are used, such as `activations(x).topk(k)` gives them.
            indices: which ones they are.
        """
        checks.tokens("indices", indices, self.hidden_size, of="hidden_size")
        checks.tensor("values", values, shape=tuple(indices.shape), floating=True)
        columns = self.decoder.weight.T
        total = F.embedding_bag(indices, columns, per_sample_weights=values, mode="sum")
        return total + self.bias

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
        """Return the reconstruction of each row."""
        return self.decode(self.encode(x))


def revival_loss(
    model: TopKAutoencoder,
    x: Float[Tensor, "n d"],
    dead: Bool[Tensor, " h"],
    k: int,
) -> Float[Tensor, ""]:
    r"""Return how badly the dead features explain what the living ones left over.

    A feature that is never among the k largest gets no gradient and stays dead. This second loss,
    usually with a weight of 1/32, gives it one: $\lVert\mathbf e - \hat{\mathbf e}\rVert^2$, where
    $\mathbf e = \mathbf x - \hat{\mathbf x}$ and $\hat{\mathbf e}$ is decoded from the k largest of
    the dead (equation `autoencoder-revival`). The mean over the rows; 0 where none is dead.

    Args:
        model: the autoencoder.
        x: inputs.
        dead: which features have not been used for long.
        k: how many of the dead are used at most, ≥ 1.

    Source: Gao et al. 2024, who call it AuxK.
    """
    checks.tensor("dead", dead, shape=(model.hidden_size,))
    checks.count("k", k)
    if not bool(dead.any()):
        return x.new_zeros(())
    left = (x - model(x)).detach()
    quiet = model.activations(x).masked_fill(~dead, 0.0)
    back = model.decoder(top_k(quiet, min(k, int(dead.sum()))))
    return squared_error(left, back).mean()


def _checked(name: str, x: Tensor, width: int, argument: str) -> Tensor:
    checks.tensor(name, x, floating=True)
    if x.ndim == 0 or x.shape[-1] != width:
        raise ValueError(
            f"{name} must have {argument}={width} columns, got shape {tuple(x.shape)}"
        )
    return x


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if isinstance(sizes, str | Tensor) or not isinstance(sizes, Sequence):
        raise TypeError(f"sizes={sizes!r} must be a sequence of integers, input first")
    if len(sizes) < 2:
        raise ValueError(f"sizes={list(sizes)} must have an input and a code")
    return tuple(checks.count(f"sizes[{at}]", size) for at, size in enumerate(sizes))
