"""Copies files to the archive: bundled, written, read back, compared, and only then recorded.

A file that changes while it is read is not archived; one that changes later is no longer the
recorded version, which punch looks at.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from itertools import islice
from types import TracebackType

from datamgr.errors import ConflictError, DatamgrError
from tiering import faults, inode, models, order, rows, stub
from tiering.archive import aside
from tiering.archive.entry import Entry
from tiering.archive.store import ArchiveError
from tiering.archive.writer import ContainerWriter, Placed, new_key
from tiering.kernel import Identity
from tiering.opened import OpenFile, is_unchanged, open_quietly, require_unchanged
from tiering.root import ManagedRoot, Report
from tiering.rows import Archived, Member
from tiering.walk import walk

_BATCH = 500  # files that are open at a time
_AHEAD_BYTES = 1 << 17  # of each of them that are read before their turn


def put(
    root: ManagedRoot,
    paths: Iterable[bytes],
    report: Report | None = None,
    *,
    recursive: bool = True,
) -> Report:
    """Archive what is at the paths, which are relative to the root, and below them.

    Files whose archived version is on disk unchanged are left alone. Directories, links and
    special files go along, so that a container alone restores them; they have no state.
    """
    report = report or Report()
    with _Put(root, report) as work:
        found = walk(root, paths, report, recursive=recursive)
        while batch := list(islice(found, _BATCH)):
            work.files([f.path for f in batch if f.is_file])
            work.others += [f.path for f in batch if not f.is_file]
            report.watch()
        work.finish()
    return report


@dataclass
class _Bundle:
    """A container that is being filled."""

    number: int
    writer: ContainerWriter
    members: list[Member] = field(default_factory=list)
    identities: set[Identity] = field(default_factory=set)

    def hold(self, file: OpenFile, placed: Placed) -> None:
        """Note that a file is a member."""
        self.members.append(Member(file.identity, placed, file.status.st_ctime_ns))
        self.identities.add(file.identity)


class _Put:
    """One run of `put`."""

    def __init__(self, root: ManagedRoot, report: Report) -> None:
        self.others: list[bytes] = []
        self._root, self._report = root, report
        self._bundle: _Bundle | None = None
        self._first_names: dict[Identity, bytes] = {}
        self._links: list[Entry] = []
        self._broken: ArchiveError | None = None
        self._thread = ThreadPoolExecutor(1, "store")
        self._storing: tuple[_Bundle, Future[None]] | None = None

    def __enter__(self) -> "_Put":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if self._bundle is not None:
                self._discard(self._bundle)
        finally:
            with self._thread:
                self._settle()

    def files(self, paths: list[bytes]) -> None:
        """Archive regular files, some of which may turn out to be something else by now."""
        if self._broken is not None:
            for path in paths:
                self._report.fail(path, self._broken)
            return
        opened = list(self._open(paths))
        try:
            with self._root.database.transaction(read_only=True) as session:
                known = rows.archived(session, [file.identity for file in opened])
            _read_ahead([one for one in opened if not _is_archived(one, known.get(one.identity))])
            for file in opened:
                try:
                    self._file(file, known.get(file.identity))
                except (DatamgrError, OSError) as error:
                    self._report.fail(file.path, error)
                    if self._first_names.get(file.identity) == file.path:
                        del self._first_names[file.identity]
        finally:
            for file in opened:
                os.close(file.descriptor)

    def finish(self) -> None:
        """Complete the last bundle, then further names of files and all that is no file."""
        self._complete()
        self._settle()
        if self._broken is not None or not (self._report.done or not self._report.unchanged):
            return
        others = list(self._entries())
        for entry in (*self._links, *(entry for entry in others if entry.kind != "d")):
            self._add(entry)
        self._complete()
        # In a container of their own: GNU tar makes some links only at the end of one, and that
        # would change the times of directories again.
        for entry in others:
            if entry.kind == "d":
                self._add(entry)
        self._complete()
        self._settle()

    def _add(self, entry: Entry) -> None:
        try:
            self._append(entry)
        except ArchiveError as error:
            self._report.fail(entry.path, error)

    def _append(self, entry: Entry, payload: bytes = b"") -> Placed:
        bundle = self._filling()
        try:
            return bundle.writer.add(entry, payload)
        except ArchiveError as error:
            self._bundle = None
            self._give_up(bundle, error)
            raise

    def _open(self, paths: list[bytes]) -> Iterator[OpenFile]:
        for path in paths:
            try:
                descriptor = open_quietly(self._root, path)
            except OSError as error:
                self._report.fail(path, error)
                continue
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode):
                identity = self._root.identity(descriptor, status)
                yield OpenFile(path, descriptor, status, identity)
            else:
                os.close(descriptor)
                self._report.fail(path, "it was replaced while it was looked at")

    def _file(self, file: OpenFile, known: Archived | None) -> None:
        status = file.status
        if stub.is_marked(file.descriptor) and stub.read(file.descriptor):
            if known is None or known.state != models.ARCHIVE:
                raise ConflictError("it is a stub of which the database knows nothing")
            self._report.unchanged += 1
            return
        # A file may be named twice, and be in a bundle already.
        is_held = any(file.identity in bundle.identities for bundle in self._unrecorded())
        is_archived = (
            known is not None and known.state == models.BOTH and is_unchanged(status, known)
        )
        if is_archived or (is_held and status.st_nlink == 1):
            self._report.unchanged += 1
            return
        note = {"inode": file.identity.inode, "generation": file.identity.generation}
        entry = inode.describe(file.descriptor, file.path, status, note)
        if status.st_nlink > 1:
            first = self._first_names.setdefault(file.identity, file.path)
            if first != file.path:
                self._links.append(entry._replace(kind="h", link=first, size_bytes=0, extents=None))
                return
        if entry.stored_bytes <= self._root.settings.small_bytes:
            self._small(file, entry)
        else:
            self._large(file, entry)

    def _small(self, file: OpenFile, entry: Entry) -> None:
        payload = b"".join(inode.payload(file.descriptor, entry))
        require_unchanged(file)
        placed = self._append(entry, payload)
        bundle = self._filling()
        bundle.hold(file, placed)
        tier = self._root.settings
        full = bundle.writer.position >= tier.bundle_bytes
        if full or len(bundle.members) >= tier.bundle_files:
            self._complete()

    def _large(self, file: OpenFile, entry: Entry) -> None:
        bundle = self._begin(of_many=False)
        try:
            # Closed before the descriptor is, also when the archive fails.
            with closing(aside.read_ahead(inode.payload(file.descriptor, entry))) as payload:
                placed = bundle.writer.add(entry, payload)
            require_unchanged(file)
            bundle.hold(file, placed)
            self._store(bundle)
            self._count(bundle)
        except BaseException as error:
            if isinstance(error, ArchiveError):
                self._broken = error
            self._discard(bundle)
            raise

    def _filling(self) -> _Bundle:
        if self._bundle is None:
            self._bundle = self._begin()
        return self._bundle

    def _begin(self, *, of_many: bool = True) -> _Bundle:
        self._check()
        key = new_key(self._root.settings.compress)
        with self._root.database.transaction() as session:
            number = rows.begin_container(session, self._root.name, key)
        faults.reach("put.begun")
        try:
            writer = ContainerWriter(self._root.store, key, of_many=of_many, follow=True)
            return _Bundle(number, writer)
        except ArchiveError as error:
            self._broken = error
            raise

    def _unrecorded(self) -> Iterator[_Bundle]:
        """The bundles of which the database knows no members yet."""
        if self._bundle is not None:
            yield self._bundle
        if self._storing is not None:
            yield self._storing[0]

    def _complete(self) -> None:
        """Store the bundle that is being filled, in a thread and after the one before."""
        bundle, self._bundle = self._bundle, None
        if bundle is None:
            return
        self._settle()
        if self._broken is not None:
            self._give_up(bundle, self._broken)
            return
        self._storing = bundle, self._thread.submit(self._store, bundle)

    def _settle(self) -> None:
        """Wait for the bundle that is being stored; if that fails, so did each of its files."""
        if self._storing is None:
            return
        (bundle, stored), self._storing = self._storing, None
        try:
            stored.result()
        except ArchiveError as error:
            self._give_up(bundle, error)
        else:
            self._count(bundle)

    def _give_up(self, bundle: _Bundle, error: ArchiveError) -> None:
        """The archive did not take a bundle: none of its files is archived."""
        self._broken = error
        self._discard(bundle)
        for member in bundle.members:
            self._report.fail(member.placed.entry.path, error)

    def _store(self, bundle: _Bundle) -> None:
        faults.reach("put.written")
        size_bytes = bundle.writer.finish()
        faults.reach("put.stored")
        bundle.writer.verify()
        faults.reach("put.verified")
        with self._root.database.transaction() as session:
            rows.record(session, self._root.name, bundle.number, size_bytes, bundle.members)
        faults.reach("put.recorded")
        order.refresh(self._root, [bundle.writer.key])

    def _count(self, bundle: _Bundle) -> None:
        self._report.done += len(bundle.members)
        self._report.done_bytes += sum(m.placed.entry.size_bytes for m in bundle.members)

    def _discard(self, bundle: _Bundle) -> None:
        """Leave nothing of a container; what cannot be removed now is when recovery runs."""
        with bundle.writer:
            pass
        with suppress(DatamgrError):
            discard(self._root, bundle.number, bundle.writer.key)

    def _check(self) -> None:
        """Do not try what failed with the archive as a whole again with each file."""
        if self._broken is not None:
            raise ArchiveError(str(self._broken))

    def _entries(self) -> Iterator[Entry]:
        for path in self.others:
            try:
                descriptor = self._root.open(path, os.O_PATH | os.O_NOFOLLOW)
                try:
                    status = os.fstat(descriptor)
                    kind = inode.kind_of(status.st_mode)
                    if kind is None:
                        self._report.fail(path, "a socket cannot be archived")
                    elif kind != "f":
                        yield inode.describe(descriptor, path, status, {})
                finally:
                    os.close(descriptor)
            except OSError as error:
                self._report.fail(path, error)


def _is_archived(file: OpenFile, known: Archived | None) -> bool:
    return known is not None and known.state != models.DISK and is_unchanged(file.status, known)


def _read_ahead(files: list[OpenFile]) -> None:
    """Let the kernel read the beginnings of all at once, and not wait for one after the other."""
    for file in files:
        with suppress(OSError):
            os.posix_fadvise(file.descriptor, 0, _AHEAD_BYTES, os.POSIX_FADV_WILLNEED)


def discard(root: ManagedRoot, number: int, key: str) -> None:
    """Remove a container of which nothing is recorded, and then its row.

    Raises:
        ArchiveError: the archive does not remove it; its row stays.
    """
    with root.database.transaction(read_only=True) as session:
        container = session.get(models.TierContainer, number)
        if container is not None and container.state == models.VERIFIED:
            return  # it was recorded, whatever failed after that
    root.store.delete(key)
    with root.database.transaction() as session:
        container = session.get(models.TierContainer, number)
        if container is not None:
            session.delete(container)
