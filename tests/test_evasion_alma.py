"""The augmented Lagrangian attack: its penalty, its optimum on linear models, what it costs, and the field's figure."""

from functools import partial

import pytest
import torch
from torch import nn

from attacks.engine.testing import LinearModel, check_attack, near_the_middle
from attacks.errors import InputError
from attacks.evasion import alma
from attacks.evasion.alma import pressure


def test_the_pressure_is_the_slope_of_the_penalty():
    broken = torch.linspace(-3, 3, 61, dtype=torch.float64).requires_grad_()
    penalty, multiplier = torch.tensor(1.7), torch.tensor(0.6)
    outside = multiplier * broken + multiplier * penalty * broken**2 + penalty**2 * broken**3 / 6
    inside = multiplier * broken / (1 - penalty * broken)
    (slope,) = torch.autograd.grad(torch.where(broken > 0, outside, inside).sum(), broken)
    assert torch.allclose(pressure(broken.detach(), penalty, multiplier), slope)
    assert pressure(torch.zeros(()), penalty, multiplier) == multiplier


def test_in_l1_it_comes_close_to_the_optimum_on_linear_models():
    attack = partial(alma, norm="l1", steps=1000)
    check_attack(attack, norm="l1", minimum=True, shapes=((8,), (4, 6)))


def test_more_steps_come_closer():
    model, x = LinearModel((3, 7, 7)), near_the_middle(8, (3, 7, 7))
    labels = model(x).argmax(1)
    few, many = (alma(model, x, labels, steps=steps) for steps in (20, 200))
    assert few.success.all() and many.success.all()
    assert many.distance.sum() < few.distance.sum()


@pytest.mark.parametrize("classes", [2, 5])
def test_the_scale_of_logits_and_inputs_makes_no_difference(classes):
    model, x = LinearModel((8,), classes=classes), near_the_middle(8, (8,))
    labels = model(x).argmax(1)
    plain = alma(model, x, labels, steps=100)
    model.weight.data *= 1024
    louder = alma(model, x, labels, steps=100)
    assert torch.allclose(plain.distance, louder.distance, rtol=1e-3)
    wide = alma(model, 8 * (x - 0.5) + 0.5, labels, steps=100, bounds=(-3.5, 4.5))
    assert torch.allclose(8 * plain.distance, wide.distance, rtol=0.02)


def test_it_costs_a_gradient_a_step_and_nothing_where_there_is_nothing_to_do():
    model, x = LinearModel((4, 6), classes=3), near_the_middle(6, (4, 6))
    labels = model(x).argmax(1)
    labels[:2] = (labels[:2] + 1) % 3
    result = alma(model, x, labels, steps=20)
    assert result.success.all() and (result.distance[:2] == 0).all()
    assert result.backward_passes.tolist() == [1, 1, 20, 20, 20, 20]
    assert result.forward_passes.tolist() == [2, 2, 22, 22, 22, 22]  # the last point and the judgement as well


def test_a_sample_at_the_edge_of_the_box_is_fooled_as_well():
    model = LinearModel((4, 6))
    x = torch.randint(0, 2, (8, 4, 6), generator=torch.Generator().manual_seed(0)).float()
    labels = model(x).argmax(1)
    result = alma(model, x, labels, steps=200)
    assert result.success.all() and result.adversarial.min() >= 0 and result.adversarial.max() <= 1


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"norm": "linf"}, "norm='linf' has no slope"),
        ({"steps": 0}, "steps=0 is too few"),
        ({"memory": 1.0}, "memory=1.0 would forget nothing"),
        ({"initial_step": -1.0}, "initial_step=-1.0 cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        alma(nn.Identity(), torch.rand(1, 3), torch.tensor([0]), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("steps", [100, 200])
def test_it_comes_closer_than_the_field(attack_target, steps):
    result = alma(*attack_target, steps=steps)
    assert result.success.all()
    assert float(result.distance.mean()) <= 1.984


@pytest.mark.slow
def test_in_l1_it_comes_closer_than_the_fast_minimum_norm_attack(attack_target):
    result = alma(*attack_target, norm="l1", steps=200)
    assert result.success.all()
    assert float(result.distance.mean()) <= 16.86
