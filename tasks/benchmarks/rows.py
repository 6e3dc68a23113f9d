"""The rows of the benchmark, and its tables in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .measuring import Measured

if TYPE_CHECKING:
    from .targets import Verdict


@dataclass(frozen=True)
class Row:
    """One line: what a library did with a method on a network; see :class:`Measured` for the figures."""

    library: str
    method: str
    network: str
    measured: Measured

    @property
    def cost(self) -> float:
        """Seconds in units of a bare forward and backward pass."""
        return self.measured.cost

    @property
    def floor_ratio(self) -> float:
        """Seconds over the floor."""
        return self.measured.floor_ratio

    @property
    def robust_accuracy(self) -> float:
        """Share of the samples that withstood."""
        return self.measured.robust_accuracy

    @property
    def distance(self) -> float:
        """Mean distance of the others; infinite where there are none."""
        return math.inf if self.measured.mean_distance is None else self.measured.mean_distance

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON."""
        named = {"library": self.library, "method": self.method, "network": self.network}
        return named | asdict(self.measured)


def table(rows: Sequence[Row]) -> str:
    """The rows in columns, those of one method on one network together."""
    head = ("network", "method", "library", "seconds", "/ floor", "forward", "backward", "robust accuracy", "distance")
    return _columns([head, *(_cells(row) for row in rows)], left=3)


def verdict_table(verdicts: "Sequence[Verdict]") -> str:
    """What was to be reached, in columns."""
    head = ("to reach", "network", "ratio", "at most", "reached", "")
    lines = [
        (
            one.target,
            one.network,
            "-" if one.ratio is None else f"{one.ratio:.3f}",
            f"{one.bound:.2f}",
            {True: "yes", False: "NO", None: "unknown"}[one.reached],
            one.words,
        )
        for one in verdicts
    ]
    return _columns([head, *lines], left=2)


def _cells(row: Row) -> tuple[str, ...]:
    one = row.measured
    low, high = one.interval
    return (
        row.network,
        row.method,
        row.library,
        f"{one.seconds:.2f}",
        f"{one.floor_ratio:.2f}",
        f"{one.forward_passes:.1f}",
        f"{one.backward_passes:.1f}",
        f"{one.robust_accuracy:.3f} [{low:.3f}, {high:.3f}] n={one.samples}",
        "-" if one.mean_distance is None else f"{one.mean_distance:.4f}",
    )


def _columns(lines: Sequence[Sequence[str]], *, left: int) -> str:
    """Columns two spaces apart, the first ones aligned to the left and the others, but for the last, to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            entry.ljust(width) if place < left or place == len(widths) - 1 else entry.rjust(width)
            for place, (entry, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
    return "\n".join(text)
