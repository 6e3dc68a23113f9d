"""Universal perturbations, by gradients and by DeepFool, where the best one is known."""

import pytest
import torch
from torch import nn

from attacks.engine import Universal
from attacks.engine.testing import LinearModel, near_the_middle
from attacks.errors import InputError
from attacks.evasion import universal_deepfool, universal_perturbation

ATTACKS = [universal_perturbation, universal_deepfool]


def one_sided(n=40, shape=(3, 4, 4)):
    """Samples of one class, the model, and how far each is from the other class in l-inf and in l2."""
    model, x = LinearModel(shape), near_the_middle(4 * n, shape)
    x = x[model(x).argmax(1) == 0][:n]
    labels = torch.zeros(len(x), dtype=torch.int64)
    return model, x, labels


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_on_a_linear_model_all_within_the_radius_fall_and_no_others(attack, norm):
    model, x, labels = one_sided()
    needed = model.nearest(x, labels, norm)
    epsilon = float(needed.median()) * 1.0001
    enough = {"enough": 1.0} if attack is universal_deepfool else {"epochs": 40}
    result = attack(model, x, labels, epsilon=epsilon, norm=norm, **enough)
    clear = (needed - epsilon).abs() > 0.03 * epsilon
    assert torch.equal(result.success[clear], (needed < epsilon)[clear])
    assert result.shared.shape == (1, *x.shape[1:])
    assert (result.distance <= epsilon * (1 + 1e-5)).all()
    assert torch.equal(result.adversarial, Universal()(x, result.shared))
    assert torch.equal(result.success, model(result.adversarial).argmax(1) != labels)


@pytest.mark.parametrize("attack", ATTACKS)
def test_passes_are_those_that_the_model_saw(attack):
    model, x, labels = one_sided(n=10)
    model.sent = model.differentiated = 0
    result = attack(model, x, labels, epsilon=0.05, epochs=3, batch_size=4)
    assert int(result.forward_passes.sum()) == model.sent
    assert int(result.backward_passes.sum()) == model.differentiated
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("shape", [(8,), (1, 5, 7), (3, 4, 4)])
def test_the_same_seed_gives_the_same_bits_for_any_shape_and_one_sample(attack, shape):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(12), nn.Tanh(), nn.Linear(12, 4))
    x = torch.rand(9, *shape, generator=torch.Generator().manual_seed(0))
    labels = model(x).argmax(1)
    one, again = (attack(model, x, labels, epsilon=0.2, batch_size=2, seed=3) for _ in range(2))
    drawn = attack(model, x, labels, epsilon=0.2, batch_size=2, generator=torch.Generator().manual_seed(3))
    assert torch.equal(one.shared, again.shared)
    assert torch.equal(one.shared, drawn.shared)
    alone = attack(model, x[:1], labels[:1], epsilon=0.5)
    assert alone.adversarial.shape == (1, *shape)
    low, high = one.adversarial.aminmax()
    assert low >= 0
    assert high <= 1


def test_deepfool_stops_once_enough_are_fooled():
    model, x, labels = one_sided()
    needed = model.nearest(x, labels, "linf")
    epsilon = float(needed.max()) * 1.2
    settings = {"epsilon": epsilon, "norm": "linf", "batch_size": 8}
    some, all_ = (universal_deepfool(model, x, labels, enough=enough, **settings) for enough in (0.2, 1.0))
    assert some.success_rate.value >= 0.2
    assert all_.success.all()
    assert some.forward_passes.sum() <= all_.forward_passes.sum()
    nothing = universal_deepfool(model, x, labels, epsilon=0.0, epochs=2)
    assert not nothing.success.any()
    assert (nothing.distance == 0).all()


@pytest.mark.parametrize("attack", ATTACKS)
def test_wrong_settings_are_refused_with_a_sentence(attack):
    model, x, labels = one_sided(n=3)
    for settings, sentence in (
        ({"epsilon": -1.0}, "epsilon=-1"),
        ({"epsilon": 0.1, "norm": "l1"}, "norm='l1' does not suit"),
        ({"epsilon": 0.1, "epochs": 0}, "epochs=0 is too few"),
        ({"epsilon": 0.1, "batch_size": 0}, "batch_size=0 is too few"),
        ({"epsilon": 0.1, "bounds": (0.9, 1.0)}, "must lie in \\[0.9, 1\\]"),
    ):
        with pytest.raises(InputError, match=sentence):
            attack(model, x, labels, **settings)
    with pytest.raises(InputError, match="the model has 2 classes"):
        attack(model, x, labels + 2, epsilon=0.1)


def test_targets_are_reached_or_it_is_no_success():
    model = LinearModel((6,), classes=4)
    x = near_the_middle(30, (6,))
    labels = model(x).argmax(1)
    x, labels = x[labels != 2], labels[labels != 2]
    result = universal_perturbation(model, x, labels, targets=torch.full_like(labels, 2), epsilon=0.4, epochs=20)
    assert torch.equal(result.success, model(result.adversarial).argmax(1) == 2)
    assert result.success_rate.value > 0.9


@pytest.mark.slow
def test_gradients_find_more_than_deepfool_on_a_robust_network(attack_target):
    model, x, labels = attack_target
    half = len(x) // 2
    by_gradient = universal_perturbation(model, x[:half], labels[:half], epsilon=0.3)
    by_deepfool = universal_deepfool(model, x[:half], labels[:half], epsilon=0.3)
    with torch.no_grad():
        held = [
            float((model(Universal()(x[half:], one.shared)).argmax(1) != labels[half:]).float().mean())
            for one in (by_gradient, by_deepfool)
        ]
    assert held[0] > 0.4
    assert held[0] > held[1]
    assert held[1] > 0.02  # clean error is 0
