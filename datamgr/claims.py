"""What workers do to the rows of the queue: claim, keep, end, give back and recover them.

The right to run a task is a session-level advisory lock on the worker's own connection. It goes
when the process dies and stays while it is merely paused, which no lease time can tell apart.
Writes compare and set on task, worker and state: who has lost a task cannot write to it.
"""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import tasks
from datamgr.errors import ConflictError
from datamgr.tasks import HELD, UNFINISHED, Progress, State, Task

MAX_ATTEMPTS = 5

_RUN_LOCK = 0x7461736B  # "task" in ASCII: advisory locks of (this, a task's id)


class Partial(dict[str, Any]):
    """The result of a handler that could not do all of its work; the task ends as `partial`."""


def claim(
    session: orm.Session, worker: str, kinds: Collection[str], *, fair: bool = False
) -> Task | None:
    """Make the oldest claimable task of these kinds this worker's; None when there is none.

    `fair`: take the keys in turn instead, first the one that was served longest ago.

    A task is claimable when no earlier one of its key is unfinished. The session's connection
    takes the lock before the claim is committed and holds it until `unlock` or its own end, so
    that a running task of a live worker is never seen without its lock.
    """
    skipped: list[int] = []
    while (task := _first_claimable(session, kinds, skipped, fair=fair)) is not None:
        if session.scalar(sa.select(sa.func.pg_try_advisory_lock(*_run_lock(task.id)))):
            task.state, task.worker, task.progress = State.RUNNING, worker, None
            task.started_at = task.heartbeat_at = tasks.now(session)
            session.flush()
            return task
        # Its last worker has committed its release and is about to unlock.
        skipped.append(task.id)
    return None


def unlock(session: orm.Session) -> None:
    """Give up the lock of the task that this connection ran, once its end is committed."""
    session.execute(sa.select(sa.func.pg_advisory_unlock_all()))


def heartbeat(session: orm.Session, task_id: int, worker: str, progress: Progress | None) -> State:
    """Note that the worker lives and how far it is; says whether to go on or to cancel.

    Raises:
        ConflictError: the task is no longer this worker's.
    """
    values: dict[str, Any] = {"heartbeat_at": sa.func.now()}
    if progress is not None:
        shown = {"unit": _storable(progress.unit), "message": _storable(progress.message)}
        values["progress"] = asdict(progress) | shown
    return State(_set_own(session, task_id, worker, values).state)


def confirm(session: orm.Session, task_id: int, worker: str) -> None:
    """Be sure that a task is this worker's, until the end of the session's transaction.

    Raises:
        ConflictError: the task is no longer this worker's.
    """
    own = sa.select(Task.id).where(Task.id == task_id, Task.worker == worker, Task.state.in_(HELD))
    if session.scalar(own.with_for_update(read=True)) is None:
        raise ConflictError(f"task {task_id} is no longer run by worker {worker}")


def finish(session: orm.Session, task_id: int, worker: str, result: Mapping[str, Any]) -> Task:
    """End a task well: `partial` if the result is a `Partial`, else `succeeded`.

    So it ends too when it was done before it noticed that it was cancelled.

    Raises:
        ConflictError: the task is no longer this worker's.
        InvalidError: the result is no JSON.
    """
    state = State.PARTIAL if isinstance(result, Partial) else State.SUCCEEDED
    checked = tasks.checked_json(result, "the result")
    return _end_own(session, task_id, worker, state, result=checked)


def fail(session: orm.Session, task_id: int, worker: str, error: str) -> Task:
    """End a task with the sentence that says what went wrong.

    Raises:
        ConflictError: the task is no longer this worker's.
    """
    return _end_own(session, task_id, worker, State.FAILED, error=_storable(error))


def confirm_cancel(session: orm.Session, task_id: int, worker: str) -> Task:
    """End a task whose handler has stopped because it was cancelled.

    Raises:
        ConflictError: the task is no longer this worker's.
    """
    return _end_own(session, task_id, worker, State.CANCELLED)


def release(session: orm.Session, task_id: int, worker: str) -> Task:
    """Put a task back in its place, because its worker was asked to stop.

    Raises:
        ConflictError: the task is no longer this worker's.
    """
    task = _set_own(session, task_id, worker, {"heartbeat_at": sa.func.now()})
    _put_back(session, task)
    return task


def recover(
    session: orm.Session, *, silent_s: float, max_attempts: int = MAX_ATTEMPTS
) -> list[Task]:
    """Take back the tasks whose worker died: queued again, cancelled, or failed for good.

    A worker is dead when the lock of its task is free. One that lived on and lost only its
    connection needs a moment to notice, so its heartbeat must also be `silent_s` old. Not to
    be called on a connection that runs a task: to itself, a lock always looks free.
    """
    silent = Task.heartbeat_at < sa.func.now() - timedelta(seconds=silent_s)
    candidates = session.scalars(
        sa.select(Task)
        .where(Task.state.in_(HELD), silent)
        .order_by(Task.id)
        .with_for_update(skip_locked=True)
    ).all()
    orphans = [
        task
        for task in candidates
        if session.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(*_run_lock(task.id))))
    ]
    for task in orphans:
        task.attempts += 1
        if task.state == State.RUNNING and task.attempts >= max_attempts:
            task.state, task.finished_at = State.FAILED, tasks.now(session)
            task.error = f"its worker died {task.attempts} times"
            session.flush()
            tasks.wake(session)
        else:
            _put_back(session, task)
    return orphans


def _first_claimable(
    session: orm.Session, kinds: Collection[str], skipped: Collection[int], *, fair: bool
) -> Task | None:
    """The oldest queued task behind no unfinished one, or that of the key whose turn it is, locked.

    Only the candidate is read afresh under its lock, the earlier tasks are seen as they were
    when the query began. That suffices: what is finished stays finished, and `tasks.submit`
    lets nothing appear in front of a task.
    """
    earlier = orm.aliased(Task)
    blocked = sa.exists().where(
        earlier.key == Task.key, earlier.id < Task.id, earlier.state.in_(UNFINISHED)
    )
    served = orm.aliased(Task)
    last_served = (
        sa.select(sa.func.max(served.started_at)).where(served.key == Task.key).scalar_subquery()
    )
    return session.scalar(
        sa.select(Task)
        .where(Task.state == State.QUEUED, Task.kind.in_(kinds), Task.id.not_in(skipped), ~blocked)
        .order_by(*((last_served.nulls_first(),) if fair else ()), Task.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )


def _end_own(
    session: orm.Session, task_id: int, worker: str, state: State, **values: object
) -> Task:
    ended = {"state": state, "finished_at": sa.func.now(), "heartbeat_at": sa.func.now()}
    task = _set_own(session, task_id, worker, ended | values)
    tasks.wake(session)
    return task


def _set_own(session: orm.Session, task_id: int, worker: str, values: Mapping[str, Any]) -> Task:
    """Change a running task if it is still this worker's."""
    task = session.scalar(
        sa.update(Task)
        .where(Task.id == task_id, Task.worker == worker, Task.state.in_(HELD))
        .values(**values)
        .returning(Task)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    if task is None:
        raise ConflictError(f"task {task_id} is no longer run by worker {worker}")
    return task


def _put_back(session: orm.Session, task: Task) -> None:
    if task.state == State.CANCELLING:
        task.state, task.finished_at = State.CANCELLED, tasks.now(session)
    else:
        task.state, task.worker, task.started_at = State.QUEUED, None, None
    session.flush()
    tasks.wake(session)


def _run_lock(task_id: int) -> tuple[int, int]:
    # The second half has 32 bits; two ids that share it would only wait for each other.
    return _RUN_LOCK, task_id & 0x7FFFFFFF


def _storable(text: str) -> str:
    """The text as a column can hold it: file names in messages may have surrogates or NUL."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", r"\x00")
