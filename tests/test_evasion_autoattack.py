"""AutoAttack: its order, its steps, what it says, and its fast version."""

import math
import re
from functools import partial

import numpy as np
import pytest
import torch

from attacks.engine import Additive, Ask, Batch, drive, evaluate, get_norm, margin, nes, on_rows, run, untargeted
from attacks.engine.testing import LinearModel
from attacks.errors import InputError
from attacks.evasion import auto_pgd, auto_pgd_targeted, autoattack
from attacks.evasion.autoattack import Part, Tally, Watch

SHAPE = (3, 5, 6)


def ran(result, start="At epsilon"):
    """How many samples each part was run on, in order, from the line that starts so."""
    (line,) = [note for note in result.notes if note.startswith(start) and "stand in the end" in note]
    return {name: int(count) for name, count in re.findall(r"([a-zA-Z][-A-Za-z ]+) on (\d+)", line.split(": ")[1])}


def task(classes, n=8, scale=1.0):
    model = LinearModel(SHAPE, classes=classes)
    model.weight.data *= scale
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(1))
    return model, x, model(x).argmax(1)


@pytest.mark.slow
def test_the_published_order_with_its_published_steps_each_on_what_is_left():
    model, x, labels = task(classes=5, n=6)
    model.sent = model.differentiated = 0
    result = autoattack(model, x, labels, epsilon=0.012)
    assert list(ran(result)) == ["Auto-PGD CE", "Auto-PGD T", "FAB-T", "Square"]
    counts = list(ran(result).values())
    left = result.robust_rate.successes
    assert counts[0] == 6 and counts == sorted(counts, reverse=True) and 0 < left <= counts[-1] < 6
    standing = ~result.success
    # Diagnosis, 100 gradients, towards each of 4 classes 100, along each of 4 boundaries 100.
    assert set(result.backward_passes[standing].tolist()) == {1 + 100 + 4 * 100 + 4 * 100}
    # Above all 5000 queries of the random search; a targeted part looks at the clean sample once more.
    assert (result.forward_passes[standing] > 101 + 4 * 101 + 4 * 200 + 5000).all()
    assert int(result.forward_passes.sum()) == model.sent
    assert int(result.backward_passes.sum()) == model.differentiated
    assert (result.backward_passes[result.success] < 1 + 100 + 4 * 100).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_the_fast_version_finds_what_targeted_auto_pgd_finds(norm):
    model, x, labels = task(classes=5)
    epsilon = {"linf": 0.012, "l2": 0.12, "l1": 0.4}[norm]
    quick = autoattack(model, x, labels, epsilon=epsilon, norm=norm, version="fast")
    thorough = auto_pgd_targeted(model, x, labels, epsilon=epsilon, norm=norm)
    assert thorough.success.any() and not thorough.success.all()
    assert (quick.success | ~thorough.success).all()
    assert any("quick Auto-PGD CE on 8" in note for note in quick.notes)


def test_long_attacks_of_the_fast_version_are_for_those_that_came_closest():
    model, x, labels = task(classes=5, n=20)
    result = autoattack(model, x, labels, epsilon=0.001, version="fast")
    assert ran(result)["Square"] <= math.ceil(0.1 * ran(result)["quick Auto-PGD T"])
    logits = model(x)
    gaps = margin(logits, labels)
    long = result.forward_passes > 2000
    assert 0 < int(long.sum()) <= 2 and gaps[long].min() > gaps[~long & ~result.success].median()


@pytest.mark.parametrize(("norm", "epsilon"), [("linf", 0.0003), ("l2", 0.003)])
def test_the_boundary_search_far_outside_the_ball_fells_nobody(norm, epsilon):
    model, x, labels = task(classes=5, n=20)
    result = autoattack(model, x, labels, epsilon=epsilon, norm=norm, version="fast")
    assert not result.success.any()
    assert ran(result) == {"quick Auto-PGD CE": 20, "quick Auto-PGD T": 20, "Auto-PGD T": 2, "FAB-T": 2, "Square": 2}
    # The same two: 100 gradients for each class in the long sweep and in the boundary search, and 3,000 queries.
    assert torch.equal(result.backward_passes > 800, result.forward_passes > 3000)


def test_what_falls_just_outside_the_ball_in_l1_is_attacked_in_full():
    model, x, labels = task(classes=5, n=20)
    nearly = auto_pgd(model, x, labels, epsilon=0.02, norm="l1").success
    assert int(nearly.sum()) == 1
    result = autoattack(model, x, labels, epsilon=0.01, norm="l1", version="fast")
    assert not result.success.any() and (result.backward_passes[nearly] > 800).all()


def test_how_close_a_sample_came_is_measured_at_its_label_and_inside_the_ball():
    model, x, predicted = task(classes=5, n=1)
    place, labels = torch.arange(1), (predicted + 2) % 5
    weight = model.weight.detach()
    towards = 0.01 * (weight[(labels + 1) % 5] - weight[labels]).sign().reshape(x.shape)

    def probe(scale):
        watch = Watch(1, get_norm("linf"), 0.01, Tally(), x.device)
        part = Part("probe", iter)

        def method():
            yield Ask(scale * towards)

        batch = Batch(x, labels, None, place)
        drive(watch.over(part, method(), place, measure=True), lambda ask: evaluate(model, Additive(), ask, batch)[0])
        return float(watch.closest)

    assert probe(1.0) == pytest.approx(float(margin(model(x + towards).detach(), labels)), abs=1e-5)
    assert probe(1.001) == -math.inf


def test_each_sample_that_is_a_batch_of_its_own_gets_all_parts():
    model, x, labels = task(classes=5, n=2)
    result = autoattack(model, x, labels, epsilon=0.0003, version="fast", batch_size=1)
    assert set(ran(result).values()) == {2} and list(ran(result))[2:] == ["Auto-PGD T", "FAB-T", "Square"]


def test_what_falls_but_not_once_rounded_still_stands_closest():
    model, x, _ = task(classes=5, n=400)
    x = (255 * x).round() / 255
    labels = model(x).argmax(1)
    gaps = margin(model(x), labels)
    order = gaps.argsort(descending=True)[[0, *range(200, 205)]]
    x, labels = x[order], labels[order]
    rival = model(x[:1]).topk(2).indices[:, 1]
    x[0] = (x[0] + 0.001 * (model.weight[rival] - model.weight[labels[:1]]).sign().reshape(SHAPE)).clamp(0, 1)
    assert model(x[:1]).argmax(1) != labels[0]
    result = autoattack(model, x, labels, epsilon=0.0005, version="fast", levels=256)
    assert not result.success.any() and ran(result)["Auto-PGD T"] == 1
    assert int(result.forward_passes[0]) > 2000


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_said_and_attacked_all_the_same(classes):
    model, x, labels = task(classes)
    result = autoattack(model, x, labels, epsilon=0.3, version="fast")
    assert result.success.all()
    assert any(f"The model has {classes} classes" in note for note in result.notes)
    assert f"The model has {classes} classes" in str(result)


def test_the_five_starts_in_l1_count_each_sample_once():
    model, x, labels = task(classes=5, n=4)
    result = autoattack(model, x, labels, epsilon=0.05, norm="l1")
    assert not result.success.any() and ran(result) == {"Auto-PGD CE": 4, "Auto-PGD T": 4, "FAB-T": 4}


class Rounding(torch.nn.Module):
    """A linear model of coarsely rounded images: no gradient, and much to find without one."""

    def __init__(self, classes):
        super().__init__()
        self.linear = LinearModel(SHAPE, classes=classes)

    def forward(self, x):
        return self.linear((x * 20).round() / 20) + 0 * x.flatten(1).sum(1, keepdim=True)


@pytest.mark.parametrize(("classes", "version"), [(2, "standard"), (3, "fast"), (5, "fast")])
def test_a_random_search_that_finds_more_than_the_gradients_is_said(classes, version):
    model, x = Rounding(classes), task(classes, n=20)[1] * 0.2 + 0.4
    labels = model(x).argmax(1)
    result = autoattack(model, x, labels, epsilon=0.02, version=version)
    (sentence,) = [note for note in result.notes if "random search" in note]
    felled, of = map(int, re.search(r"felled (\d+) of (\d+)", sentence).groups())
    assert 0 < felled <= of == ran(result)["Square"]
    spared = 0 if version == "standard" else result.robust_rate.successes - (of - felled)
    assert result.robust_rate.successes == of - felled + spared and (spared > 0) == (version == "fast")


def test_a_random_search_that_finds_nothing_more_is_not_mentioned():
    model, x, labels = task(classes=5, n=20)
    notes = autoattack(model, x, labels, epsilon=0.0003, version="fast").notes
    assert not any("random search" in note for note in notes)


def test_a_radius_at_which_nothing_was_left_has_its_line():
    model, x, labels = task(classes=5)
    result = autoattack(model, x, labels, epsilon=[0.3, 0.6], version="fast")
    assert result.at(0.3).success.all()
    assert result.notes[-1] == "At epsilon 0.6: nothing was left to attack; 0 of 8 samples stand in the end."


def test_several_radii_have_a_line_each():
    model, x, labels = task(classes=5)
    result = autoattack(model, x, labels, epsilon=[0.3, 0.002], version="fast")
    assert result.radii == (0.002, 0.3) and result.success.all() and not result.at(0.002).success.all()
    assert [note.split(":")[0] for note in result.notes] == ["At epsilon 0.002", "At epsilon 0.3"]


def test_what_hides_gradients_is_said():
    model, x, labels = task(classes=5, scale=1e4)
    notes = autoattack(model, x, labels, epsilon=1e-4, version="fast").notes
    assert any("gradient of zero" in note for note in notes)
    softmax = torch.nn.Sequential(task(classes=5)[0], torch.nn.Softmax(1))
    notes = autoattack(softmax, x, labels, epsilon=0.3, version="fast").notes
    assert any("look like probabilities" in note for note in notes)
    shaky = torch.nn.Sequential(task(classes=5)[0], torch.nn.Dropout())
    shaky[1].forward = lambda logits: logits + 0.1 * torch.randn_like(logits)
    notes = autoattack(shaky, x, labels, epsilon=0.3, version="fast").notes
    assert any("the model is random" in note for note in notes)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"version": "quick"}, "version='quick' is not known"),
        ({"restarts": 2}, "restarts came, but the protocol fixes it"),
        ({"targets": torch.tensor([0, 1])}, "targets came"),
        ({"stop": False}, "stop came"),
        ({"estimator": nes(5)}, "estimator came"),
        ({"x": None}, "The samples are a NoneType"),
        ({"x": np.zeros((1, *SHAPE), dtype=np.float32)}, "The samples are a ndarray"),
        ({"x": torch.rand(1, 3, 2, 2), "norm": "l2"}, "at least 3 x 3"),
        ({"norm": "l7"}, "norm='l7'"),
        ({"norm": "l0"}, "norm='l0' has no Auto-PGD"),
        ({"x": torch.rand(1, 90)}, "Squares need images"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(change, sentence):
    model, x, labels = task(classes=5, n=1)
    given = {"x": x, "epsilon": 0.1, **change}
    model.sent = 0
    with pytest.raises(InputError, match=sentence):
        autoattack(model, given.pop("x"), labels, **given)
    assert model.sent == 0


def test_what_the_protocol_does_anyway_can_be_said():
    model, x, labels = task(classes=5, n=2)
    said = autoattack(model, x, labels, epsilon=0.3, version="fast", stop=True, restarts=1, targets=None)
    assert said.success.all()


def test_a_method_on_some_rows_does_what_it_does_alone():
    model, x, labels = task(classes=5, n=6)
    rows, seen = torch.tensor([4, 1]), []

    def inner(x, perturbation, *, constants):
        p = perturbation.start(x)
        objective = untargeted(margin)
        for _ in range(3):
            answer = yield Ask(p, lambda view: constants[view.batch.rows] * objective(view), gradient=True)
            seen.append(answer.loss)
            p = perturbation.clip(x, p - 0.01 * answer.slope().sign())
        several = yield Ask(torch.stack([p, 0 * p], 1), objective, several=True)
        seen.append(several.loss)

    def whole(x, perturbation, *, generator):
        yield from on_rows(inner(x[rows], perturbation, constants=torch.tensor([2.0, 3.0])), rows, len(x))

    def alone(x, perturbation, *, generator):
        yield from inner(x, perturbation, constants=torch.tensor([2.0, 3.0]))

    go = partial(run, norm="linf", stop=False)
    nested = go(whole, model, x, labels)
    plain = go(alone, model, x[rows], labels[rows])
    for one, other in zip(seen[:4], seen[4:], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(nested.adversarial[rows], plain.adversarial)
    assert nested.forward_passes.tolist() == [1, 6, 1, 1, 6, 1]
