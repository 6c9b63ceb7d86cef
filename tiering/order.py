"""In which order files are best read from the archive: a volume at a time, from its front."""

from collections.abc import Collection, Iterable, Mapping
from itertools import islice

import sqlalchemy as sa

from tiering import rows
from tiering.archive.store import ArchiveError, Place
from tiering.models import VERIFIED, TierContainer
from tiering.root import ManagedRoot

Wanted = tuple[str, int, bytes]  # container, offset of the payload in it, path

_NOWHERE = Place("", ())
_BATCH = 1000


def sort(root: ManagedRoot, wanted: Iterable[Wanted]) -> list[bytes]:
    """The paths by volume and position of their containers, then by their offset in those.

    What is on no volume comes first: nobody need mount anything for it. It is a hint, so that a
    store that does not answer now does no harm.
    """
    known = list(wanted)
    places = refresh(root, {key for key, _, _ in known})
    known.sort(key=lambda one: (places.get(one[0], _NOWHERE), *one))
    return [path for _, _, path in known]


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
