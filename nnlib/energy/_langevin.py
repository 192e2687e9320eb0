r"""Langevin's noisy descent of an energy, plain and corrected; chains that persist between steps.

Part of `nnlib.energy.energy_based`.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from nnlib import checks

Energy = Callable[[Tensor], Tensor]
"""From examples, `n *d`, to the energy of each, `n`; that of one must not depend on the others."""


def energies(energy: Energy, x: Tensor) -> Tensor:
    """Return `energy(x)`, once it is sure to be one number an example."""
    if not callable(energy):
        raise TypeError(f"energy={energy!r} must be callable")
    checks.tensor("x", x, floating=True)
    if x.ndim < 2:
        raise ValueError(f"x must have shape (n, d), got {tuple(x.shape)}")
    told = energy(x)
    checks.tensor("energy(x)", told, shape=(len(x),), floating=True)
    return told


def energy_and_slope(
    energy: Energy, x: Tensor, *, graph: bool = False
) -> tuple[Tensor, Tensor]:
    """Return energies and their gradients by x; with `graph`, both can be differentiated again."""
    with torch.enable_grad():
        if not (graph and x.requires_grad):
            x = x.detach().requires_grad_()
        told = energies(energy, x)
        if not told.requires_grad:  # it does not depend on x at all
            return told, torch.zeros_like(x)
        (slope,) = torch.autograd.grad(
            told.sum(), x, create_graph=graph, allow_unused=True
        )
    return told, torch.zeros_like(x) if slope is None else slope


def _noise(x: Tensor, generator: torch.Generator | None) -> Tensor:
    where = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=where).to(
        x.device
    )


def langevin(
    energy: Energy,
    x: Float[Tensor, "n *d"],
    steps: int,
    step_size: float,
    *,
    temperature: float = 1.0,
    clip: float | None = None,
    low: float | None = None,
    high: float | None = None,
    generator: torch.Generator | None = None,
    path: bool = False,
) -> Float[Tensor, "*all"]:
    r"""Return where walkers stand that go downhill and are shaken at each step.

    $\mathbf x \leftarrow \mathbf x - \eta\,\nabla E(\mathbf x) + \sqrt{2\eta T}\,\mathbf z$ with
    $\mathbf z\sim\mathcal N(\mathbf 0, \mathbf I)$ (equation `energy-based-langevin`). After many
    small steps they are distributed as $e^{-E(\mathbf x)/T}$ demands; at a step size that is not
    small the distribution is another one (`energy-based-langevin-bias`), which
    `metropolis_langevin` corrects. No gradient reaches the model's weights. (Papers that write
    $\tfrac\lambda2\nabla E$ and noise of variance λ have λ = 2η.)

    Args:
        energy: gives one number an example.
        x: where the walkers begin.
        steps: ≥ 0; each is one pass forwards and one back.
        step_size: η > 0.
        temperature: T ≥ 0; at 0 there is no noise, and they go to the nearest valley.
        clip: the largest size of an entry of the gradient, > 0, if given.
        low: bound that entries are kept above after each step, if given.
        high: bound that they are kept below, if given.
        generator: source of the randomness.
        path: whether all places are returned, the first and the last among them.

    Example:
        >>> def bowl(x):
        ...     return 0.5 * x.square().sum(1)
        >>> torch.manual_seed(0).initial_seed()
        0
        >>> walked = langevin(bowl, torch.zeros(4000, 2), 200, 0.05)
        >>> round(walked.var().item(), 1)  # that of a standard normal
        1.0

    Source: Roberts and Tweedie 1996; for learned energies of pictures, Du and Mordatch 2019.
    """
    steps = checks.count("steps", steps, least=0)
    eta = checks.number("step_size", step_size, above=0)
    heat = checks.number("temperature", temperature, least=0)
    clip = None if clip is None else checks.number("clip", clip, above=0)
    _check_bounds(low, high)
    checks.tensor("x", x, floating=True)
    x = x.detach()
    seen = [x]
    for _ in range(steps):
        _, slope = energy_and_slope(energy, x)
        if clip is not None:
            slope = slope.clamp(-clip, clip)
        x = x - eta * slope
        if heat:
            x = x + math.sqrt(2 * eta * heat) * _noise(
                x, generator
            )  # eq. energy-based-langevin
        if low is not None or high is not None:
            x = x.clamp(low, high)
        if path:
            seen.append(x)
    return torch.stack(seen) if path else x


def _check_bounds(low: float | None, high: float | None) -> None:
    ends = [None if end is None else checks.number(name, end)
            for name, end in (("low", low), ("high", high))]  # fmt: skip
    if ends[0] is not None and ends[1] is not None and ends[0] >= ends[1]:
        raise ValueError(f"low={low} must be below high={high}")


class Walked(NamedTuple):
    """Where corrected walkers stand, and the share of proposed steps that were taken, 0 … 1."""

    x: Float[Tensor, "n *d"]
    accepted: float


def metropolis_langevin(
    energy: Energy,
    x: Float[Tensor, "n *d"],
    steps: int,
    step_size: float,
    *,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Walked:
    r"""Return where walkers stand whose Langevin steps are accepted or refused: MALA.

    A step from $\mathbf x$ to $\mathbf x'$ is taken with the probability
    $\min\bigl(1, e^{-(E(\mathbf x')-E(\mathbf x))/T}\,q(\mathbf x\mid\mathbf x')/
    q(\mathbf x'\mid\mathbf x)\bigr)$, where q is the density of the proposal (equation
    `energy-based-mala`). It has no bias at any step size; with a large one hardly any step is
    taken.

    Args:
        energy: gives one number an example.
        x: where the walkers begin.
        steps: ≥ 1.
        step_size: η > 0.
        temperature: T > 0.
        generator: source of the randomness.

    Source: Roberts and Tweedie 1996.
    """
    steps = checks.count("steps", steps)
    eta = checks.number("step_size", step_size, above=0)
    heat = checks.number("temperature", temperature, above=0)
    here, slope = energy_and_slope(energy, x)
    x, here, taken = x.detach(), here.detach(), 0.0
    for _ in range(steps):
        new = x - eta * slope + math.sqrt(2 * eta * heat) * _noise(x, generator)
        there, back = energy_and_slope(energy, new)
        there = there.detach()
        out = (new - x + eta * slope).flatten(1).square().sum(1)
        home = (x - new + eta * back).flatten(1).square().sum(1)
        log_ratio = (
            here - there - (home - out) / (4 * eta)
        ) / heat  # eq. energy-based-mala
        coin = torch.rand(len(x), generator=generator, dtype=x.dtype)
        yes = coin.to(x.device).log() < log_ratio
        wide = yes.view(-1, *[1] * (x.ndim - 1))
        x, slope = torch.where(wide, new, x), torch.where(wide, back, slope)
        here = torch.where(yes, there, here)
        taken += yes.float().mean().item()
    return Walked(x, taken / steps)


class PersistentChains:
    """Walkers that are kept between training steps, so that each walks on where it stood.

    Args:
        start: draws a given number of fresh walkers, such as noise.
        count: how many are kept, ≥ 1.
        fresh: share of those drawn that begin anew, 0 … 1.

    Attributes:
        x: where all stand.
        age: how often each has been put back since it began.

    Example:
        >>> chains = PersistentChains(lambda n: torch.rand(n, 64), count=1000, fresh=0.05)
        >>> x, rows = chains.draw(32)
        >>> chains.keep(rows, langevin(lambda x: x.square().sum(1), x, 10, 0.01))
        >>> int(chains.age.sum())
        32

    Source: Tieleman 2008 for binary units; with fresh noise among them, Du and Mordatch 2019.
    """

    def __init__(self, start: Callable[[int], Tensor], count: int, fresh: float = 0.05):
        if not callable(start):
            raise TypeError(f"start={start!r} must be callable")
        self.start = start
        self.fresh = checks.number("fresh", fresh, least=0, most=1)
        self.x = checks.tensor(
            "start(count)", start(checks.count("count", count)), floating=True
        )
        if len(self.x) != count:
            raise ValueError(
                f"start({count}) must give {count} rows, got {len(self.x)}"
            )
        self.age = torch.zeros(count, dtype=torch.int64)

    def draw(
        self, count: int, generator: torch.Generator | None = None
    ) -> tuple[Float[Tensor, "n *d"], Int[Tensor, " n"]]:
        """Return some walkers, a few of them fresh, and the rows in which they stand.

        Args:
            count: how many, ≥ 1 and not more than are kept.
            generator: source of the randomness, except of `start`.
        """
        count = checks.count("count", count)
        if count > len(self.x):
            raise ValueError(
                f"count={count} must be at most {len(self.x)}, which are kept"
            )
        rows = torch.randperm(len(self.x), generator=generator)[:count]
        x, new = self.x[rows], torch.rand(count, generator=generator) < self.fresh
        if new.any():
            x[new] = self.start(int(new.sum())).to(x)
            self.age[rows[new]] = 0
        return x, rows

    def keep(self, rows: Int[Tensor, " n"], x: Float[Tensor, "n *d"]) -> None:
        """Put walkers back into the rows that `draw` named.

        Args:
            rows: as `draw` returned them.
            x: where they stand now.
        """
        checks.tensor("rows", rows, shape=("n",), floating=False)
        checks.tensor("x", x, shape=(len(rows), *self.x.shape[1:]), floating=True)
        self.x[rows] = x.detach().to(self.x)
        self.age[rows] += 1
