"""Semantic attacks on models that one map is known to fool, and what they cost."""

from dataclasses import replace
from functools import partial
from math import pi

import pytest
import torch
from torch import nn

from attacks.engine import COMPONENTS, Semantic, shift_brightness
from attacks.errors import InputError
from attacks.evasion import semantic


class Looks(nn.Module):
    """Two classes, the second where ``feature(images)``, shape ``[n]``, is above 0; counts what is sent."""

    def __init__(self, feature):
        super().__init__()
        self.feature, self.sent = feature, 0

    def forward(self, x):
        self.sent += len(x)
        score = self.feature(x)
        return torch.stack([-score, score], dim=1)


def light(above):
    return Looks(lambda x: 9 * (x.flatten(1).mean(1) - above))


def plain(n, shape, value=0.4):
    return torch.full((n, *shape), value), torch.zeros(n, dtype=torch.int64)


@pytest.mark.parametrize("search", ["gradient", "grid"])
@pytest.mark.parametrize("shape", [(3, 4, 6), (1, 5, 3)])
def test_brightness_falls_exactly_where_its_interval_reaches(search, shape):
    x, labels = plain(3, shape)
    x = x * torch.tensor([1.0, 0.9, 1.1]).reshape(-1, 1, 1, 1)
    result = semantic(light(0.59), x, labels, maps=["brightness"], search=search)
    assert result.success.tolist() == [True, False, True]  # 0.6 and 0.64 pass 0.59, 0.56 does not
    assert result.epsilon is None
    assert result.norm == "l2"
    assert torch.allclose(result.distance, (result.adversarial - x).flatten(1).norm(dim=1))


RED = torch.tensor([0.6, 0.2, 0.2]).reshape(1, 3, 1, 1).expand(1, 3, 9, 9)
BAR = torch.zeros(1, 3, 9, 41)
BAR[:, :, 4] = 1
EDGE = torch.full((1, 3, 9, 9), 0.8)
EDGE[:, :, :, 5:] = 0.4
PLANTED = {
    "hue": (RED, lambda x: x[:, 1, 4, 4] - x[:, 0, 4, 4], ("saturation", "rotation", "brightness", "contrast")),
    "saturation": (RED, lambda x: 1 - x[:, 1, 4, 4] / x[:, 0, 4, 4] - 0.75, ("hue", "rotation", "contrast")),
    "rotation": (BAR, lambda x: 0.5 - x[:, 0, 4, -1], ("hue", "saturation", "brightness", "contrast")),
    "brightness": (RED, lambda x: x.amin((1, 2, 3)) - 0.3, ("hue", "rotation", "contrast")),
    "contrast": (EDGE, lambda x: x[:, 0, 4, 2] - x[:, 0, 4, 7] - 0.45, ("hue", "saturation", "rotation", "brightness")),
}


@pytest.mark.parametrize("name", PLANTED)
def test_each_map_finds_what_others_cannot(name):
    x, feature, others = PLANTED[name]
    attack = partial(semantic, Looks(feature), x, torch.tensor([0]), steps=9)
    assert attack(maps=[name]).success
    assert not attack(maps=others).success
    assert attack(maps=[*others, name]).success


@pytest.mark.parametrize("search", ["gradient", "grid"])
def test_passes_are_counted_exactly(search):
    x, labels = plain(2, (3, 4, 4))
    model = light(0.99)
    result = semantic(model, x, labels, maps=["brightness", "contrast", "rotation"], steps=4, search=search)
    asked = 3 * (5 if search == "gradient" else 4)
    assert result.forward_passes.tolist() == [1 + asked + 1] * 2
    assert result.backward_passes.tolist() == [12 if search == "gradient" else 0] * 2
    assert model.sent == int(result.forward_passes.sum())
    assert not result.success.any()
    cheap = semantic(model, x, labels, steps=4, search=search, budget=6)
    assert cheap.forward_passes.tolist() == [6, 6]


def test_what_fell_to_one_map_is_left_alone_by_the_next():
    x, labels = plain(2, (3, 4, 4))
    x[1] = 0.9
    labels[1] = 1
    result = semantic(light(0.45), x, labels, maps=["brightness", "contrast"], steps=5)
    assert result.success.tolist() == [True, False]
    assert result.forward_passes.tolist() == [6, 12]  # the fourth of five numbers, 0.1, is the first beyond 0.45


def test_the_grid_needs_no_gradient_and_sees_each_sample_alone():
    x = torch.rand(5, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3))
    labels = model(x).argmax(1)
    with torch.inference_mode():
        together = semantic(model, x, labels)
    alone = [semantic(model, x[i : i + 1], labels[i : i + 1]) for i in range(5)]
    assert torch.equal(together.success, torch.cat([one.success for one in alone]))
    assert torch.allclose(together.adversarial, torch.cat([one.adversarial for one in alone]), atol=1e-6)


@pytest.mark.parametrize("search", ["gradient", "grid"])
def test_the_same_seed_gives_the_same_bits(search):
    x = torch.rand(4, 3, 7, 5, generator=torch.Generator().manual_seed(0))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(60, 4))
    labels = model(x).argmax(1)
    one, other, third = (semantic(model, x, labels, search=search, seed=seed, stop=False) for seed in (1, 1, 2))
    assert torch.equal(one.adversarial, other.adversarial)
    assert search == "grid" or not torch.equal(one.adversarial, third.adversarial)
    low, high = one.adversarial.aminmax()
    assert low >= 0
    assert high <= 1


@pytest.mark.parametrize("search", ["gradient", "grid"])
def test_targets_are_reached_or_it_is_no_success(search):
    x, labels = plain(2, (3, 3, 3))
    model = Looks(lambda x: 9 * (x[:, 0].mean((1, 2)) - x[:, 1].mean((1, 2))) - 0.01)
    x[0, 0] += 0.2
    labels[0] = 1
    again = (
        {} if search == "grid" else {"restarts": 5}
    )  # where blue is on top, red and green may not change with the hue
    result = semantic(model, x, labels, maps=["hue"], targets=1 - labels, search=search, **again)
    assert result.success.tolist() == [True, False]  # the gray image has no hue to turn
    assert (model(result.adversarial).argmax(1) == 1 - labels).tolist() == [True, False]


def test_intervals_and_maps_may_be_ones_own():
    x, labels = plain(1, (1, 3, 3))
    wide = replace(COMPONENTS["brightness"], interval=(-0.2, 0.5))
    assert not semantic(light(0.7), x, labels, maps=["brightness"]).success
    assert semantic(light(0.7), x, labels, maps=[wide]).success
    half = Semantic("half", lambda images, p: shift_brightness(images, p / 2), (0.0, 1.0), 0.0)
    assert semantic(light(0.7), x, labels, maps=[half], search="gradient").success


def test_hue_covers_the_whole_circle_from_end_to_end():
    assert COMPONENTS["hue"].interval == (-pi, pi)


def test_wrong_settings_are_refused_with_a_sentence():
    x, labels = plain(1, (1, 3, 3))
    model = light(0.5)
    for settings, sentence in (
        ({"maps": ["hue"]}, "three channels red, green and blue, but these have 1"),
        ({"maps": ["linf"]}, "'linf' moves more than one number"),
        ({"maps": ["blur"]}, "at least one of 'hue'"),
        ({"maps": ["contrast"], "search": "random"}, "search='random' is not known"),
        ({"maps": ["contrast"], "steps": 0}, "steps=0 is too few"),
        ({"maps": ["contrast"], "restarts": 2}, "would repeat the same grid"),
        ({"maps": ["contrast"], "bounds": (-1.0, 1.0)}, "changed in \\[0, 1\\]"),
    ):
        with pytest.raises(InputError, match=sentence):
            semantic(model, x, labels, **settings)
    with pytest.raises(InputError, match="changes images of shape"):
        semantic(nn.Identity(), torch.rand(2, 4), torch.zeros(2, dtype=torch.int64), maps=["contrast"])


@pytest.mark.slow
def test_the_grid_is_no_weaker_than_the_gradient_on_a_robust_network(attack_target):
    for name in ("rotation", "brightness", "contrast"):
        grid, gradient = (semantic(*attack_target, maps=[name], search=search) for search in ("grid", "gradient"))
        assert grid.success_rate.value >= gradient.success_rate.value
        assert grid.backward_passes.sum() == 0
    assert semantic(*attack_target, maps=["hue", "saturation"]).success_rate.value == 0  # these digits are gray
