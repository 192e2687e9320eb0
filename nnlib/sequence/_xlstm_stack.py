"""What both models of the xLSTM share: a stack of blocks, each with a state of its own kind.

Part of `nnlib.sequence.xlstm`, with its axes.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from nnlib.blocks.language_model import RecurrentLanguageModel
from nnlib.sequence._xlstm_blocks import MLSTMBlockState, SLSTMBlockState
from nnlib.sequence._xlstm_mlstm import MLSTMState

State = tuple[MLSTMBlockState | SLSTMBlockState | MLSTMState, ...]  # one a layer


class Stack(RecurrentLanguageModel[State]):
    """Tokens, blocks, a norm, logits."""

    layers: Any
    norm: Any
    token_embedding: Any

    def _logits(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def new_state(self, batch: int) -> State:
        """Return the state of sequences of which nothing was read; its size never changes.

        Args:
            batch: how many sequences, ≥ 1.
        """
        return tuple(layer.new_state(batch) for layer in self.layers)

    def _checked(self, batch: int, state: Any) -> Sequence[Any]:
        """Return one state a layer, which looks at it by itself."""
        if state is None:
            return [None] * len(self.layers)
        if not isinstance(state, tuple) or len(state) != len(self.layers):
            raise TypeError(
                f"state must be a tuple of one state a layer, {len(self.layers)} in all, "
                f"got {type(state).__name__}"
            )
        return state

    def _read(self, ids: Tensor, state: Any) -> tuple[Tensor, State]:
        x, after = self.token_embedding(ids), []
        for layer, one in zip(self.layers, state, strict=True):
            x, one = layer(x, one)
            after.append(one)
        return self._logits(x), tuple(after)
