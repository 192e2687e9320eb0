"""The diagonal state space model beside an LSTM as wide, over the length of a sequence."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, step_of, training
from nnlib.sequence.s4 import S4D

LSTM = "LSTM of torch.nn"


def s4(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of S4D, by convolution and step by step, and of an LSTM as wide.

    The loop is left out where it would take minutes. Then one more step of generation after the
    whole sequence, from a carried state; both sides read it before they are timed.
    """
    b, t, d, n = size["b"], size["t"], size["d"], size["n"]
    mine = S4D(d, n).to(device, dtype)
    peer = nn.LSTM(d, d, batch_first=True).to(device, dtype)
    x, y = (torch.randn(b, t, d).to(device, dtype) for _ in "xy")
    others = {}
    if t <= 256:
        others["step by step"] = (mine, lambda m: F.mse_loss(m.loop(x), y))
    learning = training(
        "S4D training step", size, "", (mine, lambda m: F.mse_loss(m(x), y)), others=others
    )
    learning.runs[LSTM], _ = step_of(peer, lambda m: F.mse_loss(m(x)[0], y))
    with torch.no_grad():
        _, state = mine.read(x)
        _, carried = peer(x)
    now = x[:, -1]
    writing = Contest(
        "S4D, one step of generation", size,
        {
            "nnlib": torch.no_grad()(lambda: mine.step(now, state)),
            LSTM: torch.no_grad()(lambda: peer(now[:, None], carried)),
        },
    )  # fmt: skip
    return [learning, writing]


CPU = sized("btdn", *((16, t, 128, 64) for t in (64, 256, 1024, 4096)))
GPU = sized("btdn", *((64, t, 512, 64) for t in (256, 1024, 4096)))
CASES = {"s4": Case(s4, CPU, GPU)}
