"""What a method may ask beside one point of every sample: some rows, several points, several losses, other inputs."""

import pytest
import torch
from torch import nn

from attacks.engine import Access, Ask, cross_entropy, margin, run, untargeted
from attacks.engine.testing import LinearModel, near_the_middle
from attacks.errors import InputError
from attacks.evasion import pgd, universal_perturbation

X, LABELS = torch.rand(5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 0, 1])


class Counting(nn.Module):
    """A linear model that notes how many samples each call brings."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        torch.manual_seed(0)
        nn.init.normal_(self.layer.weight)
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        return self.layer(x)


def heard_by(asks, model=None, **options):
    """What a method that puts these asks hears."""
    model, answers = model or Counting(), []

    def method(x, perturbation, *, generator):
        for ask in asks:
            answers.append((yield ask))

    options = {"norm": "l2", "stop": False, **options}
    return answers, run(method, model, X, LABELS, **options), model


def test_rows_that_are_not_wanted_hear_zeros_and_cost_nothing():
    wanted = torch.tensor([True, False, True, False, False])
    asks = [Ask(torch.zeros_like(X), untargeted(cross_entropy), gradient=True, wanted=wanted)]
    (answer,), result, model = heard_by(asks)
    assert model.calls == [2, 5]  # the judgement is for all
    assert (answer.slope()[~wanted] == 0).all() and (answer.slope()[wanted] != 0).any(1).all()
    assert result.forward_passes.tolist() == [2, 1, 2, 1, 1] and result.backward_passes.tolist() == [1, 0, 1, 0, 0]


def test_an_ask_that_wants_no_open_row_hears_zeros_without_a_pass():
    asks = [Ask(torch.zeros_like(X), untargeted(cross_entropy), gradient=True, wanted=torch.zeros(5, dtype=torch.bool))]
    (answer,), _, model = heard_by(asks)
    assert model.calls == [5] and not answer.slope().any() and not answer.fooled.any()


def test_several_points_of_each_sample_are_answered_in_their_places_and_never_kept():
    points = torch.stack([torch.zeros_like(X), 0.1 * torch.ones_like(X), 5 * torch.ones_like(X)], dim=1)
    asks = [Ask(points, untargeted(margin), several=True)]
    (answer,), result, model = heard_by(asks)
    assert answer.logits.shape == (5, 3, 3) and answer.loss.shape == (5, 3)
    for j in range(3):
        logits = model.layer(X + points[:, j])
        assert torch.allclose(answer.logits[:, j], logits, atol=1e-6)
        assert torch.equal(answer.fooled[:, j], logits.argmax(1) != LABELS)
    assert set(result.forward_passes.tolist()) == {4} and torch.equal(result.adversarial, X)


def test_several_points_are_sent_in_pieces_of_the_batch_size():
    def method(x, perturbation, *, generator):
        yield Ask(torch.zeros(len(x), 7, 4), several=True)

    model = Counting()
    run(method, model, X, LABELS, norm="l2", batch_size=3)
    assert max(model.calls) <= 3


@pytest.mark.parametrize("budget", [3, 5, 20])
def test_several_points_never_exceed_the_budget(budget):
    _, result, _ = heard_by([Ask(torch.zeros(5, 3, 4), several=True)] * 4, budget=budget)
    assert (result.forward_passes <= budget).all()
    assert set(result.forward_passes.tolist()) == {1 + 3 * ((budget - 1) // 3 if budget < 13 else 4)}


def test_every_loss_of_a_sample_has_its_own_gradient():
    model = Counting()
    asks = [Ask(torch.zeros_like(X), lambda view: view.logits, gradient=True)]
    (answer,), result, _ = heard_by(asks, model)
    assert torch.allclose(answer.slope(), model.layer.weight.detach().expand(5, 3, 4))
    assert set(result.backward_passes.tolist()) == {3}


def test_a_transformed_ask_is_differentiated_through_and_never_a_candidate():
    model = Counting()
    asks = [Ask(torch.zeros_like(X), lambda view: view.logits[:, 0], gradient=True, through=lambda x: 2 * x)]
    (answer,), result, _ = heard_by(asks, model, stop=None)
    assert torch.allclose(answer.slope(), 2 * model.layer.weight[0].detach().expand(5, 4))
    assert torch.allclose(answer.logits, model.layer(2 * X))
    assert torch.equal(result.adversarial, X)


def test_one_run_answers_several_radii_and_no_sample_rises_again():
    model = Counting()
    labels = model(X).argmax(1)
    radii = [0.5, 0.02, 0.1]
    together = pgd(model, X, labels, epsilon=radii, steps=10)
    assert together.radii == (0.02, 0.1, 0.5) and together.epsilon == 0.5
    for radius in radii:
        alone = pgd(model, X, labels, epsilon=radius, steps=10)
        assert torch.equal(together.at(radius).success, alone.success)
        assert together.robust_rates[radius].successes == alone.robust_rate.successes
    assert together.success.any() and not together.at(0.02).success.all()
    # What fell in a small ball is not attacked again in a larger one.
    fell = together.at(0.02).success
    assert (together.backward_passes[fell] <= 10).all()
    with pytest.raises(InputError, match="was not tried"):
        together.at(0.3)


def test_a_model_whose_own_budget_runs_out_ends_the_run_with_what_was_found():
    model = Counting()
    labels = model(X).argmax(1)
    free = pgd(model, X, labels, epsilon=0.5, steps=20, random_start=False)
    assert free.success.all()
    for budget in (5, 10, 30, 44):
        access = Access(model, budget=budget)
        result = pgd(access, X, labels, epsilon=0.5, steps=20, random_start=False)
        assert access.queries <= budget
        assert int(result.forward_passes.sum()) == access.queries
        assert torch.equal(result.success, (model(result.adversarial).argmax(1) != labels) & result.success)
    assert not pgd(Access(model, budget=4), X, labels, epsilon=0.5).success.any()


@pytest.mark.parametrize("budget", range(5, 60, 6))
def test_a_spent_budget_ends_a_run_also_while_rounded_samples_are_looked_at(budget):
    model = Counting()
    labels = model(X).argmax(1)
    access = Access(model, budget=budget)
    result = pgd(access, X, labels, epsilon=0.5, steps=20, levels=256)
    assert access.queries <= budget and int(result.forward_passes.sum()) <= access.queries
    assert (~result.success | (model(result.adversarial).argmax(1) != labels)).all()


def test_an_attack_runs_where_the_caller_has_switched_gradients_off():
    model, x = LinearModel((4,)), near_the_middle(2, (4,))
    labels = model(x).argmax(1)
    with torch.no_grad():
        off = pgd(model, x, labels, epsilon=0.4)
        one_for_all = universal_perturbation(model, x, labels, epsilon=0.4)
    assert torch.equal(off.adversarial, pgd(model, x, labels, epsilon=0.4).adversarial) and off.success.all()
    assert one_for_all.backward_passes.all()
