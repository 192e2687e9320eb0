"""A translator beside the same layers of torch.nn."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.models._contest import Case, Contest, sized, training
from nnlib.sequence.seq2seq import Seq2Seq


def seq2seq(size: dict[str, int], device: torch.device, dtype: torch.dtype) -> list[Contest]:
    """A training step of a translator, with one context vector and with attention.

    The peer is put together from torch.nn's parts, under the same names.
    """
    b, t, v = size["b"], size["t"], size["v"]
    source, target, wanted = torch.randint(v, (3, b, t)).to(device).unbind(0)
    contests = []
    for kind, name in (("every", "seq2seq, one context"), ("attention", "seq2seq, attention")):
        mine = Seq2Seq(v, v, size["e"], size["h"], context=kind)
        peer = _Translator(v, size["e"], size["h"], kind == "attention")
        peer.load_state_dict(mine.state_dict())

        def loss(module):
            return F.cross_entropy(module(source, target).flatten(0, 1), wanted.flatten())

        sides = (mine.to(device, dtype), loss), (peer.to(device, dtype), loss)
        contests.append(training(name, size, "torch.nn", *sides))
    return contests


class _Translator(nn.Module):
    """The layers of `Seq2Seq` from torch.nn, under the same names."""

    def __init__(self, v: int, e: int, h: int, attention: bool):
        super().__init__()
        self.source_embedding, self.target_embedding = nn.Embedding(v, e), nn.Embedding(v, e)
        self.encoder = nn.GRU(e, h, batch_first=True)
        self.decoder = nn.GRU(e if attention else e + h, h, batch_first=True)
        weight = {"weight": torch.empty(h, h)}
        self.attention = nn.ParameterDict(weight) if attention else None
        self.mix, self.to_logits = nn.Linear(2 * h, h), nn.Linear(h, v)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        seen, state = self.encoder(self.source_embedding(source))
        given = self.target_embedding(target)
        if self.attention is None:
            context = state[0][:, None].expand(-1, target.shape[1], -1)
            h, _ = self.decoder(torch.cat([given, context], -1), state)
        else:
            h, _ = self.decoder(given, state)
            asked = h @ self.attention["weight"]
            context = F.scaled_dot_product_attention(asked, seen, seen, scale=1.0)
        return self.to_logits(torch.tanh(self.mix(torch.cat([context, h], -1))))


CASES = {
    "seq2seq": Case(
        seq2seq,
        sized("btehv", (16, 16, 64, 128, 64), (16, 64, 64, 128, 1024)),
        sized("btehv", (64, 64, 256, 512, 8192), (64, 256, 256, 512, 8192)),
    ),
}
