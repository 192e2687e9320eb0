"""xLSTM beside the authors' package in plain torch: training, writing, and the mLSTM by itself."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import SEED, Case, Contest, sized, training
from nnlib.sequence.xlstm import mlstm_chunkwise, mlstm_parallel, mlstm_recurrent, xLSTM


def stepping(
    size: dict[str, int], device: torch.device, dtype: torch.dtype, scalar: bool = False
) -> list[Contest]:
    """A training step: loss, backward, AdamW. With `scalar`, every second block is an sLSTM."""
    mine, peer, ids = _both(scalar, size, device, dtype)

    def loss(model):
        return F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    sides = (mine.train(), loss), (peer.train(), loss)
    return [training(f"{_name(scalar)} training step", size, "xlstm", *sides)]


def writing(
    size: dict[str, int], device: torch.device, dtype: torch.dtype, scalar: bool = False
) -> list[Contest]:
    """Sixteen tokens read one at a time, from an empty state: what generation costs."""
    mine, peer, ids = _both(scalar, size, device, dtype)
    mine, peer, ids = mine.eval(), peer.eval(), ids[:, :16]

    @torch.no_grad()
    def ours():
        state, logits = None, ids
        for now in ids.unbind(1):
            logits, state = mine.step(now, state)
        return {"y": logits}

    @torch.no_grad()
    def theirs():
        state, logits = None, ids
        for now in ids.split(1, 1):
            logits, state = peer.step(now, state)
        return {"y": logits[:, 0]}

    forms = {"nnlib": ours, "xlstm": theirs}
    return [Contest(f"{_name(scalar)}, 16 tokens one by one", size, dict(forms), dict(forms))]


def cell(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """The mLSTM forwards and back: our three forms, and the package's parallel one."""
    from xlstm.blocks.mlstm import backends

    torch.manual_seed(SEED)
    b, t, n, d = size["b"], size["t"], size["h"], size["e"]
    q, k, v, dy = (torch.randn(b, n, t, d).to(device, dtype) for _ in range(4))
    i, f = torch.randn(b, n, t).to(device, dtype), (torch.randn(b, n, t) + 3).to(device, dtype)
    given = [part.requires_grad_() for part in (q, k, v, i, f)]

    def told(form, given=given):
        y = form(*given)
        grads = torch.autograd.grad(y, given, dy.to(y))
        return {"y": y.detach()} | dict(zip(("dq", "dk", "dv", "di", "df"), grads, strict=True))

    def theirs(q, k, v, i, f):  # with ε it also differentiates the stabiliser
        return backends.parallel_stabilized_simple(q, k, v, i[..., None], f[..., None], eps=0)

    forms = {
        "nnlib": lambda *a: mlstm_chunkwise(*a, eps=0)[0],
        "xlstm": theirs,
        "nnlib's table": lambda *a: mlstm_parallel(*a, eps=0)[0],
        "nnlib's loop": lambda *a: mlstm_recurrent(*a, eps=0)[0],
    }
    runs = {name: partial(told, form) for name, form in forms.items()}
    # the loop adds in another order: what all compute is held in numbers where that is nothing
    exact = [part.detach().double().requires_grad_() for part in given]
    held = given if device.type == "cuda" else exact
    results = {name: partial(told, form, held) for name, form in forms.items()}
    return [Contest("mLSTM forwards and back", size, runs, results)]


def _name(scalar: bool) -> str:
    return "xLSTM[1:1]" if scalar else "xLSTM[1:0]"


def _both(
    scalar: bool, size: dict[str, int], device: torch.device, dtype: torch.dtype
) -> tuple[xLSTM, nn.Module, torch.Tensor]:
    """Return our model and theirs, of the same weights, and token numbers."""
    import xlstm

    torch.manual_seed(SEED)
    matrix = xlstm.mLSTMBlockConfig(mlstm=xlstm.mLSTMLayerConfig(num_heads=4))
    plain = {"backend": "vanilla", "dtype": "float32", "enable_automatic_mixed_precision": False}
    numbers = xlstm.sLSTMBlockConfig(
        slstm=xlstm.sLSTMLayerConfig(num_heads=4, **plain),
        feedforward=xlstm.FeedForwardConfig(embedding_dim=size["e"]),
    )
    config = xlstm.xLSTMLMModelConfig(
        vocab_size=size["v"], embedding_dim=size["e"], num_blocks=size["L"],
        context_length=size["t"], mlstm_block=matrix, slstm_block=numbers,
        slstm_at=list(range(1, size["L"], 2)) if scalar else [],
    )  # fmt: skip
    peer = xlstm.xLSTMLMModel(config)
    peer.reset_parameters()
    mine = xLSTM.from_xlstm(peer)
    ids = torch.randint(size["v"], (size["b"], size["t"]))
    return mine.to(device, dtype), peer.to(device, dtype), ids.to(device)


CPU = sized("bteLv", *((2, t, 128, 2, 1000) for t in (32, 128, 512)))
GPU = sized("bteLv", *((8, t, 1024, 12, 50277) for t in (256, 1024)))
WRITING = sized("bteLv", *((2, 16, e, 2, 1000) for e in (128, 512)))
CELLS = sized("bthe", *((2, t, 4, 64) for t in (32, 128, 512)))
CASES = {
    "xlstm": Case(stepping, CPU, GPU),
    "xlstm_mixed": Case(partial(stepping, scalar=True), CPU[:2], GPU),
    "xlstm_writing": Case(writing, WRITING, GPU),
    "xlstm_mixed_writing": Case(partial(writing, scalar=True), WRITING, GPU),
    "mlstm": Case(cell, CELLS, sized("bthe", (8, 512, 8, 128), (8, 2048, 8, 128))),
}
