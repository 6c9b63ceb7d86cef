"""What people ask of the current scans. Every function reads only and returns plain rows.

What a caller may not see is in no answer, see `visibility`. Unless a file system is named, an
answer covers the current scan of each one. Sizes are bytes, hard links count once, `alloc_bytes`
is space on disk and includes the directories' own.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import db, identity, owners
from datamgr.errors import NotFoundError
from scanners import ages, visibility
from scanners.models import Scan, ScanState
from scanners.visibility import Visibility

Row = dict[str, Any]


@dataclass(frozen=True)
class Selection:
    """What a question is about; None means all."""

    filesystem: str | None = None
    project: str | None = None
    user: str | None = None


# The newest published scan of each file system.
CURRENT = """
SELECT max(s.id) AS scan_id
FROM scan s JOIN filesystem f ON f.id = s.filesystem_id
WHERE s.state = 'published' AND (CAST(:filesystem AS text) IS NULL OR f.name = :filesystem)
GROUP BY s.filesystem_id
"""

SCANS = """
SELECT s.id, f.name AS filesystem, s.state, s.source, s.host, s.roots, s.started_at,
    s.finished_at, s.published_at, s.entries, s.directories, s.errors, s.failure,
    s.atime_policy, s.timings_s,
    s.state = 'published' AND s.id = max(s.id) FILTER (WHERE s.state = 'published')
        OVER (PARTITION BY s.filesystem_id) AS current
FROM scan s JOIN filesystem f ON f.id = s.filesystem_id
ORDER BY s.id
"""

# Every project of the current scans with its totals and today's quota.
PROJECTS = f"""
SELECT f.name AS filesystem, p.number, p.name AS project, p.path, s.started_at AS scanned_at,
    coalesce(sum(u.files), 0) AS files,
    coalesce(sum(u.directories), 0) AS directories,
    coalesce(sum(u.files + u.directories), 0) AS inodes,
    coalesce(sum(u.size_bytes), 0) AS size_bytes,
    coalesce(sum(u.alloc_bytes), 0) AS alloc_bytes,
    coalesce(sum(u.files_all_links), 0) AS files_all_links,
    coalesce(sum(u.size_all_bytes), 0) AS size_all_bytes,
    coalesce(sum(u.alloc_all_bytes), 0) AS alloc_all_bytes,
    q.quota_bytes, q.quota_inodes
FROM scan_project p
JOIN scan s ON s.id = p.scan_id
JOIN filesystem f ON f.id = s.filesystem_id
LEFT JOIN usage u ON u.scan_id = p.scan_id AND u.project_number = p.number
LEFT JOIN project q ON q.id = p.project_id
WHERE p.scan_id IN ({CURRENT}) AND (CAST(:project AS text) IS NULL OR p.name = :project)
    AND {visibility.PROJECT}
GROUP BY f.name, p.number, p.name, p.path, s.started_at, q.quota_bytes, q.quota_inodes
HAVING p.number > 0 OR sum(u.files + u.directories) > 0
ORDER BY alloc_bytes DESC, p.name
"""

# Totals by user (uid) or group (gid), biggest first.
BY_OWNER = """
SELECT u.{owner} AS number, sum(u.files) AS files,
    sum(u.directories) AS directories,
    sum(u.files + u.directories) AS inodes,
    sum(u.size_bytes) AS size_bytes, sum(u.alloc_bytes) AS alloc_bytes,
    sum(u.alloc_all_bytes) AS alloc_all_bytes
FROM usage u JOIN scan_project p ON p.scan_id = u.scan_id AND p.number = u.project_number
WHERE p.scan_id IN ({current}) AND (CAST(:project AS text) IS NULL OR p.name = :project)
    AND {visible}
GROUP BY u.{owner}
ORDER BY alloc_bytes DESC, number
"""

_DIRECTORY_COLUMNS = """
d.scan_id, d.dir_id, d.path, p.name AS project, d.mode, d.uid, d.gid, d.files, d.directories,
d.size_bytes, d.alloc_bytes, d.files_all_links, d.size_all_bytes, d.alloc_all_bytes, d.error,
d.newest_atime_s AS atime_s, d.newest_mtime_s AS mtime_s, d.newest_ctime_s AS ctime_s,
extract(epoch FROM s.started_at)::bigint AS scanned_s
FROM directory d
JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
JOIN scan s ON s.id = d.scan_id
"""

DIRECTORY = f"""
SELECT {_DIRECTORY_COLUMNS}
WHERE d.scan_id IN ({CURRENT}) AND d.path = :path
    AND {visibility.PROJECT} AND {visibility.ACCESS.format("d")}
ORDER BY d.scan_id DESC
LIMIT 1
"""

CHILDREN = f"""
SELECT {_DIRECTORY_COLUMNS}
WHERE d.scan_id = :scan_id AND d.parent_id = :dir_id
    AND {visibility.PROJECT} AND {visibility.ACCESS.format("d")}
ORDER BY d.alloc_bytes DESC, d.path
"""

AGES = f"""
SELECT a.bin, sum(a.files) AS files, sum(a.size_bytes) AS size_bytes,
    sum(a.alloc_bytes) AS alloc_bytes
FROM scan_project p
JOIN LATERAL (
    SELECT * FROM age_bin i
    WHERE i.scan_id = p.scan_id AND i.project_number = p.number AND i.basis = :basis
        AND (CAST(:uid AS bigint) IS NULL OR i.uid = :uid)
    -- Project by project, by the index, and not the table beside a few projects.
    OFFSET 0
) a ON true
WHERE p.scan_id IN ({CURRENT}) AND (CAST(:project AS text) IS NULL OR p.name = :project)
    AND {visibility.PROJECT}
GROUP BY a.bin
ORDER BY a.bin
"""

# Whether a project is in one of the scans.
KNOWN = f"""
SELECT count(*) FROM scan_project p
WHERE p.scan_id = ANY(:ids) AND p.name = :name AND {visibility.PROJECT}
"""


def scans(session: orm.Session) -> list[Row]:
    """All scans, oldest first; `current` marks the one that answers for its file system.

    `error_count` is the sum of `errors`, which counts by reason.
    """
    return [
        row
        | {
            "roots": [bytes(root) for root in row["roots"]],
            "error_count": sum(row["errors"].values()),
        }
        for row in fetch(session, SCANS, {})
    ]


def scanned(session: orm.Session, selection: Selection) -> list[Row]:
    """Which scans answer, when they were made, and how much they could not count."""
    return [
        {
            "id": row["id"],
            "filesystem": row["filesystem"],
            "scanned_at": row["started_at"],
            "not_counted": row["error_count"],
            "atime_policy": row["atime_policy"],
        }
        for row in scans(session)
        if row["current"] and selection.filesystem in (None, row["filesystem"])
    ]


def scan_by_id(session: orm.Session, scan_id: int) -> Scan:
    """The scan of this number.

    Raises:
        NotFoundError: there is none.
    """
    scan = session.get(Scan, scan_id)
    if scan is None:
        raise NotFoundError(f"there is no scan {scan_id}; `datamgr scan list` names them")
    return scan


def current_scan_id(session: orm.Session, filesystem_id: int) -> int | None:
    """The newest published scan of a file system."""
    return session.scalar(
        sa.select(sa.func.max(Scan.id)).where(
            Scan.filesystem_id == filesystem_id, Scan.state == ScanState.PUBLISHED
        )
    )


def projects(session: orm.Session, visible: Visibility, selection: Selection) -> list[Row]:
    """Projects with their totals and quotas, biggest first; percentages are None without quota.

    Raises:
        NotFoundError: nothing was scanned, or the project is in no current scan.
    """
    require_scan(session, visible, selection)
    rows = fetch(session, PROJECTS, parameters_of(visible, selection))
    for row in rows:
        row["bytes_percent"] = _percent(row["alloc_bytes"], row["quota_bytes"])
        row["inodes_percent"] = _percent(row["inodes"], row["quota_inodes"])
    return rows


def by_owner(
    session: orm.Session, visible: Visibility, selection: Selection, owner: str
) -> list[Row]:
    """Totals by `user` or `group`, with the name beside the number.

    Raises:
        NotFoundError: nothing was scanned, or the project is in no current scan.
    """
    require_scan(session, visible, selection)
    column, name_of = {
        "user": ("uid", owners.user_name),
        "group": ("gid", owners.group_name),
    }[owner]
    query = BY_OWNER.format(owner=column, current=CURRENT, visible=visibility.PROJECT)
    rows = fetch(session, query, parameters_of(visible, selection))
    return [{owner: name_of(row["number"]), column: row.pop("number"), **row} for row in rows]


def directory(
    session: orm.Session, visible: Visibility, path: bytes, filesystem: str | None = None
) -> Row:
    """A directory with its recursive totals, itself included.

    Raises:
        NotFoundError: it is in no current scan, or hidden.
    """
    require_scan(session, visible, Selection(filesystem))
    parameters = visible.parameters | {"filesystem": filesystem, "path": path}
    rows = fetch(session, DIRECTORY, parameters)
    if not rows:
        shown = path.decode("utf-8", "backslashreplace")
        raise NotFoundError(f"{shown} is no directory of a current scan")
    return with_owner_and_ages(rows)[0]


def children(session: orm.Session, visible: Visibility, parent: Mapping[str, Any]) -> list[Row]:
    """The directories directly in one that `directory` returned, biggest first."""
    place = {"scan_id": parent["scan_id"], "dir_id": parent["dir_id"]}
    return with_owner_and_ages(fetch(session, CHILDREN, visible.parameters | place))


def ages_of_files(
    session: orm.Session, visible: Visibility, selection: Selection, basis: str
) -> list[Row]:
    """Files by age, one row for each of `ages.BINS`; `basis` is atime, mtime or ctime.

    Raises:
        NotFoundError: nothing was scanned, or project or account are unknown.
    """
    require_scan(session, visible, selection)
    parameters = parameters_of(visible, selection) | {"basis": basis}
    found = {row["bin"]: row for row in fetch(session, AGES, parameters)}
    empty = {"files": 0, "size_bytes": 0, "alloc_bytes": 0}
    return [
        {**empty, **found.get(index, {}), "bin": index, "age": age.name, "below_s": age.below_s}
        for index, age in enumerate(ages.BINS)
    ]


def require_scan(session: orm.Session, visible: Visibility, selection: Selection) -> list[int]:
    """The numbers of the scans that answer; there must be one, and it must know the project.

    Raises:
        NotFoundError: nothing was scanned under that name, or the project is in no current scan.
    """
    # Asked for each part of a page, and the same throughout a snapshot.
    known: dict[Any, list[int]] = session.info.get(db.SNAPSHOT, {})
    asked = (visible.everything, visible.projects, selection.filesystem, selection.project)
    if asked not in known:
        known[asked] = _required(session, visible, selection)
    return known[asked]


def _required(session: orm.Session, visible: Visibility, selection: Selection) -> list[int]:
    scan_ids = [
        row["scan_id"] for row in fetch(session, CURRENT, {"filesystem": selection.filesystem})
    ]
    if not scan_ids:
        which = f" of {selection.filesystem}" if selection.filesystem else ""
        raise NotFoundError(f"there is no scan{which} yet; run `datamgr scan run PATH --name NAME`")
    if selection.project is not None:
        known = session.scalar(
            sa.text(KNOWN), visible.parameters | {"ids": scan_ids, "name": selection.project}
        )
        if not known:
            raise NotFoundError(
                f"there is no project {selection.project!r} in a current scan; "
                "`datamgr usage` names them"
            )
    return scan_ids


def parameters_of(visible: Visibility, selection: Selection) -> dict[str, Any]:
    """What queries of a selection take.

    Raises:
        NotFoundError: the account is unknown.
    """
    uid = None if selection.user is None else identity.uid_of(selection.user)
    asked = {"filesystem": selection.filesystem, "project": selection.project, "uid": uid}
    return visible.parameters | asked


def fetch(session: orm.Session, query: str, parameters: Mapping[str, Any]) -> list[Row]:
    """The rows of a query; bytea comes as bytes, and a sum, which no bigint may hold, as int."""
    found = session.connection().execute(_text(query), parameters)
    names = tuple(found.keys())
    types = [column[1] for column in found.cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in found]
    for name, kind in ((n, _KINDS[t]) for n, t in zip(names, types, strict=True) if t in _KINDS):
        for row in rows:
            if row[name] is not None:
                row[name] = kind(row[name])
    return rows


# What the driver gives as memoryview and Decimal. Source: PostgreSQL, pg_type.dat.
_KINDS = {17: bytes, 1700: int}

# To read a long query takes longer than to send it.
_text = functools.lru_cache(maxsize=256)(sa.text)


def add_owners(rows: Sequence[Row]) -> None:
    """Names for the numbers `uid` and `gid`."""
    for row in rows:
        row["user"] = owners.user_name(row["uid"])
        row["group"] = owners.group_name(row["gid"])


def with_owner_and_ages(rows: Sequence[Row]) -> list[Row]:
    """Names for the numbers, and ages in seconds at the scan for the times."""
    add_owners(rows)
    for row in rows:
        scanned_s = row.pop("scanned_s")
        for basis in ages.BASES:
            time_s = row[f"{basis}_s"]
            row[f"{basis}_age_s"] = None if time_s is None else scanned_s - time_s
    return list(rows)


def _percent(part: int, whole: int | None) -> float | None:
    return None if not whole else round(100 * part / whole, 2)
