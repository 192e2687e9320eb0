r"""Adapters: a few numbers trained beside a frozen model, in place of all of its own.

`lora_` puts LoRA beside the layers that are named, `adapters_` a narrow network behind them, `ia3_`
a stretching vector before or behind them, `bitfit_` frees their biases; `PrefixTuning` and
`PromptTuning` train a past that the model reads on from. `merge` makes plain layers of what can be
merged. `nf4_` stores frozen layers in four bits.

Chapter: chapters/language/adapters.md     Papers: Houlsby et al. 2019 (bottleneck); Hu et al. 2021
(LoRA); Li and Liang 2021 (prefix); Lester et al. 2021 (prompt); Liu et al. 2022 (IA³); Ben Zaken et
al. 2021 (BitFit); Dettmers et al. 2023 (QLoRA, NF4); Liu et al. 2024 (DoRA)
LoRA and DoRA stand here, other layers in `_adapter_modules`, pasts in `_prefix`, layers of four
bits in `_nf4_linear`; what is done with them in `_adapter_use`, what is counted in
`_adapter_counts`.
Axes: b any or batch, t positions, s positions with those so far, i width in, o width out, e model
width, r rank, m narrow width or length of a past, n adapters, l blocks, g heads of keys and values,
d head width, v vocabulary.
"""

from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels.quantization import nf4_dequantize, nf4_quantize
from nnlib.language._adapter_counts import (
    Memory,
    finetuning_memory,
    lora_parameters,
    nf4_bits,
)
from nnlib.language._adapter_modules import IA3, Adapted, Adapter
from nnlib.language._adapter_places import Targets, replaced
from nnlib.language._adapter_serving import with_adapters
from nnlib.language._adapter_use import (
    adapter_state,
    adapters_,
    bitfit_,
    ia3_,
    load_adapter_,
    merge,
    nf4_,
    switched_off,
)
from nnlib.language._beside import Beside, check_rank, check_width, matrix
from nnlib.language._nf4_linear import NF4Linear
from nnlib.language._prefix import LearnedPast, PrefixTuning, PromptTuning

__all__ = [
    "IA3",
    "Adapted",
    "Adapter",
    "DoRALinear",
    "LearnedPast",
    "LoRALinear",
    "Memory",
    "NF4Linear",
    "PrefixTuning",
    "PromptTuning",
    "adapter_state",
    "adapters_",
    "bitfit_",
    "finetuning_memory",
    "ia3_",
    "load_adapter_",
    "lora_",
    "lora_parameters",
    "merge",
    "nf4_",
    "nf4_bits",
    "nf4_dequantize",
    "nf4_quantize",
    "switched_off",
    "with_adapters",
]

Low = TypeVar("Low", bound="LoRALinear")


class LoRALinear(Beside):
    r"""A frozen linear layer plus a trained product: $y = x W_0^\top + s\,x A^\top B^\top$.

    Equation `adapters-lora`, with $s = \alpha / r$, or $\alpha / \sqrt r$ (`adapters-rslora`). B
    begins with zeros, so a new one computes what the layer computes. Only A and B are trained.

    Args:
        in_features: width of what comes in, ≥ 1.
        out_features: width of what goes out, ≥ 1.
        rank: r, 1 … the smaller of both widths.
        alpha: α, > 0.
        bias: whether the layer has a bias, frozen like its weight.
        dropout: probability of dropping an input of A in training, 0 … 1.
        rslora: whether the product is divided by √r in place of r.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> layer = LoRALinear(in_features=8, out_features=6, rank=2, alpha=4)
        >>> layer(torch.zeros(3, 8)).shape, [name for name, p in layer.named_parameters()
        ...                                  if p.requires_grad]
        (torch.Size([3, 6]), ['lora_A.weight', 'lora_B.weight'])

    Source: Hu et al. 2021, whose d and k are our widths out and in; rsLoRA: Kalajdzievski 2023.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        rank: int,
        alpha: float,
        bias: bool = True,
        dropout: float = 0.0,
        rslora: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        i, o = (
            checks.count("in_features", in_features),
            checks.count("out_features", out_features),
        )
        check_rank(rank, i, o)
        base = nn.Linear(i, o, checks.flag("bias", bias), device=device, dtype=dtype)
        self._attach(base, rank, alpha, dropout, rslora)

    @classmethod
    def of(
        cls: type[Low],
        base: nn.Module,
        rank: int,
        alpha: float,
        dropout: float = 0.0,
        rslora: bool = False,
    ) -> Low:
        """Return the same beside a layer that is there; it is frozen, and not copied.

        Args:
            base: `nn.Linear`, `NF4Linear`, or the `Conv1D` of `transformers`.
            rank: as for the class, and so the rest.
            alpha: α.
            dropout: of the inputs of A.
            rslora: whether s is α/√r.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._attach(base, rank, alpha, dropout, rslora)
        return made

    def _attach(
        self, base: nn.Module, rank: int, alpha: float, dropout: float, rslora: bool
    ) -> None:
        i, o = self.keep(base)
        self.rank, self.alpha = (
            check_rank(rank, i, o),
            checks.number("alpha", alpha, above=0),
        )
        self.scale = self.alpha / (
            self.rank**0.5 if checks.flag("rslora", rslora) else self.rank
        )
        weight = matrix(base)
        like: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        self.dropout = nn.Dropout(checks.number("dropout", dropout, least=0, most=1))
        self.lora_A = nn.Linear(
            i, self.rank, bias=False, **like
        )  # drawn as any layer's weight
        self.lora_B = nn.Linear(self.rank, o, bias=False, **like)
        nn.init.zeros_(self.lora_B.weight)
        self._begin()

    def _begin(self) -> None:
        """Make what a relative of LoRA has besides A and B."""

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return what the layer and the product beside it make of these vectors."""
        check_width(x, self.in_features)
        y = self.base(x)
        if not self.enabled:
            return y
        return y + self.scale * self.lora_B(
            self.lora_A(self.dropout(x))
        )  # eq. adapters-lora

    def delta(self) -> Float[Tensor, "o i"]:
        r"""Return what is added to the weight: $\Delta W = s\,B A$."""
        return self.scale * self.lora_B.weight @ self.lora_A.weight

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return one plain layer that computes the same: equation `adapters-merge`.

        In half precision the sum is rounded, so that the two differ by a rounding. A base in four
        bits becomes a layer in full precision, since a sum is on no grid.
        """
        made = self.plain()
        matrix(made).add_(self.delta())  # eq. adapters-merge
        return made

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"rank={self.rank}, alpha={self.alpha:g}, scale={self.scale:g}"


class DoRALinear(LoRALinear):
    r"""A weight whose rows have a trained length m, and a direction that LoRA changes.

    $W = m \odot (W_0 + s\,BA) / \lVert W_0 + s\,BA \rVert$, row by row (equation `adapters-dora`).
    The norm is a constant for the gradient, as the paper proposes. m begins with the norms of
    $W_0$, so a new one computes what the layer computes.

    Arguments as for `LoRALinear`.

    Example:
        >>> layer = DoRALinear(in_features=8, out_features=6, rank=2, alpha=4)
        >>> layer(torch.zeros(3, 8)).shape, layer.lora_magnitude_vector.shape
        (torch.Size([3, 6]), torch.Size([6]))

    Source: Liu et al. 2024, whose columns are our rows: they write the weight transposed.
    """

    def _begin(self) -> None:
        self.lora_magnitude_vector = nn.Parameter(
            matrix(self.base).detach().norm(dim=1)
        )

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return what the weight of new direction and new length makes of these vectors."""
        check_width(x, self.in_features)
        if not self.enabled:
            return self.base(x)
        weight, bias = matrix(self.base), getattr(self.base, "bias", None)
        y = F.linear(x, weight) + self.scale * self.lora_B(self.lora_A(self.dropout(x)))
        y = y * self._lengthened(weight)  # eq. adapters-dora
        return y if bias is None else y + bias

    def _lengthened(self, weight: Tensor) -> Float[Tensor, " o"]:
        """Return by how much each row of the changed weight is lengthened."""
        norm = (weight + self.delta()).detach().norm(dim=1)
        return self.lora_magnitude_vector / norm

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """Return one plain layer that computes the same; as `LoRALinear.merged`."""
        made = self.plain()
        weight = matrix(made)
        factor = self._lengthened(weight)
        weight.add_(self.delta()).mul_(factor[:, None])
        return made


def lora_(
    model: nn.Module,
    targets: Targets,
    rank: int,
    alpha: float,
    *,
    dropout: float = 0.0,
    rslora: bool = False,
    layer: type[LoRALinear] = LoRALinear,
) -> nn.Module:
    r"""Freeze a model and put LoRA beside its layers of these names, in place; return the model.

    Args:
        model: any model with linear layers; none of it stays trainable but the new matrices.
        targets: names, or last parts of names ("out_proj", "attention.out_proj"), or "all": every
            linear layer but the one that gives logits.
        rank: r, 1 … the smallest width of a layer that is meant.
        alpha: α, > 0.
        dropout: probability of dropping an input of A in training, 0 … 1.
        rslora: whether the product is divided by √r in place of r.
        layer: `LoRALinear`, or `DoRALinear`.

    Raises:
        ValueError: a name that no linear layer has, or one that has an adapter already.

    Example:
        >>> from nnlib.language.llm import LLM
        >>> model = LLM(vocab_size=11, embed_dim=8, num_heads=2, num_layers=2, max_length=16)
        >>> model = lora_(model, ["in_proj", "out_proj"], rank=2, alpha=4)
        >>> sum(p.numel() for p in model.parameters() if p.requires_grad)
        544

    Source: Hu et al. 2021.
    """
    if not (isinstance(layer, type) and issubclass(layer, LoRALinear)):
        raise TypeError(f"layer={layer!r} must be LoRALinear or a kind of it")
    made = partial(layer.of, rank=rank, alpha=alpha, dropout=dropout, rslora=rslora)
    return replaced(model, targets, made)
