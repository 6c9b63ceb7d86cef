"""Which files and directories of the newest scans have these properties?

The rows come from the Parquet files of the scans, of visible directories only (see `visibility`),
as a stream: nothing is held but one row group.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from datamgr import owners
from scanners import globs, record
from scanners.places import Place
from scanners.queries import Row
from scanners.reader import ScanReader

# The columns that a found row may have; `scan_id` tells inodes of different scans apart.
COLUMNS = (
    "path", "kind", "mode", "uid", "gid", "size_bytes", "alloc_bytes", "nlink", "atime_s",
    "mtime_s", "ctime_s", "ino", "dev", "scan_id",
)  # fmt: skip
SCHEMA = pa.schema(
    [
        (name, {"path": pa.binary(), "kind": pa.string(), "mode": pa.int32()}.get(name, pa.int64()))
        for name in COLUMNS
    ]
)
# Those that people and programs are shown.
SHOWN = (
    "path", "kind", "mode", "uid", "gid", "size_bytes", "alloc_bytes", "nlink", "atime_s",
    "mtime_s", "ctime_s",
)  # fmt: skip
_MADE_HERE = ("path", "kind", "scan_id")


@dataclass(frozen=True)
class Question:
    """What to find; None means anything. Limits themselves are not in.

    Ages are seconds at the scan by `basis`: atime, mtime or ctime. `kinds` are letters as in
    `find -type`. Globs are those of `globs`; `path_glob` must match the whole path.
    """

    older_than_s: int | None = None
    newer_than_s: int | None = None
    basis: str = "mtime"
    larger_than_bytes: int | None = None
    smaller_than_bytes: int | None = None
    name: bytes | None = None
    path_glob: bytes | None = None
    kinds: frozenset[str] | None = None
    uid: int | None = None
    gid: int | None = None

    def __post_init__(self) -> None:
        """Check the patterns.

        Raises:
            InvalidError: one cannot be understood.
        """
        for glob in (self.name, self.path_glob):
            globs.to_regex(glob or b"")


def search(
    found_in: Sequence[Place], question: Question, columns: Sequence[str] = COLUMNS
) -> Iterator[pa.RecordBatch]:
    """The rows with these of the COLUMNS, in the order of the scans' files.

    Raises:
        UnavailableError: a scan's files are gone or damaged.
    """
    for place in found_in:
        reader = ScanReader(place.scan_dir, place.directories)
        made = {"scan_id": place.scan_id}
        if question.kinds is None or "d" in question.kinds:
            read = _needed(question, columns, "path")
            for batch in reader.batches("dirs", read):
                names = pc.replace_substring_regex(batch["path"], r"(?s)\A.*/", "")
                rows = batch.append_column("name", names).filter(
                    _mask(batch, names, place, question)
                )
                yield from _finished(rows, rows["path"], "d", question, columns, made)
        if question.kinds is None or question.kinds != {"d"}:
            read = _needed(question, columns, "name", "kind")
            for batch in reader.batches("entries", read):
                rows = batch.filter(_mask(batch, batch["name"], place, question))
                if rows.num_rows:
                    paths = _joined(reader.paths(rows["dir_id"]), rows["name"])
                    yield from _finished(rows, paths, None, question, columns, made)


def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[Row]:
    """Found rows with the names of their owners, one by one."""
    for row in itertools.chain.from_iterable(batch.to_pylist() for batch in batches):
        yield row | {"user": owners.user_name(row["uid"]), "group": owners.group_name(row["gid"])}


def _needed(question: Question, columns: Sequence[str], *always: str) -> list[str]:
    """The columns to read; those that nobody asked about stay on disk."""
    asked = {
        f"{question.basis}_s": question.older_than_s is not None
        or question.newer_than_s is not None,
        "size_bytes": question.larger_than_bytes is not None
        or question.smaller_than_bytes is not None,
        "uid": question.uid is not None,
        "gid": question.gid is not None,
    }
    wanted = {name for name in columns if name not in _MADE_HERE}
    wanted |= {name for name, is_asked in asked.items() if is_asked}
    return ["dir_id", *always, *(name for name in record.ENTRIES.names[3:] if name in wanted)]


def _mask(batch: pa.RecordBatch, names: pa.Array, place: Place, question: Question) -> pa.Array:
    """Which rows have what is asked, but for the path."""
    masks = [pc.is_valid(batch["dir_id"])]
    time, size = f"{question.basis}_s", "size_bytes"
    if question.older_than_s is not None:
        masks.append(pc.less(batch[time], place.started_s - question.older_than_s))
    if question.newer_than_s is not None:
        masks.append(pc.greater(batch[time], place.started_s - question.newer_than_s))
    if question.larger_than_bytes is not None:
        masks.append(pc.greater(batch[size], question.larger_than_bytes))
    if question.smaller_than_bytes is not None:
        masks.append(pc.less(batch[size], question.smaller_than_bytes))
    if question.uid is not None:
        masks.append(pc.equal(batch["uid"], question.uid))
    if question.gid is not None:
        masks.append(pc.equal(batch["gid"], question.gid))
    if question.kinds is not None and "kind" in batch.schema.names:
        masks.append(pc.is_in(batch["kind"], pa.array(sorted(question.kinds), pa.string())))
    if question.name is not None:
        masks.append(_matches(names, question.name))
    return functools.reduce(pc.and_, masks)


def _finished(
    rows: pa.RecordBatch,
    paths: pa.Array,
    kind: str | None,
    question: Question,
    columns: Sequence[str],
    made: dict[str, Any],
) -> Iterator[pa.RecordBatch]:
    """The rows as they are handed out, if any are left."""
    kinds = rows["kind"] if kind is None else pa.repeat(pa.scalar(kind), rows.num_rows)
    own = {"path": paths, "kind": kinds}
    own |= {name: pa.repeat(pa.scalar(value), rows.num_rows) for name, value in made.items()}
    found = pa.RecordBatch.from_arrays(
        [own[name] if name in own else rows[name] for name in columns], names=list(columns)
    )
    if question.path_glob is not None:
        found = found.filter(_matches(paths, question.path_glob))
    if found.num_rows:
        yield found


def _matches(texts: pa.Array, glob: bytes) -> pa.Array:
    return pc.match_substring_regex(texts, globs.to_regex(glob))


def _joined(directories: pa.Array, names: pa.Array) -> pa.Array:
    """The paths of files; only the directory `/` ends with a slash already."""
    without = pc.replace_substring_regex(directories, r"\A/\z", "")
    return pc.binary_join_element_wise(without, names, pa.scalar(b"/", pa.binary()))
