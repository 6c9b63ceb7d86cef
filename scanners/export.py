"""Whole tables of the newest scans for other programs: what they hold, and how files become of it."""

import csv
import io
import itertools
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import orm

from datamgr import display
from datamgr.errors import ConflictError, InvalidError, NotFoundError, UnavailableError
from scanners import ages, find, history, places, queries
from scanners.find import Question
from scanners.queries import Row, Selection
from scanners.visibility import Visibility

STANDARD_OUTPUT = "-"
BATCH_ROWS = 8192
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


def _projects(source: Source) -> Iterable[Row]:
    return queries.projects(source.session, source.visible, source.selection)


def _owners(owner: str) -> Callable[[Source], Iterable[Row]]:
    return lambda s: queries.by_owner(s.session, s.visible, s.selection, owner)


def _directories(source: Source) -> Iterable[Row]:
    return queries.all_directories(source.session, source.visible, source.selection)


def _top_files(source: Source) -> Iterable[Row]:
    return queries.top_files(source.session, source.visible, source.selection, ALL_TOP_FILES)


def _ages(source: Source) -> Iterable[Row]:
    for basis in ages.BASES:
        for row in queries.ages_of_files(source.session, source.visible, source.selection, basis):
            yield {"basis": basis, **row}


def _history(source: Source) -> Iterable[Row]:
    return history.rows(source.session, source.visible, source.selection)


def _files(source: Source) -> Iterable[Row]:
    found_in = places.of(source.session, source.visible, source.store_dir, source.selection)
    kinds = frozenset("flpscb")
    return find.rows(find.search(found_in, Question(kinds=kinds), find.SHOWN))


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


def export(name: str, source: Source, to: str, *, force: bool = False) -> int:
    """Write one of the TABLES as CSV or Parquet, by the name of the file; returns the row count.

    The file appears when it is complete. `-` is CSV on standard output.

    Raises:
        InvalidError: the file's name ends otherwise, or it is none.
        ConflictError: the file exists and `force` is off.
        NotFoundError: its directory does not exist; what the table is about is not known.
        UnavailableError: the file cannot be written, or the scan not be read.
    """
    table = TABLES[name]
    write = write_csv
    if to != STANDARD_OUTPUT:
        _require_free(Path(to), force)
        write = {".csv": write_csv, ".parquet": write_parquet}[Path(to).suffix]
        if not Path(to).parent.is_dir():
            raise NotFoundError(f"the directory {Path(to).parent} does not exist")
    counted = itertools.count()
    rows = (row for row, _ in zip(table.rows(source), counted, strict=False))
    sys.stdout.flush()
    standard = nullcontext(sys.stdout.buffer)
    with standard if to == STANDARD_OUTPUT else _replacing(Path(to), force) as file:
        write(file, table, rows)
    return next(counted)
