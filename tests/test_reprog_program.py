import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attacks.engine import Rate
from attacks.errors import InputError
from attacks.evasion import pgd
from reprog import BayesianPlus, Frame, FullImage, Linear, Program, Random, fit
from reprog.labels import LABELS


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 36, 7))


def task() -> tuple[Tensor, Tensor]:
    return torch.rand(12, 1, 3, 3, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2


def trained(inputs: object = None, labels: object = None) -> Program:
    inputs, labels = inputs or FullImage(size=6, contrast=0.5), labels or Linear()
    program = Program(inputs, labels, classes=2, class_names=("näse", "b|c"))  # type: ignore[arg-type]
    fit(program, network(), *task(), epochs=2)
    program.metrics["test accuracy"] = Rate(450, 500)
    return program


@pytest.mark.parametrize("inputs", [FullImage(size=6), Frame(size=6, inner=3)], ids=["full_image", "frame"])
@pytest.mark.parametrize("kind", sorted(LABELS))
def test_a_program_comes_back_as_it_was_saved(tmp_path: Path, inputs: object, kind: str) -> None:
    program = trained(inputs, LABELS[kind]())
    loaded = Program.from_pretrained(program.save_pretrained(tmp_path / "new" / "folder"))
    assert all(loaded.tensors[name].equal(tensor) for name, tensor in program.tensors.items())
    model, images = network(), task()[0]
    assert loaded.attach(model)(images).equal(program.attach(model)(images))
    assert loaded.fingerprints.equal(program.fingerprints) and loaded.fingerprints.dtype == torch.int64
    loaded.tensors, program.tensors = {}, {}
    assert loaded == program


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", sorted(LABELS))
def test_programs_on_models_of_other_precision_are_float32(tmp_path: Path, kind: str, dtype: torch.dtype) -> None:
    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = network().to(dtype)

        def forward(self, images: Tensor) -> Tensor:
            return self.body(images.to(dtype))

    images, labels = task()
    program = Program(FullImage(size=6), LABELS[kind](), classes=2)
    fit(program, Cast(), images, labels, epochs=2)
    loaded = Program.from_pretrained(program.save_pretrained(tmp_path))
    logits = loaded.attach(Cast())(images)
    assert logits.dtype == torch.float32 and logits.equal(program.attach(Cast())(images))


def test_the_revision_is_kept_and_shown_and_a_folders_path_is_not(tmp_path: Path) -> None:
    model, program = network(), Program(FullImage(size=6), Linear(), classes=2)
    model.source, model.revision = "owner/vit", "0f1e2d"  # type: ignore[assignment]
    fit(program, model, *task(), epochs=1)
    loaded = Program.from_pretrained(program.save_pretrained(tmp_path))
    assert loaded.backbone is not None and loaded.backbone.revision == "0f1e2d"
    assert 'load_model("owner/vit", revision="0f1e2d")' in (tmp_path / "README.md").read_text(encoding="utf-8")
    for source in ("/home/somebody/vit", "~/somebody/vit", "C:\\somebody\\vit", str(tmp_path / "somebody" / "vit")):
        model.source, model.revision = source, None  # type: ignore[assignment]
        fit(program, model, *task(), epochs=1)
        program.save_pretrained(tmp_path)
        card = (tmp_path / "README.md").read_text(encoding="utf-8")
        assert 'load_model("vit")' in card and "somebody" not in card
        assert Program.from_pretrained(tmp_path).backbone == program.backbone


def test_names_on_the_card_are_no_markup(tmp_path: Path) -> None:
    model = network()
    model.name = "tiny\n# big `x`"  # type: ignore[assignment]
    program = Program(FullImage(size=6), Linear(), classes=2, class_names=("<img src=x>", "a|b"))
    fit(program, model, *task(), epochs=0)
    program.metrics["top|1\n<b>"] = Rate(1, 2)
    card = (program.save_pretrained(tmp_path) / "README.md").read_text(encoding="utf-8")
    assert "# Program for tiny # big \\`x\\`\n" in card and "\n# big" not in card
    assert '"\\<img src=x\\>", "a\\|b"' in card
    assert "\n| top\\|1 \\<b\\> | 0.500 [" in card


def test_a_card_never_shows_where_the_tasks_data_lie(tmp_path: Path) -> None:
    program = trained()
    for source in (str(tmp_path / "somebody" / "birds"), "~/somebody/birds", "C:\\somebody\\birds"):
        program.training["task"] = {"source": source, "shape": (1, 3, 3), "more": [source]}
        card = (program.save_pretrained(tmp_path / "saved") / "README.md").read_text(encoding="utf-8")
        assert card.count('"birds"') == 2 and "somebody" not in card
        assert Program.from_pretrained(tmp_path / "saved").training["task"]["source"] == source
    program.training["task"] = {"source": "digits", "of": "owner/birds"}
    card = (program.save_pretrained(tmp_path / "saved") / "README.md").read_text(encoding="utf-8")
    assert '"digits"' in card and '"owner/birds"' in card


@pytest.mark.parametrize("place", ["afile", "afile/inside"])
def test_a_file_where_the_folder_should_be_is_said_so(tmp_path: Path, place: str) -> None:
    (tmp_path / "afile").write_text("kept")
    with pytest.raises(InputError, match=f"{place} cannot be written.*choose another place"):
        trained().save_pretrained(tmp_path / place)
    assert (tmp_path / "afile").read_text() == "kept"


def photos(n: int, seed: int, channels: int = 1) -> Tensor:
    pixels = torch.randint(256, (n, channels, 3, 3), generator=torch.Generator().manual_seed(seed))
    return pixels / 255


@pytest.mark.parametrize("channels", [1, 3])
def test_samples_that_were_learned_from_are_known_again_after_saving(tmp_path: Path, channels: int) -> None:
    images, chosen_by, fresh = (photos(12, seed, channels) for seed in range(3))
    labels = torch.arange(12) % 2
    program = Program(FullImage(size=6), Linear(), classes=2)
    assert not program.seen(images).any()
    fit(program, network(), images, labels, epochs=1, validation=(chosen_by, labels))
    loaded = Program.from_pretrained(program.save_pretrained(tmp_path))
    assert loaded.seen(torch.cat([fresh[:2], images, fresh, chosen_by])).nonzero().flatten().tolist() == [
        *range(2, 14),
        *range(26, 38),
    ]
    nearly = (images + 0.001).clamp(0, 1)  # other floats, the same 8-bit pixels
    assert loaded.seen(nearly).all() and loaded.seen(images.double()).all()
    assert not loaded.seen((images + 0.01).clamp(0, 1)).any()
    assert loaded.seen(images.expand(-1, 3, -1, -1)).all()
    assert loaded.seen(images[:0]).shape == (0,)


def test_training_anew_forgets_the_samples_of_before() -> None:
    images, labels = task()
    program = Program(FullImage(size=6), Linear(), classes=2)
    fit(program, network(), images, labels, epochs=0)
    fit(program, network(), photos(12, 5), labels, epochs=0)
    assert program.seen(photos(12, 5)).all() and not program.seen(images).any()


def test_samples_out_of_range_are_not_looked_for() -> None:
    with pytest.raises(InputError, match="divide 8-bit values by 255"):
        trained().seen(task()[0] * 255)


def test_a_program_that_json_cannot_hold_leaves_the_saved_one_whole(tmp_path: Path) -> None:
    program = trained()
    program.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    program.tensors["canvas"] = program.tensors["canvas"] / 2
    for value in (np.float32(0.5), float("nan")):
        program.training["learning_rate"] = value
        with pytest.raises(InputError, match="JSON has no place"):
            program.save_pretrained(tmp_path)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_new_tensors_under_an_old_config_are_noticed(tmp_path: Path) -> None:
    path = trained().save_pretrained(tmp_path) / "program.safetensors"
    save_file({name: tensor / 2 for name, tensor in load_file(path).items()}, path)
    with pytest.raises(InputError, match="not the file that config.json beside it was written with"):
        Program.from_pretrained(tmp_path)


def test_the_folder_holds_three_small_files_and_no_backbone(tmp_path: Path) -> None:
    program = trained()
    program.save_pretrained(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json", "program.safetensors"]
    assert set(load_file(tmp_path / "program.safetensors")) == {"canvas", "matrix", "bias", "fingerprints"}
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert config["metrics"]["test accuracy"]["n"] == 500
    assert config["backbone"]["outputs"] == 7 and len(config["backbone"]["weights"]) == 64
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "0.900 [0.871, 0.923] n=500" in card and "näse" in card


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = trained().save_pretrained(tmp_path / "a"), trained().save_pretrained(tmp_path / "b")
    for name in ("config.json", "program.safetensors", "README.md"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_another_model_is_refused_unless_asked_for() -> None:
    program = trained()
    with pytest.raises(InputError, match="weights [0-9a-f]{64} instead of [0-9a-f]{64}"):
        program.attach(network(seed=1))
    assert program.attach(network(seed=1), strict=False)(task()[0]).shape == (12, 2)


def test_another_input_size_of_the_same_model_is_refused() -> None:
    other = network()
    other.input_size = (224, 224)  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"input_size \(224, 224\) instead of None"):
        trained().attach(other)


def test_a_reprogrammed_model_stays_in_evaluation_mode_and_does_not_follow_the_program() -> None:
    program, model = trained(), nn.Sequential(network(), nn.Dropout())
    fit(program, model, *task(), epochs=1)
    reprogrammed = program.attach(model)
    before = reprogrammed.train()(task()[0])
    assert not any(module.training for module in reprogrammed.modules())
    program.tensors["canvas"] += 1
    assert reprogrammed(task()[0]).equal(before)
    assert (reprogrammed.classes, reprogrammed.class_names) == (2, ["näse", "b|c"])


def test_attacks_run_on_a_reprogrammed_model() -> None:
    images, labels = task()
    reprogrammed = trained().attach(network())
    correct = reprogrammed(images).argmax(1) == labels
    found = pgd(reprogrammed, images, labels, epsilon=0.5, norm="linf", steps=5)
    assert found.success_rate.value > 1 - float(correct.float().mean())


def test_untrained_programs_are_neither_attached_nor_saved(tmp_path: Path) -> None:
    program = Program(FullImage(size=6), Random(), classes=2)
    with pytest.raises(InputError, match="not been trained"):
        program.attach(network())
    with pytest.raises(InputError, match="not been trained"):
        program.save_pretrained(tmp_path)


def test_class_counts_and_names_must_fit() -> None:
    with pytest.raises(InputError, match="at least 2"):
        Program(FullImage(size=6), Random(), classes=1)
    with pytest.raises(InputError, match="1 class names came for 2 classes"):
        Program(FullImage(size=6), Random(), classes=2, class_names=("one",))


def test_parts_that_could_not_be_loaded_again_are_not_saved(tmp_path: Path) -> None:
    class Mine(BayesianPlus):
        pass

    program = trained(labels=Mine())
    with pytest.raises(InputError, match="Mine cannot be saved"):
        program.save_pretrained(tmp_path)
    assert list(tmp_path.iterdir()) == []


CHANGES = {
    "another format": ({"format": "peft"}, "not the config of a repromark program"),
    "a newer version": ({"version": 3}, "format version 3"),
    "an older version": ({"version": 1}, "format version 1, but .* reads 2: .* or train the program again"),
    "an unknown entry": ({"surprise": 1}, r"unknown or missing entries \(surprise\)"),
    "an unknown input": ({"inputs": {"kind": "torch.load"}}, "kind 'torch.load', which this version"),
    "an unknown setting": ({"inputs": {"kind": "full_image", "size": 6, "path": "x"}}, "damaged"),
    "a setting of another type": ({"inputs": {"kind": "full_image", "size": "six"}}, "size=six is no canvas"),
    "a size that is no whole number": ({"inputs": {"kind": "full_image", "size": 6.0}}, "whole number"),
    "classes that are no whole number": ({"classes": 2.0}, "whole number"),
    "a part that is a list": ({"labels": []}, "damaged"),
    "another canvas": ({"inputs": {"kind": "full_image", "size": 60000}}, "describes"),
    "other classes": ({"classes": 3, "class_names": []}, "describes"),
    "no backbone": ({"backbone": None}, "damaged"),
    "an impossible rate": ({"metrics": {"test": {"successes": 9, "n": 3}}}, "9 out of 3"),
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_configs_that_were_tampered_with_are_refused(tmp_path: Path, change: str) -> None:
    path = trained().save_pretrained(tmp_path) / "config.json"
    entries, sentence = CHANGES[change]
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | entries), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        Program.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "program.safetensors"])
@pytest.mark.parametrize("damage", ["gone", "cut", "noise", "empty"])
def test_damaged_and_missing_files_are_refused(tmp_path: Path, name: str, damage: str) -> None:
    path = trained().save_pretrained(tmp_path) / name
    whole = path.read_bytes()
    path.unlink()
    contents = {"cut": whole[: len(whole) // 2], "noise": bytes(range(256)), "empty": b""}
    if damage in contents:
        path.write_bytes(contents[damage])
    with pytest.raises(InputError, match=name):
        Program.from_pretrained(tmp_path)


def test_tensors_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    path = trained().save_pretrained(tmp_path) / "program.safetensors"
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    tensors = load_file(path)
    extra = {
        "no finite float32 numbers": {"bias": torch.tensor([0.0, float("nan")])},
        "belong to different programs": {"extra": torch.zeros(1)},
        "fingerprints of type torch.float32, not int64": {"fingerprints": torch.zeros(3)},
        r"'fingerprints': \(2, 2\).* describes": {"fingerprints": torch.zeros(2, 2, dtype=torch.int64)},
    }
    for sentence, change in extra.items():
        save_file(tensors | change, path)
        config["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(InputError, match=sentence):
            Program.from_pretrained(tmp_path)


def test_a_reprogrammed_model_refuses_images_of_another_range():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 6))
    images, labels = torch.rand(8, 1, 2, 2), torch.arange(8) % 2
    program = Program(FullImage(size=4), BayesianPlus(), classes=2)
    fit(program, model, images, labels, epochs=0)
    with pytest.raises(InputError, match="divide 8-bit values by 255"):
        program.attach(model)(images * 255)
