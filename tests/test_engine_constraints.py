"""Norm balls against independent solutions: projections as the argmin they solve, directions by duality."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import minimize

from attacks.engine import NORMS, get_norm, per_sample
from attacks.errors import InputError

CONVEX = ["linf", "l2", "l1"]
DUAL = {"linf": 1, "l2": 2, "l1": torch.inf}
tensors = hnp.arrays(
    np.float32, hnp.array_shapes(min_dims=2, max_dims=4, max_side=5), elements=st.floats(-2, 2, width=32)
).map(torch.from_numpy)


@given(delta=tensors, epsilon=st.floats(0, 3), name=st.sampled_from(CONVEX))
@settings(deadline=None, max_examples=150)
def test_a_projection_lies_in_the_ball_and_leaves_what_is_inside(delta, epsilon, name):
    norm = get_norm(name)
    projected = norm.project(delta, epsilon)
    assert projected.shape == delta.shape
    assert (norm.size(projected) <= epsilon + 1e-5).all()
    inside = norm.size(delta) <= epsilon
    assert torch.allclose(projected[inside], delta[inside], atol=1e-6)
    assert torch.allclose(norm.project(projected, epsilon), projected, atol=1e-5)


@pytest.mark.parametrize("name", CONVEX)
@pytest.mark.parametrize("seed", range(3))
def test_a_projection_is_the_nearest_point_of_the_ball(name, seed):
    delta = torch.randn(1, 4, generator=torch.Generator().manual_seed(seed))
    ours = get_norm(name).project(delta, 0.7).numpy()[0]
    order = {"linf": np.inf, "l2": 2, "l1": 1}[name]
    best = min(
        (
            minimize(
                lambda point: float(((point - delta.numpy()[0]) ** 2).sum()),
                start,
                constraints={"type": "ineq", "fun": lambda point: 0.7 - np.linalg.norm(point, order)},
                method="COBYLA",
                options={"maxiter": 5000, "tol": 1e-8},
            )
            for start in (ours, np.zeros(4))
        ),
        key=lambda found: found.fun,
    )
    assert float(((ours - delta.numpy()[0]) ** 2).sum()) <= best.fun + 1e-4
    assert np.allclose(ours, best.x, atol=2e-2)


@given(gradient=tensors, name=st.sampled_from(CONVEX))
@settings(deadline=None, max_examples=150)
def test_the_steepest_direction_reaches_the_dual_norm(gradient, name):
    norm = get_norm(name)
    direction = norm.steepest(gradient)
    reached = (direction * gradient).flatten(1).sum(1)
    assert torch.allclose(reached, gradient.flatten(1).norm(DUAL[name], dim=1), rtol=1e-4, atol=1e-5)
    assert (norm.size(direction) <= 1 + 1e-5).all()
    assert {"linf": "l1", "l2": "l2", "l1": "linf"}[name] == norm.dual


@given(delta=tensors, kept=st.integers(0, 6))
@settings(deadline=None, max_examples=100)
def test_l0_keeps_the_largest_entries(delta, kept):
    projected = get_norm("l0").project(delta, kept)
    assert (get_norm("l0").size(projected) <= kept).all()
    for before, after in zip(delta.flatten(1), projected.flatten(1), strict=True):
        survivors, lost = before[after != 0].abs(), before[(after == 0) & (before != 0)].abs()
        assert not len(survivors) or not len(lost) or survivors.min() >= lost.max()
        assert torch.equal(after[after != 0], before[after != 0])


@pytest.mark.parametrize("name", NORMS)
def test_each_sample_may_have_its_own_radius(name):
    delta = torch.randn(3, 2, 4)
    radii = torch.tensor([1.0, 2.0, 3.0])
    together = get_norm(name).project(delta, radii)
    alone = torch.cat([get_norm(name).project(delta[i : i + 1], float(radii[i])) for i in range(3)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize(("name", "epsilon"), [("linf", 0.1), ("l2", 0.5), ("l1", 2.0), ("l0", 4)])
def test_a_random_start_is_inside_the_ball_and_fills_it(name, epsilon):
    norm = get_norm(name)
    drawn = norm.random(torch.zeros(200, 3, 4), epsilon, torch.Generator().manual_seed(0))
    size = norm.size(drawn)
    assert (size <= epsilon + 1e-5).all() and size.max() > 0.9 * epsilon
    assert drawn.std() > 0


def test_a_norm_that_is_not_known_is_refused():
    with pytest.raises(InputError, match="norm='max' is not known: use one of 'linf', 'l2', 'l1', 'l0'"):
        get_norm("max")


def test_per_sample_values_multiply_any_shape():
    assert (torch.ones(2, 3, 4) * per_sample(torch.tensor([1.0, 2.0]), torch.ones(2, 3, 4)))[1].unique() == 2


@pytest.mark.parametrize("shape", [(1, 4, 5, 5), (1, 3, 32, 32), (1, 3, 224, 224)], ids=str)
def test_the_l1_projection_of_a_whole_image_stays_in_its_ball(shape):
    projected = get_norm("l1").project(torch.full(shape, 1.493), 1.00001)
    assert float(projected.double().abs().sum()) <= 1.00001 + 1e-5
