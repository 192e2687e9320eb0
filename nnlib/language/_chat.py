r"""A conversation as one row of tokens, and which of them the model should learn to write."""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

ROLES = ("system", "user", "assistant")
START, END = "<|im_start|>", "<|im_end|>"


def chat_tokens(
    messages: Sequence[Mapping[str, str]],
    encode: Callable[[str], Sequence[int] | Tensor],
    reply: bool = False,
) -> tuple[Int[Tensor, " t"], Bool[Tensor, " t"]]:
    """Return a conversation in ChatML, and True at the tokens that the assistant wrote.

    Its end marker belongs to them: from it the model learns to stop.

    Args:
        messages: each a dictionary with a "role" (system, user or assistant) and its "content".
        encode: text to token numbers; the two markers should be one token each.
        reply: whether to end with the beginning of an answer, for the model to go on from.

    Example:
        >>> said = [{"role": "user", "content": "2+2?"}, {"role": "assistant", "content": "4"}]
        >>> ids, learned = chat_tokens(said, lambda text: list(text.encode()))
        >>> bytes(ids[learned].tolist()).decode()
        '4<|im_end|>'

    Source: OpenAI's ChatML, 2023.
    """
    if isinstance(messages, str | Mapping) or not messages:
        raise ValueError(
            f"messages={messages!r} must be one message or more, in a list"
        )
    pieces: list[tuple[str, bool]] = []
    for message in messages:
        if not isinstance(message, Mapping) or not {"role", "content"} <= set(message):
            raise ValueError(f"messages must have a role and content, got {message!r}")
        role, content = message["role"], message["content"]
        if role not in ROLES:
            raise ValueError(f"messages have roles {ROLES}, got {role!r}")
        if not isinstance(content, str):
            raise TypeError(f"messages must have text as content, got {content!r}")
        if START in content or END in content:
            raise ValueError(
                f"messages must not hold {START} or {END} in their content"
            )
        pieces += [
            (f"{START}{role}\n", False), (content + END, role == "assistant"), ("\n", False),
        ]  # fmt: skip
    if reply:
        pieces.append((f"{START}assistant\n", False))
    ids: list[int] = []
    learned: list[bool] = []
    for text, own in pieces:
        part = [int(number) for number in encode(text)]
        ids += part
        learned += [own] * len(part)
    return torch.tensor(ids), torch.tensor(learned)
