r"""The neural ODE: a network whose layers have become a differential equation.

Chapter: chapters/dynamics/neural_ode.md     Paper: Chen, Rubanova, Bettencourt and Duvenaud 2018
Axes: b examples, d features, t times.

Solutions have their times first, `t b d`, as torchdiffeq has them.
"""

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.dynamics._continuous_flow import ContinuousFlow
from nnlib.dynamics._ode_adjoint import odeint_adjoint
from nnlib.dynamics._ode_events import odeint_event
from nnlib.dynamics._ode_fields import VectorField, divergence, hutchinson
from nnlib.dynamics._ode_march import SolverError, StepUnderflow, TooManySteps
from nnlib.dynamics._ode_solve import Settings, Solution, march, odeint, settings, solve
from nnlib.dynamics._ode_tables import TABLES, Table

__all__ = [
    "TABLES",
    "ContinuousFlow",
    "NeuralODE",
    "Solution",
    "SolverError",
    "StepUnderflow",
    "Table",
    "TooManySteps",
    "VectorField",
    "divergence",
    "hutchinson",
    "odeint",
    "odeint_adjoint",
    "odeint_event",
    "solve",
]


class NeuralODE(nn.Module):
    r"""A layer that moves its input along a learned field for one unit of time.

    $\mathbf y(1) = \mathbf y(0) + \int_0^1 f(t, \mathbf y(t))\, dt$ with $\mathbf y(0) =
    \mathbf x$ (equation `neural-ode-solution`).

    Args:
        features: numbers of an input, ≥ 1.
        hidden_size: width of the field's layers, ≥ 1.
        augment: zeros that are appended to each input, so that paths may pass one another in
            further dimensions (Dupont, Doucet and Teh 2019), ≥ 0; the output has them, too.
        num_layers: of the field, ≥ 1.
        activation: of the field, as `VectorField` takes it.
        autonomous: whether the field ignores the time.
        method: as `odeint` takes it.
        step_size: likewise.
        rtol: likewise.
        atol: likewise.
        adjoint: whether gradients are found by `odeint_adjoint`, with memory that does not grow
            with the number of steps.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        field: the network; any module that maps a time and a state to a slope may take its place.

    Example:
        >>> ode = NeuralODE(2, 16, augment=1)
        >>> ode(torch.zeros(5, 2)).shape
        torch.Size([5, 3])
        >>> ode.path(torch.zeros(5, 2), torch.linspace(0, 1, 4)).shape
        torch.Size([4, 5, 3])

    Source: Chen et al. 2018, who write $\mathbf h$ for the state; augmented: Dupont et al. 2019.
    """

    def __init__(
        self,
        features: int,
        hidden_size: int = 64,
        *,
        augment: int = 0,
        num_layers: int = 2,
        activation: str = "tanh",
        autonomous: bool = False,
        method: str = "dopri5",
        step_size: float | None = None,
        rtol: float = 1e-4,
        atol: float = 1e-5,
        adjoint: bool = False,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.features = checks.count("features", features)
        self.augment = checks.count("augment", augment, least=0)
        self.how: Settings = settings(rtol, atol, method, step_size, 10_000)
        self.adjoint = checks.flag("adjoint", adjoint)
        self.field: nn.Module = VectorField(
            features + augment, hidden_size, num_layers=num_layers, activation=activation,
            autonomous=autonomous, device=device, dtype=dtype,
        )  # fmt: skip

    def reset_parameters(self) -> None:
        """Draw the field's weights anew."""
        cast(VectorField, self.field).reset_parameters()

    def forward(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b e"]:
        """Return the states at time 1, of e = d + `augment` features."""
        if self.adjoint:
            return self.path(x, torch.tensor([0.0, 1.0]))[-1]
        return march(self.field, self._start(x), (0.0, 1.0), self.how).states[-1]

    def path(
        self, x: Float[Tensor, "b d"], t: Float[Tensor, " t"]
    ) -> Float[Tensor, "t b e"]:
        """Return the states at times of your choice.

        Args:
            x: the states at the first of them, without the zeros.
            t: times, rising or falling.
        """
        solver: Any = odeint_adjoint if self.adjoint else odeint
        return solver(self.field, self._start(x), t, **self.how._asdict())

    def _start(self, x: Tensor) -> Tensor:
        checks.tensor("x", x, shape=("b", self.features), floating=True, finite=True)
        if not self.augment:
            return x
        return torch.cat(
            [x, x.new_zeros(len(x), self.augment)], 1
        )  # eq. neural-ode-augmented
