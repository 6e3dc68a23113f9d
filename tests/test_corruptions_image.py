"""Natural corruptions against their closed forms, other implementations, and the rules that all keep."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from attacks.corruptions import CORRUPTIONS, corrupt
from attacks.errors import InputError

NOISES = ("gaussian_noise", "shot_noise", "impulse_noise")
SEVERITIES = (1, 2, 3, 4, 5)


def gray(level: float, side: int = 256) -> Tensor:
    return torch.full((1, 1, side, side), level)


def photo(n: int = 2, channels: int = 3, height: int = 32, width: int = 32) -> Tensor:
    """Smooth colours with fine detail on top: what blur, contrast, pixelate and jpeg have to damage."""
    generator = torch.Generator().manual_seed(7)
    coarse = torch.rand(n, channels, 3, 3, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=False)
    return (smooth + 0.1 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize(
    ("severity", "deviation", "benchmark"),
    [(1, 0.08, "imagenet-c"), (2, 0.12, "imagenet-c"), (1, 0.04, "cifar-c"), (5, 0.10, "cifar-c")],
)
def test_gaussian_noise_has_the_published_deviation(severity: int, deviation: float, benchmark: str) -> None:
    noise = corrupt(gray(0.5), "gaussian_noise", severity, benchmark=benchmark) - 0.5
    assert noise.std().item() == pytest.approx(deviation, rel=0.02)
    assert noise.mean().item() == pytest.approx(0, abs=0.002)


@pytest.mark.parametrize(("severity", "photons"), [(1, 60), (2, 25), (3, 12), (4, 5), (5, 3)])
def test_shot_noise_counts_photons(severity: int, photons: int) -> None:
    counts = corrupt(gray(0.2), "shot_noise", severity) * photons
    torch.testing.assert_close(counts, counts.round(), atol=1e-4, rtol=0)
    if photons >= 12:  # below, many counts are clipped at white
        assert counts.mean().item() == pytest.approx(0.2 * photons, rel=0.03)
        assert counts.var().item() == pytest.approx(0.2 * photons, rel=0.05)
    assert corrupt(gray(0.0), "shot_noise", severity).max() == 0


@pytest.mark.parametrize(("severity", "share"), list(enumerate((0.03, 0.06, 0.09, 0.17, 0.27), 1)))
def test_impulse_noise_is_half_salt_half_pepper(severity: int, share: float) -> None:
    noisy = corrupt(gray(0.5), "impulse_noise", severity)
    black, white = (noisy == 0).float().mean().item(), (noisy == 1).float().mean().item()
    assert black == pytest.approx(share / 2, rel=0.1)
    assert white == pytest.approx(share / 2, rel=0.1)
    assert ((noisy == 0) | (noisy == 1) | (noisy == 0.5)).all()


@pytest.mark.parametrize(("severity", "sigma"), list(enumerate((1, 2, 3, 4, 6), 1)))
def test_gaussian_blur_agrees_with_scipy(severity: int, sigma: float) -> None:
    image = photo(1, 1, 24, 20)
    expected = gaussian_filter(image[0, 0].double().numpy(), sigma, mode="nearest", truncate=4)
    np.testing.assert_allclose(corrupt(image, "gaussian_blur", severity)[0, 0].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("severity", "shift"), list(enumerate((0.1, 0.2, 0.3, 0.4, 0.5), 1)))
def test_brightness_moves_the_value_and_keeps_the_colour(severity: int, shift: float) -> None:
    colour = torch.tensor([0.4, 0.2, 0.1]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(corrupt(colour, "brightness", severity), colour * (0.4 + shift) / 0.4)
    torch.testing.assert_close(
        corrupt(torch.zeros(1, 3, 1, 1), "brightness", severity), torch.full((1, 3, 1, 1), shift)
    )
    torch.testing.assert_close(corrupt(gray(0.3, 2), "brightness", severity), gray(0.3 + shift, 2))
    assert corrupt(gray(0.95, 2), "brightness", severity).eq(1).all()


@pytest.mark.parametrize(("severity", "factor"), list(enumerate((0.4, 0.3, 0.2, 0.1, 0.05), 1)))
def test_contrast_shrinks_the_distance_to_each_channels_mean(severity: int, factor: float) -> None:
    image = photo()
    mean = image.mean((2, 3), keepdim=True)
    changed = corrupt(image, "contrast", severity)
    torch.testing.assert_close(changed.mean((2, 3), keepdim=True), mean)
    torch.testing.assert_close(changed.std((2, 3)), factor * image.std((2, 3)))


@pytest.mark.parametrize(("severity", "scale"), list(enumerate((0.6, 0.5, 0.4, 0.3, 0.25), 1)))
def test_pixelate_agrees_with_pillow(severity: int, scale: float) -> None:
    image = photo(1, 1, 32, 32)
    small = Image.fromarray(image[0, 0].numpy()).resize((int(32 * scale), int(32 * scale)), Image.Resampling.BOX)
    expected = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
    np.testing.assert_allclose(corrupt(image, "pixelate", severity)[0, 0].numpy(), expected, atol=1e-6)


def test_pixelate_makes_constant_blocks_of_their_means() -> None:
    image = photo(2, 3, 8, 12)
    blocks = corrupt(image, "pixelate", 5).reshape(2, 3, 2, 4, 3, 4)  # a quarter of the size: blocks of 4 x 4 pixels
    means = image.reshape(2, 3, 2, 4, 3, 4).mean((3, 5), keepdim=True)
    torch.testing.assert_close(blocks, means.expand_as(blocks))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_keeps_a_plain_image_and_returns_bytes(channels: int) -> None:
    plain = torch.full((1, channels, 16, 16), 200 / 255)
    torch.testing.assert_close(corrupt(plain, "jpeg", 1), plain, atol=1.01 / 255, rtol=0)
    levels = corrupt(photo(1, channels), "jpeg", 3) * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("benchmark", ["imagenet-c", "cifar-c"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(name: str, benchmark: str) -> None:
    image = photo(4, 3, 64, 64)
    damage = [(corrupt(image, name, s, benchmark=benchmark) - image).square().mean().item() for s in SEVERITIES]
    assert damage[0] > 0
    assert damage == sorted(damage)


@pytest.mark.parametrize("name", ["gaussian_blur", "contrast", "pixelate"])
def test_a_plain_image_has_nothing_to_lose(name: str) -> None:
    torch.testing.assert_close(corrupt(gray(0.6, 16), name, 5), gray(0.6, 16))


@pytest.mark.parametrize("name", NOISES)
def test_the_seed_decides_the_noise(name: str) -> None:
    images = photo(4)
    first = corrupt(images, name, 3, seed=5)
    assert corrupt(images, name, 3, seed=5).equal(first)
    assert not corrupt(images, name, 3, seed=99).equal(first)


@pytest.mark.parametrize("name", NOISES)
def test_no_image_has_the_noise_of_another_image_or_seed(name: str) -> None:
    images = gray(0.5, 8).expand(3, -1, -1, -1)
    noisy = torch.cat([corrupt(images, name, 3, seed=seed) for seed in range(3)])
    assert len(noisy.flatten(1).unique(dim=0)) == 9


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_batch_may_be_cut_in_parts(name: str) -> None:
    images = photo(4)
    whole = corrupt(images, name, 2, seed=3)
    torch.testing.assert_close(corrupt(images[1:], name, 2, seed=3, first=1), whole[1:])


@given(
    n=st.integers(1, 3),
    channels=st.sampled_from([1, 3]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    severity=st.sampled_from(SEVERITIES),
    name=st.sampled_from(CORRUPTIONS),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    benchmark=st.sampled_from(["imagenet-c", "cifar-c"]),
)
@settings(deadline=None, max_examples=60)
def test_any_size_keeps_shape_type_and_range(
    n: int, channels: int, height: int, width: int, severity: int, name: str, dtype: torch.dtype, benchmark: str
) -> None:
    images = torch.rand(n, channels, height, width, dtype=dtype, generator=torch.Generator().manual_seed(0))
    before = images.clone()
    changed = corrupt(images, name, severity, benchmark=benchmark)
    assert (changed.shape, changed.dtype) == (images.shape, dtype)
    assert changed.min() >= 0 and changed.max() <= 1
    assert images.equal(before)


@pytest.mark.parametrize(
    ("images", "name", "severity", "benchmark", "sentence"),
    [
        (gray(0.5, 4), "fog", 1, "imagenet-c", "'fog' is not known: use one of gaussian_noise"),
        (gray(0.5, 4), "jpeg", 0, "imagenet-c", "severity=0 is not possible"),
        (gray(0.5, 4), "jpeg", 2.0, "imagenet-c", "severity=2.0 is not possible"),
        (gray(0.5, 4), "jpeg", True, "imagenet-c", "severity=True is not possible"),
        (gray(0.5, 4), "jpeg", 1, "mnist-c", "benchmark='mnist-c' is not known"),
        (gray(0.5, 4)[0], "jpeg", 1, "imagenet-c", r"shape \[1, 4, 4\]"),
        (torch.rand(1, 2, 4, 4), "jpeg", 1, "imagenet-c", "1 or 3 channels"),
        (torch.rand(0, 3, 4, 4), "jpeg", 1, "imagenet-c", "n of at least 1"),
        (torch.zeros(1, 1, 2, 2, dtype=torch.uint8), "jpeg", 1, "imagenet-c", "torch.uint8"),
        (gray(1.5, 4), "jpeg", 1, "imagenet-c", r"span \[1.5, 1.5\]"),
        (gray(float("nan"), 4), "jpeg", 1, "imagenet-c", "span"),
    ],
)
def test_bad_input_is_a_sentence(images: Tensor, name: str, severity: int, benchmark: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        corrupt(images, name, severity, benchmark=benchmark)


@pytest.mark.parametrize("numbers", [{"seed": -1}, {"first": -1}])
def test_seeds_and_rows_below_zero_are_refused(numbers: dict[str, int]) -> None:
    with pytest.raises(InputError, match="must both be at least 0"):
        corrupt(gray(0.5, 4), "jpeg", 1, **numbers)
