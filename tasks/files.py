"""Results as files: strict JSON of any result, and refusals of places that cannot be written."""

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from attacks.errors import InputError
from attacks.files import write_atomically


def to_json(data: Any) -> str:
    """Strict JSON, indented; numbers that JSON lacks become null, objects with a ``to_dict`` what it returns.

    Example:
        >>> print(to_json({"loss": float("nan"), "file": Path("a.png"), "shape": (1, 2)}))
        {
          "loss": null,
          "file": "a.png",
          "shape": [
            1,
            2
          ]
        }
    """
    return json.dumps(_plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def _plain(data: Any) -> Any:
    if isinstance(data, float):
        return data if math.isfinite(data) else None
    if isinstance(data, Mapping):
        return {str(name): _plain(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_plain(value) for value in data]
    if isinstance(data, os.PathLike):
        return os.fspath(data)
    return _plain(data.to_dict()) if hasattr(data, "to_dict") else data


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole or not at all; its folder is made when it is not there.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        write_atomically(path, text + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}): choose another place.") from error
    return Path(path)


def make_folder(path: str | os.PathLike[str]) -> Path:
    """A folder for results, made when it is not there; called before the work, so that none is lost for want of it.

    Raises:
        InputError: a file stands there, or it cannot be made or written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {path} cannot be made ({error.strerror}): choose another one.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"The folder {path} cannot be written: choose another one.")
    return path


@contextmanager
def unmade_if_empty(*folders: str | os.PathLike[str]) -> Iterator[None]:
    """Inside, folders are made for results; when the work fails, those that are new and still empty are removed.

    Args:
        folders: those that may be made; the folders above them, where they are new too, go with them.

    Example:
        >>> import tempfile
        >>> new = Path(tempfile.mkdtemp(), "new")
        >>> with suppress(InputError), unmade_if_empty(new / "results"):
        ...     raise InputError(f"{make_folder(new / 'results')} was made, but the work fails.")
        >>> new.exists()
        False
    """
    new = [place for folder in map(Path, folders) for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except BaseException:
        for place in new:
            with suppress(OSError):  # it was never made, or holds something
                place.rmdir()
        raise
