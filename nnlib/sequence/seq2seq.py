r"""Sequence to sequence: one network reads, another writes, and what passes between them is all.

Chapter: chapters/sequence/seq2seq.md     Papers: Sutskever et al. 2014; Cho et al. 2014; with
attention: Luong et al. 2015
Axes: b batch, s source tokens, t target tokens, e embedding, h hidden features, v vocabulary,
w beams.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.types import Device

from nnlib import checks
from nnlib.blocks.padding import mask_of
from nnlib.blocks.scored_attention import MultiplicativeAttention
from nnlib.sequence.gru import GRU


@dataclass
class Memory:
    """What the encoder leaves: a vector at every source token, which are real, and the last state.

    Args:
        outputs: b s h.
        key_mask: b s, True at real tokens.
        state: 1 b h, the state after the last real token.
    """

    outputs: Float[Tensor, "b s h"]
    key_mask: Bool[Tensor, "b s"]
    state: Float[Tensor, "1 b h"]

    def repeat(self, times: int) -> "Memory":
        """Return every row `times` times in a row: one for each beam."""
        return Memory(
            self.outputs.repeat_interleave(times, 0),
            self.key_mask.repeat_interleave(times, 0),
            self.state.repeat_interleave(times, 1),
        )


class Seq2Seq(nn.Module):
    r"""An encoder GRU, a decoder GRU, and between them one vector or attention.

    The encoder's last state $c$ starts the decoder. `context` says what else it learns of the
    source: nothing (`"start"`, Sutskever et al. 2014), $c$ again at every step (`"every"`, Cho et
    al. 2014), or what its state finds among all encoder states (`"attention"`, Luong et al. 2015).
    $\tilde h_j = \tanh(W[c_j; s_j])$ chooses the token, with `"start"` $s_j$ itself (equations
    `seq2seq-encoder`, `seq2seq-context`, `seq2seq-decoder`, `seq2seq-output`, `seq2seq-mix`,
    `seq2seq-factorization`).

    Args:
        source_vocab_size: tokens of the source vocabulary, ≥ 1.
        target_vocab_size: tokens of the target vocabulary, ≥ 1.
        embed_dim: width of the embeddings, ≥ 1.
        hidden_size: features h of both GRUs, ≥ 1.
        context: what the decoder learns of the source: "start", "every" or "attention".
        begin: number of the target token that starts a sequence.
        end: number of the target token that ends one; what follows it is padding, also `end`.
        device: of the parameters.
        dtype: of the parameters.

    Example:
        >>> model = Seq2Seq(12, 10, embed_dim=8, hidden_size=16)
        >>> model(torch.zeros(2, 7, dtype=torch.int64), torch.zeros(2, 5, dtype=torch.int64)).shape
        torch.Size([2, 5, 10])

    Source: Cho et al. 2014, who start from tanh(Vc) and choose with a maxout layer; Sutskever,
    Vinyals and Le 2014, with LSTMs; Luong, Pham and Manning 2015, their general score.
    """

    def __init__(
        self,
        source_vocab_size: int,
        target_vocab_size: int,
        embed_dim: int = 32,
        hidden_size: int = 64,
        context: str = "every",
        *,
        begin: int = 0,
        end: int = 1,
        device: Device = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.source_vocab_size = checks.count("source_vocab_size", source_vocab_size)
        self.target_vocab_size = v = checks.count(
            "target_vocab_size", target_vocab_size
        )
        e, h = (
            checks.count("embed_dim", embed_dim),
            checks.count("hidden_size", hidden_size),
        )
        self.context = checks.one_of(
            "context", context, ("start", "every", "attention")
        )
        for name, token in (("begin", begin), ("end", end)):
            if checks.count(name, token, least=0) >= v:
                raise ValueError(f"{name}={token} must be a target token, 0 … {v - 1}")
        self.begin, self.end = begin, end
        where: Any = {"device": device, "dtype": dtype}
        self.source_embedding = nn.Embedding(source_vocab_size, e, **where)
        self.target_embedding = nn.Embedding(v, e, **where)
        self.encoder = GRU(e, h, **where)
        self.decoder = GRU(e + h if context == "every" else e, h, **where)
        attends = context == "attention"
        self.attention = MultiplicativeAttention(h, h, **where) if attends else None
        self.mix = None if context == "start" else nn.Linear(2 * h, h, **where)
        self.to_logits = nn.Linear(h, v, **where)

    def encode(
        self, source: Int[Tensor, "b s"], lengths: Int[Tensor, " b"] | None = None
    ) -> Memory:
        """Read the source.

        Args:
            source: tokens, padded at the end.
            lengths: real tokens of each row; None is all of them.
        """
        checks.tokens("source", source, self.source_vocab_size, shape=("b", "s"))
        outputs, state = self.encoder(self.source_embedding(source), lengths=lengths)
        key_mask = torch.ones_like(source, dtype=torch.bool)
        if lengths is not None:
            key_mask = mask_of(lengths, source.shape[1]).to(source.device)
        return Memory(outputs, key_mask, state)

    def forward(
        self,
        source: Int[Tensor, "b s"],
        target: Int[Tensor, "b t"],
        lengths: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t v"]:
        """Return the logits of the token after each target token: teacher forcing.

        Args:
            source: tokens to read.
            target: the right tokens so far, `begin` first.
            lengths: real tokens of each source.
        """
        memory = self.encode(source, lengths)
        self._check_target(target, source)
        logits, _ = self.decode(memory, target, memory.state)
        return logits

    def decode(
        self, memory: Memory, target: Int[Tensor, "b t"], state: Float[Tensor, "1 b h"]
    ) -> tuple[Float[Tensor, "b t v"], Float[Tensor, "1 b h"]]:
        """Return logits after each target token, and the decoder's state after the last."""
        given = self.target_embedding(target)
        context = memory.state[0][:, None].expand(-1, target.shape[1], -1)
        if self.context == "every":
            given = torch.cat([given, context], -1)
        chooses, state = self.decoder(given, state)  # eq. seq2seq-decoder
        if self.attention is not None:
            context, _ = self._attend(chooses, memory)
        if self.mix is not None:
            chooses = torch.tanh(
                self.mix(torch.cat([context, chooses], -1))
            )  # eq. seq2seq-mix
        return self.to_logits(chooses), state  # eq. seq2seq-output

    def align(
        self,
        source: Int[Tensor, "b s"],
        target: Int[Tensor, "b t"],
        lengths: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, "b t s"]:
        """Return where the decoder looks while it writes `target`.

        Raises:
            ValueError: the model has no attention.
        """
        if self.attention is None:
            raise ValueError(f"align needs context='attention', got {self.context!r}")
        memory = self.encode(source, lengths)
        self._check_target(target, source)
        h, _ = self.decoder(self.target_embedding(target), memory.state)
        return self._attend(h, memory)[1]

    @torch.no_grad()
    def greedy(
        self,
        source: Int[Tensor, "b s"],
        max_length: int,
        lengths: Int[Tensor, " b"] | None = None,
    ) -> Int[Tensor, "b t"]:
        """Return the likeliest token at every step, each fed back; rows are `end` once ended.

        Args:
            source: tokens to read.
            max_length: tokens to write at most, ≥ 1.
            lengths: real tokens of each source.
        """
        max_length = checks.count("max_length", max_length)
        memory = self.encode(source, lengths)
        state, token = memory.state, source.new_full((len(source), 1), self.begin)
        ended = torch.zeros_like(token, dtype=torch.bool)
        written: list[Tensor] = []
        finished: list[Tensor] = []
        while len(finished) < max_length and not _over(finished):
            logits, state = self.decode(memory, token, state)
            token = logits.argmax(-1).masked_fill(ended, self.end)
            written.append(token)
            ended = ended | (token == self.end)
            finished.append(ended.all())
        return torch.cat(written, 1)[:, : _steps(finished)]

    @torch.no_grad()
    def beam(
        self,
        source: Int[Tensor, "b s"],
        width: int,
        max_length: int,
        lengths: Int[Tensor, " b"] | None = None,
        length_penalty: float = 0.0,
    ) -> tuple[Int[Tensor, "b w t"], Float[Tensor, "b w"]]:
        r"""Return the `width` best sequences found by keeping as many at every step, best first.

        A sequence of n tokens (its `end` among them) scores $\log p / ((5 + n)/6)^\alpha$, the sum
        itself at α = 0 (equations `seq2seq-beam`, `seq2seq-length-penalty`).

        Args:
            source: tokens to read.
            width: sequences kept, ≥ 1; 1 is greedy.
            max_length: tokens to write at most, ≥ 1.
            lengths: real tokens of each source.
            length_penalty: α ≥ 0; larger prefers longer sequences.
        """
        width, max_length = (
            checks.count("width", width),
            checks.count("max_length", max_length),
        )
        alpha = checks.number("length_penalty", length_penalty, least=0)
        b, v = len(source), self.target_vocab_size
        memory = self.encode(source, lengths).repeat(width)
        state, token = memory.state, source.new_full((b * width, 1), self.begin)
        score = memory.outputs.new_full((b, width), -torch.inf)
        score[:, 0] = 0  # all beams are alike at first: only one may branch
        ended = torch.zeros_like(score, dtype=torch.bool)
        count = torch.zeros_like(score)
        written = source.new_empty(b, width, 0)
        finished: list[Tensor] = []
        while len(finished) < max_length and not _over(finished):
            logits, state = self.decode(memory, token, state)
            step = logits[:, -1].log_softmax(-1).view(b, width, v)
            only_end = torch.full_like(step, -torch.inf)
            only_end[..., self.end] = 0
            step = torch.where(ended[..., None], only_end, step)
            grown = count + ~ended
            total = score[..., None] + step
            ranked = (total / _penalty(grown, alpha)[..., None]).flatten(1)
            best = ranked.topk(width, -1).indices
            row, chosen = best // v, best % v
            score = total.flatten(1).gather(1, best)
            count, ended = (
                grown.gather(1, row),
                ended.gather(1, row) | (chosen == self.end),
            )
            written = torch.cat(
                [written.gather(1, _along(row, written)), chosen[..., None]], -1
            )
            flat = (row + torch.arange(b, device=row.device)[:, None] * width).flatten()
            state, token = state[:, flat], chosen.view(-1, 1)
            finished.append(ended.all())
        written = written[..., : _steps(finished)]
        final = score / _penalty(count, alpha)
        order = final.sort(dim=-1, descending=True, stable=True).indices
        return written.gather(1, _along(order, written)), final.gather(1, order)

    @torch.no_grad()
    def score(
        self,
        source: Int[Tensor, "b s"],
        target: Int[Tensor, "b t"],
        lengths: Int[Tensor, " b"] | None = None,
    ) -> Float[Tensor, " b"]:
        """Return log p of each target, up to and with its first `end` (or to its last token)."""
        self._check_target(target, source)
        begin = target.new_full((len(target), 1), self.begin)
        logits = self(source, torch.cat([begin, target[:, :-1]], 1), lengths)
        each = logits.log_softmax(-1).gather(-1, target[..., None].long())[..., 0]
        after = (target == self.end).cumsum(1) - (target == self.end).int() > 0
        return each.masked_fill(after, 0).sum(1)

    def _attend(self, states: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        assert self.attention is not None
        keys = memory.outputs
        return self.attention(states, keys, keys, key_mask=memory.key_mask)

    def _check_target(self, target: Tensor, source: Tensor) -> None:
        checks.tokens(
            "target", target, self.target_vocab_size, shape=(len(source), "t")
        )


def _over(finished: list[Tensor]) -> bool:
    """Return whether all had ended; off the CPU, where the answer is waited for, ask seldom."""
    if not finished or not (finished[-1].is_cpu or len(finished) % 8 == 0):
        return False
    return bool(finished[-1])


def _steps(finished: list[Tensor]) -> int:
    """Return the steps up to the one at which all had ended."""
    return min(len(finished), int((~torch.stack(finished)).sum()) + 1)


def _penalty(count: Tensor, alpha: float) -> Tensor:
    return ((5 + count) / 6) ** alpha  # eq. seq2seq-length-penalty


def _along(rows: Tensor, like: Tensor) -> Tensor:
    return rows[..., None].expand(-1, -1, like.shape[-1])
