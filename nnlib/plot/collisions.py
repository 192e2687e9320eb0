"""Words that lie on other words, or that a line runs through: what a reader should never meet."""

import numpy as np

from nnlib.plot.record import Record, Stroke, Words

TOUCH = 1.0  # points by which words may reach into what is beside them
OPAQUE = 0.7  # what hides a line that was drawn before
_NOT_THEIR_OWN = ("tick", "axis")


def collisions(record: Record) -> list[str]:
    """Return what collides in a drawn figure, in words.

    Words under a line that was drawn over an opaque ground of theirs, tick labels beside their own
    ticks and the lines of a grid do not count.

    Args:
        record: of the drawing, `nnlib.plot.svg.draw(figure, name).record`.
    """
    found = []
    for at, words in enumerate(record.words):
        box, whole = _inner(words), _inner(words, along=0.0)
        for other in record.words[:at]:
            if _overlap(whole, _inner(other, along=0.0)):
                found.append(f"{words.text!r} lies on {other.text!r}")
        if any(_crosses(stroke, box, words, record) for stroke in record.strokes):
            found.append(f"a line runs through {words.text!r}")
    return found


def _inner(words: Words, along: float = TOUCH) -> np.ndarray:
    """Return the box of the letters, less what may touch it along the line and across it."""
    low, high = words.corners.min(axis=0), words.corners.max(axis=0)
    step = abs(words.corners[1] - words.corners[0])
    slack = np.array([along, TOUCH] if step[0] >= step[1] else [TOUCH, along])
    return np.concatenate([low + slack, high - slack])


def _overlap(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((np.maximum(a[:2], b[:2]) < np.minimum(a[2:], b[2:])).all())


def _crosses(stroke: Stroke, box: np.ndarray, words: Words, record: Record) -> bool:
    if any(part in name for name in stroke.place for part in _NOT_THEIR_OWN):
        return False
    if stroke.clip is not None:
        box = np.concatenate(
            [np.maximum(box[:2], stroke.clip[:2]), np.minimum(box[2:], stroke.clip[2:])]
        )
    if (box[:2] >= box[2:]).any() or not _meets(stroke.points, box):
        return False
    if stroke.order > words.order:
        return True
    return not any(
        stroke.order < area.order < words.order
        and area.alpha >= OPAQUE
        and (area.box[:2] <= box[:2] + TOUCH).all()
        and (area.box[2:] >= box[2:] - TOUCH).all()
        for area in record.areas
    )


def _meets(points: np.ndarray, box: np.ndarray) -> bool:
    """Tell whether a chain of segments enters a box, by clipping each against it."""
    if (points.max(axis=0) < box[:2]).any() or (points.min(axis=0) > box[2:]).any():
        return False
    start, end = points[:-1], points[1:]
    if not len(start):
        return bool(((points >= box[:2]) & (points <= box[2:])).all(axis=1).any())
    step = end - start
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = (box[:2] - start) / step, (box[2:] - start) / step
    still = step == 0
    inside = (start >= box[:2]) & (start <= box[2:])
    enter = np.where(
        still, np.where(inside, -np.inf, np.inf), np.minimum(first, second)
    )
    leave = np.where(
        still, np.where(inside, np.inf, -np.inf), np.maximum(first, second)
    )
    enter, leave = np.maximum(enter.max(axis=1), 0), np.minimum(leave.min(axis=1), 1)
    return bool((enter <= leave).any())
