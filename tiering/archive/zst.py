"""Containers whose keys end in `.zst` compressed, and read at any place all the same.

Offsets and sizes are those of the tar stream. It is cut into frames, each compressed by itself, and
their lengths follow in a frame that every zstd program skips, so that `tar --zstd -xf` restores it.
Source: zstd_seekable_compression_format.md of the zstd sources; RFC 8878.
"""

import bisect
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

import zstandard

from tiering.archive.store import ArchiveError, DamagedError, Draft, Place, Store

SUFFIX = ".zst"
FRAME_BYTES = 1 << 20

_SKIPPABLE, _SEEKABLE = 0x184D2A5E, 0x8F92EAB1
_HEAD, _ENTRY, _FOOT = struct.Struct("<II"), struct.Struct("<II"), struct.Struct("<IBI")
_WITH_CHECKSUMS = 0x80
_KEPT = 64  # tables of frames: 8 bytes a frame


@dataclass(frozen=True)
class Frames:
    """Where the frames of an object begin: compressed, and in the stream; one more is the end."""

    object_bytes: int
    stored: tuple[int, ...]
    starts: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the stream."""
        return self.starts[-1]


class ZstdStore:
    """As `Store`, over another that keeps what is made of the streams."""

    def __init__(self, inner: Store, level: int = 3) -> None:
        self.inner, self.level = inner, level
        is_one = inner.copies == (inner,)
        self._copies = (self,) if is_one else tuple(ZstdStore(c, level) for c in inner.copies)
        self._frames: dict[str, Frames] = {}

    @property
    def copies(self) -> tuple[Store, ...]:
        """As `Store.copies`."""
        return self._copies

    def create(self, key: str) -> Draft:
        """As `Store.create`."""
        draft = self.inner.create(key)
        return ZstdDraft(draft, self.level, len(self.copies)) if key.endswith(SUFFIX) else draft

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """As `Store.read`.

        Raises:
            DamagedError: a frame is not what was compressed.
        """
        if not key.endswith(SUFFIX):
            yield from self.inner.read(key, offset, length, fresh=fresh)
            return
        if len(self.copies) > 1:
            yield from self._readable(key).read(key, offset, length, fresh=fresh)
            return
        frames = self._frames_of(key, fresh=fresh)
        end = min(offset + length, frames.size_bytes)
        if offset >= end:
            return
        number = bisect.bisect_right(frames.starts, offset) - 1
        last = bisect.bisect_left(frames.starts, end)
        start = frames.stored[number]
        chunks = self.inner.read(key, start, frames.stored[last] - start, fresh=fresh)
        held = bytearray()
        for n in range(number, last):
            stored = frames.stored[n + 1] - frames.stored[n]
            while len(held) < stored:
                chunk = next(chunks, None)
                if chunk is None:
                    raise DamagedError(f"{key} is cut off")
                held += chunk
            size = frames.starts[n + 1] - frames.starts[n]
            data = _decompressed(bytes(held[:stored]), size, f"frame {n + 1} of {key}")
            del held[:stored]
            yield data[max(0, offset - frames.starts[n]) : end - frames.starts[n]]

    def size(self, key: str) -> int:
        """As `Store.size`: that of the stream."""
        if not key.endswith(SUFFIX):
            return self.inner.size(key)
        if len(self.copies) > 1:
            return min(copy.size(key) for copy in self.copies)
        frames = self._frames_of(key)
        if self.inner.size(key) != frames.object_bytes:
            # It is not what it was when its table was read.
            frames = self._frames_of(key, fresh=True)
        return frames.size_bytes

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        for copy in self._copies:
            copy._frames.pop(key, None)
        self.inner.delete(key)

    def keys(self) -> Iterator[str]:
        """As `Store.keys`."""
        return self.inner.keys()

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """As `Store.places`."""
        return self.inner.places(keys)

    def _readable(self, key: str) -> "ZstdStore":
        """The first copy whose table of frames can be read; else the last, to say why not."""
        for copy in self._copies[:-1]:
            try:
                copy.size(key)
            except ArchiveError:
                continue
            return copy
        return self._copies[-1]

    def _frames_of(self, key: str, *, fresh: bool = False) -> Frames:
        known = None if fresh else self._frames.get(key)
        if known is None:
            known = self._read_frames(key, fresh=fresh)
            while len(self._frames) >= _KEPT:
                self._frames.pop(next(iter(self._frames)), None)
            self._frames[key] = known
        return known

    def _read_frames(self, key: str, *, fresh: bool) -> Frames:
        size = self.inner.size(key)
        foot = b"".join(self.inner.read(key, max(0, size - _FOOT.size), _FOOT.size, fresh=fresh))
        damaged = DamagedError(f"{key} does not end with a table of its frames")
        if len(foot) != _FOOT.size:
            raise damaged
        number, flags, magic = _FOOT.unpack(foot)
        length = _HEAD.size + number * _ENTRY.size + _FOOT.size
        if magic != _SEEKABLE or flags & _WITH_CHECKSUMS or not number or length > size:
            raise damaged
        table = b"".join(self.inner.read(key, size - length, length, fresh=fresh))
        entries = list(_ENTRY.iter_unpack(table[_HEAD.size : -_FOOT.size]))
        stored = tuple(accumulate((stored for stored, _ in entries), initial=0))
        starts = tuple(accumulate((plain for _, plain in entries), initial=0))
        is_whole = _HEAD.unpack(table[: _HEAD.size]) == (_SKIPPABLE, length - _HEAD.size)
        if not is_whole or stored[-1] != size - length or min(plain for _, plain in entries) == 0:
            raise damaged
        return Frames(size, stored, starts)


class ZstdDraft:
    """As `Draft`: what is written is compressed frame by frame."""

    def __init__(self, draft: Draft, level: int, copies: int) -> None:
        self._draft, self._copies = draft, copies
        self._compressor = zstandard.ZstdCompressor(level=level, write_checksum=True)
        self._held = bytearray()
        self._entries: list[tuple[int, int]] = []
        self._is_settled = False

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        self._held += data
        while len(self._held) >= FRAME_BYTES:
            self._frame(bytes(self._held[:FRAME_BYTES]))
            del self._held[:FRAME_BYTES]

    def read_back(self) -> tuple[None, ...]:
        """As `Draft.read_back`: what it becomes is in the table of frames, which is the last."""
        return (None,) * self._copies

    def settle(self) -> None:
        """As `Draft.settle`."""
        if self._is_settled:
            return
        if self._held:
            self._frame(bytes(self._held))
            self._held.clear()
        entries = b"".join(_ENTRY.pack(*entry) for entry in self._entries)
        foot = _FOOT.pack(len(self._entries), 0, _SEEKABLE)
        self._draft.write(_HEAD.pack(_SKIPPABLE, len(entries) + len(foot)) + entries + foot)
        self._draft.settle()
        self._is_settled = True

    def commit(self) -> None:
        """As `Draft.commit`."""
        self.settle()
        self._draft.commit()

    def abandon(self) -> None:
        """As `Draft.abandon`."""
        self._draft.abandon()

    def _frame(self, data: bytes) -> None:
        compressed = self._compressor.compress(data)
        self._entries.append((len(compressed), len(data)))
        self._draft.write(compressed)


def _decompressed(frame: bytes, size_bytes: int, name: str) -> bytes:
    """What a frame holds, which its own checksum confirms."""
    try:
        # Before memory is taken for what a damaged header says.
        if zstandard.frame_content_size(frame) != size_bytes:
            raise DamagedError(f"{name} is not as long as the table says")
        return zstandard.ZstdDecompressor().decompress(frame)
    except zstandard.ZstdError as error:
        raise DamagedError(f"{name} cannot be decompressed: {error}") from error
