"""What was sent to a model, and what it answered: in memory and, given a path, in a file that only grows."""

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attacks.errors import InputError

VERSION = 1


class Trace:
    """Answers by input, and how many samples were ever sent.

    The file holds one JSON object a line. The first says what is asked. ``{"sent": n}`` stands there before n samples
    go out; ``{"inputs": [...], "answers": "...", "classes": c}``, the inputs' digests and their answers' rows as
    base64 of float32, once they came back. A line is one write: of a process that is killed at any moment it holds
    all but, at worst, a torn last line, which is cut off on opening. (A power cut may cost the last seconds.)

    Args:
        path: of the file, read if it is there; None: memory alone.
        asked: what the answers belong to, plain JSON: a file made with anything else is refused.

    Attributes:
        sent: samples sent so far, answered or not.
        classes: how many classes the model has; 0 before its first answer.

    Raises:
        InputError: the file is no trace, is damaged, belongs to something else, or cannot be opened.

    Example:
        >>> trace = Trace(None, {})
        >>> trace.pay(2)
        >>> trace.keep(["a", "b"], torch.tensor([[0.5, 1.5], [2.5, 3.5]]), classes=2)
        >>> "b" in trace, trace.sent, trace.rows(["b", "a", "b"])[:, 1].tolist()
        (True, 2, [3.5, 1.5, 3.5])
    """

    def __init__(self, path: str | Path | None, asked: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        self.sent = self.classes = 0
        self._answers: dict[str, bytes] = {}
        if self.path is not None:
            try:
                self._open(self.path, asked)
            except OSError as error:
                raise InputError(f"The trace {path} cannot be used ({error.strerror}): name another file.") from error

    def __contains__(self, name: str) -> bool:
        return name in self._answers

    def pay(self, samples: int) -> None:
        """Note that samples are about to be sent."""
        self.sent += samples
        self._append({"sent": samples})

    def keep(self, names: Sequence[str], rows: Tensor, classes: int) -> None:
        """Note answers.

        Args:
            names: the inputs' digests.
            rows: one for each, numbers, shape ``[n, m]``, kept as float32.
            classes: how many classes the model has.
        """
        packed = rows.float().cpu().numpy().astype("<f4").tobytes()
        self._append({"inputs": list(names), "answers": base64.b64encode(packed).decode(), "classes": classes})
        self._learn(names, packed, classes)

    def rows(self, names: Sequence[str]) -> Tensor:
        """The answers to inputs that are all known, float32, shape ``[n, m]``."""
        packed = b"".join(self._answers[name] for name in names)
        return torch.from_numpy(np.frombuffer(packed, "<f4").astype(np.float32)).view(len(names), -1)

    def _learn(self, names: Sequence[str], packed: bytes, classes: int) -> None:
        width = len(packed) // len(names)
        self._answers |= {name: packed[i * width : (i + 1) * width] for i, name in enumerate(names)}
        self.classes = classes

    def _append(self, entry: dict[str, Any]) -> None:
        if self.path is not None:
            with open(self.path, "ab") as file:
                file.write(_line(entry))

    def _open(self, path: Path, asked: dict[str, Any]) -> None:
        first = {"trace": VERSION} | asked
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with open(path, "r+b") as file:
            begins = file.readline()
            if _line(first).startswith(begins):  # new, or a first line that was torn
                file.seek(0)
                file.write(_line(first))
            else:
                _check_asked(path, begins, first)
            for number, line in enumerate(file, 2):
                if not line.endswith(b"\n"):
                    file.truncate(file.tell() - len(line))
                    return
                self._read(path, number, line)

    def _read(self, path: Path, number: int, line: bytes) -> None:
        try:
            entry = json.loads(line)
            if "sent" in entry:
                self.sent += int(entry["sent"])
                return
            names, packed = entry["inputs"], base64.b64decode(entry["answers"], validate=True)
            if not names or not packed or len(packed) % (4 * len(names)):
                raise ValueError("as many answers as inputs are not there")
            self._learn([str(name) for name in names], packed, int(entry["classes"]))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise InputError(
                f"Line {number} of the trace {path} is damaged ({type(error).__name__}: {error}): cut the file off "
                "before that line, which forgets what follows, or name another file."
            ) from error


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry, separators=(",", ":")).encode() + b"\n"


def _check_asked(path: Path, line: bytes, wanted: dict[str, Any]) -> None:
    try:
        found = json.loads(line)
        found["trace"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise InputError(f"{path} is a file that no trace was written to: name another file for the trace.") from None
    differs = [f"{key} {found.get(key)} instead of {value}" for key, value in wanted.items() if found.get(key) != value]
    if differs:
        raise InputError(
            f"The trace {path} belongs to another run ({'; '.join(differs)}): its answers would be wrong here. Ask the "
            "same model in the same way, or name another file."
        )
