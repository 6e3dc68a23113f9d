"""The driver on linear models, where the optimal perturbation is known in closed form."""

from functools import partial

import pytest
import torch
from torch import nn

from attacks.engine import (
    Ask,
    Batch,
    cross_entropy,
    drive,
    evaluate,
    get_norm,
    margin,
    run,
    untargeted,
)
from attacks.engine.rounds import _rounded
from attacks.evasion import bim, fgsm, pgd, universal_perturbation

SHAPES = [(8,), (4, 6), (3, 7, 7)]
DUAL = {"linf": "l1", "l2": "l2"}


class Linear(nn.Module):
    """Two classes, or more, of flattened samples; counts what is sent through it."""

    def __init__(self, shape: tuple[int, ...], classes: int = 2, seed: int = 0) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(seed)
        size = int(torch.tensor(shape).prod())
        self.weight = nn.Parameter(torch.randn(classes, size, generator=draws))
        self.sent = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.sent += len(x)
        return (x - 0.5).flatten(1) @ self.weight.T


def samples(n: int, shape: tuple[int, ...], seed: int = 1) -> torch.Tensor:
    """Near the middle of the box, so that the box does not bind before the ball does."""
    return 0.5 + 0.1 * (torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed)) - 0.5)


def optimum(model: Linear, x: torch.Tensor, labels: torch.Tensor, norm: str) -> torch.Tensor:
    """The smallest perturbation that reaches the boundary: margin over dual norm of the weights' difference."""
    logits = model(x).detach()
    difference = model.weight.detach()[1] - model.weight.detach()[0]
    margin = (logits[:, 1] - logits[:, 0]).abs()
    size = difference.abs().sum() if DUAL[norm] == "l1" else difference.norm()
    return margin / size


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("attack", [fgsm, partial(bim, steps=10), partial(pgd, steps=40)], ids=["fgsm", "bim", "pgd"])
def test_attacks_break_a_sample_exactly_when_the_ball_reaches_the_boundary(attack, n, shape, norm):
    model, x = Linear(shape), samples(n, shape)
    labels = model(x).argmax(1)
    needed = optimum(model, x, labels, norm)
    for row in range(n):
        one, label, radius = x[row : row + 1], labels[row : row + 1], float(needed[row])
        assert not attack(model, one, label, epsilon=0.98 * radius, norm=norm).success.any()
        result = attack(model, one, label, epsilon=1.02 * radius, norm=norm)
        assert result.success.all()
        assert float(result.distance) <= 1.02 * radius * (1 + 1e-6) + 1e-6
        assert float(result.distance) >= radius * (1 - 1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_results_stay_in_the_ball_and_the_box_and_are_judged_there(norm):
    model, x = Linear((3, 7, 7), classes=5), torch.rand(16, 3, 7, 7)
    labels, epsilon = model(x).argmax(1), {"linf": 0.1, "l2": 0.8}[norm]
    result = pgd(model, x, labels, epsilon=epsilon, norm=norm, steps=20)
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert torch.equal(result.distance, get_norm(norm).size(result.adversarial - x))
    assert (result.distance <= epsilon + 1e-5).all()
    assert torch.equal(result.success, model(result.adversarial).argmax(1) != labels)
    assert result.success.any()


def test_passes_are_counted_exactly_for_each_sample():
    model, x = Linear((8,)), samples(6, (8,))
    labels = model(x).argmax(1)
    radius = float(optimum(model, x, labels, "linf").median()) * 1.01
    model.sent = 0
    result = bim(model, x, labels, epsilon=radius, steps=10)
    assert int(result.forward_passes.sum()) == model.sent
    assert result.success.any() and not result.success.all()
    # An unbroken sample: ten gradients, the look at the last point, the judgement.
    assert set(result.forward_passes[~result.success].tolist()) == {12}
    assert set(result.backward_passes[~result.success].tolist()) == {10}
    # A broken one stops once it is found: a gradient at every point but perhaps the last.
    steps = result.backward_passes[result.success]
    assert (steps < 11).all() and (result.forward_passes[result.success] <= steps + 2).all()


def test_skipping_finished_rows_changes_nothing_but_the_cost():
    model, x = Linear((4, 6), classes=4), torch.rand(32, 4, 6)
    labels = model(x).argmax(1)
    attack = partial(pgd, model, x, labels, epsilon=0.05, steps=15, seed=3)
    skipped, full = attack(), attack(stop=False)
    assert skipped.success.any() and not skipped.success.all()
    assert torch.equal(skipped.success, full.success)
    assert skipped.robust_rate.successes + skipped.success_rate.successes == skipped.robust_rate.n == 32
    assert torch.allclose(skipped.adversarial, full.adversarial, atol=1e-6)
    assert set(full.backward_passes.tolist()) == {15}
    assert skipped.backward_passes.sum() < full.backward_passes.sum()


def test_batches_give_the_same_answer_without_a_random_start():
    model, x = Linear((8,), classes=3), torch.rand(10, 8)
    labels = model(x).argmax(1)
    whole = bim(model, x, labels, epsilon=0.1)
    split = bim(model, x, labels, epsilon=0.1, batch_size=3)
    assert torch.allclose(whole.adversarial, split.adversarial, atol=1e-6)
    assert torch.equal(whole.forward_passes, split.forward_passes)


def test_same_seed_same_bits_other_seed_other_start():
    model, x = Linear((8,), classes=3), torch.rand(10, 8)
    labels = model(x).argmax(1)
    attack = partial(pgd, model, x, labels, epsilon=0.01, steps=2, step_size=0.001)
    assert torch.equal(attack(seed=1).adversarial, attack(seed=1).adversarial)
    assert not torch.equal(attack(seed=1).adversarial, attack(seed=2).adversarial)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(attack(generator=generator).adversarial, attack(seed=1).adversarial)


def test_restarts_only_touch_samples_that_are_still_standing():
    model, x = Linear((8,)), samples(6, (8,))
    labels = model(x).argmax(1)
    radius = float(optimum(model, x, labels, "linf").median()) * 1.01
    once = pgd(model, x, labels, epsilon=radius, steps=10)
    thrice = pgd(model, x, labels, epsilon=radius, steps=10, restarts=3)
    assert torch.equal(once.backward_passes[once.success], thrice.backward_passes[once.success])
    assert set(thrice.backward_passes[~thrice.success].tolist()) == {30}


@pytest.mark.parametrize("budget", [2, 3, 7])
def test_the_budget_is_never_exceeded_by_one_pass(budget):
    model, x = Linear((8,)), samples(5, (8,))
    labels = model(x).argmax(1)
    model.sent = 0
    result = pgd(model, x, labels, epsilon=1e-4, steps=50, restarts=4, budget=budget)
    assert not result.success.any()
    assert set(result.forward_passes.tolist()) == {budget}
    assert model.sent == budget * len(x)


def test_targeted_runs_end_at_their_targets():
    model, x = Linear((8,), classes=4), torch.rand(12, 8)
    labels = model(x).argmax(1)
    targets = (labels + 1) % 4
    result = pgd(model, x, labels, epsilon=0.5, steps=50, targets=targets)
    assert result.success.any()
    assert torch.equal(model(result.adversarial).argmax(1)[result.success], targets[result.success])


def test_probes_are_counted_but_never_kept():
    model, x = Linear((8,)), samples(4, (8,))
    labels = model(x).argmax(1)

    def peek(x, perturbation, *, generator):
        far = -10 * (x - 0.5)  # on the other side of the boundary through the middle
        answer = yield Ask(far, probe=True)
        assert answer.fooled.all()
        yield Ask(perturbation.start(x))

    result = run(peek, model, x, labels, norm="linf")
    assert not result.success.any() and torch.equal(result.adversarial, x)
    assert set(result.forward_passes.tolist()) == {3}


def test_a_rank_keeps_the_nearest_success_and_none_the_first():
    model, x = Linear((8,)), samples(4, (8,))
    labels = model(x).argmax(1)

    def shrinking(x, perturbation, *, generator):
        for share in (4.0, 2.5, 3.0, 0.1):  # beyond the middle when above 1; the last no longer fools
            yield Ask(-share * (x - 0.5))

    nearest = run(shrinking, model, x, labels, norm="l2", rank=get_norm("l2").size)
    first = run(shrinking, model, x, labels, norm="l2", stop=False)
    offset = (x - 0.5).norm(dim=1)
    assert torch.allclose(nearest.distance, 2.5 * offset, rtol=1e-4)
    assert torch.allclose(first.distance, 4.0 * offset, rtol=1e-4)
    assert nearest.success.all() and first.success.all()


def test_rows_that_are_done_hear_zeros():
    model, x = Linear((8,)), samples(3, (8,))
    labels = model(x).argmax(1)
    heard = []

    def half(x, perturbation, *, generator):
        jump = torch.zeros_like(x)
        jump[0] = -3 * (x[0] - 0.5)
        for _ in range(2):
            heard.append((yield Ask(jump, untargeted(cross_entropy), gradient=True)))

    run(half, model, x, labels, norm="l2")
    assert heard[0].fooled.tolist() == [True, False, False]
    assert heard[1].slope()[0].abs().sum() == 0 and heard[1].logits[0].abs().sum() == 0
    assert torch.equal(heard[1].slope()[1:], heard[0].slope()[1:])


@pytest.mark.parametrize("levels", [2, 256])
def test_success_is_judged_on_rounded_inputs_that_stay_in_the_ball(levels):
    model, x = Linear((3, 7, 7)), (torch.rand(16, 3, 7, 7) * (levels - 1)).round() / (levels - 1)
    labels = model(x).argmax(1)
    result = pgd(model, x, labels, epsilon=0.031, steps=10, levels=levels)
    grid = result.adversarial * (levels - 1)
    assert torch.allclose(grid, grid.round(), atol=1e-4)
    assert (result.distance <= 0.031 + 1e-6).all()
    assert torch.equal(result.success, model(result.adversarial).argmax(1) != labels)
    if levels == 2:
        assert not result.success.any()  # a black-and-white image has nothing within that ball but itself


def test_the_model_comes_back_as_it_was():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).train()
    model[1].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    statistics = model[2].running_mean.clone()
    pgd(model, torch.rand(6, 8), torch.zeros(6, dtype=torch.int64), epsilon=0.1, steps=3)
    assert model.training and not model[1].weight.requires_grad and model[4].weight.requires_grad
    assert model[4].weight.grad.sum() == model[4].weight.numel() and model[4].bias.grad is None
    assert torch.equal(model[2].running_mean, statistics)


def test_a_universal_perturbation_finds_the_direction_that_moves_every_sample():
    model, shape = Linear((3, 5, 5)), (3, 5, 5)
    difference = (model.weight[0] - model.weight[1]).detach().reshape(shape)
    x = 0.5 + 0.01 * difference / difference.abs().max()  # all in class 0, all near the boundary
    x = x + 0.001 * torch.randn(20, *shape, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(20, dtype=torch.int64)
    result = universal_perturbation(model, x, labels, epsilon=0.05, batch_size=6, epochs=8)
    assert result.success.all()
    assert result.shared.shape == (1, *shape)
    assert result.shared.abs().max() <= 0.05 + 1e-6
    # In l-inf the optimal direction is the sign of the weights' difference, everywhere.
    assert torch.equal(result.shared[0].sign(), -difference.sign())
    assert set(result.backward_passes.tolist()) == {8}


def test_named_parameters_get_named_gradients_and_unused_ones_zeros():
    batch = Batch(torch.ones(2, 3), torch.tensor([0, 1]), None, torch.arange(2))

    class Scale:
        shared = True

        def start(self, x):
            return {"scale": torch.ones(1), "unused": torch.ones(2)}

        def __call__(self, x, parameters):
            return x * parameters["scale"]

        def clip(self, x, parameters):
            return parameters

    def method():
        return (yield Ask(Scale().start(batch.inputs), lambda view: view.logits.sum(1), gradient=True))

    answer = drive(method(), lambda ask: evaluate(nn.Identity(), Scale(), ask, batch)[0])
    assert answer.gradient["scale"].tolist() == [6.0] and answer.gradient["unused"].tolist() == [0.0, 0.0]


def test_a_method_that_returns_early_ends_the_run():
    def silent(x, perturbation, *, generator):
        return
        yield

    x = torch.rand(3, 4)
    result = run(silent, nn.Identity(), x, torch.zeros(3, dtype=torch.int64), norm="l2")
    assert torch.equal(result.adversarial, x) and set(result.forward_passes.tolist()) == {1}


@pytest.mark.parametrize("scale", [1, 100, 1e4])
def test_the_length_of_the_gradient_does_not_matter_in_l2(scale):
    # With logits this far apart, the gradient of the cross-entropy is too short to be squared in float32.
    model, x = Linear((3, 7, 7)), samples(8, (3, 7, 7))
    labels = model(x).argmax(1)
    radius = float(optimum(model, x, labels, "l2").max())
    model.weight.data *= scale
    assert pgd(model, x, labels, epsilon=1.1 * radius, norm="l2", loss=margin).success.all()
    tiny = torch.full((1, 9), 1e-30)
    assert torch.allclose(get_norm("l2").steepest(tiny), torch.full((1, 9), 1 / 3))
    assert get_norm("l2").steepest(0 * tiny).abs().sum() == 0


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_other_bounds_give_the_same_successes(norm):
    model = Linear((3, 7, 7), classes=4)
    x = torch.rand(64, 3, 7, 7)
    labels, epsilon = model(x).argmax(1), {"linf": 0.02, "l2": 0.15}[norm]

    class Wide(nn.Module):
        def forward(self, images):
            return model(images / 255)

    unit = bim(model, x, labels, epsilon=epsilon, norm=norm)
    wide = bim(Wide(), 255 * x, labels, epsilon=255 * epsilon, norm=norm, bounds=(0, 255))
    assert unit.success.any() and not unit.success.all()
    assert (unit.success == wide.success).float().mean() > 0.98
    assert (wide.distance <= 255 * epsilon * (1 + 1e-5)).all()


def test_a_success_outside_the_ball_does_not_end_the_search():
    model, x = Linear((8,)), samples(4, (8,))
    labels = model(x).argmax(1)
    offset = (x - 0.5).norm(dim=1)

    def far_then_near(x, perturbation, *, generator, epsilon):
        for share in (4.0, 1.5):
            yield Ask(-share * (x - 0.5))

    limit = float(2 * offset.max())
    result = run(far_then_near, model, x, labels, norm="l2", epsilon=limit)
    assert result.success.all() and (result.distance <= limit).all()
    too_far = run(far_then_near, model, x, labels, norm="l2", epsilon=float(offset.min()))
    assert not too_far.success.any()


@pytest.mark.parametrize("off", [0.0, 0.3])
def test_rounding_never_moves_a_sample_past_its_clean_self(off):
    clean = (torch.randint(1, 254, (500, 3)) + off) / 255
    x = (clean + (torch.rand(500, 3) - 0.5) * 6 / 255).clamp(0, 1)
    rounded = _rounded(x, clean, (0.0, 1.0), 256) * 255
    assert torch.allclose(rounded, rounded.round(), atol=1e-3)
    moved, wanted = (rounded - clean * 255).abs(), (x - clean).abs() * 255
    # Not further from the clean entry than before, unless the clean entry itself is on no level.
    assert (moved <= torch.maximum(wanted, torch.full_like(wanted, min(off, 1 - off))) + 2e-3).all()
    ten = torch.tensor([[10.4 / 255]])
    assert float(_rounded(torch.tensor([[10.45 / 255]]), ten, (0.0, 1.0), 256) * 255) == pytest.approx(10)


def test_with_levels_the_search_goes_on_until_the_rounded_sample_succeeds():
    model = nn.Linear(1, 2, bias=False)
    model.weight.data = torch.tensor([[1.0], [-1.0]])
    half = nn.Sequential(Shift(100.4 / 255), model)  # class 0 above 100.4 levels, class 1 below
    x, labels = torch.tensor([[102.0 / 255]]), torch.tensor([0])

    def walk(x, perturbation, *, generator, epsilon):
        for levels in (0.0, 1.55, 1.7, 2.0):  # to 100.45, still right; to 100.3, wrong, but right when rounded to 101
            yield Ask(torch.full_like(x, -levels / 255))

    result = run(walk, half, x, labels, norm="linf", epsilon=2 / 255, levels=256)
    assert result.success.all() and float(result.adversarial * 255) == pytest.approx(100, abs=1e-3)
    assert int(result.forward_passes) == 4 + 2 + 1  # four candidates, two looks at rounded ones, the judgement


class Shift(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x - self.by


def test_what_is_wrong_already_needs_no_attack():
    model, x = Linear((8,)), samples(5, (8,))
    wrong = 1 - model(x).argmax(1)
    result = pgd(model, x, wrong, epsilon=0.01)
    assert result.success.all() and result.distance.max() == 0 and result.backward_passes.sum() == 0


def test_half_precision_models_are_judged_in_single_precision():
    model = nn.Linear(4, 3).to(torch.bfloat16)

    class Low(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = model

        def forward(self, x):
            return self.inner(x.to(torch.bfloat16))

    heard = []

    def look(x, perturbation, *, generator):
        heard.append((yield Ask(perturbation.start(x), untargeted(cross_entropy), gradient=True)))

    run(look, Low(), torch.tensor([[0.9, 0.1, 0.2, 0.3]] * 3), torch.zeros(3, dtype=torch.int64), norm="l2")
    assert heard[0].logits.dtype == heard[0].loss.dtype == torch.float32


def test_a_point_outside_the_box_is_judged_where_it_could_be_sent():
    model, x = Linear((8,)), samples(4, (8,))
    labels = model(x).argmax(1)

    def beyond(x, perturbation, *, generator):
        yield Ask(-30 * (x - 0.5))

    result = run(beyond, model, x, labels, norm="l2")
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert torch.equal(result.distance, (result.adversarial - x).norm(dim=1))
    assert torch.equal(result.success, model(result.adversarial).argmax(1) != labels)


def test_a_universal_perturbation_stops_pulling_at_samples_that_are_lost_and_shuffles_them():
    x, labels = torch.full((6, 2), 0.5), torch.zeros(6, dtype=torch.int64)
    x[:, 0] += torch.tensor([0.02, 0.04, 0.06, 0.08, 0.1, 0.12])
    lost = nn.Sequential(Shift(0.5), nn.Linear(2, 2, bias=False))
    lost[1].weight.data = torch.tensor([[0.0, 0.0], [400.0, 0.0]])  # a cross-entropy of 8 and more from the start
    far = universal_perturbation(lost, x + 0.1, labels, epsilon=0.1, epochs=3)
    assert far.shared.abs().sum() == 0  # every loss lies beyond the truncation, so nothing pulls
    steep = nn.Linear(2, 3)
    first, second = (
        universal_perturbation(steep, torch.rand(6, 2), labels, epsilon=0.3, step_size=0.2, norm="l2", epochs=1,
                               batch_size=1, seed=seed).shared
        for seed in (0, 1)
    )  # fmt: skip
    assert not torch.equal(first, second)
