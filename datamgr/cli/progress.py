"""A line that says how far long work is: rewritten on a terminal, now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_INTERVAL_S = 30.0


class ProgressLine:
    """Shows the latest text on standard error, so that results can be piped."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._written = time.monotonic()
        self._width = 0

    def show(self, text: str) -> None:
        """Replace the line; where there is no terminal, add one twice a minute."""
        if self._terminal:
            sys.stderr.write("\r" + text.ljust(self._width))
            sys.stderr.flush()
            self._width = len(text)
        elif time.monotonic() - self._written > QUIET_INTERVAL_S:
            self._written = time.monotonic()
            sys.stderr.write(text + "\n")

    def clear(self) -> None:
        """Take the line away."""
        if self._terminal and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0


@contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """The function that shows a text, for the duration of the work."""
    line = ProgressLine()
    try:
        yield line.show
    finally:
        line.clear()
