"""Blocks beside torch.nn's own."""

import torch
from torch import nn

from benchmarks.models._contest import Case, Contest, Pair, sized
from nnlib.blocks.layer_norm import LayerNorm
from nnlib.blocks.multi_head_attention import MultiHeadAttention
from nnlib.blocks.rms_norm import RMSNorm


def attention(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Forward and backward of multi-head self-attention, with and without a causal mask."""
    b, t, e, h = size["b"], size["t"], size["e"], size["h"]
    peer = nn.MultiheadAttention(e, h, batch_first=True)
    mine = MultiHeadAttention(e, h)
    mine.load_state_dict(peer.state_dict())
    mine, peer = mine.to(device, dtype), peer.to(device, dtype)
    x = torch.randn(b, t, e).to(device, dtype).requires_grad_()
    mask = nn.Transformer.generate_square_subsequent_mask(t, device=device, dtype=dtype)
    causal = {"attn_mask": mask, "is_causal": True}
    plain = Pair(x, lambda: mine(x), lambda: peer(x, x, x, need_weights=False)[0], mine, peer)
    masked = Pair(
        x,
        lambda: mine(x, is_causal=True),
        lambda: peer(x, x, x, need_weights=False, **causal)[0],
        mine,
        peer,
    )
    return [plain.contest("attention", size), masked.contest("causal attention", size)]


def layer_norm(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Forward and backward of layer norm."""
    return [_norm("layer norm", LayerNorm, nn.LayerNorm, size, device, dtype)]


def rms_norm(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """Forward and backward of RMSNorm."""
    return [_norm("RMSNorm", RMSNorm, nn.RMSNorm, size, device, dtype)]


def _norm(what, mine_class, peer_class, size, device, dtype) -> Contest:
    e = size["e"]
    mine, peer = mine_class(e, eps=1e-5), peer_class(e, eps=1e-5)
    with torch.no_grad():
        for p in peer.parameters():
            p.add_(torch.randn_like(p) / 4)
    mine.load_state_dict(peer.state_dict())
    mine, peer = mine.to(device, dtype), peer.to(device, dtype)
    x = torch.randn(size["b"], size["t"], e).to(device, dtype).requires_grad_()
    pair = Pair(x, lambda: mine(x), lambda: peer(x), mine, peer)
    return pair.contest(what, {k: size[k] for k in "bte"})


CPU = sized("bteh", (8, 64, 128, 4), (4, 256, 256, 8), (2, 512, 512, 8))
GPU = sized("bteh", (8, 512, 768, 12), (8, 2048, 1024, 16), (2, 8192, 2048, 16))
CASES = {
    "attention": Case(attention, CPU, GPU),
    "layer_norm": Case(layer_norm, CPU, GPU),
    "rms_norm": Case(rms_norm, CPU, GPU),
}
