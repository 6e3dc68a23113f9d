"""ZOO and AutoZOOM: Adam entry by entry, what the attacks cost, and how small the changes are that they find."""

from functools import partial

import pytest
import torch
from torch import nn

from attacks.engine import Access, Additive
from attacks.engine.estimators import Upsampled
from attacks.errors import InputError
from attacks.evasion.autozoom import Decoded, autozoom
from attacks.evasion.zoo import entrywise_adam, zoo

SHAPES = [(8,), (4, 6), (3, 7, 7)]
FREE = Additive((-100.0, 100.0))


class Linear(nn.Module):
    """Classes of flattened samples; counts what is sent, and answers without gradients."""

    def __init__(self, shape, classes=2, smooth=None):
        super().__init__()
        weight = torch.randn(classes, *shape, generator=torch.Generator().manual_seed(0))
        if smooth is not None:
            weight = smooth(
                torch.randn(classes, shape[0], *smooth.size, generator=torch.Generator().manual_seed(0)), shape
            )
        self.weight = nn.Parameter(weight.flatten(1))
        self.sent = 0

    @torch.no_grad()
    def forward(self, x):
        self.sent += len(x)
        return (x - 0.5).flatten(1) @ self.weight.T


def planted(n, shape, classes=2, smooth=None):
    """A model, images that are well inside their class and the box, and their labels."""
    model = Linear(shape, classes, smooth)
    towards = model.weight.detach()[torch.arange(n) % classes].reshape(n, *shape)
    noise = torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) - 0.5
    x = 0.5 + 0.05 * towards / towards.abs().amax() + 0.1 * noise
    labels = model(x).argmax(1)
    model.sent = 0
    return model, x, labels


def shortest(model, x):
    weight = (model.weight[1] - model.weight[0]).detach()
    return ((x - 0.5).flatten(1) @ weight).abs() / weight.norm()


def test_where_every_entry_moves_the_steps_are_adams():
    start = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    slopes = torch.randn(10, 3, 5, generator=torch.Generator().manual_seed(1))
    w = start.clone().requires_grad_()
    reference, step = torch.optim.Adam([w], lr=0.1), entrywise_adam(start, FREE, start, 0.1)
    for slope in slopes:
        w.grad = slope.clone()
        reference.step()
        assert torch.allclose(step(slope), w.detach(), atol=1e-5)


def test_an_entry_that_is_not_looked_at_stays_and_its_clock_stands():
    start = torch.zeros(1, 2)
    step, alone = entrywise_adam(start, FREE, start, 0.1), entrywise_adam(start, FREE, start, 0.1)
    for slope in (1.0, -2.0, 3.0):
        before = step(torch.tensor([[slope, 0.0]]))
        after = step(torch.tensor([[0.0, slope]]))
        assert before[0, 0] == after[0, 0] and before[0, 1] != after[0, 1]
        both = alone(torch.tensor([[slope, slope]]))
        assert torch.allclose(both, after)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 3])
def test_zoo_comes_near_the_shortest_way_to_the_boundary(n, shape):
    model, x, labels = planted(n, shape)
    best = shortest(model, x)
    result = zoo(model, x, labels, steps=300, samples=20, step_size=0.01, initial_c=0.3, search_steps=3)
    assert result.success.all() and result.backward_passes.sum() == 0
    assert (result.distance >= best * (1 - 1e-3)).all()
    assert (result.distance <= best * 1.3 + 0.02).all()
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1


def test_autozoom_changes_smoothly_and_little():
    decoder, shape = Upsampled((3, 3)), (2, 9, 9)
    model, x, labels = planted(4, shape, smooth=decoder)
    best = shortest(model, x)
    settings = {"steps": 400, "samples": 8, "step_size": 0.005, "initial_c": 0.3, "search_steps": 3}
    result = autozoom(model, x, labels, decoder=decoder, **settings)
    assert result.success.all() and result.backward_passes.sum() == 0
    assert (result.distance >= best * (1 - 1e-3)).all() and (result.distance <= best * 1.4).all()
    basis = decoder(torch.eye(18).reshape(18, 2, 3, 3), shape).flatten(1)
    change = (result.adversarial - x).flatten(1)
    assert torch.allclose(change @ torch.linalg.pinv(basis) @ basis, change, atol=1e-4)


def test_decoded_changes_begin_at_the_samples_and_stay_in_the_box():
    change, x = Decoded(Upsampled((2, 2)), (0.0, 1.0)), torch.rand(3, 1, 5, 5)
    start = change.start(x)
    assert start.shape == (3, 1, 2, 2) and torch.equal(change(x, start), x)
    far = change(x, torch.full_like(start, 5.0))
    assert torch.equal(far, torch.ones_like(x)) and torch.equal(change.clip(x, far), far)


ATTACKS = {
    "zoo": (partial(zoo, samples=3), 2 * 3),
    "autozoom": (partial(autozoom, samples=2, decoder=Upsampled((2, 2))), 2),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_step_costs_its_point_and_its_probes_and_a_wrong_sample_nothing(name):
    attack, probes = ATTACKS[name]
    model, x, labels = planted(4, (3, 7, 7))
    labels[2] = 1 - labels[2]
    once = attack(model, x, labels, steps=1)
    assert once.forward_passes.tolist() == [probes + 3, probes + 3, 2, probes + 3]
    model.sent = 0
    result = attack(model, x, labels, steps=6, step_size=1e-6)  # gains too little to go on to the end
    steps, rest = (result.forward_passes - 2) // (probes + 1), (result.forward_passes - 2) % (probes + 1)
    assert not result.success[[0, 1, 3]].any() and not rest.any()
    assert (steps[[0, 1, 3]] >= 2).all() if name == "zoo" else (steps <= 6).all()
    assert model.sent == int(result.forward_passes.sum())


def test_zoo_goes_on_to_the_last_step_while_it_gains():
    model, x, labels = planted(3, (3, 7, 7))
    result = zoo(model, x, labels, steps=6, step_size=2e-3, samples=40)
    assert set(result.forward_passes.tolist()) == {1 + 6 * (1 + 80) + 1}


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("budget", [2, 3, 20, 300])
def test_the_budget_is_never_exceeded(name, budget):
    attack, _ = ATTACKS[name]
    model, x, labels = planted(4, (3, 7, 7))
    result = attack(model, x, labels, steps=30, budget=budget)
    assert (result.forward_passes <= budget).all() and model.sent == int(result.forward_passes.sum())
    access = Access(model, level="scores", budget=budget)
    attack(access, x, labels, steps=30)
    assert access.queries <= budget


@pytest.mark.parametrize("name", ATTACKS)
def test_same_seed_same_bits_and_stopping_early_saves_queries(name):
    attack, _ = ATTACKS[name]
    model, x, labels = planted(1, (3, 7, 7))
    run = partial(attack, model, x, labels, steps=100, step_size=0.05)
    first, again, other = run(seed=1), run(seed=1), run(seed=2)
    assert torch.equal(first.adversarial, again.adversarial)
    assert not torch.equal(first.adversarial, other.adversarial)
    early = run(seed=1, stop=True)
    assert early.success.all() and first.success.all()
    assert early.forward_passes.sum() < first.forward_passes.sum()
    assert (first.distance <= early.distance + 1e-6).all()


@pytest.mark.parametrize("name", ATTACKS)
def test_they_reach_targets(name):
    attack, _ = ATTACKS[name]
    model, x, labels = planted(4, (3, 7, 7), classes=3)
    targets = (labels + 1) % 3
    result = attack(model, x, labels, steps=300, step_size=0.05, targets=targets)
    assert result.success.all() and torch.equal(model(result.adversarial).argmax(1), targets)


@pytest.mark.parametrize("attack", [zoo, autozoom])
def test_what_cannot_be_used_is_refused_with_a_sentence(attack):
    model, x, labels = planted(2, (3, 7, 7))
    for name in ("steps", "search_steps", "samples"):
        with pytest.raises(InputError, match=f"{name}=0 is too few"):
            attack(model, x, labels, **{name: 0})
    for name in ("step_size", "initial_c", "spread"):
        with pytest.raises(InputError, match=f"{name}=-1"):
            attack(model, x, labels, **{name: -1})
    with pytest.raises(InputError, match="decodes images"):
        autozoom(model, x.flatten(1), labels)


@pytest.mark.slow
def test_on_the_small_robust_network_few_steps_of_zoo_fool_all_four(attack_target):
    model, x, labels = attack_target
    result = zoo(model, x[:4], labels[:4], steps=100, step_size=0.2, stop=True)
    assert result.success.all() and float(result.forward_passes.float().mean()) < 20_000


@pytest.mark.slow
def test_on_the_small_robust_network_zoo_as_it_comes_fools_all_four(attack_target):
    model, x, labels = attack_target
    result = zoo(model, x[:4], labels[:4])
    assert result.success.all() and float(result.distance.mean()) < 4.6


@pytest.mark.slow
def test_on_the_small_robust_network_autozoom_needs_hundreds_of_queries(attack_target):
    model, x, labels = attack_target
    result = autozoom(model, x[:32], labels[:32], stop=True)
    assert result.success.all() and float(result.forward_passes.float().mean()) < 700
