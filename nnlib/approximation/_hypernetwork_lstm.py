r"""HyperLSTM: a small LSTM scales the rows of a larger one's weights, anew at every step.

Paper: Ha, Dai and Le 2016
Axes: b batch, t time, d input features, h hidden features, s those of the small LSTM, m of a code;
gates in torch's order, i f g o.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks

FORGET = 1
"""The place of the forget gate among the four."""
SMALL = 0.1
"""The factor of every row at the start, before the layer norm takes it out."""


class HyperState(NamedTuple):
    """What a HyperLSTM carries from step to step.

    Attributes:
        h: the main LSTM's hidden state, b h, which is also its output.
        c: its cell, b h.
        hyper_h: the small LSTM's hidden state, b s, from which the factors are made.
        hyper_c: its cell, b s.
    """

    h: Tensor
    c: Tensor
    hyper_h: Tensor
    hyper_c: Tensor


class LayerNormLSTM(nn.Module):
    r"""An LSTM whose four gates, and whose cell where it is shown, are layer-normed.

    $(i, f, g, o) = \mathrm{LN}(\mathbf{W}\mathbf{x}_t + \mathbf{R}\mathbf{h}_{t-1} + \mathbf{b})$,
    each of the four by itself; $\mathbf{c}_t = \sigma(f) \odot \mathbf{c}_{t-1} + \sigma(i) \odot
    \tanh g$; $\mathbf{h}_t = \sigma(o) \odot \tanh \mathrm{LN}(\mathbf{c}_t)$ (equation
    `hypernetwork-small`).

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: features h of the state, ≥ 2: a layer norm of one number is always zero.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> out, (h, c) = LayerNormLSTM(3, 5)(torch.zeros(2, 7, 3))
        >>> out.shape, c.shape
        (torch.Size([2, 7, 5]), torch.Size([2, 5]))

    Source: Ba, Kiros and Hinton 2016, in the form of Ha, Dai and Le 2016.
    """

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias: nn.Parameter
    norm_weight: nn.Parameter
    norm_bias: nn.Parameter
    cell_norm_weight: nn.Parameter
    cell_norm_bias: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = d = checks.count("input_size", input_size)
        self.hidden_size = h = checks.count("hidden_size", hidden_size, least=2)
        shapes = {"weight_ih": (4 * h, d), "weight_hh": (4 * h, h), "bias": (4 * h,)}
        _register(self, shapes | norm_shapes(h), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from −1/√h … 1/√h; gains are 1, and the forget gates lean open by 1."""
        bound = 1 / math.sqrt(self.hidden_size)
        nn.init.uniform_(self.weight_ih, -bound, bound)
        nn.init.uniform_(self.weight_hh, -bound, bound)
        nn.init.zeros_(self.bias)
        reset_norms(self)

    def forward(
        self,
        x: Float[Tensor, "b t d"],
        state: tuple[Float[Tensor, "b h"], Float[Tensor, "b h"]] | None = None,
    ) -> tuple[
        Float[Tensor, "b t h"], tuple[Float[Tensor, "b h"], Float[Tensor, "b h"]]
    ]:
        """Return the outputs at every step, and the last h and c.

        Args:
            x: sequences of one step or more.
            state: h and c before the first step; None is zero.
        """
        checks.tensor(
            "x", x, shape=("b", "t", self.input_size), floating=True, empty=False
        )
        h, c = started(state, [self.hidden_size] * 2, x)
        outputs = []
        for now in F.linear(x, self.weight_ih, self.bias).unbind(1):
            h, c = gated(self, now + h @ self.weight_hh.T, c)
            outputs.append(h)
        return torch.stack(outputs, 1), (h, c)


class HyperLSTM(nn.Module):
    r"""An LSTM whose weights are changed at every step by a second, smaller one.

    The small LSTM reads the input and the main state (`hypernetwork-small`). Its state gives, for
    every gate, three codes (`hypernetwork-codes`), and these give one factor for each *row* of
    the main weights and a bias (`hypernetwork-factors`), so that the gates are
    $\mathrm{LN}(\mathbf{d}_h \odot \mathbf{R}\mathbf{h}_{t-1} + \mathbf{d}_x \odot
    \mathbf{W}\mathbf{x}_t + \mathbf{b}_t)$ (`hypernetwork-gates`). To generate whole matrices
    would take $4 h (h + d) m$ numbers; factors of rows take $8 h m$.

    Args:
        input_size: features d of an input, ≥ 1.
        hidden_size: features h of the main LSTM, ≥ 2.
        hyper_hidden_size: features s of the small one, ≥ 2.
        embed_dim: numbers m of a code, ≥ 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> out, state = HyperLSTM(3, 8, hyper_hidden_size=4, embed_dim=2)(torch.zeros(2, 7, 3))
        >>> out.shape, state.hyper_h.shape
        (torch.Size([2, 7, 8]), torch.Size([2, 4]))

    Source: Ha, Dai and Le 2016. Their formula makes the codes from the small state before the
    step; here, as in common code, the small LSTM goes first and its new state is used.
    """

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias: nn.Parameter
    norm_weight: nn.Parameter
    norm_bias: nn.Parameter
    cell_norm_weight: nn.Parameter
    cell_norm_bias: nn.Parameter
    weight_code: nn.Parameter
    bias_code: nn.Parameter
    weight_factor: nn.Parameter

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        hyper_hidden_size: int = 16,
        embed_dim: int = 4,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.input_size = d = checks.count("input_size", input_size)
        self.hidden_size = h = checks.count("hidden_size", hidden_size, least=2)
        s = checks.count("hyper_hidden_size", hyper_hidden_size, least=2)
        self.hyper_hidden_size, self.embed_dim = s, checks.count("embed_dim", embed_dim)
        m = self.embed_dim
        self.hyper = LayerNormLSTM(d + h, s, device=device, dtype=dtype)
        shapes = {
            "weight_ih": (4 * h, d), "weight_hh": (4 * h, h), "bias": (4 * h,),
            "weight_code": (3, 4, m, s), "bias_code": (2, 4, m, 1), "weight_factor": (3, 4, h, m),
        }  # fmt: skip
        _register(self, shapes | norm_shapes(h), device, dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as a plain layer-normed LSTM: codes of 1, factors of 0.1, no generated bias.

        The weights of the codes of factors begin at 0, those of the bias' codes small, so that
        the small LSTM has no say at first and learns to have one.
        """
        bound = 1 / math.sqrt(self.hidden_size)
        nn.init.uniform_(self.weight_ih, -bound, bound)
        nn.init.uniform_(self.weight_hh, -bound, bound)
        nn.init.zeros_(self.bias)
        nn.init.ones_(self.bias_code)
        with torch.no_grad():
            self.weight_code[:2].zero_()
            self.weight_code[2].normal_(std=0.01)
            self.weight_factor[:2] = SMALL / self.embed_dim
            self.weight_factor[2].zero_()
        self.hyper.reset_parameters()
        reset_norms(self)

    def factors(
        self, hyper_h: Float[Tensor, "b s"]
    ) -> tuple[Float[Tensor, "b h4"], Float[Tensor, "b h4"], Float[Tensor, "b h4"]]:
        """Return $d_h$, $d_x$ and the generated bias, all gates in a row, from the small state.

        Args:
            hyper_h: state of the small LSTM.
        """
        checks.tensor(
            "hyper_h", hyper_h, shape=("b", self.hyper_hidden_size), floating=True
        )
        codes = torch.einsum("kgms,bs->bkgm", self.weight_code, hyper_h)
        bias = F.pad(self.bias_code[..., 0], (0, 0, 0, 0, 0, 1))
        codes = codes + bias  # eq. hypernetwork-codes
        made = torch.einsum(
            "kghm,bkgm->bkgh", self.weight_factor, codes
        )  # hypernetwork-factors
        d_h, d_x, bias = made.flatten(2).unbind(1)
        return d_h, d_x, bias + self.bias

    def step(
        self, x: Float[Tensor, "b d"], state: HyperState | None = None
    ) -> HyperState:
        """Read one input and return the state after it: the readable form.

        Args:
            x: one input a sequence.
            state: before it; None is zero.
        """
        checks.tensor("x", x, shape=("b", self.input_size), floating=True, empty=False)
        h, c, *small = self._begun(state, x)
        _, (hyper_h, hyper_c) = self.hyper(torch.cat([x, h], 1)[:, None], tuple(small))
        d_h, d_x, bias = self.factors(hyper_h)
        mixed = d_h * (h @ self.weight_hh.T) + d_x * (x @ self.weight_ih.T) + bias
        h, c = gated(self, mixed, c)  # eq. hypernetwork-gates
        return HyperState(h, c, hyper_h, hyper_c)

    def forward(
        self, x: Float[Tensor, "b t d"], state: HyperState | None = None
    ) -> tuple[Float[Tensor, "b t h"], HyperState]:
        """Return the outputs at every step and the last state: `step`, with less to do in each.

        All that depends on inputs alone is computed before the first step, and the two maps from
        the small state to the factors are multiplied into one.

        Args:
            x: sequences of one step or more.
            state: before the first step; None is zero.
        """
        checks.tensor(
            "x", x, shape=("b", "t", self.input_size), floating=True, empty=False
        )
        h, c, hyper_h, hyper_c = self._begun(state, x)
        small, d = self.hyper, self.input_size
        read = F.linear(x, small.weight_ih[:, :d], small.bias).unbind(1)
        carried = torch.cat([small.weight_ih[:, d:], small.weight_hh], 1).T
        projected = F.linear(x, self.weight_ih).unbind(1)
        made = (self.weight_factor @ self.weight_code).flatten(0, 2).T
        offset = (self.weight_factor[:2] @ self.bias_code).flatten()
        offset = torch.cat([offset, self.bias])
        outputs = []
        for seen, mine in zip(read, projected, strict=True):
            mixed = torch.addmm(seen, torch.cat([h, hyper_h], 1), carried)
            hyper_h, hyper_c = gated(small, mixed, hyper_c)
            d_h, d_x, bias = torch.addmm(offset, hyper_h, made).chunk(3, 1)
            mixed = torch.addcmul(
                torch.addcmul(bias, d_x, mine), d_h, h @ self.weight_hh.T
            )
            h, c = gated(self, mixed, c)
            outputs.append(h)
        return torch.stack(outputs, 1), HyperState(h, c, hyper_h, hyper_c)

    def _begun(self, state: HyperState | None, x: Tensor) -> HyperState:
        widths = [self.hidden_size] * 2 + [self.hyper_hidden_size] * 2
        return HyperState(*started(state, widths, x))


def gated(
    module: "LayerNormLSTM | HyperLSTM", mixed: Tensor, c: Tensor
) -> tuple[Tensor, Tensor]:
    """Return h and c after a step, from what the four gates are made of."""
    size = (c.shape[-1],)
    normed = F.layer_norm(mixed.unflatten(-1, (4, -1)), size)
    i, f, g, o = torch.addcmul(module.norm_bias, normed, module.norm_weight).unbind(-2)
    c = torch.addcmul(f.sigmoid() * c, i.sigmoid(), g.tanh())
    shown = F.layer_norm(c, size, module.cell_norm_weight, module.cell_norm_bias)
    return o.sigmoid() * shown.tanh(), c  # eq. hypernetwork-small


def norm_shapes(h: int) -> dict[str, tuple[int, ...]]:
    """Return the parameters of five layer norms."""
    gates, cell = {"norm_weight": (4, h), "norm_bias": (4, h)}, (h,)
    return gates | {"cell_norm_weight": cell, "cell_norm_bias": cell}


@torch.no_grad()
def reset_norms(module: nn.Module) -> None:
    """Set gains to 1 and biases to 0, but to 1 at the forget gates."""
    for name in ("norm_weight", "cell_norm_weight"):
        nn.init.ones_(module.get_parameter(name))
    nn.init.zeros_(module.get_parameter("cell_norm_bias"))
    bias = module.get_parameter("norm_bias")
    bias.zero_()
    bias[FORGET] = 1


def started(state: object, widths: list[int], x: Tensor) -> tuple[Tensor, ...]:
    """Return the parts of a state, or zeros; refuse what does not fit."""
    if state is None:
        return tuple(x.new_zeros(len(x), width) for width in widths)
    if not isinstance(state, tuple | list):
        raise TypeError(f"state must be a tuple of tensors, got {type(state).__name__}")
    if len(state) != len(widths):
        raise ValueError(f"state must hold {len(widths)} tensors, got {len(state)}")
    for at, (part, width) in enumerate(zip(state, widths, strict=True)):
        checks.tensor(f"state[{at}]", part, shape=(len(x), width), floating=True)
    return tuple(state)


def _register(
    module: nn.Module,
    shapes: dict[str, tuple[int, ...]],
    device: Device,
    dtype: torch.dtype | None,
) -> None:
    for name, shape in shapes.items():
        value = torch.empty(shape, device=device, dtype=dtype)
        module.register_parameter(name, nn.Parameter(value))
