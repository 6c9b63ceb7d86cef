"""Brings the tables in line with the names on disk: files are known by identity, never by path.

What is removed from disk goes to the trash; a file that was only renamed gets its new path.
"""

import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import sqlalchemy as sa
from sqlalchemy import orm

from tiering import kernel
from tiering.models import TierFile
from tiering.root import ManagedRoot, Report
from tiering.walk import walk

_BATCH = 5000


@dataclass
class Outcome:
    """How many files were seen, and how many rows put right."""

    seen: int = 0
    renamed: int = 0
    removed: int = 0
    returned: int = 0


def reconcile(root: ManagedRoot, report: Report, listed: Sequence[bytes] | None = None) -> Outcome:
    """Look at every file below the root, or at those listed; failures are in the report.

    `listed`: paths where a scan saw files, which need not be all, nor be there; with `.` among
    them, what is gone from anywhere below the root is found too. Unless the whole root was walked,
    files are taken for removed only where the file system itself says that they are gone.
    """
    outcome = Outcome()
    found = iter(listed or ())
    if listed is None:
        found = (one.path for one in walk(root, [b"."], report) if one.is_file)
    present: set[int] = set()
    with root.database.transaction(read_only=True) as session:
        last = session.scalar(sa.select(sa.func.max(TierFile.id))) or 0
    while batch := list(islice(found, _BATCH)):
        inodes = _inodes(root, batch)
        outcome.seen += len(inodes)
        with root.database.transaction() as session:
            rows = _rows(session, root, sorted(set(inodes)))
            for row in rows:
                path = inodes[int(row.inode)]
                if not _is_same(root, row, path):
                    continue
                present.add(row.id)
                outcome.renamed += row.path != path
                outcome.returned += row.deleted_at is not None
                if row.path != path or row.deleted_at is not None:
                    row.path, row.deleted_at = path, None
        report.watch()
    is_complete = listed is None and not report.failures
    if listed is None or b"." in listed:
        outcome.removed = _remove_absent(root, present, last, is_complete=is_complete)
    return outcome


def removed(root: ManagedRoot, paths: Sequence[bytes]) -> int:
    """Names are gone: files that were last seen there and exist no more go to the trash."""
    number = 0
    with root.database.transaction() as session:
        rows = session.scalars(
            sa.select(TierFile).where(
                TierFile.root == root.name,
                TierFile.filesystem == root.filesystem,
                TierFile.path.in_(paths),
                TierFile.deleted_at.is_(None),
            )
        ).all()
        for row in rows:
            if kernel.exists(root.descriptor, row.inode, row.generation) is False:
                row.deleted_at = session.scalar(sa.select(sa.func.now()))
                number += 1
    return number


def renamed(root: ManagedRoot, old: bytes, new: bytes) -> None:
    """A file or a directory has another name; what was last seen below the old one moves along."""
    below, length = old + b"/", len(old)
    moved = TierFile.path == old
    moved |= sa.func.substring(TierFile.path, 1, length + 1) == below
    with root.database.transaction() as session:
        session.execute(
            sa.update(TierFile)
            .where(TierFile.root == root.name, TierFile.deleted_at.is_(None), moved)
            .values(path=sa.literal(new).concat(sa.func.substring(TierFile.path, length + 1)))
        )


def _inodes(root: ManagedRoot, paths: Iterable[bytes]) -> dict[int, bytes]:
    found = {}
    for path in paths:
        try:
            descriptor = root.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            continue  # removed meanwhile
        status = os.fstat(descriptor)
        os.close(descriptor)
        if stat.S_ISREG(status.st_mode):
            found[status.st_ino] = path
    return found


def _rows(session: orm.Session, root: ManagedRoot, inodes: Sequence[int]) -> Sequence[TierFile]:
    return session.scalars(
        sa.select(TierFile).where(
            TierFile.filesystem == root.filesystem,
            TierFile.root == root.name,
            TierFile.inode.in_(inodes),
        )
    ).all()


def _is_same(root: ManagedRoot, row: TierFile, path: bytes) -> bool:
    """Whether the row speaks of this file and not of one that had its inode number before."""
    try:
        descriptor = root.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return kernel.generation(descriptor) == row.generation
    finally:
        os.close(descriptor)


def _remove_absent(root: ManagedRoot, present: set[int], newest: int, *, is_complete: bool) -> int:
    """Mark what was not seen; `newest`: rows after it were made while this walked about."""
    number, last = 0, 0
    while True:
        with root.database.transaction() as session:
            rows = session.scalars(
                sa.select(TierFile)
                .where(
                    TierFile.root == root.name,
                    # Of another file system nothing can be said here.
                    TierFile.filesystem == root.filesystem,
                    TierFile.deleted_at.is_(None),
                    TierFile.id > last,
                    TierFile.id <= newest,
                )
                .order_by(TierFile.id)
                .limit(_BATCH)
            ).all()
            if not rows:
                return number
            last = rows[-1].id
            for row in rows:
                if row.id in present:
                    continue
                exists = kernel.exists(root.descriptor, row.inode, row.generation)
                # What was renamed while this walked about is there, and seen next time.
                if exists is False or (exists is None and is_complete):
                    row.deleted_at = session.scalar(sa.select(sa.func.now()))
                    number += 1
