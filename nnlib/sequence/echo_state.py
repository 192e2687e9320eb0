r"""Echo state network: a fixed random recurrent network, of which only the read-out is learned.

Chapter: chapters/sequence/echo_state.md     Papers: Jaeger 2001; leaky units: Jaeger et al. 2007
Axes: t time, d input features, h units of the reservoir, k outputs.
"""

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.autograd import forward_ad

from nnlib import checks


class EchoStateNetwork(nn.Module):
    r"""$h_t = (1 - \alpha) h_{t-1} + \alpha \tanh(W h_{t-1} + V x_t + b)$, $y_t = U [h_t; x_t; 1]$.

    $W$, $V$ and $b$ are drawn once; $U$ is the solution of a ridge regression. All numbers are
    float64: the regression needs them (equations `echo-state-update`, `echo-state-readout`,
    `echo-state-ridge`).

    Args:
        input_size: features d of an input, ≥ 1.
        reservoir_size: units h, ≥ 1.
        spectral_radius: largest magnitude of an eigenvalue of $W$, ≥ 0.
        leak: α in (0, 1]; small is slow.
        ridge: λ ≥ 0, the penalty on $U$; 0 is least squares.
        input_scaling: entries of $V$ are uniform within ± this, > 0.
        bias_scaling: entries of $b$ are uniform within ± this, ≥ 0.
        density: share of $W$'s entries that are not zero, in (0, 1].
        seed: of the draw, ≥ 0.

    Example:
        >>> wave = torch.sin(torch.arange(400.0) / 5)[:, None]
        >>> network = EchoStateNetwork(1, 50).fit(wave[:-1], wave[1:], washout=50)
        >>> float((network.generate(10)[0] - torch.sin(torch.tensor(400 / 5))).abs()) < 0.01
        True

    Source: Jaeger 2001; Lukoševičius 2012 for the practice.
    """

    def __init__(
        self,
        input_size: int,
        reservoir_size: int,
        spectral_radius: float = 0.9,
        leak: float = 1.0,
        ridge: float = 1e-6,
        *,
        input_scaling: float = 1.0,
        bias_scaling: float = 0.0,
        density: float = 1.0,
        seed: int = 0,
    ):
        super().__init__()
        self.input_size = d = checks.count("input_size", input_size)
        self.reservoir_size = h = checks.count("reservoir_size", reservoir_size)
        self.spectral_radius = checks.number("spectral_radius", spectral_radius, least=0)
        self.leak = checks.number("leak", leak, above=0, most=1)
        self.ridge = checks.number("ridge", ridge, least=0)
        scale = checks.number("input_scaling", input_scaling, above=0)
        shift = checks.number("bias_scaling", bias_scaling, least=0)
        share = checks.number("density", density, above=0, most=1)
        draw = torch.Generator().manual_seed(checks.count("seed", seed, least=0))

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(shape, generator=draw, dtype=torch.float64) - 1

        recurrent = uniform(h, h)
        if share < 1:
            recurrent *= torch.rand((h, h), generator=draw, dtype=torch.float64) < share
        largest = torch.linalg.eigvals(recurrent).abs().max()
        if largest > 0:
            recurrent *= self.spectral_radius / largest
        self.register_buffer("recurrent", recurrent)
        self.register_buffer("input", scale * uniform(h, d))
        self.register_buffer("bias", shift * uniform(h))
        nothing = torch.zeros(
            0, h + d + 1, dtype=torch.float64
        )  # as many rows as outputs, once fit
        self.register_buffer("readout", nothing)
        self.register_buffer("state", torch.zeros(h, dtype=torch.float64))
        self.register_buffer("last", nothing[:, 0])  # with the state, what `generate` goes on from

    def states(
        self, x: Float[Tensor, "t d"], state: Float[Tensor, " h"] | None = None
    ) -> Float[Tensor, "t h"]:
        """Return the reservoir's states while it reads `x`, from `state` or from rest."""
        checks.tensor("x", x, shape=("t", self.input_size), floating=True, finite=True, empty=False)
        h = torch.zeros_like(self.state) if state is None else state
        checks.tensor("state", h, shape=(self.reservoir_size,), floating=True)
        h = h.to(self.state)
        driven = x.to(self.state) @ self.input.T + self.bias  # all of time at once
        arrays = _arrays(driven, h, self.recurrent)
        if arrays is None:  # on a GPU, or where a gradient is wanted
            return self._walk(driven, h)
        return torch.from_numpy(_walk(*arrays, self.leak))

    def _walk(self, driven: Float[Tensor, "t h"], h: Float[Tensor, " h"]) -> Float[Tensor, "t h"]:
        """Go through time tick by tick: the readable twin of the walk in numpy."""
        seen = []
        for now in driven.unbind(0):
            h = self._tick(now, h)
            seen.append(h)
        return torch.stack(seen)

    def fit(
        self, x: Float[Tensor, "t d"], y: Float[Tensor, "t k"], washout: int = 100
    ) -> "EchoStateNetwork":
        """Learn the read-out by ridge regression on all states after the first `washout`.

        Args:
            x: inputs in order of time.
            y: the wanted output at each of them.
            washout: steps at the start that are not learned from, ≥ 0 and fewer than t.
        """
        seen = self.states(x)
        checks.tensor("y", y, shape=(len(x), "k"), floating=True, finite=True, empty=False)
        washout = checks.count("washout", washout, least=0)
        if washout >= len(x):
            raise ValueError(f"washout={washout} leaves none of the {len(x)} steps to learn from")
        features, wanted = self._features(seen, x)[washout:], y.to(self.state)[washout:]
        self.readout = _ridge(features, wanted, self.ridge).T.contiguous()  # eq. echo-state-ridge
        self._remember(seen[-1], y[-1])
        return self

    def predict(
        self, x: Float[Tensor, "t d"], state: Float[Tensor, " h"] | None = None
    ) -> Float[Tensor, "t k"]:
        """Return the output at each step of `x`; `state` is the one before it, at rest if None.

        Raises:
            RuntimeError: the network was not fitted.
            TypeError: `x` is no floating-point tensor.
            ValueError: its shape does not fit.
        """
        self._require_fit()
        seen = self.states(x, state)
        out = self._features(seen, x) @ self.readout.T  # eq. echo-state-readout
        self._remember(seen[-1], out[-1])
        return out

    forward = predict

    def generate(self, steps: int) -> Float[Tensor, "steps k"]:
        """Return the next outputs, each fed back as the next input, from where the network stands.

        After `fit` it goes on from the last wanted output, after `predict` from its last own.

        Raises:
            RuntimeError: the network was not fitted.
            ValueError: `steps` is not ≥ 1, or outputs are not of the size of inputs.
        """
        self._require_fit()
        steps = checks.count("steps", steps)
        if len(self.readout) != self.input_size:
            raise ValueError(
                f"generate needs as many outputs as inputs, got {len(self.readout)} and "
                f"{self.input_size}"
            )
        weights = self.recurrent, self.input, self.bias, self.readout
        arrays = _arrays(self.state, self.last, *weights)
        if arrays is None:
            h, out = self._run(self.state, self.last, steps)
        else:
            h, out = map(torch.from_numpy, _run(*arrays, self.leak, steps))
        self._remember(h, out[-1])
        return out

    def _run(self, h: Tensor, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return the last state and all outputs: the readable twin of the run in numpy."""
        out = []
        one = torch.ones(1, dtype=h.dtype, device=h.device)
        for _ in range(steps):
            h = self._tick(torch.addmv(self.bias, self.input, x), h)
            x = torch.mv(self.readout, torch.cat([h, x, one]))
            out.append(x)
        return h, torch.stack(out)

    def _tick(self, driven: Tensor, h: Tensor) -> Tensor:
        new = torch.addmv(driven, self.recurrent, h).tanh_()
        return new if self.leak == 1 else torch.lerp(h, new, self.leak)  # eq. echo-state-update

    def _features(self, seen: Tensor, x: Tensor) -> Tensor:
        one = torch.ones(len(seen), 1, dtype=seen.dtype, device=seen.device)
        return torch.cat([seen, x.to(seen), one], -1)

    def _remember(self, state: Tensor, last: Tensor) -> None:
        self.state, self.last = state.detach().clone(), last.detach().to(state).clone()

    def _require_fit(self) -> None:
        if len(self.readout) == 0:
            raise RuntimeError("the network has no read-out yet: call fit(x, y) first")

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        for name in ("readout", "last"):  # their sizes are known once the network is fitted
            saved = state_dict.get(prefix + name)
            if saved is not None:
                setattr(self, name, torch.empty_like(saved).to(self.state))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return (
            f"{self.input_size}, {self.reservoir_size}, spectral_radius="
            f"{self.spectral_radius:g}, leak={self.leak:g}, ridge={self.ridge:g}"
        )


def ridge_regression(
    features: Float[Tensor, "t p"], wanted: Float[Tensor, "t k"], ridge: float
) -> Float[Tensor, "p k"]:
    r"""Return $\arg\min_U \lVert F U - Y \rVert^2 + \lambda \lVert U \rVert^2$, solved stably.

    The penalty becomes rows $\sqrt\lambda I$ under $F$, and a QR factorisation solves the taller
    least squares: the squared condition number of $F^\top F$ never appears (equations
    `echo-state-objective`, `echo-state-stacked`).

    Args:
        features: F.
        wanted: Y.
        ridge: λ ≥ 0; at 0 the solution of least norm.

    Returns:
        U, in the precision of `features`.

    Example:
        >>> ridge_regression(torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [4.0]]), 5.0)
        tensor([[1.0000]])

    Source: Hoerl and Kennard 1970.
    """
    checks.tensor("features", features, shape=("t", "p"), floating=True, finite=True, empty=False)
    checks.tensor("wanted", wanted, shape=(len(features), "k"), floating=True, finite=True)
    ridge = checks.number("ridge", ridge, least=0)
    if ridge == 0:
        return torch.linalg.lstsq(features, wanted.to(features), driver="gelsd").solution
    p, k = features.shape[1], wanted.shape[1]
    rows = torch.cat([features, wanted.to(features)], 1)
    penalty = ridge**0.5 * torch.eye(p, p + k).to(features)  # wants zero: its last columns
    rotated = torch.linalg.qr(torch.cat([rows, penalty]), mode="r").R[:p]  # both sides at once
    return torch.linalg.solve_triangular(rotated[:, :p], rotated[:, p:], upper=True)


def _ridge(features: Tensor, wanted: Tensor, ridge: float) -> Tensor:
    """Do what `ridge_regression` does, with less than half of the work where rounding allows.

    A Cholesky factor of the normal equations gives a first answer. The slope that is left there,
    taken from the residual itself, corrects it, until corrections stop shrinking. Where already the
    first is no small one, the factor is too rough, and QR answers.
    """
    if ridge > 0:
        gram = _gram(features)
        gram.diagonal().add_(ridge)
        factor, failed = torch.linalg.cholesky_ex(gram)
        found = torch.zeros(features.shape[1], wanted.shape[1]).to(features)
        sizes = []
        while failed == 0 and len(sizes) < 9:
            slope = features.T @ (wanted - features @ found) - ridge * found
            change = torch.cholesky_solve(slope, factor)
            found += change
            sizes.append(change.norm(dim=0))
            if len(sizes) == 2 and not (sizes[1] <= 0.01 * sizes[0]).all():
                break
            if len(sizes) > 1 and (sizes[-1] >= 0.1 * sizes[-2]).all():
                return found
    return ridge_regression(features, wanted, ridge)


def _gram(features: Tensor) -> Tensor:
    """Return FᵀF; numpy sees that it is symmetric, and computes one half."""
    arrays = _arrays(features)
    if arrays is None:
        return features.T @ features
    return torch.from_numpy(arrays[0].T @ arrays[0])


def _arrays(*tensors: Tensor) -> list[np.ndarray] | None:
    """Return the tensors as numpy sees them; None on a GPU, or where a derivative is wanted."""
    if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
        return None
    try:
        return [tensor.numpy() for tensor in tensors]
    except (RuntimeError, TypeError):
        return None


def _walk(driven: np.ndarray, h: np.ndarray, recurrent: np.ndarray, leak: float) -> np.ndarray:
    """Return the states t h; no call in the loop, whose cost would be that of a small product."""
    recurrent, seen = _compact(recurrent, len(driven)), np.empty_like(driven)
    for t, now in enumerate(driven):
        new = recurrent.dot(h)  # a fresh array, in which all the rest is done
        new += now
        np.tanh(new, out=new)
        if leak != 1:
            new *= leak
            new += (1 - leak) * h
        seen[t] = h = new
    return seen


def _run(
    h: np.ndarray, x: np.ndarray, recurrent: np.ndarray, given: np.ndarray, bias: np.ndarray,
    readout: np.ndarray, leak: float, steps: int,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the last state, and the outputs of a run that hears itself."""
    recurrent, out = _compact(recurrent, steps), np.empty((steps, len(readout)), readout.dtype)
    column = np.ones(readout.shape[1], readout.dtype)
    for t in range(steps):
        new = recurrent.dot(h)
        new += given.dot(x)
        new += bias
        np.tanh(new, out=new)
        if leak != 1:
            new *= leak
            new += (1 - leak) * h
        h = new
        column[: len(h)] = h
        column[len(h) : -1] = x
        out[t] = x = readout.dot(column)
    return h, out


def _compact(matrix: np.ndarray, times: int) -> np.ndarray | csr_array:
    """Return the matrix in the form that multiplies a vector faster, so many times.

    A sparse product costs about as much as five entries of a dense one for each that is not zero,
    and a few microseconds; to find these entries costs some tens of dense products.
    """
    matrix = np.ascontiguousarray(matrix)
    if times < 100:
        return matrix
    filled = matrix != 0
    if 5 * np.count_nonzero(filled) + 25_000 >= matrix.size:
        return matrix
    at = np.flatnonzero(filled)  # row after row, as the sparse form keeps them
    columns = (at % matrix.shape[1]).astype(np.int32)
    ends = np.append(0, np.count_nonzero(filled, axis=1).cumsum()).astype(np.int32)
    return csr_array((matrix.ravel()[at], columns, ends), matrix.shape)
