"""The one queue: long work as rows of `task`, strictly first-in-first-out per key.

This is what submits, shows and cancels; what workers do to the rows is `datamgr.claims`.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.dialects import postgresql

from datamgr import audit, units
from datamgr.db import Base
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller

CHANNEL = "task"  # notified whenever a task may have become claimable

_KEY_LOCK = 0x6B657973  # "keys" in ASCII: advisory locks of (this, hash of a key)


class State(StrEnum):
    """Where a task is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    PARTIAL = "partial"
    FAILED = "failed"
    CANCELLED = "cancelled"


HELD = (State.RUNNING, State.CANCELLING)
UNFINISHED = (State.QUEUED, *HELD)


def _state_in(states: Collection[State]) -> str:
    return f"state IN ({', '.join(repr(str(state)) for state in states)})"


class Task(Base):
    """A piece of work. Within a key, ids are the order of commitment and of execution.

    `attempts` counts the workers that died while they ran it; `worker` and `started_at` are of
    the latest run.
    """

    __tablename__ = "task"
    __table_args__ = (
        sa.CheckConstraint(_state_in(list(State)), name="state"),
        sa.Index("ix_task_key_started_at", "key", "started_at"),
        sa.Index("ix_task_owner_id", "owner", "id"),
        sa.Index("ix_task_queued", "id", postgresql_where=sa.text("state = 'queued'")),
        sa.Index(
            "ix_task_unfinished", "key", "id", postgresql_where=sa.text(_state_in(UNFINISHED))
        ),
    )

    id: orm.Mapped[int] = orm.mapped_column(sa.Identity(always=True), primary_key=True)
    kind: orm.Mapped[str]
    key: orm.Mapped[str]
    owner: orm.Mapped[str]
    params: orm.Mapped[dict[str, Any]] = orm.mapped_column(postgresql.JSONB)
    state: orm.Mapped[str]
    progress: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(
        postgresql.JSONB(none_as_null=True)
    )
    result: orm.Mapped[dict[str, Any] | None] = orm.mapped_column(
        postgresql.JSONB(none_as_null=True)
    )
    error: orm.Mapped[str | None]
    attempts: orm.Mapped[int]
    worker: orm.Mapped[str | None]
    created_at: orm.Mapped[datetime] = orm.mapped_column(server_default=sa.func.now())
    started_at: orm.Mapped[datetime | None]
    heartbeat_at: orm.Mapped[datetime | None]
    finished_at: orm.Mapped[datetime | None]

    @property
    def is_finished(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state not in UNFINISHED


@dataclass(frozen=True)
class Progress:
    """How far a task is: `done` of `total` units, None while the total is unknown."""

    done: int
    total: int | None = None
    unit: str = ""
    message: str = ""


def submit(
    session: orm.Session, caller: Caller, kind: str, key: str, params: Mapping[str, Any]
) -> Task:
    """Queue a task behind all others of its key, in the name of the caller.

    Submissions of one key wait for each other until they are committed: a number drawn from a
    sequence alone does not say who commits first. So keep the transaction short, and submit to
    several keys in sorted order.

    Raises:
        InvalidError: the parameters are no JSON.
    """
    checked = checked_json(params, "the parameters")
    session.execute(sa.select(sa.func.pg_advisory_xact_lock(_KEY_LOCK, sa.func.hashtext(key))))
    task = Task(
        kind=kind, key=key, owner=caller.username, params=checked, state=State.QUEUED, attempts=0
    )
    session.add(task)
    session.flush()
    wake(session)
    return task


def cancel(session: orm.Session, caller: Caller, task_id: int) -> Task:
    """Cancel a queued task at once; ask a running one to stop. Asking again changes nothing.

    Raises:
        NotFoundError: there is no such task.
        ForbiddenError: the caller is neither its owner nor staff.
        ConflictError: it has ended.
    """
    task = _existing(session, task_id, lock=True)
    if task.owner != caller.username and not caller.is_staff:
        raise ForbiddenError(
            f"{caller.username} may not cancel task {task_id}: it belongs to {task.owner}"
        )
    if task.is_finished:
        raise ConflictError(f"task {task_id} cannot be cancelled: it is {task.state} already")
    detail = {"kind": task.kind, "key": task.key, "owner": task.owner, "state": task.state}
    audit.record(session, caller, "task.cancel", f"task {task_id}", detail)
    if task.state == State.QUEUED:
        task.state, task.finished_at = State.CANCELLED, now(session)
    else:
        task.state = State.CANCELLING
    session.flush()
    wake(session)
    return task


def get(session: orm.Session, task_id: int) -> Task:
    """The task of this number.

    Raises:
        NotFoundError: there is none.
    """
    return _existing(session, task_id, lock=False)


def list_tasks(
    session: orm.Session,
    *,
    states: Collection[State] = tuple(State),
    kind: str | None = None,
    key: str | None = None,
    owner: str | None = None,
    ended_within: timedelta | None = None,
    limit: int = 100,
) -> Sequence[Task]:
    """The newest tasks, newest first; None is no restriction.

    `ended_within`: of those that have ended, the ones that did so no longer ago.
    """
    wanted = sa.select(Task).where(Task.state.in_(states)).order_by(Task.id.desc()).limit(limit)
    if ended_within is not None:
        is_recent = Task.finished_at > sa.func.now() - ended_within
        wanted = wanted.where(Task.state.in_(UNFINISHED) | is_recent)
    for column, value in ((Task.kind, kind), (Task.key, key), (Task.owner, owner)):
        if value is not None:
            wanted = wanted.where(column == value)
    return session.scalars(wanted).all()


def worker_name(kinds: Collection[str]) -> str:
    """What a worker on these kinds is called by the database server."""
    return " ".join((_WORKER, *sorted(kinds)))


def is_worked_on(session: orm.Session, kind: str) -> bool:
    """Whether a worker is connected that takes tasks of this kind."""
    return bool(session.scalar(_IS_WORKED_ON, {"worker": _WORKER, "kind": kind}))


_WORKER = "datamgr worker"
# Source: PostgreSQL, "pg_stat_activity".
_IS_WORKED_ON = sa.text(
    """
    SELECT EXISTS (
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND starts_with(application_name, :worker || ' ')
            AND :kind = ANY (string_to_array(application_name, ' '))
    )
    """
)


def wake(session: orm.Session) -> None:
    """Tell waiting workers, once this is committed, that a task may have become claimable."""
    session.execute(sa.select(sa.func.pg_notify(CHANNEL, "")))


def now(session: orm.Session) -> datetime:
    """The database's time, the only clock that tasks know."""
    return session.execute(sa.select(sa.func.now())).scalar_one()


def checked_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """The mapping, once it is sure that a jsonb column can hold it.

    Raises:
        InvalidError: it is no JSON, or has a NUL or half a surrogate pair in a text, as the
            display string of a file name may; the message begins with `what`.
    """
    try:
        checked = dict(value)
        text = json.dumps(checked, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidError(f"{what} of a task must be a JSON object: {error}") from error
    if r"\u0000" in text:
        raise InvalidError(f"{what} of a task must be a JSON object without NUL characters")
    return checked


def _existing(session: orm.Session, task_id: int, *, lock: bool) -> Task:
    # A number that no column holds would be an error of the database.
    known = abs(task_id) <= units.MAX_BIGINT
    task = (
        session.get(Task, task_id, with_for_update=lock, populate_existing=lock) if known else None
    )
    if task is None:
        raise NotFoundError(f"there is no task {task_id}; `datamgr task list --all` names them")
    return task
