"""Decides at start-up what a process that died left in the middle: B, G, or a clean stub."""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from datamgr.errors import ConflictError, DatamgrError
from tiering import journal, kernel, models, put, rows, stub
from tiering.kernel import Identity
from tiering.models import TierContainer, TierFile, TierOperation, TierVersion
from tiering.root import ManagedRoot, Report
from tiering.stub import Mark
from tiering.walk import walk


@dataclass(frozen=True)
class _Unfinished:
    """A file of an operation of which the last step that was begun is known."""

    file_id: int
    action: str
    step: str
    mark: Mark
    version: int
    size_bytes: int
    path: bytes
    identity: Identity


@dataclass(frozen=True)
class _Outcome:
    """What became of a file: its new state, where it has one, and when it is unchanged since."""

    state: str | None = None
    ctimes: Mapping[int, int] = field(default_factory=dict)


def recover(root: ManagedRoot) -> Report:
    """Bring every file and container of a root to a state; what cannot be is tried next time.

    A container that was not recorded is removed: its files are on disk. A punch that had not
    begun to free blocks is undone, one that had is completed: the copy was verified before. A
    file that was being filled becomes a stub again, and B once it had lost its mark.
    """
    report = Report()
    _containers(root, report)
    for operation in _operations(root):
        _recover(root, operation, report)
    _lock_again(root, report)
    return report


def _lock_again(root: ManagedRoot, report: Report) -> None:
    """What was worked on was not immutable for that time."""
    with root.database.transaction(read_only=True) as session:
        locked = session.scalars(
            sa.select(TierFile.path).where(
                TierFile.root == root.name,
                TierFile.locked_by.is_not(None),
                TierFile.deleted_at.is_(None),
            )
        ).all()
    for path in locked:
        try:
            descriptor = root.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if not kernel.is_immutable(descriptor):
                    kernel.set_immutable(descriptor, True)
            finally:
                os.close(descriptor)
        except OSError as error:
            report.fail(path, error)


def _containers(root: ManagedRoot, report: Report) -> None:
    with root.database.transaction(read_only=True) as session:
        unrecorded = session.execute(
            sa.select(TierContainer.id, TierContainer.key).where(
                TierContainer.root == root.name, TierContainer.state == models.WRITING
            )
        ).all()
    for number, key in unrecorded:
        try:
            put.discard(root, number, key)
            report.done += 1
        except DatamgrError as error:
            report.fail(os.fsencode(key), error)


def _operations(root: ManagedRoot) -> Sequence[TierOperation]:
    with root.database.transaction(read_only=True) as session:
        return session.scalars(
            sa.select(TierOperation)
            .where(TierOperation.root == root.name, TierOperation.finished_at.is_(None))
            .order_by(TierOperation.id)
        ).all()


def _recover(root: ManagedRoot, operation: TierOperation, report: Report) -> None:
    """Resolve all files of an operation; those with which that fails stay in it."""
    marks = dict(zip(operation.files, map(bytes, operation.marks), strict=True))
    # What the archive does not know any more was removed, and is nobody's business.
    left: dict[int, bytes] = {}
    outcomes: dict[int, _Outcome] = {}
    for file in _files(root, operation, marks):
        try:
            outcomes[file.file_id] = _resolve(root, file)
            report.done += 1
        except (DatamgrError, OSError) as error:
            report.fail(file.path, error)
            left[file.file_id] = marks[file.file_id]
    with root.database.transaction() as session:
        # What is repeated after a crash before this has the same outcomes.
        for state in (models.BOTH, models.ARCHIVE):
            rows.set_state(session, [f for f, o in outcomes.items() if o.state == state], state)
        for outcome in outcomes.values():
            rows.set_ctimes(session, outcome.ctimes)
        is_done = any(outcome.state for outcome in outcomes.values())
        journal.end(session, operation.id, "done" if is_done else "undone", left)


def _files(
    root: ManagedRoot, operation: TierOperation, marks: Mapping[int, bytes]
) -> list[_Unfinished]:
    with root.database.transaction(read_only=True) as session:
        found = session.execute(
            sa.select(TierFile, TierVersion)
            .join(TierVersion, TierVersion.id == TierFile.version_id)
            .where(TierFile.id.in_(marks))
        ).all()
    return [
        _Unfinished(
            file_id=file.id,
            action=operation.action,
            step=operation.step,
            mark=stub.decode(marks[file.id]),
            version=version.id,
            size_bytes=version.size_bytes,
            path=file.path,
            identity=Identity(file.filesystem, file.inode, file.generation),
        )
        for file, version in found
    ]


def _resolve(root: ManagedRoot, file: _Unfinished) -> _Outcome:
    descriptor = _find(root, file)
    if descriptor is None:
        identity = file.identity
        if kernel.exists(root.descriptor, identity.inode, identity.generation):
            raise ConflictError("it is not at its place and cannot be opened; it is tried again")
        return _Outcome()
    try:
        is_whole = file.action == "stage" and stub.read(descriptor) is None
        if is_whole or file.step == "filled":  # which was a step of versions before
            return _finish(descriptor, file)
        if file.step == "intended":
            return _undo_mark(descriptor, file)
        return _empty(descriptor, file)
    finally:
        os.close(descriptor)


def _finish(descriptor: int, file: _Unfinished) -> _Outcome:
    ctimes = {}
    # Without the mark it was an ordinary file before the end already, and may have been changed:
    # then its content is to tell what it is.
    if stub.read(descriptor) is not None:
        stub.unmark(descriptor, file.mark)
        ctimes = {file.version: os.fstat(descriptor).st_ctime_ns}
    # 0600: whoever is not root shows it for the moment in which the mark goes.
    elif stat.S_IMODE(os.fstat(descriptor).st_mode) in ((0,) if os.geteuid() == 0 else (0, 0o600)):
        stub.reveal(descriptor, file.mark)
        os.fsync(descriptor)
    return _Outcome(models.BOTH, ctimes)


def _undo_mark(descriptor: int, file: _Unfinished) -> _Outcome:
    if stub.read(descriptor) is not None:
        # Not the times: who wrote to it since then changed them.
        stub.unmark(descriptor, file.mark)
    return _Outcome()


def _empty(descriptor: int, file: _Unfinished) -> _Outcome:
    is_marked = stub.read(descriptor) is not None
    if file.action == "punch" and not is_marked:
        # It was taken back, for the database did not say that the next step was written down.
        return _Outcome()
    if not is_marked or os.fstat(descriptor).st_size != file.size_bytes:
        raise ConflictError("it was changed in the middle of a punch or stage, and is left alone")
    stub.empty(descriptor, file.mark)
    os.fsync(descriptor)
    return _Outcome(models.ARCHIVE)


def _find(root: ManagedRoot, file: _Unfinished) -> int | None:
    """The file, open, wherever below the root it is now; None if it is gone."""
    for path in _places(root, file):
        try:
            descriptor = root.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        if root.identity(descriptor, os.fstat(descriptor)) == file.identity:
            return descriptor
        os.close(descriptor)
    return None


def _places(root: ManagedRoot, file: _Unfinished) -> Iterator[bytes]:
    yield file.path
    for found in walk(root, [b"."], Report()):
        if found.is_file and found.inode == file.identity.inode:
            yield found.path
