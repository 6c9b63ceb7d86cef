"""Open files through no symbolic link, not even in the middle of a path."""

import ctypes
import functools
import os
from typing import Any

# Source: openat2(2), linux/openat2.h, linux/fcntl.h. The number is the same on all machines.
_SYS_OPENAT2 = 437
_RESOLVE_NO_SYMLINKS = 0x04
_AT_FDCWD = -100


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def open_at(path: bytes, flags: int, parent: int | None) -> int:
    """As os.open with `dir_fd=parent`; `flags` must hold O_NOFOLLOW.

    Where `takes_paths` is false, `path` must be one name.

    Raises:
        OSError: as open(2); ELOOP or ENOTDIR for a symbolic link.
    """
    if takes_paths():
        return _openat2(path, flags, _AT_FDCWD if parent is None else parent)
    return os.open(path, flags, dir_fd=parent)


@functools.cache
def takes_paths() -> bool:
    """Whether openat2 is there: since Linux 5.6, unless a container's filter forbids it."""
    try:
        os.close(_openat2(b"/", os.O_PATH | os.O_CLOEXEC, _AT_FDCWD))
    except OSError:
        return False
    return True


def _openat2(path: bytes, flags: int, parent: int) -> int:
    how = _OpenHow(flags, 0, _RESOLVE_NO_SYMLINKS)
    descriptor = _syscall()(_SYS_OPENAT2, parent, path, ctypes.byref(how), ctypes.sizeof(how))
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(descriptor)


@functools.cache
def _syscall() -> Any:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    call.argtypes = (
        ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t,
    )  # fmt: skip
    return call
