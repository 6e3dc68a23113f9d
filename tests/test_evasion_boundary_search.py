"""The moves of decision-based attacks: starts, the way to the boundary, its normal, and directions."""

from math import sqrt

import pytest
import torch

from attacks.engine import Additive, Answer, Ask, Batch, drive, evaluate, get_norm
from attacks.engine.testing import LinearModel, near_the_middle
from attacks.evasion.boundary_search import DRAWS, PROBE, TRIES, BoundarySearch, aside

SHAPES = [(8,), (4, 6), (3, 7, 7)]


def searching(x, norm="l2", bounds=(0.0, 1.0), seed=0):
    return BoundarySearch(x, Additive(bounds), get_norm(norm), torch.Generator().manual_seed(seed), bounds)


class Listener:
    """Answers asks from a model, for the rows that are wanted, and remembers the asks."""

    def __init__(self, model, x, labels):
        self.model, self.batch, self.asks = model, Batch(x, labels, None, torch.arange(len(x))), []

    def __call__(self, ask):
        self.asks.append(ask)
        points = ask.parameters if ask.several else ask.parameters.unsqueeze(1)
        n, m = points.shape[:2]
        whose = torch.arange(n).repeat_interleave(m)
        answer, _ = evaluate(self.model, Additive(), Ask(points.flatten(0, 1)), self.batch.take(whose))
        fooled = answer.fooled.unflatten(0, (n, m)) & (True if ask.wanted is None else ask.wanted[:, None])
        return Answer(answer.logits, fooled if ask.several else fooled.squeeze(1), answer.loss)


def planted(n, shape, norm="l2"):
    """Samples near the middle, a listener for two linear classes, and points beyond the boundary."""
    model, x = LinearModel(shape), near_the_middle(n, shape)
    labels = model(x).argmax(1)
    beyond = torch.where(labels == 0, 1.0, -1.0)[:, None] * (model.weight[1] - model.weight[0]).detach().sign()
    p = searching(x).clip((beyond * torch.rand(n, beyond.shape[1])).reshape(x.shape))
    assert (model(x + p).argmax(1) != labels).all()
    return x, labels, Listener(model, x, labels), p


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_way_ends_just_inside_the_boundary(shape, norm):
    x, labels, listener, p = planted(6, shape)
    search, everyone = searching(x, norm), torch.ones(6, dtype=torch.bool)
    found = drive(search.to_boundary(p, everyone), listener)
    size, tolerance = search.norm.size(found), PROBE / sqrt(x[0].numel())
    assert (listener.model(x + found).argmax(1) != labels).all()
    closer = search.norm.project(p, size * (1 - 1.01 * tolerance))
    assert (listener.model(x + closer).argmax(1) == labels).all()
    assert (size <= search.norm.size(p)).all()
    # A halving of the way for each factor of two between its length and what is left, and not one more.
    needed = (search.norm.size(p) / (tolerance * size)).log2().ceil().max() + 1
    assert len(listener.asks) <= needed


def test_rows_that_are_not_wanted_are_not_asked_about():
    x, _, listener, p = planted(4, (8,))
    wanted = torch.tensor([True, True, False, True])
    drive(searching(x).to_boundary(p, wanted), listener)
    assert all(not ask.wanted[2] for ask in listener.asks)
    assert (listener.asks[0].wanted == wanted).all()


def test_a_search_that_always_meets_the_goal_ends():
    x = near_the_middle(2, (8,))
    always = lambda ask: Answer(torch.zeros(2, 2), torch.ones(2, dtype=torch.bool), torch.zeros(2))  # noqa: E731
    found = drive(searching(x).to_boundary(torch.ones(2, 8), torch.ones(2, dtype=torch.bool)), always)
    assert found.isfinite().all() and found.abs().max() < 1e-6


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_normal_is_that_of_the_boundary(shape):
    x, labels, listener, p = planted(5, shape)
    search, everyone = searching(x), torch.ones(5, dtype=torch.bool)
    p = drive(search.to_boundary(p, everyone), listener)
    listener.asks.clear()
    entries = x[0].numel()
    normal = drive(search.normal(p, samples=40 * entries, wanted=everyone, directions=search.directions(1.0)), listener)
    away = torch.where(labels == 0, 1.0, -1.0)[:, None] * (listener.model.weight[1] - listener.model.weight[0])
    cosine = torch.cosine_similarity(normal.flatten(1), away)
    assert (cosine > 0.95).all()
    assert torch.allclose(normal.flatten(1).norm(dim=1), torch.ones(5), atol=1e-5)
    assert sum(ask.parameters.shape[1] for ask in listener.asks) == 40 * entries
    assert all(ask.several for ask in listener.asks)  # probes, no candidates


def test_probes_lie_at_a_share_of_the_distance_and_inside_the_bounds():
    x, _, listener, p = planted(3, (3, 7, 7))
    x[:, :, 0] = 0.0  # at the edge of the box, where half of every probe is cut off
    p[:, :, 0] = 0.0
    search, everyone = searching(x), torch.ones(3, dtype=torch.bool)
    drive(search.normal(p, samples=64, wanted=everyone, directions=search.directions(1.0)), listener)
    points = torch.cat([ask.parameters for ask in listener.asks], 1)
    inputs = x.unsqueeze(1) + points
    assert inputs.min() >= 0 and inputs.max() <= 1 and (inputs[:, :, :, 0] == 0).any()
    reach = (points - p.unsqueeze(1)).flatten(2).norm(dim=2) / p.flatten(1).norm(dim=1)[:, None]
    assert (reach <= PROBE * 1.01).all() and (reach > PROBE * 0.3).all()


def test_points_off_the_boundary_lose_little_since_the_mean_is_taken_off():
    """Two of three probes meet the goal: what all directions share is no part of the normal."""
    x, labels, listener, p = planted(8, (3, 7, 7))
    search, everyone = searching(x), torch.ones(8, dtype=torch.bool)
    p = drive(search.to_boundary(p, everyone), listener)
    away = torch.where(labels == 0, 1.0, -1.0)[:, None] * (listener.model.weight[1] - listener.model.weight[0]).detach()
    shift = (away / away.norm(dim=1, keepdim=True)).reshape(p.shape)
    p = p + shift * (p.flatten(1).norm(dim=1) * PROBE / sqrt(147) * 0.5)[:, None, None, None]
    biased = torch.full((1, 1, 3, 7, 7), 1.0) / sqrt(147)

    def directions(m, draw=search.directions(1.0)):
        drawn = draw(m) + 0.3 * biased[0]
        return drawn / drawn.flatten(1).norm(dim=1)[:, None, None, None]

    normal = drive(search.normal(p, samples=2000, wanted=everyone, directions=directions), listener)
    assert (torch.cosine_similarity(normal.flatten(1), away) > 0.8).all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("frequencies", [1.0, 0.5, 0.3])
def test_directions_have_length_one_and_only_low_frequencies(shape, frequencies):
    from scipy.fft import dctn

    search = searching(near_the_middle(2, shape))
    drawn = search.directions(frequencies)(50)
    assert drawn.shape == (50, *shape) and drawn.dtype == torch.float32
    assert torch.allclose(drawn.flatten(1).norm(dim=1), torch.ones(50), atol=1e-5)
    axes = {1: (1,), 2: (2,), 3: (2, 3)}[len(shape)]  # the first of several axes is that of channels
    spectrum = torch.from_numpy(abs(dctn(drawn.numpy(), axes=axes, norm="ortho"))).amax(0)
    if len(shape) > 1:
        spectrum = spectrum.amax(0)
    kept = tuple(slice(max(1, round(frequencies * length))) for length in spectrum.shape)
    assert (spectrum[kept] > 1e-3).all()
    spectrum[kept] = 0
    assert spectrum.abs().max() < 1e-6
    assert drawn.flatten(1).std(0).min() > 0  # no entry is left out


def test_the_part_aside_is_across():
    way, p = torch.randn(4, 3, 5), torch.randn(4, 3, 5)
    part = aside(way, p).flatten(1)
    assert torch.allclose((part * p.flatten(1)).sum(1), torch.zeros(4), atol=1e-5)
    assert torch.allclose(part.norm(dim=1), torch.ones(4), atol=1e-5)
    assert ((part * way.flatten(1)).sum(1) > 0).all()


def test_points_along_a_way_stay_inside_the_bounds():
    x = torch.tensor([[0.9, 0.5], [0.1, 0.5]])
    moved = searching(x).along(torch.tensor([[1.0, 0.1], [-1.0, 0.1]]), torch.tensor([1.0, 2.0]))
    assert torch.allclose(moved, torch.tensor([[0.1, 0.1], [-0.1, 0.2]]))


def test_starts_are_found_and_brought_nearer():
    model, x = LinearModel((3, 7, 7)), near_the_middle(8, (3, 7, 7))
    labels = model(x).argmax(1)
    labels[0] = 1 - labels[0]  # misclassified as it is
    listener = Listener(model, x, labels)
    p, wanted = drive(searching(x).start(None), listener)
    assert wanted.tolist() == [False] + [True] * 7
    assert (model(x + p).argmax(1) != labels).all()
    inputs = x + p
    assert inputs.min() >= 0 and inputs.max() <= 1
    first, _ = drive(searching(x).find([torch.rand(x.shape) for _ in range(20)]), listener)
    size = get_norm("l2").size
    assert (size(p)[1:] < 0.95 * size(first)[1:]).all()
    assert len(listener.asks) <= 2 * (1 + TRIES) + DRAWS


def test_given_starts_come_first():
    model, x = LinearModel((8,)), near_the_middle(4, (8,))
    labels = model(x).argmax(1)
    listener = Listener(model, x, labels)
    starts = 1 - x  # on the other side of the middle
    drive(searching(x).start(starts), listener)
    assert torch.allclose(x + listener.asks[1].parameters, starts)
    assert len(listener.asks) == 2 + DRAWS


def test_a_sample_without_a_start_is_not_searched_and_a_sentence_says_so():
    x = near_the_middle(3, (8,))
    seen = []

    def sure(ask):
        seen.append(ask)
        fooled = torch.tensor([False, len(seen) > 3, len(seen) > 2]) & (len(seen) > 1)
        return Answer(torch.zeros(3, 2), fooled, torch.zeros(3))

    with pytest.warns(UserWarning, match="No start was found for 1 of 3 samples"):
        _, wanted = drive(searching(x).start(None), sure)
    assert wanted.tolist() == [False, True, True]
    assert [ask.wanted.tolist() for ask in seen[1:5]] == [
        [True, True, True],
        [True, True, True],
        [True, True, False],
        [True, False, False],
    ]
    assert len(seen) == 1 + TRIES + DRAWS
    assert all(not ask.wanted[0] for ask in seen[-DRAWS:])
