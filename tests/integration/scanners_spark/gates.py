"""Loads that stop in the middle, so that something can happen to them there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa

GATE = 4711
# Whoever copies into a table that is loaded ahead waits at the gate, in its transaction.
WAIT_AT_GATE = """
CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN NULL; END $$;
CREATE FUNCTION guard() RETURNS event_trigger LANGUAGE plpgsql AS $$
DECLARE made record;
BEGIN
    FOR made IN SELECT * FROM pg_event_trigger_ddl_commands() WHERE object_type = 'table'
        AND object_identity ~ 'loading_[0-9a-f]+$' LOOP
        EXECUTE format('CREATE TRIGGER gate BEFORE INSERT ON %s EXECUTE FUNCTION wait_at_gate()',
            made.object_identity);
    END LOOP;
END $$;
CREATE EVENT TRIGGER guard_loads ON ddl_command_end WHEN TAG IN ('CREATE TABLE')
    EXECUTE FUNCTION guard();
"""
WAITING = (
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"
)
LOADING = (
    "SELECT count(*) FROM pg_class WHERE relname LIKE 'directory_scan%loading%' AND relkind = 'r'"
)


@contextmanager
def gate(engine: sa.Engine) -> Iterator[Callable[[], None]]:
    """Loads stop in the middle of their transactions, until the function is called."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text(WAIT_AT_GATE.replace(":", r"\:")))
        connection.execute(sa.text(f"SELECT pg_advisory_lock({GATE})"))
        try:
            yield lambda: connection.execute(sa.text(f"SELECT pg_advisory_unlock({GATE})"))
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock_all()"))
            connection.execute(sa.text("DROP EVENT TRIGGER guard_loads"))
            connection.execute(sa.text("DROP FUNCTION guard, wait_at_gate CASCADE"))


def count(engine: sa.Engine, query: str) -> int:
    with engine.connect() as connection:
        return connection.scalar(sa.text(query)) or 0


def wait_until(true: Callable[[], object], timeout_s: float = 120) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
