"""A worker's hold on the task it runs: its own connection, the heartbeat, the reasons to stop."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import claims, tasks
from datamgr.daemon import Stop
from datamgr.db import Database, explained
from datamgr.errors import ConflictError, UnavailableError
from datamgr.tasks import Progress, State


class StopTask(BaseException):
    """Why a handler has to stop; no Exception, so that no handler catches it by accident."""


class Cancelled(StopTask):
    """Somebody cancelled the task."""


class Interrupted(StopTask):
    """The worker was asked to stop; the task will be run again."""


class Lost(StopTask):
    """The worker lost its connection, so another one may run the task."""


class WorkerConnection:
    """One connection outside the pool that holds advisory locks and hears notifications.

    It must reach the server directly: a pooler between transactions would mix up the locks.
    """

    def __init__(self, database: Database, *, silent_s: float, name: str = "datamgr") -> None:
        """Connect.

        `name`: what the server calls the connection; see `tasks.is_worked_on`. `silent_s`: when
        this machine vanishes from the network, the server notices after about this time and frees
        the locks. A server on the same machine notices at once.

        Raises:
            UnavailableError: the database does not answer.
        """
        self._mutex = threading.Lock()
        with explained():
            self._connection = database.engine.connect()
            self._driver: Any = self._connection.connection.driver_connection
            # A pool would keep the locks of a connection that is given back.
            self._connection.detach()
            with self._connection.begin():
                values = {"application_name": name} | _keepalives(silent_s)
                for key, value in values.items():
                    self._connection.execute(sa.select(sa.func.set_config(key, str(value), False)))
                self._connection.execute(sa.text(f"LISTEN {tasks.CHANNEL}"))

    @contextmanager
    def transaction(self) -> Iterator[orm.Session]:
        """As `Database.transaction`, on this connection, one thread at a time.

        Raises:
            UnavailableError: the connection broke, now or earlier; it is never renewed, for a
                new one would hold no locks.
        """
        with self._mutex:
            if self._driver.closed:
                raise UnavailableError("the database does not answer: the connection was lost")
            with (
                explained(),
                orm.Session(self._connection, expire_on_commit=False) as session,
                session.begin(),
            ):
                yield session

    def wait(self, stop: Stop, timeout_s: float) -> None:
        """Sleep until a notification since the last call, `stop` or the end of the time.

        Raises:
            UnavailableError: the connection broke.
        """
        driver = self._driver
        try:
            # What came with the answer to an earlier query makes the socket readable no more.
            driver.poll()
            if not driver.notifies:
                stop.wait(timeout_s, driver.fileno())
                driver.poll()
            driver.notifies.clear()
        except psycopg2.Error as error:
            raise UnavailableError("the database does not answer: the connection broke") from error

    def close(self) -> None:
        """Disconnect; what it locked is free."""
        with self._mutex, explained():
            self._connection.close()


class Lease:
    """The running of one task, shared by its handler and the heartbeat thread."""

    def __init__(
        self, connection: WorkerConnection, task_id: int, worker: str, stop: Stop, valid_s: float
    ) -> None:
        """`valid_s`: how old the latest word of the database may be when the handler asks."""
        self._connection = connection
        self._task_id = task_id
        self._worker = worker
        self._stop = stop
        self._valid_s = valid_s
        self._confirmed_at = time.monotonic()
        self._reason: type[StopTask] | None = None
        self._progress: Progress | None = None

    def report(self, progress: Progress) -> None:
        """Leave word of how far the task is; the next heartbeat carries it."""
        self._progress = progress

    def check(self) -> None:
        """Return if the handler may go on.

        Raises:
            StopTask: it has to stop.
        """
        if self._stop.is_set():
            raise Interrupted
        # After a pause of the process the thread may not have had its turn yet.
        if time.monotonic() - self._confirmed_at > self._valid_s:
            self.beat()
        if self._reason is not None:
            raise self._reason

    def beat(self) -> None:
        """Write heartbeat and progress, and learn whether to go on."""
        if self._reason is Lost:
            return
        asked_at = time.monotonic()
        try:
            with self._connection.transaction() as session:
                state = self.save(session)
        except (UnavailableError, ConflictError, sa.exc.SQLAlchemyError):
            self._reason = Lost
            return
        self._confirmed_at = asked_at
        if state is State.CANCELLING:
            self._reason = Cancelled

    def save(self, session: orm.Session) -> State:
        """Write heartbeat and progress in the session's transaction.

        Raises:
            ConflictError: the task is no longer this worker's.
        """
        return claims.heartbeat(session, self._task_id, self._worker, self._progress)


def _keepalives(silent_s: float) -> dict[str, int]:
    """Settings by which the server drops a client that is silent on the network.

    Source: PostgreSQL manual, section 20.3.2, TCP Settings.
    """
    third = max(1, round(silent_s / 3))
    return {
        "tcp_keepalives_idle": third,
        "tcp_keepalives_interval": third,
        "tcp_keepalives_count": 2,
    }
