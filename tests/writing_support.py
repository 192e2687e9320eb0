"""What the tests of language models hold each of them to, when it reads and when it writes."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support import refuses


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ----------------------------------------------------------------------------- with a fixed state
def reads_step_by_step(model: nn.Module, ids: Tensor, atol: float = 1e-12) -> None:
    """One step a token, or the whole in two parts, gives the logits of the whole at once.

    And the state is as large after the last token as after the first.
    """
    whole, end = model.with_state(ids)
    logits, state, sizes = [], None, set()
    for now in ids.unbind(1):
        told, state = model.step(now, state)
        logits.append(told)
        sizes.add(str([part.shape for part in parts(state)]))
    torch.testing.assert_close(torch.stack(logits, 1), whole, rtol=0, atol=atol)
    torch.testing.assert_close(parts(state), parts(end), rtol=0, atol=atol)
    assert len(sizes) == 1
    first, between = model.with_state(ids[:, :4])
    both = torch.cat([first, model(ids[:, 4:], between)], 1)
    torch.testing.assert_close(both, whole, rtol=0, atol=atol)


def parts(state: Any) -> list[Tensor]:
    """Return the tensors of a state, whatever its structure."""
    return [state] if isinstance(state, Tensor) else [x for part in state for x in parts(part)]


def sees_nothing_of_the_future(model: nn.Module, ids: Tensor, atol: float = 0.0) -> None:
    """Other tokens from the ninth on change what is said there, and nothing before."""
    other = ids.clone()
    other[:, 8:] = (other[:, 8:] + 1) % model.vocab_size
    before, after = model(ids), model(other)
    torch.testing.assert_close(after[:, :8], before[:, :8], rtol=0, atol=atol)
    assert (after[:, 8] - before[:, 8]).abs().max() > 1e-3


def writes_what_it_would_read(model: nn.Module, ids: Tensor) -> None:
    """Each token is what the model says of the whole text before it; equal seeds, equal draws."""
    wanted = ids
    for _ in range(9):
        wanted = torch.cat([wanted, model(wanted)[:, -1:].argmax(-1)], 1)
    assert torch.equal(model.generate(ids, 9, temperature=0), wanted)
    for rule in ({}, {"top_k": 3}):
        drawn = [model.generate(ids, 9, **rule, generator=seeded(4)) for _ in "ab"]
        assert torch.equal(*drawn) and drawn[0].shape == wanted.shape


# ----------------------------------------------------------------------------------- with caches
RULES = pytest.mark.parametrize(
    "rule",
    [{"temperature": 0}, {}, {"temperature": 2.0, "top_k": 3}, {"top_p": 0.7}, {"min_p": 0.3}],
    ids=str,
)
PADDED = pytest.mark.parametrize("padded", [False, True], ids=["plain", "padded"])


def writes_alike_with_and_without_caches(
    model: nn.Module, ids: Tensor, rule: dict[str, Any], padded: bool
) -> None:
    """With `ids` of three rows and four tokens, in a model with room for twenty more."""
    key_mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]]).bool() if padded else None
    runs = [
        model.generate(ids, 20, **rule, key_mask=key_mask, use_cache=kept, generator=seeded(5))
        for kept in (True, False)
    ]
    assert torch.equal(*runs)
    assert torch.equal(runs[0][:, :4], ids)
    assert runs[0].shape == (3, 24)


def stops_row_by_row(model: nn.Module, ids: Tensor) -> None:
    """A row ends with the token 1 and is filled up with it; the last row ends the work.

    With a vocabulary so small that 60 tokens hold a 1.
    """
    free = model.generate(ids, 60, generator=seeded(3))
    stopped = model.generate(ids, 60, stop=1, generator=seeded(3))
    assert stopped.shape[1] < free.shape[1]
    for row, other in zip(stopped, free, strict=True):
        first = ids.shape[1] + row[ids.shape[1] :].tolist().index(1)
        assert torch.equal(row[: first + 1], other[: first + 1])
        assert (row[first:] == 1).all()


REQUESTS = pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_new_tokens": 0}, ValueError, "max_new_tokens=0"),
        ({"max_new_tokens": 1.5}, TypeError, "max_new_tokens=1.5"),
        ({"temperature": -0.1}, ValueError, "temperature=-0.1"),
        ({"temperature": math.nan}, ValueError, "temperature=nan"),
        ({"top_k": 0}, ValueError, "top_k=0"),
        ({"top_p": 0.0}, ValueError, "top_p=0.0"),
        ({"top_p": 1.01}, ValueError, "top_p=1.01"),
        ({"min_p": 2.0}, ValueError, "min_p=2.0"),
        ({"stop": 7}, ValueError, "stop=7 must be below vocab_size=7"),
        ({"use_cache": 0.0}, TypeError, "use_cache=0.0 must be True or False"),
        ({"max_new_tokens": 10}, ValueError, "max_new_tokens=10 after a prompt of 3 needs 13"),
        ({"ids": torch.tensor([[0, 7, 1]])}, ValueError, "ids must be 0 … 6 (vocab_size), got"),
        ({"ids": torch.tensor([[0, -1, 1]])}, ValueError, "ids must be 0 … 6 (vocab_size), got -1"),
        ({"ids": torch.zeros(1, 13, dtype=torch.int64)}, ValueError, "max_length=12, got 13"),
        ({"ids": torch.zeros(1, 0, dtype=torch.int64)}, ValueError, "ids must not be empty"),
        ({"ids": torch.zeros(3, dtype=torch.int64)}, ValueError, "ids must have shape (b, t)"),
        ({"ids": torch.zeros(1, 3)}, TypeError, "ids must hold integers"),
        (
            {"key_mask": torch.tensor([[True, True, False]])},
            ValueError,
            "key_mask must end with a real token",
        ),
        ({"key_mask": torch.ones(1, 3)}, TypeError, "key_mask must hold True at real tokens"),
        ({"key_mask": torch.ones(1, 4).bool()}, ValueError, "key_mask must have shape (1, 3)"),
    ],
    ids=lambda x: str(x)[:40] if isinstance(x, dict) else "",
)
"""What a model of 7 tokens and 12 positions does not write, and says so."""


def refuses_before_it_computes(model, options, error, message, monkeypatch) -> None:
    monkeypatch.setattr(model.layers[0], "forward", None)  # computing would fail otherwise
    given = {"ids": torch.tensor([[1, 2, 3]]), "max_new_tokens": 2, **options}
    with refuses(error, message):
        model.generate(**given)
