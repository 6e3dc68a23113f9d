"""Gradients from function values: how far from the true ones, at what price, and for whom."""

from functools import partial

import pytest
import torch
from torch import nn

import attacks.engine.estimation
from attacks.engine import (
    Access,
    Additive,
    Ask,
    Batch,
    Stream,
    Universal,
    View,
    drive,
    evaluate,
    get_norm,
    margin,
    run,
    untargeted,
)
from attacks.engine.estimation import Estimation, by_queries
from attacks.engine.estimators import Upsampled, coordinate, nes, rgf, spsa, spsa_gc
from attacks.errors import InputError
from attacks.evasion import carlini_wagner, pgd
from attacks.evasion.pgd import projected_descent

SIZE = 6
CURVE = torch.randn(SIZE, SIZE, generator=torch.Generator().manual_seed(7))
CURVE = CURVE @ CURVE.T / SIZE
TWO_SIDED = {"nes": nes, "rgf": partial(rgf, two_sided=True), "spsa": spsa}


class Flat(nn.Module):
    """Two classes of flattened samples; notes how many samples each call brings."""

    def __init__(self, size=SIZE, classes=2):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(classes, size, generator=torch.Generator().manual_seed(3)))
        self.calls = []

    def forward(self, x):
        self.calls.append(len(x))
        return x.flatten(1) @ self.weight.T


def linear(view):
    """One loss a sample, linear in the parameters, another one for each sample."""
    slopes = torch.arange(1, SIZE + 1) * (1.0 + view.batch.rows[:, None])
    return (view.parameters.flatten(1) * slopes).sum(1)


def quadratic(view):
    p = view.parameters.flatten(1)
    return 0.5 * ((p @ CURVE) * p).sum(1) + linear(view)


def slopes_of(estimator, objective, n=3, at=0.0, seed=0, shape=(SIZE,)):
    """The estimate at one point of each of n samples, shape ``[n, ...]``."""
    heard = []

    def method(x, perturbation, *, generator):
        heard.append((yield Ask(torch.full_like(x, at), objective, gradient=True)).slope())

    x, labels = torch.full((n, *shape), 0.5), torch.zeros(n, dtype=torch.int64)
    run(by_queries(method, estimator), Flat(), x, labels, norm="l2", stop=False, seed=seed)
    return heard[0]


def true_slopes(n):
    return torch.arange(1.0, SIZE + 1) * torch.arange(1.0, n + 1)[:, None]


@pytest.mark.parametrize(
    ("estimator", "spread"),
    # What of one direction is off, in multiples of the gradient's squared length: |v|^2 g'vv'g less |g|^2.
    [(nes, SIZE + 1), (rgf, SIZE - 1), (partial(rgf, two_sided=True), SIZE - 1), (spsa, SIZE - 1)],
    ids=["nes", "rgf", "rgf two-sided", "spsa"],
)
def test_the_mean_is_the_gradient_and_the_error_is_what_theory_says(estimator, spread):
    n, samples = 400, 50
    slopes, true = slopes_of(estimator(samples, 0.1), linear, n), true_slopes(n)
    error = (slopes - true) / true.norm(dim=1, keepdim=True)
    assert float(error.square().sum(1).mean() * samples) == pytest.approx(spread, rel=0.15)
    # The mean over the rows is n times as sure: three of its standard deviations.
    assert float(error.mean(0).norm()) < 3 * (spread / samples / n) ** 0.5


@pytest.mark.parametrize("name", TWO_SIDED)
def test_two_sides_cancel_the_curvature_and_one_does_not(name):
    estimator = TWO_SIDED[name](4, 0.5)

    def tangent(view):
        p, at = view.parameters.flatten(1), torch.full((SIZE,), 0.2)
        return p @ (CURVE @ at) + linear(view)

    assert torch.allclose(slopes_of(estimator, quadratic, at=0.2), slopes_of(estimator, tangent, at=0.2), atol=1e-3)
    one_sided = [slopes_of(rgf(4, 0.5), objective, at=0.2) for objective in (quadratic, tangent)]
    assert not torch.allclose(*one_sided, atol=0.1)


def test_all_entries_give_the_exact_gradient_of_a_quadratic_and_some_give_theirs():
    p = torch.full((3, SIZE), 0.2)
    true = p @ CURVE + true_slopes(3)
    assert torch.allclose(slopes_of(coordinate(SIZE, 0.1), quadratic, at=0.2), true, atol=1e-4)
    assert torch.allclose(slopes_of(coordinate(100, 0.1), quadratic, at=0.2), true, atol=1e-4)
    some = slopes_of(coordinate(2, 0.1), quadratic, n=3, at=0.2)
    assert ((some != 0).sum(1) == 2).all()
    assert torch.allclose(some[some != 0], true[some != 0], atol=1e-4)
    drawn = torch.stack([slopes_of(coordinate(2, 0.1), quadratic, seed=seed)[0] != 0 for seed in range(40)])
    assert drawn.any(0).all()  # no entry is left out


def test_the_estimate_is_the_same_however_it_is_cut_into_pieces(monkeypatch):
    whole = slopes_of(coordinate(4, 0.1), quadratic)
    monkeypatch.setattr(attacks.engine.estimation, "ENTRIES", 3 * SIZE)  # one direction for each of three samples
    assert torch.allclose(slopes_of(coordinate(4, 0.1), quadratic), whole, atol=1e-5)
    n, samples = 400, 20
    error = slopes_of(spsa(samples, 0.1), linear, n) - true_slopes(n)
    error = (error / true_slopes(n).norm(dim=1, keepdim=True)).square().sum(1).mean() * samples
    assert float(error) == pytest.approx(SIZE - 1, rel=0.15)


def test_same_seed_same_bits():
    for estimator in (nes(3), rgf(3), spsa(3), spsa_gc(3), coordinate(3)):
        first, again, other = (slopes_of(estimator, quadratic, seed=seed) for seed in (1, 1, 2))
        assert torch.equal(first, again) and not torch.equal(first, other)


def nesterov(slope, start, step_size, momentum, steps):
    """The accelerated method as papers write it; the points ahead, at which slopes are taken."""
    place, velocity, ahead = start, torch.zeros_like(start), []
    for _ in range(steps):
        ahead.append(place + momentum * velocity)
        velocity = momentum * velocity - step_size * slope(ahead[-1])
        place = place + velocity
    return torch.stack(ahead)


def test_the_corrected_gradient_makes_plain_descent_nesterovs():
    def bowl(view):
        return 2 * (view.parameters.flatten(1) - 0.3).square().sum(1)

    asked = []

    def descent(x, perturbation, *, generator):
        p = torch.zeros_like(x)
        for _ in range(6):
            asked.append(p)
            p = p - 0.1 * (yield Ask(p, bowl, gradient=True)).slope()

    # In one dimension a direction's estimate is exact, so the points show the recursion alone.
    x, labels = torch.full((2, 1), 0.5), torch.zeros(2, dtype=torch.int64)
    model, attack = nn.Sequential(nn.Linear(1, 2)), by_queries(descent, spsa_gc(1, 0.1, momentum=0.8))
    run(attack, model, x, labels, norm="l2", stop=False, restarts=2)
    expected = nesterov(lambda p: 4 * (p - 0.3), torch.zeros(2, 1), 0.1, 0.8, 6)
    assert torch.allclose(torch.stack(asked[:6]), expected, atol=1e-5)
    assert torch.allclose(torch.stack(asked[6:]), expected, atol=1e-5)  # a restart begins without velocity


def pgd_by_queries(estimator, model, x, labels, *, epsilon, steps=3, random_start=False, **options):
    descent = partial(
        projected_descent,
        objective=untargeted(margin),
        norm=get_norm("linf"),
        steps=steps,
        step_size=None,
        pace=2.5,
        random_start=random_start,
    )
    method = by_queries(descent, estimator, bounds=(0.0, 1.0))
    return run(method, model, x, labels, norm="linf", epsilon=epsilon, **options)


def threatened(n=5, shape=(SIZE,)):
    """A model, samples in the middle of the box, their labels, and the l-inf radius at which each can fall."""
    model = Flat(torch.Size(shape).numel())
    x = 0.5 + 0.02 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))
    logits = model(x).detach()
    weight = model.weight.detach()
    radii = (logits[:, 0] - logits[:, 1]).abs() / (weight[0] - weight[1]).abs().sum()
    model.calls.clear()
    return model, x, logits.argmax(1), radii


class Silent(nn.Module):
    """A model whose answers carry no gradient."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    @torch.no_grad()
    def forward(self, x):
        return self.model(x)


@pytest.mark.parametrize("shape", [(8,), (4, 6), (3, 7, 7)], ids=str)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_a_gradient_attack_breaks_what_it_can_without_gradients(n, shape):
    model, x, labels, radii = threatened(n, shape)
    size = torch.Size(shape).numel()
    for row in range(n):
        one, label, radius = x[row : row + 1], labels[row : row + 1], float(radii[row])
        attack = partial(pgd_by_queries, coordinate(size, 0.01), Silent(model), one, label)
        assert not attack(epsilon=0.98 * radius).success.any()
        result = attack(epsilon=1.02 * radius)
        assert result.success.all() and result.backward_passes.sum() == 0
        assert float(result.distance) <= 1.02 * radius * (1 + 1e-5)
    scores = Access(model, level="scores")
    together = pgd_by_queries(nes(200, 0.01), scores, x, labels, epsilon=2 * float(radii.max()), steps=10)
    assert together.success.all() and together.backward_passes.sum() == 0


def test_an_estimator_is_a_setting_of_every_gradient_attack():
    model, x, labels, radii = threatened()
    scores = Access(model, level="scores")
    settings = {"epsilon": 2 * float(radii.max()), "steps": 10, "random_start": True}
    asked = pgd(scores, x, labels, loss=margin, estimator=nes(30), diagnose=True, **settings)
    wrapped = pgd_by_queries(nes(30), model, x, labels, **settings)
    assert asked.success.all() and torch.equal(asked.adversarial, wrapped.adversarial)
    assert torch.equal(asked.forward_passes, wrapped.forward_passes + 2) and not asked.backward_passes.any()
    assert len(asked.notes) == 1 and "2 classes" in asked.notes[0]
    assert carlini_wagner(scores, x, labels, search_steps=3, steps=100, initial_c=1.0, estimator=nes(20)).success.all()


@pytest.mark.parametrize("estimator", [nes(4), rgf(4), rgf(4, two_sided=True), spsa_gc(4), coordinate(4)])
def test_each_estimate_costs_what_it_says_beside_its_point(estimator):
    model, x, labels, radii = threatened()
    result = pgd_by_queries(estimator, model, x, labels, epsilon=0.1 * float(radii.min()), steps=3)
    assert set(result.forward_passes.tolist()) == {3 * (1 + estimator.queries) + 1 + 1}
    assert sum(model.calls) == int(result.forward_passes.sum())
    assert result.backward_passes.sum() == 0


def test_samples_that_are_done_cost_nothing_and_draw_nothing():
    model, x, labels, radii = threatened()
    labels[1] = 1 - labels[1]  # wrong as it is
    result = pgd_by_queries(nes(4), model, x, labels, epsilon=0.1 * float(radii.min()), steps=3)
    assert result.forward_passes.tolist() == [29, 2, 29, 29, 29]
    drawn = []

    def counted(rows, samples, size, piece, generator):
        drawn.append(rows)
        yield torch.ones(rows, samples, size)

    attack = attacks.engine.estimators.Estimator(1, 0.1, counted)
    pgd_by_queries(attack, model, x, labels, epsilon=0.1 * float(radii.min()), steps=2)
    assert drawn == [5, 4]  # at first the wrong one has been asked about, too


def test_an_ask_about_some_samples_estimates_for_these_alone():
    wanted, heard = torch.tensor([True, False, True]), []

    def method(x, perturbation, *, generator):
        heard.append((yield Ask(torch.zeros_like(x), linear, gradient=True, wanted=wanted)).slope())
        heard.append((yield Ask(torch.zeros_like(x), linear, gradient=True, wanted=~wanted & wanted)).slope())

    model, x = Flat(), torch.full((3, SIZE), 0.5)
    attack = by_queries(method, coordinate(SIZE, 0.1))
    result = run(attack, model, x, torch.zeros(3, dtype=torch.int64), norm="l2", stop=False)
    assert torch.allclose(heard[0][wanted], true_slopes(3)[wanted], atol=1e-4)
    assert not heard[0][~wanted].any() and not heard[1].any()
    assert result.forward_passes.tolist() == [2 + 2 * SIZE, 1, 2 + 2 * SIZE]


@pytest.mark.parametrize("budget", [2, 9, 10, 11, 20, 100])
def test_the_budget_is_never_exceeded(budget):
    model, x, labels, radii = threatened()
    result = pgd_by_queries(nes(4), model, x, labels, epsilon=0.1 * float(radii.min()), steps=3, budget=budget)
    assert (result.forward_passes <= budget).all()
    assert sum(model.calls) == int(result.forward_passes.sum())
    access = Access(model, level="scores", budget=5 * budget)
    pgd_by_queries(nes(4), access, x, labels, epsilon=0.1 * float(radii.min()), steps=3)
    assert access.queries <= 5 * budget


class Strict(Flat):
    """Refuses what is no valid input."""

    def forward(self, x):
        assert float(x.min()) >= -1e-6 and float(x.max()) <= 1 + 1e-6
        return super().forward(x)


def test_no_probe_leaves_the_bounds():
    model, x = Strict(), torch.rand(4, SIZE, generator=torch.Generator().manual_seed(1)).round()
    labels = model(x).argmax(1)
    result = pgd(Access(model, level="scores"), x, labels, epsilon=0.9, steps=5, loss=margin, estimator=nes(20))
    assert result.success.all()


def test_probes_are_no_candidates_but_the_points_are():
    model, x, labels, radii = threatened()

    def stay(x, perturbation, *, generator):
        yield Ask(torch.zeros_like(x), untargeted(margin), gradient=True)

    far = spsa(8, float(10 * radii.max()))  # these probes are misclassified in plenty
    result = run(by_queries(stay, far), model, x, labels, norm="linf")
    assert not result.success.any() and torch.equal(result.adversarial, x)

    def cross(x, perturbation, *, generator):
        sign = (model.weight[0] - model.weight[1]).detach().sign()
        p = torch.where((labels == 0)[:, None], -sign, sign) * 1.01 * radii[:, None]
        yield Ask(p, untargeted(margin), gradient=True)

    result = run(by_queries(cross, nes(4)), model, x, labels, norm="linf")
    assert result.success.all() and set(result.forward_passes.tolist()) == {2}  # and no probe after a success


def test_several_losses_of_a_sample_have_their_gradients_at_no_further_price():
    heard = []

    def method(x, perturbation, *, generator):
        heard.append((yield Ask(torch.zeros_like(x), lambda view: view.logits, gradient=True)).slope())

    model, x = Flat(classes=3), torch.full((4, 2, 3), 0.5)
    attack = by_queries(method, coordinate(SIZE, 0.1))
    result = run(attack, model, x, torch.zeros(4, dtype=torch.int64), norm="l2", stop=False)
    assert torch.allclose(heard[0], model.weight.detach().reshape(3, 2, 3).expand(4, 3, 2, 3), atol=1e-4)
    assert set(result.forward_passes.tolist()) == {2 + 2 * SIZE}


def test_a_transformation_of_the_inputs_holds_for_the_probes_as_well():
    heard = []

    def method(x, perturbation, *, generator):
        ask = Ask(torch.zeros_like(x), lambda view: view.logits[:, 0], gradient=True, through=lambda x: 3 * x)
        heard.append((yield ask).slope())

    model, x = Flat(), torch.full((2, SIZE), 0.5)
    run(by_queries(method, coordinate(SIZE, 0.1)), model, x, torch.zeros(2, dtype=torch.int64), norm="l2", stop=False)
    assert torch.allclose(heard[0], 3 * model.weight[0].detach().expand(2, SIZE), atol=1e-4)


class Scaled:
    """``scale * x + shift``: named parameters, of all samples together or of each."""

    def __init__(self, shared):
        self.shared = shared

    def start(self, x):
        if self.shared:
            return {"scale": torch.tensor(1.0), "shift": torch.zeros(x.shape[1:])}
        return {"scale": torch.ones(len(x)), "shift": torch.zeros_like(x)}

    def __call__(self, x, parameters):
        scale = parameters["scale"] if self.shared else parameters["scale"][:, None]
        return scale * x + parameters["shift"]

    def clip(self, x, parameters):
        return parameters


def test_named_parameters_that_samples_share_are_asked_about_one_after_another():
    model, perturbation = Flat(), Scaled(shared=True)
    x = torch.rand(4, SIZE, generator=torch.Generator().manual_seed(0))
    batch = Batch(x, torch.tensor([0, 1, 0, 1]), None, torch.arange(4))
    ask = Ask(perturbation.start(x), untargeted(margin), gradient=True)
    true = evaluate(model, perturbation, ask, batch)[0].gradient

    def method():
        return (yield ask).gradient

    stream = Stream(Silent(model), perturbation)
    estimation = Estimation(coordinate(1 + SIZE, 0.01), torch.Generator().manual_seed(0), shared=True)
    gradient = drive(estimation(method()), stream.on(batch))
    assert gradient.keys() == true.keys()
    assert all(gradient[name].shape == true[name].shape for name in true)
    assert all(torch.allclose(gradient[name], true[name], atol=1e-3) for name in true)
    assert (stream.forward_passes, stream.backward_passes) == (4 * (1 + 2 * (1 + SIZE)), 0)


def test_a_training_keeps_one_estimation_for_all_its_batches():
    """Black-box training of shared parameters, as of a universal perturbation or a program."""
    goal, batches = torch.tensor([[0.3, -0.2, 0.1]]), 30

    def loss(view: View):
        return (view.parameters - goal).square().sum().expand(len(view.batch))

    def one_step(p):
        answer = yield Ask(p, loss, gradient=True)
        return p - 0.02 * answer.slope() / 4

    x = torch.full((4, 3), 0.5)
    batch = Batch(x, torch.zeros(4, dtype=torch.int64), None, torch.arange(4))
    left = {}
    for momentum in (0.0, 0.8):
        estimation = Estimation(spsa_gc(4, momentum=momentum), torch.Generator().manual_seed(0), shared=True)
        stream, p = Stream(nn.Identity(), Universal()), torch.zeros(1, 3)
        for _ in range(batches):
            p = drive(estimation(one_step(p)), stream.on(batch))
        left[momentum] = float((p - goal).norm())
        assert stream.forward_passes == batches * 4 * (1 + 8)
    assert left[0.8] < 0.5 * left[0.0] < 0.5 * float(goal.norm())


def test_named_parameters_of_each_sample_are_asked_about_one_after_another():
    perturbation, heard, model = Scaled(shared=False), [], Flat()

    def method(x, perturbation, *, generator):
        heard.append((yield Ask(perturbation.start(x), untargeted(margin), gradient=True)).gradient)

    x, labels = torch.rand(3, SIZE, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0])
    options = {"norm": "l2", "perturbation": perturbation, "stop": False}
    run(method, model, x, labels, **options)
    result = run(by_queries(method, coordinate(1 + SIZE, 0.01)), Silent(model), x, labels, **options)
    true, gradient = heard
    assert all(torch.allclose(gradient[name], true[name], atol=1e-3) for name in true)
    assert set(result.forward_passes.tolist()) == {1 + 2 * (1 + SIZE) + 1} and result.backward_passes.sum() == 0
    assert torch.equal(result.adversarial, x)


def test_decoded_directions_stay_in_the_decoders_range_and_are_sure_there():
    shape, decoder = (2, 6, 6), Upsampled((2, 3))

    def smooth(view):  # whose gradient is itself decoded
        return (view.parameters * target).flatten(1).sum(1)

    small = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    target = decoder(small, shape)
    basis = decoder(torch.eye(12).reshape(12, 2, 2, 3), shape).flatten(1)
    n, samples = 50, 40
    slopes = slopes_of_images(nes(samples, 0.1, decoder=decoder), smooth, n, shape).flatten(1)
    projected = slopes @ torch.linalg.pinv(basis) @ basis
    assert torch.allclose(projected, slopes, atol=1e-3)
    expected = target.flatten(1) @ basis.T @ basis  # the gradient in the small space, decoded
    assert float(torch.cosine_similarity(slopes.mean(0), expected[0], dim=0)) > 0.99
    assert float(slopes.mean(0).norm() / expected.norm()) == pytest.approx(1, abs=0.05)
    plain = slopes_of_images(nes(samples, 0.1), smooth, n, shape).flatten(1)
    sure = [torch.cosine_similarity(found, target.flatten(1)).mean() for found in (slopes, plain)]
    assert sure[0] > 1.2 * sure[1]
    with pytest.raises(InputError, match="decodes images"):
        slopes_of(nes(2, decoder=decoder), linear)


def slopes_of_images(estimator, objective, n, shape):
    heard = []

    def method(x, perturbation, *, generator):
        heard.append((yield Ask(torch.zeros_like(x), objective, gradient=True)).slope())

    x = torch.full((n, *shape), 0.5)
    model = Flat(torch.Size(shape).numel())
    run(by_queries(method, estimator), model, x, torch.zeros(n, dtype=torch.int64), norm="l2", stop=False)
    return heard[0]


def test_what_a_method_returns_comes_through_and_a_closed_one_is_closed():
    closed = []

    def method():
        try:
            yield Ask(torch.zeros(1, 2), untargeted(margin))
            yield Ask(torch.zeros(1, 2), untargeted(margin), gradient=True)
        finally:
            closed.append(True)
        return "done"

    batch = Batch(torch.zeros(1, 2), torch.tensor([0]), None, torch.arange(1))
    estimation = Estimation(nes(2), torch.Generator())
    answers = iter(range(100))

    def answer(ask):
        assert not ask.gradient
        return None if next(answers) > 0 else evaluate(nn.Identity(), Additive(), ask, batch)[0]

    assert drive(estimation(method()), answer) is None and closed == [True]
    done = Estimation(nes(2), torch.Generator(), shared=True)
    assert drive(done(method()), lambda ask: evaluate(nn.Identity(), Additive(), ask, batch)[0]) == "done"


def test_settings_out_of_range_are_refused_with_a_sentence():
    for make in (nes, rgf, spsa, spsa_gc, coordinate):
        with pytest.raises(InputError, match="samples=0 is too few"):
            make(0)
        for spread in (0, -1.0, float("nan"), "far"):
            with pytest.raises(InputError, match="spread="):
                make(3, spread)
    with pytest.raises(InputError, match="the momentum below 1"):
        spsa_gc(momentum=1.0)
    with pytest.raises(InputError, match="width=0 is too few"):
        Upsampled((2, 0))
    perturbation, x = Scaled(shared=False), torch.full((1, SIZE), 0.5)

    def method(x, perturbation, *, generator):
        yield Ask(perturbation.start(x), untargeted(margin), gradient=True)

    attack = by_queries(method, nes(decoder=Upsampled((2, 2))))
    with pytest.raises(InputError, match=r"named ones \(scale, shift\)"):
        run(attack, Flat(), x, torch.tensor([0]), norm="l2", perturbation=perturbation, stop=False)
