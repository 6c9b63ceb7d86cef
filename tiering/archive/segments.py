"""A store that cuts what is too large for one object into several.

The first has the name of the whole, those behind it `.0001`, `.0002` and so on after that, so that
`cat NAME*` is the whole again. The first is committed last: what has its name is complete.
"""

import queue
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from tiering.archive.store import AbsentError, ArchiveError, Place, Store

UNIT_BYTES = 1 << 20  # what a segment that is followed by another has a multiple of

_LIMIT = 9999  # the names would not sort beyond it
_KEPT = 1024  # sizes of first segments
_CONTINUATION = re.compile(r".+\.\d{4}")


def name(key: str, number: int) -> str:
    """The object of a segment; number 0 is the first."""
    return f"{key}.{number:04}" if number else key


class SegmentedStore:
    """As `Store`, over one that has a single copy of each object.

    `segment_bytes`: of new segments, a multiple of `UNIT_BYTES`; those that are there tell their
    size themselves: all but the last are as long as the first.
    """

    def __init__(self, inner: Store, segment_bytes: int) -> None:
        self.inner, self.segment_bytes = inner, segment_bytes
        self._firsts: dict[str, int] = {}

    @property
    def copies(self) -> tuple[Store, ...]:
        """As `Store.copies`."""
        return (self,)

    def create(self, key: str) -> "SegmentedDraft":
        """As `Store.create`."""
        self._firsts.pop(key, None)
        return SegmentedDraft(self.inner, key, self.segment_bytes)

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """As `Store.read`; it ends before a segment that is missing."""
        first = self._first(key, fresh=fresh)
        if not _may_be_followed(first):
            yield from self.inner.read(key, offset, length, fresh=fresh)
            return
        number, offset = divmod(offset, first)
        while length > 0:
            wanted = got = min(length, first - offset)
            try:
                for data in self.inner.read(name(key, number), offset, wanted, fresh=fresh):
                    yield data
                    got -= len(data)
            except AbsentError:
                if number == 0:
                    raise
                return
            if got:
                return
            number, offset, length = number + 1, 0, length - wanted

    def size(self, key: str) -> int:
        """As `Store.size`: of the segments up to one that is missing or shorter."""
        first = total = last = self._first(key, fresh=True)
        number = 0
        while _may_be_followed(first) and last == first:
            number += 1
            try:
                last = self.inner.size(name(key, number))
            except AbsentError:
                break
            total += last
        return total

    def delete(self, key: str) -> None:
        """As `Store.delete`: the first goes first, so that no part is taken for the whole."""
        self._firsts.pop(key, None)
        self.inner.delete(key)
        number = 1
        with suppress(AbsentError):
            while self.inner.size(name(key, number)) >= 0:
                number += 1
        # From the end, so that one deletion that was cut off is found by the next. One more may
        # have been begun.
        for n in range(number, 0, -1):
            self.inner.delete(name(key, n))

    def keys(self) -> Iterator[str]:
        """As `Store.keys`."""
        return (key for key in self.inner.keys() if not _CONTINUATION.fullmatch(key))  # noqa: SIM118

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """As `Store.places`: where the first segment is."""
        return self.inner.places(keys)

    def _first(self, key: str, *, fresh: bool) -> int:
        """Bytes of the first segment."""
        known = None if fresh else self._firsts.get(key)
        if known is None:
            known = self.inner.size(key)
            while len(self._firsts) >= _KEPT:
                self._firsts.pop(next(iter(self._firsts)), None)
            self._firsts[key] = known
        return known


class SegmentedDraft:
    """As `Draft`. Only the first segment is kept uncommitted until the whole is complete."""

    def __init__(self, inner: Store, key: str, segment_bytes: int) -> None:
        self._inner, self._key, self._segment_bytes = inner, key, segment_bytes
        self._first = self._draft = inner.create(key)
        self._number, self._written = 0, 0  # of the segment that is being written
        self._is_settled = self._is_over = False
        self._back: queue.SimpleQueue[Iterator[bytes] | None] | None = None

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        rest = memoryview(data)
        while rest:
            if self._written == self._segment_bytes:
                self._go_on()
            part = rest[: self._segment_bytes - self._written]
            self._draft.write(data if len(part) == len(data) else bytes(part))
            rest, self._written = rest[len(part) :], self._written + len(part)

    def read_back(self) -> tuple[Iterator[bytes] | None]:
        """As `Draft.read_back`, of one segment after the other."""
        (chunks,) = self._draft.read_back()
        if chunks is None:
            return (None,)
        self._back = queue.SimpleQueue()
        self._back.put(chunks)
        return (_chained(self._back),)

    def settle(self) -> None:
        """As `Draft.settle`."""
        if self._is_settled:
            return
        self._end_segment()
        if _may_be_followed(self._written):
            # Of something of this name that was damaged, and is not to follow.
            self._inner.delete(name(self._key, self._number + 1))
        self._is_settled = True
        self._end_reading()

    def commit(self) -> None:
        """As `Draft.commit`."""
        self.settle()
        self._first.commit()
        self._is_over = True

    def abandon(self) -> None:
        """As `Draft.abandon`."""
        if self._is_over:
            return
        self._is_over = True
        self._draft.abandon()
        self._first.abandon()
        self._end_reading()
        # A store that went away keeps them; `delete` removes them later.
        with suppress(ArchiveError):
            for number in range(self._number, 0, -1):
                self._inner.delete(name(self._key, number))

    def _go_on(self) -> None:
        """Begin the next segment."""
        if self._number == _LIMIT:
            raise ArchiveError(
                f"{self._key} would have more than {_LIMIT + 1} segments; raise segment_bytes"
            )
        self._end_segment()
        following = name(self._key, self._number + 1)
        self._inner.delete(following)  # left of something that was never complete, or is damaged
        self._draft = self._inner.create(following)
        self._number, self._written = self._number + 1, 0
        if self._back is not None:
            self._back.put(self._draft.read_back()[0])

    def _end_segment(self) -> None:
        self._draft.settle()
        if self._draft is not self._first:
            self._draft.commit()

    def _end_reading(self) -> None:
        if self._back is not None:
            self._back.put(None)


def _may_be_followed(size_bytes: int) -> bool:
    """Whether a segment of this size may have another behind it, so that it is worth asking."""
    return size_bytes > 0 and size_bytes % UNIT_BYTES == 0


def _chained(parts: "queue.SimpleQueue[Iterator[bytes] | None]") -> Iterator[bytes]:
    while (chunks := parts.get()) is not None:
        yield from chunks
