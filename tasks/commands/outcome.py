"""What a command hands to the command line."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    """The end of a command.

    Attributes:
        data: the results, ready for JSON.
        text: the same in words, for people.
        code: the exit code: 0 done, 1 a verification or a check came out negative.
        folder: where its artefacts are, and ``results.json`` shall be; None: nowhere, or it has written its own.

    Example:
        >>> Outcome({"verified": False}, "Not verified.", code=1).code
        1
    """

    data: dict[str, Any]
    text: str
    code: int = 0
    folder: Path | None = None
