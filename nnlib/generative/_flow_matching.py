"""Flow matching: straight lines from noise to data, and the velocity along them.

Axes: n examples, d numbers of one (any shape).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.generative._diffusion_guidance import Predict


class FlowMatching:
    r"""Straight paths from data to noise, and the velocity along them.

    $\mathbf x_t = (1-t)\,\mathbf x_0 + t\,\boldsymbol\epsilon$ for times 0 … 1 (equation
    `diffusion-flow-path`); the network learns the mean of $\boldsymbol\epsilon - \mathbf x_0$ there
    (`diffusion-flow-loss`), and sampling follows it back from noise to data. (Lipman et al. let
    time run from noise to data; here it runs as in diffusion.)

    Args:
        logit_normal: whether training times are drawn as the sigmoid of a normal number, which has
            more of them in the middle, and not evenly.
        shift: > 0; a sampler's times t become $t\,s/(1+(s-1)\,t)$: above 1 it spends more of its
            steps where there is much noise, as large pictures want.

    Example:
        >>> flow = FlowMatching()
        >>> flow.interpolate(torch.zeros(1, 2), torch.ones(1, 2), torch.tensor([0.25]))
        tensor([[0.2500, 0.2500]])

    Source: Lipman et al. 2022; Liu, Gong and Liu 2022; both options, Esser et al. 2024.
    """

    def __init__(self, *, logit_normal: bool = False, shift: float = 1.0):
        self.logit_normal = checks.flag("logit_normal", logit_normal)
        self.shift = checks.number("shift", shift, above=0)

    def interpolate(
        self,
        x0: Float[Tensor, "n *d"],
        noise: Float[Tensor, "n *d"],
        t: Float[Tensor, " n"],
    ) -> Float[Tensor, "n *d"]:
        """Return the points of the paths at time t, 0 for data and 1 for noise."""
        t = _a_time(t, x0)
        return (1 - t) * x0 + t * noise  # eq. diffusion-flow-path

    def loss(
        self,
        model: nn.Module | Callable[..., Tensor],
        x0: Float[Tensor, "n *d"],
        *condition: Any,
        t: Float[Tensor, " n"] | None = None,
        noise: Float[Tensor, "n *d"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return the mean squared error of the velocity (equation `diffusion-flow-loss`).

        Args:
            model: called as `model(x, t, *condition)`, with times in 0 … 1.
            x0: clean examples.
            *condition: what the network sees besides.
            t: times; drawn if None.
            noise: drawn if None; given the noise from which a model drew `x0`, this is the loss of
                reflow.
        """
        checks.tensor("x0", x0, floating=True, empty=False)
        noise = torch.randn_like(x0) if noise is None else noise
        checks.tensor("noise", noise, shape=tuple(x0.shape), floating=True)
        if t is None:
            t = torch.rand(len(x0), device=x0.device, dtype=x0.dtype)
            if self.logit_normal:
                t = torch.randn_like(t).sigmoid()
        answer = model(self.interpolate(x0, noise, t), t, *condition)
        checks.tensor("model's answer", answer, shape=tuple(x0.shape), floating=True)
        return (answer - (noise - x0)).square().mean()  # eq. diffusion-flow-loss

    def times(self, num_steps: int) -> list[float]:
        """Return the times that a sampler visits, from 1 to 0, one more than steps."""
        count = checks.count("num_steps", num_steps)
        even = [1 - at / count for at in range(count + 1)]
        return [t * self.shift / (1 + (self.shift - 1) * t) for t in even]

    @torch.no_grad()
    def sample(
        self,
        predict: nn.Module | Predict,
        noise: Float[Tensor, "n *d"],
        num_steps: int,
        *,
        method: str = "euler",
        path: bool = False,
    ) -> Float[Tensor, "*all"]:
        """Return what noise becomes when it follows the velocity back (`diffusion-flow-ode`).

        Args:
            predict: called as `predict(x, t)` with one time for each example.
            noise: standard normal, of the shape of the examples.
            num_steps: ≥ 1; each is one pass of the network, with `heun` two, but the last.
            method: `euler`, or `heun`, which averages the velocities of both ends.
            path: whether all steps are returned, the noise first.
        """
        checks.one_of("method", method, ("euler", "heun"))
        times = self.times(num_steps)
        x, seen = noise, [noise]
        for t, until in pairwise(times):
            velocity = predict(x, x.new_full((len(x),), t))
            there = x + (until - t) * velocity
            if method == "heun" and until > 0:
                end = predict(there, x.new_full((len(x),), until))
                there = x + (until - t) * 0.5 * (velocity + end)
            x = there
            if path:
                seen.append(x)
        return torch.stack(seen) if path else x


def _a_time(t: Tensor, x: Tensor) -> Tensor:
    checks.tensor("t", t, shape=(len(x),), floating=True)
    if checks.readable(t) and t.numel() and not (t.min() >= 0 and t.max() <= 1):
        raise ValueError(f"t must lie in 0 … 1, got {t.min():g} … {t.max():g}")
    return t.view(-1, *[1] * (x.ndim - 1))
