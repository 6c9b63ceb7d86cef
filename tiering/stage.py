"""Brings stubs back: their blocks are filled, compared with the checksum, or freed again."""

import hashlib
import os
from collections.abc import Callable, Iterator

from datamgr.errors import ConflictError, DatamgrError
from tiering import faults, kernel, models, rows, stub
from tiering.archive import reader
from tiering.archive.entry import Entry
from tiering.archive.store import DamagedError
from tiering.root import ManagedRoot
from tiering.rows import Archived
from tiering.stub import Mark


def stage(root: ManagedRoot, path: bytes) -> int | None:
    """Bring a file back; says its bytes, None if it is on disk already.

    While it is filled it stays marked as a stub, and hidden if it was.

    Raises:
        NotFoundError: it is not in the archive.
        ConflictError: the stub was changed, or something is being done to it.
        ArchiveError: the archive does not give back what was put there; the stub is as before.
        OSError: it cannot be opened, or the disk is full; the stub is as before.
    """
    descriptor = root.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        with root.database.transaction(read_only=True) as session:
            known = rows.require(session, root.identity(descriptor, status))
        if known.state != models.ARCHIVE:
            return None
        mark = stub.read(descriptor)
        if mark is None or mark.version != known.version_id or status.st_size != mark.size:
            raise ConflictError("its stub was changed, so that it cannot be filled")
        _stage(root, descriptor, known, mark)
        return mark.size
    finally:
        os.close(descriptor)


def _stage(root: ManagedRoot, descriptor: int, known: Archived, mark: Mark) -> None:
    with root.database.transaction() as session:
        detail = {"mark": mark.encode().decode()}
        operation = rows.begin(session, known.file_id, "stage", "filling", detail)
    faults.reach("stage.filling")
    try:
        _fill(root, descriptor, known, mark)
    except (DatamgrError, OSError):
        stub.empty(descriptor, mark)
        with root.database.transaction() as session:
            rows.end(session, operation, "undone")
        raise
    with root.database.transaction() as session:
        rows.advance(session, operation, "filled")
    faults.reach("stage.filled")
    finish(root, descriptor, operation, mark)


def finish(root: ManagedRoot, descriptor: int, operation: int, mark: Mark) -> None:
    """Make an ordinary file of a stub whose blocks are complete; may be repeated."""
    stub.remove_mark(descriptor, mark)
    faults.reach("stage.restored")
    ctime_ns = os.fstat(descriptor).st_ctime_ns
    with root.database.transaction() as session:
        rows.end(session, operation, "done", models.BOTH, ctime_ns)
    faults.reach("stage.recorded")


def _fill(root: ManagedRoot, descriptor: int, known: Archived, mark: Mark) -> None:
    """Write the content and be sure of it: on disk, and what the checksum says."""
    capability = stub.capability_of(descriptor)
    extents = ((0, known.size_bytes),) if known.extents is None else known.extents
    for start, length in extents:
        if length:
            # A full disk is known before the archive has been read.
            kernel.fallocate(descriptor, kernel.KEEP_SIZE, start, length)
    entry = Entry(b"", "f", size_bytes=known.size_bytes, extents=known.extents)
    digest = hashlib.sha256()
    for offset, data in reader.content(_read(root, known, digest.update), entry):
        stub.fill(descriptor, offset, data)
        faults.reach("stage.partly")
    if digest.digest() != known.sha256:
        raise DamagedError(f"the container {known.key} is damaged: the checksum is wrong")
    stub.restore(descriptor, mark, capability)
    os.fsync(descriptor)


def _read(root: ManagedRoot, known: Archived, update: Callable[[bytes], object]) -> Iterator[bytes]:
    for data in reader.payload(root.store, known.key, known.offset_bytes, known.stored_bytes):
        update(data)
        yield data
