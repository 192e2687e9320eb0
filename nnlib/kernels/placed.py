"""Kernels that a GPU has run, placed under the roof that was measured beside them.

Chapter: chapters/kernels/roofline.md     Records: benchmarks/README.md
"""

from typing import Any, NamedTuple

from nnlib.kernels.cost import Cost
from nnlib.kernels.roofline import Machine, seconds


class Placed(NamedTuple):
    """A measured kernel, ready for the diagram; see `placed`."""

    operation: str
    direction: str
    dtype: str
    shape: dict[str, int]
    cost: Cost
    seconds: float
    share: float

    @property
    def rate(self) -> float:
        """FLOP/s that it reached."""
        return self.cost.flops / self.seconds


def placed(record: dict[str, Any], who: str = "nnlib") -> list[Placed]:
    """Return the kernels of one benchmark record with the share of the roof that each reached.

    The roof is the copy bandwidth and the rate of matrix products measured in the same run.

    Args:
        record: one of `nnlib.notebook.measured("kernels")`.
        who: whose times: "nnlib", "reference", "torch" or a peer's name.

    Raises:
        KeyError: the record lacks an entry.
    """
    found = []
    for row in record["rows"]:
        if who not in row["seconds"]:
            continue
        rates = record["matmul_rate"]
        flops = rates.get(row["dtype"]) or max(rates.values())
        machine = Machine(record["device"], flops, record["copy_bandwidth"])
        cost, taken = Cost(row["flops"], row["bytes"]), row["seconds"][who]
        share = seconds(machine, cost, launches=0) / taken
        found.append(
            Placed(
                row["operation"],
                row["direction"],
                row["dtype"],
                row["shape"],
                cost,
                taken,
                share,
            )
        )
    return found
