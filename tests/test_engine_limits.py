"""Budgets over several radii, levels that methods hear of, queries of asks cut short, settings of the wrong kind."""

import pytest
import torch
from torch import nn

import attacks
from attacks import Access, coordinate, nes
from attacks.engine import Ask, get_norm, run
from attacks.engine.testing import LinearModel
from attacks.errors import InputError


def task(classes=5, n=6, shape=(3, 8, 8)):
    model = LinearModel(shape, classes=classes)
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))
    return model, x, model(x).argmax(1)


def test_a_budget_is_shared_out_over_the_radii():
    model, x, labels = task()
    alone = attacks.square(model, x, labels, epsilon=0.1, steps=1000, budget=200)
    both = attacks.square(model, x, labels, epsilon=[0.002, 0.1], steps=1000, budget=200)
    assert alone.success.all() and both.at(0.1).success.all() and not both.at(0.002).success.any()
    assert (both.forward_passes <= 200).all()


def test_a_models_own_budget_that_ends_early_is_said():
    model, x, labels = task()
    result = attacks.square(Access(model, level="scores", budget=300), x, labels, epsilon=[0.002, 0.1], steps=1000)
    assert any("own budget ended" in note for note in result.notes)
    assert not attacks.square(model, x, labels, epsilon=0.1, steps=1000).notes


def test_with_levels_a_method_hears_whether_the_rounded_sample_succeeds():
    model, x = nn.Identity(), torch.tensor([[100.0, 99.0]]) / 255

    def until_it_holds(x, perturbation, *, generator):
        p = perturbation.start(x)
        for _ in range(20):  # tenths of a level: in floating point the fifth of them is enough
            p = p + torch.tensor([[-0.11, 0.11]]) / 255
            answer = yield Ask(p)
            if bool(answer.fooled.all()):
                return

    result = run(until_it_holds, model, x, torch.tensor([0]), norm="l2", levels=256, rank=get_norm("l2").size)
    assert result.success.all()
    assert torch.allclose(result.adversarial * 255, torch.tensor([[99.0, 100.0]]), atol=1e-4)
    plain = run(until_it_holds, model, x, torch.tensor([0]), norm="l2")
    assert int(result.forward_passes) > int(plain.forward_passes)


def test_queries_of_an_ask_that_a_budget_cut_short_are_counted():
    model, x = LinearModel((3, 8, 8), classes=5), torch.rand(200, 3, 8, 8)
    access = Access(model, level="scores", budget=10_000)
    result = attacks.pgd(access, x, model(x).argmax(1), epsilon=1e-3, estimator=nes(50), steps=5)
    assert int(result.queries.sum()) == access.queries > 9_000


def test_what_carries_a_gradient_is_attacked_without_it():
    model, x, labels = task()
    plain = attacks.pgd(model, x, labels, epsilon=0.02)
    carried = attacks.pgd(model, x.clone().requires_grad_(), labels, epsilon=0.02)
    assert torch.equal(plain.adversarial, carried.adversarial) and not carried.adversarial.requires_grad
    assert attacks.carlini_wagner(model, x.clone().requires_grad_(), labels, steps=3).adversarial.grad_fn is None


def test_silence_has_as_many_classes_as_the_model():
    model, x, _ = task(classes=7, n=3)
    heard = []

    def method(x, perturbation, *, generator):
        yield Ask(perturbation.start(x), probe=True)
        answer = yield Ask(perturbation.start(x), probe=True, wanted=torch.zeros(len(x), dtype=torch.bool))
        heard.append(answer.logits.shape)

    run(method, model, x, torch.zeros(3, dtype=torch.int64), norm="l2", stop=False)
    assert heard == [(3, 7)]


def test_only_what_moves_is_estimated():
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.full((4, 3, 4, 4), 0.5)
    with torch.no_grad():
        model[1].weight[:] = torch.tensor([[1.0], [-1.0]])
        model[1].bias[:] = torch.tensor([-22.0, 22.0])
    labels = torch.zeros(4, dtype=torch.int64)  # bright: what is darker by a twelfth is the other class
    access = Access(model, level="scores")
    settings = {"maps": ["brightness"], "search": "gradient", "steps": 5, "loss": attacks.margin}
    result = attacks.semantic(access, x, labels, estimator=coordinate(1), **settings)
    assert result.success.all() and (result.adversarial < x).all()
    assert (result.forward_passes <= 2 + 5 * 3 + 1).all()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"seed": None}, "seed=None is no whole number"),
        ({"seed": 0.5}, "seed=0.5 is no whole number"),
        ({"generator": 3}, "generator=3 is no torch.Generator"),
        ({"bounds": None}, "bounds=None cannot be used"),
        ({"bounds": 1.0}, "bounds=1.0 cannot be used"),
        ({"bounds": (0.0, float("inf"))}, "cannot be used: give the smallest"),
        ({"estimator": "nes"}, "estimator='nes' is none"),
        ({"loss": "dlr"}, "loss='dlr' cannot be called"),
    ],
)
def test_settings_of_the_wrong_kind_are_refused_with_a_sentence(settings, sentence):
    model, x, labels = task(n=1)
    with pytest.raises(InputError, match=sentence):
        attacks.pgd(model, x, labels, epsilon=0.1, **settings)


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_a_model_of_another_precision_is_said(kind):
    _, x, labels = task(n=2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 5)).to(kind)
    with pytest.raises(InputError, match=f"weights are {kind}.*model.float"):
        attacks.pgd(model, x, labels, epsilon=0.1)


def test_inference_mode_is_named():
    model, x, labels = task(n=1)
    with torch.inference_mode(), pytest.raises(InputError, match="inference_mode forbids gradients"):
        attacks.pgd(model, x.clone(), labels, epsilon=0.1)
