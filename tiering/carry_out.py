"""Carries a request out: as the handler of its task, with the rights of its owner."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa

from datamgr import identity
from datamgr.claims import Partial
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import InvalidError, NotFoundError
from datamgr.identity import Caller
from datamgr.worker import TaskContext
from tiering import pins, rights, sizes, trash, upkeep
from tiering.models import TierFailure
from tiering.punch import punch
from tiering.put import put
from tiering.questions import UPKEEP, Action
from tiering.request import Request
from tiering.requests import paths_of
from tiering.root import ManagedRoot, Report
from tiering.sizes import Size
from tiering.stage import stage
from tiering.verify import verify
from tiering.walk import walk

_WATCH_S = 0.2


@dataclass(frozen=True)
class _Work:
    """A request and for whom it is."""

    root: ManagedRoot
    request: Request
    caller: Caller
    report: Report
    phase: Callable[[str], None]


def run(
    context: TaskContext, params: Mapping[str, Any], *, roots: Mapping[str, ManagedRoot]
) -> Mapping[str, Any]:
    """The handler of tasks of the kind `tier`; what was done already is found as unchanged.

    Raises:
        NotFoundError: the root, or the account of the owner, is no longer there.
    """
    request = Request.model_validate(params)
    if request.root not in roots:
        raise NotFoundError(f"there is no managed root {request.root!r} any more")
    task_id = context.task.id
    with context.database.transaction() as session:
        session.execute(sa.delete(TierFailure).where(TierFailure.task_id == task_id))
        paths = paths_of(session, task_id)
    root, caller = _for_owner(context.settings, context.database, roots[request.root], context)
    report = Report()
    is_recursive = request.recursive and request.action not in UPKEEP
    size = sizes.measure(root, paths, recursive=is_recursive, stage=request.action is Action.STAGE)
    progress = _Progress(context, report, size)
    report.watch = progress.watch
    began = time.monotonic()
    told: dict[str, Any] = {}
    try:
        if request.action in UPKEEP:
            told = upkeep.do(root, request, paths, report)
        else:
            _act(_Work(root, request, caller, report, progress.begin), paths)
    finally:
        _keep_failures(context.database, task_id, report)
    result = {
        "files": report.done,
        "bytes": report.done_bytes,
        "unchanged": report.unchanged,
        "failed": len(report.failures),
        "seconds": round(time.monotonic() - began, 3),
        **told,
    }
    return Partial(result) if report.failures else result


def _for_owner(
    settings: Settings, database: Database, root: ManagedRoot, context: TaskContext
) -> tuple[ManagedRoot, Caller]:
    """The root as the owner of the task may use it."""
    caller = identity.by_uid(settings, identity.uid_of(context.task.owner))
    if caller.is_staff:
        return root, caller
    with database.transaction(read_only=True) as session:
        return replace(root, rights=rights.of(session, caller, root)), caller


def _act(work: _Work, paths: Sequence[bytes]) -> None:
    root, request, report = work.root, work.request, work.report
    work.phase(str(request.action))
    match request.action:
        case Action.PUT:
            put(root, paths, report, recursive=request.recursive)
            if request.punch:
                work.phase("punch")
                freed = Report(watch=report.watch)
                punch(root, _files(work, paths), freed)
                report.failures += _not_failed_before(report, freed)
        case Action.STAGE:
            stage(root, paths, report, recursive=request.recursive)
        case Action.PUNCH:
            punch(root, _files(work, paths), report)
        case Action.PIN:
            if request.until is None:
                raise InvalidError("a pin needs a time until when it holds")
            pins.pin(root, _files(work, paths), report, work.caller, request.until)
        case Action.UNPIN:
            pins.unpin(root, _files(work, paths), report)
        case Action.LOCK:
            pins.lock(root, _files(work, paths), report, work.caller)
        case Action.UNLOCK:
            pins.unlock(root, _files(work, paths), report)
        case Action.VERIFY:
            verify(root, paths, report, recursive=request.recursive)
        case Action.UNDELETE:
            trash.undelete(root, paths, report, recursive=request.recursive)


def _files(work: _Work, paths: Iterable[bytes]) -> Iterable[bytes]:
    """The files at and below the paths; what cannot be listed was said when it was put."""
    report = work.report
    found = walk(work.root, paths, report, recursive=work.request.recursive)
    return (one.path for one in found if one.is_file)


def _not_failed_before(report: Report, later: Report) -> list[Any]:
    said = {failure.path for failure in report.failures}
    return [failure for failure in later.failures if failure.path not in said]


@dataclass
class _Progress:
    """Tells how far a request is, now and then, and stops it when it is to stop."""

    context: TaskContext
    report: Report
    size: Size
    message: str = ""
    next_at: float = 0.0

    def begin(self, message: str) -> None:
        """The next phase of the work."""
        self.message = message

    def watch(self) -> None:
        """As `Report.watch`."""
        now = time.monotonic()
        if now < self.next_at:
            return
        self.next_at = now + _WATCH_S
        report = self.report
        done = report.done + report.unchanged + len(report.failures)
        total = self.size.total
        of = f" of {total.files}" if total is not None and total.files >= done else ""
        self.context.progress(
            report.done_bytes,
            None if total is None else max(total.bytes, report.done_bytes),
            "B",
            f"{self.message}: {done}{of} files",
        )


def _keep_failures(database: Database, task_id: int, report: Report) -> None:
    if not report.failures:
        return
    with database.transaction() as session:
        session.execute(
            sa.insert(TierFailure),
            [
                {"task_id": task_id, "path": failure.path, "reason": failure.reason}
                for failure in report.failures
            ],
        )
