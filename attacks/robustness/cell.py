"""One measurement of a robustness card."""

from dataclasses import dataclass, field
from typing import Any, Literal

from attacks.engine import Rate

Party = Literal["first", "second", "third"]

LEVELS = {
    0: "clean samples",
    1: "natural corruptions",
    2: "adversarial attacks inside a norm ball",
}
"""What a level of the card is about, in the order of how much somebody wants the model to fail."""


@dataclass(frozen=True)
class Cell:
    """One measurement: what was done to the samples, how many the model still got right, and what that cost.

    Attributes:
        level: 0 for the clean samples, 1 for natural corruptions, 2 for attacks inside a norm ball.
        party: whose measurement it is: of the model's maker ("first", who sees everything), of its customer
            ("second") or of an independent examiner ("third").
        name: the corruption or the attack.
        settings: its settings, plain JSON.
        rate: the share of *all* samples that the model gets right under it, samples that it got wrong anyway included;
            None when the cell was not run.
        forward_passes: samples sent through the model for this cell.
        backward_passes: samples whose gradient was taken for it.
        seconds: wall time.
        note: what was run, or why the cell was not.

    Example:
        >>> Cell(1, "first", "jpeg", {"severity": 3}, None, note="Not run: the samples are no images.").was_run
        False
    """

    level: int
    party: Party
    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    rate: Rate | None = None
    forward_passes: int = 0
    backward_passes: int = 0
    seconds: float = 0.0
    note: str = ""

    @property
    def was_run(self) -> bool:
        """Whether there is a measurement."""
        return self.rate is not None

    def to_dict(self) -> dict[str, Any]:
        """The cell as plain JSON."""
        return {**vars(self), "rate": None if self.rate is None else self.rate.to_dict()}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Cell":
        """The cell that :meth:`to_dict` wrote.

        Example:
            >>> cell = Cell(0, "first", "clean", rate=Rate(9, 10), forward_passes=10)
            >>> Cell.from_dict(cell.to_dict()) == cell
            True
        """
        return cls(**{**saved, "rate": None if saved["rate"] is None else Rate.from_dict(saved["rate"])})
