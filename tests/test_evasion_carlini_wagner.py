"""Carlini-Wagner on linear models, with samples at one distance from the boundary: its steps have a fixed length."""

from functools import partial

import pytest
import torch

from attacks.engine.testing import LinearModel, near_the_middle
from attacks.errors import InputError
from attacks.evasion import carlini_wagner


def at_a_distance(shape, n, distance):
    """A linear model, and samples that are this far from its boundary in l2."""
    model, x = LinearModel(shape), near_the_middle(n, shape)
    labels = model(x).argmax(1)
    away = (model.weight[1 - labels] - model.weight[labels]).detach()
    unit = (away / away.norm(dim=1, keepdim=True)).reshape(x.shape)
    short = (distance - model.nearest(x, labels, "l2")).reshape(-1, *[1] * len(shape))
    return model, x - short * unit, labels


@pytest.mark.parametrize(("shape", "n"), [((8,), 3), ((4, 6), 8), ((3, 7, 7), 1)])
def test_the_smallest_change_in_l2_is_found(shape, n):
    model, x, labels = at_a_distance(shape, n, 0.1)
    result = carlini_wagner(model, x, labels, search_steps=6, steps=100, step_size=0.005)
    assert result.success.all()
    assert (result.distance <= 0.1 * 1.05).all() and (result.distance >= 0.1 * (1 - 5e-4)).all()


def test_a_small_change_in_linf_is_found():
    model, x, labels = at_a_distance((4, 6), 3, 0.1)
    result = carlini_wagner(model, x, labels, norm="linf", steps=100)
    nearest = model.nearest(x, labels, "linf")
    # The threshold falls to nine tenths after each success, so that is how close the last one may stay.
    assert result.success.all() and (result.distance <= nearest / 0.9 * 1.02).all()


def test_passes_are_counted_and_an_attempt_leaves_samples_alone_that_no_longer_gain():
    model, x, labels = at_a_distance((8,), 4, 0.1)
    model.sent = 0
    result = carlini_wagner(model, x, labels, search_steps=4, steps=100)
    assert int(result.forward_passes.sum()) == model.sent
    assert (result.backward_passes < 4 * 100).all() and (result.backward_passes > 10).all()


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("classes", [2, 10])
def test_a_step_costs_one_gradient_however_many_classes_there_are(norm, classes):
    model, x = LinearModel((8,), classes=classes), near_the_middle(4, (8,))
    labels = model(x).argmax(1)
    model.sent = model.differentiated = 0
    result = carlini_wagner(model, x, labels, norm=norm, search_steps=1, steps=9, initial_c=1e-3, step_size=1e-4)
    assert not result.success.any()
    assert (result.backward_passes <= 9).all() and int(result.backward_passes.sum()) == model.differentiated
    assert torch.equal(result.forward_passes, result.backward_passes + 2)  # the clean sample and the judgement


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_a_sample_fares_alone_as_in_a_batch_and_again_as_before(norm):
    model, x, labels = at_a_distance((4, 6), 3, 0.1)
    before = x.clone()
    attack = partial(carlini_wagner, model, norm=norm, search_steps=3, steps=40, initial_c=0.1)
    together = attack(x, labels)
    alone = [attack(x[i : i + 1], labels[i : i + 1]).adversarial for i in range(len(x))]
    assert together.success.all() and torch.equal(x, before)
    assert torch.allclose(together.adversarial, torch.cat(alone), rtol=0, atol=1e-6)
    assert torch.equal(together.adversarial, attack(x, labels).adversarial)


def test_the_wrong_class_leads_by_the_confidence():
    model, x, labels = at_a_distance((8,), 3, 0.1)
    result = carlini_wagner(model, x, labels, search_steps=5, steps=100, confidence=0.5)
    logits = model(result.adversarial)
    lead = logits.gather(1, (1 - labels)[:, None]) - logits.gather(1, labels[:, None])
    assert result.success.all() and (lead >= 0.5 - 1e-4).all()


def test_targets_are_reached_and_what_is_wrong_already_costs_nothing():
    model = LinearModel((8,), classes=4)
    x = near_the_middle(5, (8,))
    labels = model(x).argmax(1)
    targets = (labels + 1) % 4
    result = carlini_wagner(model, x, labels, targets=targets, search_steps=5, steps=100, initial_c=1.0)
    assert torch.equal(result.success, model(result.adversarial).argmax(1) == targets) and result.success.any()
    wrong = carlini_wagner(model, x, targets, search_steps=2, steps=10)
    assert wrong.success.all() and not wrong.distance.any() and not wrong.backward_passes.any()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"norm": "l1"}, "norm='l1' has no Carlini-Wagner attack"),
        ({"search_steps": 0}, "search_steps=0 is too few"),
        ({"steps": 0}, "steps=0 is too few"),
        ({"step_size": -1.0}, "step_size=-1.0 cannot be used"),
        ({"initial_c": 0.0}, "initial_c=0 would stay 0"),
        ({"confidence": -1.0}, "confidence=-1.0 cannot be used"),
        ({"reach": 1.0}, "reach=1.0 cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        carlini_wagner(LinearModel((8,)), torch.rand(1, 8), torch.tensor([0]), **settings)


@pytest.mark.slow
def test_on_the_small_robust_network_it_is_as_near_as_the_best_code(attack_target):
    result = carlini_wagner(*attack_target, search_steps=9, steps=200, step_size=0.01, initial_c=1e-3)
    assert result.success.all() and float(result.distance.mean()) <= 2.104
    assert float(result.backward_passes.float().mean()) <= 1_250
