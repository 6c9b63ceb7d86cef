"""Work on the bytes of large files beside reading and writing them: in a thread of its own.

Checksums and system calls of whole chunks let other threads run.
"""

import hashlib
import queue
import threading
import zlib
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from typing import Generic, NamedTuple, TypeVar

import google_crc32c

T = TypeVar("T")

_AHEAD = 8  # chunks that may wait


class Checksums(NamedTuple):
    """What is recorded of a payload: one against everything, two that other software asks for."""

    sha256: bytes
    adler32: int
    crc32c: int

    def note(self) -> dict[str, object]:
        """As in headers and lists: hexadecimal."""
        return {
            "sha256": self.sha256.hex(),
            "adler32": f"{self.adler32:08x}",
            "crc32c": f"{self.crc32c:08x}",
        }


def checksums(data: bytes) -> Checksums:
    """Those of a whole payload."""
    return Checksums(
        hashlib.sha256(data).digest(), zlib.adler32(data), int(google_crc32c.value(data))
    )


class Sums:
    """SHA-256, computed while the next chunks are read, and two that take less."""

    def __init__(self) -> None:
        self._chunks: queue.Queue[bytes | None] = queue.Queue(_AHEAD)
        self._digest, self._adler, self._crc = hashlib.sha256(), 1, 0
        self._thread = threading.Thread(target=self._work, name="sums", daemon=True)
        self._thread.start()

    def update(self, data: bytes) -> None:
        """Add a chunk."""
        self._chunks.put(data)
        self._adler = zlib.adler32(data, self._adler)
        self._crc = int(google_crc32c.extend(self._crc, data))

    def finish(self) -> Checksums:
        """Those of all chunks; also what ends the thread."""
        self._chunks.put(None)
        self._thread.join()
        return Checksums(self._digest.digest(), self._adler, self._crc)

    def _work(self) -> None:
        while (data := self._chunks.get()) is not None:
            self._digest.update(data)


class Work(Generic[T]):
    """Something that is computed in a thread of its own."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._done: Future[T] = Future()
        threading.Thread(target=self._run, args=(work,), name="aside", daemon=True).start()

    def result(self) -> T:
        """Wait for it. Raises what it raised."""
        return self._done.result()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._done.set_result(work())
        except BaseException as error:  # noqa: BLE001  it is raised where the result is asked for
            self._done.set_exception(error)


def read_ahead(chunks: Iterator[bytes]) -> Generator[bytes]:
    """The same chunks, some of which are read while an earlier one is worked on."""
    ready: queue.Queue[bytes | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def read() -> None:
        try:
            for data in chunks:
                if stop.is_set():
                    return
                ready.put(data)
            ready.put(None)
        except BaseException as error:  # noqa: BLE001  it is raised where the chunks are taken
            ready.put(error)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    thread = threading.Thread(target=read, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (got := ready.get()) is not None:
            if isinstance(got, BaseException):
                raise got
            yield got
    finally:
        stop.set()
        while thread.is_alive():
            # It may wait for room.
            try:
                ready.get(timeout=0.01)
            except queue.Empty:
                continue
