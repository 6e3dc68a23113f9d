import math
import sys

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from attacks.engine import Rate
from attacks.errors import InputError
from reprog import (
    Epoch,
    Frequency,
    FullImage,
    History,
    Iterative,
    Linear,
    Mapping,
    Program,
    fit,
    inspect_mapping,
    plot_mapping,
)
from reprog.labels import mapping_change, source_shares

SOURCES = ["lion", "lynx", "van", "bus"]


def holding(matrix: list[list[float]]) -> Program:
    program = Program(FullImage(size=8), Linear(), classes=len(matrix[0]), class_names=("cat", "car"))
    program.tensors["matrix"] = torch.tensor(matrix)
    return program


def trained(mapping: Mapping, epochs: int = 4) -> tuple[Program, History]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 6))
    images, labels = torch.rand(12, 1, 3, 3), torch.arange(12) % 3
    program = Program(FullImage(size=8), mapping, classes=3)
    return program, fit(program, model, images, labels, epochs=epochs, learning_rate=0.3, mapping_learning_rate=0.1)


def test_the_strongest_sources_are_named_and_those_without_weight_left_out() -> None:
    cat, car = inspect_mapping(holding([[0.25, 0.0], [0.75, 0.0], [0.0, 1.0], [0.0, 0.0]]), source_names=SOURCES)
    assert (cat.name, cat.sources) == ("cat", (("lynx", 0.75), ("lion", 0.25)))
    assert (car.name, car.sources) == ("car", (("van", 1.0),))
    assert str(cat) == "cat: lynx 0.75, lion 0.25 (entropy 0.56 nats)"


def test_classes_without_names_are_numbered() -> None:
    program = holding([[1.0, 0.0], [0.0, 1.0]])
    program.class_names = ()
    assert [str(row) for row in inspect_mapping(program)] == [
        "class 0: class 0 1 (entropy 0.00 nats)",
        "class 1: class 1 1 (entropy 0.00 nats)",
    ]


def test_entropy_runs_from_a_single_source_to_all_of_them_and_counts_sizes() -> None:
    even, single = inspect_mapping(holding([[0.5, 0.0], [-0.5, 0.0], [0.5, 3.0], [0.5, 0.0]]))
    assert math.isclose(even.entropy, math.log(4), rel_tol=1e-6) and single.entropy == 0
    nothing, _ = inspect_mapping(holding([[0.0, 1.0], [0.0, 1.0]]))
    assert nothing.entropy == 0 and nothing.sources == ()


def test_change_is_the_share_of_weight_that_moved() -> None:
    before = torch.tensor([[1.0, 0.5], [0.0, 0.5], [0.0, 0.0]])
    after = torch.tensor([[0.0, 1.0], [0.0, 0.5], [2.0, 0.5]])  # all of column 0; of column 1 a quarter, after scaling
    assert mapping_change(before, after) == pytest.approx((1 + 0.25) / 2)
    assert mapping_change(before, before * 7) == 0
    assert mapping_change(before, -before) == 1
    assert source_shares(torch.zeros(2, 2)).equal(torch.zeros(2, 2))


def test_a_history_says_how_much_each_epoch_changed_the_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices: list[Tensor] = []
    find = Iterative.find

    def noted(self: Iterative, outputs: Tensor, labels: Tensor, classes: int) -> dict[str, Tensor]:
        found = find(self, outputs, labels, classes)
        matrices.append(found["matrix"])
        return found

    monkeypatch.setattr(Iterative, "find", noted)
    _, history = trained(Iterative())
    owners = [matrix.argmax(0) for matrix in matrices]
    moved = [float((b != a).float().mean()) for a, b in zip(owners, owners[1:], strict=False)]
    assert history.epochs[0].mapping_change is None
    assert [epoch.mapping_change for epoch in history.epochs[1:]] == pytest.approx(moved)
    assert max(moved) > 0


def test_a_mapping_found_once_never_changes_and_a_learned_one_does() -> None:
    assert {epoch.mapping_change for epoch in trained(Frequency())[1].epochs[1:]} == {0.0}
    learned = [epoch.mapping_change or 0.0 for epoch in trained(Linear())[1].epochs[1:]]
    assert all(0 < change < 1 for change in learned)


def test_the_plot_shows_the_strongest_sources_and_the_changes() -> None:
    program, history = trained(Linear())
    figure = plot_mapping(program, source_names=["a" * 50, *"bcdef"], count=6, history=history)
    assert isinstance(figure, Figure)
    weights, changes = figure.axes[:2]
    drawn = weights.images[0].get_array()
    columns = [label.get_text() for label in weights.get_xticklabels()]
    assert sorted(columns) == sorted(["a" * 29 + "…", *"bcdef"])
    order = [0 if name.startswith("aa") else "abcdef".index(name) for name in columns]
    assert torch.as_tensor(np.asarray(drawn)).equal(program.tensors["matrix"][order].T)
    assert np.asarray(changes.lines[0].get_xdata()).tolist() == [1, 2, 3, 4]
    assert np.asarray(changes.lines[0].get_ydata()).tolist() == [epoch.mapping_change for epoch in history.epochs[1:]]
    assert "matplotlib.pyplot" not in sys.modules or figure.canvas.manager is None


def test_the_plot_has_no_column_for_sources_without_weight() -> None:
    figure = plot_mapping(holding([[0.25, 0.0], [0.75, 0.0], [0.0, 1.0], [0.0, 0.0]]), source_names=SOURCES, count=3)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["lynx", "lion", "van"]
    assert len(plot_mapping(holding([[0.0, 0.0], [0.0, 0.0]])).axes[0].get_xticklabels()) == 1


def test_the_plot_goes_into_a_figure_that_is_given() -> None:
    figure = Figure()
    assert plot_mapping(holding([[1.0, 0.0], [0.0, 1.0]]), figure=figure) is figure and figure.axes


def test_a_history_of_the_first_pass_alone_can_be_drawn() -> None:
    program, history = trained(Frequency(), epochs=0)
    assert np.asarray(plot_mapping(program, history=history).axes[1].lines[0].get_xdata()).size == 0
    assert Epoch(1, 0.5, Rate(1, 2), None).mapping_change is None


@pytest.mark.parametrize("look", [inspect_mapping, plot_mapping])
def test_what_cannot_be_looked_into_is_refused(look: object) -> None:
    program = holding([[1.0, 0.0], [0.0, 1.0]])
    with pytest.raises(InputError, match="3 source names came for 2 source classes"):
        look(program, source_names=["a", "b", "c"])  # type: ignore[operator]
    with pytest.raises(InputError, match="count=0 source classes"):
        look(program, count=0)  # type: ignore[operator]
    program.tensors = {}
    with pytest.raises(InputError, match="no label mapping yet"):
        look(program)  # type: ignore[operator]
