"""A bar that shows how far a run is, and waits for no device but when it is drawn anew."""

from collections.abc import Iterator
from typing import Any

from nnlib.distribution import extra
from nnlib.train.batches import Steps
from nnlib.train.history import History


def bar(
    steps: Steps, history: History | None = None, *, shown: bool = True
) -> Iterator[Any]:
    """Yield what `steps` yields, above a bar with the latest values of `history`.

    Example:
        >>> list(bar(Steps(3), shown=False))
        [0, 1, 2]
    """
    with extra("train"):
        from tqdm.auto import tqdm

    line = tqdm(total=steps.steps, initial=steps.step, disable=not shown, unit="step")
    with line:
        for given in steps:
            yield given
            drawn = line.update()  # several times a second, not at every step
            if drawn and history is not None:
                line.set_postfix(history.latest(), refresh=False)
