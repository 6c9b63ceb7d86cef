"""What the roles of deploy/postgres/roles.sql can do, on real connections of theirs.

The journal, the audit and what has ended can be changed by nobody but the owner of the tables.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from datamgr import audit, claims, external_ids, sessions, tasks
from datamgr.catalog import Project
from datamgr.config import Settings
from datamgr.db import Database, make_engine
from datamgr.errors import ConflictError
from datamgr.identity import Caller, Role
from datamgr.lease import WorkerConnection
from datamgr.tasks import Progress, State
from pitoolbox import journal, submission
from pitoolbox.executor import Issue, Row, Rows
from pitoolbox.requests import Action, ActionKind, Request
from tests import mounts
from tests.accounts import People
from tests.commands import run_command
from tiering import requests as tiering_requests
from tiering.questions import Action as TierAction
from tiering.request import Request as TierRequest

ROLES = Path(__file__).parents[3] / "deploy" / "postgres" / "roles.sql"
STAFF = Caller("root", 0, frozenset({0}), Role.STAFF)
ROW = Row(b"a\xff", "f", 2**64 - 1, 2**64 - 2, (1, 2, 0o644, None), (1, 3, 0o664, "02"))
JOURNAL = ("perm_change", "perm_batch", "perm_unapplied", "perm_issue")


@contextmanager
def connected_as(url: sa.URL, role: str) -> Iterator[Database]:
    engine = sa.create_engine(url, connect_args={"options": f"-c role={role} -c timezone=UTC"})
    yield Database(engine)
    engine.dispose()


@pytest.fixture
def granted(database: Database) -> Database:
    """The database with the roles; twice, for it must be possible to repeat."""
    for _ in range(2):
        with database.transaction() as session:
            session.connection().connection.cursor().execute(ROLES.read_text())
    with database.transaction() as session:
        # A role that was granted too much: the triggers have to hold by themselves.
        session.execute(
            sa.text(
                "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'meddler') THEN"
                " CREATE ROLE meddler NOLOGIN; END IF; END $$;"
                " GRANT ALL ON ALL TABLES IN SCHEMA public TO meddler;"
                " DROP POLICY IF EXISTS all_of_it ON task;"
                " CREATE POLICY all_of_it ON task TO meddler USING (true)"
            )
        )
    return database


@pytest.fixture
def web(granted: Database, database_url: sa.URL) -> Iterator[Database]:
    with connected_as(database_url, "datamgr_web") as made:
        yield made


@pytest.fixture
def worker(granted: Database, database_url: sa.URL) -> Iterator[Database]:
    with connected_as(database_url, "datamgr_perms") as made:
        yield made


@pytest.fixture
def meddler(granted: Database, database_url: sa.URL) -> Iterator[Database]:
    with connected_as(database_url, "meddler") as made:
        yield made


@pytest.fixture
def history(granted: Database) -> int:
    """A request that has ended, with a bit of everything; its number."""
    request = Request("cosmo", Action(ActionKind.SHARE), (b".",))
    with granted.transaction() as session:
        task_id = tasks.submit(session, STAFF, "perms", request.key, request.to_params()).id
        audit.record(session, STAFF, "perms.submit", f"request {task_id}")
        journal.write(session, task_id, 1, Rows.of([ROW, ROW]))
        left = [journal.Unapplied(1, "failed", "it is gone", touched=False)]
        journal.mark_applied(session, task_id, 1, [ROW, ROW], left)
        journal.write(session, task_id, 2, Rows.of([ROW]))
    with granted.transaction() as session:
        tasks.get(session, task_id).state = State.PARTIAL
    return task_id


def refused(database: Database, statement: str) -> str:
    """The sentence with which a statement is refused."""
    with pytest.raises(sa.exc.ProgrammingError) as refusal, database.transaction() as session:
        session.execute(sa.text(statement))
    assert refusal.value.orig is not None
    return str(refusal.value.orig).splitlines()[0]


@pytest.mark.parametrize("table", [*JOURNAL, "audit_event", "task"])
def test_nobody_but_the_owner_changes_what_was_written(
    granted: Database, meddler: Database, history: int, table: str
) -> None:
    """Not even a role with all rights to the tables."""
    column = {"audit_event": "actor", "perm_unapplied": "number", "perm_batch": "batch"}.get(
        table, "state" if table == "task" else "path"
    )
    value = {"path": "'other'", "actor": "'mallory'", "state": "'failed'"}.get(
        column, f"{column} + 7"
    )
    cascade = " CASCADE" if table == "task" else ""
    changes = (
        f"UPDATE {table} SET {column} = {value}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table}{cascade}",
    )
    for statement in changes:
        assert "stay as they are" in refused(meddler, statement)
        with granted.transaction() as session:
            assert session.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one() > 0
    with granted.transaction() as session:
        session.execute(sa.text("ALTER TABLE perm_batch DROP CONSTRAINT fk_perm_batch_task_id"))
    for statement in changes:  # the owner may
        with granted.transaction() as session:
            session.execute(sa.text(statement))


def test_a_batch_only_goes_from_written_to_applied(
    meddler: Database, worker: Database, history: int
) -> None:
    for database in (meddler, worker):
        assert refused(database, "UPDATE perm_batch SET state = 'written' WHERE batch = 1")
        assert refused(database, "UPDATE perm_batch SET state = 'applied', at = now()")
        assert refused(database, "UPDATE perm_batch SET state = 'applied', batch = 9")
    with worker.transaction() as session:
        journal.mark_applied(session, history, 2, [ROW], [])
    assert "stay as they are" in refused(worker, "UPDATE perm_batch SET state = 'applied'")


def test_the_worker_runs_requests_with_its_rights(
    worker: Database, web: Database, granted: Database
) -> None:
    request = Request("cosmo", Action(ActionKind.SHARE), (b".",))
    with web.transaction() as session:
        task_id = tasks.submit(session, STAFF, "perms", request.key, request.to_params()).id
        scan = tasks.submit(session, STAFF, "scan", "fs", {}).id
    connection = WorkerConnection(worker, silent_s=60)
    try:
        with connection.transaction() as session:
            claims.recover(session, silent_s=60)
            taken = claims.claim(session, "w", ["perms"], fair=True)
        assert taken is not None and taken.id == task_id
        with connection.transaction() as session:
            # Not a task of another kind, even if it is asked for.
            assert claims.claim(session, "w", ["scan"]) is None
            claims.heartbeat(session, task_id, "w", Progress(1, None, "entries"))
            journal.write(session, task_id, 1, Rows.of([ROW]))
        with connection.transaction() as session:
            journal.mark_applied(session, task_id, 1, [ROW], [])
            journal.note_issues(session, task_id, [Issue(b"b", "failed", "no")])
            assert journal.totals(session, task_id).changed == 1
            claims.finish(session, task_id, "w", claims.Partial(changed=1))
        with connection.transaction() as session:
            claims.unlock(session)
    finally:
        connection.close()
    with granted.transaction() as session:
        assert tasks.get(session, task_id).state == State.PARTIAL
        assert tasks.get(session, scan).state == State.QUEUED
        rows = journal.applied_backwards(granted, task_id)
        assert list(rows) == [[ROW]]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE task SET params = '{}'",
        "UPDATE task SET owner = 'root'",
        "DELETE FROM task",
        "INSERT INTO task (kind, key, owner, params, state, attempts)"
        " VALUES ('perms', 'k', 'root', '{}', 'queued', 0)",
        "UPDATE project SET root_inode = 1",
        "UPDATE project SET path = '/etc'",
        "INSERT INTO project_member VALUES (1, 'eve', 'pi')",
        "DELETE FROM audit_event",
        "SELECT * FROM audit_event",
        "SELECT * FROM directory",
        "UPDATE perm_change SET path = 'x'",
        "CREATE TABLE own (id int)",
    ],
)
def test_the_worker_can_do_nothing_else(worker: Database, history: int, statement: str) -> None:
    assert "denied" in refused(worker, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE task SET params = '{}'",
        "UPDATE task SET owner = 'root'",
        "UPDATE task SET worker = 'me'",
        "UPDATE task SET state = 'succeeded' WHERE state = 'queued'",
        "UPDATE task SET state = 'running' WHERE state = 'queued'",
        "INSERT INTO task (kind, key, owner, params, state, attempts)"
        " VALUES ('perms', 'k', 'root', '{}', 'succeeded', 0)",
        "DELETE FROM task",
        "UPDATE project SET root_inode = 1",
        "INSERT INTO project_member VALUES (1, 'eve', 'pi')",
        "INSERT INTO perm_change SELECT * FROM perm_change",
        "UPDATE perm_batch SET state = 'applied'",
        "DELETE FROM perm_issue",
        "DELETE FROM audit_event",
        "UPDATE audit_event SET actor = 'x'",
        "CREATE TABLE own (id int)",
    ],
)
def test_the_web_can_submit_cancel_and_read(
    web: Database, granted: Database, history: int, statement: str
) -> None:
    with web.transaction() as session:
        tasks.submit(session, STAFF, "perms", "perms:cosmo", {})
    said = refused(web, statement)
    assert "denied" in said or "row-level security" in said


@mounts.needs_root
@pytest.mark.root
def test_the_web_submits_and_cancels_for_a_pi(
    web: Database, people: People, project: object, settings: Settings
) -> None:
    """The functions of this package need no more than the role has."""
    pi = people.caller(people.pi)
    request = Request("cosmo", Action(ActionKind.SHARE), (b".",), recursive=True)
    with web.transaction() as session:
        task_id = submission.submit(session, settings, pi, request).id
    with web.transaction() as session:
        assert submission.cancel(session, pi, task_id).state == State.CANCELLED
    with pytest.raises(ConflictError), web.transaction() as session:
        submission.cancel(session, pi, task_id)
    assert "stay as they are" in refused(web, "UPDATE task SET state = 'cancelling'")


@mounts.needs_root
@pytest.mark.root
def test_the_whole_way_of_a_request_with_logins_of_the_roles(
    granted: Database, database_url: sa.URL, people: People, project: Project,
    perms_settings: Settings, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The web submits, the worker's process carries out, each as a role of its own."""
    logins = {"datamgr_web": f"web_{os.getpid()}", "datamgr_perms": f"perms_{os.getpid()}"}
    with granted.transaction() as session:
        for role, login in logins.items():
            session.execute(sa.text(f"CREATE ROLE {login} LOGIN IN ROLE {role}"))
    path = os.path.join(os.fsdecode(project.path), "file")
    Path(path).touch()
    os.chown(path, people.uid(people.pi), people.other_gid)
    url = database_url.set(username=logins["datamgr_perms"]).render_as_string(hide_password=False)
    try:
        engine = make_engine(database_url.set(username=logins["datamgr_web"]), 10)
        pi = people.caller(people.pi)
        with Database(engine).transaction() as session:
            assert session.scalar(sa.text("SELECT current_user")) == logins["datamgr_web"]
            request = Request("cosmo", Action(ActionKind.SHARE), (b".",), recursive=True)
            task_id = submission.submit(session, perms_settings, pi, request).id
        engine.dispose()
        monkeypatch.setenv("DATAMGR_DATABASE__URL", url)
        done = run_command("perms", "worker", "--once")
        assert done.exit_code == 0, done.stderr
    finally:
        with granted.transaction() as session:
            for login in logins.values():
                session.execute(sa.text(f"DROP ROLE {login}"))
    with granted.transaction() as session:
        task = tasks.get(session, task_id)
        assert (task.state, task.error) == (State.SUCCEEDED, None)
    assert os.lstat(path).st_gid == people.gid


def test_the_web_logs_people_in_and_says_of_nobody_who_they_are(
    web: Database, worker: Database, settings: Settings
) -> None:
    origin = sessions.Origin("link", "127.0.0.1", "a browser")
    with web.transaction() as session:
        ticket = sessions.issue_ticket(session, sessions.LINK, {"uid": 0}, 60)
    with web.transaction() as session:
        assert sessions.take_ticket(session, sessions.LINK, ticket) == {"uid": 0}
        token, number = sessions.begin(session, settings, STAFF, origin)
    with web.transaction() as session:
        assert sessions.find(session, settings, token) is not None
        sessions.touch(session, number)
        assert external_ids.account_of(session, "https://idp.example.org", "42") is None
    with web.transaction() as session:
        sessions.log_out(session, STAFF, number)
        assert sessions.find(session, settings, token) is None
    into = "INSERT INTO external_id (issuer, subject, username) VALUES ('https://i', '1', 'root')"
    assert "permission denied" in refused(web, into)
    assert "permission denied" in refused(web, "UPDATE web_session SET uid = 0, username = 'root'")
    for table in ("web_session", "web_ticket", "external_id"):
        assert "permission denied" in refused(worker, f"SELECT * FROM {table}")


@pytest.mark.root
@mounts.needs_root
def test_the_web_confirms_a_preview(
    web: Database, people: People, project: Project, perms_settings: Settings
) -> None:
    pi = people.caller(people.pi)
    request = Request("cosmo", Action(ActionKind.SHARE), (b".",), recursive=True, dry_run=True)
    with web.transaction() as session:
        preview = submission.submit(session, perms_settings, pi, request).id
    found = set()
    for _ in range(2):
        with web.transaction() as session:
            found.add(submission.confirm(session, perms_settings, pi, preview).id)
    assert len(found) == 1
    assert found != {preview}


def test_the_web_asks_for_tiering_in_the_name_of_who_is_logged_in(web: Database) -> None:
    with web.transaction() as session:
        request = TierRequest(root="cfs", action=TierAction.PUT)
        number = tiering_requests.submit(session, STAFF, request, [b"run42"], client="web").id
    with web.transaction() as session:
        assert tiering_requests.paths_of(session, number) == [b"run42"]
        assert tiering_requests.cancel(session, STAFF, number)["state"] == State.CANCELLED
