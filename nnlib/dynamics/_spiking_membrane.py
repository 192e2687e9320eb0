r"""Membranes through time: the loop that one reads, and the one that is fast.

Axes: t steps, b batch, h neurons; here time comes first, so that a step is one block of memory.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnlib import checks
from nnlib.dynamics._spiking_surrogates import Surrogate

RESETS = ("subtract", "zero")
CACHE = 1 << 15
"""Numbers that are worked on together on the way back, on a CPU."""

CHUNK = 64
"""Steps that one product of matrices takes at a time."""


class Rule(NamedTuple):
    """What a layer of neurons has in common, as plain numbers."""

    threshold: float
    reset: str
    refractory: int
    initial: float
    detach_reset: bool
    surrogate: Surrogate


def membrane_loop(
    current: Tensor, beta: float | Tensor, rule: Rule
) -> tuple[Tensor, Tensor]:
    """Return spikes and membranes, step by step as the equations say: the readable twin."""
    v = torch.full_like(current[0], rule.initial)
    s, wait = torch.zeros_like(v), torch.zeros_like(v)
    spikes, voltages = [], []
    for drive in current:
        back = s.detach() if rule.detach_reset else s
        awake = (wait == 0).to(v.dtype)
        if rule.reset == "subtract":  # eq. spiking-update
            v = beta * v + awake * drive - rule.threshold * back
        else:  # eq. spiking-zero
            v = beta * v * (1 - back) + awake * drive
        s = awake * rule.surrogate(v - rule.threshold)  # eq. spiking-spike
        wait = torch.where(s > 0, rule.refractory, (wait - 1).clamp(min=0))
        spikes.append(s)
        voltages.append(v)
    return torch.stack(spikes), torch.stack(voltages)


class Membrane(torch.autograd.Function):
    """The same in place, with its gradient by one recurrence (equation `spiking-backward`).

    That gradient has none of its own, and says so; the loop's has.
    """

    @staticmethod
    def forward(
        ctx: Any, current: Tensor, beta: float | Tensor, rule: Rule
    ) -> tuple[Tensor, Tensor]:
        voltages = torch.empty_like(current, memory_format=torch.contiguous_format)
        spikes = torch.empty_like(voltages)
        rests = bool(rule.refractory)
        awake = torch.ones_like(voltages) if rests else None
        wait = torch.zeros_like(voltages[0])
        v, s = torch.full_like(wait, rule.initial), None
        for t, drive in enumerate(current):
            left = v
            if s is not None and rule.reset == "zero":
                left = v - v * s
            if awake is not None:
                awake[t] = wait == 0
                drive = drive * awake[t]
            v = voltages[t]
            if isinstance(beta, Tensor):
                v.copy_(torch.addcmul(drive, beta, left))
            else:
                torch.add(drive, left, alpha=beta, out=v)
            if s is not None and rule.reset == "subtract":
                v.sub_(s, alpha=rule.threshold)
            s = spikes[t]
            torch.ge(v, rule.threshold, out=s)
            if awake is not None:
                s.mul_(awake[t])
                wait = torch.where(s > 0, rule.refractory, (wait - 1).clamp(min=0))
        ctx.beta, ctx.rule = (None if isinstance(beta, Tensor) else beta), rule
        more = [kept for kept in (beta, awake) if isinstance(kept, Tensor)]
        ctx.save_for_backward(voltages, spikes, *more)
        ctx.set_materialize_grads(False)
        return spikes, voltages

    @staticmethod
    def backward(
        ctx: Any, to_spikes: Tensor | None, to_voltages: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # somebody asks for a graph of this gradient
            raise RuntimeError(
                "the fast form of a membrane has no second derivative: take LIF.loop, which has"
            )
        voltages, spikes, *more = ctx.saved_tensors
        rule, beta = ctx.rule, (more[0] if ctx.beta is None else ctx.beta)
        awake = more[-1] if rule.refractory else None
        grad = torch.empty_like(voltages)
        later = None
        for low, high in reversed(_blocks(voltages)):
            v, s, part = voltages[low:high], spikes[low:high], grad[low:high]
            slope = rule.surrogate.derivative(v - rule.threshold)
            slope = slope if awake is None else slope * awake[low:high]
            if to_spikes is None:
                part.zero_()
            else:
                torch.mul(to_spikes[low:high], slope, out=part)
            if to_voltages is not None:
                part += to_voltages[low:high]
            keep = beta * (1 - s) if rule.reset == "zero" else None
            if not rule.detach_reset:
                by_spike = beta * v if rule.reset == "zero" else rule.threshold
                keep = (beta if keep is None else keep) - by_spike * slope
            for t in range(high - low - 1, -1, -1):  # eq. spiking-backward
                now = part[t]
                if later is not None and keep is not None:
                    now.addcmul_(later, keep[t])
                elif later is not None and isinstance(beta, Tensor):
                    now.addcmul_(later, beta)
                elif later is not None:
                    now.add_(later, alpha=beta)
                later = now
        to_beta = None
        if isinstance(beta, Tensor):
            left = voltages[:-1]
            left = left * (1 - spikes[:-1]) if rule.reset == "zero" else left
            to_beta = (grad[1:] * left).sum() + rule.initial * grad[0].sum()
        return (grad if awake is None else grad * awake), to_beta, None


def _blocks(x: Tensor) -> list[tuple[int, int]]:
    """Return ranges of steps whose numbers fit into a core's cache; elsewhere, all at once."""
    steps = len(x)
    at_once = max(1, CACHE // max(1, x[0].numel())) if checks.readable(x) else steps
    return [(low, min(low + at_once, steps)) for low in range(0, steps, at_once)]


def leaky_sum(x: Tensor, beta: float) -> Tensor:
    r"""Return $y_t = \beta y_{t-1} + x_t$ along the first axis, with $y_0 = 0$.

    Nothing in it depends on a spike, so $k$ steps are one product with the matrix of all powers
    $\beta^{t-s}$, $s \le t$; `leaky_loop` takes them one by one.
    """
    size = min(CHUNK, max(len(x), 1))
    at = torch.arange(size, device=x.device)
    apart = at[:, None] - at
    powers = torch.where(apart >= 0, beta ** apart.clamp(min=0).to(x.dtype), 0.0).to(
        x.dtype
    )
    fade = (beta ** (at + 1).to(x.dtype))[:, None]
    rows, out = x.flatten(1), []
    carry = torch.zeros_like(rows[:1])
    for part in rows.split(size):
        n = len(part)
        y = powers[:n, :n] @ part + fade[:n] * carry  # eq. spiking-trace
        out.append(y)
        carry = y[-1:]
    return torch.cat(out).view(x.shape) if out else torch.zeros_like(x)


def leaky_loop(x: Tensor, beta: float) -> Tensor:
    """Return the same as `leaky_sum`, step by step."""
    y, out = torch.zeros_like(x[0]), []
    for value in x:
        y = beta * y + value
        out.append(y)
    return torch.stack(out)
