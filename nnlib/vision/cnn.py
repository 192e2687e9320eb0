r"""Convolution in all its forms, its gradient and its cost; networks that are made of it.

`conv2d` calls torch's operator; `conv2d_loop` is its slow twin, the equation pixel by pixel, and
`conv2d_matmul` the same as one matrix product. `LeNet5`, `AlexNet` and `VGG` are the classics;
the last two take torchvision's weights as they are.

Chapter: chapters/vision/cnn.md     Papers: LeCun et al. 1989 and 1998; Krizhevsky et al. 2012;
Simonyan and Zisserman 2014
Axes: b batch, c input channels, o output channels, y x rows and columns of an image, m n rows and
columns of a kernel.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.blocks.batch_norm import BatchNorm2d

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


class DepthwiseSeparableConv2d(nn.Module):
    r"""A convolution in two steps: one small filter for each channel, then a mix of the channels.

    Equal to a full convolution whose kernels are products, $K_{o,c,m,n} = P_{o,c} D_{c,m,n}$
    (equation `cnn-separable`), at a share $1/C_\text{out} + 1/k^2$ of its multiplications
    (`cnn-separable-ratio`).

    Args:
        in_channels: channels in, ≥ 1.
        out_channels: channels out, ≥ 1.
        kernel_size: rows and columns of the depthwise kernels, ≥ 1.
        stride: of the depthwise step, ≥ 1.
        padding: of the depthwise step, ≥ 0.
        dilation: of the depthwise step, ≥ 1.
        bias: whether the pointwise step has one; the depthwise step needs none, because the
            pointwise one would pass on a constant.
        device: of the weights.
        dtype: of the weights.

    Attributes:
        depthwise: `torch.nn.Conv2d` with as many groups as channels.
        pointwise: `torch.nn.Conv2d` with kernels of 1 × 1.

    Example:
        >>> DepthwiseSeparableConv2d(8, 16, 3, padding=1)(torch.zeros(2, 8, 5, 5)).shape
        torch.Size([2, 16, 5, 5])

    Source: Sifre and Mallat 2014; Howard et al. 2017, with a norm and a ReLU after either step.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = c = checks.count("in_channels", in_channels)
        outputs = checks.count("out_channels", out_channels)
        self.sizes = (
            checks.count("kernel_size", kernel_size),
            checks.count("stride", stride),
            checks.count("padding", padding, least=0),
            checks.count("dilation", dilation),
        )
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.depthwise = nn.Conv2d(c, c, *self.sizes, groups=c, bias=False, **like)
        bias = checks.flag("bias", bias)
        self.pointwise = nn.Conv2d(c, outputs, 1, bias=bias, **like)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b o y_out x_out"]:
        """Filter every channel, then mix them."""
        checks.images("x", x, self.in_channels)
        for size in x.shape[2:]:
            output_size(size, *self.sizes)
        return self.pointwise(self.depthwise(x))  # eq. cnn-separable

    def dense_weight(self) -> Float[Tensor, "o c m n"]:
        """Return the kernels of the full convolution that does the same."""
        return self.pointwise.weight * self.depthwise.weight.transpose(0, 1)


class SimpleCNN(nn.Module):
    r"""The plain recipe: convolution, ReLU and pooling in turn, then one number a map.

    Kernels are 3 × 3; between two convolutions, max pooling halves rows and columns. After the
    last one, the mean or the maximum over all places is taken (equation `cnn-global-pool`). So an
    image may have any size, and the last layer has a weight for each channel and class, not for
    each place.

    Args:
        in_channels: channels of an image, ≥ 1.
        num_classes: scores in the answer, ≥ 1.
        channels: of each convolution, one or more.
        pool: what remains of a map in the end: `mean` or `max`.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = SimpleCNN(in_channels=1, num_classes=26, channels=[16, 32])
        >>> model(torch.zeros(5, 1, 28, 28)).shape, model(torch.zeros(5, 1, 20, 36)).shape
        (torch.Size([5, 26]), torch.Size([5, 26]))

    Source: the pattern of LeCun et al. 1989; the mean over places, Lin, Chen and Yan 2013.
    """

    def __init__(
        self,
        in_channels: int = 3,
        num_classes: int = 10,
        channels: Sequence[int] = (32, 64),
        pool: str = "mean",
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_channels = checks.count("in_channels", in_channels)
        classes = checks.count("num_classes", num_classes)
        if isinstance(channels, str) or not isinstance(channels, Sequence):
            raise TypeError(f"channels={channels!r} must be a sequence of integers")
        if not channels:
            raise ValueError("channels must hold one number or more, got none")
        widths = [
            self.in_channels,
            *(checks.count(f"channels[{at}]", c) for at, c in enumerate(channels)),
        ]
        self.pool = checks.one_of("pool", pool, ("mean", "max"))
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1, **like)
            for before, after in pairwise(widths)
        )
        self.classifier = nn.Linear(widths[-1], classes, **like)

    def forward(self, x: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class."""
        last = self.maps(x)[-1]  # eq. cnn-global-pool
        return self.classifier(
            last.mean((2, 3)) if self.pool == "mean" else last.amax((2, 3))
        )

    def maps(self, x: Float[Tensor, "b c y x"]) -> list[Tensor]:
        """Return what each convolution makes of the images, each map half as large as before."""
        checks.images("x", x, self.in_channels, least=2 ** (len(self.convolutions) - 1))
        found: list[Tensor] = []
        for convolution in self.convolutions:
            z = convolution(F.max_pool2d(found[-1], 2) if found else x)
            found.append(F.relu(z))
        return found


# Which maps of S2 each map of C3 reads: table I of LeCun et al. 1998.
_THREES = [tuple((first + k) % 6 for k in range(3)) for first in range(6)]
_FOURS = [tuple((first + k) % 6 for k in range(4)) for first in range(6)]
_SPREAD = [(0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)]
LENET_TABLE = [*_THREES, *_FOURS, *_SPREAD, tuple(range(6))]
"""Which of the six maps below each of the sixteen maps of LeNet-5's second convolution reads."""


def scaled_tanh(a: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""Return $1.7159 \tanh(2a/3)$, which is ±1 at ±1 (equation `cnn-scaled-tanh`)."""
    return 1.7159 * torch.tanh(2 / 3 * a)  # eq. cnn-scaled-tanh


class _Subsampling(nn.Module):
    """LeNet's pooling: the sum of four, times a learned number, plus a learned number."""

    def __init__(self, channels: int, **like: Any):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, **like))
        self.bias = nn.Parameter(torch.empty(channels, **like))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Begin as the mean of four."""
        nn.init.constant_(self.weight, 0.25)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        total = 4 * F.avg_pool2d(x, 2)
        return total * self.weight[:, None, None] + self.bias[:, None, None]


class _TableConv2d(nn.Module):
    """A convolution in which each output reads some of the inputs only, and learns no more."""

    def __init__(self, table: list[tuple[int, ...]], kernel_size: int, **like: Any):
        super().__init__()
        self.outputs = [o for o, inputs in enumerate(table) for _ in inputs]
        self.inputs = [c for inputs in table for c in inputs]
        self.shape = (len(table), 1 + max(self.inputs), kernel_size, kernel_size)
        kernels = (len(self.inputs), kernel_size, kernel_size)
        self.weight = nn.Parameter(torch.empty(kernels, **like))
        self.bias = nn.Parameter(torch.empty(len(table), **like))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw uniformly within ±2.4 over the number of inputs of a unit."""
        nn.init.uniform_(
            self.weight, -2.4 / self.shape[2] ** 2, 2.4 / self.shape[2] ** 2
        )
        maps = torch.bincount(torch.tensor(self.outputs))[self.outputs]
        with torch.no_grad():
            self.weight.div_(maps.to(self.weight)[:, None, None])
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        dense = self.weight.new_zeros(self.shape)
        dense[self.outputs, self.inputs] = self.weight
        return F.conv2d(x, dense, self.bias)


class LeNet5(nn.Module):
    r"""LeNet-5, the network that read cheques: three convolutions, two of them subsampled.

    As published, down to the table of which maps read which, and to the two learned numbers of
    each subsampled map: 60 000 parameters up to the layer F6. The last layer is linear here, where
    the paper has distances to fixed pictures of the characters.

    Args:
        num_classes: scores in the answer, ≥ 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> LeNet5()(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 10])

    Source: LeCun, Bottou, Bengio and Haffner 1998, section II.
    """

    def __init__(
        self,
        num_classes: int = 10,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        classes = checks.count("num_classes", num_classes)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.c1 = nn.Conv2d(1, 6, 5, **like)
        self.s2 = _Subsampling(6, **like)
        self.c3 = _TableConv2d(LENET_TABLE, 5, **like)
        self.s4 = _Subsampling(16, **like)
        self.c5 = nn.Conv2d(16, 120, 5, **like)
        self.f6 = nn.Linear(120, 84, **like)
        self.output = nn.Linear(84, classes, **like)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights uniformly within ±2.4 over the number of inputs of a unit, as published."""
        fans: list[tuple[nn.Conv2d | nn.Linear, int]] = [
            (self.c1, 25), (self.c5, 400), (self.f6, 120), (self.output, 84)
        ]  # fmt: skip
        for layer, inputs in fans:
            nn.init.uniform_(layer.weight, -2.4 / inputs, 2.4 / inputs)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        for part in (self.s2, self.c3, self.s4):
            part.reset_parameters()

    def forward(self, x: Float[Tensor, "b 1 32 32"]) -> Float[Tensor, "b k"]:
        """Return a score for each class."""
        checks.tensor("x", x, shape=("b", 1, 32, 32), floating=True)
        x = scaled_tanh(self.s2(scaled_tanh(self.c1(x))))  # 6 maps of 14 × 14
        x = scaled_tanh(self.s4(scaled_tanh(self.c3(x))))  # 16 maps of 5 × 5
        x = scaled_tanh(self.c5(x)).flatten(1)  # 120 maps of 1 × 1
        return self.output(scaled_tanh(self.f6(x)))


class AlexNet(nn.Module):
    """AlexNet: the network that won ImageNet's challenge of 2012, in its one-tower form.

    Five convolutions, three of them pooled by overlapping windows of 3 at a stride of 2, and three
    linear layers that hold 96 % of the 61 100 840 parameters. It is the form of 2014, for one GPU
    and without local response normalization; torchvision's `alexnet` is the same, and its
    `state_dict` fits.

    Args:
        num_classes: scores in the answer, ≥ 1.
        dropout: probability of dropping an input of the first two linear layers, 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> AlexNet(num_classes=5, device="meta")(torch.zeros(2, 3, 224, 224, device="meta")).shape
        torch.Size([2, 5])

    Source: Krizhevsky, Sutskever and Hinton 2012; Krizhevsky 2014.
    """

    def __init__(
        self,
        num_classes: int = 1000,
        dropout: float = 0.5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        classes = checks.count("num_classes", num_classes)
        drop = checks.number("dropout", dropout, least=0, most=1)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, stride=4, padding=2, **like),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2, **like),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1, **like),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1, **like),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1, **like),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(drop),
            nn.Linear(256 * 6 * 6, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Dropout(drop),
            nn.Linear(4096, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Linear(4096, classes, **like),
        )

    def forward(self, x: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class; images have 63 rows and columns or more."""
        x = self.features(checks.images("x", x, 3, least=63))
        return self.classifier(self.avgpool(x).flatten(1))


VGG_BLOCKS: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
"""Convolutions in each of five blocks, by depth: columns A, B, D and E of the paper."""


class VGG(nn.Module):
    """VGG: nothing but kernels of 3 × 3, in five blocks between poolings.

    Two kernels of 3 × 3 see as much as one of 5 × 5, three as much as one of 7 × 7, with fewer
    weights and more nonlinearities. The linear layers hold 89 % of the 138 357 544 parameters of
    depth 16. The `state_dict` of torchvision's `vgg16` and its siblings fits.

    Args:
        depth: layers with weights: 11, 13, 16 or 19.
        batch_norm: whether each convolution is followed by batch norm, which is younger than VGG.
        num_classes: scores in the answer, ≥ 1.
        dropout: probability of dropping an output of the first two linear layers, 0 … 1.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> model = VGG(depth=11, num_classes=5, device="meta")
        >>> model(torch.zeros(2, 3, 224, 224, device="meta")).shape
        torch.Size([2, 5])

    Source: Simonyan and Zisserman 2014.
    """

    def __init__(
        self,
        depth: int = 16,
        batch_norm: bool = False,
        num_classes: int = 1000,
        dropout: float = 0.5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        blocks = VGG_BLOCKS[
            checks.one_of("depth", checks.count("depth", depth), VGG_BLOCKS)
        ]
        norm = checks.flag("batch_norm", batch_norm)
        classes = checks.count("num_classes", num_classes)
        drop = checks.number("dropout", dropout, least=0, most=1)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        layers: list[nn.Module] = []
        before = 3
        for at, convolutions in enumerate(blocks):
            width = min(64 * 2**at, 512)
            for _ in range(convolutions):
                layers.append(nn.Conv2d(before, width, 3, padding=1, **like))
                layers += [BatchNorm2d(width, **like)] if norm else []
                layers.append(nn.ReLU(inplace=True))
                before = width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Dropout(drop),
            nn.Linear(4096, 4096, **like),
            nn.ReLU(inplace=True),
            nn.Dropout(drop),
            nn.Linear(4096, classes, **like),
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw kernels after He et al. by their outputs, linear layers with a spread of 0.01."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(
                    module.weight, mode="fan_out", nonlinearity="relu"
                )
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
            elif isinstance(module, BatchNorm2d):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, x: Float[Tensor, "b 3 y x"]) -> Float[Tensor, "b k"]:
        """Return a score for each class; images have 32 rows and columns or more."""
        x = self.features(checks.images("x", x, 3, least=32))
        return self.classifier(self.avgpool(x).flatten(1))


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
