"""Image files as arrays."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attacks.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff"}
MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"}
"""Pillow's modes with at most 8 bits a channel; others would lose their range silently."""


def read_image(path: Path, *, channels: int | None = None, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
    """Decode one image file, turned as its EXIF data says; of several frames the first.

    Args:
        path: the file.
        channels: 1 for gray, 3 for RGB; None: as the file has it.
        size: height and width to resize to (bilinear, antialiased); None: its own.

    Returns:
        float32, shape ``[channels, height, width]``, entries in [0, 1].

    Raises:
        InputError: the file is missing, damaged, far too large, or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                if image.mode not in MODES:
                    raise InputError(f"{path} has mode {image.mode}: save it with 8 bits a channel, gray or RGB.")
                image = image.convert("L" if (channels or _channels(image)) == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    except Image.DecompressionBombWarning as error:
        raise _unreadable(path, error) from error
    if size is not None:
        image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _channels(image: "Image") -> int:
    return 1 if image.mode in ("1", "L", "LA") else 3


def _unreadable(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    reason = "there is no such file" if isinstance(error, FileNotFoundError) else error
    return InputError(f"{path} cannot be read as an image ({reason}): give a png, jpeg, bmp, gif, webp or tiff file.")
