"""What projects grew in about a week, and their forecasts, for lists of many projects."""

from sqlalchemy import orm

from scanners import trend, visibility
from scanners.history import MEASURES
from scanners.queries import CURRENT, Row, Selection, fetch
from scanners.trend import Forecast
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

# The newest scans of some projects, oldest first, as many as a forecast can use.
POINTS = f"""
SELECT w.filesystem, w.project, h.scanned_at, h.alloc_bytes, h.inodes
FROM unnest(CAST(:filesystems AS text[]), CAST(:projects AS text[])) AS w (filesystem, project)
JOIN LATERAL (
    SELECT array_agg(n.scanned_at ORDER BY n.scanned_at, n.scan_id) AS scanned_at,
        array_agg(n.alloc_bytes ORDER BY n.scanned_at, n.scan_id) AS alloc_bytes,
        array_agg(n.files + n.directories ORDER BY n.scanned_at, n.scan_id) AS inodes
    FROM (
        SELECT * FROM project_history h
        WHERE h.project = w.project AND h.filesystem = w.filesystem
        ORDER BY h.scanned_at DESC, h.scan_id DESC
        LIMIT {trend.WINDOW.days * 24}
    ) n
) h ON h.scanned_at IS NOT NULL
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
    found = {(row["filesystem"], row["project"]): row for row in fetch(session, POINTS, asked)}
    forecasts = {}
    for row in projects:
        key = row["filesystem"], row["project"]
        known = found.get(key, _UNKNOWN)
        forecasts[key] = {
            measure: trend.forecast_recent(
                tuple(zip(known["scanned_at"], known[column], strict=True)),
                row[f"quota_{measure}"],
            )
            for measure, column in MEASURES.items()
        }
    return forecasts


_UNKNOWN: Row = {"scanned_at": (), **dict.fromkeys(MEASURES.values(), ())}
