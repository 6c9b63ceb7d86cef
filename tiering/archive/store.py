"""What a store of containers can do, and the two ways in which it fails."""

from collections.abc import Iterator
from typing import Protocol

from datamgr.errors import UnavailableError

CHUNK_BYTES = 1 << 20


class ArchiveError(UnavailableError):
    """The archive cannot be written or read now; nothing says that its contents are wrong."""


class DamagedError(ArchiveError):
    """What the archive gave back is not what was written to it."""


class Draft(Protocol):
    """An object that is being written; it does not exist until `commit`."""

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            ArchiveError: the store is full or does not answer.
        """

    def commit(self) -> None:
        """Make the object exist under its key, so that it survives a power cut.

        Raises:
            ArchiveError: it could not be made sure.
        """

    def abandon(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""


class Store(Protocol):
    """A flat collection of objects that are written once; keys are ASCII without slashes."""

    def create(self, key: str) -> Draft:
        """Begin an object.

        Raises:
            ArchiveError: there is one of this key, or the store does not answer.
        """

    def read(self, key: str, offset: int, length: int) -> Iterator[bytes]:
        """The bytes of a range, past the caches where the store has some; fewer at the end.

        Raises:
            ArchiveError: there is no such object, or it cannot be read.
        """

    def size(self, key: str) -> int:
        """Bytes of an object.

        Raises:
            ArchiveError: there is none.
        """

    def delete(self, key: str) -> None:
        """Remove an object and what was left of an unfinished one; none is no error.

        Raises:
            ArchiveError: it cannot be removed.
        """

    def keys(self) -> Iterator[str]:
        """The keys of all objects, sorted."""
