"""The composite attack: its schedule, its order, its cost, and models that only a chain in the right order fools."""

from dataclasses import dataclass, replace
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from attacks.engine import (
    COMPONENTS,
    Batch,
    Mixture,
    PixelNoise,
    as_tensor,
    cross_entropy,
    drive,
    evaluate,
    get_components,
    untargeted,
)
from attacks.errors import InputError
from attacks.evasion import caa, pgd, semantic
from attacks.evasion.caa import assigned, doubly_stochastic, rescheduled

ORDERS = ("fixed", "random", "scheduled")
LIGHT = ("brightness", "contrast")


class Light(nn.Module):
    """Two classes, the second where an image's mean is above a level; counts what is sent and differentiated."""

    def __init__(self, above):
        super().__init__()
        self.above, self.sent, self.differentiated = above, 0, 0

    def forward(self, x):
        self.sent += len(x)
        if x.requires_grad:
            x.register_hook(self._count)
        score = 20 * (x.flatten(1).mean(1) - self.above)
        return torch.stack([-score, score], dim=1)

    def _count(self, gradient):
        self.differentiated += len(gradient)


def gray(n, value=0.3, shape=(3, 4, 5)):
    return torch.full((n, *shape), value), torch.zeros(n, dtype=torch.int64)


def small_network(shape=(3, 8, 6), classes=4, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Conv2d(shape[0], 6, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(classes))
    x = torch.rand(7, *shape, generator=torch.Generator().manual_seed(seed))
    return model, x, model(x).argmax(1)


@given(st.integers(1, 6), st.floats(0, 200), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_schedules_are_doubly_stochastic_whatever_the_scores(k, size, seed):
    scores = size * torch.randn(3, k, k, generator=torch.Generator().manual_seed(seed))
    schedule = doubly_stochastic(scores)
    assert torch.allclose(schedule.sum(1), torch.ones(3, k), atol=1e-5)
    assert (schedule >= 0).all()
    if size < 2:
        assert torch.allclose(schedule.sum(2), torch.ones(3, k), atol=1e-3)


@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_assignments_are_the_best_of_all_permutations(k):
    schedule = torch.rand(9, k, k, generator=torch.Generator().manual_seed(k))
    order = assigned(schedule)
    assert torch.equal(order.sum(1), torch.ones(9, k))
    assert torch.equal(order.sum(2), torch.ones(9, k))
    places = torch.arange(k)
    best = torch.stack([schedule[:, places, list(some)].sum(1) for some in permutations(range(k))]).amax(0)
    assert torch.allclose((order * schedule).sum((1, 2)), best)


def test_an_assignment_is_not_greedy():
    # Greedily the 0.9 is taken first, which leaves 0.0: 0.9 in all instead of 1.6.
    assert assigned(torch.tensor([[[0.9, 0.8], [0.8, 0.0]]])).tolist() == [[[0, 1], [1, 0]]]


def test_a_mixture_with_an_order_is_the_chain_in_that_order():
    mixture = Mixture(get_components(["hue", "contrast", "linf"]))
    x = torch.rand(4, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    numbers = {"hue": torch.tensor([[1.0], [2.0], [-1.0], [0.5]]), "contrast": torch.full((4, 1), 1.2)}
    numbers["linf"] = 0.03 * torch.randn(4, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    orders = torch.tensor([[0, 1, 2], [2, 1, 0], [0, 1, 2], [1, 2, 0]])
    point = {"image": x, "order": nn.functional.one_hot(orders, 3).float(), **numbers}
    made = mixture(x, point)
    for i, order in enumerate(orders.tolist()):
        one = x[i : i + 1]
        for part in (mixture.parts[j] for j in order):
            one = part(one, numbers[part.name][i : i + 1])
        assert torch.allclose(made[i : i + 1], one, atol=1e-6)
    clipped = mixture.clip(x, {**point, "linf": torch.ones_like(x)})
    again = mixture(x, clipped)
    assert clipped["linf"].abs().max() <= 8 / 255 + 1e-6
    assert again.min() >= 0
    assert again.max() <= 1 + 1e-6
    assert torch.equal(mixture(x, mixture.start(x)), x)
    with pytest.raises(TypeError, match="named tensors"):
        mixture(x, torch.zeros(2, 1))


@given(st.permutations(range(5)), st.floats(-1, 1), st.integers(0, 99))
@settings(deadline=None, max_examples=30)
def test_any_order_of_neutral_maps_changes_nothing_and_any_order_of_extreme_ones_makes_images(order, reach, seed):
    mixture = Mixture(get_components(list(COMPONENTS)[:5]))
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    turns = nn.functional.one_hot(torch.tensor(order), 5).float().expand(2, 5, 5)
    still = {**mixture.start(x), "order": turns}
    assert torch.allclose(mixture(x, still), x, atol=1e-5)
    far = {name: value if name in ("image", "order") else value + 9 * reach for name, value in still.items()}
    made = mixture(x, mixture.clip(x, far))
    assert made.min() >= -1e-6
    assert made.max() <= 1 + 1e-6


def test_a_mixture_of_parts_has_a_slope_in_its_order_and_none_in_its_image():
    mixture = Mixture(get_components(["saturation", "rotation"]))
    x = torch.rand(2, 3, 4, 4, dtype=torch.float64) * 0.5 + 0.2
    numbers = {"saturation": torch.tensor([[0.8], [1.2]]).double(), "rotation": torch.tensor([[3.0], [-4.0]]).double()}
    order = torch.tensor([[[0.3, 0.7], [0.7, 0.3]], [[0.6, 0.4], [0.4, 0.6]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda some: mixture(x, {"image": x, "order": some, **numbers}), order)
    image = x.clone().requires_grad_()
    assert mixture(x, {"image": image, "order": order.detach(), **numbers}).requires_grad is False


def test_the_schedule_moves_to_the_order_that_hurts():
    x, labels = gray(3)
    mixture, batch = Mixture(get_components(LIGHT)), Batch(x, labels, None, torch.arange(3))
    numbers = {"brightness": torch.full((3, 1), 0.2), "contrast": torch.full((3, 1), 1.3)}
    contrast_first = doubly_stochastic(torch.tensor([[[0.0, 0.1], [0.1, 0.0]]]).expand(3, 2, 2))
    method = rescheduled(x, contrast_first, numbers, untargeted(cross_entropy), torch.Generator().manual_seed(0))
    moved = drive(method, lambda ask: evaluate(Light(0.62), mixture, ask, batch)[0])
    assert torch.equal(assigned(contrast_first), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).expand(3, 2, 2))
    assert torch.equal(assigned(moved), torch.eye(2).expand(3, 2, 2))  # (x + 0.2) * 1.3 is brighter than x * 1.3 + 0.2


def test_an_order_that_failed_is_not_tried_again():
    x, labels = gray(50)
    mixture, batch = Mixture(get_components(["hue", *LIGHT, "saturation"])), Batch(x, labels, None, torch.arange(50))
    schedule = doubly_stochastic(torch.rand(50, 4, 4, generator=torch.Generator().manual_seed(0)))
    still = {name: value for name, value in mixture.start(x).items() if name not in ("image", "order")}
    method = rescheduled(x, schedule, still, untargeted(cross_entropy), torch.Generator().manual_seed(0))
    moved = drive(method, lambda ask: evaluate(Light(0.9), mixture, ask, batch)[0])  # all parts neutral: no slope
    same = (assigned(moved) == assigned(schedule)).flatten(1).all(1)
    assert same.float().mean() < 0.2  # by chance 1 in 24
    assert torch.allclose(moved.sum(1), torch.ones(50, 4), atol=1e-4)


def test_no_sample_hears_of_the_others_and_no_run_of_the_run_before():
    model, x, labels = small_network()
    alone = {"rounds": 3, "steps": 3, "stop": False, "seed": 4}
    one = caa(model, x, labels, **alone)
    others = torch.cat([x[:2], torch.rand(5, *x.shape[1:], generator=torch.Generator().manual_seed(9))])
    again = caa(model, others, torch.cat([labels[:2], model(others[2:]).argmax(1)]), **alone)
    assert torch.allclose(one.adversarial[:2], again.adversarial[:2], atol=1e-6)
    assert torch.equal(one.adversarial, caa(model, x, labels, **alone).adversarial)


@pytest.mark.parametrize("together", [False, True])
def test_only_the_right_order_reaches_far_enough(together):
    x, labels = gray(6)  # 0.59 with contrast first, 0.65 with brightness first
    settings = {"steps": 8, "rounds": 3, "together": together}
    right = caa(Light(0.62), x, labels, components=LIGHT, order="fixed", **settings)
    wrong = caa(Light(0.62), x, labels, components=LIGHT[::-1], order="fixed", **settings)
    assert right.success.all()
    assert not wrong.success.any()
    assert (right.adversarial.mean((1, 2, 3)) > 0.62).all()
    for order in ("random", "scheduled"):
        assert caa(Light(0.62), x, labels, components=LIGHT, order=order, **{**settings, "rounds": 9}).success.all()


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("together", [False, True])
def test_passes_are_counted_exactly(order, together):
    x, labels = gray(2)
    model, rounds, steps = Light(5), 2, 3
    result = caa(model, x, labels, components=(*LIGHT, "linf"), order=order, together=together, rounds=2, steps=3)
    descents = rounds * (1 if together else 3)
    looks = (rounds - 1) * (order == "scheduled")
    assert result.forward_passes.tolist() == [1 + descents * (steps + 1) + looks + 1] * 2
    assert result.backward_passes.tolist() == [descents * steps + looks] * 2
    assert model.sent == int(result.forward_passes.sum())
    assert model.differentiated == int(result.backward_passes.sum())


def test_the_usual_rounds_are_one_and_five_when_scheduled():
    x, labels = gray(1)
    passes = [caa(Light(5), x, labels, components=LIGHT, order=order, steps=1).forward_passes for order in ORDERS]
    assert [int(some) for some in passes] == [1 + 4 + 1, 1 + 4 + 1, 1 + 5 * 4 + 4 + 1]


@pytest.mark.parametrize("order", ORDERS)
def test_with_noise_alone_it_is_projected_gradient_descent(order):
    model, x, labels = small_network()
    x = 0.1 + 0.8 * x  # away from the bounds, where descent would forget what is cut off
    labels = model(x).argmax(1)
    ours = caa(model, x, labels, components=[PixelNoise(0.05)], order=order, rounds=1, stop=False)
    known = pgd(model, x, labels, epsilon=0.05, steps=10, stop=False)
    assert torch.allclose(ours.adversarial, known.adversarial, atol=1e-6)
    assert torch.equal(ours.success, known.success)
    assert torch.equal(ours.forward_passes, known.forward_passes)


def test_with_one_map_alone_it_is_the_semantic_attack_by_gradients():
    model, x, labels = small_network()
    ours = caa(model, x, labels, components=["rotation"], order="fixed", stop=False)
    known = semantic(model, x, labels, maps=["rotation"], search="gradient", stop=False)
    assert torch.equal(ours.adversarial, known.adversarial)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("together", [False, True])
def test_the_same_seed_gives_the_same_bits_and_valid_images(order, together):
    model, x, labels = small_network()
    settings = {"order": order, "together": together, "rounds": 2, "steps": 3, "stop": False}
    one, other, third = (caa(model, x, labels, seed=seed, **settings) for seed in (1, 1, 2))
    assert torch.equal(one.adversarial, other.adversarial)
    assert not torch.equal(one.adversarial, third.adversarial)
    assert one.adversarial.min() >= 0
    assert one.adversarial.max() <= 1
    wrong = model(one.adversarial).argmax(1) != labels
    assert torch.equal(one.success, wrong)
    pieces = caa(model, x, labels, batch_size=3, **settings)
    assert pieces.adversarial.shape == x.shape


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("shape", [(1, 5, 8), (3, 32, 32), (3, 9, 4)])
def test_single_images_of_any_size_and_gray_ones(order, together, shape):
    model, x, labels = small_network(shape)
    parts = ("rotation", "brightness", "contrast", "linf") if shape[0] == 1 else tuple(COMPONENTS)
    result = caa(
        model, x[:1], labels[:1], components=parts, order=order, together=together, steps=2, rounds=2, stop=False
    )
    assert result.adversarial.shape == (1, *shape)


def test_colourless_images_have_no_slope_in_their_hue_and_run_all_the_same():
    x, labels = gray(2)
    for together in (False, True):
        result = caa(Light(0.9), x, labels, components=["hue", "saturation"], together=together, steps=2, rounds=2)
        assert not result.success.any()
        assert torch.allclose(result.adversarial, x, atol=1e-6)


def test_a_model_that_overflows_is_said_to():
    x, labels = gray(2)
    model = Light(0.9)
    model.above = torch.nan
    with pytest.raises(InputError, match="with NaN"):
        caa(model, x, labels, components=LIGHT, steps=2)


def test_targets_and_budgets_are_kept():
    model, x, labels = small_network()
    targets = (labels + 1) % 4
    result = caa(model, x, labels, targets=targets, together=True)
    assert torch.equal(result.success, model(result.adversarial).argmax(1) == targets)
    assert result.success.any()
    short = caa(model, x, labels, budget=9, stop=False)
    assert short.forward_passes.max() <= 9


@dataclass(frozen=True)
class Dimming:
    """A user's own component: the left half darker by a number."""

    name: str = "dimming"
    interval: tuple[float, float] = (0.0, 0.5)
    shared: bool = False

    def start(self, x):
        return x.new_zeros(len(x), 1)

    def __call__(self, x, parameters):
        left = torch.arange(x.shape[3]) < x.shape[3] / 2
        return (x - left * as_tensor(parameters).reshape(-1, 1, 1, 1)).clamp(0, 1)

    def clip(self, x, parameters):
        return as_tensor(parameters).clamp(*self.interval)


def test_components_may_be_ones_own():
    x, labels = gray(2, shape=(1, 4, 4))
    labels = labels + 1
    darker = replace(COMPONENTS["brightness"], interval=(-0.06, 0.06))
    assert not caa(Light(0.15), x, labels, components=[darker]).success.any()
    assert caa(Light(0.15), x, labels, components=[Dimming(), darker], together=True).success.all()


def test_wrong_settings_are_refused_with_a_sentence():
    x, labels = gray(1, shape=(1, 3, 3))
    for settings_, sentence in (
        ({}, "three channels red, green and blue, but these have 1"),
        ({"components": ["fog"]}, "at least one of 'hue'"),
        ({"components": LIGHT, "order": "greedy"}, "order='greedy' is not known: use one of 'fixed'"),
        ({"components": LIGHT, "steps": 0}, "steps=0 is too few"),
        ({"components": LIGHT, "rounds": 0}, "rounds=0 is too few"),
        ({"components": LIGHT, "bounds": (0.0, 255.0)}, "changed in \\[0, 1\\]"),
        ({"components": LIGHT, "diagnose": True}, "use it with pgd"),
        ({"components": ["contrast", "contrast"]}, "each needs a name of its own"),
        ({"components": [PixelNoise(name="order")]}, "each needs a name of its own"),
    ):
        with pytest.raises(InputError, match=sentence):
            caa(Light(0.5), x, labels, **settings_)


@pytest.mark.slow
def test_a_chain_is_stronger_than_each_of_its_parts_on_a_robust_network(attack_target):
    whole = caa(*attack_target, order="fixed")
    assert whole.robust_rate.value < 0.6
    for name in COMPONENTS:
        alone = caa(*attack_target, components=[name], order="fixed")
        assert whole.success_rate.value > alone.success_rate.value
    together = caa(*attack_target, order="fixed", together=True, rounds=5)
    assert together.robust_rate.value < 0.32
    assert together.backward_passes.sum() < whole.backward_passes.sum()
