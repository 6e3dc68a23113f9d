"""What the command line refuses: one sentence on stderr, exit code 2, and a traceback only when it is asked for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

from tasks import cli
from watermark import Mark

ROOT = Path(cli.__file__).parent.parent


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the commands below are given.

    ``model`` (three classes), ``wide`` (oblong input), the tasks ``two.npz``, ``task.npz`` (three) and ``four.npz``,
    ``program``, ``owner.key``, ``mark-of-four``, and two folders of earlier results, ``marked`` and ``foreign``.
    """
    folder = tmp_path_factory.mktemp("things")
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=4, hidden_sizes=[4], depths=[1], layer_type="basic", num_labels=3)
    for name, width in (("model", 8), ("wide", 12)):
        ResNetForImageClassification(config).save_pretrained(folder / name)
        ViTImageProcessorPil(size={"height": 8, "width": width}).save_pretrained(folder / name)
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6, 3)).astype(np.uint8)
    np.savez(folder / "task.npz", x=images, y=np.arange(60) % 3)
    np.savez(folder / "two.npz", x=images, y=np.arange(60) % 2)
    np.savez(folder / "four.npz", x=images, y=np.arange(60) % 4)
    Mark(family="shapes", classes=4, shape=(3, 6, 6)).save_pretrained(folder / "mark-of-four")
    (folder / "marked" / "mark").mkdir(parents=True)
    (folder / "foreign").mkdir()
    (folder / "foreign" / "results.json").write_text('{"of": "somebody else"}')
    home = Path.cwd()
    os.chdir(folder)
    try:
        fit = ["reprogram", "fit", "--model", "model", "--task", "task.npz", "--shots", "2", "--epochs", "0"]
        assert cli.main([*fit, "--labels", "blm", "--no-baselines", "--out", "program"]) == 0
        assert cli.main(["watermark", "keygen"]) == 0
    finally:
        os.chdir(home)
    return folder


@pytest.fixture
def refused(
    things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str], None]:
    """Checks that a command is refused with a sentence that holds some words."""
    for thing in things.iterdir():
        (tmp_path / thing.name).symlink_to(thing)
    monkeypatch.chdir(tmp_path)

    def check(words: str, sentence: str) -> None:
        capsys.readouterr()
        code = cli.main(words.split())
        out, err = capsys.readouterr()
        last = err.strip().splitlines()[-1]
        assert code == 2 and out == "" and "Traceback" not in err
        assert sentence in last, last

    return check


FIT = "reprogram fit --model model --task task.npz --shots 2 --epochs 0 --out p"
EMBED = "watermark embed --model model --key owner.key --task task.npz --steps 1 --out m"
VERIFY = "watermark verify --model model --mark mark --key owner.key"
ATTACK = "attack evaluate --task task.npz --samples 5 --out c"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        # the words themselves
        ("", "Missing: a command, one of demo, doctor, reprogram, watermark, attack"),
        ("reprogram", "Missing: a command, one of fit, evaluate, predict. `repromark reprogram --help`"),
        ("reprogam", "There is no command reprogam; did you mean reprogram?"),
        ("xyz", "There is no command xyz: use 'demo'"),
        ("reprogram fit", "Missing: --model. `repromark reprogram fit --help` tells more."),
        ("reprogram predict --program p", "Missing: FILES."),
        ("run", "Missing: RECIPE."),
        ("doctor --fxi", "Unknown: --fxi; did you mean --fix?"),
        ("doctor now", "Unknown: now."),
        ("reprogram fit --model", "expected one argument"),
        (f"{FIT} --labels best", "--labels is best, but must be one of 'rlm', 'flm', 'ilm',"),
        (f"{FIT} --epochs many", "--epochs is many, but must be an int."),
        (f"{FIT} --image-size big", "--image-size is big, but must be an int or null."),
        (f"{FIT} --learning-rate fast", "--learning-rate is fast, but must be a float."),
        # tasks and models
        (f"{FIT} --task dgits", "There is no task 'dgits'"),
        (f"{FIT} --task=", "`task` is empty: give it a value, or leave it out."),
        (f"{FIT} --model=", "`model` is empty"),
        (f"{FIT} --image-size 100000", "--image-size is 100000, but must be 1 to 4096 pixels."),
        (f"{FIT} --size 100000", "--size is 100000, but must be 1 to 4096 pixels."),
        (f"{FIT} --learning-rate 0", "--learning-rate is 0.0, but must be a finite number above 0."),
        (f"{FIT} --mapping-learning-rate .inf", "--mapping-learning-rate is inf, but must be a finite number above 0."),
        (f"{FIT} --shots 100", "but shots=100: add samples, or ask for fewer shots."),
        (f"{FIT} --model modle", "There is no model 'modle'"),
        (f"{FIT} --device cuda:99", "device='cuda:99' is not there"),
        (f"{FIT} --model wide", "takes images of (8, 12), but a program needs a square canvas"),
        (f"{FIT} --inner 4", "inner=4 belongs to --inputs frame"),
        (f"{FIT} --inputs frame --inner 8", "inner=8 leaves no frame"),
        (f"{FIT} --inputs frame --contrast 0.5", "contrast=0.5 belongs to --inputs full-image"),
        (f"{FIT} --contrast 0", "contrast=0.0 must be above 0"),
        (f"{FIT} --epochs -1", "epochs=-1 is too few"),
        (f"{FIT} --labels rlm --task four.npz", "The random mapping needs 4 source classes"),
        # programs
        ("reprogram evaluate --program nowhere", "nowhere"),
        ("reprogram evaluate --program program --task four.npz", "tells 3 classes apart, but the task four has 4"),
        ("reprogram evaluate --program program --test 0", "--test is 0, but must be at least 1."),
        ("reprogram predict none.png --program program", "there is no such file"),
        # watermarks
        ("watermark keygen --out owner.key", "exists already and a key is never overwritten"),
        (f"{EMBED} --key none.key", "There is no key file at none.key"),
        (f"{VERIFY} --key none.key", "`repromark watermark keygen --out none.key`"),
        (f"{VERIFY} --mark mark-of-four", "model tells 3 classes apart, but the mark was made for 4"),
        (f"{EMBED} --learning-rate .nan", "--learning-rate is nan, but must be a finite number above 0."),
        (f"{EMBED} --task two.npz", "tells 3 classes apart, but the task two has 2"),
        # no model of this name is looked for: the refusal comes first
        (f"{EMBED} --model nothing --triggers 12", "12 triggers over 3 classes cannot reach alpha=1e-06"),
        (f"{EMBED} --model nothing --triggers 0", "--triggers is 0, which could never be verified"),
        (f"{EMBED} --model nothing --out marked", "marked/mark is there already and would be lost: choose another"),
        (f"{EMBED} --task four.npz", "tells 3 classes apart, but the task four has 4"),
        (f"{EMBED} --family blend --validation 1", "at least 2 images of the task"),
        (f"{EMBED} --family dots", "--family is dots, but must be one of 'blend', 'shapes'."),
        (VERIFY, "There is no mark in mark"),
        # attacks
        (ATTACK, "Give `--model` or `--program`"),
        (f"{ATTACK} --model model --linf 8", "--linf holds the radius 8, but images lie in [0, 1]"),
        (f"{ATTACK} --model model --linf 8/255,8", "write 8 of 255 levels as 8/255."),
        (f"{ATTACK} --model model --linf 1e999", "'1e999' is not the list"),
        (f"{ATTACK} --model model --samples 0", "--samples is 0, but must be at least 1."),
        (f"{ATTACK} --model model --task four.npz", "tells 3 classes apart, but the task four has 4"),
        (f"{ATTACK} --model model --task two.npz", "tells 3 classes apart, but the task two has 2"),
        (f"{ATTACK} --model model --linf wide", "'wide' is not the list needed here: write it like 0.5,1"),
        (f"{ATTACK} --model model --l2 1/0", "'1/0' is not the list"),
        (f"{ATTACK} --model model --severities 1.5", "'1.5' is not the list needed here: write it like 1,3,5"),
        (f"{ATTACK} --model model --corruptions fog,rain", "The corruption 'fog' is not known"),
        (f"{ATTACK} --model model --severities 6", "severity=6 is not possible"),
        # places
        (f"{FIT} --no-baselines --out task.npz", "The folder task.npz cannot be made"),
        ("reprogram fit --model nothing --out model", "--out model holds no whole program, but config.json"),
        ("reprogram evaluate --program nothing --out foreign", "foreign/results.json is a file that no command wrote"),
        ("doctor --out task.npz/x", "The folder task.npz/x cannot be made"),
        ("run r.yaml --out task.npz", "There is no recipe r.yaml: give a YAML file, or the name"),
        ("run digits-mapping", "or the name of one that comes along, digits-mappings."),
        ("doctor --json task.npz/x.json", "The folder task.npz cannot be made"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_code_2(refused: Callable[[str, str], None], words: str, sentence: str) -> None:
    refused(words, sentence)


def test_a_program_for_a_torch_module_is_refused(refused: Callable[[str, str], None], tmp_path: Path) -> None:
    from reprog import Bayesian, FullImage, Program, fit

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5))
    program = Program(FullImage(size=4), Bayesian(), classes=2)
    fit(program, model, torch.rand(4, 1, 4, 4), torch.arange(4) % 2, epochs=0)
    program.save_pretrained(tmp_path / "own")
    refused("reprogram evaluate --program own", "was trained on a torch module that code made")


def test_a_program_that_does_not_name_its_task_is_refused(refused: Callable[[str, str], None], tmp_path: Path) -> None:
    from reprog import Program

    program = Program.from_pretrained("program")
    del program.training["task"]
    program.save_pretrained(tmp_path / "own")
    refused("reprogram evaluate --program own", "does not say which task it was trained on: give `--task`")


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"test": None}, "test"), ({"shape": [3, 6]}, "shape"), ({"source": 1, "size": "x"}, "source and size")],
)
def test_a_program_whose_config_says_half_of_its_task_is_refused(
    refused: Callable[[str, str], None], tmp_path: Path, changed: dict[str, object], named: str
) -> None:
    from reprog import Program

    program = Program.from_pretrained("program")
    program.training["task"] |= changed
    program.save_pretrained(tmp_path / "own")
    refused("reprogram evaluate --program own", f"config.json lacks a usable {named} under training, task: get a fresh")
    refused("reprogram predict none.png --program own", f"lacks a usable {named}")
    program.training["task"] = {"source": "task.npz"}
    program.save_pretrained(tmp_path / "own")
    refused("reprogram evaluate --program own", "lacks a usable shape and shots and test and size")


def test_a_failed_command_leaves_no_empty_folders(refused: Callable[[str, str], None], tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    before = sorted(tmp_path.iterdir())
    refused(f"{FIT} --model nothing --out a/b", "There is no model 'nothing'")
    refused("reprogram evaluate --program nothing --out a/b --json c/d/e.json", "nothing")
    refused(f"{FIT} --model nothing --out old", "There is no model 'nothing'")
    (tmp_path / "r.yaml").write_text(json.dumps(GOOD | {"base": {"model": "nothing"}}))
    refused("run r.yaml", "There is no model 'nothing'")
    refused("run r.yaml --out a", "There is no model 'nothing'")
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "r.yaml"])


def test_a_changed_model_is_refused(refused: Callable[[str, str], None], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file

    weights = load_file("model/model.safetensors")
    shutil.copytree("model", "own")
    Path("model").unlink()
    Path("own").rename("model")
    changed = {name: value + 1 if name.endswith("classifier.1.bias") else value for name, value in weights.items()}
    assert any(not torch.equal(changed[name], weights[name]) for name in weights)
    save_file(changed, "model/model.safetensors", metadata={"format": "pt"})
    refused("reprogram evaluate --program program", "weights")


def test_a_model_that_cannot_be_saved_again_is_not_marked(
    refused: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from attacks import models

    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 3))
    loaded = models.load_model(module, classes=3)
    monkeypatch.setattr(models, "load_model", lambda *given, **options: loaded)
    refused(EMBED, "model cannot be saved again as a folder: give a Hugging Face id or folder.")


# recipes

GOOD = {
    "version": 1, "name": "r", "job": "reprogram", "seeds": [0],
    "base": {"model": "model", "task": "task.npz", "shots": 2, "epochs": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"sedes": [0]}, "`sedes` in r.yaml is not a recipe's key: use `seeds`."),
        ({"zzz": 0}, "`zzz` in r.yaml is not a recipe's key: use one of base, grid, job, name, seeds, version."),
        ({"version": 2}, "has version 2, but this repromark reads 1"),
        ({"version": "one"}, "`version` is 'one' in r.yaml: it must be a whole number."),
        ({"version": True}, "`version` is True in r.yaml: it must be a whole number."),
        ({"name": "a/b"}, "`name` is 'a/b' in r.yaml: it names a folder"),
        ({"job": "reprogam"}, "`job` is 'reprogam' in r.yaml: use `reprogram`."),
        ({"seeds": []}, "`seeds` is [] in r.yaml: it must list different whole numbers"),
        ({"seeds": [1, 1]}, "`seeds` is [1, 1]"),
        ({"seeds": [-1]}, "`seeds` is [-1]"),
        ({"seeds": [True]}, "`seeds` is [True]"),
        ({"seeds": None}, "`seeds` is None in r.yaml: it must be a list"),
        ({"base": {"epoch": 1}}, "`epoch` in r.yaml is not a setting of the job reprogram: use `epochs`."),
        ({"base": {"model": "model", "seed": 1}}, "`seed` in r.yaml is not a setting of the job reprogram"),
        ({"base": {"model": "model", "epochs": "x"}}, "--epochs is x, but must be an int. `repromark reprogram fit -"),
        ({"base": {"model": "model", "task": ""}}, "`task` is empty: give it a value, or leave it out."),
        ({"base": {}}, "Missing: --model."),
        ({"grid": {"labels": "blm"}}, "`grid: labels` is 'blm' in r.yaml: it must list different values"),
        ({"grid": {"labels": []}}, "`grid: labels` is []"),
        ({"grid": {"labels": ["blm", "blm"]}}, "`grid: labels` is ['blm', 'blm']"),
        ({"grid": {"labels": ["blm", "best"]}}, "--labels is best, but must be one of"),
        ({"grid": {"epochs": [0, 1]}}, "`epochs` stands in both base and grid"),
        ({"grid": {"test": list(range(200)), "size": list(range(200))}}, "makes 40000 cells, but 10000 are the most"),
        ({"base": {"model": "nothing"}}, "The cell with seed 0 cannot be run: There is no model 'nothing'"),
    ],
)  # fmt: skip
def test_bad_recipes_are_refused(
    refused: Callable[[str, str], None], changed: dict[str, object], sentence: str
) -> None:
    Path("r.yaml").write_text(json.dumps(GOOD | changed))  # JSON is YAML
    refused("run r.yaml --out o", sentence)


def test_files_that_are_no_recipe_are_refused(refused: Callable[[str, str], None]) -> None:
    refused("run r.yaml", "There is no recipe r.yaml")
    Path("r.yaml").write_text("- one\n- two\n")
    refused("run r.yaml", "r.yaml is no recipe: it must be a mapping with the keys version, name, job")
    Path("r.yaml").write_text("a: [1")
    refused("run r.yaml", "r.yaml is no readable YAML")
    Path("r.yaml").write_text("!!python/object/apply:os.system ['touch owned']")
    refused("run r.yaml", "r.yaml is no readable YAML")
    assert not Path("owned").exists()
    Path("r.yaml").write_text(json.dumps({name: value for name, value in GOOD.items() if name != "seeds"}))
    refused("run r.yaml", "`seeds` is missing in r.yaml: it must be a list")
    Path("r.yaml").write_text(" " * 1_000_001)
    refused("run r.yaml", "is larger than 1000000 bytes")


# the unforeseen


def test_debug_shows_the_traceback_of_a_sentence(things: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reprogram", "evaluate", "--program", "nowhere", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err and "InputError: " in err and "nowhere" in err


@pytest.mark.parametrize("debug", [True, False])
def test_unforeseen_errors_are_a_line_unless_debugged(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], debug: bool
) -> None:
    from tasks import doctor

    def broken(fix: bool) -> None:
        raise RuntimeError("no more luck")

    monkeypatch.setattr(doctor, "doctor", broken)
    assert cli.main(["doctor", *(["--debug"] if debug else [])]) == 2
    err = capsys.readouterr().err
    assert ("Traceback" in err) is debug
    assert debug or err == "RuntimeError: no more luck. This was not foreseen; `--debug` shows where it happened.\n"


def test_an_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from tasks import doctor

    def stopped(fix: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "doctor", stopped)
    assert cli.main(["doctor"]) == 130 and capsys.readouterr().err == "Interrupted.\n"


def test_warnings_are_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    from tasks import doctor

    def warned(fix: bool) -> dict[str, object]:
        warnings.warn("mind the gap", stacklevel=1)
        return {"sound": True, "text": ""}

    monkeypatch.setattr(doctor, "doctor", warned)
    assert cli.main(["doctor"]) == 0 and capsys.readouterr().err == "Warning: mind the gap\n"


# help

LEAVES = [
    "demo", "doctor", "reprogram fit", "reprogram evaluate", "reprogram predict", "watermark keygen", "watermark embed",
    "watermark verify", "attack evaluate", "bench attacks", "serve", "run",
]  # fmt: skip


@pytest.mark.parametrize("words", ["", "reprogram", "watermark", "attack", "bench", *LEAVES])
def test_every_command_has_help(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words.split(), "--help"]) == 0
    out = capsys.readouterr().out
    assert f"usage: repromark {words}".rstrip() in out
    if words in LEAVES:
        assert all(f"--{name}" in out for name in ("out", "json", "seed", "device", "debug"))
        options = [line.split() for line in out.splitlines() if line.startswith("  -")]
        assert "(type:" not in {entry[2] for entry in options if len(entry) > 2}, "an option without a description"


def test_help_lists_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["reprogram", "fit", "--help"])
    choices = capsys.readouterr().out.replace("\n", "").replace(" ", "")
    assert "{rlm,flm,ilm,many-to-one,similarity,blm,blm+,linear}" in choices
    assert "{frame,full-image,low-rank,sample-mask,decoder,scaled-frame,patch}" in choices
    cli.main(["watermark", "embed", "--help"])
    assert "{blend,shapes}" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0 and capsys.readouterr().out.startswith("repromark ")


def test_help_waits_for_no_large_library() -> None:
    code = (
        "import sys; from tasks.cli import main; code = main(['reprogram', 'fit', '--help']);"
        "heavy = {'transformers', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_results_never_replace_a_key_or_a_folder(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["watermark", "keygen", "--out", "mine.key", "--json", "./mine.key"]) == 2
    assert not (tmp_path / "mine.key").exists()
    assert cli.main(["watermark", "keygen", "--out", "mine.key"]) == 0
    before = (tmp_path / "mine.key").read_bytes()
    assert cli.main(["doctor", "--json", "mine.key"]) == 2
    assert cli.main(["doctor", "--json", str(tmp_path)]) == 2
    assert (tmp_path / "mine.key").read_bytes() == before
    assert "name another" in capsys.readouterr().err
    for _ in range(2):  # a command's own results may be replaced
        cli.main(["doctor", "--json", "doctor.json"])
    assert (tmp_path / "doctor.json").is_file()
