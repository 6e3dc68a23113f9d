"""Auto-PGD: what it asks for, and what it costs."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attacks.engine import Additive, Answer, drive
from attacks.engine.testing import LinearModel
from attacks.evasion import auto_pgd, auto_pgd_targeted
from attacks.evasion.auto_pgd import bare_descent
from attacks.evasion.waveform import waveform_auto_pgd

NORMS = ("linf", "l2", "l1")


def task(classes=4, n=3, shape=(3, 4, 5)):
    model = LinearModel(shape, classes=classes)
    x = torch.rand(n, *shape, generator=torch.Generator().manual_seed(1))
    labels = model(x).argmax(1)
    model.sent = model.differentiated = 0
    return model, x, labels


class WrongWhereItIs(torch.nn.Module):
    """Takes a sample in the middle of the box for class 1, and all others for class 0; no gradient leads there."""

    def forward(self, x):
        far = (x - 0.5).flatten(1).abs().amax(1)
        wrong = torch.where(far < 1e-4, 1.0, -1.0) + 0 * x.flatten(1).sum(1)
        return torch.stack([-wrong, wrong, 0 * wrong - 5, 0 * wrong - 5], 1)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("attack", [auto_pgd, auto_pgd_targeted])
def test_what_is_wrong_as_it_is_falls_at_once(attack, norm):
    x, labels = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, dtype=torch.int64)
    x[1] += 0.2
    result = attack(WrongWhereItIs(), x, labels, epsilon=0.03, norm=norm, steps=5)
    assert result.success.tolist() == [True, False] and torch.equal(result.adversarial[0], x[0])
    assert int(result.forward_passes[0]) == 2 and int(result.backward_passes[0]) == 0


@pytest.mark.parametrize("budget", [{"epsilon": 0.03}, {"snr": 20}])
def test_a_wave_that_is_wrong_as_it_is_falls_at_once(budget):
    x, labels = torch.full((1, 8), 0.5), torch.zeros(1, dtype=torch.int64)
    result = waveform_auto_pgd(WrongWhereItIs(), x, labels, steps=5, levels=None, **budget)
    assert result.success.all() and int(result.backward_passes.sum()) == 0


@pytest.mark.parametrize("steps", [1, 2, 7, 30])
@pytest.mark.parametrize("norm", NORMS)
def test_each_step_costs_one_gradient_and_none_is_asked_for_in_vain(norm, steps):
    model, x, labels = task()
    result = auto_pgd(model, x, labels, epsilon=1e-4, norm=norm, steps=steps)
    assert set(result.backward_passes.tolist()) == {steps}
    # Clean look, the steps, where each phase's last one leads, judgement; few steps have no phases outside the ball.
    phases = 3 if norm == "l1" and steps > 3 else 1
    assert set(result.forward_passes.tolist()) == {1 + steps + phases + 1}
    assert (model.sent, model.differentiated) == (3 * (steps + phases + 2), 3 * steps)


def test_the_targeted_sweep_looks_at_the_clean_samples_once():
    model, x, labels = task()
    result = auto_pgd_targeted(model, x, labels, epsilon=1e-4, steps=10)
    assert set(result.backward_passes.tolist()) == {3 * 10}
    assert set(result.forward_passes.tolist()) == {1 + 3 * 11 + 1}


class Operations(TorchDispatchMode):
    """Notes which operations run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("norm", NORMS)
def test_the_best_points_are_kept_without_waiting_for_an_accelerator(norm):
    x = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    method = bare_descent(norm, 40)(
        x, Additive(), generator=torch.Generator().manual_seed(0), objective=lambda view: None, epsilon=0.5
    )

    def answer(ask):  # a bowl, so that some steps are better than all before and some are not
        away = ask.parameters - 0.1
        return Answer(x.flatten(1), torch.zeros(4) > 0, away.flatten(1).square().sum(1), 2 * away)

    with Operations() as seen:
        drive(method, answer)
    # Boolean indexing looks up places by nonzero, and the host has to wait for how many there are.
    assert "where" in seen.names and not seen.names & {"nonzero", "index", "index_put_"}
