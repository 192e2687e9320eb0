"""What both models of the xLSTM share: reading with a state, stepping, writing.

Part of `nnlib.sequence.xlstm`, with its axes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nnlib import checks
from nnlib.blocks.sampling import write_on
from nnlib.sequence._xlstm_blocks import MLSTMBlockState, SLSTMBlockState
from nnlib.sequence._xlstm_mlstm import MLSTMState
from nnlib.train.evaluating import evaluating

State = tuple[MLSTMBlockState | SLSTMBlockState | MLSTMState, ...]  # one a layer


class Reader(nn.Module):
    """What both models share: reading with a state, stepping, writing."""

    vocab_size: int
    layers: Any
    norm: Any
    token_embedding: Any

    def _logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(
        self, ids: Int[Tensor, "b t"], state: State | None = None
    ) -> Float[Tensor, "b t w"]:
        """Return the logits of the token that follows each position.

        Args:
            ids: token numbers.
            state: of what was read before, from `with_state` or `step`; None: nothing.
        """
        return self.with_state(ids, state)[0]

    def with_state(
        self, ids: Int[Tensor, "b t"], state: State | None = None
    ) -> tuple[Float[Tensor, "b t w"], State]:
        """Return the logits, and the state after the last token.

        Args:
            ids: token numbers.
            state: of what was read before; None: nothing.
        """
        checks.tokens("ids", ids, self.vocab_size)
        given = self._checked(state)
        x, after = self.token_embedding(ids), []
        for layer, one in zip(self.layers, given, strict=True):
            x, one = layer(x, one)
            after.append(one)
        return self._logits(x), tuple(after)

    def step(
        self, ids: Int[Tensor, " b"], state: State | None = None
    ) -> tuple[Float[Tensor, "b w"], State]:
        """Read one token of each sequence: return the logits of the next, and the new state.

        Args:
            ids: one token number a sequence.
            state: of what was read before; None: nothing.
        """
        checks.tokens("ids", ids, self.vocab_size, shape=("b",))
        logits, state = self.with_state(ids[:, None], state)
        return logits[:, 0], state

    def new_state(self, batch: int) -> State:
        """Return the state of sequences of which nothing was read; its size never changes.

        Args:
            batch: how many sequences, ≥ 1.
        """
        return tuple(layer.new_state(batch) for layer in self.layers)

    @torch.no_grad()
    def generate(
        self,
        ids: Int[Tensor, "b t"],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        generator: torch.Generator | None = None,
    ) -> Int[Tensor, "b s"]:
        """Return the prompts and what follows them, by `nnlib.blocks.sampling.write_on`."""
        with evaluating(self):
            return write_on(
                self, ids, max_new_tokens, temperature, top_k, top_p, generator
            )

    def _checked(self, state: State | None) -> Sequence[Any]:
        """Return one state a layer, which looks at it by itself."""
        if state is None:
            return [None] * len(self.layers)
        if not isinstance(state, tuple) or len(state) != len(self.layers):
            raise TypeError(
                f"state must be a tuple of one state a layer, {len(self.layers)} in all, "
                f"got {type(state).__name__}"
            )
        return state
