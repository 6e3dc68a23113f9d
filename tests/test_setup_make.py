"""The Makefile: one line says what is missing, and an environment is made or updated only when it has to be."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without what a surrounding make hands down to its children.
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=folder, env=env, capture_output=True, text=True)


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def pretender(path: Path, prelude: str) -> Path:
    """A Python that runs ``prelude`` before the code it is given with -c."""
    return script(path, f'exec "{sys.executable}" -c "{prelude}; import sys; exec(sys.argv.pop(1))" "$2"')


def the_line(folder: Path, target: str, python: str | Path) -> str:
    done = make(folder, target, f"PYTHON={python}")
    lines = (done.stdout + done.stderr).splitlines()
    assert done.returncode != 0
    assert len(lines) == 1, lines
    return lines[0]


@pytest.mark.parametrize("target", ["demo", "test"])
def test_no_python(folder, target):
    line = the_line(folder, target, "/nonexistent")
    assert "needs Python 3.11 to 3.13 and `/nonexistent` does not run" in line
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("version", [(3, 9), (3, 14)])
def test_unsupported_python(folder, version):
    fake = pretender(folder / "fake", f"import sys; sys.version_info = {(*version, 0)}")
    line = the_line(folder, "test", fake)
    assert f"needs Python 3.11 to 3.13 and `{fake}` is {version[0]}.{version[1]}" in line
    assert not (folder / ".venv").exists()


def test_python_without_venv(folder):
    line = the_line(folder, "test", pretender(folder / "fake", "import sys; sys.modules['ensurepip'] = None"))
    assert "apt install python3-venv" in line
    assert not (folder / ".venv").exists()


def test_environment_of_an_old_python(folder):
    pretender(folder / ".venv" / "bin" / "python", "import sys; sys.version_info = (3, 10, 0)")
    assert "`.venv/bin/python` is 3.10: remove .venv" in the_line(folder, "test", sys.executable)


def recording_environment(folder: Path) -> Path:
    """A .venv made by hand whose pip and repromark only write down how they were called."""
    log = folder / "log"
    log.touch()
    script(
        folder / ".venv" / "bin" / "python",
        f'[ "$1" = -c ] && exec "{sys.executable}" "$@"; [ "$3" = --version ] || echo "$@" >> "{log}"',
    )
    script(folder / ".venv" / "bin" / "repromark", f'echo repromark "$@" >> "{log}"')
    return log


def test_installs_into_an_environment_made_by_hand_and_only_once(folder):
    log = recording_environment(folder)
    assert make(folder, "demo", "PIP_ARGS=--extra").returncode == 0
    install = "-m pip install --extra -c constraints.txt -e .[demo,test]"
    assert log.read_text().splitlines() == [install, "repromark doctor --fix", "repromark demo"]
    assert make(folder, "demo").returncode == 0
    assert log.read_text().splitlines()[3:] == ["repromark demo"]


@pytest.mark.parametrize("changed", ["pyproject.toml", "constraints.txt"])
def test_installs_again_when_the_versions_change(folder, changed):
    log = recording_environment(folder)
    make(folder, "install")
    stamp = (folder / ".venv" / ".repromark-installed").stat().st_mtime
    os.utime(folder / changed, (stamp + 10, stamp + 10))
    make(folder, "install")
    assert sum("pip install" in line for line in log.read_text().splitlines()) == 2


def test_failed_install_is_not_taken_for_done(folder):
    recording_environment(folder)
    script(folder / ".venv" / "bin" / "repromark", "exit 2")
    assert make(folder, "install").returncode != 0
    assert not (folder / ".venv" / ".repromark-installed").exists()


def test_half_made_environment_is_made_anew(folder):
    (folder / ".venv" / "bin").mkdir(parents=True)
    (folder / ".venv" / "bin" / "python").symlink_to("python-that-is-gone")
    # The install itself is stopped by an argument that pip refuses: what counts is the environment before it.
    done = make(folder, "install", f"PYTHON={sys.executable}", "PIP_ARGS=--no-such-option")
    assert "no such option" in done.stderr
    pip = subprocess.run([folder / ".venv/bin/python", "-m", "pip", "--version"], capture_output=True, text=True)
    assert str(folder) in pip.stdout


def test_help_lists_every_target(folder):
    said = make(folder).stdout
    assert all(f"make {target}" in said for target in ("install", "demo", "test", "lint", "clean"))


def test_ci_runs_make_test_and_nothing_else():
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    assert commands[-1] == "make test"
    assert len(commands) == 4
