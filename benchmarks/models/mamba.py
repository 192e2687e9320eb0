"""Mamba and Mamba-2 beside the plain forms of transformers: training, writing, and the scan."""

from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import SEED, Case, Contest, sized, training
from benchmarks.peers import declare_torchvision
from nnlib.sequence.mamba import Mamba, Mamba2, selective_scan, selective_scan_reference


def mamba(
    size: dict[str, int], device: torch.device, dtype: torch.dtype, kind: str = "mamba"
) -> list[Contest]:
    """A training step: loss, backward, AdamW."""
    mine, peer, ids = _both(kind, size, device, dtype)

    def loss(logits):
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())

    further = {} if kind != "mamba" else {"mambapy": (_mambapy(peer, size), lambda m: loss(m(ids)))}
    return [
        training(
            f"{type(mine).__name__} training step", size, "transformers",
            (mine.train(), lambda m: loss(m(ids))),
            (peer.train(), lambda m: loss(m(input_ids=ids, use_cache=False).logits)),
            others=further,
        )
    ]  # fmt: skip


def writing(
    size: dict[str, int], device: torch.device, dtype: torch.dtype, kind: str = "mamba"
) -> list[Contest]:
    """Sixteen tokens more, one at a time, after a text was read."""
    mine, peer, ids = _both(kind, size, device, dtype)
    mine, peer, prompt = mine.eval(), peer.eval(), ids[:, :-16]

    def ours():
        return {"y": mine.generate(prompt, 16, temperature=0)}

    def theirs():
        options = {"max_new_tokens": 16, "do_sample": False, "eos_token_id": None}
        return {"y": peer.generate(prompt, pad_token_id=0, **options)}

    forms = {"nnlib": ours, "transformers": theirs}
    name = f"{type(mine).__name__}, 16 tokens one by one"
    return [Contest(name, size, dict(forms), dict(forms))]


def scan(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """The selective scan forwards and back, by `linear_scan` and by its loop."""
    b, t, d, n = size["b"], size["t"], size["e"], 16
    x, B, C, dy = (torch.randn(b, t, w).to(device, dtype) for w in (d, n, n, d))
    delta = F.softplus(torch.randn(b, t, d)).to(device, dtype)
    A = -torch.rand(d, n).to(device, dtype)
    given = [part.requires_grad_() for part in (x, delta, A, B, C)]

    def told(form):
        y = form(*given)
        grads = torch.autograd.grad(y, given, dy)
        names = ("dx", "ddelta", "dA", "dB", "dC")
        return {"y": y.detach()} | dict(zip(names, grads, strict=True))

    forms = {"nnlib": selective_scan, "nnlib's loop": lambda *a: selective_scan_reference(*a)[0]}
    runs = {name: partial(told, form) for name, form in forms.items()}
    return [Contest("selective scan forwards and back", size, runs, dict(runs))]


def _mambapy(peer: nn.Module, size: dict[str, int]) -> nn.Module:
    """Return mambapy's model with the weights of transformers', whose parts have the same names."""
    from mambapy.mamba import Mamba as Blocks
    from mambapy.mamba import MambaConfig, RMSNorm

    weight, e = next(peer.parameters()), size["e"]
    parts = {
        "backbone.embeddings": nn.Embedding(size["v"], e),
        "backbone": Blocks(MambaConfig(d_model=e, n_layers=size["L"])),
        "backbone.norm_f": RMSNorm(e, 1e-5),
        "lm_head": nn.Linear(e, size["v"], bias=False),
    }
    for name, part in parts.items():
        held = peer.get_submodule(name).state_dict()
        part.load_state_dict({k: held[k] for k in part.state_dict()})
    parts["lm_head"].weight = parts["backbone.embeddings"].weight
    return nn.Sequential(*parts.values()).to(weight).train()


def _both(
    kind: str, size: dict[str, int], device: torch.device, dtype: torch.dtype
) -> tuple[Mamba | Mamba2, nn.Module, torch.Tensor]:
    """Return our model and theirs, of the same weights, and token numbers."""
    declare_torchvision()
    import transformers

    torch.manual_seed(SEED)
    sizes = {
        "vocab_size": size["v"], "hidden_size": size["e"], "num_hidden_layers": size["L"],
    }  # fmt: skip
    if kind == "mamba":
        peer = transformers.MambaForCausalLM(transformers.MambaConfig(**sizes))
        mine: Mamba | Mamba2 = Mamba.from_hugging_face(peer)
    else:
        config = transformers.Mamba2Config(
            num_heads=size["e"] * 2 // 64, n_groups=1, chunk_size=64, **sizes
        )
        peer = transformers.Mamba2ForCausalLM(config)
        mine = Mamba2.from_hugging_face(peer)
    ids = torch.randint(size["v"], (size["b"], size["t"]))
    return mine.to(device, dtype), peer.to(device, dtype), ids.to(device)


CPU = sized("bteLv", *((2, t, 128, 2, 1000) for t in (32, 128, 512)))
GPU = sized("bteLv", *((8, t, 1024, 12, 50277) for t in (256, 1024)))
SCANS = sized("bte", *((2, t, 128) for t in (32, 128, 512)))
CASES = {
    "mamba": Case(mamba, CPU, GPU),
    "mamba2": Case(partial(mamba, kind="mamba2"), CPU, GPU),
    "mamba_writing": Case(writing, CPU, GPU),
    "mamba2_writing": Case(partial(writing, kind="mamba2"), CPU, GPU),
    "selective_scan": Case(scan, SCANS, sized("bte", (8, 256, 1024), (8, 1024, 1024))),
}
