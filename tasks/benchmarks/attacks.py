"""The benchmark of attacks: every library, method and network in turn, side by side."""

import platform
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attacks.errors import InputError

from .cells import Cell, CellError, measure_apart
from .libraries import FLOOR, LIBRARIES
from .measuring import Measured
from .methods import METHODS
from .networks import NETWORKS, load_network, usual_networks
from .rows import Row, table, verdict_table
from .targets import Verdict, verdicts

Measure = Callable[[Cell, Path], Measured]


@dataclass(frozen=True)
class Benchmark:
    """The end of a benchmark.

    Attributes:
        rows: what was measured.
        verdicts: what was reached.
        notes: what was left out and why, and what else a reader should know, in sentences.
    """

    rows: list[Row]
    verdicts: list[Verdict]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain JSON, with the machine and the versions it belongs to."""
        return {
            "rows": [row.to_dict() for row in self.rows],
            "targets": [verdict.to_dict() for verdict in self.verdicts],
            "notes": self.notes,
            "versions": {library.distribution: library.version for library in LIBRARIES.values()},
            "about": {row.method: METHODS[row.method].about for row in self.rows},
            "machine": {"system": platform.platform(), "python": platform.python_version()},
        }

    def text(self) -> str:
        """The tables, and what is missing in them."""
        parts = [table(self.rows), verdict_table(self.verdicts)] if self.verdicts else [table(self.rows)]
        if self.notes:
            parts.append("\n".join(self.notes))
        return "\n\n".join(parts)


def benchmark(
    *,
    methods: Sequence[str] | None = None,
    libraries: Sequence[str] | None = None,
    networks: Sequence[str] | None = None,
    samples: int | None = None,
    repeats: int = 3,
    seed: int = 0,
    limit: float = 900.0,
    apart: Measure | None = None,
    said: Callable[[str], None] = lambda line: None,
) -> Benchmark:
    """Measure libraries side by side: each of their attacks on each network, in a process of its own with one thread.

    Those that are to be compared, the libraries with one method on one network, follow each other.

    Args:
        methods: names from :data:`METHODS`; by default all.
        libraries: names from :data:`LIBRARIES`; by default all. What is not installed is left out.
        networks: names from :data:`NETWORKS`; by default the usual ones that can be loaded here.
        samples: of every cell; by default as many as the method and the network say.
        repeats: how often a cell is timed; less often where one takes more than a minute.
        seed: of all chance.
        limit: seconds after which a cell is given up.
        apart: measures one cell, told a folder for what is made on the way; in a process of its own unless given.
        said: told what happens.

    Returns:
        The rows, what was reached, and what a reader should know of them.

    Raises:
        InputError: a name is not known, or a network that was asked for cannot be loaded.
    """
    chosen = _known("method", methods, METHODS)
    places = _known("network", networks or usual_networks(), NETWORKS)
    usable, notes = _usable(_known("library", libraries, LIBRARIES), chosen)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for place in places:
            load_network(place, 1, folder)  # refused before the work where it cannot be; the built-in one is trained
        cells = _cells(usable, chosen, places, samples=samples, repeats=repeats, seed=seed)
        for number, cell in enumerate(cells, start=1):
            try:
                measured = apart(cell, folder) if apart else measure_apart(cell, folder, limit=limit)
            except CellError as error:
                notes.append(f"Left out: {error}.")
                said(f"cell {number}/{len(cells)} left out: {error}")
                continue
            rows.append(Row(cell.library, cell.method, cell.network, measured))
            if measured.remark:
                notes.append(f"{cell}: {measured.remark}.")
            said(f"cell {number}/{len(cells)} {cell}: {measured.seconds:.2f} s, {measured.floor_ratio:.2f} x the floor")
    return Benchmark(rows, verdicts(rows), notes)


def _known(kind: str, names: Sequence[str] | None, registry: Mapping[str, Any]) -> list[str]:
    """The names in the registry's order; all of them where none are given."""
    for name in names or ():
        if name not in registry:
            near = get_close_matches(name, registry, n=1)
            raise InputError(f"There is no {kind} {name}: {f'did you mean {near[0]}?' if near else _list(registry)}")
    return [name for name in registry if not names or name in names]


def _list(names: Iterable[str]) -> str:
    return f"use {', '.join(names)}."


def _usable(libraries: Sequence[str], methods: Sequence[str]) -> tuple[list[str], list[str]]:
    """The libraries that can be imported here, and sentences on the others and on what the libraries lack."""
    usable, notes = [], []
    for name in libraries:
        library = LIBRARIES[name]
        if why := library.missing():
            notes.append(f"Left out: {name}, because {why}.")
            continue
        usable.append(name)
        lacking = [method for method in methods if method not in library.attacks]
        if lacking and name != FLOOR:
            notes.append(f"{name} offers no {', '.join(lacking)} with these settings.")
    return usable, notes


def _cells(
    libraries: Sequence[str],
    methods: Sequence[str],
    networks: Sequence[str],
    *,
    samples: int | None,
    repeats: int,
    seed: int,
) -> list[Cell]:
    return [
        Cell(library, method, network, _samples(method, network) if samples is None else samples, repeats, seed)
        for network in networks
        for method in methods
        for library in libraries
        if method in LIBRARIES[library].attacks
    ]


def _samples(method: str, network: str) -> int:
    return min(METHODS[method].samples, NETWORKS[network].samples)
