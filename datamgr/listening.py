"""A unix socket at a path: made by one process at a time, taken away at its end."""

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from datamgr.errors import ConflictError, InvalidError, UnavailableError

MAX_PATH_BYTES = 107  # Source: unix(7), sun_path less the NUL.


@contextmanager
def unix_socket(
    path: Path, setting: str, *, mode: int, gid: int | None = None
) -> Iterator[socket.socket]:
    """A listening stream socket of these permissions; root can make it a group's.

    `setting`: which setting names the path, for messages. Ask the path whether the group is the
    one that was wanted: only root can give it away.

    Raises:
        ConflictError: another process listens there.
        InvalidError: it cannot be there.
        UnavailableError: it cannot be made.
    """
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise InvalidError(
            f"{path} is longer than {MAX_PATH_BYTES} bytes, which the path of a socket may have; "
            f"set {setting}"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o711)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.open(f"{path}.lock", flags, 0o600)
    except OSError as error:
        raise UnavailableError(f"no socket can be made at {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"another process answers on {path} already") from None
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            _bind(listener, path, setting, mode, gid)
            yield listener
            with suppress(OSError):  # the account that root became may not
                path.unlink()
    finally:
        os.close(lock)


def _bind(listener: socket.socket, path: Path, setting: str, mode: int, gid: int | None) -> None:
    """By umask and effective group alone: what stands at the path is never changed by name."""
    group, mask = os.getegid(), os.umask(0o777 & ~mode)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise InvalidError(f"{path} is no socket; remove it, or set {setting}")
            path.unlink()
        if gid is not None and os.geteuid() == 0:
            os.setegid(gid)
        listener.bind(str(path))
        listener.listen(128)
    except OSError as error:
        raise UnavailableError(f"no socket can be made at {path}: {error.strerror}") from error
    finally:
        if os.getegid() != group:
            os.setegid(group)
        os.umask(mask)
