"""Few changed entries: saliency pairs against a search of all pairs, sigma-zero against the greedy optimum."""

from functools import partial
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attacks.engine.testing import LinearModel, check_attack
from attacks.errors import InputError
from attacks.evasion import jsma, sigma_zero
from attacks.evasion.jsma import best_pair


def best_of_all_pairs(gains, drops):
    scores = [max(float(gains[i] + gains[j]), 0) * max(float(drops[i] + drops[j]), 0) for i, j in pairs_of(len(gains))]
    return max(scores)


def pairs_of(entries):
    return combinations(range(entries), 2)


@given(seed=st.integers(0, 10_000), link=st.sampled_from([-1.0, -0.5, 0.0, 0.9]), levels=st.sampled_from([3, 1000]))
@settings(deadline=None, max_examples=80)
def test_the_best_pair_is_the_best_of_all(seed, link, levels):
    draws = torch.Generator().manual_seed(seed)
    gains = torch.randn(4, 12, generator=draws)
    drops = link * gains + torch.randn(4, 12, generator=draws)
    gains, drops = ((values * levels / 3).round() * 3 / levels for values in (gains, drops))  # with ties
    blocked = torch.rand(4, 12, generator=draws) < 0.3
    gains, drops = gains.masked_fill(blocked, -torch.inf), drops.masked_fill(blocked, -torch.inf)
    pair, helps = best_pair(gains, drops)
    for row in range(4):
        best = best_of_all_pairs(gains[row], drops[row])
        assert bool(helps[row]) == (best > 0)
        if best > 0:
            assert pair[row, 0] != pair[row, 1]
            found = gains[row, pair[row]].sum() * drops[row, pair[row]].sum()
            assert float(found) == pytest.approx(best, rel=1e-5)


def test_an_image_is_searched_exactly_in_little_memory():
    draws = torch.Generator().manual_seed(0)
    gains = torch.randn(1, 150_528, generator=draws)
    pair, helps = best_pair(gains, -0.8 * gains + 0.6 * torch.randn(1, 150_528, generator=draws))
    assert helps.all() and pair[0, 0] < pair[0, 1]


def planted():
    """Class 1 gains by entries 0 to 3, the first two most; class 0 loses by them."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    weight = torch.tensor([[3.0, 2.0, 1.0, 1.0, -1.0, 0.0]])
    model[1].weight.data.copy_(torch.cat([-weight, weight]))
    model[1].bias.data.copy_(torch.tensor([8.0, 0.0]))
    return model


def test_saliency_moves_the_pairs_that_help_most_to_the_edge():
    x, labels = torch.full((1, 2, 3), 0.25), torch.tensor([0])
    result = jsma(planted(), x, labels, share=1.0)
    assert result.success.all()
    assert result.adversarial.flatten().tolist() == [1.0, 1.0, 0.25, 0.25, 0.25, 0.25]
    # The clean sample, the gradients' point, the next one, which succeeds, and the judgement.
    assert result.forward_passes.tolist() == [4]
    half = jsma(planted(), x, labels, share=1.0, step_size=0.5)
    assert half.success.all() and half.adversarial.flatten().tolist() == [1.0, 1.0, 0.25, 0.25, 0.25, 0.25]


def test_no_more_entries_are_moved_than_allowed():
    x, labels = torch.zeros(1, 2, 3), torch.tensor([0])
    assert planted()(torch.ones(1, 2, 3)).argmax(1).item() == 1
    model = planted()
    model[1].bias.data[0] = 12.5  # four entries are needed
    assert jsma(model, x, labels, share=1.0).distance.tolist() == [4.0]
    result = jsma(model, x, labels, share=0.4)
    assert not result.success.any() and result.distance.tolist() == [2.0]


def test_a_sample_without_a_pair_that_helps_costs_nothing_more():
    model = planted()
    model[1].bias.data[0] = 100.0
    x, labels = torch.zeros(2, 2, 3), torch.tensor([0, 0])
    x[1] = 1.0  # nothing can be moved up
    result = jsma(model, x, labels, share=1.0)
    assert not result.success.any()
    # Two pairs, and the look that finds no third; of the other sample only that look. Two classes take one gradient.
    assert result.backward_passes.tolist() == [3, 1]
    assert torch.equal(result.adversarial[1], x[1])


def test_entries_may_move_down_instead_and_targets_are_reached():
    draws = torch.Generator().manual_seed(3)
    model, x = LinearModel((3, 7, 7), classes=5), torch.rand(8, 3, 7, 7, generator=draws)
    labels = model(x).argmax(1)
    for step_size, sign in ((1.0, 1), (-1.0, -1)):
        result = jsma(model, x, labels, step_size=step_size, share=1.0)
        assert result.success.any() and ((result.adversarial - x) * sign >= 0).all()
    targets = (labels + 2) % 5
    result = jsma(model, x, labels, targets=targets, share=1.0)
    assert result.success.any()
    assert torch.equal(model(result.adversarial).argmax(1)[result.success], targets[result.success])


def test_labels_are_the_true_classes_and_never_targets():
    weight = torch.tensor([[2.0, -1.0, -1.0, 0.0], [0.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    model = nn.Linear(4, 3, bias=False)
    model.weight.data.copy_(weight)
    x, labels = torch.tensor([[0.625, 0.25, 0.25, 0.25]]), torch.tensor([0])  # class 1 is the likeliest other one
    result = jsma(model, x, labels, share=1.0)
    assert result.success.all() and result.adversarial.tolist() == [[0.625, 1.0, 1.0, 0.25]]
    assert torch.equal(result.adversarial, jsma(model, x, labels, targets=torch.tensor([1]), share=1.0).adversarial)
    with pytest.raises(InputError, match="targets equal the samples' own labels"):
        jsma(model, x, labels, targets=labels, share=1.0)


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("shape", [(8,), (4, 6), (3, 7, 7)], ids=str)
def test_saliency_pairs_keep_their_books(shape, n):
    model, x = LinearModel(shape, classes=3), torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))
    labels = model(x).argmax(1)
    model.sent = model.differentiated = 0
    result = jsma(model, x, labels, share=1.0)
    # One gradient is taken of the target's logit and one of the others' sum, though there are three classes.
    assert (int(result.forward_passes.sum()), int(result.backward_passes.sum())) == (model.sent, model.differentiated)
    assert torch.equal(result.success, model(result.adversarial).argmax(1) != labels)
    assert torch.equal(result.distance, (result.adversarial != x).flatten(1).sum(1).float())
    assert torch.equal(result.adversarial, jsma(model, x, labels, share=1.0).adversarial)
    for budget in (2, 5):
        assert (jsma(model, x, labels, share=1.0, budget=budget).forward_passes <= budget).all()


def test_sigma_zero_is_at_the_optimum_on_linear_models():
    check_attack(partial(sigma_zero, steps=100), norm="l0", minimum=True, ratio=1.0)


@pytest.mark.parametrize("shape", [(4, 6), (3, 7, 7)], ids=str)
def test_sigma_zero_is_near_the_optimum_in_a_box_that_binds(shape):
    model, x = LinearModel(shape), torch.rand(24, *shape, generator=torch.Generator().manual_seed(4))
    own = (model.weight[0] - model.weight[1]).detach().sign().reshape(shape)
    x = 0.25 + 0.5 * x + 0.25 * own * torch.linspace(0, 1, 24).reshape(-1, *[1] * len(shape))  # deeper and deeper
    labels = model(x).argmax(1)
    needed = model.nearest(x, labels, "l0")
    result = sigma_zero(model, x, labels, steps=200)
    assert result.success.all() and needed.max() > 2
    assert (result.distance >= needed).all() and result.distance.sum() <= 1.1 * needed.sum()
    pairs = jsma(model, x, labels, share=1.0)
    assert result.distance[pairs.success].sum() < pairs.distance[pairs.success].sum()


def test_sigma_zero_costs_a_gradient_a_step():
    model, x = LinearModel((8,), classes=3), torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    labels = model(x).argmax(1)
    labels[0] = (labels[0] + 1) % 3
    result = sigma_zero(model, x, labels, steps=20)
    assert result.success.all() and result.distance[0] == 0
    assert result.backward_passes.tolist() == [0, 20, 20]
    assert result.forward_passes.tolist() == [2, 23, 23]  # the clean sample, the last point, the judgement


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (partial(jsma, share=0.1), "share=0.1 allows 0 pairs of the 6 entries"),
        (partial(jsma, share=1.5), "share=1.5 allows 4 pairs"),
        (partial(jsma, step_size=0.0), "step_size=0.0 moves nothing"),
        (partial(jsma, step_size="up"), "step_size='up' moves nothing"),
        (partial(jsma, step_size=float("nan")), "step_size=nan moves nothing"),
        (partial(jsma, share=-0.5), "share=-0.5 cannot be used"),
        (partial(sigma_zero, steps=0), "steps=0 is too few"),
        (partial(sigma_zero, smoothing=0.0), "smoothing=0 leaves a count without a slope"),
        (partial(sigma_zero, threshold=-1.0), "threshold=-1.0 cannot be used"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(nn.Identity(), torch.rand(1, 6), torch.tensor([0]))


@pytest.mark.slow
def test_sigma_zero_changes_fewer_entries_than_saliency_pairs(attack_target):
    model, x, labels = attack_target
    few = sigma_zero(model, x, labels, steps=200)
    pairs = jsma(model, x[::4], labels[::4], share=0.05)
    assert few.success.all() and float(few.distance.mean()) < 24  # 32.6 is what FMN in l0 needs on average
    assert (few.distance[::4][pairs.success] < pairs.distance[pairs.success]).all()
