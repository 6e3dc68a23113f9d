"""What is shipped: the wheel's content and metadata, and the versions that are pinned."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from tasks.doctor import LIBRARIES

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"attacks", "reprog", "watermark", "tasks"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("repromark-*.whl")
    return zipfile.ZipFile(path)


def test_wheel_top_level_is_the_four_packages(wheel):
    top = {name.split("/")[0] for name in wheel.namelist()}
    info = {name for name in top if name.endswith(".dist-info")}
    assert len(info) == 1
    assert top - info == PACKAGES


def test_wheel_holds_every_module_and_says_that_it_is_typed(wheel):
    names = set(wheel.namelist())
    assert {f"{package}/py.typed" for package in PACKAGES} <= names
    modules = {str(path.relative_to(ROOT)) for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert modules == {name for name in names if name.endswith(".py")}


def test_wheel_holds_the_files_that_are_no_modules(wheel):
    names = set(wheel.namelist())
    assert {"tasks/experiments/digits-mappings.yaml", "tasks/templates/report.html"} <= names
    assert "attacks/models/imagenet_classes.txt" in names


def test_wheel_metadata(wheel):
    (place,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    metadata = message_from_bytes(wheel.read(place))
    assert metadata["Name"] == "repromark"
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert set(metadata["Requires-Python"].split(",")) == {">=3.11", "<3.14"}
    entry = wheel.read(place.replace("METADATA", "entry_points.txt")).decode()
    assert "repromark = tasks.__main__:main" in entry


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=]", requirement)[0].lower() for requirement in requirements}


def test_constraints_pin_every_direct_dependency_and_nothing_local():
    pins = [
        line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9.]+", pin)] == []
    extras = [requirement for group in PROJECT["optional-dependencies"].values() for requirement in group]
    assert names(pins) == names(PROJECT["dependencies"] + extras)


def test_jsonargparse_is_at_least_the_version_whose_messages_were_tested():
    pinned = re.search(r"^jsonargparse==(\d+\.\d+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned and f"jsonargparse[signatures]>={pinned[1]}" in PROJECT["dependencies"]


def test_doctor_looks_at_every_core_dependency():
    assert set(LIBRARIES) | {"torch", "torchaudio"} == names(PROJECT["dependencies"])


def test_core_imports_leave_torchaudio_alone():
    code = "import sys, attacks, reprog, watermark, tasks.doctor; print([m for m in sys.modules if 'torchaudio' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr
