r"""Two parts of Rainbow: weights that are noisy, and values that are distributions.

Axes: b states, d inputs, c outputs, k atoms of a distribution.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.types import Device

from nnlib import checks


class NoisyLinear(nn.Module):
    r"""An affine map whose weights are noisy, by as much as training finds useful.

    $y = (M + \Sigma \odot E)\, x + (m + s \odot \epsilon)$ (equation `dqn-noisy`), where $M$,
    $\Sigma$, $m$ and $s$ are learned and $E_{ij} = f(\epsilon_i) f(\epsilon'_j)$,
    $f(z) = \operatorname{sgn}(z) \sqrt{|z|}$, is drawn anew by `redraw`. In evaluation mode the
    noise is off.

    Args:
        in_features: width of the input.
        out_features: width of the output.
        noise: the noise begins with this over the root of `in_features`.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> NoisyLinear(3, 2).eval()(torch.zeros(5, 3)).shape
        torch.Size([5, 2])

    Source: Fortunato et al. 2017.
    """

    drawn_in: Tensor
    drawn_out: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        noise: float = 0.5,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.in_features = checks.count("in_features", in_features)
        self.out_features = checks.count("out_features", out_features)
        self.noise = checks.number("noise", noise, least=0)

        def empty(*shape: int) -> Tensor:
            return torch.empty(shape, device=device, dtype=dtype)

        self.weight = nn.Parameter(empty(out_features, in_features))
        self.bias = nn.Parameter(empty(out_features))
        self.weight_noise = nn.Parameter(empty(out_features, in_features))
        self.bias_noise = nn.Parameter(empty(out_features))
        self.register_buffer("drawn_in", empty(in_features))
        self.register_buffer("drawn_out", empty(out_features))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the means anew, and the noise."""
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        nn.init.constant_(self.weight_noise, self.noise * bound)
        nn.init.constant_(self.bias_noise, self.noise * bound)
        self.redraw()

    @torch.no_grad()
    def redraw(self, generator: torch.Generator | None = None) -> None:
        """Draw the noise anew, as is done before each batch and each action."""
        for drawn in (self.drawn_in, self.drawn_out):
            drawn.normal_(generator=generator)
            drawn.copy_(drawn.sign() * drawn.abs().sqrt())

    def forward(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b c"]:
        """Return the noisy map of each row."""
        checks.tensor("x", x, floating=True)
        if x.ndim == 0 or x.shape[-1] != self.in_features:
            wanted = f"in_features={self.in_features}"
            raise ValueError(
                f"x must have {wanted} columns, got shape {tuple(x.shape)}"
            )
        if not self.training:
            return F.linear(x, self.weight, self.bias)
        noise = torch.outer(self.drawn_out, self.drawn_in)
        weight = self.weight + self.weight_noise * noise
        return F.linear(
            x, weight, self.bias + self.bias_noise * self.drawn_out
        )  # eq. dqn-noisy


def categorical_target(
    probabilities: Float[Tensor, "b k"],
    rewards: Float[Tensor, " b"],
    terminated: Tensor,
    discounts: Float[Tensor, " b"],
    support: Float[Tensor, " k"],
) -> Float[Tensor, "b k"]:
    r"""Return the distribution of $r + \gamma Z$, put back on the atoms of `support`.

    Each atom is moved to $r + \gamma z_j$, brought into range, and its probability is divided
    between the two atoms beside it, the nearer getting more (equation `dqn-categorical`). Where
    nothing was cut off, the mean is exactly $r + \gamma\, \mathbb{E}[Z]$.

    Args:
        probabilities: of the best next action, on the atoms.
        rewards: of the steps.
        terminated: True where nothing comes after.
        discounts: γ, or γⁿ, a number a row.
        support: the atoms, two or more, in equal steps upwards.

    Example:
        >>> support = torch.tensor([0.0, 1.0, 2.0])
        >>> here, going, half = torch.ones(1), torch.tensor([False]), torch.tensor([0.5])
        >>> categorical_target(torch.tensor([[0.0, 1.0, 0.0]]), here, going, half, support)
        tensor([[0.0000, 0.5000, 0.5000]])

    Source: Bellemare, Dabney and Munos 2017.
    """
    checks.tensor("support", support, shape=("k",), floating=True, finite=True)
    steps = support.diff()
    even = (
        len(steps) > 0
        and bool((steps > 0).all())
        and bool(torch.isclose(steps, steps.mean(), rtol=1e-3).all())
    )
    if not even:
        raise ValueError("support must hold two atoms or more, in equal steps upwards")
    checks.tensor("rewards", rewards, shape=("b",), floating=True, finite=True)
    shape = (len(rewards), len(support))
    checks.tensor(
        "probabilities", probabilities, shape=shape, floating=True, finite=True
    )
    checks.key_mask("terminated", terminated, shape[:1])
    checks.tensor("discounts", discounts, shape=shape[:1], floating=True, finite=True)
    moved = rewards[:, None] + (discounts * ~terminated)[:, None] * support
    moved = moved.clamp(support[0].item(), support[-1].item())
    distance = (moved[:, :, None] - support).abs() / steps[0]
    share = (1 - distance).clamp(min=0)  # of atom j for atom i
    return torch.einsum("bj,bji->bi", probabilities, share)  # eq. dqn-categorical
