import json
import logging
import os
import re
import shutil
import sys

import numpy as np
import pytest
import torch
import transformers
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from attacks.errors import InputError
from attacks.models import load_model
from attacks.models.huggingface import rebuild

VIT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
SMALL = {"image_size": 32, "patch_size": 8, "num_labels": 4}


def processor(family, **settings):
    return getattr(transformers, f"{family}ImageProcessorPil")(**settings)  # the ones that need no torchvision


def vit():
    network = ViTForImageClassification(ViTConfig(**VIT, **SMALL))
    return network, processor("ViT", size={"height": 32, "width": 32})


def resnet():
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic", "num_labels": 4}
    network = ResNetForImageClassification(ResNetConfig(**sizes))
    return network, processor("ConvNext", size={"shortest_edge": 32}, crop_pct=0.875)


def convnext():
    network = ConvNextForImageClassification(ConvNextConfig(hidden_sizes=[8] * 4, depths=[1] * 4, num_labels=4))
    return network, processor("ConvNext", size={"shortest_edge": 384})


def save(network, preprocess, folder):
    network.save_pretrained(folder)
    preprocess.save_pretrained(folder)
    return folder


def change(folder, **entries):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | entries))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("classifiers")
    return {make.__name__: save(*make(), root / make.__name__) for make in (vit, resnet, convnext)}


@pytest.fixture
def vit_folder(folders, tmp_path):
    return shutil.copytree(folders["vit"], tmp_path / "vit")


def photo(height, width):
    """An 8-bit image with structure at several scales, in mid-range so that no filter overshoots."""
    noise = np.random.default_rng(0)
    coarse = noise.integers(64, 192, (3, height // 8 + 1, width // 8 + 1)).repeat(8, axis=1).repeat(8, axis=2)
    return (coarse[:, :height, :width] * 0.7 + noise.integers(20, 50, (3, height, width))).astype(np.uint8)


def both(folder, pixels):
    """Our logits and those of transformers with the model's own processor."""
    network = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    prepared = transformers.AutoImageProcessor.from_pretrained(folder)(
        pixels, input_data_format="channels_first", return_tensors="pt"
    )
    with torch.no_grad():
        return load_model(folder)(torch.from_numpy(pixels)[None] / 255), network(**prepared).logits


@pytest.mark.parametrize(("name", "side"), [("vit", 32), ("convnext", 384)])
def test_without_resizing_the_logits_are_transformers_own(folders, name, side):
    ours, theirs = both(folders[name], photo(side, side))
    assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "resnet", "convnext"])
def test_with_resizing_the_logits_differ_by_pillows_rounding_only(folders, name):
    ours, theirs = both(folders[name], photo(60, 90))
    # Pillow rounds to 8 bits in between, a quarter of a grey level on average: small beside what sets
    # the image apart from a blank one.
    blank = load_model(folders[name])(torch.full((1, 3, 60, 90), 0.5))
    assert (ours - theirs).abs().max() < 0.03 * (theirs - blank).abs().max() + 1e-5


def test_names_sizes_and_description(folders):
    model = load_model(str(folders["vit"]))
    assert (model.name, model.classes, model.input_size, model.class_names) == ("vit", 4, (32, 32), None)
    assert json.loads(json.dumps(model.describe()))["id"] == str(folders["vit"])
    assert next(model.parameters()).dtype == torch.float32 and not model.training
    again = load_model(model.source, image_size=model.describe()["input_size"])
    images = torch.rand(1, 3, 20, 30)
    assert torch.equal(model(images), again(images))


def test_class_names_come_from_the_config(vit_folder):
    change(vit_folder, id2label={"0": "cat", "1": "dog", "2": "owl", "3": "eel"})
    assert load_model(vit_folder).class_names == ["cat", "dog", "owl", "eel"]


@pytest.mark.parametrize("name", ["vit", "resnet"])
def test_another_input_size_runs_where_the_network_allows_it(folders, name):
    model = load_model(folders[name], image_size=48)
    assert model.input_size == (48, 48)
    assert model(torch.rand(2, 3, 48, 48)).shape == (2, 4)


def test_a_size_that_the_network_does_not_run_at_is_refused(folders):
    with pytest.raises(InputError, match="does not run at 4 x 4"):
        load_model(folders["vit"], image_size=4)


def test_gradients_reach_the_images(folders):
    images = torch.rand(1, 3, 50, 40, requires_grad=True)
    load_model(folders["vit"])(images)[:, 0].sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


PROCESSORS = {
    "ViT": {"size": {"height": 30, "width": 20}, "resample": 3},
    "ConvNext": {"size": {"shortest_edge": 48}},
    "EfficientNet": {"size": {"height": 24, "width": 24}, "rescale_offset": True, "rescale_factor": 1 / 127.5},
    "Bit": {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    "DeiT": {"size": {"height": 40, "width": 40}, "crop_size": {"height": 33, "width": 32}},
    "MobileViT": {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}},
    "MobileNetV2": {"do_resize": False, "crop_size": {"height": 32, "width": 32}},
    "PoolFormer": {"size": {"shortest_edge": 48}, "crop_size": {"height": 48, "width": 48}},
    "Beit": {"size": {"height": 24, "width": 24}, "do_rescale": False},
    "CLIP": {"do_normalize": False, "size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
}


@pytest.mark.parametrize("family", PROCESSORS)
def test_common_processors_are_rebuilt(family):
    theirs = processor(family, **PROCESSORS[family])
    ours = rebuild(theirs, family)
    pixels = photo(70, 90)
    expected = theirs(pixels, input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    difference = (ours(torch.from_numpy(pixels)[None] / 255) - expected) * ours.std * 255
    assert difference.abs().max() < 2  # grey levels: Pillow's two roundings


@pytest.mark.parametrize(
    ("family", "settings", "sentence"),
    [
        ("ImageGPT", {}, "do_color_quantize"),
        ("ViT", {"resample": 1}, "filter is Pillow's number 1"),
        ("Bit", {"size": {"shortest_edge": 36, "longest_edge": 40}}, "shortest_edge"),
        ("Bit", {"size": {"shortest_edge": 30}, "crop_size": {"height": 32, "width": 32}}, "larger than"),
        ("Levit", {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}, "grey levels"),
    ],
)
def test_processors_that_cannot_be_rebuilt_are_refused(family, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        rebuild(processor(family, **settings), family)


def test_a_folder_without_config_is_refused(tmp_path):
    with pytest.raises(InputError, match="no config.json"):
        load_model(tmp_path)


def test_a_folder_without_weights_is_refused(vit_folder):
    (vit_folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights"):
        load_model(vit_folder)


def test_pickled_weights_are_refused_unread(vit_folder):
    (vit_folder / "model.safetensors").unlink()
    (vit_folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    with pytest.raises(InputError, match=r"pickle \(.bin\)"):
        load_model(vit_folder)


def test_broken_weights_are_refused(vit_folder):
    (vit_folder / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="cannot be read as an image classifier"):
        load_model(vit_folder)


DAMAGES = {
    "a cut config": lambda folder: (folder / "config.json").write_text('{"model_type":'),
    "a config of no model": lambda folder: (folder / "config.json").write_text("[]"),
    "a value of another type": lambda folder: change(folder, hidden_size="x"),
    "weights of another model": lambda folder: change(folder, hidden_size=32),
    "cut weights": lambda folder: os.truncate(folder / "model.safetensors", 5000),
    "no processor": lambda folder: (folder / "preprocessor_config.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_gets_one_sentence_without_advice_about_the_hub(vit_folder, damage, capfd):
    DAMAGES[damage](vit_folder)
    capfd.readouterr()
    with pytest.raises(InputError, match=re.escape(str(vit_folder))) as refused:
        load_model(vit_folder)
    sentence = str(refused.value)
    assert "save_pretrained" in sentence and not re.search(
        "hub|huggingface|hf auth|report above|above report", sentence
    )
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("level", [logging.DEBUG, logging.WARNING])
def test_other_libraries_are_silent_while_loading_and_as_loud_as_before_afterwards(tmp_path, capfd, level):
    save(ViTModel(ViTConfig(**VIT, **SMALL)), vit()[1], tmp_path)
    loggers = [logging.getLogger(name) for name in ("transformers", "huggingface_hub")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(level)
        capfd.readouterr()
        with pytest.raises(InputError, match="fine-tuned"):
            load_model(tmp_path)
        assert "".join(capfd.readouterr()) == ""
        assert [logger.level for logger in loggers] == [level] * 2
        assert transformers.utils.logging.is_progress_bar_enabled()
    finally:
        for logger, kept in zip(loggers, before, strict=True):
            logger.setLevel(kept)


def test_the_hubs_retries_are_not_reported(monkeypatch):
    heard, logger = [], logging.getLogger("huggingface_hub.utils._http")
    monkeypatch.setattr(logger, "handle", heard.append)

    def unreachable(*_, **__):
        logger.warning("Retrying in 1s [Retry 1/5].")
        raise OSError("no connection")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(InputError, match=r"owner/model \(no connection\): check the spelling"):
        load_model("owner/model")
    assert heard == []
    logger.warning("Retrying in 1s [Retry 1/5].")
    assert len(heard) == 1


def test_a_file_is_no_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.pt").touch()
    with pytest.raises(InputError, match=r"nets/mine.pt is a file"):
        load_model("nets/mine.pt")


def test_a_folder_without_image_processor_is_refused(vit_folder):
    (vit_folder / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match="preprocessor_config.json"):
        load_model(vit_folder)


def test_an_encoder_without_classification_head_is_refused(tmp_path):
    save(ViTModel(ViTConfig(**VIT, **SMALL)), vit()[1], tmp_path)
    with pytest.raises(InputError, match=r"ViTModel.*classifier.bias.*fine-tuned"):
        load_model(tmp_path)


def test_a_model_of_another_kind_is_refused(tmp_path):
    sizes = {**VIT, "vocab_size": 20}
    save(transformers.BertModel(transformers.BertConfig(**sizes)), vit()[1], tmp_path)
    with pytest.raises(InputError, match="bert model"):
        load_model(tmp_path)


def test_code_in_the_repository_is_not_run(vit_folder):
    change(vit_folder, model_type="own", auto_map={"AutoConfig": "evil.Config"})
    (vit_folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="cannot be read"):
        load_model(vit_folder)


def test_an_unknown_hub_id_offline_is_refused():
    with pytest.raises(InputError, match=r"no-such-owner/no-such-model.*spelling"):
        load_model("no-such-owner/no-such-model")


@pytest.mark.parametrize("argument", [{"revision": "main"}, {"classes": 4}, {"std": [1.0] * 3}])
def test_arguments_of_other_sources_are_refused(folders, argument):
    with pytest.raises(InputError, match=f"{next(iter(argument))}= does not go"):
        load_model(folders["vit"], **argument)


def test_a_broken_transformers_sends_to_the_doctor(monkeypatch, folders):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="repromark doctor"):
        load_model(folders["vit"])
