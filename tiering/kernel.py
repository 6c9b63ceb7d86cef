"""What the kernel says of a file that Python does not ask: identity, places with data, leases."""

import ctypes
import errno
import fcntl
import os
import signal
import struct
from dataclasses import dataclass

from datamgr.errors import UnavailableError

PUNCH_HOLE, KEEP_SIZE = 2, 1

# Source: linux/fs.h, FS_IOC_GETVERSION and FS_IOC_GETFSUUID (Linux 6.9).
_GET_GENERATION = 0x80087601
_GET_UUID = 0x80111500
# Source: openat2(2).
_OPENAT2 = 437
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Identity:
    """Which file it is, whatever its name: an inode number is given again, with another
    generation."""

    filesystem: str
    inode: int
    generation: int


def open_beneath(root: int, path: bytes, flags: int) -> int:
    """Open a path below a directory without following a symbolic link or leaving the file system.

    Raises:
        OSError: as open(2); ELOOP for a link, EXDEV for another file system.
    """
    how = struct.pack(
        "QQQ", flags | os.O_CLOEXEC, 0, _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
    )
    while True:
        opened: int = _libc.syscall(_OPENAT2, root, path, how, len(how))
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        # EAGAIN: something on the way was renamed meanwhile.
        if number not in (errno.EAGAIN, errno.EINTR) or flags & os.O_NONBLOCK:
            raise OSError(number, os.strerror(number), os.fsdecode(path))


def filesystem(descriptor: int) -> str:
    """The file system's UUID, which it keeps on any device.

    Raises:
        UnavailableError: it has none that the kernel tells.
    """
    answer = bytearray(17)
    try:
        fcntl.ioctl(descriptor, _GET_UUID, answer)
    except OSError as error:
        raise UnavailableError(
            "its file system does not tell its UUID; tiering needs ext4, xfs or btrfs and Linux 6.9"
        ) from error
    return answer[1:17].hex()


def generation(descriptor: int) -> int:
    """Which of the files that had this inode number it is."""
    answer = bytearray(8)
    fcntl.ioctl(descriptor, _GET_GENERATION, answer)
    return int.from_bytes(answer[:4], "little")


def extents(descriptor: int, size_bytes: int) -> tuple[tuple[int, int], ...]:
    """Offsets and lengths of what is no hole, within the first `size_bytes`."""
    found = []
    position = 0
    while position < size_bytes:
        try:
            start = os.lseek(descriptor, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                break
            raise
        if start >= size_bytes:
            break
        position = min(os.lseek(descriptor, start, os.SEEK_HOLE), size_bytes)
        found.append((start, position - start))
    return tuple(found)


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """As fallocate(2).

    Raises:
        OSError: it failed.
    """
    arguments = (ctypes.c_int64(offset), ctypes.c_int64(length))
    if _libc.fallocate(descriptor, mode, *arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def lease(descriptor: int) -> None:
    """Be the only one who has the file open; who opens it waits until `release` or a time limit.

    Raises:
        OSError: EAGAIN if anybody has it open or mapped.
    """
    # A broken lease is asked for, not told: the default signal would end the process.
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)


def is_alone(descriptor: int) -> bool:
    """Whether a lease is still whole: nobody waits to open the file."""
    return fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_WRLCK


def release(descriptor: int) -> None:
    """Give up a lease."""
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
