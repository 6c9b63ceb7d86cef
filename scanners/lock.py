"""One scan of a file system at a time, one nightly run, one check of alerts."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sa

from datamgr import db
from datamgr.db import Database
from datamgr.errors import ConflictError

# "scan" in ASCII: the first half of the advisory lock of a file system, its id is the second.
LOCK_CLASS = 0x7363616E
# "nite" in ASCII: the first half of the locks of what runs every night.
NIGHTLY_CLASS = 0x6E697465
NIGHTLY_RUN, ALERTS_CHECK = 1, 2


@contextmanager
def filesystem_lock(database: Database, filesystem_id: int, name: str) -> Iterator[None]:
    """Keep other scans of this file system away; the lock goes with the process or connection.

    Raises:
        ConflictError: another process holds it.
    """
    refusal = f"a scan of {name} is running; wait for it, or see `datamgr scan list`"
    with advisory_lock(database, LOCK_CLASS, filesystem_id, refusal):
        yield


@contextmanager
def advisory_lock(database: Database, lock_class: int, number: int, refusal: str) -> Iterator[None]:
    """Hold a lock of the database for the block; it goes with the process or connection.

    Raises:
        ConflictError: another process holds it; `refusal` is the sentence.
    """
    with db.explained(), database.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        key = {"class": lock_class, "id": number}
        if not connection.scalar(sa.text("SELECT pg_try_advisory_lock(:class, :id)"), key):
            raise ConflictError(refusal)
        try:
            yield
        finally:
            # A connection that broke took the lock with it; what was done without is still right,
            # for a scan that began meanwhile has given this one up or is published after it.
            with suppress(sa.exc.DBAPIError):
                connection.execute(sa.text("SELECT pg_advisory_unlock(:class, :id)"), key)
