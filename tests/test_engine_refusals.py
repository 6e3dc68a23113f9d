"""What a run refuses, each with a sentence."""

import numpy as np
import pytest
import torch
from torch import nn

from attacks.engine import Additive, Ask, Batch, Universal, cross_entropy, drive, evaluate, run, untargeted
from attacks.errors import InputError
from attacks.evasion import bim, fgsm, pgd

GOOD = {"x": torch.tensor([[0.9, 0.1, 0.2, 0.3]] * 3), "labels": torch.zeros(3, dtype=torch.int64)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x": torch.rand(3, 4).double()}, "torch.float64 but must be torch.float32"),
        ({"x": (torch.rand(3, 4) * 255).to(torch.uint8)}, "torch.uint8"),
        ({"x": torch.rand(3, 4) * 255}, "divide by 255"),
        ({"x": torch.full((3, 4), torch.nan)}, "nan"),
        ({"x": torch.rand(0, 4)}, "at least one sample"),
        ({"x": torch.rand(4)}, "at least one sample"),
        ({"labels": torch.zeros(3)}, "torch.int64 of shape (3,)"),
        ({"labels": torch.zeros(4, dtype=torch.int64)}, "of shape (4,)"),
        ({"labels": torch.full((3,), -1)}, "classes count from 0 up"),
        ({"targets": torch.zeros(3, dtype=torch.int64)}, "Some targets equal"),
        ({"targets": torch.ones(2, dtype=torch.int64)}, "targets are"),
        ({"norm": "l7"}, "norm='l7' is not known"),
        ({"norm": "l1"}, "norm='l1' does not suit plain gradient steps"),
        ({"labels": torch.full((3,), 9)}, "go up to 9, but the model has 4 classes"),
        ({"targets": torch.full((3,), 4)}, "go up to 4, but the model has 4 classes"),
        ({"epsilon": -1.0}, "epsilon=-1.0"),
        ({"epsilon": float("nan")}, "epsilon=nan"),
        ({"steps": 0}, "steps=0 is too few"),
        ({"step_size": -0.1}, "step_size=-0.1"),
        ({"steps": 1.5}, "steps=1.5 is no whole number"),
        ({"epsilon": "8/255"}, "epsilon='8/255' cannot be used"),
        ({"epsilon": []}, "empty list"),
        ({"epsilon": [0.1, -1.0]}, "epsilon=-1.0"),
        ({"x": np.zeros((3, 4))}, "samples are a ndarray but must be a torch.Tensor"),
        ({"labels": [0, 0, 0]}, "labels are a list but must be a torch.Tensor"),
        ({"restarts": 0}, "restarts=0 is too few"),
        ({"budget": 1}, "budget=1 is too few"),
        ({"batch_size": 0}, "batch_size=0 is too few"),
        ({"levels": 1}, "levels=1 is too few"),
    ],
)
def test_wrong_input_is_refused_with_a_sentence(change, sentence):
    arguments = {**GOOD, "epsilon": 0.1, **change}
    with pytest.raises(InputError) as error:
        pgd(nn.Identity(), arguments.pop("x"), arguments.pop("labels"), **arguments)
    assert sentence in str(error.value)


def test_answers_that_are_nan_are_no_success():
    class Broken(nn.Module):
        def forward(self, x):
            return x * torch.nan

    with pytest.raises(InputError, match="answered 3 of 3 samples with NaN"):
        pgd(Broken(), GOOD["x"], GOOD["labels"], epsilon=0.1, steps=2)


def test_a_shared_perturbation_has_its_own_way():
    with pytest.raises(InputError, match="shared by all samples"):
        run(None, nn.Identity(), GOOD["x"], GOOD["labels"], norm="l2", perturbation=Universal())


def test_restarts_of_an_attack_without_chance_are_refused():
    with pytest.raises(InputError, match="would repeat the same run"):
        bim(nn.Identity(), GOOD["x"], GOOD["labels"], epsilon=0.1, restarts=2)


def test_a_range_missed_by_rounding_alone_is_accepted():
    x = torch.full((1, 2), 1 + 5e-7)
    assert pgd(nn.Identity(), x, torch.tensor([0]), epsilon=0.1).adversarial.max() <= 1


def test_a_model_without_gradients_is_refused_with_a_sentence():
    class Detached(nn.Module):
        def forward(self, x):
            return x.detach()

    with pytest.raises(InputError, match="outputs carry none"):
        pgd(Detached(), GOOD["x"], GOOD["labels"], epsilon=0.1)
    with pytest.raises(InputError, match="outputs carry none"):
        drive(
            iter_ask(),
            lambda ask: evaluate(Detached(), Additive(), ask, Batch(GOOD["x"], GOOD["labels"], None, torch.arange(3)))[
                0
            ],
        )


def iter_ask():
    yield Ask(torch.zeros(3, 4), untargeted(cross_entropy), gradient=True)


class Answering(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, x):
        return self.answer(x)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda x: x[:, :1], r"shape \(3, 1\) to 3 samples"),
        (lambda x: x[:, :, None, None], r"shape \(3, 4, 1, 1\)"),
        (lambda x: x[:2], r"shape \(2, 4\) to 3 samples"),
        (lambda x: (x, x), "answers with a tuple"),
    ],
)
def test_answers_that_are_no_logits_are_refused(answer, sentence):
    with pytest.raises(InputError, match=sentence):
        pgd(Answering(answer), GOOD["x"], GOOD["labels"], epsilon=0.1)


def test_fgsm_has_no_chance_to_restart_with():
    with pytest.raises(InputError, match="would repeat the same run"):
        fgsm(nn.Identity(), GOOD["x"], GOOD["labels"], epsilon=0.1, restarts=2)
