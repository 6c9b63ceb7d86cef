"""Carries out one request: every change is in the journal before an executor makes it.

Safe to repeat after a crash: what was written down but perhaps not done is looked at first, then
the tree is gone through again, where what is done already needs no change.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from sqlalchemy import orm

from datamgr import catalog, claims, identity, tasks
from datamgr.db import Database
from datamgr.errors import InvalidError
from datamgr.worker import TaskContext
from pitoolbox import authorise, journal, resolve
from pitoolbox.crew import Crew
from pitoolbox.executor import Answer, Issue, Order, Report, Row, Rows
from pitoolbox.journal import Unapplied
from pitoolbox.requests import Request
from pitoolbox.tally import Tally

ISSUES = 1000  # that are held back until they are written together


def run(context: TaskContext, params: Mapping[str, Any], crew: Crew) -> Mapping[str, Any]:
    """Carry out the request of a task; a preview with the same code changes nothing.

    Raises:
        DatamgrError: it may not or cannot be carried out; nothing more was changed.
        StopTask: it was cancelled or interrupted, between two batches.
    """
    request = Request.from_params(params)
    if request.key != context.task.key:
        raise InvalidError(f"the request is of {request.key} and was queued as {context.task.key}")
    order = _order(context, request)
    crew.begin(order)
    if request.dry_run:
        preview = _Work(context, crew, order)
        preview.carry_out(request)
        return preview.tally.result()
    _recover(context, crew)
    with context.database.transaction(read_only=True) as session:
        earlier = journal.totals(session, context.task.id)
        batch = journal.next_batch(session, context.task.id)
    work = _Work(context, crew, order, batch)
    try:
        work.carry_out(request)
    finally:
        work.write_rest()
    with context.database.transaction(read_only=True) as session:
        totals = journal.totals(session, context.task.id)
    result = work.tally.result(totals, earlier.changed)
    return claims.Partial(result) if totals.issues["failed"] or totals.issues["skipped"] else result


def _order(context: TaskContext, request: Request) -> Order:
    """The order, with roles and names looked up at this moment."""
    uid = identity.uid_of(context.task.owner)
    requester = identity.by_uid(context.settings, uid)
    with context.database.transaction(read_only=True) as session:
        project = catalog.project(session, request.project)
        authorise.require(context.settings, requester, project)
        return resolve.order_of(context.settings, project, request, requester)


def _recover(context: TaskContext, crew: Crew) -> None:
    """Finish the batches of which a worker that died did not say whether they were applied."""
    with context.database.transaction(read_only=True) as session:
        unsure = journal.written_batches(session, context.task.id)
    for batch, rows in unsure:
        context.checkpoint()
        issues: dict[bytes, Issue] = {}

        def collect(report: Report, issues: dict[bytes, Issue] = issues) -> Answer:
            issues.update({issue.path: issue for issue in report.issues})
            return "go"

        crew.restore(rows, "after", collect, written_down=True)
        left = [
            Unapplied(number, issue.kind, issue.reason, touched=issue.kind == "failed")
            for number, row in enumerate(rows)
            if (issue := issues.get(row.path)) is not None
        ]
        with context.database.transaction() as session:
            claims.confirm(session, context.task.id, str(context.task.worker))
            journal.mark_applied(session, context.task.id, batch, rows, left)


@dataclass
class _Work:
    """One run of a request; `report` is called by the threads of the crew."""

    context: TaskContext
    crew: Crew
    order: Order
    next_batch: int = 1
    tally: Tally = field(default_factory=Tally)
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    _flying: dict[int, tuple[int, Sequence[Row]]] = field(default_factory=dict)
    _done: list[tuple[int, Sequence[Row], list[Unapplied]]] = field(default_factory=list)
    _issues: list[Issue] = field(default_factory=list)
    _lost: bool = False

    def carry_out(self, request: Request) -> None:
        """Go through all that the request selects."""
        if request.undo_of is not None:
            for rows in journal.applied_backwards(self._database, request.undo_of):
                self.crew.restore(rows, "before", self.report)
        elif request.retry_of is not None:
            self._retry(request.retry_of)
        else:
            self.crew.change(request.paths, self.report)

    def report(self, report: Report) -> Answer:
        """Count what an executor found, write down what it is about to change."""
        with self._mutex:
            if report.applied is not None:
                self._applied([Unapplied(*told) for told in report.applied])
            self.tally.see(report)
            self._issues.extend(report.issues)
            if self.order.dry_run:
                self.tally.preview(report.rows)
            self._tell()
        if not self.order.dry_run and (report.rows or len(self._issues) >= ISSUES):
            self._write(report.rows)
        return "go"

    def write_rest(self) -> None:
        """Write what is known and not yet written, unless another worker has the task."""
        if not self._lost:
            self._write(Rows([]))

    @property
    def _database(self) -> Database:
        return self.context.database

    def _tell(self) -> None:
        left = self.tally.left
        self.context.progress(
            self.tally.seen,
            None,
            "entries",
            f"{self.tally.changed} changed, {left['skipped']} skipped, {left['failed']} failed",
        )

    def _applied(self, left: list[Unapplied]) -> None:
        batch, rows = self._flying.pop(threading.get_ident())
        self._done.append((batch, rows, left))
        untouched = {unapplied.number for unapplied in left if not unapplied.touched}
        self.tally.change(rows, untouched)
        for unapplied in left:
            path = rows[unapplied.number].path
            self.tally.leave(Issue(path, unapplied.kind, unapplied.reason))

    def _write(self, rows: Rows) -> None:
        """One transaction: earlier batches are done, issues, and the rows that come next."""
        with self._mutex:
            done, self._done = self._done, []
            issues, self._issues = self._issues, []
            batch, self.next_batch = self.next_batch, self.next_batch + bool(rows)
        task = self.context.task
        try:
            with self._database.transaction() as session:
                # Not applied by who has lost the task: another worker may be at it already.
                claims.confirm(session, task.id, str(task.worker))
                for number, applied, left in done:
                    journal.mark_applied(session, task.id, number, applied, left)
                journal.note_issues(session, task.id, issues)
                if rows:
                    journal.write(session, task.id, batch, rows)
        except BaseException:
            self._lost = True
            raise
        if rows:
            with self._mutex:
                self._flying[threading.get_ident()] = (batch, rows)

    def _retry(self, task_id: int) -> None:
        """What failed, to the depth that the request had left at each entry."""
        with self._database.transaction(read_only=True) as session:
            paths = journal.failed_paths(session, task_id)
            selected = _selected(session, task_id)
        depths = sorted((_depth(path, selected), path) for path in paths)
        for depth, group in groupby(depths, key=lambda pair: pair[0]):
            left = max(0, self.order.max_depth - depth)
            self.crew.begin(replace(self.order, max_depth=left))
            self.crew.change([path for _, path in group], self.report)


def _selected(session: orm.Session, task_id: int) -> Sequence[bytes]:
    """The paths that a request selected, or the one did that it retries."""
    request = Request.from_params(tasks.get(session, task_id).params)
    return request.paths if request.retry_of is None else _selected(session, request.retry_of)


def _depth(path: bytes, selected: Sequence[bytes]) -> int:
    """How many levels the path lies below the nearest selected entry."""
    above = [start for start in selected if start == b"." or (path + b"/").startswith(start + b"/")]
    return min((_levels(path) - _levels(start) for start in above), default=0)


def _levels(path: bytes) -> int:
    return 0 if path == b"." else path.count(b"/") + 1
