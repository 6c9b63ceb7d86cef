"""The Parquet files of a scan: written by many processes, read by the engines."""

import errno
import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from datamgr.errors import UnavailableError
from scanners import record

# Small enough that one directory's rows cost one read, large enough to compress well.
ROW_GROUP_ROWS = 65_536
# A new file after so many rows keeps footers small and gives readers something to share out.
PART_ROWS = 4_000_000


class PartWriter:
    """One process's share of a dataset: `part-<writer>-<n>.parquet` below its directory."""

    def __init__(self, scan_dir: Path, dataset: str, writer: int) -> None:
        self._directory = scan_dir / dataset
        self._schema = record.SCHEMAS[dataset]
        self._writer = writer
        self._parts = 0
        self._rows = 0
        self._open: pq.ParquetWriter | None = None

    def write(self, columns: list[pa.Array]) -> None:
        """Append one row group; the columns are in the schema's order.

        Raises:
            UnavailableError: the disk is full or fails.
        """
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        with self._explained():
            if self._open is None:
                self._open = self._new_part()
            self._open.write_batch(batch)
        self._rows += batch.num_rows
        if self._rows >= PART_ROWS:
            self.close()

    def close(self) -> None:
        """Finish the present file and wait until the disk has it.

        Raises:
            UnavailableError: the disk is full or fails.
        """
        if self._open is None:
            return
        with self._explained():
            self._open.close()
            descriptor = os.open(self._open.where, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        self._open, self._rows, self._parts = None, 0, self._parts + 1

    def _new_part(self) -> pq.ParquetWriter:
        return pq.ParquetWriter(
            self._directory / f"part-{self._writer:03d}-{self._parts:05d}.parquet",
            self._schema,
            compression="zstd",
            compression_level=1,
            # Names and sizes hardly repeat; a dictionary of them costs time and no space.
            use_dictionary=[
                "kind",
                "uid",
                "gid",
                "mode",
                "dev",
                "nlink",
                "dir_id",
                "reason",
                "access",
            ],
            write_statistics=["dir_id"],
        )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Tell failures of the store from those of the tree that is scanned."""
        store = self._directory.parent.parent
        try:
            yield
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                said = f"no space left for the scan store {store}; the earlier scan stays current"
            else:
                said = f"cannot write the scan store {store}: {error}"
            raise UnavailableError(said) from error


def part_files(scan_dir: Path, dataset: str) -> list[str]:
    """The Parquet files of a dataset, as the engines take them; may be empty."""
    return [str(path) for path in sorted((scan_dir / dataset).glob("part-*.parquet"))]


def count_rows(scan_dir: Path, dataset: str) -> int:
    """How many rows a dataset has, by the footers of its files.

    Raises:
        OSError, pyarrow.ArrowInvalid: a file is damaged.
    """
    return sum(pq.read_metadata(path).num_rows for path in part_files(scan_dir, dataset))


def read_errors(scan_dir: Path, limit: int) -> Iterator[dict[str, Any]]:
    """The first `limit` rows of what could not be counted.

    Raises:
        UnavailableError: a file is damaged.
    """
    try:
        rows = (
            row
            for path in part_files(scan_dir, "errors")
            for batch in pq.ParquetFile(path).iter_batches(batch_size=1000)
            for row in batch.to_pylist()
        )
        yield from itertools.islice(rows, limit)
    except (OSError, pa.ArrowInvalid) as error:
        raise UnavailableError(f"the errors in {scan_dir} cannot be read: {error}") from error
