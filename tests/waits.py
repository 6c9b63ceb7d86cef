"""Waiting for what happens in its own time; the end of patience is no judgement of speed."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], what: str, deadline_s: float = 120) -> None:
    """Return once the condition holds; an assertion that names `what` if it never does."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s:.0f} s: {what}"
        time.sleep(0.01)
