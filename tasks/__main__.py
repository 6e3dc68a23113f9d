"""The entry of the command line, as ``repromark`` and as ``python -m tasks``.

The command line itself takes seconds to import, because torch comes with it. What goes wrong meanwhile ends here in one
line: an interruption, something foreign under the name ``attacks``, a library that is missing or broken.
"""

import os
import signal
import sys
from pathlib import Path
from runpy import run_path

SISTERS = Path(__file__).resolve().parent.parent / "attacks" / "_sisters.py"


def main() -> int:
    """Import the command line and run it.

    Returns:
        The exit code, as in :mod:`tasks.cli`.
    """
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    try:
        # Run as a file, since an import of it would import whatever stands under the name attacks.
        if sentence := run_path(str(SISTERS))["shadow"]("attacks"):
            return _refused(sentence)
        from .cli import main as command_line
    except Exception as error:  # a broken library fails its import in any way it likes
        if "--debug" in sys.argv:
            raise
        return _refused(
            f"repromark cannot be loaded ({type(error).__name__}: {error}): install it again with its dependencies; "
            "`--debug` shows where it happened."
        )
    signal.signal(signal.SIGINT, handler)
    return command_line()


def _interrupted(*signalled: object) -> None:
    """End at once: some libraries swallow a KeyboardInterrupt while they are imported, or make another error of it."""
    os.write(2, b"Interrupted.\n")
    os._exit(130)


def _refused(sentence: str) -> int:
    print(sentence, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
