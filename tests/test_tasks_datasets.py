"""Target tasks: what is drawn for which part, and what is refused."""

import io
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attacks.errors import InputError
from tasks.datasets import Split, Task, load_task, read_image


def images(n: int, shape: tuple[int, ...] = (6, 6, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *shape), dtype=np.uint8)


def npz(path: Path, **arrays: object) -> Path:
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def pictures(root: Path, classes: tuple[str, ...] = ("cat", "dog"), n: int = 9, size: tuple[int, int] = (6, 5)) -> Path:
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index, image in enumerate(images(n * len(classes), (*size, 3))[place * n : (place + 1) * n]):
            Image.fromarray(image).save(root / name / f"{index}.png")
    return root


# digits


def test_the_test_set_is_the_same_for_every_seed_and_the_shots_are_not() -> None:
    first, second = load_task("digits", shots=3, seed=0), load_task("digits", shots=3, seed=1)
    assert torch.equal(first.test.inputs, second.test.inputs)
    assert not torch.equal(first.train.inputs, second.train.inputs)
    assert torch.equal(first.train.inputs, load_task("digits", shots=3, seed=0).train.inputs)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 25), st.integers(0, 2**32 - 1), st.integers(0, 300), st.integers(1, 700))
def test_parts_have_their_sizes_and_share_nothing(shots: int, seed: int, validation: int, test: int) -> None:
    task = load_task("digits", shots=shots, seed=seed, validation=validation, test=test)
    assert torch.bincount(task.train.labels).tolist() == [shots] * 10
    assert (len(task.validation), len(task.test)) == (validation, min(test, 1797 // 3))
    parts = [part.fingerprints for part in (task.train, task.validation, task.test)]
    assert len(parts[0] | parts[1] | parts[2]) == sum(map(len, parts)) == 10 * shots + validation + len(task.test)


def test_labels_stay_with_their_images() -> None:
    from sklearn.datasets import load_digits

    data = load_digits()
    pairs = zip(data.images, data.target, strict=True)
    known = {(image / 16).astype(np.float32).tobytes(): label for image, label in pairs}
    task = load_task("digits", shots=7, seed=3)
    for part in (task.train, task.validation, task.test):
        assert [known[image.numpy().tobytes()] for image in part.inputs] == part.labels.tolist()


def test_without_shots_all_but_test_and_validation_is_for_training() -> None:
    assert load_task("digits", shots=None).to_dict() == {
        "name": "digits", "classes": 10, "shape": [1, 8, 8], "train": 1097, "validation": 200, "test": 500
    }  # fmt: skip


# arrays


@pytest.mark.parametrize("shape", [(6, 6), (1, 6, 6), (3, 6, 6), (6, 6, 3), (6, 6, 1)])
def test_arrays_of_every_layout(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = images(30, shape)
    task = load_task(npz(tmp_path / "mine.npz", x=x, y=np.arange(30) % 3), shots=2, test=6)
    channels = 3 if 3 in shape else 1
    assert task.name == "mine" and task.shape == (channels, 6, 6) and task.class_names == ("0", "1", "2")
    first = (
        x.transpose(0, 3, 1, 2)
        if shape[-1] in (1, 3) and len(shape) == 3 and shape[0] == 6
        else x.reshape(30, -1, 6, 6)
    )
    known = {(image / np.float32(255)).astype(np.float32).tobytes() for image in np.ascontiguousarray(first)}
    assert all(image.numpy().tobytes() in known for image in task.test.inputs)


def test_arrays_with_their_own_parts_keep_them(tmp_path: Path) -> None:
    x = np.linspace(0, 1, 40 * 16, dtype=np.float64).reshape(40, 4, 4)
    y = np.arange(40) % 2
    path = npz(
        tmp_path / "parts.npz",
        x_train=x[:20], y_train=y[:20], x_val=x[20:30], y_val=y[20:30], x_test=x[30:], y_test=y[30:],
        class_names=np.array(["even", "odd"]),
    )  # fmt: skip
    task = load_task(path, shots=None)
    assert (len(task.train), len(task.validation), len(task.test)) == (20, 10, 10)
    assert task.class_names == ("even", "odd")
    assert (
        task.train.inputs.max() < task.validation.inputs.min() < task.validation.inputs.max() < task.test.inputs.min()
    )
    assert len(load_task(path, shots=2, test=4, validation=3).validation) == 3


def test_samples_that_repeat_the_tests_or_each_other_are_left_out_with_a_warning(tmp_path: Path) -> None:
    x = images(24)
    y = np.arange(24) % 2
    repeated = np.concatenate([x[:16], x[:4], x[20:]])
    path = npz(tmp_path / "d.npz", x_train=repeated, y_train=y, x_test=x[16:], y_test=y[16:])
    with pytest.warns(UserWarning, match=r"^8 sample\(s\) of d repeat"):
        task = load_task(path, shots=None, validation=0)
    assert len(task.train) == 16 and not task.train.fingerprints & task.test.fingerprints


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((4, 2, 2), object), "y": np.arange(4)}, "cannot be read as an .npz file of plain arrays"),
        ({"z": np.zeros(3)}, "holds z: it needs x and y"),
        ({"x": images(6)}, "has no y beside x"),
        ({"x": images(6), "y": np.arange(5)}, "labels are 6 integers"),
        ({"x": images(6), "y": np.arange(6) / 2}, "y in .* is float64"),
        ({"x": images(6, (6, 6, 4)), "y": np.arange(6)}, "has shape"),
        ({"x": images(6).astype(np.int64), "y": np.arange(6)}, "images are uint8"),
        ({"x": images(6).astype(np.float32), "y": np.arange(6)}, "floats must lie in"),
        ({"x": np.full((6, 2, 2), np.nan), "y": np.arange(6)}, "floats must lie in"),
        ({"x": images(6), "y": np.arange(6), "x_test": images(6, (5, 5)), "y_test": np.arange(6)}, "have 2 shapes"),
        ({"x": images(9), "y": np.arange(9) // 3, "class_names": np.array(["a"])}, "3 classes but 1 class names"),
        ({"x": images(9), "y": np.zeros(9, int)}, r"has 1 class\(es\)"),
        ({"x": images(9), "y": np.arange(9) // 3 * 2}, "are 0, 2, 4, but 3 classes must be numbered 0 to 2"),
        ({"x": images(9), "y": np.arange(9) // 3 + 1}, "numbered 0 to 2"),
        ({"x": images(2), "y": np.arange(2)}, "too few to set some aside for a test"),
        ({"x": images(9), "y": np.arange(9) // 3}, r"has . sample\(s\) beside the test set, but shots=20"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task(npz(tmp_path / "bad.npz", **arrays))


def test_arrays_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    path = npz(tmp_path / "more.npz", x=images(30), y=np.arange(30) % 3, notes=np.array([{}], dtype=object))
    assert len(load_task(path, shots=2, test=6, validation=0).train) == 6


def test_more_than_the_memory_holds_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1000, 1000)})
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
    with pytest.raises(InputError, match="more than this machine's memory"):
        load_task(tmp_path / "huge.npz")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no archive")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, images(3))
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("x.npy", "no array")
        archive.writestr("y.npy", "no array")
    whole = npz(tmp_path / "whole.npz", x=images(99), y=np.arange(99) % 3).read_bytes()
    (tmp_path / "half.npz").write_bytes(whole[: len(whole) // 2])
    for name in ("text", "array", "zip", "half"):
        with pytest.raises(InputError, match=r"cannot be read as an .npz file|x in .* has shape \(\)") as refused:
            load_task(tmp_path / f"{name}.npz")
        assert "pickle" not in str(refused.value) and "unsafe" not in str(refused.value)


# folders


def test_a_folder_of_images(tmp_path: Path) -> None:
    root = pictures(tmp_path / "pets")
    (root / "cat" / "notes.txt").write_text("passed over")
    (root / ".hidden").mkdir()
    task = load_task(root, shots=2, test=6, validation=4)
    assert task.to_dict() == {
        "name": "pets", "classes": 2, "shape": [3, 6, 5], "train": 4, "validation": 4, "test": 6
    }  # fmt: skip
    assert task.class_names == ("cat", "dog")
    cats = [read_image(file) for file in (root / "cat").glob("*.png")]
    for image, label in zip(task.test.inputs.numpy(), task.test.labels.tolist(), strict=True):
        assert any(np.array_equal(image, cat) for cat in cats) == (label == 0)


def test_a_folder_with_parts_and_a_size(tmp_path: Path) -> None:
    for part, n in (("train", 4), ("val", 2), ("test", 3)):
        root = tmp_path / part
        for place, name in enumerate(("a", "b")):
            (root / name).mkdir(parents=True)
            for index in range(n):
                shade = 40 * place + 10 * index + len(part)
                Image.new("L", (5 + index, 7), shade).save(root / name / f"{index}.png")
    task = load_task(tmp_path, shots=4, size=8)
    assert (len(task.train), len(task.validation), len(task.test)) == (8, 4, 6) and task.shape == (1, 8, 8)


def test_bad_folders_are_refused(tmp_path: Path) -> None:
    def refused(root: Path, message: str, **options: int) -> None:
        with pytest.raises(InputError, match=message):
            load_task(root, shots=2, **options)

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "has no sub-folders")
    root = pictures(tmp_path / "one")
    (root / "fish").mkdir()
    refused(root, "The class fish in .* has no images")
    (root / "fish").rmdir()
    (root / "train").mkdir()
    refused(root, "holds train beside cat")
    (root / "train").rmdir()
    Image.new("RGB", (9, 9)).save(root / "dog" / "9.png")
    refused(root, "9 x 9 pixels and .*0.png 6 x 5", test=1000, validation=1000)
    refused(root, "size=0", size=0)
    (root / "cat" / "0.png").write_bytes(b"no image")
    refused(root, "cannot be read as an image")


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_links_that_lead_out_of_a_folder_are_refused(tmp_path: Path, kind: str) -> None:
    root, outside = pictures(tmp_path / "in"), pictures(tmp_path / "out")
    link, target = (
        (root / "x", outside / "cat") if kind == "folder" else (root / "cat" / "x.png", outside / "cat" / "0.png")
    )
    link.symlink_to(target)
    with pytest.raises(InputError, match="is a link that leads out"):
        load_task(root, shots=2)


def test_an_image_that_stands_in_two_parts_in_another_file_format_is_refused(tmp_path: Path) -> None:
    root = pictures(tmp_path / "train").parent
    pictures(tmp_path / "test")
    for file in (tmp_path / "test").glob("*/*.png"):  # the same pixels in other bytes
        Image.open(file).save(file.with_suffix(".bmp"))
        file.unlink()
    with pytest.raises(InputError, match="stand in both the train and the test part"):
        load_task(root, shots=9)


# image files


def test_images_are_turned_as_their_exif_data_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(images(1)[0]).resize((8, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 8, 4)
    assert read_image(tmp_path / "a.jpg", channels=1, size=(2, 5)).shape == (1, 2, 5)


def test_images_that_cannot_be_used_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("I;16", (2, 2)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="8 bits a channel"):
        read_image(tmp_path / "deep.png")
    with pytest.raises(InputError, match="there is no such file"):
        read_image(tmp_path / "none.png")
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "png")
    (tmp_path / "half.png").write_bytes(buffer.getvalue()[:60])
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_image(tmp_path / "half.png")
    (tmp_path / "whole.png").write_bytes(buffer.getvalue())
    for most in (1500, 100):  # Pillow warns beyond the limit and raises beyond twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        with pytest.raises(InputError, match="cannot be read as an image"):
            read_image(tmp_path / "whole.png")


# names and numbers


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("digit", {}, r"no task 'digit'; did you mean 'digits'\? Give 'digits', a folder"),
        ("nowhere/at/all", {}, "no task 'nowhere/at/all': give 'digits', a folder"),
        ("digits", {"size": 8}, "size=8: it resizes the images of a folder"),
        ("digits", {"shots": 0}, "shots=0"),
        ("digits", {"test": 0}, "test=0"),
        ("digits", {"validation": -1}, "validation=-1"),
        ("digits", {"seed": -1}, "seed=-1 cannot be used"),
        ("digits", {"shots": 1000}, "but shots=1000"),
    ],
)
def test_bad_names_and_numbers_are_refused(source: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_task(source, **options)  # type: ignore[arg-type]


# a user's own task


def part(values: list[float], labels: list[int], shape: tuple[int, ...] = (1, 1, 1)) -> Split:
    return Split(torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, *shape), torch.tensor(labels, dtype=torch.int64))


GOOD = {
    "train": part([0.1, 0.2], [0, 1]), "validation": part([], []), "test": part([0.3, 0.4], [0, 1]),
    "class_names": ("a", "b"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"class_names": ("a",)}, r"1 class\(es\)"),
        ({"test": part([0.3], [2])}, "test labels of mine go up to 2"),
        ({"test": part([0.3], [0], (1, 2, 2))}, "bring them to one shape"),
        ({"train": part([0.1, 0.2], [0, 0])}, r"No training sample of mine shows class 1 \(b\)"),
        ({"test": part([0.1], [0])}, r"1 image\(s\) of mine stand in both the train and the test part"),
        ({"validation": part([0.3], [0])}, "both the validation and the test part"),
        ({"validation": part([0.2], [1])}, "both the train and the validation part"),
        ({"train": part([1.1, 0.2], [0, 1])}, "must lie in"),
        ({"test": part([], [])}, "at least one sample"),
    ],
)
def test_a_task_is_checked(changed: dict[str, object], message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Task("mine", **GOOD)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        Task("mine", **{**GOOD, **changed})  # type: ignore[arg-type]
