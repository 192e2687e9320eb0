"""Sequences of many lengths on a CPU: the fused operator, from each sequence's end to the next.

Torch's operator for packed sequences cuts every step out of one long tensor, and each cut has a
gradient as long as the whole: training takes the square of the time. Between two ends the same
sequences go on, so that a plain batch can be read. Used by `nnlib.blocks.recurrent` alone.

Axes: b batch, t time, d input features, h hidden features, l layers times directions.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

if TYPE_CHECKING:
    from nnlib.blocks.recurrent import Carried, Recurrent, State


def between_ends(
    layer: "Recurrent", x: Tensor, state: "State", lengths: Tensor
) -> "tuple[Tensor, Carried]":
    """Return what `layer.loop` does.

    Args:
        layer: with a fused operator.
        x: b t d, or t b d without `batch_first`.
        state: initial states, each l b h.
        lengths: real steps of each sequence, in any order.
    """
    x = x if layer.batch_first else x.transpose(0, 1)
    time, order = x.shape[1], lengths.argsort(descending=True)
    ends, counts = lengths.unique(return_counts=True)
    going = (len(x) - counts.cumsum(0) + counts).tolist()  # rows that reach each end
    spans = ends.diff(prepend=ends.new_zeros(1)).tolist()
    x = x[:, : sum(spans)].index_select(0, order)
    state = tuple(part.index_select(1, order) for part in state)
    final: list[State] = []
    for at in range(layer.num_layers):
        if at:
            x = F.dropout(x, layer.dropout, layer.training)
        pieces, outputs = x.split(spans, 1), []
        for suffix in layer._suffixes(at):
            start = tuple(part[len(final)][None] for part in state)
            out, last = _walk(layer, pieces, going, start, suffix)
            outputs.append(out)
            final.append(last)
        x = torch.cat(outputs, -1)
    back = order.argsort()
    x = F.pad(x.index_select(0, back), (0, 0, 0, time - x.shape[1]))
    whole = tuple(
        torch.cat(parts).index_select(1, back) for parts in zip(*final, strict=True)
    )
    return x if layer.batch_first else x.transpose(0, 1), layer._bare(whole)


def _walk(
    layer: "Recurrent",
    pieces: tuple[Tensor, ...],
    going: list[int],
    state: "State",
    suffix: str,
) -> "tuple[Tensor, State]":
    """Run one layer in one direction over pieces of time, each on its first `going` rows."""
    assert layer.fused is not None
    weights, reverse = (
        list(layer.weights_of(suffix).values()),
        suffix.endswith("_reverse"),
    )
    now = tuple(part[:, :0] for part in state) if reverse else state
    outputs, ended = [], []
    walk = list(zip(pieces, going, strict=True))
    for piece, n in reversed(walk) if reverse else walk:
        if reverse:  # rows that end here begin
            joined = [
                (a, b[:, a.shape[1] : n]) for a, b in zip(now, state, strict=True)
            ]
            now = tuple(torch.cat(parts, 1) for parts in joined)
        else:  # rows that ended before leave
            ended.append(tuple(part[:, n:] for part in now))
            now = tuple(part[:, :n] for part in now)
        real = piece[:n].flip(1) if reverse else piece[:n]
        out, *after = layer.fused(
            real,
            layer._bare(now),
            weights,
            layer.bias,
            1,
            0.0,
            layer.training,
            False,
            True,
        )
        now = tuple(after)
        out = out.flip(1) if reverse else out
        outputs.append(F.pad(out, (0, 0, 0, 0, 0, len(piece) - n)))
    outputs = outputs[::-1] if reverse else outputs
    last = tuple(torch.cat(parts, 1) for parts in zip(now, *ended[::-1], strict=True))
    return torch.cat(outputs, 1), last
