"""`datamgr project`: what is registered, refused, changed and remembered."""

import getpass
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import catalog, identity
from datamgr.catalog import ProjectChange
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from datamgr.identity import Caller, Role
from tests.commands import call

STAFF = Caller("root", 0, frozenset({0}), Role.STAFF)


def rows(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(capfd, "project", "list", "--json").json["rows"]
    return found


def test_a_project_is_added_changed_and_forgotten(
    settings: Settings, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cosmo").mkdir()
    (tmp_path / "link").symlink_to("cosmo")
    me = getpass.getuser()
    done = call(capfd, "project", "add", "cosmo", tmp_path / "link", "--quota-bytes", "1.5TiB",
                "--quota-inodes", "40M", "--group", "0", "--pi", me)  # fmt: skip
    assert (done.exit_code, done.stderr) == (0, "")
    expected = {
        "project": "cosmo",
        "path": str(tmp_path / "cosmo"),  # the link is resolved
        "group": "0",
        "pis": [me],
        "proxies": [],
        "quota_bytes": 3 * 2**39,
        "quota_inodes": 40_000_000,
    }
    assert rows(capfd) == [expected]
    assert call(capfd, "project", "set", "cosmo", "--quota-bytes", "0").exit_code == 0
    assert rows(capfd) == [expected | {"quota_bytes": None}]
    assert call(capfd, "project", "remove", "cosmo", "--dry-run").exit_code == 0
    assert rows(capfd) == [expected | {"quota_bytes": None}]
    assert call(capfd, "project", "remove", "cosmo").exit_code == 0
    assert rows(capfd) == []
    assert (tmp_path / "cosmo").is_dir()


def add(session: orm.Session, name: str, path: Path, caller: Caller = STAFF) -> None:
    catalog.add_project(session, caller, name, ProjectChange(path=bytes(path)))


def test_names_and_paths_belong_to_one_project(database: Database, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with database.transaction() as session:
        add(session, "a", tmp_path / "a")
        with pytest.raises(ConflictError, match="project 'a' exists"):
            add(session, "a", tmp_path / "b")
        with pytest.raises(ConflictError, match="is the path of project 'a' already"):
            add(session, "b", tmp_path / "b/../a")
        add(session, "b", tmp_path / "b")
        with pytest.raises(ConflictError, match="is the path of project 'a' already"):
            catalog.set_project(session, STAFF, "b", ProjectChange(path=bytes(tmp_path / "a")))


def test_of_two_who_add_the_same_name_at_once_one_is_refused(
    database: Database, tmp_path: Path
) -> None:
    """The second saw the name free, then waits for the first to commit."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()

    def add_late() -> None:
        with database.transaction() as late:
            add(late, "same", tmp_path / "b")

    with ThreadPoolExecutor(1) as pool:
        with database.transaction() as early:
            add(early, "same", tmp_path / "a")
            second = pool.submit(add_late)
            wait_for_a_waiting_session(database)
        with pytest.raises(ConflictError, match="were just given to another"):
            second.result(30)


def wait_for_a_waiting_session(database: Database) -> None:
    waiting = sa.text(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    end = time.monotonic() + 120
    while time.monotonic() < end:
        with database.transaction(read_only=True) as session:
            if session.scalar(waiting):
                return
        time.sleep(0.02)
    pytest.fail("nobody waits")


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31m", "x" * 201, "\udcff"])
def test_names_that_cannot_be_shown_are_refused(
    database: Database, tmp_path: Path, name: str
) -> None:
    with database.transaction() as session, pytest.raises(InvalidError, match="is no name"):
        add(session, name, tmp_path)


def test_a_path_too_long_for_the_database_is_refused(database: Database, tmp_path: Path) -> None:
    """2600 bytes, for a B-tree of PostgreSQL takes keys of up to 2704."""
    chosen = random.Random(1)
    path = os.fsencode(tmp_path)
    while len(path) < catalog.MAX_PATH_BYTES - 201:
        path = os.path.join(path, chosen.randbytes(100).hex().encode())
        os.mkdir(path)
    longest = os.path.join(path, b"x" * (catalog.MAX_PATH_BYTES - len(path) - 1))
    os.mkdir(longest)
    os.mkdir(longest + b"y")
    with database.transaction() as session:
        add(session, "longest", Path(os.fsdecode(longest)))
        with pytest.raises(InvalidError, match="too long: at most 2600 bytes"):
            add(session, "longer", Path(os.fsdecode(longest + b"y")))


def test_only_staff_and_the_database_owner_change_projects(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """An account that is neither: its role in the database owns nothing."""
    user = Caller("ann", os.getuid(), frozenset(), Role.USER)
    with database.transaction() as session:
        add(session, "own", tmp_path, user)  # this session's role owns the database
        other = Caller("bob", 60_002, frozenset(), Role.USER)
        with pytest.raises(ForbiddenError, match="bob may not"):
            catalog.remove_project(session, other, "own")  # the role is ann's, not bob's
        session.execute(sa.text("CREATE ROLE stranger"))
        session.execute(sa.text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO stranger"))
        session.execute(sa.text("SET LOCAL ROLE stranger"))
        with pytest.raises(ForbiddenError, match="that is for staff"):
            catalog.remove_project(session, user, "own")
        session.execute(sa.text("RESET ROLE"))
        session.execute(sa.text("DROP OWNED BY stranger"))
        session.execute(sa.text("DROP ROLE stranger"))
    assert identity.current(settings).is_staff


def test_every_change_is_in_the_audit(database: Database, tmp_path: Path) -> None:
    with database.transaction() as session:
        add(session, "seen", tmp_path)
        catalog.set_project(session, STAFF, "seen", ProjectChange(quota_bytes=5))
        catalog.remove_project(session, STAFF, "seen")
        with pytest.raises(NotFoundError):
            catalog.project(session, "seen")
    with database.transaction() as session:
        query = sa.text("SELECT action, detail FROM audit_event ORDER BY id")
        events = session.execute(query).all()
    actions = [action for action, _ in events]
    assert actions == ["project.add", "project.set", "project.remove"]
    assert events[1][1]["before"]["quota_bytes"] is None
    assert events[1][1]["after"]["quota_bytes"] == 5
