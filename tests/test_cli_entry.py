"""The first seconds of the command: what goes wrong before the command line is imported is a line, too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

INTERRUPTED = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(20)
except KeyboardInterrupt:
    raise RuntimeError("some libraries make another error of it")
"""


def repromark(*words: str, first: Path) -> subprocess.CompletedProcess[str]:
    """Run the command with ``first`` before everything else on the path."""
    env = os.environ | {"PYTHONPATH": f"{first}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-P", "-m", "tasks", *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=first, timeout=60)


def test_it_runs_as_a_module(tmp_path: Path) -> None:
    done = repromark("--version", first=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("repromark "), done.stderr


def test_an_interruption_while_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text(INTERRUPTED)
    done = repromark("doctor", first=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "Interrupted.\n")


@pytest.mark.parametrize("place", ["attacks.py", "attacks/__init__.py"])
@pytest.mark.parametrize("word", ["doctor", "--help"])
def test_a_foreign_attacks_is_named_and_not_run(tmp_path: Path, place: str, word: str) -> None:
    foreign = tmp_path / place
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("raise SystemExit('it was run')")
    done = repromark(word, first=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith(f"The name attacks leads to {foreign} instead of repromark's package in ")
    assert done.stderr.count("\n") == 1 and "rename that file or folder" in done.stderr


def test_a_library_that_cannot_be_imported_is_a_line_unless_debugged(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libgone.so is missing')")
    done = repromark("doctor", first=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("repromark cannot be loaded (OSError: libgone.so is missing): install it again")
    assert "Traceback" in repromark("doctor", "--debug", first=tmp_path).stderr
