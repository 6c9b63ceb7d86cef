"""Reads files as the disk has them, past the page cache, also while they are being written."""

import ctypes
import errno
import mmap
import os
import queue
from collections.abc import Iterator
from pathlib import Path

from tiering.archive.store import CHUNK_BYTES

_libc = ctypes.CDLL(None, use_errno=True)
# Source: sync_file_range(2).
_WAIT_BEFORE, _WRITE, _WAIT_AFTER = 1, 2, 4

_ALIGNED = 4096  # what direct reading may ask for: a multiple of any logical block


def start_write_back(descriptor: int, offset: int, length: int) -> None:
    """Let the kernel begin to write a range; nothing is promised, and failures show at fsync."""
    _sync_range(descriptor, offset, length, _WRITE)


def read(place: Path, offset: int, length: int) -> Iterator[bytes]:
    """The bytes of a range, fewer at the end of the file. What is not on disk yet is written first.

    Raises:
        OSError: it cannot be read.
    """
    descriptor = _open(place)
    try:
        yield from _read(descriptor, offset, length)
    finally:
        os.close(descriptor)


class Following:
    """Reads a file behind whoever writes it: iterate in another thread than the writer's.

    The writer says by `reached` up to where it has written, and by `end` that there is no more.
    """

    def __init__(self, place: Path) -> None:
        self._descriptor = _open(place)
        self._ends: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def reached(self, position: int) -> None:
        """The file is written up to here, and will not be changed before."""
        self._ends.put(position)

    def end(self) -> None:
        """Nothing follows what was reached; may be repeated."""
        self._ends.put(None)

    def __iter__(self) -> Iterator[bytes]:
        """Its bytes, in order. Raises OSError where it cannot be read."""
        position = 0
        try:
            while (end := self._ends.get()) is not None:
                for data in _read(self._descriptor, position, end - position):
                    position += len(data)
                    yield data
        finally:
            os.close(self._descriptor)


def _open(place: Path) -> int:
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(place, flags | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return os.open(place, flags)  # a file system without direct reading


def _read(descriptor: int, offset: int, length: int) -> Iterator[bytes]:
    # Also with O_DIRECT: some file systems take it and read through the cache all the same. Pages
    # that are not written yet would stay. A sync would do more: it empties the disk's own cache,
    # for which whoever writes behind this place had to wait.
    if not _sync_range(descriptor, offset, length, _WAIT_BEFORE | _WRITE | _WAIT_AFTER):
        os.fdatasync(descriptor)
    os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
    end = offset + length
    with mmap.mmap(-1, CHUNK_BYTES) as room, memoryview(room) as view:
        while offset < end:
            start = offset - offset % _ALIGNED
            wanted = min(-(-(end - start) // _ALIGNED) * _ALIGNED, CHUNK_BYTES)
            got = min(start + os.preadv(descriptor, [view[:wanted]], start), end)
            if got <= offset:
                return
            yield bytes(view[offset - start : got - start])
            offset = got


def _sync_range(descriptor: int, offset: int, length: int, flags: int) -> bool:
    """Write a range of the cache; whether that was done without failures."""
    arguments = (ctypes.c_int64(offset), ctypes.c_int64(length), flags)
    return int(_libc.sync_file_range(descriptor, *arguments)) == 0
