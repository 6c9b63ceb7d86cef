"""When a file was made: what tells it from an earlier one that had its inode number."""

import ctypes
import os
import struct

# Source: statx(2), linux/stat.h, linux/fcntl.h.
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_STATX_BTIME = 0x800
_BTIME_OFFSET = 80
_SIZE = 256


def born_ns(path: bytes) -> int | None:
    """The time of birth of the entry at a path, None where its file system keeps none.

    Raises:
        OSError: it cannot be asked for.
    """
    answer = ctypes.create_string_buffer(_SIZE)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.statx(_AT_FDCWD, path, _AT_SYMLINK_NOFOLLOW, _STATX_BTIME, answer) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), os.fsdecode(path))
    (known,) = struct.unpack_from("=I", answer)
    if not known & _STATX_BTIME:
        return None
    seconds, nanoseconds = struct.unpack_from("=qI", answer, _BTIME_OFFSET)
    return int(seconds) * 10**9 + int(nanoseconds)
