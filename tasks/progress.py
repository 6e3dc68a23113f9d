"""Progress: bars on a terminal, a plain line now and then elsewhere."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import TextIO

EVERY = 10.0
"""Seconds between two lines of one bar."""

BAR = re.compile(r"\|[^|]*\|")


def say(line: str) -> None:
    """Print a line on stderr at once."""
    print(line, file=sys.stderr, flush=True)


class PlainLines:
    r"""A text stream that turns the redrawing of progress bars into a few lines, and passes everything else on.

    Example:
        >>> lines = PlainLines(sys.stdout, every=0)
        >>> _ = lines.write("\r 50%|#####     | 1/2"), lines.write("\r100%|##########| 2/2"), lines.write("\n")
         50% 1/2
        100% 2/2
        100% 2/2
    """

    def __init__(self, stream: TextIO, every: float = EVERY) -> None:
        self.stream, self.every = stream, every
        self._began = self._said = 0.0
        self._state: str | None = None  # of the bar that is being drawn; None between bars

    def write(self, text: str) -> int:
        """Write; what begins with a carriage return is a bar's new state."""
        now = time.monotonic()
        if text.startswith("\r"):
            if self._state is None:
                self._began = self._said = now
            self._state = BAR.sub("", text.strip("\r\n"), count=1).rstrip()
            if now - self._said >= self.every:
                self._emit(now)
        elif text == "\n" and self._state is not None:
            if now - self._began >= self.every / 10:  # the end of a shorter one is no news
                self._emit(now)
            self._state = None
        else:
            self.stream.write(text)
        return len(text)

    def _emit(self, now: float) -> None:
        self.stream.write(f"{self._state}\n")
        self.stream.flush()
        self._said = now

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()

    def isatty(self) -> bool:
        """False: bars are not redrawn here."""
        return False


@contextmanager
def plain_progress() -> Iterator[None]:
    """Inside, progress bars on stderr become plain lines unless stderr is a terminal."""
    if sys.stderr.isatty():
        yield
        return
    with redirect_stderr(PlainLines(sys.stderr)):
        yield
