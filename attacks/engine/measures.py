"""Rates with their intervals: no rate leaves this project without its n."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from attacks.errors import InputError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Rate:
    """A share of ``n`` independent samples, with its 95 % Wilson interval.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Attributes:
        successes: how many of the samples count.
        n: how many samples there were; at least 1.

    Example:
        >>> rate = Rate(45, 50)
        >>> print(rate)
        0.900 [0.786, 0.957] n=50
        >>> rate.to_dict()["n"]
        50
    """

    successes: int
    n: int

    def __post_init__(self) -> None:
        if self.n < 1 or not 0 <= self.successes <= self.n:
            raise InputError(
                f"A rate of {self.successes} out of {self.n} samples cannot be: give n of at least 1 and between "
                "0 and n successes."
            )

    @classmethod
    def of(cls, hits: Tensor) -> "Rate":
        """The share of True in a bool tensor of any shape.

        Example:
            >>> import torch
            >>> Rate.of(torch.tensor([True, False])).value
            0.5
        """
        return cls(int(hits.sum()), hits.numel())

    @property
    def value(self) -> float:
        """The share itself, in [0, 1]."""
        return self.successes / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % Wilson interval, (low, high), inside [0, 1]."""
        from scipy.stats import binomtest  # here, since it takes most of a second to import

        interval = binomtest(self.successes, self.n).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
        return float(interval.low), float(interval.high)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.value:.3f} [{low:.3f}, {high:.3f}] n={self.n}"

    def to_dict(self) -> dict[str, Any]:
        """The rate as plain JSON: ``value, low, high, successes, n``."""
        low, high = self.interval
        return {"value": self.value, "low": low, "high": high, "successes": self.successes, "n": self.n}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> "Rate":
        """The rate that :meth:`to_dict` wrote; value and interval are computed anew.

        Example:
            >>> Rate.from_dict(Rate(3, 4).to_dict())
            Rate(successes=3, n=4)
        """
        return cls(saved["successes"], saved["n"])
