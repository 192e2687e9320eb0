"""A layer of experts beside the sparse block of transformers' Mixtral."""

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.models._contest import SEED, Case, Contest, sized, training
from benchmarks.peers import declare_torchvision
from nnlib.language.mixture_of_experts import MixtureOfExperts


def experts(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of Mixtral's block: forward, backward, AdamW.

    The peer multiplies as transformers does by default, with torch's grouped product; its loop over
    experts and our form with a capacity, which is padded, stand beside it.
    """
    declare_torchvision()
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    b, t, e, m, k = size["b"], size["t"], size["e"], size["m"], size["k"]
    peers = {}
    for how in ("grouped_mm", "eager"):
        torch.manual_seed(SEED)
        config = MixtralConfig(
            hidden_size=e, intermediate_size=size["f"], num_local_experts=m,
            num_experts_per_tok=k, num_attention_heads=1, num_key_value_heads=1,
        )  # fmt: skip
        config._experts_implementation = how
        peers[how] = MixtralSparseMoeBlock(config)
        for parameter in peers[how].parameters():
            nn.init.normal_(parameter, std=0.05)
        peers[how].to(device, dtype)
    mine = MixtureOfExperts.from_hugging_face(peers["grouped_mm"]).train()
    x, target = (torch.randn(b, t, e).to(device, dtype) for _ in range(2))

    def loss(module):
        return F.mse_loss(module(x), target)

    roomy = MixtureOfExperts(
        e, size["f"], m, k, capacity_factor=float(m), device=device, dtype=dtype
    )
    roomy.load_state_dict(mine.state_dict())
    return [
        training(
            "experts", size, "transformers", (mine, loss), (peers["grouped_mm"], loss),
            others={
                "transformers, a loop": (peers["eager"], loss),
                "nnlib, padded": (roomy, loss),
            },
        )
    ]  # fmt: skip


CASES = {
    "experts": Case(
        experts,
        sized(
            "btefmk", (4, 64, 64, 128, 8, 2), (4, 128, 256, 512, 8, 2), (4, 128, 256, 128, 64, 8)
        ),
        sized("btefmk", (8, 1024, 1024, 3584, 8, 2), (8, 2048, 2048, 768, 128, 8)),
    ),
}
