"""The history of projects: the trend that is told from it, and how it is thinned out."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from datamgr import audit, db, identity
from datamgr.config import Settings
from datamgr.config_nightly import NightlySettings
from datamgr.db import Database
from scanners import history, models
from tests.commands import call

from .conftest import NOW, Catalog


def times(database: Database, project: str) -> list[datetime]:
    table = models.project_history
    with database.transaction(read_only=True) as session:
        return list(
            session.scalars(
                sa.select(table.c.scanned_at)
                .where(table.c.project == project)
                .order_by(table.c.filesystem, table.c.scanned_at)
            )
        )


def thin(database: Database, settings: Settings, now: datetime = NOW) -> int:
    with database.transaction() as session:
        return history.thin(session, identity.current(settings), NightlySettings(), now)


def daily(days: int) -> list[tuple[datetime, int]]:
    return [(NOW - timedelta(days=days - 1 - n), 1000 + n) for n in range(days)]


def test_thinning_keeps_days_then_weeks_then_months(
    database: Database, centre: Catalog, settings: Settings
) -> None:
    """1200 daily scans: all of 90 days, one a week back to 730 days, then one a month."""
    centre.remember("alpha", daily(1200))
    before = times(database, "alpha")
    removed = thin(database, settings)
    after = times(database, "alpha")
    assert removed == len(before) - len(after)

    all_since, weekly_since = NOW - timedelta(days=90), NOW - timedelta(days=730)
    assert [t for t in after if t >= all_since] == [t for t in before if t >= all_since]
    weeks = [t.isocalendar()[:2] for t in after if weekly_since <= t < all_since]
    months = [(t.year, t.month) for t in after if t < weekly_since]
    assert weeks == sorted({t.isocalendar()[:2] for t in before if weekly_since <= t < all_since})
    assert months == sorted({(t.year, t.month) for t in before if t < weekly_since})
    assert (after[0], after[-1]) == (before[0], before[-1])


def test_thinning_again_removes_nothing_and_every_night_stays_right(
    database: Database, centre: Catalog, settings: Settings
) -> None:
    """As time goes on, the first and the last scan stay, and no month is left without one."""
    centre.remember("alpha", daily(800))
    before = times(database, "alpha")
    assert thin(database, settings) > 0
    assert thin(database, settings) == 0
    for later in range(0, 900, 60):
        thin(database, settings, NOW + timedelta(days=later))
    after = times(database, "alpha")
    assert (after[0], after[-1]) == (before[0], before[-1])
    assert {(t.year, t.month) for t in after} == {(t.year, t.month) for t in before}


def test_each_file_system_and_project_is_thinned_for_itself(
    database: Database, centre: Catalog, settings: Settings
) -> None:
    """Two scans on one day a year ago: of one series one stays, of two series both."""
    old = NOW - timedelta(days=365)
    for project, filesystem in (("alpha", "fs"), ("alpha", "other"), ("beta", "fs")):
        centre.remember(project, [(old - timedelta(days=90), 1), (old, 2), (NOW, 3)], filesystem)
    assert thin(database, settings) == 0
    centre.remember("alpha", [(old + timedelta(hours=1), 2)])
    assert thin(database, settings) == 1


def test_the_last_scan_stays_however_old_it_is(
    database: Database, centre: Catalog, settings: Settings
) -> None:
    """Ten scans in one month three years ago: the first and the last."""
    begin = NOW.replace(year=2023, day=2)
    centre.remember("alpha", [(begin + timedelta(days=n), n) for n in range(10)])
    assert thin(database, settings) == 8
    assert times(database, "alpha") == [begin, begin + timedelta(days=9)]
    with database.transaction(read_only=True) as session:
        event = session.scalars(sa.select(audit.AuditEvent)).one()
    assert (event.action, event.detail) == ("history.thin", {"rows": 8})


def test_trend_shows_the_scans_and_when_the_quotas_are_full(
    database: Database, centre: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    """10 a day, 1090 at the last scan and 2000 allowed: 91 days. Inodes: a tenth, no quota."""
    centre.add("alpha", quota_bytes=2000)
    last = db.utc_now() - timedelta(minutes=1)
    found = [(last - timedelta(days=9 - n), 1000 + 10 * n) for n in range(10)]
    centre.remember("alpha", found)
    answer = call(capfd, "usage", "trend", "alpha", "--json").json
    assert [row["alloc_bytes"] for row in answer["rows"]] == [used for _, used in found]
    space, inodes = answer["forecasts"]
    assert (space["state"], space["per_day"]) == ("growing", 10)
    assert space["days"] == pytest.approx(91, abs=0.01)
    assert (inodes["state"], inodes["per_day"]) == ("no quota", 1)

    full = (last + timedelta(days=91)).date()
    shown = call(capfd, "usage", "trend", "alpha").stdout
    assert f"bytes   70 B a week: full in about 91 days ({full}), between 91 and 91" in shown
    assert "inodes  7 a week: no quota" in shown
    assert "█" * 16 + "·" * 14 in shown  # 1090 of 2000 are 16.35 of 30

    since = (last - timedelta(days=2)).date().isoformat()
    answer = call(capfd, "usage", "trend", "alpha", "--since", since, "--json").json
    assert 2 <= len(answer["rows"]) <= 3
    assert answer["forecasts"][0]["sentence"] == "too few scans (needs 4)"


def test_a_directory_called_like_a_project_has_not_its_quota(
    centre: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    """alpha is registered on fs; what is called alpha on another file system is none."""
    centre.add("alpha", quota_bytes=10)
    for filesystem in ("fs", "other"):
        centre.remember("alpha", daily(5), filesystem)
    rows = call(capfd, "usage", "trend", "alpha", "--json").json["forecasts"]
    states = {row["filesystem"]: row["state"] for row in rows if row["measure"] == "bytes"}
    assert states == {"fs": "full", "other": "no quota"}


def test_trend_keeps_file_systems_apart(centre: Catalog, capfd: pytest.CaptureFixture[str]) -> None:
    for filesystem in ("fs", "other"):
        centre.remember("alpha", daily(5), filesystem)
    rows = call(capfd, "usage", "trend", "alpha", "--json").json["forecasts"]
    assert [(row["filesystem"], row["measure"]) for row in rows] == [
        ("fs", "bytes"), ("fs", "inodes"), ("other", "bytes"), ("other", "inodes"),
    ]  # fmt: skip
    answer = call(capfd, "usage", "trend", "alpha", "--filesystem", "other", "--json").json
    assert {row["filesystem"] for row in answer["rows"]} == {"other"}


def test_trend_of_what_was_never_scanned_says_so(
    centre: Catalog, capfd: pytest.CaptureFixture[str]
) -> None:
    done = call(capfd, "usage", "trend", "gone")
    assert (done.exit_code, done.stderr) == (
        3,
        "datamgr: there is no history of project 'gone'; `datamgr usage` names projects\n",
    )
