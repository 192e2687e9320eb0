"""RWKV beside the plain form of transformers: a training step, and writing token by token."""

import torch
from torch.nn import functional as F

from benchmarks.models._contest import SEED, Case, Contest, sized, training
from benchmarks.peers import declare_torchvision
from nnlib.sequence.rwkv import RWKV, wkv, wkv_reference


def rwkv(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step: loss, backward, AdamW."""
    mine, peer, ids = _both(size, device, dtype)

    def loss(logits):
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    return [
        training(
            "RWKV training step", size, "transformers",
            (mine.train(), lambda m: loss(m(ids))),
            (peer.train(), lambda m: loss(m(input_ids=ids, use_cache=False).logits)),
        )
    ]  # fmt: skip


def writing(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Sixteen tokens more, one at a time, after a text was read.

    One text: given one token of each of several, transformers 5.23 mixes them up, as it adds
    `b e` to `b 1 e`.
    """
    mine, peer, ids = _both(size, device, dtype)
    mine, peer = mine.eval(), peer.eval()
    read, rest = ids[:, :-16], ids[:, -16:]
    with torch.no_grad():
        ours = mine.with_state(read)[1]
    with torch.no_grad():
        kept = peer(input_ids=read, use_cache=True).state  # a step writes into it

    @torch.no_grad()
    def stepped():
        state = ours
        for token in rest.T:
            logits, state = mine.step(token, state)
        return logits

    @torch.no_grad()
    def theirs():
        state = [part.clone() for part in kept]
        for token in rest.T:
            out = peer(input_ids=token[:, None], state=state, use_cache=True)
            state = out.state
        return out.logits[:, 0]

    return [
        Contest(
            "RWKV, 16 tokens one by one", size, {"nnlib": stepped, "transformers": theirs},
            {"nnlib": lambda: {"y": stepped()}, "transformers": lambda: {"y": theirs()}},
        )
    ]  # fmt: skip


def mean(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """`wkv` forwards and back, by its scan and by its loop."""
    b, t, c = size["b"], size["t"], size["e"]
    k, v, weight = (torch.randn(b, t, c).to(device, dtype) for _ in "kvy")
    w, u = torch.rand(c).to(device, dtype), torch.randn(c).to(device, dtype)
    given = [x.requires_grad_() for x in (w, u, k, v)]

    def told(form):
        y = form(*given)
        grads = torch.autograd.grad(y, given, weight)
        return {"y": y.detach()} | dict(zip(("dw", "du", "dk", "dv"), grads, strict=True))

    forms = {"nnlib": wkv, "nnlib's loop": wkv_reference}
    runs = {name: (lambda form=form: told(form)) for name, form in forms.items()}
    return [Contest("wkv forwards and back", size, runs, dict(runs))]


def _both(size: dict[str, int], device: torch.device, dtype: torch.dtype):
    """Return our RWKV and theirs, of the same weights, and token numbers."""
    declare_torchvision()
    from transformers import RwkvConfig, RwkvForCausalLM

    torch.manual_seed(SEED)
    peer = RwkvForCausalLM(
        RwkvConfig(
            vocab_size=size["v"], hidden_size=size["e"], num_hidden_layers=size["L"],
            context_length=size["t"], rescale_every=0,
        )
    )  # fmt: skip
    mine = RWKV.from_hugging_face(peer)
    ids = torch.randint(size["v"], (size["b"], size["t"]))
    return mine.to(device, dtype), peer.to(device, dtype), ids.to(device)


CPU = sized("bteLv", *((4, t, 128, 4, 1000) for t in (32, 128, 512)))
GPU = sized("bteLv", *((8, t, 1024, 12, 50277) for t in (256, 1024)))
CPU_ALONE = sized("bteLv", *((1, t, 128, 4, 1000) for t in (32, 512)))
GPU_ALONE = sized("bteLv", *((1, t, 1024, 12, 50277) for t in (256, 1024)))
MEANS = sized("bte", *((4, t, 128) for t in (32, 128, 512, 1024)))
CASES = {
    "rwkv": Case(rwkv, CPU, GPU),
    "rwkv_writing": Case(writing, CPU_ALONE, GPU_ALONE),
    "wkv": Case(mean, MEANS, sized("bte", (8, 256, 1024), (8, 1024, 1024))),
}
