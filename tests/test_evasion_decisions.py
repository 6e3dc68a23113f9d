"""Attacks that see labels alone: how close they come, what they cost, where they start, and what they refuse."""

from functools import partial

import pytest
import torch
from torch import nn

from attacks.engine import Access
from attacks.engine.testing import LinearModel, check_attack, near_the_middle
from attacks.errors import InputError
from attacks.evasion.boundary import adapted, boundary
from attacks.evasion.boundary_search import DRAWS, TRIES
from attacks.evasion.decisions import QUERIES
from attacks.evasion.geoda import geoda, shares
from attacks.evasion.hopskipjump import hopskipjump, samples_at, steps_for
from attacks.evasion.rays import flipped, rays
from attacks.evasion.sign_opt import sign_opt
from attacks.models import load_model
from tasks.serving import serving

ATTACKS = {
    "boundary": (partial(boundary), "l2"),
    "geoda l2": (partial(geoda, norm="l2"), "l2"),
    "geoda linf": (partial(geoda, norm="linf"), "linf"),
    "geoda of the paper": (partial(geoda, remember=False), "l2"),
    "hopskipjump l2": (partial(hopskipjump, norm="l2"), "l2"),
    "hopskipjump linf": (partial(hopskipjump, norm="linf"), "linf"),
    "rays": (partial(rays), "linf"),
    "sign_opt": (partial(sign_opt), "l2"),
}
every_attack = pytest.mark.parametrize(("attack", "norm"), ATTACKS.values(), ids=ATTACKS.keys())


@pytest.mark.filterwarnings("ignore:No start was found")  # with budgets of a few queries
@pytest.mark.parametrize("shape", [(8,), (4, 6)], ids=str)
@every_attack
def test_it_comes_close_to_the_optimum_on_linear_models(attack, norm, shape):
    queries = 750 if attack.func in (boundary, rays) else 2500  # those two ask about one point at a time
    check_attack(partial(attack, budget=queries), norm=norm, minimum=True, ratio=1.06, shapes=(shape,))


@every_attack
def test_more_queries_come_closer_in_many_dimensions(attack, norm):
    model, x = LinearModel((3, 7, 7)), near_the_middle(8, (3, 7, 7))
    labels = model(x).argmax(1)
    needed = model.nearest(x, labels, norm)
    few, many = (attack(model, x, labels, budget=budget).distance / needed for budget in (300, 4000))
    assert (many - 1).mean() < 0.2 * (few - 1).mean()
    assert many.max() < (1.14 if attack.func in (hopskipjump, geoda) else 1.06)
    assert many.min() > 0.9995


@every_attack
def test_the_model_sees_valid_inputs_in_single_precision_and_the_callers_stay(attack, norm):
    seen = []

    class Watched(LinearModel):
        def forward(self, x):
            seen.append((x.dtype, float(x.min()), float(x.max())))
            return super().forward(x)

    model, x = Watched((4, 6)), near_the_middle(3, (4, 6))
    x[:, 0] = 0.0  # at the edge of the box
    labels, starts = model(x).argmax(1), torch.rand(x.shape)
    kept = x.clone(), labels.clone(), starts.clone()
    attack(model, x, labels, starts=starts, budget=150)
    assert all(torch.equal(one, other) for one, other in zip((x, labels, starts), kept, strict=True))
    assert {dtype for dtype, _, _ in seen} == {torch.float32}
    assert min(low for _, low, _ in seen) >= 0 and max(high for _, _, high in seen) <= 1


@every_attack
@pytest.mark.parametrize("budget", [3, 20, 60, 333])
def test_a_budget_is_used_and_never_exceeded(attack, norm, budget):
    model, x = LinearModel((4, 6)), near_the_middle(4, (4, 6))
    labels = model(x).argmax(1)
    model.sent = 0
    result = attack(model, x, labels, budget=budget)
    assert int(result.forward_passes.sum()) == model.sent
    assert result.forward_passes.max() <= budget
    assert set(result.backward_passes.tolist()) == {0}
    if attack.func in (boundary, rays):  # whose every step is one query, or two
        assert result.forward_passes.min() >= budget - 1
    elif budget == 333:
        assert result.forward_passes.min() > 0.7 * budget
    if budget >= 20:
        assert result.success.all()


@pytest.mark.parametrize("attack", [boundary, geoda, hopskipjump, rays, sign_opt], ids=lambda attack: attack.__name__)
def test_without_steps_and_budget_it_costs_about_the_same(attack):
    model, x = LinearModel((3, 7, 7)), near_the_middle(2, (3, 7, 7))
    queries = attack(model, x, model(x).argmax(1)).queries
    assert (queries > 0.8 * QUERIES).all() and (queries < 1.2 * QUERIES).all()


@every_attack
def test_the_label_is_all_it_sees(attack, norm):
    model, x = LinearModel((8,), classes=3), near_the_middle(5, (8,))
    labels = model(x).argmax(1)
    full = attack(model, x, labels, budget=200)
    access = Access(model, level="label")
    shown = attack(access, x, labels, budget=200)
    assert torch.equal(full.adversarial, shown.adversarial)
    assert access.queries == int(shown.queries.sum())


@every_attack
def test_a_model_whose_own_budget_is_spent_ends_the_run_with_what_was_found(attack, norm):
    model, x = LinearModel((8,)), near_the_middle(5, (8,))
    labels = model(x).argmax(1)
    access = Access(model, level="label", budget=700)
    result = attack(access, x, labels)
    assert access.queries <= 700 and result.success.all()
    assert (model(result.adversarial).argmax(1) != labels).all()


@every_attack
def test_a_sample_that_is_wrong_as_it_is_costs_two_looks(attack, norm):
    model, x = LinearModel((8,)), near_the_middle(3, (8,))
    labels = model(x).argmax(1)
    labels[1] = 1 - labels[1]
    result = attack(model, x, labels, budget=150)
    assert result.success.all()
    assert result.distance[1] == 0 and result.forward_passes[1] == 2
    assert (result.forward_passes[[0, 2]] > 50).all()


@every_attack
def test_a_batch_of_samples_that_are_all_wrong_ends_at_once(attack, norm):
    model, x = LinearModel((8,)), near_the_middle(3, (8,))
    result = attack(model, x, 1 - model(x).argmax(1))
    assert set(result.forward_passes.tolist()) == {2} and result.success.all()


def test_a_service_behind_http_is_attacked_as_any_other_model():
    pixels = nn.Sequential(nn.Flatten(), LinearModel((3, 6, 6)))
    x = (near_the_middle(2, (3, 6, 6)) * 255).round() / 255
    with serving(load_model(pixels, image_size=6, classes=2, name="pixels")) as url:
        service = load_model(url)
        labels = service(x).argmax(1)
        access, queries = Access(service, level="label"), 0
        for attack, _ in ATTACKS.values():
            result = attack(access, x, labels, levels=256, budget=4 + DRAWS)
            queries += int(result.queries.sum())
            assert result.success.all()
            assert (service(result.adversarial).argmax(1) != labels).all()
    assert access.queries == queries


class Bright(nn.Module):
    """Class 2 where the first six entries are bright on average, 1 where the first beats the second, else 0."""

    def forward(self, x):
        return torch.stack((torch.zeros(len(x)), 10 * (x[:, 0] - x[:, 1]), 1000 * (x[:, :6].mean(1) - 0.9)), 1)


def dark(n):
    """Samples of class 0, their labels, and the targets, which random inputs do not reach."""
    x = 0.15 + 0.15 * torch.rand(n, 8, generator=torch.Generator().manual_seed(3))
    x[:, 0] = x[:, 1] - 0.05
    return x, torch.zeros(n, dtype=torch.int64), torch.full((n,), 2)


@every_attack
def test_samples_without_a_start_are_failures(attack, norm):
    x, constant = near_the_middle(3, (8,)), nn.Module()
    constant.forward = lambda x: torch.tensor([1.0, 0.0]).repeat(len(x), 1)
    with pytest.warns(UserWarning, match="No start was found for 3 of 3 samples, which count as failures"):
        result = attack(constant, x, torch.zeros(3, dtype=torch.int64))
    assert not result.success.any()
    assert (result.forward_passes <= TRIES + 4).all()


@every_attack
def test_targets_are_reached_from_given_starts(attack, norm):
    x, labels, targets = dark(4)
    result = attack(Bright(), x, labels, targets=targets, starts=torch.ones_like(x), budget=600)
    assert result.success.all()
    assert (Bright()(result.adversarial).argmax(1) == 2).all()
    needed = (0.9 - x[:, :6].mean(1)) * (6**0.5 if norm == "l2" else 1)
    assert (result.distance / needed).max() < 1.1
    assert (result.distance >= needed * 0.999).all()


@pytest.mark.filterwarnings("ignore:No start was found")
@every_attack
def test_starts_belong_to_their_samples_in_every_batch(attack, norm):
    x, labels, targets = dark(5)
    starts = torch.ones_like(x)
    starts[[1, 2, 4]] = 0.0  # these do not meet the goal
    found = partial(attack, Bright(), x, labels, targets=targets, starts=starts, budget=DRAWS)
    whole, parts = found(), found(batch_size=2)
    expected = torch.tensor([True, False, False, True, False])
    for result in (whole, parts):
        assert result.success[expected].all()
        assert torch.equal(result.success, expected) or attack.func is rays  # which tries the corners of the box
        assert result.adversarial.shape == x.shape and (result.queries <= DRAWS).all()
    again = found(batch_size=2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(parts.adversarial, again.adversarial)


@every_attack
def test_other_bounds_scale_what_is_found(attack, norm):
    model, x = LinearModel((8,)), near_the_middle(4, (8,))
    labels = model(x).argmax(1)

    def wide(inputs):
        return model(inputs / 255)

    narrow = attack(model, x, labels, budget=300)
    wider = nn.Module()
    wider.forward = wide
    result = attack(wider, 255 * x, labels, budget=300, bounds=(0.0, 255.0))
    assert torch.allclose(result.distance / 255, narrow.distance, rtol=0.05)


@every_attack
def test_rounded_images_count_when_they_still_succeed(attack, norm):
    model, x = LinearModel((8,)), (near_the_middle(4, (8,)) * 255).round() / 255
    labels = model(x).argmax(1)
    result = attack(model, x, labels, budget=300, levels=256)
    assert result.success.all()
    assert torch.allclose(result.adversarial * 255, (result.adversarial * 255).round(), atol=1e-3)
    assert (model(result.adversarial).argmax(1) != labels).all()


@pytest.mark.parametrize("attack", [boundary, geoda, hopskipjump, sign_opt], ids=lambda attack: attack.__name__)
def test_low_frequencies_find_smooth_boundaries_sooner(attack):
    class Smooth(nn.Module):
        """The boundary faces one slow wave over the image."""

        def forward(self, x):
            wave = torch.cos(torch.arange(16) * torch.pi / 16)
            score = ((x - 0.5) * wave[:, None] * wave).flatten(1).sum(1)
            return torch.stack((torch.zeros(len(x)), score), 1)

    x = near_the_middle(6, (1, 16, 16))
    labels = Smooth()(x).argmax(1)
    all_, low = (attack(Smooth(), x, labels, budget=600, frequencies=share) for share in (1.0, 0.25))
    assert all_.success.all() and low.success.all()
    assert low.distance.mean() < 0.8 * all_.distance.mean()


def test_what_is_remembered_saves_queries_where_the_boundary_is_flat():
    model, x = LinearModel((3, 7, 7)), near_the_middle(6, (3, 7, 7))
    labels = model(x).argmax(1)
    latest, all_ = (geoda(model, x, labels, budget=3000, remember=remember) for remember in (False, True))
    assert (all_.distance < latest.distance).all()


def test_estimates_grow_with_the_root_of_the_step_up_to_a_limit():
    assert [samples_at(step, 100, 250) for step in (1, 2, 3, 9)] == [100, 141, 173, 250]
    assert [steps_for(queries, 100, 10_000) for queries in (1, 240, 241, 413, 414)] == [1, 1, 2, 2, 3]


def test_shares_grow_and_add_up():
    given = shares(2000, 8)
    assert given == sorted(given) and abs(sum(given) - 2000) < 8
    assert given[-1] / given[-2] == pytest.approx(0.6 ** (-2 / 3), rel=0.02)
    assert shares(3, 6) == [1, 1, 1, 1, 1, 1]


def test_step_sizes_settle_where_the_wanted_share_succeeds():
    size = torch.ones(1)
    for step in range(400):
        size = adapted(size, torch.tensor([step % 4 == 0]), share=0.25, rate=0.2)
    assert float(size) == pytest.approx(1.0, abs=0.2)


def test_every_block_is_flipped_once_a_round():
    for entries in (1, 5, 8, 24):
        signs = torch.ones(1, entries)
        for blocks in (1, 2, entries):
            if blocks <= entries:
                turned = sum(flipped(signs, torch.tensor([blocks]), torch.tensor([i])) for i in range(blocks))
                assert torch.equal(turned, torch.full((1, entries), blocks - 2.0))


@pytest.mark.parametrize(
    ("attack", "settings", "sentence"),
    [
        (hopskipjump, {"norm": "l1"}, "norm='l1' does not suit"),
        (hopskipjump, {"steps": 0}, "steps=0 is too few"),
        (hopskipjump, {"initial_samples": 1.5}, "initial_samples=1.5 is no whole number"),
        (hopskipjump, {"max_samples": 0}, "max_samples=0 is too few"),
        (hopskipjump, {"frequencies": 0.0}, "frequencies=0.0 cannot be used: it must be a number above 0 and up to 1"),
        (geoda, {"frequencies": 1.5}, "frequencies=1.5 cannot be used"),
        (geoda, {"norm": "l0"}, "norm='l0' does not suit"),
        (geoda, {"samples": 0}, "samples=0 is too few"),
        (sign_opt, {"samples": 0}, "samples=0 is too few"),
        (sign_opt, {"step_size": float("nan")}, "step_size=nan cannot be used"),
        (boundary, {"step_around": -0.1}, "step_around=-0.1 cannot be used"),
        (rays, {"steps": -1}, "steps=-1 is too few"),
        (rays, {"budget": 1}, "budget=1 is too few"),
        (rays, {"starts": torch.zeros(3, 8)}, r"starts came in shape \(3, 8\) but must be a tensor of shape \(2, 8\)"),
        (geoda, {"starts": [1]}, "starts came as a list but must be a tensor"),
        (boundary, {"starts": torch.full((2, 8), 3.0)}, r"These starts cannot be used. The samples lie in \[3, 3\]"),
        (sign_opt, {"starts": torch.zeros(2, 8), "batch_size": 0}, "batch_size=0 is too few"),
    ],
)
def test_wrong_settings_are_refused_with_a_sentence(attack, settings, sentence):
    x = near_the_middle(2, (8,))
    with pytest.raises(InputError, match=sentence):
        attack(LinearModel((8,)), x, torch.zeros(2, dtype=torch.int64), **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "distance"),
    [
        (partial(hopskipjump, steps=10), 3.8),  # foolbox 3.3.4: 7.09, ART 1.20.1: 4.2 to 4.6, at as many queries
        (partial(hopskipjump, norm="linf", budget=2500), 0.22),
        (partial(sign_opt, budget=2500), 3.8),
        (partial(geoda, budget=2500), 3.5),
        (partial(geoda, norm="linf", budget=2500), 0.21),
        (partial(boundary, budget=2500), 5.1),
        (partial(boundary, budget=2500, frequencies=0.5), 3.7),
        (partial(rays, budget=1000), 0.18),
    ],
)
def test_the_fields_figures(attack_target, attack, distance):
    model, x, labels = attack_target
    result = attack(model, x[:16], labels[:16])
    assert result.success.all()
    assert result.queries.max() <= 2520
    assert result.distance.mean() < distance
