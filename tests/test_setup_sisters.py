"""What is said when something else stands under the name of one of the four packages."""

import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest

import watermark
from attacks import _sisters
from attacks.errors import RepromarkError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with four small packages that make the check; `find_spec` looks there unless a test says otherwise."""
    for name in _sisters.SISTERS:
        package = tmp_path / "home" / name / "__init__.py"
        package.parent.mkdir(parents=True)
        package.write_text("check_sisters()")
    monkeypatch.setattr(_sisters, "HOME", tmp_path / "home")
    lead(monkeypatch, {})
    return tmp_path / "home"


def lead(monkeypatch: pytest.MonkeyPatch, elsewhere: dict[str, Path | None]) -> None:
    """Let names lead elsewhere: to a file, or to nothing (None)."""

    def find_spec(name: str):
        origin = elsewhere.get(name, _sisters.HOME / name / "__init__.py")
        return None if origin is None else spec_from_file_location(name, origin)

    monkeypatch.setattr(_sisters, "find_spec", find_spec)


@pytest.mark.filterwarnings("error")
def test_ours_are_silent(home):
    _sisters.check_sisters("tasks", needs=("attacks", "reprog", "watermark"))


def test_local_file_is_named_and_refused_where_needed(home, monkeypatch):
    foreign = home.parent / "reprog.py"
    foreign.write_text("")
    lead(monkeypatch, {"reprog": foreign})
    with pytest.raises(ImportError, match="tasks cannot be imported.*rename that file") as caught:
        _sisters.check_sisters("tasks", needs=("reprog",))
    assert str(foreign) in str(caught.value)


def test_only_a_warning_where_it_is_not_needed(home, monkeypatch):
    lead(monkeypatch, {"tasks": home.parent / "tasks.py"})
    with pytest.warns(UserWarning, match="The name tasks leads to .*tasks.py instead of"):
        _sisters.check_sisters("attacks")


def test_notebook_extension_is_named(home, monkeypatch):
    lead(monkeypatch, {"watermark": home.parent / "site-packages" / "watermark" / "__init__.py"})
    assert "the notebook extension `watermark` from PyPI" in _sisters.shadow("watermark")


def test_replaced_in_our_own_folder(home):
    (home / "watermark" / "__init__.py").write_text("__version__ = '2'")
    assert "The files of watermark in" in _sisters.shadow("watermark")


def test_left_empty_by_another_distribution(home, monkeypatch):
    (home / "watermark" / "__init__.py").unlink()
    folder = ModuleSpec("watermark", None, is_package=True)
    folder.submodule_search_locations.append(str(home / "watermark"))
    monkeypatch.setattr(_sisters, "find_spec", lambda name: folder)
    assert "install repromark again" in _sisters.shadow("watermark")


def test_missing_sister(home, monkeypatch):
    lead(monkeypatch, {"attacks": None})
    with pytest.raises(ImportError, match="attacks is missing beside .* install repromark again"):
        _sisters.check_sisters("reprog", needs=("attacks",))


def python(code: str, first: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` with ``first`` before our folder on the path."""
    env = os.environ | {"PYTHONPATH": f"{first}{os.pathsep}{ROOT}"}
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=env, cwd=first)


@pytest.mark.parametrize("package", ["reprog", "watermark"])
def test_real_import_beside_a_foreign_attacks(package, tmp_path):
    (tmp_path / "attacks.py").write_text("")
    said = python(f"import {package}", tmp_path).stderr.splitlines()[-1]
    assert said.startswith(f"ImportError: {package} needs repromark's package attacks")
    assert str(tmp_path / "attacks.py") in said


def test_tasks_imports_nothing_so_that_the_command_line_can_tell():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, tasks.__main__; sys.exit('attacks' in sys.modules)"], cwd=ROOT
    )
    assert done.returncode == 0


def test_doctor_runs_beside_a_foreign_watermark_and_names_it(tmp_path):
    (tmp_path / "watermark.py").write_text("")
    done = python("from tasks.doctor import check_packages; print(check_packages())", tmp_path)
    assert done.stdout.startswith(f"BAD packages     The name watermark leads to {tmp_path / 'watermark.py'}"), (
        done.stderr
    )
    assert done.stderr.count("UserWarning: The name watermark leads to") == 1


def test_load_ext_names_the_other_package():
    with pytest.raises(RepromarkError, match="notebook extension `watermark` from PyPI"):
        watermark.load_ipython_extension(None)
