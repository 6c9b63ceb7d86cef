"""The mark of a stub: an extended attribute with what its file was like, and how it is hidden.

A stub has size, owner, times and attributes of its file and no blocks. Reading it would give
zeros, so that it has no permissions unless something guards it: only root can read it then.
"""

import errno
import os
import stat
import struct
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from datamgr.errors import ConflictError
from tiering import kernel
from tiering.inode import STUB_XATTRS
from tiering.rows import Archived

T = TypeVar("T")

# The kernel drops it from a file that is written to. Source: capabilities(7).
_CAPABILITY = "security.capability"


# So small that it lies in the inode on ext4, where a block of attributes for each stub would
# cost as much as a small file has freed.
_FORM = struct.Struct("<BHqq32s")
_FORM_NUMBER = 1


class Mark(NamedTuple):
    """What the attribute holds: what a stub does not show of its file, and which content it was.

    `sha256` is that of the payload in the archive, by which it is found there.
    """

    mode: int
    mtime_ns: int
    atime_ns: int
    sha256: bytes

    def encode(self) -> bytes:
        """As it is written."""
        return _FORM.pack(_FORM_NUMBER, self.mode, self.mtime_ns, self.atime_ns, self.sha256)


def decode(data: bytes) -> Mark:
    """The mark that was encoded.

    Raises:
        ConflictError: it is none.
    """
    if len(data) != _FORM.size or data[0] != _FORM_NUMBER:
        raise ConflictError("its mark of a stub is malformed")
    return Mark(*_FORM.unpack(data)[1:])


def mark_of(status: os.stat_result, known: Archived) -> Mark:
    """The mark that a file is to get."""
    mode = stat.S_IMODE(status.st_mode)
    return Mark(mode, status.st_mtime_ns, status.st_atime_ns, known.sha256)


def read(descriptor: int) -> Mark | None:
    """The mark of an open file; None if it is no stub. Root believes only what root has written.

    Raises:
        ConflictError: the mark is malformed.
    """
    try:
        return decode(_reach(descriptor, lambda name: os.getxattr(descriptor, name)))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return None


def is_marked(descriptor: int) -> bool:
    """Whether an open file that can be read has a mark, be it malformed."""
    name = STUB_XATTRS[0] if os.geteuid() == 0 else STUB_XATTRS[1]
    # The list, for nearly all files have none, and to be told so by a failure takes longer.
    return name.decode() in os.listxattr(descriptor)


def _reach(descriptor: int, work: Callable[[bytes], T]) -> T:
    """Do a work with the mark of this name; without permissions, only root gets at attributes."""
    if os.geteuid() == 0:
        return work(STUB_XATTRS[0])
    is_hidden = stat.S_IMODE(os.fstat(descriptor).st_mode) == 0
    if is_hidden:
        os.fchmod(descriptor, 0o600)
    try:
        return work(STUB_XATTRS[1])
    finally:
        if is_hidden:
            os.fchmod(descriptor, 0)


def open_hidden(root: int, path: bytes, flags: int) -> int:
    """Open an own file that has no permissions, as stubs have none, without being root.

    Raises:
        OSError: it is something else.
    """
    pinned = kernel.open_beneath(root, path, os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(pinned)
        is_hidden = stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == 0
        if not is_hidden or status.st_uid != os.geteuid():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        place = f"/proc/self/fd/{pinned}"
        os.chmod(place, 0o600)
        try:
            return os.open(place, flags & ~os.O_NOFOLLOW | os.O_CLOEXEC)
        finally:
            os.chmod(place, 0)
    finally:
        os.close(pinned)


def set_mark(descriptor: int, mark: Mark) -> None:
    """Mark a file that is about to become a stub; it is not on disk before a sync."""
    name = STUB_XATTRS[0] if os.geteuid() == 0 else STUB_XATTRS[1]
    os.setxattr(descriptor, name, mark.encode())


def reveal(descriptor: int, mark: Mark) -> None:
    """Give a file its permissions again; may be repeated."""
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mark.mode:
        os.fchmod(descriptor, mark.mode)


def remove_mark(descriptor: int) -> None:
    """It is an ordinary file from now on; may be repeated.

    Raises:
        OSError: it still has its mark.
    """
    try:
        _reach(descriptor, lambda name: os.removexattr(descriptor, name))
    except OSError as error:
        if error.errno != errno.ENODATA:
            raise


def unmark(descriptor: int, mark: Mark) -> None:
    """Make an ordinary file of one whose content is complete; on disk when this returns."""
    reveal(descriptor, mark)
    os.fsync(descriptor)
    remove_mark(descriptor)
    os.fsync(descriptor)


def empty(descriptor: int, mark: Mark) -> None:
    """Free the blocks; size, times and attributes stay. May be repeated; a sync is to follow.

    Raises:
        OSError: the file system cannot do it.
    """
    capability = capability_of(descriptor)
    size_bytes = os.fstat(descriptor).st_size
    if size_bytes:
        mode = kernel.PUNCH_HOLE | kernel.KEEP_SIZE
        # Whole blocks, so that the last one goes too.
        kernel.fallocate(descriptor, mode, 0, -(-size_bytes // (1 << 16)) * (1 << 16))
    restore(descriptor, mark, capability)


def fill(descriptor: int, offset: int, data: bytes) -> None:
    """Write all of the bytes at their place."""
    written = os.pwrite(descriptor, data, offset)
    rest = memoryview(data)[written:]
    while rest:
        offset += written
        written = os.pwrite(descriptor, rest, offset)
        rest = rest[written:]


def capability_of(descriptor: int) -> bytes | None:
    """The file capabilities, which are lost by writing."""
    try:
        # The list first: nearly all files have none, and to be told so by a failure takes longer.
        if _CAPABILITY not in os.listxattr(descriptor):
            return None
        return os.getxattr(descriptor, _CAPABILITY)
    except OSError:
        return None


def restore(descriptor: int, mark: Mark, capability: bytes | None) -> None:
    """Undo what writing to a file did to its times and capabilities."""
    if capability is not None and capability_of(descriptor) is None:
        os.setxattr(descriptor, _CAPABILITY, capability)
    os.utime(descriptor, ns=(mark.atime_ns, mark.mtime_ns))
