"""Where to search: which scans, and which directories of them a caller may see and asks about."""

from array import array
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import orm

from scanners import queries, visibility
from scanners.queries import Selection
from scanners.reader import DirectoryIds
from scanners.store import ScanStore
from scanners.visibility import Visibility

SCANS = """
SELECT s.id, f.name AS filesystem, s.source, extract(epoch FROM s.started_at)::bigint AS started_s
FROM scan s JOIN filesystem f ON f.id = s.filesystem_id
WHERE s.id = ANY(:ids)
ORDER BY f.name
"""

_SEEN = f"{visibility.PROJECT} AND {visibility.ACCESS.format('d')}"

# The visible directories of a scan, or of a project in it.
IN_PROJECT = f"""
SELECT d.dir_id
FROM directory d JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
WHERE d.scan_id = :scan_id AND (CAST(:project AS text) IS NULL OR p.name = :project) AND {_SEEN}
ORDER BY d.dir_id
"""

# The same below one of them. Projects lie within each other, and so do rules.
BELOW = f"""
WITH RECURSIVE below AS (
    SELECT t.scan_id, t.dir_id, t.project_number, t.access_id
    FROM directory t WHERE t.scan_id = :scan_id AND t.path = :path
    UNION ALL
    SELECT c.scan_id, c.dir_id, c.project_number, c.access_id
    FROM directory c JOIN below b ON c.parent_id = b.dir_id
    WHERE c.scan_id = :scan_id
)
SELECT d.dir_id
FROM below d
JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
WHERE (CAST(:project AS text) IS NULL OR p.name = :project) AND {_SEEN}
ORDER BY d.dir_id
"""


@dataclass(frozen=True)
class Place:
    """One scan, and the directories of it that are searched."""

    filesystem: str
    scan_id: int
    source: str
    scan_dir: Path
    started_s: int
    directories: DirectoryIds


def of(
    session: orm.Session,
    visible: Visibility,
    store_dir: Path,
    selection: Selection,
    path: bytes | None = None,
) -> list[Place]:
    """Where to search: in the newest scans, in a project, below a directory.

    Raises:
        NotFoundError: nothing was scanned, or project or directory are unknown or hidden.
    """
    scan_ids = queries.require_scan(session, visible, selection)
    if path is not None:
        top = queries.directory(session, visible, path, selection.filesystem)
        scan_ids = [top["scan_id"]]
    return [
        Place(
            scan["filesystem"],
            scan["id"],
            scan["source"],
            ScanStore(store_dir, scan["filesystem"]).path(scan["id"]),
            scan["started_s"],
            _directories(session, visible, scan["id"], selection.project, path),
        )
        for scan in queries.fetch(session, SCANS, {"ids": scan_ids})
    ]


def _directories(
    session: orm.Session, visible: Visibility, scan_id: int, project: str | None, path: bytes | None
) -> DirectoryIds:
    if visible.everything and project is None and path is None:
        return DirectoryIds(None)
    asked = {"scan_id": scan_id, "project": project, "path": path}
    query = sa.text(IN_PROJECT if path is None else BELOW)
    # In pieces, for the numbers as Python objects take five times the memory.
    rows = session.execute(query, visible.parameters | asked, execution_options={"yield_per": 8192})
    return DirectoryIds(array("q", rows.scalars()))
