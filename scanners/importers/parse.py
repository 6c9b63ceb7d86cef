"""The work of one process: a piece of a list becomes raw Parquet files."""

import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from datamgr.errors import InvalidError, UnavailableError
from scanners.importers import raw
from scanners.importers.fields import Unparsable
from scanners.importers.format import ListFormat
from scanners.importers.pieces import Piece, shown
from scanners.importers.places import Bounds
from scanners.walker import die_with_parent

# Fits into the caches of a processor.
_BLOCK_BYTES = 4 << 20
# Below it records are read one by one, rather than looking for those that have to be.
_SMALL_BYTES = 32 << 10
_SHOWN_CHARACTERS = 120


@dataclass(frozen=True)
class Bad:
    """A record that could not be read; `line` counts from 0 within the piece.

    It is of several `lines` if these look like one record, which each of them may have been.
    """

    line: int
    lines: int
    text: str
    reason: str


@dataclass
class Parsed:
    """What came of a piece."""

    lines: int = 0
    files: int = 0
    directories: int = 0
    bad: list[Bad] = field(default_factory=list)


def begin_process() -> None:
    """Make this process end with its parent, and not by Ctrl-C, of which the parent decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()


def parse(piece: Piece, list_format: ListFormat, bounds: Bounds, directory: Path) -> Parsed:
    """Write the raw files of a piece.

    Raises:
        InvalidError: the file cannot be read.
        UnavailableError: the disk is full or fails.
    """
    try:
        text = piece.read()
    except (OSError, EOFError) as error:
        raise InvalidError(f"{shown(piece.file)} changed while it was read") from error
    try:
        return _Parser(list_format, bounds, raw.RawWriter(directory, piece.number)).run(text)
    except OSError as error:
        raise UnavailableError(f"cannot write {directory}: {error}") from error


class _Parser:
    """One piece: tries large blocks, and halves them around what is unusual."""

    def __init__(self, list_format: ListFormat, bounds: Bounds, writer: raw.RawWriter) -> None:
        self._format = list_format
        self._bounds = bounds
        self._writer = writer
        self._parsed = Parsed()

    def run(self, text: bytes) -> Parsed:
        """Everything in the piece."""
        line, begin = 0, 0
        while begin < len(text):
            end = self._format.next_record(text, begin + _BLOCK_BYTES)
            end = len(text) if end == -1 else end
            self._block(text[begin:end], line)
            line += text.count(b"\n", begin, end)
            begin = end
        self._writer.close()
        self._parsed.lines = line
        return self._parsed

    def _block(self, block: bytes, line: int) -> None:
        """Read a block, as a whole or else in two halves."""
        try:
            self._add(raw.convert(self._format.read_block(block), self._bounds))
            return
        except Unparsable:
            half = self._format.next_record(block, len(block) // 2)
        if half == -1 or len(block) <= _SMALL_BYTES:
            records = self._format.records(block)
            self._records(records, line)
        else:
            self._block(block[:half], line)
            self._block(block[half:], line + block.count(b"\n", 0, half))

    def _records(self, records: Sequence[bytes], line: int) -> None:
        """Read records one by one; what is bad makes the others wait their turn alone."""
        try:
            self._add(raw.convert(self._format.read_records(records), self._bounds))
        except Unparsable as error:
            if len(records) == 1:
                self._bad(line, records[0], str(error))
                return
            half = len(records) // 2
            self._records(records[:half], line)
            before = sum(record.count(b"\n") + 1 for record in records[:half])
            self._records(records[half:], line + before)

    def _add(self, rows: raw.Rows) -> None:
        self._writer.write(rows)
        self._parsed.files += rows.files.num_rows
        self._parsed.directories += rows.directories.num_rows

    def _bad(self, line: int, record: bytes, reason: str) -> None:
        lines = record.count(b"\n") + 1
        self._parsed.bad.append(Bad(line, lines, _printable(record), _printable(reason.encode())))


def _printable(given: bytes) -> str:
    """The beginning of a text as one line that any terminal shows as it is."""
    text = given[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")
    text = re.sub(r"[^\x20-\x7e]", lambda match: match[0].encode("unicode_escape").decode(), text)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
