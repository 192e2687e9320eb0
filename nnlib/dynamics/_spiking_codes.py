"""Codes: numbers in 0 … 1 as spikes, by how many, by when, or by what has changed."""

import torch
from jaxtyping import Float
from torch import Tensor

from nnlib import checks


def poisson_code(
    x: Float[Tensor, "b d"],
    num_steps: int,
    *,
    most: float = 1.0,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "b t d"]:
    r"""Draw spikes whose rate is the input: at each step one with probability $p\,x$.

    In the limit of short steps the spikes of a neuron are a Poisson process, which names the code;
    here, each step is a coin (equation `spiking-poisson`).

    Args:
        x: rates, 0 … 1.
        num_steps: T, ≥ 1.
        most: $p$, the probability at $x = 1$, in (0, 1].
        generator: draws the coins; None: torch's own.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> poisson_code(torch.tensor([[0.0, 0.5, 1.0]]), 4, generator=draw)[0].sum(0)
        tensor([0., 2., 4.])
    """
    _shares(x)
    num_steps = checks.count("num_steps", num_steps)
    most = checks.number("most", most, above=0, most=1)
    size = (len(x), num_steps, x.shape[1])
    fine = _fine(x)
    coins = torch.rand(size, generator=generator, dtype=fine.dtype, device=x.device)
    return (coins < most * fine[:, None]).to(x.dtype)  # eq. spiking-poisson


def latency_code(
    x: Float[Tensor, "b d"], num_steps: int, *, least: float = 0.05
) -> Float[Tensor, "b t d"]:
    r"""Send one spike an input, the earlier the larger it is (equation `spiking-latency`).

    Args:
        x: strengths, 0 … 1.
        num_steps: T, ≥ 1; $x = 1$ fires at the first step, `least` at the last.
        least: inputs below this stay silent, in [0, 1).

    Example:
        >>> latency_code(torch.tensor([[1.0, 0.5, 0.0]]), 4, least=0.1)[0].T
        tensor([[1., 0., 0., 0.],
                [0., 0., 1., 0.],
                [0., 0., 0., 0.]])
    """
    _shares(x)
    num_steps = checks.count("num_steps", num_steps)
    least = checks.number("least", least, least=0, below=1)
    fine = _fine(x)
    at = ((1 - fine) / (1 - least) * (num_steps - 1)).round()  # eq. spiking-latency
    at = torch.where(fine >= least, at, -1.0)
    steps = torch.arange(num_steps, device=x.device, dtype=fine.dtype)
    return (at[:, None] == steps[:, None]).to(x.dtype)


def delta_code(x: Float[Tensor, "b t"], threshold: float) -> Float[Tensor, "b t 2"]:
    """Send an event where a signal has moved by a threshold since the last one, as a camera does.

    Args:
        x: signals over time.
        threshold: the move that is an event, > 0.

    Returns:
        Two channels of 0 and 1: it rose, it fell. At most one event a step: what is left of a
        larger move is sent with the next steps.
    """
    checks.tensor("x", x, shape=("b", "t"), floating=True, empty=False)
    threshold = checks.number("threshold", threshold, above=0)
    known, events = x[:, 0], []
    for now in x.unbind(1):
        up, down = now - known >= threshold, known - now >= threshold
        both = torch.stack([up, down], -1).to(x.dtype)
        known = known + threshold * (both[:, 0] - both[:, 1])
        events.append(both)
    return torch.stack(events, 1)


def _fine(x: Tensor) -> Tensor:
    """Return numbers in a precision that tells small rates and many steps apart."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _shares(x: Tensor) -> None:
    checks.tensor("x", x, shape=("b", "d"), floating=True)
    if checks.readable(x) and x.numel():
        low, high = (float(v) for v in x.aminmax())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"x must be within 0 … 1, got {low:g} … {high:g}")
