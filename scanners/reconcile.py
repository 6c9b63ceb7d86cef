"""What a scan and the file system's quota system count of the same project."""

from datetime import datetime

from sqlalchemy import orm

from datamgr import catalog
from datamgr.errors import NotFoundError
from scanners.queries import CURRENT, Row, fetch
from scanners.visibility import Visibility

NO_REPORT = "no quotas were reported; import them by `datamgr project quotas`"

# The newest report of each project beside the sum of it in the current scans.
COMPARED = f"""
SELECT p.name AS project, u.scanned_at, u.alloc_bytes AS scan_bytes, u.inodes AS scan_inodes,
    r.reported_at, r.source, r.usage_bytes AS report_bytes, r.usage_inodes AS report_inodes
FROM project p
JOIN LATERAL (
    SELECT * FROM quota_report q WHERE q.project_id = p.id ORDER BY q.reported_at DESC LIMIT 1
) r ON true
LEFT JOIN (
    SELECT s.project_id, min(c.started_at) AS scanned_at,
        coalesce(sum(t.alloc_bytes), 0) AS alloc_bytes,
        coalesce(sum(t.files + t.directories), 0) AS inodes
    FROM scan_project s
    JOIN scan c ON c.id = s.scan_id
    LEFT JOIN usage t ON t.scan_id = s.scan_id AND t.project_number = s.number
    WHERE s.scan_id IN ({CURRENT})
    GROUP BY s.project_id
) u ON u.project_id = p.id
WHERE CAST(:project AS text) IS NULL OR p.name = :project
ORDER BY p.name
"""


def compare(
    session: orm.Session, visible: Visibility, project: str | None, now: datetime
) -> list[Row]:
    """Both figures of each project that has a report, their difference and their ages.

    A difference is scan minus quota system, its percentage is of the quota system's figure;
    None where one is unknown. A scan counts blocks on disk, directories included.

    Raises:
        NotFoundError: there is no such project, or no report of it.
    """
    if project is not None:
        catalog.project(session, project)
    found = fetch(session, COMPARED, {"filesystem": None, "project": project})
    rows = [row for row in found if visible.sees_on_any(row["project"])]
    if project is not None and not rows:
        raise NotFoundError(
            f"no quota of project {project!r} was reported; import it by `datamgr project quotas`"
        )
    for row in rows:
        for measure in ("bytes", "inodes"):
            ours, theirs = row[f"scan_{measure}"], row[f"report_{measure}"]
            known = ours is not None and theirs is not None
            row[f"difference_{measure}"] = ours - theirs if known else None
            row[f"difference_{measure}_percent"] = (
                round(100 * (ours - theirs) / theirs, 2) if known and theirs else None
            )
        row["scan_age_s"] = _age_s(row["scanned_at"], now)
        row["report_age_s"] = _age_s(row["reported_at"], now)
    return rows


def _age_s(when: datetime | None, now: datetime) -> int | None:
    return None if when is None else int((now - when).total_seconds())
