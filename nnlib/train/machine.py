"""Where a run takes place: its device, its precision, and the processes that share it."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from nnlib import checks
from nnlib.device import pick_device
from nnlib.distribution import extra

PRECISIONS = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Machine:
    """One process on one device, or one of the processes that `accelerate launch` has started.

    Accelerate knows the processes, and each one's device. It fixes a device and a precision once
    for the whole of a process, where a chapter may train on the CPU first and on a GPU then: so
    the device of a single process, and the precision, are torch's own.

    Args:
        device: `"auto"`, or a torch device; among several processes, each has its own.
        mixed_precision: `"no"`, `"bf16"` or `"fp16"`.
    """

    def __init__(
        self, device: str | torch.device = "auto", mixed_precision: str = "no"
    ):
        with extra("train"):
            from accelerate import Accelerator
            from accelerate.state import is_initialized

        self.dtype = PRECISIONS[
            checks.one_of("mixed_precision", mixed_precision, PRECISIONS)
        ]
        picked = pick_device(device)
        if is_initialized():
            self._accelerator = Accelerator()
        else:
            self._accelerator = Accelerator(
                cpu=picked.type == "cpu", mixed_precision="no"
            )
        self.processes = self._accelerator.num_processes
        self.is_first = self._accelerator.is_main_process
        self.device = picked if self.processes == 1 else self._accelerator.device
        self.scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.dtype == torch.float16
        )  # one that is not enabled changes nothing

    def prepared(self, model: nn.Module) -> nn.Module:
        """Return `model`, or a wrapper that averages its gradients over the processes."""
        return model if self.processes == 1 else self._accelerator.prepare(model)

    def autocast(self) -> AbstractContextManager:
        """Return a context in which torch computes in the run's precision."""
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def share(self, batch: Sequence[Tensor]) -> list[Tensor]:
        """Return this process's rows of `batch`."""
        first = self._accelerator.process_index
        return [part[first :: self.processes] for part in batch]

    def apart(self, prepared: nn.Module) -> AbstractContextManager:
        """Return a context in which gradients stay with each process, to be averaged later."""
        return self._accelerator.no_sync(prepared)

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of `value` over the processes."""
        return self._accelerator.reduce(value, "mean")
