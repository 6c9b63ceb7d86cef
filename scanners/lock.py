"""One scan of a file system at a time."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from datamgr import db
from datamgr.db import Database
from datamgr.errors import ConflictError

# "scan" in ASCII: the first half of the advisory lock of a file system, its id is the second.
LOCK_CLASS = 0x7363616E


@contextmanager
def filesystem_lock(database: Database, filesystem_id: int, name: str) -> Iterator[None]:
    """Keep other scans of this file system away; the lock goes with the process or connection.

    Raises:
        ConflictError: another process holds it.
    """
    with db.explained(), database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        key = {"class": LOCK_CLASS, "id": filesystem_id}
        if not connection.scalar(sa.text("SELECT pg_try_advisory_lock(:class, :id)"), key):
            raise ConflictError(
                f"a scan of {name} is running; wait for it, or see `datamgr scan list`"
            )
        try:
            yield
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:class, :id)"), key)
