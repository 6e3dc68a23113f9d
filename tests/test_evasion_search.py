"""What Carlini-Wagner, EAD and ZOO share: the search for a constant, the shortfall, the end of an attempt."""

import pytest
import torch
from torch import nn

from attacks.engine import Additive, Ask, Batch, drive, evaluate
from attacks.errors import InputError
from attacks.evasion.search import Review, Shortfall, check_search, search_constant, standing


def constants_tried(needed, *, first, steps):
    """The constants that a search tries when an attempt succeeds from ``needed`` on; no model is asked."""
    tried = []

    def attempt(constant):
        tried.append(constant.tolist())
        yield from ()
        return constant >= needed

    drive(search_constant(attempt, torch.full_like(needed, first), steps=steps), lambda ask: None)
    return list(zip(*tried, strict=True))


def test_a_constant_grows_tenfold_until_it_works_and_is_bisected_then():
    early, late = constants_tried(torch.tensor([0.3, 25.0]), first=1.0, steps=5)
    assert early == (1.0, 0.5, 0.25, 0.375, 0.3125)
    assert late == (1.0, 10.0, 100.0, 55.0, 32.5)


def test_the_last_of_ten_attempts_takes_the_smallest_constant_that_worked():
    found, never = constants_tried(torch.tensor([0.3, 1e30]), first=1.0, steps=10)
    assert found[-1] == min(c for c in found if c >= 0.3)
    assert never == pytest.approx([10.0**i for i in range(10)])


@pytest.mark.parametrize("targets", [None, torch.tensor([1, 1, 1])])
def test_the_shortfall_is_what_the_margin_lacks_of_the_confidence(targets):
    x = torch.tensor([[0.75, 0.25], [0.5, 0.25], [0.25, 0.5]])
    short, batch = Shortfall(targets, 0.125, x), Batch(x, torch.zeros(3, dtype=torch.int64), targets, torch.arange(3))
    asks = []

    def answer(ask):
        asks.append(ask)
        return evaluate(nn.Identity(), Additive(), ask, batch)[0]

    heard, reached = drive(short.put(Ask(torch.zeros_like(x), short)), answer)
    assert heard.loss.tolist() == [0.625, 0.375, 0.0] and reached.tolist() == [False, False, True]
    # With a confidence the first look is a probe; who has it is looked at again, as a candidate.
    assert [ask.is_probe for ask in asks] == [True, False] and asks[1].wanted.tolist() == [False, False, True]


def test_an_attempt_ends_for_samples_whose_loss_no_longer_falls():
    review = Review(torch.tensor([True, True, True, False]), steps=30)
    losses = torch.tensor([[9.0, 9.0, 9.0, 9.0], [8.0, 8.9995, 9.0, 1.0], [7.0, 1.0, 8.0, 1.0], [7.0, 7.0, 8.0, 0.0]])
    over = [review.over(i, losses[i // 3], stay=torch.tensor([False, False, True, True])) for i in range(9)]
    assert not any(over) and review.wanted.tolist() == [True, False, True, False]
    assert review.over(9, losses[3]) is True  # without leave to stay these are out as well
    assert Review(torch.zeros(2, dtype=torch.bool), steps=5).over(0, torch.zeros(2))


def test_what_stands_is_asked_about_only_without_a_confidence():
    x = torch.tensor([[0.75, 0.25], [0.25, 0.5]])
    batch = Batch(x, torch.tensor([0, 0]), None, torch.arange(2))

    def answer(ask):
        return evaluate(nn.Identity(), Additive(), ask, batch)[0]

    assert drive(standing(torch.zeros_like(x)), answer).tolist() == [True, False]
    assert drive(standing(torch.zeros_like(x), 0.5), lambda ask: pytest.fail("asked")).tolist() == [True, True]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps=0"),
        ({"search_steps": 0}, "search_steps=0"),
        ({"initial_c": 0.0}, "initial_c=0 would stay"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        check_search(**{"search_steps": 1, "steps": 1, "step_size": 0.1, "initial_c": 0.1} | settings)
