"""What is known of requests: lists, one with its result, the entries that were left alone."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import catalog, tasks
from datamgr.config import Settings
from datamgr.display import Row
from datamgr.errors import ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller
from datamgr.tasks import State, Task
from pitoolbox import authorise, submission
from pitoolbox.models import PermIssue
from pitoolbox.requests import KIND, WORKER_LOCK, Request, key_of

COUNTS = ("seen", "changed", "unchanged", "skipped", "failed", "vanished")


def list_requests(
    session: orm.Session,
    settings: Settings,
    caller: Caller,
    *,
    project: str | None = None,
    states: Collection[State] = tuple(State),
    before: int | None = None,
    limit: int = 100,
) -> list[dict[str, Any]]:
    """The newest requests that the caller may see, newest first.

    Those are the caller's own and those of the projects that the caller acts for. `before`: only
    such with smaller numbers.

    Raises:
        NotFoundError: there is no such project.
        ForbiddenError: the caller does not act for the project.
    """
    wanted = sa.select(Task).where(Task.kind == KIND, Task.state.in_(states))
    if project is not None:
        authorise.require(settings, caller, catalog.project(session, project))
        wanted = wanted.where(Task.key == key_of(project))
    elif not caller.is_staff:
        keys = [key_of(found.name) for found in authorise.projects(session, settings, caller)]
        wanted = wanted.where(sa.or_(Task.key.in_(keys), Task.owner == caller.username))
    if before is not None:
        wanted = wanted.where(Task.id < before)
    rows = []
    for task in session.scalars(wanted.order_by(Task.id.desc()).limit(limit)):
        # What was queued past `submission` and makes no sense must not hide all the others.
        with suppress(InvalidError):
            request = Request.from_params(task.params)
            if request.key == task.key:
                rows.append(listed(task, request))
    return rows


def show(session: orm.Session, settings: Settings, caller: Caller, task_id: int) -> dict[str, Any]:
    """Everything about one request.

    `ahead`: unfinished requests of the project that come before it. `undone_by`, `retried_by`:
    the requests that followed it up.

    Raises:
        NotFoundError: there is no such request.
        ForbiddenError: it is neither the caller's nor of a project that the caller acts for.
    """
    task, request = visible(session, settings, caller, task_id)
    earlier = sa.select(sa.func.count()).where(
        Task.key == task.key, Task.id < task.id, Task.state.in_(tasks.UNFINISHED)
    )
    return listed(task, request) | {
        "paths": list(request.paths),
        "max_depth": request.max_depth,
        "only": request.only,
        "notify": request.notify,
        "ahead": 0 if task.is_finished else session.scalar(earlier),
        "undone_by": _follow_ups(session, task, "undo_of"),
        "retried_by": _follow_ups(session, task, "retry_of"),
        "result": task.result,
    }


def visible(
    session: orm.Session, settings: Settings, caller: Caller, task_id: int
) -> tuple[Task, Request]:
    """A request that the caller may see, with its task.

    Raises:
        NotFoundError, ForbiddenError: as `show`.
    """
    task = submission.existing(session, task_id)
    request = Request.from_params(task.params)
    if caller.is_staff or task.owner == caller.username:
        return task, request
    try:
        project = catalog.project(session, request.project)
    except NotFoundError:
        project = None
    if project is None or not authorise.acts_for(settings, caller, project):
        raise ForbiddenError(
            f"{caller.username} may not see request {task_id}: it is of project {request.project}"
        )
    return task, request


def issues(session: orm.Session, task_id: int, kinds: Collection[str] = ()) -> Iterator[Row]:
    """Path, kind and reason of each entry that a request left as it is, in the order of paths.

    Whether the caller may see the request is for `visible` to say. They come as they are read.
    """
    wanted = sa.select(PermIssue.path, PermIssue.kind, PermIssue.reason).where(
        PermIssue.task_id == task_id
    )
    if kinds:
        wanted = wanted.where(PermIssue.kind.in_(kinds))
    found = session.execute(wanted.order_by(PermIssue.path), execution_options={"yield_per": 1000})
    for path, kind, reason in found:
        yield {"path": bytes(path), "kind": kind, "reason": reason}


def confirmed_by(session: orm.Session, task_id: int) -> int | None:
    """The request by which somebody carried out what this preview shows."""
    preview = submission.existing(session, task_id)
    return next(iter(_follow_ups(session, preview, "confirms")), None)


def entries_expected(session: orm.Session, task_id: int) -> int | None:
    """How many entries a request will see, as its preview did; None where that is not known."""
    request = Request.from_params(submission.existing(session, task_id).params)
    if request.confirms is None:
        return None
    previewed = submission.existing(session, request.confirms).result
    return None if previewed is None else int(previewed["seen"])


def worker_runs(session: orm.Session) -> bool:
    """Whether somebody carries out requests now: the lock of the one worker is held."""
    return bool(session.scalar(sa.text(_WORKER), {"low": WORKER_LOCK}))


# Source: PostgreSQL, "pg_locks": a key of 64 bits is classid and objid, and objsubid is 1.
_WORKER = """
SELECT EXISTS (
    SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE locktype = 'advisory' AND datname = current_database()
        AND classid = 0 AND objid = :low AND objsubid = 1 AND granted
)
"""


def listed(task: Task, request: Request) -> dict[str, Any]:
    """The row of a request in a list."""
    result = task.result or {}
    return {
        "id": task.id,
        "project": request.project,
        "action": str(request.action),
        "dry_run": request.dry_run,
        "undo_of": request.undo_of,
        "retry_of": request.retry_of,
        "path_count": len(request.paths),
        "recursive": request.recursive,
        "override": request.override,
        "requester": task.owner,
        "client": request.client,
        "state": task.state,
        "progress": task.progress,
        **{name: result.get(name) for name in COUNTS},
        "error": task.error,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
    }


def _follow_ups(session: orm.Session, task: Task, field: str) -> list[int]:
    followed = Task.params[field].astext == str(task.id)
    wanted = sa.select(Task.id).where(Task.key == task.key, Task.id > task.id, followed)
    return list(session.scalars(wanted.order_by(Task.id)))
