"""What the kernel says of a file that Python does not ask: identity, places with data, leases."""

import ctypes
import errno
import fcntl
import os
import signal
import struct
from functools import lru_cache
from typing import NamedTuple

from datamgr.errors import UnavailableError

PUNCH_HOLE, KEEP_SIZE = 2, 1

# Source: linux/fs.h, FS_IOC_GETVERSION, FS_IOC_GETFSUUID (Linux 6.9), FS_IOC_GETFLAGS.
_GET_GENERATION = 0x80087601
_GET_UUID = 0x80111500
_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_IMMUTABLE = 0x10
# Source: openat2(2).
_OPENAT2 = 437
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 1, 2, 4, 8

_HANDLES = {0x01: "<II", 0x81: "<QI"}

_libc = ctypes.CDLL(None, use_errno=True)


class Identity(NamedTuple):
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
    how = _how(flags)
    while True:
        opened: int = _libc.syscall(_OPENAT2, root, path, how, len(how))
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        # EAGAIN: something on the way was renamed meanwhile.
        if number not in (errno.EAGAIN, errno.EINTR) or flags & os.O_NONBLOCK:
            raise OSError(number, os.strerror(number), os.fsdecode(path))


@lru_cache(maxsize=64)
def _how(flags: int) -> bytes:
    resolve = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
    return struct.pack("QQQ", flags | os.O_CLOEXEC, 0, resolve)


def filesystem(descriptor: int) -> str:
    """The file system's UUID, which it keeps on any device.

    Raises:
        UnavailableError: it has none that the kernel tells.
    """
    answer = bytearray(17)
    try:
        fcntl.ioctl(descriptor, _GET_UUID, answer)
        generation(descriptor)  # which tmpfs, for one, does not tell
    except OSError as error:
        raise UnavailableError(
            "its file system does not tell its UUID and the generations of its files; "
            "tiering needs ext4, xfs or btrfs and Linux 6.9"
        ) from error
    return answer[1:17].hex()


def generation(descriptor: int) -> int:
    """Which of the files that had this inode number it is."""
    answer = bytearray(8)
    fcntl.ioctl(descriptor, _GET_GENERATION, answer)
    return int.from_bytes(answer[:4], "little")


def is_immutable(descriptor: int) -> bool:
    """Whether nobody can change, rename or remove it; False where the file system has no flags."""
    try:
        return bool(_flags(descriptor) & _IMMUTABLE)
    except OSError:
        return False


def set_immutable(descriptor: int, immutable: bool) -> None:
    """Make it immutable, or not any more; needs CAP_LINUX_IMMUTABLE.

    Raises:
        OSError: EPERM without the right, EOPNOTSUPP or ENOTTY where the file system has no flags.
    """
    before = _flags(descriptor)
    after = before | _IMMUTABLE if immutable else before & ~_IMMUTABLE
    if after != before:
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("@l", after))


def _flags(descriptor: int) -> int:
    answer = bytearray(8)
    fcntl.ioctl(descriptor, _GET_FLAGS, answer)
    return int.from_bytes(answer[:4], "little")


def sync_filesystem(descriptor: int) -> None:
    """As syncfs(2): everything that was written to the file system of an open file is on disk.

    Raises:
        OSError: it failed, or something failed since the descriptor was opened.
    """
    if _libc.syncfs(descriptor) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def exists(root: int, inode: int, generation: int) -> bool | None:
    """Whether a file system has a file, whatever its name; None if that cannot be asked.

    `root`: any directory of the file system. Needs CAP_DAC_READ_SEARCH.

    Source: open_by_handle_at(2); linux/exportfs.h, FILEID_INO32_GEN and XFS's 64-bit form.
    """
    kind = _handle_kind(root)
    if kind not in _HANDLES:
        return None
    body = struct.pack(_HANDLES[kind], inode, generation)
    opened: int = _libc.open_by_handle_at(
        root, struct.pack("Ii", len(body), kind) + body, os.O_PATH | os.O_CLOEXEC
    )
    if opened < 0:
        gone = ctypes.get_errno() in (errno.ESTALE, errno.ENOENT)
        return False if gone else None
    try:
        return os.fstat(opened).st_nlink > 0
    finally:
        os.close(opened)


def _handle_kind(root: int) -> int:
    room = 128
    handle = ctypes.create_string_buffer(struct.pack("Ii", room, 0) + bytes(room))
    mount = ctypes.c_int()
    empty_path = 0x1000
    if _libc.name_to_handle_at(root, b"", handle, ctypes.byref(mount), empty_path) != 0:
        return -1
    kind: int = struct.unpack_from("i", handle.raw, 4)[0]
    return kind


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
