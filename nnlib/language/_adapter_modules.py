"""What is put into a frozen model, or beside a layer of it, besides LoRA.

Part of `nnlib.language.adapters`, with its axes.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.activations import ACTIVATIONS
from nnlib.language._beside import Beside, check_width, matrix


class Adapter(nn.Module):
    r"""A narrow network with a way around it: $x + \sigma(x D^\top) U^\top$, with biases.

    Equation `adapters-bottleneck`. U begins with zeros, so a new one changes nothing.

    Args:
        embed_dim: width e, ≥ 1.
        bottleneck: width m of the narrow layer, 1 … e.
        activation: a name in `nnlib.blocks.activations.ACTIVATIONS`.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> Adapter(embed_dim=16, bottleneck=4)(torch.zeros(2, 5, 16)).shape
        torch.Size([2, 5, 16])

    Source: Houlsby et al. 2019, whose d is our e.
    """

    def __init__(
        self,
        embed_dim: int,
        bottleneck: int,
        activation: str = "gelu",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        e = checks.count("embed_dim", embed_dim)
        m = checks.count("bottleneck", bottleneck)
        if m > e:
            raise ValueError(f"bottleneck={m} must be at most embed_dim={e}")
        self.embed_dim = e
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.down = nn.Linear(e, m, device=device, dtype=dtype)
        self.up = nn.Linear(m, e, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first matrix anew, and let the second be zeros."""
        self.down.reset_parameters()
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Float[Tensor, "*b e"]) -> Float[Tensor, "*b e"]:
        """Return the vectors, with what the narrow network makes of them added."""
        check_width(x, self.embed_dim)
        return x + self.up(
            ACTIVATIONS[self.activation](self.down(x))
        )  # eq. adapters-bottleneck


class Adapted(Beside):
    """A frozen layer whose output passes an `Adapter`.

    Args:
        base: the layer; it is frozen, and not copied.
        adapter: what its output passes.

    Example:
        >>> Adapted(nn.Linear(3, 8), Adapter(8, 2))(torch.zeros(2, 3)).shape
        torch.Size([2, 8])

    Source: Houlsby et al. 2019.
    """

    def __init__(self, base: nn.Module, adapter: Adapter):
        super().__init__()
        if not isinstance(adapter, Adapter):
            raise TypeError(f"adapter must be an Adapter, got {type(adapter).__name__}")
        width = self.keep(base)[1]
        if width != adapter.embed_dim:
            raise ValueError(
                f"adapter must be {width} wide like base, got {adapter.embed_dim}"
            )
        self.adapter = adapter

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return what the layer makes of these vectors, passed on through the adapter."""
        y = self.base(x)
        return self.adapter(y) if self.enabled else y


class IA3(Beside):
    r"""A frozen linear layer whose outputs, or inputs, are stretched by a trained vector.

    $y = \ell \odot (x W^\top + b)$, or $y = (\ell \odot x) W^\top + b$ (equation `adapters-ia3`).
    The vector begins with ones.

    Args:
        base: a linear layer; it is frozen, and not copied.
        side: "output", for keys and values, or "input", for a network's second matrix.
        skip: how many numbers at the front are left alone, such as the queries of a layer that
            makes queries, keys and values; 0 … width − 1.

    Example:
        >>> layer = IA3(nn.Linear(8, 24), skip=8)  # keys and values, not queries
        >>> layer(torch.zeros(2, 8)).shape, layer.stretch.shape
        (torch.Size([2, 24]), torch.Size([16]))

    Source: Liu et al. 2022, "infused adapter by inhibiting and amplifying inner activations".
    """

    def __init__(self, base: nn.Module, side: str = "output", skip: int = 0):
        super().__init__()
        self.side = checks.one_of("side", side, ("output", "input"))
        sizes = self.keep(base)
        width = sizes[side == "output"]
        self.skip = checks.count("skip", skip, least=0)
        if skip >= width:
            raise ValueError(
                f"skip={skip} must leave some of the {width} numbers of the {side}"
            )
        weight = matrix(base)
        like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        self.stretch = nn.Parameter(torch.ones(width - skip, **like))

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return what the layer makes of these vectors, stretched before or after it."""
        if not self.enabled:
            return self.base(x)
        if self.side == "input":
            return self.base(self._stretched(x))  # eq. adapters-ia3
        return self._stretched(self.base(x))  # eq. adapters-ia3

    def _stretched(self, x: Tensor) -> Tensor:
        return x * self._whole()

    def _whole(self) -> Tensor:
        """Return the vector with ones for what is left alone."""
        return torch.cat([self.stretch.new_ones(self.skip), self.stretch])

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return one plain layer that computes the same."""
        made = self.plain()
        stretch, bias = self._whole(), getattr(made, "bias", None)
        if self.side == "input":
            matrix(made).mul_(stretch)
        else:
            matrix(made).mul_(stretch[:, None])
            if bias is not None:
                bias.mul_(stretch)
        return made

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"side={self.side!r}, skip={self.skip}"
