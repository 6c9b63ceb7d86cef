"""Decides at start-up what a process that died left in the middle: B, G, or a clean stub."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from datamgr.errors import ConflictError, DatamgrError
from tiering import models, put, rows, stage, stub
from tiering.kernel import Identity
from tiering.models import TierContainer, TierFile, TierOperation
from tiering.root import ManagedRoot, Report
from tiering.stub import Mark
from tiering.walk import walk


@dataclass(frozen=True)
class _Unfinished:
    """An operation of which the last step that was begun is known."""

    number: int
    action: str
    step: str
    hide: bool
    mark: Mark
    path: bytes
    identity: Identity


def recover(root: ManagedRoot) -> Report:
    """Bring every file and container of a root to a state; what cannot be is tried next time.

    A container that was not recorded is removed: its files are on disk. A punch that had not
    begun to free blocks is undone, one that had is completed: the copy was verified before. A
    file that was not completely filled becomes a stub again, one that was becomes B.
    """
    report = Report()
    _containers(root, report)
    for operation in _unfinished(root):
        try:
            _resolve(root, operation)
            report.done += 1
        except (DatamgrError, OSError) as error:
            report.fail(operation.path, error)
    return report


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


def _unfinished(root: ManagedRoot) -> list[_Unfinished]:
    with root.database.transaction(read_only=True) as session:
        found = session.execute(
            sa.select(TierOperation, TierFile)
            .join(TierFile, TierFile.id == TierOperation.file_id)
            .where(TierFile.root == root.name, TierOperation.finished_at.is_(None))
            .order_by(TierOperation.id)
        )
        return [
            _Unfinished(
                number=operation.id,
                action=operation.action,
                step=operation.step,
                hide=bool(operation.detail.get("hide")),
                mark=Mark(**json.loads(operation.detail["mark"])),
                path=file.path,
                identity=Identity(file.filesystem, file.inode, file.generation),
            )
            for operation, file in found
        ]


def _resolve(root: ManagedRoot, operation: _Unfinished) -> None:
    descriptor = _find(root, operation)
    if descriptor is None:
        with root.database.transaction() as session:
            rows.end(session, operation.number, "undone")
        return
    try:
        if operation.step == "filled":
            stage.finish(root, descriptor, operation.number, operation.mark)
        elif operation.step == "intended":
            _undo_marks(root, descriptor, operation)
        else:
            _empty(root, descriptor, operation)
    finally:
        os.close(descriptor)


def _undo_marks(root: ManagedRoot, descriptor: int, operation: _Unfinished) -> None:
    if stub.read(descriptor) is not None:
        # Not the times: who wrote to it since then changed them.
        stub.unmark(descriptor, operation.mark)
    with root.database.transaction() as session:
        rows.end(session, operation.number, "undone")


def _empty(root: ManagedRoot, descriptor: int, operation: _Unfinished) -> None:
    if stub.read(descriptor) is None or os.fstat(descriptor).st_size != operation.mark.size:
        raise ConflictError("it was changed in the middle of a punch or stage, and is left alone")
    stub.empty(descriptor, operation.mark)
    step = "done" if operation.action == "punch" else "undone"
    with root.database.transaction() as session:
        rows.end(session, operation.number, step, models.ARCHIVE)


def _find(root: ManagedRoot, operation: _Unfinished) -> int | None:
    """The file, open, wherever below the root it is now; None if it is gone."""
    for path in _places(root, operation):
        try:
            descriptor = root.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            continue
        if root.identity(descriptor, os.fstat(descriptor)) == operation.identity:
            return descriptor
        os.close(descriptor)
    return None


def _places(root: ManagedRoot, operation: _Unfinished) -> Iterator[bytes]:
    yield operation.path
    for found in walk(root, [b"."], Report()):
        if found.is_file and _inode(root, found.path) == operation.identity.inode:
            yield found.path


def _inode(root: ManagedRoot, path: bytes) -> int | None:
    try:
        descriptor = root.open(path, os.O_PATH | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return os.fstat(descriptor).st_ino
    finally:
        os.close(descriptor)
