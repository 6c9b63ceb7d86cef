"""Makes the tables again from the archive alone, when the database is lost."""

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from datamgr.errors import ConflictError, DatamgrError
from tiering import kernel, models, order, rows, stub
from tiering.archive import reader
from tiering.archive.reader import Member
from tiering.archive.writer import MANIFEST_FOLDER, Placed
from tiering.kernel import Identity
from tiering.models import TierContainer, TierFile, TierVersion
from tiering.root import ManagedRoot, Report
from tiering.walk import walk

_BATCH = 5000


@dataclass
class Rebuilt:
    """What was found."""

    containers: int = 0
    versions: int = 0
    on_both: int = 0
    in_archive: int = 0


def rebuild(root: ManagedRoot, report: Report) -> Rebuilt:
    """Read every container, oldest first, and then look at what is on disk now.

    Files are known by the identity that their members carry. One that is neither on disk nor a
    stub was removed: it goes to the trash. Containers that cannot be read are in the report.

    Raises:
        ConflictError: there are rows of this root already.
    """
    with root.database.transaction(read_only=True) as session:
        if session.scalar(sa.select(sa.exists().where(TierContainer.root == root.name))):
            raise ConflictError(
                f"the tables know containers of {root.name} already; they are made again only "
                "where there are none"
            )
    rebuilt = Rebuilt()
    for key in root.store.keys():  # noqa: SIM118  no dictionary
        try:
            members = _members(root, key)
        except DatamgrError as error:
            report.fail(os.fsencode(key), error)
            continue
        _record(root, key, members, rebuilt)
        report.watch()
    order.refresh_all(root)
    _compare_with_disk(root, rebuilt, report)
    return rebuilt


def _record(root: ManagedRoot, key: str, members: Sequence[Member], rebuilt: Rebuilt) -> None:
    files = [member for found in members if (member := _member(root, found)) is not None]
    with root.database.transaction() as session:
        number = rows.begin_container(session, root.name, key)
        rows.record(session, root.name, number, _size(root, key), files)
    rebuilt.containers += 1
    rebuilt.versions += len(files)


def _members(root: ManagedRoot, key: str) -> list[Member]:
    return reader.first_good(
        root.store.copies, lambda copy: list(reader.members(copy, key, with_sums=True))
    )


def _size(root: ManagedRoot, key: str) -> int:
    return reader.first_good(root.store.copies, lambda copy: copy.size(key))


def _member(root: ManagedRoot, found: Member) -> rows.Member | None:
    entry, note = found.entry, found.entry.note
    if entry.kind != "f" or entry.path.startswith(MANIFEST_FOLDER):
        return None
    inode, generation = note.get("inode"), note.get("generation")
    if not isinstance(inode, int) or not isinstance(generation, int):
        return None
    if found.sums is None:
        raise ValueError("members were read without their checksums")
    # No time of change: whether the disk has this version, its content tells when it is asked.
    placed = Placed(entry, found.offset, found.sums)
    return rows.Member(Identity(root.filesystem, inode, generation), placed, ctime_ns=0)


def _compare_with_disk(root: ManagedRoot, rebuilt: Rebuilt, report: Report) -> None:
    present: set[int] = set()
    for found in walk(root, [b"."], report):
        if found.is_file:
            try:
                _compare_file(root, found.path, present, rebuilt)
            except (DatamgrError, OSError) as error:
                report.fail(found.path, error)
    with root.database.transaction() as session:
        known = session.execute(
            sa.select(TierFile.id, TierFile.inode, TierFile.generation).where(
                TierFile.root == root.name
            )
        ).all()
        absent = [
            number
            for number, inode, generation in known
            if number not in present and not kernel.exists(root.descriptor, int(inode), generation)
        ]
        for start in range(0, len(absent), _BATCH):
            session.execute(
                sa.update(TierFile)
                .where(TierFile.id.in_(absent[start : start + _BATCH]))
                .values(deleted_at=sa.func.now())
            )


def _compare_file(root: ManagedRoot, path: bytes, present: set[int], rebuilt: Rebuilt) -> None:
    descriptor = root.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return
        identity = root.identity(descriptor, status)
        mark = stub.read(descriptor)
    finally:
        os.close(descriptor)
    with root.database.transaction() as session:
        row = session.scalar(
            sa.select(TierFile).where(
                TierFile.filesystem == identity.filesystem,
                TierFile.inode == identity.inode,
                TierFile.generation == identity.generation,
            )
        )
        if row is None:
            if mark is not None:
                raise ConflictError("it is a stub of which the archive has nothing")
            return
        present.add(row.id)
        row.path = path
        if mark is None:
            rebuilt.on_both += 1
            return
        wanted = sa.select(TierVersion.id).where(
            TierVersion.file_id == row.id, TierVersion.sha256 == mark.sha256
        )
        version = session.scalar(wanted.order_by(TierVersion.id.desc()).limit(1))
        if version is None:
            raise ConflictError("it is a stub of a version that the archive does not have")
        row.version_id, row.state = version, models.ARCHIVE
        rebuilt.in_archive += 1
