"""Frees the blocks of archived files and leaves stubs.

Only of a file that nobody has open, whose content is the version of which the archive holds a
copy that was read back and compared. Each step is in the journal before it is made.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from datamgr.errors import ConflictError, InvalidError
from tiering import faults, inode, kernel, models, rows, stub
from tiering.archive.entry import Entry
from tiering.archive.store import DamagedError
from tiering.opened import is_unchanged
from tiering.root import ManagedRoot
from tiering.rows import Archived


def punch(root: ManagedRoot, path: bytes, *, guarded: bool = False) -> int | None:
    """Make a stub of an archived file; says the bytes of the file, None if it is one already.

    `guarded`: something keeps readers of the root from stubs, which then keep their mode;
    otherwise they have mode 000, and nobody but root can read zeros.

    Raises:
        NotFoundError: it is not in the archive.
        ConflictError: it is open, it changed since it was archived, or something is being done
            to it.
        ArchiveError: its container is not there.
        OSError: it cannot be opened or freed.
    """
    descriptor = root.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        with alone(descriptor):
            return _punch(root, descriptor, path, hide=not guarded)
    finally:
        os.close(descriptor)


@contextmanager
def alone(descriptor: int) -> Iterator[None]:
    """A block in which nobody else has the file open; who opens it waits.

    Raises:
        ConflictError: somebody has.
    """
    try:
        kernel.lease(descriptor)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EBUSY):
            raise ConflictError("somebody has it open; try again when it is closed") from error
        if error.errno in (errno.EINVAL, errno.EACCES):
            raise InvalidError("it is no file of yours whose blocks could be freed") from error
        raise
    try:
        yield
    finally:
        kernel.release(descriptor)


def _punch(root: ManagedRoot, descriptor: int, path: bytes, *, hide: bool) -> int | None:
    status = os.fstat(descriptor)
    identity = root.identity(descriptor, status)
    with root.database.transaction(read_only=True) as session:
        known = rows.require(session, identity)
    if known.state == models.ARCHIVE:
        return None
    _require_version(root, descriptor, path, status, known)
    if root.store.size(known.key) < known.offset_bytes + known.stored_bytes:
        raise DamagedError(f"the container {known.key} is cut off")
    mark = stub.mark_of(status, known)
    with root.database.transaction() as session:
        detail = {"hide": hide, "mark": mark.encode().decode()}
        operation = rows.begin(session, known.file_id, "punch", "intended", detail)
    faults.reach("punch.intended")
    try:
        stub.set_mark(descriptor, mark, hide=hide)
        faults.reach("punch.marked")
        if not kernel.is_alone(descriptor) or _content_time(descriptor) != mark.mtime_ns:
            raise ConflictError("somebody opened it meanwhile; try again when it is closed")
    except (ConflictError, OSError):
        stub.unmark(descriptor, mark)
        with root.database.transaction() as session:
            rows.end(session, operation, "undone")
        raise
    with root.database.transaction() as session:
        rows.advance(session, operation, "punching")
    faults.reach("punch.punching")
    stub.empty(descriptor, mark)
    faults.reach("punch.punched")
    with root.database.transaction() as session:
        rows.end(session, operation, "done", models.ARCHIVE)
    faults.reach("punch.recorded")
    return status.st_size


def _content_time(descriptor: int) -> int:
    return os.fstat(descriptor).st_mtime_ns


def _require_version(
    root: ManagedRoot, descriptor: int, path: bytes, status: os.stat_result, known: Archived
) -> None:
    """Be sure that the content is the archived one.

    A later time of change alone may come from a rename or chmod, or from a write whose times were
    set back: the content tells.
    """
    if is_unchanged(status, known):
        return
    if (status.st_size, status.st_mtime_ns) == (known.size_bytes, known.mtime_ns):
        entry = Entry(path, "f", size_bytes=known.size_bytes, extents=known.extents)
        digest = hashlib.sha256()
        for data in inode.payload(descriptor, entry):
            digest.update(data)
        if digest.digest() == known.sha256 and _has_no_more(descriptor, known):
            with root.database.transaction() as session:
                rows.set_ctime(session, known.version_id, status.st_ctime_ns)
            return
    raise ConflictError("it changed since it was archived; put it again")


def _has_no_more(descriptor: int, known: Archived) -> bool:
    """Whether all data of a sparse file lies where it was when it was archived."""
    if known.extents is None:
        return True
    held = iter([*known.extents, (known.size_bytes, 0)])
    start, length = next(held)
    for offset, size in kernel.extents(descriptor, known.size_bytes):
        while offset >= start + length and start < known.size_bytes:
            start, length = next(held)
        if offset < start or offset + size > start + length:
            return False
    return True
