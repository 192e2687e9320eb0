"""The perceptron: a linear classifier that corrects itself at each mistake.

Chapter: chapters/foundations/perceptron.md     Paper: Rosenblatt 1958; bound: Novikoff 1962
Axes: n examples, d input features.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks


class Perceptron(nn.Module):
    r"""A threshold unit: $\hat y = 1$ where $\mathbf{w}^\top\mathbf{x} + b \ge 0$, else 0.

    It learns by Rosenblatt's rule: at each mistake,
    $\mathbf{w} \leftarrow \mathbf{w} + \eta\,(y - \hat y)\,\mathbf{x}$ and
    $b \leftarrow b + \eta\,(y - \hat y)$, from a start at zero
    (equations `perceptron-update-weight` and `perceptron-update-bias`).

    Args:
        in_features: number of inputs $d$, ≥ 1.
        lr: the step $\eta$ > 0. From a zero start it scales the weights and changes no decision.
        device: of the weights.
        dtype: of the weights. Scores are computed in the wider of it and the data's.

    Attributes:
        weight: $\mathbf{w}$ of shape (d,).
        bias: $b$, a scalar.

    Example:
        >>> unit = Perceptron(in_features=2)
        >>> x, y = torch.tensor([[0.0, 1.0], [1.0, 0.0]]), torch.tensor([0, 1])
        >>> unit.fit(x, y, max_epochs=10), unit.predict(x).tolist()
        (2, [0, 1])

    Source: Rosenblatt 1958. He wrote ±1 for our classes 0 and 1 and thresholds for our bias.
    """

    weight: Tensor
    bias: Tensor

    def __init__(
        self,
        in_features: int,
        lr: float = 1.0,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.lr = checks.number("lr", lr, above=0)
        self.register_buffer(
            "weight", torch.zeros(in_features, device=device, dtype=dtype)
        )
        self.register_buffer("bias", torch.zeros((), device=device, dtype=dtype))

    def forward(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n"]:
        r"""Return the score $z = \mathbf{w}^\top\mathbf{x} + b$ of each row."""
        self._check_inputs(x)
        return self._scores(x)

    def predict(self, x: Float[Tensor, "*n d"]) -> Int[Tensor, "*n"]:
        """Return the class, 0 or 1, of each row; a score of exactly zero is class 1."""
        checks.tensor("x", x, floating=True, finite=True)
        return (self(x) >= 0).long()  # eq. perceptron-step

    def correct(self, x: Float[Tensor, " d"], y: int) -> bool:
        """Apply the rule to one example; return whether it was a mistake."""
        error = y - int(self(x) >= 0)
        if error:
            self.weight += self.lr * error * x  # eq. perceptron-update-weight
            self.bias += self.lr * error  # eq. perceptron-update-bias
        return error != 0

    def fit(
        self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], max_epochs: int
    ) -> int:
        """Go through the examples in order, again and again, until one pass makes no mistake.

        Args:
            x: one row an example, finite.
            y: classes 0 and 1.
            max_epochs: the most passes, ≥ 1; on inseparable data all of them are used.

        Returns:
            The number of updates, which the theorem bounds.
        """
        max_epochs = checks.count("max_epochs", max_epochs)
        self._check_data(x, y)
        updates = 0
        for _ in range(max_epochs):
            before = updates
            at = self._next_mistake(x, y, 0)
            while at < len(x):
                self.correct(x[at], int(y[at]))
                updates += 1
                at = self._next_mistake(x, y, at + 1)
            if updates == before:
                break
        return updates

    def fit_pocket(
        self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"], max_epochs: int
    ) -> int:
        """Fit, and end with the weights that made the fewest mistakes on the way (Gallant 1990).

        This is the ratchet form: after each update the whole set is scored, and the weights go
        into the pocket only when they are better than the ones there.

        Args:
            x: one row an example, finite.
            y: classes 0 and 1.
            max_epochs: the most passes, ≥ 1.

        Returns:
            The number of updates, as `fit` does; `mistakes` tells what the kept weights make.
        """
        max_epochs = checks.count("max_epochs", max_epochs)
        fewest, updates = self.mistakes(x, y), 0
        pocket = self.weight.clone(), self.bias.clone()
        for _ in range(max_epochs):
            at = self._next_mistake(x, y, 0)
            while at < len(x) and fewest:
                self.correct(x[at], int(y[at]))
                updates += 1
                now = self._mistakes(x, y)
                if now < fewest:
                    fewest, pocket = now, (self.weight.clone(), self.bias.clone())
                at = self._next_mistake(x, y, at + 1)
        self.weight.copy_(pocket[0])
        self.bias.copy_(pocket[1])
        return updates

    def mistakes(self, x: Float[Tensor, "n d"], y: Int[Tensor, " n"]) -> int:
        """Return how many rows of `x` the unit puts into the wrong class."""
        self._check_data(x, y)
        return self._mistakes(x, y)

    def _scores(self, x: Tensor) -> Tensor:
        wide = torch.promote_types(x.dtype, self.weight.dtype)
        weight, bias = self.weight.to(wide), self.bias.to(wide)
        return x.to(wide) @ weight + bias  # eq. perceptron-preactivation

    def _next_mistake(self, x: Tensor, y: Tensor, start: int) -> int:
        """Return the first row from `start` on that is misclassified, or the number of rows."""
        wrong = ((self._scores(x[start:]) >= 0) != (y[start:] == 1)).nonzero()
        return start + int(wrong[0]) if len(wrong) else len(x)

    def _mistakes(self, x: Tensor, y: Tensor) -> int:
        return int(((self._scores(x) >= 0) != (y == 1)).sum())

    def _check_inputs(self, x: Tensor) -> None:
        checks.tensor("x", x, floating=True)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            raise ValueError(
                f"x must have in_features={self.in_features} columns, got shape {tuple(x.shape)}"
            )

    def _check_data(self, x: Tensor, y: Tensor) -> None:
        shape = ("n", self.in_features)
        checks.tensor("x", x, shape=shape, floating=True, finite=True, empty=False)
        checks.labels("y", y, 2, length=len(x))


def absorb_bias(x: Float[Tensor, "n d"]) -> Float[Tensor, "n d+1"]:
    r"""Return $\tilde{\mathbf{x}} = (\mathbf{x}, 1)$: the bias becomes one more weight."""
    return torch.cat([x, x.new_ones(len(x), 1)], dim=1)  # eq. perceptron-absorbed


def margin(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], separator: Float[Tensor, " d+1"]
) -> float:
    r"""Return the margin of a separator: the smallest signed distance of an example from it.

    $\gamma = \min_i s_i\,\tilde{\mathbf{w}}^{*\top}\tilde{\mathbf{x}}_i /
    \lVert\tilde{\mathbf{w}}^*\rVert$ (equation `perceptron-margin`).

    Args:
        x: one row an example.
        y: classes 0 and 1; the sign $s_i$ is −1 or +1.
        separator: $\tilde{\mathbf{w}}^* = (\mathbf{w}, b)$, not zero.

    Returns:
        The smallest signed distance in the space with the bias absorbed; ≤ 0 where
        `separator` does not separate.
    """
    _check_set(x, y)
    checks.tensor(
        "separator", separator, shape=(x.shape[1] + 1,), floating=True, finite=True
    )
    length = separator.double().norm()
    if length == 0:
        raise ValueError("separator must not be zero")
    signs = 2.0 * y.double() - 1
    scores = absorb_bias(x.double()) @ separator.double()
    return float((signs * scores).min() / length)  # eq. perceptron-margin


def novikoff_bound(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], separator: Float[Tensor, " d+1"]
) -> float:
    r"""Return $(R/\gamma)^2$: the most updates that the perceptron can make from a zero start.

    Equation `perceptron-bound`, with the bias absorbed; without that it is no bound.

    Args:
        x: one row an example.
        y: classes 0 and 1.
        separator: $(\mathbf{w}, b)$ of shape (d + 1,) that separates the classes.

    Raises:
        ValueError: `separator` does not separate the classes.

    Source: Novikoff 1962.
    """
    gamma = margin(x, y, separator)
    if gamma <= 0:
        raise ValueError(
            f"separator must separate the classes, its margin is {gamma:.3g}"
        )
    radius = absorb_bias(x.double()).norm(dim=1).max()  # eq. perceptron-radius
    return float((radius / gamma) ** 2)  # eq. perceptron-bound


def widest_separator(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"]
) -> Float[Tensor, " d+1"]:
    r"""Return the separator of the largest margin: the one that makes the bound smallest.

    It is the point of the convex hull of the $s_i\tilde{\mathbf{x}}_i$ that lies nearest to the
    origin, found exactly by non-negative least squares.

    Args:
        x: one row an example.
        y: classes 0 and 1, both present or not.

    Raises:
        ValueError: no plane separates the classes.
    """
    from scipy.optimize import nnls

    _check_set(x, y)
    signs = 2.0 * y.double() - 1
    points = signs[:, None] * absorb_bias(x.double())
    scale = float(points.norm(dim=1).max())
    system = torch.cat([points.T / scale, torch.ones(1, len(x), dtype=torch.float64)])
    target = torch.zeros(len(system), dtype=torch.float64)
    target[-1] = 1.0
    shares = torch.from_numpy(
        nnls(system.numpy(), target.numpy(), maxiter=50 * len(x))[0]
    )
    nearest = points.T @ (shares / shares.sum())
    if not (points @ nearest > 0).all():
        raise ValueError("y cannot be separated from x by a plane: no margin exists")
    return nearest


def _check_set(x: Tensor, y: Tensor) -> None:
    checks.tensor("x", x, shape=("n", "d"), floating=True, finite=True, empty=False)
    checks.labels("y", y, 2, length=len(x))
