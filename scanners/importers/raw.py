"""What the records of a list become first: Parquet files that know no numbers of directories yet.

Each piece of a list becomes a file of each dataset: `files` by the number of their directory
within the piece, `parents` with the keys of these, `directories` that the list itself names.
"""

import stat
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scanners import record
from scanners.importers import inodes, places
from scanners.importers.fields import Listed
from scanners.importers.places import Bounds

_INODE = record.ENTRIES.names[3:]
_INODE_FIELDS = [record.ENTRIES.field(name) for name in _INODE]
SCHEMAS = {
    "files": pa.schema([("parent", pa.int64()), ("name", pa.binary()), *_INODE_FIELDS]),
    "parents": pa.schema([("parent", pa.int64()), ("key", pa.binary())]),
    "directories": pa.schema([("key", pa.binary()), *_INODE_FIELDS]),
}
# Numbers of parents in different pieces never meet.
_PIECE_SHIFT = 32


@dataclass(frozen=True)
class Rows:
    """The rows of some records, for each dataset."""

    files: pa.RecordBatch
    parents: pa.RecordBatch
    directories: pa.RecordBatch


def convert(listed: Listed, bounds: Bounds) -> Rows:
    """The rows that records become; parents are numbered from 0.

    Raises:
        Unparsable: a value or a path is none.
    """
    mode, *others = inodes.columns(listed.fields)
    is_directory = pc.equal(pc.bit_wise_and(mode, record.FILE_TYPE_MASK), stat.S_IFDIR)
    rows = pa.RecordBatch.from_arrays([listed.paths, mode, *others], names=["path", *_INODE])
    named = rows.filter(is_directory)
    files = rows.filter(pc.invert(is_directory))
    placed = places.files(files["path"], bounds)
    keys = places.directories(named["path"], bounds)
    numbers = pa.array(range(len(placed.directories)), pa.int64())
    return Rows(
        _batch("files", placed.numbers.cast(pa.int64()), placed.names, *files.columns[1:]),
        _batch("parents", numbers, placed.directories),
        _batch("directories", keys, *named.columns[1:]),
    )


class RawWriter:
    """The raw files of one piece. Parents are renumbered so that those of all rows differ."""

    def __init__(self, directory: Path, piece: int) -> None:
        self._paths = {name: directory / f"{name}-{piece:06d}.parquet" for name in SCHEMAS}
        self._next = piece << _PIECE_SHIFT
        self._open: dict[str, pq.ParquetWriter] = {}

    def write(self, rows: Rows) -> None:
        """Append rows.

        Raises:
            OSError: the disk is full or fails.
        """
        files = rows.files.set_column(0, "parent", pc.add(rows.files["parent"], self._next))
        parents = rows.parents.set_column(0, "parent", pc.add(rows.parents["parent"], self._next))
        self._next += parents.num_rows
        self._write("files", files)
        self._write("parents", parents)
        self._write("directories", rows.directories)

    def _write(self, dataset: str, rows: pa.RecordBatch) -> None:
        if rows.num_rows == 0:
            return
        if dataset not in self._open:
            self._open[dataset] = pq.ParquetWriter(
                self._paths[dataset],
                SCHEMAS[dataset],
                # Read once and soon: what is quickest is best.
                compression="lz4",
                use_dictionary=False,
                write_statistics=False,
            )
        self._open[dataset].write_batch(rows.cast(SCHEMAS[dataset]))

    def close(self) -> None:
        """Finish the files.

        Raises:
            OSError: the disk is full or fails.
        """
        for writer in self._open.values():
            writer.close()


def _batch(dataset: str, *columns: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(list(columns), names=SCHEMAS[dataset].names)
