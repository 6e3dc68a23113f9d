"""The command line from end to end, on a tiny Hugging Face classifier and a tiny task."""

import inspect
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

import watermark
from attacks.models import load_model
from attacks.robustness import Card
from tasks import cli, commands
from tasks.datasets import load_task

CLASSES = 6


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``model`` (six classes, for programs), ``classifier`` (three), ``task.npz`` (three colours) and ``red.png``.

    The weights of both models are random.
    """
    folder = tmp_path_factory.mktemp("things")
    for name, classes in (("model", CLASSES), ("classifier", 3)):
        torch.manual_seed(0)
        config = ResNetConfig(
            embedding_size=32, hidden_sizes=[32, 64], depths=[1, 1], layer_type="basic", num_labels=classes
        )
        ResNetForImageClassification(config).save_pretrained(folder / name)
        ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder / name)
    labels = np.arange(120) % 3
    images = np.random.default_rng(0).integers(0, 60, (120, 8, 8, 3)).astype(np.uint8)
    images[np.arange(120), :, :, labels] += 150
    np.savez(folder / "task.npz", x=images, y=labels, class_names=np.array(["red", "green", "blue"]))
    Image.fromarray(images[0]).save(folder / "red.png")
    return folder


@pytest.fixture
def run(things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Runs a command in a fresh folder beside links to the things; gives its exit code, JSON and what stderr says."""
    for thing in things.iterdir():
        (tmp_path / thing.name).symlink_to(thing)
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, Any, str]:
        capsys.readouterr()
        code = cli.main([*words, "--json", "-"])
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else None, err

    return command


FIT = ("reprogram", "fit", "--model", "model", "--task", "task.npz", "--shots", "5", "--epochs", "3")


def test_fit_evaluate_predict(run: Callable, tmp_path: Path) -> None:
    code, fitted, err = run(*FIT, "--labels", "linear", "--out", "program")
    assert code == 0 and fitted["command"] == "reprogram fit" and fitted["settings"]["labels"] == "linear"
    assert set(fitted["rates"]) == {"program", "majority", "mapping_only", "linear_probe", "raw_svm"}
    assert fitted["labelled"] == 15 and fitted["frozen"]["proven"] and len(fitted["epochs"]) == 4
    assert fitted["rates"]["program"]["value"] > 0.8
    assert "linear probe" in err and json.loads((tmp_path / "program" / "results.json").read_text()) == fitted

    code, evaluated, _ = run("reprogram", "evaluate", "--program", "program", "--out", "again")
    assert code == 0 and evaluated["rates"]["program"] == fitted["rates"]["program"]
    assert evaluated["rates"]["majority"] == fitted["rates"]["majority"]
    assert (tmp_path / "again" / "results.json").exists()

    Image.new("RGB", (30, 20), (0, 0, 255)).save("blue.png")
    code, predicted, _ = run("reprogram", "predict", "red.png", "blue.png", "--program", "program")
    assert code == 0 and [one["class"] for one in predicted["predictions"]] == ["red", "blue"]
    first = predicted["predictions"][0]
    assert first["score"] == max(first["scores"].values()) and sum(first["scores"].values()) == pytest.approx(1)


def test_a_fit_repeats_itself_and_its_seed_changes_it(run: Callable) -> None:
    words = (*FIT, "--labels", "linear", "--no-baselines", "--validation", "9", "--augment")
    first, second = (run(*words, "--out", out)[1] for out in ("a", "b"))
    other = run(*words, "--seed", "1", "--out", "c")[1]
    assert first["epochs"] == second["epochs"] != other["epochs"]
    assert first["labelled"] == 24 and set(first["rates"]) == {"program"}
    assert first["epochs"][0]["validation"]["n"] == 9


def test_contrast_reaches_the_program(run: Callable) -> None:
    assert run(*FIT, "--labels", "blm", "--contrast", "0.5", "--no-baselines", "--out", "p")[0] == 0
    assert json.loads(Path("p/config.json").read_text())["inputs"]["contrast"] == 0.5


def test_baselines_may_use_the_labels_that_the_program_chooses_its_epoch_by(run: Callable) -> None:
    fitted = run(*FIT, "--labels", "blm", "--validation", "9", "--out", "p")[1]
    assert {one["trained_on"] for one in fitted["baselines"].values()} == {24} == {fitted["labelled"]}


@pytest.mark.parametrize("labels", ["rlm", "flm", "ilm", "blm", "blm+", "linear"])
def test_every_mapping_can_be_chosen_and_a_frame_too(run: Callable, labels: str) -> None:
    code, fitted, _ = run(*FIT, "--labels", labels, "--inputs", "frame", "--inner", "8", "--no-baselines", "--out", "p")
    assert code == 0 and fitted["rates"]["program"]["n"] == 40
    assert json.loads(Path("p/config.json").read_text())["inputs"]["inner"] == 8


def test_digits_are_gray_and_files_are_read_so(run: Callable) -> None:
    assert run("reprogram", "fit", "--model", "model", "--shots", "2", "--epochs", "1", "--test", "30",
               "--labels", "blm", "--out", "p")[0] == 0  # fmt: skip
    assert run("reprogram", "predict", "red.png", "--program", "p")[1]["predictions"][0]["class"] in set("0123456789")


EMBED = ("watermark", "embed", "--model", "classifier", "--key", "owner.key", "--task", "task.npz")


def test_keygen_embed_verify(run: Callable, tmp_path: Path) -> None:
    for name in ("owner.key", "other.key"):
        code, made, err = run("watermark", "keygen", "--out", name)
        assert code == 0 and made["commitment"] in err
        secret = json.loads(Path(name).read_text())["secret"]
        assert secret not in err and secret not in json.dumps(made)
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
    code, embedded, _ = run(*EMBED, "--family", "shapes", "--triggers", "30", "--steps", "80", "--batch-size", "16",
                            "--learning-rate", "0.02", "--out", "marked")  # fmt: skip
    assert code == 0 and embedded["embedding"]["after"]["matches"] > 24
    assert embedded["enough_for_alpha"] == {"alpha": 1e-6, "enough": True}
    assert embedded["rates"]["test accuracy"]["n"] == 40

    verify = ("watermark", "verify", "--model", "marked/model", "--mark", "marked/mark")
    code, verdict, err = run(*verify, "--key", "owner.key")
    assert code == 0 and verdict["verified"] and "Verified at alpha = 1e-06" in err
    assert verdict["matches"] == embedded["embedding"]["after"]["matches"]  # the saved model is the marked one
    code, verdict, err = run(*verify, "--key", "other.key")
    assert code == 1 and not verdict["verified"] and "Not verified" in err
    code, verdict, _ = run(*verify[:3], "classifier", *verify[4:], "--key", "owner.key")
    assert code == 1 and not verdict["verified"]


def test_a_mark_that_is_too_weak_is_called_so(run: Callable) -> None:
    run("watermark", "keygen")
    code, embedded, err = run(*EMBED, "--family", "shapes", "--triggers", "20", "--steps", "1", "--out", "m")
    matches = embedded["embedding"]["after"]["matches"]
    assert code == 0 and embedded["enough_for_alpha"] == {"alpha": 1e-6, "enough": False}
    assert f"too weak: {matches} of 20 keyed labels match" in err and "more --steps" in err
    assert run("watermark", "verify", "--model", "m/model", "--mark", "m/mark", "--key", "owner.key")[0] == 1


def test_the_watermark_commands_have_the_librarys_defaults() -> None:
    for command, function in (
        (commands.watermark.embed, watermark.embed),
        (commands.watermark.verify, watermark.verify),
    ):
        own, its = (inspect.signature(one).parameters for one in (command, function))
        shared = [name for name in own if name in its and its[name].default is not inspect.Parameter.empty]
        shared = [name for name in shared if name not in ("validation", "device")]  # other things by the same name
        assert len(shared) >= 4
        assert {name: own[name].default for name in shared} == {name: its[name].default for name in shared}


def test_embed_blends_the_validation_samples(run: Callable) -> None:
    run("watermark", "keygen")
    assert run(*EMBED, "--triggers", "13", "--validation", "12", "--steps", "1", "--out", "m")[0] == 0
    from watermark import Mark

    carriers = Mark.from_pretrained("m/mark").carriers
    private = load_task("task.npz", shots=None, validation=12).validation.inputs
    assert carriers is not None and torch.equal(carriers.float() / 255, private)


def test_attack_evaluate_a_model(run: Callable, tmp_path: Path) -> None:
    words = ("attack", "evaluate", "--task", "task.npz", "--samples", "20", "--steps", "2")
    code, attacked, err = run(*words, "--model", "classifier", "--corruptions", "contrast,jpeg",
                              "--severities", "1", "--linf", "0.1,8/255", "--l2", "none", "--out", "card")  # fmt: skip
    assert code == 0 and Card.load("card/card.json").to_dict() == attacked["card"]
    assert list(attacked["rates"]) == ["clean", "contrast 1", "jpeg 1", "linf 0.03137", "linf 0.1"]
    assert "linf 0.1" in err and Path("card/card.md").read_text().startswith("# Robustness of classifier")
    assert Image.open("card/card.png").size[0] > 100


def test_attack_evaluate_a_program(run: Callable) -> None:
    fitted = run(*FIT, "--no-baselines", "--out", "program")[1]
    code, attacked, _ = run("attack", "evaluate", "--program", "program", "--task", "task.npz", "--samples", "40",
                            "--corruptions", "none", "--linf", "none", "--l2", "none", "--out", "card")  # fmt: skip
    assert code == 0 and attacked["rates"] == {"clean": fitted["rates"]["program"]}


def test_a_program_is_used_where_its_model_lies_now(run: Callable, things: Path, tmp_path: Path) -> None:
    fitted = run(*FIT, "--no-baselines", "--out", "program")[1]
    (tmp_path / "elsewhere").mkdir()
    os.chdir("elsewhere")
    data = ("--task", str(things / "task.npz"))
    card = ("--samples", "40", "--corruptions", "none", "--linf", "none", "--l2", "none", "--out", "card")
    code, _, err = run("reprogram", "evaluate", "--program", "../program", *data)
    assert code == 2 and "(The program was trained on the model model; say with `--model` where that is now.)" in err
    code, _, err = run("reprogram", "evaluate", "--program", "../program", "--model", str(things / "model"))
    assert code == 2 and "(The program was trained on the task task.npz; say with `--task` where that is now.)" in err

    there = ("--program", "../program", "--model", str(things / "model"))
    for words in (("reprogram", "evaluate", *there, *data), ("attack", "evaluate", *there, *data, *card)):
        code, measured, _ = run(*words)
        assert code == 0 and fitted["rates"]["program"] in measured["rates"].values()
    assert run("reprogram", "predict", "../red.png", *there)[1]["predictions"][0]["class"] in ("red", "green", "blue")

    there = (*there[:3], str(things / "classifier"))  # another model, which the program was not trained on
    for words in (
        ("reprogram", "evaluate", *there, *data),
        ("attack", "evaluate", *there, *data, *card),
        ("reprogram", "predict", "../red.png", *there),
    ):
        code, _, err = run(*words)
        assert code == 2 and "is not the same: weights" in err


def test_samples_that_a_program_was_trained_on_are_not_tried(run: Callable, tmp_path: Path) -> None:
    fitted = run(*FIT, "--shots", "20", "--no-baselines", "--test", "10", "--out", "program")[1]
    assert (fitted["task"]["train"], fitted["task"]["test"]) == (60, 10)  # of 120
    Path("moved").mkdir()
    shutil.copy("task.npz", "moved")
    words = ("reprogram", "evaluate", "--program", "program", "--task", "moved/task.npz")
    assert run(*words)[1]["rates"] == run(*words[:-2])[1]["rates"]
    assert run(*words)[1]["rates"]["program"] == fitted["rates"]["program"]
    shutil.copy("task.npz", "renamed.npz")
    attack = ("attack", "evaluate", "--program", "program", "--task", "renamed.npz", "--samples", "40", "--l2", "none",
              "--corruptions", "none", "--linf", "none")  # fmt: skip
    tried, said = [], []
    for each in ((*words, "--test", "40"), attack):
        code, measured, err = run(*each)
        assert code == 0
        tried.append(next(iter(measured["rates"].values()))["n"])
        said.append(int(re.search(r"(\d+) of 40 test samples are left out", err)[1]))
    assert said[0] == said[1] > 5 and tried == [40 - left for left in said]

    with np.load("task.npz") as archive:
        content = dict(archive)
    chosen = load_task("task.npz", shots=20, test=10).train
    labels = chosen.labels.numpy()
    again = (chosen.inputs.numpy() * 255).round().astype(np.uint8)
    np.savez("again.npz", x_test=again, y_test=labels, x_train=content["x"].transpose(0, 3, 1, 2), y_train=content["y"])
    code, _, err = run("reprogram", "evaluate", "--program", "program", "--task", "again.npz")
    assert code == 2 and "was trained on all of the test samples of again: give it others" in err


def test_the_defaults_are_those_of_readmes_example(run: Callable) -> None:
    code, fitted, _ = run("reprogram", "fit", "--model", "model", "--task", "task.npz", "--no-baselines", "--out", "p")
    config = json.loads(Path("p/config.json").read_text())
    assert code == 0 and len(fitted["epochs"]) == 1 + 5
    assert config["inputs"]["kind"] == "full_image" and config["inputs"]["contrast"] == 0.5
    assert config["labels"]["kind"] == "linear" and config["training"]["task"]["shots"] == 20


def test_a_new_mapping_or_family_needs_no_change_to_the_command_line(
    run: Callable, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from reprog import labels
    from watermark import triggers

    monkeypatch.setitem(labels.LABELS, "my_own", labels.Frequency)
    monkeypatch.setitem(triggers.FAMILIES, "stripes", triggers.FAMILIES["shapes"])
    for command, word in (("reprogram fit", "my-own"), ("watermark embed", "stripes")):
        assert cli.main([*command.split(), "--help"]) == 0 and word in capsys.readouterr().out
    # Another name for a mapping that can be saved; one with a name of its own is saved under it.
    assert run(*FIT, "--labels", "my-own", "--no-baselines", "--out", "p")[0] == 0
    assert run("watermark", "keygen")[0] == 0
    assert run(*EMBED, "--family", "stripes", "--triggers", "13", "--steps", "1", "--out", "m")[0] == 0


def test_a_bundled_recipe_is_run_by_its_name(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import experiments

    monkeypatch.setattr(
        experiments, "run_recipe", lambda plan, **given: commands.Outcome({"cells": len(plan.cells()), **given}, "")
    )
    code, made, _ = run("run", "digits-mappings")
    assert code == 0 and made["cells"] == 8 and made["out"] == "runs/digits-mappings"


def test_gray_samples_reach_a_colour_model(run: Callable) -> None:
    x = np.random.default_rng(0).random((30, 5, 5), dtype=np.float32)
    np.savez("gray.npz", x=x, y=np.arange(30) % 3)
    words = ("--corruptions", "none", "--linf", "0.1", "--l2", "none", "--steps", "1", "--out", "card")
    assert run("attack", "evaluate", "--model", "classifier", "--task", "gray.npz", *words)[0] == 0


def test_results_go_to_a_file_and_words_to_the_standard_output(run: Callable, capsys: pytest.CaptureFixture) -> None:
    shutil.copytree("model", "copy")
    assert cli.main([*FIT, "--out", "program", "--json", "deep/fit.json"]) == 0
    out, _ = capsys.readouterr()
    assert "linear probe" in out and json.loads(Path("deep/fit.json").read_text())["command"] == "reprogram fit"


def test_auto_is_a_device(run: Callable) -> None:
    code, fitted, _ = run(*FIT, "--device", "auto", "--no-baselines", "--out", "p")
    assert code == 0 and fitted["settings"]["device"] == cli.best_device()
    assert load_model("model", device=fitted["settings"]["device"]).classes == CLASSES


# recipes

RECIPE = """
version: 1
name: tiny
job: reprogram
base: {model: model, task: task.npz, shots: 2, test: 30, epochs: 1}
grid: {labels: [blm, linear]}
seeds: [0, 1]
"""


def test_a_recipe_runs_skips_and_mends(run: Callable, tmp_path: Path) -> None:
    Path("r.yaml").write_text(RECIPE)
    code, first, err = run("run", "r.yaml", "--out", "o")
    assert code == 0 and first["skipped"] == 0 and err.count(": running") == 4
    rows = {(row["rate"], row["varied"].get("labels")): row for row in first["rows"]}
    assert set(rows) == {("program", "blm"), ("program", "linear"), ("mapping_only", "blm"), ("mapping_only", "linear"),
                         ("linear_probe", None), ("raw_svm", None), ("majority", None)}  # fmt: skip
    assert rows["program", "blm"]["seeds"] == 2 and rows["program", "blm"]["n"] == 30
    assert json.loads(Path("o/results.json").read_text())["rows"] == first["rows"]
    assert "| any | majority |" in Path("o/results.md").read_text()

    files = sorted(Path("o/cells").iterdir())
    times = {file: file.stat().st_mtime_ns for file in files}
    files[0].write_text(files[0].read_text()[:50])
    files[1].write_text(files[2].read_text())
    code, second, err = run("run", "r.yaml", "--out", "o")
    assert code == 0 and second["skipped"] == 2 and second["rows"] == first["rows"]
    assert err.count("is damaged") == 2 and err.count("done before") == 2 and err.count(": running") == 2
    assert sorted(Path("o/cells").iterdir()) == files
    assert [file for file in files if file.stat().st_mtime_ns == times[file]] == files[2:]


def test_one_seed_can_be_run_and_a_setting_makes_other_cells(run: Callable) -> None:
    Path("r.yaml").write_text(RECIPE)
    assert len(run("run", "r.yaml", "--out", "o", "--seed", "0")[1]["cells"]) == 2
    assert run("run", "r.yaml", "--out", "o")[1]["skipped"] == 2
    Path("r.yaml").write_text(RECIPE.replace("epochs: 1", "epochs: 2"))
    assert run("run", "r.yaml", "--out", "o")[1]["skipped"] == 0


def test_changed_samples_or_weights_make_other_cells(run: Callable) -> None:
    Path("r.yaml").write_text(RECIPE.replace("seeds: [0, 1]", "seeds: [0]").replace("[blm, linear]", "[blm]"))
    run("run", "r.yaml", "--out", "o")
    for name in ("task.npz", "model"):
        copied = shutil.copytree(name, "copy") if Path(name).is_dir() else shutil.copy(name, "copy.npz")
        Path(name).unlink()
        shutil.move(copied, name)
    assert run("run", "r.yaml", "--out", "o")[1]["skipped"] == 1  # the same contents in other files
    with np.load("task.npz") as archive:
        content = dict(archive)
    content["x"][0] ^= 1
    np.savez("task.npz", **content)
    assert run("run", "r.yaml", "--out", "o")[1]["skipped"] == 0
    config = Path("model/preprocessor_config.json")
    config.write_text(config.read_text() + "\n")
    assert run("run", "r.yaml", "--out", "o")[1]["skipped"] == 0


def test_an_interrupted_recipe_keeps_its_finished_cells(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    import reprog

    Path("r.yaml").write_text(RECIPE)
    fit, calls = reprog.fit, []

    def interrupted(*given: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(*given, **options)

    monkeypatch.setattr(reprog, "fit", interrupted)
    code, _, err = run("run", "r.yaml", "--out", "o")
    assert code == 130 and err.endswith("Interrupted.\n") and "Traceback" not in err
    assert len(list(Path("o/cells").iterdir())) == 2 and not Path("o/results.json").exists()
    assert run("run", "r.yaml", "--out", "o")[1]["skipped"] == 2


def test_the_other_jobs_of_a_recipe(run: Callable) -> None:
    run("watermark", "keygen")
    Path("w.yaml").write_text(
        "{version: 1, name: w, job: watermark, seeds: [0], grid: {steps: [1, 2]},"
        " base: {model: classifier, task: task.npz, key: owner.key, family: shapes, triggers: 13}}"
    )
    code, marked, _ = run("run", "w.yaml")
    assert code == 0 and Path("runs/w/results.md").exists()
    assert {row["rate"] for row in marked["rows"]} >= {"keyed labels", "test accuracy"}
    Path("a.yaml").write_text(
        "{version: 1, name: a, job: attack, seeds: [0], grid: {steps: [1, 2]},"
        " base: {model: classifier, task: task.npz, samples: 10, corruptions: none, l2: none, linf: '0.1'}}"
    )
    code, attacked, _ = run("run", "a.yaml")
    assert code == 0 and {row["rate"] for row in attacked["rows"]} == {"clean", "linf 0.1"}


# demo and doctor, whose own tests stand elsewhere


def test_the_demo_is_handed_its_options(run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks import demo

    given: dict[str, Any] = {}

    def play(**options: Any) -> dict[str, Any]:
        given.update(options)
        return {"seconds": 1, "text": "the table"}

    monkeypatch.setattr(demo, "demo", play)
    code, results, err = run("demo", "--out", "d", "--seed", "7", "--device", "cpu")
    assert code == 0 and given == {"out": "d", "seed": 7, "device": "cpu", "progress": True}
    assert "the table" in err and "text" not in results


@pytest.mark.parametrize("sound", [True, False])
def test_the_doctor_says_by_its_code_whether_all_is_well(
    run: Callable, monkeypatch: pytest.MonkeyPatch, sound: bool
) -> None:
    from tasks import doctor

    monkeypatch.setattr(doctor, "doctor", lambda fix: {"sound": sound, "findings": [], "text": f"fix {fix}"})
    code, found, err = run("doctor", "--fix")
    assert code == (0 if sound else 1) and found["sound"] is sound and "fix True" in err
