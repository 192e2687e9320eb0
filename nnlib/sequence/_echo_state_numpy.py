"""What an echo state network leaves to numpy, where a call costs less than in torch.

With a hundred units it is the calls that take the time, and not the products. The readable twins
are methods of `nnlib.sequence.echo_state.EchoStateNetwork`, which alone uses this.
Axes: t time, d input features, h units of the reservoir, k outputs.
"""

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.autograd import forward_ad

Array = np.ndarray
# From when on a sparse product is the faster one, and worth looking for the entries once: so many
# units and steps, and at most this share of entries that are not zero.
UNITS, STEPS, SHARE = 300, 300, 0.15


def arrays(*tensors: Tensor) -> list[Array] | None:
    """Return the tensors as numpy sees them; None on a GPU, or where a derivative is wanted."""
    if torch.compiler.is_compiling():
        return None
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        return None
    try:
        return [tensor.numpy() for tensor in tensors]
    except (RuntimeError, TypeError):
        return None


def walk(driven: Array, h: Array, recurrent: Array, *, leak: float) -> Array:
    """Return the states t h."""
    matrix, seen = _compact(recurrent, len(driven)), np.empty_like(driven)
    for t, now in enumerate(driven):
        seen[t] = h = _tick(matrix.dot(h) + now, h, leak)
    return seen


def free_run(
    h: Array, x: Array, recurrent: Array, given: Array, bias: Array, readout: Array, *,
    leak: float, steps: int,
) -> tuple[Array, Array]:  # fmt: skip
    """Return the last state, and the outputs k of a run that hears itself."""
    matrix, out = (
        _compact(recurrent, steps),
        np.empty((steps, len(readout)), readout.dtype),
    )
    column = np.ones(readout.shape[1], readout.dtype)
    for t in range(steps):
        h = _tick(matrix.dot(h) + given.dot(x) + bias, h, leak)
        column[: len(h)] = h
        column[len(h) : -1] = x
        out[t] = x = readout.dot(column)
    return h, out


def gram(features: Tensor) -> Tensor:
    """Return FᵀF; numpy sees that it is symmetric, and computes one half."""
    seen = arrays(features)
    if seen is None:
        return features.T @ features
    return torch.from_numpy(seen[0].T @ seen[0])


def _tick(mixed: Array, h: Array, leak: float) -> Array:
    new = np.tanh(mixed, out=mixed)
    return new if leak == 1 else leak * new + (1 - leak) * h


def _compact(matrix: Array, steps: int) -> Array | csr_array:
    """Return the matrix in the form that multiplies a vector faster, so many times."""
    if (
        len(matrix) < UNITS
        or steps < STEPS
        or np.count_nonzero(matrix) > SHARE * matrix.size
    ):
        return np.ascontiguousarray(matrix)
    return csr_array(matrix)
