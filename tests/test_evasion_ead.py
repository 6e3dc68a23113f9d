"""The elastic-net attack: its optimum on linear models, what it costs, and the defects that implementations had."""

from functools import partial
from math import copysign

import pytest
import torch
from test_evasion_carlini_wagner import at_a_distance
from torch import nn

from attacks.engine import Additive, Answer, drive, get_norm
from attacks.engine.testing import LinearModel, check_attack, near_the_middle
from attacks.errors import InputError
from attacks.evasion.ead import ead, elastic_net

SHORT = partial(ead, search_steps=3, steps=40, initial_c=0.1)


@pytest.mark.parametrize(
    ("shape", "n", "settings"),
    [
        ((8,), 3, {"steps": 200}),
        ((4, 6), 8, {"steps": 200}),
        ((3, 7, 7), 1, {"steps": 200, "step_size": 0.005}),
    ],
    ids=str,
)
def test_the_smallest_change_in_l1_is_found(shape, n, settings):
    model, x, labels = at_a_distance(shape, n, 0.1)
    result = ead(model, x, labels, search_steps=6, initial_c=0.1, beta=0.02, **settings)
    ratio = result.distance / model.nearest(x, labels, "l1")
    assert result.success.all() and result.norm == "l1"
    assert (ratio <= 1.05).all() and (ratio >= 1 - 5e-4).all()


def test_its_candidates_are_the_iterates_of_fista_and_its_gradients_are_taken_ahead_of_them():
    x, goal, gradients, candidates = torch.full((1, 2), 0.5), torch.tensor([[0.3, -0.01]]), [], []

    def answer(ask):
        (gradients if ask.gradient else candidates).append(ask.parameters.tolist()[0])
        slope = 2 * (ask.parameters - goal) if ask.gradient else None
        return Answer(torch.zeros(1, 2), torch.tensor([len(candidates) > 1]), torch.zeros(1), slope)

    settings = {"search_steps": 1, "steps": 4, "step_size": 0.1, "initial_c": 1.0, "beta": 0.01, "confidence": 0.0}
    method = elastic_net(x, Additive(), generator=torch.Generator(), targets=None, **settings)
    drive(method, answer)
    ahead, iterate = [0.0, 0.0], [0.0, 0.0]
    for k in range(4):
        assert gradients[k] == pytest.approx(ahead, abs=1e-6)
        moved = [y - 0.1 * (1 - k / 4) ** 0.5 * 2 * (y - t) for y, t in zip(ahead, goal.tolist()[0], strict=True)]
        last, iterate = iterate, [copysign(max(abs(m) - 0.01, 0), m) for m in moved]
        ahead = [p + k / (k + 3) * (p - old) for p, old in zip(iterate, last, strict=True)]
        assert candidates[k + 1] == pytest.approx(iterate, abs=1e-6)  # the first is the sample
    assert iterate[0] > 0.1 and iterate[1] == 0


def test_it_keeps_its_books_at_any_shape_and_batch():
    # Its steps have a fixed length, so from samples at any distance it only comes near: the optimum has its own test.
    check_attack(partial(ead, search_steps=5, steps=60, beta=0.01, initial_c=0.1), norm="l1", minimum=True, ratio=1.6)


def test_each_rule_keeps_the_point_that_is_smallest_by_it():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 32), nn.Tanh(), nn.Linear(32, 3))
    x = torch.rand(8, 24, generator=torch.Generator().manual_seed(2))
    sparse, smooth = (
        ead(model, x, model(x).argmax(1), decision_rule=rule, steps=100, beta=0.01, initial_c=0.1)
        for rule in ("l1", "en")
    )

    def net(result):
        change = result.adversarial - x
        return get_norm("l2").size(change).square() + 0.01 * get_norm("l1").size(change)

    assert sparse.success.all() and smooth.success.all()
    assert torch.allclose(smooth.distance, get_norm("l1").size(smooth.adversarial - x))
    assert (sparse.distance <= smooth.distance).all() and (net(smooth) <= net(sparse)).all()
    assert (sparse.distance < smooth.distance).any() and (net(smooth) < net(sparse)).any()


@pytest.mark.parametrize("confidence", [0.0, 0.5])
def test_a_sample_fares_alone_as_in_a_batch(confidence):
    model, x = LinearModel((4, 6), classes=4), near_the_middle(6, (4, 6))
    labels = model(x).argmax(1)
    attack = partial(SHORT, model, confidence=confidence)
    together = attack(x, labels)
    alone = [attack(x[i : i + 1], labels[i : i + 1]) for i in range(len(x))]
    assert together.success.any() and len(labels.unique()) > 1
    assert torch.allclose(together.adversarial, torch.cat([one.adversarial for one in alone]), rtol=0, atol=1e-6)


def test_the_samples_passed_in_stay_as_they_were():
    model, x, labels = at_a_distance((8,), 3, 0.1)
    before = x.clone()
    result = SHORT(model, x, labels)
    assert torch.equal(x, before) and result.adversarial.data_ptr() != x.data_ptr()
    assert torch.allclose(result.distance, get_norm("l1").size(result.adversarial - before))


def test_every_attempt_begins_at_the_sample_again():
    model, x, labels = at_a_distance((8,), 1, 0.1)
    seen = []
    model.register_forward_pre_hook(lambda _, given: seen.append(bool((given[0] == x).all())))
    result = ead(model, x, labels, search_steps=4, steps=9, initial_c=10.0)
    assert result.success.all()
    assert sum(seen) == 1 + 4  # to see whether it stands at all, and where each attempt takes its first gradient


def test_a_step_costs_a_gradient_and_two_passes_and_only_attempts_that_fail_end_early():
    model, x, labels = at_a_distance((4, 6), 4, 0.1)
    labels[1] = 1 - labels[1]  # misclassified as it is
    model.sent = model.differentiated = 0
    whole = ead(model, x, labels, search_steps=1, steps=30, initial_c=1.0)
    assert whole.success.all()
    assert whole.backward_passes.tolist() == [30, 0, 30, 30]
    assert whole.forward_passes.tolist() == [62, 2, 62, 62]  # the clean sample, two a step, the judgement
    assert (model.sent, model.differentiated) == (62 * 3 + 2, 90)
    weak = ead(model, x, labels, search_steps=1, steps=30, initial_c=1e-4)  # nothing leaves the shrinkage
    assert weak.success.tolist() == [False, True, False, False]
    assert weak.backward_passes.tolist() == [4, 0, 4, 4]


def test_the_wrong_class_leads_by_the_confidence():
    model, x, labels = at_a_distance((8,), 3, 0.1)
    result = ead(model, x, labels, search_steps=5, steps=100, confidence=0.5)
    logits = model(result.adversarial)
    lead = logits.gather(1, (1 - labels)[:, None]) - logits.gather(1, labels[:, None])
    assert result.success.all() and (lead >= 0.5 - 1e-4).all()


def test_targets_are_reached_by_few_entries():
    model, x = LinearModel((3, 7, 7), classes=4), near_the_middle(5, (3, 7, 7))
    labels = model(x).argmax(1)
    targets = (labels + 1) % 4
    result = ead(model, x, labels, targets=targets, search_steps=5, steps=100, initial_c=0.1, beta=0.01)
    assert result.success.all() and torch.equal(model(result.adversarial).argmax(1), targets)
    assert ((result.adversarial != x).flatten(1).sum(1) < 60).all()


def test_nothing_is_sent_that_is_out_of_bounds():
    model = LinearModel((8,))
    x = torch.randint(0, 2, (6, 8), generator=torch.Generator().manual_seed(0)).float()
    model.register_forward_pre_hook(lambda _, given: outside.append(bool(((given[0] < 0) | (given[0] > 1)).any())))
    outside: list[bool] = []
    result = ead(model, x, model(x).argmax(1), search_steps=3, steps=60, initial_c=1.0, step_size=0.1)
    assert result.success.any() and not any(outside)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"decision_rule": "l2"}, "decision_rule='l2' is not known"),
        ({"search_steps": 0}, "search_steps=0 is too few"),
        ({"steps": 0}, "steps=0 is too few"),
        ({"step_size": -1.0}, "step_size=-1.0 cannot be used"),
        ({"initial_c": 0.0}, "initial_c=0 would stay 0"),
        ({"beta": -1.0}, "beta=-1.0 cannot be used"),
        ({"confidence": -1.0}, "confidence=-1.0 cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        ead(LinearModel((8,)), torch.rand(1, 8), torch.tensor([0]), **settings)


@pytest.mark.slow
def test_on_the_small_robust_network_it_is_nearer_than_the_best_code(attack_target):
    result = ead(*attack_target, search_steps=9, steps=200)
    assert result.success.all() and float(result.distance.mean()) <= 20.0  # 21.14 is what others reach
    assert float(result.backward_passes.float().mean()) <= 1_050
