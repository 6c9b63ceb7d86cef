"""Files that are to stay as they are: pinned on disk, or locked against any change."""

import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import sqlalchemy as sa

from datamgr.errors import ConflictError, DatamgrError, InvalidError
from datamgr.identity import Caller
from tiering import kernel, models
from tiering.kernel import Identity
from tiering.models import TierFile
from tiering.root import ManagedRoot, Report

_UPSERT = sa.text(
    """
    INSERT INTO tier_file (root, filesystem, inode, generation, path, state)
    VALUES (:root, :filesystem, :inode, :generation, :path, 'G')
    ON CONFLICT (filesystem, inode, generation) DO UPDATE SET path = excluded.path
    RETURNING id
    """
)


def pin(
    root: ManagedRoot, paths: Iterable[bytes], report: Report, caller: Caller, until: datetime
) -> None:
    """Keep files from being punched until a time; a later pin replaces an earlier one."""

    def mark(descriptor: int, path: bytes) -> None:
        values = {"pinned_until": until, "pinned_by": caller.username}
        _set(root, descriptor, path, values)

    _each(root, paths, report, mark)


def unpin(root: ManagedRoot, paths: Iterable[bytes], report: Report) -> None:
    """Let files be punched again."""
    nothing = {"pinned_until": None, "pinned_by": None}
    _each(root, paths, report, lambda descriptor, path: _set(root, descriptor, path, nothing))


def lock(root: ManagedRoot, paths: Iterable[bytes], report: Report, caller: Caller) -> None:
    """Make files immutable: nobody can write, rename or remove them, root included.

    They can be put, punched and staged, and stay locked.
    """

    def mark(descriptor: int, path: bytes) -> None:
        root.require_owner(path, os.fstat(descriptor))
        # First the row: what is locked and not known to be would be found by nobody.
        _set(root, descriptor, path, {"locked_by": caller.username})
        try:
            _set_immutable(descriptor, True)
        except (DatamgrError, OSError):
            _set(root, descriptor, path, {"locked_by": None})
            raise

    _each(root, paths, report, mark)


def unlock(root: ManagedRoot, paths: Iterable[bytes], report: Report) -> None:
    """Let files be changed again."""

    def mark(descriptor: int, path: bytes) -> None:
        root.require_owner(path, os.fstat(descriptor))
        with root.database.transaction(read_only=True) as session:
            found = _of(root.identity(descriptor, os.fstat(descriptor)))
            is_ours = session.scalar(sa.select(TierFile.locked_by).where(found)) is not None
        if not is_ours and kernel.is_immutable(descriptor):
            raise ConflictError("it was not locked by `ghi lock`: see chattr(1)")
        _set_immutable(descriptor, False)
        _set(root, descriptor, path, {"locked_by": None})

    _each(root, paths, report, mark)


def _each(
    root: ManagedRoot,
    paths: Iterable[bytes],
    report: Report,
    work: Callable[[int, bytes], None],
) -> None:
    for path in paths:
        try:
            descriptor = root.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise InvalidError("it is no regular file")
                work(descriptor, path)
            finally:
                os.close(descriptor)
            report.done += 1
        except (DatamgrError, OSError) as error:
            report.fail(path, error)
        report.watch()


def _set(root: ManagedRoot, descriptor: int, path: bytes, values: Mapping[str, object]) -> None:
    identity = root.identity(descriptor, os.fstat(descriptor))
    with root.database.transaction() as session:
        asked = {
            "root": root.name,
            "filesystem": identity.filesystem,
            "inode": identity.inode,
            "generation": identity.generation,
            "path": path,
        }
        if any(value is not None for value in values.values()):
            session.execute(_UPSERT, asked)
        session.execute(sa.update(models.TierFile).where(_of(identity)).values(values))


def _of(identity: Identity) -> sa.ColumnElement[bool]:
    return sa.and_(
        TierFile.filesystem == identity.filesystem,
        TierFile.inode == identity.inode,
        TierFile.generation == identity.generation,
    )


def _set_immutable(descriptor: int, immutable: bool) -> None:
    try:
        kernel.set_immutable(descriptor, immutable)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL):
            raise InvalidError(
                "its file system has no immutable files, so it cannot be locked"
            ) from error
        if error.errno == errno.EPERM:
            raise InvalidError(
                "only a daemon that runs as root can make files immutable"
            ) from error
        raise
