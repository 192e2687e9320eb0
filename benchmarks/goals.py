"""The goals that a GPU decides, and what a results file says of each.

A goal is met, missed, or owed: not measured yet. A CPU decides none of them.
"""

import math
from typing import Any, NamedTuple

COPY = 0.85  # of the measured copy bandwidth, for kernels that memory limits
MATMUL = 0.60  # of the measured rate of matrix products, for attention forwards
PEER = 1.2  # times the peer's time, for models


class Verdict(NamedTuple):
    """A goal, whether it is met (None: not measured), and the numbers behind that."""

    goal: str
    met: bool | None
    told: str


def judge(record: dict[str, Any]) -> list[Verdict]:
    """Return a verdict on each goal from what a results file holds."""
    rows = record.get("kernels", {}).get("rows", []) if record["kind"] == "gpu" else []
    return [_copy(rows, record), *_attention(rows, record), _models(record)]


def _copy(rows: list[dict[str, Any]], record: dict[str, Any]) -> Verdict:
    """Judge each operation by its largest size: small ones cannot fill a GPU."""
    goal = f"kernels that memory limits reach {COPY:.0%} of the copy bandwidth"
    largest: dict[tuple[str, str], tuple[int, float]] = {}
    for row in rows:
        if row["limit"] == "copy":
            at = row["operation"], row["direction"]
            rate = row["bytes"] / row["seconds"]["nnlib"] / record["kernels"]["copy_bandwidth"]
            largest[at] = max(largest.get(at, (0, 0.0)), (row["bytes"], rate))
    if not largest:
        return Verdict(goal, None, "no such kernel was measured")
    late = [f"{' '.join(at)} {rate:.0%}" for at, (_, rate) in largest.items() if rate < COPY]
    told = f"{len(largest) - len(late)} of {len(largest)}"
    return Verdict(goal, not late, told + (f"; below: {', '.join(late)}" if late else ""))


def _attention(rows: list[dict[str, Any]], record: dict[str, Any]) -> list[Verdict]:
    goals = (
        f"attention forwards reaches {MATMUL:.0%} of the rate of matrix products",
        "attention forwards is no slower than torch's",
    )
    rows = [
        row
        for row in rows
        if row["operation"] == "attention"
        and row["direction"] == "forward"
        and not row["shape"].get("window")
    ]
    if not rows:
        return [Verdict(goal, None, "attention was not measured") for goal in goals]
    best = max(
        row["flops"] / row["seconds"]["nnlib"] / record["kernels"]["matmul_rate"][row["dtype"]]
        for row in rows
    )
    beside = [row for row in rows if "torch" in row["seconds"]]
    worst = max((r["seconds"]["nnlib"] / r["seconds"]["torch"] for r in beside), default=math.nan)
    return [
        Verdict(goals[0], best >= MATMUL, f"{best:.0%} at its best size"),
        Verdict(goals[1], worst <= 1 if beside else None, f"{worst:.2f} times at the worst size"),
    ]


def _models(record: dict[str, Any]) -> Verdict:
    from benchmarks.models._run import ratio

    goal = f"models take at most {PEER} times their peer's time"
    rows = record.get("models", {}).get("rows", []) if record["kind"] == "gpu" else []
    found = [(row["what"], ratio(row)) for row in rows]
    held = [(what, r) for what, r in found if r is not None]
    if not held:
        return Verdict(goal, None, "no model was measured beside a peer")
    late = [f"{what} {r:.2f}" for what, r in held if r > PEER]
    told = f"{len(held) - len(late)} of {len(held)} rows"
    return Verdict(goal, not late, told + (f"; beyond: {', '.join(late)}" if late else ""))
