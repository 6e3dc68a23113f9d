"""The table of a recipe: means over seeds, with intervals."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import NormalDist, mean
from typing import Any

from attacks.engine import Rate

from .recipe import Cell

COLUMNS = ("rate", "mean, 95 % interval", "n", "seeds", "lowest", "highest")


@dataclass(frozen=True)
class Row:
    """One rate under one combination of settings, over the seeds.

    Attributes:
        rate: what was measured: ``program``, ``linear_probe``, ...
        varied: the settings that it belongs to; empty where it is the same under all, as the majority class is.
        mean: over the seeds, in [0, 1].
        low: lower end of the 95 % interval of ``mean`` over draws of the ``n`` samples, see :func:`interval`. What the
            seeds change is not in it: that shows in ``lowest`` and ``highest``.
        high: its upper end.
        n: samples.
        seeds: how many.
        lowest: of the seeds.
        highest: of the seeds.
    """

    rate: str
    varied: dict[str, Any]
    mean: float
    low: float
    high: float
    n: int
    seeds: int
    lowest: float
    highest: float

    @classmethod
    def over(cls, rate: str, varied: dict[str, Any], rates: Sequence[Rate]) -> "Row":
        """Summarise the rates of several seeds.

        Example:
            >>> row = Row.over("program", {}, [Rate(8, 10), Rate(9, 10)])
            >>> round(row.mean, 3), row.lowest, row.highest, row.n
            (0.85, 0.8, 0.9, 10)
        """
        values, n = [one.value for one in rates], min(one.n for one in rates)
        middle = mean(values)
        return cls(rate, varied, middle, *interval(middle, n), n, len(values), min(values), max(values))

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON."""
        return asdict(self)


def interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % Wilson interval around a share of ``n`` samples that need not be a whole number of them.

    A mean over seeds is such a share. The seeds are tried on the same samples, so counting these once a seed would make
    the interval too narrow: the samples that all share are counted once. A sample that some seeds get right and others
    wrong adds less variance than one that is right or wrong for all, so the interval is at most too wide.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).

    Args:
        share: in [0, 1].
        n: samples, at least 1.

    Returns:
        Its ends, which enclose the share.

    Example:
        >>> [round(end, 3) for end in interval(0.845, 10)], [round(end, 3) for end in Rate(8, 10).interval]
        ([0.536, 0.963], [0.49, 0.943])
    """
    z = NormalDist().inv_cdf(0.975)
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))


def rows(done: Sequence[tuple[Cell, dict[str, Rate]]]) -> list[Row]:
    """The rows of a table, in the order of the cells; rates beside the first that no setting changes come last, once.

    Args:
        done: cells with their rates by name.

    Example:
        >>> cells = [Cell("reprogram", {"labels": name}, {"labels": name}, 0) for name in ("ilm", "blm")]
        >>> rates = [{"program": Rate(right, 10), "majority": Rate(1, 10)} for right in (8, 9)]
        >>> [(row.rate, row.varied, row.mean) for row in rows(list(zip(cells, rates)))]
        [('program', {'labels': 'ilm'}, 0.8), ('program', {'labels': 'blm'}, 0.9), ('majority', {}, 0.1)]
    """
    grouped: dict[str, list[tuple[dict[str, Any], list[Rate]]]] = {}
    for cell, rates in done:
        for name, rate in rates.items():
            groups = grouped.setdefault(name, [])
            group = next((group for varied, group in groups if varied == cell.varied), None)
            if group is None:
                groups.append((cell.varied, group := []))
            group.append(rate)
    varying: list[Row] = []
    constant: list[Row] = []
    for name, groups in grouped.items():
        same = varying and len(groups) > 1 and all(rates == groups[0][1] for _, rates in groups)
        if same:
            constant.append(Row.over(name, {}, groups[0][1]))
        else:
            varying += [Row.over(name, varied, rates) for varied, rates in groups]
    return varying + constant


def markdown(title: str, made: Sequence[Row]) -> str:
    """The rows as a Markdown table under a heading."""
    settings = list(dict.fromkeys(name for row in made for name in row.varied))
    lines = [f"# {title}", "", _line([*settings, *COLUMNS]), _line(["---"] * (len(settings) + len(COLUMNS)))]
    for row in made:
        interval = f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]"
        ends = [str(row.n), str(row.seeds), f"{row.lowest:.3f}", f"{row.highest:.3f}"]
        chosen = [str(row.varied.get(name, "any")) for name in settings]
        lines.append(_line([*chosen, row.rate.replace("_", " "), interval, *ends]))
    note = (
        "Wilson's interval around the mean, for the n samples that all seeds share; lowest and highest are over the "
        "seeds, whose differences the interval leaves out."
    )
    return "\n".join([*lines, "", note])


def _line(entries: Sequence[str]) -> str:
    return "| " + " | ".join(entry.replace("|", "\\|") for entry in entries) + " |"
