"""Requests into the queue: submitted, taken back, tried again, cancelled.

Each checks the caller's right, refuses early what can be seen to be wrong, and is audited in
the transaction of the session; the caller commits.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import audit, catalog, tasks
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.errors import ConflictError, InvalidError, NotFoundError
from datamgr.identity import Caller
from datamgr.tasks import State, Task
from pitoolbox import authorise, resolve
from pitoolbox import paths as below
from pitoolbox.models import FAILED, PermChange, PermIssue
from pitoolbox.requests import KIND, Request


def select(
    session: orm.Session,
    settings: Settings,
    caller: Caller,
    project_name: str,
    given: Sequence[bytes],
) -> tuple[bytes, ...]:
    """The paths of a request, each once: what somebody names absolutely or below the project.

    Raises:
        NotFoundError: there is no such project.
        ForbiddenError: the caller does not act for it.
        InvalidError: a path is empty, or outside, or goes up.
    """
    project = catalog.project(session, project_name)
    authorise.require(settings, caller, project)
    return resolve.relative_paths(project, given)


def submit(session: orm.Session, settings: Settings, caller: Caller, request: Request) -> Task:
    """Queue a request, or its preview, behind all others of the project.

    Raises:
        ForbiddenError: the caller does not act for the project, or may not do this to it.
        NotFoundError: there is no such project, group, account or path.
        InvalidError: the request makes no sense for this project.
    """
    project = catalog.project(session, request.project)
    authorise.require(settings, caller, project)
    resolve.order_of(settings, project, request, caller)
    if len(request.paths) > settings.pitoolbox.max_paths:
        raise InvalidError(
            f"{len(request.paths)} paths are too many for one request; at most "
            f"{settings.pitoolbox.max_paths} go, a directory with --recursive is one"
        )
    for path in request.paths:
        below.look(project.path, path)
    return _queue(session, caller, request)


def undo(
    session: orm.Session,
    settings: Settings,
    caller: Caller,
    task_id: int,
    **how: Any,
) -> Task:
    """Queue the undo of a request: what it changed becomes as before, unless changed since.

    `how`: fields of the new request: `client`, `notify`, `dry_run`, `override`.

    Raises:
        NotFoundError: there is no such request.
        ForbiddenError: the caller does not act for its project.
        ConflictError: it has not ended, or is being undone.
        InvalidError: it changed nothing.
    """
    earlier, project = _ended(session, settings, caller, task_id, "undone")
    if not session.scalar(sa.select(sa.exists().where(PermChange.task_id == task_id))):
        raise InvalidError(f"request {task_id} changed nothing, so there is nothing to undo")
    running = session.scalar(
        sa.select(Task.id).where(
            Task.key == earlier.key,
            Task.state.in_(tasks.UNFINISHED),
            Task.params["undo_of"].astext == str(task_id),
            Task.params["dry_run"].astext == "false",
        )
    )
    if running is not None:
        raise ConflictError(f"request {task_id} is being undone already, by request {running}")
    request = replace(
        Request.from_params(earlier.params),
        paths=(), undo_of=task_id, retry_of=None, recursive=False, max_depth=None, only=None,
        **({"override": False, "dry_run": False, "confirms": None} | how),
    )  # fmt: skip
    resolve.order_of(settings, project, request, caller)
    return _queue(session, caller, request)


def retry(
    session: orm.Session,
    settings: Settings,
    caller: Caller,
    task_id: int,
    **how: Any,
) -> Task:
    """Queue a request again for those entries alone that failed.

    `how`: fields of the new request: `client`, `notify`, `dry_run`, `override`.

    Raises:
        NotFoundError, ForbiddenError: as `undo`.
        ConflictError: it has not ended.
        InvalidError: nothing failed in it, or it is an undo.
    """
    earlier, project = _ended(session, settings, caller, task_id, "retried")
    request = Request.from_params(earlier.params)
    if request.undo_of is not None:
        raise InvalidError(
            f"request {task_id} is an undo; `datamgr perms undo {request.undo_of}` again takes "
            "back what is left"
        )
    failed = sa.exists().where(PermIssue.task_id == task_id, PermIssue.kind == FAILED)
    if not session.scalar(sa.select(failed)):
        raise InvalidError(f"nothing failed in request {task_id}, so there is nothing to retry")
    again = replace(
        request,
        paths=(), retry_of=task_id,
        **({"override": False, "dry_run": False, "confirms": None} | how),
    )  # fmt: skip
    resolve.order_of(settings, project, again, caller)
    return _queue(session, caller, again)


def confirm(
    session: orm.Session, settings: Settings, caller: Caller, task_id: int, **how: Any
) -> Task:
    """Queue what a preview is of; asked again, the request that there is already.

    A preview that has not ended is cancelled, if the caller may, for it is not waited for.
    `how`: fields of the new request: `client`, `notify`.

    Raises:
        NotFoundError: there is no such preview.
        ForbiddenError: the caller does not act for its project, or may not do this to it.
        InvalidError: it is no preview, or makes no sense any more.
    """
    # Two clicks wait for each other here, and the second one finds what the first one made.
    session.execute(sa.select(Task.id).where(Task.id == task_id).with_for_update())
    preview = existing(session, task_id)
    request = Request.from_params(preview.params)
    authorise.require(settings, caller, catalog.project(session, request.project))
    if not request.dry_run:
        raise InvalidError(f"request {task_id} is no preview, so there is nothing to confirm")
    confirmed = sa.select(Task).where(
        Task.key == preview.key, Task.params["confirms"].astext == str(task_id)
    )
    found = session.scalar(confirmed)
    if found is not None:
        return found
    if not preview.is_finished and (preview.owner == caller.username or caller.is_staff):
        cancel(session, caller, task_id, client=how.get("client"))
    how |= {"override": request.override, "confirms": task_id}
    if request.undo_of is not None:
        return undo(session, settings, caller, request.undo_of, **how)
    if request.retry_of is not None:
        return retry(session, settings, caller, request.retry_of, **how)
    return submit(session, settings, caller, replace(request, dry_run=False, **how))


def cancel(
    session: orm.Session, caller: Caller, task_id: int, *, client: str | None = None
) -> Task:
    """Cancel a queued request at once; a running one stops before its next batch.

    Raises:
        NotFoundError: there is no such request.
        ForbiddenError: the caller is neither its requester nor staff.
        ConflictError: it has ended.
    """
    existing(session, task_id)
    cancelled = tasks.cancel(session, caller, task_id)
    audit.record(session, caller, "perms.cancel", f"request {task_id}", {"client": client})
    return cancelled


def existing(session: orm.Session, task_id: int) -> Task:
    """The task of a request.

    Raises:
        NotFoundError: there is none, or it is another kind of task.
    """
    try:
        found = tasks.get(session, task_id)
    except NotFoundError:
        found = None
    if found is None or found.kind != KIND:
        raise NotFoundError(
            f"there is no permission request {task_id}; `datamgr perms list` names them"
        )
    return found


def _ended(
    session: orm.Session, settings: Settings, caller: Caller, task_id: int, verb: str
) -> tuple[Task, Project]:
    """A request that can be followed up, with its project."""
    earlier = existing(session, task_id)
    request = Request.from_params(earlier.params)
    project = catalog.project(session, request.project)
    authorise.require(settings, caller, project)
    if request.dry_run:
        raise InvalidError(f"request {task_id} is a preview, which cannot be {verb}")
    if not earlier.is_finished:
        raise ConflictError(
            f"request {task_id} cannot be {verb} yet: it is {earlier.state}; wait for its end, or "
            f"stop it by `datamgr perms cancel {task_id}`"
        )
    if earlier.state == State.CANCELLED and earlier.started_at is None:
        raise InvalidError(f"request {task_id} was cancelled before it began")
    return earlier, project


def _queue(session: orm.Session, caller: Caller, request: Request) -> Task:
    params = request.to_params()
    task = tasks.submit(session, caller, KIND, request.key, params)
    if request.dry_run:
        action = "perms.preview"
    elif request.undo_of is not None:
        action = "perms.undo"
    else:
        action = "perms.submit" if request.retry_of is None else "perms.retry"
    audit.record(session, caller, action, f"request {task.id}", params)
    return task
