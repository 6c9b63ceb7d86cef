"""What an import could not count, or not as listed, on its way into the scan."""

from pathlib import Path

from scanners import parts, record
from scanners.columns import RowBuffer

REPEATED = "listed more than once; counted once"
MOVED = "listed at several paths although it has one link; counted once"


class Errors:
    """The dataset `errors` of a scan, and how many rows of each reason it has."""

    def __init__(self, scan_dir: Path) -> None:
        self._rows = RowBuffer(parts.PartWriter(scan_dir, "errors", 0), record.ERRORS)
        self.counts: dict[str, int] = {}

    def add(self, path: bytes, reason: str, message: str) -> None:
        """Record one; `reason` is one of `record.REASONS`.

        Raises:
            UnavailableError: the disk is full or fails.
        """
        self._rows.add((path, reason, message))
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def close(self) -> None:
        """Write the rest.

        Raises:
            UnavailableError: the disk is full or fails.
        """
        self._rows.close()
