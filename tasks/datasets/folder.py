"""Data sets in a folder of images: one sub-folder a class."""

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attacks.errors import InputError

from .images import ENDINGS, read_image
from .pool import Pool

PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
"""Sub-folders that hold classes rather than being one, and what they set their samples aside for."""


def folder(path: Path, size: int | None = None) -> Pool:
    """List the images in ``path/CLASS/*``, or in ``path/train/CLASS/*``, ``path/test/CLASS/*`` and so on.

    Classes are numbered in the order of their names; hidden files and those of other kinds are passed over. Only the
    images that a task draws are decoded, gray or in colour as the first one is.

    Args:
        path: the folder.
        size: height and width to resize to; None: the images must be of one size.

    Raises:
        InputError: there are no classes, a class has no images, a link leads out of the folder, or a file is no image.
    """
    root = path.resolve()
    tops = _inside(root, root)
    parts = [top for top in tops if top.name in PARTS]
    if parts and len(parts) < len(tops):
        odd = next(top.name for top in tops if top.name not in PARTS)
        raise InputError(
            f"{path} holds {parts[0].name} beside {odd}: use train, validation and test, or classes alone."
        )
    classes = [(PARTS[top.name], kind) for top in parts for kind in _inside(top, root)]
    found = [(part, kind.name, list(_images(kind, root))) for part, kind in classes or [("any", top) for top in tops]]
    if empty := next((name for _, name, files in found if not files), None):
        raise InputError(f"The class {empty} in {path} has no images ({', '.join(sorted(ENDINGS))}): add or remove it.")
    if not found:
        raise InputError(f"{path} has no sub-folders: put the images of each class into one, e.g. cats/1.png.")
    files = [file for _, _, files in found for file in files]
    names = sorted({name for _, name, _ in found})
    first = read_image(files[0])
    shape = (len(first), size, size) if size else first.shape
    return Pool(
        labels=np.concatenate([np.full(len(files), names.index(name)) for _, name, files in found]).astype(np.int64),
        parts=np.concatenate([np.full(len(files), part) for part, _, files in found]),
        fingerprints=[sha256(file.read_bytes()).digest() for file in files],
        class_names=tuple(names),
        read=partial(_read, files, shape, size is not None),
    )


def _inside(place: Path, root: Path) -> list[Path]:
    """The sub-folders of ``place``, by name."""
    return sorted(_checked(entry, root) for entry in place.iterdir() if entry.is_dir() and entry.name[0] != ".")


def _images(place: Path, root: Path) -> Iterator[Path]:
    for entry in sorted(place.iterdir()):
        if entry.suffix.lower() in ENDINGS and entry.name[0] != "." and entry.is_file():
            yield _checked(entry, root)


def _checked(entry: Path, root: Path) -> Path:
    if not entry.resolve().is_relative_to(root):
        raise InputError(f"{entry} is a link that leads out of {root}: copy what it points to, or remove it.")
    return entry


def _read(files: list[Path], shape: tuple[int, ...], resize: bool, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    images = np.empty((len(rows), *shape), dtype=np.float32)
    for place, row in enumerate(rows):
        image = read_image(files[row], channels=shape[0], size=(shape[1], shape[2]) if resize else None)
        if image.shape != shape:
            raise InputError(
                f"{files[row]} has {image.shape[1]} x {image.shape[2]} pixels and {files[0]} {shape[1]} x {shape[2]}: "
                "say size= (on the command line --size) to resize them all."
            )
        images[place] = image
    return images
