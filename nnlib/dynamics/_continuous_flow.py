"""A continuous normalizing flow: a density that is carried along a learned field.

Axes: n examples, d features.
"""

import math
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.dynamics._ode_adjoint import odeint_adjoint
from nnlib.dynamics._ode_fields import VectorField, divergence, hutchinson
from nnlib.dynamics._ode_solve import odeint, settings


class ContinuousFlow(nn.Module):
    r"""A density made by moving a standard normal one along a field from time 0 to time 1.

    Along a path $d\log p/dt = -\operatorname{tr} \partial f/\partial\mathbf y$
    (equation `neural-ode-trace`), so that any field will do, without a determinant.

    Args:
        features: numbers of an example, ≥ 1.
        hidden_size: width of the field's layers, ≥ 1.
        trace: `exact`, d backward passes a look at the field, or `hutchinson`, one, whose draws
            stand still through a solution (Grathwohl et al. 2019).
        num_layers: of the field, ≥ 1.
        method: as `odeint` takes it.
        step_size: likewise, of the methods with equal steps.
        rtol: likewise.
        atol: likewise.
        adjoint: whether gradients are found by `odeint_adjoint`.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> flow = ContinuousFlow(2, 16)
        >>> flow.log_prob(torch.zeros(5, 2)).shape, flow.sample(3).shape
        (torch.Size([5]), torch.Size([3, 2]))

    Source: Chen et al. 2018, section 4; with the estimate of the trace: FFJORD, Grathwohl et al.
    2019.
    """

    def __init__(
        self,
        features: int,
        hidden_size: int = 64,
        *,
        trace: str = "exact",
        num_layers: int = 2,
        method: str = "dopri5",
        step_size: float | None = None,
        rtol: float = 1e-5,
        atol: float = 1e-5,
        adjoint: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.features = checks.count("features", features)
        self.trace = checks.one_of("trace", trace, ("exact", "hutchinson"))
        self.how: dict[str, Any] = settings(
            rtol, atol, method, step_size, 10_000
        )._asdict()
        self.adjoint = checks.flag("adjoint", adjoint)
        self.field = VectorField(
            features, hidden_size, num_layers=num_layers, device=device, dtype=dtype
        )

    def reset_parameters(self) -> None:
        """Draw the field's weights anew."""
        self.field.reset_parameters()

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return the log-density of each row, as `log_prob` does."""
        return self.log_prob(x)

    def log_prob(
        self, x: Float[Tensor, "n d"], *, generator: torch.Generator | None = None
    ) -> Float[Tensor, " n"]:
        """Return the log-density of each row.

        Args:
            x: data, a row each.
            generator: draws the probes of `hutchinson`.
        """
        checks.tensor("x", x, shape=("n", self.features), floating=True, finite=True)
        z, gain = self.transport(x, torch.tensor([1.0, 0.0]), generator=generator)
        normal = -z.square().sum(1) / 2 - self.features * math.log(2 * math.pi) / 2
        return normal - gain  # eq. neural-ode-likelihood

    def sample(
        self, n: int, *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "n d"]:
        """Draw from the density; no trace is needed.

        Args:
            n: how many, ≥ 1.
            generator: draws the noise.
        """
        like = cast(nn.Linear, self.field.layers[0]).weight
        given: dict[str, Any] = {"device": like.device, "dtype": like.dtype}
        many = checks.count("n", n)
        z = torch.randn(many, self.features, generator=generator, **given)
        return self.path(z, torch.tensor([0.0, 1.0]))[-1]

    def path(
        self, y: Float[Tensor, "n d"], t: Float[Tensor, " t"]
    ) -> Float[Tensor, "t n d"]:
        """Move points along the field, from the first time to each of `t`."""
        checks.tensor("y", y, shape=("n", self.features), floating=True, finite=True)
        return self._solver()(self.field, y, t, **self.how)

    def transport(
        self,
        y: Float[Tensor, "n d"],
        t: Float[Tensor, " t"],
        *,
        generator: torch.Generator | None = None,
    ) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        r"""Move points from the first time to the last, with what their log-density gains.

        Args:
            y: points at the first time.
            t: times, rising or falling.
            generator: draws the probes of `hutchinson`.

        Returns:
            The points at the last time, and $-\int \operatorname{tr} \partial f/\partial\mathbf y\,
            dt$ of each.
        """
        checks.tensor("y", y, shape=("n", self.features), floating=True, finite=True)
        probe = None
        if self.trace == "hutchinson":
            coins = torch.randint(0, 2, y.shape, generator=generator, device=y.device)
            probe = 2 * coins.to(y) - 1
        field = _WithTrace(self.field, probe)
        with_gain = torch.cat([y, y.new_zeros(len(y), 1)], 1)
        end = self._solver()(field, with_gain, t, **self.how)[-1]
        return end[:, :-1], end[:, -1]

    def _solver(self) -> Any:
        return odeint_adjoint if self.adjoint else odeint


class _WithTrace(nn.Module):
    """A field whose state has one more column, which gathers the change of the log-density."""

    def __init__(self, field: VectorField, probe: Tensor | None):
        super().__init__()
        self.field, self.probe = field, probe

    def forward(self, t: Tensor, state: Tensor) -> Tensor:
        keep = torch.is_grad_enabled()
        with torch.enable_grad():
            y = state[:, :-1]
            y = y if y.requires_grad else y.detach().requires_grad_()
            slope = self.field(t, y)
            if self.probe is None:
                trace = divergence(slope, y, create_graph=keep)
            else:
                trace = hutchinson(slope, y, self.probe, create_graph=keep)
        both = torch.cat([slope, -trace[:, None]], 1)  # eq. neural-ode-trace
        return both if keep else both.detach()
