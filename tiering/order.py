"""In which order files are best read from the archive: a volume at a time, from its front."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice

import sqlalchemy as sa

from tiering import rows
from tiering.archive.store import ArchiveError, Place
from tiering.models import VERIFIED, TierContainer
from tiering.root import ManagedRoot

Wanted = tuple[str, int, bytes]  # container, offset of the payload in it, path

_NOWHERE = Place("", ())
_BATCH = 1000


def sort(root: ManagedRoot, portions: Iterable[list[Wanted]]) -> Iterator[bytes]:
    """The paths by volume and position of their containers, then by their offset in those.

    What is on no volume comes first, sorted by portion: nobody need mount anything for it, nor wait
    for the last file of a million before the first is read from a disk. It is a hint, so that a
    store that does not answer now does no harm.
    """
    places: dict[str, Place] = {}
    asked: set[str] = set()
    on_volumes: list[Wanted] = []
    for portion in portions:
        new = {key for key, _, _ in portion} - asked
        asked |= new
        places |= refresh(root, new)
        on_volumes += (one for one in portion if one[0] in places)
        yield from (path for _, _, path in sorted(one for one in portion if one[0] not in places))
    on_volumes.sort(key=lambda one: (places[one[0]], *one))
    yield from (path for _, _, path in on_volumes)


def containers(root: ManagedRoot, keys: Collection[str]) -> list[str]:
    """Containers in the order in which they are best read."""
    places = refresh(root, keys)
    return sorted(keys, key=lambda key: (places.get(key, _NOWHERE), key))


def refresh(root: ManagedRoot, keys: Collection[str]) -> Mapping[str, Place]:
    """Ask the store where containers are, and write down for `ghi ls` what it says."""
    left = iter(sorted(keys))
    found: dict[str, Place] = {}
    while batch := list(islice(left, _BATCH)):
        try:
            places = root.store.places(batch)
        except ArchiveError:
            return found
        if places:
            with root.database.transaction() as session:
                rows.set_places(session, root.name, places)
        found |= places
    return found


def refresh_all(root: ManagedRoot) -> None:
    """Do that for all containers: what lay on a disk before its tapes may have been moved."""
    with root.database.transaction(read_only=True) as session:
        keys = session.scalars(
            sa.select(TierContainer.key).where(
                TierContainer.root == root.name, TierContainer.state == VERIFIED
            )
        ).all()
    refresh(root, keys)
