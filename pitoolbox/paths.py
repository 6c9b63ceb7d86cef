"""From the path that somebody gives to one below the project's root; paths are bytes.

Nothing here is what keeps changes inside the project, for anything may change until they are
made: the executor looks again. This says early, and kindly, what it would refuse.
"""

import errno
import os
import stat
from collections.abc import Callable

from datamgr import display
from datamgr.errors import InvalidError, NotFoundError

ROOT = b"."
MAX_BYTES = 4095  # Source: PATH_MAX less the NUL, linux/limits.h.


def relative(root: bytes, given: bytes, is_root: Callable[[bytes], bool]) -> bytes:
    """The path below the project's root that `given` means: absolute, or relative to the root.

    `is_root`: whether an absolute path leads to the root as well, as one through a symbolic
    link above the project does.

    Raises:
        InvalidError: it is empty, leaves the project or goes up.
    """
    if not given:
        raise InvalidError("a path is empty; . is the project itself")
    names = [name for name in given.split(b"/") if name not in (b"", b".")]
    if b".." in names:
        raise InvalidError(f"{_shown(given)} goes up by ..; name it without")
    if given.startswith(b"/"):
        names = names[_length_of_root(root, given, names, is_root) :]
    path = b"/".join(names) or ROOT
    require_plain(path)
    return path


def require_plain(path: bytes) -> None:
    """Stop anything but names joined by single slashes, or `.`.

    Raises:
        InvalidError: it is empty, absolute, goes up, or holds what no path can.
    """
    names = path.split(b"/")
    if path != ROOT and (not all(names) or {b".", b".."} & set(names) or b"\0" in path):
        raise InvalidError(f"{_shown(path)} is no path below the project")
    if len(path) > MAX_BYTES or any(len(name) > 255 for name in names):
        raise InvalidError(f"{_shown(path[:60])}... is longer than a path can be")


def look(root: bytes, path: bytes) -> None:
    """Refuse what is seen not to be there, or to lie behind a symbolic link or a mount.

    What this process may not see is left to the executor.

    Raises:
        NotFoundError: there is nothing at the path.
        InvalidError: the path passes through a symbolic link.
    """
    names = path.split(b"/")
    for end in range(1, len(names) + 1):
        part = root + b"/" + b"/".join(names[:end])
        try:
            found = os.lstat(part)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                raise NotFoundError(f"there is no {_shown(path)} in the project") from error
            return
        if stat.S_ISLNK(found.st_mode) and end < len(names):
            raise InvalidError(
                f"{_shown(path)} passes through the symbolic link {_shown(part)}; "
                "name what it points to, if that is in the project"
            )


def _length_of_root(
    root: bytes, given: bytes, names: list[bytes], is_root: Callable[[bytes], bool]
) -> int:
    own = root.strip(b"/").split(b"/")
    if names[: len(own)] == own:
        return len(own)
    for length in range(1, len(names) + 1):
        if is_root(b"/" + b"/".join(names[:length])):
            return length
    raise InvalidError(f"{_shown(given)} is outside of the project, which is {_shown(root)}")


def _shown(path: bytes) -> str:
    return display.printable(path)
