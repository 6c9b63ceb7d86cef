"""Writes again what is left of containers most of which nobody needs any more.

The new container is verified before the rows change in one step, and the old ones go last: a crash
leaves either, and the other is removed at the next start or expiry.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import sqlalchemy as sa

from datamgr.errors import DatamgrError
from tiering import faults, models, order, put, rows, trash
from tiering.archive import reader
from tiering.archive.reader import Member, Members
from tiering.archive.store import DamagedError, Store
from tiering.archive.writer import ContainerWriter, Placed, new_key
from tiering.models import TierContainer, TierCopy
from tiering.root import ManagedRoot, Report


@dataclass(frozen=True)
class _Sparse:
    """A container with little that is needed: versions by the offset of their payload."""

    number: int
    key: str
    versions: dict[int, int]


@dataclass
class _New:
    """A container that is being filled from others."""

    number: int
    writer: ContainerWriter
    moved: list[tuple[int, int, Placed]] = field(default_factory=list)  # version, old container


def repack(
    root: ManagedRoot,
    report: Report,
    *,
    below: float,
    watch: Callable[[], None] = lambda: None,
) -> int:
    """Rewrite containers of which less than this share is needed; how many were freed.

    Members are copied as they are, with checksums that were compared. `report` counts the members,
    and names the containers that could not be read.

    Raises:
        ArchiveError: the archive does not take a new container; nothing is changed by that.
    """
    work = _Repack(root, report)
    try:
        for sparse in _sparse(root, below):
            work.add(sparse)
            watch()
        work.complete()
    finally:
        work.abandon()
    return trash.free_containers(root)


class _Repack:
    """One run of `repack`."""

    def __init__(self, root: ManagedRoot, report: Report) -> None:
        self._root, self._report = root, report
        self._new: _New | None = None

    def add(self, sparse: _Sparse) -> None:
        """Copy what is needed of a container."""
        try:
            found = reader.first_good(self._root.store.copies, lambda copy: _needed(copy, sparse))
        except DatamgrError as error:
            self._report.fail(b".", f"the container {sparse.key} cannot be rewritten: {error}")
            return
        copy, members = found
        with Members(copy) as payloads:
            for member in members:
                new = self._filling()
                stored = member.entry.stored_bytes
                payload = payloads.payload(sparse.key, member.offset, stored)
                placed = new.writer.add(member.entry, payload)
                if placed.sha256 != member.sha256:
                    raise DamagedError(f"the container {sparse.key} changed while it was read")
                new.moved.append((sparse.versions[member.offset], sparse.number, placed))
                if new.writer.position >= self._root.settings.bundle_bytes:
                    self.complete()

    def complete(self) -> None:
        """Make the new container the place of its members."""
        new = self._new
        if new is None:
            return
        size_bytes = new.writer.finish()
        faults.reach("repack.written")
        new.writer.verify()
        faults.reach("repack.verified")
        with self._root.database.transaction() as session:
            rows.move(session, new.number, size_bytes, new.moved)
        faults.reach("repack.recorded")
        self._new = None
        self._report.done += len(new.moved)
        self._report.done_bytes += size_bytes
        order.refresh(self._root, [new.writer.key])

    def abandon(self) -> None:
        """Leave nothing of a container that was not completed."""
        if self._new is not None:
            with self._new.writer, suppress(DatamgrError):
                put.discard(self._root, self._new.number, self._new.writer.key)

    def _filling(self) -> _New:
        if self._new is None:
            key = new_key(self._root.settings.compress)
            with self._root.database.transaction() as session:
                number = rows.begin_container(session, self._root.name, key)
            self._new = _New(number, ContainerWriter(self._root.store, key, follow=True))
        return self._new


def _sparse(root: ManagedRoot, below: float) -> Iterator[_Sparse]:
    needed = sa.func.coalesce(sa.func.sum(TierCopy.stored_bytes), 0)
    with root.database.transaction(read_only=True) as session:
        found = session.execute(
            sa.select(TierContainer.id, TierContainer.key)
            .join(TierCopy, TierCopy.container_id == TierContainer.id)
            .where(
                TierContainer.root == root.name,
                TierContainer.state == models.VERIFIED,
                TierContainer.files > 0,
            )
            .group_by(TierContainer.id)
            # Of files without content there is only the number; headers are nobody's bytes.
            .having(
                sa.and_(
                    needed < below * TierContainer.size_bytes,
                    sa.func.count() < below * TierContainer.files,
                )
            )
            .order_by(TierContainer.key)
        ).all()
    for number, key in found:
        with root.database.transaction(read_only=True) as session:
            copies = session.execute(
                sa.select(TierCopy.offset_bytes, TierCopy.version_id).where(
                    TierCopy.container_id == number
                )
            ).all()
        yield _Sparse(number, key, {row.offset_bytes: row.version_id for row in copies})


def _needed(copy: Store, sparse: _Sparse) -> tuple[Store, Sequence[Member]]:
    """The members that are needed, their payloads compared with their checksums."""
    found = [m for m in reader.members(copy, sparse.key) if m.offset in sparse.versions]
    if len(found) != len(sparse.versions):
        raise DamagedError(f"the container {sparse.key} is damaged: members are missing")
    return copy, found
