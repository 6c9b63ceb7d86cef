"""The biggest files and directories, these with or without those that others of them lie in."""

from sqlalchemy import orm

from scanners import queries, visibility
from scanners.queries import Row, Selection
from scanners.visibility import Visibility

# Directories that are looked at for each leaf that is wanted: about as deep as trees are.
CANDIDATES = 16
# A deep and narrow tree has many parents a leaf; beyond this, fewer directories are found.
MOST_CANDIDATES = 3000

# The biggest of each project, which an index has in order: no others are read. What is among the
# first of all projects lies in one of those whose own biggest one is among the biggest.
_BIGGEST = f"""
WITH p AS (
    SELECT p.scan_id, p.number, p.name, p.path
    FROM scan_project p
    JOIN LATERAL (
        SELECT i.alloc_bytes FROM {{table}} i WHERE {{in_project}}
        ORDER BY i.alloc_bytes DESC
        LIMIT 1
    ) most ON true
    WHERE p.scan_id IN ({queries.CURRENT})
        AND (CAST(:project AS text) IS NULL OR p.name = :project) AND {visibility.PROJECT}
    ORDER BY most.alloc_bytes DESC
    FETCH FIRST :number ROWS WITH TIES
)
SELECT d.path, p.name AS project, d.uid, d.gid, {{columns}},
    extract(epoch FROM s.started_at)::bigint AS scanned_s
FROM p
JOIN scan s ON s.id = p.scan_id
JOIN LATERAL (
    SELECT * FROM {{table}} i WHERE {{in_project}}
    ORDER BY i.alloc_bytes DESC, i.path
    LIMIT :number
) d ON true
ORDER BY d.alloc_bytes DESC, d.path
LIMIT :number
"""
_IN_PROJECT = f"""
    i.scan_id = p.scan_id AND i.project_number = p.number
    AND (CAST(:uid AS bigint) IS NULL OR i.uid = :uid) AND {visibility.ACCESS.format("i")}
"""
FILES = _BIGGEST.format(
    table="top_file",
    in_project=_IN_PROJECT,
    columns="d.size_bytes, d.alloc_bytes, d.nlink, d.atime_s, d.mtime_s, d.ctime_s",
)
# The tops of scans and of projects are left out: they say nothing that the project does not.
DIRECTORIES = _BIGGEST.format(
    table="directory",
    in_project=f"{_IN_PROJECT} AND i.depth > 0 AND i.path IS DISTINCT FROM p.path",
    columns="d.files, d.directories, d.size_bytes, d.alloc_bytes, d.newest_atime_s AS atime_s, "
    "d.newest_mtime_s AS mtime_s, d.newest_ctime_s AS ctime_s",
)


def files(
    session: orm.Session, visible: Visibility, selection: Selection, number: int
) -> list[Row]:
    """The biggest files by space on disk, with ages in seconds at the scan.

    At most `scan.top_files` per project and user are known.

    Raises:
        NotFoundError: nothing was scanned, or project or account are unknown.
    """
    return queries.with_owner_and_ages(_biggest(session, visible, selection, number, FILES))


def directories(
    session: orm.Session,
    visible: Visibility,
    selection: Selection,
    number: int,
    *,
    parents: bool = True,
) -> list[Row]:
    """The biggest directories by the space of all below; ages are those of the newest file.

    Without `parents`, none has another.

    Raises:
        NotFoundError: nothing was scanned, or project or account are unknown.
    """
    if parents:
        return queries.with_owner_and_ages(
            _biggest(session, visible, selection, number, DIRECTORIES)
        )
    asked = min(CANDIDATES * number, MOST_CANDIDATES)
    while True:
        rows = _biggest(session, visible, selection, asked, DIRECTORIES)
        found = innermost(rows, number)
        if len(found) == number or len(rows) < asked or asked == MOST_CANDIDATES:
            return queries.with_owner_and_ages(found)
        asked = min(4 * asked, MOST_CANDIDATES)


def innermost(rows: list[Row], number: int) -> list[Row]:
    """The first of `rows`, biggest first, of which `number` lie in no other of them.

    Each row that is taken pushes out those around it, which are bigger and came before.
    """
    left: dict[bytes, Row] = {}
    for row in rows:
        if len(left) == number:
            break
        path: bytes = row["path"]
        while (path := path.rpartition(b"/")[0]) != b"":
            left.pop(path, None)
        left[row["path"]] = row
    return list(left.values())


def _biggest(
    session: orm.Session, visible: Visibility, selection: Selection, number: int, query: str
) -> list[Row]:
    queries.require_scan(session, visible, selection)
    parameters = queries.parameters_of(visible, selection) | {"number": number}
    return queries.fetch(session, query, parameters)
