"""Copies of files that were removed from disk: kept for a time, brought back, or freed.

Rows go before objects: what is left by a crash is an object that no file needs, and its row.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from datamgr.errors import ConflictError, DatamgrError, ForbiddenError
from tiering import access, faults, inode, kernel, models, order, stub
from tiering.archive import reader
from tiering.archive.entry import Entry
from tiering.archive.store import DamagedError, Store
from tiering.models import TierContainer, TierCopy, TierFile, TierVersion
from tiering.root import ManagedRoot, Report

# Said also of what was somebody else's: even whether it was there is not for others to know.
_NOTHING = "nothing of yours that was removed from here is in the archive"


@dataclass(frozen=True)
class Removed:
    """A removed file of which the archive has the last version."""

    file_id: int
    version_id: int
    path: bytes
    size_bytes: int
    sha256: bytes
    key: str
    offset_bytes: int
    stored_bytes: int


def undelete(root: ManagedRoot, paths: Iterable[bytes], report: Report, *, recursive: bool) -> None:
    """Bring removed files back to where they were, with owner, mode, times and attributes.

    The newest that was removed from a path is the one, of those that are the caller's or of a
    project of his. What is there meanwhile is left alone.
    """
    wanted: dict[str, list[Removed]] = {}
    for path in paths:
        found = _removed(root, path, recursive=recursive)
        if not found:
            report.fail(path, _NOTHING)
        for one in found:
            wanted.setdefault(one.key, []).append(one)
    for key in order.containers(root, wanted):
        for one, entry in _entries(root, key, wanted[key], report):
            try:
                _bring_back(root, one, entry)
                report.done += 1
                report.done_bytes += one.size_bytes
            except (DatamgrError, OSError) as error:
                report.fail(one.path, error)
            report.watch()


def expire(root: ManagedRoot) -> int:
    """Forget what was removed long ago and versions that are too many; the number of containers
    freed for it.

    Raises:
        ArchiveError: the archive does not remove one; it is tried again next time.
    """
    with root.database.transaction() as session:
        limit = sa.func.now() - timedelta(days=root.settings.trash_days)
        session.execute(
            sa.delete(TierFile).where(TierFile.root == root.name, TierFile.deleted_at < limit)
        )
        session.execute(_SURPLUS, {"root": root.name, "kept": root.settings.versions})
    faults.reach("expire.forgotten")
    return free_containers(root)


def free_containers(root: ManagedRoot) -> int:
    """Remove the containers of which no file needs anything any more; their number.

    Raises:
        ArchiveError: the archive does not remove one.
    """
    needed = sa.select(TierCopy.version_id).where(TierCopy.container_id == TierContainer.id)
    with root.database.transaction(read_only=True) as session:
        dead = session.execute(
            sa.select(TierContainer.id, TierContainer.key).where(
                TierContainer.root == root.name,
                TierContainer.state == models.VERIFIED,
                TierContainer.files > 0,
                ~sa.exists(needed),
            )
        ).all()
    for number, key in dead:
        root.store.delete(key)
        faults.reach("expire.removed")
        with root.database.transaction() as session:
            session.execute(sa.delete(TierContainer).where(TierContainer.id == number))
    return len(dead)


_SURPLUS = sa.text(
    """
    DELETE FROM tier_version USING (
        SELECT v.id, f.version_id AS current,
            row_number() OVER (PARTITION BY v.file_id ORDER BY v.id DESC) AS age
        FROM tier_version v JOIN tier_file f ON f.id = v.file_id WHERE f.root = :root
    ) AS ranked
    WHERE tier_version.id = ranked.id AND ranked.age > :kept
        AND ranked.id IS DISTINCT FROM ranked.current
    """
)


def _removed(root: ManagedRoot, path: bytes, *, recursive: bool) -> list[Removed]:
    here = TierFile.path == path
    if recursive and path == b".":
        here = sa.true()
    elif recursive:
        below = path + b"/"
        here |= sa.func.substring(TierFile.path, 1, len(below)) == below
    with root.database.transaction(read_only=True) as session:
        found = session.execute(
            sa.select(TierFile, TierVersion, TierCopy, TierContainer.key)
            .join(TierVersion, TierVersion.id == TierFile.version_id)
            .join(TierCopy, TierCopy.version_id == TierVersion.id)
            .join(TierContainer, TierContainer.id == TierCopy.container_id)
            .where(TierFile.root == root.name, TierFile.deleted_at.is_not(None), here)
            .order_by(TierFile.path, TierFile.deleted_at, TierFile.id)
        )
        newest = {
            file.path: Removed(
                file_id=file.id,
                version_id=version.id,
                path=file.path,
                size_bytes=version.size_bytes,
                sha256=version.sha256,
                key=key,
                offset_bytes=copy.offset_bytes,
                stored_bytes=copy.stored_bytes,
            )
            for file, version, copy, key in found
            if _is_for(root.rights, file)
        }
    return list(newest.values())


def _is_for(rights: access.Rights | None, file: TierFile) -> bool:
    return rights is None or rights.caller.uid == file.uid or rights.manages(file.path)


def _entries(
    root: ManagedRoot, key: str, wanted: Sequence[Removed], report: Report
) -> list[tuple[Removed, Entry]]:
    """What the container says of the files: all that is not in the rows."""
    left = {one.offset_bytes: one for one in wanted}
    found = []

    def read(copy: Store) -> None:
        for member in reader.members(copy, key):
            one = left.pop(member.offset, None)
            if one is not None:
                found.append((one, member.entry))
            if not left:
                break

    try:
        reader.first_good(root.store.copies, read)
    except DatamgrError as error:
        for one in left.values():
            report.fail(one.path, error)
    return found


def _bring_back(root: ManagedRoot, one: Removed, entry: Entry) -> None:
    rights = root.rights
    folder, name = os.path.split(one.path)
    try:
        parent = root.open(folder or b".", os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConflictError(
            f"its directory cannot be opened ({error.strerror}); make it again first"
        ) from error
    try:
        if rights is not None and not rights.manages(one.path):
            _require_writable(parent, rights)
        # Without a name until it is complete.
        place = f"/proc/self/fd/{parent}"
        descriptor = os.open(place, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _fill(root, descriptor, one, entry)
            faults.reach("undelete.filled")
            try:
                os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=parent)
            except FileExistsError:
                raise ConflictError("there is something of this name again") from None
            os.fsync(parent)
            faults.reach("undelete.linked")
            _adopt(root, descriptor, one)
        finally:
            os.close(descriptor)
    finally:
        os.close(parent)


def _require_writable(parent: int, rights: access.Rights) -> None:
    status = os.fstat(parent)
    granted = access.permissions(
        rights.caller, status, stat.S_IMODE(status.st_mode), access.acl_of(parent)
    )
    if not granted & access.WRITE:
        raise ForbiddenError("you may not make files in its directory")


def _fill(root: ManagedRoot, descriptor: int, one: Removed, entry: Entry) -> None:
    os.ftruncate(descriptor, entry.size_bytes)

    def write(copy: Store) -> None:
        digest = hashlib.sha256()
        with reader.Members(copy) as members:
            payload = members.payload(one.key, one.offset_bytes, one.stored_bytes)
            for offset, data in reader.content(reader.hashed(payload, digest), entry):
                stub.fill(descriptor, offset, data)
        if digest.digest() != one.sha256:
            raise DamagedError(f"the container {one.key} is damaged: the checksum is wrong")

    reader.first_good(root.store.copies, write)
    os.fchown(descriptor, entry.uid, entry.gid)
    for name, value in entry.xattrs.items():
        if name not in inode.STUB_XATTRS:
            os.setxattr(descriptor, name, value)
    os.fchmod(descriptor, entry.mode)
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
    os.fsync(descriptor)


def _adopt(root: ManagedRoot, descriptor: int, one: Removed) -> None:
    """The file that is there now is the one that was archived."""
    status = os.fstat(descriptor)
    with root.database.transaction() as session:
        changed = session.scalar(
            sa.update(TierFile)
            .where(TierFile.id == one.file_id, TierFile.deleted_at.is_not(None))
            .values(
                inode=status.st_ino,
                generation=kernel.generation(descriptor),
                state=models.BOTH,
                deleted_at=None,
                pinned_until=None,
                pinned_by=None,
                locked_by=None,
            )
            .returning(TierFile.id)
        )
        if changed is not None:
            session.execute(
                sa.update(TierVersion)
                .where(TierVersion.id == one.version_id)
                .values(ctime_ns=status.st_ctime_ns)
            )
