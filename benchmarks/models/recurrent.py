"""Recurrent layers beside torch.nn's, their readable loops, and a GRU of the same width."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.models._contest import Case, Contest, sized, step_of, training
from nnlib.sequence.bidirectional import Bidirectional
from nnlib.sequence.gru import GRU, MinGRU
from nnlib.sequence.lstm import LSTM
from nnlib.sequence.rnn import RNN

LOOP = "nnlib's loop"  # the readable twin


def recurrent(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step, and reading without gradients, of RNN, LSTM and GRU.

    Beside the fused operator stands the loop over time that readers see.
    """
    contests = []
    for kind in ("RNN", "LSTM", "GRU"):
        mine, peer, x, y = _recurrent(kind, size, device, dtype)
        contests.append(
            training(
                f"{kind} training step", size, "torch.nn",
                (mine, lambda m, x=x, y=y: F.mse_loss(m(x)[0], y)),
                (peer, lambda m, x=x, y=y: F.mse_loss(m(x)[0], y)),
                others={LOOP: (mine, lambda m, x=x, y=y: F.mse_loss(m.loop(x)[0], y))},
            )
        )  # fmt: skip
        forms = {"nnlib": copy.deepcopy(mine), "torch.nn": copy.deepcopy(peer)}
        forms[LOOP] = forms["nnlib"].loop
        contests.append(_reading(f"{kind} reading", size, forms, x))
    return contests


def lengths(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of an LSTM on sequences of many lengths, in no order."""
    mine, peer, x, y = _recurrent("LSTM", size, device, dtype)
    real = torch.randint(1, size["t"] + 1, (size["b"],))
    real[-1] = size["t"]

    def packed(module):
        pack = pack_padded_sequence(x, real, batch_first=True, enforce_sorted=False)
        out = pad_packed_sequence(module(pack)[0], batch_first=True, total_length=size["t"])[0]
        return F.mse_loss(out, y)

    return [
        training(
            "LSTM with lengths", size, "torch.nn",
            (mine, lambda m: F.mse_loss(m(x, lengths=real)[0], y)),
            (peer, packed),
            others={LOOP: (mine, lambda m: F.mse_loss(m.loop(x, lengths=real)[0], y))},
        )
    ]  # fmt: skip


def bidirectional(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of two LSTMs, one of which reads backwards; as one layer, and as two."""
    one, peer, x, _ = _recurrent("LSTM", size, device, dtype, bidirectional=True)
    two = Bidirectional(*(LSTM(size["d"], size["h"], device=device, dtype=dtype) for _ in "12"))
    weights = one.state_dict()
    for layer, end in ((two.forward_layer, ""), (two.backward_layer, "_reverse")):
        layer.load_state_dict({name: weights[name + end] for name in layer.state_dict()})
    y = torch.randn(size["b"], size["t"], 2 * size["h"]).to(device, dtype)

    def loss(module):
        return F.mse_loss(module(x)[0], y)

    return [
        training(
            "two-way LSTM", size, "torch.nn", (two, loss), (peer, loss),
            others={"nnlib in one layer": (one, loss)},
        )
    ]  # fmt: skip


def min_gru(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of minGRU, all of time at once; step by step; and of a GRU as wide."""
    _, gru, x, y = _recurrent("GRU", size, device, dtype)
    mine = MinGRU(size["d"], size["h"]).to(device, dtype)

    def by_steps(module):
        state, out = None, []
        for now in x.unbind(1):
            state = module.step(now, state)
            out.append(state)
        return F.mse_loss(torch.stack(out, 1), y)

    others = {"step by step": (mine, by_steps)}
    contest = training(
        "minGRU training step", size, "", (mine, lambda m: F.mse_loss(m(x), y)), others=others
    )
    contest.runs["GRU of torch.nn"], _ = step_of(gru, lambda m: F.mse_loss(m(x)[0], y))
    return [contest]


def _recurrent(kind: str, size: dict[str, int], device, dtype, **settings):
    """Return nnlib's layer and torch's with its weights, an input, and a target for its outputs."""
    b, t, d, h = size["b"], size["t"], size["d"], size["h"]
    peer = getattr(nn, kind)(d, h, batch_first=True, **settings)
    mine = {"RNN": RNN, "LSTM": LSTM, "GRU": GRU}[kind](d, h, **settings)
    mine.load_state_dict(peer.state_dict())
    x, y = (torch.randn(b, t, width).to(device, dtype) for width in (d, h))
    return mine.to(device, dtype), peer.to(device, dtype), x, y


def _reading(what: str, size: dict[str, int], forms: dict[str, Callable], x: Tensor) -> Contest:
    """Return the contest of passes without gradients: outputs and final states."""

    @torch.no_grad()
    def told(form):
        y, state = form(x)
        parts = (state,) if isinstance(state, Tensor) else state
        return {"y": y} | {f"state {i}": part for i, part in enumerate(parts)}

    runs = {name: torch.no_grad()(lambda form=form: form(x)) for name, form in forms.items()}
    results = {name: (lambda form=form: told(form)) for name, form in forms.items()}
    return Contest(what, size, runs, results)


CPU = sized("btdh", *((16, t, 128, 128) for t in (16, 64, 256, 1024)))
GPU = sized("btdh", *((64, t, 512, 512) for t in (64, 256, 1024)))
CASES = {
    "recurrent": Case(recurrent, CPU, GPU),
    "lengths": Case(lengths, [CPU[0], CPU[-2]], [GPU[0], GPU[-2]]),
    "bidirectional": Case(bidirectional, [CPU[0], CPU[-2]], [GPU[0], GPU[-2]]),
    "min_gru": Case(min_gru, CPU, GPU),
}
