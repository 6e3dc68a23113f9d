"""One cell of the benchmark: a library, a method and a network, measured in a process of its own with one thread."""

import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attacks.errors import RepromarkError

from .libraries import LIBRARIES
from .measuring import Measured, measure
from .methods import METHODS, Case
from .networks import NETWORKS, load_network

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


class CellError(RepromarkError):
    """A cell could not be measured."""


@dataclass(frozen=True)
class Cell:
    """What is measured, by name; see the registries of libraries, methods and networks."""

    library: str
    method: str
    network: str
    samples: int
    repeats: int
    seed: int

    def __str__(self) -> str:
        return f"{self.library} {self.method} on {self.network}"


def measure_cell(cell: Cell, folder: Path) -> Measured:
    """Measure a cell in this process.

    Args:
        cell: what is measured.
        folder: where the built-in network is kept.
    """
    method = METHODS[cell.method]
    model, x, labels = load_network(cell.network, cell.samples, folder)
    case = Case(model, x, labels, method.norm, method.settings, NETWORKS[cell.network].epsilon, cell.seed)
    return measure(LIBRARIES[cell.library].attacks[cell.method], case, method, repeats=cell.repeats)


def measure_apart(cell: Cell, folder: Path, *, limit: float) -> Measured:
    """Measure a cell in a process of its own, which has one thread and ends with the measurement.

    Args:
        cell: what is measured.
        folder: where the built-in network is kept.
        limit: seconds after which it is given up.

    Raises:
        CellError: with what went wrong there, in one line.
    """
    command = [sys.executable, "-m", __name__]
    told = json.dumps({"cell": asdict(cell), "folder": str(folder)})
    surroundings = {**os.environ, **ONE_THREAD, "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    try:
        done = subprocess.run(command, input=told, capture_output=True, text=True, env=surroundings, timeout=limit)
    except subprocess.TimeoutExpired:
        raise CellError(f"{cell}: given up after {limit:g} seconds") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise CellError(f"{cell}: {lines[-1]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return Measured(**answer | {"interval": tuple(answer["interval"])})


def main() -> None:
    """Measure the cell that the standard input names and print the figures as JSON."""
    import torch

    torch.set_num_threads(1)
    told = json.load(sys.stdin)
    with redirect_stdout(sys.stderr):  # libraries print
        measured = measure_cell(Cell(**told["cell"]), Path(told["folder"]))
    print(json.dumps(asdict(measured)))


if __name__ == "__main__":
    main()
