"""Which range a grid should span, and how the hard inputs are made easy.

Part of `nnlib.language.compression`, with its axes.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.kernels.quantization import dequantize, quantize


def clip_limit(
    x: Float[Tensor, "*n"],
    bits: int = 8,
    method: str = "mse",
    *,
    percentile: float = 99.9,
    candidates: int = 80,
) -> float:
    r"""Return the magnitude c at which numbers are cut off before they are rounded.

    `quantize(x.clamp(-c, c), bits, granularity="tensor")` is then the grid that is meant.

    Args:
        x: the numbers, such as what a layer reads for some calibration batches.
        bits: of a number, 2 … 8.
        method: "absmax": the largest magnitude, so that nothing is cut; "percentile": that of so
            many percent of the magnitudes; "mse": the best of several by squared error
            (`compression-mse`).
        percentile: of "percentile", in (0, 100].
        candidates: how many fractions of the largest magnitude "mse" tries, ≥ 1.

    Example:
        >>> x = torch.tensor([1.0] * 1000 + [100.0])
        >>> clip_limit(x, method="absmax"), clip_limit(x, method="percentile", percentile=99)
        (100.0, 1.0)

    Source: Jacob et al. 2018; Wu et al. 2020.
    """
    checks.tensor("x", x, floating=True, finite=True, empty=False)
    bits = checks.count("bits", bits)
    checks.one_of("method", method, ("absmax", "percentile", "mse"))
    share = checks.number("percentile", percentile, above=0, most=100) / 100
    candidates = checks.count("candidates", candidates)
    flat = x.detach().flatten()
    size = flat.abs()
    top = float(size.max())
    if method == "absmax" or top == 0:
        return top
    if method == "percentile":
        return float(size.sort().values[max(0, round(share * len(size)) - 1)])
    limits = [top * (k + 1) / candidates for k in range(candidates)]
    errors = [float((_rounded(flat, c, bits) - flat).square().mean()) for c in limits]
    return limits[min(range(candidates), key=errors.__getitem__)]  # eq. compression-mse


def _rounded(x: Tensor, limit: float, bits: int) -> Tensor:
    return dequantize(quantize(x.clamp(-limit, limit), bits, granularity="tensor"))


def smoothing_scales(
    largest: Float[Tensor, " d"], weight: Float[Tensor, "o d"], strength: float = 0.5
) -> Float[Tensor, " d"]:
    r"""Return $s_j = \max|\mathbf{x}_j|^\alpha / \max|\mathbf{w}_j|^{1 - \alpha}$: SmoothQuant's.

    Equation `compression-smooth`. Inputs are divided by these and the weight's columns multiplied,
    which changes nothing but where the large numbers are.

    Args:
        largest: the largest magnitude of each input, > 0.
        weight: of the layer that reads them.
        strength: α, in [0, 1]; 1 moves all of the difficulty to the weights.

    Example:
        >>> smoothing_scales(torch.tensor([1.0, 64.0]), torch.tensor([[1.0, 1.0]]))
        tensor([1., 8.])

    Source: Xiao et al. 2022.
    """
    checks.tensor(
        "weight", weight, shape=("o", "d"), floating=True, finite=True, empty=False
    )
    checks.tensor(
        "largest", largest, shape=weight.shape[1:], floating=True, finite=True
    )
    if bool((largest <= 0).any()):
        raise ValueError(
            "largest must be > 0: an input that is always 0 needs no scale"
        )
    alpha = checks.number("strength", strength, least=0, most=1)
    columns = weight.detach().abs().amax(0).clamp(min=torch.finfo(weight.dtype).tiny)
    return largest**alpha / columns ** (1 - alpha)


def awq_scales(
    weight: Float[Tensor, "o d"],
    x: Float[Tensor, "*n d"],
    bits: int = 4,
    *,
    granularity: str = "row",
    group_size: int | None = None,
    candidates: int = 20,
) -> Float[Tensor, " d"]:
    r"""Return the scales $s_j = m_j^\alpha$ whose rounded weight keeps the output best.

    Equation `compression-awq`: m is the mean magnitude of each input, and α is searched in [0, 1).
    The layer is used with the weight's columns multiplied by s, rounded, and divided again.

    Args:
        weight: of a layer.
        x: what it reads, a row for each example.
        bits: of a number, 2 … 8.
        granularity: as for `quantize`.
        group_size: as for `quantize`.
        candidates: how many α are tried, ≥ 1.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(50, 8) * torch.tensor([9.0, 1, 1, 1, 1, 1, 1, 1])
        >>> scales = awq_scales(torch.randn(4, 8), x, bits=3)
        >>> bool(scales[0] >= scales[1:].max())  # the large input's weights are held best
        True

    Source: Lin et al. 2023.
    """
    checks.tensor(
        "weight", weight, shape=("o", "d"), floating=True, finite=True, empty=False
    )
    checks.tensor("x", x, floating=True, finite=True, empty=False)
    if x.ndim < 2 or x.shape[-1] != weight.shape[1]:
        raise ValueError(f"x must have rows of {weight.shape[1]}, got {tuple(x.shape)}")
    rows, candidates = x.detach().flatten(0, -2), checks.count("candidates", candidates)
    mean = rows.abs().mean(0).clamp(min=torch.finfo(x.dtype).tiny)
    wanted = rows @ weight.detach().T
    best, least = torch.ones_like(mean), torch.inf
    for k in range(candidates):
        scales = mean ** (k / candidates)
        scales = scales / (scales.amax() * scales.amin()).sqrt()
        held = dequantize(
            quantize(
                weight.detach() * scales,
                bits,
                granularity=granularity,
                group_size=group_size,
            )
        )
        error = float((rows @ (held / scales).T - wanted).square().sum())
        if error < least:  # eq. compression-awq
            best, least = scales, error
    return best
