r"""A trained model made smaller: fewer bits, fewer weights, or a student of a large teacher.

Chapter: chapters/language/compression.md     Papers: LeCun, Denker and Solla 1989; Hassibi and
Stork 1992 (optimal brain surgeon); Frantar et al. 2022 (GPTQ); Han et al. 2015 (pruning); Hinton,
Vinyals and Dean 2015 (distillation)
Grids stand in `nnlib.kernels.quantization`; ranges and scales in `_calibration`, GPTQ and SparseGPT
in `_second_order`, masks in `_pruning`, two narrow matrices in `_low_rank`, students in
`_distillation`, and what treats a whole model here.
Axes: n examples, d inputs and o outputs of a layer, r rank, c classes or tokens.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.modes import evaluating
from nnlib.kernels.quantization import Quantized, dequantize, quantize
from nnlib.language._calibration import awq_scales, clip_limit, smoothing_scales
from nnlib.language._distillation import distillation_loss
from nnlib.language._low_rank import low_rank
from nnlib.language._pruning import hold_, keep_mask, prune_, wanda_scores
from nnlib.language._second_order import (
    gptq_quantize,
    input_hessian,
    layer_error,
    sparse_update,
)

__all__ = [
    "Quantized",
    "awq_scales",
    "clip_limit",
    "dequantize",
    "distillation_loss",
    "fake_quantize",
    "gptq_quantize",
    "hold_",
    "input_hessian",
    "keep_mask",
    "layer_error",
    "low_rank",
    "prune_",
    "quantize",
    "quantize_linears_",
    "smoothing_scales",
    "sparse_update",
    "wanda_scores",
]


def fake_quantize(
    x: Float[Tensor, "*n d"],
    scale: Float[Tensor, "*s"],
    bits: int = 8,
    zero_point: Float[Tensor, "*s"] | None = None,
) -> Float[Tensor, "*n d"]:
    r"""Round to a grid and go on in floating point; the gradient passes as if nothing happened.

    Equations `compression-fake` and `compression-straight-through`: inside the grid the gradient of
    x is 1, beyond its ends 0. The scale gets one, too, so that it can be learned.

    Args:
        x: weights or activations.
        scale: the step of the grid, > 0, in a shape that broadcasts to x.
        bits: of a number, 2 … 8.
        zero_point: the level that stands for 0, of levels 0 … 2ᵇ − 1; None is the symmetric grid
            of levels ±(2ᵇ⁻¹ − 1).

    Example:
        >>> x = torch.tensor([[0.26, 0.9, -3.0]], requires_grad=True)
        >>> y = fake_quantize(x, torch.tensor([[0.5]]), bits=3)
        >>> y.sum().backward()
        >>> y.tolist(), x.grad.tolist()
        ([[0.5, 1.0, -1.5]], [[1.0, 1.0, 0.0]])

    Source: Bengio, Léonard and Courville 2013; Jacob et al. 2018; a learned scale: Esser et al.
    2019.
    """
    checks.tensor("x", x, floating=True, finite=True)
    checks.tensor("scale", scale, floating=True, finite=True)
    sizes = zip(scale.shape[::-1], x.shape[::-1], strict=False)
    if scale.ndim > x.ndim or any(got not in (1, want) for got, want in sizes):
        raise ValueError(
            f"scale must broadcast to x, {tuple(x.shape)}, got {tuple(scale.shape)}"
        )
    if checks.readable(scale) and bool((scale <= 0).any()):
        raise ValueError(f"scale must be > 0, got {float(scale.min()):g}")
    if not 2 <= checks.count("bits", bits) <= 8:
        raise ValueError(f"bits={bits} must be 2 … 8")
    top = 2 ** (bits - 1) - 1
    low, high, middle = -top, top, torch.zeros((), dtype=x.dtype, device=x.device)
    if zero_point is not None:
        checks.tensor("zero_point", zero_point, shape=tuple(scale.shape))
        low, high, middle = 0, 2**bits - 1, zero_point.to(x.dtype)
    steps = x / scale + middle
    nearest = (
        steps + (steps.round() - steps).detach()
    )  # eq. compression-straight-through
    # Not by clamp alone, whose gradient at the grid's own ends, where rounding puts many numbers,
    # is 1 up to torch 2.13 and 0 since.
    kept = nearest.detach().clamp(low, high)
    level = torch.where(nearest == kept, nearest, kept)
    return (level - middle) * scale  # eq. compression-fake


def quantize_linears_(
    model: nn.Module,
    bits: int = 4,
    x: Any = None,
    *,
    granularity: str = "row",
    group_size: int | None = None,
    symmetric: bool = True,
    damping: float = 0.01,
) -> dict[str, Quantized]:
    r"""Replace the weight of every `nn.Linear` by what is left of it in a few bits, in place.

    The model still computes in floating point, with weights that lie on the grid. Without `x` they
    are rounded; with it, GPTQ goes through the layers in the order in which they are called, and
    each sees what the layers before it, already in few bits, give it.

    Args:
        model: changed in place.
        bits: of a weight, 2 … 8.
        x: a batch that the model is called with, for GPTQ, and that reaches every layer.
        granularity: as for `quantize`.
        group_size: as for `quantize`.
        symmetric: as for `quantize`.
        damping: as for `gptq_quantize`.

    Returns:
        For each layer's name, what would be stored of its weight.

    Example:
        >>> net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
        >>> kept = quantize_linears_(net, bits=4, x=torch.randn(20, 8))
        >>> {name: len(net[int(name)].weight[0].unique()) <= 15 for name in kept}
        {'0': True, '2': True}
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    linears = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    if not linears:
        raise ValueError("model has no nn.Linear to quantize")
    grid: dict[str, Any] = {
        "granularity": granularity, "group_size": group_size, "symmetric": symmetric,
    }  # fmt: skip
    kept: dict[str, Quantized] = {}
    order = list(linears) if x is None else _called(model, linears, x)
    if missed := [name for name in linears if name not in order]:
        raise ValueError(f"x must reach every nn.Linear, and does not reach {missed}")
    for name in order:
        layer = linears[name]
        weight = layer.weight.detach()
        if x is None:
            kept[name] = quantize(weight, bits, **grid)
        else:
            hessian = input_hessian(_read(model, layer, x))
            kept[name] = gptq_quantize(weight, hessian, bits, damping=damping, **grid)
        with torch.no_grad():
            layer.weight.copy_(dequantize(kept[name]))
    return kept


class _Stop(Exception):
    """What ends a pass once a layer's input has been seen."""


@contextmanager
def _watched(
    layers: dict[str, nn.Linear], see: Callable[[str, Tensor], None]
) -> Iterator[None]:
    def watch(name: str) -> Callable[..., None]:
        return lambda layer, args: see(name, args[0].detach())

    handles = [
        layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _called(model: nn.Module, layers: dict[str, nn.Linear], x: Any) -> list[str]:
    """Return the names of the layers in the order of their first call."""
    seen: dict[str, None] = {}
    with _watched(layers, lambda name, _: seen.setdefault(name)), evaluating(model):
        model(x)
    return list(seen)


@torch.no_grad()
def _read(model: nn.Module, layer: nn.Linear, x: Any) -> Tensor:
    """Return what one layer reads when the model is called with x."""
    found: list[Tensor] = []

    def stop(_: str, read: Tensor) -> None:
        found.append(read)
        raise _Stop

    with _watched({"": layer}, stop), evaluating(model), suppress(_Stop):
        model(x)
    return found[0]
