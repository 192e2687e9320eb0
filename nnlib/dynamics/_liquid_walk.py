"""How liquid layers walk through time: what they are given, and what they return."""

from collections.abc import Callable

import torch
from torch import Tensor

from nnlib import checks

Tick = Callable[[Tensor, Tensor, Tensor], Tensor]  # drive, state, gap → state


def taken(
    x: Tensor,
    state: Tensor | None,
    timespans: Tensor | float,
    lengths: Tensor | None,
    input_size: int,
    hidden_size: int,
) -> tuple[Tensor, Tensor]:
    """Return the first state b n and the gaps b t 1; refuse what does not fit."""
    checks.tensor("x", x, shape=("b", "t", input_size), floating=True, empty=False)
    batch, time, _ = x.shape
    if state is None:
        state = x.new_zeros(batch, hidden_size)
    checks.tensor("state", state, shape=(batch, hidden_size), floating=True)
    if lengths is not None:
        checks.lengths("lengths", lengths, batch, time)
    return state.to(x.dtype), gaps(timespans, x)


def one_gap(timespan: Tensor | float, x: Tensor) -> Tensor | float:
    """Return the time before a single input as `gaps` takes it: a number, or b 1."""
    if not isinstance(timespan, Tensor):
        return checks.number("timespan", timespan, least=0)
    checks.tensor("timespan", timespan, shape=(len(x),), floating=True, finite=True)
    return timespan[:, None]


def gaps(timespans: Tensor | float, x: Tensor) -> Tensor:
    """Return the time before each input, b t 1."""
    shape = x.shape[:2]
    if not isinstance(timespans, Tensor):
        value = checks.number("timespans", timespans, least=0)
        return x.new_full((*shape, 1), value)
    checks.tensor(
        "timespans", timespans, shape=tuple(shape), floating=True, finite=True
    )
    if checks.readable(timespans) and bool((timespans < 0).any()):
        row, step = (timespans < 0).nonzero()[0].tolist()
        raise ValueError(
            "timespans must be ≥ 0 (times must not run backwards), got "
            f"{timespans[row, step]:g} at step {step} of sequence {row}"
        )
    return timespans[..., None].to(x.dtype)


def walk(
    tick: Tick, drive: Tensor, state: Tensor, spans: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return all states b t n and the last one b n; where a sequence has ended, its state waits."""
    states = []
    for t, (now, gap) in enumerate(zip(drive.unbind(1), spans.unbind(1), strict=True)):
        new = tick(now, state, gap)
        if lengths is not None:
            new = torch.where((t < lengths.to(state.device))[:, None], new, state)
        state = new
        states.append(state)
    return torch.stack(states, 1), state


def silenced(outputs: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the outputs with zeros after the end of each sequence."""
    if lengths is None:
        return outputs
    at = torch.arange(outputs.shape[1], device=outputs.device)
    return torch.where(
        (at < lengths.to(outputs.device)[:, None])[..., None], outputs, 0
    )
