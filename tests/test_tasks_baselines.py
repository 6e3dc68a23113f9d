"""What a program must beat: each baseline against a result that is known otherwise."""

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

from reprog import BayesianPlus, Frame, FullImage, Linear
from tasks.baselines import baselines, linear_probe, majority, mapping_only
from tasks.datasets import Split, Task, load_task


def task(train: list[int], test: list[int], classes: int = 3) -> Task:
    values = torch.linspace(0, 1, len(train) + len(test)).reshape(-1, 1, 1, 1)
    first, last = Split(values[: len(train)], torch.tensor(train)), Split(values[len(train) :], torch.tensor(test))
    none = Split(values[:0], torch.empty(0, dtype=torch.int64))
    return Task("mine", first, none, last, tuple("abcdef"[:classes]))


def test_majority_is_of_the_training_samples_and_among_equals_of_the_test() -> None:
    assert majority(task([0, 1, 1, 2], [0, 0, 1])).rate.successes == 1
    level = majority(task([0, 1, 2], [2, 2, 1]))
    assert (level.rate.successes, level.rate.n, level.trained_on, level.settings) == (2, 3, 3, {"class": "c"})


def test_mapping_only_reads_the_outputs_as_the_mapping_says() -> None:
    mine = task([0, 1, 2], [2, 0, 1, 1])
    source = torch.eye(5)[[3, 0, 4]] * 9
    made = mapping_only(mine, source, source[[2, 0, 1, 0]], labels=BayesianPlus())
    assert (made.rate.successes, made.rate.n) == (3, 4) and made.settings["mapping"] == "BayesianPlus"


def test_the_linear_probe_is_scikit_learns_on_standardised_outputs() -> None:
    generator = np.random.default_rng(1)
    labels = np.arange(60) % 3
    outputs = generator.normal(size=(60, 20)) * 3 + 7 + np.eye(20)[labels] * 8
    mine = task(labels[:30].tolist(), labels[30:].tolist())
    made = linear_probe(mine, torch.tensor(outputs[:30]), torch.tensor(outputs[30:]))
    mean, std = outputs[:30].mean(0), outputs[:30].std(0)
    other = LogisticRegression(C=made.settings["C"], max_iter=1000).fit((outputs[:30] - mean) / std, labels[:30])
    assert made.rate.value == other.score((outputs[30:] - mean) / std, labels[30:]) > 0.6
    assert (made.trained_on, made.settings["folds"], made.settings["outputs"]) == (30, 5, 20)


def test_the_linear_probe_does_with_one_sample_a_class() -> None:
    mine = task([0, 1, 2], [0, 1, 2, 2])
    made = linear_probe(mine, torch.eye(3), torch.eye(3)[[0, 1, 2, 2]])
    assert made.rate.value == 1 and made.settings["folds"] == 1


def test_validation_labels_are_learned_from_too() -> None:
    values = torch.linspace(0, 1, 8).reshape(-1, 1, 1, 1)
    kinds = [[0, 1], [1, 1, 1, 0], [0, 1]]
    train, validation, test = (
        Split(part, torch.tensor(kind)) for part, kind in zip(values.split([2, 4, 2]), kinds, strict=True)
    )
    mine = Task("mine", train, validation, test, ("a", "b"))
    assert mine.labelled.labels.tolist() == [0, 1, 1, 1, 1, 0] and torch.equal(mine.labelled.inputs, values[:6])
    made = baselines(nn.Flatten(), mine, inputs=FullImage(size=1), labels=Linear())
    assert {name: one.trained_on for name, one in made.items()} == dict.fromkeys(made, 6)
    assert made["majority"].settings == {"class": "b"}
    assert made["linear_probe"].settings["folds"] == made["raw_svm"].settings["folds"] == 2  # the training samples: 1


def test_the_probe_sees_whole_samples_and_the_mapping_sees_them_in_the_frame() -> None:
    digits = load_task("digits", shots=5, test=60, validation=0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 30))
    whole = baselines(model, digits, inputs=FullImage(size=16), labels=Linear())
    framed = baselines(model, digits, inputs=Frame(size=16, inner=4), labels=Linear())
    assert whole["linear_probe"].rate == framed["linear_probe"].rate
    assert whole["mapping_only"].rate.value > framed["mapping_only"].rate.value
    assert {one.rate.n for one in whole.values()} == {60} and {one.trained_on for one in whole.values()} == {50}
    assert whole["majority"].to_dict()["rate"]["n"] == 60
