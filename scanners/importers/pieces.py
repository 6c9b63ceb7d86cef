"""Lists cut into pieces of whole records: plain, gzip and zstd files and standard input."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import pyarrow as pa

from datamgr.errors import InvalidError, NotFoundError
from scanners.importers.format import FRAME_BYTES, Incomplete, ListFormat

STANDARD_INPUT = "-"
PIECE_BYTES = 32 << 20
# Smaller, because their text waits in memory.
STREAM_PIECE_BYTES = 8 << 20
# No path of any file system comes near it; a file without newlines is no list.
LONGEST_RECORD_BYTES = 64 << 20
_WINDOW_BYTES = 256 << 10
_CUT_SHORT = "its last line has no end, so it was cut short"
_ENDLESS = f"no record ends within {LONGEST_RECORD_BYTES >> 20} MiB"
# Source: RFC 1952 section 2.3.1; RFC 8878 section 3.1.1.
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(frozen=True)
class Piece:
    """Whole records of a list: in `text`, or else `length` bytes of the file from `offset`.

    `first_line` says that it is the first of its file, and how many lines stand before it.
    """

    number: int
    file: str
    offset: int
    length: int
    text: bytes | None = None
    first_line: int | None = None

    def read(self) -> bytes:
        """The records.

        Raises:
            OSError: the file cannot be read.
            EOFError: it became shorter.
        """
        if self.text is not None:
            return self.text
        with Path(self.file).open("rb") as file:
            file.seek(self.offset)
            text = file.read(self.length)
        if len(text) != self.length:
            raise EOFError
        return text


def cut(files: Sequence[str], list_format: ListFormat) -> Iterator[Piece]:
    """The pieces of all files, in their order and numbered from 0.

    Raises:
        NotFoundError: a file does not exist.
        InvalidError: a file cannot be read, is cut short or no list of this format.
    """
    number = 0
    for file in files:
        try:
            for piece in _cut_file(file, list_format):
                yield Piece(number, file, *piece)
                number += 1
        except FileNotFoundError as error:
            raise NotFoundError(f"{file} does not exist") from error
        except Incomplete as error:
            raise InvalidError(
                f"{shown(file)} is no complete {list_format.name}: {error}"
            ) from error
        except OSError as error:
            raise InvalidError(f"{shown(file)} cannot be read: {error}") from error


def beginning(file: str) -> bytes:
    """The first bytes of a plain or compressed file; nothing for standard input.

    Raises:
        OSError: it cannot be read.
    """
    if file == STANDARD_INPUT:
        return b""
    with ExitStack() as stack:
        stream, _ = _open(file, stack)
        return stream.read(FRAME_BYTES)


def shown(file: str) -> str:
    """A file as messages name it."""
    return "standard input" if file == STANDARD_INPUT else file


_Cut = tuple[int, int, bytes | None, int | None]


def _cut_file(file: str, list_format: ListFormat) -> Iterator[_Cut]:
    with ExitStack() as stack:
        stream, plain = _open(file, stack)
        if plain is not None and list_format.starts_anywhere and plain.seekable():
            yield from _cut_plain(plain, list_format)
        else:
            yield from _cut_stream(stream, list_format)


def _open(file: str, stack: ExitStack) -> tuple[_Readable, BinaryIO | None]:
    """The uncompressed stream of a file, and the file itself where it is not compressed."""
    is_standard = file == STANDARD_INPUT
    raw: BinaryIO = sys.stdin.buffer
    if not is_standard:
        raw = stack.enter_context(Path(file).open("rb"))  # noqa: SIM115
    magic = raw.read(4)
    compression = next((c for m, c in _MAGIC.items() if magic.startswith(m)), None)
    rejoined = _Rejoined(magic, raw)
    if compression is None:
        return rejoined, None if is_standard else raw
    return pa.CompressedInputStream(pa.PythonFile(rejoined, mode="r"), compression), None


class _Rejoined:
    """A stream of which the first bytes were read already."""

    closed = False

    def __init__(self, first: bytes, rest: BinaryIO) -> None:
        self._first = first
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""
        if self._first:
            first, self._first = self._first, b""
            return first + self._rest.read(max(size - len(first), 0))
        return self._rest.read(size)

    def close(self) -> None:
        """Leave it to whoever opened the stream."""


def _cut_plain(file: BinaryIO, list_format: ListFormat) -> Iterator[_Cut]:
    """By offsets only: whoever works on a piece reads it."""
    end = file.seek(0, 2)
    file.seek(0)
    begin = list_format.header(file.read(FRAME_BYTES))
    file.seek(0)
    first_line: int | None = file.read(begin).count(b"\n")
    file.seek(max(begin, end - FRAME_BYTES))
    ending = file.read(FRAME_BYTES)
    end -= list_format.footer(ending)
    if end > begin and not ending.endswith(b"\n"):
        raise Incomplete(_CUT_SHORT)
    while begin < end:
        following = _next_start(file, min(begin + PIECE_BYTES, end), end, list_format)
        yield begin, following - begin, None, first_line
        begin, first_line = following, None


def _next_start(file: BinaryIO, at: int, end: int, list_format: ListFormat) -> int:
    # Two bytes earlier, for what stands before a newline may count.
    origin = max(at - 2, 0)
    file.seek(origin)
    text = b""
    while origin + len(text) < end:
        text += file.read(min(_WINDOW_BYTES, end - origin - len(text)))
        found = list_format.next_record(text, at - origin)
        if found != -1:
            return origin + found
        if len(text) > LONGEST_RECORD_BYTES:
            raise Incomplete(_ENDLESS)
    return end


def _cut_stream(stream: _Readable, list_format: ListFormat) -> Iterator[_Cut]:
    """By their text, since it can be read once only."""
    text = stream.read(STREAM_PIECE_BYTES)
    begin = list_format.header(text[:FRAME_BYTES])
    first_line: int | None = text[:begin].count(b"\n")
    text, offset = text[begin:], begin
    while more := stream.read(STREAM_PIECE_BYTES):
        text += more
        following = list_format.next_record(text, STREAM_PIECE_BYTES)
        if following != -1:
            yield offset, following, text[:following], first_line
            text, offset, first_line = text[following:], offset + following, None
        elif len(text) > 2 * STREAM_PIECE_BYTES + LONGEST_RECORD_BYTES:
            raise Incomplete(_ENDLESS)
    text = text[: len(text) - list_format.footer(text[-FRAME_BYTES:])]
    if text and not text.endswith(b"\n"):
        if not list_format.may_end_abruptly:
            raise Incomplete(_CUT_SHORT)
        text += b"\n"
    if text:
        yield offset, len(text), text, first_line
