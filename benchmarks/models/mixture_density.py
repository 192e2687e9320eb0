"""A mixture density network beside torch.distributions: one network, its loss written twice."""

import copy

import torch
from torch import distributions as D
from torch import nn

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.probabilistic.mixture_density import MixtureDensityNetwork


def mixture_density(
    size: dict[str, int], device: torch.device, dtype: torch.dtype
) -> list[Contest]:
    """A training step with diagonal and with full covariances; k counts the components."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(size["b"], size["d"], generator=draw).to(device, dtype)
    y = torch.randn(size["b"], size["d"], generator=draw).to(device, dtype)

    def mine(module: nn.Module) -> torch.Tensor:
        return -module(x).log_prob(y).mean()

    def peer(module: nn.Module) -> torch.Tensor:
        logits, means, scales = module(x)
        if scales.ndim == means.ndim:
            parts = D.Independent(D.Normal(means, scales), 1)
        else:
            parts = D.MultivariateNormal(means, scale_tril=scales)
        return -D.MixtureSameFamily(D.Categorical(logits=logits), parts).log_prob(y).mean()

    contests = []
    for covariance in ("diagonal", "full"):
        torch.manual_seed(0)
        network = MixtureDensityNetwork(
            size["d"], size["d"], size["k"], (size["h"],), covariance=covariance
        ).to(device, dtype)
        sides = (network, mine), (copy.deepcopy(network), peer)
        what = f"mixture density training step, {covariance}"
        contests.append(training(what, size, "torch.distributions", *sides))
    return contests


SIZES = sized("bdkh", (256, 2, 5, 64), (4096, 4, 16, 64), (65_536, 4, 16, 128))
CASES = {"mixture_density": Case(mixture_density, SIZES[:2], SIZES)}
