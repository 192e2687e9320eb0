r"""S4: a linear system in continuous time, sampled, then stepped or applied as one convolution.

Chapter: chapters/sequence/s4.md     Papers: Gu et al. 2020 (HiPPO), Gu, Goel and Ré 2021 (S4),
Gu et al. 2022 (S4D)
Forms: a dense system (`discretize`, `ssm_kernel`), a diagonal one plus a low rank (`dplr_kernel`),
a diagonal one (`S4D`), each with its kernel equal to its powers.
Axes: b batch, t time, d features, n state; in S4D n counts conjugate pairs, half of state_size.
"""

import math
from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.sequence._s4_hippo import (
    INITS,
    diagonal_start,
    dplr_kernel,
    hippo,
    legendre,
    legs_memory,
    nplr,
    pairs,
)
from nnlib.sequence._s4_powers import expm1, vandermonde, wide, wrapped
from nnlib.sequence._s4_system import (
    METHODS,
    causal_convolution,
    discretize,
    ssm_kernel,
    ssm_kernel_reference,
)

__all__ = [
    "INITS",
    "METHODS",
    "S4D",
    "S4Block",
    "S4Network",
    "causal_convolution",
    "diagonal_start",
    "discretize",
    "dplr_kernel",
    "hippo",
    "legendre",
    "legs_memory",
    "nplr",
    "parameter_groups",
    "ssm_kernel",
    "ssm_kernel_reference",
    "vandermonde",
]


class S4D(nn.Module):
    r"""A diagonal linear system for every feature: $K_k = 2\Re\sum_i C_i \bar A_i^k \bar B_i$.

    The output is $K * x + D x$ (equation `s4-convolution`). Training applies the whole kernel at
    once by FFT (`forward`); generation keeps n numbers a feature and steps them (`step`); `loop`
    and `read` are the same function. The real parts are $-e^{a}$, so a system cannot become
    unstable, and $\Delta = e^{\delta}$ is learned for each feature (equations `s4-stable`,
    `s4-vandermonde`). B is 1: only its product with C matters.

    Args:
        hidden_size: features d, ≥ 1.
        state_size: N, even: N / 2 conjugate pairs for each feature.
        init: eigenvalues to begin with: see `diagonal_start`.
        method: "zoh" or "bilinear".
        delta_min: of the step sizes, which begin evenly in their logarithm, > 0.
        delta_max: of the step sizes, ≥ `delta_min`.
        device: of the parameters.
        dtype: of the parameters, real.

    Example:
        >>> layer = S4D(5, state_size=16)
        >>> y, state = layer.step(torch.zeros(2, 5))
        >>> layer(torch.zeros(2, 100, 5)).shape, state.shape
        (torch.Size([2, 100, 5]), torch.Size([2, 5, 8]))

    Source: Gu et al. 2022, whose C is this one's; their layer mixes features afterwards, as
    `S4Block` does.
    """

    def __init__(
        self,
        hidden_size: int,
        state_size: int = 64,
        *,
        init: str = "legs",
        method: str = "zoh",
        delta_min: float = 1e-3,
        delta_max: float = 1e-1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        d = self.hidden_size = checks.count("hidden_size", hidden_size)
        n = pairs(state_size)
        self.state_size = state_size
        self.method = checks.one_of("method", method, ["zoh", "bilinear"])
        least = checks.number("delta_min", delta_min, above=0)
        most = checks.number("delta_max", delta_max, above=0)
        if most < least:
            raise ValueError(f"delta_max={most} must be at least delta_min={least}")
        like: dict[str, Any] = {
            "device": device,
            "dtype": dtype or torch.get_default_dtype(),
        }
        starts = torch.stack([diagonal_start(state_size, init) for _ in range(d)])
        spread = torch.rand(d).double() * math.log(most / least) + math.log(least)
        self.log_delta = nn.Parameter(spread.to(**like))
        self.log_decay = nn.Parameter((-starts.real).log().to(**like))
        self.frequency = nn.Parameter(starts.imag.to(**like))
        self.C = nn.Parameter((torch.randn(d, n, 2) * math.sqrt(0.5)).to(**like))
        self.D = nn.Parameter(torch.randn(d).to(**like))

    def extra_repr(self) -> str:
        """Return the sizes, for printing."""
        return (
            f"{self.hidden_size}, state_size={self.state_size}, method={self.method!r}"
        )

    @property
    def eigenvalues(self) -> Complex[Tensor, "d n"]:
        """A, in continuous time."""
        return torch.complex(
            -wide(self.log_decay).exp(), wide(self.frequency)
        )  # eq. s4-stable

    @property
    def read_out(self) -> Complex[Tensor, "d n"]:
        """C, which reads one of each pair."""
        return torch.view_as_complex(wide(self.C))

    def discrete(self) -> tuple[Tensor, Tensor]:
        r"""Return $\ln \bar A$ and $\bar B$, each d n and complex."""
        delta, A = wide(self.log_delta).exp()[:, None], self.eigenvalues
        z = delta * A
        if self.method == "zoh":
            return z, expm1(z) / A  # eq. s4-diagonal-zoh
        return torch.log((1 + z / 2) / (1 - z / 2)), delta / (1 - z / 2)

    def kernel(self, length: int) -> Float[Tensor, "d t"]:
        """Return the impulse response of every feature, without D: a Vandermonde product.

        Args:
            length: entries, ≥ 0.
        """
        length = checks.count("length", length, least=0)
        rate, B = self.discrete()
        return vandermonde(self.read_out * B, rate, length)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return the outputs, all of time at once: what training uses."""
        self._check(x, ("b", "t"))
        kernel = self.kernel(x.shape[1])  # half precision has no Fourier transform
        y = causal_convolution(x.to(kernel.dtype), kernel).to(x.dtype)
        return y + self.D * x  # eq. s4-convolution

    def step(
        self, x: Float[Tensor, "b d"], state: Complex[Tensor, "b d n"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Complex[Tensor, "b d n"]]:
        """Return the output for one more input, and the state after it: what generation uses.

        Args:
            x: one input for each sequence.
            state: what the step before returned; None is zero.
        """
        self._check(x, ("b",))
        rate, B = self.discrete()
        state = self._state(x, state)
        state = rate.exp() * state + B * x[..., None]
        y = 2 * (self.read_out * state).real.sum(-1)
        return y.to(x.dtype) + self.D * x, state  # eq. s4-step

    def loop(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return what `forward` returns, one step after the other: to be read."""
        self._check(x, ("b", "t"))
        outputs, state = [], None
        for x_t in x.unbind(1):
            y_t, state = self.step(x_t, state)
            outputs.append(y_t)
        return torch.stack(outputs, 1) if outputs else torch.zeros_like(x)

    def read(
        self, x: Float[Tensor, "b t d"], state: Complex[Tensor, "b d n"] | None = None
    ) -> tuple[Float[Tensor, "b t d"], Complex[Tensor, "b d n"]]:
        """Return the outputs and the last state, all of time at once, going on from `state`.

        Args:
            x: a prompt, or the next piece of a stream.
            state: after what came before; None is zero.
        """
        y, steps = self(x), x.shape[1]
        state = self._state(
            x[:, 0] if steps else x.new_zeros(len(x), self.hidden_size), state
        )
        rate, B = self.discrete()
        back = torch.arange(steps - 1, -1, -1, device=x.device)
        powers = torch.exp(
            wrapped(rate[..., None] * back)
        )  # d n t: how each input has faded
        reading = powers.flip(-1) * (self.read_out * rate.exp())[..., None]
        older = 2 * torch.einsum("dnt,bdn->btd", reading, state).real
        newer = torch.einsum("dnt,btd->bdn", powers, x.to(powers)) * B
        return y + older.to(y.dtype), torch.exp(wrapped(rate * steps)) * state + newer

    def _check(self, x: Tensor, axes: tuple[str, ...]) -> None:
        checks.tensor("x", x, shape=(*axes, self.hidden_size), floating=True)
        if x.dtype != self.D.dtype:
            raise TypeError(
                f"x must have the dtype of the layer, {self.D.dtype}, got {x.dtype}"
            )

    def _state(self, x: Tensor, state: Tensor | None) -> Tensor:
        shape = (len(x), self.hidden_size, self.state_size // 2)
        dtype = torch.promote_types(wide(self.D).dtype, torch.complex64)
        if state is None:
            return torch.zeros(shape, dtype=dtype, device=x.device)
        checks.tensor("state", state, shape=shape)
        if state.dtype != dtype:
            raise TypeError(f"state must be {dtype}, got {state.dtype}")
        return state


# ------------------------------------------------------------------------------------ the network
class S4Block(nn.Module):
    r"""$x + \mathrm{GLU}(W\,\mathrm{GELU}(\mathrm{S4D}(\mathrm{norm}(x))))$, as it is stacked.

    S4D is linear and keeps features apart; the nonlinearity and the map W mix them (equation
    `s4-block`).

    Args:
        hidden_size: features d, ≥ 1.
        state_size: of `S4D`.
        dropout: rate before the residual, 0 … 1.
        device: of the parameters.
        dtype: of the parameters.
        **ssm: further arguments of `S4D`.

    Example:
        >>> S4Block(8, 16)(torch.zeros(2, 10, 8)).shape
        torch.Size([2, 10, 8])

    Source: Gu et al. 2022.
    """

    def __init__(
        self,
        hidden_size: int,
        state_size: int = 64,
        *,
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **ssm: Any,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        d = checks.count("hidden_size", hidden_size)
        checks.number("dropout", dropout, least=0, most=1)
        self.norm = nn.LayerNorm(d, **like)
        self.ssm = S4D(d, state_size, **ssm, **like)
        self.mix = nn.Linear(d, 2 * d, **like)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "b t d"]) -> Float[Tensor, "b t d"]:
        """Return the outputs, all of time at once."""
        return x + self._mixed(self.ssm(self.norm(x)))  # eq. s4-block

    def step(
        self, x: Float[Tensor, "b d"], state: Tensor | None = None
    ) -> tuple[Float[Tensor, "b d"], Tensor]:
        """Return the output for one more input, and the state after it."""
        y, state = self.ssm.step(self.norm(x), state)
        return x + self._mixed(y), state

    def _mixed(self, y: Tensor) -> Tensor:
        return self.dropout(F.glu(self.mix(F.gelu(y)), -1))


class S4Network(nn.Module):
    """Blocks between a linear map in and one out: an output at every step.

    Args:
        input_size: features of an input, ≥ 1.
        hidden_size: features d of the blocks, ≥ 1.
        output_size: features of an output, ≥ 1.
        num_layers: blocks, ≥ 1.
        state_size: of `S4D`.
        **block: further arguments of `S4Block`.

    Example:
        >>> S4Network(1, 8, 10, num_layers=2, state_size=16)(torch.zeros(2, 50, 1)).shape
        torch.Size([2, 50, 10])

    Source: Gu et al. 2021, whose classifiers average the last features over time; as the map out
    is linear, that is the average of these outputs.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        num_layers: int = 2,
        state_size: int = 64,
        device: Device = None,
        dtype: torch.dtype | None = None,
        **block: Any,
    ):
        super().__init__()
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        sizes = {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "output_size": output_size,
        }
        for name, size in (sizes | {"num_layers": num_layers}).items():
            checks.count(name, size)
        self.input_size, self.hidden_size = input_size, hidden_size
        self.encoder = nn.Linear(input_size, hidden_size, **like)
        self.blocks = nn.ModuleList(
            S4Block(hidden_size, state_size, **block, **like) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(hidden_size, **like)
        self.decoder = nn.Linear(hidden_size, output_size, **like)

    def forward(self, x: Float[Tensor, "b t i"]) -> Float[Tensor, "b t o"]:
        """Return the outputs, all of time at once."""
        checks.tensor("x", x, shape=("b", "t", self.input_size), floating=True)
        x = self.encoder(x)
        for block in self.blocks:
            x = block(x)
        return self.decoder(self.norm(x))

    def step(
        self, x: Float[Tensor, "b i"], states: list[Tensor] | None = None
    ) -> tuple[Float[Tensor, "b o"], list[Tensor]]:
        """Return the output for one more input, and the states after it, one for each block."""
        checks.tensor("x", x, shape=("b", self.input_size), floating=True)
        given = [None] * len(self.blocks) if states is None else list(states)
        if len(given) != len(self.blocks):
            raise ValueError(
                f"states must hold {len(self.blocks)} tensors, got {len(given)}"
            )
        x, after = self.encoder(x), []
        for block, state in zip(self.blocks, given, strict=True):
            assert isinstance(block, S4Block)
            x, state = block.step(x, state)
            after.append(state)
        return self.decoder(self.norm(x)), after


def parameter_groups(
    model: nn.Module, lr: float, *, ssm_lr: float = 1e-3, weight_decay: float = 0.01
) -> list[dict[str, Any]]:
    """Return groups for an optimizer: A and Δ of every S4D get a small rate and no weight decay.

    Args:
        model: anything that holds S4D layers.
        lr: rate of all else, > 0.
        ssm_lr: rate of A and Δ, > 0; they never get more than `lr`.
        weight_decay: of all else, ≥ 0.

    Example:
        >>> [len(group["params"]) for group in parameter_groups(S4Block(4, 8), 0.01)]
        [6, 3]

    Source: the optimizer settings that Gu et al. publish with their code.
    """
    lr, ssm_lr = (
        checks.number("lr", lr, above=0),
        checks.number("ssm_lr", ssm_lr, above=0),
    )
    weight_decay = checks.number("weight_decay", weight_decay, least=0)
    careful = [
        p
        for module in model.modules()
        if isinstance(module, S4D)
        for p in (module.log_delta, module.log_decay, module.frequency)
    ]
    known = {id(p) for p in careful}
    rest = [p for p in model.parameters() if id(p) not in known]
    return [
        {"params": rest, "lr": lr, "weight_decay": weight_decay},
        {"params": careful, "lr": min(lr, ssm_lr), "weight_decay": 0.0},
    ]
