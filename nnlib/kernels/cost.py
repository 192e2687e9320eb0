"""What an operation costs: arithmetic, and bytes that travel to and from the GPU's memory."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """The least work that an operation can get by with, every input read once.

    Args:
        flops: floating-point operations; a multiplication and an addition count as two.
        bytes: bytes read from and written to main memory.

    Example:
        >>> Cost(flops=200, bytes=100).intensity
        2.0
    """

    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """Arithmetic intensity: FLOPs for each byte moved."""
        return self.flops / self.bytes

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both, one after the other."""
        return Cost(self.flops + other.flops, self.bytes + other.bytes)
