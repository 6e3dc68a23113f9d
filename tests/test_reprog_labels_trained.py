"""Mappings inside a program: trained, saved and loaded, on classifiers and on encoders without a head."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attacks.errors import InputError
from reprog import (
    Backbone,
    Frequency,
    FullImage,
    Iterative,
    Linear,
    ManyToOne,
    Mapping,
    Program,
    Similarity,
    fit,
    semantic,
)
from reprog.labels import LABELS

GROUPED: list[Mapping] = [
    ManyToOne(),
    ManyToOne(((0, 3), (1,), (0, 2, 5)), "sum"),
    ManyToOne(((0, 3), (1,), (0, 2)), ((0.5, 0.25), (1.0,), (0.1, 0.9)), temperature=0.5),
    Frequency(per_class=2, temperature=1.0),
    Iterative(per_class=3, temperature=2.0),
    Similarity(),
    Similarity(per_class=2, temperature=1.0),
    semantic([str(n) for n in range(12)], ["2", "7", "9"], lambda texts: torch.eye(12)[list(map(int, texts))]),
]


class Network(nn.Module):
    """A small frozen network, which counts the samples that it is sent."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(72, width))
        self.sent = 0

    def forward(self, images: Tensor) -> Tensor:
        self.sent += len(images)
        return self.body(images)


def task(n: int = 30) -> tuple[Tensor, Tensor]:
    """Images whose class is the row that is bright."""
    labels = torch.arange(n) % 3
    images = torch.rand(n, 1, 3, 3, generator=torch.Generator().manual_seed(n)) * 0.3
    images[torch.arange(n), 0, labels] += 0.6
    return images, labels


def trained(mapping: Mapping, model: nn.Module, epochs: int = 2) -> Program:
    program = Program(FullImage(size=8), mapping, classes=3)
    fit(program, model, *task(), epochs=epochs, learning_rate=0.1, batch_size=10)
    return program


@pytest.mark.parametrize("mapping", GROUPED, ids=repr)
def test_training_lowers_the_loss_without_a_pass_more(mapping: Mapping) -> None:
    model, program = Network(), Program(FullImage(size=8), mapping, classes=3)
    history = fit(program, model, *task(), epochs=15, learning_rate=0.1, batch_size=10)
    assert history.last.loss < history.mapping_only.loss
    assert model.sent == 30 * 16


@pytest.mark.parametrize("mapping", GROUPED, ids=repr)
def test_settings_come_back_as_they_were_saved(tmp_path: Path, mapping: Mapping) -> None:
    program, model, images = trained(mapping, Network()), Network(), task()[0]
    loaded = Program.from_pretrained(program.save_pretrained(tmp_path))
    assert loaded.labels == mapping
    assert loaded.tensors.keys() == program.tensors.keys()
    assert loaded.attach(model)(images).equal(program.attach(model)(images))
    again = trained(loaded.labels, Network())  # without the encoder of names
    assert again.tensors["matrix"].equal(program.tensors["matrix"])


def test_a_program_whose_config_was_changed_from_probabilities_to_logits_is_refused(tmp_path: Path) -> None:
    path = trained(ManyToOne(), Network()).save_pretrained(tmp_path) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["labels"]["temperature"] = None
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError, match="belong to different programs"):
        Program.from_pretrained(tmp_path)


@pytest.mark.parametrize("labels", [{"groups": [[0], []]}, {"groups": 5}, {"weights": "most"}, {"temperature": 0}])
def test_settings_that_were_tampered_with_are_refused(tmp_path: Path, labels: dict) -> None:
    path = trained(ManyToOne(), Network()).save_pretrained(tmp_path) / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["labels"] |= labels
    path.write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(InputError):
        Program.from_pretrained(tmp_path)


def test_names_make_a_program_that_no_labelled_sample_was_needed_for(tmp_path: Path) -> None:
    model, images = Network(), task()[0]
    mapping = semantic([str(n) for n in range(12)], ["2", "7"], lambda texts: torch.eye(12)[list(map(int, texts))])
    program = Program(FullImage(size=8), mapping, classes=2)
    found = mapping.find(torch.zeros(0, 12), torch.zeros(0, dtype=torch.int64), 2)
    program.tensors, program.backbone = program.inputs.start(images) | found, Backbone.of(model, outputs=12)
    answers = Program.from_pretrained(program.save_pretrained(tmp_path)).attach(model)(images)
    shown = model(program.inputs(images, program.tensors))
    assert answers.softmax(1).allclose(shown[:, [2, 7]].softmax(1))


class Encoder(Network):
    """A network without a classification head, which says so."""

    pooled = True


@pytest.mark.parametrize("width", [2, 5, 384])
def test_a_linear_mapping_reads_pooled_output_of_any_width(tmp_path: Path, width: int) -> None:
    program, images = trained(Linear(penalty=0.01), Encoder(width), epochs=5), task()[0]
    assert program.tensors["matrix"].shape == (width, 3)
    loaded = Program.from_pretrained(program.save_pretrained(tmp_path))
    logits = loaded.attach(Encoder(width))(images)
    assert logits.shape == (30, 3) and float((logits.argmax(1) == task()[1]).float().mean()) > 0.5


@pytest.mark.parametrize("kind", sorted(set(LABELS) - {"linear"}))
def test_mappings_of_classes_are_refused_on_pooled_output(kind: str) -> None:
    with pytest.raises(InputError, match="pooled features, but .* looks for classes.*'linear'"):
        trained(LABELS[kind](), Encoder())
    trained(LABELS[kind](), Network())
