"""What projects grew in about a week, and their forecasts, for lists of many projects."""

from datetime import datetime
from functools import lru_cache

from sqlalchemy import orm

from scanners import trend, visibility
from scanners.history import MEASURES
from scanners.queries import CURRENT, Row, Selection, fetch
from scanners.trend import Forecast, Point
from scanners.visibility import Visibility

Key = tuple[str, str]

# Each project of the current scans beside what the last scan a week earlier found, or the first
# one since where none is as old.
GROWTH = f"""
SELECT f.name AS filesystem, p.name AS project, h.scanned_at AS since,
    extract(epoch FROM s.started_at - h.scanned_at)::bigint AS span_s,
    h.alloc_bytes, h.files + h.directories AS inodes
FROM scan_project p
JOIN scan s ON s.id = p.scan_id
JOIN filesystem f ON f.id = s.filesystem_id
JOIN LATERAL (
    (SELECT 1 AS choice, h.* FROM project_history h
    WHERE h.project = p.name AND h.filesystem = f.name
        AND h.scanned_at <= s.started_at - interval '7 days'
    ORDER BY h.scanned_at DESC LIMIT 1)
    UNION ALL
    (SELECT 2 AS choice, h.* FROM project_history h
    WHERE h.project = p.name AND h.filesystem = f.name AND h.scan_id < s.id
        AND h.scanned_at > s.started_at - interval '7 days'
    ORDER BY h.scanned_at LIMIT 1)
    ORDER BY choice LIMIT 1
) h ON true
WHERE p.scan_id IN ({CURRENT}) AND (CAST(:project AS text) IS NULL OR p.name = :project)
    AND {visibility.PROJECT}
"""

# The newest scans of some projects, as many as a forecast can use.
POINTS = f"""
SELECT w.filesystem, w.project, h.scanned_at, h.alloc_bytes, h.files + h.directories AS inodes
FROM unnest(CAST(:filesystems AS text[]), CAST(:projects AS text[])) AS w (filesystem, project)
JOIN LATERAL (
    SELECT * FROM project_history h
    WHERE h.project = w.project AND h.filesystem = w.filesystem
    ORDER BY h.scanned_at DESC, h.scan_id DESC
    LIMIT {trend.WINDOW.days * 24}
) h ON true
ORDER BY w.filesystem, w.project, h.scanned_at, h.scan_id
"""


def growth(session: orm.Session, visible: Visibility, selection: Selection) -> dict[Key, Row]:
    """By file system and project: `alloc_bytes` and `inodes` of then, `since` and `span_s`.

    Projects that were scanned once are missing.
    """
    asked = {"filesystem": selection.filesystem, "project": selection.project}
    rows = fetch(session, GROWTH, visible.parameters | asked)
    return {(row["filesystem"], row["project"]): row for row in rows}


def forecasts(session: orm.Session, projects: list[Row]) -> dict[Key, dict[str, Forecast]]:
    """By file system and project: the forecast of each measure, as `history.forecasts` makes it.

    `projects` are visible rows of `queries.projects`.
    """
    asked = {
        "filesystems": [row["filesystem"] for row in projects],
        "projects": [row["project"] for row in projects],
    }
    found: dict[Key, list[Row]] = {}
    for row in fetch(session, POINTS, asked):
        found.setdefault((row["filesystem"], row["project"]), []).append(row)
    return {
        (row["filesystem"], row["project"]): {
            measure: _forecast(
                tuple(
                    (point["scanned_at"], point[column])
                    for point in found.get((row["filesystem"], row["project"]), ())
                ),
                row[f"quota_{measure}"],
            )
            for measure, column in MEASURES.items()
        }
        for row in projects
    }


# A forecast is a median of thousands of slopes, and stays the same until the next scan.
@lru_cache(maxsize=4096)
def _forecast(points: tuple[tuple[datetime, int], ...], quota: int | None) -> Forecast:
    return trend.forecast(trend.recent([Point(at, used) for at, used in points]), quota)
