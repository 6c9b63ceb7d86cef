"""Archived files that are open and worked on together, so that the disk is asked once for all.

A batch is open from its first step to its last; a file that fails leaves it and the others go on.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from datamgr.errors import DatamgrError
from tiering import kernel, order, rows
from tiering.kernel import Identity
from tiering.opened import OpenFile
from tiering.root import ManagedRoot, Report
from tiering.rows import Archived
from tiering.stub import Mark
from tiering.walk import Found

BATCH_FILES = 1000  # that are open at a time
BATCH_BYTES = 256 << 20  # a batch ends when its files have more
_ORDERED_AT_ONCE = 10_000
_FEW = 4  # of which each is synchronised by itself


@dataclass(eq=False)
class Held(OpenFile):
    """An open file of which the archive has a copy. `mark` comes with its work."""

    known: Archived
    _mark: Mark | None = None

    @property
    def mark(self) -> Mark:
        """What the mark of its stub is, or is going to be."""
        if self._mark is None:
            raise LookupError("the file has no mark yet")
        return self._mark

    @mark.setter
    def mark(self, mark: Mark) -> None:
        self._mark = mark

    def close(self) -> None:
        """Close it; what was locked is immutable again."""
        if self.known.is_locked:
            with suppress(OSError):
                kernel.set_immutable(self.descriptor, True)
        os.close(self.descriptor)


class Batch:
    """Open files; `files` are those that have not failed yet. Leaving the block closes all."""

    def __init__(self, root: ManagedRoot, report: Report, files: list[Held]) -> None:
        self.root, self.report, self.files = root, report, files
        self._open = files

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all files; may be repeated."""
        files, self._open = self._open, []
        for file in files:
            file.close()

    def each(self, work: Callable[[Held], object]) -> None:
        """Do a step with each file; one that fails is noted and left out."""
        kept = []
        for file in self.files:
            try:
                work(file)
            except (DatamgrError, OSError) as error:
                self.report.fail(file.path, error)
                continue
            kept.append(file)
        self.files = kept

    def sync(self) -> None:
        """What was done to the files is on disk; if that fails, it does for all of them."""
        sync([self])


def sync(batches: Sequence[Batch]) -> None:
    """As `Batch.sync` for batches of one root, at the cost of one."""
    if sum(len(batch.files) for batch in batches) <= _FEW:
        for batch in batches:
            batch.each(lambda file: os.fsync(file.descriptor))
        return
    try:
        kernel.sync_filesystem(batches[0].root.descriptor)
    except OSError as error:
        for batch in batches:
            for file in batch.files:
                batch.report.fail(file.path, error)
            batch.files = []


def batches(root: ManagedRoot, paths: Iterable[bytes], report: Report) -> Iterator[Batch]:
    """The files at the paths, in batches that whoever takes one closes."""
    left = iter(paths)
    while chosen := list(islice(left, BATCH_FILES)):
        yield from _shared_out(root, report, _opened(root, chosen, report))


def batches_ahead(root: ManagedRoot, paths: Iterable[bytes], report: Report) -> Iterator[Batch]:
    """As `batches`, but the next are looked for and opened by a thread meanwhile.

    Not for what nobody else may have open, as a further name of a file among the next ones.
    """
    left = iter(paths)

    def more() -> list[Held] | None:
        chosen = list(islice(left, BATCH_FILES))
        return _opened(root, chosen, report) if chosen else None

    with ThreadPoolExecutor(1, "open") as thread:
        opening: Future[list[Held] | None] = thread.submit(more)
        try:
            while (files := opening.result()) is not None:
                opening = thread.submit(more)
                yield from _shared_out(root, report, files)
        finally:
            if opening.exception() is None:
                Batch(root, report, opening.result() or []).close()


def _shared_out(root: ManagedRoot, report: Report, files: list[Held]) -> Iterator[Batch]:
    portions = deque(_portions(files))
    try:
        while portions:
            yield Batch(root, report, portions.popleft())
            report.watch()
    finally:
        for portion in portions:
            Batch(root, report, portion).close()


def _portions(files: list[Held]) -> Iterator[list[Held]]:
    portion: list[Held] = []
    size = 0
    for file in files:
        portion.append(file)
        size += file.status.st_size
        if size >= BATCH_BYTES:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion


def in_archive_order(root: ManagedRoot, found: Iterable[Found]) -> Iterator[bytes]:
    """The paths of files in the order in which the archive holds them, for tapes and reading on.

    Only a hint: it looks at inode numbers alone. What is on no volume comes while the rest is still
    looked for, in order among so many as are looked up at once; what the archive does not have
    comes last. Of the names of one archived file it gives the first.
    """
    unknown: list[bytes] = []
    yield from order.sort(root, _wanted(root, found, unknown))
    yield from unknown


def _wanted(
    root: ManagedRoot, found: Iterable[Found], unknown: list[bytes]
) -> Iterator[list[order.Wanted]]:
    left = (file for file in found if file.is_file)
    named: set[int] = set()
    while chosen := list(islice(left, _ORDERED_AT_ONCE)):
        with root.database.transaction(read_only=True) as session:
            places = rows.places(session, root.filesystem, [file.inode for file in chosen])
        placed: list[order.Wanted] = []
        for file in chosen:
            place = places.get(file.inode)
            if place is None:
                unknown.append(file.path)
            elif file.inode not in named:
                named.add(file.inode)
                placed.append((*place, file.path))
        yield placed


def _opened(root: ManagedRoot, paths: list[bytes], report: Report) -> list[Held]:
    """The files of which the archive has a copy, open for writing."""
    opened: dict[Identity, tuple[bytes, int, os.stat_result]] = {}
    held: list[Held] = []
    immutable: set[int] = set()
    try:
        for path in paths:
            try:
                descriptor, is_writable = _open(root, path)
            except OSError as error:
                report.fail(path, error)
                continue
            if not is_writable:
                immutable.add(descriptor)
            status = os.fstat(descriptor)
            first = opened.setdefault(root.identity(descriptor, status), (path, descriptor, status))
            if first[1] != descriptor:  # a further name of a file that is there
                os.close(descriptor)
                immutable.discard(descriptor)
        with root.database.transaction(read_only=True) as session:
            known = rows.archived(session, list(opened))
    except BaseException:
        for _, descriptor, _ in opened.values():
            os.close(descriptor)
        raise
    for identity, (path, descriptor, status) in opened.items():
        archived = known.get(identity)
        if archived is None:
            report.fail(path, "it is not in the archive; put it there first")
        else:
            file = Held(path, descriptor, status, identity, archived)
            if descriptor not in immutable or _unlock(file, report):
                held.append(file)
                continue
        os.close(descriptor)
    return held


def _open(root: ManagedRoot, path: bytes) -> tuple[int, bool]:
    """Open for writing, or for reading what is immutable; and which it is."""
    flags = os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return root.open(path, os.O_RDWR | flags), True
    except PermissionError as error:
        if error.errno != errno.EPERM:
            raise
        return root.open(path, os.O_RDONLY | flags), False


def _unlock(file: Held, report: Report) -> bool:
    """Make a locked file writable for the time of the batch; recovery locks it after a crash."""
    if not file.known.is_locked:
        report.fail(file.path, "it is immutable, and not by `ghi lock`: see chattr(1)")
        return False
    try:
        kernel.set_immutable(file.descriptor, False)
        writable = os.open(f"/proc/self/fd/{file.descriptor}", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        report.fail(file.path, error)
        return False
    # In its place: a second descriptor would be somebody who has the file open.
    os.dup2(writable, file.descriptor, inheritable=False)
    os.close(writable)
    file.status = os.fstat(file.descriptor)
    return True
