"""Named points at which tests kill the process, as a power cut or `kill -9` would."""

import os
import signal
from collections import Counter
from dataclasses import dataclass

VARIABLE = "TIER_KILL_AT"  # a point, or a point and how often it is reached before, as `a.b:3`


@dataclass
class _Armed:
    point: str = ""
    times: int = 0


_armed = _Armed()
_reached: Counter[str] = Counter()


def arm(at: str) -> None:
    """Choose where `reach` is to die, in the form of VARIABLE; nowhere if empty."""
    _armed.point, _, times = at.partition(":")
    _armed.times = int(times or 0)


def reach(point: str) -> None:
    """Die here if the environment says so; otherwise do nothing."""
    if point == _armed.point:
        _reached[point] += 1
        if _reached[point] > _armed.times:
            os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(VARIABLE, ""))
