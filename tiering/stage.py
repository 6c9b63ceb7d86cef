"""Brings stubs back: their blocks are filled, compared with the checksum, or freed again."""

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

from datamgr.errors import ConflictError
from tiering import faults, held, kernel, models, stub
from tiering.archive import reader
from tiering.archive.entry import Entry
from tiering.archive.store import DamagedError
from tiering.held import Batch, Held, batches_ahead, in_archive_order
from tiering.journaled import Journaled
from tiering.root import ManagedRoot, Report
from tiering.walk import walk

_AT_ONCE_BYTES = 1 << 20  # what is written in one piece needs no room beforehand


def stage(
    root: ManagedRoot,
    paths: Iterable[bytes],
    report: Report | None = None,
    *,
    recursive: bool = False,
) -> Report:
    """Bring files back in the order of the archive; those that are on disk are `unchanged`.

    `recursive`: and all that is below directories. While a file is filled it stays marked as a
    stub, and hidden if it was. A file stays the stub that it is, and in the report, if it is not in
    the archive, its stub was changed, the archive does not give back what was put there, or the
    disk is full.
    """
    report = report or Report()
    found = walk(root, paths, report, recursive=recursive)
    with ExitStack() as stack:
        copies = [stack.enter_context(reader.Members(copy)) for copy in root.store.copies]
        finishing = stack.enter_context(_Finishing())
        for batch in batches_ahead(root, in_archive_order(root, found), report):
            finishing.open(batch)
            work = _Stage(batch, copies)
            work.fill()
            finishing.add(work)
    return report


class _Stage(Journaled):
    """The stage of one batch, in the order of its methods."""

    def __init__(self, batch: Batch, copies: Sequence[reader.Members]) -> None:
        super().__init__(batch, "stage")
        self._copies = copies

    def fill(self) -> None:
        """Write the content into the stubs; a sync is to follow."""
        batch = self.batch
        to_fill = [file for file in batch.files if file.known.state == models.ARCHIVE]
        batch.report.unchanged += len(batch.files) - len(to_fill)
        batch.files = to_fill
        batch.each(_require_stub)
        if batch.files:
            self.begin("filling")
            with self.undoing():
                batch.each(self._fill)

    def sync(self, before: Batch | None) -> None:
        """The content is on disk, and so is what was done to the batch before."""
        with self.undoing():
            held.sync([self.batch] if before is None else [before, self.batch])
        faults.reach("stage.filled")

    def unmark(self) -> None:
        """Make ordinary files of them; a sync is to follow."""
        # Not undone: what has no mark any more is a file, and may be written to. As long as it has
        # its mark it is hidden, so that recovery can empty it without a loss.
        self.batch.each(lambda file: stub.remove_mark(file.descriptor))
        faults.reach("stage.unmarked")
        self.batch.each(_reveal)
        faults.reach("stage.restored")

    def take_back(self, file: Held) -> None:
        """A stub again."""
        stub.empty(file.descriptor, file.mark)
        os.fsync(file.descriptor)

    def _fill(self, file: Held) -> None:
        """Write the content and be sure of it."""
        capability = stub.capability_of(file.descriptor)
        known = file.known
        is_small = known.extents is None and known.stored_bytes <= _AT_ONCE_BYTES
        write = self._write_small if is_small else self._write
        reader.first_good(self._copies, lambda members: write(file, members))
        stub.restore(file.descriptor, file.mark, capability)

    def _write_small(self, file: Held, members: reader.Members) -> None:
        known = file.known
        data = members.whole(known.key, known.offset_bytes, known.stored_bytes)
        _require_same(hashlib.sha256(data), file)
        stub.fill(file.descriptor, 0, data)
        faults.reach("stage.partly")
        self.batch.report.watch()

    def _write(self, file: Held, members: reader.Members) -> None:
        known = file.known
        for start, length in ((0, known.size_bytes),) if known.extents is None else known.extents:
            if length > _AT_ONCE_BYTES:
                # A full disk is known before the archive has been read.
                kernel.fallocate(file.descriptor, kernel.KEEP_SIZE, start, length)
        digest = hashlib.sha256()
        payload = members.payload(known.key, known.offset_bytes, known.stored_bytes)
        entry = Entry(b"", "f", size_bytes=known.size_bytes, extents=known.extents)
        for offset, data in reader.content(reader.hashed(payload, digest), entry):
            stub.fill(file.descriptor, offset, data)
            faults.reach("stage.partly")
            self.batch.report.watch()
        _require_same(digest, file)


class _Finishing:
    """Ends the stages of batches in a thread of its own, while the next batch is filled.

    A sync is of the content of one batch and the attributes of the batch before. Leaving the block
    ends what was added.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "finish")
        self._ending: Future[None] | None = None
        self._before: _Stage | None = None  # has only to be synced and recorded
        self._open: list[Batch] = []

    def __enter__(self) -> "_Finishing":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._thread:
                self._wait()
                self._thread.submit(self._end_last).result()
        finally:
            for batch in self._open:
                batch.close()

    def open(self, batch: Batch) -> None:
        """Have a batch closed at the end of the block, if it is not by then."""
        self._open.append(batch)

    def add(self, work: _Stage) -> None:
        """End a stage that has been filled, after those before it.

        Raises: what stopped one before it.
        """
        self._wait()
        self._ending = self._thread.submit(self._end, work)

    def _wait(self) -> None:
        ending, self._ending = self._ending, None
        if ending is not None:
            ending.result()

    def _end(self, work: _Stage) -> None:
        before = self._before
        work.sync(None if before is None else before.batch)
        self._before = work
        if before is not None:
            self._record(before)
        work.unmark()

    def _end_last(self) -> None:
        if self._before is not None:
            self._before.batch.sync()
            self._record(self._before)

    def _record(self, work: _Stage) -> None:
        work.end(models.BOTH)
        work.batch.close()
        self._open.remove(work.batch)


def _require_same(digest: "hashlib._Hash", file: Held) -> None:
    if digest.digest() != file.known.sha256:
        raise DamagedError(f"the container {file.known.key} is damaged: the checksum is wrong")


def _reveal(file: Held) -> None:
    """Give it its mode again; who writes to it from now on makes its time of change a later one."""
    os.fchmod(file.descriptor, file.mark.mode)
    file.status = os.fstat(file.descriptor)


def _require_stub(file: Held) -> None:
    mark = stub.read(file.descriptor)
    if (
        mark is None
        or mark.sha256 != file.known.sha256
        or file.status.st_size != file.known.size_bytes
    ):
        raise ConflictError("its stub was changed, so that it cannot be filled")
    file.mark = mark
