"""What carries out queued tasks: one process, one task at a time."""

import importlib
import logging
import os
import secrets
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sqlalchemy import orm

from datamgr import claims, daemon, tasks
from datamgr.config import Settings
from datamgr.daemon import Stop
from datamgr.db import Database
from datamgr.errors import ConflictError, DatamgrError, InvalidError, UnavailableError
from datamgr.lease import Cancelled, Interrupted, Lease, Lost, WorkerConnection
from datamgr.tasks import Progress, Task

log = logging.getLogger(__name__)

# Features appear here as strings: a worker imports one when it runs its first task.
HANDLERS: Mapping[str, str] = {
    "scan": "scanners.tasks:run_scan",
}

LOOK_S = 1.0  # within this a handler learns that its task was cancelled
POLL_S = 5.0  # a backstop: workers are woken by notifications


@dataclass(frozen=True)
class TaskContext:
    """What a handler is given beside its parameters.

    A handler calls `progress` or `checkpoint` every few seconds, lets what they raise pass, and
    does its work in steps that are safe to repeat: after a crash the task is run again. It
    returns its result as JSON, a `claims.Partial` if something could not be done, and raises a
    DatamgrError whose sentence becomes the task's error.
    """

    settings: Settings
    database: Database
    task: Task
    lease: Lease

    def progress(
        self, done: int, total: int | None = None, unit: str = "", message: str = ""
    ) -> None:
        """Tell how far the work is, as often as you like: it is written once a second.

        Raises:
            StopTask: the handler has to stop, as at a checkpoint.
        """
        self.lease.report(Progress(int(done), None if total is None else int(total), unit, message))
        self.lease.check()

    def checkpoint(self) -> None:
        """Return if the work may go on.

        Raises:
            StopTask: it may not: Cancelled, Interrupted or Lost.
        """
        self.lease.check()


Handler = Callable[[TaskContext, Mapping[str, Any]], Mapping[str, Any]]
Ending = Callable[[orm.Session], Task]


def known_kinds(kinds: Collection[str], handlers: Mapping[str, str] = HANDLERS) -> list[str]:
    """The kinds to work on: those named, or all that there are handlers for.

    Raises:
        InvalidError: there is no handler for one.
    """
    for kind in kinds:
        if kind not in handlers:
            raise InvalidError(
                f"there is no kind of task {kind!r}; known are {', '.join(sorted(handlers))}"
            )
    return list(kinds or handlers)


@dataclass
class Worker:
    """One worker; `step` and `drain` are what its process repeats or does.

    `fair`: keys are served in turn, not the oldest task first. `on_end` is called with each task
    that was ended and committed; what it raises as a DatamgrError is logged.
    """

    settings: Settings
    database: Database
    kinds: Collection[str]
    handlers: Mapping[str, str | Handler] = field(default_factory=lambda: HANDLERS)
    max_attempts: int = claims.MAX_ATTEMPTS
    fair: bool = False
    on_end: Callable[[Task], None] | None = None
    name: str = field(init=False)
    _connection: WorkerConnection | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        # The random part tells apart two processes that had the same number.
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"

    def step(self, stop: Stop) -> float:
        """Run the oldest task there is, or wait until there may be one.

        Raises:
            UnavailableError: the database does not answer.
        """
        if not self.run_one(stop) and not stop.is_set():
            poll_s = min(POLL_S, self.settings.tasks.lease_s)
            try:
                self._connected().wait(stop, poll_s)
            except UnavailableError:
                self.close()
                raise
        return 0

    def drain(self, stop: Stop) -> None:
        """Run tasks until none is claimable.

        Raises:
            UnavailableError: the database does not answer.
        """
        while not stop.is_set() and self.run_one(stop):
            pass

    def run_one(self, stop: Stop) -> bool:
        """Recover what dead workers left, then run one task; False when there was none.

        Raises:
            UnavailableError: the database does not answer.
        """
        try:
            connection = self._connected()
            self._recover(connection)
            with connection.transaction() as session:
                task = claims.claim(session, self.name, self.kinds, fair=self.fair)
            if task is not None:
                self._run(connection, task, stop)
        except UnavailableError:
            self.close()
            raise
        return task is not None

    def close(self) -> None:
        """Disconnect; a task that was not ended properly will be recovered."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            connection.close()

    def _connected(self) -> WorkerConnection:
        if self._connection is None:
            self._connection = WorkerConnection(
                self.database,
                silent_s=self.settings.tasks.lease_s,
                name=tasks.worker_name(self.kinds),
            )
        return self._connection

    def _recover(self, connection: WorkerConnection) -> None:
        with connection.transaction() as session:
            recovered = claims.recover(
                session,
                silent_s=self.settings.tasks.lease_s,
                max_attempts=self.max_attempts,
            )
        for task in recovered:
            log.warning("the worker of task %d died; the task is %s", task.id, task.state)

    def _run(self, connection: WorkerConnection, task: Task, stop: Stop) -> None:
        log.info("task %d (%s, %s) begins", task.id, task.kind, task.key)
        lease = Lease(connection, task.id, self.name, stop, self.settings.tasks.lease_s / 2)
        try:
            self._end(connection, lease, task, self._handle(task, lease))
        except (Lost, ConflictError, UnavailableError):
            # Nothing is written any more: somebody else may have the task already.
            log.warning("the connection was lost while task %d ran; it may be run again", task.id)
            self.close()

    def _handle(self, task: Task, lease: Lease) -> Ending:
        """Call the handler; what is to be written of how it ended."""
        context = TaskContext(self.settings, self.database, task, lease)
        interval_s = min(self.settings.tasks.heartbeat_s, LOOK_S)
        try:
            handler = _load(self.handlers[task.kind])
            with daemon.beating(lease.beat, interval_s):
                result = handler(context, task.params)
        except Cancelled:
            return partial(claims.confirm_cancel, task_id=task.id, worker=self.name)
        except Interrupted:
            return partial(claims.release, task_id=task.id, worker=self.name)
        except DatamgrError as error:
            return self._failure(task, str(error))
        except Exception as error:
            log.exception("task %d failed by an internal error", task.id)
            kind = type(error).__name__
            return self._failure(task, f"internal error: {kind}: {error}, see the log")
        return partial(claims.finish, task_id=task.id, worker=self.name, result=result)

    def _end(self, connection: WorkerConnection, lease: Lease, task: Task, ending: Ending) -> None:
        try:
            with connection.transaction() as session:
                lease.save(session)
                ended = ending(session)
        except InvalidError as error:
            with connection.transaction() as session:
                ended = self._failure(task, str(error))(session)
        with connection.transaction() as session:
            claims.unlock(session)
        log.info("task %d is %s", task.id, ended.state)
        if self.on_end is not None and ended.is_finished:
            try:
                self.on_end(ended)
            except DatamgrError as error:
                log.warning("after task %d: %s", task.id, error)

    def _failure(self, task: Task, sentence: str) -> Ending:
        return partial(claims.fail, task_id=task.id, worker=self.name, error=sentence)


def run(worker: Worker, *, once: bool = False) -> None:
    """Work until SIGTERM or SIGINT, or only until nothing is claimable.

    The running task is asked to stop at its next checkpoint and goes back to its place.

    Raises:
        UnavailableError: with `once`, the database does not answer; else it is waited for.
    """
    with daemon.stop_on_signals() as stop:
        log.info("%s waits for tasks of the kinds %s", worker.name, ", ".join(worker.kinds))
        try:
            if once:
                worker.drain(stop)
            else:
                daemon.run_daemon(worker.step, stop)
        finally:
            worker.close()


def _load(target: str | Handler) -> Handler:
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    handler: Handler = getattr(importlib.import_module(module), name)
    return handler
