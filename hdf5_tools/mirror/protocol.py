"""The frames that writers and the receiver of mirrors exchange; docs/hdf5-mirror.md describes them.

A frame is a header of 36 bytes and a payload. Its checksum covers both.
"""

import enum
import json
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import xxhash

from datamgr.errors import (
    ConflictError,
    DatamgrError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)

VERSION = 1
MAGIC = b"h5m1"
# Magic, kind, length of the payload, number, offset; then the checksum (XXH3, 64 bits) of these
# and the payload.
_FIELDS = struct.Struct("<4sBxxxIQQ")
_CHECKSUM = struct.Struct("<Q")
HEADER_BYTES = _FIELDS.size + _CHECKSUM.size
MAX_PAYLOAD_BYTES = 1 << 20
_PIECE = struct.Struct("<IB")
PIECE_BYTES = MAX_PAYLOAD_BYTES - _PIECE.size
_SPAN = struct.Struct("<II")
MAX_GREETING_BYTES = 1 << 14  # of a payload, from somebody who has not shown the token yet


class Kind(enum.IntEnum):
    """What a frame says."""

    GREETING = 1
    HELLO = 2
    WELCOME = 3
    REFUSAL = 4
    ACK = 5
    # Operations, numbered one after the other, each answered by an ACK of it or of a later one.
    WRITE = 16
    TRUNCATE = 17
    COMMIT = 18
    DIGESTS = 19
    CLOSE = 20
    CREATE = 32
    ATTRIBUTE = 33
    START = 34
    CHUNK = 35
    PUBLISH = 36
    FINISH = 37
    # The answer that comes before the ACK.
    DIGESTED = 48


_KINDS = {kind.value: kind for kind in Kind}
_ERRORS: dict[str, type[DatamgrError]] = {
    kind.title: kind
    for kind in (NotFoundError, InvalidError, ForbiddenError, ConflictError, UnavailableError)
}


class BrokenFrameError(InvalidError):
    """What arrived is not a frame of this protocol, or was damaged on the way."""


class Frame(NamedTuple):
    """One frame; `payload` is valid until the reader is filled again."""

    kind: Kind
    number: int
    offset: int
    payload: memoryview

    def json(self) -> dict[str, Any]:
        """The object that the payload is.

        Raises:
            BrokenFrameError: it is none.
        """
        return parse(self.payload)


class Socket(Protocol):
    """What of a socket, plain or TLS, the reader needs."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """As `socket.recv_into`."""


def parse(payload: memoryview | bytes) -> dict[str, Any]:
    """The JSON object that a payload is.

    Raises:
        BrokenFrameError: it is none.
    """
    try:
        value = json.loads(bytes(payload))
    except (ValueError, RecursionError) as error:
        raise BrokenFrameError("a frame of the mirror has no valid JSON") from error
    if not isinstance(value, dict):
        raise BrokenFrameError("a frame of the mirror has no JSON object")
    return value


def to_json(**fields: Any) -> bytes:
    """A payload that `Frame.json` reads."""
    return json.dumps(fields).encode("ascii")


def span(target: int, count: int) -> bytes:
    """The payload of DIGESTS: of so many blocks, or chunks of a dataset, from the offset on."""
    return _SPAN.pack(target, count)


def read_span(payload: memoryview) -> tuple[int, int]:
    """What `span` made.

    Raises:
        BrokenFrameError: it is none.
    """
    if len(payload) != _SPAN.size:
        raise BrokenFrameError("a request for digests has 8 bytes")
    target, count = _SPAN.unpack(payload)
    return target, count


def pieces(target: int, data: bytes | memoryview) -> Iterator[bytes]:
    """The payloads of CHUNK that together carry a chunk: dataset, first and last marked, bytes."""
    view = memoryview(data)
    for at in range(0, len(view), PIECE_BYTES):
        marks = (at == 0) | (at + PIECE_BYTES >= len(view)) << 1
        yield _PIECE.pack(target, marks) + view[at : at + PIECE_BYTES]


def read_piece(payload: memoryview) -> tuple[int, bool, bool, memoryview]:
    """Dataset, whether this is the first and the last piece of its chunk, and the bytes.

    Raises:
        BrokenFrameError: it is none.
    """
    if len(payload) <= _PIECE.size:
        raise BrokenFrameError("a piece of a chunk is too short")
    target, marks = _PIECE.unpack_from(payload)
    return target, bool(marks & 1), bool(marks & 2), payload[_PIECE.size :]


def header(kind: Kind, number: int, offset: int, payload: bytes | memoryview) -> bytes:
    """What stands before a payload of at most `MAX_PAYLOAD_BYTES`."""
    fields = _FIELDS.pack(MAGIC, kind, len(payload), number, offset)
    return fields + _CHECKSUM.pack(_checksum(fields, payload))


def frame(kind: Kind, number: int = 0, offset: int = 0, payload: bytes = b"") -> bytes:
    """A whole frame."""
    return header(kind, number, offset, payload) + payload


def refusal(error: DatamgrError) -> bytes:
    """The frame that says why the other side is not served."""
    return frame(Kind.REFUSAL, payload=to_json(title=error.title, reason=str(error)[:1000]))


def refused(refusal: Frame) -> DatamgrError:
    """The error that a refusal stands for."""
    said = refusal.json()
    kind = _ERRORS.get(str(said.get("title")), UnavailableError)
    return kind(str(said.get("reason")))


class Reader:
    """Cuts what a socket delivers into frames."""

    def __init__(self, capacity_bytes: int = 4 * (HEADER_BYTES + MAX_PAYLOAD_BYTES)) -> None:
        self._buffer = bytearray(capacity_bytes)
        self._view = memoryview(self._buffer)
        self._begin = self._end = 0
        self.limit_bytes = MAX_GREETING_BYTES

    def fill(self, socket: Socket) -> int:
        """Take what one call of `recv_into` gives: so many bytes, 0 at the end.

        Raises:
            OSError: as the socket does.
        """
        if self._begin == self._end:
            self._begin = self._end = 0
        elif self._begin > len(self._buffer) // 2:
            rest = self._end - self._begin
            self._buffer[:rest] = self._buffer[self._begin : self._end]
            self._begin, self._end = 0, rest
        count = socket.recv_into(self._view[self._end :])
        self._end += count
        return count

    def frames(self) -> Iterator[Frame]:
        """The whole frames that are there; their payloads lie in the reader's buffer.

        Raises:
            BrokenFrameError: what is there is no frame, one larger than `limit_bytes`, or one
                with a wrong checksum.
        """
        while self._end - self._begin >= HEADER_BYTES:
            start = self._begin + HEADER_BYTES
            magic, code, length, number, offset = _FIELDS.unpack_from(self._buffer, self._begin)
            kind = _KINDS.get(code)
            if magic != MAGIC or kind is None:
                raise BrokenFrameError("what arrived is no frame of a mirror")
            if length > self.limit_bytes:
                raise BrokenFrameError(f"a frame of {length} bytes; {self.limit_bytes} may come")
            if self._end - start < length:
                return
            payload = self._view[start : start + length]
            fields = self._view[self._begin : self._begin + _FIELDS.size]
            (wanted,) = _CHECKSUM.unpack_from(self._buffer, start - _CHECKSUM.size)
            if _checksum(fields, payload) != wanted:
                raise BrokenFrameError(f"frame {number} was damaged on the way")
            self._begin = start + length
            yield Frame(kind, number, offset, payload)
        have = self._view[self._begin : min(self._end, self._begin + len(MAGIC))]
        if have != MAGIC[: len(have)]:
            raise BrokenFrameError("what arrived is no frame of a mirror")


def _checksum(fields: bytes | memoryview, payload: bytes | memoryview) -> int:
    return xxhash.xxh3_64_intdigest(payload, xxhash.xxh3_64_intdigest(fields))
