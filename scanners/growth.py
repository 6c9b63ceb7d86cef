"""What grew between two scans: by project, by owner, by directory."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import orm

from datamgr import owners
from datamgr.errors import NotFoundError
from scanners import visibility
from scanners.queries import Row, Selection, fetch, require_scan
from scanners.visibility import Visibility

# Each current scan with the one before it, or with the last one before :since.
PAIRS = """
SELECT f.name AS filesystem, n.id AS new_id, o.id AS old_id, n.started_at AS new_at,
    o.started_at AS old_at
FROM scan n
JOIN filesystem f ON f.id = n.filesystem_id
JOIN LATERAL (
    SELECT s.id, s.started_at FROM scan s
    WHERE s.filesystem_id = n.filesystem_id AND s.state = 'published' AND s.id < n.id
    ORDER BY (CAST(:since AS timestamptz) IS NOT NULL AND s.started_at > :since),
        CASE WHEN s.started_at > :since THEN s.started_at END,
        s.id DESC
    LIMIT 1
) o ON true
WHERE n.id = ANY(:scan_ids)
ORDER BY f.name
"""

PROJECTS = f"""
WITH totals AS (
    SELECT p.scan_id, p.name, coalesce(sum(u.files + u.directories), 0) AS inodes,
        coalesce(sum(u.alloc_bytes), 0) AS alloc_bytes
    FROM scan_project p
    LEFT JOIN usage u ON u.scan_id = p.scan_id AND u.project_number = p.number
    WHERE p.scan_id IN (:old_id, :new_id)
        AND (CAST(:project AS text) IS NULL OR p.name = :project)
        AND {visibility.PROJECT}
    GROUP BY p.scan_id, p.name
)
SELECT coalesce(n.name, o.name) AS project, coalesce(n.inodes, 0) AS inodes,
    coalesce(n.alloc_bytes, 0) AS alloc_bytes,
    coalesce(n.inodes, 0) - coalesce(o.inodes, 0) AS grown_inodes,
    coalesce(n.alloc_bytes, 0) - coalesce(o.alloc_bytes, 0) AS grown_bytes
FROM (SELECT * FROM totals WHERE scan_id = :new_id) n
FULL JOIN (SELECT * FROM totals WHERE scan_id = :old_id) o ON o.name = n.name
ORDER BY grown_bytes DESC, grown_inodes DESC, project
"""

USERS = f"""
WITH totals AS (
    SELECT u.scan_id, u.uid, sum(u.files + u.directories) AS inodes,
        sum(u.alloc_bytes) AS alloc_bytes
    FROM usage u
    JOIN scan_project p ON p.scan_id = u.scan_id AND p.number = u.project_number
    WHERE u.scan_id IN (:old_id, :new_id)
        AND (CAST(:project AS text) IS NULL OR p.name = :project)
        AND {visibility.PROJECT}
    GROUP BY u.scan_id, u.uid
)
SELECT coalesce(n.uid, o.uid) AS uid, coalesce(n.inodes, 0) AS inodes,
    coalesce(n.alloc_bytes, 0) AS alloc_bytes,
    coalesce(n.inodes, 0) - coalesce(o.inodes, 0) AS grown_inodes,
    coalesce(n.alloc_bytes, 0) - coalesce(o.alloc_bytes, 0) AS grown_bytes
FROM (SELECT * FROM totals WHERE scan_id = :new_id) n
FULL JOIN (SELECT * FROM totals WHERE scan_id = :old_id) o ON o.uid = n.uid
ORDER BY grown_bytes DESC, grown_inodes DESC, uid
"""

# Directories that changed, most grown first. Those above the projects are left out, and so is
# every directory whose growth is that of one directory in it: the deepest one says where it is.
DIRECTORIES = f"""
WITH new AS (
    SELECT d.scan_id, d.dir_id, d.parent_id, d.path, d.depth, d.project_number, d.access_id,
        d.files + d.directories AS inodes, d.alloc_bytes
    FROM directory d
    WHERE d.scan_id = :new_id
), old AS (
    SELECT d.path, d.files + d.directories AS inodes, d.alloc_bytes
    FROM directory d
    WHERE d.scan_id = :old_id
), changed AS (
    SELECT n.dir_id, n.parent_id, n.path, n.depth, p.name AS project, n.inodes, n.alloc_bytes,
        n.inodes - coalesce(o.inodes, 0) AS grown_inodes,
        n.alloc_bytes - coalesce(o.alloc_bytes, 0) AS grown_bytes
    FROM new n
    JOIN scan_project p ON p.scan_id = :new_id AND p.number = n.project_number
    LEFT JOIN old o ON o.path = n.path
    WHERE (n.alloc_bytes > coalesce(o.alloc_bytes, 0) OR n.inodes > coalesce(o.inodes, 0))
        AND (CAST(:project AS text) IS NULL OR p.name = :project)
        AND {visibility.PROJECT} AND {visibility.ACCESS.format("n")}
)
SELECT c.path, c.project, c.inodes, c.alloc_bytes, c.grown_inodes, c.grown_bytes
FROM changed c
WHERE NOT EXISTS (
    SELECT FROM changed inner_
    WHERE inner_.parent_id = c.dir_id AND inner_.grown_bytes = c.grown_bytes
        AND inner_.grown_inodes = c.grown_inodes
) AND c.depth > 0
ORDER BY c.grown_bytes DESC, c.grown_inodes DESC, c.path
LIMIT :number
"""


def scan_pairs(
    session: orm.Session,
    visible: Visibility,
    selection: Selection,
    since: datetime | None = None,
) -> list[Row]:
    """The scans compared, one row a file system: `old_id`, `old_at`, `new_id`, `new_at`.

    Without `since` the scan before the current one is the old one; with it, the last scan up
    to then, or the first one after where there is none. A file system with one scan has no row.

    Raises:
        NotFoundError: nothing was scanned, or the project is in no current scan.
    """
    scan_ids = require_scan(session, visible, selection)
    return fetch(session, PAIRS, {"scan_ids": scan_ids, "since": since})


def by_project(
    session: orm.Session, visible: Visibility, pair: Row, selection: Selection
) -> list[Row]:
    """How each project grew between the two scans, most first; a vanished one shrank to 0."""
    return fetch(session, PROJECTS, _parameters(visible, pair, selection))


def by_user(
    session: orm.Session, visible: Visibility, pair: Row, selection: Selection
) -> list[Row]:
    """How each user's files grew between the two scans, most first."""
    rows = fetch(session, USERS, _parameters(visible, pair, selection))
    return [{"user": owners.user_name(row["uid"]), **row} for row in rows]


def by_directory(
    session: orm.Session, visible: Visibility, pair: Row, selection: Selection, number: int
) -> list[Row]:
    """The `number` directories that grew most, each named as deep as its growth reaches."""
    parameters = _parameters(visible, pair, selection) | {"number": number}
    return fetch(session, DIRECTORIES, parameters)


def changes(
    session: orm.Session,
    visible: Visibility,
    pair: Row,
    selection: Selection,
    number: int,
    what: str | None = None,
) -> list[Row]:
    """The growth of one file system by project, user and directory, or by one of these.

    `by` says which kind of row it is; of directories there are at most `number`.
    """
    kinds: dict[str, Callable[[], list[Row]]] = {
        "project": lambda: by_project(session, visible, pair, selection),
        "user": lambda: by_user(session, visible, pair, selection),
        "directory": lambda: by_directory(session, visible, pair, selection, number),
    }
    return [
        {"by": kind, "filesystem": pair["filesystem"], **row}
        for kind, find in kinds.items()
        if what in (None, kind)
        for row in find()
    ]


def require_pairs(
    session: orm.Session,
    visible: Visibility,
    selection: Selection,
    since: datetime | None = None,
) -> list[Row]:
    """As `scan_pairs`, but there must be one.

    Raises:
        NotFoundError: nothing was scanned twice.
    """
    pairs = scan_pairs(session, visible, selection, since)
    if not pairs:
        raise NotFoundError("growth needs two scans of a file system and there is one; scan again")
    return pairs


def _parameters(visible: Visibility, pair: Row, selection: Selection) -> dict[str, Any]:
    return visible.parameters | {
        "old_id": pair["old_id"],
        "new_id": pair["new_id"],
        "project": selection.project,
    }
