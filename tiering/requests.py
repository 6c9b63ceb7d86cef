"""What is asked of a managed root: an action and paths, as a task of the one queue."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import audit, tasks, units
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller
from datamgr.tasks import State, Task
from tiering.models import TierFailure, TierOperation, TierRequestPath
from tiering.questions import MAX_PATHS, UPKEEP, Action
from tiering.request import Request

KIND = "tier"
MAX_PATH_BYTES = 4096
MAX_WAITING = 500  # requests of one account


# Those that change nothing else wait behind each other and not behind hours of copying.
_COPYING = (Action.PUT, Action.PUNCH)


def submit(
    session: orm.Session,
    caller: Caller,
    request: Request,
    paths: Sequence[bytes],
    *,
    client: str | None = None,
) -> Task:
    """Queue a request in the name of the caller; the paths are relative to the root.

    `client`: by what it came, where that is not `ghi`, for the audit.

    Raises:
        InvalidError: there are no paths, too many, or one that leads elsewhere.
        ForbiddenError: it is for those who run the root.
        ConflictError: too many of the caller's wait.
    """
    if not 1 <= len(paths) <= MAX_PATHS:
        raise InvalidError(f"a request has from 1 to {MAX_PATHS} paths, not {len(paths)}")
    runs_it = caller.is_staff or caller.uid == os.geteuid()
    if request.action in UPKEEP and not runs_it:
        raise ForbiddenError(f"{request.action} is for staff")
    waiting = tasks.list_tasks(
        session, states=tasks.UNFINISHED, kind=KIND, owner=caller.username, limit=MAX_WAITING
    )
    if len(waiting) == MAX_WAITING:
        raise ConflictError(f"{MAX_WAITING} requests of yours wait already; let some end first")
    makes_stubs = request.action is Action.PUNCH or request.punch
    if makes_stubs and not request.unguarded:
        raise InvalidError(
            "nothing guards stubs yet: root reads zeros from them; punch with --unguarded, "
            "which takes all permissions from stubs, so that no other account can read them"
        )
    if request.action is Action.PIN and request.until is None:
        raise InvalidError("a pin needs a time until when it holds")
    if request.until is not None and request.until <= datetime.now(UTC):
        raise InvalidError(
            f"{units.format_time(request.until)} has passed; a pin needs a time to come"
        )
    cleaned = [clean(path) for path in paths]
    lane = "copy" if request.action in _COPYING else "other"
    key = f"tier:{request.root}:{caller.username}:{lane}"
    task = tasks.submit(session, caller, KIND, key, request.model_dump(mode="json"))
    session.execute(
        sa.insert(TierRequestPath),
        [
            {"task_id": task.id, "position": number, "path": path}
            for number, path in enumerate(cleaned)
        ],
    )
    detail: dict[str, Any] = {
        "root": request.root,
        "paths": len(paths),
        "first": os.fsdecode(cleaned[0]).encode(errors="replace").decode(),
        "recursive": request.recursive,
    }
    if client is not None:
        detail["client"] = client
    audit.record(session, caller, f"tier.{request.action}", f"task {task.id}", detail)
    return task


def clean(path: bytes) -> bytes:
    """A path below a root, in its one form.

    Raises:
        InvalidError: it leads out, or can be no path.
    """
    if not path or path.startswith(b"/") or b"\0" in path or len(path) > MAX_PATH_BYTES:
        raise InvalidError(f"{path[:200]!r} is no path below a managed root")
    normal = os.path.normpath(path)
    if normal == b".." or normal.startswith(b"../"):
        raise InvalidError(f"{path[:200]!r} leads out of the managed root")
    return normal


def paths_of(session: orm.Session, task_id: int) -> list[bytes]:
    """What a request is about."""
    wanted = sa.select(TierRequestPath.path).where(TierRequestPath.task_id == task_id)
    return list(session.scalars(wanted.order_by(TierRequestPath.position)))


def show(
    session: orm.Session, caller: Caller, task_id: int, *, failures: int = 1000
) -> dict[str, Any]:
    """A request, with at most so many of its failures.

    Raises:
        NotFoundError: there is no such request.
        ForbiddenError: it is somebody else's.
    """
    row = _row(session, _own(session, caller, task_id))
    wanted = sa.select(TierFailure).where(TierFailure.task_id == task_id)
    found = session.scalars(wanted.order_by(TierFailure.id).limit(failures)) if failures else ()
    row["failures"] = [{"path": failure.path, "reason": failure.reason} for failure in found]
    return row


def list_requests(
    session: orm.Session,
    caller: Caller,
    *,
    states: Sequence[State],
    limit: int,
    ended_within: timedelta | None = None,
) -> list[dict[str, Any]]:
    """The newest requests of the caller, of everybody for staff."""
    owner = None if caller.is_staff else caller.username
    found = tasks.list_tasks(
        session, states=states, kind=KIND, owner=owner, ended_within=ended_within, limit=limit
    )
    return [_row(session, task) for task in found]


def recalls(session: orm.Session, caller: Caller) -> dict[str, Any]:
    """Who waits for files to come back to disk, of the caller alone but for staff.

    `waiting` and `running` requests, of how many `accounts`, and when the `oldest` was asked.
    """
    queued = Task.state == State.QUEUED
    wanted = sa.select(
        sa.func.count().filter(queued).label("waiting"),
        sa.func.count().filter(sa.not_(queued)).label("running"),
        sa.func.count(sa.distinct(Task.owner)).label("accounts"),
        sa.func.min(Task.created_at).label("oldest"),
    ).where(
        Task.kind == KIND,
        Task.state.in_(tasks.UNFINISHED),
        Task.params["action"].astext == Action.STAGE,
    )
    if not caller.is_staff:
        wanted = wanted.where(Task.owner == caller.username)
    return dict(session.execute(wanted).mappings().one())


def cancel(session: orm.Session, caller: Caller, task_id: int) -> dict[str, Any]:
    """Cancel a queued request, or ask a running one to stop between two files.

    Raises:
        NotFoundError: there is no such request.
        ForbiddenError: it is somebody else's.
        ConflictError: it has ended.
    """
    _own(session, caller, task_id)
    return _row(session, tasks.cancel(session, caller, task_id))


def forget(session: orm.Session, root: str, older_than: timedelta) -> int:
    """Remove requests about a root that ended so long ago, with their paths and failures, and the
    steps in the journal that were completed then; the number of requests."""
    limit = sa.func.now() - older_than
    session.execute(
        sa.delete(TierOperation).where(
            TierOperation.finished_at < limit, TierOperation.root == root
        )
    )
    gone = session.execute(
        sa.delete(Task)
        .where(
            Task.kind == KIND,
            Task.params["root"].astext == root,
            Task.state.not_in(tasks.UNFINISHED),
            Task.finished_at < limit,
        )
        .returning(Task.id)
    )
    return len(gone.all())


def ahead(session: orm.Session, task_id: int) -> int:
    """How many earlier requests a waiting one waits for."""
    this, earlier = orm.aliased(Task), orm.aliased(Task)
    wanted = sa.select(sa.func.count()).select_from(this).join(earlier, earlier.key == this.key)
    wanted = wanted.where(
        this.id == task_id, earlier.id < this.id, earlier.state.in_(tasks.UNFINISHED)
    )
    return session.scalar(wanted) or 0


def _own(session: orm.Session, caller: Caller, task_id: int) -> Task:
    try:
        task = tasks.get(session, task_id)
    except NotFoundError:
        task = None
    if task is None or task.kind != KIND:
        raise NotFoundError(f"there is no request {task_id}; `ghi status --all` names them")
    if task.owner != caller.username and not caller.is_staff:
        raise ForbiddenError(f"request {task_id} belongs to somebody else")
    return task


_PATHS = sa.text(
    """
    SELECT count(*), (SELECT path FROM tier_request_path WHERE task_id = :task AND position = 0)
    FROM tier_request_path WHERE task_id = :task
    """
)


def _row(session: orm.Session, task: Task) -> dict[str, Any]:
    number, first = session.execute(_PATHS, {"task": task.id}).one()
    params: Mapping[str, Any] = task.params
    return {
        "id": task.id,
        "root": params["root"],
        "action": params["action"],
        "recursive": params["recursive"],
        "punch": params["punch"],
        "owner": task.owner,
        "paths": number,
        "first_path": None if first is None else bytes(first),
        "state": task.state,
        "progress": task.progress,
        "result": task.result,
        "error": task.error,
        "created_at": task.created_at,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
    }
