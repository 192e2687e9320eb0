"""The wiring of a neural circuit policy: which neuron has a synapse on which, and of which sign."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from nnlib import checks

Synapses = list[tuple[int, int, int]]  # source, target, sign


class Wiring:
    """Which synapses there are: +1 excites, -1 inhibits, 0 is none.

    Args:
        sensory: from inputs (rows) to neurons (columns).
        inner: from neurons (rows) to neurons (columns).
        outputs: the neurons 0 … outputs - 1 are read out, ≥ 1.
        groups: how many neurons of each kind there are, first the motor neurons, by name; None:
            motor neurons, and "inter" for all others.

    Attributes:
        sensory, inner: as given, int64.
        input_size, hidden_size, outputs: their numbers.
        groups: the neurons of each kind, by name.

    Example:
        >>> two = Wiring([[1, 0]], [[0, 1], [-1, 0]], outputs=1)  # a loop of two neurons
        >>> two.synapses, two.density
        (3, 0.5)

    Source: Lechner et al. 2020.
    """

    def __init__(
        self,
        sensory: Int[Tensor, "d n"] | Sequence[Sequence[int]],
        inner: Int[Tensor, "n n"] | Sequence[Sequence[int]],
        outputs: int,
        groups: dict[str, int] | None = None,
    ):
        self.sensory = _signs("sensory", sensory)
        self.inner = _signs("inner", inner)
        self.input_size, self.hidden_size = self.sensory.shape
        if self.inner.shape != (self.hidden_size, self.hidden_size):
            wanted = (self.hidden_size, self.hidden_size)
            raise ValueError(
                f"inner must have shape {wanted}, got {tuple(self.inner.shape)}"
            )
        if not self.sensory.any():
            raise ValueError(
                "sensory must hold at least one synapse, got an empty wiring"
            )
        self.outputs = checks.count("outputs", outputs)
        if outputs > self.hidden_size:
            raise ValueError(
                f"outputs={outputs} must be ≤ {self.hidden_size}, the neurons"
            )
        sizes = groups or {"motor": outputs, "inter": self.hidden_size - outputs}
        if not isinstance(sizes, dict):
            raise TypeError(
                f"groups={groups!r} must be a dictionary of numbers by name"
            )
        for name, size in sizes.items():
            checks.count(f"groups[{name!r}]", size, least=0)
        if sum(sizes.values()) != self.hidden_size:
            raise ValueError(
                f"groups={groups} must add up to {self.hidden_size}, the neurons"
            )
        if next(iter(sizes.values())) != outputs:
            raise ValueError(
                f"groups={groups} must begin with outputs={outputs}, the motor neurons"
            )
        ends = np.cumsum(list(sizes.values())).tolist()
        self.groups = {
            name: range(end - size, end)
            for (name, size), end in zip(sizes.items(), ends, strict=True)
        }

    @property
    def synapses(self) -> int:
        """How many synapses there are, those of the inputs included."""
        return int(self.sensory.abs().sum() + self.inner.abs().sum())

    @property
    def density(self) -> float:
        """The share of all possible synapses that there are."""
        return self.synapses / (self.sensory.numel() + self.inner.numel())

    def __repr__(self) -> str:
        """Tell sizes and synapses."""
        kinds = ", ".join(f"{len(of)} {name}" for name, of in self.groups.items())
        return f"Wiring({self.input_size} inputs, {kinds}, {self.synapses} synapses)"


def wiring(
    input_size: int,
    hidden_size: int,
    outputs: int,
    sparsity: float = 0.5,
    *,
    command: int | None = None,
    sensory_fanout: int | None = None,
    inter_fanout: int | None = None,
    recurrent: int | None = None,
    motor_fanin: int | None = None,
    seed: int = 22222,
) -> Wiring:
    """Draw the sparse wiring of a neural circuit policy: sensory → inter → command → motor.

    Each input is joined to `sensory_fanout` inter neurons, each inter neuron to `inter_fanout`
    command neurons, command neurons to one another by `recurrent` synapses, and each motor neuron
    to `motor_fanin` command neurons; whoever is left out gets as many partners as the others have
    on average. Signs are drawn with equal chances. Neurons are numbered motor, command, inter.

    Args:
        input_size: inputs, ≥ 1.
        hidden_size: neurons of all three kinds, ≥ outputs + 3.
        outputs: motor neurons, ≥ 1.
        sparsity: share of possible synapses that is left out, 0.1 … 0.9; what is not given below
            follows from it.
        command: command neurons; None: two fifths of those that are no motor neurons.
        sensory_fanout: inter neurons that an input reaches.
        inter_fanout: command neurons that an inter neuron reaches.
        recurrent: synapses drawn among command neurons; one that is drawn twice is there once.
        motor_fanin: command neurons that a motor neuron listens to.
        seed: of the draw, 0 … 2³² - 1; with the same one, ncps draws the same wiring.

    Example:
        >>> wiring(4, 19, 1, sparsity=0.5)
        Wiring(4 inputs, 1 motor, 7 command, 11 inter, 68 synapses)

    Source: Lechner et al. 2020; the defaults are those of ncps' `AutoNCP`.
    """
    input_size = checks.count("input_size", input_size)
    hidden_size = checks.count("hidden_size", hidden_size)
    outputs = checks.count("outputs", outputs)
    sparsity = checks.number("sparsity", sparsity, least=0.1, most=0.9)
    if hidden_size < outputs + 3:
        raise ValueError(
            f"hidden_size={hidden_size} must be ≥ {outputs + 3}, three more than outputs={outputs}"
        )
    rest = hidden_size - outputs
    if command is None:
        command = max(int(0.4 * rest), 1)
    command = checks.count("command", command)
    if command >= rest:
        raise ValueError(
            f"command={command} must be < {rest}, the neurons that are not motor"
        )
    inter, density = rest - command, 1.0 - sparsity
    fans = {
        "sensory_fanout": (sensory_fanout, inter, density),
        "inter_fanout": (inter_fanout, command, density),
        "recurrent": (recurrent, command, 2 * density),
        "motor_fanin": (motor_fanin, command, density),
    }
    taken = {name: _fan(name, *given) for name, given in fans.items()}
    if checks.count("seed", seed, least=0) >= 2**32:
        raise ValueError(f"seed={seed} must be below 2**32")
    rng = np.random.RandomState(seed)
    motors = range(outputs)
    commands = range(outputs, outputs + command)
    inters = range(outputs + command, hidden_size)
    sensory = torch.zeros(input_size, hidden_size, dtype=torch.int64)
    inner = torch.zeros(hidden_size, hidden_size, dtype=torch.int64)
    for source, target, sign in _joined(
        rng, range(input_size), inters, taken["sensory_fanout"]
    ):
        sensory[source, target] = sign
    for source, target, sign in _joined(rng, inters, commands, taken["inter_fanout"]):
        inner[source, target] = sign
    for _ in range(taken["recurrent"]):
        source, target = rng.choice(commands), rng.choice(commands)
        inner[source, target] = rng.choice([-1, 1])
    for target, source, sign in _joined(rng, motors, commands, taken["motor_fanin"]):
        inner[source, target] = sign
    groups = {"motor": outputs, "command": command, "inter": inter}
    return Wiring(sensory, inner, outputs, groups)


def _fan(name: str, given: int | None, many: int, share: float) -> int:
    """Return how many partners are drawn: as given, or the share of those that there are."""
    if given is None:
        return max(int(share * many), 1)
    given = checks.count(name, given)
    if given > many and name != "recurrent":
        raise ValueError(f"{name}={given} must be ≤ {many}, the neurons to choose from")
    return given


def _joined(rng: np.random.RandomState, near: range, far: range, fan: int) -> Synapses:
    """Join each of `near` to `fan` of `far`; who is left out, to some of `near`."""
    found: Synapses = []
    for one in near:
        for other in rng.choice(far, size=fan, replace=False):
            found.append((one, int(other), int(rng.choice([-1, 1]))))
    reached = {other for _, other, _ in found}
    mean = min(max(len(near) * fan // len(far), 1), len(near))
    for other in far:
        if other not in reached:
            for one in rng.choice(near, size=mean, replace=False):
                found.append((int(one), other, int(rng.choice([-1, 1]))))
    return found


def _signs(name: str, value: object) -> Tensor:
    """Return a matrix of -1, 0 and 1."""
    try:
        taken = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"{name} must be a matrix of -1, 0 and 1, got {value!r}"
        ) from error
    checks.tensor(name, taken, shape=("rows", "columns"), floating=False, empty=False)
    taken = taken.to(torch.int64, copy=True)
    if bool((taken.abs() > 1).any()):
        raise ValueError(f"{name} must hold -1, 0 and 1, got {int(taken.abs().max())}")
    return taken
