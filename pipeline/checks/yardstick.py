"""A fixed piece of a chapter's work, to tell how fast a machine is just now.

It imports what chapters import, takes small training steps and draws a figure: what their seconds
are spent on. A rented machine's speed differs from day to day by more than chapters do.
"""

import io
import resource
import subprocess
import sys

from pipeline import ROOT

# CPU-seconds on the machine that the budget was set on, where foundations/mlp took 16.5.
SECONDS = 3.6


def slowness() -> float:
    """Return how many times longer the work takes here and now than it should; at least 1.

    It runs in a process of its own, so that nothing is imported already, and the better of two
    runs counts: the first may wait for the disk.
    """
    taken = []
    for _ in range(2):
        before = _children()
        subprocess.run([sys.executable, "-m", "pipeline.checks.yardstick"], cwd=ROOT, check=True)
        taken.append(_children() - before)
    return max(1.0, min(taken) / SECONDS)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def work(steps: int = 1500, figures: int = 2) -> None:
    """Do the work: always the same, in one thread."""
    import matplotlib as mpl

    mpl.use("agg")
    import torch
    from matplotlib import pyplot as plt
    from torch import nn

    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, target = torch.randn(256, 64), torch.randint(10, (256,))
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), target).backward()
        optimizer.step()
    for _ in range(figures):
        figure, axes = plt.subplots(2, 3)
        for ax in axes.flat:
            ax.plot(range(500))
            ax.set_xlabel("$x^2$")
        figure.savefig(io.BytesIO(), format="svg", bbox_inches="tight")
        plt.close(figure)


if __name__ == "__main__":
    work()
