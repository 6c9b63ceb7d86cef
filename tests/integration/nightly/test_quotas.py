"""Quotas from the file system, and the scan beside the quota system."""

import io
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
import sqlalchemy as sa

from datamgr import audit, catalog, identity, quotas
from datamgr.config import Settings
from datamgr.db import Database
from datamgr.errors import ForbiddenError
from datamgr.identity import Caller, Role
from datamgr.quota_formats import Limits, QuotaLine
from tests.commands import call

from .conftest import NOW, Catalog

HEADER = "project,quota_bytes,quota_inodes,usage_bytes,usage_inodes\n"


@pytest.fixture(autouse=True)
def projects(centre: Catalog, settings: Settings) -> Catalog:
    """Two projects; `alpha` uses 900 bytes and 9 inodes by the scan."""
    centre.add("alpha", 1000, 10)
    centre.add("beta", None, None)
    centre.use("alpha", 900, 9)
    return centre


def quotas_now(database: Database) -> dict[str, tuple[int | None, int | None]]:
    with database.transaction(read_only=True) as session:
        return {p.name: (p.quota_bytes, p.quota_inodes) for p in catalog.projects(session)}


def reports(database: Database) -> list[tuple[object, ...]]:
    with database.transaction(read_only=True) as session:
        rows = session.scalars(sa.select(quotas.QuotaReport).order_by(sa.text("1, 2"))).all()
        return [(r.source, r.reported_at, r.usage_bytes, r.usage_inodes) for r in rows]


def actions(database: Database) -> list[str]:
    with database.transaction(read_only=True) as session:
        events = session.scalars(sa.select(audit.AuditEvent).order_by(audit.AuditEvent.id))
        return [f"{event.action} {event.subject}" for event in events]


def report(tmp_path: Path, text: str, name: str = "report.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    return path


def test_quotas_are_set_and_what_was_reported_is_kept(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """alpha gets 2000 bytes and loses its inode quota; beta, with unknown bytes, gets 50 inodes."""
    path = report(tmp_path, HEADER + "alpha,2000,0,950,9\nbeta,,50,,\nother,1,1,1,1\n")
    answer = call(capfd, "project", "quotas", "--from", "csv", path, "--json").json
    assert [(r["name"], r["project"], r["state"]) for r in answer["rows"]] == [
        ("alpha", "alpha", "changed"), ("beta", "beta", "changed"), ("other", None, "unknown"),
    ]  # fmt: skip
    assert quotas_now(database) == {"alpha": (2000, None), "beta": (None, 50)}
    assert reports(database) == [("csv", NOW, 950, 9), ("csv", NOW, None, None)]
    assert actions(database) == ["project.set alpha", "project.set beta", "project.quotas csv"]


def test_the_same_report_again_changes_nothing(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = report(tmp_path, HEADER + "alpha,2000,20,950,9\n")
    for expected in ("changed", "same"):
        answer = call(capfd, "project", "quotas", "--from", "csv", path, "--json").json
        assert [row["state"] for row in answer["rows"]] == [expected]
    assert len(reports(database)) == 1
    assert actions(database).count("project.set alpha") == 1


def test_a_dry_run_says_the_same_and_changes_nothing(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = quotas_now(database)
    path = report(tmp_path, HEADER + "alpha,2000,20,950,9\n")
    done = call(capfd, "project", "quotas", "--from", "csv", path, "--dry-run")
    assert done.exit_code == 0
    assert "would change 1 of 1 quotas" in done.stdout
    assert (quotas_now(database), reports(database), actions(database)) == (before, [], [])


def test_lustre_projects_are_found_by_a_map_and_standard_input_is_now(
    database: Database,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The soft limit of 4 KiB counts, or with --hard the hard one of 8 KiB."""
    text = (
        b"Disk quotas for prj 1001 (pid 1001):\n"
        b"     Filesystem  kbytes   quota   limit   grace   files   quota   limit   grace\n"
        b"          /fs       5*       4       8       6d       7       0       0       -\n"
    )
    names = report(tmp_path, "1001=alpha\n", "map")
    command = ("project", "quotas", "--from", "lfs-quota", "-", "--map", names)
    begin = datetime.now(UTC)
    for options, quota in (((), 4096), (("--hard",), 8192)):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text)))
        assert call(capfd, *command, *options).exit_code == 0
        assert quotas_now(database)["alpha"] == (quota, None)
    times = [at for _, at, usage, _ in reports(database) if usage == 5 * 1024]
    assert len(times) == 2
    assert all(isinstance(at, datetime) and at >= begin for at in times)


@pytest.mark.parametrize(
    ("text", "options", "exit_code", "reason"),
    [
        (
            HEADER + "alpha,1,1,1,1\nother,1,1,1,1\n",
            ("--strict",),
            4,
            "belong to no project: other",
        ),
        (HEADER + "alpha,1,1,1,1\nalpha,2,2,2,2\n", (), 4, "lines 2 and 3"),
        ("nonsense", (), 4, "the first line has to be"),
        (HEADER + "alpha,1,1,1,1\n", ("--map", "MAP"), 3, "project 'gone', which is not there"),
        (HEADER + "a\xff", (), 4, "is no UTF-8"),
    ],
)
def test_what_cannot_be_right_changes_nothing(
    database: Database,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    text: str,
    options: tuple[str, ...],
    exit_code: int,
    reason: str,
) -> None:
    before = quotas_now(database)
    path = tmp_path / "report"
    path.write_bytes(text.encode("latin-1"))
    (tmp_path / "map").write_text("fileset=gone\n")
    arguments = [str(tmp_path / "map") if option == "MAP" else option for option in options]
    done = call(capfd, "project", "quotas", "--from", "csv", path, *arguments)
    assert (done.exit_code, done.stdout) == (exit_code, "")
    assert reason in done.stderr
    assert (quotas_now(database), reports(database)) == (before, [])


def test_a_file_that_is_not_there_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    done = call(capfd, "project", "quotas", "--from", "csv", "/no/such/file")
    assert (done.exit_code, done.stderr) == (3, "datamgr: /no/such/file does not exist\n")


def test_only_staff_may_set_quotas(database: Database) -> None:
    """The role of the tests owns the database, so this asks as another one."""
    somebody = Caller("somebody", 12345, frozenset(), Role.USER)
    lines = [QuotaLine(1, ("alpha",), Limits(1), Limits(1))]
    with database.transaction() as session:
        session.execute(sa.text("CREATE ROLE reader"))
        try:
            session.execute(sa.text("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"))
            session.execute(sa.text("SET LOCAL ROLE reader"))
            with pytest.raises(ForbiddenError, match="somebody may not change quotas"):
                quotas.match(session, somebody, quotas.Report("csv", NOW, lines, {}))
        finally:
            session.rollback()


def test_reconcile_shows_both_figures_and_their_ages(
    database: Database, tmp_path: Path, capfd: pytest.CaptureFixture[str], settings: Settings
) -> None:
    """The scan has 900 bytes and 9 inodes, the newest report 1200 and 9: 300 or 25 % less."""
    caller = identity.current(settings)
    for days, usage in ((3, 5000), (1, 1200), (2, 4000)):
        lines = [QuotaLine(1, ("alpha",), Limits(1000), Limits(10), usage, 9)]
        told = quotas.Report("csv", NOW + timedelta(days=-days), lines, {})
        with database.transaction() as session:
            quotas.apply(session, caller, told, quotas.match(session, caller, told))
    (row,) = call(capfd, "usage", "reconcile", "--json").json["rows"]
    assert row["project"] == "alpha"
    assert (row["scan_bytes"], row["report_bytes"]) == (900, 1200)
    assert (row["difference_bytes"], row["difference_bytes_percent"]) == (-300, -25.0)
    assert (row["difference_inodes"], row["difference_inodes_percent"]) == (0, 0.0)
    assert row["report_age_s"] - row["scan_age_s"] == 86400
    shown = call(capfd, "usage", "reconcile", "alpha").stdout
    assert "Migrated files, replicas and snapshots make the two differ." in shown
    assert "-300 B" in shown


def test_reconcile_without_a_report_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    for arguments, exit_code, sentence in (
        (("beta",), 3, "no quota of project 'beta' was reported"),
        (("gone",), 3, "there is no project 'gone'"),
        ((), 0, "no quotas were reported"),
    ):
        done = call(capfd, "usage", "reconcile", *arguments)
        assert done.exit_code == exit_code
        assert sentence in done.stdout + done.stderr
    assert json.loads(call(capfd, "usage", "reconcile", "--json").stdout)["rows"] == []
