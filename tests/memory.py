"""Where tests keep what need not outlive them: in memory, which no neighbour's writing slows."""

import os
import shutil

_PLACE = "/dev/shm"
_ENOUGH_BYTES = 4 << 30  # containers often have 64 MiB


def place() -> str | None:
    """For the `dir` of a temporary directory; None, the usual one, without such a place."""
    if os.access(_PLACE, os.W_OK) and shutil.disk_usage(_PLACE).free >= _ENOUGH_BYTES:
        return _PLACE
    return None
