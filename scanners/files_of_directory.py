"""The files that lie directly in one directory of a scan: how many, and a page of them."""

import logging
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from datamgr.config import Settings
from scanners import decoded
from scanners.reader import DirectoryIds, RowGroup, ScanReader
from scanners.sorted_copies import Order, SortedCopies

log = logging.getLogger(__name__)

# More are not sorted again for each page.
MANY_ROWS = 20_000


class Files(Protocol):
    """The files of a directory."""

    @property
    def rows(self) -> int:
        """How many there are."""

    def page(self, order: Order, start: int, number: int) -> pa.Table:
        """So many from `start`, with `decoded.COLUMNS`; the order is that of `Table.sort_by`."""


class InMemory:
    """The files of a directory that has not too many."""

    def __init__(self, parts: Sequence[pa.RecordBatch]) -> None:
        self._table = pa.Table.from_batches(parts) if parts else None

    @property
    def rows(self) -> int:
        """How many there are."""
        return 0 if self._table is None else int(self._table.num_rows)

    def page(self, order: Order, start: int, number: int) -> pa.Table:
        """As `Files.page`."""
        if self._table is None:
            return pa.table({})
        return self._table.sort_by(list(order)).slice(start, number)


def of(settings: Settings, scan_dir: Path, dir_id: int) -> Files:
    """The files of a directory; only row groups that hold it are read.

    Raises:
        UnavailableError: the scan's files are gone or damaged.
    """
    reader = ScanReader(scan_dir, DirectoryIds(array("q", [dir_id])))
    groups = list(reader.row_groups("entries"))
    if any(group.first == group.last for group in groups):
        return _many(settings, groups, dir_id)
    found = [decoded.of_directory(decoded.batch(group), dir_id) for group in groups]
    if sum(batch.num_rows for batch in found) > MANY_ROWS:
        return _many(settings, groups, dir_id)
    return InMemory(found)


def _many(settings: Settings, groups: Sequence[RowGroup], dir_id: int) -> Files:
    folder, limit_bytes = settings.state_dir / "directories", settings.web.sorted_mib << 20
    try:
        return SortedCopies(folder, limit_bytes).of(groups, dir_id)
    except OSError as error:
        log.warning("no sorted copies can be kept in %s: %s", folder, error)
        return InMemory([decoded.of_directory(decoded.read(group), dir_id) for group in groups])
