"""What the tables say of files, and the writes that put, punch and stage make to them."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa
from sqlalchemy import orm

from tiering import arrays, models
from tiering.archive.entry import Extent
from tiering.archive.store import Place
from tiering.archive.writer import Placed
from tiering.kernel import Identity
from tiering.models import TierContainer


class Archived(NamedTuple):
    """A file with its current version and the place of a verified copy."""

    file_id: int
    version_id: int
    state: str
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    extents: tuple[Extent, ...] | None
    sha256: bytes
    key: str
    offset_bytes: int
    stored_bytes: int
    pinned_until: datetime | None
    is_locked: bool


class Member(NamedTuple):
    """A file that a container holds, as it was on disk when it was read."""

    identity: Identity
    placed: Placed
    ctime_ns: int


_ARCHIVED = sa.text(
    """
    SELECT cast(f.inode AS text), f.generation, f.id, v.id, f.state, v.size_bytes, v.mtime_ns,
        v.ctime_ns, v.extents, v.sha256, c.key, p.offset_bytes, p.stored_bytes, f.pinned_until,
        f.locked_by IS NOT NULL
    FROM tier_file f
    JOIN tier_version v ON v.id = f.version_id
    JOIN tier_copy p ON p.version_id = v.id
    JOIN tier_container c ON c.id = p.container_id AND c.state = 'verified'
    WHERE f.filesystem = :filesystem AND f.inode = ANY(cast(:inodes AS numeric[]))
    """
)


_BY_INDEX = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SET LOCAL join_collapse_limit = 1
"""


def _by_index(session: orm.Session) -> None:
    """Let the transaction look its rows up one by one, from table to table as joins are written.

    For a thousand of a hundred thousand, and of tables that it has no statistics of yet, PostgreSQL
    would read all: thirty times the work.
    """
    session.execute(sa.text(_BY_INDEX))


def archived(session: orm.Session, identities: Sequence[Identity]) -> dict[Identity, Archived]:
    """Those of the files, which are of one file system, that have a verified copy."""
    if not identities:
        return {}
    filesystem = identities[0].filesystem
    inodes = arrays.numbers(identity.inode for identity in identities)
    asked = {"filesystem": filesystem, "inodes": inodes}
    _by_index(session)
    found = session.execute(_ARCHIVED, asked).all()
    known: dict[Identity, Archived] = {}
    for inode, generation, *values in found:
        values[6:8] = _extents(values[6]), bytes(values[7])
        known[Identity(filesystem, int(inode), generation)] = Archived(*values)
    return {identity: known[identity] for identity in identities if identity in known}


_PLACED = sa.text(
    """
    SELECT cast(f.inode AS text), c.key, p.offset_bytes
    FROM tier_file f
    JOIN tier_copy p ON p.version_id = f.version_id
    JOIN tier_container c ON c.id = p.container_id
    WHERE f.filesystem = :filesystem AND f.inode = ANY(cast(:inodes AS numeric[]))
    """
)


def places(
    session: orm.Session, filesystem: str, inodes: Iterable[int]
) -> dict[int, tuple[str, int]]:
    """In which container, and where, the contents of files are, by inode number alone."""
    asked = {"filesystem": filesystem, "inodes": arrays.numbers(inodes)}
    _by_index(session)
    return {int(inode): (key, at) for inode, key, at in session.execute(_PLACED, asked)}


def begin_container(session: orm.Session, root: str, key: str) -> int:
    """Write down that a container is about to be written; its number."""
    container = TierContainer(root=root, key=key, state=models.WRITING)
    session.add(container)
    session.flush()
    return container.id


def record(
    session: orm.Session, root: str, container_id: int, size_bytes: int, members: Sequence[Member]
) -> None:
    """A container was read back: its members are on disk and in the archive from now on."""
    session.execute(
        sa.update(TierContainer)
        .where(TierContainer.id == container_id)
        .values(
            state=models.VERIFIED,
            size_bytes=size_bytes,
            files=len(members),
            verified_at=sa.func.now(),
        )
    )
    if not members:
        return
    ids = _file_ids(session, root, members)
    files = [ids[member.identity] for member in members]
    entries = [member.placed.entry for member in members]
    sparse = {at: json.dumps(e.extents) for at, e in enumerate(entries) if e.extents is not None}
    found = session.execute(
        sa.text(_VERSIONS),
        {
            "files": arrays.numbers(files),
            "sizes": arrays.numbers(entry.size_bytes for entry in entries),
            "mtimes": arrays.numbers(entry.mtime_ns for entry in entries),
            "ctimes": arrays.numbers(member.ctime_ns for member in members),
            "sums": arrays.strings(member.placed.sha256 for member in members),
            "adlers": arrays.numbers(member.placed.sums.adler32 for member in members),
            "crcs": arrays.numbers(member.placed.sums.crc32c for member in members),
            "sparse": [files[at] for at in sparse],
            "extents": list(sparse.values()),
        },
    )
    versions: dict[int, int] = {row.file_id: row.id for row in found}
    session.execute(
        sa.text(_COPIES),
        {
            "container": container_id,
            "versions": arrays.numbers(versions[file] for file in files),
            "offsets": arrays.numbers(member.placed.offset for member in members),
            "stored": arrays.numbers(entry.stored_bytes for entry in entries),
        },
    )
    session.execute(
        sa.text(_CURRENT),
        {"files": arrays.numbers(versions), "versions": arrays.numbers(versions.values())},
    )


_VERSIONS = """
INSERT INTO tier_version
    (file_id, size_bytes, mtime_ns, ctime_ns, extents, sha256, adler32, crc32c)
SELECT file_id, size_bytes, mtime_ns, ctime_ns, cast(extents AS jsonb), sha256, adler32, crc32c
FROM unnest(
    cast(:files AS bigint[]), cast(:sizes AS bigint[]), cast(:mtimes AS bigint[]),
    cast(:ctimes AS bigint[]), cast(:sums AS bytea[]),
    cast(:adlers AS bigint[]), cast(:crcs AS bigint[])
) AS given(file_id, size_bytes, mtime_ns, ctime_ns, sha256, adler32, crc32c)
LEFT JOIN unnest(cast(:sparse AS bigint[]), cast(:extents AS text[])) AS map(id, extents)
    ON map.id = file_id
RETURNING id, file_id
"""

_COPIES = """
INSERT INTO tier_copy (version_id, container_id, offset_bytes, stored_bytes)
SELECT version_id, :container, offset_bytes, stored_bytes
FROM unnest(
    cast(:versions AS bigint[]), cast(:offsets AS bigint[]), cast(:stored AS bigint[])
) AS given(version_id, offset_bytes, stored_bytes)
"""

_CURRENT = """
UPDATE tier_file SET version_id = given.version_id, state = 'B'
FROM unnest(cast(:files AS bigint[]), cast(:versions AS bigint[])) AS given(file_id, version_id)
WHERE tier_file.id = given.file_id
"""


def move(
    session: orm.Session,
    container_id: int,
    size_bytes: int,
    moved: Sequence[tuple[int, int, Placed]],
) -> None:
    """A container was read back that holds members of others: version, old container, new place.

    Versions that nobody needs any more are not moved.
    """
    session.execute(
        sa.text(_MOVE),
        {
            "container": container_id,
            "versions": [version for version, _, _ in moved],
            "old": [old for _, old, _ in moved],
            "offsets": [placed.offset for _, _, placed in moved],
        },
    )
    session.execute(
        sa.update(TierContainer)
        .where(TierContainer.id == container_id)
        .values(
            state=models.VERIFIED,
            size_bytes=size_bytes,
            files=len(moved),
            verified_at=sa.func.now(),
        )
    )


_MOVE = """
UPDATE tier_copy SET container_id = :container, offset_bytes = given.offset_bytes
FROM unnest(
    cast(:versions AS bigint[]), cast(:old AS bigint[]), cast(:offsets AS bigint[])
) AS given(version_id, old, offset_bytes)
WHERE tier_copy.version_id = given.version_id AND tier_copy.container_id = given.old
"""

_CTIMES = """
UPDATE tier_version SET ctime_ns = given.ctime_ns
FROM unnest(cast(:versions AS bigint[]), cast(:ctimes AS bigint[])) AS given(id, ctime_ns)
WHERE tier_version.id = given.id
"""


def set_state(session: orm.Session, file_ids: Collection[int], state: str) -> None:
    """Files have a new state."""
    if file_ids:
        _by_index(session)
        session.execute(
            sa.text("UPDATE tier_file SET state = :state WHERE id = ANY(cast(:ids AS bigint[]))"),
            {"state": state, "ids": arrays.numbers(file_ids)},
        )


def set_ctimes(session: orm.Session, ctimes_ns: Mapping[int, int]) -> None:
    """Versions, by number, are known to be on disk unchanged at these times of change."""
    if ctimes_ns:
        _by_index(session)
        session.execute(
            sa.text(_CTIMES),
            {
                "versions": arrays.numbers(ctimes_ns),
                "ctimes": arrays.numbers(ctimes_ns.values()),
            },
        )


_PLACES = """
UPDATE tier_container SET volume = given.volume, position = cast(given.position AS bigint[])
FROM unnest(
    cast(:keys AS text[]), cast(:volumes AS text[]), cast(:positions AS text[])
) AS given(key, volume, position)
WHERE tier_container.root = :root AND tier_container.key = given.key
    AND (tier_container.volume, tier_container.position)
        IS DISTINCT FROM (given.volume, cast(given.position AS bigint[]))
"""


def set_places(session: orm.Session, root: str, places: Mapping[str, Place]) -> None:
    """Containers, by key, are on these volumes now."""
    session.execute(
        sa.text(_PLACES),
        {
            "root": root,
            "keys": list(places),
            "volumes": [place.volume for place in places.values()],
            # Arrays of arrays would all have to be of one length.
            "positions": [
                "{" + ",".join(str(number) for number in place.position) + "}"
                for place in places.values()
            ],
        },
    )


_FILES = """
INSERT INTO tier_file (root, filesystem, inode, generation, path, uid, state)
SELECT :root, :filesystem, given.*, 'G' FROM unnest(
    cast(:inodes AS numeric[]), cast(:generations AS bigint[]), cast(:paths AS bytea[]),
    cast(:uids AS bigint[])
) AS given
ON CONFLICT (filesystem, inode, generation)
DO UPDATE SET root = :root, path = excluded.path, uid = excluded.uid, deleted_at = NULL
RETURNING id, cast(inode AS text), generation
"""


def _file_ids(session: orm.Session, root: str, members: Sequence[Member]) -> dict[Identity, int]:
    """The rows of files by identity, made where they are new."""
    filesystem = members[0].identity.filesystem
    found = session.execute(
        sa.text(_FILES),
        {
            "root": root,
            "filesystem": filesystem,
            "inodes": arrays.numbers(member.identity.inode for member in members),
            "generations": arrays.numbers(member.identity.generation for member in members),
            "paths": arrays.strings(member.placed.entry.path for member in members),
            "uids": arrays.numbers(member.placed.entry.uid for member in members),
        },
    )
    return {Identity(filesystem, int(inode), generation): id_ for id_, inode, generation in found}


def _extents(stored: list[list[int]] | None) -> tuple[Extent, ...] | None:
    return None if stored is None else tuple((start, length) for start, length in stored)
