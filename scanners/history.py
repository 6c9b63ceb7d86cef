"""What scans found of each project, kept for ever: reading it, forecasting by it, thinning it."""

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import audit
from datamgr.config_nightly import NightlySettings
from datamgr.errors import NotFoundError
from datamgr.identity import Caller
from scanners import trend
from scanners.queries import CURRENT, Row, Selection, fetch
from scanners.trend import Forecast, Point
from scanners.visibility import Visibility

MEASURES = {"bytes": "alloc_bytes", "inodes": "inodes"}

# Every scan of a project with the quota of today beside the one of then. Today's comes by way of
# the current scan: a directory of another file system may be called like a registered project.
SERIES = f"""
SELECT h.scan_id, h.filesystem, h.project, h.scanned_at, h.alloc_bytes, h.size_bytes,
    h.files + h.directories AS inodes, h.quota_bytes, h.quota_inodes,
    p.quota_bytes AS bytes_now, p.quota_inodes AS inodes_now
FROM project_history h
LEFT JOIN (
    SELECT f.name AS filesystem, s.name, q.quota_bytes, q.quota_inodes
    FROM scan_project s
    JOIN scan c ON c.id = s.scan_id
    JOIN filesystem f ON f.id = c.filesystem_id
    JOIN project q ON q.id = s.project_id
    WHERE s.scan_id IN ({CURRENT})
) p ON p.filesystem = h.filesystem AND p.name = h.project
WHERE h.project = ANY(:projects)
    AND (CAST(:filesystem AS text) IS NULL OR h.filesystem = :filesystem)
    AND (CAST(:since AS timestamptz) IS NULL OR h.scanned_at >= :since)
ORDER BY h.project, h.filesystem, h.scanned_at, h.scan_id
"""

# The first scan of each span is kept: all of the last days, then one a week, then one a month;
# and, whatever its span, the last one. The first scan of a span stays the first one, so thinning
# again removes nothing more.
THIN = """
DELETE FROM project_history h USING (
    SELECT scan_id, project,
        row_number() OVER (
            PARTITION BY filesystem, project, CASE
                WHEN scanned_at >= :all_since THEN 'scan ' || scan_id
                WHEN scanned_at >= :weekly_since THEN 'week ' || date_trunc('week', scanned_at)
                ELSE 'month ' || date_trunc('month', scanned_at)
            END
            ORDER BY scanned_at, scan_id
        ) AS in_span,
        row_number() OVER (
            PARTITION BY filesystem, project ORDER BY scanned_at DESC, scan_id DESC
        ) AS from_last
    FROM project_history
) numbered
WHERE h.scan_id = numbered.scan_id AND h.project = numbered.project
    AND numbered.in_span > 1 AND numbered.from_last > 1
"""


def series(
    session: orm.Session,
    visible: Visibility,
    selection: Selection,
    since: datetime | None = None,
) -> dict[str, list[Row]]:
    """The scans of `selection.project` by file system, oldest first.

    Raises:
        NotFoundError: no scan since then knows the project, or it is hidden.
    """
    parameters = {
        "projects": [selection.project],
        "filesystem": selection.filesystem,
        "since": since,
    }
    found: dict[str, list[Row]] = {}
    for row in fetch(session, SERIES, parameters):
        if visible.sees(row["filesystem"], row["project"]):
            found.setdefault(row["filesystem"], []).append(row)
    if not found:
        raise NotFoundError(
            f"there is no history of project {selection.project!r}; `datamgr usage` names projects"
        )
    return found


def forecasts(rows: list[Row], *, windowed: bool = True) -> dict[str, Forecast]:
    """By measure, what a series of one file system says of the quota of today.

    `windowed`: by the last 90 days only, else by all rows. A project that is not registered, or
    not in the current scan, has no quota.
    """
    found = {}
    for measure, column in MEASURES.items():
        points = tuple((row["scanned_at"], row[column]) for row in rows)
        quota = rows[-1][f"{measure}_now"] if rows else None
        found[measure] = (
            trend.forecast_recent(points, quota)
            if windowed
            else trend.forecast([Point(*point) for point in points], quota)
        )
    return found


def all_forecasts(
    session: orm.Session, projects: list[str]
) -> dict[tuple[str, str], dict[str, Forecast]]:
    """The forecasts of many projects, by file system and project."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    parameters = {"projects": projects, "filesystem": None, "since": None}
    for row in fetch(session, SERIES, parameters):
        grouped.setdefault((row["filesystem"], row["project"]), []).append(row)
    return {key: forecasts(rows) for key, rows in grouped.items()}


def thin(session: orm.Session, caller: Caller, settings: NightlySettings, now: datetime) -> int:
    """Thin the history out as configured; returns how many rows went. The caller commits."""
    result = session.execute(
        sa.text(THIN),
        {
            "all_since": now - timedelta(days=settings.history_all_days),
            "weekly_since": now - timedelta(days=settings.history_weekly_days),
        },
    )
    removed = int(getattr(result, "rowcount", 0))
    if removed:
        audit.record(session, caller, "history.thin", "project_history", {"rows": removed})
    return removed
