import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attacks.errors import InputError
from attacks.models import Preprocessing
from attacks.models.preprocessing import as_size

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
side = st.integers(1, 60)


@settings(deadline=None, max_examples=60)
@given(height=side, width=side, resize=st.integers(9, 20), rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_every_natural_size_arrives_at_the_input_size_and_constants_stay(height, width, resize, rows, columns):
    prepare = Preprocessing(resize=resize, crop=(rows, columns))
    prepared = prepare(torch.full((1, 3, height, width), 0.3))
    assert prepared.shape == (1, 3, rows, columns) and prepare.input_size == (rows, columns)
    assert torch.allclose(prepared, torch.tensor(0.3), atol=1e-5)


@pytest.mark.parametrize("interpolation", FILTERS)
@pytest.mark.parametrize("size", [(17, 23), (64, 80)])
def test_resizing_is_pillows_up_to_its_8_bit_rounding(interpolation, size):
    pixels = np.random.default_rng(0).integers(64, 192, (40, 50, 3), dtype=np.uint8)
    theirs = np.asarray(Image.fromarray(pixels).resize(size[::-1], FILTERS[interpolation]), dtype=np.float32)
    ours = Preprocessing(resize=size, interpolation=interpolation)(
        torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255
    )
    # Pillow rounds to whole grey levels after each of its two passes.
    assert np.abs(ours[0].permute(1, 2, 0).numpy() * 255 - theirs).max() < 1.2


def test_images_of_the_input_size_keep_every_border_pixel():
    prepare = Preprocessing(mean=[0.5], std=[0.5], resize=32, crop=(24, 24))
    images = torch.rand(2, 1, 24, 24)
    assert torch.equal(prepare(images), (images - 0.5) / 0.5)
    assert not torch.allclose(prepare(torch.nn.functional.pad(images, (1, 1)))[..., 1:-1], prepare(images)[..., 1:-1])


def test_a_white_image_keeps_its_gradient_through_bicubic_resizing():
    images = torch.ones(1, 3, 50, 37, requires_grad=True)
    Preprocessing(resize=(24, 24))(images).sum().backward()
    assert images.grad is not None
    assert images.grad.sum().item() == pytest.approx(3 * 24 * 24, rel=1e-4)


def test_bicubic_overshoot_is_clipped():
    edge = torch.zeros(1, 3, 8, 8)
    edge[..., 4:] = 1
    prepared = Preprocessing(resize=(32, 32))(edge)
    assert prepared.min() >= -1e-4 and prepared.max() <= 1 + 1e-4


def test_channels_can_be_reversed():
    images = torch.rand(1, 3, 4, 4)
    assert torch.equal(Preprocessing(reverse_channels=True)(images), images[:, [2, 1, 0]])


@settings(deadline=None, max_examples=60)
@given(height=st.integers(1, 300), width=st.integers(1, 300))
def test_another_input_size_scales_the_pipeline(height, width):
    for original in (Preprocessing(resize=256, crop=(224, 224)), Preprocessing(resize=(256, 240), crop=(224, 224))):
        scaled = original.at((height, width))
        assert scaled.input_size == (height, width)
        assert scaled(torch.zeros(1, 3, 30, 40)).shape[-2:] == (height, width)
    same = Preprocessing(resize=256, crop=(224, 224)).at((224, 224))
    assert (same.resize, same.crop) == (256, (224, 224))


def test_an_image_smaller_than_the_crop_is_refused():
    with pytest.raises(InputError, match="8 x 30 pixels"):
        Preprocessing(crop=(10, 10))(torch.zeros(1, 3, 8, 30))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"interpolation": "lanczos"}, "bicubic"),
        ({"resize": 20, "crop": (24, 24)}, "larger than"),
        ({"resize": (24, 20), "crop": (24, 24)}, "larger than"),
        ({"mean": [0.5]}, "one number per channel"),
        ({"mean": [], "std": []}, "one number per channel"),
        ({"std": [1.0, 0.0, 1.0]}, "none of 0"),
    ],
)
def test_impossible_pipelines_are_refused(arguments, sentence):
    with pytest.raises(InputError, match=sentence):
        Preprocessing(**arguments)


def test_sizes_are_pairs():
    assert as_size(5) == (5, 5) and as_size([5, 6]) == (5, 6)
    with pytest.raises(InputError, match="one number"):
        as_size((True, 0))


def test_a_side_that_would_fill_the_memory_is_refused():
    with pytest.raises(InputError, match="beyond 4096 pixels"):
        as_size(100_000)
