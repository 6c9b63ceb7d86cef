"""The ledger of changes: whoever remembers something can tell that it may not be so any more."""

import pytest
import sqlalchemy as sa

from datamgr import changes
from datamgr.db import Database

ADD = "INSERT INTO project (name, path) VALUES (:name, :path)"


def run(database: Database, statement: str, **values: object) -> None:
    with database.transaction() as session:
        session.execute(sa.text(statement), values)


def version(database: Database) -> str:
    with database.snapshot() as session:
        return changes.version(session)


@pytest.mark.parametrize("table", ["project", "project_member", "scan"])
def test_every_way_to_change_a_table_makes_another_version(database: Database, table: str) -> None:
    seen = {version(database)}
    # The first is a number that the database gives.
    column = sa.inspect(database.engine).get_columns(table)[-1]["name"]
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
    ):
        run(database, statement)
        seen.add(version(database))
    run(database, "SELECT 1")
    assert version(database) in seen
    assert len(seen) == 4


def test_a_transaction_that_ends_after_a_younger_one_makes_another_version(
    database: Database,
) -> None:
    """The younger has the higher number, so the highest alone would hide the older."""
    with database.transaction() as older:
        older.execute(sa.text(ADD), {"name": "a", "path": b"/a"})
        run(database, ADD, name="b", path=b"/b")
        before = version(database)
    assert version(database) != before


def test_the_ledger_stays_short_and_nobody_waits(database: Database) -> None:
    """Also beside a transaction that has removed old numbers, and is not at its end."""
    for number in range(150):
        run(database, ADD, name=str(number), path=b"/%d" % number)
    assert len(version(database).split()) == 101
    with database.transaction() as open_one:
        open_one.execute(sa.text("DELETE FROM project WHERE name = '1'"))
        for _ in range(3):
            with database.transaction() as session:
                session.execute(sa.text("SET LOCAL lock_timeout = '1ms'"))
                session.execute(sa.text("UPDATE project SET quota_inodes = 1 WHERE name = '2'"))
    assert len(version(database).split()) <= 102
