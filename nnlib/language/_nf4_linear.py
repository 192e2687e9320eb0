"""A frozen linear layer in four bits, which gradients pass through.

Part of `nnlib.language.adapters`, with its axes.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.kernels.quantization import NF4, nf4_dequantize, nf4_quantize
from nnlib.language._beside import check_width, features, matrix

TENSORS = ("codes", "absmax", "absmax_scale", "absmax_offset")


class _Product(torch.autograd.Function):
    """A product with a weight in four bits, unpacked on the way out and again on the way back.

    Plain autograd would keep the unpacked weight in between, in all layers at once, and the memory
    that four bits save would be spent.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, packed: NF4) -> Tensor:
        ctx.packed = packed
        return F.linear(x, nf4_dequantize(packed).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad @ nf4_dequantize(ctx.packed).to(
            grad.dtype
        ), None  # eq. adapters-qlora-gradient


class NF4Linear(nn.Module):
    r"""A frozen linear layer whose weight is kept in NF4: $y = x \tilde W^\top + b$.

    Equation `adapters-qlora`, without its second term. The weight is no parameter; x gets the
    gradient that the unpacked weight $\tilde W$ gives it, and the weight none.

    Args:
        in_features: width of what comes in, ≥ 1.
        out_features: width of what goes out, ≥ 1.
        bias: whether there is one; it is kept as it is.
        block_size: weights that share a scale: 16, 32, … 4096.
        double: whether the scales are quantised in turn.
        device: of the weights.
        dtype: of the bias, and of what the layer is unpacked to.

    Example:
        >>> layer = NF4Linear(in_features=64, out_features=32)
        >>> layer(torch.zeros(3, 64)).shape, layer.packed.bytes  # of 8192
        (torch.Size([3, 32]), 1064)

    Source: Dettmers et al. 2023 (QLoRA).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        block_size: int = 64,
        double: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        i, o = (
            checks.count("in_features", in_features),
            checks.count("out_features", out_features),
        )
        base = nn.Linear(i, o, checks.flag("bias", bias), device=device, dtype=dtype)
        self._keep(base, block_size, double)

    @classmethod
    def of(
        cls, base: nn.Module, block_size: int = 64, double: bool = True
    ) -> "NF4Linear":
        """Return a layer in four bits; its bias is that of the other, frozen, and not copied.

        Args:
            base: `nn.Linear`, or the `Conv1D` of `transformers`.
            block_size: as for the class, and so the rest.
            double: whether the scales are quantised in turn.
        """
        if features(base) is None or not isinstance(
            getattr(base, "weight", None), nn.Parameter
        ):
            raise TypeError(f"base must be a linear layer, got {type(base).__name__}")
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._keep(base, block_size, double)
        return made

    def _keep(self, base: nn.Module, block_size: int, double: bool) -> None:
        sizes = features(base)
        assert sizes is not None
        self.in_features, self.out_features = sizes
        packed = nf4_quantize(matrix(base), block_size, double)
        for (
            name,
            part,
        ) in packed._asdict().items():  # so that they move and are saved with it
            if part is None or isinstance(part, Tensor):
                self.register_buffer(name, part)
        self.block_size, self.weight_dtype = packed.block_size, packed.dtype
        self.bias: nn.Parameter | None = getattr(base, "bias", None)
        if self.bias is not None:
            self.bias.requires_grad_(False)

    @property
    def packed(self) -> NF4:
        """The weight, in four bits."""
        tensors: dict[str, Any] = {n: self._buffers.get(n) for n in TENSORS}
        return NF4(
            **tensors, shape=(self.out_features, self.in_features), dtype=self.weight_dtype,
            block_size=self.block_size,
        )  # fmt: skip

    @property
    def weight(self) -> Float[Tensor, "o i"]:
        """The weight that the codes stand for, unpacked anew each time."""
        return nf4_dequantize(self.packed)

    def forward(self, x: Float[Tensor, "*b i"]) -> Float[Tensor, "*b o"]:
        """Return what the unpacked layer makes of these vectors."""
        check_width(x, self.in_features)
        y = _Product.apply(x, self.packed)
        return y if self.bias is None else y + self.bias

    def unpacked(self) -> nn.Linear:
        """Return an ordinary frozen layer with the weight that the codes stand for."""
        weight = self.weight
        made = nn.Linear(self.in_features, self.out_features, self.bias is not None,
                         device=weight.device, dtype=weight.dtype)  # fmt: skip
        with torch.no_grad():
            made.weight.copy_(weight)
            if self.bias is not None:
                made.bias.copy_(self.bias)
        return made.requires_grad_(False)

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        return f"{self.in_features}, {self.out_features}, block_size={self.block_size}"
