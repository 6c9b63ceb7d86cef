"""The mark of a stub: an extended attribute with what its file was like, and how it is hidden.

A stub has size, owner, times and attributes of its file and no blocks. Reading it would give
zeros, so that it has no permissions unless something guards it: only root can read it then.
"""

import errno
import json
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass

from datamgr.errors import ConflictError
from tiering import kernel
from tiering.inode import STUB_XATTRS
from tiering.rows import Archived

# The kernel drops it from a file that is written to. Source: capabilities(7).
_CAPABILITY = "security.capability"


@dataclass(frozen=True)
class Mark:
    """What the attribute holds; enough to bring the file back by hand."""

    version: int
    mode: int
    size: int
    mtime_ns: int
    atime_ns: int
    key: str
    offset: int
    stored: int
    sha256: str

    def encode(self) -> bytes:
        """As it is written."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()


def mark_of(status: os.stat_result, known: Archived) -> Mark:
    """The mark that a file is to get."""
    return Mark(
        version=known.version_id,
        mode=stat.S_IMODE(status.st_mode),
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        atime_ns=status.st_atime_ns,
        key=known.key,
        offset=known.offset_bytes,
        stored=known.stored_bytes,
        sha256=known.sha256.hex(),
    )


def read(descriptor: int) -> Mark | None:
    """The mark of an open file; None if it is no stub. Root believes only what root has written.

    Raises:
        ConflictError: the mark is malformed.
    """
    try:
        return Mark(**json.loads(os.getxattr(descriptor, _name())))
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return None
    except (ValueError, TypeError) as error:
        raise ConflictError("its mark of a stub is malformed") from error


def set_mark(descriptor: int, mark: Mark, *, hide: bool) -> None:
    """Mark a file that is about to become a stub, and take its permissions away."""
    os.setxattr(descriptor, _name(), mark.encode())
    # The mode is in the mark, and must be on disk with it before it is gone.
    os.fsync(descriptor)
    if hide:
        os.fchmod(descriptor, 0)
        os.fsync(descriptor)


def remove_mark(descriptor: int, mark: Mark) -> None:
    """Give a complete file its times and permissions again; may be repeated."""
    os.utime(descriptor, ns=(mark.atime_ns, mark.mtime_ns))
    unmark(descriptor, mark)


def unmark(descriptor: int, mark: Mark) -> None:
    """Give a complete file its permissions again; may be repeated."""
    if stat.S_IMODE(os.fstat(descriptor).st_mode) != mark.mode:
        os.fchmod(descriptor, mark.mode)
    os.fsync(descriptor)
    for name in STUB_XATTRS:
        with suppress(OSError):
            os.removexattr(descriptor, name)
    os.fsync(descriptor)


def empty(descriptor: int, mark: Mark) -> None:
    """Free the blocks; size, times and attributes stay. May be repeated.

    Raises:
        OSError: the file system cannot do it.
    """
    capability = capability_of(descriptor)
    if mark.size:
        mode = kernel.PUNCH_HOLE | kernel.KEEP_SIZE
        # Whole blocks, so that the last one goes too.
        kernel.fallocate(descriptor, mode, 0, -(-mark.size // (1 << 16)) * (1 << 16))
    restore(descriptor, mark, capability)
    os.fsync(descriptor)


def _name() -> bytes:
    return STUB_XATTRS[0] if os.geteuid() == 0 else STUB_XATTRS[1]


def fill(descriptor: int, offset: int, data: bytes) -> None:
    """Write all of the bytes at their place."""
    rest = memoryview(data)
    while rest:
        number = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[number:], offset + number


def capability_of(descriptor: int) -> bytes | None:
    """The file capabilities, which are lost by writing."""
    try:
        return os.getxattr(descriptor, _CAPABILITY)
    except OSError:
        return None


def restore(descriptor: int, mark: Mark, capability: bytes | None) -> None:
    """Undo what writing to a file did to its times and capabilities."""
    if capability is not None and capability_of(descriptor) is None:
        os.setxattr(descriptor, _CAPABILITY, capability)
    os.utime(descriptor, ns=(mark.atime_ns, mark.mtime_ns))
