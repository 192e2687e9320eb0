"""Convolution by loops, by a product of matrices and by the kernel, forwards and back.

Axes: b batch, c input channels, o output channels, y x rows and columns, m n those of a kernel.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from nnlib import checks
from nnlib.vision._convolution_sizes import (
    Pair,
    _check_convolution,
    _check_transposed,
    _pair,
    output_size,
)


def conv2d(
    x: Float[Tensor, "b c y x"],
    weight: Float[Tensor, "o c_group m n"],
    bias: Float[Tensor, " o"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "b o y_out x_out"]:
    r"""Slide every kernel over the images: at each place, the sum of products with what lies below.

    $z_{o,i,j} = b_o + \sum_{c,m,n} K_{o,c,m,n}\, x_{c,\; si+dm-p,\; sj+dn-p}$, with zeros outside
    (equations `cnn-convolution` and `cnn-strided`). The kernel is not flipped: mathematicians call
    this cross-correlation. Arguments and result are those of `torch.nn.functional.conv2d`, which
    it calls; `conv2d_loop` is the readable twin.

    Args:
        x: images.
        weight: kernels K, one for each output channel; each reads c / `groups` input channels.
        bias: one number an output channel.
        stride: step s of the kernel, ≥ 1.
        padding: rows and columns p of zeros around the image, ≥ 0.
        dilation: distance d between neighbouring weights, ≥ 1.
        groups: the channels are divided into so many parts that know nothing of one another; equal
            to c, each channel has kernels of its own (depthwise).

    Example:
        >>> edge = torch.tensor([[[[-1.0, 1.0]]]])
        >>> conv2d(torch.tensor([[[[0.0, 0.0, 5.0, 5.0]]]]), edge)
        tensor([[[[0., 5., 0.]]]])

    Source: LeCun et al. 1989; as sliding filters, Fukushima 1980.
    """
    _check_convolution(x, weight, bias, stride, padding, dilation, groups)
    return F.conv2d(x, weight, bias, stride, padding, dilation, groups)


def conv2d_loop(
    x: Float[Tensor, "b c y x"],
    weight: Float[Tensor, "o c_group m n"],
    bias: Float[Tensor, " o"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "b o y_out x_out"]:
    """Return what `conv2d` returns, one pixel of one output channel after the other."""
    rows, columns = _check_convolution(
        x, weight, bias, stride, padding, dilation, groups
    )
    (s, t), (p, q), (d, e) = _pair(stride), _pair(padding), _pair(dilation)
    outputs, inputs, height, width = weight.shape
    x = F.pad(x, (q, q, p, p))
    maps = []
    for o in range(outputs):
        first = o // (outputs // groups) * inputs  # the channels of its group
        seen = x[:, first : first + inputs]
        pixels = []
        for i in range(rows):
            for j in range(columns):  # eq. cnn-strided
                down = slice(s * i, s * i + d * (height - 1) + 1, d)
                across = slice(t * j, t * j + e * (width - 1) + 1, e)
                pixels.append((weight[o] * seen[:, :, down, across]).sum((1, 2, 3)))
        start = 0 if bias is None else bias[o]
        maps.append(torch.stack(pixels, 1).unflatten(1, (rows, columns)) + start)
    return torch.stack(maps, 1)


def conv2d_matmul(
    x: Float[Tensor, "b c y x"],
    weight: Float[Tensor, "o c_group m n"],
    bias: Float[Tensor, " o"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Float[Tensor, "b o y_out x_out"]:
    """Return what `conv2d` returns, as a matrix product: patches in columns, kernels in rows.

    Every pixel is copied as often as a kernel passes over it (equation `cnn-im2col`); what is paid
    in memory is won by the speed of the product. Known as im2col.
    """
    rows, columns = _check_convolution(
        x, weight, bias, stride, padding, dilation, groups
    )
    patches = F.unfold(x, weight.shape[2:], dilation, padding, stride)
    patches = patches.unflatten(1, (groups, -1))
    kernels = weight.flatten(1).unflatten(0, (groups, -1))
    z = (kernels @ patches).flatten(1, 2).unflatten(2, (rows, columns))
    return z if bias is None else z + bias[:, None, None]


def conv_transpose2d(
    x: Float[Tensor, "b c y x"],
    weight: Float[Tensor, "c o_group m n"],
    bias: Float[Tensor, " o"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Float[Tensor, "b o y_out x_out"]:
    r"""Stamp a kernel into the output at every pixel of the input, as strong as the pixel.

    $z_{o,\,si+dm-p,\,sj+dn-p} \mathrel{+}= K_{c,o,m,n}\,x_{c,i,j}$ (equation `cnn-transposed`). It
    is the transpose of `conv2d` with the same weight and stride, and no inverse. Arguments and
    result are those of `torch.nn.functional.conv_transpose2d`, which it calls;
    `conv_transpose2d_loop` is the readable twin.

    Args:
        x: images.
        weight: kernels, first axis the input channels, second the output channels of a group.
        bias: one number an output channel.
        stride: distance s of neighbouring stamps, ≥ 1.
        padding: rows and columns p that are cut off around the output, ≥ 0.
        output_padding: rows and columns added at the far ends, below `stride` or `dilation`.
        groups: as for `conv2d`.
        dilation: distance d between neighbouring weights, ≥ 1.

    Example:
        >>> stamp = torch.tensor([[[[1.0, 2.0]]]])
        >>> conv_transpose2d(torch.tensor([[[[1.0, 10.0]]]]), stamp, stride=2)
        tensor([[[[ 1.,  2., 10., 20.]]]])

    Source: Zeiler et al. 2010.
    """
    _check_transposed(
        x, weight, bias, stride, padding, output_padding, groups, dilation
    )
    return F.conv_transpose2d(
        x, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d_loop(
    x: Float[Tensor, "b c y x"],
    weight: Float[Tensor, "c o_group m n"],
    bias: Float[Tensor, " o"] | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Float[Tensor, "b o y_out x_out"]:
    """Return what `conv_transpose2d` returns, one stamp after the other."""
    rows, columns = _check_transposed(
        x, weight, bias, stride, padding, output_padding, groups, dilation
    )
    (s, t), (p, q), (d, e) = _pair(stride), _pair(padding), _pair(dilation)
    parts = []
    for part, kernels in zip(x.chunk(groups, 1), weight.chunk(groups, 0), strict=True):
        z = x.new_zeros(len(x), weight.shape[1], rows + 2 * p, columns + 2 * q)
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):  # eq. cnn-transposed
                stamp = torch.einsum("bc,comn->bomn", part[:, :, i, j], kernels)
                down = slice(s * i, s * i + d * (weight.shape[2] - 1) + 1, d)
                across = slice(t * j, t * j + e * (weight.shape[3] - 1) + 1, e)
                z[:, :, down, across] += stamp
        parts.append(z[:, :, p : p + rows, q : q + columns])
    z = torch.cat(parts, 1)
    return z if bias is None else z + bias[:, None, None]


class Gradients(NamedTuple):
    """What a convolution sends back: to its input, its kernels and its biases."""

    x: Tensor
    weight: Tensor
    bias: Tensor


def conv2d_backward(
    x: Float[Tensor, "b c y x"],
    weight: Float[Tensor, "o c m n"],
    delta: Float[Tensor, "b o y_out x_out"],
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
) -> Gradients:
    r"""Return the gradients of a loss, given $\delta = \partial\mathcal{L}/\partial z$.

    All three are convolutions again. The input gets the transposed convolution of δ
    (`cnn-gradient-input`), each kernel the correlation of its input with its δ, in which stride and
    dilation change places (`cnn-gradient-kernel`), and each bias the sum of its δ
    (`cnn-gradient-bias`).

    Args:
        x: the input of the convolution.
        weight: its kernels, in one group.
        delta: derivative of the loss with respect to its output.
        stride: as it was.
        padding: as it was.
        dilation: as it was.

    Example:
        >>> x, kernel = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)
        >>> conv2d_backward(x, kernel, torch.ones(1, 1, 2, 2)).weight
        tensor([[[[4., 4.],
                  [4., 4.]]]])
    """
    for name, value in (("stride", stride), ("dilation", dilation)):
        checks.count(name, value)
    checks.count("padding", padding, least=0)
    rows, columns = _check_convolution(x, weight, None, stride, padding, dilation, 1)
    wanted = (len(x), len(weight), rows, columns)
    checks.tensor("delta", delta, shape=wanted, floating=True)
    # What the stride left over at the far ends: which of several sizes to go back to.
    rest = [
        (size + 2 * padding - dilation * (k - 1) - 1) % stride
        for size, k in zip(x.shape[2:], weight.shape[2:], strict=True)
    ]
    back = F.conv_transpose2d(  # eq. cnn-gradient-input
        delta, weight, None, stride, padding, rest, 1, dilation
    )
    # The batch takes the channels' place: it is what is summed over.
    kernel = F.conv2d(  # eq. cnn-gradient-kernel
        x.transpose(0, 1), delta.transpose(0, 1), None, dilation, padding, stride
    ).transpose(0, 1)
    kernel = kernel[:, :, : weight.shape[2], : weight.shape[3]]
    return Gradients(back, kernel, delta.sum((0, 2, 3)))  # eq. cnn-gradient-bias


def max_pool2d(
    x: Float[Tensor, "b c y x"], kernel_size: int, stride: int | None = None
) -> Float[Tensor, "b c y_out x_out"]:
    """Return the largest value of each window (equation `cnn-max-pool`).

    The readable twin of `torch.nn.functional.max_pool2d`, which the models call.

    Args:
        x: images.
        kernel_size: rows and columns of a window, ≥ 1.
        stride: from one window to the next, ≥ 1; that of windows side by side if None.

    Example:
        >>> max_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2)
        tensor([[[[ 5.,  7.],
                  [13., 15.]]]])
    """
    return _windows(x, kernel_size, stride).amax((-2, -1))  # eq. cnn-max-pool


def avg_pool2d(
    x: Float[Tensor, "b c y x"], kernel_size: int, stride: int | None = None
) -> Float[Tensor, "b c y_out x_out"]:
    """Return the mean of each window (equation `cnn-average-pool`).

    The readable twin of `torch.nn.functional.avg_pool2d`. Arguments as for `max_pool2d`.

    Example:
        >>> avg_pool2d(torch.arange(16.0).view(1, 1, 4, 4), 2)
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
    """
    return _windows(x, kernel_size, stride).mean((-2, -1))  # eq. cnn-average-pool


def _windows(x: Tensor, kernel_size: int, stride: int | None) -> Tensor:
    checks.images("x", x)
    stride = kernel_size if stride is None else checks.count("stride", stride)
    for size in x.shape[2:]:
        output_size(size, kernel_size, stride)
    return x.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride)
