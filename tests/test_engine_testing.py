"""The checks for users' own parts find what they are for: each planted defect beside its clean twin."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from attacks.engine import Additive, Ask, away_or_towards, cross_entropy, get_norm, margin, run, untargeted
from attacks.engine.testing import (
    LinearModel,
    check_attack,
    check_loss,
    check_objective,
    check_perturbation,
    near_the_middle,
)


def descend(x, perturbation, *, generator, epsilon, targets, flaw=None):
    """One steepest step to the edge of the l2 ball, or what a flaw makes of it."""
    norm, p = get_norm("l2"), perturbation.start(x)
    answer = yield Ask(p, away_or_towards(cross_entropy, targets), gradient=True)
    length = {"short": 0.5, "long": 0.65}.get(flaw, 1.0) * epsilon
    p = p - length * norm.steepest(answer.slope())
    if flaw == "restless":
        p = (1 - 1e-4) * p + 1e-5 * epsilon * torch.randn_like(p)
    yield Ask(p if flaw == "unclipped" else perturbation.clip(x, p))


class Doubled(torch.nn.Module):
    """Sends double precision to a model of five classes."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x.double() if len(self.model.weight) == 5 else x)


def attack(model, x, labels, *, epsilon, flaw=None, **options):
    targets = options.get("targets")
    if flaw == "deaf":
        options.pop("targets", None)
        targets = None
    if flaw == "double":
        model = Doubled(model)
    method = partial(descend, targets=targets, flaw=flaw)
    result = run(method, model, x, labels, norm="l2", epsilon=2 * epsilon if flaw == "long" else epsilon, **options)
    if flaw == "aliased":
        x.add_(1e-5)
    if flaw == "free":
        return replace(result, forward_passes=result.forward_passes - 1)
    if flaw == "vain":
        return replace(result, success=torch.ones_like(result.success))
    if flaw == "near":
        return replace(result, distance=result.distance / 2)
    if flaw == "long":
        return replace(result, epsilon=epsilon)
    return result


def test_a_sound_attack_passes():
    check_attack(attack, norm="l2")


@pytest.mark.parametrize(
    ("flaw", "sentence"),
    [
        ("short", "A sample stood in a ball of 1.05 times the optimum"),
        ("long", "A sample fell in a ball that holds no adversarial one"),
        ("free", "forward passes are reported, but the model saw"),
        ("vain", "A sample fell in a ball that holds no adversarial one"),
        ("near", "The distances are not those of the samples"),
        ("deaf", "A targeted run does not judge success by its targets"),
        ("double", "The model is sent torch.float64, not torch.float32"),
        ("unclipped", r"The model is sent values in \[-"),
        ("aliased", "The samples or labels that were handed over have changed"),
        ("restless", "The same seed gives other samples|torch's own generator"),
    ],
)
def test_a_flaw_is_found_and_named(flaw, sentence):
    with pytest.raises(AssertionError, match=sentence):
        check_attack(partial(attack, flaw=flaw), norm="l2", ratio=1.05)


def test_the_nearest_sample_of_a_linear_model_is_nearest():
    model, x = LinearModel((3,)), near_the_middle(4, (3,))
    labels = model(x).argmax(1)
    away = (model.weight[1 - labels] - model.weight[labels]).detach()
    for norm in ("linf", "l2", "l1"):
        needed = model.nearest(x, labels, norm)
        steps = get_norm(norm).steepest(away)
        assert (model(x + (needed * 1.001)[:, None] * steps).argmax(1) != labels).all()
        # No other direction of that length does better: a thousand of them are tried.
        draws = torch.randn(1000, 3)
        draws = draws / get_norm(norm).size(draws)[:, None]
        for row in range(4):
            assert (model(x[row] + 0.999 * needed[row] * draws).argmax(1) == labels[row]).all()


def test_the_fewest_entries_of_a_linear_model_are_fewest():
    model, x = LinearModel((6,), seed=4), near_the_middle(20, (6,))
    labels = model(x).argmax(1)
    needed = model.nearest(x, labels, "l0")
    away = (model.weight[1 - labels] - model.weight[labels]).detach()
    edges = torch.where(away > 0, 1.0, 0.0)
    masks = torch.cartesian_prod(*[torch.tensor([False, True])] * 6)
    for row in range(20):
        fooled = model(torch.where(masks, edges[row], x[row])).argmax(1) != labels[row]
        assert int(masks[fooled].sum(1).min()) == int(needed[row])


@pytest.mark.parametrize(
    ("loss", "sentence"),
    [
        (lambda logits, classes: -margin(logits, classes), "not lower where the model is sure"),
        (lambda logits, classes: margin(logits, classes).mean(), "has shape"),
        (lambda logits, classes: margin(logits, classes) - margin(logits, classes).mean(), "depends on the others"),
    ],
)
def test_flawed_losses_are_found(loss, sentence):
    check_loss(margin)
    with pytest.raises(AssertionError, match=sentence):
        check_loss(loss)


@pytest.mark.parametrize(
    ("objective", "sentence"),
    [
        (lambda view: view.logits.sum(), "has shape"),
        (lambda view: view.logits.sum(1) / 0, "no finite number"),
        (lambda view: view.logits.sum(1) - view.logits.mean(), "depends on the others"),
    ],
)
def test_flawed_objectives_are_found(objective, sentence):
    given = torch.zeros(3, 2), torch.tensor([0, 1, 0]), torch.tensor([[1.0, 2.0], [4.0, 0.5], [2.0, 2.5]])
    check_objective(untargeted(margin), *given)
    with pytest.raises(AssertionError, match=sentence):
        check_objective(objective, *given)


class Loose(Additive):
    def clip(self, x, parameters):
        return 0.5 * parameters


class Mixing(Additive):
    def __call__(self, x, parameters):
        return x + parameters + 0 * parameters + parameters.mean()


def test_flawed_perturbations_are_found():
    x = torch.rand(3, 4)
    check_perturbation(Additive(), x)
    with pytest.raises(AssertionError, match="Clipping what is clipped"):
        check_perturbation(Loose(), x)
    with pytest.raises(AssertionError, match="depends on the others"):
        check_perturbation(Mixing(), x)
