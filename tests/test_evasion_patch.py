"""Adversarial patches: where they land, their gradient, and what one does to a network that reads digits."""

from math import pi

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from attacks.engine import Places, RandomPatch
from attacks.engine.patches import Landing, pasted
from attacks.engine.testing import LinearModel, check_perturbation
from attacks.errors import InputError
from attacks.evasion import Patch, adversarial_patch

STILL = Places(circle=False, rotation=0, zoom=(1, 1), brightness=0)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_patch_covers_exactly_its_pixels():
    patch = torch.rand(1, 2, 3, 3, generator=draws())
    images = torch.rand(2, 2, 8, 10, generator=draws(1))
    none, one = torch.zeros(2), torch.ones(2)
    made = pasted(images, patch, STILL, Landing(none, one, none + 0.5, torch.tensor([1.5, -1.5]), none))
    expected = images.clone()
    expected[0, :, 4:7, 4:7] = patch
    expected[1, :, 1:4, 4:7] = patch
    assert torch.allclose(made, expected, atol=1e-5)


def test_a_circle_is_round_and_the_image_shows_through_its_corners():
    images, patch = torch.full((1, 1, 9, 9), 0.2), torch.ones(1, 1, 9, 9)
    none, one = torch.zeros(1), torch.ones(1)
    middle = Landing(none, one, none, none, none)
    square, circle = (pasted(images, patch, Places(circle=circle), middle) for circle in (False, True))
    assert torch.allclose(square, torch.ones(1, 1, 9, 9))
    assert circle[0, 0, 0, 0] == pytest.approx(0.2)
    assert circle[0, 0, 4].tolist() == pytest.approx([1.0] * 9)
    assert (circle > 0.9).sum() == pytest.approx(pi / 4 * 81, rel=0.1)


@given(
    st.booleans(), st.floats(0, 180), st.floats(0.5, 1.0), st.floats(1.0, 1.4), st.integers(3, 7), st.integers(0, 99)
)
@settings(deadline=None, max_examples=40)
def test_patches_that_fit_are_never_cut_off(circle, rotation, least, most, side, seed):
    places = Places(circle, rotation, (least, most))
    where = places.draw(5, side, (15, 22), draws(seed))
    assert (where.degrees.abs() <= rotation).all()
    assert (where.zoom >= least - 1e-6).all()
    assert (where.zoom <= most + 1e-6).all()
    assert (where.light.abs() <= places.brightness).all()
    where, white = where._replace(light=torch.zeros(5)), torch.ones(1, 1, side, side)
    inside = pasted(torch.zeros(5, 1, 15, 22), white, places, where)
    # The same patches on canvases with a wide margin: nothing of them may lie outside the images.
    whole = pasted(torch.zeros(5, 1, 35, 42), white, places, where)
    assert torch.allclose(whole[:, :, 10:25, 10:32], inside, atol=1e-4)
    rim = whole.sum((1, 2, 3)) - inside.sum((1, 2, 3))
    assert (rim <= 0.08 * whole.sum((1, 2, 3))).all()  # only the soft edge of half a pixel may stick out


def test_the_gradient_through_the_places_is_that_of_finite_differences():
    patch = (0.2 + 0.6 * torch.rand(1, 2, 4, 4, generator=draws(), dtype=torch.float64)).requires_grad_()
    images = torch.rand(3, 2, 7, 9, generator=draws(1), dtype=torch.float64, requires_grad=True)
    for circle in (False, True):
        places = Places(circle, 40.0, (0.7, 1.4))
        where = Landing(*(amount.double() for amount in places.draw(3, 4, (7, 9), draws(2))))
        assert torch.autograd.gradcheck(lambda p, x: pasted(x, p, places, where), (patch, images))  # noqa: B023
        white = torch.autograd.grad(pasted(images, patch, places, where).sum(), patch)[0]
        hidden = places.mask(patch.detach()).expand_as(patch) == 0
        assert (white[hidden] == 0).all()
        assert (white[~hidden] > 0).any()


def test_the_light_is_added_to_the_patch_alone_and_cut_off_at_the_bounds():
    patch, none = torch.tensor([0.1, 0.5, 0.95]).reshape(1, 1, 1, 3).expand(1, 1, 3, 3), torch.zeros(2)
    where = Landing(none, none + 1, none, none, torch.tensor([0.1, -0.2]))
    made = pasted(torch.full((2, 1, 3, 5), 0.3), patch, STILL, where)
    assert made[0, 0, 1].tolist() == pytest.approx([0.3, 0.2, 0.6, 1.0, 0.3])
    assert made[1, 0, 1].tolist() == pytest.approx([0.3, 0.0, 0.3, 0.75, 0.3])


def test_a_random_patch_is_a_sound_perturbation():
    check_perturbation(RandomPatch(4, Places(), draws()), torch.rand(3, 2, 9, 12, generator=draws(1)))


def test_places_are_random_per_image_and_follow_the_seed():
    images, patch = torch.zeros(6, 1, 12, 12), Patch(torch.ones(1, 1, 4, 4))
    one, again, other = (patch.apply(images, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])
    assert torch.equal(one, patch.apply(images, generator=draws(1)))
    assert patch.apply(torch.zeros(2, 1, 30, 7)).shape == (2, 1, 30, 7)
    with pytest.raises(InputError, match="this patch fits \\[n, 1, height, width\\]"):
        patch.apply(torch.zeros(2, 3, 12, 12))


def test_a_patch_comes_back_from_its_file_as_it_was(tmp_path):
    patch = Patch(torch.rand(1, 3, 5, 5, generator=draws()), Places(False, 5.0, (0.7, 1.1), 0.2), (-1.0, 1.0))
    patch.save(tmp_path / "patch.safetensors")
    back = Patch.load(tmp_path / "patch.safetensors")
    assert torch.equal(back.picture, patch.picture)
    assert (back.places, back.bounds) == (patch.places, patch.bounds)
    images = torch.rand(2, 3, 9, 9, generator=draws(1))
    assert torch.equal(back.apply(images), patch.apply(images))


@pytest.mark.parametrize("about", [None, "[]", "{", '{"places": {"zoom": [1, 1], "shape": 1}, "bounds": [0, 1]}'])
def test_a_file_that_holds_no_patch_is_refused_with_a_sentence(tmp_path, about):
    path = tmp_path / "other.safetensors"
    save_file({"picture": torch.zeros(1, 1, 3, 3)}, path, None if about is None else {"patch": about})
    with pytest.raises(InputError, match="other.safetensors holds no patch: give a file that Patch.save wrote"):
        Patch.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(InputError, match="holds no patch"):
        Patch.load(path)


def test_passes_are_counted_and_success_is_what_the_model_says():
    model, x = LinearModel((1, 8, 9), classes=3), torch.rand(10, 1, 8, 9, generator=draws())
    labels = torch.zeros(10, dtype=torch.int64)
    settings_ = {"target": 2, "size": 5, "epochs": 3, "batch_size": 4}
    result = adversarial_patch(model, x, labels, **settings_)
    assert (model.sent, model.differentiated) == (3 * 10 + 10, 3 * 10)
    assert result.forward_passes.tolist() == [4] * 10
    assert result.backward_passes.tolist() == [3] * 10
    assert torch.equal(result.success, model(result.adversarial).argmax(1) == 2)
    assert result.shared.shape == (1, 1, 5, 5)
    assert result.shared.min() >= 0
    assert result.shared.max() <= 1
    assert torch.equal(result.shared, adversarial_patch(model, x, labels, **settings_).shared)
    assert not torch.equal(result.shared, adversarial_patch(model, x, labels, seed=1, **settings_).shared)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_single_images_colours_and_shares_of_the_area():
    x = torch.rand(1, 3, 10, 20, generator=draws())
    model = LinearModel((3, 10, 20))
    result = adversarial_patch(model, x, model(x).argmax(1), size=0.125, epochs=1)
    assert result.shared.shape == (1, 3, 5, 5)  # 5 x 5 of 10 x 20
    assert result.adversarial.shape == x.shape
    assert result.distance.shape == (1,)


def test_other_bounds_are_kept():
    x = torch.rand(4, 1, 6, 6, generator=draws()) * 2 - 1
    model = LinearModel((1, 6, 6))
    result = adversarial_patch(model, x, model(x).argmax(1), size=3, epochs=8, step_size=0.5, bounds=(-1.0, 1.0))
    assert result.shared.min() == -1
    assert result.shared.max() <= 1
    assert result.adversarial.abs().max() <= 1 + 1e-6


def test_wrong_settings_are_refused_with_a_sentence():
    x, labels = torch.rand(4, 1, 6, 8, generator=draws()), torch.tensor([0, 1, 0, 0])
    model = LinearModel((1, 6, 8))
    for settings_, sentence in (
        ({"target": 1}, "1 of 4 images are of class 1, the target"),
        ({"target": -1}, "target=-1 is too few"),
        ({"size": 7}, "makes a patch 7 pixels wide, but in images of 6 x 8 it can have 1 to 6"),
        ({"size": 2.5}, "size=2.5"),
        ({"size": 0.001}, "size=0.001 makes a patch 0 pixels"),
        ({"size": -1}, "size=-1"),
        ({"epochs": 0}, "epochs=0 is too few"),
        ({"step_size": -1.0}, "step_size=-1"),
        ({"target": 5, "size": 3}, "the model has 2 classes"),
    ):
        with pytest.raises(InputError, match=sentence):
            adversarial_patch(model, x, labels, **settings_)
    with pytest.raises(InputError, match="A patch needs images"):
        adversarial_patch(model, x.flatten(1), labels)
    with pytest.raises(InputError, match="zoom="):
        Places(zoom=(1.2, 0.8))
    with pytest.raises(InputError, match="rotation=-1"):
        Places(rotation=-1)


@pytest.fixture(scope="module")
def reader():
    """A small network that reads digits of 20 x 20 pixels, and images that it was not trained on."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    x, y = functional.interpolate(small, size=(20, 20), mode="bilinear"), torch.tensor(digits.target)
    order = torch.randperm(len(x), generator=draws())
    x, y = x[order], y[order]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, 2, 1), nn.ReLU(), nn.Conv2d(12, 24, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(600, 10)
    )
    adam = torch.optim.Adam(model.parameters(), 4e-3)
    for rows in torch.cat([torch.randperm(1000, generator=draws(seed)) for seed in range(5)]).split(50):
        adam.zero_grad()
        functional.cross_entropy(model(x[rows]), y[rows]).backward()
        adam.step()
    model.eval()
    assert (model(x[1000:]).argmax(1) == y[1000:]).float().mean() > 0.9
    return model, (x[:400], y[:400]), (x[1000:], y[1000:])


def test_a_patch_wins_on_images_it_was_not_made_from(reader):
    model, made_from, others = reader
    target, places = 4, Places(circle=False, rotation=15, zoom=(0.9, 1.1))
    (x, labels), (held, _) = ((x[y != target], y[y != target]) for x, y in (made_from, others))
    result = adversarial_patch(model, x, labels, target=target, size=0.36, places=places, epochs=4)

    def reached(picture, seed=0):
        return float((model(Patch(picture, places).apply(held, seed=seed)).argmax(1) == target).float().mean())

    noise = [reached(torch.rand(1, 1, 12, 12, generator=draws(seed)), seed) for seed in range(5)]
    assert reached(result.shared) > 0.5
    assert reached(result.shared) > 2.5 * sum(noise) / len(noise)


def test_an_untargeted_patch_makes_the_model_err(reader):
    model, (x, labels), (held, truth) = reader
    result = adversarial_patch(model, x, labels, size=0.36, places=Places(circle=False), epochs=2)
    patched = Patch(result.shared, Places(circle=False)).apply(held)
    assert (model(patched).argmax(1) != truth).float().mean() > 0.5
