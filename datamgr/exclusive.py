"""The right to be the only process at something, for as long as the process lives."""

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from datamgr import db
from datamgr.db import Database
from datamgr.errors import ConflictError


class TakenError(ConflictError):
    """Another process has the right now; it may end soon."""


@dataclass
class Exclusive:
    """An advisory lock on a connection of its own, which frees it when the process dies.

    `lock`: what identifies it, the arguments of pg_try_advisory_lock. `taken`: the sentence for who
    comes second. `lost`: the sentence for who lost it with its connection and must not take it
    again, for another process may have had it in between; None for those who may.
    """

    database: Database
    lock: tuple[Any, ...]
    taken: str
    lost: str | None = None
    _connection: sa.Connection | None = field(init=False, default=None)
    _is_lost: bool = field(init=False, default=False)
    _mutex: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __enter__(self) -> "Exclusive":
        """Take it. Raises as `hold`."""
        self.hold()
        return self

    def __exit__(self, *_: object) -> None:
        """Give it up, before the return: the next in line need not wait for a server to notice."""
        if self._connection is not None:
            # Of a connection that broke the server takes it back by itself.
            with self._connection, suppress(sa.exc.DBAPIError):
                self._connection.execute(sa.select(sa.func.pg_advisory_unlock(*self.lock)))

    def hold(self) -> None:
        """Take it, or be sure to have it still.

        Raises:
            TakenError: another process has it.
            ConflictError: it was lost for good.
            UnavailableError: the database does not answer.
        """
        with self._mutex, db.explained():
            if self._connection is not None:
                try:
                    self._connection.execute(sa.select(1))
                except sa.exc.DBAPIError:
                    self._connection, self._is_lost = None, True
                    raise
                return
            if self._is_lost and self.lost is not None:
                raise ConflictError(self.lost)
            # A transaction that stays open would hold back the cleaning of all tables.
            connection = self.database.engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            )
            # A pool would keep the lock of a connection that is given back.
            connection.detach()
            if not connection.scalar(sa.select(sa.func.pg_try_advisory_lock(*self.lock))):
                connection.close()
                raise TakenError(self.taken)
            self._connection = connection
