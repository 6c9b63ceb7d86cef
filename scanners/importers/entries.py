"""The files of a list: joined to the numbers of their directories and sorted by them."""

import os
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scanners import parts, record
from scanners.importers import places, tree
from scanners.importers.errors import MOVED, REPEATED, Errors

# Files that are listed twice at one path, for naming them.
_REPEATED_FILE = "repeated.parquet"
_REPEATED = pa.schema([("dir_id", pa.int64()), ("name", pa.binary())])
_NOWHERE = pa.RecordBatch.from_pylist([{"dir_id": 0, "name": b""}], schema=_REPEATED)

_PLACED = """
CREATE TEMP TABLE placed AS
SELECT parent, dir_id FROM parents JOIN numbered USING (key)
"""

# Inodes with one link, or an unknown number of them, that have several paths: the list does not
# count links, a file was renamed while it was made, or it names a path that is gone. Inode
# number 0 stands for none.
_SHARED = """
CREATE TEMP TABLE shared AS
WITH again AS (
    SELECT dev, ino FROM files WHERE nlink <= 1 AND ino <> 0
    GROUP BY dev, ino HAVING count(*) > 1
)
SELECT dev, ino
FROM files JOIN again USING (dev, ino) JOIN placed USING (parent)
GROUP BY dev, ino HAVING count(DISTINCT (dir_id, name)) > 1
"""

_SORTED = """
SELECT dir_id, name, {columns}
FROM files f JOIN placed USING (parent) {shared}
ORDER BY dir_id, name, ctime_s DESC, ino
"""
_JOIN_SHARED = "LEFT JOIN shared USING (dev, ino)"
_NLINK = "greatest(f.nlink, 1)"
_NLINK_SHARED = f"CASE WHEN f.nlink > 1 OR shared.ino IS NULL THEN {_NLINK} ELSE 0 END"

_REPEATED_PATHS = """
SELECT key, name FROM repeated JOIN numbered USING (dir_id)
"""
_MOVED_PATHS = """
SELECT key, name
FROM files JOIN shared USING (dev, ino) JOIN placed USING (parent)
    JOIN numbered USING (dir_id)
WHERE nlink = 1
GROUP BY dev, ino, key, name
QUALIFY row_number() OVER (PARTITION BY dev, ino ORDER BY key, name) > 1
"""


def write(
    connection: duckdb.DuckDBPyConnection, scratch: Path, scan_dir: Path, errors: Errors
) -> int:
    """Write the dataset `entries`, after `tree.write`; returns how many there are.

    A path that is listed twice is written once, as it was last. Inodes of which the list does not
    say that they have several links get a link count of 0, "unknown", if they have several paths,
    and else of 1; the roll-up counts both once.

    Raises:
        UnavailableError: the disk is full or fails.
    """
    connection.read_parquet(str(scratch / tree.NUMBERED)).create_view("numbered")
    connection.execute(_PLACED)
    connection.execute(_SHARED)
    [(shared,)] = connection.sql("SELECT count(*) FROM shared").fetchall()
    columns = ", ".join(
        f"{_NLINK_SHARED if shared else _NLINK} AS nlink" if name == "nlink" else f"f.{name}"
        for name in record.ENTRIES.names[3:]
    )
    query = _SORTED.format(columns=columns, shared=_JOIN_SHARED if shared else "")
    writer = _Writer(parts.PartWriter(scan_dir, "entries", 0))
    with pq.ParquetWriter(scratch / _REPEATED_FILE, _REPEATED) as repeated:
        for batch in connection.execute(query).fetch_record_batch(parts.ROW_GROUP_ROWS):
            left_out = writer.write(batch)
            if left_out.num_rows:
                repeated.write_batch(left_out)
    writer.close()
    if writer.repeated:
        connection.read_parquet(str(scratch / _REPEATED_FILE)).create_view("repeated")
        _name(connection, _REPEATED_PATHS, errors, "repeated", REPEATED)
    if shared:
        _name(connection, _MOVED_PATHS, errors, "moved", MOVED)
    return writer.entries


def _name(
    connection: duckdb.DuckDBPyConnection, query: str, errors: Errors, reason: str, message: str
) -> None:
    for batch in connection.execute(query).fetch_record_batch(parts.ROW_GROUP_ROWS):
        rows = zip(batch["key"].to_pylist(), batch["name"].to_pylist(), strict=True)
        for key, name in rows:
            errors.add(os.path.join(places.path_of(key), name), reason, message)


class _Writer:
    """Writes sorted entries, but those at the path of the one before."""

    def __init__(self, writer: parts.PartWriter) -> None:
        self._writer = writer
        self._last = _NOWHERE
        self.entries = 0
        self.repeated = 0

    def write(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Write a batch; returns what was left out of it."""
        paths = batch.select(_REPEATED.names).cast(_REPEATED)
        again = self._again(paths)
        self._last = paths.slice(len(paths) - 1)
        left_out = paths.filter(again)
        if left_out.num_rows:
            batch = batch.filter(pc.invert(again))
        kind = pc.shift_right(pc.bit_wise_and(batch["mode"], record.FILE_TYPE_MASK), 12)
        dir_id, name, *inode = batch.columns
        self._writer.write([dir_id, name, pc.take(pa.array(record.KINDS), kind), *inode])
        self.entries += batch.num_rows
        self.repeated += left_out.num_rows
        return left_out

    def _again(self, paths: pa.RecordBatch) -> pa.Array:
        """Which rows have the path of the row before."""
        same = (
            pc.equal(pa.concat_arrays([last, column.slice(0, len(column) - 1)]), column)
            for last, column in zip(self._last.columns, paths.columns, strict=True)
        )
        return pc.and_(*same)

    def close(self) -> None:
        """Finish the dataset."""
        self._writer.close()
