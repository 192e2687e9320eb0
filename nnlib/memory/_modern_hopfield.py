r"""Modern Hopfield networks with continuous states, whose update is a step of attention.

Axes: p patterns, q queries, b bags, d width.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.kernels.attention import attention, attention_reference


def modern_hopfield(
    patterns: Float[Tensor, "p d"],
    query: Float[Tensor, "*q d"],
    beta: float,
    *,
    num_steps: int = 1,
) -> Float[Tensor, "*q d"]:
    r"""Recall: each query becomes the mean of the patterns, weighted by how alike they are.

    $\boldsymbol{\xi} \leftarrow \boldsymbol{\Xi}^\top \mathrm{softmax}(\beta\,\boldsymbol{\Xi}
    \boldsymbol{\xi})$ (equation `hopfield-attention`), attention whose keys and values are both
    the patterns. It never raises `modern_hopfield_energy`. Runs on the kernel `attention`, in
    float64 on its readable reference; gradients flow to patterns and queries.

    Args:
        patterns: what is stored, one a row; any numbers.
        query: states to begin with.
        beta: inverse temperature > 0: small ones average over all patterns, large ones pick one.
        num_steps: updates, ≥ 1; where patterns lie well apart, one is enough.

    Returns:
        The states after the updates.

    Example:
        >>> patterns = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])
        >>> query = torch.tensor([[1.0, 0.0, -1.0, -1.0]])
        >>> modern_hopfield(patterns, query, beta=4.0).round()
        tensor([[ 1.,  1., -1., -1.]])

    Source: Ramsauer et al. 2021, who write patterns as columns $\mathbf{X}$.
    """
    _check(patterns, query)
    beta = checks.number("beta", beta, above=0)
    num_steps = checks.count("num_steps", num_steps)
    attend = attention_reference if query.dtype == torch.float64 else attention
    keys = patterns[None, None]
    state = query.reshape(1, 1, -1, query.shape[-1])
    for _ in range(num_steps):
        state = attend(state, keys, keys, scale=beta)  # eq. hopfield-attention
    return state.reshape(query.shape)


def modern_hopfield_energy(
    patterns: Float[Tensor, "p d"], state: Float[Tensor, "*q d"], beta: float
) -> Float[Tensor, "*q"]:
    r"""Return the energy that `modern_hopfield` descends; it is never below zero.

    $E = -\beta^{-1} \log \sum_\mu e^{\beta\,\boldsymbol{\xi}^\mu \cdot \boldsymbol{\xi}} +
    \tfrac12 \lVert\boldsymbol{\xi}\rVert^2 + \beta^{-1} \log p + \tfrac12 M^2$ with $M$ the
    length of the longest pattern (equation `hopfield-modern-energy`).

    Args:
        patterns: what is stored, one a row.
        state: of which the energy is asked.
        beta: inverse temperature > 0.

    Example:
        >>> modern_hopfield_energy(torch.eye(2), torch.eye(2), beta=1.0)
        tensor([0.3799, 0.3799])

    Source: Ramsauer et al. 2021, equation 2.
    """
    _check(patterns, state, "state")
    beta = checks.number("beta", beta, above=0)
    alike = (beta * state @ patterns.mT).logsumexp(-1)  # eq. hopfield-lse
    longest = patterns.square().sum(-1).amax()
    constant = math.log(len(patterns)) / beta + longest / 2
    return state.square().sum(-1) / 2 - alike / beta + constant


def separation(patterns: Float[Tensor, "p d"]) -> Float[Tensor, " p"]:
    r"""Return how far each pattern's product with itself stands above that with any other.

    $\Delta_\mu = \boldsymbol{\xi}^\mu \cdot \boldsymbol{\xi}^\mu - \max_{\nu \ne \mu}
    \boldsymbol{\xi}^\mu \cdot \boldsymbol{\xi}^\nu$ (equation `hopfield-separation`). An update
    that begins at a pattern leaves it by at most $2M(p - 1)\,e^{-\beta\Delta_\mu}$, with $M$ the
    length of the longest (`hopfield-retrieval`).

    Args:
        patterns: two or more, one a row.

    Example:
        >>> separation(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
        tensor([4., 1.])

    Source: Ramsauer et al. 2021, definition 2.
    """
    checks.tensor("patterns", patterns, shape=("p", "d"), floating=True, finite=True)
    if len(patterns) < 2:
        raise ValueError(f"patterns must hold two or more, got {tuple(patterns.shape)}")
    alike = patterns @ patterns.mT
    own = alike.diagonal()
    same = torch.eye(len(alike), dtype=torch.bool, device=alike.device)
    others = alike.masked_fill(same, -torch.inf)
    return own - others.amax(-1)  # eq. hopfield-separation


class HopfieldPooling(nn.Module):
    r"""A layer that learns what to ask a bag of instances for, and returns what it finds.

    Keys and values are linear maps of the instances, the queries $\mathbf{Q}$ are learned, and
    the answer is $\mathrm{softmax}(\beta\,\mathbf{Q}\mathbf{K}^\top)\,\mathbf{V}$, one update of
    a modern Hopfield network in which the bag is what is stored (equation `hopfield-pooling`).

    Args:
        embed_dim: width of an instance, ≥ 1.
        num_queries: how many questions are learned, ≥ 1.
        beta: inverse temperature > 0; None: one over the root of `embed_dim`.
        device: of the weights.
        dtype: of the weights.

    Returns:
        Called with `(bags, key_mask=None)`, bags b n d and True at real instances: b q d.

    Example:
        >>> HopfieldPooling(8, num_queries=2)(torch.randn(3, 50, 8)).shape
        torch.Size([3, 2, 8])

    Source: Ramsauer et al. 2021, section 3; for immune repertoires: Widrich et al. 2020.
    """

    def __init__(
        self,
        embed_dim: int,
        num_queries: int = 1,
        beta: float | None = None,
        *,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.embed_dim = checks.count("embed_dim", embed_dim)
        self.num_queries = checks.count("num_queries", num_queries)
        fallback = embed_dim**-0.5
        self.beta = fallback if beta is None else checks.number("beta", beta, above=0)
        self.query = nn.Parameter(
            torch.empty(num_queries, embed_dim, device=device, dtype=dtype)
        )
        self.key_proj = nn.Linear(embed_dim, embed_dim, device=device, dtype=dtype)
        self.value_proj = nn.Linear(embed_dim, embed_dim, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        nn.init.normal_(self.query)
        self.key_proj.reset_parameters()
        self.value_proj.reset_parameters()

    def forward(
        self, bags: Float[Tensor, "b n d"], key_mask: Bool[Tensor, "b n"] | None = None
    ) -> Float[Tensor, "b q d"]:
        """Return what each query finds in each bag."""
        shape = ("b", "n", self.embed_dim)
        b, n, _ = checks.tensor("bags", bags, shape=shape, floating=True).shape
        if key_mask is not None:
            checks.key_mask("key_mask", key_mask, (b, n))
        keys, values = self.key_proj(bags)[:, None], self.value_proj(bags)[:, None]
        queries = self.query.expand(b, 1, -1, -1)
        found = attention(queries, keys, values, scale=self.beta, key_mask=key_mask)
        return found[:, 0]  # eq. hopfield-pooling


def _check(patterns: Tensor, query: Tensor, name: str = "query") -> None:
    checks.tensor("patterns", patterns, shape=("p", "d"), floating=True, finite=True)
    if not patterns.numel():
        told = tuple(patterns.shape)
        raise ValueError(f"patterns must hold at least one pattern, got {told}")
    checks.tensor(name, query, floating=True, finite=True)
    d = patterns.shape[1]
    if query.ndim == 0 or query.shape[-1] != d:
        raise ValueError(
            f"{name} must be as wide as patterns, {d}, got {tuple(query.shape)}"
        )
