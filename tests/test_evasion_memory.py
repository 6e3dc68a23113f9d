"""What an attack keeps in memory grows with its batch, not with its steps."""

import gc
import inspect
from functools import partial

import pytest
import torch
from torch import Tensor

import attacks
from attacks.engine import Ask
from attacks.engine.testing import LinearModel

STEPPED = [
    name
    for name in attacks.__all__
    if inspect.isfunction(attack := getattr(attacks, name))
    and list(inspect.signature(attack).parameters)[:3] == ["model", "x", "labels"]
    and "steps" in inspect.signature(attack).parameters
]


class Watched(LinearModel):
    """Notes how many entries all tensors have that are alive at every so many calls."""

    def __init__(self, shape, every):
        super().__init__(shape, classes=5)
        self.every, self.calls, self.most = every, 0, 0

    def forward(self, x):
        self.calls += 1
        if self.calls % self.every == 0:
            alive = {thing.data_ptr(): thing.numel() for thing in gc.get_objects() if issubclass(type(thing), Tensor)}
            self.most = max(self.most, sum(alive.values()))
        return super().forward(x)


def most_alive(attack, steps):
    """The most entries alive while an attack that finds nothing takes so many steps."""
    shape = (3, 12, 12)
    x = 0.5 + 0.2 * torch.rand(8, *shape, generator=torch.Generator().manual_seed(0))
    model = Watched(shape, every=steps // 5)
    with torch.no_grad():
        labels = LinearModel(shape, classes=5)(x).argmax(1)
    attack(model, x, labels, steps=steps)
    gc.collect()
    return model.most, x.numel()


@pytest.mark.parametrize("name", STEPPED)
def test_more_steps_need_no_more_memory(name):
    attack = getattr(attacks, name)
    if "epsilon" in inspect.signature(attack).parameters:
        attack = partial(attack, epsilon=1e-4)
    # Once ZOO has left some samples alone, the probes of the others are spread out, which takes a copy: not by steps.
    few, many = (50, 100) if name == "zoo" else (5, 50)
    (least, size), (most, _) = most_alive(attack, few), most_alive(attack, many)
    assert most <= least + (40 if name == "zoo" else 2) * size


def test_an_attack_that_keeps_its_steps_is_seen():
    def hoarding(x, perturbation, *, generator, steps):
        points = [perturbation.start(x)]
        for _ in range(steps):
            points.append(points[-1] + 1e-6)
            yield Ask(points[-1])

    def attack(model, x, labels, *, steps):
        return attacks.run(partial(hoarding, steps=steps), model, x, labels, norm="linf")

    (few, size), (many, _) = most_alive(attack, 5), most_alive(attack, 50)
    assert many > few + 20 * size
