"""The page for staff, and what the addresses tell those who are not logged in."""

import os
import subprocess
from pathlib import Path

import httpx
import pytest

from datamgr import db, tasks
from datamgr.config import Settings
from datamgr.config_nightly import AlertRule, AlertSettings
from datamgr.config_tier import TierSettings
from datamgr.db import Database
from datamgr.errors import DatamgrError
from datamgr.tasks import State
from scanners import alerts, scan
from tests.commands import DATAMGR
from tests.integration.pages.conftest import ADA, STAFF, STRANGER, As, serving
from tests.pages import text_of
from tests.waits import eventually


def test_staff_see_scans_tasks_and_services(
    client: httpx.Client, settings: Settings, database: Database, scanned: Path
) -> None:
    with database.transaction() as session:
        first = tasks.submit(session, STAFF, "scan", "scan:cfs", {}).id
        second = tasks.submit(session, STAFF, "scan", "scan:cfs", {}).id
        failed = tasks.get(session, first)
        failed.state, failed.error = State.FAILED, "the disk is <full>"
    with pytest.raises(DatamgrError):
        gone = os.fsencode(scanned / "gone")
        scan.run(settings, database, scan.ScanRequest("gone", [gone], workers=1))
    page = client.get("/operations")
    words = text_of(page.text)
    assert page.status_code == 200
    assert "scan: 1 waiting since just now, 0 running" in words
    assert "the disk is <full>" in words
    assert f"{first} scan:cfs failed" in words
    assert f"{second} scan:cfs queued" in words
    assert "cfs walk on" in words
    assert "current" in words
    assert "Scan worker does not run" in words
    assert "Permission worker does not run" in words
    assert "Lister does not run" in words
    assert 'href="/operations" aria-current="page"' in page.text


def test_staff_see_that_a_worker_runs(client: httpx.Client, settings: Settings) -> None:
    worker = subprocess.Popen([*DATAMGR, "worker"], stderr=subprocess.DEVNULL)
    try:
        eventually(
            lambda: "Scan worker answers" in text_of(client.get("/operations").text),
            "the page shows the worker",
        )
    finally:
        worker.kill()
        worker.wait()
    eventually(
        lambda: "Scan worker does not run" in text_of(client.get("/operations").text),
        "the page shows that it is gone",
    )


def test_staff_see_alerts_and_whether_tiering_works(
    settings: Settings, database: Database, scanned: Path
) -> None:
    """cosmo holds 4 MiB of 3."""
    rule = AlertRule(name="full", bytes_percent=90, email=("ada@example.org",))
    with database.transaction() as session:
        alerts.update(session, AlertSettings(rule=(rule,)), db.utc_now())
    tier = TierSettings(root=scanned / "cosmo", archive=Path("/archive"))
    with serving(settings.model_copy(update={"tier": {"lab": tier}}), database, STAFF) as client:
        words = text_of(client.get("/operations").text)
    assert "Tiering of lab does not run" in words
    assert "cosmo cfs, space against quota; rule full crossed 133" in words
    assert "90 % just now" in words
    assert "ada@example.org" in words


@pytest.mark.parametrize("who", [ADA, STRANGER], ids=lambda who: who.username)
def test_others_do_not(as_: As, who: object) -> None:
    client = as_(who)  # type: ignore[arg-type]
    answer = client.get("/operations")
    assert answer.status_code == 403
    assert "this page is for staff" in answer.text
