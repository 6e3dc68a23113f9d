"""Files that appear whole or not at all, and JSON that is read with a sentence for what is wrong with it."""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import InputError

PathLike = str | os.PathLike[str]


def write_atomically(path: PathLike, content: str | bytes) -> None:
    """Write a file so that a crash, a full disk or an interrupt leaves the old one, or none, but never half a one.

    Folders on the way are made.

    Raises:
        OSError: when the disk refuses; nothing has changed at ``path`` then.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_atomically(Path(folder, "new", "note.txt"), "kept")
        >>> Path(folder, "new", "note.txt").read_text()
        'kept'
    """
    final = Path(path)
    final.parent.mkdir(parents=True, exist_ok=True)
    draft = final.with_name(f".{final.name}.{secrets.token_hex(8)}.part")
    try:
        with open(draft, "xb") as file:  # as readable as any new file, which one of tempfile's would not be
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, final)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def writing_into(folder: PathLike) -> Iterator[None]:
    """What the disk refuses inside, about files in this folder, becomes a sentence.

    Raises:
        InputError: a file stands where the folder should be, or nothing can be written there.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file, writing_into("draft"):
        ...     write_atomically(Path(file.name, "note.txt"), "lost")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: The folder draft cannot be written (...): choose another place.
    """
    try:
        yield
    except OSError as error:
        reason = "a file stands there" if Path(folder).is_file() else error.strerror
        raise InputError(f"The folder {folder} cannot be written ({reason}): choose another place.") from error


def write_json(path: PathLike, content: Any) -> None:
    """Write plain values as indented JSON, atomically. NaN and infinity, which JSON lacks, are refused.

    Raises:
        ValueError: for a value that JSON cannot hold.
        OSError: when the disk refuses.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "result.json")
        >>> write_json(path, {"n": 3})
        >>> read_json(path)
        {'n': 3}
    """
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def read_json(path: PathLike) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        InputError: when there is no such file, or it holds something else.

    Example:
        >>> read_json("nowhere.json")
        Traceback (most recent call last):
        ...
        attacks.errors.InputError: There is no file nowhere.json: check the path.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise InputError(f"There is no file {path}: check the path.") from None
    except PermissionError:
        raise InputError(f"The file {path} may not be read: check its permissions.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON ({error}): it is damaged, or another kind of file.") from None
    if not isinstance(content, dict):
        raise InputError(f"{path} holds a JSON {type(content).__name__} but must hold an object with named entries.")
    return content
