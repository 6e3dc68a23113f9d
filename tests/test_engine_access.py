"""What each level of access shows, and the hard budget."""

import pytest
import torch
from torch import nn

from attacks.engine import Access, weights_hash
from attacks.errors import BudgetError, InputError
from attacks.evasion import pgd

LEVELS = ["gradients", "scores", "top_k", "label"]


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.sent = 0

    def forward(self, x):
        self.sent += len(x)
        return x @ self.weight


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_gives_the_models_answer_and_counts_each_sample(level):
    model, x = Counting(), torch.rand(7, 6)
    access = Access(model, level=level, batch_size=3)
    assert torch.equal(access(x).argmax(1), (x @ model.weight).argmax(1))
    assert torch.equal(access.labels(x), (x @ model.weight).argmax(1))
    assert access.queries == model.sent == 14


def test_levels_show_less_and_less():
    model, x = Counting(), torch.rand(5, 6)
    logits = (x @ model.weight).detach()
    assert torch.equal(Access(model, level="gradients")(x).detach(), logits)
    assert Access(model, level="gradients")(x).requires_grad
    assert not Access(model, level="scores")(x).requires_grad
    best = Access(model, level="top_k", top_k=2)(x)
    assert torch.allclose(best.sum(1), torch.ones(5))
    assert torch.allclose(best.topk(2).values, logits.softmax(1).topk(2).values)
    assert all(len(row.unique()) == 3 for row in best)  # two shown, the other two alike
    assert torch.equal(Access(model, level="label")(x).sum(1), torch.ones(5))
    assert torch.allclose(Access(model, level="top_k", top_k=9)(x), logits.softmax(1))


def test_only_the_first_level_lets_a_white_box_attack_through():
    model, x, labels = Counting(), torch.rand(5, 6), torch.zeros(5, dtype=torch.int64)
    assert pgd(Access(model), x, labels, epsilon=0.1, steps=2).backward_passes.sum() > 0
    for level in LEVELS[1:]:
        with pytest.raises(InputError, match="outputs carry none"):
            pgd(Access(model, level=level), x, labels, epsilon=0.1, steps=2)


def test_nothing_is_sent_that_the_budget_does_not_cover():
    model = Counting()
    access = Access(model, level="label", budget=10)
    access(torch.rand(8, 6))
    with pytest.raises(BudgetError, match="3 more queries would make 11, but the budget is 10: nothing was sent"):
        access(torch.rand(3, 6))
    assert model.sent == access.queries == 8
    access(torch.rand(2, 6))
    assert model.sent == access.queries == 10


@pytest.mark.parametrize("wrong", [{"level": "none"}, {"top_k": 0}, {"batch_size": 0}, {"budget": -1}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(InputError):
        Access(Counting(), **wrong)


def test_answering_moves_no_statistics_and_leaves_the_modes():
    model = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 3)).train()
    before = weights_hash(model)
    access, x = Access(model, level="scores"), torch.rand(9, 6)
    assert torch.equal(access(x), access(x)) and weights_hash(model) == before
    assert model.training and model[0].training
