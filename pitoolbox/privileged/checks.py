"""Checks of what comes over the pipe."""

import os
from typing import Any

from pitoolbox.privileged.errors import RefusedError

MAX_ITEMS = 100_000  # in one message
MOST = 2**32 - 2  # of a uid or gid; the one above means that none is set


def plain_path(told: Any) -> bytes:
    """A path below the root, as bytes. Raises RefusedError unless it is plain."""
    path = encoded(told)
    names = path.split(b"/")
    plain = all(names) and not {b".", b".."} & set(names) and b"\0" not in path
    if path != b"." and not plain:
        raise RefusedError(f"{os.fsdecode(path)!r} is no path below the project")
    return path


def encoded(told: Any) -> bytes:
    """The bytes of a path that was told as text, each as one character."""
    if type(told) is not str:
        raise RefusedError(f"{told!r} is no path")
    return told.encode("latin-1")


def integer(value: Any, least: int, most: int) -> int:
    """The value, if it is a whole number in this range; raises RefusedError."""
    if type(value) is not int or not least <= value <= most:
        raise RefusedError(f"{value!r} is no number between {least} and {most}")
    return value


def items(value: Any) -> list[Any]:
    """The value, if it is a list of not too many; raises RefusedError."""
    if type(value) is not list or len(value) > MAX_ITEMS:
        raise RefusedError(f"that is no list of at most {MAX_ITEMS} entries")
    return value
