"""Frees the blocks of archived files and leaves stubs.

Only of a file that nobody has open, whose content is the version of which the archive holds a
copy that was read back and compared. Each step is in the journal before it is made.
"""

import errno
import hashlib
import os
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import replace
from datetime import UTC, datetime

from datamgr import units
from datamgr.errors import ConflictError, InvalidError
from tiering import faults, inode, kernel, models, rows, stub
from tiering.archive.entry import Entry
from tiering.archive.store import DamagedError
from tiering.held import Batch, Held, batches
from tiering.journaled import Journaled
from tiering.opened import is_unchanged
from tiering.root import BusyError, ManagedRoot, Report
from tiering.rows import Archived

_RETRY_EVERY_S = 0.5


def punch(
    root: ManagedRoot,
    paths: Iterable[bytes],
    report: Report | None = None,
    *,
    guarded: bool = False,
) -> Report:
    """Make stubs of archived files; those that are stubs already are `unchanged`.

    `guarded`: something keeps readers of the root from stubs, which then keep their mode;
    otherwise they have mode 000, and nobody but root can read zeros.

    A file is left as it is, and in the report, if it is not in the archive, changed since, is open
    or mapped somewhere, is pinned, belongs to somebody else, or its container is not there. What
    was open is tried again for as long as the settings of the root say.
    """
    report = report or Report()
    began = time.monotonic()
    left: Iterable[bytes] = paths
    while left:
        for batch in batches(root, left, report):
            with batch:
                _Punch(batch, hide=not guarded).run()
        left = _busy_again(root, report, began)
    return report


def _busy_again(root: ManagedRoot, report: Report, began: float) -> list[bytes]:
    """The files that were open, after a while and no longer in the report; none if time is over."""
    busy = [failure for failure in report.failures if failure.is_busy]
    limit_s = root.settings.punch_retry_s
    left_s = began + limit_s - time.monotonic()
    if not busy or not limit_s:
        return []
    if left_s <= 0:
        report.failures = [
            replace(f, reason=f"{f.reason} (tried for {limit_s:.0f} s)") if f.is_busy else f
            for f in report.failures
        ]
        return []
    time.sleep(min(_RETRY_EVERY_S, left_s))
    report.watch()
    report.failures = [failure for failure in report.failures if not failure.is_busy]
    return [failure.path for failure in busy]


class _Punch(Journaled):
    """The punch of one batch."""

    def __init__(self, batch: Batch, *, hide: bool) -> None:
        super().__init__(batch, "punch")
        self._root, self._hide = batch.root, hide
        self._sizes: dict[str, int] = {}

    def run(self) -> None:
        """All steps, while nobody else can open the files."""
        batch = self.batch
        to_free = [file for file in batch.files if file.known.state != models.ARCHIVE]
        batch.report.unchanged += len(batch.files) - len(to_free)
        batch.files = to_free
        batch.each(self._require_allowed)
        with ExitStack() as leases:
            batch.each(lambda file: _lease(file, leases))
            batch.each(self._require_archived)
            if batch.files:
                self._free()

    def take_back(self, file: Held) -> None:
        """An ordinary file again: no blocks were freed."""
        stub.unmark(file.descriptor, file.mark)

    def _free(self) -> None:
        batch = self.batch
        batch.each(_choose_mark)
        self.begin("intended")
        with self.undoing():
            batch.each(lambda file: stub.set_mark(file.descriptor, file.mark))
            # The mode is in the mark, and must be on disk with it before it is gone.
            batch.sync()
            if self._hide:
                batch.each(lambda file: os.fchmod(file.descriptor, 0))
                batch.sync()
            faults.reach("punch.marked")
            batch.each(_require_alone)
            self.advance("punching")
        batch.each(lambda file: stub.empty(file.descriptor, file.mark))
        batch.sync()
        faults.reach("punch.punched")
        self.end(models.ARCHIVE)

    def _require_allowed(self, file: Held) -> None:
        self._root.require_owner(file.path, file.status)
        until = file.known.pinned_until
        if until is not None and until > datetime.now(UTC):
            raise ConflictError(f"it is pinned until {units.format_time(until)}; unpin it first")

    def _require_archived(self, file: Held) -> None:
        """Be sure that the archive has what is on disk."""
        known = file.known
        _require_version(self._root, file)
        if known.key not in self._sizes:
            self._sizes[known.key] = self._root.store.size(known.key)
        if self._sizes[known.key] < known.offset_bytes + known.stored_bytes:
            raise DamagedError(f"the container {known.key} is cut off")


def _choose_mark(file: Held) -> None:
    file.mark = stub.mark_of(file.status, file.known)


def _lease(file: Held, leases: ExitStack) -> None:
    """Be the only one who has the file open until the end of the leases.

    Raises:
        BusyError: somebody else has.
        InvalidError: it is no file that can be leased.
    """
    try:
        kernel.lease(file.descriptor)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EBUSY):
            raise BusyError("somebody has it open; try again when it is closed") from error
        if error.errno in (errno.EINVAL, errno.EACCES):
            raise InvalidError("it is no file of yours whose blocks could be freed") from error
        raise
    leases.callback(_release, file.descriptor)


def _release(descriptor: int) -> None:
    with suppress(OSError):
        kernel.release(descriptor)


def _require_alone(file: Held) -> None:
    is_same = os.fstat(file.descriptor).st_mtime_ns == file.mark.mtime_ns
    if not (is_same and kernel.is_alone(file.descriptor)):
        raise BusyError("somebody opened it meanwhile; try again when it is closed")


def _require_version(root: ManagedRoot, file: Held) -> None:
    """Be sure that the content is the archived one.

    A later time of change alone may come from a rename or chmod, or from a write whose times were
    set back: the content tells.
    """
    status, known = file.status, file.known
    if is_unchanged(status, known):
        return
    if (status.st_size, status.st_mtime_ns) == (known.size_bytes, known.mtime_ns):
        entry = Entry(file.path, "f", size_bytes=known.size_bytes, extents=known.extents)
        digest = hashlib.sha256()
        for data in inode.payload(file.descriptor, entry):
            digest.update(data)
        if digest.digest() == known.sha256 and _has_no_more(file.descriptor, known):
            with root.database.transaction() as session:
                rows.set_ctimes(session, {known.version_id: status.st_ctime_ns})
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
