"""Reads the archive again at leisure: every container is still what was written."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa

from datamgr.errors import DatamgrError
from tiering import models
from tiering.archive import reader
from tiering.archive.store import DamagedError, Store
from tiering.models import TierContainer, TierCopy, TierFile, TierVersion
from tiering.root import ManagedRoot

_SETTINGS = ("archive", "second")  # of the copies of a store, in their order


@dataclass(frozen=True)
class Damage:
    """A container that is not what it should be, and the files that have a copy in it.

    `copy`: in which archive, by the name of its setting, `archive` or `second`.
    """

    key: str
    copy: str
    reason: str
    paths: list[bytes]
    repaired: bool = False


@dataclass
class Scrubbed:
    """What was read."""

    containers: int = 0
    bytes: int = 0


def scrub(
    root: ManagedRoot,
    scrubbed: Scrubbed,
    *,
    older_than: timedelta = timedelta(0),
    bytes_per_s: int | None = None,
    repair: bool = False,
    watch: Callable[[], None] = lambda: None,
) -> Iterator[Damage]:
    """Read containers that were not read for some time, those of longest ago first.

    Gives those that are damaged.

    `bytes_per_s`: at most, so that other work on the archive goes on. `repair`: write a copy that
    is damaged or missing again, from a good one.
    """
    with root.database.transaction(read_only=True) as session:
        due = session.execute(
            sa.select(TierContainer.id, TierContainer.key, TierContainer.size_bytes)
            .where(
                TierContainer.root == root.name,
                TierContainer.state == models.VERIFIED,
                TierContainer.verified_at <= sa.func.now() - older_than,
            )
            .order_by(TierContainer.verified_at)
        ).all()
    for number, key, size_bytes in due:
        began = time.monotonic()
        good, bad = [], []
        for name, copy in zip(_SETTINGS, root.store.copies, strict=False):
            try:
                _compare(root, copy, number, key)
                good.append(copy)
            except DatamgrError as error:
                bad.append((name, copy, str(error)))
        if bad and _is_gone(root, number):
            continue  # freed meanwhile
        for name, copy, reason in bad:
            repaired = repair and bool(good) and _repaired(root, good[0], copy, number, key)
            yield Damage(key, name, reason, _paths(root, number), repaired)
        if not bad:
            with root.database.transaction() as session:
                session.execute(
                    sa.update(TierContainer)
                    .where(TierContainer.id == number)
                    .values(verified_at=sa.func.now())
                )
        scrubbed.containers += 1
        scrubbed.bytes += size_bytes or 0
        watch()
        if bytes_per_s:
            time.sleep(max(0, (size_bytes or 0) / bytes_per_s - (time.monotonic() - began)))


def _is_gone(root: ManagedRoot, number: int) -> bool:
    with root.database.transaction(read_only=True) as session:
        return session.get(TierContainer, number) is None


def _repaired(root: ManagedRoot, good: Store, bad: Store, number: int, key: str) -> bool:
    """Write a copy again from a good one, and compare it; whether that went well."""
    try:
        bad.delete(key)
        draft = bad.create(key)
        try:
            for data in good.read(key, 0, good.size(key)):
                draft.write(data)
            draft.commit()
        finally:
            draft.abandon()
        _compare(root, bad, number, key)
    except DatamgrError:
        return False
    return True


def _compare(root: ManagedRoot, copy: Store, container: int, key: str) -> None:
    """Be sure that a container has the copies that the tables speak of.

    Raises:
        DamagedError: it has not.
        ArchiveError: it cannot be read.
    """
    with root.database.transaction(read_only=True) as session:
        found = session.execute(
            sa.select(TierCopy.offset_bytes, TierVersion.sha256)
            .join(TierVersion, TierVersion.id == TierCopy.version_id)
            .where(TierCopy.container_id == container)
        )
        expected = {row.offset_bytes: row.sha256 for row in found}
    # A member also carries its own checksum, which reading compares.
    for member in reader.members(copy, key):
        if expected.pop(member.offset, member.sha256) != member.sha256:
            raise DamagedError(f"the container {key} is damaged: a checksum is wrong")
    if expected:
        raise DamagedError(f"the container {key} is damaged: {len(expected)} members are missing")


def _paths(root: ManagedRoot, container: int) -> list[bytes]:
    with root.database.transaction(read_only=True) as session:
        return list(
            session.scalars(
                sa.select(TierFile.path)
                .join(TierVersion, TierVersion.id == TierFile.version_id)
                .join(TierCopy, TierCopy.version_id == TierVersion.id)
                .where(TierCopy.container_id == container)
                .order_by(TierFile.path)
            )
        )
