"""What a verification found, with its controls, and the words that say what it bounds and what not."""

from dataclasses import dataclass
from typing import Any

from attacks.engine import Rate

from .statistics import bits, matches_needed, p_value


@dataclass(frozen=True, kw_only=True)
class Count:
    """How many keyed labels a model's answers matched.

    Attributes:
        matches: 0 to ``n``.
        n: triggers asked.
        classes: classes that the labels were drawn from.

    Example:
        >>> count = Count(matches=28, n=100, classes=10)
        >>> print(count.rate, round(count.bits, 1))
        0.280 [0.201, 0.375] n=100 21.5
    """

    matches: int
    n: int
    classes: int

    @property
    def rate(self) -> Rate:
        """The share of matches with its 95 % interval."""
        return Rate(self.matches, self.n)

    @property
    def p_value(self) -> float:
        """Exact; 0.0 where it is below the smallest float."""
        return p_value(self.matches, self.n, self.classes)

    @property
    def bits(self) -> float:
        """The p-value as ``-log2 p``; never underflows."""
        return bits(self.matches, self.n, self.classes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {
            "matches": self.matches,
            "n": self.n,
            "classes": self.classes,
            "rate": self.rate.to_dict(),
            "p_value": self.p_value,
            "bits": self.bits,
        }


@dataclass(frozen=True, kw_only=True)
class Verdict(Count):
    """The outcome of :func:`watermark.verify`. ``p_value`` and ``bits`` are exact.

    Attributes:
        alpha: the chance of a false claim that was accepted beforehand.
        distinct_answers: how many different classes the suspect gave to the triggers.
        refused: triggers without a valid answer; they count as misses.
        error: the first reason for a refusal; empty without one.
        queries: what the suspect was asked in all, controls included.
        wrong_keys: the suspect's matches with the triggers and labels of wrong keys.
        unmarked: the matches of a model that surely lacks the mark; None where none was given.
        clean: the suspect's accuracy on ordinary images; None where none were given.
        commitment: of the key (see ``OwnerKey.commitment``).
        mark: digest of the mark (see ``Mark.digest``).

    Example:
        >>> verdict = Verdict(matches=97, n=100, classes=10, alpha=1e-6, distinct_answers=10, refused=0, error="",
        ...     queries=100, wrong_keys=(), unmarked=None, clean=None, commitment="c0ffee", mark="a1b2c3")
        >>> verdict.verified, verdict.needed
        (True, 28)
    """

    alpha: float
    distinct_answers: int
    refused: int
    error: str
    queries: int
    wrong_keys: tuple[Count, ...]
    unmarked: Count | None
    clean: Rate | None
    commitment: str
    mark: str

    @property
    def needed(self) -> int:
        """The fewest matches whose p-value lies below ``alpha``."""
        return matches_needed(self.n, self.classes, self.alpha)

    @property
    def verified(self) -> bool:
        """Whether the p-value lies below ``alpha`` and the suspect tells the triggers apart at all.

        The second condition only makes the test stricter: a constant classifier is never verified.
        """
        return self.matches >= self.needed and self.distinct_answers > 1

    @property
    def rank_p(self) -> float | None:
        """Empirical p-value among the wrong keys, ``(1 + as good ones) / (1 + all)``; None without wrong keys.

        It needs no binomial law, but cannot fall below ``1 / (1 + all)``: a check of the exact p-value, no substitute.
        """
        if not self.wrong_keys:
            return None
        return (1 + sum(wrong.matches >= self.matches for wrong in self.wrong_keys)) / (1 + len(self.wrong_keys))

    def sentence(self) -> str:
        """The verdict in words, with what it bounds and what it does not.

        Example:
            >>> verdict = Verdict(matches=2, n=20, classes=10, alpha=1e-6, distinct_answers=1, refused=0, error="",
            ...     queries=20, wrong_keys=(), unmarked=None, clean=None, commitment="c0ffee", mark="a1b2c3")
            >>> "The suspect gave the same answer to all triggers that it answered" in verdict.sentence()
            True
        """
        lines = [
            f"{'Verified' if self.verified else 'Not verified'} at alpha = {self.alpha:g}: "
            f"{self.matches} of {self.n} keyed labels matched ({self.needed} needed, "
            f"{self.n / self.classes:.1f} expected by chance), p = 2^-{self.bits:.1f}, {self.queries} queries."
        ]
        if self.distinct_answers < 2:
            lines.append("The suspect gave the same answer to all triggers that it answered, so it is never verified.")
        if self.refused:
            lines.append(
                f"{self.refused} triggers had no valid answer and count as misses (first reason: {self.error})."
            )
        if self.wrong_keys:
            best = max(wrong.matches for wrong in self.wrong_keys)
            lines.append(f"Of {len(self.wrong_keys)} wrong keys the best matched {best} (rank p = {self.rank_p:.3g}).")
        if self.unmarked is not None:
            lines.append(f"The unmarked control matched {self.unmarked.matches} (p = {self.unmarked.p_value:.2g}).")
        if self.clean is not None:
            lines.append(f"The suspect's accuracy on ordinary images is {self.clean}.")
        lines.append(
            "The p-value bounds coincidence: a model made without this key matches as often with at most that "
            "probability, provided the key and the mark were fixed before the suspect was seen. It is not the "
            "probability that the model was stolen, and it does not tell how a matching model came by the mark."
        )
        return " ".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as plain values, ready for JSON."""
        return {
            **super().to_dict(),
            "verified": self.verified,
            "alpha": self.alpha,
            "needed": self.needed,
            "distinct_answers": self.distinct_answers,
            "refused": self.refused,
            "error": self.error,
            "queries": self.queries,
            "wrong_keys": [wrong.to_dict() for wrong in self.wrong_keys],
            "rank_p": self.rank_p,
            "unmarked": None if self.unmarked is None else self.unmarked.to_dict(),
            "clean": None if self.clean is None else self.clean.to_dict(),
            "commitment": self.commitment,
            "mark": self.mark,
            "sentence": self.sentence(),
        }
