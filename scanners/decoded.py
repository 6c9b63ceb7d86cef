"""Row groups as they are in memory once they were read: those read last, for whoever browses."""

import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict

import pyarrow as pa

from scanners.reader import RowGroup

# A row group holds the files of some thousand directories in 8 MB; each process keeps so many.
LIMIT_BYTES = 128 << 20
# What is shown of a file, and by what tiering knows it.
COLUMNS = (
    "dir_id", "name", "kind", "mode", "uid", "gid", "size_bytes", "alloc_bytes", "nlink",
    "atime_s", "mtime_s", "ctime_s", "ino",
)  # fmt: skip


def read(group: RowGroup) -> pa.RecordBatch:
    """The COLUMNS of a row group.

    Raises:
        UnavailableError: the file is gone or damaged.
    """
    (batch,) = pa.Table.from_batches(group.batches(COLUMNS)).combine_chunks().to_batches()
    return batch


def of_directory(batch: pa.RecordBatch, dir_id: int) -> pa.RecordBatch:
    """The rows of a directory in a row group, which is sorted by the numbers of directories."""
    numbers = batch["dir_id"]
    ids = memoryview(numbers.buffers()[1]).cast("q")[numbers.offset :][: len(numbers)]
    begin = bisect_left(ids, dir_id)
    return batch.slice(begin, bisect_right(ids, dir_id, lo=begin) - begin)


class Decoded:
    """The row groups of `entries` that were asked for last, in at most `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._groups: OrderedDict[RowGroup, pa.RecordBatch] = OrderedDict()
        self._size_bytes = 0
        self._lock = threading.Lock()
        self._reading = threading.Lock()

    def batch(self, group: RowGroup) -> pa.RecordBatch:
        """A row group, read now unless it is kept.

        Raises:
            UnavailableError: the file is gone or damaged.
        """
        batch = self._find(group)
        if batch is None:
            # One at a time: those who wait may well ask for the same one.
            with self._reading:
                batch = self._find(group)
                if batch is None:
                    batch = read(group)
                    self._keep(group, batch)
        return batch

    def _find(self, group: RowGroup) -> pa.RecordBatch | None:
        with self._lock:
            batch = self._groups.get(group)
            if batch is not None:
                self._groups.move_to_end(group)
            return batch

    def _keep(self, group: RowGroup, batch: pa.RecordBatch) -> None:
        with self._lock:
            self._groups[group] = batch
            self._size_bytes += batch.nbytes
            while self._size_bytes > self._limit_bytes and len(self._groups) > 1:
                _, forgotten = self._groups.popitem(last=False)
                self._size_bytes -= forgotten.nbytes


# Scans never change, so neither do their row groups.
_decoded = Decoded(LIMIT_BYTES)


def batch(group: RowGroup) -> pa.RecordBatch:
    """As `Decoded.batch`, of the row groups that this process keeps."""
    return _decoded.batch(group)
