"""A store that is a directory: a second disk, a mount of another host, a tape by LTFS."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tiering.archive.store import CHUNK_BYTES, ArchiveError

_UNFINISHED = ".tmp"


@dataclass(frozen=True)
class PosixStore:
    """One file an object, readable for the owner alone, renamed into place when complete."""

    folder: Path

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

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """As `Store.read`."""
        try:
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                # What comes from the page cache says nothing of the disk below.
                os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
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

    def _path(self, key: str) -> Path:
        return self.folder / key

    def _failed(self, action: str, key: str, error: OSError) -> ArchiveError:
        return ArchiveError(f"cannot {action} {key} in the archive {self.folder}: {error.strerror}")


class PosixDraft:
    """As `Draft`."""

    def __init__(self, store: PosixStore, key: str, descriptor: int) -> None:
        self._store, self._key, self._descriptor = store, key, descriptor
        self._is_open = True

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            raise self._store._failed("write", self._key, error) from error

    def commit(self) -> None:
        """As `Draft.commit`."""
        folder = self._store.folder
        try:
            os.fsync(self._descriptor)
            self._close()
            (folder / (self._key + _UNFINISHED)).rename(folder / self._key)
            _sync_directory(folder)
        except OSError as error:
            raise self._store._failed("complete", self._key, error) from error

    def abandon(self) -> None:
        """As `Draft.abandon`."""
        if self._is_open:
            self._close()
            # A store that went read-only or away keeps it; `delete` removes it later.
            with suppress(OSError):
                (self._store.folder / (self._key + _UNFINISHED)).unlink(missing_ok=True)

    def _close(self) -> None:
        self._is_open = False
        os.close(self._descriptor)


def _sync_directory(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
