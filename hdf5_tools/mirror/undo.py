"""The journal that takes a replica back to its last commit, whatever killed whom in between.

Bytes behind the committed size are written at once: nothing refers to them. Committed pages are
copied here before they are overwritten, once each. It is for the end of processes, not of machines.
"""

import os
import struct
from dataclasses import dataclass

import xxhash

_PAGE = 4096
_RUN_PAGES = 256
# Magic, length of the name, session, generation, committed size; then the name and a checksum.
_HEAD = struct.Struct("<8sQ16sQQ")
_MAGIC = b"h5mundo1"
# As committed size: this replica is not taken back, but has its own ways to stay readable.
NEVER = (1 << 64) - 1
# Generation, offset, length, checksum of these and the bytes that follow.
_RECORD = struct.Struct("<QQQQ")


@dataclass(frozen=True)
class Head:
    """Whose journal it is. `size_bytes`: of the replica at its last commit."""

    name: bytes
    session: bytes
    generation: int
    size_bytes: int

    @property
    def is_started(self) -> bool:
        """Whether it is a stream that readers may have open, and which is not taken back."""
        return self.size_bytes == NEVER

    def pack(self) -> bytes:
        """As it stands at the beginning of the file."""
        fields = (len(self.name), self.session, self.generation, self.size_bytes)
        packed = _HEAD.pack(_MAGIC, *fields) + self.name
        return packed + xxhash.xxh3_64_digest(packed)


class Journal:
    """The journal of one replica, in an open file of its own, which is closed with it."""

    def __init__(
        self, journal: int, replica: int, name: bytes, session: bytes, size: int | None = None
    ) -> None:
        """Begin with a commit; see `commit` for `size`."""
        self._journal = journal
        self._replica = replica
        self.head = Head(name, session, 0, 0)
        self._saved: set[int] = set()
        self._end = 0
        self.commit(size)

    def before_write(self, begin: int, end: int) -> None:
        """Save what is committed of these bytes.

        Raises:
            OSError: it could not be saved; then nothing may be overwritten.
        """
        end = min(end, self.head.size_bytes)
        if begin >= end:
            return
        run: list[int] = []
        for page in range(begin // _PAGE, -(-end // _PAGE)):
            if page in self._saved:
                self._save(run)
                run = []
                continue
            run.append(page)
            if len(run) == _RUN_PAGES:
                self._save(run)
                run = []
        self._save(run)

    def commit(self, size: int | None = None) -> None:
        """From now on the way back leads here; `size`: 0 to nothing, NEVER nowhere."""
        old = self.head
        size = os.fstat(self._replica).st_size if size is None else size
        self.head = Head(old.name, old.session, old.generation + 1, size)
        packed = self.head.pack()
        # In one call and within a page; what stands behind it has become void by it.
        os.pwrite(self._journal, packed, 0)
        if self._end != len(packed):
            os.ftruncate(self._journal, len(packed))
        self._end = len(packed)
        self._saved.clear()

    def roll_back(self) -> None:
        """Take the replica back to the last commit."""
        undo(self._journal, self._replica)
        self.commit(NEVER if self.head.is_started else None)

    def close(self) -> None:
        """Close the file."""
        os.close(self._journal)

    def _save(self, pages: list[int]) -> None:
        if not pages:
            return
        begin = pages[0] * _PAGE
        length = min((pages[-1] + 1) * _PAGE, self.head.size_bytes) - begin
        kept = os.pread(self._replica, length, begin)
        fields = struct.pack("<QQQ", self.head.generation, begin, len(kept))
        checksum = xxhash.xxh3_64_intdigest(kept, xxhash.xxh3_64_intdigest(fields))
        record = fields + checksum.to_bytes(8, "little") + kept
        write_all(self._journal, record, self._end)
        self._end += len(record)
        self._saved.update(pages)


def read_head(journal: int) -> Head | None:
    """What a journal is about; None if it ends before it says so."""
    packed = os.pread(journal, _HEAD.size, 0)
    if len(packed) < _HEAD.size:
        return None
    magic, length, session, generation, size = _HEAD.unpack(packed)
    name = os.pread(journal, length, _HEAD.size) if magic == _MAGIC and length < _PAGE else b""
    head = Head(name, session, generation, size)
    whole = os.pread(journal, len(head.pack()), 0) == head.pack()
    return head if name and whole else None


def undo(journal: int, replica: int) -> None:
    """Put back what a journal has saved. May be repeated."""
    head = read_head(journal)
    if head is None or head.is_started:
        return
    at = len(head.pack())
    while len(record := os.pread(journal, _RECORD.size, at)) == _RECORD.size:
        generation, begin, length, wanted = _RECORD.unpack(record)
        if generation != head.generation:
            break
        kept = os.pread(journal, length, at + _RECORD.size)
        seed = xxhash.xxh3_64_intdigest(record[:-8])
        if len(kept) < length or xxhash.xxh3_64_intdigest(kept, seed) != wanted:
            break  # the process ended while it saved this, and so overwrote nothing of it
        write_all(replica, kept, begin)
        at += _RECORD.size + length
    os.ftruncate(replica, head.size_bytes)


def write_all(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """Write every byte.

    Raises:
        OSError: not all could be written.
    """
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count
