"""The Parquet files of a scan: written by many processes, read by the engines."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
            OSError: the disk is full or fails.
        """
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        if self._open is None:
            path = self._directory / f"part-{self._writer:03d}-{self._parts:05d}.parquet"
            self._open = pq.ParquetWriter(
                path,
                self._schema,
                compression="zstd",
                compression_level=1,
                # Names and sizes hardly repeat; a dictionary of them costs time and no space.
                use_dictionary=["kind", "uid", "gid", "mode", "dev", "nlink", "dir_id", "reason"],
                write_statistics=["dir_id"],
            )
        self._open.write_batch(batch)
        self._rows += batch.num_rows
        if self._rows >= PART_ROWS:
            self.close()

    def close(self) -> None:
        """Finish the present file and wait until the disk has it.

        Raises:
            OSError: the disk is full or fails.
        """
        if self._open is None:
            return
        self._open.close()
        path = self._open.where
        self._open, self._rows, self._parts = None, 0, self._parts + 1
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def part_files(scan_dir: Path, dataset: str) -> list[str]:
    """The Parquet files of a dataset, as the engines take them; may be empty."""
    return [str(path) for path in sorted((scan_dir / dataset).glob("part-*.parquet"))]


def read_errors(scan_dir: Path, limit: int) -> Iterator[dict[str, Any]]:
    """The first `limit` rows of what could not be counted."""
    for path in part_files(scan_dir, "errors"):
        for batch in pq.ParquetFile(path).iter_batches(batch_size=min(limit, 1000)):
            for row in batch.to_pylist():
                if limit == 0:
                    return
                limit -= 1
                yield row
