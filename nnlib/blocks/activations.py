"""Activations by name: torch's fused form of each, in one table for every model.

What they are, and their slopes, stands in `nnlib.foundations.activations`; a test holds the two
together, name by name.
"""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "identity": lambda z: z,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
    "leaky_relu": F.leaky_relu,
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
}


def activation(
    name: str, among: Iterable[str] = ACTIVATIONS, *, argument: str = "activation"
) -> Activation:
    """Return the activation of that name.

    Args:
        name: a key of `ACTIVATIONS`.
        among: the names that the caller takes.
        argument: what the caller's argument is called, for the message.

    Example:
        >>> activation("relu")(torch.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """
    return ACTIVATIONS[checks.one_of(argument, name, among)]
