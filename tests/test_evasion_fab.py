"""The boundary attack, and the shortest step to a hyperplane in a box, against independent solutions."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog
from torch import nn

from attacks.engine import get_norm
from attacks.engine.projections import shortest_step
from attacks.engine.testing import LinearModel, check_attack, near_the_middle
from attacks.errors import InputError
from attacks.evasion import auto_pgd_targeted, fab, fab_targeted

NORMS = ["linf", "l2", "l1"]
SHAPES = [(8,), (4, 6), (3, 7, 7)]
STEEPNESS = {"linf": 1, "l2": 2, "l1": torch.inf}


def least_size(norm, normal, amount, low, high):
    """Of a step, in double precision: by linear programs, in l2 by bisection on the multiplier."""
    if norm == "l2":
        shortest, longest = 0.0, 1e9
        for _ in range(200):
            middle = (shortest + longest) / 2
            step = (middle * amount.sign() * normal).clamp(low, high)
            shortest, longest = (middle, longest) if (normal @ step).abs() < amount.abs() else (shortest, middle)
        return float(step.norm())
    d, eye = len(normal), torch.eye(len(normal), dtype=torch.float64)
    sizes = torch.ones(d, 1, dtype=torch.float64) if norm == "linf" else eye
    cost = torch.cat([torch.zeros(d), torch.ones(sizes.shape[1])]).numpy()
    bounds = [(float(a), float(b)) for a, b in zip(low, high, strict=True)] + [(0, None)] * sizes.shape[1]
    within = torch.cat([torch.cat([eye, -sizes], 1), torch.cat([-eye, -sizes], 1)]).numpy()
    equal = torch.cat([normal, torch.zeros(sizes.shape[1])])[None].numpy()
    solved = linprog(cost, within, [0.0] * 2 * d, equal, [float(amount)], bounds)
    assert solved.success
    return float(solved.fun)


@given(seed=st.integers(0, 10_000), share=st.floats(-0.98, 0.98), tight=st.booleans())
@settings(deadline=None, max_examples=60)
@pytest.mark.parametrize("norm", NORMS)
def test_the_step_to_a_hyperplane_is_the_shortest_that_stays_in_the_box(norm, seed, share, tight):
    draws = torch.Generator().manual_seed(seed)
    normal = torch.randn(3, 6, generator=draws) * (torch.rand(3, 6, generator=draws) > 0.2)
    low, high = -torch.rand(3, 6, generator=draws), torch.rand(3, 6, generator=draws)
    if tight:
        high = high * (torch.rand(3, 6, generator=draws) > 0.5)
    ahead = torch.where((normal > 0) == (share > 0), high, low)
    amount = share * (normal * ahead).sum(1).abs()
    step = shortest_step(norm, normal, amount, low, high)
    assert (step >= low - 1e-6).all() and (step <= high + 1e-6).all()
    assert torch.allclose((step * normal).sum(1), amount, atol=1e-5)
    for row in range(3):
        exact = (tensor[row].double() for tensor in (normal, amount, low, high))
        assert float(get_norm(norm).size(step)[row]) == pytest.approx(least_size(norm, *exact), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_that_the_box_does_not_allow_goes_to_the_corner(norm):
    normal = torch.tensor([[1.0, -2.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    low, high = -torch.full((3, 3), 0.5), torch.full((3, 3), 0.25)
    step = shortest_step(norm, normal, torch.tensor([9.0, -9.0, 1.0]), low, high)
    assert step.tolist() == [[0.25, -0.5, 0.0], [-0.5, -0.5, -0.5], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_is_exact_for_the_entries_of_a_whole_image(norm):
    draws = torch.Generator().manual_seed(0)
    x, normal = (torch.rand(2, 3, 224, 224, generator=draws) for _ in range(2))
    amount = torch.tensor([30.0, 20_000.0])
    step = shortest_step(norm, normal, amount, -x, 1 - x)
    assert torch.allclose((step * normal).double().flatten(1).sum(1), amount.double(), rtol=1e-5)
    with pytest.raises(InputError, match="norm='l0' has no shortest step"):
        shortest_step("l0", normal, amount, -x, 1 - x)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_it_is_at_the_optimum_on_linear_models(attack, norm):
    check_attack(
        partial(attack, norm=norm, steps=10), norm=norm, minimum=True, ratio=1.01, targeted=attack is not fab_targeted
    )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_in_a_ball_it_succeeds_exactly_when_the_ball_reaches_the_boundary(attack, norm):
    check_attack(partial(attack, norm=norm, steps=10), norm=norm, ratio=1.02, targeted=attack is not fab_targeted)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_of_several_classes_it_finds_the_nearest(shape, norm):
    model, x = LinearModel(shape, classes=5), near_the_middle(8, shape)
    model.requires_grad_(False)
    logits = model(x)
    labels = logits.argmax(1)
    slopes = (model.weight[labels][:, None] - model.weight).norm(p=STEEPNESS[norm], dim=2)
    gaps = (logits.gather(1, labels[:, None]) - logits) / slopes.clamp_min(1e-9)
    nearest = gaps.scatter(1, labels[:, None], torch.inf).amin(1)
    for attack in (fab, fab_targeted):
        assert torch.allclose(attack(model, x, labels, norm=norm, steps=10).distance, nearest, rtol=1e-2)


def test_the_targeted_form_tries_the_likeliest_classes_first():
    model = nn.Linear(3, 3, bias=False)  # class 1 comes second, but class 2 is nearer
    model.weight.data.copy_(torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    model.register_buffer("shift", torch.tensor([0.0, -0.1, -1.2]))
    shifted = nn.Sequential(model, Shift(model.shift))
    x, labels = torch.full((1, 3), 0.5), torch.tensor([0])
    assert shifted(x).argsort(descending=True).tolist() == [[0, 1, 2]]
    distances = [float(fab_targeted(shifted, x, labels, classes=classes, steps=10).distance) for classes in (1, 2, 9)]
    assert distances == pytest.approx([0.5, 0.1, 0.1], rel=1e-3)


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, logits):
        return logits + self.by


def test_passes_are_those_of_the_paper():
    model, x = LinearModel((4, 6), classes=5), near_the_middle(6, (4, 6))
    labels = model(x).argmax(1)

    def passes(attack, **settings):
        result = attack(model, x, labels, steps=7, **settings)
        assert result.success.all()
        return set(result.forward_passes.tolist()), set(result.backward_passes.tolist())

    # The clean sample, two a step, three of the final search, the judgement.
    assert passes(fab) == ({1 + 14 + 3 + 1}, {7 * 4})
    assert passes(fab, classes=2) == ({19}, {7 * 2})
    assert passes(fab, restarts=3) == ({1 + 3 * 14 + 3 + 1}, {3 * 7 * 4})
    assert passes(fab, targets=(labels + 1) % 5) == ({19}, {7})
    assert passes(fab_targeted) == ({1 + 4 * (1 + 14 + 3) + 1}, {4 * 7})
    assert passes(fab_targeted, classes=2) == ({1 + 2 * 18 + 1}, {2 * 7})


def test_a_sample_that_stands_costs_one_more_pass_which_puts_it_into_the_ball():
    model, x = LinearModel((8,)), near_the_middle(4, (8,))
    labels = model(x).argmax(1)
    labels[0] = 1 - labels[0]  # misclassified as it is
    radius = 0.5 * float(model.nearest(x, labels, "l2")[1:].min())
    result = fab(model, x, labels, norm="l2", epsilon=radius, steps=7)
    assert result.success.tolist() == [True, False, False, False]
    assert result.forward_passes.tolist() == [2] + 3 * [1 + 14 + 3 + 1 + 1]
    assert torch.allclose(result.distance[1:], torch.tensor(radius), rtol=1e-4)
    inside = (result.adversarial - x)[1:] / radius
    straight = (model.weight[1 - labels] - model.weight[labels])[1:]
    assert torch.allclose(inside, straight / straight.norm(dim=1, keepdim=True), atol=1e-3)  # and it is the best there


@pytest.mark.parametrize("attack", [fab, fab_targeted])
def test_what_is_misclassified_as_it_is_costs_next_to_nothing(attack):
    model, x = LinearModel((8,), classes=3), near_the_middle(4, (8,))
    labels = model(x).argmin(1)
    result = attack(model, x, labels, steps=20)
    assert result.success.all() and (result.distance == 0).all() and (result.backward_passes == 0).all()


def test_later_starts_are_random_and_help():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 4))
    x = torch.rand(16, 8, generator=torch.Generator().manual_seed(2))
    attack = partial(fab, model, x, model(x).argmax(1), norm="l2", steps=5)
    once, more, other = attack(), attack(restarts=4), attack(restarts=4, seed=1)
    assert once.success.all() and more.distance.sum() < once.distance.sum()
    assert not torch.equal(more.adversarial, other.adversarial)
    assert torch.equal(once.adversarial, attack(seed=1).adversarial)  # the first start is the clean sample


@pytest.mark.parametrize("norm", NORMS)
def test_what_withstood_is_handed_back_inside_the_ball(norm):
    model, x = LinearModel((8,)), near_the_middle(8, (8,))
    labels = model(x).argmax(1)
    needed = model.nearest(x, labels, norm)
    radius = 1.02 * float(needed.median())
    for attack in (fab, fab_targeted):
        result = attack(model, x, labels, norm=norm, epsilon=radius, steps=10)
        assert torch.equal(result.success, needed < radius)
        assert (result.distance <= radius * (1 + 1e-5)).all()
        assert (result.distance[~result.success] >= 0.999 * radius).all()


def test_several_radii_are_answered_in_one_run():
    model, x = LinearModel((8,)), near_the_middle(8, (8,))
    labels = model(x).argmax(1)
    needed = model.nearest(x, labels, "l2")
    radii = [1.02 * float(needed.median()), 1.02 * float(needed.max())]
    result = fab(model, x, labels, norm="l2", epsilon=radii, steps=10)
    assert result.success.all()
    assert torch.equal(result.at(radii[0]).success, needed <= radii[0])


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (partial(fab, norm="l0"), "norm='l0' has no boundary"),
        (partial(fab, steps=0), "steps=0 is too few"),
        (partial(fab, classes=0), "classes=0 is too few"),
        (partial(fab, restarts=0), "restarts=0 is too few"),
        (partial(fab, bias=1.5), "bias=1.5 and shrink=0.9 are shares"),
        (partial(fab, overshoot=-1), "overshoot=-1 cannot be used"),
        (partial(fab_targeted, targets=torch.tensor([1])), "fab_targeted chooses its targets itself"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call(nn.Identity(), torch.rand(1, 3), torch.tensor([0]))


@pytest.mark.slow
def test_it_agrees_with_the_field(attack_target):
    result = fab(*attack_target)
    assert result.success.all()
    assert float(result.distance.mean()) == pytest.approx(0.1485, abs=0.0015)
    assert result.at(0.15).robust_rate.value == pytest.approx(0.574, abs=0.011)


@pytest.mark.slow
def test_beyond_targeted_auto_pgd_it_finds_nothing(attack_target):
    model, x, labels = attack_target
    standing = ~auto_pgd_targeted(model, x, labels, epsilon=0.15, steps=50, classes=3).success
    rest = fab_targeted(model, x[standing], labels[standing], epsilon=0.15, steps=30, classes=3)
    assert 0.49 < float(standing.float().mean()) < 0.54
    assert rest.success_rate.value <= 0.02
