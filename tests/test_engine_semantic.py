"""Semantic maps against independent implementations, their gradients, and what they are made of."""

import colorsys
from dataclasses import replace
from math import pi

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage

from attacks.engine import (
    COMPONENTS,
    PixelNoise,
    Semantic,
    get_components,
    rotate,
    scale_contrast,
    scale_saturation,
    shift_brightness,
    shift_hue,
)
from attacks.engine.spatial import placed
from attacks.engine.testing import check_perturbation
from attacks.errors import InputError

MAPS = {"hue": shift_hue, "saturation": scale_saturation, "brightness": shift_brightness, "contrast": scale_contrast}
MAPS["rotation"] = rotate
SIZES = [(3, 5, 7), (3, 8, 4), (3, 1, 1)]


def images(n, shape, seed=0, dtype=torch.float32):
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def amounts(name, n, seed=1, dtype=torch.float32):
    low, high = COMPONENTS[name].interval
    return low + (high - low) * torch.rand(n, 1, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_pixel(x, change, numbers):
    """Each pixel through Python's own HSV, one at a time."""
    out = np.empty_like(x)
    for i, number in enumerate(numbers.flatten()):
        for row, column in np.ndindex(x.shape[2:]):
            hue, saturation, value = colorsys.rgb_to_hsv(*(float(entry) for entry in x[i, :, row, column]))
            out[i, :, row, column] = colorsys.hsv_to_rgb(*change(hue, saturation, value, float(number)))
    return out


@pytest.mark.parametrize("shape", SIZES)
def test_hue_and_saturation_are_those_of_colorsys(shape):
    x = images(4, shape)
    x[0, :, 0, 0] = 0.4  # gray
    x[1, :, 0, 0] = 0.0  # black
    x[2, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0])
    x[3, :, 0, 0] = torch.tensor([0.2, 0.7, 0.7])  # two channels tie
    angles, factors = amounts("hue", 4), torch.tensor([[0.0], [0.7], [1.3], [4.0]])
    hues = by_pixel(x.numpy(), lambda h, s, v, angle: ((h + angle / (2 * pi)) % 1, s, v), angles.numpy())
    saturations = by_pixel(x.numpy(), lambda h, s, v, factor: (h, min(s * factor, 1), v), factors.numpy())
    assert np.allclose(shift_hue(x, angles), hues, atol=2e-6)
    assert np.allclose(scale_saturation(x, factors), saturations, atol=2e-6)


def test_brightness_adds_and_contrast_multiplies_up_to_the_bounds():
    x = torch.tensor([0.1, 0.5, 0.95]).reshape(1, 1, 1, 3)
    assert shift_brightness(x, torch.tensor([[0.2]])).flatten().tolist() == pytest.approx([0.3, 0.7, 1.0])
    assert shift_brightness(x, torch.tensor([[-0.2]])).flatten().tolist() == pytest.approx([0.0, 0.3, 0.75])
    assert scale_contrast(x, torch.tensor([[1.3]])).flatten().tolist() == pytest.approx([0.13, 0.65, 1.0])
    assert scale_contrast(x, torch.tensor([[0.7]])).flatten().tolist() == pytest.approx([0.07, 0.35, 0.665])


@pytest.mark.parametrize("factor", [0.0, 0.7, 1.0, 1.3])
def test_contrast_is_what_pillow_calls_brightness(factor):
    pixels = images(1, (3, 6, 9)).mul(255).round()
    pillow = Image.fromarray(pixels[0].permute(1, 2, 0).byte().numpy())
    expected = np.asarray(ImageEnhance.Brightness(pillow).enhance(factor)).transpose(2, 0, 1)
    made = scale_contrast(pixels / 255, torch.tensor([factor]))[0] * 255
    assert np.abs(made.numpy() - expected).max() <= 1  # Pillow cuts to whole levels


@pytest.mark.parametrize("shape", [(3, 9, 9), (1, 6, 11), (2, 12, 5)])
def test_rotation_is_that_of_scipy(shape):
    x, degrees = images(3, shape), torch.tensor([[10.0], [-7.3], [90.0]])
    options = {"axes": (2, 1), "reshape": False, "order": 1, "mode": "grid-constant", "cval": 0.0}
    expected = [
        ndimage.rotate(one, angle, **options) for one, angle in zip(x.numpy(), degrees.flatten().tolist(), strict=True)
    ]
    assert np.allclose(rotate(x, degrees), np.stack(expected), atol=1e-5)


def test_a_placed_image_lands_where_it_should_in_its_size():
    dot = torch.ones(1, 1, 2, 2)
    there = placed(dot, (6, 8), *(torch.tensor([value]) for value in (0.0, 1.0, 2.0, -1.0)))
    expected = torch.zeros(1, 1, 6, 8)
    expected[:, :, 1:3, 5:7] = 1
    assert torch.allclose(there, expected, atol=1e-6)
    twice = placed(dot, (8, 8), *(torch.tensor([value]) for value in (0.0, 2.0, 0.0, 0.0)))
    assert twice.sum() == pytest.approx(16, rel=1e-5)


@pytest.mark.parametrize("name", MAPS)
def test_gradients_are_those_of_finite_differences(name):
    x = images(2, (3, 4, 3), dtype=torch.float64) * 0.5 + 0.25
    numbers = amounts(name, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(MAPS[name], (x.requires_grad_(), numbers.requires_grad_()))


@pytest.mark.parametrize("name", COMPONENTS)
def test_gradients_are_finite_at_every_kind_of_pixel(name):
    gap = torch.tensor([0.0, 1e-45, 1e-38, 1e-20, 1e-8, 9e-7, 1.1e-6, 1e-4, 0.5])
    for level in (0.0, 1e-30, 1e-6, 0.3, 0.5):
        x = torch.full((3, 3, 1, len(gap)), level)
        x[0, 0, 0] += gap
        x[1, 1, 0] += gap
        x[2, 0, 0], x[2, 2, 0] = x[2, 0, 0] + gap, x[2, 2, 0] + gap
        component = COMPONENTS[name]
        numbers = component.clip(x, component.start(x) + 0.1).requires_grad_()
        made = component(x.requires_grad_(), numbers)
        for slope in torch.autograd.grad((made * images(3, x.shape[1:])).sum(), [x, numbers]):
            assert slope.isfinite().all()
            assert slope.abs().max() < 1e4


@pytest.mark.parametrize("name", COMPONENTS)
@given(data=st.data())
@settings(deadline=None, max_examples=25)
def test_images_stay_images_and_the_neutral_number_changes_nothing(name, data):
    component = COMPONENTS[name]
    x = images(data.draw(st.integers(1, 3)), data.draw(st.sampled_from(SIZES)), seed=data.draw(st.integers(0, 99)))
    assert torch.allclose(component(x, component.start(x)), x, atol=1e-6)
    wild = component.start(x) + 20 * torch.randn(component.start(x).shape)
    inside = component.clip(x, wild)
    made = component(x, inside)
    assert made.shape == x.shape
    assert made.min() >= -1e-6
    assert made.max() <= 1 + 1e-6
    low, high = component.interval
    assert inside.min() >= low
    assert inside.max() <= high


@pytest.mark.parametrize("name", COMPONENTS)
def test_each_component_is_a_sound_perturbation(name):
    check_perturbation(COMPONENTS[name], images(3, (3, 6, 5)))


def test_a_hue_turned_there_and_back_or_all_round_is_the_same():
    x, angle = images(2, (3, 4, 4)), torch.tensor([[1.0], [-2.5]])
    assert torch.allclose(shift_hue(shift_hue(x, angle), -angle), x, atol=1e-5)
    assert torch.allclose(shift_hue(x, torch.full((2, 1), 2 * pi)), x, atol=1e-5)


def test_gray_images_have_brightness_contrast_and_rotation_but_no_colour():
    x = images(1, (1, 4, 6))
    for name in ("brightness", "contrast", "rotation", "linf"):
        assert COMPONENTS[name](x, COMPONENTS[name].start(x)).shape == x.shape
    for name in ("hue", "saturation"):
        with pytest.raises(InputError, match="three channels red, green and blue, but these have 1"):
            COMPONENTS[name].start(x)
    with pytest.raises(InputError, match="images of shape"):
        COMPONENTS["contrast"].start(torch.zeros(2, 5))


def test_pixel_noise_stays_in_the_ball_and_lets_entries_come_back():
    noise, x = PixelNoise(0.1), torch.tensor([[[[0.0, 0.05, 0.5, 1.0]]]])
    p = noise.clip(x, torch.full_like(x, -1.0)).requires_grad_()
    assert p.flatten().tolist() == pytest.approx([-0.1] * 4)
    made = noise(x, p)
    assert made.flatten().tolist() == pytest.approx([0.0, 0.0, 0.4, 0.9])
    assert torch.autograd.grad(made.sum(), p)[0].flatten().tolist() == [1.0] * 4


def test_components_are_found_by_name_or_taken_as_they_are():
    mild = replace(COMPONENTS["hue"], interval=(-0.1, 0.1))
    assert get_components((mild, "linf")) == (mild, COMPONENTS["linf"])
    with pytest.raises(InputError, match="at least one of 'hue', 'saturation'"):
        get_components(["blur"])
    with pytest.raises(InputError, match="cannot be used"):
        get_components("hue")
    with pytest.raises(InputError, match="cannot be used"):
        get_components([])
    with pytest.raises(InputError, match="the smaller one first"):
        Semantic("odd", shift_brightness, (0.2, 0.1), 0.0)
    with pytest.raises(InputError, match="epsilon=-1"):
        PixelNoise(-1)
