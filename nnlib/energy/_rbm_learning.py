"""How a restricted Boltzmann machine is fitted: contrastive divergence, plain or persistent.

`fit_by_steps` is the readable form, a loop of `cd_step`. `_fit_bits` computes the same numbers in a
third of the time for binary units: data and particles lie in one matrix with a column of ones, so
that one product gives all hidden inputs, and one more all changes of weights and hidden biases.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks
from nnlib.energy._bipartite import Bipartite
from nnlib.train.batches import Batches


@dataclass(frozen=True)
class Recipe:
    """How `fit` learns.

    Args:
        steps: in all, ≥ 1.
        batch_size: examples a step, and chains, ≥ 1.
        lr: learning rate at the beginning, > 0.
        k: steps of Gibbs sampling before each update, ≥ 1.
        persistent: whether the chains go on from step to step, or begin anew at the batch.
        momentum: share of the last update that is kept, 0 ≤ momentum < 1.
        weight_decay: pull of the weights, not of the biases, towards zero, ≥ 0.
        anneal: whether the rate falls to zero along a line; persistent chains need that.
        seed: of the data's order and of the chains, ≥ 0.
    """

    steps: int = 1000
    batch_size: int = 64
    lr: float = 0.1
    k: int = 1
    persistent: bool = True
    momentum: float = 0.0
    weight_decay: float = 0.0
    anneal: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "k"):
            checks.count(name, getattr(self, name))
        checks.count("seed", self.seed, least=0)
        for name in ("persistent", "anneal"):
            checks.flag(name, getattr(self, name))
        checks.number("lr", self.lr, above=0)
        checks.number("momentum", self.momentum, least=0, below=1)
        checks.number("weight_decay", self.weight_decay, least=0)

    def batches(self, data: Tensor) -> Iterator[tuple[Tensor, float]]:
        """Yield each batch with the learning rate of its step."""
        batches = Batches((data,), self.batch_size, steps=self.steps, seed=self.seed)
        for (batch,) in batches:
            left = 1 - (batches.step - 1) / self.steps
            yield batch, self.lr * (left if self.anneal else 1)

    def generator(self, data: Tensor) -> torch.Generator:
        """Return the source of the chains' randomness."""
        return torch.Generator(data.device).manual_seed(self.seed)


def fit(
    rbm: Bipartite,
    data: Float[Tensor, "n v"],
    recipe: Recipe,
    chains: Float[Tensor, "m h"] | None = None,
) -> Float[Tensor, "m h"]:
    """Fit `rbm` in place; the same seed gives the same numbers on a CPU.

    Args:
        rbm: the machine.
        data: a row an example.
        recipe: how.
        chains: hidden bits where persistent chains begin, one for each example of a batch.
    """
    if chains is not None:
        rows = min(recipe.batch_size, len(data))
        checks.tensor("chains", chains, shape=(rows, rbm.hidden), floating=True)
        if not recipe.persistent:
            raise ValueError("chains: with persistent=False they begin at the batch")
    way = _fit_bits if rbm.sums_over_visible else fit_by_steps
    return way(rbm, data, recipe, chains)


def fit_by_steps(
    rbm: Bipartite,
    data: Float[Tensor, "n v"],
    recipe: Recipe,
    chains: Float[Tensor, "m h"] | None = None,
) -> Float[Tensor, "m h"]:
    """Fit `rbm` by calls of `cd_step`: the readable twin of the fast form."""
    biases: dict[str, Any] = {"params": [rbm.visible_bias, rbm.hidden_bias]}
    weights: dict[str, Any] = {
        "params": [rbm.weight],
        "weight_decay": recipe.weight_decay,
    }
    optimizer = torch.optim.SGD([weights, biases], momentum=recipe.momentum)
    generator = recipe.generator(data)
    for batch, lr in recipe.batches(data):
        for group in optimizer.param_groups:
            group["lr"] = lr
        chains = rbm.cd_step(
            batch,
            optimizer,
            k=recipe.k,
            chains=chains if recipe.persistent else None,
            generator=generator,
        )
    assert chains is not None  # there is one step at least
    return chains


@torch.no_grad()
def _fit_bits(
    rbm: Bipartite,
    data: Float[Tensor, "n v"],
    recipe: Recipe,
    start: Float[Tensor, "m h"] | None = None,
) -> Float[Tensor, "m h"]:
    n, v = min(recipe.batch_size, len(data)), rbm.visible
    like: dict[str, Any] = {"dtype": rbm.weight.dtype, "device": rbm.weight.device}
    table = torch.cat(
        [rbm.weight, rbm.hidden_bias[None]]
    )  # the biases are its last row
    bias = rbm.visible_bias.clone()
    rows = torch.ones(2 * n, v + 1, **like)  # the batch, then the particles
    given, particles = rows[:n, :v], rows[n:, :v]
    probs = torch.empty(2 * n, rbm.hidden, **like)
    positive, negative = probs[:n], probs[n:]
    drive, chains = torch.empty(n, v, **like), torch.empty(n, rbm.hidden, **like)
    dice_v, dice_h = torch.empty_like(drive), torch.empty_like(chains)
    signs = torch.ones(2 * n, **like)
    signs[n:] = -1
    moved, moved_bias = torch.zeros_like(table), torch.zeros_like(bias)
    generator, fresh = recipe.generator(data), start is None
    if start is not None:
        chains.copy_(start)
    for batch, lr in recipe.batches(data):
        given.copy_(batch)
        if fresh:
            torch.mm(rows[:n], table, out=positive).sigmoid_()
            torch.lt(dice_h.uniform_(generator=generator), positive, out=chains)
            fresh = not recipe.persistent
        for at in range(recipe.k):
            torch.addmm(bias, chains, table[:v].T, out=drive).sigmoid_()
            torch.lt(dice_v.uniform_(generator=generator), drive, out=particles)
            last = at == recipe.k - 1
            if last and recipe.persistent:  # data and particles at once
                torch.mm(rows, table, out=probs).sigmoid_()
            else:
                torch.mm(rows[n:], table, out=negative).sigmoid_()
            torch.lt(dice_h.uniform_(generator=generator), negative, out=chains)
        negative.neg_()
        moved.addmm_(rows.T, probs, beta=recipe.momentum, alpha=1 / n)
        moved_bias.addmv_(rows[:, :v].T, signs, beta=recipe.momentum, alpha=1 / n)
        if recipe.weight_decay:
            moved[:v].sub_(table[:v], alpha=recipe.weight_decay)
        table.add_(moved, alpha=lr)
        bias.add_(moved_bias, alpha=lr)
    rbm.weight.copy_(table[:v])
    rbm.hidden_bias.copy_(table[v])
    rbm.visible_bias.copy_(bias)
    return chains
