from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from attacks.engine import Access, Batch, Rate, weights_hash
from attacks.errors import FrozenModelError, InputError
from reprog import (
    Bayesian,
    BayesianPlus,
    Epoch,
    Frame,
    Frequency,
    FullImage,
    Iterative,
    Linear,
    Program,
    Random,
    RandomAffine,
    accuracy,
    constant,
    fit,
)
from reprog.course import Course

MAPPINGS = [Random(), Frequency(), Iterative(), Bayesian(), BayesianPlus(), Linear()]


class Counting(nn.Module):
    """A small frozen network that counts the samples it is sent, and notes whether gradients were recorded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 12)
        )
        self.sent: list[tuple[int, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.sent.append((len(images), torch.is_grad_enabled()))
        assert bool(((images >= 0) & (images <= 1)).all())
        return self.body(images)


def task(n: int = 30) -> tuple[Tensor, Tensor]:
    """Images whose class is the row that is bright."""
    labels = torch.arange(n) % 3
    images = torch.rand(n, 1, 3, 3, generator=torch.Generator().manual_seed(n)) * 0.3
    images[torch.arange(n), 0, labels] += 0.6
    return images, labels


@pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda mapping: type(mapping).__name__)
@pytest.mark.parametrize("inputs", [FullImage(size=8), Frame(size=8, inner=5)], ids=["full", "frame"])
def test_training_lowers_the_loss_below_the_mapping_alone(mapping: object, inputs: object) -> None:
    images, labels = task()
    program = Program(inputs, mapping, classes=3)  # type: ignore[arg-type]
    history = fit(program, Counting(), images, labels, epochs=15, learning_rate=0.1, batch_size=10)
    assert history.last.loss < history.mapping_only.loss
    assert len(history.epochs) == 16


def test_a_program_solves_what_its_mapping_alone_does_not() -> None:
    images, labels = task()
    fresh, fresh_labels = task(99)
    model, program = Counting(), Program(FullImage(size=8), Iterative(), classes=3)
    fit(program, model, images, labels, epochs=0)
    alone = accuracy(program.attach(model), fresh, fresh_labels)
    fit(program, model, images, labels, epochs=40, learning_rate=0.05, batch_size=10)
    assert accuracy(program.attach(model), fresh, fresh_labels).interval[0] > alone.interval[1]


@pytest.mark.parametrize("mapping", MAPPINGS, ids=lambda mapping: type(mapping).__name__)
def test_no_mapping_takes_a_pass_over_the_data_of_its_own(mapping: object) -> None:
    images, labels = task()
    model = Counting()
    history = fit(Program(FullImage(size=8), mapping, classes=3), model, images, labels, epochs=4, batch_size=8)  # type: ignore[arg-type]
    assert sum(n for n, _ in model.sent) == 30 * (1 + 4) == history.forward_passes
    assert sum(n for n, recorded in model.sent if recorded) == 30 * 4 == history.backward_passes
    assert len(model.sent) == 4 * (1 + 4)


def test_iterative_mapping_follows_the_last_epochs_outputs() -> None:
    images, labels = task()
    outputs: list[Tensor] = []
    model = Counting()
    model.register_forward_hook(lambda module, inputs, out: outputs.append(out.detach()))
    program = Program(FullImage(size=8), Iterative(), classes=3)
    shuffled: list[Tensor] = []

    def note(batch: Tensor, generator: torch.Generator) -> Tensor:
        shuffled.append(batch)
        return batch

    fit(program, model, images, labels, epochs=2, batch_size=10, learning_rate=0.5, augment=note)
    rows = [int((images == image).flatten(1).all(1).nonzero()) for image in torch.cat(shuffled[-3:])]
    expected = Iterative().find(torch.cat(outputs[-3:]), labels[rows], 3)["matrix"]
    assert program.tensors["matrix"].equal(expected)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not() -> None:
    images, labels = task()

    def learned(seed: int) -> dict[str, Tensor]:
        torch.rand(seed + 1)  # the global state must not matter
        program = Program(FullImage(size=8), Linear(), classes=3)
        fit(program, Counting(), images, labels, epochs=3, augment=RandomAffine(size=8), seed=seed)
        return program.tensors

    first, again, other = learned(0), learned(0), learned(1)
    assert all(first[name].equal(again[name]) for name in first)
    assert not first["canvas"].equal(other["canvas"])


def test_the_model_stays_frozen_and_gets_its_modes_back() -> None:
    images, labels = task()
    model = Counting().train()
    before = weights_hash(model)
    fit(Program(FullImage(size=8), Linear(), classes=3), model, images, labels, epochs=2)
    assert weights_hash(model) == before
    assert model.training and all(weight.requires_grad and weight.grad is None for weight in model.parameters())


class Leaky(Counting):
    def forward(self, images: Tensor) -> Tensor:
        self.body[0].weight.requires_grad_(True)  # type: ignore[union-attr,operator]
        return super().forward(images)


class Drifting(Counting):
    def forward(self, images: Tensor) -> Tensor:
        self.body[1].running_mean += 0.01  # type: ignore[operator]
        return super().forward(images)


@pytest.mark.parametrize(("kind", "sentence"), [(Leaky, "gradient reached"), (Drifting, "running_mean")])
def test_a_model_that_does_not_stay_frozen_is_an_error_and_the_program_stays_untrained(
    kind: type[Counting], sentence: str
) -> None:
    images, labels = task()
    program = Program(FullImage(size=8), Bayesian(), classes=3)
    with pytest.raises(FrozenModelError, match=sentence):
        fit(program, kind(), images, labels, epochs=1)
    assert program.tensors == {} and program.backbone is None


def test_validation_keeps_the_best_epoch_and_reports_the_last_too() -> None:
    images, labels = task()
    model, validation = Counting(), task(21)
    program = Program(FullImage(size=8), Iterative(), classes=3)
    history = fit(
        program, model, images, labels, epochs=6, learning_rate=0.3, validation=validation, schedule=constant, seed=2
    )
    rates = [epoch.validation.value for epoch in history.epochs if epoch.validation]
    assert len(rates) == 7
    assert history.kept == max(range(7), key=lambda number: (rates[number], number))
    assert accuracy(program.attach(model), *validation) == history.best.validation
    program.tensors = history.last_tensors
    assert accuracy(program.attach(model), *validation) == history.last.validation


def test_validation_samples_never_train() -> None:
    images, labels = task()
    model = Counting()
    fit(Program(FullImage(size=8), Linear(), classes=3), model, images, labels, epochs=2, validation=task(21))
    assert sum(n for n, recorded in model.sent if recorded) == 30 * 2


def test_history_tells_mapping_only_kept_and_last() -> None:
    images, labels = task()
    history = fit(Program(FullImage(size=8), Frequency(), classes=3), Counting(), images, labels, epochs=1)
    lines = str(history).splitlines()
    assert [line.split(":")[0] for line in lines] == ["mapping only", "kept", "last"]
    assert str(Epoch(1, 0.5, Rate(1, 2), None)).startswith("epoch 1: loss 0.5000, train 0.500 [")


def test_batches_average_so_that_plain_descent_does_not_depend_on_batch_size() -> None:
    images, labels = task(30)
    images, labels = torch.cat([images, images]), torch.cat([labels, labels])

    def canvas(n: int) -> Tensor:
        program = Program(FullImage(size=8, contrast=0.5), Frequency(), classes=3)
        fit(program, Counting(), images[:n], labels[:n], epochs=1, batch_size=n, optimizer=SGD, learning_rate=1.0)
        return program.tensors["canvas"]

    assert canvas(30).allclose(canvas(60), rtol=1e-4, atol=1e-6)
    assert canvas(30).abs().max() > 1e-4


def test_learned_pixels_stay_within_one_range_of_brightness() -> None:
    program = Program(FullImage(size=8, contrast=0.5), Frequency(), classes=3)
    fit(program, Counting(), *task(), epochs=1, batch_size=10, learning_rate=5.0, schedule=constant)
    assert float(program.tensors["canvas"].abs().max()) == 1


def test_the_schedule_goes_evenly_from_0_to_1_over_all_steps() -> None:
    seen: list[float] = []

    def note(progress: float) -> float:
        seen.append(progress)
        return 1.0

    program = Program(FullImage(size=8), Frequency(), classes=3)
    fit(program, Counting(), *task(), epochs=2, batch_size=8, schedule=note)  # 30 samples: 4 steps an epoch
    assert seen == [step / 8 for step in range(9)]


@pytest.mark.parametrize(("mapping", "numbers"), [(Frequency(), 3), (Linear(), 3), (Iterative(), 3 + 12)])
def test_an_epochs_outputs_are_held_only_for_mappings_that_need_them(
    monkeypatch: pytest.MonkeyPatch, mapping: object, numbers: int
) -> None:
    held: list[int] = []
    step = Course.step

    def spied(self: Course, batch: Batch, optimizer: Optimizer, seen: list[tuple[Tensor, ...]]) -> Iterator:
        yield from step(self, batch, optimizer, seen)
        held.append(sum(tensor.numel() for parts in seen for tensor in parts))

    monkeypatch.setattr(Course, "step", spied)
    fit(Program(FullImage(size=8), mapping, classes=3), Counting(), *task(), epochs=1, batch_size=10)  # type: ignore[arg-type]
    assert held[-1] == 30 * numbers


def refused(sentence: str, **changes: object) -> None:
    images, labels = task()
    arguments: dict = {"images": images, "labels": labels, "classes": 3, "model": Counting(), "epochs": 1} | changes
    program = Program(FullImage(size=8), Frequency(), classes=arguments.pop("classes"))
    with pytest.raises(InputError, match=sentence):
        fit(program, arguments.pop("model"), arguments.pop("images"), arguments.pop("labels"), **arguments)


class Sized(Counting):
    input_size = (16, 16)


def test_tasks_that_cannot_be_learned_are_refused() -> None:
    images, labels = task()
    refused(r"lie in \[", images=images * 255)
    refused("labels reach 2, but the program has classes=2", classes=2)
    refused("No training sample is of class 3 ", classes=4)
    refused("torch.int64", labels=labels.float())
    refused("validation labels reach 7", validation=(images, labels + 5))
    refused("epochs=-1", epochs=-1)
    refused("batch_size=0", batch_size=0)
    refused("learning rates", learning_rate=0.0)
    refused(r"size \(8, 8\), but the model takes \(16, 16\)", model=Sized())


def test_a_training_that_diverges_says_so() -> None:
    refused("diverged in epoch 1", loss=lambda logits, labels: logits.sum(1) * float("nan"))


@pytest.mark.parametrize("mapping", [Frequency(), Linear()], ids=["frequency", "linear"])
def test_a_model_that_shows_no_gradient_is_refused(mapping: object) -> None:
    program = Program(FullImage(size=8), mapping, classes=3)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gradient"):
        fit(program, Access(Counting(), level="label"), *task(), epochs=1)


@pytest.mark.parametrize("mapping", [BayesianPlus(), Linear()], ids=["bayesian_plus", "linear"])
def test_a_task_may_have_more_classes_than_the_model(mapping: object) -> None:
    images, _ = task()
    program = Program(FullImage(size=8), mapping, classes=15)  # type: ignore[arg-type]
    fit(program, Counting(), images, torch.arange(30) % 15, epochs=1)
    assert program.tensors["matrix"].shape == (12, 15)
