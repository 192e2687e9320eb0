"""One update of what an optimizer holds: backwards, clipped, at the rate of this step."""

import inspect
from collections.abc import Callable, Iterable

from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from nnlib import checks


def update(
    loss: Tensor,
    optimizer: Optimizer,
    *,
    clip: float | None = None,
    rate: float | None = None,
    scaler: GradScaler | None = None,
) -> Tensor:
    """Take one step of `optimizer` down the gradient of `loss`; return the loss, off the graph.

    The result is still on its device, and nothing has waited for it: hand it to `History.add`.

    Args:
        loss: a scalar.
        optimizer: its gradients are cleared first; those of other optimizers are left alone, so
            that adversaries take turns.
        clip: largest norm of the whole gradient, > 0, or None.
        rate: factor of every learning rate at this step, such as `schedule(step)`; when None, the
            rates stay as they are.
        scaler: for float16, whose small gradients would be lost: the one that belongs to this run.

    Example:
        >>> import torch
        >>> x = nn.Parameter(torch.tensor(3.0))
        >>> descent = torch.optim.SGD([x], lr=0.5)
        >>> update(x**2, descent, clip=1.0), x.item()
        (tensor(9.), 2.5)
    """
    checks.tensor("loss", loss, shape=(), floating=True)
    optimizer.zero_grad()
    (loss if scaler is None else scaler.scale(loss)).backward()
    take_step(optimizer, clip=clip, rate=rate, scaler=scaler)
    return loss.detach()


def take_step(
    optimizer: Optimizer,
    *,
    clip: float | None = None,
    rate: float | None = None,
    scaler: GradScaler | None = None,
) -> None:
    """Do what `update` does once the gradients are there, for those that several losses gave."""
    if rate is not None:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate
    if clip is not None:
        if scaler is not None:
            scaler.unscale_(optimizer)
        clip = checks.number("clip", clip, above=0)
        nn.utils.clip_grad_norm_(
            [theta for group in optimizer.param_groups for theta in group["params"]],
            clip,
        )
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()


def optimizer_of(
    kind: Callable[..., Optimizer] | Optimizer, parameters: Iterable[Tensor], lr: float
) -> Optimizer:
    """Return `kind(parameters, lr=lr)`, fused where torch can; or `kind` itself, if it is ready.

    The fused form takes the same steps in one pass over the parameters. `functools.partial(kind,
    fused=False)` declines it.
    """
    if isinstance(kind, Optimizer):
        return kind
    if not callable(kind):
        raise TypeError(f"optimizer={kind!r} must be an Optimizer or a class of one")
    parameters, lr = list(parameters), checks.number("lr", lr, above=0)
    choice = inspect.signature(kind).parameters.get("fused")
    if choice is not None and choice.default is None:
        try:
            return kind(parameters, lr=lr, fused=True)
        # torch's word for: not for this device, or not with another option
        except RuntimeError:
            pass
    return kind(parameters, lr=lr)
