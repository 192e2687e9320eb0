"""Sizes of convolutions: what comes out, what is seen, what it costs, and what is refused.

Axes: b batch, c input channels, o output channels, y x rows and columns.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from nnlib import checks

Pair = int | tuple[int, int]
"""One number for rows and columns, or one for each."""


def output_size(
    size: int, kernel_size: int, stride: int = 1, padding: int = 0, dilation: int = 1
) -> int:
    r"""Return $\lfloor (H + 2p - d(k-1) - 1)/s \rfloor + 1$: rows of a convolution's output.

    Equation `cnn-output-size`; the same holds for columns, and for pooling.

    Args:
        size: rows H of the input, ≥ 1.
        kernel_size: rows k of the kernel, ≥ 1.
        stride: rows s from one place of the kernel to the next, ≥ 1.
        padding: rows p of zeros at either end, ≥ 0.
        dilation: rows d from one weight of the kernel to the next, ≥ 1.

    Raises:
        ValueError: the kernel does not fit into the padded input, not even once.

    Example:
        >>> output_size(227, 11, stride=4), output_size(10, 3, dilation=2)
        (55, 6)
    """
    checks.count("size", size), checks.count("kernel_size", kernel_size)
    checks.count("stride", stride), checks.count("padding", padding, least=0)
    span = checks.count("dilation", dilation) * (kernel_size - 1) + 1  # eq. cnn-span
    if span > size + 2 * padding:
        raise ValueError(
            f"kernel_size={kernel_size} with dilation={dilation} spans {span}, more than "
            f"size={size} with padding={padding} on either side"
        )
    return (size + 2 * padding - span) // stride + 1  # eq. cnn-output-size


def transposed_output_size(
    size: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> int:
    r"""Return $(H-1)s - 2p + d(k-1) + 1 + p_\text{out}$: rows of a transposed convolution's output.

    Equation `cnn-transposed-size`. A stride above 1 rounds in `output_size`, so that several sizes
    lead to one; `output_padding` says which of them to go back to.

    Args:
        size: rows H of the input, ≥ 1.
        kernel_size: rows k of the kernel, ≥ 1.
        stride: rows s of the output for a row of the input, ≥ 1.
        padding: rows p that are cut off at either end, ≥ 0.
        output_padding: rows that are added at the far end, ≥ 0 and below `stride` or `dilation`.
        dilation: rows d from one weight of the kernel to the next, ≥ 1.

    Raises:
        ValueError: nothing would be left.

    Example:
        >>> transposed_output_size(5, 4, stride=2, padding=1)
        10
    """
    checks.count("size", size), checks.count("kernel_size", kernel_size)
    checks.count("stride", stride), checks.count("padding", padding, least=0)
    checks.count("output_padding", output_padding, least=0)
    checks.count("dilation", dilation)
    if output_padding >= max(stride, dilation):
        raise ValueError(
            f"output_padding={output_padding} must be less than stride={stride} or "
            f"dilation={dilation}"
        )
    # eq. cnn-transposed-size
    whole = (size - 1) * stride + dilation * (kernel_size - 1) + 1 + output_padding
    if whole <= 2 * padding:
        raise ValueError(f"padding={padding} cuts off all {whole} of the output")
    return whole - 2 * padding


def receptive_field(layers: Iterable[tuple[int, int, int]]) -> int:
    r"""Return $1 + \sum_l d_l (k_l - 1) \prod_{i<l} s_i$: input rows that one output row reads.

    Equation `cnn-receptive-field`.

    Args:
        layers: kernel size, stride and dilation of each layer, first to last; pooling counts.

    Example:
        >>> receptive_field([(3, 1, 1)] * 3), receptive_field([(3, 1, 1), (2, 2, 1), (3, 1, 1)])
        (7, 8)
    """
    field, jump = 1, 1
    for at, layer in enumerate(layers):
        if not isinstance(layer, Sequence) or isinstance(layer, str) or len(layer) != 3:
            raise TypeError(
                f"layers[{at}]={layer!r} must be a kernel size, a stride and a dilation"
            )
        names = ("kernel_size", "stride", "dilation")
        kernel_size, stride, dilation = (
            checks.count(f"{name} of layers[{at}]", value)
            for name, value in zip(names, layer, strict=True)
        )
        field += dilation * (kernel_size - 1) * jump  # eq. cnn-receptive-field
        jump *= stride
    return field


class Counts(NamedTuple):
    """What a layer takes: numbers learned, and operations for one image."""

    parameters: int
    flops: int


def cost(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    height: int,
    width: int,
    groups: int = 1,
) -> Counts:
    r"""Return parameters and FLOPs of a convolution whose output has `height` × `width` pixels.

    $(k^2 C_\text{in}/g + 1)\,C_\text{out}$ and $2 k^2 C_\text{in} C_\text{out} H'W'/g$ (equations
    `cnn-parameters`, `cnn-flops`). A multiplication and an addition count as two; biases are left
    out of the second.

    Args:
        in_channels: channels in, ≥ 1.
        out_channels: channels out, ≥ 1.
        kernel_size: rows and columns of a kernel, ≥ 1.
        height: rows of the output, ≥ 1.
        width: columns of the output, ≥ 1.
        groups: divides both numbers of channels.

    Example:
        >>> cost(3, 64, 3, 224, 224)
        Counts(parameters=1792, flops=173408256)
    """
    given = (in_channels, out_channels, kernel_size, height, width, groups)
    names = ("in_channels", "out_channels", "kernel_size", "height", "width", "groups")
    for name, value in zip(names, given, strict=True):
        checks.count(name, value)
    _check_groups(in_channels, out_channels, groups)
    weights = kernel_size**2 * (in_channels // groups) * out_channels
    return Counts(weights + out_channels, 2 * weights * height * width)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _check_pair(name: str, value: Any, *, least: int) -> tuple[int, int]:
    if isinstance(value, tuple | list):
        if len(value) != 2:
            raise ValueError(f"{name}={value!r} must be a number, or one for each axis")
        y, x = (
            checks.count(f"{name}[{at}]", v, least=least) for at, v in enumerate(value)
        )
        return y, x
    y = checks.count(name, value, least=least)
    return y, y


def _check_groups(inputs: int, outputs: int, groups: Any) -> int:
    groups = checks.count("groups", groups)
    for channels, told in ((inputs, "input"), (outputs, "output")):
        if channels % groups:
            raise ValueError(
                f"groups={groups} does not divide {channels} {told} channels"
            )
    return groups


def _check_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
) -> tuple[int, int]:
    """Refuse what does not fit; return rows and columns of the output."""
    checks.images("x", x)
    checks.tensor(
        "weight", weight, shape=("o", "c", "m", "n"), floating=True, empty=False
    )
    groups = _check_groups(x.shape[1], weight.shape[0], groups)
    wanted = (weight.shape[0], x.shape[1] // groups, *weight.shape[2:])
    checks.tensor("weight", weight, shape=wanted)
    _check_bias(bias, weight.shape[0])
    steps = [
        _check_pair("stride", stride, least=1),
        _check_pair("padding", padding, least=0),
        _check_pair("dilation", dilation, least=1),
    ]
    sizes = zip(x.shape[2:], weight.shape[2:], *steps, strict=True)
    rows, columns = (output_size(*size) for size in sizes)
    return rows, columns


def _check_transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Pair,
    padding: Pair,
    output_padding: Pair,
    groups: int,
    dilation: Pair,
) -> tuple[int, int]:
    """Refuse what does not fit; return rows and columns of the output."""
    checks.images("x", x)
    checks.tensor(
        "weight", weight, shape=("c", "o", "m", "n"), floating=True, empty=False
    )
    groups = _check_groups(x.shape[1], x.shape[1], groups)
    checks.tensor("weight", weight, shape=(x.shape[1], "o / groups", "m", "n"))
    _check_bias(bias, weight.shape[1] * groups)
    steps = [
        _check_pair("stride", stride, least=1),
        _check_pair("padding", padding, least=0),
        _check_pair("output_padding", output_padding, least=0),
        _check_pair("dilation", dilation, least=1),
    ]
    sizes = zip(x.shape[2:], weight.shape[2:], *steps, strict=True)
    rows, columns = (transposed_output_size(*size) for size in sizes)
    return rows, columns


def _check_bias(bias: Tensor | None, outputs: int) -> None:
    if bias is not None:
        checks.tensor("bias", bias, shape=(outputs,), floating=True)
