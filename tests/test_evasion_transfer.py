"""The momentum family: what each member adds, and that it adds nothing where it is switched off."""

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import nn

from attacks.engine.testing import LinearModel
from attacks.errors import InputError
from attacks.evasion import bim, di_fgsm, mi_fgsm, ti_fgsm
from attacks.evasion.diverse_inputs import shrunk_and_placed
from attacks.evasion.translation_invariant import blurred

X = torch.rand(4, 3, 8, 6, generator=torch.Generator().manual_seed(0))


class Bent(nn.Module):
    """A small model that is no linear one, so that gradients turn on the way."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(144, 32), nn.Tanh(), nn.Linear(32, 4))

    def forward(self, x):
        return self.layers(x)


MODEL = Bent()
LABELS = MODEL(X).argmax(1)
SETTINGS = {"epsilon": 1e-3, "steps": 7}


def test_without_memory_momentum_is_bim():
    plain = bim(MODEL, X, LABELS, **SETTINGS)
    assert not plain.success.any()  # so that it took all its steps, and kept the last one
    assert torch.allclose(mi_fgsm(MODEL, X, LABELS, decay=0.0, **SETTINGS).adversarial, plain.adversarial, atol=1e-6)
    with_memory, without = (mi_fgsm(MODEL, X, LABELS, epsilon=0.3, decay=decay).adversarial for decay in (1.0, 0.0))
    assert not torch.equal(with_memory, without)


def test_momentum_adds_up_gradients_of_unit_l1_norm():
    model, epsilon, steps, decay = Bent(), 0.01, 3, 0.5
    p, heading = torch.zeros_like(X), torch.zeros_like(X)
    for _ in range(steps):
        leaf = (X + p).requires_grad_()
        (slope,) = torch.autograd.grad(-nn.functional.cross_entropy(model(leaf), LABELS, reduction="sum"), leaf)
        heading = decay * heading + slope / slope.flatten(1).norm(p=1, dim=1)[:, None, None, None]
        p = (X + (p - epsilon / steps * heading.sign()).clamp(-epsilon, epsilon)).clamp(0, 1) - X
    result = mi_fgsm(model, X, LABELS, epsilon=epsilon, steps=steps, decay=decay)
    assert torch.allclose(result.adversarial, X + p, atol=1e-6)


def test_all_steps_are_taken_also_once_the_model_is_fooled():
    model, x = LinearModel((8,)), torch.full((2, 8), 0.5) + 1e-4
    labels = model(x).argmax(1)
    result = mi_fgsm(model, x, labels, epsilon=0.2, steps=5)
    assert result.success.all() and torch.allclose(result.distance, torch.tensor(0.2), atol=1e-5)
    assert set(result.backward_passes.tolist()) == {5} and set(result.forward_passes.tolist()) == {8}


def test_switched_off_the_variants_are_momentum():
    momentum = mi_fgsm(MODEL, X, LABELS, **SETTINGS).adversarial
    assert torch.equal(di_fgsm(MODEL, X, LABELS, probability=0.0, **SETTINGS).adversarial, momentum)
    assert torch.equal(ti_fgsm(MODEL, X, LABELS, kernel_size=1, **SETTINGS).adversarial, momentum)
    momentum = mi_fgsm(MODEL, X, LABELS, epsilon=0.3).adversarial
    assert not torch.equal(di_fgsm(MODEL, X, LABELS, probability=1.0, epsilon=0.3).adversarial, momentum)
    assert not torch.equal(ti_fgsm(MODEL, X, LABELS, kernel_size=3, epsilon=0.3).adversarial, momentum)


@pytest.mark.parametrize("size", [3, 5])
def test_blurring_is_a_correlation_with_a_gaussian(size):
    bell = np.exp(-(np.linspace(-3, 3, size) ** 2) / 2)
    bell /= bell.sum()
    expected = X.double().numpy()
    for axis in (2, 3):
        expected = correlate1d(expected, bell, axis=axis, mode="constant")
    assert np.allclose(blurred(X, kernel_size=size).numpy(), expected, atol=1e-6)


def test_diverse_inputs_hold_a_smaller_copy_somewhere():
    draws = torch.Generator().manual_seed(0)
    white = torch.ones(200, 1, 20, 20)
    changed = shrunk_and_placed(white, draws, probability=0.5, smallest=0.5)
    filled = changed.mean((1, 2, 3))
    untouched = filled == 1
    assert 70 <= int(untouched.sum()) <= 130
    # The copy's side lies between half and all of the image's; its place is anywhere that it fits.
    assert (filled[~untouched] > 0.24).all() and (filled[~untouched] < 1).all()
    corners = changed[~untouched][:, 0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.amax(0).min() > 0.5 and corners.amin(0).max() < 0.5
    assert torch.equal(shrunk_and_placed(X, draws, probability=0.0, smallest=0.5), X)
    assert torch.allclose(shrunk_and_placed(X, draws, probability=1.0, smallest=1.0), X, atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "settings", "sentence"),
    [
        (di_fgsm, {"probability": 1.5}, "probability=1.5"),
        (di_fgsm, {"smallest": 0}, "smallest=0"),
        (ti_fgsm, {"kernel_size": 4}, "kernel_size=4 has no middle"),
        (mi_fgsm, {"decay": -1}, "decay=-1"),
        (mi_fgsm, {"norm": "l1"}, "norm='l1'"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(attack, settings, sentence):
    with pytest.raises(InputError, match=sentence):
        attack(MODEL, X, LABELS, epsilon=0.1, **settings)


def test_flat_samples_are_no_images():
    for attack in (di_fgsm, ti_fgsm):
        with pytest.raises(InputError, match="images"):
            attack(LinearModel((8,)), torch.rand(2, 8), torch.tensor([0, 1]), epsilon=0.1)
