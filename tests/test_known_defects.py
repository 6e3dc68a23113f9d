"""Eight defects that were found in widely used libraries, each with what would catch it here.

They are those of l2 projections that do not project, of an AutoAttack with ten-step parts, of EAD on aliased samples,
of detectors that average or fail to centre, of a backward pass for each class, of double precision sent to the model,
of labels read as targets and of an Auto-PGD that gives up early.
"""

import pytest
import torch
from torch import nn

from attacks.defenses import spectral_scores, strip_entropy
from attacks.engine import NORMS, get_norm
from attacks.engine.testing import LinearModel, near_the_middle
from attacks.evasion import auto_pgd, autoattack, boundary, carlini_wagner, ead, fmn, hopskipjump, jsma


def linear_task(classes=2, n=4, shape=(1, 4, 4)):
    model, x = LinearModel(shape, classes=classes), near_the_middle(n, shape)
    return model, x, model(x).argmax(1)


@pytest.mark.parametrize("name", sorted(NORMS))
def test_1_a_projection_ends_in_the_ball(name):
    norm, far = get_norm(name), 10 * torch.randn(5, 64)
    radius = 3.0 if name == "l0" else 0.1
    assert (norm.size(norm.project(far, radius)) <= radius * (1 + 1e-6)).all()


def test_1_fmn_in_l2_ends_at_the_optimum():
    model, x, labels = linear_task()
    result = fmn(model, x, labels, norm="l2", steps=100)
    assert (result.distance <= 1.05 * model.nearest(x, labels, "l2")).all()


def test_2_autoattack_gives_each_part_its_hundred_steps():
    model, x, labels = linear_task(classes=12)
    result = autoattack(model, x, labels, epsilon=1e-6)
    # 100 steps of Auto-PGD, and 9 targets with as many for the targeted one and for FAB.
    assert not result.success.any() and (result.backward_passes >= 100 + 9 * 100 + 9 * 100).all()


def test_3_ead_leaves_the_samples_alone_and_each_to_itself():
    model, x, labels = linear_task(classes=5)
    before = x.clone()
    settings = {"search_steps": 3, "steps": 30, "initial_c": 1.0}
    together = ead(model, x, labels, **settings)
    assert torch.equal(x, before)
    alone = [ead(model, x[i : i + 1], labels[i : i + 1], **settings).adversarial for i in range(len(x))]
    assert torch.allclose(torch.cat(alone), together.adversarial, atol=1e-6)


class Constant(nn.Module):
    """One answer to everything."""

    def __init__(self, logits):
        super().__init__()
        self.register_buffer("logits", torch.tensor(logits))

    def forward(self, x):
        return self.logits.expand(len(x), -1)


def test_4_strip_tells_sure_answers_from_unsure_ones():
    x = torch.rand(3, 4)
    assert strip_entropy(Constant([20.0] + [0.0] * 9), x, x).max() < 0.01
    assert strip_entropy(Constant([0.0] * 10), x, x).min() > 3.32


def test_5_spectral_scores_see_a_shift_towards_the_origin():
    features = 5 + torch.randn(200, 16)
    features[:10, 0] -= 8
    order = spectral_scores(features, torch.zeros(200, dtype=torch.int64)).argsort(descending=True)
    assert sorted(order[:10].tolist()) == list(range(10))


@pytest.mark.parametrize("attack", [carlini_wagner, ead])
def test_6_an_iteration_costs_one_backward_pass_whatever_the_labels(attack):
    model, x, labels = linear_task(classes=10, n=8)
    assert len(labels.unique()) > 2
    model.differentiated = 0
    result = attack(model, x, labels, search_steps=1, steps=10)
    assert model.differentiated <= 10 * 8 and int(result.backward_passes.max()) <= 10


class Picky(LinearModel):
    """Takes single precision only."""

    def forward(self, x):
        assert x.dtype == torch.float32
        return super().forward(x)


@pytest.mark.parametrize("attack", [hopskipjump, boundary])
def test_7_decision_attacks_send_single_precision(attack):
    model = Picky((1, 4, 4))
    x = near_the_middle(2, (1, 4, 4))
    assert attack(model, x, model(x).argmax(1), steps=3).success.all()


def test_7_jsma_takes_labels_for_labels():
    model, x, labels = linear_task(classes=5)
    result = jsma(model, x, labels)
    assert result.success.all() and (model(result.adversarial).argmax(1) != labels).all()
    assert (result.distance > 0).all()


def test_8_auto_pgd_on_cross_entropy_reaches_the_optimum_of_a_model_that_is_very_sure():
    model, x, labels = linear_task()
    model.weight.data *= 30
    radius = model.nearest(x, labels, "linf").max()
    assert auto_pgd(model, x, labels, epsilon=1.02 * float(radius), steps=100).success.all()
