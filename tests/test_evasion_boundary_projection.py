"""Projections onto the averaged boundary: linear models, a corner of two planes, refusals, and the field's figures."""

import pytest
import torch
from torch import nn

from attacks.engine.testing import LinearModel, near_the_middle
from attacks.errors import InputError
from attacks.evasion.boundary_projection import boundary_projection

NORMS = ("linf", "l2", "l1")


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_costs_a_pass_each_way_and_two_looks_are_added(norm):
    model, x = LinearModel((4, 6)), near_the_middle(3, (4, 6))
    labels = model(x).argmax(1)
    labels[1] = 1 - labels[1]  # misclassified as it is
    result = boundary_projection(model, x, labels, norm=norm, steps=7)
    assert result.forward_passes.tolist() == [1 + 7 + 1 + 1, 2, 1 + 7 + 1 + 1]  # clean, steps, last point, judgement
    assert result.backward_passes.tolist() == [7, 0, 7]
    assert result.distance[1] == 0 and result.success.all()


def test_averaging_finds_the_corner_where_two_boundaries_meet():
    """The goal lies beyond both of two planes: a single one's nearest point is not beyond the other."""

    class Corner(nn.Module):
        def forward(self, x):
            beyond = torch.minimum(x[:, 0] + 0.6 * x[:, 1], x[:, 0] - 0.6 * x[:, 1])
            return torch.stack((torch.zeros(len(x)), 10 * (beyond - 0.5)), 1)

    x, labels = torch.tensor([[0.1, 0.02]]), torch.tensor([0])
    needed = ((0.5 - 0.1) ** 2 + 0.02**2) ** 0.5  # (0.5, 0) is the corner
    averaged, latest = (boundary_projection(Corner(), x, labels, momentum=m, bounds=(-1, 1)) for m in (0.85, 0.0))
    assert averaged.success.all() and float(averaged.distance) < 1.01 * needed
    assert not latest.success.any()  # it goes from one plane's nearest point to the other's


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"norm": "l0"}, "norm='l0' has no nearest point"),
        ({"steps": 0}, "steps=0 is too few"),
        ({"momentum": 1.0}, "momentum=1.0 would never let a new normal in"),
        ({"overshoot": -1.0}, "overshoot=-1.0 cannot be used"),
    ],
)
def test_wrong_settings_are_refused_with_a_sentence(settings, sentence):
    with pytest.raises(InputError, match=sentence):
        boundary_projection(LinearModel((8,)), near_the_middle(2, (8,)), torch.zeros(2, dtype=torch.int64), **settings)


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "distance"), [("l2", 1.96), ("linf", 0.156), ("l1", 15.0)])
def test_the_fields_figures(attack_target, norm, distance):
    """The best of the others with as many gradients or more: ALMA 1.984 in l2, FMN 0.168 in l-inf and 16.86 in l1."""
    result = boundary_projection(*attack_target, norm=norm)
    assert result.success.all()
    assert result.distance.mean() < distance
