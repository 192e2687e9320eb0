"""A reader that learns nothing but its read-out: an echo state network on the same tasks."""

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.readers.models import PARAMETERS
from benchmarks.readers.tasks import Task
from nnlib.sequence.echo_state import EchoStateNetwork, ridge_regression

COUNT = 8000  # sequences that it learns from, where they are drawn
RADII = (0.5, 0.9, 0.99)  # spectral radii that are tried, as rates are elsewhere
RIDGE = 1e-2


def units(task: Task) -> int:
    """Return how many units make as many numbers, the drawn ones included."""
    # h² + h d of the reservoir, and k (h + d + 1) of the read-out
    d, k = task.inputs, task.outputs
    half = (d + k) / 2
    return round((half**2 + PARAMETERS - k * (d + 1)) ** 0.5 - half)


def score(task: Task, radius: float, seed: int, part: str) -> float:
    """Return the score of a network of this seed; "tune" leaves out what it is tuned on."""
    network = EchoStateNetwork(
        task.inputs, units(task), radius, bias_scaling=0.1, seed=seed, dtype=torch.float32
    )

    def features(x: Tensor) -> Tensor:
        x = F.one_hot(x, task.inputs).float() if task.tokens else x
        return torch.stack([_seen(network, task, one) for one in x])

    x, y = task.part("learn", COUNT, seed if part == "exam" else -1 - seed)
    found = features(x)
    wanted = y.float()[..., None] if task.outputs == 1 else F.one_hot(y, task.outputs).float()
    rows = found.flatten(0, -2), wanted.flatten(0, -2)
    readout = ridge_regression(rows[0].double(), rows[1].double(), RIDGE)
    there, answer = task.part(part, COUNT, seed)
    return task.scored(features(there).double() @ readout, answer)


def _seen(network: EchoStateNetwork, task: Task, x: Tensor) -> Tensor:
    """The state, the input and 1, where the task reads."""
    both = torch.cat([network.states(x), x, torch.ones(len(x), 1)], 1)
    return task.read(both[None])[0]
