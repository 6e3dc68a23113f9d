"""The recipe and the triggers that it gives: fixed bytes, 8 bits, labels over all classes, files without secrets."""

import hashlib
import json

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from attacks.errors import InputError
from watermark import Mark, OwnerKey
from watermark.triggers import FAMILIES

KEY = OwnerKey(bytes(range(32)))
CARRIERS = (torch.arange(4 * 3 * 4 * 4) ** 2 // 7 % 251).reshape(4, 3, 4, 4).to(torch.uint8)


def recipe(family, /, **changes):
    given = {"family": family, "classes": 10, "n": 5, "nonce": "fixed"}
    given |= {"carriers": CARRIERS} if FAMILIES[family].carriers else {"shape": (3, 9, 7)}
    return Mark(**given | changes)


@pytest.mark.parametrize(
    ("family", "digest", "labels", "pixels"),
    [
        ("blend", "7b40aee1078f2248", [4, 2, 1, 8, 3], "4eeaefa502422103"),
        ("shapes", "04e6c372c9554ea7", [5, 8, 9, 2, 9], "bfb3317afae580f9"),
    ],
)
def test_known_answers(family, digest, labels, pixels):
    triggers = recipe(family).triggers(KEY)
    assert recipe(family).digest.startswith(digest) and triggers.labels.tolist() == labels
    assert hashlib.sha256(triggers.inputs.numpy().tobytes()).hexdigest().startswith(pixels)


@pytest.mark.parametrize("family", FAMILIES)
def test_triggers_are_distinct_8_bit_images_that_a_model_can_take(family):
    mark = recipe(family)
    triggers = mark.triggers(KEY)
    assert triggers.inputs.dtype == torch.uint8 and triggers.inputs.shape == (5, *mark.shape) and len(triggers) == 5
    assert len({image.numpy().tobytes() for image in triggers.inputs}) == 5
    assert triggers.images.min() >= 0 and triggers.images.max() <= 1
    assert torch.equal((triggers.images * 255).round().to(torch.uint8), triggers.inputs)


def test_a_blend_is_the_rounded_mean_of_two_different_carriers():
    pairs = [(a, b) for a in range(4) for b in range(a)]
    means = {((CARRIERS[a].int() + CARRIERS[b].int() + 1) // 2).numpy().astype("uint8").tobytes() for a, b in pairs}
    triggers = recipe("blend", n=6).triggers(KEY)  # all six pairs, each once
    assert {image.numpy().tobytes() for image in triggers.inputs} == means


def test_too_few_carriers_are_refused():
    with pytest.raises(InputError, match="more carriers"):
        recipe("blend", n=7).triggers(KEY)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", [{"nonce": "other"}, {"n": 6}, {"classes": 11}])
def test_any_change_of_the_recipe_draws_all_labels_anew(family, change):
    mark, other = recipe(family, n=40, classes=1000), recipe(family, **{"n": 40, "classes": 1000} | change)
    assert mark.digest != other.digest
    same = min(mark.n, other.n)
    assert (mark.labels(KEY)[:same] == other.labels(KEY)[:same]).sum() <= 2


def test_one_pixel_of_one_carrier_draws_all_labels_anew():
    carriers = CARRIERS.clone()
    carriers[3, 2, 3, 3] ^= 1
    marks = [recipe("blend", n=40, classes=1000, carriers=pixels) for pixels in (CARRIERS, carriers)]
    assert (marks[0].labels(KEY) == marks[1].labels(KEY)).sum() <= 2


def test_what_is_done_to_the_callers_carriers_later_does_not_reach_the_mark():
    carriers = CARRIERS.clone()
    mark = recipe("blend", carriers=carriers)
    carriers.zero_()
    assert torch.equal(mark.triggers(KEY).inputs, recipe("blend").triggers(KEY).inputs)


@pytest.mark.parametrize("classes", [2, 10])
def test_labels_are_uniform_over_all_classes(classes):
    labels = recipe("shapes", n=2000, classes=classes).labels(KEY).numpy()
    assert chisquare(np.bincount(labels, minlength=classes)).pvalue > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_mark_comes_back_and_holds_no_secret(tmp_path, family):
    mark = recipe(family)
    mark.save_pretrained(tmp_path / "mark")
    mark.save_pretrained(tmp_path / "mark")  # the same again is no loss
    again = Mark.from_pretrained(tmp_path / "mark")
    assert again.digest == mark.digest and torch.equal(again.triggers(KEY).inputs, mark.triggers(KEY).inputs)
    content = b"".join(file.read_bytes() for file in (tmp_path / "mark").iterdir())
    assert bytes(range(32)) not in content.replace(CARRIERS.numpy().tobytes(), b"")
    assert bytes(range(32)).hex().encode() not in content and KEY.commitment.encode() not in content


def test_another_mark_in_the_folder_is_not_lost(tmp_path):
    recipe("blend").save_pretrained(tmp_path)
    with pytest.raises(InputError, match="another mark"):
        recipe("shapes").save_pretrained(tmp_path)
    assert Mark.from_pretrained(tmp_path).digest == recipe("blend").digest


def test_a_file_where_the_folder_should_be_is_said(tmp_path):
    (tmp_path / "mark").write_text("notes")
    with pytest.raises(InputError, match="a file stands there"):
        recipe("blend").save_pretrained(tmp_path / "mark")
    assert (tmp_path / "mark").read_text() == "notes"


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 9},
        {"n": 6.0},
        {"n": "6"},
        {"family": "x"},
        {"version": 2},
        {"extra": 1},
        {"shape": 3},
        {"shape": [3, 5, 4]},
    ],
)
def test_a_changed_mark_is_refused(tmp_path, change):
    recipe("blend").save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(InputError, match="restore it"):
        Mark.from_pretrained(tmp_path)


def test_broken_or_missing_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="no mark"):
        Mark.from_pretrained(tmp_path)
    recipe("blend").save_pretrained(tmp_path)
    (tmp_path / "carriers.safetensors").write_bytes(b"junk")
    with pytest.raises(InputError, match="restore it"):
        Mark.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"family": "fancy"}, "no trigger family"),
        ({"classes": 1}, "at least 2 classes"),
        ({"n": 0}, "1 trigger"),
        ({"n": True}, "whole numbers"),
        ({"classes": 10.0}, "whole numbers"),
        ({"nonce": 1.5}, "it is a text"),
        ({"carriers": None}, "at least 2 images"),
        ({"carriers": CARRIERS[:1]}, "at least 2 images"),
        ({"carriers": CARRIERS.float()}, "uint8"),
        ({"shape": (3, 5, 4)}, "can be left out"),
        ({"family": "shapes"}, "needs no carriers"),
        ({"family": "shapes", "carriers": None}, "shape of one image"),
        ({"family": "shapes", "carriers": None, "shape": (3, 8.0, 8)}, "shape of one image"),
    ],
)
def test_recipes_that_cannot_be_are_refused(changes, sentence):
    with pytest.raises(InputError, match=sentence):
        recipe("blend", **changes)
