"""The one training loop of the book, on Hugging Face Accelerate.

The same chapter runs on a laptop, on one GPU, or on several through `accelerate launch` or
`notebook_launcher`: the loop asks Accelerate for the device, the precision and the processes, and
knows nothing else of them. A batch is shared out among the processes, and each share may be read in
several parts; either way the step is that of the whole batch (`tests/train/test_processes.py`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nnlib import checks
from nnlib.device import pick_device
from nnlib.train import checkpoint as checkpoints
from nnlib.train.evaluating import evaluating
from nnlib.train.history import History
from nnlib.train.schedules import Schedule, constant

Loss = Callable[..., Tensor]
Measure = Callable[[nn.Module], float]


def train(
    model: nn.Module,
    loss: Loss,
    data: Sequence[Tensor],
    *,
    steps: int,
    batch_size: int,
    accumulate: int = 1,
    optimizer: Callable[..., Optimizer] | Optimizer = AdamW,
    lr: float = 1e-3,
    schedule: Schedule | None = None,
    clip: float | None = None,
    measures: Mapping[str, Measure] | None = None,
    measure_every: int | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    mixed_precision: str = "no",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool = False,
) -> History:
    """Train `model` for a fixed number of steps; the same seed gives the same numbers on a CPU.

    Args:
        model: trained in place, and moved to `device`.
        loss: `loss(model, *batch)` gives a scalar: the chapter's own objective, a mean over the
            batch. On several processes `model` is wrapped: call it, its attributes are hidden.
        data: tensors with a common first axis; a batch is one row of each per example.
        steps: optimizer steps, ≥ 1.
        batch_size: examples a step, over all processes, ≥ 1; all of them when there are fewer.
        accumulate: parts, ≥ 1, in which a process reads its share of a batch, their gradients
            added up: a large batch in little memory.
        optimizer: a class called as `optimizer(parameters, lr=lr)`, or one that is ready.
        lr: learning rate, > 0; ignored when `optimizer` is ready.
        schedule: factor of the learning rate at each step.
        clip: largest norm of the whole gradient, > 0, or None.
        measures: `measure(model)` for each name, taken without gradients in evaluation mode.
        measure_every: steps between measures; only after the last step when None.
        seed: of the order of the data, ≥ 0.
        device: `"auto"`, or a torch device.
        mixed_precision: `"no"`, `"bf16"` or `"fp16"`.
        checkpoint: folder to save to and, when it holds a checkpoint, to resume from.
        checkpoint_every: steps between saves; only after the last step when None.
        progress: whether to show a bar.

    Returns:
        The losses, learning rates and measures of the run, resumed part included.

    Raises:
        TypeError: an argument of the wrong kind, named.
        ValueError: an argument out of its range, named; tensors of different length.
        FloatingPointError: the loss became NaN or infinite, with the step.
    """
    steps, batch_size = checks.count("steps", steps), checks.count("batch_size", batch_size)
    seed = checks.count("seed", seed, least=0)
    lr = checks.number("lr", lr, above=0)
    clip = None if clip is None else checks.number("clip", clip, above=0)
    accumulate = checks.count("accumulate", accumulate)
    every = steps if measure_every is None else checks.count("measure_every", measure_every)
    saving = (
        steps if checkpoint_every is None else checks.count("checkpoint_every", checkpoint_every)
    )
    checks.one_of("mixed_precision", mixed_precision, ("no", "bf16", "fp16"))
    _check_data(data)
    if isinstance(optimizer, Optimizer):
        ready = optimizer
    elif callable(optimizer):
        ready = optimizer(model.parameters(), lr=lr)
    else:
        raise TypeError(f"optimizer={optimizer!r} must be an Optimizer or a class of one")

    accelerator = _accelerator(pick_device(device), mixed_precision)
    shares = accelerator.num_processes * accumulate
    if min(batch_size, len(data[0])) < shares:
        raise ValueError(
            f"batch_size={batch_size} must give an example to each of {shares} shares "
            f"({accelerator.num_processes} processes, accumulate={accumulate})"
        )
    history, start = History(), 0
    model.to(accelerator.device)
    if checkpoint is not None:
        resumed = checkpoints.load(Path(checkpoint), model, ready)
        if resumed is not None:
            start, history, seed = resumed
    base = [group.setdefault("initial_lr", group["lr"]) for group in ready.param_groups]
    wrapped, ready_step = accelerator.prepare(model, ready)
    data = [part.to(accelerator.device) for part in data]
    factor = constant() if schedule is None else schedule

    model.train()
    for step in _bar(range(start, steps), progress and accelerator.is_main_process):
        for group, rate in zip(ready.param_groups, base, strict=True):
            group["lr"] = rate * factor(step)
        batch = _batch(len(data[0]), batch_size, step, seed)
        ready_step.zero_grad()
        number = _backward(wrapped, loss, data, batch, accumulate, accelerator)
        if not math.isfinite(number):
            raise FloatingPointError(f"the loss is {number} at step {step}; lower lr={lr:g}?")
        if clip is not None:
            accelerator.clip_grad_norm_(wrapped.parameters(), clip)
        ready_step.step()
        history.loss.append(number)
        history.lr.append(ready.param_groups[0]["lr"])
        if (step + 1) % every == 0 or step + 1 == steps:
            _measure(model, measures or {}, history, step + 1)
        due = (step + 1) % saving == 0 or step + 1 == steps
        if checkpoint is not None and due and accelerator.is_main_process:
            checkpoints.save(Path(checkpoint), model, ready, step + 1, history, seed)
    accelerator.wait_for_everyone()  # nobody goes on before the checkpoint is whole
    return history


def _check_data(data: Sequence[Tensor]) -> None:
    if isinstance(data, Tensor) or not data:
        raise TypeError("data must be a sequence of tensors, such as (x, y)")
    for at, part in enumerate(data):
        checks.tensor(f"data[{at}]", part, empty=False)
        if part.ndim == 0 or len(part) != len(data[0]):
            raise ValueError(
                f"data[{at}] must have {len(data[0])} rows like data[0], got {tuple(part.shape)}"
            )
        if part.is_floating_point():
            checks.tensor(f"data[{at}]", part, finite=True)


def _accelerator(device: torch.device, mixed_precision: str):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, PartialState

    if PartialState._shared_state and PartialState().num_processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)  # another device or precision
    return Accelerator(cpu=device.type == "cpu", mixed_precision=mixed_precision)


def _batch(length: int, batch_size: int, step: int, seed: int) -> Tensor:
    """Return the rows of a step's batch: epochs of a shuffle that depends on the seed alone."""
    batch_size = min(batch_size, length)
    per_epoch = length // batch_size
    epoch, at = divmod(step, per_epoch)
    return _order(length, seed, epoch)[at * batch_size : (at + 1) * batch_size]


def _backward(
    wrapped: nn.Module, loss: Loss, data: Sequence[Tensor], batch: Tensor, parts: int, accelerator
) -> float:
    """Leave the gradient of the whole batch's mean loss, and return that loss.

    Gradients add up over parts and are averaged over processes, so a part counts by its share of
    the batch, times the number of processes.
    """
    mine = batch[accelerator.process_index :: accelerator.num_processes].to(accelerator.device)
    total = torch.zeros((), device=accelerator.device)
    for at in range(parts):
        rows = mine[at::parts]
        weight = len(rows) * accelerator.num_processes / len(batch)
        last = at == parts - 1
        with nullcontext() if last else accelerator.no_sync(wrapped):
            with accelerator.autocast():
                value = loss(wrapped, *(part[rows] for part in data)) * weight
            accelerator.backward(value)
        total += value.detach()
    return accelerator.reduce(total, "mean").item()


@lru_cache(maxsize=2)
def _order(length: int, seed: int, epoch: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(length, generator=generator)


def _bar(steps: range, shown: bool):
    from tqdm.auto import tqdm

    return tqdm(steps, disable=not shown, unit="step")


def _measure(
    model: nn.Module, measures: Mapping[str, Measure], history: History, step: int
) -> None:
    if not measures:
        return
    with torch.no_grad(), evaluating(model):
        for name, measure in measures.items():
            history.measures.setdefault(name, []).append(float(measure(model)))
    history.at.append(step)
