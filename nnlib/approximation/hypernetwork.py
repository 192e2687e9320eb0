r"""Hypernetworks: networks whose output is the weights of another network.

Chapter: chapters/approximation/hypernetwork.md     Paper: Ha, Dai and Le 2016
Axes: b codes, and so networks; m numbers of a code; p numbers of a network; n points, d inputs,
o outputs of it.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks
from nnlib.approximation._hypernetwork_kernels import KernelHyperNetwork
from nnlib.approximation._hypernetwork_lstm import HyperLSTM, HyperState, LayerNormLSTM
from nnlib.approximation._hypernetwork_target import (
    ACTIVATIONS,
    fourier_features,
    generated_mlp,
    generated_mlp_loop,
    grid,
    ordinary_scales,
    sizes,
    split_weights,
    weight_count,
)

__all__ = [
    "HyperLSTM",
    "HyperNetwork",
    "HyperState",
    "KernelHyperNetwork",
    "LayerNormLSTM",
    "fourier_features",
    "generated_mlp",
    "generated_mlp_loop",
    "grid",
    "remembering_loss",
    "split_weights",
    "weight_count",
]

INITS = ("hyperfan", "shared", "default")
"""How a hypernetwork may begin."""


class HyperNetwork(nn.Module):
    r"""A network that reads a code and writes the weights of another, which reads the data.

    $\boldsymbol\theta = h_{\boldsymbol\psi}(\mathbf{z})$ and $\hat{\mathbf{y}} =
    f_{\boldsymbol\theta}(\mathbf{x})$ (equations `hypernetwork-generate`,
    `hypernetwork-target`). The generator $h$ is an MLP with ReLUs whose last layer, the head,
    has an output for every weight and bias of the main network $f$.

    Where the code comes from decides the kind: a learned vector for each task or layer makes it
    *static*, an encoder's answer to an example *conditional*. With `chunk_size` the generator
    writes the weights piece by piece, each from the code and a learned vector that says which
    piece (`hypernetwork-chunks`), so that it may be smaller than what it writes.

    Args:
        embed_dim: numbers m of a code, ≥ 1; about of unit variance.
        layer_sizes: width of every layer of the main network, input first; two or more.
        hidden_sizes: widths of the generator's hidden layers; none makes it affine.
        activation: between two layers of the main network: `relu`, `tanh` or `sin`.
        chunk_size: numbers that one call of the generator writes, ≥ 1; None: all of them.
        chunk_embed_dim: numbers of the vector that names a piece, ≥ 1.
        init: `hyperfan`: the head is drawn so that the generated weights have the spread of an
            ordinary initialisation (`hypernetwork-hyperfan`). `shared`: the head's bias *is* an
            ordinary network, and its weights begin at a tenth of that spread, so that all codes
            begin with nearly the same network; not with chunks. `default`: as torch draws a
            linear layer, which ignores what the outputs are used for.
        device: of the parameters.
        dtype: of the parameters.

    Attributes:
        num_generated: p, the numbers of a main network.
        scale: of shape (p,): the generator's outputs are multiplied by it; 1 with `default`.

    Example:
        >>> model = HyperNetwork(embed_dim=32, layer_sizes=[18, 16, 1])
        >>> codes, points = torch.randn(5, 32), torch.randn(256, 18)
        >>> model(codes, points).shape, model.num_generated
        (torch.Size([5, 256, 1]), 321)

    Source: Ha, Dai and Le 2016; chunks: von Oswald et al. 2020; init: Chang et al. 2020, whose
    variance we put into fixed factors of the outputs.
    """

    scale: Tensor
    chunks: nn.Parameter | None

    def __init__(
        self,
        embed_dim: int,
        layer_sizes: Sequence[int],
        hidden_sizes: Sequence[int] = (128,),
        activation: str = "relu",
        *,
        chunk_size: int | None = None,
        chunk_embed_dim: int = 8,
        init: str = "hyperfan",
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.embed_dim = inputs = checks.count("embed_dim", embed_dim)
        self.layer_sizes = sizes("layer_sizes", layer_sizes, 2)
        self.hidden_sizes = sizes("hidden_sizes", hidden_sizes, 0)
        self.activation = checks.one_of("activation", activation, ACTIVATIONS)
        self.init = checks.one_of("init", init, INITS)
        chunk_embed_dim = checks.count("chunk_embed_dim", chunk_embed_dim)
        self.num_generated = outputs = weight_count(self.layer_sizes)
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        if chunk_size is None:
            self.chunks = None
        else:
            size = checks.count("chunk_size", chunk_size)
            if init == "shared":
                raise ValueError(
                    "init='shared' needs chunk_size=None: pieces share a bias"
                )
            pieces, outputs = math.ceil(outputs / size), size
            inputs += chunk_embed_dim
            self.chunks = nn.Parameter(torch.empty(pieces, chunk_embed_dim, **made))
        widths = (inputs, *self.hidden_sizes)
        self.layers = nn.ModuleList(
            nn.Linear(a, b, **made) for a, b in pairwise(widths)
        )
        self.head = nn.Linear(widths[-1], outputs, **made)
        self.register_buffer("scale", torch.ones(self.num_generated, **made))
        if init != "default":
            self.scale.copy_(ordinary_scales(self.layer_sizes, self.activation))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all anew, as `init` says; hidden layers by He's rule, which keeps E[e²]."""
        for layer in self._affine():
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        if self.chunks is not None:
            nn.init.normal_(self.chunks)
        if self.init == "default":
            self.head.reset_parameters()
            return
        spread = 1 / math.sqrt(self.head.in_features)  # eq. hypernetwork-hyperfan
        if self.init == "shared":
            nn.init.normal_(self.head.bias)
            nn.init.normal_(self.head.weight, std=0.1 * spread)
        else:
            nn.init.zeros_(self.head.bias)
            nn.init.normal_(self.head.weight, std=spread)

    def features(self, z: Float[Tensor, "*b m"]) -> Float[Tensor, "*b e"]:
        """Return the generator's last hidden layer, which the head maps to weights.

        Args:
            z: codes; with chunks, followed by the vector of a piece.
        """
        checks.tensor("z", z, floating=True)
        width = self.embed_dim + (0 if self.chunks is None else self.chunks.shape[1])
        if z.ndim == 0 or z.shape[-1] != width:
            raise ValueError(f"z must have {width} columns, got shape {tuple(z.shape)}")
        for layer in self._affine():
            z = F.relu(layer(z))
        return z

    def weights(self, z: Float[Tensor, "b m"]) -> Float[Tensor, "b p"]:
        """Return the numbers of a main network for each code.

        Args:
            z: one code a row.
        """
        checks.tensor("z", z, shape=("b", self.embed_dim), floating=True)
        if self.chunks is not None:  # eq. hypernetwork-chunks: b pieces m
            pieces = self.chunks.expand(len(z), -1, -1)
            z = torch.cat([z[:, None].expand(-1, len(self.chunks), -1), pieces], 2)
        written = self.head(self.features(z))
        if self.chunks is not None:
            written = written.flatten(1)[:, : self.num_generated]
        return written * self.scale  # eq. hypernetwork-generate

    def forward(
        self, z: Float[Tensor, "b m"], x: Float[Tensor, "... n d"]
    ) -> Float[Tensor, "b n o"]:
        """Return the answers of the main network of each code.

        Args:
            z: one code a row.
            x: the points that each main network reads, b n d; or n d, the same for all.
        """
        theta = self.weights(z)
        return generated_mlp(theta, x, self.layer_sizes, self.activation)

    def _affine(self) -> list[nn.Linear]:
        return [cast("nn.Linear", layer) for layer in self.layers]

    def extra_repr(self) -> str:
        """Return the main network, for printing."""
        return f"{self.embed_dim} -> {self.num_generated} numbers of {self.layer_sizes}"


def remembering_loss(
    model: HyperNetwork, z: Float[Tensor, "b m"], theta: Float[Tensor, "b p"]
) -> Float[Tensor, ""]:
    r"""Return how far the weights of old tasks have moved (equation `hypernetwork-remember`).

    $\frac1T \sum_t \lVert h_{\boldsymbol\psi}(\mathbf{z}_t) - \boldsymbol\theta_t \rVert^2$: added
    to the loss of a new task, it keeps the old ones without any of their data.

    Args:
        model: whose weights are learned on.
        z: the codes of the tasks that are to be kept, one or more.
        theta: what the model wrote for them when they had been learned.

    Example:
        >>> model, z = HyperNetwork(2, [3, 1]), torch.randn(4, 2)
        >>> remembering_loss(model, z, model.weights(z).detach()).item()
        0.0

    Source: von Oswald et al. 2020.
    """
    if not isinstance(model, HyperNetwork):
        raise TypeError(f"model must be a HyperNetwork, got {type(model).__name__}")
    checks.tensor("z", z, shape=("b", model.embed_dim), floating=True, empty=False)
    checks.tensor("theta", theta, shape=(len(z), model.num_generated), floating=True)
    return (
        (model.weights(z) - theta).square().sum(1).mean()
    )  # eq. hypernetwork-remember
