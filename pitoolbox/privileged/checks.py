"""Checks of what comes over the pipe."""

import os
from typing import Any

from pitoolbox.privileged.errors import RefusedError


def plain_path(told: Any) -> bytes:
    """A path below the root, as bytes. Raises RefusedError unless it is plain."""
    path = str(told).encode("latin-1")
    names = path.split(b"/")
    plain = all(names) and not {b".", b".."} & set(names) and b"\0" not in path
    if path != b"." and not plain:
        raise RefusedError(f"{os.fsdecode(path)!r} is no path below the project")
    return path


def integer(value: Any, least: int, most: int) -> int:
    """The value, if it is a whole number in this range; raises RefusedError."""
    if type(value) is not int or not least <= value <= most:
        raise RefusedError(f"{value!r} is no number between {least} and {most}")
    return value
