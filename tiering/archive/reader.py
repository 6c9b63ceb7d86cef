"""Reads containers: one after the other from the front, or a member from the middle."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import google_crc32c

from tiering.archive import aside, pax
from tiering.archive import entry as entries
from tiering.archive.aside import Checksums
from tiering.archive.entry import Entry
from tiering.archive.store import ArchiveError, DamagedError, Store

if TYPE_CHECKING:
    from tiering.archive.writer import Placed

_SKIP_BYTES = 1 << 18  # reading on over this is cheaper than beginning again
_AHEAD_BYTES = 4 << 20  # less is read before a thread has begun
_MAP_LIMIT = 1 << 30  # bytes of the map of one sparse file: more is damage


class Member(NamedTuple):
    """A member as it was found. The payload has been read, and hashes to `sha256`.

    `sums`: all checksums, where they were asked for.
    """

    entry: Entry
    offset: int
    sha256: bytes
    sums: Checksums | None = None


def members(store: Store, key: str, *, with_sums: bool = False) -> Iterator[Member]:
    """All members in their order, each after its payload was read; the list of them is the last.

    `with_sums`: with all checksums of each.

    Raises:
        DamagedError: it is no tar file that this package has written, or it is cut off.
        ArchiveError: it cannot be read.
    """
    size = store.size(key)
    chunks = store.read(key, 0, size, fresh=True)
    if size > _AHEAD_BYTES:
        chunks = aside.read_ahead(chunks)
    yield from members_in(chunks, with_sums=with_sums)


def members_in(chunks: Iterator[bytes], *, with_sums: bool = False) -> Iterator[Member]:
    """The members of a container that is read elsewhere, as `members`."""
    with closing(_Stream(chunks)) as stream:
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
            yield _member(stream, entry, stored, with_sums=with_sums)


def compare(store: Store, key: str, written: Sequence["Placed"]) -> None:
    """Read a container and compare it with what was written.

    Raises:
        DamagedError: they differ; the message names the first member that does.
        ArchiveError: it cannot be read.
    """
    require_written(key, members(store, key), written)


def require_written(key: str, found_members: Iterable[Member], written: Sequence["Placed"]) -> None:
    """Be sure that the members of a container are what was written, as `compare`."""
    try:
        # One more is the list of members.
        for number, member in enumerate(found_members):
            if number == len(written):
                return
            expected = written[number]
            found = (member.entry, member.offset, member.sha256)
            if found != (expected.entry, expected.offset, expected.sha256):
                raise DamagedError(f"member {number + 1} differs from what was written")
    except DamagedError as error:
        raise DamagedError(f"the container {key} is damaged: {error}") from error
    raise DamagedError(f"the container {key} is damaged: members are missing")


class Members:
    """Payloads of members, read on while the next one lies a little further in its container.

    Leaving the block stops reading.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = ""
        self._stream: _Stream | None = None
        self._start = self._size = 0

    def __enter__(self) -> "Members":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def payload(self, key: str, offset: int, stored_bytes: int) -> Iterator[bytes]:
        """The payload of one member, unverified; take all of it before the next.

        Raises:
            DamagedError: the container is shorter than that.
            ArchiveError: it cannot be read.
        """
        try:
            yield from self._go_to(key, offset).pieces(stored_bytes)
        except BaseException as error:
            self._lost(key, error)
            raise

    def whole(self, key: str, offset: int, stored_bytes: int) -> bytes:
        """The payload of a small member at once, as `payload`."""
        try:
            return self._go_to(key, offset).take(stored_bytes)
        except BaseException as error:
            self._lost(key, error)
            raise

    def _go_to(self, key: str, offset: int) -> "_Stream":
        """The stream of a container, at this place."""
        stream = self._stream
        ahead = offset - self._start - stream.position if stream is not None else -1
        if stream is None or key != self._key or not 0 <= ahead <= _SKIP_BYTES:
            self._close()
            if key != self._key:
                self._size = self._store.size(key)
            self._key, self._start, ahead = key, offset, 0
            stream = _Stream(self._store.read(key, offset, max(0, self._size - offset)))
            self._stream = stream
        stream.take(ahead)
        return stream

    def _lost(self, key: str, error: BaseException) -> None:
        """Where the stream stands now nobody knows."""
        self._close()
        if isinstance(error, DamagedError):
            raise DamagedError(f"the container {key} is damaged: {error}") from error

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None


T = TypeVar("T")
C = TypeVar("C")


def first_good(copies: Iterable[C], work: Callable[[C], T]) -> T:
    """Do a work with the first copy with which it succeeds.

    Raises:
        ArchiveError: with none; what the first said.
    """
    first: ArchiveError | None = None
    for copy in copies:
        try:
            return work(copy)
        except ArchiveError as error:
            first = first or error
    if first is None:
        raise ValueError("there are no copies")
    raise first


def hashed(chunks: Iterator[bytes], digest: "hashlib._Hash") -> Iterator[bytes]:
    """The same chunks, each of which was added to a checksum."""
    for data in chunks:
        digest.update(data)
        yield data


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


def _member(stream: "_Stream", entry: Entry, stored: int, *, with_sums: bool) -> Member:
    offset = stream.position
    digest, adler, crc = hashlib.sha256(), 1, 0
    front = b""
    parsed: tuple[tuple[entries.Extent, ...], int] | None = None
    for data in stream.pieces(stored):
        digest.update(data)
        if with_sums:
            adler, crc = zlib.adler32(data, adler), int(google_crc32c.extend(crc, data))
        if entry.extents is not None and parsed is None and len(front) < _MAP_LIMIT:
            front += data
            parsed = entries.parse_sparse_map(front)
    stream.take(len(pax.padding(stored)))
    if entry.extents is not None:
        if parsed is None:
            raise DamagedError("the map of a sparse file is cut off")
        entry = entry._replace(extents=parsed[0])
    if entry.stored_bytes != stored:
        raise DamagedError("a member is not as long as it says")
    claimed = entry.note.get("sha256", digest.hexdigest())
    if claimed != digest.hexdigest():
        raise DamagedError(f"{entry.path!r} has a wrong checksum")
    sha256 = digest.digest()
    sums = Checksums(sha256, adler, crc) if with_sums else None
    return Member(entry, offset, sha256, sums)


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
