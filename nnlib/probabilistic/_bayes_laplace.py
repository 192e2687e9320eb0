"""Laplace's approximation: a Gaussian about a trained network, as wide as its loss is flat."""

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from nnlib import checks
from nnlib.probabilistic._bayes_ensemble import prior_stds
from nnlib.probabilistic._bayes_scores import Predictive

STRUCTURES = ("full", "kfac", "diagonal")
LIKELIHOODS = ("gaussian", "categorical")


class LaplacePosterior(nn.Module):
    """What `laplace_` leaves in a network as `network.posterior`; `laplace_predict` reads it.

    All of it is in units of the prior: weights are divided by their prior's standard deviation,
    so that the prior's precision is 1.

    Attributes:
        names: the parameters that are uncertain; the others stay at their trained values.
        structure: how the precision is kept.
        likelihood: what the outputs mean.
        noise_std: of a measurement.
        log_evidence: logarithm of the probability density of the data, by this approximation.
    """

    def __init__(
        self,
        names: list[str],
        stds: dict[str, float],
        structure: str,
        likelihood: str,
        noise_std: float,
    ):
        super().__init__()
        self.names, self.stds = names, stds
        self.structure, self.likelihood = structure, likelihood
        self.noise_std = noise_std
        self.log_evidence = math.nan

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` itself: `nn.Sequential` calls whatever has been put into it."""
        return x

    def keep(self, name: str, value: Tensor) -> None:
        """Keep a tensor, to be saved with the network."""
        self.register_buffer(name, value)


def laplace_(
    network: nn.Module,
    x: Float[Tensor, "n d"],
    y: Tensor,
    *,
    prior_std: float | Mapping[str, float] = 1.0,
    noise_std: float = 1.0,
    likelihood: str = "gaussian",
    structure: str = "full",
    last_layer: bool = False,
) -> nn.Module:
    r"""Give a trained network its Laplace posterior, in place, and return the network.

    The trained weights, which should be those of the largest posterior density under this prior,
    become the mean; the precision is the generalised Gauss–Newton matrix of the log-likelihood plus
    the prior's, eq. bayesian-ggn. The weights do not change, so the network's own answers do not
    either: what is new is `network.posterior`, which `laplace_predict` turns into error bars.

    Args:
        network: from n d to n k outputs; answers in evaluation mode.
        x: the inputs that it was trained on.
        y: their targets, n k; for a categorical likelihood their classes, n.
        prior_std: standard deviation of the weights' prior, > 0; one, or by name of a parameter.
        noise_std: standard deviation of a measurement, > 0; not used for classes.
        likelihood: "gaussian", or "categorical", where the outputs are logits.
        structure: "full" keeps p² numbers, "kfac" two small matrices a layer (for linear layers
            with a bias), "diagonal" p numbers.
        last_layer: whether only the last `torch.nn.Linear` is uncertain.

    Example:
        >>> x = torch.tensor([[1.0], [2.0]])
        >>> line = nn.Linear(1, 1, bias=False)
        >>> line.weight.data.fill_(5 / 6)  # the mean of the exact posterior
        tensor([[0.8333]])
        >>> laplace_predict(laplace_(line, x, x), torch.tensor([[1.0]])).epistemic  # 1 / 6
        tensor([[0.1667]])

    Raises:
        ValueError: an option that does not exist, or a structure that does not fit the network.

    Source: MacKay 1992; Daxberger et al. 2021 (what is used today); Martens and Grosse 2015 (KFAC).
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"network must be a torch.nn.Module, got {network!r}")
    checks.tensor("x", x, floating=True, empty=False)
    checks.one_of("structure", structure, STRUCTURES)
    checks.one_of("likelihood", likelihood, LIKELIHOODS)
    noise_std = checks.number("noise_std", noise_std, above=0)
    stds = prior_stds(_without_posterior(network), prior_std, "prior_std")
    names = _uncertain(network, checks.flag("last_layer", last_layer))
    posterior = LaplacePosterior(names, stds, structure, likelihood, noise_std)
    with torch.no_grad():
        outputs, inputs = _outputs_and_inputs(network, x)
        if outputs.ndim != 2:
            raise ValueError(f"network must answer n k, got {tuple(outputs.shape)}")
        log_likelihood, root = _likelihood(outputs, y, likelihood, noise_std)
        jacobians = _jacobians(network, x, posterior)
        rooted = {
            name: torch.einsum("nlk,nkp->nlp", root, part.flatten(2))
            for name, part in jacobians.items()
        }
        log_determinant = _MAKERS[structure](posterior, network, inputs, rooted)
        squares = sum(
            (value.detach().double() / stds[name]).square().sum().item()
            for name, value in network.named_parameters()
            if name in names
        )
    posterior.log_evidence = log_likelihood - 0.5 * (squares + log_determinant)
    network.posterior = posterior
    return network


def _without_posterior(network: nn.Module) -> nn.Module:
    if isinstance(getattr(network, "posterior", None), LaplacePosterior):
        del network.posterior
    return network


def _uncertain(network: nn.Module, last_layer: bool) -> list[str]:
    names = [name for name, value in network.named_parameters() if value.requires_grad]
    if last_layer:
        layers = [
            k for k, part in network.named_modules() if isinstance(part, nn.Linear)
        ]
        if not layers:
            raise ValueError("last_layer=True needs a torch.nn.Linear in network")
        names = [name for name in names if name.rpartition(".")[0] == layers[-1]]
    if not names:
        raise ValueError("network has nothing that is learned")
    return names


def _outputs_and_inputs(
    network: nn.Module, x: Tensor
) -> tuple[Tensor, dict[str, list[Tensor]]]:
    """Return the outputs, and what enters each linear layer at each call, by its name."""
    inputs: dict[str, list[Tensor]] = defaultdict(list)
    hooks = [
        part.register_forward_pre_hook(
            lambda _, given, name=name: inputs[name].append(given[0].detach())
        )
        for name, part in network.named_modules()
        if isinstance(part, nn.Linear)
    ]
    was = network.training
    try:
        return network.eval()(x), inputs
    finally:
        network.train(was)
        for hook in hooks:
            hook.remove()


def _likelihood(
    outputs: Tensor, y: Tensor, likelihood: str, noise_std: float
) -> tuple[float, Tensor]:
    """Return the log-likelihood, and a root R of its curvature, n k k with R'R the curvature."""
    n, k = outputs.shape
    if likelihood == "gaussian":
        checks.tensor("y", y, shape=(n, k), floating=True, finite=True)
        z = (y.double() - outputs.double()) / noise_std
        constant = math.log(noise_std) + 0.5 * math.log(2 * math.pi)
        value = -0.5 * z.square().sum().item() - n * k * constant
        eye = torch.eye(k, dtype=torch.float64, device=outputs.device)
        return value, (eye / noise_std).expand(n, k, k)
    checks.labels("y", y, k, length=n)
    log_p = outputs.double().log_softmax(-1)
    p = log_p.exp()
    # diag(p) − pp' = R'R with R = diag(√p) (I − 1p'): row l is √p_l (e_l − p)
    eye = torch.eye(k, dtype=torch.float64, device=outputs.device)
    root = p.sqrt()[:, :, None] * (eye - p[:, None, :])
    return log_p.gather(1, y[:, None].long()).sum().item(), root


def _jacobians(
    network: nn.Module, x: Tensor, posterior: LaplacePosterior
) -> dict[str, Tensor]:
    """Return the derivative of each output by each weight in units of the prior: n k *shape."""
    everything = {k: v.detach() for k, v in network.named_parameters()}
    everything |= dict(network.named_buffers())
    moving = {name: everything[name] for name in posterior.names}
    was = network.training

    def answer(weights: dict[str, Tensor], given: Tensor) -> Tensor:
        return functional_call(network, everything | weights, (given[None],))[0]

    try:
        network.eval()
        found = vmap(jacrev(answer), (None, 0))(moving, x)
    finally:
        network.train(was)
    return {name: part.double() * posterior.stds[name] for name, part in found.items()}


def _make_full(
    posterior: LaplacePosterior,
    network: nn.Module,
    inputs: dict[str, list[Tensor]],
    rooted: dict[str, Tensor],
) -> float:
    rows = torch.cat(list(rooted.values()), -1).flatten(0, 1)
    eye = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device)
    factor = torch.linalg.cholesky(eye + rows.mT @ rows)
    posterior.keep("factor", factor)
    return 2 * factor.diagonal().log().sum().item()


def _make_diagonal(
    posterior: LaplacePosterior,
    network: nn.Module,
    inputs: dict[str, list[Tensor]],
    rooted: dict[str, Tensor],
) -> float:
    rows = torch.cat(list(rooted.values()), -1)
    precision = 1 + rows.square().sum((0, 1))
    posterior.keep("precision", precision)
    return precision.log().sum().item()


def _layers(posterior: LaplacePosterior, network: nn.Module) -> list[str]:
    """Return the names of the linear layers whose weights and biases are all that is uncertain."""
    layers = [
        name for name, part in network.named_modules() if isinstance(part, nn.Linear)
    ]
    joined = {name: f"{name}." if name else "" for name in layers}
    fitting = [
        name
        for name in layers
        if {f"{joined[name]}weight", f"{joined[name]}bias"} <= set(posterior.names)
    ]
    if 2 * len(fitting) != len(posterior.names):
        raise ValueError(
            "structure='kfac' takes linear layers with a bias, and this network has "
            f"{posterior.names}"
        )
    return fitting


def _make_kfac(
    posterior: LaplacePosterior,
    network: nn.Module,
    inputs: dict[str, list[Tensor]],
    rooted: dict[str, Tensor],
) -> float:
    total = 0.0
    for at, name in enumerate(_layers(posterior, network)):
        dot = f"{name}." if name else ""
        scale = posterior.stds[f"{dot}bias"]
        entered = inputs.get(name, [])
        if len(entered) != 1 or entered[0].ndim != 2:
            shapes = [tuple(part.shape) for part in entered]
            raise ValueError(
                "structure='kfac' takes linear layers that read one row an example, once, "
                f"and {name or 'network'} reads {shapes}"
            )
        a = entered[0].double() * posterior.stds[f"{dot}weight"]
        a = torch.cat([a, torch.full_like(a[:, :1], scale)], 1)
        g = rooted[f"{dot}bias"] / scale  # by the values before the activation
        first = a.mT @ a
        second = torch.einsum("nko,nkq->oq", g, g) / len(a)
        for side, part in (("a", first), ("g", second)):
            values, vectors = torch.linalg.eigh(part)
            posterior.keep(f"values_{side}{at}", values.clamp_min(0))
            posterior.keep(f"vectors_{side}{at}", vectors)
        total += _precisions(posterior, at).log().sum().item()
    return total


def _precisions(posterior: LaplacePosterior, at: int) -> Tensor:
    """Return the precision along each pair of eigenvectors of a layer, outputs by inputs."""
    a, g = (posterior.get_buffer(f"values_{side}{at}").double() for side in "ag")
    return 1 + g[:, None] * a


_MAKERS = {"full": _make_full, "diagonal": _make_diagonal, "kfac": _make_kfac}


@torch.no_grad()
def laplace_predict(network: nn.Module, x: Float[Tensor, "n d"]) -> Predictive:
    r"""Return what a network says, with error bars, eq. bayesian-linearised.

    The network is replaced by its tangent at the trained weights, whose outputs are exactly
    Gaussian under a Gaussian over weights. The mean is the network's own answer. For a categorical
    likelihood mean and variance are those of the logits, and `probit_probabilities` turns them into
    classes.

    Args:
        network: what `laplace_` has returned.
        x: where to look.

    Raises:
        ValueError: the network has no posterior.

    Source: Khan et al. 2019; Immer et al. 2021.
    """
    posterior = getattr(network, "posterior", None)
    if not isinstance(posterior, LaplacePosterior):
        raise ValueError("network has no posterior; laplace_ gives it one")
    outputs, _ = _outputs_and_inputs(network, x)
    jacobians = _jacobians(network, x, posterior)
    variance = _VARIANCES[posterior.structure](posterior, network, jacobians)
    gaussian = posterior.likelihood == "gaussian"
    noise = posterior.noise_std**2 if gaussian else 0.0
    return Predictive(
        outputs, variance.to(outputs.dtype), torch.full_like(outputs, noise)
    )


def _flat(jacobians: dict[str, Tensor]) -> Tensor:
    return torch.cat([part.flatten(2) for part in jacobians.values()], -1)


def _variance_full(
    posterior: LaplacePosterior, network: nn.Module, jacobians: dict[str, Tensor]
) -> Tensor:
    rows = _flat(jacobians)
    factor = posterior.get_buffer("factor").double()
    solved = torch.linalg.solve_triangular(factor, rows.flatten(0, 1).mT, upper=False)
    return solved.square().sum(0).view(rows.shape[:2])


def _variance_diagonal(
    posterior: LaplacePosterior, network: nn.Module, jacobians: dict[str, Tensor]
) -> Tensor:
    return (_flat(jacobians).square() / posterior.get_buffer("precision")).sum(-1)


def _variance_kfac(
    posterior: LaplacePosterior, network: nn.Module, jacobians: dict[str, Tensor]
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for at, name in enumerate(_layers(posterior, network)):
        dot = f"{name}." if name else ""
        both = [jacobians[f"{dot}weight"], jacobians[f"{dot}bias"][..., None]]
        a, g = (posterior.get_buffer(f"vectors_{side}{at}").double() for side in "ag")
        turned = g.mT @ torch.cat(both, -1) @ a
        part = (turned.square() / _precisions(posterior, at)).sum((-1, -2))
        total = total.to(part) + part
    return total


_VARIANCES = {
    "full": _variance_full,
    "diagonal": _variance_diagonal,
    "kfac": _variance_kfac,
}


def probit_probabilities(
    logits: Float[Tensor, "n k"], variance: Float[Tensor, "n k"]
) -> Float[Tensor, "n k"]:
    r"""Return softmax(logits / √(1 + π variance / 8)), eq. bayesian-probit.

    An approximation to the mean of the softmax over Gaussian logits: uncertain logits count less.

    Args:
        logits: their means.
        variance: their variances, ≥ 0.

    Example:
        >>> unsure = torch.full((1, 2), 1e6)
        >>> probit_probabilities(torch.tensor([[2.0, 0.0]]), unsure).round(decimals=2)
        tensor([[0.5000, 0.5000]])

    Source: MacKay 1992, The evidence framework applied to classification networks.
    """
    checks.tensor("logits", logits, shape=("n", "k"), floating=True)
    checks.tensor("variance", variance, shape=tuple(logits.shape), floating=True)
    if checks.readable(variance) and bool((variance < 0).any()):
        raise ValueError(f"variance must be ≥ 0, got {variance.min().item():g}")
    return (logits / (1 + math.pi / 8 * variance).sqrt()).softmax(-1)
