"""Losses against their definitions, in both directions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attacks.engine import (
    Batch,
    View,
    away_or_towards,
    cross_entropy,
    dlr,
    margin,
    missed_or_hit,
    targeted,
    untargeted,
)
from attacks.errors import InputError


def view(logits, labels, targets=None):
    x = torch.zeros(len(logits), 1)
    return View(logits, x, x, Batch(x, labels, targets, torch.arange(len(logits))))


@given(classes=st.integers(3, 12), seed=st.integers(0, 100))
@settings(deadline=None, max_examples=50)
def test_margin_and_dlr_are_negative_exactly_where_the_class_wins(classes, seed):
    logits = torch.randn(20, classes, generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(20) % classes
    wins = logits.argmax(1) == labels
    assert torch.equal(margin(logits, labels) < 0, wins)
    assert torch.equal(dlr(logits, labels) < 0, wins)
    # DLR does not move when logits are scaled and shifted (Croce and Hein 2020); the margin scales.
    assert torch.allclose(dlr(5 * logits + 3, labels), dlr(logits, labels), atol=1e-4)
    assert torch.allclose(margin(5 * logits + 3, labels), 5 * margin(logits, labels), atol=1e-4)


def test_dlr_of_a_row_by_hand():
    # z = (4, 1, 3, 0): class 1 has margin 4 - 1 = 3, over 4 - 1 (first to third).
    logits = torch.tensor([[4.0, 1.0, 3.0, 0.0]])
    assert float(dlr(logits, torch.tensor([1]))) == pytest.approx(1.0)
    assert float(dlr(logits, torch.tensor([0]))) == pytest.approx(-1 / 3)


def test_dlr_with_two_classes_is_refused():
    with pytest.raises(InputError, match="at least 3 classes, but the model has 2"):
        dlr(torch.zeros(1, 2), torch.tensor([0]))


def test_untargeted_turns_the_loss_and_targeted_reads_the_targets():
    logits, labels, targets = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1, 2, 3, 0, 1])
    assert torch.equal(untargeted(cross_entropy)(view(logits, labels)), -cross_entropy(logits, labels))
    assert torch.equal(targeted(margin)(view(logits, labels, targets)), margin(logits, targets))
    assert torch.equal(away_or_towards(margin, targets)(view(logits, labels, targets)), margin(logits, targets))
    assert torch.equal(away_or_towards(margin, None)(view(logits, labels)), -margin(logits, labels))
    with pytest.raises(InputError, match="without targets"):
        targeted(margin)(view(logits, labels))


def test_the_goal_is_a_missed_label_or_a_hit_target():
    logits = torch.eye(3)
    labels, targets = torch.tensor([0, 0, 0]), torch.tensor([1, 1, 1])
    assert missed_or_hit(logits, labels, None).tolist() == [False, True, True]
    assert missed_or_hit(logits, labels, targets).tolist() == [False, True, False]
