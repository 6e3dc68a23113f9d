"""No attack may fell a sample that a certificate holds: the linear bounds of Wong and Kolter, ICML 2018, computed here.

Each unstable ReLU lies between two parallel lines; what that leaves of the worst margin inside a ball is linear in the
input, so the dual norm gives its least value (Weng et al., "Towards fast computation of certified robustness for ReLU
networks", ICML 2018).
"""

from functools import partial

import pytest
import torch
from torch import nn

from attacks.evasion import auto_pgd, autoattack, deepfool, fab, fmn, pgd, square

BALLS = {"linf": lambda row: row.abs().flatten(1).sum(1), "l2": lambda row: row.flatten(1).norm(dim=1)}


def least(layers, relaxed, rows, x, epsilon, norm):
    """The least value of ``rows @ output of layers`` in the ball around one sample, for each row."""
    shapes, shape = [], x.shape
    for layer in layers:
        shapes.append(shape)
        shape = layer(torch.zeros(shape)).shape
    value, at = torch.zeros(len(rows)), rows.reshape(-1, *shape[1:])
    for layer, before in zip(reversed(layers), reversed(shapes), strict=True):
        if isinstance(layer, nn.ReLU):
            slope, above = relaxed[layer]
            value = value + (at.clamp_max(0) * above).flatten(1).sum(1)
            at = at * slope
            continue
        offset = layer(torch.zeros(before))
        value = value + (at * offset).flatten(1).sum(1)
        linear = partial(lambda layer, offset, inputs: layer(inputs) - offset, layer, offset)
        (at,) = torch.func.vjp(linear, torch.zeros(len(at), *before[1:]))[1](at)
    return value + (at * x).flatten(1).sum(1) - epsilon * BALLS[norm](at)


@torch.no_grad()
def certified(layers, x, label, epsilon, norm):
    """Whether the bounds prove that the label leads everywhere in the ball around one sample, shape ``[1, ...]``."""
    relaxed, below = {}, []
    for layer in layers:
        if isinstance(layer, nn.ReLU):
            units = nn.Sequential(*below)(x).numel()
            low = least(below, relaxed, torch.eye(units), x, epsilon, norm)
            high = -least(below, relaxed, -torch.eye(units), x, epsilon, norm)
            slope = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / (high - low)))
            shape = nn.Sequential(*below)(x).shape
            relaxed[layer] = slope.reshape(shape), (-slope * low.clamp_max(0)).reshape(shape)
        below.append(layer)
    others = torch.eye(10)[label] - torch.eye(10)[torch.arange(10) != label]
    return bool((least(below, relaxed, others, x, epsilon, norm) > 0).all())


def test_the_bounds_are_exact_on_a_linear_model_and_hold_on_a_deep_one():
    linear = nn.Linear(6, 10)
    x = torch.rand(1, 6)
    rows = torch.eye(10)
    worst = linear(x).squeeze(0) - 0.1 * linear.weight.abs().sum(1)
    assert torch.allclose(least([linear], {}, rows, x, 0.1, "linf"), worst, atol=1e-6)
    layers = [nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 10)]
    model = nn.Sequential(*layers)
    label = int(model(x).argmax())
    radii = [0.001 * 1.3**k for k in range(25)]
    held = [certified(layers, x, label, radius, "linf") for radius in radii]
    assert held[0] and not held[-1]
    reach = max(radius for radius, holds in zip(radii, held, strict=True) if holds)
    inside = x + reach * (2 * torch.rand(20000, 6) - 1)
    assert (model(inside).argmax(1) == label).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "epsilon", "norm"),
    [("wong_small_8px", 8 / 255, "linf"), ("oval_base_kw", 2 / 255, "linf"), ("wong_small_l2_36px", 36 / 255, "l2")],
)
def test_no_attack_goes_below_a_certified_bound(assets, tmp_path, name, epsilon, norm):
    from tasks.benchmarks.networks import load_network

    model, x, labels = load_network(name, 12, tmp_path)
    normalise = nn.Conv2d(3, 3, 1)
    normalise.weight.data = torch.diag(1 / model.std.flatten())[:, :, None, None]
    normalise.bias.data = (-model.mean / model.std).flatten()
    layers = [normalise, *model.network]
    sure = torch.tensor([certified(layers, x[i : i + 1], int(labels[i]), epsilon, norm) for i in range(len(x))])
    assert sure.any()
    fixed = [pgd, auto_pgd, partial(autoattack, version="fast"), partial(square, steps=300)]
    for attack in fixed:
        result = attack(model, x, labels, epsilon=epsilon, norm=norm)
        assert not (result.success & sure).any()

    for attack in (partial(fmn, norm=norm), partial(fab, norm=norm, steps=20), partial(deepfool, norm=norm)):
        result = attack(model, x, labels)
        assert (result.distance[result.success & sure] > epsilon).all()
