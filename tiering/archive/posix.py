"""A store that is a directory: a second disk, a mount of another host, a tape by LTFS."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tiering.archive import uncached
from tiering.archive.store import CHUNK_BYTES, AbsentError, ArchiveError, Place, Store
from tiering.archive.uncached import Following

_UNFINISHED = ".tmp"
_WRITE_BACK_BYTES = 32 << 20


@dataclass(frozen=True)
class PosixStore:
    """One file an object, readable for the owner alone, renamed into place when complete."""

    folder: Path

    @property
    def copies(self) -> tuple[Store, ...]:
        """As `Store.copies`."""
        return (self,)

    def create(self, key: str) -> "PosixDraft":
        """As `Store.create`."""
        try:
            if self._path(key).exists():
                raise ArchiveError(f"the archive {self.folder} has an object {key} already")
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.folder / (key + _UNFINISHED), flags, 0o600)
        except OSError as error:
            raise self._failed("write", key, error) from error
        return PosixDraft(self, key, descriptor)

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """As `Store.read`."""
        try:
            if fresh:
                yield from uncached.read(self._path(key), offset, length)
                return
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                while length > 0:
                    data = os.pread(descriptor, min(length, CHUNK_BYTES), offset)
                    if not data:
                        return
                    yield data
                    offset, length = offset + len(data), length - len(data)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._failed("read", key, error) from error

    def size(self, key: str) -> int:
        """As `Store.size`."""
        try:
            return self._path(key).stat(follow_symlinks=False).st_size
        except OSError as error:
            raise self._failed("find", key, error) from error

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        try:
            for name in (key + _UNFINISHED, key):
                (self.folder / name).unlink(missing_ok=True)
            _sync_directory(self.folder)
        except OSError as error:
            raise self._failed("delete", key, error) from error

    def keys(self) -> Iterator[str]:
        """As `Store.keys`."""
        try:
            names = sorted(os.listdir(self.folder))
        except OSError as error:
            raise ArchiveError(
                f"the archive {self.folder} cannot be listed: {error.strerror}"
            ) from error
        return (name for name in names if not name.endswith(_UNFINISHED))

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """As `Store.places`: disks read in any order."""
        return {}

    def _path(self, key: str) -> Path:
        return self.folder / key

    def _failed(self, action: str, key: str, error: OSError) -> ArchiveError:
        kind = AbsentError if isinstance(error, FileNotFoundError) else ArchiveError
        return kind(f"cannot {action} {key} in the archive {self.folder}: {error.strerror}")


class PosixDraft:
    """As `Draft`."""

    def __init__(self, store: PosixStore, key: str, descriptor: int) -> None:
        self._store, self._key, self._descriptor = store, key, descriptor
        self._is_open, self._is_committed = True, False
        self._written = self._on_its_way = 0
        self._following: Following | None = None

    def read_back(self) -> tuple[Iterator[bytes]]:
        """As `Draft.read_back`."""
        try:
            self._following = Following(self._store.folder / (self._key + _UNFINISHED))
        except OSError as error:
            raise self._store._failed("read", self._key, error) from error
        return (self._read_back(self._following),)

    def _read_back(self, following: Following) -> Iterator[bytes]:
        try:
            yield from following
        except OSError as error:
            raise self._store._failed("read", self._key, error) from error

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        rest = memoryview(data)
        try:
            while rest:
                number = os.write(self._descriptor, rest)
                rest, self._written = rest[number:], self._written + number
            if self._written - self._on_its_way >= _WRITE_BACK_BYTES:
                # So that the disk is not idle until the last byte, and fsync does not take long.
                start, self._on_its_way = self._on_its_way, self._written
                uncached.start_write_back(self._descriptor, start, self._written - start)
                if self._following is not None:
                    self._following.reached(self._written - self._written % CHUNK_BYTES)
        except OSError as error:
            raise self._store._failed("write", self._key, error) from error

    def settle(self) -> None:
        """As `Draft.settle`."""
        if not self._is_open:
            return
        try:
            os.fsync(self._descriptor)
            if self._following is not None:
                self._following.reached(self._written)
            self._close()
        except OSError as error:
            raise self._store._failed("complete", self._key, error) from error

    def commit(self) -> None:
        """As `Draft.commit`."""
        self.settle()
        folder = self._store.folder
        try:
            (folder / (self._key + _UNFINISHED)).rename(folder / self._key)
            self._is_committed = True
            _sync_directory(folder)
        except OSError as error:
            raise self._store._failed("complete", self._key, error) from error

    def abandon(self) -> None:
        """As `Draft.abandon`."""
        if self._is_open:
            self._close()
        if not self._is_committed:
            self._is_committed = True
            # A store that went read-only or away keeps it; `delete` removes it later.
            with suppress(OSError):
                (self._store.folder / (self._key + _UNFINISHED)).unlink(missing_ok=True)

    def _close(self) -> None:
        self._is_open = False
        if self._following is not None:
            self._following.end()
        os.close(self._descriptor)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
