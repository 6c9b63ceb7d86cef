"""No page reads the whole of a table that grows: queries are asked how many rows they look at."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from dashboard import choices
from datamgr import catalog
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from scanners import scan
from tests.integration.pages.conftest import ADA, STAFF, As

# Tables that grow with files, requests and years; the others have a row a project or a scan.
GROWING = (
    "directory_scan",
    "usage",
    "top_file",
    "task",
    "perm_issue",
    "audit_event",
    "web_session",
)
ROWS = 20_000
DIRECTORIES = 3_000

TASKS = f"""
INSERT INTO task (kind, key, owner, params, state, attempts, started_at, finished_at)
SELECT 'perms', 'perms:other' || n % 50, 'other', jsonb_build_object(
    'project', 'other' || n % 50, 'action', jsonb_build_object('kind', 'share'), 'paths',
    jsonb_build_array('.')), 'succeeded', 0, now(), now()
FROM generate_series(1, {ROWS}) n
"""
SESSIONS = f"""
INSERT INTO web_session (token_hash, username, uid, method, client, agent, expires_at)
SELECT sha256(n::text::bytea), 'other', 1, 'link', '', '', now() + interval '1 h'
FROM generate_series(1, {ROWS}) n
"""
# Other projects' biggest files, bigger than anybody's here.
BIGGEST = f"""
INSERT INTO scan_project (scan_id, number, name)
SELECT max(id), 1000 + n, 'other' || n FROM scan, generate_series(0, 49) n GROUP BY n;
INSERT INTO top_file (scan_id, project_number, uid, gid, path, size_bytes, alloc_bytes, nlink,
    atime_s, mtime_s, ctime_s, access_id)
SELECT (SELECT max(id) FROM scan), 1000 + n % 50, 1, 1, n::text::bytea, 1 << 30, 1 << 30, 1, 0, 0,
    0, 1
FROM generate_series(1, {ROWS}) n
"""
ISSUES = f"""
INSERT INTO perm_issue (task_id, path_hash, path, kind, reason)
SELECT n % 100, sha256(n::text::bytea), n::text::bytea, 'failed', 'no'
FROM generate_series(1, {ROWS}) n
"""


@pytest.fixture
def full(settings: Settings, database: Database, tree: Path) -> Path:
    """The tree with a third project of very many directories, and tables with very many rows."""
    big = tree / "big"
    for number in range(DIRECTORIES):
        (big / f"{number % 60:02}" / f"{number:04}").mkdir(parents=True)
    with database.transaction() as session:
        catalog.add_project(session, STAFF, "big", ProjectChange(os.fsencode(big)))
    scan.run(settings, database, scan.ScanRequest("cfs", [os.fsencode(tree)], workers=1))
    with database.transaction() as session:
        for statement in (TASKS, SESSIONS, ISSUES, BIGGEST):
            session.execute(sa.text(statement))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))
    return tree


@contextmanager
def listening(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """All statements that are executed, with their parameters."""
    heard: list[tuple[str, Any]] = []

    def hear(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "WITH")):
            heard.append((statement, parameters))

    sa.event.listen(database.engine, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        sa.event.remove(database.engine, "before_cursor_execute", hear)


def looked_at(database: Database, statement: str, parameters: Any) -> Counter[str]:
    """How many rows of each table a statement looks at."""
    with database.engine.connect() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + statement, parameters)
        (told,) = cursor.fetchone()
    plan = told if isinstance(told, list) else json.loads(told)
    counted: Counter[str] = Counter()
    _count(plan[0]["Plan"], counted)
    return counted


def _count(node: dict[str, Any], counted: Counter[str]) -> None:
    table = node.get("Relation Name", "")
    if table.startswith(GROWING):
        rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
        counted[table] += int(rows * node["Actual Loops"])
    for inner in node.get("Plans", ()):
        _count(inner, counted)


def greedy(database: Database, heard: list[tuple[str, Any]]) -> list[str]:
    """Statements that look at more than a tenth of a big table."""
    found = []
    with database.engine.connect() as connection:
        wanted = "SELECT relname, reltuples::bigint FROM pg_class WHERE relkind = 'r'"
        sizes = dict(connection.execute(sa.text(wanted)).all())
    for statement, parameters in heard:
        for table, rows in looked_at(database, statement, parameters).items():
            if sizes[table] > 1000 and rows > sizes[table] / 10:
                found.append(f"{rows} rows of {table}: {statement}")
    return found


PAGES = [
    "/",
    "/?details=cfs%2Fcosmo",
    "/usage?filesystem=cfs&project=cosmo",
    "/usage/files.csv?project=cosmo",
    "/usage/directories.csv?project=cosmo",
    "/usage?filesystem=cfs&project=cosmo&parents=true",
    "/browse?at={cosmo}",
    "/browse?at={big}",
    "/perms",
    "/perms/requests",
    "/perms/requests?project=cosmo",
    "/perms/requests/{task}",
    "/perms/requests/{task}/left-alone",
    "/operations",
]


@pytest.mark.parametrize("caller", [STAFF, ADA], ids=lambda caller: caller.username)
def test_no_page_reads_a_whole_table(caller: Any, as_: As, database: Database, full: Path) -> None:
    with database.transaction() as session:
        task = session.scalar(sa.text("SELECT max(id) FROM task"))
    client: httpx.Client = as_(caller)
    asked = 0
    for page in PAGES:
        address = page.format(
            cosmo=choices.encode_path(os.fsencode(full / "cosmo")),
            big=choices.encode_path(os.fsencode(full / "big")),
            task=task,
        )
        with listening(database) as heard:
            answer = client.get(address)
        assert answer.status_code in (200, 403, 404), address
        asked += len(heard)
        assert greedy(database, heard) == [], address
    assert asked > 30


def test_the_count_finds_a_whole_table(database: Database, full: Path) -> None:
    """The test above could fail."""
    statement = "SELECT count(*) FROM task WHERE owner <> %(owner)s"
    assert greedy(database, [(statement, {"owner": "nobody"})]) != []
