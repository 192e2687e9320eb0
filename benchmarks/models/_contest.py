"""Sides that do the same work: what is timed, and what shows that the work is the same."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

SEED = 0

Side = tuple[nn.Module, Callable[[nn.Module], Tensor]]  # a module, and its loss
Size = dict[str, int]


class Case(NamedTuple):
    """What a file lists under a name: how to build its contests, and their sizes, smallest first.

    Sizes go by letter: b batch, t tokens or steps, e width, h heads, L layers, v vocabulary; of
    what walks through time: d features of the input, e width of an embedding, h units of the
    state; of what sees pictures: s pixels of a side; of flows: d features, h hidden units;
    of graphs: n nodes, e edges, d features; g intervals of a grid.
    """

    build: Callable[[Size, torch.device, torch.dtype], list["Contest"]]
    cpu: list[Size]
    gpu: list[Size]


def sized(letters: str, *sizes: tuple[int, ...]) -> list[Size]:
    """Return sizes by letter."""
    return [dict(zip(letters, size, strict=True)) for size in sizes]


@dataclass
class Contest:
    """One row: what is timed, on which shape, by whom; and what shows that the work is the same.

    Args:
        what: the row's name.
        shape: its sizes, by letter.
        runs: a function for each side; the first is nnlib's.
        results: for some of the sides, what they compute: tensors by name, to be compared.
    """

    what: str
    shape: dict[str, int]
    runs: dict[str, Callable[[], Any]]
    results: dict[str, Callable[[], dict[str, Tensor]]] = field(default_factory=dict)


class Pair:
    """Two modules that map the same input to the same output, forwards and backwards."""

    def __init__(
        self, x: Tensor, mine, peer, my_module: nn.Module, peer_module: nn.Module,
        name: str = "torch.nn",
    ):  # fmt: skip
        self.x, self.weight = x, torch.randn_like(x)
        self.calls = {"nnlib": (mine, my_module), name: (peer, peer_module)}

    def contest(self, what: str, size: dict[str, int]) -> Contest:
        def both_ways(call, module):
            y = call()
            wanted = [self.x, *module.parameters()]
            return y, torch.autograd.grad(y, wanted, self.weight)

        def named(call, module):
            y, (dx, *grads) = both_ways(call, module)
            told = {name: g for (name, _), g in zip(module.named_parameters(), grads, strict=True)}
            return {"y": y, "dx": dx, **told}

        runs = {n: lambda a=pair: both_ways(*a) for n, pair in self.calls.items()}
        results = {n: lambda a=pair: named(*a) for n, pair in self.calls.items()}
        return Contest(what, size, runs, results)


def training(
    what: str,
    size: dict[str, int],
    peer: str,
    *sides: Side,
    others: dict[str, Side] | None = None,
) -> Contest:
    """Return the contest of training steps.

    Args:
        what: the row's name.
        size: its sizes.
        peer: the name of the second of `sides`.
        sides: nnlib's, and the peer's where there is one.
        others: further forms of the same work, by name.
    """
    runs, results = {}, {}
    named = dict(zip(("nnlib", peer), sides, strict=False))
    for name, (module, loss) in (others or {}).items():  # often nnlib's module, used otherwise
        named[name] = copy.deepcopy(module), loss
    for name, side in named.items():
        runs[name], results[name] = step_of(*side)
    return Contest(what, size, runs, results)


def step_of(module: nn.Module, loss: Callable[[nn.Module], Tensor]):
    """Return a training step, and what tells the loss and its gradient."""
    twin = copy.deepcopy(module)  # stays as it is, so that results may be asked for again
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        value = loss(module)
        value.backward()
        optimizer.step()

    def told():
        twin.zero_grad(set_to_none=True)
        value = loss(twin)
        value.backward()
        norm = torch.stack([p.grad.norm() for p in twin.parameters() if p.grad is not None])
        return {"loss": value.detach(), "length of the gradient": norm.norm()}

    return step, told


def generating(
    what: str, size: dict[str, int], mine: nn.Module, peer: nn.Module, ids: Tensor, new: int
) -> Contest:
    """Return the contest of greedy generation of so many tokens, ours with and without a cache.

    Args:
        what: the row's name.
        size: its sizes.
        mine: a model of nnlib.
        peer: the same of transformers.
        ids: prompts.
        new: tokens to add.
    """
    settings = {"do_sample": False, "max_new_tokens": new, "min_new_tokens": new}
    settings |= {"pad_token_id": 0, "eos_token_id": None, "attention_mask": torch.ones_like(ids)}
    runs = {
        "nnlib": lambda: mine.generate(ids, new, temperature=0),
        "transformers": lambda: peer.generate(ids, **settings),
        "nnlib without a cache": lambda: mine.generate(ids, new, temperature=0, use_cache=False),
    }
    if next(mine.parameters()).dtype == torch.bfloat16:  # where a rounding may turn an argmax
        return Contest(what, size, runs)
    return Contest(
        what, size, runs, {name: (lambda run=run: {"y": run()}) for name, run in runs.items()}
    )


def hold_equal(contest: Contest, dtype: torch.dtype) -> None:
    """Raise AssertionError unless all sides compute the same."""
    tolerance = (
        {"rtol": 0.1, "atol": 0.1} if dtype == torch.bfloat16 else {"rtol": 1e-3, "atol": 1e-4}
    )
    told = {name: result() for name, result in contest.results.items()}
    wanted = told.get("nnlib", {})
    for side, values in told.items():
        for name, value in values.items():
            where = f"{contest.what}: {name} of {side} is not that of nnlib\n"
            torch.testing.assert_close(
                value, wanted[name], msg=lambda m, w=where: w + m, **tolerance
            )
