"""Catching up with a file by its blocks."""

import os
from collections.abc import Iterable

from hdf5_tools.mirror import protocol, ranges
from hdf5_tools.mirror.catchup import CatchUp
from hdf5_tools.mirror.protocol import Kind
from hdf5_tools.mirror.ranges import BLOCK_BYTES
from hdf5_tools.mirror.session import Session


class BlockFollower(CatchUp):
    """Follows the bytes of a local file: one target, whose parts are its blocks."""

    def __init__(self, file: int) -> None:
        """`file`: a descriptor of the local file."""
        super().__init__()
        self._file = file
        self._buffer = bytearray(BLOCK_BYTES)
        self._end = self.extent()[0]

    def changed(
        self, kind: Kind, offset: int, payload: bytes | memoryview, *, was_sent: bool
    ) -> None:
        """An operation changed blocks."""
        blocks: Iterable[int]
        if kind == Kind.WRITE:
            end = ranges.blocks_of(offset + len(payload))
            blocks = range(offset // BLOCK_BYTES, end)
            self._end = max(self._end, end)
        elif kind == Kind.TRUNCATE:
            end = ranges.blocks_of(offset)
            # What is cut off is zeros, should the file grow over it again.
            cut = range(offset // BLOCK_BYTES, self._end)
            blocks = cut if end < self._end else {self._end - 1, end - 1} - {-1}
            self._end = end
        else:
            return
        self.touch(0, blocks)
        if not was_sent:
            self.mark(0, blocks)

    def extent(self) -> list[int]:
        """Of one target."""
        return [ranges.blocks_of(os.fstat(self._file).st_size)]

    def digest(self, target: int, part: int) -> bytes:
        """Of a block."""
        return ranges.digest(self._file, part, self._buffer)

    def read(self, target: int, part: int) -> memoryview:
        """A block; valid until the next one is read."""
        return ranges.read_block(self._file, part, self._buffer)

    def write(self, session: Session, target: int, part: int, data: bytes | memoryview) -> None:
        """As one operation."""
        session.ring.put(Kind.WRITE, part * BLOCK_BYTES, data)

    def room_bytes(self) -> int:
        """A block, and what comes at the end."""
        return BLOCK_BYTES + 4 * protocol.HEADER_BYTES

    def start(self, session: Session) -> None:
        """Nothing has to come before blocks."""

    def end(self, session: Session) -> None:
        """The size; and the commit, if nothing was written since the last one."""
        session.ring.put(Kind.TRUNCATE, os.fstat(self._file).st_size)
        if session.last_kind == Kind.COMMIT and not session.is_closing:
            session.ring.put(Kind.COMMIT, 0)

    def close(self, session: Session) -> int:
        """With the size."""
        return session.ring.put(Kind.CLOSE, os.fstat(self._file).st_size)
