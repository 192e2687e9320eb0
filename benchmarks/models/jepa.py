"""A JEPA's context beside blanks in torch's layers, and its encoder beside transformers'."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized
from benchmarks.peers import declare_torchvision
from nnlib.representation.jepa import JEPAEncoder, block_masks, take_patches


def encoder(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Encode a context: only its patches, or all of them, with nobody looking at hidden ones."""
    side = 14 * size["s"]
    mine = JEPAEncoder((side, side), (14, 14), size["e"], size["L"], 4, device=device, dtype=dtype)
    x = torch.randn(size["b"], 3, side, side, device=device, dtype=dtype)
    draw = torch.Generator().manual_seed(0)
    context = block_masks((size["s"],) * 2, size["b"], generator=draw, device=device).context

    theirs = nn.ModuleList(
        nn.TransformerEncoderLayer(
            size["e"], 4, 4 * size["e"], 0.0, F.gelu, 1e-6, batch_first=True, norm_first=True,
            device=device, dtype=dtype,
        )
        for _ in mine.layers
    )  # fmt: skip
    theirs.load_state_dict(mine.layers.state_dict())

    def masked() -> Tensor:
        z = mine.patch_embedding(x).flatten(2).mT + mine.position_embedding
        seen = torch.zeros(z.shape[:2], dtype=torch.bool, device=device)
        seen.scatter_(1, context, True)
        for layer in theirs:
            z = layer(z, src_key_padding_mask=~seen)
        return take_patches(mine.norm(z), context)

    def trained(call) -> dict[str, Tensor]:
        y = call()
        wanted = [mine.patch_embedding.weight]
        return {"y": y, "d": torch.autograd.grad(y.square().mean(), wanted)[0]}

    sides = {"nnlib": lambda: mine(x, context), "torch.nn": masked}
    runs = {name: lambda call=call: trained(call) for name, call in sides.items()}
    return [
        Contest("JEPA context encoder, both ways", size, runs, runs),
        *whole(size, device, dtype),
    ]


def whole(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Encode whole pictures with the weights of transformers' I-JEPA."""
    declare_torchvision()
    from transformers import IJepaConfig, IJepaModel

    side = 14 * size["s"]
    config = IJepaConfig(
        hidden_size=size["e"], num_hidden_layers=size["L"], num_attention_heads=4,
        intermediate_size=4 * size["e"], image_size=side, patch_size=14, layer_norm_eps=1e-6,
    )  # fmt: skip
    peer = IJepaModel(config).eval()
    mine: nn.Module = JEPAEncoder.from_hugging_face(peer).to(device, dtype)
    peer = peer.to(device, dtype)
    x = torch.randn(size["b"], 3, side, side, device=device, dtype=dtype)

    def quiet(call):
        def run() -> dict[str, Tensor]:
            with torch.no_grad():
                return {"y": call()}

        return run

    runs = {"nnlib": quiet(lambda: mine(x)), "transformers": quiet(lambda: peer(x)[0])}
    return [Contest("JEPA encoder, whole pictures", size, runs, runs)]


SIZES = sized("bseL", (4, 8, 64, 2), (8, 16, 128, 2), (32, 16, 384, 6))
CASES = {"jepa": Case(encoder, SIZES[:2], SIZES)}
