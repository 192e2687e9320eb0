r"""Many small networks in place of one: a router picks a few of them for each token.

Chapter: chapters/language/mixture_of_experts.md     Papers: Shazeer et al. 2017; Lepikhin et al.
2020 (GShard); Fedus et al. 2021 (Switch); Zoph et al. 2022 (ST-MoE); Jiang et al. 2024 (Mixtral);
Dai et al. 2024 (shared experts); Wang et al. 2024 (balancing without a loss)
Axes: n tokens of the whole batch, e model width, f width of an expert, m experts, k experts for
each token, r what the router reads, c places of an expert.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from nnlib import checks
from nnlib.blocks.activations import ACTIVATIONS
from nnlib.kernels.swiglu import swiglu
from nnlib.language import _hugging_face_experts as theirs
from nnlib.language._expert_counts import Weights, moe_parameters
from nnlib.language._grouped import grouped_linear
from nnlib.language._routing import (
    Routing,
    at_most_all,
    balance_loss,
    checked_routing,
    expert_choice,
    router_z_loss,
)

__all__ = [
    "MixtureOfExperts",
    "Routing",
    "Weights",
    "balance_loss",
    "expert_choice",
    "grouped_linear",
    "moe_parameters",
    "recorded",
    "router_z_loss",
]

SWIGLU = "swiglu"


class MixtureOfExperts(nn.Module):
    r"""A layer of experts, of which each token visits k.

    $y = \sum_{i \in S(x)} w_i(x)\, \mathrm{FFN}_i(x)$, equation `mixture-of-experts-output`.

    Args:
        embed_dim: model width e, ≥ 1.
        dim_feedforward: hidden width f of an expert, ≥ 1.
        num_experts: experts m, ≥ 1.
        top_k: experts for each token k, 1 … m.
        score: "softmax" over all experts, or "sigmoid" of each (DeepSeek-V3).
        renormalize: whether the weights of the chosen are divided by their sum; with softmax, that
            is softmax over their logits alone.
        scale: what the weights are multiplied by in the end, > 0.
        activation: "swiglu", a gated expert, or a key of `nnlib.blocks.activations.ACTIVATIONS`.
        num_shared_experts: experts that every token visits, as one network so many times as wide.
        shared_gate: whether a sigmoid of its own multiplies what these give (Qwen).
        capacity_factor: places of an expert, in units of its fair share, > 0; whoever comes when
            they are taken is dropped. None: no limit.
        noisy: whether learned noise is added to the logits in training (Shazeer).
        balance_bias: whether a bias, moved by `adjust_bias`, is added to the scores for the choice.
        router_dim: width r of what the router reads; None is e, and it reads the token.
        device: of the weights.
        dtype: of the weights.

    Example:
        >>> moe = MixtureOfExperts(8, dim_feedforward=16, num_experts=4, top_k=2)
        >>> x = torch.zeros(2, 5, 8)
        >>> moe(x).shape, moe.routed(x)[1].experts.shape
        (torch.Size([2, 5, 8]), torch.Size([10, 2]))

    Source: Shazeer et al. 2017; Fedus et al. 2021, whose N is our m.
    """

    choice_bias: Tensor | None

    def __init__(
        self,
        embed_dim: int,
        dim_feedforward: int,
        num_experts: int,
        top_k: int = 2,
        *,
        score: str = "softmax",
        renormalize: bool = True,
        scale: float = 1.0,
        activation: str = SWIGLU,
        num_shared_experts: int = 0,
        shared_gate: bool = False,
        capacity_factor: float | None = None,
        noisy: bool = False,
        balance_bias: bool = False,
        router_dim: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        e = checks.count("embed_dim", embed_dim)
        f = checks.count("dim_feedforward", dim_feedforward)
        self.num_experts = m = checks.count("num_experts", num_experts)
        self.top_k = at_most_all(top_k, m)
        self.score = checks.one_of("score", score, ("softmax", "sigmoid"))
        self.renormalize = checks.flag("renormalize", renormalize)
        self.scale = checks.number("scale", scale, above=0)
        self.activation = checks.one_of(
            "activation", activation, (SWIGLU, *ACTIVATIONS)
        )
        shared = checks.count("num_shared_experts", num_shared_experts, least=0)
        if checks.flag("shared_gate", shared_gate) and not shared:
            raise ValueError("shared_gate=True needs num_shared_experts ≥ 1")
        self.capacity_factor = (
            None
            if capacity_factor is None
            else checks.number("capacity_factor", capacity_factor, above=0)
        )
        r = e if router_dim is None else checks.count("router_dim", router_dim)
        like: dict[str, Any] = {"device": device, "dtype": dtype}
        rows = 2 * f if activation == SWIGLU else f
        self.router = nn.Linear(r, m, bias=False, **like)
        self.noise = (
            nn.Linear(r, m, bias=False, **like) if checks.flag("noisy", noisy) else None
        )
        self.in_proj = nn.Parameter(torch.empty(m, rows, e, **like))
        self.out_proj = nn.Parameter(torch.empty(m, e, f, **like))
        self.shared_in_proj = (
            nn.Linear(e, shared * rows, False, **like) if shared else None
        )
        self.shared_out_proj = (
            nn.Linear(shared * f, e, False, **like) if shared else None
        )
        self.shared_gate = nn.Linear(e, 1, bias=False, **like) if shared_gate else None
        bias = (
            torch.zeros(m, **like)
            if checks.flag("balance_bias", balance_bias)
            else None
        )
        self.register_buffer("choice_bias", bias)
        self._heard: list[Routing] | None = None  # by `recorded`
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights: of experts as `torch.nn.Linear` has them, of a router much smaller.

        A router that begins undecided, σ = 0.1/√r, lets every expert see some of everything.
        """
        for name, weight in self.named_parameters():
            root = weight.shape[-1] ** -0.5
            if name == "router.weight":
                nn.init.normal_(weight, std=0.1 * root)
            elif name == "noise.weight":
                nn.init.zeros_(weight)  # none is noisier than another at first
            else:
                nn.init.uniform_(weight, -root, root)
        if self.choice_bias is not None:
            self.choice_bias.zero_()

    def forward(
        self, x: Float[Tensor, "*b e"], read: Float[Tensor, "*b r"] | None = None
    ) -> Float[Tensor, "*b e"]:
        """Return what the experts of each token make of it.

        Args:
            x: vectors, one a token.
            read: what the router reads; None is x.
        """
        return self.routed(x, read)[0]

    def routed(
        self, x: Float[Tensor, "*b e"], read: Float[Tensor, "*b r"] | None = None
    ) -> tuple[Float[Tensor, "*b e"], Routing]:
        """Return the output and the routing that it came from, which the losses take.

        Args:
            x: vectors, one a token.
            read: what the router reads; None is x.
        """
        e, r = self.in_proj.shape[-1], self.router.in_features
        _vectors("x", x, e)
        if read is None and r != e:
            raise ValueError(f"read must be given: router_dim={r}, x has width {e}")
        if read is not None and (_vectors("read", read, r).shape[:-1] != x.shape[:-1]):
            raise ValueError(
                f"read must have x's shape but for the width, {tuple(x.shape)}, "
                f"got {tuple(read.shape)}"
            )
        tokens = x.reshape(-1, e)
        routing = self.route(tokens if read is None else read.reshape(-1, r))
        if self._heard is not None:
            self._heard.append(routing)
        if self.capacity_factor is None:
            y = self._by_groups(tokens, routing)
        else:
            y = self._by_places(tokens, routing)
        if self.shared_in_proj is not None and self.shared_out_proj is not None:
            y = y + self._shared(tokens)  # eq. mixture-of-experts-shared
        return y.view(x.shape), routing

    def route(self, read: Float[Tensor, "n r"]) -> Routing:
        """Choose k experts for each token, and what their outputs are multiplied by.

        Args:
            read: what the router reads of each token.
        """
        checks.tensor("read", read, shape=("n", self.router.in_features), floating=True)
        logits = self.router(read)  # eq. mixture-of-experts-logits
        if logits.dtype in (torch.float16, torch.bfloat16):
            logits = logits.float()  # the choice is too delicate for halves
        if self.noise is not None and self.training:  # eq. mixture-of-experts-noise
            spread = F.softplus(self.noise(read)).to(logits.dtype)
            logits = logits + torch.randn_like(logits) * spread
        if self.score == "softmax":
            scores = logits.softmax(-1)  # eq. mixture-of-experts-probabilities
            probabilities = scores
        else:
            scores = logits.sigmoid()  # eq. mixture-of-experts-sigmoid
            probabilities = scores / scores.sum(-1, keepdim=True).clamp(min=1e-20)
        if self.choice_bias is None:
            weights, experts = scores.topk(self.top_k)
        else:  # eq. mixture-of-experts-bias: the bias decides who, not how much
            experts = (scores + self.choice_bias).topk(self.top_k).indices
            weights = scores.gather(-1, experts)
        if self.renormalize:  # eq. mixture-of-experts-renormalised
            weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-20)
        kept = torch.ones_like(experts, dtype=torch.bool)
        if self.capacity_factor is not None:
            kept = _rank(experts, self.num_experts) < self.capacity(len(read))
        weights = torch.where(kept, weights * self.scale, 0)
        return Routing(logits, probabilities, experts, weights, kept)

    def capacity(self, num_tokens: int) -> int:
        """Return the places of each expert in a batch: equation `mixture-of-experts-capacity`.

        Without a factor that is all tokens.

        Args:
            num_tokens: tokens of the batch n, ≥ 0.
        """
        n = checks.count("num_tokens", num_tokens, least=0)
        if self.capacity_factor is None:
            return n
        fair = n * self.top_k / self.num_experts
        return min(n, math.ceil(self.capacity_factor * fair - 1e-9))

    @torch.no_grad()
    def adjust_bias(self, routing: Routing, rate: float = 1e-3) -> None:
        """Raise the bias of experts with less than their fair share of a batch, lower the others'.

        Equation `mixture-of-experts-bias-step`; call it after each step of the optimizer.

        Args:
            routing: of the batch.
            rate: of the change γ, ≥ 0.

        Raises:
            RuntimeError: the layer was made without `balance_bias`.

        Source: Wang et al. 2024; DeepSeek-V3 has γ = 0.001.
        """
        rate = checks.number("rate", rate, least=0)
        checked_routing(routing, self.num_experts)
        if self.choice_bias is None:
            raise RuntimeError(
                "there is no bias to adjust: make it with balance_bias=True"
            )
        load = routing.load().to(self.choice_bias)
        self.choice_bias += rate * (1 / self.num_experts - load).sign()

    def _by_groups(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the experts' sum with the tokens sorted by expert: no place is left empty."""
        flat = routing.experts.flatten()
        order = flat.argsort(stable=True)
        tokens = order // self.top_k
        numbers = torch.arange(self.num_experts, device=x.device)
        ends = torch.searchsorted(flat[order], numbers, right=True, out_int32=True)
        hidden = self._activated(grouped_linear(x[tokens], self.in_proj, ends))
        weights = routing.weights.flatten()[order, None].to(x.dtype)
        out = grouped_linear(hidden * weights, self.out_proj, ends)
        return torch.zeros_like(x).index_add(0, tokens, out)

    def _by_places(self, x: Tensor, routing: Routing) -> Tensor:
        """Return the experts' sum from a fixed number of places each: shapes that never change."""
        places = self.capacity(len(x))
        if places == 0:
            return torch.zeros_like(x)
        rank = _rank(routing.experts, self.num_experts)
        trash = self.num_experts * places  # one row more, for the dropped
        at = torch.where(routing.kept, routing.experts * places + rank, trash).flatten()
        tokens = torch.arange(len(at), device=x.device) // self.top_k
        seats = x.new_zeros(trash + 1, x.shape[1]).index_copy(0, at, x[tokens])
        seats = seats[:-1].view(self.num_experts, places, -1)
        out = self._activated(seats @ self.in_proj.mT) @ self.out_proj.mT
        out = F.pad(out.flatten(0, 1), (0, 0, 0, 1))[at]
        weights = routing.weights.flatten()[:, None].to(x.dtype)
        return (out * weights).view(len(x), self.top_k, -1).sum(1)

    def _shared(self, x: Tensor) -> Tensor:
        assert self.shared_in_proj is not None and self.shared_out_proj is not None
        y = self.shared_out_proj(self._activated(self.shared_in_proj(x)))
        return y if self.shared_gate is None else self.shared_gate(x).sigmoid() * y

    def _activated(self, hidden: Tensor) -> Tensor:
        """Return the hidden units; of gated experts the gate's sums stand first."""
        if self.activation == SWIGLU:
            return swiglu(*hidden.chunk(2, -1))
        return ACTIVATIONS[self.activation](hidden)

    @classmethod
    def from_hugging_face(
        cls, model_or_path: nn.Module | tuple[Mapping[str, Tensor], Any]
    ) -> "MixtureOfExperts":
        """Return a sparse block of `transformers` with its weights, in evaluation mode.

        Of Mixtral, OLMoE, Qwen 2, Qwen 3 and DeepSeek-V3: what stands in place of a decoder's
        feed-forward network. The number type is kept.

        Args:
            model_or_path: the block, or a pair: its tensors by name, and what its model's
                configuration says, with `model_type`.

        Raises:
            ValueError: another block, an option that ours lacks, or a tensor that is missing, left
                over or of another shape; named.
        """
        options, tensors = theirs.read(model_or_path)
        dtypes = {
            value.dtype for name, value in tensors.items() if name != "choice_bias"
        }
        made = cls(**options, dtype=dtypes.pop() if len(dtypes) == 1 else None)
        theirs.load(made, tensors)
        return made.eval()

    def extra_repr(self) -> str:
        """Return the arguments, for printing."""
        e, f = self.out_proj.shape[1:]
        return f"{e}, {f}, num_experts={self.num_experts}, top_k={self.top_k}"


@contextmanager
def recorded(model: nn.Module) -> Iterator[list[Routing]]:
    """Collect the routings of all layers of experts in a model while it computes.

    Args:
        model: what holds the layers, at any depth.

    Example:
        >>> model = nn.Sequential(MixtureOfExperts(8, 16, 4), MixtureOfExperts(8, 16, 4))
        >>> with recorded(model) as routings:
        ...     y = model(torch.zeros(3, 8))
        >>> len(routings), sum(balance_loss(routing) for routing in routings).shape
        (2, torch.Size([]))
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    layers = [part for part in model.modules() if isinstance(part, MixtureOfExperts)]
    heard: list[Routing] = []
    before = [layer._heard for layer in layers]
    for layer in layers:
        layer._heard = heard
    try:
        yield heard
    finally:
        for layer, earlier in zip(layers, before, strict=True):
            layer._heard = earlier


def _rank(experts: Tensor, num_experts: int) -> Tensor:
    """Return how many choices stand before each in its expert's queue.

    First choices of all tokens come before second ones, as GShard has it.
    """
    n, k = experts.shape
    flat = experts.T.flatten()
    order = flat.argsort(stable=True)
    numbers = torch.arange(num_experts, device=flat.device)
    starts = torch.searchsorted(flat[order], numbers)
    place = torch.arange(n * k, device=flat.device)
    rank = torch.empty_like(flat).scatter(0, order, place - starts[flat[order]])
    return rank.view(k, n).T


def _vectors(name: str, value: Tensor, width: int) -> Tensor:
    checks.tensor(name, value, floating=True)
    if value.ndim < 1 or value.shape[-1] != width:
        raise ValueError(
            f"{name} must have shape (…, {width}), got {tuple(value.shape)}"
        )
    return value
