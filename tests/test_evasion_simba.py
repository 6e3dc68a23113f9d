"""SimBA: its bases, the walk along them, what it costs and finds."""

from functools import partial

import pytest
import torch
from torch import nn

from attacks.engine import Access
from attacks.errors import InputError
from attacks.evasion.simba import Basis, log_odds, simba, waves

SHAPES = [(8,), (4, 6), (3, 7, 5)]


class Linear(nn.Module):
    """Classes of flattened samples; keeps what is sent, and answers without gradients."""

    def __init__(self, shape, classes=2):
        super().__init__()
        size = torch.Size(shape).numel()
        self.weight = nn.Parameter(torch.randn(classes, size, generator=torch.Generator().manual_seed(0)))
        self.seen = []

    @torch.no_grad()
    def forward(self, x):
        self.seen.append(x)
        return (x - 0.5).flatten(1) @ self.weight.T


def planted(n, shape, classes=2):
    model = Linear(shape, classes)
    x = 0.5 + 0.1 * (torch.rand(n, *shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    labels = model(x).argmax(1)
    model.seen.clear()
    return model, x, labels


@pytest.mark.parametrize("share", [None, 1.0], ids=["pixel", "dct"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_basis_is_orthonormal_and_whole(shape, share):
    basis = Basis(torch.zeros(2, *shape), share)
    assert len(basis) == torch.Size(shape).numel()
    vectors = basis[torch.arange(len(basis))]
    assert vectors.shape == (len(basis), *shape)
    assert torch.allclose(vectors.flatten(1) @ vectors.flatten(1).T, torch.eye(len(basis)), atol=1e-5)
    if share is None:
        assert ((vectors != 0).flatten(1).sum(1) == 1).all()


def test_few_frequencies_are_the_lowest():
    basis = Basis(torch.zeros(1, 2, 8, 12), 0.25)
    assert len(basis) == 2 * 2 * 3
    vectors = basis[torch.arange(len(basis))]
    for plane in range(2):
        even = torch.zeros(2, 8, 12)
        even[plane] = 1 / 96**0.5
        assert torch.allclose(vectors[plane * 6], even, atol=1e-6)
    turns = [int((wave.sign().diff() != 0).sum()) for wave in waves(8, 8)]
    assert turns == list(range(8))  # each wave crosses zero once more than the one before
    assert len(Basis(torch.zeros(1, 3, 4, 4), 0.01)) == 3  # at least one


def test_the_default_loss_orders_points_as_the_probability_does_and_does_not_saturate():
    logits, classes = torch.randn(200, 5, generator=torch.Generator().manual_seed(0)), torch.full((200,), 3)
    probability = logits.double().softmax(1)[:, 3]
    assert torch.equal(log_odds(logits, classes).argsort(), probability.argsort(descending=True))
    sure = torch.tensor([[0.0, 30.0], [0.0, 29.0]])
    assert float(log_odds(sure, torch.tensor([1, 1])).diff()) == pytest.approx(1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_one_pass_over_the_entries_moves_each_of_them_where_it_should(n, shape):
    model, x, labels = planted(n, shape)
    size, step_size = torch.Size(shape).numel(), 1e-6
    result = simba(model, x, labels, basis="pixel", steps=size, step_size=step_size)
    weight = (model.weight[1] - model.weight[0]).detach()
    sign = torch.where(labels == 0, 1, -1)[:, None] * weight.sign()
    assert not result.success.any()
    # The last entry may have been tried the other way last: what counts is what was kept, seen in the next query.
    kept = simba(model, x, labels, basis="pixel", steps=size + 1, step_size=step_size)
    moved = (kept.adversarial - x).flatten(1).sign()
    assert ((moved != sign).sum(1) <= 1).all()  # the one entry tried once more
    downs = (sign < 0).sum(1)  # these cost a second query
    assert torch.equal(result.forward_passes, 1 + size + downs + 1)
    assert sum(map(len, model.seen)) == int(result.forward_passes.sum() + kept.forward_passes.sum())


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_the_way_is_as_short_as_promised_and_every_query_one_step_from_what_was_kept(basis):
    model, x, labels = planted(1, (2, 8, 8))
    result = simba(model, x, labels, basis=basis, steps=32, step_size=0.01, frequencies=1.0)
    assert float(result.distance) <= 0.01 * 32**0.5 + 1e-5
    seen = torch.cat(model.seen)
    base, lead = seen[0], []
    for point in seen[1:-1]:
        assert float((point - base).norm()) == pytest.approx(0.01, rel=1e-3)
        own, other = model.weight[labels[0]], model.weight[1 - labels[0]]
        gain = float(((point - base).flatten() @ (other - own)).detach())
        if gain > 0:
            base = point
        lead.append(gain)
    assert max(lead) > 0 > min(lead)


def test_directions_come_again_only_when_all_have_been_and_in_another_order():
    model = Linear((8,))
    model.weight.data = torch.stack([torch.zeros(8), torch.ones(8)])  # every step up helps, at a single query
    x, labels = torch.full((1, 8), 0.25), torch.tensor([0])
    result = simba(model, x, labels, basis="pixel", steps=24, step_size=0.01)
    assert int(result.forward_passes) == 1 + 24 + 1
    entries = torch.cat(model.seen[:-1]).diff(dim=0).abs().argmax(1)
    rounds = [entry.tolist() for entry in entries.split(8)]
    assert all(sorted(entry) == list(range(8)) for entry in rounds)
    assert rounds[0] != rounds[1] != rounds[2]


@pytest.mark.parametrize("basis", ["pixel", "dct"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_it_breaks_what_can_be_broken_inside_the_box(n, shape, basis):
    model, x, labels = planted(n, shape)
    result = simba(model, x, labels, basis=basis, steps=200, step_size=0.05, frequencies=1.0)
    assert result.success.all() and result.backward_passes.sum() == 0 and result.epsilon is None
    assert torch.equal(result.distance, (result.adversarial - x).flatten(1).norm(dim=1))
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert not simba(model, x, labels, basis=basis, steps=200, step_size=1e-6).success.any()


def test_what_is_wrong_already_costs_two_looks():
    model, x, labels = planted(3, (8,))
    labels[1] = 1 - labels[1]
    result = simba(model, x, labels, basis="pixel", steps=4, step_size=1e-5)
    assert int(result.forward_passes[1]) == 2 and float(result.distance[1]) == 0


@pytest.mark.parametrize("budget", [2, 3, 10, 200])
def test_the_budget_is_never_exceeded(budget):
    model, x, labels = planted(5, (3, 7, 5))
    result = simba(model, x, labels, steps=50, step_size=1e-5, budget=budget)
    assert (result.forward_passes <= budget).all()
    assert sum(map(len, model.seen)) == int(result.forward_passes.sum())
    access = Access(model, level="scores", budget=budget)
    simba(access, x, labels, steps=50, step_size=1e-5)
    assert access.queries <= budget


def test_same_seed_same_bits():
    model, x, labels = planted(4, (3, 7, 5))
    attack = partial(simba, model, x, labels, steps=20, step_size=0.01, frequencies=0.5)
    first, again, other = attack(seed=1), attack(seed=1), attack(seed=2)
    assert torch.equal(first.adversarial, again.adversarial)
    assert not torch.equal(first.adversarial, other.adversarial)


def test_it_reaches_targets():
    model, x, labels = planted(6, (3, 7, 5), classes=4)
    targets = (labels + 1) % 4
    result = simba(model, x, labels, basis="pixel", steps=300, step_size=0.1, targets=targets)
    assert result.success.all() and torch.equal(model(result.adversarial).argmax(1), targets)


def test_what_cannot_be_used_is_refused_with_a_sentence():
    model, x, labels = planted(2, (8,))
    attack = partial(simba, model, x, labels)
    with pytest.raises(InputError, match="basis='wavelet' is not known"):
        attack(basis="wavelet")
    with pytest.raises(InputError, match="steps=0 is too few"):
        attack(steps=0)
    for settings in ({"step_size": 0.0}, {"frequencies": 0.0}, {"frequencies": 1.5}, {"step_size": -1.0}):
        with pytest.raises(InputError, match=next(iter(settings))):
            attack(**settings)
    with pytest.raises(InputError, match="must be a torch.Tensor"):
        simba(model, x.numpy(), labels)


@pytest.mark.slow
def test_on_the_small_robust_network_low_frequencies_are_the_better_queries(attack_target):
    model, x, labels = attack_target
    attack = partial(simba, model, x[:64], labels[:64])
    waves, pixels = attack(steps=500), attack(basis="pixel", steps=500)
    assert waves.success_rate.value > 0.9 and float(waves.forward_passes.float().mean()) < 550
    assert pixels.success_rate.value < 0.3
