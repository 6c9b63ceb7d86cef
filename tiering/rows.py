"""What the tables say of files, and the writes that put, punch and stage make to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.errors import ConflictError, NotFoundError
from tiering import models
from tiering.archive.entry import Extent
from tiering.archive.writer import Placed
from tiering.kernel import Identity
from tiering.models import TierContainer, TierCopy, TierFile, TierOperation, TierVersion


@dataclass(frozen=True)
class Archived:
    """A file with its current version and the place of a verified copy."""

    file_id: int
    version_id: int
    state: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    extents: tuple[Extent, ...] | None
    sha256: bytes
    key: str
    offset_bytes: int
    stored_bytes: int


@dataclass(frozen=True)
class Member:
    """A file that a container holds, as it was on disk when it was read."""

    identity: Identity
    placed: Placed
    ctime_ns: int


def archived(session: orm.Session, identities: Sequence[Identity]) -> dict[Identity, Archived]:
    """Those of the files that have a verified copy."""
    found = session.execute(
        sa.select(TierFile, TierVersion, TierCopy, TierContainer.key)
        .join(TierVersion, TierVersion.id == TierFile.version_id)
        .join(TierCopy, TierCopy.version_id == TierVersion.id)
        .join(TierContainer, TierContainer.id == TierCopy.container_id)
        .where(
            TierFile.inode.in_({identity.inode for identity in identities}),
            TierFile.filesystem.in_({identity.filesystem for identity in identities}),
            TierContainer.state == models.VERIFIED,
        )
    )
    known = {
        Identity(file.filesystem, file.inode, file.generation): Archived(
            file_id=file.id,
            version_id=version.id,
            state=file.state,
            size_bytes=version.size_bytes,
            mtime_ns=version.mtime_ns,
            ctime_ns=version.ctime_ns,
            extents=_extents(version.extents),
            sha256=version.sha256,
            key=key,
            offset_bytes=copy.offset_bytes,
            stored_bytes=copy.stored_bytes,
        )
        for file, version, copy, key in found
    }
    return {identity: known[identity] for identity in identities if identity in known}


def require(session: orm.Session, identity: Identity) -> Archived:
    """The file, which has a verified copy.

    Raises:
        NotFoundError: it has none.
    """
    found = archived(session, [identity]).get(identity)
    if found is None:
        raise NotFoundError("it is not in the archive; put it there first")
    return found


def begin_container(session: orm.Session, root: str, key: str) -> int:
    """Write down that a container is about to be written; its number."""
    container = TierContainer(root=root, key=key, state=models.WRITING)
    session.add(container)
    session.flush()
    return container.id


def record(
    session: orm.Session, root: str, container_id: int, size_bytes: int, members: Sequence[Member]
) -> None:
    """A container was read back: its members are on disk and in the archive from now on."""
    session.execute(
        sa.update(TierContainer)
        .where(TierContainer.id == container_id)
        .values(state=models.VERIFIED, size_bytes=size_bytes, verified_at=sa.func.now())
    )
    if not members:
        return
    ids = _file_ids(session, root, members)
    versions = session.scalars(
        sa.insert(TierVersion).returning(TierVersion.id, sort_by_parameter_order=True),
        [
            {
                "file_id": ids[member.identity],
                "size_bytes": member.placed.entry.size_bytes,
                "mtime_ns": member.placed.entry.mtime_ns,
                "ctime_ns": member.ctime_ns,
                "extents": member.placed.entry.extents,
                "sha256": member.placed.sha256,
                "adler32": member.placed.adler32,
            }
            for member in members
        ],
    ).all()
    session.execute(
        sa.insert(TierCopy),
        [
            {
                "version_id": version,
                "container_id": container_id,
                "offset_bytes": member.placed.offset,
                "stored_bytes": member.placed.entry.stored_bytes,
            }
            for version, member in zip(versions, members, strict=True)
        ],
    )
    session.execute(
        sa.update(TierFile),
        [
            {"id": ids[member.identity], "version_id": version, "state": models.BOTH}
            for version, member in zip(versions, members, strict=True)
        ],
    )


def begin(
    session: orm.Session, file_id: int, action: str, step: str, detail: dict[str, Any]
) -> int:
    """Write down what is about to be done to a file; the number of the operation.

    Raises:
        ConflictError: something is being done to it, or was when a process died.
    """
    unfinished = sa.select(TierOperation.id).where(
        TierOperation.file_id == file_id, TierOperation.finished_at.is_(None)
    )
    if session.scalar(unfinished) is not None:
        raise ConflictError("something is being done to it already")
    operation = TierOperation(file_id=file_id, action=action, step=step, detail=detail)
    session.add(operation)
    session.flush()
    return operation.id


def advance(session: orm.Session, operation_id: int, step: str) -> None:
    """Write down that the next step of an operation begins."""
    session.execute(
        sa.update(TierOperation).where(TierOperation.id == operation_id).values(step=step)
    )


def end(
    session: orm.Session,
    operation_id: int,
    step: str,
    state: str | None = None,
    ctime_ns: int | None = None,
) -> None:
    """An operation is `done` or `undone`; the file's state and its time of change, where new."""
    operation = session.get_one(TierOperation, operation_id)
    operation.step, operation.finished_at = step, session.scalar(sa.select(sa.func.now()))
    file = session.get_one(TierFile, operation.file_id)
    if state is not None:
        file.state = state
    if ctime_ns is not None:
        set_ctime(session, file.version_id, ctime_ns)
    session.flush()


def set_ctime(session: orm.Session, version_id: int | None, ctime_ns: int) -> None:
    """The version is known to be on disk unchanged at this time of change."""
    session.execute(
        sa.update(TierVersion).where(TierVersion.id == version_id).values(ctime_ns=ctime_ns)
    )


_FILES = """
INSERT INTO tier_file (root, filesystem, inode, generation, path, state)
SELECT :root, :filesystem, given.*, 'G' FROM unnest(
    cast(:inodes AS numeric[]), cast(:generations AS bigint[]), cast(:paths AS bytea[])
) AS given
ON CONFLICT (filesystem, inode, generation) DO UPDATE SET root = :root, path = excluded.path
RETURNING id, inode, generation
"""


def _file_ids(session: orm.Session, root: str, members: Sequence[Member]) -> dict[Identity, int]:
    """The rows of files by identity, made where they are new."""
    filesystem = members[0].identity.filesystem
    found = session.execute(
        sa.text(_FILES),
        {
            "root": root,
            "filesystem": filesystem,
            "inodes": [member.identity.inode for member in members],
            "generations": [member.identity.generation for member in members],
            "paths": [member.placed.entry.path for member in members],
        },
    )
    return {Identity(filesystem, int(inode), generation): id_ for id_, inode, generation in found}


def _extents(stored: list[list[int]] | None) -> tuple[Extent, ...] | None:
    return None if stored is None else tuple((start, length) for start, length in stored)
