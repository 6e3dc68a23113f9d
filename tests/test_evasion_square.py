"""Square attack: what its squares are, what it costs, and what it finds."""

from functools import partial

import pytest
import torch
from torch import nn

from attacks.engine import Access, Additive, get_norm
from attacks.errors import InputError
from attacks.evasion.square import share_at, square
from attacks.evasion.squares import Corners, Pyramids

SHAPES = [(3, 7, 7), (1, 9, 12), (2, 11, 5)]
WIDE = (-100.0, 100.0)


class Linear(nn.Module):
    """Classes of flattened images; counts what is sent, and answers without gradients."""

    def __init__(self, shape, classes=2):
        super().__init__()
        size = torch.Size(shape).numel()
        self.weight = nn.Parameter(torch.randn(classes, size, generator=torch.Generator().manual_seed(0)))
        self.sent = 0

    @torch.no_grad()
    def forward(self, x):
        self.sent += len(x)
        return (x - 0.5).flatten(1) @ self.weight.T


def planted(n, shape, classes=2, seed=1):
    """A model, images near the middle of the box, and their labels."""
    model = Linear(shape, classes)
    x = 0.5 + 0.1 * (torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) - 0.5)
    labels = model(x).argmax(1)
    model.sent = 0
    return model, x, labels


def needed(model, x, norm):
    """The smallest radius at which each image can be made the other class of two."""
    weight = (model.weight[1] - model.weight[0]).detach()
    size = {"linf": weight.abs().sum(), "l2": weight.norm()}[norm]
    return ((x - 0.5).flatten(1) @ weight).abs() / size


def test_the_squares_halve_in_area_when_the_paper_says():
    halvings = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000]
    for k, passed in enumerate(halvings):
        assert share_at(passed, 0.8) == 0.8 / 2**k
        assert share_at(passed + 1, 0.8) == 0.8 / 2 ** (k + 1)
    shares = [share_at(step, 0.3, span=500) for step in range(500)]
    assert shares == sorted(shares, reverse=True) and shares[-1] == 0.3 / 2**9
    assert [share_at(step, 0.3, span=10_000) for step in range(500)][-1] == 0.3 / 2**3


def drawn(kind, x, epsilon=0.3, bounds=(0.0, 1.0), seed=0, **settings):
    return kind(x, Additive(bounds), epsilon, torch.Generator().manual_seed(seed), **settings)


def window(changed):
    """Where a plane of truth values is true at all: its rows and columns."""
    return changed.any(1).nonzero().squeeze(1), changed.any(0).nonzero().squeeze(1)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_corners_begin_as_stripes_and_change_one_square_to_one_end_of_the_ball(shape):
    x = torch.rand(6, *shape, generator=torch.Generator().manual_seed(1))
    source = drawn(Corners, x)
    p, low, high = source.start(), (x - 0.3).clamp_min(0) - x, (x + 0.3).clamp_max(1) - x
    signs = torch.where(p == high, 1, -1)
    assert torch.equal(p, torch.where(signs == 1, high, low))
    assert (signs == signs[:, :, :1]).all()  # stripes run from top to bottom
    assert len(signs.unique()) == 2
    seen = set()
    for share, side in [(0.8, round((0.8 * shape[1] * shape[2]) ** 0.5)), (0.1, None), (0.001, 1)]:
        side = min(side or round((share * shape[1] * shape[2]) ** 0.5), *shape[1:])
        for _ in range(20):
            q = source.propose(p, share)
            assert torch.equal(q, torch.where(q == high, high, low))
            for row in range(len(x)):
                rows, columns = window((q[row] != p[row]).any(0))
                if len(rows):
                    assert rows[-1] - rows[0] < side and columns[-1] - columns[0] < side
                    square = torch.where(q == high, 1, -1)[row, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
                    assert all(len(channel.unique()) == 1 for channel in square)
                    seen |= {(share, int(rows[0])), (share, int(rows[-1]))}
            p = q
    assert (0.001, 0) in seen and (0.001, shape[1] - 1) in seen  # up to both edges


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pyramids_shift_mass_between_windows_at_the_edge_of_the_ball(shape, pooled):
    x, epsilon = torch.zeros(6, *shape), 2.0
    source = drawn(Pyramids, x, epsilon, WIDE, pooled=pooled)
    p = source.start()
    assert torch.allclose(p.flatten(1).norm(dim=1), torch.full((6,), epsilon))
    assert (p != 0).any(dim=3).float().mean() > 0.5  # a grid, not a single pair
    for share in (0.5, 0.1, 0.001):
        for _ in range(10):
            q = source.propose(p, share)
            assert torch.allclose(q.flatten(1).norm(dim=1), torch.full((6,), epsilon), atol=1e-5)
            mass = [part.flatten(2).square().sum(2) for part in (p, q)]
            if not pooled:  # no channel gains from another
                assert torch.allclose(*mass, atol=1e-4)
                if share == 0.001:  # two windows of the smallest side, 3
                    assert (((p - q).abs() > 1e-5).any(1).flatten(1).sum(1) <= 18).all()
            p = q
    pairs = source.pairs(5, 3)
    assert torch.allclose(pairs.norm(dim=2), torch.ones(6, 3))
    assert ((pairs > 0).any(2) & (pairs < 0).any(2)).all()


def test_the_smallest_pyramids_have_sides_of_three_and_the_largest_fit():
    for shape, share, side in [((1, 9, 9), 1e-6, 3), ((1, 9, 9), 1.0, 9), ((1, 8, 20), 1.0, 7), ((1, 9, 9), 0.2, 5)]:
        source, found = drawn(Pyramids, torch.zeros(1, *shape)), []
        source.places = lambda side, found=found, draw=source.places: found.append(side) or draw(side)
        source.propose(source.start(), share)
        assert found == [side, side]


def test_what_the_box_takes_from_a_pyramid_comes_back_with_the_next():
    x = torch.zeros(4, 2, 10, 10)  # black: all that is negative is clipped away
    source = drawn(Pyramids, x, epsilon=1.0)
    p = source.start()
    assert (p >= 0).all() and (p.flatten(1).norm(dim=1) < 0.9).all()
    q = source.propose(p, 0.3)
    assert (q >= 0).all() and (q.flatten(1).norm(dim=1) <= 1 + 1e-5).all()
    gained = (q - p).flatten(1).clamp_min(0).square().sum(1)
    assert (gained > 0.05).all()
    # All of it goes to the windows, where no channel gains from another; nothing else changes.
    q = drawn(Pyramids, x, epsilon=1.0, seed=1, pooled=False).propose(p, 1e-6)
    assert (((q - p).abs() > 1e-5).any(1).flatten(1).sum(1) <= 18).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_it_breaks_what_can_be_broken_and_nothing_else(n, shape, norm):
    model, x, labels = planted(n, shape)
    radii = needed(model, x, norm)
    weak = square(model, x, labels, epsilon=0.98 * float(radii.min()), norm=norm, steps=30)
    assert not weak.success.any()
    strong = square(model, x, labels, epsilon=4 * float(radii.max()), norm=norm, steps=300)
    assert strong.success.all() and strong.backward_passes.sum() == 0
    assert (strong.distance <= 4 * float(radii.max()) * (1 + 1e-5)).all()
    assert torch.equal(strong.distance, get_norm(norm).size(strong.adversarial - x))
    assert strong.adversarial.min() >= 0 and strong.adversarial.max() <= 1


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_every_perturbation_tried_costs_one_query_and_the_clean_image_and_the_result_one_each(norm):
    model, x, labels = planted(5, (3, 7, 7))
    labels[2] = 1 - labels[2]  # wrong as it is
    result = square(model, x, labels, epsilon=1e-4, norm=norm, steps=7)
    assert result.forward_passes.tolist() == [9, 9, 2, 9, 9] and model.sent == 9 * 4 + 2
    assert square(model, x, labels, epsilon=1e-4, norm=norm, steps=1).forward_passes.tolist() == [3, 3, 2, 3, 3]


@pytest.mark.parametrize("budget", [2, 3, 10, 500])
def test_the_budget_is_never_exceeded(budget):
    model, x, labels = planted(5, (3, 7, 7))
    result = square(model, x, labels, epsilon=1e-4, steps=20, budget=budget)
    assert (result.forward_passes <= budget).all() and model.sent == int(result.forward_passes.sum())
    access = Access(model, level="scores", budget=budget)
    square(access, x, labels, epsilon=1e-4, steps=20)
    assert access.queries <= budget


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_same_seed_same_bits(norm):
    model, x, labels = planted(4, (3, 7, 7))
    attack = partial(square, model, x, labels, epsilon=1e-3, norm=norm, steps=30)
    first, again, other = attack(seed=1), attack(seed=1), attack(seed=2)
    assert torch.equal(first.adversarial, again.adversarial)
    assert not torch.equal(first.adversarial, other.adversarial)


def test_it_keeps_only_what_lowers_the_loss():
    model, x, labels = planted(3, (3, 7, 7))
    told = []

    class Listening(nn.Module):
        def forward(self, x):
            logits = model(x)
            told.append(logits[:, 0] * torch.where(labels == 0, 1, -1) - logits[:, 1] * torch.where(labels == 0, 1, -1))
            return logits

    result = square(Listening(), x, labels, epsilon=0.5 * float(needed(model, x, "linf").min()), steps=100)
    lead = torch.stack(told)  # clean, 100 perturbations, and the judgement of the last one tried
    assert not result.success.any() and len(lead) == 102
    assert (lead[1:].amin(0) < lead[1] - 1e-3).all()
    # From the best point so far a single pixel cannot get far: had a worse one been kept, the last would be far off.
    best = lead[1:101].cummin(0).values
    weight = (model.weight[1] - model.weight[0]).detach().abs()
    most = float(2 * 3 * weight.max() * result.epsilon)
    assert (lead[51:101] - best[50:100] <= most + 1e-4).all()


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_it_reaches_targets(norm):
    model, x, labels = planted(6, (3, 7, 7), classes=4)
    targets = (labels + 1) % 4
    epsilon = {"linf": 0.3, "l2": 4.0}[norm]
    result = square(model, x, labels, epsilon=epsilon, norm=norm, steps=500, targets=targets)
    assert result.success.all() and torch.equal(model(result.adversarial).argmax(1), targets)


def test_several_radii_in_one_run():
    model, x, labels = planted(6, (3, 7, 7))
    radii = [0.5 * float(needed(model, x, "linf").min()), 5 * float(needed(model, x, "linf").max())]
    result = square(model, x, labels, epsilon=radii, steps=300)
    assert not result.at(radii[0]).success.any() and result.at(radii[1]).success.all()


def test_what_cannot_be_used_is_refused_with_a_sentence():
    model, x, labels = planted(2, (3, 7, 7))
    attack = partial(square, model, x, labels, epsilon=0.1)
    with pytest.raises(InputError, match="norm='l1' has no squares"):
        attack(norm="l1")
    with pytest.raises(InputError, match="steps=0 is too few"):
        attack(steps=0)
    for share in (0.0, 1.5, float("nan")):
        with pytest.raises(InputError, match="initial_share="):
            attack(initial_share=share)
    with pytest.raises(InputError, match="Squares need images"):
        square(model, x.flatten(1), labels, epsilon=0.1)
    with pytest.raises(InputError, match="at least 3 x 3 pixels"):
        square(model, x[:, :, :2], labels, epsilon=0.1, norm="l2")
    with pytest.raises(InputError, match="must be a torch.Tensor"):
        square(model, x.numpy(), labels, epsilon=0.1)


POINT = 0.011
"""One percentage point, and what 256 images round it to."""


@pytest.mark.slow
def test_on_the_small_robust_network_it_finds_what_the_fields_best_code_finds(attack_target):
    result = square(*attack_target, epsilon=0.15, steps=1000)
    assert result.robust_rate.value == pytest.approx(0.656, abs=POINT)
    assert float(result.forward_passes.float().mean()) == pytest.approx(731, rel=0.03)


@pytest.mark.slow
def test_in_l2_it_does_so_as_well_and_pooling_helps(attack_target):
    # The field's code: 75.8 % on average over eight seeds, 73.0 to 77.3; this one 76.9, 74.2 to 79.3.
    model, x, labels = attack_target
    pooled, paper = (
        square(model, x, labels, epsilon=3.0, norm="l2", steps=1000, pooled=flag) for flag in (True, False)
    )
    assert pooled.robust_rate.value == pytest.approx(0.758, abs=0.03)
    assert paper.robust_rate.value > pooled.robust_rate.value + 0.03
