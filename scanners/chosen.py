"""What a scan says of paths that somebody chose, of those that he may see."""

import os
from array import array
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import display, owners
from datamgr.errors import NotFoundError
from scanners import queries, visibility
from scanners.places import SCANS
from scanners.queries import Row
from scanners.reader import DirectoryIds, ScanReader
from scanners.store import ScanStore
from scanners.visibility import Visibility

DIRECTORIES = f"""
SELECT d.dir_id, d.path, 'd' AS kind, d.mode, d.uid, d.gid, d.files, d.directories, d.size_bytes,
    d.alloc_bytes, d.newest_atime_s AS atime_s, d.newest_mtime_s AS mtime_s,
    d.newest_ctime_s AS ctime_s
FROM directory d
JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
WHERE d.scan_id = :scan_id AND d.path = ANY(:paths)
    AND {visibility.PROJECT} AND {visibility.ACCESS.format("d")}
"""
_COLUMNS = (
    "dir_id", "name", "kind", "mode", "uid", "gid", "size_bytes", "alloc_bytes",
    "atime_s", "mtime_s", "ctime_s", "ino",
)  # fmt: skip


def rows(
    session: orm.Session, visible: Visibility, store_dir: Path, scan_id: int, paths: list[bytes]
) -> list[Row]:
    """The directories, with all that is in them, and files of these paths, in the order given.

    Raises:
        NotFoundError: one is not in the scan, or hidden.
        UnavailableError: the scan's files are gone or damaged.
    """
    found = _directories(session, visible, scan_id, paths)
    others = [path for path in paths if path not in found]
    if others:
        found |= _files(session, visible, store_dir, scan_id, others)
    for path in paths:
        if path not in found:
            raise NotFoundError(
                f"{display.printable(path)} is not in the newest scan; load the list again"
            )
    wanted = [found[path] for path in dict.fromkeys(paths)]
    for row in wanted:
        row["user"] = owners.user_name(row["uid"])
        row["group"] = owners.group_name(row["gid"])
    return wanted


def _directories(
    session: orm.Session, visible: Visibility, scan_id: int, paths: Collection[bytes]
) -> dict[bytes, Row]:
    asked = visible.parameters | {"scan_id": scan_id, "paths": list(paths)}
    return {row["path"]: row for row in queries.fetch(session, DIRECTORIES, asked)}


def _files(
    session: orm.Session,
    visible: Visibility,
    store_dir: Path,
    scan_id: int,
    paths: list[bytes],
) -> dict[bytes, Row]:
    """Those that are no directories; only row groups that hold theirs are read."""
    folders = _directories(session, visible, scan_id, {os.path.dirname(path) for path in paths})
    above = {row["dir_id"]: path for path, row in folders.items()}
    scan = session.execute(sa.text(SCANS), {"ids": [scan_id]}).mappings().one()
    scan_dir = ScanStore(store_dir, scan["filesystem"]).path(scan_id)
    reader = ScanReader(scan_dir, DirectoryIds(array("q", sorted(above))))
    names = pa.array({os.path.basename(path) for path in paths}, pa.binary())
    wanted = set(paths)
    found = {}
    for batch in reader.batches("entries", _COLUMNS):
        for row in batch.filter(pc.is_in(batch["name"], names)).to_pylist():
            path = os.path.join(above[row["dir_id"]], row["name"])
            if path in wanted:
                found[path] = row | {"path": path}
    return found
