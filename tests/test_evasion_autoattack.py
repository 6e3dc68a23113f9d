"""AutoAttack: its order, its steps, what it says, and its fast version."""

import re
from functools import partial

import pytest
import torch

from attacks.engine import Ask, margin, on_rows, run, untargeted
from attacks.engine.testing import LinearModel
from attacks.errors import InputError
from attacks.evasion import auto_pgd_targeted, autoattack

SHAPE = (3, 5, 6)


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
    (line,) = [note for note in result.notes if "stand in the end" in note]
    names = re.findall(r"([A-Z][-A-Za-z ]+) on (\d+)", line)
    assert [name for name, _ in names] == ["Auto-PGD CE", "Auto-PGD T", "FAB-T", "Square"]
    counts = [int(count) for _, count in names]
    left = result.robust_rate.successes
    assert counts[0] == 6 and counts == sorted(counts, reverse=True) and 0 < left <= counts[-1] < 6
    standing = ~result.success
    # Diagnosis, clean look, 101 gradients, towards each of 4 classes 101, along each of 4 boundaries 100.
    assert set(result.backward_passes[standing].tolist()) == {1 + 101 + 4 * 101 + 4 * 100}
    # Above all 5000 queries of the random search; a targeted part looks at the clean sample once more.
    assert (result.forward_passes[standing] > 101 + 4 * 101 + 4 * 200 + 5000).all()
    assert int(result.forward_passes.sum()) == model.sent
    assert int(result.backward_passes.sum()) == model.differentiated
    assert (result.backward_passes[result.success] < 1 + 101 + 4 * 101).all()


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
    (line,) = [note for note in result.notes if "stand in the end" in note]
    parts = dict(re.findall(r"([a-zA-Z][-A-Za-z ]+) on (\d+)", line.split(":")[1]))
    left = int(parts[" quick Auto-PGD T"] if " quick Auto-PGD T" in parts else parts["quick Auto-PGD T"])
    assert int(parts["Square"]) <= -(-0.15 * left // 1)
    logits = model(x)
    gaps = margin(logits, labels)
    long = result.forward_passes > 2000
    assert 0 < int(long.sum()) <= 3 and gaps[long].min() > gaps[~long & ~result.success].median()


@pytest.mark.parametrize("classes", [2, 3])
def test_few_classes_are_said_and_attacked_all_the_same(classes):
    model, x, labels = task(classes)
    result = autoattack(model, x, labels, epsilon=0.3, version="fast")
    assert result.success.all()
    assert any(f"The model has {classes} classes" in note for note in result.notes)
    assert f"The model has {classes} classes" in str(result)


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
        ({"targets": torch.tensor([0])}, "targets came"),
        ({"norm": "l7"}, "norm='l7'"),
        ({"norm": "l0"}, "norm='l0' has no Auto-PGD"),
        ({"x": torch.rand(1, 90)}, "needs images"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(change, sentence):
    model, x, labels = task(classes=5, n=1)
    given = {"x": x, "epsilon": 0.1, **change}
    with pytest.raises(InputError, match=sentence):
        autoattack(model, given.pop("x"), labels, **given)


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
