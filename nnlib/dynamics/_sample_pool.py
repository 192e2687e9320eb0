"""What trains an automaton to persist and to heal: a pool of its own past, and damage."""

import math
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnlib import checks


class SamplePool:
    """States that an automaton has come to, to go on from: a batch is drawn, grown and put back.

    The worst of each batch is replaced by the seed, so that growing is never forgotten.

    Args:
        seed: the state that everything begins with, of shape (1, c, y, x).
        size: states in the pool, ≥ 1.
        generator: draws the batches; torch's own if None.

    Example:
        >>> pool = SamplePool(torch.ones(1, 4, 5, 5), 32)
        >>> places, batch = pool.sample(8, lambda state: state.mean((1, 2, 3)))
        >>> pool.put(places, 2 * batch)
        >>> float(pool.states.sum() / 100)
        40.0

    Source: Mordvintsev et al. 2020, Growing neural cellular automata.
    """

    def __init__(
        self,
        seed: Float[Tensor, "1 c y x"],
        size: int,
        *,
        generator: torch.Generator | None = None,
    ):
        checks.images("seed", seed)
        if len(seed) != 1:
            raise ValueError(f"seed must be one state, got {len(seed)}")
        self.seed = seed.detach()
        self.size = checks.count("size", size)
        self.generator = generator
        self.states = self.seed.repeat(self.size, 1, 1, 1)

    def sample(
        self, batch_size: int, error: Callable[[Tensor], Tensor]
    ) -> tuple[Int[Tensor, " b"], Float[Tensor, "b c y x"]]:
        """Return places in the pool and a copy of the states there, the worst first.

        In the copy the worst is the seed.

        Args:
            batch_size: how many, 1 … `size`; no state twice.
            error: from states to one number each.
        """
        checks.count("batch_size", batch_size)
        checks.number("batch_size", batch_size, most=self.size)
        drawn = torch.randperm(self.size, generator=self.generator)[:batch_size]
        drawn = drawn.to(self.states.device)
        errors = checks.tensor(
            "error(states)", error(self.states[drawn]), shape=(batch_size,)
        )
        places = drawn[errors.argsort(descending=True)]
        batch = self.states[places]
        batch[0] = self.seed[0]
        return places, batch

    def put(self, places: Int[Tensor, " b"], states: Float[Tensor, "b c y x"]) -> None:
        """Put states back to their places, off the graph.

        Args:
            places: as `sample` has told them.
            states: what has become of them.
        """
        checks.tokens("places", places, self.size, shape=("b",), empty=True, of="size")
        checks.tensor("states", states, shape=(len(places), *self.seed.shape[1:]))
        self.states[places] = states.detach().to(self.states.dtype)


def normalize_gradients(parameters: Iterable[nn.Parameter], eps: float = 1e-8) -> None:
    r"""Scale the gradient of each parameter to length one, in place.

    Equation `neural-cellular-automata-normalized`: $\mathbf{g} \leftarrow \mathbf{g} /
    (\lVert\mathbf{g}\rVert + \epsilon)$. Those without a gradient are passed over.

    Args:
        parameters: whose gradients.
        eps: keeps a gradient of zero at zero, > 0.

    Example:
        >>> weight = nn.Parameter(torch.tensor([3.0, 4.0]))
        >>> weight.square().sum().backward()
        >>> normalize_gradients([weight])
        >>> weight.grad
        tensor([0.6000, 0.8000])
    """
    checks.number("eps", eps, above=0)
    for parameter in parameters:
        if parameter.grad is not None:
            grad = (
                parameter.grad
            )  # its length may be beyond what halves can hold, as may eps
            fine = grad.to(torch.promote_types(grad.dtype, torch.float32))
            grad.copy_(fine / (fine.norm() + eps))


def disc_masks(
    n: int,
    height: int,
    width: int,
    *,
    radius: tuple[float, float] = (0.1, 0.4),
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n 1 y x"]:
    """Return masks that are 0 in a random disc and 1 elsewhere.

    The grid runs from -1 to 1 both ways. Centres lie within ±0.5.

    Args:
        n: how many masks, ≥ 1.
        height: rows, ≥ 1.
        width: columns, ≥ 1.
        radius: least and largest, in halves of a side.
        generator: draws them; torch's own if None.

    Example:
        >>> disc_masks(3, 16, 16).shape
        torch.Size([3, 1, 16, 16])
    """
    y, x = _places(n, height, width)
    if not isinstance(radius, tuple | list) or len(radius) != 2:
        raise TypeError(f"radius={radius!r} must be two numbers")
    low, high = (checks.number("radius", each, least=0) for each in radius)
    if low > high:
        raise ValueError(f"radius={radius!r} must rise from the least to the largest")
    centre = torch.rand(2, n, 1, 1, 1, generator=generator) - 0.5
    r = low + (high - low) * torch.rand(n, 1, 1, 1, generator=generator)
    return ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 >= r**2).float()


def half_plane_masks(
    n: int,
    height: int,
    width: int,
    *,
    offset: float = 0.4,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "n 1 y x"]:
    """Return masks that are 0 on one side of a random line and 1 on the other.

    Args:
        n: how many masks, ≥ 1.
        height: rows, ≥ 1.
        width: columns, ≥ 1.
        offset: the largest distance of the line from the middle, in halves of a side, ≥ 0.
        generator: draws them; torch's own if None.

    Example:
        >>> half_plane_masks(3, 16, 16, offset=0.0).mean().item()
        0.5
    """
    y, x = _places(n, height, width)
    checks.number("offset", offset, least=0)
    angle = 2 * math.pi * torch.rand(n, 1, 1, 1, generator=generator)
    away = offset * (2 * torch.rand(n, 1, 1, 1, generator=generator) - 1)
    return (x * angle.cos() + y * angle.sin() > away).float()


def _places(n: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return the middles of the cells, between -1 and 1."""
    checks.count("n", n)
    sides = checks.count("height", height), checks.count("width", width)
    y, x = ((2 * torch.arange(size) + 1) / size - 1 for size in sides)
    return y[:, None], x
