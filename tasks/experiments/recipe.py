"""Recipes: what is run, with which settings, over which seeds."""

import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from attacks.errors import InputError

from ..commands import Command, attack, reprogram, watermark
from ..parser import Parser, UsageError, refuse_empty
from ..release import release

VERSION = 1
LARGEST = 1_000_000  # bytes
MOST_CELLS = 10_000

KEYS = {"version": int, "name": str, "job": str, "base": dict, "grid": dict, "seeds": list}
KINDS = {int: "a whole number", str: "a text", dict: "a mapping", list: "a list"}

JOBS: dict[str, Command] = {"reprogram": reprogram.fit, "watermark": watermark.embed, "attack": attack.evaluate}
"""What a recipe can run; its settings are that command's options, spelled with underscores or dashes."""

FILES = ("model", "task", "program", "key")
"""Settings that may name a file or a folder, whose contents then belong to a cell's identity."""

OWN = {"out", "seed", "device", "progress"}
"""Parameters of a command that a recipe does not set: the runner does."""


@dataclass(frozen=True)
class Cell:
    """One run of a recipe.

    Attributes:
        job: a key of :data:`JOBS`.
        varied: the settings that the grid varies, with this cell's values.
        settings: all settings, defaults included.
        seed: of this run.
        files: a digest of each file or folder that a setting names, by that setting.
    """

    job: str
    varied: dict[str, Any]
    settings: dict[str, Any]
    seed: int
    files: dict[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """16 hexadecimal digits: equal where repromark's version, job, settings, seed and the files' contents are."""
        content = {"repromark": release(), "version": VERSION, **vars(self)}
        del content["varied"]  # these are settings too, wherever they were written
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return ", ".join([*(f"{name} {value}" for name, value in self.varied.items()), f"seed {self.seed}"])


@dataclass(frozen=True)
class Recipe:
    """A grid of runs.

    Attributes:
        name: of the recipe.
        job: a key of :data:`JOBS`.
        base: settings that all cells share.
        grid: for each varied setting its values.
        seeds: with which every combination is run.
    """

    name: str
    job: str
    base: Mapping[str, Any]
    grid: Mapping[str, list[Any]]
    seeds: tuple[int, ...]

    def cells(self) -> list[Cell]:
        """All cells, seeds varying fastest; every setting is checked against the job's options first.

        Raises:
            InputError: a setting has a value that the job does not take.
        """
        made = []
        digest = cache(_digest)  # anew each time, since a file may change between two calls
        for values in product(*self.grid.values()):
            varied = dict(zip(self.grid, values, strict=True))
            settings = _complete(self.job, {**self.base, **varied})
            named = {name: Path(settings[name]) for name in FILES if settings.get(name) is not None}
            files = {name: digest(path) for name, path in named.items() if path.exists()}
            made += [Cell(self.job, varied, settings, seed, files) for seed in self.seeds]
        return made


def bundled() -> dict[str, Path]:
    """The recipes that come along, by name.

    Example:
        >>> list(bundled())
        ['digits-mappings']
    """
    return {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}


def read_recipe(path: str | Path) -> Recipe:
    """Read a recipe.

    ::

        version: 1
        name: digits-mappings
        job: reprogram
        base: {model: efficientnet-lite0, image_size: 64}
        grid: {labels: [ilm, blm+]}
        seeds: [0, 1]

    Args:
        path: a YAML file with these keys, of which ``base`` and ``grid`` may be left out; or the name of a recipe that
            comes along, see :func:`bundled`.

    Raises:
        InputError: it is no such file; the sentence names the first thing that is wrong.
    """
    names, path = bundled(), Path(path)
    if not path.is_file():
        if str(path) not in names:
            raise InputError(
                f"There is no recipe {path}: give a YAML file, or the name of one that comes along, {', '.join(names)}."
            )
        path = names[str(path)]
    if path.stat().st_size > LARGEST:
        raise InputError(f"{path} is larger than {LARGEST} bytes and no recipe: check the path.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is no readable YAML ({' '.join(str(error).split())}): correct it.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is no recipe: it must be a mapping with the keys {', '.join(KEYS)}.")
    _known(content, KEYS, str(path), "a recipe's key")
    content = {"base": {}, "grid": {}} | content
    for key, kind in KEYS.items():
        if type(content.get(key)) is not kind:
            came = f"is {content[key]!r}" if key in content else "is missing"
            raise InputError(f"`{key}` {came} in {path}: it must be {KINDS[kind]}.")
    if content["version"] != VERSION:
        raise InputError(f"{path} has version {content['version']}, but this repromark reads {VERSION}.")
    return _recipe(path, content)


def _recipe(path: Path, content: dict[str, Any]) -> Recipe:
    name, job, seeds = content["name"], content["job"], content["seeds"]
    if not name or Path(name).name != name or name[0] == ".":
        raise InputError(f"`name` is {name!r} in {path}: it names a folder, so it must be one plain word.")
    if job not in JOBS:
        raise InputError(f"`job` is {job!r} in {path}: use {_nearest(job, JOBS)}.")
    if not seeds or any(type(seed) is not int or seed < 0 for seed in seeds) or len(set(seeds)) < len(seeds):
        raise InputError(f"`seeds` is {seeds} in {path}: it must list different whole numbers from 0 up.")
    base, grid = (
        {str(key).replace("-", "_"): value for key, value in content[part].items()} for part in ("base", "grid")
    )
    for settings in (base, grid):
        _known(settings, set(inspect.signature(JOBS[job]).parameters) - OWN, str(path), f"a setting of the job {job}")
    for key, values in grid.items():
        if not isinstance(values, list) or not values or any(values.count(value) > 1 for value in values):
            raise InputError(f"`grid: {key}` is {values!r} in {path}: it must list different values.")
        if key in base:
            raise InputError(f"`{key}` stands in both base and grid of {path}: remove it from one.")
    recipe = Recipe(name, job, base, grid, tuple(seeds))
    count = len(seeds)
    for values in grid.values():
        count *= len(values)
    if count > MOST_CELLS:
        raise InputError(f"{path} makes {count} cells, but {MOST_CELLS} are the most: split it.")
    recipe.cells()
    return recipe


def _known(given: Iterable[Any], allowed: Iterable[str], where: str, what: str) -> None:
    for key in given:
        if key not in set(allowed):
            raise InputError(f"`{key}` in {where} is not {what}: use {_nearest(str(key), allowed)}.")


def _nearest(word: str, allowed: Iterable[str]) -> str:
    near = get_close_matches(word, list(allowed), n=1)
    return f"`{near[0]}`" if near else f"one of {', '.join(sorted(allowed))}"


def _complete(job: str, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with the job's defaults for the others, all of the right type."""
    parser = Parser(prog=f"repromark {job} {JOBS[job].__name__}")
    parser.add_function(JOBS[job], skip=OWN)
    try:
        refuse_empty(settings)
        return parser.parse_object(settings).as_dict()
    except UsageError as error:
        raise InputError(f"The recipe's settings for the job {job} do not fit: {error}") from error


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of all files in a folder."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        content = "".join(f"{file.relative_to(path).as_posix()}\0{_digest(file)}\n" for file in files)
        return hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
