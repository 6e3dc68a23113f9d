"""A robustness card to read and to look at."""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from attacks.engine import Rate
from attacks.errors import InputError

from .cell import LEVELS, Cell

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = ("party", "what", "settings", "accuracy, 95 % interval", "right", "forward", "backward", "seconds", "note")


def markdown(title: str, settings: dict[str, Any], cells: Iterable[Cell]) -> str:
    """A heading, the common settings, and one table a level."""
    lines = [f"# Robustness of {title}", "", _settings(settings), ""]
    for level, members in groupby(sorted(cells, key=lambda cell: cell.level), key=lambda cell: cell.level):
        lines += [f"## Level {level}: {LEVELS.get(level, 'other')}", "", _row(COLUMNS), _row(["---"] * len(COLUMNS))]
        lines += [_row(_entries(cell)) for cell in members]
        lines.append("")
    lines.append("Accuracy is the share of all samples that are right; passes count samples; the interval is Wilson's.")
    return "\n".join(lines) + "\n"


def _entries(cell: Cell) -> list[str]:
    start = [cell.party, cell.name, _settings(cell.settings)]
    if cell.rate is None:
        return [*start, "not run", "", "", "", "", cell.note]
    right = f"{cell.rate.successes}/{cell.rate.n}"
    costs = [str(cell.forward_passes), str(cell.backward_passes), f"{cell.seconds:.4g}"]
    return [*start, str(cell.rate), right, *costs, cell.note]


def _settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_number(value)}" for name, value in settings.items())


def _number(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _row(entries: Iterable[str]) -> str:
    return "| " + " | ".join(entry.replace("|", "\\|").replace("\n", " ") for entry in entries) + " |"


@dataclass
class _Panel:
    """One plot: a title, what the horizontal axis shows, and the points of each line."""

    title: str
    across: str
    lines: dict[str, list[tuple[float, Rate]]] = field(default_factory=dict)

    def add(self, line: str, place: float, rate: Rate) -> None:
        self.lines.setdefault(line, []).append((place, rate))


def plot(title: str, cells: Iterable[Cell], path: str | os.PathLike[str] | None, figure: "Figure | None") -> "Figure":
    """Draw the cells that were run; see :meth:`attacks.robustness.Card.plot`."""
    from matplotlib.figure import Figure

    cells = list(cells)
    panels = _panels(cells)
    if not panels:
        raise InputError("This card has no cell of level 1 or 2 that was run, so there is nothing to draw.")
    if figure is None:
        figure = Figure(figsize=(4.8 * len(panels), 4.4), layout="constrained")
    figure.suptitle(f"Robustness of {title}")
    clean = next((cell.rate for cell in cells if cell.level == 0), None)
    places = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for panel, axes in zip(panels, places, strict=True):
        _draw(panel, clean, axes)
    places[0].set_ylabel("share of samples right")
    if path is not None:
        figure.savefig(path)
    return figure


def _panels(cells: Iterable[Cell]) -> list[_Panel]:
    """One panel for all corruptions and one for each norm, whose epsilons have scales of their own."""
    panels: dict[str, _Panel] = {}
    for cell in cells:
        if cell.rate is None or cell.level not in (1, 2):
            continue
        across = "severity" if cell.level == 1 else "epsilon"
        title = LEVELS[1] if cell.level == 1 else f"{cell.settings['norm']} attacks"
        panels.setdefault(title, _Panel(title, across)).add(cell.name, cell.settings[across], cell.rate)
    return list(panels.values())


def _draw(panel: _Panel, clean: Rate | None, axes: "Axes") -> None:
    if clean is not None:
        axes.axhspan(*clean.interval, color="0.92")
        axes.axhline(clean.value, color="0.4", linestyle="--", linewidth=1, label="clean")
    # Lines that share their places are moved aside a little, or their bars would hide each other.
    places = [place for line in panel.lines.values() for place, _ in line]
    aside = 0.015 * ((max(places) - min(places)) or 1)
    for row, (name, points) in enumerate(panel.lines.items()):
        shift = aside * (row - (len(panel.lines) - 1) / 2)
        across, rates = [place + shift for place, _ in points], [rate for _, rate in points]
        below = [rate.value - rate.interval[0] for rate in rates]
        above = [rate.interval[1] - rate.value for rate in rates]
        axes.errorbar(
            across, [rate.value for rate in rates], yerr=[below, above], label=name, marker="o", markersize=3, capsize=2
        )
    axes.set(title=panel.title, xlabel=panel.across, ylim=(-0.02, 1.02))
    if panel.across == "severity":
        axes.set_xticks(sorted(set(places)))
    else:
        axes.set_xlim(left=0)
    # Below the plot, where it cannot cover a line.
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3, frameon=False)
