"""The robustness card against models whose robust accuracy is known in closed form."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from safetensors.torch import load_file
from torch import Tensor, nn

from attacks.corruptions import corrupt
from attacks.engine import Rate, weights_hash
from attacks.errors import InputError
from attacks.robustness import Card, Cell, evaluate

UNIT = 0.02
MARGINS = torch.tensor([-2.0, -1, 1, 1, 2, 3, 4, 4, 5, 6]) * UNIT
"""By how much the label's logit leads, for ten samples; two of them are wrong from the start."""


class Counted(nn.Module):
    """A model that counts the samples it is sent."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen, self.modes = model, 0, set[bool]()

    def forward(self, inputs: Tensor) -> Tensor:
        self.seen += len(inputs)
        self.modes.add(self.training)
        return self.model(inputs)


class Normalized(nn.Module):
    def __init__(self, model: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.model, self.mean, self.deviation = model, mean, deviation

    def forward(self, images: Tensor) -> Tensor:
        return self.model((images - self.mean) / self.deviation)


def linear(seed: int = 0) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """A linear model of two classes, samples of the prescribed margins around mid-gray, labels, weight difference."""
    generator = torch.Generator().manual_seed(seed)
    layer = nn.Linear(16, 2)
    weight = torch.randn(2, 16, generator=generator)
    layer.weight.data.copy_(weight)
    layer.bias.data.copy_(-weight.sum(1) / 2)  # both logits are 0 at mid-gray
    difference = weight[0] - weight[1]
    labels = torch.arange(10) % 2
    sides = 1 - 2.0 * labels[:, None]
    images = 0.5 + sides * MARGINS[:, None] * difference / difference.square().sum()
    return nn.Sequential(nn.Flatten(), layer), images.reshape(10, 1, 4, 4), labels, difference


def level_two(card: Card, norm: str) -> list[Cell]:
    return [cell for cell in card.level(2) if cell.settings["norm"] == norm]


@pytest.mark.parametrize("batch_size", [3, 64])
@pytest.mark.parametrize(("norm", "dual"), [("linf", 1), ("l2", 2)])
def test_pgd_cells_of_a_linear_model_are_the_closed_form(norm: str, dual: int, batch_size: int) -> None:
    # A linear model can be fooled within epsilon exactly when the margin is at most epsilon times the dual norm of the
    # difference of the two weight vectors.
    model, images, labels, difference = linear()
    length = float(difference.norm(p=dual))
    radii = [rank * UNIT / length for rank in (4.5, 1.5, 2.5)]  # not in order: the card sorts them
    card = evaluate(model, images, labels, corruptions=[], epsilons={norm: radii}, batch_size=batch_size)
    cells = level_two(card, norm)
    assert [cell.settings["epsilon"] for cell in cells] == sorted(radii)
    for cell in cells:
        assert cell.rate == Rate.of(cell.settings["epsilon"] * length < MARGINS)
    assert [cell.rate.successes for cell in cells if cell.rate] == [6, 5, 2]
    assert card.clean == Rate(8, 10)


def test_only_standing_samples_are_attacked_and_every_pass_is_counted() -> None:
    model, images, labels, difference = linear()
    counted = Counted(model)
    length = float(difference.norm(p=1))
    radii = [rank * UNIT / length for rank in (1.5, 4.5)]
    card = evaluate(
        counted, images, labels, corruptions=["contrast"], severities=[1], epsilons={"linf": radii}, steps=8
    )
    first, second = level_two(card, "linf")
    assert "Attacked 8 of 10" in first.note
    assert "Attacked 6 of 10" in second.note
    assert 6 * 8 <= first.backward_passes < 8 * 8  # six withstand all eight steps, two fall on the way
    assert 2 * 8 <= second.backward_passes < 6 * 8
    probe = 1  # one sample shows whether the logits have a gradient in the input
    assert counted.seen == sum(cell.forward_passes for cell in card.cells) + probe


def test_level_one_is_the_accuracy_on_the_corrupted_images_whatever_the_batches() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(30, 3, 8, 8, generator=generator)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    model[1].weight.data.copy_(torch.randn(4, 192, generator=generator))
    labels = model(images).argmax(1)
    names, severities = ["gaussian_noise", "jpeg"], [1, 5]
    cards = [
        evaluate(model, images, labels, corruptions=names, severities=severities, epsilons={}, batch_size=b, seed=3)
        for b in (7, 64)
    ]
    for cell in cards[0].level(1):
        changed = corrupt(images, cell.name, cell.settings["severity"], seed=3)
        assert cell.rate == Rate.of(model(changed).argmax(1) == labels)
        assert (cell.forward_passes, cell.backward_passes) == (30, 0)
    assert [(cell.name, cell.settings["severity"]) for cell in cards[0].level(1)] == [
        (name, severity) for name in names for severity in severities
    ]
    assert [cell.rate for cell in cards[0].cells] == [cell.rate for cell in cards[1].cells]
    assert any(cell.rate and cell.rate.value < 1 for cell in cards[0].level(1))


def test_a_seed_below_zero_is_refused_before_anything_is_measured() -> None:
    model, images, labels, _ = linear()
    counted = Counted(model)
    with pytest.raises(InputError, match="seed=-1"):
        evaluate(counted, images, labels, corruptions=["jpeg"], seed=-1)
    assert counted.seen == 0


def test_epsilon_zero_is_the_clean_accuracy() -> None:
    model, images, labels, _ = linear()
    counted = Counted(model)
    card = evaluate(counted, images, labels, corruptions=[], epsilons={"l2": [0]})
    (cell,) = card.level(2)
    assert cell.rate == card.clean
    assert (cell.forward_passes, cell.backward_passes) == (0, 0)


def test_a_constant_classifier_cannot_be_attacked_and_the_card_says_so() -> None:
    class Constant(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            return torch.tensor([0.0, 1.0]).repeat(len(inputs), 1)

    images, labels = torch.rand(6, 1, 4, 4), torch.tensor([0, 0, 1, 1, 1, 1])
    card = evaluate(Constant(), images, labels, severities=[5], epsilons={"linf": [0.1], "l2": [1.0]})
    assert all(cell.rate == Rate(4, 6) for cell in (*card.level(0), *card.level(1)))
    for cell in card.level(2):
        assert not cell.was_run
        assert "no gradient" in cell.note
    assert Card.from_dict(card.to_dict()) == card
    assert card.markdown().count("not run") == 2
    assert len(card.plot().axes) == 1


def test_a_constant_with_a_gradient_of_zero_withstands_everything() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    nn.init.zeros_(model[1].weight)
    model[1].bias.data.copy_(torch.tensor([1.0, 0.0]))
    card = evaluate(model, torch.rand(5, 1, 4, 4), torch.zeros(5, dtype=torch.int64), severities=[1])
    assert all(cell.rate == Rate(5, 5) for cell in card.cells)


def test_all_wrong_leaves_nothing_to_attack() -> None:
    model, images, labels, _ = linear()
    right = model(images).argmax(1)
    card = evaluate(model, images, 1 - right, corruptions=[], epsilons={"linf": [0.001, 0.1]})
    assert card.clean == Rate(0, 10)
    for cell in card.level(2):
        assert cell.rate == Rate(0, 10)
        assert cell.forward_passes == 0
        assert "no sample was left" in cell.note


def test_samples_that_are_no_images_leave_level_one_out() -> None:
    model = nn.Linear(5, 2)
    samples = torch.rand(4, 5)
    card = evaluate(model, samples, model(samples).argmax(1), severities=[1], epsilons={"linf": [0.01]})
    assert [cell.was_run for cell in card.level(1)] == [False] * 8
    assert "(4, 5)" in card.level(1)[0].note
    assert card.level(2)[0].was_run


def test_the_model_stays_as_it_was() -> None:
    model, images, labels, _ = linear()
    counted = Counted(model).train()
    before = weights_hash(model)
    evaluate(counted, images, labels, severities=[1], epsilons={"linf": [0.01]})
    assert counted.modes == {False}
    assert counted.training
    assert weights_hash(model) == before
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())


@pytest.fixture(scope="module")
def card() -> Card:
    model, images, labels, _ = linear()
    return evaluate(model, images, labels, severities=(1, 5), epsilons={"linf": (1 / 255, 4 / 255), "l2": (0.02,)})


def test_every_cell_has_n_and_an_interval_around_its_rate(card: Card) -> None:
    assert len(card.cells) == 1 + 8 * 2 + 3
    for cell in card.cells:
        assert cell.rate is not None
        low, high = cell.rate.interval
        assert cell.rate.n == 10
        assert 0 <= low <= cell.rate.value <= high <= 1
        assert low < high
        assert cell.party == "first"


def test_json_survives_the_way_to_disk_and_back(card: Card, tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text("an older card")
    card.save(path)
    assert Card.load(path) == card
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]
    saved = json.loads(path.read_text())["cells"][0]["rate"]
    assert saved == {**saved, "value": 0.8, "successes": 8, "n": 10}


def test_a_failed_save_leaves_the_older_card(tmp_path: Path) -> None:
    path = tmp_path / "card.json"
    path.write_text("an older card")
    unwritable = Card("mine", (Cell(0, "first", "clean", {"model": object()}),))
    with pytest.raises(TypeError):
        unwritable.save(path)
    assert path.read_text() == "an older card"
    assert [file.name for file in tmp_path.iterdir()] == ["card.json"]


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, int | float):
        yield float(value)


def test_markdown_shows_every_number_of_the_json(card: Card) -> None:
    rows = [line for line in card.markdown().splitlines() if line.startswith("| first")]
    cells = card.to_dict()["cells"]
    assert len(rows) == len(cells)
    for row, cell in zip(rows, cells, strict=True):
        shown = [float(match) for match in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", row)]
        assert cell["name"] in row
        del cell["level"]  # a heading shows it
        for number in numbers(cell):
            assert any(abs(number - other) <= max(5e-4, 1e-3 * abs(number)) for other in shown), (number, row)
    assert "## Level 2" in card.markdown()


def test_markdown_keeps_its_columns_whatever_the_names() -> None:
    text = Card("a", (Cell(1, "first", "a|b", {}, note="two\nlines"),)).markdown()
    (row,) = [line for line in text.splitlines() if line.startswith("| first")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 10
    assert row.endswith("two lines |")


def test_plot_draws_every_rate_with_its_interval(card: Card, tmp_path: Path) -> None:
    figure = card.plot(tmp_path / "card.png")
    assert (tmp_path / "card.png").read_bytes().startswith(b"\x89PNG")
    corruptions, linf, l2 = figure.axes
    assert [len(axes.containers) for axes in figure.axes] == [8, 1, 1]
    bars = linf.containers[0]
    heights = bars.lines[0].get_ydata()
    rates = [cell.rate for cell in level_two(card, "linf")]
    assert list(heights) == [rate.value for rate in rates if rate]
    (segments,) = [collection.get_segments() for collection in bars.lines[2]]
    for segment, rate in zip(segments, rates, strict=True):
        assert rate is not None
        assert segment[:, 1] == pytest.approx(rate.interval)
    assert (corruptions.get_xlabel(), linf.get_xlabel(), l2.get_title()) == ("severity", "epsilon", "l2 attacks")


def test_plot_uses_the_figure_it_is_given(card: Card) -> None:
    figure = Figure()
    assert card.plot(figure=figure) is figure
    assert len(figure.axes) == 3


def test_a_card_without_measurements_says_so() -> None:
    empty = Card("mine", (Cell(2, "first", "pgd", {"norm": "l2", "epsilon": 1}, note="Not run."),))
    with pytest.raises(InputError, match="nothing to draw"):
        empty.plot()
    with pytest.raises(InputError, match="no cell of the clean samples"):
        _ = empty.clean


@pytest.mark.parametrize("text", ['{"kind": "other", "version": 1}', '{"kind": "robustness card"}', "[1]", "no JSON"])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"Card\.save wrote|is not JSON|must hold an object"):
        Card.load(path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"corruptions": ["fog"]}, "'fog' is not known"),
        ({"severities": [6]}, "severity=6"),
        ({"benchmark": "mnist-c"}, "'mnist-c' is not known"),
        ({"epsilons": {"l7": [0.1]}}, "'l7' is not known"),
        ({"epsilons": {"l2": [-0.1]}}, "epsilon=-0.1"),
        ({"steps": 0}, "steps=0"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"labels": torch.zeros(9, dtype=torch.int64)}, "labels"),
        ({"images": torch.full((10, 1, 4, 4), 2.0)}, r"\[2, 2\]"),
    ],
)
def test_bad_input_is_refused_before_the_model_is_asked(change: dict[str, Any], sentence: str) -> None:
    model, images, labels, _ = linear()
    counted = Counted(model)
    given = {"images": images, "labels": labels, **change}
    with pytest.raises(InputError, match=sentence):
        evaluate(counted, given.pop("images"), given.pop("labels"), **given)
    assert counted.seen == 0


def test_the_measured_accuracies_of_an_adversarially_trained_network_return(assets: Path) -> None:
    kept = json.loads((assets / "models/cifar10_robust/meta.json").read_text())["oval_base_kw"]
    convolutions = [nn.Conv2d(3, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(), nn.Flatten()]
    net = nn.Sequential(*convolutions, nn.Linear(1024, 100), nn.ReLU(), nn.Linear(100, 10))
    net.load_state_dict(load_file(assets / "models/cifar10_robust/oval_base_kw.safetensors"))
    cifar = np.load(assets / "image/cifar10/cifar10_5k2k.npz")
    images = torch.from_numpy(cifar["x_test"][:500]).permute(0, 3, 1, 2).float() / 255
    mean, deviation = (torch.tensor(kept[name])[:, None, None] for name in ("mean", "std"))
    card = evaluate(
        Normalized(net, mean, deviation),
        images,
        torch.from_numpy(cifar["y_test"][:500]).long(),
        corruptions=[],
        epsilons={"linf": (2 / 255, 8 / 255)},
    )
    for cell, name in zip(card.cells, ("clean", "pgd20_2", "pgd20_8"), strict=True):
        assert cell.rate is not None
        low, high = cell.rate.interval
        assert low < kept[name] < high
