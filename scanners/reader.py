"""Rows of a scan's Parquet files, of all directories or of some, with their paths.

Only row groups that hold the directories are read: part files are sorted by `dir_id`, and every
row group knows its smallest and largest. Memory is flat: one row group at a time.
"""

import os
from array import array
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from datamgr.errors import UnavailableError
from scanners import parts

# Those of directories in turn come from few row groups.
KEPT_GROUPS = 8
# Of part files, of four million rows each.
KEPT_FOOTERS = 64


class DirectoryIds:
    """Numbers of directories, or all there are; 8 bytes each."""

    def __init__(self, ids: "array[int] | None") -> None:
        """`ids` rise; None stands for all."""
        self._ids = ids
        # The same memory, as Arrow takes it.
        self._values = pa.array([], pa.int64()) if ids is None else _int64(ids)

    def any_within(self, first: int, last: int) -> bool:
        """Whether one of them is from `first` to `last`."""
        begin, end = self._within(first, last)
        return self._ids is None or begin < end

    def filtered(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows of these directories."""
        if self._ids is None or not batch.num_rows:
            return batch
        limits = pc.min_max(batch["dir_id"]).as_py()
        begin, end = self._within(limits["min"], limits["max"])
        if end - begin == limits["max"] - limits["min"] + 1:
            return batch
        return batch.filter(pc.is_in(batch["dir_id"], self._values[begin:end]))

    def _within(self, first: int, last: int) -> tuple[int, int]:
        ids: Sequence[int] = self._ids or ()
        return bisect_left(ids, first), bisect_right(ids, last)


@dataclass(frozen=True)
class RowGroup:
    """A row group of a part file; `first` and `last` are its smallest and largest dir_id.

    `stamp`: inode and time of change of the file, which tell it from another one of its name.
    """

    file: str
    stamp: tuple[int, int]
    number: int
    first: int
    last: int
    metadata: Any = field(compare=False, repr=False)

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Its rows.

        Raises:
            UnavailableError: the file is gone or damaged.
        """
        with _explained(self.file), pq.ParquetFile(self.file, metadata=self.metadata) as file:
            yield from file.iter_batches(
                parts.ROW_GROUP_ROWS, row_groups=[self.number], columns=list(columns)
            )


class ScanReader:
    """Reads a scan's datasets for some of its directories."""

    def __init__(self, scan_dir: Path, ids: DirectoryIds) -> None:
        self._scan_dir = scan_dir
        self._ids = ids
        self._kept: OrderedDict[RowGroup, tuple[pa.Array, pa.Array]] = OrderedDict()

    def batches(self, dataset: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of the directories; `columns` must have `dir_id`.

        Raises:
            UnavailableError: a file is gone or damaged.
        """
        for group in self.row_groups(dataset):
            for batch in group.batches(columns):
                found = self._ids.filtered(batch)
                if found.num_rows:
                    yield found

    def row_groups(self, dataset: str) -> Iterator[RowGroup]:
        """The row groups that may hold rows of the directories.

        Raises:
            UnavailableError: a file is gone or damaged.
        """
        with _explained(str(self._scan_dir)):
            os.stat(self._scan_dir)  # else it would look like one without files
        for file in parts.part_files(self._scan_dir, dataset):
            with _explained(file):
                status = os.stat(file)
                stamp = (status.st_ino, status.st_mtime_ns)
                footer = _footer(file, *stamp)
            for number, (first, last) in enumerate(footer.limits):
                if self._ids.any_within(first, last):
                    yield RowGroup(file, stamp, number, first, last, footer.metadata)

    def paths(self, dir_ids: pa.Array) -> pa.Array:
        """The path of each of these directories.

        Raises:
            UnavailableError: a file is gone or damaged, or lacks a directory.
        """
        wanted = array("q", sorted(pc.unique(dir_ids).to_pylist()))
        tables = [self._directories(group) for group in self._groups_of(wanted)]
        ids = pa.concat_arrays([ids for ids, _ in tables] or [pa.array([], pa.int64())])
        paths = pa.concat_arrays([paths for _, paths in tables] or [pa.array([], pa.binary())])
        found = paths.take(pc.index_in(dir_ids, ids))
        if found.null_count:
            raise UnavailableError(f"{self._scan_dir} is damaged: it lacks directories")
        return found

    @cached_property
    def _groups(self) -> tuple[list[RowGroup], list[int]]:
        """The row groups of `dirs` by their first number, and the largest last one up to each."""
        every = ScanReader(self._scan_dir, DirectoryIds(None)).row_groups("dirs")
        groups = sorted(every, key=lambda group: group.first)
        return groups, list(accumulate((group.last for group in groups), max))

    def _groups_of(self, wanted: Sequence[int]) -> list[RowGroup]:
        if not wanted:
            return []
        groups, lasts = self._groups
        begin = bisect_left(lasts, wanted[0])
        end = bisect_right(groups, wanted[-1], key=lambda group: group.first)
        return [
            group
            for group in groups[begin:end]
            if bisect_left(wanted, group.first) < bisect_right(wanted, group.last)
        ]

    def _directories(self, group: RowGroup) -> tuple[pa.Array, pa.Array]:
        """Numbers and paths of a row group of `dirs`; those used last are kept."""
        if group in self._kept:
            self._kept.move_to_end(group)
        else:
            rows = pa.Table.from_batches(group.batches(["dir_id", "path"])).combine_chunks()
            self._kept[group] = rows["dir_id"].chunk(0), rows["path"].chunk(0)
            if len(self._kept) > KEPT_GROUPS:
                self._kept.popitem(last=False)
        return self._kept[group]


@dataclass(frozen=True)
class Footer:
    """What a part file says of itself; `limits` are smallest and largest dir_id of each group."""

    metadata: Any
    limits: tuple[tuple[int, int], ...]


# Files of a scan never change, and to read all their footers takes longer than one directory.
@lru_cache(maxsize=KEPT_FOOTERS)
def _footer(file: str, inode: int, mtime_ns: int) -> Footer:
    metadata = pq.read_metadata(file)
    found = (metadata.row_group(n).column(0).statistics for n in range(metadata.num_row_groups))
    return Footer(metadata, tuple((limits.min, limits.max) for limits in found))


def _int64(numbers: "array[int]") -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


@contextmanager
def _explained(file: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UnavailableError(
            f"{file} is gone: a newer scan has replaced it, or it was moved; ask again"
        ) from error
    except (OSError, pa.ArrowInvalid) as error:
        raise UnavailableError(f"{file} cannot be read: {error}") from error
