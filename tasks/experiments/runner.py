"""Run a recipe: one file a cell, written whole or not at all, and skipped when it is there."""

import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from attacks.engine import Rate
from attacks.errors import InputError, RepromarkError

from ..commands import Outcome
from ..files import make_folder, to_json, unmade_if_empty, write_text
from ..progress import say
from .recipe import JOBS, Cell, Recipe
from .table import markdown, rows

KIND, VERSION = "repromark cell", 1


def run_recipe(recipe: Recipe, *, out: str | Path, seed: int | None = None, device: str = "cpu") -> Outcome:
    """Run the cells that are not done, then write the table of all.

    Every cell's file stands in ``out/cells`` under the cell's id as soon as the cell is done, so an interrupted run
    goes on where it stopped. The table is ``out/results.json`` and ``out/results.md``.

    Args:
        recipe: what to run.
        out: the folder; recipes may share one.
        seed: run this seed alone, in place of the recipe's.
        device: such as "cpu" or "cuda"; not a part of a cell's identity.

    Returns:
        The table.

    Raises:
        InputError: a cell's settings cannot be run; the cells before it are kept.
    """
    cells = (recipe if seed is None else replace(recipe, seeds=(seed,))).cells()
    folder = Path(out) / "cells"
    done, skipped = [], 0
    with unmade_if_empty(folder):
        make_folder(folder)
        for number, cell in enumerate(cells, start=1):
            path = folder / f"{cell.id}.json"
            saved, began = _saved(path, cell), time.perf_counter()
            skipped += saved is not None
            say(f"cell {number}/{len(cells)} ({cell}): {'running' if saved is None else 'done before'}")
            if saved is None:
                saved = _run(cell, device)
                write_text(path, to_json(saved))
                say(f"cell {number}/{len(cells)} took {time.perf_counter() - began:.1f} s")
            done.append((cell, {name: Rate.from_dict(rate) for name, rate in saved["rates"].items()}))
    made = rows(done)
    text = markdown(recipe.name, made)
    ids = [{"id": cell.id, "varied": cell.varied, "seed": cell.seed} for cell in cells]
    data = {"recipe": vars(recipe), "rows": [row.to_dict() for row in made], "cells": ids, "skipped": skipped}
    write_text(Path(out) / "results.json", to_json({"kind": "repromark table", "version": VERSION, **data}))
    write_text(Path(out) / "results.md", text)
    return Outcome(data, text)


def _run(cell: Cell, device: str) -> dict[str, Any]:
    import torch

    began = time.perf_counter()
    try:
        outcome = JOBS[cell.job](**cell.settings, out=None, seed=cell.seed, device=device, progress=True)
    except RepromarkError as error:
        raise InputError(f"The cell with {cell} cannot be run: {error}") from error
    machine = {"device": device, "machine": platform.machine(), "torch": torch.__version__}
    identity = {"kind": KIND, "version": VERSION, "id": cell.id, **vars(cell)}
    # Through JSON and back, so that a fresh cell and one that was read hold the same.
    made = {**identity, "seconds": time.perf_counter() - began, **machine, "rates": {}, "result": outcome.data}
    return json.loads(to_json(made | {"rates": outcome.data["rates"]}))


def _saved(path: Path, cell: Cell) -> dict[str, Any] | None:
    """What an earlier run saved; None when the cell must be run, with a line that says why if a file is there."""
    if not path.exists():
        return None
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        if (saved["kind"], saved["version"], saved["id"]) != (KIND, VERSION, cell.id):
            raise ValueError("it is another cell's")
        for rate in saved["rates"].values():
            Rate.from_dict(rate)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        say(f"{path} is damaged ({type(error).__name__}: {error}); the cell is run again.")
        return None
    return saved
