"""Very large directories, in any order, a page at a time: copies of their rows, and sorted numbers.

A copy is made when a directory is shown first: its rows as they come, in the Arrow format, which
is mapped into memory and never read as a whole. For each order that is asked for, one more file
has the numbers of the rows in it. A page looks at a hundred numbers and the rows of these.
"""

import hashlib
import logging
import os
import shutil
import tempfile
import threading
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from scanners import decoded
from scanners.reader import RowGroup

log = logging.getLogger(__name__)

Order = Sequence[tuple[str, str]]
ROWS = "rows.arrow"

# Copies are made one after another, for each takes memory to sort.
_making = threading.Lock()


class SortedCopy:
    """The rows of one directory, of `decoded.COLUMNS`."""

    def __init__(self, folder: Path) -> None:
        """Open the copy at `folder`.

        Raises:
            OSError, pyarrow.ArrowInvalid: there is none.
        """
        self._folder = folder
        file = pa.ipc.open_file(pa.memory_map(str(folder / ROWS)))
        self._batches = [file.get_batch(n) for n in range(file.num_record_batches)]
        self._ends: list[int] = list(accumulate(batch.num_rows for batch in self._batches))
        # That it was used last.
        os.utime(folder)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self._ends[-1]

    def page(self, order: Order, start: int, number: int) -> pa.Table:
        """So many rows from `start` in an order, as `pyarrow.Table.sort_by` takes it.

        Raises:
            OSError: the disk is full or fails.
        """
        numbers: list[int] = self._sorted(order).slice(start, number).to_pylist()
        taken: dict[int, list[int]] = {}
        for number_ in numbers:
            taken.setdefault(bisect_right(self._ends, number_), []).append(number_)
        # Batch by batch, then back in their order.
        place = {row: at for at, row in enumerate(row for rows in taken.values() for row in rows)}
        parts = [
            self._batches[n].take(pa.array([row - (self._ends[n - 1] if n else 0) for row in rows]))
            for n, rows in taken.items()
        ]
        found = pa.Table.from_batches(parts, self._batches[0].schema)
        return found.take(pa.array([place[row] for row in numbers], pa.int64()))

    def _sorted(self, order: Order) -> pa.Array:
        """The numbers of the rows in an order, mapped from the disk; made when first asked for."""
        file = self._folder / ("by-" + "-".join(column for column, _ in order) + ".arrow")
        if not file.exists():
            with _making:
                if not file.exists():
                    self._sort(order, file)
        mapped = pa.ipc.open_file(pa.memory_map(str(file)))
        return mapped.get_batch(0).column(0)

    def _sort(self, order: Order, file: Path) -> None:
        columns = [column for column, _ in order]
        keys = pa.Table.from_batches(self._batches).select(columns)
        numbers = pc.sort_indices(keys, sort_keys=list(order)).cast(pa.uint32())
        batch = pa.RecordBatch.from_arrays([numbers], names=["row"])
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as made:
            with pa.ipc.new_file(made, batch.schema) as writer:
                writer.write_batch(batch)
            os.replace(made.name, file)


class SortedCopies:
    """The copies below a folder, in about `limit_bytes`; those not used for longest go first."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes

    def of(self, groups: Sequence[RowGroup], dir_id: int) -> SortedCopy:
        """The copy of the rows of a directory that are in these row groups; made if there is none.

        Raises:
            OSError: the disk is full or fails.
            UnavailableError: a file of the scan is gone or damaged.
        """
        stamps = repr([(group.file, group.stamp, group.number) for group in groups])
        name = hashlib.sha256(f"{dir_id} {stamps}".encode()).hexdigest()[:32]
        folder = self._folder / name
        if not folder.exists():
            with _making:
                if not folder.exists():
                    self._make(groups, dir_id, folder)
        return SortedCopy(folder)

    def _make(self, groups: Sequence[RowGroup], dir_id: int, folder: Path) -> None:
        # Names of files are for those who may list their directory.
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="making-") as name:
            making = Path(name) / "copy"
            making.mkdir()
            with pa.OSFile(str(making / ROWS), "wb") as sink:
                writer = None
                for group in groups:
                    batch = decoded.of_directory(decoded.read(group), dir_id)
                    writer = writer or pa.ipc.new_file(sink, batch.schema)
                    writer.write_batch(batch)
                if writer is not None:
                    writer.close()
            making.rename(folder)
        self._tidy(folder)

    def _tidy(self, made: Path) -> None:
        """Remove the copies that were not used for longest, but for the one that was just made."""
        found = []
        for copy in self._folder.iterdir():
            try:
                size = sum(file.stat().st_size for file in copy.iterdir())
                found.append((copy.stat().st_mtime, size, copy))
            except OSError:  # gone meanwhile
                continue
        left = sum(size for _, size, _ in found)
        for _, size, copy in sorted(found):
            if left > self._limit_bytes and copy != made:
                # Who looks at it just now has it mapped, and keeps it.
                shutil.rmtree(copy, ignore_errors=True)
                left -= size
