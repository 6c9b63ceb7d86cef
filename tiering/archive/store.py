"""What a store of containers can do, and the ways in which it fails."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from datamgr.errors import UnavailableError

CHUNK_BYTES = 1 << 20


class ArchiveError(UnavailableError):
    """The archive cannot be written or read now; nothing says that its contents are wrong."""


class AbsentError(ArchiveError):
    """The archive answers, and has nothing of that name."""


class DamagedError(ArchiveError):
    """What the archive gave back is not what was written to it."""


@dataclass(frozen=True, order=True)
class Place:
    """Where a store has an object, in the order in which it is best read.

    `volume` is what has to be mounted; `position` on it is one number or several that count up, as
    a tape mark and the bytes after it.
    """

    volume: str
    position: tuple[int, ...]


class Draft(Protocol):
    """An object that is being written; it does not exist until `commit`."""

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            ArchiveError: the store is full or does not answer.
        """

    def read_back(self) -> "tuple[Iterator[bytes] | None, ...]":
        """What is going to be written, as the media of the copies give it back, for other threads.

        To be asked for before the first `write`. It ends with `settle` or `abandon`. None for a
        copy that can be read only when it is complete.

        Raises:
            ArchiveError: it cannot be read; also while it is read.
        """

    def settle(self) -> None:
        """Nothing more is written: make what was durable, as far as can be before it exists.

        Raises:
            ArchiveError: it could not be made sure.
        """

    def commit(self) -> None:
        """Settle, and make the object exist under its key, so that it survives a power cut.

        Raises:
            ArchiveError: it could not be made sure.
        """

    def abandon(self) -> None:
        """Leave nothing behind; does nothing after `commit`."""


class Store(Protocol):
    """A flat collection of objects that are written once; keys are ASCII without slashes.

    `copies`: the stores that each have every object; most have but themselves.
    """

    @property
    def copies(self) -> "tuple[Store, ...]":
        """All that are to have an object, in the order in which they are asked."""

    def create(self, key: str) -> Draft:
        """Begin an object.

        Raises:
            ArchiveError: there is one of this key, or the store does not answer.
        """

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """The bytes of a range, fewer at the end; `fresh`: as the medium has them, past all caches.

        Raises:
            AbsentError: there is no such object.
            ArchiveError: it cannot be read.
        """

    def size(self, key: str) -> int:
        """Bytes of an object.

        Raises:
            AbsentError: there is none.
            ArchiveError: the store does not answer.
        """

    def delete(self, key: str) -> None:
        """Remove an object and what was left of an unfinished one; none is no error.

        Raises:
            ArchiveError: it cannot be removed.
        """

    def keys(self) -> Iterator[str]:
        """The keys of all objects, sorted."""

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """Where objects are, as far as order matters and the store knows it; on disks nothing is.

        Raises:
            ArchiveError: it cannot be asked.
        """
