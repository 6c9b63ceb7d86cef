"""A file of a managed root that is open for reading, and whether it is still what it was."""

import os
from dataclasses import dataclass

from datamgr.errors import ConflictError
from tiering.kernel import Identity
from tiering.root import ManagedRoot
from tiering.rows import Archived


@dataclass
class OpenFile:
    """A file that is open for reading, as it was then."""

    path: bytes
    descriptor: int
    status: os.stat_result
    identity: Identity


def is_unchanged(status: os.stat_result, known: Archived) -> bool:
    """Whether a file on disk is the archived version, as far as its times tell."""
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns) == (
        known.size_bytes,
        known.mtime_ns,
        known.ctime_ns,
    )


def open_quietly(root: ManagedRoot, path: bytes) -> int:
    """Open a file for reading so that this is not noted as an access, where that is allowed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return root.open(path, flags | os.O_NOATIME)
    except PermissionError:
        return root.open(path, flags)


def require_unchanged(file: OpenFile) -> None:
    """Be sure that what was read is one content.

    Raises:
        ConflictError: it was written to since it was opened.
    """
    now = os.fstat(file.descriptor)
    before = file.status
    if (now.st_size, now.st_mtime_ns, now.st_ctime_ns) != (
        before.st_size,
        before.st_mtime_ns,
        before.st_ctime_ns,
    ):
        raise ConflictError("it changed while it was read")
