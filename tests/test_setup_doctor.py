"""The doctor's findings, and that its one repair is made in exactly one case."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from tasks import doctor

CANNOT_LOAD = "Traceback\nOSError: Could not load this library: lib/_torchaudio.abi3.so"


@pytest.fixture
def torchaudio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torchaudio whose import fails as long as its compiled libraries are there, beside a torch without CUDA."""
    (tmp_path / "lib").mkdir()
    for name in ("_torchaudio.abi3.so", "libtorchaudio.abi3.so"):
        (tmp_path / "lib" / name).write_bytes(b"\x7fELF..libtorch_cpu.so..libtorch_cuda.so..")
    monkeypatch.setattr(doctor, "torchaudio_folder", lambda: tmp_path)
    monkeypatch.setattr(doctor, "torchaudio_trouble", lambda: CANNOT_LOAD if list(tmp_path.rglob("*.so")) else "")
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    return tmp_path


def libraries(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "lib").iterdir())


UNTOUCHED = ["_torchaudio.abi3.so", "libtorchaudio.abi3.so"]


def test_case_is_named_and_left_without_fix(torchaudio):
    finding = doctor.check_torchaudio()
    assert not finding.ok
    assert "repromark doctor --fix" in finding.text
    assert libraries(torchaudio) == UNTOUCHED


def test_fix_sets_the_libraries_aside_and_says_so(torchaudio):
    finding = doctor.check_torchaudio(fix=True)
    assert finding.ok
    assert "renamed" in finding.text and "_torchaudio.abi3.so" in finding.text
    assert libraries(torchaudio) == [name + doctor.ASIDE for name in UNTOUCHED]
    again = doctor.check_torchaudio(fix=True)
    assert again.ok
    assert "2 compiled libraries that need CUDA are set aside; nothing to mend" in again.text


def test_working_install_is_left_alone(torchaudio, monkeypatch):
    monkeypatch.setattr(doctor, "torchaudio_trouble", lambda: "")
    finding = doctor.check_torchaudio(fix=True)
    assert finding.ok
    assert "nothing to mend" in finding.text
    assert libraries(torchaudio) == UNTOUCHED


def test_other_failure_is_left_alone(torchaudio, monkeypatch):
    monkeypatch.setattr(doctor, "torchaudio_trouble", lambda: "ModuleNotFoundError: No module named 'torch.x'")
    assert_refused(torchaudio, "No module named 'torch.x'")


def test_torch_with_cuda_is_left_alone(torchaudio, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    assert_refused(torchaudio, "Could not load this library")


def test_torch_with_rocm_is_left_alone(torchaudio, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert_refused(torchaudio, "Could not load this library")


def test_libraries_without_cuda_are_left_alone(torchaudio):
    for library in (torchaudio / "lib").iterdir():
        library.write_bytes(b"\x7fELF..libtorch_cpu.so..")
    assert_refused(torchaudio, "Could not load this library")


def assert_refused(folder: Path, cause: str) -> None:
    finding = doctor.check_torchaudio(fix=True)
    assert not finding.ok
    assert "left alone" in finding.text and cause in finding.text
    assert libraries(folder) == UNTOUCHED


def test_repair_that_does_not_help_is_undone(torchaudio, monkeypatch):
    monkeypatch.setattr(doctor, "torchaudio_trouble", lambda: CANNOT_LOAD)
    finding = doctor.check_torchaudio(fix=True)
    assert not finding.ok
    assert "is as before" in finding.text
    assert libraries(torchaudio) == UNTOUCHED


def test_absent_torchaudio(monkeypatch):
    monkeypatch.setattr(doctor, "torchaudio_folder", lambda: None)
    assert not doctor.check_torchaudio(fix=True).ok


@pytest.mark.skipif(find_spec("torchaudio") is None, reason="torchaudio is not installed")
def test_installed_torchaudio_works_after_set_up():
    assert doctor.check_torchaudio().ok, doctor.torchaudio_trouble()


def test_ten_lines_and_json(monkeypatch):
    result = doctor.doctor()
    assert len(result["text"].splitlines()) == 10
    assert result["sound"] == all(finding["ok"] for finding in result["findings"])
    assert json.loads(json.dumps(result)) == result


def test_one_bad_finding_makes_it_unsound(monkeypatch):
    monkeypatch.setattr(doctor, "check_torchaudio", lambda fix: doctor.Finding("torchaudio", False, "two\nlines"))
    result = doctor.doctor()
    assert not result["sound"]
    assert "torchaudio" in result["text"].splitlines()[-1]
    assert len(result["text"].splitlines()) == 10


def test_broken_library_is_named(monkeypatch):
    monkeypatch.setattr(doctor, "LIBRARIES", {"numpy": "numpy", "lost": "no_such_module"})
    finding = doctor.check_libraries()
    assert not finding.ok
    assert "lost (ModuleNotFoundError" in finding.text and "numpy" not in finding.text


def test_unsupported_python(monkeypatch):
    monkeypatch.setattr(doctor.sys, "version_info", (3, 14, 0))
    assert not doctor.check_python().ok


def test_the_hub_is_said_to_be_allowed_and_not_to_be_reached(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert doctor.check_hub().text.startswith("downloads allowed, cache in ")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert doctor.check_hub().text.startswith("offline (HF_HUB_OFFLINE is set), cache in ")


def test_folder_that_cannot_be_written(tmp_path, monkeypatch):
    assert doctor.check_folder(tmp_path / "not" / "yet").ok
    monkeypatch.setattr(doctor.os, "access", lambda *_: False)
    assert not doctor.check_folder(tmp_path).ok
