"""Natural corruptions of images: what a camera, a lens, a light or a codec does, with nobody's intent behind it.

Source: Hendrycks and Dietterich, "Benchmarking neural network robustness to common corruptions and perturbations",
ICLR 2019 (ImageNet-C, CIFAR-10-C). The constants of the five severities are the published ones. Three things differ
from the published data sets, so compare models with each other rather than with their tables: images stay floats (only
``jpeg`` rounds to 8 bits), nothing is saved as JPEG a second time, and the noise comes from torch's generator.
"""

import io
from collections.abc import Callable, Iterator
from itertools import count

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional

from attacks.errors import InputError

from .severities import SEVERITIES, Benchmark


def corrupt(
    images: Tensor,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    first: int = 0,
    benchmark: Benchmark = "imagenet-c",
) -> Tensor:
    """Corrupt images in one natural way.

    Args:
        images: float, shape ``[n, 1 or 3, height, width]``, entries in [0, 1], any size.
        name: one of :data:`CORRUPTIONS`.
        severity: 1 (mild) to 5 (severe).
        seed: of the noise, at least 0. Each image draws from a generator of its own, seeded by ``seed`` and its row,
            whatever the device, so that two seeds are two independent repeats.
        first: the row of the first image, at least 0: a part of a larger set gets the noise that it has in the whole.
        benchmark: whose constants: ``"imagenet-c"``, meant for 224 pixels, or ``"cifar-c"``, meant for 32. The blur's
            radius is in pixels: ImageNet-C's blur and pixelation leave little of an image that small.

    Returns:
        The corrupted images, new, of the same shape, dtype and device, in [0, 1].

    Raises:
        InputError: when the name, the severity, the benchmark, a number or the images are not of this kind.

    Example:
        >>> images = torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2)
        >>> corrupt(images, "contrast", 1).flatten()
        tensor([0.3000, 0.7000])
    """
    if benchmark not in SEVERITIES:
        raise InputError(f"benchmark={benchmark!r} is not known: use one of {', '.join(map(repr, SEVERITIES))}.")
    if name not in CORRUPTIONS:
        raise InputError(f"The corruption {name!r} is not known: use one of {', '.join(CORRUPTIONS)}.")
    if type(severity) is not int or not 1 <= severity <= 5:
        raise InputError(f"severity={severity!r} is not possible: give a whole number from 1 (mild) to 5 (severe).")
    if min(seed, first) < 0:
        raise InputError(f"seed={seed} and first={first} must both be at least 0.")
    _check(images)
    constant = SEVERITIES[benchmark][name][severity - 1]
    return _APPLY[name](images.detach(), constant, _seeds(seed, first)).clamp(0, 1)


def _check(images: Tensor) -> None:
    if images.dim() != 4 or images.shape[1] not in (1, 3) or images.numel() == 0:
        raise InputError(
            f"The images have shape {list(images.shape)}: give [n, channels, height, width] with 1 or 3 channels, "
            "n of at least 1 and at least one pixel."
        )
    if not images.is_floating_point():
        raise InputError(f"The images are {images.dtype}: give floats in [0, 1], for bytes images.float() / 255.")
    low, high = images.amin().item(), images.amax().item()
    if not (low >= -1e-6 and high <= 1 + 1e-6):
        raise InputError(f"The images span [{low:.4g}, {high:.4g}]: give entries in [0, 1], before any normalization.")


def _seeds(seed: int, row: int) -> Iterator[int]:
    """A seed for each image from ``row`` on: 32 bits, which are all that torch's generator on the CPU keeps."""
    return (int(np.random.SeedSequence([seed, image]).generate_state(1)[0]) for image in count(row))


def _per_image(images: Tensor, seeds: Iterator[int], draw: Callable[[Tensor, Generator], Tensor]) -> Tensor:
    """One draw for each image from a generator of its own, on the CPU: the same on every device and in every batch."""
    draws = [draw(image, Generator().manual_seed(seed)) for image, seed in zip(images.cpu(), seeds, strict=False)]
    return torch.stack(draws).to(images.device)


def _gaussian_noise(images: Tensor, deviation: float, seeds: Iterator[int]) -> Tensor:
    noise = _per_image(images, seeds, lambda image, source: torch.randn(image.shape, generator=source).to(image))
    return images + deviation * noise


def _shot_noise(images: Tensor, photons: float, seeds: Iterator[int]) -> Tensor:
    """Poisson noise of a sensor that counts this many photons where the image is white."""
    light = images.clamp_min(0) * photons
    return _per_image(light, seeds, lambda image, source: torch.poisson(image, generator=source)) / photons


def _impulse_noise(images: Tensor, share: float, seeds: Iterator[int]) -> Tensor:
    """Salt and pepper: this share of all entries turns black or white, each with half of the chance."""
    chance = _per_image(images, seeds, lambda image, source: torch.rand(image.shape, generator=source).to(image))
    return torch.where(chance < share / 2, 0, torch.where(chance >= 1 - share / 2, 1, images))


def _gaussian_blur(images: Tensor, sigma: float, seeds: Iterator[int]) -> Tensor:
    """``sigma`` in pixels; cut at four sigma, edges repeated."""
    radius = int(4 * sigma + 0.5)
    offsets = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = (-0.5 * (offsets / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    planes = functional.pad(images.flatten(0, 1)[:, None], [radius] * 4, mode="replicate")
    blurred = functional.conv2d(functional.conv2d(planes, kernel[None, None, :, None]), kernel[None, None, None])
    return blurred.reshape(images.shape)


def _brightness(images: Tensor, shift: float, seeds: Iterator[int]) -> Tensor:
    """Shift the value of HSV, the largest channel; scaling all channels alike keeps hue and saturation."""
    value = images.amax(1, keepdim=True)
    brighter = (value + shift).clamp(0, 1)
    return torch.where(value > 0, images * (brighter / value.clamp_min(1e-12)), brighter)


def _contrast(images: Tensor, factor: float, seeds: Iterator[int]) -> Tensor:
    """Draw every channel of an image towards its mean."""
    mean = images.mean((2, 3), keepdim=True)
    return (images - mean) * factor + mean


def _pixelate(images: Tensor, scale: float, seeds: Iterator[int]) -> Tensor:
    """Shrink by a box filter and enlarge again: every pixel becomes the mean of its cell."""
    rows, columns = (_cells(size, scale).to(images) for size in images.shape[2:])
    return rows @ images @ columns.T


def _cells(size: int, scale: float) -> Tensor:
    """The matrix that replaces each of ``size`` entries by the mean of its cell; ``int(size * scale)`` cells."""
    cells = max(1, int(size * scale))
    cell = (2 * torch.arange(size) + 1) * cells // (2 * size)  # the cell in which the centre of a pixel lies
    same = (cell[:, None] == cell[None, :]).double()
    return same / same.sum(1, keepdim=True)


def _jpeg(images: Tensor, quality: float, seeds: Iterator[int]) -> Tensor:
    """Through Pillow's encoder at this quality, with its usual halved colour resolution."""
    pixels = (images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    decoded = torch.from_numpy(np.stack([_through_jpeg(image, int(quality)) for image in pixels]))
    return decoded.reshape(pixels.shape).permute(0, 3, 1, 2).to(images) / 255


def _through_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    stored = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(stored, "JPEG", quality=quality)
    return np.asarray(Image.open(stored))


_APPLY: dict[str, Callable[[Tensor, float, Iterator[int]], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "shot_noise": _shot_noise,
    "impulse_noise": _impulse_noise,
    "gaussian_blur": _gaussian_blur,
    "brightness": _brightness,
    "contrast": _contrast,
    "pixelate": _pixelate,
    "jpeg": _jpeg,
}

CORRUPTIONS: tuple[str, ...] = tuple(_APPLY)
"""The names of all corruptions: three noises, a blur, two of light and two digital ones."""
