"""Compress one layer and let the weights that are left make up for it: optimal brain surgeon.

Part of `nnlib.language.compression`, with its axes.
"""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nnlib import checks
from nnlib.kernels.quantization import Quantized, quantize


def input_hessian(x: Float[Tensor, "*n d"]) -> Float[Tensor, "d d"]:
    r"""Return $\mathbf{H} = \mathbf{X}^\top \mathbf{X}$, in float64: equation `compression-layer`.

    It is what a layer's error depends on. Those of several batches add up.

    Args:
        x: what the layer reads, a row for each example; one row or more.

    Example:
        >>> input_hessian(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
        tensor([[1., 2.],
                [2., 5.]], dtype=torch.float64)
    """
    checks.tensor("x", x, floating=True, finite=True, empty=False)
    if x.ndim < 2:
        raise ValueError(f"x must have rows of features, got shape {tuple(x.shape)}")
    rows = x.detach().flatten(0, -2).double()
    return rows.T @ rows


def layer_error(
    weight: Float[Tensor, "o d"],
    changed: Float[Tensor, "o d"],
    hessian: Float[Tensor, "d d"],
) -> float:
    r"""Return $\lVert \mathbf{X}\mathbf{W}^\top - \mathbf{X}\hat{\mathbf{W}}^\top \rVert^2$.

    Equation `compression-layer`.

    Args:
        weight: of the layer.
        changed: what stands in its place.
        hessian: from `input_hessian`.
    """
    _check(weight, hessian)
    checks.tensor("changed", changed, shape=tuple(weight.shape), floating=True)
    difference = (weight - changed).double()
    return float(((difference @ hessian.double()) * difference).sum())


def gptq_quantize(
    weight: Float[Tensor, "o d"],
    hessian: Float[Tensor, "d d"],
    bits: int = 4,
    *,
    granularity: str = "row",
    group_size: int | None = None,
    symmetric: bool = True,
    damping: float = 0.01,
    order: str = "largest",
) -> Quantized:
    r"""Return a weight on the grid of `quantize`, rounded so that the layer's output stays.

    Columns are rounded one after another, and what each loses is made up for by those that are
    still free: `compression-obs`, in the form of `compression-cholesky`.

    Args:
        weight: of a layer, finite.
        hessian: of what it reads, from `input_hessian`.
        bits: of a number, 2 … 8.
        granularity: "tensor", "row" or "group": which weights share a scale.
        group_size: of a group, which divides d.
        symmetric: whether zero is the middle of the grid.
        damping: added to the diagonal, as a share of its mean, > 0.
        order: "largest" inputs first, or columns as "given".

    Example:
        >>> from nnlib.kernels.quantization import dequantize
        >>> _ = torch.manual_seed(0)
        >>> x, weight = torch.randn(64, 8) @ torch.randn(8, 8), torch.randn(4, 8)
        >>> hessian = input_hessian(x)
        >>> nearest = dequantize(quantize(weight, 3))
        >>> better = dequantize(gptq_quantize(weight, hessian, 3))
        >>> layer_error(weight, better, hessian) < layer_error(weight, nearest, hessian)
        True

    Source: Frantar et al. 2022, whose H is twice ours, which changes nothing.
    """
    _check(weight, hessian)
    grid = quantize(
        weight,
        bits,
        granularity=granularity,
        group_size=group_size,
        symmetric=symmetric,
    )
    diagonal = hessian.diagonal()
    columns = torch.arange(len(diagonal), device=diagonal.device)
    if checks.one_of("order", order, ("largest", "given")) == "largest":
        columns = diagonal.argsort(descending=True, stable=True)
    scale, middle = _per_weight(grid)
    top = 2 ** (bits - 1) - 1
    low, high = (-top, top) if grid.zero_point is None else (0, 2**bits - 1)
    values = torch.empty_like(weight, dtype=torch.float64)

    def nearest(at: int, column: Tensor) -> Tensor:
        level = (column / scale[:, at] + middle[:, at]).round().clamp(low, high)
        values[:, at] = level
        return (level - middle[:, at]) * scale[:, at]

    _compensated(weight, hessian, nearest, damping, columns)
    return grid._replace(values=values.to(grid.values.dtype))


def sparse_update(
    weight: Float[Tensor, "o d"],
    kept: Bool[Tensor, "o d"],
    hessian: Float[Tensor, "d d"],
    *,
    damping: float = 0.01,
) -> Float[Tensor, "o d"]:
    """Return a weight with zeros outside `kept`, whose other entries make up for them.

    The same steps as in `gptq_quantize`, with zero in place of the nearest level.

    Args:
        weight: of a layer, finite.
        kept: True where a weight stays, such as from `keep_mask`.
        hessian: of what the layer reads, from `input_hessian`.
        damping: added to the diagonal, as a share of its mean, > 0.

    Example:
        >>> kept = torch.tensor([[True, False]])
        >>> x = torch.tensor([[1.0, 1.0], [2.0, 2.0]])  # both inputs are the same
        >>> weight = torch.tensor([[1.0, 1.0]])
        >>> sparse_update(weight, kept, input_hessian(x), damping=1e-9).round(decimals=3)
        tensor([[2., 0.]])

    Source: Frantar and Alistarh 2023 (SparseGPT).
    """
    _check(weight, hessian)
    checks.tensor("kept", kept, shape=tuple(weight.shape))
    if kept.dtype != torch.bool:
        raise TypeError(f"kept must hold True where a weight stays, got {kept.dtype}")
    # Those that all rows drop come first, so that the others can still move.
    order = kept.sum(0).argsort(stable=True)
    return _compensated(
        weight, hessian, lambda at, column: column * kept[:, at], damping, order
    )


def _per_weight(grid: Quantized) -> tuple[Tensor, Tensor]:
    """Return the scale and the zero point of each weight, in float64."""
    parts = []
    for part in (grid.scale, grid.zero_point):
        if part is None:
            part = torch.zeros_like(grid.scale)
        if grid.group_size is not None:
            part = part.repeat_interleave(grid.group_size, -1)
        parts.append(part.double().expand(grid.values.shape))
    return parts[0], parts[1]


def _compensated(
    weight: Tensor,
    hessian: Tensor,
    replaced: Callable[[int, Tensor], Tensor],
    damping: float,
    order: Tensor,
) -> Tensor:
    """Return the weight with each column replaced, in order, and the later ones moved to fit.

    Args:
        weight: o d.
        hessian: d d.
        replaced: takes the number of a column and what stands there by now; returns what will.
        damping: as in `gptq_quantize`.
        order: the columns' numbers.
    """
    share = checks.number("damping", damping, above=0)
    h = hessian.double()[order][:, order]
    mean = h.diagonal().mean()
    h = h + torch.eye(len(h), dtype=h.dtype, device=h.device) * torch.where(
        mean > 0, share * mean, 1.0
    )
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(h))
    upper = torch.linalg.cholesky(inverse, upper=True)
    free = weight.detach().double()[:, order]
    done = torch.empty_like(free)
    for step, at in enumerate(order.tolist()):
        done[:, step] = replaced(at, free[:, step])
        lost = (free[:, step] - done[:, step]) / upper[step, step]
        free[:, step:] -= lost[:, None] * upper[step, step:]  # eq. compression-cholesky
    return done[:, order.argsort()].to(weight.dtype)


def _check(weight: Tensor, hessian: Tensor) -> None:
    checks.tensor(
        "weight", weight, shape=("o", "d"), floating=True, finite=True, empty=False
    )
    d = weight.shape[1]
    checks.tensor("hessian", hessian, shape=(d, d), floating=True, finite=True)
    if not torch.allclose(hessian, hessian.T):
        raise ValueError("hessian must be symmetric, as from input_hessian")
