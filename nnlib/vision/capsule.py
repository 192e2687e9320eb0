r"""Capsules: vectors whose length says how likely a thing is there, and whose direction says how.

`squash` makes a length between 0 and 1 of any vector. `dynamic_routing` lets the capsules of one
layer decide to which capsules of the next they send their votes; `dynamic_routing_loop` is its slow
twin, capsule by capsule, and `em_routing` its successor, which fits a Gaussian to each cluster of
votes. `CapsuleNetwork` is the network of 2017 with its decoder, `margin_loss` what it minimises.

Chapter: chapters/vision/capsule.md     Papers: Sabour, Frosst and Hinton 2017; Hinton, Sabour and
Frosst 2018
Axes: b batch, c y x channels, rows and columns of an image, i lower capsules, j upper capsules, p d
numbers in a lower and in an upper capsule, k classes.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.vision.cnn import output_size


def squash(s: Float[Tensor, "*axes"], dim: int = -1) -> Float[Tensor, "*axes"]:
    r"""Shrink each vector to a length between 0 and 1, and keep its direction.

    $\operatorname{squash}(s) = \frac{\lVert s\rVert^2}{1+\lVert s\rVert^2}\frac{s}{\lVert s\rVert}$
    (equation `capsule-squash`), computed without dividing by the length: zero stays zero, with a
    finite slope, and the largest vectors that a number format holds do not overflow.

    Args:
        s: vectors.
        dim: the axis along which their numbers lie.

    Example:
        >>> squash(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.5769, 0.7692],
                [0.0000, 0.0000]])

    Source: Sabour, Frosst and Hinton 2017, equation 1.
    """
    checks.tensor("s", s, floating=True)
    if isinstance(dim, bool) or not isinstance(dim, int):
        raise TypeError(f"dim={dim!r} must be an integer")
    if not -s.ndim <= dim < s.ndim or s.shape[dim] == 0:
        raise ValueError(
            f"dim={dim} must be an axis of s that is not empty, of {tuple(s.shape)}"
        )
    # Only the ratio of s and `scale` enters; the result does not depend on `scale`, nor its slope.
    scale = s.detach().abs().amax(dim, keepdim=True).clamp_min(1)
    t = s / scale
    length = torch.linalg.vector_norm(t, dim=dim, keepdim=True)
    return t * (
        length / (scale.reciprocal().square() + length.square())
    )  # eq. capsule-squash


class Routed(NamedTuple):
    """What routing gives: the capsules of the upper layer, and which votes they were made of."""

    capsules: Tensor
    couplings: Tensor


def dynamic_routing(votes: Float[Tensor, "b i j d"], iterations: int = 3) -> Routed:
    r"""Route by agreement: votes that point where their capsule points count for more next time.

    With logits $b_{ij}$ that begin at 0, each iteration computes $c_{ij}$, the softmax of $b_{ij}$
    over $j$ (equation `capsule-coupling`), $s_j = \sum_i c_{ij}\hat u_{j|i}$ (`capsule-sum`) and
    $v_j = \operatorname{squash}(s_j)$; all but the last then add $\hat u_{j|i}\cdot v_j$ to
    $b_{ij}$ (`capsule-agreement`). One iteration couples everything alike. The gradient passes
    through all iterations.

    Args:
        votes: $\hat u_{j|i}$, what each lower capsule i says about each upper capsule j.
        iterations: how often the upper capsules are computed, ≥ 1.

    Returns:
        `capsules` v of shape (b, j, d) and `couplings` c of shape (b, i, j), those of the last
        iteration.

    Example:
        >>> votes = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0], [-1.0, 0.0]]]])
        >>> dynamic_routing(votes).couplings  # two agree on the first, and differ on the second
        tensor([[[0.7517, 0.2483],
                 [0.7517, 0.2483]]])

    Source: Sabour, Frosst and Hinton 2017, procedure 1.
    """
    _check_votes(votes)
    iterations = checks.count("iterations", iterations)
    u = votes.transpose(1, 2)  # b j i d, so that both sums are products of matrices
    u = u.contiguous() if iterations > 1 else u  # read several times
    logits = u.new_zeros(u.shape[:3])
    for at in range(iterations):
        couplings = logits.softmax(1)  # eq. capsule-coupling
        s = (couplings.unsqueeze(2) @ u).squeeze(2)  # eq. capsule-sum
        capsules = squash(s)
        if at < iterations - 1:
            logits = logits + (u @ capsules.unsqueeze(3)).squeeze(
                3
            )  # eq. capsule-agreement
    return Routed(capsules, couplings.transpose(1, 2))


def _check_votes(votes: Tensor) -> None:
    checks.tensor("votes", votes, shape=("b", "i", "j", "d"), floating=True)
    if 0 in votes.shape[1:]:
        raise ValueError(f"votes must not be empty but in b, got {tuple(votes.shape)}")


def dynamic_routing_loop(
    votes: Float[Tensor, "b i j d"], iterations: int = 3
) -> Routed:
    """Return what `dynamic_routing` returns, one capsule of one image after the other."""
    _check_votes(votes)
    iterations = checks.count("iterations", iterations)
    _, lower, upper, _ = votes.shape
    found, used = [], []
    for u in votes:  # i j d, of one image
        b = [[votes.new_zeros(()) for _ in range(upper)] for _ in range(lower)]
        for at in range(iterations):
            c = [torch.stack(row).softmax(0) for row in b]
            v = [
                squash(sum(c[i][j] * u[i, j] for i in range(lower)))
                for j in range(upper)
            ]
            if at < iterations - 1:
                b = [
                    [b[i][j] + u[i, j] @ v[j] for j in range(upper)]
                    for i in range(lower)
                ]
        found.append(torch.stack(v))
        used.append(torch.stack(c))
    return Routed(torch.stack(found), torch.stack(used))


def routing_entropy(couplings: Float[Tensor, "b i j"]) -> Float[Tensor, "b i"]:
    r"""Return how undecided each lower capsule is: 1 if it sends to all alike, 0 if to one only.

    $-\sum_j c_{ij}\ln c_{ij} / \ln J$ for $J$ upper capsules (equation `capsule-entropy`).

    Args:
        couplings: $c_{ij}$, with two upper capsules j or more, which add up to 1.

    Example:
        >>> routing_entropy(torch.tensor([[[0.5, 0.5], [1.0, 0.0]]]))
        tensor([[1., 0.]])
    """
    checks.tensor("couplings", couplings, shape=("b", "i", "j"), floating=True)
    if couplings.shape[2] < 2:
        raise ValueError(
            f"couplings must choose among 2 capsules or more, got {tuple(couplings.shape)}"
        )
    entropy = torch.special.entr(couplings).sum(2)  # 0 at 0
    return entropy / math.log(couplings.shape[2])  # eq. capsule-entropy


class EMRouted(NamedTuple):
    """What EM routing gives: poses and activations of the upper layer, and who went where."""

    poses: Tensor
    activations: Tensor
    assignments: Tensor


def em_routing(
    votes: Float[Tensor, "b i j d"],
    activations: Float[Tensor, "b i"],
    beta_u: Float[Tensor, " j"],
    beta_a: Float[Tensor, " j"],
    iterations: int = 3,
    temperature: float = 1.0,
) -> EMRouted:
    r"""Route by expectation-maximisation: an upper capsule is a Gaussian that explains votes.

    The M-step fits mean $\mu_j$ and variance $\sigma_j^2$ to the votes, weighted by $r_{ij} a_i$
    (equations `capsule-em-mean`, `capsule-em-variance`), and activates the capsule if describing
    its votes by that Gaussian is cheap (`capsule-em-activation`). The E-step gives each lower
    capsule to the Gaussians under which its votes are likely (`capsule-em-assign`).

    Args:
        votes: the pose that each lower capsule i predicts for each upper capsule j.
        activations: how present each lower capsule is, 0 … 1.
        beta_u: what it costs to leave a lower capsule's vote unexplained, for each upper capsule.
        beta_a: what it costs to leave an upper capsule inactive, for each.
        iterations: M-steps, ≥ 1, with an E-step between two.
        temperature: of the activation's logistic function, > 0; the paper lowers it in training.

    Returns:
        `poses` μ of shape (b, j, d), `activations` of shape (b, j) and `assignments` r of shape
        (b, i, j), those of the last M-step.

    Example:
        >>> votes = torch.randn(2, 5, 3, 16)
        >>> em_routing(votes, torch.ones(2, 5), torch.zeros(3), torch.zeros(3)).poses.shape
        torch.Size([2, 3, 16])

    Source: Hinton, Sabour and Frosst 2018, procedure 1, whose λ is 1 / `temperature`.
    """
    _check_votes(votes)
    batch, lower, upper, _ = votes.shape
    checks.tensor("activations", activations, shape=(batch, lower), floating=True)
    for name, beta in (("beta_u", beta_u), ("beta_a", beta_a)):
        checks.tensor(name, beta, shape=(upper,), floating=True)
    iterations = checks.count("iterations", iterations)
    temperature = checks.number("temperature", temperature, above=0)
    least = torch.finfo(votes.dtype).eps
    r = votes.new_full((batch, lower, upper), 1 / upper)
    for at in range(iterations):
        # M-step
        weight = (r * activations.unsqueeze(2)).unsqueeze(3)  # b i j 1
        total = weight.sum(1)  # b j 1
        share = weight / total.clamp_min(least).unsqueeze(1)
        mean = (share * votes).sum(1)  # eq. capsule-em-mean
        apart = (votes - mean.unsqueeze(1)).square()
        variance = (share * apart).sum(1) + least  # eq. capsule-em-variance
        cost = ((beta_u.unsqueeze(1) + variance.log() / 2) * total).sum(
            2
        )  # eq. capsule-em-cost
        active = ((beta_a - cost) / temperature).sigmoid()  # eq. capsule-em-activation
        if at < iterations - 1:  # E-step
            likely = (
                -(apart / variance.unsqueeze(1) + variance.log().unsqueeze(1)).sum(3)
                / 2
            )
            logits = active.clamp_min(least).log().unsqueeze(1) + likely
            r = logits.softmax(2)  # eq. capsule-em-assign
    return EMRouted(mean, active, r)


def margin_loss(
    lengths: Float[Tensor, "b k"],
    y: Int[Tensor, " b"] | Bool[Tensor, "b k"],
    upper: float = 0.9,
    lower: float = 0.1,
    down_weight: float = 0.5,
) -> Float[Tensor, ""]:
    r"""Return the mean over the batch of what is too short where present, too long where absent.

    $\sum_k T_k \max(0, m^+ - \lVert v_k\rVert)^2 + \lambda (1-T_k)\max(0, \lVert v_k\rVert-m^-)^2$
    (equation `capsule-margin-loss`). Each class has a term of its own, so several may be present.

    Args:
        lengths: $\lVert v_k\rVert$ of each class capsule.
        y: the class that is present; or, True for each class that is.
        upper: $m^+$, the length from which a present class costs nothing, 0 … 1.
        lower: $m^-$, the length up to which an absent class costs nothing, 0 … `upper`.
        down_weight: λ, the weight of absent classes, ≥ 0, which keeps all lengths from shrinking
            at the start.

    Example:
        >>> margin_loss(torch.tensor([[0.7, 0.3]]), torch.tensor([0]))
        tensor(0.0600)

    Source: Sabour, Frosst and Hinton 2017, equation 4.
    """
    checks.tensor("lengths", lengths, shape=("b", "k"), floating=True, empty=False)
    upper = checks.number("upper", upper, least=0, most=1)
    lower = checks.number("lower", lower, least=0, most=upper)
    down_weight = checks.number("down_weight", down_weight, least=0)
    if isinstance(y, Tensor) and y.dtype == torch.bool:
        present = checks.tensor("y", y, shape=tuple(lengths.shape))
    else:
        checks.labels("y", y, lengths.shape[1], length=len(lengths))
        present = F.one_hot(y.long(), lengths.shape[1]).bool()
    short, long = (upper - lengths).relu().square(), (lengths - lower).relu().square()
    return (
        torch.where(present, short, down_weight * long).sum(1).mean()
    )  # eq. capsule-margin-loss


class Recognized(NamedTuple):
    """What a capsule network says: how present each class is, and the image as it understood it."""

    lengths: Tensor
    reconstruction: Tensor


class CapsuleNetwork(nn.Module):
    r"""CapsNet: a convolution, a layer of small capsules, and one capsule for each class.

    The maps of a second convolution, with stride 2, are cut into vectors and squashed: the primary
    capsules $u_i$ (equation `capsule-primary`). Each votes for each class with a matrix of its own,
    $\hat u_{j|i} = W_{ij} u_i$ (`capsule-vote`), and `dynamic_routing` makes the class capsules.
    A decoder draws the image from one of them (`capsule-decoder`). The defaults are the paper's
    network for MNIST, with 8 215 568 parameters, 6 804 224 of them without the decoder.

    Args:
        in_channels: channels of an image, ≥ 1.
        num_classes: classes, ≥ 2.
        image_size: rows and columns of an image, large enough for both convolutions.
        channels: of the first convolution, ≥ 1.
        primary_channels: capsules at each place of the second, ≥ 1.
        primary_dim: numbers in a primary capsule, ≥ 1.
        class_dim: numbers in a class capsule, ≥ 1.
        kernel_size: of both convolutions, ≥ 1.
        iterations: of the routing, ≥ 1; with 1, all couplings are alike.
        decoder: hidden units of each layer of the decoder, one or more.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        weight: the matrices $W_{ij}$, of shape (i, j, p, d).

    Example:
        >>> model = CapsuleNetwork(image_size=16, channels=8, primary_channels=2, kernel_size=5)
        >>> lengths, reconstruction = model(torch.rand(3, 1, 16, 16))
        >>> lengths.shape, reconstruction.shape
        (torch.Size([3, 10]), torch.Size([3, 1, 16, 16]))

    Source: Sabour, Frosst and Hinton 2017.
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        channels: int = 256,
        primary_channels: int = 32,
        primary_dim: int = 8,
        class_dim: int = 16,
        kernel_size: int = 9,
        iterations: int = 3,
        decoder: Sequence[int] = (512, 1024),
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        self.num_classes = checks.count("num_classes", num_classes, least=2)
        self.image_size = checks.count("image_size", image_size)
        channels = checks.count("channels", channels)
        self.primary_channels = checks.count("primary_channels", primary_channels)
        self.primary_dim = checks.count("primary_dim", primary_dim)
        self.class_dim = checks.count("class_dim", class_dim)
        k = checks.count("kernel_size", kernel_size)
        self.iterations = checks.count("iterations", iterations)
        if isinstance(decoder, str) or not isinstance(decoder, Sequence):
            raise TypeError(f"decoder={decoder!r} must be a sequence of integers")
        if not decoder:
            raise ValueError("decoder must hold one number or more, got none")
        hidden = [
            checks.count(f"decoder[{at}]", units) for at, units in enumerate(decoder)
        ]
        if image_size < 2 * k - 1:
            raise ValueError(
                f"image_size={image_size} must be ≥ {2 * k - 1} for two convolutions of "
                f"kernel_size={k}"
            )
        places = output_size(output_size(image_size, k), k, stride=2) ** 2
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.convolution = nn.Conv2d(self.in_channels, channels, k, **like)
        maps = self.primary_channels * self.primary_dim
        self.primary = nn.Conv2d(channels, maps, k, stride=2, **like)
        self.weight = nn.Parameter(
            torch.empty(
                places * self.primary_channels, self.num_classes, self.primary_dim,
                self.class_dim, **like,
            )
        )  # fmt: skip
        pixels = self.in_channels * image_size**2
        sizes = [self.num_classes * self.class_dim, *hidden, pixels]
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after, **like), nn.ReLU()]
        self.decoder = nn.Sequential(*layers[:-1], nn.Sigmoid())
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draw everything anew, so that both layers of capsules begin with lengths near 1 / 2.

        Squash is flat near zero, so capsules that begin too short learn slowly. Weights of the
        first convolution begin with a variance of 2 over a unit's inputs, those of the second with
        1 over them, and each $W_{ij}$ with a standard deviation of $J / \sqrt{I d}$.
        """
        nn.init.kaiming_normal_(self.convolution.weight, nonlinearity="relu")
        nn.init.kaiming_normal_(self.primary.weight, nonlinearity="linear")
        for convolution in (self.convolution, self.primary):
            if convolution.bias is not None:
                nn.init.zeros_(convolution.bias)
        for module in self.decoder:
            if isinstance(module, nn.Linear):
                module.reset_parameters()
        capsules, classes, _, size = self.weight.shape
        nn.init.normal_(self.weight, std=classes / (capsules * size) ** 0.5)

    def primaries(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b i p"]:
        """Return the primary capsules, places of one map of capsules after the other."""
        checks.images("x", x, self.in_channels)
        checks.tensor("x", x, shape=("b", "c", self.image_size, self.image_size))
        maps = self.primary(self.convolution(x).relu()).flatten(2)
        vectors = maps.unflatten(
            1, (self.primary_channels, self.primary_dim)
        ).transpose(2, 3)
        return squash(vectors.flatten(1, 2))  # eq. capsule-primary

    def votes(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b i j d"]:
        """Return what each primary capsule says about each class."""
        return torch.einsum(
            "bip,ijpd->bijd", self.primaries(x), self.weight
        )  # eq. capsule-vote

    def route(self, x: Float[Tensor, "b c y x"]) -> Routed:
        """Return the class capsules, b k d, and the couplings of the primary capsules, b i k."""
        return dynamic_routing(self.votes(x), self.iterations)

    def reconstruct(
        self, capsules: Float[Tensor, "b k d"], y: Int[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c y x"]:
        """Draw images from one capsule each; the others are set to zero.

        Args:
            capsules: of the classes.
            y: the class to draw; if None, that of the longest capsule.
        """
        shape = ("b", self.num_classes, self.class_dim)
        checks.tensor("capsules", capsules, shape=shape, floating=True)
        if y is None:
            y = capsules.square().sum(2).argmax(1)
        else:
            checks.labels("y", y, self.num_classes, length=len(capsules))
        kept = F.one_hot(y.long(), self.num_classes).to(capsules).unsqueeze(2)
        pixels = self.decoder((capsules * kept).flatten(1))  # eq. capsule-decoder
        return pixels.unflatten(1, (self.in_channels, self.image_size, self.image_size))

    def forward(
        self, x: Float[Tensor, "b c y x"], y: Int[Tensor, " b"] | None = None
    ) -> Recognized:
        """Return how present each class is, 0 … 1, and the image drawn from one class capsule.

        Args:
            x: images, with values 0 … 1 where they are to be reconstructed.
            y: the class to draw from, as in training; if None, the longest capsule's.
        """
        capsules = self.route(x).capsules
        lengths = torch.linalg.vector_norm(capsules, dim=2)  # eq. capsule-length
        return Recognized(lengths, self.reconstruct(capsules, y))
