r"""Kernels of a deep convolutional network, all made by one small generator, a code for each layer.

Paper: Ha, Dai and Le 2016, section on static hypernetworks
Axes: l layers, i input channels, o output channels, f rows and columns of a kernel, a hidden.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks


class KernelHyperNetwork(nn.Module):
    r"""A static hypernetwork: the kernels of many equal layers, from a learned code a layer.

    For layer $j$ with code $\mathbf{z}_j$, each input channel $i$ has a map of its own, and the
    read-out is shared (equation `hypernetwork-kernel`): $\mathbf{a}_i = \mathbf{W}_i \mathbf{z}_j
    + \mathbf{B}_i$, $\mathbf{K}_i = \mathbf{W}_{out} \mathbf{a}_i + \mathbf{B}_{out}$.
    It holds $N_z L + N_{in} A (N_z + 1) + f^2 N_{out} (A + 1)$ numbers
    (`hypernetwork-kernel-count`), where $L$ layers of kernels hold $L f^2 N_{in} N_{out}$.

    Args:
        num_layers: L, ≥ 1.
        channels: of the input and of the output of each layer, ≥ 1.
        kernel_size: f, ≥ 1.
        embed_dim: $N_z$, numbers of a code, ≥ 1.
        hidden_size: A, ≥ 1.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> KernelHyperNetwork(12, channels=16)().shape
        torch.Size([12, 16, 16, 3, 3])

    Source: Ha, Dai and Le 2016, who set $A = N_z = 64$.
    """

    codes: nn.Parameter
    weight_in: nn.Parameter
    bias_in: nn.Parameter
    weight_out: nn.Parameter
    bias_out: nn.Parameter

    def __init__(
        self,
        num_layers: int,
        channels: int = 16,
        kernel_size: int = 3,
        embed_dim: int = 64,
        hidden_size: int = 64,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        layers = checks.count("num_layers", num_layers)
        self.channels = c = checks.count("channels", channels)
        self.kernel_size = f = checks.count("kernel_size", kernel_size)
        m, a = (
            checks.count("embed_dim", embed_dim),
            checks.count("hidden_size", hidden_size),
        )
        shapes = {
            "codes": (layers, m), "weight_in": (c, a, m), "bias_in": (c, a),
            "weight_out": (c * f * f, a), "bias_out": (c * f * f,),
        }  # fmt: skip
        for name, shape in shapes.items():
            value = torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(value))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Draw codes of unit spread, and maps that give kernels He's, $\sqrt{2/(f^2 N)}$."""
        nn.init.normal_(self.codes)
        nn.init.normal_(self.weight_in, std=1 / math.sqrt(self.weight_in.shape[2]))
        spread = math.sqrt(2 / (self.kernel_size**2 * self.channels))
        nn.init.normal_(
            self.weight_out, std=spread / math.sqrt(self.weight_out.shape[1])
        )
        nn.init.zeros_(self.bias_in)
        nn.init.zeros_(self.bias_out)

    def forward(self) -> Float[Tensor, "l o i f f"]:
        """Return the kernels of all layers, as `torch.nn.functional.conv2d` takes each."""
        a = torch.einsum("lm,iam->lia", self.codes, self.weight_in) + self.bias_in
        kernels = (
            a @ self.weight_out.T + self.bias_out
        )  # eq. hypernetwork-kernel: l i (o f f)
        shape = (self.channels, self.kernel_size, self.kernel_size)
        return kernels.unflatten(2, shape).transpose(1, 2)
