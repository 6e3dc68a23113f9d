"""The command line ``repromark``.

Exit codes: 0 done, 1 a verification or a check came out negative, 2 bad input or an error, 130 interrupted.
"""

import inspect
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

from attacks.errors import InputError, RepromarkError
from attacks.files import read_json

from .commands import COMMANDS, Command, Group, Outcome
from .files import make_folder, to_json, unmade_if_empty, write_text
from .parser import Parser, refuse_empty, summary
from .progress import plain_progress, say
from .release import release

BAD, INTERRUPTED = 2, 130

DESCRIPTION = "Adversarial attacks, model reprogramming and model watermarks on one perturbation engine, for PyTorch."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows ``repromark``; by default the process's own.

    Returns:
        The exit code.

    Example:
        >>> main(["reprogram", "predict", "--program", "nowhere"])
        2
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        with warnings_as_lines(), plain_progress():
            return run(words)
    except SystemExit as end:  # after --help and --version
        return int(end.code or 0)
    except KeyboardInterrupt:
        say("Interrupted.")
        return INTERRUPTED
    except Exception as error:
        if "--debug" in words:
            traceback.print_exc()
        elif isinstance(error, RepromarkError):
            say(str(error))
        else:
            say(f"{type(error).__name__}: {error}. This was not foreseen; `--debug` shows where it happened.")
        return BAD


def run(words: list[str]) -> int:
    """Parse, run and report one command; errors are raised."""
    name, command, settings = parse(words)
    common = {key: settings.pop(key) for key in list(settings) if key not in inspect.signature(command).parameters}
    if settings.get("device") == "auto":
        settings["device"] = best_device()
    own, out, to_stdout = settings.get("out"), common.get("out"), common["json"] == "-"
    file = None if to_stdout or common["json"] is None else Path(common["json"])
    _check_places(own or out, file, own)
    folders = [folder for folder in (out, file and file.parent) if folder is not None]
    began = time.perf_counter()
    with unmade_if_empty(*folders, *([own] if own else [])):
        for folder in folders:
            make_folder(folder)
        with redirect_stdout(sys.stderr) if to_stdout else nullcontext():
            switch = {"progress": True} if "progress" in inspect.signature(command).parameters else {}
            outcome = command(**settings, **switch)
            print(outcome.text)
        data = {"command": name, "settings": settings, "seconds": time.perf_counter() - began, **outcome.data}
        _write(data, outcome, common)
    return outcome.code


def _check_places(folder: str | None, file: Path | None, own: str | None) -> None:
    """Refuse, before the work, places where the results would replace something that is not a command's results.

    Args:
        folder: of results.json, if any.
        file: of ``--json``, if any.
        own: where the command itself writes, if it does.

    Raises:
        InputError: a folder stands at the file's place, a file that holds no results, or the command's own output will.
    """
    if file and (file.is_dir() or (own is not None and file.resolve() == Path(own).resolve())):
        raise InputError(f"--json {file} is a folder, or the place of this command's own output: name another file.")
    if file and file.exists() and "command" not in read_json(file):
        raise InputError(f"--json {file} is a file that no command wrote its results to: name another, or remove it.")
    results = None if folder is None else Path(folder) / "results.json"
    if results and results.is_file() and read_json(results).keys().isdisjoint({"command", "kind"}):
        raise InputError(f"{results} is a file that no command wrote: choose another --out, or remove it.")


def _write(data: dict[str, Any], outcome: Outcome, common: dict[str, Any]) -> None:
    place = outcome.folder or common.get("out")
    if place is not None:
        write_text(Path(place) / "results.json", to_json(data))
    if common["json"] == "-":
        print(to_json(data))
    elif common["json"] is not None:
        write_text(common["json"], to_json(data))


def parse(words: list[str]) -> tuple[str, Command, dict[str, Any]]:
    """The command that the words name, and its settings.

    Raises:
        UsageError: the words name none, or its settings do not fit.
    """
    chosen = build(words).parse_args(words)
    name, entry = chosen.command, COMMANDS[chosen.command]
    settings = chosen[name]
    if isinstance(entry, Group):
        entry, settings, name = entry[settings.command], settings[settings.command], f"{name} {settings.command}"
    refuse_empty(given := settings.as_dict())
    return name, entry, given


def build(words: list[str]) -> Parser:
    """The parser of all commands; only those among the words get their options, whose choices may need an import."""

    def made(name: str, command: Command) -> Parser:
        return leaf(command) if name in words else Parser(description=summary(command))

    parser = Parser(prog="repromark", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"repromark {release()}")
    parser.add_commands(
        {
            name: Parser(description=entry.summary) if isinstance(entry, Group) else made(name, entry)
            for name, entry in COMMANDS.items()
        }
    )
    for name, entry in COMMANDS.items():
        if isinstance(entry, Group):
            parser.commands[name].add_commands({word: made(word, command) for word, command in entry.items()})
    return parser


def leaf(command: Command) -> Parser:
    """The parser of one command: its own options and those that all commands have."""
    parser = Parser(description=summary(command))
    parser.add_function(command, skip={"progress"})
    own = inspect.signature(command).parameters
    if "out" not in own:
        parser.add_argument("--out", type=str | None, help="folder for results.json")
    if "seed" not in own:
        parser.add_argument("--seed", type=int, default=0, help="accepted, without effect here")
    if "device" not in own:
        parser.add_argument("--device", type=str, default="cpu", help="accepted, without effect here")
    parser.add_argument("--json", type=str | None, help="file for the results as JSON; - for the standard output")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def best_device() -> str:
    """The accelerator that is there, or else the CPU."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Inside, a warning is one line on stderr, without the place in the code."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *rest: say(f"Warning: {message}")
        yield
