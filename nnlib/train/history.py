"""What a training run recorded, and its picture."""

from dataclasses import dataclass, field

from matplotlib.figure import Figure

from nnlib.plot.curves import curves
from nnlib.plot.style import subplots


@dataclass
class History:
    """Losses of every step, and the measures taken now and then.

    Attributes:
        loss: the loss of each step.
        lr: the learning rate of each step.
        at: the steps after which the measures were taken.
        measures: a list of values, as long as `at`, for each name.
    """

    loss: list[float] = field(default_factory=list)
    lr: list[float] = field(default_factory=list)
    at: list[int] = field(default_factory=list)
    measures: dict[str, list[float]] = field(default_factory=dict)

    def last(self, name: str) -> float:
        """Return the last value of a measure.

        Raises:
            KeyError: it was never taken.
        """
        if name not in self.measures:
            raise KeyError(f"name={name!r} was not measured; there are {sorted(self.measures)}")
        return self.measures[name][-1]

    def smooth_loss(self, width: int = 25) -> list[float]:
        """Return the mean of the last `width` losses at each step."""
        smooth, total = [], 0.0
        for step, value in enumerate(self.loss):
            total += value - (self.loss[step - width] if step >= width else 0.0)
            smooth.append(total / min(width, step + 1))
        return smooth

    def plot(self, title: str = "") -> Figure:
        """Draw the smoothed loss and, beside it, the measures."""
        panels = 2 if self.measures else 1
        figure, axes = subplots(1, panels, squeeze=False)
        curves(axes[0, 0], range(1, len(self.loss) + 1), {"loss": self.smooth_loss()})
        axes[0, 0].set(xlabel="step", ylabel="loss", title=title)
        if self.measures:
            curves(axes[0, 1], self.at, self.measures)
            axes[0, 1].set(xlabel="step")
        return figure
