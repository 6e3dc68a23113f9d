"""Data sets in one ``.npz`` file."""

import zipfile
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attacks.errors import InputError

from .pool import Pool

PARTS = {"": "any", "_train": "train", "_validation": "validation", "_val": "validation", "_test": "test"}
"""The endings of the keys ``x`` and ``y``, and what they set the samples aside for."""

UNREADABLE = (OSError, ValueError, TypeError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What NumPy, zipfile and zlib raise for files that are no archive, or a damaged one."""


def arrays(path: Path) -> Pool:
    """Read a NumPy archive with the keys ``x, y`` or ``x_train, y_train, x_test, y_test`` (and ``_validation``).

    Images are uint8 in 0 .. 255 or floats in [0, 1], of shape ``[n, h, w]``, ``[n, c, h, w]`` or ``[n, h, w, c]``
    with one or three channels; labels are integers. ``class_names`` may name the classes. Other keys are not read, and
    pickled content is refused.

    Raises:
        InputError: the file is no such archive, or does not fit into memory.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = archive.files
            wanted = {"class_names", *(f"{kind}{ending}" for ending in PARTS for kind in "xy")}
            content = {key: np.asarray(archive[key]) for key in found if key in wanted}
    except MemoryError as error:
        raise InputError(
            f"{path} holds more than this machine's memory ({error}): give fewer or smaller images."
        ) from error
    except UNREADABLE as error:
        # NumPy's ValueErrors are about pickles, and advise to read them.
        reason = "it is no archive, a damaged one, or holds Python objects" if isinstance(error, ValueError) else error
        raise InputError(
            f"{path} cannot be read as an .npz file of plain arrays ({reason}): write it with "
            "numpy.savez_compressed(path, x=images, y=labels), without objects."
        ) from error
    images, labels, parts = [], [], []
    for ending, part in PARTS.items():
        if f"x{ending}" in content:
            images.append(_images(path, f"x{ending}", content[f"x{ending}"]))
            labels.append(_labels(path, f"y{ending}", content.get(f"y{ending}"), len(images[-1])))
            parts.append(np.full(len(images[-1]), part))
    if not images:
        raise InputError(f"{path} holds {', '.join(found) or 'nothing'}: it needs x and y, or x_train, y_train, ...")
    if len(shapes := {part.shape[1:] for part in images}) > 1:
        raise InputError(f"The images in {path} have {len(shapes)} shapes, {shapes}: bring them to one.")
    everything, classes = np.concatenate(images), np.concatenate(labels)
    named = content.get("class_names")
    return Pool(
        labels=classes,
        parts=np.concatenate(parts),
        fingerprints=[sha256(image.tobytes()).digest() for image in everything],
        class_names=tuple(map(str, np.unique(classes) if named is None else np.atleast_1d(named).tolist())),
        read=lambda rows: _unit(everything[rows]),
    )


def _images(path: Path, key: str, images: NDArray[Any]) -> NDArray[Any]:
    """As channels-first images, uint8 or float32."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise InputError(
            f"{key} in {path} has shape {images.shape}: images are [n, h, w], [n, c, h, w] or [n, h, w, c] with one or "
            "three channels."
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    if not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"{key} in {path} is {images.dtype}: images are uint8 in 0 .. 255 or floats in [0, 1].")
    if not (images.min() >= 0 and images.max() <= 1):  # also true for NaN
        raise InputError(
            f"{key} in {path} lies in [{images.min():g}, {images.max():g}]: floats must lie in [0, 1]; scale them."
        )
    return np.ascontiguousarray(images, dtype=np.float32)


def _labels(path: Path, key: str, labels: NDArray[Any] | None, n: int) -> NDArray[np.int64]:
    if labels is None:
        raise InputError(f"{path} has no {key} beside x{key[1:]}: every sample needs a label.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.shape != (n,):
        raise InputError(
            f"{key} in {path} is {labels.dtype} of shape {labels.shape}: labels are {n} integers, one per image."
        )
    return labels.astype(np.int64)


def _unit(images: NDArray[Any]) -> NDArray[np.float32]:
    return images.astype(np.float32) / np.float32(255 if images.dtype == np.uint8 else 1)
