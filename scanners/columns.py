"""Rows on their way to Parquet, as columns."""

import sys
from array import array
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from scanners import parts, record

INODE_COLUMNS = 10  # of os.stat_result as a tuple: mode … ctime
_UNSIGNED = 1 << 64


class EntryColumns:
    """Entries as columns: flat arrays of numbers, turned into Arrow without a copy by row."""

    def __init__(self, writer: parts.PartWriter) -> None:
        self._writer = writer
        self.names: list[str] = []
        self.dir_ids = array("q")
        self.numbers = array("q")
        self.blocks = array("q")

    def repair(self, numbers: tuple[int, ...]) -> None:
        """Replace a row that was cut short by a number beyond int64."""
        del self.numbers[len(self.names) * INODE_COLUMNS :]
        self.numbers.extend(map(signed, numbers))

    def flush(self) -> None:
        """Write one row group."""
        if not self.names:
            return
        mode, *rest = (
            _int64(self.numbers[offset::INODE_COLUMNS]) for offset in range(INODE_COLUMNS)
        )
        kind = pc.shift_right(pc.bit_wise_and(mode, record.FILE_TYPE_MASK), 12)
        self._writer.write(
            [
                _int64(self.dir_ids),
                _encode(self.names),
                pc.take(pa.array(record.KINDS), kind),
                mode.cast(pa.int32()),
                *rest,
                pc.multiply(_int64(self.blocks), 512),
            ]
        )
        self.names = []
        self.dir_ids, self.numbers, self.blocks = array("q"), array("q"), array("q")

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        self._writer.close()


class RowBuffer:
    """Rows that are rarer than entries, kept as tuples until there are enough to write."""

    def __init__(self, writer: parts.PartWriter, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        """Append one row, in the schema's order."""
        self._rows.append(row)
        if len(self._rows) >= parts.ROW_GROUP_ROWS // 8:
            self.flush()

    def flush(self) -> None:
        """Write one row group."""
        if self._rows:
            columns = zip(*self._rows, strict=True)
            self._writer.write(
                [pa.array(c, f.type) for c, f in zip(columns, self._schema, strict=True)]
            )
            self._rows = []

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        self._writer.close()


def _int64(numbers: "array[int]") -> pa.Array:
    return pa.Array.from_buffers(pa.int64(), len(numbers), [None, pa.py_buffer(numbers)])


def signed(number: int) -> int:
    """An unsigned 64 bit number as two's complement, as `record` keeps inode numbers."""
    return number if number < _UNSIGNED // 2 else number - _UNSIGNED


def _encode(names: list[str]) -> pa.Array:
    """The bytes of names that the kernel gave; NUL, which no name has, parts them in one go."""
    joined = "\0".join(names).encode(sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())
    return pa.array(joined.split(b"\0"), pa.binary())
