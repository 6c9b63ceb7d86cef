"""The tables that can be had as a whole: their columns, and where their rows come from."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy import orm

from datamgr import owners, units
from scanners import ages, find, leaders, places, queries, visibility
from scanners.find import Question
from scanners.queries import Row, Selection
from scanners.visibility import Visibility

FETCHED = 1000

DIRECTORIES = f"""
SELECT f.name AS filesystem, p.name AS project, d.path, d.uid, d.gid, d.mode, d.files,
    d.directories, d.size_bytes, d.alloc_bytes, d.files_all_links, d.size_all_bytes,
    d.alloc_all_bytes, d.newest_atime_s AS atime_s, d.newest_mtime_s AS mtime_s,
    d.newest_ctime_s AS ctime_s, d.error
FROM directory d
JOIN scan_project p ON p.scan_id = d.scan_id AND p.number = d.project_number
JOIN scan s ON s.id = d.scan_id
JOIN filesystem f ON f.id = s.filesystem_id
WHERE d.scan_id IN ({queries.CURRENT})
    AND (CAST(:project AS text) IS NULL OR p.name = :project)
    AND {visibility.PROJECT} AND {visibility.ACCESS.format("d")}
"""

HISTORY = """
SELECT h.*, h.files + h.directories AS inodes
FROM project_history h
WHERE (CAST(:filesystem AS text) IS NULL OR h.filesystem = :filesystem)
    AND (CAST(:project AS text) IS NULL OR h.project = :project)
ORDER BY h.filesystem, h.project, h.scanned_at, h.scan_id
"""

# More than any scan keeps.
ALL_TOP_FILES = 1 << 31

_TYPES = {
    "path": pa.binary(),
    "scanned_at": pa.timestamp("us", "UTC"),
    "bytes_percent": pa.float64(),
    "inodes_percent": pa.float64(),
} | dict.fromkeys(
    ("filesystem", "project", "user", "group", "error", "basis", "age", "kind"), pa.string()
)


@dataclass(frozen=True)
class Source:
    """What a table is made of."""

    session: orm.Session
    visible: Visibility
    store_dir: Path
    selection: Selection


@dataclass(frozen=True)
class Table:
    """A table to export: the names of its columns, and its rows, which are read as they go."""

    columns: tuple[str, ...]
    rows: Callable[[Source], Iterable[Row]]

    @property
    def schema(self) -> pa.Schema:
        """The columns with their types; those that are not named otherwise are numbers."""
        return pa.schema([(name, _TYPES.get(name, pa.int64())) for name in self.columns])


def _capped(rows: Iterable[Row]) -> Iterable[Row]:
    """Sums that end at the largest number of 64 bits, which sparse files may take them beyond."""
    for row in rows:
        yield {
            key: min(value, units.MAX_BIGINT) if isinstance(value, int) else value
            for key, value in row.items()
        }


def _projects(source: Source) -> Iterable[Row]:
    return _capped(queries.projects(source.session, source.visible, source.selection))


def _owners(owner: str) -> Callable[[Source], Iterable[Row]]:
    return lambda s: _capped(queries.by_owner(s.session, s.visible, s.selection, owner))


def _directories(source: Source) -> Iterable[Row]:
    for row in _streamed(source, DIRECTORIES):
        yield row | {
            "user": owners.user_name(row["uid"]),
            "group": owners.group_name(row["gid"]),
        }


def _top_files(source: Source) -> Iterable[Row]:
    return leaders.files(source.session, source.visible, source.selection, ALL_TOP_FILES)


def _ages(source: Source) -> Iterable[Row]:
    for basis in ages.BASES:
        rows = queries.ages_of_files(source.session, source.visible, source.selection, basis)
        for row in _capped(rows):
            yield {"basis": basis, **row}


def _history(source: Source) -> Iterable[Row]:
    for row in _streamed(source, HISTORY):
        if source.visible.sees(row["filesystem"], row["project"]):
            yield row


def _files(source: Source) -> Iterable[Row]:
    found_in = places.of(source.session, source.visible, source.store_dir, source.selection)
    kinds = frozenset("flpscb")
    return find.rows(find.search(found_in, Question(kinds=kinds), find.SHOWN))


def _streamed(source: Source, query: str) -> Iterator[Row]:
    asked = {"filesystem": source.selection.filesystem, "project": source.selection.project}
    queries.require_scan(source.session, source.visible, source.selection)
    found = source.session.execute(
        sa.text(query), source.visible.parameters | asked, execution_options={"yield_per": FETCHED}
    )
    for row in found.mappings():
        yield {k: bytes(v) if isinstance(v, memoryview) else v for k, v in row.items()}


_OWNED = ("files", "directories", "inodes", "size_bytes", "alloc_bytes", "alloc_all_bytes")
_TOTALS = (*_OWNED[:5], "files_all_links", "size_all_bytes", "alloc_all_bytes")
_TIMES = ("atime_s", "mtime_s", "ctime_s")
_QUOTAS = ("quota_bytes", "quota_inodes")

TABLES = {
    "projects": Table(
        ("filesystem", "project", "path", "scanned_at", *_TOTALS, *_QUOTAS, "bytes_percent",
         "inodes_percent"), _projects,
    ),
    "users": Table(("user", "uid", *_OWNED), _owners("user")),
    "groups": Table(("group", "gid", *_OWNED), _owners("group")),
    "directories": Table(
        ("filesystem", "project", "path", "user", "uid", "group", "gid", "mode", "files",
         "directories", "size_bytes", "alloc_bytes", "files_all_links", "size_all_bytes",
         "alloc_all_bytes", *_TIMES, "error"), _directories,
    ),
    "top-files": Table(
        ("project", "path", "user", "uid", "group", "gid", "size_bytes", "alloc_bytes", "nlink",
         *_TIMES), _top_files,
    ),
    "ages": Table(
        ("basis", "bin", "age", "below_s", "files", "size_bytes", "alloc_bytes"), _ages
    ),
    "history": Table(("filesystem", "project", "scan_id", "scanned_at", *_TOTALS, *_QUOTAS),
        _history),
    "files": Table(
        ("path", "kind", "mode", "user", "uid", "group", "gid", "size_bytes", "alloc_bytes",
         "nlink", *_TIMES), _files,
    ),
}  # fmt: skip
