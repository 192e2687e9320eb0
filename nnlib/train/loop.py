"""The training loop of the book: one loss, one optimizer, data at hand.

It is made of parts that are public, so that what has two losses, or finds its data while it
learns, writes a loop of its own in ten lines: `Batches` and `Steps`, `update`, `History`, `bar`,
`evaluate`, `ExponentialMovingAverage`, `save` and `load`. `tests/train/test_shapes.py` has one
each for a GAN, a diffusion model, a contrastive model, an energy model and agents.

The same chapter runs on a laptop, on one GPU, or on several through `accelerate launch` or
`notebook_launcher`. A batch is shared out among the processes, and each share may be read in
several parts; either way the step is that of the whole batch (`tests/train/test_processes.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer

from nnlib import checks
from nnlib.train import checkpoint as checkpoints
from nnlib.train.batches import Batches
from nnlib.train.evaluating import Measure, evaluate
from nnlib.train.history import History
from nnlib.train.machine import Machine
from nnlib.train.progress import bar
from nnlib.train.schedules import Schedule, constant
from nnlib.train.update import optimizer_of, take_step

Loss = Callable[..., Tensor]


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
        optimizer: a class called as `optimizer(parameters, lr=lr)`, fused where torch can, or one
            that is ready.
        lr: learning rate, > 0; ignored when `optimizer` is ready.
        schedule: factor of the learning rate at each step.
        clip: largest norm of the whole gradient, > 0, or None.
        measures: `measure(model)` for each name, taken without gradients in evaluation mode.
        measure_every: steps between measures; only after the last step when None.
        seed: of the order of the data, ≥ 0. Dropout draws from torch's own random state.
        device: `"auto"`, or a torch device.
        mixed_precision: `"no"`, `"bf16"` or `"fp16"`.
        checkpoint: folder to save to and, when it holds a checkpoint, to resume from; the resumed
            run equals an uninterrupted one. Its seed, batch size and data must be the same.
        checkpoint_every: steps between saves; only after the last step when None.
        progress: whether to show a bar.

    Returns:
        The losses, learning rates and measures of the run, resumed part included.

    Raises:
        FloatingPointError: the loss became NaN or infinite, with the step. The losses are read
            when a measure or a checkpoint is due, and every hundred steps; more steps may have
            been taken by then, but no checkpoint is made of what they left.
    """
    accumulate = checks.count("accumulate", accumulate)
    every = (
        steps if measure_every is None else checks.count("measure_every", measure_every)
    )
    saving = checkpoint_every
    saving = steps if saving is None else checks.count("checkpoint_every", saving)
    clip = None if clip is None else checks.number("clip", clip, above=0)
    machine = Machine(device, mixed_precision)
    batches = Batches(data, batch_size, steps=steps, seed=seed, device=machine.device)
    if batches.batch_size < machine.processes * accumulate:
        raise ValueError(
            f"batch_size={batch_size} must give an example to each of "
            f"{machine.processes * accumulate} shares "
            f"({machine.processes} processes, accumulate={accumulate})"
        )
    ready = optimizer_of(optimizer, model.to(machine.device).parameters(), lr)
    history = History()
    parts: checkpoints.Parts = {
        "batches": batches,
        "model": model,
        "optimizer": ready,
        "scaler": machine.scaler,
        "history": history,
    }
    if checkpoint is not None:
        checkpoints.load(checkpoint, parts)
    prepared = machine.prepared(model)
    rate_at = constant() if schedule is None else schedule

    model.train()
    for batch in bar(batches, history, shown=progress and machine.is_first):
        step = batches.step  # the number of steps when this one is done
        ready.zero_grad()
        value = _backward(prepared, loss, batch, accumulate, machine)
        take_step(ready, clip=clip, rate=rate_at(step - 1), scaler=machine.scaler)
        history.add(loss=value, lr=ready.param_groups[0]["lr"])
        if measures and (step % every == 0 or step == steps):
            history.read()
            with machine.autocast():
                history.note(step, **evaluate(model, measures))
        if checkpoint is not None and (step % saving == 0 or step == steps):
            checkpoints.save(checkpoint, parts)
    history.read()
    return history


def _backward(
    model: nn.Module, loss: Loss, batch: Sequence[Tensor], parts: int, machine: Machine
) -> Tensor:
    """Leave the gradient of the whole batch's mean loss, and return that loss.

    Gradients add up over parts and are averaged over processes, so a part counts by its share of
    the batch, times the number of processes.
    """
    mine, total = machine.share(batch), torch.zeros((), device=machine.device)
    for at in range(parts):
        rows = [part[at::parts] for part in mine]
        weight = len(rows[0]) * machine.processes / len(batch[0])
        with nullcontext() if at == parts - 1 else machine.apart(model):
            with machine.autocast():
                value = loss(model, *rows)
            checks.tensor("loss", value, shape=(), floating=True)
            value = value * weight
            machine.scaler.scale(value).backward()
        total = total + value.detach()
    return machine.mean(total)
