"""Hamiltonian Monte Carlo: many chains at once, of any log-density, and how to judge them."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


class Chains(NamedTuple):
    """What `hmc` has drawn.

    Attributes:
        samples: the positions that were kept, s c p.
        log_densities: their log-densities, s c.
        acceptance: mean probability of acceptance of the kept steps, one a chain.
        step_size: the length of a leapfrog step that the burn-in settled on.
    """

    samples: Tensor
    log_densities: Tensor
    acceptance: Tensor
    step_size: float


def hmc(
    log_density: Callable[[Tensor], Tensor],
    start: Float[Tensor, "c p"],
    samples: int = 500,
    *,
    burn_in: int = 500,
    leapfrog_steps: int = 20,
    step_size: float = 0.05,
    target_acceptance: float = 0.8,
    jitter: float = 0.1,
    generator: torch.Generator | None = None,
) -> Chains:
    r"""Draw by Hamiltonian Monte Carlo, eq. bayesian-leapfrog and bayesian-metropolis.

    All chains walk together, as a batch, and share one step size, which dual averaging fits to the
    target during the burn-in and which then stays. A proposal whose energy
    is not finite is refused.

    Args:
        log_density: from positions, c p, to log-densities up to a constant, c; each chain's from
            its own position alone.
        start: where the chains begin, one row a chain.
        samples: kept for each chain, ≥ 1.
        burn_in: steps before that, thrown away, ≥ 0.
        leapfrog_steps: of each proposal, ≥ 1.
        step_size: length of a leapfrog step at the beginning, > 0.
        target_acceptance: what the burn-in aims at, strictly between 0 and 1.
        jitter: each proposal's step is longer or shorter by up to this share, 0 ≤ jitter < 1, so
            that no path closes on itself.
        generator: of the random numbers; None: torch's own.

    Raises:
        ValueError: the density is not finite where a chain begins.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> normal = lambda x: -0.5 * x.square().sum(-1)
        >>> chains = hmc(normal, torch.zeros(4, 2), 500, burn_in=100, generator=draw)
        >>> chains.samples.shape, bool(abs(chains.samples.var() - 1) < 0.2)
        (torch.Size([500, 4, 2]), True)

    Source: Neal 2011, MCMC using Hamiltonian dynamics; the fitting of the step: Hoffman and Gelman
    2014, algorithm 5.
    """
    checks.tensor(
        "start", start, shape=("c", "p"), floating=True, finite=True, empty=False
    )
    samples = checks.count("samples", samples)
    burn_in = checks.count("burn_in", burn_in, least=0)
    leapfrog_steps = checks.count("leapfrog_steps", leapfrog_steps)
    step = first = checks.number("step_size", step_size, above=0)
    target = checks.number("target_acceptance", target_acceptance, above=0, below=1)
    jitter = checks.number("jitter", jitter, least=0, below=1)

    def value_and_slope(at: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            at = at.detach().requires_grad_()
            value = log_density(at)
            (slope,) = torch.autograd.grad(value.sum(), at)
        return value.detach(), slope

    def random(draw: Callable[..., Tensor], *shape: int) -> Tensor:
        made = draw(shape, generator=generator, device=start.device, dtype=start.dtype)
        return made

    q = start.detach().clone()
    value, slope = value_and_slope(q)
    if value.shape != (len(q),):
        raise ValueError(
            f"log_density must return one number a chain, got shape {tuple(value.shape)}"
        )
    if not bool(torch.isfinite(value).all()):
        raise ValueError("log_density is not finite where a chain starts")
    kept, densities, rates = [], [], []
    drift, settled = 0.0, math.log(step)
    for t in range(1, burn_in + samples + 1):
        length = step * (1 + jitter * float(random(torch.rand) * 2 - 1))
        momentum = random(torch.randn, *q.shape)
        energy = value - 0.5 * momentum.square().sum(-1)
        new, new_value, new_slope, p = q, value, slope, momentum
        for _ in range(leapfrog_steps):
            p = p + 0.5 * length * new_slope
            new = new + length * p
            new_value, new_slope = value_and_slope(new)
            p = p + 0.5 * length * new_slope
        gain = new_value - 0.5 * p.square().sum(-1) - energy
        gain = torch.where(gain.isfinite(), gain, -math.inf)
        rate = gain.clamp(max=0).exp()
        taken = random(torch.rand, len(q)) < rate
        q = torch.where(taken[:, None], new, q)
        value = torch.where(taken, new_value, value)
        slope = torch.where(taken[:, None], new_slope, slope)
        if t <= burn_in:
            drift += (target - rate.mean().item() - drift) / (t + 10)
            log_step = math.log(10 * first) - math.sqrt(t) / 0.05 * drift
            settled += t**-0.75 * (log_step - settled)
            step = math.exp(settled if t == burn_in else log_step)
        else:
            kept.append(q)
            densities.append(value)
            rates.append(rate)
    mean_rate = torch.stack(rates).mean(0)
    return Chains(torch.stack(kept), torch.stack(densities), mean_rate, step)


def r_hat(samples: Float[Tensor, "s c *p"]) -> Float[Tensor, "*p"]:
    r"""Return how much wider all chains together are than each half of one, eq. bayesian-r-hat.

    Near 1 (below 1.01 by the advice of 2021) they have mixed; above, they have not yet seen the
    same distribution.

    Args:
        samples: of one or more quantities: samples first, chains second; four samples or more.

    Example:
        >>> r_hat(torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))) < 1.02
        tensor(True)

    Source: Gelman and Rubin 1992; split into halves as in Gelman et al. 2013.
    """
    halves = _halved(samples)
    n = len(halves)
    within = halves.var(0).mean(0)
    between = halves.mean(0).var(0)
    return ((n - 1) / n + between / within).sqrt()


def effective_samples(samples: Float[Tensor, "s c *p"]) -> Float[Tensor, "*p"]:
    r"""Return how many independent draws estimate a mean as well, eq. bayesian-ess.

    Autocorrelations are summed in pairs until a pair is negative (Geyer).

    Args:
        samples: of one or more quantities: samples first, chains second; four samples or more.

    Example:
        >>> draws = torch.randn(1000, 4, generator=torch.Generator().manual_seed(0))
        >>> bool((effective_samples(draws) > 3000).all())
        True

    Source: Geyer 1992; Gelman et al. 2013, section 11.5.
    """
    halves = _halved(samples)
    n, c = halves.shape[:2]
    centred = halves - halves.mean(0)
    spectrum = torch.fft.rfft(centred, 2 * n, dim=0)
    products = torch.fft.irfft(spectrum.abs().square(), 2 * n, dim=0)[:n] / n
    within = halves.var(0).mean(0)
    total = (n - 1) / n * within + halves.mean(0).var(0)
    lags = 1 - (within - products.mean(1) * n / (n - 1)) / total
    pairs = lags[: n // 2 * 2].unflatten(0, (n // 2, 2)).sum(1)
    first_negative = (pairs < 0).cummax(0).values
    monotone = pairs.cummin(0).values.masked_fill(first_negative, 0)
    return n * c / (2 * monotone.sum(0) - 1).clamp_min(1 / math.log10(n * c))


def _halved(samples: Tensor) -> Tensor:
    checks.tensor("samples", samples, floating=True)
    if samples.ndim < 2 or len(samples) < 4:
        raise ValueError(
            f"samples must be four or more a chain, s c …, got {tuple(samples.shape)}"
        )
    half = len(samples) // 2
    return torch.cat([samples[:half], samples[-half:]], 1).double()
