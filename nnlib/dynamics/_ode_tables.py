r"""Runge–Kutta methods as tables of numbers: how far a step looks, and how its slopes are mixed.

With slopes $\mathbf k_i = f(t + c_i h,\; \mathbf y + h \sum_j a_{ij} \mathbf k_j)$ a step is
$\mathbf y + h \sum_i b_i \mathbf k_i$ (equation `neural-ode-runge-kutta`).
"""

from dataclasses import dataclass
from fractions import Fraction


def _row(text: str) -> tuple[float, ...]:
    return tuple(float(Fraction(number)) for number in text.split())


@dataclass(frozen=True)
class Table:
    r"""A Butcher table.

    Attributes:
        order: the power of the step size that the error after a fixed time goes with.
        nodes: $c_i$, where in a step each slope is taken, as shares of it.
        stages: $a_{ij}$, a row for each slope after the first.
        weights: $b_i$.
        error: $b_i - \hat b_i$, the difference to a second result of one order less; () where
            there is none, and the step cannot be controlled.
        dense: for each slope the coefficients of $\theta, \theta^2, \dots$ with which it enters
            the state at a share $\theta$ of the step.
    """

    order: int
    nodes: tuple[float, ...]
    stages: tuple[tuple[float, ...], ...]
    weights: tuple[float, ...]
    error: tuple[float, ...] = ()
    dense: tuple[tuple[float, ...], ...] = ()

    @property
    def adaptive(self) -> bool:
        """Whether the method estimates its error; its last slope then begins the next step."""
        return bool(self.error)


TABLES: dict[str, Table] = {
    "euler": Table(1, (0.0,), (), (1.0,)),
    "midpoint": Table(2, _row("0 1/2"), (_row("1/2"),), _row("0 1")),
    "heun": Table(2, _row("0 1"), (_row("1"),), _row("1/2 1/2")),
    "rk4": Table(
        4,
        _row("0 1/2 1/2 1"),
        (_row("1/2"), _row("0 1/2"), _row("0 0 1")),
        _row("1/6 1/3 1/3 1/6"),
    ),
    "rk4_38": Table(  # Kutta's other one, "3/8", which torchdiffeq calls rk4
        4,
        _row("0 1/3 2/3 1"),
        (_row("1/3"), _row("-1/3 1"), _row("1 -1 1")),
        _row("1/8 3/8 3/8 1/8"),
    ),
    "bosh3": Table(  # Bogacki and Shampine 1989
        3,
        _row("0 1/2 3/4 1"),
        (_row("1/2"), _row("0 3/4"), _row("2/9 1/3 4/9")),
        _row("2/9 1/3 4/9 0"),
        _row("-5/72 1/12 1/9 -1/8"),
        (_row("1 -4/3 5/9"), _row("0 1 -2/3"), _row("0 4/3 -8/9"), _row("0 -1 1")),
    ),
    "dopri5": Table(  # Dormand and Prince 1980; between the steps: Shampine 1986
        5,
        _row("0 1/5 3/10 4/5 8/9 1 1"),
        (
            _row("1/5"),
            _row("3/40 9/40"),
            _row("44/45 -56/15 32/9"),
            _row("19372/6561 -25360/2187 64448/6561 -212/729"),
            _row("9017/3168 -355/33 46732/5247 49/176 -5103/18656"),
            _row("35/384 0 500/1113 125/192 -2187/6784 11/84"),
        ),
        _row("35/384 0 500/1113 125/192 -2187/6784 11/84 0"),
        _row("71/57600 0 -71/16695 71/1920 -17253/339200 22/525 -1/40"),
        (
            _row(
                "1 -8048581381/2820520608 8663915743/2820520608 -12715105075/11282082432"
            ),
            _row("0 0 0 0"),
            _row(
                "0 131558114200/32700410799 -68118460800/10900136933 87487479700/32700410799"
            ),
            _row(
                "0 -1754552775/470086768 14199869525/1410260304 -10690763975/1880347072"
            ),
            _row(
                "0 127303824393/49829197408 -318862633887/49829197408 701980252875/199316789632"
            ),
            _row("0 -282668133/205662961 2019193451/616988883 -1453857185/822651844"),
            _row("0 40617522/29380423 -110615467/29380423 69997945/29380423"),
        ),
    ),
}
"""The methods by name."""
