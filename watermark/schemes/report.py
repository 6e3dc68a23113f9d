"""What an embedding cost and what it reached."""

from dataclasses import dataclass
from typing import Any

from attacks.engine import Rate

from ..verdict import Count


@dataclass(frozen=True, kw_only=True)
class EmbeddingReport:
    """The outcome of an embedding, measured on the model that was returned.

    Attributes:
        before: the trigger labels that the model matched before.
        after: the trigger labels that the marked model matches.
        clean_before: accuracy on the validation data before; None without validation data.
        clean_after: the same for the marked model.
        steps: optimiser steps taken.
        seconds: wall-clock time of the training.
        original: hash of the weights and buffers before (``attacks.engine.weights_hash``).
        marked: hash of the marked model's.
        mark: digest of the mark.

    Example:
        >>> half, all_ = (Count(matches=k, n=20, classes=10) for k in (2, 20))
        >>> print(EmbeddingReport(before=half, after=all_, clean_before=Rate(95, 100), clean_after=Rate(94, 100),
        ...     steps=200, seconds=4.2, original="a1", marked="b2", mark="c3"))
        20 of 20 keyed labels (66.4 bits; 2 before) in 200 steps, 4.2 s; clean accuracy 0.940 [0.875, 0.972] n=100,
        before 0.950 [0.888, 0.978] n=100
    """

    before: Count
    after: Count
    clean_before: Rate | None
    clean_after: Rate | None
    steps: int
    seconds: float
    original: str
    marked: str
    mark: str

    def __str__(self) -> str:
        found = (
            f"{self.after.matches} of {self.after.n} keyed labels ({self.after.bits:.1f} bits; "
            f"{self.before.matches} before) in {self.steps} steps, {self.seconds:.1f} s; "
        )
        if self.clean_after is None:
            return found + "clean accuracy not measured (no validation data)"
        return found + f"clean accuracy {self.clean_after}, before {self.clean_before}"

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values, ready for JSON."""
        rates = {"clean_before": self.clean_before, "clean_after": self.clean_after}
        counts = {"before": self.before, "after": self.after}
        plain = {name: getattr(self, name) for name in ("steps", "seconds", "original", "marked", "mark")}
        return {name: value and value.to_dict() for name, value in (counts | rates).items()} | plain
