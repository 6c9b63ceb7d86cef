"""What lies directly in one directory of a scan, a page at a time."""

from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa
from sqlalchemy import orm

from datamgr.config import Settings
from scanners import ages, files_of_directory, queries, visibility
from scanners.places import SCANS
from scanners.queries import Row
from scanners.store import ScanStore
from scanners.visibility import Visibility

Sort = Literal["size", "name", "age", "owner"]

_WHERE = f"""
FROM directory d
JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
WHERE d.scan_id = :scan_id AND d.parent_id = :dir_id
    AND {visibility.PROJECT} AND {visibility.ACCESS.format("d")}
"""
COUNT = f"SELECT count(*) AS rows {_WHERE}"
DIRECTORIES = f"""
SELECT d.path, d.mode, d.uid, d.gid, d.files, d.directories, d.size_bytes, d.alloc_bytes, d.error,
    d.newest_atime_s AS atime_s, d.newest_mtime_s AS mtime_s, d.newest_ctime_s AS ctime_s
{_WHERE}
ORDER BY {{order}}
LIMIT :number OFFSET :offset
"""
KNOWN = f"""
SELECT d.path
FROM directory d
JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
WHERE d.scan_id = :scan_id AND d.path = ANY(:paths)
    AND {visibility.PROJECT} AND {visibility.ACCESS.format("d")}
"""
_ORDERS = {
    "size": "d.alloc_bytes DESC, d.path",
    "name": "d.path",
    "age": "d.newest_{basis}_s NULLS LAST, d.path",
    "owner": "d.uid, d.path",
}
_FILE_ORDERS = {
    "size": [("alloc_bytes", "descending"), ("name", "ascending")],
    "name": [("name", "ascending")],
    "owner": [("uid", "ascending"), ("name", "ascending")],
}


@dataclass(frozen=True)
class Listing:
    """A page of what lies in a directory, directories before files.

    `directories` and `files` count all that lie directly in it.
    """

    rows: list[Row]
    directories: int
    files: int


def child_directories(
    session: orm.Session, visible: Visibility, parent: Row, number: int
) -> tuple[list[Row], int]:
    """The biggest visible directories in one that `queries.directory` found, and how many more."""
    asked = _asked(visible, parent)
    query = DIRECTORIES.format(order=_ORDERS["size"])
    rows = queries.fetch(session, query, asked | {"number": number, "offset": 0})
    total = queries.fetch(session, COUNT, asked)[0]["rows"]
    return _finished(rows, _scanned_s(session, parent)), total - len(rows)


def listing(
    session: orm.Session,
    visible: Visibility,
    parent: Row,
    sort: tuple[Sort, str],
    settings: Settings,
    window: slice,
) -> Listing:
    """The rows `window.start` … `window.stop` in an order, with `kind`, `name` and ages.

    `sort` is what by and, for ages, the kind of time. Ages rise from the oldest.

    Raises:
        UnavailableError: the scan's files are gone or damaged.
    """
    by, basis = sort
    asked = _asked(visible, parent)
    total = queries.fetch(session, COUNT, asked)[0]["rows"]
    start, stop = int(window.start), int(window.stop)
    rows: list[Row] = []
    if start < total:
        query = DIRECTORIES.format(order=_ORDERS[by].format(basis=basis))
        rows = queries.fetch(session, query, asked | {"number": stop - start, "offset": start})
    for row in rows:
        row |= {"kind": "d", "name": row["path"].rpartition(b"/")[2]}
    (scan,) = queries.fetch(session, SCANS, {"ids": [parent["scan_id"]]})
    scan_dir = ScanStore(settings.scan_store_dir, scan["filesystem"]).path(scan["id"])
    files = files_of_directory.of(settings, scan_dir, parent["dir_id"])
    if stop > total:
        order = _FILE_ORDERS.get(by) or [(f"{basis}_s", "ascending"), ("name", "ascending")]
        page = files.page(order, max(0, start - total), stop - max(start, total))
        rows += page.to_pylist()
    return Listing(_finished(rows, scan["started_s"]), total, files.rows)


def _asked(visible: Visibility, parent: Row) -> dict[str, object]:
    return visible.parameters | {"scan_id": parent["scan_id"], "dir_id": parent["dir_id"]}


def _scanned_s(session: orm.Session, parent: Row) -> int:
    scan = session.execute(sa.text(SCANS), {"ids": [parent["scan_id"]]}).mappings().one()
    return int(scan["started_s"])


def _finished(rows: list[Row], scanned_s: int) -> list[Row]:
    """Names of owners, and ages at the scan."""
    queries.add_owners(rows)
    for row in rows:
        for basis in ages.BASES:
            time_s = row[f"{basis}_s"]
            row[f"{basis}_age_s"] = None if time_s is None else scanned_s - time_s
    return rows


def known(
    session: orm.Session, visible: Visibility, scan_id: int, paths: list[bytes]
) -> frozenset[bytes]:
    """Those of the directories that the caller may see."""
    rows = queries.fetch(session, KNOWN, visible.parameters | {"scan_id": scan_id, "paths": paths})
    return frozenset(row["path"] for row in rows)
