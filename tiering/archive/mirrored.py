"""A store that keeps each object in several others, so that the loss of one loses nothing."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from tiering.archive.store import ArchiveError, Draft, Place, Store


@dataclass(frozen=True)
class MirroredStore:
    """Everything that is written is written to all `copies`; the first that has it is read."""

    copies: tuple[Store, ...]

    def create(self, key: str) -> "MirroredDraft":
        """As `Store.create`."""
        drafts: list[Draft] = []
        try:
            for copy in self.copies:
                drafts.append(copy.create(key))
        except ArchiveError:
            _abandon(drafts)
            raise
        return MirroredDraft(tuple(drafts))

    def read(self, key: str, offset: int, length: int, *, fresh: bool = False) -> Iterator[bytes]:
        """As `Store.read`, of the first copy that is there."""
        copy = self._first(lambda copy: copy.size(key))
        return copy.read(key, offset, length, fresh=fresh)

    def size(self, key: str) -> int:
        """As `Store.size`, of the shortest copy; one that is missing is an error."""
        return min(copy.size(key) for copy in self.copies)

    def delete(self, key: str) -> None:
        """As `Store.delete`."""
        for copy in self.copies:
            copy.delete(key)

    def keys(self) -> Iterator[str]:
        """As `Store.keys`: of what any copy has."""
        return iter(sorted({key for copy in self.copies for key in copy.keys()}))  # noqa: SIM118

    def places(self, keys: Collection[str]) -> Mapping[str, Place]:
        """As `Store.places`: of the first copy, which is what is read unless it is damaged."""
        return self.copies[0].places(keys)

    def _first(self, ask: Callable[[Store], object]) -> Store:
        *others, last = self.copies
        for copy in others:
            try:
                ask(copy)
            except ArchiveError:
                continue
            return copy
        return last


@dataclass(frozen=True)
class MirroredDraft:
    """As `Draft`."""

    drafts: tuple[Draft, ...]

    def write(self, data: bytes) -> None:
        """As `Draft.write`."""
        for draft in self.drafts:
            draft.write(data)

    def read_back(self) -> tuple[Iterator[bytes] | None, ...]:
        """As `Draft.read_back`."""
        return tuple(chunks for draft in self.drafts for chunks in draft.read_back())

    def settle(self) -> None:
        """As `Draft.settle`."""
        for draft in self.drafts:
            draft.settle()

    def commit(self) -> None:
        """As `Draft.commit`: when each copy is as good as there."""
        self.settle()
        for draft in self.drafts:
            draft.commit()

    def abandon(self) -> None:
        """As `Draft.abandon`."""
        _abandon(self.drafts)


def _abandon(drafts: "tuple[Draft, ...] | list[Draft]") -> None:
    for draft in drafts:
        draft.abandon()
