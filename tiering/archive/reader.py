"""Reads containers: one after the other from the front, or a member from the middle."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tiering.archive import entry as entries
from tiering.archive import pax
from tiering.archive.entry import Entry
from tiering.archive.store import DamagedError, Store

if TYPE_CHECKING:
    from tiering.archive.writer import Placed

_MAP_LIMIT = 1 << 30  # bytes of the map of one sparse file: more is damage


@dataclass(frozen=True)
class Member:
    """A member as it was found. The payload has been read, and hashes to `sha256`."""

    entry: Entry
    offset: int
    sha256: bytes


def members(store: Store, key: str) -> Iterator[Member]:
    """All members in their order, each after its payload was read; the list of them is the last.

    Raises:
        DamagedError: it is no tar file that this package has written, or it is cut off.
        ArchiveError: it cannot be read.
    """
    size = store.size(key)
    with closing(_Stream(store.read(key, 0, size))) as stream:
        records: dict[bytes, bytes] = {}
        while (header := pax.decode(stream.take(pax.BLOCK))) is not None:
            if entries.is_extended(header):
                body = stream.take(header.size)
                stream.take(len(pax.padding(header.size)))
                records = pax.decode_records(body)
                continue
            entry = entries.decode(records, header)
            stored = int(records.get(b"size", header.size))
            records = {}
            yield _member(stream, entry, stored)


def compare(store: Store, key: str, written: Sequence["Placed"]) -> None:
    """Read a container and compare it with what was written.

    Raises:
        DamagedError: they differ; the message names the first member that does.
        ArchiveError: it cannot be read.
    """
    try:
        # One more is the list of members.
        for number, member in enumerate(members(store, key)):
            if number == len(written):
                return
            expected = written[number]
            found = (member.entry, member.offset, member.sha256)
            if found != (expected.entry, expected.offset, expected.sha256):
                raise DamagedError(f"member {number + 1} differs from what was written")
    except DamagedError as error:
        raise DamagedError(f"the container {key} is damaged: {error}") from error
    raise DamagedError(f"the container {key} is damaged: members are missing")


def payload(store: Store, key: str, offset: int, stored_bytes: int) -> Iterator[bytes]:
    """The payload of one member, unverified: who uses it hashes it.

    Raises:
        DamagedError: the container is shorter than that.
        ArchiveError: it cannot be read.
    """
    left = stored_bytes
    for data in store.read(key, offset, stored_bytes):
        left -= len(data)
        yield data
    if left:
        raise DamagedError(f"the container {key} is cut off")


def content(chunks: Iterator[bytes], entry: Entry) -> Iterator[tuple[int, bytes]]:
    """Where in the file the bytes of a payload belong: offsets and data.

    Raises:
        DamagedError: the map of a sparse file is not the entry's.
    """
    if entry.extents is None:
        position = 0
        for data in chunks:
            yield position, data
            position += len(data)
        return
    stream = _Stream(chunks)
    expected = entries.sparse_map(entry)
    if stream.take(len(expected)) != expected:
        raise DamagedError("the map of a sparse file is not the recorded one")
    for start, length in entry.extents:
        position = start
        for data in stream.pieces(length):
            yield position, data
            position += len(data)


def _member(stream: "_Stream", entry: Entry, stored: int) -> Member:
    offset = stream.position
    digest = hashlib.sha256()
    front = b""
    parsed: tuple[tuple[entries.Extent, ...], int] | None = None
    for data in stream.pieces(stored):
        digest.update(data)
        if entry.extents is not None and parsed is None and len(front) < _MAP_LIMIT:
            front += data
            parsed = entries.parse_sparse_map(front)
    stream.take(len(pax.padding(stored)))
    if entry.extents is not None:
        if parsed is None:
            raise DamagedError("the map of a sparse file is cut off")
        entry = replace(entry, extents=parsed[0])
    if entry.stored_bytes != stored:
        raise DamagedError("a member is not as long as it says")
    claimed = entry.note.get("sha256", digest.hexdigest())
    if claimed != digest.hexdigest():
        raise DamagedError(f"{entry.path!r} has a wrong checksum")
    return Member(entry, offset, digest.digest())


class _Stream:
    """Bytes in the order of a container, in pieces of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.position = 0
        self._chunks = chunks
        self._rest = memoryview(b"")

    def take(self, length: int) -> bytes:
        """So many bytes at once."""
        if length <= len(self._rest):
            taken, self._rest = self._rest[:length], self._rest[length:]
            self.position += length
            return bytes(taken)
        return b"".join(self.pieces(length))

    def pieces(self, length: int) -> Iterator[bytes]:
        """So many bytes, as they come."""
        while length > 0:
            if not self._rest:
                data = next(self._chunks, None)
                if data is None:
                    raise DamagedError("it is cut off")
                self._rest = memoryview(data)
            taken, self._rest = self._rest[:length], self._rest[length:]
            length -= len(taken)
            self.position += len(taken)
            yield bytes(taken)

    def close(self) -> None:
        """Stop reading."""
        close = getattr(self._chunks, "close", None)
        if close is not None:
            close()
