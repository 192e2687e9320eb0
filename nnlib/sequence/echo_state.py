r"""Echo state network: a fixed random recurrent network, of which only the read-out is learned.

Chapter: chapters/sequence/echo_state.md     Papers: Jaeger 2001; leaky units: Jaeger et al. 2007
Axes: t time, d input features, h units of the reservoir, k outputs.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.sequence import _echo_state_numpy as in_numpy

REPAIRS = 5  # of an answer by Cholesky's way, before the rotations are taken


class EchoStateNetwork(nn.Module):
    r"""$h_t = (1 - \alpha) h_{t-1} + \alpha \tanh(W h_{t-1} + V x_t + b)$, $y_t = U [h_t; x_t; 1]$.

    $W$, $V$ and $b$ are drawn once; $U$ is the solution of a ridge regression. All numbers are
    float64 unless asked otherwise: a free run feeds its own rounding back (equations
    `echo-state-update`, `echo-state-readout`, `echo-state-ridge`).

    Args:
        input_size: features d of an input, ≥ 1.
        reservoir_size: units h, ≥ 1.
        spectral_radius: largest magnitude of an eigenvalue of $W$, ≥ 0.
        leak: α in (0, 1]; small is slow.
        ridge: λ ≥ 0, the penalty on $U$; 0 is least squares.
        input_scaling: entries of $V$ are uniform within ± this, > 0.
        bias_scaling: entries of $b$ are uniform within ± this, ≥ 0.
        density: share of $W$'s entries that are not zero, in (0, 1].
        seed: of the draw, ≥ 0, which is the same on every device.
        device: of all numbers.
        dtype: of all numbers; None is float64.

    Example:
        >>> wave = torch.sin(torch.arange(400.0) / 5)[:, None]
        >>> network = EchoStateNetwork(1, 50).fit(wave[:-1], wave[1:], washout=50)
        >>> float((network.generate(10)[0] - torch.sin(torch.tensor(400 / 5))).abs()) < 0.01
        True

    Source: Jaeger 2001; Lukoševičius 2012 for the practice.
    """

    recurrent: Tensor
    input: Tensor
    bias: Tensor
    readout: Tensor
    state: Tensor
    last: Tensor

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
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = d = checks.count("input_size", input_size)
        self.reservoir_size = h = checks.count("reservoir_size", reservoir_size)
        self.spectral_radius = checks.number(
            "spectral_radius", spectral_radius, least=0
        )
        self.leak = checks.number("leak", leak, above=0, most=1)
        self.ridge = checks.number("ridge", ridge, least=0)
        scale = checks.number("input_scaling", input_scaling, above=0)
        shift = checks.number("bias_scaling", bias_scaling, least=0)
        share = checks.number("density", density, above=0, most=1)
        draw = torch.Generator("cpu").manual_seed(checks.count("seed", seed, least=0))

        def drawn(*shape: int) -> Tensor:
            return torch.rand(shape, generator=draw, dtype=torch.float64, device="cpu")

        recurrent = 2 * drawn(h, h) - 1
        if share < 1:
            recurrent *= drawn(h, h) < share
        largest = torch.linalg.eigvals(recurrent).abs().max()
        if largest > 0:
            recurrent *= self.spectral_radius / largest
        buffers = {
            "recurrent": recurrent,
            "input": scale * (2 * drawn(h, d) - 1),
            "bias": shift * (2 * drawn(h) - 1),
            "readout": drawn(0, h + d + 1),  # as many rows as outputs, once fitted
            "state": torch.zeros_like(recurrent[0]),
            "last": drawn(0),  # with the state, what `generate` goes on from
        }
        where = torch.get_default_device() if device is None else device
        for name, value in buffers.items():
            self.register_buffer(name, value.to(where, dtype or torch.float64))

    def states(
        self, x: Float[Tensor, "t d"], state: Float[Tensor, " h"] | None = None
    ) -> Float[Tensor, "t h"]:
        """Return the reservoir's states while it reads `x`, from `state` or from rest."""
        driven, h = self._driven(x, state)
        arrays = in_numpy.arrays(driven, h, self.recurrent)
        if arrays is None:  # on a GPU, or where a gradient is wanted
            return self.loop(x, state)
        return torch.from_numpy(in_numpy.walk(*arrays, leak=self.leak))

    def loop(
        self, x: Float[Tensor, "t d"], state: Float[Tensor, " h"] | None = None
    ) -> Float[Tensor, "t h"]:
        """Do what `states` does, tick by tick in torch: the readable twin."""
        driven, h = self._driven(x, state)
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
        checks.tensor(
            "y", y, shape=(len(x), "k"), floating=True, finite=True, empty=False
        )
        washout = checks.count("washout", washout, least=0)
        if washout >= len(x):
            raise ValueError(
                f"washout={washout} leaves none of the {len(x)} steps to learn from"
            )
        features, wanted = self._features(seen, x)[washout:], y.to(self.state)[washout:]
        found = _repaired(features, wanted, self.ridge)  # eq. echo-state-ridge
        if found is None:
            found = ridge_regression(features, wanted, self.ridge)
        self.readout = found.T.contiguous()
        self._remember(seen[-1], y[-1])
        return self

    def forward(
        self, x: Float[Tensor, "t d"], state: Float[Tensor, " h"] | None = None
    ) -> Float[Tensor, "t k"]:
        """Return the output at each step of `x`; `state` is the one before it, at rest if None.

        Raises:
            RuntimeError: the network was not fitted.
        """
        return self._read(x, state)[1]

    def predict(
        self, x: Float[Tensor, "t d"], state: Float[Tensor, " h"] | None = None
    ) -> Float[Tensor, "t k"]:
        """Do what `forward` does, and stay where `x` ends: `generate` goes on from there."""
        seen, out = self._read(x, state)
        self._remember(seen[-1], out[-1])
        return out

    def generate(self, steps: int) -> Float[Tensor, "steps k"]:
        """Return the next outputs, each fed back as the next input, from where the network stands.

        After `fit` it goes on from the last wanted output, after `predict` from its last own.

        Raises:
            RuntimeError: the network was not fitted.
            ValueError: outputs are not of the size of inputs.
        """
        self._require_fit()
        steps = checks.count("steps", steps)
        if len(self.readout) != self.input_size:
            raise ValueError(
                f"generate needs as many outputs as inputs, got {len(self.readout)} and "
                f"{self.input_size}"
            )
        weights = self.recurrent, self.input, self.bias, self.readout
        arrays = in_numpy.arrays(self.state, self.last, *weights)
        if arrays is None:
            h, out = self._free_run(self.state, self.last, steps)
        else:
            done = in_numpy.free_run(*arrays, leak=self.leak, steps=steps)
            h, out = map(torch.from_numpy, done)
        self._remember(h, out[-1])
        return out

    def _free_run(self, h: Tensor, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Return the last state and all outputs: the readable twin of the run in numpy."""
        out = []
        one = torch.ones(1, dtype=h.dtype, device=h.device)
        for _ in range(steps):
            h = self._tick(torch.addmv(self.bias, self.input, x), h)
            x = torch.mv(self.readout, torch.cat([h, x, one]))
            out.append(x)
        return h, torch.stack(out)

    def _driven(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return what the inputs bring to every tick, all of time at once, and the first state."""
        checks.tensor("x", x, shape=("t", self.input_size), floating=True, empty=False)
        if checks.readable(x):
            checks.tensor("x", x, finite=True)
        h = torch.zeros_like(self.state) if state is None else state
        checks.tensor("state", h, shape=(self.reservoir_size,), floating=True)
        return x.to(self.state) @ self.input.T + self.bias, h.to(self.state)

    def _read(self, x: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the states and the outputs at each step of `x`."""
        self._require_fit()
        seen = self.states(x, state)
        return seen, self._features(seen, x) @ self.readout.T  # eq. echo-state-readout

    def _tick(self, driven: Tensor, h: Tensor) -> Tensor:
        new = torch.addmv(driven, self.recurrent, h).tanh_()
        # eq. echo-state-update
        return new if self.leak == 1 else torch.lerp(h, new, self.leak)

    def _features(self, seen: Tensor, x: Tensor) -> Tensor:
        one = torch.ones(len(seen), 1, dtype=seen.dtype, device=seen.device)
        return torch.cat([seen, x.to(seen), one], -1)

    def _remember(self, state: Tensor, last: Tensor) -> None:
        self.state, self.last = state.detach().clone(), last.detach().to(state).clone()

    def _require_fit(self) -> None:
        if len(self.readout) == 0:
            raise RuntimeError("the network has no read-out yet: call fit(x, y) first")

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        for name in (
            "readout",
            "last",
        ):  # their sizes are known once the network is fitted
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
    checks.tensor(
        "features", features, shape=("t", "p"), floating=True, finite=True, empty=False
    )
    checks.tensor(
        "wanted", wanted, shape=(len(features), "k"), floating=True, finite=True
    )
    ridge = checks.number("ridge", ridge, least=0)
    if ridge == 0:
        return torch.linalg.lstsq(
            features, wanted.to(features), driver="gelsd"
        ).solution
    p, k = features.shape[1], wanted.shape[1]
    rows = torch.cat([features, wanted.to(features)], 1)
    penalty = ridge**0.5 * torch.eye(p, p + k).to(
        features
    )  # wants zero: its last columns
    rotated = torch.linalg.qr(torch.cat([rows, penalty]), mode="r").R[
        :p
    ]  # both sides at once
    return torch.linalg.solve_triangular(rotated[:, :p], rotated[:, p:], upper=True)


def _repaired(features: Tensor, wanted: Tensor, ridge: float) -> Tensor | None:
    """Return what `ridge_regression` does, with half of the work; None where rounding is too rough.

    A Cholesky factor of the normal equations gives an answer. The slope of the objective that is
    left there, taken from the residual itself, where nothing is squared, corrects it.
    """
    gram = in_numpy.gram(features)
    gram.diagonal().add_(ridge)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:
        return None
    found = torch.zeros(features.shape[1], wanted.shape[1]).to(features)
    # the next would be smaller by a like factor
    small = torch.finfo(found.dtype).eps ** 0.5
    for _ in range(1 + REPAIRS):
        slope = features.T @ (wanted - features @ found) - ridge * found
        change = torch.cholesky_solve(slope, factor)
        found += change
        if (change.norm(dim=0) <= small * found.norm(dim=0)).all():
            return found
    return None
